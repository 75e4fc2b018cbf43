//! Clients that others wrote, against Coracle: each a program of its own in `tests/clients/`.
//!
//! `CORACLE_SUBJECT=etcd` runs them against etcd instead, which tests the programs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use coracle_tests::cluster::{Cluster, Kind};
use coracle_tests::programs::from_environment;

fn start() -> Result<Cluster> {
    let kind = match env::var("CORACLE_SUBJECT").as_deref() {
        Ok("etcd") => Kind::Etcd,
        _ => Kind::Coracle,
    };
    Cluster::start(kind, 1)
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients")
}

/// Runs a client's program to its end: it has to say `ok`.
fn run(command: &mut Command, cluster: &Cluster) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && stdout.trim_end().ends_with("ok"),
        "{}\n{stdout}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        cluster.log_tails()
    );
    Ok(())
}

#[test]
fn python_etcd3() -> Result<()> {
    let python = from_environment("CORACLE_PYTHON", "a Python that can import etcd3")?;
    let cluster = start()?;
    let address = cluster.client_address(0);
    let (host, port) = address.split_once(':').context("an address has a port")?;
    let mut command = Command::new(python);
    command
        .arg(folder().join("smoke.py"))
        .args([host, port])
        // The package's generated code is older than the C++ runtime accepts.
        .env("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python");
    run(&mut command, &cluster)
}

/// The package's own tests, as it ships them: they ask the JSON gateway.
#[test]
fn python_etcd3gw_passes_its_own_tests() -> Result<()> {
    let python = from_environment("CORACLE_PYTHON", "a Python that can import etcd3gw")?;
    let cluster = start()?;
    let address = cluster.client_address(0);
    let (_, port) = address.split_once(':').context("an address has a port")?;
    let output = Command::new(python)
        .args(["-m", "unittest", "etcd3gw.tests.test_etcd3gw"])
        .env("TOOZ_TEST_ETCD_PORT", port)
        .env("TOOZ_TEST_HTTP_URL", format!("http://{address}"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    // "OK (skipped=…)" is what it says when it finds no server.
    let passed = output.status.success() && said.trim_end().ends_with("\nOK");
    ensure!(passed, "{}\n{said}\n{}", output.status, cluster.log_tails());
    Ok(())
}

#[test]
fn node_etcd3() -> Result<()> {
    let modules = from_environment("CORACLE_NODE_MODULES", "node_modules that hold etcd3")?;
    let cluster = start()?;
    let mut command = Command::new("node");
    command
        .arg(folder().join("smoke.mjs"))
        .arg(modules.join("etcd3"))
        .arg(cluster.client_address(0));
    run(&mut command, &cluster)
}

/// `cargo VERB` in a project that uses etcd-client. They share what they build.
fn cargo(verb: &str, project: &Path) -> Result<Command> {
    let protoc = from_environment("PROTOC", "the protobuf compiler protoc")?;
    let mut command = Command::new(env!("CARGO"));
    command
        .args([verb, "--quiet", "--manifest-path"])
        .arg(project.join("Cargo.toml"))
        .args(["--target-dir", concat!(env!("CARGO_TARGET_TMPDIR"), "/client-smoke")])
        .env("PROTOC", protoc);
    Ok(command)
}

#[test]
fn rust_etcd_client() -> Result<()> {
    let cluster = start()?;
    let mut command = cargo("run", &folder().join("rust"))?;
    command.arg("--").arg(cluster.endpoint(0));
    run(&mut command, &cluster)
}

/// Our recipes on keys, with Go's contenders in the same queues (`concurrency/tests/recipes.rs`).
#[test]
fn rust_concurrency() -> Result<()> {
    let etcdctl = from_environment("ETCDCTL35_BIN", "a real etcdctl")?;
    let cluster = start()?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../concurrency");
    let mut command = cargo("test", &project)?;
    command.env("ENDPOINT", cluster.endpoint(0)).env("GO_ETCDCTL", etcdctl);
    let output = command.output().context("cannot start cargo")?;
    let stdout = String::from_utf8_lossy(&output.stdout);
    ensure!(
        output.status.success() && stdout.contains("test result: ok. 10 passed"),
        "{}\n{stdout}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        cluster.log_tails()
    );
    Ok(())
}
