//! The reservation API by its requests, as API Gateway hands them over: who may do what, and what each mistake is answered.

use std::{collections::BTreeMap, future::ready};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use http_body_util::{BodyExt, Full};
use local_stack::{
    document::Document,
    inventory::{CommitStatus, Scripted, SeatState},
    lambda::{Function, FunctionError},
    stack::{RESERVATIONS, Stack},
};
use prost::Message;
use serde_json::{Value, json};
use shared::reservation::lifecycle::{Reservation, Terms, Wish};
use tokio::net::TcpListener;
use tonic::{
    Code,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};

use crate::{
    harness::binaries,
    telemetry::{grpc_calls, metric_lines},
};

const SHOW: &str = "evt_1";

/// The API on a stack of its own.
pub(crate) struct Api {
    pub(crate) stack: Stack,
    function: Function,
}

/// An answer, with its body as JSON.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u64,
    headers: Value,
    pub(crate) body: Value,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers[name].as_str()
    }

    /// Asserts that this is an error of this code, in the form of all errors, under the trace id of the answer's header.
    #[track_caller]
    pub(crate) fn is_error(&self, status: u64, code: &str) -> &Value {
        assert_eq!((self.status, self.body["error"]["code"].as_str()), (status, Some(code)), "{self:#?}");
        assert_eq!(self.body["error"]["traceId"].as_str(), self.header("x-trace-id"), "{self:#?}");
        assert!(self.body["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{self:#?}");
        &self.body["error"]["details"]
    }
}

/// A request, as API Gateway hands it over.
pub(crate) struct Ask {
    event: Value,
}

pub(crate) fn ask(method: &str, path: &str) -> Ask {
    Ask {
        event: json!({
            "version": "2.0",
            "routeKey": format!("{method} {path}"),
            "rawPath": path,
            "rawQueryString": "",
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": {"method": method, "path": path}, "requestId": "r-1", "stage": "$default"},
            "isBase64Encoded": false,
        }),
    }
}

impl Ask {
    pub(crate) fn by(mut self, sub: &str) -> Self {
        self.event["requestContext"]["authorizer"] = json!({"jwt": {"claims": {"sub": sub}, "scopes": null}});
        self
    }

    pub(crate) fn signed(mut self) -> Self {
        let arn = "arn:aws:sts::123456789012:assumed-role/worker/payment-approved";
        self.event["requestContext"]["authorizer"] = json!({"iam": {"userArn": arn}});
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.event["headers"][name] = json!(value);
        self
    }

    pub(crate) fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    fn query(mut self, query: &str) -> Self {
        self.event["rawQueryString"] = json!(query);
        self
    }

    pub(crate) fn body(self, body: Value) -> Self {
        self.text(&body.to_string())
    }

    pub(crate) fn text(mut self, body: &str) -> Self {
        self.event["body"] = json!(body);
        self
    }
}

pub(crate) fn create(seats: &[&str]) -> Ask {
    let body = json!({"eventId": SHOW, "quantity": seats.len(), "seatIds": seats, "reservationToken": "t"});
    ask("POST", "/v1/reservations").by("usr_1").key("key-1").body(body)
}

/// What a function answers.
pub(crate) async fn answer_of(function: &Function, ask: &Ask) -> Answer {
    let invocation = function.invoke(ask.event.to_string()).await;
    let answer = invocation.result.unwrap_or_else(|error| panic!("an invocation never fails: {error:?}"));
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let body = match answer["body"].as_str().unwrap_or_default() {
        "" => Value::Null,
        body => serde_json::from_str(body).unwrap_or_else(|error| panic!("{body:?} is not JSON: {error}")),
    };
    Answer { status: answer["statusCode"].as_u64().unwrap(), headers: answer["headers"].clone(), body }
}

/// Asserts that the API's document has this answer for its request.
#[track_caller]
fn is_documented(event: &Value, answer: &Answer) {
    let document = Document::read().unwrap();
    let method = event["requestContext"]["http"]["method"].as_str().unwrap_or_default();
    let path = event["rawPath"].as_str().unwrap_or_default();
    let status = u16::try_from(answer.status).unwrap();
    assert_eq!(document.fault(method, path, status, &answer.body), None, "{answer:#?}");
}

impl Api {
    pub(crate) async fn start() -> Self {
        Self::start_on(Stack::start().await.unwrap(), 2)
    }

    /// On a stack of the caller's, with so many environments, and seats on sale.
    pub(crate) fn start_on(stack: Stack, environments: usize) -> Self {
        stack.inventory.stock(SHOW, &["A-1", "A-2", "A-3"].map(str::to_owned), 10);
        Self::deployed(stack, environments)
    }

    /// On a stack of the caller's as it is.
    pub(crate) fn deployed(stack: Stack, environments: usize) -> Self {
        let binary = binaries()[reservation_api::NAME].clone();
        let function = stack.deploy(reservation_api::NAME, binary, environments).unwrap();
        Self { stack, function }
    }

    /// What its function has written.
    pub(crate) fn logs(&self) -> Vec<String> {
        self.function.all_logs()
    }

    pub(crate) async fn answer(&self, ask: Ask) -> Answer {
        let answer = answer_of(&self.function, &ask).await;
        is_documented(&ask.event, &answer);
        answer
    }

    pub(crate) async fn created(&self, ask: Ask) -> String {
        let answer = self.answer(ask).await;
        assert_eq!(answer.status, 201, "{answer:#?}");
        answer.body["reservationId"].as_str().unwrap().to_owned()
    }
}

impl Api {
    pub(crate) async fn cancel(&self, id: &str) {
        let answer = self.answer(ask("POST", &format!("/v1/reservations/{id}/cancel")).by("usr_1")).await;
        assert_eq!(answer.status, 200, "{answer:#?}");
    }

    pub(crate) async fn extend(&self, id: &str) {
        let longer = ask("POST", &format!("/v1/reservations/{id}/extend")).by("usr_1");
        let answer = self.answer(longer.body(json!({"extensionSeconds": 60}))).await;
        assert_eq!(answer.status, 200, "{answer:#?}");
    }
}

#[tokio::test]
async fn seats_are_held_shown_and_given_up() {
    let api = Api::start().await;
    let answer = api.answer(create(&["A-1", "A-2"])).await;
    assert_eq!((answer.status, answer.body["status"].as_str()), (201, Some("HOLD")), "{answer:#?}");
    let id = answer.body["reservationId"].as_str().unwrap();
    assert_eq!(answer.header("location"), Some(format!("/v1/reservations/{id}").as_str()));
    assert_eq!(answer.header("idempotent-replayed"), None);
    assert_eq!(api.stack.inventory.seat_state(id), SeatState::Held);

    let again = api.answer(create(&["A-2", "A-1"])).await;
    assert_eq!((again.status, again.header("idempotent-replayed")), (201, Some("true")));
    assert_eq!(again.body, answer.body, "a repeat is told the same");

    let path = format!("/v1/reservations/{id}");
    let shown = api.answer(ask("GET", &path).by("usr_1")).await;
    assert_eq!(shown.status, 200);
    assert_eq!((&shown.body["seatIds"], &shown.body["quantity"]), (&json!(["A-1", "A-2"]), &json!(2)));
    assert_eq!((&shown.body["eventId"], &shown.body["holdExpiresAt"]), (&json!(SHOW), &answer.body["holdExpiresAt"]));
    let listed = api.answer(ask("GET", "/v1/reservations").by("usr_1").query("status=HOLD&limit=5")).await;
    assert_eq!((listed.body["items"][0].clone(), &listed.body["nextCursor"]), (shown.body, &Value::Null));

    let longer =
        api.answer(ask("POST", &format!("{path}/extend")).by("usr_1").body(json!({"extensionSeconds": 60}))).await;
    assert_eq!(longer.status, 200);
    assert_ne!(longer.body["holdExpiresAt"], answer.body["holdExpiresAt"]);
    for path in [format!("{path}/cancel"), format!("{path}/cancel")] {
        let cancelled = api.answer(ask("POST", &path).by("usr_1")).await;
        assert_eq!((cancelled.status, cancelled.body["status"].as_str()), (200, Some("CANCELLED")));
    }
    let named = ask("POST", "/v1/reservations/cancel").by("usr_1").body(json!({"reservation_id": id}));
    assert_eq!(api.answer(named).await.status, 200, "by the body, in either spelling");
    let late = ask("POST", &format!("{path}/confirm")).by("usr_1").body(json!({"paymentIntentId": "pi_1"}));
    api.answer(late).await.is_error(409, "RESERVATION_ALREADY_CANCELLED");
}

#[tokio::test]
async fn a_payment_confirms_and_nobody_else_can() {
    let api = Api::start().await;
    let id = api.created(create(&["A-1"])).await;
    let confirm = |payment: &str| {
        ask("POST", "/v1/reservations/confirm")
            .by("usr_1")
            .body(json!({"reservationId": id, "paymentIntentId": payment}))
    };
    let unpaid = api.answer(confirm("pi_1")).await;
    unpaid.is_error(402, "PAYMENT_NOT_CONFIRMED");
    assert_eq!(unpaid.header("retry-after"), None, "no waiting makes an unknown payment known");

    let path = format!("/internal/reservations/{id}");
    let wanted = json!({"status": "CONFIRMED", "payment_intent_id": "pi_1", "amount": 7_600, "currency": "EUR"});
    for _ in 0..2 {
        let settled = api.answer(ask("PATCH", &path).signed().key("payment.approved#x#y").body(wanted.clone())).await;
        assert_eq!((settled.status, settled.body["status"].as_str()), (200, Some("CONFIRMED")), "{settled:#?}");
        assert_eq!((&settled.body["reservation_id"], &settled.body["amount"]), (&json!(id), &json!(7_600)));
    }
    let paid = api.answer(confirm("pi_1")).await;
    assert_eq!((paid.status, paid.body["orderId"].as_str()), (200, Some(id.replace("rsv_", "ord_").as_str())));
    api.answer(confirm("pi_2")).await.is_error(409, "RESERVATION_ALREADY_CONFIRMED");
    let other = json!({"status": "CONFIRMED", "payment_intent_id": "pi_2"});
    let conflict = api.answer(ask("PATCH", &path).signed().body(other)).await;
    assert_eq!((conflict.status, conflict.body["status"].as_str()), (409, Some("CONFIRMED")));
    assert_eq!(conflict.body["payment_intent_id"], "pi_1");
    assert_eq!(api.answer(ask("GET", &path).signed()).await.body, conflict.body);
}

#[tokio::test]
async fn a_timer_that_is_early_is_told_when_to_come_again() {
    let api = Api::start().await;
    let id = api.created(create(&["A-1"])).await;
    let path = format!("/internal/reservations/{id}");
    let early = api.answer(ask("PATCH", &path).signed().body(json!({"status": "EXPIRED"}))).await;
    assert_eq!((early.status, early.body["status"].as_str()), (409, Some("HOLD")));
    let seconds: u64 = early.header("retry-after").unwrap().parse().unwrap();
    assert!((55..=60).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn what_is_ended_before_it_began_is_not_created() {
    let api = Api::start().await;
    let path = "/internal/reservations/rsv_never";
    for status in [201, 200] {
        let ended = api.answer(ask("PUT", path).signed().header("if-none-match", "*")).await;
        assert_eq!((ended.status, ended.body["status"].as_str()), (status, Some("EXPIRED")));
    }
    api.answer(ask("PUT", path).signed()).await.is_error(400, "INVALID_REQUEST");
    api.answer(ask("GET", "/v1/reservations/rsv_never").by("usr_1")).await.is_error(404, "RESERVATION_NOT_FOUND");
    let id = api.created(create(&["A-1"])).await;
    let path = format!("/internal/reservations/{id}");
    let created = api.answer(ask("PUT", &path).signed().header("if-none-match", "*")).await;
    assert_eq!((created.status, created.body["status"].as_str()), (412, Some("HOLD")));
}

/// Every route with every method, by callers that it is not for.
#[tokio::test]
async fn a_route_does_nothing_for_whoever_it_is_not_for() {
    let api = Api::start().await;
    let id = api.created(create(&["A-1"])).await;
    let customers = [
        ("POST", "/v1/reservations".to_owned()),
        ("GET", "/v1/reservations".to_owned()),
        ("GET", format!("/v1/reservations/{id}")),
        ("POST", "/v1/reservations/confirm".to_owned()),
        ("POST", "/v1/reservations/cancel".to_owned()),
        ("POST", format!("/v1/reservations/{id}/confirm")),
        ("POST", format!("/v1/reservations/{id}/cancel")),
        ("POST", format!("/v1/reservations/{id}/extend")),
    ];
    let body = json!({"reservationId": id, "paymentIntentId": "pi_1", "extensionSeconds": 60, "status": "CANCELLED"});
    for (method, path) in &customers {
        for nobody in [ask(method, path), ask(method, path).signed(), ask(method, path).by("")] {
            api.answer(nobody.key("k").body(body.clone())).await.is_error(401, "AUTHENTICATION_FAILED");
        }
        if path.contains(&id) || path.ends_with("confirm") || path.ends_with("cancel") {
            let other = ask(method, path).by("usr_2").key("k").body(body.clone());
            api.answer(other).await.is_error(404, "RESERVATION_NOT_FOUND");
        }
    }
    assert_eq!(api.answer(ask("GET", "/v1/reservations").by("usr_2")).await.body["items"], json!([]));
    for method in ["PATCH", "GET", "PUT"] {
        let path = format!("/internal/reservations/{id}");
        for nobody in [ask(method, &path), ask(method, &path).by("usr_1")] {
            let nobody = nobody.header("if-none-match", "*").body(body.clone());
            api.answer(nobody).await.is_error(401, "AUTHENTICATION_FAILED");
        }
    }
    assert_eq!(api.stack.inventory.calls().len(), 1, "nothing was asked of the inventory");
    let shown = api.answer(ask("GET", &format!("/v1/reservations/{id}")).by("usr_1")).await;
    assert_eq!(shown.body["status"], "HOLD", "and nothing has changed");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_done_have_errors_of_their_own() {
    let api = Api::start().await;
    for path in
        ["/", "/v2/reservations", "/v1/reservations/a/b/c", "/internal", "/v1/reservations/", "/V1/reservations"]
    {
        api.answer(ask("GET", path).by("usr_1")).await.is_error(404, "NOT_FOUND");
    }
    for (method, path, allowed) in [
        ("DELETE", "/v1/reservations/rsv_1", "GET,HEAD"),
        ("PUT", "/v1/reservations", "POST,GET,HEAD"),
        ("POST", "/internal/reservations/rsv_1", "PATCH,GET,HEAD,PUT"),
        ("POST", "/health", "GET,HEAD"),
        ("TRACE", "/v1/reservations/rsv_1/cancel", "POST"),
    ] {
        let answer = api.answer(ask(method, path).by("usr_1")).await;
        answer.is_error(405, "METHOD_NOT_ALLOWED");
        let mut methods: Vec<&str> = answer.header("allow").unwrap().split(',').map(str::trim).collect();
        let mut expected: Vec<&str> = allowed.split(',').collect();
        methods.sort_unstable();
        expected.sort_unstable();
        assert_eq!(methods, expected, "{method} {path}");
    }
    // A browser's question before a page calls, which names nobody.
    let preflight = api.answer(ask("OPTIONS", "/v1/reservations")).await;
    assert_eq!((preflight.status, &preflight.body), (204, &Value::Null), "{preflight:#?}");
    assert!(preflight.header("allow").is_some_and(|methods| methods.contains("POST")), "{preflight:#?}");
    for path in ["/health", "/actuator/health"] {
        assert_eq!(api.answer(ask("GET", path)).await.body, json!({"status": "UP"}));
    }
    let info = api.answer(ask("GET", "/info")).await.body;
    assert_eq!((&info["name"], &info["version"]), (&json!("reservation-api"), &json!(env!("CARGO_PKG_VERSION"))));
    // The functions are built where these tests are.
    assert_eq!(info["commit"].as_str(), option_env!("HOLDFAST_COMMIT").filter(|commit| !commit.is_empty()));
}

#[tokio::test]
async fn a_request_is_counted_under_its_route_however_it_is_answered() {
    let api = Api::start().await;
    let refused = create(&["A-9"]).key("key-2");
    let nobody =
        Ask { event: json!({"requestContext": {"http": {"method": "PATCH"}}, "rawPath": "/internal/reservations/x"}) };
    let unknown = ask("DELETE", "/v1/reservations/rsv_1").by("usr_1");
    for (asked, route, status) in [
        (create(&["A-1"]), "POST /v1/reservations", "201"),
        (refused, "POST /v1/reservations", "409"),
        (ask("GET", "/v1/reservations/rsv_1").by("usr_2"), "GET /v1/reservations/{id}", "404"),
        (nobody, "PATCH /internal/reservations/{id}", "401"),
        // No route of the function: that of API Gateway, which these tests name after the request.
        (unknown, "DELETE /v1/reservations/rsv_1", "405"),
    ] {
        let logs = api.function.invoke(asked.event.to_string()).await.logs;
        let lines = logs.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let counted: Vec<(Value, Value)> = lines
            .filter(|line| !line["http_server_requests_total"].is_null())
            .map(|line| (line["route"].clone(), line["status"].clone()))
            .collect();
        assert_eq!(counted, [(json!(route), json!(status))]);
    }
}

#[tokio::test]
async fn a_reservation_is_counted_under_each_status_that_it_comes_to_and_the_calls_for_it_are_measured() {
    let api = Api::start().await;
    let first = api.created(create(&["A-1"])).await;
    let taken = || create(&["A-1"]).key("key-2");
    api.answer(taken()).await.is_error(409, "SEAT_UNAVAILABLE");
    let second = api.created(create(&["A-2"]).key("key-3")).await;
    api.cancel(&first).await;
    let paid = json!({"status": "CONFIRMED", "payment_intent_id": "pi_1"});
    let settle = || ask("PATCH", &format!("/internal/reservations/{second}")).signed().body(paid.clone());
    assert_eq!(api.answer(settle()).await.status, 200);
    let entomb = || ask("PUT", "/internal/reservations/rsv_nobody").signed().header("if-none-match", "*");
    assert_eq!(api.answer(entomb()).await.status, 201);
    let third = api.created(create(&["A-3"]).key("key-4")).await;
    // None of these changes a status: a longer hold, and repeats.
    api.extend(&third).await;
    api.created(create(&["A-3"]).key("key-4")).await;
    api.answer(taken()).await.is_error(409, "SEAT_UNAVAILABLE");
    api.cancel(&first).await;
    assert_eq!(api.answer(settle()).await.status, 200);
    assert_eq!(api.answer(entomb()).await.status, 200);

    let lines: Vec<Value> = api.logs().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
    let counts = metric_lines(&lines, "reservation_status_total", "Count", &["status"]);
    for line in &counts {
        *counted.entry(line["status"].as_str().unwrap()).or_default() +=
            line["reservation_status_total"].as_u64().unwrap();
    }
    let wanted = [("PENDING", 4), ("HOLD", 3), ("FAILED", 1), ("CANCELLED", 1), ("CONFIRMED", 1), ("EXPIRED", 1)];
    assert_eq!(counted, BTreeMap::from(wanted));
    assert_eq!(grpc_calls(&lines), BTreeMap::from([("ReserveSeat OK".to_owned(), 4)]), "the refusal is a response too");
}

#[tokio::test]
async fn a_key_is_required_for_a_create_and_is_one_text_wherever_it_stands() {
    let api = Api::start().await;
    let unkeyed = create(&["A-1"]);
    let mut event = unkeyed.event;
    event["headers"].as_object_mut().unwrap().remove("idempotency-key");
    api.answer(Ask { event }).await.is_error(400, "MISSING_IDEMPOTENCY_KEY");
    for key in ["", "\"\"", "a,b", "a b", "\u{e9}", &"k".repeat(256), "\"a", "a\"b"] {
        let details = api.answer(create(&["A-1"]).key(key)).await;
        details.is_error(400, "INVALID_REQUEST");
        assert!(details.body["error"]["details"]["Idempotency-Key"].is_string(), "{key:?}: {details:#?}");
        let cancel = ask("POST", "/v1/reservations/rsv_1/cancel").by("usr_1").key(key);
        api.answer(cancel).await.is_error(400, "INVALID_REQUEST");
    }
    let bare = api.created(create(&["A-1"]).key("key:1/~")).await;
    assert_eq!(api.created(create(&["A-1"]).key("\"key:1/~\"")).await, bare, "quotes are no part of it");
    assert_eq!(api.stack.inventory.calls().len(), 1);
}

#[tokio::test]
async fn each_wrong_field_is_named_and_nothing_is_done() {
    let api = Api::start().await;
    let sound = || json!({"eventId": SHOW, "quantity": 2, "seatIds": ["A-1", "A-2"], "reservationToken": "t"});
    let with = |field: &str, value: Value| {
        let mut body = sound();
        body[field] = value;
        body
    };
    for (field, body) in [
        ("eventId", with("eventId", json!(""))),
        ("eventId", with("eventId", json!("  "))),
        ("eventId", with("eventId", json!(7))),
        ("eventId", with("eventId", Value::Null)),
        ("eventId", with("eventId", json!("x".repeat(10_240)))),
        ("eventId", with("event_id", json!("evt_2"))),
        ("quantity", with("quantity", json!(3))),
        ("quantity", with("quantity", json!(0))),
        ("quantity", with("quantity", json!(-1))),
        ("quantity", with("quantity", json!(1.5))),
        ("quantity", json!({"eventId": SHOW})),
        ("quantity", json!({"eventId": SHOW, "quantity": 11})),
        ("quantity", json!({"eventId": SHOW, "seatIds": (0..11).map(|n| format!("A-{n}")).collect::<Vec<_>>()})),
        ("seatIds", with("seatIds", json!(["A-1", "A-1"]))),
        ("seatIds", with("seatIds", json!(["A-1", " "]))),
        ("seatIds", with("seatIds", json!(["A-1", 2]))),
        ("seatIds", with("seatIds", json!(["A-1", "x".repeat(10_240)]))),
        ("seatIds", with("seatIds", json!("A-1"))),
        ("seatIds", with("seatIds", json!((0..1_001).map(|n| n.to_string()).collect::<Vec<_>>()))),
        ("reservationToken", with("reservationToken", json!({"a": 1}))),
    ] {
        let answer = api.answer(create(&[]).body(body.clone())).await;
        let details = answer.is_error(400, "INVALID_REQUEST");
        assert!(details[field].is_string(), "{field} in {details} for {body:.200}");
    }
    let both = api.answer(create(&[]).body(json!({"seatIds": [""], "quantity": "x"}))).await;
    let named: Vec<&String> = both.is_error(400, "INVALID_REQUEST").as_object().unwrap().keys().collect();
    assert_eq!(named, ["eventId", "quantity", "seatIds"], "all at once");
    for body in ["", "[]", "{", "7", "null", "\"a\"", &"[".repeat(10_000), "{\"eventId\": \"a\", \"eventId\": \"b\"}"] {
        let answer = api.answer(create(&[]).text(body)).await;
        let details = answer.is_error(400, "INVALID_REQUEST");
        assert!(details["body"].is_string() || details["eventId"].is_string(), "{body:.20}: {details}");
    }
    let too_long = format!("{{\"eventId\": \"{}\"}}", "x".repeat(64 * 1024));
    api.answer(create(&[]).text(&too_long)).await.is_error(413, "PAYLOAD_TOO_LARGE");
    api.answer(create(&[]).header("content-type", "text/plain")).await.is_error(415, "UNSUPPORTED_MEDIA_TYPE");
    for (field, query) in [
        ("limit", "limit=0"),
        ("limit", "limit=101"),
        ("limit", "limit=many"),
        ("status", "status=SOLD"),
        ("cursor", "cursor=%00"),
        ("cursor", "cursor=bm90aGluZw"),
        ("eventId", "eventId="),
    ] {
        let answer = api.answer(ask("GET", "/v1/reservations").by("usr_1").query(query)).await;
        assert!(answer.is_error(400, "INVALID_REQUEST")[field].is_string(), "{query}: {answer:#?}");
    }
    let unknown = ask("PATCH", "/internal/reservations/rsv_1").signed().body(json!({"status": "HOLD"}));
    assert!(api.answer(unknown).await.is_error(400, "INVALID_REQUEST")["status"].is_string());
    assert_eq!(api.stack.inventory.calls(), []);
}

/// The same of requests that change a reservation, which stays what it is by every one of its attributes.
#[tokio::test]
async fn each_wrong_field_of_a_change_is_named_and_nothing_is_changed() {
    let api = Api::start().await;
    let id = api.created(create(&["A-1"])).await;
    let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}, "ConsistentRead": true});
    let item = async || api.stack.aws.dynamodb("GetItem", &key).await.unwrap();
    let before = item().await;
    let customers = |path: &str| ask("POST", &format!("/v1/reservations/{path}")).by("usr_1");
    let [confirms, extends] = ["confirm", "extend"].map(|change| format!("{id}/{change}"));
    let settles = || ask("PATCH", &format!("/internal/reservations/{id}")).signed();
    let refused = async |asked: Ask, field: &str| {
        let about = asked.event["body"].as_str().unwrap_or_default().chars().take(100).collect::<String>();
        let answer = api.answer(asked).await;
        let details = answer.is_error(400, "INVALID_REQUEST");
        assert!(details[field].is_string(), "{field} in {details} for {about}");
    };
    let odd_ids =
        [json!(""), json!("  "), json!("a b"), json!(7), json!(["pi_1"]), Value::Null, json!("x".repeat(10_240))];
    for odd in &odd_ids {
        refused(customers(&confirms).body(json!({"paymentIntentId": odd})), "paymentIntentId").await;
        let named = json!({"reservationId": id, "paymentIntentId": odd});
        refused(customers("confirm").body(named), "paymentIntentId").await;
        let named = json!({"reservationId": odd, "paymentIntentId": "pi_1"});
        refused(customers("confirm").body(named), "reservationId").await;
        refused(customers("cancel").body(json!({"reservationId": odd})), "reservationId").await;
        refused(settles().body(json!({"status": "CONFIRMED", "payment_intent_id": odd})), "payment_intent_id").await;
    }
    refused(settles().body(json!({"status": "CONFIRMED"})), "payment_intent_id").await;
    let twice = json!({"status": "CONFIRMED", "payment_intent_id": "pi_1", "paymentIntentId": "pi_2"});
    refused(settles().body(twice), "payment_intent_id").await;
    let twice = json!({"paymentIntentId": "pi_1", "payment_intent_id": "pi_2"});
    refused(customers(&confirms).body(twice), "paymentIntentId").await;
    for odd in ["0", "-1", "1.5", "86401", "1e300", "\"60\"", "true", "null", "[60]", "{}"] {
        refused(customers(&extends).text(&format!("{{\"extensionSeconds\": {odd}}}")), "extensionSeconds").await;
    }
    for odd in [json!("confirmed"), json!("HOLD"), json!(""), json!(1), Value::Null] {
        refused(settles().body(json!({"status": odd})), "status").await;
    }
    let bodies = || [customers(&confirms), customers("confirm"), customers("cancel"), customers(&extends), settles()];
    let of_each = ["paymentIntentId", "reservationId", "reservationId", "extensionSeconds", "status"];
    for (asked, field) in bodies().into_iter().zip(of_each) {
        refused(asked.body(json!({})), field).await;
    }
    for body in ["", "[]", "{", "7", "null", "\"a\"", "{}{}"] {
        for asked in bodies() {
            refused(asked.text(body), "body").await;
        }
    }
    for (asked, field) in bodies().into_iter().zip(of_each) {
        refused(asked.text(&format!("{{\"{field}\": \"a\", \"{field}\": \"b\"}}")), field).await;
    }
    let too_long = json!({"paymentIntentId": "x".repeat(64 * 1024)}).to_string();
    for asked in bodies() {
        api.answer(asked.text(&too_long)).await.is_error(413, "PAYLOAD_TOO_LARGE");
    }
    for asked in bodies() {
        let asked = asked.header("content-type", "text/plain").text("{}");
        api.answer(asked).await.is_error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    assert_eq!(item().await, before, "nothing has changed");
    assert_eq!(api.stack.inventory.calls().len(), 1, "and nobody was asked but for its seats");
    assert_eq!(api.stack.payments.questions(), 0);
}

/// The table is not asked for what can't be there: DynamoDB refuses a key that is too long, which would be a fault of ours.
#[tokio::test]
async fn an_id_that_no_reservation_can_have_is_that_of_none() {
    let api = Api::start().await;
    let long = format!("rsv_{}", "x".repeat(3_000));
    for id in [long.as_str(), "null,null", "RSV_1", "rsv 1", "rsv\"1", "é", "%2F", ".."] {
        let customers = [ask("GET", &format!("/v1/reservations/{id}")), cancel(id), confirm(id), extend(id)];
        for customer in customers {
            api.answer(customer.by("usr_1")).await.is_error(404, "RESERVATION_NOT_FOUND");
        }
        let path = format!("/internal/reservations/{id}");
        api.answer(ask("GET", &path).signed()).await.is_error(404, "RESERVATION_NOT_FOUND");
        let settled = ask("PATCH", &path).signed().body(json!({"status": "EXPIRED"}));
        api.answer(settled).await.is_error(404, "RESERVATION_NOT_FOUND");
        let ended = api.answer(ask("PUT", &path).signed().header("if-none-match", "*")).await;
        assert!(ended.is_error(400, "INVALID_REQUEST")["id"].is_string(), "{ended:#?}");
    }
    let whoever = "u".repeat(3_000);
    api.answer(ask("GET", "/v1/reservations").by(&whoever)).await.is_error(401, "AUTHENTICATION_FAILED");
}

fn cancel(id: &str) -> Ask {
    ask("POST", &format!("/v1/reservations/{id}/cancel"))
}

fn confirm(id: &str) -> Ask {
    ask("POST", &format!("/v1/reservations/{id}/confirm")).body(json!({"paymentIntentId": "pi_1"}))
}

fn extend(id: &str) -> Ask {
    ask("POST", &format!("/v1/reservations/{id}/extend")).body(json!({"extensionSeconds": 60}))
}

/// Nothing is known then: not that seats are held, and not that none are. The deadline ends it, or the same key goes on.
#[tokio::test]
async fn an_inventory_that_answers_nonsense_or_about_other_seats_is_not_believed() {
    let api = Api::start().await;
    let seats = |names: &[&str]| Scripted::Seats(names.iter().map(|name| (*name).to_owned()).collect());
    let answers = [
        Scripted::Status(Code::Internal, "x".repeat(10_000)),
        Scripted::Status(Code::Unknown, String::new()),
        Scripted::Error { code: 999, message: "a code of nobody".to_owned() },
        Scripted::Commit(CommitStatus::Success),
        seats(&[]),
        seats(&["A-2"]),
        seats(&["A-1", "A-2"]),
        seats(&["A-1", "A-1"]),
    ];
    for (number, answer) in answers.into_iter().enumerate() {
        let key = format!("nonsense-{number}");
        let id = id_of(&key);
        let about = format!("{answer:?}");
        api.stack.inventory.answer_next(&id, answer);
        let unclear = api.answer(create(&["A-1"]).key(&key)).await;
        unclear.is_error(503, "INVENTORY_SERVICE_ERROR");
        assert!(unclear.header("retry-after").is_some(), "{about:.60}: {unclear:#?}");
        let shown = api.answer(ask("GET", &format!("/v1/reservations/{id}")).by("usr_1")).await;
        assert_eq!((shown.status, shown.body["status"].as_str()), (200, Some("PENDING")), "{about:.60}");
        assert_eq!(api.stack.inventory.seat_state(&id), SeatState::Unknown, "{about:.60}");
        let at_once = api.answer(create(&["A-1"]).key(&key)).await;
        at_once.is_error(409, "IDEMPOTENCY_IN_PROGRESS");
    }
    assert_eq!(api.answer(create(&["A-1"])).await.status, 201, "and the seat is still free");
}

/// A call has one answer; what comes behind it says nothing.
#[tokio::test]
async fn an_inventory_that_answers_twice_holds_once_by_its_first_answer() {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Seat {
        #[prost(string, tag = "1")]
        id: String,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct ReserveSeatResponse {
        #[prost(string, tag = "1")]
        hold_id: String,
        #[prost(message, repeated, tag = "2")]
        reserved_seats: Vec<Seat>,
        #[prost(int32, tag = "4")]
        status: i32,
    }
    const ACTIVE: i32 = 1;

    async fn twice() -> Response {
        let answer = |seat: &str| ReserveSeatResponse {
            hold_id: "hold-1".to_owned(),
            reserved_seats: vec![Seat { id: seat.to_owned() }],
            status: ACTIVE,
        };
        let frame = |answer: ReserveSeatResponse| {
            let length = u32::try_from(answer.encoded_len()).unwrap();
            [&[0][..], &length.to_be_bytes(), &answer.encode_to_vec()].concat()
        };
        let frames = [frame(answer("A-1")), frame(answer("A-2"))].concat();
        let trailers = [(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"))];
        let body = Full::new(Bytes::from(frames)).with_trailers(ready(Some(Ok(HeaderMap::from_iter(trailers)))));
        ([(header::CONTENT_TYPE, "application/grpc")], Body::new(body)).into_response()
    }
    let inventory = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = inventory.local_addr().unwrap().to_string();
    let routes = Routes::from(Router::new().fallback(twice));
    tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(inventory)));
    let stack = Stack::start().await.unwrap();
    let mut environment = stack.environment(reservation_api::NAME);
    environment.insert("INVENTORY_GRPC_ADDR".to_owned(), address);
    let binary = binaries()[reservation_api::NAME].clone();
    let function = stack.deploy_with(reservation_api::NAME, binary, 1, environment).unwrap();
    let api = Api { stack, function };

    let held = api.answer(create(&["A-1"])).await;
    assert_eq!((held.status, held.body["status"].as_str()), (201, Some("HOLD")), "{held:#?}");
    let again = api.answer(create(&["A-1"])).await;
    assert_eq!((again.status, &again.body), (201, &held.body), "what came behind the answer is in nobody's way");
    let shown = api.answer(ask("GET", &format!("/v1/reservations/{}", id_of("key-1"))).by("usr_1")).await;
    assert_eq!(shown.body["seatIds"], json!(["A-1"]), "{shown:#?}");
}

/// The id that a key of these tests' customer gives.
pub(crate) fn id_of(key: &str) -> String {
    let wish = Wish {
        user_id: "usr_1".to_owned(),
        show_id: SHOW.to_owned(),
        seat_ids: Vec::new(),
        quantity: 1,
        key: key.to_owned(),
        trace_id: None,
    };
    Reservation::pending(&wish, None, "owner", 0, &Terms::DEFAULT).id
}

/// Not every library writes a whole number without a point, and to JSON there is no difference.
#[tokio::test]
async fn a_whole_number_may_be_written_as_a_float() {
    let api = Api::start().await;
    let wish = create(&[]).text(r#"{"eventId": "evt_1", "quantity": 2.0}"#);
    let id = api.created(wish).await;
    let longer = ask("POST", &format!("/v1/reservations/{id}/extend")).by("usr_1");
    assert_eq!(api.answer(longer.text(r#"{"extensionSeconds": 6e1}"#)).await.status, 200);
    for wrong in ["2.5", "-2.0", "1e300", "true"] {
        let wish = create(&[]).text(&format!("{{\"eventId\": \"evt_1\", \"quantity\": {wrong}}}"));
        assert!(api.answer(wish).await.is_error(400, "INVALID_REQUEST")["quantity"].is_string(), "{wrong}");
    }
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_and_names_every_variable() {
    let stack = Stack::start().await.unwrap();
    let mut environment = stack.environment(reservation_api::NAME);
    let wrong = [
        ("RESERVATIONS_TABLE", ""),
        ("HOLD_SECONDS", "10"),
        ("MAX_HOLD_SECONDS", "901"),
        ("HOLD_GRACE_SECONDS", "120"),
        ("MAX_OPEN_HOLDS", "0"),
        ("INVENTORY_GRPC_ADDR", "x"),
    ];
    for (name, value) in wrong {
        environment.insert(name.to_owned(), value.to_owned());
    }
    let binary = binaries()[reservation_api::NAME].clone();
    let function = stack.deploy_with(reservation_api::NAME, binary.clone(), 1, environment.clone()).unwrap();
    let Err(FunctionError::Init(text)) = function.invoke("{}").await.result else { panic!("it must not start") };
    for (name, _) in wrong {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    let mut environment = stack.environment(reservation_api::NAME);
    environment.insert("RESERVATIONS_TABLE".to_owned(), "of-nobody".to_owned());
    let function = stack.deploy_with(reservation_api::NAME, binary, 1, environment).unwrap();
    let Err(FunctionError::Init(text)) = function.invoke("{}").await.result else { panic!("there is no such table") };
    assert!(text.contains("RESERVATIONS_TABLE names a table that is not there"), "{text}");
}
