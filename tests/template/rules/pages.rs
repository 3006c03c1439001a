//! What the pages must name: whatever a person who deploys is asked for, and whatever may wake that person.

use std::collections::BTreeSet;

use local_stack::catalogue::System;

use super::{Faults, Rule, retries, stages};
use crate::{
    code,
    project::{File, Pages, Project, edit, edit_in},
    template::{FUNCTION, Template},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "the README lists each function",
        check: lists_functions,
        breaks: &[
            edit_in(
                File::Readme,
                "[`payment-failed`](functions/payment-failed/README.md)",
                "[`payment-failed`](functions)",
            ),
            edit("CodeUri: functions/payment-failed", "CodeUri: functions/payment-lost"),
        ],
    },
    Rule {
        name: "the pages name each parameter and each alarm",
        check: names_them,
        breaks: &[
            edit("  LogLevel:\n", "  LevelOfTheLog:\n"),
            edit("-${Function}-rejected\"", "-${Function}-refuted\""),
            edit("payment-approved-late-approvals", "payment-approved-too-late"),
            edit_in(File::Parameters, "| `MaximumConcurrency` |", "| the concurrency |"),
            edit_in(File::Parameters, ", `VpcSecurityGroupIds` |", " |"),
            edit_in(File::Waiting, "| `tick-age` |", "| age of ticks |"),
            edit_in(File::Operating, "| `throttles` |", "| `throttled` |"),
            edit_in(File::Operating, "|\"oldest-message, throttles\"|", "|\"oldest-message\"|"),
        ],
    },
    Rule {
        name: "the pages explain each metric that the code writes, with its dimensions",
        check: explains_metrics,
        breaks: &[
            edit_in(File::Operating, "| `grpc_client_seconds` |", "| `grpc_seconds` |"),
            edit_in(File::Operating, "| `method`, `code` |", "| `method` |"),
            edit_in(File::Reservations, "| `reservation_status_total` |", "| `reservations_total` |"),
            edit_in(File::Waiting, "| `booking_worker_inside` |", "| `booking_worker_within` |"),
            edit_in(File::Bookings, "| `parked_total` |", "| `parked` |"),
        ],
    },
    Rule {
        name: "the pages say how long an outage an event survives",
        check: says_what_is_survived,
        breaks: &[
            edit_in(File::Readme, "survives an outage of 16 minutes", "survives an outage of 17 minutes"),
            edit_in(File::Operating, "1,923 s", "1,932 s"),
            edit_in(File::Operating, "962 s at least", "926 s at least"),
            edit("event waits 16 to 32 minutes", "event waits 20 minutes"),
        ],
    },
    Rule {
        name: "the pages say what this is, where its metrics are and what its alarms cost",
        check: says_what_it_is,
        breaks: &[
            edit_in(File::Readme, "**Nothing has run in an AWS account**", "It is ready"),
            edit_in(File::Readme, "Version 0.1.0", "Version 0.0.9"),
            edit_in(File::Readme, "MIT licence", "licence"),
            edit_in(File::Readme, "It is not for you if", "It is for you if"),
            edit_in(File::Operating, "`Holdfast/holdfast-dev`", "`Holdfast/dev`"),
            edit_in(File::Deploying, "the 142 alarms", "the 133 alarms"),
            edit_in(File::Stages, "stack_name = \"holdfast-dev\"", "stack_name = \"tickets-dev\""),
            edit("InventoryConflictsAlarm:\n        Type: AWS", "InventoryConflictsAlarm:\n        Type: Custom"),
        ],
    },
    Rule {
        name: "each command of the pages that is about a stack names the stage dev",
        check: commands_name_one_stage,
        breaks: &[
            edit_in(File::Operating, "sam logs --stack-name holdfast-dev", "sam logs"),
            edit_in(File::Deploying, "sam logs --stack-name holdfast-dev", "sam logs"),
            edit_in(File::Operating, "--stack holdfast-dev --code", "--stack holdfast --code"),
            edit_in(
                File::Deploying,
                "--function-name holdfast-dev-payment-approved",
                "--function-name holdfast-payment-approved",
            ),
            edit_in(File::Deploying, "\"EventBusName\": \"holdfast-dev\"", "\"EventBusName\": \"holdfast\""),
            edit_in(File::Deploying, "BIND_HOST=127.0.0.1 ministack", "ministack"),
        ],
    },
];

/// What an alarm is called behind the names of its stack and its function, with the function's system.
fn suffixes(template: &Template) -> BTreeSet<(String, bool)> {
    let functions = template.deployed().into_iter().map(|deployed| deployed.entry);
    let mut functions: Vec<(String, bool)> = functions
        .map(|entry| (format!("${{AWS::StackName}}-{}-", entry.name), entry.system == System::WaitingRoom))
        .collect();
    // One function's name may begin with another's.
    functions.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
    let alarms = template.of_type("AWS::CloudWatch::Alarm");
    let name = |alarm: &crate::template::Resource<'_>| {
        let name = alarm.properties["AlarmName"]["Fn::Sub"].as_str()?;
        let suffix = |(prefix, waiting): &(String, bool)| Some((name.strip_prefix(prefix)?.to_owned(), *waiting));
        functions.iter().find_map(suffix)
    };
    alarms.iter().filter_map(name).collect()
}

fn lists_functions(project: &Project, faults: &mut Faults) {
    for function in project.template.of_type(FUNCTION) {
        let folder = function.properties["CodeUri"].as_str().unwrap_or_default();
        let listed = project.pages.readme.contains(&format!("]({folder}/README.md) |"));
        faults.unless(listed, format!("README.md: list {folder} in the table of functions, with a link to its page"));
    }
}

/// Whether a row of a table begins with this name.
fn explains(page: &str, name: &str) -> bool {
    let cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" |"));
    let mut names = cells.flat_map(|(cell, _)| cell.split(", "));
    names.any(|cell| cell.strip_prefix('`').and_then(|cell| cell.strip_suffix('`')) == Some(name))
}

fn names_them(project: &Project, faults: &mut Faults) {
    let names = project.template.parameters().into_iter().map(|(name, _)| name.to_owned());
    for name in names {
        let named = explains(&project.pages.parameters, &name);
        faults.unless(named, format!(".template/PARAMETERS.md: explain the parameter `{name}`"));
    }
    let (_, tree) = project.pages.operating.split_once("```mermaid\nflowchart").unwrap_or_default();
    let (tree, _) = tree.split_once("```").unwrap_or_default();
    for (suffix, waiting) in suffixes(&project.template) {
        // What only lines have is explained on their page, whose table is short enough to need no tree.
        if waiting && explains(&project.pages.waiting, &suffix) {
            continue;
        }
        let named = explains(&project.pages.operating, &suffix);
        faults.unless(named, format!("functions/README.md: say what to do when the alarm `{suffix}` fires"));
        let in_tree = tree.split(|c: char| !c.is_alphanumeric() && c != '-').any(|word| word == suffix);
        faults.unless(in_tree, format!("functions/README.md: the decision tree leaves out the alarm `{suffix}`"));
    }
}

fn explains_metrics(project: &Project, faults: &mut Faults) {
    let Pages { operating, waiting, reservations, bookings, .. } = &project.pages;
    let rows = || [operating, waiting, reservations, bookings].into_iter().flat_map(|page| page.lines()).map(str::trim);
    for metric in code::metrics() {
        let begin = format!("| `{}` ", metric.name);
        let fault = format!("functions/*.md: explain the metric `{}` by {:?}", metric.name, metric.dimensions);
        let is_it = |row: &str| {
            row.starts_with(&begin) && metric.dimensions.iter().all(|name| row.contains(&format!("`{name}`")))
        };
        faults.unless(rows().any(is_it), fault);
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
        let survives = format!("With the defaults an event survives an outage of {} minutes", least / 60);
        faults.unless(project.pages.readme.contains(&survives), format!("README.md: it must say {survives:?}"));
        let texts = [
            format!("{} s at most", thousands(most)),
            format!("{} s at least", thousands(least)),
            minutes.clone(),
            format!("{} receives)", limits.max_receives),
        ];
        for text in texts {
            faults
                .unless(project.pages.operating.contains(&text), format!("functions/README.md: it must say {text:?}"));
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
    let (first_screen, _) = project.pages.readme.split_once("\n## ").unwrap_or_default();
    let version = format!("Version {}", env!("CARGO_PKG_VERSION"));
    let license = format!("[{} licence](LICENSE)", env!("CARGO_PKG_LICENSE"));
    for text in
        [&version, &license, "**Nothing has run in an AWS account**", "It is not for you if", "(proto/README.md)"]
    {
        faults.unless(first_screen.contains(text), format!("README.md: its first screen must say {text:?}"));
    }
    let stack = stages::stack_name(&project.stages["default"]).unwrap_or_default();
    let alarms = project.template.of_type("AWS::CloudWatch::Alarm");
    let namespace = format!("`Holdfast/{stack}`");
    faults.unless(
        project.pages.operating.contains(&namespace),
        format!("functions/README.md: it must say {namespace:?}"),
    );
    let count = format!("the {} alarms", alarms.len());
    faults.unless(project.pages.deploying.contains(&count), format!(".template/README.md: it must say {count:?}"));
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
        let pages =
            [("functions/README.md", &project.pages.operating), (".template/README.md", &project.pages.deploying)];
        let lines = pages.iter().flat_map(|(page, text)| text.lines().map(move |line| (page, line)));
        let lines: Vec<_> = lines.filter(|(_, line)| line.contains(command)).collect();
        faults.unless(!lines.is_empty(), format!("the pages show no {command:?} any more; mend this rule"));
        for (page, line) in lines.into_iter().filter(|(_, line)| !line.contains(&names)) {
            faults.add(format!("{page}: {line:?} must hold {names:?}"));
        }
    }
}
