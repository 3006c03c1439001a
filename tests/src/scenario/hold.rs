//! What a message of somebody's own does not say: the function that it is for, and the reservation that it is about.

use std::collections::BTreeSet;

use redrive::letter::{REASON, UNDELIVERED};
use shared::failure::Failure;
use shared::name::Named;
use shared::settlement::event::{ErrorCode, Event, EventType};

use super::{Given, Record};
use crate::catalogue::{QUEUED, SETTLING};
use crate::inventory::SeatState;
use crate::reservations::Status;
use crate::stack::MOVED_AFTER;

/// Makes a dead letter the message that it was, as a redrive would; tells what was taken off it.
pub(super) fn revive(index: usize, record: &mut Record) -> Option<String> {
    let attributes = &record.message_attributes;
    let text = |name: &str| attributes.get(name)?.string_value.clone();
    let reason = text("error_code").or_else(|| text("ERROR_CODE"));
    let message = text("error_message").or_else(|| text("ERROR_MESSAGE"));
    let names: Vec<&str> = [REASON, UNDELIVERED]
        .iter()
        .flat_map(|stamp| stamp.names_on(|name| attributes.contains_key(name)).collect::<Vec<_>>())
        .collect();
    let was_moved = record.system.contains_key("DeadLetterQueueSourceArn");
    if names.is_empty() && !was_moved && record.receive_count <= MOVED_AFTER {
        return None;
    }
    for name in &names {
        record.message_attributes.remove(*name);
    }
    record.receive_count = 1;
    let why = match (reason, message) {
        (Some(reason), Some(message)) if !names.is_empty() => format!(" ({reason}: {message})"),
        _ => String::new(),
    };
    Some(format!(
        "record {} is a dead letter{why}; it runs as `cargo redrive` would send it, as a first receive",
        index + 1
    ))
}

/// The function that a file is for: that of its folder, or else that of its events, or of its queue.
///
/// # Errors
/// When that is none or more than one, as a sentence that says what to do.
pub(super) fn function(folder: Option<&str>, records: &[Option<Record>], is_promised: bool) -> Result<String, String> {
    let folder = folder.filter(|folder| QUEUED.contains(folder));
    let records = || records.iter().flatten();
    let types: BTreeSet<&str> = records().filter_map(|record| of_type(&record.body)).collect();
    let queues: BTreeSet<&str> = records().filter_map(|record| of_queue(record.source_arn.as_deref()?)).collect();
    // A file with a promise may well be about an event in the wrong queue.
    let found = match folder {
        Some(folder) if is_promised => BTreeSet::from([folder]),
        Some(folder) => types.into_iter().chain([folder]).collect(),
        None if types.is_empty() => queues,
        None => types,
    };
    let choose = format!("name the function by --function, one of {}", QUEUED.join(", "));
    match found.into_iter().collect::<Vec<_>>().as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(format!("neither its folder nor an event in it says which function it is for; {choose}")),
        several => Err(format!("it may be for {}; {choose}", several.join(" or "))),
    }
}

/// The function that settles this event, also where a field of it is wrong.
fn of_type(body: &str) -> Option<&'static str> {
    SETTLING.into_iter().find(|function| is_of(function.workflow.event_type, body)).map(|function| function.name)
}

fn is_of(event_type: EventType, body: &str) -> bool {
    match Event::parse(event_type, body) {
        Ok(_) => true,
        Err(Failure::Permanent { code, .. }) => {
            ![ErrorCode::UnknownType, ErrorCode::MalformedBody].map(Named::name).contains(&code)
        }
        Err(Failure::Transient { .. } | Failure::Early { .. }) => false,
    }
}

/// The function whose queue this is, in whatever stack.
fn of_queue(arn: &str) -> Option<&'static str> {
    let queue = arn.rsplit(':').next()?;
    let queue = queue.strip_suffix("-dlq").unwrap_or(queue);
    let is_of =
        |function: &&str| queue == *function || queue.strip_suffix(*function).is_some_and(|rest| rest.ends_with('-'));
    QUEUED.into_iter().find(is_of)
}

/// The reservations that the events name, each on hold as its first event describes it.
pub(super) fn given(records: &[Record]) -> Vec<Given> {
    let mut given: Vec<Given> = Vec::new();
    for record in records {
        let event =
            SETTLING.into_iter().find_map(|function| Event::parse(function.workflow.event_type, &record.body).ok());
        let Some(event) = event.filter(|event| !given.iter().any(|one| one.reservation_id == event.reservation_id))
        else {
            continue;
        };
        let seats = u32::try_from(event.holding.seat_ids.len()).unwrap_or(u32::MAX);
        given.push(Given {
            event_id: event.holding.show_id.unwrap_or_else(|| format!("evt_of_{}", event.reservation_id)),
            user_id: event.holding.user_id.unwrap_or_default(),
            status: Status::Hold,
            quantity: event.holding.quantity.unwrap_or(seats).max(1),
            seat_ids: event.holding.seat_ids,
            payment_intent_id: None,
            seats: SeatState::Held,
            reservation_id: event.reservation_id,
        });
    }
    given
}
