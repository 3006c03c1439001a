//! What was read of the order of lines. Runs, notes of late people and segments never change once they are written, and another
//! line of the show has other keys, so that what was read once holds for good. Only its amount is bounded: what was read first
//! goes first.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::waiting_room::{
    Moment,
    id::PlaceId,
    line::Scope,
    sequence::{Pending, SEGMENT},
};

/// How many segments are kept, 8 MiB of them: the places of 256,000 people.
const MOST_SEGMENTS: usize = 1_000;

/// How many runs are kept, and how many notes of late people.
const MOST_RUNS: usize = 1_000;

/// Where the segments of a run begin: the first who stands in each, and the number of places before it.
pub(super) type Beginnings = Vec<((Moment, PlaceId), u64)>;

/// A note that late people stand together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Late {
    /// The number of places before them.
    pub(super) start: u64,
    /// Their number.
    pub(super) people: u64,
    /// The first and the last arrival among them.
    pub(super) arrivals: (Moment, Moment),
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<Parts>);

#[derive(Debug)]
struct Parts {
    /// By the moment before which their people arrived.
    runs: Bounded<Arc<Beginnings>>,
    /// By the number of places before them, as the two below.
    segments: Bounded<Arc<[Pending]>>,
    notes: Bounded<Late>,
}

impl Late {
    /// Where the segments begin in which somebody may stand who arrived then.
    pub(super) fn starts(&self, arrival: Moment) -> impl Iterator<Item = u64> + use<> {
        let (first, last) = self.arrivals;
        let is_his = first <= arrival && arrival <= last;
        let end = if is_his { self.start + self.people } else { self.start };
        (self.start..end).step_by(SEGMENT)
    }
}

impl Known {
    /// The run in which somebody stands who arrived then and was not late. It is the only one: those of a run arrived from the
    /// first of them on, and before the cut that it is kept by.
    pub(super) fn run(&self, scope: &Scope, arrival: Moment) -> Option<Arc<Beginnings>> {
        let parts = self.lock();
        let (_, beginnings) = parts.runs.from(scope, arrival + 1).next()?;
        let begins = beginnings.first().is_some_and(|((first, _), _)| *first <= arrival);
        begins.then(|| Arc::clone(beginnings))
    }

    pub(super) fn keep_run(&self, scope: &Scope, cut: Moment, beginnings: &Arc<Beginnings>) {
        self.lock().runs.keep(scope, cut, Arc::clone(beginnings));
    }

    pub(super) fn segment(&self, scope: &Scope, start: u64) -> Option<Arc<[Pending]>> {
        self.lock().segments.get(scope, start).map(Arc::clone)
    }

    pub(super) fn keep_segment(&self, scope: &Scope, start: u64, people: &Arc<[Pending]>) {
        self.lock().segments.keep(scope, start, Arc::clone(people));
    }

    /// Where the segments begin in which somebody may stand who arrived then and was late, as far as that is known.
    pub(super) fn late(&self, scope: &Scope, arrival: Moment) -> Vec<u64> {
        self.lock().notes.from(scope, 0).flat_map(|(_, note)| note.starts(arrival)).collect()
    }

    pub(super) fn keep_late(&self, scope: &Scope, note: Late) {
        self.lock().notes.keep(scope, note.start, note);
    }

    fn lock(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Parts {
    fn default() -> Self {
        Self { runs: Bounded::of(MOST_RUNS), segments: Bounded::of(MOST_SEGMENTS), notes: Bounded::of(MOST_RUNS) }
    }
}

/// Records of lines by a number in their keys, so many of them at most.
#[derive(Debug)]
struct Bounded<T> {
    most: usize,
    records: BTreeMap<(Scope, u64), T>,
    /// As they were read.
    order: VecDeque<(Scope, u64)>,
}

impl<T> Bounded<T> {
    fn of(most: usize) -> Self {
        Self { most, records: BTreeMap::new(), order: VecDeque::new() }
    }

    fn keep(&mut self, scope: &Scope, number: u64, record: T) {
        let key = (scope.clone(), number);
        if self.records.insert(key.clone(), record).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.records.remove(&oldest);
        }
    }

    fn get(&self, scope: &Scope, number: u64) -> Option<&T> {
        self.records.get(&(scope.clone(), number))
    }

    /// The records of a line from this number on, in order.
    fn from(&self, scope: &Scope, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let range = (scope.clone(), number)..=(scope.clone(), u64::MAX);
        self.records.range(range).map(|((_, number), record)| (*number, record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::line::Line;

    fn first(arrival: Moment) -> (Moment, PlaceId) {
        (arrival, PlaceId::of(1, [7; 16]))
    }

    #[test]
    fn a_run_is_that_of_who_arrived_between_its_first_and_its_cut() {
        let (known, scope) = (Known::default(), Line::example().scope);
        let other = Scope { generation: 2, ..scope.clone() };
        known.keep_run(&scope, 31, &Arc::new(vec![(first(10), 0), (first(20), 256)]));
        known.keep_run(&scope, 61, &Arc::new(vec![(first(40), 300)]));
        let found = |scope: &Scope, arrival| known.run(scope, arrival).map(|beginnings| beginnings[0].1);
        assert_eq!(
            [9, 10, 30, 31, 39, 40, 60, 61].map(|arrival| found(&scope, arrival)),
            [None, Some(0), Some(0), None, None, Some(300), Some(300), None]
        );
        assert_eq!(found(&other, 10), None, "another line has its own");
    }

    #[test]
    fn late_people_are_looked_for_where_somebody_of_their_arrival_stands() {
        let (known, scope) = (Known::default(), Line::example().scope);
        known.keep_late(&scope, Late { start: 100, people: 300, arrivals: (5, 9) });
        known.keep_late(&scope, Late { start: 900, people: 1, arrivals: (9, 9) });
        assert_eq!(known.late(&scope, 9), [100, 356, 900]);
        assert_eq!(known.late(&scope, 5), [100, 356]);
        assert_eq!(known.late(&scope, 10), Vec::<u64>::new());
    }

    #[test]
    fn what_was_read_first_goes_first() {
        let scope = Line::example().scope;
        let mut bounded = Bounded::of(2);
        for number in [3, 1, 1, 2] {
            bounded.keep(&scope, number, ());
        }
        let numbers: Vec<u64> = bounded.from(&scope, 0).map(|(number, ())| number).collect();
        assert_eq!((numbers, bounded.order.len()), (vec![1, 2], 2));
    }
}
