//! The HTTP API: who may make which request, what becomes of it, and what is written down about it.

use local_stack::catalogue::Trigger;
use serde_json::{Value, json};
use shared::reservation::lifecycle::LEASE;

use super::{Faults, Rule};
use crate::{
    code,
    evaluate::Stack,
    project::{Project, edit},
    template::{API, Deployed, Resource, Template, fields, items, number, reference},
};

const ROUTE: &str = "AWS::ApiGatewayV2::Route";
const STAGE: &str = "AWS::ApiGatewayV2::Stage";

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "customers need a token and functions a signature, and nothing else is public but what calls nobody",
        check: callers_are_known,
        breaks: &[
            edit("AuthorizationType: JWT", "AuthorizationType: NONE"),
            edit("AuthorizationType: AWS_IAM", "AuthorizationType: NONE"),
            edit("AuthorizationType: AWS_IAM", "AuthorizationType: JWT"),
            edit("      AuthorizationType: AWS_IAM\n", ""),
            edit("      AuthorizerId: !Ref CustomerAuthorizer\n", ""),
            edit("RouteKey: GET /info", "RouteKey: ANY /info"),
            edit("    Condition: ShowsApiDocs\n", "    Condition: HasReservations\n"),
            edit("RouteKey: GET /swagger-ui.html", "RouteKey: ANY /swagger-ui.html"),
            edit("RouteKey: GET /info", "RouteKey: $default"),
            edit("RouteKey: GET /info", "RouteKey: ANY /{proxy+}"),
            edit("RouteKey: OPTIONS /v1/{proxy+}", "RouteKey: GET /v1/{proxy+}"),
            edit("RouteKey: OPTIONS /v1/{proxy+}", "RouteKey: OPTIONS /internal/{proxy+}"),
            edit("RouteKey: ANY /v1/{proxy+}", "RouteKey: ANY /v1x/{proxy+}"),
            edit("RouteKey: ANY /internal/lines/{event_id}", "RouteKey: ANY /lines/{event_id}"),
            edit("RouteKey: GET /waiting-room\n", "RouteKey: GET /waiting\n"),
            edit("BookingWorkerService/GetQueueStatus\n", "BookingWorkerService/GetQueuePosition\n"),
            edit(
                "ServesThoseWhoWait: !And [!Condition HasWaitingRoom, ",
                "ServesThoseWhoWait: !And [!Condition HasReservations, ",
            ),
            edit("RouteKey: ANY /reservation.v1.ReservationService/{proxy+}", "RouteKey: ANY /reservation.v1/{proxy+}"),
            edit("JwtConfiguration: {Issuer: !Ref JwtIssuer, Audience", "JwtConfiguration: {Audience"),
            edit("Audience: !Ref JwtAudience}", "Audience: [x]}"),
            edit("AuthorizerType: JWT", "AuthorizerType: REQUEST"),
            edit("      AuthorizationScopes: !If [HasScope, [!Ref JwtScope], !Ref AWS::NoValue]\n", ""),
            edit("HasScope: !Not [!Equals [!Ref JwtScope, \"\"]]", "HasScope: !Equals [!Ref JwtScope, \"\"]"),
            edit(
                "ServesCustomers: !And [!Condition HasReservations, !Not [!Equals [!Ref JwtIssuer, \"\"]]]",
                "ServesCustomers: !Condition HasReservations",
            ),
        ],
    },
    Rule {
        name: "an issuer of tokens is asked for with whom they are for",
        check: audience_is_asked_for,
        breaks: &[
            edit("            - Fn::Not: [Fn::EachMemberEquals: [!Ref JwtAudience, \"\"]]\n", ""),
            edit("            - Fn::Equals: [!Ref JwtIssuer, \"\"]\n", "            - Fn::Equals: [1, 1]\n"),
        ],
    },
    Rule {
        name: "each request that the code answers has a route to the live version of its function",
        check: requests_reach_their_function,
        breaks: &[
            edit("RouteKey: ANY /v1/{proxy+}", "RouteKey: POST /v1/{proxy+}"),
            edit("RouteKey: ANY /internal/{proxy+}", "RouteKey: ANY /internal"),
            edit("ANY /reservation.v1.ReservationService/{proxy+}", "GET /reservation.v1.ReservationService/{proxy+}"),
            edit("RouteKey: GET /actuator/health", "RouteKey: GET /actuator"),
            edit("RouteKey: GET /v3/api-docs", "RouteKey: GET /v3/api-doc"),
            edit(
                "IntegrationUri: !Ref ReservationApiFunction.Alias",
                "IntegrationUri: !GetAtt ReservationApiFunction.Arn",
            ),
            edit("PayloadFormatVersion: \"2.0\"", "PayloadFormatVersion: \"1.0\""),
            edit("Target: !Sub integrations/${ReservationApiIntegration}", "Target: !Ref ReservationApiIntegration"),
            edit("IntegrationType: AWS_PROXY", "IntegrationType: HTTP_PROXY"),
        ],
    },
    Rule {
        name: "only its API may invoke a function that answers one",
        check: only_its_api_invokes,
        breaks: &[
            edit("Principal: apigateway.amazonaws.com", "Principal: \"*\""),
            edit(
                "      SourceArn: !Sub arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${Api}/*\n",
                "",
            ),
            edit("${AWS::AccountId}:${Api}/*\n", "${AWS::AccountId}:*\n"),
            edit("${AWS::AccountId}:${PushApi}/*\n", "${AWS::AccountId}:${Api}/*\n"),
            edit("FunctionName: !Ref ReservationApiFunction.Alias", "FunctionName: !Ref ReservationApiFunction"),
        ],
    },
    Rule {
        name: "a request has ended before anybody else may go on with it",
        check: ends_in_time,
        breaks: &[
            edit("      Timeout: 10\n", ""),
            edit("      Timeout: 10\n", "      Timeout: 11\n"),
            edit("    MinValue: 30\n", "    MinValue: 10\n"),
        ],
    },
    Rule {
        name: "a change of a route is live by itself, and no client takes all of the API",
        check: stage_is_live,
        breaks: &[
            edit("      AutoDeploy: true\n", ""),
            edit("StageName: $default", "StageName: live"),
            edit("ThrottlingRateLimit: !Ref ThrottleRate", "ThrottlingRateLimit: !Ref ThrottleBurst"),
            edit("ThrottlingBurstLimit: !Ref ThrottleBurst}", "DetailedMetricsEnabled: true}"),
        ],
    },
    Rule {
        name: "the access log says what became of a request, and nothing that its client has sent",
        check: log_tells_nothing_of_clients,
        breaks: &[
            edit("route: $context.routeKey", "route: $context.path"),
            edit("at: $context.requestTimeEpoch", "at: $context.identity.sourceIp"),
            edit("at: $context.requestTimeEpoch", "at: $context.authorizer.claims.sub"),
            edit("gateway_request_id: $context.requestId", "gateway_request_id: $context.extendedRequestId"),
            edit("            status: $context.status\n", ""),
            edit("log-group:${ApiLogGroup}", "log-group:${ReservationApiLogGroup}"),
            edit("LogGroupName: !Sub /aws/vendedlogs/", "LogGroupName: !Sub /aws/apis/"),
            edit("-api\n      RetentionInDays: !Ref LogRetentionDays\n", "-api\n"),
        ],
    },
    Rule {
        name: "scripts of web pages may call where their origin is named, and nowhere else",
        check: web_pages_are_named,
        breaks: &[
            edit("        - AllowOrigins: !Ref CorsOrigins\n", "        - AllowOrigins: [\"*\"]\n"),
            edit("grpc-timeout, idempotency-key,", "grpc-timeout,"),
            edit("grpc-status, idempotent-replayed, location", "grpc-status, location"),
            edit("AllowMethods: [GET, POST]", "AllowMethods: [GET]"),
            edit("        - ServesWebPages\n", "        - HasReservations\n"),
            edit("    Condition: ServesWebPages\n", "    Condition: ServesCustomers\n"),
        ],
    },
];

/// The service of `reservation-rpc`, a path's first part.
const RPC: &str = "reservation.v1.ReservationService";

/// The service of `waiting-room`.
const ROOM: &str = "booking_worker.v1.BookingWorkerService";

/// What anybody may ask of the waiting room: its page, that it answers, and how far a line is, which is the same for all.
const OF_LINES: [&str; 3] = [
    "GET /waiting-room",
    "ANY /booking_worker.v1.BookingWorkerService/GetQueueStatus",
    "ANY /booking_worker.v1.BookingWorkerService/Health",
];

/// What anybody may ask; none of it calls a service.
const PUBLIC: [&str; 3] = ["GET /health", "GET /actuator/health", "GET /info"];

/// What anybody may read of the API where it is shown.
const DOCUMENT: [&str; 2] = ["GET /v3/api-docs", "GET /swagger-ui.html"];

/// A stack that serves customers, and the web pages of one origin.
fn serving(template: &Template) -> Stack<'_> {
    Stack::new(
        template,
        &[
            ("Reservations", "true"),
            ("WaitingRoom", "true"),
            ("JwtIssuer", "https://issuer.example"),
            ("JwtAudience", "tickets"),
            ("JwtScope", "reserve"),
            ("CorsOrigins", "https://page.example"),
        ],
    )
}

/// A stack whose API is for functions alone.
fn internal(template: &Template) -> Stack<'_> {
    Stack::new(template, &[("Reservations", "true"), ("WaitingRoom", "true")])
}

/// Method and path of a route.
fn key<'t>(route: &Resource<'t>) -> (&'t str, &'t str) {
    let key = route.properties["RouteKey"].as_str().unwrap_or_default();
    key.split_once(' ').unwrap_or((key, ""))
}

fn callers_are_known(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let (serving, internal) = (serving(template), internal(template));
    let without_lines = serving.with(&[("WaitingRoom", "false")]);
    for route in template.of_api(ROUTE, "HTTP") {
        let (method, path) = key(&route);
        let needed = match path.split('/').nth(1) {
            Some("v1" | RPC | ROOM) if method == "OPTIONS" => "NONE",
            Some(_) if OF_LINES.contains(&format!("{method} {path}").as_str()) => "NONE",
            Some("v1" | RPC | ROOM) => "JWT",
            Some("internal") => "AWS_IAM",
            Some(_) | None if PUBLIC.contains(&format!("{method} {path}").as_str()) => "NONE",
            Some(_) | None if DOCUMENT.contains(&format!("{method} {path}").as_str()) => {
                let shown = Stack::new(template, &[("Reservations", "true"), ("ApiDocs", "true")]);
                let fits = shown.makes(route.body) && !internal.makes(route.body) && !serving.makes(route.body);
                faults.unless(fits, format!("{}: it must be there with ApiDocs, and only there", route.id));
                let found = &route.properties["AuthorizationType"];
                faults.unless(found == "NONE", format!("{}: AuthorizationType must be NONE, not {found}", route.id));
                continue;
            }
            Some(_) | None => {
                faults.add(format!("{}: {method} {path} is for nobody; say here whom it is for", route.id));
                continue;
            }
        };
        let found = &route.properties["AuthorizationType"];
        faults.unless(found == needed, format!("{}: AuthorizationType must be {needed}, not {found}", route.id));
        let of_customers = !path.starts_with("/internal/") && needed != "NONE" || method == "OPTIONS";
        let of_the_room =
            path.starts_with("/internal/lines/") || path.split('/').nth(1) == Some(ROOM) || path == "/waiting-room";
        let fault = format!("{}: it must be there where people wait, and only there", route.id);
        faults.unless(without_lines.makes(route.body) != of_the_room, fault);
        let fault = format!("{}: it must be there where there is an issuer of tokens, and only there", route.id);
        faults.unless(serving.makes(route.body) && internal.makes(route.body) != of_customers, fault);
        if needed == "JWT" {
            asks_for_a_token(template, &route, faults);
        }
    }
}

fn asks_for_a_token(template: &Template, route: &Resource<'_>, faults: &mut Faults) {
    let authorizer = reference(&route.properties["AuthorizerId"]).and_then(|id| template.resource(id));
    let Some(authorizer) = authorizer else {
        faults.add(format!("{}: AuthorizerId must be that of an authorizer of this template", route.id));
        return;
    };
    let expected = [
        ("AuthorizerType", json!("JWT")),
        ("IdentitySource", json!(["$request.header.Authorization"])),
        ("JwtConfiguration", json!({"Issuer": {"Ref": "JwtIssuer"}, "Audience": {"Ref": "JwtAudience"}})),
    ];
    for (name, value) in expected {
        faults.unless(authorizer.properties[name] == value, format!("{}: {name} must be {value}", authorizer.id));
    }
    let scopes = &route.properties["AuthorizationScopes"];
    let without = Stack::new(template, &[("JwtScope", "")]).value(scopes);
    let asks = serving(template).value(scopes) == json!(["reserve"]) && without.is_null();
    faults
        .unless(asks, format!("{}: AuthorizationScopes must be [JwtScope], or nothing where that is empty", route.id));
}

/// Without it, every token that the issuer has signed for any of its applications would be good.
fn audience_is_asked_for(project: &Project, faults: &mut Faults) {
    let refuses = |given: &[(&str, &str)]| {
        let stack = Stack::new(&project.template, given);
        stack.is_accepted().is_err()
    };
    let (issuer, audience) = (("JwtIssuer", "https://issuer.example"), ("JwtAudience", "tickets"));
    let off = ("Settlement", "false");
    faults.unless(refuses(&[off, issuer]), "Rules: refuse a JwtIssuer without a JwtAudience");
    let taken = !refuses(&[off, issuer, audience]) && !refuses(&[off]);
    faults.unless(taken, "Rules: a JwtIssuer with a JwtAudience must be taken, and neither of them too");
}

fn requests_reach_their_function(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let routes = template.of_api(ROUTE, "HTTP");
    for name in code::routes().into_iter().chain(PUBLIC) {
        let (method, path) = name.split_once(' ').unwrap_or_default();
        let takes = |route: &Resource<'_>| {
            let (taken, pattern) = key(route);
            let fits = match pattern.strip_suffix("{proxy+}") {
                Some(start) => path.strip_prefix(start).is_some_and(|rest| !rest.is_empty()),
                None => path == pattern,
            };
            fits && [method, "ANY"].contains(&taken)
        };
        faults.unless(routes.iter().any(takes), format!("{name}: no route takes it"));
    }
    for route in routes {
        let target = route.properties["Target"]["Fn::Sub"].as_str().unwrap_or_default();
        let integration = target.strip_prefix("integrations/${").and_then(|rest| rest.strip_suffix('}'));
        let Some(integration) = integration.and_then(|id| template.resource(id)) else {
            faults.add(format!("{}: Target must be an integration of this template", route.id));
            continue;
        };
        let live = serving_functions(template).into_iter().map(|function| live(&function));
        let is_live = live.into_iter().any(|live| integration.properties["IntegrationUri"] == live);
        faults.unless(is_live, format!("{}: IntegrationUri must be a function's alias", integration.id));
        for (name, value) in [("IntegrationType", "AWS_PROXY"), ("PayloadFormatVersion", "2.0")] {
            let fault = format!("{}: {name} must be {value}", integration.id);
            faults.unless(integration.properties[name] == value, fault);
        }
    }
}

/// The functions that answer HTTP.
fn serving_functions(template: &Template) -> Vec<Resource<'_>> {
    let deployed = template.deployed().into_iter().filter(|Deployed { entry, .. }| entry.trigger == Trigger::Http);
    deployed.map(|deployed| deployed.function).collect()
}

/// The alias that a gradual deployment moves.
fn live(function: &Resource<'_>) -> Value {
    json!({"Ref": format!("{}.Alias", function.id)})
}

fn only_its_api_invokes(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let permissions = template.of_type("AWS::Lambda::Permission");
    let called = [(Trigger::Http, "HTTP"), (Trigger::WebSocket, "WEBSOCKET")];
    let called = called.into_iter().flat_map(|(trigger, protocol)| {
        let functions = template.deployed().into_iter().filter(move |deployed| deployed.entry.trigger == trigger);
        functions.map(move |deployed| (deployed.function, protocol))
    });
    let called: Vec<(Resource<'_>, &str)> = called.collect();
    faults.unless(permissions.len() == called.len(), "each function that answers an API must have one permission");
    for (function, protocol) in called {
        let account = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}";
        let api = template.of_api(API, protocol).first().map_or("", |api| api.id);
        let expected = json!({
            "FunctionName": live(&function),
            "Action": "lambda:InvokeFunction",
            "Principal": "apigateway.amazonaws.com",
            "SourceArn": {"Fn::Sub": format!("{account}:${{{api}}}/*")},
        });
        let allowed = permissions.iter().any(|permission| *permission.properties == expected);
        faults.unless(allowed, format!("{}: its permission must be {expected}", function.id));
    }
}

/// Who works on a reservation that is PENDING has it for [`LEASE`]; then another may. Nothing that began before a hold must
/// be at work after it. API Gateway itself gives up after 30 s.
fn ends_in_time(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let shortest_hold = template.range(&json!({"Ref": "HoldSeconds"})).map_or(0, |(least, _)| least);
    for function in serving_functions(template) {
        let timeout = number(&function.properties["Timeout"]).unwrap_or(u64::MAX);
        let lease = LEASE.as_secs();
        faults.unless(timeout <= lease, format!("{}: Timeout must be {lease} at most, the lease", function.id));
        let fault = format!("{}: a hold may be as short as {shortest_hold} s, and a request as long", function.id);
        faults.unless(2 * timeout <= shortest_hold, fault);
    }
}

fn stage_is_live(project: &Project, faults: &mut Faults) {
    let limits =
        json!({"ThrottlingRateLimit": {"Ref": "ThrottleRate"}, "ThrottlingBurstLimit": {"Ref": "ThrottleBurst"}});
    let expected = [("StageName", json!("$default")), ("AutoDeploy", json!(true)), ("DefaultRouteSettings", limits)];
    let stages = project.template.of_api(STAGE, "HTTP");
    faults.unless(stages.len() == project.template.of_api(API, "HTTP").len(), "an API must have one stage");
    for stage in stages {
        for (name, value) in &expected {
            faults.unless(stage.properties[*name] == *value, format!("{}: {name} must be {value}", stage.id));
        }
    }
}

/// The variables of API Gateway that hold nothing of a client: no address, no claim, no header, no path and no query.
const OF_NO_CLIENT: [&str; 9] = [
    "$context.requestId",
    "$context.requestTimeEpoch",
    "$context.routeKey",
    "$context.status",
    "$context.responseLatency",
    "$context.integrationLatency",
    "$context.integrationErrorMessage",
    "$context.authorizer.error",
    "$context.error.message",
];

/// The id joins a line with those of the function, which has it under the same name.
fn log_tells_nothing_of_clients(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    for stage in template.of_api(STAGE, "HTTP") {
        let settings = &stage.properties["AccessLogSettings"];
        let format = fields(&settings["Format"]["Fn::ToJsonString"]);
        for (name, value) in &format {
            let known = value.as_str().is_some_and(|value| OF_NO_CLIENT.contains(&value));
            faults.unless(known, format!("{}: {name} may hold what a client has sent: {value}", stage.id));
        }
        let needed = [
            ("gateway_request_id", "$context.requestId"),
            ("route", "$context.routeKey"),
            ("status", "$context.status"),
            ("latency_ms", "$context.responseLatency"),
        ];
        for (name, value) in needed {
            let says = format.iter().any(|(other, found)| *other == name && *found == value);
            faults.unless(says, format!("{}: its line must have {name}: {value}", stage.id));
        }
        // A group of another prefix needs a statement in the one policy that all log groups of an account share.
        let destination = settings["DestinationArn"]["Fn::Sub"].as_str().unwrap_or_default();
        let group = destination.rsplit_once("log-group:${").and_then(|(_, rest)| rest.strip_suffix('}'));
        let group = group.and_then(|id| template.resource(id));
        let fits = group.is_some_and(|group| {
            let name = group.properties["LogGroupName"]["Fn::Sub"].as_str().unwrap_or_default();
            let ends = group.properties["RetentionInDays"] == json!({"Ref": "LogRetentionDays"});
            name.starts_with("/aws/vendedlogs/${AWS::StackName}") && ends
        });
        faults.unless(fits, format!("{}: its log must go to a group /aws/vendedlogs/ that ends", stage.id));
    }
}

fn web_pages_are_named(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let (serving, internal) = (serving(template), internal(template));
    let without_pages = serving.with(&[("CorsOrigins", "")]);
    for api in template.of_api(API, "HTTP") {
        let cors = &api.properties["CorsConfiguration"];
        let none = [&internal, &without_pages].into_iter().all(|stack| stack.value(cors).is_null());
        faults.unless(none, format!("{}: CorsConfiguration must be nothing where CorsOrigins is empty", api.id));
        let cors = serving.value(cors);
        let fault = format!("{}: AllowOrigins must be CorsOrigins", api.id);
        faults.unless(cors["AllowOrigins"] == "https://page.example", fault);
        let needed = [
            ("AllowMethods", &["GET", "POST"][..]),
            (
                "AllowHeaders",
                &["authorization", "connect-protocol-version", "content-type", "idempotency-key", "x-grpc-web"],
            ),
            ("ExposeHeaders", &["grpc-message", "grpc-status", "idempotent-replayed", "retry-after", "x-trace-id"]),
        ];
        for (name, values) in needed {
            let found = items(&cors[name]);
            let missing: Vec<_> = values.iter().filter(|value| !found.iter().any(|found| *found == **value)).collect();
            faults.unless(missing.is_empty(), format!("{}: {name} must hold {missing:?} as well", api.id));
        }
    }
    for route in template.of_api(ROUTE, "HTTP").into_iter().filter(|route| key(route).0 == "OPTIONS") {
        let fits = serving.makes(route.body) && !without_pages.makes(route.body);
        faults.unless(fits, format!("{}: it must be there where CorsOrigins is given, and only there", route.id));
    }
}
