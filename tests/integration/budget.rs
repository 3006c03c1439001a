//! The time that a record is given is the time that its calls may take: each part states its own, and here it is held against
//! the calls that are really made.

use std::time::Duration;

use axum::http::Method;
use local_stack::{
    aws::Injected,
    catalogue::{SETTLING, Settling},
    inventory::SeatState,
    reservations::{Scripted, Status},
    stack::MAX_RECEIVES,
};
use serde_json::{Value, json};
use shared::{client::aws::CALL_TIMEOUT, settlement::Outcome};

use crate::harness::{RESERVATION, Sent, World, event};

/// The time-outs of the two downstreams, by default.
const RESERVATION_API: Duration = Duration::from_secs(2);
const INVENTORY: Duration = Duration::from_secs(1);

/// What is kept free for the answer to Lambda.
const MARGIN: Duration = Duration::from_millis(500);

/// The longest way of an event through its function: the answer to the change says nothing, the completion fails, and so does
/// the sending to the dead-letter queue. `status` is what a look at the reservation then says.
async fn longest_way(function: Settling, status: &str) -> Duration {
    let world = World::of(function.name).await;
    world.given(Status::Hold, SeatState::Held);
    let payment = (status == "CONFIRMED").then_some(crate::harness::PAYMENT);
    let read = json!({"reservation_id": RESERVATION, "status": status, "payment_intent_id": payment});
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, respond(200, Value::Null));
    world.stack.reservations.answer_next(RESERVATION, Method::GET, respond(200, read));
    let refused = |kind: &str| Injected::Answer { status: 400, kind: kind.into(), message: "for the test".into() };
    world.warm_up().await;
    world.stack.aws.clear_requests();
    world.stack.aws.fail_after(1, "DynamoDB_20120810.UpdateItem", refused("AccessDeniedException"));
    world.stack.aws.fail_next("AmazonSQS.SendMessage", refused("AccessDenied"));

    let ended = world.deliver_one(Sent::from(event(function.workflow.name())).received(MAX_RECEIVES)).await;
    ended.is("retried").says("complete the idempotency record");
    let (reservation_api, inventory) = world.downstream_calls();
    let aws = world.stack.aws.requests();
    let calls = |number: usize, timeout: Duration| timeout * u32::try_from(number).unwrap();
    calls(aws.len(), CALL_TIMEOUT) + calls(reservation_api, RESERVATION_API) + calls(inventory, INVENTORY)
}

fn respond(status: u16, body: Value) -> Scripted {
    Scripted::Respond {
        status,
        headers: Vec::new(),
        body: if body.is_null() { String::new() } else { body.to_string() },
    }
}

#[tokio::test]
async fn the_budget_is_the_time_of_the_calls_that_are_really_made() {
    for function in SETTLING {
        let wanted = function.workflow.guard.wanted();
        let mut longest = longest_way(function, wanted.name()).await;
        if function.lost_race == Outcome::LateApproval {
            longest = longest.max(longest_way(function, "EXPIRED").await);
        }
        let environment = World::of(function.name).await.stack.environment(function.name);
        let budget = function.limits_in(&environment, None).expect("the environment is right").budget;
        assert_eq!(budget, longest + MARGIN, "{}", function.name);
    }
}
