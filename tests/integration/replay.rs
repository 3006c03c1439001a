//! The files of `events/` keep their promises.

use std::{
    fs,
    path::{Path, PathBuf},
};

use local_stack::{
    catalogue::QUEUED,
    inventory::SeatState,
    recast,
    replay::{FileReport, Replay},
    scenario::{self, EventFile},
    stack::Stack,
};
use serde_json::{Value, json};

use crate::harness::binaries;

#[tokio::test]
async fn every_file_of_events_keeps_its_promise() {
    let files = scenario::load_all(scenario::events_folder()).expect("the files are valid");
    let stack = Stack::start().await.expect("the stack starts");
    let replay = Replay::new(stack.clone(), binaries()).expect("the binaries are there");
    // Those about bookings need a database, and are replayed by tests/bookings.
    for file in files.iter().filter(|file| file.booked.is_none()) {
        let report = replay.file(file).await;
        assert!(report.is_as_promised(), "{}: {report:#?}", file.path.display());
    }
    assert_eq!(stack.inventory.oversold(), [""; 0], "the inventory's audit");
}

/// A folder for files, which goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        drop(fs::remove_dir_all(&folder));
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, path: &str, text: &str) -> PathBuf {
        let path = self.0.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(&path, text).expect("written");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

async fn replay_of(path: &Path) -> (EventFile, FileReport) {
    let file = scenario::load(path).unwrap_or_else(|error| panic!("{error}"));
    let stack = Stack::start().await.expect("the stack starts");
    let report = Replay::new(stack, binaries()).expect("the binaries are there").file(&file).await;
    (file, report)
}

#[tokio::test]
async fn a_message_of_ones_own_runs_without_a_verdict_and_is_written_with_its_promise() {
    let folder = Folder::new("own-messages");
    let event = |reservation: &str| {
        let detail = json!({"reservation_id": reservation, "event_id": "evt_own", "qty": 2, "payment_intent_id": "pi_own", "amount": 7600});
        json!({"detail-type": "payment.approved", "detail": detail})
    };
    let broken = json!({"detail-type": "payment.approved", "detail": {"reservation_id": "rsv_broken"}});
    let records: Vec<Value> =
        [event("rsv_own"), event("rsv_own"), broken].iter().map(|body| json!({"body": body})).collect();
    let path = folder.file("mine.json", &json!({"Records": records}).to_string());
    let (file, report) = replay_of(&path).await;
    let outcomes: Vec<&str> = report.records.iter().map(|record| record.outcome.as_str()).collect();
    assert_eq!(outcomes, ["success", "duplicate", "rejected"]);
    assert!(!report.is_judged && report.is_as_promised());
    assert_eq!(report.records[0].seats, Some(SeatState::Sold));

    let promises = report.promises(&file.scenario.given).expect("each ended in a known way");
    let written = scenario::write(&file, promises).expect("it is JSON");
    let (file, report) = replay_of(&folder.file("payment-approved/mine.json", &written)).await;
    assert!(report.is_judged && report.is_as_promised(), "{report:#?}");
    assert_eq!(file.scenario.then.map(|then| then.len()), Some(3));
}

#[tokio::test]
async fn the_files_of_a_new_type_keep_the_promises_of_those_that_they_come_from() {
    for from in QUEUED {
        let folder = Folder::new(&format!("new-type-of-{from}"));
        for case in recast::CASES {
            let name = format!("{from}/{case}.json");
            folder.file(&name, &fs::read_to_string(scenario::events_folder().join(&name)).expect("it is there"));
        }
        let stack = Stack::start().await.expect("the stack starts");
        let replay = Replay::new(stack, binaries()).expect("the binaries are there");
        for path in recast::recast(&folder.0, "booking.withdrawn", from).expect("the files are made") {
            let text = fs::read_to_string(&path).expect("it was made");
            let text = text.replace("booking.withdrawn", &from.replace('-', ".")).replace("booking-withdrawn", from);
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
            let file = scenario::load(folder.file(&format!("back/{from}/{name}"), &text)).expect("it is an event file");
            let report = replay.file(&file).await;
            assert!(report.is_as_promised(), "{}: {report:#?}", path.display());
        }
    }
}
