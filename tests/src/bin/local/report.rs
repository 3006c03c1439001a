//! The replay as a table that is read at a glance, and what is left to look at. Every text passes the filter of
//! [`redrive::terminal`].

use std::time::Duration;

use local_stack::{
    catalogue::all_fed,
    replay::{FileReport, RecordReport, attribute},
    scenario::EventFile,
    stack::Stack,
};
use redrive::terminal::{Table, counted};

/// The lines of a report, each of which is one line for a terminal of so many columns.
pub(crate) fn lines(
    reports: &[(&EventFile, FileReport)],
    stack: &Stack,
    elapsed: Duration,
    columns: usize,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut add = |table: Table| {
        if !table.is_empty() {
            lines.extend(table.rows_within(columns));
            lines.push(String::new());
        }
    };
    add(records(reports));
    add(bookings(reports));
    add(dead_letters(reports, stack));
    add(refunds(stack));
    notes(reports, &mut lines);
    summary(reports, stack, elapsed, &mut lines);
    lines
}

fn records(reports: &[(&EventFile, FileReport)]) -> Table {
    let mut table = Table::new(&["file", "record", "outcome", "ms", "reservation", "", "seats", ""]).right(3);
    for (file, report) in reports.iter().filter(|(file, _)| file.booked.is_none()) {
        let name = file.name();
        if let Some(fault) = &report.invocation_fault {
            table.row([name.as_str(), "-", "INVOCATION FAILED", "", fault, "", "", "✗"]);
        }
        for (index, record) in report.records.iter().enumerate() {
            let file = if index == 0 { name.as_str() } else { "" };
            table.row(row(file, index, record, report.is_judged));
        }
    }
    table
}

fn bookings(reports: &[(&EventFile, FileReport)]) -> Table {
    let mut table = Table::new(&["file", "record", "outcome", "ms", "booking", "", ""]).right(3);
    for (file, report) in reports.iter().filter(|(file, _)| file.booked.is_some()) {
        let name = file.name();
        if let Some(fault) = &report.invocation_fault {
            table.row([name.as_str(), "-", "INVOCATION FAILED", "", fault, "", "✗"]);
        }
        for (index, record) in report.records.iter().enumerate() {
            let file = if index == 0 { name.as_str() } else { "" };
            let [number, ms] = [(index + 1).to_string(), ms(record)];
            let [id, status] = [&record.booking_id, &record.booking].map(|text| text.as_deref().unwrap_or_default());
            table.row([file, &number, &record.outcome, &ms, id, status, verdict(record, report.is_judged)]);
        }
    }
    table
}

fn verdict(record: &RecordReport, is_judged: bool) -> &'static str {
    match (is_judged, record.faults.is_empty()) {
        (false, _) => "",
        (true, true) => "✓",
        (true, false) => "✗",
    }
}

fn ms(record: &RecordReport) -> String {
    record.latency.map(|latency| latency.as_millis().to_string()).unwrap_or_default()
}

fn row(file: &str, index: usize, record: &RecordReport, is_judged: bool) -> [String; 8] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        file.to_owned(),
        (index + 1).to_string(),
        record.outcome.clone(),
        ms(record),
        text(record.reservation_id.clone()),
        text(record.reservation.map(|status| status.to_string())),
        text(record.seats.map(|seats| seats.to_string())),
        verdict(record, is_judged).to_owned(),
    ]
}

fn dead_letters(reports: &[(&EventFile, FileReport)], stack: &Stack) -> Table {
    let mut table = Table::new(&["dead-letter queue", "came from", "reason", "message"]);
    for function in all_fed().map(|function| function.name) {
        for message in stack.dead_letters(function).messages() {
            let source = attribute(&message, "source_message_id").unwrap_or("-");
            let file = reports.iter().filter(|(file, _)| file.function == function).find_map(|(file, report)| {
                let index = report.records.iter().position(|record| record.message_id == source)?;
                Some(format!("{} {}", file.name(), index + 1))
            });
            let text = |name| attribute(&message, name).unwrap_or("-").to_owned();
            let source = file.unwrap_or_else(|| source.to_owned());
            table.row([format!("{function}-dlq"), source, text("error_code"), text("error_message")]);
        }
    }
    table
}

fn refunds(stack: &Stack) -> Table {
    let mut table = Table::new(&["refund requested", "payment", "reason"]);
    for entry in stack.aws.bus_entries().iter().filter(|entry| entry.detail_type == "payment.refund_requested") {
        let text = |name: &str| entry.detail[name].as_str().unwrap_or("-").to_owned();
        let about = if entry.detail["booking_id"].is_string() { "booking_id" } else { "reservation_id" };
        table.row([text(about), text("payment_intent_id"), text("reason")]);
    }
    table
}

/// What a person should know of files without a promise: what was done to run them, and what the function said.
fn notes(reports: &[(&EventFile, FileReport)], lines: &mut Vec<String>) {
    let before = lines.len();
    for (file, report) in reports {
        let name = file.name();
        lines.extend(report.notes.iter().map(|note| format!("{name}: {note}")));
        let ended = report.records.iter().enumerate().filter(|_| !report.is_judged);
        lines.extend(ended.filter_map(|(index, record)| {
            Some(format!("{name}: record {}: the function says: {}", index + 1, record.error.as_ref()?))
        }));
    }
    if lines.len() > before {
        lines.push(String::new());
    }
}

fn summary(reports: &[(&EventFile, FileReport)], stack: &Stack, elapsed: Duration, lines: &mut Vec<String>) {
    let mut broken = 0;
    for (file, report) in reports.iter().filter(|(_, report)| !report.is_as_promised()) {
        broken += 1;
        lines.push(format!("✗ {}", file.path.display()));
        if !file.scenario.about.is_empty() {
            lines.push(format!("    it promises: {}", file.scenario.about));
        }
        lines.extend(report.invocation_fault.iter().map(|fault| format!("    {fault}")));
        for (index, record) in report.records.iter().enumerate() {
            lines.extend(record.faults.iter().map(|fault| format!("    record {}: {fault}", index + 1)));
            if let Some(error) = record.error.as_ref().filter(|_| !record.faults.is_empty()) {
                lines.push(format!("    record {}: the function says: {error}", index + 1));
            }
        }
    }
    lines.extend(stack.inventory.oversold().iter().map(|fault| format!("✗ the inventory's audit: {fault}")));
    let records: usize = reports.iter().map(|(_, report)| report.records.len()).sum();
    let promised = reports.iter().filter(|(file, _)| file.is_judged()).count();
    let verdict = match (broken, promised, reports.len() - promised) {
        (0, 0, _) => "nothing was promised".to_owned(),
        (0, _, 0) => "every file kept its promise".to_owned(),
        (0, _, free) => format!("every promise was kept; {} promised nothing", counted(free, "file")),
        _ => format!("{} did not keep the promise", counted(broken, "file")),
    };
    let (files, seconds) = (reports.len(), elapsed.as_secs_f64());
    lines.push(format!("{}, {} in {seconds:.1} s: {verdict}.", counted(files, "file"), counted(records, "record")));
}
