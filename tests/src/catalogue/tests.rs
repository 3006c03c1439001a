use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use serde_json::{Value, json};
use shared::{backoff::Backoff, name::Named};

use super::*;
use crate::build::workspace;

fn folders(of: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(workspace().join(of)).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

#[test]
fn the_functions_are_the_folders_of_functions_and_each_has_event_files() {
    assert_eq!(BTreeSet::from(NAMES.map(str::to_owned)), folders("functions"));
    let behind_a_queue = CATALOGUE.iter().filter(|entry| entry.trigger == Trigger::Queue);
    assert!(behind_a_queue.map(|entry| entry.name).eq(all_fed().map(|function| function.name)));
    assert!(all_fed().filter(|function| function.settling.is_some()).map(|function| function.name).eq(QUEUED));
    assert_eq!(BTreeSet::from(NAMES.map(str::to_owned)), folders("events"));
}

#[test]
fn each_event_type_has_one_function_which_is_named_after_it() {
    assert_eq!(SETTLING.len(), EventType::ALL.len());
    for event_type in EventType::ALL {
        assert_eq!(settler_of(*event_type).name, event_type.name().replace('.', "-"));
    }
}

/// What each function makes of the variables that it needs, with these changes, and of this secret.
fn limits(changes: &[(&str, &str)], secret: Option<&Value>) -> Vec<Result<Limits, Vec<String>>> {
    let required = [
        ("IDEMPOTENCY_TABLE", "idempotency"),
        ("INVENTORY_GRPC_ADDR", "inventory:8021"),
        ("RESERVATION_API_BASE", "http://reservation-api:8010"),
    ];
    let environment: BTreeMap<String, String> =
        required.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let secret = secret.map(|secret| SecretFields::parse(&secret.to_string()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let limits = |function: Settling| function.limits_in(&environment, secret.clone()).map_err(|error| error.0);
    runtime.block_on(async { SETTLING.map(limits).into() })
}

#[test]
fn the_defaults_are_those_of_the_design() {
    for (function, limits) in SETTLING.into_iter().zip(limits(&[], None)) {
        let limits = limits.unwrap();
        assert_eq!((limits.max_receives, limits.concurrency, limits.backoff), (12, 20, Backoff::DEFAULT));
        let refund_in_place_of_settle = if function.lost_race == Outcome::LateApproval { 1_000 } else { 0 };
        let budget = Duration::from_millis(15_500 + refund_in_place_of_settle);
        assert_eq!(limits.budget, budget, "{}: 5 x 2 s, 2 x 2 s, 1 s or 2 s, and 0.5 s", function.name);
    }
}

#[test]
fn one_error_names_every_bad_variable() {
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
        ("WORKER_CONCURRENCY", "0"),
        ("IDEMPOTENCY_TTL_DAYS", "0"),
        ("USE_SECRET_MANAGER", "yes"),
        ("LOG_LEVEL", "loud"),
        ("METRICS_NAMESPACE", "AWS/Lambda"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
    ];
    for faults in limits(&bad, None) {
        let faults = faults.unwrap_err();
        for (name, _) in bad {
            let named = faults.iter().filter(|fault| fault.starts_with(name)).count();
            assert_eq!(named, 1, "{name} in {faults:#?}");
        }
        assert_eq!(faults.len(), bad.len(), "{faults:#?}");
    }
    for faults in limits(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], None) {
        assert!(faults.unwrap_err()[0].starts_with("OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not grpc"));
    }
    for url in ["ftp://sqs.example/1/dlq", "mailto:dlq", "dlq"] {
        for faults in limits(&[("DLQ_URL", url)], None) {
            assert_eq!(faults.unwrap_err(), ["DLQ_URL must be the queue's URL"], "{url}");
        }
    }
}

#[test]
fn the_secret_stands_in_for_addresses_and_holds_what_is_secret() {
    let without = [("INVENTORY_GRPC_ADDR", ""), ("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", "s")];
    for limits in limits(&without, Some(&json!({"inventory_grpc_addr": "from-secret:1"}))) {
        assert!(limits.is_ok(), "{limits:?}");
    }
    for faults in limits(&[], Some(&json!({"inventory_tls_cert": "pem"}))) {
        assert!(faults.unwrap_err()[0].contains("inventory_tls_key"));
    }
}

#[test]
fn a_token_costs_the_time_of_looking_it_up_again() {
    let with = limits(&[], Some(&json!({"reservation_api_token": "t0ken"})));
    for (with, without) in with.into_iter().zip(limits(&[], None)) {
        assert_eq!(with.unwrap().budget, without.unwrap().budget + Duration::from_secs(2));
    }
}
