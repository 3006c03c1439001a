//! What a call says: the fields of its message. Every fault is named at once, and nothing is done before all of it is right.

use std::time::SystemTime;

use connectrpc::ConnectError;
use serde_json::{Map, Value};
use shared::{
    deadline::epoch_ms,
    field::{self, MOST_WISHED},
    trigger::http::ReceivedAt,
    waiting_room::{message::LONGEST_REQUEST, service::Wish},
};

use crate::proto::booking_worker::v1::EnqueueBookingRequest;

/// The longest metadata: its names and its values.
const LONGEST_METADATA: usize = 512;

/// The wish of somebody who wants to stand in a line. He arrived when the gateway received him.
///
/// # Errors
/// The rule of each field that breaks one.
pub(crate) fn wish(
    request: &EnqueueBookingRequest,
    user_id: String,
    ReceivedAt(received): ReceivedAt,
) -> Result<Wish, ConnectError> {
    let mut faults = Vec::new();
    let mut fault = |name: &str, rule: &str| faults.push(format!("{name} {rule}"));
    let show_id = show_id(&request.event_id).map_err(|rule| fault("event_id", rule));
    let seats = u8::try_from(request.seat_count).ok().filter(|seats| (1..=MOST_WISHED).contains(&u32::from(*seats)));
    if seats.is_none() {
        fault("seat_count", &format!("must be a whole number from 1 to {MOST_WISHED}"));
    }
    let metadata = request.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    if metadata > LONGEST_METADATA {
        fault("metadata", &format!("must have at most {LONGEST_METADATA} bytes"));
    }
    let carried = carried(request);
    if metadata <= LONGEST_METADATA && carried.as_ref().is_some_and(|carried| carried.len() > LONGEST_REQUEST) {
        let rule = format!("and metadata must have at most {LONGEST_REQUEST} bytes together, as JSON");
        fault("seat_numbers, currency", &rule);
    }
    let arrival = received.unwrap_or_else(|| epoch_ms(SystemTime::now()));
    match (show_id, seats) {
        (Ok(show_id), Some(seats)) if faults.is_empty() => {
            Ok(Wish { show_id, user_id, seats, arrival, request: carried })
        }
        (Ok(_) | Err(()), Some(_) | None) => Err(ConnectError::invalid_argument(faults.join("; "))),
    }
}

/// The show whose line is meant.
///
/// # Errors
/// The rule that it breaks.
pub(crate) fn show_id(id: &str) -> Result<String, &'static str> {
    field::id(&Value::from(id))
}

/// What is carried and decides nothing, as JSON; nothing, where nothing was said.
fn carried(request: &EnqueueBookingRequest) -> Option<String> {
    let mut fields = Map::new();
    if !request.seat_numbers.is_empty() {
        fields.insert("seat_numbers".to_owned(), request.seat_numbers.clone().into());
    }
    if request.total_amount != 0.0 {
        // What is no number is none in JSON either.
        fields.insert("total_amount".to_owned(), request.total_amount.into());
    }
    if !request.currency.is_empty() {
        fields.insert("currency".to_owned(), request.currency.clone().into());
    }
    if !request.metadata.is_empty() {
        let metadata = request.metadata.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        fields.insert("metadata".to_owned(), Value::Object(metadata.collect()));
    }
    (!fields.is_empty()).then(|| Value::Object(fields).to_string())
}
