//! Answers of success that the service itself would not give, and answers without end, from every service of AWS and from
//! the reservation API: nothing counts as done by them, and nothing in the function grows with them.

use axum::http::StatusCode;
use local_stack::{
    inventory::SeatState,
    lambda::FunctionError,
    process::Process,
    proxy::{Foreign, Proxy, Service},
    reservations::Status,
    stack::{MAX_RECEIVES, Stack},
};
use serde_json::json;

use crate::harness::{Sent, World, attribute, event, event_with};

/// The longest that a line of the log may be, in bytes, whatever a service answers.
const LONGEST_LINE: usize = 8 * 1024;

/// The most that a process may hold, in KiB: it was built without optimisation, and ten answers may be on their way.
const MOST_KIB: u64 = 100 * 1024;

/// As often as a call is tried.
const ALWAYS: usize = usize::MAX;

/// What a proxy, a mistaken address or another service says with a 200.
fn successes_of_others() -> [Foreign; 4] {
    let json =
        |body: &'static str| Foreign::new(StatusCode::OK, body).with("content-type", "application/x-amz-json-1.0");
    [Foreign::new(StatusCode::OK, ""), json("{}"), json("[]"), Foreign::page(StatusCode::OK)]
}

/// What no memory is large enough for.
fn floods() -> [(&'static str, Foreign); 3] {
    let error = json!({"__type": "ValidationException", "message": "é".repeat(1_500_000)}).to_string();
    let error = Foreign::new(StatusCode::BAD_REQUEST, error).with("content-type", "application/x-amz-json-1.0");
    [
        ("a success without end", Foreign::new(StatusCode::OK, "[0,").endless()),
        ("a page without end", Foreign::page(StatusCode::INTERNAL_SERVER_ERROR).endless()),
        ("an error text of 3 MB", error),
    ]
}

#[tokio::test]
async fn a_claim_is_acquired_only_on_the_word_of_dynamodb() {
    for answer in successes_of_others() {
        let (world, network) = World::behind_proxies().await;
        world.given(Status::Hold, SeatState::Held);
        network.aws.answer_next("UpdateItem", ALWAYS, answer.clone());
        world.deliver_one(event("payment.approved")).await.is("retried").says("claim the idempotency record");
        assert_eq!(world.downstream_calls(), (0, 0), "{answer:?}");
        network.aws.answer_no_more();
        world.redeliver().await[0].is("success");
    }
}

#[tokio::test]
async fn a_claim_that_was_made_without_dynamodbs_word_is_given_back() {
    for answer in successes_of_others() {
        let (world, network) = World::behind_proxies().await;
        world.given(Status::Hold, SeatState::Held);
        network.aws.answer_next("UpdateItem", 1, answer.clone().after_effect());
        world.deliver_one(event("payment.approved")).await.is("retried").says("claim the idempotency record");
        assert_eq!(world.downstream_calls(), (0, 0), "{answer:?}");
        world.redeliver().await[0].is("success");
    }
}

#[tokio::test]
async fn an_event_is_completed_only_on_the_word_of_dynamodb() {
    for answer in successes_of_others() {
        let (world, network) = World::behind_proxies().await;
        world.given(Status::Hold, SeatState::Held);
        network.aws.answer_next("SET #status = :completed", ALWAYS, answer.clone());
        world.deliver_one(event("payment.approved")).await.is("retried").says("complete the idempotency record");
        network.aws.answer_no_more();
        world.redeliver().await[0].is("success");
        let effects = world.stack.inventory.calls().iter().filter(|call| call.had_effect).count();
        assert_eq!((world.state().as_str(), effects), ("CONFIRMED, sold", 1), "{answer:?}");
    }
}

#[tokio::test]
async fn a_message_is_dead_lettered_only_on_the_word_of_sqs() {
    for answer in successes_of_others() {
        let (world, network) = World::behind_proxies().await;
        network.aws.answer_next("SendMessage", ALWAYS, answer.clone());
        world.deliver_one("junk".to_owned()).await.is("retried").because("malformed_body");
        assert_eq!(world.dead_letters.len(), 0, "{answer:?}");
        network.aws.answer_no_more();
        world.redeliver().await[0].is("rejected");
        assert_eq!(world.dead_letters.len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_refund_is_requested_only_on_the_word_of_the_bus() {
    let json =
        |body: &'static str| Foreign::new(StatusCode::OK, body).with("content-type", "application/x-amz-json-1.1");
    let others = [
        json(r#"{"FailedEntryCount": 0, "Entries": []}"#),
        json(r#"{"FailedEntryCount": 0, "Entries": [{}]}"#),
        json(r#"{"FailedEntryCount": 0, "Entries": [{"EventId": ""}]}"#),
        json(r#"{"FailedEntryCount": 0, "Entries": [{"EventId": "one"}, {"EventId": "two"}]}"#),
    ];
    for answer in successes_of_others().into_iter().chain(others) {
        let (world, network) = World::behind_proxies().await;
        world.given(Status::Expired, SeatState::Free);
        network.aws.answer_next("PutEvents", ALWAYS, answer.clone());
        world.deliver_one(event("payment.approved")).await.is("retried").says("publish the refund request");
        assert!(world.stack.aws.bus_entries().is_empty(), "{answer:?}");
        network.aws.answer_no_more();
        world.redeliver().await[0].is("late_approval");
        assert_eq!(world.stack.aws.bus_entries().len(), 1, "{answer:?}");
    }
}

#[tokio::test]
async fn a_function_starts_only_with_the_secret_that_secrets_manager_has() {
    for answer in successes_of_others() {
        let stack = Stack::start().await.expect("the stack starts");
        let aws = Proxy::start(Service::Aws, stack.aws.address(), 1).await.expect("there is a port");
        aws.answer_next("GetSecretValue", ALWAYS, answer.clone());
        let endpoint = format!("http://{}", aws.address());
        let changes =
            [("AWS_ENDPOINT_URL", endpoint.as_str()), ("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", "holdfast/test")];
        let world = World::on(stack, "payment-approved", &changes);
        let invocation = world.function.invoke(r#"{"Records": []}"#).await;
        let Err(FunctionError::Init(text)) = &invocation.result else { panic!("the start fails: {invocation:#?}") };
        assert!(text.contains("SECRET_NAME"), "{answer:?}: {text}");
    }
}

/// Neither the process nor a line of its log grew.
async fn stayed_small(world: &World, what: &str) {
    let invocation = world.function.invoke(r#"{"Records": []}"#).await;
    let peak = invocation.process.and_then(|process| Process(process).peak_kib());
    assert!(peak.is_none_or(|kib| kib < MOST_KIB), "{what}: {peak:?} KiB");
    let longest = world.function.all_logs().iter().map(String::len).max().unwrap_or_default();
    assert!(longest < LONGEST_LINE, "{what}: a line of {longest} bytes");
}

/// Ten events at a time, so that ten answers come at a time.
fn ten() -> impl Iterator<Item = Sent> {
    (0..10).map(|n| event_with("payment.approved", json!({"reservation_id": format!("rsv_{n}")})).into())
}

#[tokio::test]
async fn an_answer_of_dynamodb_without_end_is_retried_and_fills_neither_memory_nor_log() {
    for (what, answer) in floods() {
        let (world, network) = World::behind_proxies().await;
        network.aws.answer_next("UpdateItem", ALWAYS, answer);
        for ended in world.deliver(ten()).await {
            assert_eq!(ended.outcome, "retried", "{what}: {:#}", ended.line);
        }
        stayed_small(&world, what).await;
    }
}

#[tokio::test]
async fn an_answer_of_another_service_of_aws_without_end_is_retried_and_fills_neither_memory_nor_log() {
    for (what, answer) in floods() {
        let (world, network) = World::behind_proxies().await;
        world.given(Status::Expired, SeatState::Free);
        network.aws.answer_next("PutEvents", ALWAYS, answer.clone());
        network.aws.answer_next("SendMessage", ALWAYS, answer.clone());
        network.aws.answer_next("ChangeMessageVisibility", ALWAYS, answer);
        world.deliver_one(event("payment.approved")).await.is("retried");
        stayed_small(&world, what).await;
        // The dead letter that is sent at last does not repeat the flood either.
        network.aws.answer_no_more();
        network.aws.answer_next("PutEvents", ALWAYS, floods()[2].1.clone());
        let other = event_with("payment.approved", json!({"payment_intent_id": "pi_other"}));
        world.deliver([Sent::from(other).received(MAX_RECEIVES)]).await[0].is("exhausted");
        let reason = attribute(&world.only_dead_letter(), "error_message").len();
        assert!(reason <= 4_000, "{what}: a reason of {reason} bytes");
    }
}

#[tokio::test]
async fn an_answer_of_the_reservation_api_without_end_is_retried_and_fills_neither_memory_nor_log() {
    for (what, answer) in floods() {
        let (world, network) = World::behind_proxies().await;
        network.reservations.answer_next("/internal/reservations/", ALWAYS, answer);
        for ended in world.deliver(ten()).await {
            assert_eq!(ended.outcome, "retried", "{what}: {:#}", ended.line);
        }
        stayed_small(&world, what).await;
    }
}
