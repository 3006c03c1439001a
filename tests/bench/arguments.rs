//! The command line.

use std::path::PathBuf;

use clap::Parser;

use crate::sections::Section;

/// Measures what a function costs: the binaries as they are deployed, driven through the Runtime API on one core, with every
/// service that they call on another. Each figure is a median, shown with the range of nine of ten measurements, and beside
/// it stand its limit, its floor and the bar that it is held against.
///
/// A full run takes some minutes, and the first build of the functions as many more. The exit status is 1 when a record was
/// not settled exactly once, which makes the run invalid, and 2 when nothing could be run. A missed bar does not change it.
#[derive(Parser)]
#[command(name = "cargo bench", bin_name = "cargo bench --package local-stack --", version, verbatim_doc_comment)]
pub(crate) struct Arguments {
    /// Fewer measurements of each figure: to see that all works, not for figures
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART,...")]
    pub(crate) only: Vec<Section>,
    /// Draw the figures and their bars as an SVG, for a README; a path is one below tests/
    #[arg(long, value_name = "FILE")]
    pub(crate) picture: Option<PathBuf>,
    /// The profile of the functions; `release` is what is deployed
    #[arg(long, default_value = "release")]
    pub(crate) profile: String,
    /// Build nothing, and measure the functions and the no_op that lie in this folder: to compare builds with each other
    #[arg(long, value_name = "FOLDER", conflicts_with = "profile")]
    pub(crate) binaries: Option<PathBuf>,
    /// What cargo says when it runs a benchmark
    #[arg(long, hide = true)]
    pub(crate) bench: bool,
}

impl Arguments {
    /// Where the functions come from.
    pub(crate) fn origin(&self) -> String {
        match &self.binaries {
            Some(folder) => format!("as they lie in {}", folder.display()),
            None => format!("built by the profile {}", self.profile),
        }
    }
}
