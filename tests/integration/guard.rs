//! What each answer of the reservation API leads to: the rows of the guard table.

use std::sync::{Arc, Mutex};

use axum::http::Method;
use local_stack::{
    catalogue::SETTLING,
    inventory::SeatState,
    reservations::{Scripted, Status},
    stack::MAX_RECEIVES,
};
use serde_json::json;
use shared::client::bus::EventBus;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{EVENT, PAYMENT, RESERVATION, Sent, World, attribute, event, event_with};

/// Function, event, status that the guard asks for, seats once settled.
fn functions() -> impl Iterator<Item = (&'static str, &'static str, String, String)> {
    SETTLING.into_iter().map(|function| {
        (function.name, function.workflow.name(), function.wanted().to_string(), function.settled().to_string())
    })
}

fn respond(status: u16, body: impl ToString) -> Scripted {
    Scripted::Respond { status, headers: Vec::new(), body: body.to_string() }
}

/// A function whose reservation is on hold, and whose next status change gets this answer.
async fn answering(function: &str, answer: Scripted) -> World {
    let hangs = matches!(answer, Scripted::Hang | Scripted::HangAfterEffect);
    let patience = [("RESERVATION_TIMEOUT_MS", "1000")];
    let world = World::with(function, if hangs { &patience } else { &[] }).await;
    world.given(Status::Hold, SeatState::Held);
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
    world
}

#[tokio::test]
async fn the_wanted_status_settles() {
    for (function, event_type, wanted, seats) in functions() {
        let world = World::of(function).await;
        world.given(Status::Hold, SeatState::Held);
        world.deliver_one(event(event_type)).await.is("success");
        assert_eq!(world.state(), format!("{wanted}, {seats}"), "{function}");
        assert_eq!(world.downstream_calls(), (1, 1), "{function}");
    }
}

#[tokio::test]
async fn the_guard_asks_before_the_inventory_is_called_and_both_calls_carry_the_key_of_their_step() {
    let world = World::of("payment-approved").await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.approved")).await.is("success");
    let (guard, settle) = (&world.stack.reservations.calls()[0], &world.stack.inventory.calls()[0]);
    let key = format!("payment.approved#{RESERVATION}#{PAYMENT}");
    assert_eq!(guard.idempotency_key.as_deref(), Some(format!("{key}#guard").as_str()));
    assert_eq!(guard.body, json!({"status": "CONFIRMED", "payment_intent_id": PAYMENT}).to_string());
    assert_eq!(settle.idempotency_key, format!("{key}#settle"));
    assert_eq!((settle.payment_intent_id.as_str(), settle.quantity), (PAYMENT, 2));
}

/// What a 200 may hold that does not say what became of the reservation.
const SILENT: [&str; 13] = [
    "",
    "{}",
    r#"{"errorMessage": "Task timed out after 3.00 seconds"}"#,
    r#"{"error": {"code": "INTERNAL_ERROR", "message": "no"}}"#,
    r#"{"success": false}"#,
    r#"{"data": {"status": "CANCELLED"}}"#,
    r#"{"status": null}"#,
    r#"{"status": 200}"#,
    r#"{"reservation_id": "", "status": "CANCELLED"}"#,
    r#"{"reservation_id": 7, "status": "CANCELLED"}"#,
    r#"[{"status": "CANCELLED"}]"#,
    "<html>Welcome</html>",
    r#"{"status": "CANCELL"#,
];

#[tokio::test]
async fn a_2xx_that_says_nothing_is_followed_by_one_look_and_decided_by_that() {
    for body in SILENT {
        let world = answering("payment-failed", respond(200, body)).await;
        world.deliver_one(event("payment.failed")).await.is("retried").says("HOLD");
        assert_eq!((world.downstream_calls(), world.state().as_str()), ((2, 0), "HOLD, held"), "{body}");

        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, respond(200, body));
        world.given(Status::Cancelled, SeatState::Held);
        world.redeliver().await[0].is("success");
        assert_eq!((world.downstream_calls(), world.state().as_str()), ((4, 1), "CANCELLED, free"), "{body}");
    }
}

#[tokio::test]
async fn a_look_that_says_nothing_either_is_retried_and_says_why() {
    for (body, why) in [("", "is empty"), ("{}", "does not say"), ("[]", "not an object"), ("<html>", "not JSON")] {
        let world = answering("payment-approved", respond(200, body)).await;
        world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(200, body));
        world.deliver_one(event("payment.approved")).await.is("retried").says(why);
        assert_eq!((world.downstream_calls(), world.state().as_str()), ((2, 0), "HOLD, held"), "{body}");
    }
}

#[tokio::test]
async fn a_200_that_ends_without_a_byte_says_nothing() {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let methods = asked.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 8_192];
            let read = stream.read(&mut request).await.unwrap();
            let method = String::from_utf8_lossy(&request[..read]).split(' ').next().unwrap_or_default().to_owned();
            methods.lock().unwrap().push(method);
            // HTTP/1.0 states no length: the body ends with the connection.
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n").await.unwrap();
        }
    });
    let world = World::with("payment-approved", &[("RESERVATION_API_BASE", &base)]).await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.approved")).await.is("retried").says("is empty");
    assert_eq!(*asked.lock().unwrap(), ["HEAD", "PATCH", "GET"]);
    assert!(world.stack.inventory.calls().is_empty());
}

#[tokio::test]
async fn an_answer_about_another_reservation_says_nothing_and_nothing_is_called() {
    let other = |status: &str| json!({"reservation_id": "rsv_other", "status": status, "payment_intent_id": PAYMENT});
    for (answered, status) in [(200, "CONFIRMED"), (409, "CONFIRMED"), (409, "EXPIRED"), (200, "HOLD")] {
        let world = answering("payment-approved", respond(answered, other(status))).await;
        world.deliver_one(event("payment.approved")).await.is("retried").says("another reservation, \"rsv_other\"");
        assert_eq!(world.downstream_calls(), (1, 0), "{answered} {status}");
        assert!(world.stack.aws.bus_entries().is_empty(), "no refund for a good payment");
    }
    let world = answering("payment-approved", respond(200, "")).await;
    world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(200, other("CONFIRMED")));
    world.deliver_one(event("payment.approved")).await.is("retried").says("another reservation");
    assert_eq!(world.downstream_calls(), (2, 0));
}

#[tokio::test]
async fn what_is_held_is_never_taken_in_part_and_the_last_receive_names_the_field() {
    for (held, field) in [
        (json!({"seat_ids": ["A-12", null, {"id": "A-13"}], "quantity": 3}), "seat_ids"),
        (json!({"seat_ids": ["A-12"], "quantity": 3}), "quantity that is 3, but 1 seats"),
        (json!({"seat_ids": [], "quantity": 3_000_000_000_u64}), "quantity"),
        (json!({"seat_ids": ["A-12", "A-13"], "quantity": 0}), "quantity"),
        (json!({"event_id": "e".repeat(100_000)}), "event_id"),
        (json!({"payment_intent_id": 17}), "payment_intent_id"),
    ] {
        let mut body = json!({"reservation_id": RESERVATION, "status": "CONFIRMED", "payment_intent_id": PAYMENT});
        body.as_object_mut().unwrap().extend(held.as_object().unwrap().clone());
        // The look at the reservation shows what it really holds.
        let world = answering("payment-approved", respond(200, &body)).await;
        world.given_with(Status::Confirmed, SeatState::Held, Some(PAYMENT));
        world.deliver_one(event("payment.approved")).await.is("success");
        assert_eq!(world.stack.inventory.calls()[0].seat_ids, ["A-12", "A-13"], "{held}");
        assert_eq!(world.downstream_calls(), (2, 1), "{held}");

        // An API that says it each time never gets a seat moved.
        let world = answering("payment-approved", respond(200, &body)).await;
        world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(200, &body));
        let last = Sent::from(event("payment.approved")).received(local_stack::stack::MAX_RECEIVES);
        world.deliver_one(last).await.is("exhausted").says(field);
        assert!(attribute(&world.only_dead_letter(), "error_message").contains(field), "{held}");
        assert!(world.stack.inventory.calls().is_empty(), "{held}");
    }
}

#[tokio::test]
async fn a_2xx_that_names_another_status_is_never_settled_on() {
    for status in ["HOLD", "CONFIRMED", "SOMETHING"] {
        let world = answering("reservation-expired", respond(200, json!({"status": status}))).await;
        world.deliver_one(event("reservation.expired")).await.is("retried").says(status);
        assert!(world.stack.inventory.calls().is_empty(), "{status}");
    }
}

#[tokio::test]
async fn a_status_in_small_letters_is_named_in_the_error() {
    let world = answering("reservation-expired", respond(200, json!({"status": "expired"}))).await;
    world.deliver_one(event("reservation.expired")).await.is("retried").says("if EXPIRED is meant");
    assert_eq!(world.downstream_calls(), (1, 0));
}

#[tokio::test]
async fn the_first_known_status_of_a_409_decides() {
    let body = json!({"status": "error", "current_status": "EXPIRED"});
    let world = answering("payment-failed", respond(409, body)).await;
    world.deliver_one(event("payment.failed")).await.is("superseded");
    assert_eq!(world.downstream_calls(), (1, 0));
}

#[tokio::test]
async fn a_409_that_names_the_wanted_status_settles() {
    for (function, event_type, wanted, _) in functions() {
        let body = json!({"error": {"code": "CONFLICT"}, "status": wanted, "payment_intent_id": PAYMENT});
        let world = answering(function, respond(409, body)).await;
        world.deliver_one(event(event_type)).await.is("success");
        assert_eq!(world.downstream_calls(), (1, 1), "{function}");
    }
}

#[tokio::test]
async fn an_expiry_and_a_failure_that_lost_the_race_call_no_inventory() {
    for (function, event_type, wanted, _) in functions().filter(|row| row.0 != "payment-approved") {
        for end in ["CONFIRMED", "CANCELLED", "EXPIRED", "FAILED", "REFUNDED"] {
            if end == wanted {
                continue;
            }
            let world = answering(function, respond(409, json!({"status": end}))).await;
            world.deliver_one(event(event_type)).await.is("superseded");
            assert!(world.stack.inventory.calls().is_empty(), "{function} against {end}");
            assert!(world.dead_letters.is_empty() && world.stack.aws.bus_entries().is_empty());
        }
    }
}

#[tokio::test]
async fn an_approval_that_lost_the_race_asks_for_a_refund() {
    for end in ["CANCELLED", "EXPIRED", "FAILED", "REFUNDED"] {
        let world = answering("payment-approved", respond(409, json!({"current_status": end}))).await;
        world.deliver_one(event_with("payment.approved", json!({"trace_id": "t-1"}))).await.is("late_approval");
        assert!(world.stack.inventory.calls().is_empty(), "{end}");
        let entries = world.stack.aws.bus_entries();
        let [entry] = entries.as_slice() else { panic!("one refund request: {entries:?}") };
        assert_eq!((entry.source.as_str(), entry.detail_type.as_str()), ("holdfast", "payment.refund_requested"));
        let mut detail = entry.detail.clone();
        assert!(detail["requested_at"].take().is_string());
        assert_eq!(
            detail,
            json!({
                "reservation_id": RESERVATION, "payment_intent_id": PAYMENT, "amount": 12_500, "currency": "EUR",
                "reservation_status": end, "reason": format!("reservation_{}", end.to_lowercase()), "event_id": EVENT,
                "trace_id": "t-1", "requested_at": null,
                "idempotency_key": format!("payment.approved#{RESERVATION}#{PAYMENT}#refund"),
            })
        );
    }
}

#[tokio::test]
async fn a_reservation_confirmed_by_another_payment_is_paid_twice() {
    let world = World::of("payment-approved").await;
    world.given_with(Status::Confirmed, SeatState::Sold, Some("pi_first"));
    world.deliver_one(event("payment.approved")).await.is("late_approval");
    assert_eq!(world.stack.aws.bus_entries()[0].detail["reason"], "paid_twice");
    assert_eq!(world.state(), "CONFIRMED, sold");
    assert!(world.stack.inventory.calls().is_empty());
}

#[tokio::test]
async fn a_409_confirmed_without_a_payment_is_read_before_it_is_settled() {
    let world = answering("payment-approved", respond(409, json!({"status": "CONFIRMED"}))).await;
    world.given_with(Status::Confirmed, SeatState::Sold, Some("pi_first"));
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, respond(409, json!({"status": "CONFIRMED"})));
    world.deliver_one(event("payment.approved")).await.is("late_approval");
    assert_eq!(world.stack.aws.bus_entries()[0].detail["reason"], "paid_twice");
}

#[tokio::test]
async fn a_late_approval_without_a_bus_is_rejected() {
    let world = World::with("payment-approved", &[("EVENT_BUS_NAME", "")]).await;
    world.given(Status::Expired, SeatState::Free);
    world.deliver_one(event("payment.approved")).await.is("rejected").because("refund_not_deliverable");
}

#[tokio::test]
async fn a_refund_request_that_the_bus_does_not_take_is_retried() {
    let world = World::of("payment-approved").await;
    world.given(Status::Expired, SeatState::Free);
    world.stack.aws.fail_entries_next(1);
    world.deliver_one(event("payment.approved")).await.is("retried").says("refund");
    assert!(world.stack.aws.bus_entries().is_empty());
    world.redeliver().await[0].is("late_approval");
    assert_eq!(world.stack.aws.bus_entries().len(), 1);
}

#[tokio::test]
async fn an_entry_that_failed_without_a_code_is_not_on_the_bus() {
    for (answer, taken) in [
        (json!({"FailedEntryCount": 0, "Entries": [{"EventId": "taken"}]}), true),
        (json!({"FailedEntryCount": 1, "Entries": [{}]}), false),
    ] {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let server = axum::Router::new().fallback(async move || axum::Json(answer));
        tokio::spawn(async move { axum::serve(listener, server).await });
        let config = aws_sdk_eventbridge::Config::builder()
            .behavior_version(aws_sdk_eventbridge::config::BehaviorVersion::latest())
            .http_client(shared::client::aws::http::client())
            .region(aws_sdk_eventbridge::config::Region::new("us-east-1"))
            .endpoint_url(url)
            .credentials_provider(aws_sdk_eventbridge::config::Credentials::new("test", "test", None, None, "test"));
        let bus = EventBus::new(aws_sdk_eventbridge::Client::from_conf(config.build()), "bus");
        assert_eq!(bus.put("payment.refund_requested", json!({})).await.is_ok(), taken);
    }
}

#[tokio::test]
async fn a_409_that_names_no_end_is_retried() {
    for status in ["HOLD", "PENDING", "SOMETHING"] {
        let world = answering("payment-failed", respond(409, json!({"status": status}))).await;
        world.deliver_one(event("payment.failed")).await.is("retried").says(status);
        assert!(world.stack.inventory.calls().is_empty(), "{status}");
    }
}

/// Its hold was extended, so that it ends later than its timer says.
#[tokio::test]
async fn an_expiry_of_an_open_reservation_waits_as_long_as_the_api_asks_and_never_runs_out_of_receives() {
    let open = |status: &str, after: Option<&str>| Scripted::Respond {
        status: 409,
        headers: after.map(|after| ("retry-after".to_owned(), after.to_owned())).into_iter().collect(),
        body: json!({"status": status}).to_string(),
    };
    for (status, after, wait) in
        [("HOLD", Some("59"), 59..=59), ("PENDING", Some("86400"), 900..=900), ("HOLD", None, 1..=1)]
    {
        let world = answering("reservation-expired", open(status, after)).await;
        world.deliver_one(event("reservation.expired")).await.is("retried").says(status);
        assert!(wait.contains(&world.last_wait().as_secs()), "{status} {after:?}: {:?}", world.last_wait());
    }
    let world = answering("reservation-expired", open("HOLD", Some("59"))).await;
    let last = Sent::from(event("reservation.expired")).received(MAX_RECEIVES);
    let early = world.deliver_one(last).await;
    assert_eq!((early.outcome.as_str(), early.kept), ("retried", false), "{:#}", early.line);
    // The filter of the alarm `failing` counts such lines: by it an operator hears of an expiry that is early for a day.
    assert_eq!(early.line["outcome"], "retried");
    assert!(early.line["attempt"].as_u64().is_some_and(|attempt| attempt >= 10), "{:#}", early.line);
    let waiting = world.queue.messages();
    assert_eq!((waiting.len(), waiting[0].receive_count), (1, 0), "it was sent anew: {waiting:#?}");
    assert!(waiting[0].visible_in.as_secs() > 50 && world.dead_letters.is_empty());
    // A payment that finds it open is no such case.
    let world = answering("payment-approved", open("PENDING", Some("59"))).await;
    world.deliver_one(Sent::from(event("payment.approved")).received(MAX_RECEIVES)).await.is("exhausted");
}

#[tokio::test]
async fn a_409_that_says_nothing_is_decided_by_reading_the_reservation() {
    let silent = || respond(409, json!({"error": {"code": "CONFLICT", "message": "no", "trace_id": "t"}}));
    let world = answering("payment-failed", silent()).await;
    world.given_with(Status::Confirmed, SeatState::Sold, Some("pi_first"));
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, silent());
    world.deliver_one(event("payment.failed")).await.is("superseded");
    let methods: Vec<_> = world.stack.reservations.calls().iter().map(|call| call.method.clone()).collect();
    assert_eq!(methods, [Method::PATCH, Method::GET]);

    for status in [201, 400, 404, 500] {
        let world = answering("payment-failed", silent()).await;
        let body = json!({"status": "CANCELLED"});
        world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(status, body));
        world.deliver_one(event("payment.failed")).await.is("retried");
        assert!(world.stack.inventory.calls().is_empty(), "GET {status}");
    }
}

#[tokio::test]
async fn an_unknown_reservation_is_retried_until_it_is_visible() {
    let world = World::of("payment-approved").await;
    world.deliver_one(event("payment.approved")).await.is("retried").says("404");
    world.given(Status::Hold, SeatState::Held);
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CONFIRMED, sold");
}

#[tokio::test]
async fn a_request_that_the_api_calls_wrong_is_rejected() {
    for status in [400, 422] {
        let own_word = json!({"error": {"code": "INVALID_STATUS", "message": "no such status"}});
        let world = answering("reservation-expired", respond(status, own_word)).await;
        let body = event("reservation.expired").to_string();
        world.deliver_one(body.clone()).await.is("rejected").because("downstream_rejected").says("no such status");
        let dead = world.only_dead_letter();
        assert_eq!((attribute(&dead, "error_code"), &dead.body), ("downstream_rejected", &body), "{status}");
        assert_eq!(world.state(), "HOLD, held");
    }
}

#[tokio::test]
async fn a_refusal_that_is_not_the_apis_own_is_retried() {
    for status in [400, 422] {
        for page in ["<html>The plain HTTP request was sent to HTTPS port</html>", "no such status", "", "[]", "null"] {
            let world = answering("reservation-expired", respond(status, page)).await;
            world.deliver_one(event("reservation.expired")).await.is("retried").says(&status.to_string());
            assert_eq!((world.downstream_calls(), world.state().as_str()), ((1, 0), "HOLD, held"), "{status} {page}");
            world.redeliver().await[0].is("success");
        }
    }
}

#[tokio::test]
async fn every_other_status_is_retried() {
    for status in [300, 304, 401, 402, 403, 405, 408, 410, 418, 425, 429, 451, 500, 501, 502, 503, 504, 599] {
        let world = answering("reservation-expired", respond(status, "not now")).await;
        world.deliver_one(event("reservation.expired")).await.is("retried").says(&status.to_string());
        assert_eq!(world.downstream_calls(), (1, 0), "{status}: asked once, settled never");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::of("reservation-expired").await;
    world.given(Status::Hold, SeatState::Held);
    let location = format!("http://{}/internal/reservations/{RESERVATION}", world.stack.reservation_address);
    let headers = vec![("location".to_owned(), location)];
    let answer = Scripted::Respond { status: 307, headers, body: String::new() };
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
    world.deliver_one(event("reservation.expired")).await.is("retried").says("307");
    assert_eq!(world.downstream_calls(), (1, 0));
}

#[tokio::test]
async fn retry_after_takes_the_place_of_a_shorter_back_off() {
    for (value, at_least) in [("120".to_owned(), 120), (httpdate_in(200), 195)] {
        let world = World::of("reservation-expired").await;
        world.given(Status::Hold, SeatState::Held);
        let headers = vec![("retry-after".to_owned(), value)];
        let answer = Scripted::Respond { status: 503, headers, body: String::new() };
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
        world.deliver_one(event("reservation.expired")).await.is("retried");
        let wait = world.last_wait().as_secs();
        assert!((at_least..=at_least + 10).contains(&wait), "{wait}");
    }
}

#[tokio::test]
async fn what_a_service_asks_for_delays_by_no_more_than_the_cap() {
    for value in ["86400", "18446744073709551615", "Fri, 31 Dec 9999 23:59:59 GMT"] {
        let world = World::with("reservation-expired", &[("BACKOFF_CAP_MS", "60000")]).await;
        world.given(Status::Hold, SeatState::Held);
        let headers = vec![("retry-after".to_owned(), value.to_owned())];
        let answer = Scripted::Respond { status: 503, headers, body: String::new() };
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
        world.deliver_one(event("reservation.expired")).await.is("retried");
        assert_eq!(world.last_wait().as_secs(), 60, "{value}");
    }
}

fn httpdate_in(seconds: u64) -> String {
    httpdate::fmt_http_date(std::time::SystemTime::now() + std::time::Duration::from_secs(seconds))
}

#[tokio::test]
async fn an_api_that_does_not_answer_or_hangs_up_is_retried_and_asked_once() {
    for answer in [Scripted::Hang, Scripted::CloseConnection] {
        let world = answering("payment-approved", answer).await;
        world.deliver_one(event("payment.approved")).await.is("retried");
        assert_eq!(world.downstream_calls(), (1, 0));
    }
}

#[tokio::test]
async fn a_change_whose_answer_was_lost_is_repeated_and_settled_once() {
    let world = answering("payment-approved", Scripted::HangAfterEffect).await;
    world.deliver_one(event("payment.approved")).await.is("retried");
    assert_eq!(world.state(), "CONFIRMED, held", "the worker does not know of the change yet");
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CONFIRMED, sold");
    assert_eq!(world.stack.reservations.transitions(RESERVATION), [Status::Confirmed]);
}

#[tokio::test]
async fn the_reservation_says_what_is_settled_and_not_the_event() {
    let world = World::of("payment-failed").await;
    world.given(Status::Hold, SeatState::Held);
    let wrong = json!({"event_id": "evt_other", "seat_ids": ["Z-1"], "qty": 1});
    world.deliver_one(event_with("payment.failed", wrong)).await.is("success");
    let call = &world.stack.inventory.calls()[0];
    assert_eq!(
        (call.event_id.as_str(), call.seat_ids.as_slice()),
        (EVENT, ["A-12".to_owned(), "A-13".to_owned()].as_slice())
    );
}

#[tokio::test]
async fn what_neither_answer_nor_event_says_is_read_from_the_reservation() {
    let world = answering("payment-failed", respond(200, json!({"status": "CANCELLED"}))).await;
    world.given(Status::Cancelled, SeatState::Held);
    let bare = json!({"event_id": null, "seat_ids": null, "qty": null});
    world.deliver_one(event_with("payment.failed", bare)).await.is("success");
    assert_eq!(world.downstream_calls(), (2, 1));
    assert_eq!(world.stack.inventory.calls()[0].seat_ids, ["A-12", "A-13"]);
}

#[tokio::test]
async fn a_reservation_of_which_nobody_says_what_it_holds_is_rejected() {
    let world = answering("payment-failed", respond(200, json!({"status": "CANCELLED"}))).await;
    let silent = json!({"status": "CANCELLED", "event_id": EVENT});
    world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(200, silent));
    let bare = json!({"event_id": null, "seat_ids": null, "qty": null});
    world.deliver_one(event_with("payment.failed", bare)).await.is("rejected").because("incomplete_reservation");
    assert!(world.stack.inventory.calls().is_empty());
}

#[tokio::test]
async fn a_reservation_that_was_read_for_its_status_is_not_read_again_for_what_it_holds() {
    let world = answering("payment-failed", respond(409, "")).await;
    world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(200, json!({"status": "CANCELLED"})));
    let bare = json!({"event_id": null, "seat_ids": null, "qty": null});
    world.deliver_one(event_with("payment.failed", bare)).await.is("rejected").because("incomplete_reservation");
    assert_eq!(world.downstream_calls(), (2, 0));
}
