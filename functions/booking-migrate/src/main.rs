//! a deployment, a person or a schedule -> the schema of the bookings, and a clean inbox.

use std::process::ExitCode;

use booking_migrate::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
