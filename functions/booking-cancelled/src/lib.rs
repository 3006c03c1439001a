#![doc = include_str!("../README.md")]

use shared::{
    booking::{Cancellation, Recorder},
    start::Parts,
    trigger::kafka::Consumer,
};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "booking-cancelled";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Consumer<Recorder<Cancellation>>> {
    let recorder = Recorder::configured(parts);
    Consumer::configured(recorder, parts)
}
