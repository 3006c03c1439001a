#![doc = include_str!("../README.md")]

use shared::{start::Parts, waiting_room::clock::Clock};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "waiting-room-clock";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Clock> {
    Clock::configured(parts)
}
