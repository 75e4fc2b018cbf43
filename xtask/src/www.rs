//! `cargo xtask www`: page and workers, built into `www/dist`, a folder that any web server can
//! host: relative addresses only, and no special headers.
//!
//! cargo compiles the program for wasm, wasm-bindgen writes the glue that loads it, `wasm-opt`
//! makes it small, `pack.mjs` divides it into parts that compress better, and the static files of
//! `www` go beside them, without what only their readers need. What is newer than everything it is
//! made from is kept. `--dev` skips what makes things small and takes its time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::browser::Visit;
use crate::run::{capture, cargo, run};
use crate::{paths, setup, site, wasm};

/// The program of page and workers: its package, and the name of its files in the site.
const PACKAGE: &str = "coracle-web";
const NAME: &str = "coracle";

/// Bytes in brotli that a visitor may have to download.
const TRANSFER_MAX: u64 = 600_000;

/// The style sheet that imports the others.
const STYLE: &str = "style.css";

/// The folder of `www` that is built.
const DIST: &str = "dist";

/// The parts of the program, as `boot.js` calls them.
const PARTS: [&str; 2] = ["opcodes", "operands"];

/// What rustc's output uses already, and every browser with module workers and OPFS has.
const WASM_FEATURES: [&str; 7] = [
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-call-indirect-overlong",
];

/// How `wasm-opt` makes the module small. In the order of their names, functions that were made for
/// several types stand together, and with no promises about alignment they are more alike: a
/// compressor likes both. The first kilobyte of memory is the end of the stack, where no object is,
/// so an address and its offset may be joined. Inlining more, or going over the module again until
/// nothing changes (`--converge`), gains nothing that is left when compressed.
/// (`--ignore-implicit-traps` is of no use: it has memory read before the check whether that may
/// be.)
const SHRINKING: [&str; 5] = [
    "-Oz",
    "--one-caller-inline-max-function-size=10",
    "--low-memory-unused",
    "--reorder-functions-by-name",
    "--dealign",
];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build in a fraction of the time, three times as large: for work on the page.
    #[arg(long)]
    dev: bool,
    /// Serve the site on this port of 127.0.0.1 until Ctrl-C.
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "8080")]
    serve: Option<u16>,
    /// Run the browser tests on it: those whose names match the pattern, or all.
    #[arg(long, value_name = "PATTERN", num_args = 0..=1, default_missing_value = "")]
    test: Option<String>,
}

pub(crate) fn www(options: &Options) -> Result<()> {
    let dist = build(options.dev)?;
    if !options.dev {
        print_sizes(&dist)?;
    }
    println!("    the site is in {}", paths::shown(&dist));
    if let Some(pattern) = &options.test {
        let pattern = Some(pattern.as_str()).filter(|pattern| !pattern.is_empty());
        Visit::prepare(&dist)?.test(pattern)?;
    }
    if let Some(port) = options.serve {
        let address = site::serve(&dist, port)?;
        println!("\nhttp://{address}/ until Ctrl-C");
        loop {
            std::thread::park();
        }
    }
    Ok(())
}

/// Builds the site, or what of it is older than its sources; returns its folder.
pub(crate) fn build(dev: bool) -> Result<PathBuf> {
    let profile = if dev { "web-dev" } else { "web" };
    let toolchain = wasm::ensure()?;
    let mut command =
        if dev { toolchain.cargo("build") } else { toolchain.cargo_for_size("build") };
    run(command.args(["--profile", profile, "-p", PACKAGE]))?;
    let compiled = toolchain.target().join(wasm::TARGET).join(profile);
    let work = paths::target().join("www").join(profile);
    let dist = paths::root().join("www").join(DIST);
    fs::create_dir_all(&work)?;
    let input = compiled.join(format!("{PACKAGE}.wasm"));
    let (glue, module) = bind(&input, &work)?;
    let module = if dev { module } else { shrink(&module, &work)? };
    let mut files = static_files()?;
    files.push((glue, PathBuf::from(format!("{NAME}.js"))));
    let mut files = if dev { files } else { minified(files, &work)? };
    for part in pack(&module, &work)? {
        let name = part.file_name().context("a part of the program has no name")?;
        files.push((part.clone(), PathBuf::from(name)));
    }
    publish(&files, &dist)?;
    Ok(dist)
}

/// Writes the glue for the compiled program; returns its path and that of the module it loads.
fn bind(input: &Path, work: &Path) -> Result<(PathBuf, PathBuf)> {
    let glue = work.join(format!("{NAME}.js"));
    let module = work.join(format!("{NAME}_bg.wasm"));
    if !is_newer(&module, input)? {
        let mut command = cargo();
        command.args(["run", "--quiet", "-p", "coracle-bindgen", "--"]);
        run(command.arg(input).arg(work).arg(NAME))?;
    }
    Ok((glue, module))
}

/// The module as small as `wasm-opt` can make it.
fn shrink(module: &Path, work: &Path) -> Result<PathBuf> {
    let small = work.join(format!("{NAME}.small.wasm"));
    if !is_newer(&small, module)? {
        let program = setup::wasm_opt()?;
        let mut command = Command::new("node");
        command.arg(program).args(WASM_FEATURES).args(SHRINKING);
        run(command.arg(module).arg("-o").arg(&small))?;
    }
    Ok(small)
}

/// The two parts in which the module travels; `www/unpack.js` joins them.
fn pack(module: &Path, work: &Path) -> Result<[PathBuf; 2]> {
    let parts = PARTS.map(|part| work.join(format!("{NAME}-{part}.wasm")));
    let script = paths::root().join("xtask/pack.mjs");
    run(Command::new("node").arg(script).arg(module).args(&parts))?;
    Ok(parts)
}

/// Whether `output` exists and was written after `input`.
fn is_newer(output: &Path, input: &Path) -> Result<bool> {
    let written = fs::metadata(input)
        .and_then(|input| input.modified())
        .with_context(|| format!("{} is missing", input.display()))?;
    Ok(fs::metadata(output).and_then(|output| output.modified()).is_ok_and(|time| time > written))
}

/// The files of `www` that are served as they are, each with its place in the site.
fn static_files() -> Result<Vec<(PathBuf, PathBuf)>> {
    let www = paths::root().join("www");
    let places = files_below(&www, Path::new(DIST))?;
    Ok(places.into_iter().map(|place| (www.join(&place), place)).collect())
}

/// The same site with small scripts and with all styles in one.
fn minified(files: Vec<(PathBuf, PathBuf)>, work: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    let program = setup::esbuild()?;
    let mut small = Vec::new();
    for (from, place) in files {
        let is = |extension: &str| place.extension().is_some_and(|found| found == extension);
        let is_part_of_style = is("css") && place != Path::new(STYLE);
        if is_part_of_style {
            continue;
        }
        if !is("js") && !is("css") {
            small.push((from, place));
            continue;
        }
        let to = work.join("minified").join(&place);
        let mut command = Command::new(&program);
        command.args(["--minify", "--log-level=warning"]);
        if is("css") {
            command.arg("--bundle");
        }
        run(command.arg(&from).arg(format!("--outfile={}", to.display())))?;
        small.push((to, place));
    }
    Ok(small)
}

/// The paths of all files below `root` but those in its folder `except`.
fn files_below(root: &Path, except: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let place = folder.join(entry.file_name());
            if entry.file_type()?.is_file() {
                files.push(place);
            } else if place != except {
                folders.push(place);
            }
        }
    }
    Ok(files)
}

/// Makes `dist` hold exactly these files. What a server is serving meanwhile stays where it is.
fn publish(files: &[(PathBuf, PathBuf)], dist: &Path) -> Result<()> {
    for (from, place) in files {
        let to = dist.join(place);
        if let Some(folder) = to.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::copy(from, &to)
            .with_context(|| format!("cannot copy {} to {}", from.display(), to.display()))?;
    }
    for place in files_below(dist, Path::new(""))? {
        if !files.iter().any(|(_, wanted)| *wanted == place) {
            fs::remove_file(dist.join(place))?;
        }
    }
    Ok(())
}

/// Fails if a visitor has to download more than [`TRANSFER_MAX`].
pub(crate) fn check_size(dist: &Path) -> Result<()> {
    let transfer = print_sizes(dist)?;
    ensure!(
        transfer <= TRANSFER_MAX,
        "a visitor downloads {transfer} bytes, more than the {TRANSFER_MAX} that we allow ourselves"
    );
    Ok(())
}

/// Prints what a visitor downloads: each file as it is, and as a server that compresses sends it.
/// Returns the sum of the latter.
fn print_sizes(dist: &Path) -> Result<u64> {
    println!("\n    {:>9}  {:>9}  file", "raw", "brotli");
    let mut total = (0, 0);
    for (name, raw, brotli) in sizes(dist)? {
        println!("    {raw:>9}  {brotli:>9}  {name}");
        total = (total.0 + raw, total.1 + brotli);
    }
    println!("    {:>9}  {:>9}  in all\n", total.0, total.1);
    Ok(total.1)
}

/// Name, bytes, and bytes in brotli of each file of the site.
pub(crate) fn sizes(dist: &Path) -> Result<Vec<(String, u64, u64)>> {
    // Node's library compresses, since Node is here for wasm-opt.
    let script = "
        const { readFileSync, readdirSync, statSync } = require('fs');
        const { brotliCompressSync } = require('zlib');
        process.chdir(process.argv[1]);
        for (const name of readdirSync('.', { recursive: true }).sort()) {
            if (!statSync(name).isFile()) continue;
            const bytes = readFileSync(name);
            console.log(bytes.length, brotliCompressSync(bytes).length, name);
        }";
    let lines = capture(Command::new("node").args(["-e", script]).arg(dist))?;
    lines
        .lines()
        .map(|line| {
            let parts: Vec<&str> = line.splitn(3, ' ').collect();
            ensure!(parts.len() == 3, "node printed `{line}`");
            Ok((parts[2].to_owned(), parts[0].parse()?, parts[1].parse()?))
        })
        .collect()
}
