//! The order of a line: who joined becomes places 1 to n, without holes, and a place never changes.
//!
//! People lie in blocks, as their messages came. A *run* takes everybody who arrived before its *cut*, which lies some seconds
//! in the past, so that who arrived earlier and came later can still be sorted in. Whoever comes later than that is *late*:
//! he stands in front of the next run, behind all who have a place already. Who lies in a block that was taken and arrived
//! after the cut is carried over to a new block in the same transaction.
//!
//! So each person lies in exactly one block until he stands in exactly one run.

use serde::{Deserialize, Serialize};

use super::{Moment, id::PlaceId, line::Line, ms};

/// The places of one segment, which is one record.
pub const SEGMENT: usize = 256;

/// The records of people that one transaction takes, segments and carried blocks together: it has 100, and the line, the run
/// and the note of late people are three.
const RECORDS: usize = 97;

/// The people in a carried block, whose record may have 400 KB.
const CARRIED: usize = 15_000;

/// How many people are looked at: with those who are carried, all fit into a transaction of 4 MB.
const CONSIDERED: usize = 120_000;

/// Somebody without a place yet. One stands before another by time of arrival, and at the same millisecond by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pending {
    /// When he reached the gateway.
    pub arrival: Moment,
    /// His place's name.
    pub id: PlaceId,
    /// The tickets that he wants.
    pub seats: u8,
}

/// The name of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockName {
    /// Blocks are spread over so many partitions of the table.
    pub stripe: u8,
    /// What tells the blocks of a stripe apart.
    pub number: u64,
}

/// People who joined with one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// Its name.
    pub name: BlockName,
    /// When it was written; nothing, where the people in it were carried over.
    pub placed_at: Option<Moment>,
    /// The people.
    pub people: Vec<Pending>,
}

/// The name of a run. Runs follow one another by either part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RunName {
    /// Everybody of this run who was not late arrived before this.
    pub cut: Moment,
    /// The number of places before it.
    pub start: u64,
}

/// What one transaction appends to a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its name.
    pub name: RunName,
    /// Those who were late, in order: they stand first.
    pub late: Vec<Pending>,
    /// The others, in order.
    pub regular: Vec<Pending>,
    /// The blocks that they lay in, which go.
    pub taken: Vec<BlockName>,
    /// The people of those blocks who have no place yet, for new blocks.
    pub carried: Vec<Vec<Pending>>,
}

impl Run {
    /// The people in segments, each with the number of places before it. Late people have segments of their own.
    pub fn segments(&self) -> impl Iterator<Item = (u64, &[Pending])> {
        let parts = [(self.name.start, &self.late), (self.name.start + count(&self.late), &self.regular)];
        parts.into_iter().flat_map(|(start, people)| {
            let starts = (start..).step_by(SEGMENT);
            starts.zip(people.chunks(SEGMENT))
        })
    }

    /// The number of people.
    pub fn len(&self) -> u64 {
        count(&self.late) + count(&self.regular)
    }

    /// Those of them who came before a moment.
    pub fn came_before(&self, moment: Moment) -> u64 {
        came_before(moment, &self.late) + came_before(moment, &self.regular)
    }

    /// Whether nobody is in it, which no run of [`sequence`] is.
    pub fn is_empty(&self) -> bool {
        self.late.is_empty() && self.regular.is_empty()
    }
}

/// People who came before a moment.
pub fn came_before(moment: Moment, people: &[Pending]) -> u64 {
    people.iter().filter(|person| person.arrival < moment).count() as u64
}

/// The worst lag of the people in new blocks, in milliseconds.
pub fn worst_lag(blocks: &[Block]) -> Option<u64> {
    let lag = |block: &Block| {
        let first = block.people.iter().map(|person| person.arrival).min()?;
        Some(block.placed_at?.saturating_sub(first))
    };
    blocks.iter().filter_map(lag).max()
}

/// Gives places to whoever may have one now. The blocks are all that lie there, those of the line's last run not among them.
/// The answer is the line as it is to be written, and the run. Nothing: nobody may have a place yet.
pub fn sequence(line: &Line, mut blocks: Vec<Block>, now: Moment) -> Option<(Line, Run)> {
    let oldest = |block: &Block| block.people.iter().map(|person| person.arrival).min();
    blocks.sort_by_key(|block| (oldest(block), block.name));
    let mut horizon = now.saturating_sub(ms(line.held_back(now)));
    let mut considered = 0;
    if let Some(beyond) = blocks.iter().position(|block| {
        considered += block.people.len();
        considered > CONSIDERED
    }) {
        // Nobody in what is left out arrived before its oldest, so the order up to there is known.
        let first = blocks.first().and_then(oldest).unwrap_or_default();
        horizon = horizon.min(blocks.get(beyond).and_then(oldest).unwrap_or_default().max(first + 1));
        blocks.truncate(beyond.max(1));
    }
    let mut people: Vec<Pending> = blocks.iter().flat_map(|block| block.people.iter().copied()).collect();
    people.sort_unstable();

    (1..=RECORDS).rev().find_map(|records| {
        let run = cut(line, &people, &blocks, horizon, records)?;
        let needed = run.segments().count() + run.carried.len();
        (needed <= RECORDS).then(|| {
            let line = Line {
                version: line.version + 1,
                joined: line.joined + run.len(),
                cut: run.name.cut,
                last_run: Some(run.name),
                ..line.clone()
            };
            (line, run)
        })
    })
}

/// How many places are drawn, where that is known: somebody who came before the opening is not on his way any more, as far as
/// anybody can know, and each of them has a place. `waiting` are those of them who had none before the run.
pub fn to_draw(line: &Line, waiting: u64, run: Option<&Run>, now: Moment) -> Option<u64> {
    let opens_at = line.settings.opens_at;
    let is_due = !line.has_order() && opens_at + ms(line.held_back(now)) <= now;
    let (placed, came_after) = run.map_or((0, 0), |run| {
        let placed = run.came_before(opens_at);
        (placed, run.len() - placed)
    });
    (is_due && placed == waiting).then(|| line.joined.saturating_sub(came_after))
}

/// The run of at most so many segments.
fn cut(line: &Line, people: &[Pending], blocks: &[Block], horizon: Moment, segments: usize) -> Option<Run> {
    let (late, others) = people.split_at(people.partition_point(|person| person.arrival < line.cut));
    let late = &late[..late.len().min(segments * SEGMENT)];
    let room = (segments - late.len().div_ceil(SEGMENT)) * SEGMENT;
    let ready = others.partition_point(|person| person.arrival < horizon);
    let regular = match others.get(room).filter(|_| room < ready) {
        None => &others[..ready],
        Some(next) => {
            // A millisecond is not split, unless it fills a run alone. Its rest is late then, and in front of the next run.
            let whole = others.partition_point(|person| person.arrival < next.arrival);
            &others[..if whole == 0 && late.is_empty() { room } else { whole }]
        }
    };
    let cut = regular.last().map_or(line.cut, |last| last.arrival + 1);
    let placed = |person: &Pending| {
        regular.last().is_some_and(|last| person.arrival >= line.cut && person <= last)
            || late.last().is_some_and(|last| person <= last)
    };
    let taken: Vec<&Block> = blocks.iter().filter(|block| block.people.iter().any(placed)).collect();
    let carried: Vec<Pending> =
        taken.iter().flat_map(|block| &block.people).filter(|person| !placed(person)).copied().collect();
    let run = Run {
        name: RunName { cut, start: line.joined },
        late: late.to_vec(),
        regular: regular.to_vec(),
        taken: taken.iter().map(|block| block.name).collect(),
        carried: carried.chunks(CARRIED).map(<[Pending]>::to_vec).collect(),
    };
    (!run.is_empty()).then_some(run)
}

fn count(people: &[Pending]) -> u64 {
    people.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::line::Settings;

    fn line() -> Line {
        Line::example()
    }

    fn person(arrival: Moment, number: u32) -> Pending {
        let mut hash = [0; 16];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        Pending { arrival, id: PlaceId::of(1, hash), seats: 1 }
    }

    fn block(number: u64, people: &[Pending]) -> Block {
        Block { name: BlockName { stripe: 0, number }, placed_at: None, people: people.to_vec() }
    }

    /// The run as text: arrivals of the late, of the others, the cut, the blocks taken, and who is carried.
    fn shown(run: &Run) -> String {
        let arrivals = |people: &[Pending]| {
            let arrivals: Vec<String> = people.iter().map(|person| person.arrival.to_string()).collect();
            arrivals.join(" ")
        };
        let taken: Vec<String> = run.taken.iter().map(|name| name.number.to_string()).collect();
        let carried = arrivals(&run.carried.concat());
        let (late, regular) = (arrivals(&run.late), arrivals(&run.regular));
        format!("late {late}, then {regular}, cut {}, takes {}, carries {carried}", run.name.cut, taken.join(" "))
    }

    #[test]
    fn people_stand_by_arrival_however_their_blocks_came() {
        let blocks = vec![block(1, &[person(30, 1), person(10, 2)]), block(2, &[person(20, 3), person(9_000, 4)])];
        let (after, run) = sequence(&line(), blocks, 10_000).unwrap();
        assert_eq!(shown(&run), "late , then 10 20 30, cut 31, takes 1 2, carries 9000");
        assert_eq!((after.joined, after.cut, after.version, after.last_run), (3, 31, 2, Some(run.name)));
    }

    #[test]
    fn a_block_of_people_who_came_after_the_cut_stays_where_it_is() {
        let blocks = vec![block(1, &[person(10, 1)]), block(2, &[person(9_000, 2), person(8_001, 3)])];
        assert_eq!(
            shown(&sequence(&line(), blocks, 10_000).unwrap().1),
            "late , then 10, cut 11, takes 1, carries ",
            "two seconds are held back"
        );
        assert_eq!(sequence(&line(), vec![block(1, &[person(8_000, 1)])], 10_000), None);
        assert_eq!(sequence(&line(), Vec::new(), 10_000), None);
    }

    #[test]
    fn who_is_late_stands_behind_all_who_have_a_place_and_before_all_others_of_his_run() {
        let line = Line { joined: 7, cut: 100, ..line() };
        let blocks = vec![block(1, &[person(150, 1), person(60, 2)]), block(2, &[person(99, 3), person(100, 4)])];
        let (after, run) = sequence(&line, blocks, 10_000).unwrap();
        assert_eq!(shown(&run), "late 60 99, then 100 150, cut 151, takes 1 2, carries ");
        let segments: Vec<(u64, usize)> = run.segments().map(|(start, people)| (start, people.len())).collect();
        assert_eq!((after.joined, segments), (11, vec![(7, 2), (9, 2)]));
    }

    #[test]
    fn a_run_of_late_people_alone_leaves_the_cut_where_it_was() {
        let line = Line { joined: 7, cut: 100, ..line() };
        let (after, run) = sequence(&line, vec![block(1, &[person(60, 1), person(9_999, 2)])], 10_000).unwrap();
        assert_eq!(shown(&run), "late 60, then , cut 100, takes 1, carries 9999");
        assert_eq!((after.cut, after.joined), (100, 8));
    }

    #[test]
    fn of_a_multitude_a_run_takes_what_a_transaction_takes_and_splits_no_millisecond() {
        let people: Vec<Pending> = (0..30_000).map(|n| person(u64::from(n / 100), n)).collect();
        let blocks: Vec<Block> = (0..).zip(people.chunks(10)).map(|(n, people)| block(n, people)).collect();
        let (after, run) = sequence(&line(), blocks, 100_000).unwrap();
        assert_eq!((run.len(), run.name.cut), (24_800, 248));
        assert_eq!((run.segments().count(), run.carried.len()), (97, 0));
        assert_eq!(after.joined, 24_800);
    }

    #[test]
    fn carried_people_take_room_from_the_segments() {
        // Each block has one early and nine late arrivals, so that nearly everybody is carried.
        let blocks: Vec<Block> = (0..20_000_u32)
            .map(|n| {
                let later = (1..10).map(|k| person(1_000_000, n * 10 + k));
                block(u64::from(n), &[vec![person(u64::from(n), n * 10)], later.collect()].concat())
            })
            .collect();
        let (_, run) = sequence(&line(), blocks, 1_000_000).unwrap();
        assert_eq!(run.carried.concat().len(), 9 * run.regular.len());
        assert!(run.segments().count() + run.carried.len() <= RECORDS);
        assert_eq!(run.regular.len(), 12_000, "no more people than a transaction takes are looked at");
    }

    #[test]
    fn a_millisecond_that_fills_a_run_alone_goes_on_as_late_people_in_the_same_order() {
        let people: Vec<Pending> = (0..30_000).map(|n| person(5, n)).collect();
        let blocks: Vec<Block> = (0..).zip(people.chunks(10)).map(|(n, people)| block(n, people)).collect();
        let (after, first) = sequence(&line(), blocks.clone(), 100_000).unwrap();
        let rest: Vec<Block> = blocks.into_iter().filter(|block| !first.taken.contains(&block.name)).collect();
        let carried = first.carried.iter().map(|people| block(1_000_000, people));
        let (_, second) = sequence(&after, rest.into_iter().chain(carried).collect(), 100_000).unwrap();
        assert_eq!([first.regular, second.late].concat(), people);
    }

    #[test]
    fn the_lag_is_that_of_the_slowest_in_a_new_block() {
        let placed = Block { placed_at: Some(70), ..block(1, &[person(30, 1), person(10, 2)]) };
        assert_eq!(worst_lag(&[placed.clone(), block(2, &[person(1, 3)])]), Some(60));
        assert_eq!(worst_lag(&[block(2, &[person(1, 3)])]), None);
    }

    #[test]
    fn a_draw_waits_for_everybody_who_came_before_the_opening_and_counts_nobody_else() {
        const OPENS: Moment = 100_000;
        let held_back = ms(line().held_back(OPENS));
        let drawn = Settings { opens_at: OPENS, draws: true, ..line().settings };
        let line = Line { settings: drawn, ..line() };
        let people = [person(OPENS - 9, 1), person(OPENS - 1, 2), person(OPENS, 3)];
        let sizes = |line: &Line, now: Moment| {
            let waiting = came_before(OPENS, &people);
            let sequenced = sequence(line, vec![block(1, &people)], now);
            let (line, run) = sequenced.map_or((line.clone(), None), |(line, run)| (line, Some(run)));
            to_draw(&line, waiting, run.as_ref(), now)
        };
        assert_eq!(sizes(&line, OPENS + held_back - 1), None, "somebody may be on his way");
        assert_eq!(sizes(&line, OPENS + held_back), Some(2));
        assert_eq!(
            sizes(&line, OPENS + held_back + 1),
            Some(2),
            "the third has a place, and came too late for the draw"
        );
        let longer = Line { joined: 7, ..line.clone() };
        assert_eq!(sizes(&longer, OPENS + held_back), Some(9));
        assert_eq!(to_draw(&longer, 0, None, OPENS + held_back), Some(7), "nobody is left to be placed");
        assert_eq!(to_draw(&longer, 1, None, OPENS + held_back), None, "somebody has no place yet");
        let plain = Line { settings: Settings { draws: false, ..line.settings.clone() }, ..line.clone() };
        assert_eq!(sizes(&plain, OPENS + held_back), None);
        let made = Line { draw: Some(crate::waiting_room::draw::Draw { seed: "00".to_owned(), size: 2 }), ..line };
        assert_eq!(sizes(&made, OPENS + held_back), None, "it never changes");
    }
}
