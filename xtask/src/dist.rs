//! `cargo xtask dist`: what is handed to an operator, in `target/dist`.
//!
//! | path | is |
//! |---|---|
//! | `root/usr/local/bin/coracle` | the static binary, with links by etcd's names |
//! | `root/tmp` | an empty folder for everybody |
//! | `Dockerfile` | an image of `root/` and nothing else |
//! | `coracle.service`, `kubernetes/` | a systemd unit, example manifests |
//! | `man/`, `completions/` | manual pages, completions for bash, zsh and fish |
//!
//! The binary depends on no library of the machine. musl does that best; where its target cannot
//! be had, glibc is linked statically, which costs name services of the system (`nsswitch.conf`).

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::run::{Steps, capture, cargo, run, run_within};
use crate::{paths, setup};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GLIBC: &str = "x86_64-unknown-linux-gnu";
/// The names by which the program behaves as one of etcd's.
const ETCD_NAMES: [&str; 3] = ["etcd", "etcdctl", "etcdutl"];

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Link glibc statically, even where musl could be had.
    #[arg(long)]
    glibc: bool,
}

/// Builds everything into `target/dist`.
pub(crate) fn dist(options: &Options) -> Result<()> {
    println!("The static binary, and what an operator needs beside it.");
    let mut steps = Steps::default();
    let target = steps.step("target", "a C library that can be linked in", || {
        if options.glibc { Ok(GLIBC) } else { target() }
    })?;
    let binary = steps.step("build", "the static binary", || build(target))?;
    let dist = paths::target().join("dist");
    steps.step("lay out", "binary, links, Dockerfile, units, manifests", || {
        lay_out(&binary, &dist)
    })?;
    steps.step("manual", "manual pages and completions, from the tables of flags", || {
        run(cargo().args(["run", "--quiet", "-p", "coracle-manual", "--"]).arg(&dist))
    })?;
    steps.print();
    println!("\n    {}: docker build -t coracle {0}", paths::shown(&dist));
    Ok(())
}

/// musl's target, installing it where that is possible; else glibc's.
fn target() -> Result<&'static str> {
    let mut add = Command::new("rustup");
    add.current_dir(paths::root()).args(["target", "add", MUSL]);
    if let Err(error) = run_within(&mut add, Duration::from_secs(180)) {
        println!("    {error:#}; linking glibc statically instead");
        return Ok(GLIBC);
    }
    // The allocator and the cryptography are C, compiled for musl by its own compiler driver.
    if paths::program("musl-gcc").is_none()
        && let Err(error) = setup::apt(&["musl-tools"])
    {
        println!("    {error:#}; linking glibc statically instead");
        return Ok(GLIBC);
    }
    Ok(MUSL)
}

/// Builds the binary for `target` and makes sure that it is static.
fn build(target: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--release", "-p", "coracle-server", "--target", target]);
    if target == GLIBC {
        command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    }
    run(&mut command)?;
    let binary = paths::target().join(target).join("release/coracle");
    let kind = capture(Command::new("readelf").arg("--program-headers").arg(&binary))?;
    ensure!(!kind.contains("INTERP"), "{} wants a dynamic linker", paths::shown(&binary));
    Ok(binary)
}

fn lay_out(binary: &Path, dist: &Path) -> Result<()> {
    if dist.exists() {
        fs::remove_dir_all(dist)?;
    }
    let programs = dist.join("root/usr/local/bin");
    fs::create_dir_all(&programs)?;
    // `etcdutl hashkv` works in a folder of its own there.
    let scratch = dist.join("root/tmp");
    fs::create_dir(&scratch)?;
    fs::set_permissions(&scratch, fs::Permissions::from_mode(0o1777))?;
    let program = programs.join("coracle");
    fs::copy(binary, &program)?;
    run(Command::new("strip").arg(&program))?;
    for name in ETCD_NAMES {
        symlink("coracle", programs.join(name))?;
    }
    let packaging = paths::root().join("packaging");
    fs::create_dir_all(dist.join("kubernetes"))?;
    for file in [
        "Dockerfile",
        "coracle.service",
        "kubernetes/static-pod.yaml",
        "kubernetes/stateful-set.yaml",
    ] {
        fs::copy(packaging.join(file), dist.join(file)).with_context(|| file.to_owned())?;
    }
    let version = capture(Command::new(&program).arg("--version"))?;
    println!(
        "    {} bytes; {}",
        fs::metadata(&program)?.len(),
        version.lines().next().unwrap_or("")
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_has_the_program_its_names_and_a_folder_for_temporary_files() {
        let dist = std::env::temp_dir().join(format!("coracle-dist-{}", std::process::id()));
        // Any program that knows `--version`.
        lay_out(Path::new("/bin/true"), &dist).unwrap();
        let root = dist.join("root");
        let mode = fs::metadata(root.join("tmp")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        for name in ETCD_NAMES {
            let link = fs::read_link(root.join("usr/local/bin").join(name)).unwrap();
            assert_eq!(link, Path::new("coracle"));
        }
        assert!(dist.join("Dockerfile").exists());
        fs::remove_dir_all(dist).unwrap();
    }
}
