//! A house with rooms and guests: the two functions, their queues, and a database of their own.

use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use local_stack::{
    build::{self, Binaries},
    ended::Ended,
    lambda::Function,
    postgres::{Database, FURNITURE, PostgresError, Server},
    queue::{Message, Queue, QueueOptions, Redrive, Snapshot},
    replay,
    ring::Ring,
    stack::{FUNCTION_TIMEOUT, MOVED_AFTER, Stack},
};
use serde_json::{Value, json};
use tokio_postgres::Client;

/// A guest with an e-mail address, a user name and the number 1.
pub(crate) const JANE: &str = "jane@example.com";
/// Another, with the number 2.
pub(crate) const JOE: &str = "joe@example.com";

const CREATED: &str = "booking-created";
const CANCELLED: &str = "booking-cancelled";
const MIGRATE: &str = "booking-migrate";

/// The binaries, built once for all tests.
pub(crate) fn binaries() -> &'static Binaries {
    static BINARIES: OnceLock<Binaries> = OnceLock::new();
    BINARIES.get_or_init(|| build::these_functions(&[CREATED, CANCELLED, MIGRATE]).expect("the functions build"))
}

/// Everything that a test of bookings talks to.
pub(crate) struct House {
    pub(crate) stack: Stack,
    pub(crate) database: Database,
    pub(crate) sql: Client,
    pub(crate) created: Desk,
    pub(crate) cancelled: Desk,
}

/// A function with its queues.
pub(crate) struct Desk {
    pub(crate) function: Function,
    pub(crate) queue: Queue,
    pub(crate) dead_letters: Queue,
}

impl House {
    /// A house; nothing where there is no PostgreSQL.
    pub(crate) async fn open() -> Option<Self> {
        Self::open_with(&[]).await
    }

    /// A house whose functions have some variables changed.
    pub(crate) async fn open_with(changes: &[(&str, String)]) -> Option<Self> {
        let database = Server::shared()?.migrated().await.unwrap();
        Some(Self::on(database, changes).await)
    }

    /// A house in this database, which has the schema.
    pub(crate) async fn on(database: Database, changes: &[(&str, String)]) -> Self {
        let stack = Stack::start().await.expect("the stack starts");
        let sql = database.client().await.unwrap();
        sql.batch_execute(FURNITURE).await.expect("the house is furnished");
        let created = Desk::new(&stack, &database, CREATED, changes);
        let cancelled = Desk::new(&stack, &database, CANCELLED, changes);
        Self { stack, database, sql, created, cancelled }
    }

    /// Hands creations over in one batch.
    pub(crate) async fn book(&self, bodies: impl IntoIterator<Item = Value>) -> Vec<Ended> {
        self.created.deliver(&self.stack, bodies).await
    }

    /// Hands cancellations over in one batch.
    pub(crate) async fn cancel(&self, bodies: impl IntoIterator<Item = Value>) -> Vec<Ended> {
        self.cancelled.deliver(&self.stack, bodies).await
    }

    /// All bookings of events with their statuses, in their order.
    pub(crate) async fn rows(&self) -> Vec<String> {
        self.texts("SELECT booking_id || ' ' || status FROM bookings WHERE booking_id IS NOT NULL ORDER BY booking_id")
            .await
    }

    /// The first column of what a query finds, as texts.
    pub(crate) async fn texts(&self, query: &str) -> Vec<String> {
        let rows = self.sql.query_typed(query, &[]).await.expect("the query is right");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Runs statements as the owner.
    pub(crate) async fn run(&self, statements: &str) {
        self.sql.batch_execute(statements).await.expect("the statements are right");
    }

    /// What is on the bus: detail-types with their keys, in order.
    pub(crate) fn told(&self) -> Vec<String> {
        let told = |entry: &local_stack::aws::BusEntry| {
            format!("{} {}", entry.detail_type, entry.detail["idempotency_key"].as_str().unwrap_or_default())
        };
        self.stack.aws.bus_entries().iter().map(told).collect()
    }
}

impl Desk {
    pub(crate) fn new(stack: &Stack, database: &Database, name: &str, changes: &[(&str, String)]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let own = format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let dead_letters = Queue::new(format!("{own}-dlq"), QueueOptions::default());
        let redrive = Some(Redrive { queue: dead_letters.clone(), max_receive_count: MOVED_AFTER });
        let queue = Queue::new(&own, QueueOptions { visibility: FUNCTION_TIMEOUT * 6, redrive });
        stack.aws.add_queue(queue.clone());
        stack.aws.add_queue(dead_letters.clone());
        let mut environment = environment(stack, database);
        environment.insert("DLQ_URL".to_owned(), format!("{}/000000000000/{}", stack.aws.url(), dead_letters.name()));
        environment.insert("QUEUE_URL".to_owned(), format!("{}/000000000000/{}", stack.aws.url(), queue.name()));
        environment.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let function = stack.deploy_with(name, binaries()[name].clone(), 8, environment).expect("the binary is there");
        Self { function, queue, dead_letters }
    }

    /// Hands bodies over in one batch, and tells how each ended.
    pub(crate) async fn deliver(&self, stack: &Stack, bodies: impl IntoIterator<Item = Value>) -> Vec<Ended> {
        let text = |body: Value| body.as_str().map_or_else(|| body.to_string(), str::to_owned);
        self.deliver_messages(stack, bodies.into_iter().map(|body| Message::new(text(body)))).await
    }

    pub(crate) async fn deliver_messages(
        &self,
        stack: &Stack,
        messages: impl IntoIterator<Item = Message>,
    ) -> Vec<Ended> {
        let ids: Vec<String> =
            messages.into_iter().map(|message| self.queue.send(message).expect("SQS takes it")).collect();
        let mapping = stack.map(self.queue.clone(), self.function.clone());
        let delivery = mapping.deliver_once().await.expect("a message is visible");
        assert_eq!(delivery.batch, ids, "one delivery takes all messages of a test");
        delivery.ended()
    }

    /// Hands over what waits, however long it would have to wait.
    pub(crate) async fn redeliver(&self, stack: &Stack) -> Vec<Ended> {
        assert!(self.queue.skip_wait(), "a message waits");
        let delivery = stack.map(self.queue.clone(), self.function.clone()).deliver_once().await.unwrap();
        delivery.ended()
    }

    /// The sum of a metric in all that the function wrote.
    pub(crate) fn count(&self, metric: &str) -> u64 {
        let lines = self.function.all_logs();
        let counts = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get(metric)?.as_u64());
        counts.sum()
    }
}

/// A server that is there; what keeps it away is said, or fails where the ring must run.
pub(crate) fn found<T>(server: Result<T, &PostgresError>) -> Option<T> {
    server.inspect_err(|error| Ring::Postgres.skip_or_fail(&error.to_string())).ok()
}

/// The variables of a function of this house.
pub(crate) fn environment(stack: &Stack, database: &Database) -> BTreeMap<String, String> {
    let mut environment = stack.environment(CREATED);
    environment.extend(database.variables());
    environment
}

/// The function that migrates a database, as its owner.
pub(crate) fn migrate(stack: &Stack, database: &Database) -> Function {
    let mut environment = stack.environment(MIGRATE);
    environment.extend(database.owner_variables());
    stack.deploy_with(MIGRATE, binaries()[MIGRATE].clone(), 4, environment).expect("the binary is there")
}

/// The outcomes of a batch.
pub(crate) fn outcomes(ended: &[Ended]) -> Vec<&str> {
    ended.iter().map(|ended| ended.outcome.as_str()).collect()
}

/// The code of a dead letter.
pub(crate) fn code(message: &Snapshot) -> &str {
    replay::attribute(message, "error_code").unwrap_or_default()
}

/// The usual booking: Jane's, room 101, two nights, paid.
pub(crate) fn booking(id: &str) -> Value {
    json!({
        "bookingId": id, "userId": JANE, "roomId": "101", "guests": 2, "startDate": "2026-06-10", "endDate": "2026-06-12",
        "paymentId": format!("pi_{id}"),
    })
}

/// The same with some fields changed; a null takes one away.
pub(crate) fn booking_with(id: &str, changes: Value) -> Value {
    let mut body = booking(id);
    for (name, value) in changes.as_object().unwrap() {
        body[name.as_str()] = value.clone();
    }
    body
}

/// A cancellation.
pub(crate) fn cancellation(id: &str, user: &str) -> Value {
    json!({"bookingId": id, "userId": user, "timestamp": "2026-06-01T00:00:00Z"})
}

/// Waits until something holds; a test fails when it does not within ten seconds.
pub(crate) async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    for _ in 0..200 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what} never came true");
}
