//! API Gateway's WebSocket API in front of one function, with one stage, `live`: a page opens a connection, the function hears
//! of it, and whoever may sends messages to it by `POST /live/@connections/{connection}`.
//!
//! | rule | answer when it is broken |
//! | --- | --- |
//! | a connection is asked for as RFC 6455 has it, at the stage | 400, 403 |
//! | the function of `$connect` answers a success | its status, and 500 for none; no connection is opened |
//! | a page's message has at most 128 KB, in frames of 32 KB | the connection is closed |
//! | a connection has a message within 10 minutes, and is not older than 2 hours | it is closed |
//! | who sends to a connection has signed with a known access key | 403 `{"message":"Forbidden"}` |
//! | what is sent to it has at most 128 KB | 413, `PayloadTooLargeException` |
//! | it is open | 410, `GoneException` |
//!
//! Whatever a page sends is a `$default` message. The function is told of the end of a connection once it has ended. Not done
//! here: throttling, routes by a message's body, responses of routes, looking at a connection and closing one by request.

use std::{
    collections::{BTreeMap, VecDeque},
    future, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header, request::Parts},
};
use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE},
};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::protocol::{Message, Role, WebSocketConfig},
};
use tokio_util::task::AbortOnDropHandle;
use url::form_urlencoded;
use uuid::Uuid;

use super::{AccessKey, REGION, Target, answer::message, read, signature};
use crate::tripwire::Tripwire;

/// The stage.
pub const STAGE: &str = "live";

/// What a message may have, in bytes, either way.
const LONGEST_MESSAGE: usize = 128 * 1024;

/// What a frame of a page may have, in bytes.
const LONGEST_FRAME: usize = 32 * 1024;

/// A connection without a message for so long is closed.
const IDLE: Duration = Duration::from_secs(600);

/// And so is one that is so old.
const OLDEST: Duration = Duration::from_secs(2 * 3_600);

/// What RFC 6455 puts behind a page's key.
const GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What API Gateway names an error by.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// A WebSocket API as it is deployed.
#[derive(Clone, Debug)]
pub struct SocketsOptions {
    /// The loopback port; 0 is any that is free.
    pub port: u16,
    /// The function of each route, by its key: `$connect`, `$disconnect` and `$default`.
    pub routes: BTreeMap<String, Target>,
    /// Who may send to connections.
    pub access_keys: Vec<AccessKey>,
}

/// A running API; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Sockets {
    address: SocketAddr,
    api: Arc<Api>,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// A prepared answer to one message to a connection, in place of what the rules say.
#[derive(Clone, Debug)]
pub enum PostAnswer {
    /// A status and a body, and nobody has the message.
    Status(StatusCode, &'static str),
    /// No answer ever, and nobody has it.
    Hang,
    /// The page has it, and then there is no answer.
    HangAfterEffect,
}

#[derive(Debug)]
struct Api {
    routes: BTreeMap<String, Target>,
    access_keys: Vec<AccessKey>,
    http: reqwest::Client,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    open: BTreeMap<String, mpsc::UnboundedSender<ToPage>>,
    taken: Vec<(String, String)>,
    scripts: VecDeque<PostAnswer>,
    tripwire: Tripwire,
}

#[derive(Debug)]
enum ToPage {
    Message(String),
    Close,
}

impl Sockets {
    /// Deploys an API.
    ///
    /// # Errors
    /// When the port can't be had.
    pub async fn start(options: SocketsOptions) -> io::Result<Self> {
        let SocketsOptions { port, routes, access_keys } = options;
        let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        let api = Arc::new(Api { routes, access_keys, http, books: Mutex::default() });
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let requests = Router::new().fallback(serve).with_state(Arc::clone(&api));
        let server = tokio::spawn(async move { drop(axum::serve(listener, requests).await) });
        Ok(Self { address, api, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// The base of its stage, as functions are told it.
    pub fn base(&self) -> String {
        format!("http://{}/{STAGE}", self.address)
    }

    /// The connections that are open.
    pub fn open(&self) -> Vec<String> {
        self.api.books().open.keys().cloned().collect()
    }

    /// What was sent to connections that were open: each with the message.
    pub fn taken(&self) -> Vec<(String, String)> {
        self.api.books().taken.clone()
    }

    /// Closes a connection from here.
    pub fn close(&self, connection: &str) {
        if let Some(page) = self.api.books().open.get(connection) {
            drop(page.send(ToPage::Close)); // One whose page is gone is closed already.
        }
    }

    /// Prepares the answer to the next message to a connection; several are used up in order.
    pub fn answer_next(&self, answer: PostAnswer) {
        self.api.books().scripts.push_back(answer);
    }

    /// Lets every message to a connection from now on pass this wire.
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        self.api.books().tripwire = tripwire;
    }
}

async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let forbidden = || message(StatusCode::FORBIDDEN, "Forbidden");
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(STAGE)) {
        Some("" | "/") => api.connect(request).await,
        Some(rest) => match rest.strip_prefix("/@connections/") {
            Some(segment) if request.method() == Method::POST => api.send(segment, request).await,
            Some(_) | None => forbidden(),
        },
        None => forbidden(),
    }
}

impl Api {
    /// Opens a connection, if the function lets it.
    async fn connect(self: Arc<Self>, mut request: Request) -> Response<Body> {
        let Some(accept) = accept(request.headers()) else { return message(StatusCode::BAD_REQUEST, "Bad Request") };
        let upgrade = hyper::upgrade::on(&mut request);
        let (head, _) = request.into_parts();
        let connection = BASE64_URL_SAFE.encode(&Uuid::new_v4().as_bytes()[..11]);
        let status = self.tell("$connect", connected(&connection, &head)).await;
        if !status.is_success() {
            return message(status, status.canonical_reason().unwrap_or_default());
        }
        let (to_page, outbox) = mpsc::unbounded_channel();
        // From here on messages are taken for it. Before, there is no such connection.
        self.books().open.insert(connection.clone(), to_page);
        tokio::spawn(async move {
            if let Ok(upgraded) = upgrade.await {
                self.hold(&connection, upgraded, outbox).await;
            }
            self.books().open.remove(&connection);
            self.tell("$disconnect", ended(&connection)).await;
        });
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = [
            (header::CONNECTION, Ok(HeaderValue::from_static("upgrade"))),
            (header::UPGRADE, Ok(HeaderValue::from_static("websocket"))),
            (header::SEC_WEBSOCKET_ACCEPT, HeaderValue::try_from(accept)),
        ];
        response.headers_mut().extend(headers.into_iter().filter_map(|(name, value)| Some((name, value.ok()?))));
        response
    }

    /// Passes on what is said over a connection until it ends.
    async fn hold(&self, connection: &str, upgraded: Upgraded, mut outbox: mpsc::UnboundedReceiver<ToPage>) {
        let limits =
            WebSocketConfig::default().max_message_size(Some(LONGEST_MESSAGE)).max_frame_size(Some(LONGEST_FRAME));
        let mut socket = WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Server, Some(limits)).await;
        let opened = Instant::now();
        let mut heard = opened;
        loop {
            tokio::select! {
                said = socket.next() => match said {
                    Some(Ok(Message::Text(text))) => {
                        heard = Instant::now();
                        self.tell("$default", said_by(connection, text.as_str())).await;
                    }
                    Some(Ok(Message::Binary(_))) => {
                        heard = Instant::now();
                        self.tell("$default", said_by(connection, "")).await;
                    }
                    // The library answers them.
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                    Some(Ok(Message::Close(_) | Message::Frame(_)) | Err(_)) | None => return,
                },
                sent = outbox.recv() => match sent {
                    Some(ToPage::Message(text)) => {
                        heard = Instant::now();
                        if socket.send(Message::text(text)).await.is_err() {
                            return;
                        }
                    }
                    Some(ToPage::Close) | None => break,
                },
                () = sleep_until((heard + IDLE).min(opened + OLDEST)) => break,
            }
        }
        drop(socket.close(None).await);
    }

    /// Invokes the function of a route. The answer is its status; 500, where it has answered none.
    async fn tell(&self, route: &str, mut event: Value) -> StatusCode {
        let failed = StatusCode::INTERNAL_SERVER_ERROR;
        let Some(target) = self.routes.get(route) else { return StatusCode::FORBIDDEN };
        event["requestContext"]["routeKey"] = route.into();
        let Ok(answer) = target.invoke(Bytes::from(event.to_string()), &self.http).await else { return failed };
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let status = answer["statusCode"].as_u64().and_then(|status| u16::try_from(status).ok());
        status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(failed)
    }

    /// Sends a message to a connection.
    async fn send(&self, segment: &str, request: Request) -> Response<Body> {
        let (head, body) = request.into_parts();
        let Ok(Some(body)) = read(body).await else { return message(StatusCode::BAD_REQUEST, "Bad Request") };
        if signature::authorize(&head, &body, &self.access_keys, REGION, SystemTime::now()).is_none() {
            return message(StatusCode::FORBIDDEN, "Forbidden");
        }
        if body.len() > LONGEST_MESSAGE {
            return refused(StatusCode::PAYLOAD_TOO_LARGE, "PayloadTooLargeException");
        }
        let connection = percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let tripwire = self.books().tripwire.clone();
        let passage = tripwire.arrive("PostToConnection").await;
        let (script, taken) = {
            let mut books = self.books();
            let script = books.scripts.pop_front();
            let taken = match &script {
                Some(PostAnswer::Status(..) | PostAnswer::Hang) => false,
                Some(PostAnswer::HangAfterEffect) | None => books.take(&connection, &body),
            };
            (script, taken)
        };
        passage.leave().await;
        match script {
            Some(PostAnswer::Status(status, body)) => {
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = status;
                response
            }
            Some(PostAnswer::Hang | PostAnswer::HangAfterEffect) => future::pending().await,
            None if taken => Response::new(Body::empty()),
            None => refused(StatusCode::GONE, "GoneException"),
        }
    }

    /// A panic elsewhere leaves the books readable: a test then reports its own failure rather than a poisoned lock.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    /// Whether a connection is open and has the message now.
    fn take(&mut self, connection: &str, message: &[u8]) -> bool {
        let text = String::from_utf8_lossy(message).into_owned();
        let Some(page) = self.open.get(connection) else { return false };
        let is_taken = page.send(ToPage::Message(text.clone())).is_ok();
        if is_taken {
            self.taken.push((connection.to_owned(), text));
        }
        is_taken
    }
}

/// What proves to a page that its wish for a WebSocket was understood; nothing, where it is none.
fn accept(headers: &HeaderMap) -> Option<String> {
    let names = |name: header::HeaderName, value: &str| {
        let stated = signature::single(headers, name.as_str()).unwrap_or_default();
        stated.split(',').any(|part| part.trim().eq_ignore_ascii_case(value))
    };
    let asks = names(header::UPGRADE, "websocket") && names(header::CONNECTION, "upgrade");
    if !asks || !names(header::SEC_WEBSOCKET_VERSION, "13") {
        return None;
    }
    let key = signature::single(headers, header::SEC_WEBSOCKET_KEY.as_str())?;
    Some(BASE64_STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{GUID}").as_bytes())))
}

fn refused(status: StatusCode, error_type: &'static str) -> Response<Body> {
    let mut response = message(status, error_type);
    response.headers_mut().insert(ERROR_TYPE, HeaderValue::from_static(error_type));
    response
}

/// What an event of a connection has, whatever happens to it.
fn event(connection: &str, event_type: &str) -> Value {
    let id = BASE64_STANDARD.encode(&Uuid::new_v4().as_bytes()[..11]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    json!({
        "requestContext": {
            "eventType": event_type,
            "extendedRequestId": id,
            "requestId": id,
            "messageDirection": "IN",
            "stage": STAGE,
            "requestTimeEpoch": u64::try_from(now).unwrap_or_default(),
            "connectionId": connection,
            "apiId": "local",
            "identity": {"sourceIp": "127.0.0.1"},
        },
        "isBase64Encoded": false,
    })
}

fn connected(connection: &str, head: &Parts) -> Value {
    let mut event = event(connection, "CONNECT");
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers: BTreeMap<String, String> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let query = head.uri.query().unwrap_or_default();
    let parameters: BTreeMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    event["headers"] = json!(headers);
    if !parameters.is_empty() {
        event["queryStringParameters"] = json!(parameters);
    }
    event
}

fn said_by(connection: &str, text: &str) -> Value {
    let mut event = event(connection, "MESSAGE");
    event["body"] = text.into();
    event["requestContext"]["messageId"] = event["requestContext"]["requestId"].clone();
    event
}

fn ended(connection: &str) -> Value {
    let mut event = event(connection, "DISCONNECT");
    event["requestContext"]["disconnectStatusCode"] = 1_005.into();
    event["requestContext"]["disconnectReason"] = "".into();
    event
}

/// A page's end of a connection.
#[derive(Debug)]
pub struct Page(WebSocketStream<reqwest::Upgraded>);

/// Why a page has no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// It was refused with this status.
    #[error("the connection is refused with {0}")]
    Refused(StatusCode),
    /// There was no answer, or none that can be understood.
    #[error("ask for a connection: {0}")]
    Http(#[from] reqwest::Error),
}

impl Page {
    /// Opens a connection at this address, which begins with `ws://`.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn open(url: &str) -> Result<Self, ConnectError> {
        let http = reqwest::Client::builder().no_proxy().http1_only().build()?;
        let key = BASE64_STANDARD.encode(Uuid::new_v4().as_bytes());
        let asked = http
            .get(url.replacen("ws", "http", 1))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_VERSION, "13")
            .header(header::SEC_WEBSOCKET_KEY, key);
        let answer = asked.send().await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ConnectError::Refused(answer.status()));
        }
        Ok(Self(WebSocketStream::from_raw_socket(answer.upgrade().await?, Role::Client, None).await))
    }

    /// The next message; nothing, where the connection has ended.
    pub async fn hear(&mut self) -> Option<String> {
        while let Some(Ok(said)) = self.0.next().await {
            if let Message::Text(text) = said {
                return Some(text.as_str().to_owned());
            }
        }
        None
    }

    /// Says something.
    pub async fn say(&mut self, text: &str) {
        drop(self.0.send(Message::text(text)).await); // A connection that has ended is heard of by `hear`.
    }

    /// Ends the connection, and waits until the other side has agreed.
    pub async fn leave(mut self) {
        drop(self.0.close(None).await);
        while let Some(Ok(_)) = self.0.next().await {}
    }
}
