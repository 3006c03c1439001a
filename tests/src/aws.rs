//! One loopback endpoint for every AWS service that the functions call, reached by `AWS_ENDPOINT_URL` and routed by
//! `X-Amz-Target`: SQS, EventBridge, Secrets Manager, and DynamoDB, which is handed on to an embedded emulator or done by
//! the small [`Table::InMemory`]. It records every request, so that a test can count them, and fails or delays them on
//! demand. Signatures are not checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    io,
    net::SocketAddr,
    ops::AddAssign,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, State},
    http::{Extensions, HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use dynoxide::Database;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

pub use self::events::{BusEntry, Rule};
use self::table::Tables;
use crate::{
    latency::{self, Clock, TimedListener},
    queue::Queue,
    tripwire::Tripwire,
};

mod events;
mod sqs;
mod table;

const JSON: &str = "application/x-amz-json-1.0";

/// DynamoDB's limit for a batch, the largest request of all.
const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;

/// The running endpoint; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct AwsEndpoint {
    address: SocketAddr,
    url: String,
    shared: Arc<Shared>,
    _servers: Arc<[AbortOnDropHandle<()>]>,
}

/// What stands for DynamoDB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Table {
    /// The embedded emulator, which knows all of DynamoDB.
    #[default]
    Emulated,
    /// A map that knows only the requests of the idempotency store. It answers in a fraction of the emulator's time, so that
    /// `cargo bench` measures the functions and not a database.
    InMemory,
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Service and operation, such as `DynamoDB_20120810.PutItem`.
    pub target: String,
    /// The body; null if it was not JSON.
    pub body: Value,
}

impl Request {
    /// The operation without its service.
    pub fn operation(&self) -> &str {
        self.target.rsplit('.').next().unwrap_or_default()
    }
}

/// What requests took whose answers said so: none that was refused.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Taken {
    /// Requests.
    pub requests: usize,
    /// Read units or write units, as the operation is, by the database's own arithmetic.
    pub units: f64,
    /// Bytes of the requests' bodies, and of the answers'.
    pub bytes: (usize, usize),
}

impl AddAssign for Taken {
    fn add_assign(&mut self, more: Self) {
        self.requests += more.requests;
        self.units += more.units;
        self.bytes = (self.bytes.0 + more.bytes.0, self.bytes.1 + more.bytes.1);
    }
}

/// The read units and the write units of what was taken, by operation.
pub fn units(taken: &BTreeMap<String, Taken>) -> (f64, f64) {
    let is_read = |operation: &str| matches!(operation, "GetItem" | "BatchGetItem" | "Query");
    let sum = |reads: bool| {
        let of_it = taken.iter().filter(|(operation, _)| is_read(operation) == reads);
        // A sum of nothing would be a zero below zero.
        of_it.fold(0.0, |sum, (_, taken)| sum + taken.units)
    };
    (sum(true), sum(false))
}

/// The part of an answer of DynamoDB's that says what it took.
#[derive(Deserialize)]
struct Answered {
    #[serde(rename = "ConsumedCapacity")]
    consumed: Option<Consumed>,
}

/// Of one table, or of the one table that a batch or a transaction is about.
#[derive(Deserialize)]
#[serde(untagged)]
enum Consumed {
    One(Capacity),
    Several(Vec<Capacity>),
}

#[derive(Deserialize)]
struct Capacity {
    #[serde(rename = "TableName")]
    table: String,
    #[serde(rename = "CapacityUnits")]
    units: f64,
}

/// How a request fails on demand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Injected {
    /// An error answer; the request is not carried out.
    Answer {
        /// The HTTP status.
        status: u16,
        /// The error's type, such as `ThrottlingException`.
        kind: String,
        /// What it says.
        message: String,
    },
    /// The request is not carried out and no answer comes.
    Silence,
    /// The request is carried out, but no answer comes: the case that only idempotency survives.
    LostAnswer,
}

/// A failure that is to come.
#[derive(Debug)]
struct Planned {
    /// How many requests of the target are carried out before it.
    others: usize,
    target: String,
    failure: Injected,
}

/// Why the endpoint or a call to its emulator failed.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// No loopback listener.
    #[error("listen on loopback")]
    Listen(#[from] io::Error),
    /// The emulator did not start.
    #[error("open the DynamoDB emulator: {0}")]
    Database(String),
    /// The emulator could not be reached.
    #[error("call the DynamoDB emulator")]
    Call(#[from] reqwest::Error),
    /// The database refused.
    #[error("{operation} answered {status}: {body}")]
    Refused {
        /// The operation.
        operation: String,
        /// The HTTP status.
        status: u16,
        /// What it said.
        body: String,
    },
}

#[derive(Debug)]
struct Shared {
    dynamodb: Dynamo,
    state: Mutex<Contents>,
}

#[derive(Debug)]
enum Dynamo {
    Emulator { http: reqwest::Client, url: String },
    Tables(Tables),
}

#[derive(Debug, Default)]
struct Contents {
    queues: BTreeMap<String, Queue>,
    buses: BTreeSet<String>,
    rules: Vec<Rule>,
    entries: Vec<BusEntry>,
    entries_to_fail: usize,
    secrets: BTreeMap<String, String>,
    requests: Vec<Request>,
    taken: BTreeMap<(String, String), Taken>,
    latency: Duration,
    failures: Vec<Planned>,
    tripwire: Tripwire,
}

impl AwsEndpoint {
    /// Starts the endpoint with an empty emulated database and the default bus.
    pub async fn start() -> Result<Self, AwsError> {
        Self::start_with(Table::default()).await
    }

    /// As [`Self::start`], with an empty database of the caller's choice.
    pub async fn start_with(table: Table) -> Result<Self, AwsError> {
        let (dynamodb, emulator) = match table {
            Table::Emulated => {
                let database = emulated().map_err(AwsError::Database)?;
                let (listener, address) = listen().await?;
                let http = reqwest::Client::builder().no_proxy().build()?;
                let server = tokio::spawn(dynoxide::server::serve_on(listener, database));
                (Dynamo::Emulator { http, url: format!("http://{address}") }, Some(server))
            }
            Table::InMemory => (Dynamo::Tables(Tables::default()), None),
        };
        let (listener, address) = listen().await?;
        let url = format!("http://{address}");
        let buses = BTreeSet::from(["default".to_owned()]);
        let shared = Arc::new(Shared { dynamodb, state: Mutex::new(Contents { buses, ..Contents::default() }) });
        let routes =
            Router::new().fallback(serve).layer(DefaultBodyLimit::max(MAX_BODY_BYTES)).with_state(shared.clone());
        let routes = routes.into_make_service_with_connect_info::<Clock>();
        let endpoint = tokio::spawn(async move { drop(axum::serve(TimedListener(listener), routes).await) });
        let servers = std::iter::once(endpoint).chain(emulator).map(AbortOnDropHandle::new).collect();
        Ok(Self { address, url, shared, _servers: servers })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The value for `AWS_ENDPOINT_URL`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of the queues, with the SDK's own patience.
    pub fn sqs(&self) -> aws_sdk_sqs::Client {
        let config = aws_sdk_sqs::Config::builder()
            .behavior_version(aws_sdk_sqs::config::BehaviorVersion::latest())
            .http_client(shared::client::aws::http::client())
            .region(aws_sdk_sqs::config::Region::new("us-east-1"))
            .endpoint_url(&self.url)
            .credentials_provider(aws_sdk_sqs::config::Credentials::new("test", "test", None, None, "test"));
        aws_sdk_sqs::Client::from_conf(config.build())
    }

    /// A client of the tables, with the SDK's own patience.
    pub fn tables(&self) -> aws_sdk_dynamodb::Client {
        tables_at(&self.url)
    }

    /// As [`AwsEndpoint::tables`], past records, latency and failures: for who only looks on.
    pub fn tables_unseen(&self) -> aws_sdk_dynamodb::Client {
        match &self.shared.dynamodb {
            Dynamo::Emulator { url, .. } => tables_at(url),
            Dynamo::Tables(_) => self.tables(),
        }
    }

    /// Makes the queue known by its name.
    pub fn add_queue(&self, queue: Queue) {
        self.shared.lock().queues.insert(queue.name().to_owned(), queue);
    }

    /// A queue by its name.
    pub fn queue(&self, name: &str) -> Option<Queue> {
        self.shared.lock().queues.get(name).cloned()
    }

    /// Creates an event bus.
    pub fn add_bus(&self, name: &str) {
        self.shared.lock().buses.insert(name.to_owned());
    }

    /// Creates a rule of an event bus.
    pub fn add_rule(&self, rule: Rule) {
        self.shared.lock().rules.push(rule);
    }

    /// Puts an event on a bus, past records, latency and failures, as somebody else would.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub fn publish(&self, bus: &str, source: &str, detail_type: &str, detail: &Value) -> Result<(), AwsError> {
        let entry = json!({
            "EventBusName": bus, "Source": source, "DetailType": detail_type, "Detail": detail.to_string(),
        });
        let answer = events::put(&mut self.shared.lock(), &json!({"Entries": [entry]}));
        let body = match answer {
            Ok(answer) if answer["FailedEntryCount"] == 0 => return Ok(()),
            Ok(answer) => answer["Entries"][0].to_string(),
            Err(fault) => fault.message,
        };
        Err(AwsError::Refused { operation: "PutEvents".to_owned(), status: 400, body })
    }

    /// Every entry that a bus accepted.
    pub fn bus_entries(&self) -> Vec<BusEntry> {
        self.shared.lock().entries.clone()
    }

    /// Stores a secret, in place of an older one.
    pub fn put_secret(&self, name: &str, value: &str) {
        self.shared.lock().secrets.insert(name.to_owned(), value.to_owned());
    }

    /// Every request so far, failed ones too, in the order of arrival.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.lock().requests.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        drop(self.take_requests());
    }

    /// The requests so far, which are forgotten by that: for who counts more of them than a memory holds.
    pub fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.shared.lock().requests)
    }

    /// What the operations on this table took so far, which is forgotten by that.
    pub fn take_taken(&self, table: &str) -> BTreeMap<String, Taken> {
        let mut state = self.shared.lock();
        let (of_it, others) = std::mem::take(&mut state.taken).into_iter().partition(|((of, _), _)| of == table);
        state.taken = others;
        let of_it: BTreeMap<(String, String), Taken> = of_it;
        of_it.into_iter().map(|((_, operation), taken)| (operation, taken)).collect()
    }

    /// Delays every answer from now on until so long after its request, but not the effect.
    pub fn set_latency(&self, latency: Duration) {
        self.shared.lock().latency = latency;
    }

    /// Fails the next request whose target starts with `target`; each call adds one failure.
    pub fn fail_next(&self, target: &str, failure: Injected) {
        self.fail_after(0, target, failure);
    }

    /// Fails the request whose target starts with `target` that comes after so many others of them; each call adds one
    /// failure.
    pub fn fail_after(&self, others: usize, target: &str, failure: Injected) {
        self.shared.lock().failures.push(Planned { others, target: target.to_owned(), failure });
    }

    /// Forgets the failures that no request has met.
    pub fn forget_failures(&self) {
        self.shared.lock().failures.clear();
    }

    /// Fails the next `count` entries put on a bus, inside answers that are 200 as a whole.
    pub fn fail_entries_next(&self, count: usize) {
        self.shared.lock().entries_to_fail += count;
    }

    /// Lets every request from now on pass this wire.
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        self.shared.lock().tripwire = tripwire;
    }

    /// Creates the table of the idempotency records, as the template does.
    pub async fn create_idempotency_table(&self, name: &str) -> Result<(), AwsError> {
        let table = json!({
            "TableName": name,
            "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}],
            "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        self.dynamodb("CreateTable", &table).await.map(drop)
    }

    /// Creates the table of the reservations, as the template does.
    pub async fn create_reservations_table(&self, name: &str) -> Result<(), AwsError> {
        let attribute = |name: &str, kind: &str| json!({"AttributeName": name, "AttributeType": kind});
        let key = |name: &str, kind: &str| json!({"AttributeName": name, "KeyType": kind});
        let table = json!({
            "TableName": name,
            "AttributeDefinitions": [attribute("id", "S"), attribute("user_id", "S"), attribute("created_at", "N")],
            "KeySchema": [key("id", "HASH")],
            "GlobalSecondaryIndexes": [{
                "IndexName": "user",
                "KeySchema": [key("user_id", "HASH"), key("created_at", "RANGE")],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }],
            "StreamSpecification": {"StreamEnabled": true, "StreamViewType": "NEW_IMAGE"},
            "BillingMode": "PAY_PER_REQUEST",
        });
        self.dynamodb("CreateTable", &table).await.map(drop)
    }

    /// Creates the table of the waiting room, as the template does.
    pub async fn create_waiting_room_table(&self, name: &str) -> Result<(), AwsError> {
        let table = json!({
            "TableName": name,
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            "BillingMode": "PAY_PER_REQUEST",
        });
        self.dynamodb("CreateTable", &table).await.map(drop)
    }

    /// Takes so much off every moment of a reservation in this table, as if it had been created so much earlier. Nothing, where
    /// there is no such reservation.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn age_reservation(&self, table: &str, id: &str, by: Duration) -> Result<(), AwsError> {
        const MOMENTS: [&str; 6] =
            ["created_at", "updated_at", "hold_expires_at", "first_hold_expires_at", "held_at", "lease_until"];

        let key = json!({"TableName": table, "Key": {"id": {"S": id}}, "ConsistentRead": true});
        let found = self.dynamodb("GetItem", &key).await?;
        let Some(mut item) = found.get("Item").cloned() else { return Ok(()) };
        let earlier = |moment: &mut Value| {
            if let Some(ms) = moment["N"].as_str().and_then(|ms| ms.parse::<u128>().ok()) {
                *moment = json!({"N": ms.saturating_sub(by.as_millis()).to_string()});
            }
        };
        MOMENTS.iter().for_each(|name| item.get_mut(*name).into_iter().for_each(earlier));
        for event in item.get_mut("events").and_then(|events| events["L"].as_array_mut()).into_iter().flatten() {
            earlier(&mut event["M"]["at"]);
        }
        self.dynamodb("PutItem", &json!({"TableName": table, "Item": item})).await.map(drop)
    }

    /// Every item of a table, read consistently.
    ///
    /// # Errors
    /// What the database answered.
    pub async fn scan(&self, table: &str) -> Result<Vec<Value>, AwsError> {
        let (mut items, mut input) = (Vec::new(), json!({"TableName": table, "ConsistentRead": true}));
        loop {
            let mut found = self.dynamodb("Scan", &input).await?;
            if let Value::Array(more) = found["Items"].take() {
                items.extend(more);
            }
            let last = found["LastEvaluatedKey"].take();
            if last.is_null() {
                return Ok(items);
            }
            input["ExclusiveStartKey"] = last;
        }
    }

    /// Calls the database directly, past records, latency and failures: for what a test prepares and looks up.
    pub async fn dynamodb(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        self.database("DynamoDB_20120810", operation, input).await
    }

    /// As [`AwsEndpoint::dynamodb`], for the streams of its tables.
    pub async fn streams(&self, operation: &str, input: &Value) -> Result<Value, AwsError> {
        self.database("DynamoDBStreams_20120810", operation, input).await
    }

    async fn database(&self, service: &str, operation: &str, input: &Value) -> Result<Value, AwsError> {
        let (http, url) = match &self.shared.dynamodb {
            Dynamo::Emulator { http, url } => (http, url),
            Dynamo::Tables(tables) => {
                let (status, body) = tables.call(operation, input);
                let refused = || AwsError::Refused {
                    operation: operation.to_owned(),
                    status: status.as_u16(),
                    body: body.to_string(),
                };
                return if status.is_success() { Ok(body) } else { Err(refused()) };
            }
        };
        let credential = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/dynamodb/aws4_request";
        let request = http
            .post(url)
            .header(header::CONTENT_TYPE, JSON)
            .header(header::AUTHORIZATION, format!("{credential}, SignedHeaders=host, Signature=0"))
            .header("x-amz-date", "20260101T000000Z")
            .header("x-amz-target", format!("{service}.{operation}"))
            .body(input.to_string());
        let response = request.send().await?;
        let status = response.status();
        if status.is_success() {
            return Ok(response.json().await?);
        }
        let (operation, status) = (operation.to_owned(), status.as_u16());
        Err(AwsError::Refused { operation, status, body: response.text().await? })
    }
}

/// A client of the tables of an account at this URL, with the SDK's own patience.
pub(crate) fn tables_at(url: &str) -> aws_sdk_dynamodb::Client {
    let config = aws_sdk_dynamodb::Config::builder()
        .behavior_version(aws_sdk_dynamodb::config::BehaviorVersion::latest())
        .http_client(shared::client::aws::http::client())
        .region(aws_sdk_dynamodb::config::Region::new("us-east-1"))
        .endpoint_url(url)
        .credentials_provider(aws_sdk_dynamodb::config::Credentials::new("test", "test", None, None, "test"));
    aws_sdk_dynamodb::Client::from_conf(config.build())
}

/// An empty emulated database in memory, or why there is none. The emulator asks its table of stream records for the last
/// number at each write to a table with a stream, and for what came after a number at each read; without an index it reads all
/// of them each time, which makes a sale of some thousand reservations slower than any function in it.
fn emulated() -> Result<Database, String> {
    const INDEX: &str = "CREATE INDEX stream_records_in_order
        ON _stream_records (table_name, CAST(sequence_number AS INTEGER))";

    // A database in memory that has a name can be opened twice, and is gone with its last connection.
    let place = format!("file:{}?mode=memory&cache=shared", Uuid::new_v4());
    let database = Database::new(&place).map_err(|error| error.to_string())?;
    let beside = rusqlite::Connection::open(&place).map_err(|error| error.to_string())?;
    beside.execute_batch(INDEX).map_err(|error| error.to_string())?;
    Ok(database)
}

async fn listen() -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

async fn serve(State(shared): State<Arc<Shared>>, extensions: Extensions, headers: HeaderMap, body: Bytes) -> Response {
    let arrived = latency::arrival(&extensions).await;
    let target = headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let tripwire = shared.lock().tripwire.clone();
    let input: Value = serde_json::from_slice(&body).unwrap_or_default();
    // A database's request is told with its table.
    let table = input["TableName"].as_str().map_or_else(String::new, |name| format!(" {name}"));
    let passage = tripwire.arrive(&format!("{target}{table}")).await;
    let (latency, answer) = carry_out(&shared, &target, headers, body, &input).await;
    latency::wait(arrived, latency).await;
    passage.leave().await;
    answer
}

async fn carry_out(
    shared: &Shared,
    target: &str,
    headers: HeaderMap,
    body: Bytes,
    input: &Value,
) -> (Duration, Response) {
    let (latency, failure) = shared.note(target, input);
    let answer = match failure {
        None => shared.dispatch(target, headers, body, input).await,
        Some(Injected::Answer { status, kind, message }) => {
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            Fault { status, code: kind.clone(), query_code: kind, message }.into_response()
        }
        Some(Injected::Silence) => pending().await, // Ends when the caller hangs up.
        Some(Injected::LostAnswer) => {
            shared.dispatch(target, headers, body, input).await;
            pending().await
        }
    };
    (latency, answer)
}

impl Shared {
    fn note(&self, target: &str, input: &Value) -> (Duration, Option<Injected>) {
        let mut contents = self.lock();
        contents.requests.push(Request { target: target.to_owned(), body: input.clone() });
        let next = contents.failures.iter().position(|planned| target.starts_with(&planned.target));
        let failure = next.and_then(|index| match contents.failures[index].others.checked_sub(1) {
            Some(others) => {
                contents.failures[index].others = others;
                None
            }
            None => Some(contents.failures.remove(index).failure),
        });
        (contents.latency, failure)
    }

    /// Counts what an answer says that it took.
    fn note_taken(&self, operation: &str, sent: usize, answer: &[u8]) {
        let Ok(Answered { consumed: Some(consumed) }) = serde_json::from_slice(answer) else { return };
        let Some(Capacity { table, units }) = (match consumed {
            Consumed::One(one) => Some(one),
            Consumed::Several(several) => several.into_iter().next(),
        }) else {
            return;
        };
        let taken = Taken { requests: 1, units, bytes: (sent, answer.len()) };
        *self.lock().taken.entry((table, operation.to_owned())).or_default() += taken;
    }

    async fn dispatch(&self, target: &str, headers: HeaderMap, body: Bytes, input: &Value) -> Response {
        let answer = match target.split_once('.') {
            Some(("DynamoDB_20120810", operation)) => {
                return match &self.dynamodb {
                    Dynamo::Emulator { http, url } => {
                        let sent = body.len();
                        match forward(http.post(url), headers, body).await {
                            Ok(answer) => {
                                self.note_taken(operation, sent, &answer.2);
                                answer.into_response()
                            }
                            Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
                        }
                    }
                    Dynamo::Tables(tables) => {
                        let (status, body) = tables.call(operation, input);
                        (status, [(header::CONTENT_TYPE, JSON)], body.to_string()).into_response()
                    }
                };
            }
            Some(("AmazonSQS", operation)) => sqs::call(self, operation, input).await,
            Some(("AWSEvents", "PutEvents")) => events::put(&mut self.lock(), input),
            Some(("secretsmanager", "GetSecretValue")) => self.secret(input),
            _ => Err(Fault::client("UnknownOperationException", format!("no such operation here: {target:?}"))),
        };
        answer.map_or_else(Fault::into_response, |value| {
            ([(header::CONTENT_TYPE, JSON)], value.to_string()).into_response()
        })
    }

    fn secret(&self, input: &Value) -> Result<Value, Fault> {
        let id = input["SecretId"].as_str().unwrap_or_default();
        let name = id.rsplit(":secret:").next().unwrap_or(id);
        let Some(value) = self.lock().secrets.get(name).cloned() else {
            let message = "Secrets Manager can't find the specified secret.";
            return Err(Fault::client("ResourceNotFoundException", message.to_owned()));
        };
        Ok(json!({
            "ARN": format!("arn:aws:secretsmanager:us-east-1:000000000000:secret:{name}"),
            "Name": name,
            "SecretString": value,
            "VersionId": "00000000-0000-0000-0000-000000000001",
            "VersionStages": ["AWSCURRENT"],
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Hands a request on byte for byte; only what belongs to the connection stays behind.
async fn forward(
    request: reqwest::RequestBuilder,
    mut headers: HeaderMap,
    body: Bytes,
) -> reqwest::Result<(StatusCode, HeaderMap, Bytes)> {
    headers.remove(header::HOST);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    let response = request.headers(headers).body(body).send().await?;
    let (status, mut headers) = (response.status(), response.headers().clone());
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONNECTION);
    response.bytes().await.map(|body| (status, headers, body))
}

/// An error answer of the AWS JSON protocol.
#[derive(Debug)]
struct Fault {
    status: StatusCode,
    code: String,
    /// What clients of SQS's older protocol know the error by; the SDK for Rust decides by it when it is there.
    query_code: String,
    message: String,
}

impl Fault {
    fn client(code: &str, message: String) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code: code.to_owned(), query_code: code.to_owned(), message }
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let side = if self.status.is_server_error() { "Receiver" } else { "Sender" };
        let headers =
            [("content-type", JSON.to_owned()), ("x-amzn-query-error", format!("{};{side}", self.query_code))];
        (self.status, headers, json!({"__type": self.code, "message": self.message}).to_string()).into_response()
    }
}

#[cfg(test)]
mod tests;
