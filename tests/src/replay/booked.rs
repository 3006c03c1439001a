//! Files about bookings. What comes by a queue goes through it; records of a topic, and calls of the migration, are handed over
//! as they are. What became of a booking is read in the database, which is emptied before each file.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio_postgres::{Client, types::Type};

use super::{End, FileReport, LogLine, RecordReport, Replay, attribute, shown};
use crate::{
    lambda::Function,
    postgres::{Database, PostgresError, Server},
    scenario::{Booked, Booking, EventFile, Then},
};

const CREATED: &str = "booking-created";
const CANCELLED: &str = "booking-cancelled";

/// The functions without which no file about bookings can be replayed: they write what a file takes for given.
pub const BOOKING: [&str; 2] = [CREATED, CANCELLED];

/// A database with guests and rooms, for the files about bookings.
pub struct House {
    pub(super) database: Database,
    sql: Client,
}

impl House {
    /// Makes one on this server.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn open(server: &'static Server) -> Result<Self, PostgresError> {
        let database = server.furnished().await?;
        Ok(Self { sql: database.client().await?, database })
    }

    /// Takes its database away.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn close(self) -> Result<(), PostgresError> {
        drop(self.sql);
        self.database.remove().await
    }

    async fn empty(&self) -> Result<(), String> {
        let emptied = self.sql.batch_execute("TRUNCATE bookings, holdfast.inbox").await;
        emptied.map_err(|error| format!("empty the database: {error}"))
    }

    /// The status of a booking; nothing: there is none.
    async fn status(&self, booking_id: &str) -> Result<Option<String>, String> {
        const STATUS: &str = "SELECT status FROM bookings WHERE booking_id = $1";
        let rows = self.sql.query_typed(STATUS, &[(&booking_id, Type::TEXT)]).await;
        let status = rows.and_then(|rows| rows.first().map(|row| row.try_get(0)).transpose());
        status.map_err(|error| format!("look for the booking {booking_id}: {error}"))
    }
}

/// Puts in place what the file takes for given, delivers it once, and judges.
pub(super) async fn run(replay: &Replay, house: &House, file: &EventFile, booked: &Booked) -> FileReport {
    let run = async {
        house.empty().await?;
        for (function, bodies) in [(CREATED, &booked.given), (CANCELLED, &booked.given_cancelled)] {
            for body in bodies {
                put(replay.function(function)?, body).await?;
            }
        }
        let function = replay.function(&file.function)?;
        match (&booked.event, &booked.then) {
            (Some(event), Some(Then::Answer(promised))) => answer(function, event, Some(promised)).await,
            (Some(event), _) if booked.sources().is_empty() => answer(function, event, None).await,
            (Some(event), _) => topic(replay, house, file, booked, function, event).await,
            (None, _) => queue(replay, house, file, booked).await,
        }
    };
    match run.await {
        Ok(records) => {
            FileReport { records, invocation_fault: None, is_judged: booked.then.is_some(), notes: file.notes.clone() }
        }
        Err(fault) => FileReport::failed(fault),
    }
}

/// Hands over an event that is given.
async fn put(function: &Function, body: &Value) -> Result<(), String> {
    let record = json!({
        "messageId": "given", "body": body.to_string(), "receiptHandle": "r", "attributes": {}, "messageAttributes": {},
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:given",
    });
    let invocation = function.invoke(json!({ "Records": [record] }).to_string()).await;
    let outcome = LogLine::all(&invocation.logs).next().map(|line| line.outcome);
    match outcome.as_deref() {
        Some("success" | "refused" | "early") => Ok(()),
        other => Err(format!("what is given could not be put in place: {} ({body})", other.unwrap_or("no outcome"))),
    }
}

/// A call whose answer counts.
async fn answer(function: &Function, event: &Value, promised: Option<&Value>) -> Result<Vec<RecordReport>, String> {
    let invocation = function.invoke(event.to_string()).await;
    let answer = invocation.result.map_err(|error| error.to_string())?;
    let answer: Value = serde_json::from_slice(&answer).map_err(|error| format!("the answer is not JSON: {error}"))?;
    let mut report = RecordReport::of("0", "answered");
    report.latency = Some(invocation.duration);
    report.error = promised.is_none().then(|| answer.to_string());
    report.faults = promised
        .filter(|promised| **promised != answer)
        .map(|promised| format!("the answer is {answer}; promised: {promised}"))
        .into_iter()
        .collect();
    Ok(vec![report])
}

async fn queue(replay: &Replay, house: &House, file: &EventFile, booked: &Booked) -> Result<Vec<RecordReport>, String> {
    let delivered = replay.deliver(file).await?;
    let mut records = Vec::new();
    for (index, record) in file.records.iter().enumerate() {
        let end = delivered.end(&record.message_id);
        let mut report = report(house, &record.message_id, &end, booked.promises().get(index)).await?;
        if end.dead_lettered.is_some_and(|message| message.body != record.body) {
            report.faults.push("the body in the dead-letter queue is not the one that was sent".to_owned());
        }
        records.push(report);
    }
    Ok(records)
}

/// Records of a topic, in their order there. One that waits is in the function's own queue.
async fn topic(
    replay: &Replay,
    house: &House,
    file: &EventFile,
    booked: &Booked,
    function: &Function,
    event: &Value,
) -> Result<Vec<RecordReport>, String> {
    let queue = replay.stack.queue(&file.function);
    let dead_letters = replay.stack.dead_letters(&file.function);
    let before = dead_letters.messages().len();
    let invocation = function.invoke(event.to_string()).await;
    invocation.result.as_ref().map_err(ToString::to_string)?;
    let logged: HashMap<String, LogLine> =
        LogLine::all(&invocation.logs).map(|line| (line.message_id.clone(), line)).collect();
    let (waiting, dead) = (queue.messages(), dead_letters.messages().split_off(before));
    let mut records = Vec::new();
    for source in booked.sources() {
        let is_of = |message: &&_| attribute(message, "kafka_source") == Some(source.as_str());
        let end = End {
            line: logged.get(&source),
            kept: waiting.iter().any(|message| is_of(&message)),
            dead_lettered: dead.iter().find(is_of),
        };
        let mut promises = booked.promises().iter();
        let promise = promises.find(|promise| promise.source.as_ref() == Some(&source));
        let mut report = report(house, &source, &end, promise).await?;
        if booked.then.is_some() && promise.is_none() {
            report.faults.push(format!("nothing is promised of {source}"));
        }
        records.push(report);
    }
    Ok(records)
}

async fn report(house: &House, id: &str, end: &End<'_>, promise: Option<&Booking>) -> Result<RecordReport, String> {
    let mut report = RecordReport::of(id, end.line.map_or("no outcome logged", |line| &line.outcome));
    report.error = end.line.and_then(LogLine::reason);
    report.latency = end.line.map(LogLine::latency);
    report.error_code = end.dead_lettered.and_then(|message| attribute(message, "error_code")).map(str::to_owned);
    let logged = || end.line.and_then(|line| line.booking_id.clone());
    report.booking_id = promise.map_or_else(logged, |promise| promise.booking_id.clone());
    if let Some(booking_id) = &report.booking_id {
        report.booking = house.status(booking_id).await?;
    }
    let Some(promise) = promise else { return Ok(report) };
    let mut faults = Vec::new();
    let mut expect = |what: &str, found: String, promised: String| {
        if found != promised {
            faults.push(format!("{what} {found}; promised: {promised}"));
        }
    };
    expect("the outcome is", report.outcome.clone(), promise.outcome.clone());
    expect("the booking is", shown(report.booking.as_ref()), shown(promise.booking.as_ref()));
    let promised = shown(promise.error_code.as_ref());
    expect("the reason in the dead-letter queue is", shown(report.error_code.as_ref()), promised);
    let place = |is_there: bool| if is_there { "there" } else { "not there" }.to_owned();
    expect("in its queue the message is", place(end.kept), place(promise.outcome == "retried"));
    let is_dead = end.dead_lettered.is_some();
    expect("in the dead-letter queue it is", place(is_dead), place(promise.error_code.is_some()));
    report.faults = faults;
    Ok(report)
}
