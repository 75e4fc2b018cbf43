// Makes a WebAssembly module of the two parts in which it travels. A compressor finds more where
// like stands by like, so the opcodes of all functions are one part, and the other has
//
//   bytes of the module, number of functions, bytes before the first one, bytes of each stream
//   (numbers in LEB128); what is before the first function; the streams; what is after the last
//
// with the operands of each kind of opcode in a stream of their own. Sizes of functions are not
// sent. (xtask/pack.mjs makes the parts; WebAssembly's core specification, chapter 5, has the
// format of instructions.)

const [BLOCK, IF, END, BR, BR_IF, BR_TABLE] = [0x02, 0x04, 0x0b, 0x0c, 0x0d, 0x0e];
const [CALL, CALL_INDIRECT, TYPED_SELECT, LOCAL_GET, TABLE_SET] = [0x10, 0x11, 0x1c, 0x20, 0x26];
const [FIRST_LOAD, FIRST_STORE, LAST_STORE] = [0x28, 0x36, 0x3e];
const [I32_CONST, I64_CONST, F32_CONST, F64_CONST] = [0x41, 0x42, 0x43, 0x44];
const [REF_NULL, REF_FUNC, EXTENDED] = [0xd0, 0xd2, 0xfc];

// Streams that are no opcode's; a constant's is that of the opcode which takes it.
export const LOCALS = 0x100;
export const ALIGNMENTS = 0x101;
const I32_FOR = 0x200;
const I64_FOR = 0x300;
export const STREAMS = 0x400;

/** By how much `opcode` changes the depth of blocks. */
export const nesting = (opcode) =>
  opcode >= BLOCK && opcode <= IF ? 1 : opcode === END ? -1 : 0;

/** Whether `opcode` has an alignment before its other operand. */
export const isMemoryAccess = (opcode) => opcode >= FIRST_LOAD && opcode <= LAST_STORE;

/** The stream of the operands of `opcode`, when `next` follows it. */
export const streamOf = (opcode, next) => {
  if (opcode === I32_CONST) return I32_FOR + next;
  if (opcode === I64_CONST) return I64_FOR + next;
  if (opcode === BR_IF) return BR;
  if (isMemoryAccess(opcode)) return opcode < FIRST_STORE ? FIRST_LOAD : FIRST_STORE;
  return opcode;
};

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

const MISFIT = "its parts are of two builds";

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
  let at = 0;
  let opcode;
  const locals = () => {
    for (let n = number(); n > 0; n--) {
      number();
      bytes(1);
    }
  };
  const rest = () => walkOperands(opcode, number, bytes);
  for (let n = functions; n > 0; n--) {
    const start = to;
    from(LOCALS, locals);
    for (let depth = 1; depth > 0; depth += nesting(opcode)) {
      if (at >= opcodes.length) throw new Error(MISFIT);
      opcode = module[to++] = opcodes[at++];
      if (isMemoryAccess(opcode)) from(ALIGNMENTS, number);
      from(streamOf(opcode, opcodes[at]), rest);
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
