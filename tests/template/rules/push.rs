//! Pushes to pages: a WebSocket API that is there where it is switched on, leads to its function alone, and is named to those
//! who need its address.

use local_stack::catalogue::Trigger;
use serde_json::{Value, json};

use super::{Faults, Rule, alarms};
use crate::{
    evaluate::Stack,
    project::{Project, edit},
    template::{API, Deployed, Resource, Template},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "what pushes to pages is there where it is switched on, and only there",
        check: follows_its_switch,
        breaks: &[
            edit(
                "    Condition: PushesToPages\n    Properties:\n      Name",
                "    Condition: HasWaitingRoom\n    Properties:\n      Name",
            ),
            edit("    Condition: PushesToPages\n    Metadata", "    Condition: HasWaitingRoom\n    Metadata"),
            edit(
                "PushesToPages: !And [!Condition HasWaitingRoom, ",
                "PushesToPages: !And [!Condition HasReservations, ",
            ),
            edit(
                "hears at once that it is somebody's turn; without it\n      everybody finds out when his page asks.\n    Type: String\n    AllowedValues: [\"true\", \"false\"]\n    Default: \"false\"",
                "hears at once.\n    Type: String\n    AllowedValues: [\"true\", \"false\"]\n    Default: \"true\"",
            ),
        ],
    },
    Rule {
        name: "what happens to a connection reaches the live version of its function",
        check: connections_reach_their_function,
        breaks: &[
            edit("      RouteKey: $connect\n", "      RouteKey: connect\n"),
            edit("      RouteKey: $disconnect\n", "      RouteKey: leave\n"),
            edit(
                "            - !Ref WaitingRoomConnectedFunction.Alias\n",
                "            - !GetAtt WaitingRoomConnectedFunction.Arn\n",
            ),
            edit(
                "      ApiId: !Ref PushApi\n      IntegrationType: AWS_PROXY\n",
                "      ApiId: !Ref PushApi\n      IntegrationType: AWS\n",
            ),
            edit("      StageName: live\n      AutoDeploy: true\n", "      StageName: live\n"),
            edit("DefaultRouteSettings: {ThrottlingRateLimit: 500, ThrottlingBurstLimit: 500}", "Description: live"),
        ],
    },
    Rule {
        name: "who gives tickets and who pushes knows the stage of the API, where there is one",
        check: stage_is_known,
        breaks: &[
            edit(
                "- !Sub ${AwsEndpointUrl}/_aws/execute-api/${PushApi}/live\n",
                "- !Sub ${AwsEndpointUrl}/${PushApi}/live\n",
            ),
            edit("- !Sub https://${PushApi}.execute-api", "- !Sub http://${PushApi}.execute-api"),
            edit("${AWS::URLSuffix}/live\n", "${AWS::URLSuffix}/$default\n"),
            edit(
                "          PUSH_API_BASE: !If\n            - PushesToPages\n",
                "          PUSH_API_BASE: !If\n            - HasWaitingRoom\n",
            ),
        ],
    },
    Rule {
        name: "pushes that fail, and connections that can't be opened, raise an alarm",
        check: failures_raise_them,
        breaks: &[
            edit("{Name: result, Value: failed}", "{Name: result, Value: gone}"),
            edit("[{Name: route, Value: $connect}, ", "[{Name: route, Value: $default}, "),
        ],
    },
];

/// The stack that pushes, and the one that does not.
fn stacks(template: &Template) -> [Stack<'_>; 2] {
    let waiting = Stack::new(template, &[("WaitingRoom", "true"), ("Reservations", "true")]);
    [waiting.with(&[("WaitingRoomPush", "true")]), waiting]
}

/// The function of the connections.
fn function(template: &Template) -> Option<Resource<'_>> {
    let of_connections = |deployed: &Deployed<'_>| deployed.entry.trigger == Trigger::WebSocket;
    template.deployed().into_iter().find(of_connections).map(|deployed| deployed.function)
}

fn follows_its_switch(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let [pushing, silent] = stacks(template);
    let without_room = pushing.with(&[("WaitingRoom", "false")]);
    let kinds = ["Api", "Stage", "Integration", "Route"].map(|kind| format!("AWS::ApiGatewayV2::{kind}"));
    let of_api = kinds.iter().flat_map(|kind| template.of_api(kind, "WEBSOCKET"));
    let own: Vec<Resource<'_>> = of_api.chain(function(template)).collect();
    faults.unless(own.len() == 4 + 3, format!("an API, a stage, an integration, three routes and a function: {own:?}"));
    for resource in own {
        let right = pushing.makes(resource.body) && !silent.makes(resource.body) && !without_room.makes(resource.body);
        faults.unless(right, format!("{}: it must be there with WaitingRoomPush, and only then", resource.id));
    }
}

fn connections_reach_their_function(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let Some(function) = function(template) else {
        faults.add("nobody knows of connections");
        return;
    };
    let lambda = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/";
    let alias = json!({"Ref": format!("{}.Alias", function.id)});
    let uri = json!({"Fn::Join": ["", [{"Fn::Sub": lambda}, alias, "/invocations"]]});
    let mut keys: Vec<&str> = Vec::new();
    for route in template.of_api("AWS::ApiGatewayV2::Route", "WEBSOCKET") {
        keys.extend(route.properties["RouteKey"].as_str());
        let target = route.properties["Target"]["Fn::Sub"].as_str().unwrap_or_default();
        let integration = target.strip_prefix("integrations/${").and_then(|rest| rest.strip_suffix('}'));
        let integration = integration.and_then(|id| template.resource(id)).map(|found| found.properties);
        let leads =
            integration.is_some_and(|found| found["IntegrationUri"] == uri && found["IntegrationType"] == "AWS_PROXY");
        faults.unless(leads, format!("{}: it must lead to {uri} by AWS_PROXY", route.id));
    }
    keys.sort_unstable();
    let mut expected = waiting_room_connected::ROUTES;
    expected.sort_unstable();
    faults.unless(keys == expected, format!("the routes of connections must be {expected:?}, and are {keys:?}"));
    for stage in template.of_api("AWS::ApiGatewayV2::Stage", "WEBSOCKET") {
        let limits = &stage.properties["DefaultRouteSettings"];
        let limited = ["ThrottlingRateLimit", "ThrottlingBurstLimit"].iter().all(|name| limits[*name].is_u64());
        let live = stage.properties["AutoDeploy"] == true && stage.properties["StageName"] == "live";
        faults.unless(live && limited, format!("{}: live by itself under the name live, with limits", stage.id));
    }
}

fn stage_is_known(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let [pushing, silent] = stacks(template);
    let local = pushing.with(&[("AwsEndpointUrl", "http://127.0.0.1:4566")]);
    let api = template.of_api(API, "WEBSOCKET").first().map_or(Value::Null, |api| pushing.value(&api.reference()));
    let api = api.as_str().unwrap_or_default();
    let names = [waiting_room::NAME, waiting_room_called::NAME];
    for deployed in template.deployed().into_iter().filter(|deployed| names.contains(&deployed.entry.name)) {
        let base =
            |stack: &Stack<'_>| stack.environment(deployed.function).get("PUSH_API_BASE").cloned().unwrap_or_default();
        let region = pushing.value(&json!({"Fn::Sub": "${AWS::Region}.${AWS::URLSuffix}"}));
        let expected = [
            (&silent, String::new()),
            (&pushing, format!("https://{api}.execute-api.{}/live", region.as_str().unwrap_or_default())),
            (&local, format!("http://127.0.0.1:4566/_aws/execute-api/{api}/live")),
        ];
        for (stack, expected) in expected {
            let found = base(stack);
            faults.unless(
                found == expected,
                format!("{}: PUSH_API_BASE must be {expected:?}, not {found:?}", deployed.function.id),
            );
        }
    }
}

fn failures_raise_them(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let namespace = json!({"Fn::Sub": "Holdfast/${AWS::StackName}"});
    let failed = [("result", json!("failed"))];
    alarms::require(template, (&namespace, "booking_worker_pushes_total", &failed), &["Sum"], 1, faults);
    let unopened = [("route", json!("$connect")), ("status", json!("503"))];
    alarms::require(template, (&namespace, "http_server_requests_total", &unopened), &["Sum"], 1, faults);
}
