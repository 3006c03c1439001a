//! The waiting room: that what it can't work with is refused before anything is deployed, and that lines which go wrong, or
//! stand still, call somebody.

use serde_json::{Value, json};

use super::{Faults, Rule, alarms, events};
use crate::{
    evaluate::Stack,
    project::{Project, edit},
    template::number,
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a waiting room whose turns lead nowhere, or whose places could not be named, is refused in time",
        check: refused_in_time,
        breaks: &[
            edit(
                "      - Assert: {Fn::Equals: [!Ref Reservations, \"true\"]}\n        AssertDescription: Reservations must",
                "      - Assert: {Fn::Equals: [1, 1]}\n        AssertDescription: Reservations must",
            ),
            edit(
                "      - Assert: {Fn::Not: [Fn::Equals: [!Ref SecretArn, \"\"]]}\n",
                "      - Assert: {Fn::Equals: [1, 1]}\n",
            ),
            edit(
                "  PlacesHaveKeys:\n    RuleCondition: !Equals [!Ref WaitingRoom, \"true\"]\n",
                "  PlacesHaveKeys:\n    RuleCondition: !Equals [!Ref Reservations, \"true\"]\n",
            ),
        ],
    },
    Rule {
        name: "a line that stands still, or is unfair, or lets in too many, raises an alarm",
        check: lines_raise_them,
        breaks: &[
            edit(
                "MetricName: booking_worker_tick_age_seconds",
                "MetricName: booking_worker_processing_duration_seconds",
            ),
            edit("      Threshold: 20\n", "      Threshold: 200\n"),
            edit("MetricName: booking_worker_errors_total", "MetricName: booking_worker_inside"),
            edit("MetricName: booking_worker_late_joins_total", "MetricName: booking_worker_queue_length"),
            edit("      Threshold: 15 # s", "      Threshold: 60 # s"),
            edit("MetricName: booking_worker_admitted_without_seat_total", "MetricName: booking_worker_free_tickets"),
        ],
    },
    Rule {
        name: "a clock that nobody winds up raises an alarm",
        check: stopped_clock_raises_one,
        breaks: &[
            edit("TreatMissingData: breaching", "TreatMissingData: notBreaching"),
            edit("MetricName: Invocations", "MetricName: Errors"),
            edit(
                "ComparisonOperator: LessThanThreshold\n      Threshold: 1\n",
                "ComparisonOperator: LessThanThreshold\n      Threshold: 0\n",
            ),
            edit(
                "      EvaluationPeriods: 3\n      ComparisonOperator: Less",
                "      EvaluationPeriods: 1\n      ComparisonOperator: Less",
            ),
        ],
    },
    Rule {
        name: "where nobody can be told at once, nothing is kept for it, and where somebody can it is told",
        check: told_where_somebody_listens,
        breaks: &[
            edit("      State: !If [TellsAtOnce, ENABLED, DISABLED]\n", ""),
            edit("            Enabled: !If [TellsAtOnce, true, false]\n", ""),
            edit("State: !If [TellsAtOnce, ENABLED, DISABLED]", "State: !If [TellsAtOnce, DISABLED, ENABLED]"),
            edit("            Enabled: !If [TellsAtOnce, true, false]\n", "            Enabled: false\n"),
            edit("!Not [!Equals [!Ref RealtimeGrpcAddr, \"\"]]", "!Not [!Equals [!Ref PaymentGrpcAddr, \"\"]]"),
            edit("\"\"]], !Equals [!Ref WaitingRoomPush, \"true\"]]", "\"\"]], !Equals [!Ref WaitingRoomPush, never]]"),
        ],
    },
];

const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:keys-AbCdEf";

/// A turn becomes a reservation at the API of the stack itself, and places and tokens are named by keys of the secret.
fn refused_in_time(project: &Project, faults: &mut Faults) {
    let base = [
        ("WaitingRoom", "true"),
        ("Reservations", "true"),
        ("InventoryGrpcAddr", "inventory:8021"),
        ("SecretArn", SECRET),
    ];
    let refused: [&[(&str, &str)]; 3] = [
        &[("SecretArn", "")],
        &[("Reservations", "false"), ("ReservationApiBase", "https://reservation-api.example")],
        &[("Reservations", "false"), ("Settlement", "false")],
    ];
    let taken: [&[(&str, &str)]; 2] = [&[], &[("WaitingRoom", "false"), ("SecretArn", "")]];
    faults.unless_judged(project, &base, (&refused, &taken));
}

/// Lines are not told apart: a set of dimensions for each would be a metric that is paid for.
fn lines_raise_them(project: &Project, faults: &mut Faults) {
    let namespace = json!({"Fn::Sub": "Holdfast/${AWS::StackName}"});
    for (metric, statistics, at_most) in [
        // Ticks come each second.
        ("booking_worker_tick_age_seconds", &["Maximum"][..], 30),
        ("booking_worker_errors_total", &["Sum"], 1),
        ("booking_worker_late_joins_total", &["Sum"], 1),
        // A tick waits for no join that comes later than 15 s after its customer (`waiting_room::line`).
        ("booking_worker_placement_lag_seconds", &["Maximum", "p99"], 16),
        ("booking_worker_admitted_without_seat_total", &["Sum"], 1),
    ] {
        alarms::require(&project.template, (&namespace, metric, &[]), statistics, at_most, faults);
    }
}

/// Without the address the function would not start, and its messages would pile up as dead letters.
fn told_where_somebody_listens(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let paths = template.paths();
    let Some(path) = paths.iter().find(|path| path.name == waiting_room_called::NAME) else {
        faults.add("nobody is told at once");
        return;
    };
    let mapping = &path.function.properties["Events"]["Queue"]["Properties"]["Enabled"];
    for (address, push, state, polls) in [
        ("", "false", "DISABLED", false),
        ("realtime:8041", "false", "ENABLED", true),
        ("", "true", "ENABLED", true),
        ("realtime:8041", "true", "ENABLED", true),
    ] {
        let given = [
            ("WaitingRoom", "true"),
            ("PaymentGrpcAddr", ""),
            ("RealtimeGrpcAddr", address),
            ("WaitingRoomPush", push),
        ];
        let stack = Stack::new(template, &given);
        let states: Vec<Value> =
            events::senders(template, path).iter().map(|rule| stack.value(&rule.properties["State"])).collect();
        let found = (states, stack.value(mapping));
        let expected = (vec![json!(state)], json!(polls));
        let fault = format!(
            "{}: with the address {address:?} and pushes {push} rule and mapping are {found:?}",
            path.function.id
        );
        faults.unless(found == expected, fault);
    }
}

/// Where nobody invokes the function, Lambda writes nothing, and none of our metrics tells either. A single minute without an
/// invocation may lie between two that are close to it.
fn stopped_clock_raises_one(project: &Project, faults: &mut Faults) {
    let deployed = project.template.deployed();
    let Some(clock) = deployed.iter().find(|deployed| deployed.entry.name == waiting_room_clock::NAME) else {
        faults.add("there is no clock");
        return;
    };
    let dimensions = json!([{"Name": "FunctionName", "Value": clock.function.reference()}]);
    let alarms = project.template.of_type("AWS::CloudWatch::Alarm");
    let tells = alarms.iter().map(|alarm| alarm.properties).any(|alarm| {
        let is_of_it = alarm["MetricName"] == "Invocations" && alarm["Dimensions"] == dimensions;
        let minutes = number(&alarm["EvaluationPeriods"]).unwrap_or_default();
        let below_one = alarm["ComparisonOperator"] == "LessThanThreshold" && alarm["Threshold"] == 1;
        is_of_it && below_one && alarm["TreatMissingData"] == "breaching" && alarm["Period"] == 60 && minutes >= 2
    });
    faults.unless(tells, format!("{}: add an alarm on minutes without an invocation", clock.function.id));
}
