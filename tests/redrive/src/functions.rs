//! Which functions have a dead-letter queue.

use shared::{booking, name::Named, settlement, waiting_room::message::Kind};

/// The names of all functions that have a dead-letter queue. Each is named after its event, and one that reads of a line is
/// named after the waiting room.
pub fn functions() -> impl Iterator<Item = String> {
    let settled = settlement::event::EventType::ALL.iter().map(|event_type| event_type.name());
    let recorded = booking::event::EventType::ALL.iter().map(|event_type| event_type.name());
    // A tick is worth nothing a second later, so that none is kept.
    let waited = Kind::ALL.iter().filter(|kind| **kind != Kind::Ticked).map(|kind| kind.name());
    settled.chain(recorded).chain(waited).map(|event| match event.strip_prefix("line.") {
        Some(what) => format!("waiting-room-{what}"),
        None => event.replace('.', "-"),
    })
}
