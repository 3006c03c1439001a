//! Turns: the pages on which called places stand, and who came back after his call had run out.

use std::collections::BTreeMap;

use aws_sdk_dynamodb::{
    operation::update_item::UpdateItemError,
    types::{AttributeValue, ReturnConsumedCapacity, ReturnValue, TransactWriteItem, Update},
};

use super::{
    Attributes, EXPIRATION, NOT_DYNAMODB, OLD, PK, Table, TableError, Transacted, Written, finished, key, number,
    of_line, ordinal, people, text, unavailable, unreadable, written,
};
use crate::{
    client::aws::fault,
    waiting_room::{
        line::{Line, Scope},
        place::Entry,
        plan::{Move, PAGE, Pages, Plan, page_of},
        sequence::Pending,
    },
};

/// The map of a page: its entries by offset.
pub(super) const PLACES: &str = "places";
pub(super) const PAGE_SK: &str = "page";

/// What became of a change of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// It was made.
    Made,
    /// It was not made, because the place is this by now; nothing, where its turn has not come.
    Overtaken(Option<Entry>),
}

impl Table {
    /// The places of a line whose turn has come, from a page on.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, a page that can't be read, or not all pages.
    pub async fn pages(&self, line: &Line, first: u64) -> Result<Pages, TableError> {
        let what = format!("the pages of the line of {}", line.scope.show_id);
        let mut pages = Pages { first, entries: BTreeMap::new() };
        if line.serving == 0 {
            return Ok(pages);
        }
        let numbers: BTreeMap<String, u64> =
            (first..=page_of(line.serving)).map(|page| (page_key(&line.scope, page), page)).collect();
        let keys: Vec<_> = numbers.keys().map(|pk| key(pk, PAGE_SK)).collect();
        for found in self.batch(&what, &keys).await? {
            let pk = text(&what, &found, PK)?;
            let page = numbers.get(&pk).ok_or_else(|| unreadable(&what, "a page is of another line"))?;
            pages.entries.extend(entries(&what, *page, &found)?);
        }
        let expected = line.serving - (first * PAGE).min(line.serving);
        if pages.entries.range(..=line.serving).count() as u64 == expected {
            return Ok(pages);
        }
        Err(unreadable(&what, "a place is missing"))
    }

    /// The place at a position; nothing, where its turn has not come.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or a page that can't be read.
    pub async fn entry(&self, scope: &Scope, position: u64) -> Result<Option<Entry>, TableError> {
        let what = format!("place {position} of the line of {}", scope.show_id);
        let page = page_of(position);
        let Some(found) = self.get(&what, &page_key(scope, page), PAGE_SK).await? else { return Ok(None) };
        Ok(entries(&what, page, &found)?.get(&position).copied())
    }

    /// Changes one place, if it is what the change was decided on.
    ///
    /// # Errors
    /// When it is not known whether it was changed.
    pub async fn replace(&self, scope: &Scope, position: u64, from: Entry, to: Entry) -> Result<Replaced, TableError> {
        let what = format!("place {position} of the line of {}", scope.show_id);
        let page = page_of(position);
        let call = self
            .client
            .update_item()
            .table_name(&self.name)
            .set_key(Some(key(&page_key(scope, page), PAGE_SK)))
            .condition_expression("#places.#offset = :from")
            .update_expression("SET #places.#offset = :to")
            .expression_attribute_names("#places", PLACES)
            .expression_attribute_names("#offset", offset(position))
            .expression_attribute_values(":from", entry_text(from))
            .expression_attribute_values(":to", entry_text(to))
            .return_values(ReturnValue::AllNew)
            .return_consumed_capacity(ReturnConsumedCapacity::Total)
            .return_values_on_condition_check_failure(OLD);
        match call.send().await {
            Ok(answer) => {
                let now = answer.attributes.map(|found| entries(&what, page, &found)).transpose()?;
                match now.and_then(|now| now.get(&position).copied()) {
                    Some(now) if now == to => Ok(Replaced::Made),
                    Some(_) | None => Err(unavailable("write", &what, NOT_DYNAMODB)),
                }
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(refusal)) => {
                    let old = refusal.item.as_ref().map(|found| entries(&what, page, found)).transpose()?;
                    let old = old.and_then(|old| old.get(&position).copied());
                    // The client asks twice, and the answer to the first may have been lost on its way.
                    Ok(if old == Some(to) { Replaced::Made } else { Replaced::Overtaken(old) })
                }
                Some(_) | None => Err(unavailable("write", &what, fault(&error))),
            },
        }
    }

    /// Writes a tick's line and moves, all or nothing, if the line and each of the places are what the plan was made on.
    ///
    /// # Errors
    /// When it is not known whether they were written.
    pub async fn carry_out(&self, before: &Line, plan: &Plan) -> Result<Written, TableError> {
        let what = format!("the turns of the line of {}", before.scope.show_id);
        let mut writes = vec![self.next_line(&what, &plan.line)?];
        let mut by_page: BTreeMap<u64, Vec<Move>> = BTreeMap::new();
        for made in &plan.moves {
            by_page.entry(page_of(made.position)).or_default().push(*made);
        }
        for (page, moves) in by_page {
            let is_there = page * PAGE < before.serving;
            writes.push(if is_there {
                self.page_update(&what, &before.scope, page, &moves)?
            } else {
                let places = moves.iter().map(|made| (offset(made.position), entry_text(made.to)));
                let put = self
                    .put(key(&page_key(&before.scope, page), PAGE_SK))
                    .item(PLACES, AttributeValue::M(places.collect()))
                    .item(EXPIRATION, number(before.kept_until()))
                    .condition_expression("attribute_not_exists(pk)");
                finished(&what, put.build())?
            });
        }
        self.write(&what, writes).await
    }

    /// Who came back after his call had run out, by position.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or a record that can't be read.
    pub async fn returned(&self, scope: &Scope) -> Result<BTreeMap<u64, Pending>, TableError> {
        let what = format!("who came back to the line of {}", scope.show_id);
        let found = self.query(&what, &of_line("back", scope), None).await?;
        let returned = |item: Attributes| {
            let position = text(&what, &item, super::SK)?.parse();
            let position = position.map_err(|_| unreadable(&what, "a position is not a number"))?;
            match people(&what, &item, scope)?.as_slice() {
                [person] => Ok((position, *person)),
                _ => Err(unreadable(&what, "a position is not that of one person")),
            }
        };
        found.into_iter().map(returned).collect()
    }

    /// Notes that somebody came back after his call had run out, if that is not noted yet: he asks every few seconds, and a
    /// look costs a tenth of the write. The tick calls him again, or forgets it.
    ///
    /// # Errors
    /// When it is not known whether it is noted.
    pub async fn come_back(&self, line: &Line, position: u64, person: Pending) -> Result<(), TableError> {
        let what = format!("who came back to place {position} of the line of {}", line.scope.show_id);
        if let Some(noted) = self.get(&what, &of_line("back", &line.scope), &ordinal(position)).await?
            && people(&what, &noted, &line.scope)? == [person]
        {
            return Ok(());
        }
        let put = self
            .put(key(&of_line("back", &line.scope), &ordinal(position)))
            .item("people", written(&[person]))
            .item(EXPIRATION, number(line.kept_until()));
        match self.transact(&what, vec![finished(&what, put.build())?]).await? {
            Transacted::Made => Ok(()),
            Transacted::Refused(_) => Err(unavailable("write", &what, "another transaction was in the way")),
        }
    }

    /// Forgets that somebody came back.
    ///
    /// # Errors
    /// When it is not known whether it is forgotten. The next tick forgets it.
    pub async fn forget(&self, scope: &Scope, position: u64) -> Result<(), TableError> {
        let what = format!("who came back to place {position} of the line of {}", scope.show_id);
        self.delete(&what, &of_line("back", scope), &ordinal(position)).await
    }

    pub(super) fn page_update(
        &self,
        what: &str,
        scope: &Scope,
        page: u64,
        moves: &[Move],
    ) -> Result<TransactWriteItem, TableError> {
        let mut update = Update::builder()
            .table_name(&self.name)
            .set_key(Some(key(&page_key(scope, page), PAGE_SK)))
            .expression_attribute_names("#p", PLACES);
        let (mut set, mut conditions) = (Vec::new(), Vec::new());
        for Move { position, from, to } in moves {
            let at = offset(*position);
            update = update
                .expression_attribute_names(format!("#{at}"), &at)
                .expression_attribute_values(format!(":t{at}"), entry_text(*to));
            set.push(format!("#p.#{at} = :t{at}"));
            conditions.push(match from {
                None => format!("attribute_not_exists(#p.#{at})"),
                Some(from) => {
                    update = update.expression_attribute_values(format!(":f{at}"), entry_text(*from));
                    format!("#p.#{at} = :f{at}")
                }
            });
        }
        // A page that is gone must not come back with a part of its places.
        conditions.push("attribute_exists(pk)".to_owned());
        let update = update
            .update_expression(format!("SET {}", set.join(", ")))
            .condition_expression(conditions.join(" AND "))
            .build()
            .map_err(|error| unavailable("write", what, error.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }
}

pub(super) fn page_key(scope: &Scope, page: u64) -> String {
    format!("{}#{page}", of_line("page", scope))
}

/// A position on its page.
pub(super) fn offset(position: u64) -> String {
    (position.saturating_sub(1) % PAGE).to_string()
}

fn entry_text(entry: Entry) -> AttributeValue {
    AttributeValue::S(entry.to_string())
}

fn entries(what: &str, page: u64, item: &Attributes) -> Result<BTreeMap<u64, Entry>, TableError> {
    let places = item.get(PLACES).and_then(|places| places.as_m().ok());
    let places = places.ok_or_else(|| unreadable(what, "a page has no places"))?;
    let entry = |(offset, value): (&String, &AttributeValue)| {
        let offset = offset.parse::<u64>().ok().filter(|offset| *offset < PAGE);
        let offset = offset.ok_or_else(|| unreadable(what, "a page has a place beyond its end"))?;
        let text = value.as_s().map_err(|_| unreadable(what, "an entry is not a text"))?;
        let entry =
            text.parse().map_err(|error: crate::waiting_room::place::NoEntry| unreadable(what, &error.to_string()))?;
        Ok((page * PAGE + offset + 1, entry))
    };
    places.iter().map(entry).collect()
}
