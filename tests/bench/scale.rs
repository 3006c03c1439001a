//! Environments side by side: how many records they settle in a second, and how that grows.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use local_stack::lambda::Function;
use tokio::task::JoinSet;

use crate::{
    batch::{Batch, FUNCTION},
    cost::cpu_time,
    figure::Figure,
    stage::{Latencies, Stage, settle},
    stop::Stop,
    warm::BATCH,
    workplace::Workplace,
};

/// How many environments are tried.
const STEPS: [usize; 4] = [1, 2, 4, 8];

pub(crate) struct Scale {
    /// With services that answer at once: every environment wants a core.
    pub(crate) busy: Vec<Step>,
    /// With services that take their time: environments mostly wait.
    pub(crate) waiting: Vec<Step>,
}

/// So many environments side by side.
pub(crate) struct Step {
    pub(crate) environments: usize,
    /// Records settled in a second, by all of them together.
    pub(crate) rate: Figure,
    /// The functions' processor time for a thousand records, in milliseconds.
    pub(crate) processor: Figure,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Scale, Stop> {
    let mut scale = Scale { busy: Vec::new(), waiting: Vec::new() };
    for environments in STEPS {
        scale.busy.push(step(workplace, environments, Latencies::NONE).await?);
        scale.waiting.push(step(workplace, environments, Latencies::NEARBY).await?);
    }
    Ok(scale)
}

async fn step(workplace: &Workplace, environments: usize, latencies: Latencies) -> Result<Step, Stop> {
    let mut stage = Stage::set().await?;
    stage.delay(latencies);
    let function = stage.deploy_with(workplace, FUNCTION, environments, None, BTreeMap::new())?;
    let (mut rates, mut times) = (Vec::new(), Vec::new());
    let mut used: BTreeMap<u32, Duration> = BTreeMap::new();
    // The first round starts the processes and is not counted.
    for round in 0..=workplace.runs(9, 3) {
        let mut share = || (0..30).map(|_| stage.batch(BATCH)).collect::<Result<Vec<_>, _>>();
        let shares = (0..environments).map(|_| share()).collect::<Result<Vec<_>, _>>()?;
        let records: usize = shares.iter().map(|share| share.len() * BATCH).sum();
        let started = Instant::now();
        let processes = side_by_side(&function, shares).await?;
        let elapsed = started.elapsed();
        let now = processes.into_iter().map(|process| Ok((process, cpu_time(Some(process))?)));
        let now: BTreeMap<u32, Duration> = now.collect::<Result<_, Stop>>()?;
        let total = |used: &BTreeMap<u32, Duration>| used.values().sum::<Duration>();
        if round > 0 {
            if !now.keys().eq(used.keys()) {
                return Err(Stop::invalid(
                    "a process ended between two batches, and another took its place".to_owned(),
                ));
            }
            rates.push(records as f64 / elapsed.as_secs_f64());
            times.push((total(&now) - total(&used)).as_secs_f64() * 1_000.0 * 1_000.0 / records as f64);
        }
        used = now;
        stage.stack.aws.clear_requests();
    }
    stage.close().await?;
    Ok(Step { environments, rate: Figure::of(rates), processor: Figure::of(times) })
}

/// Works each share of batches one after the other, and the shares side by side; tells which processes did it.
async fn side_by_side(function: &Function, shares: Vec<Vec<Batch>>) -> Result<Vec<u32>, Stop> {
    let mut working = JoinSet::new();
    for share in shares {
        let function = function.clone();
        working.spawn(async move {
            let mut processes = Vec::new();
            for batch in &share {
                processes.extend(settle(&function, batch).await?.process);
            }
            Ok::<_, Stop>(processes)
        });
    }
    let mut all = Vec::new();
    while let Some(worked) = working.join_next().await {
        all.extend(worked??);
    }
    all.sort_unstable();
    all.dedup();
    Ok(all)
}
