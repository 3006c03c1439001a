//! A proxy between a worker and one of its services that lets calls go wrong as networks and services do.
//!
//! It speaks HTTP/1 and HTTP/2, so that a fault happens to a call and not to some bytes. Whether the call was carried out
//! before it goes wrong is part of the fault: its caller cannot tell, and only idempotency makes that harmless. On a
//! connection that carries several calls at a time, as gRPC's does, all of them share the fault of one.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    future::pending,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{body::Bytes, http};
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response, Uri, Version,
    body::Incoming,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

use self::{
    answer::{Parts, Pieces},
    line::Line,
};
pub use self::{
    foreign::Foreign,
    network::{Network, Pick},
};
pub use crate::tripwire::Side;

mod answer;
mod clock;
mod foreign;
mod line;
mod network;

/// How much later a slow answer comes: late enough to change the order of things, and within every caller's patience.
const SLOW: Duration = Duration::from_millis(250);

/// A running proxy; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// What is behind the proxy, and so in which form it says that it can't.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// DynamoDB and the other services of AWS, in the JSON protocol.
    Aws,
    /// A REST API.
    Rest,
    /// A gRPC service without TLS.
    Grpc,
}

/// How a call goes wrong. A side says whether that is before or after its effect.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Fault {
    /// The answer is late, and good.
    Slow,
    /// The service is too busy and has done nothing: `ThrottlingException`, 429, `UNAVAILABLE`.
    Refused,
    /// The service reports a fault of its own: `InternalServerError`, 500, `DEADLINE_EXCEEDED`.
    Failed(Side),
    /// The connection is reset.
    Reset(Side),
    /// The connection stays open, and nothing passes any more.
    HalfOpen(Side),
    /// The call is carried out, and the connection ends in the midst of the answer's body.
    Truncated,
    /// A success without a word comes in place of the answer.
    Silent(Side),
    /// Somebody on the way shows a page of his own, with the status that such pages have.
    Page(Side),
    /// An answer comes that is well-formed and about something else.
    Another(Side),
}

impl Fault {
    /// Every fault there is.
    pub const ALL: [Self; 15] = [
        Self::Slow,
        Self::Refused,
        Self::Failed(Side::Before),
        Self::Failed(Side::After),
        Self::Reset(Side::Before),
        Self::Reset(Side::After),
        Self::HalfOpen(Side::Before),
        Self::HalfOpen(Side::After),
        Self::Truncated,
        Self::Silent(Side::Before),
        Self::Silent(Side::After),
        Self::Page(Side::Before),
        Self::Page(Side::After),
        Self::Another(Side::Before),
        Self::Another(Side::After),
    ];
}

/// What a proxy has seen and done.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Every call, also those that went well.
    pub calls: usize,
    /// The calls that went wrong.
    pub faults: BTreeMap<Fault, usize>,
}

#[derive(Debug)]
struct Shared {
    service: Service,
    upstream: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    next: VecDeque<Option<Fault>>,
    foreign: Vec<(String, usize, Foreign)>,
    share: f64,
    random: fastrand::Rng,
    clock_ahead_ms: i64,
    counts: Counts,
}

impl Proxy {
    /// Starts a proxy that lets everything pass. `seed` decides which calls go wrong once [`Proxy::set_share`] is set, as far
    /// as the order of calls is the same.
    ///
    /// # Errors
    /// When there is no loopback port.
    pub async fn start(service: Service, upstream: SocketAddr, seed: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .http2_only(service == Service::Grpc)
            .build::<_, Full<Bytes>>(connector);
        let state = State {
            next: VecDeque::new(),
            foreign: Vec::new(),
            share: 0.0,
            random: fastrand::Rng::with_seed(seed),
            clock_ahead_ms: 0,
            counts: Counts::default(),
        };
        let shared = Arc::new(Shared { service, upstream, client, state: Mutex::new(state) });
        let server = AbortOnDropHandle::new(tokio::spawn(accept(listener, shared.clone())));
        Ok(Self { address, shared, _server: Arc::new(server) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What happens to the next calls, in order; nothing is a call that goes well. It comes before any share.
    pub fn set_next(&self, faults: impl IntoIterator<Item = Option<Fault>>) {
        self.shared.lock().next = faults.into_iter().collect();
    }

    /// Answers the next `times` calls of one kind in the service's place. `call` is a part of the method and the path, of AWS's
    /// name of the operation, or of the body.
    pub fn answer_next(&self, call: &str, times: usize, answer: Foreign) {
        self.shared.lock().foreign.push((call.to_owned(), times, answer));
    }

    /// Lets the service answer by itself again.
    pub fn answer_no_more(&self) {
        self.shared.lock().foreign.clear();
    }

    /// Lets a share of all calls, from 0 to 1, go wrong by chance, each [`Fault`] as likely as the others.
    pub fn set_share(&self, share: f64) {
        self.shared.lock().share = share;
    }

    /// Makes the worker's clock appear ahead of the world's, or behind it, wherever it claims an event: its times in DynamoDB
    /// are moved on the way there, and the times that it reads are moved back.
    pub fn set_clock_ahead(&self, milliseconds: i64) {
        self.shared.lock().clock_ahead_ms = milliseconds;
    }

    /// What happened so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts.clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(serve(stream, shared.clone()))),
            // A caller that is gone already, or no file handles for a moment.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// One connection. To drop it is to reset it.
async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let line = Line::default();
    let Ok(stream) = line.over(stream) else { return };
    let service = service_fn(|request| {
        let (shared, line) = (shared.clone(), line.clone());
        async move { Ok::<_, Infallible>(shared.pass(request, &line).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        _ = connection.as_mut() => {} // How it ended is the caller's affair.
        () = line.is_reset() => {}
    }
}

impl Shared {
    async fn pass(&self, request: Request<Incoming>, line: &Line) -> Response<Pieces> {
        let (fault, clock_ahead_ms) = self.draw();
        let (parts, body) = request.into_parts();
        let Ok(body) = body.collect().await else { return line.reset().await };
        let body = body.to_bytes();
        let by_chance = || fault.and_then(|fault| Foreign::of(fault, self.service));
        if let Some(foreign) = self.foreign(&parts, &body).or_else(by_chance) {
            if foreign.is_after_effect() {
                drop(self.forward(Request::from_parts(parts, body)).await);
            }
            return foreign.answer();
        }
        match fault {
            Some(Fault::Slow) => tokio::time::sleep(SLOW).await,
            Some(Fault::Refused) => return answer::refusal(self.service),
            Some(Fault::Failed(Side::Before)) => return answer::failure(self.service),
            Some(Fault::Reset(Side::Before)) => return line.reset().await,
            Some(Fault::HalfOpen(Side::Before)) => return line.freeze().await,
            Some(
                Fault::Failed(Side::After)
                | Fault::Reset(Side::After)
                | Fault::HalfOpen(Side::After)
                | Fault::Truncated
                | Fault::Silent(_)
                | Fault::Page(_)
                | Fault::Another(_),
            )
            | None => {}
        }
        let body = clock::to_world(body, clock_ahead_ms);
        // A service that can't be reached is a connection that breaks.
        let Ok(mut answer) = self.forward(Request::from_parts(parts, body)).await else { return line.reset().await };
        answer.body = clock::to_worker(answer.body, clock_ahead_ms);
        match fault {
            Some(Fault::Failed(Side::After)) => answer::failure(self.service),
            Some(Fault::Reset(Side::After)) => line.reset().await,
            Some(Fault::HalfOpen(Side::After)) => line.freeze().await,
            Some(Fault::Truncated) => answer.truncated(),
            Some(
                Fault::Slow
                | Fault::Refused
                | Fault::Failed(Side::Before)
                | Fault::Reset(Side::Before)
                | Fault::HalfOpen(Side::Before)
                | Fault::Silent(_)
                | Fault::Page(_)
                | Fault::Another(_),
            )
            | None => answer.whole(),
        }
    }

    /// What happens to this call, and how far the worker's clock is ahead.
    fn draw(&self) -> (Option<Fault>, i64) {
        let mut state = self.lock();
        let fault = match state.next.pop_front() {
            Some(planned) => planned,
            None if state.random.f64() < state.share => state.random.choice(Fault::ALL),
            None => None,
        };
        state.counts.calls += 1;
        if let Some(fault) = fault {
            *state.counts.faults.entry(fault).or_default() += 1;
        }
        (fault, state.clock_ahead_ms)
    }

    /// What this call is answered in the service's place.
    fn foreign(&self, call: &http::request::Parts, body: &[u8]) -> Option<Foreign> {
        let operation = call.headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        let body = String::from_utf8_lossy(body);
        let name = format!("{} {} {operation} {body}", call.method, call.uri.path());
        let mut state = self.lock();
        let (_, times, answer) =
            state.foreign.iter_mut().find(|(kind, times, _)| *times > 0 && name.contains(&**kind))?;
        *times -= 1;
        Some(answer.clone())
    }

    /// Sends the call on, without what belongs to the caller's connection alone.
    async fn forward(&self, request: Request<Bytes>) -> Result<Parts, Box<dyn std::error::Error + Send + Sync>> {
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        parts.uri = format!("http://{}{path}", self.upstream).parse::<Uri>()?;
        parts.version = if self.service == Service::Grpc { Version::HTTP_2 } else { Version::HTTP_11 };
        for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            parts.headers.remove(name);
        }
        let (mut head, body) = self.client.request(Request::from_parts(parts, Full::new(body))).await?.into_parts();
        for name in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            head.headers.remove(name);
        }
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Parts { status: head.status, headers: head.headers, body: body.to_bytes(), trailers })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    async fn reset<T>(&self) -> T {
        self.break_off();
        pending().await
    }

    async fn freeze<T>(&self) -> T {
        self.go_silent();
        pending().await
    }
}

#[cfg(test)]
mod tests;
