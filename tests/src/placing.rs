//! The same people in two designs of a line: ours, by the real functions, and a counter that is raised batch by batch, as AWS's
//! Virtual Waiting Room has it (`shared/examples/counter.rs`). Their joins come as a standard queue hands them over: shuffled a
//! little, some twice, and some of the processes that place them are killed.
//!
//! One environment of each works batch after batch, so that a run can be repeated. Side by side, the batches of the counter
//! would overtake each other too.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    num::NonZero,
    time::{Duration, Instant, SystemTime},
};

use serde_json::Value;
use shared::{
    deadline::epoch_ms,
    waiting_room::{
        Moment,
        line::{Line, Scope, Settings, SettingsError},
        message::{JoinMessage, TickMessage},
        table::{Table, TableError},
    },
};
use tokio::time::sleep;

use crate::{
    arrivals::{displacement, inversions},
    aws::AwsError,
    build::Binaries,
    lambda::Function,
    mapping::{Delivery, Mapping},
    process::Process,
    queue::{Message, Queue, QueueError},
    stack::{Stack, StackError, WAITING_ROOM},
    tripwire::{Point, Side, Tripwire},
};

/// The example of `shared` that is the other design.
pub const COUNTER: &str = "counter";

/// The show whose line it is.
const SHOW: &str = "evt_placing";

/// The longest that ours may take to give a place to everybody who is in its table.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked whether a message is due.
const PACE: Duration = Duration::from_millis(2);

/// A design of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Ours: `waiting-room-joined` and `waiting-room-ticked`.
    Ours,
    /// A counter, raised by the size of each batch.
    Counter,
}

/// The people, and how their joins come.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// So many join, one after the other.
    pub people: u32,
    /// Within which they reach the gateway; zero: before the first of them is placed.
    pub within: Duration,
    /// A message is overtaken by so many others at most.
    pub overtaken_by: u32,
    /// The queue hands each so many-th message over twice.
    pub copied: u32,
    /// Each so many-th batch loses the process that works it: in turn before its first write, and after it. Nothing: none does.
    pub killed: Option<NonZero<usize>>,
    /// How often our line is worked. Who is placed later than a line holds people back stands behind those who came after him.
    pub tick: Duration,
    /// What the chances are drawn from.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placed {
    /// People who have a number.
    pub people: u64,
    /// Pairs of them of whom the one with the higher number reached the gateway first.
    pub inversions: u64,
    /// The most numbers that somebody is away from where his arrival belongs.
    pub displacement: u64,
    /// Numbers that were given out and that nobody has.
    pub gaps: u64,
    /// People who were given more than one number.
    pub numbered_twice: u64,
    /// Joins that the queue handed over a second time.
    pub copies: u64,
    /// Joins in the batches whose process was killed.
    pub killed: u64,
    /// From the first arrival until everybody had his number.
    pub elapsed: Duration,
}

/// Why nobody was placed.
#[derive(Debug, thiserror::Error)]
pub enum PlacingError {
    /// The stack did not start.
    #[error(transparent)]
    Stack(#[from] StackError),
    /// A program was not built.
    #[error("the program {0} was not built")]
    Unbuilt(&'static str),
    /// A program can't be run.
    #[error("deploy a program: {0}")]
    Function(#[from] io::Error),
    /// The queue refused a join.
    #[error("send a join: {0}")]
    Queue(#[from] QueueError),
    /// The line could not be opened.
    #[error("open a line: {0}")]
    Line(#[from] SettingsError),
    /// The waiting room's table could not be read or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The table of the counter could not be read.
    #[error(transparent)]
    Aws(#[from] AwsError),
    /// A batch failed whose process was not killed.
    #[error("a batch failed: {0}")]
    Failed(String),
    /// Somebody got no number.
    #[error("after {seconds} s {0} of {1} people have a place", seconds = PATIENCE.as_secs())]
    Stuck(u64, u32),
}

/// A join on its way through the queue.
struct Sent {
    body: String,
    /// After the first arrival.
    at: Duration,
}

/// What places people.
struct Site {
    stack: Stack,
    queue: Queue,
    function: Function,
    /// Of ours alone.
    ticks: Option<(Queue, Function)>,
    table: Table,
}

/// Lets the people of a load join a line of this design.
///
/// # Errors
/// When not everybody got a number.
pub async fn place(way: Way, load: &Load, binaries: &Binaries) -> Result<Placed, PlacingError> {
    let site = Site::set(way, binaries).await?;
    let scope = Scope { show_id: SHOW.to_owned(), generation: 1, key_version: 1 };
    let first = epoch_ms(SystemTime::now());
    if way == Way::Ours {
        site.table.open(&line(scope.clone(), first)?).await?;
    }
    site.warm_up(way).await?;
    let mut sent = joins(load, &scope, first);
    let copies = sent.len() as u64 - u64::from(load.people);
    sent.reverse();

    let mut killed = 0;
    let (started, mut ticked, mut batches) = (Instant::now(), Instant::now(), 0_usize);
    loop {
        while sent.last().is_some_and(|join| join.at <= started.elapsed()) {
            let Some(join) = sent.pop() else { break };
            site.queue.send(Message::new(join.body))?;
        }
        if ticked.elapsed() >= load.tick {
            ticked = Instant::now();
            site.tick().await?;
        }
        let batch = batches + 1;
        let dies = load.killed.filter(|killed| batch % *killed == 0);
        let dies = dies.map(|killed| if batch / killed % 2 == 1 { Side::After } else { Side::Before });
        match site.deliver(way, dies).await? {
            Some(delivery) => {
                batches = batch;
                killed += if dies.is_some() { delivery.batch.len() as u64 } else { 0 };
            }
            None if !sent.is_empty() => sleep(PACE).await,
            // What is left belongs to processes that were killed, and comes when their time is over.
            None if site.queue.skip_wait() => {}
            None => break,
        }
    }
    let placed = site.numbers(way, load).await?;
    Ok(Placed { copies, killed, elapsed: started.elapsed(), ..placed })
}

impl Site {
    async fn set(way: Way, binaries: &Binaries) -> Result<Self, PlacingError> {
        let stack = Stack::start().await?;
        let deploy = |function: &str, program: &'static str| -> Result<Function, PlacingError> {
            let binary = binaries.get(program).cloned().ok_or(PlacingError::Unbuilt(program))?;
            Ok(stack.deploy_with(function, binary, 1, stack.environment(function))?)
        };
        let (joined, ticked) = (waiting_room_joined::NAME, waiting_room_ticked::NAME);
        let program = match way {
            Way::Ours => joined,
            Way::Counter => COUNTER,
        };
        let function = deploy(joined, program)?;
        let ticks = match way {
            Way::Ours => Some((stack.queue(ticked), deploy(ticked, ticked)?)),
            Way::Counter => None,
        };
        let table = Table::new(stack.aws.tables(), WAITING_ROOM);
        Ok(Self { queue: stack.queue(joined), function, ticks, table, stack })
    }

    /// Starts the processes: how long that takes is the machine's, and what they ask at their start is nobody's join.
    async fn warm_up(&self, way: Way) -> Result<(), PlacingError> {
        let nothing = r#"{"Records": []}"#;
        let mut functions = vec![&self.function];
        functions.extend(self.ticks.as_ref().map(|(_, function)| function));
        for function in functions {
            function.invoke(nothing).await.result.map_err(|error| PlacingError::Failed(error.to_string()))?;
        }
        if way == Way::Ours {
            self.tick().await?;
        }
        self.stack.aws.clear_requests();
        Ok(())
    }

    /// Works our line once.
    async fn tick(&self) -> Result<(), PlacingError> {
        let Some((queue, function)) = &self.ticks else { return Ok(()) };
        queue.send(Message::new(TickMessage { show_id: SHOW.to_owned() }.body()))?;
        let delivery = Mapping::new(queue.clone(), function.clone(), Default::default()).deliver_once().await;
        delivery.map_or(Ok(()), |delivery| succeeded(&delivery))
    }

    /// Hands a batch over. Its process is killed on that side of its first write, if it is to be.
    async fn deliver(&self, way: Way, dies: Option<Side>) -> Result<Option<Delivery>, PlacingError> {
        let mapping = self.stack.map(self.queue.clone(), self.function.clone());
        let Some(side) = dies else {
            let delivery = mapping.deliver_once().await;
            if let Some(delivery) = &delivery {
                succeeded(delivery)?;
            }
            return Ok(delivery);
        };
        let wire = Tripwire::default();
        // Ours reads the line before it writes.
        let request = if way == Way::Ours { 2 } else { 1 };
        wire.arm(Some(Point { request, side }));
        self.stack.aws.set_tripwire(wire.clone());
        let kill = async {
            wire.tripped().await;
            self.function.processes_in_hand().into_iter().for_each(|process| Process(process).kill());
            pending::<()>().await;
        };
        let delivery = tokio::select! {
            delivery = mapping.deliver_once() => delivery,
            () = kill => None,
        };
        self.stack.aws.set_tripwire(Tripwire::default());
        Ok(delivery)
    }

    /// Waits until everybody has his number, and judges them.
    async fn numbers(&self, way: Way, load: &Load) -> Result<Placed, PlacingError> {
        match way {
            Way::Ours => self.places(load).await,
            Way::Counter => self.counted().await,
        }
    }

    async fn places(&self, load: &Load) -> Result<Placed, PlacingError> {
        let started = Instant::now();
        let line = loop {
            self.tick().await?;
            let joined = match self.table.line(SHOW).await? {
                Some(line) if line.joined >= u64::from(load.people) => break line,
                Some(line) => line.joined,
                None => 0,
            };
            if started.elapsed() > PATIENCE {
                return Err(PlacingError::Stuck(joined, load.people));
            }
            sleep(load.tick.min(Duration::from_millis(250))).await;
        };
        let standing = self.table.standing(&line, &(1..=line.joined).collect()).await?;
        let people: BTreeSet<_> = standing.values().map(|person| person.id).collect();
        let arrivals: Vec<Moment> = standing.values().map(|person| person.arrival).collect();
        Ok(Placed {
            people: people.len() as u64,
            gaps: line.joined - standing.len() as u64,
            numbered_twice: (standing.len() - people.len()) as u64,
            ..judged(&arrivals)
        })
    }

    async fn counted(&self) -> Result<Placed, PlacingError> {
        let number = |item: &Value, name: &str| item[name]["N"].as_str().and_then(|number| number.parse::<u64>().ok());
        let mut given: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for request in self.stack.aws.requests() {
            for write in request.body["RequestItems"][WAITING_ROOM].as_array().into_iter().flatten() {
                let item = &write["PutRequest"]["Item"];
                let person = item["pk"]["S"].as_str().unwrap_or_default().to_owned();
                given.entry(person).or_default().extend(number(item, "number"));
            }
        }
        let (mut last, mut numbered) = (0, BTreeMap::new());
        for item in self.stack.aws.scan(WAITING_ROOM).await? {
            last = number(&item, "numbers").unwrap_or(last);
            if let Some((of, arrival)) = number(&item, "number").zip(number(&item, "arrival")) {
                numbered.insert(of, arrival);
            }
        }
        let arrivals: Vec<Moment> = numbered.values().copied().collect();
        Ok(Placed {
            people: numbered.len() as u64,
            gaps: last - numbered.len() as u64,
            numbered_twice: given.values().filter(|numbers| numbers.len() > 1).count() as u64,
            ..judged(&arrivals)
        })
    }
}

/// A line that takes everybody and calls nobody yet.
///
/// # Errors
/// None, unless lines can't be set so any more.
pub fn line(scope: Scope, now: Moment) -> Result<Line, SettingsError> {
    const HOUR: Moment = 3_600_000;

    let settings = Settings {
        tickets: 1,
        seats_max: 1,
        max_inside: None,
        opens_at: now + HOUR,
        closes_at: now + 2 * HOUR,
        paused: false,
        draws: false,
    };
    Line::open(scope, settings)
}

/// The joins of a load in the order in which the queue hands them over.
fn joins(load: &Load, scope: &Scope, first: Moment) -> Vec<Sent> {
    let mut random = fastrand::Rng::with_seed(load.seed);
    let step = load.within / load.people.max(1);
    let mut sent = Vec::new();
    for number in 0..load.people {
        // In the same millisecond nobody was first.
        let after = if step.is_zero() { Duration::from_millis(number.into()) } else { step * number };
        let join = JoinMessage {
            scope: scope.clone(),
            user_id: format!("usr_{number}"),
            seats: 1,
            arrival: first + u64::try_from(after.as_millis()).unwrap_or_default(),
            request: None,
        };
        let rank = number + random.u32(0..=load.overtaken_by);
        sent.push((rank, join.body()));
        if load.copied > 0 && number % load.copied == load.copied - 1 {
            // A copy comes when the first has been handed over.
            sent.push((rank + load.overtaken_by + 10 + random.u32(0..=load.overtaken_by), join.body()));
        }
    }
    sent.sort_by_key(|(rank, _)| *rank);
    sent.into_iter().map(|(rank, body)| Sent { body, at: step * rank }).collect()
}

fn judged(arrivals: &[Moment]) -> Placed {
    Placed { inversions: inversions(arrivals), displacement: displacement(arrivals), ..Placed::default() }
}

fn succeeded(delivery: &Delivery) -> Result<(), PlacingError> {
    match delivery.batch.iter().find(|id| delivery.verdict.keeps(id)) {
        None => Ok(()),
        Some(_) => Err(PlacingError::Failed(format!("{:?}", delivery.verdict))),
    }
}
