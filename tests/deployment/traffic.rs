//! Events as producers send them, and how each reservation must end.

use local_stack::{
    catalogue::{self, SETTLING},
    event,
    inventory::{Inventory, SeatState},
    reservations::{Reservation, Reservations, Status},
};
use serde_json::{Value, json};
use shared::{name::Named, settlement::event::EventType};

/// What the tickets are for.
const TICKETS_FOR: &str = "evt_2026_1121";

/// How many events of each function can't be read.
pub(crate) const POISON: usize = 5;

/// How many events of each function come twice. The functions share them, so that a deployment takes no longer with more.
pub(crate) const TWICE: usize = 36 / SETTLING.len();

/// An event as a producer puts it on the bus.
pub(crate) struct Entry {
    pub(crate) source: &'static str,
    pub(crate) detail_type: &'static str,
    pub(crate) detail: Value,
}

/// A reservation, what happens to it, and how it must end.
pub(crate) struct Case {
    pub(crate) reservation_id: String,
    pub(crate) given: Status,
    pub(crate) entries: Vec<Entry>,
    pub(crate) end: End,
}

/// How a case ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The reservation and its seats are settled.
    Settled(Status, SeatState),
    /// The reservation had ended before somebody paid: the payment is refunded.
    Refunded,
    /// An expiry and an approval race. Either the seats are sold, or they are free and the payment is refunded.
    Raced,
    /// The event can't be read, nothing changes, and a person finds it with this reason.
    Rejected(&'static str),
}

/// All of the traffic: every kind alone, twice, unreadable, too late, in a race, and in the forms that producers have.
pub(crate) fn events() -> Vec<Case> {
    const ONCE: usize = 75 / SETTLING.len();

    let (expired, approved, failed) =
        (EventType::ReservationExpired, EventType::PaymentApproved, EventType::PaymentFailed);
    let mut cases = Vec::new();
    for function in SETTLING {
        let kind = function.event_type();
        cases.extend(numbered("once", kind, ONCE, |case| case.entries = vec![entry(kind, case)]));
        cases.extend(numbered("twice", kind, TWICE, |case| case.entries = vec![entry(kind, case), entry(kind, case)]));
        cases.extend(numbered("poison", kind, POISON, |case| {
            let mut entry = entry(kind, case);
            entry.detail["reservation_id"] = json!("");
            case.entries = vec![entry];
            case.end = End::Rejected("invalid_field");
        }));
    }
    cases.extend(numbered("alias", expired, 4, |case| {
        case.entries = vec![Entry { detail_type: "reservation.hold.expired", ..entry(expired, case) }];
    }));
    for kind in [approved, failed] {
        cases.extend(numbered("status", kind, 5, |case| case.entries = vec![status_entry(kind, case)]));
    }
    cases.extend(numbered("late", approved, 12, |case| {
        case.given = Status::Expired;
        case.entries = vec![entry(approved, case)];
        case.end = End::Refunded;
    }));
    cases.extend(numbered("race", approved, 6, |case| {
        case.entries = vec![entry(approved, case), entry(expired, case)];
        case.end = End::Raced;
    }));
    cases
}

/// Puts the reservation and its two seats in place.
pub(crate) fn seed(case: &Case, reservations: &Reservations, inventory: &Inventory) {
    let seat_ids = seats(&case.reservation_id);
    if case.given == Status::Expired {
        inventory.release(TICKETS_FOR, &case.reservation_id, &seat_ids, 2);
    } else {
        inventory.hold(TICKETS_FOR, &case.reservation_id, &seat_ids, 2);
    }
    reservations.put(Reservation {
        reservation_id: case.reservation_id.clone(),
        event_id: TICKETS_FOR.to_owned(),
        user_id: "usr_1".to_owned(),
        status: case.given,
        seat_ids,
        quantity: 2,
        payment_intent_id: None,
    });
}

fn numbered(name: &str, kind: EventType, count: usize, shape: impl Fn(&mut Case)) -> Vec<Case> {
    let case = |number| {
        let reservation_id = format!("rsv_{}_{name}_{number}", kind.name().replace('.', "-"));
        let function = catalogue::settler_of(kind);
        let (given, entries, end) = (Status::Hold, Vec::new(), End::Settled(function.wanted(), function.settled()));
        let mut case = Case { reservation_id, given, entries, end };
        shape(&mut case);
        case
    };
    (0..count).map(case).collect()
}

fn seats(reservation_id: &str) -> Vec<String> {
    vec![format!("{reservation_id}-1"), format!("{reservation_id}-2")]
}

impl Case {
    /// The payment that the case's events are about.
    pub(crate) fn payment(&self) -> String {
        self.reservation_id.replacen("rsv", "pi", 1)
    }
}

/// The event as its producer sends it.
fn entry(kind: EventType, case: &Case) -> Entry {
    let mut detail = event::detail(kind, &case.reservation_id, TICKETS_FOR, &seats(&case.reservation_id));
    if kind.is_of_a_payment() {
        detail["payment_intent_id"] = json!(case.payment());
    }
    let source = match kind {
        EventType::PaymentApproved | EventType::PaymentFailed => "payment-service",
        EventType::ReservationExpired | EventType::ReservationCancelled => "reservation-api",
        EventType::ReservationConfirmed => {
            detail["by"] = json!("client");
            "holdfast"
        }
    };
    Entry { source, detail_type: kind.name(), detail }
}

/// The form of payment services that say the outcome in a status.
fn status_entry(kind: EventType, case: &Case) -> Entry {
    let status = if kind == EventType::PaymentFailed { "FAILED" } else { "COMPLETED" };
    let detail = json!({
        "status": status, "reservation_id": case.reservation_id, "payment_id": case.payment(), "amount": "7600",
    });
    Entry { source: "payment-sim-api", detail_type: "Payment Status Updated", detail }
}
