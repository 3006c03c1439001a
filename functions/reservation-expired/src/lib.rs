#![doc = include_str!("../README.md")]

use shared::{
    event::EventType,
    grpc::inventory::ReleaseReason,
    workflow::{Guard, Settle, Workflow, guard::LostRace},
};

/// What this function does with an event.
pub const WORKFLOW: Workflow = Workflow {
    event_type: EventType::ReservationExpired,
    guard: Guard::Expired,
    settle: Settle::Release(ReleaseReason::Expired),
    lost_race: LostRace::Superseded,
};
