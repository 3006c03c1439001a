//! What the reservation API says about a reservation, in any of the forms that are understood, and what it does not say.
//!
//! An answer decides only by its own word. A part of it that is missing, or that breaks the rule which events obey too, is
//! a [`Silence`]: nothing may follow from it but a look at the reservation.

use std::time::Duration;

use serde_json::Value;

use crate::{
    failure::quoted,
    field,
    json::Object,
    reservation::{Holding, Status},
};

/// The API's decision on a status change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 2xx.
    Accepted(Snapshot),
    /// 409: the reservation is where it is.
    Conflict(Snapshot),
}

/// Why an answer says nothing about a part of the reservation. The text fits after "the answer".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Silence(pub String);

/// What an answer says about a reservation. A part that breaks its rule does not spoil the others: whoever needs it finds
/// out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The status.
    pub status: Result<Status, Silence>,
    /// The payment that confirmed it, where the answer names one.
    pub payment_intent_id: Result<Option<String>, Silence>,
    /// What it holds.
    pub holding: Result<Holding, Silence>,
    /// When the API wants to be asked again, if it says so: its Retry-After.
    pub retry_after: Option<Duration>,
}

/// An answer that is about another reservation than the one that was asked for; here is that one's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Foreign(pub(super) String);

impl Snapshot {
    /// Reads the body of a 2xx to a question about `reservation_id`.
    pub(super) fn of_reservation(body: &str, reservation_id: &str) -> Result<Self, Foreign> {
        Self::read(body, reservation_id, |fields, _details| match stated(fields, "status", text)? {
            Some(name) => Ok(Status::named(&name)),
            None => Err(Silence(NO_STATUS.to_owned())),
        })
    }

    /// Reads the body of a 409, in which the status may stand in four places. The first that is known decides.
    pub(super) fn of_conflict(body: &str, reservation_id: &str) -> Result<Self, Foreign> {
        Self::read(body, reservation_id, |fields, details| {
            let mut unknown = None;
            for scope in [Some(fields), details].into_iter().flatten() {
                for name in ["status", "current_status"] {
                    // Anything may stand there, such as the HTTP status; only two statuses in one place say nothing.
                    let found = stated(scope, name, |value| Ok::<_, &str>(value.as_str().map(Status::named)))?;
                    match found.flatten() {
                        Some(status @ Status::Other(_)) => unknown = unknown.or(Some(status)),
                        Some(known) => return Ok(known),
                        None => {}
                    }
                }
            }
            unknown.ok_or_else(|| Silence(NO_STATUS.to_owned()))
        })
    }

    /// Whoever stands between us and the API may have answered, or nobody: then the answer is silent on everything.
    fn read(
        body: &str,
        reservation_id: &str,
        status: impl Fn(&Object<'_>, Option<&Object<'_>>) -> Result<Status, Silence>,
    ) -> Result<Self, Foreign> {
        let fields = match Object::read(body) {
            Ok(fields) => fields,
            Err(error) => return Ok(Self::silent(&Silence(error.to_string()))),
        };
        let details = fields.object("error").ok().flatten().and_then(|error| error.object("details").ok().flatten());
        for scope in [Some(&fields), details.as_ref()].into_iter().flatten() {
            match stated(scope, "reservation_id", field::id) {
                Ok(Some(id)) if id != reservation_id => return Err(Foreign(id)),
                Ok(Some(_) | None) => {}
                Err(silence) => return Ok(Self::silent(&silence)),
            }
        }
        Ok(Self {
            status: status(&fields, details.as_ref()),
            payment_intent_id: optional_id(&fields, "payment_intent_id"),
            holding: holding(&fields),
            retry_after: None,
        })
    }

    fn silent(silence: &Silence) -> Self {
        Self {
            status: Err(silence.clone()),
            payment_intent_id: Err(silence.clone()),
            holding: Err(silence.clone()),
            retry_after: None,
        }
    }
}

const NO_STATUS: &str = "does not say the reservation's status";

fn holding(fields: &Object<'_>) -> Result<Holding, Silence> {
    let seat_ids = stated(fields, "seat_ids", field::seats)?.unwrap_or_default();
    Ok(Holding {
        show_id: optional_id(fields, "event_id")?,
        user_id: fields.text("user_id").and_then(field::carried),
        quantity: stated(fields, "quantity", |value| field::quantity(value, seat_ids.len()))?,
        seat_ids,
    })
}

/// An id that an API may not have. Some write an empty text in place of none.
fn optional_id(fields: &Object<'_>, name: &str) -> Result<Option<String>, Silence> {
    let id = stated(fields, name, |value| match value.as_str() {
        Some("") => Ok(None),
        Some(_) | None => field::id(value).map(Some),
    })?;
    Ok(id.flatten())
}

fn text(value: &Value) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or("is not a text")
}

/// A field that is there and not null, by its rule.
fn stated<T, R: AsRef<str>>(
    fields: &Object<'_>,
    name: &str,
    rule: impl Fn(&Value) -> Result<T, R>,
) -> Result<Option<T>, Silence> {
    let broken = |rule: &str| Silence(format!("has a {name} that {}", quoted(rule)));
    match fields.get(name) {
        Ok(Some(value)) => rule(&value).map(Some).map_err(|rule| broken(rule.as_ref())),
        Ok(None) => Ok(None),
        Err(fault) => Err(broken(&fault.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn conflict(body: &str) -> Snapshot {
        Snapshot::of_conflict(body, "rsv_1").unwrap()
    }

    fn reservation(body: &Value) -> Snapshot {
        Snapshot::of_reservation(&body.to_string(), "rsv_1").unwrap()
    }

    #[track_caller]
    fn silent<T: std::fmt::Debug>(part: Result<T, Silence>, why: &str) {
        let silence = part.unwrap_err().to_string();
        assert!(silence.contains(why), "{why:?} is missing in {silence:?}");
    }

    #[test]
    fn a_conflict_says_its_status_in_any_of_four_places() {
        for (body, status) in [
            (r#"{"error": {"code": "X"}, "status": "EXPIRED"}"#, Status::Expired),
            (r#"{"current_status": "CONFIRMED"}"#, Status::Confirmed),
            (r#"{"error": {"details": {"status": "CANCELLED"}}}"#, Status::Cancelled),
            (r#"{"error": {"details": {"current_status": "REFUNDED"}}}"#, Status::Refunded),
        ] {
            assert_eq!(conflict(body).status, Ok(status), "{body}");
        }
    }

    #[test]
    fn the_first_known_status_of_a_conflict_decides() {
        for (body, status) in [
            (r#"{"status": "error", "current_status": "EXPIRED"}"#, Status::Expired),
            (r#"{"status": 409, "current_status": "HOLD"}"#, Status::Hold),
            (r#"{"status": "conflict", "error": {"details": {"status": "FAILED"}}}"#, Status::Failed),
            (r#"{"status": "HOLD", "current_status": "EXPIRED"}"#, Status::Hold),
            (r#"{"status": "error", "current_status": "expired"}"#, Status::Other("error".into())),
        ] {
            assert_eq!(conflict(body).status, Ok(status), "{body}");
        }
    }

    #[test]
    fn a_conflict_that_says_no_status_says_nothing() {
        for body in ["", "oops", "[]", r#"{"status": 409}"#, r#"{"error": {"details": [{"field": "x"}]}}"#] {
            assert!(conflict(body).status.is_err(), "{body}");
        }
    }

    #[test]
    fn a_status_that_nobody_knows_is_kept_and_one_of_another_type_says_nothing() {
        assert_eq!(reservation(&json!({"status": "held"})).status, Ok(Status::Other("held".into())));
        silent(reservation(&json!({"status": 5})).status, "a status that is not a text");
        silent(reservation(&json!({"status": null})).status, "does not say");
    }

    #[test]
    fn an_answer_without_a_reservation_says_nothing_and_says_why() {
        for (body, why) in [
            ("", "is empty"),
            (" \n", "is empty"),
            ("<html>welcome</html>", "is not JSON"),
            ("[]", "not an object"),
            ("{}", "does not say"),
            (r#"{"errorMessage": "Task timed out"}"#, "does not say"),
            (r#"{"error": {"code": "X"}}"#, "does not say"),
            (r#"{"success": false}"#, "does not say"),
            (r#"{"data": {"status": "EXPIRED"}}"#, "does not say"),
        ] {
            silent(Snapshot::of_reservation(body, "rsv_1").unwrap().status, why);
        }
    }

    #[test]
    fn what_is_not_read_spoils_nothing_and_what_is_there_twice_says_nothing() {
        let read = |body| Snapshot::of_reservation(body, "rsv_1").unwrap();
        let odd = concat!("\u{feff}", r#"{"status": "EXPIRED", "name": "\ud83d", "note": 1e999, "name": "x"}"#);
        assert_eq!(read(odd).status, Ok(Status::Expired));
        assert_eq!(read(r#"{"status": "EXPIRED", "status": "EXPIRED"}"#).status, Ok(Status::Expired));
        silent(read(r#"{"status": "EXPIRED", "status": "CONFIRMED"}"#).status, "more than once");
        silent(read(r#"{"quantity": 1, "quantity": 2}"#).holding, "more than once");
        silent(read(r#"{"reservation_id": "rsv_1", "reservation_id": "rsv_2", "status": "EXPIRED"}"#).status, "more");
        silent(conflict(r#"{"status": "EXPIRED", "status": "CONFIRMED"}"#).status, "more than once");
    }

    #[test]
    fn an_answer_about_another_reservation_is_none_about_ours() {
        let other = Err(Foreign("rsv_2".to_owned()));
        let body = json!({"reservation_id": "rsv_2", "status": "EXPIRED"}).to_string();
        assert_eq!(Snapshot::of_reservation(&body, "rsv_1"), other);
        assert_eq!(Snapshot::of_conflict(&body, "rsv_1"), other);
        let body = json!({"error": {"details": {"reservation_id": "rsv_2", "status": "EXPIRED"}}}).to_string();
        assert_eq!(Snapshot::of_conflict(&body, "rsv_1"), other);
        for nameless in [json!(""), json!(7), json!(["rsv_1"]), json!("x".repeat(300))] {
            silent(reservation(&json!({"reservation_id": nameless, "status": "EXPIRED"})).status, "reservation_id");
        }
        let ours = json!({"reservation_id": "rsv_1", "status": "EXPIRED"});
        assert_eq!(reservation(&ours).status, Ok(Status::Expired));
    }

    #[test]
    fn what_a_reservation_holds_obeys_the_rules_that_events_obey() {
        for (fields, why) in [
            (json!({"seat_ids": ["L-6", null, {"id": "L-8"}], "quantity": 3}), "seat_ids"),
            (json!({"seat_ids": "L-6"}), "seat_ids"),
            (json!({"seat_ids": ["L-6"], "quantity": 3}), "is 3, but 1 seats are named"),
            (json!({"quantity": 3_000_000_000_u64}), "quantity"),
            (json!({"quantity": 0}), "quantity"),
            (json!({"quantity": -1}), "quantity"),
            (json!({"event_id": "e".repeat(100_000)}), "event_id"),
            (json!({"event_id": 17}), "event_id"),
        ] {
            silent(reservation(&fields).holding, why);
        }
        silent(reservation(&json!({"payment_intent_id": 17})).payment_intent_id, "payment_intent_id");
        let whole = json!({
            "status": "HOLD", "event_id": "evt_1", "user_id": "usr_1", "seat_ids": ["A", "B"], "quantity": 2,
            "payment_intent_id": null,
        });
        let holding = Holding {
            show_id: Some("evt_1".into()),
            user_id: Some("usr_1".into()),
            seat_ids: vec!["A".into(), "B".into()],
            quantity: Some(2),
        };
        let Snapshot { status, payment_intent_id, holding: held, retry_after: _ } = reservation(&whole);
        assert_eq!((status, payment_intent_id, held), (Ok(Status::Hold), Ok(None), Ok(holding)));
    }

    #[test]
    fn an_empty_id_of_an_event_or_a_payment_is_none() {
        let found = reservation(&json!({"event_id": "", "payment_intent_id": ""}));
        assert_eq!((found.payment_intent_id, found.holding), (Ok(None), Ok(Holding::default())));
    }

    #[test]
    fn a_part_that_breaks_its_rule_does_not_spoil_the_others() {
        let found = reservation(&json!({"status": "CONFIRMED", "payment_intent_id": "pi_1", "quantity": 0}));
        assert_eq!((found.status, found.payment_intent_id), (Ok(Status::Confirmed), Ok(Some("pi_1".into()))));
    }
}
