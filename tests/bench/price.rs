//! What a million events cost on AWS, by the measured figures and with the arithmetic. The figures of .template/README.md are
//! those that it makes of that page's assumptions.

use local_stack::price::{
    DYNAMODB_WRITES, EVENTBRIDGE_EVENTS, HTTP_API_REQUESTS, Item, LAMBDA_REQUESTS, LOGS_GIGABYTE, SQS_REQUESTS,
};

const EVENTS: f64 = 1_000_000.0;

/// In seconds.
const HOUR: f64 = 3_600.0;

/// What the price follows from.
pub(crate) struct Measured {
    /// Events in an invocation.
    pub(crate) batch: usize,
    /// How long such an invocation takes.
    pub(crate) milliseconds: f64,
    /// The size of the function.
    pub(crate) memory_mb: u32,
    /// Writes to DynamoDB for an event.
    pub(crate) writes: f64,
    /// Bytes of log for an event, the metrics among them.
    pub(crate) log_bytes: f64,
}

/// The parts of the price of a million events in full batches, none of which comes twice. What the two services cost is no
/// part of it, nor is what costs the same without events: alarms, metrics, stored records.
pub(crate) fn items(&Measured { batch, milliseconds, memory_mb, writes, log_bytes }: &Measured) -> Vec<Item> {
    let invocations = EVENTS / batch as f64;
    // Lambda bills whole milliseconds.
    let seconds = milliseconds.ceil() / 1_000.0;
    let gigabytes = f64::from(memory_mb) / 1_024.0;
    // The bus sends each event by itself; Lambda receives and deletes by the batch.
    let sqs = EVENTS + 2.0 * invocations;
    let logged = EVENTS * log_bytes / 1e9;
    let time = format!("{invocations} invocations x {seconds} s x {gigabytes} GB");
    let (batches, writing) = (format!("batches of {batch}: "), format!("{writes} writes each: "));
    let sending = format!("sends; receives and deletes by {batch}: ");
    vec![
        Item::of_time("Lambda, time", &time, invocations * seconds * gigabytes),
        Item::of_millions("Lambda, requests", &batches, invocations, LAMBDA_REQUESTS),
        Item::of_millions("DynamoDB", &writing, writes * EVENTS, DYNAMODB_WRITES),
        Item::of_millions("SQS", &sending, sqs, SQS_REQUESTS),
        Item::of_millions("EventBridge", "", EVENTS, EVENTBRIDGE_EVENTS),
        Item {
            what: "CloudWatch Logs",
            arithmetic: format!("{log_bytes:.0} bytes each: {logged:.2} GB x {LOGS_GIGABYTE} USD"),
            price: logged * LOGS_GIGABYTE,
        },
    ]
}

/// Requests of one kind in a second, of 30,000 in all: a sale as the system that this replaces has planned for it, in which
/// most people look at their reservations.
pub(crate) struct Mixed {
    pub(crate) a_second: f64,
    /// How long one takes.
    pub(crate) milliseconds: f64,
    /// The processor time of one.
    pub(crate) processor_ms: f64,
}

/// What serves such a second, and what an hour of it costs.
pub(crate) struct Served {
    /// Environments that work at any moment.
    pub(crate) environments: f64,
    /// Processors that are busy at any moment.
    pub(crate) processors: f64,
    /// The parts of an hour's price. What the table and the inventory cost is no part of it.
    pub(crate) hour: [Item; 3],
}

/// The paper sum of a second with these requests.
pub(crate) fn served(mixed: &[Mixed], memory_mb: u32) -> Served {
    let sum = |of: fn(&Mixed) -> f64| mixed.iter().map(|kind| kind.a_second * of(kind)).sum::<f64>();
    let (rate, environments) = (sum(|_| 1.0), sum(|kind| kind.milliseconds / 1_000.0));
    let (requests, gigabytes) = (rate * HOUR, f64::from(memory_mb) / 1_024.0);
    // Lambda bills whole milliseconds.
    let seconds = sum(|kind| kind.milliseconds.ceil() / 1_000.0) * HOUR;
    let hour = [
        Item::of_millions("HTTP API", "", requests, HTTP_API_REQUESTS),
        Item::of_millions("Lambda, requests", "", requests, LAMBDA_REQUESTS),
        Item::of_time("Lambda, time", &format!("{seconds:.0} s x {gigabytes} GB"), seconds * gigabytes),
    ];
    Served { environments, processors: sum(|kind| kind.processor_ms / 1_000.0), hour }
}
