//! Input that can never succeed, from a body that is no JSON to a payload that is no batch: each ends as the design says,
//! with a reason, and takes nothing else down with it.

use std::collections::BTreeMap;

use local_stack::{
    aws::Injected,
    inventory::SeatState,
    lambda::{FunctionError, Invocation},
    mapping,
    queue::{MessageAttribute, Received},
    reservations::Status,
    stack::{MAX_RECEIVES, MOVED_AFTER},
};
use serde_json::{Value, json};

use crate::harness::{Ended, RESERVATION, Sent, World, attribute, event, event_with, log_lines};

/// A body that must be rejected.
struct Case {
    name: String,
    body: String,
    code: &'static str,
    /// A part of the reason, from which a person understands what is wrong.
    says: &'static str,
}

impl Case {
    fn new(name: impl Into<String>, body: impl Into<String>, code: &'static str, says: &'static str) -> Self {
        Self { name: name.into(), body: body.into(), code, says }
    }

    /// A field of an event's detail that breaks its rule; a null takes the field away.
    fn field(detail_type: &str, field: &str, value: Value, says: &'static str) -> Self {
        let mut name = format!("{detail_type}: {field} = {value}");
        name.truncate(80);
        let body = event_with(detail_type, json!({ field: value })).to_string();
        Self::new(name, body, "invalid_field", says)
    }
}

/// A good event of the function, for the `number`th reservation of a test, which is put in place.
fn good_one(world: &World, number: usize) -> (String, Value) {
    let (id, seat) = (format!("rsv_good_{number}"), format!("G-{number}"));
    world.seed(&id, &[&seat], Status::Hold, SeatState::Held, None);
    let detail_type = world.function.name().replace('-', ".");
    let event = event_with(
        &detail_type,
        json!({"reservation_id": id, "seat_ids": [seat], "qty": 1, "payment_intent_id": format!("pi_good_{number}")}),
    );
    (id, event)
}

/// Where a function leaves a reservation that all went well for.
fn settled(world: &World) -> &'static str {
    match world.function.name() {
        "payment-approved" => "CONFIRMED, sold",
        "payment-failed" => "CANCELLED, free",
        _ => "EXPIRED, free",
    }
}

/// Delivers each case in one batch with a good record, and asserts everything that a rejection promises.
async fn each_is_rejected_beside_a_good_record(function: &str, cases: Vec<Case>) {
    let world = World::of(function).await;
    for (number, case) in cases.iter().enumerate() {
        let name = &case.name;
        let (good_id, good) = good_one(&world, number);
        let ended = world.deliver([Sent::from(case.body.clone()), Sent::from(good)]).await;
        let [bad, good] = ended.as_slice() else { panic!("{name}: two records, two ends") };
        assert_eq!((bad.outcome.as_str(), bad.kept), ("rejected", false), "{name}: {:#}", bad.line);
        assert_eq!((good.outcome.as_str(), good.kept), ("success", false), "{name}: {:#}", good.line);
        assert_eq!(world.state_of(&good_id), settled(&world), "{name}");

        let dead_lettered = world.dead_letters.messages();
        let letter = dead_lettered.last().unwrap_or_else(|| panic!("{name}: nothing was dead-lettered"));
        assert_eq!(dead_lettered.len(), number + 1, "{name}: one dead letter a case");
        assert!(letter.body == case.body, "{name}: the body changed on its way");
        assert_eq!(attribute(letter, "error_code"), case.code, "{name}");
        let message = attribute(letter, "error_message");
        assert!(message.contains(case.says), "{name}: {:?} is missing in {message:?}", case.says);
        assert_eq!(attribute(letter, "event_type"), function.replace('-', "."), "{name}");
        assert_eq!(attribute(letter, "source_message_id"), bad.line["message_id"], "{name}");
        assert_eq!(bad.line["error"], message, "{name}: log and dead letter give one reason");
    }
    assert!(world.queue.is_empty(), "nothing waits");
    assert_eq!(world.downstream_calls(), (cases.len(), cases.len()), "a rejected record calls nobody");
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_rejected_as_malformed() {
    const CODE: &str = "malformed_body";
    let good = event("payment.failed").to_string();
    each_is_rejected_beside_a_good_record(
        "payment-failed",
        vec![
            Case::new("not JSON", "this is not JSON", CODE, "not JSON"),
            Case::new("XML", "<event type=\"payment.failed\"/>", CODE, "not JSON"),
            Case::new("whitespace only", " \t\r\n ", CODE, "empty"),
            Case::new("truncated", &good[..good.len() - 1], CODE, "not JSON: EOF"),
            Case::new("truncated inside a string", &good[..good.len() / 2], CODE, "not JSON: EOF"),
            Case::new("two events in one body", format!("{good}{good}"), CODE, "trailing characters"),
            Case::new("two byte order marks", format!("\u{feff}\u{feff}{good}"), CODE, "not JSON"),
            Case::new("nothing but a byte order mark", "\u{feff}", CODE, "empty"),
            Case::new(
                "5,000 nested arrays",
                format!("{}{}", "[".repeat(5_000), "]".repeat(5_000)),
                CODE,
                "not an object",
            ),
            Case::new(
                "an id twice",
                good.replace(r#""payment_intent_id""#, r#""reservation_id":"rsv_other","payment_intent_id""#),
                CODE,
                "ambiguous: reservation_id stands there more than once, with different values",
            ),
            Case::new(
                "an id in both spellings",
                good.replace(r#""payment_intent_id""#, r#""reservationId":"rsv_other","payment_intent_id""#),
                CODE,
                "ambiguous: reservation_id and reservationId have different values",
            ),
            Case::new(
                "the oldest form with two reservations",
                r#"{"type":"payment.failed","reservation_id":"rsv_1","payload":{"reservation_id":"rsv_2","payment_id":"pi_1"}}"#,
                CODE,
                "ambiguous: reservation_id stands there more than once",
            ),
            Case::new("200 KB of junk", "x".repeat(200 * 1024), CODE, "not JSON"),
            Case::new("a JSON string", r#""payment.failed""#, CODE, "not an object"),
            Case::new("a JSON array", format!("[{good}]"), CODE, "not an object"),
            Case::new("a JSON number", "42", CODE, "not an object"),
            Case::new("a JSON null", "null", CODE, "not an object"),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_event_of_another_type_is_rejected_as_unknown() {
    const CODE: &str = "unknown_type";
    let pay = json!({"detail-type": "Payment Status Updated", "detail": {"status": "PENDING"}});
    each_is_rejected_beside_a_good_record(
        "payment-failed",
        vec![
            Case::new(
                "an approval",
                event("payment.approved").to_string(),
                CODE,
                "settles payment.failed, not \"payment.approved\"",
            ),
            Case::new("an expiry", event("reservation.expired").to_string(), CODE, "reservation.expired"),
            Case::new("a type of nobody", event("order.created").to_string(), CODE, "order.created"),
            Case::new("another case", event("Payment.Failed").to_string(), CODE, "Payment.Failed"),
            Case::new("a payment that is pending", pay.to_string(), CODE, "status is none"),
            Case::new(
                "half a surrogate pair in the type",
                r#"{"detail-type": "payment.failed\ud800", "detail": {}}"#,
                CODE,
                "detail-type can't be read",
            ),
            Case::new("no type", "{}", CODE, "no detail-type"),
            Case::new("a type that is a number", r#"{"detail-type": 5, "detail": {}}"#, CODE, "no detail-type"),
        ],
    )
    .await;
}

#[tokio::test]
async fn a_field_of_a_wrong_type_or_an_absurd_value_is_rejected_by_its_name() {
    let approved = |field: &str, value: Value, says| Case::field("payment.approved", field, value, says);
    let detail = |detail: Value, says| {
        let body = json!({"detail-type": "payment.approved", "detail": detail});
        Case::new(format!("detail = {detail}"), body.to_string(), "invalid_field", says)
    };
    let mut cases = vec![
        detail(json!(null), "detail is missing"),
        detail(json!("text"), "detail must be an object"),
        detail(json!([]), "detail must be an object"),
        detail(json!({}), "is missing"),
        approved("reservation_id", json!({"id": 1}), "reservation_id must be a string"),
        approved("payment_intent_id", json!([1]), "payment_intent_id must be a string"),
        approved("event_id", json!(1001), "event_id must be a string"),
        approved("seat_ids", json!("A-12"), "seat_ids must be an array"),
        approved("seat_ids", json!({"0": "A-12"}), "seat_ids must be an array"),
        approved("seat_ids", json!(["A-12", 13]), "seat_ids must hold"),
        approved("seat_ids", json!(["A-12", " "]), "seat_ids must hold"),
        approved("seat_ids", json!(["A-12", "x".repeat(65)]), "seat_ids must hold"),
        approved("seat_ids", json!(vec!["A-12"; 1_001]), "at most 1,000"),
        approved("seat_ids", json!(["A-12"]), "qty is 2, but 1 seats"),
    ];
    for absurd in [
        json!(0),
        json!(-1),
        json!(2.5),
        json!(1_001),
        json!(4_294_967_298_u64),
        json!("two"),
        json!("-2"),
        json!(true),
        json!([2]),
    ] {
        cases.push(approved("qty", absurd, "qty must be a whole number from 1 to 1,000"));
    }
    cases.push(approved("amount", json!(null), "amount is missing"));
    for absurd in [
        json!(-1),
        json!(125.5),
        json!(9_223_372_036_854_775_808_u64),
        json!(1e300),
        json!("12.50"),
        json!("-1"),
        json!(""),
        json!(true),
        json!({"value": 1}),
        json!(12_900.0),
        json!("12900.0"),
    ] {
        cases.push(approved("amount", absurd, "amount must be a whole number of at least 0"));
    }
    each_is_rejected_beside_a_good_record("payment-approved", cases).await;
}

#[tokio::test]
async fn a_time_that_is_none_is_rejected() {
    let cases = [
        json!("tomorrow"),
        json!("2026-11-20"),
        json!("2026-11-20T09:14:20"),
        json!("2026-11-20T09:14:20Z[UTC]"),
        json!(""),
        json!(-1),
        json!(-1.5),
        json!("1.5.5"),
        json!(true),
        json!({}),
        json!("1795000000000"),
        // Milliseconds would put the expiry some 50,000 years away.
        json!(1_795_000_000_000_u64),
    ];
    let cases = cases.map(|value| Case::field("reservation.expired", "expires_at", value, "expires_at must be a time"));
    each_is_rejected_beside_a_good_record("reservation-expired", cases.into()).await;
}

#[tokio::test]
async fn an_id_that_is_missing_or_unfit_for_a_path_is_rejected() {
    let mut cases = Vec::new();
    for (field, missing, rule) in [
        ("reservation_id", "reservation_id is missing", "reservation_id must be"),
        ("payment_intent_id", "payment_intent_id is missing", "payment_intent_id must be"),
    ] {
        cases.push(Case::field("payment.failed", field, json!(null), missing));
        for unfit in
            [".", "..", "", " ", "two words", " padded ", "tab\t", "line\nfeed", "nul\0", "del\u{7f}", "é", "\u{202e}"]
        {
            cases.push(Case::field("payment.failed", field, json!(unfit), rule));
        }
        for long in ["x".repeat(257), "x".repeat(10 * 1024)] {
            cases.push(Case::field("payment.failed", field, json!(long), rule));
        }
    }
    for unfit in [".", "..", "", "line\r\nfeed", &"x".repeat(10 * 1024)] {
        cases.push(Case::field("payment.failed", "event_id", json!(unfit), "event_id must be"));
    }
    each_is_rejected_beside_a_good_record("payment-failed", cases).await;
}

#[tokio::test]
async fn an_opaque_id_settles_and_stays_one_escaped_path_segment() {
    let world = World::of("payment-approved").await;
    let long = "x".repeat(256);
    let ids = [
        ("a/b", "a%2Fb"),
        ("/", "%2F"),
        ("../admin", "..%2Fadmin"),
        ("a/../../b", "a%2F..%2F..%2Fb"),
        ("a..b", "a..b"),
        ("...", "..."),
        ("a\\..\\b", "a%5C..%5Cb"),
        ("a?status=CONFIRMED", "a%3Fstatus%3DCONFIRMED"),
        ("a#fragment", "a%23fragment"),
        ("%", "%25"),
        ("a%2Fb", "a%252Fb"),
        ("%2e%2e", "%252e%252e"),
        ("a;b=c&d", "a%3Bb%3Dc%26d"),
        ("user:password@host", "user%3Apassword%40host"),
        ("\"<{|}>`^", "%22%3C%7B%7C%7D%3E%60%5E"),
        ("-_.~", "-_.~"),
        (&long, &long),
    ];
    for (number, (id, segment)) in ids.into_iter().enumerate() {
        let seat = format!("A-{number}");
        world.seed(id, &[&seat], Status::Hold, SeatState::Held, None);
        let (good_id, good) = good_one(&world, number);
        // The payment's id is as opaque, though it travels in a body and in keys only.
        let opaque = event_with(
            "payment.approved",
            json!({"reservation_id": id, "payment_intent_id": id, "seat_ids": [seat], "qty": 1}),
        );
        for ended in world.deliver([opaque, good]).await {
            assert_eq!((ended.outcome.as_str(), ended.kept), ("success", false), "{id}: {:#}", ended.line);
        }
        assert_eq!(world.state_of(id), "CONFIRMED, sold", "{id}");
        assert_eq!(world.state_of(&good_id), "CONFIRMED, sold", "{id}");
        let targets: Vec<String> =
            world.stack.reservations.calls()[2 * number..].iter().map(|call| call.target.clone()).collect();
        let wanted = format!("/internal/reservations/{segment}");
        assert!(targets.contains(&wanted), "{id}: {wanted} is not among {targets:?}");
        assert_eq!(targets.len(), 2, "{id}: one call a record");
        let paid_by = world.stack.reservations.get(id).and_then(|found| found.payment_intent_id);
        assert_eq!(paid_by.as_deref(), Some(id), "the payment's id arrives unchanged");
    }
}

#[tokio::test]
async fn what_nothing_is_decided_by_is_no_reason_to_reject() {
    let world = World::of("payment-failed").await;
    let names = ["user_id", "currency", "trace_id", "traceparent", "error_code", "error_message"];
    for (number, name) in names.into_iter().enumerate() {
        let (id, mut good) = good_one(&world, number);
        good["detail"][name] = json!({"of": ["a", "wrong", "type"]});
        let ended = world.deliver_one(good).await;
        assert_eq!(ended.outcome, "success", "{name}: {:#}", ended.line);
        assert_eq!(world.state_of(&id), "CANCELLED, free", "{name}");
    }
}

/// A field of the detail as it is written, because no JSON library writes such a thing.
fn with_written(event: &Value, place: &str, written: &str) -> String {
    let text = event.to_string();
    assert!(text.contains(place), "{place} is not in {text}");
    text.replacen(place, &format!("{place}{written},"), 1)
}

#[tokio::test]
async fn what_is_not_read_is_not_judged() {
    let world = World::of("payment-approved").await;
    let deep = format!("{}1{}", r#"{"a":"#.repeat(5_000), "}".repeat(5_000));
    let written = [
        (r#""detail":{"#, r#""customer":"Jo \ud83d""#.to_owned()),
        (r#""detail":{"#, r#""\ud83d":"a name that is not a text""#.to_owned()),
        (r#""detail":{"#, r#""customer":{"name":["\udc00"]}"#.to_owned()),
        (r#""detail":{"#, r#""weight":1e999"#.to_owned()),
        (r#""detail":{"#, r#""note":"a","note":"b""#.to_owned()),
        (r#""detail":{"#, format!(r#""extra":{deep}"#)),
        (r#""detail":{"#, r#""trace_id":"\ud83d""#.to_owned()),
        (r#""detail":{"#, r#""currency":"EUR\ud83d""#.to_owned()),
        (r#""detail":{"#, r#""expires_at":"2026-11-20T09:14:20""#.to_owned()),
        (r#""detail":{"#, r#""expires_at":"""#.to_owned()),
        (r#""detail":{"#, r#""expires_at":1795000000000"#.to_owned()),
        (r#""detail":{"#, r#""expiresAt":"2026-11-20T09:14:20Z[UTC]""#.to_owned()),
        ("{", r#""source":"\ud83d","resources":["\udfff"]"#.to_owned()),
    ];
    for (number, (place, written)) in written.iter().enumerate() {
        let (id, mut good) = good_one(&world, number);
        let name = written.split('"').nth(1).expect("a name");
        good["detail"].as_object_mut().expect("a detail").remove(name);
        let ended = world.deliver_one(with_written(&good, place, written)).await;
        assert_eq!(ended.outcome, "success", "{written:.60}: {:#}", ended.line);
        assert_eq!(world.state_of(&id), "CONFIRMED, sold", "{written:.60}");
    }
    let (id, good) = good_one(&world, written.len());
    world.deliver_one(format!("\u{feff}{good}")).await.is("success");
    assert_eq!(world.state_of(&id), "CONFIRMED, sold", "behind a byte order mark");
}

#[tokio::test]
async fn half_a_surrogate_pair_in_an_id_is_rejected() {
    let good = event("payment.failed").to_string();
    let cases = ["reservation_id", "payment_intent_id", "event_id"].map(|name| {
        let start = format!(r#""{name}":""#);
        assert!(good.contains(&start));
        Case::new(name, good.replace(&start, &format!("{start}\\ud800")), "invalid_field", "can't be read")
    });
    each_is_rejected_beside_a_good_record("payment-failed", cases.into()).await;
}

#[tokio::test]
async fn a_message_is_dead_lettered_with_its_group() {
    let world = World::of("payment-failed").await;
    let grouped = Sent { group_id: Some("customer-1".to_owned()), ..Sent::from("junk".to_owned()) };
    world.deliver_one(grouped).await.is("rejected");
    let dead_lettered = world.dead_letters.receive(1);
    assert_eq!(dead_lettered[0].system.get("MessageGroupId").map(String::as_str), Some("customer-1"));
}

#[tokio::test]
async fn a_body_near_the_limit_is_dead_lettered_with_at_least_its_code() {
    let world = World::of("payment-failed").await;
    for (number, left) in [1_000, 80, 31].into_iter().enumerate() {
        let body = "x".repeat(1024 * 1024 - left);
        world.deliver_one(body.clone()).await.is("rejected");
        let dead_lettered = world.dead_letters.messages();
        let letter = dead_lettered.last().expect("a letter");
        assert_eq!(dead_lettered.len(), number + 1, "with {left} bytes left");
        assert!(letter.body == body, "byte for byte");
        assert_eq!(attribute(letter, "error_code"), "malformed_body", "with {left} bytes left");
    }
    let ended = world.deliver_one("x".repeat(1024 * 1024)).await;
    ended.is("retried").because("malformed_body");
    let said = world.function.all_logs().iter().any(|line| line.contains("leaves no room for a reason"));
    assert!(said, "the log says why it was not dead-lettered");
    assert_eq!(world.queue.len(), 1, "and is in its queue still");
}

#[tokio::test]
async fn a_large_body_is_no_fault_as_long_as_it_is_an_event() {
    let world = World::of("payment-failed").await;
    let (large_id, mut large) = good_one(&world, 0);
    let (good_id, good) = good_one(&world, 1);
    large["detail"]["extra"] = json!("x".repeat(200 * 1024));
    for ended in world.deliver([large, good]).await {
        ended.is("success");
    }
    for id in [large_id, good_id] {
        assert_eq!(world.state_of(&id), "CANCELLED, free");
    }
}

/// Takes what waits in the queue, as a mapping would, so that a test can bend the batch before it is handed over.
fn take(world: &World) -> Vec<Received> {
    world.queue.receive(10)
}

async fn invoke(world: &World, batch: &Value) -> Invocation {
    world.function.invoke(batch.to_string()).await
}

/// The ids that an answer reports.
#[track_caller]
fn reported(invocation: &Invocation) -> Vec<String> {
    let answer = invocation.result.as_ref().expect("the invocation succeeds");
    let answer: Value = serde_json::from_slice(answer).expect("the answer is JSON");
    let failures = answer["batchItemFailures"].as_array().expect("the answer lists failures");
    let id = |failure: &Value| failure["itemIdentifier"].as_str().expect("an identifier").to_owned();
    failures.iter().map(id).collect()
}

/// The message of the error that an invocation must have failed with.
#[track_caller]
fn failure(invocation: &Invocation, case: &str) -> String {
    match &invocation.result {
        Err(FunctionError::Unhandled { message, .. }) => message.clone(),
        other => panic!("{case}: the function reports an error, not {other:?}"),
    }
}

/// Asserts that the process that an invocation failed in is still there and still works.
async fn the_same_process_serves_a_good_record(world: &World, number: usize, case: &str) {
    let (id, good) = good_one(world, number);
    world.send(good);
    let invocation = invoke(world, &mapping::event(&world.queue, &take(world))).await;
    assert!(!invocation.cold, "{case}: the process was lost");
    assert_eq!(reported(&invocation), [""; 0], "{case}");
    assert_eq!(world.state_of(&id), settled(world), "{case}");
}

#[tokio::test]
async fn an_empty_body_is_reported_failed_because_no_queue_would_take_it() {
    let world = World::of("payment-failed").await;
    let (good_id, good) = good_one(&world, 0);
    // SQS takes no empty body, so the record is made empty on its way.
    let empty_id = world.send("x".to_owned());
    world.send(good);
    let mut batch = take(&world);
    batch[0].body.clear();
    let invocation = invoke(&world, &mapping::event(&world.queue, &batch)).await;
    assert_eq!(reported(&invocation), [empty_id.as_str()]);
    assert_eq!(world.state_of(&good_id), "CANCELLED, free");
    assert!(world.dead_letters.is_empty(), "an empty body cannot be sent");
    let lines = log_lines(&invocation.logs);
    let ended = lines
        .iter()
        .find(|line| line["message_id"] == *empty_id && line["outcome"].is_string())
        .expect("the record has its line");
    assert_eq!((&ended["outcome"], &ended["error_code"]), (&json!("retried"), &json!("malformed_body")));
    assert_eq!(ended["error"], "the body is empty");
}

#[tokio::test]
async fn a_record_without_an_id_fails_the_invocation_loudly() {
    let world = World::of("payment-failed").await;
    for (number, (case, id)) in
        [("absent", None), ("null", Some(json!(null))), ("empty", Some(json!(""))), ("blank", Some(json!(" ")))]
            .into_iter()
            .enumerate()
    {
        world.send(event("payment.failed"));
        world.send(event("payment.failed"));
        let mut batch = mapping::event(&world.queue, &take(&world));
        let record = batch["Records"][1].as_object_mut().expect("a record");
        record.remove("messageId");
        record.extend(id.map(|id| ("messageId".to_owned(), id)));
        let calls = world.downstream_calls();
        let invocation = invoke(&world, &batch).await;
        let message = failure(&invocation, case);
        assert!(message.contains("messageId"), "{case}: {message}");
        assert_eq!(world.downstream_calls(), calls, "{case}: no record of the batch was started");
        let lines = log_lines(&invocation.logs);
        assert!(
            lines.iter().any(|line| line["level"] == "error" && line["error"] == message),
            "{case}: the log says it too: {lines:#?}"
        );
        the_same_process_serves_a_good_record(&world, number, case).await;
    }
}

#[tokio::test]
async fn a_payload_that_is_no_sqs_event_fails_the_invocation_with_a_clear_error() {
    let world = World::of("payment-failed").await;
    let api_gateway = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": "/", "headers": {"host": "example.com"}, "body": "{}",
        "requestContext": {"http": {"method": "POST", "path": "/"}}, "isBase64Encoded": false,
    });
    let payloads = [
        json!({}),
        json!([]),
        json!(null),
        json!("text"),
        json!(5),
        json!({"Records": null}),
        json!({"Records": 5}),
        json!({"Records": {}}),
        json!({"Records": [5]}),
        json!({"records": []}),
        event("payment.failed"),
        api_gateway,
    ];
    for (number, payload) in payloads.iter().enumerate() {
        let case = payload.to_string();
        let message = failure(&invoke(&world, payload).await, &case);
        assert!(message.contains("the payload is not an SQS event"), "{case}: {message}");
        the_same_process_serves_a_good_record(&world, number, &case).await;
    }
}

#[tokio::test]
async fn an_empty_batch_is_answered_in_full() {
    let world = World::of("payment-failed").await;
    let invocation = invoke(&world, &json!({"Records": []})).await;
    let answer = invocation.result.expect("an empty batch is a batch");
    assert_eq!(String::from_utf8(answer).expect("text"), r#"{"batchItemFailures":[]}"#);
}

#[tokio::test]
async fn a_message_that_is_twice_in_a_batch_is_reported_once() {
    let world = World::of("payment-failed").await;
    // Nobody knows the reservation, so both copies are retried.
    let id = world.send(event("payment.failed"));
    let mut batch = mapping::event(&world.queue, &take(&world));
    let copy = batch["Records"][0].clone();
    batch["Records"].as_array_mut().expect("records").push(copy);
    let invocation = invoke(&world, &batch).await;
    assert_eq!(reported(&invocation), [id.as_str()]);
    let retried = log_lines(&invocation.logs)
        .iter()
        .filter(|line| line["outcome"] == "retried" && line["message_id"] == *id)
        .count();
    assert_eq!(retried, 2, "each copy has its own end");
}

/// A message with attributes of its own.
fn with_attributes(body: &str, attributes: BTreeMap<String, MessageAttribute>) -> Sent {
    Sent { attributes, ..Sent::from(body.to_owned()) }
}

#[tokio::test]
async fn a_dead_letter_keeps_the_messages_own_attributes_of_every_type() {
    let world = World::of("payment-failed").await;
    let own = BTreeMap::from([
        ("tenant".to_owned(), MessageAttribute::string("acme")),
        (
            "priority".to_owned(),
            MessageAttribute { data_type: "Number.int".to_owned(), ..MessageAttribute::string("7") },
        ),
        (
            "signature".to_owned(),
            MessageAttribute {
                data_type: "Binary".to_owned(),
                string_value: None,
                binary_value: Some("AP8Q".to_owned()),
            },
        ),
    ]);
    world.deliver_one(with_attributes("junk", own.clone())).await.is("rejected");
    let letter = world.only_dead_letter();
    assert_eq!(letter.attributes.len(), 7, "four of ours and three of its own");
    for (name, value) in own {
        assert_eq!(letter.attributes[&name], value, "{name}");
    }
}

#[tokio::test]
async fn the_reason_comes_first_when_ten_attributes_are_there_already() {
    let world = World::of("payment-failed").await;
    let own = (0..10).map(|number| (format!("own-{number}"), MessageAttribute::string("kept")));
    world.deliver_one(with_attributes("junk", own.collect())).await.is("rejected");
    let letter = world.only_dead_letter();
    let names: Vec<&str> = letter.attributes.keys().map(String::as_str).collect();
    let wanted = [
        "error_code",
        "error_message",
        "event_type",
        "own-0",
        "own-1",
        "own-2",
        "own-3",
        "own-4",
        "own-5",
        "source_message_id",
    ];
    assert_eq!(names, wanted, "SQS takes ten, and the same six are kept each time");
    assert_eq!(attribute(&letter, "error_code"), "malformed_body");
}

#[tokio::test]
async fn a_reason_from_an_earlier_dead_letter_gives_way_to_the_new_one() {
    let world = World::of("payment-failed").await;
    let old = ["error_code", "error_message", "event_type", "source_message_id"];
    let own = old.map(|name| (name.to_owned(), MessageAttribute::string("old")));
    let ended = world.deliver_one(with_attributes("junk", own.into())).await;
    ended.is("rejected");
    let letter = world.only_dead_letter();
    assert_eq!(letter.attributes.len(), 4, "a redriven message does not gather reasons");
    for name in old {
        assert_ne!(attribute(&letter, name), "old", "{name}");
    }
    assert_eq!(attribute(&letter, "source_message_id"), ended.line["message_id"]);
}

#[tokio::test]
async fn a_dead_letter_that_fails_leaves_the_message_in_its_queue() {
    let world = World::of("payment-failed").await;
    // The SDK tries twice, and both tries have to fail.
    for _ in 0..2 {
        let failure =
            Injected::Answer { status: 500, kind: "InternalFailure".to_owned(), message: "on demand".to_owned() };
        world.stack.aws.fail_next("AmazonSQS.SendMessage", failure);
    }
    let (good_id, good) = good_one(&world, 0);
    let ended = world.deliver([Sent::from("junk".to_owned()), Sent::from(good)]).await;
    ended[0].is("retried").because("malformed_body").says("not JSON");
    ended[1].is("success");
    assert_eq!(world.state_of(&good_id), "CANCELLED, free");
    assert!(world.dead_letters.is_empty(), "nothing arrived");
    let waiting = world.queue.messages();
    assert_eq!(waiting.len(), 1, "nothing is lost");
    assert_eq!(waiting[0].body, "junk");
    assert!(!world.last_wait().is_zero(), "the message backs off like any other that is retried");

    let ended: Vec<Ended> = world.redeliver().await;
    ended[0].is("rejected");
    assert_eq!(world.only_dead_letter().body, "junk");
    assert!(world.queue.is_empty(), "it is in one place only");
}

#[tokio::test]
async fn without_a_dead_letter_url_a_message_gets_there_by_its_receive_count() {
    let world = World::with("payment-failed", &[("DLQ_URL", "")]).await;
    let (_, good) = good_one(&world, 0);
    let ended = world.deliver([Sent::from("junk".to_owned()).received(MOVED_AFTER), Sent::from(good)]).await;
    ended[0].is("retried").because("malformed_body");
    ended[1].is("success");
    assert!(world.dead_letters.is_empty(), "the function cannot dead-letter anything");
    assert!(world.queue.skip_wait(), "the message waits");
    // SQS moves a message at the attempt to receive it once more.
    assert!(take(&world).is_empty(), "the message was received often enough");
    let letter = world.only_dead_letter();
    assert_eq!((letter.body.as_str(), attribute(&letter, "error_code")), ("junk", ""));
}

#[tokio::test]
async fn a_fault_that_lasts_is_not_lost_without_a_dead_letter_url_either() {
    let world = World::with("payment-failed", &[("DLQ_URL", "")]).await;
    // The reservation is unknown, which may pass, and this is the last receive.
    let ended = world.deliver_one(Sent::from(event("payment.failed")).received(MAX_RECEIVES)).await;
    ended.is("retried").says("404");
    assert_eq!(world.state_of(RESERVATION), "unknown, unknown");
    assert_eq!(world.queue.len(), 1);
}
