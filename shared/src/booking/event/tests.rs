use serde_json::json;

use super::*;

/// The usual event; a null takes a field away.
fn body(changes: Value) -> Value {
    let mut body = json!({
        "bookingId": "booking_1", "userId": "jane@example.com", "roomId": "101", "guests": 2,
        "startDate": "2026-06-10T15:00:00+02:00", "endDate": "2026-06-12T11:00:00+02:00", "paymentId": "pi_1",
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name.as_str()] = value.clone();
    }
    body
}

#[track_caller]
fn created(changes: Value) -> Created {
    Created::parse(&body(changes).to_string()).unwrap()
}

#[track_caller]
fn refused(body: &str, code: &str, part: &str) {
    match Created::parse(body) {
        Err(Failure::Permanent { code: found, message }) => {
            assert_eq!(found, code, "{message}");
            assert!(message.contains(part), "{part:?} is missing in {message:?}");
        }
        other => panic!("{body:.200} came to {other:?}"),
    }
}

#[test]
fn a_bare_event_is_read_in_both_spellings() {
    let event = created(json!({}));
    assert_eq!(
        (event.booking_id.as_str(), event.user.text(), event.room.as_str()),
        ("booking_1", "jane@example.com", "101")
    );
    assert_eq!((event.guests, event.payment_id.as_deref()), (2, Some("pi_1")));
    assert_eq!(event.stay.start_date.to_string(), "2026-06-10");
    let snake = json!({
        "booking_id": "booking_1", "user_id": "jane@example.com", "room_id": "101", "guests": "2",
        "start_date": "2026-06-10T15:00:00+02:00", "end_date": "2026-06-12T11:00:00+02:00", "payment_id": "pi_1",
    });
    assert_eq!(Created::parse(&snake.to_string()).unwrap(), event);
}

#[test]
fn an_envelope_is_read_if_it_is_the_functions_own() {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let envelope = |detail_type: Value| {
        json!({"detail-type": detail_type, "detail": body(json!({"baggage": "a=b"})), "traceparent": trace}).to_string()
    };
    let event = Created::parse(&envelope(json!("booking.created"))).unwrap();
    assert_eq!(event.contexts.traceparents, [Some(trace.to_owned()), None]);
    assert_eq!(event.contexts.baggages, [None, Some("a=b".to_owned())]);
    assert_eq!(created(json!({})), Created { contexts: Contexts::default(), ..event });
    for other in [json!("booking.cancelled"), json!("payment.approved"), json!(17), json!("")] {
        refused(&envelope(other), "unknown_type", "booking.created");
    }
    refused(r#"{"detail-type": "booking.created"}"#, "invalid_field", "detail is missing");
    refused(r#"{"detail-type": "booking.created", "detail": []}"#, "invalid_field", "detail must be an object");
}

#[test]
fn a_user_is_named_by_a_text_or_by_a_number_that_a_user_can_have() {
    let number = |user: Value| created(json!({ "userId": user })).user.number();
    assert_eq!(number(json!(17)), Some(17));
    assert_eq!(number(json!("17")), Some(17));
    assert_eq!(number(json!("2147483647")), Some(i32::MAX));
    for nobody in
        [json!("2147483648"), json!("99999999999999999999"), json!("user7"), json!("jane@example.com"), json!("-1")]
    {
        assert_eq!(number(nobody.clone()), None, "{nobody}");
    }
    assert_eq!(created(json!({"userId": 17})).user.text(), "17");
    assert!(!format!("{:?}", created(json!({}))).contains("jane"), "a person shows nowhere");
}

#[test]
fn what_is_missing_or_breaks_a_rule_is_named() {
    let long = "x".repeat(10_240);
    for (changes, part) in [
        (json!({"bookingId": null}), "bookingId is missing"),
        (json!({"bookingId": long}), "bookingId must be"),
        (json!({"bookingId": "a b"}), "bookingId must be"),
        (json!({"bookingId": 17}), "bookingId must be"),
        (json!({"bookingId": "a\u{0}b"}), "bookingId must be"),
        (json!({"userId": null}), "userId is missing"),
        (json!({"userId": " "}), "userId must be"),
        (json!({"userId": "a\u{0}b"}), "userId must be"),
        (json!({"userId": long}), "userId must be"),
        (json!({"userId": 1.5}), "userId must be"),
        (json!({"userId": [1]}), "userId must be"),
        (json!({"roomId": null}), "roomId is missing"),
        (json!({"roomId": "10\u{0}1"}), "roomId must be"),
        (json!({"roomId": long}), "roomId must be"),
        (json!({"guests": null}), "guests is missing"),
        (json!({"guests": 0}), "guests must be"),
        (json!({"guests": -1}), "guests must be"),
        (json!({"guests": 1_001}), "guests must be"),
        (json!({"guests": 2.5}), "guests must be"),
        (json!({"guests": "two"}), "guests must be"),
        (json!({"startDate": "2026-06-10T15:00:00"}), "startDate must be"),
        (json!({"startDate": "24 February 30"}), "startDate must be"),
        (json!({"startDate": "0000-01-01"}), "startDate must be"),
        (json!({"endDate": "10000-01-01"}), "endDate must be"),
        (json!({"endDate": null}), "endDate is missing"),
        (json!({"endDate": "2026-06-09"}), "endDate must be after the start"),
        (json!({"endDate": "2026-06-10T14:00:00+02:00"}), "endDate must be after the start"),
        (json!({"paymentId": "x".repeat(256)}), "paymentId must"),
        (json!({"paymentId": "a b"}), "paymentId must"),
    ] {
        refused(&body(changes).to_string(), "invalid_field", part);
    }
}

#[test]
fn a_body_that_is_no_object_or_means_two_things_is_malformed() {
    refused("", "malformed_body", "the body is empty");
    refused("{", "malformed_body", "not JSON");
    refused("[]", "malformed_body", "not an object");
    let twice = body(json!({"booking_id": "booking_2"})).to_string();
    refused(&twice, "malformed_body", "bookingId and booking_id have different values");
    refused(r#"{"bookingId": "a", "bookingId": "b"}"#, "invalid_field", "startDate is missing");
}

#[test]
fn what_is_not_read_is_not_judged() {
    let text = body(json!({})).to_string().replace('{', r#"{"guestName": "\ud800", "timestamp": 1e999, "#);
    assert_eq!(Created::parse(&text).unwrap(), created(json!({})));
}

#[test]
fn a_payment_may_be_absent_or_empty() {
    for none in [json!(null), json!("")] {
        assert_eq!(created(json!({ "paymentId": none })).payment_id, None);
    }
}

#[test]
fn the_hash_is_of_the_payload_and_of_nothing_else() {
    let hash = created(json!({})).hash();
    assert_eq!(created(json!({"traceparent": "x", "other": 1, "guests": "2"})).hash(), hash);
    for changed in [
        json!({"userId": "joe@example.com"}),
        json!({"roomId": "102"}),
        json!({"guests": 3}),
        json!({"startDate": "2026-06-11T15:00:00+02:00"}),
        json!({"startDate": "2026-06-10T16:00:00+02:00"}),
        json!({"endDate": "2026-06-13T11:00:00+02:00"}),
        json!({"paymentId": "pi_2"}),
        json!({"paymentId": null}),
    ] {
        assert_ne!(created(changed.clone()).hash(), hash, "{changed}");
    }
    let split = |user: &str, room: &str| created(json!({"userId": user, "roomId": room})).hash();
    assert_ne!(split("a1", "01"), split("a", "101"), "neighbours do not run into one another");
}

#[test]
fn a_cancellation_needs_its_booking_and_its_user_alone() {
    let event = Cancelled::parse(r#"{"bookingId": "b", "userId": 7, "timestamp": "never"}"#).unwrap();
    assert_eq!((event.booking_id.as_str(), event.user.number()), ("b", Some(7)));
    assert!(Cancelled::parse(r#"{"bookingId": "b"}"#).is_err());
    assert!(
        Cancelled::parse(r#"{"detail-type": "booking.created", "detail": {"bookingId": "b", "userId": 7}}"#).is_err()
    );
}
