//! What is secret stays with those that it is for: it is in no log, no reason of a dead letter, no event and no span, and
//! the bearer token goes to the reservation API alone.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
};
use local_stack::{
    inventory::SeatState,
    lambda::FunctionError,
    reservations::{Scripted, Status},
    stack::{MAX_RECEIVES, Stack},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::{
    authority::{Authority, Issued},
    harness::{PAYMENT, Sent, World, event, event_with},
    tls::encrypted,
};

const SECRET: &str = "holdfast/production";
/// With characters that JSON libraries and URLs like to escape.
const TOKEN: &str = "t0ken/that+nobody=may&read";
/// A part of the token that no escape changes.
const TOKEN_PART: &str = "t0ken";
const OTHERS_PASSWORD: &str = "correct-horse-battery-staple";
const EMAIL: &str = "jane.doe@example.com";
const CARD: &str = "4242424242424242";

/// A server that answers everything with 200 and keeps what it was sent, headers included.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    async fn start() -> (Self, String) {
        let listener = Self::default();
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let url = format!("http://{}", socket.local_addr().expect("a bound listener has an address"));
        let kept = listener.clone();
        let keep = async move |headers: HeaderMap, body: Bytes| {
            let text = format!("{headers:?} {}", String::from_utf8_lossy(&body));
            kept.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        };
        tokio::spawn(async move { drop(axum::serve(socket, Router::new().fallback(keep)).await) });
        (listener, url)
    }

    fn heard(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a function says to anybody but the two services: its log, the reasons of its dead letters, its events.
fn said(world: &World) -> Vec<String> {
    let mut said = world.function.all_logs();
    for message in world.dead_letters.messages() {
        // The body is the producer's own and stays what it is.
        said.extend(message.attributes.iter().map(|(name, value)| format!("{name}: {value:?}")));
    }
    said.extend(world.stack.aws.bus_entries().iter().map(|entry| format!("{entry:?}")));
    said
}

#[track_caller]
fn nothing_shows(said: &[String], secrets: &[&str]) {
    for text in said {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret:?} shows in: {text}");
        }
    }
}

/// The lines of a PEM file between its first and its last.
fn inside(pem: &str) -> Vec<&str> {
    pem.lines().filter(|line| !line.starts_with("-----")).collect()
}

fn quoting(status: u16, body: impl Into<String>) -> Scripted {
    Scripted::Respond { status, headers: Vec::new(), body: body.into() }
}

/// The variables of a function that has a secret.
const USE_SECRET: [(&str, &str); 2] = [("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)];

fn approval_of(reservation_id: &str) -> Value {
    event_with("payment.approved", json!({"reservation_id": reservation_id, "seat_ids": ["B-1"], "qty": 1}))
}

/// An approval with what only the customer should know.
fn private_event(changes: Value) -> Value {
    let mut event = event_with("payment.approved", json!({"email": EMAIL, "card": {"number": CARD}}));
    for (name, value) in changes.as_object().expect("changes are an object") {
        event["detail"][name] = value.clone();
    }
    event
}

#[tokio::test]
async fn no_secret_reaches_a_log_a_dead_letter_an_event_or_a_span_whatever_becomes_of_a_record() {
    let authority = Authority::new();
    let Issued { certificate, key } = authority.issue("holdfast");
    let secret = json!({
        "reservation_api_token": TOKEN, "inventory_tls_ca": authority.pem(), "inventory_tls_cert": certificate,
        "inventory_tls_key": key, "database_password": OTHERS_PASSWORD,
    });
    let (spans, collector) = Listener::start().await;
    let more = [("LOG_LEVEL", "debug"), ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())];
    let world = encrypted("payment-approved", authority.mutual_server("localhost"), &secret, &more).await;
    world.stack.reservations.require_token(TOKEN);
    let header = format!("Authorization: Bearer {TOKEN}");
    let as_json = format!(r#"{{"status": "Bearer {}"}}"#, TOKEN.replace('/', "\\/").replace('=', "\\u003d"));

    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(private_event(json!({}))).await.is("success");
    world.deliver_one(private_event(json!({}))).await.is("duplicate");
    let late = json!({"payment_intent_id": "pi_second"});
    world.deliver_one(private_event(late)).await.is("late_approval");
    let garbled = format!("{{\"email\": \"{EMAIL}\", \"card\": {CARD}, oops");
    world.deliver_one(garbled).await.is("rejected").because("malformed_body");
    world.deliver_one(private_event(json!({"qty": EMAIL}))).await.is("rejected").because("invalid_field");

    // Whatever the API quotes of the request that it got.
    let answers = [
        (quoting(401, header.clone()), 1, "retried"),
        (quoting(401, header.clone()), MAX_RECEIVES, "exhausted"),
        (quoting(400, format!("{{\"got\": \"{header}\"}}")), 1, "rejected"),
        (quoting(500, "x".repeat(190) + TOKEN), 1, "retried"),
        (quoting(502, as_json.clone()), 1, "retried"),
        (quoting(302, header), 1, "retried"),
        (quoting(200, as_json.clone()), 1, "retried"),
        (quoting(409, as_json), 1, "retried"),
    ];
    let mut messages = Vec::new();
    let mut outcomes = Vec::new();
    for (number, (answer, receive_count, outcome)) in answers.into_iter().enumerate() {
        let id = format!("rsv_quoted_{number}");
        world.stack.reservations.answer_next(&id, Method::PATCH, answer);
        messages.push(Sent::from(private_event(json!({"reservation_id": id}))).received(receive_count));
        outcomes.push(outcome);
    }
    for (ended, outcome) in world.deliver(messages).await.iter().zip(outcomes) {
        ended.is(outcome).says("***");
    }

    assert!(!spans.heard().is_empty() && world.dead_letters.len() >= 3 && !world.stack.aws.bus_entries().is_empty());
    let mut secrets = vec![TOKEN, TOKEN_PART, OTHERS_PASSWORD, EMAIL, CARD];
    secrets.extend(inside(&key));
    nothing_shows(&said(&world), &secrets);
    nothing_shows(&spans.heard(), &secrets);
}

#[tokio::test]
async fn a_secret_that_stops_the_start_shows_nothing_of_itself() {
    let authority = Authority::new();
    let Issued { certificate, key } = authority.issue("holdfast");
    let whole = json!({
        "reservation_api_token": TOKEN, "inventory_tls_cert": certificate, "inventory_tls_key": key,
        "database_password": OTHERS_PASSWORD,
    });
    let with = |name: &str, value: Value| {
        let mut secret = whole.clone();
        secret[name] = value;
        secret.to_string()
    };
    let cut_off = whole.to_string();
    let cut_off = cut_off[..cut_off.len() - 1].to_owned();
    let mut secrets = vec![TOKEN_PART, OTHERS_PASSWORD];
    secrets.extend(inside(&key));
    for secret in [
        cut_off,
        TOKEN.to_owned(),
        json!([TOKEN]).to_string(),
        with("reservation_api_token", json!([TOKEN])),
        with("reservation_api_token", json!(format!("{TOKEN}\n"))),
        with("inventory_tls_cert", json!(key)),
        with("inventory_tls_key", json!(certificate)),
        with("inventory_tls_key", json!(key.replace('\n', ""))),
        with("inventory_tls_key", Value::Null),
        with("inventory_tls_key", json!("")),
        // Somebody mistook one field for the other.
        with("inventory_grpc_addr", json!(format!("https://{TOKEN}@localhost:1"))),
        with("reservation_api_base", json!(format!("http://{OTHERS_PASSWORD}@localhost:1"))),
        with("otel_endpoint", json!(TOKEN)),
    ] {
        let stack = Stack::start().await.expect("the stack starts");
        stack.aws.put_secret(SECRET, &secret);
        let from_secret = [("INVENTORY_GRPC_ADDR", ""), ("RESERVATION_API_BASE", "")];
        let world = World::on(stack, "payment-failed", &[USE_SECRET.as_slice(), &from_secret].concat());
        let invocation = world.function.invoke(r#"{"Records": []}"#).await;
        let Err(FunctionError::Init(text)) = &invocation.result else { panic!("the start fails: {invocation:#?}") };
        assert!(text.contains("the function can't start"), "{text}");
        nothing_shows(&[said(&world), vec![text.clone()]].concat(), &secrets);
    }
}

#[tokio::test]
async fn credentials_in_the_address_of_a_collector_that_fails_do_not_show() {
    let quoting = async |uri: Uri, headers: HeaderMap| (StatusCode::UNAUTHORIZED, format!("{uri} {headers:?}"));
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let refuses = socket.local_addr().expect("a bound listener has an address").to_string();
    tokio::spawn(async move { drop(axum::serve(socket, Router::new().fallback(quoting)).await) });
    // Nothing listens on the discard port.
    for address in [refuses.as_str(), "127.0.0.1:9"] {
        let stack = Stack::start().await.expect("the stack starts");
        let endpoint = format!("http://user:{OTHERS_PASSWORD}@{address}/{TOKEN_PART}?key={TOKEN_PART}");
        stack.aws.put_secret(SECRET, &json!({"otel_endpoint": endpoint}).to_string());
        let world = World::on(stack, "payment-failed", USE_SECRET.as_slice());
        world.given(Status::Hold, SeatState::Held);
        world.deliver_one(event("payment.failed")).await.is("success");
        let said = said(&world);
        assert!(said.iter().any(|line| line.contains("could not be exported")), "{said:#?}");
        nothing_shows(&said, &[OTHERS_PASSWORD, TOKEN_PART]);
    }
}

#[tokio::test]
async fn the_token_goes_to_the_reservation_api_under_its_base_url_and_to_nobody_else() {
    let stack = Stack::start().await.expect("the stack starts");
    stack.aws.put_secret(SECRET, &json!({"reservation_api_token": TOKEN}).to_string());
    let (collected, collector) = Listener::start().await;
    let (led_astray, elsewhere) = Listener::start().await;
    let more = [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.as_str())];
    let world = World::on(stack, "payment-approved", &[USE_SECRET.as_slice(), &more].concat());
    world.given(Status::Hold, SeatState::Held);
    // A conflict that says no status makes the function read the reservation, so that there is a GET too.
    world.seed("rsv_read", &["B-1"], Status::Confirmed, SeatState::Held, Some(PAYMENT));
    world.stack.reservations.answer_next("rsv_read", Method::PATCH, quoting(409, ""));
    let mut events = vec![event("payment.approved"), approval_of("rsv_read")];
    for status in [301, 302, 303, 307, 308] {
        let id = format!("rsv_{status}");
        let headers = vec![("Location".to_owned(), format!("{elsewhere}/internal/reservations/{id}"))];
        let answer = Scripted::Respond { status, headers, body: String::new() };
        world.stack.reservations.answer_next(&id, Method::PATCH, answer);
        events.push(approval_of(&id));
    }
    let outcomes: Vec<String> = world.deliver(events).await.into_iter().map(|ended| ended.outcome).collect();
    assert_eq!(outcomes, [["success"; 2].as_slice(), &["retried"; 5]].concat());

    let calls = world.stack.reservations.calls();
    assert!(calls.iter().any(|call| call.method == Method::GET) && calls.len() == 8, "{calls:#?}");
    for call in calls {
        assert_eq!(call.authorization, Some(format!("Bearer {TOKEN}")), "{call:#?}");
        assert!(call.target.starts_with("/internal/reservations/"), "{call:#?}");
    }
    let probes = world.stack.reservations.probes();
    assert!(!probes.is_empty() && probes.iter().all(|probe| probe.authorization.is_none()), "{probes:#?}");
    assert_eq!(led_astray.heard(), [""; 0], "a redirect is not followed");
    let settled = world.stack.inventory.calls();
    assert!(!settled.is_empty() && settled.iter().all(|call| call.authorization.is_none()), "{settled:#?}");
    nothing_shows(&collected.heard(), &[TOKEN_PART]);
    let aws: Vec<String> = world.stack.aws.requests().iter().map(|request| format!("{request:?}")).collect();
    nothing_shows(&aws, &[TOKEN_PART]);
}

#[tokio::test]
async fn the_token_stays_below_the_path_of_its_base_url() {
    let stack = Stack::start().await.expect("the stack starts");
    stack.aws.put_secret(SECRET, &json!({"reservation_api_token": TOKEN}).to_string());
    let base = format!("http://{}/of/a-gateway", stack.reservation_address);
    let world =
        World::on(stack, "payment-approved", &[USE_SECRET.as_slice(), &[("RESERVATION_API_BASE", &base)]].concat());
    let climbing = ["../../..", "%2e%2e", "//elsewhere.example", "x?y", "@elsewhere.example"];
    world.deliver(climbing.map(approval_of)).await;
    let calls = world.stack.reservations.calls();
    assert_eq!(calls.len(), climbing.len(), "{calls:#?}");
    for call in calls {
        let id = call.target.strip_prefix("/of/a-gateway/internal/reservations/");
        assert!(id.is_some_and(|id| !id.contains(['/', '?'])), "{call:#?}");
        assert_eq!(call.authorization, Some(format!("Bearer {TOKEN}")));
    }
}
