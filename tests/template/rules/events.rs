//! Rules of the bus: which events reach which queue, and that none is lost on the way.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Faults, Rule};
use crate::{
    code::{Announcement, announcements},
    evaluate::Stack,
    project::{Project, edit},
    template::{Path, QUEUE, Resource, Template, attribute, fields, items},
};

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
            edit("      EventBusName: !If [MakesBus, !Ref EventBus, !Ref EventBusName]\n", ""),
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
        name: "of all services only its rule may send to a queue",
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
fn senders<'t>(template: &'t Template, path: &Path<'_>) -> Vec<Resource<'t>> {
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
    let fault = format!("{} rules send to {} queues; each rule must have one of its own", rules.len(), paths.len());
    faults.unless(rules.len() == paths.len(), fault);
    let published_on: Vec<&Value> =
        paths.iter().filter_map(|path| path.function.variables().get("EVENT_BUS_NAME")).collect();
    faults.unless(!published_on.is_empty(), "no function has a bus to publish on".to_owned());
    for path in paths {
        let senders = senders(&project.template, &path);
        let [rule] = senders[..] else {
            faults.add(format!("{}: one rule must send to it, and {} do", path.queue.id, senders.len()));
            continue;
        };
        let (id, pattern) = (rule.id, &rule.properties["EventPattern"]);
        faults.unless(!pattern["source"].is_null(), format!("{id}: name the sources, or anybody on the bus is one"));
        let bus = &rule.properties["EventBusName"];
        let same = !bus.is_null() && published_on.iter().all(|published_on| bus == *published_on);
        faults.unless(same, format!("{id}: it must listen on the bus that EVENT_BUS_NAME names"));
        match announced(pattern) {
            Ok(taken) => {
                let settled = announcements(path.code.workflow.event_type);
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
    let alternatives = items(&pattern["$or"]);
    let alternatives = if alternatives.is_empty() {
        vec![pattern]
    } else {
        asks_only(pattern, &["source", "$or"])?;
        alternatives
    };
    let mut taken = BTreeSet::new();
    for alternative in alternatives {
        asks_only(alternative, &["source", "detail-type", "detail"])?;
        asks_only(&alternative["detail"], &["status"])?;
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
        let kept = json!({"Arn": path.dead_letters.get("Arn")});
        for rule in senders(&project.template, &path) {
            for target in items(&rule.properties["Targets"]) {
                faults.unless(target["RetryPolicy"] == retries, format!("{}: set RetryPolicy to {retries}", rule.id));
                let fault = format!("{}: set DeadLetterConfig to {}", rule.id, path.dead_letters.id);
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

/// The rule itself sends to the queue, and to the dead-letter queue what it can't deliver.
fn only_its_rule_sends(project: &Project, faults: &mut Faults) {
    let stack = Stack::new(&project.template, &[]);
    for path in project.template.paths() {
        for rule in senders(&project.template, &path) {
            for queue in [path.queue, path.dead_letters] {
                let policies = policies(&project.template, &queue);
                let statements = policies.iter().flat_map(|policy| statements(&stack, policy));
                let statements: Vec<Value> = statements.filter(|statement| statement["Effect"] != "Deny").collect();
                let expected = json!({
                    "Effect": "Allow",
                    "Principal": {"Service": "events.amazonaws.com"},
                    "Action": "sqs:SendMessage",
                    "Resource": stack.value(&queue.get("Arn")),
                    "Condition": {"ArnEquals": {"aws:SourceArn": stack.value(&rule.get("Arn"))}},
                });
                let fault = format!("{}: its queue policies must allow this alone: {expected}", queue.id);
                faults.unless(statements == [expected], fault);
            }
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
