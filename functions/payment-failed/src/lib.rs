#![doc = include_str!("../README.md")]

use shared::{
    event::EventType,
    grpc::inventory::ReleaseReason,
    workflow::{Guard, Settle, Workflow, guard::LostRace},
};

/// What this function does with an event.
pub const WORKFLOW: Workflow = Workflow {
    event_type: EventType::PaymentFailed,
    guard: Guard::Cancelled,
    settle: Settle::Release(ReleaseReason::FailedPayment),
    lost_race: LostRace::Superseded,
};
