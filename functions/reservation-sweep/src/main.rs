//! a schedule -> what the relay missed is published, and lost timers are set again.

use std::process::ExitCode;

use reservation_sweep::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
