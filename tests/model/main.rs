//! All interleavings of the events of one reservation, over the code that decides.
//!
//! | module | what it is |
//! | --- | --- |
//! | `kind` | the deliveries that race |
//! | `gate` | the far end of a worker's calls |
//! | `decisions` | what the real code does after which answers |
//! | `services` | what the local stack's services, and the DynamoDB emulator, do with a request |
//! | `state`, `rules` | what may happen next; what must never happen, and what must have happened in the end |
//! | `search` | every state that can be reached |
//! | `sale` | the same for the reservations of our own API, whoever is at them |
//! | `line` | the same for a line of the waiting room: how people get their places, and how they are let in |
//!
//! Nothing here says what a worker does or what a service answers: the first is asked of the functions' own workflows
//! in the real `Settler` with its real clients, the second of the stack. The search is our own and not that of a model
//! checker's crate, because its steps are looked up in real code as it goes, and because the interleavings are to be
//! counted and not only the states.
//!
//! A fault is an answer that is lost, a request that is refused, a worker that is gone, or a lease that ends under a
//! worker that is still there. Lambda would stop that worker; here it goes on, as one that was frozen may. Whatever
//! leaves no trace, such as a claim that is refused, is no step of its own.
//!
//! Not in the model: a request that takes effect only after its worker has gone on, a message that runs out of
//! receives, and a claim that outlives its `expiration`.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod kind;

mod gate;

mod decisions;
mod services;

mod rules;
mod state;

mod search;

mod line;
mod sale;

use std::{io::Write, time::Instant};

use local_stack::catalogue::Settling;
use shared::settlement::{Outcome, Workflow, event::EventType};

use self::{
    kind::{Kind, multisets},
    search::{Extent, search},
    services::{Dialect, Sabotage},
    state::{Faults, Model},
};

/// How many deliveries race, and what may go wrong meanwhile. The more may, the fewer deliveries there is time for.
const BOUNDS: [(usize, Faults); 4] =
    [(4, Faults::Left(0)), (4, Faults::Left(1)), (3, Faults::Left(2)), (2, Faults::Any)];

#[test]
fn every_interleaving_ends_well() {
    every_interleaving_of(Dialect::Full);
}

#[test]
fn every_interleaving_ends_well_when_the_api_says_as_little_as_it_may() {
    every_interleaving_of(Dialect::Terse);
}

fn every_interleaving_of(dialect: Dialect) {
    let mut model = Model::new(dialect, Sabotage::None, Kind::function);
    for (most, faults) in BOUNDS {
        let started = Instant::now();
        let all = multisets(most);
        let mut sum = Extent::default();
        for kinds in &all {
            let start = model.start(kinds, faults);
            let extent = match search(&mut model, start) {
                Ok(extent) => extent,
                Err(breach) => panic!("{kinds:?}: {}\n{}", breach.what, breach.way.join("\n")),
            };
            sum.states += extent.states;
            sum.steps += extent.steps;
            sum.interleavings = sum.interleavings.saturating_add(extent.interleavings);
        }
        let ways = format!(", {} interleavings", sum.interleavings);
        let ways = if faults == Faults::Left(0) { ways } else { String::new() };
        say(&format!(
            "{dialect:?} answers, {}: {} multisets of at most {most} deliveries, {} states, {} steps{ways}; \
             {} histories of a worker; {:.1} s",
            match faults {
                Faults::Left(0) => "no faults".to_owned(),
                Faults::Left(left) => format!("at most {left} of any fault"),
                Faults::Any => "any number of faults".to_owned(),
            },
            all.len(),
            sum.states,
            sum.steps,
            model.histories(),
            started.elapsed().as_secs_f64()
        ));
    }
    let endings = model.endings();
    for expected in [
        "success",
        "duplicate",
        "superseded",
        "late_approval",
        "another worker is at this event",
        "lost to another worker",
    ] {
        assert!(endings.iter().any(|ending| ending.contains(expected)), "no worker ended in {expected}: {endings:#?}");
    }
}

#[track_caller]
fn finds(sabotage: Sabotage, function: fn(Kind) -> Settling, kinds: &[Kind], expected: &str) {
    let faults = Faults::Any;
    let mut whole = Model::new(Dialect::Full, Sabotage::None, Kind::function);
    let start = whole.start(kinds, faults);
    assert!(search(&mut whole, start).is_ok(), "the whole worker is at fault too");
    let mut broken = Model::new(Dialect::Full, sabotage, function);
    let start = broken.start(kinds, faults);
    let breach = search(&mut broken, start).expect_err("what is broken was not found");
    assert!(breach.what.contains(expected), "{}\n{}", breach.what, breach.way.join("\n"));
}

#[test]
fn a_worker_that_settles_before_it_guards_is_found() {
    let (sabotage, sale) = (Sabotage::NoGuard, "the sale of a reservation that is HOLD");
    finds(sabotage, Kind::function, &[Kind::of(EventType::PaymentApproved)], sale);
    finds(
        sabotage,
        Kind::function,
        &[Kind::of(EventType::ReservationExpired)],
        "the release of a reservation that is HOLD",
    );
}

#[test]
fn a_worker_that_ignores_a_conflict_is_found() {
    let kinds = [Kind::of(EventType::PaymentApproved), Kind::of(EventType::ReservationExpired)];
    finds(Sabotage::ConflictIgnored, Kind::function, &kinds, "of a reservation that is");
}

#[test]
fn a_claim_without_a_condition_is_found() {
    let kinds = [Kind::of(EventType::PaymentApproved), Kind::of(EventType::PaymentApproved)];
    finds(Sabotage::ClaimUnconditional, Kind::function, &kinds, "a claim was taken while another's lease lasts");
}

#[test]
fn a_completion_without_the_owner_check_is_found() {
    let kinds = [Kind::of(EventType::ReservationExpired), Kind::of(EventType::ReservationExpired)];
    finds(Sabotage::OwnerUnchecked, Kind::function, &kinds, "another's claim was changed");
}

#[test]
fn a_refund_that_is_lost_or_forgotten_is_found() {
    fn forgetful(kind: Kind) -> Settling {
        Settling { lost_race: Outcome::Superseded, ..kind.function() }
    }

    let kinds = [Kind::of(EventType::PaymentApproved), Kind::of(EventType::ReservationExpired)];
    finds(Sabotage::RefundLost, Kind::function, &kinds, "the payment was not refunded");
    finds(Sabotage::None, forgetful, &kinds, "the payment was not refunded");
    finds(
        Sabotage::None,
        forgetful,
        &[Kind::of(EventType::PaymentApproved), Kind::APPROVED_AGAIN],
        "the payment was not refunded",
    );
}

#[test]
fn an_approval_that_releases_is_found() {
    fn confused(kind: Kind) -> Settling {
        let function = kind.function();
        let settle = Kind::of(EventType::PaymentFailed).function().workflow.settle;
        Settling { workflow: Workflow { settle, ..function.workflow }, ..function }
    }

    finds(
        Sabotage::None,
        confused,
        &[Kind::of(EventType::PaymentApproved)],
        "the release of a reservation that is CONFIRMED",
    );
}

/// The harness keeps what is printed of a test that passes, so this goes past it.
pub(crate) fn say(line: &str) {
    let mut line = line.to_owned();
    line.push('\n');
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}
