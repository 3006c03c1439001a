//! Settlement: an event about a reservation moves the reservation and its seats to one consistent end.
//!
//! A function names its [`Workflow`] and, by type, what follows a [lost race](LostRace): a function that refunds nothing
//! carries no client of the event bus.

pub mod event;
pub mod guard;
pub mod lost_race;
pub mod refund;
pub mod workflow;

pub use self::{
    lost_race::{LostRace, Superseded},
    refund::RefundPublisher,
    workflow::{Guard, Services, Settle, Settler, Workflow},
};
use crate::{
    client, failure, idempotency,
    name::{Named, names},
    trigger,
};

names! {
    /// How an event ends well.
    pub enum Outcome {
        /// Guard and settle are done.
        Success = "success",
        /// The same event was completed before; nothing was called.
        Duplicate = "duplicate",
        /// Another end won.
        Superseded = "superseded",
        /// Another end won, and the refund of the payment is requested.
        LateApproval = "late_approval",
    }
}

/// An event that ended well.
pub type Done = trigger::Done<Outcome>;

/// Every code that an event may be rejected with.
pub fn error_codes() -> impl Iterator<Item = &'static str> {
    fn of<N: Named>() -> impl Iterator<Item = &'static str> {
        N::ALL.iter().map(|name| name.name())
    }
    of::<event::ErrorCode>()
        .chain(of::<idempotency::ErrorCode>())
        .chain(of::<client::inventory::ErrorCode>())
        .chain(of::<workflow::ErrorCode>())
        .chain(of::<failure::ErrorCode>())
        .chain(of::<refund::ErrorCode>())
}
