//! payment.approved -> the reservation becomes CONFIRMED, its seats are sold.

use std::process::ExitCode;

use payment_approved::{WORKFLOW, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(WORKFLOW.name(), module_path!(), compose).await
}
