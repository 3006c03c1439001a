//! reservation.confirmed -> the reservation is CONFIRMED, its seats are sold.

use std::process::ExitCode;

use reservation_confirmed::{WORKFLOW, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(WORKFLOW.name(), module_path!(), compose).await
}
