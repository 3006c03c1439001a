//! What must hold of any message body, whoever made it up. The fuzzer and the property tests ask the same, so it stands
//! here once.

use std::{
    fmt::Write,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;
use shared::{
    event::{Event, EventType, INVALID_FIELD, MALFORMED_BODY, UNKNOWN_TYPE},
    failure::Failure,
};

/// Every type that a function may have as its own.
pub(crate) const TYPES: [EventType; 3] =
    [EventType::ReservationExpired, EventType::PaymentApproved, EventType::PaymentFailed];

/// The longest text that an error quotes has 200 characters, of which each may be escaped as `\u{10ffff}`.
const LONGEST_MESSAGE: usize = 200 * 10 + 200;

/// 1970, November 2026 and the end of the year 9999. The real time would make two runs differ.
const MOMENTS: [u64; 3] = [0, 1_795_000_000, 253_402_300_799];

/// Reads a body as each function would, and returns the event if one accepts it.
///
/// # Panics
/// When something does not hold.
pub(crate) fn read(body: &str) -> Option<Event> {
    let json = serde_json::from_str::<Value>(body).ok();
    let results = TYPES.map(|own| Event::parse(own, body));
    if let Some(json) = &json {
        let respelled = respelled(json);
        let again = TYPES.map(|own| Event::parse(own, &respelled));
        assert_eq!(again, results, "the same JSON, written as {respelled}");
    }
    let owners = results.iter().filter(|result| !is_unknown(result)).count();
    assert!(owners <= 1 || !matches!(json, Some(Value::Object(_))), "an event is one function's own: {results:?}");
    let mut accepted = None;
    for (own, result) in TYPES.into_iter().zip(results) {
        match result {
            Err(failure) => check_refusal(json.as_ref(), &failure),
            Ok(event) => {
                assert_eq!(event.event_type, own);
                check_event(&event);
                accepted = Some(event);
            }
        }
    }
    accepted
}

/// Whether a function leaves an event to the others.
fn is_unknown(result: &Result<Event, Failure>) -> bool {
    matches!(result, Err(Failure::Permanent { code: UNKNOWN_TYPE, .. }))
}

/// A body is refused for good, under a documented code, and with a text that fits into a line of the log.
fn check_refusal(json: Option<&Value>, failure: &Failure) {
    let Failure::Permanent { code, message } = failure else { panic!("a body never changes: {failure:?}") };
    match json {
        Some(Value::Object(_)) => assert!([UNKNOWN_TYPE, INVALID_FIELD].contains(code), "{failure:?}"),
        Some(_) | None => assert_eq!(*code, MALFORMED_BODY, "{failure:?}"),
    }
    assert!(!message.trim().is_empty(), "{failure:?}");
    assert!(message.chars().count() <= LONGEST_MESSAGE, "{failure:?}");
    assert!(!message.contains(char::is_control), "{failure:?}");
}

/// An accepted event can be used for everything that an event is used for.
///
/// # Panics
/// When it can't.
pub(crate) fn check_event(event: &Event) {
    let payment = event.payment.as_ref();
    let amount = payment.and_then(|payment| payment.amount);
    assert_eq!(payment.is_some(), event.event_type != EventType::ReservationExpired, "{event:?}");
    assert!(amount.is_some() || event.event_type != EventType::PaymentApproved, "{event:?}");

    let intent_id = payment.map(|payment| &payment.intent_id);
    for id in [Some(&event.reservation_id), event.event_id.as_ref(), intent_id].into_iter().flatten() {
        check_id(id);
    }

    let seats = event.seat_ids.len();
    assert!(
        event.quantity.is_none_or(|quantity| quantity > 0 && (seats == 0 || quantity as usize == seats)),
        "{event:?}"
    );

    // Whatever stands in the ids, the key can be taken apart into them again, so two identities never share one.
    let key = event.key();
    let parts: Vec<String> = key.as_str().split('#').map(|part| part.replace("%23", "#").replace("%25", "%")).collect();
    let identity = [event.event_type.name(), &event.reservation_id].into_iter().chain(intent_id.map(String::as_str));
    assert!(parts.iter().eq(identity), "{key} of {event:?}");
    assert_eq!(event.key(), key);

    let is_approval = event.event_type == EventType::PaymentApproved;
    assert_eq!(event.unchanging().is_empty(), !is_approval, "{event:?}");

    for moment in MOMENTS {
        check_wait(event, UNIX_EPOCH + Duration::from_secs(moment));
    }
}

/// An id goes into a URL as one segment of its path, and into a log line. tests/properties/parsing.rs sends such ids
/// through the client and looks at what arrives.
fn check_id(id: &str) {
    assert!((1..=256).contains(&id.len()), "{id:?}");
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id:?}");
    assert!(!matches!(id, "." | ".."), "{id:?}");
}

/// Only an expiry waits, and exactly until it is due.
fn check_wait(event: &Event, now: SystemTime) {
    let due = event.expires_at.filter(|due| event.event_type == EventType::ReservationExpired && *due > now);
    assert_eq!(event.early_by(now).map(|wait| now + wait), due, "{event:?}");
}

/// The same JSON as another producer's library may write it: the fields from the last to the first, a blank wherever one
/// may stand, and every character outside ASCII escaped.
fn respelled(json: &Value) -> String {
    let mut text = String::new();
    write_value(&mut text, json);
    text
}

fn write_value(text: &mut String, json: &Value) {
    match json {
        // No rule tells one fraction from another, and serde_json need not read back the very one that it wrote.
        Value::Number(number) if number.is_f64() => text.push_str("0.5"),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&json.to_string()),
        Value::String(string) => write_string(text, string),
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { " " } else { " , " });
                write_value(text, item);
            }
            text.push_str(" ]");
        }
        Value::Object(fields) => {
            text.push('{');
            for (index, (name, value)) in fields.iter().rev().enumerate() {
                text.push_str(if index == 0 { "\n" } else { " ,\n" });
                write_string(text, name);
                text.push_str(" : ");
                write_value(text, value);
            }
            text.push_str("\n}");
        }
    }
}

fn write_string(text: &mut String, string: &str) {
    text.push('"');
    for unit in string.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte @ (b' '..=b'~')) if !matches!(byte, b'"' | b'\\') => text.push(char::from(byte)),
            _ => drop(write!(text, "\\u{unit:04x}")),
        }
    }
    text.push('"');
}
