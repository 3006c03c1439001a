//! Systems: what belongs to each, and the switch that all of it follows.

use std::collections::BTreeSet;

use local_stack::catalogue;
use serde_json::{Value, json};

use super::{Faults, Rule, environment, references, stages};
use crate::{
    evaluate::Stack,
    project::{File, Project, edit, edit_in},
    template::{Deployed, FUNCTION, Template, fields, items, nodes},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "each event type is listed once, for its system, and is one of the code",
        check: event_types_are_listed,
        breaks: &[
            edit("PaymentFailed, ReservationCancelled, ", "PaymentFailed, "),
            edit("  Systems:\n", "  Systems:\n    Rooms: {EventTypes: []}\n"),
            edit("  Systems:\n", "  Systems:\n    Reservations: {EventTypes: [PaymentFailed]}\n"),
            edit("  EventTypes:\n", "  EventTypes:\n    PaymentLost: {Name: payment.lost, Function: payment-lost}\n"),
        ],
    },
    Rule {
        name: "a system is switched by a parameter of its name, which is off unless the system is older than its switch",
        check: has_its_switch,
        breaks: &[
            edit("Bookings, WaitingRoom]\n", "Bookings, WaitingRoom, GradualDeployments]\n"),
            edit("        Parameters: [Settlement, Reservations, Bookings, WaitingRoom]\n", ""),
            edit(
                "    AllowedValues: [\"true\", \"false\"]\n    Default: \"true\"",
                "    AllowedValues: [\"true\", \"false\"]\n    Default: \"false\"",
            ),
            edit("Default: \"false\"\n\n  ReservationApiBase", "Default: \"true\"\n\n  ReservationApiBase"),
            edit(
                "    AllowedValues: [\"true\", \"false\"]\n    Default: \"true\"",
                "    AllowedValues: [\"true\", \"no\"]\n    Default: \"true\"",
            ),
        ],
    },
    Rule {
        name: "a function is there with the system that the catalogue has it in, and without it is not",
        check: is_of_its_system,
        breaks: &[
            edit("Bookings, WaitingRoom]\n", "Bookings]\n"),
            edit(
                "    Condition: HasReservations\n    Metadata: {BuildMethod",
                "    Condition: HasSettlement\n    Metadata: {BuildMethod",
            ),
        ],
    },
    Rule {
        name: "whatever the systems do not share is there with its system alone",
        check: follows_its_switch,
        breaks: &[
            edit(
                "    Condition: HasSettlement\n    Properties:\n      Description: A hold has run out",
                "    Properties:",
            ),
            edit("    Condition: HasSettlement\n    Metadata", "    Metadata"),
            edit(
                "        Condition: HasSettlement\n        Properties:\n          # Named",
                "        Properties:\n          # Named",
            ),
            edit(
                "HasSettlement: !Equals [!Ref Settlement, \"true\"]",
                "HasSettlement: !Equals [!Ref Settlement, \"false\"]",
            ),
            edit("    Condition: MakesBus\n", "    Condition: HasSettlement\n"),
            edit("    Type: AWS::DynamoDB::Table\n", "    Type: AWS::DynamoDB::Table\n    Condition: HasSettlement\n"),
            edit("        PassthroughCondition: true\n", ""),
            edit(
                "    Type: AWS::ApiGatewayV2::Api\n    Condition: HasReservations\n",
                "    Type: AWS::ApiGatewayV2::Api\n",
            ),
        ],
    },
    Rule {
        name: "what is made refers to nothing that is not made",
        check: refers_to_what_is_made,
        breaks: &[
            edit(
                "        Condition: HasSettlement\n        Description: Where the events wait",
                "        Description: Waiting",
            ),
            edit("    Condition: HasSettlement\n    Description: The dashboard\n", "    Description: !Ref Dashboard\n"),
            edit("Value: !If [MakesBus, !Ref EventBus, !Ref EventBusName]", "Value: !Ref EventBus"),
            edit("!If [DeploysGradually, !GetAtt DeploymentRole.Arn, !Ref AWS::NoValue]", "!GetAtt DeploymentRole.Arn"),
            edit(
                "    Type: AWS::DynamoDB::Table\n",
                "    Type: AWS::DynamoDB::Table\n    DependsOn: PaymentFailedQueue\n",
            ),
            edit("    Condition: SettlesAtOwnApi\n", "    Condition: HasSettlement\n"),
            edit("    Condition: SettlesAtOwnApi\n", "    Condition: HasReservations\n"),
            edit("    Condition: SpendsTurnsAtOwnApi\n", "    Condition: HasWaitingRoom\n"),
            edit("!If [HasWaitingRoom, !Ref WaitingRoomTable, \"\"]", "!Ref WaitingRoomTable"),
            edit("EXPIRY_QUEUE_URL: !If [HasSettlement, !Ref Res", "EXPIRY_QUEUE_URL: !If [HasWaitingRoom, !Ref Res"),
            edit(
                "    Condition: ServesCustomers\n    Properties:\n      ApiId: !Ref Api\n      Name",
                "    Properties:\n      ApiId: !Ref Api\n      Name",
            ),
            edit("ServesCustomers: !And [!Condition HasReservations, !Not", "ServesCustomers: !And [!Not"),
            edit("DB_HOST: !If [MakesDatabaseProxy,", "DB_HOST: !If [HasBookings,"),
            edit(
                "    Condition: ReadsKafka\n    Properties:\n      FunctionName",
                "    Condition: HasSettlement\n    Properties:\n      FunctionName",
            ),
            edit("  ReadsMsk: !And\n    - !Condition HasBookings\n", "  ReadsMsk: !And\n    - !Equals [1, 1]\n"),
        ],
    },
    Rule {
        name: "what a system needs is asked for where it is on",
        check: asks_where_it_is_on,
        breaks: &[
            edit("    RuleCondition: !Equals [!Ref Settlement, \"true\"]\n", ""),
            edit(
                "!Or [!Equals [!Ref Settlement, \"true\"], !Equals [!Ref Reservations, \"true\"]]",
                "!Or [!Equals [!Ref Settlement, \"on\"], !Equals [!Ref Reservations, \"on\"]]",
            ),
            edit(
                "RuleCondition: !Equals [!Ref Settlement, \"true\"]",
                "RuleCondition: !Equals [!Ref Settlement, \"on\"]",
            ),
        ],
    },
    Rule {
        name: "each stage says of each system whether it is on",
        check: stages_say_what_is_on,
        breaks: &[
            edit_in(File::Stages, "    \"Settlement=true\",\n", ""),
            edit_in(File::Stages, "    \"Reservations=true\",\n", ""),
            edit_in(File::Stages, "    \"Bookings=false\",\n", ""),
        ],
    },
    Rule {
        name: "a nested template is joined once, and needs no macro that makes resources",
        check: nested_without_macros,
        breaks: &[
            edit("TemplateURL: .template/dashboard.yaml", "TemplateURL: .template/dashboards.yaml"),
            edit_in(File::Dashboard, "Type: AWS::CloudWatch::Dashboard", "Type: AWS::Serverless::Function"),
            edit_in(File::Dashboard, "  Dashboard:\n    Type", "  Fn::ForEach::Dashboards:\n    Type"),
        ],
    },
];

/// What is made whatever systems are on, and why.
const SHARED: [(&str, &str); 3] = [
    ("EventBus", "producers go on putting events on it, and each system listens there"),
    ("IdempotencyTable", "a system that is switched on again must know what it has finished"),
    ("DeploymentRole", "CodeDeploy takes it for the functions of every system"),
];

/// The systems that were deployed before they had a switch. Off by default, their switch would delete what such a stack has.
const OLDER_THAN_THEIR_SWITCH: [&str; 1] = ["Settlement"];

/// The systems of a template: a group of its parameters has their switches.
fn systems(template: &Template) -> Vec<&str> {
    let groups = items(&template.section("Metadata")["AWS::CloudFormation::Interface"]["ParameterGroups"]);
    let switches = groups.into_iter().find(|group| group["Label"]["default"] == "Systems");
    switches.into_iter().flat_map(|group| items(&group["Parameters"])).filter_map(Value::as_str).collect()
}

/// The loops make the resources of what is listed. What is only in `EventTypes` would have none.
fn event_types_are_listed(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let lists = fields(&template.section("Mappings")["Systems"]);
    for (system, _) in &lists {
        faults.unless(systems(template).contains(system), format!("Systems: {system} is no system with a switch"));
    }
    let listed = lists.into_iter().flat_map(|(_, system)| items(&system["EventTypes"]));
    let listed: Vec<&str> = listed.filter_map(Value::as_str).collect();
    let distinct: BTreeSet<&str> = listed.iter().copied().collect();
    faults.unless(distinct.len() == listed.len(), format!("Systems: list each event type once: {listed:?}"));
    let entries = fields(&template.section("Mappings")["EventTypes"]);
    let mapped: BTreeSet<&str> = entries.iter().map(|(id, _)| *id).collect();
    faults.unless(distinct == mapped, format!("Systems list {distinct:?}, and EventTypes has {mapped:?}"));
    for (id, entry) in entries {
        let function = entry["Function"].as_str().and_then(catalogue::fed);
        let same = function.is_some_and(|function| entry["Name"] == function.event_type);
        faults.unless(same, format!("EventTypes: {id} is not what a function of the catalogue reads: {entry}"));
    }
}

fn has_its_switch(project: &Project, faults: &mut Faults) {
    let systems = systems(&project.template);
    faults.unless(!systems.is_empty(), "Metadata: the parameter group Systems must name the switches");
    for system in systems {
        let switch = &project.template.section("Parameters")[system];
        let default = if OLDER_THAN_THEIR_SWITCH.contains(&system) { "true" } else { "false" };
        let fault = format!("{system}: it must be a parameter that is \"true\" or \"false\", by default \"{default}\"");
        faults.unless(switch["AllowedValues"] == json!(["true", "false"]) && switch["Default"] == default, fault);
    }
}

/// A stack with just these systems, and otherwise as given.
fn with<'t>(template: &'t Template, on: &[&str], given: &[(&'t str, &str)]) -> Stack<'t> {
    let switches = systems(template).into_iter().map(|name| (name, if on.contains(&name) { "true" } else { "false" }));
    Stack::new(template, &switches.chain(given.iter().copied()).collect::<Vec<_>>())
}

/// The resources that a stack has.
fn made<'t>(template: &'t Template, stack: &Stack<'_>) -> BTreeSet<&'t str> {
    let resources = template.resources().into_iter();
    resources.filter(|resource| stack.makes(resource.body)).map(|resource| resource.id).collect()
}

fn is_of_its_system(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let pushing = [("WaitingRoomPush", "true")];
    for Deployed { entry, function } in template.deployed() {
        let own = entry.system.switch();
        let others: Vec<&str> = systems(template).into_iter().filter(|system| *system != own).collect();
        let (alone, without) =
            (made(template, &with(template, &[own], &pushing)), made(template, &with(template, &others, &pushing)));
        let right = alone.contains(function.id) && !without.contains(function.id);
        faults.unless(right, format!("{}: it must be there with {own}, and only then", function.id));
    }
}

fn follows_its_switch(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let all_that_is_shared = [("GradualDeployment", "true")];
    let shared = made(template, &with(template, &[], &all_that_is_shared));
    for id in &shared {
        let known = SHARED.iter().any(|(name, _)| name == id);
        faults.unless(known, format!("{id}: it is there with every system off; give it the condition of its system"));
    }
    for (id, why) in SHARED {
        faults.unless(shared.contains(id), format!("{id}: it must be there with every system off, because {why}"));
    }
    for system in systems(template) {
        let alone = made(template, &with(template, &[system], &all_that_is_shared));
        faults.unless(alone.len() > shared.len(), format!("{system}: switched on, it brings nothing"));
    }
    // SAM hands a function's condition on to its alias, its versions and its mapping, but not to CodeDeploy's resources.
    for function in template.of_type(FUNCTION) {
        let passed = function.properties["DeploymentPreference"]["PassthroughCondition"] == true;
        faults.unless(passed, format!("{}: set PassthroughCondition in its DeploymentPreference", function.id));
    }
}

const KAFKA: &str = "arn:aws:kafka:eu-west-1:123456789012:cluster/bookings/1d3f0b5e-2";
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bookings-AbCdEf";

/// For every combination of systems, and of what else decides whether something shared is made.
fn refers_to_what_is_made(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let resources: BTreeSet<&str> = template.resources().iter().map(|resource| resource.id).collect();
    let given: [&[(&str, &str)]; 9] = [
        &[],
        &[("WaitingRoomPush", "true"), ("AwsEndpointUrl", "http://127.0.0.1:4566")],
        &[("GradualDeployment", "true"), ("EventBusName", "an-existing-bus")],
        &[("JwtIssuer", "https://issuer.example"), ("JwtScope", "reserve"), ("CorsOrigins", "https://page.example")],
        &[("ReservationApiBase", "https://reservation-api.example"), ("CorsOrigins", "https://page.example")],
        &[("BookingKafka", "msk"), ("KafkaClusterArn", KAFKA), ("KafkaAuth", "IAM"), ("DatabaseAuth", "iam")],
        &[
            ("BookingKafka", "self-managed"),
            ("KafkaBootstrapServers", "kafka:9092"),
            ("VpcSubnetIds", "subnet-1,subnet-2"),
        ],
        &[("DatabaseProxyCluster", "bookings"), ("DatabaseSecretArn", SECRET), ("DatabaseAuth", "iam")],
        &[("DatabaseProxyInstance", "bookings"), ("DatabaseSecretArn", SECRET)],
    ];
    for on in subsets(&systems(template)) {
        for given in given {
            let stack = with(template, &on, given);
            let made = made(template, &stack);
            let sections = ["Resources", "Outputs"].map(|name| fields(template.section(name)));
            for (id, body) in sections.into_iter().flatten().filter(|(_, body)| stack.makes(body)) {
                for target in references::targets(&stack.chosen(body)) {
                    let exists = !resources.contains(target.as_str()) || made.contains(target.as_str());
                    faults.unless(exists, format!("{id}: with {on:?} on, it refers to {target}, which is not made"));
                }
            }
        }
    }
}

fn subsets<'s>(of: &[&'s str]) -> Vec<Vec<&'s str>> {
    of.iter().fold(vec![Vec::new()], |subsets, item| {
        let with_item = subsets.iter().map(|subset| [&subset[..], &[*item]].concat());
        subsets.iter().cloned().chain(with_item).collect()
    })
}

fn asks_where_it_is_on(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let with_none = with(template, &[], &[]);
    for (name, rule) in fields(template.section("Rules")) {
        if let Err(refusal) = with_none.passes(rule) {
            faults.add(format!("{name}: with every system off it still refuses: {refusal}"));
        }
        let refuses = |on: &[&str], given| with(template, on, given).passes(rule).is_err();
        let refuses_some = subsets(&systems(template))
            .iter()
            .any(|on| [&[][..], &environment::PLACEHOLDERS].into_iter().any(|given| refuses(on, given)));
        let refuses_some = rule["RuleCondition"].is_null() || refuses_some;
        faults.unless(
            refuses_some,
            format!("{name}: whatever system is on, with nothing or all given it refuses nothing"),
        );
    }
}

/// What a stage does not say keeps its last value, and another checkout of this file would deploy something else.
fn stages_say_what_is_on(project: &Project, faults: &mut Faults) {
    for (name, stage) in stages::stages(project) {
        let said = stages::overrides(stage, "deploy");
        for system in systems(&project.template) {
            let says = said.iter().any(|(parameter, _)| *parameter == system);
            faults.unless(says, format!("{name}.deploy: say {system}=true or {system}=false"));
        }
    }
}

/// AWS applies a nested template's macros, and MiniStack does not: what needs them could not be tested, nor tried without an
/// account. `tests/deployment` turns red when that changes.
fn nested_without_macros(project: &Project, faults: &mut Faults) {
    let stacks = project.template.of_type("AWS::CloudFormation::Stack");
    for (name, nested) in &project.nested {
        let url = format!(".template/{name}");
        let joined = stacks.iter().filter(|stack| stack.properties["TemplateURL"] == url).count();
        faults.unless(joined == 1, format!("{url}: one stack of template.yaml must include it, and {joined} do"));
        for (id, body) in nodes(nested).into_iter().flat_map(fields) {
            let kind = body["Type"].as_str().unwrap_or_default();
            let needs_macro = id.starts_with("Fn::ForEach::") || kind.starts_with("AWS::Serverless::");
            faults.unless(!needs_macro, format!("{url}: {id} needs a macro; make it a section of template.yaml"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project::Texts;

    /// Two systems, of which one is off by default and has what the other has.
    const MADE: &str = r#"
Metadata:
  AWS::CloudFormation::Interface:
    ParameterGroups: [{Label: {default: Systems}, Parameters: [Settlement, Bookings]}]
Parameters:
  Settlement: {Type: String, AllowedValues: ["true", "false"], Default: "true"}
  Bookings: {Type: String, AllowedValues: ["true", "false"], Default: "false"}
  GradualDeployment: {Type: String, Default: "false"}
  Database: {Type: String, Default: ""}
Rules:
  DatabaseIsKnown:
    RuleCondition: !Equals [!Ref Bookings, "true"]
    Assertions: [{Assert: !Not [!Equals [!Ref Database, ""]], AssertDescription: Database must be given.}]
Conditions:
  HasSettlement: !Equals [!Ref Settlement, "true"]
  HasBookings: !Equals [!Ref Bookings, "true"]
  HasBoth: !And [!Condition HasSettlement, !Condition HasBookings]
  DeploysGradually: !Equals [!Ref GradualDeployment, "true"]
Resources:
  EventBus: {Type: AWS::Events::EventBus}
  IdempotencyTable: {Type: AWS::DynamoDB::Table}
  DeploymentRole: {Type: AWS::IAM::Role, Condition: DeploysGradually}
  SeatQueue: {Type: AWS::SQS::Queue, Condition: HasSettlement}
  RoomQueue: {Type: AWS::SQS::Queue, Condition: HasBookings}
  Bridge:
    Type: AWS::Events::Rule
    Condition: HasBoth
    Properties: {Targets: [!GetAtt SeatQueue.Arn, !GetAtt RoomQueue.Arn]}
  Dashboard:
    Type: AWS::CloudFormation::Stack
    Condition: HasSettlement
    Properties: {TemplateURL: .template/dashboard.yaml}
  RoomsDashboard:
    Type: AWS::CloudFormation::Stack
    Condition: HasBookings
    Properties: {TemplateURL: .template/dashboard-reservations.yaml}
  OtherRoomsDashboard:
    Type: AWS::CloudFormation::Stack
    Condition: HasBookings
    Properties: {TemplateURL: .template/dashboard-bookings.yaml}
  FurtherRoomsDashboard:
    Type: AWS::CloudFormation::Stack
    Condition: HasBookings
    Properties: {TemplateURL: .template/dashboard-waiting-room.yaml}
Outputs:
  Rooms: {Condition: HasBookings, Value: !Ref RoomQueue}
"#;

    /// What a rule finds in the made template after an edit: nothing, or something that holds `fault`.
    #[track_caller]
    fn check(rule: fn(&Project, &mut Faults), text: &str, with: &str, fault: Option<&str>) {
        assert!(text == with || MADE.contains(text), "{text:?} is not there");
        let texts = Texts { template: MADE.replacen(text, with, 1), ..Texts::read() };
        let mut faults = Faults::default();
        rule(&Project::parse(&texts).unwrap(), &mut faults);
        match fault {
            None => assert_eq!(faults.0, Vec::<String>::new()),
            Some(fault) => assert!(faults.0.iter().any(|found| found.contains(fault)), "{fault:?}: {:?}", faults.0),
        }
    }

    #[test]
    fn two_systems_that_follow_their_switches_keep_every_rule() {
        for rule in
            [has_its_switch, follows_its_switch, refers_to_what_is_made, asks_where_it_is_on, nested_without_macros]
        {
            check(rule, "", "", None);
        }
    }

    #[test]
    fn a_new_system_is_off_by_default() {
        check(
            has_its_switch,
            "Default: \"false\"}\n  Grad",
            "Default: \"true\"}\n  Grad",
            Some("Bookings: it must be"),
        );
        check(has_its_switch, "[Settlement, Bookings]", "[Settlement, Rooms]", Some("Rooms: it must be"));
    }

    #[test]
    fn what_a_new_system_brings_follows_its_switch() {
        let of = "AWS::SQS::Queue, Condition: HasBookings}";
        check(follows_its_switch, of, "AWS::SQS::Queue}", Some("RoomQueue: it is there with every system off"));
        check(
            follows_its_switch,
            "HasBookings: !Equals [!Ref Bookings",
            "HasBookings: !Equals [!Ref Database",
            Some("Bookings"),
        );
        let function = "RoomFunction: {Type: AWS::Serverless::Function, Condition: HasBookings}\n  RoomQueue:";
        check(follows_its_switch, "RoomQueue:", function, Some("RoomFunction: set PassthroughCondition"));
    }

    #[test]
    fn what_two_systems_make_together_needs_both() {
        check(refers_to_what_is_made, "Condition: HasBoth", "Condition: HasBookings", Some("refers to SeatQueue"));
        check(refers_to_what_is_made, "{Condition: HasBookings, Value", "{Value", Some("refers to RoomQueue"));
    }

    #[test]
    fn what_a_system_needs_is_not_asked_for_while_it_is_off() {
        let condition = "    RuleCondition: !Equals [!Ref Bookings, \"true\"]\n";
        check(asks_where_it_is_on, condition, "", Some("Database must be given."));
    }

    #[test]
    fn a_nested_template_that_nothing_joins_is_found() {
        check(nested_without_macros, ".template/dashboard.yaml", ".template/other.yaml", Some("and 0 do"));
    }
}
