//! booking.cancelled -> the booking is given up, now or as soon as it comes.

use std::process::ExitCode;

use booking_cancelled::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
