//! Single fields of an event, each with its rule. A null is an absent field.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::INVALID_FIELD;
use crate::{
    failure::Failure,
    field::{self, whole_number},
};

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

    /// An id, by the rule of [`field::id`].
    pub(super) fn id(&self, names: &[&str]) -> Result<Option<String>, Failure> {
        let Some((name, value)) = self.find(names) else {
            return Ok(None);
        };
        field::id(value).map(Some).map_err(|rule| invalid(name, rule))
    }

    /// A text without a rule; blank, overlong and other types count as absent, because nothing is decided by it.
    pub(super) fn text(&self, names: &[&str]) -> Option<String> {
        const LONGEST: usize = 8 * 1024;
        let text = self.find(names)?.1.as_str()?;
        (!text.trim().is_empty() && text.len() <= LONGEST).then(|| text.to_owned())
    }

    /// The names of seats, none where there are none.
    pub(super) fn seats(&self) -> Result<Vec<String>, Failure> {
        let Some((name, value)) = self.find(&["seat_ids", "seatIds"]) else {
            return Ok(Vec::new());
        };
        field::seats(value).map_err(|rule| invalid(name, rule))
    }

    /// The number of tickets; beside seats it must be their number.
    pub(super) fn quantity(&self, seats: usize) -> Result<Option<u32>, Failure> {
        let Some((name, value)) = self.find(&["qty", "quantity"]) else {
            return Ok(None);
        };
        field::quantity(value, seats).map(Some).map_err(|rule| invalid(name, &rule))
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

fn invalid(name: &str, rule: &str) -> Failure {
    Failure::permanent(INVALID_FIELD, format!("{name} {rule}"))
}
