//! The cases on the local stack: its queues, its mapping, and the function's real process.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use local_stack::{
    aws::AwsEndpoint,
    lambda::{Function, FunctionOptions},
    mapping::{Mapping, MappingOptions},
    queue::{Message, Queue, QueueOptions, Redrive},
};

use crate::{
    cases::{Case, VISIBILITY_SECONDS},
    endpoint::{Endpoint, Observed},
    function::{self, Order, Reply, TIMEOUT_SECONDS, sightings},
};

/// A local stack with the function on it.
pub(crate) struct Local {
    aws: AwsEndpoint,
    pub(crate) function: Function,
    folder: PathBuf,
}

impl Local {
    /// `name` tells the folder of one test from others; `environments` is the function's reserved concurrency.
    pub(crate) async fn start(name: &str, environments: usize) -> Self {
        Self::limited(name, environments, Duration::from_secs(TIMEOUT_SECONDS)).await
    }

    /// The same, with so much time for each invocation.
    pub(crate) async fn limited(name: &str, environments: usize, timeout: Duration) -> Self {
        let folder = crate::folder(name);
        let aws = AwsEndpoint::start().await.unwrap();
        let function = Function::start(FunctionOptions {
            name: "obedient".to_owned(),
            binary: function::program(&folder),
            environment: [("AWS_ENDPOINT_URL".to_owned(), aws.url().to_owned())].into(),
            timeout,
            environments,
            memory_mb: 128,
            core: None,
        });
        Self { aws, function: function.unwrap(), folder }
    }

    pub(crate) fn endpoint(&self) -> Endpoint<'_> {
        Endpoint::Local(&self.aws)
    }

    /// A new queue with its dead-letter queue.
    pub(crate) fn queue(&self, name: &str, visibility: Duration, max_receive_count: u32) -> Queue {
        let dead = Queue::new(format!("{name}-dlq"), QueueOptions::default());
        self.aws.add_queue(dead.clone());
        let redrive = Some(Redrive { queue: dead, max_receive_count });
        let queue = Queue::new(name, QueueOptions { visibility, redrive });
        self.aws.add_queue(queue.clone());
        queue
    }

    /// Maps a queue to the function.
    pub(crate) fn map(&self, queue: &Queue, options: MappingOptions) -> Mapping {
        Mapping::new(queue.clone(), self.function.clone(), options)
    }

    /// A new journal.
    pub(crate) fn journal(&self, name: &str) -> PathBuf {
        function::journal(&self.folder, name)
    }

    /// Runs a case to its end. Nobody sits out a wait: the queue's clock is moved, and the journal's with it.
    pub(crate) async fn run(&self, case: &Case) -> Observed {
        let name = crate::slug(case.name);
        let journal = self.journal(&name);
        let queue = self.queue(&name, Duration::from_secs(VISIBILITY_SECONDS), case.max_receives);
        send(&queue, "a", case.replies, &journal);
        send(&queue, "b", case.replies, &journal);
        let mapping =
            self.map(&queue, MappingOptions { report_batch_item_failures: case.partial, ..MappingOptions::default() });
        let (mut skipped, mut seen) = (0, Vec::new());
        loop {
            mapping.drain().await;
            let new = sightings(&journal).into_iter().skip(seen.len());
            let new: Vec<_> = new
                .map(|mut sighting| {
                    sighting.at += skipped;
                    sighting
                })
                .collect();
            seen.extend(new);
            let Some(wait) = queue.next_visible_in() else { break };
            skipped += wait.as_millis() as u64;
            queue.skip_wait();
        }
        self.endpoint().observed(&format!("{name}-dlq"), &seen).await
    }
}

/// Puts a message into a queue.
pub(crate) fn send(queue: &Queue, label: &'static str, replies: &[Reply], journal: &Path) {
    queue.send(Message::new(Order::body(label, replies, journal))).unwrap();
}
