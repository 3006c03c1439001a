//! The table of reservations. A reservation is one item, and a change of it is one conditional write: its status, its order
//! and its unpublished events change together or not at all.
//!
//! All writes are updates that answer with the item as it is then, so that a success is DynamoDB's own word about this
//! reservation and never an empty page.

use std::{collections::HashMap, fmt};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{
    Client,
    error::SdkError,
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use data_encoding::BASE64URL_NOPAD;

use super::{
    Status,
    lifecycle::{Change, Reservation},
};
use crate::{
    client::aws::{
        fault,
        table::{self, Attributes, ID, NOT_DYNAMODB, Unfit},
    },
    config::Reader,
    failure::Failure,
};

/// The index by customer: `user_id` and `created_at`, with nothing but keys in it, so that a change of status costs it
/// nothing.
const BY_USER: &str = "user";
/// The list of what is not published yet.
const EVENTS: &str = "events";
/// Marks an item with such a list: the stream's filter and the sweep look for it.
pub const UNPUBLISHED: &str = "unpublished";

/// The longest id that a cursor may hold.
const LONGEST_ID: usize = 256;

/// Where a page of a customer's reservations ended. As text it is opaque, and says nothing of whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    created_at: u64,
    id: String,
}

impl Cursor {
    /// Reads what [`Cursor`] is as text.
    pub fn read(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let (created_at, id) = str::from_utf8(&bytes).ok()?.split_once(' ')?;
        // It becomes a key of DynamoDB, which has no empty ones and none beyond 2,048 bytes.
        let fits = (1..=LONGEST_ID).contains(&id.len());
        Some(Self { created_at: created_at.parse().ok()?, id: id.to_owned() }).filter(|_| fits)
    }

    fn of(key: &Attributes) -> Option<Self> {
        let created_at = key.get("created_at")?.as_n().ok()?.parse().ok()?;
        Some(Self { created_at, id: key.get(ID)?.as_s().ok()?.clone() })
    }

    fn key(&self, user_id: &str) -> Attributes {
        HashMap::from([
            (ID.to_owned(), text(&self.id)),
            ("user_id".to_owned(), text(user_id)),
            ("created_at".to_owned(), AttributeValue::N(self.created_at.to_string())),
        ])
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(format!("{} {}", self.created_at, self.id).as_bytes()))
    }
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    /// It was made; this is the reservation now.
    Made(Reservation),
    /// It was not made, because the reservation is another than was believed: this one.
    Overtaken(Reservation),
    /// It was not made, because the reservation is gone.
    Gone,
}

/// Why the table did not do what was asked. Nothing is known about the reservation then.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// DynamoDB refused or could not be reached.
    #[error("{action} {what}: {cause}")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// With what.
        what: String,
        /// The chain of causes.
        cause: String,
    },
    /// The item holds what no version of this code wrote.
    #[error("the reservation {id} is unreadable in its table: {fault}; repair it")]
    Unreadable {
        /// The reservation.
        id: String,
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

/// The table. Its partition key is `id` (S), its TTL attribute `expiration`.
#[derive(Debug, Clone)]
pub struct Table {
    client: Client,
    name: String,
}

impl Table {
    /// The table of this name.
    pub fn new(client: Client, name: impl Into<String>) -> Self {
        Self { client, name: name.into() }
    }

    /// The table that `RESERVATIONS_TABLE` names.
    pub fn configured(reader: &mut Reader<'_>, aws: &SdkConfig) -> Self {
        let name = reader.required("RESERVATIONS_TABLE");
        Self::new(Client::new(aws), name)
    }

    /// The reservation as it is at this moment; nothing, where there is none.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or an item that can't be read.
    pub async fn get(&self, id: &str) -> Result<Option<Reservation>, TableError> {
        let unavailable = |cause| TableError::Unavailable { action: "read", what: reservation(id), cause };
        let call = self.client.get_item().table_name(&self.name).key(ID, text(id)).consistent_read(true);
        // What was consumed is DynamoDB's own word; without it, an answer without an item may be anybody's.
        let call = call.return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = call.send().await.map_err(|error| unavailable(fault(&error)))?;
        match answer.item {
            Some(item) => read(id, item).map(Some),
            None if answer.consumed_capacity.is_some() => Ok(None),
            None => Err(unavailable(NOT_DYNAMODB.to_owned())),
        }
    }

    /// Looks whether reservations can be written at all.
    ///
    /// # Errors
    /// What is wrong with the table, or that it is not known.
    pub async fn probe(&self) -> Result<(), Unfit> {
        table::look(&self.client, &self.name, &[(ID, "probe")]).await
    }

    /// A customer's reservations, the newest first: `limit` of them at most, and where the next page goes on.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or an item that can't be read.
    pub async fn list(
        &self,
        user_id: &str,
        limit: u8,
        after: Option<&Cursor>,
    ) -> Result<(Vec<Reservation>, Option<Cursor>), TableError> {
        let (ids, next) = self.ids(user_id, 0, limit, after).await?;
        Ok((self.those(&ids).await?, next))
    }

    /// The ids of a customer's reservations that were created since then, the newest first: `limit` of them at most,
    /// and where the next page goes on. Keys are all that is read. The index is behind the table, so that one that was
    /// made this moment may be missing.
    ///
    /// # Errors
    /// When DynamoDB gave no answer.
    pub async fn ids(
        &self,
        user_id: &str,
        since: u64,
        limit: u8,
        after: Option<&Cursor>,
    ) -> Result<(Vec<String>, Option<Cursor>), TableError> {
        let call = self
            .client
            .query()
            .table_name(&self.name)
            .index_name(BY_USER)
            .key_condition_expression("#user = :user AND #created >= :since")
            .expression_attribute_names("#user", "user_id")
            .expression_attribute_names("#created", "created_at")
            .expression_attribute_values(":user", text(user_id))
            .expression_attribute_values(":since", AttributeValue::N(since.to_string()))
            .scan_index_forward(false)
            .limit(i32::from(limit))
            .set_exclusive_start_key(after.map(|cursor| cursor.key(user_id)))
            // As for one reservation: an empty page may be anybody's.
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = call.send().await.map_err(|error| unlisted(fault(&error)))?;
        if answer.consumed_capacity.is_none() {
            return Err(unlisted(NOT_DYNAMODB.to_owned()));
        }
        let ids = answer.items().iter().filter_map(|item| item.get(ID)?.as_s().ok().cloned()).collect();
        Ok((ids, answer.last_evaluated_key().and_then(Cursor::of)))
    }

    /// The reservations of these ids as they are at this moment, a page of them at most, in the same order.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or an item that can't be read.
    pub async fn those(&self, ids: &[String]) -> Result<Vec<Reservation>, TableError> {
        let keys: Vec<_> = ids.iter().map(|id| Attributes::from([(ID.to_owned(), text(id))])).collect();
        let items = table::read_all(&self.client, &self.name, &keys).await;
        let mut found: HashMap<String, Reservation> = HashMap::new();
        for item in items.map_err(unlisted)? {
            let id = item.get(ID).and_then(|id| id.as_s().ok()).cloned().unwrap_or_default();
            found.insert(id.clone(), read(&id, item)?);
        }
        Ok(ids.iter().filter_map(|id| found.remove(id)).collect())
    }

    /// Writes a new reservation, if there is none of its id.
    ///
    /// # Errors
    /// When it is not known whether it was written.
    pub async fn create(&self, reservation: &Reservation) -> Result<Written, TableError> {
        self.update(None, reservation).await
    }

    /// Writes a change, if the reservation is still what it was decided on: of this version, and in the same hands.
    ///
    /// # Errors
    /// When it is not known whether it was written.
    pub async fn write(&self, change: &Change) -> Result<Written, TableError> {
        self.update(Some(&change.from), &change.to).await
    }

    /// A page of one of the `segments` of the table: what is marked as unpublished, and what is open although its deadline
    /// passed before `overdue`; and where the next page goes on.
    ///
    /// # Errors
    /// When DynamoDB gave no answer. An item that can't be read is told in its place, and does not hide the others.
    pub async fn scan(
        &self,
        (segment, segments): (i32, i32),
        overdue: u64,
        after: Option<Attributes>,
    ) -> Result<(Vec<Result<Reservation, TableError>>, Option<Attributes>), TableError> {
        let call = self
            .client
            .scan()
            .table_name(&self.name)
            .consistent_read(true)
            .segment(segment)
            .total_segments(segments)
            .set_exclusive_start_key(after)
            .filter_expression(format!(
                "attribute_exists(#{UNPUBLISHED}) OR (#status IN (:pending, :hold) AND #deadline < :overdue)"
            ))
            .expression_attribute_names(format!("#{UNPUBLISHED}"), UNPUBLISHED)
            .expression_attribute_names("#status", "status")
            .expression_attribute_names("#deadline", "hold_expires_at")
            .expression_attribute_values(":pending", text(Status::Pending.name()))
            .expression_attribute_values(":hold", text(Status::Hold.name()))
            .expression_attribute_values(":overdue", AttributeValue::N(overdue.to_string()))
            // As for a customer's: an empty page may be anybody's.
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let unavailable = |cause| TableError::Unavailable {
            action: "scan",
            what: format!("segment {segment} of the reservations"),
            cause,
        };
        let answer = call.send().await.map_err(|error| unavailable(fault(&error)))?;
        if answer.consumed_capacity.is_none() {
            return Err(unavailable(NOT_DYNAMODB.to_owned()));
        }
        let read = |item: Attributes| {
            let id = item.get(ID).and_then(|id| id.as_s().ok()).cloned().unwrap_or_default();
            read(&id, item)
        };
        let found = answer.items.unwrap_or_default().into_iter().map(read).collect();
        Ok((found, answer.last_evaluated_key))
    }

    /// Lets the stream tell of the reservation once more, if it is still marked: the same relay then publishes its events. The
    /// answer is whether it was.
    ///
    /// # Errors
    /// When it is not known whether it does.
    pub async fn touch(&self, id: &str, now: u64) -> Result<bool, TableError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(ID, text(id))
            .condition_expression(format!("attribute_exists(#{UNPUBLISHED})"))
            .update_expression("SET #touched = :now")
            .expression_attribute_names(format!("#{UNPUBLISHED}"), UNPUBLISHED)
            .expression_attribute_names("#touched", "touched")
            .expression_attribute_values(":now", AttributeValue::N(now.to_string()));
        match call.send().await {
            Ok(_) => Ok(true),
            Err(error) => self.unless_refused(id, "touch", &error).map(|()| false),
        }
    }

    /// Forgets the events of the reservation, because they are published. When it has changed since, they stay: its next
    /// change brings all of them again, and a duplicate is better than a loss.
    ///
    /// # Errors
    /// When it is not known whether they are forgotten.
    pub async fn clear(&self, id: &str, version: u64) -> Result<(), TableError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(ID, text(id))
            .condition_expression("#version = :version")
            .update_expression(format!("REMOVE #{EVENTS}, #{UNPUBLISHED}"))
            .expression_attribute_names("#version", "version")
            .expression_attribute_names(format!("#{EVENTS}"), EVENTS)
            .expression_attribute_names(format!("#{UNPUBLISHED}"), UNPUBLISHED)
            .expression_attribute_values(":version", AttributeValue::N(version.to_string()));
        match call.send().await {
            Ok(_) => Ok(()),
            Err(error) => self.unless_refused(id, "clear", &error),
        }
    }

    /// A write whose condition does not hold any more is not needed any more.
    fn unless_refused(
        &self,
        id: &str,
        action: &'static str,
        error: &SdkError<UpdateItemError>,
    ) -> Result<(), TableError> {
        match error.as_service_error() {
            Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
            Some(_) | None => Err(TableError::Unavailable { action, what: reservation(id), cause: fault(error) }),
        }
    }

    async fn update(&self, from: Option<&Reservation>, to: &Reservation) -> Result<Written, TableError> {
        let id = to.id.as_str();
        let unavailable = |cause| TableError::Unavailable { action: "write", what: reservation(id), cause };
        let expression = Expression::of(from, to).map_err(|error| unavailable(error.to_string()))?;
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .key(ID, text(id))
            .condition_expression(expression.condition)
            .update_expression(expression.update)
            .set_expression_attribute_names(Some(expression.names))
            .set_expression_attribute_values(Some(expression.values))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let item = match call.send().await {
            Ok(answer) => answer.attributes.unwrap_or_default(),
            Err(error) => {
                return match error.as_service_error() {
                    Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => match refusal.item.clone() {
                        // The client asks twice, and the answer to the first may have been lost on its way.
                        Some(old) => read(id, old).map(|old| {
                            if is_what_was_written(&old, to) { Written::Made(old) } else { Written::Overtaken(old) }
                        }),
                        None => Ok(Written::Gone),
                    },
                    Some(_) | None => Err(unavailable(fault(&error))),
                };
            }
        };
        match read(id, item) {
            Ok(now) if (&now.id, now.version, &now.owner) == (&to.id, to.version, &to.owner) => Ok(Written::Made(now)),
            Ok(_) | Err(_) => Err(unavailable(NOT_DYNAMODB.to_owned())),
        }
    }
}

/// Whether the item is what this write would have made of it, but for events that are cleared or told before.
fn is_what_was_written(found: &Reservation, to: &Reservation) -> bool {
    let without_events = |reservation: &Reservation| Reservation { events: Vec::new(), ..reservation.clone() };
    without_events(found) == without_events(to)
}

/// The parts of a write.
struct Expression {
    condition: String,
    update: String,
    names: HashMap<String, String>,
    values: Attributes,
}

impl Expression {
    /// Sets what `to` has, removes what only `from` had, and adds the events of `to` to those that are there.
    fn of(from: Option<&Reservation>, to: &Reservation) -> Result<Self, serde_dynamo::Error> {
        let attributes = |reservation: &Reservation| -> Result<Attributes, _> {
            let mut item: Attributes = serde_dynamo::to_item(reservation)?;
            item.remove(ID);
            Ok::<_, serde_dynamo::Error>(item)
        };
        let mut new = attributes(to)?;
        let events = new.remove(EVENTS);
        let mut old = from.map(attributes).transpose()?.unwrap_or_default();
        old.remove(EVENTS);

        let mut expression =
            Self { condition: String::new(), update: String::new(), names: HashMap::new(), values: HashMap::new() };
        let mut set: Vec<String> = new.keys().map(|name| format!("#{name} = :{name}")).collect();
        let mut removed: Vec<String> = old.keys().filter(|name| !new.contains_key(*name)).cloned().collect();
        removed.sort_unstable();
        for name in new.keys().chain(&removed) {
            expression.names.insert(format!("#{name}"), name.clone());
        }
        expression.values.extend(new.into_iter().map(|(name, value)| (format!(":{name}"), value)));
        if let Some(events) = events {
            set.push(format!("#{EVENTS} = list_append(if_not_exists(#{EVENTS}, :none), :{EVENTS})"));
            set.push(format!("#{UNPUBLISHED} = :{UNPUBLISHED}"));
            for name in [EVENTS, UNPUBLISHED] {
                expression.names.insert(format!("#{name}"), name.to_owned());
            }
            expression.values.extend([
                (":none".to_owned(), AttributeValue::L(Vec::new())),
                (format!(":{EVENTS}"), events),
                (format!(":{UNPUBLISHED}"), text("yes")),
            ]);
        }
        set.sort_unstable();
        expression.update = format!("SET {}", set.join(", "));
        if !removed.is_empty() {
            let names: Vec<String> = removed.iter().map(|name| format!("#{name}")).collect();
            expression.update.push_str(&format!(" REMOVE {}", names.join(", ")));
        }

        expression.condition = match from {
            None => {
                expression.names.insert("#id".to_owned(), ID.to_owned());
                "attribute_not_exists(#id)".to_owned()
            }
            Some(from) => {
                expression.names.insert("#version".to_owned(), "version".to_owned());
                expression.names.insert("#owner".to_owned(), "owner".to_owned());
                expression.values.insert(":known".to_owned(), AttributeValue::N(from.version.to_string()));
                let hands = match &from.owner {
                    Some(owner) => {
                        expression.values.insert(":known_owner".to_owned(), text(owner));
                        "#owner = :known_owner"
                    }
                    None => "attribute_not_exists(#owner)",
                };
                format!("#version = :known AND {hands}")
            }
        };
        Ok(expression)
    }
}

fn unlisted(cause: String) -> TableError {
    TableError::Unavailable { action: "list", what: "a customer's reservations".to_owned(), cause }
}

fn reservation(id: &str) -> String {
    format!("the reservation {id}")
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn read(id: &str, item: Attributes) -> Result<Reservation, TableError> {
    let unreadable = |fault| TableError::Unreadable { id: id.to_owned(), fault };
    let found: Reservation = serde_dynamo::from_item(item).map_err(|error| unreadable(error.to_string()))?;
    if found.id == id { Ok(found) } else { Err(unreadable("it has another id".to_owned())) }
}
