//! By which connections a place is heard of: those that its customer's pages have opened. Each change is a compare-and-set of
//! the whole list, so that the bound of its length holds whatever happens at once.
//!
//! A connection that ends without a word stays in its list until a push finds it gone, or others take its room.

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};

use super::{EXPIRATION, NOT_DYNAMODB, PK, SK, Table, TableError, Written, key, number, text, unavailable, unreadable};
use crate::{
    client::aws::{
        fault,
        table::{self, Unfit},
    },
    waiting_room::{Moment, id::PlaceId},
};

/// So many connections of one place are told: two tabs and a phone. The oldest has to go.
pub const MOST_CONNECTIONS: usize = 3;

/// API Gateway ends each connection after two hours.
const KEPT_SECONDS: u64 = 2 * 3_600 + 600;

/// The sort key of a place's list.
const PUSH: &str = "push";

/// The sort key of a connection.
const SOCKET: &str = "socket";

/// The attribute with the list, the oldest first, with spaces between: no id has one.
const CONNECTIONS: &str = "connections";

/// How often a list is changed anew, because somebody else has changed it meanwhile.
const TRIES: u32 = 4;

impl Table {
    /// Looks whether connections can be written at all.
    ///
    /// # Errors
    /// What is wrong with the table, or that it is not known.
    pub async fn probe_connections(&self) -> Result<(), Unfit> {
        table::look(&self.client, &self.name, &[(PK, "push#probe"), (SK, PUSH)]).await
    }

    /// Lets a place be heard of by a connection too. It does no harm twice.
    ///
    /// # Errors
    /// When it is not known whether it is. The connection should not be opened then.
    pub async fn connect(&self, id: PlaceId, connection: &str, now: Moment) -> Result<(), TableError> {
        let what = format!("the connection {connection}");
        // First that which finds the list, so that whatever stands in a list can be taken out again.
        let place = ("place", AttributeValue::S(id.to_string()));
        self.set_until(&what, &socket_key(connection), SOCKET, place, now, None).await?;
        let list = |mut known: Vec<String>| {
            if known.iter().any(|known| known == connection) {
                return None;
            }
            known.push(connection.to_owned());
            let surplus = known.len().saturating_sub(MOST_CONNECTIONS);
            Some(known.split_off(surplus))
        };
        self.change(id, now, list).await
    }

    /// The place that is heard of by a connection; nothing, where none is.
    ///
    /// # Errors
    /// When DynamoDB gave no answer.
    pub async fn place_of(&self, connection: &str) -> Result<Option<PlaceId>, TableError> {
        let what = format!("the connection {connection}");
        let Some(found) = self.get(&what, &socket_key(connection), SOCKET).await? else { return Ok(None) };
        let id = text(&what, &found, "place")?.parse();
        id.map(Some).map_err(|_| unreadable(&what, "it is of no place"))
    }

    /// Lets a place not be heard of by a connection any more, which has ended. It does no harm twice.
    ///
    /// # Errors
    /// When it is not known whether it is out. It does no harm there.
    pub async fn disconnect(&self, id: PlaceId, connection: &str, now: Moment) -> Result<(), TableError> {
        let others = |known: Vec<String>| {
            let left: Vec<String> = known.iter().filter(|known| *known != connection).cloned().collect();
            (left.len() < known.len()).then_some(left)
        };
        self.change(id, now, others).await?;
        self.delete(&format!("the connection {connection}"), &socket_key(connection), SOCKET).await
    }

    /// The connections by which a place is heard of, the oldest first. Some may have ended.
    ///
    /// # Errors
    /// When DynamoDB gave no answer.
    pub async fn connections(&self, id: PlaceId) -> Result<Vec<String>, TableError> {
        Ok(self.list_of(id).await?.map(|list| apart(&list)).unwrap_or_default())
    }

    async fn list_of(&self, id: PlaceId) -> Result<Option<String>, TableError> {
        let what = format!("the connections of {id}");
        let Some(found) = self.get(&what, &push_key(id), PUSH).await? else { return Ok(None) };
        text(&what, &found, CONNECTIONS).map(Some)
    }

    /// Writes what a list becomes, if it is to become anything else.
    async fn change(
        &self,
        id: PlaceId,
        now: Moment,
        becomes: impl Fn(Vec<String>) -> Option<Vec<String>>,
    ) -> Result<(), TableError> {
        let what = format!("the connections of {id}");
        for _ in 0..TRIES {
            let known = self.list_of(id).await?;
            let Some(list) = becomes(known.as_deref().map(apart).unwrap_or_default()) else { return Ok(()) };
            let list = (CONNECTIONS, AttributeValue::S(list.join(" ")));
            let known = Some(known.map(AttributeValue::S));
            match self.set_until(&what, &push_key(id), PUSH, list, now, known).await? {
                Written::Made => return Ok(()),
                Written::Overtaken => {}
            }
        }
        Err(unavailable("write", &what, "they change too often"))
    }

    /// Sets one attribute of a record, which ends by itself; on the condition, where there is one, that the attribute is what
    /// it was, or that there is no record.
    async fn set_until(
        &self,
        what: &str,
        pk: &str,
        sk: &str,
        (name, value): (&str, AttributeValue),
        now: Moment,
        known: Option<Option<AttributeValue>>,
    ) -> Result<Written, TableError> {
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key(pk, sk)))
            .update_expression(format!("SET #name = :value, {EXPIRATION} = :until"))
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":value", value)
            .expression_attribute_values(":until", number(now / 1_000 + KEPT_SECONDS))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let call = match known {
            None => call,
            Some(None) => call.condition_expression("attribute_not_exists(pk)"),
            Some(Some(known)) => {
                call.condition_expression("#name = :known").expression_attribute_values(":known", known)
            }
        };
        match call.send().await {
            Ok(answer) if answer.consumed_capacity.is_some() => Ok(Written::Made),
            Ok(_) => Err(unavailable("write", what, NOT_DYNAMODB)),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(Written::Overtaken),
                Some(_) | None => Err(unavailable("write", what, fault(&error))),
            },
        }
    }
}

fn apart(list: &str) -> Vec<String> {
    list.split_ascii_whitespace().map(str::to_owned).collect()
}

fn push_key(id: PlaceId) -> String {
    format!("push#{id}")
}

fn socket_key(connection: &str) -> String {
    format!("socket#{connection}")
}
