//! Why a call is refused, as its caller reads it: a code for programs, a sentence for people.

use connectrpc::ConnectError;
use shared::{trigger::http::rpc::waiting, waiting_room::service::Error};

/// The fault of a call that the waiting room refuses.
pub(crate) fn of(error: Error) -> ConnectError {
    error.write_cause();
    let message = error.to_string();
    match error {
        Error::UnknownLine | Error::UnknownPlace => ConnectError::not_found(message),
        Error::Foreign => ConnectError::permission_denied(message),
        Error::TooMany { .. } => ConnectError::invalid_argument(message),
        Error::Closed | Error::SoldOut | Error::Holding | Error::Sold => ConnectError::failed_precondition(message),
        Error::Full { after, .. } => waiting(ConnectError::resource_exhausted(message), Some(after)),
        Error::Joining { after } => waiting(ConnectError::aborted(message), Some(after)),
        Error::Unavailable { after, .. } => waiting(ConnectError::unavailable(message), Some(after)),
    }
}
