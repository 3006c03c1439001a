//! References within the template: each has a target, and nothing is declared in vain.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Faults, Rule};
use crate::{
    project::{Project, edit},
    template::{fields, items, nodes, reference},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "whatever is referred to exists",
        check: references_exist,
        breaks: &[
            edit("Value: !Ref IdempotencyTable", "Value: !Ref Table"),
            edit("Role: !GetAtt PaymentFailedRole.Arn", "Role: !GetAtt PaymentLostRole.Arn"),
            edit("Value: !If [MakesBus, !Ref EventBus", "Value: !If [MakesABus, !Ref EventBus"),
            edit("    Condition: MakesBus\n", "    Condition: MakesABus\n"),
            edit("event-bus/${EventBusName}", "event-bus/${BusName}"),
            edit("- !Ref PaymentFailedDurationAlarm", "- !Ref PaymentFailedSlowAlarm"),
        ],
    },
    Rule {
        name: "each parameter and condition is used, and each parameter has its group",
        check: nothing_in_vain,
        breaks: &[
            edit("Threshold: !Ref LateApprovalAlarmCount", "Threshold: 10"),
            edit("Conditions:\n", "Conditions:\n  Never: !Equals [1, 2]\n"),
            edit("BackoffCapMs, IdempotencyTtlDays]", "BackoffCapMs]"),
            edit("BackoffCapMs, IdempotencyTtlDays]", "BackoffCapMs, Ttl, IdempotencyTtlDays]"),
        ],
    },
];

/// The sections that refer to others, and what each refers to: by `Ref` and its like, and by name of a condition.
fn referred(project: &Project) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut found, mut conditions) = (BTreeSet::new(), BTreeSet::new());
    for section in ["Resources", "Outputs", "Conditions", "Rules", "Globals"] {
        let section = project.template.section(section);
        found.extend(targets(section));
        for node in nodes(section) {
            conditions.extend(node["Fn::If"][0].as_str().map(str::to_owned));
            conditions.extend(node["Condition"].as_str().map(str::to_owned));
        }
    }
    (found, conditions)
}

/// The resources and parameters that a value refers to.
pub(super) fn targets(value: &Value) -> BTreeSet<String> {
    let mut targets = BTreeSet::new();
    for node in nodes(value) {
        targets.extend(reference(node).map(resource));
        targets.extend(node["Fn::GetAtt"][0].as_str().map(str::to_owned));
        targets.extend(items(&node["DependsOn"]).into_iter().filter_map(|id| id.as_str().map(str::to_owned)));
        targets.extend(placeholders(&node["Fn::Sub"]));
    }
    targets
}

/// The names that a text leaves open, without those that it brings itself.
fn placeholders(open: &Value) -> Vec<String> {
    let text = open.as_str().or_else(|| open[0].as_str()).unwrap_or_default();
    let names = text.split("${").skip(1).filter_map(|piece| Some(piece.split_once('}')?.0));
    names.filter(|name| open[1].get(name).is_none() && !name.starts_with('!')).map(resource).collect()
}

/// What a name refers to that may have an attribute behind it, or stand for what SAM makes of a function, such as its alias.
fn resource(name: &str) -> String {
    name.split('.').next().unwrap_or_default().to_owned()
}

fn references_exist(project: &Project, faults: &mut Faults) {
    const PSEUDO: [&str; 6] =
        ["AWS::AccountId", "AWS::NoValue", "AWS::Partition", "AWS::Region", "AWS::StackName", "AWS::URLSuffix"];
    let template = &project.template;
    let (targets, conditions) = referred(project);
    for name in targets {
        let parameter = !template.section("Parameters")[&name].is_null();
        let exists = parameter || template.resource(&name).is_some() || PSEUDO.contains(&name.as_str());
        faults.unless(exists, format!("{name}: it is referred to, and is neither a resource nor a parameter"));
    }
    for name in conditions {
        let exists = !template.section("Conditions")[&name].is_null();
        faults.unless(exists, format!("{name}: it decides something, and is no condition"));
    }
}

fn nothing_in_vain(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let (targets, conditions) = referred(project);
    let parameters: BTreeSet<&str> = template.parameters().into_iter().map(|(name, _)| name).collect();
    for name in &parameters {
        faults.unless(targets.contains(*name), format!("{name}: nothing uses this parameter; take it away"));
    }
    for (name, _) in fields(template.section("Conditions")) {
        faults.unless(conditions.contains(name), format!("{name}: nothing uses this condition; take it away"));
    }
    let groups = &template.section("Metadata")["AWS::CloudFormation::Interface"]["ParameterGroups"];
    let grouped: Vec<&str> =
        items(groups).into_iter().flat_map(|group| items(&group["Parameters"])).filter_map(Value::as_str).collect();
    for name in &parameters {
        let times = grouped.iter().filter(|grouped| *grouped == name).count();
        faults.unless(times == 1, format!("{name}: it must be in one parameter group, and is in {times}"));
    }
    for name in grouped {
        faults.unless(parameters.contains(name), format!("{name}: a parameter group names it, and it is no parameter"));
    }
}
