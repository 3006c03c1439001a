//! Events as producers send them, for every test: one usual event of each type, and what a test changes in it.

use serde_json::{Value, json};
use shared::settlement::event::EventType;

/// The payment of the usual payment events.
pub const PAYMENT: &str = "pi_3Qk8x2LkdIwHu7ix";

/// The detail of the usual event about a reservation of these seats.
pub fn detail(event_type: EventType, reservation_id: &str, show_id: &str, seat_ids: &[String]) -> Value {
    let mut detail = json!({
        "reservation_id": reservation_id, "event_id": show_id, "seat_ids": seat_ids, "qty": seat_ids.len(),
        "user_id": "usr_1",
    });
    if event_type.is_of_a_payment() {
        detail["payment_intent_id"] = json!(PAYMENT);
        detail["amount"] = json!(12_500);
        detail["currency"] = json!("EUR");
    }
    detail
}

/// A detail with the fields of an object in place of its own; a null takes one away, as far as its readers are concerned.
pub fn changed(mut detail: Value, changes: &Value) -> Value {
    for (name, value) in changes.as_object().into_iter().flatten() {
        detail[name] = value.clone();
    }
    detail
}

/// The envelope in which EventBridge delivers an event.
pub fn envelope(detail_type: &str, detail: &Value) -> Value {
    json!({
        "version": "0", "id": "5b3f4a52-2f0e-4a51-9a53-0a4a3c6f2d11", "detail-type": detail_type, "source": "test",
        "account": "000000000000", "time": "2026-11-20T10:00:00Z", "region": "us-east-1", "resources": [],
        "detail": detail,
    })
}
