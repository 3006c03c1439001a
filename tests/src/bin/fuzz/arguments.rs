//! What the program is told.

use std::{num::NonZeroU32, path::PathBuf};

use clap::{Parser, ValueEnum};

use crate::program;

/// How long a run is when nothing is said.
const MINUTES: u32 = 10;

/// Hands made-up inputs to what reads the words of strangers, and judges what becomes of each: message bodies to the
/// event parser, events of an HTTP API to its adapter, requests to what reads those of the reservation API, events of Kafka
/// to a function that reads topics of bookings. An input must be read or refused without a panic; tests/fuzz has every rule,
/// in oracle.rs, exchange.rs, wish.rs, admission.rs and topic.rs.
///
/// Inputs grow out of the files of events/ and the examples of the API's document by libFuzzer, which keeps what reaches
/// new code. What reads them is built with debug assertions and overflow checks, in a folder of its own under cargo's
/// target directory.
#[derive(Parser)]
#[command(name = "cargo fuzz-events", bin_name = "cargo fuzz-events", version, verbatim_doc_comment, after_help = more())]
pub(crate) struct Arguments {
    /// What reads the inputs
    #[arg(long, value_name = "TARGET", value_enum, default_value_t = Target::Event)]
    target: Target,
    /// Hand it these inputs once, such as one that a run has found, and make up none
    #[arg(value_name = "FILE", conflicts_with_all = ["minutes", "runs", "seed"])]
    files: Vec<PathBuf>,
    /// Run this long, from the corpus of the last such run on [default: 10]
    #[arg(long, value_name = "M", conflicts_with = "runs", value_parser = clap::value_parser!(u32).range(1..))]
    minutes: Option<u32>,
    /// Run this many inputs, from events/ alone: with the same seed and the same code they are the same inputs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: Option<u64>,
    /// Where the random numbers start; 1 for --runs, otherwise another one each time
    #[arg(long, value_name = "S")]
    seed: Option<NonZeroU32>,
}

fn more() -> String {
    format!(
        "\
Exit status: 0 no fault; 1 an input brought a fault to light, and the command that hands it to the parser again is
printed; 2 nothing could be run: a wrong argument, no cargo-fuzz, a failed build.

It needs a C++ compiler, and cargo-fuzz: cargo install cargo-fuzz --version {} --locked",
        program::pinned_cargo_fuzz()
    )
}

/// What reads the inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Target {
    /// The parser of message bodies.
    Event,
    /// The adapter of an HTTP API.
    Http,
    /// What reads a request to the reservation API.
    Request,
    /// A function behind a topic of bookings.
    Kafka,
}

impl Target {
    /// As its program is called, and its folder.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Http => "http",
            Self::Request => "request",
            Self::Kafka => "kafka",
        }
    }
}

/// What is to be done.
pub(crate) enum Task {
    /// To look for new inputs.
    Fuzz(Plan),
    /// To hand known inputs over, once.
    Replay(Target, Vec<PathBuf>),
}

/// A run of the fuzzer.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) target: Target,
    pub(crate) limit: Limit,
    /// Without one, libFuzzer takes one by chance.
    pub(crate) seed: Option<NonZeroU32>,
}

/// When a run ends.
#[derive(Clone, Copy)]
pub(crate) enum Limit {
    /// After this time. Such a run goes on from what the last one has kept.
    Minutes(u32),
    /// After this many inputs. Such a run starts anew, so that it is the same each time.
    Runs(u64),
}

impl Arguments {
    /// What is to be done.
    pub(crate) fn task(self) -> Task {
        if !self.files.is_empty() {
            return Task::Replay(self.target, self.files);
        }
        let (limit, seed) = match self.runs {
            Some(runs) => (Limit::Runs(runs), self.seed.or(Some(NonZeroU32::MIN))),
            None => (Limit::Minutes(self.minutes.unwrap_or(MINUTES)), self.seed),
        };
        Task::Fuzz(Plan { target: self.target, limit, seed })
    }
}
