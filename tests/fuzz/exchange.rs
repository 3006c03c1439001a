//! What must hold of the adapter's answer to any event.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, Uri},
    response::IntoResponse,
};
use serde_json::{Value, json, value::RawValue};
use shared::{
    deadline::Deadline,
    start::Function,
    trigger::http::{Answer, Server},
};
use tokio::runtime::Runtime;

/// The longest text of an error: what is wrong with an event, and never what a client has sent.
const LONGEST_MESSAGE: usize = 400;

/// What a service has seen of a request.
#[derive(Debug, Clone, Default)]
struct Seen {
    method: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    body: Vec<u8>,
}

type Noted = Arc<Mutex<Option<Seen>>>;

/// The adapter before a service that notes what it sees.
struct Judge {
    runtime: Runtime,
    server: Server<Router>,
    noted: Noted,
}

thread_local! {
    static JUDGE: Judge = Judge::new();
}

impl Judge {
    fn new() -> Self {
        let noted = Noted::default();
        let notes = noted.clone();
        let service = async move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let (path, query) = (uri.path().to_owned(), uri.query().map(str::to_owned));
            let seen = Seen { method: method.to_string(), path, query, headers, body: body.to_vec() };
            if let Ok(mut notes) = notes.lock() {
                *notes = Some(seen);
            }
            body.into_response()
        };
        let server = Server::new("fuzz", Router::new().fallback(service));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        Self { runtime: runtime.unwrap_or_else(|error| panic!("no runtime: {error}")), server, noted }
    }

    fn answer(&self, event: &RawValue) -> (Answer, Option<Seen>) {
        let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(30));
        let answer = self.runtime.block_on(async {
            let answer = self.server.invoke(event, deadline).await;
            self.server.answered(deadline).await;
            answer
        });
        let seen = self.noted.lock().ok().and_then(|mut noted| noted.take());
        (answer.unwrap_or_else(|error| panic!("an invocation never fails: {error}")), seen)
    }
}

/// Has an event answered. An input that is no JSON is a request: a path, a query and a header, each on a line, then a body.
///
/// # Panics
/// When something does not hold.
pub(crate) fn judge(input: &str) {
    // JSON may stand between spaces, so the texts do not tell which of the two an input is.
    let (event, sent) = match RawValue::from_string(input.to_owned()) {
        Ok(event) => (event, None),
        Err(_) => {
            let sent = Sent::read(input);
            match RawValue::from_string(sent.event().to_string()) {
                Ok(event) => (event, Some(sent)),
                Err(error) => panic!("what was written as JSON is none: {error}"),
            }
        }
    };
    let (answer, seen) = JUDGE.with(|judge| judge.answer(&event));
    check(&answer, seen.as_ref());
    if let (Some(sent), Some(seen)) = (sent, seen) {
        sent.check(&seen);
    }
}

fn check(answer: &Answer, seen: Option<&Seen>) {
    let expected = if seen.is_some() { 200 } else { 400 };
    assert_eq!(answer.status_code, expected, "{answer:?} of {seen:?}");
    let id = answer.headers.get("x-trace-id").map(String::as_str).unwrap_or_default();
    assert!((1..=64).contains(&id.len()), "{answer:?}");
    assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)), "{answer:?}");
    if let Err(error) = serde_json::to_string(answer) {
        panic!("{answer:?} can't be written: {error}");
    }
    match seen {
        Some(seen) => {
            assert!(seen.path.starts_with('/'), "{seen:?}");
            assert!(!seen.method.is_empty(), "{seen:?}");
        }
        None => {
            let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            let error = &body["error"];
            assert_eq!((&error["code"], &error["traceId"]), (&json!("INVALID_REQUEST"), &json!(id)), "{answer:?}");
            let message = error["message"].as_str().unwrap_or_default();
            assert!((10..LONGEST_MESSAGE).contains(&message.len()), "{answer:?}");
            assert!(!message.contains(char::is_control), "{answer:?}");
        }
    }
}

/// A request as a client might send it.
struct Sent<'a> {
    path: &'a str,
    query: &'a str,
    header: Option<(&'a str, &'a str)>,
    body: &'a str,
}

impl<'a> Sent<'a> {
    fn read(input: &'a str) -> Self {
        let mut parts = input.splitn(4, '\n');
        let mut next = || parts.next().unwrap_or_default();
        let (path, query, header, body) = (next(), next(), next(), next());
        Self { path, query, header: header.split_once(':'), body }
    }

    fn event(&self) -> Value {
        let mut event = json!({
            "version": "2.0",
            "routeKey": "ANY /{proxy+}",
            "rawPath": format!("/{}", self.path),
            "rawQueryString": self.query,
            "headers": {},
            "requestContext": {"http": {"method": "POST"}, "stage": "$default", "requestId": "r"},
            "body": self.body,
            "isBase64Encoded": false,
        });
        if let Some((name, value)) = self.header {
            event["headers"][name] = json!(value);
        }
        event
    }

    /// What was sent has arrived, whatever stands in it.
    fn check(&self, seen: &Seen) {
        assert_eq!(seen.method, "POST");
        assert_eq!(decoded(&seen.path), format!("/{}", self.path).into_bytes(), "{seen:?}");
        assert_eq!(seen.path.matches('/').count(), self.path.matches('/').count() + 1, "{seen:?}");
        let query = seen.query.as_deref().unwrap_or_default();
        assert_eq!(decoded(query), decoded(self.query), "{seen:?}");
        assert_eq!(seen.body, self.body.as_bytes(), "{seen:?}");
        if let Some((name, value)) = self.header {
            let found = seen.headers.get(name.to_ascii_lowercase()).map(|value| value.as_bytes());
            assert_eq!(found, Some(value.as_bytes()), "{seen:?}");
        }
    }
}

/// The bytes that a text stands for. A percent sign that begins no escape is one.
fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escape = after.get(..2).filter(|digits| *first == b'%' && digits.iter().all(u8::is_ascii_hexdigit));
        let value = escape
            .and_then(|digits| str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[2..] } else { after };
    }
    bytes
}
