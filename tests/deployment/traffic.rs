//! Two hundred events as producers send them, and how each reservation must end.

use local_stack::{
    inventory::{Inventory, SeatState},
    reservations::{Reservation, Reservations, Status},
};
use serde_json::{Value, json};

/// What the tickets are for.
const TICKETS_FOR: &str = "evt_2026_1121";

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

/// An event type, and the end that it brings.
#[derive(Clone, Copy)]
enum Kind {
    Expired,
    Approved,
    Failed,
}

/// All of the traffic: every kind alone, twice, unreadable, too late, in a race, and in the forms that producers have.
pub(crate) fn two_hundred_events() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in [Kind::Expired, Kind::Approved, Kind::Failed] {
        cases.extend(numbered("once", kind, 25, |case| case.entries = vec![kind.entry(case)]));
        cases.extend(numbered("twice", kind, 12, |case| case.entries = vec![kind.entry(case), kind.entry(case)]));
        cases.extend(numbered("poison", kind, 5, |case| {
            let mut entry = kind.entry(case);
            entry.detail["reservation_id"] = json!("");
            case.entries = vec![entry];
            case.end = End::Rejected("invalid_field");
        }));
    }
    cases.extend(numbered("alias", Kind::Expired, 4, |case| {
        case.entries = vec![Entry { detail_type: "reservation.hold.expired", ..Kind::Expired.entry(case) }];
    }));
    for kind in [Kind::Approved, Kind::Failed] {
        cases.extend(numbered("status", kind, 5, |case| case.entries = vec![kind.status_entry(case)]));
    }
    cases.extend(numbered("late", Kind::Approved, 12, |case| {
        case.given = Status::Expired;
        case.entries = vec![Kind::Approved.entry(case)];
        case.end = End::Refunded;
    }));
    cases.extend(numbered("race", Kind::Approved, 6, |case| {
        case.entries = vec![Kind::Approved.entry(case), Kind::Expired.entry(case)];
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

fn numbered(name: &str, kind: Kind, count: usize, shape: impl Fn(&mut Case)) -> Vec<Case> {
    let case = |number| {
        let reservation_id = format!("rsv_{}_{name}_{number}", kind.name());
        let (given, entries, end) = (Status::Hold, Vec::new(), kind.end());
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

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::Approved => "approved",
            Self::Failed => "failed",
        }
    }

    fn end(self) -> End {
        match self {
            Self::Expired => End::Settled(Status::Expired, SeatState::Free),
            Self::Approved => End::Settled(Status::Confirmed, SeatState::Sold),
            Self::Failed => End::Settled(Status::Cancelled, SeatState::Free),
        }
    }

    fn entry(self, case: &Case) -> Entry {
        let mut detail = json!({
            "reservation_id": case.reservation_id, "event_id": TICKETS_FOR, "seat_ids": seats(&case.reservation_id), "qty": 2,
        });
        let (source, detail_type) = match self {
            Self::Expired => ("reservation-api", "reservation.expired"),
            Self::Approved => ("payment-service", "payment.approved"),
            Self::Failed => ("payment-service", "payment.failed"),
        };
        if !matches!(self, Self::Expired) {
            detail["payment_intent_id"] = json!(case.payment());
            detail["amount"] = json!(7_600);
            detail["currency"] = json!("EUR");
        }
        Entry { source, detail_type, detail }
    }

    /// The form of payment services that say the outcome in a status.
    fn status_entry(self, case: &Case) -> Entry {
        let status = if matches!(self, Self::Failed) { "FAILED" } else { "COMPLETED" };
        let detail = json!({
            "status": status, "reservation_id": case.reservation_id, "payment_id": case.payment(), "amount": "7600",
        });
        Entry { source: "payment-sim-api", detail_type: "Payment Status Updated", detail }
    }
}
