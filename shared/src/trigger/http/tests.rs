//! What a client is answered, whatever event, service and time there are.

use std::{
    convert::Infallible,
    future::{Ready, pending, ready},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::SystemTime,
};

use http::{HeaderValue, header};
use serde_json::{Value, json};
use tracing::{Event as LogEvent, Metadata, Subscriber, field, span};

use super::*;

type Work = Pin<Box<dyn Future<Output = Result<Response<Body>, Refused>>>>;

/// Why a service may fail.
#[derive(Debug, thiserror::Error)]
#[error("the pool is empty")]
struct Refused;

/// A service that is one function.
#[derive(Clone)]
struct By<F>(F);

impl<F: Fn(Request<Body>) -> Work> Service<Request<Body>> for By<F> {
    type Response = Response<Body>;
    type Error = Refused;
    type Future = Work;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Work {
        (self.0)(request)
    }
}

fn says(text: &'static str) -> Work {
    Box::pin(async move { Ok(Response::new(Body::from(text))) })
}

fn event(method: &str, path: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "ANY /v1/{proxy+}", "rawPath": path, "rawQueryString": "",
        "headers": {"x-trace-id": "trace-1"},
        "requestContext": {"http": {"method": method}, "stage": "$default", "requestId": "request-1"},
        "isBase64Encoded": false,
    })
}

fn payload(event: &Value) -> Box<RawValue> {
    RawValue::from_string(event.to_string()).unwrap()
}

fn in_seconds(seconds: u64) -> Deadline {
    Deadline::at(SystemTime::now() + Duration::from_secs(seconds))
}

/// The answer to an event, with ten seconds for it.
async fn answer(service: impl Fn(Request<Body>) -> Work + Clone, event: &Value) -> Answer {
    let server = Server::new("test", By(service));
    let answer = server.invoke(&payload(event), in_seconds(10)).await.unwrap();
    server.answered(in_seconds(10)).await;
    answer
}

#[track_caller]
fn check_error(answer: &Answer, status: u16, code: &str) {
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!((answer.status_code, &body["error"]["code"]), (status, &json!(code)), "{body}");
    assert_eq!(body["error"]["traceId"], answer.headers["x-trace-id"].as_str());
    assert!(body["error"]["message"].as_str().is_some_and(|message| !message.is_empty()));
    assert_eq!((body["error"].get("details"), answer.is_base64_encoded), (Some(&Value::Null), false));
}

#[tokio::test]
async fn a_service_sees_the_request_with_all_that_is_known_of_it() {
    let service = |request: Request<Body>| -> Work {
        let of = request.extensions();
        assert_eq!((request.method().as_str(), request.uri().path()), ("PATCH", "/v1/a%20b"));
        assert_eq!(of.get::<Caller>(), Some(&Caller::Nobody));
        assert_eq!(of.get::<RequestId>(), Some(&RequestId("request-1".to_owned())));
        assert_eq!(of.get::<TraceId>().unwrap().as_str(), "trace-1");
        assert!(of.get::<TraceContext>().unwrap().trace_id().is_some());
        assert!((8..=10).contains(&of.get::<Deadline>().unwrap().remaining().as_secs()));
        says("seen")
    };
    let answer = answer(service, &event("PATCH", "/v1/a b")).await;
    assert_eq!((answer.status_code, answer.body.as_str()), (200, "c2Vlbg=="));
}

#[tokio::test]
async fn each_answer_has_the_id_of_its_trace() {
    assert_eq!(answer(|_| says(""), &event("GET", "/")).await.headers["x-trace-id"], "trace-1");
    let own = |_| -> Work {
        let mut response = Response::new(Body::default());
        response.headers_mut().insert("x-trace-id", HeaderValue::from_static("another"));
        Box::pin(async { Ok(response) })
    };
    assert_eq!(answer(own, &event("GET", "/")).await.headers["x-trace-id"], "trace-1");
    assert_eq!(answer(|_| says(""), &json!({})).await.headers["x-trace-id"].len(), 32);
}

#[tokio::test]
async fn an_event_that_makes_no_request_is_answered_400_and_reaches_no_service() {
    let service = |_| -> Work { panic!("there is no request") };
    for no_request in [json!({}), json!(null), json!([1]), json!("a"), json!({"rawPath": 1}), event("GET", "a")] {
        check_error(&answer(service, &no_request).await, 400, "INVALID_REQUEST");
    }
    let sqs = json!({"Records": [{"messageId": "1", "body": "{}"}]});
    check_error(&answer(service, &sqs).await, 400, "INVALID_REQUEST");
    let mut secret = event("GET", "/");
    secret["headers"]["authorization"] = json!(["Bearer secret"]);
    assert!(!answer(service, &secret).await.body.contains("secret"));
}

#[tokio::test]
async fn a_panic_is_answered_500_and_the_next_request_is_none_the_worse() {
    let service = |request: Request<Body>| -> Work {
        match request.uri().path() {
            "/at-once" => panic!("secret"),
            "/later" => Box::pin(async {
                tokio::task::yield_now().await;
                panic!("secret")
            }),
            _ => says("well"),
        }
    };
    let server = Server::new("test", By(service));
    for (path, status) in [("/at-once", 500), ("/", 200), ("/later", 500), ("/", 200)] {
        let answer = server.invoke(&payload(&event("GET", path)), in_seconds(10)).await.unwrap();
        assert_eq!(answer.status_code, status, "{path}");
        if status == 500 {
            check_error(&answer, 500, "INTERNAL_ERROR");
            assert!(!answer.body.contains("secret"), "a panic's text is for the log");
        }
    }
}

#[tokio::test]
async fn a_service_that_fails_is_answered_500() {
    let fails = |_| -> Work { Box::pin(ready(Err(Refused))) };
    let answer = answer(fails, &event("GET", "/")).await;
    check_error(&answer, 500, "INTERNAL_ERROR");
    assert!(!answer.body.contains("pool"));
}

#[tokio::test]
async fn an_answer_that_lambda_would_refuse_is_answered_500() {
    let boasts = |_| -> Work { Box::pin(async { Ok(Response::new(Body::from(vec![0; 5 * 1024 * 1024]))) }) };
    check_error(&answer(boasts, &event("GET", "/")).await, 500, "INTERNAL_ERROR");
}

#[tokio::test]
async fn a_service_that_is_still_at_work_a_second_before_the_deadline_is_answered_503() {
    let started = Instant::now();
    let server = Server::new("test", By(|_| -> Work { Box::pin(pending()) }));
    let answer = server.invoke(&payload(&event("GET", "/")), in_seconds(2)).await.unwrap();
    let took = started.elapsed();
    check_error(&answer, 503, "SERVICE_UNAVAILABLE");
    assert_eq!(answer.headers["retry-after"], "1");
    assert!((900..1_900).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn without_time_a_request_is_answered_503_and_not_started() {
    for seconds in [0, 1] {
        let server = Server::new("test", By(|_| -> Work { panic!("it was started") }));
        let answer = server.invoke(&payload(&event("GET", "/")), in_seconds(seconds)).await.unwrap();
        check_error(&answer, 503, "SERVICE_UNAVAILABLE");
        assert_eq!(answer.headers["retry-after"], "1");
    }
}

/// A body whose second half never comes, as of a service that itself reads one from somewhere.
#[derive(Clone)]
struct Broken;

impl Service<Request<Body>> for Broken {
    type Response = Response<http_body_util::StreamBody<futures_util::stream::Once<Ready<Piece>>>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        let body = futures_util::stream::once(ready(Err(Refused)));
        ready(Ok(Response::new(http_body_util::StreamBody::new(body))))
    }
}

type Piece = Result<hyper::body::Frame<Bytes>, Refused>;

#[tokio::test]
async fn a_body_that_breaks_off_is_answered_500() {
    let answer = Server::new("test", Broken).invoke(&payload(&event("GET", "/")), in_seconds(10)).await.unwrap();
    check_error(&answer, 500, "INTERNAL_ERROR");
}

#[tokio::test]
async fn a_look_at_the_configuration_may_stop_the_start() {
    let server = Server::new("test", By(|_| says("")));
    assert_eq!(server.probe().await, Ok(()));
    let wrong = || ConfigError(vec!["TABLE names a table that is not there".to_owned()]);
    let server = server.looking(move || Box::pin(async move { Err(wrong()) }));
    assert_eq!(server.probe().await, Err(wrong()));
}

/// The fields of a line or a span.
type Fields = Vec<(String, String)>;

/// Keeps the fields of each line, and those of the spans.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Fields>>>);

impl Lines {
    fn visit(&self) -> impl FnMut(&field::Field, &dyn std::fmt::Debug) {
        let lines = self.0.clone();
        lines.lock().unwrap().push(Vec::new());
        move |field, value| {
            let value = format!("{value:?}").trim_matches('"').to_owned();
            lines.lock().unwrap().last_mut().unwrap().push((field.name().to_owned(), value));
        }
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("shared")
    }

    fn event(&self, event: &LogEvent<'_>) {
        event.record(&mut self.visit());
    }

    fn new_span(&self, attributes: &span::Attributes<'_>) -> span::Id {
        attributes.record(&mut self.visit());
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[tokio::test]
async fn each_request_has_one_line_with_its_route_and_nothing_that_its_client_sent() {
    let service = |_| -> Work {
        let mut response = Response::new(Body::from("secret"));
        response.extensions_mut().insert(Route("GET /v1/reservations/{id}"));
        Box::pin(async { Ok(response) })
    };
    let mut event = event("GET", "/v1/reservations/secret");
    event["rawQueryString"] = json!("a=secret");
    event["body"] = json!("secret");
    event["cookies"] = json!(["a=secret"]);
    event["headers"]["authorization"] = json!("Bearer secret");
    let lines = Lines::default();
    {
        let _listening = tracing::subscriber::set_default(lines.clone());
        answer(service, &event).await;
        answer(|_| says(""), &event).await;
        answer(|_| -> Work { Box::pin(ready(Err(Refused))) }, &event).await;
        answer(|_| says(""), &json!({"secret": "secret", "rawPath": "secret"})).await;
    }
    let lines = lines.0.lock().unwrap().clone();
    let text = |line: &[(String, String)], name: &str| {
        line.iter().find(|(field, _)| field == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let (spans, lines): (Vec<_>, Vec<_>) = lines.into_iter().partition(|line| text(line, "message").is_empty());
    assert_eq!(spans.len(), 4);
    assert_eq!(
        (text(&spans[0], "trace_id"), text(&spans[0], "gateway_request_id")),
        ("trace-1".into(), "request-1".into())
    );
    let of = |name| lines.iter().map(|line| text(line, name)).collect::<Vec<_>>();
    assert_eq!(of("route"), ["GET /v1/reservations/{id}", "ANY /v1/{proxy+}", "ANY /v1/{proxy+}", "unknown"]);
    assert_eq!(of("status"), ["200", "200", "500", "400"]);
    assert_eq!(
        of("error")[2..],
        ["the service failed: the pool is empty", "the event is not a request: the path does not begin with a slash"]
    );
    assert!(lines.iter().all(|line| text(line, "latency_ms").parse::<u64>().is_ok()), "{lines:?}");
    assert!(!format!("{lines:?}{spans:?}").contains("secret"), "{lines:?} {spans:?}");
}

#[tokio::test]
async fn a_request_is_told_when_its_answer_is_out_and_once() {
    let server = Server::new("test", By(|_| says("")));
    let lines = Lines::default();
    let _listening = tracing::subscriber::set_default(lines.clone());
    let told = || lines.0.lock().unwrap().iter().flatten().filter(|(field, _)| field == "latency_ms").count();
    for before in 0..2 {
        server.invoke(&payload(&event("GET", "/")), in_seconds(10)).await.unwrap();
        assert_eq!(told(), before, "nobody waits for its line");
        server.answered(in_seconds(10)).await;
        server.answered(in_seconds(10)).await;
        assert_eq!(told(), before + 1);
    }
}

#[tokio::test]
async fn cookies_of_an_answer_are_apart() {
    let service = |_| -> Work {
        let mut response = Response::new(Body::default());
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static("a=1"));
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_static("b=2"));
        Box::pin(async { Ok(response) })
    };
    assert_eq!(answer(service, &event("GET", "/")).await.cookies, ["a=1", "b=2"]);
}
