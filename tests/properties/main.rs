//! What must hold for any input. The inputs come from a fixed seed, so that every run tries the same ones.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod admission;
mod api;
mod backoff;
mod batch;
mod http;
mod kafka;
mod parsing;

use proptest::test_runner::{Config, RngSeed};

/// A failure is printed with its smallest input, and the fixed seed brings it back; a file of old failures is not
/// needed.
fn cases(cases: u32) -> Config {
    Config { cases, rng_seed: RngSeed::Fixed(20_261_121), failure_persistence: None, ..Config::default() }
}
