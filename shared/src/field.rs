//! The rules of single fields, the same for what a producer sends and for what the reservation API answers. A rule's text
//! fits after the field's name.

use serde_json::Value;

const LONGEST_ID: usize = 256;
const LONGEST_SEAT: usize = 64;
const MOST_TICKETS: usize = 1_000;
const LONGEST_CARRIED: usize = 256;
const LONGEST_TRACE_ID: usize = 64;
/// How many digits the number of a payment card has, by ISO/IEC 7812 and in practice.
const CARD_DIGITS: std::ops::RangeInclusive<usize> = 12..=19;

/// An id: opaque, but fit for a URL's path segment and a log line.
///
/// # Errors
/// The rule that the value breaks.
pub fn id(value: &Value) -> Result<String, &'static str> {
    let valid = |id: &&str| {
        (1..=LONGEST_ID).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_graphic())
            && !matches!(*id, "." | "..")
    };
    let id = value.as_str().filter(valid).map(str::to_owned);
    id.ok_or("must be a string of 1 to 256 visible ASCII characters, and not . or ..")
}

/// The names of seats.
///
/// # Errors
/// The rule that the value breaks; one bad seat spoils them all, because a part of the seats must never be settled.
pub fn seats(value: &Value) -> Result<Vec<String>, &'static str> {
    let seats = value.as_array().ok_or("must be an array")?;
    if seats.len() > MOST_TICKETS {
        return Err("must name at most 1,000 seats");
    }
    let seat = |seat: &Value| {
        let seat = seat.as_str().filter(|seat| !seat.trim().is_empty() && seat.chars().count() <= LONGEST_SEAT);
        seat.map(str::to_owned).ok_or("must hold non-blank strings of at most 64 characters")
    };
    seats.iter().map(seat).collect()
}

/// The number of tickets; beside seats it must be their number.
///
/// # Errors
/// The rule that the value breaks.
pub fn quantity(value: &Value, seats: usize) -> Result<u32, String> {
    let quantity = whole_number(value)
        .and_then(|quantity| u32::try_from(quantity).ok())
        .filter(|quantity| (1..=MOST_TICKETS).contains(&(*quantity as usize)))
        .ok_or("must be a whole number from 1 to 1,000")?;
    if seats > 0 && quantity as usize != seats {
        return Err(format!("is {quantity}, but {seats} seats are named"));
    }
    Ok(quantity)
}

/// A number, or a string of digits: some producers quote every value.
pub fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A text that is only carried on, to a service or to the bus, with at most 256 characters. Nothing is decided by it, so a
/// longer one and a blank one are left out.
pub fn carried(text: String) -> Option<String> {
    let fits = !text.trim().is_empty() && text.chars().nth(LONGEST_CARRIED).is_none();
    fits.then_some(text)
}

/// A trace id: 1 to 64 of `[A-Za-z0-9._-]`, among them the W3C's 32 hex digits. Anything else is left out, because it
/// stands in every log line. So is what may be a card's number, 12 to 19 digits and nothing but separators between them:
/// a trace id of only digits is rare, and its trace is found by the `traceparent` too.
pub fn trace_id(text: String) -> Option<String> {
    let separator = |byte: u8| matches!(byte, b'.' | b'_' | b'-');
    let valid = (1..=LONGEST_TRACE_ID).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || separator(byte));
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit() || separator(byte));
    (valid && !(only_digits && CARD_DIGITS.contains(&digits))).then_some(text)
}
