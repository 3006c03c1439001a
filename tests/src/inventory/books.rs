//! The stock, who has what of it, and the ledger of every change.
//!
//! Here are the rules that callers are held to, and the audit that does without them. Nothing here waits or knows of the
//! network: a call comes in whole, and the answer is what the service then puts into its own message.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::{Duration, SystemTime},
};

use tonic::Status;

use super::{Call, CommitStatus, HoldStatus, Method, ReleaseStatus, Reply, Scripted, SeatState, count};
use crate::proto::{
    common::v1::{Error, ErrorCode, Event},
    reservation::v1::{GetInventoryStatusResponse, InventoryStats},
};

/// Quantity stock that a new event has beyond what is seeded, so that a hold by hand finds some.
const SPARE_QUANTITY: u32 = 10;

/// The first use of an idempotency key.
struct Use {
    method: Method,
    reservation_id: String,
    /// Absent while the call was only ever refused. A refusal is judged anew, because a redrive after a repair comes
    /// with the same key.
    settled: Option<Reply>,
}

#[derive(Default)]
pub(super) struct Books {
    pub(super) events: BTreeMap<String, Stock>,
    reservations: HashMap<String, Allocation>,
    /// Reservations whose release found nothing to give back. None of them is held any more, or a call that lingers would
    /// hold seats after their release.
    released_before: HashSet<String>,
    keys: HashMap<String, Use>,
    pub(super) ledger: Vec<Entry>,
    pub(super) calls: Vec<Call>,
    pub(super) scripts: HashMap<String, VecDeque<Scripted>>,
    pub(super) latency: Duration,
}

#[derive(Default)]
pub(super) struct Stock {
    /// Each seat with the reservation that has it.
    seats: BTreeMap<String, Option<String>>,
    total: i64,
    pub(super) remaining: i64,
    sold: i64,
    /// Of each seat, where somebody said.
    pub(super) price: Option<(i64, String)>,
}

#[derive(Clone, Debug)]
struct Allocation {
    event_id: String,
    seat_ids: Vec<String>,
    /// Zero beside seats: those are counted by themselves.
    quantity: i64,
    seat_state: SeatState,
}

/// One change of the books; what it is about comes along, so that the audit needs nothing but the ledger.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Stocked { event_id: String, quantity: i64 },
    Acted { act: Act, reservation_id: String, event_id: String, seat_ids: Vec<String>, quantity: i64 },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    Hold,
    Sell,
    Free,
}

impl Books {
    pub(super) fn seat_state(&self, reservation_id: &str) -> SeatState {
        self.reservations.get(reservation_id).map_or(SeatState::Unknown, |found| found.seat_state)
    }

    pub(super) fn receive(&mut self, mut call: Call) -> Option<Result<Reply, Status>> {
        let before = self.ledger.len();
        let script = self.scripts.get_mut(&call.reservation_id).and_then(VecDeque::pop_front);
        let answer = match script {
            None => Some(self.decide(&call)),
            Some(Scripted::Status(code, message)) => Some(Err(Status::new(code, message))),
            Some(Scripted::Error { code, message }) => Some(Ok(scripted(0, Some((code, message))))),
            Some(Scripted::Seats(seat_ids)) => {
                let document = "of-another".to_owned();
                Some(Ok(Reply { document, seat_ids, ..scripted(HoldStatus::Active as i32, None) }))
            }
            Some(Scripted::Commit(status)) => Some(Ok(scripted(status as i32, None))),
            Some(Scripted::Release(status)) => Some(Ok(scripted(status as i32, None))),
            Some(Scripted::Both { code, message, status }) => Some(Ok(scripted(status, Some((code, message))))),
            Some(Scripted::Hang) => None,
            Some(Scripted::HangAfterEffect) => self.decide(&call).ok().and(None),
        };
        call.had_effect = self.ledger.len() > before;
        self.calls.push(call);
        answer
    }

    fn decide(&mut self, call: &Call) -> Result<Reply, Status> {
        if call.idempotency_key.is_empty() {
            return Ok(Reply::fault(ErrorCode::IdempotencyRequired, "idempotency_key is missing"));
        }
        if let Some(fault) = call.fault() {
            return Err(Status::invalid_argument(fault));
        }
        if let Some(first) = self.keys.get(&call.idempotency_key) {
            if first.method != call.method || first.reservation_id != call.reservation_id {
                return Ok(Reply::fault(ErrorCode::IdempotencyConflict, "the key belongs to another request"));
            }
            if let Some(reply) = &first.settled {
                return Ok(reply.clone());
            }
        }
        let (settled, answer) = match call.method {
            Method::ReserveSeat => self.reserve(call),
            Method::CommitReservation => self.commit(call),
            Method::ReleaseHold => self.give_back(call),
            Method::CheckAvailability | Method::GetInventoryStatus => {
                (false, Err(Status::internal("a question is not a change")))
            }
        };
        let settled = answer.as_ref().ok().filter(|_| settled).cloned();
        let first = Use { method: call.method, reservation_id: call.reservation_id.clone(), settled };
        self.keys.insert(call.idempotency_key.clone(), first);
        answer
    }

    /// Like the two below, answers first whether the matter is settled, so that a repeat gets the same answer.
    fn reserve(&mut self, call: &Call) -> (bool, Result<Reply, Status>) {
        let refused = |code, message| (false, Ok(Reply::fault(code, message)));
        let status = match self.seat_state(&call.reservation_id) {
            SeatState::Sold => HoldStatus::Committed,
            SeatState::Free => HoldStatus::Released,
            SeatState::Held if !self.is_for(call) => {
                return refused(ErrorCode::InventoryConflict, "the reservation holds something else");
            }
            SeatState::Held => HoldStatus::Active,
            SeatState::Unknown if self.released_before.contains(&call.reservation_id) => {
                return refused(ErrorCode::InventoryConflict, "the reservation was released before it was held");
            }
            SeatState::Unknown if call.hold_expires_at.is_some_and(|deadline| deadline <= SystemTime::now()) => {
                return refused(ErrorCode::ReservationExpired, "the hold would have ended already");
            }
            SeatState::Unknown => {
                let quantity = i64::from(call.quantity);
                let Some(stock) = self.events.get(&call.event_id) else {
                    return refused(ErrorCode::NotFound, "no such event");
                };
                if call.seat_ids.iter().any(|seat| !stock.seats.contains_key(seat)) {
                    return refused(ErrorCode::NotFound, "no such seat");
                }
                if call.seat_ids.iter().any(|seat| !stock.is_free(seat)) {
                    return refused(ErrorCode::InventoryConflict, "a seat is taken");
                }
                if call.seat_ids.is_empty() && stock.remaining < quantity {
                    return refused(ErrorCode::InsufficientInventory, "not enough left");
                }
                self.place(&call.event_id, &call.reservation_id, &call.seat_ids, quantity);
                HoldStatus::Active
            }
        };
        let document = format!("hold_{}_{}", call.event_id, call.reservation_id);
        (true, Ok(Reply { document, seat_ids: call.seat_ids.clone(), ..Reply::of(status as i32) }))
    }

    fn commit(&mut self, call: &Call) -> (bool, Result<Reply, Status>) {
        let failed = |status: CommitStatus| (false, Ok(Reply::of(status as i32)));
        if self.another_has(call) {
            return failed(CommitStatus::FailedConflict);
        }
        match self.seat_state(&call.reservation_id) {
            SeatState::Unknown => return (false, Ok(Reply::fault(ErrorCode::NotFound, "nothing is held for it"))),
            SeatState::Free => return failed(CommitStatus::FailedExpired),
            SeatState::Held | SeatState::Sold if !self.is_for(call) => return failed(CommitStatus::FailedConflict),
            SeatState::Held => self.apply(&call.reservation_id, Act::Sell),
            SeatState::Sold => {}
        }
        let document = format!("ord_{}_{}", call.event_id, call.reservation_id);
        let reply = Reply::of(CommitStatus::Success as i32);
        (true, Ok(Reply { document, seat_ids: call.seat_ids.clone(), ..reply }))
    }

    fn give_back(&mut self, call: &Call) -> (bool, Result<Reply, Status>) {
        let status = match self.seat_state(&call.reservation_id) {
            SeatState::Sold => return (false, Err(Status::failed_precondition("what is sold is not given back"))),
            // Also where another has the seats that it names, which it has no part in.
            SeatState::Unknown => {
                self.released_before.insert(call.reservation_id.clone());
                ReleaseStatus::NotFound
            }
            // Others may have the seats by now, which a late repeat has no part in.
            SeatState::Free => ReleaseStatus::AlreadyReleased,
            // All of it: what a release names does not narrow it.
            SeatState::Held => {
                self.apply(&call.reservation_id, Act::Free);
                let reply = Reply::of(ReleaseStatus::Success as i32);
                return (true, Ok(Reply { seat_ids: call.seat_ids.clone(), ..reply }));
            }
        };
        (true, Ok(Reply::of(status as i32)))
    }

    /// Whether one of the named seats is held by or sold to another reservation.
    fn another_has(&self, call: &Call) -> bool {
        let Some(stock) = self.events.get(&call.event_id) else {
            return false;
        };
        let mut owners = call.seat_ids.iter().filter_map(|seat| stock.seats.get(seat)?.as_ref());
        owners.any(|owner| *owner != call.reservation_id)
    }

    /// Whether the call names exactly what the reservation has. A quantity beside seats may only count them.
    fn is_for(&self, call: &Call) -> bool {
        let Some(has) = self.reservations.get(&call.reservation_id) else {
            return false;
        };
        let (mut named, mut own) = (call.seat_ids.clone(), has.seat_ids.clone());
        named.sort();
        own.sort();
        let counted = if own.is_empty() {
            i64::from(call.quantity) == has.quantity
        } else {
            call.quantity == 0 || usize::try_from(call.quantity) == Ok(own.len())
        };
        has.event_id == call.event_id && named == own && counted
    }

    pub(super) fn stock(&mut self, event_id: &str, seat_ids: &[String], quantity: u32) {
        let stock = self.events.entry(event_id.to_owned()).or_default();
        for seat in seat_ids {
            stock.seats.entry(seat.clone()).or_default();
        }
        let quantity = i64::from(quantity);
        stock.total += quantity;
        stock.remaining += quantity;
        self.ledger.push(Entry::Stocked { event_id: event_id.to_owned(), quantity });
    }

    pub(super) fn seed(&mut self, event_id: &str, reservation_id: &str, seat_ids: &[String], quantity: u32) {
        if self.reservations.contains_key(reservation_id) {
            return;
        }
        let needed = if seat_ids.is_empty() { quantity } else { 0 };
        let spare = if self.events.contains_key(event_id) { 0 } else { SPARE_QUANTITY };
        self.stock(event_id, seat_ids, needed + spare);
        self.place(event_id, reservation_id, seat_ids, i64::from(needed));
    }

    pub(super) fn place(&mut self, event_id: &str, reservation_id: &str, seat_ids: &[String], quantity: i64) {
        let allocation = Allocation {
            event_id: event_id.to_owned(),
            seat_ids: seat_ids.to_vec(),
            quantity: if seat_ids.is_empty() { quantity } else { 0 },
            seat_state: SeatState::Held,
        };
        self.reservations.insert(reservation_id.to_owned(), allocation);
        self.apply(reservation_id, Act::Hold);
    }

    /// The only place that changes stock, so that the ledger misses nothing.
    pub(super) fn apply(&mut self, reservation_id: &str, act: Act) {
        let Some(has) = self.reservations.get_mut(reservation_id) else {
            return;
        };
        let stock = self.events.entry(has.event_id.clone()).or_default();
        let owner = match act {
            Act::Hold | Act::Sell => Some(reservation_id.to_owned()),
            Act::Free => None,
        };
        for seat in &has.seat_ids {
            stock.seats.insert(seat.clone(), owner.clone());
        }
        let count = i64::try_from(has.seat_ids.len()).unwrap_or(i64::MAX);
        has.seat_state = match act {
            Act::Hold => {
                stock.remaining -= has.quantity;
                SeatState::Held
            }
            Act::Sell => {
                stock.sold += has.quantity.saturating_add(count);
                SeatState::Sold
            }
            Act::Free => {
                stock.remaining += has.quantity;
                SeatState::Free
            }
        };
        self.ledger.push(Entry::Acted {
            act,
            reservation_id: reservation_id.to_owned(),
            event_id: has.event_id.clone(),
            seat_ids: has.seat_ids.clone(),
            quantity: has.quantity,
        });
    }
}

impl Stock {
    pub(super) fn is_free(&self, seat: &str) -> bool {
        self.seats.get(seat).is_some_and(Option::is_none)
    }

    pub(super) fn report(&self, event_id: &str) -> GetInventoryStatusResponse {
        let total = count(self.total).saturating_add(count(self.seats.len()));
        let free_seats = self.seats.values().filter(|owner| owner.is_none()).count();
        let available = count(self.remaining).saturating_add(count(free_seats));
        let sold = count(self.sold);
        let event =
            Event { id: event_id.to_owned(), total_seats: total, remaining_seats: available, ..Default::default() };
        let stats = InventoryStats {
            total_seats: total,
            available_seats: available,
            reserved_seats: total - available - sold,
            sold_seats: sold,
            blocked_seats: 0,
            availability_percentage: if total == 0 { 0.0 } else { 100.0 * available as f32 / total as f32 },
            last_updated: Some(SystemTime::now().into()),
        };
        GetInventoryStatusResponse { event: Some(event), stats: Some(stats), ..Default::default() }
    }
}

/// Follows the ledger with books of its own and none of the server's rules, so that it finds what those let through.
pub(super) fn audit(ledger: &[Entry]) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut owners: HashMap<(&str, &str), &str> = HashMap::new();
    let mut stocks: HashMap<&str, (i64, i64)> = HashMap::new();
    let mut acts: HashMap<&str, Act> = HashMap::new();
    for entry in ledger {
        let (act, reservation, event, seat_ids, quantity) = match entry {
            Entry::Stocked { event_id, quantity } => {
                let (total, remaining) = stocks.entry(event_id).or_default();
                (*total, *remaining) = (*total + quantity, *remaining + quantity);
                continue;
            }
            Entry::Acted { act, reservation_id, event_id, seat_ids, quantity } => {
                (*act, reservation_id.as_str(), event_id.as_str(), seat_ids, *quantity)
            }
        };
        let last = acts.insert(reservation, act);
        match (last, act) {
            (None, Act::Hold) | (Some(Act::Hold), Act::Sell | Act::Free) => {}
            (Some(Act::Sell), Act::Free) => breaches.push(format!("{reservation}: freed after it was sold")),
            (None | Some(_), _) => breaches.push(format!("{reservation}: {act:?} after {last:?}")),
        }
        for seat in seat_ids {
            let owner = match act {
                Act::Hold | Act::Sell => owners.insert((event, seat), reservation),
                Act::Free => owners.remove(&(event, seat.as_str())),
            };
            if let Some(owner) = owner.filter(|owner| *owner != reservation) {
                breaches.push(format!("{event} seat {seat}: {act:?} by {reservation}, but {owner} has it"));
            }
        }
        let (total, remaining) = stocks.entry(event).or_default();
        match act {
            Act::Hold => *remaining -= quantity,
            Act::Sell => {}
            Act::Free => *remaining += quantity,
        }
        if *remaining < 0 || remaining > total {
            breaches.push(format!("{event}: {remaining} left of {total} after {act:?} by {reservation}"));
        }
    }
    breaches
}

fn scripted(status: i32, error: Option<(i32, String)>) -> Reply {
    let error = error.map(|(code, message)| Error { code, message, ..Default::default() });
    Reply { status, error, ..Reply::default() }
}
