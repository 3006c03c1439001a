//! The table of the waiting room: partition key `pk` (S), sort key `sk` (S), TTL `expiration`. Show and generation stand in
//! every key below as `{line}`; numbers in sort keys have leading zeros.
//!
//! | record | `pk` | `sk` | holds |
//! | --- | --- | --- | --- |
//! | line | `line#{show}` | `line` | a [`Line`] |
//! | open lines | `lines` | `{show}` | |
//! | item | `item#{id}` | `item` | an [`Item`] |
//! | block | `new#{line}#{0..15}` | `{number}` | people without a place |
//! | run | `run#{line}` | `{cut}#{start}` | where its segments begin, the blocks that it took |
//! | late people | `late#{line}` | `{start}` | their number, the first and the last arrival |
//! | segment | `seg#{line}` | `{start}` | 256 people in order |
//! | page | `page#{line}#{page}` | `page` | 50 [`Entry`](super::place::Entry), by offset |
//! | back | `back#{line}` | `{position}` | who came back after his call had run out |
//! | connections | `push#{id}` | `push` | by which a place is heard of |
//! | connection | `socket#{connection}` | `socket` | the place that is heard of by it |
//!
//! Each write that matters to anybody else is conditional, or makes a record of a name that nobody else has. A success is
//! DynamoDB's own word: it says what was consumed, or the item that was written.

mod connections;
mod joining;
mod known;
mod leaving;
mod order;
mod turns;

use std::{collections::HashMap, sync::Arc};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{
    Client,
    error::ProvideErrorMetadata,
    operation::transact_write_items::TransactWriteItemsError,
    types::{
        AttributeValue, CancellationReason, ConditionCheck, Delete, Put, ReturnConsumedCapacity,
        ReturnValuesOnConditionCheckFailure, TransactWriteItem, builders::ConditionCheckBuilder,
    },
};
use aws_smithy_types::error::operation::BuildError;

use self::known::Known;
pub use self::{
    connections::MOST_CONNECTIONS,
    joining::{Item, Join, Joined},
    leaving::Spot,
    turns::Replaced,
};
use super::{
    id::PlaceId,
    line::{Line, Scope},
    sequence::Pending,
};
use crate::{
    client::aws::{
        fault,
        table::{self, Attributes, NOT_DYNAMODB, Unfit},
    },
    config::Reader,
    failure::Failure,
};

const PK: &str = "pk";
const SK: &str = "sk";
const EXPIRATION: &str = "expiration";

/// The sort key of a line.
const LINE: &str = "line";

/// The partition of the open lines.
const LINES: &str = "lines";

/// The bytes of a person in a block or a segment: name, arrival, seats.
const PERSON: usize = 23;

/// Why the table did not do what was asked. Nothing is known about what was asked for then.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// DynamoDB refused or could not be reached.
    #[error("{action} {what}: {cause}")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// The record.
        what: String,
        /// The chain of causes.
        cause: String,
    },
    /// A record holds what no version of this code wrote.
    #[error("{what} is unreadable in its table: {fault}; repair it")]
    Unreadable {
        /// The record.
        what: String,
        /// What is wrong.
        fault: String,
    },
}

impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Unavailable { .. } | TableError::Unreadable { .. } => Self::transient(error.to_string()),
        }
    }
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was made.
    Made,
    /// Nothing of it was made, because somebody else has written meanwhile: read again.
    Overtaken,
}

/// The table. Copies share what they have read of the order of lines, which never changes.
#[derive(Debug, Clone)]
pub struct Table {
    client: Client,
    name: String,
    known: Arc<Known>,
}

impl Table {
    /// The table of this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into(), known: Arc::default() }
    }

    /// The table that `WAITING_ROOM_TABLE` names.
    pub fn configured(reader: &mut Reader<'_>, aws: &SdkConfig) -> Self {
        let name = reader.required("WAITING_ROOM_TABLE");
        Self::new(Client::new(aws), name)
    }

    /// Looks whether the table can be written at all.
    ///
    /// # Errors
    /// What is wrong with the table, or that it is not known.
    pub async fn probe(&self) -> Result<(), Unfit> {
        table::look(&self.client, &self.name, &[(PK, "item#probe"), (SK, "item")]).await
    }

    /// The line of a show as it is at this moment; nothing, where there is none.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or a line that can't be read.
    pub async fn line(&self, show_id: &str) -> Result<Option<Line>, TableError> {
        let what = format!("the line of {show_id}");
        let Some(found) = self.get(&what, &line_key(show_id), LINE).await? else { return Ok(None) };
        let line: Line = read(&what, found)?;
        if line.scope.show_id == show_id { Ok(Some(line)) } else { Err(unreadable(&what, "it is of another show")) }
    }

    /// Whether a show has a line at this moment, for who needs to know no more of it.
    ///
    /// # Errors
    /// When DynamoDB gave no answer.
    pub async fn has_line(&self, show_id: &str) -> Result<bool, TableError> {
        let what = format!("the line of {show_id}");
        let pk = line_key(show_id);
        let Some(found) = self.get(&what, &pk, LINE).await? else { return Ok(false) };
        if text(&what, &found, PK)? == pk { Ok(true) } else { Err(unreadable(&what, "it is of another show")) }
    }

    /// Looks whether lines can be read at all, for who only reads them.
    ///
    /// # Errors
    /// What is wrong with the table, or that it is not known.
    pub async fn probe_lines(&self) -> Result<(), Unfit> {
        table::look_up(&self.client, &self.name, &[(PK, &line_key("probe")), (SK, LINE)]).await
    }

    /// Opens a line, if the show has none.
    ///
    /// # Errors
    /// When it is not known whether it is open.
    pub async fn open(&self, line: &Line) -> Result<Written, TableError> {
        self.list(line, Expected::NoLine).await
    }

    /// Opens a line where the show has had one, if that is still as it was read.
    ///
    /// # Errors
    /// When it is not known whether it is open.
    pub async fn open_anew(&self, line: &Line, before: &Line) -> Result<Written, TableError> {
        self.list(line, Expected::as_read(before)).await
    }

    /// Writes what an operator set, if the line is what it was set on.
    ///
    /// # Errors
    /// When it is not known whether it was written.
    pub async fn set(&self, line: &Line) -> Result<Written, TableError> {
        self.list(line, Expected::before(line)).await
    }

    /// The shows whose lines are open.
    ///
    /// # Errors
    /// When DynamoDB gave no answer.
    pub async fn open_shows(&self) -> Result<Vec<String>, TableError> {
        let what = "the open lines";
        let found = self.query(what, LINES, None).await?;
        found.iter().map(|item| text(what, item, SK)).collect()
    }

    /// Takes a show off the list of those whose lines are open, because nothing happens to the line that was read any more, or
    /// because none was. Where it is another by now, which somebody has opened, set or worked, the show stays on the list.
    ///
    /// # Errors
    /// When it is not known whether it is off.
    pub async fn close(&self, show_id: &str, read: Option<&Line>) -> Result<Written, TableError> {
        let what = format!("the open line of {show_id}");
        let (condition, values) = read.map_or(Expected::NoLine, Expected::as_read).condition();
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(key(&line_key(show_id), LINE)))
            .condition_expression(condition)
            .set_expression_attribute_values(values);
        let writes = vec![checked(&what, check)?, deletion(&self.name, LINES, show_id, &what)?];
        self.write(&what, writes).await
    }

    async fn list(&self, line: &Line, expected: Expected) -> Result<Written, TableError> {
        let what = format!("the line of {}", line.scope.show_id);
        let listed = self.put(key(LINES, &line.scope.show_id)).item(EXPIRATION, number(line.kept_until()));
        let writes = vec![self.line_write(&what, line, expected)?, finished(&what, listed.build())?];
        self.write(&what, writes).await
    }

    async fn write(&self, what: &str, writes: Vec<TransactWriteItem>) -> Result<Written, TableError> {
        Ok(match self.transact(what, writes).await? {
            Transacted::Made => Written::Made,
            Transacted::Refused(_) => Written::Overtaken,
        })
    }

    /// The write of a line that follows the one that was read.
    fn next_line(&self, what: &str, line: &Line) -> Result<TransactWriteItem, TableError> {
        self.line_write(what, line, Expected::before(line))
    }

    fn line_write(&self, what: &str, line: &Line, expected: Expected) -> Result<TransactWriteItem, TableError> {
        let mut item: Attributes = serde_dynamo::to_item(line).map_err(|error| unreadable(what, &error.to_string()))?;
        item.extend(key(&line_key(&line.scope.show_id), LINE));
        item.insert(EXPIRATION.to_owned(), number(line.kept_until()));
        let (condition, values) = expected.condition();
        let put = self.put(item).condition_expression(condition).set_expression_attribute_values(values);
        finished(what, put.build())
    }

    fn put(&self, item: Attributes) -> aws_sdk_dynamodb::types::builders::PutBuilder {
        Put::builder().table_name(&self.name).set_item(Some(item))
    }

    async fn get(&self, what: &str, pk: &str, sk: &str) -> Result<Option<Attributes>, TableError> {
        let call = self.client.get_item().table_name(&self.name).set_key(Some(key(pk, sk))).consistent_read(true);
        let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = call.send().await.map_err(|error| unavailable("read", what, fault(&error)))?;
        match answer.item {
            Some(item) => Ok(Some(item)),
            None if answer.consumed_capacity.is_some() => Ok(None),
            None => Err(unavailable("read", what, NOT_DYNAMODB)),
        }
    }

    /// All records of a partition, or those whose sort keys lie between two, both included.
    async fn query(
        &self,
        what: &str,
        pk: &str,
        between: Option<(String, String)>,
    ) -> Result<Vec<Attributes>, TableError> {
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let call = self.client.query().table_name(&self.name).consistent_read(true);
            let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
            let call = call.expression_attribute_values(":pk", AttributeValue::S(pk.to_owned()));
            let call = match &between {
                None => call.key_condition_expression("pk = :pk"),
                Some((first, last)) => call
                    .key_condition_expression("pk = :pk AND sk BETWEEN :first AND :last")
                    .expression_attribute_values(":first", AttributeValue::S(first.clone()))
                    .expression_attribute_values(":last", AttributeValue::S(last.clone())),
            };
            let answer = call.set_exclusive_start_key(after).send().await;
            let answer = answer.map_err(|error| unavailable("read", what, fault(&error)))?;
            if answer.consumed_capacity.is_none() {
                return Err(unavailable("read", what, NOT_DYNAMODB));
            }
            found.extend(answer.items.unwrap_or_default());
            after = answer.last_evaluated_key;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// The records of these keys that are there, in any order.
    async fn batch(&self, what: &str, keys: &[Attributes]) -> Result<Vec<Attributes>, TableError> {
        table::read_all(&self.client, &self.name, keys).await.map_err(|cause| unavailable("read", what, cause))
    }

    async fn delete(&self, what: &str, pk: &str, sk: &str) -> Result<(), TableError> {
        let call = self.client.delete_item().table_name(&self.name).set_key(Some(key(pk, sk)));
        let answer = call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await;
        let answer = answer.map_err(|error| unavailable("delete", what, fault(&error)))?;
        answer.consumed_capacity.map(drop).ok_or_else(|| unavailable("delete", what, NOT_DYNAMODB))
    }

    async fn transact(&self, what: &str, writes: Vec<TransactWriteItem>) -> Result<Transacted, TableError> {
        let call = self.client.transact_write_items().set_transact_items(Some(writes));
        match call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(answer) if answer.consumed_capacity().is_empty() => Err(unavailable("write", what, NOT_DYNAMODB)),
            Ok(_) => Ok(Transacted::Made),
            Err(error) => match error.as_service_error() {
                Some(TransactWriteItemsError::TransactionCanceledException(refusal))
                    if refusal.cancellation_reasons().iter().all(is_of_others) =>
                {
                    Ok(Transacted::Refused(refusal.cancellation_reasons().to_vec()))
                }
                Some(error) if error.code() == Some("TransactionConflictException") => {
                    Ok(Transacted::Refused(Vec::new()))
                }
                Some(_) | None => Err(unavailable("write", what, fault(&error))),
            },
        }
    }
}

/// The line that a show must have for a write to be made.
enum Expected {
    NoLine,
    Line {
        /// A line that is opened anew begins with version 1 again.
        generation: u32,
        version: u64,
    },
}

impl Expected {
    fn as_read(line: &Line) -> Self {
        Self::Line { generation: line.scope.generation, version: line.version }
    }

    /// The one of which this is the next version.
    fn before(line: &Line) -> Self {
        Self::Line { generation: line.scope.generation, version: line.version.saturating_sub(1) }
    }

    /// Its expression, and the values in it.
    fn condition(self) -> (&'static str, Option<Attributes>) {
        match self {
            Self::NoLine => ("attribute_not_exists(pk)", None),
            Self::Line { generation, version } => {
                let values = [(":generation", u64::from(generation)), (":version", version)];
                let values = values.map(|(name, value)| (name.to_owned(), number(value)));
                ("generation = :generation AND version = :version", Some(values.into()))
            }
        }
    }
}

/// What became of a transaction.
enum Transacted {
    Made,
    /// Nothing of it was made, for these reasons: one for each write, in order.
    Refused(Vec<CancellationReason>),
}

/// Whether a write of a transaction failed because of what others wrote, or did not fail.
fn is_of_others(reason: &CancellationReason) -> bool {
    matches!(reason.code(), None | Some("None" | "ConditionalCheckFailed" | "TransactionConflict"))
}

/// Whether a write of a transaction failed because its condition does not hold.
fn is_unmet(reason: &CancellationReason) -> bool {
    reason.code() == Some("ConditionalCheckFailed")
}

fn unavailable(action: &'static str, what: &str, cause: impl Into<String>) -> TableError {
    TableError::Unavailable { action, what: what.to_owned(), cause: cause.into() }
}

fn unreadable(what: &str, fault: &str) -> TableError {
    TableError::Unreadable { what: what.to_owned(), fault: fault.to_owned() }
}

fn finished(what: &str, put: Result<Put, BuildError>) -> Result<TransactWriteItem, TableError> {
    let put = put.map_err(|error| unavailable("write", what, error.to_string()))?;
    Ok(TransactWriteItem::builder().put(put).build())
}

fn checked(what: &str, check: ConditionCheckBuilder) -> Result<TransactWriteItem, TableError> {
    let check = check.build().map_err(|error| unavailable("write", what, error.to_string()))?;
    Ok(TransactWriteItem::builder().condition_check(check).build())
}

fn read<'a, T: serde::Deserialize<'a>>(what: &str, item: Attributes) -> Result<T, TableError> {
    serde_dynamo::from_item(item).map_err(|error| unreadable(what, &error.to_string()))
}

fn key(pk: &str, sk: &str) -> Attributes {
    let value = |text: &str| AttributeValue::S(text.to_owned());
    HashMap::from([(PK.to_owned(), value(pk)), (SK.to_owned(), value(sk))])
}

fn line_key(show_id: &str) -> String {
    format!("line#{show_id}")
}

/// The partition key of a record of a line.
fn of_line(kind: &str, scope: &Scope) -> String {
    format!("{kind}#{}#{}", scope.show_id, scope.generation)
}

/// A number of people or a position in a sort key.
fn ordinal(number: u64) -> String {
    format!("{number:012}")
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

fn text(what: &str, item: &Attributes, name: &str) -> Result<String, TableError> {
    let found = item.get(name).and_then(|value| value.as_s().ok()).cloned();
    found.ok_or_else(|| unreadable(what, &format!("it has no {name}")))
}

fn bytes<'a>(what: &str, item: &'a Attributes, name: &str) -> Result<&'a [u8], TableError> {
    let found = item.get(name).and_then(|value| value.as_b().ok()).map(AsRef::as_ref);
    found.ok_or_else(|| unreadable(what, &format!("it has no {name}")))
}

fn whole(what: &str, item: &Attributes, name: &str) -> Result<u64, TableError> {
    let found = item.get(name).and_then(|value| value.as_n().ok()).and_then(|text| text.parse().ok());
    found.ok_or_else(|| unreadable(what, &format!("it has no number {name}")))
}

/// People as bytes: name, the lower six bytes of the arrival, seats.
fn written(people: &[Pending]) -> AttributeValue {
    let bytes = people.iter().flat_map(|person| {
        let arrival = person.arrival.to_be_bytes();
        person.id.hash().into_iter().chain(arrival.into_iter().skip(2)).chain([person.seats])
    });
    AttributeValue::B(bytes.collect::<Vec<u8>>().into())
}

fn people(what: &str, item: &Attributes, scope: &Scope) -> Result<Vec<Pending>, TableError> {
    let (parts, rest) = bytes(what, item, "people")?.as_chunks::<PERSON>();
    if !rest.is_empty() {
        return Err(unreadable(what, "its people are cut off"));
    }
    Ok(parts.iter().map(|part| person(part, scope)).collect())
}

fn person(part: &[u8; PERSON], scope: &Scope) -> Pending {
    let (mut hash, mut arrival) = ([0; 16], [0; 8]);
    hash.copy_from_slice(&part[..16]);
    arrival[2..].copy_from_slice(&part[16..22]);
    Pending { arrival: u64::from_be_bytes(arrival), id: PlaceId::of(scope.key_version, hash), seats: part[22] }
}

/// Asks for the item that a condition did not hold for.
const OLD: ReturnValuesOnConditionCheckFailure = ReturnValuesOnConditionCheckFailure::AllOld;

/// The deletion of a record, whether it is there or not.
fn deletion(name: &str, pk: &str, sk: &str, what: &str) -> Result<TransactWriteItem, TableError> {
    let delete = Delete::builder().table_name(name).set_key(Some(key(pk, sk))).build();
    let delete = delete.map_err(|error| unavailable("delete", what, error.to_string()))?;
    Ok(TransactWriteItem::builder().delete(delete).build())
}
