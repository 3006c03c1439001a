//! Any request to the reservation API, and any call by RPC, through the adapter to the real functions: a request is answered as
//! the document says, and neither with a fault of the function's own.

use std::sync::OnceLock;

use base64::{Engine, prelude::BASE64_STANDARD};
use local_stack::{build, document::Document, lambda::Function, stack::Stack};
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::cases;

const SHOW: &str = "evt_1";

/// The function, on a stack of its own that is there for all tests.
struct Api {
    runtime: Runtime,
    function: Function,
    rpc: Function,
    document: Document,
    stack: Stack,
}

fn api() -> &'static Api {
    static API: OnceLock<Api> = OnceLock::new();
    API.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stack, [function, rpc]) = runtime.block_on(async {
            let stack = Stack::start().await.unwrap();
            let seats: Vec<String> = (0..1_000).map(|number| format!("A-{number}")).collect();
            stack.inventory.stock(SHOW, &seats, 1_000);
            let names = [reservation_api::NAME, reservation_rpc::NAME];
            let binaries = build::these_functions(&names).expect("the functions build");
            let functions = names.map(|name| stack.deploy(name, binaries[name].clone(), 4).unwrap());
            (stack, functions)
        });
        Api { runtime, function, rpc, document: Document::read().unwrap(), stack }
    })
}

/// An event, by a caller that the front door knows.
fn request(method: &str, path: &str, caller: Value) -> Value {
    json!({
        "version": "2.0", "routeKey": "ANY /{proxy+}", "rawPath": path, "rawQueryString": "",
        "headers": {"content-type": "application/json", "idempotency-key": "key-1", "if-none-match": "*"},
        "requestContext": {
            "http": {"method": method}, "stage": "$default", "requestId": "request-1", "authorizer": caller,
        },
        "isBase64Encoded": false,
    })
}

fn customer() -> Value {
    json!({"jwt": {"claims": {"sub": "usr_1"}, "scopes": null}})
}

fn worker() -> Value {
    json!({"iam": {"userArn": "arn:aws:sts::123456789012:assumed-role/worker/payment-approved"}})
}

fn caller() -> impl Strategy<Value = Value> {
    select(vec![customer(), worker(), json!(null), json!({"jwt": {"claims": {"sub": ""}}})])
}

/// Sends an event, and asserts what must hold of every answer.
fn check(event: &Value) -> Result<u16, TestCaseError> {
    let api = api();
    let invocation = api.runtime.block_on(api.function.invoke(event.to_string()));
    let answer = invocation.result.unwrap_or_else(|error| panic!("an invocation never fails: {error:?} for {event}"));
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let status = u16::try_from(answer["statusCode"].as_u64().unwrap()).unwrap();
    prop_assert!(status < 500, "{} for {}", answer, event);
    let text = answer["body"].as_str().unwrap_or_default();
    let is_page = answer["headers"]["content-type"].as_str().is_some_and(|kind| kind.starts_with("text/html"));
    let body: Value = if text.is_empty() || is_page { Value::Null } else { serde_json::from_str(text).unwrap() };
    prop_assert!(answer["headers"]["x-trace-id"].is_string(), "{} for {}", answer, event);
    let method = event["requestContext"]["http"]["method"].as_str().unwrap_or_default();
    if status >= 400 && body["reservation_id"].is_null() && method != "HEAD" {
        let error = body["error"].as_object().unwrap_or_else(|| panic!("no error in {answer} for {event}"));
        prop_assert!(error["code"].is_string() && error["message"].is_string(), "{} for {}", answer, event);
        prop_assert_eq!(&error["traceId"], &answer["headers"]["x-trace-id"]);
    }
    let path = event["rawPath"].as_str().unwrap_or_default();
    prop_assert_eq!(api.document.fault(method, path, status, &body), None, "{} for {}", answer, event);
    Ok(status)
}

fn methods() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec!["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"]).prop_map(str::to_owned),
        1 => "[A-Z]{1,12}",
    ]
}

/// Paths of the API with anything in place of an id, and paths of nobody.
fn path() -> impl Strategy<Value = String> {
    let id = prop_oneof![
        2 => "[a-z0-9_]{1,40}",
        2 => "[ -~]{0,60}",
        1 => any::<String>(),
        1 => "(\\.\\.|%2F|%00|%25|\\\\|\"|\\?|#|;){1,6}",
        1 => "[a-z0-9]{1,2}".prop_map(|text| text.repeat(4_000)),
    ];
    let known = select(vec!["/v1/reservations/", "/internal/reservations/", "/v1/", "/internal/", "/", "/health/"]);
    let after = select(vec!["", "", "/confirm", "/cancel", "/extend", "/", "/confirm/x"]);
    (known, id, after).prop_map(|(before, id, after)| format!("{before}{id}{after}"))
}

/// JSON that is deep, long, or has a little of what is asked for.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let value = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        select(vec![json!(SHOW), json!(1), json!(2), json!(10), json!("CONFIRMED"), json!("pi_1"), json!(1.0)]),
        proptest::collection::vec("[ -~]{0,70}", 0..12).prop_map(|seats| json!(seats)),
        (0_usize..1_002).prop_map(|count| (0..count).map(|number| format!("A-{number}")).collect::<Vec<_>>().into()),
        Just(json!({"a": [1, {"b": null}]})),
    ];
    const NAMES: [&str; 13] = [
        "eventId",
        "event_id",
        "quantity",
        "seatIds",
        "seat_ids",
        "reservationToken",
        "reservationId",
        "paymentIntentId",
        "extensionSeconds",
        "status",
        "payment_intent_id",
        "amount",
        "currency",
    ];
    let object = proptest::collection::vec((select(&NAMES[..]), value), 0..8).prop_map(|fields| {
        fields.into_iter().map(|(name, value)| format!("{}: {value}", json!(name))).collect::<Vec<_>>()
    });
    // Written out, so that a name may stand there twice.
    let object = object.prop_map(|fields| format!("{{{}}}", fields.join(", ")).into_bytes());
    prop_oneof![
        6 => object,
        1 => proptest::collection::vec(any::<u8>(), 0..200),
        1 => any::<String>().prop_map(String::into_bytes),
        1 => (select(vec!["[", "{\"a\":", "\"", " "]), 1_usize..66_000).prop_map(|(text, times)| text.repeat(times).into_bytes()),
        1 => (1_usize..70_000).prop_map(|length| format!("{{\"eventId\": \"{}\"}}", "x".repeat(length)).into_bytes()),
    ]
}

fn with_body(mut event: Value, body: &[u8]) -> Value {
    match std::str::from_utf8(body) {
        Ok(text) => event["body"] = json!(text),
        Err(_) => {
            event["body"] = json!(BASE64_STANDARD.encode(body));
            event["isBase64Encoded"] = json!(true);
        }
    }
    event
}

/// Every operation, with a reservation that is not there where one is named.
fn operations() -> Vec<(String, String, Value)> {
    let document = Document::read().unwrap();
    let of = |operation: local_stack::document::Operation<'_>| {
        let caller = if operation.tag == "functions" { worker() } else { customer() };
        (operation.method.to_owned(), operation.path.replace("{id}", "rsv_1"), caller)
    };
    document.operations().into_iter().map(of).collect()
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn no_path_and_no_method_is_a_fault_of_the_function(method in methods(), path in path(), caller in caller()) {
        check(&with_body(request(&method, &path, caller), b"{}"))?;
    }

    #[test]
    fn no_query_is_a_fault_of_the_function(
        pairs in proptest::collection::vec((
            prop_oneof![
                4 => select(vec!["status", "eventId", "event_id", "limit", "cursor"]).prop_map(str::to_owned),
                1 => "[ -~]{0,10}",
            ],
            prop_oneof![
                2 => "[ -~]{0,40}",
                1 => any::<String>(),
                1 => "(%[0-9a-fA-F]{2}){1,8}",
                2 => select(vec!["HOLD", "1", "100", "101", "-1", "evt_1", "MTc5NTE2NjA2MDAwMCByc3ZfMQ", "%FF"])
                    .prop_map(str::to_owned),
            ],
        ), 0..6),
    ) {
        let mut event = request("GET", "/v1/reservations", customer());
        let query: Vec<String> = pairs.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        event["rawQueryString"] = json!(query.join("&"));
        let status = check(&event)?;
        prop_assert!([200, 400].contains(&status), "{} for {}", status, event);
    }

    #[test]
    fn no_header_is_a_fault_of_the_function(
        operation in select(operations()),
        name in select(vec![
            "idempotency-key", "content-type", "if-none-match", "traceparent", "x-amzn-trace-id", "x-trace-id", "baggage",
            "cookie", "host", "accept", "content-length", "content-encoding", "expect",
        ]),
        value in prop_oneof!["[ -~]{0,300}", any::<String>(), "(,|\"|=|;| ){0,6}"],
    ) {
        let (method, path, caller) = operation;
        let mut event = with_body(request(&method, &path, caller), b"{}");
        event["headers"][name] = json!(value);
        check(&event)?;
    }

    #[test]
    fn no_body_is_a_fault_of_the_function(operation in select(operations()), body in body()) {
        let (method, path, caller) = operation;
        check(&with_body(request(&method, &path, caller), &body))?;
    }
}

/// Headers that the protocols of RPC give a meaning to.
const OF_RPC: [&str; 8] = [
    "connect-protocol-version",
    "connect-timeout-ms",
    "connect-content-encoding",
    "content-encoding",
    "grpc-timeout",
    "grpc-encoding",
    "accept-encoding",
    "te",
];

const KINDS: [&str; 12] = [
    "application/json",
    "application/json; charset=utf-8",
    "application/proto",
    "application/connect+json",
    "application/connect+proto",
    "application/grpc",
    "application/grpc+json",
    "application/grpc-web",
    "application/grpc-web+proto",
    "application/grpc-web+json",
    "application/grpc-web-text",
    "text/plain",
];

const CALLS: [&str; 7] = [
    "CreateReservation",
    "GetReservation",
    "ConfirmReservation",
    "CancelReservation",
    "ListReservations",
    "ExtendHold",
    "NoSuchCall",
];

/// A body as gRPC-Web frames it, with a length that is right or not.
fn framed() -> impl Strategy<Value = Vec<u8>> {
    let flag = select(vec![0_u8, 1, 2, 0x80, 0xff]);
    (flag, proptest::option::of(any::<u32>()), body()).prop_map(|(flag, length, body)| {
        let length = length.unwrap_or_else(|| u32::try_from(body.len()).unwrap());
        [&[flag][..], &length.to_be_bytes(), &body].concat()
    })
}

proptest! {
    #![proptest_config(cases(600))]

    /// A call that there is not is 501 by the protocol's own table, and a time-out that the caller has set is 504.
    #[test]
    fn no_call_is_a_fault_of_the_function(
        call in select(&CALLS[..]),
        kind in select(&KINDS[..]),
        header in proptest::option::of((select(&OF_RPC[..]), prop_oneof!["[0-9]{0,12}[a-zA-Z]?", "[ -~]{0,20}"])),
        caller in caller(),
        body in prop_oneof![2 => body(), 1 => framed()],
    ) {
        let path = format!("/reservation.v1.ReservationService/{call}");
        let mut event = with_body(request("POST", &path, caller), &body);
        event["headers"]["content-type"] = json!(kind);
        if let Some((name, value)) = header {
            event["headers"][name] = json!(value);
        }
        let api = api();
        let invocation = api.runtime.block_on(api.rpc.invoke(event.to_string()));
        let answer = invocation.result.unwrap_or_else(|error| panic!("an invocation never fails: {error:?} for {event}"));
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        let status = answer["statusCode"].as_u64().unwrap();
        prop_assert!(status < 500 || [501, 504].contains(&status), "{} for {}", answer, event);
        prop_assert!(answer["headers"]["x-trace-id"].is_string(), "{} for {}", answer, event);
        let native = kind.starts_with("application/grpc") && !kind.starts_with("application/grpc-web");
        prop_assert_eq!(native, status == 415 && answer["body"].as_str().unwrap_or_default().contains("native gRPC"));
    }
}

/// The tests above say little if every request is refused.
#[test]
fn a_right_request_is_answered_and_holds_its_seats() {
    let body = json!({"eventId": SHOW, "seatIds": ["A-7"]}).to_string();
    let mut event = with_body(request("POST", "/v1/reservations", customer()), body.as_bytes());
    event["headers"]["idempotency-key"] = json!("a-right-one");
    assert_eq!(check(&event).unwrap(), 201);
    assert!(api().stack.inventory.oversold().is_empty());

    let body = json!({"eventId": SHOW, "seatIds": ["A-8"], "idempotencyKey": "a-right-call"}).to_string();
    let call = request("POST", "/reservation.v1.ReservationService/CreateReservation", customer());
    let invocation = api().runtime.block_on(api().rpc.invoke(with_body(call, body.as_bytes()).to_string()));
    let answer: Value = serde_json::from_slice(&invocation.result.unwrap()).unwrap();
    assert_eq!(answer["statusCode"], 200, "{answer}");
}
