//! Single fields of an event, each with its rule. A null is an absent field.
//!
//! What decides must have one value wherever it may stand: under one name twice, under both spellings of a name, and in
//! the oldest envelope at the top level and in its payload. What is only carried on is kept or left out.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::ErrorCode;
use crate::{
    failure::Failure,
    field::{self, whole_number},
    json::{self, Fault, Object, Unusable},
};

/// The last second of the year 9999. Milliseconds that were taken for seconds lie far beyond it.
const LAST_SECOND: u64 = 253_402_300_799;

/// Where an event's fields stand: its detail, and for the oldest envelope the top level too.
pub(super) struct Fields<'a> {
    inner: Object<'a>,
    outer: Option<&'a Object<'a>>,
}

impl<'a> Fields<'a> {
    /// The `detail` goes before the `payload`, which is not read beside it.
    pub(super) fn of(envelope: &'a Object<'a>) -> Result<Self, Failure> {
        let inner = |name| envelope.object(name).map_err(|fault| unusable(name, &fault));
        if let Some(inner) = inner("detail")? {
            return Ok(Self { inner, outer: None });
        }
        match inner("payload")? {
            Some(inner) => Ok(Self { inner, outer: Some(envelope) }),
            None => Err(failure(Unusable::Invalid("detail is missing".to_owned()))),
        }
    }

    /// What `rule` makes of the field that goes by `names`.
    fn one<T: PartialEq, R: AsRef<str>>(
        &self,
        names: &[&str],
        rule: impl Fn(&Value) -> Result<T, R>,
    ) -> Result<Option<T>, Failure> {
        json::one(std::iter::once(&self.inner).chain(self.outer), names, rule).map_err(failure)
    }

    /// An id, by the rule of [`field::id`].
    pub(super) fn id(&self, names: &[&str]) -> Result<Option<String>, Failure> {
        self.one(names, field::id)
    }

    /// A text that decides nothing: the first that is one, by whatever else `fit` asks.
    pub(super) fn text(&self, names: &[&str], fit: impl Fn(String) -> Option<String>) -> Option<String> {
        let scopes = std::iter::once(&self.inner).chain(self.outer);
        let mut texts = scopes.flat_map(|scope| names.iter().filter_map(|name| scope.text(name)));
        texts.find_map(fit)
    }

    /// The names of seats, none where there are none.
    pub(super) fn seats(&self) -> Result<Vec<String>, Failure> {
        Ok(self.one(&["seat_ids", "seatIds"], field::seats)?.unwrap_or_default())
    }

    /// The number of tickets; beside seats it must be their number.
    pub(super) fn quantity(&self, seats: usize) -> Result<Option<u32>, Failure> {
        self.one(&["qty", "quantity"], |value| field::quantity(value, seats))
    }

    pub(super) fn amount(&self) -> Result<Option<u64>, Failure> {
        self.one(&["amount"], |value| {
            let amount = whole_number(value).filter(|amount| i64::try_from(*amount).is_ok());
            amount.ok_or("must be a whole number of at least 0, in the currency's minor unit")
        })
    }

    /// A moment as RFC 3339 or in epoch seconds.
    pub(super) fn time(&self, names: &[&str]) -> Result<Option<SystemTime>, Failure> {
        self.one(names, |value| {
            let since_1970 = whole_number(value).map(Duration::from_secs).or_else(|| seconds_and_fraction(value));
            let time = since_1970.filter(|time| time.as_secs() <= LAST_SECOND).map(|time| UNIX_EPOCH + time);
            let time = time.or_else(|| OffsetDateTime::parse(value.as_str()?, &Rfc3339).ok().map(SystemTime::from));
            time.ok_or("must be a time in RFC 3339, or epoch seconds")
        })
    }
}

/// Seconds with a fraction, as a number or as digits on both sides of a point.
fn seconds_and_fraction(value: &Value) -> Option<Duration> {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => {
            let (whole, part) = text.split_once('.')?;
            (digits(whole) && digits(part)).then(|| text.parse().ok()).flatten()?
        }
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

/// Why a field of the event can't be used.
pub(super) fn unusable(name: &str, fault: &Fault) -> Failure {
    failure(Unusable::of(name, fault))
}

fn failure(unusable: Unusable) -> Failure {
    match unusable {
        Unusable::Ambiguous(what) => {
            Failure::permanent(ErrorCode::MalformedBody, format!("the body is ambiguous: {what}"))
        }
        Unusable::Invalid(what) => Failure::permanent(ErrorCode::InvalidField, what),
    }
}
