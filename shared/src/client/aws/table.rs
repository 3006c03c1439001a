//! A look at a table of DynamoDB.

use aws_sdk_dynamodb::{Client, error::ProvideErrorMetadata, types::AttributeValue};

use super::fault;

/// The partition key of the tables whose items have no other.
pub const ID: &str = "id";

/// Why a look at the table did not find it fit. The texts fit after the name of the variable that names the table.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It is not there.
    #[error("names a table that is not there, {0:?}: correct it, or create the table in this account and region")]
    Missing(String),
    /// This function may not write to it. A role that may write to one table gets this answer for any other name, be there
    /// a table or not.
    #[error(
        "names a table that this function may not write to, {table:?}: correct it, or allow dynamodb:UpdateItem: {cause}"
    )]
    Denied {
        /// The table.
        table: String,
        /// The chain of causes.
        cause: String,
    },
    /// Its key is not that of our items, or its name is none that DynamoDB takes.
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

    let attribute = |(name, value): &(&str, &str)| ((*name).to_owned(), AttributeValue::S((*value).to_owned()));
    let names: Vec<&str> = key.iter().map(|(name, _)| *name).collect();
    let call = client
        .update_item()
        .table_name(table)
        .set_key(Some(key.iter().map(attribute).collect()))
        .condition_expression(NEVER)
        .expression_attribute_names("#id", names.first().copied().unwrap_or(ID));
    let Err(error) = call.send().await else {
        return Err(Unfit::Unknown("the answer is none that DynamoDB gives".to_owned()));
    };
    let (table, cause) = (table.to_owned(), fault(&error));
    match error.code() {
        Some("ConditionalCheckFailedException") => Ok(()),
        Some("ResourceNotFoundException") => Err(Unfit::Missing(table)),
        Some("AccessDeniedException") => Err(Unfit::Denied { table, cause }),
        Some("ValidationException") => {
            let key = match names.as_slice() {
                [partition, sort] => format!("the partition key {partition} (S) and the sort key {sort} (S)"),
                _ => format!("the partition key {} (S) and nothing else", names.concat()),
            };
            Err(Unfit::OtherKey { table, key, cause })
        }
        Some(_) | None => Err(Unfit::Unknown(cause)),
    }
}
