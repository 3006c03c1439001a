//! What an event carries and nobody decides by: where it goes on, and where it is left out because it is too long, or is
//! no trace id but what a log must never hold.

use axum::http::Method;
use local_stack::{
    inventory::SeatState,
    reservations::{Scripted, Status},
};
use serde_json::{Value, json};

use crate::harness::{Ended, RESERVATION, World, event_with};

/// No line and no event of ours is longer, whatever came in.
const LONGEST: usize = 2_048;

/// Delivers an approval of a reservation that has expired, and answers with how it ended and the detail of its refund.
async fn late(changes: Value) -> (Ended, Value) {
    let world = World::of("payment-approved").await;
    world.given(Status::Expired, SeatState::Free);
    let ended = world.deliver_one(event_with("payment.approved", changes)).await;
    ended.is("late_approval");
    let entries = world.stack.aws.bus_entries();
    assert_eq!(entries.len(), 1, "one refund request");
    (ended, entries[0].detail.clone())
}

/// What the inventory hears of the customer of a reservation that is sold, when the event and the API name one.
async fn customer(of_event: Value, of_api: Value) -> String {
    let world = World::of("payment-approved").await;
    world.given(Status::Hold, SeatState::Held);
    let body = json!({"status": "CONFIRMED", "user_id": of_api}).to_string();
    let answer = Scripted::Respond { status: 200, headers: Vec::new(), body };
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
    world.deliver_one(event_with("payment.approved", json!({"user_id": of_event}))).await.is("success");
    world.stack.inventory.calls()[0].user_id.clone()
}

#[tokio::test]
async fn what_is_only_carried_goes_on() {
    let (ended, refund) = late(json!({"trace_id": "trace-1", "currency": "EUR"})).await;
    assert_eq!((&refund["trace_id"], &refund["currency"]), (&json!("trace-1"), &json!("EUR")));
    assert_eq!(ended.line["trace_id"], "trace-1");
    assert_eq!(customer(json!("usr_1"), Value::Null).await, "usr_1");
    assert_eq!(customer(json!("usr_1"), json!("usr_2")).await, "usr_2", "the API knows its customer");
}

#[tokio::test]
async fn what_is_only_carried_is_left_out_when_it_is_long() {
    let long = |length: usize| "a".repeat(length);
    for changes in [
        json!({"trace_id": long(257), "currency": long(257)}),
        json!({"trace_id": long(1_000_000)}),
        json!({"currency": long(1_000_000)}),
    ] {
        let absent = changes.as_object().expect("changes").keys().cloned().collect::<Vec<_>>();
        let (ended, refund) = late(changes).await;
        for name in absent {
            assert_eq!((&refund[&name], ended.line.get(&name)), (&Value::Null, None), "{name}");
        }
        assert_eq!(refund["amount"], 12_500);
        assert!(ended.line.to_string().len() < LONGEST && refund.to_string().len() < LONGEST);
    }
    let long = json!("u".repeat(257));
    assert_eq!(customer(long.clone(), Value::Null).await, "");
    assert_eq!(customer(json!("usr_1"), long).await, "usr_1");
}

#[tokio::test]
async fn a_trace_id_that_is_none_is_left_out_everywhere() {
    for (private, part) in [
        ("4111111111111111", "4111111111111111"),
        ("4111-1111-1111-1111", "4111-1111"),
        ("ana.lopez@example.com", "lopez"),
        ("Ana Lopez", "Lopez"),
    ] {
        let (ended, refund) = late(json!({"trace_id": private})).await;
        assert_eq!((&refund["trace_id"], ended.line.get("trace_id")), (&Value::Null, None), "{private}");
        assert!(!ended.line.to_string().contains(part) && !refund.to_string().contains(part), "{private}");
    }
}

#[tokio::test]
async fn a_later_versions_tail_does_not_go_on_with_its_trace() {
    let world = World::of("payment-failed").await;
    world.given(Status::Hold, SeatState::Held);
    let known = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let later = format!("01-{known}-{}", "x".repeat(8_192));
    let ended = world.deliver_one(event_with("payment.failed", json!({"traceparent": later}))).await;
    assert_eq!(ended.is("success").line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(ended.line.to_string().len() < LONGEST);
    let wanted = Some(format!("00-{known}"));
    assert_eq!(world.stack.reservations.calls()[0].traceparent, wanted);
    assert_eq!(world.stack.inventory.calls()[0].traceparent, wanted);
}
