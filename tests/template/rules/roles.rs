//! Roles: each function may do what its code does, on its own resources, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use local_stack::catalogue::{Settling, System, Trigger};
use serde_json::{Value, json};
use shared::settlement::{Outcome, event::EventType};

use super::{Faults, Rule};
use crate::{
    evaluate::Stack,
    project::{File, Project, edit, edit_in},
    template::{API, Deployed, FUNCTION, Path, Resource, Template, attribute, fields, items, nodes, reference},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "no policy has a wildcard",
        check: no_wildcard,
        breaks: &[
            edit("Action: dynamodb:UpdateItem", "Action: dynamodb:*"),
            edit("Resource: !GetAtt IdempotencyTable.Arn", "Resource: \"*\""),
            edit("Resource: !GetAtt IdempotencyTable.Arn", "NotResource: !GetAtt IdempotencyTable.Arn"),
            edit("Action: dynamodb:UpdateItem", "NotAction: dynamodb:DeleteItem"),
            edit("event-bus/${EventBusName}", "event-bus/*"),
            edit("/GET/internal/reservations/*", "/GET/internal/*"),
            edit("/GET/internal/reservations/*", "/*/internal/reservations/*"),
            edit("${PushApi}/live/POST/@connections/*", "${PushApi}/*"),
            edit("Principal: {Service: events.amazonaws.com}", "Principal: {Service: \"*\"}"),
            edit(
                "Effect: Deny\n                  Principal: \"*\"",
                "Effect: Allow\n                  Principal: \"*\"",
            ),
        ],
    },
    Rule {
        name: "a role allows what its function does, and nothing else",
        check: allows_what_the_code_does,
        breaks: &[
            edit("Action: dynamodb:UpdateItem", "Action: [dynamodb:UpdateItem, dynamodb:DeleteItem]"),
            edit("                      - sqs:ChangeMessageVisibility\n", ""),
            edit("Resource: !GetAtt IdempotencyTable.Arn", "Resource: !GetAtt PaymentFailedQueue.Arn"),
            edit("Roles: [!Ref PaymentApprovedRole]", "Roles: [!Ref PaymentApprovedRole, !Ref PaymentFailedRole]"),
            edit("Roles: [!Ref PaymentApprovedRole]", "Roles: [!Ref PaymentFailedRole]"),
            edit(
                "Sid: BuryMessages\n                    Effect: Allow",
                "Sid: BuryMessages\n                    Effect: Deny",
            ),
            edit(
                "Action: events:PutEvents\n",
                "Action: events:PutEvents\n            Condition: {StringEquals: {events:source: other}}\n",
            ),
            edit("Resource: !Ref SecretArn", "Resource: !Sub ${SecretArn}-other"),
            edit("\"${Name}#*\"", "\"${Name}*\""),
            edit("\"${Name}#*\"", "\"payment.failed#*\""),
            edit("dynamodb:LeadingKeys:", "dynamodb:Attributes:"),
            edit("Roles: [!Ref ReservationExpiredRole]", "Roles: [!Ref PaymentFailedRole]"),
            edit("Resource: !GetAtt ReservationExpiredQueue.Arn", "Resource: !GetAtt PaymentFailedQueue.Arn"),
            edit("!Ref PaymentFailedRole, !Ref ReservationCancelledRole,", "!Ref ReservationCancelledRole,"),
            edit("$default/PATCH/internal/reservations/*", "$default/PUT/internal/reservations/*"),
            edit("dynamodb:BatchGetItem, dynamodb:UpdateItem]", "dynamodb:UpdateItem]"),
            edit(
                "dynamodb:BatchGetItem, dynamodb:UpdateItem]",
                "dynamodb:BatchGetItem, dynamodb:UpdateItem, dynamodb:Scan]",
            ),
            edit("${ReservationsTable.Arn}/index/user", "${ReservationsTable.Arn}"),
            edit("Action: dynamodb:GetItem\n", "Action: [dynamodb:GetItem, dynamodb:Query]\n"),
            edit("Resource: !GetAtt WaitingRoomTable.Arn", "Resource: !GetAtt IdempotencyTable.Arn"),
            edit("[\"line#*\"]", "[\"item#*\"]"),
            edit(
                "[dynamodb:GetItem, dynamodb:PutItem, dynamodb:UpdateItem]",
                "[dynamodb:GetItem, dynamodb:UpdateItem]",
            ),
            edit("dynamodb:ConditionCheckItem, dynamodb:DeleteItem, ", "dynamodb:ConditionCheckItem, "),
            edit("[dynamodb:GetItem, dynamodb:Query, dynamodb:UpdateItem]", "[dynamodb:Query, dynamodb:UpdateItem]"),
            edit("[dynamodb:GetItem, dynamodb:Query]", "[dynamodb:GetItem, dynamodb:Query, dynamodb:UpdateItem]"),
            edit(
                "Action: sqs:SendMessage\n                Resource: !GetAtt WaitingRoomJoinedQueue.Arn",
                "Action: sqs:SendMessage\n                Resource: !GetAtt WaitingRoomTickedQueue.Arn",
            ),
            edit(
                "Roles: [!Ref WaitingRoomTickedRole, !Ref WaitingRoomSettledRole]",
                "Roles: [!Ref WaitingRoomTickedRole]",
            ),
            edit("$default/PUT/internal/reservations/*", "$default/PATCH/internal/reservations/*"),
            edit("                  Condition: {ForAllValues:StringLike: {dynamodb:LeadingKeys: [\"line#*\"]}}\n", ""),
            edit("Resource: !GetAtt ReservationsTable.Arn", "Resource: !GetAtt IdempotencyTable.Arn"),
            edit("[\"push#*\", \"socket#*\"]", "[\"item#*\"]"),
            edit("${PushApi}/live/POST/@connections/*", "${PushApi}/live/DELETE/@connections/*"),
            edit("Action: execute-api:ManageConnections", "Action: execute-api:Invoke"),
            edit("Roles: [!Ref WaitingRoomCalledRole]", "Roles: [!Ref WaitingRoomSettledRole]"),
        ],
    },
    Rule {
        name: "the deploy page lets each role that may publish onto a closed bus",
        check: publishers_are_let_in,
        breaks: &[
            edit_in(File::Deploying, "role/holdfast-dev-ReservationChangedRole-*", "role/holdfast-dev-ChangedRole-*"),
            edit_in(File::Deploying, "role/holdfast-dev-PaymentApprovedRole-*", "role/payment-approved"),
            edit_in(File::Deploying, "role/holdfast-dev-WaitingRoomTickedRole-*", "role/waiting-room-ticked"),
            edit(
                "Roles: [!Ref BookingCreatedRole]\n      PolicyName: RequestRefunds",
                "Roles: [!Ref BookingCancelledRole]\n      PolicyName: RequestRefunds",
            ),
        ],
    },
    Rule {
        name: "every role can be given a boundary, CodeDeploy's too",
        check: bounded,
        breaks: &[
            edit("      PermissionsBoundary: !If", "      Boundary: !If"),
            edit("          PermissionsBoundary: !If", "          Boundary: !If"),
            edit("Not [!Equals [!Ref PermissionsBoundaryArn, \"\"]]", "Equals [!Ref PermissionsBoundaryArn, \"\"]"),
            edit("        Role: !If [DeploysGradually, !GetAtt DeploymentRole.Arn, !Ref AWS::NoValue]\n", ""),
            edit("DeploysGradually: !Equals [!Ref GradualDeployment, \"true\"]", "DeploysGradually: !Equals [1, 2]"),
        ],
    },
    Rule {
        name: "a role is that of one function, and Lambda's alone to take",
        check: one_role_each,
        breaks: &[
            edit("Role: !GetAtt PaymentFailedRole.Arn", "Role: !GetAtt PaymentApprovedRole.Arn"),
            edit("      Role: !GetAtt PaymentFailedRole.Arn\n", ""),
            edit("Principal: {Service: lambda.amazonaws.com}", "Principal: {Service: ec2.amazonaws.com}"),
            edit("iam::aws:policy/AWSXRayDaemonWriteAccess", "iam::aws:policy/AdministratorAccess"),
            edit("Principal: {Service: codedeploy.amazonaws.com}", "Principal: {Service: lambda.amazonaws.com}"),
            edit("service-role/AWSCodeDeployRoleForLambda", "service-role/AWSCodeDeployRole"),
        ],
    },
];

fn no_wildcard(project: &Project, faults: &mut Faults) {
    for resource in project.template.resources() {
        // A Deny may be as wide as it likes. The only Condition that a role may have is judged below, to the letter.
        let allows = |node: &&Value| !node["Effect"].is_null() && node["Effect"] != "Deny";
        let policies = nodes(resource.properties).into_iter().filter(allows);
        for statement in policies {
            for (key, value) in fields(statement) {
                let fault = format!("{}: say what is allowed, not {key}", resource.id);
                faults.unless(!key.starts_with("Not"), fault);
                let wild = nodes(value).into_iter().find(|node| node.as_str().is_some_and(is_wild));
                let is_free = wild.is_none() || key == "Sid" || key == "Condition";
                faults.unless(is_free, format!("{}: {key} has a wildcard: {value}", resource.id));
            }
        }
    }
}

/// A bus that is closed to all but some principals stays open to our own functions only if the page names each of them.
fn publishers_are_let_in(project: &Project, faults: &mut Faults) {
    let publishes = |resource: &Resource<'_>| {
        nodes(resource.properties).into_iter().any(|node| {
            node["Effect"] == "Allow" && nodes(&node["Action"]).into_iter().any(|action| action == "events:PutEvents")
        })
    };
    let resources = project.template.resources();
    let mut roles: BTreeSet<&str> = BTreeSet::new();
    for resource in resources.into_iter().filter(publishes) {
        match resource.body["Type"].as_str() {
            Some("AWS::IAM::Role") => drop(roles.insert(resource.id)),
            _ => roles.extend(items(&resource.properties["Roles"]).into_iter().filter_map(reference)),
        }
    }
    faults.unless(!roles.is_empty(), "no role may publish".to_owned());
    for role in roles {
        let named = format!("role/holdfast-dev-{role}-*");
        faults.unless(
            project.pages.deploying.contains(&named),
            format!("{role} publishes: name {named} in the bus's policy"),
        );
    }
}

/// A wildcard that stands for more than the id of a reservation or of a connection, at the end of a route's path.
fn is_wild(text: &str) -> bool {
    let of_an_id = ["/internal/reservations/*", "/POST/@connections/*"];
    let path = text.split_once(":execute-api:").and_then(|_| of_an_id.iter().find_map(|end| text.strip_suffix(end)));
    path.unwrap_or(text).contains('*')
}

/// What the code of a function does at AWS, or Lambda in its name. The reason stands in the fault when it is missing.
type Needed = BTreeMap<(String, String), &'static str>;

fn needed(template: &Template, deployed: &Deployed<'_>, path: Option<&Path<'_>>) -> Needed {
    let function = deployed.function;
    let group = &function.properties["LoggingConfig"]["LogGroup"];
    let group = reference(group).map(|group| json!({"Fn::GetAtt": [group, "Arn"]}));
    let secret = Some(function.variables()["SECRET_NAME"].clone());
    let mut needed = grants(&[
        ("logs:CreateLogStream", &group, "Lambda writes the function's log"),
        ("logs:PutLogEvents", &group, "Lambda writes the function's log"),
        ("secretsmanager:GetSecretValue", &secret, "SecretStore::read reads the one secret"),
    ]);
    needed.extend(match path {
        Some(path) => match (path.code.settling, deployed.entry.system) {
            (Some(settling), _) => needed_to_settle(template, path, settling),
            (None, System::WaitingRoom) => needed_to_wait(template, path),
            (None, System::Settlement | System::Reservations | System::Bookings) => needed_to_book(template, path),
        },
        None => match (deployed.entry.trigger, deployed.entry.system) {
            (Trigger::Http, System::WaitingRoom) => needed_to_let_in(function),
            (Trigger::WebSocket, _) => needed_to_know_connections(function),
            (Trigger::Queue | Trigger::Http, _) => needed_to_serve(function),
            (Trigger::Stream, _) => needed_to_tell(template, function),
            (Trigger::Schedule, System::WaitingRoom) => needed_to_wind_up(function),
            // It works in the database alone.
            (Trigger::Schedule, System::Bookings) => Needed::new(),
            (Trigger::Schedule, System::Settlement | System::Reservations) => needed_to_sweep(function),
        },
    });
    needed
}

fn grants(grants: &[(&str, &Option<Value>, &'static str)]) -> Needed {
    let grant =
        |(action, on, why): &(&str, &Option<Value>, _)| Some((((*action).to_owned(), on.as_ref()?.to_string()), *why));
    grants.iter().filter_map(grant).collect()
}

/// The table that a variable of a function names, or the queue, where the stack has it.
fn named_by(function: Resource<'_>, variable: &str) -> Option<Value> {
    let named = nodes(&function.variables()[variable]).into_iter().find_map(reference)?;
    Some(json!({"Fn::GetAtt": [named, "Arn"]}))
}

fn needed_to_serve(function: Resource<'_>) -> Needed {
    let table = named_by(function, "RESERVATIONS_TABLE");
    let lines = named_by(function, "WAITING_ROOM_TABLE");
    let index = reference(&function.variables()["RESERVATIONS_TABLE"])
        .map(|table| json!({"Fn::Sub": format!("${{{table}.Arn}}/index/user")}));
    grants(&[
        ("dynamodb:GetItem", &table, "Table::get reads a reservation"),
        ("dynamodb:UpdateItem", &table, "Table::create and Table::write are updates, and so is the look at the start"),
        ("dynamodb:BatchGetItem", &table, "Table::list reads the reservations of a page"),
        ("dynamodb:Query", &index, "Table::list finds those of a customer by the index"),
        ("dynamodb:GetItem", &lines, "Entrance asks whether a show has a line, and looks at the table at its start"),
    ])
}

fn needed_to_tell(template: &Template, function: Resource<'_>) -> Needed {
    let table = named_by(function, "RESERVATIONS_TABLE");
    let stream =
        reference(&function.variables()["RESERVATIONS_TABLE"]).map(|table| json!({"Fn::GetAtt": [table, "StreamArn"]}));
    let queue = named_by(function, "EXPIRY_QUEUE_URL");
    let given_up = Some(
        function.properties["Events"]["Changes"]["Properties"]["DestinationConfig"]["OnFailure"]["Destination"].clone(),
    );
    let [bus, other_bus] = buses(template);
    const LAMBDA: &str = "Lambda reads the stream with the function's role";
    const RELAY: &str = "the relay publishes, on the stack's bus or on that of a parameter";
    grants(&[
        ("dynamodb:DescribeStream", &stream, LAMBDA),
        ("dynamodb:GetRecords", &stream, LAMBDA),
        ("dynamodb:GetShardIterator", &stream, LAMBDA),
        ("dynamodb:ListStreams", &stream, LAMBDA),
        ("dynamodb:UpdateItem", &table, "Table::clear forgets what is published"),
        ("sqs:SendMessage", &queue, "the relay sends timers"),
        ("sqs:SendMessageBatch", &queue, BATCH),
        ("sqs:SendMessage", &given_up, "Lambda tells there of batches that it gives up"),
        ("events:PutEvents", &bus, RELAY),
        ("events:PutEvents", &other_bus, RELAY),
    ])
}

const BATCH: &str = "MiniStack asks for the batch's own action, which AWS does not have";

fn needed_to_sweep(function: Resource<'_>) -> Needed {
    let table = named_by(function, "RESERVATIONS_TABLE");
    grants(&[
        ("dynamodb:Scan", &table, "Table::scan looks for what was missed"),
        ("dynamodb:UpdateItem", &table, "Table::touch and Table::write are updates"),
    ])
}

fn needed_to_wind_up(function: Resource<'_>) -> Needed {
    let (table, ticks) = (named_by(function, "WAITING_ROOM_TABLE"), named_by(function, "TICK_QUEUE_URL"));
    grants(&[
        ("dynamodb:Query", &table, "Table::open_shows finds the open lines"),
        (
            "dynamodb:GetItem",
            &table,
            "Table::line tells how old a line's last tick is, and Table::probe_lines is the look at the start",
        ),
        ("sqs:SendMessage", &ticks, "Queue::send_all sends ticks"),
        ("sqs:SendMessageBatch", &ticks, BATCH),
    ])
}

/// What the function does that people who wait talk to. A transaction needs what its single writes need.
fn needed_to_let_in(function: Resource<'_>) -> Needed {
    let [table, joined, ticks] =
        ["WAITING_ROOM_TABLE", "JOINED_QUEUE_URL", "TICK_QUEUE_URL"].map(|name| named_by(function, name));
    grants(&[
        ("dynamodb:BatchGetItem", &table, "Table::position looks into several segments"),
        ("dynamodb:ConditionCheckItem", &table, "Table::leave makes sure that the turn has not come"),
        ("dynamodb:GetItem", &table, "Table::line, Table::item and Table::entry"),
        ("dynamodb:PutItem", &table, "Table::open and Table::set put lines, and Table::come_back who came back"),
        ("dynamodb:Query", &table, "Table::position finds the run of somebody, and Table::open_shows the open lines"),
        ("dynamodb:UpdateItem", &table, "Table::admit, Table::leave, Table::see and Table::probe"),
        ("sqs:SendMessage", &joined, "WaitingRoom::join sends who joins"),
        ("sqs:SendMessageBatch", &joined, BATCH),
        ("sqs:SendMessage", &ticks, "WaitingRoom::wake sends a tick where the last one is late"),
        ("sqs:SendMessageBatch", &ticks, BATCH),
    ])
}

/// What a function of the waiting room does behind its queue. A transaction needs what its single writes need.
fn needed_to_wait(template: &Template, path: &Path<'_>) -> Needed {
    const PROBED: &str = "Table::probe looks at the table at the start";
    const TOLD: &str = "notice::publish tells what became of a place, on the stack's bus or on that of a parameter";
    const TIMER: &str = "Desk::rearm sends the timer of a reservation that is open though its time is over";
    let (queue, table) = (Some(path.queue.get("Arn")), named_by(path.function, "WAITING_ROOM_TABLE"));
    let [bus, other_bus] = buses(template);
    let [get, put] = ["GET", "PUT"].map(|method| internal_route(template, method));
    let expiries = named_by(path.function, "EXPIRY_QUEUE_URL");
    let turns = [
        ("execute-api:Invoke", &get, "Settling::settle asks what the reservation of a turn is"),
        ("execute-api:Invoke", &put, "Settling::settle ends a reservation before it is made, so that the turn is over"),
        ("events:PutEvents", &bus, TOLD),
        ("events:PutEvents", &other_bus, TOLD),
        ("dynamodb:GetItem", &table, "Table::line and Table::item"),
        ("dynamodb:Query", &table, "Table::standing finds who stands at a position"),
        (
            "dynamodb:UpdateItem",
            &table,
            "Table::replace moves a place, and Table::end notes that its customer may join anew",
        ),
    ];
    let own: Vec<(&str, &Option<Value>, &'static str)> = match path.name {
        waiting_room_joined::NAME => vec![
            ("dynamodb:GetItem", &table, "Table::line says whether the line is open"),
            ("dynamodb:PutItem", &table, "Table::join puts people and their block"),
            ("dynamodb:UpdateItem", &table, PROBED),
            ("sqs:SendMessage", &queue, "a join that waits on its last receive is sent anew"),
        ],
        waiting_room_called::NAME => {
            let connections = connections(template);
            let mut needed = needed_to_know_connections(path.function);
            needed.extend(grants(&[(
                "execute-api:ManageConnections",
                &connections,
                "Push::tell posts to connections",
            )]));
            needed.extend(needed_at_queues(path));
            return needed;
        }
        waiting_room_ticked::NAME => [
            ("dynamodb:BatchGetItem", &table, "Table::pages and Table::items"),
            ("dynamodb:ConditionCheckItem", &table, "Table::close makes sure that no other line was opened"),
            ("dynamodb:PutItem", &table, "Table::append and Table::carry_out put lines, runs and pages"),
            ("dynamodb:DeleteItem", &table, "Table::clear, Table::forget and Table::close"),
            ("sqs:SendMessage", &expiries, TIMER),
            ("sqs:SendMessageBatch", &expiries, BATCH),
        ]
        .into_iter()
        .chain(turns)
        .collect(),
        _ => turns.into(),
    };
    let mut needed = needed_at_queues(path);
    needed.extend(grants(&own));
    needed
}

/// By which connections a place is heard of.
fn needed_to_know_connections(function: Resource<'_>) -> Needed {
    let table = named_by(function, "WAITING_ROOM_TABLE");
    grants(&[
        ("dynamodb:GetItem", &table, "Table::connections and Table::place_of"),
        ("dynamodb:UpdateItem", &table, "Table::connect and Table::disconnect, and the look at the start"),
        ("dynamodb:DeleteItem", &table, "Table::disconnect forgets a connection"),
    ])
}

/// The connections of the WebSocket API, for who posts to one.
fn connections(template: &Template) -> Option<Value> {
    let api = template.of_api(API, "WEBSOCKET").first().map(|api| api.id)?;
    let account = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}";
    Some(json!({"Fn::Sub": format!("{account}:${{{api}}}/live/POST/@connections/*")}))
}

/// A route to what is internal of the reservations, for one of them.
fn internal_route(template: &Template, method: &str) -> Option<Value> {
    let api = template.of_type(API).first().map(|api| api.id)?;
    let account = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}";
    Some(json!({"Fn::Sub": format!("{account}:${{{api}}}/$default/{method}/internal/reservations/*")}))
}

/// What every function does at its queue and at its dead-letter queue, if it has one.
fn needed_at_queues(path: &Path<'_>) -> Needed {
    let (queue, dead_letters) = (Some(path.queue.get("Arn")), path.dead_letters.map(|queue| queue.get("Arn")));
    grants(&[
        ("sqs:ReceiveMessage", &queue, "Lambda polls the queue with the function's role"),
        ("sqs:DeleteMessage", &queue, "Lambda deletes what the function does not report"),
        ("sqs:GetQueueAttributes", &queue, "Lambda scales by the queue's length"),
        ("sqs:ChangeMessageVisibility", &queue, "Queues::postpone and Queues::give_back set the back-off"),
        ("sqs:SendMessage", &dead_letters, "Queues::dead_letter sends a message with its reason"),
    ])
}

/// The bus of the stack, and that of a parameter.
fn buses(template: &Template) -> [Option<Value>; 2] {
    let other = "arn:${AWS::Partition}:events:${AWS::Region}:${AWS::AccountId}:event-bus/${EventBusName}";
    let own = template.of_type("AWS::Events::EventBus").first().map(|bus| bus.get("Arn"));
    [own, Some(json!({"Fn::Sub": other}))]
}

fn needed_to_book(template: &Template, path: &Path<'_>) -> Needed {
    const CONNECT: &str = "Signer::token signs for the database's user, behind the proxy or without one";
    const READ: &str = "Lambda reads the topic with the function's role";
    let queue = Some(path.queue.get("Arn"));
    let user = "arn:${AWS::Partition}:rds-db:${AWS::Region}:${AWS::AccountId}:dbuser:";
    let proxy = template.of_type("AWS::RDS::DBProxy").first().map(|proxy| {
        let id = json!({"Fn::Select": [6, {"Fn::Split": [":", proxy.get("DBProxyArn")]}]});
        json!({"Fn::Sub": [format!("{user}${{Proxy}}/${{DatabaseUser}}"), {"Proxy": id}]})
    });
    let direct = Some(json!({"Fn::Sub": format!("{user}${{DatabaseResourceId}}/${{DatabaseUser}}")}));
    let of_cluster = |kind: &str| {
        let split = json!({"Fn::Split": [":cluster/", {"Ref": "KafkaClusterArn"}]});
        json!({"Fn::Join": [format!(":{kind}/"), split]})
    };
    let topic = path.function.id.replace("Function", "Topic");
    let topic = json!({"Topics": of_cluster("topic"), "Topic": {"Ref": topic}});
    let topic = Some(json!({"Fn::Sub": ["${Topics}/${Topic}", topic]}));
    let group = format!("${{Groups}}/${{AWS::StackName}}-{}", path.name);
    let group = Some(json!({"Fn::Sub": [group, {"Groups": of_cluster("group")}]}));
    let [cluster, secret, ca] =
        ["KafkaClusterArn", "KafkaSecretArn", "KafkaCaSecretArn"].map(|name| Some(json!({"Ref": name})));
    let mut needed = needed_at_queues(path);
    needed.extend(grants(&[
        ("sqs:SendMessage", &queue, "Consumer::park sends what may pass to the function's own queue"),
        ("rds-db:connect", &proxy, CONNECT),
        ("rds-db:connect", &direct, CONNECT),
        ("kafka-cluster:Connect", &cluster, READ),
        ("kafka-cluster:DescribeClusterDynamicConfiguration", &cluster, READ),
        ("kafka-cluster:DescribeTopic", &topic, READ),
        ("kafka-cluster:ReadData", &topic, READ),
        ("kafka-cluster:DescribeGroup", &group, READ),
        ("kafka-cluster:AlterGroup", &group, READ),
        ("secretsmanager:GetSecretValue", &secret, READ),
        ("secretsmanager:GetSecretValue", &ca, READ),
    ]));
    if path.code.event_type == "booking.created" {
        const WHY: &str =
            "a booking that lost its room gets its refund requested, on the stack's bus or on that of a parameter";
        let [own, other] = buses(template);
        needed.extend(grants(&[("events:PutEvents", &own, WHY), ("events:PutEvents", &other, WHY)]));
    }
    needed
}

fn needed_to_settle(template: &Template, path: &Path<'_>, settling: Settling) -> Needed {
    let table = named_by(path.function, "IDEMPOTENCY_TABLE");
    let [get, patch] = ["GET", "PATCH"].map(|method| internal_route(template, method));
    let [bus, other_bus] = buses(template);
    let queue = Some(path.queue.get("Arn"));
    let mut needed = vec![
        ("dynamodb:UpdateItem", &table, "Store claims, completes and releases by updates"),
        ("execute-api:Invoke", &patch, "the guard changes the reservation, at the API of the stack where that is used"),
        ("execute-api:Invoke", &get, "the guard looks at a reservation whose change said nothing"),
    ];
    if settling.workflow.event_type == EventType::ReservationExpired {
        needed.push(("sqs:SendMessage", &queue, "an expiry before its time is sent anew on its last receive"));
    }
    if settling.lost_race == Outcome::LateApproval {
        const WHY: &str = "RefundPublisher publishes refund requests, on the stack's bus or on that of a parameter";
        needed.push(("events:PutEvents", &bus, WHY));
        needed.push(("events:PutEvents", &other_bus, WHY));
    }
    let mut at_queues = needed_at_queues(path);
    at_queues.extend(grants(&needed));
    at_queues
}

fn allows_what_the_code_does(project: &Project, faults: &mut Faults) {
    let paths = project.template.paths();
    for deployed in project.template.deployed() {
        let (id, name) = (deployed.function.id, deployed.entry.name);
        let Some(role) = role(&project.template, deployed.function) else {
            faults.add(format!("{id}: give it a role of this template"));
            continue;
        };
        let path = paths.iter().find(|path| path.name == name);
        let mut needed = needed(&project.template, &deployed, path);
        let statements = statements(&project.template, role);
        let mut grants = Vec::new();
        for statement in statements {
            let condition = condition(&deployed, path, statement);
            let plain = statement["Effect"] == "Allow" && statement["Condition"] == condition;
            let fault = format!("{}: Effect must be Allow, and Condition {condition}", role.id);
            faults.unless(plain, format!("{fault}: {statement}"));
            for action in items(&statement["Action"]).into_iter().flat_map(branches).filter(|action| action.is_string())
            {
                for on in items(&statement["Resource"]).into_iter().flat_map(branches) {
                    grants.push((action.as_str().unwrap_or_default().to_owned(), on.to_string()));
                }
            }
        }
        for (action, on) in &grants {
            let fault = format!("{}: nothing in {name} calls {action} on {on}; take it away", role.id);
            faults.unless(needed.contains_key(&(action.clone(), on.clone())), fault);
        }
        needed.retain(|grant, _| !grants.contains(grant));
        for ((action, on), why) in needed {
            faults.add(format!("{}: allow {action} on {on}: {why}", role.id));
        }
    }
}

/// The one condition that a statement must have. Any other may never hold, and then the function can do nothing.
fn condition(deployed: &Deployed<'_>, path: Option<&Path<'_>>, statement: &Value) -> Value {
    let lines = named_by(deployed.function, "WAITING_ROOM_TABLE");
    let keys = match path {
        // `shared::idempotency` makes every key of the event type and `#`, that of the look at the start included.
        Some(path) if statement["Action"] == "dynamodb:UpdateItem" => format!("{}#*", path.code.event_type),
        // `waiting_room::table` keeps lines under such keys, and `reservation::entrance` reads nothing else of it.
        None if deployed.entry.system == System::Reservations && lines.as_ref() == Some(&statement["Resource"]) => {
            "line#*".to_owned()
        }
        // And by which connections a place is heard of, under these.
        _ if hears(deployed) && lines.as_ref() == Some(&statement["Resource"]) => {
            return json!({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": ["push#*", "socket#*"]}});
        }
        Some(_) | None => return Value::Null,
    };
    json!({"ForAllValues:StringLike": {"dynamodb:LeadingKeys": [keys]}})
}

/// Whether a function knows of the waiting room's table only by which connections places are heard of.
fn hears(deployed: &Deployed<'_>) -> bool {
    [waiting_room_called::NAME, waiting_room_connected::NAME].contains(&deployed.entry.name)
}

/// Traces and network interfaces can't be limited to a resource, so AWS's own policies are taken for them.
const MANAGED: [&str; 3] = [
    "arn:${AWS::Partition}:iam::aws:policy/AWSXRayDaemonWriteAccess",
    "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaENIManagementAccess",
    "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaMSKExecutionRole", // For the pollers of a topic.
];

/// What CodeDeploy needs to move traffic and to look at alarms, as AWS keeps it.
const MANAGED_DEPLOYMENT: &str = "arn:${AWS::Partition}:iam::aws:policy/service-role/AWSCodeDeployRoleForLambda";

/// The role that CodeDeploy takes for a function, where traffic is moved gradually.
fn deployment_role(function: Resource<'_>) -> Option<&str> {
    let role = &function.properties["DeploymentPreference"]["Role"];
    branches(role).into_iter().find_map(|role| attribute(role, "Arn"))
}

/// Organisations forbid roles without a boundary, and a role that SAM makes by itself can't have one.
fn bounded(project: &Project, faults: &mut Faults) {
    const BOUNDARY: &str = "arn:aws:iam::123456789012:policy/boundary";
    let template = &project.template;
    let given = [("PermissionsBoundaryArn", BOUNDARY), ("GradualDeployment", "true")];
    let (with, without) = (Stack::new(template, &given), Stack::new(template, &[]));
    for role in template.of_type("AWS::IAM::Role") {
        let boundary = &role.properties["PermissionsBoundary"];
        let bounded = with.value(boundary) == BOUNDARY && without.value(boundary).is_null();
        let fault =
            format!("{}: PermissionsBoundary must be PermissionsBoundaryArn, or nothing where that is empty", role.id);
        faults.unless(bounded, fault);
    }
    for function in template.of_type(FUNCTION) {
        let own = deployment_role(function).and_then(|role| template.resource(role));
        let role = own.is_some_and(|role| {
            with.value(&function.properties["DeploymentPreference"]["Role"]) == with.value(&role.get("Arn"))
                && with.holds(&json!({"Condition": role.body["Condition"]}))
        });
        faults.unless(role, format!("{}: name in its DeploymentPreference a Role of this template", function.id));
    }
}

fn one_role_each(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let functions = template.of_type(FUNCTION);
    for function in &functions {
        let own = &function.properties["Role"];
        let users = functions.iter().filter(|other| other.properties["Role"] == *own).count();
        let fault = format!("{}: give it a Role of its own; {users} functions have {own}", function.id);
        faults.unless(role(template, *function).is_some() && users == 1, fault);
        let added = function.properties["Policies"].is_null();
        faults.unless(added, format!("{}: SAM ignores Policies beside a Role; put them into the role", function.id));
    }
    for role in template.of_type("AWS::IAM::Role") {
        let deploys = functions.iter().any(|function| deployment_role(*function) == Some(role.id));
        let is_proxys =
            template.of_type("AWS::RDS::DBProxy").iter().any(|proxy| proxy.properties["RoleArn"] == role.get("Arn"));
        let (service, managed) = if deploys {
            ("codedeploy.amazonaws.com", &[MANAGED_DEPLOYMENT][..])
        } else if is_proxys {
            ("rds.amazonaws.com", &[][..])
        } else {
            ("lambda.amazonaws.com", &MANAGED[..])
        };
        let trust = json!([{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}]);
        let statement = &role.properties["AssumeRolePolicyDocument"]["Statement"];
        faults.unless(*statement == trust, format!("{}: only {service} may assume it: {trust}", role.id));
        for policy in items(&role.properties["ManagedPolicyArns"]).into_iter().flat_map(branches) {
            let known = policy["Fn::Sub"].as_str().is_some_and(|arn| managed.contains(&arn));
            faults.unless(known, format!("{}: {policy} is no managed policy that it needs", role.id));
        }
    }
}

fn role<'t>(template: &'t Template, function: Resource<'t>) -> Option<Resource<'t>> {
    let role = template.resource(attribute(&function.properties["Role"], "Arn")?)?;
    (role.body["Type"] == "AWS::IAM::Role").then_some(role)
}

/// Every statement that holds for a role: its own, and those of the policies that name it.
fn statements<'t>(template: &'t Template, role: Resource<'t>) -> Vec<&'t Value> {
    let own = items(&role.properties["Policies"]);
    let attached = template.of_type("AWS::IAM::Policy");
    let attached =
        attached.into_iter().filter(|policy| items(&policy.properties["Roles"]).contains(&&role.reference()));
    let documents =
        own.into_iter().chain(attached.map(|policy| policy.properties)).map(|policy| &policy["PolicyDocument"]);
    documents.flat_map(|document| items(&document["Statement"])).flat_map(branches).collect()
}

/// What a value can be, whatever its conditions; nothing where it can only be left out.
fn branches(value: &Value) -> Vec<&Value> {
    match value["Fn::If"].as_array().map(Vec::as_slice) {
        Some([_, then, otherwise]) => branches(then).into_iter().chain(branches(otherwise)).collect(),
        Some(_) | None if reference(value) == Some("AWS::NoValue") => Vec::new(),
        Some(_) | None => vec![value],
    }
}
