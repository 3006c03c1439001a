//! Input that is wrong, line by line; the rest of the batch lands.

use local_stack::ended::Ended;
use serde_json::{Value, json};

use crate::house::{House, booking, booking_with, outcomes};

#[track_caller]
fn check(ended: &[Ended], expected: &[(&str, Option<&str>)]) {
    for (ended, (outcome, code)) in ended.iter().zip(expected) {
        ended.is(outcome);
        if let Some(code) = code {
            ended.because(code);
        }
    }
    assert_eq!(ended.len(), expected.len());
}

const INVALID: (&str, Option<&str>) = ("rejected", Some("invalid_field"));
const MALFORMED: (&str, Option<&str>) = ("rejected", Some("malformed_body"));
const SUCCESS: (&str, Option<&str>) = ("success", None);

#[tokio::test]
async fn what_is_no_event_is_rejected_and_the_rest_lands() {
    let Some(house) = House::open().await else { return };
    let ended = house
        .book([
            json!("{"),
            json!("17"),
            json!("[]"),
            json!("<xml/>"),
            json!({"detail-type": "booking.cancelled", "detail": booking("x")}),
            json!({"bookingId": {"a": 1}}),
            booking("b1"),
        ])
        .await;
    check(&ended, &[MALFORMED, MALFORMED, MALFORMED, MALFORMED, ("rejected", Some("unknown_type")), INVALID, SUCCESS]);
    assert_eq!(house.rows().await, ["b1 Accepted"]);
}

#[tokio::test]
async fn fields_that_break_their_rules_are_rejected_and_the_rest_lands() {
    let Some(house) = House::open().await else { return };
    let long = "x".repeat(10_240);
    let wrong = [
        json!({"startDate": "2026-06-10T10:00:00"}),
        json!({"startDate": "24 February 30"}),
        json!({"startDate": "2026-02-30"}),
        json!({"startDate": "0000-06-10"}),
        json!({"endDate": "10000-06-12"}),
        json!({"endDate": "2026-06-09"}),
        json!({"guests": 0}),
        json!({"guests": -1}),
        json!({"guests": 1_001}),
    ];
    let batch: Vec<Value> =
        wrong.iter().enumerate().map(|(n, changes)| booking_with(&format!("w{n}"), changes.clone())).collect();
    let ended = house.book(batch.into_iter().chain([booking("b1")])).await;
    check(&ended, &[&[INVALID; 9][..], &[SUCCESS]].concat());
    let batch = [
        booking_with("w", json!({ "bookingId": long })),
        booking_with("w", json!({ "userId": long })),
        booking_with("w", json!({ "roomId": long })),
        booking_with("w", json!({ "paymentId": long })),
        booking_with("w", json!({"userId": "jane\u{0}"})),
        booking_with("w", json!({"roomId": "\u{0}"})),
        booking_with("w\u{0}", json!({})),
        booking_with("w", json!({"guests": "two"})),
        booking_with("b2", json!({"roomId": "102"})),
    ];
    check(&house.book(batch).await, &[&[INVALID; 8][..], &[SUCCESS]].concat());
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Accepted"]);
}

#[tokio::test]
async fn a_half_of_a_character_is_rejected_and_sql_is_only_text() {
    let Some(house) = House::open().await else { return };
    let half = booking("b1").to_string().replace("jane@example.com", "\\ud800");
    let sql = "'; DROP TABLE bookings; --";
    let ended = house
        .book([
            json!(half),
            booking_with("b2", json!({ "userId": sql })),
            booking_with("b3", json!({ "roomId": sql })),
            booking_with("b4';--", json!({})),
            booking_with("b5", json!({"paymentId": "pi';--", "roomId": "102"})),
        ])
        .await;
    assert_eq!(outcomes(&ended), ["rejected", "retried", "retried", "success", "success"]);
    assert_eq!(house.rows().await, ["b4';-- Accepted", "b5 Accepted"]);
}
