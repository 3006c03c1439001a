//! events about places and lines -> who is connected is told.

use std::process::ExitCode;

use waiting_room_called::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
