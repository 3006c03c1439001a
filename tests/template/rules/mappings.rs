//! Event source mappings: how Lambda reads a queue for a function.

use std::collections::{BTreeMap, BTreeSet};

use local_stack::catalogue::Trigger;
use serde_json::json;

use super::{Faults, Rule};
use crate::{
    evaluate::Stack,
    project::{Project, edit},
    template::{Deployed, FUNCTION, QUEUE, attribute, items, mappings, nodes, number, reference},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a failed record alone comes back",
        check: partial_responses,
        breaks: &[
            edit("            FunctionResponseTypes: [ReportBatchItemFailures]\n", ""),
            edit("FunctionResponseTypes: [ReportBatchItemFailures]", "FunctionResponseTypes: []"),
        ],
    },
    Rule {
        name: "no message is filtered away",
        check: nothing_filtered,
        breaks: &[edit(
            "            BatchSize: 10\n",
            "            BatchSize: 10\n            FilterCriteria: {Filters: []}\n",
        )],
    },
    Rule {
        name: "a batch has ten records",
        check: batch_of_ten,
        breaks: &[edit("BatchSize: 10", "BatchSize: 11"), edit("            BatchSize: 10\n", "")],
    },
    Rule {
        name: "a batch is not waited for",
        check: no_window,
        breaks: &[edit("MaximumBatchingWindowInSeconds: 0", "MaximumBatchingWindowInSeconds: 1")],
    },
    Rule {
        name: "each queue is read by one function, and no dead-letter queue by any",
        check: one_reader,
        breaks: &[
            edit("Queue: !GetAtt PaymentFailedQueue.Arn", "Queue: !GetAtt PaymentApprovedQueue.Arn"),
            edit("Queue: !GetAtt PaymentFailedQueue.Arn", "Queue: !GetAtt PaymentFailedDeadLetterQueue.Arn"),
            edit(
                "      CodeUri: functions/reservation-api\n",
                "      CodeUri: functions/reservation-api\n      Events: {Queue: {Type: SQS, Properties: {}}}\n",
            ),
            edit(
                "      Events:\n        Queue:\n          Type: SQS",
                "      Events:\n        Queue:\n          Type: SNS",
            ),
        ],
    },
    Rule {
        name: "concurrency is limited where the queue is read",
        check: no_reserved_concurrency,
        breaks: &[
            edit("\n    Tracing: Active\n", "\n    Tracing: Active\n    ReservedConcurrentExecutions: 50\n"),
            edit("            ScalingConfig: !If [LimitsConcurrency", "            Scaling: !If [LimitsConcurrency"),
            edit(
                "            ScalingConfig: !If [LimitsConcurrency",
                "            ProvisionedPollerConfig: {MinimumPollers: 2}\n            ScalingConfig: !If [LimitsConcurrency",
            ),
        ],
    },
    Rule {
        name: "a limit of concurrency is one that Lambda takes",
        check: limit_is_taken,
        breaks: &[
            edit("^(0|[2-9]|[1-9][0-9]{1,2}|1000)$", "^[0-9]+$"),
            edit("{MaximumConcurrency: !Ref MaximumConcurrency}", "{MaximumConcurrency: 1}"),
            edit("ScalingConfig: {MaximumConcurrency: 2}", "ScalingConfig: {MaximumConcurrency: 1}"),
            edit("!Not [!Equals [!Ref MaximumConcurrency, \"0\"]]", "!Not [!Equals [!Ref MaximumConcurrency, \"1\"]]"),
        ],
    },
];

/// Calls `check` for each mapping of each function, with both names for a fault.
fn each_mapping(project: &Project, mut check: impl FnMut(String, &serde_json::Value)) {
    for function in project.template.of_type(FUNCTION) {
        for mapping in mappings(function) {
            check(function.id.to_owned(), mapping);
        }
    }
}

/// Without it the answer is ignored: one failed record repeats the whole batch, or is deleted with it.
fn partial_responses(project: &Project, faults: &mut Faults) {
    each_mapping(project, |id, mapping| {
        let on = items(&mapping["FunctionResponseTypes"]).iter().any(|kind| **kind == "ReportBatchItemFailures");
        faults.unless(on, format!("{id}: set FunctionResponseTypes to [ReportBatchItemFailures]"));
    });
}

/// Lambda deletes what does not match, so a producer's new spelling would vanish and not be dead-lettered.
fn nothing_filtered(project: &Project, faults: &mut Faults) {
    each_mapping(project, |id, mapping| {
        let free = mapping["FilterCriteria"].is_null();
        faults.unless(free, format!("{id}: take FilterCriteria away; the rule of the bus decides what is queued"));
    });
}

/// Ten is what SQS takes back in one call, and the most that needs no batching window.
fn batch_of_ten(project: &Project, faults: &mut Faults) {
    each_mapping(project, |id, mapping| {
        faults.unless(mapping["BatchSize"] == 10, format!("{id}: set BatchSize to 10"));
    });
}

/// The local stack knows no window, and a customer who has paid should not wait for others.
fn no_window(project: &Project, faults: &mut Faults) {
    each_mapping(project, |id, mapping| {
        let window = &mapping["MaximumBatchingWindowInSeconds"];
        faults.unless(window.is_null() || *window == 0, format!("{id}: set MaximumBatchingWindowInSeconds to 0"));
    });
}

fn one_reader(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let mut readers: BTreeMap<&str, Vec<&str>> =
        template.of_type(QUEUE).into_iter().map(|queue| (queue.id, Vec::new())).collect();
    for Deployed { entry, function } in template.deployed() {
        let mappings = mappings(function);
        let expected = usize::from(entry.trigger == Trigger::Queue);
        let fault = format!("{}: it must read {expected} queues, and reads {}", function.id, mappings.len());
        faults.unless(mappings.len() == expected, fault);
        for queue in mappings.iter().filter_map(|mapping| attribute(&mapping["Queue"], "Arn")) {
            readers.entry(queue).or_default().push(function.id);
        }
    }
    // What nobody reads but a person: dead letters, and the places of batches of a stream.
    let buried = nodes(template.section("Resources")).into_iter().flat_map(|node| {
        [&node["deadLetterTargetArn"], &node["OnFailure"]["Destination"]].map(|queue| attribute(queue, "Arn"))
    });
    let buried: BTreeSet<&str> = buried.flatten().collect();
    for (queue, readers) in readers {
        let expected = usize::from(!buried.contains(queue));
        let fault = format!("{queue}: {expected} functions must read it, and these do: {readers:?}");
        faults.unless(readers.len() == expected, fault);
    }
}

/// Reserved concurrency does not slow the pollers down: what they take and can't hand over uses up receives, and
/// messages reach the dead-letter queue untouched.
fn no_reserved_concurrency(project: &Project, faults: &mut Faults) {
    for function in project.template.of_type(FUNCTION) {
        let free = function.properties["ReservedConcurrentExecutions"].is_null();
        faults.unless(free, format!("{}: limit ScalingConfig, not ReservedConcurrentExecutions", function.id));
    }
    each_mapping(project, |id, mapping| {
        let limits = ["ScalingConfig", "ProvisionedPollerConfig"].map(|name| !mapping[name].is_null());
        let fault = format!("{id}: give its mapping a ScalingConfig, or a ProvisionedPollerConfig, which excludes it");
        faults.unless(limits[0] != limits[1], fault);
    });
}

/// Lambda takes 2 to 1,000. The pattern is compared as a text, because it can't say a range in another way that is clearer.
fn limit_is_taken(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for name in ["MaximumConcurrency", "BookingConcurrency"] {
        let pattern = &template.section("Parameters")[name]["AllowedPattern"];
        let allowed = *pattern == "^(0|[2-9]|[1-9][0-9]{1,2}|1000)$";
        faults.unless(allowed, format!("{name}: allow 0 and 2 to 1000, and not {pattern}"));
    }
    each_mapping(project, |id, mapping| {
        if mapping["ScalingConfig"].is_null() {
            return;
        }
        if let Some(limit) = number(&mapping["ScalingConfig"]["MaximumConcurrency"]) {
            return faults.unless((2..=1_000).contains(&limit), format!("{id}: Lambda takes no limit of {limit}"));
        }
        let bounds = nodes(&mapping["ScalingConfig"]).into_iter().filter_map(reference);
        let bound = bounds.into_iter().find(|name| name.ends_with("Concurrency")).unwrap_or("MaximumConcurrency");
        for (given, expected) in [("0", json!(null)), ("2", json!({"MaximumConcurrency": "2"}))] {
            let limit = Stack::new(template, &[(bound, given)]).value(&mapping["ScalingConfig"]);
            let fault = format!("{id}: with {bound} {given} its ScalingConfig is {limit}, not {expected}");
            faults.unless(limit == expected, fault);
        }
    });
}
