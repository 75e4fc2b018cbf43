// Every Web Worker of the laboratory starts here. The first message is the compiled node.wasm,
// which takes all further ones itself; the worker's name says what it is.
import { initSync } from "./node.js";

onmessage = ({ data }) => {
  onmessage = null;
  initSync({ module: data });
};
