//! The order of a line: blocks of people become runs of places, and a person finds his place by the time of his arrival.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use aws_sdk_dynamodb::types::{AttributeValue, ReturnConsumedCapacity};
use futures_util::{StreamExt, TryStreamExt, stream};

use super::{
    Attributes, EXPIRATION, NOT_DYNAMODB, PERSON, SK, Table, TableError, Transacted, Written, bytes, deletion,
    finished,
    joining::{STRIPES, block_key, block_name},
    key,
    known::{Beginnings, Late},
    number, of_line, ordinal, people, person, text, unavailable, unreadable, whole, written,
};
use crate::{
    client::aws::fault,
    waiting_room::{
        Moment,
        id::PlaceId,
        line::{Line, Scope},
        sequence::{Block, BlockName, Pending, Run, RunName, SEGMENT},
    },
};

/// The bytes of a block's name in a run.
const BLOCK: usize = 9;

/// The bytes of an entry of a run's directory: the first of a segment, and the number of places before it.
const DIRECTORY: usize = PERSON + 8;

/// Reads at a time.
const AT_ONCE: usize = 8;

/// Deletions in a transaction.
const DELETIONS: usize = 100;

impl Table {
    /// The blocks that wait for places. Blocks of the line's last run that are still there are deleted before, so that nobody
    /// gets a second place.
    ///
    /// # Errors
    /// When it is not known which blocks there are, or whether the old ones are gone.
    pub async fn blocks(&self, line: &Line) -> Result<Vec<Block>, TableError> {
        let stripes = stream::iter(0..STRIPES).map(|stripe| self.stripe(line, stripe)).buffer_unordered(AT_ONCE);
        let mut blocks: Vec<Block> = stripes.try_concat().await?;
        if let Some(run) = line.last_run.filter(|_| !blocks.is_empty()) {
            let taken = self.taken(&line.scope, run).await?;
            let left: Vec<BlockName> =
                blocks.iter().map(|block| block.name).filter(|name| taken.contains(name)).collect();
            self.clear(line, &left).await?;
            blocks.retain(|block| !taken.contains(&block.name));
        }
        Ok(blocks)
    }

    /// Appends a run to its line, and carries over who lay in its blocks and is not in it. The blocks lie there until they are
    /// [cleared](Self::clear).
    ///
    /// # Errors
    /// When it is not known whether it was appended.
    pub async fn append(&self, line: &Line, run: &Run) -> Result<Written, TableError> {
        let what = format!("a run of the line of {}", line.scope.show_id);
        let kept = || number(line.kept_until());
        let mut writes = vec![self.next_line(&what, line)?];
        let taken: Vec<u8> =
            run.taken.iter().flat_map(|name| [name.stripe].into_iter().chain(name.number.to_be_bytes())).collect();
        let regular_start = run.name.start + run.late.len() as u64;
        let directory = run.segments().filter(|(start, _)| *start >= regular_start);
        let directory: Vec<u8> = directory
            .filter_map(|(start, people)| {
                let AttributeValue::B(first) = written(people.get(..1)?) else { return None };
                Some([first.into_inner(), start.to_be_bytes().to_vec()].concat())
            })
            .flatten()
            .collect();
        let record = self
            .put(key(&of_line("run", &line.scope), &run_name(run.name)))
            .item("people", number(run.len()))
            .item("directory", AttributeValue::B(directory.into()))
            .item("taken", AttributeValue::B(taken.into()))
            .item(EXPIRATION, kept())
            .condition_expression("attribute_not_exists(pk)");
        writes.push(finished(&what, record.build())?);
        if let (Some(first), Some(last)) = (run.late.first(), run.late.last()) {
            let note = self
                .put(key(&of_line("late", &line.scope), &ordinal(run.name.start)))
                .item("people", number(run.late.len() as u64))
                .item("first", number(first.arrival))
                .item("last", number(last.arrival))
                .item(EXPIRATION, kept());
            writes.push(finished(&what, note.build())?);
        }
        for (start, people) in run.segments() {
            let segment = self.put(key(&of_line("seg", &line.scope), &ordinal(start)));
            let segment = segment.item("people", written(people)).item(EXPIRATION, kept());
            writes.push(finished(&what, segment.build())?);
        }
        for people in &run.carried {
            let name = key(&block_key(line, fastrand::u8(..STRIPES)), &block_name(fastrand::u64(..)));
            let block = self.put(name).item("people", written(people)).item(EXPIRATION, kept());
            writes.push(finished(&what, block.condition_expression("attribute_not_exists(pk)").build())?);
        }
        self.write(&what, writes).await
    }

    /// Deletes blocks that a run has taken. Whether they were there does not matter.
    ///
    /// # Errors
    /// When it is not known whether they are gone. The next tick deletes them, before it does anything else.
    pub async fn clear(&self, line: &Line, taken: &[BlockName]) -> Result<(), TableError> {
        let what = format!("the blocks of the line of {}", line.scope.show_id);
        let mut parts = Vec::new();
        for part in taken.chunks(DELETIONS) {
            parts.push(self.clear_part(&what, line, part));
        }
        stream::iter(parts).buffer_unordered(AT_ONCE).try_collect::<Vec<()>>().await.map(drop)
    }

    /// The position of somebody who arrived then; nothing, where he has none yet, or where it is not drawn. It never changes.
    /// The line may be some seconds old.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, or a record that can't be read.
    pub async fn position(&self, line: &Line, id: PlaceId, arrival: Moment) -> Result<Option<u64>, TableError> {
        if arrival >= line.cut {
            return Ok(None);
        }
        let (what, scope) = (format!("the position of {id}"), &line.scope);
        let mut starts: Vec<u64> = self.segment_of(&what, line, (arrival, id)).await?.into_iter().collect();
        // Whoever was late and was found before is found without asking anew who else was late.
        starts.extend(self.known.late(scope, arrival));
        if let Some(place) = self.search(&what, scope, (arrival, id), &starts).await? {
            return Ok(line.position_of(place));
        }
        for note in self.query(&what, &of_line("late", scope), None).await? {
            let arrivals = (whole(&what, &note, "first")?, whole(&what, &note, "last")?);
            let note = Late { start: ordinal_of(&what, &note)?, people: whole(&what, &note, "people")?, arrivals };
            self.known.keep_late(scope, note);
        }
        let more: Vec<u64> =
            self.known.late(scope, arrival).into_iter().filter(|start| !starts.contains(start)).collect();
        let place = self.search(&what, scope, (arrival, id), &more).await?;
        Ok(place.and_then(|place| line.position_of(place)))
    }

    /// The people who stand at these positions.
    ///
    /// # Errors
    /// When DynamoDB gave no answer, a record that can't be read, or no place at one of the positions.
    pub async fn standing(&self, line: &Line, positions: &BTreeSet<u64>) -> Result<BTreeMap<u64, Pending>, TableError> {
        let scope = &line.scope;
        let what = format!("the places in the line of {}", scope.show_id);
        let places: BTreeMap<u64, u64> =
            positions.iter().map(|position| (line.place_at(*position), *position)).collect();
        let mut groups: Vec<(u64, u64)> = Vec::new();
        for place in places.keys() {
            match groups.last_mut() {
                Some((_, last)) if place - *last <= SEGMENT as u64 => *last = *place,
                Some(_) | None => groups.push((*place, *place)),
            }
        }
        let pk = of_line("seg", scope);
        let segments = groups.into_iter().map(|(first, last)| {
            // The segment that holds a place begins less than its own length before it.
            let from = ordinal(first.saturating_sub(SEGMENT as u64));
            self.query(&what, &pk, Some((from, ordinal(last.saturating_sub(1)))))
        });
        // After a draw the next in line stand anywhere.
        let mut segments = stream::iter(segments).buffer_unordered(AT_ONCE);
        let mut found = BTreeMap::new();
        while let Some(segments) = segments.try_next().await? {
            for segment in segments {
                let start = ordinal_of(&what, &segment)?;
                let numbered = (start + 1..).zip(people(&what, &segment, scope)?);
                found.extend(numbered.filter_map(|(place, person)| Some((*places.get(&place)?, person))));
            }
        }
        if found.len() == positions.len() {
            return Ok(found);
        }
        Err(unreadable(&what, "a place is missing"))
    }

    async fn clear_part(&self, what: &str, line: &Line, part: &[BlockName]) -> Result<(), TableError> {
        let delete =
            |name: &BlockName| deletion(&self.name, &block_key(line, name.stripe), &block_name(name.number), what);
        match self.transact(what, part.iter().map(delete).collect::<Result<_, _>>()?).await? {
            Transacted::Made => Ok(()),
            Transacted::Refused(_) => Err(unavailable("delete", what, "another transaction was in the way")),
        }
    }

    async fn stripe(&self, line: &Line, stripe: u8) -> Result<Vec<Block>, TableError> {
        let what = format!("the blocks of the line of {}", line.scope.show_id);
        let found = self.query(&what, &block_key(line, stripe), None).await?;
        let block = |item: Attributes| {
            let number = u64::from_str_radix(&text(&what, &item, SK)?, 16);
            let number = number.map_err(|_| unreadable(&what, "a block has no name"))?;
            let placed_at = item.contains_key("placed_at").then(|| whole(&what, &item, "placed_at")).transpose()?;
            let people = people(&what, &item, &line.scope)?;
            Ok(Block { name: BlockName { stripe, number }, placed_at, people })
        };
        found.into_iter().map(block).collect()
    }

    /// The blocks that a run has taken.
    async fn taken(&self, scope: &Scope, run: RunName) -> Result<BTreeSet<BlockName>, TableError> {
        let what = format!("the last run of the line of {}", scope.show_id);
        let found = self.get(&what, &of_line("run", scope), &run_name(run)).await?;
        let found = found.ok_or_else(|| unreadable(&what, "it is missing"))?;
        let (names, rest) = bytes(&what, &found, "taken")?.as_chunks::<BLOCK>();
        if !rest.is_empty() {
            return Err(unreadable(&what, "its blocks are cut off"));
        }
        let name =
            |[stripe, number @ ..]: &[u8; BLOCK]| BlockName { stripe: *stripe, number: u64::from_be_bytes(*number) };
        Ok(names.iter().map(name).collect())
    }

    /// Where the segment begins in which somebody stands who was not late.
    async fn segment_of(
        &self,
        what: &str,
        line: &Line,
        (arrival, id): (Moment, PlaceId),
    ) -> Result<Option<u64>, TableError> {
        let directory = match self.known.run(&line.scope, arrival) {
            Some(directory) => directory,
            None => match self.run_of(what, line, arrival).await? {
                Some(directory) => directory,
                None => return Ok(None),
            },
        };
        let before = directory.iter().take_while(|(first, _)| *first <= (arrival, id));
        Ok(before.last().map(|(_, start)| *start))
    }

    /// The run in which somebody stands who arrived then and was not late. It is known from now on.
    async fn run_of(&self, what: &str, line: &Line, arrival: Moment) -> Result<Option<Arc<Beginnings>>, TableError> {
        let first = RunName { cut: arrival + 1, start: 0 };
        let call = self
            .client
            .query()
            .table_name(&self.name)
            .consistent_read(true)
            .limit(1)
            .key_condition_expression("pk = :pk AND sk >= :first")
            .expression_attribute_values(":pk", AttributeValue::S(of_line("run", &line.scope)))
            .expression_attribute_values(":first", AttributeValue::S(run_name(first)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        let answer = call.send().await.map_err(|error| unavailable("read", what, fault(&error)))?;
        if answer.consumed_capacity.is_none() {
            return Err(unavailable("read", what, NOT_DYNAMODB));
        }
        let Some(run) = answer.items().first() else { return Ok(None) };
        let (entries, rest) = bytes(what, run, "directory")?.as_chunks::<DIRECTORY>();
        if !rest.is_empty() {
            return Err(unreadable(what, "the directory of a run is cut off"));
        }
        let parts = |entry: &[u8; DIRECTORY]| {
            let (mut first, mut start) = ([0; PERSON], [0; 8]);
            first.copy_from_slice(&entry[..PERSON]);
            start.copy_from_slice(&entry[PERSON..]);
            let first = person(&first, &line.scope);
            ((first.arrival, first.id), u64::from_be_bytes(start))
        };
        let directory: Arc<Beginnings> = Arc::new(entries.iter().map(parts).collect());
        let name = text(what, run, SK)?;
        let cut = name.split('#').next().and_then(|cut| cut.parse().ok());
        let cut = cut.ok_or_else(|| unreadable(what, "a run has no name"))?;
        self.known.keep_run(&line.scope, cut, &directory);
        Ok(Some(directory))
    }

    async fn search(
        &self,
        what: &str,
        scope: &Scope,
        who: (Moment, PlaceId),
        starts: &[u64],
    ) -> Result<Option<u64>, TableError> {
        let place_in = |start: u64, people: &[Pending]| {
            let index = people.iter().position(|person| (person.arrival, person.id) == who)?;
            Some(start + index as u64 + 1)
        };
        let mut unknown = Vec::new();
        for start in starts {
            match self.known.segment(scope, *start) {
                None => unknown.push(key(&of_line("seg", scope), &ordinal(*start))),
                Some(people) => {
                    if let Some(place) = place_in(*start, &people) {
                        return Ok(Some(place));
                    }
                }
            }
        }
        let mut place = None;
        for segment in self.batch(what, &unknown).await? {
            let start = ordinal_of(what, &segment)?;
            let people: Arc<[Pending]> = people(what, &segment, scope)?.into();
            self.known.keep_segment(scope, start, &people);
            place = place.or_else(|| place_in(start, &people));
        }
        Ok(place)
    }
}

fn run_name(RunName { cut, start }: RunName) -> String {
    format!("{cut:015}#{}", ordinal(start))
}

/// The number in a record's sort key.
fn ordinal_of(what: &str, item: &Attributes) -> Result<u64, TableError> {
    text(what, item, SK)?.parse().map_err(|_| unreadable(what, "a key is not a number"))
}
