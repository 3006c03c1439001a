//! The bookings: how their topics are read, that what is refused is refused before anything is deployed, and that the schema is
//! there before the functions are.

use local_stack::catalogue::System;
use serde_json::json;
use shared::booking::migration;

use super::{Faults, Rule};
use crate::{
    evaluate::Stack,
    project::{Project, edit},
    template::{Deployed, Path, Resource, Template, items},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "a topic is read from its oldest record on, and nothing of it is given up",
        check: nothing_given_up,
        breaks: &[
            edit("StartingPosition: TRIM_HORIZON # From", "StartingPosition: LATEST # From"),
            edit("      BatchSize: 100\n      SourceAccess", "      SourceAccess"),
            edit(
                "      BatchSize: 100\n      SourceAccess",
                "      BatchSize: 100\n      MaximumRetryAttempts: 10\n      SourceAccess",
            ),
            edit(
                "      BatchSize: 100\n      SourceAccess",
                "      BatchSize: 100\n      FunctionResponseTypes: [ReportBatchItemFailures]\n      SourceAccess",
            ),
            edit("Topics: [!Ref BookingCreatedTopic]", "Topics: [!Ref BookingCancelledTopic]"),
            edit(
                "FunctionName: !Ref BookingCreatedFunction.Alias",
                "FunctionName: !Ref BookingCancelledFunction.Alias",
            ),
            edit("FunctionName: !Ref BookingCreatedFunction.Alias", "FunctionName: !Ref BookingCreatedFunction"),
        ],
    },
    Rule {
        name: "each kind of cluster is read in its own way, and by each kind of access that it has",
        check: read_in_its_own_way,
        breaks: &[
            edit("EventSourceArn: !If [ReadsMsk,", "EventSourceArn: !If [ReadsKafka,"),
            edit(
                "      SelfManagedEventSource: !If\n        - ReadsOwnKafka",
                "      SelfManagedEventSource: !If\n        - ReadsKafka",
            ),
            edit("{ConsumerGroupId: !Sub \"${AWS::StackName}-booking-created\"}", "{ConsumerGroupId: holdfast}"),
            edit("!If [ShowsKafkaSecret, {Type: !Ref KafkaAuth", "!If [ShowsKafkaSecret, {Type: BASIC_AUTH"),
            edit("    - !Not [!Equals [!Ref KafkaAuth, IAM]]\n", ""),
            edit("!If [HasKafkaCa, {Type: SERVER_ROOT_CA_CERTIFICATE", "!If [HasKafkaCa, {Type: VPC_SUBNET"),
            edit(
                "            - ReadsOwnKafkaInVpc\n            - {Type: VPC_SECURITY_GROUP",
                "            - ReadsMsk\n            - {Type: VPC_SECURITY_GROUP",
            ),
        ],
    },
    Rule {
        name: "a database or a cluster that nothing could be read from is refused before anything is deployed",
        check: refused_in_time,
        breaks: &[
            edit(
                "      - Assert: {Fn::Not: [Fn::Equals: [!Ref DatabaseHost, \"\"]]}",
                "      - Assert: {Fn::Equals: [1, 1]}",
            ),
            edit("            - Fn::Equals: [!Ref DatabaseAuth, iam]\n", "            - Fn::Equals: [1, 1]\n"),
            edit("            - Fn::Equals: [!Ref DatabaseTls, require]\n", "            - Fn::Equals: [1, 1]\n"),
            edit("                - Fn::Equals: [!Ref DatabaseProxyInstance, \"\"]\n", ""),
            edit(
                "            - Fn::Equals: [!Ref DatabaseProxyCluster, \"\"]\n            - Fn::Equals",
                "            - Fn::Equals: [1, 1]\n            - Fn::Equals",
            ),
            edit(
                "            - Fn::Not: [Fn::Equals: [!Ref KafkaClusterArn, \"\"]]\n",
                "            - Fn::Equals: [1, 1]\n",
            ),
            edit("            - Fn::Not: [Fn::Equals: [!Ref KafkaAuth, IAM]]\n", "            - Fn::Equals: [1, 1]\n"),
            edit("                - Fn::Not: [Fn::Equals: [!Ref KafkaAuth, BASIC_AUTH]]\n", ""),
            edit(
                "            - Fn::Not: [Fn::Equals: [!Ref KafkaSecretArn, \"\"]]\n",
                "            - Fn::Equals: [1, 1]\n",
            ),
        ],
    },
    Rule {
        name: "a proxy leads to the cluster, or to the instance, that was named",
        check: proxied_as_named,
        breaks: &[
            edit(
                "!If [ProxiesInstance, !Ref AWS::NoValue, [!Ref DatabaseProxyCluster]]",
                "[!Ref DatabaseProxyCluster]",
            ),
            edit("[!Ref DatabaseProxyInstance], !Ref AWS::NoValue]", "[!Ref DatabaseHost], !Ref AWS::NoValue]"),
            edit(", !Condition ProxiesInstance]", ", !Equals [1, 2]]"),
        ],
    },
    Rule {
        name: "a record of a topic is parked in its function's own queue, which has nothing else to park",
        check: parked_in_its_own,
        breaks: &[
            edit("QUEUE_URL: !If [ReadsKafka, !Ref BookingCreatedQueue, \"\"]", "QUEUE_URL: !Ref BookingCreatedQueue"),
            edit("!Ref BookingCreatedQueue, \"\"]", "!Ref BookingCancelledQueue, \"\"]"),
        ],
    },
    Rule {
        name: "the schema is brought up to date before the functions that need it, whenever its SQL changes",
        check: schema_comes_first,
        breaks: &[
            edit("    DependsOn: BookingSchema\n", ""),
            edit("\"900\"\n      Version: \"", "\"900\"\n      Version: \"0"),
            edit(
                "ServiceToken: !GetAtt BookingMigrateFunction.Arn",
                "ServiceToken: !GetAtt BookingCreatedFunction.Arn",
            ),
            edit("      ServiceTimeout: \"900\"\n", ""),
        ],
    },
];

const MAPPING: &str = "AWS::Lambda::EventSourceMapping";
const MSK: &str = "arn:aws:kafka:eu-west-1:123456789012:cluster/bookings/1d3f0b5e-2";
const SECRET: &str = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:kafka-AbCdEf";

/// Parameters of a stack with their values.
type Given = Vec<(&'static str, &'static str)>;

/// The functions of bookings that read a queue, each with the mapping of its topic.
fn readers(template: &Template) -> Vec<(Path<'_>, Option<Resource<'_>>)> {
    let of = |path: Path<'_>| {
        let alias = json!({"Ref": format!("{}.Alias", path.function.id)});
        template.of_type(MAPPING).into_iter().find(|mapping| mapping.properties["FunctionName"] == alias)
    };
    let paths = || template.paths().into_iter().filter(|path| path.code.system() == System::Bookings);
    paths().zip(paths().map(of)).collect()
}

/// A destination has Lambda give a batch up after ten tries, and a partial answer is no matter of a setting here.
fn nothing_given_up(project: &Project, faults: &mut Faults) {
    const GIVES_UP: [&str; 6] = [
        "BisectBatchOnFunctionError",
        "DestinationConfig",
        "FilterCriteria",
        "FunctionResponseTypes",
        "MaximumRecordAgeInSeconds",
        "MaximumRetryAttempts",
    ];
    let template = &project.template;
    let readers = readers(template);
    faults.unless(!readers.is_empty(), "no function of bookings reads a queue; mend this rule");
    for (path, mapping) in readers {
        let Some(mapping) = mapping else {
            faults.add(format!("{}: map its topic to its alias", path.function.id));
            continue;
        };
        let properties = mapping.properties;
        let topic = json!([{"Ref": path.function.id.replace("Function", "Topic")}]);
        for (name, expected) in
            [("StartingPosition", json!("TRIM_HORIZON")), ("BatchSize", json!(100)), ("Topics", topic)]
        {
            faults.unless(properties[name] == expected, format!("{}: set {name} to {expected}", mapping.id));
        }
        for name in GIVES_UP {
            let fault = format!("{}: take {name} away; what fails waits, or is parked", mapping.id);
            faults.unless(properties[name].is_null(), fault);
        }
    }
}

/// By what the mapping is, and by what Lambda has to show and to know.
fn read_in_its_own_way(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let of_msk = [("Bookings", "true"), ("BookingKafka", "msk"), ("KafkaClusterArn", MSK)];
    let own = [("Bookings", "true"), ("BookingKafka", "self-managed"), ("KafkaBootstrapServers", "kafka:9092")];
    let vpc = [("VpcSubnetIds", "subnet-1,subnet-2"), ("VpcSecurityGroupIds", "sg-1")];
    let shown = |auth: &'static str| vec![("KafkaAuth", auth), ("KafkaSecretArn", SECRET)];
    let through = ["VPC_SUBNET", "VPC_SUBNET", "VPC_SECURITY_GROUP"];
    let mut cases: Vec<(Given, Vec<&str>)> = vec![
        (of_msk.into(), vec![]),
        ([&of_msk[..], &[("KafkaAuth", "IAM"), ("KafkaSecretArn", SECRET)], &vpc].concat(), vec![]),
        (own.into(), vec![]),
        ([&own[..], &vpc].concat(), through.into()),
        ([&own[..], &[("KafkaCaSecretArn", SECRET)]].concat(), vec!["SERVER_ROOT_CA_CERTIFICATE"]),
    ];
    for auth in ["SASL_SCRAM_512_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH"] {
        cases.push(([&of_msk[..], &shown(auth)].concat(), vec![auth]));
    }
    for auth in ["BASIC_AUTH", "SASL_SCRAM_256_AUTH", "SASL_SCRAM_512_AUTH", "CLIENT_CERTIFICATE_TLS_AUTH"] {
        cases.push(([&own[..], &shown(auth)].concat(), vec![auth]));
    }
    for (parameters, expected) in cases {
        let stack = Stack::new(template, &parameters);
        let is_msk = parameters.contains(&("BookingKafka", "msk"));
        for (path, mapping) in readers(template) {
            let Some(mapping) = mapping.filter(|mapping| stack.makes(mapping.body)) else {
                faults.add(format!("{}: with {parameters:?} no topic is read", path.function.id));
                continue;
            };
            let chosen = stack.chosen(mapping.properties);
            let is = |name: &str| chosen[name] != json!({"Ref": "AWS::NoValue"});
            let kind =
                ["EventSourceArn", "AmazonManagedKafkaEventSourceConfig"].into_iter().all(|name| is(name) == is_msk)
                    && ["SelfManagedEventSource", "SelfManagedKafkaEventSourceConfig"]
                        .into_iter()
                        .all(|name| is(name) != is_msk);
            faults.unless(kind, format!("{}: with {parameters:?} it is a mapping of another kind", mapping.id));
            let config =
                if is_msk { "AmazonManagedKafkaEventSourceConfig" } else { "SelfManagedKafkaEventSourceConfig" };
            let group = json!({"Fn::Sub": format!("${{AWS::StackName}}-{}", path.name)});
            let fault = format!("{}: its group must be {group}, which its role names", mapping.id);
            faults.unless(chosen[config]["ConsumerGroupId"] == group, fault);
            let access = stack.value(&mapping.properties["SourceAccessConfigurations"]);
            let kinds: Vec<&str> = items(&access).into_iter().filter_map(|entry| entry["Type"].as_str()).collect();
            let fault = format!("{}: with {parameters:?} its access must be {expected:?}, not {kinds:?}", mapping.id);
            faults.unless(kinds == expected, fault);
        }
    }
    let without = Stack::new(template, &[("Bookings", "true")]);
    for mapping in template.of_type(MAPPING) {
        faults.unless(!without.makes(mapping.body), format!("{}: it is there without a cluster", mapping.id));
    }
}

fn refused_in_time(project: &Project, faults: &mut Faults) {
    let base = [
        ("Bookings", "true"),
        ("DatabaseHost", "database.example"),
        ("DatabaseSecretArn", SECRET),
        ("DatabaseOwnerSecretArn", SECRET),
        ("DatabaseResourceId", "cluster-ABC"),
        ("KafkaClusterArn", MSK),
        ("KafkaBootstrapServers", "kafka:9092"),
        ("KafkaSecretArn", SECRET),
        ("VpcSubnetIds", "subnet-1,subnet-2"),
        ("VpcSecurityGroupIds", "sg-1"),
        ("InventoryGrpcAddr", "inventory.example:8021"),
        ("ReservationApiBase", "https://reservation-api.example"),
    ];
    let refused: [&[(&str, &str)]; 19] = [
        &[("DatabaseHost", "")],
        &[("DatabaseOwnerSecretArn", "")],
        &[("DatabaseSecretArn", "")],
        &[("DatabaseAuth", "iam"), ("DatabaseResourceId", "")],
        &[("DatabaseTls", "disable")],
        &[("DatabaseProxyCluster", "bookings"), ("DatabaseAuth", "iam"), ("DatabaseSecretArn", "")],
        &[("DatabaseProxyCluster", "bookings"), ("VpcSubnetIds", "")],
        &[("DatabaseProxyInstance", "bookings"), ("VpcSubnetIds", "")],
        &[("DatabaseProxyCluster", "bookings"), ("DatabaseProxyInstance", "bookings")],
        &[("DatabaseProxyCluster", "bookings"), ("DatabaseStatements", "prepared")],
        &[("DatabaseProxyInstance", "bookings"), ("DatabaseStatements", "prepared")],
        &[("BookingKafka", "msk"), ("KafkaClusterArn", "")],
        &[("BookingKafka", "self-managed"), ("KafkaBootstrapServers", "")],
        &[("BookingKafka", "self-managed"), ("KafkaAuth", "IAM")],
        &[("BookingKafka", "msk"), ("KafkaAuth", "BASIC_AUTH")],
        &[("BookingKafka", "msk"), ("KafkaAuth", "SASL_SCRAM_256_AUTH")],
        &[("BookingKafka", "msk"), ("KafkaCaSecretArn", SECRET)],
        &[("BookingKafka", "msk"), ("KafkaAuth", "SASL_SCRAM_512_AUTH"), ("KafkaSecretArn", "")],
        &[("BookingKafka", "self-managed"), ("KafkaAuth", "BASIC_AUTH"), ("KafkaSecretArn", "")],
    ];
    let taken: [&[(&str, &str)]; 10] = [
        &[],
        &[("Bookings", "false"), ("DatabaseHost", ""), ("DatabaseOwnerSecretArn", ""), ("DatabaseSecretArn", "")],
        &[("DatabaseAuth", "iam"), ("DatabaseSecretArn", "")],
        &[("DatabaseAuth", "iam"), ("DatabaseResourceId", ""), ("DatabaseProxyCluster", "bookings")],
        &[("DatabaseAuth", "iam"), ("DatabaseResourceId", ""), ("DatabaseProxyInstance", "bookings")],
        &[("DatabaseTls", "disable"), ("DatabaseHost", "127.0.0.1")],
        &[("DatabaseStatements", "prepared")],
        &[("BookingKafka", "msk"), ("KafkaAuth", "IAM"), ("KafkaSecretArn", "")],
        &[("BookingKafka", "msk"), ("KafkaAuth", "CLIENT_CERTIFICATE_TLS_AUTH")],
        &[("BookingKafka", "self-managed"), ("KafkaAuth", "SASL_SCRAM_256_AUTH"), ("KafkaCaSecretArn", SECRET)],
    ];
    faults.unless_judged(project, &base, (&refused, &taken));
}

fn proxied_as_named(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let Some(targets) = template.of_type("AWS::RDS::DBProxyTargetGroup").into_iter().next() else {
        faults.add("add the targets of the database's proxy");
        return;
    };
    let (cluster, instance) = ("DBClusterIdentifiers", "DBInstanceIdentifiers");
    for (parameter, named, other) in
        [("DatabaseProxyCluster", cluster, instance), ("DatabaseProxyInstance", instance, cluster)]
    {
        let given = [("Bookings", "true"), ("DatabaseSecretArn", SECRET), (parameter, "bookings")];
        let stack = Stack::new(template, &given);
        let properties = stack.chosen(targets.properties);
        let is_right = stack.holds(&json!({"Condition": "MakesDatabaseProxy"}))
            && properties[named] == json!([{"Ref": parameter}])
            && [json!({"Ref": "AWS::NoValue"}), json!(null)].contains(&properties[other]);
        faults.unless(is_right, format!("{}: with {parameter} it must lead there, and nowhere else", targets.id));
    }
}

fn parked_in_its_own(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let given = [("Bookings", "true"), ("BookingKafka", "msk"), ("KafkaClusterArn", MSK)];
    for (path, _) in readers(template) {
        let chosen = |stack: &Stack<'_>| stack.chosen(&path.function.variables()["QUEUE_URL"]);
        let (with, without) = (chosen(&Stack::new(template, &given)), chosen(&Stack::new(template, &given[..1])));
        let right = with == path.queue.reference() && without == "";
        let fault = format!("{}: QUEUE_URL must be its own queue with a topic, and empty without", path.function.id);
        faults.unless(right, fault);
    }
}

/// CloudFormation calls a custom resource when one of its properties changes. Until the call has ended, nothing that depends on
/// it is changed.
fn schema_comes_first(project: &Project, faults: &mut Faults) {
    let template = &project.template;
    let is_migrator = |deployed: &Deployed<'_>| deployed.entry.name == booking_migrate::NAME;
    let migrator = template.deployed().into_iter().find(is_migrator);
    let Some(schema) = template.of_type("Custom::BookingSchema").into_iter().next() else {
        faults.add("add a Custom::BookingSchema, which has the schema brought up to date");
        return;
    };
    let expected = json!({
        "ServiceToken": migrator.map(|migrator| migrator.function.get("Arn")),
        "ServiceTimeout": "900",
        "Version": migration::fingerprint(),
    });
    faults.unless(*schema.properties == expected, format!("{}: its Properties must be {expected}", schema.id));
    for deployed in template.deployed() {
        if deployed.entry.system == System::Bookings && !is_migrator(&deployed) {
            let waits = items(&deployed.function.body["DependsOn"]).contains(&&json!(schema.id));
            faults.unless(waits, format!("{}: let it depend on {}", deployed.function.id, schema.id));
        }
    }
}
