//! The state between two remote calls, and what may happen next in it.

use std::collections::{BTreeSet, HashMap};

use local_stack::{catalogue::Settling, reservations::Status};
use tokio::runtime::Runtime;
use tonic::Code;

use crate::{
    decisions::{Decisions, Next},
    gate::{Answer, Request},
    kind::{KINDS, Kind},
    rules::{judge, owed},
    search::{Rules, Step},
    services::{Claim, Dialect, Held, Lease, Part, Sabotage, Seats, Services},
};

/// Where one delivery is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct Delivery {
    /// A history of [`Decisions`], or [`Delivery::GONE`]. The first history of a kind is a message that waits.
    pub(crate) at: u16,
    /// Whether the claim of its key carries the token of the worker that is at it now.
    pub(crate) owner: bool,
}

impl Delivery {
    /// Its message was acknowledged.
    pub(crate) const GONE: u16 = u16::MAX;
}

/// Everything that is remembered somewhere.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    pub(crate) reservation: Held,
    pub(crate) seats: Seats,
    /// By kind: each has a key of its own.
    pub(crate) claims: [Claim; KINDS],
    /// By kind: whether the refund of its payment was requested.
    pub(crate) refunds: [bool; KINDS],
    pub(crate) deliveries: Vec<Delivery>,
    faults: Faults,
}

/// What may still go wrong.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Faults {
    /// So many things.
    Left(u8),
    /// Anything, any number of times.
    Any,
}

/// What happens next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Act {
    /// A worker's request is carried out and answered. That of a waiting message is its claim.
    Served(usize),
    /// It is carried out, and the answer does not arrive.
    AnswerLost(usize),
    /// It is not carried out, and the worker hears of a fault.
    Refused(usize),
    /// The worker is gone; its message comes back.
    Crashed(usize),
    /// The lease of whoever holds the claim is over. If that worker is still there, it goes on all the same.
    LeaseOver(Kind),
}

/// The rules of all states; what it learns of the code and the services, it keeps.
pub(crate) struct Model {
    runtime: Runtime,
    decisions: Decisions,
    services: Services,
    seen: HashMap<(u16, Part), (u16, Part)>,
    kinds: Vec<Kind>,
    /// Where something may go wrong, deliveries of one kind are taken for interchangeable. Without faults every delivery is
    /// told apart, so that the interleavings are all counted.
    told_apart: bool,
}

impl Model {
    pub(crate) fn new(dialect: Dialect, sabotage: Sabotage, function: fn(Kind) -> Settling) -> Self {
        let runtime = Runtime::new().expect("a runtime");
        let decisions = runtime.block_on(Decisions::new(function));
        let services = runtime.block_on(Services::start(dialect, sabotage));
        Self { runtime, decisions, services, seen: HashMap::new(), kinds: Vec::new(), told_apart: true }
    }

    pub(crate) fn start(&mut self, kinds: &[Kind], faults: Faults) -> State {
        self.kinds = kinds.to_vec();
        self.told_apart = faults == Faults::Left(0);
        State {
            reservation: Held { status: Status::Hold, paid_by: None },
            seats: Seats::Held,
            claims: [Claim::Absent; KINDS],
            refunds: [false; KINDS],
            deliveries: kinds.iter().map(|kind| Delivery { at: waiting_at(*kind), owner: false }).collect(),
            faults,
        }
    }

    fn waiting(&self, index: usize) -> Delivery {
        Delivery { at: waiting_at(self.kinds[index]), owner: false }
    }

    fn advance(&mut self, state: &State, index: usize, act: Act) -> Result<State, String> {
        let Delivery { at, owner } = state.deliveries[index];
        let Next::Ask(asked) = *self.decisions.next(at) else { panic!("a worker that ended was not taken away") };
        let (kind, mut state) = (self.kinds[index], state.clone());
        let mut answer = None;
        if act != Act::Refused(index) {
            let part = match self.decisions.request(asked) {
                Request::Rest { .. } => Part::Reservation(state.reservation),
                Request::Reserve(_) | Request::Commit(_) | Request::Release(_) => Part::Seats(state.seats),
                Request::Aws { target, .. } if target.ends_with("PutEvents") => Part::Bus(false),
                Request::Aws { .. } => Part::Claim(state.claims[kind.index()], owner),
                request @ Request::Payment(_) => panic!("no worker asks this: {request:?}"),
            };
            let (said, after) = self.carry_out(asked, part);
            judge(state.reservation, self.decisions.request(asked), part, after)?;
            match after {
                Part::Reservation(held) => state.reservation = held,
                Part::Seats(seats) => state.seats = seats,
                Part::Bus(taken) => state.refunds[kind.index()] |= taken,
                Part::Claim(claim, own) => {
                    state.claims[kind.index()] = claim;
                    for (delivery, of) in state.deliveries.iter_mut().zip(&self.kinds) {
                        delivery.owner &= *of != kind || !own;
                    }
                    state.deliveries[index].owner = own;
                }
            }
            answer = (act == Act::Served(index)).then_some(said);
        }
        let answer = answer.unwrap_or_else(|| {
            let fault = fault(self.decisions.request(asked), act);
            self.decisions.number_of(fault)
        });
        let after = match self.decisions.known(at, answer) {
            Some(after) => after,
            None => self.runtime.block_on(self.decisions.after(at, answer)),
        };
        match self.decisions.next(after) {
            Next::Ask(_) => state.deliveries[index].at = after,
            Next::ComesBack(_) => state.deliveries[index] = self.waiting(index),
            Next::Acknowledged(outcome) => {
                owed(&state, kind).map_err(|debt| format!("{kind:?} was acknowledged as {outcome}, but {debt}"))?;
                state.deliveries[index] = Delivery { at: Delivery::GONE, owner: false };
            }
            Next::DeadLettered(code) => return Err(format!("{kind:?} was rejected as {code}")),
        }
        Ok(state)
    }

    fn carry_out(&mut self, asked: u16, part: Part) -> (u16, Part) {
        if let Some(seen) = self.seen.get(&(asked, part)) {
            return *seen;
        }
        let request = self.decisions.request(asked).clone();
        let (answer, after) = self.runtime.block_on(self.services.carry_out(&request, part));
        let seen = (self.decisions.number_of(answer), after);
        self.seen.insert((asked, part), seen);
        seen
    }

    pub(crate) fn histories(&self) -> usize {
        self.decisions.len()
    }

    /// In which ways workers have ended so far.
    pub(crate) fn endings(&self) -> BTreeSet<String> {
        self.decisions.endings().into_iter().collect()
    }
}

impl Rules for Model {
    type State = State;
    type Act = Act;

    fn steps(&mut self, state: &State) -> Result<Vec<Step<Self>>, (Act, String)> {
        let mut steps = Vec::new();
        let after_fault = State { faults: state.faults.less_one(), ..state.clone() };
        let faults = state.faults != Faults::Left(0);
        for index in 0..state.deliveries.len() {
            let at = state.deliveries[index].at;
            if at == Delivery::GONE {
                continue;
            }
            for (act, calm) in
                [(Act::Served(index), true), (Act::AnswerLost(index), false), (Act::Refused(index), false)]
            {
                if calm || faults {
                    let before = if calm { state } else { &after_fault };
                    let state = self.advance(before, index, act).map_err(|breach| (act, breach))?;
                    steps.push(Step { act, calm, state });
                }
            }
            if faults && at != waiting_at(self.kinds[index]) {
                let mut state = after_fault.clone();
                state.deliveries[index] = self.waiting(index);
                steps.push(Step { act: Act::Crashed(index), calm: false, state });
            }
        }
        for kind in Kind::all() {
            let key = kind.index();
            let owned = state.deliveries.iter().zip(&self.kinds).any(|(delivery, of)| *of == kind && delivery.owner);
            if state.claims[key] == Claim::InProgress(Lease::Live) && (faults || !owned) {
                let mut state = if owned { after_fault.clone() } else { state.clone() };
                state.claims[key] = Claim::InProgress(Lease::Over);
                steps.push(Step { act: Act::LeaseOver(kind), calm: !owned, state });
            }
        }
        Ok(steps)
    }

    fn same_as(&self, mut state: State) -> State {
        if self.told_apart {
            return state;
        }
        let mut start = 0;
        for same in self.kinds.chunk_by(|one, next| one == next) {
            state.deliveries[start..start + same.len()].sort_unstable();
            start += same.len();
        }
        state
    }

    fn ended_well(&mut self, state: &State) -> Result<(), String> {
        state.unfinished(&self.kinds)
    }

    fn describe(&self, state: &State, act: Act) -> String {
        let what = match act {
            Act::LeaseOver(_) => String::new(),
            Act::Served(index) | Act::AnswerLost(index) | Act::Refused(index) | Act::Crashed(index) => {
                let kind = self.kinds[index];
                match self.decisions.next(state.deliveries[index].at) {
                    Next::Ask(asked) => format!(" {kind:?} at {:?}", self.decisions.request(*asked)),
                    Next::Acknowledged(_) | Next::ComesBack(_) | Next::DeadLettered(_) => format!(" {kind:?}"),
                }
            }
        };
        format!("{act:?}{what}")
    }
}

impl Faults {
    fn less_one(self) -> Self {
        match self {
            Self::Left(left) => Self::Left(left.saturating_sub(1)),
            Self::Any => Self::Any,
        }
    }
}

/// What a worker hears when a service is not well; whether anything was done, it can't tell.
///
/// The SDK tries again what answers 500. The search follows that where it matters, which is when a claim that was
/// granted is asked for again; anywhere else, the worker hears what it would hear after its last try.
fn fault(request: &Request, act: Act) -> Answer {
    match request {
        Request::Rest { .. } => Answer::Http { status: 503, body: String::new() },
        Request::Aws { body, .. } if matches!(act, Act::AnswerLost(_)) && body.contains("#attempt") => {
            Answer::Http { status: 500, body: r#"{"__type":"InternalServerError"}"#.to_owned() }
        }
        Request::Aws { .. } => Answer::Http { status: 400, body: r#"{"__type":"AccessDeniedException"}"#.to_owned() },
        Request::Reserve(_) | Request::Commit(_) | Request::Release(_) | Request::Payment(_) => {
            Answer::Grpc(Code::Unavailable, "not well".to_owned())
        }
    }
}

/// The first history of a kind, a message that waits.
fn waiting_at(kind: Kind) -> u16 {
    u16::try_from(kind.index()).expect("fewer than 65,536 kinds")
}
