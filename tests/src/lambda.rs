//! AWS Lambda for one function: real processes of its real binary, driven over the Lambda Runtime API (2018-06-01) on
//! loopback. An execution environment is one process and one listener and handles one invocation at a time; a new one
//! starts when an invocation finds none free, so cold starts are real. Memory is announced to the process, not enforced.

use std::{
    collections::BTreeMap,
    env, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::body::Bytes;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use self::environment::Environment;

mod environment;
mod invoke_api;
mod runtime_api;

pub use self::invoke_api::InvokeApi;

/// A function as it is deployed.
#[derive(Clone, Debug)]
pub struct FunctionOptions {
    /// The name, also part of the ARN that an invocation carries.
    pub name: String,
    /// The program to run, unchanged.
    pub binary: PathBuf,
    /// The function's variables; nothing else of this process's environment reaches it.
    pub environment: BTreeMap<String, String>,
    /// How long an invocation may take.
    pub timeout: Duration,
    /// How many processes may run side by side, the reserved concurrency.
    pub environments: usize,
    /// The size that the process is told.
    pub memory_mb: u32,
    /// The only core that the processes run on; none lets them run where they like.
    pub core: Option<usize>,
}

/// A deployed function; clones share its processes, and the last one to go ends them.
#[derive(Clone, Debug)]
pub struct Function {
    shared: Arc<Shared>,
}

/// What came of an invocation.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The bytes that the function answered with, or why there are none.
    pub result: Result<Vec<u8>, FunctionError>,
    /// What the process wrote to either output meanwhile, by line; for a cold start what it wrote before, too.
    pub logs: Vec<String>,
    /// From handing over the event to the answer.
    pub duration: Duration,
    /// When the answer arrived, or the wait for it ended. The process may have gone on until it asked for more work.
    pub answered: Instant,
    /// From starting the process to its first poll; nothing for a warm environment.
    pub init: Option<Duration>,
    /// Whether a process had to be started.
    pub cold: bool,
    /// The id that the function saw.
    pub request_id: String,
    /// The process that took it, by the system's number; it may be gone by now.
    pub process: Option<u32>,
}

/// Why an invocation has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    /// The function reported an error.
    #[error("{error_type}: {message}")]
    Unhandled {
        /// The type it gave.
        error_type: String,
        /// The message it gave.
        message: String,
    },
    /// The function did not answer in time, and its process was killed.
    #[error("Task timed out")]
    TimedOut,
    /// The process ended without an answer.
    #[error("Runtime exited: {0}")]
    Exited(String),
    /// No environment became free in time, so that the function never saw the event.
    #[error("TooManyRequestsException: Rate exceeded")]
    Throttled,
    /// The process never asked for work. The text holds what it wrote, so that a wrong variable can be found.
    #[error("initialization failed: {0}")]
    Init(String),
}

#[derive(Debug)]
struct Shared {
    options: FunctionOptions,
    permits: Semaphore,
    idle: Mutex<Vec<Environment>>,
    in_hand: Mutex<Vec<u32>>,
    logs: Mutex<Vec<String>>,
}

impl Function {
    /// Deploys the function. No process starts before the first invocation.
    pub fn start(mut options: FunctionOptions) -> io::Result<Self> {
        options.binary = options
            .binary
            .canonicalize()
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", options.binary.display())))?;
        let permits = Semaphore::new(options.environments.max(1));
        let shared =
            Shared { options, permits, idle: Mutex::default(), in_hand: Mutex::default(), logs: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The function's name.
    pub fn name(&self) -> &str {
        &self.shared.options.name
    }

    /// How the function was deployed.
    pub fn options(&self) -> &FunctionOptions {
        &self.shared.options
    }

    /// Invokes the function and waits for its end. With every environment busy it first waits for one to become free,
    /// where Lambda would throttle. Dropping the future kills the process that it used.
    pub async fn invoke(&self, payload: impl Into<Bytes>) -> Invocation {
        self.invoke_within(payload, Duration::MAX).await
    }

    /// As [`Function::invoke`], with an end to the patience: a caller that Lambda throttles asks again for that long.
    pub async fn invoke_within(&self, payload: impl Into<Bytes>, patience: Duration) -> Invocation {
        let Ok(_permit) = timeout(patience, self.shared.permits.acquire()).await else {
            return Invocation::failed(FunctionError::Throttled, Vec::new());
        };
        let warm = lock(&self.shared.idle).pop();
        let (cold, mut logs) = (warm.is_none(), Vec::new());
        let environment = match warm {
            Some(environment) => Ok(environment),
            None => Environment::start(&self.shared.options, &mut logs).await,
        };
        let mut invocation = match environment {
            Ok(mut environment) => {
                let init = cold.then_some(environment.init);
                let _in_hand = InHand::of(&self.shared.in_hand, environment.process());
                let mut invocation = environment.invoke(payload.into(), self.shared.options.timeout, logs).await;
                invocation.init = init;
                if environment.is_reusable() {
                    lock(&self.shared.idle).push(environment);
                }
                invocation
            }
            Err(error) => Invocation::failed(error, logs),
        };
        invocation.cold = cold;
        lock(&self.shared.logs).extend_from_slice(&invocation.logs);
        invocation
    }

    /// The processes that work on an invocation now, by the system's numbers.
    pub fn processes_in_hand(&self) -> Vec<u32> {
        lock(&self.shared.in_hand).clone()
    }

    /// Every line that any process of the function wrote, in the order in which the invocations ended.
    pub fn all_logs(&self) -> Vec<String> {
        lock(&self.shared.logs).clone()
    }

    /// The lines of [`Function::all_logs`] but for the first so many.
    pub fn logs_after(&self, seen: usize) -> Vec<String> {
        lock(&self.shared.logs).get(seen..).unwrap_or_default().to_vec()
    }

    /// Ends the idle processes, so that the next invocation is a cold start.
    pub fn recycle(&self) {
        lock(&self.shared.idle).clear();
    }
}

/// A process that is listed for as long as it works on an invocation.
struct InHand<'a> {
    list: &'a Mutex<Vec<u32>>,
    process: Option<u32>,
}

impl<'a> InHand<'a> {
    fn of(list: &'a Mutex<Vec<u32>>, process: Option<u32>) -> Self {
        lock(list).extend(process);
        Self { list, process }
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        lock(self.list).retain(|listed| Some(*listed) != self.process);
    }
}

impl Invocation {
    fn failed(error: FunctionError, logs: Vec<String>) -> Self {
        let (answered, request_id) = (Instant::now(), String::new());
        Self {
            result: Err(error),
            logs,
            duration: Duration::ZERO,
            answered,
            init: None,
            cold: false,
            request_id,
            process: None,
        }
    }
}

impl FunctionOptions {
    /// The variables that Lambda sets, under those of the function.
    fn variables(&self, runtime_api: &str) -> BTreeMap<String, String> {
        let memory = self.memory_mb.to_string();
        let group = format!("/aws/lambda/{}", self.name);
        let root = self.binary.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        let own = [
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("AWS_LAMBDA_FUNCTION_NAME", &self.name),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
            ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
            ("AWS_LAMBDA_LOG_GROUP_NAME", &group),
            ("AWS_LAMBDA_LOG_STREAM_NAME", "local"),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("LAMBDA_TASK_ROOT", &root),
            ("_HANDLER", "bootstrap"),
        ];
        let mut variables: BTreeMap<_, _> =
            own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        // A build with coverage writes its counts where this variable says; without it the file lands in the folder.
        variables.extend(env::var("LLVM_PROFILE_FILE").ok().map(|file| ("LLVM_PROFILE_FILE".to_owned(), file)));
        variables.extend(self.environment.clone());
        variables
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much of a deadline is left.
fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests;
