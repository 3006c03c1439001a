#![doc = include_str!("../README.md")]

use shared::{start::Parts, trigger::sqs::Worker, waiting_room::called::Tell};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room-called";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Worker<Tell>> {
    let tell = Tell::configured(parts);
    Worker::configured(tell, parts)
}
