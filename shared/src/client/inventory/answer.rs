//! What an answer of the inventory service means. A fault may stand in the gRPC status, in the response's `error`, or in
//! the response's own status; all three are looked at.

use std::time::Duration;

use tonic::{Code, Status as GrpcStatus};

use crate::{
    client::grpc::{
        Fault, code_and_text, described,
        proto::{
            common::v1::{Error as InBand, ErrorCode as InBandCode, Seat},
            reservation::v1::{
                CommitReservationResponse, CommitStatus, HoldStatus, ReleaseHoldResponse, ReleaseStatus,
                ReserveSeatResponse,
            },
        },
        says_something,
    },
    failure::{self, Failure, quoted},
    name::names,
    reservation::{Hold, Money},
};

names! {
    /// The codes of events that are rejected because of the inventory's answer.
    pub enum ErrorCode {
        /// A reservation and its seats no longer fit together: a person has to look.
        InventoryConflict = "inventory_conflict",
    }
}

/// Why a call did not settle.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The seats are not this reservation's to sell or to give back. No repeat changes that.
    #[error(
        "the inventory refused, because reservation and seats no longer fit: {0}; look at both and refund or reseat"
    )]
    Conflict(String),
    /// The service does not understand the request. No repeat changes that.
    #[error("the inventory refused the request: {0}")]
    Refused(String),
    /// Anything else; a repeat may succeed.
    #[error("the inventory did not carry the call out: {0}")]
    Unavailable(String),
    /// An answer that can't be read, be it the service's or not. A repeat may bring another.
    #[error(
        "the inventory's answer could not be read, so the seats may have been sold or given back all the same: {0}"
    )]
    Unread(String),
    /// No answer within the call's timeout; what happened there is unknown.
    #[error("the inventory did not answer within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

/// Why no seats are held.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// The inventory says so, and that nothing is held.
    #[error("the inventory has no such seats: {0}")]
    Refused(String),
    /// Nobody knows whether they are held. A repeat under the same key tells.
    #[error("the inventory did not say whether it holds the seats: {0}")]
    Unclear(String),
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Status(status) => unreachable(&status),
            Fault::Unread(status) => Self::Unread(described(&status)),
            Fault::TimedOut(timeout) => Self::TimedOut(timeout),
        }
    }
}

impl From<Error> for ReserveError {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict(text) | Error::Refused(text) => Self::Refused(text),
            Error::Unavailable(_) | Error::Unread(_) | Error::TimedOut(_) => Self::Unclear(error.to_string()),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error {
            Error::Conflict(_) => Self::permanent(ErrorCode::InventoryConflict, message),
            Error::Refused(_) => Self::permanent(failure::ErrorCode::DownstreamRejected, message),
            Error::Unavailable(_) | Error::Unread(_) | Error::TimedOut(_) => Self::transient(message),
        }
    }
}

pub(super) fn committed(response: CommitReservationResponse) -> Result<(), Error> {
    in_band(response.error)?;
    match CommitStatus::try_from(response.status) {
        Ok(CommitStatus::Unspecified | CommitStatus::Success) => Ok(()),
        Ok(status @ (CommitStatus::FailedPayment | CommitStatus::FailedExpired | CommitStatus::FailedConflict)) => {
            Err(Error::Conflict(status.as_str_name().to_owned()))
        }
        Err(_unknown) => Err(Error::Unavailable(format!("commit status {}, which is not known", response.status))),
    }
}

pub(super) fn released(response: ReleaseHoldResponse) -> Result<(), Error> {
    in_band(response.error)?;
    match ReleaseStatus::try_from(response.status) {
        Ok(
            ReleaseStatus::Unspecified
            | ReleaseStatus::Success
            | ReleaseStatus::AlreadyReleased
            | ReleaseStatus::NotFound,
        ) => Ok(()),
        Ok(ReleaseStatus::Failed) => Err(Error::Unavailable(ReleaseStatus::Failed.as_str_name().to_owned())),
        Err(_unknown) => Err(Error::Unavailable(format!("release status {}, which is not known", response.status))),
    }
}

/// The seats that are held, of those that were asked for, or for a bare quantity. A hold is believed by the seats that it
/// names: an answer that names others, or fewer, does not say what is held. A bare quantity may be held without names.
pub(super) fn reserved(response: ReserveSeatResponse, asked: &[String], quantity: u32) -> Result<Hold, ReserveError> {
    if let Some(error) = response.error.filter(says_something) {
        return Err(no_seats(&error));
    }
    let status = HoldStatus::try_from(response.status);
    match status {
        Ok(HoldStatus::Active | HoldStatus::Unspecified) if !response.hold_id.is_empty() => {}
        // This reservation's hold was given back: whoever asks again is too late.
        Ok(HoldStatus::Released | HoldStatus::Expired) => {
            return Err(ReserveError::Refused(format!("hold status {}", response.status)));
        }
        Ok(HoldStatus::Active | HoldStatus::Unspecified | HoldStatus::Committed) | Err(_) => {
            let why = if response.hold_id.is_empty() { "and no hold_id" } else { "which is no active hold" };
            return Err(ReserveError::Unclear(format!("hold status {}, {why}", response.status)));
        }
    }
    let price = price(&response.reserved_seats);
    let mut seats: Vec<String> = response.reserved_seats.into_iter().map(|seat| seat.id).collect();
    let mut wanted = asked.to_vec();
    seats.sort_unstable();
    wanted.sort_unstable();
    let fits = if wanted.is_empty() {
        seats.is_empty() || u32::try_from(seats.len()) == Ok(quantity)
    } else {
        seats == wanted
    };
    if fits {
        Ok(Hold { seat_ids: if asked.is_empty() { seats } else { asked.to_vec() }, price })
    } else {
        let named =
            if seats.is_empty() { "no seats".to_owned() } else { format!("the seats {}", quoted(&seats.join(", "))) };
        Err(ReserveError::Unclear(format!("it names {named}, which is not what was asked for")))
    }
}

/// What these seats cost together. Nothing, where one of them has no price, or one in another currency.
fn price(seats: &[Seat]) -> Option<Money> {
    let currency = &seats.first()?.price.as_ref()?.currency;
    let one = |seat: &Seat| seat.price.as_ref().filter(|price| price.currency == *currency).map(|price| price.amount);
    let amount = seats.iter().try_fold(0_i64, |sum, seat| sum.checked_add(one(seat)?))?;
    Some(Money { amount, currency: currency.clone() })
}

/// What a fault inside the answer to ReserveSeat means: some say that nothing is held.
fn no_seats(error: &InBand) -> ReserveError {
    match code_and_text(error) {
        Ok((
            InBandCode::InventoryConflict
            | InBandCode::InsufficientInventory
            | InBandCode::ReservationExpired
            | InBandCode::NotFound
            | InBandCode::InvalidArgument,
            text,
        )) => ReserveError::Refused(text),
        Ok((
            InBandCode::Unspecified
            | InBandCode::Unauthenticated
            | InBandCode::Forbidden
            | InBandCode::Unauthorized
            | InBandCode::AlreadyExists
            | InBandCode::FailedPrecondition
            | InBandCode::RateLimited
            | InBandCode::QuotaExceeded
            | InBandCode::IdempotencyRequired
            | InBandCode::IdempotencyConflict
            | InBandCode::PaymentNotApproved
            | InBandCode::Internal
            | InBandCode::Unavailable
            | InBandCode::Timeout
            | InBandCode::UpstreamTimeout
            | InBandCode::UpstreamError
            | InBandCode::DataCorruption
            | InBandCode::ConcurrentModification,
            text,
        ))
        | Err(text) => ReserveError::Unclear(text),
    }
}

/// The fault inside a response.
fn in_band(error: Option<InBand>) -> Result<(), Error> {
    let Some(error) = error.filter(says_something) else {
        return Ok(());
    };
    let (code, text) = code_and_text(&error).map_err(Error::Unavailable)?;
    Err(match code {
        InBandCode::InventoryConflict | InBandCode::InsufficientInventory | InBandCode::ReservationExpired => {
            Error::Conflict(text)
        }
        InBandCode::InvalidArgument => Error::Refused(text),
        InBandCode::Unspecified
        | InBandCode::Unauthenticated
        | InBandCode::Forbidden
        | InBandCode::Unauthorized
        | InBandCode::NotFound
        | InBandCode::AlreadyExists
        | InBandCode::FailedPrecondition
        | InBandCode::RateLimited
        | InBandCode::QuotaExceeded
        | InBandCode::IdempotencyRequired
        | InBandCode::IdempotencyConflict
        | InBandCode::PaymentNotApproved
        | InBandCode::Internal
        | InBandCode::Unavailable
        | InBandCode::Timeout
        | InBandCode::UpstreamTimeout
        | InBandCode::UpstreamError
        | InBandCode::DataCorruption
        | InBandCode::ConcurrentModification => Error::Unavailable(text),
    })
}

/// The gRPC status of a call without a response. A proxy says UNIMPLEMENTED, or 404, while the service is rolled out.
fn unreachable(status: &GrpcStatus) -> Error {
    let text = described(status);
    match status.code() {
        Code::FailedPrecondition => Error::Conflict(text),
        Code::InvalidArgument => Error::Refused(text),
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => Error::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::grpc::proto::common::v1::Money as WireMoney;

    #[derive(Debug, PartialEq, Eq)]
    enum Meaning {
        Settled,
        Conflict,
        Refused,
        Retry,
    }

    fn meaning(result: Result<(), Error>) -> Meaning {
        match result {
            Ok(()) => Meaning::Settled,
            Err(Error::Conflict(_)) => Meaning::Conflict,
            Err(Error::Refused(_)) => Meaning::Refused,
            Err(Error::Unavailable(_) | Error::Unread(_) | Error::TimedOut(_)) => Meaning::Retry,
        }
    }

    fn error(code: i32, message: &str) -> Option<InBand> {
        Some(InBand { code, message: message.into(), ..InBand::default() })
    }

    #[track_caller]
    fn commit(status: i32, error: Option<InBand>, expected: Meaning) {
        let response = CommitReservationResponse { status, error, ..CommitReservationResponse::default() };
        assert_eq!(meaning(committed(response)), expected);
    }

    #[track_caller]
    fn release(status: i32, error: Option<InBand>, expected: Meaning) {
        let response = ReleaseHoldResponse { status, error, ..ReleaseHoldResponse::default() };
        assert_eq!(meaning(released(response)), expected);
    }

    #[test]
    fn a_commit_is_judged_by_its_own_status() {
        commit(0, None, Meaning::Settled);
        commit(1, None, Meaning::Settled);
        commit(2, None, Meaning::Conflict);
        commit(3, None, Meaning::Conflict);
        commit(4, None, Meaning::Conflict);
        commit(99, None, Meaning::Retry);
    }

    #[test]
    fn a_release_is_judged_by_its_own_status() {
        release(0, None, Meaning::Settled);
        release(1, None, Meaning::Settled);
        release(2, None, Meaning::Settled);
        release(3, None, Meaning::Settled);
        release(4, None, Meaning::Retry);
        release(-1, None, Meaning::Retry);
    }

    #[test]
    fn held_seats_cost_what_the_inventory_says_of_each() {
        let seat = |id: &str, price: Option<(i64, &str)>| Seat {
            id: id.into(),
            price: price.map(|(amount, currency)| WireMoney { amount, currency: currency.into() }),
            ..Seat::default()
        };
        let held = |seats: &[Seat]| {
            let asked: Vec<String> = seats.iter().map(|seat| seat.id.clone()).collect();
            let response =
                ReserveSeatResponse { hold_id: "h".into(), reserved_seats: seats.to_vec(), ..Default::default() };
            reserved(response, &asked, 2).unwrap().price.map(|price| price.to_string())
        };
        let (first, second) = (seat("A-1", Some((3_800, "EUR"))), seat("A-2", Some((3_700, "EUR"))));
        assert_eq!(held(&[first.clone(), second]).as_deref(), Some("7500 EUR"));
        for odd in [None, Some((1, "USD")), Some((i64::MAX, "EUR"))] {
            assert_eq!(held(&[first.clone(), seat("A-2", odd)]), None, "{odd:?}");
        }
    }

    #[test]
    fn an_in_band_error_counts_beside_any_status() {
        commit(1, error(14, "gone"), Meaning::Conflict);
        commit(0, error(15, ""), Meaning::Conflict);
        release(1, error(12, ""), Meaning::Conflict);
        release(2, error(4, "bad"), Meaning::Refused);
        commit(1, error(17, ""), Meaning::Retry);
        commit(4, error(17, ""), Meaning::Retry);
        commit(1, error(7, ""), Meaning::Retry);
        commit(1, error(12345, ""), Meaning::Retry);
    }

    #[test]
    fn an_in_band_error_without_a_code_is_retried_and_an_empty_one_is_none() {
        commit(1, error(0, "something"), Meaning::Retry);
        commit(1, error(0, ""), Meaning::Settled);
    }

    #[test]
    fn a_grpc_status_is_final_only_where_a_repeat_is_pointless() {
        for (code, expected) in [
            (Code::FailedPrecondition, Meaning::Conflict),
            (Code::InvalidArgument, Meaning::Refused),
            (Code::Unimplemented, Meaning::Retry),
            (Code::OutOfRange, Meaning::Retry),
            (Code::Ok, Meaning::Retry),
            (Code::Cancelled, Meaning::Retry),
            (Code::Unknown, Meaning::Retry),
            (Code::DeadlineExceeded, Meaning::Retry),
            (Code::NotFound, Meaning::Retry),
            (Code::AlreadyExists, Meaning::Retry),
            (Code::PermissionDenied, Meaning::Retry),
            (Code::ResourceExhausted, Meaning::Retry),
            (Code::Aborted, Meaning::Retry),
            (Code::Internal, Meaning::Retry),
            (Code::Unavailable, Meaning::Retry),
            (Code::DataLoss, Meaning::Retry),
            (Code::Unauthenticated, Meaning::Retry),
        ] {
            assert_eq!(meaning(Err(unreachable(&GrpcStatus::new(code, "x")))), expected, "{code:?}");
        }
    }
}
