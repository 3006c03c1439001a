//! What the README must name: whatever a person who deploys is asked for, and whatever may wake that person.

use std::collections::BTreeSet;

use super::{Faults, Rule, retries, stages};
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
    Rule {
        name: "the README says what this is, where its metrics are and what its alarms cost",
        check: says_what_it_is,
        breaks: &[
            edit_in(File::Readme, "**Nothing has run in an AWS account**", "It is ready"),
            edit_in(File::Readme, "Version 0.1.0", "Version 0.0.9"),
            edit_in(File::Readme, "MIT licence", "licence"),
            edit_in(File::Readme, "It is not for you if", "It is for you if"),
            edit_in(File::Readme, "`Holdfast/holdfast-dev`", "`Holdfast/dev`"),
            edit_in(File::Stages, "stack_name = \"holdfast-dev\"", "stack_name = \"tickets-dev\""),
            edit("worker_dead_letters_total\n          Dimensions", "worker_dead_letters_total\n          Dimension"),
        ],
    },
    Rule {
        name: "each command of the README that is about a stack names the stage dev",
        check: commands_name_one_stage,
        breaks: &[
            edit_in(File::Readme, "sam logs --stack-name holdfast-dev", "sam logs"),
            edit_in(File::Readme, "--stack holdfast-dev --code", "--stack holdfast --code"),
            edit_in(
                File::Readme,
                "--function-name holdfast-dev-payment-approved",
                "--function-name holdfast-payment-approved",
            ),
            edit_in(File::Readme, "\"EventBusName\": \"holdfast-dev\"", "\"EventBusName\": \"holdfast\""),
            edit_in(File::Readme, "BIND_HOST=127.0.0.1 ministack", "ministack"),
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
        let (least, most) = retries::window(limits.max_receives, &limits.backoff);
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
        let contract = include_str!("../../../proto/README.md");
        faults.unless(contract.contains(&minutes), format!("proto/README.md: it must say {minutes:?}"));
        let described = project.template.section("Parameters")["MaxReceives"]["Description"].as_str();
        let says = described.is_some_and(|description| description.contains(&minutes));
        faults.unless(says, format!("MaxReceives: its Description must say {minutes:?}"));
    }
}

fn thousands(number: u64) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}

/// The first screen, as far as it ages; and figures that the template makes.
fn says_what_it_is(project: &Project, faults: &mut Faults) {
    let (first_screen, _) = project.readme.split_once("\n## ").unwrap_or_default();
    let version = format!("Version {}", env!("CARGO_PKG_VERSION"));
    let license = format!("[{} licence](LICENSE)", env!("CARGO_PKG_LICENSE"));
    for text in
        [&version, &license, "**Nothing has run in an AWS account**", "It is not for you if", "(proto/README.md)"]
    {
        faults.unless(first_screen.contains(text), format!("README.md: its first screen must say {text:?}"));
    }
    let stack = stages::stack_name(&project.stages["default"]).unwrap_or_default();
    let alarms = project.template.of_type("AWS::CloudWatch::Alarm");
    let watching = alarms.iter().filter(|alarm| !alarm.properties["Dimensions"].is_null()).count();
    for text in [format!("`Holdfast/{stack}`"), format!("the {watching} alarms")] {
        faults.unless(project.readme.contains(&text), format!("README.md: it must say {text:?}"));
    }
}

/// A command that names no stack takes SAM's default, and one that names another stage reads the wrong queue at night.
fn commands_name_one_stage(project: &Project, faults: &mut Faults) {
    const ABOUT_A_STACK: [(&str, &str); 8] = [
        ("sam logs ", "--stack-name {stack} "),
        ("sam remote invoke ", "--stack-name {stack} "),
        ("sam delete ", "--stack-name {stack}"),
        ("cargo redrive payment", "--stack {stack}"),
        ("aws events put-events ", "\"EventBusName\": \"{stack}\""),
        ("aws events put-permission ", "--event-bus-name {stack} "),
        ("--function-name ", "--function-name {stack}-"),
        ("   # the account", "BIND_HOST=127.0.0.1 ministack "),
    ];
    let stack = stages::stack_name(&project.stages["default"]).unwrap_or_default();
    for (command, names) in ABOUT_A_STACK {
        let names = names.replace("{stack}", stack);
        let lines: Vec<&str> = project.readme.lines().filter(|line| line.contains(command)).collect();
        faults.unless(!lines.is_empty(), format!("README.md: it shows no {command:?} any more; mend this rule"));
        for line in lines.into_iter().filter(|line| !line.contains(&names)) {
            faults.add(format!("README.md: {line:?} must hold {names:?}"));
        }
    }
}
