//! What became of the stories, by the services' own books and apart from what the functions say of themselves.

use std::collections::{BTreeMap, BTreeSet};

use super::traffic::{Event, Story};
use crate::{
    aws::BusEntry,
    inventory::{Call, SeatState},
    reservations::{Reservation, Status},
    stack::Stack,
};

/// What must be empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Faults {
    /// Events without their effect: a reservation or its seats without an end, a payment neither taken nor refunded, a
    /// message that is nowhere.
    pub lost: Vec<String>,
    /// Effects that happened twice, or that contradict each other.
    pub doubled: Vec<String>,
    /// What the inventory's audit says of seats that two customers have.
    pub oversold: Vec<String>,
}

/// The books of the services.
pub(super) struct Books {
    reservations: BTreeMap<String, (Reservation, Vec<Status>)>,
    seat_states: BTreeMap<String, SeatState>,
    effects: BTreeMap<String, usize>,
    /// The keys of refund requests, by reservation and payment.
    refunds: BTreeMap<(String, String), BTreeSet<String>>,
    oversold: Vec<String>,
}

impl Books {
    pub(super) fn of(stack: &Stack, stories: &[Story]) -> Self {
        let ids = || stories.iter().map(|story| story.reservation_id.clone());
        let reservation = |id: String| {
            let (found, ends) = (stack.reservations.get(&id)?, stack.reservations.transitions(&id));
            Some((id, (found, ends)))
        };
        Self {
            reservations: ids().filter_map(reservation).collect(),
            seat_states: ids().map(|id| (id.clone(), stack.inventory.seat_state(&id))).collect(),
            effects: effects(&stack.inventory.calls()),
            refunds: refunds(&stack.aws.bus_entries()),
            oversold: stack.inventory.oversold(),
        }
    }
}

fn effects(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut effects = BTreeMap::new();
    for call in calls.iter().filter(|call| call.had_effect) {
        *effects.entry(call.reservation_id.clone()).or_default() += 1;
    }
    effects
}

fn refunds(entries: &[BusEntry]) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut refunds: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.detail_type == "payment.refund_requested") {
        let text = |name: &str| entry.detail[name].as_str().unwrap_or_default().to_owned();
        refunds.entry((text("reservation_id"), text("payment_intent_id"))).or_default().insert(text("idempotency_key"));
    }
    refunds
}

/// Holds the books against the stories.
pub(super) fn judge(stories: &[Story], books: &Books) -> Faults {
    let mut faults = Faults { oversold: books.oversold.clone(), ..Faults::default() };
    for story in stories {
        faults.of_story(story, books);
    }
    faults
}

impl Faults {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.lost.is_empty() && self.doubled.is_empty() && self.oversold.is_empty()
    }

    /// Holds the dead letters, by the ids that their messages had first, against the messages that belong there.
    pub(super) fn of_letters(&mut self, unreadable: &BTreeSet<String>, letters: &BTreeMap<String, String>) {
        for id in unreadable.iter().filter(|id| !letters.contains_key(*id)) {
            self.lost.push(format!("the message {id} can't be read and is in no dead-letter queue"));
        }
        for (id, code) in letters.iter().filter(|(id, code)| !unreadable.contains(*id) || *code != "invalid_field") {
            self.lost.push(format!("the message {id} is in a dead-letter queue with the reason {code:?}"));
        }
    }

    fn of_story(&mut self, story: &Story, books: &Books) {
        let id = &story.reservation_id;
        let Some((reservation, ends)) = books.reservations.get(id) else {
            self.lost.push(format!("{id} is gone"));
            return;
        };
        let (status, confirmed_by) = (reservation.status, reservation.payment_intent_id.as_deref());
        let seats = books.seat_states.get(id).copied().unwrap_or(SeatState::Unknown);
        let effects = books.effects.get(id).copied().unwrap_or_default();
        let untouched = story.events.iter().all(|event| event.unreadable);

        let brought =
            story.events.iter().filter_map(Event::end).any(|end| end == status) && story.given == Status::Hold;
        if !brought && status != story.given || (status == Status::Hold && !untouched) {
            self.lost.push(format!("{id} is {status} after {:?}", story.events));
        }
        if ends.iter().filter(|end| story.given == Status::Hold || **end != story.given).count() > 1 {
            self.doubled.push(format!("{id} came to more than one end: {ends:?}"));
        }
        let due = match status {
            Status::Confirmed => SeatState::Sold,
            Status::Expired | Status::Cancelled => SeatState::Free,
            Status::Hold | Status::Pending | Status::Failed | Status::Refunded => SeatState::Held,
        };
        if seats != due {
            self.lost.push(format!("{id} is {status} and its seats are {seats}"));
        }
        let due = usize::from(story.given == Status::Hold && status != Status::Hold);
        if effects > due {
            self.doubled.push(format!("{id}: its seats were moved {effects} times"));
        }
        for event in &story.events {
            let Some(payment) = event.approved_payment() else { continue };
            let refunds = books.refunds.get(&(id.clone(), payment.to_owned())).map_or(0, BTreeSet::len);
            match (confirmed_by == Some(payment), refunds) {
                (true, 0) | (false, 1) => {}
                (true, _) => self.doubled.push(format!("{id}: {payment} bought the seats and is refunded")),
                (false, 0) => self.lost.push(format!("{id}: {payment} bought nothing and is not refunded")),
                (false, _) => self.doubled.push(format!("{id}: {payment} is refunded under {refunds} keys")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn story(given: Status, events: &[Event]) -> Story {
        let (reservation_id, seat_ids) = ("rsv_1".to_owned(), vec!["A".to_owned()]);
        Story { reservation_id, seat_ids, given, events: events.to_vec(), resold: false }
    }

    fn books(status: Status, paid: Option<&str>, ends: &[Status], seats: SeatState, effects: usize) -> Books {
        let reservation = Reservation {
            reservation_id: "rsv_1".to_owned(),
            event_id: "evt_1".to_owned(),
            user_id: String::new(),
            status,
            seat_ids: Vec::new(),
            quantity: 1,
            payment_intent_id: paid.map(str::to_owned),
        };
        Books {
            reservations: BTreeMap::from([("rsv_1".to_owned(), (reservation, ends.to_vec()))]),
            seat_states: BTreeMap::from([("rsv_1".to_owned(), seats)]),
            effects: BTreeMap::from([("rsv_1".to_owned(), effects)]),
            refunds: BTreeMap::new(),
            oversold: Vec::new(),
        }
    }

    fn refunded(mut books: Books, keys: &[&str]) -> Books {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        books.refunds.insert(("rsv_1".to_owned(), "pi_1".to_owned()), keys);
        books
    }

    #[track_caller]
    fn check(story: &Story, books: &Books, lost: usize, doubled: usize) {
        let faults = judge(std::slice::from_ref(story), books);
        assert_eq!((faults.lost.len(), faults.doubled.len()), (lost, doubled), "{faults:#?}");
    }

    #[test]
    fn a_good_end_has_no_fault() {
        let approved = story(Status::Hold, &[Event::approved("pi_1".to_owned()), Event::expired()]);
        let sold = books(Status::Confirmed, Some("pi_1"), &[Status::Confirmed], SeatState::Sold, 1);
        check(&approved, &sold, 0, 0);
        let free = || books(Status::Expired, None, &[Status::Expired], SeatState::Free, 1);
        check(&approved, &refunded(free(), &["k"]), 0, 0);
        let late = story(Status::Expired, &[Event::approved("pi_1".to_owned())]);
        let books = books(Status::Expired, None, &[Status::Expired], SeatState::Free, 0);
        check(&late, &refunded(books, &["k"]), 0, 0);
        let unreadable = story(Status::Hold, &[Event { unreadable: true, ..Event::approved("pi_1".to_owned()) }]);
        check(&unreadable, &self::books(Status::Hold, None, &[], SeatState::Held, 0), 0, 0);
    }

    #[test]
    fn what_did_not_happen_is_lost() {
        let approved = story(Status::Hold, &[Event::approved("pi_1".to_owned())]);
        // It neither bought anything nor is it refunded, and the reservation has no end.
        check(&approved, &books(Status::Hold, None, &[], SeatState::Held, 0), 2, 0);
        check(&approved, &books(Status::Confirmed, Some("pi_1"), &[Status::Confirmed], SeatState::Held, 0), 1, 0);
        check(
            &approved,
            &refunded(books(Status::Cancelled, None, &[Status::Cancelled], SeatState::Free, 1), &["k"]),
            1,
            0,
        );
        let expired = story(Status::Hold, &[Event::approved("pi_1".to_owned()), Event::expired()]);
        check(&expired, &books(Status::Expired, None, &[Status::Expired], SeatState::Free, 1), 1, 0);
    }

    #[test]
    fn what_happened_twice_is_doubled() {
        let approved = story(Status::Hold, &[Event::approved("pi_1".to_owned())]);
        let sold = |ends: &[Status], effects| books(Status::Confirmed, Some("pi_1"), ends, SeatState::Sold, effects);
        check(&approved, &sold(&[Status::Expired, Status::Confirmed], 1), 0, 1);
        check(&approved, &sold(&[Status::Confirmed], 2), 0, 1);
        check(&approved, &refunded(sold(&[Status::Confirmed], 1), &["k"]), 0, 1);
        let late = story(Status::Expired, &[Event::approved("pi_1".to_owned())]);
        let books = || books(Status::Expired, None, &[Status::Expired], SeatState::Free, 0);
        check(&late, &refunded(books(), &["k", "l"]), 0, 1);
    }
}
