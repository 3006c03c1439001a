//! payment.failed -> the reservation becomes CANCELLED, its seats are free again.

use std::process::ExitCode;

use payment_failed::{WORKFLOW, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(WORKFLOW.name(), module_path!(), compose).await
}
