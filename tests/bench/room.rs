//! The waiting room beside the counter of AWS's Virtual Waiting Room, on the same load: whether people stand in the order of
//! their arrival, what a death and a copy leave behind, and how long it takes until everybody has his number.

use std::time::Duration;

use local_stack::placing::{Load, Placed, Way, place};

use crate::{figure::Figure, stop::Stop, workplace::Workplace};

/// The functions of ours that place people.
pub(crate) const FUNCTIONS: [&str; 2] = [waiting_room_joined::NAME, waiting_room_ticked::NAME];

/// The load of each run, which has a seed of its own.
pub(crate) const LOAD: Load = Load {
    people: 2_000,
    within: Duration::from_secs(5),
    overtaken_by: 60,
    copied: 50,
    killed: 25,
    tick: Duration::from_secs(1),
    seed: 0,
};

pub(crate) struct Room {
    pub(crate) designs: Vec<Design>,
}

/// What came of one design.
pub(crate) struct Design {
    pub(crate) way: Way,
    pub(crate) figures: Vec<(&'static str, Figure)>,
}

pub(crate) async fn measure(workplace: &Workplace) -> Result<Room, Stop> {
    let mut designs = Vec::new();
    for way in [Way::Ours, Way::Counter] {
        let mut runs = Vec::new();
        for seed in 1..=workplace.runs(7, 2) as u64 {
            let placed = place(way, &Load { seed, ..LOAD }, &workplace.binaries).await?;
            if placed.people != u64::from(LOAD.people) {
                return Err(Stop::invalid(format!("{} of {} people have a number", placed.people, LOAD.people)));
            }
            runs.push(placed);
        }
        designs.push(Design { way, figures: figures(&runs) });
    }
    Ok(Room { designs })
}

fn figures(runs: &[Placed]) -> Vec<(&'static str, Figure)> {
    let of = |count: fn(&Placed) -> u64| Figure::of(runs.iter().map(|placed| count(placed) as f64));
    vec![
        ("pairs out of the gateway's order", of(|placed| placed.inversions)),
        ("places that somebody is away from his", of(|placed| placed.displacement)),
        ("numbers that nobody has", of(|placed| placed.gaps)),
        ("people with two numbers", of(|placed| placed.numbered_twice)),
        ("seconds until all have their number", Figure::of(runs.iter().map(|placed| placed.elapsed.as_secs_f64()))),
    ]
}
