//! Who takes part in the life of a reservation.

use shared::{reservation::lifecycle::Wish, settlement::event::EventType};

use crate::kind::{EVENT, SEAT};

/// Somebody who does something with the one reservation.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Role {
    /// A customer's request for the seat. Two of them are one request and its repeat, which may take it over.
    Create,
    /// The customer gives it up.
    Cancel,
    /// The customer asks for more time.
    Extend,
    /// The customer says that he has paid, for which the payment service is asked.
    Confirm,
    /// The worker of `payment.approved`.
    Approved,
    /// The worker of `payment.failed`.
    Failed,
    /// The worker of a customer's `reservation.cancelled`.
    Cancelled,
    /// The worker of a customer's `reservation.confirmed`.
    Confirmed,
    /// The worker of the timer.
    Expired,
    /// What reads the table's stream.
    Relay,
    /// What looks for that which was missed.
    Sweep,
}

impl Role {
    pub(crate) const ALL: [Self; 11] = [
        Self::Create,
        Self::Cancel,
        Self::Extend,
        Self::Confirm,
        Self::Approved,
        Self::Failed,
        Self::Cancelled,
        Self::Confirmed,
        Self::Expired,
        Self::Relay,
        Self::Sweep,
    ];

    /// The events that a worker settles.
    pub(crate) fn event_type(self) -> Option<EventType> {
        match self {
            Self::Approved => Some(EventType::PaymentApproved),
            Self::Failed => Some(EventType::PaymentFailed),
            Self::Cancelled => Some(EventType::ReservationCancelled),
            Self::Confirmed => Some(EventType::ReservationConfirmed),
            Self::Expired => Some(EventType::ReservationExpired),
            Self::Create | Self::Cancel | Self::Extend | Self::Confirm | Self::Relay | Self::Sweep => None,
        }
    }

    /// Who brings about what this one waits for. Without them he would be there and have nothing to do, and what happens is
    /// what happens without him.
    fn waits_for(self) -> &'static [Self] {
        match self {
            Self::Cancelled => &[Self::Cancel, Self::Relay],
            Self::Confirmed => &[Self::Confirm, Self::Relay],
            Self::Create
            | Self::Cancel
            | Self::Extend
            | Self::Confirm
            | Self::Approved
            | Self::Failed
            | Self::Expired
            | Self::Relay
            | Self::Sweep => &[],
        }
    }

    /// Every multiset of up to `most`, with the request that all begins with, in which everybody may have something to do.
    pub(crate) fn multisets(most: usize) -> Vec<Vec<Self>> {
        let mut all = vec![vec![Self::Create]];
        let mut longest = all.clone();
        for _ in 1..most {
            let longer = |short: &Vec<Self>| {
                let last = short.last().copied();
                let short = short.clone();
                let more = Self::ALL.into_iter().filter(move |role| last.is_none_or(|last| last <= *role));
                more.map(move |role| [short.as_slice(), &[role]].concat())
            };
            longest = longest.iter().flat_map(longer).collect();
            all.extend(longest.iter().cloned());
        }
        all.retain(|roles| roles.iter().all(|role| role.waits_for().iter().all(|other| roles.contains(other))));
        all
    }
}

/// The customer.
pub(crate) const CUSTOMER: &str = "usr_model";

/// What the customer asks for, each time alike.
pub(crate) fn wish() -> Wish {
    Wish {
        user_id: CUSTOMER.to_owned(),
        show_id: EVENT.to_owned(),
        seat_ids: vec![SEAT.to_owned()],
        quantity: 1,
        key: "the customer's key".to_owned(),
        trace_id: None,
    }
}
