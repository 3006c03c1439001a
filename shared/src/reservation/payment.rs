//! Whether a payment pays a reservation. A customer's word is no proof of it: what counts is what the payment service says.

use super::{Money, lifecycle::Reservation};

/// What the payment service states of a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// The reservation that it is for.
    pub reservation_id: String,
    /// The customer who pays.
    pub user_id: String,
    /// How far it is.
    pub stage: Stage,
    /// What is paid, where it was said.
    pub amount: Option<Money>,
}

/// How far a payment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The money is there.
    Paid,
    /// It may still be.
    UnderWay,
    /// It will never be, or is no more; the service's word for it.
    Over(&'static str),
}

/// What a payment is to a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It pays it.
    Given,
    /// It may do so in a moment.
    NotYet,
    /// It does not, for this reason.
    None(String),
}

impl Statement {
    /// Whether the payment pays `reservation`: it is for it, by its customer, through, and enough. What its seats cost is known
    /// where the inventory said so.
    pub fn pays(&self, reservation: &Reservation) -> Proof {
        // Another's payment and an unknown one are told alike, so that nobody learns of the payments of others.
        if self.reservation_id != reservation.id || self.user_id != reservation.user_id {
            return Proof::None("there is no such payment of this reservation by its customer".to_owned());
        }
        match self.stage {
            Stage::Paid => {}
            Stage::UnderWay => return Proof::NotYet,
            Stage::Over(name) => return Proof::None(format!("the payment is {name}")),
        }
        match (&reservation.price, &self.amount) {
            (None, _) => Proof::Given,
            (Some(price), Some(paid)) if paid.covers(price) => Proof::Given,
            (Some(price), Some(paid)) => Proof::None(format!("the seats cost {price}, and {paid} is paid")),
            (Some(price), None) => Proof::None(format!("the seats cost {price}, and the payment names no amount")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reservation::lifecycle::{Terms, Wish};

    fn euros(amount: i64) -> Money {
        Money { amount, currency: "EUR".to_owned() }
    }

    fn reservation(price: Option<Money>) -> Reservation {
        let wish = Wish {
            user_id: "usr_1".into(),
            show_id: "evt_1".into(),
            seat_ids: vec!["A-1".into()],
            quantity: 1,
            key: "key-1".into(),
            trace_id: None,
        };
        Reservation { price, ..Reservation::pending(&wish, None, "me", 0, &Terms::DEFAULT) }
    }

    #[track_caller]
    fn check(price: Option<Money>, change: impl FnOnce(&mut Statement), expected: &str) {
        let reservation = reservation(price);
        let mut payment = Statement {
            reservation_id: reservation.id.clone(),
            user_id: "usr_1".into(),
            stage: Stage::Paid,
            amount: Some(euros(7_600)),
        };
        change(&mut payment);
        let found = match payment.pays(&reservation) {
            Proof::Given => "given".to_owned(),
            Proof::NotYet => "not yet".to_owned(),
            Proof::None(why) => why,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn a_payment_proves_by_reservation_customer_and_stage() {
        let foreign = "there is no such payment of this reservation by its customer";
        check(None, |_| {}, "given");
        check(None, |payment| payment.reservation_id = "rsv_other".into(), foreign);
        check(None, |payment| payment.user_id = "usr_other".into(), foreign);
        check(None, |payment| payment.user_id = String::new(), foreign);
        check(None, |payment| payment.stage = Stage::UnderWay, "not yet");
        check(
            None,
            |payment| payment.stage = Stage::Over("PAYMENT_STATUS_FAILED"),
            "the payment is PAYMENT_STATUS_FAILED",
        );
    }

    #[test]
    fn a_payment_of_less_than_the_seats_cost_proves_nothing() {
        check(Some(euros(7_600)), |_| {}, "given");
        check(Some(euros(7_599)), |_| {}, "given");
        check(Some(euros(7_601)), |_| {}, "the seats cost 7601 EUR, and 7600 EUR is paid");
        check(Some(euros(1)), |payment| payment.amount = None, "the seats cost 1 EUR, and the payment names no amount");
        let yen = || Some(Money { amount: 7_600, currency: "JPY".to_owned() });
        check(yen(), |_| {}, "the seats cost 7600 JPY, and 7600 EUR is paid");
        check(yen(), |payment| payment.amount = Some(Money { amount: 7_600, currency: String::new() }), "given");
    }
}
