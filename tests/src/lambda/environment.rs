//! One execution environment: a process, its Runtime API, and what it writes. The outputs are read only while an
//! invocation is in hand, as Lambda freezes a process in between. That also makes the logs of an invocation complete: the
//! poll for the next one reaches the reactor after the lines that the process wrote before it.

use std::{
    future::poll_fn,
    io,
    process::Stdio,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use axum::body::Bytes;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader, Split},
    process::{Child, ChildStderr, ChildStdout, Command},
    runtime::Handle,
    sync::oneshot,
    task::coop,
    time::{Instant, sleep, sleep_until, timeout},
};
use uuid::Uuid;

use super::{
    FunctionError, FunctionOptions, Invocation, left,
    runtime_api::{Event, RuntimeApi, Task},
};
use crate::cores;

/// Lambda gives a process ten seconds to ask for its first invocation.
const INIT_LIMIT: Duration = Duration::from_secs(10);

/// A killed process may have left a child that keeps the pipes open; its lines are not worth more than this.
const LAST_WORDS: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Environment {
    /// From starting the process to its first poll.
    pub(super) init: Duration,
    function_arn: String,
    child: Child,
    output: Output,
    api: RuntimeApi,
    /// The poll that waits for work; none while an invocation is in hand, and none for ever once the process is gone.
    ready: Option<oneshot::Sender<Task>>,
}

impl Environment {
    /// Starts the process and waits for its first poll. `logs` gets what it writes meanwhile.
    pub(super) async fn start(options: &FunctionOptions, logs: &mut Vec<String>) -> Result<Self, FunctionError> {
        let api = RuntimeApi::start().await.map_err(|error| FunctionError::Init(format!("no listener: {error}")))?;
        let mut command = Command::new(&options.binary);
        command
            .env_clear()
            .envs(options.variables(&api.address))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let started = Instant::now();
        let mut child = spawn(&mut command, options.core)
            .await
            .map_err(|error| FunctionError::Init(format!("{}: {error}", options.binary.display())))?;
        let output = Output::of(&mut child);
        let function_arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{}", options.name);
        let mut new = Self { init: Duration::ZERO, function_arn, child, output, api, ready: None };
        let deadline = started + INIT_LIMIT;
        let reason = loop {
            tokio::select! {
                biased;
                () = sleep_until(deadline) => break format!("no poll within {} s", INIT_LIMIT.as_secs()),
                Some(line) = new.output.line() => logs.push(line),
                Some(event) = new.api.events.recv() => match event {
                    Event::Ready(ready) => {
                        new.ready = Some(ready);
                        new.init = started.elapsed();
                        return Ok(new);
                    }
                    Event::InitError(error) => break format!("{}: {}", error.error_type, error.error_message),
                    Event::Answer(..) | Event::Error(_) => break "an answer without an invocation".to_owned(),
                },
                status = new.child.wait() => break exit_text(status),
            }
        };
        new.kill(logs).await;
        Err(FunctionError::Init(format!("{reason}\n{}", logs.join("\n"))))
    }

    /// The process by the system's number; none once it is gone.
    pub(super) fn process(&self) -> Option<u32> {
        self.child.id()
    }

    /// Whether the process asked for more work.
    pub(super) fn is_reusable(&self) -> bool {
        self.ready.is_some()
    }

    /// Hands the process one event and waits for its answer and its next poll. `logs` is what the start wrote.
    pub(super) async fn invoke(&mut self, payload: Bytes, limit: Duration, mut logs: Vec<String>) -> Invocation {
        let request_id = Uuid::new_v4().to_string();
        let function_arn = self.function_arn.clone();
        let task = Task { request_id: request_id.clone(), function_arn, timeout: limit, payload };
        let process = self.child.id();
        let started = Instant::now();
        let deadline = started + limit;
        // A process that died while idle shows in the wait below.
        drop(self.ready.take().map(|ready| ready.send(task)));
        let (answered, result) = self.answer(deadline, &mut logs).await;
        if !matches!(result, Ok(_) | Err(FunctionError::Unhandled { .. })) || !self.polls(deadline, &mut logs).await {
            self.kill(&mut logs).await;
        }
        let duration = answered - started;
        Invocation { result, logs, duration, answered, init: None, cold: false, request_id, process }
    }

    /// The answer, with when it arrived or the wait for it ended.
    async fn answer(&mut self, deadline: Instant, logs: &mut Vec<String>) -> (Instant, Result<Vec<u8>, FunctionError>) {
        loop {
            let ended = tokio::select! {
                biased;
                () = sleep_until(deadline) => Err(FunctionError::TimedOut),
                Some(line) = self.output.line() => {
                    logs.push(line);
                    continue;
                }
                Some(event) = self.api.events.recv() => return event.answer(),
                status = self.child.wait() => Err(FunctionError::Exited(exit_text(status))),
            };
            return (Instant::now(), ended);
        }
    }

    /// Waits for the next poll, which ends an invocation for Lambda, and takes in everything written before it.
    async fn polls(&mut self, deadline: Instant, logs: &mut Vec<String>) -> bool {
        loop {
            tokio::select! {
                biased;
                Some(line) = self.output.line() => logs.push(line),
                event = timeout(left(deadline), self.api.events.recv()) => {
                    let Ok(Some(Event::Ready(ready))) = event else { return false };
                    self.ready = Some(ready);
                    self.output.drain(logs).await;
                    return true;
                }
                _ = self.child.wait() => return false,
            }
        }
    }

    async fn kill(&mut self, logs: &mut Vec<String>) {
        self.ready = None;
        drop(self.child.kill().await); // It may be gone already.
        let rest = async {
            while let Some(line) = self.output.line().await {
                logs.push(line);
            }
        };
        drop(timeout(LAST_WORDS, rest).await);
    }
}

/// Starts the process once its program can be: one that was just written is open for writing in each child that was forked
/// meanwhile, until that has its own program.
async fn spawn(command: &mut Command, core: Option<usize>) -> io::Result<Child> {
    const PAUSE: Duration = Duration::from_millis(10);
    const TRIES: usize = 100;

    for _ in 1..TRIES {
        match spawn_on(command, core) {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => sleep(PAUSE).await,
            started => return started,
        }
    }
    spawn_on(command, core)
}

/// A process can't be started on a core of its own; it inherits that of the thread which starts it.
fn spawn_on(command: &mut Command, core: Option<usize>) -> io::Result<Child> {
    let Some(core) = core else { return command.spawn() };
    let runtime = Handle::current();
    let bound = || {
        cores::bind(&[core])?;
        let _inside = runtime.enter();
        command.spawn()
    };
    thread::scope(|threads| threads.spawn(bound).join())
        .unwrap_or_else(|_panic| Err(io::Error::other("the thread that starts it panicked")))
}

fn exit_text(status: std::io::Result<std::process::ExitStatus>) -> String {
    status.map_or_else(|error| error.to_string(), |status| status.to_string())
}

/// Both outputs of a process as one stream of lines.
#[derive(Debug)]
struct Output {
    stdout: Option<Split<BufReader<ChildStdout>>>,
    stderr: Option<Split<BufReader<ChildStderr>>>,
}

impl Output {
    fn of(child: &mut Child) -> Self {
        let stdout = child.stdout.take().map(|pipe| BufReader::new(pipe).split(b'\n'));
        let stderr = child.stderr.take().map(|pipe| BufReader::new(pipe).split(b'\n'));
        Self { stdout, stderr }
    }

    /// The next line, or nothing once both outputs are closed. Nothing is lost when the future is dropped.
    async fn line(&mut self) -> Option<String> {
        poll_fn(|context| self.poll_line(context)).await
    }

    /// Takes the lines that are there, without waiting for more.
    async fn drain(&mut self, logs: &mut Vec<String>) {
        let lines = poll_fn(|context| {
            while let Poll::Ready(Some(line)) = self.poll_line(context) {
                logs.push(line);
            }
            Poll::Ready(())
        });
        coop::unconstrained(lines).await; // Tokio's budget would otherwise pretend that there is nothing more.
    }

    fn poll_line(&mut self, context: &mut Context<'_>) -> Poll<Option<String>> {
        // The second is asked only when the first has nothing: a line that was taken and not handed on is lost.
        if let line @ Poll::Ready(Some(_)) = poll_split(&mut self.stdout, context) {
            return line;
        }
        if let line @ Poll::Ready(Some(_)) = poll_split(&mut self.stderr, context) {
            return line;
        }
        if self.stdout.is_none() && self.stderr.is_none() { Poll::Ready(None) } else { Poll::Pending }
    }
}

fn poll_split<R: AsyncRead + Unpin>(
    split: &mut Option<Split<BufReader<R>>>,
    context: &mut Context<'_>,
) -> Poll<Option<String>> {
    let Some(lines) = split else { return Poll::Ready(None) };
    let polled = std::pin::Pin::new(lines).poll_next_segment(context);
    let Poll::Ready(segment) = polled else {
        return Poll::Pending;
    };
    let line = segment.ok().flatten().map(|bytes| String::from_utf8_lossy(&bytes).trim_end_matches('\r').to_owned());
    if line.is_none() {
        *split = None;
    }
    Poll::Ready(line)
}
