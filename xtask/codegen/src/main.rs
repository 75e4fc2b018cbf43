//! Generates Rust from `core/proto/*.proto`, with no `protoc`: protox parses, prost and tonic
//! write.
//!
//! Messages go to `core/src/api/generated`, gRPC clients to `server/src/generated`, and the
//! descriptors of etcd's API to `gateway/src/generated`. What gRPC itself brings along
//! (`server/proto`) goes to `server/src/generated`: messages and descriptors. The output is
//! committed; `--check` fails where it differs from what the `.proto` files say.

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::{Context, Result, bail};

const PROTOS: [&str; 6] =
    ["kv.proto", "auth.proto", "rpc.proto", "v3lock.proto", "v3election.proto", "peer.proto"];
/// Where the descriptors of etcd's own messages go, which the JSON gateway maps by.
const DESCRIPTORS: &str = "etcd.bin";
/// gRPC's own services, which the native server alone has.
const GRPC_PROTOS: [&str; 3] = [
    "grpc/health/v1/health.proto",
    "grpc/reflection/v1/reflection.proto",
    "grpc/reflection/v1alpha/reflection.proto",
];
const GRPC_DESCRIPTORS: &str = "grpc.bin";
/// Of the two releases of reflection, whose messages are the same, one is enough.
const GRPC_MESSAGES: [&str; 2] = ["grpc.health.v1.rs", "grpc.reflection.v1.rs"];
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
    let own = |name: &&str| *name != "peer.proto";
    let etcd = file_descriptors(&proto, PROTOS.iter().copied().filter(own))?;
    fs::write(descriptions.join(DESCRIPTORS), etcd)?;
    sync(&descriptions, &root.join("gateway/src/generated"), check, |_| true)?;

    let grpc = scratch.join("grpc");
    fs::create_dir_all(&grpc)?;
    let proto = root.join("server/proto");
    let descriptors = protox::compile(GRPC_PROTOS.map(|name| proto.join(name)), [&proto])
        .context("server/proto does not parse")?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).out_dir(&grpc);
    config.compile_fds(descriptors)?;
    fs::write(grpc.join(GRPC_DESCRIPTORS), file_descriptors(&proto, GRPC_PROTOS)?)?;
    sync(&grpc, &root.join("server/src/generated"), check, |name| {
        name == GRPC_DESCRIPTORS || GRPC_MESSAGES.contains(&name)
    })?;
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

/// The messages and services of `files`, without comments: a `FileDescriptorSet`.
fn file_descriptors(
    proto: &Path,
    files: impl IntoIterator<Item = &'static str>,
) -> Result<Vec<u8>> {
    let mut compiler = protox::Compiler::new([proto])?;
    compiler.include_imports(true).include_source_info(false);
    compiler.open_files(files)?;
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
            bail!(
                "{} is not what the .proto files say: run `cargo xtask codegen`",
                target.display()
            );
        }
        fs::write(&target, text)?;
        println!("wrote {}", target.display());
    }
    Ok(())
}
