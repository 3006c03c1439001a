//! From any message body to an event, and from an event's ids to a URL.

// The fuzzer's own judge, so that both ask the same.
#[path = "../fuzz/oracle.rs"]
mod oracle;

use std::{fs, panic, sync::LazyLock};

use local_stack::{build::workspace, reservations::Reservations, scenario};
use percent_encoding::percent_decode_str;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use shared::{
    client::reservations::{Access, ReservationClient},
    name::Named,
    reservation::Holding,
    settlement::event::{Event, EventType, Payment},
    telemetry::trace::TraceContext,
};
use tokio::{net::TcpListener, runtime::Runtime};

use self::oracle::{TYPES, check_event, read};
use crate::cases;

/// Every field that is read, under each of its names.
const NAMES: [&str; 27] = [
    "detail-type",
    "type",
    "detail",
    "payload",
    "status",
    "reservation_id",
    "reservationId",
    "payment_intent_id",
    "paymentIntentId",
    "payment_id",
    "paymentId",
    "event_id",
    "eventId",
    "seat_ids",
    "seatIds",
    "qty",
    "quantity",
    "amount",
    "currency",
    "user_id",
    "userId",
    "expires_at",
    "expiresAt",
    "trace_id",
    "traceId",
    "traceparent",
    "baggage",
];

/// Any JSON, with the names and texts that mean something among its own.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        any::<String>().prop_map(Value::from),
        id().prop_map(Value::from),
        "[0-9]{1,25}".prop_map(Value::from),
        "[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z".prop_map(Value::from),
        proptest::sample::select(&["payment.approved", "payment.failed", "reservation.expired", "COMPLETED"][..])
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, |inner| {
        let name = prop_oneof![4 => proptest::sample::select(&NAMES[..]).prop_map(str::to_owned), 1 => any::<String>()];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            proptest::collection::vec((name, inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// What may stand where an id is expected: much of it is made of what means something in a URL.
fn id() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => r"[./\\?#%:@&=;+~a-z0-9-]{1,12}",
        1 => "(\\.|%2e|%2E|/|%2f|\\\\|%5c){1,6}",
        2 => "[!-~]{1,256}",
        1 => ".{0,260}",
        1 => any::<String>(),
    ]
}

fn valid(event_type: EventType, id: &str) -> Value {
    json!({
        "detail-type": event_type.name(),
        "detail": {
            "reservation_id": id, "payment_intent_id": id, "event_id": id, "seat_ids": ["A-1", "A-2"], "qty": 2,
            "amount": 7600, "currency": "USD", "user_id": "usr_1", "expires_at": "2026-11-20T09:14:20Z",
        },
    })
}

/// A reservation API that notes what it is asked, and a client of it.
struct Api {
    runtime: Runtime,
    reservations: Reservations,
    client: ReservationClient,
}

static API: LazyLock<Api> = LazyLock::new(|| {
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", 0))).unwrap();
    let base = format!("http://{}/base", listener.local_addr().unwrap());
    let reservations = Reservations::default();
    runtime.spawn(reservations.clone().serve(listener));
    let client = ReservationClient::new(&base, Access::Open, std::time::Duration::from_secs(10)).unwrap();
    Api { runtime, reservations, client }
});

/// The target of the request that the client makes for an id, as it arrives.
fn target_of(id: &str) -> String {
    let _no_such_resource = API.runtime.block_on(API.client.get(id, &TraceContext::default()));
    API.reservations.calls().pop().expect("the client asked").target
}

proptest! {
    #![proptest_config(cases(3_000))]

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn any_json_is_read_without_a_panic(body in any_json()) {
        read(&body.to_string());
    }

    #[test]
    fn a_valid_event_with_anything_in_one_place_is_read_without_a_panic(
        event_type in proptest::sample::select(&TYPES[..]),
        name in proptest::sample::select(&NAMES[..]),
        anything in proptest::option::of(any_json()),
        in_detail in any::<bool>(),
        cut in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut event = valid(event_type, "rsv_1");
        let scope = if in_detail { &mut event["detail"] } else { &mut event };
        match anything {
            Some(anything) => scope[name] = anything,
            None => drop(scope.as_object_mut().unwrap().remove(name)),
        }
        let mut text = event.to_string().into_bytes();
        read(std::str::from_utf8(&text).unwrap());
        let at = cut.index(text.len());
        text[at] = byte;
        read(&String::from_utf8_lossy(&text));
        read(&String::from_utf8_lossy(&text[..at]));
    }
}

proptest! {
    #![proptest_config(cases(1_500))]

    #[test]
    fn an_id_that_is_accepted_is_one_segment_of_the_path_that_is_asked_for(
        event_type in proptest::sample::select(&TYPES[..]),
        id in id(),
    ) {
        if let Some(event) = read(&valid(event_type, &id).to_string()) {
            prop_assert_eq!(&event.reservation_id, &id, "an id is never changed");
            let target = target_of(&event.reservation_id);
            let segment = target.strip_prefix("/base/internal/reservations/");
            let segment = segment.unwrap_or_else(|| panic!("{id:?} led to {target}"));
            prop_assert!(!segment.is_empty() && !segment.contains(['/', '\\', '?', '#']), "{:?} led to {}", id, target);
            prop_assert!(!matches!(segment, "." | ".."), "{:?} led to {}", id, target);
            prop_assert_eq!(percent_decode_str(segment).decode_utf8().unwrap(), id.as_str());
        }
    }
}

/// The test above says nothing if no id is ever accepted or refused.
#[test]
fn ids_are_accepted_and_refused() {
    let accepted = |id: &str| read(&valid(EventType::PaymentApproved, id).to_string()).is_some();
    for id in ["rsv_1", "a/../b", "...", "%2e%2e", "?x#y", "a\\b"] {
        assert!(accepted(id), "{id}");
    }
    for id in ["", ".", "..", " ", "a b", "a\nb", "ü", "a\u{7f}"] {
        assert!(!accepted(id), "{id:?}");
    }
}

/// They are what the fuzzer starts from.
#[test]
fn every_body_of_the_event_files_is_read_soundly() {
    let files = scenario::load_all(scenario::events_folder()).unwrap();
    let bodies = files.iter().flat_map(|file| &file.records).map(|record| &record.body);
    let accepted = bodies.clone().filter(|body| read(body).is_some()).count();
    assert!((1..bodies.count()).contains(&accepted), "some are broken on purpose, {accepted} are not");
}

/// A judge that never finds anything would say nothing about the parser.
#[test]
fn an_event_that_the_parser_must_not_make_is_found() {
    let event = read(&valid(EventType::PaymentApproved, "rsv_1").to_string()).unwrap();
    let payment = |intent_id: &str, amount| Some(Payment { intent_id: intent_id.into(), amount, currency: None });
    let with = |holding| Event { holding, ..event.clone() };
    let faulty = [
        Event { event_type: EventType::ReservationExpired, ..event.clone() },
        Event { reservation_id: "..".into(), ..event.clone() },
        Event { reservation_id: "a b".into(), ..event.clone() },
        with(Holding { show_id: Some(String::new()), ..event.holding.clone() }),
        Event { payment: None, ..event.clone() },
        Event { payment: payment("pi_1", None), ..event.clone() },
        Event { payment: payment("a\nb", Some(1)), ..event.clone() },
        with(Holding { quantity: Some(0), ..event.holding.clone() }),
        with(Holding { quantity: Some(3), ..event.holding.clone() }),
    ];
    check_event(&event);
    for event in faulty {
        assert!(panic::catch_unwind(|| check_event(&event)).is_err(), "{event:?}");
    }
}

/// The fuzzer can only guess a name that it is not told.
#[test]
fn the_dictionary_of_the_fuzzer_has_every_name() {
    let dictionary = fs::read_to_string(workspace().join("tests/fuzz/event.dict")).unwrap();
    for name in NAMES.into_iter().chain(TYPES.map(Named::name)) {
        assert!(dictionary.lines().any(|line| line == format!(r#""\"{name}\"""#)), "{name}");
    }
}
