//! A worker whose processor does what bodies say, on real queues.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use local_stack::{
    mapping,
    queue::{Message, Queue},
    stack::Stack,
};
use shared::{
    backoff::Backoff,
    deadline::Deadline,
    telemetry::{metrics::Metrics, trace::Tracing},
    trigger::{
        Processor,
        sqs::{Limits, Record, Worker, queue::Queues},
    },
};

/// Time for any batch.
pub(crate) const PLENTY: Duration = Duration::from_secs(30);

/// A worker with a script, its queue, and what both are at.
pub(crate) struct Bench<P> {
    pub(crate) stack: Stack,
    pub(crate) queue: Queue,
    pub(crate) worker: Worker<P>,
}

impl<P: Default> Bench<P> {
    /// A worker of so many records at once, each of which may take `budget`.
    pub(crate) async fn with(concurrency: usize, budget: Duration) -> Self {
        let stack = Stack::start().await.unwrap();
        let queue = stack.queue("payment-failed");
        let worker = Worker {
            processor: P::default(),
            queues: Queues::new(stack.aws.sqs(), Some(stack.dead_letters("payment-failed").url())),
            limits: Limits { concurrency, max_receives: 5, budget, backoff: Backoff::DEFAULT },
            metrics: Metrics::default(),
            tracing: Tracing::default(),
        };
        Self { stack, queue, worker }
    }
}

impl<P: Processor<Record>> Bench<P> {
    /// Works the bodies in one batch with `time_left`, and answers with the bodies that were reported failed.
    pub(crate) async fn work(&self, bodies: &[&str], time_left: Duration) -> Vec<String> {
        let send = |body: &&str| (self.queue.send(Message::new(*body)).unwrap(), (*body).to_owned());
        let by_id = bodies.iter().map(send).collect();
        self.work_waiting(&by_id, time_left).await
    }

    /// As [`Bench::work`], for messages that are in the queue by these ids.
    pub(crate) async fn work_waiting(&self, by_id: &BTreeMap<String, String>, time_left: Duration) -> Vec<String> {
        let mut records = Vec::new();
        while records.len() < by_id.len() {
            records.extend(self.queue.receive(10));
        }
        let event = serde_json::from_value(mapping::event(&self.queue, &records)).unwrap();
        let response = self.worker.process(event, Deadline::at(SystemTime::now() + time_left)).await.unwrap();
        response.batch_item_failures.iter().map(|failure| by_id[&failure.item_identifier].clone()).collect()
    }

    /// How long the records that came back wait, in seconds.
    pub(crate) fn waits(&self) -> Vec<u64> {
        self.queue.visibility_changes().iter().map(|(_, wait)| wait.as_secs()).collect()
    }
}
