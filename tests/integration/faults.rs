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
};
use serde_json::{Value, json};

use crate::harness::{World, event_with};

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
