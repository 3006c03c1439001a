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

mod soak;

use std::time::Instant;

use local_stack::{
    build::{self, Binaries},
    tripwire::{Point, Side},
};

use self::{
    lane::{Course, every_point, judge},
    point::Mode,
    run::{Run, Site},
    scenario::{Scenario, scenarios},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_between_any_two_effects_leaves_nothing_lost_and_nothing_done_twice() {
    let started = Instant::now();
    let lanes = every_point(scenarios()).await;
    judge(&in_columns("FUNCTION", "SCENARIO"), &lanes, started);
}

impl Course for Scenario {
    type Site = Site;
    type Point = (Point, Mode);

    fn name(&self) -> String {
        in_columns(self.function, self.name)
    }

    async fn site(&self) -> Site {
        Site::of(self).await
    }

    async fn without_a_point(&self, site: &Site) -> (usize, Vec<Self::Point>) {
        // Without a point its mode says nothing.
        let requests = Run::of(site, self, 0).await.finish(None, Mode::ALL[0]).await;
        let points = (1..=requests).flat_map(|request| Side::ALL.map(|side| Point { request, side }));
        (requests, points.flat_map(|point| Mode::ALL.map(|mode| (point, mode))).collect())
    }

    async fn with_a_point(&self, site: &Site, number: usize, (point, mode): Self::Point) {
        Run::of(site, self, number).await.finish(Some(point), mode).await;
    }

    fn describe(&self, (point, mode): &Self::Point) -> String {
        format!("{point:?}, {mode:?}")
    }
}

/// The function binaries.
fn binaries() -> &'static Binaries {
    build::functions().expect("the functions build")
}

fn in_columns(function: &str, scenario: &str) -> String {
    format!("{function:<20} {scenario}")
}
