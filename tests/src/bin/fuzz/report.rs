//! How far a run is, what it has come to, and everything that helps to mend a fault.

use std::{path::Path, time::Duration};

use comfy_table::{CellAlignment, Table, presets};

use crate::{
    arguments::{Limit, Plan, Target},
    output::Progress,
    program::{Fault, Run},
};

/// Prints what is about to happen.
pub(crate) fn plan(plan: &Plan, seeds: usize) {
    let limit = match plan.limit {
        Limit::Minutes(minutes) => format!("for {minutes} min"),
        Limit::Runs(runs) => format!("with {} inputs", grouped(runs)),
    };
    let seed = plan.seed.map(|seed| format!(", seed {seed}")).unwrap_or_default();
    eprintln!("Fuzzing {} {limit}, from {seeds} inputs of this repository{seed} ...", plan.target.name());
}

/// Prints how far a run is.
pub(crate) fn progress(progress: &Progress, time: Duration) {
    let [inputs, edges, corpus] = [progress.inputs, progress.edges, progress.corpus].map(grouped);
    eprintln!("  after {} s: {inputs} inputs, {edges} edges, {corpus} kept", time.as_secs());
}

/// Prints what a run has come to.
pub(crate) fn run(run: &Run, target: Target) {
    println!("{}", table(run));
    if let Some(found) = &run.fault {
        fault(found, target);
    }
}

/// Prints what became of a known input.
pub(crate) fn replayed(input: &Path, found: Option<&Fault>, target: Target) {
    match found {
        Some(found) => fault(found, target),
        None => println!("{}: no fault", input.display()),
    }
}

fn fault(fault: &Fault, target: Target) {
    println!("\nFAULT\n{}", fault.said.trim_end());
    println!("\nBODY, {} bytes\n{}", grouped(fault.body.len() as u64), shown(&fault.body));
    let again = format!("cargo fuzz-events --target {}", target.name());
    println!("\nINPUT\n{0}\n\nAGAIN\n{again} {0}", fault.input.display());
}

fn table(run: &Run) -> String {
    let Run { progress, time, fault } = run;
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["INPUTS", "PER SECOND", "EDGES", "FEATURES", "KEPT", "TIME", "FAULTS"]);
    for column in table.column_iter_mut() {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let per_second = progress.inputs * 1_000 / u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
    let time = format!("{} s", grouped(time.as_secs()));
    let [inputs, per_second, edges, features, kept] =
        [progress.inputs, per_second, progress.edges, progress.features, progress.corpus].map(grouped);
    let faults = if fault.is_some() { "1" } else { "0" };
    table.add_row([&inputs, &per_second, &edges, &features, &kept, &time, faults]);
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// The start of a body, on one line: what is no visible ASCII is escaped.
fn shown(body: &[u8]) -> String {
    const LONGEST: usize = 700; // No body of events/ is longer.
    let text = String::from_utf8_lossy(body);
    let visible = |c: char| c == ' ' || c.is_ascii_graphic();
    let mut shown = String::new();
    for c in text.chars().take(LONGEST) {
        if visible(c) { shown.push(c) } else { shown.extend(c.escape_default()) }
    }
    if text.chars().nth(LONGEST).is_some() {
        shown.push_str(" ...");
    }
    shown
}

/// A number with a comma before each three digits from the right.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_grouped_by_threes() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_body_is_shown_on_one_line_and_shortened() {
        assert_eq!(shown("{\"a\": \"ü\n\"}".as_bytes()), r#"{"a": "\u{fc}\n"}"#);
        assert_eq!(shown(&[0xff]), r"\u{fffd}");
        assert_eq!(shown(&[b'x'; 701]), format!("{} ...", "x".repeat(700)));
    }

    #[test]
    fn a_run_is_one_row() {
        let progress = Progress { inputs: 1_000_000, edges: 2_345, features: 9_876, corpus: 1_234 };
        let run = Run { progress, time: Duration::from_millis(40_500), fault: None };
        let words: Vec<_> = table(&run)
            .lines()
            .map(|line| line.split_whitespace().map(str::to_owned).collect())
            .collect::<Vec<Vec<_>>>();
        assert_eq!(words[0].join(" "), "INPUTS PER SECOND EDGES FEATURES KEPT TIME FAULTS");
        assert_eq!(words[1].join(" "), "1,000,000 24,691 2,345 9,876 1,234 40 s 0");
    }
}
