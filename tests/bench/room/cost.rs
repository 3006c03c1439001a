//! What one join, one question and one tick cost: processor time of the function, and requests, units and bytes of the line's
//! table. The customers' bytes are those of the event's body and of the answer's.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::{body::Bytes, http::Request};
use local_stack::{
    aws::{Taken, units},
    http_event::HttpEvent,
    lambda::Function,
    mapping::{self, Verdict, judge},
    placing::line,
    queue::{Message, Queue},
    stack::{Stack, WAITING_ROOM},
    template::SCOPE,
};
use serde_json::{Value, json};
use shared::{
    deadline::epoch_ms,
    waiting_room::{line::Scope, message::TickMessage, table::Table},
};
use tokio::time::sleep;

use crate::{cost::cpu_time, figure::Figure, stop::Stop, warm::BATCH, workplace::Workplace};

const SHOW: &str = "evt_cost";

const SERVICE: &str = "booking_worker.v1.BookingWorkerService";

/// People of one measurement, who join, are placed by one tick, and ask.
const PEOPLE: usize = 100;

/// Longer than who has just joined is held back, on a machine that places a hundred people within three seconds.
const HELD_BACK: Duration = Duration::from_secs(6);

/// What one of something costs.
pub(crate) struct Price {
    pub(crate) what: &'static str,
    /// Milliseconds.
    pub(crate) processor: Figure,
    pub(crate) requests: f64,
    pub(crate) read: f64,
    pub(crate) written: f64,
    /// Of the requests to the table and of its answers.
    pub(crate) table_bytes: f64,
    /// Of the customer's own request and answer.
    pub(crate) client_bytes: f64,
}

/// What was measured of one kind.
#[derive(Default)]
struct Ledger {
    processor: Vec<f64>,
    count: usize,
    taken: BTreeMap<String, Taken>,
    client_bytes: usize,
}

impl Ledger {
    fn price(self, what: &'static str) -> Price {
        let count = self.count as f64;
        let (read, written) = units(&self.taken);
        let sum = |of: fn(&Taken) -> usize| self.taken.values().map(of).sum::<usize>() as f64 / count;
        Price {
            what,
            requests: sum(|taken| taken.requests),
            read: read / count,
            written: written / count,
            table_bytes: sum(|taken| taken.bytes.0 + taken.bytes.1),
            client_bytes: self.client_bytes as f64 / count,
            processor: Figure::of(self.processor),
        }
    }
}

/// The functions of a line, one environment each.
struct Site {
    stack: Stack,
    door: Function,
    joined: (Queue, Function),
    ticked: (Queue, Function),
    /// The processor time that each process had used at its last answer.
    used: RefCell<BTreeMap<Option<u32>, Duration>>,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Vec<Price>, Stop> {
    let site = Site::set(workplace).await?;
    let kinds = [
        "a join, at the door",
        "a join, placed",
        "a tick that places 100",
        "a tick, nothing to do",
        "a question for one's place",
        "a question for the line",
    ];
    let mut ledgers: [Ledger; 6] = Default::default();
    for window in 0..=workplace.runs(7, 2) {
        let people: Vec<String> = (0..PEOPLE).map(|number| format!("usr_{window}_{number}")).collect();
        let mut found: [Ledger; 6] = Default::default();
        let [joins, placings, placing, idle, places, lines] = &mut found;
        let mut ids = Vec::new();
        for user_id in &people {
            let answer = site.call(joins, user_id, "EnqueueBooking", &json!({"eventId": SHOW, "seatCount": 1})).await?;
            ids.push(answer["queueItemId"].as_str().unwrap_or_default().to_owned());
        }
        while !site.joined.0.is_empty() {
            site.deliver(placings, &site.joined).await?;
        }
        // Nobody has a place before he was held back for so long.
        sleep(HELD_BACK).await;
        let before = site.joined().await?;
        site.tick(placing).await?;
        if site.joined().await? < before + PEOPLE as u64 {
            // The machine was too slow for one tick to place them all, which is then no figure.
            *placing = Ledger::default();
            while site.joined().await? < before + PEOPLE as u64 {
                sleep(HELD_BACK / 4).await;
                site.tick(&mut Ledger::default()).await?;
            }
        }
        site.tick(idle).await?;
        for (user_id, id) in people.iter().zip(&ids) {
            let place = site.call(places, user_id, "GetQueuePosition", &json!({"queueItemId": id})).await?;
            if place["position"].as_u64().is_none() {
                return Err(Stop::invalid(format!("{id} has no place: {place}")));
            }
        }
        for user_id in &people {
            site.call(lines, user_id, "GetQueueStatus", &json!({"eventId": SHOW})).await?;
        }
        // The first window starts the processes, and fills what they keep.
        if window > 0 {
            for (all, more) in ledgers.iter_mut().zip(found).filter(|(_, more)| more.count > 0) {
                all.processor.push(more.processor.iter().sum::<f64>() / more.count as f64);
                all.count += more.count;
                all.client_bytes += more.client_bytes;
                more.taken.into_iter().for_each(|(operation, taken)| *all.taken.entry(operation).or_default() += taken);
            }
        }
    }
    Ok(ledgers.into_iter().zip(kinds).map(|(ledger, what)| ledger.price(what)).collect())
}

impl Site {
    async fn set(workplace: &Workplace) -> Result<Self, Stop> {
        let stack = Stack::start().await?;
        let deploy = |name: &str| {
            let binary = workplace.binaries.get(name).cloned().ok_or(Stop::unable("a function was not built"))?;
            Ok::<_, Stop>(stack.deploy(name, binary, 1)?)
        };
        let [door, joined, ticked] = [waiting_room::NAME, waiting_room_joined::NAME, waiting_room_ticked::NAME];
        let functions = (deploy(door)?, deploy(joined)?, deploy(ticked)?);
        let (joins, ticks) = (stack.queue(joined), stack.queue(ticked));
        let site = Self {
            door: functions.0,
            joined: (joins, functions.1),
            ticked: (ticks, functions.2),
            used: RefCell::default(),
            stack,
        };
        let scope = Scope { show_id: SHOW.to_owned(), generation: 1, key_version: 1 };
        site.table().open(&line(scope, epoch_ms(SystemTime::now()))?).await?;
        // The door sends a tick for a line that had none yet.
        site.tick(&mut Ledger::default()).await?;
        Ok(site)
    }

    fn table(&self) -> Table {
        Table::new(self.stack.aws.tables_unseen(), WAITING_ROOM)
    }

    async fn joined(&self) -> Result<u64, Stop> {
        let line = self.table().line(SHOW).await?;
        line.map(|line| line.joined).ok_or(Stop::unable("the line is gone"))
    }

    /// Asks the door for one thing, and gives its answer.
    async fn call(&self, ledger: &mut Ledger, user_id: &str, method: &str, message: &Value) -> Result<Value, Stop> {
        let path = format!("/{SERVICE}/{method}");
        let sent = message.to_string();
        let request =
            Request::post(&path).header("content-type", "application/json").body(Bytes::from(sent.clone()))?;
        let authorizer = json!({"jwt": {"claims": {"sub": user_id, "scope": SCOPE}, "scopes": [SCOPE]}});
        let route_key = format!("POST {path}");
        let event = HttpEvent { authorizer: Some(authorizer), ..HttpEvent::on(&route_key, &path) }.of(&request);
        let answer = self.work(ledger, &self.door, event.to_string(), 1).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let body = answer["body"].as_str().unwrap_or_default();
        if answer["statusCode"] != 200 {
            return Err(Stop::invalid(format!("{method}: {answer}")));
        }
        ledger.client_bytes += sent.len() + body.len();
        Ok(serde_json::from_str(body)?)
    }

    async fn tick(&self, ledger: &mut Ledger) -> Result<(), Stop> {
        let (queue, _) = &self.ticked;
        queue.send(Message::new(TickMessage { show_id: SHOW.to_owned() }.body()))?;
        self.deliver(ledger, &self.ticked).await
    }

    /// Delivers a batch, of which the function must keep nothing.
    async fn deliver(&self, ledger: &mut Ledger, (queue, function): &(Queue, Function)) -> Result<(), Stop> {
        let received = queue.receive(BATCH);
        let event = mapping::event(queue, &received).to_string();
        let answer = self.work(ledger, function, event, received.len()).await?;
        let ids: Vec<&str> = received.iter().map(|message| message.id.as_str()).collect();
        if judge(&answer, &ids) != Verdict::Success {
            return Err(Stop::invalid(format!("a batch failed: {}", String::from_utf8_lossy(&answer))));
        }
        received.iter().try_for_each(|message| Ok(queue.delete(&message.receipt)?))
    }

    /// Has a function work for so many, and notes what it took.
    async fn work(
        &self,
        ledger: &mut Ledger,
        function: &Function,
        event: String,
        count: usize,
    ) -> Result<Vec<u8>, Stop> {
        drop(self.stack.aws.take_taken(WAITING_ROOM));
        let invocation = function.invoke(event).await;
        let used = cpu_time(invocation.process)?;
        let answer = invocation.result.map_err(|error| Stop::invalid(error.to_string()))?;
        // What a process does after its answer is the next one's, and its start is nobody's.
        let before = self.used.borrow_mut().insert(invocation.process, used).unwrap_or(used);
        ledger.count += count;
        ledger.processor.push((used - before).as_secs_f64() * 1_000.0);
        for (operation, taken) in self.stack.aws.take_taken(WAITING_ROOM) {
            *ledger.taken.entry(operation).or_default() += taken;
        }
        Ok(answer)
    }
}
