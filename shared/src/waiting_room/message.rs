//! What the functions of the waiting room are told, and tell one another: that somebody wants to stand in a line, that a line's
//! next second has come, and that something became of a reservation.

use serde_json::{Value, json};

use super::{
    Moment,
    id::{PlaceId, VERSIONS},
    line::Scope,
    place::Turn,
};
use crate::{
    failure::{Failure, quoted},
    field,
    json::{self, Fault, Object, Unusable},
    name::names,
};

names! {
    /// The codes of bodies that hold no valid message.
    pub enum ErrorCode {
        /// The body is no JSON object, or an ambiguous one.
        MalformedBody = "malformed_body",
        /// The event is not the function's own.
        UnknownType = "unknown_type",
        /// A field is missing or breaks its rule.
        InvalidField = "invalid_field",
    }
}

names! {
    /// The messages that the functions behind queues read, by their names in logs and metrics.
    pub enum Kind {
        /// Somebody wants to stand in a line.
        Joined = "line.joined",
        /// A line's next second has come.
        Ticked = "line.ticked",
        /// Something became of a reservation.
        Settled = "line.settled",
        /// Something is to be told to who waits.
        Called = "line.called",
    }
}

names! {
    /// What is published of a line. Its `source` is `holdfast`.
    pub enum EventKind {
        /// It is a place's turn.
        Called = "place.called",
        /// A place's turn was offered, and nobody answered.
        Passed = "place.passed",
        /// A place's turn is over, with tickets or without.
        Settled = "place.settled",
        /// The last ticket was sold.
        SoldOut = "line.sold_out",
    }
}

names! {
    /// How a turn ended: the `outcome` of what is published of it.
    pub enum End {
        /// With tickets.
        Sold = "sold",
        /// Without any.
        Ended = "ended",
        /// Before there was a reservation, because its customer left or was not heard of.
        GivenUp = "given_up",
    }
}

/// The events of a reservation that may move its place.
pub const RESERVATION_EVENTS: [&str; 5] = [
    "reservation.created",
    "reservation.confirmed",
    "reservation.cancelled",
    "reservation.expired",
    "reservation.failed",
];

/// The longest request that a place carries, in bytes.
pub const LONGEST_REQUEST: usize = 700;

/// Somebody wants to stand in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinMessage {
    /// The line, as it was when he asked.
    pub scope: Scope,
    /// The customer.
    pub user_id: String,
    /// The tickets that he wants.
    pub seats: u8,
    /// When he reached the gateway.
    pub arrival: Moment,
    /// What else he said, as JSON.
    pub request: Option<String>,
}

/// A line's next second has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TickMessage {
    /// The show whose line is meant.
    pub show_id: String,
}

/// Something became of a reservation that was made by a turn. It is only a hint: who is told asks what the reservation is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReservationMessage {
    /// The show that the tickets are for.
    pub show_id: String,
    /// The turn that it was made by; nothing, where it was made without one.
    pub turn: Option<Turn>,
}

impl JoinMessage {
    /// As the body of a message.
    pub fn body(&self) -> String {
        let mut body = json!({
            "event_id": self.scope.show_id,
            "generation": self.scope.generation,
            "key_version": self.scope.key_version,
            "user_id": self.user_id,
            "seat_count": self.seats,
            "arrival_ms": self.arrival,
        });
        if let Some(request) = &self.request {
            body["request"] = Value::from(request.as_str());
        }
        body.to_string()
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// Permanent: a body that is wrong once is wrong forever.
    pub fn parse(body: &str) -> Result<Self, Failure> {
        let fields = Object::read(body).map_err(|fault| malformed(format!("the body {fault}")))?;
        let scope = Scope {
            show_id: required(&fields, "event_id", field::id)?,
            generation: required(&fields, "generation", whole)?,
            key_version: required(&fields, "key_version", |value| {
                let version = whole(value)?;
                if VERSIONS.contains(&version) { Ok(version) } else { Err("must be from 1 to 9") }
            })?,
        };
        let user_id = required(&fields, "user_id", field::customer)?;
        let seats = required(&fields, "seat_count", |value| {
            whole(value).and_then(|seats: u8| if seats == 0 { Err("must be at least 1") } else { Ok(seats) })
        })?;
        let arrival = required(&fields, "arrival_ms", |value| {
            whole(value).and_then(|at: u64| if at >> 48 == 0 { Ok(at) } else { Err("must be milliseconds since 1970") })
        })?;
        let request = optional(&fields, "request", |value| {
            let fits = value.as_str().filter(|text| text.len() <= LONGEST_REQUEST).map(str::to_owned);
            fits.ok_or("must be a string of at most 700 bytes")
        })?;
        Ok(Self { scope, user_id, seats, arrival, request })
    }
}

impl TickMessage {
    /// As the body of a message.
    pub fn body(&self) -> String {
        json!({"event_id": self.show_id}).to_string()
    }

    /// Reads the body of a message.
    ///
    /// # Errors
    /// Permanent: a body that is wrong once is wrong forever.
    pub fn parse(body: &str) -> Result<Self, Failure> {
        let fields = Object::read(body).map_err(|fault| malformed(format!("the body {fault}")))?;
        Ok(Self { show_id: required(&fields, "event_id", field::id)? })
    }
}

impl ReservationMessage {
    /// Reads the body of a message: an event in EventBridge's envelope.
    ///
    /// # Errors
    /// Permanent: a body that is wrong once is wrong forever.
    pub fn parse(body: &str) -> Result<Self, Failure> {
        let known = |stated: &str| RESERVATION_EVENTS.contains(&stated).then_some(());
        let ((), detail) = event(body, "one of a reservation", known)?;
        let show_id = required(&detail, "event_id", field::id)?;
        let reservation_id = required(&detail, "reservation_id", field::id)?;
        let item = optional(&detail, "queue_item_id", place)?;
        // A reservation says itself which turn made it. One that names another place was made by nobody's turn.
        let turn = Turn::of_reservation(&reservation_id).filter(|turn| Some(turn.id) == item);
        Ok(Self { show_id, turn })
    }
}

/// Reads an event in EventBridge's envelope: what `known` makes of its type, which is one of `these`, and its detail.
///
/// # Errors
/// Permanent: a body that is wrong once is wrong forever.
pub(super) fn event<'a, T>(
    body: &'a str,
    these: &str,
    known: impl FnOnce(&str) -> Option<T>,
) -> Result<(T, Object<'a>), Failure> {
    let envelope = Object::read(body).map_err(|fault| malformed(format!("the body {fault}")))?;
    let stated = required(&envelope, "detail-type", text)?;
    let kind = known(&stated).ok_or_else(|| {
        let stated = quoted(&stated);
        let message = format!("detail-type must be {these}, not {stated:?}; check the rule that routes it here");
        Failure::permanent(ErrorCode::UnknownType, message)
    })?;
    let detail = envelope.object("detail").map_err(|fault| unusable("detail", &fault))?;
    Ok((kind, detail.ok_or_else(|| invalid("detail is missing".to_owned()))?))
}

/// The name of a place.
pub(super) fn place(value: &Value) -> Result<PlaceId, &'static str> {
    value.as_str().and_then(|text| text.parse().ok()).ok_or("must be the name of a place")
}

pub(super) fn text(value: &Value) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or("must be a string")
}

pub(super) fn required<T: PartialEq, R: AsRef<str>>(
    fields: &Object<'_>,
    name: &str,
    rule: impl Fn(&Value) -> Result<T, R>,
) -> Result<T, Failure> {
    optional(fields, name, rule)?.ok_or_else(|| invalid(format!("{name} is missing")))
}

pub(super) fn optional<T: PartialEq, R: AsRef<str>>(
    fields: &Object<'_>,
    name: &str,
    rule: impl Fn(&Value) -> Result<T, R>,
) -> Result<Option<T>, Failure> {
    json::one([fields], &[name], rule).map_err(failure)
}

pub(super) fn whole<T: TryFrom<u64>>(value: &Value) -> Result<T, &'static str> {
    value.as_u64().and_then(|number| number.try_into().ok()).ok_or("must be a whole number in range")
}

fn unusable(name: &str, fault: &Fault) -> Failure {
    failure(Unusable::of(name, fault))
}

fn failure(unusable: Unusable) -> Failure {
    match unusable {
        Unusable::Ambiguous(text) => malformed(format!("the body is ambiguous: {text}")),
        Unusable::Invalid(text) => invalid(text),
    }
}

fn malformed(message: String) -> Failure {
    Failure::permanent(ErrorCode::MalformedBody, message)
}

fn invalid(message: String) -> Failure {
    Failure::permanent(ErrorCode::InvalidField, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join() -> JoinMessage {
        JoinMessage {
            scope: Scope { show_id: "evt_1".to_owned(), generation: 2, key_version: 3 },
            user_id: "usr_1".to_owned(),
            seats: 4,
            arrival: 1_764_000_000_123,
            request: Some(r#"{"metadata": 1}"#.to_owned()),
        }
    }

    #[test]
    fn a_message_reads_back_from_its_body() {
        let without = JoinMessage { request: None, ..join() };
        for join in [join(), without] {
            assert_eq!(JoinMessage::parse(&join.body()), Ok(join));
        }
        let tick = TickMessage { show_id: "evt_1".to_owned() };
        assert_eq!(TickMessage::parse(&tick.body()), Ok(tick));
    }

    #[test]
    fn a_join_that_breaks_a_rule_is_told_by_its_field() {
        let with = |name: &str, value: Value| {
            let mut body: Value = serde_json::from_str(&join().body()).unwrap();
            body[name] = value;
            JoinMessage::parse(&body.to_string()).unwrap_err()
        };
        for (name, value) in [
            ("event_id", json!("")),
            ("generation", json!(-1)),
            ("key_version", json!(300)),
            ("key_version", json!(0)),
            ("user_id", json!(null)),
            ("seat_count", json!(0)),
            ("seat_count", json!("2")),
            ("arrival_ms", json!(u64::MAX)),
            ("request", json!("x".repeat(701))),
        ] {
            match with(name, value) {
                Failure::Permanent { code, message } => {
                    assert_eq!((code, message.starts_with(name)), ("invalid_field", true), "{message}");
                }
                other @ (Failure::Transient { .. } | Failure::Early { .. }) => panic!("{other:?}"),
            }
        }
        for body in ["", "[]", r#"{"event_id": "a", "event_id": "b"}"#] {
            let code = match JoinMessage::parse(body).unwrap_err() {
                Failure::Permanent { code, .. } => code,
                other @ (Failure::Transient { .. } | Failure::Early { .. }) => panic!("{other:?}"),
            };
            assert_eq!(code, "malformed_body", "{body}");
        }
    }

    #[test]
    fn a_reservation_is_of_the_turn_that_it_names_twice() {
        let turn = Turn { id: PlaceId::of(1, [7; 16]), position: 12, call: 3 };
        let told = |detail_type: &str, id: &str, item: Value| {
            let detail = json!({"event_id": "evt_1", "reservation_id": id, "queue_item_id": item});
            ReservationMessage::parse(&json!({"detail-type": detail_type, "detail": detail}).to_string())
        };
        let id = turn.reservation_id();
        let ours = told("reservation.created", &id, json!(turn.id.to_string())).unwrap();
        assert_eq!(ours, ReservationMessage { show_id: "evt_1".to_owned(), turn: Some(turn) });
        assert_eq!(told("reservation.failed", &id, Value::Null).unwrap().turn, None);
        assert_eq!(told("reservation.failed", "rsv_abc", json!(turn.id.to_string())).unwrap().turn, None);
        let other = PlaceId::of(1, [8; 16]).to_string();
        assert_eq!(told("reservation.failed", &id, json!(other)).unwrap().turn, None);
        assert!(told("reservation.failed", &id, json!("usr_1")).is_err());
        let unknown = told("payment.approved", &id, Value::Null).unwrap_err();
        assert!(matches!(unknown, Failure::Permanent { code: "unknown_type", .. }), "{unknown}");
    }
}
