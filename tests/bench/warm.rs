//! The latency of a warm batch of ten, from handing it over to its answer.

use crate::{
    batch::FUNCTION,
    cold::millis,
    figure::Figure,
    stage::{Latencies, Stage, settle, settle_warm},
    stop::Stop,
    workplace::{NO_OP, Workplace},
};

pub(crate) const BATCH: usize = 10;

/// The first batches fill pools and caches.
const UNCOUNTED: usize = 20;

/// Milliseconds.
pub(crate) struct Warm {
    /// With services that take their time, so that the sum of their latencies is the limit.
    pub(crate) waiting: Figure,
    /// With services that answer at once.
    pub(crate) busy: Figure,
    /// The no-op function, handed the same events.
    pub(crate) no_op: Figure,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Warm, Stop> {
    let mut stage = Stage::set().await?;
    let (no_op, ours) = (stage.deploy(workplace, NO_OP)?, stage.deploy(workplace, FUNCTION)?);
    let first = stage.batch(BATCH)?;
    settle(&no_op, &first).await?;
    settle(&ours, &first).await?;
    let (mut waiting, mut busy, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..UNCOUNTED + workplace.runs(1_000, 100) {
        stage.delay(Latencies::NEARBY);
        let batch = stage.batch(BATCH)?;
        waiting.push(settle_warm(&ours, &batch).await?.duration);
        stage.delay(Latencies::NONE);
        let batch = stage.batch(BATCH)?;
        floor.push(settle_warm(&no_op, &batch).await?.duration);
        busy.push(settle_warm(&ours, &batch).await?.duration);
        stage.stack.aws.clear_requests(); // Nobody reads them here, and they would only grow.
    }
    stage.close().await?;
    let counted = |times: Vec<_>| millis(times.into_iter().skip(UNCOUNTED));
    Ok(Warm { waiting: counted(waiting), busy: counted(busy), no_op: counted(floor) })
}
