//! All interleavings of what happens to one reservation of our own API: its customer's requests, the workers' events, the
//! relay, the sweep and time itself.
//!
//! | module | what it is |
//! | --- | --- |
//! | `role` | who takes part |
//! | `moment` | time in words |
//! | `programs` | what the real code does after which answers |
//! | `table` | what the DynamoDB emulator does with a request |
//! | `payment` | what the payment service says of the customer's payment |
//! | `state` | what may happen next; what must never happen, and what must have happened in the end |
//!
//! The workers' claims are always granted here: what `kind` and its neighbours prove of them is not needed for any of this.
//! Time is three phases: before the deadline, after it, and so long after it that a sweep looks for what was missed. It
//! passes at any moment, under whoever is at work. In the end, what the stream, the queues and the sweep bring is worked
//! off, one after the other, until nothing is left to do.
//!
//! There is one payment. Where the customer says that he has paid, it goes through at any moment: from then on the payment
//! service says so, and its event is there.
//!
//! Not in the model: the end of the inventory's own grace; and the SDK's second try, which finds its own write and takes it for
//! made.

pub(crate) mod moment;
mod payment;
mod programs;
mod role;
mod state;
mod table;

use std::time::Instant;

use self::{role::Role, state::Sale};
use crate::{
    say,
    search::{Extent, search},
    services::Seats,
};

/// How many take part, and how many things may go wrong meanwhile.
const BOUNDS: [(usize, u8); 3] = [(4, 0), (3, 1), (2, 2)];

/// What is broken on purpose, to show that the search finds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    None,
    /// A change is written whatever the reservation has become.
    Unconditional,
    /// What is told is forgotten, and what came after it too.
    ClearedUnseen,
    /// The queue of expiries says that it took a timer, and did not.
    TimerLost,
    /// The clock of the API goes wrong by minutes.
    EarlyExpiry,
    /// The inventory holds seats for a reservation that was released before.
    NothingBarred,
    /// The payment service says that a payment has gone through that has not.
    PaidOnHisWord,
}

#[test]
fn every_reservation_comes_to_one_end() {
    let mut sale = Sale::new(Sabotage::None);
    for (most, faults) in BOUNDS {
        let started = Instant::now();
        let all = Role::multisets(most);
        let mut sum = Extent::default();
        for (roles, seats) in all.iter().flat_map(|roles| [(roles, Seats::Open), (roles, Seats::Taken)]) {
            let start = sale.start(roles, seats, faults);
            match search(&mut sale, start) {
                Ok(extent) => {
                    sum.states += extent.states;
                    sum.steps += extent.steps;
                    sum.interleavings = sum.interleavings.saturating_add(extent.interleavings);
                }
                Err(breach) => panic!("{roles:?}, {seats:?}: {}\n{}", breach.what, breach.way.join("\n")),
            }
        }
        say(&format!(
            "a sale, {faults} faults at most: {} multisets of at most {most}, {} states, {} steps, {} interleavings; {} \
             histories of a program; {:.1} s",
            all.len(),
            sum.states,
            sum.steps,
            sum.interleavings,
            sale.histories(),
            started.elapsed().as_secs_f64()
        ));
    }
    let ends = sale.ends();
    for expected in
        ["Held", "NoSeats", "MoreTime", "GivenUp", "Sold", "success", "superseded", "late_approval", "ComesBack"]
    {
        assert!(ends.iter().any(|end| end.contains(expected)), "nothing ended in {expected}: {ends:#?}");
    }
}

#[track_caller]
fn finds(sabotage: Sabotage, roles: &[Role], faults: u8, expected: &str) {
    let mut whole = Sale::new(Sabotage::None);
    let start = whole.start(roles, Seats::Open, faults);
    assert!(search(&mut whole, start).is_ok(), "the whole is at fault too");
    let mut broken = Sale::new(sabotage);
    let start = broken.start(roles, Seats::Open, faults);
    let breach = search(&mut broken, start).expect_err("what is broken was not found");
    assert!(breach.what.contains(expected), "{}\n{}", breach.what, breach.way.join("\n"));
}

#[test]
fn a_write_without_a_condition_is_found() {
    finds(Sabotage::Unconditional, &[Role::Create, Role::Cancel, Role::Approved], 0, "the reservation was");
}

#[test]
fn a_relay_that_forgets_what_it_has_not_seen_is_found() {
    finds(Sabotage::ClearedUnseen, &[Role::Create, Role::Relay], 0, "not all of it was told");
}

#[test]
fn a_timer_that_is_lost_is_found() {
    finds(Sabotage::TimerLost, &[Role::Create], 0, "it never comes to rest");
}

#[test]
fn a_clock_that_is_fast_is_found() {
    finds(Sabotage::EarlyExpiry, &[Role::Create, Role::Expired], 0, "before its deadline");
}

#[test]
fn an_inventory_that_holds_after_its_release_is_found() {
    finds(Sabotage::NothingBarred, &[Role::Create, Role::Expired], 0, "its seats are Held");
}

#[test]
fn a_confirm_that_nothing_proves_is_found() {
    finds(Sabotage::PaidOnHisWord, &[Role::Create, Role::Confirm], 0, "is CONFIRMED and not paid");
}
