//! What the benchmark counts of our line and of a counter, on a load that is small enough for a test. Times are no test's.

use std::{num::NonZero, time::Duration};

use local_stack::{
    build,
    placing::{COUNTER, Load, Placed, Way, place},
};

use crate::harness::binaries;

/// A tick comes only when everybody is in the table, so that no machine is too slow for the order of the gateway.
const LOAD: Load = Load {
    people: 120,
    within: Duration::ZERO,
    overtaken_by: 8,
    copied: 10,
    killed: NonZero::new(4),
    tick: Duration::from_secs(3_600),
    seed: 1,
};

async fn placed(way: Way) -> Placed {
    let mut programs = binaries().clone();
    if way == Way::Counter {
        programs.insert(COUNTER.to_owned(), build::example(COUNTER).expect("the example builds"));
    }
    place(way, &LOAD, &programs).await.unwrap()
}

#[tokio::test]
async fn a_line_by_arrival_has_no_gap_and_nobody_twice_whoever_dies() {
    let placed = placed(Way::Ours).await;
    assert_eq!((placed.copies, placed.killed >= 30), (12, true), "{placed:?}");
    assert_eq!((placed.people, placed.gaps, placed.numbered_twice), (120, 0, 0), "{placed:?}");
    assert_eq!((placed.inversions, placed.displacement), (0, 0), "{placed:?}");
}

#[tokio::test]
async fn a_counter_by_batch_leaves_gaps_and_gives_copies_a_number_of_their_own() {
    let placed = placed(Way::Counter).await;
    assert_eq!((placed.people, placed.copies), (120, 12), "{placed:?}");
    assert_eq!(placed.numbered_twice, 12, "each copy came in a batch of its own: {placed:?}");
    // Each copy takes the place of its first, and the numbers of who died after counting are nobody's.
    let dead = placed.gaps - placed.copies;
    assert!(dead >= 10 && dead < placed.killed, "{placed:?}");
    assert!(placed.inversions > 1_000 && placed.displacement >= 10, "{placed:?}");
}
