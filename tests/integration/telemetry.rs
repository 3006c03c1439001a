//! What a function says of its work: log lines, metrics in them, and the trace that it continues.

use std::{collections::BTreeMap, fs, path::PathBuf};

use local_stack::{
    build,
    catalogue::{NAMES, QUEUED},
    collector::{Collector, text},
    inventory::{CommitStatus, Scripted, SeatState},
    port,
    queue::{Message, MessageAttribute},
    reservations::Status,
    scenario::{self, EventFile},
    stack::{MAX_RECEIVES, Stack},
};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode as SpanStatus};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::Code;

use crate::harness::{EVENT, RESERVATION, Sent, World, attribute, binaries, event, event_with, log_lines};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Every line of a function as JSON; a line that is none fails the test.
#[track_caller]
fn json_lines(world: &World) -> Vec<Value> {
    let parse = |line: &String| -> Value {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("no JSON ({error}): {line}"))
    };
    let lines: Vec<Value> = world.function.all_logs().iter().map(parse).collect();
    assert!(lines.iter().all(Value::is_object), "a line is one object: {lines:#?}");
    lines
}

#[tokio::test]
async fn the_line_of_a_record_has_every_field_of_the_design() {
    for function in QUEUED {
        let world = World::of(function).await;
        world.given(Status::Hold, SeatState::Held);
        let detail_type = function.replace('-', ".");
        let known = event_with(&detail_type, json!({"trace_id": "trace-of-the-producer"}));
        let unknown = event_with(&detail_type, json!({"trace_id": "another", "reservation_id": "rsv_of_nobody"}));
        let ended = world.deliver([Sent::from(known).received(2), Sent::from(unknown).received(3)]).await;
        let (success, retried) = (&ended[0].is("success").line, &ended[1].is("retried").line);
        for (line, reservation, trace, attempt, level) in [
            (success, RESERVATION, "trace-of-the-producer", 2, "info"),
            (retried, "rsv_of_nobody", "another", 3, "warn"),
        ] {
            let fields = [
                ("level", json!(level)),
                ("event_type", json!(detail_type)),
                ("reservation_id", json!(reservation)),
                ("event_id", json!(EVENT)),
                ("trace_id", json!(trace)),
                ("attempt", json!(attempt)),
            ];
            for (name, value) in fields {
                assert_eq!(line[name], value, "{function}: {name} in {line:#}");
            }
            for name in ["ts", "msg", "message_id", "outcome"] {
                let text = line[name].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{function}: {name} in {line:#}");
            }
            assert!(line["latency_ms"].is_u64(), "{function}: {line:#}");
        }
        assert_eq!(success.get("error"), None, "{function}: a success has no error");
        assert!(retried["error"].as_str().is_some_and(|error| error.contains("404")), "{function}: {retried:#}");
        json_lines(&world);
    }
}

#[tokio::test]
async fn every_line_of_an_invocation_names_it_and_says_whether_it_was_the_first() {
    let world = World::with("payment-failed", &[("DLQ_URL", "")]).await;
    let mut requests = Vec::new();
    for first in [true, false] {
        world.given(Status::Hold, SeatState::Held);
        let before = json_lines(&world).len();
        world.deliver([event("payment.failed").to_string(), "junk".to_owned()]).await;
        // The start has lines of its own, and metrics belong to no request.
        let of_invocation = |line: &&Value| line.get("_aws").is_none() && line["msg"] != "the function is ready";
        let lines: Vec<Value> = json_lines(&world).iter().skip(before).filter(of_invocation).cloned().collect();
        assert!(lines.len() >= 3, "two records, and a dead letter that could not be: {lines:#?}");
        for line in &lines {
            assert_eq!(line["cold_start"], first, "{line:#}");
            assert_eq!(line["function_request_id"], lines[0]["function_request_id"], "{line:#}");
        }
        requests.push(lines[0]["function_request_id"].as_str().expect("it is a text").to_owned());
    }
    assert!(requests.iter().all(|request| !request.is_empty()) && requests[0] != requests[1], "{requests:?}");
}

/// That lines of the module which `start` is told are logged is seen below; here each function tells it the right one.
#[tokio::test]
async fn every_function_logs_what_its_own_crate_says() {
    let stack = Stack::start().await.expect("the stack starts");
    let variables = BTreeMap::from([("LOG_LEVEL".to_owned(), "debug".to_owned())]);
    for name in NAMES {
        let binary = binaries()[name].clone();
        let function = stack.deploy_with(name, binary, 1, variables.clone()).expect("the binary is there");
        let invocation = function.invoke("{}").await;
        let first: Value = serde_json::from_str(&invocation.logs[0]).expect("the line is JSON");
        let own_crate = name.replace('-', "_");
        assert_eq!((&first["msg"], &first["module"]), (&json!("the function starts"), &json!(own_crate)), "{name}");
    }
}

/// No function has a line in a crate of its own today, so that an example has one.
#[tokio::test]
async fn what_a_function_says_in_its_own_crate_is_logged() {
    let stack = Stack::start().await.expect("the stack starts");
    let binary = build::example("panics").expect("the example builds");
    let function = stack.deploy("panics", binary, 1).expect("the binary is there");
    let queue = stack.queue("panics");
    queue.send(Message::new("a")).expect("the queue takes it");
    let delivery = stack.map(queue, function).deliver_once().await.expect("a message is visible");
    let logs = &delivery.invocation.logs;
    let own = logs.iter().filter(|line| line.contains("a line of the function's own crate")).count();
    assert_eq!(own, 1, "the lines of its own crate: {logs:#?}");
}

#[tokio::test]
async fn the_line_of_a_body_that_cannot_be_read_says_what_is_known() {
    let world = World::of("payment-failed").await;
    let ended = world.deliver_one(Sent::from("junk".to_owned()).received(4)).await;
    let line = &ended.is("rejected").because("malformed_body").line;
    assert_eq!(line["event_type"], "payment.failed", "the function's own: {line:#}");
    assert_eq!(line["attempt"], 4, "{line:#}");
    assert!(line["error"].is_string() && line["latency_ms"].is_u64(), "{line:#}");
    for unknown in ["reservation_id", "event_id", "trace_id"] {
        assert_eq!(line.get(unknown), None, "{unknown}: {line:#}");
    }
    json_lines(&world);
}

#[tokio::test]
async fn without_a_trace_id_of_its_own_a_record_is_logged_under_that_of_its_context() {
    let world = World::of("payment-failed").await;
    world.given(Status::Hold, SeatState::Held);
    let ended = world.deliver_one(event_with("payment.failed", json!({"traceparent": TRACEPARENT}))).await;
    assert_eq!(ended.is("success").line["trace_id"], TRACE);
}

#[tokio::test]
async fn no_personal_data_and_no_payload_reach_the_log_at_any_level() {
    let world = World::with("payment-approved", &[("LOG_LEVEL", "debug")]).await;
    world.given(Status::Hold, SeatState::Held);
    let personal = json!({
        "user_id": "usr_personal", "amount": 987_654_321, "currency": "XTS", "email": "jane@example.com",
        "card": {"holder": "jane-doe-4242"},
    });
    let with = |changes: Value| {
        let mut event = event_with("payment.approved", personal.clone());
        for (name, value) in changes.as_object().expect("changes are an object") {
            event["detail"][name] = value.clone();
        }
        event.to_string()
    };
    let success = with(json!({}));
    // It goes first and alone, because the second payment below must find the reservation confirmed.
    world.deliver_one(success.clone()).await.is("success");
    let ended = world
        .deliver([
            with(json!({"reservation_id": "rsv_of_nobody"})),
            with(json!({"payment_intent_id": "pi_second", "amount": 987_654_321})),
            with(json!({"amount": "987654321.5"})),
            with(json!({"qty": "jane@example.com"})),
            with(json!({"reservation_id": "jane@example.com with a blank"})),
            success[..success.len() - 1].to_owned(),
            // The same payment with another amount is rejected, and neither amount is told.
            with(json!({"amount": 987_654_322})),
        ])
        .await;
    let outcomes: Vec<&str> = ended.iter().map(|ended| ended.outcome.as_str()).collect();
    let wanted = ["retried", "late_approval", "rejected", "rejected", "rejected", "rejected", "rejected"];
    assert_eq!(outcomes, wanted);
    world.deliver_one(success).await.is("duplicate");
    for line in world.function.all_logs() {
        // No latency, time or id holds one of these by chance: but for the amount, none is digits alone, and seven are many.
        for private in ["usr_personal", "usr_1", "9876543", "XTS", "jane@", "jane-doe", "A-12"] {
            assert!(!line.contains(private), "{private} shows in: {line}");
        }
    }
}

/// The lines of a metric. Each must be one that CloudWatch reads: its dimensions and values stand at the top level.
#[track_caller]
pub(crate) fn metric_lines(lines: &[Value], metric: &str, unit: &str, dimensions: &[&str]) -> Vec<Value> {
    let of_metric = |line: &&Value| line.get(metric).is_some();
    let found: Vec<Value> = lines.iter().filter(of_metric).cloned().collect();
    for line in &found {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Holdfast", "{line:#}");
        assert_eq!(directive["Dimensions"], json!([dimensions]), "{line:#}");
        assert_eq!(directive["Metrics"], json!([{"Name": metric, "Unit": unit}]), "{line:#}");
        assert!(line["_aws"]["Timestamp"].is_u64(), "{line:#}");
        for dimension in dimensions {
            assert!(line[dimension].is_string(), "{dimension} in {line:#}");
        }
    }
    found
}

#[tokio::test]
async fn records_are_counted_by_outcome_and_their_latencies_measured() {
    for function in QUEUED {
        let world = World::of(function).await;
        world.given(Status::Hold, SeatState::Held);
        let own = event(&function.replace('-', "."));
        // The second copy waits for the first, because they have one key.
        world.deliver([own.to_string(), own.to_string(), "junk".to_owned(), "junk".to_owned()]).await;
        let lines = json_lines(&world);
        let wanted = [("duplicate", 1), ("rejected", 2), ("success", 1)];
        let wanted = wanted.map(|(outcome, count)| (outcome.to_owned(), count));
        let counted = counts(&lines, &function.replace('-', "."), "worker_events_total", "outcome");
        assert_eq!(counted, BTreeMap::from(wanted), "{function}");

        let latencies = metric_lines(&lines, "worker_latency_seconds", "Seconds", &["type"]);
        let values: Vec<&Value> =
            latencies.iter().filter_map(|line| line["worker_latency_seconds"].as_array()).flatten().collect();
        assert_eq!(values.len(), 4, "{function}: one value a record");
        assert!(values.iter().all(|value| value.is_f64()), "{function}: {values:?}");
    }
}

/// The counts of a metric by one of its dimensions.
#[track_caller]
fn counts(lines: &[Value], event_type: &str, metric: &str, dimension: &str) -> BTreeMap<String, u64> {
    let lines = metric_lines(lines, metric, "Count", &["type", dimension]);
    let count = |line: &Value| {
        assert_eq!(line["type"], event_type, "{line:#}");
        let value = line[dimension].as_str().unwrap_or_default().to_owned();
        (value, line[metric].as_u64().unwrap_or_default())
    };
    lines.iter().map(count).collect()
}

#[tokio::test]
async fn what_is_sent_to_the_dead_letter_queue_is_counted_by_its_error_code() {
    let world = World::of("payment-approved").await;
    world.given(Status::Hold, SeatState::Held);
    world.seed("rsv_conflict", &["B-1"], Status::Hold, SeatState::Held, None);
    world.stack.inventory.answer_next("rsv_conflict", Scripted::Commit(CommitStatus::FailedConflict));
    let of = |id: &str| {
        Sent::from(event_with("payment.approved", json!({"reservation_id": id, "seat_ids": null, "qty": null})))
    };
    let ended = world
        .deliver([
            Sent::from(event("payment.approved")),
            Sent::from("junk".to_owned()),
            Sent::from("junk".to_owned()),
            of("rsv_conflict"),
            of("rsv_of_nobody"),
            of("rsv_of_nobody_either").received(MAX_RECEIVES),
        ])
        .await;
    let outcomes: Vec<&str> = ended.iter().map(|ended| ended.outcome.as_str()).collect();
    assert_eq!(outcomes, ["success", "rejected", "rejected", "rejected", "retried", "exhausted"]);

    let lines = json_lines(&world);
    let counted = counts(&lines, "payment.approved", "worker_dead_letters_total", "error_code");
    let wanted = [("inventory_conflict", 1), ("malformed_body", 2), ("retries_exhausted", 1)];
    assert_eq!(counted, BTreeMap::from(wanted.map(|(code, count)| (code.to_owned(), count))));
    let mut carried: BTreeMap<String, u64> = BTreeMap::new();
    for message in world.dead_letters.messages() {
        *carried.entry(attribute(&message, "error_code").to_owned()).or_default() += 1;
    }
    assert_eq!(counted, carried, "a message is counted under the code that it carries");
}

#[tokio::test]
async fn what_did_not_reach_the_dead_letter_queue_is_not_counted_as_if_it_had() {
    let world = World::with("payment-approved", &[("DLQ_URL", "")]).await;
    world.deliver_one("junk".to_owned()).await.is("retried").because("malformed_body");
    let counted = counts(&json_lines(&world), "payment.approved", "worker_dead_letters_total", "error_code");
    assert_eq!(counted, BTreeMap::new());
}

/// How often each method was called, by how that ended; each call has its time in these lines.
#[track_caller]
pub(crate) fn grpc_calls(lines: &[Value]) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for line in metric_lines(lines, "grpc_client_seconds", "Seconds", &["method", "code"]) {
        let seconds = line["grpc_client_seconds"].as_array().expect("each time is kept");
        assert!(seconds.iter().all(|seconds| seconds.as_f64().is_some_and(|seconds| seconds > 0.0)), "{line:#}");
        let [method, code] = ["method", "code"].map(|name| line[name].as_str().unwrap_or_default());
        *calls.entry(format!("{method} {code}")).or_default() += seconds.len();
    }
    calls
}

#[tokio::test]
async fn calls_by_grpc_are_measured_by_method_and_by_how_they_ended() {
    for (function, method) in [("payment-approved", "CommitReservation"), ("reservation-expired", "ReleaseHold")] {
        // What is retried comes no more while this test lasts.
        let changes = [("INVENTORY_TIMEOUT_MS", "2000"), ("BACKOFF_BASE_MS", "600000")];
        let world = World::with(function, &changes).await;
        let answers = [
            ("sound", None),
            ("sound_too", None),
            ("busy", Some(Scripted::Status(Code::Unavailable, "busy".into()))),
            ("silent", Some(Scripted::Hang)),
            // A fault inside of a response is a response.
            ("odd", Some(Scripted::Error { code: 17, message: "odd".into() })),
        ];
        let mut events = vec!["junk".to_owned()];
        for (id, answer) in answers {
            world.seed(id, &[&format!("seat-of-{id}")], Status::Hold, SeatState::Held, None);
            if let Some(answer) = answer {
                world.stack.inventory.answer_next(id, answer);
            }
            let fields = json!({"reservation_id": id, "seat_ids": null, "qty": null});
            events.push(event_with(&function.replace('-', "."), fields).to_string());
        }
        world.deliver(events).await;
        let wanted = [("DEADLINE_EXCEEDED", 1), ("OK", 3), ("UNAVAILABLE", 1)];
        let wanted = wanted.map(|(code, calls)| (format!("{method} {code}"), calls));
        assert_eq!(grpc_calls(&json_lines(&world)), BTreeMap::from(wanted));
        // What is written is not written again with the next batch.
        world.deliver_one("junk".to_owned()).await.is("rejected");
        assert_eq!(grpc_calls(&json_lines(&world)).values().sum::<usize>(), 5, "{function}");
    }
}

#[tokio::test]
async fn every_metric_is_in_the_namespace_of_the_deployment() {
    let world = World::with("payment-failed", &[("METRICS_NAMESPACE", "Holdfast/staging")]).await;
    world.deliver_one("junk".to_owned()).await.is("rejected");
    let directive = |line: &Value| line["_aws"]["CloudWatchMetrics"][0].clone();
    let mut metrics: Vec<String> = Vec::new();
    for line in json_lines(&world).iter().filter(|line| line.get("_aws").is_some()) {
        assert_eq!(directive(line)["Namespace"], "Holdfast/staging", "{line:#}");
        metrics.push(directive(line)["Metrics"][0]["Name"].as_str().unwrap_or_default().to_owned());
    }
    metrics.sort_unstable();
    let all = ["worker_cold_start", "worker_dead_letters_total", "worker_events_total", "worker_latency_seconds"];
    assert_eq!(metrics, all);
}

#[tokio::test]
async fn each_process_counts_one_cold_start() {
    let world = World::of("reservation-expired").await;
    for processes in 1..=2 {
        for _ in 0..3 {
            world.deliver_one("junk".to_owned()).await.is("rejected");
        }
        let lines = json_lines(&world);
        let starts = metric_lines(&lines, "worker_cold_start", "Count", &["type"]);
        assert_eq!(starts.len(), processes, "one a process, however many invocations it serves");
        for start in starts {
            assert_eq!((&start["worker_cold_start"], &start["type"]), (&json!(1), &json!("reservation.expired")));
        }
        world.function.recycle();
    }
}

/// `traceparent` and `baggage` of every call to each downstream.
fn contexts(world: &World) -> Vec<(Option<String>, Option<String>)> {
    let api = world.stack.reservations.calls().into_iter();
    let inventory = world.stack.inventory.calls().into_iter();
    api.map(|call| (call.traceparent, call.baggage))
        .chain(inventory.map(|call| (call.traceparent, call.baggage)))
        .collect()
}

/// A message with trace contexts in some places, for a reservation that is put in place.
fn traced(
    world: &World,
    attribute: Option<&str>,
    envelope: Option<&str>,
    detail: Option<&str>,
    x_ray: Option<&str>,
) -> Sent {
    world.given(Status::Hold, SeatState::Held);
    let mut body = event("payment.failed");
    let baggage = |from: &str| format!("from={}", from.get(3..5).unwrap_or_default());
    let mut attributes = BTreeMap::new();
    if let Some(traceparent) = attribute {
        attributes.insert("traceparent".to_owned(), MessageAttribute::string(traceparent));
        attributes.insert("baggage".to_owned(), MessageAttribute::string(baggage(traceparent)));
    }
    if let Some(traceparent) = envelope {
        body["traceparent"] = json!(traceparent);
        body["baggage"] = json!(baggage(traceparent));
    }
    if let Some(traceparent) = detail {
        body["detail"]["traceparent"] = json!(traceparent);
        body["detail"]["baggage"] = json!(baggage(traceparent));
    }
    Sent { attributes, trace_header: x_ray.map(str::to_owned), ..Sent::from(body) }
}

#[tokio::test]
async fn the_context_that_is_found_first_reaches_both_downstreams() {
    let of = |digit: &str| format!("00-{}-{}-01", digit.repeat(32), digit.repeat(16));
    let (attribute, envelope, detail) = (of("a"), of("b"), of("c"));
    let (attribute, envelope, detail) = (Some(attribute.as_str()), Some(envelope.as_str()), Some(detail.as_str()));
    let x_ray = Some("Root=1-dddddddd-dddddddddddddddddddddddd;Parent=dddddddddddddddd;Sampled=1");
    let from_x_ray = of("d");
    let cases = [
        ("message attribute", attribute, envelope, detail, x_ray, attribute, Some("from=aa")),
        ("envelope", None, envelope, detail, x_ray, envelope, Some("from=bb")),
        ("detail", None, None, detail, x_ray, detail, Some("from=cc")),
        ("AWSTraceHeader", None, None, None, x_ray, Some(from_x_ray.as_str()), None),
        ("no context", None, None, None, None, None, None),
        ("no context that is valid", None, Some("00-junk"), None, Some("Root=1-0-0"), None, Some("from=ju")),
    ];
    for (case, attribute, envelope, detail, x_ray, traceparent, baggage) in cases {
        let world = World::of("payment-failed").await;
        let message = traced(&world, attribute, envelope, detail, x_ray);
        world.deliver_one(message).await.is("success");
        let wanted = (traceparent.map(str::to_owned), baggage.map(str::to_owned));
        assert_eq!(contexts(&world), [wanted.clone(), wanted], "{case}");
    }
}

#[tokio::test]
async fn a_context_that_is_not_valid_gives_way_to_the_next_one() {
    let world = World::of("payment-failed").await;
    let of_nobody = "00-00000000000000000000000000000000-00f067aa0ba902b7-01";
    let message = traced(&world, Some(of_nobody), Some("junk"), Some(TRACEPARENT), None);
    world.deliver_one(message).await.is("success");
    for (traceparent, _) in contexts(&world) {
        assert_eq!(traceparent.as_deref(), Some(TRACEPARENT));
    }
}

#[tokio::test]
async fn baggage_that_no_header_can_carry_stays_behind_and_fails_nothing() {
    let largest = "x".repeat(4 * 1024);
    for (case, baggage, arrives) in [
        ("4 KB", largest.clone(), true),
        ("one byte more", format!("{largest}x"), false),
        ("a header of its own", "a=b\r\nX-Admin: true".to_owned(), false),
        ("not ASCII", "name=Zoë".to_owned(), false),
    ] {
        let world = World::of("payment-failed").await;
        world.given(Status::Hold, SeatState::Held);
        let mut body = event("payment.failed");
        body["baggage"] = json!(baggage);
        world.deliver_one(body).await.is("success");
        let wanted = (None, arrives.then_some(baggage));
        assert!(contexts(&world) == [wanted.clone(), wanted], "{case}");
    }
}

async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let url = format!("http://{}", listener.local_addr().expect("a bound listener has an address"));
    (listener, url)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_span_is_exported_before_the_invocation_ends() {
    let collector = Collector::start().await.unwrap();
    let world = World::with("payment-failed", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]).await;
    let message = traced(&world, Some(TRACEPARENT), None, None, None);
    let ended = world.deliver_one(message).await;

    // There is no waiting here: a process that is frozen after its answer sends nothing any more.
    let spans = collector.spans();
    ended.is("success");
    assert_eq!(spans.len(), 1, "one span a record: {spans:#?}");
    let span = &spans[0];
    assert_eq!(hex(&span.trace_id), TRACE, "the span is in the producer's trace");
    assert_eq!(hex(&span.parent_span_id), PARENT, "below the producer's span");
    assert_eq!(span.links.len(), 1, "and linked to it");
    assert_eq!((hex(&span.links[0].trace_id), hex(&span.links[0].span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!((span.name.as_str(), span.kind()), ("payment.failed", SpanKind::Consumer));
    assert_eq!(text(&span.attributes, "messaging.message.id"), ended.line["message_id"]);
    assert_eq!(text(&span.attributes, "holdfast.outcome"), "success");
    let exports = collector.exports();
    let resource = exports[0].resource_spans[0].resource.as_ref().expect("a resource");
    assert_eq!(text(&resource.attributes, "service.name"), "payment.failed");

    let onward = (Some(format!("00-{TRACE}-{}-01", hex(&span.span_id))), Some("from=4b".to_owned()));
    assert_eq!(contexts(&world), [onward.clone(), onward], "both downstreams are below our span");
    json_lines(&world);
}

#[tokio::test]
async fn no_function_keeps_its_caller_waiting_for_the_collector() {
    let stack = Stack::start().await.expect("the stack starts");
    let (_nobody, database) = port::of_nobody().unwrap();
    let (host, port) = (database.ip().to_string(), database.port().to_string());
    let mut exporting = Vec::new();
    for name in NAMES {
        let collector = Collector::start().await.unwrap();
        let more = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
            ("DB_HOST", &host),
            ("DB_PORT", &port),
            ("DB_USER", "holdfast_app"),
            ("DB_PASSWORD", "secret"),
            ("DB_TLS", "disable"),
        ];
        let mut variables = stack.environment(name);
        variables.extend(more.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let function = stack.deploy_with(name, binaries()[name].clone(), 1, variables).expect("the binary is there");
        for file in first_files(name) {
            let seen = collector.arrivals().len();
            let answered = function.invoke(fs::read(&file).expect("the file is there")).await.answered;
            let sent = collector.arrivals().split_off(seen);
            assert!(sent.iter().all(|at| *at > answered), "{}: its spans go out before its answer", file.display());
            exporting.extend(sent.first().map(|_| file));
        }
    }
    let exports = |part: &str| exporting.iter().any(|file| file.to_string_lossy().contains(part));
    assert!(
        ["reservation-api/", "payment-failed/", "booking-created/kafka-"].into_iter().all(exports),
        "{exporting:?}"
    );
}

/// The first event of a function, and the first from a topic, if it takes any.
fn first_files(function: &str) -> Vec<PathBuf> {
    let files = scenario::load_all(scenario::events_folder().join(function)).expect("the files are valid");
    let is_of_a_topic = |file: &&EventFile| file.case().starts_with("kafka-");
    let first_of = |topic: bool| files.iter().find(|file| is_of_a_topic(file) == topic).map(|file| file.path.clone());
    [false, true].into_iter().filter_map(first_of).collect()
}

#[tokio::test]
async fn every_record_has_a_span_with_its_outcome_in_one_export() {
    let collector = Collector::start().await.unwrap();
    let world = World::with("payment-failed", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]).await;
    world.given(Status::Hold, SeatState::Held);
    let unknown = event_with("payment.failed", json!({"reservation_id": "rsv_of_nobody"}));
    world.deliver([event("payment.failed").to_string(), unknown.to_string(), "junk".to_owned()]).await;
    assert_eq!(collector.exports().len(), 1, "one call an invocation");
    let spans = collector.spans();
    let failed = |span: &Span| span.status.as_ref().is_some_and(|status| status.code() == SpanStatus::Error);
    let mut outcomes: Vec<(&str, bool)> =
        spans.iter().map(|span| (text(&span.attributes, "holdfast.outcome"), failed(span))).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, [("rejected", true), ("retried", true), ("success", false)]);
    let mut traces: Vec<String> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    traces.sort_unstable();
    traces.dedup();
    assert_eq!(traces.len(), 3, "without a producer's context each record begins a trace");
    assert!(spans.iter().all(|span| span.links.is_empty()), "and there is nothing to link to");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_still_in_its_producers_trace() {
    let collector = Collector::start().await.unwrap();
    let world = World::with("payment-failed", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]).await;
    // A message attribute can be read whatever the body is.
    let attributes = BTreeMap::from([("traceparent".to_owned(), MessageAttribute::string(TRACEPARENT))]);
    let message = Sent { attributes, ..Sent::from("junk".to_owned()) };
    world.deliver_one(message).await.is("rejected");
    let spans = collector.spans();
    assert_eq!(spans.len(), 1);
    assert_eq!(hex(&spans[0].trace_id), TRACE, "the producer finds its broken message in its own trace");
    assert_eq!(spans[0].links.len(), 1);
}

#[tokio::test]
async fn a_producers_decision_not_to_sample_is_respected_and_passed_on() {
    let collector = Collector::start().await.unwrap();
    let world = World::with("payment-failed", &[("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url)]).await;
    let unsampled = TRACEPARENT.replace("-01", "-00");
    let message = traced(&world, Some(&unsampled), None, None, None);
    world.deliver_one(message).await.is("success");
    assert_eq!(collector.spans().len(), 0);
    for (traceparent, _) in contexts(&world) {
        let traceparent = traceparent.expect("the context goes on");
        assert!(traceparent.starts_with(&format!("00-{TRACE}-")) && traceparent.ends_with("-00"), "{traceparent}");
    }
}

#[tokio::test]
async fn the_collector_may_be_named_by_the_secret() {
    let collector = Collector::start().await.unwrap();
    let world = World::with("payment-failed", &[("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", "holdfast")]).await;
    world.stack.aws.put_secret("holdfast", &json!({"otel_endpoint": collector.url}).to_string());
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn a_collector_that_is_not_there_or_never_answers_fails_no_record() {
    // Nothing listens on the discard port; the other takes connections and stays silent.
    let gone_url = "http://127.0.0.1:9".to_owned();
    let (_silent, silent_url) = listen().await;
    for endpoint in [&gone_url, &silent_url] {
        let world = World::with("payment-failed", &[("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)]).await;
        world.given(Status::Hold, SeatState::Held);
        let unknown = event_with("payment.failed", json!({"reservation_id": "rsv_of_nobody"}));
        let ended = world.deliver([event("payment.failed"), unknown]).await;
        ended[0].is("success");
        ended[1].is("retried").says("404");
        assert_eq!(world.state(), "CANCELLED, free", "{endpoint}");
        assert_eq!(world.queue.len(), 1, "{endpoint}: only what was to be retried is still there");
        let lines = log_lines(&world.function.all_logs());
        let lost = lines.iter().filter(|line| {
            line["level"] == "warn" && line["msg"] == "the spans of this invocation could not be exported"
        });
        assert_eq!(lost.count(), 1, "{endpoint}: the loss is said once: {lines:#?}");
    }
}

/// The price on the page about deployment takes so many bytes of log for each event, in full batches. A line that grows makes
/// it wrong.
#[tokio::test]
async fn an_event_writes_as_much_log_as_its_price_takes_for_granted() {
    const PAGE: &str = include_str!("../../.template/README.md");
    let (before, _) = PAGE.split_once(" bytes of log for each event").expect("the page says how many bytes");
    let assumed: usize = before.rsplit(' ').next().and_then(|number| number.parse().ok()).expect("a number");
    let world = World::of("payment-approved").await;
    world.warm_up().await;
    let warm = world.function.all_logs().len();
    let events: Vec<Value> = (0..10)
        .map(|number| {
            let (id, seats) = (format!("rsv_hc5pik1n4{number}"), [format!("L-{number}"), format!("M-{number}")]);
            world.seed(&id, &[&seats[0], &seats[1]], Status::Hold, SeatState::Held, None);
            let payment = format!("pi_1lddhs1er6iq83g{number}");
            let fields =
                json!({"reservation_id": id, "seat_ids": seats, "payment_intent_id": payment, "trace_id": TRACE});
            event_with("payment.approved", fields)
        })
        .collect();
    for ended in world.deliver(events).await {
        ended.is("success");
    }
    let logs = world.function.all_logs();
    let bytes = logs[warm..].iter().map(|line| line.len() + 1).sum::<usize>() / 10;
    assert!(
        (assumed * 4 / 5..=assumed).contains(&bytes),
        "an event writes {bytes} bytes of log, .template/README.md says {assumed}"
    );
}
