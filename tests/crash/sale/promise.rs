//! What must hold at the end of every attempt, whoever died on the way.

use std::collections::BTreeSet;

use local_stack::{
    aws::BusEntry,
    inventory::{Method, SeatState},
};

use super::attempt::Attempt;

impl Attempt {
    /// Reservation, seats, payment and bus agree on one end, every effect happened once, and nothing waits or is lost.
    pub(crate) async fn keeps_its_promise(&self) {
        let item = self.item().await.expect("it was written");
        let status = item["status"]["S"].as_str().unwrap().to_owned();
        assert!(self.way.ends.contains(&status.as_str()), "it ended {status}, and should be {:?}", self.way.ends);
        assert!(item.get("unpublished").is_none() && item.get("events").is_none(), "all of it is told: {item:#}");
        self.seats_are_right();
        self.payment_is_right(&status);
        self.the_bus_was_told(&status);
        self.the_customer_was_told_one_thing();
        if self.way.is_contended() {
            self.one_of_the_two_has_the_turn(&status);
        }
        for (name, queue) in self.queues() {
            assert!(queue.is_empty(), "{name} holds {:#?}", queue.messages());
        }
    }

    fn seats_are_right(&self) {
        let inventory = &self.sale.stack.inventory;
        assert_eq!(inventory.oversold(), [""; 0]);
        let seats = inventory.seat_state(&self.id);
        assert!(self.way.seats.contains(&seats), "its seats are {seats}, and should be {:?}", self.way.seats);
        let calls = inventory.calls();
        let effects = |method| {
            let own = calls.iter().filter(|call| call.reservation_id == self.id && call.method == method);
            own.filter(|call| call.had_effect).count()
        };
        let [holds, sales, releases] =
            [Method::ReserveSeat, Method::CommitReservation, Method::ReleaseHold].map(effects);
        assert!(holds <= 1 && sales + releases <= holds, "{holds} holds, {sales} sales, {releases} releases");
    }

    /// Each payment is sold or refunded, and a refund has one key.
    fn payment_is_right(&self, status: &str) {
        let keys: BTreeSet<String> = self
            .told_of("payment.refund_requested")
            .filter_map(|entry| entry.detail["idempotency_key"].as_str().map(str::to_owned))
            .collect();
        assert_eq!(keys.len(), usize::from(self.way.refund), "refunds of one that is {status}: {keys:?}");
    }

    /// Each of its changes, each under one key, and one end.
    fn the_bus_was_told(&self, status: &str) {
        let entries = self.sale.stack.aws.bus_entries();
        let own: Vec<&BusEntry> = entries
            .iter()
            .filter(|entry| entry.source == "holdfast" && entry.detail["reservation_id"] == self.id)
            .collect();
        let types: BTreeSet<&str> = own.iter().map(|entry| entry.detail_type.as_str()).collect();
        for told in self.way.told {
            // One that got no seats, or none that anybody knows of, ends at its deadline in place of what it was to become.
            let otherwise = *told == "reservation.failed" && types.contains("reservation.expired");
            assert!(types.contains(told) || otherwise, "{told} is missing in {types:?}");
        }
        let ends = ["reservation.confirmed", "reservation.cancelled", "reservation.expired"];
        let ends: Vec<&str> = ends.into_iter().filter(|end| types.contains(end)).collect();
        assert!(ends.len() <= 1, "it came to more than one end: {ends:?}, and is {status}");
        let kinds: BTreeSet<(&str, &str)> = own
            .iter()
            .filter_map(|entry| Some((entry.detail["idempotency_key"].as_str()?, entry.detail_type.as_str())))
            .collect();
        let keys: BTreeSet<&str> = kinds.iter().map(|(key, _)| *key).collect();
        // A change that comes too late expires and tells so under one version.
        assert_eq!(keys.len(), kinds.len(), "a key means one thing: {kinds:?}");
    }

    fn the_customer_was_told_one_thing(&self) {
        let created = self.created.lock().unwrap();
        let ids: BTreeSet<&str> = created.iter().filter_map(|body| body["reservationId"].as_str()).collect();
        assert!(ids.iter().all(|id| *id == self.id), "one answer for a key: {ids:?}");
        assert!(created.iter().all(|body| body["status"] == "HOLD"), "a creation is told as it was: {created:?}");
    }

    /// Either the customer has his seats and the waiting room was told so, or nobody can make the reservation any more, and its
    /// customer never heard that he had it. Nothing is left half.
    fn one_of_the_two_has_the_turn(&self, status: &str) {
        let held = !self.created.lock().unwrap().is_empty();
        let taken_back = self.taken_back.lock().unwrap();
        let ended = taken_back.iter().any(|answer| matches!(answer, 200 | 201));
        let seats = self.sale.stack.inventory.seat_state(&self.id);
        let whole = match status {
            "CONFIRMED" => held && !ended && taken_back.contains(&412) && seats == SeatState::Sold,
            _ => !held && ended && !taken_back.contains(&412) && seats == SeatState::Unknown,
        };
        assert!(whole, "it is {status}, was held: {held}, was taken back: {taken_back:?}, and its seats are {seats}");
    }

    fn told_of(&self, detail_type: &str) -> impl Iterator<Item = BusEntry> {
        let entries = self.sale.stack.aws.bus_entries().into_iter();
        entries.filter(move |entry| entry.detail_type == detail_type && entry.detail["reservation_id"] == self.id)
    }
}
