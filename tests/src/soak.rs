//! A soak: thousands of events through the real functions while their network and their services go wrong.
//!
//! Every function runs in three deployments side by side, on one queue, whose clocks are half a second apart. A share of
//! all calls goes wrong, and a share of the messages comes twice. When the queues are empty the faults end, what used up its
//! receives is sent back by [`redrive`], as a person would, and the services' books are held against the events.

pub mod bookings;
pub mod customers;
mod judge;
mod memory;
mod traffic;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    time::{Duration, Instant},
};

use redrive::{DeadLetterQueue, MAX_RECEIVE_COUNT, RedriveError, Sent};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::task::AbortOnDropHandle;

pub use self::{judge::Faults, memory::Memory};
use self::{
    judge::{Books, judge},
    memory::Samples,
    traffic::{Event, Story, stories},
};
use crate::{
    build::Binaries,
    catalogue::QUEUED,
    inventory::SeatState,
    mapping::{Delivery, Mapping, MappingOptions},
    proxy::{Counts, Network},
    queue::{Message, Queue},
    replay::{LogLine, attribute},
    stack::{FUNCTION_TIMEOUT, Stack, StackError},
};

/// How far the clocks of the deployments are ahead of the world's.
const CLOCKS_AHEAD_MS: [i64; 3] = [0, 500, -500];

/// A copy of a message comes up to so much later than the message.
const COPIES_WITHIN: Duration = Duration::from_secs(20);

/// The reasons of dead letters that another try may settle.
const USED_UP: [&str; 2] = ["retries_exhausted", MAX_RECEIVE_COUNT];

/// `MAX_RETRIES` of the soak. With the default nearly nothing would use up its receives, and the way back from the
/// dead-letter queue is to be travelled too.
const LAST_RECEIVE: u32 = 5;

/// How often it is looked for seats that are free again.
const LOOK: Duration = Duration::from_millis(100);

/// Queues that are not empty by then never will be.
const PATIENCE: Duration = Duration::from_secs(40 * 60);

/// What is sent, and how much of it goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Events, without the copies.
    pub events: usize,
    /// The share of calls that go wrong, and of messages that come twice, from 0 to 1.
    pub share: f64,
    /// Environments of each of the three deployments of each function.
    pub environments: usize,
    /// What the chances are drawn from.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Report {
    /// Events that were sent, without copies.
    pub events: usize,
    /// Messages, copies included.
    pub messages: usize,
    /// Invocations of all functions.
    pub invocations: usize,
    /// What the proxies did, by service.
    pub network: [(&'static str, Counts); 3],
    /// How often a record ended in each way.
    pub outcomes: BTreeMap<String, usize>,
    /// Dead letters that were sent back once the faults were over.
    pub redriven: usize,
    /// Dead letters that no repeat can mend, each with its reason.
    pub rejected: usize,
    /// What the functions' processes held.
    pub memory: Vec<Memory>,
    /// From the first message to the last.
    pub elapsed: Duration,
    /// What must not be.
    pub faults: Faults,
}

impl Report {
    /// Whether nothing was lost, nothing happened twice, no seat was sold twice, and memory stayed flat.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.memory.iter().all(Memory::is_flat)
    }
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SoakError {
    /// The stack did not start.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A proxy found no port, or a binary is not there.
    #[error("prepare the soak: {0}")]
    Prepare(#[from] io::Error),
    /// A queue would not take a message.
    #[error("send an event: {0}")]
    Send(#[from] crate::queue::QueueError),
    /// An event is none of the functions'.
    #[error("send an event: the function {0:?} has no queue")]
    Unrouted(&'static str),
    /// The dead letters could not be sent back.
    #[error(transparent)]
    Redrive(#[from] RedriveError),
    /// Messages were left, which neither ended nor got to a dead-letter queue.
    #[error("{0} messages were neither settled nor dead after {limit} minutes", limit = PATIENCE.as_secs() / 60)]
    Stuck(usize),
}

/// Runs a soak. `progress` hears how many messages wait.
///
/// # Errors
/// When it could not be run to its end.
pub async fn run(options: Options, binaries: &Binaries, mut progress: impl FnMut(usize)) -> Result<Report, SoakError> {
    let mut soak = Soak::start(options, binaries).await?;
    let started = Instant::now();
    for story in stories(options.events, &mut soak.random) {
        soak.tell(story)?;
    }
    soak.until_empty(&mut progress).await?;
    let network = soak.calm();
    let redriven = soak.redrive().await?;
    soak.until_empty(&mut progress).await?;
    Ok(soak.report(network, redriven, started.elapsed()))
}

/// The stack, what is deployed on it, and what has happened so far.
struct Soak {
    options: Options,
    random: fastrand::Rng,
    stack: Stack,
    networks: Vec<Network>,
    queues: BTreeMap<&'static str, Queue>,
    deliveries: mpsc::UnboundedReceiver<Delivery>,
    _mappings: Vec<AbortOnDropHandle<()>>,
    stories: Vec<Story>,
    /// Stories whose seats are still to be sold again.
    unsold: Vec<Story>,
    /// The messages that no repeat makes readable, by their ids.
    unreadable: BTreeSet<String>,
    messages: usize,
    invocations: usize,
    outcomes: BTreeMap<String, usize>,
    samples: Samples,
}

impl Soak {
    async fn start(options: Options, binaries: &Binaries) -> Result<Self, SoakError> {
        let stack = Stack::start().await?;
        let queues: BTreeMap<_, _> = QUEUED.iter().map(|function| (*function, stack.queue(function))).collect();
        let (sender, deliveries) = mpsc::unbounded_channel();
        let (mut networks, mut mappings) = (Vec::new(), Vec::new());
        for (number, clock_ahead) in (1..).zip(CLOCKS_AHEAD_MS) {
            let network = Network::before(&stack, options.seed.wrapping_mul(31).wrapping_add(number)).await?;
            network.aws.set_clock_ahead(clock_ahead);
            network.set_share(options.share);
            for (function, queue) in &queues {
                let mut environment = stack.environment(function);
                environment.extend(network.variables());
                environment.insert("MAX_RETRIES".to_owned(), LAST_RECEIVE.to_string());
                let binary = binaries.get(*function).cloned().unwrap_or_default();
                let deployed = stack.deploy_with(function, binary, options.environments, environment)?;
                let limits = MappingOptions { maximum_concurrency: options.environments, ..MappingOptions::default() };
                let mapping = Mapping::new(queue.clone(), deployed, limits).run(sender.clone());
                mappings.push(AbortOnDropHandle::new(mapping));
            }
            networks.push(network);
        }
        Ok(Self {
            options,
            random: fastrand::Rng::with_seed(options.seed),
            stack,
            networks,
            queues,
            deliveries,
            _mappings: mappings,
            stories: Vec::new(),
            unsold: Vec::new(),
            unreadable: BTreeSet::new(),
            messages: 0,
            invocations: 0,
            outcomes: BTreeMap::new(),
            samples: Samples::default(),
        })
    }

    /// Puts the story's reservation in place and sends its events, and copies of some.
    fn tell(&mut self, story: Story) -> Result<(), SoakError> {
        self.stack.seed(&[story.given()]);
        for event in &story.events {
            self.send(&story, event, Duration::ZERO)?;
            if self.random.f64() < self.options.share {
                let delay = COPIES_WITHIN.mul_f64(self.random.f64());
                self.send(&story, event, delay)?;
            }
        }
        if story.resold {
            self.unsold.push(story.clone());
        }
        self.stories.push(story);
        Ok(())
    }

    fn send(&mut self, story: &Story, event: &Event, delay: Duration) -> Result<(), SoakError> {
        let queue = self.queues.get(event.function().name).ok_or(SoakError::Unrouted(event.function().name))?;
        let id = queue.send(Message { delay, ..Message::new(story.body(event)) })?;
        self.messages += 1;
        if event.unreadable {
            self.unreadable.insert(id);
        }
        Ok(())
    }

    /// Waits until no message is left in a queue and no seat is left to sell again.
    async fn until_empty(&mut self, progress: &mut impl FnMut(usize)) -> Result<(), SoakError> {
        let (started, mut last) = (Instant::now(), Instant::now());
        loop {
            let mut next = timeout(LOOK, self.deliveries.recv()).await.ok().flatten();
            while let Some(delivery) = next {
                self.note(&delivery);
                last = Instant::now();
                next = self.deliveries.try_recv().ok();
            }
            // A message whose back-off could not be set waits for its visibility. Once no worker can hold a lease any more,
            // a queue's clock may go faster than the world's.
            if last.elapsed() > FUNCTION_TIMEOUT {
                for queue in self.queues.values() {
                    queue.skip_wait();
                }
                last = Instant::now();
            }
            self.sell_again()?;
            let waiting: usize = self.queues.values().map(Queue::len).sum();
            progress(waiting);
            if waiting == 0 {
                return Ok(());
            }
            if started.elapsed() > PATIENCE {
                return Err(SoakError::Stuck(waiting));
            }
        }
    }

    /// Seats that are free again have their next customer at once.
    fn sell_again(&mut self) -> Result<(), SoakError> {
        let is_free = |story: &Story| self.stack.inventory.seat_state(&story.reservation_id) == SeatState::Free;
        let (free, rest) = std::mem::take(&mut self.unsold).into_iter().partition(is_free);
        self.unsold = rest;
        free.iter().map(Story::resale).try_for_each(|story| self.tell(story))
    }

    fn note(&mut self, delivery: &Delivery) {
        self.invocations += 1;
        for line in LogLine::all(&delivery.invocation.logs) {
            *self.outcomes.entry(line.outcome).or_default() += 1;
        }
        self.samples.take(&delivery.invocation);
    }

    /// Ends all faults, and tells what there were.
    fn calm(&self) -> [(&'static str, Counts); 3] {
        self.networks.iter().for_each(|network| network.set_share(0.0));
        Network::SERVICES.map(|(name, pick)| {
            let mut sum = Counts::default();
            self.networks.iter().for_each(|network| sum += pick(network).counts());
            (name, sum)
        })
    }

    /// Sends back what only used up its receives, as a person does by `cargo redrive`.
    async fn redrive(&self) -> Result<usize, SoakError> {
        let mut moved = 0;
        for (function, queue) in &self.queues {
            let letters = DeadLetterQueue::at(self.stack.aws.sqs(), self.stack.dead_letters(function).url());
            let all = letters.read().await?.letters;
            let (back, rest): (Vec<_>, Vec<_>) = all.iter().partition(|letter| USED_UP.contains(&letter.code.as_str()));
            let ends = letters.send(&back, &queue.url()).await;
            moved += ends.iter().filter(|end| matches!(end, Sent::Moved | Sent::CopyStays(_))).count();
            // What stays hidden is not lost: it is counted where it lies.
            drop(letters.give_back(&rest).await);
        }
        Ok(moved)
    }

    fn report(self, network: [(&'static str, Counts); 3], redriven: usize, elapsed: Duration) -> Report {
        let mut faults = judge(&self.stories, &Books::of(&self.stack, &self.stories));
        let letters = QUEUED.iter().flat_map(|function| self.stack.dead_letters(function).messages());
        let letters: BTreeMap<String, String> = letters
            .map(|letter| {
                let text = |name| attribute(&letter, name).map(str::to_owned);
                (text("source_message_id").unwrap_or(letter.id.clone()), text("error_code").unwrap_or_default())
            })
            .collect();
        faults.of_letters(&self.unreadable, &letters);
        Report {
            events: self.stories.iter().map(|story| story.events.len()).sum(),
            messages: self.messages,
            invocations: self.invocations,
            network,
            outcomes: self.outcomes,
            redriven,
            rejected: letters.len(),
            memory: self.samples.memory(),
            elapsed,
            faults,
        }
    }
}
