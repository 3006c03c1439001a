//! What the soak sends: reservations, each with the events that befall it.

use serde_json::{Value, json};

use crate::{inventory::Standing, reservations::Status, scenario::Given};

/// What the tickets of a soak are for.
const TICKETS_FOR: &str = "evt_soak";

/// A reservation and what befalls it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Story {
    pub(super) reservation_id: String,
    pub(super) seat_ids: Vec<String>,
    /// HOLD, or EXPIRED where the payment comes too late.
    pub(super) given: Status,
    pub(super) events: Vec<Event>,
    /// Whether another customer gets the seats once they are free, so that a late release or sale would hit somebody.
    pub(super) resold: bool,
}

/// An event of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The hold ran out.
    Expired,
    /// This payment went through.
    Approved(String),
    /// This payment did not go through.
    Failed(String),
    /// An approval that no repeat makes readable.
    Unreadable,
}

/// How many of a hundred stories have these events. Approvals are by one payment each.
const MIX: [(u32, &[Kind]); 9] = [
    (40, &[Kind::Approved]),
    (14, &[Kind::Expired]),
    (9, &[Kind::Failed]),
    (15, &[Kind::Approved, Kind::Expired]),
    (6, &[Kind::Approved, Kind::Failed]),
    (3, &[Kind::Approved, Kind::Failed, Kind::Expired]),
    (5, &[Kind::Approved, Kind::Approved]),
    (4, &[Kind::Late]),
    (4, &[Kind::Unreadable]),
];

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Approved,
    Failed,
    Expired,
    Late,
    Unreadable,
}

/// Stories with at least this many events in all.
pub(super) fn stories(events: usize, random: &mut fastrand::Rng) -> Vec<Story> {
    let mut stories = Vec::new();
    let mut left = events;
    while left > 0 {
        let story = Story::tell(stories.len(), random);
        left = left.saturating_sub(story.events.len());
        stories.push(story);
    }
    stories
}

impl Story {
    fn tell(number: usize, random: &mut fastrand::Rng) -> Self {
        let (ticket, mut passed) = (random.u32(..100), 0);
        let drawn = MIX.iter().find(|(share, _)| {
            passed += share;
            ticket < passed
        });
        let kinds = drawn.map_or(&[][..], |(_, kinds)| kinds);
        let reservation_id = format!("rsv_soak_{number}");
        let seat_ids = ["A", "B"].map(|seat| format!("{number}-{seat}")).to_vec();
        let late = kinds.iter().any(|kind| matches!(kind, Kind::Late));
        let payment = |nth: usize| format!("pi_soak_{number}_{nth}");
        let events = kinds.iter().enumerate().map(|(nth, kind)| match kind {
            Kind::Approved | Kind::Late => Event::Approved(payment(nth)),
            // The payment that fails is the one that was approved: producers contradict themselves.
            Kind::Failed => Event::Failed(payment(0)),
            Kind::Expired => Event::Expired,
            Kind::Unreadable => Event::Unreadable,
        });
        let events: Vec<Event> = events.collect();
        let given = if late { Status::Expired } else { Status::Hold };
        let resold = events.iter().any(|event| matches!(event, Event::Expired | Event::Failed(_)));
        Self { reservation_id, seat_ids, given, events, resold }
    }

    /// The story of the customer who gets the seats when they are free.
    pub(super) fn resale(&self) -> Self {
        let reservation_id = format!("{}_resold", self.reservation_id);
        let payment = reservation_id.replacen("rsv", "pi", 1);
        let seat_ids = self.seat_ids.clone();
        Self { reservation_id, seat_ids, given: Status::Hold, events: vec![Event::Approved(payment)], resold: false }
    }

    /// What exists before the events.
    pub(super) fn given(&self) -> Given {
        Given {
            reservation_id: self.reservation_id.clone(),
            event_id: TICKETS_FOR.to_owned(),
            user_id: "usr_1".to_owned(),
            status: self.given,
            seat_ids: self.seat_ids.clone(),
            quantity: 2,
            payment_intent_id: None,
            seats: if self.given == Status::Hold { Standing::Held } else { Standing::Free },
        }
    }

    /// An event of this story as a producer sends it.
    pub(super) fn body(&self, event: &Event) -> String {
        let mut detail = json!({
            "reservation_id": self.reservation_id, "event_id": TICKETS_FOR, "seat_ids": self.seat_ids, "qty": 2,
        });
        match event {
            Event::Expired => {}
            Event::Approved(payment) => pay(&mut detail, payment),
            Event::Failed(payment) => detail["payment_intent_id"] = json!(payment),
            Event::Unreadable => {
                pay(&mut detail, "pi_soak");
                detail["qty"] = json!(0);
            }
        }
        json!({"detail-type": event.detail_type(), "source": "soak", "detail": detail}).to_string()
    }
}

impl Event {
    /// The function that the event is for.
    pub(super) fn function(&self) -> &'static str {
        match self {
            Self::Expired => "reservation-expired",
            Self::Approved(_) | Self::Unreadable => "payment-approved",
            Self::Failed(_) => "payment-failed",
        }
    }

    /// The end that the event brings, if it comes first.
    pub(super) fn end(&self) -> Option<Status> {
        match self {
            Self::Expired => Some(Status::Expired),
            Self::Approved(_) => Some(Status::Confirmed),
            Self::Failed(_) => Some(Status::Cancelled),
            Self::Unreadable => None,
        }
    }

    fn detail_type(&self) -> &'static str {
        match self {
            Self::Expired => "reservation.expired",
            Self::Approved(_) | Self::Unreadable => "payment.approved",
            Self::Failed(_) => "payment.failed",
        }
    }
}

fn pay(detail: &mut Value, payment: &str) {
    detail["payment_intent_id"] = json!(payment);
    detail["amount"] = json!(7_600);
    detail["currency"] = json!("EUR");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_tells_the_same_stories_and_every_kind_has_its_share() {
        let of = |seed| stories(2_000, &mut fastrand::Rng::with_seed(seed));
        let told = of(7);
        assert_eq!(told, of(7));
        assert_ne!(told, of(8));
        let events = told.iter().map(|story| story.events.len()).sum::<usize>();
        assert!((2_000..2_003).contains(&events), "{events}");
        assert_eq!(MIX.iter().map(|(share, _)| share).sum::<u32>(), 100);
        for (share, kinds) in MIX {
            let is_of = |story: &&Story| {
                let late = story.given == Status::Expired;
                let told = story.events.iter().map(|event| match event {
                    Event::Approved(_) if late => Kind::Late,
                    Event::Approved(_) => Kind::Approved,
                    Event::Failed(_) => Kind::Failed,
                    Event::Expired => Kind::Expired,
                    Event::Unreadable => Kind::Unreadable,
                });
                told.eq(kinds.iter().copied())
            };
            let percent = told.iter().filter(is_of).count() * 100 / told.len();
            let bounds = share as usize / 2..=share as usize * 2;
            assert!(bounds.contains(&percent), "{percent} % have {kinds:?}, {share} should");
        }
    }
}
