//! Guard, then settle: how one event moves a reservation and its seats to one consistent end.
//!
//! The reservation's status change is the single point where a race is decided, so it comes first. If the worker dies
//! between the two, the redelivery repeats the guard, which answers the same, and settles.

use std::time::{Duration, SystemTime};

use tokio::join;
use tracing::{info_span, warn};

use super::{
    Done, LostRace, Outcome,
    event::{Event, EventType, Payment},
    guard::{self, Decision},
    lost_race::Lost,
};
use crate::{
    backoff::in_seconds,
    client::{
        inventory::{Call, InventoryClient},
        reservations::ReservationClient,
    },
    config::ConfigError,
    deadline::Deadline,
    failure::{Failure, Wait},
    idempotency::{Fingerprint, Key, Once, Store},
    name::{Named, names},
    reservation::{Allotment, ReleaseReason, Status, Transition},
    start::{Parts, probe},
    telemetry::trace::TraceContext,
    trigger::{Decoded, Message, Processor, sqs::Record},
};

names! {
    /// The codes of events that are rejected here.
    pub enum ErrorCode {
        /// Nobody says what the reservation holds.
        IncompleteReservation = "incomplete_reservation",
    }
}

/// What one event type does: all that a function has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Workflow {
    /// The event that triggers it.
    pub event_type: EventType,
    /// Guard: what the reservation must become.
    pub guard: Guard,
    /// Settle: what then happens to its seats.
    pub settle: Settle,
}

impl Workflow {
    /// What a function of this workflow is called in logs, metrics and traces.
    pub fn name(&self) -> &'static str {
        self.event_type.name()
    }
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

/// The services that every workflow calls.
#[derive(Debug, Clone)]
pub struct Services {
    /// Which events are done.
    pub idempotency: Store,
    /// Guard.
    pub reservations: ReservationClient,
    /// Settle.
    pub inventory: InventoryClient,
}

/// Settles the events of one type.
#[derive(Debug)]
pub struct Settler<L> {
    /// What the event type does.
    pub workflow: Workflow,
    /// What it does it with.
    pub services: Services,
    /// What follows a lost race.
    pub lost_race: L,
}

impl<L: LostRace> Settler<L> {
    /// Reads the variables of all that a settler is made of. Nothing: what is wrong with them is noted.
    pub fn configured(workflow: Workflow, parts: &mut Parts<'_>) -> Option<Self> {
        let idempotency = Store::configured(&mut parts.reader, parts.aws);
        let inventory = InventoryClient::configured(parts);
        let reservations = ReservationClient::configured(&mut parts.reader, parts.aws);
        let lost_race = L::configured(parts);
        let services = Services { idempotency, reservations: reservations?, inventory: inventory? };
        Some(Self { workflow, services, lost_race })
    }
}

impl<L: LostRace> Processor<Record> for Settler<L> {
    type Item = Event;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        self.workflow.name()
    }

    /// The claim's calls, two to the reservation API (change and look), and one to the inventory or what follows a lost race,
    /// whichever takes longer.
    fn budget(&self) -> Duration {
        let Services { idempotency, reservations, inventory } = &self.services;
        idempotency.budget() + reservations.budget() + inventory.connection().budget().max(self.lost_race.budget())
    }

    /// Looks at all three services at once. The connections that this opens are those of the first records.
    async fn probe(&self) -> Result<(), ConfigError> {
        let Services { idempotency, reservations, inventory } = &self.services;
        let name = self.name();
        if reservations.tells_token_in_clear() {
            let base = reservations.base();
            warn!(
                event_type = name,
                "RESERVATION_API_BASE names {base}, where the token goes without TLS; use an https address"
            );
        }
        let key = Key::of(&[name, "probe"]);
        let (table, (), ()) = join!(
            probe::table(name, "IDEMPOTENCY_TABLE", idempotency.probe(&key)),
            probe::service(name, "RESERVATION_API_BASE", reservations.base(), reservations.probe()),
            probe::connection(name, "INVENTORY_GRPC_ADDR", inventory.connection()),
        );
        table
    }

    /// A malformed record ends here, before anything was called.
    fn decode(&self, record: &Record) -> Result<Decoded<Event>, Failure> {
        let event = Event::parse(self.workflow.event_type, &record.body)?;
        let producer = record.producer(&event.traceparents, &event.baggages);
        let span = info_span!(
            "event",
            reservation_id = event.reservation_id,
            event_id = event.holding.show_id,
            trace_id = event.trace_id.as_deref().or_else(|| producer.trace_id()),
        );
        Ok(Decoded { key: event.key().as_str().to_owned(), span, producer, item: event })
    }

    async fn process(&self, event: Event, trace: &TraceContext, deadline: Deadline) -> Result<Done, Failure> {
        if let Some(rest) = event.early_by(SystemTime::now()) {
            let message = format!("the hold ends only in {} s", in_seconds(rest).as_secs());
            return Err(Failure::Early { message, wait: Wait::Due(rest) });
        }
        let (key, fingerprint) = (event.key(), Fingerprint { what: "amount", text: event.fingerprint() });
        let work = self.guard_and_settle(&event, &key, trace);
        match self.services.idempotency.once(&key, &fingerprint, deadline, Done::name, work).await? {
            Once::Done(done) => Ok(done),
            Once::Duplicate { outcome } => Ok(Done::noted(Outcome::Duplicate, format!("completed before: {outcome}"))),
        }
    }
}

/// What the guard came to, when it came to anything.
enum Guarded {
    /// The reservation is where the event wants it, and this is what it holds.
    Ours(Allotment),
    /// Another end won.
    Lost { status: Status, paid_twice: bool, show_id: Option<String> },
}

impl<L: LostRace> Settler<L> {
    /// Guard, settle, and between the two nothing that a repeat would not do again.
    async fn guard_and_settle(&self, event: &Event, key: &Key, trace: &TraceContext) -> Result<Done, Failure> {
        match self.guard(event, key, trace).await? {
            Guarded::Ours(allotment) => self.settle(event, &allotment, key, trace).await,
            Guarded::Lost { status, paid_twice, show_id } => {
                let (status, show_id) = (&status, show_id.as_deref());
                self.lost_race.follow(Lost { event, status, paid_twice, show_id, key, trace }).await
            }
        }
    }

    /// Asks for the change. An answer that does not say enough is followed by one look at the reservation, and by no more.
    async fn guard(&self, event: &Event, key: &Key, trace: &TraceContext) -> Result<Guarded, Failure> {
        let transition = self.workflow.guard.transition(event);
        let (id, reservations) = (&event.reservation_id, &self.services.reservations);
        let answer = reservations.change_status(id, &transition, &key.step("guard"), trace).await?;
        let unsaid = match guard::decide(&transition, answer) {
            Decision::Settle(holding) => match Allotment::of(&holding, &event.holding) {
                Some(allotment) => return Ok(Guarded::Ours(allotment)),
                None => "does not say what the reservation holds".to_owned(),
            },
            Decision::Lost { status, paid_twice, show_id } => {
                return Ok(Guarded::Lost { status, paid_twice, show_id });
            }
            Decision::Retry(reason) => return Err(Failure::transient(reason)),
            Decision::Wait { message, after } => return Err(self.not_yet(message, after)),
            Decision::AskAgain(silence) => silence.to_string(),
        };
        let first = format!("the reservation API's answer to the change {unsaid}");
        let read = reservations.get(id, trace).await.map_err(|error| Failure::from(error).after(&first))?;
        match guard::decide_by_reading(&transition, read) {
            Decision::Settle(holding) => Allotment::of(&holding, &event.holding)
                .map(Guarded::Ours)
                .ok_or_else(|| incomplete(&event.reservation_id)),
            Decision::Lost { status, paid_twice, show_id } => Ok(Guarded::Lost { status, paid_twice, show_id }),
            Decision::Retry(reason) => Err(Failure::transient(reason).after(&first)),
            Decision::Wait { message, after } => Err(self.not_yet(message, after).after(&first)),
            Decision::AskAgain(silence) => {
                Err(Failure::transient(format!("the answer to a look at the reservation {silence}")).after(&first))
            }
        }
    }

    /// The reservation is open and does not become what the event wants. This is not a failure for the end of a hold: the hold
    /// ends later than the event says, because it was extended. The other events come to an open reservation that is changing.
    fn not_yet(&self, message: String, after: Option<Duration>) -> Failure {
        let wait = after.map_or(Wait::BackOff, Wait::Asked);
        match self.workflow.guard {
            Guard::Expired => Failure::Early { message, wait },
            Guard::Confirmed | Guard::Cancelled => Failure::Transient { message, wait },
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
        Ok(Done::of(Outcome::Success))
    }
}

impl Guard {
    /// What the reservation must become.
    pub fn wanted(self) -> Status {
        match self {
            Self::Confirmed => Status::Confirmed,
            Self::Cancelled => Status::Cancelled,
            Self::Expired => Status::Expired,
        }
    }

    fn transition(self, event: &Event) -> Transition {
        let payment = event.payment.as_ref().filter(|_| self == Self::Confirmed);
        Transition {
            wanted: self.wanted(),
            payment_intent_id: payment.map(|Payment { intent_id, .. }| intent_id.clone()),
        }
    }
}

fn incomplete(reservation_id: &str) -> Failure {
    let message = format!(
        "neither the event nor the reservation {reservation_id} says which seats, or how many, of which event it holds; \
         complete the reservation and send the message again"
    );
    Failure::permanent(ErrorCode::IncompleteReservation, message)
}
