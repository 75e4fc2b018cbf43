// Every Web Worker of the laboratory starts here. The first message is the compiled program,
// which takes all further ones itself; the worker's name says what it is.
import { initSync } from "./coracle.js";

// What nobody caught ends this worker's part: a message of text tells its maker.
onerror = (error) => {
  postMessage(String(error));
  return true;
};
onunhandledrejection = (event) => {
  postMessage(String(event.reason));
  event.preventDefault();
};

onmessage = ({ data }) => {
  onmessage = null;
  initSync({ module: data });
};
