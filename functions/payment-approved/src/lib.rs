#![doc = include_str!("../README.md")]

use shared::{
    settlement::{Guard, RefundPublisher, Settle, Settler, Workflow, event::EventType},
    start::Parts,
    trigger::sqs::Worker,
};

/// What this function does with an event.
pub const WORKFLOW: Workflow =
    Workflow { event_type: EventType::PaymentApproved, guard: Guard::Confirmed, settle: Settle::Commit };

/// What follows when the reservation had already ended in another way: somebody paid for nothing and gets the money back.
pub type LostRace = RefundPublisher;

/// What the function is made of.
pub fn compose(parts: &mut Parts<'_>) -> Option<Worker<Settler<LostRace>>> {
    let settler = Settler::configured(WORKFLOW, parts);
    Worker::configured(settler, parts)
}
