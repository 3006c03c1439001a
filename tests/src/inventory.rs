//! An inventory over gRPC that lives in memory and holds its callers to the rules.
//!
//! It never sells a seat twice, never frees what is sold and never gives stock back twice; a worker that asks for such a
//! thing is refused, so that its fault shows. What it did is kept in a ledger, which [`Inventory::oversold`] checks apart
//! from the rules. Holds do not end by themselves: that is the worker's task, and the tests must see when it fails.

use std::{
    fmt, future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tonic::{
    Code, Request, Response, Status,
    metadata::MetadataMap,
    service::Routes,
    transport::{Server, server::ServerTlsConfig},
};

use self::books::{Act, Books, Stock, audit};
use crate::{
    latency::{self, Arrival},
    proto::{
        common::v1::{Error, ErrorCode, Money, Seat, SeatStatus},
        reservation::v1::{
            CheckAvailabilityRequest, CheckAvailabilityResponse, CommitReservationRequest, CommitReservationResponse,
            GetInventoryStatusRequest, GetInventoryStatusResponse, HoldStatus, ReleaseHoldRequest, ReleaseHoldResponse,
            ReserveSeatRequest, ReserveSeatResponse,
            inventory_service_server::{InventoryService, InventoryServiceServer, SERVICE_NAME},
        },
    },
    reflection::serve,
    tripwire::Tripwire,
};

mod books;

#[cfg(test)]
mod tests;

/// The server and its books; clones share them, so that a test keeps one while another serves.
#[derive(Clone, Default)]
pub struct Inventory {
    books: Arc<Mutex<Books>>,
    tripwire: Arc<Mutex<Tripwire>>,
}

/// Where the seats or the quantity of a reservation stand.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SeatState {
    /// Nothing was ever held for it.
    Unknown,
    /// Taken out of the stock, but not paid.
    Held,
    /// Taken for good.
    Sold,
    /// Was held, and was given back.
    Free,
}

/// The remote procedures, as the log of calls names them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Method {
    /// Asks what is free; changes nothing.
    CheckAvailability,
    /// Places a hold.
    ReserveSeat,
    /// Sells what is held.
    CommitReservation,
    /// Gives a hold back.
    ReleaseHold,
    /// Counts an event's stock; changes nothing.
    GetInventoryStatus,
}

/// One request as it arrived. Fields that its method does not have are empty.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Call {
    /// The procedure that was called.
    pub method: Method,
    /// The reservation it was about.
    pub reservation_id: String,
    /// The event whose stock it named.
    pub event_id: String,
    /// The seats it named, in its order.
    pub seat_ids: Vec<String>,
    /// As on the wire, where nothing keeps it from being negative.
    pub quantity: i32,
    /// Why a hold was to be given back.
    pub reason: String,
    /// The payment that a sale was for.
    pub payment_intent_id: String,
    /// The customer that a hold or a sale was for.
    pub user_id: String,
    /// Until when a hold was wished for.
    pub hold_expires_at: Option<SystemTime>,
    /// What tells a repeat from a new request.
    pub idempotency_key: String,
    /// What the caller would prove who it is with. It has nothing to prove by a header, so a test looks that there is none.
    pub authorization: Option<String>,
    /// The trace that the caller continued.
    pub traceparent: Option<String>,
    /// The context that came with the trace.
    pub baggage: Option<String>,
    /// Whether the books changed, so that a test can count effects rather than calls.
    pub had_effect: bool,
}

/// A commit's own status; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum CommitStatus {
    /// What a server that leaves the field out sends.
    Unspecified = 0,
    /// Sold, now or before.
    Success = 1,
    /// The payment does not stand.
    FailedPayment = 2,
    /// The hold had been given back.
    FailedExpired = 3,
    /// Another reservation has the seats, or the hold is for something else.
    FailedConflict = 4,
}

/// A release's own status; the numbers are those of the contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(i32)]
pub enum ReleaseStatus {
    /// What a server that leaves the field out sends.
    Unspecified = 0,
    /// Given back by this call.
    Success = 1,
    /// Given back by an earlier one.
    AlreadyReleased = 2,
    /// There never was a hold.
    NotFound = 3,
    /// Not given back.
    Failed = 4,
}

/// A scripted answer to one call, in place of what the rules say. Only [`Scripted::HangAfterEffect`] touches the books.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// A gRPC status.
    Status(Code, String),
    /// An error inside a response that is otherwise empty. The code is a number, so that unknown ones can be sent.
    Error {
        /// Number of the error code.
        code: i32,
        /// Text for people.
        message: String,
    },
    /// A success that names these seats, whatever was asked for.
    Seats(Vec<String>),
    /// A response with this status and nothing else.
    Commit(CommitStatus),
    /// A response with this status and nothing else.
    Release(ReleaseStatus),
    /// An error beside a status, which contradict each other if the test likes.
    Both {
        /// Number of the error code.
        code: i32,
        /// Text for people.
        message: String,
        /// Number of a [`CommitStatus`] or a [`ReleaseStatus`].
        status: i32,
    },
    /// No answer ever, and no effect.
    Hang,
    /// The effect that the rules say, and then no answer: what a time-out hides from the caller.
    HangAfterEffect,
}

/// Why the server could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors that the build wrote are not usable.
    #[error("describe the service")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener or the protocol failed.
    #[error("serve it")]
    Transport(#[from] tonic::transport::Error),
}

impl Inventory {
    /// Serves until the task is dropped, with reflection.
    pub async fn serve(self, listener: TcpListener) -> Result<(), ServeError> {
        serve(Server::builder(), Routes::new(InventoryServiceServer::new(self)), SERVICE_NAME, listener).await
    }

    /// As [`Self::serve`], to callers that speak TLS and have whatever certificate `tls` asks them for.
    pub async fn serve_tls(self, listener: TcpListener, tls: ServerTlsConfig) -> Result<(), ServeError> {
        let routes = Routes::new(InventoryServiceServer::new(self));
        serve(Server::builder().tls_config(tls)?, routes, SERVICE_NAME, listener).await
    }

    /// Lets free seats be there, and so many places without numbers.
    pub fn stock(&self, event_id: &str, seat_ids: &[String], quantity: u32) {
        self.lock().stock(event_id, seat_ids, quantity);
    }

    /// Lets each seat of an event cost so much, in the smallest unit of the currency. Without it nothing is said of prices.
    pub fn price(&self, event_id: &str, amount: i64, currency: &str) {
        let mut books = self.lock();
        books.events.entry(event_id.to_owned()).or_default().price = Some((amount, currency.to_owned()));
    }

    /// Lets a hold be there, with the stock that it needs; `quantity` counts only without seats. A known reservation
    /// stays as it is. Seats that another has are taken over, which [`Self::oversold`] then tells.
    pub fn hold(&self, event_id: &str, reservation_id: &str, seat_ids: &[String], quantity: u32) {
        self.lock().seed(event_id, reservation_id, seat_ids, quantity);
    }

    /// Lets a sale be there, as [`Self::hold`] does a hold. What is held already becomes sold.
    pub fn sell(&self, event_id: &str, reservation_id: &str, seat_ids: &[String], quantity: u32) {
        let mut books = self.lock();
        books.seed(event_id, reservation_id, seat_ids, quantity);
        if books.seat_state(reservation_id) == SeatState::Held {
            books.apply(reservation_id, Act::Sell);
        }
    }

    /// Lets a hold be there that was given back. What is sold stays sold.
    pub fn release(&self, event_id: &str, reservation_id: &str, seat_ids: &[String], quantity: u32) {
        let mut books = self.lock();
        books.seed(event_id, reservation_id, seat_ids, quantity);
        if books.seat_state(reservation_id) == SeatState::Held {
            books.apply(reservation_id, Act::Free);
        }
    }

    /// Tells where a reservation ended.
    pub fn seat_state(&self, reservation_id: &str) -> SeatState {
        self.lock().seat_state(reservation_id)
    }

    /// Every call so far, in the order in which the books saw them.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Delays every answer until so long after its request, but not the effect: a caller that gives up waiting has changed
    /// the books all the same.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Prepares the answer to the reservation's next call; several are used up in order, one a call.
    pub fn answer_next(&self, reservation_id: &str, answer: Scripted) {
        self.lock().scripts.entry(reservation_id.to_owned()).or_default().push_back(answer);
    }

    /// Forgets what was prepared for the reservation and not used up.
    pub fn forget_answers(&self, reservation_id: &str) {
        self.lock().scripts.remove(reservation_id);
    }

    /// Lets every request from now on pass this wire.
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        *self.tripwire.lock().unwrap_or_else(PoisonError::into_inner) = tripwire;
    }

    /// Replays the ledger and describes each breach of what must always hold; empty when all is well.
    pub fn oversold(&self) -> Vec<String> {
        audit(&self.lock().ledger)
    }

    /// A panic elsewhere leaves the books readable: a test then reports its own failure rather than a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, arrived: Arrival, call: Call) -> Result<Reply, Status> {
        let tripwire = self.tripwire.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let passage = tripwire.arrive(&format!("{:?}", call.method)).await;
        let (latency, answer) = {
            let mut books = self.lock();
            (books.latency, books.receive(call))
        };
        passage.leave().await;
        latency::wait(arrived, latency).await;
        match answer {
            Some(answer) => answer,
            None => future::pending().await,
        }
    }

    /// The view of one event, taken in the same step that logs the question.
    async fn look_up<T>(&self, arrived: Arrival, call: Call, view: impl FnOnce(&Stock) -> T) -> Result<T, Error> {
        let (latency, seen) = {
            let mut books = self.lock();
            let seen = books.events.get(&call.event_id).map(view);
            books.calls.push(call);
            (books.latency, seen)
        };
        latency::wait(arrived, latency).await;
        seen.ok_or_else(|| in_band(ErrorCode::NotFound, "no such event"))
    }
}

impl fmt::Display for SeatState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Held => "held",
            Self::Sold => "sold",
            Self::Free => "free",
        })
    }
}

#[tonic::async_trait]
impl InventoryService for Inventory {
    async fn check_availability(
        &self,
        request: Request<CheckAvailabilityRequest>,
    ) -> Result<Response<CheckAvailabilityResponse>, Status> {
        let arrived = latency::arrival(request.extensions()).await;
        let (metadata, _, asked) = request.into_parts();
        let mut call = Call::new(Method::CheckAvailability, &metadata);
        (call.event_id, call.seat_ids, call.quantity) = (asked.event_id, asked.seat_ids.clone(), asked.quantity);
        let view = |stock: &Stock| {
            let (free, taken): (Vec<_>, Vec<_>) = asked.seat_ids.into_iter().partition(|seat| stock.is_free(seat));
            let enough = !free.is_empty() || stock.remaining >= i64::from(asked.quantity);
            CheckAvailabilityResponse {
                available: taken.is_empty() && enough,
                available_seats: seats(free, SeatStatus::Available),
                unavailable_seat_ids: taken,
                remaining_in_section: count(stock.remaining),
                error: None,
            }
        };
        let answer = self.look_up(arrived, call, view).await;
        Ok(Response::new(
            answer.unwrap_or_else(|error| CheckAvailabilityResponse { error: Some(error), ..Default::default() }),
        ))
    }

    async fn reserve_seat(
        &self,
        request: Request<ReserveSeatRequest>,
    ) -> Result<Response<ReserveSeatResponse>, Status> {
        let arrived = latency::arrival(request.extensions()).await;
        let (metadata, _, asked) = request.into_parts();
        let mut call = Call::new(Method::ReserveSeat, &metadata);
        (call.reservation_id, call.event_id) = (asked.reservation_id, asked.event_id);
        (call.seat_ids, call.quantity) = (asked.seat_ids, asked.quantity);
        (call.user_id, call.hold_expires_at) = (asked.user_id, asked.hold_expires_at.and_then(|at| at.try_into().ok()));
        call.idempotency_key = asked.idempotency_key;
        let price = self.lock().events.get(&call.event_id).and_then(|stock| stock.price.clone());
        let reply = self.carry_out(arrived, call).await?;
        let mut reserved = seats(reply.seat_ids, SeatStatus::Reserved);
        for seat in &mut reserved {
            seat.price = price.clone().map(|(amount, currency)| Money { amount, currency });
        }
        Ok(Response::new(ReserveSeatResponse {
            hold_id: reply.document,
            reserved_seats: reserved,
            hold_expires_at: asked.hold_expires_at,
            status: reply.status,
            error: reply.error,
        }))
    }

    async fn commit_reservation(
        &self,
        request: Request<CommitReservationRequest>,
    ) -> Result<Response<CommitReservationResponse>, Status> {
        let arrived = latency::arrival(request.extensions()).await;
        let (metadata, _, asked) = request.into_parts();
        let mut call = Call::new(Method::CommitReservation, &metadata);
        (call.reservation_id, call.event_id) = (asked.reservation_id, asked.event_id);
        (call.seat_ids, call.quantity) = (asked.seat_ids, asked.quantity);
        (call.payment_intent_id, call.user_id) = (asked.payment_intent_id, asked.user_id);
        call.idempotency_key = asked.idempotency_key;
        let reply = self.carry_out(arrived, call).await?;
        Ok(Response::new(CommitReservationResponse {
            order_id: reply.document,
            sold_seats: seats(reply.seat_ids, SeatStatus::Sold),
            status: reply.status,
            committed_at: reply.at.map(Into::into),
            error: reply.error,
        }))
    }

    async fn release_hold(
        &self,
        request: Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        let arrived = latency::arrival(request.extensions()).await;
        let (metadata, _, asked) = request.into_parts();
        let mut call = Call::new(Method::ReleaseHold, &metadata);
        (call.reservation_id, call.event_id) = (asked.reservation_id, asked.event_id);
        (call.seat_ids, call.quantity) = (asked.seat_ids, asked.quantity);
        (call.reason, call.idempotency_key) = (asked.reason, asked.idempotency_key);
        let reply = self.carry_out(arrived, call).await?;
        Ok(Response::new(ReleaseHoldResponse {
            released_seats: seats(reply.seat_ids, SeatStatus::Available),
            status: reply.status,
            released_at: reply.at.map(Into::into),
            error: reply.error,
        }))
    }

    async fn get_inventory_status(
        &self,
        request: Request<GetInventoryStatusRequest>,
    ) -> Result<Response<GetInventoryStatusResponse>, Status> {
        let arrived = latency::arrival(request.extensions()).await;
        let (metadata, _, asked) = request.into_parts();
        let mut call = Call::new(Method::GetInventoryStatus, &metadata);
        call.event_id.clone_from(&asked.event_id);
        let answer = self.look_up(arrived, call, |stock| stock.report(&asked.event_id)).await;
        Ok(Response::new(
            answer.unwrap_or_else(|error| GetInventoryStatusResponse { error: Some(error), ..Default::default() }),
        ))
    }
}

impl Call {
    fn new(method: Method, metadata: &MetadataMap) -> Self {
        let header = |name: &str| metadata.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        Self {
            method,
            reservation_id: String::new(),
            event_id: String::new(),
            seat_ids: Vec::new(),
            quantity: 0,
            reason: String::new(),
            payment_intent_id: String::new(),
            user_id: String::new(),
            hold_expires_at: None,
            idempotency_key: String::new(),
            authorization: header("authorization"),
            traceparent: header("traceparent"),
            baggage: header("baggage"),
            had_effect: false,
        }
    }

    /// What makes the request senseless whatever the books say.
    fn fault(&self) -> Option<&'static str> {
        let sale = self.method == Method::CommitReservation;
        let release = self.method == Method::ReleaseHold;
        if self.reservation_id.is_empty() {
            Some("reservation_id is missing")
        } else if self.event_id.is_empty() {
            Some("event_id is missing")
        } else if sale && self.payment_intent_id.is_empty() {
            Some("payment_intent_id is missing")
        } else if release && !["EXPIRED", "CANCELLED", "FAILED_PAYMENT"].contains(&self.reason.as_str()) {
            Some("reason is not known")
        } else if self.quantity < 0 || (self.quantity == 0 && self.seat_ids.is_empty()) {
            Some("neither seats nor a quantity")
        } else {
            None
        }
    }
}

/// What the three changing procedures answer, before each puts it in its own message.
#[derive(Clone, Default)]
struct Reply {
    status: i32,
    /// The order of a sale, the hold of a reserve.
    document: String,
    seat_ids: Vec<String>,
    at: Option<SystemTime>,
    error: Option<Error>,
}

impl Reply {
    fn of(status: i32) -> Self {
        Self { status, at: Some(SystemTime::now()), ..Self::default() }
    }

    fn fault(code: ErrorCode, message: &str) -> Self {
        Self { error: Some(in_band(code, message)), ..Self::default() }
    }
}

fn in_band(code: ErrorCode, message: &str) -> Error {
    Error { code: code as i32, message: message.to_owned(), ..Default::default() }
}

fn seats(ids: Vec<String>, status: SeatStatus) -> Vec<Seat> {
    ids.into_iter().map(|id| Seat { id, status: status as i32, ..Default::default() }).collect()
}

/// The wire counts in 32 bits; more than that is as good as all.
fn count<T: TryInto<i32>>(number: T) -> i32 {
    number.try_into().unwrap_or(i32::MAX)
}
