#![doc = include_str!("../README.md")]

use shared::{
    settlement::{Guard, Settle, Settler, Superseded, Workflow, event::EventType},
    start::Parts,
    trigger::sqs::Worker,
};

/// What this function does with an event.
pub const WORKFLOW: Workflow =
    Workflow { event_type: EventType::ReservationConfirmed, guard: Guard::Confirmed, settle: Settle::Commit };

/// What follows when the reservation had already ended in another way: nothing is left to do. The payment's own event, which
/// comes for each payment, requests its refund.
pub type LostRace = Superseded;

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Worker<Settler<LostRace>>> {
    let settler = Settler::configured(WORKFLOW, parts);
    Worker::configured(settler, parts)
}
