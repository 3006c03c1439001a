//! What `waiting-room-called` tells whom, and what each answer of the realtime service leads to.

use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use local_stack::{
    lambda::FunctionError,
    port,
    proxy::{Foreign, Proxy, Service},
    realtime::{Push, Scripted},
    stack::{MAX_RECEIVES, Stack},
};
use serde_json::{Value, json};
use shared::{
    deadline::{epoch_ms, moment},
    waiting_room::{id::PlaceId, place::Turn},
};
use tokio::net::TcpListener;
use tonic::Code;

use crate::{
    authority::Authority,
    harness::{Sent, World, attribute, log_lines},
};

const NAME: &str = waiting_room_called::NAME;
const SHOW: &str = "evt_1";
const USER: &str = "usr_9ezr9g9v";
const ADDRESS: &str = "GRPC_REALTIME_SERVICE_ENDPOINT";

/// As often as a call is tried.
const ALWAYS: usize = usize::MAX;

fn turn() -> Turn {
    Turn { id: PlaceId::of(1, [7; 16]), position: 12, call: 1 }
}

/// An event about the place, as the bus delivers it.
fn event(detail_type: &str, more: Value) -> Value {
    let mut detail = json!({
        "queue_item_id": turn().id.to_string(), "event_id": SHOW, "user_id": USER, "position": 12, "call": 1,
        "idempotency_key": format!("{}#{detail_type}", turn()),
    });
    for (name, value) in more.as_object().expect("fields") {
        detail[name] = value.clone();
    }
    json!({"version": "0", "source": "holdfast", "detail-type": detail_type, "detail": detail})
}

/// A call that can be answered for so long.
fn called(left: Duration) -> Value {
    let until = epoch_ms(SystemTime::now() + left);
    event("place.called", json!({"seats": 2, "call_until": moment(until)}))
}

fn passed() -> Value {
    event("place.passed", json!({}))
}

fn sold(seats: u8) -> Value {
    event("place.settled", json!({"outcome": "sold", "reservation_id": turn().reservation_id(), "seats": seats}))
}

fn ended() -> Value {
    event("place.settled", json!({"outcome": "ended", "reservation_id": turn().reservation_id()}))
}

fn given_up() -> Value {
    event("place.settled", json!({"outcome": "given_up"}))
}

fn sold_out() -> Value {
    let detail = json!({"event_id": SHOW, "tickets": 5_000, "idempotency_key": "evt_1#1#9#line.sold_out"});
    json!({"version": "0", "source": "holdfast", "detail-type": "line.sold_out", "detail": detail})
}

/// Enough for any test.
const LONG: Duration = Duration::from_secs(600);

fn position() -> Push {
    Push::Place { user_id: USER.to_owned(), event_id: SHOW.to_owned(), position: 12 }
}

fn booking(success: bool, message: &str) -> Push {
    let (user_id, event_id) = (USER.to_owned(), SHOW.to_owned());
    let (booking_id, message) = (turn().reservation_id(), message.to_owned());
    Push::Booking { user_id, event_id, booking_id, success, message }
}

/// The function, and its customer connected.
async fn world() -> World {
    world_with(&[]).await
}

async fn world_with(changes: &[(&str, &str)]) -> World {
    let world = World::with(NAME, changes).await;
    world.stack.realtime.connect(USER, SHOW);
    world
}

/// The function, and a proxy before the realtime service that answers the first call in its place.
async fn answered_by(answer: Foreign) -> (World, Proxy) {
    let stack = Stack::start().await.unwrap();
    stack.realtime.connect(USER, SHOW);
    let proxy = Proxy::start(Service::Grpc, stack.realtime_address, 1).await.unwrap();
    proxy.answer_next("RealtimeService", 1, answer);
    (World::on(stack, NAME, &[(ADDRESS, &proxy.address().to_string())]), proxy)
}

#[tokio::test]
async fn who_is_connected_is_told_what_became_of_his_place() {
    for (event, push) in [
        (called(LONG), position()),
        (passed(), position()),
        (sold(1), booking(true, "You have 1 ticket.")),
        (sold(4), booking(true, "You have 4 tickets.")),
        (ended(), booking(false, "Your reservation ended without tickets.")),
    ] {
        let world = world().await;
        world.deliver_one(event.clone()).await.is("success");
        assert_eq!(world.stack.realtime.heard(), [push], "{event:#}");
        assert_eq!(world.dynamodb_requests(), 0, "no record is kept of it");
    }
}

#[tokio::test]
async fn everybody_who_looks_at_an_event_is_told_that_it_is_sold_out() {
    let world = world().await;
    world.stack.realtime.connect("usr_2", SHOW);
    world.stack.realtime.connect("usr_3", "evt_2");
    world.deliver_one(sold_out()).await.is("success");
    let calls = world.stack.realtime.calls();
    let payload = json!({"event_id": SHOW, "tickets": 5_000}).to_string();
    let push = Push::Everybody { event_id: SHOW.to_owned(), event_type: "line.sold_out".to_owned(), payload };
    assert_eq!((calls[0].push.clone(), calls[0].recipients, calls.len()), (push, 2, 1));
}

#[tokio::test]
async fn who_is_not_connected_is_told_nothing_and_nobody_tries_again() {
    for event in [called(LONG), passed(), sold(2), ended(), sold_out()] {
        let world = World::of(NAME).await;
        world.deliver_one(event.clone()).await.is("absent");
        assert_eq!(world.stack.realtime.calls().len(), 1, "{event:#}");
        assert!(world.queue.is_empty() && world.dead_letters.is_empty());
    }
    // Another service may say so by its status.
    let world = world().await;
    world.stack.realtime.answer_next(Scripted::Status(Code::NotFound, "no such user".into()));
    world.deliver_one(called(LONG)).await.is("absent");
}

#[tokio::test]
async fn a_call_that_is_over_is_not_told() {
    let world = world().await;
    let ended = world.deliver_one(called(Duration::ZERO)).await;
    assert!(ended.is("late").line["note"].as_str().unwrap().starts_with("the call ended at "), "{:#}", ended.line);
    assert!(world.stack.realtime.calls().is_empty());
}

#[tokio::test]
async fn a_call_that_ends_while_the_service_is_away_is_not_told_any_more() {
    let world = world().await;
    world.warm_up().await;
    let left = Duration::from_secs(3);
    let event = called(left);
    world.stack.realtime.answer_next(Scripted::Status(Code::Unavailable, "not now".into()));
    world.deliver_one(event).await.is("retried").says("not now");
    tokio::time::sleep(left).await;
    world.redeliver().await[0].is("late");
    assert!(world.stack.realtime.heard().is_empty());
}

#[tokio::test]
async fn what_is_nobodys_or_has_no_reservation_is_not_told() {
    for event in [event("place.passed", json!({"user_id": null})), given_up()] {
        let world = world().await;
        world.deliver_one(event.clone()).await.is("ignored");
        assert!(world.stack.realtime.calls().is_empty(), "{event:#}");
    }
}

#[tokio::test]
async fn what_the_service_refuses_is_a_dead_letter_at_once() {
    for event in [called(LONG), sold(2), sold_out()] {
        let world = world().await;
        world.stack.realtime.answer_next(Scripted::Status(Code::InvalidArgument, "what?".into()));
        world.deliver_one(event.clone()).await.is("rejected").because("downstream_rejected").says("what?");
        assert_eq!(world.only_dead_letter().body, event.to_string());
    }
}

#[tokio::test]
async fn every_other_status_is_retried_and_told_by_the_next_delivery() {
    let world = world().await;
    for code in (1..17).map(Code::from_i32).filter(|code| !matches!(code, Code::NotFound | Code::InvalidArgument)) {
        let before = world.stack.realtime.heard().len();
        world.stack.realtime.answer_next(Scripted::Status(code, "not now".into()));
        world.deliver_one(passed()).await.is("retried").says("not now");
        assert_eq!(world.stack.realtime.heard().len(), before, "{code:?}: asked once");
        world.redeliver().await[0].is("success");
        assert_eq!(world.stack.realtime.heard().len(), before + 1, "{code:?}");
    }
}

#[tokio::test]
async fn on_the_last_receive_a_service_that_is_away_makes_a_dead_letter_with_the_reason() {
    let world = world().await;
    world.stack.realtime.answer_next(Scripted::Status(Code::Unavailable, "not now".into()));
    world.deliver_one(Sent::from(passed()).received(MAX_RECEIVES)).await.is("exhausted");
    let letter = world.only_dead_letter();
    assert_eq!(attribute(&letter, "error_code"), "retries_exhausted");
    assert!(attribute(&letter, "error_message").contains("not now"), "{letter:?}");
}

#[tokio::test]
async fn a_service_without_an_answer_is_asked_again_and_a_repeat_says_the_same() {
    for (answer, heard) in [(Scripted::Hang, 1), (Scripted::HangAfterEffect, 2)] {
        let world = world_with(&[("REALTIME_TIMEOUT_MS", "1000")]).await;
        world.stack.realtime.answer_next(answer);
        world.deliver_one(sold(2)).await.is("retried").says("no answer within 1000 ms");
        world.redeliver().await[0].is("success");
        assert_eq!(world.stack.realtime.heard(), vec![booking(true, "You have 2 tickets."); heard]);
    }
}

#[tokio::test]
async fn only_the_services_own_word_says_who_was_told() {
    /// An answer that says "delivered", as it goes over the wire.
    const DELIVERED: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
    let grpc = |body: &'static [u8]| Foreign::new(StatusCode::OK, body).with("content-type", "application/grpc");
    for (what, answer) in [
        ("a page for what is not there", Foreign::page(StatusCode::NOT_FOUND)),
        ("a bare status", Foreign::new(StatusCode::NOT_FOUND, "")),
        ("a page for a bad request", Foreign::page(StatusCode::BAD_REQUEST)),
        ("a page", Foreign::page(StatusCode::OK)),
        ("silence", Foreign::new(StatusCode::OK, "")),
        ("a success without a message", grpc(b"").with("grpc-status", "0")),
        ("a message without a status behind it", grpc(DELIVERED)),
        ("half a message", grpc(&DELIVERED[..6])),
        ("no protobuf", grpc(b"\0\0\0\0\x09It works!")),
        ("a proxy that knows no such service", grpc(b"").with("grpc-status", "12")),
    ] {
        let (world, _proxy) = answered_by(answer).await;
        let ended = world.deliver_one(passed()).await;
        assert_eq!(ended.outcome, "retried", "{what}: {:#}", ended.line);
        assert!(world.stack.realtime.calls().is_empty(), "{what}");
        world.redeliver().await[0].is("success");
        assert_eq!(world.stack.realtime.heard(), [position()], "{what}");
    }
}

#[tokio::test]
async fn an_answer_without_end_is_retried() {
    let (world, proxy) = answered_by(Foreign::new(StatusCode::OK, "")).await;
    proxy.answer_no_more();
    let endless = Foreign::new(StatusCode::OK, "It works!").with("content-type", "application/grpc").endless();
    proxy.answer_next("RealtimeService", ALWAYS, endless);
    world.deliver_one(passed()).await.is("retried");
    proxy.answer_no_more();
    world.redeliver().await[0].is("success");
}

#[tokio::test]
async fn a_body_that_tells_of_nothing_is_a_dead_letter_with_the_reason() {
    for (body, code, says) in [
        ("no event".to_owned(), "malformed_body", "JSON"),
        (event("place.moved", json!({})).to_string(), "unknown_type", "check the rule"),
        (event("reservation.created", json!({})).to_string(), "unknown_type", "place or a line"),
        (event("place.called", json!({"call_until": "soon"})).to_string(), "invalid_field", "call_until"),
        (event("place.passed", json!({"position": "12"})).to_string(), "invalid_field", "position"),
        (event("place.passed", json!({"queue_item_id": null})).to_string(), "invalid_field", "queue_item_id"),
        (event("place.settled", json!({"outcome": "lost"})).to_string(), "invalid_field", "outcome"),
        (event("place.settled", json!({"outcome": "sold", "seats": 1})).to_string(), "invalid_field", "reservation_id"),
    ] {
        let world = world().await;
        world.deliver_one(body.clone()).await.is("rejected").because(code).says(says);
        assert_eq!(world.only_dead_letter().body, body);
        assert!(world.stack.realtime.calls().is_empty());
    }
}

#[tokio::test]
async fn one_bad_record_of_a_batch_fails_alone() {
    let world = world().await;
    world.stack.realtime.answer_next(Scripted::Status(Code::Unavailable, "not now".into()));
    let mut ends: Vec<String> = Vec::new();
    let bodies = [passed().to_string(), "no event".to_owned(), sold(2).to_string(), sold_out().to_string()];
    for ended in world.deliver(bodies).await {
        ended.is(&ended.outcome);
        ends.push(ended.outcome);
    }
    ends.sort();
    assert_eq!(ends, ["rejected", "retried", "success", "success"]);
}

#[tokio::test]
async fn no_line_of_the_log_names_the_customer_and_each_has_its_place() {
    let world = world().await;
    world.deliver_one(called(LONG)).await.is("success");
    world.stack.realtime.answer_next(Scripted::Status(Code::Unavailable, "not now".into()));
    let ended = world.deliver_one(sold(2)).await;
    let (place_id, event_id) = (&ended.is("retried").line["place_id"], &ended.line["event_id"]);
    assert_eq!((place_id, event_id), (&json!(turn().id.to_string()), &json!(SHOW)));
    let logs = world.function.all_logs();
    assert!(logs.iter().all(|line| !line.contains(USER)), "{logs:#?}");
    let counted = log_lines(&logs).into_iter().filter(|line| line["worker_events_total"].is_number());
    let counted: Vec<_> = counted.map(|line| (line["type"].clone(), line["outcome"].clone())).collect();
    assert_eq!(counted, ["success", "retried"].map(|outcome| (json!("line.called"), json!(outcome))));
}

#[tokio::test]
async fn a_trace_goes_on_to_the_service() {
    let world = world().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let header = format!("Root=1-{}-{};Parent=00f067aa0ba902b7;Sampled=1", &trace[..8], &trace[8..]);
    let sent = Sent { trace_header: Some(header), ..Sent::from(passed()) };
    world.deliver_one(sent).await.is("success");
    let told = world.stack.realtime.calls()[0].traceparent.clone().unwrap_or_default();
    assert!(told.contains(trace), "{told}");
}

#[tokio::test]
async fn without_a_service_the_function_does_not_start_and_says_what_to_set() {
    for (address, says) in [("", "is required and not set"), ("realtime", "must be host:port")] {
        let world = world_with(&[(ADDRESS, address)]).await;
        let invocation = world.function.invoke(r#"{"Records": []}"#).await;
        let Err(FunctionError::Init(text)) = &invocation.result else { panic!("it must not start: {invocation:?}") };
        assert!(text.contains(&format!("{ADDRESS} {says}")), "{text}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_there_is_named_at_the_start_and_its_news_wait() {
    let (_nobody, address) = port::of_nobody().unwrap();
    let world = world_with(&[(ADDRESS, &address.to_string())]).await;
    world.deliver_one(passed()).await.is("retried");
    assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0));
    let lines = log_lines(&world.function.all_logs());
    let complaint = lines.iter().find(|line| line["level"] == "error").expect("the start complains");
    assert!(
        complaint["msg"].as_str().unwrap().starts_with(&format!("{ADDRESS} names http://{address}")),
        "{complaint:#}"
    );
}

#[tokio::test]
async fn the_service_is_spoken_to_by_tls_with_the_material_of_the_secret() {
    const SECRET: &str = "holdfast/realtime-tls";
    let authority = Authority::new();
    let ours = authority.issue("holdfast");
    let whole = json!({
        "realtime_tls_ca": authority.pem(), "realtime_tls_cert": ours.certificate, "realtime_tls_key": ours.key,
    });
    for (secret, outcome) in [(whole, "success"), (json!({}), "retried")] {
        let stack = Stack::start().await.unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
        let (realtime, server) = (stack.realtime.clone(), authority.mutual_server("localhost"));
        tokio::spawn(async move { drop(realtime.serve_tls(listener, server).await) });
        stack.realtime.connect(USER, SHOW);
        stack.aws.put_secret(SECRET, &secret.to_string());
        // A busy machine may need a while for its first handshake, and time is not what is tested.
        let world =
            World::on(stack, NAME, &[("SECRET_NAME", SECRET), (ADDRESS, &address), ("REALTIME_TIMEOUT_MS", "4000")]);
        world.deliver_one(passed()).await.is(outcome);
        assert_eq!(world.stack.realtime.heard().len(), usize::from(outcome == "success"));
    }
}
