//! The reservation API over REST, as the workers call it, in memory.
//!
//! A change of status is decided in one step under one lock, so that of two workers that race for a reservation exactly
//! one wins, as the real service's conditional write would have it. What a test wants to see is kept: each call with its
//! raw target, and the terminal statuses that a reservation went through.

use std::{
    collections::{HashMap, VecDeque},
    fmt, future, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::Response,
};
use percent_encoding::percent_decode_str;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::net::TcpListener;

use crate::{
    latency::{self, Clock, TimedListener},
    tripwire::Tripwire,
};

const PATH: &str = "/internal/reservations/";

/// More than any body of this API; a larger one is a fault of the caller.
const BODY_LIMIT: usize = 64 * 1024;

/// How long a hold lasts, as of each look at it.
const HOLD: Duration = Duration::from_secs(60);

/// The server and its reservations; clones share them, so that a test keeps one while another serves.
#[derive(Clone, Default)]
pub struct Reservations {
    store: Arc<Mutex<Store>>,
}

/// A reservation as the API shows it, apart from its times.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Reservation {
    /// An opaque name, which may hold any character.
    pub reservation_id: String,
    /// The event whose seats it is for.
    pub event_id: String,
    /// Its customer.
    #[serde(default)]
    pub user_id: String,
    /// Where it is on its way.
    pub status: Status,
    /// The seats by name; empty where only a number was booked.
    #[serde(default)]
    pub seat_ids: Vec<String>,
    /// The number of places.
    #[serde(default)]
    pub quantity: u32,
    /// The payment that confirmed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payment_intent_id: Option<String>,
}

/// A reservation's status. All but `HOLD` and `PENDING` are terminal.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    /// Not yet held.
    Pending,
    /// Held for a short time; the only status that a worker can move it from.
    Hold,
    /// Paid in time.
    Confirmed,
    /// Given up, or its payment failed.
    Cancelled,
    /// Its time ran out.
    Expired,
    /// Went wrong at its creation.
    Failed,
    /// Paid, and paid back.
    Refunded,
}

/// One request as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The HTTP method.
    pub method: Method,
    /// Path and query before any decoding, so that a test sees how an id was encoded.
    pub target: String,
    /// The id after one decoding; absent where the target is none of this API's.
    pub reservation_id: Option<String>,
    /// The header by which the caller proved who it is.
    pub authorization: Option<String>,
    /// What tells a repeat from a new request.
    pub idempotency_key: Option<String>,
    /// The header by which the caller wants only what is not there.
    pub if_none_match: Option<String>,
    /// The trace that the caller continued.
    pub traceparent: Option<String>,
    /// The context that came with the trace.
    pub baggage: Option<String>,
    /// The body as text.
    pub body: String,
    /// The status of the answer; absent where none was given.
    pub answered: Option<u16>,
}

/// A scripted answer to one call, in place of what the rules say.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// This response, and no effect.
    Respond {
        /// The status code.
        status: u16,
        /// Headers beside the ones that HTTP needs.
        headers: Vec<(String, String)>,
        /// The body, sent as it is.
        body: String,
    },
    /// No answer ever, and no effect.
    Hang,
    /// The effect that the rules say, and then no answer: what a time-out hides from the caller.
    HangAfterEffect,
    /// The connection is closed before an answer, and there is no effect.
    CloseConnection,
}

impl Reservations {
    /// Serves until the task is dropped.
    pub async fn serve(self, listener: TcpListener) -> io::Result<()> {
        let routes = Router::new().fallback(handle).with_state(self);
        axum::serve(TimedListener(listener), routes.into_make_service_with_connect_info::<Clock>()).await
    }

    /// Lets a reservation be there. One of the same id begins anew: its history and its remembered answers are gone.
    pub fn put(&self, reservation: Reservation) {
        let mut store = self.lock();
        store.remembered.retain(|_, first| first.reservation_id != reservation.reservation_id);
        let now = now();
        let entry = Entry {
            transitions: Some(reservation.status).filter(|status| status.is_terminal()).into_iter().collect(),
            created_at: now.clone(),
            updated_at: now,
            reservation,
        };
        store.entries.insert(entry.reservation.reservation_id.clone(), entry);
    }

    /// The reservation as it is now.
    pub fn get(&self, reservation_id: &str) -> Option<Reservation> {
        self.lock().entries.get(reservation_id).map(|entry| entry.reservation.clone())
    }

    /// Every call so far, in the order in which they were decided; a look at whether the API is there is none.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Every look at whether the API is there, which is a HEAD of what is no reservation.
    pub fn probes(&self) -> Vec<Call> {
        self.lock().probes.clone()
    }

    /// Delays every answer until so long after its request, but not the effect: a caller that gives up waiting has moved the
    /// reservation all the same.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Lets every request from now on pass this wire.
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        self.lock().tripwire = tripwire;
    }

    /// From now on, a call without this bearer token is turned away.
    pub fn require_token(&self, token: &str) {
        self.lock().token = Some(token.to_owned());
    }

    /// Prepares the answer to the next call of this method for the reservation; several are used up in order.
    pub fn answer_next(&self, reservation_id: &str, method: Method, answer: Scripted) {
        self.lock().scripts.entry((reservation_id.to_owned(), method)).or_default().push_back(answer);
    }

    /// The terminal statuses that the reservation went through; more than one is a fault of whoever moved it.
    pub fn transitions(&self, reservation_id: &str) -> Vec<Status> {
        self.lock().entries.get(reservation_id).map(|entry| entry.transitions.clone()).unwrap_or_default()
    }

    /// A panic elsewhere leaves the store readable: a test then reports its own failure rather than a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Status {
    /// Whether nothing can come after it here.
    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Hold => false,
            Self::Confirmed | Self::Cancelled | Self::Expired | Self::Failed | Self::Refunded => true,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING",
            Self::Hold => "HOLD",
            Self::Confirmed => "CONFIRMED",
            Self::Cancelled => "CANCELLED",
            Self::Expired => "EXPIRED",
            Self::Failed => "FAILED",
            Self::Refunded => "REFUNDED",
        })
    }
}

#[derive(Default)]
struct Store {
    entries: HashMap<String, Entry>,
    remembered: HashMap<String, First>,
    calls: Vec<Call>,
    probes: Vec<Call>,
    scripts: HashMap<(String, Method), VecDeque<Scripted>>,
    latency: Duration,
    token: Option<String>,
    tripwire: Tripwire,
}

struct Entry {
    reservation: Reservation,
    transitions: Vec<Status>,
    created_at: String,
    updated_at: String,
}

/// The request that an idempotency key was first granted to, with its answer. A refusal is not remembered: it may be
/// different once the reservation is visible or repaired, and the caller asks again under the same key.
struct First {
    reservation_id: String,
    body: String,
    reply: Reply,
}

#[derive(Clone)]
struct Reply {
    status: StatusCode,
    body: Value,
}

#[derive(Deserialize)]
struct Change {
    status: String,
    payment_intent_id: Option<String>,
}

/// What happens on the connection.
enum Action {
    Send(Response),
    Silence,
    Close,
}

async fn handle(State(reservations): State<Reservations>, request: Request) -> Response {
    let arrived = latency::arrival(request.extensions()).await;
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "INVALID_REQUEST", "body is too large").into_response();
    };
    let call = Call {
        reservation_id: parts.uri.path().strip_prefix(PATH).and_then(decode),
        target: parts.uri.to_string(),
        authorization: header_of(&parts.headers, "authorization"),
        idempotency_key: header_of(&parts.headers, "idempotency-key"),
        if_none_match: header_of(&parts.headers, "if-none-match"),
        traceparent: header_of(&parts.headers, "traceparent"),
        baggage: header_of(&parts.headers, "baggage"),
        method: parts.method,
        body: String::from_utf8_lossy(&body).into_owned(),
        answered: None,
    };
    let tripwire = reservations.lock().tripwire.clone();
    let passage = tripwire.arrive(call.method.as_str()).await;
    let (latency, action) = {
        let mut store = reservations.lock();
        (store.latency, store.receive(call))
    };
    passage.leave().await;
    latency::wait(arrived, latency).await;
    match action {
        Action::Send(response) => response,
        Action::Silence => future::pending().await,
        // Unwinding ends the connection's task, and this way no panic message goes to the terminal.
        Action::Close => std::panic::resume_unwind(Box::new("the connection is closed on demand")),
    }
}

impl Store {
    fn receive(&mut self, mut call: Call) -> Action {
        let named = call.reservation_id.clone().map(|id| (id, call.method.clone()));
        let script = named.and_then(|named| self.scripts.get_mut(&named)).and_then(VecDeque::pop_front);
        let action = match script {
            None => Action::Send(self.decide(&call).into_response()),
            Some(Scripted::Respond { status, headers, body }) => Action::Send(prepared(status, &headers, body)),
            Some(Scripted::Hang) => Action::Silence,
            Some(Scripted::HangAfterEffect) => {
                self.decide(&call);
                Action::Silence
            }
            Some(Scripted::CloseConnection) => Action::Close,
        };
        call.answered = match &action {
            Action::Send(response) => Some(response.status().as_u16()),
            Action::Silence | Action::Close => None,
        };
        let asks_nothing = call.method == Method::HEAD && call.reservation_id.is_none();
        if asks_nothing {
            self.probes.push(call)
        } else {
            self.calls.push(call)
        }
        action
    }

    fn decide(&mut self, call: &Call) -> Reply {
        let reply = self.answer(call);
        reply.with_trace(call.traceparent.as_deref())
    }

    fn answer(&mut self, call: &Call) -> Reply {
        let wanted = self.token.as_ref().map(|token| format!("Bearer {token}"));
        if wanted.is_some() && wanted != call.authorization {
            return refusal(StatusCode::UNAUTHORIZED, "AUTHENTICATION_FAILED", "the token is missing or wrong");
        }
        let Some(id) = &call.reservation_id else {
            return refusal(StatusCode::NOT_FOUND, "NOT_FOUND", "no such resource");
        };
        match call.method {
            Method::GET => self.entries.get(id).map_or_else(not_found, Entry::show),
            Method::PATCH => self.change(id, call),
            Method::PUT if call.if_none_match.as_deref() == Some("*") => self.entomb(id),
            Method::PUT => refusal(StatusCode::BAD_REQUEST, "INVALID_REQUEST", "If-None-Match must be *"),
            _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", "only GET, PATCH and PUT are here"),
        }
    }

    /// Ends a reservation that is not there, so that nobody can make it.
    fn entomb(&mut self, id: &str) -> Reply {
        let body = json!({"reservation_id": id, "status": Status::Expired});
        match self.entries.get(id) {
            Some(entry) if entry.is_tombstone() => Reply { status: StatusCode::OK, body },
            Some(entry) => Reply { status: StatusCode::PRECONDITION_FAILED, ..entry.show() },
            None => {
                let reservation = Reservation {
                    reservation_id: id.to_owned(),
                    event_id: String::new(),
                    user_id: String::new(),
                    status: Status::Expired,
                    seat_ids: Vec::new(),
                    quantity: 0,
                    payment_intent_id: None,
                };
                let (created_at, updated_at) = (now(), now());
                let entry = Entry { reservation, transitions: vec![Status::Expired], created_at, updated_at };
                self.entries.insert(id.to_owned(), entry);
                Reply { status: StatusCode::CREATED, body }
            }
        }
    }

    fn change(&mut self, id: &str, call: &Call) -> Reply {
        let bad = |message| refusal(StatusCode::BAD_REQUEST, "INVALID_REQUEST", message);
        let Some(key) = call.idempotency_key.clone().filter(|key| !key.is_empty()) else {
            return refusal(StatusCode::BAD_REQUEST, "MISSING_IDEMPOTENCY_KEY", "Idempotency-Key is missing");
        };
        let Ok(change) = serde_json::from_str::<Change>(&call.body) else {
            return bad("the body is not a change of status");
        };
        let Ok(target) = serde_json::from_value::<Status>(Value::String(change.status)) else {
            return bad("the status is not known");
        };
        let payment = match target {
            Status::Cancelled | Status::Expired => None,
            Status::Confirmed => match change.payment_intent_id.filter(|payment| !payment.is_empty()) {
                Some(payment) => Some(payment),
                None => return bad("payment_intent_id is missing"),
            },
            Status::Pending | Status::Hold | Status::Failed | Status::Refunded => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return refusal(status, "INVALID_STATUS", "no reservation is moved to that status");
            }
        };
        if let Some(first) = self.remembered.get(&key) {
            if first.reservation_id == id && first.body == call.body {
                return first.reply.clone();
            }
            let status = StatusCode::UNPROCESSABLE_ENTITY;
            return refusal(status, "IDEMPOTENCY_CONFLICT", "the key belongs to another request");
        }
        let Some(entry) = self.entries.get_mut(id) else {
            return not_found();
        };
        let reply = entry.change(target, payment);
        if reply.status == StatusCode::OK {
            let first = First { reservation_id: id.to_owned(), body: call.body.clone(), reply: reply.clone() };
            self.remembered.insert(key, first);
        }
        reply
    }
}

impl Entry {
    fn change(&mut self, target: Status, payment: Option<String>) -> Reply {
        let current = self.reservation.status;
        if current == Status::Hold {
            self.reservation.status = target;
            self.reservation.payment_intent_id = payment;
            self.updated_at = now();
            self.transitions.push(target);
        } else if current != target {
            let message = format!("the reservation is {current}");
            let mut reply = refusal(StatusCode::CONFLICT, "RESERVATION_STATE_CONFLICT", &message);
            reply.body["status"] = json!(current);
            return reply;
        }
        self.show()
    }

    /// Whether it was ended before anybody made it.
    fn is_tombstone(&self) -> bool {
        self.reservation.event_id.is_empty() && self.reservation.status == Status::Expired
    }

    fn show(&self) -> Reply {
        let mut body = json!(self.reservation);
        // What is on hold here stays so until a worker moves it.
        let end = OffsetDateTime::now_utc() + HOLD;
        body["hold_expires_at"] = json!(end.format(&Rfc3339).unwrap_or_default());
        body["was_held"] = json!(!matches!(self.reservation.status, Status::Pending | Status::Failed));
        body["created_at"] = json!(self.created_at);
        body["updated_at"] = json!(self.updated_at);
        Reply { status: StatusCode::OK, body }
    }
}

impl Reply {
    /// An error names the trace that it belongs to, where the caller sent one.
    fn with_trace(mut self, traceparent: Option<&str>) -> Self {
        if let Some(error) = self.body.get_mut("error") {
            error["trace_id"] = json!(traceparent.and_then(|parent| parent.split('-').nth(1)).unwrap_or_default());
        }
        self
    }

    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE.to_string(), "application/json".to_owned())];
        prepared(self.status.as_u16(), &headers, self.body.to_string())
    }
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Reply {
    Reply { status, body: json!({"error": {"code": code, "message": message, "trace_id": ""}}) }
}

fn not_found() -> Reply {
    refusal(StatusCode::NOT_FOUND, "RESERVATION_NOT_FOUND", "no such reservation")
}

/// A response that cannot be put together is a fault of the test, and the text of the 500 says which.
fn prepared(status: u16, headers: &[(String, String)], body: String) -> Response {
    let builder = Response::builder().status(status);
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(name, value));
    builder.body(Body::from(body)).unwrap_or_else(|error| {
        let mut response = Response::new(Body::from(format!("prepared answer: {error}")));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    })
}

/// One non-empty segment, decoded once: what was encoded twice stays encoded once.
fn decode(segment: &str) -> Option<String> {
    if segment.is_empty() || segment.contains('/') {
        return None;
    }
    percent_decode_str(segment).decode_utf8().ok().map(Into::into)
}

fn header_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn now() -> String {
    OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests;
