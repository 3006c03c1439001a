//! How people get their places, step by step. A step is a request that DynamoDB carries out whole, or something that goes
//! wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    iter,
};

use shared::waiting_room::{
    id::PlaceId,
    line::{Line, Scope, Settings},
    sequence::{Block, BlockName, Pending, Run, RunName, sequence},
};

use super::Messages;
use crate::search::{Rules, Step};

/// Blocks are read from one partition of the table after the other. Two of them show what can come of it.
const STRIPES: u8 = 2;

/// What is broken on purpose, to show that the search finds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    None,
    /// Items are written over whoever stands there.
    Unconditional,
    /// A sequencer takes what lies there, without looking what the last run took.
    NotCleared,
    /// A run is appended to whatever the line has become.
    VersionUnseen,
    /// Who lay in a block that was taken, and was not in the run, is forgotten.
    CarryForgotten,
}

/// What a run leaves.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Placed {
    pub(crate) name: RunName,
    pub(crate) people: Vec<Pending>,
    pub(crate) taken: BTreeSet<BlockName>,
}

/// The table's records of one line, and what its transactions do.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(crate) struct Table {
    line: Known,
    /// Everybody who has an item.
    items: BTreeSet<PlaceId>,
    pub(crate) blocks: BTreeMap<BlockName, Vec<Pending>>,
    pub(crate) runs: Vec<Placed>,
    next_block: u64,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self { line: Known::of(&line()), ..Self::default() }
    }

    pub(crate) fn line(&self) -> Line {
        self.line.line()
    }

    /// Writes all of them with their block, or nobody where some stand there already: those.
    pub(crate) fn try_join(&mut self, people: &[Pending], sabotage: Sabotage) -> Vec<PlaceId> {
        let standing: Vec<PlaceId> =
            people.iter().map(|person| person.id).filter(|id| self.items.contains(id)).collect();
        if !standing.is_empty() && sabotage != Sabotage::Unconditional {
            return standing;
        }
        self.items.extend(people.iter().map(|person| person.id));
        self.lay(people.to_vec());
        Vec::new()
    }

    /// The blocks of one stripe.
    fn stripe(&self, stripe: u8) -> Vec<Block> {
        let of_it = self.blocks.iter().filter(|(name, _)| name.stripe == stripe);
        of_it.map(|(name, people)| Block { name: *name, placed_at: None, people: people.clone() }).collect()
    }

    /// What the run of this name has taken.
    fn taken(&self, run: RunName) -> BTreeSet<BlockName> {
        self.runs.iter().find(|placed| placed.name == run).map(|placed| placed.taken.clone()).unwrap_or_default()
    }

    /// Deletes what is there of the last run's blocks as a sequencer knows it, and leaves them out of those that it read.
    pub(crate) fn clean(&mut self, line: &Line, blocks: &mut Vec<Block>) {
        if let Some(run) = line.last_run.filter(|_| !blocks.is_empty()) {
            let taken = self.taken(run);
            self.clear(blocks.iter().map(|block| block.name).filter(|name| taken.contains(name)));
            blocks.retain(|block| !taken.contains(&block.name));
        }
    }

    /// Appends a run, if the line is of the version before. Whether it did.
    pub(crate) fn append(&mut self, line: &Line, run: &Run, sabotage: Sabotage) -> bool {
        let is_named = self.runs.iter().any(|placed| placed.name == run.name);
        if sabotage != Sabotage::VersionUnseen && self.line.version != line.version - 1 || is_named {
            return false;
        }
        self.line = Known::of(line);
        let people = run.late.iter().chain(&run.regular).copied().collect();
        self.runs.push(Placed { name: run.name, people, taken: run.taken.iter().copied().collect() });
        if sabotage != Sabotage::CarryForgotten {
            for people in &run.carried {
                self.lay(people.clone());
            }
        }
        true
    }

    pub(crate) fn clear(&mut self, names: impl IntoIterator<Item = BlockName>) {
        for name in names {
            self.blocks.remove(&name);
        }
    }

    fn lay(&mut self, people: Vec<Pending>) {
        let number = self.next_block;
        let stripe = if number.is_multiple_of(u64::from(STRIPES)) { 0 } else { 1 };
        self.blocks.insert(BlockName { stripe, number }, people);
        self.next_block += 1;
    }

    /// Whether each who has an item stands in one place, and nobody else, and the places are 1 to n.
    fn judge(&self, everybody: impl Iterator<Item = PlaceId>) -> Result<(), String> {
        let used: BTreeSet<BlockName> = self.runs.iter().flat_map(|placed| placed.taken.iter().copied()).collect();
        let waiting = self.blocks.iter().filter(|(name, _)| !used.contains(name)).flat_map(|(_, people)| people);
        let standing: Vec<PlaceId> =
            waiting.chain(self.runs.iter().flat_map(|placed| &placed.people)).map(|person| person.id).collect();
        for id in everybody {
            let places = standing.iter().filter(|other| **other == id).count();
            if places != usize::from(self.items.contains(&id)) {
                return Err(format!("person {} stands in {places} places", id.hash()[0]));
            }
        }
        let mut places = 0;
        for placed in &self.runs {
            if placed.name.start != places {
                return Err(format!("after {places} places a run begins at {}", placed.name.start));
            }
            places += placed.people.len() as u64;
        }
        if self.line.joined != places {
            return Err(format!("the line says that {} stand in it, and there are {places}", self.line.joined));
        }
        // Whoever was not late arrived after everybody who stands before him.
        let cuts = iter::once(0).chain(self.runs.iter().map(|placed| placed.name.cut));
        for (cut, placed) in cuts.zip(&self.runs) {
            let regular: Vec<&Pending> = placed.people.iter().filter(|person| person.arrival >= cut).collect();
            if placed.name.cut < cut || !regular.is_sorted() {
                return Err(format!("the run at {} is out of order", placed.name.start));
            }
        }
        Ok(())
    }
}

/// Where a sequencer is.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum At {
    Nothing,
    /// It has read the line as it was then, and so many stripes.
    Reading {
        line: Known,
        stripes: u8,
        blocks: Vec<(BlockName, Vec<Pending>)>,
    },
    /// It knows what it may take.
    Ready {
        line: Known,
        blocks: Vec<(BlockName, Vec<Pending>)>,
    },
    /// It has appended a run, whose blocks are to be deleted.
    Appended(Vec<BlockName>),
}

/// What of the line matters here.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
struct Known {
    version: u64,
    joined: u64,
    cut: u64,
    last_run: Option<RunName>,
}

impl Known {
    fn of(line: &Line) -> Self {
        let Line { version, joined, cut, last_run, .. } = *line;
        Self { version, joined, cut, last_run }
    }

    fn line(self) -> Line {
        let Self { version, joined, cut, last_run } = self;
        Line { version, joined, cut, last_run, ..line() }
    }
}

/// Everything that is remembered somewhere.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    table: Table,
    /// Whether a message still has to be worked.
    due: Vec<bool>,
    /// The deliveries that are worked: the message, and who of it is not known to have a place.
    worked: [Option<(usize, Vec<Pending>)>; 2],
    sequencers: [At; 2],
    ticks: [u8; 2],
    /// What may still go wrong.
    faults: u8,
}

impl State {
    pub(crate) fn new(messages: Messages, ticks: [u8; 2], faults: u8) -> Self {
        Self {
            table: Table::new(),
            due: vec![true; messages.len()],
            worked: [None, None],
            sequencers: [At::Nothing, At::Nothing],
            ticks,
            faults,
        }
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Deliver {
        message: usize,
        to: usize,
    },
    /// The queue delivers what was worked, or is being worked, once more.
    Copy {
        message: usize,
        to: usize,
    },
    Write(usize),
    /// It was written, and nobody heard of it; or it was not, and nobody tries any more.
    WriteLost {
        by: usize,
        made: bool,
    },
    ReadLine(usize),
    ReadStripe(usize),
    Clean(usize),
    /// With a clock that says this.
    Append {
        by: usize,
        now: u64,
    },
    Clear(usize),
    /// A sequencer is gone, or its snapshot is forgotten.
    Stop(usize),
}

/// The rules of joining.
pub(crate) struct Joining {
    messages: Messages,
    sabotage: Sabotage,
}

impl Joining {
    pub(crate) fn new(messages: Messages, sabotage: Sabotage) -> Self {
        Self { messages, sabotage }
    }

    fn everybody(&self) -> impl Iterator<Item = PlaceId> {
        let numbers: BTreeSet<u8> = self.messages.iter().flat_map(|people| people.iter().map(|(it, _)| *it)).collect();
        numbers.into_iter().map(|number| person((number, 0)).id)
    }

    fn people(&self, message: usize) -> Vec<Pending> {
        self.messages[message].iter().copied().map(person).collect()
    }

    /// Every act that is possible, and whether nothing goes wrong with it.
    fn acts(&self, state: &State) -> Vec<(Act, bool)> {
        let mut acts = Vec::new();
        let may_fail = state.faults > 0;
        if let Some(to) = state.worked.iter().position(Option::is_none) {
            for (message, due) in state.due.iter().enumerate() {
                if *due {
                    acts.push((Act::Deliver { message, to }, true));
                } else if may_fail {
                    acts.push((Act::Copy { message, to }, false));
                }
            }
        }
        for by in (0..state.worked.len()).filter(|by| state.worked[*by].is_some()) {
            acts.push((Act::Write(by), true));
            if may_fail {
                acts.extend([true, false].map(|made| (Act::WriteLost { by, made }, false)));
            }
        }
        for (by, at) in state.sequencers.iter().enumerate() {
            match at {
                At::Nothing if state.ticks[by] > 0 => acts.push((Act::ReadLine(by), true)),
                At::Nothing => {}
                At::Reading { stripes, .. } if *stripes < STRIPES => acts.push((Act::ReadStripe(by), true)),
                At::Reading { .. } => acts.push((Act::Clean(by), true)),
                At::Ready { .. } => acts.extend(NOWS.map(|now| (Act::Append { by, now }, true))),
                At::Appended(_) => acts.push((Act::Clear(by), true)),
            }
            if may_fail && *at != At::Nothing {
                acts.push((Act::Stop(by), false));
            }
        }
        acts
    }

    fn after(&self, state: &State, act: Act) -> State {
        let mut next = state.clone();
        match act {
            Act::Deliver { message, to } => {
                next.due[message] = false;
                next.worked[to] = Some((message, self.people(message)));
            }
            Act::Copy { message, to } => {
                next.faults -= 1;
                next.worked[to] = Some((message, self.people(message)));
            }
            Act::Write(by) => {
                if let Some((_, left)) = &mut next.worked[by] {
                    let standing = next.table.try_join(left, self.sabotage);
                    let is_done = standing.is_empty();
                    left.retain(|person| !is_done && !standing.contains(&person.id));
                    if left.is_empty() {
                        next.worked[by] = None;
                    }
                }
            }
            Act::WriteLost { by, made } => {
                next.faults -= 1;
                if let Some((message, left)) = next.worked[by].take() {
                    if made {
                        next.table.try_join(&left, self.sabotage);
                    }
                    next.due[message] = true;
                }
            }
            Act::ReadLine(by) => {
                next.ticks[by] -= 1;
                next.sequencers[by] = At::Reading { line: state.table.line, stripes: 0, blocks: Vec::new() };
            }
            Act::ReadStripe(by) => {
                if let At::Reading { stripes, blocks, .. } = &mut next.sequencers[by] {
                    blocks.extend(state.table.stripe(*stripes).into_iter().map(|block| (block.name, block.people)));
                    *stripes += 1;
                }
            }
            Act::Clean(by) => {
                if let At::Reading { line, blocks, .. } = state.sequencers[by].clone() {
                    let mut found = blocks_of(blocks);
                    if self.sabotage != Sabotage::NotCleared {
                        next.table.clean(&line.line(), &mut found);
                    }
                    let blocks: Vec<_> = found.into_iter().map(|block| (block.name, block.people)).collect();
                    next.sequencers[by] = if blocks.is_empty() { At::Nothing } else { At::Ready { line, blocks } };
                }
            }
            Act::Append { by, now } => {
                if let At::Ready { line, blocks } = &state.sequencers[by] {
                    let run = sequence(&line.line(), blocks_of(blocks.clone()), now);
                    let made = run.filter(|(line, run)| next.table.append(line, run, self.sabotage));
                    next.sequencers[by] = made.map_or(At::Nothing, |(_, run)| At::Appended(run.taken));
                }
            }
            Act::Clear(by) => {
                if let At::Appended(taken) = &state.sequencers[by] {
                    next.table.clear(taken.iter().copied());
                    next.sequencers[by] = At::Nothing;
                }
            }
            Act::Stop(by) => {
                next.faults -= 1;
                next.sequencers[by] = At::Nothing;
            }
        }
        next
    }
}

impl Rules for Joining {
    type State = State;
    type Act = Act;

    fn steps(&mut self, state: &State) -> Result<Vec<Step<Self>>, (Act, String)> {
        let step = |(act, calm)| {
            let state = self.after(state, act);
            match state.table.judge(self.everybody()) {
                Ok(()) => Ok(Step { act, calm, state }),
                Err(what) => Err((act, what)),
            }
        };
        self.acts(state).into_iter().map(step).collect()
    }

    /// It does not matter which of two does what.
    fn same_as(&self, mut state: State) -> State {
        state.worked.sort_by_key(|worked| worked.as_ref().map(|(message, left)| (*message, left.clone())));
        state
    }

    /// One tick after the other, long after the last arrival, gives everybody a place and leaves no block.
    fn ended_well(&mut self, state: &State) -> Result<(), String> {
        let mut table = state.table.clone();
        for _ in 0..4 {
            let mut blocks: Vec<Block> = (0..STRIPES).flat_map(|stripe| table.stripe(stripe)).collect();
            table.clean(&table.line(), &mut blocks);
            if let Some((line, run)) = sequence(&table.line(), blocks, 1_000_000) {
                table.append(&line, &run, Sabotage::None);
                table.clear(run.taken);
            }
        }
        table.judge(self.everybody())?;
        let everybody = self.everybody().count();
        if table.line.joined == everybody as u64 && table.blocks.is_empty() {
            return Ok(());
        }
        Err(format!("{} of {everybody} have a place, and {} blocks are left", table.line.joined, table.blocks.len()))
    }

    fn describe(&self, _: &State, act: Act) -> String {
        format!("{act:?}")
    }
}

/// Clocks by which nobody, some and all have been held back for long enough.
const NOWS: [u64; 3] = [2_002, 2_003, 2_004];

pub(crate) fn person((number, arrival): (u8, u64)) -> Pending {
    let mut hash = [0; 16];
    hash[0] = number;
    Pending { arrival, id: PlaceId::of(1, hash), seats: 1 }
}

fn blocks_of(blocks: Vec<(BlockName, Vec<Pending>)>) -> Vec<Block> {
    blocks.into_iter().map(|(name, people)| Block { name, placed_at: None, people }).collect()
}

/// The line before anybody stands in it.
pub(crate) fn line() -> Line {
    let settings = Settings {
        tickets: 10,
        seats_max: 4,
        max_inside: None,
        opens_at: 0,
        closes_at: 4_102_444_800_000,
        paused: false,
        draws: false,
    };
    let scope = Scope { show_id: "evt_1".to_owned(), generation: 1, key_version: 1 };
    Line::open(scope, settings).expect("a line like others")
}
