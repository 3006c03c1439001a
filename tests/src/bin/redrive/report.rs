//! The letters as a table that is read at a glance, and what was done or could be.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use comfy_table::{CellAlignment, Table, presets};
use local_stack::redrive::{Counts, Letter, Sent};

use crate::arguments::Arguments;

/// A line of a reason ends here, so that 120 columns are enough.
const LINE_WIDTH: usize = 110;
const INDENT: &str = "        ";

/// Prints a row for each letter, and under it the reason in full.
pub(crate) fn letters(chosen: &[&Letter], read: usize, counts: Counts) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["AGE", "CAME BY", "REASON", "RESERVATION", "MESSAGE"]);
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for letter in chosen {
        let reservation = letter.reservation_id.as_deref().unwrap_or("-");
        table.add_row([&age(letter.sent), &letter.origin.to_string(), &letter.code, reservation, &letter.id]);
    }
    // No cell holds a line break, so the header is one line, and so is each row.
    let mut lines = table.lines();
    if let Some(header) = lines.next().filter(|_| !chosen.is_empty()) {
        println!("{}", header.trim_end());
    }
    for (line, letter) in lines.zip(chosen) {
        println!("{}", line.trim_end());
        wrapped(&letter.why).iter().for_each(|line| println!("{INDENT}{line}"));
        if let Some(id) = &letter.source_id {
            println!("{INDENT}in the function's log: message_id {id}");
        }
    }
    let (said, hidden) = (counts.visible + counts.hidden, counts.hidden);
    println!(
        "\n{} read, {} shown. Before, the queue said that it had about {said}, {hidden} of them held by another reader.",
        counted(read, "message"),
        chosen.len()
    );
}

/// Prints one line that counts all letters of the queue by their reasons.
pub(crate) fn totals(letters: &[Letter]) {
    let by_code: Vec<String> = by_code(letters).iter().map(|(code, count)| format!("{code} {count}")).collect();
    if !by_code.is_empty() {
        println!("By reason: {}.", by_code.join(", "));
    }
}

/// Prints the command that would send what was shown.
pub(crate) fn hint(arguments: &Arguments, letters: &[Letter], chosen: usize, source_known: bool) {
    println!("Nothing was changed.");
    if chosen == 0 {
        return;
    }
    let options = arguments.options();
    if options.is_empty() {
        println!("When the cause of a reason is repaired, this sends its messages back:");
        for code in by_code(letters).keys() {
            println!("  {}", arguments.sending(&["--code", code], source_known));
        }
        println!("With --all in place of --code, everything goes back.");
    } else {
        println!("This sends {} back:", counted(chosen, "message"));
        println!("  {}", arguments.sending(&options, source_known));
    }
    if !source_known {
        println!("URL is the function's queue, which could not be found.");
    }
}

/// Prints what became of each letter.
pub(crate) fn ends(letters: &[&Letter], ends: &[Sent]) {
    for (letter, end) in letters.iter().zip(ends) {
        match end {
            Sent::Moved => println!("sent      {}", letter.id),
            Sent::CopyStays(reason) => {
                println!("sent      {}", letter.id);
                println!("{INDENT}  A copy stays here, which is harmless; it would end as a duplicate: {reason}");
            }
            Sent::Refused(reason) => println!("NOT SENT  {}\n{INDENT}  It stays here: {reason}", letter.id),
        }
    }
    let refused = ends.iter().filter(|end| matches!(end, Sent::Refused(_))).count();
    println!("{} sent, {refused} not sent.", counted(ends.len() - refused, "message"));
}

/// A number with its noun.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn by_code(letters: &[Letter]) -> BTreeMap<&str, usize> {
    let mut by_code = BTreeMap::new();
    for letter in letters {
        *by_code.entry(letter.code.as_str()).or_default() += 1;
    }
    by_code
}

/// In the largest unit of which there are at least two, because nobody repairs a queue by the second.
fn age(sent: Option<SystemTime>) -> String {
    let Some(age) = sent.map(|sent| sent.elapsed().unwrap_or(Duration::ZERO).as_secs()) else {
        return "-".to_owned();
    };
    match age {
        0..120 => format!("{age} s"),
        120..7_200 => format!("{} min", age / 60),
        7_200..172_800 => format!("{} h", age / 3_600),
        _ => format!("{} d", age / 86_400),
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if INDENT.len() + line.chars().count() + 1 + word.chars().count() <= LINE_WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
