//! `cargo soak`: thousands of events while the network and the services go wrong.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program that people read")]

mod report;

use std::process::ExitCode;

use clap::Parser;
use local_stack::{
    build,
    postgres::{PostgresError, Server},
    soak::{self, Options, Report, bookings, customers},
};

/// Sends events to the functions, three deployments of each side by side with clocks half a second apart, while calls go
/// wrong: late, refused, failed, reset, half-open, cut off. Then looks whether an event was lost, an effect happened twice,
/// a seat was sold twice, or a process grew.
///
/// Then customers reserve, pay, confirm, give up and forget in a whole sale, whose functions are killed and whose answers are
/// lost. What they were told is held against the books: one answer for a key, one owner for a seat, a status that only goes
/// forward, each payment sold or refunded.
///
/// Then guests book few rooms and give them up, by queues and by topics of Kafka, where PostgreSQL's programs are found, while
/// its server crashes, the network and the bus go wrong and functions are killed: one row for a booking, one guest for a room,
/// and each payment for a taken room requested back.
///
/// The exit status is 1 when it finds such a thing, and 2 when nothing could be run. With the defaults it takes a quarter of
/// an hour. 0 events, customers or bookings leave a part out.
#[derive(Parser)]
#[command(name = "cargo soak", bin_name = "cargo soak", version, verbatim_doc_comment)]
struct Arguments {
    /// How many events, before copies
    #[arg(long, default_value_t = 10_000)]
    events: usize,
    /// How many customers of a whole sale, whose functions are killed besides
    #[arg(long, default_value_t = 500)]
    customers: usize,
    /// How many events about bookings
    #[arg(long, default_value_t = 10_000)]
    bookings: usize,
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

/// So many customers are at it at a time.
const AT_ONCE: usize = 40;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(Reports { events, customers, bookings }) => {
            events.iter().for_each(report::print);
            customers.iter().for_each(report::print_customers);
            bookings.iter().for_each(report::print_bookings);
            let clean = events.iter().all(Report::is_clean)
                && customers.iter().all(|customers| customers.breaches.is_empty())
                && bookings.iter().all(|bookings| bookings.faults.is_empty());
            if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

/// What came of each part that was not left out.
struct Reports {
    events: Option<Report>,
    customers: Option<customers::Report>,
    bookings: Option<bookings::Report>,
}

async fn run(arguments: &Arguments) -> Result<Reports, Box<dyn std::error::Error>> {
    eprintln!("Building the functions ...");
    let binaries = build::functions()?;
    let share = f64::from(arguments.percent) / 100.0;
    let events = if arguments.events > 0 {
        let (events, environments, seed) = (arguments.events, arguments.environments.into(), arguments.seed);
        eprintln!("Sending {events} events, with {} % of faults and copies ...", arguments.percent);
        let mut progress = report::Progress::default();
        let options = Options { events, share, environments, seed };
        Some(soak::run(options, binaries, |waiting| progress.tell(waiting, "messages wait")).await?)
    } else {
        None
    };
    let customers = if arguments.customers > 0 {
        let (customers, at_once, seed) = (arguments.customers, AT_ONCE, arguments.seed);
        eprintln!("Letting {customers} customers in, while functions are killed and answers are lost ...");
        let mut progress = report::Progress::default();
        let options = customers::Options { customers, at_once, share, seed };
        Some(customers::run(options, binaries, |done| progress.tell(done, "customers are done")).await?)
    } else {
        None
    };
    let bookings = if arguments.bookings > 0 { book(arguments).await? } else { None };
    Ok(Reports { events, customers, bookings })
}

/// The bookings, where there is a PostgreSQL.
async fn book(arguments: &Arguments) -> Result<Option<bookings::Report>, Box<dyn std::error::Error>> {
    let server = match Server::of_our_own() {
        Ok(server) => server,
        Err(error @ PostgresError::NotFound) => {
            eprintln!("The bookings are left out: {error}.");
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let (events, seed) = (arguments.bookings, arguments.seed);
    let binaries = build::these_functions(&["booking-created", "booking-cancelled"])?;
    eprintln!("Sending {events} events about bookings, while the database and the network go wrong ...");
    let mut progress = report::Progress::default();
    let options = bookings::Options { events, seed };
    let told = |waiting| progress.tell(waiting, "messages wait");
    Ok(Some(bookings::run(options, &binaries, server, told).await?))
}
