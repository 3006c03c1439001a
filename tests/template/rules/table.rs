//! The idempotency table, which the code reads and writes as it is described here.

use serde_json::{Value, json};

use super::{Faults, Rule};
use crate::{
    project::{Project, edit},
    template::FUNCTION,
};

pub(crate) const RULES: &[Rule] = &[Rule {
    name: "the table is the one that the code writes to, and outlives the stack",
    check: table,
    breaks: &[
        edit("BillingMode: PAY_PER_REQUEST", "BillingMode: PROVISIONED"),
        edit("TimeToLiveSpecification: {AttributeName: expiration", "TimeToLiveSpecification: {AttributeName: expires"),
        edit("KeySchema: [{AttributeName: id", "KeySchema: [{AttributeName: key"),
        edit("AttributeType: S", "AttributeType: N"),
        edit("PointInTimeRecoveryEnabled: true", "PointInTimeRecoveryEnabled: false"),
        edit("    DeletionPolicy: Retain\n", ""),
        edit("UpdateReplacePolicy: Retain", "UpdateReplacePolicy: Delete"),
        edit("IDEMPOTENCY_TABLE: !Ref IdempotencyTable", "IDEMPOTENCY_TABLE: IdempotencyTable"),
    ],
}];

/// The key and the attribute of its TTL are those of `shared::idempotency`, to which integration tests hold the code.
fn table(project: &Project, faults: &mut Faults) {
    let tables = project.template.of_type("AWS::DynamoDB::Table");
    let [table] = tables[..] else {
        faults.add(format!("there must be one table, and there are {}", tables.len()));
        return;
    };
    let expected: [(&str, Value); 7] = [
        ("/DeletionPolicy", json!("Retain")),
        ("/UpdateReplacePolicy", json!("Retain")),
        ("/Properties/BillingMode", json!("PAY_PER_REQUEST")),
        ("/Properties/AttributeDefinitions", json!([{"AttributeName": "id", "AttributeType": "S"}])),
        ("/Properties/KeySchema", json!([{"AttributeName": "id", "KeyType": "HASH"}])),
        ("/Properties/TimeToLiveSpecification", json!({"AttributeName": "expiration", "Enabled": true})),
        ("/Properties/PointInTimeRecoverySpecification", json!({"PointInTimeRecoveryEnabled": true})),
    ];
    for (place, value) in expected {
        let found = table.body.pointer(place);
        faults.unless(found == Some(&value), format!("{}: {place} must be {value}", table.id));
    }
    for function in project.template.of_type(FUNCTION) {
        let named = function.variables()["IDEMPOTENCY_TABLE"] == table.reference();
        faults.unless(named, format!("{}: IDEMPOTENCY_TABLE must be !Ref {}", function.id, table.id));
    }
}
