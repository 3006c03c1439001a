//! What the relay has missed is published by the same path, and a hold that nobody has ended gets its timer again. So no seat
//! stays held because a message was lost, or because nobody redrove one.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use tracing::{error, info, warn};

use super::{
    lifecycle::{OVERDUE, Reservation},
    table::{Table, Written},
};
use crate::{
    config::ConfigError,
    deadline::{Deadline, epoch_ms},
    name::{Named, names},
    start::{Function, Parts, probe},
    telemetry::metrics::{Metric, Metrics, Recorder, Unit},
};

/// The table is read in so many parts side by side.
const SEGMENTS: u8 = 4;

/// How many reservations are written at a time.
const SIDE_BY_SIDE: usize = 10;

/// Events that are marked for so long were missed: the stream brings them within seconds.
const MISSED: Duration = Duration::from_secs(120);

/// What is kept free of the time of an invocation, for the answer and for what is under way.
const MARGIN: Duration = Duration::from_secs(3);

names! {
    /// What a sweep does with a reservation.
    pub enum Act {
        /// Its events were marked for too long, and are published again.
        Republished = "republished",
        /// Its deadline had passed, and it gets its timer again.
        Rearmed = "rearmed",
        /// It could not be written, or read; the next sweep tries again.
        Failed = "failed",
    }
}

const SWEPT: Metric = Metric { name: "reservation_swept_total", unit: Unit::Count, dimensions: &["act"] };
const UNFINISHED: Metric = Metric { name: "reservation_sweep_unfinished_total", unit: Unit::Count, dimensions: &[] };

/// The metrics that a sweep writes.
pub const METRICS: &[Metric] = &[SWEPT, UNFINISHED];

/// What a sweep has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Swept {
    /// One for each reservation that something was done with.
    pub acts: Vec<Act>,
    /// The parts of the table that were not read to their end; the next sweep reads them again.
    pub unfinished: usize,
}

/// Sweeps the table, whatever it is invoked with.
#[derive(Debug)]
pub struct Sweep {
    name: &'static str,
    table: Table,
    metrics: Metrics,
}

impl Sweep {
    /// As the environment says. What is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        Some(Self { name: parts.name, table, metrics: parts.metrics.clone() })
    }

    /// Sweeps the whole table, its segments side by side, as far as the time until `deadline` lasts.
    pub async fn sweep(&self, deadline: Deadline) -> Swept {
        let segments = stream::iter(0..SEGMENTS).map(|segment| self.segment(segment, deadline));
        let swept: Vec<(Vec<Act>, bool)> = segments.buffer_unordered(SEGMENTS.into()).collect().await;
        let unfinished = swept.iter().filter(|(_, finished)| !finished).count();
        Swept { acts: swept.into_iter().flat_map(|(acts, _)| acts).collect(), unfinished }
    }

    /// Sweeps one segment until it ends, or the time does. The answer is what was done, and whether it ended.
    async fn segment(&self, segment: u8, deadline: Deadline) -> (Vec<Act>, bool) {
        let (mut acts, mut after) = (Vec::new(), None);
        loop {
            if deadline.remaining() < MARGIN {
                return (acts, false);
            }
            let overdue = now().saturating_sub(milliseconds(OVERDUE));
            let (found, next) = match self.table.scan((segment.into(), SEGMENTS.into()), overdue, after).await {
                Ok(page) => page,
                Err(error) => {
                    warn!(error = %error, "a part of the table was not swept; the next sweep reads it again");
                    return (acts, false);
                }
            };
            let mut readable = Vec::new();
            for found in found {
                match found {
                    Ok(reservation) => readable.push(reservation),
                    Err(error) => {
                        error!(error = %error, "a reservation can't be swept");
                        acts.push(Act::Failed);
                    }
                }
            }
            let done = stream::iter(readable).map(|found| self.reservation(found)).buffer_unordered(SIDE_BY_SIDE);
            acts.extend(done.collect::<Vec<_>>().await.into_iter().flatten());
            after = next;
            if after.is_none() {
                return (acts, true);
            }
        }
    }

    async fn reservation(&self, found: Reservation) -> Option<Act> {
        let missed = found.events.iter().any(|event| event.at + milliseconds(MISSED) <= now());
        let (act, written) = if missed {
            (Act::Republished, self.table.touch(&found.id, now()).await)
        } else if let Some(change) = found.overdue(now()).filter(|_| found.events.is_empty()) {
            (Act::Rearmed, self.table.write(&change).await.map(|written| matches!(written, Written::Made(_))))
        } else {
            return None;
        };
        match written {
            Ok(true) => {
                warn!(reservation_id = found.id, act = act.name(), "the relay, or a timer, has missed a reservation");
                Some(act)
            }
            // Whoever changed it in between has acted on it.
            Ok(false) => None,
            Err(error) => {
                let act = Act::Failed.name();
                warn!(reservation_id = found.id, act, error = %error, "a reservation was not swept; the next sweep tries again");
                Some(Act::Failed)
            }
        }
    }
}

impl Function for Sweep {
    type Response = ();

    async fn probe(&self) -> Result<(), ConfigError> {
        probe::table(self.name, "RESERVATIONS_TABLE", self.table.probe()).await
    }

    /// It fails never: what was not swept now is swept by the next invocation.
    async fn invoke(&self, _payload: &RawValue, deadline: Deadline) -> Result<(), String> {
        let Swept { acts, unfinished } = self.sweep(deadline).await;
        let mut recorder = Recorder::default();
        for act in Act::ALL {
            let count = acts.iter().filter(|done| *done == act).count();
            recorder.count(&SWEPT, &[act.name()], count as u64);
        }
        recorder.count(&UNFINISHED, &[], unfinished as u64);
        self.metrics.write(&recorder);
        info!(swept = acts.len(), unfinished, "the sweep ended");
        Ok(())
    }
}

fn now() -> u64 {
    epoch_ms(SystemTime::now())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
