//! Where the fuzzer is built and works: a folder under cargo's target directory, never the repository.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use local_stack::{
    build::workspace,
    document::{Document, Operation},
    scenario::{self, EventFile},
};
use serde_json::{Value, json};

use crate::{
    arguments::{Limit, Target},
    program::FuzzError,
};

/// The folders of the fuzzer.
pub(crate) struct Workplace {
    /// What reads the inputs.
    pub(crate) target: Target,
    /// What cargo builds.
    pub(crate) target_dir: PathBuf,
    /// What the fuzzer works in. It is given the names below, so that its command line is the same on every machine.
    pub(crate) folder: PathBuf,
}

/// A copy of the dictionary.
pub(crate) const DICTIONARY: &str = "words.dict";
/// The list of the files that a run starts from.
pub(crate) const SEEDS: &str = "seeds.txt";
/// The folder for inputs that brought a fault to light.
pub(crate) const FAULTS: &str = "faults";

impl Workplace {
    /// Opens the folder beside what cargo has built of this program, which is in the target directory whatever that is set
    /// to.
    pub(crate) fn open(target: Target) -> Result<Self, FuzzError> {
        let program = env::current_exe()?;
        let built = program.ancestors().nth(2).ok_or_else(|| io::Error::other("this program is in no folder"))?;
        let target_dir = built.join("fuzz");
        let folder = target_dir.join(target.name());
        fs::create_dir_all(folder.join(FAULTS))?;
        Ok(Self { target, target_dir, folder })
    }

    /// Writes the dictionary and what a run starts from, and returns how many inputs there are.
    pub(crate) fn prepare(&self) -> Result<usize, FuzzError> {
        let dictionary = match self.target {
            Target::Event => "event.dict",
            Target::Http | Target::Request => "request.dict",
            Target::Kafka => "kafka.dict",
        };
        fs::copy(workspace().join("tests/fuzz").join(dictionary), self.folder.join(DICTIONARY))?;
        anew(&self.folder.join("seeds"))?;
        let mut paths = Vec::new();
        for (name, input) in self.seeds()? {
            let path = format!("seeds/{name}");
            fs::write(self.folder.join(&path), input)?;
            paths.push(path);
        }
        // Files in a list come in its order, those of a folder in the order of the file system.
        fs::write(self.folder.join(SEEDS), paths.join(","))?;
        Ok(paths.len())
    }

    /// What this repository has of such inputs, each with a name for its file.
    fn seeds(&self) -> Result<Vec<(String, String)>, FuzzError> {
        if matches!(self.target, Target::Event | Target::Kafka) {
            let files = scenario::load_all(scenario::events_folder())?;
            let (booked, others): (Vec<EventFile>, Vec<EventFile>) =
                files.into_iter().partition(|file| file.booked.is_some());
            return Ok(match self.target == Target::Kafka {
                true => booked.iter().filter_map(of_topics).collect(),
                false => others.iter().flat_map(bodies).map(|(name, body)| (name, body.to_owned())).collect(),
            });
        }
        let document = Document::read().map_err(io::Error::other)?;
        let of_operation = |operation: Operation<'_>| -> Vec<(String, String)> {
            let name = operation.about["operationId"].as_str().unwrap_or_default();
            let examples = operation.about["requestBody"]["content"]["application/json"]["examples"].as_object();
            let bodies = examples.into_iter().flatten().map(|(_, example)| example["value"].to_string());
            let events = bodies.clone().chain([String::new()]).map(|body| event(operation, &body).to_string());
            let inputs: Vec<String> = if self.target == Target::Http { events.collect() } else { bodies.collect() };
            inputs.into_iter().enumerate().map(|(index, input)| (format!("{name}-{}", index + 1), input)).collect()
        };
        Ok(document.operations().into_iter().flat_map(of_operation).collect())
    }

    /// The folder for what a run keeps: that of the last run, or an empty one.
    pub(crate) fn corpus(&self, limit: Limit) -> Result<&'static str, FuzzError> {
        match limit {
            Limit::Minutes(_) => {
                fs::create_dir_all(self.folder.join("corpus"))?;
                Ok("corpus")
            }
            Limit::Runs(_) => {
                anew(&self.folder.join("corpus-of-runs"))?;
                Ok("corpus-of-runs")
            }
        }
    }
}

/// Each record's body, with a name for its file.
fn bodies(file: &EventFile) -> impl Iterator<Item = (String, &str)> {
    let name = move |index: usize| format!("{}-{}-{}", file.function, file.case(), index + 1);
    file.records.iter().enumerate().map(move |(index, record)| (name(index), record.body.as_str()))
}

/// An event of topics without what it promises, with a name for its file.
fn of_topics(file: &EventFile) -> Option<(String, String)> {
    let mut event = file.booked.as_ref()?.event.clone()?;
    event.as_object_mut()?.remove("scenario");
    event["records"].is_object().then(|| (format!("{}-{}", file.function, file.case()), event.to_string()))
}

/// An HTTP API's event of an operation.
fn event(operation: Operation<'_>, body: &str) -> Value {
    json!({
        "version": "2.0",
        "routeKey": format!("{} {}", operation.method, operation.path),
        "rawPath": operation.path.replace("{id}", "rsv_1"),
        "rawQueryString": "status=HOLD&limit=5",
        "cookies": ["a=1"],
        "headers": {
            "content-type": "application/json",
            "idempotency-key": "key-1",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        },
        "requestContext": {
            "authorizer": {"jwt": {"claims": {"sub": "usr_1", "scope": "[a b]"}, "scopes": ["a"]}},
            "http": {"method": operation.method},
            "requestId": "request-1",
            "stage": "$default",
        },
        "body": body,
        "isBase64Encoded": false,
    })
}

fn anew(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(folder)
}
