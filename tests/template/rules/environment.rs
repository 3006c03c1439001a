//! The environment of the functions: the template's variables are those of the code, and the code starts with them.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use local_stack::{
    catalogue::{self, System},
    stack::WAITING_ROOM_KEYS,
};
use serde_json::{Value, json};
use shared::{
    config::{ConfigError, Source, secret::SecretFields},
    trigger::sqs::Limits,
};

use super::{Faults, Rule, references, stages};
use crate::{
    evaluate::Stack,
    project::{File, Project, edit, edit_in},
    template::{Deployed, FUNCTION, Path, Resource, Template, fields, items, nodes, reference},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "the variables of the template are those that the code reads",
        check: variables_are_read,
        breaks: &[
            edit("        LOG_LEVEL: !Ref LogLevel\n", ""),
            edit("          DLQ_URL: !Ref PaymentFailedDeadLetterQueue\n", "          DLQ: x\n"),
            edit("        SECRET_NAME: !Ref SecretArn\n", ""),
            edit("WORKER_CONCURRENCY: ", "WORKERS: "),
            edit("          RESERVATIONS_TABLE: !Ref ReservationsTable\n", ""),
            edit("          WAITING_ROOM_TABLE: !If [HasWaitingRoom, !Ref WaitingRoomTable, \"\"]\n", ""),
            edit("          CALL_WINDOW_SECONDS: !Ref CallWindowSeconds\n", ""),
            edit("          TICK_QUEUE_URL: !Ref WaitingRoomTickedQueue\n", ""),
            edit("          GRPC_REALTIME_SERVICE_ENDPOINT: !Ref RealtimeGrpcAddr\n", ""),
            edit("          HOLD_SECONDS: !Ref HoldSeconds\n", "          HOLD: !Ref HoldSeconds\n"),
            edit("          MAX_OPEN_HOLDS: !Ref MaxOpenHolds\n", ""),
        ],
    },
    Rule {
        name: "a changed parameter makes a new version of each function",
        check: parameters_make_versions,
        breaks: &[
            edit("!Ref LogLevel, ", ""),
            // No variable refers to it: it is a condition that the base of the reservation API hangs on.
            edit("!Ref ReservationApiBase, !Ref Reservations, ", "!Ref ReservationApiBase, "),
            edit("!Ref HoldSeconds, ", ""),
            edit("!Ref MaxOpenHolds, ", ""),
            edit("!Ref VpcSubnetIds, !Ref WaitingRoom]", "!Ref VpcSubnetIds]"),
            edit("!Ref BookingWindowSeconds, !Ref CallWindowSeconds", "!Ref BookingWindowSeconds"),
            edit("          OTEL_EXPORTER_OTLP_ENDPOINT: !Ref OtlpEndpoint\n", ""),
            edit(
                "          STACK_PARAMETERS:\n            Fn::ToJsonString:",
                "          STACK_PARAMETERS:\n            Fn::Sub:",
            ),
            edit("    Tracing: Active\n", "    Tracing: !Ref Environment\n"),
            edit("      AutoPublishAliasAllProperties: true\n", ""),
        ],
    },
    Rule {
        name: "a function starts with any value that its parameters allow",
        check: starts_with_any_value,
        breaks: &[
            edit("AllowedValues: [debug, info, warn, error]", "AllowedValues: [trace, debug, info, warn, error]"),
            edit("OTEL_EXPORTER_OTLP_PROTOCOL: http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL: grpc"),
            edit("INVENTORY_TIMEOUT_MS: ", "INVENTORY_TIMEOUT_MS: 0 # "),
            edit("BACKOFF_BASE_MS: ", "BACKOFF_BASE_MS: 1000000 # "),
            edit("MinValue: 60000", "MinValue: 100"),
            edit("METRICS_NAMESPACE: !Sub Holdfast/${AWS::StackName}", "METRICS_NAMESPACE: !Sub AWS/${AWS::StackName}"),
            edit("!If [HasSecret, \"true\", \"false\"]", "!If [HasSecret, \"yes\", \"no\"]"),
            edit("MinValue: 3\n", "MinValue: 0\n"),
            edit("MinValue: 30\n", "MinValue: 29\n"),
            edit("MaxValue: 900\n", "MaxValue: 901\n"),
            edit("HOLD_GRACE_SECONDS: \"10800\"", "HOLD_GRACE_SECONDS: \"7199\""),
            edit("MinValue: 10\n    MaxValue: 3600\n", "MinValue: 1\n    MaxValue: 3600\n"),
            edit("MinValue: 30\n    MaxValue: 3600\n", "MinValue: 30\n    MaxValue: 3601\n"),
            edit("RELEASE_GRACE_SECONDS: \"5\"", "RELEASE_GRACE_SECONDS: \"901\""),
            edit("QUEUE_TIMEOUT_SECONDS: \"900\"", "QUEUE_TIMEOUT_SECONDS: \"239\""),
            // Without a secret there is no key, and the rule says so before the functions do.
            edit(
                "  PlacesHaveKeys:\n    RuleCondition: !Equals [!Ref WaitingRoom, \"true\"]\n",
                "  PlacesHaveKeys:\n    RuleCondition: !Equals [!Ref WaitingRoom, never]\n",
            ),
            edit("BACKOFF_CAP_MS: \"2000\"", "BACKOFF_CAP_MS: \"500\""),
            edit("    MinValue: 10\n", "    MinValue: 0\n"),
        ],
    },
    Rule {
        name: "a function calls the API of its own stack, signed, where that has one, and settlement else the one that is given",
        check: calls_its_own_api,
        breaks: &[
            edit("RESERVATION_API_AUTH: !If [HasReservations, iam, \"\"]", "RESERVATION_API_AUTH: \"\""),
            edit("RESERVATION_API_AUTH: !If [HasReservations, iam, \"\"]", "RESERVATION_API_AUTH: iam"),
            edit("RESERVATION_API_AUTH: iam\n", "RESERVATION_API_AUTH: none\n"),
            edit("!GetAtt Api.ApiEndpoint]\n            -", "!Ref Api]\n            -"),
            edit("/_aws/execute-api/${Api}/$default", "/_aws/execute-api/${Api}"),
            edit(
                "      - Assert: {Fn::Equals: [!Ref ReservationApiBase, \"\"]}\n",
                "      - Assert: {Fn::Equals: [1, 1]}\n",
            ),
        ],
    },
    Rule {
        name: "a collector's port that the functions refuse is refused before anything is deployed",
        check: grpc_port_is_refused,
        breaks: &[edit("    AllowedPattern: ^(?!.*:4317(/|$)).*$\n", "")],
    },
    Rule {
        name: "a function starts in each stage",
        check: starts_in_each_stage,
        breaks: &[
            edit_in(
                File::Stages,
                "InventoryGrpcAddr=inventory.dev.internal:8021",
                "InventoryGrpcAddr=inventory.dev.internal",
            ),
            edit_in(
                File::Stages,
                "InventoryGrpcAddr=https://inventory.prod.internal:8021",
                "InventoryGrpcAddr=inventory.prod.internal",
            ),
        ],
    },
    Rule {
        name: "a record's calls end well before its function's timeout",
        check: calls_end_before_timeout,
        breaks: &[
            // Enough without a token, and not with one.
            edit("\n    Timeout: 30\n", "\n    Timeout: 27\n"),
            edit("RESERVATION_TIMEOUT_MS: ", "RESERVATION_TIMEOUT_MS: 5000 # "),
            edit("INVENTORY_TIMEOUT_MS: ", "INVENTORY_TIMEOUT_MS: 10000 # "),
            edit("      Timeout: 16\n", "      Timeout: 15\n"),
        ],
    },
];

/// Variables that the code of this workspace does not read.
const READ_BY_OTHERS: [(&str, &str); 3] = [
    ("AWS_ENDPOINT_URL", "the AWS SDK sends every call there, and it is unset on AWS"),
    ("METRICS_NAMESPACE", "all functions have it, and booking-migrate writes no metrics"),
    ("STACK_PARAMETERS", "it changes when a parameter does, so that SAM publishes a version"),
];

/// The properties that SAM makes other resources of.
const BESIDE_A_VERSION: [&str; 2] = ["Events", "DeploymentPreference"];

/// A value for each parameter that may be empty, so that what it switches on is on.
pub(super) const PLACEHOLDERS: [(&str, &str); 13] = [
    ("ReservationApiBase", "https://reservation-api.example"),
    ("InventoryGrpcAddr", "inventory.example:8021"),
    ("PaymentGrpcAddr", "payments.example:8031"),
    ("RealtimeGrpcAddr", "realtime.example:8041"),
    ("WaitingRoomPush", "true"),
    ("SecretArn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:holdfast-AbCdEf"),
    ("OtlpEndpoint", "http://collector.example:4318"),
    ("AwsEndpointUrl", "http://127.0.0.1:4566"),
    ("VpcSubnetIds", "subnet-1,subnet-2"),
    ("DatabaseHost", "database.example"),
    ("DatabaseSecretArn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bookings-AbCdEf"),
    ("DatabaseOwnerSecretArn", "arn:aws:secretsmanager:eu-west-1:123456789012:secret:owner-AbCdEf"),
    ("DatabaseResourceId", "cluster-ABCDEF"),
];

/// The alias, which the queue feeds, moves when SAM publishes a version. SAM compares the function's properties, in which
/// every reference to a parameter looks as before, whatever its value; only what `Fn::ToJsonString` made is a value by then.
fn parameters_make_versions(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for function in template.of_type(FUNCTION) {
        let all = &function.properties["AutoPublishAliasAllProperties"];
        faults.unless(*all == true, format!("{}: set AutoPublishAliasAllProperties", function.id));
        // Mappings and deployments are no part of a version.
        let parts = fields(function.properties).into_iter().filter(|(name, _)| !BESIDE_A_VERSION.contains(name));
        let mut parts: serde_json::Map<_, _> = parts.map(|(name, part)| (name.to_owned(), part.clone())).collect();
        let copy = parts["Environment"]["Variables"]["STACK_PARAMETERS"]["Fn::ToJsonString"].take();
        let copied: BTreeSet<&str> = items(&copy).into_iter().filter_map(reference).collect();
        let parameters: BTreeSet<&str> = template.parameters().into_iter().map(|(name, _)| name).collect();
        let mut used = BTreeSet::new();
        parts.values().for_each(|part| used.extend(decided_by(template, part)));
        used.retain(|name| parameters.contains(name.as_str()));
        let used: BTreeSet<&str> = used.iter().map(String::as_str).collect();
        let fault = format!("{}: name in STACK_PARAMETERS {used:?}, and not {copied:?}", function.id);
        faults.unless(used == copied, fault);
    }
}

/// What a value refers to, and what the conditions refer to on which it hangs.
fn decided_by(template: &Template, value: &Value) -> BTreeSet<String> {
    let conditions = nodes(value).into_iter().filter_map(|node| {
        let name = node["Fn::If"][0].as_str().or_else(|| node["Condition"].as_str())?;
        Some(&template.section("Conditions")[name])
    });
    let of_conditions = conditions.flat_map(|condition| decided_by(template, condition));
    references::targets(value).into_iter().chain(of_conditions).collect()
}

/// An environment that remembers what it was asked for.
struct Recording {
    values: BTreeMap<String, String>,
    asked: RefCell<BTreeSet<String>>,
}

impl Source for Recording {
    fn get(&self, name: &str) -> Option<String> {
        self.asked.borrow_mut().insert(name.to_owned());
        Source::get(&self.values, name)
    }
}

/// A function's clients must be made inside a runtime.
pub(super) fn within_runtime<T>(read: impl FnOnce() -> T) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("the runtime starts");
    runtime.block_on(async { read() })
}

/// What the code of a function behind a queue makes of its environment.
pub(super) fn read(stack: &Stack<'_>, path: &Path<'_>) -> Result<Limits, ConfigError> {
    recorded(stack, path.function, |environment, secret| {
        catalogue::composed(path.name, environment, secret, path.code.limits)
    })
    .0
}

/// Whether a function starts in its environment, and the names that it asked for.
fn start(stack: &Stack<'_>, deployed: &Deployed<'_>) -> (Result<(), ConfigError>, BTreeSet<String>) {
    recorded(stack, deployed.function, |environment, secret| deployed.entry.starts_in(environment, secret))
}

/// What `make` makes of a function's environment, and the names that it asked for.
fn recorded<T>(
    stack: &Stack<'_>,
    function: Resource<'_>,
    make: impl FnOnce(&dyn Source, Option<Result<SecretFields, String>>) -> T,
) -> (T, BTreeSet<String>) {
    let recording = Recording { values: stack.environment(function), asked: RefCell::default() };
    // A secret may stand in for the addresses, but only one that is read.
    let has_secret = recording.values.get("USE_SECRET_MANAGER").is_some_and(|value| value == "true");
    let fields = json!({
        "reservation_api_base": "https://secret.example",
        "inventory_grpc_addr": "secret.example:1",
        "grpc_realtime_service_endpoint": "secret.example:2",
        "username": "holdfast",
        "password": "a-password",
        "admission_key": "a key of at least 32 bytes, which guards nothing",
        "waiting_room_key": WAITING_ROOM_KEYS,
        "reservation_api_token": "a-token", // One that is refused costs one more look at the secret.
    });
    let secret = has_secret.then(|| SecretFields::parse(&fields.to_string()));
    let made = within_runtime(|| make(&recording, secret));
    (made, recording.asked.into_inner())
}

/// The template with every parameter that may be empty given, and `more`.
pub(super) fn given<'t>(template: &'t Template, more: &[(&'t str, &str)]) -> Stack<'t> {
    Stack::new(template, &[&PLACEHOLDERS[..], more].concat())
}

fn variables_are_read(project: &Project, faults: &mut Faults) {
    for deployed in project.template.deployed() {
        let id = deployed.function.id;
        // What switches something on needs the system on which it hangs.
        let on = (deployed.entry.system.switch(), "true");
        let (_, read) = start(&given(&project.template, &[on]), &deployed);
        let written: BTreeSet<String> =
            fields(deployed.function.variables()).into_iter().map(|(name, _)| name.into()).collect();
        for name in read.difference(&written) {
            faults.add(format!("{id}: the code reads {name}; set it, if only to a parameter that may be empty"));
        }
        for name in written.difference(&read) {
            let known = READ_BY_OTHERS.iter().any(|(other, _)| other == name);
            faults.unless(known, format!("{id}: the code does not read {name}; take it away"));
        }
    }
}

/// Each value of a list, the ends of each range, and the default, of every parameter that the environment refers to.
fn starts_with_any_value(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for deployed in template.deployed() {
        let on = (deployed.entry.system.switch(), "true");
        let usual = given(template, &[on]);
        let used: BTreeSet<&str> = nodes(deployed.function.variables()).into_iter().filter_map(reference).collect();
        for (name, parameter) in template.parameters().into_iter().filter(|(name, _)| used.contains(name)) {
            let values = ["AllowedValues", "MinValue", "MaxValue", "Default"].map(|key| &parameter[key]);
            let values = values.into_iter().flat_map(items).map(|value| match value.as_str() {
                Some(text) => text.to_owned(),
                None => value.to_string(),
            });
            for value in values {
                let stack = given(template, &[on, (name, &value)]);
                // CloudFormation makes no stack that this value alone lets break a rule.
                let breaks = |(_, rule): (_, &Value)| usual.passes(rule).is_ok() && stack.passes(rule).is_err();
                if fields(template.section("Rules")).into_iter().any(breaks) {
                    continue;
                }
                if let (Err(error), _) = start(&stack, &deployed) {
                    faults.add(format!("{}: with {name}={value} it does not start: {error}", deployed.function.id));
                }
            }
        }
    }
}

/// A function does not start with it, and all functions of a stack have it.
fn grpc_port_is_refused(project: &Project, faults: &mut Faults) {
    let pattern = &project.template.section("Parameters")["OtlpEndpoint"]["AllowedPattern"];
    faults.unless(*pattern == "^(?!.*:4317(/|$)).*$", format!("OtlpEndpoint: {pattern} lets port 4317 through"));
}

fn starts_in_each_stage(project: &Project, faults: &mut Faults) {
    for (name, stage) in stages::stages(project) {
        let stack = Stack::new(&project.template, &stages::overrides(stage, "deploy"));
        for deployed in project.template.deployed() {
            // Nobody has a database by default, nor a secret with keys, and a stage without these systems names none.
            let may_be_missing = matches!(deployed.entry.system, System::Bookings | System::WaitingRoom);
            if may_be_missing && !stack.makes(deployed.function.body) {
                continue;
            }
            if let (Err(error), _) = start(&stack, &deployed) {
                faults.add(format!("{name}: {} does not start there: {error}", deployed.entry.name));
            }
        }
    }
}

/// A local account has no names for its APIs that every resolver knows, so that its address is by a path.
fn calls_its_own_api(project: &Project, faults: &mut Faults) {
    const OTHER: &str = "https://reservation-api.example";
    const LOCAL: &str = "http://127.0.0.1:4566";
    let own = |account| [("Reservations", "true"), ("ReservationApiBase", ""), ("AwsEndpointUrl", account)];
    let cases = [
        (own(""), "https://Api.execute-api.eu-west-1.amazonaws.com".to_owned(), Some("iam")),
        (own(LOCAL), format!("{LOCAL}/_aws/execute-api/Api/$default"), Some("iam")),
        ([("Reservations", "false"), ("ReservationApiBase", OTHER), ("AwsEndpointUrl", "")], OTHER.to_owned(), None),
    ];
    // At another API its holds would never end.
    let refused = |base| {
        let given = [("Reservations", "true"), ("InventoryGrpcAddr", "inventory:1"), ("ReservationApiBase", base)];
        let stack = Stack::new(&project.template, &given);
        stack.is_accepted().is_err()
    };
    faults
        .unless(refused(OTHER) && !refused(""), "Rules: with Reservations refuse a ReservationApiBase, and take none");
    for (parameters, base, access) in cases {
        let stack = given(&project.template, &parameters);
        // Who waits is let in at the API of his stack alone.
        let calls = |path: &Path<'_>| match path.code.system() {
            System::Settlement => true,
            System::WaitingRoom => access.is_some() && !path.function.variables()["RESERVATION_API_BASE"].is_null(),
            System::Reservations | System::Bookings => false,
        };
        for path in project.template.paths().into_iter().filter(calls) {
            let environment = stack.environment(path.function);
            let found = (environment.get("RESERVATION_API_BASE"), Source::get(&environment, "RESERVATION_API_AUTH"));
            let right = found.0 == Some(&base) && found.1.as_deref() == access;
            let fault = format!("{}: with {parameters:?} it calls {found:?}, not {base:?} by {access:?}", path.name);
            faults.unless(right, fault);
            if let Err(error) = read(&stack, &path) {
                faults.add(format!("{}: with {parameters:?} it does not start: {error}", path.name));
            }
        }
    }
}

/// No record starts with less time left than its budget, and some start late: records of one reservation run one after
/// the other. Half a budget on top lets a second one start behind a first that took half of its worst time. With less,
/// the second would go back to its queue whenever a service is slow, and use up a receive. A second tick of one line does what
/// the first has not done, and is not missed.
fn calls_end_before_timeout(project: &Project, faults: &mut Faults) {
    for path in project.template.paths() {
        let (id, name) = (path.function.id, path.name);
        let Ok(limits) = read(&given(&project.template, &[]), &path) else {
            faults.add(format!("{id}: it does not start with the parameters' defaults"));
            continue;
        };
        let timeout = project.template.range(&path.function.properties["Timeout"]).map(|(least, _)| least);
        let timeout = Duration::from_secs(timeout.unwrap_or_default());
        let budget = limits.budget;
        let needed = if path.code.keeps_dead_letters { budget * 3 / 2 } else { budget };
        let fault = format!("{id}: a record of {name} takes up to {budget:?}, so Timeout must be at least {needed:?}");
        faults.unless(timeout >= needed, fault);
    }
}
