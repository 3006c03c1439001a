//! The crash matrix of a whole sale: the API, the relay, the functions that settle and the sweep, each killed before and after
//! each request that it makes to anybody, on the ways that a reservation can take. A customer repeats what had no answer, the
//! queue what had none, and the stream what was not told; then the sale must be at its one end.

mod attempt;
mod promise;
mod time;
mod way;

use std::time::Instant;

use futures_util::{StreamExt, stream};
use local_stack::tripwire::{Point, Side};
use tokio::time::timeout;

use self::{
    attempt::{Attempt, Blow, Site},
    way::{Way, ways},
};
use crate::{
    PATIENCE, SIDE_BY_SIDE,
    lane::{Lane, judge},
    text,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_functions_die_between_any_two_requests_comes_to_its_one_end() {
    let started = Instant::now();
    let lanes = stream::iter(ways().into_iter().map(|way| tokio::spawn(every_point(way))));
    let lanes: Vec<Lane> =
        lanes.buffered(SIDE_BY_SIDE).map(|lane| lane.expect("a run without a crash")).collect().await;
    judge(&lanes, started);
}

/// Takes the way without a blow, which must keep its promise too, and then once for each point that this run showed and each
/// blow that can hit it.
async fn every_point(way: Way) -> Lane {
    let site = Site::of(&way).await;
    let whole = Attempt::of(&site, &way, 0).await.finish(None, Blow::Killed).await;
    let hits = (1..).zip(&whole);
    let blows = hits.flat_map(|(request, hit)| Blow::ALL.map(|blow| (request, hit, blow)));
    let fitting = blows.filter(|(_, hit, blow)| blow.fits(hit));
    let points = fitting.flat_map(|(request, hit, blow)| Side::ALL.map(|side| (Point { request, side }, hit, blow)));
    let (mut count, mut faults) = (0, Vec::new());
    for (number, (point, hit, blow)) in (1..).zip(points) {
        count = number;
        let (site, own) = (site.clone(), way.clone());
        // In a task of its own, so that a panic is a fault of this point and the others still have their turn.
        let run = tokio::spawn(async move {
            let run = async { Attempt::of(&site, &own, number).await.finish(Some(point), blow).await };
            timeout(PATIENCE, run).await.expect("it converges");
        });
        if let Err(error) = run.await {
            faults.push(format!("{}: {} ({point:?}), {blow:?}: {}", way.name, hit.request, text(error)));
        }
    }
    Lane { way: way.name, requests: whole.len(), points: count, faults }
}
