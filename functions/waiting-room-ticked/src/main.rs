//! a tick of a line -> places are given, called and taken back.

use std::process::ExitCode;

use waiting_room_ticked::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
