//! What must never happen, and what must have happened in the end.

use local_stack::reservations::Status;
use serde_json::Value;

use crate::{
    gate::Request,
    kind::Kind,
    services::{Claim, Held, Lease, Part, Seats},
    state::{Delivery, State},
};

/// What must never be asked, whether or not the service lets it happen, and what must never happen.
pub(crate) fn judge(held: Held, request: &Request, before: Part, after: Part) -> Result<(), String> {
    let Held { status, paid_by } = held;
    match (request, before, after) {
        (Request::Release(_), ..) if !matches!(status, Status::Expired | Status::Cancelled) => {
            Err(format!("the release of a reservation that is {status}"))
        }
        (Request::Commit(commit), ..)
            if paid_by.and_then(Kind::approved_payment) != Some(&commit.payment_intent_id) =>
        {
            Err(format!("the sale of a reservation that is {status}, paid by {paid_by:?}"))
        }
        (_, Part::Seats(before), Part::Seats(after)) if before != after && before != Seats::Held => {
            Err(format!("the seats were {before:?} and are {after:?}"))
        }
        (_, Part::Reservation(before), Part::Reservation(after))
            if before != after && before.status != Status::Hold =>
        {
            Err(format!("a second end: {before:?}, then {after:?}"))
        }
        (_, Part::Claim(before, own), Part::Claim(after, own_now)) if (before, own) != (after, own_now) => match before
        {
            Claim::InProgress(Lease::Live) if !own && own_now => {
                Err("a claim was taken while another's lease lasts".to_owned())
            }
            Claim::Completed if after != Claim::Completed => Err("a completed event was reopened".to_owned()),
            Claim::Absent | Claim::InProgress(_) | Claim::Completed if !own && !own_now => {
                Err(format!("another's claim was changed from {before:?} to {after:?}"))
            }
            Claim::Absent | Claim::InProgress(_) | Claim::Completed => Ok(()),
        },
        (Request::Aws { body, .. }, Part::Bus(_), _) => match paid_by.and_then(Kind::approved_payment) {
            _ if status == Status::Hold => Err("a refund before the reservation has ended".to_owned()),
            Some(payment) if refunded(body).as_deref() == Some(payment) => {
                Err(format!("a refund of {payment}, which confirmed the reservation"))
            }
            Some(_) | None => Ok(()),
        },
        _ => Ok(()),
    }
}

impl State {
    /// Why this is no good end, once no message is left.
    pub(crate) fn unfinished(&self, kinds: &[Kind]) -> Result<(), String> {
        if let Some(left) = self.deliveries.iter().position(|delivery| delivery.at != Delivery::GONE) {
            return Err(format!("{:?} can't go on", kinds[left]));
        }
        let due = match self.reservation.status {
            Status::Confirmed => Seats::Sold,
            Status::Expired | Status::Cancelled => Seats::Free,
            status @ (Status::Pending | Status::Hold | Status::Failed | Status::Refunded) => {
                return Err(format!("the reservation is left {status}"));
            }
        };
        if self.seats != due {
            return Err(format!("the reservation is {} and its seats are {:?}", self.reservation.status, self.seats));
        }
        kinds.iter().try_for_each(|kind| owed(self, *kind))
    }
}

/// What an event owes before its message may go.
pub(crate) fn owed(state: &State, kind: Kind) -> Result<(), String> {
    let Held { status, paid_by } = state.reservation;
    if state.claims[kind.index()] != Claim::Completed {
        return Err("it was not completed".to_owned());
    }
    let won = match kind.approved_payment() {
        // Its event and the customer's own confirm may both sell by one payment.
        Some(payment) => paid_by.and_then(Kind::approved_payment) == Some(payment),
        None => status == kind.function().wanted(),
    };
    if won && state.seats == Seats::Held {
        return Err(format!("the reservation is {status} and its seats are held"));
    }
    if kind.refunds() && !won && !state.refunds[kind.index()] {
        return Err(format!("the reservation is {status} and the payment was not refunded"));
    }
    if status.is_terminal() { Ok(()) } else { Err(format!("the reservation is {status}")) }
}

fn refunded(body: &str) -> Option<String> {
    let body: Value = serde_json::from_str(body).ok()?;
    let detail: Value = serde_json::from_str(body["Entries"][0]["Detail"].as_str()?).ok()?;
    Some(detail["payment_intent_id"].as_str()?.to_owned())
}
