//! The outcomes of a record, and what each means for its message: the rows of the outcome table.

use std::{collections::BTreeMap, time::Duration};

use axum::http::Method;
use local_stack::{
    aws::Injected,
    inventory::SeatState,
    queue::{Message, MessageAttribute},
    reservations::{Scripted, Status},
    stack::{MAX_RECEIVES, TABLE},
};
use serde_json::{Value, json};

use crate::harness::{
    PAYMENT, RESERVATION, Sent, World, attribute, event, event_with, eventually, log_lines, while_held, wire_before,
};

/// A payment that is on hold and ready to be settled.
async fn ready() -> World {
    let world = World::of("payment-approved").await;
    world.given(Status::Hold, SeatState::Held);
    world
}

/// The idempotency record of the payment.
async fn record(world: &World) -> Value {
    let key = json!({"id": {"S": format!("payment.approved#{RESERVATION}#{PAYMENT}")}});
    let input = json!({"TableName": TABLE, "Key": key, "ConsistentRead": true});
    world.stack.aws.dynamodb("GetItem", &input).await.expect("DynamoDB answers")["Item"].clone()
}

/// Puts another worker's claim in place, which lasts until `lease_end` in milliseconds since the epoch.
async fn claimed_by_another(world: &World, lease_end: u64) {
    world.deliver_one(event("payment.approved")).await.is("retried");
    let mut item = record(world).await;
    item["owner"] = json!({"S": "somebody else"});
    item["in_progress_expiration"] = json!({"N": lease_end.to_string()});
    let input = json!({"TableName": TABLE, "Item": item});
    world.stack.aws.dynamodb("PutItem", &input).await.expect("DynamoDB answers");
}

fn in_a_minute() -> u64 {
    shared::deadline::epoch_ms(std::time::SystemTime::now() + Duration::from_secs(60))
}

fn unavailable() -> Scripted {
    Scripted::Respond { status: 503, headers: Vec::new(), body: String::new() }
}

#[tokio::test]
async fn a_success_is_acknowledged_and_recorded() {
    let world = ready().await;
    world.deliver_one(event("payment.approved")).await.is("success");
    assert!(world.queue.is_empty() && world.dead_letters.is_empty());
    let record = record(&world).await;
    assert_eq!(record["status"]["S"], "COMPLETED");
    assert_eq!(record["data"]["S"], "success");
    assert_eq!(record["attempt"]["N"], "1");
    let days: f64 = record["expiration"]["N"].as_str().unwrap().parse().unwrap();
    let now = shared::deadline::epoch_ms(std::time::SystemTime::now()) as f64 / 1000.0;
    assert!((days - now - 30.0 * 86_400.0).abs() < 60.0, "the record lives for 30 days");
}

#[tokio::test]
async fn a_duplicate_is_acknowledged_and_calls_nothing() {
    let world = ready().await;
    world.deliver_one(event("payment.approved")).await.is("success");
    let calls = world.downstream_calls();
    world.deliver_one(event("payment.approved")).await.is("duplicate");
    assert_eq!(world.downstream_calls(), calls);
}

#[tokio::test]
async fn a_first_delivery_costs_two_requests_to_dynamodb_and_a_duplicate_one() {
    let world = ready().await;
    // The start's own look at the table is one a process, and none of a record.
    world.warm_up().await;
    world.stack.aws.clear_requests();
    world.deliver_one(event("payment.approved")).await.is("success");
    assert_eq!(world.dynamodb_requests(), 2);
    world.deliver_one(event("payment.approved")).await.is("duplicate");
    assert_eq!(world.dynamodb_requests(), 3);
}

#[tokio::test]
async fn a_superseded_event_is_a_duplicate_the_second_time() {
    let world = World::of("reservation-expired").await;
    world.given_with(Status::Confirmed, SeatState::Sold, Some(PAYMENT));
    world.deliver_one(event("reservation.expired")).await.is("superseded");
    world.deliver_one(event("reservation.expired")).await.is("duplicate");
    assert_eq!(world.state(), "CONFIRMED, sold");
}

#[tokio::test]
async fn a_late_approval_asks_for_one_refund_however_often_it_comes() {
    let world = World::of("payment-approved").await;
    world.given(Status::Cancelled, SeatState::Free);
    world.deliver_one(event("payment.approved")).await.is("late_approval");
    world.deliver_one(event("payment.approved")).await.is("duplicate");
    assert_eq!(world.stack.aws.bus_entries().len(), 1);
}

#[tokio::test]
async fn a_transient_fault_waits_by_its_receive_count() {
    for (receive_count, waits) in [(1, 1..=1), (2, 1..=2), (3, 2..=4), (4, 4..=8)] {
        let world = ready().await;
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, unavailable());
        world.deliver_one(Sent::from(event("payment.approved")).received(receive_count)).await.is("retried");
        let wait = world.last_wait().as_secs();
        assert!(waits.contains(&wait), "receive {receive_count} waits {wait} s");
    }
}

#[tokio::test]
async fn a_claim_held_by_another_worker_is_retried_when_its_lease_is_over() {
    let world = World::of("payment-approved").await;
    claimed_by_another(&world, in_a_minute()).await;
    world.given(Status::Hold, SeatState::Held);
    world.redeliver().await[0].is("retried").says("another worker");
    assert!((55..=61).contains(&world.last_wait().as_secs()), "{:?}", world.last_wait());
    assert_eq!(world.state(), "HOLD, held");
    assert_eq!(record(&world).await["owner"]["S"], "somebody else", "another's claim is not touched");
}

#[tokio::test]
async fn a_lease_that_is_over_is_taken_over() {
    let world = World::of("payment-approved").await;
    claimed_by_another(&world, 1_000).await;
    world.given(Status::Hold, SeatState::Held);
    world.redeliver().await[0].is("success");
    assert_eq!(record(&world).await["attempt"]["N"], "2");
    assert_eq!(world.state(), "CONFIRMED, sold");
}

#[tokio::test]
async fn a_completed_event_is_a_duplicate_after_its_lease_too() {
    let world = ready().await;
    world.deliver_one(event("payment.approved")).await.is("success");
    let mut item = record(&world).await;
    item["in_progress_expiration"] = json!({"N": "1000"});
    world.stack.aws.dynamodb("PutItem", &json!({"TableName": TABLE, "Item": item})).await.expect("DynamoDB answers");
    let calls = world.downstream_calls();
    world.deliver_one(event("payment.approved")).await.is("duplicate");
    assert_eq!(world.downstream_calls(), calls);
}

#[tokio::test]
async fn a_record_that_outlived_its_expiration_is_as_good_as_none() {
    let world = ready().await;
    world.deliver_one(event("payment.approved")).await.is("success");
    // DynamoDB deletes it late, up to days later.
    let mut item = record(&world).await;
    item["expiration"] = json!({"N": (in_a_minute() / 1_000 - 120).to_string()});
    world.stack.aws.dynamodb("PutItem", &json!({"TableName": TABLE, "Item": item})).await.expect("DynamoDB answers");
    world.deliver_one(event("payment.approved")).await.is("success");
    assert_eq!(world.downstream_calls(), (2, 2), "it is worked as a new event");
    assert_eq!(world.state(), "CONFIRMED, sold");
}

#[tokio::test]
async fn a_failed_attempt_gives_its_claim_back_and_keeps_its_count() {
    let world = ready().await;
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, unavailable());
    world.deliver_one(event("payment.approved")).await.is("retried");
    let left = record(&world).await;
    assert_eq!((&left["status"]["S"], &left["in_progress_expiration"]["N"]), (&json!("INPROGRESS"), &json!("0")));
    world.redeliver().await[0].is("success");
    assert_eq!(record(&world).await["attempt"]["N"], "2");
}

#[tokio::test]
async fn a_completion_that_is_not_stored_is_retried_and_has_no_second_effect() {
    let world = ready().await;
    // The claim goes through; while the inventory works, DynamoDB breaks for the two tries of the completion.
    world.stack.inventory.set_latency(Duration::from_millis(200));
    let breakdown = async {
        eventually("the settle call", || !world.stack.inventory.calls().is_empty()).await;
        for _ in 0..2 {
            let (kind, message) = ("InternalServerError".into(), "oops".into());
            world.stack.aws.fail_next("DynamoDB", Injected::Answer { status: 500, kind, message });
        }
    };
    let (ended, ()) = tokio::join!(world.deliver_one(event("payment.approved")), breakdown);
    ended.is("retried").says("complete");
    world.redeliver().await[0].is("success");
    let effects = world.stack.inventory.calls().iter().filter(|call| call.had_effect).count();
    assert_eq!((effects, world.state().as_str()), (1, "CONFIRMED, sold"));
}

#[tokio::test]
async fn an_expiry_before_its_time_waits_for_it_and_claims_nothing() {
    let world = World::of("reservation-expired").await;
    world.given(Status::Hold, SeatState::Held);
    let due = shared::deadline::epoch_ms(std::time::SystemTime::now()) / 1000 + 300;
    world.deliver_one(event_with("reservation.expired", json!({"expires_at": due}))).await.is("retried");
    assert!((295..=301).contains(&world.last_wait().as_secs()), "{:?}", world.last_wait());
    assert_eq!(world.downstream_calls(), (0, 0));
    assert_eq!(world.state(), "HOLD, held");
}

#[tokio::test]
async fn nothing_waits_longer_than_eleven_hours() {
    let world = World::of("reservation-expired").await;
    world.given(Status::Hold, SeatState::Held);
    world
        .deliver_one(event_with("reservation.expired", json!({"expires_at": "2099-12-31T23:59:59Z"})))
        .await
        .is("retried");
    assert_eq!(world.last_wait(), Duration::from_secs(11 * 60 * 60));
}

/// An expiry that is not due for so many seconds.
fn expiry_in(seconds: u64) -> Value {
    let due = shared::deadline::epoch_ms(std::time::SystemTime::now()) / 1000 + seconds;
    event_with("reservation.expired", json!({"expires_at": due}))
}

#[tokio::test]
async fn an_expiry_before_its_time_never_runs_out_of_receives() {
    for (early_by, delayed) in [(300, 0..=300), (100_000, 301..=900)] {
        let world = World::of("reservation-expired").await;
        world.given(Status::Hold, SeatState::Held);
        let body = expiry_in(early_by).to_string();
        let attributes = BTreeMap::from([("tenant".to_owned(), MessageAttribute::string("acme"))]);
        let last = Sent { attributes: attributes.clone(), ..Sent::from(body.clone()).received(MAX_RECEIVES) };
        let early = world.deliver_one(last).await;
        assert_eq!((early.outcome.as_str(), early.kept), ("retried", false), "{:#}", early.line);
        assert!(world.dead_letters.is_empty(), "nothing early is a dead letter");
        let waiting = world.queue.messages();
        assert_eq!(waiting.len(), 1, "it was sent anew, and the old one is acknowledged: {waiting:#?}");
        let mut carried = waiting[0].attributes.clone();
        assert!(carried.remove("waiting_since").is_some(), "it says since when it waits: {waiting:#?}");
        assert_eq!((&waiting[0].body, &carried, waiting[0].receive_count), (&body, &attributes, 0));
        assert!(delayed.contains(&waiting[0].visible_in.as_secs()), "{waiting:#?}");
        assert_eq!(world.state(), "HOLD, held");
    }
}

#[tokio::test]
async fn an_expiry_that_waits_for_longer_than_its_queue_keeps_it_is_sent_anew() {
    let hour = Duration::from_secs(60 * 60);
    for (age, sent_anew) in [(23 * hour, false), (25 * hour, true)] {
        let world = World::of("reservation-expired").await;
        let body = expiry_in(10 * 24 * 60 * 60).to_string();
        world.queue.send(Message { age, received_before: 2, ..Message::new(body) }).unwrap();
        let early = world.redeliver().await.remove(0);
        assert_eq!((early.outcome.as_str(), early.kept), ("retried", !sent_anew), "{:#}", early.line);
        let waiting = world.queue.messages();
        let receives = if sent_anew { 0 } else { 3 };
        assert_eq!((waiting.len(), waiting[0].receive_count), (1, receives), "{waiting:#?}");
    }
}

/// How often an expiry was counted that has been early for a day.
fn long_early(world: &World) -> u64 {
    let lines = log_lines(&world.function.all_logs());
    lines.iter().filter_map(|line| line["worker_early_for_a_day_total"].as_u64()).sum()
}

#[tokio::test]
async fn an_expiry_that_is_early_for_a_day_is_counted_however_often_it_was_sent_anew() {
    let hour = Duration::from_secs(60 * 60);
    for (age, counted) in [(25 * hour, 1), (23 * hour, 0)] {
        let world = World::of("reservation-expired").await;
        let attributes: BTreeMap<String, MessageAttribute> =
            (0..10).map(|n| (format!("own-{n}"), MessageAttribute::string("x"))).collect();
        let body = expiry_in(10 * 24 * 60 * 60).to_string();
        // On its last receive, so that it is sent anew whatever its age is.
        let last = Message { age, received_before: MAX_RECEIVES - 1, attributes, ..Message::new(body) };
        world.queue.send(last).unwrap();
        let mut waiting = Vec::new();
        for times in 1..=2 {
            let early = world.redeliver().await.remove(0);
            assert_eq!(early.outcome, "retried", "{:#}", early.line);
            assert_eq!(long_early(&world), counted * times, "after {age:?}, looked at {times} times");
            waiting.push(world.queue.messages());
        }
        let attributes: Vec<Vec<usize>> =
            waiting.iter().map(|messages| messages.iter().map(|message| message.attributes.len()).collect()).collect();
        assert_eq!(attributes, [[10], [10]], "{waiting:#?}");
    }
    // What is late, or a fault, has not been early.
    let world = World::of("reservation-expired").await;
    let old = Message { age: 25 * hour, ..Message::new(event("reservation.expired").to_string()) };
    world.queue.send(old).unwrap();
    world.redeliver().await[0].is("retried").says("404");
    assert_eq!(long_early(&world), 0);
}

#[tokio::test]
async fn an_early_expiry_that_can_not_be_sent_anew_stays_where_it_is() {
    let world = World::of("reservation-expired").await;
    world.given(Status::Hold, SeatState::Held);
    for _ in 0..2 {
        let (kind, message) = ("InternalFailure".into(), "on demand".into());
        world.stack.aws.fail_next("AmazonSQS.SendMessage", Injected::Answer { status: 500, kind, message });
    }
    world.deliver_one(Sent::from(expiry_in(300)).received(MAX_RECEIVES)).await.is("retried");
    assert!((290..=300).contains(&world.last_wait().as_secs()), "{:?}", world.last_wait());
    assert!(world.dead_letters.is_empty());
}

#[tokio::test]
async fn on_its_last_receive_an_event_that_another_worker_holds_waits_once_more() {
    let world = World::of("payment-approved").await;
    claimed_by_another(&world, in_a_minute()).await;
    assert!(world.queue.skip_wait());
    let waiting = world.queue.receive(1).remove(0);
    world.queue.delete(&waiting.receipt).unwrap();

    world.given(Status::Hold, SeatState::Held);
    let body = event("payment.approved");
    world.deliver_one(Sent::from(body.clone()).received(MAX_RECEIVES)).await.is("retried").says("another worker");
    assert!(world.last_wait().as_secs() >= 55, "not before the lease is over: {:?}", world.last_wait());
    // Still there after the rest of the lease: now it is given up, and its reason does not claim that nothing happened.
    world.redeliver().await[0].is("exhausted").says("may have settled it");
    assert_eq!(world.state(), "HOLD, held");
}

#[tokio::test]
async fn a_payment_never_waits() {
    let world = ready().await;
    let later = json!({"expires_at": "2099-12-31T23:59:59Z"});
    world.deliver_one(event_with("payment.approved", later)).await.is("success");
}

#[tokio::test]
async fn dynamodb_that_fails_or_does_not_answer_is_retried_before_anything_is_called() {
    for failure in [
        Injected::Answer { status: 400, kind: "ProvisionedThroughputExceededException".into(), message: "slow".into() },
        Injected::Answer { status: 500, kind: "InternalServerError".into(), message: "oops".into() },
        Injected::Silence,
    ] {
        let world = ready().await;
        world.warm_up().await;
        world.stack.aws.fail_next("DynamoDB", failure.clone());
        world.stack.aws.fail_next("DynamoDB", failure);
        world.deliver_one(event("payment.approved")).await.is("retried").says("claim");
        assert_eq!(world.downstream_calls(), (0, 0));
        world.redeliver().await[0].is("success");
    }
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_still_ours() {
    let world = ready().await;
    world.warm_up().await;
    world.stack.aws.fail_next("DynamoDB", Injected::LostAnswer);
    world.deliver_one(event("payment.approved")).await.is("success");
}

#[tokio::test]
async fn a_transient_fault_on_the_last_receive_goes_to_the_dead_letter_queue_with_its_last_error() {
    let world = ready().await;
    world.stack.reservations.answer_next(RESERVATION, Method::PATCH, unavailable());
    let body = event("payment.approved").to_string();
    world.deliver_one(Sent::from(body.clone()).received(MAX_RECEIVES)).await.is("exhausted");
    let dead = world.only_dead_letter();
    assert_eq!(attribute(&dead, "error_code"), "retries_exhausted");
    assert!(attribute(&dead, "error_message").contains("503"));
    assert_eq!(attribute(&dead, "event_type"), "payment.approved");
    assert_eq!(dead.body, body);
    assert!(world.queue.is_empty());
}

#[tokio::test]
async fn a_message_that_keeps_failing_is_exhausted_after_its_last_receive() {
    let world = World::of("payment-approved").await;
    world.deliver_one(event("payment.approved")).await.is("retried");
    for _ in 2..MAX_RECEIVES {
        world.redeliver().await[0].is("retried");
    }
    world.redeliver().await[0].is("exhausted");
    assert_eq!(attribute(&world.only_dead_letter(), "error_code"), "retries_exhausted");
}

#[tokio::test]
async fn a_rejected_or_exhausted_message_is_processed_when_it_is_redriven_after_the_repair() {
    for receive_count in [1, MAX_RECEIVES] {
        let world = ready().await;
        let status = if receive_count == 1 { 422 } else { 503 };
        let answer = Scripted::Respond { status, headers: Vec::new(), body: "{}".to_owned() };
        world.stack.reservations.answer_next(RESERVATION, Method::PATCH, answer);
        let outcome = if receive_count == 1 { "rejected" } else { "exhausted" };
        world.deliver_one(Sent::from(event("payment.approved")).received(receive_count)).await.is(outcome);
        let dead = world.only_dead_letter();
        world.deliver_one(Sent { attributes: dead.attributes, ..Sent::from(dead.body) }).await.is("success");
        assert_eq!(world.state(), "CONFIRMED, sold");
    }
}

#[tokio::test]
async fn a_changed_amount_under_a_known_key_is_rejected_and_touches_nothing() {
    let world = ready().await;
    world.deliver_one(event("payment.approved")).await.is("success");
    let calls = world.downstream_calls();
    let changed = event_with("payment.approved", json!({"amount": 1}));
    world.deliver_one(changed).await.is("rejected").because("payload_changed");
    assert_eq!(world.downstream_calls(), calls);
    world.deliver_one(event("payment.approved")).await.is("duplicate");
}

#[tokio::test]
async fn a_changed_amount_is_rejected_while_the_first_is_unsettled_too() {
    let world = World::of("payment-approved").await;
    world.deliver_one(event("payment.approved")).await.is("retried");
    world.given(Status::Hold, SeatState::Held);
    let changed = event_with("payment.approved", json!({"amount": 1}));
    world.deliver_one(changed).await.is("rejected").because("payload_changed");
    assert_eq!(world.state(), "HOLD, held");
    world.redeliver().await[0].is("success");
}

#[tokio::test]
async fn the_same_event_twice_in_one_batch_is_settled_once() {
    let world = ready().await;
    let ended = world.deliver([event("payment.approved"), event("payment.approved")]).await;
    ended[0].is("success");
    ended[1].is("duplicate");
    assert_eq!(world.downstream_calls(), (1, 1));
}

#[tokio::test]
async fn two_environments_that_get_the_same_event_settle_it_once() {
    let first = ready().await;
    let second = World::on(first.stack.clone(), "payment-approved", &[]);
    // A cold start would ask the services too, and take its time.
    first.warm_up().await;
    second.warm_up().await;
    let wire = wire_before(1);
    first.stack.reservations.set_tripwire(wire.clone());
    // The first has claimed the event by then.
    let meanwhile = while_held(&wire, second.deliver_one(event("payment.approved")));
    let (one, two) = tokio::join!(first.deliver_one(event("payment.approved")), meanwhile);
    one.is("success");
    two.is("retried");
    assert_eq!(first.downstream_calls(), (1, 1));
    second.redeliver().await[0].is("duplicate");
}
