//! Generates the clients of the gRPC services from `proto/`, with a protobuf compiler written in Rust, so that no `protoc` is
//! needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=../proto");
    let files = ["reservation/v1/inventory.proto", "payment/v1/payment.proto", "realtime/v1/realtime.proto"];
    let descriptors = protox::compile(files, ["../proto"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
