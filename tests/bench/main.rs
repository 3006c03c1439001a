//! `cargo bench`: what a function costs in time, processor, memory and money, and what it could cost at best.
//!
//! It is no test: `cargo test` asserts counts, such as the requests of a record, and never durations. What makes a run
//! invalid is a record that was not settled exactly once, because the figures would then be those of something else.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod arguments;
mod sections;

mod workplace;

mod audit;
mod batch;
mod stage;

mod api;
mod bookings;
mod cold;
mod cost;
mod memory;
mod relay;
mod room;
mod scale;
mod size;
mod warm;

mod bar;
mod figure;
mod goals;
mod picture;
mod price;
mod report;

mod stop;

use std::{fs, process::ExitCode};

use clap::Parser;

use self::{
    arguments::Arguments,
    sections::{Results, Section},
    stop::Stop,
    workplace::Workplace,
};

/// So many faults of an invalid run say what went wrong; the rest is more of the same.
const SHOWN: usize = 10;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.bench {
        // `cargo test --all-targets` runs this program too, and what follows takes minutes.
        eprintln!("Nothing is measured: this is for cargo bench.");
        return ExitCode::SUCCESS;
    }
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((section, Stop::Invalid(faults))) => {
            println!("INVALID: {}: not every record was settled exactly once", section.map_or("", Section::title));
            faults.iter().take(SHOWN).for_each(|fault| println!("  {fault}"));
            if faults.len() > SHOWN {
                println!("  and {} more", faults.len() - SHOWN);
            }
            ExitCode::FAILURE
        }
        Err((section, Stop::Unable(error))) => {
            let during = section.map(|section| format!("{}: ", section.title()));
            eprintln!("error: {}{error}", during.unwrap_or_default());
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), (Option<Section>, Stop)> {
    let chosen = |section: &Section| arguments.only.is_empty() || arguments.only.contains(section);
    let sections: Vec<Section> = Section::ALL.into_iter().filter(chosen).collect();
    eprintln!("The functions: {} ...", arguments.origin());
    let workplace = Workplace::prepare(arguments, &sections).map_err(|error| (None, error.into()))?;

    let mut results = Results::default();
    for section in sections {
        eprintln!("Measuring: {} ...", section.title());
        section.measure(&workplace, &mut results).map_err(|stop| (Some(section), stop))?;
    }
    let bars = goals::bars(&results, &workplace);
    report::print(&results, &bars, &workplace, arguments);
    if let Some(file) = &arguments.picture {
        fs::write(file, picture::draw(&bars)).map_err(|error| (None, error.into()))?;
        println!("\nThe picture is in {}.", file.display());
    }
    Ok(())
}
