//! Every state that can be reached, breadth first, so that the first breach found is also a shortest one.

use std::collections::HashMap;

use crate::{
    kind::Kind,
    state::{Act, Faults, Model, State},
};

/// What a search went through.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Extent {
    pub(crate) states: usize,
    pub(crate) steps: usize,
    /// Ways from the first state to an end along calm steps.
    pub(crate) interleavings: u128,
}

/// What must never happen, and how it came to it.
#[derive(Debug)]
pub(crate) struct Breach {
    pub(crate) what: String,
    pub(crate) way: Vec<String>,
}

struct Found {
    state: State,
    from: Option<(usize, Act)>,
    calm: Vec<usize>,
}

/// Looks at everything that these deliveries can lead to.
///
/// Where something may go wrong, deliveries of one kind are taken for interchangeable. Without faults every delivery is
/// told apart, so that the interleavings are all counted.
///
/// # Errors
/// A breach of what must always hold; or a state from which calm steps lead to no good end, or to none at all.
pub(crate) fn search(model: &mut Model, kinds: &[Kind], faults: Faults) -> Result<Extent, Breach> {
    let start = model.start(kinds, faults);
    let mut numbers = HashMap::from([(start.clone(), 0)]);
    let mut found = vec![Found { state: start, from: None, calm: Vec::new() }];
    let mut steps = 0;
    let mut next = 0;
    while next < found.len() {
        let state = found[next].state.clone();
        let following = match model.steps(&state) {
            Ok(following) => following,
            Err((act, what)) => return Err(breach(model, &found, next, Some(act), what)),
        };
        for step in following {
            let told_apart = faults == Faults::Left(0);
            let to = if told_apart { step.state } else { interchangeable(step.state, kinds) };
            let number = match numbers.get(&to) {
                Some(number) => *number,
                None => {
                    numbers.insert(to.clone(), found.len());
                    found.push(Found { state: to, from: Some((next, step.act)), calm: Vec::new() });
                    found.len() - 1
                }
            };
            // A message that comes back as it went has changed nothing.
            if number != next {
                steps += 1;
                if step.calm {
                    found[next].calm.push(number);
                }
            }
        }
        if found[next].calm.is_empty()
            && let Err(what) = found[next].state.unfinished(kinds)
        {
            return Err(breach(model, &found, next, None, what));
        }
        next += 1;
    }
    match interleavings(&found) {
        Ok(interleavings) => Ok(Extent { states: found.len(), steps, interleavings }),
        Err(at) => Err(breach(model, &found, at, None, "calm steps lead in a circle".to_owned())),
    }
}

/// One state for all that differ only in which of two duplicates is where.
fn interchangeable(mut state: State, kinds: &[Kind]) -> State {
    let mut start = 0;
    for same in kinds.chunk_by(|one, next| one == next) {
        state.deliveries[start..start + same.len()].sort_unstable();
        start += same.len();
    }
    state
}

/// The number of ways to an end; an error is a state that a way comes back to.
fn interleavings(found: &[Found]) -> Result<u128, usize> {
    const OPEN: u128 = u128::MAX;
    let mut ways: Vec<Option<u128>> = vec![None; found.len()];
    for root in 0..found.len() {
        let mut path = vec![root];
        while let Some(at) = path.last().copied() {
            let calm = &found[at].calm;
            match ways[at] {
                None => {
                    ways[at] = Some(OPEN);
                    if calm.iter().any(|to| ways[*to] == Some(OPEN)) {
                        return Err(at);
                    }
                    path.extend(calm.iter().filter(|to| ways[**to].is_none()));
                }
                Some(OPEN) => {
                    let sum = calm.iter().filter_map(|to| ways[*to]).fold(0, u128::saturating_add);
                    ways[at] = Some(if calm.is_empty() { 1 } else { sum });
                    path.pop();
                }
                Some(_) => {
                    path.pop();
                }
            }
        }
    }
    Ok(ways[0].unwrap_or_default())
}

fn breach(model: &Model, found: &[Found], at: usize, last: Option<Act>, what: String) -> Breach {
    let mut way: Vec<String> = last.map(|act| model.describe(&found[at].state, act)).into_iter().collect();
    let mut at = at;
    while let Some((from, act)) = found[at].from {
        way.push(model.describe(&found[from].state, act));
        at = from;
    }
    way.reverse();
    Breach { what, way }
}
