// Starts the page, or says in one sentence why it cannot.
const problem = (sentence) => {
  const place = document.getElementById("problem") ?? document.body;
  place.textContent = sentence;
  place.hidden = false;
};

if (typeof WebAssembly !== "object") {
  problem(
    "This page runs a database in your browser, which takes WebAssembly: this browser has none " +
      "or has it switched off. The server and its documentation work without.",
  );
} else {
  import("./page.js")
    .then(({ default: init }) => init({ module_or_path: new URL("page.wasm", import.meta.url) }))
    .catch((error) => problem(`The page does not start: ${error}. A reload may help.`));
}
