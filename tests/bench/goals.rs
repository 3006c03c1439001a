//! What every figure is held against.

use local_stack::placing;

use crate::{
    api::{self, Api, Who as Server},
    bar::{Bar, Bound},
    bookings::{Bookings, Who},
    figure::Figure,
    room::{self, Room},
    scale::{Scale, Step},
    sections::Results,
    stage::Latencies,
    warm::BATCH,
    workplace::Workplace,
};

/// The bars of everything that was measured.
pub(crate) fn bars(results: &Results, workplace: &Workplace) -> Vec<Bar> {
    let mut bars = Vec::new();
    if let Some(warm) = &results.warm {
        let limit = || (f64::from(Latencies::NEARBY.limit_ms()), "the sum of the four calls");
        let waiting = &warm.waiting;
        bars.push(Bar::times(format!("warm batch of {BATCH}, p50"), waiting.median(), 1.06, limit()));
        bars.push(Bar::times(format!("warm batch of {BATCH}, p99"), waiting.percentile(99), 1.2, limit()));
        let floor = (warm.no_op.median(), "the no-op's");
        bars.push(Bar::times(format!("warm batch of {BATCH} at 0 ms, p50"), warm.busy.median(), 15.0, floor));
    }
    if let Some(cold) = &results.cold {
        let (ours, no_op) = (&cold.ours, &cold.no_op);
        let floor = (no_op.first_poll.median(), "the no-op's");
        bars.push(Bar::times("cold start to the first poll", ours.first_poll.median(), 3.0, floor));
        let floor = (no_op.first_answer.median(), "the no-op's");
        bars.push(Bar::times("cold start to the first answer", ours.first_answer.median(), 6.0, floor));
    }
    if let Some(cost) = &results.cost {
        let of_record = |per_thousand: f64| per_thousand / 1_000.0;
        bars.push(Bar {
            floor: Some(of_record(cost.no_op.median())),
            ..Bar::of("processor time of a record", of_record(cost.ours.median()), "ms", Bound::AtMost(0.15))
        });
        let requests = |what: &str, requests, most| Bar::of(what, requests, "requests", Bound::AtMost(most));
        bars.push(requests("DynamoDB, for a record", cost.record.dynamodb.requests, 2.0));
        bars.push(requests("DynamoDB, for a duplicate", cost.duplicate.dynamodb.requests, 1.0));
    }
    if let Some(memory) = &results.memory {
        let what = format!("peak memory at batches of {BATCH}");
        bars.push(Bar::of(what, memory.usual.median(), "MiB", Bound::Below(16.0)));
    }
    if let Some(sizes) = &results.sizes {
        let largest = sizes.iter().map(|size| size.zipped).fold(0.0, f64::max);
        bars.push(Bar::of("the largest function, zipped", largest, "MiB", Bound::Below(4.0)));
    }
    if let Some(Ok(bookings)) = &results.bookings {
        bars.extend(of_bookings(bookings));
    }
    if let Some(room) = &results.room {
        bars.extend(of_line(room));
    }
    bars.extend(results.api.iter().flat_map(|(api, _)| of_api(api)));
    bars.extend(results.scale.as_ref().and_then(|scale| growth(scale, workplace)));
    bars
}

/// What writing bookings is held against.
fn of_bookings(bookings: &Bookings) -> Vec<Bar> {
    let rate = |who, round_trip_ms| {
        let is_it =
            |way: &&crate::bookings::Way| way.who == who && way.batch == 10 && way.round_trip_ms == round_trip_ms;
        bookings.ways.iter().find(is_it).map(|way| way.rate.median())
    };
    let ways = [(Who::Ours, "bookings"), (Who::Prepared, "bookings, prepared")];
    let against = |what: &'static str, other, round_trip_ms, least| {
        ways.into_iter().filter_map(move |(who, name)| {
            let measured = rate(who, round_trip_ms)? / rate(other, round_trip_ms)?;
            Some(Bar::of(format!("{name}, batch of 10{what}"), measured, "times", Bound::AtLeast(least)))
        })
    };
    let counted = |what: &str, measured, most| Bar::of(what, measured, "", Bound::AtMost(most));
    let (ours, no_op) = (bookings.ours.first_poll.median(), (bookings.no_op.first_poll.median(), "the no-op's"));
    let original = against(" at 2 ms, against three statements a record", Who::Original, 2, 15.0);
    let pipeline = against(" at 2 ms, against psycopg's pipeline with an inbox", Who::Pipeline, 2, 1.0);
    let on_the_spot = against(" on the spot, against psycopg's pipeline with an inbox", Who::Pipeline, 0, 1.0);
    let others = [
        counted("bookings, round trips of a batch", bookings.round_trips, 1.0),
        // The server itself may flush now and then, for itself.
        counted("bookings, flushes of a batch", bookings.flushes, 1.1),
        Bar::times("bookings, cold start to the first poll", ours, 3.0, no_op),
    ];
    original.chain(pipeline).chain(on_the_spot).chain(others).collect()
}

/// What no death and no copy may do to our line.
fn of_line(room: &Room) -> Vec<Bar> {
    let ours = room.designs.iter().filter(|design| design.way == placing::Way::Ours);
    let counts = ours.flat_map(|design| design.figures.iter().map(|counted| (design.is_calm, counted)));
    let held = counts.filter(|(_, (what, _))| [room::GAPS, room::TWICE].contains(what));
    let bar = |(is_calm, (what, figure)): (bool, &(&str, Figure))| {
        let dying = if is_calm { "" } else { " whose processes die" };
        Bar::of(format!("our line{dying}, {what}"), figure.percentile(100), "", Bound::AtMost(0.0))
    };
    held.map(bar).collect()
}

/// What the reservation API is held against.
fn of_api(api: &Api) -> Vec<Bar> {
    let ours = api.ways.iter().filter(|way| way.who == Server::Ours);
    let of = |way: &api::Way| {
        let mut bars = Vec::new();
        for requests in &way.requests {
            let what = |percent: &str| format!("{} of {}, {percent}", requests.asked.name(), api::API);
            let limit = || (f64::from(way.who.calls_ms(requests.asked)), "the sum of its calls");
            bars.push(Bar::times(what("p50"), requests.waiting.median(), 1.06, limit()));
            bars.push(Bar::times(what("p99"), requests.waiting.percentile(99), 1.2, limit()));
        }
        let no_op = (api.no_op.first_poll.median(), "the no-op's");
        let what = format!("first poll of {}", api::API);
        bars.push(Bar::times(what, way.starts.first_poll.median(), 3.0, no_op));
        bars
    };
    ours.flat_map(of).collect()
}

/// Two environments against one. The driver and its services want a core too, so that two cores can't tell.
fn growth(scale: &Scale, workplace: &Workplace) -> Option<Bar> {
    let rate = |environments| {
        let step = scale.busy.iter().find(|step: &&Step| step.environments == environments);
        step.map(|step| step.rate.median())
    };
    let cores = workplace.cores().unwrap_or_default();
    let unjudged = (cores < 3).then(|| format!("the driver wants a core beside theirs, and there are {cores}"));
    let measured = rate(2)? / rate(1)?;
    Some(Bar { unjudged, ..Bar::of("two environments against one", measured, "times", Bound::AtLeast(1.8)) })
}
