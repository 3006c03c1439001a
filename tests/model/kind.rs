//! The deliveries that race for the reservation.

use std::fmt;

use local_stack::{
    catalogue::{self, SETTLING, Settling},
    event,
};
use shared::{
    name::Named,
    settlement::{Outcome, event::EventType},
};

pub(crate) const RESERVATION: &str = "rsv_model";
pub(crate) const EVENT: &str = "evt_model";
pub(crate) const SEAT: &str = "A-1";

/// An event about the one reservation: one for each function, and a second approval, of another payment. Two deliveries of
/// one kind are duplicates; an approval is late whenever another event has won.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Kind(usize);

/// How many kinds there are.
pub(crate) const KINDS: usize = SETTLING.len() + 1;

impl Kind {
    /// A second payment for the same reservation went through.
    pub(crate) const APPROVED_AGAIN: Self = Self(SETTLING.len());

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..KINDS).map(Self)
    }

    /// The event of this type, of the first payment if it is one of a payment.
    pub(crate) fn of(event_type: EventType) -> Self {
        let index = SETTLING.iter().position(|function| function.event_type() == event_type);
        Self(index.expect("each event type has a function"))
    }

    /// Its place among all kinds.
    pub(crate) fn index(self) -> usize {
        self.0
    }

    /// The function of this event.
    pub(crate) fn function(self) -> Settling {
        SETTLING.get(self.0).copied().unwrap_or_else(|| catalogue::settler_of(EventType::PaymentApproved))
    }

    /// Whether a lost race leaves a payment to refund.
    pub(crate) fn refunds(self) -> bool {
        self.function().lost_race == Outcome::LateApproval
    }

    /// The payment that an event sells by.
    pub(crate) fn approved_payment(self) -> Option<&'static str> {
        self.payment().filter(|_| self.function().sells())
    }

    fn payment(self) -> Option<&'static str> {
        let own = if self == Self::APPROVED_AGAIN { "pi_second" } else { "pi_first" };
        self.function().event_type().is_of_a_payment().then_some(own)
    }

    pub(crate) fn body(self) -> String {
        let event_type = self.function().event_type();
        let mut detail = event::detail(event_type, RESERVATION, EVENT, &[SEAT.to_owned()]);
        if let Some(payment) = self.payment() {
            detail["payment_intent_id"] = payment.into();
        }
        event::envelope(event_type.name(), &detail).to_string()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = if *self == Self::APPROVED_AGAIN { " again" } else { "" };
        write!(f, "{}{again}", self.function().event_type().name())
    }
}

/// Every multiset of up to `most` deliveries.
pub(crate) fn multisets(most: usize) -> Vec<Vec<Kind>> {
    let mut all: Vec<Vec<Kind>> = Vec::new();
    let mut longest = vec![Vec::new()];
    for _ in 0..most {
        let longer = |short: &Vec<Kind>| {
            let last = short.last().copied();
            let short = short.clone();
            let kinds = Kind::all().filter(move |kind| last.is_none_or(|last| last <= *kind));
            kinds.map(move |kind| [short.as_slice(), &[kind]].concat())
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.iter().cloned());
    }
    all
}
