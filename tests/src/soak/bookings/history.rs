//! What the soak of the bookings sends: stays of few guests in few rooms, many of which overlap, and what is given up of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use time::{Date, Duration, Month};

/// Guests and rooms.
pub(super) const GUESTS: i32 = 6;
const ROOMS: usize = 20;

/// So many days, of which about half as many nights are asked for again.
const DAYS_FOR_EVENTS: usize = 18;

/// Of a hundred bookings so many are paid, given up by their guests, and given up by somebody else.
const PAID: u32 = 90;
const GIVEN_UP: u32 = 33;
const BY_A_STRANGER: u32 = 3;

/// Of a hundred events so many come twice, and so many before or after their turn.
const TWICE: u32 = 20;
const OUT_OF_TURN: u32 = 10;

/// Of a hundred messages so many come by a topic.
const BY_TOPIC: u32 = 40;

/// What is given up is given up within so many events.
const GIVEN_UP_WITHIN: usize = 300;

/// What is out of its turn, and a copy, is as far away as so many events.
const FAR: usize = 200;

/// All that is sent.
pub(super) struct History {
    pub(super) bookings: Vec<Booking>,
    pub(super) orders: Vec<Order>,
    pub(super) displaced: usize,
    /// What no guest has sent.
    pub(super) of_strangers: BTreeSet<String>,
}

/// A stay.
#[derive(Debug)]
pub(super) struct Booking {
    pub(super) id: String,
    pub(super) user: i32,
    pub(super) room: String,
    pub(super) start: Date,
    pub(super) end: Date,
    pub(super) guests: i32,
    pub(super) payment: Option<String>,
    /// Whether its guest gives it up.
    pub(super) is_given_up: bool,
}

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// Of which function: 0 for what is booked, 1 for what is given up.
    pub(super) desk: usize,
    pub(super) way: Way,
    pub(super) booking_id: String,
    pub(super) body: String,
}

/// How a message comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Queue,
    Topic,
}

/// An event, and when it comes.
struct Event {
    at: usize,
    order: Order,
    is_of_a_stranger: bool,
}

/// The guests and the rooms, as statements.
pub(super) fn furniture() -> String {
    let guests = (1..=GUESTS).map(|number| format!("({number}, 'guest{number}@example.com', 'guest{number}')"));
    let rooms = (0..ROOMS).map(|number| format!("('{}', 'Room {number}')", room(number)));
    format!(
        "INSERT INTO users (id, email, username) VALUES {}; INSERT INTO rooms (internal_id, name) VALUES {};",
        guests.collect::<Vec<_>>().join(", "),
        rooms.collect::<Vec<_>>().join(", "),
    )
}

fn room(number: usize) -> String {
    format!("room-{number}")
}

/// A history of so many events.
pub(super) fn of(events: usize, random: &mut fastrand::Rng) -> History {
    let days = i64::try_from(events / DAYS_FOR_EVENTS + 4).unwrap_or(i64::MAX);
    let (mut bookings, mut all): (Vec<Booking>, Vec<Event>) = (Vec::new(), Vec::new());
    while all.len() < events {
        let at = FAR + all.len();
        let booking = Booking::random(bookings.len(), days, random);
        let by = |user: i32, is_of_a_stranger: bool, all: &mut Vec<Event>, random: &mut fastrand::Rng| {
            if all.len() < events {
                let body = booking.given_up_by(user, random).to_string();
                let order = Order { desk: 1, way: Way::random(random), booking_id: booking.id.clone(), body };
                all.push(Event { at: at + random.usize(1..GIVEN_UP_WITHIN), order, is_of_a_stranger });
                return true;
            }
            false
        };
        let (body, way) = (booking.body(random).to_string(), Way::random(random));
        let created = Order { desk: 0, way, booking_id: booking.id.clone(), body };
        all.push(Event { at, order: created, is_of_a_stranger: false });
        if random.u32(0..100) < BY_A_STRANGER {
            by(booking.user % GUESTS + 1, true, &mut all, random);
        }
        let is_given_up = random.u32(0..100) < GIVEN_UP && by(booking.user, false, &mut all, random);
        bookings.push(Booking { is_given_up, ..booking });
    }

    let mut displaced = 0;
    let mut copies = Vec::new();
    for Event { at, order, is_of_a_stranger } in &mut all {
        if random.u32(0..100) < OUT_OF_TURN {
            *at = *at - FAR + random.usize(0..2 * FAR);
            displaced += 1;
        }
        if random.u32(0..100) < TWICE {
            let at = *at + random.usize(0..FAR);
            let order = Order { way: Way::random(random), ..order.clone() };
            copies.push(Event { at, order, is_of_a_stranger: *is_of_a_stranger });
        }
    }
    all.extend(copies);
    all.sort_by_key(|event| event.at);
    let of_strangers =
        all.iter().filter(|event| event.is_of_a_stranger).map(|event| event.order.body.clone()).collect();
    History { bookings, orders: all.into_iter().map(|event| event.order).collect(), displaced, of_strangers }
}

impl Way {
    fn random(random: &mut fastrand::Rng) -> Self {
        if random.u32(0..100) < BY_TOPIC { Self::Topic } else { Self::Queue }
    }
}

impl Booking {
    fn random(number: usize, days: i64, random: &mut fastrand::Rng) -> Self {
        let first = Date::from_calendar_date(2026, Month::January, 1).unwrap_or(Date::MIN);
        let start = first + Duration::days(random.i64(0..days));
        let id = format!("b-{number:05}");
        Self {
            user: random.i32(1..=GUESTS),
            room: room(random.usize(0..ROOMS)),
            start,
            end: start + Duration::days(random.i64(1..=4)),
            guests: random.i32(1..=4),
            payment: (random.u32(0..100) < PAID).then(|| format!("pi_{id}")),
            is_given_up: false,
            id,
        }
    }

    fn body(&self, random: &mut fastrand::Rng) -> Value {
        json!({
            "bookingId": self.id, "userId": named(self.user, random), "roomId": self.room, "guests": self.guests,
            "startDate": self.start.to_string(), "endDate": self.end.to_string(), "paymentId": self.payment,
        })
    }

    fn given_up_by(&self, user: i32, random: &mut fastrand::Rng) -> Value {
        json!({"bookingId": self.id, "userId": named(user, random), "timestamp": "2026-01-01T00:00:00Z"})
    }
}

/// A guest's e-mail address, user name or number.
fn named(user: i32, random: &mut fastrand::Rng) -> Value {
    match random.u8(0..3) {
        0 => json!(format!("guest{user}@example.com")),
        1 => json!(format!("guest{user}")),
        _ => json!(user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_as_many_events_copies_and_displaced_ones_as_it_says() {
        let history = of(5_000, &mut fastrand::Rng::with_seed(1));
        let copies = history.orders.len() - 5_000;
        assert!((800..1_200).contains(&copies) && (400..600).contains(&history.displaced), "{copies}");
        let by_topic = history.orders.iter().filter(|order| order.way == Way::Topic).count();
        assert!((2_200..2_600).contains(&by_topic), "{by_topic} of {}", history.orders.len());
        let given_up = history.bookings.iter().filter(|booking| booking.is_given_up).count();
        assert!(given_up * 4 > history.bookings.len(), "{given_up} of {}", history.bookings.len());
        let again = of(5_000, &mut fastrand::Rng::with_seed(1));
        assert!(history.orders.iter().zip(&again.orders).all(|(one, other)| one.body == other.body), "the same seed");
    }
}
