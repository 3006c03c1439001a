//! What the reservation API promises in its document, held against what it does: the document is what the code says, other
//! programs find it valid, a browser shows it, and whatever a program makes up from it is answered as it says.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod access;
mod calls;
mod chromium;
mod document;
mod outsiders;
mod page;
mod usher;
mod waiting_room;
mod world;

/// The document, as the function carries it.
const DOCUMENT: &str = include_str!("../../functions/reservation-api/openapi.json");
