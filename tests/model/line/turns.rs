//! Turns, step by step: customers who ask, reserve, pay, leave or are silent; ticks that read one place after the other; what
//! looks after a reservation and lets its place follow; and time, which goes from one deadline to the next.
//!
//! What decides is real: `plan`, and what becomes of an entry. A token can be used at any time, as if the clock of the
//! reservation API did not exist, because nothing may rest on it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use shared::waiting_room::{
    line::{Line, Terms},
    place::{Change, Entry, Found, Judged, RECALLS, State as Is},
    plan::{Pages, Person, Plan, candidates, plan},
};

use super::joining::{line, person};
use crate::search::{Rules, Step};

/// What is broken on purpose, to show that the search finds it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    None,
    /// Who has no reservation when his turn ends is taken to have none for ever.
    NoTombstone,
    /// A place is written over, whatever it has become since it was read.
    Unconditional,
    /// A tick's calls are written whatever other ticks have written since it read.
    VersionUnseen,
}

/// Who takes part, and how often.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cast {
    pub(crate) tickets: u32,
    /// The tickets that each wants, how often he asks, and whether he may leave.
    pub(crate) customers: &'static [(u8, u8, bool)],
    pub(crate) ticks: [u8; 2],
    /// How often time goes on.
    pub(crate) passes: u8,
    pub(crate) faults: u8,
}

/// Everybody's windows, in milliseconds. They differ, so that deadlines do.
const TERMS: Terms = Terms {
    call_window: Duration::from_millis(10),
    booking_window: Duration::from_millis(BOOKING),
    release_grace: Duration::from_millis(5),
    silence: Duration::from_secs(86_400),
};

/// From a claim to the end of the right to reserve.
const BOOKING: u64 = 20;

/// From a reservation's creation to its deadline.
const HOLD: u64 = 15;

/// What the clock shows in every state: deadlines are kept by how far they lie ahead.
const NOW: u64 = 1_000_000;

/// What looks after the reservation of a place: the place as it was read, and what was found.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct Errand {
    position: u64,
    entry: Entry,
    found: Option<Known>,
}

/// A reservation, or what is known of one.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
enum Known {
    Absent,
    Pending { until: u64, seats: u8 },
    Held { until: u64, seats: u8 },
    Sold { seats: u8 },
    Ended { was_held: bool },
    Tombstone,
}

impl Known {
    fn found(self) -> Found {
        match self {
            Self::Absent => Found::Absent,
            Self::Pending { until, .. } => Found::Pending { until },
            Self::Held { until, seats } => Found::Held { until, seats },
            Self::Sold { seats } => Found::Sold { seats },
            Self::Ended { was_held } => Found::Ended { was_held },
            Self::Tombstone => Found::Entombed,
        }
    }

    /// The tickets that it has or will have.
    fn seats(self) -> u32 {
        match self {
            Self::Pending { seats, .. } | Self::Held { seats, .. } | Self::Sold { seats } => u32::from(seats),
            Self::Absent | Self::Ended { .. } | Self::Tombstone => 0,
        }
    }
}

/// A tick that reads.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Tick {
    /// Whether nobody has written the line since it was read.
    is_current: bool,
    serving: u64,
    back: BTreeSet<u64>,
    read: Vec<Entry>,
}

/// Everything that is remembered somewhere.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    /// The places whose turn has come, by position.
    entries: Vec<Entry>,
    back: BTreeSet<u64>,
    /// Whose item says that he left.
    gone: BTreeSet<u64>,
    /// The reservation API: by position and call.
    reservations: BTreeMap<(u64, u16), Known>,
    /// The tokens that were given out, with the tickets that they are good for.
    tokens: BTreeMap<(u64, u16), u8>,
    /// The events that are on their way.
    events: BTreeSet<(u64, u16)>,
    ticks: [Option<Tick>; 2],
    errands: Vec<Errand>,
    polls: Vec<u8>,
    ticks_left: [u8; 2],
    passes: u8,
    faults: u8,
}

impl State {
    pub(crate) fn new(cast: &Cast) -> Self {
        Self {
            entries: Vec::new(),
            back: BTreeSet::new(),
            gone: BTreeSet::new(),
            reservations: BTreeMap::new(),
            tokens: BTreeMap::new(),
            events: BTreeSet::new(),
            ticks: [None, None],
            errands: Vec::new(),
            polls: cast.customers.iter().map(|(_, polls, _)| *polls).collect(),
            ticks_left: cast.ticks,
            passes: cast.passes,
            faults: cast.faults,
        }
    }

    /// Nobody has answered his call.
    pub(crate) fn of_the_silent(cast: &Cast) -> Self {
        let passed = |(seats, _, _): &(u8, u8, bool)| {
            let called = Entry::called(*seats, 0);
            called.after(Change::Pass { at: 0 }).expect("a call that ran out")
        };
        Self { entries: cast.customers.iter().map(passed).collect(), ..Self::new(cast) }
    }

    fn entry(&self, position: u64) -> Option<Entry> {
        let index = usize::try_from(position.checked_sub(1)?).ok()?;
        self.entries.get(index).copied()
    }

    /// Since when a place is what it stays is nobody's business here.
    fn set(&mut self, position: u64, mut entry: Entry) {
        if matches!(entry.state, Is::Sold | Is::Passed | Is::GivenUp) {
            entry.deadline = 0;
        }
        let index = usize::try_from(position - 1).expect("a position");
        if index == self.entries.len() {
            self.entries.push(entry);
        } else {
            self.entries[index] = entry;
        }
    }

    fn reservation(&self, position: u64, call: u16) -> Known {
        self.reservations.get(&(position, call)).copied().unwrap_or(Known::Absent)
    }

    fn becomes(&mut self, key: (u64, u16), known: Known) {
        self.reservations.insert(key, known);
        self.events.insert(key);
    }

    /// Writes what a tick planned, if nobody has written the line or a place of it since.
    fn carry_out(&mut self, tick: &Tick, made: &Plan, sabotage: Sabotage) -> bool {
        let is_known = sabotage == Sabotage::VersionUnseen || tick.is_current;
        let is_there = made.moves.iter().all(|made| self.entry(made.position) == made.from);
        if !(is_known && is_there) {
            return false;
        }
        for other in self.ticks.iter_mut().flatten() {
            other.is_current = false;
        }
        for made in &made.moves {
            self.set(made.position, made.to);
        }
        for position in &made.answered {
            self.back.remove(position);
        }
        true
    }

    /// The next deadline.
    fn next_deadline(&self) -> Option<u64> {
        let of_reservations = self.reservations.values().filter_map(|known| match known {
            Known::Pending { until, .. } | Known::Held { until, .. } => Some(*until),
            Known::Absent | Known::Sold { .. } | Known::Ended { .. } | Known::Tombstone => None,
        });
        let of_places = self.entries.iter().filter(|entry| entry.state != Is::Sold && entry.counts(NOW));
        of_places.map(|entry| entry.deadline).chain(of_reservations).filter(|at| *at > NOW).min()
    }

    /// Lets time go on to the next deadline: everything comes nearer.
    fn pass(&mut self, until: u64) {
        let by = until - NOW;
        let nearer = |at: &mut u64| *at = at.saturating_sub(by).max(NOW);
        let aged = |entry: &mut Entry| match entry.state {
            Is::Sold | Is::Passed | Is::GivenUp => {}
            Is::Called | Is::Admitted | Is::Leaving | Is::Holding | Is::Ended => nearer(&mut entry.deadline),
        };
        self.entries.iter_mut().for_each(aged);
        self.ticks.iter_mut().flatten().flat_map(|tick| &mut tick.read).for_each(aged);
        self.errands.iter_mut().for_each(|errand| aged(&mut errand.entry));
        let found = self.errands.iter_mut().filter_map(|errand| errand.found.as_mut());
        for known in self.reservations.values_mut().chain(found) {
            if let Known::Pending { until, .. } | Known::Held { until, .. } = known {
                nearer(until);
            }
        }
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    /// A customer asks where he stands, which is a claim where it is his turn.
    Poll(u64),
    Leave(u64),
    /// He reserves with the token of this call.
    Create(u64, u16),
    Hold(u64, u16),
    NoSeats(u64, u16),
    Pay(u64, u16),
    /// A reservation's own time is over.
    Expire(u64, u16),
    /// An event about a reservation arrives.
    Hear(u64, u16),
    /// One comes once more.
    HearAgain(u64, u16),
    /// One never arrives.
    Lose(u64, u16),
    Begin(usize),
    ReadPlace(usize),
    CarryOut(usize),
    Stop(usize),
    /// What looks after a reservation asks for it, ends it before it is made, or lets the place follow.
    Errand(usize),
    GiveErrandUp(usize),
    Pass,
}

/// The rules of turns.
pub(crate) struct Turns {
    cast: Cast,
    sabotage: Sabotage,
}

impl Turns {
    pub(crate) fn new(cast: Cast, sabotage: Sabotage) -> Self {
        Self { cast, sabotage }
    }

    fn line(&self, serving: u64) -> Line {
        let mut line = line();
        line.settings.tickets = self.cast.tickets;
        line.joined = self.cast.customers.len() as u64;
        Line { serving, ..line }
    }

    fn plan(&self, state: &State, tick: &Tick) -> Plan {
        let line = self.line(tick.serving);
        let pages = Pages { first: 0, entries: (1..).zip(tick.read.iter().copied()).collect() };
        let (again, next) = candidates(&line, &pages, &tick.back, NOW, &TERMS);
        let known = |position: u64| {
            let (seats, _, _) = self.cast.customers[usize::try_from(position - 1).expect("a position")];
            let number = u8::try_from(position).expect("few places");
            let is_gone = state.gone.contains(&position);
            (position, Person { id: person((number, 0)).id, seats, seen: NOW, is_gone })
        };
        let people = again.into_iter().chain(next).map(known).collect();
        plan(&line, &pages, &tick.back, &people, NOW, &TERMS)
    }

    /// Every act that is possible, and whether nothing goes wrong with it.
    fn acts(&self, state: &State) -> Vec<(Act, bool)> {
        let mut acts = Vec::new();
        let may_fail = state.faults > 0;
        for (position, (_, _, may_leave)) in (1..).zip(self.cast.customers) {
            let left = state.polls[usize::try_from(position - 1).expect("a position")];
            let asks = state.entry(position).is_some_and(|entry| match entry.state {
                Is::Called | Is::Admitted => true,
                Is::Passed => entry.passed <= RECALLS && !state.back.contains(&position),
                Is::Leaving | Is::Holding | Is::Sold | Is::Ended | Is::GivenUp => false,
            });
            if left > 0 && asks {
                acts.push((Act::Poll(position), true));
            }
            let stands = state.entry(position).is_none_or(|entry| entry.after(Change::GiveUp { at: NOW }).is_some());
            if *may_leave && stands && !state.gone.contains(&position) {
                acts.push((Act::Leave(position), true));
            }
        }
        for (position, call) in state.tokens.keys().copied() {
            if state.reservation(position, call) == Known::Absent {
                acts.push((Act::Create(position, call), true));
            }
        }
        for ((position, call), known) in &state.reservations {
            let (position, call) = (*position, *call);
            match known {
                Known::Pending { until, .. } => {
                    acts.push((Act::Hold(position, call), true));
                    acts.push((Act::NoSeats(position, call), true));
                    if *until <= NOW {
                        acts.push((Act::Expire(position, call), true));
                    }
                }
                Known::Held { until, .. } => {
                    acts.push((Act::Pay(position, call), true));
                    if *until <= NOW {
                        acts.push((Act::Expire(position, call), true));
                    }
                }
                Known::Absent | Known::Sold { .. } | Known::Ended { .. } | Known::Tombstone => {}
            }
            if may_fail && state.errands.len() < 2 && self.is_current(state, position, call) {
                acts.push((Act::HearAgain(position, call), false));
            }
        }
        for (position, call) in state.events.iter().copied() {
            if state.errands.len() < 2 {
                acts.push((Act::Hear(position, call), true));
            }
            if may_fail {
                acts.push((Act::Lose(position, call), false));
            }
        }
        for (by, tick) in state.ticks.iter().enumerate() {
            match tick {
                None if state.ticks_left[by] > 0 => acts.push((Act::Begin(by), true)),
                None => {}
                Some(tick) if (tick.read.len() as u64) < tick.serving => acts.push((Act::ReadPlace(by), true)),
                Some(_) => acts.push((Act::CarryOut(by), true)),
            }
            if may_fail && tick.is_some() {
                acts.push((Act::Stop(by), false));
            }
        }
        for number in 0..state.errands.len() {
            acts.push((Act::Errand(number), true));
            if may_fail {
                acts.push((Act::GiveErrandUp(number), false));
            }
        }
        if state.passes > 0 && state.next_deadline().is_some() {
            acts.push((Act::Pass, true));
        }
        acts
    }

    /// Whether a reservation of this call is looked after.
    fn is_current(&self, state: &State, position: u64, call: u16) -> bool {
        state.entry(position).is_some_and(|entry| entry.call == call && entry.state.is_inside())
    }

    fn hear(&self, state: &mut State, position: u64, call: u16) {
        if let Some(entry) = state.entry(position).filter(|_| self.is_current(state, position, call)) {
            state.errands.push(Errand { position, entry, found: None });
        }
    }

    /// One request of what looks after a reservation. Whether it is done.
    fn run(&self, state: &mut State, errand: &mut Errand) -> bool {
        let Errand { position, entry, found } = errand;
        let key = (*position, entry.call);
        let Some(known) = *found else {
            *found = Some(state.reservation(key.0, key.1));
            return false;
        };
        let to = match entry.judged(known.found(), NOW, &TERMS) {
            Judged::Stays => return true,
            Judged::Becomes(to) => to,
            Judged::Entomb if self.sabotage == Sabotage::NoTombstone => {
                *found = Some(Known::Tombstone);
                return false;
            }
            Judged::Entomb => {
                let there = *state.reservations.entry(key).or_insert(Known::Tombstone);
                *found = Some(there);
                return false;
            }
        };
        if self.sabotage == Sabotage::Unconditional || state.entry(*position) == Some(*entry) {
            state.set(*position, to);
            if to.state == Is::GivenUp {
                state.gone.insert(*position);
            }
        }
        true
    }

    fn after(&self, state: &State, act: Act) -> State {
        let mut next = state.clone();
        match act {
            Act::Poll(position) => {
                next.polls[usize::try_from(position - 1).expect("a position")] -= 1;
                let entry = state.entry(position).expect("a place");
                let entry = entry.after(Change::Claim { until: NOW + BOOKING }).unwrap_or(entry);
                next.set(position, entry);
                match entry.state {
                    Is::Admitted => drop(next.tokens.insert((position, entry.call), entry.seats)),
                    Is::Passed => drop(next.back.insert(position)),
                    Is::Called | Is::Leaving | Is::Holding | Is::Sold | Is::Ended | Is::GivenUp => {}
                }
            }
            Act::Leave(position) => {
                let entry = state.entry(position).and_then(|entry| entry.after(Change::GiveUp { at: NOW }));
                if let Some(entry) = entry {
                    next.set(position, entry);
                }
                // Nothing is noted while he may have a reservation.
                if entry.is_none_or(|entry| entry.state == Is::GivenUp) {
                    next.gone.insert(position);
                }
            }
            Act::Create(position, call) => {
                let seats = state.tokens[&(position, call)];
                next.reservations.insert((position, call), Known::Pending { until: NOW + HOLD, seats });
            }
            Act::Hold(position, call) => {
                if let Known::Pending { until, seats } = state.reservation(position, call) {
                    next.becomes((position, call), Known::Held { until, seats });
                }
            }
            Act::NoSeats(position, call) => next.becomes((position, call), Known::Ended { was_held: false }),
            Act::Pay(position, call) => {
                if let Known::Held { seats, .. } = state.reservation(position, call) {
                    next.becomes((position, call), Known::Sold { seats });
                }
            }
            Act::Expire(position, call) => {
                let was_held = matches!(state.reservation(position, call), Known::Held { .. });
                next.becomes((position, call), Known::Ended { was_held });
            }
            Act::Hear(position, call) => {
                next.events.remove(&(position, call));
                self.hear(&mut next, position, call);
            }
            Act::HearAgain(position, call) => {
                next.faults -= 1;
                self.hear(&mut next, position, call);
            }
            Act::Lose(position, call) => {
                next.faults -= 1;
                next.events.remove(&(position, call));
            }
            Act::Begin(by) => {
                next.ticks_left[by] -= 1;
                let serving = state.entries.len() as u64;
                let back = state.back.clone();
                next.ticks[by] = Some(Tick { is_current: true, serving, back, read: Vec::new() });
            }
            Act::ReadPlace(by) => {
                if let Some(tick) = &mut next.ticks[by] {
                    tick.read.push(state.entries[tick.read.len()]);
                }
            }
            Act::CarryOut(by) => {
                if let Some(tick) = next.ticks[by].take() {
                    let made = self.plan(state, &tick);
                    if !next.carry_out(&tick, &made, self.sabotage) {
                        return next;
                    }
                    for (position, entry) in made.overdue {
                        let errand = Errand { position, entry, found: None };
                        if next.errands.len() < 2 && !next.errands.contains(&errand) {
                            next.errands.push(errand);
                        }
                    }
                }
            }
            Act::Stop(by) => {
                next.faults -= 1;
                next.ticks[by] = None;
            }
            Act::Errand(number) => {
                let mut errand = next.errands.remove(number);
                if !self.run(&mut next, &mut errand) {
                    next.errands.insert(number, errand);
                }
            }
            Act::GiveErrandUp(number) => {
                next.faults -= 1;
                next.errands.remove(number);
            }
            Act::Pass => {
                next.passes -= 1;
                next.pass(state.next_deadline().expect("a deadline"));
            }
        }
        next
    }

    fn judge(&self, before: &State, state: &State) -> Result<(), String> {
        let counting: u32 =
            state.entries.iter().filter(|entry| entry.counts(NOW)).map(|entry| u32::from(entry.seats)).sum();
        if counting > self.cast.tickets {
            return Err(format!("{counting} tickets of {} are taken", self.cast.tickets));
        }
        let mut rights = 0;
        for position in (1..).take(self.cast.customers.len()) {
            let of_his = |(at, _): &(u64, u16)| *at == position;
            let made = state.reservations.iter().filter(|(key, _)| of_his(key)).map(|(_, known)| known.seats());
            let live: Vec<u32> = made.filter(|seats| *seats > 0).collect();
            if live.len() > 1 {
                return Err(format!("place {position} has {} reservations", live.len()));
            }
            let tokens = state.tokens.iter().filter(|(key, _)| of_his(key));
            let unused = tokens.filter(|((at, call), _)| state.reservation(*at, *call) == Known::Absent);
            rights += live.into_iter().sum::<u32>() + unused.map(|(_, seats)| u32::from(*seats)).sum::<u32>();
        }
        if rights > self.cast.tickets {
            return Err(format!("{rights} tickets of {} can be had", self.cast.tickets));
        }
        for (position, (was, is)) in (1..).zip(before.entries.iter().zip(&state.entries)) {
            if matches!(was.state, Is::Sold | Is::GivenUp) && is.state != was.state {
                return Err(format!("place {position} was {:?} for good and is {:?}", was.state, is.state));
            }
        }
        for (key, seats) in &before.tokens {
            if state.tokens.get(key) != Some(seats) {
                return Err(format!("the token of place {} has changed", key.0));
            }
        }
        if state.entries.len() < before.entries.len() {
            return Err("a turn that had come is to come again".to_owned());
        }
        Ok(())
    }

    /// A tick whole, with all that it looks after.
    fn tick(&self, state: &mut State) {
        let serving = state.entries.len() as u64;
        let (back, read) = (state.back.clone(), state.entries.clone());
        let tick = Tick { is_current: true, serving, back, read };
        let made = self.plan(state, &tick);
        state.carry_out(&tick, &made, Sabotage::None);
        for (position, entry) in made.overdue {
            let mut errand = Errand { position, entry, found: None };
            while !self.run(state, &mut errand) {}
        }
    }
}

impl Rules for Turns {
    type State = State;
    type Act = Act;

    fn steps(&mut self, state: &State) -> Result<Vec<Step<Self>>, (Act, String)> {
        let step = |(act, calm)| {
            let after = self.after(state, act);
            self.judge(state, &after).map(|()| Step { act, calm, state: after }).map_err(|what| (act, what))
        };
        self.acts(state).into_iter().map(step).collect()
    }

    /// It does not matter in which order things are looked after.
    fn same_as(&self, mut state: State) -> State {
        state.errands.sort();
        state
    }

    /// While everybody is silent and ticks go on, every turn ends, and no ticket stays free while somebody waits for it.
    fn ended_well(&mut self, state: &State) -> Result<(), String> {
        let mut state = State { ticks: [None, None], errands: Vec::new(), ..state.clone() };
        for _ in 0..60 {
            for (position, call) in state.reservations.keys().copied().collect::<Vec<_>>() {
                if matches!(state.reservation(position, call), Known::Pending { until, .. } | Known::Held { until, .. } if until <= NOW)
                {
                    state = self.after(&state, Act::Expire(position, call));
                }
            }
            let before = state.clone();
            self.tick(&mut state);
            self.judge(&before, &state)?;
            match state.next_deadline() {
                Some(until) => state.pass(until),
                None if state == before => break,
                None => {}
            }
        }
        if let Some(open) = state.entries.iter().find(|entry| entry.state.is_inside()) {
            return Err(format!("a turn never ends: {open}"));
        }
        let sold: u32 = state.reservations.values().map(|known| known.seats()).sum();
        let known: u32 =
            state.entries.iter().filter(|entry| entry.state == Is::Sold).map(|entry| u32::from(entry.seats)).sum();
        if sold != known {
            return Err(format!("{sold} tickets are sold, and the line knows of {known}"));
        }
        if sold < self.cast.tickets && state.entries.len() < self.cast.customers.len() {
            return Err(format!("{} tickets are free, and somebody waits", self.cast.tickets - sold));
        }
        Ok(())
    }

    fn describe(&self, state: &State, act: Act) -> String {
        let entries: Vec<String> = state.entries.iter().map(ToString::to_string).collect();
        format!("{act:?}, at {}", entries.join(" "))
    }
}
