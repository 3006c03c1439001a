//! The topic of a function in the soak of the bookings: what reads it beside the queue.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    kafka::{Cluster, KafkaMapping, KafkaOptions, Place, Record},
    lambda::{Function, Invocation},
};

/// Its partitions.
const PARTITIONS: usize = 3;

/// How long a batch waits for more records. Lambda waits for half a second, which nobody sits out here.
const WINDOW: Duration = Duration::from_millis(40);

/// A partition whose batch failed waits for so long.
const PAUSE: Duration = Duration::from_millis(50);

/// A topic with the mapping that reads it; dropped, it is read no further.
pub(super) struct Topic {
    name: String,
    cluster: Cluster,
    produced: usize,
    done: Arc<AtomicUsize>,
    _mapping: AbortOnDropHandle<()>,
}

impl Topic {
    /// The topic of a function, which is told of by `invocations`.
    pub(super) fn of(function: &Function, invocations: mpsc::UnboundedSender<Invocation>) -> Self {
        let (name, cluster) = (format!("{}-topic", function.name()), Cluster::default());
        cluster.create(&name, PARTITIONS);
        let (function, done) = (function.clone(), Arc::new(AtomicUsize::new(0)));
        let invoke = move |event: String| {
            let (function, invocations) = (function.clone(), invocations.clone());
            async move {
                let invocation = function.invoke(event).await;
                let answer = invocation.result.clone().map(|answer| answer.to_vec()).map_err(|error| error.to_string());
                drop(invocations.send(invocation));
                answer
            }
        };
        let options = KafkaOptions { maximum_batching_window: WINDOW, ..KafkaOptions::default() };
        let mut mapping = KafkaMapping::new(cluster.clone(), &name, invoke, options);
        let counter = done.clone();
        let task = tokio::spawn(async move {
            loop {
                let delivery = mapping.deliver_in_window().await;
                counter.store(mapping.committed().iter().sum(), Ordering::Relaxed);
                if delivery.answer.is_err() {
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self { name, cluster, produced: 0, done, _mapping: AbortOnDropHandle::new(task) }
    }

    /// Appends a record to the partition of its key.
    pub(super) fn produce(&mut self, key: &str, value: &str) -> Place {
        self.produced += 1;
        self.cluster.produce(&self.name, Record::new(key, value))
    }

    /// Records that are not done.
    pub(super) fn waiting(&self) -> usize {
        self.produced - self.done.load(Ordering::Relaxed)
    }
}
