//! The crash matrix: each function is killed before and after each of its effects, and the run must come right all the
//! same.
//!
//! Every effect of a worker is a request to one of the stack's servers, so a point is a request's number in a run and a
//! side of it. A run without a crash counts the requests, and the matrix is made of that count: an effect that is new in
//! the code enters by itself. What happens at a point is one [`Mode`] of three. The process that dies is a real one and
//! gets SIGKILL; nothing in it can react, as on Lambda when an environment is lost.
//!
//! Between two requests a worker changes nothing outside of itself. To be killed anywhere after the effect of one request
//! and before that of the next is therefore the same for the run, and the two sides cover every moment of a worker's life,
//! the one between its last effect and its answer to Lambda included.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

mod scenario;

mod lane;
mod point;
mod promise;
mod room;
mod run;
mod sale;

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use local_stack::tripwire::{Point, Side};
use tokio::{task::JoinError, time::timeout};

use self::{
    lane::conclude,
    point::Mode,
    run::{Run, Site},
    scenario::{Scenario, scenarios},
};

/// Lanes side by side. Most of a point is spent on starting processes, so that a few more than there are cores suffice.
const SIDE_BY_SIDE: usize = 6;

/// The longest that a point may take. All waits are skipped and most take less than a second, so that one which takes longer
/// does not converge, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of all points of one scenario in one mode.
struct Lane {
    scenario: Scenario,
    requests: usize,
    faults: Vec<String>,
}

impl Lane {
    fn points(&self) -> usize {
        self.requests * Side::ALL.len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_between_any_two_effects_leaves_nothing_lost_and_nothing_done_twice() {
    let started = Instant::now();
    let jobs = scenarios().into_iter().flat_map(|scenario| Mode::ALL.map(|mode| (scenario.clone(), mode)));
    let lanes = stream::iter(jobs.map(|(scenario, mode)| tokio::spawn(every_point(scenario, mode))));
    let lanes: Vec<Lane> =
        lanes.buffered(SIDE_BY_SIDE).map(|lane| lane.expect("a run without a crash")).collect().await;

    let mut table = format!("\n{:<20} {:<44} {:>8} {:>6}\n", "FUNCTION", "SCENARIO", "REQUESTS", "POINTS");
    for modes in lanes.chunks(Mode::ALL.len()) {
        let Lane { scenario: Scenario { function, name, .. }, requests, .. } = &modes[0];
        assert!(*requests > 0, "{function}, {name}: no request was seen, so nothing would be tested");
        let points: usize = modes.iter().map(Lane::points).sum();
        table += &format!("{function:<20} {name:<44} {requests:>8} {points:>6}\n");
    }
    let points: usize = lanes.iter().map(Lane::points).sum();
    conclude(table, points, lanes.iter().flat_map(|lane| &lane.faults), started);
}

/// Runs the scenario without a crash, which must keep its promise too, and then once for each point that this run showed.
async fn every_point(scenario: Scenario, mode: Mode) -> Lane {
    let site = Site::of(&scenario).await;
    let requests = Run::of(&site, &scenario, 0).await.finish(None, mode).await;
    let points = (1..=requests).flat_map(|request| Side::ALL.map(|side| Point { request, side }));
    let mut faults = Vec::new();
    for (number, point) in (1..).zip(points) {
        let (site, own) = (site.clone(), scenario.clone());
        // In a task of its own, so that a panic is a fault of this point and the others still have their turn.
        let run = tokio::spawn(async move {
            let run = async { Run::of(&site, &own, number).await.finish(Some(point), mode).await };
            timeout(PATIENCE, run).await.expect("it converges");
        });
        if let Err(error) = run.await {
            faults.push(format!("{}, {}: {point:?}, {mode:?}: {}", scenario.function, scenario.name, text(error)));
        }
    }
    Lane { scenario, requests, faults }
}

/// Not by a macro: the test harness shows what macros print only when a test fails.
fn say(table: &str) {
    drop(io::stderr().write_all(table.as_bytes()));
}

fn text(error: JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
