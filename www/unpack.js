// Makes a WebAssembly module of the two parts in which it travels. A compressor finds more where
// like stands by like, so the opcodes of all functions are one part, and the other has
//
//   bytes of the module, number of functions, bytes before the first one, bytes of each stream
//   (numbers in LEB128); what is before the first function; the streams; what is after the last
//
// with the operands of each kind of opcode in a stream of their own. Where an operand can nearly be
// foretold (see `Foresight`), what is sent is how it differs; sizes of functions are not sent.
// (xtask/pack.mjs makes the parts; WebAssembly's core specification, chapter 5, has the format of
// instructions.)

const [BLOCK, IF, END, BR, BR_IF, BR_TABLE] = [0x02, 0x04, 0x0b, 0x0c, 0x0d, 0x0e];
const [CALL, CALL_INDIRECT, DROP, TYPED_SELECT] = [0x10, 0x11, 0x1a, 0x1c];
const [LOCAL_GET, LOCAL_SET, LOCAL_TEE] = [0x20, 0x21, 0x22];
const [GLOBAL_GET, GLOBAL_SET, TABLE_SET] = [0x23, 0x24, 0x26];
const [FIRST_LOAD, FIRST_STORE, LAST_STORE] = [0x28, 0x36, 0x3e];
export const I32_CONST = 0x41;
const [I64_CONST, F32_CONST, F64_CONST] = [0x42, 0x43, 0x44];
const [I32_ADD, I32_SUB] = [0x6a, 0x6b];
const [REF_NULL, REF_FUNC, EXTENDED] = [0xd0, 0xd2, 0xfc];

/** As many as browsers allow a function. */
const LOCALS_MAX = 50_000;
const MISFIT = "its parts are of two builds";

// Streams that are no opcode's; a constant's is that of the opcode which takes it.
export const LOCALS = 0x100;
export const ALIGNMENTS = 0x101;
const [LOADS, STORES, SUMS] = [0x110, 0x120, 0x130];
const I32_FOR = 0x200;
const I64_FOR = 0x300;
export const STREAMS = 0x400;

// To what an operand is added, as an addition to these: the frame pointer, another local, the rest.
const [FRAME, LOCAL, OTHER] = [0, 1, 2];

/** By how much `opcode` changes the depth of blocks. */
export const nesting = (opcode) =>
  opcode >= BLOCK && opcode <= IF ? 1 : opcode === END ? -1 : 0;

/** Whether `opcode` has an alignment before its other operand. */
export const isMemoryAccess = (opcode) => opcode >= FIRST_LOAD && opcode <= LAST_STORE;

/** Whether the one operand of `opcode` is sent as `Foresight` encodes it. */
export const isForetold = (opcode) => opcode === LOCAL_GET || isMemoryAccess(opcode);

/** The number that is `value` without a sign, in `length` bytes of LEB128. */
export const signed = (value, length) => {
  const unused = Math.max(32 - 7 * length, 0);
  return (value << unused) >> unused;
};

const isStore = (opcode) => opcode >= FIRST_STORE && opcode <= LAST_STORE;
const isLocal = (opcode) => opcode >= LOCAL_GET && opcode <= LOCAL_TEE;

/** Whether nothing is left on the stack behind `opcode`, mostly: the next one begins an address. */
const endsStatement = (opcode) =>
  opcode <= CALL_INDIRECT || opcode === DROP || opcode === LOCAL_SET || opcode === GLOBAL_SET ||
  isStore(opcode);

// Numbers of either sign as such without: 0, -1, 1, -2, …
const zigzag = (value) => (value << 1) ^ (value >> 31);
const unzigzag = (value) => (value >>> 1) ^ -(value & 1);

/**
 * What a function has done so far, by which packer and unpacker foretell operands alike:
 *
 * - a local that is read is the one that was used last, or the one before: its place in that order
 *   is sent;
 * - the offset of a load is near that of the last one by the same local, and that of a store in the
 *   frame near that of the last one: the difference is sent;
 * - offsets in the frame are unlike others: they have streams of their own.
 */
export class Foresight {
  constructor(opcodes) {
    this.opcodes = opcodes;
    this.recent = []; // locals, the last used one first; others follow in their order
    this.named = -1; // the last local that was used
    this.frame = undefined; // the local that is the frame pointer
    this.address = -1; // the local with which this statement began
    this.begins = true; // whether a statement begins here
    this.offsets = new Map(); // the last offset by each local
    this.stored = 0; // the last offset of a store in the frame
  }

  /** Whether at `at` is a constant that is added to something. */
  isSum(at) {
    return this.opcodes[at] === I32_CONST && this.opcodes[at + 1] === I32_ADD;
  }

  /** The local to which the opcode at `at` adds its operand; -1 is none. */
  base(at) {
    if (isStore(this.opcodes[at])) return this.address;
    const before = this.opcodes[at - 1];
    return before === LOCAL_GET || before === LOCAL_TEE ? this.named : -1;
  }

  /** The stream of the operands of the opcode at `at`. */
  streamOf(at) {
    const opcode = this.opcodes[at];
    const next = this.opcodes[at + 1];
    if (isMemoryAccess(opcode) || this.isSum(at)) {
      const base = this.base(at);
      const streams = isStore(opcode) ? STORES : isMemoryAccess(opcode) ? LOADS : SUMS;
      return streams + (base < 0 ? OTHER : base === this.frame ? FRAME : LOCAL);
    }
    if (opcode === I32_CONST) return I32_FOR + next;
    if (opcode === I64_CONST) return I64_FOR + next;
    return opcode === BR_IF ? BR : opcode;
  }

  /** The number that the operand of the memory access at `at` is near to; undefined is none. */
  expected(at) {
    const base = this.base(at);
    if (base < 0) return undefined;
    if (!isStore(this.opcodes[at])) return this.offsets.get(base) ?? 0;
    return base === this.frame ? this.stored : undefined;
  }

  /** What is sent for the operand `value` of the opcode at `at`. */
  encode(at, value) {
    if (this.opcodes[at] === LOCAL_GET) return this.know(value).indexOf(value);
    const near = this.expected(at);
    return near === undefined ? value : zigzag(value - near);
  }

  /** The operand of the opcode at `at` for which `sent` is sent. */
  decode(at, sent) {
    if (this.opcodes[at] === LOCAL_GET) return this.know(sent)[sent];
    const near = this.expected(at);
    return near === undefined ? sent : unzigzag(sent) + near;
  }

  /** Takes note of the opcode at `at` and of its operand, if it has one. */
  note(at, value) {
    const opcode = this.opcodes[at];
    if (isLocal(opcode)) {
      // What was set, and left on no stack, is not read at once.
      this.use(value, opcode === LOCAL_SET ? 1 : 0);
      this.named = value;
      const isDifference = this.opcodes[at - 1] === I32_SUB && opcode !== LOCAL_GET;
      if (isDifference && this.opcodes[at - 3] === GLOBAL_GET) this.frame = value;
    } else if (isStore(opcode)) {
      if (this.address === this.frame) this.stored = value;
    } else if (isMemoryAccess(opcode) || this.isSum(at)) {
      this.offsets.set(this.base(at), value);
    }
    if (endsStatement(opcode)) {
      this.address = -1;
      this.begins = true;
    } else if (this.begins) {
      this.address = isLocal(opcode) ? value : -1;
      this.begins = false;
    }
  }

  /** Moves `local` to `place` in the order of use. */
  use(local, place) {
    const recent = this.know(Math.max(local, place));
    let at = recent.indexOf(local);
    for (; at > place; at--) recent[at] = recent[at - 1];
    for (; at < place; at++) recent[at] = recent[at + 1];
    recent[place] = local;
  }

  /** The order of use, with all locals up to `local` in it. */
  know(local) {
    if (local > LOCALS_MAX) throw new Error(MISFIT);
    for (let next = this.recent.length; next <= local; next++) this.recent.push(next);
    return this.recent;
  }
}

/** Whether one number, and nothing else, follows `opcode`. */
const hasNumber = (opcode) =>
  (opcode >= BLOCK && opcode <= IF) || opcode === BR || opcode === BR_IF || opcode === CALL ||
  (opcode >= LOCAL_GET && opcode <= TABLE_SET) || (opcode >= FIRST_LOAD && opcode <= I64_CONST) ||
  opcode === REF_NULL || opcode === REF_FUNC;

/** How many numbers follow each extended opcode: memory, tables, segments. */
const EXTENDED_NUMBERS = [0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 2, 1, 2, 1, 2, 1, 1, 1];

/**
 * Walks over the operands of `opcode` (but an alignment). `number()` passes one number and returns
 * its value, `bytes(n)` passes bytes.
 */
export const walkOperands = (opcode, number, bytes) => {
  if (hasNumber(opcode)) number();
  else if (opcode === EXTENDED) for (let n = EXTENDED_NUMBERS[number()]; n > 0; n--) number();
  else if (opcode === BR_TABLE) for (let n = number(); n >= 0; n--) number();
  else if (opcode === CALL_INDIRECT) for (let n = 2; n > 0; n--) number();
  else if (opcode === TYPED_SELECT) bytes(number());
  else if (opcode === F32_CONST) bytes(4);
  else if (opcode === F64_CONST) bytes(8);
};

/** The module, of its parts; all are `Uint8Array`s. Fails if one of them is of another build. */
export const unpack = (opcodes, operands) => {
  let module = new Uint8Array(8); // the numbers of the header go nowhere
  let to = 0;
  let cursor = 0;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = (module[to++] = operands[cursor++]);
      value |= (byte & 0x7f) << shift;
      if (!(byte >= 0x80)) return value; // also when there is no byte
    }
  };
  const bytes = (n) => {
    for (; n > 0; n--) module[to++] = operands[cursor++];
  };
  const put = (value) => {
    for (; value >>> 0 >= 0x80; value >>>= 7) module[to++] = (value & 0x7f) | 0x80;
    module[to++] = value;
  };
  const header = () => {
    to = 0;
    return number();
  };
  const length = header();
  const functions = header();
  const before = header();
  const lengths = Array.from({ length: STREAMS }, header);

  module = new Uint8Array(length);
  to = 0;
  bytes(before);
  const cursors = [];
  for (const length of lengths) {
    cursors.push(cursor);
    cursor += length;
  }
  const after = cursor;
  const from = (stream, walk) => {
    cursor = cursors[stream];
    walk();
    cursors[stream] = cursor;
  };
  const locals = () => {
    for (let n = number(); n > 0; n--) {
      number();
      bytes(1);
    }
  };
  let at = 0;
  let foresight;
  let value;
  const operand = () => {
    const start = to;
    const opcode = opcodes[at];
    if (isForetold(opcode)) {
      const sent = number();
      to = start;
      value = foresight.decode(at, sent);
      put(value);
    } else {
      walkOperands(opcode, () => (value = number()), bytes);
      if (opcode === I32_CONST) value = signed(value, to - start);
    }
  };
  for (let n = functions; n > 0; n--) {
    const start = to;
    foresight = new Foresight(opcodes);
    from(LOCALS, locals);
    for (let depth = 1; depth > 0; depth += nesting(opcodes[at++])) {
      if (at >= opcodes.length) throw new Error(MISFIT);
      const opcode = (module[to++] = opcodes[at]);
      if (isMemoryAccess(opcode)) from(ALIGNMENTS, number);
      from(foresight.streamOf(at), operand);
      foresight.note(at, value);
    }
    to = putSize(module, start, to);
  }
  cursor = after;
  bytes(length - to);
  if (at !== opcodes.length || cursor !== operands.length) throw new Error(MISFIT);
  return module;
};

/** Puts the size of what is between `start` and `end` before it; returns its end now. */
const putSize = (module, start, end) => {
  const size = [];
  for (let left = end - start; ; left >>>= 7) {
    if (left < 0x80) {
      size.push(left);
      break;
    }
    size.push((left & 0x7f) | 0x80);
  }
  module.copyWithin(start + size.length, start, end);
  module.set(size, start);
  return end + size.length;
};
