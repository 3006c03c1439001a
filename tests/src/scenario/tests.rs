use std::collections::{HashMap, HashSet};

use serde_json::Value;
use uuid::Uuid;

use super::*;

/// The same name means the same case in each folder. A new case is added here first.
const CASES: [&str; 24] = [
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
    "variant-hold-expired",
    "variant-pay",
    "variant-payment-id",
    "variant-quantity",
    "variant-string-numbers",
    "variant-w1",
    "variant-w2",
];

fn all() -> Vec<EventFile> {
    load_all(events_folder()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_case_is_known_and_every_known_case_exists() {
    let files = all();
    for file in &files {
        assert!(CASES.contains(&file.case()), "{}: unknown case name", file.path.display());
    }
    for case in CASES {
        assert!(files.iter().any(|file| file.case() == case), "no function has the case {case}");
    }
    for function in FUNCTIONS {
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
        for promise in &file.scenario.then {
            let end = format!("{:?} {:?}", promise.reservation, promise.seats);
            let first = ends.entry(promise.reservation_id.clone()).or_insert_with(|| end.clone());
            assert!(promise.reservation_id.is_none() || *first == end, "{}: {promise:?}", file.path.display());
        }
    }
}

#[test]
fn envelopes_are_what_lambda_would_deliver() {
    for file in all() {
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
fn outcomes_are_read_and_written_by_one_name() {
    use Outcome::{Duplicate, Exhausted, LateApproval, Rejected, Retried, Success, Superseded};
    for outcome in [Success, Duplicate, Superseded, LateApproval, Retried, Exhausted, Rejected] {
        assert_eq!(serde_json::from_value::<Outcome>(outcome.to_string().into()).unwrap(), outcome);
    }
}

/// Loads a sound one-record file after `change`, as if it lay in `folder`.
fn changed(folder: &str, change: impl FnOnce(&mut Value)) -> Result<EventFile, ScenarioError> {
    let text = std::fs::read(events_folder().join("payment-failed/unknown-type.json")).unwrap();
    let mut file: Value = serde_json::from_slice(&text).unwrap();
    change(&mut file);
    parse(PathBuf::from("some/file.json"), folder.to_owned(), file.to_string().as_bytes())
}

#[track_caller]
fn check(folder: &str, change: impl FnOnce(&mut Value), expected: &str) {
    let message = changed(folder, change).unwrap_err().to_string();
    assert!(message.starts_with("some/file.json: "), "{message}");
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_fault_names_the_file_and_what_to_mend() {
    assert!(changed("payment-failed", |_| {}).is_ok());
    check("payments", |_| {}, "the folder \"payments\" is no function");
    check("payment-approved", |_| {}, "it has to end with \":payment-approved\"");
    let failed = "payment-failed";
    check(failed, |file| file["Records"] = Value::Array(vec![]), "the batch is empty");
    check(failed, |file| file["scenario"]["then"] = Value::Array(vec![]), "1 records but 0 promises");
    check(failed, |file| file["Records"][0]["md5OfBody"] = "".into(), "\"md5OfBody\" is empty");
    check(failed, |file| file["scenario"]["then"][0]["message_id"] = "x".into(), "keep the order of \"Records\"");
    check(failed, |file| file["scenario"]["then"][0]["error_code"] = Value::Null, "needs an \"error_code\"");
    check(failed, |file| file["scenario"]["then"][0]["error_code"] = "bad".into(), "\"bad\" is no error code");
    check(failed, |file| file["scenario"]["then"][0]["outcome"] = "retried".into(), "carries no error code");
    check(failed, |file| file["scenario"]["then"][0]["seats"] = Value::Null, "or neither");
    check(failed, |file| file["scenario"]["given"] = Value::Array(vec![]), "not in \"scenario.given\"");
    check(failed, |file| file["scenario"]["when"] = Value::Null, "unknown field `when`");
    check(failed, |file| file["Records"][0]["attributes"]["ApproximateReceiveCount"] = "two".into(), "whole number");
}
