//! changes of the table of reservations -> timers go to the queue of expiries, events to the bus.

use std::process::ExitCode;

use reservation_changed::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
