//! Why a request is refused, and what its caller reads then.

use std::time::SystemTime;

use axum::{
    body::Body,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};
use shared::{
    deadline::epoch_ms,
    name::names,
    reservation::{
        Status,
        service::{Conflict, Error},
    },
    trigger::http::ErrorAnswer,
};

names! {
    /// The codes of the API's errors.
    pub(crate) enum Code {
        /// Fields are wrong; the details name them.
        InvalidRequest = "INVALID_REQUEST",
        /// A create needs a key.
        MissingIdempotencyKey = "MISSING_IDEMPOTENCY_KEY",
        /// Nobody is known to be calling.
        AuthenticationFailed = "AUTHENTICATION_FAILED",
        /// The event has a line, and no token came along.
        AdmissionRequired = "ADMISSION_REQUIRED",
        /// The token does not admit to this.
        InvalidReservationToken = "INVALID_RESERVATION_TOKEN",
        /// Nothing says that it is paid.
        PaymentNotConfirmed = "PAYMENT_NOT_CONFIRMED",
        /// There is no such reservation, or it is another's.
        ReservationNotFound = "RESERVATION_NOT_FOUND",
        /// There is no such resource.
        NotFound = "NOT_FOUND",
        /// The resource is there, and not by this method.
        MethodNotAllowed = "METHOD_NOT_ALLOWED",
        /// The body is too long.
        PayloadTooLarge = "PAYLOAD_TOO_LARGE",
        /// The body is no JSON by its own word.
        UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
        /// The seats are another's, or not so many are left.
        SeatUnavailable = "SEAT_UNAVAILABLE",
        /// The customer holds as much as he may at a time.
        TooManyHolds = "TOO_MANY_HOLDS",
        /// The same request is being worked on.
        IdempotencyInProgress = "IDEMPOTENCY_IN_PROGRESS",
        /// The key came before with another request.
        IdempotencyConflict = "IDEMPOTENCY_CONFLICT",
        /// The token came before with another request.
        TokenAlreadyUsed = "TOKEN_ALREADY_USED",
        /// The time is over.
        ReservationExpired = "RESERVATION_EXPIRED",
        /// It is paid.
        ReservationAlreadyConfirmed = "RESERVATION_ALREADY_CONFIRMED",
        /// It was given up.
        ReservationAlreadyCancelled = "RESERVATION_ALREADY_CANCELLED",
        /// Its seats are being held.
        ReservationInProgress = "RESERVATION_IN_PROGRESS",
        /// The hold was extended before.
        HoldNotExtended = "HOLD_NOT_EXTENDED",
        /// The inventory did not say what became of the seats.
        InventoryServiceError = "INVENTORY_SERVICE_ERROR",
        /// Something that is needed is not there.
        ServiceUnavailable = "SERVICE_UNAVAILABLE",
    }
}

/// A request that is not done.
#[derive(Debug)]
pub enum Refusal {
    /// The front door named nobody, or somebody else than this route is for.
    Unauthenticated,
    /// A rule for each field that breaks one.
    Invalid(Map<String, Value>),
    /// A create has no key.
    NoKey,
    /// The body does not say that it is JSON.
    NotJson,
    /// The body is longer than is read.
    TooLong,
    /// The path is that of nothing.
    NoSuchResource,
    /// The path is that of something, which is not used by this method.
    NoSuchMethod,
    /// What the reservations say.
    Reservations(Error),
}

impl Refusal {
    /// Rules that fields break, by their names.
    pub(crate) fn invalid<const N: usize>(faults: [(&str, String); N]) -> Self {
        Self::Invalid(faults.into_iter().map(|(name, rule)| (name.to_owned(), Value::from(rule))).collect())
    }

    /// What its caller is told.
    pub fn answer(&self) -> ErrorAnswer {
        match self {
            Self::Unauthenticated => ErrorAnswer::new(
                StatusCode::UNAUTHORIZED,
                Code::AuthenticationFailed,
                "nobody is known to be calling; send a token, or sign the request, as this route asks for",
            ),
            Self::Invalid(faults) => {
                let named: Vec<String> = faults
                    .iter()
                    .map(|(name, rule)| format!("{name} {}", rule.as_str().unwrap_or("is wrong")))
                    .collect();
                let message = format!("the request is wrong: {}", named.join("; "));
                ErrorAnswer::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, message)
                    .with_details(Value::Object(faults.clone()))
            }
            Self::NoKey => ErrorAnswer::new(
                StatusCode::BAD_REQUEST,
                Code::MissingIdempotencyKey,
                "an Idempotency-Key is required: choose a new one for each reservation, and repeat it with the request",
            ),
            Self::NotJson => ErrorAnswer::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                Code::UnsupportedMediaType,
                "send the body as application/json",
            ),
            Self::TooLong => ErrorAnswer::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::PayloadTooLarge,
                "the body is longer than 64 KiB; no request of this API needs so much",
            ),
            Self::NoSuchResource => {
                ErrorAnswer::new(StatusCode::NOT_FOUND, Code::NotFound, "there is no such resource; look at its path")
            }
            Self::NoSuchMethod => ErrorAnswer::new(
                StatusCode::METHOD_NOT_ALLOWED,
                Code::MethodNotAllowed,
                "this resource is not used by this method; Allow names those that it is used by",
            ),
            Self::Reservations(error) => of_reservations(error),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Reservations(error)
    }
}

/// The trace id is not known here, so the error goes along as it is and gets its form where the request is.
impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(self.answer());
        response
    }
}

fn of_reservations(error: &Error) -> ErrorAnswer {
    error.write_cause();
    let message = error.to_string();
    match error {
        Error::Unknown => ErrorAnswer::new(StatusCode::NOT_FOUND, Code::ReservationNotFound, message),
        Error::OtherWish => ErrorAnswer::new(StatusCode::UNPROCESSABLE_ENTITY, Code::IdempotencyConflict, message),
        Error::AdmissionRequired => ErrorAnswer::new(StatusCode::FORBIDDEN, Code::AdmissionRequired, message),
        Error::Denied(_) => ErrorAnswer::new(StatusCode::FORBIDDEN, Code::InvalidReservationToken, message),
        Error::TooMany { most } => {
            let rule = format!("must be at most {most}, because the reservation token allows no more");
            Refusal::invalid([("quantity", rule)]).answer()
        }
        Error::TokenUsed => ErrorAnswer::new(StatusCode::CONFLICT, Code::TokenAlreadyUsed, message),
        Error::InProgress { after } => {
            ErrorAnswer::new(StatusCode::CONFLICT, Code::IdempotencyInProgress, message).retry_after(*after)
        }
        Error::NoSeats => ErrorAnswer::new(StatusCode::CONFLICT, Code::SeatUnavailable, message),
        Error::TooManyHolds { .. } => ErrorAnswer::new(StatusCode::CONFLICT, Code::TooManyHolds, message),
        Error::Over => ErrorAnswer::new(StatusCode::CONFLICT, Code::ReservationExpired, message),
        Error::NotPaid { after, .. } => {
            ErrorAnswer::new(StatusCode::PAYMENT_REQUIRED, Code::PaymentNotConfirmed, message).retry_after(*after)
        }
        Error::Conflict(conflict) => of_conflict(conflict),
        Error::Inventory { after, .. } => {
            ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, Code::InventoryServiceError, message).retry_after(*after)
        }
        Error::Payments { after, .. } | Error::Table { after, .. } | Error::Line { after, .. } => {
            ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, Code::ServiceUnavailable, message).retry_after(*after)
        }
    }
}

/// What the reservation is stands in the way.
fn of_conflict(conflict: &Conflict) -> ErrorAnswer {
    let code = match &conflict.reservation.status {
        Status::Confirmed => Code::ReservationAlreadyConfirmed,
        Status::Cancelled => Code::ReservationAlreadyCancelled,
        Status::Pending => Code::ReservationInProgress,
        Status::Hold if conflict.reservation.hold_expires_at > epoch_ms(SystemTime::now()) => Code::HoldNotExtended,
        Status::Hold | Status::Expired | Status::Failed | Status::Refunded | Status::Other(_) => {
            Code::ReservationExpired
        }
    };
    ErrorAnswer::new(StatusCode::CONFLICT, code, conflict.to_string()).retry_after(conflict.after)
}
