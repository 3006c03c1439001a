//! Rules of the bus: which events reach which queue, and that none is lost on the way.

use std::collections::BTreeSet;

use local_stack::catalogue::System;
use serde_json::{Value, json};
use shared::{
    name::Named,
    settlement::event::EventType,
    waiting_room::message::{EventKind, RESERVATION_EVENTS},
};

use super::{Faults, Rule};
use crate::{
    code::{Announcement, announcements},
    evaluate::Stack,
    project::{Project, edit},
    template::{Path, QUEUE, Resource, Template, attribute, fields, items},
};

/// Who publishes what has become of reservations.
const OWN_SOURCE: &str = "holdfast";

const BUS_RULE: &str = "AWS::Events::Rule";

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a queue gets the events that its function settles, and no others",
        check: events_of_its_function,
        breaks: &[
            edit("[reservation.expired, reservation.hold.expired]", "[reservation.expired]"),
            edit(
                "[reservation.expired, reservation.hold.expired]",
                "[reservation.expired, reservation.hold.expired, payment.failed]",
            ),
            edit("- detail-type: [payment.failed]", "- detail-type: [payment.approved]"),
            edit("{status: [FAILED, PAYMENT_STATUS_FAILED]}", "{status: [FAILED]}"),
            edit("{status: [FAILED, PAYMENT_STATUS_FAILED]}", "{status: [FAILED, PAYMENT_STATUS_FAILED, COMPLETED]}"),
            edit("            detail: {status: [FAILED, PAYMENT_STATUS_FAILED]}\n", ""),
            edit(
                "{status: [FAILED, PAYMENT_STATUS_FAILED]}",
                "{status: [FAILED, PAYMENT_STATUS_FAILED], currency: [USD]}",
            ),
            edit("{status: [FAILED, PAYMENT_STATUS_FAILED]}", "{status: [FAILED, {suffix: _FAILED}]}"),
            edit("        source: !Ref PaymentEventSources\n", ""),
            edit("Arn: !GetAtt PaymentFailedQueue.Arn", "Arn: !GetAtt PaymentApprovedQueue.Arn"),
            edit("          - reservation.failed\n", ""),
            edit("          - reservation.failed\n", "          - reservation.failed\n          - place.called\n"),
            edit("Arn: !GetAtt WaitingRoomSettledQueue.Arn", "Arn: !GetAtt WaitingRoomJoinedQueue.Arn"),
            edit("          - place.passed\n", ""),
            edit("          - line.sold_out\n", "          - line.sold_out\n          - reservation.created\n"),
            edit("      EventBusName: !If [MakesBus, !Ref EventBus, !Ref EventBusName]\n", ""),
        ],
    },
    Rule {
        name: "what our own API tells is settled where a customer changed a reservation, and followed where a turn made it",
        check: own_changes_of_customers,
        breaks: &[
            edit("detail: {by: [client]} # What a payment or", "detail: {by: [client, payment]} # What a payment or"),
            edit("            detail: {by: [client]} # What a payment or", "            # What a payment or"),
            edit("        detail: {by: [client]} # What a payment has", "        # What a payment has"),
            edit("          - source: [holdfast]\n", "          - source: [holdfast-api]\n"),
            edit(
                "        source: !Ref ReservationEventSources\n        detail-type: [reservation.expired",
                "        source: [reservation-api, holdfast]\n        detail-type: [reservation.expired",
            ),
            edit("Default: reservation-api", "Default: reservation-api,holdfast"),
            edit("        detail: {queue_item_id: [{exists: true}]}", "        # Whoever made it."),
            edit("detail: {queue_item_id: [{exists: true}]}", "detail: {queue_item_id: [{exists: false}]}"),
        ],
    },
    Rule {
        name: "an event that can't be delivered is tried for a day and then kept",
        check: undeliverable_kept,
        breaks: &[
            edit("          RetryPolicy: {MaximumEventAgeInSeconds: 86400, MaximumRetryAttempts: 185}\n", ""),
            edit("MaximumRetryAttempts: 185", "MaximumRetryAttempts: 5"),
            edit("          DeadLetterConfig: {Arn: !GetAtt PaymentApprovedDeadLetterQueue.Arn}\n", ""),
            edit(
                "{Arn: !GetAtt PaymentApprovedDeadLetterQueue.Arn}",
                "{Arn: !GetAtt PaymentFailedDeadLetterQueue.Arn}",
            ),
        ],
    },
    Rule {
        name: "of all services only its rule may send to a queue, and none to one that has no rule",
        check: only_its_rule_sends,
        breaks: &[
            edit("Principal: {Service: events.amazonaws.com}", "Principal: \"*\""),
            edit("Condition:\n                  ArnEquals:", "Conditions:\n                  ArnEquals:"),
            edit("ArnEquals", "ArnLike"),
            edit("- !Sub ${EventType}Rule", "- PaymentFailedRule"),
            edit(
                "            - Ref: !Sub ${EventType}DeadLetterQueue\n          PolicyDocument",
                "            - Ref: !Sub ${EventType}Queue\n          PolicyDocument",
            ),
            edit("Action: sqs:SendMessage", "Action: sqs:DeleteMessage"),
            edit(
                "            Resource: !GetAtt WaitingRoomTickedQueue.Arn\n          - !If",
                "            Resource: !GetAtt WaitingRoomJoinedQueue.Arn\n          - !If",
            ),
            edit(
                "      Queues: [!Ref WaitingRoomJoinedDeadLetterQueue]\n",
                "      Queues: [!Ref WaitingRoomJoinedQueue]\n",
            ),
        ],
    },
    Rule {
        name: "a queue takes no request without TLS, but for a local account",
        check: over_tls_alone,
        breaks: &[
            edit(
                "Condition: {Bool: {aws:SecureTransport: \"false\"}}",
                "Condition: {Bool: {aws:SecureTransport: \"true\"}}",
            ),
            edit("Action: sqs:*", "Action: sqs:ReceiveMessage"),
            edit(
                "Effect: Deny\n                  Principal: \"*\"",
                "Effect: Deny\n                  Principal: {AWS: x}",
            ),
            edit(
                "                - HasEndpointUrl # A local account speaks plain HTTP.\n",
                "                - HasSecret\n",
            ),
            edit(
                "                    - !Sub ${EventType}DeadLetterQueue\n                    - Arn\n                  Condition",
                "                    - !Sub ${EventType}Queue\n                    - Arn\n                  Condition",
            ),
        ],
    },
];

/// The rules that send to the path's queue.
pub(super) fn senders<'t>(template: &'t Template, path: &Path<'_>) -> Vec<Resource<'t>> {
    let sends = |rule: &Resource<'_>| {
        let targets = items(&rule.properties["Targets"]);
        targets.into_iter().any(|target| attribute(&target["Arn"], "Arn") == Some(path.queue.id))
    };
    template.of_type(BUS_RULE).into_iter().filter(sends).collect()
}

fn events_of_its_function(project: &Project, faults: &mut Faults) {
    let rules = project.template.of_type(BUS_RULE);
    for rule in &rules {
        let targets = items(&rule.properties["Targets"]).len();
        faults.unless(targets == 1, format!("{}: it must have one target, and has {targets}", rule.id));
    }
    let paths = project.template.paths();
    let fed = paths.iter().filter(|path| path.code.is_fed_by_the_bus).count();
    let fault = format!("{} rules send to {fed} queues; each rule must have one of its own", rules.len());
    faults.unless(rules.len() == fed, fault);
    let published_on: Vec<&Value> =
        paths.iter().filter_map(|path| path.function.variables().get("EVENT_BUS_NAME")).collect();
    faults.unless(!published_on.is_empty(), "no function has a bus to publish on".to_owned());
    for path in paths {
        let senders = senders(&project.template, &path);
        if !path.code.is_fed_by_the_bus {
            let fault = format!("{}: functions send to it, and no rule may: {} do", path.queue.id, senders.len());
            faults.unless(senders.is_empty(), fault);
            continue;
        }
        let [rule] = senders[..] else {
            faults.add(format!("{}: one rule must send to it, and {} do", path.queue.id, senders.len()));
            continue;
        };
        let (id, pattern) = (rule.id, &rule.properties["EventPattern"]);
        let named = alternatives(pattern).iter().all(|alternative| !alternative["source"].is_null());
        faults.unless(named, format!("{id}: name the sources, or anybody on the bus is one"));
        let bus = &rule.properties["EventBusName"];
        let same = !bus.is_null() && published_on.iter().all(|published_on| bus == *published_on);
        faults.unless(same, format!("{id}: it must listen on the bus that EVENT_BUS_NAME names"));
        match announced(pattern) {
            Ok(taken) => {
                let named = |name: &str| (name.to_owned(), None);
                let settled = match (path.code.settling, path.code.system()) {
                    (Some(settling), _) => announcements(settling.workflow.event_type),
                    (None, System::WaitingRoom) if path.name == waiting_room_called::NAME => {
                        EventKind::ALL.iter().map(|kind| named(kind.name())).collect()
                    }
                    (None, System::WaitingRoom) => RESERVATION_EVENTS.into_iter().map(named).collect(),
                    (None, System::Settlement | System::Reservations | System::Bookings) => {
                        BTreeSet::from([named(path.code.event_type)])
                    }
                };
                for event in taken.difference(&settled) {
                    faults.add(format!("{id}: it takes {event:?}, which {} rejects", path.name));
                }
                for event in settled.difference(&taken) {
                    faults.add(format!("{id}: it leaves out {event:?}, which {} settles", path.name));
                }
            }
            Err(fault) => faults.add(format!("{id}: {fault}")),
        }
    }
}

/// The announcements that a pattern matches, as far as only type and status decide.
fn announced(pattern: &Value) -> Result<BTreeSet<Announcement>, String> {
    let mut taken = BTreeSet::new();
    for alternative in &alternatives(pattern) {
        asks_only(alternative, &["source", "detail-type", "detail"])?;
        // Who made a reservation, and who changed it, is asked of our own API's events, by a rule of its own.
        let own = alternative["source"] == json!([OWN_SOURCE]);
        asks_only(&alternative["detail"], if own { &["status", "by", "queue_item_id"] } else { &["status"] })?;
        let types = texts(&alternative["detail-type"])?;
        if types.is_empty() {
            return Err("each alternative of its pattern must name a detail-type".to_owned());
        }
        let statuses = texts(&alternative["detail"]["status"])?;
        for name in types {
            if statuses.is_empty() {
                taken.insert((name, None));
            } else {
                taken.extend(statuses.iter().map(|status| (name.clone(), Some(status.clone()))));
            }
        }
    }
    Ok(taken)
}

/// What a pattern matches, one by one: each alternative with what stands beside them all.
fn alternatives(pattern: &Value) -> Vec<Value> {
    let beside = |alternative: &Value| {
        let of_all = fields(pattern).into_iter().filter(|(name, _)| *name != "$or");
        let all = of_all.chain(fields(alternative)).map(|(name, value)| (name.to_owned(), value.clone()));
        Value::Object(all.collect())
    };
    match items(&pattern["$or"])[..] {
        [] => vec![pattern.clone()],
        ref alternatives => alternatives.iter().map(|alternative| beside(alternative)).collect(),
    }
}

/// What a payment or the end of its time made of a reservation is settled by the function that asked for it. Only what a
/// customer did is settled by its event; and an expiry that is told never counts as one that is due. Places follow whatever
/// becomes of a reservation, if a turn made it.
fn own_changes_of_customers(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for (name, parameter) in template.parameters() {
        let default = parameter["Default"].as_str().unwrap_or_default();
        let ours = name.ends_with("EventSources") && default.split(',').any(|source| source == OWN_SOURCE);
        faults
            .unless(!ours, format!("{name}: leave {OWN_SOURCE} out, or its results are taken for what triggers them"));
    }
    for path in template.paths() {
        let by_client = json!({"by": ["client"]});
        let of_a_turn = json!({"queue_item_id": [{"exists": true}]});
        let expected: &[&Value] = match (path.code.settling, path.code.system()) {
            (Some(settling), _) => match settling.workflow.event_type {
                EventType::ReservationConfirmed | EventType::ReservationCancelled => &[&by_client],
                EventType::ReservationExpired | EventType::PaymentApproved | EventType::PaymentFailed => &[],
            },
            // Nobody else tells of places.
            (None, System::WaitingRoom) if path.name == waiting_room_called::NAME => &[&Value::Null],
            (None, System::WaitingRoom) => &[&of_a_turn],
            (None, System::Settlement | System::Reservations | System::Bookings) => &[],
        };
        for rule in senders(template, &path) {
            let alternatives = alternatives(&rule.properties["EventPattern"]);
            let own: Vec<&Value> = alternatives
                .iter()
                .filter(|alternative| items(&alternative["source"]).contains(&&json!(OWN_SOURCE)))
                .map(|alternative| &alternative["detail"])
                .collect();
            let fault = format!("{}: of the source {OWN_SOURCE} it must take {expected:?} alone", rule.id);
            faults.unless(own == expected, fault);
        }
    }
}

fn asks_only(pattern: &Value, known: &[&str]) -> Result<(), String> {
    match fields(pattern).into_iter().find(|(key, _)| !known.contains(key)) {
        Some((key, _)) => Err(format!("its pattern asks for {key} where the function does not look")),
        None => Ok(()),
    }
}

fn texts(list: &Value) -> Result<Vec<String>, String> {
    let text = |item: &Value| {
        item.as_str().map(str::to_owned).ok_or_else(|| format!("its pattern must name {item} in full, as a text"))
    };
    items(list).into_iter().map(text).collect()
}

/// A day and 185 tries are EventBridge's longest; after them it drops what has no dead-letter queue.
fn undeliverable_kept(project: &Project, faults: &mut Faults) {
    let retries = json!({"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185});
    for path in project.template.paths() {
        let Some(dead_letters) = path.dead_letters else { continue };
        let kept = json!({"Arn": dead_letters.get("Arn")});
        for rule in senders(&project.template, &path) {
            for target in items(&rule.properties["Targets"]) {
                faults.unless(target["RetryPolicy"] == retries, format!("{}: set RetryPolicy to {retries}", rule.id));
                let fault = format!("{}: set DeadLetterConfig to {}", rule.id, dead_letters.id);
                faults.unless(target["DeadLetterConfig"] == kept, fault);
            }
        }
    }
}

/// The policies that name a queue.
fn policies<'t>(template: &'t Template, queue: &Resource<'_>) -> Vec<Resource<'t>> {
    let names_it = |policy: &Resource<'_>| items(&policy.properties["Queues"]).contains(&&queue.reference());
    template.of_type("AWS::SQS::QueuePolicy").into_iter().filter(names_it).collect()
}

/// A local account speaks plain HTTP, and is known by its endpoint.
fn over_tls_alone(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let (on_aws, local) =
        (Stack::new(template, &[]), Stack::new(template, &[("AwsEndpointUrl", "http://127.0.0.1:4566")]));
    for queue in template.of_type(QUEUE) {
        let denials = |stack: &Stack<'_>| -> Vec<Value> {
            let policies = policies(template, &queue);
            let statements = policies.iter().flat_map(|policy| statements(stack, policy));
            statements.filter(|statement| statement["Effect"] == "Deny").collect()
        };
        let expected = json!({
            "Effect": "Deny",
            "Principal": "*",
            "Action": "sqs:*",
            "Resource": on_aws.value(&queue.get("Arn")),
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        });
        let fault = format!("{}: its queue policy must hold {expected}, unless AwsEndpointUrl is given", queue.id);
        faults.unless(denials(&on_aws) == [expected] && denials(&local).is_empty(), fault);
    }
}

/// The rule itself sends to the queue, and to the dead-letter queue what it can't deliver. Where functions send, the account's
/// own policies say which.
fn only_its_rule_sends(project: &Project, faults: &mut Faults) {
    let stack = Stack::new(&project.template, &[]);
    for path in project.template.paths() {
        let rules = senders(&project.template, &path).into_iter().map(|rule| {
            let of_it = json!({"ArnEquals": {"aws:SourceArn": stack.value(&rule.get("Arn"))}});
            (json!({"Service": "events.amazonaws.com"}), of_it)
        });
        let account = (json!({"AWS": stack.value(&json!({"Ref": "AWS::AccountId"}))}), Value::Null);
        let allowed: Vec<_> = if path.code.is_fed_by_the_bus { rules.collect() } else { vec![account] };
        for queue in std::iter::once(path.queue).chain(path.dead_letters) {
            let policies = policies(&project.template, &queue);
            let statements = policies.iter().flat_map(|policy| statements(&stack, policy));
            let statements: Vec<Value> = statements.filter(|statement| statement["Effect"] != "Deny").collect();
            let expected = |(who, condition): &(Value, Value)| {
                let mut expected = json!({
                    "Effect": "Allow",
                    "Principal": who,
                    "Action": "sqs:SendMessage",
                    "Resource": stack.value(&queue.get("Arn")),
                });
                if !condition.is_null() {
                    expected["Condition"] = condition.clone();
                }
                expected
            };
            let expected: Vec<Value> = allowed.iter().map(expected).collect();
            let fault = format!("{}: its queue policies must allow this alone: {expected:?}", queue.id);
            faults.unless(statements == expected, fault);
        }
    }
}

/// The statements of a queue policy in a stack, without their names.
fn statements(stack: &Stack<'_>, policy: &Resource<'_>) -> Vec<Value> {
    let evaluated = stack.value(&policy.properties["PolicyDocument"]["Statement"]);
    let mut statements: Vec<Value> = items(&evaluated).into_iter().cloned().collect();
    for statement in statements.iter_mut().filter_map(Value::as_object_mut) {
        statement.remove("Sid");
    }
    statements
}
