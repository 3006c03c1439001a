//! Event files: what Lambda hands a function, and messages of one's own, with or without a scenario that says what the file
//! promises. A batch of a queue is read message by message, because it goes through a queue; any other event is handed over as
//! it is.
//!
//! One file serves four readers: a person who wants an example, `cargo lambda invoke` (which ignores the key
//! `scenario`), the integration tests and the benchmark. This module reads, checks and writes files; it runs nothing, so
//! that every runner judges by the same promise.

mod booked;
mod check;
mod form;
mod hold;
mod invoked;
mod object;
mod waited;
mod written;

use std::{
    collections::BTreeMap,
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use shared::{name::Named, settlement, trigger::sqs};

use crate::build::workspace;
use crate::inventory::SeatState;
use crate::queue::MessageAttribute;
use crate::reservations::Status;

pub use self::{
    booked::{Booked, Booking, Then},
    invoked::{Effect, Invoked, Known, Lined, OnSale},
    waited::{GivenLine, Person, Turned, Waited},
    written::write,
};

/// The reasons that a record can carry into the dead-letter queue; a promise with another one could never be kept.
pub fn error_codes() -> impl Iterator<Item = &'static str> {
    settlement::error_codes().chain(sqs::ErrorCode::ALL.iter().map(|code| code.name()))
}

/// One file, read and checked.
#[derive(Debug, Clone)]
pub struct EventFile {
    /// Where the file is, so that a report can name it.
    pub path: PathBuf,
    /// The function that it is for.
    pub function: String,
    /// The batch of a queue, in the order of delivery: SQS delivers no empty one. What comes by no queue has none.
    pub records: Vec<Record>,
    /// The event of a function without a queue.
    pub invoked: Option<Invoked>,
    /// What of it is about bookings, which need a database.
    pub booked: Option<Booked>,
    /// What of it is about the waiting room.
    pub waited: Option<Waited>,
    /// What holds before the delivery and what must hold after it.
    pub scenario: Scenario,
    /// What was done to a file of somebody's own so that it can be run, a sentence each.
    pub notes: Vec<String>,
}

impl EventFile {
    /// The file's name without its ending. The same name means the same case in every function's folder.
    pub fn case(&self) -> &str {
        self.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default()
    }

    /// Whether it promises anything.
    pub fn is_judged(&self) -> bool {
        self.scenario.then.is_some()
            || self.invoked.as_ref().is_some_and(|invoked| invoked.then.is_some())
            || self.booked.as_ref().is_some_and(|booked| booked.then.is_some())
            || self.waited.as_ref().is_some_and(|waited| waited.then.is_some())
    }

    /// The name that a report calls it by.
    pub fn name(&self) -> String {
        if self.path == Path::new(STANDARD_INPUT) {
            return "standard input".to_owned();
        }
        format!("{}/{}", self.function, self.case())
    }
}

/// One message of the batch: what a queue has to keep in order to deliver it as the file shows it.
#[derive(Debug, Clone)]
pub struct Record {
    /// The id that the queue must keep, because the promises name their records by it.
    pub message_id: String,
    /// The body, never parsed here: some bodies are broken on purpose.
    pub body: String,
    /// Which receive this delivery is. A replay stores one less in the queue, which counts the delivery itself.
    pub receive_count: u32,
    /// SQS's own attributes as the file has them.
    pub system: BTreeMap<String, String>,
    /// What the sender attached to the message.
    pub message_attributes: BTreeMap<String, MessageAttribute>,
    /// The queue that the record names as its source.
    pub source_arn: Option<String>,
}

impl Record {
    /// One of SQS's own attributes.
    pub fn system(&self, name: &str) -> Option<String> {
        self.system.get(name).cloned()
    }
}

/// What the file promises.
#[derive(Debug, Clone, Serialize)]
pub struct Scenario {
    /// One sentence for people.
    pub about: String,
    /// The reservations that exist before the delivery. One that a record names but that is not here is unknown to
    /// the reservation API, which is what some cases are about.
    pub given: Vec<Given>,
    /// One promise per record, in the records' order. A file without promises is run and not judged.
    pub then: Option<Vec<Promise>>,
}

/// A reservation as it stands before the delivery, in the API and in the inventory.
#[derive(Debug, Clone, Serialize)]
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
    pub seats: SeatState,
}

/// What one record comes to, and how its reservation stands after the whole batch.
#[derive(Debug, Clone, Serialize)]
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
    pub seats: Option<SeatState>,
    /// Why the record is in the dead-letter queue, for the outcomes that send it there. One of [`error_codes`].
    pub error_code: Option<String>,
}

/// How a record ends. The names are the ones in logs and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
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

/// Why files cannot be used: every fault of every file. The reader is the person who wrote them, so each line names the file
/// and says what to mend.
#[derive(Debug, Default)]
pub struct ScenarioError(Vec<Fault>);

#[derive(Debug)]
struct Fault {
    path: PathBuf,
    mend: String,
}

impl std::error::Error for ScenarioError {}

impl fmt::Display for ScenarioError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Fault { path, mend }) in self.0.iter().enumerate() {
            let end = if index == 0 { "" } else { "\n" };
            let name = if path == Path::new(STANDARD_INPUT) { "standard input".into() } else { path.to_string_lossy() };
            // A file may hold anything, and an error is read in a terminal.
            write!(f, "{end}{}", redrive::terminal::harmless(&format!("{name}: {mend}")))?;
        }
        Ok(())
    }
}

impl ScenarioError {
    fn add(&mut self, path: &Path, mends: impl IntoIterator<Item = String>) {
        self.0.extend(mends.into_iter().map(|mend| Fault { path: path.to_path_buf(), mend }));
    }

    /// How many faults there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// The name of a file that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// The repository's folder `events`, wherever a command is run.
pub fn events_folder() -> PathBuf {
    workspace().join("events")
}

/// Reads one file and checks it. Its function is that of its folder, or else that of its events.
///
/// # Errors
/// All faults of the file.
pub fn load(path: impl AsRef<Path>) -> Result<EventFile, ScenarioError> {
    let mut files = load_these(&[path.as_ref()], None)?;
    files.pop().ok_or_else(ScenarioError::default)
}

/// Reads every `.json` file in `folder` and in the folders below it, sorted by path, so that every run has one order.
///
/// # Errors
/// All faults of all files.
pub fn load_all(folder: impl AsRef<Path>) -> Result<Vec<EventFile>, ScenarioError> {
    load_these(&[folder.as_ref()], None)
}

/// Reads files, folders as all their files, and [`STANDARD_INPUT`]. They are for `function` where it is given.
///
/// # Errors
/// All faults of all files.
pub fn load_these(paths: &[impl AsRef<Path>], function: Option<&str>) -> Result<Vec<EventFile>, ScenarioError> {
    let (mut files, mut faults) = (Vec::new(), ScenarioError::default());
    for path in paths.iter().map(AsRef::as_ref) {
        match read_all(path) {
            Err(mend) => faults.add(path, [mend]),
            Ok(texts) => {
                for (path, text) in texts {
                    match text.map_err(|mend| vec![mend]).and_then(|text| parse(&path, function, &text)) {
                        Ok(file) => files.push(file),
                        Err(mends) => faults.add(&path, mends),
                    }
                }
            }
        }
    }
    if faults.0.is_empty() { Ok(files) } else { Err(faults) }
}

type Text = Result<Vec<u8>, String>;

/// The files that a path means, each with its text or with what kept it from being read.
fn read_all(path: &Path) -> Result<Vec<(PathBuf, Text)>, String> {
    let unreadable = |error: std::io::Error| format!("it cannot be read: {error}");
    if path == Path::new(STANDARD_INPUT) {
        let mut text = Vec::new();
        std::io::stdin().lock().read_to_end(&mut text).map_err(unreadable)?;
        return Ok(vec![(path.to_path_buf(), Ok(text))]);
    }
    let mut paths = vec![path.to_path_buf()];
    if path.is_dir() {
        paths.clear();
        collect(path, &mut paths).map_err(unreadable)?;
        if paths.is_empty() {
            return Err("no .json file is in this folder; name a file, or a folder that has some".to_owned());
        }
        paths.sort();
    }
    Ok(paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).map_err(unreadable))).collect())
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

/// The folder's name, also where the path is a bare name within it.
fn folder(path: &Path) -> Option<String> {
    Some(path.canonicalize().ok()?.parent()?.file_name()?.to_str()?.to_owned())
}

fn parse(path: &Path, function: Option<&str>, text: &[u8]) -> Result<EventFile, Vec<String>> {
    parse_in(path, folder(path).as_deref(), function, text)
}

fn parse_in(path: &Path, folder: Option<&str>, function: Option<&str>, text: &[u8]) -> Result<EventFile, Vec<String>> {
    let (mut faults, mut notes) = (Vec::new(), Vec::new());
    if let Some(entry) = booked::function(folder, function, text) {
        let read = booked::read(&entry, text, &mut faults, &mut notes);
        let (Some((booked, records, scenario)), true) = (read, faults.is_empty()) else { return Err(faults) };
        let (path, function) = (path.to_path_buf(), entry.name.to_owned());
        let (invoked, waited, booked) = (None, None, Some(booked));
        return Ok(EventFile { path, function, records, invoked, booked, waited, scenario, notes });
    }
    if let Some(entry) = waited::function(folder, function) {
        let read = waited::read(&entry, text, &mut faults);
        let (Some((waited, records, scenario)), true) = (read, faults.is_empty()) else { return Err(faults) };
        let (path, function) = (path.to_path_buf(), entry.name.to_owned());
        let (invoked, booked, waited) = (None, None, Some(waited));
        return Ok(EventFile { path, function, records, invoked, booked, waited, scenario, notes });
    }
    if let Some(entry) = invoked::function(folder, function, text) {
        let read = invoked::read(&entry, text, &mut faults);
        let (Some((about, invoked)), true) = (read, faults.is_empty()) else { return Err(faults) };
        let given = invoked.known.iter().map(|known| known.given.clone()).collect();
        let scenario = Scenario { about, given, then: None };
        let (path, function) = (path.to_path_buf(), entry.name.to_owned());
        return Ok(EventFile {
            path,
            function,
            records: Vec::new(),
            invoked: Some(invoked),
            booked: None,
            waited: None,
            scenario,
            notes,
        });
    }
    let mut draft = form::read(text, &mut faults);
    let is_promised = draft.then.is_some();
    if !is_promised {
        let records = draft.records.iter_mut().enumerate();
        notes.extend(records.filter_map(|(index, record)| hold::revive(index, record.as_mut()?)));
    }
    let function = match function {
        Some(function) => Ok(function.to_owned()),
        None => hold::function(folder, &draft.records, is_promised),
    };
    let known = function.as_deref().ok();
    check::all(known, &draft, &mut faults);
    // Where no record could be read, that says why there is no function.
    faults.extend(function.as_ref().err().filter(|_| draft.records.iter().any(Option::is_some)).cloned());
    let (Ok(function), true) = (function, faults.is_empty()) else { return Err(faults) };
    let records: Vec<Record> = draft.records.into_iter().flatten().collect();
    let given = match draft.given {
        Some(given) => given.into_iter().flatten().collect(),
        None => hold::given(&records),
    };
    let then = draft.then.map(|then| then.into_iter().flatten().collect());
    let scenario = Scenario { about: draft.about, given, then };
    let (path, invoked, booked, waited) = (path.to_path_buf(), None, None, None);
    Ok(EventFile { path, function, records, invoked, booked, waited, scenario, notes })
}

#[cfg(test)]
mod tests;
