//! What the README must name: whatever a person who deploys is asked for, and whatever may wake that person.

use std::collections::BTreeSet;

use super::{Faults, Rule, retries};
use crate::{
    project::{File, Project, edit, edit_in},
    template::Template,
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "the README names each parameter and each alarm",
        check: names_them,
        breaks: &[
            edit("  LogLevel:\n", "  LevelOfTheLog:\n"),
            edit("-${Function}-rejected\"", "-${Function}-refused\""),
            edit("payment-approved-late-approvals", "payment-approved-too-late"),
        ],
    },
    Rule {
        name: "the README says how long an outage an event survives",
        check: says_what_is_survived,
        breaks: &[
            edit_in(File::Readme, "survives an outage of 16 minutes", "survives an outage of 17 minutes"),
            edit_in(File::Readme, "1,923 s", "1,932 s"),
            edit_in(File::Readme, "962 s at least", "926 s at least"),
            edit("event waits 16 to 32 minutes", "event waits 20 minutes"),
        ],
    },
];

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

/// By the defaults of the code, which a rule ties to those of the template. Whole minutes are rounded down: an outage that
/// is as short as that is survived with any jitter.
fn says_what_is_survived(project: &Project, faults: &mut Faults) {
    for path in project.template.paths() {
        let limits = match retries::defaults(&path) {
            Ok(limits) => limits,
            Err(error) => {
                faults.add(format!("{}: it does not start with the defaults: {error}", path.name));
                continue;
            }
        };
        let (least, most) = retries::window(&limits);
        let (least, most) = (least.as_secs(), most.as_secs());
        let minutes = format!("{} to {} minutes", least / 60, most / 60);
        let texts = [
            format!("With the defaults an event survives an outage of {} minutes", least / 60),
            format!("{} s at most", thousands(most)),
            format!("{} s at least", thousands(least)),
            minutes.clone(),
            format!("{} receives)", limits.max_receives),
        ];
        for text in texts {
            faults.unless(project.readme.contains(&text), format!("README.md: it must say {text:?}"));
        }
        let described = project.template.section("Parameters")["MaxReceives"]["Description"].as_str();
        let says = described.is_some_and(|description| description.contains(&minutes));
        faults.unless(says, format!("MaxReceives: its Description must say {minutes:?}"));
    }
}

fn thousands(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}
