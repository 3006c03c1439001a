//! Somebody wants to stand in a line: he gets a place, once, and with him everybody of his batch, in one transaction.
//!
//! Nobody who has joined is given up before his line closes: the message comes back every second or two, and a fault of ours
//! costs him no place, because he stands by the time at which he reached the gateway.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, SystemTime},
};

use tracing::{info, info_span};

use super::{
    Moment,
    id::{PlaceId, PlaceKeys},
    line::{Line, Scope},
    measured::{PLACEMENT_LAG, PROCESSED, Processed},
    message::{JoinMessage, Kind},
    table::{Join, Joined, Table, TableError},
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
        trace::{TraceContext, Tracing},
    },
    trigger::{Decoded, Done, Message, Portion, Processor, Task, Verdict},
};

names! {
    /// How joins end.
    pub enum Outcome {
        /// He has a place.
        Success = "success",
        /// He had one before.
        Duplicate = "duplicate",
        /// His line is closed, or another has taken its place.
        Superseded = "superseded",
    }
}

names! {
    /// The codes of joins that can never succeed.
    pub enum ErrorCode {
        /// There is no such line.
        UnknownLine = "unknown_line",
    }
}

/// Puts people into their lines.
#[derive(Debug)]
pub struct Joining {
    name: &'static str,
    table: Table,
    keys: PlaceKeys,
    metrics: Metrics,
}

/// What is known of the line of some joins.
enum Known {
    Open(Box<Line>),
    Closed,
    Absent,
    Unknown(String),
}

impl Joining {
    /// As the environment says: `WAITING_ROOM_TABLE`, and the keys of the secret. Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let metrics = parts.metrics.clone();
        let keys = PlaceKeys::configured(&mut parts.reader);
        Some(Self { name: parts.name, table, keys: keys?, metrics })
    }

    async fn line(&self, scope: &Scope, now: Moment) -> Known {
        match self.table.line(&scope.show_id).await {
            Ok(Some(line)) if line.scope.generation > scope.generation => Known::Closed,
            Ok(Some(line)) if line.scope != *scope => {
                Known::Unknown(format!("the line of {} is not the one that was joined", scope.show_id))
            }
            Ok(Some(line)) if !line.is_open_for_joining(now) => Known::Closed,
            Ok(Some(line)) => Known::Open(Box::new(line)),
            Ok(None) => Known::Absent,
            Err(error) => Known::Unknown(error.to_string()),
        }
    }

    /// Lets people of one line join it, and gives a verdict on each.
    async fn join(&self, scope: &Scope, joins: &[&JoinMessage], recorder: &mut Recorder) -> Vec<Verdict<Outcome>> {
        let now = epoch_ms(SystemTime::now());
        let all = |verdict: &dyn Fn() -> Verdict<Outcome>| joins.iter().map(|_| verdict()).collect();
        let line = match self.line(scope, now).await {
            Known::Open(line) => line,
            Known::Closed => {
                recorder.count(&PROCESSED, &[Processed::Closed.name()], joins.len() as u64);
                return all(&|| Verdict::Done(Done::noted(Outcome::Superseded, "the line is closed".to_owned())));
            }
            Known::Absent => {
                let message = format!("there is no line of {}; open it, then redrive", scope.show_id);
                return all(&|| Verdict::Failed(Failure::permanent(ErrorCode::UnknownLine, message.clone())));
            }
            Known::Unknown(cause) => return all(&|| Verdict::Failed(Failure::transient(cause.as_str()))),
        };
        let named: Option<Vec<Join>> = joins
            .iter()
            .map(|join| {
                let id = self.keys.id(scope, &join.user_id)?;
                let JoinMessage { user_id, seats, arrival, request, .. } = (*join).clone();
                Some(Join { id, user_id, seats, arrival, request })
            })
            .collect();
        let Some(named) = named else {
            let version = scope.key_version;
            let cause = format!("the secret has no key {version}, which the line of {} is named by", scope.show_id);
            return all(&|| Verdict::Failed(Failure::transient(cause.as_str())));
        };
        match self.table.join(&line, &named, now).await {
            Ok(outcomes) => self.told(scope, &named, &outcomes, now, recorder),
            Err(error @ (TableError::Unavailable { .. } | TableError::Unreadable { .. })) => {
                let cause = error.to_string();
                all(&|| Verdict::Failed(Failure::transient(cause.as_str())))
            }
        }
    }

    /// The first of two copies in one batch to arrive is the one that counts.
    fn told(
        &self,
        scope: &Scope,
        joins: &[Join],
        outcomes: &BTreeMap<PlaceId, Joined>,
        now: Moment,
        recorder: &mut Recorder,
    ) -> Vec<Verdict<Outcome>> {
        let mut told = BTreeSet::new();
        let verdict = |join: &Join| match outcomes.get(&join.id) {
            None => Verdict::Failed(Failure::transient("the table did not say whether he has a place")),
            Some(Joined::New) if told.insert(join.id) => {
                let by = self.name;
                info!(audit = true, place_id = %join.id, event_id = scope.show_id, to = "placed", by, "a place was made");
                recorder.count(&PROCESSED, &[Processed::Placed.name()], 1);
                recorder.duration(&PLACEMENT_LAG, &[], Duration::from_millis(now.saturating_sub(join.arrival)));
                Verdict::Done(Done::of(Outcome::Success))
            }
            Some(Joined::New | Joined::Before) => {
                recorder.count(&PROCESSED, &[Processed::Known.name()], 1);
                Verdict::Done(Done::of(Outcome::Duplicate))
            }
        };
        joins.iter().map(verdict).collect()
    }
}

impl<R: Message> Processor<R> for Joining {
    type Item = JoinMessage;
    type Outcome = Outcome;

    const PORTION: Portion = Portion::Batch;

    /// Nobody is given up before his line closes, whether it is the table that is away, time that is short, or this code that
    /// panics on his batch.
    const NEVER_GIVEN_UP: Option<Duration> = Some(Duration::from_secs(2));

    fn name(&self) -> &'static str {
        Kind::Joined.name()
    }

    /// The line is read, and the people are written; where some of them stand there already, the others are written anew.
    fn budget(&self) -> Duration {
        CALL_TIMEOUT * 3
    }

    async fn probe(&self) -> Result<(), ConfigError> {
        probe::table(self.name, "WAITING_ROOM_TABLE", self.table.probe()).await
    }

    fn decode(&self, record: &R) -> Result<Decoded<JoinMessage>, Failure> {
        let item = JoinMessage::parse(record.body())?;
        let place_id = self.keys.id(&item.scope, &item.user_id).map(|id| id.to_string());
        let span = info_span!("join", event_id = item.scope.show_id, place_id);
        Ok(Decoded { key: place_id.unwrap_or_default(), item, span, producer: record.producer(&[], &[]) })
    }

    async fn process(
        &self,
        item: JoinMessage,
        _trace: &TraceContext,
        _deadline: Deadline,
    ) -> Result<Done<Outcome>, Failure> {
        let mut recorder = Recorder::default();
        let verdict = self.join(&item.scope, &[&item], &mut recorder).await.pop();
        self.metrics.write(&recorder);
        match verdict {
            Some(Verdict::Done(done)) => Ok(done),
            Some(Verdict::Failed(failure)) => Err(failure),
            Some(Verdict::Away(_) | Verdict::Unstarted) | None => Err(Failure::transient("it was not begun")),
        }
    }

    async fn process_all(
        &self,
        tasks: Vec<Task<JoinMessage>>,
        _tracing: &Tracing,
        deadline: Deadline,
    ) -> Vec<Verdict<Outcome>> {
        let mut by_line: BTreeMap<&Scope, Vec<usize>> = BTreeMap::new();
        for (at, task) in tasks.iter().enumerate() {
            by_line.entry(&task.item.scope).or_default().push(at);
        }
        let mut recorder = Recorder::default();
        let mut verdicts: Vec<Verdict<Outcome>> = tasks.iter().map(|_| Verdict::Unstarted).collect();
        for (scope, places) in by_line {
            if deadline.remaining() < Processor::<R>::budget(self) {
                break;
            }
            let joins: Vec<&JoinMessage> = places.iter().map(|at| &tasks[*at].item).collect();
            for (at, verdict) in places.into_iter().zip(self.join(scope, &joins, &mut recorder).await) {
                verdicts[at] = verdict;
            }
        }
        self.metrics.write(&recorder);
        verdicts
    }
}
