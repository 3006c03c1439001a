#![doc = include_str!("../README.md")]

use shared::{start::Parts, trigger::sqs::Worker, waiting_room::desk::Desk};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room-ticked";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Worker<Desk>> {
    let desk = Desk::configured(parts);
    Worker::configured(desk, parts)
}
