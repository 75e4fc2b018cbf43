// Starts the laboratory, or says in one sentence why it cannot. Page and workers run the same
// program, which comes in two parts and is compiled once.
import { unpack } from "./unpack.js";

const problem = (sentence) => {
  const place = document.getElementById("problem") ?? document.body;
  place.textContent = sentence;
  place.hidden = false;
};

const part = async (name) => {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`there is no ${name}`);
  return new Uint8Array(await response.arrayBuffer());
};

// Neither is a module, but by this ending a server knows that it pays to compress them.
const program = async () => {
  const parts = ["coracle-opcodes.wasm", "coracle-operands.wasm"].map(part);
  return WebAssembly.compile(unpack(...(await Promise.all(parts))));
};

const parsed = new Promise((resolve) => {
  if (document.readyState === "loading") addEventListener("DOMContentLoaded", resolve);
  else resolve();
});

// The conductor's worker begins before the page, which takes it over (web/src/client.rs) together
// with what it has said until then. Without a worker there is a page that says why.
const engine = () => {
  const early = [];
  try {
    const worker = new Worker("worker.js", { type: "module", name: "conductor" });
    worker.onmessage = ({ data }) => early.push(data);
    // A script that cannot be run, as where workers are no modules, says nothing.
    worker.onerror = ({ message }) => early.push(message ?? "its script does not run");
    return { worker, early };
  } catch (error) {
    return { early: [String(error)] };
  }
};

const start = async () => {
  window.engine = engine();
  const glue = import("./coracle.js");
  const module = await program();
  window.engine.worker?.postMessage(module);
  const { default: init } = await glue;
  await parsed;
  await init({ module_or_path: module });
};

if (typeof WebAssembly !== "object") {
  parsed.then(() =>
    problem(
      "This page runs a database in your browser, which takes WebAssembly: this browser has none " +
        "or has it switched off. The server and its documentation work without.",
    ),
  );
} else {
  start().catch((error) =>
    parsed.then(() => problem(`The page does not start: ${error}. A reload may help.`)),
  );
}
