//! A realtime service over gRPC that lives in memory: it knows who is connected, and keeps what they were told.
//!
//! It refuses what names nobody, and tells whoever calls it whether anybody has got the message. It never waits for a customer
//! to come, and never sends a message later.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::value::RawValue;
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    service::Routes,
    transport::{Server, server::ServerTlsConfig},
};

use crate::{
    inventory::ServeError,
    proto::realtime::v1::{
        BroadcastEventRequest, BroadcastEventResponse, NotifyBookingResultRequest, NotifyBookingResultResponse,
        NotifyQueuePositionRequest, NotifyQueuePositionResponse,
        realtime_service_server::{RealtimeService, RealtimeServiceServer, SERVICE_NAME},
    },
    reflection::serve,
    tripwire::Tripwire,
};

/// The server and its books; clones share them, so that a test keeps one while another serves.
#[derive(Clone, Default)]
pub struct Realtime {
    books: Arc<Mutex<Books>>,
}

/// A message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Push {
    /// To one customer, about his place in a line.
    Place {
        /// The customer.
        user_id: String,
        /// The event that the line is for.
        event_id: String,
        /// As on the wire, where nothing keeps it from being negative.
        position: i32,
    },
    /// To one customer, about his booking.
    Booking {
        /// The customer.
        user_id: String,
        /// The event that the booking is for.
        event_id: String,
        /// The booking.
        booking_id: String,
        /// Whether it was made.
        success: bool,
        /// Text for people.
        message: String,
    },
    /// To everybody who looks at an event.
    Everybody {
        /// The event.
        event_id: String,
        /// What it is called.
        event_type: String,
        /// What it says, as JSON.
        payload: String,
    },
}

/// A message as it arrived.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The message.
    pub push: Push,
    /// How many connections have got it.
    pub recipients: usize,
    /// The trace that the caller continued.
    pub traceparent: Option<String>,
}

/// A scripted answer to one call, in place of what the rules say.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// A gRPC status, and nobody is told.
    Status(Code, String),
    /// No answer ever, and nobody is told.
    Hang,
    /// Who is connected is told, and then there is no answer.
    HangAfterEffect,
}

#[derive(Default)]
struct Books {
    /// The events that each customer looks at, by his connections.
    connections: BTreeMap<String, Vec<BTreeSet<String>>>,
    calls: Vec<Call>,
    scripts: VecDeque<Scripted>,
    tripwire: Tripwire,
}

impl Realtime {
    /// Serves until the task is dropped, with reflection.
    ///
    /// # Errors
    /// When the listener or the protocol fails.
    pub async fn serve(self, listener: TcpListener) -> Result<(), ServeError> {
        serve(Server::builder(), Routes::new(RealtimeServiceServer::new(self)), SERVICE_NAME, listener).await
    }

    /// As [`Self::serve`], to callers that speak TLS.
    ///
    /// # Errors
    /// When the listener or the protocol fails.
    pub async fn serve_tls(self, listener: TcpListener, tls: ServerTlsConfig) -> Result<(), ServeError> {
        let routes = Routes::new(RealtimeServiceServer::new(self));
        serve(Server::builder().tls_config(tls)?, routes, SERVICE_NAME, listener).await
    }

    /// Lets a customer have one more connection, by which he looks at an event.
    pub fn connect(&self, user_id: &str, event_id: &str) {
        let looks_at = BTreeSet::from([event_id.to_owned()]);
        self.lock().connections.entry(user_id.to_owned()).or_default().push(looks_at);
    }

    /// Every call so far that was not refused, in the order in which the books saw them.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// What somebody has got so far.
    pub fn heard(&self) -> Vec<Push> {
        self.calls().into_iter().filter(|call| call.recipients > 0).map(|call| call.push).collect()
    }

    /// Prepares the answer to the next call; several are used up in order.
    pub fn answer_next(&self, answer: Scripted) {
        self.lock().scripts.push_back(answer);
    }

    /// Lets every request from now on pass this wire.
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        self.lock().tripwire = tripwire;
    }

    /// Tells whom it is for. The answer is how many connections have got it.
    async fn push(&self, method: &str, metadata: &MetadataMap, push: Push) -> Result<usize, Status> {
        let tripwire = self.lock().tripwire.clone();
        let passage = tripwire.arrive(method).await;
        let (script, recipients) = {
            let mut books = self.lock();
            let script = books.scripts.pop_front();
            let recipients = match &script {
                Some(Scripted::Status(..) | Scripted::Hang) => 0,
                Some(Scripted::HangAfterEffect) | None => books.tell(push, metadata),
            };
            (script, recipients)
        };
        passage.leave().await;
        match script {
            Some(Scripted::Status(code, message)) => Err(Status::new(code, message)),
            Some(Scripted::Hang | Scripted::HangAfterEffect) => future::pending().await,
            None => Ok(recipients),
        }
    }

    /// A panic elsewhere leaves the books readable: a test then reports its own failure rather than a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn tell(&mut self, push: Push, metadata: &MetadataMap) -> usize {
        let of = |user_id: &str| self.connections.get(user_id).map_or(0, Vec::len);
        let recipients = match &push {
            Push::Place { user_id, .. } | Push::Booking { user_id, .. } => of(user_id),
            // What is no JSON can't be sent on as such.
            Push::Everybody { payload, .. } if serde_json::from_str::<&RawValue>(payload).is_err() => 0,
            Push::Everybody { event_id, .. } => {
                self.connections.values().flatten().filter(|looks_at| looks_at.contains(event_id)).count()
            }
        };
        let traceparent = metadata.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.calls.push(Call { push, recipients, traceparent });
        recipients
    }
}

impl Push {
    /// The event that it is about.
    pub fn event_id(&self) -> &str {
        match self {
            Self::Place { event_id, .. } | Self::Booking { event_id, .. } | Self::Everybody { event_id, .. } => {
                event_id
            }
        }
    }
}

impl fmt::Display for Push {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Place { user_id, position, .. } => write!(f, "{user_id}: position {position}"),
            Self::Booking { user_id, success: true, booking_id, .. } => write!(f, "{user_id}: has {booking_id}"),
            Self::Booking { user_id, success: false, booking_id, .. } => write!(f, "{user_id}: lost {booking_id}"),
            Self::Everybody { event_type, .. } => write!(f, "all: {event_type}"),
        }
    }
}

fn required(fields: &[(&str, &str)]) -> Result<(), Status> {
    match fields.iter().find(|(_, value)| value.is_empty()) {
        Some((name, _)) => Err(Status::invalid_argument(format!("{name} is required"))),
        None => Ok(()),
    }
}

fn count(recipients: usize) -> i32 {
    recipients.try_into().unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl RealtimeService for Realtime {
    async fn notify_booking_result(
        &self,
        request: Request<NotifyBookingResultRequest>,
    ) -> Result<Response<NotifyBookingResultResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        required(&[("user_id", &asked.user_id), ("booking_id", &asked.booking_id)])?;
        let NotifyBookingResultRequest { user_id, event_id, booking_id, success, message, .. } = asked;
        let push = Push::Booking { user_id, event_id, booking_id, success, message };
        let recipients = self.push("NotifyBookingResult", &metadata, push).await?;
        let (delivered, active_connections) = (recipients > 0, count(recipients));
        Ok(Response::new(NotifyBookingResultResponse { delivered, active_connections }))
    }

    async fn notify_queue_position(
        &self,
        request: Request<NotifyQueuePositionRequest>,
    ) -> Result<Response<NotifyQueuePositionResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        required(&[("user_id", &asked.user_id), ("event_id", &asked.event_id)])?;
        let NotifyQueuePositionRequest { user_id, event_id, position, .. } = asked;
        let push = Push::Place { user_id, event_id, position };
        let delivered = self.push("NotifyQueuePosition", &metadata, push).await? > 0;
        Ok(Response::new(NotifyQueuePositionResponse { delivered }))
    }

    async fn broadcast_event(
        &self,
        request: Request<BroadcastEventRequest>,
    ) -> Result<Response<BroadcastEventResponse>, Status> {
        let (metadata, _, asked) = request.into_parts();
        required(&[("event_type", &asked.event_type), ("room", &asked.room)])?;
        let BroadcastEventRequest { event_type, room: event_id, payload, .. } = asked;
        let push = Push::Everybody { event_id, event_type, payload };
        let recipients = count(self.push("BroadcastEvent", &metadata, push).await?);
        Ok(Response::new(BroadcastEventResponse { recipients }))
    }
}
