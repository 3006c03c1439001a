//! The Runtime API as one process sees it. The handlers only carry messages: the environment decides.

use std::{
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State, rejection::BytesRejection},
    http::{Extensions, HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use uuid::Uuid;

use super::{FunctionError, lock};
use crate::latency::{Clock, TimedListener, read_at};

/// Lambda takes answers of up to six megabytes.
const MAX_ANSWER_BYTES: usize = 6 * 1024 * 1024;

/// What a process tells its host.
#[derive(Debug)]
pub(super) enum Event {
    /// It asks for work and waits.
    Ready(oneshot::Sender<Task>),
    /// It answered the invocation in hand, whose answer arrived then.
    Answer(Instant, Bytes),
    /// It reported an error for the invocation in hand.
    Error(Diagnostic),
    /// It could not start.
    InitError(Diagnostic),
}

impl Event {
    /// What it says to the invocation in hand, and since when that is known.
    pub(super) fn answer(self) -> (Instant, Result<Vec<u8>, FunctionError>) {
        let fault = match self {
            Self::Answer(at, answer) => return (at, Ok(answer.into())),
            Self::Error(Diagnostic { error_type, error_message: message }) => {
                FunctionError::Unhandled { error_type, message }
            }
            Self::Ready(_) => FunctionError::Exited("asked for work before it answered".to_owned()),
            Self::InitError(error) => FunctionError::Init(error.error_message),
        };
        (Instant::now(), Err(fault))
    }
}

/// An invocation as it is handed to the process.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) request_id: String,
    pub(super) function_arn: String,
    pub(super) timeout: Duration,
    pub(super) payload: Bytes,
}

/// An error as the runtime reports it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Diagnostic {
    pub(super) error_type: String,
    pub(super) error_message: String,
}

/// A listener of one environment, gone when it is dropped.
#[derive(Debug)]
pub(super) struct RuntimeApi {
    /// Host and port, as the process gets them.
    pub(super) address: String,
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    server: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Host {
    events: mpsc::UnboundedSender<Event>,
    /// The invocation in hand: exactly one answer is taken for it.
    current: Arc<Mutex<Option<String>>>,
}

impl RuntimeApi {
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?.to_string();
        let (sender, events) = mpsc::unbounded_channel();
        let routes = Router::new()
            .route("/runtime/invocation/next", get(next))
            .route("/runtime/invocation/{id}/response", post(response))
            .route("/runtime/invocation/{id}/error", post(error))
            .route("/runtime/init/error", post(init_error))
            .layer(DefaultBodyLimit::max(MAX_ANSWER_BYTES))
            .with_state(Host { events: sender, current: Arc::default() });
        let server = tokio::spawn(async move {
            // Serving ends with the task; an error of one connection does not end it.
            let routes = Router::new().nest("/2018-06-01", routes).into_make_service_with_connect_info::<Clock>();
            drop(axum::serve(TimedListener(listener), routes).await);
        });
        Ok(Self { address, events, server })
    }
}

impl Drop for RuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn next(State(host): State<Host>) -> Response {
    let (sender, task) = oneshot::channel();
    host.hear(Event::Ready(sender));
    let Ok(task) = task.await else {
        return StatusCode::GONE.into_response(); // The environment is on its way out.
    };
    *lock(&host.current) = Some(task.request_id.clone());
    let deadline = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + task.timeout;
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", task.request_id),
        ("lambda-runtime-deadline-ms", deadline.as_millis().to_string()),
        ("lambda-runtime-invoked-function-arn", task.function_arn),
        ("lambda-runtime-trace-id", trace_id(deadline.as_secs())),
    ];
    (headers, task.payload).into_response()
}

async fn response(
    State(host): State<Host>,
    extensions: Extensions,
    Path(id): Path<String>,
    answer: Result<Bytes, BytesRejection>,
) -> (StatusCode, Json<Value>) {
    let refusal = match answer {
        Ok(answer) => return host.conclude(&id, Event::Answer(read_at(&extensions).into(), answer)),
        Err(refusal) => refusal,
    };
    let status = refusal.status();
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        let error_message =
            format!("Response payload size exceeded maximum allowed payload size ({MAX_ANSWER_BYTES} bytes).");
        let error_type = "Function.ResponseSizeTooLarge".to_owned();
        drop(host.conclude(&id, Event::Error(Diagnostic { error_type, error_message })));
    }
    (status, Json(json!({"errorType": "InvalidResponse", "errorMessage": refusal.body_text()})))
}

async fn error(
    State(host): State<Host>,
    Path(id): Path<String>,
    h: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    host.conclude(&id, Event::Error(Diagnostic::read(&h, &body)))
}

async fn init_error(State(host): State<Host>, headers: HeaderMap, body: Bytes) -> (StatusCode, Json<Value>) {
    host.hear(Event::InitError(Diagnostic::read(&headers, &body)));
    (StatusCode::ACCEPTED, Json(json!({"status": "OK"})))
}

impl Host {
    fn hear(&self, event: Event) {
        drop(self.events.send(event)); // The environment may be on its way out.
    }

    fn conclude(&self, id: &str, event: Event) -> (StatusCode, Json<Value>) {
        if lock(&self.current).take_if(|current| current == id).is_none() {
            let refusal = json!({"errorType": "InvalidRequestID", "errorMessage": "no such invocation in hand"});
            return (StatusCode::BAD_REQUEST, Json(refusal));
        }
        self.hear(event);
        (StatusCode::ACCEPTED, Json(json!({"status": "OK"})))
    }
}

impl Diagnostic {
    /// The body is meant to be JSON, but a runtime in trouble may send anything.
    fn read(headers: &HeaderMap, body: &[u8]) -> Self {
        let mut diagnostic = serde_json::from_slice(body)
            .unwrap_or_else(|_| Self { error_message: String::from_utf8_lossy(body).into_owned(), ..Self::default() });
        if diagnostic.error_type.is_empty() {
            let header = headers.get("lambda-runtime-function-error-type").and_then(|value| value.to_str().ok());
            diagnostic.error_type = header.unwrap_or("Unhandled").to_owned();
        }
        diagnostic
    }
}

fn trace_id(seconds: u64) -> String {
    let (root, parent) = (Uuid::new_v4().simple().to_string(), Uuid::new_v4().simple().to_string());
    format!("Root=1-{seconds:08x}-{};Parent={};Sampled=0", &root[..24], &parent[..16])
}
