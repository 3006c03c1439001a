//! payment.approved -> the reservation becomes CONFIRMED, its seats are sold.

use std::process::ExitCode;

use payment_approved::WORKFLOW;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::worker::run(WORKFLOW).await
}
