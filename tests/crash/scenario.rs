//! What a worker may be doing when it dies, as data: what exists before, what is sent, what goes wrong, and the end that is
//! promised whatever happens on the way.

use std::time::Duration;

use local_stack::{catalogue::SETTLING, event, inventory::SeatState, reservations::Status, stack::MAX_RECEIVES};
use serde_json::{Value, json};
use shared::{
    name::Named,
    settlement::{Outcome, event::EventType},
};

use self::Trouble::{
    DeadLetterRefusedOnce, GuardDownOnce, GuardSilentOnStatusOnce, InventoryDown, InventoryDownOnce, RefundFailsOnce,
};

pub(crate) use local_stack::event::PAYMENT;

/// A payment that came first.
const OTHER_PAYMENT: &str = "pi_other";

/// A way of one or several messages through one function.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) function: &'static str,
    pub(crate) event_type: EventType,
    pub(crate) name: &'static str,
    /// Delivered in one batch.
    pub(crate) records: Vec<Record>,
    /// Whether the events, with nothing changed in them, came and were completed before.
    pub(crate) completed_before: bool,
    pub(crate) trouble: Option<Trouble>,
    /// Receives that are used up before the scenario begins.
    pub(crate) received_before: u32,
    /// Whether the first invocation has too little time to start any record.
    pub(crate) hurried: bool,
    /// How long after the start the hold ends by the event's own word; real time, because the worker reads the clock.
    pub(crate) due_in: Option<Duration>,
}

/// One message, and the reservation that it is about.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Made unique for each run, because the runs of a scenario share their services.
    pub(crate) reservation: String,
    pub(crate) status: Status,
    pub(crate) seats: SeatState,
    pub(crate) confirmed_by: Option<&'static str>,
    /// Fields of the event's detail that differ from the usual.
    pub(crate) changes: Value,
    pub(crate) end: End,
}

/// The promised end.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) status: Status,
    pub(crate) seats: SeatState,
    /// The outcome of the message that does the work; a repeat of it is a duplicate.
    pub(crate) outcome: &'static str,
    /// The reason in the dead-letter queue, for an outcome that leads there.
    pub(crate) reason: Option<&'static str>,
    /// Where the seats stand once the services are well and the dead letters were sent back.
    pub(crate) redriven: Option<SeatState>,
}

/// What goes wrong besides the crash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Trouble {
    /// The reservation API answers 503 once.
    GuardDownOnce,
    /// It answers once with a 409 that does not say the status, so that the worker reads the reservation.
    GuardSilentOnStatusOnce,
    /// The inventory is unavailable once.
    InventoryDownOnce,
    /// The inventory is unavailable until somebody repairs it.
    InventoryDown,
    /// The bus refuses one entry.
    RefundFailsOnce,
    /// SQS refuses one message to the dead-letter queue.
    DeadLetterRefusedOnce,
}

/// Every scenario of every function.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for function in SETTLING {
        let (event_type, wanted, settled) = (function.event_type(), function.wanted(), function.settled());
        let approves = function.sells();
        let plain = |name, records: &[&Record]| Scenario {
            function: function.name,
            event_type,
            name,
            records: records.iter().map(|record| (*record).clone()).collect(),
            completed_before: false,
            trouble: None,
            received_before: 0,
            hurried: false,
            due_in: None,
        };
        let troubled = |name, record: &Record, trouble| Scenario { trouble: Some(trouble), ..plain(name, &[record]) };

        let settles = Record::held("rsv_settles").ends(wanted, settled, "success");
        let invalid =
            Record::held("rsv_invalid").with(json!({"qty": 0})).ends(Status::Hold, SeatState::Held, "rejected");
        let invalid = invalid.because("invalid_field");
        // The seats contradict the reservation's hold, which no repeat can mend.
        let contradiction = if approves { SeatState::Free } else { SeatState::Sold };
        let conflict = Record { seats: contradiction, ..settles.clone() };
        let conflict = conflict.ends(wanted, contradiction, "rejected").because("inventory_conflict");
        let expires = wanted == Status::Expired;
        let (winner, its_seats) =
            if expires { (Status::Confirmed, SeatState::Sold) } else { (Status::Expired, SeatState::Free) };
        let lost = Record { status: winner, seats: its_seats, ..Record::held("rsv_lost") };
        let lost = lost.ends(winner, its_seats, function.lost_race.name());
        let guarded = Record { status: wanted, confirmed_by: approves.then_some(PAYMENT), ..settles.clone() };
        let mut exhausted = settles.clone().ends(wanted, SeatState::Held, "exhausted").because("retries_exhausted");
        exhausted.end.redriven = Some(settled);

        all.extend([
            plain("settles a hold", &[&settles]),
            plain("the same event twice in a batch", &[&settles, &settles]),
            Scenario { completed_before: true, ..plain("an event that was completed before", &[&settles]) },
            plain("another end won", &[&lost]),
            plain("an invalid event", &[&invalid]),
            plain("seats that contradict the reservation", &[&conflict]),
            plain("three reservations in a batch", &[&settles, &invalid, &lost]),
            troubled("the reservation API is down once", &settles, GuardDownOnce),
            troubled("the reservation has to be read", &guarded, GuardSilentOnStatusOnce),
            troubled("the inventory is down once", &settles, InventoryDownOnce),
            troubled("the dead-letter queue refuses once", &invalid, DeadLetterRefusedOnce),
            Scenario {
                received_before: MAX_RECEIVES - 2,
                ..troubled("the inventory is down on the last receives", &exhausted, InventoryDown)
            },
            Scenario { hurried: true, ..plain("an invocation without time", &[&settles]) },
        ]);
        if approves {
            let paid_twice =
                Record { status: wanted, seats: settled, confirmed_by: Some(OTHER_PAYMENT), ..settles.clone() };
            let paid_twice = paid_twice.ends(wanted, settled, function.lost_race.name());
            all.push(plain("another payment has confirmed", &[&paid_twice]));
        }
        if function.lost_race == Outcome::LateApproval {
            let changed = settles.clone().with(json!({"amount": 1})).ends(wanted, settled, "rejected");
            let changed = changed.because("payload_changed");
            all.extend([
                troubled("the bus refuses the refund once", &lost, RefundFailsOnce),
                Scenario { completed_before: true, ..plain("another amount under a known key", &[&changed]) },
            ]);
        }
        if expires {
            let due_in = Some(Duration::from_secs(1));
            all.push(Scenario { due_in, ..plain("an expiry before its time", &[&settles]) });
        }
    }
    all
}

impl Record {
    fn held(reservation: &str) -> Self {
        let (status, seats, confirmed_by, changes) = (Status::Hold, SeatState::Held, None, json!({}));
        let end = End { status, seats, outcome: "", reason: None, redriven: None };
        Self { reservation: reservation.to_owned(), status, seats, confirmed_by, changes, end }
    }

    fn with(self, changes: Value) -> Self {
        Self { changes, ..self }
    }

    fn ends(self, status: Status, seats: SeatState, outcome: &'static str) -> Self {
        Self { end: End { status, seats, outcome, reason: None, redriven: None }, ..self }
    }

    fn because(self, reason: &'static str) -> Self {
        Self { end: End { reason: Some(reason), ..self.end }, ..self }
    }

    /// The message's body; `due` is when the hold ends, in seconds since the epoch.
    pub(crate) fn body(&self, event_type: EventType, changes: &Value, due: Option<u64>) -> String {
        let mut detail = event::detail(event_type, &self.reservation, "evt_1", &self.seat_ids());
        if let Some(due) = due {
            detail["expires_at"] = json!(due);
        }
        event::envelope(event_type.name(), &event::changed(detail, changes)).to_string()
    }

    pub(crate) fn seat_ids(&self) -> Vec<String> {
        ["A", "B"].map(|seat| format!("{}-{seat}", self.reservation)).to_vec()
    }

    /// The idempotency key of one step.
    pub(crate) fn key(&self, event_type: EventType, step: &str) -> String {
        let payment = if event_type.is_of_a_payment() { format!("#{PAYMENT}") } else { String::new() };
        format!("{}#{}{payment}#{step}", event_type.name(), self.reservation)
    }
}
