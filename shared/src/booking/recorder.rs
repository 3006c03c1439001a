//! A batch of events about bookings: one transaction for all of them, or one for each when something is in the way.
//!
//! The records of one booking are in different transactions, one after the other, so that each sees what the one before it did.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    time::Duration,
};

use opentelemetry::KeyValue;
use tokio::time::Instant;
use tracing::{Span, error, info_span, warn};

use super::{
    Done, ErrorCode, Outcome,
    event::{BookingEvent, Contexts},
    migration,
};
use crate::{
    client::postgres::{
        ConnectOptions, Database, Session, Work,
        fault::{Decision, Error},
    },
    deadline::Deadline,
    failure::Failure,
    name::Named,
    start::Parts,
    telemetry::{
        baggage::LoggedKeys,
        metrics::{Metric, Metrics, Recorder as Counts, Unit},
        trace::{OUTCOME, TraceContext, Tracing},
    },
    trigger::{Decoded, Message, Portion, Processor, Task, Verdict},
};

const CONNECTS: Metric = Metric { name: "db_connects_total", unit: Unit::Count, dimensions: &["type"] };
const TRANSACTION: Metric = Metric { name: "db_transaction_seconds", unit: Unit::Seconds, dimensions: &["type"] };
const UNROLLED: Metric = Metric { name: "batch_unrolled_total", unit: Unit::Count, dimensions: &["type"] };
const UNREADY: Metric = Metric { name: "db_unready_total", unit: Unit::Count, dimensions: &["type"] };
const GIVEN_UP_BY_ANOTHER: Metric =
    Metric { name: "early_cancellation_not_owner_total", unit: Unit::Count, dimensions: &["type"] };

/// The metrics that a recorder writes. `type` is its event type.
pub const METRICS: &[Metric] = &[CONNECTS, TRANSACTION, UNROLLED, UNREADY, GIVEN_UP_BY_ANOTHER];

/// The span of a batch's transaction, a second try included, and how what is done in the database ends in its span.
const TRANSACTION_SPAN: &str = "transaction";
const COMMITTED: &str = "committed";
const FAILED: &str = "failed";

/// What an event changes.
pub trait Change: Sync + Sized {
    /// The event.
    type Event: BookingEvent;

    /// Reads the variables of what it is made of beside the database.
    fn configured(parts: &mut Parts<'_>) -> Self;

    /// How long [`Change::follow`] takes at most, where a transaction takes `transaction`.
    fn following(&self, transaction: Duration) -> Duration;

    /// Writes events of different bookings in one transaction. The rulings are in their order.
    ///
    /// # Errors
    /// Nothing is written, or nobody knows. It may be done again.
    fn write(
        session: &Session,
        entries: &[&Entry<Self::Event>],
    ) -> impl Future<Output = Result<Vec<Ruling>, Error>> + Send;

    /// Does what follows from refused bookings, and gives a verdict for each by its id.
    fn follow(
        &self,
        database: &Traced<'_>,
        refused: Vec<&Task<Entry<Self::Event>>>,
        deadline: Deadline,
    ) -> impl Future<Output = HashMap<String, Verdict<Outcome>>> + Send;
}

/// An event, and what is noted of how it came.
#[derive(Debug)]
pub struct Entry<E> {
    /// The event.
    pub event: E,
    /// Where its record was.
    pub source: String,
    /// Its trace.
    pub trace_id: Option<String>,
}

/// A database in which each piece of work has a span, which is linked to those of its records.
#[derive(Debug)]
pub struct Traced<'a> {
    database: &'a Database,
    tracing: &'a Tracing,
}

impl Traced<'_> {
    /// As [`Database::run`], in a span of this name. `of` are the contexts of the records that the work is done for.
    ///
    /// # Errors
    /// As [`Database::run`].
    pub async fn run<'t, W: Work>(
        &self,
        name: &'static str,
        of: impl Iterator<Item = &'t TraceContext>,
        work: &W,
        deadline: Deadline,
    ) -> Result<W::Output, Error> {
        let span = self.tracing.start_for_all(name, of, self.attributes());
        let done = self.database.run(work, deadline).await;
        let (ending, error) = match &done {
            Ok(_) => (COMMITTED, None),
            Err(error) => (FAILED, Some(error.to_string())),
        };
        span.finish(KeyValue::new(OUTCOME, ending), error.as_deref());
        done
    }

    /// What is known before the work is begun, by OpenTelemetry's names.
    fn attributes(&self) -> [KeyValue; 4] {
        let ConnectOptions { host, port, database, .. } = self.database.options();
        [
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("db.namespace", database.clone()),
            KeyValue::new("server.address", host.clone()),
            KeyValue::new("server.port", i64::from(*port)),
        ]
    }
}

/// The users that an event `e` may mean, by `user_ref` or `user_number`: how many they are, which [`Ruling::of_users`] judges,
/// and the first of them. More conditions may follow.
pub(super) const USERS: &str = "SELECT min(id) AS user_id, count(*) AS users FROM users
    WHERE (email = e.user_ref OR username = e.user_ref OR id = e.user_number)";

/// What a transaction came to for one of its events.
#[derive(Debug)]
pub enum Ruling {
    /// It is done.
    Done(Done),
    /// It is done, although a cancellation had come before it: of somebody else.
    GivenUpByAnother,
    /// The booking is refused, and others must be told.
    Refused,
    /// It is not done.
    Failed(Failure),
}

impl Ruling {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self::Done(Done::of(outcome))
    }

    pub(super) fn done(outcome: Outcome, note: &str) -> Self {
        Self::Done(Done::noted(outcome, note.to_owned()))
    }

    pub(super) fn retry(why: &str) -> Self {
        Self::Failed(Failure::transient(why))
    }

    pub(super) fn reject(code: ErrorCode, why: &str) -> Self {
        Self::Failed(Failure::permanent(code, why))
    }

    /// What an event comes to that means so many users; nothing, where it means one.
    pub(super) fn of_users(users: i64) -> Option<Self> {
        match users {
            1 => None,
            2.. => Some(Self::reject(
                ErrorCode::AmbiguousUser,
                "more than one user has this e-mail address, user name or number; send it again with one that only this user has",
            )),
            ..1 => Some(Self::retry("there is no such user, or none yet")),
        }
    }
}

/// The outcome or the code, or `retry`.
impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done(done) => done.name(),
            Self::GivenUpByAnother => "success, given up by another",
            Self::Refused => Outcome::Refused.name(),
            Self::Failed(Failure::Permanent { code, .. }) => code,
            Self::Failed(Failure::Transient { .. } | Failure::Early { .. }) => "retry",
        })
    }
}

/// Writes the events of one type into the database.
#[derive(Debug)]
pub struct Recorder<C> {
    change: C,
    database: Database,
    logged_keys: LoggedKeys,
    metrics: Metrics,
}

impl<C: Change> Recorder<C> {
    /// Reads the variables of all that a recorder is made of. Nothing: what is wrong with them is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let options = ConnectOptions::configured(parts);
        let change = C::configured(parts);
        let logged_keys = LoggedKeys::configured(&mut parts.reader);
        let metrics = parts.metrics.clone();
        Some(Self { change, database: Database::new(options?), logged_keys, metrics })
    }

    fn name() -> &'static str {
        C::Event::TYPE.name()
    }

    /// What follows from a transaction.
    fn following(&self) -> Duration {
        self.change.following(self.database.options().transaction_timeout)
    }

    /// A transaction, twice if its connection is lost, and what follows from it.
    fn time(&self) -> Duration {
        self.database.options().one_try() * 2 + self.following()
    }

    /// The same for a record of its own, whose transaction is not tried twice where the time is short: the others have used
    /// some of it.
    fn time_alone(&self) -> Duration {
        self.database.options().one_try() + self.following()
    }

    /// Writes events of different bookings, and gives a verdict for each in their order.
    async fn write(
        &self,
        tasks: &[&Task<Entry<C::Event>>],
        tracing: &Tracing,
        deadline: Deadline,
    ) -> Vec<Verdict<Outcome>> {
        let error = match self.transact(tasks, tracing, deadline).await {
            Ok(rulings) => return self.conclude(tasks, rulings, tracing, deadline).await,
            Err(error) => error,
        };
        let decision = error.decision();
        match decision {
            Decision::Connection | Decision::Access | Decision::Queue | Decision::Unready => {
                self.say_away(&error);
                tasks.iter().map(|_| Verdict::Away(error.to_string())).collect()
            }
            Decision::Record | Decision::Reject => match tasks {
                [_] => vec![Verdict::Failed(alone(&error, decision))],
                _ => self.unroll(tasks, &error, tracing, deadline).await,
            },
        }
    }

    /// One of many is in the way of the others, so that each gets a transaction of its own.
    async fn unroll(
        &self,
        tasks: &[&Task<Entry<C::Event>>],
        error: &Error,
        tracing: &Tracing,
        deadline: Deadline,
    ) -> Vec<Verdict<Outcome>> {
        let sqlstate = error.sqlstate();
        warn!(
            event_type = Self::name(),
            sqlstate,
            error = %error,
            records = tasks.len(),
            "the records are written one by one, because they could not be written together"
        );
        self.count(&UNROLLED);
        let mut verdicts: Vec<Verdict<Outcome>> = Vec::with_capacity(tasks.len());
        for task in tasks {
            let verdict = match verdicts.last() {
                Some(Verdict::Away(why)) => Verdict::Away(why.clone()),
                Some(Verdict::Done(_) | Verdict::Failed(_) | Verdict::Unstarted) | None => {
                    if deadline.remaining() < self.time_alone() {
                        Verdict::Unstarted
                    } else {
                        // A batch of one is never unrolled, so that this goes no deeper.
                        let written = Box::pin(self.write(&[task], tracing, deadline)).await;
                        written.into_iter().next().unwrap_or(Verdict::Unstarted)
                    }
                }
            };
            verdicts.push(verdict);
        }
        verdicts
    }

    async fn transact(
        &self,
        tasks: &[&Task<Entry<C::Event>>],
        tracing: &Tracing,
        deadline: Deadline,
    ) -> Result<Vec<Ruling>, Error> {
        let entries: Vec<&Entry<C::Event>> = tasks.iter().map(|task| &task.item).collect();
        let (traces, deadline) = (tasks.iter().map(|task| &task.trace), deadline.earlier_by(self.following()));
        let started = Instant::now();
        let work = Transaction::<C> { entries: &entries };
        let rulings = self.traced(tracing).run(TRANSACTION_SPAN, traces, &work, deadline).await;
        let mut counts = Counts::default();
        counts.duration(&TRANSACTION, &[Self::name()], started.elapsed());
        let connects = self.database.connects_since();
        if connects > 0 {
            counts.count(&CONNECTS, &[Self::name()], connects);
        }
        self.metrics.write(&counts);
        rulings
    }

    fn traced<'a>(&'a self, tracing: &'a Tracing) -> Traced<'a> {
        Traced { database: &self.database, tracing }
    }

    async fn conclude(
        &self,
        tasks: &[&Task<Entry<C::Event>>],
        rulings: Vec<Ruling>,
        tracing: &Tracing,
        deadline: Deadline,
    ) -> Vec<Verdict<Outcome>> {
        let is_refused = |ruling: &Ruling| matches!(ruling, Ruling::Refused);
        let refused: Vec<&Task<Entry<C::Event>>> =
            tasks.iter().zip(&rulings).filter(|(_, ruling)| is_refused(ruling)).map(|(task, _)| *task).collect();
        let mut followed = match refused.is_empty() {
            true => HashMap::new(),
            false => self.change.follow(&self.traced(tracing), refused, deadline).await,
        };
        let verdict = |(task, ruling): (&&Task<Entry<C::Event>>, Ruling)| match ruling {
            Ruling::Done(done) => Verdict::Done(done),
            Ruling::GivenUpByAnother => {
                self.count(&GIVEN_UP_BY_ANOTHER);
                task.span.in_scope(|| {
                    warn!("a cancellation came before the booking, and it was not of the user who booked; the booking stands");
                });
                Verdict::Done(Done::of(Outcome::Success))
            }
            Ruling::Refused => followed.remove(task.item.event.booking_id()).unwrap_or_else(|| {
                Verdict::Failed(Failure::transient("the booking is refused, and nothing followed from it"))
            }),
            Ruling::Failed(failure) => Verdict::Failed(failure),
        };
        tasks.iter().zip(rulings).map(verdict).collect()
    }

    fn say_away(&self, error: &Error) {
        let (event_type, sqlstate) = (Self::name(), error.sqlstate());
        match error.decision() {
            Decision::Access | Decision::Unready => {
                self.count(&UNREADY);
                error!(event_type, sqlstate, error = %error, "the database can't be used as it is configured");
            }
            Decision::Connection | Decision::Queue | Decision::Record | Decision::Reject => {
                warn!(event_type, sqlstate, error = %error, "the database can't be used now");
            }
        }
    }

    fn count(&self, metric: &'static Metric) {
        let mut counts = Counts::default();
        counts.count(metric, &[Self::name()], 1);
        self.metrics.write(&counts);
    }
}

/// What a fault means to a record that was alone in its transaction.
fn alone(error: &Error, decision: Decision) -> Failure {
    match decision {
        Decision::Reject => Failure::permanent(
            ErrorCode::InvalidField,
            format!("{error}: a value of the event can't be stored; correct it and send the event again"),
        ),
        Decision::Record | Decision::Connection | Decision::Access | Decision::Queue | Decision::Unready => {
            Failure::transient(error.to_string())
        }
    }
}

/// The writing of events, with a look at the schema in front of it on a new connection.
struct Transaction<'a, C: Change> {
    entries: &'a [&'a Entry<C::Event>],
}

impl<C: Change> Work for Transaction<'_, C> {
    type Output = Vec<Ruling>;

    async fn run(&self, session: &Session) -> Result<Vec<Ruling>, Error> {
        migration::look(session).await?;
        C::write(session, self.entries).await
    }
}

impl<R: Message, C: Change> Processor<R> for Recorder<C> {
    type Item = Entry<C::Event>;
    type Outcome = Outcome;

    const PORTION: Portion = Portion::Batch;

    fn name(&self) -> &'static str {
        Self::name()
    }

    fn budget(&self) -> Duration {
        self.time()
    }

    fn decode(&self, record: &R) -> Result<Decoded<Self::Item>, Failure> {
        let event = C::Event::parse(record.body())?;
        let Contexts { traceparents, baggages } = event.contexts();
        let producer = record.producer(traceparents, baggages);
        let baggage = producer.baggage.as_deref().unwrap_or_default();
        let trace_id = producer.trace_id().map(str::to_owned).or_else(|| self.logged_keys.trace_id(baggage));
        let (booking_id, source) = (event.booking_id().to_owned(), record.source().into_owned());
        let span = info_span!("event", booking_id, source, trace_id, baggage = self.logged_keys.of(baggage));
        Ok(Decoded { key: booking_id, span, producer, item: Entry { event, source, trace_id } })
    }

    async fn process(&self, item: Self::Item, trace: &TraceContext, deadline: Deadline) -> Result<Done, Failure> {
        let task = Task { item, trace: trace.clone(), span: Span::current() };
        // No trigger hands over records of a batch by themselves but after a panic, and nobody looks for spans then.
        match self.write(&[&task], &Tracing::default(), deadline).await.into_iter().next() {
            Some(Verdict::Done(done)) => Ok(done),
            Some(Verdict::Failed(failure)) => Err(failure),
            Some(Verdict::Away(why)) => Err(Failure::transient(why)),
            Some(Verdict::Unstarted) | None => Err(Failure::transient("the record was not begun")),
        }
    }

    async fn process_all(
        &self,
        tasks: Vec<Task<Self::Item>>,
        tracing: &Tracing,
        deadline: Deadline,
    ) -> Vec<Verdict<Outcome>> {
        let mut verdicts: Vec<Option<Verdict<Outcome>>> = tasks.iter().map(|_| None).collect();
        let mut away: Option<String> = None;
        for round in rounds(tasks.iter().map(|task| task.item.event.booking_id())) {
            if away.is_some() || deadline.remaining() < self.time() {
                break;
            }
            let together: Vec<&Task<Self::Item>> = round.iter().filter_map(|index| tasks.get(*index)).collect();
            for (index, verdict) in round.into_iter().zip(self.write(&together, tracing, deadline).await) {
                if let Verdict::Away(why) = &verdict {
                    away = Some(why.clone());
                }
                verdicts[index] = Some(verdict);
            }
        }
        let unreached = || away.clone().map_or(Verdict::Unstarted, Verdict::Away);
        verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(unreached)).collect()
    }
}

/// The places of records in the order of their transactions: the first of each booking, then the second of each, and so on.
fn rounds<'a>(booking_ids: impl Iterator<Item = &'a str>) -> VecDeque<Vec<usize>> {
    let mut rounds: VecDeque<Vec<usize>> = VecDeque::new();
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for (index, booking_id) in booking_ids.enumerate() {
        let times = seen.entry(booking_id).or_default();
        if *times == rounds.len() {
            rounds.push_back(Vec::new());
        }
        rounds[*times].push(index);
        *times += 1;
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_one_booking_are_in_different_transactions_in_their_order() {
        let of = |ids: &[&str]| rounds(ids.iter().copied());
        assert_eq!(of(&["a", "b", "a", "c", "a", "b"]), [vec![0, 1, 3], vec![2, 5], vec![4]]);
        assert_eq!(of(&["a", "b"]), [vec![0, 1]]);
        assert!(of(&[]).is_empty());
    }

    #[test]
    fn a_value_that_can_not_be_stored_is_rejected_and_all_else_is_tried_again() {
        let failure = |code: &str| {
            let error = Error::Sql { code: code.to_owned(), constraint: None };
            alone(&error, error.decision())
        };
        assert!(matches!(failure("22003"), Failure::Permanent { code: "invalid_field", .. }));
        assert!(matches!(failure("23514"), Failure::Permanent { code: "invalid_field", .. }));
        for code in ["40P01", "23503", "23505", "23P01", "55P03", "57014", "XX000"] {
            assert!(matches!(failure(code), Failure::Transient { .. }), "{code}");
        }
    }
}
