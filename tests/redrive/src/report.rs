//! The letters as a table that is read at a glance, and what was done or could be.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use redrive::{
    Counts, Letter, Sent,
    terminal::{Table, counted, cut, print, width, width_of, wrapped},
    why_not_back,
};

use crate::arguments::Arguments;

const INDENT: &str = "        ";

/// An id longer than this is nobody's that this program knows.
const LONGEST_ID: usize = 256;

/// Prints a row for each letter, and under it the reason in full.
pub(crate) fn letters(chosen: &[&Letter], read: usize, counts: Counts) {
    let width = width();
    let (rows, below) = rows(chosen, width);
    let mut rows = rows.into_iter();
    if let Some(header) = rows.next().filter(|_| !chosen.is_empty()) {
        print(header);
    }
    for (row, letter) in rows.zip(chosen) {
        print(row);
        for column in &below {
            print(format!("{INDENT}{column} {}", cell(letter, column)));
        }
        wrapped(&letter.why, width - INDENT.len()).iter().for_each(|line| print(format!("{INDENT}{line}")));
        if let Some(id) = &letter.source_id {
            print(format!("{INDENT}in the function's log: message_id {}", cut(id, LONGEST_ID)));
        }
    }
    let (said, hidden) = (counts.visible + counts.hidden, counts.hidden);
    print("");
    print(format!(
        "{} read, {} shown. Before, the queue said that it had about {said}, {hidden} of them held by another reader.",
        counted(read, "message"),
        chosen.len()
    ));
}

/// The table's lines, header first and one for each letter, and the columns that the terminal has no room for. A row is never
/// wrapped, so that an id can be copied; the last columns go below it instead.
fn rows(letters: &[&Letter], width: usize) -> (Vec<String>, Vec<&'static str>) {
    let mut columns = vec!["age", "came by", "reason", "about", "message"];
    let mut below = Vec::new();
    loop {
        let mut table = Table::new(&columns).right(0);
        letters.iter().for_each(|letter| table.row(columns.iter().map(|column| cell(letter, column))));
        let rows = table.rows();
        let fits = rows.iter().all(|row| width_of(row) <= width);
        match columns.pop().filter(|_| !fits && !columns.is_empty()) {
            Some(column) => below.insert(0, column),
            None => return (rows, below),
        }
    }
}

fn cell(letter: &Letter, column: &str) -> String {
    match column {
        "age" => age(letter.sent),
        "came by" => letter.origin.to_string(),
        "reason" => letter.code.clone(),
        "about" => letter.about.clone().unwrap_or_else(|| "-".to_owned()),
        _ => cut(&letter.id, LONGEST_ID).into_owned(),
    }
}

/// Prints one line that counts all letters of the queue by their reasons.
pub(crate) fn totals(letters: &[Letter]) {
    let by_code: Vec<String> = by_code(letters).iter().map(|(code, count)| format!("{code} {count}")).collect();
    if !by_code.is_empty() {
        print(format!("By reason: {}.", by_code.join(", ")));
    }
}

/// Prints the command that would send what was shown, without what would only come back.
pub(crate) fn hint(arguments: &Arguments, chosen: &[&Letter], source_known: bool) {
    print("Nothing was changed.");
    let shown = by_code(chosen.iter().copied());
    let (back, helped): (Vec<&str>, Vec<&str>) = shown.keys().partition(|code| why_not_back(code).is_some());
    for code in &back {
        let advice = why_not_back(code).unwrap_or_default();
        print(format!("A redrive does not help {code}: {advice}."));
    }
    if helped.is_empty() {
        return;
    }
    if arguments.choice().is_empty() && !arguments.is_all() {
        print("When the cause of a reason is repaired, this sends its messages back:");
        for code in &helped {
            print(format!("  {}", arguments.sending(&["--code", code], source_known)));
        }
        if back.is_empty() {
            print("With --all in place of --code, everything goes back.");
        }
    } else {
        let count: usize = helped.iter().filter_map(|code| shown.get(code)).sum();
        print(format!("This sends {} back:", counted(count, "message")));
        let options = if back.is_empty() { arguments.options() } else { arguments.options_with(&helped) };
        print(format!("  {}", arguments.sending(&options, source_known)));
    }
    if !source_known {
        print("URL is the function's queue, which could not be found.");
    }
}

/// Prints what became of each letter.
pub(crate) fn ends(letters: &[&Letter], ends: &[Sent]) {
    for (letter, end) in letters.iter().zip(ends) {
        match end {
            Sent::Moved => print(format!("sent      {}", letter.id)),
            Sent::CopyStays(reason) => {
                print(format!("sent      {}", letter.id));
                print(format!(
                    "{INDENT}  A copy stays here, which is harmless; it would change nothing more: {reason}"
                ));
            }
            Sent::Refused(reason) => {
                print(format!("NOT SENT  {}", letter.id));
                print(format!("{INDENT}  It stays here: {reason}"));
            }
        }
    }
    let refused = ends.iter().filter(|end| matches!(end, Sent::Refused(_))).count();
    print(format!("{} sent, {refused} not sent.", counted(ends.len() - refused, "message")));
}

fn by_code<'a>(letters: impl IntoIterator<Item = &'a Letter>) -> BTreeMap<&'a str, usize> {
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
