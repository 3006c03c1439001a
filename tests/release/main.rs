//! What the optimiser and the profile could change: the functions as a deployment compiles them, through the Runtime API.
//!
//! They are built by the profile `release-check`, which is `release` without the linking across crates: that takes most of a
//! minute for each function and changes nothing that is asked here. The example that panics is linked as a deployment is.
//!
//! All dependencies are compiled twice for that. So it is done where the ring `release` is required, as in CI; elsewhere the
//! same tests run on the functions as the other tests have them, built for debugging.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::OnceLock,
};

use axum::{body::Bytes, http::Request};
use local_stack::{
    build::{Binaries, by_profile, example, functions, workspace},
    catalogue::{NAMES, SETTLING},
    http_event::HttpEvent,
    inventory::SeatState,
    lambda::{Function, FunctionError},
    queue::Message,
    reservations::Status,
    ring::Ring,
    scenario::Given,
    stack::Stack,
};
use serde_json::{Value, json};
use shared::settlement::Outcome;

/// The functions, and the examples that panic, by name.
fn binaries() -> &'static Binaries {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    BUILT.get_or_init(|| {
        if Ring::Release.is_required() {
            return optimised();
        }
        let examples = ["http", "panics"].map(|name| (name.to_owned(), example(name).expect("the example builds")));
        functions().expect("the functions build").clone().into_iter().chain(examples).collect()
    })
}

fn optimised() -> Binaries {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("release-check");
    let built = [("release-check", &NAMES[..], &["http"][..]), ("release", &[], &["panics"])];
    built
        .into_iter()
        .flat_map(|(profile, functions, examples)| {
            by_profile(profile, &target, functions, examples).expect("the release build works")
        })
        .collect()
}

fn function(stack: &Stack, name: &str, changes: &[(&str, &str)]) -> Function {
    let mut environment = stack.environment(name);
    environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    stack.deploy_with(name, binaries()[name].clone(), 1, environment).expect("the binary is there")
}

#[tokio::test]
async fn a_panic_fails_its_record_alone_and_the_process_goes_on() {
    let stack = Stack::start().await.unwrap();
    let function = function(&stack, "panics", &[]);
    let queue = stack.queue("panics");
    let bodies = ["a", "panic in decode", "b", "panic in process", "panic when answered"];
    let ids = bodies.map(|body| queue.send(Message::new(body)).unwrap());
    let delivery = stack.map(queue.clone(), function.clone()).deliver_once().await.unwrap();
    let kept: Vec<&str> =
        ids.iter().zip(bodies).filter(|(id, _)| delivery.verdict.keeps(id)).map(|(_, body)| body).collect();
    assert_eq!(kept, ["panic in decode", "panic in process"], "{:#?}", delivery.invocation.logs);
    let panics = delivery.invocation.logs.iter().filter(|line| line.contains(r#""msg":"the code panicked""#)).count();
    assert_eq!(panics, 3, "each panic is a line of the log: {:#?}", delivery.invocation.logs);
    let own =
        delivery.invocation.logs.iter().filter(|line| line.contains("a line of the function's own crate")).count();
    assert_eq!(own, 4, "what was decoded was worked, and says so: {:#?}", delivery.invocation.logs);

    queue.send(Message::new("d")).unwrap();
    let delivery = stack.map(queue, function).deliver_once().await.unwrap();
    assert!(!delivery.invocation.cold, "the same process takes the next batch");
}

#[tokio::test]
async fn a_panic_is_answered_and_the_process_takes_the_next_request() {
    let stack = Stack::start().await.unwrap();
    let function = function(&stack, "http", &[]);
    for (path, status) in [("/panic", 500), ("/binary", 200)] {
        let request = Request::get(path).header("host", "api.example").body(Bytes::new()).unwrap();
        let event = HttpEvent::on("ANY /{proxy+}", path).of(&request);
        let invocation = function.invoke(event.to_string()).await;
        let answer: Value = serde_json::from_slice(&invocation.result.expect("no invocation fails")).unwrap();
        assert_eq!((&answer["statusCode"], invocation.cold), (&json!(status), status == 500), "{:#?}", invocation.logs);
        let panics = invocation.logs.iter().filter(|line| line.contains(r#""msg":"the code panicked""#)).count();
        assert_eq!(panics, usize::from(status == 500), "{:#?}", invocation.logs);
        let line = invocation.logs.iter().any(|line| line.contains(&format!("request answered: {status}")));
        assert!(line, "{:#?}", invocation.logs);
    }
}

#[tokio::test]
async fn every_line_is_json_with_the_documented_fields() {
    const FIELDS: [&str; 17] = [
        "ts",
        "level",
        "msg",
        "event_type",
        "reservation_id",
        "event_id",
        "message_id",
        "trace_id",
        "attempt",
        "outcome",
        "function_request_id",
        "cold_start",
        "latency_ms",
        "error",
        "error_code",
        "note",
        "place",
    ];
    let stack = Stack::start().await.unwrap();
    let seats = || vec!["A-1".to_owned(), "A-2".to_owned()];
    let given = |id: &str, status, seats_are| Given {
        reservation_id: id.to_owned(),
        event_id: format!("evt_{id}"),
        user_id: "usr_1".to_owned(),
        status,
        seat_ids: seats(),
        quantity: 2,
        payment_intent_id: None,
        seats: seats_are,
    };
    stack.seed(&[given("rsv_1", Status::Hold, SeatState::Held), given("rsv_2", Status::Expired, SeatState::Free)]);
    let queue = stack.queue("payment-approved");
    let approval = |id: &str| {
        let detail = json!({"reservation_id": id, "payment_intent_id": "pi_1", "amount": 7_600});
        json!({"detail-type": "payment.approved", "detail": detail}).to_string()
    };
    for body in [approval("rsv_1"), approval("rsv_2"), "{".to_owned()] {
        queue.send(Message::new(body)).unwrap();
    }
    let function = function(&stack, "payment-approved", &[]);
    let delivery = stack.map(queue, function).deliver_once().await.unwrap();
    assert_eq!(stack.inventory.seat_state("rsv_1"), SeatState::Sold, "{:#?}", delivery.invocation.logs);

    let mut outcomes = Vec::new();
    for line in &delivery.invocation.logs {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?} is not JSON: {error}"));
        let line = line.as_object().expect("a line is an object");
        if line.contains_key("_aws") {
            continue;
        }
        assert!(["ts", "level", "msg"].iter().all(|name| line.contains_key(*name)), "{line:?}");
        let unknown: Vec<_> = line.keys().filter(|name| !FIELDS.contains(&name.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {line:?}");
        outcomes.extend(line.get("outcome").and_then(Value::as_str).map(str::to_owned));
    }
    outcomes.sort();
    assert_eq!(outcomes, ["late_approval", "rejected", "success"]);
}

#[tokio::test]
async fn a_wrong_configuration_stops_the_start_and_names_every_variable() {
    let stack = Stack::start().await.unwrap();
    let wrong = [("MAX_RETRIES", "0"), ("INVENTORY_GRPC_ADDR", "inventory"), ("LOG_LEVEL", "loud")];
    let function = function(&stack, "payment-failed", &wrong);
    let invocation = function.invoke(r#"{"Records": []}"#).await;
    let Err(FunctionError::Init(text)) = invocation.result else { panic!("it must not start: {invocation:?}") };
    for (name, _) in wrong {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}

/// What a binary is made of is what its `main` composes, by type. The names of operations stay in it as text.
#[test]
fn a_function_carries_the_clients_that_it_calls_and_no_other() {
    const ALL: [&str; 12] = [
        "BatchGetItem",
        "BroadcastEvent",
        "ChangeMessageVisibility",
        "CommitReservation",
        "GetItem",
        "NotifyBookingResult",
        "NotifyQueuePosition",
        "PutEvents",
        "ReleaseHold",
        "ReserveSeat",
        "SendMessageBatch",
        "UpdateItem",
    ];
    if !Ring::Release.is_required() {
        return Ring::Release.skip_or_fail(
            "what nothing calls leaves a binary when it is optimised, and to build that takes ten minutes; \
             HOLDFAST_REQUIRE_RINGS=release does it",
        );
    }
    let contains = |binary: &[u8], text: &str| binary.windows(text.len()).any(|window| window == text.as_bytes());
    let mut expected: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for function in SETTLING {
        let mut calls = BTreeSet::from(["ChangeMessageVisibility", "CommitReservation", "ReleaseHold", "UpdateItem"]);
        calls.extend((function.lost_race == Outcome::LateApproval).then_some("PutEvents"));
        expected.insert(function.name, calls);
    }
    let reserving = BTreeSet::from(["BatchGetItem", "GetItem", "ReserveSeat", "UpdateItem"]);
    expected.insert(reservation_api::NAME, reserving.clone());
    expected.insert(reservation_rpc::NAME, reserving);
    let telling = BTreeSet::from(["PutEvents", "SendMessageBatch", "UpdateItem"]);
    expected.insert(reservation_changed::NAME, telling);
    expected.insert(reservation_sweep::NAME, BTreeSet::from(["UpdateItem"]));
    expected.insert(booking_created::NAME, BTreeSet::from(["ChangeMessageVisibility", "PutEvents"]));
    expected.insert(booking_cancelled::NAME, BTreeSet::from(["ChangeMessageVisibility"]));
    expected.insert(booking_migrate::NAME, BTreeSet::new());
    let placing = BTreeSet::from(["ChangeMessageVisibility", "GetItem", "UpdateItem"]);
    expected.insert(waiting_room_joined::NAME, placing.clone());
    let following = placing.iter().copied().chain(["PutEvents"]).collect::<BTreeSet<_>>();
    expected.insert(waiting_room_settled::NAME, following.clone());
    let calling = following.into_iter().chain(["BatchGetItem", "SendMessageBatch"]).collect();
    expected.insert(waiting_room_ticked::NAME, calling);
    let serving = BTreeSet::from(["BatchGetItem", "GetItem", "SendMessageBatch", "UpdateItem"]);
    expected.insert(waiting_room::NAME, serving);
    let telling = BTreeSet::from([
        "BroadcastEvent",
        "ChangeMessageVisibility",
        "GetItem",
        "NotifyBookingResult",
        "NotifyQueuePosition",
        "UpdateItem",
    ]);
    expected.insert(waiting_room_called::NAME, telling);
    expected.insert(waiting_room_connected::NAME, BTreeSet::from(["GetItem", "UpdateItem"]));
    expected.insert(waiting_room_clock::NAME, BTreeSet::from(["GetItem", "SendMessageBatch"]));
    for function in NAMES {
        let binary = fs::read(&binaries()[function]).unwrap();
        let found: BTreeSet<&str> = ALL.into_iter().filter(|call| contains(&binary, call)).collect();
        assert_eq!(Some(&found), expected.get(function), "{function}");
    }
}

#[test]
fn the_profile_that_cargo_lambda_builds_unwinds_and_so_does_ours() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let release = &manifest["profile"]["release"];
    assert_eq!(
        release["panic"].as_str(),
        Some("unwind"),
        "cargo-lambda aborts unless the root manifest says otherwise"
    );
    let check = manifest["profile"]["release-check"].as_table().unwrap();
    assert_eq!(check["inherits"].as_str(), Some("release"));
    let changed: Vec<_> = check.keys().filter(|name| *name != "inherits").collect();
    assert_eq!(changed, ["codegen-units", "lto"], "only what linking across crates costs");
}
