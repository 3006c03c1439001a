//! The files of `events/`: whole SQS batches, each with a scenario that says what the file promises.
//!
//! One file serves four readers: a person who wants an example, `cargo lambda invoke` (which ignores the key
//! `scenario`), the integration tests and the benchmark. This module reads and checks files; it runs nothing, so that
//! every runner judges by the same promise.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::build::workspace;
use crate::inventory::Standing;
use crate::reservations::Status;

/// The functions of the workspace. Each has a folder of this name in `events/`, and its queue bears the name too.
pub const FUNCTIONS: [&str; 3] = ["reservation-expired", "payment-approved", "payment-failed"];

/// The reasons that a record can carry into the dead-letter queue; a promise with another one could never be kept.
pub const ERROR_CODES: [&str; 9] = [
    "malformed_body",
    "unknown_type",
    "invalid_field",
    "payload_changed",
    "inventory_conflict",
    "incomplete_reservation",
    "downstream_rejected",
    "refund_not_deliverable",
    "retries_exhausted",
];

/// One file, read and checked.
#[derive(Debug, Clone)]
pub struct EventFile {
    /// Where the file is, so that a report can name it.
    pub path: PathBuf,
    /// The function whose queue the batch belongs to: the name of the file's folder, one of [`FUNCTIONS`].
    pub function: String,
    /// The batch, in the order of delivery. It is never empty, because SQS delivers no empty batch.
    pub records: Vec<Record>,
    /// What holds before the delivery and what must hold after it.
    pub scenario: Scenario,
}

impl EventFile {
    /// The file's name without its ending. The same name means the same case in every function's folder.
    pub fn case(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }
}

/// One message of the batch: what a queue has to keep in order to deliver it as the file shows it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "WireRecord")]
pub struct Record {
    /// The id that the queue must keep, because the promises name their records by it.
    pub message_id: String,
    /// The body, never parsed here: some bodies are broken on purpose.
    pub body: String,
    /// The hash of the body in hexadecimal digits, as SQS hands it out.
    pub md5_of_body: String,
    /// Which receive this delivery is. A replay stores one less in the queue, which counts the delivery itself.
    pub receive_count: u32,
    /// The X-Ray context of the sender, where SQS was given one.
    pub trace_header: Option<String>,
    /// What the sender attached to the message.
    pub message_attributes: BTreeMap<String, MessageAttribute>,
    /// The queue that the record names as its source. The functions derive the queue's URL from it.
    pub source_arn: String,
}

/// An attribute that a sender attached to its message; producers of these events attach text only.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageAttribute {
    /// The type's name in SQS, such as `String`.
    pub data_type: String,
    /// The value, unless it is binary.
    pub string_value: Option<String>,
}

/// What the file promises.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// One sentence for people.
    pub about: String,
    /// The reservations that exist before the delivery. One that a record names but that is not here is unknown to
    /// the reservation API, which is what some cases are about.
    pub given: Vec<Given>,
    /// One promise per record, in the records' order.
    pub then: Vec<Promise>,
}

/// A reservation as it stands before the delivery, in the API and in the inventory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Given {
    /// The id, used by no other file, because one stack may be seeded with all files at once.
    pub reservation_id: String,
    /// The event that the seats belong to, used by no other file either, so that no two files contend for a seat.
    pub event_id: String,
    /// Who reserved.
    pub user_id: String,
    /// What the reservation API says about it.
    pub status: Status,
    /// The seats by name; empty for general admission, where only the quantity counts.
    pub seat_ids: Vec<String>,
    /// How many seats the reservation is for.
    pub quantity: u32,
    /// The payment that confirmed the reservation, once one did.
    pub payment_intent_id: Option<String>,
    /// What the inventory says about its seats. It may contradict the status: that is how a worker that died half-way
    /// leaves things.
    pub seats: Standing,
}

/// What one record comes to, and how its reservation stands after the whole batch.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// The record that the promise is about.
    pub message_id: String,
    /// How the worker ends the record.
    pub outcome: Outcome,
    /// The reservation that the record names; absent where the record names none that could be read.
    pub reservation_id: Option<String>,
    /// The status in the reservation API at the end; absent where the API does not know the reservation.
    pub reservation: Option<Status>,
    /// The seats in the inventory at the end; absent together with the status.
    pub seats: Option<Standing>,
    /// Why the record is in the dead-letter queue, for the outcomes that send it there. One of [`ERROR_CODES`].
    pub error_code: Option<String>,
}

/// How a record ends. The names are the ones in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The guard and the inventory call are done.
    Success,
    /// The same business event was completed before, so nothing was called.
    Duplicate,
    /// Another terminal status won the race.
    Superseded,
    /// The payment came too late, so a refund was requested.
    LateApproval,
    /// A transient fault: the record is reported failed and comes again.
    Retried,
    /// A transient fault on the last receive: the record is in the dead-letter queue.
    Exhausted,
    /// The record can never succeed: it is in the dead-letter queue.
    Rejected,
}

impl Outcome {
    /// The name as logs and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::LateApproval => "late_approval",
            Self::Retried => "retried",
            Self::Exhausted => "exhausted",
            Self::Rejected => "rejected",
        }
    }

    /// Whether the worker sends the record to the dead-letter queue itself, with an error code.
    pub fn is_dead_lettered(self) -> bool {
        matches!(self, Self::Exhausted | Self::Rejected)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a file cannot be used. The reader is the person who wrote the file, so each message names it and says what to
/// mend.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file or folder could not be read.
    #[error("read {}: {cause}", .path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The text is not JSON, or not of the shape of an event file.
    #[error("{}: {cause}; an event file has the keys \"Records\" and \"scenario\"", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column.
        cause: serde_json::Error,
    },
    /// The file is well formed but contradicts itself or its place.
    #[error("{}: {mend}", .path.display())]
    Broken {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong and what to do about it.
        mend: String,
    },
}

/// The repository's folder `events`, wherever a command is run.
pub fn events_folder() -> PathBuf {
    workspace().join("events")
}

/// Reads one file and checks that its promises can be judged at all.
pub fn load(path: impl AsRef<Path>) -> Result<EventFile, ScenarioError> {
    let path = path.as_ref().to_path_buf();
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(cause) => return Err(ScenarioError::Read { path, cause }),
    };
    // The path may be a bare name within the folder, whose own name only the full path tells.
    let folder = path.canonicalize().ok().and_then(|full| Some(full.parent()?.file_name()?.to_str()?.to_owned()));
    parse(path, folder.unwrap_or_default(), &text)
}

/// Reads every `.json` file in `folder` and in the folders below it, sorted by path, so that every run has one order.
pub fn load_all(folder: impl AsRef<Path>) -> Result<Vec<EventFile>, ScenarioError> {
    let folder = folder.as_ref();
    let mut paths = Vec::new();
    collect(folder, &mut paths).map_err(|cause| ScenarioError::Read { path: folder.to_path_buf(), cause })?;
    if paths.is_empty() {
        let mend = "no .json file in here; name the folder `events` or one of the folders in it".to_owned();
        return Err(ScenarioError::Broken { path: folder.to_path_buf(), mend });
    }
    paths.sort();
    paths.into_iter().map(load).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().is_some_and(|ending| ending == "json") {
            paths.push(path);
        }
    }
    Ok(())
}

fn parse(path: PathBuf, function: String, text: &[u8]) -> Result<EventFile, ScenarioError> {
    let WireFile { records, scenario } = match serde_json::from_slice(text) {
        Ok(file) => file,
        Err(cause) => return Err(ScenarioError::Shape { path, cause }),
    };
    let file = EventFile { path, function, records, scenario };
    match check(&file) {
        Ok(()) => Ok(file),
        Err(mend) => Err(ScenarioError::Broken { path: file.path, mend }),
    }
}

/// The first contradiction in the file, as a sentence that says how to mend it.
fn check(file: &EventFile) -> Result<(), String> {
    let EventFile { function, records, scenario, .. } = file;
    if !FUNCTIONS.contains(&function.as_str()) {
        return Err(format!("the folder {function:?} is no function; move the file to one of {FUNCTIONS:?}"));
    }
    if records.is_empty() {
        return Err("the batch is empty; put at least one record into \"Records\"".to_owned());
    }
    let (promised, sent) = (scenario.then.len(), records.len());
    if promised != sent {
        return Err(format!("{sent} records but {promised} promises; give \"scenario.then\" one entry per record"));
    }
    for (index, (record, promise)) in records.iter().zip(&scenario.then).enumerate() {
        check_record(function, record).map_err(|mend| format!("Records[{index}]: {mend}"))?;
        check_promise(record, promise, &scenario.given).map_err(|mend| format!("scenario.then[{index}]: {mend}"))?;
    }
    Ok(())
}

fn check_record(function: &str, record: &Record) -> Result<(), String> {
    if record.message_id.is_empty() {
        return Err("\"messageId\" is empty; give it a UUID".to_owned());
    }
    if record.md5_of_body.is_empty() {
        return Err("\"md5OfBody\" is empty; put the MD5 hash of the body there".to_owned());
    }
    if record.receive_count == 0 {
        return Err("\"ApproximateReceiveCount\" is 0; a delivery is at least the first receive".to_owned());
    }
    if record.source_arn.rsplit(':').next() != Some(function) {
        return Err(format!("\"eventSourceARN\" is {:?}; it has to end with \":{function}\"", record.source_arn));
    }
    Ok(())
}

fn check_promise(record: &Record, promise: &Promise, given: &[Given]) -> Result<(), String> {
    if promise.message_id != record.message_id {
        let (said, due) = (&promise.message_id, &record.message_id);
        return Err(format!("is about {said:?}, but this place belongs to {due:?}; keep the order of \"Records\""));
    }
    match &promise.error_code {
        Some(code) if !promise.outcome.is_dead_lettered() => {
            return Err(format!("{} carries no error code; remove {code:?}", promise.outcome));
        }
        Some(code) if !ERROR_CODES.contains(&code.as_str()) => {
            return Err(format!("{code:?} is no error code; use one of {ERROR_CODES:?}"));
        }
        None if promise.outcome.is_dead_lettered() => {
            return Err(format!("{} needs an \"error_code\"", promise.outcome));
        }
        Some(_) | None => {}
    }
    if promise.reservation.is_some() != promise.seats.is_some() {
        return Err("give both \"reservation\" and \"seats\", or neither".to_owned());
    }
    let is_given = given.iter().any(|one| Some(&one.reservation_id) == promise.reservation_id.as_ref());
    if promise.reservation.is_some() && !is_given {
        return Err("promises the end of a reservation that is not in \"scenario.given\"; add it there".to_owned());
    }
    Ok(())
}

#[derive(Deserialize)]
struct WireFile {
    #[serde(rename = "Records")]
    records: Vec<Record>,
    scenario: Scenario,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireRecord {
    message_id: String,
    body: String,
    md5_of_body: String,
    attributes: WireAttributes,
    #[serde(default)]
    message_attributes: BTreeMap<String, MessageAttribute>,
    #[serde(rename = "eventSourceARN")]
    event_source_arn: String,
}

#[derive(Deserialize)]
struct WireAttributes {
    #[serde(rename = "ApproximateReceiveCount")]
    receive_count: String,
    #[serde(rename = "AWSTraceHeader")]
    trace_header: Option<String>,
}

impl TryFrom<WireRecord> for Record {
    type Error = String;

    fn try_from(wire: WireRecord) -> Result<Self, Self::Error> {
        let count = wire.attributes.receive_count;
        let receive_count = count
            .parse()
            .map_err(|_| format!("\"ApproximateReceiveCount\" is {count:?}; write a whole number in quotes"))?;
        Ok(Self {
            message_id: wire.message_id,
            body: wire.body,
            md5_of_body: wire.md5_of_body,
            receive_count,
            trace_header: wire.attributes.trace_header,
            message_attributes: wire.message_attributes,
            source_arn: wire.event_source_arn,
        })
    }
}

#[cfg(test)]
mod tests;
