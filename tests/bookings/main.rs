//! The bookings, by the real function binaries on a real PostgreSQL. Where there is none, each test says so and passes, but
//! where the ring must run.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

#[path = "../integration/authority.rs"]
mod authority;
mod door;
mod gate;
mod house;

mod bad_input;
mod crash;
mod files;
mod hard_cases;
mod history;
mod interleavings;
mod interrupted;
mod migrations;
mod outcomes;
mod plans;
mod private;
mod sign_in;
mod spans;
mod topics;
