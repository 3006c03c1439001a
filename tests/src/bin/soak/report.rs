//! How far a soak is, and what came of it.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};
use local_stack::{
    proxy::{Counts, Fault, Side},
    soak::{Memory, Report, bookings, customers},
};

/// How often somebody who watches is told something.
const PACE: Duration = Duration::from_secs(10);

/// Tells how many messages wait, from time to time.
pub(crate) struct Progress {
    started: Instant,
    told: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self { started: Instant::now(), told: Instant::now() }
    }
}

impl Progress {
    pub(crate) fn tell(&mut self, count: usize, what: &str) {
        if self.told.elapsed() >= PACE {
            self.told = Instant::now();
            eprintln!("  after {} s: {count} {what}", self.started.elapsed().as_secs());
        }
    }
}

/// Prints the tables and the verdict.
pub(crate) fn print(report: &Report) {
    println!("{}\n", network(report));
    println!("{}\n", outcomes(report));
    memory(&report.memory);
    for (what, found) in
        [("LOST", &report.faults.lost), ("DOUBLED", &report.faults.doubled), ("OVERSOLD", &report.faults.oversold)]
    {
        found.iter().for_each(|fault| println!("{what}: {fault}"));
    }
    let faults: usize = report.network.iter().flat_map(|(_, counts)| counts.faults.values()).sum();
    println!(
        "{} events in {} messages, {} invocations and {:.0} s, with {faults} faults: {} lost, {} double effects, {} \
         oversold, memory {}.",
        report.events,
        report.messages,
        report.invocations,
        report.elapsed.as_secs_f64(),
        report.faults.lost.len(),
        report.faults.doubled.len(),
        report.faults.oversold.len(),
        if report.memory.iter().all(Memory::is_flat) { "flat" } else { "GROWS" },
    );
}

/// Prints what became of the bookings, and the verdict.
pub(crate) fn print_bookings(report: &bookings::Report) {
    let mut troubles = table(&["what went wrong with bookings"], &["times"]);
    for (trouble, times) in &report.troubles {
        troubles.add_row([*trouble, &times.to_string()]);
    }
    println!("{troubles}\n");
    let mut outcomes = table(&["how records of bookings ended"], &["times"]);
    for (outcome, times) in &report.outcomes {
        outcomes.add_row([outcome.as_str(), &times.to_string()]);
    }
    println!("{outcomes}\n");
    report.faults.iter().for_each(|fault| println!("FAULT: {fault}"));
    let rows: Vec<String> = report.rows.iter().map(|(status, count)| format!("{count} {status}")).collect();
    println!(
        "{} events about bookings in {} messages, {} of them by topics, {} invocations and {:.0} s: {}; {} batches of topics came \
         again, {} refund requests, {} deadlocks, {} faults.",
        report.events,
        report.messages,
        report.by_topic,
        report.invocations,
        report.elapsed.as_secs_f64(),
        rows.join(", "),
        report.read_again,
        report.refunds,
        report.deadlocks,
        report.faults.len(),
    );
}

/// Prints what became of the customers, and the verdict.
pub(crate) fn print_customers(report: &customers::Report) {
    let mut answers = table(&["what customers were answered"], &["times"]);
    for (answer, times) in &report.answers {
        answers.add_row([answer.as_str(), &times.to_string()]);
    }
    println!("{answers}\n");
    let mut ends = table(&["how reservations ended"], &["times"]);
    for (end, times) in &report.ends {
        ends.add_row([end.as_str(), &times.to_string()]);
    }
    println!("{ends}\n");
    report.breaches.iter().for_each(|breach| println!("BREACH: {breach}"));
    println!(
        "{} requests of customers in {:.0} s, {} processes killed at work, {} answers lost or refused, {} refunds: {} breaches.",
        report.requests,
        report.elapsed.as_secs_f64(),
        report.killed,
        report.faults,
        report.refunds,
        report.breaches.len(),
    );
}

fn network(report: &Report) -> Table {
    let mut table = table(&["what went wrong"], &report.network.each_ref().map(|(name, _)| *name));
    let mut row = |name: &str, count: &dyn Fn(&Counts) -> usize| {
        let counts = report.network.iter().map(|(_, counts)| count(counts).to_string());
        table.add_row(std::iter::once(name.to_owned()).chain(counts));
    };
    for fault in Fault::ALL {
        row(name(fault), &|counts| counts.faults.get(&fault).copied().unwrap_or_default());
    }
    row("of calls in all", &|counts| counts.calls);
    table
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Slow => "late, and good",
        Fault::Refused => "refused: throttled, 429, UNAVAILABLE",
        Fault::Failed(Side::Before) => "failed: 500, DEADLINE_EXCEEDED",
        Fault::Failed(Side::After) => "failed, and carried out",
        Fault::Reset(Side::Before) => "connection reset",
        Fault::Reset(Side::After) => "connection reset, and carried out",
        Fault::HalfOpen(Side::Before) => "connection half open",
        Fault::HalfOpen(Side::After) => "connection half open, and carried out",
        Fault::Truncated => "answer cut off, and carried out",
        Fault::Silent(Side::Before) => "a success without a word",
        Fault::Silent(Side::After) => "a success without a word, and carried out",
        Fault::Page(Side::Before) => "a proxy's page",
        Fault::Page(Side::After) => "a proxy's page, and carried out",
        Fault::Another(Side::Before) => "an answer about something else",
        Fault::Another(Side::After) => "an answer about something else, and carried out",
    }
}

fn outcomes(report: &Report) -> Table {
    let mut table = table(&["how records ended"], &["times"]);
    for (outcome, times) in &report.outcomes {
        table.add_row([outcome.as_str(), &times.to_string()]);
    }
    table.add_row(["sent back after the faults", &report.redriven.to_string()]);
    table.add_row(["dead letters in the end", &report.rejected.to_string()]);
    table
}

fn memory(memory: &[Memory]) {
    let Some(most) = memory.iter().map(|process| process.most).max() else {
        println!("Memory: no process worked long enough to be judged, or this system does not tell.\n");
        return;
    };
    let mean = |of: fn(&Memory) -> u64| memory.iter().map(of).sum::<u64>() / memory.len() as u64;
    let mut table = table(&["memory of a process, KiB"], &["warm", "at the end", "most"]);
    table.add_row([
        format!("mean of {}", memory.len()),
        mean(|process| process.first).to_string(),
        mean(|process| process.last).to_string(),
        most.to_string(),
    ]);
    for process in memory.iter().filter(|process| !process.is_flat()) {
        let Memory { batches, first, last, most } = process;
        table.add_row([format!("GREW in {batches} batches"), first.to_string(), last.to_string(), most.to_string()]);
    }
    println!("{table}\n");
}

fn table(left: &[&str], right: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(left.iter().chain(right).map(|title| title.to_uppercase()));
    for column in table.column_iter_mut().skip(left.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
