use std::collections::{HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::*;
use crate::{
    catalogue::{QUEUED, Trigger},
    gateway::sockets::STAGE,
    template::Template,
};

/// The same name means the same case in each folder. A new case is added here first.
const CASES: [&str; 26] = [
    "already-expired",
    "amount-missing",
    "batch-mixed",
    "changed-payload",
    "duplicate",
    "early",
    "exhausted",
    "late-approval",
    "malformed-body",
    "not-visible-yet",
    "paid-twice",
    "seats-lost",
    "single",
    "superseded",
    "unknown-type",
    "unknown-version",
    "variant-camel-case",
    "variant-fractional-seconds",
    "variant-hold-expired",
    "variant-odd-fields",
    "variant-pay",
    "variant-payment-id",
    "variant-quantity",
    "variant-string-numbers",
    "variant-w1",
    "variant-w2",
];

/// The cases of events that go through no queue.
const INVOKED: [&str; 95] = [
    "admission-required",
    "all-is-well",
    "batch-failure",
    "body-not-json",
    "caller-unknown",
    "cancel",
    "cancel-confirmed",
    "cancelled",
    "changed-meanwhile",
    "closed",
    "confirm-paid",
    "confirm-unpaid",
    "confirmed",
    "connect",
    "create",
    "create-admitted",
    "create-again",
    "create-without-seats",
    "disconnect",
    "duplicate",
    "entomb",
    "entomb-created",
    "expired",
    "extend",
    "fields-wrong",
    "foreign-record",
    "health",
    "hold",
    "join",
    "join-after-leaving",
    "join-again",
    "join-binary",
    "join-grpc-web",
    "key-missing",
    "key-of-another-request",
    "leave",
    "leave-admitted",
    "leave-called",
    "leave-holding",
    "leave-of-another",
    "line-misspelt",
    "line-not-over",
    "line-open",
    "line-pause",
    "line-show",
    "line-too-few",
    "line-unsigned",
    "list",
    "malformed-body",
    "message",
    "metadata-too-long",
    "mixed",
    "native-grpc",
    "never-told",
    "no-such-path",
    "nothing-to-tell",
    "other-method",
    "place-admitted",
    "place-called",
    "place-ended",
    "place-holding",
    "place-joining",
    "place-made-up",
    "place-of-another",
    "place-overdue",
    "place-passed",
    "place-paused",
    "place-sold",
    "place-waiting",
    "removed",
    "seats-negative",
    "seats-none",
    "seats-taken",
    "seats-too-many",
    "settle-confirmed",
    "settle-early",
    "settle-late",
    "settle-unsigned",
    "show",
    "show-of-another",
    "show-to-function",
    "sold-out",
    "status",
    "status-of-no-line",
    "ticket-expired",
    "ticket-missing",
    "ticket-of-admission",
    "timer-lost",
    "token-expired",
    "token-used",
    "unknown-line",
    "unreadable-item",
    "user-of-another",
    "variant-base64",
    "variant-snake-case",
];

/// The cases of events about bookings.
const BOOKED: [&str; 26] = [
    "batch-mixed",
    "by-hand",
    "changed-payload",
    "clean",
    "double-cancel",
    "duplicate",
    "early",
    "early-cancellation",
    "exhausted",
    "kafka-headers",
    "kafka-null-key",
    "kafka-object",
    "kafka-parked",
    "kafka-partitions",
    "kafka-poison",
    "kafka-single",
    "kafka-tombstone",
    "malformed-body",
    "not-owner",
    "overlap",
    "same-day",
    "single",
    "superseded",
    "unknown-room",
    "unknown-user",
    "unknown-version",
];

/// The cases of events of the waiting room.
const WAITED: [&str; 24] = [
    "absent",
    "admitted-overdue",
    "all-is-well",
    "batch-mixed",
    "called-overdue",
    "closed",
    "confirmed",
    "created",
    "duplicate",
    "ended",
    "expired",
    "failed",
    "given-up",
    "late",
    "malformed-body",
    "nobody-waits",
    "passed",
    "single",
    "sold",
    "sold-out",
    "superseded",
    "unknown-line",
    "without-customer",
    "without-turn",
];

fn all() -> Vec<EventFile> {
    load_all(events_folder()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_case_is_known_and_every_known_case_exists() {
    let files = all();
    for file in &files {
        let known = match (&file.invoked, &file.booked, &file.waited) {
            (Some(_), _, _) => &INVOKED[..],
            (None, Some(_), _) => &BOOKED[..],
            (None, None, Some(_)) => &WAITED[..],
            (None, None, None) => &CASES[..],
        };
        assert!(known.contains(&file.case()), "{}: unknown case name", file.path.display());
    }
    for case in CASES.into_iter().chain(INVOKED).chain(BOOKED).chain(WAITED) {
        assert!(files.iter().any(|file| file.case() == case), "no function has the case {case}");
    }
    for function in QUEUED {
        for case in ["single", "duplicate", "batch-mixed", "malformed-body", "unknown-version", "exhausted"] {
            let there = files.iter().any(|file| file.function == function && file.case() == case);
            assert!(there, "{function} has no case {case}");
        }
    }
}

#[test]
fn a_mixed_batch_is_as_large_as_the_mapping_delivers() {
    for file in all().iter().filter(|file| file.case() == "batch-mixed") {
        assert_eq!(file.records.len(), 10, "{}", file.path.display());
    }
}

#[test]
fn ids_are_unique_across_files_so_that_one_stack_holds_them_all() {
    let (mut messages, mut reservations, mut seats) = (HashSet::new(), HashSet::new(), HashSet::new());
    let mut events: HashMap<String, PathBuf> = HashMap::new();
    for file in all() {
        let name = file.path.display();
        for record in &file.records {
            assert!(messages.insert(record.message_id.clone()), "{name}: {} is taken", record.message_id);
        }
        for given in &file.scenario.given {
            let id = &given.reservation_id;
            assert!(reservations.insert(id.clone()), "{name}: {id} is taken");
            let owner = events.entry(given.event_id.clone()).or_insert_with(|| file.path.clone());
            assert_eq!(*owner, file.path, "{} is used by two files", given.event_id);
            for seat in &given.seat_ids {
                assert!(seats.insert((given.event_id.clone(), seat.clone())), "{name}: {seat} is held twice");
            }
            let named = given.seat_ids.len();
            assert!(named == 0 || u32::try_from(named) == Ok(given.quantity), "{name}: {id} miscounts its seats");
        }
    }
}

#[test]
fn a_reservation_ends_only_once_in_each_file() {
    for file in all() {
        let mut ends = HashMap::new();
        for promise in file.scenario.then.iter().flatten() {
            let end = format!("{:?} {:?}", promise.reservation, promise.seats);
            let first = ends.entry(promise.reservation_id.clone()).or_insert_with(|| end.clone());
            assert!(promise.reservation_id.is_none() || *first == end, "{}: {promise:?}", file.path.display());
        }
    }
}

#[test]
fn envelopes_are_what_lambda_would_deliver() {
    for file in all().iter().filter(|file| file.invoked.is_none() && file.booked.is_none() && !file.records.is_empty())
    {
        let name = file.path.display();
        let batch: Value = serde_json::from_slice(&std::fs::read(&file.path).unwrap()).unwrap();
        for record in batch["Records"].as_array().unwrap() {
            let text = |key: &str| record[key].as_str().unwrap_or_else(|| panic!("{name}: no {key}"));
            let id = Uuid::parse_str(text("messageId")).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(id.get_version_num(), 4, "{name}: {id}");
            assert_eq!(text("eventSource"), "aws:sqs", "{name}");
            assert_eq!(text("awsRegion"), "us-east-1", "{name}");
            let arn = format!("arn:aws:sqs:us-east-1:000000000000:{}", file.function);
            assert_eq!(text("eventSourceARN"), arn, "{name}");
            let md5 = text("md5OfBody");
            assert!(md5.len() == 32 && md5.bytes().all(|byte| byte.is_ascii_hexdigit()), "{name}: {md5}");
            assert!(text("receiptHandle").len() > 200, "{name}: a real receipt handle is long");
            assert!(record["messageAttributes"].is_object(), "{name}");
            let stamp = |key: &str| record["attributes"][key].as_str().and_then(|text| text.parse::<u64>().ok());
            assert!(stamp("SentTimestamp") <= stamp("ApproximateFirstReceiveTimestamp"), "{name}");
            assert!(stamp("SentTimestamp").is_some(), "{name}");
            assert!(record["attributes"]["SenderId"].is_string(), "{name}");
        }
    }
}

#[test]
fn every_other_event_is_what_lambda_would_hand_over() {
    let routes: Vec<String> =
        Template::read().unwrap().routes().unwrap().iter().map(|route| route.key.to_string()).collect();
    for file in all() {
        let (Some(invoked), name) = (&file.invoked, file.path.display()) else { continue };
        let event = &invoked.event;
        let text =
            |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{name}: no {path}"));
        match invoked.trigger {
            Trigger::Http => {
                assert_eq!((text("/version"), text("/requestContext/stage")), ("2.0", "$default"), "{name}");
                let is_routed = routes.contains(&text("/routeKey").to_owned());
                assert!(is_routed, "{name}: the template has no such route");
                assert_eq!(text("/routeKey"), text("/requestContext/routeKey"), "{name}");
                assert_eq!(text("/rawPath"), text("/requestContext/http/path"), "{name}");
                assert!(
                    event["isBase64Encoded"].is_boolean() && event["requestContext"]["timeEpoch"].is_u64(),
                    "{name}"
                );
                let lower_case = |header: &String| header.chars().all(|c| !c.is_ascii_uppercase());
                assert!(event["headers"].as_object().unwrap().keys().all(lower_case), "{name}");
            }
            Trigger::WebSocket => {
                let happens = [("CONNECT", "$connect"), ("MESSAGE", "$default"), ("DISCONNECT", "$disconnect")];
                let is = (text("/requestContext/eventType"), text("/requestContext/routeKey"));
                assert!(happens.contains(&is), "{name}: {is:?}");
                assert_eq!(text("/requestContext/stage"), STAGE, "{name}");
                let is_asked = event["headers"]["Sec-WebSocket-Version"] == "13";
                assert_eq!(is_asked, is.0 == "CONNECT", "{name}: only who asks for a connection has its headers");
                assert!(event["requestContext"]["requestTimeEpoch"].is_u64(), "{name}");
            }
            Trigger::Stream => {
                let numbers =
                    event["Records"].as_array().unwrap().iter().filter(|record| record["dynamodb"].is_object());
                let numbers: Vec<u128> = numbers
                    .map(|record| {
                        assert_eq!(record["eventSource"], "aws:dynamodb", "{name}");
                        assert_eq!(record["dynamodb"]["StreamViewType"], "NEW_IMAGE", "{name}");
                        let deleted = record["dynamodb"].get("NewImage").is_none();
                        assert_eq!(record["eventName"] == "REMOVE", deleted, "{name}");
                        record["dynamodb"]["SequenceNumber"].as_str().unwrap().parse().unwrap()
                    })
                    .collect();
                assert!(numbers.is_sorted(), "{name}: a shard is read in its order");
            }
            Trigger::Schedule => {
                assert_eq!((text("/source"), text("/detail-type")), ("aws.events", "Scheduled Event"), "{name}");
            }
            Trigger::Queue => panic!("{name}: its function has a queue"),
        }
    }
}

/// A sound event of an HTTP API after `change`, as if it lay in that function's folder.
#[track_caller]
fn check_invoked(change: impl FnOnce(&mut Value), expected: &str) {
    let text = std::fs::read(events_folder().join("reservation-api/cancel.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&text).unwrap();
    change(&mut file);
    let path = Path::new("some/file.json");
    let faults = parse_in(path, Some("reservation-api"), None, file.to_string().as_bytes()).unwrap_err();
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{faults:#?}");
}

#[test]
fn a_fault_of_another_event_says_where_it_is_and_what_to_mend() {
    check_invoked(|file| file["scenario"]["then"] = Value::Array(vec![]), "has 0 promises, and 1 are due");
    check_invoked(|file| file["scenario"]["then"][0]["outcome"] = "done".into(), "write the status of an answer");
    check_invoked(|file| file["scenario"]["then"][0]["reservation_id"] = Value::Null, "name the reservation");
    check_invoked(|file| file["scenario"]["given"][0]["status"] = "held".into(), "scenario.given[0]: \"status\"");
    check_invoked(|file| file["scenario"]["given"][0]["when"] = 1.into(), "\"when\" is no field that is known here");
    check_invoked(|file| file["scenario"]["about"] = Value::Null, "\"about\" is missing");
    check_invoked(|file| file["scenario"]["on_sale"] = 1.into(), "\"on_sale\" is 1");
}

#[test]
fn an_event_of_ones_own_names_its_function_by_its_form() {
    let of = |text: &str| own(None, None, text).map(|file| (file.function.clone(), file.is_judged()));
    let http = r#"{"version": "2.0", "rawPath": "/health", "requestContext": {"http": {"method": "GET"}}}"#;
    assert_eq!(of(http).unwrap(), ("reservation-api".to_owned(), false));
    let stream = r#"{"Records": [{"dynamodb": {"SequenceNumber": "1"}}]}"#;
    assert_eq!(of(stream).unwrap(), ("reservation-changed".to_owned(), false));
    assert_eq!(of(r#"{"detail-type": "Scheduled Event"}"#).unwrap(), ("reservation-sweep".to_owned(), false));
}

#[test]
fn outcomes_are_read_and_written_by_one_name() {
    use Outcome::{Duplicate, Exhausted, LateApproval, Rejected, Retried, Success, Superseded};
    for outcome in [Success, Duplicate, Superseded, LateApproval, Retried, Exhausted, Rejected] {
        assert_eq!(serde_json::from_value::<Outcome>(outcome.to_string().into()).unwrap(), outcome);
    }
}

/// Reads a sound one-record file after `change`, as if it lay in `folder`.
fn changed(folder: &str, change: impl FnOnce(&mut Value)) -> Result<EventFile, Vec<String>> {
    let text = std::fs::read(events_folder().join("payment-failed/unknown-type.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&text).unwrap();
    change(&mut file);
    parse_in(Path::new("some/file.json"), Some(folder), None, file.to_string().as_bytes())
}

#[track_caller]
fn check(change: impl FnOnce(&mut Value), expected: &str) {
    let faults = changed("payment-failed", change).unwrap_err();
    assert!(faults.iter().any(|fault| fault.contains(expected)), "{faults:#?}");
}

#[test]
fn a_fault_says_where_it_is_and_what_to_mend() {
    assert!(changed("payment-failed", |_| {}).is_ok());
    check(|file| file["Records"] = Value::Array(vec![]), "the batch is empty");
    check(|file| file["scenario"]["then"] = Value::Array(vec![]), "1 records but 0 promises");
    check(|file| file["scenario"]["then"][0]["message_id"] = "x".into(), "keep the order of \"Records\"");
    check(|file| file["scenario"]["then"][0]["error_code"] = Value::Null, "needs an \"error_code\"");
    check(|file| file["scenario"]["then"][0]["error_code"] = "bad".into(), "\"bad\" is no error code");
    check(|file| file["scenario"]["then"][0]["outcome"] = "retried".into(), "carries no error code");
    check(|file| file["scenario"]["then"][0]["seats"] = Value::Null, "or neither");
    check(|file| file["scenario"]["given"] = Value::Array(vec![]), "not in \"scenario.given\"");
    check(|file| file["scenario"]["when"] = 1.into(), "\"when\" is no field that is known here");
    check(|file| file["Records"][0]["attributes"]["ApproximateReceiveCount"] = "two".into(), "whole number");
    check(|file| file["Records"][0]["attributes"]["ApproximateReceiveCount"] = "25".into(), "once to 24 times");
    check(|file| file["Records"][0]["body"] = 7.into(), "has to be a text or an object");
}

#[test]
fn all_faults_of_a_file_are_told_at_once() {
    let faults = changed("payment-failed", |file| {
        file["Records"][0]["attributes"]["ApproximateReceiveCount"] = "two".into();
        file["scenario"]["given"][0]["status"] = "held".into();
        file["scenario"]["given"][0]["event_id"] = Value::Null;
        file["scenario"]["then"][0]["outcome"] = "ok".into();
        file["scenario"]["then"][0]["when"] = 1.into();
    });
    let faults = faults.unwrap_err();
    assert_eq!(faults.len(), 5, "{faults:#?}");
    let folder = std::env::temp_dir().join(format!("holdfast-scenario-{}", Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("a.json", "{"), ("b.json", ""), ("c.json", "7")] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    let error = load_all(&folder).unwrap_err();
    assert_eq!(error.count(), 3, "{error}");
    let text = error.to_string();
    for part in ["a.json: it is not JSON", "b.json: it is empty", "c.json: it is 7; write a Lambda payload"] {
        assert!(text.contains(part), "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

const BODY: &str = r#"{"detail-type":"payment.failed","detail":{"reservation_id":"rsv_1","event_id":"evt_1","seat_ids":["A-1","A-2"],"payment_intent_id":"pi_1"}}"#;

fn own(folder: Option<&str>, function: Option<&str>, text: &str) -> Result<EventFile, Vec<String>> {
    parse_in(Path::new("some/file.json"), folder, function, text.as_bytes())
}

#[test]
fn a_message_of_ones_own_is_read_in_every_form_and_its_reservation_is_on_hold() {
    let text = serde_json::to_string(BODY).unwrap();
    for file in [
        BODY.to_owned(),
        format!("\u{feff}{BODY}"),
        format!("[{BODY}]"),
        format!(r#"{{"Records": [{{"body": {text}}}]}}"#),
        format!(r#"{{"Records": [{{"body": {BODY}, "messageId": "m-1"}}]}}"#),
        format!(
            r#"{{"Messages": [{{"MessageId": "m-1", "ReceiptHandle": "AQEB", "MD5OfBody": "x", "Body": {text}}}]}}"#
        ),
        format!(r#"{{"MessageId": "m-1", "Body": {text}}}"#),
        format!(r#"{{"Records": [{{"body": {text}}}], "scenario": {{"about": "x"}}}}"#),
    ] {
        let read = own(None, None, &file).unwrap_or_else(|faults| panic!("{file}: {faults:#?}"));
        assert_eq!((read.function.as_str(), read.records.len()), ("payment-failed", 1), "{file}");
        assert_eq!(read.records[0].body, BODY);
        assert_eq!(read.records[0].receive_count, 1);
        assert!(read.scenario.then.is_none() && !read.records[0].message_id.is_empty());
        let [given] = read.scenario.given.as_slice() else { panic!("{read:#?}") };
        assert_eq!((given.reservation_id.as_str(), given.event_id.as_str(), given.quantity), ("rsv_1", "evt_1", 2));
        assert_eq!((given.status, given.seats), (Status::Hold, SeatState::Held));
    }
}

#[test]
fn the_function_is_inferred_only_where_it_is_certain() {
    let other = BODY.replace("payment.failed", "reservation.expired");
    let function = |folder, named, text: &str| own(folder, named, text).map(|file| file.function);
    assert_eq!(function(Some("elsewhere"), None, BODY).unwrap(), "payment-failed");
    assert_eq!(function(Some("payment-failed"), None, r#"{"body": "{"}"#).unwrap(), "payment-failed");
    assert_eq!(function(None, Some("payment-approved"), BODY).unwrap(), "payment-approved");
    let queue = r#"{"Records": [{"body": "{", "eventSourceARN": "arn:aws:sqs:eu-west-1:1:prod-payment-failed"}]}"#;
    assert_eq!(function(None, None, queue).unwrap(), "payment-failed");
    for (folder, text) in [
        (None, format!("[{BODY}, {other}]")),
        (Some("payment-approved"), BODY.to_owned()),
        (None, r#"{"body": "{"}"#.to_owned()),
        (None, r#"{"detail-type": "order.shipped", "detail": {}}"#.to_owned()),
    ] {
        let faults = function(folder, None, &text).unwrap_err();
        assert!(faults.len() == 1 && faults[0].contains("name the function by --function"), "{text}: {faults:#?}");
    }
}

#[test]
fn a_dead_letter_starts_anew_without_its_reason() {
    let stamp = ["error_code", "error_message", "event_type", "source_message_id"]
        .map(|name| format!(r#""{name}": {{"StringValue": "why", "DataType": "String"}}"#));
    let text = serde_json::to_string(BODY).unwrap();
    let tenant = r#""tenant": {"StringValue": "north", "DataType": "String"}"#;
    let file = format!(
        r#"{{"Messages": [{{"MessageId": "m-1", "Body": {text}, "Attributes": {{"ApproximateReceiveCount": "30"}},
            "MessageAttributes": {{{}, {tenant}}}}}]}}"#,
        stamp.join(", ")
    );
    let read = own(None, None, &file).unwrap();
    assert_eq!(read.records[0].receive_count, 1);
    assert_eq!(read.records[0].message_attributes.keys().collect::<Vec<_>>(), ["tenant"]);
    assert!(read.notes[0].contains("dead letter (why: why)"), "{:?}", read.notes);
}

#[test]
fn the_smallest_event_file_of_the_readme_is_one() {
    let readme = std::fs::read_to_string(events_folder().join("README.md")).unwrap();
    let example = readme.split("```json\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let file = own(Some("payment-approved"), None, example).unwrap_or_else(|faults| panic!("{faults:#?}"));
    assert_eq!(file.scenario.then.map(|then| then.len()), Some(1));
    let of_others = ["on_sale", "bus_fails", "key", "seconds_ago", "untold", "told", "headers"];
    let fields = ["about", "given", "then", "outcome", "error_code", "quantity", "payment_intent_id"];
    for field in fields.into_iter().chain(of_others) {
        assert!(readme.contains(&format!("`{field}`")), "{field}");
    }
}
