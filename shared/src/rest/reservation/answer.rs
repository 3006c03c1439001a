//! What the reservation API says about a reservation, in any of the forms that are understood.

use serde_json::{Map, Value};

/// A reservation's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Paid; terminal.
    Confirmed,
    /// Given up or not paid; terminal.
    Cancelled,
    /// The hold ran out; terminal.
    Expired,
    /// Broken off; terminal.
    Failed,
    /// Paid back; terminal.
    Refunded,
    /// Not terminal, or none that this code knows: nothing may be settled on it.
    Other(String),
}

impl Status {
    /// The status of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "CONFIRMED" => Self::Confirmed,
            "CANCELLED" => Self::Cancelled,
            "EXPIRED" => Self::Expired,
            "FAILED" => Self::Failed,
            "REFUNDED" => Self::Refunded,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Failed => "FAILED",
            Self::Refunded => "REFUNDED",
            Self::Other(name) => name,
        }
    }
}

/// The API's decision on a status change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Accepted(Snapshot),
    /// 409: the reservation is where it is.
    Conflict(Snapshot),
}

/// What an answer says about a reservation; every part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The status.
    pub status: Option<Status>,
    /// What the tickets are for.
    pub event_id: Option<String>,
    /// The customer.
    pub user_id: Option<String>,
    /// The seats, when they are numbered.
    pub seat_ids: Vec<String>,
    /// The number of tickets.
    pub quantity: Option<u32>,
    /// The payment that confirmed it.
    pub payment_intent_id: Option<String>,
}

impl Snapshot {
    /// Reads the body of a 2xx. An empty body says nothing; one that is no JSON object may come from anybody between us
    /// and the API, so nothing is settled on it.
    pub(super) fn of_reservation(body: &str) -> Result<Self, String> {
        if body.trim().is_empty() {
            return Ok(Self::default());
        }
        match serde_json::from_str(body) {
            Ok(Value::Object(fields)) => Ok(Self::of(&fields)),
            Ok(_) => Err("it is JSON, but not an object".to_owned()),
            Err(error) => Err(format!("it is not JSON: {error}")),
        }
    }

    /// Reads the body of a 409, in which the status may stand in four places. What can't be read says nothing.
    pub(super) fn of_conflict(body: &str) -> Self {
        let Ok(Value::Object(fields)) = serde_json::from_str(body) else {
            return Self::default();
        };
        let details = fields.get("error").and_then(|error| error.get("details")).and_then(Value::as_object);
        let status = [Some(&fields), details].into_iter().flatten().find_map(|scope| {
            ["status", "current_status"].iter().find_map(|name| scope.get(*name)?.as_str()).map(Status::named)
        });
        Self { status, ..Self::of(&fields) }
    }

    fn of(fields: &Map<String, Value>) -> Self {
        let text = |name: &str| fields.get(name)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let seats = fields.get("seat_ids").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let quantity = fields.get("quantity").and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        Self {
            status: fields.get("status").filter(|status| !status.is_null()).map(|status| match status.as_str() {
                Some(name) => Status::named(name),
                None => Status::Other(status.to_string()),
            }),
            event_id: text("event_id"),
            user_id: text("user_id"),
            seat_ids: seats.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            quantity: quantity.filter(|quantity| *quantity > 0),
            payment_intent_id: text("payment_intent_id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn conflict(body: &str, expected: Option<Status>) {
        assert_eq!(Snapshot::of_conflict(body).status, expected, "{body}");
    }

    #[test]
    fn a_conflict_says_its_status_in_any_of_four_places() {
        conflict(r#"{"error": {"code": "X"}, "status": "EXPIRED"}"#, Some(Status::Expired));
        conflict(r#"{"current_status": "CONFIRMED"}"#, Some(Status::Confirmed));
        conflict(r#"{"error": {"details": {"status": "CANCELLED"}}}"#, Some(Status::Cancelled));
        conflict(r#"{"error": {"details": {"current_status": "REFUNDED"}}}"#, Some(Status::Refunded));
    }

    #[test]
    fn a_conflict_that_says_no_status_says_nothing() {
        for body in ["", "oops", "[]", r#"{"status": 409}"#, r#"{"error": {"details": [{"field": "x"}]}}"#] {
            conflict(body, None);
        }
    }

    #[test]
    fn a_status_that_nobody_knows_is_kept() {
        for (body, name) in [(r#"{"status": "HOLD"}"#, "HOLD"), (r#"{"status": 5}"#, "5")] {
            assert_eq!(Snapshot::of_reservation(body).unwrap().status, Some(Status::Other(name.into())));
        }
    }

    #[test]
    fn a_quantity_of_none_says_nothing() {
        let quantity = |body| Snapshot::of_reservation(body).unwrap().quantity;
        assert_eq!(quantity(r#"{"quantity": 3}"#), Some(3));
        for body in [r#"{"quantity": 0}"#, r#"{"quantity": -1}"#, r#"{"quantity": 4294967296}"#, "{}"] {
            assert_eq!(quantity(body), None, "{body}");
        }
    }

    #[test]
    fn an_empty_answer_says_nothing_and_a_page_of_a_proxy_is_no_answer() {
        assert_eq!(Snapshot::of_reservation(""), Ok(Snapshot::default()));
        assert!(Snapshot::of_reservation("<html>welcome</html>").is_err());
        assert!(Snapshot::of_reservation("[]").is_err());
    }
}
