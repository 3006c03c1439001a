//! DynamoDB's tables, as far as the idempotency store writes to them. A condition and an update are evaluated as they
//! arrive, so that nothing of the store is written a second time here; what this does not know it refuses. The tests hold
//! it against the emulator, by the store's own requests.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::http::StatusCode;
use serde_json::{Map, Value, json};

use self::expression::{Expressions, Malformed};

mod expression;

/// An item's attributes, each as `{"S": ...}` or `{"N": ...}`.
type Item = Map<String, Value>;

/// The one attribute of every table's key, a string.
const KEY: &str = "id";

/// The tables by name, with their items by key.
#[derive(Debug, Default)]
pub(super) struct Tables(Mutex<HashMap<String, HashMap<String, Item>>>);

/// Why a call is not carried out.
enum Refusal {
    /// The condition does not hold; the item that it does not hold for, if the caller wants it.
    Unmet(Option<Item>),
    NoTable,
    Invalid(String),
}

impl From<Malformed> for Refusal {
    fn from(Malformed(message): Malformed) -> Self {
        Self::Invalid(message)
    }
}

impl Tables {
    /// Carries out an operation, and says what goes over the wire.
    pub(super) fn call(&self, operation: &str, input: &Value) -> (StatusCode, Value) {
        let answer = match operation {
            "UpdateItem" => self.update(input),
            "GetItem" => self.get(input),
            "CreateTable" => self.create(input),
            _ => Err(Refusal::Invalid(format!("this table does not know the operation {operation:?}"))),
        };
        answer.map_or_else(Refusal::into_answer, |answer| (StatusCode::OK, answer))
    }

    fn create(&self, input: &Value) -> Result<Value, Refusal> {
        know(input, &["TableName", "KeySchema", "AttributeDefinitions", "BillingMode"])?;
        if input["KeySchema"] != json!([{"AttributeName": KEY, "KeyType": "HASH"}]) {
            return Err(Refusal::Invalid(format!("the key of a table is {KEY:?} here, and nothing else")));
        }
        let name = input["TableName"].as_str().unwrap_or_default();
        self.lock().entry(name.to_owned()).or_default();
        Ok(json!({"TableDescription": {"TableName": name, "TableStatus": "ACTIVE"}}))
    }

    fn get(&self, input: &Value) -> Result<Value, Refusal> {
        know(input, &["TableName", "Key", "ConsistentRead"])?;
        let mut tables = self.lock();
        let item = table(&mut tables, input)?.get(key(input)?);
        Ok(item.map_or_else(|| json!({}), |item| json!({"Item": item})))
    }

    fn update(&self, input: &Value) -> Result<Value, Refusal> {
        know(
            input,
            &[
                "TableName",
                "Key",
                "ConditionExpression",
                "UpdateExpression",
                "ExpressionAttributeNames",
                "ExpressionAttributeValues",
                "ReturnValues",
                "ReturnValuesOnConditionCheckFailure",
            ],
        )?;
        let told = match input["ReturnValues"].as_str() {
            None | Some("NONE") => false,
            Some("ALL_NEW") => true,
            Some(other) => return Err(Refusal::Invalid(format!("ReturnValues {other} is not known here"))),
        };
        let mut tables = self.lock();
        let items = table(&mut tables, input)?;
        let id = key(input)?;
        let (absent, old) = (Item::new(), items.get(id));
        let mut expressions = Expressions::new(
            &input["ExpressionAttributeNames"],
            &input["ExpressionAttributeValues"],
            old.unwrap_or(&absent),
        );
        let holds = expressions.condition(input["ConditionExpression"].as_str())?;
        let changes = expressions.update(input["UpdateExpression"].as_str())?;
        expressions.finish()?;
        if !holds {
            let wanted = input["ReturnValuesOnConditionCheckFailure"] == "ALL_OLD";
            return Err(Refusal::Unmet(old.filter(|_| wanted).cloned()));
        }
        let item = items.entry(id.to_owned()).or_insert_with(|| Item::from_iter([(KEY.to_owned(), json!({"S": id}))]));
        for (attribute, value) in changes {
            match value {
                _ if attribute == KEY => return Err(Refusal::Invalid("the key of an item does not change".to_owned())),
                Some(value) => item.insert(attribute, value),
                None => item.remove(&attribute),
            };
        }
        Ok(if told { json!({"Attributes": item}) } else { json!({}) })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Item>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A parameter that is not read must not be thought to work.
fn know(input: &Value, parameters: &[&str]) -> Result<(), Refusal> {
    let given = input.as_object().into_iter().flat_map(Map::keys);
    match given.into_iter().find(|parameter| !parameters.contains(&parameter.as_str())) {
        Some(unknown) => Err(Refusal::Invalid(format!("this table does not know the parameter {unknown:?}"))),
        None => Ok(()),
    }
}

fn table<'a>(
    tables: &'a mut HashMap<String, HashMap<String, Item>>,
    input: &Value,
) -> Result<&'a mut HashMap<String, Item>, Refusal> {
    tables.get_mut(input["TableName"].as_str().unwrap_or_default()).ok_or(Refusal::NoTable)
}

fn key(input: &Value) -> Result<&str, Refusal> {
    let only = input["Key"].as_object().filter(|key| key.len() == 1);
    let id = only.and_then(|key| key.get(KEY)?.get("S")?.as_str()).filter(|id| !id.is_empty());
    id.ok_or_else(|| Refusal::Invalid("The provided key element does not match the schema".to_owned()))
}

impl Refusal {
    fn into_answer(self) -> (StatusCode, Value) {
        let dynamodb = |kind: &str| format!("com.amazonaws.dynamodb.v20120810#{kind}");
        let body = match self {
            Self::Unmet(item) => {
                let kind = dynamodb("ConditionalCheckFailedException");
                let mut body = json!({"__type": kind, "message": "The conditional request failed"});
                if let Some(item) = item {
                    body["Item"] = Value::Object(item);
                }
                body
            }
            Self::NoTable => {
                let kind = dynamodb("ResourceNotFoundException");
                json!({"__type": kind, "message": "Requested resource not found"})
            }
            Self::Invalid(message) => {
                json!({"__type": "com.amazon.coral.validate#ValidationException", "message": message})
            }
        };
        (StatusCode::BAD_REQUEST, body)
    }
}

#[cfg(test)]
mod tests;
