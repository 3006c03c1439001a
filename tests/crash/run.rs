//! One run of a scenario: a stack with a wire on every server, a function, and what exists before.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use axum::http::Method;
use local_stack::{
    aws::Injected,
    inventory,
    lambda::{Function, FunctionOptions},
    mapping::Mapping,
    queue::{Message, Queue, Snapshot},
    replay::attribute,
    reservations,
    scenario::Given,
    stack::{FUNCTION_TIMEOUT, MAX_RECEIVES, Stack, TABLE},
    tripwire::{Point, Side, Tripwire},
};
use serde_json::{Value, json};
use shared::deadline::epoch_ms;

use crate::{
    binaries,
    point::Mode,
    scenario::{Record, Scenario, Trouble},
};

/// A stack with one function, where all points of a scenario have their turn.
#[derive(Clone)]
pub(crate) struct Site {
    stack: Stack,
    function: Function,
    /// The same with a timeout in which no record can start.
    hurried: Option<Function>,
}

impl Site {
    pub(crate) async fn of(scenario: &Scenario) -> Self {
        let stack = Stack::start().await.expect("the stack starts");
        let mut environment = stack.environment(scenario.function);
        // The records of a batch then make their requests in one order, and a number means the same in every run.
        environment.insert("WORKER_CONCURRENCY".to_owned(), "1".to_owned());
        let deploy = |timeout| {
            let (name, binary) = (scenario.function.to_owned(), binaries()[scenario.function].clone());
            let environment = environment.clone();
            let (environments, memory_mb, core) = (2, 256, None);
            Function::start(FunctionOptions { name, binary, environment, timeout, environments, memory_mb, core })
                .expect("the binary is there")
        };
        let hurried = scenario.hurried.then(|| deploy(Duration::from_secs(5)));
        Self { function: deploy(FUNCTION_TIMEOUT), hurried, stack }
    }
}

/// One run of a scenario, and what was seen of its messages.
pub(crate) struct Run {
    pub(crate) scenario: Scenario,
    pub(crate) stack: Stack,
    pub(crate) tripwire: Tripwire,
    pub(crate) queue: Queue,
    pub(crate) dead_letters: Queue,
    /// Every message of the scenario and every copy of one, with the record that it carries.
    pub(crate) messages: Vec<(String, Record)>,
    /// How messages ended, as far as an invocation lived to say so.
    pub(crate) ended: Vec<(String, String)>,
    /// Whether a worker sent a dead letter and was killed before the mapping had its answer.
    pub(crate) dead_lettered_without_answer: bool,
    /// Whether the first worker stood still for so long that it asked again when it went on.
    pub(crate) may_ask_again: bool,
    pub(crate) function: Function,
    pub(crate) hurried: Option<Function>,
    /// Of the effect at which the worker is disturbed.
    pub(crate) side: Option<Side>,
    pub(crate) due: Option<u64>,
}

impl Run {
    /// The scenario, ready to begin: the processes are warm, so that what is counted is the work and not a start. `number` is
    /// its own.
    pub(crate) async fn of(site: &Site, scenario: &Scenario, number: usize) -> Self {
        let mut scenario = scenario.clone();
        for record in &mut scenario.records {
            record.reservation = format!("{}-{number}", record.reservation);
        }
        let Site { stack, function, hurried } = site.clone();
        let due = scenario.due_in.map(|due_in| epoch_ms(SystemTime::now() + due_in).div_ceil(1_000));
        let mut run = Self {
            tripwire: Tripwire::default(),
            queue: stack.queue(scenario.function),
            dead_letters: stack.dead_letters(scenario.function),
            messages: Vec::new(),
            ended: Vec::new(),
            dead_lettered_without_answer: false,
            may_ask_again: false,
            scenario,
            stack,
            function,
            hurried,
            side: None,
            due,
        };
        run.prepare().await;
        run
    }

    async fn prepare(&mut self) {
        // Two processes, so that the second worker need not start while the first stands still.
        let empty = || self.function.invoke(r#"{"Records": []}"#);
        let (one, two) = tokio::join!(empty(), empty());
        assert!(one.result.is_ok() && two.result.is_ok(), "the function starts: {one:#?} {two:#?}");
        if let Some(hurried) = &self.hurried {
            assert!(hurried.invoke(r#"{"Records": []}"#).await.result.is_ok(), "it starts with little time, too");
        }
        let records = self.scenario.records.clone();
        for record in &records {
            self.stack.seed(&[Given {
                reservation_id: record.reservation.clone(),
                event_id: "evt_1".to_owned(),
                user_id: "usr_1".to_owned(),
                status: record.status,
                seat_ids: record.seat_ids(),
                quantity: 2,
                payment_intent_id: record.confirmed_by.map(str::to_owned),
                seats: record.seats,
            }]);
            if self.scenario.completed_before {
                let body = record.body(self.scenario.event_type, &json!({}), self.due);
                self.queue.send(Message::new(body)).unwrap();
                self.mapping().deliver_once().await.expect("a message is visible");
                assert!(self.queue.is_empty(), "the event is completed");
            }
        }
        self.set_trouble(&records[0].reservation);
        self.stack.aws.set_tripwire(self.tripwire.clone());
        self.stack.reservations.set_tripwire(self.tripwire.clone());
        self.stack.inventory.set_tripwire(self.tripwire.clone());
    }

    fn set_trouble(&self, reservation: &str) {
        let patch = |status, body: &str| {
            let answer = reservations::Scripted::Respond { status, headers: Vec::new(), body: body.to_owned() };
            self.stack.reservations.answer_next(reservation, Method::PATCH, answer);
        };
        let unavailable = |times| {
            for _ in 0..times {
                let answer = inventory::Scripted::Status(tonic::Code::Unavailable, "down".to_owned());
                self.stack.inventory.answer_next(reservation, answer);
            }
        };
        match self.scenario.trouble {
            None => {}
            Some(Trouble::GuardDownOnce) => patch(503, ""),
            Some(Trouble::GuardSilentOnStatusOnce) => patch(409, "{}"),
            Some(Trouble::InventoryDownOnce) => unavailable(1),
            // More than all receives of a message and its copy.
            Some(Trouble::InventoryDown) => unavailable(4 * MAX_RECEIVES),
            Some(Trouble::RefundFailsOnce) => self.stack.aws.fail_entries_next(1),
            Some(Trouble::DeadLetterRefusedOnce) => {
                let (kind, message) = ("AccessDeniedException".to_owned(), "not now".to_owned());
                self.stack.aws.fail_next("AmazonSQS.SendMessage", Injected::Answer { status: 403, kind, message });
            }
        }
    }

    /// Sends the messages, lets the worker be disturbed at `point`, and lets time pass until the queue is empty. Then the
    /// run must be as the scenario promises. The answer is how many requests were made, up to the point.
    pub(crate) async fn finish(mut self, point: Option<Point>, mode: Mode) -> usize {
        self.send();
        self.side = point.map(|point| point.side);
        self.tripwire.arm(point);
        self.converge(mode).await;
        let requests = self.tripwire.requests().len();
        assert_eq!(self.tripwire.has_tripped(), point.is_some(), "the point was reached");
        self.keeps_its_promise();
        if self.scenario.records.iter().any(|record| record.end.redriven.is_some()) {
            self.repair_and_redrive(mode).await;
        }
        requests
    }

    pub(crate) fn send(&mut self) {
        for record in self.scenario.records.clone() {
            let body = record.body(self.scenario.event_type, &record.changes, self.due);
            let received_before = self.scenario.received_before;
            let id = self.queue.send(Message { received_before, ..Message::new(body) }).unwrap();
            self.messages.push((id, record));
        }
    }

    async fn repair_and_redrive(&mut self, mode: Mode) {
        for record in self.scenario.records.clone() {
            self.stack.inventory.forget_answers(&record.reservation);
        }
        for letter in self.dead_letters.messages().iter().filter(|letter| self.is_ours(letter)) {
            let Snapshot { body, attributes, .. } = letter.clone();
            self.queue.send(Message { attributes, ..Message::new(body) }).unwrap();
        }
        self.converge(mode).await;
        self.is_settled_after_the_redrive();
    }

    fn is_ours(&self, letter: &Snapshot) -> bool {
        let source = attribute(letter, "source_message_id").unwrap_or(&letter.id);
        self.messages.iter().any(|(id, _)| id == source)
    }

    pub(crate) fn mapping(&self) -> Mapping {
        self.stack.map(self.queue.clone(), self.function.clone())
    }

    /// Every record of the idempotency table.
    pub(crate) async fn claims(&self) -> BTreeMap<String, Value> {
        let found = self.stack.aws.dynamodb("Scan", &json!({"TableName": TABLE, "ConsistentRead": true})).await;
        let items = found.expect("DynamoDB answers")["Items"].as_array().cloned().unwrap_or_default();
        items.into_iter().map(|item| (item["id"]["S"].as_str().unwrap().to_owned(), item)).collect()
    }
}
