//! What the table does with a request, as the DynamoDB emulator has it. The search has many tables at once and the emulator
//! one, so before a request the item is put there, and afterwards it is read.

use std::time::SystemTime;

use local_stack::{
    aws::AwsError,
    stack::{RESERVATIONS, Stack},
};
use serde_json::{Value, json};
use shared::deadline::epoch_ms;

use super::{
    Sabotage,
    moment::{LEASE, LEASE_OVER, Phase, moments, named},
};
use crate::gate::{Answer, Request};

/// What the stream and the sweep look at. Nobody else decides by it, and an answer to anybody else is without it.
const UNTOLD: [&str; 3] = ["events", "unpublished", "touched"];

pub(crate) struct Table {
    stack: Stack,
    sabotage: Sabotage,
}

impl Table {
    pub(crate) async fn new(sabotage: Sabotage) -> Self {
        Self { stack: Stack::start().await.expect("a stack"), sabotage }
    }

    /// The answer to a request of somebody in this phase, and the item after it.
    pub(crate) async fn carry_out(
        &self,
        request: &Request,
        item: Option<&str>,
        phase: Phase,
    ) -> (Answer, Option<String>) {
        let Request::Aws { target, body } = request else { panic!("no request of the table's: {request:?}") };
        let operation = target.rsplit('.').next().expect("an operation");
        let now = epoch_ms(SystemTime::now());
        let mut input: Value = serde_json::from_str(body).expect("a request in JSON");
        self.spoil(&mut input);
        moments(&mut input, phase, now);
        let id = super::role::wish().reservation_id();
        let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}, "ConsistentRead": true});
        let aws = &self.stack.aws;
        let gone = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}});
        aws.dynamodb("DeleteItem", &gone).await.expect("the item can be deleted");
        if let Some(item) = item {
            let mut item: Value = serde_json::from_str(item).expect("an item in JSON");
            moments(&mut item, phase, now);
            let put = json!({"TableName": RESERVATIONS, "Item": item});
            aws.dynamodb("PutItem", &put).await.expect("the item can be put");
        }
        let (status, mut answer) = match aws.dynamodb(operation, &input).await {
            Ok(answer) => (200, answer),
            Err(AwsError::Refused { status, body, .. }) => {
                assert!(body.contains("ConditionalCheckFailed"), "DynamoDB does not understand {input}: {body}");
                (status, serde_json::from_str(&body).expect("a refusal in JSON"))
            }
            Err(error) => panic!("DynamoDB: {error}"),
        };
        let mut after = aws.dynamodb("GetItem", &key).await.expect("the item can be read")["Item"].take();
        named(&mut answer, now);
        named(&mut after, now);
        for name in ["Item", "Attributes"] {
            if let Some(fields) = answer[name].as_object_mut() {
                fields.retain(|name, _| !UNTOLD.contains(&name.as_str()));
            }
        }
        let told = if self.sabotage == Sabotage::EarlyExpiry { Phase::Late } else { phase };
        let answer = json!({"phase": told as u8, "body": answer});
        (Answer::Http { status, body: answer.to_string() }, (!after.is_null()).then(|| after.to_string()))
    }

    fn spoil(&self, input: &mut Value) {
        let update = input["UpdateExpression"].as_str().unwrap_or_default().to_owned();
        let condition = input["ConditionExpression"].as_str().unwrap_or_default().to_owned();
        let spoilt = match self.sabotage {
            Sabotage::Unconditional => condition.contains("#version") && update.starts_with("SET"),
            Sabotage::ClearedUnseen => update.starts_with("REMOVE"),
            Sabotage::None
            | Sabotage::TimerLost
            | Sabotage::EarlyExpiry
            | Sabotage::NothingBarred
            | Sabotage::PaidOnHisWord => false,
        };
        if spoilt {
            let fields = input.as_object_mut().expect("an object");
            fields.remove("ConditionExpression");
            // DynamoDB refuses names and values that no expression uses.
            for names in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
                if let Some(names) = fields.get_mut(names).and_then(Value::as_object_mut) {
                    names.retain(|name, _| uses(&update, name));
                }
            }
            let unused = |fields: &serde_json::Map<String, Value>, name: &str| {
                fields.get(name).and_then(Value::as_object).is_some_and(serde_json::Map::is_empty)
            };
            for names in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
                if unused(fields, names) {
                    fields.remove(names);
                }
            }
        }
    }
}

/// Whether an expression uses this name, and not only one that begins with it.
fn uses(expression: &str, name: &str) -> bool {
    expression.split(|c: char| !(c.is_ascii_alphanumeric() || "_#:".contains(c))).any(|word| word == name)
}

/// The item when the lease of whoever is at it is over; nothing, where there is none.
pub(crate) fn without_its_lease(item: &str) -> Option<String> {
    let live = format!("\"lease_until\":{{\"N\":\"{LEASE}\"}}");
    item.contains(&live).then(|| item.replace(&live, &format!("\"lease_until\":{{\"N\":\"{LEASE_OVER}\"}}")))
}
