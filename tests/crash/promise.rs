//! What must hold at the end of every scenario, whoever died on the way.

use std::collections::BTreeSet;

use axum::http::Method;
use local_stack::{queue::Snapshot, replay::attribute, reservations::Status};

use crate::{
    run::Run,
    scenario::{Record, Scenario},
};

impl Run {
    /// The end is the promised one, every effect happened once, and no message is lost.
    pub(crate) fn keeps_its_promise(&self) {
        assert_eq!(self.stack.inventory.oversold(), [""; 0]);
        let mut reservations = BTreeSet::new();
        for record in &self.scenario.records {
            if reservations.insert(&record.reservation) {
                self.reservation_is_right(record);
                self.seats_are_right(record);
                self.refunds_are_right(record);
            }
        }
        assert!(self.queue.is_empty());
        for (id, record) in &self.messages {
            self.message_is_not_lost(id, record);
        }
    }

    /// The seats moved on by the redrive, and nothing else did.
    pub(crate) fn is_settled_after_the_redrive(&self) {
        assert_eq!(self.stack.inventory.oversold(), [""; 0]);
        for record in self.scenario.records.clone() {
            let mut record = record;
            record.end.seats = record.end.redriven.expect("every record of the scenario is redriven");
            self.reservation_is_right(&record);
            self.seats_are_right(&record);
        }
    }

    fn reservation_is_right(&self, record: &Record) {
        let calls = self.stack.reservations.calls();
        let changes = calls.iter().filter(|call| call.method == Method::PATCH);
        let changes = changes.filter(|call| call.reservation_id.as_ref() == Some(&record.reservation));
        let keys: BTreeSet<&str> = changes.filter_map(|call| call.idempotency_key.as_deref()).collect();
        self.only_key(&keys, record, "guard");
        let now = self.stack.reservations.get(&record.reservation).expect("it was seeded").status;
        assert_eq!(now, record.end.status, "the status of {}", record.reservation);
        let ends = self.stack.reservations.transitions(&record.reservation);
        let once: &[Status] = if now.is_terminal() { &[now] } else { &[] };
        assert_eq!(ends, once, "{} came to one end", record.reservation);
    }

    fn seats_are_right(&self, record: &Record) {
        let calls = self.stack.inventory.calls();
        let calls = calls.iter().filter(|call| call.reservation_id == record.reservation);
        let keys: BTreeSet<&str> = calls.clone().map(|call| call.idempotency_key.as_str()).collect();
        self.only_key(&keys, record, "settle");
        assert_eq!(self.stack.inventory.seat_state(&record.reservation), record.end.seats, "{}", record.reservation);
        let effects = calls.filter(|call| call.had_effect).count();
        assert_eq!(effects, usize::from(record.seats != record.end.seats), "effects on {}", record.reservation);
    }

    /// A refund is asked for at least once. A repeat has the same key, by which its consumer knows it.
    fn refunds_are_right(&self, record: &Record) {
        let entries = self.stack.aws.bus_entries();
        let refunds = entries.iter().filter(|entry| entry.detail["reservation_id"] == record.reservation);
        let keys: BTreeSet<&str> =
            refunds.clone().filter_map(|entry| entry.detail["idempotency_key"].as_str()).collect();
        self.only_key(&keys, record, "refund");
        let (due, requested) = (record.end.outcome == "late_approval", refunds.count());
        assert_eq!(requested > 0, due, "refunds of {}: {entries:#?}", record.reservation);
        let most = if self.tripwire.has_tripped() { 2 } else { 1 } + usize::from(self.may_ask_again);
        assert!(
            requested <= most,
            "one refund for each worker that got so far, and for one that asked again: {entries:#?}"
        );
    }

    #[track_caller]
    fn only_key(&self, keys: &BTreeSet<&str>, record: &Record, step: &str) {
        let key = record.key(self.scenario.event_type, step);
        assert!(keys.iter().all(|used| *used == key), "the only key of the step is {key}: {keys:?}");
    }

    /// A message ended acknowledged with its outcome, or lies in the dead-letter queue with its reason.
    fn message_is_not_lost(&self, id: &str, record: &Record) {
        let Scenario { name, .. } = &self.scenario;
        let dead = self.dead_letters.messages();
        let dead_lettered: Vec<&Snapshot> =
            dead.iter().filter(|letter| attribute(letter, "source_message_id") == Some(id)).collect();
        let moved = dead.iter().filter(|letter| letter.id == id).count();
        let Some(reason) = record.end.reason else {
            assert!(
                dead_lettered.is_empty() && moved == 0,
                "{name}: {id} does not belong in the dead-letter queue: {dead:#?}"
            );
            let well = [record.end.outcome, "duplicate"];
            let done = self.ended.iter().any(|(ended, outcome)| ended == id && well.contains(&outcome.as_str()));
            assert!(done, "{id} ended well: {:?}", self.ended);
            return;
        };
        for letter in &dead_lettered {
            assert_eq!(attribute(letter, "error_code"), Some(reason), "{letter:#?}");
        }
        // A worker that died on the message's last receive is followed by one that says why, before SQS moves it.
        assert_eq!(moved, 0, "{id} used up its receives: {:?}", self.ended);
        // A worker that sent a dead letter and died before the mapping heard of it sends another the next time.
        let copies = 1 + usize::from(self.dead_lettered_without_answer) + usize::from(self.may_ask_again);
        assert!((1..=copies).contains(&dead_lettered.len()), "letters of {id}: {dead:#?}");
    }
}
