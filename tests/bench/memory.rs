//! The most that a process ever holds in memory.

use local_stack::process::Process;

use crate::{
    batch::FUNCTION,
    figure::Figure,
    stage::{Latencies, Stage, settle},
    stop::Stop,
    warm::BATCH,
    workplace::Workplace,
};

/// The largest batch that is measured, a hundred times the usual one.
pub(crate) const LARGE_BATCH: usize = 1_000;

/// Peaks of processes, in MiB.
pub(crate) struct Memory {
    pub(crate) usual: Figure,
    pub(crate) large: Figure,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Memory, Stop> {
    let processes = workplace.runs(7, 2);
    Ok(Memory {
        usual: peaks(workplace, processes, BATCH, workplace.runs(100, 20)).await?,
        large: peaks(workplace, processes, LARGE_BATCH, workplace.runs(4, 2)).await?,
    })
}

/// The peak of each of several processes after so many batches. The services take their time, as records that wait for them
/// are what fills a process.
async fn peaks(workplace: &Workplace, processes: usize, records: usize, batches: usize) -> Result<Figure, Stop> {
    let mut stage = Stage::set().await?;
    stage.delay(Latencies::NEARBY);
    let function = stage.deploy(workplace, FUNCTION)?;
    let mut peaks = Vec::new();
    for _ in 0..processes {
        function.recycle();
        let mut process = None;
        for _ in 0..batches {
            process = settle(&function, &stage.batch(records)?).await?.process;
        }
        let peak = process.and_then(|process| Process(process).peak_kib());
        peaks.push(peak.ok_or(Stop::unable("this system does not tell what a process holds"))? as f64 / 1_024.0);
        stage.stack.aws.clear_requests();
    }
    stage.close().await?;
    Ok(Figure::of(peaks))
}
