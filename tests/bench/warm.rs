//! The latency of a warm batch, from handing it over to its answer.

use std::time::{Duration, Instant};

use tokio::task::yield_now;

use crate::{
    batch::FUNCTION,
    figure::Figure,
    stage::{Latencies, Stage, settle, settle_warm},
    stop::Stop,
    workplace::{NO_OP, Workplace},
};

/// The usual size of a batch.
pub(crate) const BATCH: usize = 10;

/// The first batches fill pools and caches.
const UNCOUNTED: usize = 20;

/// Milliseconds.
pub(crate) struct Warm {
    /// With services that take their time, so that the sum of their latencies is the limit.
    pub(crate) waiting: Figure,
    /// The same, while the function's core is kept from going to sleep; nothing where it can't be.
    pub(crate) awake: Option<Figure>,
    /// The same as `waiting`, for a batch of a single record.
    pub(crate) single: Figure,
    /// With services that answer at once.
    pub(crate) busy: Figure,
    /// The no-op function, handed the same events.
    pub(crate) no_op: Figure,
    /// A wait as long as the limit on the driver's core, and nothing else: what the machine itself adds.
    pub(crate) machine: Figure,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Warm, Stop> {
    let mut stage = Stage::set().await?;
    let (no_op, ours) = (stage.deploy(workplace, NO_OP)?, stage.deploy(workplace, FUNCTION)?);
    let first = stage.batch(BATCH)?;
    settle(&no_op, &first).await?;
    settle(&ours, &first).await?;
    let mut times: [Vec<Duration>; 6] = Default::default();
    let [waiting, single, busy, floor, machine, awake] = &mut times;
    // All of them in turn, so that whatever else the machine does hits all alike.
    for _ in 0..UNCOUNTED + workplace.runs(1_000, 100) {
        machine.push(limit().await);
        stage.delay(Latencies::NEARBY);
        waiting.push(settle_warm(&ours, &stage.batch(BATCH)?).await?.duration);
        single.push(settle_warm(&ours, &stage.batch(1)?).await?.duration);
        stage.delay(Latencies::NONE);
        let batch = stage.batch(BATCH)?;
        floor.push(settle_warm(&no_op, &batch).await?.duration);
        busy.push(settle_warm(&ours, &batch).await?.duration);
        stage.stack.aws.clear_requests(); // Nobody reads them here, and they would only grow.
    }
    // Not in turn: the system's scheduler gives a thread its share when it wakes, however low its priority.
    if let Some(_kept) = workplace.awake() {
        stage.delay(Latencies::NEARBY);
        for _ in 0..UNCOUNTED + workplace.runs(300, 100) {
            awake.push(settle_warm(&ours, &stage.batch(BATCH)?).await?.duration);
        }
    }
    stage.close().await?;
    let [waiting, single, busy, no_op, machine, awake] =
        times.map(|times| Figure::millis(times.into_iter().skip(UNCOUNTED)));
    let awake = Some(awake).filter(|awake| awake.runs() > 0);
    Ok(Warm { waiting, awake, single, busy, no_op, machine })
}

/// Waits for as long as the calls of a record take at the very least, and tells how long it was.
async fn limit() -> Duration {
    let (started, limit) = (Instant::now(), Duration::from_millis(Latencies::NEARBY.limit_ms().into()));
    while started.elapsed() < limit {
        yield_now().await;
    }
    started.elapsed()
}
