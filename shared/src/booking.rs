//! Bookings: an event about a stay becomes a row of the database, once, whatever is repeated, late, out of order or
//! overlapping.
//!
//! The row and the note that its event is done (the *inbox*) are written in one transaction, so that nothing is done twice or
//! not at all. Who is first in the database has the room: an overlap is refused by a constraint, and whoever paid for a room
//! that was taken gets a refund request. What comes too early, a cancellation before its booking, waits in the inbox.
//!
//! | module | what |
//! | --- | --- |
//! | [`event`], [`stay`] | from a body to an event; the days of a stay |
//! | [`creation`], [`cancellation`] | the two transactions, and what their answers mean |
//! | [`recorder`] | a batch: one transaction for all, or one for each when something is in the way |
//! | [`refusal`] | what others are told of a refused booking |
//! | [`migration`] | the schema, and what keeps the inbox small |

pub mod cancellation;
pub mod creation;
pub mod event;
pub mod migration;
pub mod recorder;
pub mod refusal;
pub mod stay;

pub use self::{
    cancellation::Cancellation,
    creation::Creation,
    recorder::{METRICS, Recorder},
};
use crate::{
    name::{Named, names},
    trigger,
};

names! {
    /// How an event ends well.
    pub enum Outcome {
        /// The booking is written, or the cancellation is.
        Success = "success",
        /// The same event was done before.
        Duplicate = "duplicate",
        /// The room was taken. Others are told, and a payment is to be paid back.
        Refused = "refused",
        /// A cancellation before its booking: it is kept until the booking comes.
        Early = "early",
        /// A cancellation of a booking that was refused.
        Superseded = "superseded",
    }
}

names! {
    /// The codes of events that are rejected.
    pub enum ErrorCode {
        /// The body is no JSON object, or an ambiguous one.
        MalformedBody = "malformed_body",
        /// The event is not the function's own.
        UnknownType = "unknown_type",
        /// A field is missing or breaks its rule.
        InvalidField = "invalid_field",
        /// The booking is known with another payload.
        PayloadChanged = "payload_changed",
        /// Somebody else's booking can't be given up.
        NotOwner = "not_owner",
        /// More than one user is meant.
        AmbiguousUser = "ambiguous_user",
        /// A payment is to be paid back, and there is nobody to tell.
        RefundNotDeliverable = "refund_not_deliverable",
    }
}

/// An event that ended well.
pub type Done = trigger::Done<Outcome>;

/// Every code that an event may be rejected with.
pub fn error_codes() -> impl Iterator<Item = &'static str> {
    ErrorCode::ALL.iter().map(|code| code.name())
}
