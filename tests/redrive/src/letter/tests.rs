use super::*;

type Texts<'a> = [(&'a str, String)];

/// A message as SQS gives it out, with attributes that are strings.
pub(crate) fn text(
    id: &str,
    body: &str,
    attributes: &Texts<'_>,
    system: &[(MessageSystemAttributeName, &str)],
) -> Message {
    let mut message = Message::builder().message_id(id).receipt_handle(format!("receipt of {id}")).body(body);
    for (name, value) in attributes {
        let value = MessageAttributeValue::builder().data_type("String").string_value(value).build().unwrap();
        message = message.message_attributes(*name, value);
    }
    for (name, value) in system {
        message = message.attributes(name.clone(), *value);
    }
    message.build()
}

/// What a function attaches.
pub(crate) fn dead_lettered(code: &str, source_id: &str) -> [(&'static str, String); 4] {
    [
        ("error_code", code.to_owned()),
        ("error_message", "it is broken".to_owned()),
        ("event_type", "payment.approved".to_owned()),
        ("source_message_id", source_id.to_owned()),
    ]
}

fn undelivered() -> [(&'static str, String); 6] {
    [
        ("RULE_ARN", "arn:aws:events:eu-west-1:123456789012:rule/tickets/approved"),
        ("TARGET_ARN", "arn:aws:sqs:eu-west-1:123456789012:holds"),
        ("ERROR_CODE", "THROTTLING"),
        ("ERROR_MESSAGE", "Rate exceeded"),
        ("EXHAUSTED_RETRY_CONDITION", "MaximumRetryAttempts"),
        ("RETRY_ATTEMPTS", "185"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
}

const MOVED: (MessageSystemAttributeName, &str) =
    (MessageSystemAttributeName::DeadLetterQueueSourceArn, "arn:aws:sqs:eu-west-1:123456789012:holds");

#[track_caller]
fn check(attributes: &Texts<'_>, moved: bool, expected: (Origin, &str), says: &str, kept: &[&str]) {
    let system = if moved { &[MOVED][..] } else { &[] };
    let letter = Letter::read(text("m-1", "{}", attributes, system)).unwrap();
    assert_eq!((letter.origin, letter.code.as_str()), expected);
    assert!(letter.why.contains(says), "{says:?} is missing in {:?}", letter.why);
    let mut own: Vec<&str> = letter.attributes.keys().map(String::as_str).collect();
    own.sort_unstable();
    assert_eq!(own, kept);
}

#[test]
fn a_dead_letter_of_a_body_that_left_no_room_for_more_is_known_by_its_code_alone() {
    let stamp = [dead_lettered("malformed_body", "m-0")[0].clone(), ("tenant", "acme".to_owned())];
    let letter = |body: &str| Letter::read(text("m-1", body, &stamp, &[])).unwrap();
    let large = letter(&"x".repeat(1024 * 1024 - 100));
    assert_eq!((large.origin, large.code.as_str()), (Origin::Function, "malformed_body"));
    assert_eq!(large.attributes.keys().collect::<Vec<_>>(), ["tenant"]);
    let small = letter("x");
    assert_eq!((small.origin, small.attributes.len()), (Origin::Unknown, 2), "a producer may use the name for itself");
}

fn with_own(stamp: &Texts<'_>) -> Vec<(&'static str, String)> {
    let names = ["error_code", "error_message", "event_type", "source_message_id"];
    let own = |name: &'static str| (name, "the producer's".to_owned());
    let mut all = vec![own("traceparent"), own("tenant")];
    for (name, value) in stamp {
        let name = names.into_iter().chain(undelivered().map(|(name, _)| name)).find(|known| known == name);
        all.push((name.unwrap(), value.clone()));
    }
    all
}

#[test]
fn what_the_function_added_is_its_reason_and_comes_off() {
    let expected = (Origin::Function, "malformed_body");
    check(
        &with_own(&dead_lettered("malformed_body", "m-0")),
        false,
        expected,
        "it is broken",
        &["tenant", "traceparent"],
    );
}

#[test]
fn what_event_bridge_added_is_its_reason_and_comes_off() {
    let says = "Rate exceeded (rule tickets/approved, MaximumRetryAttempts, 185 retries)";
    check(&with_own(&undelivered()), false, (Origin::EventBridge, "THROTTLING"), says, &["tenant", "traceparent"]);
}

#[test]
fn event_bridge_leaves_out_what_did_not_happen() {
    let short = &undelivered()[..3];
    check(short, false, (Origin::EventBridge, "THROTTLING"), "(rule tickets/approved)", &[]);
}

#[test]
fn what_sqs_moved_has_no_reason_and_keeps_all_its_attributes() {
    let own = [("event_type", "vip".to_owned()), ("error_code", "7".to_owned())];
    let expected = (Origin::Queue, MAX_RECEIVE_COUNT);
    check(&own, true, expected, "after too many receives", &["error_code", "event_type"]);
}

#[test]
fn what_sqs_moved_after_a_dead_letter_shows_the_dead_letter_as_history() {
    let expected = (Origin::Queue, MAX_RECEIVE_COUNT);
    check(
        &dead_lettered("retries_exhausted", "m-0"),
        true,
        expected,
        "earlier dead letter said retries_exhausted",
        &[],
    );
}

#[test]
fn both_stamps_come_off_a_message_that_event_bridge_and_then_the_function_gave_up() {
    let mut both = with_own(&undelivered()[..4]);
    both.extend(dead_lettered("unknown_type", "m-0"));
    check(&both, false, (Origin::Function, "unknown_type"), "it is broken", &["tenant", "traceparent"]);
}

#[test]
fn a_part_of_a_stamp_is_the_producers_own() {
    let own = [("event_type", "vip".to_owned()), ("RULE_ARN", "mine".to_owned())];
    check(&own, false, (Origin::Unknown, NO_REASON), "nothing on it", &["RULE_ARN", "event_type"]);
}

#[test]
fn the_reservation_is_found_in_every_form_and_also_in_an_invalid_event() {
    for body in [
        r#"{"detail-type": "payment.approved", "detail": {"reservation_id": "rsv_1"}}"#,
        r#"{"type": "payment.approved", "detail": {"reservationId": "rsv_1", "amount": "a lot"}}"#,
        r#"{"type": "payment.approved", "reservation_id": "rsv_1", "payload": {"payment_id": "pi_1"}}"#,
        r#"{"payload": {"reservation_id": "rsv_1"}}"#,
    ] {
        let read = (reservation_id(body), about(body));
        assert_eq!((read.0.as_deref(), read.1.as_deref()), (Some("rsv_1"), Some("rsv_1")), "{body}");
    }
    for body in ["", "[]", "7", "{", "{}", r#"{"detail": {"reservation_id": 7}}"#, r#"{"reservation_id": "a\u001bb"}"#]
    {
        assert_eq!((reservation_id(body), about(body)), (None, None), "{body}");
    }
}

#[test]
fn a_body_without_a_reservation_is_about_its_booking_or_else_about_its_place() {
    for (body, named) in [
        (r#"{"bookingId": "bkg_1", "userId": "joe", "guests": -1}"#, "bkg_1"),
        (r#"{"detail-type": "booking.created", "detail": {"booking_id": "bkg_1"}}"#, "bkg_1"),
        (r#"{"booking_id": "bkg_1", "detail": {"queue_item_id": "plc_1"}}"#, "bkg_1"),
        (r#"{"detail-type": "place.called", "detail": {"queue_item_id": "plc_1"}}"#, "plc_1"),
        (r#"{"payload": {"queue_item_id": "plc_1"}}"#, "plc_1"),
    ] {
        assert_eq!((reservation_id(body), about(body).as_deref()), (None, Some(named)), "{body}");
    }
    let all = r#"{"queue_item_id": "plc_1", "bookingId": "bkg_1", "reservationId": "rsv_1"}"#;
    assert_eq!(about(all).as_deref(), Some("rsv_1"));
}

#[test]
fn a_reason_cannot_move_the_cursor() {
    let mut attributes = dead_lettered("x", "m-0");
    attributes[1].1 = "one\ntwo\u{9b}2J".to_owned();
    let letter = Letter::read(text("m-1", "{}", &attributes, &[])).unwrap();
    assert_eq!(letter.why, "one\\ntwo\\u{9b}2J");
}

#[test]
fn the_time_the_trace_and_the_first_id_are_read() {
    let system =
        [(MessageSystemAttributeName::SentTimestamp, "1000"), (MessageSystemAttributeName::AwsTraceHeader, "Root=1")];
    let letter = Letter::read(text("m-1", "{}", &dead_lettered("x", "m-0"), &system)).unwrap();
    assert_eq!(letter.sent, Some(UNIX_EPOCH + Duration::from_secs(1)));
    assert_eq!(letter.trace_header.as_deref(), Some("Root=1"));
    assert!(letter.is_called("m-0") && letter.is_called("m-1") && !letter.is_called("m-2"));
}
