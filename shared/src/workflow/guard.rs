//! What the reservation API's answer means for an event: the decision of every race, without any call.

use crate::rest::reservation::{Answer, Snapshot, Status, Transition};

/// What an event type does when the reservation had already ended in another way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LostRace {
    /// Nothing is left to do.
    Superseded,
    /// Somebody paid for nothing and gets the money back.
    Refund,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The reservation is where the event wants it: settle with the inventory.
    Settle(Snapshot),
    /// Another end won.
    Lost {
        /// The end that won.
        status: Status,
        /// The reservation is confirmed, but by another payment than ours.
        paid_twice: bool,
        /// What the answer said besides.
        snapshot: Snapshot,
    },
    /// The answer does not decide; reading the reservation does.
    AskAgain,
    /// Nothing may be settled on this answer; the text says why.
    Retry(String),
}

/// Decides by the answer to the status change.
pub fn decide(transition: &Transition, answer: Answer) -> Decision {
    let snapshot = match answer {
        Answer::Accepted(snapshot) => {
            return match &snapshot.status {
                None => settle_unless_paid_twice(transition, snapshot),
                Some(status) if *status == transition.wanted => settle_unless_paid_twice(transition, snapshot),
                Some(status) => Decision::Retry(contradiction(transition, status)),
            };
        }
        Answer::Conflict(snapshot) => snapshot,
    };
    match snapshot.status.clone() {
        // Whether our payment confirmed it, or another, only the reservation itself says.
        Some(Status::Confirmed) if transition.payment_intent_id.is_some() && snapshot.payment_intent_id.is_none() => {
            Decision::AskAgain
        }
        Some(status) => by_status(transition, status, snapshot),
        None => Decision::AskAgain,
    }
}

/// Decides by the reservation itself, read after a conflict that did not say enough.
pub fn decide_by_reading(transition: &Transition, snapshot: Snapshot) -> Decision {
    match snapshot.status.clone() {
        Some(status) => by_status(transition, status, snapshot),
        None => {
            Decision::Retry("the reservation API refused the change and does not say the reservation's status".into())
        }
    }
}

fn by_status(transition: &Transition, status: Status, snapshot: Snapshot) -> Decision {
    if status == transition.wanted {
        return settle_unless_paid_twice(transition, snapshot);
    }
    match status {
        Status::Confirmed | Status::Cancelled | Status::Expired | Status::Failed | Status::Refunded => {
            Decision::Lost { status, paid_twice: false, snapshot }
        }
        Status::Other(_) => Decision::Retry(contradiction(transition, &status)),
    }
}

fn settle_unless_paid_twice(transition: &Transition, snapshot: Snapshot) -> Decision {
    match (&transition.payment_intent_id, &snapshot.payment_intent_id) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            Decision::Lost { status: transition.wanted.clone(), paid_twice: true, snapshot }
        }
        (Some(_) | None, Some(_) | None) => Decision::Settle(snapshot),
    }
}

fn contradiction(transition: &Transition, status: &Status) -> String {
    let status = crate::failure::quoted(status.name());
    format!("the reservation is {status}, which is neither {} nor another end", transition.wanted.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMINAL: [Status; 5] =
        [Status::Confirmed, Status::Cancelled, Status::Expired, Status::Failed, Status::Refunded];

    fn transition(wanted: Status) -> Transition {
        let payment = (wanted == Status::Confirmed).then(|| "pi_ours".to_owned());
        Transition { wanted, payment_intent_id: payment }
    }

    fn snapshot(status: Option<Status>, payment: Option<&str>) -> Snapshot {
        Snapshot { status, payment_intent_id: payment.map(str::to_owned), ..Snapshot::default() }
    }

    fn rendered(decision: &Decision) -> String {
        match decision {
            Decision::Settle(_) => "settle".into(),
            Decision::Lost { status, paid_twice: true, .. } => format!("paid twice, {}", status.name()),
            Decision::Lost { status, .. } => format!("lost to {}", status.name()),
            Decision::AskAgain => "ask again".into(),
            Decision::Retry(_) => "retry".into(),
        }
    }

    #[track_caller]
    fn check(wanted: Status, answer: Answer, expected: &str) {
        assert_eq!(rendered(&decide(&transition(wanted), answer)), expected);
    }

    #[test]
    fn the_wanted_status_or_none_in_a_2xx_settles() {
        for wanted in [Status::Confirmed, Status::Cancelled, Status::Expired] {
            check(wanted.clone(), Answer::Accepted(snapshot(Some(wanted.clone()), None)), "settle");
            check(wanted, Answer::Accepted(snapshot(None, None)), "settle");
        }
    }

    #[test]
    fn another_status_in_a_2xx_is_never_settled_on() {
        for status in TERMINAL.into_iter().filter(|status| *status != Status::Expired) {
            check(Status::Expired, Answer::Accepted(snapshot(Some(status), None)), "retry");
        }
        check(Status::Expired, Answer::Accepted(snapshot(Some(Status::named("HOLD")), None)), "retry");
    }

    #[test]
    fn a_409_that_names_the_wanted_status_settles() {
        check(Status::Expired, Answer::Conflict(snapshot(Some(Status::Expired), None)), "settle");
        check(Status::Cancelled, Answer::Conflict(snapshot(Some(Status::Cancelled), None)), "settle");
        check(Status::Confirmed, Answer::Conflict(snapshot(Some(Status::Confirmed), Some("pi_ours"))), "settle");
    }

    #[test]
    fn a_409_that_names_another_end_lost_the_race() {
        for wanted in [Status::Confirmed, Status::Cancelled, Status::Expired] {
            for status in TERMINAL.into_iter().filter(|status| *status != wanted) {
                let expected = format!("lost to {}", status.name());
                check(wanted.clone(), Answer::Conflict(snapshot(Some(status), None)), &expected);
            }
        }
    }

    #[test]
    fn a_confirmation_by_another_payment_is_paid_twice() {
        let other = || snapshot(Some(Status::Confirmed), Some("pi_other"));
        check(Status::Confirmed, Answer::Accepted(other()), "paid twice, CONFIRMED");
        check(Status::Confirmed, Answer::Conflict(other()), "paid twice, CONFIRMED");
        check(Status::Confirmed, Answer::Accepted(snapshot(None, Some("pi_other"))), "paid twice, CONFIRMED");
    }

    #[test]
    fn a_conflict_with_confirmed_that_names_no_payment_is_read_before_it_is_settled() {
        let unnamed = || snapshot(Some(Status::Confirmed), None);
        check(Status::Confirmed, Answer::Conflict(unnamed()), "ask again");
        assert_eq!(rendered(&decide_by_reading(&transition(Status::Confirmed), unnamed())), "settle");
    }

    #[test]
    fn a_409_that_names_no_end_is_retried() {
        for status in ["HOLD", "PENDING", "UNHEARD_OF"] {
            check(Status::Expired, Answer::Conflict(snapshot(Some(Status::named(status)), None)), "retry");
        }
    }

    #[test]
    fn a_409_without_a_status_is_decided_by_reading() {
        check(Status::Expired, Answer::Conflict(snapshot(None, None)), "ask again");
        let read = |status| rendered(&decide_by_reading(&transition(Status::Expired), snapshot(status, None)));
        assert_eq!(read(Some(Status::Expired)), "settle");
        assert_eq!(read(Some(Status::Confirmed)), "lost to CONFIRMED");
        assert_eq!(read(Some(Status::named("HOLD"))), "retry");
        assert_eq!(read(None), "retry");
    }
}
