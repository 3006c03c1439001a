//! `cargo local`: the functions, unchanged, against everything they talk to, on this machine.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod report;
mod up;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, Subcommand};
use local_stack::{
    build, recast,
    replay::Replay,
    scenario::{self, EventFile},
    stack::{Ports, Stack},
};

/// Runs the function binaries against an in-process stack: Lambda Runtime API, SQS, EventBridge, DynamoDB, the inventory
/// service and the reservation API, all on loopback. Nothing needs to be installed and nothing leaves this machine.
///
/// Without a command it replays the files of events/ (or those named) and prints what became of every record. The exit
/// status is 1 when an outcome is not the one that the event's file promises, and 2 when nothing could be run.
#[derive(Parser)]
#[command(
    name = "cargo local",
    bin_name = "cargo local",
    version,
    verbatim_doc_comment,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Event files to replay, such as events/payment-approved/single.json; all of events/ when none is named.
    files: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Command {
    /// Keeps the stack running for `cargo lambda watch`, with every reservation of events/ in place. Prints the
    /// environment, writes it to target/local.env, and then prints what changes until it is stopped with Ctrl-C.
    Up {
        /// Where the inventory listens, on 127.0.0.1; 0 is any free port
        #[arg(long, value_name = "PORT", default_value_t = 8021)]
        inventory_port: u16,
        /// Where the reservation API listens
        #[arg(long, value_name = "PORT", default_value_t = 8010)]
        reservation_port: u16,
    },
    /// Makes the event files that every function has, for a new event type such as booking.withdrawn: those of another
    /// function, with the new type and with ids that no other file has. Nothing is overwritten.
    New {
        /// The new type, as `detail-type` will name it: small letters and digits, joined by dots
        event_type: String,
        /// The function whose files they are made from, because the new one does the same or nearly so
        #[arg(long, value_name = "FUNCTION")]
        from: String,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        Some(Command::Up { inventory_port, reservation_port }) => {
            up::run(Ports { inventory: inventory_port, reservations: reservation_port }).await
        }
        Some(Command::New { event_type, from }) => new(&event_type, &from),
        None => replay(&arguments.files).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// Makes the files of a new type, and says what to do with them.
fn new(event_type: &str, from: &str) -> Result<bool, Box<dyn std::error::Error>> {
    let function = recast::function_of(event_type)?;
    for path in recast::recast(&scenario::events_folder(), event_type, from)? {
        println!("made {}", path.display());
    }
    println!(
        "\nThey promise what {from} does. Change their bodies, \"about\" and \"then\" to what {function} shall do."
    );
    println!("They can be replayed once {function:?} is one of FUNCTIONS in tests/src/scenario.rs:");
    println!("  cargo local events/{function}/*.json");
    println!("The other steps are in the README under \"How to add an event type\".");
    Ok(true)
}

/// True when every file kept its promise.
async fn replay(files: &[PathBuf]) -> Result<bool, Box<dyn std::error::Error>> {
    let files: Vec<EventFile> = if files.is_empty() {
        scenario::load_all(scenario::events_folder())?
    } else {
        files.iter().map(scenario::load).collect::<Result<_, _>>()?
    };
    eprintln!("Building the functions ...");
    let binaries = build::functions()?;
    let stack = Stack::start().await?;
    let replay = Replay::new(stack.clone(), &binaries)?;

    let started = Instant::now();
    let mut reports = Vec::with_capacity(files.len());
    for file in &files {
        reports.push((file, replay.file(file).await));
    }
    report::print(&reports, &stack, started.elapsed());
    let kept = reports.iter().all(|(_, report)| report.is_as_promised());
    Ok(kept && stack.inventory.oversold().is_empty())
}
