//! One function on a stack of its own, and the short words that tests are written in.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

pub(crate) use local_stack::ended::{Ended, log_lines};
use local_stack::{
    build::{self, Binaries},
    event,
    inventory::SeatState,
    lambda::Function,
    proxy::Network,
    queue::{Message, MessageAttribute, Queue, Snapshot},
    reservations::Status,
    scenario::Given,
    stack::Stack,
    tripwire::{Point, Side, Tripwire},
};
use serde_json::{Value, json};
use shared::{name::Named, settlement::event::EventType};
use tokio::time::timeout;

/// The reservation that most tests are about.
pub(crate) const RESERVATION: &str = "rsv_8f3k2m9q1x";
/// The payment that most tests are about.
pub(crate) use local_stack::event::PAYMENT;
/// What its tickets are for.
pub(crate) const EVENT: &str = "evt_2026_1001";

/// A function, its queue, and everything that it talks to.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) function: Function,
    pub(crate) queue: Queue,
    pub(crate) dead_letters: Queue,
}

/// A message in a test.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) body: String,
    pub(crate) receive_count: u32,
    pub(crate) attributes: BTreeMap<String, MessageAttribute>,
    pub(crate) trace_header: Option<String>,
    pub(crate) group_id: Option<String>,
}

impl From<Value> for Sent {
    fn from(body: Value) -> Self {
        body.to_string().into()
    }
}

impl From<String> for Sent {
    fn from(body: String) -> Self {
        Self { body, receive_count: 1, ..Self::default() }
    }
}

impl Sent {
    /// The same message on its `receive_count`th receive.
    pub(crate) fn received(self, receive_count: u32) -> Self {
        Self { receive_count, ..self }
    }
}

/// The function binaries.
pub(crate) fn binaries() -> &'static Binaries {
    build::functions().expect("the functions build")
}

impl World {
    /// A function with the default configuration.
    pub(crate) async fn of(function: &str) -> Self {
        Self::with(function, &[]).await
    }

    /// A function with some variables changed; an empty value unsets one.
    pub(crate) async fn with(function: &str, changes: &[(&str, &str)]) -> Self {
        let stack = Stack::start().await.expect("the stack starts");
        Self::on(stack, function, changes)
    }

    /// Another function, or another deployment of the same, on a stack that is there.
    pub(crate) fn on(stack: Stack, function: &str, changes: &[(&str, &str)]) -> Self {
        let mut environment = stack.environment(function);
        for (name, value) in changes {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let binary = binaries()[function].clone();
        let function = stack.deploy_with(function, binary, 4, environment).expect("the binary is there");
        let queue = stack.queue(function.name());
        let dead_letters = stack.dead_letters(function.name());
        Self { stack, function, queue, dead_letters }
    }

    /// A warm `payment-approved` with a proxy before each of its services.
    pub(crate) async fn behind_proxies() -> (Self, Network) {
        let stack = Stack::start().await.expect("the stack starts");
        let network = Network::before(&stack, 1).await.expect("there are ports");
        let variables = network.variables();
        let changes: Vec<_> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let world = Self::on(stack, "payment-approved", &changes);
        world.warm_up().await;
        (world, network)
    }

    /// Starts a process by an empty batch, so that what follows meets records and not a start.
    pub(crate) async fn warm_up(&self) {
        let invocation = self.function.invoke(r#"{"Records": []}"#).await;
        assert!(invocation.result.is_ok(), "the function starts: {invocation:#?}");
    }

    /// Puts [`RESERVATION`] in place, with two seats.
    pub(crate) fn given(&self, status: Status, seats: SeatState) {
        self.given_with(status, seats, None);
    }

    /// As [`World::given`], confirmed by a payment.
    pub(crate) fn given_with(&self, status: Status, seats: SeatState, payment: Option<&str>) {
        self.seed(RESERVATION, &["A-12", "A-13"], status, seats, payment);
    }

    /// Puts a reservation of some seats in place.
    pub(crate) fn seed(&self, id: &str, seats: &[&str], status: Status, seat_state: SeatState, payment: Option<&str>) {
        self.stack.seed(&[Given {
            reservation_id: id.to_owned(),
            event_id: EVENT.to_owned(),
            user_id: "usr_1".to_owned(),
            status,
            seat_ids: seats.iter().map(|seat| (*seat).to_owned()).collect(),
            quantity: u32::try_from(seats.len()).unwrap(),
            payment_intent_id: payment.map(str::to_owned),
            seats: seat_state,
        }]);
    }

    /// Sends the messages, delivers them in one batch, and tells how each ended.
    pub(crate) async fn deliver(&self, messages: impl IntoIterator<Item = impl Into<Sent>>) -> Vec<Ended> {
        let ids: Vec<String> = messages.into_iter().map(|message| self.send(message)).collect();
        let delivery = self
            .stack
            .map(self.queue.clone(), self.function.clone())
            .deliver_once()
            .await
            .expect("a message is visible");
        assert_eq!(delivery.batch, ids, "one delivery takes all messages of a test");
        delivery.ended()
    }

    /// Delivers one message.
    pub(crate) async fn deliver_one(&self, message: impl Into<Sent>) -> Ended {
        self.deliver([message.into()]).await.remove(0)
    }

    /// Delivers what waits in the queue, however long it would have to wait.
    pub(crate) async fn redeliver(&self) -> Vec<Ended> {
        assert!(self.queue.skip_wait(), "a message waits");
        let mapping = self.stack.map(self.queue.clone(), self.function.clone());
        let delivery = mapping.deliver_once().await.expect("a message is visible");
        delivery.ended()
    }

    /// Puts a message in the queue and answers with its id.
    pub(crate) fn send(&self, message: impl Into<Sent>) -> String {
        let Sent { body, receive_count, attributes, trace_header, group_id } = message.into();
        let received_before = receive_count.saturating_sub(1);
        let message = Message { body, attributes, trace_header, group_id, received_before, ..Message::default() };
        self.queue.send(message).expect("SQS takes the message")
    }

    /// The reservation's status and its seats, as text.
    pub(crate) fn state(&self) -> String {
        self.state_of(RESERVATION)
    }

    /// The status and the seats of any reservation, as text.
    pub(crate) fn state_of(&self, id: &str) -> String {
        let status = self.stack.reservations.get(id).map_or("unknown".to_owned(), |found| found.status.to_string());
        format!("{status}, {}", self.stack.inventory.seat_state(id))
    }

    /// How many calls the reservation API and the inventory got.
    pub(crate) fn downstream_calls(&self) -> (usize, usize) {
        (self.stack.reservations.calls().len(), self.stack.inventory.calls().len())
    }

    /// How many requests DynamoDB got.
    pub(crate) fn dynamodb_requests(&self) -> usize {
        self.stack.aws.requests().iter().filter(|request| request.target.starts_with("DynamoDB")).count()
    }

    /// The reason of the only message in the dead-letter queue.
    #[track_caller]
    pub(crate) fn only_dead_letter(&self) -> Snapshot {
        let mut messages = self.dead_letters.messages();
        assert_eq!(messages.len(), 1, "one message in the dead-letter queue: {messages:#?}");
        messages.remove(0)
    }

    /// The wait that the function set last.
    pub(crate) fn last_wait(&self) -> Duration {
        self.queue.visibility_changes().last().expect("a visibility was set").1
    }
}

/// The attribute of a dead-lettered message.
pub(crate) fn attribute<'a>(message: &'a Snapshot, name: &str) -> &'a str {
    local_stack::replay::attribute(message, name).unwrap_or_default()
}

/// The usual event of this type about [`RESERVATION`].
pub(crate) fn event(detail_type: &str) -> Value {
    event_with(detail_type, json!({}))
}

/// The same with some fields of its detail changed; a null takes one away.
pub(crate) fn event_with(detail_type: &str, changes: Value) -> Value {
    let event_type = EventType::ALL.iter().copied().find(|event_type| event_type.name() == detail_type);
    // One that is no function's own needs no payment.
    let event_type = event_type.unwrap_or(EventType::ReservationExpired);
    let detail = event::detail(event_type, RESERVATION, EVENT, &["A-12", "A-13"].map(str::to_owned));
    event::envelope(detail_type, &event::changed(detail, &changes))
}

/// A wire that holds the request of this number before its effect.
pub(crate) fn wire_before(request: usize) -> Tripwire {
    let wire = Tripwire::default();
    wire.arm(Some(Point { request, side: Side::Before }));
    wire
}

/// Does something while the wire holds its request, and then lets that go on. A test fails when none is held within a minute.
pub(crate) async fn while_held<T>(wire: &Tripwire, meanwhile: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(60), wire.tripped()).await.expect("a request is held");
    let done = meanwhile.await;
    wire.release();
    done
}

/// Waits until something holds; a test fails when it does not within ten seconds.
pub(crate) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(10), "{what} never came true");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
