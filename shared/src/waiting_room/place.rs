//! A place whose turn has come, and what may become of it. All times are milliseconds since the epoch.
//!
//! | state | is | counts | left by |
//! | --- | --- | --- | --- |
//! | `C` [`State::Called`] | told that it is its turn | yes | claimed -> A; its deadline passed -> P; given up -> X |
//! | `A` [`State::Admitted`] | may make a reservation | yes | held -> H; sold -> S; no seats -> A; ended -> F; given up -> L |
//! | `L` [`State::Leaving`] | gave up while it might have made one | yes | entombed -> X; as A otherwise |
//! | `H` [`State::Holding`] | has a reservation that is open | yes | sold -> S; ended -> F |
//! | `S` [`State::Sold`] | has its tickets | yes | final |
//! | `F` [`State::Ended`] | its reservation ended | until its deadline | final |
//! | `P` [`State::Passed`] | did not answer its call | no | called again -> C, twice at most; given up -> X |
//! | `X` [`State::GivenUp`] | gave up, was silent, or joined anew | no | final |
//!
//! What counts takes tickets away from all others. Only the tick raises what counts, by a call.

use std::{fmt, str::FromStr, time::Duration};

use super::{
    Moment,
    id::{NoPlace, PlaceId},
    line::Terms,
    ms,
};

/// How long after a hold's end its reservation is asked for: its own expiry ends it before, when all is well. A reservation
/// that was found open is asked for again after the same time.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How often somebody who did not answer is called again.
pub const RECALLS: u8 = 2;

/// What a place is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Told that it is its turn.
    Called,
    /// May make a reservation.
    Admitted,
    /// Gave up after it was admitted; whether it made a reservation is not known yet.
    Leaving,
    /// Has a reservation that is neither paid nor ended.
    Holding,
    /// Has its tickets.
    Sold,
    /// Had its turn, and has no tickets.
    Ended,
    /// Did not answer.
    Passed,
    /// Left the line, or is not there.
    GivenUp,
}

impl State {
    /// Every state with its letter.
    pub const ALL: [(Self, char); 8] = [
        (Self::Called, 'C'),
        (Self::Admitted, 'A'),
        (Self::Leaving, 'L'),
        (Self::Holding, 'H'),
        (Self::Sold, 'S'),
        (Self::Ended, 'F'),
        (Self::Passed, 'P'),
        (Self::GivenUp, 'X'),
    ];

    /// Whether its turn is going on.
    pub fn is_inside(self) -> bool {
        match self {
            Self::Called | Self::Admitted | Self::Leaving | Self::Holding => true,
            Self::Sold | Self::Ended | Self::Passed | Self::GivenUp => false,
        }
    }
}

/// A place whose turn has come at least once. As text it is `{letter}{seats}:{deadline}:{call}:{passed}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// What it is.
    pub state: State,
    /// The tickets that it may take, or has.
    pub seats: u8,
    /// When what it is ends, or stops to count; when it came to be so, where it has no end.
    pub deadline: Moment,
    /// The number of its token: each right to make a reservation has its own.
    pub call: u16,
    /// How often it did not answer.
    pub passed: u8,
}

/// What happens to a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its customer asks, and is let in until then.
    Claim {
        /// The end of the right to make a reservation.
        until: Moment,
    },
    /// Nobody asked in time.
    Pass {
        /// When it was found.
        at: Moment,
    },
    /// It is called once more.
    Recall {
        /// By when it must be claimed.
        until: Moment,
        /// The tickets that it may take.
        seats: u8,
    },
    /// Its customer leaves.
    GiveUp {
        /// When.
        at: Moment,
    },
    /// Its reservation holds so many seats.
    Hold {
        /// When it is to be asked for.
        until: Moment,
        /// The seats.
        seats: u8,
    },
    /// Its reservation is paid.
    Sell {
        /// The seats.
        seats: u8,
        /// When it was found.
        at: Moment,
    },
    /// Its reservation got no seats: it may make another.
    Retry,
    /// Its reservation ended.
    End {
        /// Until when it counts, because its seats are given back after that.
        until: Moment,
    },
    /// It can't make a reservation any more, and has made none.
    Entomb {
        /// When.
        at: Moment,
    },
}

/// What is known of the reservation that a place's current call may have made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Found {
    /// There is none.
    Absent,
    /// It is being made.
    Pending {
        /// Its deadline.
        until: Moment,
    },
    /// Its seats are held.
    Held {
        /// Its deadline.
        until: Moment,
        /// The seats.
        seats: u8,
    },
    /// It is paid.
    Sold {
        /// The seats.
        seats: u8,
    },
    /// It ended without a payment.
    Ended {
        /// Whether its seats had been held.
        was_held: bool,
    },
    /// It was ended before it was made.
    Entombed,
}

/// What follows from a reservation for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// Nothing.
    Stays,
    /// The place becomes this.
    Becomes(Entry),
    /// The reservation is to be ended before it is made; only then is it known what the place becomes.
    Entomb,
}

impl Entry {
    /// A place that is called for the first time, for so many tickets.
    pub fn called(seats: u8, until: Moment) -> Self {
        Self { state: State::Called, seats, deadline: until, call: 1, passed: 0 }
    }

    /// A place whose turn comes to nobody.
    pub fn empty(at: Moment) -> Self {
        Self { state: State::GivenUp, seats: 0, deadline: at, call: 0, passed: 0 }
    }

    /// What becomes of the place. Nothing: this can't happen to it as it is.
    pub fn after(self, change: Change) -> Option<Self> {
        use State::{Admitted, Called, Ended, GivenUp, Holding, Leaving, Passed, Sold};

        let to = |state, deadline| Some(Self { state, deadline, ..self });
        let had = |seats: u8| seats.clamp(1, self.seats.max(1));
        match change {
            Change::Claim { until } => match self.state {
                Called => to(Admitted, until),
                Admitted | Leaving | Holding | Sold | Ended | Passed | GivenUp => None,
            },
            Change::Pass { at } => match self.state {
                Called => Some(Self { state: Passed, deadline: at, passed: self.passed.saturating_add(1), ..self }),
                Admitted | Leaving | Holding | Sold | Ended | Passed | GivenUp => None,
            },
            Change::Recall { until, seats } => match self.state {
                Passed if self.passed <= RECALLS => {
                    Some(Self { state: Called, deadline: until, seats, call: self.call.checked_add(1)?, ..self })
                }
                Called | Admitted | Leaving | Holding | Sold | Ended | Passed | GivenUp => None,
            },
            Change::GiveUp { at } => match self.state {
                Called | Passed => to(GivenUp, at),
                Admitted => to(Leaving, at),
                Leaving | Holding | Sold | Ended | GivenUp => None,
            },
            Change::Hold { until, seats } => match self.state {
                Admitted | Leaving | Holding => {
                    Some(Self { state: Holding, deadline: until, seats: had(seats), ..self })
                }
                Called | Sold | Ended | Passed | GivenUp => None,
            },
            Change::Sell { seats, at } => match self.state {
                Admitted | Leaving | Holding => Some(Self { state: Sold, deadline: at, seats: had(seats), ..self }),
                Called | Sold | Ended | Passed | GivenUp => None,
            },
            Change::Retry => match self.state {
                Admitted => Some(Self { call: self.call.checked_add(1)?, ..self }),
                Called | Leaving | Holding | Sold | Ended | Passed | GivenUp => None,
            },
            Change::End { until } => match self.state {
                Admitted | Leaving | Holding => to(Ended, until),
                Called | Sold | Ended | Passed | GivenUp => None,
            },
            Change::Entomb { at } => match self.state {
                Leaving => to(GivenUp, at),
                Admitted | Holding => to(Ended, at),
                Called | Sold | Ended | Passed | GivenUp => None,
            },
        }
    }

    /// Whether its seats are taken from all others.
    pub fn counts(&self, now: Moment) -> bool {
        match self.state {
            State::Called | State::Admitted | State::Leaving | State::Holding | State::Sold => true,
            State::Ended => now < self.deadline,
            State::Passed | State::GivenUp => false,
        }
    }

    /// Whether its seats are taken now and may come back.
    pub fn may_come_back(&self, now: Moment) -> bool {
        self.state != State::Sold && self.counts(now)
    }

    /// Whether nothing happens to it by itself any more.
    pub fn is_settled(&self, now: Moment) -> bool {
        !self.state.is_inside() && !self.may_come_back(now)
    }

    /// Whether its reservation has to be asked for.
    pub fn is_overdue(&self, now: Moment) -> bool {
        match self.state {
            State::Admitted | State::Leaving | State::Holding => self.deadline <= now,
            State::Called | State::Sold | State::Ended | State::Passed | State::GivenUp => false,
        }
    }

    /// What follows from what is known of its reservation. Only a reservation of its current call says anything.
    pub fn judged(&self, found: Found, now: Moment, terms: &Terms) -> Judged {
        match self.state {
            State::Admitted | State::Leaving | State::Holding => {}
            State::Called | State::Sold | State::Ended | State::Passed | State::GivenUp => return Judged::Stays,
        }
        let is_overdue = self.is_overdue(now);
        let later = |until: Moment| (until + ms(PATIENCE)).max(if is_overdue { now + ms(PATIENCE) } else { 0 });
        let change = match found {
            Found::Absent if is_overdue => return Judged::Entomb,
            Found::Absent => return Judged::Stays,
            // Its maker is at it. Once it had to be asked for, it counts as one that holds seats.
            Found::Pending { until } if is_overdue => Change::Hold { until: later(until), seats: self.seats },
            Found::Pending { .. } => return Judged::Stays,
            Found::Held { until, seats } => Change::Hold { until: later(until), seats },
            Found::Sold { seats } => Change::Sell { seats, at: now },
            // A taken seat costs nobody the turn.
            Found::Ended { was_held: false } if self.state == State::Admitted && !is_overdue => Change::Retry,
            Found::Ended { .. } => Change::End { until: now + ms(terms.release_grace) },
            Found::Entombed => Change::Entomb { at: now },
        };
        match self.after(change) {
            Some(entry) if entry != *self => Judged::Becomes(entry),
            Some(_) | None => Judged::Stays,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = State::ALL.iter().find(|(state, _)| *state == self.state).map_or('X', |(_, letter)| *letter);
        write!(f, "{letter}{}:{}:{}:{}", self.seats, self.deadline, self.call, self.passed)
    }
}

/// A text that is not an entry of a page.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is not an entry of a page: {0:?}")]
pub struct NoEntry(String);

impl FromStr for Entry {
    type Err = NoEntry;

    fn from_str(text: &str) -> Result<Self, NoEntry> {
        let read = || {
            let mut characters = text.chars();
            let letter = characters.next()?;
            let (state, _) = State::ALL.into_iter().find(|(_, its)| *its == letter)?;
            let mut parts = characters.as_str().split(':');
            let entry = Self {
                state,
                seats: parts.next()?.parse().ok()?,
                deadline: parts.next()?.parse().ok()?,
                call: parts.next()?.parse().ok()?,
                passed: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(entry)
        };
        read().ok_or_else(|| NoEntry(text.to_owned()))
    }
}

/// A right to make one reservation: a place's call. As text it is the token's `jti`, `{id}_{position}_{call}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Turn {
    /// The place's name.
    pub id: PlaceId,
    /// Its position.
    pub position: u64,
    /// The number of the call.
    pub call: u16,
}

impl Turn {
    /// The only reservation that it can make.
    pub fn reservation_id(&self) -> String {
        format!("rsv_{self}")
    }

    /// The turn that a reservation was made by. Nothing, where it was made without one.
    pub fn of_reservation(reservation_id: &str) -> Option<Self> {
        reservation_id.strip_prefix("rsv_")?.parse().ok()
    }
}

impl fmt::Display for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}_{}", self.id, self.position, self.call)
    }
}

impl FromStr for Turn {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let mut parts = text.split('_');
        let mut next = || parts.next().ok_or(NoPlace);
        let (id, position, call) = (next()?.parse()?, next()?, next()?);
        let turn =
            Self { id, position: position.parse().map_err(|_| NoPlace)?, call: call.parse().map_err(|_| NoPlace)? };
        // Two texts of one turn would be two reservations.
        if turn.to_string() == text { Ok(turn) } else { Err(NoPlace) }
    }
}

#[cfg(test)]
mod tests;
