//! Delivers a file of `events/` to its function, through a queue and a mapping, and holds what came of it against what the
//! file promises.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    build::Binaries,
    inventory::Standing,
    lambda::Function,
    queue::{Message, MessageAttribute, Snapshot},
    reservations::Status,
    scenario::{EventFile, Promise},
    stack::Stack,
};

/// The functions of a stack, deployed once and kept warm between files.
pub struct Replay {
    stack: Stack,
    functions: BTreeMap<String, Function>,
}

/// What came of one file.
#[derive(Debug)]
pub struct FileReport {
    /// What came of each record, in the file's order.
    pub records: Vec<RecordReport>,
    /// Why there are no records, when the invocation as a whole failed.
    pub invocation_fault: Option<String>,
}

/// What came of one record.
#[derive(Debug)]
pub struct RecordReport {
    /// What the file promises.
    pub promise: Promise,
    /// The outcome that the function logged.
    pub outcome: String,
    /// The reason, where the outcome has one.
    pub error: Option<String>,
    /// The time that the function logged.
    pub latency: Option<Duration>,
    /// What became of the reservation.
    pub reservation: Option<Status>,
    /// What became of its seats.
    pub seats: Option<Standing>,
    /// Everything that is not as promised; nothing when all is well.
    pub faults: Vec<String>,
}

impl FileReport {
    /// Whether the file kept its promise.
    pub fn is_as_promised(&self) -> bool {
        self.invocation_fault.is_none() && self.records.iter().all(|record| record.faults.is_empty())
    }
}

/// The fields of the line by which a function says how a record ended, as far as a report needs them.
#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    message_id: String,
    pub(crate) outcome: String,
    latency_ms: u64,
    error: Option<String>,
    error_code: Option<String>,
}

impl LogLine {
    /// The lines of ended records among all that was written.
    pub(crate) fn all(logs: &[String]) -> impl Iterator<Item = Self> {
        logs.iter().filter_map(|line| serde_json::from_str(line).ok())
    }
}

impl Replay {
    /// Deploys the functions on a stack.
    ///
    /// # Errors
    /// When a binary is not there.
    pub fn new(stack: Stack, binaries: &Binaries) -> io::Result<Self> {
        let deployed = binaries.iter().map(|(name, binary)| Ok((name.clone(), stack.deploy(name, binary.clone(), 1)?)));
        let functions = deployed.collect::<io::Result<_>>()?;
        Ok(Self { stack, functions })
    }

    /// Seeds what the file takes for given, delivers its batch once, and judges.
    pub async fn file(&self, file: &EventFile) -> FileReport {
        self.stack.seed(&file.scenario.given);
        let queue = self.stack.queue(&file.function);
        let dead_letters = self.stack.dead_letters(&file.function);
        for record in &file.records {
            let attributes = record.message_attributes.iter().map(|(name, attribute)| {
                let (data_type, string_value) = (attribute.data_type.clone(), attribute.string_value.clone());
                (name.clone(), MessageAttribute { data_type, string_value, binary_value: None })
            });
            let message = Message {
                id: Some(record.message_id.clone()),
                body: record.body.clone(),
                attributes: attributes.collect(),
                trace_header: record.trace_header.clone(),
                received_before: record.receive_count.saturating_sub(1),
                ..Message::default()
            };
            if let Err(error) = queue.send(message) {
                return FileReport::failed(format!("SQS would not take {}: {error}", record.message_id));
            }
        }
        let Some(function) = self.functions.get(&file.function) else {
            return FileReport::failed(format!("no function {} is deployed", file.function));
        };
        let Some(delivery) = self.stack.map(queue.clone(), function.clone()).deliver_once().await else {
            return FileReport::failed("the queue gave out no message".to_owned());
        };
        if let Err(error) = &delivery.invocation.result {
            return FileReport::failed(error.to_string());
        }

        let logged: HashMap<String, LogLine> =
            LogLine::all(&delivery.invocation.logs).map(|line| (line.message_id.clone(), line)).collect();
        let (waiting, dead) = (queue.messages(), dead_letters.messages());
        let records = file.records.iter().zip(&file.scenario.then).map(|(record, promise)| {
            let line = logged.get(&record.message_id);
            let kept = waiting.iter().any(|message| message.id == record.message_id);
            let buried = dead.iter().find(|message| source_of(message) == Some(&record.message_id));
            self.judge(promise, line, kept, buried, &record.body)
        });
        FileReport { records: records.collect(), invocation_fault: None }
    }

    /// Refund requests for the reservation so far.
    fn refunds(&self, reservation_id: &str) -> usize {
        let entries = self.stack.aws.bus_entries();
        entries
            .iter()
            .filter(|entry| {
                entry.detail_type == "payment.refund_requested" && entry.detail["reservation_id"] == reservation_id
            })
            .count()
    }

    fn judge(
        &self,
        promise: &Promise,
        line: Option<&LogLine>,
        kept: bool,
        buried: Option<&Snapshot>,
        body: &str,
    ) -> RecordReport {
        let outcome = line.map_or("no outcome logged", |line| &line.outcome).to_owned();
        let reservation_id = promise.reservation_id.as_deref();
        let reservation = reservation_id.and_then(|id| Some(self.stack.reservations.get(id)?.status));
        let seats = reservation_id.filter(|_| promise.seats.is_some()).map(|id| self.stack.inventory.standing(id));

        let mut faults = Vec::new();
        let mut expect = |what: &str, found: String, promised: String| {
            if found != promised {
                faults.push(format!("{what} is {found}, promised is {promised}"));
            }
        };
        expect("the outcome", outcome.clone(), promise.outcome.as_str().to_owned());
        expect("the reservation", shown(reservation), shown(promise.reservation));
        expect("the seats", shown(seats), shown(promise.seats));
        let code = buried.and_then(|message| attribute(message, "error_code")).map(str::to_owned);
        expect("the reason in the dead-letter queue", shown(code), shown(promise.error_code.clone()));
        expect("in the queue", kept.to_string(), (promise.outcome.as_str() == "retried").to_string());
        expect(
            "in the dead-letter queue",
            buried.is_some().to_string(),
            promise.outcome.is_dead_lettered().to_string(),
        );
        if let Some(message) = buried {
            expect("the body there", (message.body == body).to_string(), true.to_string());
        }
        if promise.outcome.as_str() == "late_approval" {
            let refunds = reservation_id.map_or(0, |id| self.refunds(id));
            expect("the number of refund requests", refunds.to_string(), 1.to_string());
        }
        let error = line.and_then(|line| match (&line.error_code, &line.error) {
            (Some(code), Some(error)) => Some(format!("{code}: {error}")),
            (_, error) => error.clone(),
        });
        let latency = line.map(|line| Duration::from_millis(line.latency_ms));
        RecordReport { promise: promise.clone(), outcome, error, latency, reservation, seats, faults }
    }
}

impl FileReport {
    fn failed(fault: String) -> Self {
        Self { records: Vec::new(), invocation_fault: Some(fault) }
    }
}

/// A message attribute's text.
pub fn attribute<'a>(message: &'a Snapshot, name: &str) -> Option<&'a str> {
    message.attributes.get(name)?.string_value.as_deref()
}

/// The id that a buried message had in its first queue.
fn source_of(message: &Snapshot) -> Option<&str> {
    attribute(message, "source_message_id")
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
