//! Joining a line: a person has a place if and only if his item is there, and with it, in one transaction, stands the block
//! from which he gets his position. So a repeat, a copy or a crash makes no second place and no hole.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnConsumedCapacity},
};
use serde::{Deserialize, Serialize};

use super::{
    Attributes, EXPIRATION, OLD, PK, Table, TableError, Transacted, finished, is_unmet, key, number, of_line, read,
    text, unavailable, unreadable, written,
};
use crate::{
    client::aws::fault,
    waiting_room::{Moment, id::PlaceId, line::Line, plan::Person, sequence::Pending},
};

/// The partitions that blocks are spread over.
pub(super) const STRIPES: u8 = 16;

/// The people that one transaction takes, beside their block.
const MOST: usize = 99;

/// Somebody who wants to stand in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// His place's name.
    pub id: PlaceId,
    /// The customer.
    pub user_id: String,
    /// The tickets that he wants.
    pub seats: u8,
    /// When he reached the gateway.
    pub arrival: Moment,
    /// What else he said, as JSON. It is carried, and decides nothing.
    pub request: Option<String>,
}

/// What became of somebody who wanted to stand in a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// He has a place now.
    New,
    /// He has had a place before.
    Before,
}

/// The record of somebody in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// His place's name.
    pub id: PlaceId,
    /// The show that the tickets are for.
    #[serde(rename = "event_id")]
    pub show_id: String,
    /// The customer.
    pub user_id: String,
    /// The tickets that he wants.
    pub seats: u8,
    /// When he reached the gateway. With the name it tells his place from one that he had before.
    pub arrival: Moment,
    /// What else he said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// When he was last heard of.
    pub seen: Moment,
    /// When he left the line or his turn ended, after which he may join anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Moment>,
}

impl Table {
    /// Lets people stand in a line, each once: whoever stands there keeps his place. Of two joins of one person the earlier
    /// counts.
    ///
    /// # Errors
    /// When it is not known who stands in the line. A repeat finds out.
    pub async fn join(
        &self,
        line: &Line,
        joins: &[Join],
        now: Moment,
    ) -> Result<BTreeMap<PlaceId, Joined>, TableError> {
        let mut first: BTreeMap<PlaceId, &Join> = BTreeMap::new();
        for join in joins {
            let known = first.entry(join.id).or_insert(join);
            if join.arrival < known.arrival {
                *known = join;
            }
        }
        let mut outcome = BTreeMap::new();
        let joins: Vec<&Join> = first.into_values().collect();
        for part in joins.chunks(MOST) {
            let mut left = part.to_vec();
            while !left.is_empty() {
                let standing = self.try_join(line, &left, now).await?;
                let all = standing.is_empty();
                for join in &left {
                    let before = standing.contains(&join.id);
                    if before || all {
                        outcome.insert(join.id, if before { Joined::Before } else { Joined::New });
                    }
                }
                left.retain(|join| !all && !standing.contains(&join.id));
            }
        }
        Ok(outcome)
    }

    /// Writes all of them, or nobody where some stand there already: those.
    async fn try_join(&self, line: &Line, joins: &[&Join], now: Moment) -> Result<Vec<PlaceId>, TableError> {
        let what = format!("{} people in the line of {}", joins.len(), line.scope.show_id);
        let mut writes = Vec::new();
        for join in joins {
            let item = Item {
                id: join.id,
                show_id: line.scope.show_id.clone(),
                user_id: join.user_id.clone(),
                seats: join.seats,
                arrival: join.arrival,
                request: join.request.clone(),
                seen: now,
                ended_at: None,
            };
            let item: Result<Attributes, _> = serde_dynamo::to_item(&item);
            let item = item.map_err(|error| unreadable(&what, &error.to_string()))?;
            let put = self
                .put(item.into_iter().chain(item_key(join.id)).collect())
                .item(EXPIRATION, number(line.kept_until()))
                .condition_expression("attribute_not_exists(pk) OR ended_at < :arrival")
                .expression_attribute_values(":arrival", number(join.arrival))
                .return_values_on_condition_check_failure(OLD);
            writes.push(finished(&what, put.build())?);
        }
        let pending: Vec<Pending> =
            joins.iter().map(|join| Pending { arrival: join.arrival, id: join.id, seats: join.seats }).collect();
        let stripe = fastrand::u8(..STRIPES);
        let block = key(&block_key(line, stripe), &block_name(fastrand::u64(..)));
        let block = self
            .put(block)
            .item("people", written(&pending))
            .item("placed_at", number(now))
            .item(EXPIRATION, number(line.kept_until()))
            .condition_expression("attribute_not_exists(pk)");
        writes.push(finished(&what, block.build())?);
        match self.transact(&what, writes).await? {
            Transacted::Made => Ok(Vec::new()),
            Transacted::Refused(reasons) => {
                let unmet = joins.iter().zip(&reasons).filter(|(_, reason)| is_unmet(reason));
                let ours = |item: Option<&Attributes>, id: PlaceId| {
                    item.is_some_and(|item| item.get("id") == Some(&AttributeValue::S(id.to_string())))
                };
                let standing: Vec<PlaceId> =
                    unmet.filter(|(join, reason)| ours(reason.item(), join.id)).map(|(join, _)| join.id).collect();
                // Somebody else is at the same items, or the block's name was taken: the queue brings the message again.
                if standing.is_empty() {
                    return Err(unavailable("write", &what, "another transaction was in the way"));
                }
                Ok(standing)
            }
        }
    }

    /// The record of somebody; nothing, where nobody of this name ever stood in a line.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or a record that can't be read.
    pub async fn item(&self, id: PlaceId) -> Result<Option<Item>, TableError> {
        let what = format!("the item {id}");
        let found = self.get(&what, &format!("item#{id}"), "item").await?;
        found.map(|found| read_item(&what, id, found)).transpose()
    }

    /// Notes that somebody who arrived then was heard of.
    ///
    /// # Errors
    /// When it is not known whether it was noted.
    pub async fn see(&self, id: PlaceId, arrival: Moment, now: Moment) -> Result<(), TableError> {
        self.note(id, arrival, "seen", now).await
    }

    /// Notes that somebody who arrived then left the line, or that his turn ended without a ticket: he may join anew. It is
    /// never noted while he may have a reservation.
    ///
    /// # Errors
    /// When it is not known whether it was noted.
    pub async fn end(&self, id: PlaceId, arrival: Moment, now: Moment) -> Result<(), TableError> {
        self.note(id, arrival, "ended_at", now).await
    }

    /// Nothing is noted on an item that has been joined anew, because it is another place.
    async fn note(&self, id: PlaceId, arrival: Moment, name: &str, now: Moment) -> Result<(), TableError> {
        let what = format!("the item {id}");
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(item_key(id)))
            .condition_expression("arrival = :arrival")
            .update_expression("SET #name = :now")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":arrival", number(arrival))
            .expression_attribute_values(":now", number(now))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match call.send().await {
            Ok(answer) if answer.consumed_capacity.is_some() => Ok(()),
            Ok(_) => Err(unavailable("write", &what, super::NOT_DYNAMODB)),
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(_)) => Ok(()),
                Some(_) | None => Err(unavailable("write", &what, fault(&error))),
            },
        }
    }

    /// The records of the people who stand at these positions, by position. There is none where somebody has joined anew since,
    /// because that is another place.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or a record that can't be read.
    pub async fn items(&self, standing: &BTreeMap<u64, Pending>) -> Result<BTreeMap<u64, Item>, TableError> {
        let what = "the people of some places";
        let mut keys: Vec<PlaceId> = standing.values().map(|pending| pending.id).collect();
        // One person may stand at two positions, where he has joined anew, and DynamoDB takes a key once.
        keys.sort_unstable();
        keys.dedup();
        let mut items = BTreeMap::new();
        let keys: Vec<_> = keys.into_iter().map(item_key).collect();
        for found in self.batch(what, &keys).await? {
            let id = text(what, &found, "id")?.parse();
            let id = id.map_err(|_| unreadable(what, "an item has no name"))?;
            items.insert(id, read_item(what, id, found)?);
        }
        let his = |pending: &Pending| items.get(&pending.id).filter(|item| item.arrival == pending.arrival).cloned();
        Ok(standing.iter().filter_map(|(position, pending)| Some((*position, his(pending)?))).collect())
    }
}

impl Person {
    /// Somebody who stands in a line, with his record, where he has one.
    pub fn of(pending: &Pending, item: Option<&Item>) -> Self {
        let is_gone = item.is_none_or(|item| item.ended_at.is_some());
        Self { id: pending.id, seats: pending.seats, seen: item.map_or(0, |item| item.seen), is_gone }
    }
}

pub(super) fn item_key(id: PlaceId) -> Attributes {
    key(&format!("item#{id}"), "item")
}

fn read_item(what: &str, id: PlaceId, found: Attributes) -> Result<Item, TableError> {
    let is_keyed = found.get(PK) == Some(&AttributeValue::S(format!("item#{id}")));
    let item: Item = read(what, found)?;
    if is_keyed && item.id == id { Ok(item) } else { Err(unreadable(what, "it has another name")) }
}

/// The partition of a stripe of blocks.
pub(super) fn block_key(line: &Line, stripe: u8) -> String {
    format!("{}#{stripe}", of_line("new", &line.scope))
}

/// A block's sort key.
pub(super) fn block_name(number: u64) -> String {
    format!("{number:016x}")
}
