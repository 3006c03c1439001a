//! The soak of the bookings: thousands of events about few rooms, on a real PostgreSQL, while its server, the network and the
//! bus go wrong and functions are killed.
//!
//! Both functions run as they are deployed, in environments of their own, each behind its queue and a topic: an event comes by
//! the one or the other, and its copy by either. The queues' clocks run ahead, so that nobody sits out a back-off. When queues
//! and topics are empty, the rows are held against the events.

mod history;
mod judge;
mod topic;
mod trouble;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinError, time::MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;

pub use self::trouble::TROUBLES;
use self::{
    history::{History, Order, Way},
    topic::Topic,
};
use crate::{
    build::Binaries,
    lambda::{Function, Invocation},
    mapping::{Delivery, Mapping, MappingOptions},
    postgres::{Database, PostgresError, Server, wire::Wire},
    queue::{Message, Queue, QueueError, QueueOptions, Redrive, Snapshot},
    replay::{LogLine, attribute},
    stack::{FUNCTION_TIMEOUT, MOVED_AFTER, Stack, StackError},
};

/// The functions, with so many environments each.
const FUNCTIONS: [(&str, usize); 2] = [("booking-created", 5), ("booking-cancelled", 3)];

/// The queues' clocks are moved on so often, by so much: while a function is at work, and while all of its messages wait.
const TICK: Duration = Duration::from_millis(20);
const SKIPPED_AT_WORK: Duration = Duration::from_millis(180);
const SKIPPED_IDLE: Duration = Duration::from_secs(2);

/// So many messages wait at a time.
const WAITING: usize = 150;

/// Queues that are not empty by then never will be.
const PATIENCE: Duration = Duration::from_secs(20 * 60);

/// What is sent, and how much of it goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events, without the copies.
    pub events: usize,
    /// What the chances are drawn from.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Events that were sent, without copies.
    pub events: usize,
    /// Messages, copies included.
    pub messages: usize,
    /// Events that were sent before or after their turn.
    pub displaced: usize,
    /// Messages that came by a topic; the others came by a queue.
    pub by_topic: usize,
    /// Batches of a topic that came again.
    pub read_again: usize,
    /// Invocations of both functions.
    pub invocations: usize,
    /// Invocations that had no answer, such as those of killed processes.
    pub unanswered: usize,
    /// How often a record ended in each way.
    pub outcomes: BTreeMap<String, usize>,
    /// How often something went wrong, by what.
    pub troubles: BTreeMap<&'static str, u64>,
    /// Dead letters that were sent back once the faults were over.
    pub redriven: usize,
    /// Bookings by their statuses.
    pub rows: BTreeMap<String, usize>,
    /// Refund requests, a repeat under the same key not counted.
    pub refunds: usize,
    /// Repeats of what was told of a refused booking, under the same key.
    pub told_again: usize,
    /// Deadlocks that PostgreSQL found. Those that are made on purpose are none.
    pub deadlocks: i64,
    /// From the first message to the last.
    pub elapsed: Duration,
    /// What must not be.
    pub faults: Vec<String>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum BookingsError {
    /// The stack did not start.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// There was no port, or a binary is not there.
    #[error("prepare the bookings: {0}")]
    Prepare(#[from] io::Error),
    /// PostgreSQL is of no use.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// A statement of ours.
    #[error("a statement of the soak: {0}")]
    Sql(#[from] tokio_postgres::Error),
    /// A queue would not take a message.
    #[error("send an event: {0}")]
    Send(#[from] QueueError),
    /// What makes trouble ended by itself.
    #[error("make trouble: {0}")]
    Trouble(#[from] JoinError),
    /// Messages were left, which neither ended nor got to a dead-letter queue.
    #[error("{0} messages were neither done nor dead after {limit} minutes", limit = PATIENCE.as_secs() / 60)]
    Stuck(usize),
}

/// Runs a soak on a database of its own. The server is restarted, so that nobody else may be at it. `progress` hears how many
/// messages are still to end.
///
/// # Errors
/// When it could not be run to its end.
pub async fn run(
    options: Options,
    binaries: &Binaries,
    server: &'static Server,
    mut progress: impl FnMut(usize),
) -> Result<Report, BookingsError> {
    let mut random = fastrand::Rng::with_seed(options.seed);
    let history = history::of(options.events, &mut random);
    let mut site = Site::start(binaries, server).await?;
    let is_calm = Arc::new(AtomicBool::new(false));
    let trouble = site.trouble(random, is_calm.clone()).await?;
    let trouble = AbortOnDropHandle::new(tokio::spawn(trouble.make()));
    let started = Instant::now();
    site.let_happen(&history.orders, &mut progress).await?;
    is_calm.store(true, Ordering::Relaxed);
    let (troubles, deadlocks) = trouble.await??;
    site.redrive()?;
    site.let_happen(&[], &mut progress).await?;
    let elapsed = started.elapsed();
    let mut report = std::mem::take(&mut site.report);
    report.troubles.extend(troubles);
    report.deadlocks = deadlocks;
    report.by_topic = history.orders.iter().filter(|order| order.way == Way::Topic).count();
    report.events = options.events;
    report.messages = history.orders.len();
    report.displaced = history.displaced;
    report.elapsed = elapsed;
    // The server was restarted since the last.
    judge::judge(&history, &site.database.client().await?, &site.stack.aws.bus_entries(), &site.dead(), report).await
}

/// The stack, the functions and their database.
struct Site {
    stack: Stack,
    database: Database,
    wire: Arc<Wire>,
    desks: Vec<Desk>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    of_topics: mpsc::UnboundedReceiver<Invocation>,
    report: Report,
}

/// A function behind its queue and its topic.
struct Desk {
    queue: Queue,
    topic: Topic,
    dead_letters: Queue,
    function: Function,
    _mapping: AbortOnDropHandle<()>,
}

impl Desk {
    fn take(&mut self, order: &Order) -> Result<(), QueueError> {
        match order.way {
            Way::Queue => drop(self.queue.send(Message::new(order.body.clone()))?),
            Way::Topic => drop(self.topic.produce(&order.booking_id, &order.body)),
        }
        Ok(())
    }

    fn waiting(&self) -> usize {
        self.queue.len() + self.topic.waiting()
    }

    fn let_time_pass(&self) {
        let is_idle = self.function.processes_in_hand().is_empty();
        self.queue.elapse(if is_idle { SKIPPED_IDLE } else { SKIPPED_AT_WORK });
    }
}

impl Site {
    async fn start(binaries: &Binaries, server: &'static Server) -> Result<Self, BookingsError> {
        let stack = Stack::start().await?;
        let database = server.migrated().await?;
        let sql = database.client().await?;
        sql.batch_execute(&history::furniture()).await?;
        sql.batch_execute(trouble::MADE_ON_PURPOSE).await?;
        let wire = Arc::new(Wire::to(&server.host, server.port).await?);
        let (sender, deliveries) = mpsc::unbounded_channel();
        let (invocations, of_topics) = mpsc::unbounded_channel();
        let mut desks = Vec::new();
        for (name, environments) in FUNCTIONS {
            let dead_letters = Queue::new(format!("{name}-dlq"), QueueOptions::default());
            let redrive = Some(Redrive { queue: dead_letters.clone(), max_receive_count: MOVED_AFTER });
            let queue = Queue::new(name, QueueOptions { visibility: FUNCTION_TIMEOUT * 6, redrive });
            stack.aws.add_queue(queue.clone());
            stack.aws.add_queue(dead_letters.clone());
            let mut environment = stack.environment(name);
            environment.extend(database.variables());
            environment.insert("DB_PORT".to_owned(), wire.address().port().to_string());
            for (variable, queue) in [("DLQ_URL", &dead_letters), ("QUEUE_URL", &queue)] {
                environment.insert(variable.to_owned(), format!("{}/000000000000/{}", stack.aws.url(), queue.name()));
            }
            let binary = binaries.get(name).cloned().unwrap_or_default();
            let function = stack.deploy_with(name, binary, environments, environment)?;
            let options = MappingOptions { maximum_concurrency: environments, ..MappingOptions::default() };
            let mapping = Mapping::new(queue.clone(), function.clone(), options).run(sender.clone());
            let topic = Topic::of(&function, invocations.clone());
            desks.push(Desk { queue, topic, dead_letters, function, _mapping: AbortOnDropHandle::new(mapping) });
        }
        Ok(Self { stack, database, wire, desks, deliveries, of_topics, report: Report::default() })
    }

    async fn trouble(
        &self,
        random: fastrand::Rng,
        is_calm: Arc<AtomicBool>,
    ) -> Result<trouble::Trouble, BookingsError> {
        Ok(trouble::Trouble {
            random,
            is_calm,
            sql: self.database.client().await?,
            database: self.database.clone(),
            wire: self.wire.clone(),
            aws: self.stack.aws.clone(),
            functions: self.desks.iter().map(|desk| desk.function.clone()).collect(),
            made: BTreeMap::new(),
            deadlocks: 0,
        })
    }

    /// Sends the messages, a few hundred ahead of the functions, until all have ended.
    async fn let_happen(&mut self, orders: &[Order], progress: &mut impl FnMut(usize)) -> Result<(), BookingsError> {
        let started = Instant::now();
        let mut orders = orders.iter();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(delivery) = self.deliveries.recv() => self.note(&delivery.invocation),
                Some(invocation) = self.of_topics.recv() => self.note_of_topic(&invocation),
                _ = tick.tick() => {
                    let mut waiting: usize = self.desks.iter().map(Desk::waiting).sum();
                    for order in orders.by_ref().take(WAITING.saturating_sub(waiting)) {
                        self.desks[order.desk].take(order)?;
                        waiting += 1;
                    }
                    if waiting == 0 {
                        break;
                    }
                    if started.elapsed() > PATIENCE {
                        return Err(BookingsError::Stuck(waiting));
                    }
                    self.desks.iter().for_each(Desk::let_time_pass);
                    progress(waiting + orders.len());
                }
            }
        }
        while let Ok(delivery) = self.deliveries.try_recv() {
            self.note(&delivery.invocation);
        }
        while let Ok(invocation) = self.of_topics.try_recv() {
            self.note_of_topic(&invocation);
        }
        Ok(())
    }

    /// Sends back what used up its receives, as a person does once all is well.
    fn redrive(&mut self) -> Result<(), BookingsError> {
        for Desk { queue, dead_letters, .. } in &self.desks {
            let used_up = |letter: &&Snapshot| attribute(letter, "error_code") == Some("retries_exhausted");
            let ids: Vec<String> =
                dead_letters.messages().iter().filter(used_up).map(|letter| letter.id.clone()).collect();
            loop {
                let letters = dead_letters.receive(10);
                if letters.is_empty() {
                    break;
                }
                for letter in letters.into_iter().filter(|letter| ids.contains(&letter.id)) {
                    queue.send(Message::new(letter.body))?;
                    dead_letters.delete(&letter.receipt)?;
                    self.report.redriven += 1;
                }
            }
        }
        Ok(())
    }

    fn note_of_topic(&mut self, invocation: &Invocation) {
        self.report.read_again += usize::from(invocation.result.is_err());
        self.note(invocation);
    }

    fn note(&mut self, invocation: &Invocation) {
        self.report.invocations += 1;
        self.report.unanswered += usize::from(invocation.result.is_err());
        for line in LogLine::all(&invocation.logs) {
            *self.report.outcomes.entry(line.outcome).or_default() += 1;
        }
        for (code, what) in trouble::TOLD {
            let told = invocation.logs.iter().filter(|line| line.contains(code)).count();
            *self.report.troubles.entry(what).or_default() += told as u64;
        }
    }

    fn dead(&self) -> Vec<Snapshot> {
        self.desks.iter().flat_map(|desk| desk.dead_letters.messages()).collect()
    }
}
