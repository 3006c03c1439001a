//! What a call says: the fields of its message. Every fault is named at once, and nothing is done before all of it
//! is right.

use std::time::Duration;

use connectrpc::ConnectError;
use serde_json::{Value, json};
use shared::{
    field::{self, MOST_WISHED, USUAL_PAGE},
    reservation::{
        Status,
        lifecycle::Wish,
        service::{Error, Listing},
        table::Cursor,
    },
};

use crate::{
    fault::of,
    proto::reservation::v1::{CreateReservationRequest, ListReservationsRequest, ReservationStatus},
};

/// The wish of a creation.
///
/// # Errors
/// The rule of each field that breaks one.
pub(crate) fn wish(
    request: &CreateReservationRequest,
    user_id: String,
    trace_id: Option<String>,
) -> Result<Wish, ConnectError> {
    let mut faults = Vec::new();
    let mut fault = |name: &str, rule: &dyn std::fmt::Display| faults.push(format!("{name} {rule}"));
    let show_id = field::id(&Value::from(request.event_id.as_str())).map_err(|rule| fault("event_id", &rule));
    let seat_ids = field::distinct_seats(&json!(request.seat_ids)).map_err(|rule| fault("seat_ids", &rule));
    let seat_ids = seat_ids.unwrap_or_default();
    let quantity = match (request.quantity, u32::try_from(seat_ids.len())) {
        (0, Ok(seats)) if seats > 0 => seats,
        (quantity, _) => field::quantity(&Value::from(quantity), seat_ids.len())
            .map_err(|rule| fault("quantity", &rule))
            .unwrap_or_default(),
    };
    if quantity > MOST_WISHED {
        fault("quantity", &format!("must be at most {MOST_WISHED}"));
    }
    let key = field::idempotency_key(&request.idempotency_key).map_err(|rule| fault("idempotency_key", &rule));
    match (show_id, key) {
        (Ok(show_id), Ok(key)) if faults.is_empty() => {
            Ok(Wish { user_id, show_id, seat_ids, quantity, key: key.to_owned(), trace_id })
        }
        (Ok(_) | Err(()), Ok(_) | Err(())) => Err(ConnectError::invalid_argument(faults.join("; "))),
    }
}

/// The reservation that a call is about.
///
/// # Errors
/// When no reservation of ours has this id, which is not told from one that is not there.
pub(crate) fn reservation(id: &str) -> Result<&str, ConnectError> {
    field::own_id(id).ok_or_else(|| of(Error::Unknown))
}

/// The payment of a confirm.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn payment(id: &str) -> Result<&str, ConnectError> {
    match field::id(&Value::from(id)) {
        Ok(_) => Ok(id),
        Err(rule) => Err(ConnectError::invalid_argument(format!("payment_intent_id {rule}"))),
    }
}

/// The key of a change that needs none.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn optional_key(key: &str) -> Result<Option<&str>, ConnectError> {
    if key.is_empty() {
        return Ok(None);
    }
    let key = field::idempotency_key(key);
    key.map(Some).map_err(|rule| ConnectError::invalid_argument(format!("idempotency_key {rule}")))
}

/// How much longer a hold shall last.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn extension(seconds: i32) -> Result<Duration, ConnectError> {
    field::extension(seconds).map_err(|rule| ConnectError::invalid_argument(format!("extension_seconds {rule}")))
}

/// Which reservations a list asks for.
///
/// # Errors
/// The rule of each field that breaks one.
pub(crate) fn listing(request: &ListReservationsRequest) -> Result<Listing, ConnectError> {
    let mut listing = Listing { limit: USUAL_PAGE, ..Listing::default() };
    let mut faults = Vec::new();
    match request.status.as_known() {
        Some(ReservationStatus::RESERVATION_STATUS_UNSPECIFIED) => {}
        Some(ReservationStatus::RESERVATION_STATUS_PENDING) => listing.status = Some(Status::Pending),
        Some(ReservationStatus::RESERVATION_STATUS_HOLD) => listing.status = Some(Status::Hold),
        Some(ReservationStatus::RESERVATION_STATUS_CONFIRMED) => listing.status = Some(Status::Confirmed),
        Some(ReservationStatus::RESERVATION_STATUS_CANCELLED) => listing.status = Some(Status::Cancelled),
        Some(ReservationStatus::RESERVATION_STATUS_EXPIRED) => listing.status = Some(Status::Expired),
        Some(ReservationStatus::RESERVATION_STATUS_FAILED) => listing.status = Some(Status::Failed),
        Some(ReservationStatus::RESERVATION_STATUS_REFUNDED) | None => {
            faults.push("status must be one that a reservation has here".to_owned());
        }
    }
    if !request.event_id.is_empty() {
        match field::id(&Value::from(request.event_id.as_str())) {
            Ok(show_id) => listing.show_id = Some(show_id),
            Err(rule) => faults.push(format!("event_id {rule}")),
        }
    }
    if let Some(pagination) = request.pagination.as_option() {
        if pagination.page > 1 {
            faults.push("page is not counted here: go on with the cursor of the answer before".to_owned());
        }
        // Zero is what protobuf has where nobody said anything.
        if pagination.page_size != 0 {
            match field::page_size(pagination.page_size) {
                Ok(size) => listing.limit = size,
                Err(rule) => faults.push(format!("page_size {rule}")),
            }
        }
        if !pagination.cursor.is_empty() {
            listing.after = Cursor::read(&pagination.cursor);
            if listing.after.is_none() {
                faults.push("cursor must be the next_cursor of an earlier answer".to_owned());
            }
        }
    }
    if faults.is_empty() { Ok(listing) } else { Err(ConnectError::invalid_argument(faults.join("; "))) }
}
