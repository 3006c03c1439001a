//! Where the figures are taken: the binaries, and the cores that they and the driver have to themselves.

use std::{collections::BTreeSet, future::Future, io, path::Path};

use local_stack::{
    build::{Binaries, BuildError, by_profile},
    catalogue::NAMES,
    cores::{self, Awake},
};
use tokio::{runtime::Builder, task::yield_now};
use tokio_util::task::AbortOnDropHandle;

use crate::{api::API, arguments::Arguments, batch::FUNCTION, bookings::BOOKING, sections::Section};

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
        // The sizes need each function; every other part needs one, and linking one may take minutes.
        let needed = |section: &Section| match section {
            Section::Size => NAMES.to_vec(),
            Section::Bookings => vec![BOOKING],
            Section::Api => vec![API],
            Section::Cold | Section::Warm | Section::Cost | Section::Memory | Section::Scale => vec![FUNCTION],
        };
        let functions: BTreeSet<&str> = sections.iter().flat_map(needed).collect();
        let functions: Vec<&str> = functions.into_iter().collect();
        let binaries = if let Some(folder) = &arguments.binaries {
            let names = functions.iter().copied().chain([NO_OP]);
            names.map(|name| (name.to_owned(), folder.join(name))).collect()
        } else {
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench-functions");
            by_profile(&arguments.profile, &target, &functions, &[NO_OP])?
        };
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

    /// Keeps the function's core from going to sleep, if it has one to itself.
    pub(crate) fn awake(&self) -> Option<Awake> {
        self.own_cores().and_then(|(_, function)| Awake::keep(function).ok())
    }

    /// How many cores there are; none when the system does not tell.
    pub(crate) fn cores(&self) -> Option<usize> {
        Some(self.cores.len()).filter(|cores| *cores > 0)
    }

    /// Runs a measurement with the driver, all services included, on its own core. It never sleeps there: how long this
    /// machine takes to wake a core is no figure of the functions.
    pub(crate) fn bound<T>(&self, measurement: impl Future<Output = T>) -> io::Result<T> {
        if let Some((driver, _)) = self.own_cores() {
            cores::bind(&[driver])?;
        }
        let awake = async {
            loop {
                yield_now().await;
            }
        };
        let measured = async {
            let _awake = AbortOnDropHandle::new(tokio::spawn(awake));
            measurement.await
        };
        Ok(Builder::new_current_thread().enable_all().build()?.block_on(measured))
    }

    /// Runs a measurement on all cores, with a driver of as many threads.
    pub(crate) fn unbound<T>(&self, measurement: impl Future<Output = T>) -> io::Result<T> {
        if self.cores().is_some() {
            cores::bind(&self.cores)?;
        }
        Ok(Builder::new_multi_thread().enable_all().build()?.block_on(measurement))
    }
}
