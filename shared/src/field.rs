//! The rules of single fields, the same for what a producer sends and for what the reservation API answers. A rule's text
//! fits after the field's name.

use std::time::Duration;

use serde_json::Value;

const LONGEST_ID: usize = 256;
/// As `trigger::http::Caller` takes it: OpenID Connect allows no longer subject.
const LONGEST_CUSTOMER: usize = 255;
const LONGEST_SEAT: usize = 64;
const MOST_TICKETS: usize = 1_000;
const LONGEST_CARRIED: usize = 256;
const LONGEST_KEY: usize = 255;

/// The most tickets that a customer may wish for at once.
pub const MOST_WISHED: u32 = 10;

/// The longest extension that is understood, in seconds. How much of it a hold gets, its terms say.
pub const LONGEST_EXTENSION: u32 = 86_400;

/// The reservations of a page where nobody says.
pub const USUAL_PAGE: u8 = 20;

/// The most reservations of a page.
pub const LONGEST_PAGE: u8 = 100;

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

/// The name of a customer, as the issuer of his tokens chose it.
///
/// # Errors
/// The rule that the value breaks.
pub fn customer(value: &Value) -> Result<String, &'static str> {
    let fits = |id: &&str| (1..=LONGEST_CUSTOMER).contains(&id.len()) && !id.trim().is_empty();
    value.as_str().filter(fits).map(str::to_owned).ok_or("must be a string of at most 255 bytes that is not blank")
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

/// The names of seats that are wished for, each once: a seat that is asked for twice is a mistake, and nobody knows which.
///
/// # Errors
/// The rule that the value breaks.
pub fn distinct_seats(value: &Value) -> Result<Vec<String>, String> {
    let seats = seats(value)?;
    let mut sorted = seats.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("names {:?} more than once", pair[0])),
        None => Ok(seats),
    }
}

/// The id of a reservation of ours: it stands in a path, in a log line and in a key of the table, and needs no escape in any.
pub fn own_id(id: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    Some(id).filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain))
}

/// The key that tells a customer's repeat from another request.
///
/// # Errors
/// The rule that it breaks.
pub fn idempotency_key(key: &str) -> Result<&str, &'static str> {
    let fits = (1..=LONGEST_KEY).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._~:+/=-".contains(&byte));
    if fits { Ok(key) } else { Err("must be 1 to 255 of A-Z a-z 0-9 . _ ~ : + / = - and stand there once") }
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

/// How much longer a hold shall last, in seconds.
///
/// # Errors
/// The rule that the number breaks.
pub fn extension(seconds: impl TryInto<u32>) -> Result<Duration, &'static str> {
    let seconds = seconds.try_into().ok().filter(|seconds| (1..=LONGEST_EXTENSION).contains(seconds));
    seconds.map(|seconds| Duration::from_secs(seconds.into())).ok_or("must be a whole number from 1 to 86,400")
}

/// How many reservations a page shall have.
///
/// # Errors
/// The rule that the number breaks.
pub fn page_size(size: impl TryInto<u8>) -> Result<u8, &'static str> {
    let size = size.try_into().ok().filter(|size| (1..=LONGEST_PAGE).contains(size));
    size.ok_or("must be a whole number from 1 to 100")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_and_a_page_have_their_ends_and_the_rule_names_them() {
        for (seconds, fits) in [(-1, false), (0, false), (1, true), (86_400, true), (86_401, false), (i64::MAX, false)]
        {
            let expected = u64::try_from(seconds).map(Duration::from_secs).ok().filter(|_| fits);
            assert_eq!(extension(seconds).ok(), expected, "{seconds}");
        }
        for (size, fits) in [(-1, false), (0, false), (1, true), (100, true), (101, false), (i32::MAX, false)] {
            assert_eq!(page_size(size).is_ok(), fits, "{size}");
        }
        assert_eq!(extension(0), Err("must be a whole number from 1 to 86,400"));
        assert_eq!(page_size(0), Err("must be a whole number from 1 to 100"));
    }
}
