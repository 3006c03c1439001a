use serde_json::json;

use super::*;
use crate::booking::event::BookingEvent;

const SAME: Found = Found { users: 1, has_room: true, is_same: Some(true), outcome: None, is_told: false };

fn found(users: i64, has_room: bool, is_same: Option<bool>, outcome: Option<&str>, is_told: bool) -> Found {
    Found { users, has_room, is_same, outcome: outcome.map(str::to_owned), is_told }
}

#[track_caller]
fn check(settled: Option<(&str, bool, bool)>, found: Found, expected: &str) {
    let body = json!({
        "bookingId": "b", "userId": 7, "roomId": "101", "guests": 2, "startDate": "2026-06-10", "endDate": "2026-06-12",
    });
    let event = Created::parse(&body.to_string()).unwrap();
    let entry = Entry { event, source: "sqs".to_owned(), trace_id: None };
    let settled = settled.map(|(status, is_new, was_cancelled)| {
        ("b".to_owned(), Settled { status: status.to_owned(), is_new, was_cancelled })
    });
    let answers = Answers { settled: settled.into_iter().collect(), found: HashMap::from([("b".to_owned(), found)]) };
    assert_eq!(answers.ruling(&entry).to_string(), expected, "{answers:?}");
}

#[test]
fn what_was_settled_now_says_how() {
    check(Some(("Accepted", true, false)), SAME, "success");
    check(Some(("Cancelled", true, true)), SAME, "success");
    check(Some(("Accepted", true, true)), SAME, "success, given up by another");
    check(Some(("Refused", true, false)), SAME, "refused");
    check(Some(("Refused", true, true)), SAME, "refused");
    check(Some(("Waiting", true, false)), SAME, "retry");
}

#[test]
fn a_row_from_before_its_inbox_row_was_cleaned_away_is_a_duplicate() {
    for status in ["Accepted", "Cancelled", "Refused"] {
        check(Some((status, false, false)), SAME, "duplicate");
    }
}

#[test]
fn what_was_settled_before_is_a_duplicate_unless_nobody_was_told() {
    for status in ["Accepted", "Cancelled", "Refused"] {
        check(None, found(1, true, Some(true), Some(status), true), "duplicate");
    }
    check(None, found(1, true, Some(true), Some("Accepted"), false), "duplicate");
    check(None, found(1, true, Some(true), Some("Refused"), false), "refused");
    check(None, found(0, false, Some(true), Some("Accepted"), false), "duplicate");
}

#[test]
fn another_payload_is_rejected_whatever_became_of_the_first() {
    check(None, found(1, true, Some(false), Some("Accepted"), false), "payload_changed");
    check(None, found(1, true, Some(false), None, false), "payload_changed");
    check(None, found(0, true, Some(false), Some("Refused"), false), "payload_changed");
}

#[test]
fn who_or_what_is_not_there_may_come_and_who_is_two_may_not() {
    check(None, found(0, true, None, None, false), "retry");
    check(None, found(1, false, None, None, false), "retry");
    check(None, found(2, true, None, None, false), "ambiguous_user");
    check(None, found(2, false, None, None, false), "ambiguous_user");
}

#[test]
fn a_booking_that_found_no_row_and_no_rival_comes_again() {
    check(None, SAME, "retry");
}
