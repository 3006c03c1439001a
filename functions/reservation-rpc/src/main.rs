//! RPC requests -> reservations are held, confirmed, cancelled and extended.

use std::process::ExitCode;

use reservation_rpc::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
