//! Each minute has its ticks: AWS has no schedule that is finer, so that once a minute a message is sent for each second of it
//! and for each open line, which the queue delivers in its second. The next quarter of a minute has messages too, in case the
//! next minute is late. Two ticks of one second do no harm.

use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use serde_json::value::RawValue;
use tracing::{error, info, warn};

use super::{
    measured::{ERRORS, TICK_AGE},
    message::TickMessage,
    table::Table,
};
use crate::{
    client::queue::{Delayed, Queue},
    config::ConfigError,
    deadline::{Deadline, epoch_ms},
    start::{Function, Parts, probe},
    telemetry::metrics::{Metrics, Recorder},
};

/// The seconds that have messages: those of a minute, and of a quarter more.
pub const SECONDS: u64 = 75;

/// Messages in one call.
const MOST: usize = 10;

/// Calls at a time.
const AT_ONCE: usize = 8;

/// Lets every open line tick, whatever it is invoked with.
#[derive(Debug)]
pub struct Clock {
    name: &'static str,
    table: Table,
    ticks: Queue,
    metrics: Metrics,
}

impl Clock {
    /// As the environment says: `WAITING_ROOM_TABLE`, `TICK_QUEUE_URL`. What is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let ticks = Queue::configured(parts, "TICK_QUEUE_URL");
        Some(Self { name: parts.name, table, ticks, metrics: parts.metrics.clone() })
    }

    /// Sends the messages of these lines, the earliest seconds of all of them first. The answer is how many are not in the
    /// queue.
    async fn wind(&self, shows: &[String]) -> usize {
        let message = |second, show_id: &String| {
            let body = TickMessage { show_id: show_id.clone() }.body();
            Delayed { body, delay: Duration::from_secs(second) }
        };
        let messages: Vec<Delayed> =
            (0..SECONDS).flat_map(|second| shows.iter().map(move |show_id| message(second, show_id))).collect();
        let sending = stream::iter(messages.chunks(MOST)).map(|group| self.ticks.send_all(group));
        let sent: Vec<_> = sending.buffered(AT_ONCE).concat().await;
        let failed: Vec<_> = sent.into_iter().filter_map(Result::err).collect();
        if let Some(cause) = failed.first() {
            error!(ticks = failed.len(), error = %cause, "ticks are missing in the next minute");
        }
        failed.len()
    }

    /// How long ago the last tick of each line was. One that has had none yet has no age.
    async fn look(&self, shows: &[String], recorder: &mut Recorder) {
        for show_id in shows {
            match self.table.line(show_id).await {
                Ok(Some(line)) if line.last_tick > 0 => {
                    let age = epoch_ms(SystemTime::now()).saturating_sub(line.last_tick);
                    recorder.duration(&TICK_AGE, &[], Duration::from_millis(age));
                }
                Ok(_) => {}
                Err(error) => {
                    warn!(event_id = show_id, error = %error, "it is not known how old a line's last tick is")
                }
            }
        }
    }
}

impl Function for Clock {
    type Response = ();

    async fn probe(&self) -> Result<(), ConfigError> {
        probe::table(self.name, "WAITING_ROOM_TABLE", self.table.probe_lines()).await
    }

    /// It fails where it is not known which lines are open, or where ticks are missing: the next minute has its own.
    async fn invoke(&self, _payload: &RawValue, _deadline: Deadline) -> Result<(), String> {
        let shows = self.table.open_shows().await.map_err(|error| {
            error!(error = %error, "the open lines could not be read, so that none gets its ticks of the next minute");
            error.to_string()
        })?;
        let missing = self.wind(&shows).await;
        let mut recorder = Recorder::default();
        self.look(&shows, &mut recorder).await;
        recorder.count(&ERRORS, &[], missing as u64);
        self.metrics.write(&recorder);
        if missing > 0 {
            return Err(format!("{missing} ticks are not in the queue"));
        }
        info!(lines = shows.len(), "the ticks of the minute are sent");
        Ok(())
    }
}
