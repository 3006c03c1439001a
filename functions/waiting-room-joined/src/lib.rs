#![doc = include_str!("../README.md")]

use shared::{start::Parts, trigger::sqs::Worker, waiting_room::joined::Joining};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room-joined";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Worker<Joining>> {
    let joining = Joining::configured(parts);
    Worker::configured(joining, parts)
}
