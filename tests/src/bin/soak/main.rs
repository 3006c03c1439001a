//! `cargo soak`: thousands of events while the network and the services go wrong.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod report;

use std::process::ExitCode;

use clap::Parser;
use local_stack::{
    build,
    soak::{self, Options, Report},
};

/// Sends events to the functions, three deployments of each side by side with clocks half a second apart, while calls go
/// wrong: late, refused, failed, reset, half-open, cut off. Then looks whether an event was lost, an effect happened twice,
/// a seat was sold twice, or a process grew.
///
/// The exit status is 1 when it finds such a thing, and 2 when nothing could be run. 10,000 events take some minutes.
#[derive(Parser)]
#[command(name = "cargo soak", bin_name = "cargo soak", version, verbatim_doc_comment)]
struct Arguments {
    /// How many events, before copies
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// How many of a hundred calls go wrong, and of a hundred messages come twice
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u8).range(0..=50))]
    percent: u8,
    /// Environments of each deployment
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    environments: u16,
    /// What the chances are drawn from; the same seed sends the same events
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(report) => {
            report::print(&report);
            if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(arguments: &Arguments) -> Result<Report, Box<dyn std::error::Error>> {
    eprintln!("Building the functions ...");
    let binaries = build::functions()?;
    let options = Options {
        events: arguments.events,
        share: f64::from(arguments.percent) / 100.0,
        environments: arguments.environments.into(),
        seed: arguments.seed,
    };
    eprintln!("Sending {} events, with {} % of faults and copies ...", options.events, arguments.percent);
    let mut progress = report::Progress::default();
    Ok(soak::run(options, &binaries, |waiting| progress.tell(waiting)).await?)
}
