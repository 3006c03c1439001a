//! Whose turn it is: what one tick makes of a line, as a pure function of what was read and the time.
//!
//! ```text
//!  a call ran out            C -> P     unless the line stands still
//!  free tickets              called are first who came back, then the next positions in order
//!  gone, ended or silent     the next position -> X, and on to the one behind it
//!  the head wants too many   nobody is called while seats may come back; then it is called for what there is
//!  pages that are settled    are folded into the line, and not read again
//! ```
//!
//! What counts is read place after place, while others write. That is safe: only a tick raises what counts, and ticks exclude
//! each other by the line's version; everybody else lowers it, so that the line can only look fuller than it is.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Moment,
    id::PlaceId,
    line::{Line, Terms},
    ms,
    place::{Change, Entry, State},
};

/// The places of one page, which is one record.
pub const PAGE: u64 = 50;

/// The most places that one tick calls.
pub const MOST_CALLS: u64 = 250;

/// The most pages that one tick writes: a transaction has 100 records.
const MOST_PAGES: usize = 90;

/// The most reservations that one tick asks for.
const MOST_ASKED: usize = 50;

/// The page that a position is on.
pub fn page_of(position: u64) -> u64 {
    position.saturating_sub(1) / PAGE
}

/// The pages of a line that are not folded, and what stands on them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Pages {
    /// The first page that was read. What stands on those before is settled, and known to the line.
    pub first: u64,
    /// The places by position.
    pub entries: BTreeMap<u64, Entry>,
}

/// The first page that has to be read: one that is not folded, or one with a place that came back.
pub fn first_page(line: &Line, back: &BTreeSet<u64>) -> u64 {
    back.first().map_or(line.folded, |position| page_of(*position).min(line.folded))
}

/// Somebody whose turn may come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Person {
    /// The place's name.
    pub id: PlaceId,
    /// The tickets that he wants.
    pub seats: u8,
    /// When he was last heard of.
    pub seen: Moment,
    /// Whether he left, or stands elsewhere by now.
    pub is_gone: bool,
}

/// A change of one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// Which one.
    pub position: u64,
    /// What it must be for that; nothing, where its turn has not come before.
    pub from: Option<Entry>,
    /// What it becomes.
    pub to: Entry,
}

/// What a tick does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The line as it is to be written.
    pub line: Line,
    /// The changes to be written with it, in one transaction.
    pub moves: Vec<Move>,
    /// The places whose reservations are to be asked for, the longest overdue first.
    pub overdue: Vec<(u64, Entry)>,
    /// Who came back and needs no call any more: the note of it goes.
    pub answered: Vec<u64>,
    /// Whether the last ticket was sold since the last tick.
    pub sold_out: bool,
    /// Whether nothing happens to the line any more.
    pub is_over: bool,
}

/// The positions whose people have to be known for [`plan`]: nobody's, where nobody can be called.
pub fn candidates(
    line: &Line,
    pages: &Pages,
    back: &BTreeSet<u64>,
    now: Moment,
    terms: &Terms,
) -> (Vec<u64>, std::ops::Range<u64>) {
    let runs_out = pages.entries.values().any(|entry| has_run_out(line, entry, now, terms));
    if !line.may_call(now, terms) || Tally::of(line, pages, now).free(line) == 0 && !runs_out {
        return (Vec::new(), 0..0);
    }
    let passed = |position: &&u64| pages.entries.get(position).is_some_and(|entry| entry.state == State::Passed);
    let again = back.iter().filter(passed).take(usize::try_from(MOST_CALLS).unwrap_or(usize::MAX)).copied().collect();
    (again, line.serving + 1..line.joined.min(line.serving + MOST_CALLS) + 1)
}

/// What a tick does with a line, whose pages were read from [`first_page`] on, with those who came back, and with the people at
/// the [`candidates`]. Behind a position whose people are not known nobody is called.
pub fn plan(
    line: &Line,
    pages: &Pages,
    back: &BTreeSet<u64>,
    people: &BTreeMap<u64, Person>,
    now: Moment,
    terms: &Terms,
) -> Plan {
    let mut tick = Tick {
        line: line.clone(),
        tally: Tally::of(line, pages, now),
        entries: pages.entries.clone(),
        moves: Vec::new(),
        written: BTreeSet::new(),
        now,
    };
    // A line that is over does not go on, and gives nobody his window again.
    if !line.settings.paused || !line.is_open_for_joining(now) {
        tick.pass(terms);
    }
    if line.may_call(now, terms) {
        tick.call(back, people, terms);
    }
    let passed = |position: &u64| pages.entries.get(position).is_some_and(|entry| entry.state == State::Passed);
    let called = |position: &u64| tick.moves.iter().any(|made| made.position == *position);
    let answered = back.iter().filter(|position| !passed(position) || called(position)).copied().collect();
    let mut overdue: Vec<(u64, Entry)> =
        pages.entries.iter().filter(|(_, entry)| entry.is_overdue(now)).map(|(at, entry)| (*at, *entry)).collect();
    overdue.sort_by_key(|(position, entry)| (entry.deadline, *position));
    overdue.truncate(MOST_ASKED);

    let sold_out = tick.close_books(pages.first);
    let over = now >= line.settings.closes_at && tick.entries.values().all(|entry| entry.is_settled(now));
    Plan { line: tick.line, moves: tick.moves, overdue, answered, sold_out, is_over: over }
}

/// What counts.
struct Tally {
    /// Sold on the pages before those that were read.
    sold_before: u32,
    /// Seats that count on the others.
    counting: u32,
    /// Whether some of those may come back.
    may_come_back: bool,
    /// Places whose turn is going on.
    inside: u32,
}

impl Tally {
    fn of(line: &Line, pages: &Pages, now: Moment) -> Self {
        let unfolded: u32 = pages.entries.iter().filter(|(at, _)| page_of(**at) < line.folded).map(sold).sum();
        let counting = pages.entries.values().filter(|entry| entry.counts(now));
        Self {
            sold_before: line.folded_sold.saturating_sub(unfolded),
            counting: counting.map(|entry| u32::from(entry.seats)).sum(),
            may_come_back: pages.entries.values().any(|entry| entry.may_come_back(now)),
            inside: pages.entries.values().map(|entry| u32::from(entry.state.is_inside())).sum(),
        }
    }

    fn taken(&self) -> u32 {
        self.sold_before + self.counting
    }

    fn free(&self, line: &Line) -> u32 {
        line.settings.tickets.saturating_sub(self.taken())
    }
}

/// Whether nobody has answered a call in time.
fn has_run_out(line: &Line, entry: &Entry, now: Moment, terms: &Terms) -> bool {
    entry.state == State::Called && line.call_ends(entry.deadline, terms) <= now
}

/// The seats that a place has bought.
fn sold((_, entry): (&u64, &Entry)) -> u32 {
    if entry.state == State::Sold { u32::from(entry.seats) } else { 0 }
}

/// A tick at work.
struct Tick {
    line: Line,
    tally: Tally,
    entries: BTreeMap<u64, Entry>,
    moves: Vec<Move>,
    /// The pages that are written.
    written: BTreeSet<u64>,
    now: Moment,
}

/// What becomes of the next in line.
enum Next {
    /// It is called, for so many tickets.
    Called(u8),
    /// Nobody is there.
    Gone,
    /// It waits, and everybody behind it.
    Waits,
}

impl Tick {
    /// Calls that ran out.
    fn pass(&mut self, terms: &Terms) {
        let ran_out: Vec<(u64, Entry)> = self
            .entries
            .iter()
            .filter(|(_, entry)| has_run_out(&self.line, entry, self.now, terms))
            .map(|(position, entry)| (*position, *entry))
            .collect();
        for (position, entry) in ran_out {
            if let Some(to) = entry.after(Change::Pass { at: self.now })
                && self.write(position, Some(entry), to)
            {
                self.tally.counting = self.tally.counting.saturating_sub(u32::from(entry.seats));
                self.tally.inside = self.tally.inside.saturating_sub(1);
            }
        }
        let now = self.now;
        self.tally.may_come_back = self.entries.values().any(|entry| entry.may_come_back(now));
    }

    /// Calls who came back, then the next in line.
    fn call(&mut self, back: &BTreeSet<u64>, people: &BTreeMap<u64, Person>, terms: &Terms) {
        let until = self.now + ms(terms.call_window);
        let mut called = 0;
        for position in back {
            let Some(entry) = self.entries.get(position).copied().filter(|entry| entry.state == State::Passed) else {
                continue;
            };
            let Some(person) = people.get(position) else { continue };
            let change = match self.next(person, terms) {
                Next::Called(seats) if called < MOST_CALLS => Change::Recall { until, seats },
                Next::Called(_) | Next::Waits => return,
                Next::Gone => Change::GiveUp { at: self.now },
            };
            if let Some(to) = entry.after(change) {
                if !self.write(*position, Some(entry), to) {
                    return;
                }
                called += self.count(to);
            }
        }
        while self.line.serving < self.line.joined {
            let position = self.line.serving + 1;
            let Some(person) = people.get(&position) else { return };
            let to = match self.next(person, terms) {
                Next::Called(seats) if called < MOST_CALLS => Entry::called(seats, until),
                Next::Called(_) | Next::Waits => return,
                Next::Gone => Entry::empty(self.now),
            };
            if !self.write(position, None, to) {
                return;
            }
            called += self.count(to);
            self.line.serving = position;
        }
    }

    fn next(&self, person: &Person, terms: &Terms) -> Next {
        if person.is_gone || self.now.saturating_sub(person.seen) > ms(terms.silence) {
            return Next::Gone;
        }
        let free = self.tally.free(&self.line);
        let is_full = self.line.settings.max_inside.is_some_and(|most| self.tally.inside >= most);
        if free == 0 || is_full {
            return Next::Waits;
        }
        let wanted = person.seats.clamp(1, self.line.settings.seats_max);
        match u8::try_from(free) {
            Ok(left) if left < wanted && self.tally.may_come_back => Next::Waits,
            Ok(left) => Next::Called(wanted.min(left)),
            Err(_) => Next::Called(wanted),
        }
    }

    /// Counts a call.
    fn count(&mut self, entry: Entry) -> u64 {
        if entry.state != State::Called {
            return 0;
        }
        self.tally.counting += u32::from(entry.seats);
        self.tally.inside += 1;
        self.tally.may_come_back = true;
        1
    }

    /// Notes a change, if its page is among those that one transaction takes.
    fn write(&mut self, position: u64, from: Option<Entry>, to: Entry) -> bool {
        let page = page_of(position);
        if self.written.len() == MOST_PAGES && !self.written.contains(&page) {
            return false;
        }
        self.written.insert(page);
        self.entries.insert(position, to);
        self.moves.push(Move { position, from, to });
        true
    }

    /// Folds what is settled and notes where the line is. Whether the last ticket was sold since the last tick.
    fn close_books(&mut self, first: u64) -> bool {
        let (mut folded, mut folded_sold) = (first.min(self.line.folded), self.tally.sold_before);
        while (folded + 1) * PAGE <= self.line.serving {
            let page = self.entries.range(folded * PAGE + 1..=(folded + 1) * PAGE);
            if page.clone().count() as u64 != PAGE || !page.clone().all(|(_, entry)| entry.is_settled(self.now)) {
                break;
            }
            folded_sold += page.map(sold).sum::<u32>();
            folded += 1;
        }
        let open = self.entries.range(folded * PAGE + 1..);
        self.line.sold = folded_sold + open.map(sold).sum::<u32>();
        (self.line.folded, self.line.folded_sold) = (folded, folded_sold);
        (self.line.taken, self.line.inside) = (self.tally.taken(), self.tally.inside);
        self.line.version += 1;
        self.line.last_tick = self.now;
        self.line.note_speed(self.now);
        let is_sold_out = self.line.settings.tickets > 0 && self.line.sold >= self.line.settings.tickets;
        let was_sold_out = self.line.sold_out_at.is_some();
        self.line.sold_out_at = is_sold_out.then(|| self.line.sold_out_at.unwrap_or(self.now));
        is_sold_out && !was_sold_out
    }
}

#[cfg(test)]
mod tests;
