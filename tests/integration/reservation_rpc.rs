//! The reservations by RPC, through the local gateway: Connect in JSON and in binary, gRPC-Web, and what is none of them.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use local_stack::{
    gateway::{Gateway, Issuer, NativeGrpc, Target},
    inventory::SeatState,
    sale,
    stack::Stack,
    template::{SCOPE, Template},
};
use prost::Message;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tonic::{Code, transport::Endpoint};
use tonic_prost::ProstCodec;

use crate::{harness::binaries, reflection::services_at};

const SERVICE: &str = "reservation.v1.ReservationService";
const SHOW: &str = "evt_1";

/// The same reservations behind both of their functions.
pub(crate) struct Rpc {
    pub(crate) stack: Stack,
    gateway: Gateway,
    issuer: Issuer,
    http: Client,
}

/// Of the message in `proto/`, what these tests send.
#[derive(Clone, PartialEq, Message)]
struct CreateReservationRequest {
    #[prost(string, tag = "1")]
    event_id: String,
    #[prost(string, repeated, tag = "2")]
    seat_ids: Vec<String>,
    #[prost(string, tag = "6")]
    idempotency_key: String,
}

/// Of the message in `proto/`, what these tests read.
#[derive(Clone, PartialEq, Message)]
struct CreateReservationResponse {
    #[prost(string, tag = "1")]
    reservation_id: String,
    #[prost(int32, tag = "2")]
    status: i32,
    #[prost(message, optional, tag = "3")]
    hold_expires_at: Option<prost_types::Timestamp>,
}

const HOLD: i32 = 2;

impl Rpc {
    async fn open() -> Self {
        Self::open_on(Stack::start().await.unwrap()).await
    }

    pub(crate) async fn open_on(stack: Stack) -> Self {
        stack.inventory.stock(SHOW, &["A-1", "A-2", "A-3"].map(str::to_owned), 5);
        let issuer = Issuer::start_on(0).await.unwrap();
        let functions = [reservation_api::NAME, reservation_rpc::NAME]
            .map(|name| (name.to_owned(), Target::Function(stack.deploy(name, binaries()[name].clone(), 2).unwrap())));
        let options = sale::options(&Template::read().unwrap(), &issuer, functions.into(), 0).unwrap();
        let gateway = Gateway::start(options).await.unwrap();
        Self { stack, gateway, issuer, http: Client::builder().no_proxy().build().unwrap() }
    }

    fn ask(&self, sub: &str, method: &str) -> RequestBuilder {
        let token = self.issuer.token(sub, SCOPE, Duration::from_secs(300)).unwrap();
        self.http.post(format!("{}/{SERVICE}/{method}", self.gateway.url())).bearer_auth(token)
    }

    /// Calls by Connect in JSON; an answer, or the code and the message of a fault.
    pub(crate) async fn call(&self, method: &str, request: Value) -> Result<Value, (String, String)> {
        self.call_as("usr_1", method, request).await
    }

    async fn call_as(&self, sub: &str, method: &str, request: Value) -> Result<Value, (String, String)> {
        let answer = self.ask(sub, method).json(&request).send().await.unwrap();
        assert!(answer.headers().contains_key("x-trace-id"), "{answer:?}");
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        let body: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        if status.is_success() {
            return Ok(body);
        }
        let text = |name: &str| body[name].as_str().unwrap_or_else(|| panic!("no {name} in {body}")).to_owned();
        Err((text("code"), text("message")))
    }

    /// Calls, and asserts that the fault has this code and says this.
    pub(crate) async fn is_refused(&self, method: &str, request: Value, code: &str, text: &str) {
        let fault = self.call(method, request.clone()).await.expect_err("it is refused");
        assert_eq!(fault.0, code, "{method} {request}: {}", fault.1);
        assert!(fault.1.contains(text), "{method} {request}: {}", fault.1);
    }

    async fn held(&self, key: &str, seats: &[&str]) -> String {
        let made = self.call("CreateReservation", wish(key, seats)).await.unwrap();
        made["reservationId"].as_str().unwrap().to_owned()
    }
}

fn wish(key: &str, seats: &[&str]) -> Value {
    json!({"eventId": SHOW, "seatIds": seats, "idempotencyKey": key})
}

#[tokio::test]
async fn the_six_calls_go_through_by_connect_in_json() {
    let rpc = Rpc::open().await;
    let made = rpc.call("CreateReservation", wish("key-1", &["A-1", "A-2"])).await.unwrap();
    let id = made["reservationId"].as_str().unwrap();
    assert_eq!(made["status"], "RESERVATION_STATUS_HOLD");
    assert_eq!(made["reservedSeats"][1], json!({"id": "A-2", "status": "SEAT_STATUS_RESERVED"}));
    assert_eq!(rpc.stack.inventory.seat_state(id), SeatState::Held);
    let again = rpc.ask("usr_1", "CreateReservation").json(&wish("key-1", &["A-2", "A-1"])).send().await.unwrap();
    assert_eq!(again.headers()["idempotent-replayed"], "true");
    assert_eq!(again.json::<Value>().await.unwrap(), made);

    let one = json!({"reservationId": id});
    let shown = rpc.call("GetReservation", one.clone()).await.unwrap()["reservation"].clone();
    assert_eq!((&shown["eventId"], &shown["userId"], &shown["quantity"]), (&json!(SHOW), &json!("usr_1"), &json!(2)));
    assert_eq!(shown["holdExpiresAt"], made["holdExpiresAt"]);
    let listed = rpc.call("ListReservations", json!({"status": "RESERVATION_STATUS_HOLD"})).await.unwrap();
    assert_eq!(listed["reservations"], json!([shown]));

    let longer = json!({"reservationId": id, "extensionSeconds": 60});
    let extended = rpc.call("ExtendHold", longer).await.unwrap();
    assert_eq!((&extended["extensionAllowed"], &extended["extendedSeconds"]), (&json!(true), &json!(60)));
    let unpaid = json!({"reservationId": id, "paymentIntentId": "pi_1"});
    rpc.is_refused("ConfirmReservation", unpaid.clone(), "failed_precondition", "payment").await;
    let cancelled = rpc.call("CancelReservation", one).await.unwrap();
    assert_eq!(cancelled["status"], "RESERVATION_STATUS_CANCELLED");
    assert!(cancelled["cancelledAt"].is_string(), "{cancelled}");
    rpc.is_refused("ConfirmReservation", unpaid, "failed_precondition", "CANCELLED").await;
}

#[tokio::test]
async fn what_is_made_by_rpc_is_there_by_rest_and_the_other_way_round() {
    let rpc = Rpc::open().await;
    let id = rpc.held("key-1", &["A-1"]).await;
    let token = rpc.issuer.token("usr_1", "reserve", Duration::from_secs(300)).unwrap();
    let url = format!("{}/v1/reservations", rpc.gateway.url());
    let shown = rpc.http.get(format!("{url}/{id}")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(shown.json::<Value>().await.unwrap()["status"], "HOLD");
    // A key is a customer's own, whichever way it comes.
    let wish = json!({"eventId": SHOW, "seatIds": ["A-1"]});
    let again = rpc.http.post(url).bearer_auth(&token).header("idempotency-key", "key-1").json(&wish);
    assert_eq!(again.send().await.unwrap().json::<Value>().await.unwrap()["reservationId"], json!(id));
}

#[tokio::test]
async fn connect_in_binary_and_grpc_web_hold_seats_too() {
    let rpc = Rpc::open().await;
    let message = |key: &str, seat: &str| CreateReservationRequest {
        event_id: SHOW.to_owned(),
        seat_ids: vec![seat.to_owned()],
        idempotency_key: key.to_owned(),
    };
    let binary = rpc.ask("usr_1", "CreateReservation").header("content-type", "application/proto");
    let answer = binary.body(message("key-1", "A-1").encode_to_vec()).send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["content-type"]),
        (200, &"application/proto".parse().unwrap())
    );
    let made = CreateReservationResponse::decode(answer.bytes().await.unwrap()).unwrap();
    assert_eq!(made.status, HOLD);
    assert_eq!(rpc.stack.inventory.seat_state(&made.reservation_id), SeatState::Held);

    let framed = |message: &CreateReservationRequest| {
        let bytes = message.encode_to_vec();
        let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
        [&[0], &length[..], &bytes].concat()
    };
    let web = async |message: &CreateReservationRequest| {
        let ask = rpc.ask("usr_1", "CreateReservation").header("content-type", "application/grpc-web+proto");
        let answer = ask.header("x-grpc-web", "1").body(framed(message)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "the status of a call is in its trailers");
        let headers = answer.headers().clone();
        (headers, frames(&answer.bytes().await.unwrap()))
    };
    let (_, held) = web(&message("key-2", "A-2")).await;
    let made = CreateReservationResponse::decode(held[0].1.as_slice()).unwrap();
    assert_eq!((held[0].0, made.status), (0, HOLD));
    assert!(made.hold_expires_at.is_some());
    let trailers = String::from_utf8(held[1].1.clone()).unwrap();
    assert!(
        held[1].0 == 0x80 && trailers.contains("grpc-status: 0") || trailers.contains("grpc-status:0"),
        "{trailers:?}"
    );
    let (headers, refused) = web(&message("key-3", "A-2")).await;
    let told = refused.iter().map(|(_, frame)| String::from_utf8_lossy(frame).into_owned()).collect::<String>();
    let status = headers.get("grpc-status").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    assert!(status == "8" || told.contains("grpc-status: 8") || told.contains("grpc-status:8"), "{headers:?} {told:?}");
}

/// The frames of a body of gRPC-Web: a flag and bytes.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [flag, a, b, c, d, rest @ ..] = body {
        let length = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
        frames.push((*flag, rest[..length].to_vec()));
        body = &rest[length..];
    }
    frames
}

#[tokio::test]
async fn each_fault_has_its_code() {
    let rpc = Rpc::open().await;
    let id = rpc.held("key-1", &["A-1"]).await;
    let one = json!({"reservationId": id});
    for (field, request) in [
        ("idempotency_key", json!({"eventId": SHOW, "seatIds": ["A-2"]})),
        ("idempotency_key", wish("a,b", &["A-2"])),
        ("event_id", json!({"seatIds": ["A-2"], "idempotencyKey": "k"})),
        ("seat_ids", wish("k", &["A-2", "A-2"])),
        ("quantity", json!({"eventId": SHOW, "idempotencyKey": "k"})),
        ("quantity", json!({"eventId": SHOW, "quantity": 11, "idempotencyKey": "k"})),
        ("quantity", json!({"eventId": SHOW, "quantity": -1, "idempotencyKey": "k"})),
        ("quantity", json!({"eventId": SHOW, "quantity": 2, "seatIds": ["A-2"], "idempotencyKey": "k"})),
    ] {
        rpc.is_refused("CreateReservation", request, "invalid_argument", field).await;
    }
    let nothing = json!({"eventId": "", "seatIds": [" "], "quantity": 12});
    let fault = rpc.call("CreateReservation", nothing).await.unwrap_err().1;
    assert!(["event_id", "seat_ids", "quantity", "idempotency_key"].iter().all(|name| fault.contains(name)), "{fault}");
    for (method, request, field) in [
        ("ConfirmReservation", one.clone(), "payment_intent_id"),
        ("ExtendHold", one.clone(), "extension_seconds"),
        ("CancelReservation", json!({"reservationId": id, "idempotencyKey": "a b"}), "idempotency_key"),
        ("ListReservations", json!({"pagination": {"pageSize": 101}}), "page_size"),
        ("ListReservations", json!({"pagination": {"cursor": "?"}}), "cursor"),
        ("ListReservations", json!({"pagination": {"page": 2}}), "page"),
        ("ListReservations", json!({"status": "RESERVATION_STATUS_REFUNDED"}), "status"),
    ] {
        rpc.is_refused(method, request, "invalid_argument", field).await;
    }
    for missing in ["", "rsv_none", "RSV", "../x", &"x".repeat(3_000)] {
        rpc.is_refused("GetReservation", json!({"reservationId": missing}), "not_found", "no such reservation").await;
    }
    rpc.is_refused("CreateReservation", wish("key-1", &["A-2"]), "already_exists", "another request").await;
    rpc.is_refused("CreateReservation", wish("key-2", &["A-1"]), "resource_exhausted", "not available").await;
    assert_eq!(rpc.stack.inventory.calls().len(), 2, "what is wrong asks nobody");
}

#[tokio::test]
async fn a_reservation_is_its_customers_own() {
    let rpc = Rpc::open().await;
    let id = rpc.held("key-1", &["A-1"]).await;
    for (method, request) in [
        ("GetReservation", json!({"reservationId": id})),
        ("CancelReservation", json!({"reservationId": id})),
        ("ConfirmReservation", json!({"reservationId": id, "paymentIntentId": "pi_1"})),
        ("ExtendHold", json!({"reservationId": id, "extensionSeconds": 60})),
    ] {
        let fault = rpc.call_as("usr_2", method, request.clone()).await.unwrap_err();
        assert_eq!(fault.0, "not_found", "{method}");
        let mut named = request;
        named["userId"] = json!("usr_1");
        assert_eq!(rpc.call_as("usr_2", method, named.clone()).await.unwrap_err().0, "permission_denied", "{method}");
        let unsigned = rpc.http.post(format!("{}/{SERVICE}/{method}", rpc.gateway.url())).json(&named);
        assert_eq!(unsigned.send().await.unwrap().status(), 401, "{method} is not for everybody");
        let nobody = rpc.call_as("", method, named).await.unwrap_err();
        assert_eq!(nobody.0, "unauthenticated", "{method}");
    }
    assert!(rpc.call_as("usr_2", "ListReservations", json!({})).await.unwrap()["reservations"].is_null());
    let own = rpc.call("GetReservation", json!({"reservationId": id, "userId": "usr_1"})).await.unwrap();
    assert_eq!(own["reservation"]["status"], "RESERVATION_STATUS_HOLD");
}

#[tokio::test]
async fn native_grpc_is_told_what_to_use_and_nothing_else_is_a_fault_of_ours() {
    let rpc = Rpc::open().await;
    for kind in ["application/grpc", "application/grpc+proto", "APPLICATION/GRPC+json"] {
        let answer = rpc.ask("usr_1", "CreateReservation").header("content-type", kind).body("x").send().await.unwrap();
        assert_eq!(answer.status(), 415, "{kind}");
        let error = answer.json::<Value>().await.unwrap()["error"].clone();
        assert_eq!(error["code"], "UNSUPPORTED_MEDIA_TYPE");
        assert!(error["message"].as_str().unwrap().contains("gRPC-Web"), "{error}");
    }
    let junk = BASE64_STANDARD.decode("//79/Pv6").unwrap();
    for (method, kind, body) in [
        ("CreateReservation", "application/json", b"{".to_vec()),
        ("CreateReservation", "application/json", b"[]".to_vec()),
        ("CreateReservation", "application/json", "[".repeat(20_000).into_bytes()),
        ("CreateReservation", "application/json", vec![b' '; 70_000]),
        ("CreateReservation", "application/proto", junk.clone()),
        ("CreateReservation", "application/grpc-web+proto", junk.clone()),
        ("CreateReservation", "text/plain", b"a".to_vec()),
        ("CreateReservation", "", Vec::new()),
        ("NoSuchCall", "application/json", b"{}".to_vec()),
        ("CreateReservation/x", "application/json", b"{}".to_vec()),
    ] {
        let request = rpc.ask("usr_1", method).header("content-type", kind).body(body.clone());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        // "unimplemented" is 501 by Connect's own table, and says that the caller is wrong.
        assert!(status < 500 || status == 501, "{method} {kind:?} {:.20?}: {status}", body);
    }
    let preflight =
        rpc.http.request(reqwest::Method::OPTIONS, format!("{}/{SERVICE}/GetReservation", rpc.gateway.url()));
    let token = rpc.issuer.token("usr_1", "reserve", Duration::from_secs(300)).unwrap();
    assert_eq!(preflight.bearer_auth(token).send().await.unwrap().status(), 204);
    assert_eq!(rpc.stack.inventory.calls(), []);
}

/// The developer's own tools speak native gRPC, which ends in trailers.
#[tokio::test]
async fn native_grpc_goes_through_the_gateway_to_the_same_function() {
    let rpc = Rpc::open().await;
    let native = NativeGrpc::start_on(0, &rpc.gateway).await.unwrap();
    let channel = Endpoint::from_shared(format!("http://{}", native.address())).unwrap().connect().await.unwrap();
    let create = async |key: &str, token: Option<String>, seat: &str| {
        let message = CreateReservationRequest {
            event_id: SHOW.to_owned(),
            seat_ids: vec![seat.to_owned()],
            idempotency_key: key.to_owned(),
        };
        let mut request = tonic::Request::new(message);
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let path = format!("/{SERVICE}/CreateReservation").parse().unwrap();
        client.unary::<_, CreateReservationResponse, _>(request, path, ProstCodec::default()).await
    };
    let token = || Some(rpc.issuer.token("usr_1", SCOPE, Duration::from_secs(300)).unwrap());

    let made = create("key-1", token(), "A-1").await.unwrap();
    let (trace, made) = (made.metadata().get("x-trace-id").cloned(), made.into_inner());
    assert!(trace.is_some() && made.status == HOLD, "{made:?}");
    assert_eq!(rpc.stack.inventory.seat_state(&made.reservation_id), SeatState::Held);
    assert_eq!(create("key-1", token(), "A-1").await.unwrap().into_inner(), made, "a repeat is told the same");

    let taken = create("key-2", token(), "A-1").await.expect_err("the seat is taken");
    assert_eq!(taken.code(), Code::ResourceExhausted, "{taken}");
    assert!(!taken.details().is_empty(), "the fault says more in its trailers: {taken:?}");
    let nobody = create("key-3", None, "A-2").await.expect_err("he has no token");
    assert_eq!(nobody.code(), Code::Unauthenticated, "{nobody}");

    let services = services_at(&native.address().to_string()).await;
    assert!(services.contains(&SERVICE.to_owned()), "{services:?}");
    assert!(!services.iter().any(|name| name.contains("Inventory")), "it tells of what it serves: {services:?}");
}
