//! Queues: how long a message is hidden, how long it lives, and where it goes when it dies.

use std::collections::BTreeSet;

use local_stack::catalogue::System;
use serde_json::json;
use shared::{backoff::LONGEST_WAIT, waiting_room::clock::SECONDS};

use super::{Faults, Rule};
use crate::{
    project::{Project, edit},
    template::{QUEUE, Resource, Template, mappings, nodes},
};

const DAY: u64 = 24 * 60 * 60;

/// SQS keeps no message longer.
const LONGEST_RETENTION: u64 = 14 * DAY;

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a message stays hidden while it is worked",
        check: hidden_while_worked,
        breaks: &[
            edit("VisibilityTimeout: 180", "VisibilityTimeout: 179"),
            edit("          VisibilityTimeout: 180\n", ""),
            edit("\n    Timeout: 30\n", "\n    Timeout: 31\n"),
            edit("MaximumBatchingWindowInSeconds: 0", "MaximumBatchingWindowInSeconds: 1"),
        ],
    },
    Rule {
        name: "a dead message outlives a waiting one",
        check: dead_outlive_waiting,
        breaks: &[
            edit("MessageRetentionPeriod: 1209600", "MessageRetentionPeriod: 864000"),
            edit("MessageRetentionPeriod: 864000", "MessageRetentionPeriod: 1209600"),
            edit("          MessageRetentionPeriod: 1209600 # 14 days\n", ""),
        ],
    },
    Rule {
        name: "a finished event is known longer than its message can live",
        check: known_longer_than_alive,
        breaks: &[
            edit("MinValue: 25", "MinValue: 24"),
            edit("    MinValue: 25\n", ""),
            edit("MessageRetentionPeriod: 864000", "MessageRetentionPeriod: 950400"),
        ],
    },
    Rule {
        name: "a message has its last receive before its queue forgets it",
        check: received_before_forgotten,
        breaks: &[
            edit("MessageRetentionPeriod: 864000", "MessageRetentionPeriod: 800000"),
            edit("BACKOFF_CAP_MS: ", "BACKOFF_CAP_MS: 43200000 # "),
            edit("MaxValue: 10800000", "MaxValue: 43200000"),
            edit("MaxValue: 20", "MaxValue: 23"),
            edit("    MaxValue: 20\n", ""),
            edit("maxReceiveCount: 24", "maxReceiveCount: 100"),
        ],
    },
    Rule {
        name: "each queue that is read has a dead-letter queue of its own, unless its messages are worth nothing later",
        check: dead_letter_queue_of_its_own,
        breaks: &[
            edit("          RedrivePolicy:\n", "          Redrive:\n"),
            edit(
                "      MessageRetentionPeriod: 120\n",
                "      MessageRetentionPeriod: 120\n      RedrivePolicy:\n        \
                 deadLetterTargetArn: !GetAtt ReservationChangedGivenUpQueue.Arn\n",
            ),
            edit(
                "- !Sub ${EventType}DeadLetterQueue\n              - Arn\n            maxReceiveCount",
                "- PaymentFailedDeadLetterQueue\n              - Arn\n            maxReceiveCount",
            ),
        ],
    },
    Rule {
        name: "a dead-letter queue takes from its queue alone",
        check: takes_from_its_queue_alone,
        breaks: &[
            edit("redrivePermission: byQueue", "redrivePermission: allowAll"),
            edit(
                "${AWS::AccountId}:${AWS::StackName}-${Function}",
                "${AWS::AccountId}:${AWS::StackName}-payment-failed",
            ),
        ],
    },
    Rule {
        name: "a message that is worth nothing later outlives its delay, and no repeat of it",
        check: lives_for_once,
        breaks: &[
            edit("      MessageRetentionPeriod: 120\n", "      MessageRetentionPeriod: 60\n"),
            edit("      MessageRetentionPeriod: 120\n", "      MessageRetentionPeriod: 345600\n"),
            edit("      MessageRetentionPeriod: 120\n", ""),
        ],
    },
    Rule {
        name: "each queue is a standard queue",
        check: standard,
        breaks: &[
            edit("          VisibilityTimeout: 180\n", "          VisibilityTimeout: 180\n          FifoQueue: true\n"),
            edit("QueueName: !Sub [\"${AWS::StackName}-${Function}\"", "QueueName: !Sub [\"${Function}.fifo\""),
        ],
    },
    Rule {
        name: "each queue is encrypted",
        check: encrypted,
        breaks: &[
            edit("          SqsManagedSseEnabled: true\n          RedrivePolicy", "          RedrivePolicy"),
            edit("SqsManagedSseEnabled: true", "SqsManagedSseEnabled: false"),
        ],
    },
];

/// AWS asks for six times the function's timeout: throttled invocations are repeated for as long, and a message that
/// shows again while it is worked uses up a receive.
fn hidden_while_worked(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for path in template.paths() {
        let id = path.queue.id;
        let hidden = template.range(&path.queue.properties["VisibilityTimeout"]);
        let timeout = template.range(&path.function.properties["Timeout"]);
        let windows = mappings(path.function).into_iter().map(|mapping| &mapping["MaximumBatchingWindowInSeconds"]);
        let window = windows.filter_map(|window| Some(template.range(window)?.1)).max().unwrap_or_default();
        match (hidden, timeout) {
            (Some((hidden, _)), Some((_, timeout))) => {
                let needed = timeout.saturating_mul(6).saturating_add(window);
                let fault = format!(
                    "{id}: VisibilityTimeout is {hidden} s; make it {needed} s, six times the function's timeout and \
                     its batching window"
                );
                faults.unless(hidden >= needed, fault);
            }
            (Some(_) | None, Some(_) | None) => {
                faults.add(format!("{id}: write out VisibilityTimeout, and the function's Timeout"));
            }
        }
    }
}

fn retention(template: &Template, queue: Resource<'_>, faults: &mut Faults) -> Option<u64> {
    let retention = template.range(&queue.properties["MessageRetentionPeriod"]).map(|(_, longest)| longest);
    faults.unless(retention.is_some(), format!("{}: write out MessageRetentionPeriod", queue.id));
    retention
}

/// A message's age counts from when it was first sent, in its dead-letter queue too.
fn dead_outlive_waiting(project: &Project, faults: &mut Faults) {
    for path in project.template.paths() {
        let Some(dead_letters) = path.dead_letters else { continue };
        let waiting = retention(&project.template, path.queue, faults);
        let dead = retention(&project.template, dead_letters, faults);
        let (Some(waiting), Some(dead)) = (waiting, dead) else { continue };
        let fault = format!(
            "{}: keep messages longer than the {waiting} s of {}, or what waited long is gone at once",
            dead_letters.id, path.queue.id
        );
        faults.unless(dead > waiting && dead <= LONGEST_RETENTION, fault);
    }
}

/// A redriven message is new to SQS, so it may wait in its queue a second time.
fn known_longer_than_alive(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for path in template.paths() {
        let forgets = match path.code.system() {
            System::Settlement | System::Reservations => path.function,
            // The inbox of the bookings is cleaned by a function of its own.
            System::Bookings => {
                let deployed = template.deployed().into_iter();
                let mut cleaners = deployed.filter(|deployed| deployed.entry.name == booking_migrate::NAME);
                cleaners.next().map_or(path.function, |cleaner| cleaner.function)
            }
            // A place is what it is, however often it is told.
            System::WaitingRoom => continue,
        };
        let days = template.range(&forgets.variables()["IDEMPOTENCY_TTL_DAYS"]).map(|(least, _)| least);
        let Some(days) = days else {
            faults.add(format!("{}: IDEMPOTENCY_TTL_DAYS must be a number", path.function.id));
            continue;
        };
        let queues = std::iter::once(path.queue).chain(path.dead_letters);
        let alive: u64 = queues.filter_map(|queue| retention(template, queue, faults)).sum();
        let fault = format!(
            "{}: a message lives for {} days, and IDEMPOTENCY_TTL_DAYS can be {days}: raise its MinValue above that",
            path.function.id,
            alive.div_ceil(DAY)
        );
        faults.unless(days.saturating_mul(DAY) > alive, fault);
    }
}

/// What SQS deletes by age never reaches a dead-letter queue. Up to its last receive an expiry may wait for its time, or a
/// message for another's lease, for as long as SQS hides it; what can't be dead-lettered from then on waits by back-off.
fn received_before_forgotten(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let most = |value| template.range(value).map_or(u64::MAX, |(_, most)| most);
    for path in template.paths().into_iter().filter(|path| path.code.keeps_dead_letters) {
        let Some(kept) = retention(template, path.queue, faults) else { continue };
        let variables = path.function.variables();
        let last = most(&variables["MAX_RETRIES"]);
        let dead_letters = most(&path.queue.properties["RedrivePolicy"]["maxReceiveCount"]).saturating_sub(last);
        let hidden = most(&path.queue.properties["VisibilityTimeout"]);
        let waiting = LONGEST_WAIT.as_secs().saturating_add(hidden);
        let back_off = most(&variables["BACKOFF_CAP_MS"]).div_ceil(1_000).saturating_add(hidden);
        let needed = last.saturating_mul(waiting).saturating_add(dead_letters.saturating_mul(back_off));
        let fault = format!(
            "{}: {last} receives with up to {waiting} s between them, and {dead_letters} with up to {back_off} s, take \
             {needed} s, longer than its MessageRetentionPeriod",
            path.queue.id
        );
        faults.unless(needed < kept, fault);
    }
}

fn dead_letter_queue_of_its_own(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let mut taken = BTreeSet::new();
    for path in template.paths() {
        let queue = path.queue.id;
        let Some(dead_letters) = path.dead_letters else {
            let fault = format!("{queue}: add a RedrivePolicy, or messages are lost when they expire");
            faults.unless(!path.code.keeps_dead_letters, fault);
            continue;
        };
        let fault = format!("{queue}: take the RedrivePolicy away; nobody mends what it would keep");
        faults.unless(path.code.keeps_dead_letters, fault);
        let id = dead_letters.id;
        let fault = format!("{queue}: {id} holds another queue's dead letters; give each queue its own");
        faults.unless(taken.insert(id), fault);
        let fault = format!("{id} must be a queue and none that a function reads");
        let is_read = template.paths().iter().any(|path| path.queue.id == id);
        faults.unless(dead_letters.body["Type"] == QUEUE && !is_read, fault);
    }
}

/// A tick is sent up to [`SECONDS`] before it is due. One that has waited as long again is done by others, and each that is
/// kept longer is worked for nothing when its function comes back.
fn lives_for_once(project: &Project, faults: &mut Faults) {
    for path in project.template.paths().into_iter().filter(|path| !path.code.keeps_dead_letters) {
        let Some(kept) = retention(&project.template, path.queue, faults) else { continue };
        let fault = format!("{}: keep messages for more than {SECONDS} s, and for twice that at most", path.queue.id);
        faults.unless(kept > SECONDS && kept <= SECONDS * 2, fault);
    }
}

fn takes_from_its_queue_alone(project: &Project, faults: &mut Faults) {
    const ARN: &str = "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:";
    for path in project.template.paths() {
        let Some(dead_letters) = path.dead_letters else { continue };
        let name = path.queue.properties["QueueName"]["Fn::Sub"].as_str().unwrap_or_default();
        let expected =
            json!({"redrivePermission": "byQueue", "sourceQueueArns": [{"Fn::Sub": format!("{ARN}{name}")}]});
        let fault = format!("{}: RedriveAllowPolicy must be {expected}", dead_letters.id);
        faults.unless(!name.is_empty() && dead_letters.properties["RedriveAllowPolicy"] == expected, fault);
    }
}

/// A FIFO queue holds a whole message group back behind a message that waits, and the worker lets messages wait.
fn standard(project: &Project, faults: &mut Faults) {
    for queue in project.template.of_type(QUEUE) {
        let name = &queue.properties["QueueName"];
        let is_fifo = nodes(name).into_iter().any(|part| part.as_str().is_some_and(|text| text.ends_with(".fifo")));
        let standard = queue.properties["FifoQueue"].is_null() && !is_fifo;
        faults.unless(standard, format!("{}: take FIFO away; order is kept by the reservation's status", queue.id));
    }
}

fn encrypted(project: &Project, faults: &mut Faults) {
    for queue in project.template.of_type(QUEUE) {
        let encrypted = queue.properties["SqsManagedSseEnabled"] == true;
        faults.unless(encrypted, format!("{}: set SqsManagedSseEnabled", queue.id));
    }
}
