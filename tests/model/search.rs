//! Every state that can be reached, breadth first, so that the first breach found is also a shortest one.

use std::{collections::HashMap, hash::Hash, rc::Rc};

/// What may happen, and what may not.
pub(crate) trait Rules {
    /// Everything that is remembered somewhere.
    type State: Clone + Eq + Hash;
    /// What happens next.
    type Act: Copy;

    /// Every step that can follow.
    ///
    /// # Errors
    /// The first breach of what must always hold, and what led to it.
    fn steps(&mut self, state: &Self::State) -> Result<Vec<Step<Self>>, (Self::Act, String)>;

    /// One state for all that differ in nothing that matters.
    fn same_as(&self, state: Self::State) -> Self::State;

    /// Why this is no good end, where no calm step follows.
    ///
    /// # Errors
    /// What is left undone.
    fn ended_well(&mut self, state: &Self::State) -> Result<(), String>;

    /// The act in words.
    fn describe(&self, state: &Self::State, act: Self::Act) -> String;
}

/// A step to another state.
pub(crate) struct Step<R: Rules + ?Sized> {
    pub(crate) act: R::Act,
    /// Whether the step needs nothing to go wrong.
    pub(crate) calm: bool,
    pub(crate) state: R::State,
}

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

struct Found<R: Rules> {
    state: Rc<R::State>,
    from: Option<(usize, R::Act)>,
    calm: Vec<usize>,
}

/// Looks at everything that this state can lead to.
///
/// # Errors
/// A breach of what must always hold; or a state from which calm steps lead to no good end, or to none at all.
pub(crate) fn search<R: Rules>(rules: &mut R, start: R::State) -> Result<Extent, Breach> {
    let start = Rc::new(start);
    let mut numbers = HashMap::from([(Rc::clone(&start), 0)]);
    let mut found: Vec<Found<R>> = vec![Found { state: start, from: None, calm: Vec::new() }];
    let mut steps = 0;
    let mut next = 0;
    while next < found.len() {
        let state = Rc::clone(&found[next].state);
        let following = match rules.steps(&state) {
            Ok(following) => following,
            Err((act, what)) => return Err(breach(rules, &found, next, Some(act), what)),
        };
        for step in following {
            let to = rules.same_as(step.state);
            let number = match numbers.get(&to) {
                Some(number) => *number,
                None => {
                    let to = Rc::new(to);
                    numbers.insert(Rc::clone(&to), found.len());
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
            && let Err(what) = rules.ended_well(&state)
        {
            return Err(breach(rules, &found, next, None, what));
        }
        next += 1;
    }
    match interleavings(&found) {
        Ok(interleavings) => Ok(Extent { states: found.len(), steps, interleavings }),
        Err(at) => Err(breach(rules, &found, at, None, "calm steps lead in a circle".to_owned())),
    }
}

/// The number of ways to an end; an error is a state that a way comes back to.
fn interleavings<R: Rules>(found: &[Found<R>]) -> Result<u128, usize> {
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

fn breach<R: Rules>(rules: &R, found: &[Found<R>], at: usize, last: Option<R::Act>, what: String) -> Breach {
    let mut way: Vec<String> = last.map(|act| rules.describe(&found[at].state, act)).into_iter().collect();
    let mut at = at;
    while let Some((from, act)) = found[at].from {
        way.push(rules.describe(&found[from].state, act));
        at = from;
    }
    way.reverse();
    Breach { what, way }
}
