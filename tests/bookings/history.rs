//! Thousands of events about few rooms, by queues and by topics, while server, network and bus go wrong and functions are
//! killed; `cargo soak` can take more.

use std::io::{self, Write};

use local_stack::{
    postgres::Server,
    soak::bookings::{self, Options, TROUBLES},
};

use crate::house::{binaries, found};

const EVENTS: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_doubled_and_no_room_has_two_guests_whatever_goes_wrong() {
    // It crashes, so that no other test may be at it.
    let Some(server) = found(Server::of_our_own().as_ref().copied()) else { return };
    let report = bookings::run(Options { events: EVENTS, seed: 14 }, binaries(), server, |_| ()).await.unwrap();
    for trouble in TROUBLES {
        assert!(report.troubles.get(trouble).is_some_and(|times| *times > 0), "there was no {trouble}: {report:#?}");
    }
    for end in ["success", "duplicate", "refused", "early", "superseded", "retried", "rejected"] {
        assert!(report.outcomes.get(end).is_some_and(|times| *times > 0), "nothing was {end}: {report:#?}");
    }
    assert!(report.by_topic > EVENTS / 4 && report.read_again > 0, "topics were read, and stood still: {report:#?}");
    assert!(report.faults.is_empty(), "{report:#?}");
    let (troubles, elapsed) = (report.troubles.values().sum::<u64>(), report.elapsed.as_secs_f64());
    let line = format!(
        "\n{EVENTS} events in {} messages, {} of them by topics, {troubles} troubles, {elapsed:.0} s\n",
        report.messages, report.by_topic,
    );
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(line.as_bytes()));
}
