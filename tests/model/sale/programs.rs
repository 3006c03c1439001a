//! What each of them does next, as the real code decides it: the API's service and its routes, the settlers, the relay and
//! the sweep, with their real clients. A history of answers is played to them once, and then looked up.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    time::SystemTime,
};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use axum::{Router, body::Body, http};
use local_stack::{
    catalogue::{self, Settling},
    event,
    stack::{BUS, RESERVATIONS, TABLE},
};
use serde_json::{Value, json};
use shared::{
    config::Reader,
    deadline::{Deadline, epoch_ms},
    failure::Failure,
    name::Named,
    reservation::{
        relay::Relay,
        service::{Error, Reservations},
        sweep::Sweep,
    },
    settlement::{Settler, event::Event},
    start::Parts,
    telemetry::trace::TraceContext,
    trigger::{
        Processor,
        http::{Caller, TraceId},
        stream::{Change, Follower},
    },
};
use tokio::{select, sync::oneshot};
use tower_service::Service;
use uuid::Uuid;

use super::{
    moment::{LONGER, Phase, SLACK, moments, named},
    payment::PAYMENT,
    role::{CUSTOMER, Role, wish},
};
use crate::{
    decisions::{Clients, LEASE_END, Numbered, SELF},
    gate::{Answer, Asked, Gate, Request},
    kind::{EVENT, SEAT},
};

/// A sweep reads its table in so many parts side by side.
const SEGMENTS: usize = 4;

/// What is run.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Program {
    /// What a role does, but for the relay.
    Of(Role),
    /// The relay, with the item that the stream brings it, in this phase.
    Relay(String, Phase),
    /// The API, with a worker's request.
    Api(Request),
}

/// What a program does after a history of answers.
#[derive(Clone, Debug)]
pub(crate) enum Next {
    /// It asks, by the number of the request.
    Ask(u16),
    /// It ended.
    Ended(End),
}

/// How a program ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// The customer was told that the seat is held for him.
    Held,
    /// The customer was told that others have the seat.
    NoSeats,
    /// The customer was told that he has more time.
    MoreTime,
    /// The customer was told that the reservation is given up.
    GivenUp,
    /// The customer was told that the seat is his.
    Sold,
    /// The customer was told that it can't be, or that it is not known; he may ask again.
    Refused(String),
    /// The message is acknowledged.
    Acknowledged(&'static str),
    /// The message comes back.
    ComesBack,
    /// The message goes to the dead-letter queue.
    DeadLettered(&'static str),
    /// The API answered.
    Answered(Answer),
    /// The relay, or the sweep, has done what there was to do, or left it to the next.
    Over,
}

/// What others have heard.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Told {
    /// The queue of expiries has a timer.
    pub(crate) timer: bool,
    pub(crate) created: bool,
    pub(crate) confirmed: bool,
    pub(crate) cancelled: bool,
    /// It was cancelled by its customer, so that a worker has to release its seat.
    pub(crate) given_up: bool,
    /// It was confirmed by its customer, so that a worker has to sell its seat.
    pub(crate) bought: bool,
    pub(crate) expired: bool,
    pub(crate) failed: bool,
    /// The payment is to be refunded.
    pub(crate) refund: bool,
}

impl Told {
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            timer: self.timer | other.timer,
            created: self.created | other.created,
            confirmed: self.confirmed | other.confirmed,
            cancelled: self.cancelled | other.cancelled,
            given_up: self.given_up | other.given_up,
            bought: self.bought | other.bought,
            expired: self.expired | other.expired,
            failed: self.failed | other.failed,
            refund: self.refund | other.refund,
        }
    }

    fn by(entries: &Value) -> Self {
        let mut told = Self::default();
        for entry in entries.as_array().into_iter().flatten() {
            let detail = entry["Detail"].as_str().expect("an entry has a detail");
            let detail: Value = serde_json::from_str(detail).expect("a detail is JSON");
            match entry["DetailType"].as_str() {
                Some("reservation.created") => told.created = true,
                Some("reservation.confirmed") => {
                    told.confirmed = true;
                    told.bought |= detail["by"] == "client";
                }
                Some("reservation.cancelled") => {
                    told.cancelled = true;
                    told.given_up |= detail["by"] == "client";
                }
                Some("reservation.expired") => told.expired = true,
                Some("reservation.failed") => told.failed = true,
                Some("payment.refund_requested") => told.refund = true,
                other => panic!("the model does not know {other:?}"),
            }
        }
        told
    }
}

struct Node {
    program: Program,
    history: Vec<u16>,
    next: Next,
    told: Told,
    then: HashMap<u16, u32>,
}

/// Every history that was looked at so far.
pub(crate) struct Programs {
    gate: Gate,
    parts: PartsOfAll,
    nodes: Vec<Node>,
    starts: HashMap<Program, u32>,
    requests: Numbered<Request>,
    answers: Numbered<Answer>,
    runs: usize,
}

impl Programs {
    pub(crate) async fn new() -> Self {
        let gate = Gate::open().await;
        let parts = PartsOfAll::new(&gate);
        let (requests, answers) = (Numbered::new(), Numbered::new());
        Self { gate, parts, nodes: Vec::new(), starts: HashMap::new(), requests, answers, runs: 0 }
    }

    /// How many histories were played.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn next(&self, node: u32) -> &Next {
        &self.nodes[node as usize].next
    }

    /// What others have heard, between the answer before and this.
    pub(crate) fn told(&self, node: u32) -> Told {
        self.nodes[node as usize].told
    }

    pub(crate) fn request(&self, number: u16) -> &Request {
        self.requests.of(number)
    }

    pub(crate) fn number_of(&mut self, answer: Answer) -> u16 {
        self.answers.number_of(answer)
    }

    /// Every way in which a program ended.
    pub(crate) fn ends(&self) -> Vec<String> {
        let end = |node: &Node| match &node.next {
            Next::Ask(_) => None,
            Next::Ended(end) => Some(format!("{:?}: {end:?}", node.program)),
        };
        self.nodes.iter().filter_map(end).collect()
    }

    pub(crate) async fn start(&mut self, program: &Program) -> u32 {
        if let Some(known) = self.starts.get(program) {
            return *known;
        }
        let new = self.add(program.clone(), Vec::new()).await;
        self.starts.insert(program.clone(), new);
        new
    }

    /// Where a program is after one more answer.
    pub(crate) async fn after(&mut self, node: u32, answer: u16) -> u32 {
        let Node { program, history, then, .. } = &self.nodes[node as usize];
        if let Some(known) = then.get(&answer) {
            return *known;
        }
        let history = [history.as_slice(), &[answer]].concat();
        let new = self.add(program.clone(), history).await;
        self.nodes[node as usize].then.insert(answer, new);
        new
    }

    async fn add(&mut self, program: Program, history: Vec<u16>) -> u32 {
        let (next, told) = loop {
            // A machine that is busy elsewhere may have let the clock go too far.
            if let Some(played) = self.play(&program, &history).await {
                break played;
            }
            self.gate = Gate::open().await;
            self.parts = PartsOfAll::new(&self.gate);
        };
        let new = u32::try_from(self.nodes.len()).expect("fewer than four billion histories");
        self.nodes.push(Node { program, history, next, told, then: HashMap::new() });
        new
    }

    /// Nothing: it took so long that moments can't be told from each other.
    async fn play(&mut self, program: &Program, history: &[u16]) -> Option<(Next, Told)> {
        self.runs += 1;
        if self.runs.is_multiple_of(Clients::RUNS) {
            self.parts.settling = Clients::new(&self.gate);
        }
        let started = SystemTime::now();
        let now = epoch_ms(started);
        let in_time = || started.elapsed().is_ok_and(|elapsed| elapsed < SLACK / 2);
        let mut work = pin!(self.parts.run(program, now));
        let (mut answers, mut told, mut own_token) = (history.iter(), Told::default(), String::new());
        let (mut scans, mut first_segment) = (0, None);
        loop {
            let asked: Asked = select! {
                end = &mut work => {
                    assert_eq!(answers.len(), 0, "{program:?} ended before it had heard every answer: {end:?}");
                    return in_time().then_some((Next::Ended(end), told));
                }
                asked = self.gate.asked.recv() => asked.expect("the gate is open"),
            };
            if !in_time() {
                return None;
            }
            let asked = match at_once(asked, &mut told) {
                None => continue,
                // The parts of a table are read side by side, and all of it lies in the first.
                Some((Request::Aws { target, body }, reply)) if target.ends_with("Scan") => {
                    scans += 1;
                    let body: Value = serde_json::from_str(&body).expect("AWS is asked in JSON");
                    if body["Segment"] == 0 {
                        first_segment = Some((Request::Aws { target, body: body.to_string() }, reply));
                    } else {
                        say(reply, &json!({"Items": [], "Count": 0, "ScannedCount": 0}));
                    }
                    match first_segment.take_if(|_| scans == SEGMENTS) {
                        Some(asked) => asked,
                        None => continue,
                    }
                }
                Some(asked) => asked,
            };
            let (request, reply) = asked;
            let request = without_what_differs(request, now, &mut own_token);
            match answers.next() {
                Some(answer) => {
                    told = Told::default();
                    answer_with(reply, self.answers.of(*answer), &own_token, now);
                }
                None => return Some((Next::Ask(self.requests.number_of(request)), told)),
            }
        }
    }
}

/// What is no step of its own: claims, which are always granted, so that nothing here is protected by them; and what is sent
/// to the queue of expiries and to the bus, which is told on.
fn at_once((request, reply): Asked, told: &mut Told) -> Option<Asked> {
    let Request::Aws { target, body } = &request else { return Some((request, reply)) };
    let input: Value = serde_json::from_str(body).expect("AWS is asked in JSON");
    let answer = match target.rsplit('.').next() {
        Some("SendMessageBatch") => {
            told.timer = true;
            let sent = input["Entries"].as_array().expect("entries").iter();
            let sent = sent.map(|entry| json!({"Id": entry["Id"], "MessageId": "sent", "MD5OfMessageBody": "0"}));
            json!({"Successful": sent.collect::<Vec<_>>(), "Failed": []})
        }
        Some("PutEvents") => {
            *told = told.and(Told::by(&input["Entries"]));
            let taken = input["Entries"].as_array().expect("entries").iter().map(|_| json!({"EventId": "taken"}));
            json!({"FailedEntryCount": 0, "Entries": taken.collect::<Vec<_>>()})
        }
        Some("UpdateItem") if input["TableName"] == TABLE => {
            let values = input["ExpressionAttributeValues"].as_object().expect("values").values();
            let owner = values.filter_map(|value| value["S"].as_str()).find(|text| Uuid::try_parse(text).is_ok());
            json!({"Attributes": {"owner": {"S": owner.expect("a claim has an owner")}}})
        }
        Some(_) | None => return Some((request, reply)),
    };
    say(reply, &answer);
    None
}

fn say(reply: oneshot::Sender<Answer>, body: &Value) {
    drop(reply.send(Answer::Http { status: 200, body: body.to_string() }));
}

/// Puts names in the place of moments and of the program's own token.
fn without_what_differs(request: Request, now: u64, own_token: &mut String) -> Request {
    let Request::Aws { target, body } = request else { return request };
    let mut body: Value = serde_json::from_str(&body).expect("AWS is asked in JSON");
    named(&mut body, now);
    for value in body["ExpressionAttributeValues"].as_object_mut().into_iter().flat_map(|values| values.values_mut()) {
        if let Some(text) = value["S"].as_str().filter(|text| Uuid::try_parse(text).is_ok()) {
            text.clone_into(own_token);
            value["S"] = SELF.into();
        }
    }
    Request::Aws { target, body: body.to_string() }
}

/// An answer of the table's has the phase in it that it was given in: `{phase, body}`.
fn answer_with(reply: oneshot::Sender<Answer>, answer: &Answer, own_token: &str, now: u64) {
    let answer = match answer {
        Answer::Http { status, body } => {
            let mut body: Value = serde_json::from_str(&body.replace(SELF, own_token)).unwrap_or_default();
            let phase = match body["phase"].as_u64() {
                None => None,
                Some(0) => Some(Phase::Early),
                Some(1) => Some(Phase::Late),
                Some(_) => Some(Phase::Overdue),
            };
            if let Some(phase) = phase {
                body = body["body"].take();
                moments(&mut body, phase, now);
            }
            Answer::Http { status: *status, body: body.to_string() }
        }
        Answer::Message(_) | Answer::Grpc(..) => answer.clone(),
    };
    drop(reply.send(answer));
}

/// What every program is made of.
struct PartsOfAll {
    settling: Clients,
    reservations: Arc<Reservations>,
    api: Router,
    relay: Relay,
    sweep: Sweep,
}

impl PartsOfAll {
    fn new(gate: &Gate) -> Self {
        let url = format!("http://{}", gate.http_address);
        let environment = BTreeMap::from(
            [
                ("RESERVATIONS_TABLE", RESERVATIONS),
                ("EXPIRY_QUEUE_URL", &format!("{url}/000000000000/reservation-expired")),
                ("EVENT_BUS_NAME", BUS),
                ("INVENTORY_GRPC_ADDR", &gate.grpc_address),
                ("PAYMENT_GRPC_ADDR", &gate.grpc_address),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let credentials = Credentials::new("test", "test", None, None, "test");
        let aws = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .endpoint_url(&url)
            .http_client(shared::client::aws::http::client())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            // Whether a lost answer leads to a second try is for the search to say.
            .retry_config(RetryConfig::disabled())
            .build();
        let mut parts = Parts::new("model", Reader::new(&environment), &aws);
        let reservations = Reservations::configured(&mut parts).map(Arc::new);
        let (relay, sweep) = (Relay::configured(&mut parts), Sweep::configured(&mut parts));
        let made = reservations.zip(relay).zip(sweep);
        let ((reservations, relay), sweep) = parts.reader.finish(made).expect("all variables are there");
        let api = reservation_api::router(reservations.clone());
        Self { settling: Clients::new(gate), reservations, api, relay, sweep }
    }

    fn run<'a>(&'a self, program: &'a Program, now: u64) -> Pin<Box<dyn Future<Output = End> + 'a>> {
        match program {
            Program::Of(role) => match role.event_type() {
                Some(event_type) => Box::pin(self.settle(catalogue::settler_of(event_type))),
                None if *role == Role::Sweep => Box::pin(self.sweep()),
                None => Box::pin(self.customer(*role)),
            },
            Program::Relay(item, phase) => Box::pin(self.relay(item, *phase, now)),
            Program::Api(request) => Box::pin(self.api(request)),
        }
    }

    async fn customer(&self, role: Role) -> End {
        let (wish, trace) = (wish(), TraceContext::default());
        let id = wish.reservation_id();
        let done = match role {
            Role::Create => self.reservations.create(&wish, None, &trace).await.map(|_| End::Held),
            Role::Cancel => self.reservations.cancel(&id, CUSTOMER).await.map(|_| End::GivenUp),
            Role::Extend => self.reservations.extend(&id, CUSTOMER, LONGER, "longer").await.map(|_| End::MoreTime),
            Role::Confirm => self.reservations.confirm(&id, CUSTOMER, PAYMENT, &trace).await.map(|_| End::Sold),
            Role::Approved
            | Role::Failed
            | Role::Cancelled
            | Role::Confirmed
            | Role::Expired
            | Role::Relay
            | Role::Sweep => panic!("{role:?} is no customer"),
        };
        match done {
            Ok(end) => end,
            Err(Error::NoSeats) => End::NoSeats,
            Err(error @ Error::OtherWish) => panic!("{role:?}: {error}"),
            Err(error) => End::Refused(error.to_string()),
        }
    }

    async fn settle(&self, function: Settling) -> End {
        let Settling { workflow, lost_race, .. } = function;
        let settler =
            Settler { workflow, services: self.settling.services(), lost_race: self.settling.lost_race(lost_race) };
        let (event_type, id) = (workflow.event_type, wish().reservation_id());
        let mut detail = event::detail(event_type, &id, EVENT, &[SEAT.to_owned()]);
        if event_type.is_of_a_payment() {
            detail["payment_intent_id"] = PAYMENT.into();
        }
        let body = event::envelope(event_type.name(), &detail).to_string();
        let event = Event::parse(event_type, &body).expect("a valid event");
        match settler.process(event, &TraceContext::default(), Deadline::stated(LEASE_END)).await {
            Ok(done) => End::Acknowledged(done.name()),
            Err(Failure::Transient { .. } | Failure::Early { .. }) => End::ComesBack,
            Err(Failure::Permanent { code, .. }) => End::DeadLettered(code),
        }
    }

    async fn relay(&self, item: &str, phase: Phase, now: u64) -> End {
        let mut item: Value = serde_json::from_str(item).expect("an item is JSON");
        moments(&mut item, phase, now);
        let item = serde_json::from_value(item).expect("an item as a stream brings it");
        let followed = self.relay.follow(&[Change { item: Some(item) }], Deadline::stated(LEASE_END)).await;
        followed.expect("the queue and the bus take everything");
        End::Over
    }

    async fn sweep(&self) -> End {
        self.sweep.sweep(Deadline::stated(LEASE_END)).await;
        End::Over
    }

    async fn api(&self, request: &Request) -> End {
        let Request::Rest { method, path, key, body } = request else { panic!("no REST request: {request:?}") };
        let mut request = http::Request::builder().method(method).uri(path).header("content-type", "application/json");
        if !key.is_empty() {
            request = request.header("idempotency-key", key);
        }
        let mut request = request.body(Body::from(body.clone())).expect("a request");
        let arn = "arn:aws:sts::000000000000:assumed-role/worker/model".to_owned();
        request.extensions_mut().insert(Caller::Iam { arn });
        request.extensions_mut().insert(TraceId::default());
        request.extensions_mut().insert(TraceContext::default());
        let answer = self.api.clone().call(request).await.expect("it always answers");
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), usize::MAX).await.expect("a body");
        let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
        without_moments(&mut body);
        End::Answered(Answer::Http { status, body: body.to_string() })
    }
}

/// Nobody decides by a moment in an answer of the API.
fn without_moments(value: &mut Value) {
    let is_moment = |value: &Value| {
        value.as_str().is_some_and(|text| text.len() >= 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z'))
    };
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, value| !is_moment(value));
        fields.values_mut().for_each(without_moments);
    }
}
