#![doc = include_str!("../README.md")]

use shared::{
    event::EventType,
    workflow::{Guard, Settle, Workflow, guard::LostRace},
};

/// What this function does with an event.
pub const WORKFLOW: Workflow = Workflow {
    event_type: EventType::PaymentApproved,
    guard: Guard::Confirmed,
    settle: Settle::Commit,
    lost_race: LostRace::Refund,
};
