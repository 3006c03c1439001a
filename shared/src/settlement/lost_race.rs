//! What follows when the reservation had already ended in another way than the event wants.

use std::time::Duration;

use super::{Done, Outcome, event::Event};
use crate::{failure::Failure, idempotency::Key, reservation::Status, start::Parts, telemetry::trace::TraceContext};

/// What an event type does about a lost race, with the clients that it takes.
pub trait LostRace: Send + Sync + Sized {
    /// How the event then ends.
    const OUTCOME: Outcome;

    /// Reads its own variables; what is wrong with them is noted.
    fn configured(parts: &mut Parts<'_>) -> Self;

    /// The longest that [`LostRace::follow`] takes.
    fn budget(&self) -> Duration;

    /// Does what follows. `Ok`: the event is done.
    ///
    /// # Errors
    /// What the queue has to do with the event.
    fn follow(&self, lost: Lost<'_>) -> impl Future<Output = Result<Done, Failure>> + Send;
}

/// A race that an event lost.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// The event.
    pub event: &'a Event,
    /// The end that won.
    pub status: &'a Status,
    /// The reservation is confirmed, but by another payment than the event's.
    pub paid_twice: bool,
    /// The show that the tickets were for, where the reservation says so.
    pub show_id: Option<&'a str>,
    /// The event's key.
    pub key: &'a Key,
    /// The trace that goes on to the downstreams.
    pub trace: &'a TraceContext,
}

/// Nothing is left to do: whoever won has done it.
#[derive(Debug, Clone, Copy)]
pub struct Superseded;

impl LostRace for Superseded {
    const OUTCOME: Outcome = Outcome::Superseded;

    fn configured(_parts: &mut Parts<'_>) -> Self {
        Self
    }

    fn budget(&self) -> Duration {
        Duration::ZERO
    }

    async fn follow(&self, lost: Lost<'_>) -> Result<Done, Failure> {
        Ok(Done::noted(Self::OUTCOME, format!("the reservation is {}", lost.status.name())))
    }
}
