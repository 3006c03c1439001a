//! The deliveries that race for the reservation.

use local_stack::catalogue::{self, Function};
use serde_json::json;
use shared::settlement::event::EventType;

pub(crate) const RESERVATION: &str = "rsv_model";
pub(crate) const EVENT: &str = "evt_model";
pub(crate) const SEAT: &str = "A-1";

/// An event about the one reservation. Two deliveries of one kind are duplicates; an approval is late whenever another
/// event has won.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) enum Kind {
    /// The first payment went through.
    Approved,
    /// A second payment for the same reservation went through.
    ApprovedAgain,
    /// The first payment did not go through.
    Failed,
    /// The hold ran out.
    Expired,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Approved, Self::ApprovedAgain, Self::Failed, Self::Expired];

    /// What the function of this event does, as the function itself says.
    pub(crate) fn function(self) -> Function {
        catalogue::settler_of(match self {
            Self::Approved | Self::ApprovedAgain => EventType::PaymentApproved,
            Self::Failed => EventType::PaymentFailed,
            Self::Expired => EventType::ReservationExpired,
        })
    }

    /// The payment that an approval is for.
    pub(crate) fn approved_payment(self) -> Option<&'static str> {
        match self {
            Self::Approved => Some("pi_first"),
            Self::ApprovedAgain => Some("pi_second"),
            Self::Failed | Self::Expired => None,
        }
    }

    pub(crate) fn body(self) -> String {
        let mut detail = json!({"reservation_id": RESERVATION, "event_id": EVENT, "seat_ids": [SEAT], "qty": 1});
        match self {
            Self::Approved | Self::ApprovedAgain => {
                detail["payment_intent_id"] = self.approved_payment().into();
                detail["amount"] = 7600.into();
            }
            Self::Failed => detail["payment_intent_id"] = "pi_first".into(),
            Self::Expired => {}
        }
        json!({"detail-type": self.function().workflow.name(), "detail": detail}).to_string()
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
            let kinds = Kind::ALL.into_iter().filter(move |kind| last.is_none_or(|last| last <= *kind));
            kinds.map(move |kind| [short.as_slice(), &[kind]].concat())
        };
        longest = longest.iter().flat_map(longer).collect();
        all.extend(longest.iter().cloned());
    }
    all
}
