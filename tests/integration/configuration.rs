//! What a function makes of its variables and its secret: it starts with all of them right, or says at once what is wrong.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    http::{Method, StatusCode},
};
use local_stack::{
    aws::Injected,
    catalogue::QUEUED,
    inventory::SeatState,
    lambda::{FunctionError, Invocation},
    reservations::{Scripted, Status},
    stack::{Stack, TABLE},
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
};

use crate::harness::{Sent, World, binaries, event, event_with, log_lines};

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
    for function in QUEUED {
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
        ("METRICS_NAMESPACE", "AWS/Lambda"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
    ];
    let world = World::with("payment-approved", &bad).await;
    let error = start_error_of(&world).await;
    for (name, _) in bad {
        assert!(error.contains(&format!("{name} ")), "{name} is missing in: {error}");
    }
    assert!(!error.contains("EVENT_BUS_NAME"), "what is right is not named: {error}");
}

/// A start of each function of the bookings with these variables and no others of a database, which must fail.
async fn start_errors_at_a_database(variables: &[(&str, &str)]) -> Vec<(&'static str, String)> {
    let stack = Stack::start().await.expect("the stack starts");
    let mut found = Vec::new();
    for function in [booking_created::NAME, booking_cancelled::NAME, booking_migrate::NAME] {
        let mut environment = stack.environment(function);
        environment.extend(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let binary = binaries()[function].clone();
        let deployed = stack.deploy_with(function, binary, 1, environment).expect("the binary is there");
        found.push((function, start_error(&deployed.invoke("{}").await)));
    }
    found
}

#[tokio::test]
async fn every_bad_variable_of_a_database_is_named_in_one_error() {
    let is_no_number =
        |name: &str, text: &str| format!("{name} must be a whole number of at least 1 and in range, not {text:?}");
    let bad = [
        ("DB_HOST", "", "DB_HOST is required and not set".to_owned()),
        ("DB_PORT", "65536", is_no_number("DB_PORT", "65536")),
        ("DB_CONNECT_TIMEOUT_MS", "0", is_no_number("DB_CONNECT_TIMEOUT_MS", "0")),
        ("DB_TRANSACTION_TIMEOUT_MS", "1.5", is_no_number("DB_TRANSACTION_TIMEOUT_MS", "1.5")),
        ("DB_TLS", "prefer", "DB_TLS must be require or disable, not \"prefer\"".to_owned()),
        ("DB_CA_PEM", TOKEN, "DB_CA_PEM must be certificates in PEM, or the path of a file with such".to_owned()),
        ("DB_USER", "", "DB_USER is required and not set".to_owned()),
        ("DB_AUTH", "kerberos", "DB_AUTH must be password or iam, not \"kerberos\"".to_owned()),
        ("DB_STATEMENTS", "named", "DB_STATEMENTS must be unnamed or prepared, not \"named\"".to_owned()),
    ];
    let variables = bad.each_ref().map(|(name, value, _)| (*name, *value));
    for (function, error) in start_errors_at_a_database(&variables).await {
        for (name, _, fault) in &bad {
            assert_eq!(error.matches(&format!("{name} ")).count(), 1, "{function}: {name} in: {error}");
            assert!(error.contains(fault), "{function}: {fault} is missing in: {error}");
        }
        assert_eq!(error.matches("DB_").count(), bad.len(), "{function}: what is right is not named: {error}");
        assert!(!error.contains(TOKEN), "{function}: what may be a key by mistake does not show: {error}");
    }
}

#[tokio::test]
async fn a_database_elsewhere_is_spoken_to_in_tls_and_with_a_password_or_not_at_all() {
    let variables = [("DB_HOST", "db.example.com"), ("DB_USER", "holdfast_app"), ("DB_TLS", "disable")];
    for (function, error) in start_errors_at_a_database(&variables).await {
        let faults =
            ["DB_TLS may be disable only where DB_HOST is this machine", "DB_PASSWORD is required and not set"];
        assert!(faults.iter().all(|fault| error.contains(fault)), "{function}: {error}");
        assert_eq!(error.matches("DB_").count(), 3, "{function}: what is right is not named: {error}");
    }
}

#[tokio::test]
async fn a_way_to_export_spans_that_the_function_does_not_have_stops_the_start_and_says_what_to_set() {
    const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    let grpc_port = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317/");
    let pigeon = (PROTOCOL, "carrier-pigeon");
    for (changes, faults) in [
        (vec![pigeon], vec!["OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not \"carrier-pigeon\""]),
        (
            vec![(PROTOCOL, "grpc")],
            vec!["must be http/protobuf, not grpc: no function carries a gRPC exporter", "4318"],
        ),
        (vec![grpc_port], vec!["OTEL_EXPORTER_OTLP_ENDPOINT has port 4317", "4318", "set OTEL_EXPORTER_OTLP_PROTOCOL"]),
    ] {
        let world = World::with("payment-failed", &changes).await;
        let error = start_error_of(&world).await;
        let error = error.replace("\\\"", "\"");
        assert!(faults.iter().all(|fault| error.contains(fault)), "{changes:?}: {error}");
    }
    // Whoever says that the collector takes HTTP there is believed.
    let world = World::with("payment-failed", &[grpc_port, (PROTOCOL, "http/protobuf")]).await;
    world.warm_up().await;
}

#[tokio::test]
async fn messages_of_a_function_that_cannot_start_stay_in_their_queue() {
    let world = World::with("payment-failed", &[("IDEMPOTENCY_TABLE", "")]).await;
    world.given(Status::Hold, SeatState::Held);
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
    world.given(Status::Hold, SeatState::Held);
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
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("retried").says("401");
    assert_eq!(world.state(), "HOLD, held");
    nothing_shows(&world, &[TOKEN]);
}

#[tokio::test]
async fn a_token_that_was_replaced_in_the_secret_is_looked_up_once_and_used_from_the_next_try_on() {
    for denied in [None, Some(403)] {
        let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
        let put = |token: &str| {
            world.stack.aws.put_secret(SECRET, &json!({"reservation_api_token": token}).to_string());
            world.stack.reservations.require_token(token);
        };
        put("the-former-one");
        world.warm_up().await;
        put(TOKEN);
        world.stack.aws.clear_requests();
        let ids: Vec<String> = (0..10).map(|number| format!("rsv_{number}")).collect();
        for id in &ids {
            world.seed(id, &[&format!("seat of {id}")], Status::Hold, SeatState::Held, None);
            if let Some(status) = denied {
                let answer = Scripted::Respond { status, headers: Vec::new(), body: String::new() };
                world.stack.reservations.answer_next(id, Method::PATCH, answer);
            }
        }
        let of = |id: &String| event_with("payment.failed", json!({"reservation_id": id, "seat_ids": null, "qty": 1}));
        let ended = world.deliver(ids.iter().map(of)).await;
        // A record whose turn comes after the look is not refused at all.
        for ended in ended.iter().filter(|ended| ended.outcome != "success") {
            ended.is("retried").says("the secret");
        }
        let renewed =
            ended.iter().filter(|ended| ended.line["error"].as_str().unwrap_or_default().contains("next try carries"));
        assert_eq!(renewed.count(), 1, "one of them asked: {ended:#?}");
        let asked = world.stack.aws.requests();
        let asked = asked.iter().filter(|request| request.operation() == "GetSecretValue").count();
        assert_eq!(asked, 1, "ten refusals at once are one question");
        for ended in world.redeliver().await {
            ended.is("success");
        }
        nothing_shows(&world, &[TOKEN, "the-former-one"]);
    }
}

#[tokio::test]
async fn a_refused_token_that_stands_in_the_secret_still_is_said_so() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
    world.stack.aws.put_secret(SECRET, &json!({"reservation_api_token": TOKEN}).to_string());
    world.stack.reservations.require_token("another one");
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("retried").says("the same reservation_api_token still");
    world.redeliver().await[0].is("retried").says("less than a minute ago");
    nothing_shows(&world, &[TOKEN]);
}

#[tokio::test]
async fn the_environment_wins_over_the_secret() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
    // Nothing listens on the discard port, so a call there would be a retry.
    let secret = json!({"inventory_grpc_addr": "127.0.0.1:9", "reservation_api_base": "http://127.0.0.1:9"});
    world.stack.aws.put_secret(SECRET, &secret.to_string());
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    assert_eq!(world.state(), "CANCELLED, free");
}

#[tokio::test]
async fn a_secret_is_left_alone_unless_it_is_asked_for() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "false"), ("SECRET_NAME", SECRET)]).await;
    world.given(Status::Hold, SeatState::Held);
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
        ("no JSON", Some("hunter2 is not JSON".to_owned())),
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
            Injected::Answer { status: 500, kind: "InternalServiceError".to_owned(), message: "on demand".to_owned() };
        world.stack.aws.fail_next("secretsmanager", failure);
    }
    let error = start_error_of(&world).await;
    assert!(error.contains("SECRET_NAME could not be read"), "{error}");
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
}

#[tokio::test]
async fn a_log_level_suppresses_what_is_below_it_and_keeps_the_metrics() {
    for (level, kept) in
        [("error", ["error"].as_slice()), ("warn", &["error", "warn"]), ("info", &["error", "warn", "info"])]
    {
        let world = World::with("payment-failed", &[("LOG_LEVEL", level)]).await;
        world.given(Status::Hold, SeatState::Held);
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

/// The log lines of a start that point at a variable.
fn pointers(world: &World, level: &str) -> Vec<Value> {
    let mut lines = log_lines(&world.function.all_logs());
    lines.retain(|line| line["level"] == level && line.get("outcome").is_none());
    lines
}

/// A function whose looks at its start were answered in time. A machine that stands still for two seconds makes a start say,
/// as it should, that something could not be looked at.
async fn answered_in_time(function: &str) -> World {
    const STARTS: usize = 5;

    for _ in 0..STARTS {
        let world = World::of(function).await;
        world.warm_up().await;
        let is_late = |line: &Value| line["error"].as_str().is_some_and(|error| error.contains("timed out"));
        if !pointers(&world, "warn").iter().any(is_late) {
            return world;
        }
    }
    panic!("{function}: its looks were answered too late {STARTS} times");
}

#[tokio::test]
async fn a_start_with_everything_in_place_says_nothing_and_changes_nothing() {
    for function in QUEUED {
        let world = answered_in_time(function).await;
        for level in ["warn", "error"] {
            assert_eq!(pointers(&world, level), [] as [Value; 0], "{function}");
        }
        let asked: Vec<String> = world.stack.aws.requests().into_iter().map(|request| request.target).collect();
        assert_eq!(asked, ["DynamoDB_20120810.UpdateItem"], "{function}: a permission that a claim needs anyway");
        let found = world.stack.aws.dynamodb("Scan", &json!({"TableName": TABLE})).await.expect("DynamoDB answers");
        assert_eq!(found["Count"], 0, "{function}: {found}");
        assert_eq!(world.downstream_calls(), (0, 0), "{function}");

        world.function.invoke(r#"{"Records": []}"#).await;
        assert_eq!(world.dynamodb_requests(), 1, "{function}: once a process, not once an invocation");
    }
}

/// The template lets each function claim under its own event type alone.
#[tokio::test]
async fn every_key_begins_with_the_function_s_own_event_type_that_of_the_look_too() {
    for function in QUEUED {
        let event_type = function.replacen('-', ".", 1);
        let world = World::of(function).await;
        world.given(Status::Hold, SeatState::Held);
        world.deliver_one(event(&event_type)).await.is("success");
        let requests = world.stack.aws.requests();
        let keys: Vec<&str> =
            requests.iter().filter_map(|request| request.body.pointer("/Key/id/S")?.as_str()).collect();
        assert_eq!(keys.len(), 3, "{function}: the look, the claim, the completion: {keys:?}");
        assert!(keys.iter().all(|key| key.starts_with(&format!("{event_type}#"))), "{function}: {keys:?}");
    }
}

#[tokio::test]
async fn the_look_at_the_reservation_api_shows_it_no_token() {
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET)]).await;
    world.stack.aws.put_secret(SECRET, &json!({"reservation_api_token": TOKEN}).to_string());
    world.stack.reservations.require_token(TOKEN);
    world.warm_up().await;
    let probes = world.stack.reservations.probes();
    assert_eq!(probes.len(), 1, "{probes:?}");
    let probe = &probes[0];
    assert_eq!((&probe.method, probe.target.as_str(), probe.body.as_str()), (&Method::HEAD, "/", ""));
    assert_eq!((&probe.authorization, probe.answered), (&None, Some(401)));
    assert_eq!(pointers(&world, "error"), [] as [Value; 0], "a refusal is an answer");
}

#[tokio::test]
async fn a_table_that_is_not_there_stops_the_start_and_the_messages_stay() {
    let world = World::with("payment-failed", &[("IDEMPOTENCY_TABLE", "table-of-nobody")]).await;
    world.given(Status::Hold, SeatState::Held);
    world.send(event("payment.failed"));
    let mapping = world.stack.map(world.queue.clone(), world.function.clone());
    let delivery = mapping.deliver_once().await.expect("a message is visible");
    let error = start_error(&delivery.invocation);
    assert!(error.contains(r#"IDEMPOTENCY_TABLE names a table that is not there, "table-of-nobody""#), "{error}");
    assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0));
    assert_eq!((world.downstream_calls(), world.state().as_str()), ((0, 0), "HOLD, held"));
}

#[tokio::test]
async fn a_table_that_no_claim_could_be_written_to_stops_the_start() {
    let other_key = json!({
        "TableName": "of-another-team",
        "AttributeDefinitions": [{"AttributeName": "pk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}],
        "BillingMode": "PAY_PER_REQUEST",
    });
    let world = World::with("payment-failed", &[("IDEMPOTENCY_TABLE", "of-another-team")]).await;
    world.stack.aws.dynamodb("CreateTable", &other_key).await.expect("the table is made");
    let error = start_error_of(&world).await;
    assert!(error.contains("IDEMPOTENCY_TABLE names a table that does not fit"), "{error}");

    let world = World::with("payment-failed", &[("IDEMPOTENCY_TABLE", "no name")]).await;
    let error = start_error_of(&world).await;
    assert!(error.contains("IDEMPOTENCY_TABLE names a table that does not fit"), "{error}");

    let world = World::of("payment-failed").await;
    let (kind, message) =
        ("AccessDeniedException".to_owned(), "not authorized to perform: dynamodb:UpdateItem".to_owned());
    world.stack.aws.fail_next("DynamoDB", Injected::Answer { status: 400, kind, message });
    let error = start_error_of(&world).await;
    assert!(error.contains("IDEMPOTENCY_TABLE names a table that this function may not write to"), "{error}");
}

#[tokio::test]
async fn a_table_of_which_nothing_is_known_stops_nothing() {
    let answer =
        |status, kind: &str| Injected::Answer { status, kind: kind.to_owned(), message: "on demand".to_owned() };
    for failure in [
        answer(400, "ProvisionedThroughputExceededException"),
        answer(400, "UnrecognizedClientException"),
        answer(500, "InternalServerError"),
        Injected::Silence,
    ] {
        let world = World::of("payment-failed").await;
        // The SDK tries twice, and both tries have to fail.
        for _ in 0..2 {
            world.stack.aws.fail_next("DynamoDB", failure.clone());
        }
        world.warm_up().await;
        let warnings = pointers(&world, "warn");
        assert_eq!(warnings.len(), 1, "{failure:?}: {warnings:#?}");
        assert!(
            warnings[0]["msg"].as_str().is_some_and(|text| text.starts_with("IDEMPOTENCY_TABLE ")),
            "{warnings:#?}"
        );
        assert!(warnings[0]["error"].is_string(), "{warnings:#?}");
    }
}

/// An address that nobody else gets and where nothing answers until [`TcpSocket::listen`].
fn dead_address() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a loopback port is free");
    let address = socket.local_addr().expect("a bound socket has an address");
    (socket, address)
}

#[track_caller]
fn points_at(line: &Value, variable: &str, address: &str, because: &str) {
    let (text, cause) = (line["msg"].as_str().unwrap_or_default(), line["error"].as_str().unwrap_or_default());
    assert!(text.starts_with(&format!("{variable} names {address}")), "{line:#}");
    assert!(text.ends_with("what needs it is tried again until it can"), "{line:#}");
    assert!(cause.contains(because), "the cause stands beside it: {line:#}");
    assert_eq!(line["event_type"], "payment.failed");
}

#[tokio::test]
async fn an_inventory_that_is_down_is_named_at_the_start_and_costs_no_record() {
    let (socket, address) = dead_address();
    let world = World::with("payment-failed", &[("INVENTORY_GRPC_ADDR", &address.to_string())]).await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("retried");
    let lines = pointers(&world, "error");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    points_at(&lines[0], "INVENTORY_GRPC_ADDR", &format!("http://{address}/"), "refused");
    assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0));

    let inventory = world.stack.inventory.clone();
    let listener = socket.listen(16).expect("the service is back");
    let server = tokio::spawn(async move { drop(inventory.serve(listener).await) });
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CANCELLED, free");
    server.abort();
}

#[tokio::test]
async fn a_reservation_api_that_is_down_is_named_at_the_start_and_costs_no_record() {
    let (socket, address) = dead_address();
    let world = World::with("payment-failed", &[("RESERVATION_API_BASE", &format!("http://{address}"))]).await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("retried");
    let lines = pointers(&world, "error");
    assert_eq!(lines.len(), 1, "{lines:#?}");
    points_at(&lines[0], "RESERVATION_API_BASE", &format!("http://{address}/"), "refused");
    assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0));
    assert_eq!((world.downstream_calls(), world.state().as_str()), ((0, 0), "HOLD, held"));

    let reservations = world.stack.reservations.clone();
    let listener = socket.listen(16).expect("the API is back");
    let server = tokio::spawn(async move { drop(reservations.serve(listener).await) });
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CANCELLED, free");
    server.abort();
}

#[tokio::test]
async fn a_proxy_that_refuses_the_look_itself_is_named_at_the_start() {
    for status in [400, 421, 422, 426, 431] {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
        let base = format!("http://{}/", listener.local_addr().unwrap());
        let page = (StatusCode::from_u16(status).unwrap(), "The plain HTTP request was sent to HTTPS port");
        let proxy = Router::new().fallback(async move || page);
        let server = tokio::spawn(async move { axum::serve(listener, proxy).await });
        let world = World::with("payment-failed", &[("RESERVATION_API_BASE", &base)]).await;
        world.warm_up().await;
        let lines = pointers(&world, "error");
        assert_eq!(lines.len(), 1, "{status}: {lines:#?}");
        points_at(&lines[0], "RESERVATION_API_BASE", &base, &status.to_string());
        server.abort();
    }
}

#[tokio::test]
async fn an_api_that_stays_silent_does_not_use_up_the_time_to_start() {
    let (socket, address) = dead_address();
    let base = format!("http://{address}/");
    let _nobody_accepts = socket.listen(16).expect("connections queue up");
    // With the secret before it, the longer of the two would use up the ten seconds that Lambda gives a start.
    for (timeout_ms, cause) in [("300", "timed out"), ("8000", "no answer within 5 s")] {
        let changes = [("RESERVATION_API_BASE", base.as_str()), ("RESERVATION_TIMEOUT_MS", timeout_ms)];
        let world = World::with("payment-failed", &changes).await;
        world.warm_up().await;
        let lines = pointers(&world, "error");
        assert_eq!(lines.len(), 1, "{lines:#?}");
        points_at(&lines[0], "RESERVATION_API_BASE", &base, cause);
    }
}

#[tokio::test]
async fn each_service_that_is_down_has_a_line_of_its_own() {
    let ((_api, api), (_inventory, inventory)) = (dead_address(), dead_address());
    let changes = [("RESERVATION_API_BASE", format!("http://{api}/")), ("INVENTORY_GRPC_ADDR", inventory.to_string())];
    let world = World::with("payment-failed", &changes.each_ref().map(|(name, value)| (*name, value.as_str()))).await;
    world.warm_up().await;
    let lines = pointers(&world, "error");
    assert_eq!(lines.len(), 2, "{lines:#?}");
    points_at(&lines[0], "RESERVATION_API_BASE", &format!("http://{api}/"), "refused");
    points_at(&lines[1], "INVENTORY_GRPC_ADDR", &format!("http://{inventory}/"), "refused");
}

/// An address that leads to another one, and how many connections came by it.
async fn counted(target: SocketAddr) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let address = listener.local_addr().expect("a bound listener has an address");
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            counter.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut service = TcpStream::connect(target).await?;
                copy_bidirectional(&mut caller, &mut service).await
            });
        }
    });
    (address, connections)
}

#[tokio::test]
async fn the_first_record_finds_the_connections_that_the_start_opened() {
    let stack = Stack::start().await.expect("the stack starts");
    let (api, to_api) = counted(stack.reservation_address).await;
    let (inventory, to_inventory) = counted(stack.inventory_address).await;
    let changes = [("RESERVATION_API_BASE", format!("http://{api}")), ("INVENTORY_GRPC_ADDR", inventory.to_string())];
    let changes = changes.each_ref().map(|(name, value)| (*name, value.as_str()));
    let world = World::on(stack, "payment-failed", &changes);
    let connections = || (to_api.load(Ordering::SeqCst), to_inventory.load(Ordering::SeqCst));
    world.warm_up().await;
    assert_eq!(connections(), (1, 1), "the start connects to both");
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    assert_eq!((world.downstream_calls(), connections()), ((1, 1), (1, 1)), "no call had to connect");
}
