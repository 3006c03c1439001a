//! connections of pages -> their places are heard of by them.

use std::process::ExitCode;

use waiting_room_connected::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
