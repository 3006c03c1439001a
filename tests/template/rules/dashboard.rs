//! The dashboards: that each graph draws something that exists, and that nothing worth a look is left out.

use std::collections::BTreeSet;

use local_stack::catalogue;
use serde_json::{Value, json};

use super::{Faults, Rule};
use crate::{
    code,
    project::{File, Project, edit, edit_in},
    template::{API, FUNCTION, QUEUE, Resource, Template, fields, items, nodes, reference},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "each line of a dashboard draws a metric that is written",
        check: lines_are_written,
        breaks: &[
            edit_in(File::Dashboard, "worker_latency_seconds", "worker_latency_ms"),
            edit_in(File::Dashboard, "[\"...\", superseded]", "[\"...\", late_approval]"),
            edit_in(File::Dashboard, "type, payment.failed, outcome", "type, payment.refused, outcome"),
            edit_in(File::Dashboard, "\"Holdfast/${StackName}\"", "\"Holdfast\""),
            edit_in(File::Dashboard, "ApproximateAgeOfOldestMessage", "ApproximateAge"),
            edit_in(File::Dashboard, "\"${StackName}-payment-failed-dlq\"", "\"${StackName}-payment-failed-dead\""),
            edit("METRICS_NAMESPACE: !Sub Holdfast/${AWS::StackName}", "METRICS_NAMESPACE: Holdfast"),
            edit_in(File::ReservationsDashboard, "http_server_requests_total", "http_requests_total"),
            edit_in(File::ReservationsDashboard, "route, POST /v1/reservations,", "route, POST /v1/bookings,"),
            edit_in(File::ReservationsDashboard, "[\"...\", \"409\"", "[\"...\", \"conflict\""),
            edit_in(File::ReservationsDashboard, "4xx, ApiId, !Ref ApiId", "400, ApiId, !Ref ApiId"),
            edit_in(File::ReservationsDashboard, "Count, ApiId, !Ref ApiId", "Count, ApiId, !Ref TableName"),
            edit("        TableName: !Ref ReservationsTable\n", "        TableName: !Ref Api\n"),
            edit_in(File::ReservationsDashboard, "method, ReserveSeat, code", "method, ReserveSeats, code"),
            edit_in(File::ReservationsDashboard, "DEADLINE_EXCEEDED", "TIMEOUT"),
            edit_in(File::ReservationsDashboard, "[\"...\", EXPIRED]", "[\"...\", REFUNDED]"),
            edit_in(File::WaitingRoomDashboard, "booking_worker_tick_age_seconds", "booking_worker_tick_age_ms"),
            edit_in(File::WaitingRoomDashboard, "[\"...\", given_up]", "[\"...\", lost]"),
        ],
    },
    Rule {
        name: "a dashboard shows each event type with all of its outcomes",
        check: shows_every_outcome,
        breaks: &[
            edit_in(File::Dashboard, "                  - [\"...\", late_approval]\n", ""),
            edit_in(File::Dashboard, "title: payment.failed, events", "title: events"),
            edit_in(
                File::WaitingRoomDashboard,
                "                  - [\"...\", closed]\n                  - [\"...\", failed]\n",
                "",
            ),
        ],
    },
    Rule {
        name: "a dashboard shows each queue, each function, each API and each table of a system's own",
        check: shows_every_resource,
        breaks: &[
            edit_in(
                File::Dashboard,
                "!Sub \"${StackName}-payment-failed-dlq\"",
                "!Sub \"${StackName}-payment-approved-dlq\"",
            ),
            edit("-${Function}-dlq\", {Function", "-${Function}-dead\", {Function"),
            edit_in(File::ReservationsDashboard, "AWS/ApiGateway, 5xx", "AWS/ApiGateway, 4xx"),
            edit_in(File::ReservationsDashboard, "ApiGateway, Latency, ApiId", "ApiGateway, IntegrationLatency, ApiId"),
            edit_in(File::ReservationsDashboard, "WriteThrottleEvents", "ReadThrottleEvents"),
            edit_in(
                File::ReservationsDashboard,
                "Errors, FunctionName, !Sub \"${StackName}-reservation-api\"",
                "Errors, FunctionName, !Sub \"${StackName}-payment-failed\"",
            ),
        ],
    },
    Rule {
        name: "a dashboard is given what it asks for",
        check: given_what_it_asks_for,
        breaks: &[
            edit("        StackName: !Ref AWS::StackName\n", ""),
            edit("        StackName: !Ref AWS::StackName\n", "        StackName: holdfast\n"),
            edit("TemplateURL: .template/dashboard.yaml", "TemplateURL: dashboard.yaml"),
            edit("        ApiId: !Ref Api\n        TableName", "        TableName"),
        ],
    },
];

/// Metrics of AWS, each with its dimension and the type of resource that has it.
const OF_AWS: [(&str, &str, &str, &str); 14] = [
    ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", QUEUE),
    ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", QUEUE),
    ("AWS/Lambda", "ConcurrentExecutions", "FunctionName", FUNCTION),
    ("AWS/Lambda", "Errors", "FunctionName", FUNCTION),
    ("AWS/Lambda", "IteratorAge", "FunctionName", FUNCTION),
    ("AWS/Lambda", "OffsetLag", "FunctionName", FUNCTION),
    ("AWS/Lambda", "Throttles", "FunctionName", FUNCTION),
    ("AWS/ApiGateway", "Count", "ApiId", API),
    ("AWS/ApiGateway", "4xx", "ApiId", API),
    ("AWS/ApiGateway", "5xx", "ApiId", API),
    ("AWS/ApiGateway", "Latency", "ApiId", API),
    ("AWS/ApiGateway", "IntegrationLatency", "ApiId", API),
    ("AWS/DynamoDB", "ReadThrottleEvents", "TableName", TABLE),
    ("AWS/DynamoDB", "WriteThrottleEvents", "TableName", TABLE),
];

const TABLE: &str = "AWS::DynamoDB::Table";

/// A line of a graph: namespace, metric, then names and values of its dimensions.
struct Line<'d> {
    /// The file of its dashboard.
    file: &'d str,
    title: &'d str,
    parts: Vec<Value>,
}

impl Line<'_> {
    fn text(&self, index: usize) -> &str {
        self.parts.get(index).and_then(Value::as_str).unwrap_or_default()
    }

    fn dimensions(&self) -> Vec<(&str, &str)> {
        (2..self.parts.len()).step_by(2).map(|index| (self.text(index), self.text(index + 1))).collect()
    }
}

/// Every line, with `...` and `.` replaced by what they repeat of the line before.
fn lines(project: &Project) -> Vec<Line<'_>> {
    let nested =
        project.nested.iter().flat_map(|(file, nested)| nodes(nested).into_iter().map(move |node| (file, node)));
    let mut lines = Vec::new();
    for (file, widget) in nested.filter(|(_, node)| !node["metrics"].is_null()) {
        let title = widget["title"].as_str().unwrap_or_default();
        let mut last: Vec<Value> = Vec::new();
        for row in items(&widget["metrics"]) {
            let is_option = |part: &&Value| part.is_object() && part["Fn::Sub"].is_null() && part["Ref"].is_null();
            let mut parts: Vec<Value> = items(row).into_iter().filter(|part| !is_option(part)).cloned().collect();
            if parts.first().is_some_and(|first| first == "...") {
                let kept = last.len().saturating_sub(parts.len() - 1);
                parts.splice(..1, last.iter().take(kept).cloned());
            }
            for (part, before) in parts.iter_mut().zip(&last).filter(|(part, _)| **part == json!(".")) {
                part.clone_from(before);
            }
            last.clone_from(&parts);
            lines.push(Line { file, title, parts });
        }
    }
    lines
}

/// What a name of the template is called in a dashboard, which has the stack's name as a parameter.
fn within(name: &Value) -> Value {
    json!({"Fn::Sub": name["Fn::Sub"].as_str().unwrap_or_default().replace("${AWS::StackName}", "${StackName}")})
}

/// Whether a line is about this resource: by the name that it has of `property`, or by a parameter of its dashboard, where it
/// gets its name from AWS.
fn is_of(template: &Template, line: &Line<'_>, resource: Resource<'_>, property: &str) -> bool {
    let url = format!(".template/{}", line.file);
    let stacks = template.of_type("AWS::CloudFormation::Stack");
    let given = |parameter: &str| {
        let own = stacks.iter().filter(|stack| stack.properties["TemplateURL"] == url);
        own.map(|stack| &stack.properties["Parameters"][parameter]).any(|given| *given == resource.reference())
    };
    let by_name = |name| reference(name).map_or_else(|| within(&resource.properties[property]) == *name, given);
    line.parts.get(3).is_some_and(by_name)
}

fn lines_are_written(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let functions = template.of_type(FUNCTION);
    for line in lines(project) {
        let shown = Value::from(line.parts.clone());
        let namespace = line.text(0);
        if !namespace.starts_with("AWS/") {
            let same =
                functions.iter().all(|function| within(&function.variables()["METRICS_NAMESPACE"]) == line.parts[0]);
            faults.unless(same, format!("{}: METRICS_NAMESPACE is another namespace: {shown}", line.title));
            if let Err(fault) = code::metric_exists(line.text(1), &line.dimensions()) {
                faults.add(format!("{}: {fault}: {shown}", line.title));
            }
            continue;
        }
        let known = OF_AWS.iter().find(|known| (known.0, known.1, known.2) == (namespace, line.text(1), line.text(2)));
        let Some((.., dimension, kind)) = known else {
            faults.add(format!("{}: no metric that AWS is known to write: {shown}", line.title));
            continue;
        };
        let named = template.of_type(kind).iter().any(|resource| is_of(template, &line, *resource, dimension));
        faults.unless(named, format!("{}: the template has no {kind} of that name: {shown}", line.title));
    }
}

fn shows_every_outcome(project: &Project, faults: &mut Faults) {
    let lines = lines(project);
    for function in catalogue::all_fed() {
        let event_type = function.event_type;
        let shown: BTreeSet<&str> = lines
            .iter()
            .filter(|line| line.title.contains(event_type) && line.text(1) == "worker_events_total")
            .filter(|line| line.text(3) == event_type)
            .map(|line| line.text(5))
            .collect();
        let outcomes = code::outcomes(function);
        let fault = format!("a graph with {event_type} in its title must show {outcomes:?}, and shows {shown:?}");
        faults.unless(shown == outcomes, fault);
    }
}

fn shows_every_resource(project: &Project, faults: &mut Faults) {
    let (lines, template) = (lines(project), &project.template);
    let of = [
        (QUEUE, "QueueName", "ApproximateNumberOfMessagesVisible"),
        (FUNCTION, "FunctionName", "Errors"),
        (FUNCTION, "FunctionName", "Throttles"),
        (FUNCTION, "FunctionName", "ConcurrentExecutions"),
        (API, "ApiId", "Count"),
        (API, "ApiId", "4xx"),
        (API, "ApiId", "5xx"),
        (API, "ApiId", "Latency"),
        (TABLE, "TableName", "WriteThrottleEvents"),
    ];
    for (kind, property, metric) in of {
        // What all systems share is on the dashboard of none; its faults show in what they do to a record.
        // Those of a WebSocket API show in what its function writes.
        let of_kind = if kind == API { template.of_api(kind, "HTTP") } else { template.of_type(kind) };
        for resource in of_kind.into_iter().filter(|resource| !resource.body["Condition"].is_null()) {
            let mut of_metric = lines.iter().filter(|line| line.text(1) == metric);
            let shown = of_metric.any(|line| is_of(template, line, resource, property));
            faults.unless(shown, format!("dashboard: show {metric} of {}", resource.id));
        }
    }
    for path in template.paths() {
        let (name, event_type) = (within(&path.queue.properties["QueueName"]), path.code.event_type);
        let aged =
            |line: &Line<'_>| line.text(1) == "ApproximateAgeOfOldestMessage" && line.parts.get(3) == Some(&name);
        faults.unless(lines.iter().any(aged), format!("dashboard: show the oldest message's age of {}", path.queue.id));
        let timed = |line: &Line<'_>| line.text(1) == "worker_latency_seconds" && line.text(3) == event_type;
        faults.unless(lines.iter().any(timed), format!("dashboard: show the latency of {event_type}"));
    }
}

fn given_what_it_asks_for(project: &Project, faults: &mut Faults) {
    let stacks = project.template.of_type("AWS::CloudFormation::Stack");
    for (file, nested) in &project.nested {
        let url = format!(".template/{file}");
        let Some(stack) = stacks.iter().find(|stack| stack.properties["TemplateURL"] == url) else {
            faults.add(format!("template.yaml must include {url}"));
            continue;
        };
        let names = |value| fields(value).into_iter().map(|(name, _)| name).collect::<BTreeSet<_>>();
        let (asked, given) = (names(&nested["Parameters"]), names(&stack.properties["Parameters"]));
        faults.unless(asked == given, format!("{}: it asks for {asked:?} and is given {given:?}", stack.id));
        let name = &stack.properties["Parameters"]["StackName"];
        faults
            .unless(*name == json!({"Ref": "AWS::StackName"}), format!("{}: StackName must be this stack's", stack.id));
    }
}
