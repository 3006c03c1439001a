//! A tripwire across all servers of a stack: it numbers the requests that arrive, whatever service they are for, and holds
//! one of them before or after its effect. A test that then kills the caller has killed it between two effects.
//!
//! A held request gets no answer. When the caller dies its connection breaks, and the server drops the request where it
//! stands: before the effect it never has one, after it the effect stays.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// The wire; clones share it, so that every server of a stack has one and the numbers are common to all.
#[derive(Clone, Debug, Default)]
pub struct Tripwire {
    shared: Arc<Shared>,
}

/// Where a request is held.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Point {
    /// The number of the request since the wire was armed, from 1.
    pub request: usize,
    /// On which side of its effect.
    pub side: Side,
}

/// A side of a request's effect.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Side {
    /// The request has arrived and nothing has happened.
    Before,
    /// It is carried out, and the answer is not sent.
    After,
}

impl Side {
    /// Both, in the order of time.
    pub const ALL: [Self; 2] = [Self::Before, Self::After];
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    stage: watch::Sender<Stage>,
}

#[derive(Debug, Default)]
struct State {
    armed: bool,
    point: Option<Point>,
    requests: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Stage {
    #[default]
    Waiting,
    Held,
    Released,
}

/// A request between its arrival and its answer.
#[derive(Debug)]
pub(crate) struct Passage {
    tripwire: Tripwire,
    /// None for a request that does not count.
    number: Option<usize>,
}

impl Tripwire {
    /// Counts from now on, and holds the request of `point`. Without a point it only counts. It can be armed once.
    pub fn arm(&self, point: Option<Point>) {
        let mut state = self.lock();
        (state.armed, state.point) = (true, point);
    }

    /// The names of the requests since the wire was armed, in the order of arrival. What arrives while one is held, or
    /// later, belongs to another caller or to another try, and does not count.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// Waits until the request is held.
    pub async fn tripped(&self) {
        self.reached(|stage| stage != Stage::Waiting).await;
    }

    /// Whether the request was held.
    pub fn has_tripped(&self) -> bool {
        *self.shared.stage.borrow() != Stage::Waiting
    }

    /// Lets the held request go on, if its caller still waits for it.
    pub fn release(&self) {
        self.shared.stage.send_replace(Stage::Released);
    }

    /// A server calls this before it does anything with a request.
    pub(crate) async fn arrive(&self, name: &str) -> Passage {
        let passage = Passage { tripwire: self.clone(), number: self.count(name) };
        passage.hold(Side::Before).await;
        passage
    }

    fn count(&self, name: &str) -> Option<usize> {
        let mut state = self.lock();
        if !state.armed || self.has_tripped() {
            return None;
        }
        state.requests.push(name.to_owned());
        Some(state.requests.len())
    }

    async fn reached(&self, wanted: impl Fn(Stage) -> bool) {
        // The sender lives as long as `self`, so that this cannot fail.
        drop(self.shared.stage.subscribe().wait_for(|stage| wanted(*stage)).await);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Passage {
    /// A server calls this when the request is carried out, and then answers.
    pub(crate) async fn leave(self) {
        self.hold(Side::After).await;
    }

    /// Whether this is the point, on this side of it.
    pub(crate) fn is_at(&self, side: Side) -> bool {
        let here = self.number.map(|request| Point { request, side });
        here.is_some() && self.tripwire.lock().point == here
    }

    async fn hold(&self, side: Side) {
        if self.is_at(side) {
            self.tripwire.shared.stage.send_replace(Stage::Held);
            self.tripwire.reached(|stage| stage == Stage::Released).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// How far a request gets before it waits: the sides that it passed.
    async fn passed(wire: &Tripwire, name: &str) -> &'static str {
        let Some(passage) = wire.arrive(name).now_or_never() else { return "held before" };
        if passage.leave().now_or_never().is_some() { "answered" } else { "held after" }
    }

    #[tokio::test]
    async fn a_wire_that_is_not_armed_counts_nothing_and_holds_nothing() {
        let wire = Tripwire::default();
        assert_eq!(passed(&wire, "a").await, "answered");
        assert!(wire.requests().is_empty() && !wire.has_tripped());
    }

    #[tokio::test]
    async fn one_request_is_held_on_its_side_and_what_comes_later_passes_uncounted() {
        for (side, expected) in [(Side::Before, "held before"), (Side::After, "held after")] {
            let (wire, server) = (Tripwire::default(), Tripwire::clone);
            wire.arm(Some(Point { request: 2, side }));
            assert_eq!(passed(&server(&wire), "a").await, "answered");
            assert_eq!(passed(&server(&wire), "b").await, expected);
            assert_eq!(passed(&server(&wire), "c").await, "answered");
            assert_eq!(wire.requests(), ["a", "b"]);
            assert!(wire.has_tripped());
        }
    }

    #[tokio::test]
    async fn a_held_request_goes_on_when_it_is_released() {
        let wire = Tripwire::default();
        wire.arm(Some(Point { request: 1, side: Side::Before }));
        let (request, ()) = tokio::join!(wire.arrive("a"), async {
            wire.tripped().await;
            wire.release();
        });
        request.leave().await;
    }
}
