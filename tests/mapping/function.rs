//! A function that answers whatever its messages tell it to, by the bare Runtime API: no runtime would send invalid JSON.
//! Its process is this very test program, started again by a script that selects one test, so that the local stack and
//! MiniStack run the same one. It writes down what it sees, which is how a test tells a message that never arrived from one
//! that was deleted.

use std::{
    env, fs,
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_sqs::config::{BehaviorVersion, Credentials, Region};
use local_stack::mapping::MAX_PAYLOAD_BYTES;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The function's timeout in seconds. MiniStack takes whole ones.
pub(crate) const TIMEOUT_SECONDS: u64 = 2;

/// What the function does about a batch.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Reply<Text = &'static str> {
    /// It answers these bytes, in which `{a}` and `{b}` stand for the ids of the messages with these labels.
    Says(Text),
    /// It answers that all is well, in more bytes than Lambda takes.
    SaysTooMuch,
    /// It reports an error.
    Fails,
    /// It does not answer before its timeout.
    Hangs,
    /// Its process ends without an answer.
    Exits,
    /// It makes each message visible in so many seconds and reports it failed.
    Postpones(u32),
    /// It works for so many milliseconds, and all is well.
    Works(u64),
}

/// What a message's body says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order<Text = &'static str> {
    /// Tells the messages of a test apart.
    pub(crate) label: Text,
    /// One for each receive; the last one for all further receives. The first message of a batch decides.
    pub(crate) replies: Vec<Reply<Text>>,
    /// The file for what the function sees.
    pub(crate) journal: PathBuf,
    /// Makes a message large.
    pub(crate) padding: String,
}

/// A message as the function saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sighting {
    /// The message's label.
    pub(crate) label: String,
    /// `ApproximateReceiveCount`.
    pub(crate) receives: u32,
    /// `SentTimestamp`.
    pub(crate) sent: String,
    /// `ApproximateFirstReceiveTimestamp`, in milliseconds since 1970.
    pub(crate) first_received: u64,
    /// The time of day, in the same unit.
    pub(crate) at: u64,
}

impl Order {
    /// The body of a message.
    pub(crate) fn body(label: &'static str, replies: &[Reply], journal: &Path) -> String {
        let (replies, journal, padding) = (replies.to_vec(), journal.to_owned(), String::new());
        json!(Self { label, replies, journal, padding }).to_string()
    }
}

/// What the function writes when it fails by itself, which must not be taken for a failure that it was told to make.
pub(crate) const PANIC: &str = "panicked at";

/// A new journal in this folder.
pub(crate) fn journal(folder: &Path, name: &str) -> PathBuf {
    let journal = folder.join(name);
    drop(fs::remove_file(&journal)); // An earlier run may have left one.
    journal
}

/// Every sighting so far, in order.
pub(crate) fn sightings(journal: &Path) -> Vec<Sighting> {
    let text = fs::read_to_string(journal).unwrap_or_default(); // Without a sighting there is no file.
    text.lines().map(|line| serde_json::from_str(line).expect("a line is a sighting")).collect()
}

/// The program of the function: a script in `folder` that starts this test program as one.
pub(crate) fn program(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.join("bootstrap");
    let program = env::current_exe().expect("a test has a program");
    let text = format!("#!/bin/sh\nexec '{}' --exact function::process --nocapture\n", program.display());
    fs::write(&path, text).expect("the folder is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    path
}

/// Plays the function when it runs as one; an ordinary test run passes it by.
#[test]
fn process() {
    let Ok(api) = env::var("AWS_LAMBDA_RUNTIME_API") else {
        return;
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(play(&api));
}

async fn play(api: &str) {
    let base = format!("http://{api}/2018-06-01/runtime/invocation");
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    loop {
        let next = http.get(format!("{base}/next")).send().await.unwrap();
        let id = next.headers()["lambda-runtime-aws-request-id"].to_str().unwrap().to_owned();
        let event: Value = next.json().await.unwrap();
        let records = event["Records"].as_array().unwrap();
        match write_down(records) {
            Reply::Says(text) => respond(&http, &base, &id, filled(&text, records)).await,
            Reply::SaysTooMuch => respond(&http, &base, &id, " ".repeat(MAX_PAYLOAD_BYTES) + "{}").await,
            Reply::Fails => {
                let error = json!({"errorType": "Sad", "errorMessage": "no luck"});
                http.post(format!("{base}/{id}/error")).json(&error).send().await.unwrap();
            }
            Reply::Hangs => std::future::pending().await,
            Reply::Exits => std::process::exit(7),
            Reply::Postpones(seconds) => {
                for record in records {
                    postpone(record, seconds).await;
                }
                let failures: Vec<_> =
                    records.iter().map(|record| json!({"itemIdentifier": record["messageId"]})).collect();
                respond(&http, &base, &id, json!({"batchItemFailures": failures}).to_string()).await;
            }
            Reply::Works(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(milliseconds)).await;
                respond(&http, &base, &id, "{}".to_owned()).await;
            }
        }
    }
}

async fn respond(http: &reqwest::Client, base: &str, id: &str, answer: String) {
    // An answer that is not taken is a case as well.
    drop(http.post(format!("{base}/{id}/response")).body(answer).send().await);
}

/// Adds the records to the journal, and says what is to be done about them.
fn write_down(records: &[Value]) -> Reply<String> {
    let mut reply = None;
    for record in records {
        let order: Order<String> = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
        let attribute = |name: &str| record["attributes"][name].as_str().unwrap();
        let receives: u32 = attribute("ApproximateReceiveCount").parse().unwrap();
        let sighting = Sighting {
            label: order.label,
            receives,
            sent: attribute("SentTimestamp").to_owned(),
            first_received: attribute("ApproximateFirstReceiveTimestamp").parse().unwrap(),
            at: SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64,
        };
        // One write for each line, because other processes write to the same file.
        let mut journal = OpenOptions::new().create(true).append(true).open(&order.journal).unwrap();
        journal.write_all(format!("{}\n", json!(sighting)).as_bytes()).unwrap();
        let number = (receives as usize - 1).min(order.replies.len() - 1);
        reply.get_or_insert(order.replies[number].clone());
    }
    reply.unwrap()
}

fn filled(text: &str, records: &[Value]) -> String {
    let mut text = text.to_owned();
    for record in records {
        let order: Order<String> = serde_json::from_str(record["body"].as_str().unwrap()).unwrap();
        text = text.replace(&format!("{{{}}}", order.label), record["messageId"].as_str().unwrap());
    }
    text
}

async fn postpone(record: &Value, seconds: u32) {
    let endpoint = env::var("AWS_ENDPOINT_URL").unwrap();
    let queue = record["eventSourceARN"].as_str().unwrap().rsplit(':').next().unwrap();
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(shared::client::aws::http::client())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "test"))
        .endpoint_url(&endpoint)
        .build();
    let request = aws_sdk_sqs::Client::from_conf(config)
        .change_message_visibility()
        .queue_url(format!("{endpoint}/000000000000/{queue}"))
        .receipt_handle(record["receiptHandle"].as_str().unwrap())
        .visibility_timeout(i32::try_from(seconds).unwrap());
    request.send().await.unwrap();
}
