//! The parts of a run, one after the other.

use clap::ValueEnum;
use local_stack::catalogue::NAMES;

use crate::{
    api::{self, API, Api, Step},
    batch::FUNCTION,
    bookings::{self, BOOKING, Bookings},
    cold::{self, Cold},
    cost::{self, Cost},
    memory::{self, Memory},
    room::{self, Room},
    scale::{self, Scale},
    size::{self, Size},
    stop::Stop,
    warm::{self, Warm},
    workplace::Workplace,
};

/// A part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// from starting a process to its first answer
    Cold,
    /// the latency of a batch
    Warm,
    /// processor time, requests and bytes of a record
    Cost,
    /// the most that a process holds
    Memory,
    /// the zipped functions
    Size,
    /// environments side by side
    Scale,
    /// bookings in PostgreSQL, beside others who write them
    Bookings,
    /// the waiting room, beside a counter that is raised batch by batch
    WaitingRoom,
    /// the reservation API, request by request and in a closed loop, beside a create in Node
    Api,
}

/// What the parts found; a part that was not asked for found nothing.
#[derive(Default)]
pub(crate) struct Results {
    pub(crate) cold: Option<Cold>,
    pub(crate) warm: Option<Warm>,
    pub(crate) cost: Option<Cost>,
    pub(crate) memory: Option<Memory>,
    pub(crate) sizes: Option<Vec<Size>>,
    pub(crate) scale: Option<Scale>,
    /// Or why there are none.
    pub(crate) bookings: Option<Result<Bookings, String>>,
    pub(crate) room: Option<Room>,
    pub(crate) api: Option<(Api, Vec<Step>)>,
}

impl Section {
    pub(crate) const ALL: [Self; 9] = [
        Self::Size,
        Self::Cold,
        Self::Warm,
        Self::Cost,
        Self::Memory,
        Self::Scale,
        Self::Bookings,
        Self::WaitingRoom,
        Self::Api,
    ];

    /// What it is called where a person waits for it, or reads that it is invalid.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Cold => "cold starts",
            Self::Warm => "warm batches",
            Self::Cost => "processor time, requests and bytes",
            Self::Memory => "peak memory",
            Self::Size => "sizes",
            Self::Scale => "environments side by side",
            Self::Bookings => "bookings",
            Self::WaitingRoom => "the waiting room",
            Self::Api => "the reservation API",
        }
    }

    /// The functions that it measures.
    pub(crate) fn functions(self) -> &'static [&'static str] {
        match self {
            Self::Size => &NAMES,
            Self::Cold | Self::Warm | Self::Cost | Self::Memory | Self::Scale => &[FUNCTION],
            Self::Bookings => &[BOOKING],
            Self::WaitingRoom => &room::FUNCTIONS,
            Self::Api => &[API],
        }
    }

    /// Takes this part's figures, in a runtime of its own, so that nothing of one part goes on during the next.
    pub(crate) fn measure(self, workplace: &Workplace, results: &mut Results) -> Result<(), Stop> {
        match self {
            Self::Cold => results.cold = Some(workplace.bound(cold::measure(workplace))??),
            Self::Warm => results.warm = Some(workplace.bound(warm::measure(workplace))??),
            Self::Cost => results.cost = Some(workplace.bound(cost::measure(workplace))??),
            Self::Memory => results.memory = Some(workplace.bound(memory::measure(workplace))??),
            Self::Size => results.sizes = Some(size::measure(workplace)?),
            Self::Scale => results.scale = Some(workplace.unbound(scale::measure(workplace))??),
            Self::Bookings => results.bookings = Some(workplace.unbound(bookings::measure(workplace))??),
            Self::WaitingRoom => results.room = Some(workplace.unbound(room::measure(workplace))??),
            Self::Api => {
                let api = workplace.bound(api::measure(workplace))??;
                let steps = workplace.unbound(api::side_by_side(workplace, &api))??;
                results.api = Some((api, steps));
            }
        }
        Ok(())
    }
}
