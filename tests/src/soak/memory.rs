//! Whether the functions' processes stay as large as they were.

use std::collections::BTreeMap;

use crate::{lambda::Invocation, process::Process};

/// A process is measured once it has worked so many batches: the first ones fill pools and buffers.
const WARM_AFTER: usize = 10;

/// How many batches make a figure, so that one large batch does not decide.
const WINDOW: usize = 10;

/// More than this is growth, in KiB and in parts of what it was.
const GROWTH_KIB: u64 = 2_048;
const GROWTH_SHARE: f64 = 0.2;

/// What one process held in its memory, in KiB.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Memory {
    /// The batches that it worked.
    pub batches: usize,
    /// The mean when it was warm.
    pub first: u64,
    /// The mean at the end.
    pub last: u64,
    /// The most.
    pub most: u64,
}

impl Memory {
    /// Whether it did not grow.
    pub fn is_flat(&self) -> bool {
        let growth = self.last.saturating_sub(self.first);
        growth <= GROWTH_KIB || (growth as f64) <= self.first as f64 * GROWTH_SHARE
    }
}

/// The sizes of each process after each of its batches.
#[derive(Debug, Default)]
pub(super) struct Samples(BTreeMap<u32, Vec<u64>>);

impl Samples {
    /// Looks at the process that has just answered. Where the system does not tell, there is nothing to see.
    pub(super) fn take(&mut self, invocation: &Invocation) {
        let Some(process) = invocation.process else { return };
        if let Some(resident) = Process(process).resident_kib() {
            self.0.entry(process).or_default().push(resident);
        }
    }

    /// The processes that worked long enough to be judged.
    pub(super) fn memory(&self) -> Vec<Memory> {
        let long_enough = self.0.values().filter(|sizes| sizes.len() >= WARM_AFTER + 2 * WINDOW);
        long_enough.map(|sizes| of(sizes)).collect()
    }
}

fn of(sizes: &[u64]) -> Memory {
    let mean = |sizes: &[u64]| sizes.iter().sum::<u64>() / sizes.len().max(1) as u64;
    let batches = sizes.len();
    let first = mean(&sizes[WARM_AFTER..WARM_AFTER + WINDOW]);
    Memory { batches, first, last: mean(&sizes[batches - WINDOW..]), most: sizes.iter().copied().max().unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_grows_with_every_batch_is_not_flat() {
        let grows: Vec<u64> = (0..200).map(|batch| 20_000 + batch * 40).collect();
        assert!(!of(&grows).is_flat(), "{:?}", of(&grows));
        let wobbles: Vec<u64> = (0..200).map(|batch| 20_000 + batch % 7 * 100).collect();
        assert!(of(&wobbles).is_flat(), "{:?}", of(&wobbles));
        // Pools fill at first, which is no growth.
        let fills: Vec<u64> = (0..200).map(|batch| 10_000 + batch.min(10) * 1_000).collect();
        assert!(of(&fills).is_flat(), "{:?}", of(&fills));
    }
}
