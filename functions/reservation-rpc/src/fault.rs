//! Why a call is refused, as its caller reads it: a code for programs, a sentence for people.

use connectrpc::ConnectError;
use shared::{
    reservation::{
        Status,
        service::{Conflict, Error},
    },
    trigger::http::rpc::waiting,
};

/// The fault of a call that the reservations refuse.
pub(crate) fn of(error: Error) -> ConnectError {
    error.write_cause();
    let message = error.to_string();
    match error {
        Error::Unknown => ConnectError::not_found(message),
        Error::OtherWish | Error::TokenUsed => ConnectError::already_exists(message),
        Error::AdmissionRequired | Error::Denied(_) => ConnectError::permission_denied(message),
        Error::TooMany { .. } => ConnectError::invalid_argument(message),
        Error::InProgress { after } => waiting(ConnectError::aborted(message), Some(after)),
        Error::NoSeats | Error::TooManyHolds { .. } => ConnectError::resource_exhausted(message),
        Error::Over => ConnectError::failed_precondition(message),
        Error::Conflict(conflict) => of_conflict(&conflict),
        Error::NotPaid { after, .. } => waiting(ConnectError::failed_precondition(message), after),
        Error::Inventory { after, .. }
        | Error::Payments { after, .. }
        | Error::Table { after, .. }
        | Error::Line { after, .. } => waiting(ConnectError::unavailable(message), Some(after)),
    }
}

/// What the reservation is stands in the way; while it is PENDING, only for now.
fn of_conflict(conflict: &Conflict) -> ConnectError {
    let message = conflict.to_string();
    let fault = match &conflict.reservation.status {
        Status::Pending => ConnectError::aborted(message),
        Status::Hold
        | Status::Confirmed
        | Status::Cancelled
        | Status::Expired
        | Status::Failed
        | Status::Refunded
        | Status::Other(_) => ConnectError::failed_precondition(message),
    };
    waiting(fault, conflict.after)
}
