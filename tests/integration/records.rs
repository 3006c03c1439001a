//! Idempotency records that others wrote: with less in them than ours, or with attributes of another type. What is only
//! carried decides nothing.

use local_stack::{inventory::SeatState, reservations::Status, stack::TABLE};
use serde_json::{Value, json};

use crate::harness::{Ended, Sent, World, event_with};

/// A payment's record in the table, with the world that it is in.
struct Found {
    world: World,
    key: Value,
}

impl Found {
    /// The record of a payment that was tried once, with some attributes changed; a null takes one away.
    async fn with(changes: Value) -> Self {
        let world = World::of("payment-approved").await;
        world.deliver_one(payment()).await.is("retried");
        let found = Self { world, key: json!({"S": "payment.approved#rsv_1#pi_1"}) };
        let mut item = found.record().await;
        let attributes = item.as_object_mut().expect("a record");
        for (name, value) in changes.as_object().expect("changes are an object") {
            attributes.remove(name);
            attributes.extend((!value.is_null()).then(|| (name.clone(), value.clone())));
        }
        let input = json!({"TableName": TABLE, "Item": item});
        found.world.stack.aws.dynamodb("PutItem", &input).await.expect("DynamoDB takes the record");
        found.world.seed("rsv_1", &["A-1"], Status::Hold, SeatState::Held, None);
        found
    }

    /// The same event once more.
    async fn delivered_again(&self) -> Ended {
        self.world.redeliver().await.remove(0)
    }

    async fn record(&self) -> Value {
        let input = json!({"TableName": TABLE, "Key": {"id": self.key}, "ConsistentRead": true});
        self.world.stack.aws.dynamodb("GetItem", &input).await.expect("DynamoDB answers")["Item"].clone()
    }

    fn state(&self) -> String {
        self.world.state_of("rsv_1")
    }
}

fn payment() -> Sent {
    let detail = json!({"reservation_id": "rsv_1", "seat_ids": ["A-1"], "qty": 1, "payment_intent_id": "pi_1"});
    event_with("payment.approved", detail).into()
}

#[tokio::test]
async fn a_completed_record_is_a_duplicate_whatever_else_is_in_it() {
    for changes in [
        json!({"validation": null}),
        json!({"in_progress_expiration": null}),
        json!({"validation": null, "in_progress_expiration": null, "data": null, "owner": null, "attempt": null}),
        json!({"validation": {"N": "1"}, "in_progress_expiration": {"S": "soon"}, "data": {"M": {}}}),
        json!({"in_progress_expiration": {"NULL": true}, "owner": {"N": "1"}, "attempt": {"S": "one"}}),
        json!({"expiration": null}),
        json!({"expiration": {"S": "1"}}),
    ] {
        let mut completed = changes.clone();
        completed["status"] = json!({"S": "COMPLETED"});
        let found = Found::with(completed).await;
        let calls = found.world.downstream_calls();
        let ended = found.delivered_again().await;
        assert_eq!(ended.outcome, "duplicate", "{changes}: {:#}", ended.line);
        assert_eq!((found.world.downstream_calls(), found.state().as_str()), (calls, "HOLD, held"), "{changes}");
    }
}

#[tokio::test]
async fn a_claim_that_nobody_holds_any_more_is_taken_over_whatever_else_is_in_it() {
    for changes in [
        json!({"validation": null}),
        json!({"owner": null, "attempt": null}),
        json!({"owner": {"N": "1"}, "data": {"M": {}}}),
        json!({"attempt": {"S": "one"}}),
        json!({"attempt": {"L": []}}),
        json!({"expiration": {"S": "soon"}}),
    ] {
        let found = Found::with(changes.clone()).await;
        let ended = found.delivered_again().await;
        assert_eq!(ended.outcome, "success", "{changes}: {:#}", ended.line);
        assert_eq!(found.state(), "CONFIRMED, sold", "{changes}");
    }
}

#[tokio::test]
async fn a_claim_of_which_nobody_knows_when_it_ends_is_named() {
    for (lease, says) in [(Value::Null, "is missing"), (json!({"S": "soon"}), "is not a number")] {
        let found = Found::with(json!({"in_progress_expiration": lease})).await;
        found.delivered_again().await.is("retried").says(says);
        assert_eq!(found.state(), "HOLD, held", "{lease}");
    }
}

#[tokio::test]
async fn a_validation_that_is_there_is_compared() {
    for status in ["INPROGRESS", "COMPLETED"] {
        let found = Found::with(json!({"status": {"S": status}, "validation": {"S": "of another amount"}})).await;
        let ended = found.delivered_again().await;
        ended.is("rejected").because("payload_changed");
        assert_eq!(found.state(), "HOLD, held", "{status}");
    }
}

#[tokio::test]
async fn a_status_that_nobody_knows_is_left_to_people() {
    for status in [Value::Null, json!({"S": "completed"}), json!({"S": "FAILED"}), json!({"N": "1"})] {
        let found = Found::with(json!({"status": status})).await;
        let before = found.record().await;
        found.delivered_again().await.is("retried").says("status is neither INPROGRESS nor COMPLETED");
        assert_eq!(found.state(), "HOLD, held", "{status}");
        assert_eq!(found.record().await, before, "{status}: the record is not touched");
    }
}
