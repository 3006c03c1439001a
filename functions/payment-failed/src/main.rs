//! payment.failed -> the reservation becomes CANCELLED, its seats are free again.

use std::process::ExitCode;

use payment_failed::WORKFLOW;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::worker::run(WORKFLOW).await
}
