//! What the reservation API's answer means for an event: the decision of every race, without any call.

use std::time::Duration;

use crate::{
    client::reservations::{Answer, Silence, Snapshot},
    failure::quoted,
    reservation::{Holding, Status, Transition},
};

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The reservation is where the event wants it: settle with the inventory.
    Settle(Holding),
    /// Another end won.
    Lost {
        /// The end that won.
        status: Status,
        /// The reservation is confirmed, but by another payment than ours.
        paid_twice: bool,
        /// The show that the tickets were for, where the answer says so.
        show_id: Option<String>,
    },
    /// The answer does not decide; reading the reservation may.
    AskAgain(Silence),
    /// The reservation is open, and the API does not change it now.
    Wait {
        /// Where it is, for people.
        message: String,
        /// When the API wants to be asked again, if it says so.
        after: Option<Duration>,
    },
    /// Nothing may be settled on this answer; the text says why.
    Retry(String),
}

/// Decides by the answer to the status change.
pub fn decide(transition: &Transition, answer: Answer) -> Decision {
    match answer {
        Answer::Accepted(snapshot) => match snapshot.status.clone() {
            Ok(status) if status == transition.wanted => settle(transition, snapshot),
            Ok(status) => Decision::Retry(format!(
                "the reservation API accepted the change to {}, and names the status {}{}",
                transition.wanted.name(),
                quoted(status.name()),
                capitals(&status),
            )),
            Err(silence) => Decision::AskAgain(silence),
        },
        // Whether our payment confirmed it, or another, only the reservation itself says.
        Answer::Conflict(Snapshot { status: Ok(Status::Confirmed), payment_intent_id: Ok(None), .. })
            if transition.payment_intent_id.is_some() =>
        {
            Decision::AskAgain(Silence("does not say by which payment the reservation is confirmed".to_owned()))
        }
        Answer::Conflict(snapshot) => decide_by_reading(transition, snapshot),
    }
}

/// Decides by the reservation itself, read because the answer to the change was silent.
pub fn decide_by_reading(transition: &Transition, snapshot: Snapshot) -> Decision {
    let status = match snapshot.status.clone() {
        Ok(status) => status,
        Err(silence) => return Decision::AskAgain(silence),
    };
    if status == transition.wanted {
        return settle(transition, snapshot);
    }
    match status {
        Status::Confirmed | Status::Cancelled | Status::Expired | Status::Failed | Status::Refunded => {
            lost(status, false, snapshot)
        }
        Status::Hold | Status::Pending => {
            Decision::Wait { message: no_end(transition, &status), after: snapshot.retry_after }
        }
        Status::Other(_) => Decision::Retry(no_end(transition, &status)),
    }
}

/// The reservation is where the event wants it. Seats move only when the answer is sound in all that they depend on.
fn settle(transition: &Transition, snapshot: Snapshot) -> Decision {
    if let Some(ours) = &transition.payment_intent_id {
        match &snapshot.payment_intent_id {
            Ok(Some(theirs)) if ours != theirs => return lost(transition.wanted.clone(), true, snapshot),
            Ok(Some(_) | None) => {}
            Err(silence) => return Decision::AskAgain(silence.clone()),
        }
    }
    snapshot.holding.map_or_else(Decision::AskAgain, Decision::Settle)
}

fn lost(status: Status, paid_twice: bool, snapshot: Snapshot) -> Decision {
    let show_id = snapshot.holding.ok().and_then(|holding| holding.show_id);
    Decision::Lost { status, paid_twice, show_id }
}

/// Why nothing follows from a reservation that is at no end.
fn no_end(transition: &Transition, status: &Status) -> String {
    let (name, wanted) = (quoted(status.name()), transition.wanted.name());
    format!("the reservation is {name}, which is neither {wanted} nor another end{}", capitals(status))
}

/// What to do about a status that is known in capitals alone.
fn capitals(status: &Status) -> String {
    let meant = Status::named(&status.name().to_uppercase());
    let misspelt = matches!(status, Status::Other(_)) && !matches!(meant, Status::Other(_));
    if misspelt { format!("; if {} is meant, it must be in capitals", meant.name()) } else { String::new() }
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

    fn silence() -> Silence {
        Silence("is silent".to_owned())
    }

    fn snapshot(status: Option<Status>, payment: Option<&str>) -> Snapshot {
        Snapshot {
            status: status.ok_or_else(silence),
            payment_intent_id: Ok(payment.map(str::to_owned)),
            holding: Ok(Holding::default()),
            retry_after: None,
        }
    }

    fn rendered(decision: &Decision) -> String {
        match decision {
            Decision::Settle(_) => "settle".into(),
            Decision::Lost { status, paid_twice: true, .. } => format!("paid twice, {}", status.name()),
            Decision::Lost { status, .. } => format!("lost to {}", status.name()),
            Decision::AskAgain(_) => "ask again".into(),
            Decision::Wait { after: None, .. } => "wait".into(),
            Decision::Wait { after: Some(after), .. } => format!("wait {} s", after.as_secs()),
            Decision::Retry(_) => "retry".into(),
        }
    }

    #[track_caller]
    fn check(wanted: Status, answer: Answer, expected: &str) {
        assert_eq!(rendered(&decide(&transition(wanted), answer)), expected);
    }

    #[test]
    fn the_wanted_status_in_a_2xx_settles_and_none_says_nothing() {
        for wanted in [Status::Confirmed, Status::Cancelled, Status::Expired] {
            check(wanted.clone(), Answer::Accepted(snapshot(Some(wanted.clone()), None)), "settle");
            check(wanted, Answer::Accepted(snapshot(None, None)), "ask again");
        }
    }

    #[test]
    fn another_status_in_a_2xx_is_never_settled_on() {
        for status in TERMINAL.into_iter().filter(|status| *status != Status::Expired) {
            check(Status::Expired, Answer::Accepted(snapshot(Some(status), None)), "retry");
        }
        check(Status::Expired, Answer::Accepted(snapshot(Some(Status::Hold), None)), "retry");
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
        check(Status::Confirmed, Answer::Accepted(snapshot(None, Some("pi_other"))), "ask again");
    }

    #[test]
    fn a_conflict_with_confirmed_that_names_no_payment_is_read_before_it_is_settled() {
        let unnamed = || snapshot(Some(Status::Confirmed), None);
        check(Status::Confirmed, Answer::Conflict(unnamed()), "ask again");
        assert_eq!(rendered(&decide_by_reading(&transition(Status::Confirmed), unnamed())), "settle");
    }

    #[test]
    fn a_409_that_names_no_end_waits_as_long_as_it_says_and_one_that_nobody_knows_is_retried() {
        for status in ["HOLD", "PENDING"] {
            let open = snapshot(Some(Status::named(status)), None);
            check(Status::Expired, Answer::Conflict(open.clone()), "wait");
            let later = Snapshot { retry_after: Some(Duration::from_secs(59)), ..open };
            check(Status::Expired, Answer::Conflict(later.clone()), "wait 59 s");
            check(Status::Expired, Answer::Accepted(later), "retry");
        }
        check(Status::Expired, Answer::Conflict(snapshot(Some(Status::named("UNHEARD_OF")), None)), "retry");
    }

    #[test]
    fn a_status_in_small_letters_is_named_with_what_it_should_be() {
        let answer = Answer::Accepted(snapshot(Some(Status::named("expired")), None));
        let Decision::Retry(reason) = decide(&transition(Status::Expired), answer) else { panic!("no retry") };
        assert!(reason.contains("the status expired;") && reason.contains("if EXPIRED is meant"), "{reason}");
        let unheard_of = no_end(&transition(Status::Expired), &Status::named("UNHEARD_OF"));
        assert!(!unheard_of.contains("capitals"), "{unheard_of}");
    }

    #[test]
    fn a_409_without_a_status_is_decided_by_reading() {
        check(Status::Expired, Answer::Conflict(snapshot(None, None)), "ask again");
        let read = |status| rendered(&decide_by_reading(&transition(Status::Expired), snapshot(status, None)));
        assert_eq!(read(Some(Status::Expired)), "settle");
        assert_eq!(read(Some(Status::Confirmed)), "lost to CONFIRMED");
        assert_eq!(read(Some(Status::Hold)), "wait");
        assert_eq!(read(None), "ask again");
    }

    #[test]
    fn nothing_is_settled_on_a_part_that_breaks_its_rule() {
        let unsound = Snapshot { holding: Err(silence()), ..snapshot(Some(Status::Expired), None) };
        check(Status::Expired, Answer::Accepted(unsound.clone()), "ask again");
        check(Status::Expired, Answer::Conflict(unsound.clone()), "ask again");
        assert_eq!(rendered(&decide_by_reading(&transition(Status::Expired), unsound)), "ask again");

        let payer_unclear = Snapshot { payment_intent_id: Err(silence()), ..snapshot(Some(Status::Confirmed), None) };
        check(Status::Confirmed, Answer::Accepted(payer_unclear.clone()), "ask again");
        check(Status::Confirmed, Answer::Conflict(payer_unclear), "ask again");
    }

    #[test]
    fn a_part_that_decides_nothing_may_break_its_rule() {
        let unsound = Snapshot { holding: Err(silence()), ..snapshot(Some(Status::Confirmed), Some("pi_other")) };
        check(Status::Expired, Answer::Conflict(unsound.clone()), "lost to CONFIRMED");
        check(Status::Confirmed, Answer::Conflict(unsound), "paid twice, CONFIRMED");
        let payer_unclear = Snapshot { payment_intent_id: Err(silence()), ..snapshot(Some(Status::Expired), None) };
        check(Status::Expired, Answer::Accepted(payer_unclear), "settle");
    }
}
