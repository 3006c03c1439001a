//! `cargo removals`: takes the worker's guards out one at a time, and looks whether the tests notice.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod copy;
mod report;
mod trial;

use std::{collections::BTreeSet, error::Error, process::ExitCode, time::Instant};

use clap::{Parser, builder::PossibleValuesParser};
use local_stack::removals::{GUARDS, REMOVALS, Removal, Test};

use self::{
    copy::WorkingCopy,
    report::Report,
    trial::{Bench, Verdict},
};

/// Takes one guard of the functions after the other out of a copy of this workspace, and runs the test that is named for it.
/// A test that still passes, or fails for another reason, does not watch its guard. The workspace itself is not touched.
///
/// Before that, every named test must pass in the copy as it is; those of pages need Chromium and axe-core, as tests/README.md
/// says, and those of bookings PostgreSQL's programs. The copy lies in the target directory with a target directory of its
/// own, so the first run compiles everything once more.
///
/// The exit status is 1 when a removal did not turn its test red, or did not compile, and 2 when nothing could be run: a test
/// that fails with nothing removed, or a removal that finds its text not exactly once.
#[derive(Parser)]
#[command(name = "cargo removals", bin_name = "cargo removals", version, verbatim_doc_comment)]
struct Arguments {
    /// The guards to take out; all of them when none is named
    #[arg(value_parser = PossibleValuesParser::new(GUARDS.iter().copied()))]
    guards: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let chosen = |removal: &Removal| arguments.guards.is_empty() || arguments.guards.iter().any(|g| g == removal.guard);
    let removals: Vec<Removal> = REMOVALS.iter().copied().filter(chosen).collect();
    match run(&removals) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// True when every removal turned its test red.
fn run(removals: &[Removal]) -> Result<bool, Box<dyn Error>> {
    let started = Instant::now();
    let copy = WorkingCopy::of_workspace()?;
    let bench = Bench::new(&copy);
    for removal in removals {
        removal.applied_to(&copy.read(removal.file)?)?; // Now, and not after a quarter of an hour.
    }
    let tests: BTreeSet<Test> = removals.iter().map(|removal| removal.test).collect();
    eprintln!("With nothing removed: {} ...", report::counted(tests.len(), "test"));
    bench.all_pass(&tests)?;
    eprintln!("They pass ({:.0} s).", started.elapsed().as_secs_f64());

    let mut reports = Vec::with_capacity(removals.len());
    for removal in removals {
        eprintln!("Without the {}: {} ...", removal.guard, removal.then);
        let started = Instant::now();
        let original = copy.read(removal.file)?;
        copy.write(removal.file, &removal.applied_to(&original)?)?;
        let verdict = bench.verdict(removal);
        copy.write(removal.file, &original)?;
        let report = Report { removal, verdict: verdict?, elapsed: started.elapsed() };
        eprintln!("  {}", report::said(&report.verdict));
        reports.push(report);
    }
    report::print(&reports, started.elapsed());
    Ok(reports.iter().all(|report| matches!(report.verdict, Verdict::Red(_))))
}
