//! All interleavings of a few events about one booking and its rival for the room, statement by statement: the real code in
//! this process, and a real PostgreSQL, because what decides is half of it statements and the locks that they take.
//!
//! A step lets one statement of one worker through its gate and waits until everybody stands still: he waits at his gate, for a
//! lock, or has ended. A crash cuts a worker's connection where he stands, or behind a `COMMIT` whose answer he never hears,
//! and his event comes again. Each way is gone from its start, on a booking of its own. The first statement of a transaction
//! goes with its `BEGIN`, which takes nothing. In the end, what has to come again does so, one after the other, and the rows
//! are held against the events.

use std::{
    collections::BTreeSet,
    io::{self, Write},
    time::{Duration, Instant, SystemTime},
};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use futures_util::{StreamExt, stream};
use local_stack::{
    postgres::{Database, FURNITURE, Server},
    stack::{BUS, Stack},
};
use serde_json::{Value, json};
use shared::{
    booking::{Cancellation, Creation, Outcome, Recorder, recorder::Change},
    config::Reader,
    deadline::Deadline,
    failure::Failure,
    start::Parts,
    telemetry::trace::{TraceContext, Tracing},
    trigger::{Message, Processor, Task, Verdict},
};
use tokio_postgres::{Client, Statement, types::Type};
use tokio_util::task::AbortOnDropHandle;
use tracing::Span;

use crate::{
    gate::{Gate, Rewriting},
    house::{JANE, JOE, booking_with, cancellation},
};

/// An event that takes part.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Role {
    /// The booking.
    Created,
    /// Its guest gives it up.
    GivenUp,
    /// Somebody else does.
    Stranger,
    /// Another booking of the same days and room, by somebody else.
    Rival,
}

const ROLES: [Role; 4] = [Role::Created, Role::GivenUp, Role::Stranger, Role::Rival];

/// How far a search goes.
#[derive(Clone, Copy)]
struct Bounds {
    /// How often somebody else goes on although who was at it could.
    preemptions: usize,
    crashes: usize,
}

/// What is broken on purpose, to show that the search finds it.
#[derive(Clone, Copy, Default)]
struct Sabotage {
    rewriting: &'static [Rewriting],
    statement: &'static str,
}

/// Searches of one test that go side by side. Most of a step is spent on waiting until everybody stands still.
const SIDE_BY_SIDE: usize = 4;

/// Whether the server still works for somebody.
const IS_THERE: &str = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)";

/// Whether the first waits for one of the others, or for somebody who does.
const IS_BLOCKED: &str = "
WITH RECURSIVE before AS (
  SELECT unnest(pg_blocking_pids($1)) AS pid UNION SELECT unnest(pg_blocking_pids(pid)) FROM before
) SELECT EXISTS (SELECT FROM before WHERE pid = ANY ($2) AND pid <> $1)";

const WHOLE: Sabotage = Sabotage { rewriting: &[], statement: "" };

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Act {
    Step(usize),
    Crash(usize),
    /// The statement is worked, and its answer lost.
    Unheard(usize),
}

/// A body, as a record of any trigger.
struct Body(String);

impl Message for Body {
    fn body(&self) -> &str {
        &self.0
    }

    fn source(&self) -> std::borrow::Cow<'_, str> {
        "model".into()
    }

    fn producer(&self, _: &[Option<String>], _: &[Option<String>]) -> TraceContext {
        TraceContext::default()
    }
}

/// Where everything is.
struct World {
    database: Database,
    sql: Client,
    /// What is asked at every step, so that the server plans it once.
    is_there: Statement,
    is_blocked: Statement,
    stack: Stack,
    aws: SdkConfig,
    sabotage: Sabotage,
    /// The number of the way, from which its ids and days come.
    way: usize,
}

/// Who works one event.
struct Worker {
    gate: Gate,
    task: AbortOnDropHandle<Verdict<Outcome>>,
    ended: Option<Verdict<Outcome>>,
}

/// What a search went through.
#[derive(Default)]
struct Extent {
    ways: usize,
    steps: usize,
}

impl World {
    async fn new(sabotage: Sabotage) -> Option<Self> {
        let database = Server::shared()?.migrated().await.unwrap();
        let sql = database.client().await.unwrap();
        sql.batch_execute(FURNITURE).await.unwrap();
        sql.batch_execute(sabotage.statement).await.unwrap();
        let is_there = sql.prepare_typed(IS_THERE, &[Type::INT4]).await.unwrap();
        let is_blocked = sql.prepare_typed(IS_BLOCKED, &[Type::INT4, Type::INT4_ARRAY]).await.unwrap();
        let stack = Stack::start().await.unwrap();
        let credentials = Credentials::new("key", "secret", None, None, "model");
        let aws = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(shared::client::aws::http::client())
            .endpoint_url(stack.aws.url())
            .build();
        Some(Self { database, sql, is_there, is_blocked, stack, aws, sabotage, way: 0 })
    }

    fn id(&self, role: Role) -> String {
        let name = if role == Role::Rival { "rival" } else { "booking" };
        format!("{:05}-{name}", self.way)
    }

    fn event(&self, role: Role) -> Value {
        let id = self.id(role);
        let first = time::Date::from_ordinal_date(2026, 1).unwrap() + time::Duration::days(self.way as i64 * 2);
        let days = |user: &str| json!({"userId": user, "startDate": first.to_string(), "endDate": (first + time::Duration::days(1)).to_string()});
        match role {
            Role::Created => booking_with(&id, days(JANE)),
            Role::Rival => booking_with(&id, days(JOE)),
            Role::GivenUp => cancellation(&id, JANE),
            Role::Stranger => cancellation(&id, JOE),
        }
    }

    /// Sets a worker to work an event. Nothing of it happens before the gate is opened.
    async fn worker(&self, role: Role) -> Worker {
        let gate = Gate::to(&self.database.server.host, self.database.server.port, self.sabotage.rewriting).await;
        let body = Body(self.event(role).to_string());
        let task = match role {
            Role::Created | Role::Rival => tokio::spawn(works(self.recorder::<Creation>(gate.port), body)),
            Role::GivenUp | Role::Stranger => tokio::spawn(works(self.recorder::<Cancellation>(gate.port), body)),
        };
        Worker { gate, task: AbortOnDropHandle::new(task), ended: None }
    }

    fn recorder<C: Change>(&self, port: u16) -> Recorder<C> {
        let mut environment: std::collections::BTreeMap<String, String> =
            self.database.owner_variables().into_iter().collect();
        environment.insert("DB_PORT".to_owned(), port.to_string());
        environment.insert("EVENT_BUS_NAME".to_owned(), BUS.to_owned());
        // Who stands still is not late.
        environment.insert("DB_CONNECT_TIMEOUT_MS".to_owned(), "600000".to_owned());
        environment.insert("DB_TRANSACTION_TIMEOUT_MS".to_owned(), "600000".to_owned());
        let mut parts = Parts::new("model", Reader::new(&environment), &self.aws);
        let recorder = Recorder::configured(&mut parts);
        parts.reader.finish(recorder).unwrap()
    }

    /// Waits until nobody moves: twice in a row, because who waits for a lock may be let on by somebody who was looked at
    /// later.
    async fn rest(&self, workers: &mut [Worker]) {
        let started = Instant::now();
        let mut quiet = 0;
        while quiet < 2 {
            assert!(started.elapsed() < Duration::from_secs(30), "somebody moves for ever");
            quiet += 1;
            let alive: Vec<i32> = workers.iter().filter_map(|worker| worker.gate.seen().backend).collect();
            for worker in workers.iter_mut().filter(|worker| worker.ended.is_none()) {
                if worker.task.is_finished() {
                    worker.ended = Some((&mut worker.task).await.unwrap());
                } else if self.is_at_rest(worker, &alive).await {
                    continue;
                }
                quiet = 0;
            }
            if quiet == 0 {
                tokio::time::sleep(Duration::from_micros(300)).await;
            }
        }
    }

    async fn is_at_rest(&self, worker: &Worker, alive: &[i32]) -> bool {
        let seen = worker.gate.seen();
        match seen.backend {
            Some(backend) if !seen.is_answered() => self.is_blocked(backend, alive).await,
            Some(_) | None => seen.waiting.is_some(),
        }
    }

    /// Whether it waits for one of these, or for somebody who does. Who was cut off lets go by himself, as soon as he waits for
    /// nobody.
    async fn is_blocked(&self, backend: i32, by: &[i32]) -> bool {
        self.sql.query_one(&self.is_blocked, &[&backend, &by]).await.unwrap().get(0)
    }

    /// Lets a worker's next statement through, and with a `BEGIN` the one behind it.
    async fn step(&self, workers: &mut [Worker], number: usize) {
        loop {
            let goes_on = workers[number].gate.seen().is_before("BEGIN");
            workers[number].gate.open().await;
            self.rest(workers).await;
            if !goes_on {
                return;
            }
        }
    }

    /// Cuts a worker off, whose event then comes again.
    async fn crash(&self, workers: &mut [Worker], number: usize, role: Role) {
        let backend = workers[number].gate.seen().backend.unwrap_or_default();
        workers[number] = self.worker(role).await;
        let alive: Vec<i32> = workers.iter().filter_map(|worker| worker.gate.seen().backend).collect();
        // Nothing is left of it once its server's side has ended, which it does as soon as it waits for nobody.
        while self.sql.query_one(&self.is_there, &[&backend]).await.unwrap().get::<_, bool>(0)
            && !self.is_blocked(backend, &alive).await
        {
            tokio::time::sleep(Duration::from_micros(300)).await;
        }
        self.rest(workers).await;
        self.step(workers, number).await;
    }

    /// What can happen next. Who waits for a lock does nothing.
    async fn acts(&self, workers: &[Worker], last: Option<usize>, left: Bounds) -> Vec<Act> {
        let mut able = Vec::new();
        for (number, worker) in workers.iter().enumerate().filter(|(_, worker)| worker.ended.is_none()) {
            if worker.gate.seen().is_answered() {
                able.push(number);
            }
        }
        let goes_on = last.filter(|last| able.contains(last) && left.preemptions == 0);
        let steps =
            able.iter().filter(|number| goes_on.is_none_or(|last| last == **number)).map(|number| Act::Step(*number));
        let alive = workers.iter().enumerate().filter(|(_, worker)| worker.ended.is_none() && left.crashes > 0);
        let crashes = alive.flat_map(|(number, worker)| {
            let is_unheard = able.contains(&number) && worker.gate.seen().is_before("COMMIT");
            [Act::Crash(number)].into_iter().chain(is_unheard.then_some(Act::Unheard(number)))
        });
        steps.chain(crashes).collect()
    }

    /// Goes one way to its end: as `path` says, and then by the first of what can happen. The answer is what could happen at
    /// each of its steps.
    async fn go(&mut self, roles: &[Role], bounds: Bounds, path: &[usize]) -> Result<Vec<Vec<Act>>, String> {
        self.way += 1;
        let mut workers = Vec::new();
        for role in roles {
            workers.push(self.worker(*role).await);
        }
        self.rest(&mut workers).await;
        // The look at the schema.
        for number in 0..workers.len() {
            self.step(&mut workers, number).await;
        }
        let (mut taken, mut successes, mut left, mut last) = (Vec::new(), 0, bounds, None);
        loop {
            let acts = self.acts(&workers, last, left).await;
            let Some(act) = acts.get(path.get(taken.len()).copied().unwrap_or_default()).copied() else { break };
            if let (Act::Step(number), Some(before)) = (act, last) {
                left.preemptions -= usize::from(number != before && acts.contains(&Act::Step(before)));
            }
            taken.push(acts);
            match act {
                Act::Step(number) => {
                    last = Some(number);
                    self.step(&mut workers, number).await;
                }
                Act::Crash(number) => {
                    left.crashes -= 1;
                    self.crash(&mut workers, number, roles[number]).await;
                }
                Act::Unheard(number) => {
                    left.crashes -= 1;
                    workers[number].gate.deafen();
                    workers[number].gate.open().await;
                    while !workers[number].gate.seen().is_answered() {
                        tokio::time::sleep(Duration::from_micros(300)).await;
                    }
                    self.crash(&mut workers, number, roles[number]).await;
                }
            }
        }
        if workers.iter().any(|worker| worker.ended.is_none()) {
            return Err("everybody waits for somebody".to_owned());
        }
        let mut again = Vec::new();
        for (role, worker) in roles.iter().zip(workers) {
            match worker.ended {
                Some(Verdict::Done(done)) => {
                    successes += usize::from(*role == Role::Created && done.outcome == Outcome::Success)
                }
                Some(Verdict::Failed(Failure::Permanent { code: "not_owner", .. })) if *role == Role::Stranger => {}
                _ => again.push(*role),
            }
        }
        for role in again {
            successes += self.work_off(role).await?;
        }
        if successes > 1 {
            return Err(format!("{successes} of the copies say that they wrote the booking"));
        }
        self.judge(roles).await?;
        Ok(taken)
    }

    /// Works an event with nobody else at it. The answer is 1 if it wrote the booking.
    async fn work_off(&self, role: Role) -> Result<usize, String> {
        for _ in 0..3 {
            let mut workers = [self.worker(role).await];
            self.rest(&mut workers).await;
            while workers[0].ended.is_none() {
                self.step(&mut workers, 0).await;
            }
            let [Worker { ended, .. }] = workers;
            match ended {
                Some(Verdict::Done(done)) => {
                    return Ok(usize::from(role == Role::Created && done.outcome == Outcome::Success));
                }
                Some(Verdict::Failed(Failure::Permanent { code: "not_owner", .. })) if role == Role::Stranger => {
                    return Ok(0);
                }
                _ => {}
            }
        }
        Err(format!("{role:?} does not end"))
    }

    /// Holds what is written and told against the events.
    async fn judge(&self, roles: &[Role]) -> Result<(), String> {
        const ROWS: &str = "
SELECT b.status, i.outcome IS NOT NULL AND (b.status = 'Refused') = (i.refund_requested_at IS NOT NULL)
FROM bookings b JOIN holdfast.inbox i USING (booking_id) WHERE booking_id = $1";
        let mut status = Vec::new();
        for role in [Role::Created, Role::Rival] {
            let rows = self.sql.query_typed(ROWS, &[(&self.id(role), Type::TEXT)]).await.unwrap();
            if rows.len() != usize::from(roles.contains(&role)) {
                return Err(format!("{role:?} has {} rows", rows.len()));
            }
            if !rows.iter().all(|row| row.get::<_, bool>(1)) {
                return Err(format!("{role:?} is done, and its inbox row does not say so"));
            }
            status.push(rows.first().map(|row| row.get::<_, String>(0)).unwrap_or_default());
        }
        let is_given_up = roles.contains(&Role::GivenUp);
        let stands = if is_given_up { "Cancelled" } else { "Accepted" };
        let is_right = match (status[0].as_str(), status[1].as_str()) {
            ("", "" | "Accepted") => true,
            (own, "") => own == stands,
            ("Refused", rival) => rival == "Accepted",
            ("Cancelled", rival) => is_given_up && ["Accepted", "Refused"].contains(&rival),
            (own, rival) => own == stands && rival == "Refused",
        };
        if !is_right {
            return Err(format!("the booking is {:?}, and its rival {:?}", status[0], status[1]));
        }
        let prefix = format!("booking.created#{:05}-", self.way);
        let told = self.stack.aws.bus_entries().into_iter().filter_map(|entry| {
            entry.detail["idempotency_key"].as_str().filter(|key| key.starts_with(&prefix)).map(str::to_owned)
        });
        let refused = [Role::Created, Role::Rival].into_iter().zip(&status).filter(|(_, status)| *status == "Refused");
        let expected = refused.flat_map(|(role, _)| {
            ["refund", "refused"].map(|step| format!("booking.created#{}#{step}", self.id(role)))
        });
        let (told, expected): (BTreeSet<String>, BTreeSet<String>) = (told.collect(), expected.collect());
        if told != expected {
            return Err(format!("told is {told:?}, and to be told was {expected:?}"));
        }
        Ok(())
    }

    /// Goes every way.
    async fn search(&mut self, roles: &[Role], bounds: Bounds) -> Result<Extent, String> {
        let (mut extent, mut path, mut known) = (Extent::default(), Vec::new(), Vec::<Vec<Act>>::new());
        loop {
            let taken = self.go(roles, bounds, &path).await;
            let taken = taken.map_err(|what| format!("{roles:?}: {what}, by {path:?} of {known:?}"))?;
            assert_eq!(known.get(..path.len()), taken.get(..path.len()), "the same way looks the same");
            extent.ways += 1;
            extent.steps += taken.len();
            path.resize(taken.len(), 0);
            known = taken;
            while let Some(last) = path.pop() {
                if last + 1 < known[path.len()].len() {
                    path.push(last + 1);
                    break;
                }
            }
            if path.is_empty() {
                return Ok(extent);
            }
        }
    }
}

async fn works<C: Change>(recorder: Recorder<C>, body: Body) -> Verdict<Outcome> {
    let decoded = Processor::<Body>::decode(&recorder, &body).unwrap();
    let task = Task { item: decoded.item, trace: TraceContext::default(), span: Span::none() };
    let deadline = Deadline::at(SystemTime::now() + Duration::from_secs(100_000));
    let verdicts = Processor::<Body>::process_all(&recorder, vec![task], &Tracing::default(), deadline).await;
    verdicts.into_iter().next().unwrap()
}

/// Goes every way of each cast. The casts have a database each, so that they go side by side.
async fn every_way(name: &str, casts: &[Vec<Role>], bounds: Bounds) {
    let started = Instant::now();
    let searches = stream::iter(casts.iter().cloned().map(|roles| tokio::spawn(every_way_of(roles, bounds))));
    let extents: Vec<Option<Extent>> = searches.buffered(SIDE_BY_SIDE).map(|extent| extent.unwrap()).collect().await;
    let Some(extents) = extents.into_iter().collect::<Option<Vec<Extent>>>() else { return };
    let ways: usize = extents.iter().map(|extent| extent.ways).sum();
    let steps: usize = extents.iter().map(|extent| extent.steps).sum();
    let line = format!(
        "\n{name}: {} multisets of events, {ways} interleavings, {steps} steps; {:.1} s\n",
        casts.len(),
        started.elapsed().as_secs_f64()
    );
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(line.as_bytes()));
    assert!(ways > casts.len(), "{ways}");
}

/// `None` where there is no server.
async fn every_way_of(roles: Vec<Role>, bounds: Bounds) -> Option<Extent> {
    let mut world = World::new(WHOLE).await?;
    let extent = world.search(&roles, bounds).await.unwrap();
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(world.sql.query_typed_one(deadlocks, &[]).await.unwrap().get::<_, i64>(0), 0);
    Some(extent)
}

/// All multisets of two.
fn pairs() -> Vec<Vec<Role>> {
    ROLES
        .iter()
        .flat_map(|one| ROLES.iter().filter(move |other| one <= *other).map(|other| vec![*one, *other]))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_events_come_to_one_end_whatever_their_order() {
    every_way("two events", &pairs(), Bounds { preemptions: usize::MAX, crashes: 0 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_events_come_to_one_end_when_one_is_cut_off_anywhere() {
    let casts = [Role::Created, Role::GivenUp, Role::Rival].map(|other| vec![Role::Created, other]);
    every_way("two events and a crash", &casts, Bounds { preemptions: 1, crashes: 1 }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_events_come_to_one_end_whatever_their_order() {
    let others = [
        [Role::GivenUp, Role::Rival],
        [Role::Created, Role::GivenUp],
        [Role::Created, Role::Rival],
        [Role::GivenUp, Role::Stranger],
    ];
    let casts = others.map(|others| [vec![Role::Created], others.to_vec()].concat());
    every_way("three events", &casts, Bounds { preemptions: 1, crashes: 0 }).await;
}

async fn finds(sabotage: Sabotage, roles: &[Role], crashes: usize, expected: &str) {
    let Some(mut world) = World::new(sabotage).await else { return };
    let bounds = Bounds { preemptions: 1, crashes };
    let what = world.search(roles, bounds).await.err().expect("what is broken was not found");
    assert!(what.contains(expected), "{what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_guests_in_one_room_are_found() {
    let statement = "ALTER TABLE bookings DROP CONSTRAINT bookings_no_overlap";
    let expected = r#"the booking is "Accepted", and its rival "Accepted""#;
    finds(Sabotage { statement, ..WHOLE }, &[Role::Created, Role::Rival], 0, expected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_strangers_cancellation_that_counts_is_found() {
    let rewriting = &[("AND b.user_id = meant.user_id", "AND b.user_id = b.user_id    ")];
    finds(Sabotage { rewriting, ..WHOLE }, &[Role::Created, Role::Stranger], 0, r#"the booking is "Cancelled""#).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_early_cancellation_that_is_forgotten_is_found() {
    let rewriting = &[("WHEN user_id = ANY (i.cancelled_by) THEN", "WHEN false                          THEN")];
    finds(Sabotage { rewriting, ..WHOLE }, &[Role::Created, Role::GivenUp], 0, r#"the booking is "Accepted""#).await;
}

/// What is marked as told in its own transaction is told by nobody whose `COMMIT` was not heard.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_that_is_marked_before_it_is_told_is_found() {
    let rewriting = &[("ended.status = 'Refused' AND NOT ended", "ended.status = 'Refused' AND     ended")];
    finds(Sabotage { rewriting, ..WHOLE }, &[Role::Created, Role::Rival], 1, "told is {}").await;
}
