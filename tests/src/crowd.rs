//! A crowd that wants more tickets than there are: it joins the line of a show, waits, is let in, reserves and pays, or does
//! not. Everything that it meets is the real functions, and what must hold is judged by the tables and the services' books.

mod board;
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
    sync::{Semaphore, mpsc, watch as channel},
    task::JoinSet,
    time::{sleep, sleep_until},
};
use tokio_util::task::AbortOnDropHandle;

use self::{
    board::Board,
    person::Person,
    watch::{Load, Watch},
};
pub use self::{person::Fate, watch::Sample};
use crate::{
    admission,
    aws::{AwsError, Taken},
    books::{Books, Breach},
    build::Binaries,
    gateway::Issuer,
    inventory::Inventory,
    lambda::Function,
    payments::Payments,
    process::Process,
    queue::Queue,
    sale::{HeldError, Sale, SalePorts},
    stack::{FUNCTION_TIMEOUT, RESERVATIONS, Stack, WAITING_ROOM},
    till::PRICE,
};

/// The show whose line it is.
pub const SHOW: &str = "evt_sale";

/// The most seats that a person wants.
pub const SEATS_MAX: u8 = 2;

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
    /// Whether people who know their place read what everybody may know of the line, as its page does, and ask for their own
    /// place when it says something that is new for them. Else each asks as often as he is told.
    pub reads_board: bool,
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
        reads_board: false,
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

/// What the customers of a sale meet, wherever its functions run.
pub struct Doors {
    /// The HTTP API, without a slash behind it.
    pub url: String,
    /// Who signs their tokens.
    pub issuer: Issuer,
    /// Where they pay.
    pub payments: Payments,
    /// The waiting room's table, by which their line is watched.
    pub table: Table,
}

/// People before the doors of a sale, and who watches their line.
pub struct Crowd {
    venue: Arc<Venue>,
    watch: Watch,
    people: Vec<Person>,
    started: Instant,
    elapsed: Duration,
}

/// What everybody in a sale shares.
struct Venue {
    options: Options,
    doors: Doors,
    http: Client,
    joining: Semaphore,
    asking: Semaphore,
    board: channel::Sender<Board>,
    /// The reservations that one of two tabs pays for.
    paid: Mutex<BTreeSet<String>>,
    opened: Instant,
}

/// Holds a sale on this machine. `progress` hears how far it is.
///
/// # Errors
/// When it could not be held to its end.
pub async fn hold(
    options: Options,
    binaries: &Binaries,
    mut progress: impl FnMut(Progress),
) -> Result<Report, HeldError> {
    let sale = Arc::new(open(options, binaries).await?);
    let (url, issuer, payments) = (sale.gateway.url(), sale.issuer.clone(), sale.stack.payments.clone());
    let doors = Doors { url, issuer, payments, table: Table::new(sale.stack.aws.tables_unseen(), WAITING_ROOM) };
    let mut crowd = Crowd::before(doors, options)?;
    let (worked, told) = mpsc::unbounded_channel();
    drop(told); // Who works is seen by what becomes of the line.
    let running = sale.run(worked).await?;
    sale.wind().await?;
    let killed = Arc::new(AtomicUsize::default());
    let blows = strike(sale.clone(), options.seed, killed.clone());
    let blows = if options.is_calm { None } else { Some(AbortOnDropHandle::new(tokio::spawn(blows))) };
    let mut load = Load::default();
    let looked = |looked| {
        load.count(&sale.stack.aws);
        progress(looked);
    };
    crowd.visit(looked).await?;
    drop(blows); // What comes to rest now does so as after any death.
    come_to_rest(&sale, &mut crowd).await?;
    drop(running);
    load.count(&sale.stack.aws);
    let books = Books::of(&sale.stack).await?;
    let faults = books.faults(&sale);
    let report = crowd.report(&books, faults).await?;
    let Load { operations, taken } = load;
    Ok(Report { killed: killed.load(Ordering::Relaxed), operations, taken, ..report })
}

/// Everything deployed on this machine, and the line open.
async fn open(options: Options, binaries: &Binaries) -> Result<Sale, HeldError> {
    let seconds = |time: Duration| time.as_secs().to_string();
    let Windows { call, booking, hold, longest_wait: _ } = options.windows;
    let stack = Stack::start()
        .await?
        .with_variable("CALL_WINDOW_SECONDS", &seconds(call))
        .with_variable("BOOKING_WINDOW_SECONDS", &seconds(booking))
        .with_variable("RELEASE_GRACE_SECONDS", "1")
        .with_variable("HOLD_SECONDS", &seconds(hold));
    stock(&stack.inventory, &options);
    let sale = Sale::open(stack, binaries, SalePorts::default()).await?;
    admission::open_line(&sale.stack.aws, SHOW, options.tickets).await.map_err(HeldError::Line)?;
    Ok(sale)
}

/// Gives the show its places: twice those of the line, so that nothing but the line keeps anybody from too many of them.
pub fn stock(inventory: &Inventory, options: &Options) {
    inventory.stock(SHOW, &[], options.tickets * 2);
    let (price, currency) = PRICE;
    inventory.price(SHOW, price, currency);
}

/// Waits until every queue is empty and no place is inside any more. Whoever was killed at work leaves messages hidden for
/// minutes: their time is let pass when no worker can hold them any more.
async fn come_to_rest(sale: &Sale, crowd: &mut Crowd) -> Result<(), HeldError> {
    let (started, mut skipped) = (Instant::now(), Instant::now());
    let settles = |name: &str| name != waiting_room_ticked::NAME;
    loop {
        let inside = crowd.look().await?;
        let queues = sale.queues.iter().filter(|(name, _)| settles(name));
        let waiting: usize = queues.map(|(_, queue)| Queue::len(queue)).sum();
        if waiting == 0 && inside == 0 && !has_unpublished(sale).await? {
            return Ok(());
        }
        if skipped.elapsed() > FUNCTION_TIMEOUT + Duration::from_secs(2) {
            for (_, queue) in sale.queues.iter().filter(|(name, _)| settles(name)) {
                queue.skip_wait();
            }
            skipped = Instant::now();
        }
        if started.elapsed() > PATIENCE {
            return Err(HeldError::Stuck {
                after: PATIENCE,
                what: format!("{waiting} messages wait, {inside} places are inside"),
            });
        }
    }
}

async fn has_unpublished(sale: &Sale) -> Result<bool, AwsError> {
    let found = sale.stack.aws.scan(RESERVATIONS).await?;
    Ok(found.iter().any(|item| item.get("unpublished").is_some()))
}

impl Crowd {
    /// People who have not come yet. The line of [`SHOW`] must be open.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn before(doors: Doors, options: Options) -> Result<Self, HeldError> {
        let http = Client::builder().no_proxy().timeout(FUNCTION_TIMEOUT).build()?;
        let (joining, asking) = (Semaphore::new(JOINING_AT_ONCE), Semaphore::new(ASKING_AT_ONCE));
        let (board, _) = channel::channel(Board::default());
        let (paid, opened) = (Mutex::default(), Instant::now());
        let venue = Arc::new(Venue { options, doors, http, joining, asking, board, paid, opened });
        let watch = Watch::of(venue.clone());
        Ok(Self { venue, watch, people: Vec::new(), started: opened, elapsed: Duration::ZERO })
    }

    /// Lets everybody come, and waits until the last of them is done. `progress` hears how far it is at each look.
    ///
    /// # Errors
    /// When the line can't be watched, or what a customer does is at fault.
    pub async fn visit(&mut self, mut progress: impl FnMut(Progress)) -> Result<(), HeldError> {
        let options = self.venue.options;
        let board = options.reads_board.then(|| AbortOnDropHandle::new(tokio::spawn(board::show(self.venue.clone()))));
        let mut random = fastrand::Rng::with_seed(options.seed);
        self.started = Instant::now();
        let mut visits = JoinSet::new();
        for number in 0..options.people {
            let person = Person::with(number, &options, &mut random);
            let comes_at = self.started + options.arrive_within.mul_f64(random.f64());
            let venue = self.venue.clone();
            visits.spawn(async move {
                sleep_until(comes_at.into()).await;
                person.visit(&venue).await
            });
        }
        while !visits.is_empty() {
            // A look is never cut off by whoever is done meanwhile: where many are, nobody would look.
            let looked = self.watch.look().await?;
            while let Some(visit) = visits.try_join_next() {
                self.people.push(visit?);
            }
            progress(Progress { done: self.people.len(), ..looked });
        }
        self.elapsed = self.started.elapsed();
        drop(board);
        Ok(())
    }

    /// Looks at the line once more. The answer is the number of places whose turn is going on.
    ///
    /// # Errors
    /// When the line can't be read.
    pub async fn look(&mut self) -> Result<usize, HeldError> {
        self.watch.look().await?;
        Ok(self.watch.inside())
    }

    /// What came of it when it has come to rest, by the books and what was found to contradict itself in them.
    ///
    /// # Errors
    /// When the line can't be read.
    pub async fn report(self, books: &Books, faults: Vec<Breach>) -> Result<Report, HeldError> {
        let Self { venue, watch, people, started, elapsed } = self;
        judge::report(&venue, &people, watch.end(), started, elapsed, (books, faults)).await
    }
}

impl Venue {
    /// Whether nobody has paid for this reservation yet.
    fn is_first_to_pay(&self, id: &str) -> bool {
        self.paid.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned())
    }
}

/// Kills who is at work, now and then.
async fn strike(sale: Arc<Sale>, seed: u64, killed: Arc<AtomicUsize>) {
    let mut random = fastrand::Rng::with_seed(seed);
    loop {
        sleep(BLOWS.mul_f64(random.f64() * 2.0)).await;
        let at_work: Vec<u32> = sale.functions.values().flat_map(Function::processes_in_hand).collect();
        if let Some(process) = random.choice(&at_work) {
            Process(*process).kill();
            killed.fetch_add(1, Ordering::Relaxed);
        }
    }
}
