//! Being let in, and leaving: what becomes of a place and of its customer's record is written in one transaction. A claim by
//! the place alone would let in somebody who has just left in another window, and a departure by the record alone would leave
//! a reservation behind that nobody waits for.

use aws_sdk_dynamodb::types::{ConditionCheck, TransactWriteItem, Update};

use super::{
    Item, Table, TableError, Written, checked,
    joining::item_key,
    key, number,
    turns::{PAGE_SK, PLACES, offset, page_key},
    unavailable,
};
use crate::waiting_room::{
    Moment,
    line::Scope,
    place::Entry,
    plan::{Move, page_of},
};

/// A place of a line, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Its position.
    pub position: u64,
    /// What it is; nothing, where its turn has not come.
    pub entry: Option<Entry>,
}

impl Table {
    /// Lets somebody in whose place is called, if he has not left and the place is what it was.
    ///
    /// # Errors
    /// When it is not known whether he is in. A repeat finds out.
    pub async fn admit(&self, scope: &Scope, made: Move, item: &Item, now: Moment) -> Result<Written, TableError> {
        let what = format!("place {} of the line of {}", made.position, scope.show_id);
        // Whoever leaves does so on the condition that nobody was let in since he looked.
        let seen = now.max(item.seen + 1);
        let his = self.item_update(item, "seen", seen).condition_expression(STANDS);
        let writes = vec![self.page_update(&what, scope, page_of(made.position), &[made])?, update(&what, his)?];
        self.write(&what, writes).await
    }

    /// Lets somebody leave who has no turn: he waits, or is called, or did not answer. The place becomes `to`, where its turn
    /// has come. Nothing is written if anything is not what it was.
    ///
    /// # Errors
    /// When it is not known whether he has left. A repeat finds out.
    pub async fn leave(
        &self,
        scope: &Scope,
        spot: Option<Spot>,
        to: Option<Entry>,
        item: &Item,
        now: Moment,
    ) -> Result<Written, TableError> {
        let what = format!("the item {}", item.id);
        let his = self
            .item_update(item, "ended_at", now)
            .condition_expression(format!("{STANDS} AND seen = :seen"))
            .expression_attribute_values(":seen", number(item.seen));
        let mut writes = vec![update(&what, his)?];
        match (spot, to) {
            (Some(Spot { position, entry: Some(from) }), Some(to)) => {
                let made = Move { position, from: Some(from), to };
                writes.push(self.page_update(&what, scope, page_of(position), &[made])?);
            }
            (Some(Spot { position, entry: None }), _) => writes.push(self.still_waits(&what, scope, position)?),
            (Some(Spot { entry: Some(_), .. }), None) | (None, _) => {}
        }
        self.write(&what, writes).await
    }

    /// A change of somebody's record, whose condition is to be set.
    fn item_update(&self, item: &Item, name: &str, at: Moment) -> aws_sdk_dynamodb::types::builders::UpdateBuilder {
        Update::builder()
            .table_name(&self.name)
            .set_key(Some(item_key(item.id)))
            .update_expression("SET #name = :at")
            .expression_attribute_names("#name", name)
            .expression_attribute_values(":at", number(at))
            .expression_attribute_values(":arrival", number(item.arrival))
    }

    /// That the turn of a position has not come.
    fn still_waits(&self, what: &str, scope: &Scope, position: u64) -> Result<TransactWriteItem, TableError> {
        let check = ConditionCheck::builder()
            .table_name(&self.name)
            .set_key(Some(key(&page_key(scope, page_of(position)), PAGE_SK)))
            .condition_expression("attribute_not_exists(#places.#offset)")
            .expression_attribute_names("#places", PLACES)
            .expression_attribute_names("#offset", offset(position));
        checked(what, check)
    }
}

/// Somebody stands in the line as he did when he was read.
const STANDS: &str = "arrival = :arrival AND attribute_not_exists(ended_at)";

fn update(
    what: &str,
    builder: aws_sdk_dynamodb::types::builders::UpdateBuilder,
) -> Result<TransactWriteItem, TableError> {
    let update = builder.build().map_err(|error| unavailable("write", what, error.to_string()))?;
    Ok(TransactWriteItem::builder().update(update).build())
}
