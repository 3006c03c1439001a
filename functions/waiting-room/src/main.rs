//! RPC requests -> people join lines, are told their places and let in, and leave; signed requests -> lines are opened and set.

use std::process::ExitCode;

use waiting_room::{NAME, compose};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    shared::start::run(NAME, module_path!(), compose).await
}
