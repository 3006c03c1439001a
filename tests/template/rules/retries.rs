//! How often a message comes back, for how long, and who hears of it before it dies.

use std::time::Duration;

use local_stack::{
    catalogue,
    stack::{MAX_RECEIVES, MOVED_AFTER, WAITING_ROOM_KEYS},
};
use serde_json::json;
use shared::{
    backoff::Backoff,
    config::{Source, secret::SecretFields},
    trigger::sqs::Limits,
};

use super::{Faults, Rule, environment, stages};
use crate::{
    code::FAILING,
    evaluate::Stack,
    project::{File, Project, edit, edit_in},
    template::{FUNCTION, Path, Template, number},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "the worker dead-letters a message before SQS moves it without a reason",
        check: dead_lettered_before_moved,
        breaks: &[
            edit("maxReceiveCount: 24", "maxReceiveCount: 20"),
            edit("maxReceiveCount: 24", "maxReceiveCount: !Ref MaxReceives"),
            edit("MaxValue: 20\n", "MaxValue: 24\n"),
            edit("          MAX_RETRIES: !Ref MaxReceives\n", ""),
        ],
    },
    Rule {
        name: "the retries by default are those of the code, and of the local stack",
        check: defaults_are_one,
        breaks: &[
            edit("Default: 12\n", "Default: 5\n"),
            edit("Default: 1000\n", "Default: 2000\n"),
            edit("Default: 900000\n", "Default: 600000\n"),
            edit("maxReceiveCount: 24", "maxReceiveCount: 25"),
        ],
    },
    Rule {
        name: "events that go on failing are counted from the lines that the code writes",
        check: failing_counted,
        breaks: &[
            edit("$.outcome = \"retried\"", "$.outcome = \"repeated\""),
            edit("$.attempt >= 10", "$.receives >= 10"),
            edit("{Key: type, Value: $.event_type}", "{Key: type, Value: $.type}"),
            edit(
                "MetricName: worker_failing_total\n              MetricValue",
                "MetricName: failing\n              MetricValue",
            ),
            edit(
                "            - MetricNamespace: !Sub Holdfast/${AWS::StackName}",
                "            - MetricNamespace: Holdfast",
            ),
            edit(
                "LogGroupName:\n            Ref: !Sub ${EventType}LogGroup",
                "LogGroupName:\n            Ref: PaymentFailedLogGroup",
            ),
        ],
    },
    Rule {
        name: "somebody hears of an outage before an event dies of it",
        check: heard_of_before_death,
        breaks: &[
            edit("Default: 300\n  LateApproval", "Default: 900\n  LateApproval"),
            edit("OldestMessageSeconds: \"1500\"", "OldestMessageSeconds: \"1499\""),
            edit(", OldestMessageSeconds: \"1500\"", ""),
            edit(
                "            - HasReservations\n            - !FindInMap",
                "            - HasSettlement\n            - !FindInMap",
            ),
            edit("MAX_HOLD_SECONDS: \"900\"", "MAX_HOLD_SECONDS: \"901\""),
            edit("EvaluationPeriods: 3", "EvaluationPeriods: 15"),
            edit("$.attempt >= 10", "$.attempt >= 12"),
            edit(
                "MetricName: worker_failing_total\n          Dimensions",
                "MetricName: worker_failed\n          Dimensions",
            ),
            edit_in(File::Stages, "\"MaximumConcurrency=300\"", "\"MaxReceives=10\""),
            edit_in(File::Stages, "\"MaximumConcurrency=300\"", "\"MaxReceives=5\""),
            edit_in(File::Stages, "\"MaximumConcurrency=300\"", "\"OldestMessageAlarmSeconds=3600\""),
            edit_in(File::Stages, "\"MaximumConcurrency=300\"", "\"BackoffCapMs=60000\""),
        ],
    },
];

/// For so long whoever is on call hears nothing of a delayed message that has become due.
const WORKED_AFTER_A_DELAY: Duration = Duration::from_secs(600);

/// The shortest and the longest that a message waits before its last receive when nothing asks for a longer wait.
pub(super) fn window(last_receive: u32, backoff: &Backoff) -> (Duration, Duration) {
    let waits = (1..last_receive).map(|receive| backoff.bounds(receive));
    waits.fold(Default::default(), |(least, most), (shortest, longest)| (least + shortest, most + longest))
}

/// The limits that the code has where nothing sets them.
pub(super) fn defaults(path: &Path<'_>) -> Result<Limits, String> {
    struct Bare;
    impl Source for Bare {
        fn get(&self, name: &str) -> Option<String> {
            match name {
                "IDEMPOTENCY_TABLE" => Some("idempotency".to_owned()),
                "INVENTORY_GRPC_ADDR" => Some("inventory:8021".to_owned()),
                "RESERVATION_API_BASE" => Some("http://reservation-api:8010".to_owned()),
                "GRPC_REALTIME_SERVICE_ENDPOINT" => Some("realtime:8057".to_owned()),
                "DB_HOST" => Some("database".to_owned()),
                "DB_USER" | "DB_PASSWORD" => Some("holdfast_app".to_owned()),
                "WAITING_ROOM_TABLE" | "EVENT_BUS_NAME" => Some("holdfast".to_owned()),
                _ => None,
            }
        }
    }
    let secret = SecretFields::parse(&json!({"waiting_room_key": WAITING_ROOM_KEYS}).to_string());
    environment::within_runtime(|| catalogue::composed(path.name, &Bare, Some(secret), path.code.limits))
        .map_err(|error| error.to_string())
}

/// The last receive and the back-off that a function of this stack has. Read by hand, since settings make clients, and
/// many stacks are asked.
fn retries(stack: &Stack<'_>, path: &Path<'_>) -> Option<(u32, Backoff)> {
    let variables = stack.environment(path.function);
    let number = |name: &str| variables.get(name)?.parse::<u32>().ok();
    let milliseconds = |name: &str| Some(Duration::from_millis(number(name)?.into()));
    let backoff = Backoff::try_new(milliseconds("BACKOFF_BASE_MS")?, milliseconds("BACKOFF_CAP_MS")?);
    Some((number("MAX_RETRIES")?, backoff.ok()?))
}

fn dead_lettered_before_moved(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for path in template.paths().into_iter().filter(|path| path.code.keeps_dead_letters) {
        let last = template.range(&path.function.variables()["MAX_RETRIES"]).map(|(_, most)| most);
        let moved = template.range(&path.queue.properties["RedrivePolicy"]["maxReceiveCount"]).map(|(least, _)| least);
        let above = last.zip(moved).is_some_and(|(last, moved)| moved > last);
        let fault = format!(
            "{}: its maxReceiveCount must be above every MAX_RETRIES that {} may have, and it is {moved:?} above {last:?}",
            path.queue.id, path.function.id
        );
        faults.unless(above, fault);
    }
}

fn defaults_are_one(project: &Project, faults: &mut Faults) {
    for path in project.template.paths() {
        let id = path.function.id;
        let deployed = environment::read(&environment::given(&project.template, &[]), &path);
        let deployed = deployed.map_err(|error| error.to_string());
        let (deployed, plain) = match (deployed, defaults(&path)) {
            (Ok(deployed), Ok(plain)) => (deployed, plain),
            (Err(error), _) | (_, Err(error)) => {
                faults.add(format!("{id}: it does not start with the defaults: {error}"));
                continue;
            }
        };
        // Where nobody is given up by the number of tries, people wait, and shorter than an event.
        let same_wait = deployed.backoff == plain.backoff || !path.code.gives_up;
        let same = deployed.max_receives == plain.max_receives && same_wait;
        let fault = format!("{id}: by default the template gives it {deployed:?}, and the code itself {plain:?}");
        faults.unless(same, fault);
        let fault = format!("{id}: the local stack's MAX_RECEIVES must be {}", plain.max_receives);
        faults.unless(plain.max_receives == MAX_RECEIVES, fault);
        if !path.code.gives_up {
            continue;
        }
        let moved = number(&path.queue.properties["RedrivePolicy"]["maxReceiveCount"]);
        let fault = format!("{}: the local stack's MOVED_AFTER must be its maxReceiveCount", path.queue.id);
        faults.unless(moved == Some(MOVED_AFTER.into()), fault);
    }
}

/// The receive from which on a failing event is counted, as the filter on the log of this path says it.
fn counted_from(template: &Template, path: &Path<'_>) -> Option<u32> {
    let group = &path.function.properties["LoggingConfig"]["LogGroup"];
    let filters = template.of_type("AWS::Logs::MetricFilter");
    let filter = filters.iter().find(|filter| filter.properties["LogGroupName"] == *group)?;
    let pattern = filter.properties["FilterPattern"].as_str()?;
    pattern.strip_prefix("{ $.outcome = \"retried\" && $.attempt >= ")?.strip_suffix(" }")?.parse().ok()
}

/// The names are those of the log, which `tests/integration/telemetry.rs` holds the code to.
fn failing_counted(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for path in template.paths().into_iter().filter(|path| path.code.keeps_dead_letters) {
        let id = path.function.id;
        let group = &path.function.properties["LoggingConfig"]["LogGroup"];
        let pattern = counted_from(template, &path).is_some();
        faults.unless(
            pattern,
            format!("{id}: add a filter to its log group, {{ $.outcome = \"retried\" && $.attempt >= 10 }}"),
        );
        let expected = json!([{
            "MetricNamespace": path.function.variables()["METRICS_NAMESPACE"],
            "MetricName": FAILING,
            "MetricValue": "1",
            "Dimensions": [{"Key": "type", "Value": "$.event_type"}],
        }]);
        let filters = template.of_type("AWS::Logs::MetricFilter");
        for filter in filters.iter().filter(|filter| filter.properties["LogGroupName"] == *group) {
            let fault = format!("{}: its MetricTransformations must be {expected}", filter.id);
            faults.unless(filter.properties["MetricTransformations"] == expected, fault);
        }
    }
}

/// With the defaults and in each stage: an alarm on events that fail goes off two receives before the last or earlier, and
/// the one on the age of messages before the shortest time that an event lives for, however short its waits are. Where
/// messages are delayed on purpose, their age says less: that alarm must not go off for a message that is only delayed, and
/// the first of the two is the one that tells of a death.
fn heard_of_before_death(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let given = stages::stages(project).into_iter().map(|(name, stage)| (name, stages::overrides(stage, "deploy")));
    for (stage, parameters) in given.chain([("by default", Vec::new())]) {
        let stack = Stack::new(template, &parameters);
        for path in template.paths().into_iter().filter(|path| path.code.gives_up) {
            let Some((last, backoff)) = retries(&stack, &path) else {
                faults.add(format!("{stage}: {} must have MAX_RETRIES and a back-off", path.name));
                continue;
            };
            let (least, most) = window(last, &backoff);
            let counted = counted_from(template, &path).filter(|_| has_failing_alarm(template, &path));
            let in_time = counted.is_some_and(|counted| counted + 2 <= last);
            let fault = format!(
                "{stage}: add an alarm on {FAILING} of {}, two receives or more before the last, which is {last}",
                path.name
            );
            faults.unless(in_time, fault);
            match (age_alarm(template, &stack, &path), longest_delay(template, &stack, &path)) {
                (Some(alarm), Some(delay)) => {
                    let at_least = delay + WORKED_AFTER_A_DELAY;
                    let fault = format!(
                        "{stage}: messages in {} are delayed for up to {delay:?}, so the alarm on their age must have a \
                         Threshold of {at_least:?} or more, and it has {:?}",
                        path.queue.id, alarm.threshold
                    );
                    faults.unless(alarm.threshold >= at_least, fault);
                }
                (Some(alarm), None) => {
                    let alarm = alarm.threshold + alarm.evaluated;
                    let fault = format!(
                        "{stage}: an event of {} is dead after {least:?} to {most:?}, and an alarm on its age fires \
                         after {alarm:?}; raise MaxReceives or BackoffCapMs, or lower OldestMessageAlarmSeconds",
                        path.name
                    );
                    faults.unless(alarm < least, fault);
                }
                (None, _) => faults.add(format!("{stage}: add an alarm on the age of messages in {}", path.queue.id)),
            }
        }
    }
}

/// An alarm on the age of the oldest message.
struct AgeAlarm {
    /// The age that it goes off above.
    threshold: Duration,
    /// For so long the age must be above it.
    evaluated: Duration,
}

fn age_alarm(template: &Template, stack: &Stack<'_>, path: &Path<'_>) -> Option<AgeAlarm> {
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    let queue = path.queue.get("QueueName");
    let alarm = alarms.iter().map(|alarm| alarm.properties).find(|alarm| {
        alarm["MetricName"] == "ApproximateAgeOfOldestMessage" && alarm["Dimensions"][0]["Value"] == queue
    })?;
    let threshold = Duration::from_secs(number(&stack.value(&alarm["Threshold"]))?);
    let evaluated = Duration::from_secs(number(&alarm["Period"])? * number(&alarm["EvaluationPeriods"])?);
    Some(AgeAlarm { threshold, evaluated })
}

/// How long a message in this queue may be delayed on purpose; nothing, where none is. A timer is a message that is delayed
/// until its hold's deadline, and no function of the stack lets a hold last longer than this.
fn longest_delay(template: &Template, stack: &Stack<'_>, path: &Path<'_>) -> Option<Duration> {
    let functions = template.of_type(FUNCTION).into_iter().filter(|function| stack.makes(function.body));
    let environments: Vec<_> = functions.map(|function| stack.environment(function)).collect();
    let url = stack.value(&path.queue.reference());
    let takes_timers = environments
        .iter()
        .any(|variables| variables.get("EXPIRY_QUEUE_URL").is_some_and(|timers| url == timers.as_str()));
    let longest_hold =
        environments.iter().filter_map(|variables| variables.get("MAX_HOLD_SECONDS")?.parse().ok()).max();
    longest_hold.filter(|_| takes_timers).map(Duration::from_secs)
}

/// Whether one such event is enough for an alarm.
fn has_failing_alarm(template: &Template, path: &Path<'_>) -> bool {
    template.of_type("AWS::CloudWatch::Alarm").iter().map(|alarm| alarm.properties).any(|alarm| {
        alarm["MetricName"] == FAILING
            && alarm["Dimensions"][0]["Value"] == path.code.event_type
            && alarm["Threshold"] == 0
            && alarm["ComparisonOperator"] == "GreaterThanThreshold"
    })
}
