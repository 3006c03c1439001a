//! A table of DynamoDB: a look at whether it fits, and reads of many items.

use std::collections::HashMap;

use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    types::{AttributeValue, KeysAndAttributes, ReturnConsumedCapacity},
};

use super::fault;

/// The partition key of the tables whose items have no other.
pub const ID: &str = "id";

/// The attributes of an item, or of a key, by their names.
pub type Attributes = HashMap<String, AttributeValue>;

/// DynamoDB's limit for a `BatchGetItem`.
const BATCH: usize = 100;

/// How often what a crowded table leaves out is asked for.
const ROUNDS: usize = 5;

/// Why a look at the table did not find it fit. The texts fit after the name of the variable that names the table.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not there.
    #[error("names a table that is not there, {0:?}: correct it, or create the table in this account and region")]
    Missing(String),
    /// This function may not use it so. A role that may use one table gets this answer for any other name, be there a table
    /// or not.
    #[error("names a table that this function may not {}, {table:?}: correct it, or allow {}: {cause}", .needed.0, .needed.1)]
    Denied {
        /// The table.
        table: String,
        /// What it may not do, for people, and as the action of a policy.
        needed: (&'static str, &'static str),
        /// The chain of causes.
        cause: String,
    },
    /// Its key is not that of our items, or DynamoDB does not take its name.
    #[error("names a table that does not fit, {table:?}: its key must be {key}: {cause}")]
    OtherKey {
        /// The table.
        table: String,
        /// The key that our items have.
        key: String,
        /// The chain of causes.
        cause: String,
    },
    /// Nobody knows: DynamoDB was not reached, or is busy.
    #[error("could not be looked at: {0}")]
    Unknown(String),
}

/// Looks whether items can be written at all, by a write whose condition no item can ever meet. So it changes nothing, and it
/// needs no permission that a write of `key` does not need too. The key is the partition key, and the sort key if there is one,
/// each with its name.
///
/// # Errors
/// What is wrong with the table, or that it is not known.
pub async fn look(client: &Client, table: &str, key: &[(&str, &str)]) -> Result<(), Unfit> {
    const NEVER: &str = "attribute_exists(#id) AND attribute_not_exists(#id)";

    let call = client
        .update_item()
        .table_name(table)
        .set_key(Some(attributes(key)))
        .condition_expression(NEVER)
        .expression_attribute_names("#id", key.first().map_or(ID, |(name, _)| *name));
    match call.send().await {
        Ok(_) => Err(Unfit::Unknown(NOT_DYNAMODB.to_owned())),
        Err(error) if error.code() == Some("ConditionalCheckFailedException") => Ok(()),
        Err(error) => Err(unfit(table, key, ("write to", "dynamodb:UpdateItem"), error.code(), fault(&error))),
    }
}

/// Looks whether items can be read at all, for who never writes one. The key is as [`look`] has it, and need not be there.
///
/// # Errors
/// What is wrong with the table, or that it is not known.
pub async fn look_up(client: &Client, table: &str, key: &[(&str, &str)]) -> Result<(), Unfit> {
    let call = client.get_item().table_name(table).set_key(Some(attributes(key)));
    match call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
        Ok(answer) if answer.consumed_capacity.is_some() => Ok(()),
        Ok(_) => Err(Unfit::Unknown(NOT_DYNAMODB.to_owned())),
        Err(error) => Err(unfit(table, key, ("read", "dynamodb:GetItem"), error.code(), fault(&error))),
    }
}

/// The items of these keys that are there, in any order, as they are at this moment.
///
/// # Errors
/// Why DynamoDB did not say of each of them what it is.
pub async fn read_all(client: &Client, table: &str, keys: &[Attributes]) -> Result<Vec<Attributes>, String> {
    let mut found = Vec::new();
    for part in keys.chunks(BATCH) {
        let mut wanted = part.to_vec();
        for _ in 0..ROUNDS {
            if wanted.is_empty() {
                break;
            }
            let keys = KeysAndAttributes::builder().set_keys(Some(wanted)).consistent_read(true).build();
            let call = client.batch_get_item().request_items(table, keys.map_err(|error| error.to_string())?);
            let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
            let answer = call.send().await.map_err(|error| fault(&error))?;
            let items = answer.responses.unwrap_or_default().remove(table).unwrap_or_default();
            // Items of this table are DynamoDB's own word, and so is what was consumed. An answer without either may be
            // anybody's.
            if items.is_empty() && answer.consumed_capacity.is_none_or(|consumed| consumed.is_empty()) {
                return Err(NOT_DYNAMODB.to_owned());
            }
            found.extend(items);
            wanted = answer.unprocessed_keys.unwrap_or_default().remove(table).map_or(Vec::new(), |left| left.keys);
        }
        if !wanted.is_empty() {
            return Err("DynamoDB left some of them out".to_owned());
        }
    }
    Ok(found)
}

/// Why an answer says nothing: it lacks what each answer of DynamoDB has.
pub(crate) const NOT_DYNAMODB: &str = "the answer is not one that DynamoDB gives";

fn attributes(key: &[(&str, &str)]) -> Attributes {
    key.iter().map(|(name, value)| ((*name).to_owned(), AttributeValue::S((*value).to_owned()))).collect()
}

/// What a refusal says of the table.
fn unfit(
    table: &str,
    key: &[(&str, &str)],
    needed: (&'static str, &'static str),
    code: Option<&str>,
    cause: String,
) -> Unfit {
    let table = table.to_owned();
    match code {
        Some("ResourceNotFoundException") => Unfit::Missing(table),
        Some("AccessDeniedException") => Unfit::Denied { table, needed, cause },
        Some("ValidationException") => {
            let names: Vec<&str> = key.iter().map(|(name, _)| *name).collect();
            let key = match names.as_slice() {
                [partition, sort] => format!("the partition key {partition} (S) and the sort key {sort} (S)"),
                _ => format!("the partition key {} (S) and nothing else", names.concat()),
            };
            Unfit::OtherKey { table, key, cause }
        }
        Some(_) | None => Unfit::Unknown(cause),
    }
}
