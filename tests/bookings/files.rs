//! The files of `events/` that a queue brings, and those of the migration, keep their promises.

use std::{collections::BTreeMap, fs, path::PathBuf};

use local_stack::{replay, scenario::events_folder};
use serde_json::Value;

use crate::house::{Desk, House, migrate};

/// The cases that both functions have.
const CASES: [&str; 6] = ["single", "duplicate", "batch-mixed", "malformed-body", "unknown-version", "exhausted"];

/// The files of a function that are no topic's, by their cases.
fn files(function: &str) -> BTreeMap<String, Value> {
    let paths = fs::read_dir(events_folder().join(function)).unwrap().map(|entry| entry.unwrap().path());
    let case = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    let read = |path: PathBuf| (case(&path), serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
    paths.filter(|path| !case(path).starts_with("kafka-")).map(read).collect()
}

async fn keeps_its_promise(house: &House, desk: &Desk, case: &str, file: &Value) {
    let each = |name: &str| file["scenario"][name].as_array().cloned().unwrap_or_default();
    for given in each("given") {
        house.book([given]).await;
    }
    for given in each("given_cancelled") {
        house.cancel([given]).await;
    }
    let invocation = desk.function.invoke(file.to_string()).await;
    let answer: Value = serde_json::from_slice(&invocation.result.expect("no invocation fails")).unwrap();
    let kept: Vec<&str> = answer["batchItemFailures"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|kept| kept["itemIdentifier"].as_str())
        .collect();
    let lines: Vec<Value> = invocation.logs.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let (records, then) = (file["Records"].as_array().unwrap(), each("then"));
    assert_eq!(then.len(), records.len(), "{case}: a promise for each record");
    let (rows, dead) = (house.rows().await, desk.dead_letters.messages());
    for (record, promise) in records.iter().zip(then) {
        let id = record["messageId"].as_str().unwrap();
        let ended = lines.iter().find(|line| line["message_id"] == id && line["outcome"].is_string()).unwrap();
        assert_eq!(ended["outcome"], promise["outcome"], "{case}: {ended:#}");
        assert_eq!(kept.contains(&id), promise["outcome"] == "retried", "{case}: {id}");
        let letter = dead.iter().find(|letter| replay::attribute(letter, "source_message_id") == Some(id));
        let code = letter.and_then(|letter| replay::attribute(letter, "error_code"));
        assert_eq!(code, promise["error_code"].as_str(), "{case}: {ended:#}");
        if let Some(booking) = promise["booking_id"].as_str() {
            let row = rows.iter().find_map(|row| row.strip_prefix(booking)).map(str::trim);
            assert_eq!(row, promise["booking"].as_str(), "{case}: {booking}");
        }
    }
}

#[tokio::test]
async fn the_files_of_bookings_keep_their_promises() {
    for function in ["booking-created", "booking-cancelled"] {
        let files = files(function);
        for case in CASES {
            assert!(files.contains_key(case), "{function} has no case {case}");
        }
        for (case, file) in files {
            let Some(house) = House::open().await else { return };
            let desk = if function == "booking-created" { &house.created } else { &house.cancelled };
            keeps_its_promise(&house, desk, &case, &file).await;
        }
    }
}

#[tokio::test]
async fn the_files_of_the_migration_keep_their_promises() {
    let Some(house) = House::open().await else { return };
    let function = migrate(&house.stack, &house.database);
    for (case, file) in files("booking-migrate") {
        let answer = function.invoke(file.to_string()).await.result.expect("no invocation fails");
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer, file["scenario"]["then"], "{case}");
    }
}
