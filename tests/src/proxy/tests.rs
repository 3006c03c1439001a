//! What a caller sees of each fault, and whether the service did what was asked.

use std::time::{Duration, Instant};

use serde_json::json;
use shared::{
    client::inventory::{Call, InventoryClient, TlsMaterial},
    reservation::Allotment,
    telemetry::trace::TraceContext,
};

use super::*;
use crate::{inventory::SeatState, reservations::Status, scenario::Given, stack::Stack};

const PATIENCE: Duration = Duration::from_millis(500);

/// The stack behind a proxy for one of its services.
async fn world(service: Service) -> (Stack, Proxy) {
    let stack = Stack::start().await.unwrap();
    stack.seed(&[Given {
        reservation_id: "rsv_1".to_owned(),
        event_id: "evt_1".to_owned(),
        user_id: String::new(),
        status: Status::Hold,
        seat_ids: vec!["A-1".to_owned()],
        quantity: 1,
        payment_intent_id: None,
        seats: SeatState::Held,
    }]);
    let upstream = match service {
        Service::Aws => stack.aws.address(),
        Service::Rest => stack.reservation_address,
        Service::Grpc => stack.inventory_address,
    };
    let proxy = Proxy::start(service, upstream, 1).await.unwrap();
    (stack, proxy)
}

/// Status and body of the answer, or how the call broke.
async fn expire(proxy: &Proxy) -> Result<(u16, String), String> {
    let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
    let url = format!("http://{}/internal/reservations/rsv_1", proxy.address());
    let call = client.patch(url).header("idempotency-key", "k").json(&json!({"status": "EXPIRED"}));
    let broken = |error: reqwest::Error| {
        let chain = shared::failure::chain(&error);
        if error.is_timeout() { "time-out".to_owned() } else { chain }
    };
    let answer = call.send().await.map_err(broken)?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.map_err(broken)?))
}

async fn commit(client: &InventoryClient) -> String {
    let allotment =
        Allotment { show_id: "evt_1".to_owned(), seat_ids: vec!["A-1".to_owned()], quantity: 1, user_id: None };
    let (reservation_id, idempotency_key, trace) = ("rsv_1", "k", &TraceContext::default());
    let call = Call { reservation_id, allotment: &allotment, idempotency_key, trace };
    client.commit(call, "pi_1").await.map_or_else(|error| error.to_string(), |()| "sold".to_owned())
}

#[tokio::test]
async fn a_call_without_a_fault_passes_in_both_directions() {
    let (stack, proxy) = world(Service::Rest).await;
    let (status, body) = expire(&proxy).await.unwrap();
    assert_eq!((status, stack.reservations.get("rsv_1").unwrap().status), (200, Status::Expired));
    assert!(body.contains(r#""status":"EXPIRED""#), "{body}");
    assert_eq!(proxy.counts(), Counts { calls: 1, faults: BTreeMap::new() });

    let (stack, proxy) = world(Service::Grpc).await;
    let client = InventoryClient::new(&proxy.address().to_string(), &TlsMaterial::default(), PATIENCE).unwrap();
    assert_eq!(commit(&client).await, "sold");
    assert_eq!(stack.inventory.seat_state("rsv_1"), SeatState::Sold);
}

#[tokio::test]
async fn a_rest_caller_sees_each_fault() {
    for fault in Fault::ALL {
        let (stack, proxy) = world(Service::Rest).await;
        proxy.set_next([Some(fault)]);
        let (started, seen) = (Instant::now(), expire(&proxy).await);
        match (fault, &seen) {
            (Fault::Slow, Ok((200, _))) => assert!(started.elapsed() >= SLOW),
            (Fault::Refused, Ok((429, _))) | (Fault::Failed(_), Ok((500, _))) => {}
            (Fault::Reset(_), Err(error)) => assert!(error.contains("reset"), "{error}"),
            (Fault::HalfOpen(_), Err(error)) => assert_eq!(error, "time-out"),
            (Fault::Truncated, Err(error)) => assert!(error.contains("body"), "{error}"),
            (Fault::Silent(_), Ok((200, body))) => assert_eq!(body, ""),
            (Fault::Page(_), Ok((400, page))) => assert!(page.starts_with("<html>"), "{page}"),
            (Fault::Another(_), Ok((200, body))) => assert!(body.contains("rsv_of_another"), "{body}"),
            _ => panic!("{fault:?}: {seen:?}"),
        }
        let carried_out = stack.reservations.get("rsv_1").unwrap().status == Status::Expired;
        assert_eq!(carried_out, has_effect(fault), "{fault:?}");
        assert_eq!(proxy.counts().faults, BTreeMap::from([(fault, 1)]));
        assert_eq!(expire(&proxy).await.unwrap().0, 200, "what comes next passes");
    }
}

#[tokio::test]
async fn a_grpc_caller_sees_each_fault() {
    for fault in Fault::ALL {
        let (stack, proxy) = world(Service::Grpc).await;
        let client = InventoryClient::new(&proxy.address().to_string(), &TlsMaterial::default(), PATIENCE).unwrap();
        proxy.set_next([Some(fault)]);
        let seen = commit(&client).await;
        let expected = match fault {
            Fault::Slow => "sold",
            Fault::Refused => "Unavailable",
            Fault::Failed(_) => "DeadlineExceeded",
            // The client itself finds out that the connection is dead.
            Fault::HalfOpen(_) | Fault::Reset(_) | Fault::Truncated => "",
            Fault::Silent(_) => "could not be read",
            Fault::Page(_) => "404",
            Fault::Another(_) => "Unimplemented",
        };
        assert!(seen.contains(expected) && (seen == "sold") == (fault == Fault::Slow), "{fault:?}: {seen}");
        assert_eq!(stack.inventory.seat_state("rsv_1") == SeatState::Sold, has_effect(fault), "{fault:?}");
    }
}

#[tokio::test]
async fn a_share_of_the_calls_goes_wrong_and_the_same_with_the_same_seed() {
    let faults = |share| async move {
        let (_stack, proxy) = world(Service::Rest).await;
        proxy.set_share(share);
        (0..1_000).map(|_| proxy.shared.draw().0).collect::<Vec<_>>()
    };
    let (once, again) = (faults(0.2).await, faults(0.2).await);
    assert_eq!(once, again);
    let share = once.iter().flatten().count();
    assert!((150..=250).contains(&share), "{share} of 1,000");
    assert!(Fault::ALL.iter().all(|fault| once.contains(&Some(*fault))), "every fault has its turn");
    assert!(faults(0.0).await.iter().all(Option::is_none));
}

fn has_effect(fault: Fault) -> bool {
    match fault {
        Fault::Slow | Fault::Truncated => true,
        Fault::Refused => false,
        Fault::Failed(side)
        | Fault::Reset(side)
        | Fault::HalfOpen(side)
        | Fault::Silent(side)
        | Fault::Page(side)
        | Fault::Another(side) => side == Side::After,
    }
}
