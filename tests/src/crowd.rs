//! A crowd that wants more tickets than there are: it joins the line of a show, waits, is let in, reserves and pays, or does
//! not. Everything that it meets is the real functions, and what must hold is judged by the tables and the services' books.

mod judge;
mod person;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Client;
use shared::waiting_room::table::Table;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

pub use self::{person::Fate, watch::Sample};
use self::{person::Person, watch::Watch};
use crate::{
    admission,
    aws::{AwsError, Taken},
    books::Breach,
    build::Binaries,
    lambda::Function,
    process::Process,
    queue::Queue,
    sale::{HeldError, Sale, SalePorts},
    stack::{FUNCTION_TIMEOUT, RESERVATIONS, Stack, WAITING_ROOM},
    till::PRICE,
};

/// The show whose line it is.
const SHOW: &str = "evt_sale";

/// The most seats that a person wants.
const SEATS_MAX: u8 = 2;

/// How many people ask for a place at the same moment at most, so that a small machine is not asked for more than it can do.
const JOINING_AT_ONCE: usize = 32;

/// How many other requests are under way at most.
const ASKING_AT_ONCE: usize = 64;

/// How often somebody at work is killed.
const BLOWS: Duration = Duration::from_millis(400);

/// What has not come to rest so long after the last customer has gone never will.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// How large a sale is, and what goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// People who want tickets.
    pub people: u32,
    /// Tickets that there are.
    pub tickets: u32,
    /// Within which the people come, if the machine can take so many.
    pub arrive_within: Duration,
    /// The time for each step of a turn.
    pub windows: Windows,
    /// Whether some pay when their hold has run out, which makes a sale at least as long as a hold.
    pub some_pay_late: bool,
    /// Whether nobody is killed.
    pub is_calm: bool,
    /// What the chances are drawn from.
    pub seed: u64,
}

/// The time for each step of a turn. A sale on one machine is shorter than one for people, and so are they.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    /// `CALL_WINDOW_SECONDS`.
    pub call: Duration,
    /// `BOOKING_WINDOW_SECONDS`.
    pub booking: Duration,
    /// `HOLD_SECONDS`.
    pub hold: Duration,
    /// The longest that a tab waits between two questions, whatever it is told.
    pub longest_wait: Duration,
}

impl Options {
    /// A sale that takes seconds.
    pub const SMALL: Self = Self {
        people: 300,
        tickets: 20,
        arrive_within: Duration::from_secs(1),
        windows: Windows {
            call: Duration::from_secs(5),
            // Longer than a call: nobody is called a second time whose time to reserve ran out on a busy machine.
            booking: Duration::from_secs(15),
            hold: Duration::from_secs(30),
            longest_wait: Duration::from_secs(3),
        },
        some_pay_late: false,
        is_calm: true,
        seed: 1,
    };
}

/// How often an operation was asked for, and the records that it read or wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub requests: usize,
    /// Records, several of which may be in one request.
    pub records: usize,
}

/// What became of a sale.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was asked for.
    pub options: Options,
    /// People by what became of them, as they know it.
    pub fates: BTreeMap<Fate, usize>,
    /// What the line was at each look.
    pub samples: Vec<Sample>,
    /// From the first click to the last, which the machine makes longer than was asked for.
    pub arrived_within: Duration,
    /// From the first click until everybody had a place.
    pub placed_within: Duration,
    /// From a join's answer to the first answer with its place, of each customer who asked, in order.
    pub known_after: Vec<Duration>,
    /// From a join's answer to the turn, of each customer who had one, in order.
    pub waited: Vec<Duration>,
    /// The time of arrival of each place in milliseconds after the first, by position.
    pub arrivals: Vec<u64>,
    /// Pairs of places of which the later one arrived first.
    pub inversions: u64,
    /// The most places that somebody stands away from where his arrival belongs.
    pub displacement: u64,
    /// People who stand behind others that came after them, because their message came late.
    pub late: u64,
    /// Tickets that were sold.
    pub sold: u32,
    /// The longest that a ticket was free while somebody waited whom it was enough for, and the ticks meanwhile.
    pub unsold: (Duration, u32),
    /// Refunds that were requested.
    pub refunds: usize,
    /// Processes that were killed at work.
    pub killed: usize,
    /// Requests of customers: joins, questions for a place, and all others.
    pub requests: [usize; 3],
    /// The bytes of those requests' bodies and of their answers'.
    pub bytes: [usize; 3],
    /// Requests of the functions to AWS, by operation.
    pub operations: BTreeMap<String, Counts>,
    /// What those on the waiting room's table took, by operation.
    pub taken: BTreeMap<String, Taken>,
    /// From the first click to the last answer.
    pub elapsed: Duration,
    /// What must not be.
    pub breaches: Vec<Breach>,
}

impl Report {
    /// The read units and the write units of the waiting room's table.
    pub fn units(&self) -> (f64, f64) {
        let reads = |operation: &str| matches!(operation, "GetItem" | "BatchGetItem" | "Query");
        let (read, written): (Vec<_>, Vec<_>) = self.taken.iter().partition(|(operation, _)| reads(operation));
        let sum = |taken: &[(&String, &Taken)]| taken.iter().map(|(_, taken)| taken.units).sum::<f64>();
        (sum(&read), sum(&written))
    }

    /// What came of it, in a sentence.
    pub fn verdict(&self) -> String {
        let kept = match self.breaches.len() {
            0 => "every promise was kept".to_owned(),
            1 => "1 promise was broken".to_owned(),
            broken => format!("{broken} promises were broken"),
        };
        let Options { people, tickets, .. } = self.options;
        let (sold, seconds) = (self.sold, self.elapsed.as_secs_f64());
        let killed = if self.killed == 0 { String::new() } else { format!(", {} processes killed", self.killed) };
        format!("A sale: {people} people, {tickets} tickets, {sold} sold in {seconds:.1} s{killed}: {kept}.")
    }
}

/// How far a sale is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    /// People who have joined.
    pub joined: u64,
    /// Places whose turn has come.
    pub called: u64,
    /// Tickets that are sold.
    pub sold: u32,
    /// People who are done.
    pub done: usize,
}

/// What everybody in a sale shares.
struct Venue {
    options: Options,
    sale: Sale,
    table: Table,
    http: Client,
    joining: Semaphore,
    asking: Semaphore,
    /// The reservations that one of two tabs pays for.
    paid: Mutex<BTreeSet<String>>,
    killed: AtomicUsize,
    opened: Instant,
}

/// Holds a sale. `progress` hears how far it is.
///
/// # Errors
/// When it could not be held to its end.
pub async fn hold(
    options: Options,
    binaries: &Binaries,
    mut progress: impl FnMut(Progress),
) -> Result<Report, HeldError> {
    let venue = Arc::new(Venue::open(options, binaries).await?);
    let (worked, told) = mpsc::unbounded_channel();
    drop(told); // Who works is seen by what becomes of the line.
    let running = venue.sale.run(worked).await?;
    venue.sale.wind().await?;
    let blows = if options.is_calm { None } else { Some(AbortOnDropHandle::new(tokio::spawn(strike(venue.clone())))) };
    let mut watch = Watch::of(venue.clone());

    let mut random = fastrand::Rng::with_seed(options.seed);
    let started = Instant::now();
    let mut visits = JoinSet::new();
    for number in 0..options.people {
        let person = Person::with(number, &options, &mut random);
        let comes_at = started + options.arrive_within.mul_f64(random.f64());
        let venue = venue.clone();
        visits.spawn(async move {
            sleep_until(comes_at.into()).await;
            person.visit(&venue).await
        });
    }
    let mut people = Vec::new();
    while !visits.is_empty() {
        // A look is never cut off by whoever is done meanwhile: where many are, nobody would look.
        let looked = watch.look().await?;
        while let Some(visit) = visits.try_join_next() {
            people.push(visit?);
        }
        progress(Progress { done: people.len(), ..looked });
    }
    let elapsed = started.elapsed();
    drop(blows); // What comes to rest now does so as after any death.
    venue.come_to_rest(&mut watch).await?;
    drop(running);
    judge::report(&venue, &people, watch.end(), started, elapsed).await
}

impl Venue {
    async fn open(options: Options, binaries: &Binaries) -> Result<Self, HeldError> {
        let seconds = |time: Duration| time.as_secs().to_string();
        let Windows { call, booking, hold, longest_wait: _ } = options.windows;
        let stack = Stack::start()
            .await?
            .with_variable("CALL_WINDOW_SECONDS", &seconds(call))
            .with_variable("BOOKING_WINDOW_SECONDS", &seconds(booking))
            .with_variable("RELEASE_GRACE_SECONDS", "1")
            .with_variable("HOLD_SECONDS", &seconds(hold));
        // Twice the places of the line, so that nothing but the line keeps anybody from too many of them.
        stack.inventory.stock(SHOW, &[], options.tickets * 2);
        let (price, currency) = PRICE;
        stack.inventory.price(SHOW, price, currency);
        let table = Table::new(stack.aws.tables_unseen(), WAITING_ROOM);
        let sale = Sale::open(stack, binaries, SalePorts::default()).await?;
        admission::open_line(&sale.stack.aws, SHOW, options.tickets).await.map_err(HeldError::Line)?;
        let http = Client::builder().timeout(FUNCTION_TIMEOUT).build()?;
        let (joining, asking) = (Semaphore::new(JOINING_AT_ONCE), Semaphore::new(ASKING_AT_ONCE));
        let (paid, killed) = (Mutex::default(), AtomicUsize::default());
        Ok(Self { options, sale, table, http, joining, asking, paid, killed, opened: Instant::now() })
    }

    /// Waits until every queue is empty and no place is inside any more. Whoever was killed at work leaves messages hidden for
    /// minutes: their time is let pass when no worker can hold them any more.
    async fn come_to_rest(&self, watch: &mut Watch) -> Result<(), HeldError> {
        let (started, mut skipped) = (Instant::now(), Instant::now());
        let settles = |name: &str| name != waiting_room_ticked::NAME;
        loop {
            let sample = watch.look().await?;
            let queues = self.sale.queues.iter().filter(|(name, _)| settles(name));
            let waiting: usize = queues.map(|(_, queue)| Queue::len(queue)).sum();
            let inside = watch.inside();
            if waiting == 0 && inside == 0 && !self.has_unpublished().await? {
                return Ok(());
            }
            if skipped.elapsed() > FUNCTION_TIMEOUT + Duration::from_secs(2) {
                for (_, queue) in self.sale.queues.iter().filter(|(name, _)| settles(name)) {
                    queue.skip_wait();
                }
                skipped = Instant::now();
            }
            if started.elapsed() > PATIENCE {
                let what = format!("{waiting} messages wait, {inside} places are inside, {} are sold", sample.sold);
                return Err(HeldError::Stuck { after: PATIENCE, what });
            }
        }
    }

    fn killed(&self) -> usize {
        self.killed.load(Ordering::Relaxed)
    }

    /// Whether nobody has paid for this reservation yet.
    fn is_first_to_pay(&self, id: &str) -> bool {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned())
    }

    async fn has_unpublished(&self) -> Result<bool, AwsError> {
        let found = self.sale.stack.aws.scan(RESERVATIONS).await?;
        Ok(found.iter().any(|item| item.get("unpublished").is_some()))
    }
}

/// Kills who is at work, now and then.
async fn strike(venue: Arc<Venue>) {
    let mut random = fastrand::Rng::with_seed(venue.options.seed);
    loop {
        sleep(BLOWS.mul_f64(random.f64() * 2.0)).await;
        let at_work: Vec<u32> = venue.sale.functions.values().flat_map(Function::processes_in_hand).collect();
        if let Some(process) = random.choice(&at_work) {
            Process(*process).kill();
            venue.killed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
