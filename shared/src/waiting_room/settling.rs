//! A place follows what became of its reservation: who finds a place whose reservation may have changed asks the reservation
//! API what it *is*, and changes the place by a compare-and-set on what it was.
//!
//! A turn that ran out is taken back the same way. Where nobody has made a reservation by it, the reservation is ended before
//! it is made, and only then the place ends: no clock decides whether a late customer still gets his seats.

use aws_sdk_eventbridge as eventbridge;
use tracing::warn;

use super::{
    Moment,
    line::{Line, Terms},
    measured::{ERRORS, PROCESSED, Processed, WITHOUT_SEAT},
    notice,
    place::{Entry, Found, Judged, State, Turn},
    sequence::Pending,
    table::{Replaced, Table},
};
use crate::{
    client::{
        bus::EventBus,
        reservations::{Progress, ReservationClient},
    },
    failure::Failure,
    name::Named,
    start::Parts,
    telemetry::{metrics::Recorder, trace::TraceContext},
};

/// What moves places by their reservations.
#[derive(Debug, Clone)]
pub struct Settling {
    /// Who does it, for the audit: the function's name.
    pub name: &'static str,
    /// Where places are kept.
    pub table: Table,
    /// The authority on reservations.
    pub reservations: ReservationClient,
    /// Where it is told what became of a place.
    pub bus: EventBus,
    /// How long the parts of a turn may take.
    pub terms: Terms,
}

/// A place, as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its line.
    pub line: &'a Line,
    /// Its position.
    pub position: u64,
    /// Who stands there.
    pub person: &'a Pending,
    /// What it was.
    pub entry: Entry,
}

/// What became of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was changed.
    Became {
        /// What it is now.
        to: Entry,
        /// What its reservation is.
        found: Found,
    },
    /// It stays what it was, by what its reservation is.
    Stays(Found),
    /// Somebody else has changed it meanwhile.
    Overtaken,
}

impl Place<'_> {
    /// The right that its current call gave.
    pub fn turn(&self) -> Turn {
        Turn { id: self.person.id, position: self.position, call: self.entry.call }
    }
}

impl Settling {
    /// As the environment says: `WAITING_ROOM_TABLE`, `RESERVATION_API_BASE`, `EVENT_BUS_NAME` and the lengths of a turn.
    /// Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let bus = EventBus::new(eventbridge::Client::new(parts.aws), parts.reader.required("EVENT_BUS_NAME"));
        let terms = Terms::configured(&mut parts.reader);
        let reservations = ReservationClient::configured(&mut parts.reader, parts.aws);
        Some(Self { name: parts.name, table, reservations: reservations?, bus, terms })
    }

    /// Looks what the reservation of a place is, and lets the place follow.
    ///
    /// # Errors
    /// When it is not known what the reservation is, or whether the place was changed. It has a right still, and a repeat finds
    /// out.
    pub async fn settle(
        &self,
        place: Place<'_>,
        now: Moment,
        trace: &TraceContext,
        recorder: &mut Recorder,
    ) -> Result<Settled, Failure> {
        let Place { line, position, entry, .. } = place;
        let turn = place.turn();
        let reservation_id = turn.reservation_id();
        let mut found = found(self.reservations.progress(&reservation_id, trace).await?);
        let mut judged = entry.judged(found, now, &self.terms);
        if judged == Judged::Entomb {
            found = self::found(self.reservations.entomb(&reservation_id, trace).await?);
            judged = entry.judged(found, now, &self.terms);
        }
        let Judged::Becomes(to) = judged else { return Ok(Settled::Stays(found)) };
        match self.table.replace(&line.scope, position, entry, to).await? {
            Replaced::Overtaken(_) => return Ok(Settled::Overtaken),
            Replaced::Made => notice::audit(line, &turn, Some(&entry), &to, self.name),
        }
        count(entry, to, found, recorder);
        self.tell(place, &turn, to, now, recorder).await;
        Ok(Settled::Became { to, found })
    }

    /// Tells that a turn is over, and notes that its customer may join anew where he has no ticket. Who joins before that is
    /// noted sees what his place is.
    async fn tell(&self, place: Place<'_>, turn: &Turn, to: Entry, now: Moment, recorder: &mut Recorder) {
        if !matches!(to.state, State::Sold | State::Ended | State::GivenUp) {
            return;
        }
        let Place { line, person, .. } = place;
        let item = self.table.item(person.id).await.unwrap_or_else(|error| {
            warn!(place_id = %person.id, error = %error, "the event names no customer");
            None
        });
        let user_id = item.as_ref().map(|item| item.user_id.as_str());
        if let Some(event) = notice::of_place(line, turn, user_id, &to) {
            let failed = notice::publish(&self.bus, &[event]).await;
            recorder.count(&ERRORS, &[], failed);
        }
        if to.state != State::Sold
            && let Err(error) = self.table.end(person.id, person.arrival, now).await
        {
            warn!(place_id = %person.id, error = %error, "it is not noted that a turn is over");
        }
    }
}

/// What a reservation is, as places see it. Tickets beyond what a place can have are as many as it has.
fn found(progress: Progress) -> Found {
    let seats = |quantity: u32| u8::try_from(quantity).unwrap_or(u8::MAX);
    match progress {
        Progress::Absent => Found::Absent,
        Progress::Pending { until } => Found::Pending { until },
        Progress::Held { until, quantity } => Found::Held { until, seats: seats(quantity) },
        Progress::Sold { quantity } => Found::Sold { seats: seats(quantity) },
        Progress::Ended { was_held } => Found::Ended { was_held },
        Progress::Entombed => Found::Entombed,
    }
}

fn count(from: Entry, to: Entry, found: Found, recorder: &mut Recorder) {
    let result = match to.state {
        State::Holding if from.state == State::Holding => None,
        State::Holding => Some(Processed::Holding),
        State::Sold => Some(Processed::Completed),
        State::Ended => Some(Processed::Expired),
        State::Admitted => Some(Processed::Retried),
        State::GivenUp => Some(Processed::GivenUp),
        State::Called | State::Leaving | State::Passed => None,
    };
    if let Some(result) = result {
        recorder.count(&PROCESSED, &[result.name()], 1);
    }
    if found == (Found::Ended { was_held: false }) {
        recorder.count(&WITHOUT_SEAT, &[], 1);
    }
}
