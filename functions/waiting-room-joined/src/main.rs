//! joins of a queue -> people have places in their lines.

use std::process::ExitCode;

use waiting_room_joined::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
