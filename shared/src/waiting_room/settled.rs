//! Something became of a reservation that was made by a turn: its place follows.
//!
//! The event is only a hint. The reservation is asked for, and only an event of the place's current call changes it, so that
//! one that is late, or comes twice, changes nothing.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use tracing::info_span;

use super::{
    message::{Kind, ReservationMessage},
    place::Turn,
    settling::{Place, Settled as Became, Settling},
};
use crate::{
    client::aws::CALL_TIMEOUT,
    config::ConfigError,
    deadline::{Deadline, epoch_ms},
    failure::Failure,
    name::{Named, names},
    start::{Parts, probe},
    telemetry::{
        metrics::{Metrics, Recorder},
        trace::TraceContext,
    },
    trigger::{Decoded, Done, Message, Processor},
};

names! {
    /// How events about reservations end.
    pub enum Outcome {
        /// The place is what its reservation is.
        Success = "success",
        /// It was so before.
        Duplicate = "duplicate",
        /// The place has had another call since, or its line is gone.
        Superseded = "superseded",
        /// The reservation was made by no turn.
        Ignored = "ignored",
    }
}

/// The calls to AWS beside those to the reservation API: line, place, who stands there, the change, his record, the bus, its
/// end.
const CALLS: u32 = 7;

/// Lets places follow their reservations.
#[derive(Debug)]
pub struct Follow {
    settling: Settling,
    metrics: Metrics,
}

impl Follow {
    /// As the environment says. What is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let settling = Settling::configured(parts);
        let metrics = parts.metrics.clone();
        Some(Self { settling: settling?, metrics })
    }

    async fn follow(
        &self,
        show_id: &str,
        turn: &Turn,
        trace: &TraceContext,
        recorder: &mut Recorder,
    ) -> Result<Done<Outcome>, Failure> {
        let superseded = |why: &str| Ok(Done::noted(Outcome::Superseded, why.to_owned()));
        let table = &self.settling.table;
        let Some(line) = table.line(show_id).await? else { return superseded("the line is gone") };
        let Some(entry) = table.entry(&line.scope, turn.position).await? else {
            return superseded("the turn was that of an earlier line");
        };
        if entry.call != turn.call {
            return superseded("the place has had another call since");
        }
        let standing = table.standing(&line, &BTreeSet::from([turn.position])).await?;
        let Some(person) = standing.get(&turn.position).filter(|person| person.id == turn.id) else {
            return superseded("the turn was that of an earlier line");
        };
        let place = Place { line: &line, position: turn.position, person, entry };
        match self.settling.settle(place, epoch_ms(SystemTime::now()), trace, recorder).await? {
            Became::Became { .. } => Ok(Done::of(Outcome::Success)),
            Became::Stays(_) => Ok(Done::of(Outcome::Duplicate)),
            Became::Overtaken => Err(Failure::transient("somebody else has changed the place meanwhile")),
        }
    }
}

impl<R: Message> Processor<R> for Follow {
    type Item = ReservationMessage;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        Kind::Settled.name()
    }

    fn budget(&self) -> Duration {
        self.settling.reservations.budget() + CALL_TIMEOUT * CALLS
    }

    async fn probe(&self) -> Result<(), ConfigError> {
        let Settling { name, table, reservations, .. } = &self.settling;
        probe::service(name, "RESERVATION_API_BASE", reservations.base(), reservations.probe()).await;
        probe::table(name, "WAITING_ROOM_TABLE", table.probe()).await
    }

    fn decode(&self, record: &R) -> Result<Decoded<ReservationMessage>, Failure> {
        let item = ReservationMessage::parse(record.body())?;
        let place_id = item.turn.map(|turn| turn.id.to_string());
        let key = place_id.clone().unwrap_or_default();
        let span = info_span!("reservation", event_id = item.show_id, place_id);
        Ok(Decoded { item, key, span, producer: record.producer(&[], &[]) })
    }

    async fn process(
        &self,
        item: ReservationMessage,
        trace: &TraceContext,
        _deadline: Deadline,
    ) -> Result<Done<Outcome>, Failure> {
        let Some(turn) = item.turn else { return Ok(Done::of(Outcome::Ignored)) };
        let mut recorder = Recorder::default();
        let done = self.follow(&item.show_id, &turn, trace, &mut recorder).await;
        self.metrics.write(&recorder);
        done
    }
}
