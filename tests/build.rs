//! Generates the servers of the gRPC services from `proto/`, and keeps the descriptors that gRPC reflection serves.

use std::{env, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let files = [
        "booking_worker/v1/booking_worker.proto",
        "payment/v1/payment.proto",
        "realtime/v1/realtime.proto",
        "reservation/v1/inventory.proto",
        "reservation/v1/reservation.proto",
    ];
    let descriptors = protox::compile(files, ["../proto"])?;
    let file = PathBuf::from(env::var("OUT_DIR")?).join("descriptors.binpb");
    fs::write(file, descriptors.encode_to_vec())?;
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors)?;
    Ok(())
}
