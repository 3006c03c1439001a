//! What came of all points of a way, and of all ways.

use std::time::Instant;

use crate::say;

/// What came of all points of one way.
pub(crate) struct Lane {
    /// What is done on it.
    pub(crate) way: &'static str,
    /// The requests of the run without a blow.
    pub(crate) requests: usize,
    /// The blows.
    pub(crate) points: usize,
    /// Where it did not come right.
    pub(crate) faults: Vec<String>,
}

/// Shows a row for each way, and fails where one has no request or a fault.
pub(crate) fn judge(lanes: &[Lane], started: Instant) {
    let mut table = format!("\n{:<64} {:>8} {:>6}\n", "WAY", "REQUESTS", "POINTS");
    for Lane { way, requests, points, .. } in lanes {
        assert!(*requests > 0, "{way}: no request was seen, so nothing would be tested");
        table += &format!("{way:<64} {requests:>8} {points:>6}\n");
    }
    conclude(table, lanes.iter().map(|lane| lane.points).sum(), lanes.iter().flat_map(|lane| &lane.faults), started);
}

/// Shows the table with its sum, and fails where there is a fault.
pub(crate) fn conclude<'a>(
    mut table: String,
    points: usize,
    faults: impl Iterator<Item = &'a String>,
    started: Instant,
) {
    let faults: Vec<&str> = faults.map(String::as_str).collect();
    table += &format!("{points} points in {:.0} s, {} with a fault\n", started.elapsed().as_secs_f64(), faults.len());
    say(&table);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
