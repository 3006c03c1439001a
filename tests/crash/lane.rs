//! All points of all courses, so many of them at each site, and what came of them.

use std::{
    io::{self, Write},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::Semaphore, task::JoinError, time::timeout};

/// Sites that are at work at once. Most of a point is spent on starting processes, so that a few more than there are cores
/// suffice.
const SIDE_BY_SIDE: usize = 6;

/// Points that have their turn at one site, one after the other. The points of a long course are shared out to several sites,
/// so that it is not the last one at work.
const AT_ONE_SITE: usize = 24;

/// The longest that a point may take. All waits are skipped and most take less than a second, so that one which takes longer
/// does not converge, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(300);

/// What functions do, and what must be true in the end whoever of them is killed at it.
pub(crate) trait Course: Clone + Send + Sync + 'static {
    /// Where it is gone through. Two points never have their turn at once there.
    type Site: Clone + Send + Sync + 'static;
    /// Where somebody is killed, and how.
    type Point: Send;

    fn name(&self) -> String;

    fn site(&self) -> impl Future<Output = Self::Site> + Send;

    /// Goes through without a point. The answer is how many requests were made, and the points that they give.
    fn without_a_point(&self, site: &Self::Site) -> impl Future<Output = (usize, Vec<Self::Point>)> + Send;

    /// Goes through with a point, under a number that no other has. It panics where the end is not the promised one.
    fn with_a_point(&self, site: &Self::Site, number: usize, point: Self::Point) -> impl Future<Output = ()> + Send;

    fn describe(&self, point: &Self::Point) -> String;
}

/// What came of all points of one course.
pub(crate) struct Lane {
    course: String,
    /// Those that were made without a point.
    requests: usize,
    points: usize,
    /// Where the end was not the promised one.
    faults: Vec<String>,
}

/// Goes through each course without a point, which must come to the promised end too, and then once for each of its points.
pub(crate) async fn every_point<C: Course>(courses: impl IntoIterator<Item = C>) -> Vec<Lane> {
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let started = courses.into_iter().map(|course| tokio::spawn(every_point_of(course, turns.clone())));
    let mut lanes = Vec::new();
    for lane in started.collect::<Vec<_>>() {
        lanes.push(lane.await.expect("a course without a point"));
    }
    lanes
}

async fn every_point_of<C: Course>(course: C, turns: Arc<Semaphore>) -> Lane {
    let turn = turns.clone().acquire_owned().await.expect("it is never closed");
    let site = course.site().await;
    let (requests, points) = course.without_a_point(&site).await;
    drop((site, turn));
    let count = points.len();
    let mut parts = Vec::new();
    let mut points = (1..).zip(points).peekable();
    while points.peek().is_some() {
        let part: Vec<_> = points.by_ref().take(AT_ONE_SITE).collect();
        parts.push(tokio::spawn(at_one_site(course.clone(), part, turns.clone())));
    }
    let mut faults = Vec::new();
    for part in parts {
        faults.extend(part.await.expect("a site for its points"));
    }
    Lane { course: course.name(), requests, points: count, faults }
}

/// The points that did not come to the promised end, and why.
async fn at_one_site<C: Course>(course: C, points: Vec<(usize, C::Point)>, turns: Arc<Semaphore>) -> Vec<String> {
    let _turn = turns.acquire().await.expect("it is never closed");
    let site = course.site().await;
    let mut faults = Vec::new();
    for (number, point) in points {
        let description = course.describe(&point);
        let (own, site) = (course.clone(), site.clone());
        // In a task of its own, so that a panic is a fault of this point and the others still have their turn.
        let run = tokio::spawn(async move {
            timeout(PATIENCE, own.with_a_point(&site, number, point)).await.expect("it converges");
        });
        if let Err(error) = run.await {
            faults.push(format!("{}: {description}: {}", course.name(), text(error)));
        }
    }
    faults
}

/// Shows a row for each course under the heading, and fails where one has no request or a fault.
pub(crate) fn judge(heading: &str, lanes: &[Lane], started: Instant) {
    let mut table = format!("\n{heading:<65} {:>8} {:>6}\n", "REQUESTS", "POINTS");
    for Lane { course, requests, points, .. } in lanes {
        assert!(*requests > 0, "{course}: no request was seen, so nothing would be tested");
        table += &format!("{course:<65} {requests:>8} {points:>6}\n");
    }
    let points: usize = lanes.iter().map(|lane| lane.points).sum();
    let faults: Vec<&str> = lanes.iter().flat_map(|lane| &lane.faults).map(String::as_str).collect();
    table += &format!("{points} points in {:.0} s, {} with a fault\n", started.elapsed().as_secs_f64(), faults.len());
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(table.as_bytes()));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn text(error: JoinError) -> String {
    let panic = error.into_panic();
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
