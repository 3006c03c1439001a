//! `cargo local`: the functions, unchanged, against everything they talk to, on this machine.

mod report;
mod services;
mod token;
mod up;

use std::{
    collections::BTreeSet,
    error::Error,
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::Instant,
};

use clap::{Args, Parser, Subcommand};
use local_stack::{
    build::{self, Binaries},
    catalogue::NAMES,
    crowd::{self, Options},
    postgres::{
        Server,
        choice::{self, Choice, Embedded, Wish},
    },
    recast,
    replay::{BOOKING, House, Replay},
    scenario::{self, EventFile},
    stack::Stack,
};
use redrive::terminal::{counted, print, tell, tell_error, width};

const MORE: &str = "\
A message of one's own is any of these, in any folder:
  a Lambda payload, with or without \"scenario\"; its records may have an object as their body
  what `aws sqs receive-message` prints, or one message of it; dead letters too
  an event as it is on the bus, or in one of the other forms that the functions take
  a list of these
  an event of an HTTP API (payload format 2.0), of a table's stream or of the clock
The reservation that an event names is put on hold, the function runs, and what happened is reported without a verdict. The
function is that of the file's folder, of its events or of its queue, unless --function names it.

Bookings are written to a PostgreSQL: that of DATABASE_URL, or else one that is started from this machine's programs (initdb),
or else the embedded one of tests/sidecar. That is built first, once, in about three minutes on two idle cores; with --no-sidecar,
or where it can't be built, the files about bookings are left out instead, and a line says so. Bookings are made in a database of
their own, which is gone afterwards, with the guests jane@example.com and joe@example.com and the rooms 101, 102 and 103.

  aws sqs receive-message --queue-url URL --message-attribute-names All --attribute-names All | cargo local -
  cargo local message.json --write > events/payment-approved/my-case.json

Exit status: 0 every promise was kept; 1 an outcome is not the promised one, an invocation failed, a seat was sold twice, or
the sale broke a promise; 2 nothing could be run: an unreadable file, a failed build, a wrong argument.";

/// Runs the function binaries against an in-process stack: Lambda Runtime API, SQS, EventBridge, DynamoDB, the inventory
/// service and the reservation API, all on loopback. Nothing needs to be installed and nothing leaves this machine.
///
/// Without a command it replays the files of events/ (or those named) and prints what became of every record. Behind all files
/// of events/ a small sale follows: 300 people come for 20 tickets, some of whom leave, stay away, or can't pay. The exit
/// status is 1 when an outcome is not the one that the event's file promises, or a promise of the sale was broken, and 2 when
/// nothing could be run.
#[derive(Parser)]
#[command(
    name = "cargo local",
    bin_name = "cargo local",
    version,
    verbatim_doc_comment,
    after_help = MORE,
    args_conflicts_with_subcommands = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// Files to run: event files, or messages of one's own (see below). A folder means all .json files in it, and - means
    /// standard input. Without any, all of events/ is replayed.
    files: Vec<PathBuf>,
    /// Whose files they are, where neither their folder nor their events say so
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// Leaves out the sale that follows the files of events/
    #[arg(long)]
    no_sale: bool,
    #[command(flatten)]
    sidecar: Sidecar,
    /// Prints the one file as it belongs into events/, with what happened as its promise; the report goes to standard error
    #[arg(long)]
    write: bool,
}

// Without a comment of its own, which clap would show in place of the command's.
#[derive(Args)]
struct Sidecar {
    /// Writes bookings to the embedded PostgreSQL, whatever else there is
    #[arg(long, conflicts_with = "no_sidecar")]
    sidecar: bool,
    /// Does without the embedded PostgreSQL: where there is no other, bookings are left out
    #[arg(long)]
    no_sidecar: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Sells seats on this machine: builds the functions and runs all of them, as the template deploys them, until it is
    /// stopped with Ctrl-C. Prints a sale and a booking, line by line to paste into another terminal, and then what happens.
    /// Nothing is kept.
    Up(up::Options),
    /// Prints an access token for the API of `cargo local up`
    Token(token::Options),
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
        Some(Command::Up(options)) => up::run(&options).await,
        Some(Command::Token(options)) => token::run(&options),
        Some(Command::New { event_type, from }) => new(&event_type, &from),
        None => replay(&arguments).await,
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            tell_error(error.as_ref());
            ExitCode::from(2)
        }
    }
}

/// Makes the files of a new type, and says what to do with them.
fn new(event_type: &str, from: &str) -> Result<bool, Box<dyn Error>> {
    let function = recast::function_of(event_type)?;
    for path in recast::recast(&scenario::events_folder(), event_type, from)? {
        print(format!("made {}", path.display()));
    }
    print("");
    print(format!(
        "They promise what {from} does. Change their bodies, \"about\" and \"then\" to what {function} shall do."
    ));
    print(format!("They can be replayed once {function:?} is one of SETTLING in tests/src/catalogue.rs:"));
    print(format!("  cargo local events/{function}/*.json"));
    print("The other steps are in functions/README.md under \"How to add an event type\".");
    Ok(true)
}

/// True when every file kept its promise.
async fn replay(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let mut files = read(&arguments.files, arguments.function.as_deref())?;
    if arguments.write && files.len() != 1 {
        return Err("--write prints one file; name one".into());
    }
    if arguments.write && files.iter().any(|file| file.invoked.is_some() || file.booked.is_some()) {
        return Err("--write writes batches of settlement; the promise of any other event is yours to write".into());
    }
    let booked = files.iter().filter(|file| file.booked.is_some()).count();
    let found = if booked == 0 { None } else { Some(server(&arguments.sidecar)?) };
    let (server, left_out) = match found {
        None => (None, None),
        Some(Ok(server)) => (Some(server), None),
        Some(Err(why)) => (None, Some(format!("Left out {} about bookings: {why}.", counted(booked, "file")))),
    };
    if let Some(left_out) = &left_out {
        files.retain(|file| file.booked.is_none());
        if files.is_empty() {
            return Err(left_out.clone().into());
        }
    }
    let holds_sale = arguments.files.is_empty() && !arguments.no_sale;
    let functions = files.iter().map(|file| file.function.as_str()).chain(server.iter().flat_map(|_| BOOKING));
    let functions = functions.chain(NAMES.into_iter().filter(|_| holds_sale));
    let functions: BTreeSet<&str> = functions.collect();
    let functions: Vec<&str> = functions.into_iter().collect();
    tell(format!("Building {} ...", functions.join(", ")));
    let binaries = build::these_functions(&functions)?;
    let stack = Stack::start().await?;
    let house = match server {
        Some(server) => Some(House::open(server).await?),
        None => None,
    };
    let replay = Replay::with(stack.clone(), &binaries, house)?;

    let started = Instant::now();
    let mut reports = Vec::with_capacity(files.len());
    for file in &files {
        reports.push((file, replay.file(file).await));
    }
    let mut lines = report::lines(&reports, &stack, started.elapsed(), width());
    replay.end().await?;
    lines.extend(left_out);
    lines.iter().for_each(if arguments.write { |line: &String| tell(line) } else { |line: &String| print(line) });
    if arguments.write {
        for (file, report) in &reports {
            let then = report.promises(&file.scenario.given);
            let then = then.ok_or("a record ended in no way that can be promised, so nothing is written")?;
            std::io::stdout().write_all(scenario::write(file, then)?.as_bytes())?;
        }
        return Ok(reports.iter().all(|(_, report)| report.invocation_fault.is_none()));
    }
    let kept = reports.iter().all(|(_, report)| report.is_as_promised()) && stack.inventory.oversold().is_empty();
    Ok(kept & if holds_sale { hold_sale(&binaries).await? } else { true })
}

/// True when every promise of the small sale was kept.
async fn hold_sale(binaries: &Binaries) -> Result<bool, Box<dyn Error>> {
    let Options { people, tickets, .. } = Options::SMALL;
    tell(format!("{people} people come for {tickets} tickets ..."));
    let report = crowd::hold(Options::SMALL, binaries, |_| ()).await?;
    report.breaches.iter().for_each(|breach| print(format!("✗ the sale: {breach}")));
    print(report.verdict());
    Ok(report.breaches.is_empty())
}

/// A PostgreSQL for the bookings, or why there is none and what brings one. One that was asked for by its name and can't be
/// used is an error; the embedded one, where nobody asked for it, is not.
fn server(wanted: &Sidecar) -> Result<Result<&'static Server, String>, Box<dyn Error>> {
    match choice::choose(wanted.wish(), Embedded::here(), Server::of_this_process) {
        Choice::Found(server) => Ok(Ok(server)),
        Choice::Embedded { announcement, missing } => {
            tell(announcement);
            match (Server::embedded(), missing) {
                (Ok(server), _) => Ok(Ok(server)),
                (Err(error), Some(missing)) => Ok(Err(format!("{error}, and {missing}"))),
                (Err(error), None) => Err(error.into()),
            }
        }
        Choice::LeftOut(why) => Ok(Err(why)),
        Choice::Fault(why) => Err(why.into()),
    }
}

impl Sidecar {
    fn wish(&self) -> Wish {
        match (self.sidecar, self.no_sidecar) {
            (true, _) => Wish::Always,
            (false, true) => Wish::Never,
            (false, false) => Wish::IfNeeded,
        }
    }
}

/// The files that a person named, or those of events/.
fn read(paths: &[PathBuf], function: Option<&str>) -> Result<Vec<EventFile>, Box<dyn Error>> {
    if let Some(function) = function {
        if !NAMES.contains(&function) {
            return Err(format!("there is no function {function:?}; use one of {}", NAMES.join(", ")).into());
        }
        if paths.is_empty() {
            return Err("--function says whose files these are; name them".into());
        }
    }
    if paths.is_empty() {
        return Ok(scenario::load_all(scenario::events_folder())?);
    }
    if paths.iter().any(|path| path.as_os_str() == "-") && std::io::stdin().is_terminal() {
        tell("Reading standard input; end it with Ctrl-D.");
    }
    Ok(scenario::load_these(paths, function)?)
}
