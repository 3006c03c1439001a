//! `cargo sale`: a whole sale on this machine, from the first click to the last ticket.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod picture;
mod report;

use std::{fs, io, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use local_stack::{
    build,
    crowd::{self, Options, Windows},
};

/// Lets people come to a line, far more than there are tickets, and watches it until all are sold and everybody knows: on the
/// real functions, one process for each environment, against everything that they talk to on this machine. Some are absent,
/// leave, sit in two tabs, pay too late or in vain, and functions are killed at work unless --calm spares them.
///
/// Prints how far it is, then a table, and draws a picture. Times are those of this machine, which takes longer than Lambda:
/// how long the people took to come, because it could not take more of them, is among them. Whoever waits reads the public
/// status, one answer for all as from a cache, and asks for his own place when that has news for him. With windows so short
/// that this machine can't serve in them all who are called at once, nobody gets to his reservation in time.
///
/// The exit status is 1 when somebody was lost or has two places, when more tickets were given out or sold than there are, or
/// when one stayed free while somebody waited; and 2 when nothing could be run.
#[derive(Parser)]
#[command(name = "cargo sale", bin_name = "cargo sale", version, verbatim_doc_comment)]
struct Arguments {
    /// How many people come
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    people: u32,
    /// How many tickets there are
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    tickets: u32,
    /// Within how many seconds they come
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    /// From a call to its claim, in seconds
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(4..=900))]
    call_window: u16,
    /// From the claim to the reservation, in seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(10..=900))]
    booking_window: u16,
    /// From the reservation to its end if nobody pays, in seconds
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u16).range(30..=900))]
    hold: u16,
    /// Kills nobody
    #[arg(long)]
    calm: bool,
    /// What the chances are drawn from
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where the picture goes
    #[arg(long, value_name = "FILE", default_value = "target/sale.svg")]
    picture: PathBuf,
}

/// The longest that a tab waits between two questions before it knows its place.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// True when every promise was kept.
async fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    eprintln!("Building the functions ...");
    let binaries = build::release_functions()?;
    let seconds = |number: u16| Duration::from_secs(number.into());
    let options = Options {
        people: arguments.people,
        tickets: arguments.tickets,
        arrive_within: Duration::from_secs(arguments.seconds.into()),
        windows: Windows {
            call: seconds(arguments.call_window),
            booking: seconds(arguments.booking_window),
            hold: seconds(arguments.hold),
            longest_wait: LONGEST_WAIT,
        },
        some_pay_late: true,
        reads_board: true,
        is_calm: arguments.calm,
        seed: arguments.seed,
    };
    eprintln!("Letting {} people come for {} tickets ...", options.people, options.tickets);
    let mut pace = report::Pace::default();
    let report = crowd::hold(options, &binaries, |progress| pace.tell(progress)).await?;
    print!("{}", report::table(&report));
    if let Some(folder) = arguments.picture.parent() {
        fs::create_dir_all(folder)?;
    }
    let written = fs::write(&arguments.picture, picture::draw(&report));
    let at = arguments.picture.display();
    written.map_err(|error| io::Error::new(error.kind(), format!("write the picture {at}: {error}")))?;
    println!("The picture is {at}.");
    report.breaches.iter().for_each(|breach| println!("BREACH: {breach}"));
    println!("{}", report.verdict());
    Ok(report.breaches.is_empty())
}
