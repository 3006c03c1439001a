//! The replay as a table that is read at a glance, and what is left to look at.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use local_stack::{
    replay::{FileReport, RecordReport, attribute},
    scenario::{EventFile, FUNCTIONS},
    stack::Stack,
};

/// Prints the table and the summary.
pub(crate) fn print(reports: &[(&EventFile, FileReport)], stack: &Stack, elapsed: Duration) {
    let mut table = new_table(&["file", "record", "outcome", "ms", "reservation", "", "seats", ""]);
    if let Some(column) = table.column_mut(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (file, report) in reports {
        let name = format!("{}/{}", file.function, file.case());
        if let Some(fault) = &report.invocation_fault {
            table.add_row([name.as_str(), "-", "INVOCATION FAILED", "", fault, "", "", "✗"]);
        }
        for (index, record) in report.records.iter().enumerate() {
            let file = if index == 0 { name.as_str() } else { "" };
            table.add_row(row(file, index, record));
        }
    }
    println!("{table}\n");
    dead_letters(reports, stack);
    refunds(stack);
    summary(reports, stack, elapsed);
}

fn row(file: &str, index: usize, record: &RecordReport) -> [String; 8] {
    let text = |value: Option<String>| value.unwrap_or_default();
    [
        file.to_owned(),
        (index + 1).to_string(),
        record.outcome.clone(),
        text(record.latency.map(|latency| latency.as_millis().to_string())),
        text(record.promise.reservation_id.clone()),
        text(record.reservation.map(|status| status.to_string())),
        text(record.seats.map(|seats| seats.to_string())),
        if record.faults.is_empty() { "✓" } else { "✗" }.to_owned(),
    ]
}

fn dead_letters(reports: &[(&EventFile, FileReport)], stack: &Stack) {
    let mut table = new_table(&["dead-letter queue", "came from", "reason", "message"]);
    for function in FUNCTIONS {
        for message in stack.dead_letters(function).messages() {
            let source = attribute(&message, "source_message_id").unwrap_or("-");
            let file = reports.iter().find_map(|(file, _)| {
                let index = file.records.iter().position(|record| record.message_id == source)?;
                Some(format!("{}/{} {}", file.function, file.case(), index + 1))
            });
            let text = |name| attribute(&message, name).unwrap_or("-").to_owned();
            let source = file.unwrap_or_else(|| source.to_owned());
            table.add_row([format!("{function}-dlq"), source, text("error_code"), text("error_message")]);
        }
    }
    if !table.is_empty() {
        println!("{table}\n");
    }
}

fn refunds(stack: &Stack) {
    let mut table = new_table(&["refund requested", "payment", "reason"]);
    for entry in stack.aws.bus_entries() {
        let text = |name: &str| entry.detail[name].as_str().unwrap_or("-").to_owned();
        table.add_row([text("reservation_id"), text("payment_intent_id"), text("reason")]);
    }
    if !table.is_empty() {
        println!("{table}\n");
    }
}

fn summary(reports: &[(&EventFile, FileReport)], stack: &Stack, elapsed: Duration) {
    let mut broken = 0;
    for (file, report) in reports.iter().filter(|(_, report)| !report.is_as_promised()) {
        broken += 1;
        println!("✗ {}", file.path.display());
        println!("    it promises: {}", file.scenario.about);
        if let Some(fault) = &report.invocation_fault {
            println!("    {fault}");
        }
        for (index, record) in report.records.iter().enumerate() {
            for fault in &record.faults {
                println!("    record {}: {fault}", index + 1);
            }
            if let Some(error) = record.error.as_ref().filter(|_| !record.faults.is_empty()) {
                println!("    record {}: the function says: {error}", index + 1);
            }
        }
    }
    for fault in stack.inventory.oversold() {
        println!("✗ the inventory's audit: {fault}");
    }
    let records: usize = reports.iter().map(|(_, report)| report.records.len()).sum();
    let verdict = match broken {
        0 => "every file kept its promise".to_owned(),
        _ => format!("{} did not keep the promise", counted(broken, "file")),
    };
    let (files, seconds) = (reports.len(), elapsed.as_secs_f64());
    println!("{}, {} in {seconds:.1} s: {verdict}.", counted(files, "file"), counted(records, "record"));
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.iter().map(|title| title.to_uppercase()));
    table
}
