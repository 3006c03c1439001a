//! The connection that calls go out on, with everything that keeps it alive.
//!
//! A channel's connection outlives the channel where the server takes no call: what would end it waits for its turn. So its
//! tasks are held here, and end with the last who has the line.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use hyper::rt::Executor;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint, Error as TransportError};

/// A connection, be it made or yet to be made. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) channel: Channel,
    tasks: Arc<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks(Mutex<JoinSet<()>>);

/// Runs the tasks of a connection for as long as somebody has its line.
struct Holder(Weak<Tasks>);

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Line {
    /// One that the first call makes.
    pub(super) fn to(endpoint: &Endpoint) -> Self {
        let tasks = Arc::default();
        Self { channel: held_by(endpoint, &tasks).connect_lazy(), tasks }
    }

    /// One that is made now.
    pub(super) async fn made_to(endpoint: &Endpoint) -> Result<Self, TransportError> {
        let tasks = Arc::default();
        Ok(Self { channel: held_by(endpoint, &tasks).connect().await?, tasks })
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tasks, &other.tasks)
    }
}

fn held_by(endpoint: &Endpoint, tasks: &Arc<Tasks>) -> Endpoint {
    endpoint.clone().executor(Holder(Arc::downgrade(tasks)))
}

impl Executor<Task> for Holder {
    fn execute(&self, task: Task) {
        if let Some(Tasks(tasks)) = self.0.upgrade().as_deref() {
            let mut tasks = tasks.lock().unwrap_or_else(PoisonError::into_inner);
            while tasks.try_join_next().is_some() {}
            tasks.spawn(task);
        }
    }
}
