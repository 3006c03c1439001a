//! What must be true of everything that customers were told, held against the books: one answer for a key, a status that only
//! goes forward, one owner for a seat, and each payment sold or refunded.

use super::{Asked, Customer, Report, Told};
use crate::{
    books::{Books, Breach},
    sale::Sale,
};

pub(super) fn judge(customers: &[Customer], books: &Books, sale: &Sale, report: &mut Report) {
    for kept in books.reservations.values() {
        *report.ends.entry(kept.status.clone()).or_default() += 1;
    }
    report.refunds = books.refunds();
    let mut breaches = books.faults(sale);
    for customer in customers {
        let whats = told(&customer.told).into_iter().chain(kept(books, customer));
        breaches.extend(whats.map(|what| Breach { about: customer.key.clone(), what }));
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

/// What the books do not keep of what a customer was told.
fn kept(books: &Books, customer: &Customer) -> Vec<String> {
    let mut faults = Vec::new();
    let held = customer.told.iter().find_map(|told| told.body["reservationId"].as_str());
    let Some(id) = held else { return faults };
    let Some(kept) = books.reservations.get(id) else {
        return vec![format!("{id} is gone")];
    };
    let ended = customer.told.iter().filter(|told| told.asked != Asked::Create && told.status == 200);
    let ended = ended.filter_map(|told| told.body["status"].as_str()).rfind(|told| *told != "HOLD");
    if let Some(ended) = ended.filter(|ended| *ended != kept.status) {
        faults.push(format!("he was told {ended}, and it is {}", kept.status));
    }
    faults.extend(customer.paid.iter().filter_map(|payment| books.payment_fault(payment, id)));
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

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
}
