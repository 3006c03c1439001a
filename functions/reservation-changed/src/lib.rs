#![doc = include_str!("../README.md")]

use shared::{reservation::relay::Relay, start::Parts, trigger::stream::Reader};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "reservation-changed";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Reader<Relay>> {
    let relay = Relay::configured(parts);
    Reader::configured(relay, parts)
}
