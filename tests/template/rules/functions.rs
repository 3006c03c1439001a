//! Functions: each is there, built for what it runs on, logs where it should, and is rolled back by its own alarms.

use std::{collections::BTreeSet, fs};

use local_stack::{
    build::workspace,
    catalogue::{self, Trigger},
};
use serde_json::{Value, json};

use super::{Faults, Rule};
use crate::{
    evaluate::Stack,
    project::{Project, edit},
    template::{API, Deployed, FUNCTION, Resource, fields, items, nodes, reference},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "each folder of functions/ is deployed, under its own name",
        check: folders_are_deployed,
        breaks: &[
            edit("CodeUri: functions/payment-failed", "CodeUri: functions/payment-lost"),
            edit("CodeUri: functions/payment-failed", "CodeUri: functions/payment-approved"),
            edit(
                "FunctionName: !Sub ${AWS::StackName}-payment-failed",
                "FunctionName: !Sub ${AWS::StackName}-payment-lost",
            ),
            edit("Name: payment.failed, Function: payment-failed", "Name: payment.failed, Function: payment-lost"),
        ],
    },
    Rule {
        name: "a function is built for what it runs on",
        check: built_for_what_it_runs_on,
        breaks: &[
            edit("BuildMethod: rust-cargolambda", "BuildMethod: makefile"),
            edit("Runtime: provided.al2023", "Runtime: provided.al2"),
            edit("Default: arm64", "Default: x86_64"),
            edit("Handler: bootstrap", "Handler: main"),
            edit("Tracing: Active", "Tracing: PassThrough"),
        ],
    },
    Rule {
        name: "a function logs every line to a log group that ends",
        check: logs_to_its_own_group,
        breaks: &[
            edit("ApplicationLogLevel: TRACE", "ApplicationLogLevel: INFO"),
            edit("LogFormat: JSON", "LogFormat: Text"),
            edit("LogGroup: !Ref PaymentFailedLogGroup", "LogGroup: !Ref PaymentApprovedLogGroup"),
            edit("          RetentionInDays: !Ref LogRetentionDays\n", ""),
            edit("- /aws/lambda/${AWS::StackName}-${Function}", "- /aws/lambda/${Function}"),
        ],
    },
    Rule {
        name: "a new version is rolled back by the alarms of its own function",
        check: rolled_back_by_its_own_alarms,
        breaks: &[
            edit("- !Ref PaymentFailedErrorsAlarm", "- !Ref PaymentApprovedErrorsAlarm"),
            edit("          - !Ref PaymentFailedErrorsAlarm\n", ""),
            edit("AutoPublishAlias: live", "Tags: {}"),
            edit("          - !Ref ReservationApiServerErrorsAlarm\n", ""),
            edit(
                "          - !Ref WaitingRoomTickedFailedTicksAlarm\n",
                "          - !Ref WaitingRoomSettledErrorsAlarm\n",
            ),
            edit("          - !Ref WaitingRoomTickedFailedTicksAlarm\n", ""),
            edit("- !Ref ReservationApiErrorsAlarm", "- !Ref PaymentApprovedErrorsAlarm"),
            edit("      AutoPublishAliasAllProperties: true\n", ""),
        ],
    },
    Rule {
        name: "a schedule asks for what one of the function's event files shows",
        check: schedules_are_shown,
        breaks: &[
            edit(", Input: '{\"action\": \"clean\"}'", ""),
            edit("{\"action\": \"clean\"}", "{\"action\": \"cleanse\"}"),
            edit("{Schedule: rate(1 hour)}", "{Schedule: rate(1 hour), Input: '{}'}"),
        ],
    },
    Rule {
        name: "a function dead-letters messages in its own dead-letter queue, if it has one",
        check: dead_letters_in_its_own,
        breaks: &[
            edit("DLQ_URL: \"\" # The next", "DLQ_URL: !Ref WaitingRoomJoinedDeadLetterQueue # The next"),
            edit("DLQ_URL: !Ref PaymentFailedDeadLetterQueue", "DLQ_URL: !Ref PaymentApprovedDeadLetterQueue"),
            edit("DLQ_URL: !Ref PaymentFailedDeadLetterQueue", "DLQ_URL: !GetAtt PaymentFailedDeadLetterQueue.Arn"),
        ],
    },
];

fn folders_are_deployed(project: &Project, faults: &mut Faults) {
    let folders: BTreeSet<String> = fs::read_dir(workspace().join("functions"))
        .expect("functions/ is there")
        .map(|entry| entry.expect("the entry is readable"))
        .filter(|entry| entry.path().is_dir())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let functions = project.template.of_type(FUNCTION);
    let uris: Vec<&str> = functions.iter().filter_map(|function| function.properties["CodeUri"].as_str()).collect();
    for folder in &folders {
        let uses = uris.iter().filter(|uri| **uri == format!("functions/{folder}")).count();
        let fault = format!("functions/{folder}: one function must have it as CodeUri, and {uses} do");
        faults.unless(uses == 1, fault);
    }
    let mapped: Vec<(&str, &str)> = project.template.section("Mappings")["EventTypes"]
        .as_object()
        .into_iter()
        .flat_map(|types| {
            types.values().filter_map(|entry| Some((entry["Function"].as_str()?, entry["Name"].as_str()?)))
        })
        .collect();
    for fed in catalogue::all_fed() {
        faults.unless(folders.contains(fed.name), format!("functions/{} is not there", fed.name));
        let entry = (fed.name, fed.event_type);
        faults.unless(mapped.contains(&entry), format!("EventTypes: it must hold {entry:?}"));
    }
    for function in functions {
        let folder = function.properties["CodeUri"].as_str().and_then(|uri| uri.strip_prefix("functions/"));
        let known = folder.is_some_and(|folder| folders.contains(folder));
        faults.unless(known, format!("{}: CodeUri must be a folder of functions/", function.id));
        let name = json!({"Fn::Sub": format!("${{AWS::StackName}}-{}", folder.unwrap_or_default())});
        faults.unless(function.properties["FunctionName"] == name, format!("{}: name it {name}", function.id));
    }
}

fn built_for_what_it_runs_on(project: &Project, faults: &mut Faults) {
    let stack = Stack::new(&project.template, &[]);
    let expected = [
        ("Runtime", json!("provided.al2023")),
        ("Handler", json!("bootstrap")),
        ("Architectures", json!(["arm64"])),
        ("Tracing", json!("Active")),
    ];
    for function in project.template.of_type(FUNCTION) {
        let method = &function.body["Metadata"]["BuildMethod"];
        faults.unless(method == "rust-cargolambda", format!("{}: BuildMethod must be rust-cargolambda", function.id));
        for (name, value) in &expected {
            let fault = format!("{}: {name} must be {value} by default", function.id);
            faults.unless(stack.value(&function.properties[*name]) == *value, fault);
        }
    }
}

/// Lambda's own filter would drop the metrics, which are lines without a level. A group that Lambda makes by itself
/// keeps its lines forever.
fn logs_to_its_own_group(project: &Project, faults: &mut Faults) {
    for function in project.template.of_type(FUNCTION) {
        let (id, logging) = (function.id, &function.properties["LoggingConfig"]);
        faults.unless(logging["LogFormat"] == "JSON", format!("{id}: LogFormat must be JSON"));
        faults.unless(logging["ApplicationLogLevel"] == "TRACE", format!("{id}: ApplicationLogLevel must be TRACE"));
        let group = reference(&logging["LogGroup"]).and_then(|group| project.template.resource(group));
        let Some(group) = group.filter(|group| group.body["Type"] == "AWS::Logs::LogGroup") else {
            faults.add(format!("{id}: LoggingConfig must refer to a log group of this template"));
            continue;
        };
        let name = function.properties["FunctionName"]["Fn::Sub"].as_str().unwrap_or_default();
        let expected = json!({"Fn::Sub": format!("/aws/lambda/{name}")});
        faults.unless(group.properties["LogGroupName"] == expected, format!("{}: name it {expected}", group.id));
        let ends = !group.properties["RetentionInDays"].is_null();
        faults.unless(ends, format!("{}: set RetentionInDays", group.id));
    }
}

/// The alias moves to a version for every change, a parameter's too, and moves back when an alarm fires that the
/// version can have caused.
fn rolled_back_by_its_own_alarms(project: &Project, faults: &mut Faults) {
    let (paths, apis) = (project.template.paths(), project.template.of_api(API, "HTTP"));
    for Deployed { entry, function } in project.template.deployed() {
        let (id, properties) = (function.id, function.properties);
        let mut own = vec![function.reference()];
        // A function that answers HTTP fails no invocation.
        let fed = catalogue::fed(entry.name);
        let telling = match entry.trigger {
            // What fails is acknowledged, and nothing but its count tells.
            Trigger::Queue if fed.is_some_and(|fed| !fed.keeps_dead_letters) => "booking_worker_errors_total",
            Trigger::Queue => "Errors",
            Trigger::Http => "5xx",
            // Nor does one that answers what happens to connections.
            Trigger::WebSocket => "http_server_requests_total",
            Trigger::Stream | Trigger::Schedule => "Errors",
        };
        for path in paths.iter().filter(|path| path.name == entry.name) {
            own.push(json!(path.code.event_type));
            own.extend(path.dead_letters.map(|dead_letters| dead_letters.get("QueueName")));
        }
        match entry.trigger {
            Trigger::Http => own.extend(apis.iter().map(Resource::reference)),
            // No other function has requests of this name.
            Trigger::WebSocket => own.push(json!("$connect")),
            Trigger::Queue | Trigger::Stream | Trigger::Schedule => {}
        }
        faults.unless(!properties["AutoPublishAlias"].is_null(), format!("{id}: set AutoPublishAlias"));
        let all = properties["AutoPublishAliasAllProperties"] == true;
        faults.unless(all, format!("{id}: set AutoPublishAliasAllProperties"));
        let mut metrics: Vec<&str> = Vec::new();
        for alarm in items(&properties["DeploymentPreference"]["Alarms"]) {
            // An alarm of another system is named where that is on.
            let alarm = alarm["Fn::If"].get(1).unwrap_or(alarm);
            let alarm = reference(alarm).and_then(|alarm| project.template.resource(alarm));
            let watched = alarm.map_or(&Value::Null, |alarm| &alarm.properties["Dimensions"]);
            // What is measured of all lines says by its alarm's name alone which function it is of.
            let named = alarm.and_then(|alarm| alarm.properties["AlarmName"]["Fn::Sub"].as_str());
            let prefix = format!("${{AWS::StackName}}-{}-", entry.name);
            let is_its = nodes(watched).into_iter().any(|node| own.contains(node))
                || watched.is_null() && named.is_some_and(|name| name.starts_with(&prefix));
            faults.unless(
                is_its,
                format!("{id}: its DeploymentPreference names an alarm that does not watch it: {alarm:?}"),
            );
            metrics.extend(alarm.and_then(|alarm| alarm.properties["MetricName"].as_str()));
        }
        for needed in ["Errors", telling] {
            let fault = format!("{id}: its DeploymentPreference must name the alarm on {needed}");
            faults.unless(metrics.contains(&needed), fault);
        }
    }
}

/// What a schedule sends decides what is done, so that a file of events/ shows it: the `Input`, or else the bus's own event.
fn schedules_are_shown(project: &Project, faults: &mut Faults) {
    for Deployed { entry, function } in project.template.deployed() {
        let events = fields(&function.properties["Events"]);
        for (id, schedule) in events.into_iter().filter(|(_, event)| event["Type"] == "Schedule") {
            let input = schedule["Properties"]["Input"].as_str();
            let input = input.map(|input| serde_json::from_str::<Value>(input).unwrap_or_default());
            let is_shown = shown(entry.name).iter().any(|event| match &input {
                Some(input) => event == input,
                None => event["detail-type"] == "Scheduled Event",
            });
            let fault = format!("{}: no file of events/{} shows what {id} sends", function.id, entry.name);
            faults.unless(is_shown, fault);
        }
    }
}

/// The events of a function's files, without what they promise.
fn shown(function: &str) -> Vec<Value> {
    let files = fs::read_dir(workspace().join("events").join(function)).into_iter().flatten();
    let texts = files.filter_map(|file| fs::read_to_string(file.ok()?.path()).ok());
    let mut events: Vec<Value> = texts.filter_map(|text| serde_json::from_str(&text).ok()).collect();
    for event in &mut events {
        event.as_object_mut().and_then(|event| event.remove("scenario"));
    }
    events
}

fn dead_letters_in_its_own(project: &Project, faults: &mut Faults) {
    for path in project.template.paths() {
        let expected = path.dead_letters.map_or_else(|| json!(""), |dead_letters| dead_letters.reference());
        let fault = format!("{}: DLQ_URL must be {expected}", path.function.id);
        faults.unless(path.function.variables()["DLQ_URL"] == expected, fault);
    }
}
