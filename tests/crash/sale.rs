//! The crash matrix of a whole sale: the API, the relay, the functions that settle and the sweep, each killed before and after
//! each request that it makes to anybody, on the ways that a reservation can take. A customer repeats what had no answer, the
//! queue what had none, and the stream what was not told; then the sale must be at its one end.

mod attempt;
mod promise;
mod time;
mod way;

use std::time::Instant;

use local_stack::tripwire::{Point, Side};

use self::{
    attempt::{Attempt, Blow, Hit, Site},
    way::{Way, ways},
};
use crate::lane::{Course, every_point, judge};

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_whose_functions_die_between_any_two_requests_comes_to_its_one_end() {
    let started = Instant::now();
    judge("WAY", &every_point(ways()).await, started);
}

impl Course for Way {
    type Site = Site;
    type Point = (Point, Hit, Blow);

    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn site(&self) -> Site {
        Site::of(self).await
    }

    async fn without_a_point(&self, site: &Site) -> (usize, Vec<Self::Point>) {
        let hits = Attempt::of(site, self, 0).await.finish(None, Blow::Killed).await;
        let requests = hits.len();
        let blows = (1..).zip(hits).flat_map(|(request, hit)| Blow::ALL.map(|blow| (request, hit.clone(), blow)));
        let fitting = blows.filter(|(_, hit, blow)| blow.fits(hit));
        let points =
            fitting.flat_map(|(request, hit, blow)| Side::ALL.map(|side| (Point { request, side }, hit.clone(), blow)));
        (requests, points.collect())
    }

    async fn with_a_point(&self, site: &Site, number: usize, (point, _, blow): Self::Point) {
        Attempt::of(site, self, number).await.finish(Some(point), blow).await;
    }

    fn describe(&self, (point, hit, blow): &Self::Point) -> String {
        format!("{} ({point:?}), {blow:?}", hit.request)
    }
}
