//! From a message body to an event about a booking that can be trusted.
//!
//! Two forms are read: EventBridge's envelope, whose `detail-type` says what happened, and the bare event, which is what the
//! queue or the topic says that it holds. Names are in camelCase or in snake_case, and numbers may be strings. What is not read
//! is not judged.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    ErrorCode,
    stay::{self, Stay, Written},
};
use crate::{
    failure::{Failure, quoted},
    field::{self, whole_number},
    json::{self, Object, Unusable},
    name::{Named, names},
};

names! {
    /// The events about bookings, by their names in envelopes, keys, logs and metrics.
    pub enum EventType {
        /// A guest has booked a room.
        Created = "booking.created",
        /// A guest has given his booking up.
        Cancelled = "booking.cancelled",
    }
}

/// The most guests of one booking.
const MOST_GUESTS: u64 = 1_000;

/// As many characters as an e-mail address may have.
const LONGEST_USER: usize = 320;

/// The longest name of a room, in characters.
const LONGEST_ROOM: usize = 256;

/// As many characters as the column of the payment takes.
const LONGEST_PAYMENT: usize = 255;

/// A user as a producer names him: by e-mail address, by user name, or by his number.
#[derive(Clone, PartialEq, Eq)]
pub struct UserRef {
    text: String,
}

impl UserRef {
    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// His number, if all of it is digits and a user may have that number.
    pub fn number(&self) -> Option<i32> {
        let digits = self.text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| self.text.parse().ok()).flatten()
    }
}

/// A person is behind it, so that it shows nowhere.
impl std::fmt::Debug for UserRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

/// What a body says of its trace: of the envelope, then of the detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contexts {
    /// `traceparent`.
    pub traceparents: [Option<String>; 2],
    /// `baggage`.
    pub baggages: [Option<String>; 2],
}

/// An event about a booking.
pub trait BookingEvent: Send + Sync + Sized {
    /// Which of them it is.
    const TYPE: EventType;

    /// Reads the body of a message that must hold such an event.
    ///
    /// # Errors
    /// Permanent: a body that is wrong once is wrong forever.
    fn parse(body: &str) -> Result<Self, Failure>;

    /// The booking that it is about.
    fn booking_id(&self) -> &str;

    /// What the body says of its trace.
    fn contexts(&self) -> &Contexts;
}

/// A guest has booked a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The booking.
    pub booking_id: String,
    /// Who booked.
    pub user: UserRef,
    /// The room, by the name that its house gives it.
    pub room: String,
    /// How many people come, 1 to 1,000.
    pub guests: i32,
    /// When.
    pub stay: Stay,
    /// What it was paid by.
    pub payment_id: Option<String>,
    /// The trace.
    pub contexts: Contexts,
}

/// A guest has given his booking up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    /// The booking.
    pub booking_id: String,
    /// Who gave it up.
    pub user: UserRef,
    /// The trace.
    pub contexts: Contexts,
}

/// The fields of an event, and the envelope that they came in.
struct Fields<'a> {
    envelope: Option<Object<'a>>,
    detail: Object<'a>,
}

impl BookingEvent for Created {
    const TYPE: EventType = EventType::Created;

    fn parse(body: &str) -> Result<Self, Failure> {
        let fields = Fields::of(Self::TYPE, body)?;
        let start: Written = fields.required(&["startDate", "start_date"], stay::written)?;
        let end = fields.required(&["endDate", "end_date"], stay::written)?;
        let stay = Stay::new(start, end).map_err(|broken| invalid(format!("endDate {broken}")))?;
        Ok(Self {
            booking_id: fields.booking_id()?,
            user: fields.user()?,
            room: fields.required(&["roomId", "room_id"], |value| name(value, LONGEST_ROOM))?,
            guests: fields.required(&["guests"], guests)?,
            stay,
            payment_id: fields.optional(&["paymentId", "payment_id"], payment)?.flatten(),
            contexts: fields.contexts(),
        })
    }

    fn booking_id(&self) -> &str {
        &self.booking_id
    }

    fn contexts(&self) -> &Contexts {
        &self.contexts
    }
}

impl Created {
    /// What must be the same in every event of one booking, as 32 bytes. It is of the event and not of the stored row: a user
    /// or a room may have another name by now.
    pub fn hash(&self) -> [u8; 32] {
        let Self { booking_id: _, user, room, guests, stay, payment_id, contexts: _ } = self;
        let moment =
            |at: Option<time::OffsetDateTime>| at.map_or_else(String::new, |at| at.unix_timestamp_nanos().to_string());
        let parts = [
            user.text().to_owned(),
            room.clone(),
            guests.to_string(),
            stay.start_date.to_string(),
            stay.end_date.to_string(),
            moment(stay.starts_at),
            moment(stay.ends_at),
            payment_id.clone().unwrap_or_default(),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            // The length in front keeps two neighbours from running into one another.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part.as_bytes());
        }
        hash.finalize().into()
    }
}

impl BookingEvent for Cancelled {
    const TYPE: EventType = EventType::Cancelled;

    fn parse(body: &str) -> Result<Self, Failure> {
        let fields = Fields::of(Self::TYPE, body)?;
        Ok(Self { booking_id: fields.booking_id()?, user: fields.user()?, contexts: fields.contexts() })
    }

    fn booking_id(&self) -> &str {
        &self.booking_id
    }

    fn contexts(&self) -> &Contexts {
        &self.contexts
    }
}

impl<'a> Fields<'a> {
    fn of(own: EventType, body: &'a str) -> Result<Self, Failure> {
        let object = Object::read(body).map_err(|fault| malformed(format!("the body {fault}")))?;
        let unreadable = |name: &str, fault| failure(Unusable::of(name, &fault));
        let stated = object.get("detail-type").map_err(|fault| unreadable("detail-type", fault))?;
        let Some(stated) = stated else {
            return Ok(Self { envelope: None, detail: object });
        };
        if stated.as_str() != Some(own.name()) {
            let stated = quoted(stated.as_str().unwrap_or("no string")).into_owned();
            let message =
                format!("detail-type must be {:?}, not {stated:?}; check the rule that routes it here", own.name());
            return Err(Failure::permanent(ErrorCode::UnknownType, message));
        }
        let detail = object.object("detail").map_err(|fault| unreadable("detail", fault))?;
        let detail = detail.ok_or_else(|| invalid("detail is missing".to_owned()))?;
        Ok(Self { envelope: Some(object), detail })
    }

    fn optional<T: PartialEq, R: AsRef<str>>(
        &self,
        names: &[&str],
        rule: impl Fn(&Value) -> Result<T, R>,
    ) -> Result<Option<T>, Failure> {
        json::one([&self.detail], names, rule).map_err(failure)
    }

    fn required<T: PartialEq, R: AsRef<str>>(
        &self,
        names: &[&str],
        rule: impl Fn(&Value) -> Result<T, R>,
    ) -> Result<T, Failure> {
        let missing = || invalid(format!("{} is missing", names.first().copied().unwrap_or_default()));
        self.optional(names, rule)?.ok_or_else(missing)
    }

    fn booking_id(&self) -> Result<String, Failure> {
        self.required(&["bookingId", "booking_id"], field::id)
    }

    fn user(&self) -> Result<UserRef, Failure> {
        let user = self.required(&["userId", "user_id"], |value| name(value, LONGEST_USER))?;
        Ok(UserRef { text: user })
    }

    fn contexts(&self) -> Contexts {
        let of = |name| [self.envelope.as_ref().and_then(|envelope| envelope.text(name)), self.detail.text(name)];
        Contexts { traceparents: of("traceparent"), baggages: of("baggage") }
    }
}

/// A name of somebody's or something's: a text, or a whole number.
fn name(value: &Value, longest: usize) -> Result<String, String> {
    let text = match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => number.as_u64().map(|number| number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let fits = |text: &String| {
        !text.trim().is_empty() && text.chars().nth(longest).is_none() && !text.contains(char::is_control)
    };
    text.filter(fits).ok_or_else(|| format!("must be a text of 1 to {longest} characters, without control characters"))
}

fn guests(value: &Value) -> Result<i32, &'static str> {
    let guests = whole_number(value).filter(|guests| (1..=MOST_GUESTS).contains(guests));
    guests.and_then(|guests| i32::try_from(guests).ok()).ok_or("must be a whole number from 1 to 1,000")
}

/// Nothing is an empty text too, because some producers write so what they have not.
fn payment(value: &Value) -> Result<Option<String>, &'static str> {
    if value.as_str() == Some("") {
        return Ok(None);
    }
    let id = field::id(value)?;
    if id.len() > LONGEST_PAYMENT { Err("must have at most 255 characters") } else { Ok(Some(id)) }
}

fn failure(unusable: Unusable) -> Failure {
    match unusable {
        Unusable::Ambiguous(what) => malformed(format!("the body is ambiguous: {what}")),
        Unusable::Invalid(what) => invalid(what),
    }
}

fn malformed(message: String) -> Failure {
    Failure::permanent(ErrorCode::MalformedBody, message)
}

fn invalid(message: String) -> Failure {
    Failure::permanent(ErrorCode::InvalidField, message)
}

#[cfg(test)]
mod tests;
