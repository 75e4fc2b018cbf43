// node pack.mjs MODULE OPCODES OPERANDS: divides a WebAssembly module into the two files of which
// www/unpack.js makes it again, and sees that it does.
import { readFileSync, writeFileSync } from "node:fs";

// As text, since Node would take a `.js` for a script of the old kind.
const source = readFileSync(new URL("../www/unpack.js", import.meta.url));
const unpacker = await import(`data:text/javascript;base64,${source.toString("base64")}`);
const { ALIGNMENTS, Foresight, I32_CONST, LOCALS, STREAMS } = unpacker;
const { isForetold, isMemoryAccess, nesting, signed, unpack, walkOperands } = unpacker;

const PREAMBLE = 8; // "\0asm" and the version
const CODE_SECTION = 10;

const leb = (value) =>
  value >>> 0 < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)];

const pack = (module) => {
  let at = PREAMBLE;
  const number = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = module[at++];
      value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const bytes = (n) => {
    at += n;
  };
  while (at < module.length && module[at] !== CODE_SECTION) {
    at++;
    bytes(number());
  }
  if (at >= module.length) throw new Error("it has no code");
  at++;
  number();
  const functions = number();
  const before = module.subarray(0, at);

  const opcodes = [];
  const streams = Array.from({ length: STREAMS }, () => []);
  const send = (stream, bytes) => bytes.forEach((byte) => streams[stream].push(byte));
  const instruction = () => {
    const opcode = module[at++];
    const alignment = at;
    if (isMemoryAccess(opcode)) number();
    const start = at;
    let value;
    walkOperands(opcode, () => (value = number()), bytes);
    if (opcode === I32_CONST) value = signed(value, at - start);
    return { opcode, alignment, start, end: at, value };
  };
  for (let left = functions; left > 0; left--) {
    const end = number() + at;
    const start = at;
    for (let n = number(); n > 0; n--) {
      number();
      bytes(1);
    }
    send(LOCALS, module.subarray(start, at));
    const instructions = [];
    for (let depth = 1; depth > 0; depth += nesting(instructions.at(-1).opcode)) {
      instructions.push(instruction());
    }
    if (at !== end) throw new Error(`a function should end at ${end}, not ${at}`);
    const first = opcodes.length;
    instructions.forEach(({ opcode }) => opcodes.push(opcode));
    const foresight = new Foresight(opcodes);
    instructions.forEach(({ opcode, alignment, start, end, value }, index) => {
      const place = first + index;
      send(ALIGNMENTS, module.subarray(alignment, start));
      const operand = isForetold(opcode)
        ? leb(foresight.encode(place, value))
        : module.subarray(start, end);
      send(foresight.streamOf(place), operand);
      foresight.note(place, value);
    });
  }
  const numbers = [module.length, functions, before.length, ...streams.map(({ length }) => length)];
  const parts = [numbers.flatMap(leb), before, ...streams, module.subarray(at)];
  return [Uint8Array.from(opcodes), Buffer.concat(parts.map((part) => Uint8Array.from(part)))];
};

const [path, ...targets] = process.argv.slice(2);
const module = readFileSync(path);
const parts = pack(module);
if (!module.equals(unpack(...parts))) throw new Error(`${path} is another one when unpacked`);
targets.forEach((target, index) => writeFileSync(target, parts[index]));
