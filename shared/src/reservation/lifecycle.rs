//! The life of a reservation: what a request or an event makes of it, as pure functions of the reservation, the wish and the
//! time. Nothing here waits. The table writes what is decided here, on the condition that the reservation is still what was
//! decided on, so that of two who change it at once exactly one does.
//!
//! ```text
//!           ReserveSeat            paid                 all times are milliseconds since the epoch
//!  PENDING -------------> HOLD -------------> CONFIRMED
//!     |  \                 |  \
//!     |   \ refused        |   \ given up, or not paid
//!     |    -----> FAILED   |    ----------> CANCELLED
//!     |                    |
//!      --------------------- its deadline --> EXPIRED
//! ```

use std::{ops::RangeInclusive, time::Duration};

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Hold, Money, Status};
use crate::{
    admission::Admission,
    field::LONGEST_PAGE,
    name::{Named, names},
};

/// How long one invocation may work on a reservation that is PENDING, which is at least the time-out of its function: when
/// the lease is over, nobody is at it any more.
pub const LEASE: Duration = Duration::from_secs(10);

/// No seats are asked for in this time before a reservation's deadline: the answer could come after the release.
const TOO_SHORT: Duration = Duration::from_secs(15);

/// No sale begins in this time before the inventory frees seats by itself.
const SALE: Duration = Duration::from_secs(60);

/// How long after its deadline a reservation that nobody has ended counts as one without its timer: the first tries of a sound
/// timer take less.
pub const OVERDUE: Duration = Duration::from_secs(120);

/// How long a reservation is kept after its end.
const KEPT: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How long holds last, and how many one customer may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// From the creation to the deadline.
    pub hold: Duration,
    /// The longest that a hold may last, extensions included.
    pub longest_hold: Duration,
    /// What the inventory waits beyond the longest hold before it frees seats by itself.
    pub grace: Duration,
    /// How many reservations a customer may have open, where that is limited.
    pub most_open: Option<u8>,
}

impl Terms {
    /// A minute, a quarter of an hour, three hours; and as many as a customer likes.
    pub const DEFAULT: Self = Self {
        hold: Duration::from_secs(60),
        longest_hold: Duration::from_secs(900),
        grace: Duration::from_secs(10_800),
        most_open: None,
    };

    /// A creation takes up to [`LEASE`], and then a customer has to pay.
    pub const SHORTEST_HOLD: Duration = Duration::from_secs(30);

    /// The graces that there can be. A timer that was lost is made up for within an hour and two minutes, and what it sends
    /// lives for half an hour of faults: before that the inventory must not free seats by itself. After the two weeks for which
    /// a dead letter is kept, no event comes that needs them.
    pub const GRACES: RangeInclusive<Duration> = Duration::from_secs(7_200)..=Duration::from_secs(1_209_600);

    /// The limits of open reservations that there can be.
    pub const LIMITS: RangeInclusive<u8> = 1..=LONGEST_PAGE;
}

names! {
    /// What is published of a reservation.
    pub enum EventKind {
        /// It has a deadline, at which it has to be looked at. This goes to the queue of expiries, the rest to the bus.
        Timer = "timer",
        /// Its seats are held.
        Created = "reservation.created",
        /// It is paid.
        Confirmed = "reservation.confirmed",
        /// It was given up, or not paid.
        Cancelled = "reservation.cancelled",
        /// Its time ran out.
        Expired = "reservation.expired",
        /// It got no seats.
        Failed = "reservation.failed",
    }
}

names! {
    /// Who changed a reservation.
    pub enum By {
        /// Its customer.
        Client = "client",
        /// What became of its payment.
        Payment = "payment",
        /// The end of its time.
        Worker = "worker",
    }
}

names! {
    /// Why a reservation got no seats.
    pub enum Shortage {
        /// They are another's, or fewer are left than were asked for.
        SeatUnavailable = "SEAT_UNAVAILABLE",
    }
}

/// What has happened and is to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What has happened.
    #[serde(rename = "type", with = "by_name")]
    pub kind: EventKind,
    /// The reservation's version by it, which tells two of one kind apart.
    pub n: u64,
    /// When.
    pub at: u64,
    /// By whom.
    #[serde(with = "by_name")]
    pub by: By,
}

/// What a customer asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The customer.
    pub user_id: String,
    /// The show that the tickets are for.
    pub show_id: String,
    /// The seats, each once; none where any will do.
    pub seat_ids: Vec<String>,
    /// The number of tickets.
    pub quantity: u32,
    /// What tells a repeat from another wish.
    pub key: String,
    /// The trace that the request belongs to.
    pub trace_id: Option<String>,
}

impl Wish {
    /// The reservation's id, where no admission names it. A repeat of the wish has the same, so that it finds what the first
    /// try left.
    pub fn reservation_id(&self) -> String {
        const LENGTH: usize = 26;

        let digest = digest(&["create", &self.user_id, &self.key]);
        let mut id = BASE32_NOPAD.encode(&digest).to_ascii_lowercase();
        id.truncate(LENGTH);
        format!("rsv_{id}")
    }

    /// What must be the same in every wish under one key: values and not bytes, so that the order of seats is free.
    fn fingerprint(&self) -> String {
        let mut seats: Vec<&str> = self.seat_ids.iter().map(String::as_str).collect();
        seats.sort_unstable();
        let quantity = self.quantity.to_string();
        let values = [&[self.show_id.as_str(), quantity.as_str()], &seats[..]].concat();
        HEXLOWER.encode(&digest(&values))
    }
}

/// A reservation, as its table keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Its name.
    pub id: String,
    /// The customer; nobody, where it was ended before it was created. The index by customer takes no empty text.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user_id: String,
    /// The show that the tickets are for: `event_id` on the wire.
    #[serde(rename = "event_id", default, skip_serializing_if = "String::is_empty")]
    pub show_id: String,
    /// The seats.
    #[serde(default)]
    pub seat_ids: Vec<String>,
    /// The number of tickets.
    #[serde(default)]
    pub quantity: u32,
    /// Where it is on its way.
    #[serde(with = "status_by_name")]
    pub status: Status,
    /// One more with each change of status or deadline.
    pub version: u64,
    /// When it was asked for.
    pub created_at: u64,
    /// When it last changed.
    pub updated_at: u64,
    /// When its hold ends.
    pub hold_expires_at: u64,
    /// Of the wish that it came from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub fingerprint: String,
    /// While it is PENDING: the invocation that is at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// While it is PENDING: when that invocation's right ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<u64>,
    /// When its seats were held: its creation succeeded then, whatever became of it later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<u64>,
    /// The deadline that it had when its seats were held, which a repeat of its creation is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_hold_expires_at: Option<u64>,
    /// The key of the one extension.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_by: Option<String>,
    /// What its seats cost, where the inventory said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Money>,
    /// Why it got no seats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// The payment that confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_intent_id: Option<String>,
    /// What was paid, in the smallest unit of the currency, as far as somebody said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// The currency of the amount.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// The order that the payment made of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<String>,
    /// When it was confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confirmed_at: Option<u64>,
    /// The trace that its creation belonged to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The customer's item in the waiting room, where an admission was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_item_id: Option<String>,
    /// When it may be deleted, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiration: Option<u64>,
    /// What is not published yet.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// A change that was decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The reservation as it was.
    pub from: Reservation,
    /// As it is to be, with the events of this change and no others.
    pub to: Reservation,
}

/// What becomes of a wish to change a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// This is to be written.
    Write(Box<Change>),
    /// It is so already.
    Already,
    /// It can't be, as the reservation is now.
    Refused {
        /// When it may be otherwise, if waiting helps.
        after: Option<Duration>,
    },
}

/// What a repeat of a creation finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The creation has succeeded; what it said is said again.
    Held,
    /// It got no seats; what it said is said again.
    Failed,
    /// Its time is over, or about to be, and no seats were held.
    Over,
    /// Another invocation is at it, for so long at most.
    InProgress(Duration),
    /// The invocation that was at it is gone; this is to be written to go on in its place.
    Abandoned(Box<Change>),
    /// It came from another wish.
    Other,
}

/// What is known of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payment {
    /// Its name at the payment service.
    pub intent_id: String,
    /// What was paid, in the smallest unit of the currency.
    pub amount: Option<i64>,
    /// The currency.
    pub currency: Option<String>,
}

impl Reservation {
    /// A new reservation, for `owner` to find seats for. An admission names it, so that no two are made by one; without one the
    /// wish does.
    pub fn pending(wish: &Wish, admission: Option<&Admission>, owner: &str, now: u64, terms: &Terms) -> Self {
        let id = admission.map_or_else(|| wish.reservation_id(), Admission::reservation_id);
        let mut reservation = Self {
            user_id: wish.user_id.clone(),
            show_id: wish.show_id.clone(),
            seat_ids: wish.seat_ids.clone(),
            quantity: wish.quantity,
            fingerprint: wish.fingerprint(),
            owner: Some(owner.to_owned()),
            lease_until: Some(now + ms(LEASE)),
            trace_id: wish.trace_id.clone(),
            queue_item_id: admission.map(|admission| admission.queue_item_id.clone()),
            ..Self::bare(id, Status::Pending, now, now + ms(terms.hold))
        };
        reservation.tell(EventKind::Timer, By::Client, now);
        reservation
    }

    /// What ends a reservation before it is created, so that no late creation of this id finds seats.
    pub fn tombstone(id: &str, now: u64) -> Self {
        let ended = Self::bare(id.to_owned(), Status::Expired, now, now);
        Self { expiration: Some(end_of_keeping(now)), ..ended }
    }

    fn bare(id: String, status: Status, now: u64, hold_expires_at: u64) -> Self {
        Self {
            id,
            user_id: String::new(),
            show_id: String::new(),
            seat_ids: Vec::new(),
            quantity: 0,
            status,
            version: 1,
            created_at: now,
            updated_at: now,
            hold_expires_at,
            fingerprint: String::new(),
            owner: None,
            lease_until: None,
            held_at: None,
            first_hold_expires_at: None,
            extended_by: None,
            price: None,
            failure: None,
            payment_intent_id: None,
            amount: None,
            currency: None,
            order_id: None,
            confirmed_at: None,
            trace_id: None,
            queue_item_id: None,
            expiration: None,
            events: Vec::new(),
        }
    }

    /// Whether this ended a reservation before it was created.
    pub fn is_tombstone(&self) -> bool {
        self.fingerprint.is_empty()
    }

    /// Whether its seats are held or looked for, and its deadline is ahead. Every such one was created within the longest hold.
    pub fn is_open(&self, now: u64) -> bool {
        self.has_yet_to_end() && now < self.hold_expires_at
    }

    /// Whether it has yet to come to an end.
    fn has_yet_to_end(&self) -> bool {
        match &self.status {
            Status::Pending | Status::Hold => true,
            Status::Confirmed
            | Status::Cancelled
            | Status::Expired
            | Status::Failed
            | Status::Refunded
            | Status::Other(_) => false,
        }
    }

    /// What the same wish, by `owner`, finds in this reservation.
    pub fn found_by(&self, wish: &Wish, owner: &str, now: u64) -> Found {
        if self.is_tombstone() {
            return Found::Over;
        }
        if self.user_id != wish.user_id || self.fingerprint != wish.fingerprint() {
            return Found::Other;
        }
        if self.held_at.is_some() {
            return Found::Held;
        }
        if self.failure.is_some() {
            return Found::Failed;
        }
        if self.status != Status::Pending || now + ms(TOO_SHORT) > self.hold_expires_at {
            return Found::Over;
        }
        let lease_until = self.lease_until.unwrap_or_default();
        if now < lease_until {
            return Found::InProgress(Duration::from_millis(lease_until - now));
        }
        let to = Self { owner: Some(owner.to_owned()), lease_until: Some(now + ms(LEASE)), ..self.unchanged() };
        Found::Abandoned(Box::new(Change { from: self.clone(), to }))
    }

    /// Its seats are held: those that it asked for, or those that the inventory chose.
    pub fn held(&self, hold: Hold, now: u64) -> Change {
        let mut to = self.changed(Status::Hold, now);
        (to.seat_ids, to.price) = (hold.seat_ids, hold.price);
        to.held_at = Some(now);
        to.first_hold_expires_at = Some(to.hold_expires_at);
        to.tell(EventKind::Created, By::Client, now);
        Change { from: self.clone(), to }
    }

    /// It gets no seats. `only_try` says that no call before may have held some: then it is over. Else it stays PENDING until
    /// its timer gives back whatever an earlier call may hold, and the customer is told the same.
    pub fn refused_seats(&self, shortage: Shortage, only_try: bool, now: u64) -> Change {
        let status = if only_try { Status::Failed } else { Status::Pending };
        let mut to = self.changed(status, now);
        to.failure = Some(shortage.name().to_owned());
        to.tell(EventKind::Failed, By::Client, now);
        Change { from: self.clone(), to }
    }

    /// Its payment has gone through. The clock is not asked, because seats are held as long as it is on hold: only when the
    /// inventory is about to free them by itself, it expires in place of being sold.
    pub fn confirm(&self, payment: &Payment, by: By, now: u64, terms: &Terms) -> Decision {
        match &self.status {
            Status::Confirmed if self.payment_intent_id.as_deref() == Some(&payment.intent_id) => Decision::Already,
            Status::Hold if now + ms(SALE) >= self.created_at + ms(terms.longest_hold) + ms(terms.grace) => {
                let mut to = self.changed(Status::Expired, now);
                // Nobody has given its seats back yet: the timer's event does.
                to.tell(EventKind::Timer, by, now);
                to.tell(EventKind::Expired, by, now);
                self.write(to)
            }
            Status::Hold => {
                let mut to = self.changed(Status::Confirmed, now);
                to.payment_intent_id = Some(payment.intent_id.clone());
                (to.amount, to.currency) = (payment.amount, payment.currency.clone());
                to.order_id = Some(format!("ord_{}", self.id.trim_start_matches("rsv_")));
                to.confirmed_at = Some(now);
                to.tell(EventKind::Confirmed, by, now);
                self.write(to)
            }
            Status::Pending => self.in_progress(now),
            Status::Confirmed
            | Status::Cancelled
            | Status::Expired
            | Status::Failed
            | Status::Refunded
            | Status::Other(_) => Decision::Refused { after: None },
        }
    }

    /// It is given up, or its payment has not gone through. While it is PENDING it can't be: its release could overtake the
    /// call that holds its seats, and nobody would release again.
    pub fn cancel(&self, by: By, now: u64) -> Decision {
        match &self.status {
            Status::Cancelled => Decision::Already,
            Status::Hold => {
                let mut to = self.changed(Status::Cancelled, now);
                to.tell(EventKind::Cancelled, by, now);
                self.write(to)
            }
            Status::Pending => self.in_progress(now),
            Status::Confirmed | Status::Expired | Status::Failed | Status::Refunded | Status::Other(_) => {
                Decision::Refused { after: None }
            }
        }
    }

    /// Its deadline has come; before it, nothing happens.
    pub fn expire(&self, by: By, now: u64) -> Decision {
        match &self.status {
            Status::Expired => Decision::Already,
            Status::Pending | Status::Hold if now < self.hold_expires_at => {
                Decision::Refused { after: Some(Duration::from_millis(self.hold_expires_at - now)) }
            }
            Status::Pending | Status::Hold => {
                let mut to = self.changed(Status::Expired, now);
                to.tell(EventKind::Expired, by, now);
                self.write(to)
            }
            Status::Confirmed | Status::Cancelled | Status::Failed | Status::Refunded | Status::Other(_) => {
                Decision::Refused { after: None }
            }
        }
    }

    /// It gets its timer again, because its deadline passed a while ago and nobody has acted on it: the timer was lost, or lies
    /// among the dead letters of a long outage. Nothing, where no timer is missing.
    pub fn overdue(&self, now: u64) -> Option<Change> {
        if !self.has_yet_to_end() || now < self.hold_expires_at + ms(OVERDUE) {
            return None;
        }
        // A version of its own, so that a relay which has seen the one before does not clear it.
        let mut to = Self { version: self.version + 1, updated_at: now, ..self.unchanged() };
        to.tell(EventKind::Timer, By::Worker, now);
        Some(Change { from: self.clone(), to })
    }

    /// Its hold lasts `longer` than it first did, once. A repeat under the same key, and a deadline that is reached already,
    /// change nothing. Its timer comes too early then and waits by itself.
    pub fn extend(&self, longer: Duration, key: &str, now: u64, terms: &Terms) -> Decision {
        let wanted = self.first_hold_expires_at.unwrap_or_default() + ms(longer);
        let deadline = wanted.min(self.created_at + ms(terms.longest_hold));
        match &self.status {
            Status::Hold if now >= self.hold_expires_at => Decision::Refused { after: None },
            Status::Hold if deadline <= self.hold_expires_at || self.extended_by.as_deref() == Some(key) => {
                Decision::Already
            }
            Status::Hold if self.extended_by.is_some() => Decision::Refused { after: None },
            Status::Hold => {
                let mut to = self.changed(Status::Hold, now);
                to.hold_expires_at = deadline;
                to.extended_by = Some(key.to_owned());
                self.write(to)
            }
            Status::Pending => self.in_progress(now),
            Status::Confirmed
            | Status::Cancelled
            | Status::Expired
            | Status::Failed
            | Status::Refunded
            | Status::Other(_) => Decision::Refused { after: None },
        }
    }

    fn in_progress(&self, now: u64) -> Decision {
        let lease_until = self.lease_until.unwrap_or_default();
        Decision::Refused { after: Some(Duration::from_millis(lease_until.saturating_sub(now))) }
    }

    fn write(&self, to: Self) -> Decision {
        Decision::Write(Box::new(Change { from: self.clone(), to }))
    }

    /// The same, with no events but those to come.
    fn unchanged(&self) -> Self {
        Self { events: Vec::new(), ..self.clone() }
    }

    fn changed(&self, status: Status, now: u64) -> Self {
        let mut to = Self { version: self.version + 1, updated_at: now, ..self.unchanged() };
        let (ended, pending) = (!matches!(status, Status::Pending | Status::Hold), status == Status::Pending);
        to.status = status;
        to.expiration = ended.then(|| end_of_keeping(now));
        if !pending {
            (to.owner, to.lease_until) = (None, None);
        }
        to
    }

    fn tell(&mut self, kind: EventKind, by: By, at: u64) {
        self.events.push(Event { kind, n: self.version, at, by });
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn end_of_keeping(now: u64) -> u64 {
    now / 1_000 + KEPT.as_secs()
}

/// Of values one after the other, each with its length, so that no two lists have the same.
fn digest(values: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for value in values {
        hash.update(value.len().to_be_bytes());
        hash.update(value);
    }
    hash.finalize().into()
}

/// A name as text.
mod by_name {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::name::Named;

    pub(super) fn serialize<N: Named, S: Serializer>(name: &N, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(name.name())
    }

    pub(super) fn deserialize<'d, N: Named, D: Deserializer<'d>>(deserializer: D) -> Result<N, D::Error> {
        let text = String::deserialize(deserializer)?;
        let known = N::ALL.iter().find(|name| name.name() == text);
        known.copied().ok_or_else(|| D::Error::custom(format!("{text:?} is not known")))
    }
}

/// A status as text.
mod status_by_name {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Status;

    pub(super) fn serialize<S: Serializer>(status: &Status, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(status.name())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(deserializer: D) -> Result<Status, D::Error> {
        Ok(Status::named(&String::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests;
