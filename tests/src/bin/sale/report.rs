//! How far a sale is, and what came of it.

use std::time::{Duration, Instant};

use comfy_table::{Table, presets};
use local_stack::{
    aws::units,
    crowd::{Counts, Fate, Progress, Report},
    price::{self, Item},
};

/// How long an answer is billed on Lambda, in seconds, and the gigabytes of its function: what .template/README.md assumes too.
const BILLED: (f64, f64) = (0.025, 0.25);

/// How often somebody who watches is told something.
const PACE: Duration = Duration::from_secs(5);

/// Tells how far it is, from time to time.
pub(crate) struct Pace {
    started: Instant,
    told: Instant,
}

impl Default for Pace {
    fn default() -> Self {
        Self { started: Instant::now(), told: Instant::now() }
    }
}

impl Pace {
    pub(crate) fn tell(&mut self, Progress { joined, called, sold, done }: Progress) {
        if self.told.elapsed() >= PACE {
            self.told = Instant::now();
            let seconds = self.started.elapsed().as_secs();
            eprintln!(
                "  after {seconds} s: {joined} have a place, {called} were called, {sold} tickets are sold, {done} people are done"
            );
        }
    }
}

/// What was measured, a line for each.
pub(crate) fn table(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut row = |what: &str, measured: String| {
        table.add_row([what.to_owned(), measured]);
    };
    let people = f64::from(report.options.people);
    let windows = report.options.windows;
    row(
        "the call, the booking and the hold last",
        [windows.call, windows.booking, windows.hold].map(seconds).join(", "),
    );
    row(
        "people, and how long they took to come",
        format!("{}, {}", report.options.people, seconds(report.arrived_within)),
    );
    row("all had a place after", seconds(report.placed_within));
    row("place known after the join: median, 99 %", percentiles(&report.known_after));
    row("wait for the turn: median, 99 %", percentiles(&report.waited));
    row("pairs out of order", report.inversions.to_string());
    row("largest displacement, late people", format!("{}, {}", report.displacement, report.late));
    row("tickets, sold", format!("{}, {}", report.options.tickets, report.sold));
    let (time, ticks) = report.unsold;
    row("longest that a ticket was free while people waited", format!("{}, {ticks} ticks", seconds(time)));
    row("refunds", report.refunds.to_string());
    row("processes killed at work", report.killed.to_string());
    for (fate, count) in &report.fates {
        row(&format!("people who {}", told(*fate)), count.to_string());
    }
    let [joins, questions, others] = report.requests;
    row("requests of customers: joins, questions, others", format!("{joins}, {questions}, {others}"));
    row("questions for each person", format!("{:.1}", whole(questions) / people));
    let [of_joins, of_questions, of_others] = report.bytes.map(|bytes| format!("{:.0}", whole(bytes) / people));
    row("bytes of their bodies and answers for each person", format!("{of_joins}, {of_questions}, {of_others}"));
    let (read, written) = units(&report.taken);
    let units = format!("{:.2}, {:.2}", read / people, written / people);
    row("units of the line's table for each person: read, write", units);
    let bytes: usize = report.taken.values().map(|taken| taken.bytes.0 + taken.bytes.1).sum();
    row(
        "bytes of the requests that took them and of their answers for each person",
        format!("{:.0}", whole(bytes) / people),
    );
    for (operation, counts) in &report.operations {
        let each = format!("{:.2}", whole(counts.records) / people);
        row(operation, format!("{} requests, {} records, {each} for each person", counts.requests, counts.records));
    }
    for Item { what, arithmetic, price } in cost(report) {
        row(&format!("on AWS, {what}"), format!("{price:.2} USD: {arithmetic}"));
    }
    row("the whole sale", seconds(report.elapsed));
    format!("{table}\n\n")
}

/// What the customers' requests, the line's table, the queues and the bus cost on AWS, on paper. The tables of the
/// reservations, logs and what costs the same without a sale are no part of it.
fn cost(report: &Report) -> [Item; 7] {
    let counted = |operation: &str| report.operations.get(operation).copied().unwrap_or_default();
    let asked = whole(report.requests.iter().sum::<usize>());
    let (read, written) = units(&report.taken);
    let Counts { requests: sent, .. } = counted("SendMessageBatch");
    // Each message is sent, received and deleted, the last two by ten at most; here they are counted one by one.
    let queued = whole(sent) * 3.0;
    let (seconds, gigabytes) = BILLED;
    let time = format!("{asked} requests x {seconds} s x {gigabytes} GB");
    [
        Item::of_millions("the HTTP API", "", asked, price::HTTP_API_REQUESTS),
        Item::of_millions("its functions, requests", "", asked, price::LAMBDA_REQUESTS),
        Item::of_time("its functions, time", &time, asked * seconds * gigabytes),
        Item::of_millions("the line's table, reads", "", read, price::DYNAMODB_READS),
        Item::of_millions("the line's table, writes", "", written, price::DYNAMODB_WRITES),
        Item::of_millions("the queues", "", queued, price::SQS_REQUESTS),
        Item::of_millions("the bus", "", whole(counted("PutEvents").records), price::EVENTBRIDGE_EVENTS),
    ]
}

/// A count as a number to calculate with. What is counted here is far below what a float tells apart.
pub(crate) fn whole(count: impl TryInto<u32>) -> f64 {
    f64::from(count.try_into().unwrap_or(u32::MAX))
}

fn told(fate: Fate) -> &'static str {
    match fate {
        Fate::Bought => "bought",
        Fate::SoldOut => "were told that all is sold",
        Fate::Absent => "never looked again",
        Fate::Left => "gave their place up",
        Fate::LetPass => "let their turn pass",
        Fate::Declined => "could not pay",
        Fate::GaveBack => "gave their seats back",
        Fate::PaidLate => "paid too late",
        Fate::PassedOver => "were called three times and did not answer",
        Fate::RanOut => "were let in and had no answer in time",
        Fate::Lost => "were lost",
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// The median and the slowest hundredth of times that are in order.
fn percentiles(times: &[Duration]) -> String {
    let at = |hundredth: usize| times.get((times.len() * hundredth / 100).min(times.len().saturating_sub(1)));
    let text = |time: Option<&Duration>| time.map_or_else(|| "-".to_owned(), |time| seconds(*time));
    format!("{}, {}", text(at(50)), text(at(99)))
}
