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
    /// The worker of `payment.approved`.
    Approved,
    /// The worker of `payment.failed`.
    Failed,
    /// The worker of a customer's `reservation.cancelled`.
    Cancelled,
    /// The worker of the timer.
    Expired,
    /// What reads the table's stream.
    Relay,
    /// What looks for that which was missed.
    Sweep,
}

impl Role {
    pub(crate) const ALL: [Self; 9] = [
        Self::Create,
        Self::Cancel,
        Self::Extend,
        Self::Approved,
        Self::Failed,
        Self::Cancelled,
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
            Self::Expired => Some(EventType::ReservationExpired),
            Self::Create | Self::Cancel | Self::Extend | Self::Relay | Self::Sweep => None,
        }
    }

    /// Every multiset of up to `most`, with the request that all begins with.
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
