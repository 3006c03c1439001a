//! What the tests made of the removals, as a table that is read at a glance.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use local_stack::removals::Removal;

use crate::trial::Verdict;

/// One removal and its end.
pub(crate) struct Report<'a> {
    pub(crate) removal: &'a Removal,
    pub(crate) verdict: Verdict,
    pub(crate) elapsed: Duration,
}

/// Prints a row for each removal, and the sum.
pub(crate) fn print(reports: &[Report<'_>], elapsed: Duration) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["GUARD", "", "S", "WITHOUT IT, AND ITS TEST"]);
    if let Some(column) = table.column_mut(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for Report { removal, verdict, elapsed } in reports {
        let colour = match verdict {
            Verdict::Red(_) => "red",
            Verdict::RedOtherwise(_) => "RED FOR ANOTHER REASON",
            Verdict::StillGreen => "STILL GREEN",
            Verdict::NotCompiled => "NOT COMPILED",
        };
        let seconds = format!("{:.0}", elapsed.as_secs_f64());
        // Side by side, the two would be wider than any terminal.
        let what = format!("{}\n  {}::{}", removal.then, removal.test.target, removal.test.name);
        table.add_row([removal.guard, colour, &seconds, &what]);
    }
    table.lines().for_each(|line| println!("{}", line.trim_end()));
    println!();
    let red = reports.iter().filter(|report| matches!(report.verdict, Verdict::Red(_))).count();
    let verdict = match reports.len() - red {
        0 => "each turned its test red".to_owned(),
        missing => format!("{missing} did not turn its test red"),
    };
    println!("{} in {:.0} s: {verdict}.", counted(reports.len(), "removal"), elapsed.as_secs_f64());
}

/// What a test said, cut to what tells one failure from another.
pub(crate) fn said(verdict: &Verdict) -> String {
    const LONGEST: usize = 240;
    let cut = |reason: &str| reason.chars().take(LONGEST).collect::<String>();
    match verdict {
        Verdict::Red(reason) => format!("red: {}", cut(reason)),
        Verdict::RedOtherwise(reason) => format!("RED FOR ANOTHER REASON: {}", cut(reason)),
        Verdict::StillGreen => "STILL GREEN".to_owned(),
        Verdict::NotCompiled => "NOT COMPILED: see cargo's messages above".to_owned(),
    }
}

/// A number with its noun.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
