#![doc = include_str!("../README.md")]

use shared::{booking::migration::Migrator, start::Parts};

/// What the function is called in logs, metrics and traces.
pub const NAME: &str = "booking-migrate";

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Migrator> {
    Migrator::configured(parts)
}
