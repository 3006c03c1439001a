//! Single fields of an event, each with its rule. A null is an absent field.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::INVALID_FIELD;
use crate::failure::Failure;

const LONGEST_ID: usize = 256;
const LONGEST_SEAT: usize = 64;
const MOST_TICKETS: usize = 1_000;
/// The last second of the year 9999. Milliseconds that were taken for seconds lie far beyond it.
const LAST_SECOND: u64 = 253_402_300_799;

/// Where an event's fields stand: its detail, and for the oldest envelope the top level too.
pub(super) struct Fields<'a> {
    scopes: [Option<&'a Map<String, Value>>; 2],
}

impl<'a> Fields<'a> {
    pub(super) fn of(envelope: &'a Map<String, Value>) -> Result<Self, Failure> {
        let inner = |name: &str| envelope.get(name).filter(|value| !value.is_null());
        match (inner("detail"), inner("payload")) {
            (Some(Value::Object(detail)), _) => Ok(Self { scopes: [Some(detail), None] }),
            (None, Some(Value::Object(payload))) => Ok(Self { scopes: [Some(payload), Some(envelope)] }),
            (None, None) => Err(invalid("detail", "is missing")),
            (Some(_), _) => Err(invalid("detail", "must be an object")),
            (None, Some(_)) => Err(invalid("payload", "must be an object")),
        }
    }

    /// The first of `names` that is there, with the name it goes by.
    fn find<'n>(&self, names: &[&'n str]) -> Option<(&'n str, &'a Value)> {
        self.scopes.iter().flatten().find_map(|scope| {
            names.iter().find_map(|name| scope.get(*name).filter(|value| !value.is_null()).map(|value| (*name, value)))
        })
    }

    /// An id: opaque, but fit for a URL's path segment and a log line.
    pub(super) fn id(&self, names: &[&str]) -> Result<Option<String>, Failure> {
        let Some((name, value)) = self.find(names) else {
            return Ok(None);
        };
        let valid = |id: &&str| {
            (1..=LONGEST_ID).contains(&id.len())
                && id.bytes().all(|byte| byte.is_ascii_graphic())
                && !matches!(*id, "." | "..")
        };
        match value.as_str().filter(valid) {
            Some(id) => Ok(Some(id.to_owned())),
            None => Err(invalid(name, "must be a string of 1 to 256 visible ASCII characters, and not . or ..")),
        }
    }

    /// A text without a rule; blank, overlong and other types count as absent, because nothing is decided by it.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        const LONGEST: usize = 8 * 1024;
        let text = self.find(names)?.1.as_str()?;
        (!text.trim().is_empty() && text.len() <= LONGEST).then(|| text.to_owned())
    }

    pub(super) fn seats(&self) -> Result<Vec<String>, Failure> {
        let Some((name, value)) = self.find(&["seat_ids", "seatIds"]) else {
            return Ok(Vec::new());
        };
        let seats = value.as_array().ok_or_else(|| invalid(name, "must be an array"))?;
        if seats.len() > MOST_TICKETS {
            return Err(invalid(name, "must name at most 1,000 seats"));
        }
        let seat = |seat: &Value| {
            let seat = seat.as_str().filter(|seat| !seat.trim().is_empty() && seat.chars().count() <= LONGEST_SEAT);
            seat.map(str::to_owned).ok_or_else(|| invalid(name, "must hold non-blank strings of at most 64 characters"))
        };
        seats.iter().map(seat).collect()
    }

    /// The number of tickets; beside seats it must be their number.
    pub(super) fn quantity(&self, seats: usize) -> Result<Option<u32>, Failure> {
        let Some((name, value)) = self.find(&["qty", "quantity"]) else {
            return Ok(None);
        };
        let quantity = whole_number(value)
            .and_then(|quantity| u32::try_from(quantity).ok())
            .filter(|quantity| (1..=MOST_TICKETS).contains(&(*quantity as usize)))
            .ok_or_else(|| invalid(name, "must be a whole number from 1 to 1,000"))?;
        if seats > 0 && quantity as usize != seats {
            return Err(invalid(name, &format!("is {quantity}, but {seats} seats are named")));
        }
        Ok(Some(quantity))
    }

    pub(super) fn amount(&self) -> Result<Option<u64>, Failure> {
        let Some((name, value)) = self.find(&["amount"]) else {
            return Ok(None);
        };
        let amount = whole_number(value).filter(|amount| i64::try_from(*amount).is_ok());
        amount
            .map(Some)
            .ok_or_else(|| invalid(name, "must be a whole number of at least 0, in the currency's minor unit"))
    }

    /// A moment as RFC 3339 or in epoch seconds.
    pub(super) fn time(&self, names: &[&str]) -> Result<Option<SystemTime>, Failure> {
        let Some((name, value)) = self.find(names) else {
            return Ok(None);
        };
        let seconds = whole_number(value).filter(|seconds| *seconds <= LAST_SECOND);
        let time = seconds.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds)).or_else(|| {
            let text = value.as_str()?;
            OffsetDateTime::parse(text, &Rfc3339).ok().map(SystemTime::from)
        });
        time.map(Some).ok_or_else(|| invalid(name, "must be a time in RFC 3339, or epoch seconds"))
    }
}

/// A number, or a string of digits: some producers quote every value.
fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn invalid(name: &str, rule: &str) -> Failure {
    Failure::permanent(INVALID_FIELD, format!("{name} {rule}"))
}
