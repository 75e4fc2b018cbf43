//! Makes compiled wasm loadable by a browser: `coracle-bindgen INPUT.wasm FOLDER NAME` writes
//! `NAME.js` and `NAME_bg.wasm`.
//!
//! This is wasm-bindgen's own command line in one page. As a dependency it is pinned beside the
//! library it must match, and nothing has to be installed. Its names for what module and glue take
//! from each other are long and end in digits that no compressor makes smaller: they become short.

use std::collections::HashMap;
use std::path::Path;
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use wasm_bindgen_cli_support::{Bindgen, Output};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [input, folder, name] = arguments.as_slice() else {
        bail!("usage: coracle-bindgen INPUT.wasm FOLDER NAME");
    };
    let folder = Path::new(folder);
    let mut output = Bindgen::new()
        .input_path(input)
        .web(true)?
        .typescript(false)
        // The caller says where the module is, since the files are renamed.
        .omit_default_module_path(true)
        .remove_producers_section(true)
        .out_name(name)
        .generate_output()
        .with_context(|| format!("{input} cannot be made loadable"))?;
    let names = Names::shorten(&mut output);
    output.emit(folder)?;
    let glue = folder.join(format!("{name}.js"));
    fs::write(&glue, names.put_into(&fs::read_to_string(&glue)?)?)?;
    Ok(())
}

/// The short names, by the long ones.
struct Names {
    imports: HashMap<String, String>,
    exports: HashMap<String, String>,
}

impl Names {
    /// Gives the module short names.
    fn shorten(output: &mut Output) -> Names {
        let module = output.wasm_mut();
        let (mut imports, mut exports) = (HashMap::new(), HashMap::new());
        for import in module.imports.iter_mut() {
            let short = format!("i{}", imports.len());
            imports.insert(std::mem::replace(&mut import.name, short.clone()), short);
        }
        for export in module.exports.iter_mut() {
            let short = format!("e{}", exports.len());
            exports.insert(std::mem::replace(&mut export.name, short.clone()), short);
        }
        Names { imports, exports }
    }

    /// The glue with the short names: imports are the properties `NAME: function` of an object,
    /// exports those of `wasm`.
    fn put_into(&self, glue: &str) -> Result<String> {
        let mut short = String::with_capacity(glue.len());
        let mut imported = 0;
        let mut rest = glue;
        while let Some(start) = rest.find(is_of_name) {
            let length = rest[start..].find(|c| !is_of_name(c)).unwrap_or(rest.len() - start);
            let (before, name) = (&rest[..start], &rest[start..start + length]);
            let after = &rest[start + length..];
            let import = self.imports.get(name).filter(|_| after.starts_with(": function"));
            imported += usize::from(import.is_some());
            short.push_str(before);
            let export = self.exports.get(name).filter(|_| short.ends_with("wasm."));
            short.push_str(import.or(export).map_or(name, String::as_str));
            rest = after;
        }
        short.push_str(rest);
        ensure!(imported == self.imports.len(), "the glue has other imports than the module");
        Ok(short)
    }
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$'
}
