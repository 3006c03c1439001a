use serde_json::json;

use super::*;

fn detail() -> Value {
    json!({
        "reservation_id": "rsv_1", "event_id": "evt_1", "seat_ids": ["A-1", "A-2"], "qty": 2,
        "payment_intent_id": "pi_1", "amount": 5000, "currency": "EUR"
    })
}

fn envelope(detail_type: &str, detail: Value) -> String {
    json!({"version": "0", "id": "e-1", "detail-type": detail_type, "source": "test", "detail": detail}).to_string()
}

fn approved_with(field: &str, value: Value) -> Result<Event, Failure> {
    let mut detail = detail();
    detail[field] = value;
    Event::parse(EventType::PaymentApproved, &envelope("payment.approved", detail))
}

#[track_caller]
fn rejected(result: Result<Event, Failure>, expected: &str, mentions: &str) {
    match result {
        Err(Failure::Permanent { code, message }) => {
            assert_eq!(code, expected, "{message}");
            assert!(message.contains(mentions), "{mentions:?} is missing in {message:?}");
        }
        other => panic!("expected {expected}, got {other:?}"),
    }
}

#[test]
fn the_canonical_envelope_is_read() {
    let event = Event::parse(EventType::PaymentApproved, &envelope("payment.approved", detail())).unwrap();
    assert_eq!(event.reservation_id, "rsv_1");
    assert_eq!(event.seat_ids, ["A-1", "A-2"]);
    let payment = Payment { intent_id: "pi_1".into(), amount: Some(5000), currency: Some("EUR".into()) };
    assert_eq!(event.payment, Some(payment));
    assert_eq!(event.key().as_str(), "payment.approved#rsv_1#pi_1");
}

#[test]
fn the_oldest_envelope_has_its_ids_at_the_top() {
    let body = json!({
        "id": "e-1", "type": "reservation.expired", "reservation_id": "rsv_1", "event_id": "evt_1", "trace_id": "t-1",
        "payload": {"qty": 2, "seat_ids": ["A-1", "A-2"]}
    });
    let event = Event::parse(EventType::ReservationExpired, &body.to_string()).unwrap();
    assert_eq!((event.reservation_id.as_str(), event.event_id.as_deref()), ("rsv_1", Some("evt_1")));
    assert_eq!(event.quantity, Some(2));
    assert_eq!(event.trace_id.as_deref(), Some("t-1"));
    assert_eq!(event.key().as_str(), "reservation.expired#rsv_1");
}

#[test]
fn camel_case_other_names_and_quoted_numbers_are_read() {
    let detail =
        json!({"reservationId": "rsv_1", "eventId": "evt_1", "paymentId": "pi_1", "quantity": "2", "amount": "5000"});
    let event = Event::parse(EventType::PaymentApproved, &envelope("payment.approved", detail)).unwrap();
    assert_eq!(event.quantity, Some(2));
    assert_eq!(event.payment.and_then(|payment| payment.amount), Some(5000));
}

#[test]
fn a_payment_status_update_is_what_its_status_says() {
    let parse = |own, status: &str| {
        let detail =
            json!({"payment_id": "pi_1", "reservation_id": "rsv_1", "user_id": "", "status": status, "amount": 1});
        Event::parse(own, &envelope("Payment Status Updated", detail))
    };
    for status in ["PAYMENT_STATUS_COMPLETED", "PAYMENT_STATUS_APPROVED", "COMPLETED", "APPROVED"] {
        assert_eq!(
            parse(EventType::PaymentApproved, status).unwrap().event_type,
            EventType::PaymentApproved,
            "{status}"
        );
    }
    assert_eq!(parse(EventType::PaymentFailed, "PAYMENT_STATUS_FAILED").unwrap().user_id, None);
    rejected(parse(EventType::PaymentApproved, "PAYMENT_STATUS_FAILED"), UNKNOWN_TYPE, "payment.failed");
    rejected(parse(EventType::PaymentApproved, "PAYMENT_STATUS_REFUNDED"), UNKNOWN_TYPE, "status");
}

#[test]
fn the_alias_of_an_expiry_is_an_expiry() {
    let event = Event::parse(EventType::ReservationExpired, &envelope("reservation.hold.expired", detail())).unwrap();
    assert_eq!(event.key().as_str(), "reservation.expired#rsv_1");
}

#[test]
fn another_functions_event_and_an_unknown_version_are_rejected() {
    for name in ["payment.failed", "payment.approved.v2", "", "Payment Approved"] {
        rejected(Event::parse(EventType::PaymentApproved, &envelope(name, detail())), UNKNOWN_TYPE, "payment.approved");
    }
    rejected(Event::parse(EventType::PaymentApproved, r#"{"detail": {}}"#), UNKNOWN_TYPE, "no detail-type");
    rejected(Event::parse(EventType::PaymentApproved, r#"{"detail-type": 5}"#), UNKNOWN_TYPE, "no detail-type");
}

#[test]
fn a_body_that_is_no_json_object_is_malformed() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let deep_object = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let whole = envelope("payment.approved", detail());
    for body in
        ["", "  ", "null", "17", "[]", "\"text\"", "<xml/>", "{", &whole[..whole.len() / 2], &deep, &deep_object]
    {
        rejected(Event::parse(EventType::PaymentApproved, body), MALFORMED_BODY, "the body is");
    }
}

#[test]
fn ids_that_could_change_a_request_or_flood_a_log_are_refused_or_kept_opaque() {
    for bad in ["", " ", ".", "..", "a b", "a\nb", "a\u{0}b", "é", &"x".repeat(257), &"x".repeat(10_000)] {
        rejected(approved_with("reservation_id", bad.into()), INVALID_FIELD, "reservation_id");
        rejected(approved_with("payment_intent_id", bad.into()), INVALID_FIELD, "payment_intent_id");
        rejected(approved_with("event_id", bad.into()), INVALID_FIELD, "event_id");
    }
    for opaque in ["a/b", "../x", "a?b", "a#b", "a%2Fb", "...", &"x".repeat(256)] {
        assert_eq!(approved_with("reservation_id", opaque.into()).unwrap().reservation_id, opaque);
    }
    for wrong in [json!(17), json!(true), json!({}), json!([])] {
        rejected(approved_with("reservation_id", wrong), INVALID_FIELD, "reservation_id");
    }
    rejected(approved_with("reservation_id", Value::Null), INVALID_FIELD, "reservation_id is missing");
}

#[test]
fn numbers_out_of_range_and_of_wrong_types_are_refused() {
    for bad in
        [json!(0), json!(-1), json!(1001), json!(1.5), json!("two"), json!("-1"), json!(""), json!(true), json!(1e300)]
    {
        rejected(approved_with("qty", bad), INVALID_FIELD, "qty");
    }
    for bad in
        [json!(-1), json!(0.5), json!(u64::MAX), json!("12.50"), json!("99999999999999999999"), json!("+5"), json!({})]
    {
        rejected(approved_with("amount", bad), INVALID_FIELD, "amount");
    }
    rejected(approved_with("amount", Value::Null), INVALID_FIELD, "amount is missing");
}

#[test]
fn seats_have_names_and_their_number_is_the_quantity() {
    for bad in [json!("A-1"), json!([1]), json!([""]), json!([" "]), json!(["x".repeat(65)]), json!(vec!["A"; 1001])] {
        rejected(approved_with("seat_ids", bad), INVALID_FIELD, "seat_ids");
    }
    rejected(approved_with("qty", json!(3)), INVALID_FIELD, "2 seats");
}

#[test]
fn a_thousand_seats_are_not_too_many() {
    let seats: Vec<String> = (0..1_000).map(|number| format!("A-{number}")).collect();
    let body = json!({"detail-type": "reservation.expired", "detail": {"reservation_id": "rsv_1", "seat_ids": seats}});
    assert_eq!(Event::parse(EventType::ReservationExpired, &body.to_string()).unwrap().seat_ids, seats);
    rejected(approved_with("seat_ids", json!(vec!["A"; 1_001])), INVALID_FIELD, "1,000");
}

#[test]
fn a_text_of_eight_kibibytes_is_kept_and_a_longer_one_is_absent() {
    let text = "x".repeat(8_192);
    assert_eq!(approved_with("trace_id", json!(text)).unwrap().trace_id.as_deref(), Some(text.as_str()));
    assert_eq!(approved_with("trace_id", json!(text + "x")).unwrap().trace_id, None);
}

#[test]
fn an_expiry_waits_for_its_moment_and_a_payment_never_does() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let expiry = |expires_at: Value| {
        let detail = json!({"reservation_id": "rsv_1", "expires_at": expires_at});
        Event::parse(EventType::ReservationExpired, &envelope("reservation.expired", detail))
    };
    let early_by = |expires_at: Value| expiry(expires_at).unwrap().early_by(now);
    assert_eq!(early_by(json!(1_030)), Some(Duration::from_secs(30)));
    assert_eq!(early_by(json!("1030")), Some(Duration::from_secs(30)));
    assert_eq!(early_by(json!("1970-01-01T00:17:10Z")), Some(Duration::from_secs(30)));
    assert_eq!(early_by(json!(1_000)), None);
    assert_eq!(early_by(json!(900)), None);
    assert_eq!(early_by(Value::Null), None);
    for bad in [json!("soon"), json!(-5), json!(1_763_628_000_000_u64), json!({})] {
        rejected(expiry(bad), INVALID_FIELD, "expires_at");
    }
    let approved = approved_with("expires_at", json!(1_030)).unwrap();
    assert_eq!(approved.early_by(now), None);
}

#[test]
fn only_the_amount_of_an_approval_must_not_change() {
    assert_eq!(approved_with("currency", json!("USD")).unwrap().unchanging(), "amount=5000");
    let failed = Event::parse(EventType::PaymentFailed, &envelope("payment.failed", detail())).unwrap();
    assert_eq!(failed.unchanging(), "");
}
