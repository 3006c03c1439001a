//! Every fault of the network, in every call that an event costs: the event is settled all the same, each effect happens
//! once, and the environment is as good as new for the next event.
//!
//! The calls are counted in a run without a fault, so that a call which is new in the code is tried by itself.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{StreamExt, stream};
use local_stack::{
    inventory::SeatState,
    proxy::{Fault, Network},
    reservations::Status,
    soak::{self, Options, customers},
};
use serde_json::{Value, json};

use crate::harness::{World, binaries, event_with};

/// Lanes side by side; most of a case is waiting for a time-out.
const SIDE_BY_SIDE: usize = 8;

/// What comes of an event whatever happens to its calls.
#[derive(Clone, Copy, Debug)]
struct Case {
    name: &'static str,
    given: (Status, SeatState),
    changes: fn() -> Value,
    end: &'static str,
    outcome: &'static str,
}

const CASES: [Case; 3] = [
    Case {
        name: "an approval in time",
        given: (Status::Hold, SeatState::Held),
        changes: || json!({}),
        end: "CONFIRMED, sold",
        outcome: "success",
    },
    Case {
        name: "a late approval",
        given: (Status::Expired, SeatState::Free),
        changes: || json!({}),
        end: "EXPIRED, free",
        outcome: "late_approval",
    },
    Case {
        name: "an event that is rejected",
        given: (Status::Hold, SeatState::Held),
        changes: || json!({"qty": 0}),
        end: "HOLD, held",
        outcome: "rejected",
    },
];

#[tokio::test(flavor = "multi_thread")]
async fn any_fault_in_any_call_settles_the_event_once_and_spares_the_next() {
    let mut tries = Vec::new();
    for case in CASES {
        let (world, network) = World::behind_proxies().await;
        let before = Network::SERVICES.map(|(_, pick)| pick(&network).counts().calls);
        converge(&world, case, case.name).await;
        for ((name, pick), before) in Network::SERVICES.into_iter().zip(before) {
            let calls = pick(&network).counts().calls - before;
            tries.extend((0..calls).flat_map(|call| Fault::ALL.map(|fault| (case, name, pick, call, fault))));
        }
    }
    assert!(tries.len() >= 8 * Fault::ALL.len(), "{} tries: the calls were not seen", tries.len());
    let lanes = tries.into_iter().map(|(case, service, pick, call, fault)| {
        tokio::spawn(async move {
            let (world, network) = World::behind_proxies().await;
            pick(&network).set_next(std::iter::repeat_n(None, call).chain([Some(fault)]));
            let what = format!("{}, {fault:?} in call {} to the {service}", case.name, call + 1);
            converge(&world, case, &what).await;
            assert_eq!(pick(&network).counts().faults, BTreeMap::from([(fault, 1)]), "{what}: the fault happened");
            next_event_is_spared(&world, &what).await;
        })
    });
    let faults: Vec<_> =
        stream::iter(lanes).buffer_unordered(SIDE_BY_SIDE).filter_map(|end| async { end.err() }).collect().await;
    assert!(faults.is_empty(), "{faults:#?}");
}

/// `cargo soak`, in small.
#[tokio::test(flavor = "multi_thread")]
async fn a_soak_loses_nothing_and_does_nothing_twice() {
    let options = Options { events: 150, share: 0.2, environments: 1, seed: 1 };
    let report = soak::run(options, binaries(), |_waiting| {}).await.expect("it runs to its end");
    assert!(report.faults.is_empty(), "{:#?}", report.faults);
    let faults: usize = report.network.iter().flat_map(|(_, counts)| counts.faults.values()).sum();
    assert!(report.events >= 150 && report.messages > report.events && faults >= 100, "{report:#?}");
}

/// The sale of `cargo soak`, in small.
#[tokio::test(flavor = "multi_thread")]
async fn customers_of_a_sale_whose_functions_are_killed_are_told_one_thing_and_get_it() {
    let options = customers::Options { customers: 24, at_once: 12, share: 0.2, seed: 1 };
    let report = customers::run(options, binaries(), |_done| {}).await.expect("it comes to its end");
    assert!(report.breaches.is_empty(), "{report:#?}");
    // Somebody asked for everything once, and with the share of a fifth some of it went wrong.
    assert!(report.requests >= options.customers && report.killed > 0 && report.faults > 0, "{report:#?}");
}

/// Delivers the event until its message is gone, and looks at what is left.
async fn converge(world: &World, case: Case, what: &str) {
    let Case { given: (status, seats), changes, end, outcome, .. } = case;
    world.given(status, seats);
    let mut ended = vec![world.deliver_one(event_with("payment.approved", changes())).await];
    while !world.queue.is_empty() {
        ended.extend(world.redeliver().await);
    }
    let outcomes: Vec<&str> = ended.iter().map(|ended| ended.outcome.as_str()).collect();
    let errors: Vec<_> = ended.iter().map(|ended| &ended.line["error"]).collect();
    let last = outcomes.last().copied().unwrap_or_default();
    // The completion may have got through and its answer not.
    assert!(last == outcome || (outcomes.len() > 1 && last == "duplicate"), "{what}: {outcomes:?}, {errors:#?}");
    assert!(outcomes.len() <= 3, "{what}: one fault costs few deliveries: {outcomes:?}");
    assert_eq!(world.state(), end, "{what}");
    let effects = world.stack.inventory.calls().iter().filter(|call| call.had_effect).count();
    assert_eq!(effects, usize::from(outcome == "success"), "{what}: effects on the seats");
    let refunds = world.stack.aws.bus_entries();
    assert_eq!(!refunds.is_empty(), outcome == "late_approval", "{what}: {refunds:#?}");
    let keys = refunds.iter().map(|entry| entry.detail["idempotency_key"].to_string());
    assert!(keys.collect::<BTreeSet<_>>().len() <= 1, "{what}: one key: {refunds:#?}");
    assert_eq!(!world.dead_letters.messages().is_empty(), outcome == "rejected", "{what}");
}

/// The same process settles another event at once: nothing of the fault is left in it.
async fn next_event_is_spared(world: &World, what: &str) {
    let next = "rsv_next";
    world.seed(next, &["B-1", "B-2"], Status::Hold, SeatState::Held, None);
    let changes = json!({"reservation_id": next, "seat_ids": ["B-1", "B-2"], "payment_intent_id": "pi_next"});
    let ended = world.deliver_one(event_with("payment.approved", changes)).await;
    assert_eq!(ended.outcome, "success", "{what}: {:#}", ended.line);
    assert_eq!(world.state_of(next), "CONFIRMED, sold", "{what}");
}
