//! a schedule -> each open line ticks in each second of the minute.

use std::process::ExitCode;

use waiting_room_clock::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
