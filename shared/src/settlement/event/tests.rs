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
fn rejected(result: Result<Event, Failure>, expected: ErrorCode, mentions: &str) {
    match result {
        Err(Failure::Permanent { code, message }) => {
            assert_eq!(code, expected.name(), "{message}");
            assert!(message.contains(mentions), "{mentions:?} is missing in {message:?}");
        }
        other => panic!("expected {expected:?}, got {other:?}"),
    }
}

#[test]
fn the_canonical_envelope_is_read() {
    let event = Event::parse(EventType::PaymentApproved, &envelope("payment.approved", detail())).unwrap();
    assert_eq!(event.reservation_id, "rsv_1");
    assert_eq!(event.holding.seat_ids, ["A-1", "A-2"]);
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
    assert_eq!((event.reservation_id.as_str(), event.holding.show_id.as_deref()), ("rsv_1", Some("evt_1")));
    assert_eq!(event.holding.quantity, Some(2));
    assert_eq!(event.trace_id.as_deref(), Some("t-1"));
    assert_eq!(event.key().as_str(), "reservation.expired#rsv_1");
}

#[test]
fn camel_case_other_names_and_quoted_numbers_are_read() {
    let detail =
        json!({"reservationId": "rsv_1", "eventId": "evt_1", "paymentId": "pi_1", "quantity": "2", "amount": "5000"});
    let event = Event::parse(EventType::PaymentApproved, &envelope("payment.approved", detail)).unwrap();
    assert_eq!(event.holding.quantity, Some(2));
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
    assert_eq!(parse(EventType::PaymentFailed, "PAYMENT_STATUS_FAILED").unwrap().holding.user_id, None);
    rejected(parse(EventType::PaymentApproved, "PAYMENT_STATUS_FAILED"), ErrorCode::UnknownType, "payment.failed");
    rejected(parse(EventType::PaymentApproved, "PAYMENT_STATUS_REFUNDED"), ErrorCode::UnknownType, "status");
}

#[test]
fn the_alias_of_an_expiry_is_an_expiry() {
    let event = Event::parse(EventType::ReservationExpired, &envelope("reservation.hold.expired", detail())).unwrap();
    assert_eq!(event.key().as_str(), "reservation.expired#rsv_1");
}

#[test]
fn another_functions_event_and_an_unknown_version_are_rejected() {
    for name in ["payment.failed", "payment.approved.v2", "", "Payment Approved"] {
        rejected(
            Event::parse(EventType::PaymentApproved, &envelope(name, detail())),
            ErrorCode::UnknownType,
            "payment.approved",
        );
    }
    rejected(Event::parse(EventType::PaymentApproved, r#"{"detail": {}}"#), ErrorCode::UnknownType, "no detail-type");
    rejected(
        Event::parse(EventType::PaymentApproved, r#"{"detail-type": 5}"#),
        ErrorCode::UnknownType,
        "no detail-type",
    );
}

#[test]
fn a_body_that_is_no_json_object_is_malformed() {
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let whole = envelope("payment.approved", detail());
    for body in ["", "  ", "null", "17", "[]", "\"text\"", "<xml/>", "{", &whole[..whole.len() / 2], &deep] {
        rejected(Event::parse(EventType::PaymentApproved, body), ErrorCode::MalformedBody, "the body is");
    }
}

#[test]
fn ids_that_could_change_a_request_or_flood_a_log_are_refused_or_kept_opaque() {
    for bad in ["", " ", ".", "..", "a b", "a\nb", "a\u{0}b", "é", &"x".repeat(257), &"x".repeat(10_000)] {
        rejected(approved_with("reservation_id", bad.into()), ErrorCode::InvalidField, "reservation_id");
        rejected(approved_with("payment_intent_id", bad.into()), ErrorCode::InvalidField, "payment_intent_id");
        rejected(approved_with("event_id", bad.into()), ErrorCode::InvalidField, "event_id");
    }
    for opaque in ["a/b", "../x", "a?b", "a#b", "a%2Fb", "...", &"x".repeat(256)] {
        assert_eq!(approved_with("reservation_id", opaque.into()).unwrap().reservation_id, opaque);
    }
    for wrong in [json!(17), json!(true), json!({}), json!([])] {
        rejected(approved_with("reservation_id", wrong), ErrorCode::InvalidField, "reservation_id");
    }
    rejected(approved_with("reservation_id", Value::Null), ErrorCode::InvalidField, "reservation_id is missing");
}

#[test]
fn numbers_out_of_range_and_of_wrong_types_are_refused() {
    for bad in
        [json!(0), json!(-1), json!(1001), json!(1.5), json!("two"), json!("-1"), json!(""), json!(true), json!(1e300)]
    {
        rejected(approved_with("qty", bad), ErrorCode::InvalidField, "qty");
    }
    for bad in
        [json!(-1), json!(0.5), json!(u64::MAX), json!("12.50"), json!("99999999999999999999"), json!("+5"), json!({})]
    {
        rejected(approved_with("amount", bad), ErrorCode::InvalidField, "amount");
    }
    rejected(approved_with("amount", Value::Null), ErrorCode::InvalidField, "amount is missing");
}

#[test]
fn seats_have_names_and_their_number_is_the_quantity() {
    for bad in [json!("A-1"), json!([1]), json!([""]), json!([" "]), json!(["x".repeat(65)]), json!(vec!["A"; 1001])] {
        rejected(approved_with("seat_ids", bad), ErrorCode::InvalidField, "seat_ids");
    }
    rejected(approved_with("qty", json!(3)), ErrorCode::InvalidField, "2 seats");
}

#[test]
fn a_thousand_seats_are_not_too_many() {
    let seats: Vec<String> = (0..1_000).map(|number| format!("A-{number}")).collect();
    let body = json!({"detail-type": "reservation.expired", "detail": {"reservation_id": "rsv_1", "seat_ids": seats}});
    assert_eq!(Event::parse(EventType::ReservationExpired, &body.to_string()).unwrap().holding.seat_ids, seats);
    rejected(approved_with("seat_ids", json!(vec!["A"; 1_001])), ErrorCode::InvalidField, "1,000");
}

#[test]
fn a_text_that_is_only_carried_on_has_256_characters_at_most() {
    let text = "é".repeat(256);
    for (name, fits) in [("currency", true), ("user_id", true), ("trace_id", false)] {
        let carried = |text: &str| {
            let event = approved_with(name, json!(text)).unwrap();
            let currency = event.payment.and_then(|payment| payment.currency);
            [("currency", currency), ("user_id", event.holding.user_id), ("trace_id", event.trace_id)]
                .into_iter()
                .find_map(|(field, text)| (field == name).then_some(text))
                .flatten()
        };
        assert_eq!(carried(&text), fits.then(|| text.clone()), "{name}");
        assert_eq!(carried(&format!("{text}x")), None, "{name}");
        assert_eq!(carried(&"x".repeat(900_000)), None, "{name}");
        assert_eq!(carried(" "), None, "{name}");
    }
}

#[test]
fn a_trace_id_that_is_none_is_left_out() {
    let trace_id = |text: &str| approved_with("trace_id", json!(text)).unwrap().trace_id;
    for good in [
        "5e2c3ae0abdda216614f0076a60df8da",
        "00000000000000000000000000000000",
        "1-5759e988-bd862e3fe1be46a994272793",
        "f17b431d-57cc-4160-896d-1b2ef91277c7",
        "local-trace-1763628000000",
        "t_1.a",
        "1",
        "12345678901",
        "12345678901234567890",
        &"x".repeat(64),
    ] {
        assert_eq!(trace_id(good).as_deref(), Some(good));
    }
    for bad in ["", "jo@example.org", "a b", "a\nb", "a/b", "é", "a\u{202e}b", &"x".repeat(65)] {
        assert_eq!(trace_id(bad), None, "{bad:?}");
    }
    for card in ["4111111111111111", "411111111111", "4111-1111-1111-1111", "4111.1111_11111111-111"] {
        assert_eq!(trace_id(card), None, "{card} may be a card's number");
    }
}

#[test]
fn the_envelopes_trace_id_stands_in_for_one_that_is_left_out() {
    let body = r#"{"detail-type": "payment.failed", "trace_id": "t-1", "detail": {"reservation_id": "rsv_1",
        "payment_id": "pi_1", "trace_id": "jo@example.org"}}"#;
    assert_eq!(Event::parse(EventType::PaymentFailed, body).unwrap().trace_id.as_deref(), Some("t-1"));
}

#[test]
fn what_is_not_read_does_not_decide_the_event() {
    let plain = Event::parse(EventType::PaymentApproved, &envelope("payment.approved", detail())).unwrap();
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let odd = [r#""\ud83d""#, r#""\udc00 and more""#, r#"{"name": "Jo \ud83d"}"#, "1e999", "[\"\\udfff\"]", &deep];
    for odd in odd {
        for name in
            ["customer", "\\ud800", "error_message", "expires_at", "expiresAt", "status", "payment_id", "payload"]
        {
            let field = format!(r#"{{"{name}": {odd}, "{name}": 1, "#);
            for place in [r#"{"detail-type": "#, r#"{"reservation_id": "#] {
                let body = r#"{"detail-type": "payment.approved", "detail": {"reservation_id": "rsv_1", "event_id": "evt_1",
                    "seat_ids": ["A-1", "A-2"], "qty": 2, "payment_intent_id": "pi_1", "amount": 5000, "currency": "EUR"}}"#;
                let body = body.replace(place, &format!("{field}{}", &place[1..]));
                assert_eq!(Event::parse(EventType::PaymentApproved, &body), Ok(plain.clone()), "{body:.300}");
            }
        }
    }
}

#[test]
fn half_a_surrogate_pair_in_a_text_that_is_carried_on_leaves_it_out() {
    for name in ["currency", "user_id", "trace_id", "traceparent", "baggage"] {
        let body = format!(
            r#"{{"detail-type": "payment.approved", "detail": {{"reservation_id": "rsv_1", "payment_intent_id": "pi_1",
                "amount": 1, "{name}": "EU\ud800R"}}}}"#
        );
        let event = Event::parse(EventType::PaymentApproved, &body).unwrap();
        assert_eq!((event.holding.user_id, event.trace_id), (None, None));
        assert_eq!(event.payment.unwrap().currency, None);
        assert_eq!((event.traceparents, event.baggages), ([None, None], [None, None]));
    }
}

#[test]
fn half_a_surrogate_pair_in_what_decides_is_refused() {
    for (name, value) in [
        ("reservation_id", r#""rsv\ud800""#),
        ("payment_intent_id", r#""\udc00""#),
        ("event_id", r#""\ud83d""#),
        ("seat_ids", r#"["A-1", "A-\ud800"]"#),
        ("amount", r#""12\ud800""#),
    ] {
        let mut fields = vec![("reservation_id", r#""rsv_1""#), ("payment_intent_id", r#""pi_1""#), ("amount", "1")];
        fields.retain(|(other, _)| *other != name);
        fields.push((name, value));
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!(r#""{name}": {value}"#)).collect();
        let body = format!(r#"{{"detail-type": "payment.approved", "detail": {{{}}}}}"#, fields.join(", "));
        rejected(
            Event::parse(EventType::PaymentApproved, &body),
            ErrorCode::InvalidField,
            &format!("{name} can't be read"),
        );
    }
    let body = r#"{"detail-type": "payment.approved\ud800", "detail": {}}"#;
    rejected(Event::parse(EventType::PaymentApproved, body), ErrorCode::UnknownType, "detail-type can't be read");
}

#[test]
fn a_failure_needs_no_amount_and_judges_none() {
    for amount in [json!("12.50"), json!(-1), json!({}), json!(12_900.0)] {
        let mut detail = detail();
        detail["amount"] = amount;
        let event = Event::parse(EventType::PaymentFailed, &envelope("payment.failed", detail)).unwrap();
        assert_eq!(event.payment.unwrap().amount, None);
    }
}

#[test]
fn an_amount_with_a_fraction_of_nothing_is_refused() {
    for amount in ["12900.0", "1.29e4", "\"12900.0\""] {
        let body = format!(
            r#"{{"detail-type": "payment.approved", "detail": {{"reservation_id": "rsv_1", "payment_intent_id": "pi_1",
                "amount": {amount}}}}}"#
        );
        rejected(
            Event::parse(EventType::PaymentApproved, &body),
            ErrorCode::InvalidField,
            "amount must be a whole number",
        );
    }
}

fn with_detail(fields: &str) -> String {
    format!(r#"{{"detail-type": "payment.approved", "detail": {{{fields}}}}}"#)
}

const PAID: &str = r#""reservation_id": "rsv_1", "payment_intent_id": "pi_1", "amount": 5000"#;

#[test]
fn what_decides_and_stands_twice_with_different_values_is_ambiguous() {
    for twice in [
        r#""reservation_id": "rsv_2""#,
        r#""reservation_id": null"#,
        r#""reservationId": "rsv_2""#,
        r#""reservation\u005fid": "rsv_2""#,
        r#""payment_intent_id": "pi_2""#,
        r#""paymentIntentId": "pi_2""#,
        r#""amount": 1"#,
        r#""amount": 5000.0"#,
        r#""event_id": "evt_1", "event_id": "evt_2""#,
        r#""event_id": "evt_1", "eventId": "evt_2""#,
        r#""qty": 1, "qty": 2"#,
        r#""qty": 1, "quantity": 2"#,
        r#""seat_ids": ["A-1"], "seat_ids": ["A-2"]"#,
        r#""seat_ids": ["A-1"], "seatIds": ["A-1", "A-2"]"#,
    ] {
        for fields in [format!("{PAID}, {twice}"), format!("{twice}, {PAID}")] {
            let result = Event::parse(EventType::PaymentApproved, &with_detail(&fields));
            rejected(result, ErrorCode::MalformedBody, "the body is ambiguous: ");
        }
    }
    for body in [
        format!(r#"{{"detail-type": "payment.approved", "detail-type": "payment.failed", "detail": {{{PAID}}}}}"#),
        format!(r#"{{"type": "payment.approved", "type": null, "detail": {{{PAID}}}}}"#),
        format!(r#"{{"detail-type": "payment.approved", "detail": {{{PAID}}}, "detail": {{}}}}"#),
        format!(r#"{{"type": "payment.approved", "payload": {{{PAID}}}, "payload": {{}}}}"#),
        format!(r#"{{"type": "payment.approved", "reservation_id": "rsv_2", "payload": {{{PAID}}}}}"#),
        format!(r#"{{"type": "payment.approved", "paymentIntentId": "pi_2", "payload": {{{PAID}}}}}"#),
        format!(
            r#"{{"detail-type": "Payment Status Updated", "detail": {{{PAID}, "status": "FAILED", "status": "COMPLETED"}}}}"#
        ),
    ] {
        rejected(Event::parse(EventType::PaymentApproved, &body), ErrorCode::MalformedBody, "the body is ambiguous: ");
    }
    let expiry =
        r#"{"type": "reservation.expired", "detail": {"reservation_id": "rsv_1", "expires_at": 1, "expiresAt": 2}}"#;
    let ambiguous = Event::parse(EventType::ReservationExpired, expiry);
    rejected(
        ambiguous,
        ErrorCode::MalformedBody,
        "the body is ambiguous: expires_at and expiresAt have different values",
    );
}

#[test]
fn what_stands_twice_with_one_value_or_decides_nothing_is_no_fault() {
    let plain = Event::parse(EventType::PaymentApproved, &with_detail(PAID)).unwrap();
    for twice in [
        r#""reservation_id": "rsv_1""#,
        r#""reservation_id": "rsv_\u0031""#,
        r#""reservationId": "rsv_1""#,
        r#""reservationId": null"#,
        r#""paymentIntentId": "pi_1""#,
        r#""amount": 5000"#,
        r#""customer": "Jo", "customer": "Jim""#,
        r#""currency": "EUR", "currency": "USD""#,
        r#""trace_id": "a", "trace_id": "b""#,
        r#""status": "FAILED", "status": "COMPLETED""#,
    ] {
        for fields in [format!("{PAID}, {twice}"), format!("{twice}, {PAID}")] {
            assert_eq!(Event::parse(EventType::PaymentApproved, &with_detail(&fields)), Ok(plain.clone()), "{twice}");
        }
    }
    let fields = format!(r#"{PAID}, "qty": 2, "quantity": "2", "seat_ids": ["A", "B"], "seatIds": ["A", "B"]"#);
    assert_eq!(Event::parse(EventType::PaymentApproved, &with_detail(&fields)).unwrap().holding.quantity, Some(2));
    let oldest = format!(
        r#"{{"type": "payment.approved", "reservation_id": "rsv_1", "amount": "5000", "detail": null, "payload": {{{PAID}}}}}"#
    );
    assert_eq!(Event::parse(EventType::PaymentApproved, &oldest), Ok(plain));
}

#[test]
fn one_form_goes_before_another_and_one_name_before_another() {
    let plain = Event::parse(EventType::PaymentApproved, &with_detail(PAID)).unwrap();
    for body in [
        with_detail(&format!(r#"{PAID}, "payment_id": "pay_9", "paymentId": "pay_8""#)),
        format!(r#"{{"type": "payment.failed", "detail-type": "payment.approved", "detail": {{{PAID}}}}}"#),
        format!(r#"{{"detail-type": null, "type": "payment.approved", "detail": {{{PAID}}}}}"#),
        format!(r#"{{"type": "payment.approved", "payload": {{"amount": 1}}, "detail": {{{PAID}}}}}"#),
        format!(r#"{{"type": "payment.approved", "reservation_id": "rsv_2", "detail": {{{PAID}}}}}"#),
    ] {
        assert_eq!(Event::parse(EventType::PaymentApproved, &body), Ok(plain.clone()), "{body}");
    }
}

#[test]
fn a_byte_order_mark_is_no_fault() {
    let body = with_detail(PAID);
    let marked = Event::parse(EventType::PaymentApproved, &format!("\u{feff}{body}"));
    assert_eq!(marked, Event::parse(EventType::PaymentApproved, &body));
    rejected(Event::parse(EventType::PaymentApproved, "\u{feff}"), ErrorCode::MalformedBody, "the body is empty");
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
    for (half, wait) in [(json!(1_030.5), 30_500), (json!("1030.5"), 30_500), (json!("1000.001"), 1)] {
        assert_eq!(early_by(half), Some(Duration::from_millis(wait)));
    }
    assert_eq!(early_by(json!(0.5)), None);
    for bad in [
        json!("soon"),
        json!(""),
        json!(-5),
        json!(-0.5),
        json!("-0.5"),
        json!("1."),
        json!(".5"),
        json!("1.5.5"),
        json!("1e3"),
        json!("+1.5"),
        json!(1e300),
        json!("253402300800.5"),
        json!(1_763_628_000_000_u64),
        json!("1763628000000"),
        json!(1_763_628_000_000.5),
        json!({}),
        json!("2026-11-20T09:14:20"),
        json!("2026-11-20T09:14:20Z[UTC]"),
    ] {
        rejected(expiry(bad), ErrorCode::InvalidField, "expires_at");
    }
}

#[test]
fn a_payments_expires_at_is_not_read() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    for odd in [
        json!(1_030),
        json!("2026-11-20T09:14:20"),
        json!(""),
        json!(1_763_628_000_000_u64),
        json!("2026-11-20T09:14:20Z[UTC]"),
        json!({}),
    ] {
        let approved = approved_with("expires_at", odd).unwrap();
        assert_eq!((approved.expires_at, approved.early_by(now)), (None, None));
    }
}

#[test]
fn only_the_amount_of_an_approval_must_not_change() {
    assert_eq!(approved_with("currency", json!("USD")).unwrap().fingerprint(), "amount=5000");
    let failed = Event::parse(EventType::PaymentFailed, &envelope("payment.failed", detail())).unwrap();
    assert_eq!(failed.fingerprint(), "");
}
