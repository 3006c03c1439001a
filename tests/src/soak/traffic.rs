//! What the soak sends: reservations, each with the events that befall it.

use serde_json::json;
use shared::{
    name::Named,
    settlement::{Outcome, event::EventType},
};

use crate::{
    catalogue::{self, SETTLING, Settling},
    event,
    inventory::SeatState,
    reservations::Status,
    scenario::Given,
};

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
pub(super) struct Event {
    pub(super) event_type: EventType,
    /// The payment, where it is an event of one.
    pub(super) payment: Option<String>,
    /// Whether no repeat makes it readable.
    pub(super) unreadable: bool,
}

/// What befalls a reservation: an event of the functions' own, or one of two that are odd.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Of(EventType),
    /// An approval when the reservation has expired.
    Late,
    /// An approval that no repeat makes readable.
    Unreadable,
}

/// How many of a hundred stories have these events. Approvals are by one payment each. What releases seats befalls a
/// reservation alone, after an approval, and all of it at once; the functions share the stories of each of these. What sells
/// and refunds nothing comes beside the approval of the same payment, as a customer's own confirm does.
fn mix() -> Vec<(u32, Vec<Kind>)> {
    const APPROVED: Kind = Kind::Of(EventType::PaymentApproved);
    const ALONE: u32 = 23;
    const AFTER_APPROVAL: u32 = 21;

    const CONFIRMED_BESIDE: u32 = 6;

    let kinds = |wanted: fn(&Settling) -> bool| -> Vec<Kind> {
        SETTLING.into_iter().filter(wanted).map(|function| Kind::Of(function.event_type())).collect()
    };
    let releasing = kinds(|function| !function.sells());
    let confirming = kinds(|function| function.sells() && function.lost_race != Outcome::LateApproval);
    let mut mix = vec![
        (34, vec![APPROVED]),
        (3, [&[APPROVED], releasing.as_slice(), &confirming].concat()),
        (5, vec![APPROVED, APPROVED]),
        (4, vec![Kind::Late]),
        (4, vec![Kind::Unreadable]),
    ];
    for (share, kind) in shares(CONFIRMED_BESIDE, confirming.len()).zip(&confirming) {
        mix.push((share, vec![APPROVED, *kind]));
    }
    for (share, kind) in shares(ALONE, releasing.len()).zip(&releasing) {
        mix.push((share, vec![*kind]));
    }
    for (share, kind) in shares(AFTER_APPROVAL, releasing.len()).zip(&releasing) {
        mix.push((share, vec![APPROVED, *kind]));
    }
    mix
}

/// A number in as many parts, of which none differs from another by more than one.
fn shares(whole: u32, parts: usize) -> impl Iterator<Item = u32> {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX).max(1);
    (0..parts).map(move |part| whole / parts + u32::from(part < whole % parts))
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
        let drawn = mix().into_iter().find(|(share, _)| {
            passed += share;
            ticket < passed
        });
        let kinds = drawn.map_or(Vec::new(), |(_, kinds)| kinds);
        let reservation_id = format!("rsv_soak_{number}");
        let seat_ids = ["A", "B"].map(|seat| format!("{number}-{seat}")).to_vec();
        let late = kinds.iter().any(|kind| matches!(kind, Kind::Late));
        let payment = |nth: usize| format!("pi_soak_{number}_{nth}");
        let events = kinds.iter().enumerate().map(|(nth, kind)| {
            let event_type = match kind {
                Kind::Of(event_type) => *event_type,
                Kind::Late | Kind::Unreadable => EventType::PaymentApproved,
            };
            // The payment that fails, and that of a customer's confirm, is the one that was approved.
            let nth = if event_type == EventType::PaymentApproved { nth } else { 0 };
            let payment = event_type.is_of_a_payment().then(|| payment(nth));
            Event { event_type, payment, unreadable: *kind == Kind::Unreadable }
        });
        let events: Vec<Event> = events.collect();
        let given = if late { Status::Expired } else { Status::Hold };
        let resold = events.iter().any(|event| !event.function().sells());
        Self { reservation_id, seat_ids, given, events, resold }
    }

    /// The story of the customer who gets the seats when they are free.
    pub(super) fn resale(&self) -> Self {
        let reservation_id = format!("{}_resold", self.reservation_id);
        let payment = reservation_id.replacen("rsv", "pi", 1);
        let seat_ids = self.seat_ids.clone();
        Self { reservation_id, seat_ids, given: Status::Hold, events: vec![Event::approved(payment)], resold: false }
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
            seats: if self.given == Status::Hold { SeatState::Held } else { SeatState::Free },
        }
    }

    /// An event of this story as a producer sends it.
    pub(super) fn body(&self, event: &Event) -> String {
        let mut detail = event::detail(event.event_type, &self.reservation_id, TICKETS_FOR, &self.seat_ids);
        if let Some(payment) = &event.payment {
            detail["payment_intent_id"] = json!(payment);
        }
        if event.unreadable {
            detail["qty"] = json!(0);
        }
        event::envelope(event.event_type.name(), &detail).to_string()
    }
}

impl Event {
    pub(super) fn approved(payment: String) -> Self {
        Self { event_type: EventType::PaymentApproved, payment: Some(payment), unreadable: false }
    }

    #[cfg(test)]
    pub(super) fn expired() -> Self {
        Self { event_type: EventType::ReservationExpired, payment: None, unreadable: false }
    }

    /// The function that the event is for.
    pub(super) fn function(&self) -> Settling {
        catalogue::settler_of(self.event_type)
    }

    /// The end that the event brings, if it comes first.
    pub(super) fn end(&self) -> Option<Status> {
        (!self.unreadable).then(|| self.function().wanted())
    }

    /// The payment that went through, if one did.
    pub(super) fn approved_payment(&self) -> Option<&str> {
        self.payment.as_deref().filter(|_| !self.unreadable && self.function().sells())
    }
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
        assert_eq!(mix().iter().map(|(share, _)| share).sum::<u32>(), 100);
        for (share, kinds) in mix() {
            let is_of = |story: &&Story| {
                let late = story.given == Status::Expired;
                let told = story.events.iter().map(|event| match event {
                    event if event.unreadable => Kind::Unreadable,
                    event if late && event.function().sells() => Kind::Late,
                    event => Kind::Of(event.event_type),
                });
                told.eq(kinds.iter().copied())
            };
            let percent = told.iter().filter(is_of).count() * 100 / told.len();
            let bounds = share as usize / 2..=share as usize * 2;
            assert!(bounds.contains(&percent), "{percent} % have {kinds:?}, {share} should");
        }
        let sent: Vec<EventType> = told.iter().flat_map(|story| &story.events).map(|event| event.event_type).collect();
        assert!(EventType::ALL.iter().all(|event_type| sent.contains(event_type)), "every function has its events");
    }
}
