//! A function that answers HTTP with what it has seen, or goes wrong when the path says so. The tests of the local gateway,
//! and those of a deployed build, need one that does both.

// The compiler lays out the futures of the whole adapter at once.
#![recursion_limit = "256"]
#![allow(clippy::panic, reason = "what it is for")]

use std::{
    convert::Infallible,
    future::{Future, pending},
    pin::Pin,
    process::{self, ExitCode},
    task::{Context, Poll},
};

use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use shared::{
    start,
    trigger::http::{Body, Caller, RequestId, Route, Server, TraceId},
};
use tower_service::Service;
use tracing::info;

/// What the path's last segment asks for.
#[derive(Clone)]
struct Echo;

impl Service<Request<Body>> for Echo {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(answer(request).await) })
    }
}

async fn answer(request: Request<Body>) -> Response<Body> {
    info!("a line of the function's own crate");
    tokio::task::yield_now().await;
    let mut response = match request.uri().path().rsplit('/').next() {
        Some("panic") => panic!("as the path says"),
        Some("exit") => process::exit(1),
        Some("never") => pending().await,
        Some("binary") => Response::new(Body::from(&b"\xff\xfe\0"[..])),
        Some("cookies") => {
            let mut response = Response::new(Body::default());
            for cookie in ["a=1", "b=2"] {
                response.headers_mut().append(header::SET_COOKIE, header::HeaderValue::from_static(cookie));
            }
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
        Some(_) | None => json(&seen(request).await),
    };
    response.extensions_mut().insert(Route("ANY /echo/{what}"));
    response
}

/// What has arrived.
async fn seen(request: Request<Body>) -> Value {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = |value: &header::HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    let headers: Map<String, Value> =
        head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    let caller = match head.extensions.get::<Caller>() {
        Some(Caller::Subject { sub, scopes }) => json!({"sub": sub, "scopes": scopes}),
        Some(Caller::Iam { arn }) => json!({"arn": arn}),
        Some(Caller::Nobody) | None => Value::Null,
    };
    json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "body": String::from_utf8_lossy(&body),
        "bytes": body.len(),
        "caller": caller,
        "requestId": head.extensions.get::<RequestId>().map(|id| id.0.as_str()),
        "traceId": head.extensions.get::<TraceId>().map(TraceId::as_str),
    })
}

fn json(value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::from(value.to_string()));
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    start::run("http", module_path!(), |parts| Server::configured(Some(Echo), parts)).await
}
