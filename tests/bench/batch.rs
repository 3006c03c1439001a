//! What is sent: approved payments, each for a reservation of its own, in the batches that Lambda makes of messages.

use axum::body::Bytes;
use local_stack::{
    inventory::SeatState,
    lambda::Invocation,
    mapping::{self, Verdict, judge},
    queue::{Message, Queue, QueueError, QueueOptions},
    reservations::Status,
    scenario::Given,
};
use serde_json::{Value, json};
use shared::idempotency::Key;

use crate::stop::Stop;

/// The function that is measured; the others run the same code and have one call more or less.
pub(crate) const FUNCTION: &str = "payment-approved";

const TICKETS_FOR: &str = "evt_2026_1018";

/// A payment that went through.
#[derive(Clone, Debug)]
pub(crate) struct Payment {
    pub(crate) reservation_id: String,
    pub(crate) payment_intent_id: String,
    seat_ids: Vec<String>,
}

impl Payment {
    /// A payment like no other on the same stack.
    pub(crate) fn nth(number: usize) -> Self {
        Self {
            reservation_id: format!("rsv_{number:010}"),
            payment_intent_id: format!("pi_{number:016}"),
            seat_ids: ["A", "B"].map(|seat| format!("{number}-{seat}")).to_vec(),
        }
    }

    /// The key of the idempotency record, as proto/README.md documents it.
    pub(crate) fn key(&self) -> Key {
        Key::of(&["payment.approved", &self.reservation_id, &self.payment_intent_id])
    }

    /// What exists before the event: two seats on hold.
    pub(crate) fn given(&self) -> Given {
        Given {
            reservation_id: self.reservation_id.clone(),
            event_id: TICKETS_FOR.to_owned(),
            user_id: "usr_9ezr9g9v".to_owned(),
            status: Status::Hold,
            seat_ids: self.seat_ids.clone(),
            quantity: 2,
            payment_intent_id: None,
            seats: SeatState::Held,
        }
    }

    /// The event in the form that the bus delivers.
    fn body(&self) -> String {
        json!({
            "version": "0",
            "id": "f17b431d-57cc-4160-896d-1b2ef91277c7",
            "detail-type": "payment.approved",
            "source": "payment-service",
            "account": "000000000000",
            "time": "2026-11-20T09:14:20Z",
            "region": "us-east-1",
            "resources": [],
            "detail": {
                "reservation_id": self.reservation_id,
                "event_id": TICKETS_FOR,
                "user_id": "usr_9ezr9g9v",
                "seat_ids": self.seat_ids,
                "qty": 2,
                "payment_intent_id": self.payment_intent_id,
                "amount": 7_600,
                "currency": "USD",
                "trace_id": "5e2c3ae0abdda216614f0076a60df8da",
                "traceparent": "00-5e2c3ae0abdda216614f0076a60df8da-131a6bd80eebc1c5-01",
            },
        })
        .to_string()
    }
}

/// The event of one invocation.
#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub(crate) event: Bytes,
    ids: Vec<String>,
}

impl Batch {
    /// New messages for these payments; for known ones they are duplicates.
    pub(crate) fn of(payments: &[Payment]) -> Result<Self, QueueError> {
        let queue = Queue::new(FUNCTION, QueueOptions::default());
        let trace = Some("Root=1-6b000f6c-c1d01f0c5390027111703b33;Parent=e0c6f71a94480f25;Sampled=1".to_owned());
        for payment in payments {
            queue.send(Message { trace_header: trace.clone(), ..Message::new(payment.body()) })?;
        }
        let records: Vec<_> = payments.iter().flat_map(|_| queue.receive(1)).collect();
        let event = mapping::event(&queue, &records).to_string().into();
        Ok(Self { event, ids: records.into_iter().map(|record| record.id).collect() })
    }

    /// An answer that leaves a record in the queue ends the run: its time would be that of something else.
    pub(crate) fn check(&self, invocation: &Invocation) -> Result<(), Stop> {
        let ids: Vec<&str> = self.ids.iter().map(String::as_str).collect();
        let fault = match &invocation.result {
            Err(error) => error.to_string(),
            Ok(answer) => match judge(answer, &ids) {
                Verdict::Success => return Ok(()),
                Verdict::Partial(failed) => format!("{} of {} records failed", failed.len(), ids.len()),
                Verdict::Failure(reason) => reason,
            },
        };
        let complaints = invocation.logs.iter().filter_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            line["error"].as_str().map(str::to_owned)
        });
        Err(Stop::Invalid(std::iter::once(fault).chain(complaints).collect()))
    }
}
