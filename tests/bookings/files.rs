//! The files of `events/` about bookings keep their promises, and `cargo local` replays them where there is a PostgreSQL.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    process::{Command, Output},
};

use local_stack::{
    build::{self, workspace},
    postgres::{Server, choice::Embedded, sidecar},
    replay::{House, Replay},
    ring::Ring,
    scenario::{self, EventFile, Then},
    stack::Stack,
};

use crate::house::binaries;

/// The cases that both functions have: by their queue, and by a topic.
const CASES: [&str; 6] = ["single", "duplicate", "batch-mixed", "malformed-body", "unknown-version", "exhausted"];
const CASES_OF_A_TOPIC: [&str; 6] =
    ["kafka-single", "kafka-headers", "kafka-null-key", "kafka-partitions", "kafka-poison", "kafka-tombstone"];

fn files() -> Vec<EventFile> {
    let files = scenario::load_all(scenario::events_folder()).expect("the files are valid");
    files.into_iter().filter(|file| file.booked.is_some()).collect()
}

async fn replay(server: &'static Server) -> Replay {
    let stack = Stack::start().await.expect("the stack starts");
    let house = House::open(server).await.expect("the house is made");
    Replay::with(stack, binaries(), Some(house)).expect("the binaries are there")
}

#[tokio::test]
async fn every_file_about_bookings_keeps_its_promise() {
    let Some(server) = Server::shared() else { return };
    let files = files();
    for function in ["booking-created", "booking-cancelled"] {
        let cases: BTreeSet<&str> =
            files.iter().filter(|file| file.function == function).map(EventFile::case).collect();
        for case in CASES.iter().chain(&CASES_OF_A_TOPIC) {
            assert!(cases.contains(case), "{function} has no case {case}");
        }
    }
    let replay = replay(server).await;
    for file in &files {
        let report = replay.file(file).await;
        assert!(report.is_judged && report.is_as_promised(), "{}: {report:#?}", file.path.display());
    }
    replay.end().await.expect("the database goes");
}

#[tokio::test]
async fn a_promise_that_is_not_kept_is_seen() {
    let Some(server) = Server::shared() else { return };
    let replay = replay(server).await;
    let mut broken = 0;
    for mut file in files() {
        let Some(booked) = &mut file.booked else { continue };
        match &mut booked.then {
            Some(Then::Answer(answer)) => answer["version"] = 0.into(),
            Some(Then::Records(records)) => {
                let last = records.last_mut().expect("a promise");
                match &mut last.booking {
                    Some(status) => *status = "Forgotten".to_owned(),
                    None => last.outcome = "superseded".to_owned(),
                }
            }
            None => continue,
        }
        let report = replay.file(&file).await;
        assert!(!report.is_as_promised(), "{}: {report:#?}", file.path.display());
        broken += 1;
    }
    assert!(broken > 30, "{broken}");
    replay.end().await.expect("the database goes");
}

/// The embedded server is as good for files: it keeps their promises, and without its constraint it does not.
#[tokio::test]
async fn every_file_about_bookings_keeps_its_promise_on_the_embedded_server() {
    if !build::has_sidecar() {
        return Ring::Sidecar.skip_or_fail("nobody has built it; run: cargo local --sidecar --no-sale");
    }
    let server = Server::embedded().expect("it starts");
    let replay = replay(server).await;
    for file in &files() {
        let report = replay.file(file).await;
        assert!(report.is_judged && report.is_as_promised(), "{}: {report:#?}", file.path.display());
    }

    let sql = server.client(sidecar::DATABASE).await.expect("it is reached");
    sql.batch_execute("ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap").await.expect("the constraint goes");
    let mut files = files().into_iter();
    let overlap = files.find(|file| file.function == "booking-created" && file.case() == "overlap").expect("the file");
    let report = replay.file(&overlap).await;
    assert!(!report.is_as_promised(), "nothing keeps two guests out of one room: {report:#?}");
    replay.end().await.expect("the database goes");
}

/// Where no PostgreSQL is named and none of the machine's can write its folder, so that none starts.
const NOWHERE: [(&str, &str); 2] = [("TMPDIR", "/nowhere/at/all"), ("DATABASE_URL", "")];

/// What `cargo local` makes of files, with some variables of its environment changed.
fn local(arguments: &[&str], variables: &[(&str, &str)]) -> (Output, String) {
    local_at(Path::new(env!("CARGO_BIN_EXE_local")), arguments, variables)
}

/// The same by the program at another place, beside which it looks for the embedded server.
fn local_at(program: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> (Output, String) {
    let mut command = Command::new(program);
    command.current_dir(workspace()).args(arguments).envs(variables.iter().copied());
    let output = command.output().expect("the program runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output, said)
}

#[test]
fn cargo_local_replays_bookings_beside_all_else() {
    if Server::shared().is_none() {
        return;
    }
    let files =
        ["events/booking-created/overlap.json", "events/booking-cancelled", "events/payment-failed/single.json"];
    let (output, said) = local(&files, &[]);
    assert!(output.status.success(), "{said}");
    for part in
        ["booking-created/overlap", "Refused", "booking-cancelled/kafka-poison", "pi_second", "kept its promise"]
    {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}

#[test]
fn a_message_of_ones_own_is_written_and_reported_without_a_verdict() {
    if Server::shared().is_none() {
        return;
    }
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("own-booking.json");
    let detail = r#"{"bookingId": "mine", "userId": "jane@example.com", "roomId": "101", "guests": 2, "startDate": "2026-06-10", "endDate": "2026-06-12"}"#;
    fs::write(&path, format!(r#"{{"detail-type": "booking.created", "detail": {detail}}}"#)).unwrap();
    let (output, said) = local(&[path.to_str().unwrap()], &[]);
    assert!(output.status.success(), "{said}");
    for part in ["success", "mine", "Accepted", "nothing was promised"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}

#[test]
fn cargo_local_leaves_bookings_out_where_nobody_wants_the_embedded_server_and_says_so() {
    let both = ["--no-sidecar", "events/booking-created/single.json", "events/payment-failed/single.json"];
    let (output, said) = local(&both, &NOWHERE);
    assert!(output.status.success(), "{said}");
    for part in ["Left out 1 file about bookings: ", "; without --no-sidecar ", "every file kept its promise"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    let (output, said) = local(&["--no-sidecar", "events/booking-created/single.json"], &NOWHERE);
    assert_eq!(output.status.code(), Some(2), "nothing could be run: {said}");

    let (output, said) =
        local(&["events/booking-created/single.json"], &[("DATABASE_URL", "postgres://a@127.0.0.1:1/b")]);
    assert_eq!(output.status.code(), Some(2), "who names a server means it: {said}");
}

/// A file lies where its target directory would have to be, and nothing is downloaded for it.
#[test]
fn cargo_local_leaves_bookings_out_where_the_embedded_server_can_not_be_built() {
    if Embedded::here() == Embedded::Foreign {
        return Ring::Sidecar.skip_or_fail("it does not run on machines of this kind");
    }
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-sidecar");
    let program = target.join("debug").join(format!("local{}", std::env::consts::EXE_SUFFIX));
    fs::create_dir_all(program.parent().expect("a folder")).unwrap();
    // No copy: what another test starts meanwhile holds the copy open for writing, and a program that is can't be started.
    drop(fs::remove_file(&program));
    fs::hard_link(env!("CARGO_BIN_EXE_local"), &program).unwrap();
    fs::write(target.join("sidecar"), "in the way").unwrap();
    let alone = [NOWHERE.as_slice(), &[("CARGO_NET_OFFLINE", "true")]].concat();

    let both = ["events/booking-created/single.json", "events/payment-failed/single.json"];
    let (output, said) = local_at(&program, &both, &alone);
    assert!(output.status.success(), "nothing of ours is broken: {said}");
    for part in [
        "Building the embedded PostgreSQL for the bookings, once, ",
        "; --no-sidecar leaves them out",
        "error: ",
        "Left out 1 file about bookings: build the embedded PostgreSQL: ",
        "every file kept its promise",
    ] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }

    let (output, said) = local_at(&program, &["events/payment-failed/single.json"], &alone);
    assert!(output.status.success() && !said.contains("PostgreSQL"), "who books nothing needs none: {said}");

    let (output, said) = local_at(&program, &[&["--sidecar"], both.as_slice()].concat(), &alone);
    assert_eq!(output.status.code(), Some(2), "who asks for it means it: {said}");
}
