//! booking.created -> the booking is a row of the database, if its room is free.

use std::process::ExitCode;

use booking_created::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
