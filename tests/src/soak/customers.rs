//! Customers of a whole sale, while its functions are killed, its answers are lost and its inventory is slow: what they do,
//! what they are told, and what must have become of it in the end, by the books of the services.

mod history;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    time::sleep,
};

use crate::{
    aws::{AwsError, Injected},
    books::{Books, Breach},
    build::Binaries,
    lambda::Function,
    payments::{Course, Order},
    process::Process,
    sale::{HeldError, Running, Sale, SalePorts, Worked},
    stack::{FUNCTION_TIMEOUT, RESERVATIONS, Stack},
};

const SHOW: &str = "evt_soak";

/// How long a hold lasts: the shortest that there is, because some run out.
const HOLD: &str = "30";

/// Whoever has no answer by then gives up, as a person does.
const CUSTOMERS_PATIENCE: Duration = Duration::from_secs(90);

/// A sale that has not ended so long after its last customer never will.
const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// What goes wrong beside a request goes wrong within this time, so that it meets the request at work, or another.
const UNDER_WAY_MS: u64 = 200;

/// How many customers there are, and how much goes wrong.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Customers, each with one wish.
    pub customers: usize,
    /// How many of them are at it at a time.
    pub at_once: usize,
    /// How much goes wrong, from 0 to 1.
    pub share: f64,
    /// What the chances are drawn from.
    pub seed: u64,
}

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Requests of customers, with their repeats.
    pub requests: usize,
    /// How often each answer was given, by its status and code.
    pub answers: BTreeMap<String, usize>,
    /// Processes that were killed at work.
    pub killed: usize,
    /// Answers that were lost or refused on demand.
    pub faults: usize,
    /// In what the reservations ended.
    pub ends: BTreeMap<String, usize>,
    /// Refunds that were requested.
    pub refunds: usize,
    /// From the first request to the end of the last reservation.
    pub elapsed: Duration,
    /// What must not be.
    pub breaches: Vec<Breach>,
}

/// What a customer sets out to do with his hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// He pays; the event of his payment confirms.
    Pay,
    /// He pays and confirms himself.
    Confirm,
    /// His card is declined.
    PayInVain,
    /// He gives it up.
    Cancel,
    /// He asks for more time and pays.
    ExtendAndPay,
    /// He forgets it, and pays when it has run out.
    PayLate,
    /// He forgets it.
    Forget,
    /// He gives it up and pays in another tab.
    CancelAndPay,
}

impl Plan {
    const ALL: [Self; 8] = [
        Self::Pay,
        Self::Confirm,
        Self::PayInVain,
        Self::Cancel,
        Self::ExtendAndPay,
        Self::PayLate,
        Self::Forget,
        Self::CancelAndPay,
    ];
}

/// A customer, and all that he was told.
#[derive(Clone, Debug)]
struct Customer {
    user_id: String,
    key: String,
    wish: Value,
    plan: Plan,
    /// Whether he sends his wish twice at once.
    impatient: bool,
    told: Vec<Told>,
    /// The payments that went through.
    paid: Vec<String>,
}

/// An answer to a customer.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    asked: Asked,
    status: u16,
    body: Value,
}

/// What a customer asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Create,
    Look,
    Confirm,
    Cancel,
    Extend,
}

/// The sale and its customers.
struct Soak {
    sale: Sale,
    http: Client,
    counts: Mutex<Report>,
    share: f64,
    chances: Mutex<fastrand::Rng>,
}

/// Lets customers have their way. `progress` hears how many are done.
///
/// # Errors
/// When it could not be run to its end.
pub async fn run(options: Options, binaries: &Binaries, mut progress: impl FnMut(usize)) -> Result<Report, HeldError> {
    let stack = Stack::start().await?.with_variable("HOLD_SECONDS", HOLD);
    let sale = Sale::open(stack, binaries, SalePorts::default()).await?;
    let (worked, done) = mpsc::unbounded_channel();
    let running = sale.run(worked).await?;
    let http = Client::builder().no_proxy().build()?;
    let mut random = fastrand::Rng::with_seed(options.seed);
    let chances = Mutex::new(random.fork());
    let soak = Arc::new(Soak { sale, http, counts: Mutex::default(), share: options.share, chances });

    // Two customers want each seat, so that half of them find it taken, or free again.
    let seats: Vec<String> = (0..options.customers.max(2)).map(|number| format!("S-{number}")).collect();
    soak.sale.stack.inventory.stock(SHOW, &seats, 0);
    soak.sale.stack.inventory.price(SHOW, 3_800, "EUR");
    let customers: Vec<Customer> =
        (0..options.customers).map(|number| Customer::with(number, &seats, &mut random)).collect();

    let started = Instant::now();
    let mut visits = stream::iter(customers)
        .map(|customer| {
            let soak = soak.clone();
            tokio::spawn(async move { customer.visit(&soak).await })
        })
        .buffer_unordered(options.at_once);
    let mut customers = Vec::new();
    while let Some(visit) = visits.next().await {
        customers.extend(visit);
        progress(customers.len());
    }
    // Nothing more goes wrong: what a busy machine has not met by now would fail the relay for minutes.
    soak.sale.stack.aws.forget_failures();
    soak.sale.stack.inventory.set_latency(Duration::ZERO);
    soak.ends(running, done).await?;
    let mut report = soak.counts.lock().await.clone();
    report.elapsed = started.elapsed();
    let books = Books::of(&soak.sale.stack).await?;
    history::judge(&customers, &books, &soak.sale, &mut report);
    Ok(report)
}

impl Customer {
    fn with(number: usize, seats: &[String], random: &mut fastrand::Rng) -> Self {
        let many = random.usize(1..=3).min(seats.len());
        let first = random.usize(0..=seats.len() - many);
        let wanted = &seats[first..first + many];
        Self {
            // Two wishes of each customer, so that one must not see or end the other's.
            user_id: format!("usr_{}", number / 2),
            key: format!("key-{number}"),
            wish: json!({"eventId": SHOW, "quantity": many, "seatIds": wanted}),
            plan: *random.choice(Plan::ALL.iter()).unwrap_or(&Plan::Forget),
            impatient: random.f64() < 0.3,
            told: Vec::new(),
            paid: Vec::new(),
        }
    }

    /// What he does, from his wish to his last look.
    async fn visit(mut self, soak: &Soak) -> Self {
        let Some(id) = self.create(soak).await else { return self };
        match self.plan {
            Plan::Pay => self.pay(soak, &id, Course::Approved),
            Plan::PayInVain => self.pay(soak, &id, Course::Failed),
            Plan::Confirm => {
                self.pay(soak, &id, Course::Approved);
                if let Some(payment) = self.paid.last().cloned() {
                    self.insist(soak, Asked::Confirm, &id, json!({"paymentIntentId": payment})).await;
                }
            }
            Plan::Cancel => self.insist(soak, Asked::Cancel, &id, json!({})).await,
            Plan::ExtendAndPay => {
                self.insist(soak, Asked::Extend, &id, json!({"extensionSeconds": 30})).await;
                self.pay(soak, &id, Course::Approved);
            }
            Plan::PayLate => {
                let left = Duration::from_secs(HOLD.parse().unwrap_or(30) + 2);
                sleep(left).await;
                self.pay(soak, &id, Course::Approved);
            }
            Plan::Forget => {}
            Plan::CancelAndPay => {
                self.pay(soak, &id, Course::Approved);
                self.insist(soak, Asked::Cancel, &id, json!({})).await;
            }
        }
        for _ in 0..3 {
            self.insist(soak, Asked::Look, &id, Value::Null).await;
            sleep(Duration::from_millis(500)).await;
        }
        self
    }

    /// Asks for the seats until there is an answer. The reservation's id, if there is one.
    async fn create(&mut self, soak: &Soak) -> Option<String> {
        let wish = self.wish.clone();
        if self.impatient {
            let (one, two) = tokio::join!(
                soak.ask(self, Asked::Create, "", wish.clone()),
                soak.ask(self, Asked::Create, "", wish.clone())
            );
            self.told.extend([one, two].into_iter().flatten());
        }
        self.insist(soak, Asked::Create, "", wish).await;
        let held = self.told.iter().rev().find(|told| told.asked == Asked::Create && told.status == 201)?;
        held.body["reservationId"].as_str().map(str::to_owned)
    }

    /// Asks until the answer is one, or he loses patience.
    async fn insist(&mut self, soak: &Soak, asked: Asked, id: &str, body: Value) {
        let started = Instant::now();
        while started.elapsed() < CUSTOMERS_PATIENCE {
            let told = soak.ask(self, asked, id, body.clone()).await;
            let again = told.as_ref().is_none_or(|told| told.status >= 500 || told.body["retry"] == true);
            self.told.extend(told);
            if !again {
                return;
            }
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn pay(&mut self, soak: &Soak, id: &str, course: Course) {
        let amount = 3_800 * self.wish["quantity"].as_i64().unwrap_or_default();
        let (reservation_id, user_id, currency) = (id.to_owned(), self.user_id.clone(), "EUR".to_owned());
        let payment = soak.sale.stack.payments.pay(Order { reservation_id, user_id, amount, currency, course });
        if course == Course::Approved {
            self.paid.push(payment);
        }
    }
}

impl Soak {
    /// Sends one request. Nothing: there was no answer. An answer that says to ask again has `retry` beside what it says.
    async fn ask(&self, customer: &Customer, asked: Asked, id: &str, body: Value) -> Option<Told> {
        let (method, path) = match asked {
            Asked::Create => (Method::POST, String::new()),
            Asked::Look => (Method::GET, format!("/{id}")),
            Asked::Confirm => (Method::POST, format!("/{id}/confirm")),
            Asked::Cancel => (Method::POST, format!("/{id}/cancel")),
            Asked::Extend => (Method::POST, format!("/{id}/extend")),
        };
        let token = self.sale.issuer.token(&customer.user_id, "reserve", Duration::from_secs(3_600)).ok()?;
        let url = format!("{}/v1/reservations{path}", self.sale.gateway.url());
        let request = self.http.request(method, url).bearer_auth(token).header("idempotency-key", &customer.key);
        let request = if body.is_null() { request } else { request.json(&body) };
        let (answer, ()) = tokio::join!(request.send(), self.strike());
        let mut counts = self.counts.lock().await;
        counts.requests += 1;
        let Ok(answer) = answer else {
            *counts.answers.entry("none".to_owned()).or_default() += 1;
            return None;
        };
        drop(counts);
        let (status, after) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
        let mut body: Value = answer.json().await.unwrap_or_default();
        let code = body["error"]["code"].as_str().map_or_else(String::new, |code| format!(" {code}"));
        *self.counts.lock().await.answers.entry(format!("{status}{code}")).or_default() += 1;
        if after && body.is_object() {
            body["retry"] = json!(true);
        }
        Some(Told { asked, status, body })
    }

    /// Kills who is at work, loses an answer, and makes the inventory slow, each by its chance. It is drawn anew for each
    /// request of a customer, so that a fast machine has as much go wrong as a slow one.
    async fn strike(&self) {
        const TARGETS: [&str; 5] = [
            "DynamoDB_20120810.UpdateItem",
            "DynamoDB_20120810.GetItem",
            "AWSEvents.PutEvents",
            "AmazonSQS.SendMessageBatch",
            "AmazonSQS.ChangeMessageVisibility",
        ];

        let mut random = self.chances.lock().await.fork();
        sleep(Duration::from_millis(random.u64(0..UNDER_WAY_MS))).await;
        if random.f64() < self.share {
            let at_work: Vec<u32> = self.sale.functions.values().flat_map(Function::processes_in_hand).collect();
            if let Some(process) = random.choice(&at_work) {
                Process(*process).kill();
                self.counts.lock().await.killed += 1;
            }
        }
        if random.f64() < self.share
            && let Some(target) = random.choice(TARGETS.iter())
        {
            let throttled = || {
                let (kind, message) = ("ThrottlingException".to_owned(), "slow down".to_owned());
                Injected::Answer { status: 400, kind, message }
            };
            let failure = if random.bool() { Injected::LostAnswer } else { throttled() };
            self.sale.stack.aws.fail_next(target, failure);
            self.counts.lock().await.faults += 1;
        }
        // Beyond a call's timeout now and then: nobody knows then what became of the seats.
        let slow = if random.f64() < self.share { random.u64(0..1_200) } else { 0 };
        self.sale.stack.inventory.set_latency(Duration::from_millis(slow));
    }

    async fn items(&self) -> Result<Vec<Value>, AwsError> {
        self.sale.stack.aws.scan(RESERVATIONS).await
    }

    /// Waits until every reservation has ended and every queue is empty. Whoever was killed at work leaves messages hidden for
    /// minutes: their time is let pass when no worker can hold a lease any more.
    async fn ends(&self, running: Running, mut done: mpsc::UnboundedReceiver<Worked>) -> Result<(), HeldError> {
        let (started, mut last) = (Instant::now(), Instant::now());
        loop {
            sleep(Duration::from_millis(200)).await;
            while done.try_recv().is_ok() {
                last = Instant::now();
            }
            let waiting: usize = self.sale.queues.values().map(crate::queue::Queue::len).sum();
            let open = |item: &Value| {
                ["HOLD", "PENDING"].iter().any(|open| item["status"]["S"] == *open) || item.get("unpublished").is_some()
            };
            let left: Vec<Value> = self.items().await?.into_iter().filter(open).collect();
            if waiting == 0 && left.is_empty() {
                drop(running);
                return Ok(());
            }
            if last.elapsed() > FUNCTION_TIMEOUT + Duration::from_secs(2) {
                for queue in self.sale.queues.values() {
                    queue.skip_wait();
                }
                last = Instant::now();
            }
            if started.elapsed() > PATIENCE {
                return Err(HeldError::Stuck {
                    after: PATIENCE,
                    what: format!("{waiting} messages wait, and these are open: {left:#?}"),
                });
            }
        }
    }
}
