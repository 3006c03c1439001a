//! Delivers an event file to its function, through a queue and a mapping where it has a queue, and holds what came of it
//! against what the file promises. Of a file without promises it tells what came of it.

mod booked;
mod invoked;
mod waited;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

pub use self::{
    booked::{BOOKING, House},
    invoked::put,
    waited::{put_line, table},
};

use serde::Deserialize;

use redrive::letter::reservation_id;

use crate::{
    admission,
    build::Binaries,
    catalogue::{self, System, Trigger},
    inventory::SeatState,
    lambda::Function,
    postgres::PostgresError,
    queue::{Message, Snapshot},
    reservations::Status,
    scenario::{EventFile, Given, Outcome, Promise, Record},
    stack::Stack,
};

/// The functions of a stack, deployed once and kept warm between files.
pub struct Replay {
    stack: Stack,
    functions: BTreeMap<String, Function>,
    house: Option<House>,
    /// Who has which seat of which event, so that a message of somebody's own cannot sell it twice.
    seats: Mutex<BTreeMap<(String, String), String>>,
}

/// What came of one file.
#[derive(Debug)]
pub struct FileReport {
    /// What came of each record, in the file's order.
    pub records: Vec<RecordReport>,
    /// Why there are no records, when the invocation as a whole failed.
    pub invocation_fault: Option<String>,
    /// Whether the file promises anything that the records could be held against.
    pub is_judged: bool,
    /// What a person should know of a file without promises, a sentence each.
    pub notes: Vec<String>,
}

/// What came of one record.
#[derive(Debug)]
pub struct RecordReport {
    /// Its id in the queue.
    pub message_id: String,
    /// The booking that it is about, where the file or the function says so.
    pub booking_id: Option<String>,
    /// The booking's status; nothing: there is no such booking.
    pub booking: Option<String>,
    /// The reservation that it is about, where the file or its body says so.
    pub reservation_id: Option<String>,
    /// The outcome that the function logged.
    pub outcome: String,
    /// The reason, where the outcome has one.
    pub error: Option<String>,
    /// The code by which the record lies in the dead-letter queue.
    pub error_code: Option<String>,
    /// The time that the function logged.
    pub latency: Option<Duration>,
    /// What became of the reservation.
    pub reservation: Option<Status>,
    /// What became of its seats.
    pub seats: Option<SeatState>,
    /// Everything that is not as promised; nothing when all is well.
    pub faults: Vec<String>,
}

impl FileReport {
    /// Whether the file kept its promise. One without a promise keeps it by being run.
    pub fn is_as_promised(&self) -> bool {
        self.invocation_fault.is_none() && self.records.iter().all(|record| record.faults.is_empty())
    }

    /// What happened as promises; None where a record ended in none of the ways that can be promised.
    pub fn promises(&self, given: &[Given]) -> Option<Vec<Promise>> {
        self.records.iter().map(|record| record.promise(given)).collect()
    }
}

impl RecordReport {
    /// One of which no more is known.
    fn of(message_id: &str, outcome: &str) -> Self {
        Self {
            message_id: message_id.to_owned(),
            booking_id: None,
            booking: None,
            reservation_id: None,
            outcome: outcome.to_owned(),
            error: None,
            error_code: None,
            latency: None,
            reservation: None,
            seats: None,
            faults: Vec::new(),
        }
    }

    fn promise(&self, given: &[Given]) -> Option<Promise> {
        let outcome: Outcome = serde_json::from_value(self.outcome.as_str().into()).ok()?;
        let is_given = given.iter().any(|one| Some(&one.reservation_id) == self.reservation_id.as_ref());
        Some(Promise {
            message_id: self.message_id.clone(),
            outcome,
            reservation_id: self.reservation_id.clone(),
            reservation: self.reservation.filter(|_| is_given),
            seats: self.seats.filter(|_| is_given),
            error_code: self.error_code.clone().filter(|_| outcome.is_dead_lettered()),
        })
    }
}

/// The fields of the line by which a function says how a record ended, as far as a report needs them.
#[derive(Debug, Deserialize)]
pub(crate) struct LogLine {
    message_id: String,
    booking_id: Option<String>,
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

    /// Why the record ended so, with the code where there is one.
    fn reason(&self) -> Option<String> {
        match (&self.error_code, &self.error) {
            (Some(code), Some(error)) => Some(format!("{code}: {error}")),
            (_, error) => error.clone(),
        }
    }

    fn latency(&self) -> Duration {
        Duration::from_millis(self.latency_ms)
    }
}

impl Replay {
    /// Deploys the functions on a stack.
    ///
    /// # Errors
    /// When a binary is not there.
    pub fn new(stack: Stack, binaries: &Binaries) -> io::Result<Self> {
        Self::with(stack, binaries, None)
    }

    /// As [`Replay::new`], with a house for the files about bookings, which can't be replayed without.
    ///
    /// # Errors
    /// When a binary is not there.
    pub fn with(stack: Stack, binaries: &Binaries, house: Option<House>) -> io::Result<Self> {
        admission::prepare(&stack.aws);
        let deployed = binaries.iter().map(|(name, binary)| {
            let house = house.as_ref().filter(|_| is_of_bookings(name));
            let mut environment =
                house.map_or_else(|| stack.environment(name), |house| house.database.environment(&stack, name));
            if serves_reservations(name) {
                environment.extend(admission::VARIABLES.map(|(name, value)| (name.to_owned(), value.to_owned())));
            }
            Ok((name.clone(), stack.deploy_with(name, binary.clone(), 1, environment)?))
        });
        let functions = deployed.collect::<io::Result<_>>()?;
        Ok(Self { stack, functions, house, seats: Mutex::default() })
    }

    /// Ends the functions, and takes the house down.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn end(self) -> Result<(), PostgresError> {
        drop(self.functions);
        match self.house {
            Some(house) => house.close().await,
            None => Ok(()),
        }
    }

    fn function(&self, name: &str) -> Result<&Function, String> {
        self.functions.get(name).ok_or_else(|| format!("no function {name} is deployed"))
    }

    /// Seeds what the file takes for given, delivers its batch or its event once, and judges. A batch that is larger than the
    /// mapping's comes in several deliveries.
    pub async fn file(&self, file: &EventFile) -> FileReport {
        if let Some(invoked) = &file.invoked {
            return match self.function(&file.function) {
                Ok(function) => invoked::run(&self.stack, function, invoked).await,
                Err(fault) => FileReport::failed(fault),
            };
        }
        if let Some(booked) = &file.booked {
            return match &self.house {
                Some(house) => booked::run(self, house, file, booked).await,
                None => FileReport::failed("events of bookings need a PostgreSQL".to_owned()),
            };
        }
        if let Some(waited) = &file.waited {
            return waited::run(self, file, waited).await;
        }
        let mut notes = file.notes.clone();
        notes.extend(self.seed(file));
        let mut report = self.run(file).await;
        report.notes = notes;
        report
    }

    /// Puts the reservations in place. One of a message of somebody's own is left out where it would be there twice.
    fn seed(&self, file: &EventFile) -> Vec<String> {
        let mut taken = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        let mut notes = Vec::new();
        for given in &file.scenario.given {
            let id = &given.reservation_id;
            let seat = |seat: &String| (given.event_id.clone(), seat.clone());
            if file.scenario.then.is_none() {
                if let Some(there) = self.stack.reservations.get(id) {
                    notes.push(format!("{id} is there already, as {}, and stays as it is", there.status));
                    continue;
                }
                let held = given.seat_ids.iter().find_map(|name| Some((name, taken.get(&seat(name))?)));
                if let Some((name, other)) = held {
                    notes.push(format!(
                        "{id} is not put on hold, because {other} has the seat {name} of the same event"
                    ));
                    continue;
                }
            }
            taken.extend(given.seat_ids.iter().map(|name| (seat(name), id.clone())));
            self.stack.seed(std::slice::from_ref(given));
        }
        notes
    }

    async fn run(&self, file: &EventFile) -> FileReport {
        let delivered = match self.deliver(file).await {
            Ok(delivered) => delivered,
            Err(fault) => return FileReport::failed(fault),
        };
        let then = file.scenario.then.as_deref();
        let records = file.records.iter().enumerate().map(|(index, record)| {
            let end = delivered.end(&record.message_id);
            self.report(record, &end, then.and_then(|then| then.get(index)))
        });
        FileReport { records: records.collect(), invocation_fault: None, is_judged: then.is_some(), notes: Vec::new() }
    }

    /// Sends the records to the function's queue, and lets each be delivered once.
    async fn deliver(&self, file: &EventFile) -> Result<Delivered, String> {
        let queue = self.stack.queue(&file.function);
        for record in &file.records {
            let message = Message {
                id: Some(record.message_id.clone()),
                body: record.body.clone(),
                attributes: record.message_attributes.clone(),
                trace_header: record.system("AWSTraceHeader"),
                group_id: record.system("MessageGroupId"),
                received_before: record.receive_count.saturating_sub(1),
                ..Message::default()
            };
            if let Err(error) = queue.send(message) {
                return Err(format!("SQS would not take {}: {error}", record.message_id));
            }
        }
        let mapping = self.stack.map(queue.clone(), self.function(&file.function)?.clone());
        let (mut logged, mut delivered): (HashMap<String, LogLine>, usize) = (HashMap::new(), 0);
        while delivered < file.records.len() {
            let Some(delivery) = mapping.deliver_once().await else {
                return Err("the queue gave out no message".to_owned());
            };
            if let Err(error) = &delivery.invocation.result {
                return Err(error.to_string());
            }
            delivered += delivery.batch.len();
            logged.extend(LogLine::all(&delivery.invocation.logs).map(|line| (line.message_id.clone(), line)));
        }

        let (waiting, dead) = (queue.messages(), self.stack.dead_letters(&file.function).messages());
        Ok(Delivered { logged, waiting, dead })
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

    fn report(&self, record: &Record, end: &End<'_>, promise: Option<&Promise>) -> RecordReport {
        let reservation_id = match promise {
            Some(promise) => promise.reservation_id.clone(),
            None => reservation_id(&record.body),
        };
        let id = reservation_id.as_deref();
        let reservation = id.and_then(|id| Some(self.stack.reservations.get(id)?.status));
        let has_seats = promise.map_or(reservation.is_some(), |promise| promise.seats.is_some());
        let (line, dead_lettered) = (end.line, end.dead_lettered);
        let mut report = RecordReport {
            error_code: dead_lettered.and_then(|message| attribute(message, "error_code")).map(str::to_owned),
            latency: line.map(LogLine::latency),
            seats: id.filter(|_| has_seats).map(|id| self.stack.inventory.seat_state(id)),
            error: line.and_then(LogLine::reason),
            reservation_id,
            reservation,
            ..RecordReport::of(&record.message_id, line.map_or("no outcome logged", |line| &line.outcome))
        };
        if let Some(promise) = promise {
            report.faults = self.faults(record, end, &report, promise);
        }
        report
    }

    /// What is not as promised, a sentence each.
    fn faults(&self, record: &Record, end: &End<'_>, found: &RecordReport, promise: &Promise) -> Vec<String> {
        let mut faults = Vec::new();
        let mut expect = |what: &str, found: String, promised: String| {
            if found != promised {
                faults.push(format!("{what} {found}; promised: {promised}"));
            }
        };
        expect("the outcome is", found.outcome.clone(), promise.outcome.to_string());
        expect("the reservation is", shown(found.reservation), shown(promise.reservation));
        expect("its seats are", shown(found.seats), shown(promise.seats));
        let promised = shown(promise.error_code.as_ref());
        expect("the reason in the dead-letter queue is", shown(found.error_code.as_ref()), promised);
        let place = |is_there: bool| if is_there { "there" } else { "not there" }.to_owned();
        let is_retried = promise.outcome == Outcome::Retried;
        expect("in its queue the message is", place(end.kept), place(is_retried));
        let is_dead_lettered = promise.outcome.is_dead_lettered();
        expect("in the dead-letter queue it is", place(end.dead_lettered.is_some()), place(is_dead_lettered));
        if promise.outcome == Outcome::LateApproval {
            let refunds = found.reservation_id.as_deref().map_or(0, |id| self.refunds(id));
            expect("the number of refund requests is", refunds.to_string(), 1.to_string());
        }
        if end.dead_lettered.is_some_and(|message| message.body != record.body) {
            faults.push("the body in the dead-letter queue is not the one that was sent".to_owned());
        }
        faults
    }
}

/// What is known of the records of a file after their delivery.
struct Delivered {
    logged: HashMap<String, LogLine>,
    waiting: Vec<Snapshot>,
    dead: Vec<Snapshot>,
}

impl Delivered {
    fn end(&self, message_id: &str) -> End<'_> {
        End {
            line: self.logged.get(message_id),
            kept: self.waiting.iter().any(|message| message.id == message_id),
            dead_lettered: self.dead.iter().find(|message| source_of(message) == Some(message_id)),
        }
    }
}

/// What is known of one record after the delivery.
struct End<'a> {
    line: Option<&'a LogLine>,
    kept: bool,
    dead_lettered: Option<&'a Snapshot>,
}

impl FileReport {
    fn failed(fault: String) -> Self {
        Self { records: Vec::new(), invocation_fault: Some(fault), is_judged: true, notes: Vec::new() }
    }
}

/// A message attribute's text.
pub fn attribute<'a>(message: &'a Snapshot, name: &str) -> Option<&'a str> {
    message.attributes.get(name)?.string_value.as_deref()
}

/// The id that a dead-lettered message had in its first queue.
fn source_of(message: &Snapshot) -> Option<&str> {
    attribute(message, "source_message_id")
}

/// Whether a function is one of the bookings.
/// A reservation API of the replay asks for admissions, so that its files show them; an event without a line needs none.
fn serves_reservations(name: &str) -> bool {
    let serves = |entry: catalogue::Entry| entry.system == System::Reservations && entry.trigger == Trigger::Http;
    catalogue::function(name).is_some_and(serves)
}

fn is_of_bookings(name: &str) -> bool {
    catalogue::function(name).is_some_and(|entry| entry.system == System::Bookings)
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}
