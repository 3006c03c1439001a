//! All interleavings of what happens to one line of the waiting room.
//!
//! | module | what it is |
//! | --- | --- |
//! | `joining` | how people get their places: messages that come twice, the placing function, two sequencers |
//! | `conformity` | the table of `joining` beside the real one, on the DynamoDB emulator |
//! | `turns` | how they are let in: two ticks, customers, reservations, events that are late or lost, and time |
//!
//! What gives places is the real `sequence`, and what calls people the real `plan`. The table is a double here, because the
//! search has many of them at once; it knows the transactions of the real one by what they change and on which condition, and
//! `conformity` holds it to the real one.

mod conformity;
mod joining;
mod turns;

use std::time::Instant;

use self::{
    joining::{Joining, Sabotage, State},
    turns::{Cast, Turns},
};
use crate::{say, search::search};

/// People by number and arrival, a message each group. Who stands in two messages pressed the button twice.
type Messages = &'static [&'static [(u8, u64)]];

/// Two at the same millisecond, one who pressed twice, and one who comes later.
const CROWDED: Messages = &[&[(0, 2), (1, 2)], &[(1, 3), (2, 1)], &[(3, 3)]];

/// As many messages as people.
const SINGLE: Messages = &[&[(0, 1)], &[(1, 2)], &[(2, 3)]];

const TWO: Messages = &[&[(0, 1)], &[(1, 2)]];

/// What takes part: the messages, the ticks of each sequencer, and how many things may go wrong.
const BOUNDS: [(Messages, [u8; 2], u8); 4] =
    [(CROWDED, [1, 1], 1), (SINGLE, [2, 1], 0), (TWO, [2, 1], 1), (TWO, [1, 1], 2)];

#[test]
fn each_person_stands_in_exactly_one_place() {
    for (messages, ticks, faults) in BOUNDS {
        let started = Instant::now();
        let mut joining = Joining::new(messages, Sabotage::None);
        match search(&mut joining, State::new(messages, ticks, faults)) {
            Ok(extent) => say(&format!(
                "joining, {} messages, ticks {ticks:?}, {faults} faults at most: {} states, {} steps, {} interleavings; {:.1} s",
                messages.len(),
                extent.states,
                extent.steps,
                extent.interleavings,
                started.elapsed().as_secs_f64()
            )),
            Err(breach) => panic!("{messages:?}: {}\n{}", breach.what, breach.way.join("\n")),
        }
    }
}

#[track_caller]
fn finds(sabotage: Sabotage, messages: Messages, faults: u8, expected: &str) {
    let start = State::new(messages, [2, 2], faults);
    let whole = search(&mut Joining::new(messages, Sabotage::None), start.clone());
    assert!(whole.is_ok(), "the whole is at fault too: {whole:?}");
    let breach = search(&mut Joining::new(messages, sabotage), start).expect_err("what is broken was not found");
    assert!(breach.what.contains(expected), "{}\n{}", breach.what, breach.way.join("\n"));
}

#[test]
fn an_item_that_is_written_without_a_condition_is_found() {
    finds(Sabotage::Unconditional, &[&[(0, 1)], &[(0, 2)]], 0, "person 0 stands in 2 places");
}

#[test]
fn blocks_that_are_not_cleared_are_found() {
    finds(Sabotage::NotCleared, TWO, 1, "stands in 2 places");
}

#[test]
fn a_line_whose_version_is_not_looked_at_is_found() {
    finds(Sabotage::VersionUnseen, TWO, 0, "places");
}

#[test]
fn who_is_not_carried_over_is_found() {
    finds(Sabotage::CarryForgotten, &[&[(0, 1), (1, 2)]], 0, "person 1 stands in 0 places");
}

/// One ticket for two, of whom one may leave; two tickets for two; a pair that waits until there are two for it; one who is
/// called again; and one while things go wrong.
const CASTS: [Cast; 5] = [
    Cast { tickets: 1, customers: &[(1, 1, true), (1, 1, false)], ticks: [2, 1], passes: 2, faults: 0 },
    Cast { tickets: 2, customers: &[(1, 1, false), (1, 1, false)], ticks: [2, 0], passes: 1, faults: 0 },
    Cast { tickets: 2, customers: &[(1, 1, true), (2, 1, false)], ticks: [3, 0], passes: 2, faults: 0 },
    Cast { tickets: 1, customers: &[(1, 3, false), (1, 0, false)], ticks: [3, 0], passes: 3, faults: 0 },
    Cast { tickets: 1, customers: &[(1, 1, false)], ticks: [2, 1], passes: 2, faults: 1 },
];

#[test]
fn nobody_is_let_in_for_a_ticket_that_somebody_else_can_have() {
    for cast in CASTS {
        let started = Instant::now();
        let mut turns = Turns::new(cast, turns::Sabotage::None);
        match search(&mut turns, turns::State::new(&cast)) {
            Ok(extent) => say(&format!(
                "turns, {cast:?}: {} states, {} steps, {} interleavings; {:.1} s",
                extent.states,
                extent.steps,
                extent.interleavings,
                started.elapsed().as_secs_f64()
            )),
            Err(breach) => panic!("{cast:?}: {}\n{}", breach.what, breach.way.join("\n")),
        }
    }
}

#[track_caller]
fn turns_find(sabotage: turns::Sabotage, cast: Cast, start: fn(&Cast) -> turns::State, expected: &str) {
    let whole = search(&mut Turns::new(cast, turns::Sabotage::None), start(&cast));
    assert!(whole.is_ok(), "the whole is at fault too: {whole:?}");
    let breach = search(&mut Turns::new(cast, sabotage), start(&cast));
    let breach = breach.expect_err("what is broken was not found");
    assert!(breach.what.contains(expected), "{}\n{}", breach.what, breach.way.join("\n"));
}

/// One ticket for two who ask once each.
const RIVALS: Cast =
    Cast { tickets: 1, customers: &[(1, 1, false), (1, 1, false)], ticks: [1, 1], passes: 2, faults: 0 };

#[test]
fn a_turn_that_is_taken_back_without_a_tombstone_is_found() {
    let cast = Cast { ticks: [3, 0], ..RIVALS };
    turns_find(turns::Sabotage::NoTombstone, cast, turns::State::new, "2 tickets of 1");
}

#[test]
fn a_place_that_is_written_over_is_found() {
    let cast = Cast { ticks: [3, 0], faults: 1, ..RIVALS };
    turns_find(turns::Sabotage::Unconditional, cast, turns::State::new, "place 1");
}

#[test]
fn a_tick_that_does_not_look_at_the_version_is_found() {
    turns_find(turns::Sabotage::VersionUnseen, RIVALS, turns::State::of_the_silent, "2 tickets of 1");
}
