//! What a record costs: processor time, requests, bytes.

use std::time::Duration;

use local_stack::{aws::Request, lambda::Function, process::Process, stack::Stack};

use crate::{
    batch::{Batch, FUNCTION},
    figure::Figure,
    relay::{Relay, Relays},
    stage::{Stage, settle, settle_warm},
    stop::Stop,
    warm::BATCH,
    workplace::{NO_OP, Workplace},
};

/// Records that make one measurement of processor time.
const WINDOW: usize = 1_000;

pub(crate) struct Cost {
    /// Processor time for a thousand records in batches of ten, in milliseconds.
    pub(crate) ours: Figure,
    /// The same of the no-op function.
    pub(crate) no_op: Figure,
    /// The same of the driver and all services, while they drove ours.
    pub(crate) driver: Figure,
    /// A record that is settled.
    pub(crate) record: Traffic,
    /// A record whose event was settled before.
    pub(crate) duplicate: Traffic,
}

/// What one record sends and gets.
pub(crate) struct Traffic {
    pub(crate) dynamodb: Share,
    pub(crate) rest: Share,
    pub(crate) grpc: Share,
    /// What it writes to the log, line ends and its share of the batch's metrics included.
    pub(crate) log_bytes: f64,
}

/// The share of one service.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) requests: f64,
    pub(crate) sent: f64,
    pub(crate) received: f64,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Cost, Stop> {
    let [ours, no_op, driver] = processor(workplace).await?;
    let [record, duplicate] = traffic(workplace).await?;
    Ok(Cost { ours, no_op, driver, record, duplicate })
}

/// Processor time of the function, of the no-op, and of the driver.
async fn processor(workplace: &Workplace) -> Result<[Figure; 3], Stop> {
    let mut stage = Stage::set().await?;
    let (no_op, ours) = (stage.deploy(workplace, NO_OP)?, stage.deploy(workplace, FUNCTION)?);
    let first = stage.batch(BATCH)?;
    let idle = settle(&no_op, &first).await?.process;
    let busy = settle(&ours, &first).await?.process;
    let mut times = [Vec::new(), Vec::new(), Vec::new()];
    for window in 0..=workplace.runs(12, 3) {
        let batches = (0..WINDOW / BATCH).map(|_| stage.batch(BATCH)).collect::<Result<Vec<_>, _>>()?;
        let before = (cpu_time(busy)?, cpu_time(Some(Process::own().0))?);
        work(&ours, &batches).await?;
        let (function, driver) = (cpu_time(busy)? - before.0, cpu_time(Some(Process::own().0))? - before.1);
        let before = cpu_time(idle)?;
        work(&no_op, &batches).await?;
        if window > 0 {
            let new = [function, cpu_time(idle)? - before, driver];
            times.iter_mut().zip(new).for_each(|(times, time)| times.push(time.as_secs_f64() * 1_000.0));
        }
        stage.stack.aws.clear_requests();
    }
    stage.close().await?;
    Ok(times.map(Figure::of))
}

/// Settles the batches, and says how many bytes they wrote to the log.
async fn work(function: &Function, batches: &[Batch]) -> Result<usize, Stop> {
    let mut logged = 0;
    for batch in batches {
        let invocation = settle_warm(function, batch).await?;
        logged += invocation.logs.iter().map(|line| line.len() + 1).sum::<usize>();
    }
    Ok(logged)
}

/// What a process has used so far.
pub(crate) fn cpu_time(process: Option<u32>) -> Result<Duration, Stop> {
    let used = process.and_then(|process| Process(process).cpu_time());
    used.ok_or(Stop::unable("this system does not tell the processor time of a process"))
}

/// Requests and bytes of a record, and of a duplicate.
async fn traffic(workplace: &Workplace) -> Result<[Traffic; 2], Stop> {
    let mut stage = Stage::set().await?;
    let relays = Relays::before(&stage.stack).await?;
    let function = stage.deploy_with(workplace, FUNCTION, 1, None, relays.variables())?;
    // Connections and what HTTP/2 says once on each are no record's.
    settle(&function, &stage.batch(BATCH)?).await?;

    let before = Seen::of(&stage.stack, &relays);
    let batches = (0..20).map(|_| stage.batch(BATCH)).collect::<Result<Vec<_>, _>>()?;
    let logged = work(&function, &batches).await?;
    let after = Seen::of(&stage.stack, &relays);
    let record = after.since(&before, batches.len() * BATCH, logged)?;

    let batches = stage.duplicates(BATCH)?;
    let logged = work(&function, &batches).await?;
    let duplicate = Seen::of(&stage.stack, &relays).since(&after, batches.len() * BATCH, logged)?;
    stage.close().await?;
    Ok([record, duplicate])
}

/// What the services have seen so far.
struct Seen {
    dynamodb: Line,
    rest: Line,
    grpc: Line,
    /// Requests to other services of AWS, which a record that goes well never makes.
    others: usize,
}

struct Line {
    requests: usize,
    bytes: [u64; 2],
}

impl Seen {
    fn of(stack: &Stack, relays: &Relays) -> Self {
        let line = |requests, relay: &Relay| Line { requests, bytes: relay.bytes() };
        let is_dynamodb = |request: &Request| request.target.starts_with("DynamoDB");
        let (dynamodb, others): (Vec<_>, Vec<_>) = stack.aws.requests().into_iter().partition(is_dynamodb);
        Self {
            dynamodb: line(dynamodb.len(), &relays.aws),
            rest: line(stack.reservations.calls().len(), &relays.rest),
            grpc: line(stack.inventory.calls().len(), &relays.grpc),
            others: others.len(),
        }
    }

    fn since(&self, before: &Self, records: usize, logged: usize) -> Result<Traffic, Stop> {
        if self.others != before.others {
            return Err(Stop::invalid("a record went to another service than those that are measured".to_owned()));
        }
        let share = |now: &Line, before: &Line| {
            let of = |count: u64| count as f64 / records as f64;
            Share {
                requests: of((now.requests - before.requests) as u64),
                sent: of(now.bytes[0] - before.bytes[0]),
                received: of(now.bytes[1] - before.bytes[1]),
            }
        };
        Ok(Traffic {
            dynamodb: share(&self.dynamodb, &before.dynamodb),
            rest: share(&self.rest, &before.rest),
            grpc: share(&self.grpc, &before.grpc),
            log_bytes: logged as f64 / records as f64,
        })
    }
}
