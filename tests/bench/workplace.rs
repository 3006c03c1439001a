//! Where the figures are taken: the binaries, and the cores that they and the driver have to themselves.

use std::{future::Future, io, path::Path};

use local_stack::{
    build::{Binaries, BuildError, by_profile},
    cores,
    scenario::FUNCTIONS,
};
use tokio::runtime::Builder;

use crate::{arguments::Arguments, batch::FUNCTION, sections::Section};

/// The function that does nothing, an example of `shared`.
pub(crate) const NO_OP: &str = "no_op";

/// What every measurement needs to know.
pub(crate) struct Workplace {
    pub(crate) binaries: Binaries,
    quick: bool,
    cores: Vec<usize>,
}

impl Workplace {
    /// Builds what is to be measured.
    pub(crate) fn prepare(arguments: &Arguments, sections: &[Section]) -> Result<Self, BuildError> {
        // The sizes need each function; everything else needs one, and linking one may take minutes.
        let functions = if sections.contains(&Section::Size) { &FUNCTIONS[..] } else { &[FUNCTION] };
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-functions");
        let binaries = by_profile(&arguments.profile, &target, functions, &[NO_OP])?;
        Ok(Self { binaries, quick: arguments.quick, cores: cores::allowed() })
    }

    /// How often something is measured.
    pub(crate) fn runs(&self, full: usize, quick: usize) -> usize {
        if self.quick { quick } else { full }
    }

    /// The cores of the driver and of the function, if each can have one to itself.
    pub(crate) fn own_cores(&self) -> Option<(usize, usize)> {
        match self.cores[..] {
            [driver, function, ..] => Some((driver, function)),
            _ => None,
        }
    }

    /// How many cores there are; none when the system does not tell.
    pub(crate) fn cores(&self) -> Option<usize> {
        Some(self.cores.len()).filter(|cores| *cores > 0)
    }

    /// Runs a measurement with the driver, all services included, on its own core.
    pub(crate) fn bound<T>(&self, measurement: impl Future<Output = T>) -> io::Result<T> {
        if let Some((driver, _)) = self.own_cores() {
            cores::bind(&[driver])?;
        }
        Ok(Builder::new_current_thread().enable_all().build()?.block_on(measurement))
    }

    /// Runs a measurement on all cores, with a driver of as many threads.
    pub(crate) fn unbound<T>(&self, measurement: impl Future<Output = T>) -> io::Result<T> {
        if self.cores().is_some() {
            cores::bind(&self.cores)?;
        }
        Ok(Builder::new_multi_thread().enable_all().build()?.block_on(measurement))
    }
}
