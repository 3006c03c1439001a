//! Any event of an HTTP API, through the adapter and an `axum::Router` behind it.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use axum::{Router, body::Bytes, extract::OriginalUri, http::Method, response::IntoResponse};
use base64::{Engine, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use proptest::{prelude::*, sample::select};
use serde_json::{Map, Value, json, value::RawValue};
use shared::{
    deadline::Deadline,
    start::Function,
    trigger::http::{Answer, Server},
};

use crate::cases;

/// What a service has seen of a request.
#[derive(Clone, Debug, Default, PartialEq)]
struct Seen {
    method: String,
    path: String,
    query: Option<String>,
    body: Vec<u8>,
}

/// The answer to an event, and what the service saw if it was reached.
fn answer(event: &Value) -> (Answer, Option<Seen>) {
    let seen: Arc<Mutex<Option<Seen>>> = Arc::default();
    let noted = seen.clone();
    let service =
        Router::new().fallback(move |method: Method, OriginalUri(uri): OriginalUri, body: Bytes| async move {
            let (path, query) = (uri.path().to_owned(), uri.query().map(str::to_owned));
            *noted.lock().unwrap() = Some(Seen { method: method.to_string(), path, query, body: body.to_vec() });
            body.into_response()
        });
    let payload = RawValue::from_string(event.to_string()).unwrap();
    let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(30));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let server = Server::new("test", service);
    let answer = runtime.block_on(async {
        let answer = server.invoke(&payload, deadline).await;
        server.answered(deadline).await;
        answer
    });
    let seen = seen.lock().unwrap().clone();
    (answer.expect("an invocation never fails"), seen)
}

fn request(method: &str, path: &str, query: &str) -> Value {
    json!({
        "version": "2.0", "routeKey": "ANY /{proxy+}", "rawPath": path, "rawQueryString": query, "headers": {},
        "requestContext": {"http": {"method": method}, "stage": "$default", "requestId": "request-1"},
        "isBase64Encoded": false,
    })
}

/// Where a request's event is written to, as JSON pointers.
const PLACES: [&str; 14] = [
    "/rawPath",
    "/rawQueryString",
    "/routeKey",
    "/headers",
    "/headers/a",
    "/headers/cookie",
    "/headers/traceparent",
    "/cookies",
    "/body",
    "/isBase64Encoded",
    "/requestContext",
    "/requestContext/http/method",
    "/requestContext/stage",
    "/requestContext/authorizer",
];

fn any_json() -> impl Strategy<Value = Value> {
    const NAMES: [&str; 11] =
        ["jwt", "iam", "claims", "sub", "scopes", "userArn", "http", "method", "stage", "a", "cookie"];

    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[ -~]{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        let name = prop_oneof![3 => select(&NAMES[..]).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// What may stand behind the first slash: much of it means something in a URL.
fn path() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[./\\\\?#%:@&=;+~\" a-z0-9-]{0,24}",
        1 => "(\\.\\.|\\.|%2e|%2F|/|\\\\|%5c|%25){1,8}",
        2 => "[ -~]{0,40}",
        1 => any::<String>(),
    ]
}

#[track_caller]
fn check_answer(answer: &Answer) {
    assert!((100..600).contains(&answer.status_code), "{answer:?}");
    assert!(answer.headers.contains_key("x-trace-id"), "{answer:?}");
    serde_json::to_string(answer).expect("it can be written");
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn any_json_is_answered(event in any_json()) {
        let (answer, seen) = answer(&event);
        check_answer(&answer);
        prop_assert_eq!(seen.is_none(), answer.status_code == 400, "{:?}", answer);
    }

    #[test]
    fn a_request_with_anything_in_one_place_is_answered(place in select(&PLACES[..]), anything in any_json()) {
        let mut event = request("POST", "/a", "b=c");
        let (parent, name) = place.rsplit_once('/').unwrap();
        if let Some(Value::Object(fields)) = event.pointer_mut(parent) {
            fields.insert(name.to_owned(), anything);
        }
        let (answer, seen) = answer(&event);
        check_answer(&answer);
        prop_assert_eq!(seen.is_none(), answer.status_code == 400, "{:?}", answer);
    }

    #[test]
    fn any_path_survives(path in path()) {
        let sent = format!("/{path}");
        let (answer, seen) = answer(&request("GET", &sent, ""));
        prop_assert_eq!(answer.status_code, 200, "{:?}", sent);
        let seen = seen.expect("the service was reached");
        prop_assert_eq!(percent_decode_str(&seen.path).decode_utf8().unwrap(), sent.as_str());
        prop_assert_eq!(seen.query, None, "nothing of a path becomes a query");
        let segments = |path: &str| path.split('/').count();
        prop_assert_eq!(segments(&seen.path), segments(&sent), "nothing of a path becomes a segment");
    }

    #[test]
    fn any_query_arrives_as_it_was_written_or_escaped(query in path()) {
        let (answer, seen) = answer(&request("GET", "/a", &query));
        prop_assert_eq!(answer.status_code, 200, "{:?}", query);
        let seen = seen.expect("the service was reached");
        prop_assert_eq!(seen.path, "/a");
        let arrived = seen.query.unwrap_or_default();
        let decoded = |text: &str| percent_decode_str(text).collect::<Vec<u8>>();
        prop_assert_eq!(decoded(&arrived), decoded(&query), "{} of {}", arrived, query);
        let legal = |byte: u8| byte.is_ascii_graphic() && !b"\"#<>".contains(&byte);
        if query.bytes().all(|byte| legal(byte) && byte != b'%') {
            prop_assert_eq!(arrived, query, "what a URI takes is left alone");
        }
    }

    #[test]
    fn any_body_arrives_as_it_was_sent(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut event = request("POST", "/", "");
        match std::str::from_utf8(&body) {
            Ok(text) => event["body"] = json!(text),
            Err(_) => {
                event["body"] = json!(BASE64_STANDARD.encode(&body));
                event["isBase64Encoded"] = json!(true);
            }
        }
        let (answer, seen) = answer(&event);
        prop_assert_eq!(seen.expect("the service was reached").body, body);
        check_answer(&answer);
    }
}

/// The tests above say little if no event ever makes a request.
#[test]
fn a_request_reaches_the_router() {
    let mut event = request("PUT", "/a b", "c=d");
    event["body"] = json!("e");
    let (answer, seen) = answer(&event);
    let expected = Seen {
        method: "PUT".to_owned(),
        path: "/a%20b".to_owned(),
        query: Some("c=d".to_owned()),
        body: b"e".to_vec(),
    };
    assert_eq!((answer.status_code, seen), (200, Some(expected)));
}
