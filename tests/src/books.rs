//! The books of a sale when it has ended: reservations, seats, payments and dead letters, and what contradicts itself in them,
//! whatever anybody was told.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use crate::{
    aws::AwsError,
    inventory::{Inventory, SeatState},
    sale::Sale,
    stack::{RESERVATIONS, Stack},
};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Whom or what it is about.
    pub about: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.about, self.what)
    }
}

/// A reservation as its table keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Whose it is.
    pub user_id: String,
    /// Its status.
    pub status: String,
    /// Its tickets.
    pub quantity: u32,
    /// The payment that confirmed it.
    pub paid_by: Option<String>,
}

/// The books.
#[derive(Clone, Debug, Default)]
pub struct Books {
    /// The reservations, by their ids.
    pub reservations: BTreeMap<String, Kept>,
    /// The keys of the refunds of each payment.
    refunds: BTreeMap<String, BTreeSet<String>>,
}

impl Books {
    /// The books of a stack.
    ///
    /// # Errors
    /// When the table of the reservations can't be read.
    pub async fn of(stack: &Stack) -> Result<Self, AwsError> {
        let items = stack.aws.scan(RESERVATIONS).await?;
        let entries = stack.aws.bus_entries().into_iter();
        let refunds = entries.filter(|entry| entry.detail_type == "payment.refund_requested");
        Ok(Self::read(&items, refunds.map(|entry| entry.detail)))
    }

    /// The books by the items of the table of the reservations, and by the details of the refunds that were requested.
    pub fn read(items: &[Value], requested: impl IntoIterator<Item = Value>) -> Self {
        let mut refunds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for detail in requested {
            let text = |name: &str| detail[name].as_str().unwrap_or_default().to_owned();
            refunds.entry(text("payment_intent_id")).or_default().insert(text("idempotency_key"));
        }
        Self { reservations: items.iter().filter_map(kept).collect(), refunds }
    }

    /// How many payments have a refund.
    pub fn refunds(&self) -> usize {
        self.refunds.len()
    }

    /// What contradicts itself: seats that are sold twice or stand elsewhere than their reservation, and dead letters.
    pub fn faults(&self, sale: &Sale) -> Vec<Breach> {
        let letters = sale.queues.keys().flat_map(|name| {
            let letters = sale.stack.dead_letters(name).messages();
            letters.into_iter().map(|letter| ((*name).to_owned(), format!("{letter:?}")))
        });
        self.faults_by(&sale.stack.inventory, letters)
    }

    /// As [`Self::faults`], by an inventory, and by dead letters with the functions that they were for.
    pub fn faults_by(&self, inventory: &Inventory, letters: impl IntoIterator<Item = (String, String)>) -> Vec<Breach> {
        let oversold = inventory.oversold().into_iter();
        let oversold = oversold.map(|what| Breach { about: "the inventory".to_owned(), what });
        let letters = letters.into_iter();
        let letters = letters.map(|(about, letter)| Breach { about, what: format!("a dead letter: {letter}") });
        let seats = self.reservations.iter().filter_map(|(id, kept)| {
            let (status, seats) = (&kept.status, inventory.seat_state(id));
            let what = format!("it is {status}, and its seats are {seats}");
            (!due(status).contains(&seats)).then(|| Breach { about: id.clone(), what })
        });
        oversold.chain(letters).chain(seats).collect()
    }

    /// What is wrong with a payment that went through: it has to have bought the reservation, or be given back once.
    pub fn payment_fault(&self, payment: &str, reservation_id: &str) -> Option<String> {
        let refunds = self.refunds.get(payment).map_or(0, BTreeSet::len);
        let kept = self.reservations.get(reservation_id);
        let sold = kept.is_some_and(|kept| kept.paid_by.as_deref() == Some(payment) && kept.status == "CONFIRMED");
        let what = || format!("{payment} has {refunds} refunds, and {reservation_id} is {kept:?}");
        (usize::from(!sold) != refunds).then(what)
    }
}

fn kept(item: &Value) -> Option<(String, Kept)> {
    let text = |name: &str| item[name]["S"].as_str().map(str::to_owned);
    let quantity = item["quantity"]["N"].as_str().and_then(|number| number.parse().ok()).unwrap_or_default();
    let (user_id, paid_by) = (text("user_id").unwrap_or_default(), text("payment_intent_id"));
    Some((text("id")?, Kept { user_id, status: text("status")?, quantity, paid_by }))
}

/// Where the seats of a reservation stand once it has ended so.
fn due(status: &str) -> &'static [SeatState] {
    match status {
        "CONFIRMED" => &[SeatState::Sold],
        "CANCELLED" => &[SeatState::Free],
        // It may never have held any.
        "EXPIRED" => &[SeatState::Free, SeatState::Unknown],
        "FAILED" => &[SeatState::Unknown],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payment_is_sold_or_refunded_and_never_both() {
        let fault = |status: &str, paid_by: Option<&str>, keys: &[&str]| {
            let (status, paid_by) = (status.to_owned(), paid_by.map(str::to_owned));
            let kept = Kept { user_id: "usr_1".to_owned(), status, quantity: 1, paid_by };
            let refunds = keys.iter().map(|key| (*key).to_owned()).collect();
            let books =
                Books { reservations: [("r".to_owned(), kept)].into(), refunds: [("pi".to_owned(), refunds)].into() };
            books.payment_fault("pi", "r").is_some()
        };
        assert!(!fault("CONFIRMED", Some("pi"), &[]));
        assert!(!fault("EXPIRED", None, &["k"]));
        assert!(!fault("CONFIRMED", Some("pi_other"), &["k"]));
        assert!(fault("CONFIRMED", Some("pi"), &["k"]), "sold and refunded");
        assert!(fault("EXPIRED", None, &[]), "neither");
        assert!(fault("EXPIRED", None, &["k", "l"]), "refunded twice");
    }
}
