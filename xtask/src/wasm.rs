//! The compiler for `wasm32-unknown-unknown`: core has to build for the browser, always.
//!
//! Two ways lead there. rustup adds the target to the toolchain that is pinned in
//! `rust-toolchain.toml`. Where rustup is missing or cannot download, Debian's own compiler does
//! it: it brings the standard library as source, which cargo then builds (`-Z build-std`, allowed
//! on a stable compiler by `RUSTC_BOOTSTRAP`), and lld links. The Debian cargo must not see the
//! outer one's variables, or it would run the outer compiler. `CORACLE_WASM=debian` takes that way
//! where the other one works too.
//!
//! What is published is built for size: with a standard library made for it, without the places and
//! texts of panics. That takes the library's source, which rustup has as a component; where it
//! cannot be had, the site is larger and the same.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::{paths, run, setup};

/// The target every command here is about.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// The standard library from its source, and how it is made small.
const BUILD_STD: [&str; 2] = ["-Z", "build-std=std,panic_abort"];
const SMALL_STD: [&str; 2] = ["-Z", "build-std-features=optimize_for_size"];
/// A panic traps its instance at once, which the page shows as the crash that it is. Its text is
/// had from a build for work on the page, in which a saved experiment runs the same way. Of places
/// in the source only the file stays: by it a node's runtime knows openraft's draws for elections.
/// What only `Debug` would print is left out: nobody reads it there.
const SMALL_CODE: &str = "-Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=file \
                          -Zfmt-debug=none";
const RUSTFLAGS: &str = "CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS";

const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "lld-19"];
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "wasm-ld-19";

/// A toolchain that can compile for wasm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    Rustup,
    Debian,
}

/// Finds a toolchain, installing one if there is none.
pub(crate) fn ensure() -> Result<Toolchain> {
    let wants_debian = env::var_os("CORACLE_WASM").is_some_and(|name| name == "debian");
    if !wants_debian && rustup_has_target() {
        println!("    rustup has the target {TARGET}");
        return Ok(Toolchain::Rustup);
    }
    if debian_is_complete() {
        println!("    Debian's rustc-web is installed");
        return Ok(Toolchain::Debian);
    }
    let rustup = match wants_debian {
        true => Err(anyhow!("CORACLE_WASM is `debian`")),
        false => rustup_adds(&["target", "add", TARGET]),
    };
    match rustup {
        Ok(()) => Ok(Toolchain::Rustup),
        Err(error) => {
            println!("    {error:#}; taking Debian's compiler instead");
            setup::apt(&DEBIAN_PACKAGES).with_context(|| {
                format!("no compiler for {TARGET}: rustup cannot add it, and apt cannot either")
            })?;
            Ok(Toolchain::Debian)
        }
    }
}

fn rustup_adds(arguments: &[&str]) -> Result<()> {
    run::run_within(
        Command::new("rustup").current_dir(paths::root()).args(arguments),
        Duration::from_secs(180),
    )
}

/// Whether rustup's toolchain has the source of its standard library, now at least.
fn rustup_has_source() -> bool {
    let mut sysroot = Command::new("rustc");
    sysroot.current_dir(paths::root()).args(["--print", "sysroot"]);
    let Ok(sysroot) = run::capture(&mut sysroot) else { return false };
    let source = Path::new(&sysroot).join("lib/rustlib/src/rust/library/std/Cargo.toml");
    if source.exists() {
        return true;
    }
    match rustup_adds(&["component", "add", "rust-src"]) {
        Ok(()) => true,
        Err(error) => {
            println!("    {error:#}; the site gets a larger standard library instead");
            false
        }
    }
}

fn rustup_has_target() -> bool {
    let mut list = Command::new("rustup");
    list.current_dir(paths::root()).args(["target", "list", "--installed"]);
    run::capture(&mut list).is_ok_and(|targets| targets.lines().any(|line| line.trim() == TARGET))
}

fn debian_is_complete() -> bool {
    let source = Path::new("/usr/lib/rustlib/src/rust/library/std/Cargo.toml");
    let alternative = Path::new("/usr/share/rustlib-src/library/std/Cargo.toml");
    paths::is_program(Path::new(DEBIAN_CARGO))
        && paths::is_program(Path::new(DEBIAN_RUSTC))
        && paths::program(DEBIAN_LINKER).is_some()
        && (source.exists() || alternative.exists())
}

impl Toolchain {
    /// Where its cargo builds: another compiler's output would push ours out of a shared folder.
    pub(crate) fn target(self) -> PathBuf {
        match self {
            Toolchain::Rustup => paths::target(),
            Toolchain::Debian => paths::target().join("wasm"),
        }
    }

    /// `cargo SUBCOMMAND --target wasm32-unknown-unknown`, ready for more arguments.
    pub(crate) fn cargo(self, subcommand: &str) -> Command {
        match self {
            Toolchain::Rustup => {
                let mut command = run::cargo();
                command.args([subcommand, "--target", TARGET]);
                command
            }
            Toolchain::Debian => {
                let mut command = Command::new(DEBIAN_CARGO);
                command.current_dir(paths::root());
                for (name, _) in env::vars_os() {
                    let text = name.to_string_lossy();
                    // The outer cargo and rustup leave their compiler, its libraries and their
                    // notes on this package behind; the registry's settings must stay.
                    let leftover = text.starts_with("CARGO_PKG_")
                        || text.starts_with("CARGO_MANIFEST_")
                        || text.starts_with("RUST");
                    if leftover || text == "CARGO" || text == "LD_LIBRARY_PATH" {
                        command.env_remove(&name);
                    }
                }
                command
                    .env("RUSTC", DEBIAN_RUSTC)
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", DEBIAN_LINKER)
                    .env("CARGO_TARGET_DIR", self.target())
                    .args([subcommand, "--target", TARGET])
                    .args(BUILD_STD);
                command
            }
        }
    }

    /// The same for what is published: small first.
    pub(crate) fn cargo_for_size(self, subcommand: &str) -> Command {
        let mut command = self.cargo(subcommand);
        if self == Toolchain::Rustup {
            if !rustup_has_source() {
                return command;
            }
            command.env("RUSTC_BOOTSTRAP", "1").args(BUILD_STD);
        }
        command.args(SMALL_STD).env(RUSTFLAGS, SMALL_CODE);
        command
    }
}
