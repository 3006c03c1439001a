//! Cold starts: from starting the process to its first poll, and on to its first answer.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    batch::FUNCTION,
    figure::Figure,
    stage::{Stage, settle},
    stop::Stop,
    warm::BATCH,
    workplace::{NO_OP, Workplace},
};

/// The first starts read the program from the disk, which Lambda's image cache does elsewhere.
pub(crate) const UNCOUNTED: usize = 2;

/// How long a killed process may take to give its memory back; the next one starts on the same core.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// The starts of one program, in milliseconds.
pub(crate) struct Starts {
    pub(crate) first_poll: Figure,
    /// To the answer for a batch of ten, with services that answer at once.
    pub(crate) first_answer: Figure,
}

impl Starts {
    /// Of starts whose first ones are not counted: the time to the first poll, and to the first answer.
    pub(crate) fn of(starts: &[(Duration, Duration)]) -> Self {
        Self {
            first_poll: Figure::millis(starts.iter().skip(UNCOUNTED).map(|(poll, _)| *poll)),
            first_answer: Figure::millis(starts.iter().skip(UNCOUNTED).map(|(_, answer)| *answer)),
        }
    }
}

pub(crate) struct Cold {
    pub(crate) ours: Starts,
    pub(crate) no_op: Starts,
}

/// Starts both in turn, so that whatever else the machine does hits both.
pub(crate) async fn measure(workplace: &Workplace) -> Result<Cold, Stop> {
    let mut stage = Stage::set().await?;
    let functions = [stage.deploy(workplace, NO_OP)?, stage.deploy(workplace, FUNCTION)?];
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..UNCOUNTED + workplace.runs(50, 10) {
        let batch = stage.batch(BATCH)?;
        for (function, starts) in functions.iter().zip(&mut starts) {
            function.recycle();
            sleep(PAUSE).await;
            let invocation = settle(function, &batch).await?;
            let init = invocation.init.ok_or(Stop::unable("a process was not started anew"))?;
            starts.push((init, init + invocation.duration));
        }
    }
    stage.close().await?;
    let [no_op, ours] = starts.map(|starts| Starts::of(&starts));
    Ok(Cold { ours, no_op })
}
