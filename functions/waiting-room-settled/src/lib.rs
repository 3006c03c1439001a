#![doc = include_str!("../README.md")]

use shared::{start::Parts, trigger::sqs::Worker, waiting_room::settled::Follow};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room-settled";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Worker<Follow>> {
    let follow = Follow::configured(parts);
    Worker::configured(follow, parts)
}
