//! Generates Rust from `core/proto/*.proto`, with no `protoc`: protox parses, prost and tonic
//! write.
//!
//! Messages go to `core/src/api/generated`, gRPC clients to `server/src/generated`, and the
//! descriptors of etcd's API to `gateway/src/generated`. The output is committed; `--check` fails
//! where it differs from what the `.proto` files say.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};

const PROTOS: [&str; 6] =
    ["kv.proto", "auth.proto", "rpc.proto", "v3lock.proto", "v3election.proto", "peer.proto"];
/// Where the descriptors of etcd's own messages go, which the JSON gateway maps by.
const DESCRIPTORS: &str = "etcd.bin";
const SERVICE_PACKAGES: [&str; 3] = ["etcdserverpb", "v3lockpb", "v3electionpb"];

fn main() -> Result<()> {
    let check = env::args().any(|argument| argument == "--check");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let scratch = env::temp_dir().join(format!("coracle-codegen-{}", std::process::id()));
    let messages = scratch.join("messages");
    let services = scratch.join("services");
    fs::create_dir_all(&messages)?;
    fs::create_dir_all(&services)?;
    let descriptions = scratch.join("descriptors");
    fs::create_dir_all(&descriptions)?;

    let proto = root.join("core/proto");
    let descriptors = protox::compile(PROTOS.map(|name| proto.join(name)), [&proto])
        .context("core/proto does not parse")?;

    let mut config = prost_build::Config::new();
    // Keys and values are slices of the received frame, not copies of it.
    config.bytes(["."]).out_dir(&messages);
    config.compile_fds(descriptors.clone())?;

    let mut builder = tonic_prost_build::configure()
        // The server side is written by hand (`server/src/rpc`): it costs half the CPU per call.
        .build_server(false)
        .codec_path("crate::codec::Codec")
        .out_dir(&services);
    for package in ["mvccpb", "authpb", "coraclepb", "etcdserverpb", "v3lockpb", "v3electionpb"] {
        builder =
            builder.extern_path(format!(".{package}"), format!("::coracle_core::api::{package}"));
    }
    builder.compile_fds(descriptors)?;

    sync(&messages, &root.join("core/src/api/generated"), check, |_| true)?;
    sync(&services, &root.join("server/src/generated"), check, |name| {
        SERVICE_PACKAGES.iter().any(|package| name == format!("{package}.rs"))
    })?;
    fs::write(descriptions.join(DESCRIPTORS), descriptors_of_etcd(&proto)?)?;
    sync(&descriptions, &root.join("gateway/src/generated"), check, |_| true)?;
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

/// The messages and services that clients see, without comments and Coracle's own.
fn descriptors_of_etcd(proto: &Path) -> Result<Vec<u8>> {
    let own = Path::new("peer.proto");
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(PROTOS.iter().filter(|name| Path::new(name) != own))?;
    Ok(compiler.encode_file_descriptor_set())
}

/// Brings the files of `from` that `wanted` names to `to`, or checks that they are there already.
fn sync(from: &Path, to: &Path, check: bool, wanted: impl Fn(&str) -> bool) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path: PathBuf = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        if !wanted(&name) {
            continue;
        }
        let text = fs::read(&path)?;
        let target = to.join(&name);
        if fs::read(&target).is_ok_and(|present| present == text) {
            continue;
        }
        if check {
            bail!("{} is not what core/proto says: run `cargo xtask codegen`", target.display());
        }
        fs::write(&target, text)?;
        println!("wrote {}", target.display());
    }
    Ok(())
}
