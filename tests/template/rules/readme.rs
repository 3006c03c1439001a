//! What the README must name: whatever a person who deploys is asked for, and whatever may wake that person.

use std::collections::BTreeSet;

use super::{Faults, Rule};
use crate::{
    project::{Project, edit},
    template::Template,
};

pub(crate) const RULE: Rule = Rule {
    name: "the README names each parameter and each alarm",
    check: names_them,
    breaks: &[
        edit("  LogLevel:\n", "  LevelOfTheLog:\n"),
        edit("-${Function}-rejected\"", "-${Function}-refused\""),
        edit("payment-approved-late-approvals", "payment-approved-too-late"),
    ],
};

/// What an alarm is called behind the names of its stack and its function.
fn suffixes(template: &Template) -> BTreeSet<String> {
    let functions: Vec<String> =
        template.paths().iter().map(|path| format!("${{AWS::StackName}}-{}-", path.name)).collect();
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    let name = |alarm: &crate::template::Resource<'_>| {
        let name = alarm.properties["AlarmName"]["Fn::Sub"].as_str()?;
        functions.iter().find_map(|function| name.strip_prefix(function.as_str())).map(str::to_owned)
    };
    alarms.iter().filter_map(name).collect()
}

fn names_them(project: &Project, faults: &mut Faults) {
    let names = project.template.parameters().into_iter().map(|(name, _)| name.to_owned());
    for name in names {
        let named = project.readme.contains(&format!("`{name}`"));
        faults.unless(named, format!("README.md: explain the parameter `{name}`"));
    }
    for suffix in suffixes(&project.template) {
        let named = [format!("`{suffix}`"), format!("-{suffix}`")].iter().any(|name| project.readme.contains(name));
        faults.unless(named, format!("README.md: say what to do when the alarm `{suffix}` fires"));
    }
}
