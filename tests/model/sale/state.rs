//! The state between two remote calls, what may happen next in it, and what must never happen.

use std::collections::HashMap;

use serde_json::Value;
use tokio::runtime::Runtime;
use tonic::Code;

use super::{
    Sabotage,
    moment::{EXTENDED, Phase},
    payment,
    programs::{End, Next, Program, Programs, Told},
    role::Role,
    table::{Table, without_its_lease},
};
use crate::{
    decisions::{Numbered, SELF},
    gate::{Answer, Request},
    search::{Rules, Step},
    services::{Seats, inventory},
};

/// How often a message that comes back is delivered again while others are at work. All that are left come again at the end.
const AGAIN: u8 = 1;

/// How often the stream, the queues and the sweep go over what is left, until nothing is.
const ROUNDS: usize = 8;

/// Where somebody is.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum At {
    /// He has not begun, or his message waits.
    Waiting,
    /// So far in his program, and in that of the API when it is at work for him.
    Working(u32, Option<u32>),
    /// His message waits until all others have gone.
    Parked,
    Gone,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Actor {
    role: Role,
    at: At,
    again: u8,
}

impl Actor {
    fn new(role: Role) -> Self {
        Self { role, at: At::Waiting, again: AGAIN }
    }
}

/// Everything that is remembered somewhere.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    /// The reservation in its table, by number.
    item: Option<u16>,
    seats: Seats,
    phase: Phase,
    actors: Vec<Actor>,
    told: Told,
    /// The payment has gone through.
    is_paid: bool,
    /// The customer was told that the seat is held for him, that others have it, that he has more time.
    promised: bool,
    refused: bool,
    /// The messages of these are done, and what comes of them later is a duplicate.
    expiry_done: bool,
    giving_up_done: bool,
    sale_done: bool,
    /// How many things may still go wrong.
    faults: u8,
}

/// What happens next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// His request is carried out, and he hears the answer. A relay's first is that the stream brings it an item.
    Served(usize),
    /// It is carried out, and he hears of a fault.
    AnswerLost(usize),
    /// It is not carried out, and he hears of a fault.
    Refused(usize),
    /// He is gone. A message comes back.
    Crashed(usize),
    /// Whoever holds the lease has it no more. If he is still there, he goes on all the same.
    LeaseOver,
    /// Time passes.
    Later,
    /// The payment goes through.
    Paid,
}

/// A request to the table: its number, the item that it meets, and when.
type Asked = (u16, Option<u16>, Phase);

/// The answer, and the item after it.
type Written = (u16, Option<u16>);

/// The rules of all states; what it learns of the code and the services, it keeps.
pub(crate) struct Sale {
    runtime: Runtime,
    programs: Programs,
    table: Table,
    items: Numbered<String>,
    known: HashMap<u16, Item>,
    begun: HashMap<(Role, Option<u16>, Phase), At>,
    called: HashMap<u16, Option<u32>>,
    written: HashMap<Asked, Written>,
    moved: HashMap<(u16, Seats), (u16, Seats)>,
    stated: HashMap<(u16, bool), u16>,
    /// Items with one text in the place of another.
    renamed: HashMap<(u16, usize, bool), u16>,
    sabotage: Sabotage,
}

impl Sale {
    pub(crate) fn new(sabotage: Sabotage) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let programs = runtime.block_on(Programs::new());
        let table = runtime.block_on(Table::new(sabotage));
        Self {
            runtime,
            programs,
            table,
            items: Numbered::new(),
            known: HashMap::new(),
            begun: HashMap::new(),
            called: HashMap::new(),
            written: HashMap::new(),
            moved: HashMap::new(),
            stated: HashMap::new(),
            renamed: HashMap::new(),
            sabotage,
        }
    }

    pub(crate) fn start(&self, roles: &[Role], seats: Seats, faults: u8) -> State {
        let actors = roles.iter().copied().map(Actor::new).collect();
        let (told, phase) = (Told::default(), Phase::Early);
        State {
            item: None,
            seats,
            phase,
            actors,
            told,
            // Where nobody asks about it, it has gone through from the first: its event comes at any moment all the same.
            is_paid: !roles.contains(&Role::Confirm),
            promised: false,
            refused: false,
            expiry_done: false,
            giving_up_done: false,
            sale_done: false,
            faults,
        }
    }

    /// How many histories of a program were played.
    pub(crate) fn histories(&self) -> usize {
        self.programs.len()
    }

    pub(crate) fn ends(&self) -> Vec<String> {
        self.programs.ends()
    }

    fn item(&mut self, number: u16) -> Item {
        if let Some(known) = self.known.get(&number) {
            return *known;
        }
        let without_its_lease = without_its_lease(self.items.of(number)).map(|item| self.items.number_of(item));
        let known = Item::read(self.items.of(number), without_its_lease);
        self.known.insert(number, known);
        known
    }

    /// Whether somebody who waits has something to do.
    fn is_called(&mut self, state: &State, role: Role) -> bool {
        let Some(item) = state.item else { return role == Role::Create };
        match role {
            // A first request comes when it comes; after the deadline, only a repeat is left.
            Role::Create | Role::Cancel | Role::Extend | Role::Confirm | Role::Failed | Role::Expired => true,
            Role::Approved => state.is_paid,
            Role::Cancelled => state.told.given_up,
            Role::Confirmed => state.told.bought,
            Role::Relay => self.item(item).is_marked,
            // Before, it finds nothing that is missed.
            Role::Sweep => state.phase == Phase::Overdue,
        }
    }

    /// The program that somebody is at, with what he asks next; nothing, where he has nothing to do.
    fn asking(&mut self, state: &State, index: usize) -> Option<(At, u16)> {
        let Actor { role, at, .. } = state.actors[index];
        let at = match at {
            At::Gone | At::Parked => return None,
            At::Waiting if !self.is_called(state, role) => return None,
            At::Waiting => {
                // A relay begins with what the stream brings it, everybody else always alike.
                let beginning = (role, state.item.filter(|_| role == Role::Relay), state.phase);
                match self.begun.get(&beginning) {
                    Some(begun) => *begun,
                    None => {
                        let program = if role == Role::Relay {
                            Program::Relay(self.items.of(state.item?).clone(), state.phase)
                        } else {
                            Program::Of(role)
                        };
                        let node = self.runtime.block_on(self.programs.start(&program));
                        let begun = self.waiting_for_api(node);
                        self.begun.insert(beginning, begun);
                        begun
                    }
                }
            }
            At::Working(..) => at,
        };
        let At::Working(node, api) = at else { return None };
        match self.programs.next(api.unwrap_or(node)) {
            Next::Ask(asked) => Some((at, *asked)),
            Next::Ended(_) => None,
        }
    }

    /// A worker that asks the API waits for what the API asks.
    fn waiting_for_api(&mut self, node: u32) -> At {
        let Next::Ask(asked) = *self.programs.next(node) else { return At::Working(node, None) };
        let api = match (self.called.get(&asked), self.programs.request(asked)) {
            (Some(called), _) => *called,
            (None, request @ Request::Rest { .. }) => {
                let program = Program::Api(request.clone());
                let called = Some(self.runtime.block_on(self.programs.start(&program)));
                self.called.insert(asked, called);
                called
            }
            (
                None,
                Request::Aws { .. }
                | Request::Reserve(_)
                | Request::Commit(_)
                | Request::Release(_)
                | Request::Payment(_),
            ) => None,
        };
        At::Working(node, api)
    }

    fn advance(&mut self, state: &State, index: usize, act: Act) -> Result<State, String> {
        let (at, asked) = self.asking(state, index).expect("somebody with something to do");
        let At::Working(node, api) = at else { panic!("he is not at work: {at:?}") };
        let mut state = state.clone();
        if state.actors[index].at == At::Waiting {
            self.tell(&mut state, node);
            if state.actors[index].role == Role::Relay {
                state.actors[index].at = at;
                return Ok(state);
            }
        }
        let mut answer = None;
        if !matches!(act, Act::Refused(_)) {
            let said = match self.programs.request(asked) {
                Request::Aws { .. } => self.write(&mut state, index, asked)?,
                Request::Reserve(_) | Request::Commit(_) | Request::Release(_) => self.move_seats(&mut state, asked)?,
                Request::Payment(_) => self.ask_about_payment(&state, asked),
                Request::Rest { .. } => panic!("the API answers this"),
            };
            answer = matches!(act, Act::Served(_)).then_some(said);
        }
        let answer = match answer {
            Some(answer) => answer,
            None => {
                let fault = fault(self.programs.request(asked));
                self.programs.number_of(fault)
            }
        };
        let leaf = self.runtime.block_on(self.programs.after(api.unwrap_or(node), answer));
        self.tell(&mut state, leaf);
        let now_at = match (api, self.programs.next(leaf).clone()) {
            (Some(_), Next::Ended(End::Answered(answer))) => {
                let answer = self.programs.number_of(answer);
                let node = self.runtime.block_on(self.programs.after(node, answer));
                self.tell(&mut state, node);
                self.waiting_for_api(node)
            }
            (Some(_), _) => At::Working(node, Some(leaf)),
            (None, _) => self.waiting_for_api(leaf),
        };
        state.actors[index].at = now_at;
        if let At::Working(node, None) = now_at
            && let Next::Ended(end) = self.programs.next(node).clone()
        {
            self.end(&mut state, index, &end)?;
        }
        Ok(state)
    }

    fn tell(&self, state: &mut State, node: u32) {
        let mut told = self.programs.told(node);
        told.timer &= self.sabotage != Sabotage::TimerLost;
        state.told = state.told.and(told);
    }

    /// What the table does. The asker's own token goes by his number there.
    fn write(&mut self, state: &mut State, index: usize, asked: u16) -> Result<u16, String> {
        // Only a creation has a token.
        let is_owner = state.actors[index].role == Role::Create;
        let before = state.item;
        let seen = before.map(|item| if is_owner { self.renamed(item, index, true) } else { item });
        let known = (asked, seen, state.phase);
        let (answer, after) = match self.written.get(&known) {
            Some(written) => *written,
            None => {
                let item = seen.map(|item| self.items.of(item).as_str());
                let request = self.programs.request(asked);
                let done = self.runtime.block_on(self.table.carry_out(request, item, state.phase));
                let written = (self.programs.number_of(done.0), done.1.map(|item| self.items.number_of(item)));
                self.written.insert(known, written);
                written
            }
        };
        state.item = after.map(|item| if is_owner { self.renamed(item, index, false) } else { item });
        if before != state.item {
            let before = before.map(|item| self.item(item));
            let after = state.item.map(|item| self.item(item)).ok_or("the reservation is gone")?;
            changed(before, after, state)?;
        }
        Ok(answer)
    }

    /// The same item, with the asker's token by his number as his own, or the other way round.
    fn renamed(&mut self, item: u16, index: usize, as_own: bool) -> u16 {
        if let Some(renamed) = self.renamed.get(&(item, index, as_own)) {
            return *renamed;
        }
        let by_number = format!("{{actor {index}}}");
        let (from, to) = if as_own { (by_number.as_str(), SELF) } else { (SELF, by_number.as_str()) };
        let text = self.items.of(item).replace(from, to);
        let renamed = self.items.number_of(text);
        self.renamed.insert((item, index, as_own), renamed);
        renamed
    }

    fn ask_about_payment(&mut self, state: &State, asked: u16) -> u16 {
        let is_paid = state.is_paid || self.sabotage == Sabotage::PaidOnHisWord;
        if let Some(stated) = self.stated.get(&(asked, is_paid)) {
            return *stated;
        }
        let Request::Payment(question) = self.programs.request(asked) else { panic!("no question about a payment") };
        let answer = self.runtime.block_on(payment::answer(question, is_paid));
        let stated = self.programs.number_of(answer);
        self.stated.insert((asked, is_paid), stated);
        stated
    }

    fn move_seats(&mut self, state: &mut State, asked: u16) -> Result<u16, String> {
        let status = state.item.map_or("absent", |item| self.item(item).status);
        let request = self.programs.request(asked);
        match request {
            Request::Commit(_) if status != "CONFIRMED" => {
                return Err(format!("the sale of a reservation that is {status}"));
            }
            Request::Release(_) if !["EXPIRED", "CANCELLED"].contains(&status) => {
                return Err(format!("the release of a reservation that is {status}"));
            }
            Request::Reserve(_)
            | Request::Commit(_)
            | Request::Release(_)
            | Request::Payment(_)
            | Request::Aws { .. }
            | Request::Rest { .. } => {}
        }
        let known = (asked, state.seats);
        let (answer, mut after) = match self.moved.get(&known) {
            Some(moved) => *moved,
            None => {
                let (answer, after) = self.runtime.block_on(inventory(request, state.seats));
                let moved = (self.programs.number_of(answer), after);
                self.moved.insert(known, moved);
                moved
            }
        };
        if self.sabotage == Sabotage::NothingBarred && after == Seats::Barred {
            after = Seats::Open;
        }
        if state.seats == Seats::Sold && after != Seats::Sold {
            return Err(format!("the seats were sold and are {after:?}"));
        }
        state.seats = after;
        Ok(answer)
    }

    /// What follows the end of a program, and what must be true by then.
    fn end(&mut self, state: &mut State, index: usize, end: &End) -> Result<(), String> {
        let role = state.actors[index].role;
        let item = state.item.map(|item| self.item(item));
        let (status, was_held) = item.map_or(("absent", false), |item| (item.status, item.was_held));
        state.actors[index].at = At::Gone;
        match end {
            End::Held if !was_held => return Err("the customer was promised a seat that was never held".to_owned()),
            End::Held => state.promised = true,
            End::NoSeats if was_held => return Err("the customer was refused a seat that was held for him".to_owned()),
            End::NoSeats => state.refused = true,
            End::GivenUp if status != "CANCELLED" => return Err(format!("given up, and it is {status}")),
            End::Sold if status != "CONFIRMED" => return Err(format!("told that it is sold, and it is {status}")),
            End::Acknowledged(outcome) => {
                let owed = |what: &str| Err(format!("{role:?} was acknowledged as {outcome}, but {what}"));
                match (status, state.seats) {
                    ("PENDING" | "HOLD" | "absent", _) => return owed(&format!("the reservation is {status}")),
                    ("CONFIRMED", Seats::Held) if matches!(role, Role::Approved | Role::Confirmed) => {
                        return owed("its seats are not sold");
                    }
                    ("CONFIRMED", _) => {}
                    (_, _) if role == Role::Approved && !state.told.refund => return owed("nothing is refunded"),
                    ("EXPIRED", Seats::Held) if role == Role::Expired => return owed("its seats are held"),
                    ("CANCELLED", Seats::Held) if matches!(role, Role::Failed | Role::Cancelled) => {
                        return owed("its seats are held");
                    }
                    (_, _) => {}
                }
                state.expiry_done |= role == Role::Expired;
                state.giving_up_done |= role == Role::Cancelled;
                state.sale_done |= role == Role::Confirmed;
            }
            End::ComesBack => {
                let Actor { again, .. } = state.actors[index];
                let at = if again == 0 { At::Parked } else { At::Waiting };
                state.actors[index] = Actor { role, at, again: again.saturating_sub(1) };
            }
            End::DeadLettered(code) => return Err(format!("{role:?} was rejected as {code}")),
            End::GivenUp | End::Sold | End::MoreTime | End::Refused(_) | End::Over => {}
            End::Answered(_) => panic!("only the API answers so"),
        }
        if state.promised && state.refused {
            return Err("the customer was promised a seat, and refused it".to_owned());
        }
        Ok(())
    }

    /// One after the other, with nothing that goes wrong: what the stream, the queues and the clock bring until nothing is
    /// left to do.
    fn come_to_rest(&mut self, state: &State) -> Result<State, String> {
        let mut state = State { faults: 0, ..state.clone() };
        state.actors.retain(|actor| actor.at == At::Parked);
        for actor in &mut state.actors {
            actor.at = At::Waiting;
        }
        for _ in 0..ROUNDS {
            let before = state.clone();
            let messages = [
                (Role::Expired, state.told.timer && !state.expiry_done),
                (Role::Cancelled, state.told.given_up && !state.giving_up_done),
                (Role::Confirmed, state.told.bought && !state.sale_done),
            ];
            let messages = messages.into_iter().filter(|(_, is_there)| *is_there).map(|(role, _)| role);
            let more = [Role::Sweep, Role::Relay].into_iter().chain(messages);
            state.actors.extend(more.map(Actor::new));
            for index in 0..state.actors.len() {
                let mut again = true;
                while again && self.asking(&state, index).is_some() {
                    state = self.advance(&state, index, Act::Served(index))?;
                    again = matches!(state.actors[index].at, At::Working(..));
                }
            }
            // A message that came back comes once more in the next round.
            state.actors.retain(|actor| matches!(actor.at, At::Waiting | At::Parked) && before.is_owed(actor.role));
            state.actors.iter_mut().for_each(|actor| *actor = Actor::new(actor.role));
            if state == before {
                return Ok(state);
            }
        }
        Err("it never comes to rest".to_owned())
    }
}

impl State {
    /// Whether this one's message is no message of the stream's, the clock's or the queue's, which come anyway.
    fn is_owed(&self, role: Role) -> bool {
        self.actors.iter().any(|actor| actor.role == role) && matches!(role, Role::Approved | Role::Failed)
    }

    /// Whether there is a payment that has yet to go through, and somebody for whom that matters.
    fn may_still_be_paid(&self) -> bool {
        let asks = |actor: &Actor| matches!(actor.role, Role::Confirm | Role::Approved) && actor.at != At::Gone;
        !self.is_paid && self.actors.iter().any(asks)
    }
}

impl Rules for Sale {
    type State = State;
    type Act = Act;

    fn steps(&mut self, state: &State) -> Result<Vec<Step<Self>>, (Act, String)> {
        let mut steps = Vec::new();
        let faults = state.faults > 0;
        let after_fault = State { faults: state.faults.saturating_sub(1), ..state.clone() };
        for index in 0..state.actors.len() {
            if self.asking(state, index).is_none() {
                continue;
            }
            for (act, calm) in
                [(Act::Served(index), true), (Act::AnswerLost(index), false), (Act::Refused(index), false)]
            {
                let begins = state.actors[index].at == At::Waiting && state.actors[index].role == Role::Relay;
                if calm || (faults && !begins) {
                    let before = if calm { state } else { &after_fault };
                    let state = self.advance(before, index, act).map_err(|breach| (act, breach))?;
                    steps.push(Step { act, calm, state });
                }
            }
            let Actor { role, at, .. } = state.actors[index];
            if faults && at != At::Waiting {
                let mut state = after_fault.clone();
                let comes_back = role.event_type().is_some();
                state.actors[index].at = if comes_back { At::Waiting } else { At::Gone };
                steps.push(Step { act: Act::Crashed(index), calm: false, state });
            }
        }
        if let Some(item) = state.item {
            let without = self.item(item).without_its_lease;
            if let (Some(item), Phase::Early) = (without, state.phase) {
                let state = State { item: Some(item), ..state.clone() };
                steps.push(Step { act: Act::LeaseOver, calm: true, state });
            }
            if let Some(phase) = state.phase.next() {
                let state = State { item: without.or(state.item), phase, ..state.clone() };
                steps.push(Step { act: Act::Later, calm: true, state });
            }
        }
        if state.may_still_be_paid() {
            steps.push(Step { act: Act::Paid, calm: true, state: State { is_paid: true, ..state.clone() } });
        }
        Ok(steps)
    }

    fn same_as(&self, state: State) -> State {
        state
    }

    fn ended_well(&mut self, state: &State) -> Result<(), String> {
        let end = self.come_to_rest(state)?;
        let Some(item) = end.item else {
            return if end.seats == Seats::Held { Err("seats are held for nobody".to_owned()) } else { Ok(()) };
        };
        let item = self.item(item);
        let (status, told) = (item.status, end.told);
        let (good, is_told) = match status {
            "CONFIRMED" => (end.seats == Seats::Sold, told.confirmed),
            "EXPIRED" => (!matches!(end.seats, Seats::Held | Seats::Sold), told.expired),
            "CANCELLED" => (!matches!(end.seats, Seats::Held | Seats::Sold), told.cancelled),
            "FAILED" => (!matches!(end.seats, Seats::Held | Seats::Sold), told.failed),
            status => return Err(format!("the reservation is left {status}")),
        };
        if !good {
            return Err(format!("the reservation is {status} and its seats are {:?}", end.seats));
        }
        if !is_told || item.is_marked || (item.was_held && !told.created) {
            return Err(format!("the reservation is {status}, and not all of it was told: {told:?}"));
        }
        if told.refund && status == "CONFIRMED" {
            return Err("the payment is refunded, and its reservation is CONFIRMED".to_owned());
        }
        if end.actors.is_empty() { Ok(()) } else { Err(format!("these can't go on: {:?}", end.actors)) }
    }

    fn describe(&self, state: &State, act: Act) -> String {
        match act {
            Act::LeaseOver | Act::Later | Act::Paid => format!("{act:?}"),
            Act::Served(index) | Act::AnswerLost(index) | Act::Refused(index) | Act::Crashed(index) => {
                let Actor { role, at, .. } = state.actors[index];
                let asked = match at {
                    At::Working(node, api) => match self.programs.next(api.unwrap_or(node)) {
                        Next::Ask(asked) => format!("{:?}", self.programs.request(*asked)),
                        Next::Ended(end) => format!("{end:?}"),
                    },
                    At::Waiting | At::Parked | At::Gone => "its first request".to_owned(),
                };
                format!("{act:?} {role:?} at {asked}")
            }
        }
    }
}

/// What the search looks at in a reservation.
#[derive(Clone, Copy)]
struct Item {
    status: &'static str,
    version: u64,
    was_held: bool,
    /// It has events that nobody has heard of.
    is_marked: bool,
    is_extended: bool,
    /// The same when the lease of whoever is at it is over, if anybody is.
    without_its_lease: Option<u16>,
}

impl Item {
    /// What the text of an item says.
    fn read(text: &str, without_its_lease: Option<u16>) -> Self {
        const STATUS: [&str; 6] = ["PENDING", "HOLD", "CONFIRMED", "CANCELLED", "EXPIRED", "FAILED"];

        let item: Value = serde_json::from_str(text).expect("an item in JSON");
        let status = STATUS.into_iter().find(|status| item["status"]["S"] == *status);
        let version = item["version"]["N"].as_str().and_then(|version| version.parse().ok());
        Self {
            status: status.unwrap_or_else(|| panic!("the model does not know such a reservation: {text}")),
            version: version.expect("a version is a number"),
            was_held: !item["held_at"].is_null(),
            is_marked: !item["unpublished"].is_null(),
            is_extended: item["hold_expires_at"]["N"] == EXTENDED,
            without_its_lease,
        }
    }
}

/// What a change must not be.
fn changed(before: Option<Item>, after: Item, state: &State) -> Result<(), String> {
    let phase = state.phase;
    let (was, is) = (before.map_or("absent", |before| before.status), after.status);
    let forward = match (was, is) {
        ("absent", "PENDING") | ("PENDING", "HOLD" | "FAILED" | "EXPIRED") => true,
        ("HOLD", "CONFIRMED" | "CANCELLED" | "EXPIRED") => true,
        (was, is) => was == is,
    };
    if !forward {
        return Err(format!("the reservation was {was} and is {is}"));
    }
    if was != is && is == "CONFIRMED" && !state.is_paid {
        return Err("the reservation is CONFIRMED and not paid".to_owned());
    }
    if before.is_some_and(|before| before.version > after.version) {
        return Err("the version fell".to_owned());
    }
    let due = if after.is_extended { Phase::Overdue } else { Phase::Late };
    if was != is && is == "EXPIRED" && phase < due {
        return Err("the reservation expired before its deadline".to_owned());
    }
    Ok(())
}

/// What is heard when a service is not well; whether anything was done, it does not tell.
fn fault(request: &Request) -> Answer {
    match request {
        Request::Aws { .. } => Answer::Http { status: 400, body: r#"{"__type":"AccessDeniedException"}"#.to_owned() },
        Request::Reserve(_) | Request::Commit(_) | Request::Release(_) | Request::Payment(_) => {
            Answer::Grpc(Code::Unavailable, "not well".to_owned())
        }
        Request::Rest { .. } => Answer::Http { status: 503, body: String::new() },
    }
}
