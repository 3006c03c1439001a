//! events about reservations -> their places follow.

use std::process::ExitCode;

use waiting_room_settled::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
