//! Guard, then settle: how one event moves a reservation and its seats to one consistent end.
//!
//! The reservation's status change is the single point where a race is decided, so it comes first. If the worker dies
//! between the two, the redelivery repeats the guard, which answers the same, and settles.

pub mod guard;

use std::time::SystemTime;

use sha2::{Digest, Sha256};
use tracing::{info_span, warn};

use self::guard::{Decision, LostRace};
use crate::{
    backoff::in_seconds,
    batch::{Decoded, Done, Processor, Record, isolated},
    deadline::{Deadline, epoch_ms},
    event::{Event, EventType, Payment},
    failure::{Failure, Wait},
    grpc::inventory::{Allotment, Call, InventoryClient, ReleaseReason},
    idempotency::{Claim, Key, Store},
    refund::{Refund, RefundDesk},
    rest::reservation::{Holding, ReservationClient, Status, Transition},
    telemetry::trace::TraceContext,
};

/// The code of a reservation of which nobody says what it holds.
pub const INCOMPLETE_RESERVATION: &str = "incomplete_reservation";

/// What one event type does: all that a function has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workflow {
    /// The event that triggers it.
    pub event_type: EventType,
    /// Guard: what the reservation must become.
    pub guard: Guard,
    /// Settle: what then happens to its seats.
    pub settle: Settle,
    /// What follows when the reservation had already ended in another way.
    pub lost_race: LostRace,
}

/// The status that an event moves a reservation to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// `CONFIRMED`, by the event's payment.
    Confirmed,
    /// `CANCELLED`.
    Cancelled,
    /// `EXPIRED`.
    Expired,
}

/// The inventory call that follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settle {
    /// The seats are sold.
    Commit,
    /// The seats are free again.
    Release(ReleaseReason),
}

/// The services that a workflow calls.
#[derive(Debug)]
pub struct Services {
    /// Which events are done.
    pub idempotency: Store,
    /// Guard.
    pub reservations: ReservationClient,
    /// Settle.
    pub inventory: InventoryClient,
    /// Where a late approval goes.
    pub refunds: RefundDesk,
}

/// Settles the events of one type.
#[derive(Debug)]
pub struct Settler {
    /// What the event type does.
    pub workflow: Workflow,
    /// What it does it with.
    pub services: Services,
}

impl Processor for Settler {
    type Item = Event;

    /// A malformed record ends here, before anything was called.
    fn decode(&self, record: &Record) -> Result<Decoded<Event>, Failure> {
        let event = Event::parse(self.workflow.event_type, &record.body)?;
        let producer = record.producer(&event.traceparents, &event.baggages);
        let span = info_span!(
            "event",
            reservation_id = event.reservation_id,
            event_id = event.event_id,
            trace_id = event.trace_id.as_deref().or_else(|| producer.trace_id()),
        );
        Ok(Decoded { key: event.key().as_str().to_owned(), span, producer, item: event })
    }

    /// Claim, guard, settle, complete. Whatever fails gives the claim back, so that the next delivery may start at once.
    async fn process(&self, event: Event, trace: &TraceContext, deadline: Deadline) -> Result<Done, Failure> {
        let now = SystemTime::now();
        if let Some(rest) = event.early_by(now) {
            let message = format!("the hold ends only in {} s", in_seconds(rest).as_secs());
            return Err(Failure::Early { message, rest });
        }
        let (key, store) = (event.key(), &self.services.idempotency);
        let unchanging = hex(&Sha256::digest(event.unchanging()));
        let lease = match store.claim(key.clone(), &unchanging, epoch_ms(now), deadline.epoch_ms()).await? {
            Claim::Acquired(lease) => lease,
            Claim::Completed { data } => return Ok(done("duplicate", Some(format!("completed before: {data}")))),
            Claim::InProgress { remaining } => {
                let message = "another worker is at this event, and may have settled it by now".to_owned();
                return Err(Failure::Transient { message, wait: Wait::Claimed(remaining) });
            }
            Claim::PayloadChanged => {
                let message = format!("the event {key} came before with another amount; find out which one is right");
                return Err(Failure::permanent("payload_changed", message));
            }
        };
        // A panic must give the claim back too.
        let result = match isolated(self.guard_and_settle(&event, &key, trace)).await {
            Ok(done) => store.complete(&lease, done.outcome).await.map(|()| done).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if result.is_err()
            && let Err(error) = store.release(&lease).await
        {
            warn!(error = %error, "the claim could not be given back; it ends with this invocation");
        }
        result
    }
}

/// What the guard came to, when it came to anything.
enum Guarded {
    /// The reservation is where the event wants it, and this is what it holds.
    Ours(Allotment),
    /// Another end won.
    Lost { status: Status, paid_twice: bool, event_id: Option<String> },
}

impl Settler {
    async fn guard_and_settle(&self, event: &Event, key: &Key, trace: &TraceContext) -> Result<Done, Failure> {
        match self.guard(event, key, trace).await? {
            Guarded::Ours(allotment) => self.settle(event, &allotment, key, trace).await,
            Guarded::Lost { status, paid_twice, event_id } => match self.workflow.lost_race {
                LostRace::Superseded => Ok(done("superseded", Some(format!("the reservation is {}", status.name())))),
                LostRace::Refund => self.refund(event, &status, paid_twice, event_id.as_deref(), key, trace).await,
            },
        }
    }

    /// Asks for the change. An answer that does not say enough is followed by one look at the reservation, and by no more.
    async fn guard(&self, event: &Event, key: &Key, trace: &TraceContext) -> Result<Guarded, Failure> {
        let transition = self.workflow.guard.transition(event);
        let (id, reservations) = (&event.reservation_id, &self.services.reservations);
        let answer = reservations.change_status(id, &transition, &key.step("guard"), trace).await?;
        let unsaid = match guard::decide(&transition, answer) {
            Decision::Settle(holding) => match allotment(event, &holding) {
                Some(allotment) => return Ok(Guarded::Ours(allotment)),
                None => "does not say what the reservation holds".to_owned(),
            },
            Decision::Lost { status, paid_twice, event_id } => {
                return Ok(Guarded::Lost { status, paid_twice, event_id });
            }
            Decision::Retry(reason) => return Err(Failure::transient(reason)),
            Decision::AskAgain(silence) => silence.to_string(),
        };
        let first = format!("the reservation API's answer to the change {unsaid}");
        let read = reservations.get(id, trace).await.map_err(|error| Failure::from(error).after(&first))?;
        match guard::decide_by_reading(&transition, read) {
            Decision::Settle(holding) => {
                allotment(event, &holding).map(Guarded::Ours).ok_or_else(|| incomplete(&event.reservation_id))
            }
            Decision::Lost { status, paid_twice, event_id } => Ok(Guarded::Lost { status, paid_twice, event_id }),
            Decision::Retry(reason) => Err(Failure::transient(reason).after(&first)),
            Decision::AskAgain(silence) => {
                Err(Failure::transient(format!("the answer to a look at the reservation {silence}")).after(&first))
            }
        }
    }

    async fn settle(
        &self,
        event: &Event,
        allotment: &Allotment,
        key: &Key,
        trace: &TraceContext,
    ) -> Result<Done, Failure> {
        let idempotency_key = key.step("settle");
        let call = Call { reservation_id: &event.reservation_id, allotment, idempotency_key: &idempotency_key, trace };
        match self.workflow.settle {
            Settle::Commit => {
                let payment = event.payment.as_ref().map(|payment| payment.intent_id.as_str());
                self.services.inventory.commit(call, payment.unwrap_or_default()).await?;
            }
            Settle::Release(reason) => self.services.inventory.release(call, reason).await?,
        }
        Ok(done("success", None))
    }

    async fn refund(
        &self,
        event: &Event,
        status: &Status,
        paid_twice: bool,
        event_id: Option<&str>,
        key: &Key,
        trace: &TraceContext,
    ) -> Result<Done, Failure> {
        let reason =
            if paid_twice { "paid_twice".to_owned() } else { format!("reservation_{}", status.name().to_lowercase()) };
        let payment = event.payment.as_ref();
        let refund = Refund {
            reservation_id: &event.reservation_id,
            payment_intent_id: payment.map(|payment| payment.intent_id.as_str()).unwrap_or_default(),
            amount: payment.and_then(|payment| payment.amount),
            currency: payment.and_then(|payment| payment.currency.as_deref()),
            reservation_status: status.name(),
            reason: &reason,
            event_id: event_id.or(event.event_id.as_deref()),
            trace_id: event.trace_id.as_deref().or_else(|| trace.trace_id()),
            idempotency_key: &key.step("refund"),
        };
        self.services.refunds.request(&refund).await?;
        Ok(done("late_approval", Some(format!("refund requested: {reason}"))))
    }
}

impl Guard {
    fn transition(self, event: &Event) -> Transition {
        let wanted = match self {
            Self::Confirmed => Status::Confirmed,
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
        };
        let payment = event.payment.as_ref().filter(|_| self == Self::Confirmed);
        Transition { wanted, payment_intent_id: payment.map(|Payment { intent_id, .. }| intent_id.clone()) }
    }
}

/// What the reservation holds: as its API says where it does, as the event says otherwise.
fn allotment(event: &Event, holding: &Holding) -> Option<Allotment> {
    let event_id = holding.event_id.clone().or_else(|| event.event_id.clone())?;
    let api_says = !holding.seat_ids.is_empty() || holding.quantity.is_some();
    let (seat_ids, quantity) =
        if api_says { (&holding.seat_ids, holding.quantity) } else { (&event.seat_ids, event.quantity) };
    let quantity = if seat_ids.is_empty() { quantity? } else { u32::try_from(seat_ids.len()).ok()? };
    let user_id = holding.user_id.clone().or_else(|| event.user_id.clone());
    Some(Allotment { event_id, seat_ids: seat_ids.clone(), quantity, user_id })
}

fn incomplete(reservation_id: &str) -> Failure {
    let message = format!(
        "neither the event nor the reservation {reservation_id} says which seats, or how many, of which event it holds; \
         complete the reservation and send the message again"
    );
    Failure::permanent(INCOMPLETE_RESERVATION, message)
}

fn done(outcome: &'static str, note: Option<String>) -> Done {
    Done { outcome, note }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_id: Option<&str>, seats: &[&str], quantity: Option<u32>) -> Event {
        let body = r#"{"detail-type": "reservation.expired", "detail": {"reservation_id": "rsv_1"}}"#;
        let event = Event::parse(EventType::ReservationExpired, body).unwrap();
        let seat_ids = seats.iter().map(|seat| (*seat).to_owned()).collect();
        Event { event_id: event_id.map(str::to_owned), seat_ids, quantity, ..event }
    }

    fn holding(event_id: Option<&str>, seats: &[&str], quantity: Option<u32>) -> Holding {
        let seat_ids = seats.iter().map(|seat| (*seat).to_owned()).collect();
        Holding { event_id: event_id.map(str::to_owned), seat_ids, quantity, ..Holding::default() }
    }

    #[track_caller]
    fn check(event: &Event, holding: &Holding, expected: Option<(&str, &[&str], u32)>) {
        let found = allotment(event, holding);
        let found = found.as_ref().map(|found| {
            let seats: Vec<&str> = found.seat_ids.iter().map(String::as_str).collect();
            (found.event_id.as_str(), seats, found.quantity)
        });
        assert_eq!(found, expected.map(|(event_id, seats, quantity)| (event_id, seats.to_vec(), quantity)));
    }

    #[test]
    fn the_reservation_is_the_authority_on_what_it_holds() {
        let event = event(Some("evt_event"), &["A"], Some(1));
        check(&event, &holding(Some("evt_api"), &["B", "C"], Some(2)), Some(("evt_api", &["B", "C"], 2)));
        check(&event, &holding(Some("evt_api"), &[], Some(4)), Some(("evt_api", &[], 4)));
    }

    #[test]
    fn what_the_reservation_leaves_out_comes_from_the_event() {
        let with_seats = event(Some("evt_event"), &["A"], Some(1));
        check(&with_seats, &holding(None, &[], None), Some(("evt_event", &["A"], 1)));
        check(&event(Some("evt_event"), &[], Some(3)), &holding(None, &[], None), Some(("evt_event", &[], 3)));
        check(&event(None, &["A"], None), &holding(Some("evt_api"), &[], None), Some(("evt_api", &["A"], 1)));
    }

    #[test]
    fn without_an_event_id_or_without_seats_and_quantity_nothing_can_be_settled() {
        check(&event(None, &["A"], Some(1)), &holding(None, &["A"], Some(1)), None);
        check(&event(Some("evt_1"), &[], None), &holding(Some("evt_1"), &[], None), None);
    }
}
