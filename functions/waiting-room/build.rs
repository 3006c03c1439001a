//! Generates messages and service from `proto/`, with a protobuf compiler written in Rust, so that no `protoc` is needed.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../../proto");
    let descriptors = protox::compile(["booking_worker/v1/booking_worker.proto"], ["../../proto"])?;
    let file = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.bin");
    fs::write(&file, descriptors.encode_to_vec())?;
    connectrpc_build::Config::new()
        .descriptor_set(&file)
        .files(&["booking_worker/v1/booking_worker.proto"])
        .gate_client_feature(true)
        .include_file("proto.rs")
        .emit_rerun_directives(false)
        .compile()?;
    Ok(())
}
