//! Reservations: what one is and what it holds, and what may become of it ([`lifecycle`]), as values and pure functions that
//! clients and servers both use. Their [`table`] keeps them, and the [`service`] serves whoever asks, behind its
//! [`entrance`].

pub mod entrance;
pub mod lifecycle;
pub mod payment;
pub mod relay;
pub mod service;
pub mod sweep;
pub mod table;

use std::fmt;

use serde::{Deserialize, Serialize};

/// A reservation's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// Paid; terminal.
    Confirmed,
    /// Given up or not paid; terminal.
    Cancelled,
    /// The hold ran out; terminal.
    Expired,
    /// Broken off; terminal.
    Failed,
    /// Paid back; terminal.
    Refunded,
    /// Held for a customer who has not paid yet; not terminal.
    Hold,
    /// Not yet held; not terminal.
    Pending,
    /// None that this code knows: nothing may be settled on it.
    Other(String),
}

impl Status {
    /// The status of this name.
    pub fn named(name: &str) -> Self {
        match name {
            "CONFIRMED" => Self::Confirmed,
            "CANCELLED" => Self::Cancelled,
            "EXPIRED" => Self::Expired,
            "FAILED" => Self::Failed,
            "REFUNDED" => Self::Refunded,
            "HOLD" => Self::Hold,
            "PENDING" => Self::Pending,
            other => Self::Other(other.to_owned()),
        }
    }

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Failed => "FAILED",
            Self::Refunded => "REFUNDED",
            Self::Hold => "HOLD",
            Self::Pending => "PENDING",
            Self::Other(name) => name,
        }
    }
}

/// The status change that an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// What the reservation must become.
    pub wanted: Status,
    /// The payment that confirms it.
    pub payment_intent_id: Option<String>,
}

/// What a reservation holds, as far as somebody says: its API, or an event. Every part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// The show that the tickets are for: `event_id` on the wire.
    pub show_id: Option<String>,
    /// The customer.
    pub user_id: Option<String>,
    /// The seats, when they are numbered.
    pub seat_ids: Vec<String>,
    /// The number of tickets; beside seats, their number.
    pub quantity: Option<u32>,
}

/// What a reservation holds: seats of an event, or a number of places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allotment {
    /// The show that the tickets are for: `event_id` on the wire.
    pub show_id: String,
    /// The seats, when they are numbered.
    pub seat_ids: Vec<String>,
    /// The number of tickets; beside seats, their number.
    pub quantity: u32,
    /// The customer, when somebody said.
    pub user_id: Option<String>,
}

impl Allotment {
    /// What a reservation holds: as `reservation` says where it does, as `event` says otherwise. Nothing, when neither says
    /// the show, or neither the seats nor a quantity.
    pub fn of(reservation: &Holding, event: &Holding) -> Option<Self> {
        let show_id = reservation.show_id.clone().or_else(|| event.show_id.clone())?;
        let reservation_says = !reservation.seat_ids.is_empty() || reservation.quantity.is_some();
        let Holding { seat_ids, quantity, .. } = if reservation_says { reservation } else { event };
        let quantity = if seat_ids.is_empty() { (*quantity)? } else { u32::try_from(seat_ids.len()).ok()? };
        let user_id = reservation.user_id.clone().or_else(|| event.user_id.clone());
        Some(Self { show_id, seat_ids: seat_ids.clone(), quantity, user_id })
    }
}

/// Seats that the inventory holds for a reservation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hold {
    /// The seats; none where the inventory counts places only.
    pub seat_ids: Vec<String>,
    /// What they cost together, where the inventory says it of each.
    pub price: Option<Money>,
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// ISO 4217; empty where it was not said.
    pub currency: String,
}

impl Money {
    /// Whether this is as much as `price`. A currency that one of the two does not name is the other's.
    pub fn covers(&self, price: &Self) -> bool {
        let same = self.currency == price.currency || self.currency.is_empty() || price.currency.is_empty();
        same && self.amount >= price.amount
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount, self.currency)
    }
}

/// Why a hold is given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The hold ran out.
    Expired,
    /// The payment did not go through.
    FailedPayment,
    /// The customer gave it up.
    Cancelled,
}

impl ReleaseReason {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "EXPIRED",
            Self::FailedPayment => "FAILED_PAYMENT",
            Self::Cancelled => "CANCELLED",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(show_id: Option<&str>, seats: &[&str], quantity: Option<u32>) -> Holding {
        let seat_ids = seats.iter().map(|seat| (*seat).to_owned()).collect();
        Holding { show_id: show_id.map(str::to_owned), seat_ids, quantity, ..Holding::default() }
    }

    #[track_caller]
    fn check(event: &Holding, reservation: &Holding, expected: Option<(&str, &[&str], u32)>) {
        let found = Allotment::of(reservation, event);
        let found = found.as_ref().map(|found| {
            let seats: Vec<&str> = found.seat_ids.iter().map(String::as_str).collect();
            (found.show_id.as_str(), seats, found.quantity)
        });
        assert_eq!(found, expected.map(|(show_id, seats, quantity)| (show_id, seats.to_vec(), quantity)));
    }

    #[test]
    fn the_reservation_is_the_authority_on_what_it_holds() {
        let event = holding(Some("evt_event"), &["A"], Some(1));
        check(&event, &holding(Some("evt_api"), &["B", "C"], Some(2)), Some(("evt_api", &["B", "C"], 2)));
        check(&event, &holding(Some("evt_api"), &[], Some(4)), Some(("evt_api", &[], 4)));
    }

    #[test]
    fn what_the_reservation_leaves_out_comes_from_the_event() {
        let with_seats = holding(Some("evt_event"), &["A"], Some(1));
        check(&with_seats, &Holding::default(), Some(("evt_event", &["A"], 1)));
        check(&holding(Some("evt_event"), &[], Some(3)), &Holding::default(), Some(("evt_event", &[], 3)));
        check(&holding(None, &["A"], None), &holding(Some("evt_api"), &[], None), Some(("evt_api", &["A"], 1)));
    }

    #[test]
    fn without_a_show_or_without_seats_and_quantity_there_is_no_allotment() {
        check(&holding(None, &["A"], Some(1)), &holding(None, &["A"], Some(1)), None);
        check(&holding(Some("evt_1"), &[], None), &holding(Some("evt_1"), &[], None), None);
    }
}
