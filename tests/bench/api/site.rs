//! A stack with the API on it, and the books of what was asked of it.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    time::Duration,
};

use axum::{
    body::Bytes,
    http::{HeaderName, HeaderValue, Request, header},
};
use local_stack::{
    build::workspace,
    http_event::HttpEvent,
    inventory::SeatState,
    lambda::{Function, FunctionOptions, Invocation},
    payments::{Course, Order},
    stack::{RESERVATIONS, Stack},
};
use serde_json::{Value, json};

use crate::{
    stop::Stop,
    workplace::{NO_OP, Workplace},
};

/// The function that is measured.
pub(crate) const API: &str = "reservation-api";

/// The size of the function, as the template sets it.
pub(crate) const MEMORY_MB: u32 = 512;

/// As the template has it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long a service may take before its caller gives up: longer than in the template, so that a machine which stops for a
/// second shows in the slowest requests, and does not end the run.
const PATIENCE_MS: &str = "4000";

/// The show that all want to see.
pub(super) const SHOW: &str = "evt_2026_1018";

/// Who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Our function.
    Ours,
    /// A create in Node, whose program this is.
    Peer(PathBuf),
}

impl Who {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Ours => API,
            Self::Peer(_) => "Node with Powertools",
        }
    }

    /// What can be asked of it.
    pub(super) fn serves(&self) -> &'static [Asked] {
        match self {
            Self::Ours => &[Asked::Create, Asked::Get, Asked::Confirm],
            Self::Peer(_) => &[Asked::Create],
        }
    }

    /// What the calls take that it makes one after the other. The peer's idempotency costs two writes more, and it saves one
    /// by writing no reservation before it has seats.
    pub(crate) fn calls_ms(&self, asked: Asked) -> u32 {
        let own = Latencies::NEARBY.limit_ms(asked);
        match self {
            Self::Ours => own,
            Self::Peer(_) => own + Latencies::NEARBY.table_ms,
        }
    }
}

/// What is asked of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Two tickets for a customer who has none yet.
    Create,
    /// The reservation as it is.
    Get,
    /// That its payment confirms it.
    Confirm,
}

impl Asked {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Get => "get",
            Self::Confirm => "confirm",
        }
    }
}

/// How long each service takes to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Latencies {
    pub(crate) table_ms: u32,
    pub(crate) inventory_ms: u32,
    pub(crate) payments_ms: u32,
}

impl Latencies {
    /// The services answer at once, so that only our own work shows.
    pub(crate) const NONE: Self = Self { table_ms: 0, inventory_ms: 0, payments_ms: 0 };
    /// Those that issue and design count with.
    pub(crate) const NEARBY: Self = Self { table_ms: 8, inventory_ms: 40, payments_ms: 8 };

    /// What nobody can do without who answers this: the calls that wait for each other.
    pub(crate) fn limit_ms(self, asked: Asked) -> u32 {
        match asked {
            Asked::Create => self.table_ms + self.inventory_ms + self.table_ms,
            Asked::Get => self.table_ms,
            Asked::Confirm => self.table_ms + self.payments_ms + self.table_ms,
        }
    }
}

/// A reservation that was made.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) id: String,
    pub(super) user: String,
    confirmed: bool,
}

impl Made {
    pub(super) fn held(id: String, user: String) -> Self {
        Self { id, user, confirmed: false }
    }
}

pub(super) struct Site {
    pub(super) stack: Stack,
    pub(super) function: Function,
    no_op: Function,
    made: Vec<Made>,
    /// So many of them were confirmed, the oldest first.
    confirmed: usize,
    process: Option<u32>,
}

impl Site {
    /// The API with so many environments; a single one has a core to itself, if there is one.
    pub(super) async fn set(workplace: &Workplace, who: &Who, environments: usize) -> Result<Self, Stop> {
        let stack = Stack::start().await?;
        stack.inventory.stock(SHOW, &[], 100_000_000);
        let core = workplace.own_cores().map(|(_, function)| function).filter(|_| environments == 1);
        let deploy = |name: &str, binary: PathBuf, environment: BTreeMap<String, String>| {
            let (name, timeout, memory_mb) = (name.to_owned(), TIMEOUT, MEMORY_MB);
            Function::start(FunctionOptions { name, binary, environment, timeout, environments, memory_mb, core })
        };
        let built = |name: &str| workplace.binaries.get(name).cloned().ok_or(Stop::unable("a function was not built"));
        let mut environment = stack.environment(API);
        let patience =
            ["INVENTORY_TIMEOUT_MS", "PAYMENT_TIMEOUT_MS"].map(|name| (name.to_owned(), PATIENCE_MS.to_owned()));
        environment.extend(patience);
        let binary = match who {
            Who::Ours => built(API)?,
            Who::Peer(program) => {
                environment.insert("PROTO".to_owned(), workspace().join("proto").display().to_string());
                program.clone()
            }
        };
        let (function, no_op) = (deploy(API, binary, environment)?, deploy(NO_OP, built(NO_OP)?, BTreeMap::new())?);
        Ok(Self { stack, function, no_op, made: Vec::new(), confirmed: 0, process: None })
    }

    /// Delays every answer from now on.
    pub(super) fn delay(&self, by: Latencies) {
        let of = |milliseconds: u32| Duration::from_millis(milliseconds.into());
        self.stack.aws.set_latency(of(by.table_ms));
        self.stack.inventory.set_latency(of(by.inventory_ms));
        self.stack.payments.set_latency(of(by.payments_ms));
    }

    /// The process that answered last.
    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    /// Lets the next request find no process.
    pub(super) fn recycle(&self) {
        self.function.recycle();
        self.no_op.recycle();
    }

    /// Makes sure that so many reservations can be asked this.
    pub(super) async fn prepare(&mut self, asked: Asked, requests: usize) -> Result<(), Stop> {
        let missing = match asked {
            Asked::Create => 0,
            Asked::Get => usize::from(self.made.is_empty()),
            Asked::Confirm => (self.confirmed + requests).saturating_sub(self.made.len()),
        };
        for _ in 0..missing {
            self.create().await?;
        }
        self.stack.aws.clear_requests(); // Nobody reads them here, and they would only grow.
        Ok(())
    }

    /// Asks, and makes sure of the answer.
    pub(super) async fn ask(&mut self, asked: Asked) -> Result<Invocation, Stop> {
        self.prepare(asked, 1).await?;
        match asked {
            Asked::Create => self.create().await,
            Asked::Get => {
                let Some(last) = self.made.last() else { return Err(Stop::unable("nothing was made")) };
                let (path, id) = (format!("/v1/reservations/{}", last.id), last.id.clone());
                let (invocation, body) = self.invoke(&event("GET", &path, &last.user, None, None), 200).await?;
                if body["reservationId"] == *id { Ok(invocation) } else { Err(Stop::invalid(format!("{id}: {body}"))) }
            }
            Asked::Confirm => {
                let made = &self.made[self.confirmed];
                let order = Order {
                    reservation_id: made.id.clone(),
                    user_id: made.user.clone(),
                    amount: 7_600,
                    currency: "USD".to_owned(),
                    course: Course::Approved,
                };
                let intent = self.stack.payments.pay(order);
                let wish = json!({"reservationId": made.id, "paymentIntentId": intent});
                let event = event("POST", "/v1/reservations/confirm", &made.user, None, Some(&wish));
                let (invocation, body) = self.invoke(&event, 200).await?;
                if body["status"] != "CONFIRMED" {
                    return Err(Stop::invalid(format!("a confirm was answered {body}")));
                }
                self.made[self.confirmed].confirmed = true;
                self.confirmed += 1;
                Ok(invocation)
            }
        }
    }

    /// Hands the no-op an event that it takes.
    pub(super) async fn ask_no_op(&self) -> Result<Invocation, Stop> {
        let invocation = self.no_op.invoke(r#"{"Records": []}"#).await;
        if invocation.result.is_ok() { Ok(invocation) } else { Err(Stop::invalid(format!("{invocation:?}"))) }
    }

    /// Notes what others have made here.
    pub(super) fn note(&mut self, made: Vec<Made>) {
        self.made.extend(made);
    }

    async fn create(&mut self) -> Result<Invocation, Stop> {
        let nth = self.made.len();
        let user = format!("usr_{nth}");
        let event = event("POST", "/v1/reservations", &user, Some(&format!("key-{nth}")), Some(&wish()));
        let (invocation, body) = self.invoke(&event, 201).await?;
        let id = made(&body).ok_or_else(|| Stop::invalid(format!("a create was answered {body}")))?;
        self.made.push(Made::held(id, user));
        Ok(invocation)
    }

    async fn invoke(&mut self, event: &str, expected: u64) -> Result<(Invocation, Value), Stop> {
        let invocation = self.function.invoke(event.to_owned()).await;
        let answer = invocation.result.as_ref().ok().and_then(|answer| serde_json::from_slice::<Value>(answer).ok());
        let answer = answer.unwrap_or_default();
        if answer["statusCode"] != expected {
            let said = format!("{answer} and logged {:?}", invocation.logs);
            return Err(Stop::invalid(format!(
                "{event} was not answered {expected}: {:?}; {said}",
                invocation.result.err()
            )));
        }
        self.process = invocation.process;
        let body = serde_json::from_str(answer["body"].as_str().unwrap_or_default()).unwrap_or_default();
        Ok((invocation, body))
    }

    /// Ends the measurement: each reservation that was told stands in the table as told, its two tickets were taken once, and
    /// there is no other.
    pub(super) async fn close(self) -> Result<(), Stop> {
        let mut faults = self.stack.inventory.oversold();
        let mut effects: HashMap<String, usize> = HashMap::new();
        for call in self.stack.inventory.calls().into_iter().filter(|call| call.had_effect) {
            *effects.entry(call.reservation_id).or_default() += 1;
        }
        let items = self.stack.aws.scan(RESERVATIONS).await?;
        let text = |item: &Value, name: &str| item[name]["S"].as_str().unwrap_or_default().to_owned();
        let mut found: HashMap<String, String> =
            items.iter().map(|item| (text(item, "id"), text(item, "status"))).collect();
        for Made { id, confirmed, .. } in &self.made {
            let expected = if *confirmed { "CONFIRMED" } else { "HOLD" };
            let status = found.remove(id);
            if status.as_deref() != Some(expected) {
                faults.push(format!("{id} is {status:?}, and not {expected}"));
            }
            let (seats, moved) = (self.stack.inventory.seat_state(id), effects.get(id).copied().unwrap_or_default());
            if seats != SeatState::Held || moved != 1 {
                faults.push(format!("{id}: its seats are {seats} and were moved {moved} times"));
            }
        }
        faults.extend(found.into_keys().map(|id| format!("{id} is there, and nobody was told of it")));
        if faults.is_empty() { Ok(()) } else { Err(Stop::Invalid(faults)) }
    }
}

/// What every create asks for.
pub(super) fn wish() -> Value {
    json!({"eventId": SHOW, "quantity": 2})
}

/// The reservation that an answer tells of; nothing, where it tells of no hold.
pub(super) fn made(body: &Value) -> Option<String> {
    body["reservationId"].as_str().filter(|_| body["status"] == "HOLD").map(str::to_owned)
}

/// The event of a customer's request, as API Gateway makes it.
fn event(method: &str, path: &str, user: &str, key: Option<&str>, body: Option<&Value>) -> String {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut request = Request::new(Bytes::from(body));
    // All of these are constants, or made of letters and digits here.
    if let (Ok(method), Ok(uri)) = (method.parse(), path.parse()) {
        (*request.method_mut(), *request.uri_mut()) = (method, uri);
    }
    let key = key.and_then(|key| key.parse().ok());
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_static("api.example.com"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.extend(key.map(|key| (HeaderName::from_static("idempotency-key"), key)));
    let authorizer = Some(json!({"jwt": {"claims": {"sub": user}, "scopes": null}}));
    HttpEvent { authorizer, ..HttpEvent::on("ANY /v1/{proxy+}", path) }.of(&request).to_string()
}
