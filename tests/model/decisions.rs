//! What a worker does next, as the real code decides it.
//!
//! A worker's future can't be copied, and an interleaving can't be tried twice on one that has gone on. But what a
//! worker does depends on nothing but its event and the answers that it got. So each such history is played once to the
//! real [`Settler`], with its real clients, until it asks for something more or ends; the search then only looks it up.

use std::{
    collections::HashMap,
    pin::pin,
    time::{Duration, SystemTime},
};

use local_stack::catalogue::Settling;
use shared::{
    client::{
        bus::EventBus,
        inventory::{InventoryClient, TlsMaterial},
        reservations::{Access, ReservationClient},
    },
    deadline::{Deadline, epoch_ms},
    failure::Failure,
    idempotency::Store,
    settlement::{
        Done, LostRace, Outcome, RefundPublisher, Services, Settler, Superseded, event::Event, lost_race::Lost,
    },
    start::Parts,
    telemetry::trace::TraceContext,
    trigger::Processor,
};
use tokio::{select, sync::oneshot};
use uuid::Uuid;

use crate::{
    gate::{Answer, Asked, Gate, Request},
    kind::Kind,
};

/// How long a finished event is known; longer than any test runs.
const KNOWN_FOR: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// When every lease ends, in milliseconds since the epoch: the year 2100. A lease that is over is written as such.
pub(crate) const LEASE_END: u64 = 4_102_444_800_000;
/// The worker's own token, which is another in each run.
pub(crate) const SELF: &str = "{self}";
const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What a worker does after a history of answers.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// It asks, by the number of the request.
    Ask(u16),
    /// It ended, and its message is acknowledged.
    Acknowledged(&'static str),
    /// It ended, and its message comes back.
    ComesBack(String),
    /// It ended, and its message goes to the dead-letter queue.
    DeadLettered(&'static str),
}

struct Node {
    kind: Kind,
    history: Vec<u16>,
    next: Next,
    then: HashMap<u16, u16>,
}

/// Every history that was looked at so far. The first ones are those of workers that have just started, one a kind.
pub(crate) struct Decisions {
    gate: Gate,
    clients: Clients,
    function: fn(Kind) -> Settling,
    nodes: Vec<Node>,
    requests: Numbered<Request>,
    answers: Numbered<Answer>,
    runs: usize,
}

impl Decisions {
    pub(crate) async fn new(function: fn(Kind) -> Settling) -> Self {
        let (nodes, requests, answers) = (Vec::new(), Numbered::new(), Numbered::new());
        let gate = Gate::open().await;
        let clients = Clients::new(&gate);
        let mut new = Self { gate, clients, function, nodes, requests, answers, runs: 0 };
        for kind in Kind::all() {
            let next = new.play(kind, &[]).await;
            new.nodes.push(Node { kind, history: Vec::new(), next, then: HashMap::new() });
        }
        new
    }

    pub(crate) fn next(&self, node: u16) -> &Next {
        &self.nodes[usize::from(node)].next
    }

    pub(crate) fn request(&self, number: u16) -> &Request {
        self.requests.of(number)
    }

    pub(crate) fn number_of(&mut self, answer: Answer) -> u16 {
        self.answers.number_of(answer)
    }

    /// Where a worker is after one more answer, if that is known already.
    pub(crate) fn known(&self, node: u16, answer: u16) -> Option<u16> {
        self.nodes[usize::from(node)].then.get(&answer).copied()
    }

    /// Where a worker is after one more answer.
    pub(crate) async fn after(&mut self, node: u16, answer: u16) -> u16 {
        let Node { kind, history, .. } = &self.nodes[usize::from(node)];
        let (kind, mut history) = (*kind, history.clone());
        history.push(answer);
        let next = self.play(kind, &history).await;
        let new = u16::try_from(self.nodes.len()).expect("fewer than 65,536 histories");
        self.nodes.push(Node { kind, history, next, then: HashMap::new() });
        self.nodes[usize::from(node)].then.insert(answer, new);
        new
    }

    /// How many histories were played.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Every way in which a worker ended.
    pub(crate) fn endings(&self) -> Vec<String> {
        let ending = |node: &Node| match &node.next {
            Next::Ask(_) => None,
            Next::Acknowledged(outcome) => Some((*outcome).to_owned()),
            Next::ComesBack(why) => Some(why.clone()),
            Next::DeadLettered(code) => Some((*code).to_owned()),
        };
        self.nodes.iter().filter_map(ending).collect()
    }

    async fn play(&mut self, kind: Kind, history: &[u16]) -> Next {
        if self.runs.is_multiple_of(Clients::RUNS) {
            self.clients = Clients::new(&self.gate);
        }
        self.runs += 1;
        let Settling { workflow, lost_race, .. } = (self.function)(kind);
        let settler =
            Settler { workflow, services: self.clients.services(), lost_race: self.clients.lost_race(lost_race) };
        let event = Event::parse(workflow.event_type, &kind.body()).expect("a valid event");
        let (trace, deadline) = (TraceContext::default(), Deadline::stated(LEASE_END));
        let mut work = pin!(settler.process(event, &trace, deadline));
        let mut answers = history.iter();
        let mut own_token = String::new();
        loop {
            let (request, reply): Asked = select! {
                result = &mut work => {
                    assert_eq!(answers.len(), 0, "{kind:?} ended before it had heard every answer: {result:?}");
                    return match result {
                        Ok(done) => Next::Acknowledged(done.name()),
                        Err(Failure::Transient { message, .. } | Failure::Early { message, .. }) => Next::ComesBack(message),
                        Err(Failure::Permanent { code, .. }) => Next::DeadLettered(code),
                    };
                }
                asked = self.gate.asked.recv() => asked.expect("the gate is open"),
            };
            let request = without_what_differs(request, &mut own_token);
            match answers.next() {
                Some(answer) => reply_with(reply, self.answers.of(*answer).clone(), &own_token),
                None => return Next::Ask(self.requests.number_of(request)),
            }
        }
    }
}

/// Clients as [`shared::start`] has them built. Only their patience is another, because who is slow is a matter of
/// the search.
pub(crate) struct Clients {
    idempotency: Store,
    reservations: ReservationClient,
    inventory: InventoryClient,
    bus: EventBus,
}

impl Clients {
    /// So many runs share a set of them: the SDK has a budget for second tries, and no run may lack one because others
    /// have used it up.
    pub(crate) const RUNS: usize = 20;

    pub(crate) fn new(gate: &Gate) -> Self {
        let partition = Uuid::new_v4().to_string();
        let url = format!("http://{}", gate.http_address);
        macro_rules! client {
            ($sdk:ident) => {{
                use $sdk::config::{BehaviorVersion, Credentials, Region, retry, timeout};
                let retries = retry::RetryConfig::standard()
                    .with_max_attempts(shared::client::aws::TRIES)
                    .with_initial_backoff(Duration::from_millis(1));
                let config = $sdk::Config::builder()
                    .behavior_version(BehaviorVersion::latest())
                    .region(Region::new("us-east-1"))
                    .endpoint_url(&url)
                    .http_client(shared::client::aws::http::client())
                    .credentials_provider(Credentials::new("test", "test", None, None, "test"))
                    .retry_config(retries)
                    .retry_partition(retry::RetryPartition::new(partition.clone()))
                    .timeout_config(timeout::TimeoutConfig::disabled())
                    .build();
                $sdk::Client::from_conf(config)
            }};
        }
        let inventory = InventoryClient::new(&gate.grpc_address, &TlsMaterial::default(), CALL_TIMEOUT);
        Self {
            idempotency: Store::new(client!(aws_sdk_dynamodb), local_stack::stack::TABLE, KNOWN_FOR),
            reservations: ReservationClient::new(&url, Access::Open, CALL_TIMEOUT).expect("a client"),
            inventory: inventory.expect("a client"),
            bus: EventBus::new(client!(aws_sdk_eventbridge), local_stack::stack::BUS),
        }
    }

    pub(crate) fn services(&self) -> Services {
        Services {
            idempotency: self.idempotency.clone(),
            reservations: self.reservations.clone(),
            inventory: self.inventory.clone(),
        }
    }

    /// What follows a lost race that ends in this outcome.
    pub(crate) fn lost_race(&self, outcome: Outcome) -> Either {
        match outcome {
            Outcome::LateApproval => Either::Refund(RefundPublisher::new(Some(self.bus.clone()))),
            Outcome::Success | Outcome::Duplicate | Outcome::Superseded => Either::Superseded(Superseded),
        }
    }
}

/// One of the two that functions are composed of, chosen when the search runs.
pub(crate) enum Either {
    Superseded(Superseded),
    Refund(RefundPublisher),
}

impl LostRace for Either {
    const OUTCOME: Outcome = Outcome::Superseded;

    fn configured(parts: &mut Parts<'_>) -> Self {
        Self::Superseded(Superseded::configured(parts))
    }

    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    async fn follow(&self, lost: Lost<'_>) -> Result<Done, Failure> {
        match self {
            Self::Superseded(superseded) => superseded.follow(lost).await,
            Self::Refund(publisher) => publisher.follow(lost).await,
        }
    }
}

fn reply_with(reply: oneshot::Sender<Answer>, answer: Answer, own_token: &str) {
    let answer = match answer {
        Answer::Http { status, body } => Answer::Http { status, body: body.replace(SELF, own_token) },
        Answer::Message(_) | Answer::Grpc(..) => answer,
    };
    drop(reply.send(answer));
}

/// Puts names in place of the worker's token and of the clock, so that the same request is the same in every run.
fn without_what_differs(request: Request, own_token: &mut String) -> Request {
    let Request::Aws { target, body } = request else {
        return request;
    };
    let mut body: serde_json::Value = serde_json::from_str(&body).expect("AWS is asked in JSON");
    let now = epoch_ms(SystemTime::now());
    if let Some(values) = body["ExpressionAttributeValues"].as_object_mut() {
        for value in values.values_mut() {
            if let Some(text) = value["S"].as_str().filter(|text| Uuid::try_parse(text).is_ok()) {
                *own_token = text.to_owned();
                value["S"] = SELF.into();
            }
            if let Some(number) = value["N"].as_str().and_then(|text| text.parse::<u64>().ok()) {
                let known = Clock::at(now).into_iter().find(|(_, clock)| number.abs_diff(*clock) < 60_000);
                if let Some((name, _)) = known {
                    value["N"] = name.into();
                }
            }
        }
    }
    for entry in body["Entries"].as_array_mut().into_iter().flatten() {
        let mut detail: serde_json::Value =
            serde_json::from_str(entry["Detail"].as_str().unwrap_or_default()).expect("a detail is JSON");
        detail["requested_at"] = "{now}".into();
        entry["Detail"] = detail.to_string().into();
    }
    Request::Aws { target, body: body.to_string() }
}

/// The moments that a claim names.
pub(crate) struct Clock;

impl Clock {
    /// By name. Seconds and milliseconds are far apart, and so are now and the end of a claim's life.
    pub(crate) fn at(now_ms: u64) -> [(&'static str, u64); 3] {
        let now_s = now_ms / 1000;
        [("{now_ms}", now_ms), ("{now_s}", now_s), ("{expiration}", now_s + KNOWN_FOR.as_secs())]
    }
}

/// Things by the order in which they first came.
pub(crate) struct Numbered<T> {
    items: Vec<T>,
    numbers: HashMap<T, u16>,
}

impl<T: Clone + Eq + std::hash::Hash> Numbered<T> {
    pub(crate) fn new() -> Self {
        Self { items: Vec::new(), numbers: HashMap::new() }
    }

    pub(crate) fn of(&self, number: u16) -> &T {
        &self.items[usize::from(number)]
    }

    pub(crate) fn number_of(&mut self, item: T) -> u16 {
        if let Some(number) = self.numbers.get(&item) {
            return *number;
        }
        let number = u16::try_from(self.items.len()).expect("fewer than 65,536");
        self.items.push(item.clone());
        self.numbers.insert(item, number);
        number
    }
}
