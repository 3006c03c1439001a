//! The ways that a reservation can take, as data: what happens one after the other, and the end that is promised whoever dies
//! on the way.

use std::time::Duration;

use local_stack::inventory::SeatState;

use self::Act::{Cancel, Confirm, Create, Deliver, Extend, LoseStream, Pass, Pay, PayInVain, Relay, Sweep, TakeBack};

/// Longer than a hold lasts.
const HOLD: Duration = Duration::from_secs(61);

/// One way.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    pub(crate) acts: Vec<Act>,
    /// What is not as it should be.
    pub(crate) trouble: Option<Trouble>,
    /// The statuses that it may end in.
    pub(crate) ends: &'static [&'static str],
    /// What then has become of the seats.
    pub(crate) seats: &'static [SeatState],
    /// Whether its show has a line, and its customer comes with a turn, which gives the reservation its name.
    pub(crate) by_turn: bool,
    /// Whether the payment is to be given back.
    pub(crate) refund: bool,
    /// What the bus must have been told.
    pub(crate) told: &'static [&'static str],
}

/// Something that happens on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// The customer asks for two seats, until he has an answer.
    Create,
    /// The waiting room ends his turn: a reservation that is not made yet can't be made any more.
    TakeBack,
    /// He says that he has paid.
    Confirm,
    /// He gives it up.
    Cancel,
    /// He asks for more time.
    Extend,
    /// He pays, and his payment goes through. Who has lost his turn has nothing to pay for.
    Pay,
    /// He pays, and his payment does not go through.
    PayInVain,
    /// The stream is followed to its end.
    Relay,
    /// Nobody follows the stream for as long as it keeps its records.
    LoseStream,
    /// What is due in a function's queue is delivered, until it is empty.
    Deliver(&'static str),
    /// So much time passes.
    Pass(Duration),
    /// The hour strikes.
    Sweep,
}

/// What is not as it should be, besides the death of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Another has one of the seats.
    SeatTaken,
    /// The inventory holds the seats and its answer is lost.
    HoldUnanswered,
}

impl Way {
    /// Whether the customer and the waiting room are at one turn, so that one of the two has it in the end.
    pub(crate) fn is_contended(&self) -> bool {
        self.acts.contains(&TakeBack)
    }
}

pub(crate) fn ways() -> Vec<Way> {
    const EXPIRED: &str = "reservation-expired";
    const CREATED: &str = "reservation.created";

    let way = |name, acts: &[Act], end: &'static [&'static str], seats, told| {
        let (acts, trouble, by_turn, refund) = (acts.to_vec(), None, false, false);
        Way { name, acts, trouble, ends: end, seats, by_turn, refund, told }
    };
    let sold: &[SeatState] = &[SeatState::Sold];
    let free: &[SeatState] = &[SeatState::Free];
    vec![
        way(
            "a hold that nobody pays runs out",
            &[Create, Relay, Pass(HOLD), Deliver(EXPIRED), Relay],
            &["EXPIRED"],
            free,
            &[CREATED, "reservation.expired"],
        ),
        way(
            "its payment's event confirms it",
            &[Create, Relay, Pay, Deliver("payment-approved"), Relay],
            &["CONFIRMED"],
            sold,
            &[CREATED, "reservation.confirmed"],
        ),
        way(
            "its customer confirms it, and then his payment's event does",
            &[Create, Pay, Confirm, Relay, Deliver("reservation-confirmed"), Deliver("payment-approved")],
            &["CONFIRMED"],
            sold,
            &["reservation.confirmed"],
        ),
        way(
            "its customer gives it up",
            &[Create, Relay, Cancel, Relay, Deliver("reservation-cancelled")],
            &["CANCELLED"],
            free,
            &[CREATED, "reservation.cancelled"],
        ),
        way(
            "its payment does not go through",
            &[Create, Relay, PayInVain, Deliver("payment-failed"), Relay],
            &["CANCELLED"],
            free,
            &[CREATED, "reservation.cancelled"],
        ),
        Way {
            refund: true,
            ..way(
                "it is paid when it has run out",
                &[Create, Relay, Pass(HOLD), Deliver(EXPIRED), Pay, Deliver("payment-approved"), Relay],
                &["EXPIRED"],
                free,
                &[CREATED, "reservation.expired"],
            )
        },
        Way {
            refund: true,
            ..way(
                "it is paid when it was given up",
                &[Create, Cancel, Pay, Deliver("payment-approved"), Relay, Deliver("reservation-cancelled")],
                &["CANCELLED"],
                free,
                &["reservation.cancelled"],
            )
        },
        way(
            "its hold is extended, and its first timer comes too early",
            &[Create, Relay, Extend, Relay, Pass(HOLD), Deliver(EXPIRED), Relay],
            &["EXPIRED"],
            free,
            &[CREATED, "reservation.expired"],
        ),
        Way {
            trouble: Some(Trouble::SeatTaken),
            // Where nobody knows whether an earlier call held some, it is given back at its deadline.
            ..way(
                "another has one of its seats",
                &[Create, Relay],
                &["FAILED", "EXPIRED"],
                &[SeatState::Unknown],
                &["reservation.failed"],
            )
        },
        Way {
            trouble: Some(Trouble::HoldUnanswered),
            ..way(
                "the inventory holds its seats and nobody hears of it",
                &[Create, Relay, Pass(HOLD), Deliver(EXPIRED), Relay],
                &["EXPIRED"],
                free,
                &["reservation.expired"],
            )
        },
        way(
            "its timer and its events are lost with the stream",
            &[Create, LoseStream, Pass(Duration::from_secs(185)), Sweep, Relay, Deliver(EXPIRED), Relay],
            &["EXPIRED"],
            free,
            &["reservation.expired"],
        ),
        Way {
            by_turn: true,
            ..way(
                "it is made by a turn, and paid",
                &[Create, Relay, Pay, Deliver("payment-approved"), Relay],
                &["CONFIRMED"],
                sold,
                &[CREATED, "reservation.confirmed"],
            )
        },
        Way {
            by_turn: true,
            ..way(
                "its turn is taken back while it is made",
                &[Create, TakeBack, Pay, Deliver("payment-approved"), Relay],
                &["CONFIRMED", "EXPIRED"],
                &[SeatState::Sold, SeatState::Unknown],
                &[],
            )
        },
        Way {
            by_turn: true,
            ..way(
                "it is made while its turn is taken back",
                &[TakeBack, Create, Pay, Deliver("payment-approved"), Relay],
                &["CONFIRMED", "EXPIRED"],
                &[SeatState::Sold, SeatState::Unknown],
                &[],
            )
        },
    ]
}
