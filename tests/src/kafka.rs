//! A Kafka cluster in memory, and the event source mapping of one topic: reads the partitions, hands a batch to a function, and
//! commits offsets behind what is done. A function behind such a mapping never speaks Kafka itself, so no broker is needed.
//!
//! | rule | what becomes of a batch |
//! | --- | --- |
//! | order | the records of a partition come in order; one batch may hold those of several partitions |
//! | `BatchSize`, `MaximumBatchingWindowInSeconds`, 6 MB | what ends a batch |
//! | an error, a time-out | all of the batch comes again, and nothing behind it before |
//! | `ReportBatchItemFailures` | what comes before the first record that an answer names in its partition is done; without the setting an answer means nothing, so that a list of failures is a success |
//! | `BisectBatchOnFunctionError` | a batch that failed as a whole comes again in halves, which is no attempt |
//! | `MaximumRetryAttempts` | a batch that failed once more than that is given up; by default it comes for ever, and ten times where there is a destination |
//! | `MaximumRecordAgeInSeconds` | records that are older are given up, before a function sees them |
//! | `DestinationConfig.OnFailure` | a queue gets the place of what was given up, another topic the records themselves |
//!
//! AWS does not say what comes again behind the first record of a partition that an answer names; here all of it does, as from
//! a stream. The pace of the pollers is absent: there is one. <https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html>

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Map, Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use crate::{
    mapping::MAX_PAYLOAD_BYTES,
    queue::{Message, Queue},
};

/// How often a batch comes again where there is a destination and no number.
const RETRIES_BEFORE_DESTINATION: u64 = 10;

/// A record to produce.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Which partition it goes to, by its hash; without one the partitions take turns.
    pub key: Option<Vec<u8>>,
    /// What it says; nothing in a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, of which one name may come twice.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// How long ago it was produced, so that a test need not sit that out.
    pub age: Duration,
}

impl Record {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }
}

/// A cluster; clones share its topics.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    topics: Mutex<BTreeMap<String, Vec<Vec<Stored>>>>,
    produced: Notify,
}

#[derive(Clone, Debug)]
struct Stored {
    record: Record,
    produced: SystemTime,
}

/// Where a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Its partition.
    pub partition: usize,
    /// Its offset in there.
    pub offset: usize,
}

impl Cluster {
    /// Makes a topic, or gives an existing one more partitions.
    pub fn create(&self, topic: &str, partitions: usize) {
        let mut topics = self.topics();
        let existing = topics.entry(topic.to_owned()).or_default();
        existing.resize(partitions.max(existing.len()), Vec::new());
    }

    /// Appends a record to its partition. A topic that is not there is made with one.
    pub fn produce(&self, topic: &str, record: Record) -> Place {
        let place = {
            let mut topics = self.topics();
            let partitions = topics.entry(topic.to_owned()).or_insert_with(|| vec![Vec::new()]);
            let partition = match &record.key {
                Some(key) => key.iter().fold(0_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add((*byte).into())),
                None => partitions.iter().map(Vec::len).sum(),
            } % partitions.len();
            let produced = SystemTime::now() - record.age;
            partitions[partition].push(Stored { record, produced });
            Place { partition, offset: partitions[partition].len() - 1 }
        };
        self.shared.produced.notify_waiters();
        place
    }

    /// The records of a topic, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        let topics = self.topics();
        topics.get(topic).into_iter().flatten().flatten().map(|stored| stored.record.clone()).collect()
    }

    fn topics(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Vec<Stored>>>> {
        self.shared.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stored(&self, topic: &str, place: Place) -> Option<Stored> {
        self.topics().get(topic)?.get(place.partition)?.get(place.offset).cloned()
    }

    /// The lengths of a topic's partitions.
    fn ends(&self, topic: &str) -> Vec<usize> {
        self.topics().get(topic).into_iter().flatten().map(Vec::len).collect()
    }
}

/// The properties of a mapping, named as on AWS.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// The most records in one invocation.
    pub batch_size: usize,
    /// How long a batch that is not full waits for more.
    pub maximum_batching_window: Duration,
    /// From where on it reads: the oldest record, or those that are produced after it was made.
    pub starting_position: StartingPosition,
    /// Whether an answer may name records that failed.
    pub report_batch_item_failures: bool,
    /// Whether a batch that failed as a whole is split in two.
    pub bisect_batch_on_function_error: bool,
    /// How often a batch may come again.
    pub maximum_retry_attempts: Option<u64>,
    /// How old a record may become; without an age as old as the topic keeps it.
    pub maximum_record_age: Option<Duration>,
    /// Where it is told what was given up.
    pub on_failure: Option<Destination>,
}

/// From where on a mapping reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartingPosition {
    /// From the oldest record on.
    TrimHorizon,
    /// Only what comes after the mapping was made.
    Latest,
}

/// Where it is told what was given up.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A queue, which gets no record.
    Queue(Queue),
    /// A topic of the same cluster, which gets the records.
    Topic(String),
}

impl Default for KafkaOptions {
    /// Lambda's own, but for the position, where it has none.
    fn default() -> Self {
        Self {
            batch_size: 100,
            maximum_batching_window: Duration::from_millis(500),
            starting_position: StartingPosition::TrimHorizon,
            report_batch_item_failures: false,
            bisect_batch_on_function_error: false,
            maximum_retry_attempts: None,
            maximum_record_age: None,
            on_failure: None,
        }
    }
}

/// A mapping between one topic and one function.
#[derive(Debug)]
pub struct KafkaMapping<F> {
    cluster: Cluster,
    topic: String,
    function: F,
    options: KafkaOptions,
    /// The first offset of each partition that is not done.
    committed: Vec<usize>,
    /// The batches that come again before any other record does.
    again: VecDeque<Batch>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Batch {
    places: Vec<Place>,
    /// How often it came and failed.
    failures: u64,
}

/// One batch and its fate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaDelivery {
    /// Its records, in the order of the event.
    pub batch: Vec<Place>,
    /// Those that come again.
    pub again: Vec<Place>,
    /// Those that were given up.
    pub given_up: Vec<Place>,
    /// What the function answered, or its error.
    pub answer: Result<Vec<u8>, String>,
}

impl<F, A> KafkaMapping<F>
where
    F: Fn(String) -> A,
    A: Future<Output = Result<Vec<u8>, String>>,
{
    /// Creates the mapping. Nothing is read before one of the methods below is called.
    pub fn new(cluster: Cluster, topic: &str, function: F, options: KafkaOptions) -> Self {
        let committed = match options.starting_position {
            StartingPosition::TrimHorizon => Vec::new(),
            StartingPosition::Latest => cluster.ends(topic),
        };
        Self { cluster, topic: topic.to_owned(), function, options, committed, again: VecDeque::new() }
    }

    /// The first offset of each partition that is not done.
    pub fn committed(&self) -> &[usize] {
        &self.committed
    }

    /// Invokes once with what waits; nothing when no record waits. Records that are too old are given up before.
    pub async fn deliver_once(&mut self) -> Option<KafkaDelivery> {
        self.pass_over_the_old();
        let batch = match self.again.pop_front() {
            Some(batch) => batch,
            None => Batch { places: self.waiting(), failures: 0 },
        };
        if batch.places.is_empty() { None } else { Some(self.deliver(batch).await) }
    }

    /// Waits for a record, and then for more until a batch is full or its window has passed, and invokes once.
    pub async fn deliver_in_window(&mut self) -> KafkaDelivery {
        let mut end = None;
        loop {
            let cluster = self.cluster.clone();
            let produced = cluster.shared.produced.notified();
            let waiting = self.waiting().len();
            if waiting > 0 && end.is_none() {
                end = Some(Instant::now() + self.options.maximum_batching_window);
            }
            let is_over = waiting >= self.options.batch_size || end.is_some_and(|end| Instant::now() >= end);
            if (is_over || !self.again.is_empty())
                && let Some(delivery) = self.deliver_once().await
            {
                return delivery;
            }
            match end {
                Some(end) => drop(timeout_at(end, produced).await),
                None => produced.await,
            }
        }
    }

    /// Delivers batch after batch until no record waits, or one does not get on.
    pub async fn drain(&mut self) -> Vec<KafkaDelivery> {
        let mut deliveries: Vec<KafkaDelivery> = Vec::new();
        while let Some(delivery) = self.deliver_once().await {
            let is_stuck = self.retries().is_none()
                && delivery.again == delivery.batch
                && (delivery.batch.len() == 1 || !self.options.bisect_batch_on_function_error);
            deliveries.push(delivery);
            if is_stuck {
                break;
            }
        }
        deliveries
    }

    /// How often a batch may come again.
    fn retries(&self) -> Option<u64> {
        let by_default = self.options.on_failure.as_ref().map(|_| RETRIES_BEFORE_DESTINATION);
        self.options.maximum_retry_attempts.or(by_default)
    }

    /// The records that come next: those of each partition in order, the partitions one after the other.
    fn waiting(&mut self) -> Vec<Place> {
        let ends = self.cluster.ends(&self.topic);
        self.committed.resize(ends.len().max(self.committed.len()), 0);
        let (mut places, mut bytes) = (Vec::new(), 0);
        let of_partition = |(partition, end): (usize, &usize)| {
            (self.committed[partition]..*end).map(move |offset| Place { partition, offset })
        };
        for place in ends.iter().enumerate().flat_map(of_partition) {
            bytes += self.json_of(place).to_string().len();
            let is_full = places.len() == self.options.batch_size || bytes > MAX_PAYLOAD_BYTES;
            if is_full && !places.is_empty() {
                break;
            }
            places.push(place);
        }
        places
    }

    async fn deliver(&mut self, batch: Batch) -> KafkaDelivery {
        let answer = (self.function)(self.event(&batch.places).to_string()).await;
        let (done, again) = self.judge(&batch.places, answer.as_deref().ok());
        self.commit(&done);
        let mut delivery = KafkaDelivery { batch: batch.places, again, given_up: Vec::new(), answer };
        let places = delivery.again.clone();
        if places.is_empty() {
            return delivery;
        }
        if !done.is_empty() {
            // It got on, which is no attempt that failed.
            self.again.push_front(Batch { places, failures: 0 });
        } else if self.options.bisect_batch_on_function_error && places.len() > 1 {
            let (first, second) = places.split_at(places.len() / 2);
            for half in [second, first] {
                self.again.push_front(Batch { places: half.to_vec(), failures: batch.failures });
            }
        } else if self.retries().is_some_and(|most| batch.failures >= most) {
            self.give_up(&places, "RetryAttemptsExhausted", batch.failures + 1);
            delivery.given_up = std::mem::take(&mut delivery.again);
        } else {
            self.again.push_front(Batch { places, failures: batch.failures + 1 });
        }
        delivery
    }

    /// What of a batch is done by this answer, and what comes again.
    fn judge(&self, batch: &[Place], answer: Option<&[u8]>) -> (Vec<Place>, Vec<Place>) {
        let all = batch.to_vec();
        let Some(answer) = answer else { return (Vec::new(), all) };
        if !self.options.report_batch_item_failures {
            return (all, Vec::new());
        }
        match first_failures(answer, &self.topic, batch) {
            None => (Vec::new(), all),
            Some(first) => {
                all.into_iter().partition(|place| first.get(&place.partition).is_none_or(|first| place.offset < *first))
            }
        }
    }

    fn commit(&mut self, places: &[Place]) {
        for place in places {
            let committed = &mut self.committed[place.partition];
            *committed = (*committed).max(place.offset + 1);
        }
    }

    /// Gives up what is older than records may become.
    fn pass_over_the_old(&mut self) {
        let Some(most) = self.options.maximum_record_age else { return };
        let now = SystemTime::now();
        let cluster = self.cluster.clone();
        let topic = self.topic.clone();
        let is_old = |place: &Place| {
            let stored = cluster.stored(&topic, *place);
            stored.is_some_and(|stored| now.duration_since(stored.produced).is_ok_and(|age| age > most))
        };
        let mut old = Vec::new();
        for batch in &mut self.again {
            let (gone, kept): (Vec<Place>, Vec<Place>) = batch.places.iter().copied().partition(is_old);
            old.extend(gone);
            batch.places = kept;
        }
        self.again.retain(|batch| !batch.places.is_empty());
        if self.again.is_empty() {
            let ends = cluster.ends(&topic);
            self.committed.resize(ends.len().max(self.committed.len()), 0);
            for (partition, end) in ends.into_iter().enumerate() {
                let waiting = (self.committed[partition]..end).map(|offset| Place { partition, offset });
                old.extend(waiting.take_while(is_old).filter(|place| !old.contains(place)).collect::<Vec<_>>());
            }
        }
        if !old.is_empty() {
            self.give_up(&old, "RecordAgeExceeded", 0);
        }
    }

    /// Goes on behind these records, and tells the destination of them, if there is one.
    fn give_up(&mut self, places: &[Place], condition: &str, attempts: u64) {
        self.commit(places);
        match self.options.on_failure.clone() {
            None => {}
            Some(Destination::Topic(topic)) => {
                for stored in places.iter().filter_map(|place| self.cluster.stored(&self.topic, *place)) {
                    self.cluster.produce(&topic, stored.record);
                }
            }
            Some(Destination::Queue(queue)) => {
                let mut ranges: BTreeMap<String, (usize, usize)> = BTreeMap::new();
                for place in places {
                    let range = ranges.entry(self.name_of(place.partition)).or_insert((place.offset, place.offset));
                    *range = (range.0.min(place.offset), range.1.max(place.offset));
                }
                let range = |(name, (from, to)): (String, (usize, usize))| (name, json!({"start": from, "end": to}));
                let told = json!({
                    "requestContext": {"condition": condition, "approximateInvokeCount": attempts},
                    "version": "1.0",
                    "KafkaBatchInfo": {
                        "batchSize": places.len(),
                        "offsets": ranges.into_iter().map(range).collect::<Map<_, _>>(),
                    },
                });
                drop(queue.send(Message::new(told.to_string()))); // It is far below SQS's limits.
            }
        }
    }

    /// The event that Lambda makes of a batch.
    fn event(&self, batch: &[Place]) -> Value {
        let mut records: Map<String, Value> = Map::new();
        for place in batch {
            let list = records.entry(self.name_of(place.partition)).or_insert_with(|| json!([]));
            if let Value::Array(list) = list {
                list.push(self.json_of(*place));
            }
        }
        json!({
            "eventSource": "aws:kafka",
            "eventSourceArn": "arn:aws:kafka:us-east-1:000000000000:cluster/local/00000000-0000-0000-0000-000000000000-1",
            "bootstrapServers": "b-1.local.kafka.us-east-1.amazonaws.com:9098",
            "records": records,
        })
    }

    fn json_of(&self, place: Place) -> Value {
        let Some(Stored { record, produced }) = self.cluster.stored(&self.topic, place) else { return Value::Null };
        let base64 = |bytes: &Vec<u8>| BASE64_STANDARD.encode(bytes);
        let signed = |bytes: &Vec<u8>| bytes.iter().map(|byte| byte.cast_signed()).collect::<Vec<i8>>();
        let header = |(name, value): &(String, Option<Vec<u8>>)| json!({name.as_str(): value.as_ref().map(signed)});
        let timestamp = produced.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        json!({
            "topic": self.topic,
            "partition": place.partition,
            "offset": place.offset,
            "timestamp": u64::try_from(timestamp).unwrap_or_default(),
            "timestampType": "CREATE_TIME",
            "key": record.key.as_ref().map(base64),
            "value": record.value.as_ref().map(base64),
            "headers": record.headers.iter().map(header).collect::<Vec<_>>(),
        })
    }

    fn name_of(&self, partition: usize) -> String {
        format!("{}-{partition}", self.topic)
    }
}

/// The first offset of each partition that an answer names; nothing where the answer fails the whole batch: it is no JSON, or
/// names what is not in the batch.
fn first_failures(answer: &[u8], topic: &str, batch: &[Place]) -> Option<BTreeMap<usize, usize>> {
    if answer.trim_ascii().is_empty() {
        return Some(BTreeMap::new());
    }
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let failures = match &answer["batchItemFailures"] {
        Value::Null if answer.is_null() || answer.is_object() => return Some(BTreeMap::new()),
        Value::Array(failures) => failures,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => return None,
    };
    let mut first: BTreeMap<usize, usize> = BTreeMap::new();
    for failure in failures {
        let failed = &failure["itemIdentifier"];
        let partition = failed["topic-partition"].as_str()?.strip_prefix(topic)?.strip_prefix('-')?.parse().ok()?;
        let place = Place { partition, offset: usize::try_from(failed["offset"].as_u64()?).ok()? };
        if !batch.contains(&place) {
            return None;
        }
        let offset = first.entry(partition).or_insert(place.offset);
        *offset = place.offset.min(*offset);
    }
    Some(first)
}

#[cfg(test)]
mod tests;
