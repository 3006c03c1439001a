//! What can be done with reservations, against a real table and an inventory that holds its callers to the rules: whatever
//! is lost, late or repeated on the way, there is one reservation, and its seats are held, sold or free with it.

use std::time::{Duration, SystemTime};

use aws_config::{BehaviorVersion, retry::RetryConfig, timeout::TimeoutConfig};
use aws_sdk_dynamodb::config::{Credentials, Region};
use local_stack::{
    aws::{AwsEndpoint, Injected},
    inventory::{Inventory, Method, Scripted, SeatState},
};
use shared::{
    client::inventory::{InventoryClient, TlsMaterial},
    reservation::{
        Status,
        lifecycle::{Payment, Terms, Wish},
        service::{Created, Error, Listing, Reservations, Settlement},
        table::Table,
    },
    telemetry::trace::TraceContext,
};
use tokio::net::TcpListener;
use tonic::Code;

use crate::harness::eventually;

const TABLE: &str = "reservations";
const SHOW: &str = "evt_1";
const WRITE: &str = "DynamoDB_20120810.UpdateItem";
const UNTRACED: TraceContext = TraceContext { traceparent: None, baggage: None };

/// The reservations, and the two services that they are made with.
struct Office {
    aws: AwsEndpoint,
    inventory: Inventory,
    reservations: Reservations,
}

impl Office {
    async fn open() -> Self {
        Self::with(Terms::DEFAULT, Duration::from_millis(300)).await
    }

    /// One that waits for the inventory, which takes a second.
    async fn with_a_slow_inventory() -> Self {
        let office = Self::with(Terms::DEFAULT, Duration::from_secs(10)).await;
        office.inventory.set_latency(Duration::from_secs(1));
        office
    }

    async fn with(terms: Terms, patience: Duration) -> Self {
        let aws = AwsEndpoint::start().await.unwrap();
        aws.create_reservations_table(TABLE).await.unwrap();
        let inventory = Inventory::default();
        inventory.stock(SHOW, &["A-1", "A-2", "A-3", "A-4"].map(str::to_owned), 10);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(inventory.clone().serve(listener));
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(shared::client::aws::http::client())
            .region(Region::new("us-east-1"))
            .endpoint_url(aws.url())
            // As deployed, but in less time.
            .retry_config(RetryConfig::standard().with_max_attempts(2).with_initial_backoff(Duration::from_millis(1)))
            .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(Duration::from_millis(500)).build())
            .credentials_provider(Credentials::new("test", "test", None, None, "test"));
        let table = Table::new(aws_sdk_dynamodb::Client::from_conf(config.build()), TABLE);
        let client = InventoryClient::new(&address, &TlsMaterial::default(), patience).unwrap();
        Self { aws, inventory, reservations: Reservations::new(table, client, None, None, terms) }
    }

    async fn create(&self, wish: &Wish) -> Result<Created, Error> {
        self.reservations.create(wish, None, &UNTRACED).await
    }

    /// The status in the table and the state of the seats, as text.
    async fn state(&self, id: &str) -> String {
        let status = match self.reservations.find(id).await {
            Ok(found) => found.status.name().to_owned(),
            Err(Error::Unknown) => "absent".to_owned(),
            Err(error) => panic!("{error}"),
        };
        format!("{status}, {}", self.inventory.seat_state(id))
    }

    fn asked(&self, method: Method) -> usize {
        self.inventory.calls().iter().filter(|call| call.method == method).count()
    }

    async fn age(&self, id: &str, by: Duration) {
        self.aws.age_reservation(TABLE, id, by).await.unwrap();
    }
}

fn wish(key: &str, seats: &[&str]) -> Wish {
    Wish {
        user_id: "usr_1".to_owned(),
        show_id: SHOW.to_owned(),
        seat_ids: seats.iter().map(|seat| (*seat).to_owned()).collect(),
        quantity: u32::try_from(seats.len()).unwrap().max(1),
        key: key.to_owned(),
        trace_id: None,
    }
}

fn payment(intent_id: &str) -> Settlement {
    Settlement::Confirmed(Payment { intent_id: intent_id.to_owned(), amount: Some(7_600), currency: None })
}

const SECONDS_10: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_wish_becomes_a_hold_in_three_round_trips_and_a_repeat_is_told_the_same_in_one() {
    let office = Office::open().await;
    let wish = wish("k", &["A-1", "A-2"]);
    let first = office.create(&wish).await.unwrap();
    assert_eq!((first.replayed, first.reservation.status.clone()), (false, Status::Hold));
    assert_eq!(office.state(&first.reservation.id).await, "HOLD, held");
    assert_eq!((office.asked(Method::ReserveSeat), office.aws.requests().len()), (1, 3), "two writes, and our look");
    let call = &office.inventory.calls()[0];
    assert_eq!(call.idempotency_key, format!("{}#reserve", first.reservation.id));
    let freed = call.hold_expires_at.unwrap().duration_since(SystemTime::now()).unwrap();
    assert!((11_690..=11_700).contains(&freed.as_secs()), "900 s and three hours from the creation: {freed:?}");

    let again = office.create(&wish).await.unwrap();
    assert_eq!((again.replayed, &again.reservation), (true, &first.reservation));
    assert_eq!(office.asked(Method::ReserveSeat), 1);
}

#[tokio::test]
async fn a_key_belongs_to_one_wish_of_one_customer() {
    let office = Office::open().await;
    let own = office.create(&wish("k", &["A-1"])).await.unwrap().reservation;
    assert!(matches!(office.create(&wish("k", &["A-2"])).await, Err(Error::OtherWish)));
    let other = Wish { user_id: "usr_2".to_owned(), ..wish("k", &["A-2"]) };
    let others = office.create(&other).await.unwrap().reservation;
    assert_ne!(own.id, others.id);
    for (id, user_id) in [(&own.id, "usr_2"), (&others.id, "usr_1")] {
        assert!(matches!(office.reservations.get(id, user_id).await, Err(Error::Unknown)));
        assert!(matches!(office.reservations.cancel(id, user_id).await, Err(Error::Unknown)));
        assert!(matches!(office.reservations.confirm(id, user_id, "pi_1", &UNTRACED).await, Err(Error::Unknown)));
        let longer = office.reservations.extend(id, user_id, SECONDS_10, "k").await;
        assert!(matches!(longer, Err(Error::Unknown)));
    }
}

#[tokio::test]
async fn seats_that_another_has_are_refused_and_the_refusal_is_told_again() {
    let office = Office::open().await;
    office.create(&wish("k1", &["A-1"])).await.unwrap();
    let late = wish("k2", &["A-1", "A-2"]);
    assert!(matches!(office.create(&late).await, Err(Error::NoSeats)));
    assert_eq!(office.state(&late.reservation_id()).await, "FAILED, unknown", "all seats or none");
    assert!(matches!(office.create(&late).await, Err(Error::NoSeats)));
    assert_eq!(office.asked(Method::ReserveSeat), 2, "nothing is asked again");
    office.create(&wish("k3", &["A-2"])).await.unwrap();
}

#[tokio::test]
async fn an_unclear_answer_leaves_the_deadline_and_the_same_key_goes_on_with_it() {
    let cases = [
        ("unavailable", Scripted::Status(Code::Unavailable, "down".into())),
        ("no answer", Scripted::Hang),
        ("no answer, but an effect", Scripted::HangAfterEffect),
        ("a proxy", Scripted::Status(Code::Unimplemented, "404 page not found".into())),
        ("another's word", Scripted::Error { code: 16, message: "internal".into() }),
        ("an empty answer", Scripted::Commit(local_stack::inventory::CommitStatus::Unspecified)),
    ];
    for (case, answer) in cases {
        let office = Office::open().await;
        let wish = wish("k", &["A-1"]);
        let id = wish.reservation_id();
        office.inventory.answer_next(&id, answer);
        let Err(Error::Inventory { after, .. }) = office.create(&wish).await else { panic!("{case}: it is unclear") };
        assert!(after <= SECONDS_10, "{case}: {after:?}");
        assert!(office.state(&id).await.starts_with("PENDING, "), "{case}");
        assert!(matches!(office.create(&wish).await, Err(Error::InProgress { .. })), "{case}: its lease is not over");
        office.age(&id, SECONDS_10).await;
        let made = office.create(&wish).await.unwrap();
        assert_eq!((made.replayed, office.state(&id).await.as_str()), (false, "HOLD, held"), "{case}");
        assert_eq!(office.inventory.oversold(), [""; 0], "{case}");
    }
}

/// What an unclear call may hold, the timer gives back; so a refusal after it must not end the reservation.
#[tokio::test]
async fn a_refusal_after_an_unclear_try_waits_for_the_timer() {
    let office = Office::open().await;
    let wish = wish("k", &["A-1"]);
    let id = wish.reservation_id();
    office.inventory.answer_next(&id, Scripted::Hang);
    office.create(&wish).await.unwrap_err();
    office.age(&id, SECONDS_10).await;
    office.inventory.answer_next(&id, Scripted::Error { code: 14, message: "taken".into() });
    assert!(matches!(office.create(&wish).await, Err(Error::NoSeats)));
    assert_eq!(office.state(&id).await, "PENDING, unknown");
    assert!(matches!(office.create(&wish).await, Err(Error::NoSeats)), "the customer is told the same");
    assert_eq!(office.asked(Method::ReserveSeat), 2, "and no seats are asked for any more");
    office.age(&id, Duration::from_secs(50)).await;
    office.reservations.settle(&id, &Settlement::Expired).await.unwrap();
    assert_eq!(office.state(&id).await, "EXPIRED, unknown");
}

#[tokio::test]
async fn no_seats_are_asked_for_within_15_seconds_of_the_deadline() {
    let office = Office::open().await;
    let wish = wish("k", &["A-1"]);
    office.inventory.answer_next(&wish.reservation_id(), Scripted::Hang);
    office.create(&wish).await.unwrap_err();
    office.age(&wish.reservation_id(), Duration::from_secs(46)).await;
    assert!(matches!(office.create(&wish).await, Err(Error::Over)));
    assert_eq!(office.asked(Method::ReserveSeat), 1);
}

#[tokio::test]
async fn a_write_that_is_lost_on_its_way_there_or_back_is_healed_by_the_same_key() {
    for (others, lost) in [(0, "the first write"), (1, "the last write")] {
        let office = Office::open().await;
        let wish = wish("k", &["A-1"]);
        let throttled = Injected::Answer { status: 400, kind: "ThrottlingException".into(), message: "slow".into() };
        // The client asks twice.
        office.aws.fail_after(others, WRITE, throttled.clone());
        office.aws.fail_next(WRITE, throttled);
        assert!(matches!(office.create(&wish).await, Err(Error::Table { .. })), "{lost}");
        if others == 1 {
            office.age(&wish.reservation_id(), SECONDS_10).await;
        }
        office.create(&wish).await.unwrap();
        assert_eq!(office.state(&wish.reservation_id()).await, "HOLD, held", "{lost}");
        let effects = office.inventory.calls().iter().filter(|call| call.had_effect).count();
        assert_eq!(effects, 1, "{lost}");
    }
}

/// The client asks again by itself, and finds what its first try has written.
#[tokio::test]
async fn a_write_whose_answer_is_lost_is_known_by_what_it_wrote() {
    for others in [0, 1] {
        let office = Office::open().await;
        let wish = wish("k", &["A-1"]);
        office.aws.fail_after(others, WRITE, Injected::LostAnswer);
        let made = office.create(&wish).await.unwrap();
        assert_eq!((made.replayed, made.reservation.status), (false, Status::Hold), "write {others}");
        assert_eq!(office.asked(Method::ReserveSeat), 1);
    }
    let office = Office::open().await;
    let id = office.create(&wish("k", &["A-1"])).await.unwrap().reservation.id;
    office.aws.fail_next(WRITE, Injected::LostAnswer);
    let paid = office.reservations.settle(&id, &payment("pi_1")).await.unwrap();
    assert_eq!((paid.status, paid.version), (Status::Confirmed, 3));
}

#[tokio::test]
async fn of_two_with_one_key_one_holds_and_the_other_waits() {
    let office = Office::with_a_slow_inventory().await;
    let wish = wish("k", &["A-1"]);
    let (one, two) = tokio::join!(office.create(&wish), office.create(&wish));
    let (made, told) = if one.is_ok() { (one, two) } else { (two, one) };
    assert!(made.is_ok() && matches!(told, Err(Error::InProgress { .. })), "{made:?} {told:?}");
    assert_eq!(office.asked(Method::ReserveSeat), 1);
}

/// The first is only slow. Whoever took over is right, and the first must not write over it.
#[tokio::test]
async fn after_a_take_over_the_first_can_no_longer_write() {
    let office = Office::with_a_slow_inventory().await;
    let wish = wish("k", &["A-1"]);
    let id = wish.reservation_id();
    let (first, second) = tokio::join!(office.create(&wish), async {
        eventually("the first asks for the seats", || office.asked(Method::ReserveSeat) == 1).await;
        office.age(&id, SECONDS_10).await;
        office.create(&wish).await
    });
    assert!(second.is_ok(), "{second:?}");
    assert!(matches!(first, Err(Error::InProgress { .. }) | Ok(Created { replayed: true, .. })), "{first:?}");
    assert_eq!(office.state(&id).await, "HOLD, held");
    assert_eq!(office.reservations.find(&id).await.unwrap().version, 2, "one change of status");
}

/// The release of a cancellation could overtake the call that holds the seats, and nobody would give them back.
#[tokio::test]
async fn what_is_being_held_is_neither_given_up_nor_paid_yet() {
    let office = Office::with_a_slow_inventory().await;
    let wish = wish("k", &["A-1"]);
    let id = wish.reservation_id();
    let (made, refused) = tokio::join!(office.create(&wish), async {
        eventually("the seats are asked for", || office.asked(Method::ReserveSeat) == 1).await;
        [office.reservations.cancel(&id, "usr_1").await, office.reservations.settle(&id, &payment("pi_1")).await]
    });
    for refused in refused {
        let Err(Error::Conflict(conflict)) = refused else { panic!("{refused:?}") };
        assert_eq!((conflict.reservation.status.name(), conflict.after.is_some()), ("PENDING", true));
    }
    assert!(made.is_ok(), "{made:?}");
    assert_eq!(office.state(&id).await, "HOLD, held");
}

#[tokio::test]
async fn seats_that_the_inventory_did_not_name_are_not_believed() {
    let office = Office::open().await;
    let any = Wish { quantity: 3, ..wish("k", &[]) };
    let made = office.create(&any).await.unwrap().reservation;
    assert_eq!((made.seat_ids.len(), made.quantity), (0, 3), "the inventory counts places");
    assert_eq!(office.state(&made.id).await, "HOLD, held");
    let too_many = Wish { quantity: 8, ..wish("k2", &[]) };
    assert!(matches!(office.create(&too_many).await, Err(Error::NoSeats)));
}

#[tokio::test]
async fn a_payment_confirms_once_and_the_customer_is_told_then_and_not_before() {
    let office = Office::open().await;
    let id = office.create(&wish("k", &["A-1"])).await.unwrap().reservation.id;
    let confirm = || office.reservations.confirm(&id, "usr_1", "pi_1", &UNTRACED);
    assert!(matches!(confirm().await, Err(Error::NotPaid { after: Some(_), .. })), "his word is no payment");
    for _ in 0..2 {
        let paid = office.reservations.settle(&id, &payment("pi_1")).await.unwrap();
        assert_eq!((paid.status.clone(), paid.version, paid.amount), (Status::Confirmed, 3, Some(7_600)));
    }
    assert_eq!(confirm().await.unwrap().order_id, Some(id.replace("rsv_", "ord_")));
    for conflict in [
        office.reservations.settle(&id, &payment("pi_2")).await,
        office.reservations.settle(&id, &Settlement::Expired).await,
        office.reservations.settle(&id, &Settlement::Cancelled).await,
        office.reservations.cancel(&id, "usr_1").await,
        office.reservations.confirm(&id, "usr_1", "pi_2", &UNTRACED).await,
    ] {
        let Err(Error::Conflict(conflict)) = conflict else { panic!("{conflict:?}") };
        assert_eq!((conflict.reservation.status.name(), conflict.after), ("CONFIRMED", None));
    }
}

#[tokio::test]
async fn a_timer_that_comes_early_is_told_how_long_to_wait() {
    let office = Office::open().await;
    let id = office.create(&wish("k", &["A-1"])).await.unwrap().reservation.id;
    let expire = || office.reservations.settle(&id, &Settlement::Expired);
    let Err(Error::Conflict(conflict)) = expire().await else { panic!("it is on hold") };
    assert!((58..=60).contains(&conflict.after.unwrap().as_secs()), "{conflict:?}");
    office.reservations.extend(&id, "usr_1", Duration::from_secs(100), "k").await.unwrap();
    let Err(Error::Conflict(conflict)) = expire().await else { panic!("it lasts longer") };
    assert!((158..=160).contains(&conflict.after.unwrap().as_secs()), "{conflict:?}");
    office.age(&id, Duration::from_secs(160)).await;
    for _ in 0..2 {
        assert_eq!(expire().await.unwrap().status, Status::Expired);
    }
}

#[tokio::test]
async fn of_two_who_change_it_at_once_one_does() {
    let office = Office::open().await;
    office.aws.set_latency(Duration::from_millis(50));
    let id = office.create(&wish("k", &["A-1"])).await.unwrap().reservation.id;
    let approval = payment("pi_1");
    let (paid, cancelled) =
        tokio::join!(office.reservations.settle(&id, &approval), office.reservations.cancel(&id, "usr_1"));
    let won = if paid.is_ok() { Status::Confirmed } else { Status::Cancelled };
    assert_ne!(paid.is_ok(), cancelled.is_ok(), "{paid:?} {cancelled:?}");
    let found = office.reservations.find(&id).await.unwrap();
    assert_eq!((found.status, found.version), (won, 3));
}

#[tokio::test]
async fn what_is_to_be_published_is_kept_until_somebody_clears_it() {
    let office = Office::open().await;
    let id = office.create(&wish("k", &["A-1"])).await.unwrap().reservation.id;
    let found = office.reservations.cancel(&id, "usr_1").await.unwrap();
    let events: Vec<(&str, u64, &str)> = found
        .events
        .iter()
        .map(|event| (shared::name::Named::name(event.kind), event.n, shared::name::Named::name(event.by)))
        .collect();
    let expected =
        [("timer", 1, "client"), ("reservation.created", 2, "client"), ("reservation.cancelled", 3, "client")];
    assert_eq!(events, expected);
}

#[tokio::test]
async fn what_is_ended_before_it_began_is_never_created() {
    let office = Office::open().await;
    let wish = wish("k", &["A-1"]);
    let id = wish.reservation_id();
    assert!(office.reservations.entomb(&id).await.unwrap());
    assert!(!office.reservations.entomb(&id).await.unwrap(), "it is so already");
    assert!(matches!(office.create(&wish).await, Err(Error::Over)));
    assert!(matches!(office.reservations.get(&id, "").await, Err(Error::Unknown)), "it is nobody's");
    assert_eq!((office.asked(Method::ReserveSeat), office.inventory.seat_state(&id)), (0, SeatState::Unknown));
    let created = office.create(&self::wish("k2", &["A-1"])).await.unwrap().reservation.id;
    assert!(matches!(office.reservations.entomb(&created).await, Err(Error::Conflict(_))), "it was created before");
}

#[tokio::test]
async fn a_customer_finds_his_reservations_page_by_page() {
    let office = Office::open().await;
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(office.create(&wish(&format!("k{number}"), &[])).await.unwrap().reservation.id);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    ids.reverse();
    office.create(&Wish { user_id: "usr_2".into(), ..wish("k", &[]) }).await.unwrap();
    office.reservations.cancel(&ids[2], "usr_1").await.unwrap();

    let (mut listing, mut found) = (Listing { limit: 2, ..Listing::default() }, Vec::new());
    loop {
        let page = office.reservations.list("usr_1", &listing).await.unwrap();
        assert!(page.reservations.len() <= 2);
        found.extend(page.reservations.into_iter().map(|reservation| reservation.id));
        let Some(next) = page.next else { break };
        let text = next.to_string();
        assert_eq!(shared::reservation::table::Cursor::read(&text).as_ref(), Some(&next));
        listing.after = Some(next);
    }
    assert_eq!(found, ids, "the newest first, and nobody else's");
    let cancelled = Listing { status: Some(Status::Cancelled), limit: 100, ..Listing::default() };
    let page = office.reservations.list("usr_1", &cancelled).await.unwrap();
    assert_eq!(page.reservations.iter().map(|found| &found.id).collect::<Vec<_>>(), [&ids[2]]);
    let elsewhere = Listing { show_id: Some("evt_2".into()), limit: 100, ..Listing::default() };
    assert_eq!(office.reservations.list("usr_1", &elsewhere).await.unwrap().reservations, []);
}
