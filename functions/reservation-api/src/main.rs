//! HTTP requests -> reservations are held, confirmed, cancelled and settled.

use std::process::ExitCode;

use reservation_api::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
