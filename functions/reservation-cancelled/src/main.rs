//! reservation.cancelled -> the reservation becomes CANCELLED, its seats are free again.

use std::process::ExitCode;

use reservation_cancelled::{WORKFLOW, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(WORKFLOW.name(), module_path!(), compose).await
}
