//! Looks at the line while the sale goes on, by consistent reads of its table, and proves what must not be.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use shared::{
    deadline::epoch_ms,
    waiting_room::{line::Line, place::State, plan::Pages, table::TableError},
};
use tokio::time::sleep;

use super::{Counts, Progress, SEATS_MAX, SHOW, Venue};
use crate::{
    aws::{AwsEndpoint, Request, Taken},
    sale::HeldError,
    stack::WAITING_ROOM,
};

/// Between two looks.
const PACE: Duration = Duration::from_millis(250);

/// The line at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// After the sale was opened.
    pub at: Duration,
    /// People who have a place.
    pub joined: u64,
    /// Places whose turn has come.
    pub serving: u64,
    /// Seats that are called, admitted, held or about to be free.
    pub inside: u32,
    /// Seats that are sold.
    pub sold: u32,
}

/// Who looks.
pub(super) struct Watch {
    venue: Arc<Venue>,
    watched: Watched,
    inside: usize,
    progress: Progress,
    /// The seats that counted at the last look, by position and call.
    counted: BTreeMap<u64, (u16, u32)>,
    idle: Option<Idle>,
}

/// What was seen.
#[derive(Default)]
pub(super) struct Watched {
    pub(super) samples: Vec<Sample>,
    /// Seats beyond the tickets that counted at the same moment.
    pub(super) over: u32,
    /// The longest that tickets were free for who waited, and the ticks meanwhile.
    pub(super) unsold: (Duration, u32),
}

/// A free ticket that somebody waits for.
struct Idle {
    since: Instant,
    serving: u64,
    free: u32,
    last_tick: u64,
    ticks: u32,
}

impl Watch {
    pub(super) fn of(venue: Arc<Venue>) -> Self {
        Self {
            venue,
            watched: Watched::default(),
            inside: 0,
            progress: Progress::default(),
            counted: BTreeMap::new(),
            idle: None,
        }
    }

    /// Waits for the next look, and looks. Where the line went on meanwhile, it is as at the last one.
    pub(super) async fn look(&mut self) -> Result<Progress, HeldError> {
        sleep(PACE).await;
        let Some((line, pages)) = self.read().await? else { return Ok(self.progress) };
        let now = epoch_ms(SystemTime::now());
        let entries = || pages.entries.range(..=line.serving);
        self.inside = entries().filter(|(_, entry)| entry.state.is_inside()).count();
        let sold = line.folded_sold
            + entries()
                .filter(|(_, entry)| entry.state == State::Sold)
                .map(|(_, entry)| u32::from(entry.seats))
                .sum::<u32>();
        let counted: BTreeMap<u64, (u16, u32)> = entries()
            .filter(|(_, entry)| entry.counts(now))
            .map(|(position, entry)| (*position, (entry.call, u32::from(entry.seats))))
            .collect();
        // Pages are read one after the other, so one look may count a place that was free before another was called. What
        // counts at two looks has counted all the time between them, so it all counted at one moment.
        let both = counted.iter().filter_map(|(position, (call, seats))| {
            let (before, had) = self.counted.get(position)?;
            (before == call).then_some(*seats.min(had))
        });
        let tickets = line.settings.tickets;
        let over = (line.folded_sold + both.sum::<u32>()).saturating_sub(tickets);
        self.watched.over = self.watched.over.max(over);
        let taken: u32 = line.folded_sold + counted.values().map(|(_, seats)| seats).sum::<u32>();
        self.counted = counted;
        self.note_idle(&line, tickets.saturating_sub(taken));
        let (joined, serving) = (line.joined, line.serving);
        let inside = taken.saturating_sub(sold);
        self.watched.samples.push(Sample { at: self.venue.opened.elapsed(), joined, serving, inside, sold });
        self.progress = Progress { joined, called: serving, sold, done: 0 };
        Ok(self.progress)
    }

    /// Places whose turn is going on.
    pub(super) fn inside(&self) -> usize {
        self.inside
    }

    pub(super) fn end(self) -> Watched {
        self.watched
    }

    /// The line and its pages that are not folded yet; nothing, when the line has gone on between the two reads.
    async fn read(&self) -> Result<Option<(Line, Pages)>, HeldError> {
        let table = &self.venue.doors.table;
        let Some(line) = table.line(SHOW).await? else { return Ok(None) };
        match table.pages(&line, line.folded).await {
            Ok(pages) => Ok(Some((line, pages))),
            Err(TableError::Unreadable { .. }) => Ok(None),
            Err(error @ TableError::Unavailable { .. }) => Err(error.into()),
        }
    }

    /// Notes how long tickets have been free while somebody waits whom they are enough for, whatever he wants.
    fn note_idle(&mut self, line: &Line, free: u32) {
        let waits = line.serving < line.joined && free >= u32::from(SEATS_MAX);
        let (serving, last_tick) = (line.serving, line.last_tick);
        let fresh = || Idle { since: Instant::now(), serving, free, last_tick, ticks: 0 };
        self.idle = match self.idle.take() {
            _ if !waits => None,
            Some(mut idle) if idle.serving == serving && idle.free <= free => {
                if idle.last_tick != last_tick {
                    (idle.last_tick, idle.ticks) = (last_tick, idle.ticks + 1);
                }
                self.watched.unsold.0 = self.watched.unsold.0.max(idle.since.elapsed());
                self.watched.unsold.1 = self.watched.unsold.1.max(idle.ticks);
                Some(idle)
            }
            Some(_) | None => Some(fresh()),
        };
    }
}

/// What the functions asked of AWS, by operation.
#[derive(Default)]
pub(super) struct Load {
    pub(super) operations: BTreeMap<String, Counts>,
    /// What those on the waiting room's table took.
    pub(super) taken: BTreeMap<String, Taken>,
}

impl Load {
    /// Counts what was asked since the last time.
    pub(super) fn count(&mut self, aws: &AwsEndpoint) {
        for request in aws.take_requests() {
            let counts = self.operations.entry(request.operation().to_owned()).or_default();
            counts.requests += 1;
            counts.records += records(&request);
        }
        for (operation, taken) in aws.take_taken(WAITING_ROOM) {
            *self.taken.entry(operation).or_default() += taken;
        }
    }
}

/// The records that a request reads or writes at once.
fn records(request: &Request) -> usize {
    let transacted = request.body["TransactItems"].as_array().map(Vec::len);
    let tables = request.body["RequestItems"].as_object();
    let batched = tables.map(|tables| tables.values().filter_map(|table| table["Keys"].as_array()).map(Vec::len).sum());
    transacted.or(batched).unwrap_or(1)
}
