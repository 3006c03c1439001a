//! The tables, which the code reads and writes as they are described here.

use serde_json::{Value, json};

use super::{Faults, Rule};
use crate::{
    project::{Project, edit},
    template::{Template, number},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "each table is the one that the code writes to, and outlives the stack",
        check: tables,
        breaks: &[
            edit("BillingMode: PAY_PER_REQUEST", "BillingMode: PROVISIONED"),
            edit(
                "TimeToLiveSpecification: {AttributeName: expiration",
                "TimeToLiveSpecification: {AttributeName: expires",
            ),
            edit("KeySchema: [{AttributeName: id", "KeySchema: [{AttributeName: key"),
            edit("AttributeType: S", "AttributeType: N"),
            edit("PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false"),
            edit("    DeletionPolicy: Retain\n", ""),
            edit("UpdateReplacePolicy: Retain", "UpdateReplacePolicy: Delete"),
            edit("AttributeName: created_at, AttributeType: N", "AttributeName: created_at, AttributeType: S"),
            edit("{AttributeName: created_at, KeyType: RANGE}", "{AttributeName: id, KeyType: RANGE}"),
            edit("        - IndexName: user\n", "        - IndexName: by-user\n"),
            edit("{ProjectionType: KEYS_ONLY}", "{ProjectionType: ALL}"),
            edit("{StreamViewType: NEW_IMAGE}", "{StreamViewType: KEYS_ONLY}"),
            edit("SSESpecification: {SSEEnabled: true}", "SSESpecification: {SSEEnabled: false}"),
            edit("  ReservationsTable:\n", "  Table:\n"),
            edit("{AttributeName: sk, KeyType: RANGE}", "{AttributeName: pk, KeyType: RANGE}"),
            edit("      WarmThroughput: {ReadUnits", "      OnDemandThroughput: {ReadUnits"),
            edit("    MinValue: 4000\n", "    MinValue: 3999\n"),
        ],
    },
    Rule {
        name: "a function is given the table that its code names",
        check: given_its_table,
        breaks: &[
            edit("IDEMPOTENCY_TABLE: !Ref IdempotencyTable", "IDEMPOTENCY_TABLE: IdempotencyTable"),
            edit("IDEMPOTENCY_TABLE: !Ref IdempotencyTable", "IDEMPOTENCY_TABLE: !Ref ReservationsTable"),
            edit("RESERVATIONS_TABLE: !Ref ReservationsTable", "RESERVATIONS_TABLE: !Ref IdempotencyTable"),
            edit("WAITING_ROOM_TABLE: !Ref WaitingRoomTable", "WAITING_ROOM_TABLE: !Ref ReservationsTable"),
            edit(
                "!If [HasWaitingRoom, !Ref WaitingRoomTable, \"\"]",
                "!If [HasWaitingRoom, !Ref WaitingRoomTable, none]",
            ),
        ],
    },
];

/// The tables by the variables that name them. Integration tests hold the code to the rest.
const NAMED_BY: [(&str, &str); 3] = [
    ("IDEMPOTENCY_TABLE", "IdempotencyTable"),
    ("RESERVATIONS_TABLE", "ReservationsTable"),
    ("WAITING_ROOM_TABLE", "WaitingRoomTable"),
];

/// What a new table takes at once, in reads and in writes. DynamoDB refuses to be told less.
const FRESH: [(&str, u64); 2] = [("WaitingRoomWarmReads", 12_000), ("WaitingRoomWarmWrites", 4_000)];

/// What a table has beside what all have: that of `shared::idempotency` nothing but its key, that of
/// `shared::reservation::table` an index, and a stream for what is to be published; that of `shared::waiting_room::table` a
/// second key, and reads and writes that are there when a sale opens.
fn own(table: &str) -> Vec<(&'static str, Value)> {
    let attribute = |name: &str, kind: &str| json!({"AttributeName": name, "AttributeType": kind});
    let by_id = || ("KeySchema", json!([{"AttributeName": "id", "KeyType": "HASH"}]));
    match table {
        "ReservationsTable" => {}
        "WaitingRoomTable" => {
            let [reads, writes] = FRESH.map(|(parameter, _)| json!({"Ref": parameter}));
            let keys = [("pk", "HASH"), ("sk", "RANGE")];
            let keys = keys.map(|(name, kind)| json!({"AttributeName": name, "KeyType": kind}));
            return vec![
                ("KeySchema", json!(keys)),
                ("AttributeDefinitions", json!([attribute("pk", "S"), attribute("sk", "S")])),
                ("WarmThroughput", json!({"ReadUnitsPerSecond": reads, "WriteUnitsPerSecond": writes})),
            ];
        }
        _ => return vec![by_id(), ("AttributeDefinitions", json!([attribute("id", "S")]))],
    }
    let index = json!({
        "IndexName": "user",
        "KeySchema": [
            {"AttributeName": "user_id", "KeyType": "HASH"},
            {"AttributeName": "created_at", "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "KEYS_ONLY"},
    });
    let attributes = [attribute("id", "S"), attribute("user_id", "S"), attribute("created_at", "N")];
    vec![
        by_id(),
        ("AttributeDefinitions", json!(attributes)),
        ("GlobalSecondaryIndexes", json!([index])),
        ("StreamSpecification", json!({"StreamViewType": "NEW_IMAGE"})),
    ]
}

fn tables(project: &Project, faults: &mut Faults) {
    let tables = project.template.of_type("AWS::DynamoDB::Table");
    let names: Vec<&str> = tables.iter().map(|table| table.id).collect();
    let expected = NAMED_BY.map(|(_, table)| table);
    faults.unless(names == expected, format!("the tables must be {expected:?}, and are {names:?}"));
    for table in tables {
        let common = [
            ("BillingMode", json!("PAY_PER_REQUEST")),
            ("TimeToLiveSpecification", json!({"AttributeName": "expiration", "Enabled": true})),
            ("PointInTimeRecoverySpecification", json!({"PointInTimeRecoveryEnabled": true})),
            ("SSESpecification", json!({"SSEEnabled": true})),
        ];
        let expected: Value =
            common.into_iter().chain(own(table.id)).map(|(name, value)| (name.to_owned(), value)).collect();
        faults.unless(*table.properties == expected, format!("{}: its properties must be {expected}", table.id));
        for policy in ["DeletionPolicy", "UpdateReplacePolicy"] {
            faults.unless(table.body[policy] == "Retain", format!("{}: {policy} must be Retain", table.id));
        }
    }
    for (parameter, fresh) in FRESH {
        let least = project.template.range(&json!({"Ref": parameter})).map(|(least, _)| least);
        let default = number(&project.template.section("Parameters")[parameter]["Default"]);
        let same = least == Some(fresh) && default == Some(fresh);
        faults.unless(same, format!("{parameter}: its least value and its default must be {fresh}"));
    }
}

fn given_its_table(project: &Project, faults: &mut Faults) {
    let given = |template: &Template, variable: &str, table: &str| {
        let functions = template.deployed().into_iter().map(|deployed| deployed.function);
        let named = functions.filter(|function| !function.variables()[variable].is_null());
        // A function of another system is given it only where it is made.
        let reference = json!({"Ref": table});
        let conditional = json!({"Fn::If": ["HasWaitingRoom", reference, ""]});
        let (right, wrong): (Vec<_>, Vec<_>) =
            named.partition(|function| [&reference, &conditional].contains(&&function.variables()[variable]));
        (right.len(), wrong.into_iter().map(|function| function.id.to_owned()).collect::<Vec<_>>())
    };
    for (variable, table) in NAMED_BY {
        let (right, wrong) = given(&project.template, variable, table);
        faults.unless(wrong.is_empty(), format!("{variable} must be !Ref {table}, and is not in {wrong:?}"));
        faults.unless(right + wrong.len() > 0, format!("{variable}: no function is given it"));
    }
}
