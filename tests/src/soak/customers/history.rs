//! What must be true of everything that customers were told, held against the books: one answer for a key, a status that only
//! goes forward, one owner for a seat, and each payment sold or refunded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde_json::Value;

use super::{Asked, Customer, Report, Told, due};
use crate::sale::Sale;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// Of whose wish, by its key.
    pub key: String,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.what)
    }
}

/// The books, as they are when the sale has ended.
struct Books {
    /// Status and payment of each reservation.
    reservations: BTreeMap<String, (String, Option<String>)>,
    /// The keys of the refunds of each payment.
    refunds: BTreeMap<String, BTreeSet<String>>,
}

pub(super) fn judge(customers: &[Customer], sale: &Sale, items: &[Value], report: &mut Report) {
    let text = |item: &Value, name: &str| item[name]["S"].as_str().map(str::to_owned);
    let reservations = items.iter().filter_map(|item| {
        let payment = text(item, "payment_intent_id");
        Some((text(item, "id")?, (text(item, "status")?, payment)))
    });
    let mut refunds: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for entry in
        sale.stack.aws.bus_entries().into_iter().filter(|entry| entry.detail_type == "payment.refund_requested")
    {
        let text = |name: &str| entry.detail[name].as_str().unwrap_or_default().to_owned();
        refunds.entry(text("payment_intent_id")).or_default().insert(text("idempotency_key"));
    }
    let books = Books { reservations: reservations.collect(), refunds };
    for (status, _) in books.reservations.values() {
        *report.ends.entry(status.clone()).or_default() += 1;
    }
    report.refunds = books.refunds.len();
    let mut breaches: Vec<Breach> = Vec::new();
    let mut breach = |key: &str, what: String| breaches.push(Breach { key: key.to_owned(), what });
    for what in sale.stack.inventory.oversold() {
        breach("the inventory", what);
    }
    for (name, queue) in sale.queues.keys().map(|name| (name, sale.stack.dead_letters(name))) {
        for letter in queue.messages() {
            breach(name, format!("a dead letter: {letter:?}"));
        }
    }
    for (id, (status, _)) in &books.reservations {
        let seats = sale.stack.inventory.seat_state(id);
        if !due(status).contains(&seats) {
            breach(id, format!("it is {status}, and its seats are {seats}"));
        }
    }
    for customer in customers {
        for what in told(&customer.told).into_iter().chain(books.of(customer)) {
            breach(&customer.key, what);
        }
    }
    report.breaches = breaches;
}

/// What contradicts itself in what a customer was told.
fn told(told: &[Told]) -> Vec<String> {
    let mut faults = Vec::new();
    let created: Vec<&Told> = told.iter().filter(|told| told.asked == Asked::Create && told.status == 201).collect();
    for pair in created.windows(2) {
        if pair[0].body != pair[1].body {
            faults.push(format!("two answers for a key: {} and {}", pair[0].body, pair[1].body));
        }
    }
    if let Some(refused) = told.iter().find(|told| told.body["error"]["code"] == "SEAT_UNAVAILABLE")
        && !created.is_empty()
    {
        faults.push(format!("it was held, and refused: {refused:?}"));
    }
    // A status that was told is followed by itself, or HOLD by an end.
    let statuses: Vec<&str> = told
        .iter()
        .filter(|told| told.asked != Asked::Create && told.status == 200)
        .filter_map(|told| told.body["status"].as_str())
        .collect();
    for pair in statuses.windows(2) {
        if pair[0] != pair[1] && pair[0] != "HOLD" {
            faults.push(format!("it was {} and then {}", pair[0], pair[1]));
        }
    }
    faults
}

impl Books {
    /// What the books do not keep of what a customer was told.
    fn of(&self, customer: &Customer) -> Vec<String> {
        let mut faults = Vec::new();
        let held = customer.told.iter().find_map(|told| told.body["reservationId"].as_str());
        let Some(id) = held else { return faults };
        let Some((status, paid_by)) = self.reservations.get(id) else {
            return vec![format!("{id} is gone")];
        };
        let ended = customer.told.iter().filter(|told| told.asked != Asked::Create && told.status == 200);
        let ended = ended.filter_map(|told| told.body["status"].as_str()).rfind(|told| *told != "HOLD");
        if let Some(ended) = ended.filter(|ended| ended != status) {
            faults.push(format!("he was told {ended}, and it is {status}"));
        }
        for payment in &customer.paid {
            let refunds = self.refunds.get(payment).map_or(0, BTreeSet::len);
            let sold = paid_by.as_ref() == Some(payment) && status == "CONFIRMED";
            if usize::from(!sold) != refunds {
                faults.push(format!("{payment} has {refunds} refunds, and {id} is {status} by {paid_by:?}"));
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(asked: Asked, status: u16, body: Value) -> Told {
        Told { asked, status, body }
    }

    #[track_caller]
    fn check(answers: &[Told], expected: &str) {
        let faults = told(answers).join("; ");
        assert!(if expected.is_empty() { faults.is_empty() } else { faults.contains(expected) }, "{faults}");
    }

    #[test]
    fn one_answer_for_a_key_and_a_status_that_goes_forward() {
        let created = |until: &str| answer(Asked::Create, 201, json!({"reservationId": "r", "holdExpiresAt": until}));
        let seen = |status: &str| answer(Asked::Look, 200, json!({"status": status}));
        check(&[created("1"), created("1"), seen("HOLD"), seen("HOLD"), seen("CONFIRMED"), seen("CONFIRMED")], "");
        check(&[created("1"), created("2")], "two answers for a key");
        check(&[seen("CONFIRMED"), seen("EXPIRED")], "it was CONFIRMED and then EXPIRED");
        check(&[seen("EXPIRED"), seen("HOLD")], "it was EXPIRED and then HOLD");
        let refused = answer(Asked::Create, 409, json!({"error": {"code": "SEAT_UNAVAILABLE"}}));
        check(&[created("1"), refused], "it was held, and refused");
    }

    #[test]
    fn a_payment_is_sold_or_refunded_and_never_both() {
        let customer = |paid: &str| Customer {
            user_id: "usr_1".into(),
            key: "key-1".into(),
            wish: json!({}),
            plan: super::super::Plan::Pay,
            impatient: false,
            told: vec![answer(Asked::Create, 201, json!({"reservationId": "r"}))],
            paid: vec![paid.to_owned()],
        };
        let books = |status: &str, paid_by: Option<&str>, keys: &[&str]| Books {
            reservations: [("r".to_owned(), (status.to_owned(), paid_by.map(str::to_owned)))].into(),
            refunds: [("pi".to_owned(), keys.iter().map(|key| (*key).to_owned()).collect())].into(),
        };
        let faults = |books: Books| books.of(&customer("pi")).len();
        assert_eq!(faults(books("CONFIRMED", Some("pi"), &[])), 0);
        assert_eq!(faults(books("EXPIRED", None, &["k"])), 0);
        assert_eq!(faults(books("CONFIRMED", Some("pi_other"), &["k"])), 0);
        assert_eq!(faults(books("CONFIRMED", Some("pi"), &["k"])), 1, "sold and refunded");
        assert_eq!(faults(books("EXPIRED", None, &[])), 1, "neither");
        assert_eq!(faults(books("EXPIRED", None, &["k", "l"])), 1, "refunded twice");
    }
}
