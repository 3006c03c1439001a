//! An HTTP API of API Gateway: each invocation is one request, in payload format 2.0. What happens to a connection of a
//! WebSocket API is a request about it.
//!
//! [`Server`] hands it to a service and answers what the service says. An invocation never fails: what makes no request is
//! answered 400, a panic 500, and a service that is not done in time 503. So no client can set off the alarm on errors, and
//! each of them gets an answer with an `X-Trace-Id`.

mod answer;
mod caller;
mod connection;
mod event;
mod native_grpc;
#[cfg(feature = "rpc")]
pub mod rpc;
mod target;
mod trace;

use std::{
    borrow::Cow,
    cell::Cell,
    error::Error,
    future::poll_fn,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::LocalBoxFuture};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use opentelemetry::{KeyValue, trace::SpanKind};
use serde_json::value::RawValue;
use tokio::time::timeout;
use tower_service::Service;
use tracing::{Instrument, Span, error, info, info_span, warn};

pub use self::{
    answer::{Answer, ErrorAnswer},
    caller::Caller,
    connection::ConnectionId,
    event::{ReceivedAt, RequestId},
    native_grpc::{is_native_grpc, refuse_native_grpc},
    trace::TraceId,
};
use self::{event::Event, trace::X_TRACE_ID};
use crate::{
    config::ConfigError,
    deadline::Deadline,
    failure::{chain, panic_text},
    name::names,
    start::{Function, Parts},
    telemetry::{
        metrics::{Metric, Metrics, Recorder, Unit},
        trace::{TraceContext, Tracing},
    },
    trigger::fault,
};

/// A request's body as it came, at most what API Gateway passes on.
pub type Body = Full<Bytes>;

/// Which of its routes a service has taken, such as `GET /v1/reservations/{id}`: an extension of its response, finer than
/// the route of API Gateway. It is a metric's dimension, so that it never holds an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route(pub &'static str);

names! {
    /// The codes of errors that are the adapter's own.
    pub enum ErrorCode {
        /// The event makes no request.
        InvalidRequest = "INVALID_REQUEST",
        /// The service panicked, or could not answer.
        InternalError = "INTERNAL_ERROR",
        /// The service was not done in time.
        ServiceUnavailable = "SERVICE_UNAVAILABLE",
    }
}

const HTTP_REQUESTS: Metric =
    Metric { name: "http_server_requests_total", unit: Unit::Count, dimensions: &["route", "status"] };
const HTTP_SECONDS: Metric =
    Metric { name: "http_server_requests_seconds", unit: Unit::Seconds, dimensions: &["route", "status"] };

/// The metrics that a server writes.
pub const METRICS: &[Metric] = &[HTTP_REQUESTS, HTTP_SECONDS];

/// What of an invocation's time no service gets: for the spans, and for the answer on its way to Lambda.
const KEPT_FREE: Duration = Duration::from_secs(1);

/// When a client should ask again that got no answer in time.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A look at what a configuration names.
type Look = Box<dyn Fn() -> LocalBoxFuture<'static, Result<(), ConfigError>>>;

/// A function that answers HTTP requests by `service`, such as an `axum::Router`.
///
/// The extensions of each request are [`Caller`], [`RequestId`], [`ReceivedAt`], [`TraceId`], the [`TraceContext`] for what is
/// called for it, and the invocation's [`Deadline`]; and [`ConnectionId`] where it is about a connection. A service that is
/// still at work a second before the deadline is dropped where it stands.
pub struct Server<S> {
    name: &'static str,
    service: S,
    metrics: Metrics,
    tracing: Tracing,
    look: Option<Look>,
    untold: Cell<Option<Untold>>,
}

impl<S> Server<S> {
    /// A server whose metrics go into the usual namespace and whose spans go nowhere. `name` is what it is called in traces.
    pub fn new(name: &'static str, service: S) -> Self {
        let (metrics, tracing) = (Metrics::default(), Tracing::default());
        Self { name, service, metrics, tracing, look: None, untold: Cell::default() }
    }

    /// A server with the variables of what it is made of beside its service. Nothing: what is wrong with them, or with the
    /// service's, is noted.
    pub fn configured(service: Option<S>, parts: &mut Parts<'_>) -> Option<Self> {
        let metrics = parts.metrics.clone();
        let tracing = Tracing::configured(&mut parts.reader, parts.name);
        Some(Self { metrics, tracing: tracing?, ..Self::new(parts.name, service?) })
    }

    /// A server of `base` by `service`, which looks at its start, by `probe`, at what `base` is made with. The service shares
    /// it, because a service is copied for each request. Nothing: what is wrong with the variables is noted.
    pub fn over<B: 'static>(
        base: Option<B>,
        parts: &mut Parts<'_>,
        service: impl FnOnce(Arc<B>) -> S,
        probe: impl AsyncFn(&B) -> Result<(), ConfigError> + Copy + 'static,
    ) -> Option<Self> {
        let base = base.map(Arc::new);
        let server = Self::configured(base.clone().map(service), parts);
        let base = base?;
        let look = move || -> LocalBoxFuture<'static, _> {
            let base = base.clone();
            async move { probe(&base).await }.boxed_local()
        };
        Some(server?.looking(look))
    }

    /// The same server with a look at what its configuration names, once per environment and before its first request. Its
    /// error is what no waiting can mend.
    pub fn looking(self, look: impl Fn() -> LocalBoxFuture<'static, Result<(), ConfigError>> + 'static) -> Self {
        Self { look: Some(Box::new(look)), ..self }
    }
}

impl<S, B> Function for Server<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: hyper::body::Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Response = Answer;

    async fn probe(&self) -> Result<(), ConfigError> {
        match &self.look {
            Some(look) => look().await,
            None => Ok(()),
        }
    }

    /// `Ok` is what API Gateway answers its client. There is no error: Lambda would count it against the function, whoever
    /// is to blame.
    async fn invoke(&self, payload: &RawValue, deadline: Deadline) -> Result<Answer, String> {
        let received = Received::read(payload);
        let (trace_id, gateway_request_id) = (received.trace_id.as_str(), received.request_id.0.as_str());
        let span = info_span!("request", trace_id, gateway_request_id);
        let (answer, untold) = self.answer(received, deadline).instrument(span).await;
        self.untold.set(Some(untold));
        Ok(answer)
    }

    /// Writes the request's line and its metrics, and sends its span.
    async fn answered(&self, deadline: Deadline) {
        if let Some(untold) = self.untold.take() {
            untold.tell(&self.metrics);
        }
        self.tracing.flush_before(deadline).await;
    }
}

impl<S, B> Server<S>
where
    S: Service<Request<Body>, Response = Response<B>> + Clone,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: hyper::body::Body,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Answers a request, with what is then to be told of it.
    async fn answer(&self, received: Received, deadline: Deadline) -> (Answer, Untold) {
        let started = Instant::now();
        let Received { route, request_id, trace_id, context, request } = received;
        let attributes = [
            KeyValue::new(
                "http.request.method",
                request.as_ref().map_or("", |request| request.method().as_str()).to_owned(),
            ),
            KeyValue::new("http.route", route.clone()),
            KeyValue::new("faas.trigger", "http"),
        ];
        let trace = self.tracing.start(self.name, SpanKind::Server, context, attributes);
        let served = match request {
            Ok(mut request) => {
                let extensions = request.extensions_mut();
                extensions.insert(request_id);
                extensions.insert(trace_id.clone());
                extensions.insert(trace.outgoing.clone());
                extensions.insert(deadline);
                self.serve(request, deadline).await
            }
            Err(error) => Err(Fault::NoRequest(error)),
        };
        let (Served { mut answer, route: finer }, fault) = match served {
            Ok(served) => (served, None),
            Err(fault) => (Served { answer: fault.answer().answer(&trace_id), route: None }, Some(fault)),
        };
        answer.headers.insert(X_TRACE_ID.to_owned(), trace_id.to_string());
        let route = finer.map_or(Cow::Owned(route), |Route(finer)| Cow::Borrowed(finer));
        let (status, error, took) = (answer.status_code, fault.map(|fault| fault.to_string()), started.elapsed());
        let failed = (status >= 500).then(|| error.as_deref().unwrap_or("the service answered so"));
        trace.finish(KeyValue::new("http.response.status_code", i64::from(status)), failed);
        (answer, Untold { span: Span::current(), route, status, error, took })
    }

    /// Has the service answer, as long as there is time. A panic in it stays in its request.
    async fn serve(&self, request: Request<Body>, deadline: Deadline) -> Result<Served, Fault> {
        let time = deadline.remaining().saturating_sub(KEPT_FREE);
        if time.is_zero() {
            return Err(Fault::Unstarted);
        }
        let isolated = AssertUnwindSafe(self.work(request)).catch_unwind();
        let ended = timeout(time, isolated).await.map_err(|_elapsed| Fault::Late)?;
        let response = ended.map_err(|panic| Fault::Panicked(panic_text(panic.as_ref()).to_owned()))?;
        let (head, body) = response.map_err(|error| Fault::Failed(chain(error.as_ref())))?.into_parts();
        let answer = Answer::of(head.status, &head.headers, &body);
        if !answer.fits() {
            return Err(Fault::TooLong);
        }
        Ok(Served { answer, route: head.extensions.get::<Route>().copied() })
    }

    async fn work(&self, request: Request<Body>) -> Result<Response<Bytes>, Box<dyn Error + Send + Sync>> {
        let mut service = self.service.clone();
        poll_fn(|context| service.poll_ready(context)).await.map_err(Into::into)?;
        let (head, body) = service.call(request).await.map_err(Into::into)?.into_parts();
        let body = body.collect().await.map_err(Into::into)?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }
}

/// What is to be told of a request that has its answer.
struct Untold {
    span: Span,
    route: Cow<'static, str>,
    status: u16,
    error: Option<String>,
    took: Duration,
}

impl Untold {
    /// Writes the one line of a request, in which nothing is that a client sent, and its metrics.
    fn tell(self, metrics: &Metrics) {
        let _inside = self.span.entered();
        let (route, status, error) = (&*self.route, self.status, self.error);
        let latency_ms = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX);
        match status {
            503 => warn!(route, status, latency_ms, error, "request answered: {status}"),
            500.. => error!(route, status, latency_ms, error, "request answered: {status}"),
            _ => info!(route, status, latency_ms, error, "request answered: {status}"),
        }
        let labels = [route, &status.to_string()];
        let mut recorder = Recorder::default();
        recorder.count(&HTTP_REQUESTS, &labels, 1);
        recorder.duration(&HTTP_SECONDS, &labels, self.took);
        metrics.write(&recorder);
    }
}

/// What a service has answered.
struct Served {
    answer: Answer,
    route: Option<Route>,
}

/// What an event says, whatever it is.
struct Received {
    route: String,
    request_id: RequestId,
    trace_id: TraceId,
    context: TraceContext,
    /// Nothing: why the event makes no request.
    request: Result<Request<Body>, String>,
}

impl Received {
    fn read(payload: &RawValue) -> Self {
        let (mut event, unreadable) = match serde_json::from_str::<Event>(payload.get()) {
            Ok(event) => (event, None),
            Err(error) => (Event::default(), Some(fault(&error))),
        };
        let (route, request_id) = (event.route().to_owned(), event.request_id());
        let headers = event.headers();
        let (trace_id, context) = match &headers {
            Ok(headers) => trace::trace_of(headers),
            Err(_) => trace::trace_of(&HeaderMap::new()),
        };
        let request = match unreadable {
            Some(error) => Err(error),
            None => headers.and_then(|headers| event.request(headers)).map_err(|error| error.to_string()),
        };
        Self { route, request_id, trace_id, context, request }
    }
}

/// Why a service has answered nothing.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("the event is not a request: {0}")]
    NoRequest(String),
    #[error("the service panicked: {0}")]
    Panicked(String),
    #[error("the service failed: {0}")]
    Failed(String),
    #[error("the service's answer is longer than Lambda takes")]
    TooLong,
    #[error("the service was still at work {} ms before the invocation's deadline", KEPT_FREE.as_millis())]
    Late,
    #[error("the request was not started: the invocation had {} ms left, or less", KEPT_FREE.as_millis())]
    Unstarted,
}

impl Fault {
    /// What the client is told of it.
    fn answer(&self) -> ErrorAnswer {
        match self {
            Self::NoRequest(error) => ErrorAnswer::new(
                StatusCode::BAD_REQUEST,
                ErrorCode::InvalidRequest,
                format!("this request can't be answered: {error}"),
            ),
            Self::Panicked(_) | Self::Failed(_) | Self::TooLong => ErrorAnswer::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                ErrorCode::InternalError,
                "the request could not be answered, and whether it had an effect is not known; ask again, and report the \
                 trace id if it goes on",
            ),
            Self::Late => ErrorAnswer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::ServiceUnavailable,
                "the answer was not ready in time, and whether the request had an effect is not known; ask again with the \
                 same idempotency key",
            )
            .retry_after(ASK_AGAIN),
            Self::Unstarted => ErrorAnswer::new(
                StatusCode::SERVICE_UNAVAILABLE,
                ErrorCode::ServiceUnavailable,
                "there was no time to answer the request, and it had no effect; ask again",
            )
            .retry_after(ASK_AGAIN),
        }
    }
}

#[cfg(test)]
mod tests;
