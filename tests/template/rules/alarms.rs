//! Alarms: that whatever needs a person raises one, and that each watches something that is really written.

use local_stack::catalogue::System;
use serde_json::{Value, json};
use shared::{
    name::Named,
    reservation::sweep::Act,
    settlement::{Outcome, workflow::Guard},
};

use super::{Faults, Rule};
use crate::{
    code,
    evaluate::Stack,
    project::{Project, edit},
    template::{API, Deployed, Resource, Template, fields, items, number},
};

const ALARM: &str = "AWS::CloudWatch::Alarm";

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a dead letter raises an alarm",
        check: dead_letters_raise_one,
        breaks: &[
            edit("MetricName: ApproximateNumberOfMessagesVisible", "MetricName: NumberOfMessagesSent"),
            edit(
                "- !Sub ${EventType}DeadLetterQueue\n                - QueueName",
                "- !Sub ${EventType}Queue\n                - QueueName",
            ),
            edit("Threshold: 0", "Threshold: 1"),
            edit("Statistic: Maximum", "Statistic: Average"),
        ],
    },
    Rule {
        name: "a message that waits too long raises an alarm",
        check: waiting_raises_one,
        breaks: &[
            edit("MetricName: ApproximateAgeOfOldestMessage", "MetricName: NumberOfMessagesReceived"),
            edit("Default: 300\n  LateApproval", "Default: 864000\n  LateApproval"),
        ],
    },
    Rule {
        name: "a function that fails, is throttled or slow raises an alarm",
        check: functions_raise_them,
        breaks: &[
            edit("MetricName: Errors", "MetricName: DeadLetterErrors"),
            edit("MetricName: Throttles", "MetricName: Invocations"),
            edit("MetricName: Duration", "MetricName: PostRuntimeExtensionsDuration"),
            edit("Threshold: 24000", "Threshold: 30000"),
            edit("Ref: !Sub ${EventType}Function", "Ref: PaymentFailedFunction"),
            edit("ExtendedStatistic: p99", "Statistic: Average"),
            edit("Threshold: 8000", "Threshold: 10000"),
            edit("!Ref ReservationApiFunction}]", "!Ref PaymentFailedFunction}]"),
        ],
    },
    Rule {
        name: "an API that answers with faults, or late, raises an alarm",
        check: apis_raise_them,
        breaks: &[
            edit("MetricName: 5xx", "MetricName: 4xx"),
            edit("MetricName: Latency", "MetricName: IntegrationLatency"),
            edit("ExtendedStatistic: p95", "ExtendedStatistic: p50"),
            edit("[{Name: ApiId, Value: !Ref Api}]", "[{Name: Stage, Value: $default}]"),
            edit("Default: 5\n  LatencyAlarmMs", "Default: 500\n  LatencyAlarmMs"),
            edit("    Default: 1000\n  LogLevel", "    Default: 60000\n  LogLevel"),
            edit("MetricName: ExecutionError", "MetricName: ClientError"),
            edit("{Name: status, Value: \"500\"}", "{Name: status, Value: \"403\"}"),
            edit("{Name: status, Value: \"503\"}", "{Name: status, Value: \"403\"}"),
        ],
    },
    Rule {
        name: "a sweep that finds or misses something raises an alarm",
        check: sweeps_raise_them,
        breaks: &[
            edit("MetricName: reservation_sweep_unfinished_total", "MetricName: reservation_swept_total"),
            edit("Value: rearmed", "Value: failed"),
            edit("Value: republished", "Value: failed"),
        ],
    },
    Rule {
        name: "an event that needs a person raises an alarm",
        check: people_are_called,
        breaks: &[
            edit("Value: rejected", "Value: exhausted"),
            edit("Value: inventory_conflict", "Value: malformed_body"),
            edit("MetricName: worker_unstarted_total", "MetricName: worker_cold_start"),
            edit("MetricName: worker_early_for_a_day_total", "MetricName: worker_unstarted_total"),
            edit("Value: late_approval", "Value: duplicate"),
            edit("Value: refused", "Value: success"),
            edit("MetricName: db_unready_total", "MetricName: db_connects_total"),
            edit("MetricName: batch_unrolled_total", "MetricName: db_connects_total"),
            edit("MetricName: OffsetLag", "MetricName: IteratorAge"),
        ],
    },
    Rule {
        name: "an alarm on a metric of our own watches what the code writes",
        check: own_metrics_are_written,
        breaks: &[
            edit("          Namespace: !Sub Holdfast/${AWS::StackName}", "          Namespace: Holdfast"),
            edit("METRICS_NAMESPACE: !Sub Holdfast/${AWS::StackName}", "METRICS_NAMESPACE: Holdfast"),
            edit("MetricName: worker_dead_letters_total", "MetricName: worker_dead_letters"),
            edit("{Name: outcome, Value: rejected}", "{Name: result, Value: rejected}"),
            edit("Value: rejected", "Value: reject"),
            edit("Value: inventory_conflict", "Value: conflict"),
            edit("{Name: type, Value: payment.approved}", "{Name: type, Value: payment.failed}"),
            edit("            - {Name: outcome, Value: rejected}\n", ""),
        ],
    },
    Rule {
        name: "an alarm tells somebody, and names its stack",
        check: tells_somebody,
        breaks: &[
            edit("          AlarmActions: !If [HasAlarmTopic, [!Ref AlarmTopicArn], !Ref AWS::NoValue]\n", ""),
            edit(
                "HasAlarmTopic: !Not [!Equals [!Ref AlarmTopicArn, \"\"]]",
                "HasAlarmTopic: !Equals [!Ref AlarmTopicArn, \"\"]",
            ),
            edit("          TreatMissingData: notBreaching\n", ""),
            edit("AlarmName: !Sub ${AWS::StackName}-payment-approved-late-approvals", "AlarmName: late-approvals"),
        ],
    },
];

fn dimensions(alarm: &Resource<'_>) -> Vec<(String, Value)> {
    let dimension = |dimension: &Value| Some((dimension["Name"].as_str()?.to_owned(), dimension["Value"].clone()));
    items(&alarm.properties["Dimensions"]).into_iter().filter_map(dimension).collect()
}

/// The alarms on one metric with just these dimensions.
fn watching<'t>(template: &'t Template, namespace: &Value, metric: &str, with: &[(&str, Value)]) -> Vec<Resource<'t>> {
    let with: Vec<(String, Value)> = with.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    let matches = |alarm: &Resource<'_>| {
        alarm.properties["Namespace"] == *namespace
            && alarm.properties["MetricName"] == metric
            && dimensions(alarm) == with
    };
    template.of_type(ALARM).into_iter().filter(matches).collect()
}

/// The smallest whole number that raises the alarm, when it is one that goes off above a threshold.
fn least(template: &Template, alarm: &Resource<'_>) -> Option<u64> {
    let threshold = number(&Stack::new(template, &[]).value(&alarm.properties["Threshold"]))?;
    match alarm.properties["ComparisonOperator"].as_str()? {
        "GreaterThanThreshold" => threshold.checked_add(1),
        "GreaterThanOrEqualToThreshold" => Some(threshold),
        _ => None,
    }
}

/// Requires an alarm on a metric, taken by one of `statistics`, that goes off at a number up to `at_most`.
pub(super) fn require(
    template: &Template,
    metric: (&Value, &str, &[(&str, Value)]),
    statistics: &[&str],
    at_most: u64,
    faults: &mut Faults,
) {
    let (namespace, name, with) = metric;
    let fits = |alarm: &Resource<'_>| {
        let statistic = [&alarm.properties["Statistic"], &alarm.properties["ExtendedStatistic"]];
        let statistic = statistic.into_iter().find_map(Value::as_str).unwrap_or_default();
        statistics.contains(&statistic) && least(template, alarm).is_some_and(|least| least <= at_most)
    };
    let of: Vec<String> = with.iter().map(|(name, value)| format!("{name} {value}")).collect();
    let (of, by) = (of.join(" and "), statistics.join(" or "));
    let fault = format!("add an alarm on the {by} of {name} ({of}) that goes off at {at_most} or less");
    faults.unless(watching(template, namespace, name, with).iter().any(fits), fault);
}

/// What SQS moves by itself does not count as sent, so only the number that lies there tells.
fn dead_letters_raise_one(project: &Project, faults: &mut Faults) {
    for dead_letters in project.template.paths().into_iter().filter_map(|path| path.dead_letters) {
        let with = [("QueueName", dead_letters.get("QueueName"))];
        let metric = (&json!("AWS/SQS"), "ApproximateNumberOfMessagesVisible", &with[..]);
        require(&project.template, metric, &["Maximum", "Sum"], 1, faults);
    }
}

/// Before anything is lost: a message that reaches the queue's retention is deleted. What is worth nothing later is no loss.
fn waiting_raises_one(project: &Project, faults: &mut Faults) {
    for path in project.template.paths().into_iter().filter(|path| path.code.keeps_dead_letters) {
        let with = [("QueueName", path.queue.get("QueueName"))];
        let kept = number(&path.queue.properties["MessageRetentionPeriod"]).unwrap_or_default();
        let metric = (&json!("AWS/SQS"), "ApproximateAgeOfOldestMessage", &with[..]);
        require(&project.template, metric, &["Maximum"], kept / 2, faults);
    }
}

fn functions_raise_them(project: &Project, faults: &mut Faults) {
    let namespace = json!("AWS/Lambda");
    for Deployed { function, .. } in project.template.deployed() {
        let with = [("FunctionName", function.reference())];
        let timeout_ms = number(&function.properties["Timeout"]).unwrap_or_default() * 1_000;
        require(&project.template, (&namespace, "Errors", &with), &["Sum"], 1, faults);
        require(&project.template, (&namespace, "Throttles", &with), &["Sum"], 1, faults);
        let before = timeout_ms.saturating_sub(1);
        require(&project.template, (&namespace, "Duration", &with), &["p99", "Maximum"], before, faults);
    }
}

/// A function that answers HTTP fails no invocation, so that its API tells. A customer who waits for seconds goes away, and
/// tries again on top.
fn apis_raise_them(project: &Project, faults: &mut Faults) {
    const MOST_FAULTS: u64 = 10;
    const LONGEST_MS: u64 = 3_000;

    let namespace = json!("AWS/ApiGateway");
    for api in project.template.of_api(API, "HTTP") {
        let with = [("ApiId", api.reference())];
        require(&project.template, (&namespace, "5xx", &with), &["Sum"], MOST_FAULTS, faults);
        require(&project.template, (&namespace, "Latency", &with), &["p95", "p99"], LONGEST_MS, faults);
    }
    // A WebSocket API counts an answer of 403 as a fault of its function too, and so its function's own counts serve.
    for api in project.template.of_api(API, "WEBSOCKET") {
        let with = [("ApiId", api.reference())];
        require(&project.template, (&namespace, "ExecutionError", &with), &["Sum"], 1, faults);
        for status in ["500", "503"] {
            let with = [("route", json!("$connect")), ("status", json!(status))];
            require(&project.template, (&own(project), "http_server_requests_total", &with), &["Sum"], 1, faults);
        }
    }
}

/// The sweep is the last that finds what was lost: whatever it finds, fails at or does not reach is somebody's business.
fn sweeps_raise_them(project: &Project, faults: &mut Faults) {
    let namespace = own(project);
    for act in Act::ALL {
        let with = [("act", json!(act.name()))];
        require(&project.template, (&namespace, "reservation_swept_total", &with), &["Sum"], 1, faults);
    }
    require(&project.template, (&namespace, "reservation_sweep_unfinished_total", &[]), &["Sum"], 1, faults);
}

/// The namespace of our own metrics.
fn own(project: &Project) -> Value {
    let of_first = project.template.paths().into_iter().next();
    of_first.map_or(Value::Null, |path| path.function.variables()["METRICS_NAMESPACE"].clone())
}

/// One rejected event, or one conflict over seats, is a person's business. Late approvals and refused bookings are it only in
/// number.
fn people_are_called(project: &Project, faults: &mut Faults) {
    for path in project.template.paths() {
        let namespace = &path.function.variables()["METRICS_NAMESPACE"];
        let event_type = path.code.event_type;
        let mut calls = Vec::new();
        calls.extend(path.code.keeps_dead_letters.then_some(("worker_events_total", "outcome", "rejected", 1)));
        match path.code.settling {
            Some(settling) => {
                // A hold that never ends keeps its seats from everybody, and nothing of it ever fails.
                if settling.workflow.guard == Guard::Expired {
                    let early = [("type", json!(event_type))];
                    require(
                        &project.template,
                        (namespace, "worker_early_for_a_day_total", &early),
                        &["Sum"],
                        1,
                        faults,
                    );
                }
                calls.push(("worker_dead_letters_total", "error_code", "inventory_conflict", 1));
                if settling.lost_race == Outcome::LateApproval {
                    calls.push(("worker_events_total", "outcome", "late_approval", u64::MAX));
                }
            }
            None if event_type == "booking.created" => {
                calls.push(("worker_events_total", "outcome", "refused", u64::MAX));
            }
            None => {}
        }
        // What the database does is told by the type alone, and how far a topic is ahead by the function.
        if path.code.system() == System::Bookings {
            let by_type = [("type", json!(event_type))];
            for (metric, at_most) in
                [("db_unready_total", 1), ("db_connects_total", 1_000), ("batch_unrolled_total", 1)]
            {
                require(&project.template, (namespace, metric, &by_type), &["Sum"], at_most, faults);
            }
            let by_function = [("FunctionName", path.function.reference())];
            require(
                &project.template,
                (&json!("AWS/Lambda"), "OffsetLag", &by_function),
                &["Maximum"],
                u64::MAX,
                faults,
            );
        }
        // A timeout below the budget, or a wrong clock, is mended by nobody but a person, and no record starts meanwhile.
        let unstarted = [("type", json!(event_type))];
        require(&project.template, (namespace, "worker_unstarted_total", &unstarted), &["Sum"], 1, faults);
        for (metric, dimension, value, at_most) in calls {
            let with = [("type", json!(event_type)), (dimension, json!(value))];
            require(&project.template, (namespace, metric, &with), &["Sum"], at_most, faults);
        }
    }
}

/// CloudWatch knows a metric by its namespace and all of its dimensions; an alarm on any other stays silent forever.
fn own_metrics_are_written(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let is_ours = |alarm: &Resource<'_>| {
        !alarm.properties["Namespace"].as_str().is_some_and(|namespace| namespace.starts_with("AWS/"))
    };
    for alarm in template.of_type(ALARM).into_iter().filter(is_ours) {
        let (id, namespace) = (alarm.id, &alarm.properties["Namespace"]);
        let same = template.paths().iter().all(|path| path.function.variables()["METRICS_NAMESPACE"] == *namespace);
        faults.unless(same, format!("{id}: METRICS_NAMESPACE of each function must be {namespace}"));
        let dimensions = dimensions(&alarm);
        let dimensions: Vec<(&str, &str)> =
            dimensions.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?))).collect();
        let name = alarm.properties["MetricName"].as_str().unwrap_or_default();
        if let Err(fault) = code::metric_exists(name, &dimensions) {
            faults.add(format!("{id}: {fault}"));
        }
    }
}

/// The topic is asked for by evaluation, so that the condition on the parameter is judged with it.
fn tells_somebody(project: &Project, faults: &mut Faults) {
    const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:on-call";
    let template = &project.template;
    let (with, without) = (Stack::new(template, &[("AlarmTopicArn", TOPIC)]), Stack::new(template, &[]));
    for alarm in template.of_type(ALARM) {
        let (id, actions) = (alarm.id, &alarm.properties["AlarmActions"]);
        let told = with.value(actions) == json!([TOPIC]) && without.value(actions).is_null();
        faults.unless(told, format!("{id}: AlarmActions must be [AlarmTopicArn], or nothing where that is empty"));
        let says = fields(alarm.properties).into_iter().any(|(key, _)| key == "TreatMissingData");
        faults.unless(says, format!("{id}: set TreatMissingData, since most metrics are absent while all is well"));
        let named = alarm.properties["AlarmName"]["Fn::Sub"]
            .as_str()
            .is_some_and(|name| name.starts_with("${AWS::StackName}-"));
        faults.unless(
            named,
            format!("{id}: begin AlarmName with the stack's name, so that two stacks fit in one account"),
        );
    }
}
