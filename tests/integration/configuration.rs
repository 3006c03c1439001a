//! What a function makes of its variables and its secret: it starts with all of them right, or says at once what is wrong.

use std::collections::BTreeMap;

use local_stack::{
    aws::Failure,
    inventory::Standing,
    lambda::{FunctionError, Invocation},
    reservations::Status,
    scenario::FUNCTIONS,
};
use serde_json::{Value, json};

use crate::harness::{Sent, World, binaries, event, log_lines};

const SECRET: &str = "holdfast/production";
const TOKEN: &str = "t0ken-that-nobody-may-read";

/// The text of a start that failed, which must be all that the process wrote, in one line.
#[track_caller]
fn start_error(invocation: &Invocation) -> String {
    let text = match &invocation.result {
        Err(FunctionError::Init(text)) => text,
        other => panic!("the start fails, not {other:?}"),
    };
    assert!(text.starts_with("exit status: 1"), "the process ended by itself: {text}");
    assert_eq!(invocation.logs.len(), 1, "one error and nothing else: {:#?}", invocation.logs);
    let line: Value = serde_json::from_str(&invocation.logs[0]).expect("the line is JSON");
    assert_eq!((&line["level"], &line["msg"]), (&json!("error"), &json!("the function can't start")));
    let error = line["error"].as_str().expect("the error has a text").to_owned();
    assert!(text.contains(&invocation.logs[0]), "whoever invokes sees the error too: {text}");
    error
}

/// Invokes a function of this configuration, which must not start.
async fn start_error_of(world: &World) -> String {
    let invocation = world.function.invoke(r#"{"Records": []}"#).await;
    assert_eq!(world.downstream_calls(), (0, 0), "nobody is called before the configuration is right");
    start_error(&invocation)
}

#[tokio::test]
async fn a_function_without_any_variable_names_all_that_it_needs_in_one_error() {
    for function in FUNCTIONS {
        let world = World::of(function).await;
        let binary = binaries()[function].clone();
        let bare = world.stack.deploy_with(function, binary, 1, BTreeMap::new()).expect("the binary is there");
        let error = start_error(&bare.invoke(r#"{"Records": []}"#).await);
        for name in ["IDEMPOTENCY_TABLE", "INVENTORY_GRPC_ADDR", "RESERVATION_API_BASE"] {
            assert_eq!(error.matches(name).count(), 1, "{function}: {name} in: {error}");
        }
        assert_eq!(error.matches("is required and not set").count(), 3, "{function}: {error}");
        assert_eq!(world.stack.aws.requests(), [], "{function}: AWS was not asked for anything");
    }
}

#[tokio::test]
async fn every_bad_variable_is_named_in_one_error() {
    let bad = [
        ("IDEMPOTENCY_TABLE", ""),
        ("INVENTORY_GRPC_ADDR", "inventory"),
        ("RESERVATION_API_BASE", "reservation-api"),
        ("DLQ_URL", "my-dlq"),
        ("MAX_RETRIES", "0"),
        ("BACKOFF_BASE_MS", "many"),
        ("BACKOFF_CAP_MS", "10"),
        ("INVENTORY_TIMEOUT_MS", "-1"),
        ("RESERVATION_TIMEOUT_MS", "1.5"),
        ("WORKER_CONCURRENCY", "99999999999999999999"),
        ("IDEMPOTENCY_TTL_DAYS", "0"),
        ("USE_SECRET_MANAGER", "yes"),
        ("LOG_LEVEL", "loud"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
    ];
    let world = World::with("payment-approved", &bad).await;
    let error = start_error_of(&world).await;
    for (name, _) in bad {
        assert!(error.contains(&format!("{name} ")), "{name} is missing in: {error}");
    }
    assert!(!error.contains("EVENT_BUS_NAME"), "what is right is not named: {error}");
}

#[tokio::test]
async fn an_unknown_export_protocol_stops_the_start() {
    let world = World::with("payment-failed", &[("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")]).await;
    let error = start_error_of(&world).await;
    assert!(error.contains("OTEL_EXPORTER_OTLP_PROTOCOL must be grpc or http/protobuf"), "{error}");
}

#[tokio::test]
async fn messages_of_a_function_that_cannot_start_stay_in_their_queue() {
    let world = World::with("payment-failed", &[("IDEMPOTENCY_TABLE", "")]).await;
    world.given(Status::Hold, Standing::Held);
    world.send(event("payment.failed"));
    let mapping = world.stack.map(world.queue.clone(), world.function.clone());
    let delivery = mapping.deliver_once().await.expect("a message is visible");
    assert!(start_error(&delivery.invocation).contains("IDEMPOTENCY_TABLE"));
    assert_eq!((world.queue.len(), world.state().as_str()), (1, "HOLD, held"));
}

/// The variables of a function that takes everything that it can from its secret.
const FROM_SECRET: [(&str, &str); 4] = [
    ("USE_SECRET_MANAGER", "true"),
    ("SECRET_NAME", SECRET),
    ("INVENTORY_GRPC_ADDR", ""),
    ("RESERVATION_API_BASE", ""),
];

#[track_caller]
fn nothing_shows(world: &World, secrets: &[&str]) {
    for line in world.function.all_logs() {
        for secret in secrets {
            assert!(!line.contains(secret), "{secret:?} shows in: {line}");
        }
    }
}

#[tokio::test]
async fn addresses_and_token_come_from_the_secret() {
    let world = World::with("payment-failed", &FROM_SECRET).await;
    let (inventory, api) = (world.stack.inventory_address, world.stack.reservation_address);
    let secret = json!({
        "inventory_grpc_addr": inventory.to_string(),
        "reservation_api_base": format!("http://{api}"),
        "reservation_api_token": TOKEN,
        "of_another_team": "hunter2",
    });
    world.stack.aws.put_secret(SECRET, &secret.to_string());
    world.stack.reservations.require_token(TOKEN);
    world.given(Status::Hold, Standing::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    assert_eq!(world.state(), "CANCELLED, free");
    let sent: Vec<Option<String>> =
        world.stack.reservations.calls().into_iter().map(|call| call.authorization).collect();
    assert_eq!(sent, [Some(format!("Bearer {TOKEN}"))]);
    let asked = world.stack.aws.requests();
    let asked = asked.iter().filter(|request| request.operation() == "GetSecretValue").count();
    assert_eq!(asked, 1, "the secret is read once, at the start");
    nothing_shows(&world, &[TOKEN, "hunter2"]);
}

#[tokio::test]
async fn a_token_does_not_show_when_the_api_turns_it_away() {
    let world = World::with(
        "payment-failed",
        &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET), ("LOG_LEVEL", "debug")],
    )
    .await;
    let secret = json!({"reservation_api_token": TOKEN});
    world.stack.aws.put_secret(SECRET, &secret.to_string());
    world.stack.reservations.require_token("another one");
    world.given(Status::Hold, Standing::Held);
    world.deliver_one(event("payment.failed")).await.is("retried").says("401");
    assert_eq!(world.state(), "HOLD, held");
    nothing_shows(&world, &[TOKEN]);
}

#[tokio::test]
async fn the_environment_wins_over_the_secret() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
    // Nothing listens on the discard port, so a call there would be a retry.
    let secret = json!({"inventory_grpc_addr": "127.0.0.1:9", "reservation_api_base": "http://127.0.0.1:9"});
    world.stack.aws.put_secret(SECRET, &secret.to_string());
    world.given(Status::Hold, Standing::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    assert_eq!(world.state(), "CANCELLED, free");
}

#[tokio::test]
async fn a_secret_is_left_alone_unless_it_is_asked_for() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "false"), ("SECRET_NAME", SECRET)]).await;
    world.given(Status::Hold, Standing::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    let asked = world.stack.aws.requests();
    assert!(!asked.iter().any(|request| request.target.starts_with("secretsmanager")), "{asked:?}");
}

#[tokio::test]
async fn a_secret_manager_without_a_secrets_name_stops_the_start() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true")]).await;
    let error = start_error_of(&world).await;
    assert!(error.contains("SECRET_NAME is required and not set"), "{error}");
}

#[tokio::test]
async fn an_unusable_secret_is_one_error_that_names_the_variable() {
    let cases = [
        ("missing", None),
        ("no JSON", Some("hunter2 is no JSON".to_owned())),
        ("empty", Some(String::new())),
        ("truncated", Some(format!(r#"{{"reservation_api_token": "{TOKEN}"#))),
        ("an array", Some(json!([TOKEN]).to_string())),
        ("a text", Some(json!(TOKEN).to_string())),
    ];
    for (case, secret) in cases {
        let world = World::with("payment-failed", &FROM_SECRET).await;
        if let Some(secret) = &secret {
            world.stack.aws.put_secret(SECRET, secret);
        }
        let error = start_error_of(&world).await;
        assert!(error.contains("SECRET_NAME "), "{case}: {error}");
        // Whether an unreadable secret holds the addresses nobody knows, so they are not called missing.
        assert!(!error.contains("INVENTORY_GRPC_ADDR"), "{case}: {error}");
        assert!(!error.contains("RESERVATION_API_BASE"), "{case}: {error}");
        nothing_shows(&world, &[TOKEN, "hunter2"]);
    }
}

#[tokio::test]
async fn an_unusable_secret_does_not_hide_the_other_faults() {
    let world = World::with("payment-failed", &[FROM_SECRET.as_slice(), &[("MAX_RETRIES", "none")]].concat()).await;
    let error = start_error_of(&world).await;
    for name in ["SECRET_NAME ", "MAX_RETRIES "] {
        assert!(error.contains(name), "{name} is missing in: {error}");
    }
}

#[tokio::test]
async fn a_token_that_no_header_can_carry_stops_the_start_and_does_not_show() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
    let secret = json!({"reservation_api_token": format!("{TOKEN}\r\nX-Admin: true")});
    world.stack.aws.put_secret(SECRET, &secret.to_string());
    let error = start_error_of(&world).await;
    assert!(error.contains("SECRET_NAME holds a reservation_api_token that"), "{error}");
    nothing_shows(&world, &[TOKEN, "X-Admin"]);
}

#[tokio::test]
async fn a_secret_manager_that_fails_stops_the_start_once_and_not_for_ever() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
    world.stack.aws.put_secret(SECRET, &json!({"reservation_api_token": TOKEN}).to_string());
    // The SDK tries twice, and both tries have to fail.
    for _ in 0..2 {
        let failure =
            Failure::Answer { status: 500, kind: "InternalServiceError".to_owned(), message: "on demand".to_owned() };
        world.stack.aws.fail_next("secretsmanager", failure);
    }
    let error = start_error_of(&world).await;
    assert!(error.contains("SECRET_NAME could not be read"), "{error}");
    world.given(Status::Hold, Standing::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
}

#[tokio::test]
async fn a_log_level_suppresses_what_is_below_it_and_keeps_the_metrics() {
    for (level, kept) in
        [("error", ["error"].as_slice()), ("warn", &["error", "warn"]), ("info", &["error", "warn", "info"])]
    {
        let world = World::with("payment-failed", &[("LOG_LEVEL", level)]).await;
        world.given(Status::Hold, Standing::Held);
        // One record ends at each level: a success, a rejection, and a reservation that nobody knows yet.
        let mut unknown = event("payment.failed");
        unknown["detail"]["reservation_id"] = json!("rsv_of_nobody");
        for message in [Sent::from(event("payment.failed")), Sent::from("junk".to_owned()), Sent::from(unknown)] {
            world.send(message);
        }
        let mapping = world.stack.map(world.queue.clone(), world.function.clone());
        let delivery = mapping.deliver_once().await.expect("the messages are visible");
        let lines = log_lines(&delivery.invocation.logs);
        for (written, outcome) in [("info", "success"), ("warn", "retried"), ("error", "rejected")] {
            let records = lines.iter().filter(|line| line["level"] == written && line["outcome"] == outcome).count();
            assert_eq!(records, usize::from(kept.contains(&written)), "{level}: {outcome} in {lines:#?}");
        }
        let below = lines.iter().filter_map(|line| line["level"].as_str()).find(|written| !kept.contains(written));
        assert_eq!(below, None, "{level}: {lines:#?}");
        let counted = lines.iter().filter(|line| line["worker_events_total"] == 1).count();
        assert_eq!(counted, 3, "{level}: metrics are no log lines");
    }
}
