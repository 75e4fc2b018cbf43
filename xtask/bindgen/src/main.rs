//! Makes compiled wasm loadable by a browser: `coracle-bindgen INPUT.wasm FOLDER NAME` writes
//! `NAME.js` and `NAME_bg.wasm`.
//!
//! This is wasm-bindgen's own command line in one page. As a dependency it is pinned beside the
//! library it must match, and nothing has to be installed.

use std::env;
use std::path::Path;

use anyhow::{Context, Result, bail};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, folder, name] = arguments.as_slice() else {
        bail!("usage: coracle-bindgen INPUT.wasm FOLDER NAME");
    };
    Bindgen::new()
        .input_path(input)
        .web(true)?
        .typescript(false)
        // The caller says where the module is, since the files are renamed.
        .omit_default_module_path(true)
        .remove_producers_section(true)
        .out_name(name)
        .generate(Path::new(folder))
        .with_context(|| format!("{input} cannot be made loadable"))
}
