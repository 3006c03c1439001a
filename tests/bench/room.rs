//! The waiting room beside the counter of AWS's Virtual Waiting Room, on the same load: whether people stand in the order of
//! their arrival, what a death and a copy leave behind, and how long it takes until everybody has his number. And what a join,
//! a question and a tick of ours cost.

mod cost;

use std::{num::NonZero, time::Duration};

use local_stack::placing::{Load, Placed, Way, place};

pub(crate) use self::cost::Price;
use crate::{figure::Figure, stop::Stop, workplace::Workplace};

/// The functions that are measured.
pub(crate) const FUNCTIONS: [&str; 3] = [waiting_room::NAME, waiting_room_joined::NAME, waiting_room_ticked::NAME];

/// The load of each run in which nobody dies. Each has a seed of its own.
pub(crate) const CALM: Load = Load {
    people: 2_000,
    within: Duration::from_secs(5),
    overtaken_by: 60,
    copied: 50,
    killed: None,
    tick: Duration::from_secs(1),
    seed: 0,
};

/// A batch that dies among so many.
pub(crate) const DEATHS: NonZero<usize> = NonZero::new(25).expect("25 is not 0");

pub(crate) const GAPS: &str = "numbers that nobody has";
pub(crate) const TWICE: &str = "people with two numbers";

pub(crate) struct Room {
    pub(crate) designs: Vec<Design>,
    pub(crate) prices: Vec<Price>,
}

/// What came of one design.
pub(crate) struct Design {
    pub(crate) way: Way,
    pub(crate) is_calm: bool,
    pub(crate) figures: Vec<(&'static str, Figure)>,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Room, Stop> {
    let mut designs = Vec::new();
    for (way, is_calm) in [(Way::Ours, true), (Way::Counter, true), (Way::Ours, false), (Way::Counter, false)] {
        let mut runs = Vec::new();
        for seed in 1..=workplace.runs(7, 2) as u64 {
            let load = Load { seed, killed: (!is_calm).then_some(DEATHS), ..CALM };
            let placed = place(way, &load, &workplace.binaries).await?;
            if placed.people != u64::from(load.people) {
                return Err(Stop::invalid(format!("{} of {} people have a number", placed.people, load.people)));
            }
            runs.push(placed);
        }
        designs.push(Design { way, is_calm, figures: figures(&runs) });
    }
    Ok(Room { designs, prices: cost::measure(workplace).await? })
}

fn figures(runs: &[Placed]) -> Vec<(&'static str, Figure)> {
    let of = |count: fn(&Placed) -> u64| Figure::of(runs.iter().map(|placed| count(placed) as f64));
    vec![
        ("pairs out of the gateway's order", of(|placed| placed.inversions)),
        ("places that somebody is away from his", of(|placed| placed.displacement)),
        (GAPS, of(|placed| placed.gaps)),
        (TWICE, of(|placed| placed.numbered_twice)),
        ("seconds until all have their number", Figure::of(runs.iter().map(|placed| placed.elapsed.as_secs_f64()))),
    ]
}
