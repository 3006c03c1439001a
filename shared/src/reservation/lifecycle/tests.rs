use super::*;

const NOW: u64 = 1_800_000_000_000;
const DEADLINE: u64 = NOW + 60_000;
const TERMS: Terms = Terms::DEFAULT;

fn wish() -> Wish {
    Wish {
        user_id: "usr_1".to_owned(),
        show_id: "evt_1".to_owned(),
        seat_ids: vec!["A-1".to_owned(), "A-2".to_owned()],
        quantity: 2,
        key: "key-1".to_owned(),
        trace_id: None,
    }
}

fn pending() -> Reservation {
    Reservation::pending(&wish(), None, "me", NOW, &TERMS)
}

fn on_hold() -> Reservation {
    pending().held(Hold { seat_ids: wish().seat_ids, price: None }, NOW + 50).to
}

fn payment(intent_id: &str) -> Payment {
    Payment { intent_id: intent_id.to_owned(), amount: Some(7_600), currency: Some("EUR".to_owned()) }
}

#[track_caller]
fn written(decision: Decision) -> Reservation {
    match decision {
        Decision::Write(change) => {
            assert_eq!(change.to.version, change.from.version + 1, "a change is a new version");
            assert!(change.to.events.iter().all(|event| event.n == change.to.version), "{:?}", change.to.events);
            change.to
        }
        other @ (Decision::Already | Decision::Refused { .. }) => panic!("{other:?}"),
    }
}

fn kinds(reservation: &Reservation) -> Vec<(&'static str, &'static str)> {
    reservation.events.iter().map(|event| (event.kind.name(), event.by.name())).collect()
}

const REFUSED: Decision = Decision::Refused { after: None };

/// Every reservation that can be, by its status.
fn all() -> Vec<Reservation> {
    let paid = written(on_hold().confirm(&payment("pi_1"), By::Payment, NOW + 100, &TERMS));
    let cancelled = written(on_hold().cancel(By::Client, NOW + 100));
    let expired = written(on_hold().expire(By::Worker, DEADLINE));
    let failed = pending().refused_seats(Shortage::SeatUnavailable, true, NOW + 100).to;
    vec![pending(), on_hold(), paid, cancelled, expired, failed]
}

#[test]
fn the_same_wish_has_the_same_id_and_any_other_has_another() {
    let id = wish().reservation_id();
    assert_eq!(id, wish().reservation_id());
    assert!(id.len() == 30 && id.starts_with("rsv_"), "{id}");
    assert!(id[4..].bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()), "{id}");
    for other in [Wish { user_id: "usr_2".into(), ..wish() }, Wish { key: "key-2".into(), ..wish() }] {
        assert_ne!(id, other.reservation_id());
    }
    // Where one value ends and the next begins is part of it.
    let (one, two) = (Wish { user_id: "ab".into(), key: "c".into(), ..wish() }, Wish { user_id: "a".into(), ..wish() });
    assert_ne!(one.reservation_id(), Wish { key: "bc".into(), ..two }.reservation_id());
}

#[test]
fn an_admission_names_the_reservation_whatever_the_key() {
    let admission = crate::admission::token::tests::admission();
    let by = |wish: &Wish| Reservation::pending(wish, Some(&admission), "me", NOW, &TERMS);
    let reservation = by(&wish());
    assert_eq!((reservation.id.as_str(), reservation.queue_item_id.as_deref()), ("rsv_q1abc_17_2", Some("q1abc")));
    let other_key = Wish { key: "key-2".into(), ..wish() };
    assert_eq!(by(&other_key).id, reservation.id);
    assert_eq!(reservation.found_by(&other_key, "you", NOW), Found::InProgress(LEASE), "the key is no part of it");
    assert_eq!(reservation.found_by(&Wish { quantity: 3, ..wish() }, "you", NOW), Found::Other);
    assert_eq!(pending().queue_item_id, None);
    let later = reservation.held(Hold { seat_ids: wish().seat_ids, price: None }, NOW + 50).to;
    assert_eq!(later.queue_item_id.as_deref(), Some("q1abc"), "each change keeps it");
}

#[test]
fn a_wish_is_the_same_whatever_the_order_of_its_seats() {
    let other_order = Wish { seat_ids: vec!["A-2".into(), "A-1".into()], ..wish() };
    assert_eq!(pending().found_by(&other_order, "you", NOW), Found::InProgress(LEASE));
    for other in [
        Wish { seat_ids: vec!["A-1".into(), "A-3".into()], ..wish() },
        Wish { show_id: "evt_2".into(), ..wish() },
        Wish { quantity: 3, ..wish() },
    ] {
        assert_eq!(pending().found_by(&other, "you", NOW), Found::Other, "also while it is in progress: {other:?}");
    }
}

#[test]
fn a_new_reservation_has_a_deadline_and_its_timer() {
    let reservation = pending();
    assert_eq!((reservation.status.clone(), reservation.version), (Status::Pending, 1));
    assert_eq!((reservation.hold_expires_at, reservation.lease_until), (DEADLINE, Some(NOW + 10_000)));
    assert_eq!(kinds(&reservation), [("timer", "client")]);
}

#[test]
fn a_repeat_is_told_what_the_first_was_told() {
    let expired_since = written(on_hold().expire(By::Worker, DEADLINE));
    let cases = [
        ("held", on_hold(), Found::Held),
        ("held, and ended since", expired_since, Found::Held),
        ("refused", all()[5].clone(), Found::Failed),
        (
            "refused after an unclear try",
            pending().refused_seats(Shortage::SeatUnavailable, false, NOW + 100).to,
            Found::Failed,
        ),
        ("expired without seats", written(pending().expire(By::Worker, DEADLINE)), Found::Over),
        ("ended before it began", Reservation::tombstone("rsv_1", NOW), Found::Over),
    ];
    for (case, reservation, expected) in cases {
        assert_eq!(reservation.found_by(&wish(), "you", DEADLINE + 1), expected, "{case}");
    }
}

#[test]
fn a_repeat_goes_on_when_the_lease_is_over_and_while_there_is_time() {
    let lease_over = NOW + 10_000;
    assert_eq!(pending().found_by(&wish(), "you", lease_over - 1), Found::InProgress(Duration::from_millis(1)));
    let Found::Abandoned(change) = pending().found_by(&wish(), "you", lease_over) else { panic!("nobody is at it") };
    assert_eq!((change.from.owner.as_deref(), change.to.owner.as_deref()), (Some("me"), Some("you")));
    assert_eq!(
        (change.to.version, change.to.lease_until),
        (1, Some(lease_over + 10_000)),
        "it is the same reservation"
    );
    assert_eq!(change.to.events, [], "its timer is known already");
    let last = DEADLINE - 15_000;
    assert!(matches!(pending().found_by(&wish(), "you", last), Found::Abandoned(_)));
    assert_eq!(pending().found_by(&wish(), "you", last + 1), Found::Over, "an answer could come after the release");
}

#[test]
fn a_hold_has_no_owner_any_more_and_is_told() {
    let reservation = pending().held(Hold { seat_ids: vec!["B-1".into(), "B-2".into()], price: None }, NOW + 50).to;
    assert_eq!((reservation.owner.clone(), reservation.lease_until), (None, None));
    assert_eq!((reservation.held_at, reservation.first_hold_expires_at), (Some(NOW + 50), Some(DEADLINE)));
    assert_eq!(reservation.seat_ids, ["B-1", "B-2"], "what the inventory chose");
    assert_eq!(kinds(&reservation), [("reservation.created", "client")]);
}

#[test]
fn a_refusal_ends_it_only_when_no_call_before_may_have_held_seats() {
    let only = pending().refused_seats(Shortage::SeatUnavailable, true, NOW).to;
    assert_eq!((only.status.clone(), only.owner.is_none(), only.expiration.is_some()), (Status::Failed, true, true));
    let later = pending().refused_seats(Shortage::SeatUnavailable, false, NOW).to;
    assert_eq!((later.status.clone(), later.version), (Status::Pending, 2), "its timer still releases");
    for refused in [only, later] {
        assert_eq!(kinds(&refused), [("reservation.failed", "client")]);
        assert_eq!(refused.failure.as_deref(), Some("SEAT_UNAVAILABLE"));
    }
}

#[test]
fn a_payment_confirms_a_hold_once_and_whatever_the_clock_says() {
    for now in [NOW + 100, DEADLINE + 60_000] {
        let paid = written(on_hold().confirm(&payment("pi_1"), By::Payment, now, &TERMS));
        assert_eq!((paid.status.clone(), paid.confirmed_at), (Status::Confirmed, Some(now)));
        assert_eq!(paid.order_id, Some(paid.id.replace("rsv_", "ord_")));
        assert_eq!((paid.amount, paid.currency.as_deref()), (Some(7_600), Some("EUR")));
        assert_eq!(kinds(&paid), [("reservation.confirmed", "payment")]);
        assert_eq!(paid.confirm(&payment("pi_1"), By::Client, now, &TERMS), Decision::Already);
        assert_eq!(paid.confirm(&payment("pi_2"), By::Payment, now, &TERMS), REFUSED, "a second payment");
    }
}

#[test]
fn a_payment_in_the_last_minute_before_the_inventory_frees_the_seats_expires_the_hold() {
    let freed = NOW + (900 + 10_800) * 1_000;
    let paid = written(on_hold().confirm(&payment("pi_1"), By::Payment, freed - 60_001, &TERMS));
    assert_eq!(paid.status, Status::Confirmed);
    let late = written(on_hold().confirm(&payment("pi_1"), By::Payment, freed - 60_000, &TERMS));
    assert_eq!((late.status.clone(), late.payment_intent_id.clone()), (Status::Expired, None));
    assert_eq!(kinds(&late), [("timer", "payment"), ("reservation.expired", "payment")], "its seats are given back");
}

#[test]
fn only_a_hold_is_cancelled() {
    let expected = [
        ("PENDING", Decision::Refused { after: Some(Duration::from_millis(9_800)) }),
        ("CONFIRMED", REFUSED),
        ("CANCELLED", Decision::Already),
        ("EXPIRED", REFUSED),
        ("FAILED", REFUSED),
    ];
    for reservation in all() {
        let decision = reservation.cancel(By::Client, NOW + 200);
        match expected.iter().find(|(status, _)| *status == reservation.status.name()) {
            Some((status, expected)) => assert_eq!(decision, *expected, "{status}"),
            None => assert_eq!(kinds(&written(decision)), [("reservation.cancelled", "client")]),
        }
    }
}

#[test]
fn what_is_not_settled_expires_at_its_deadline_and_not_before() {
    for reservation in [pending(), on_hold()] {
        let rest = Decision::Refused { after: Some(Duration::from_millis(1)) };
        assert_eq!(reservation.expire(By::Worker, DEADLINE - 1), rest, "{:?}", reservation.status);
        let expired = written(reservation.expire(By::Worker, DEADLINE));
        assert_eq!((expired.status.clone(), expired.owner.clone()), (Status::Expired, None));
        assert_eq!(kinds(&expired), [("reservation.expired", "worker")]);
        assert_eq!(expired.expire(By::Worker, DEADLINE), Decision::Already);
        assert_eq!(expired.confirm(&payment("pi_1"), By::Payment, DEADLINE, &TERMS), REFUSED);
    }
    for settled in [&all()[2], &all()[3], &all()[5]] {
        assert_eq!(settled.expire(By::Worker, DEADLINE), REFUSED, "{:?}", settled.status);
    }
}

#[test]
fn what_is_open_long_after_its_deadline_gets_its_timer_again() {
    let late = DEADLINE + 120_000;
    for reservation in [pending(), on_hold()] {
        assert_eq!(reservation.overdue(late - 1), None);
        let Change { from, to } = reservation.overdue(late).unwrap();
        assert_eq!((to.status.clone(), to.version), (from.status.clone(), from.version + 1));
        assert_eq!((to.owner.clone(), to.hold_expires_at), (from.owner, from.hold_expires_at), "nothing else changes");
        assert_eq!(kinds(&to), [("timer", "worker")]);
    }
    for ended in &all()[2..] {
        assert_eq!(ended.overdue(late), None, "{:?}", ended.status);
    }
}

#[test]
fn a_hold_is_extended_once_and_not_beyond_the_longest() {
    let seconds = Duration::from_secs;
    let longer = written(on_hold().extend(seconds(300), "k1", NOW + 100, &TERMS));
    assert_eq!((longer.status.clone(), longer.hold_expires_at), (Status::Hold, DEADLINE + 300_000));
    assert_eq!(longer.events, [], "its timer comes too early and waits by itself");
    assert_eq!(longer.extend(seconds(600), "k1", NOW + 200, &TERMS), Decision::Already, "the same key");
    assert_eq!(longer.extend(seconds(300), "k2", NOW + 200, &TERMS), Decision::Already, "a deadline that is reached");
    assert_eq!(longer.extend(seconds(301), "k2", NOW + 200, &TERMS), REFUSED, "a second extension");
    let longest = written(on_hold().extend(seconds(100_000), "k1", NOW + 100, &TERMS));
    assert_eq!(longest.hold_expires_at, NOW + 900_000);
    assert_eq!(on_hold().extend(seconds(300), "k1", DEADLINE, &TERMS), REFUSED, "after its deadline");
    let again = written(longer.expire(By::Worker, longer.hold_expires_at));
    assert_eq!(again.status, Status::Expired);
    assert_eq!(longer.expire(By::Worker, DEADLINE), Decision::Refused { after: Some(seconds(300)) });
}

#[test]
fn what_has_ended_has_a_day_of_deletion_and_nothing_else_has() {
    for reservation in all() {
        let ended = !matches!(reservation.status, Status::Pending | Status::Hold);
        assert_eq!(reservation.expiration.is_some(), ended, "{:?}", reservation.status);
    }
    assert_eq!(all()[2].expiration, Some(NOW / 1_000 + 400 * 24 * 60 * 60));
}

#[test]
fn a_status_only_goes_forward() {
    let rank = |status: &Status| match status {
        Status::Pending => 0,
        Status::Hold => 1,
        Status::Confirmed
        | Status::Cancelled
        | Status::Expired
        | Status::Failed
        | Status::Refunded
        | Status::Other(_) => 2,
    };
    for reservation in all() {
        let late = DEADLINE + 10;
        for decision in [
            reservation.confirm(&payment("pi_1"), By::Payment, late, &TERMS),
            reservation.cancel(By::Payment, late),
            reservation.expire(By::Worker, late),
            reservation.extend(Duration::from_secs(10), "k", late, &TERMS),
        ] {
            if let Decision::Write(change) = decision {
                assert!(rank(&change.to.status) > rank(&change.from.status), "{change:#?}");
            }
        }
    }
}
