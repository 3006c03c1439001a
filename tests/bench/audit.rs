//! Whether every record was settled exactly once, by the services' own books and apart from what the function says.

use std::collections::HashMap;

use local_stack::{
    aws::AwsError,
    inventory::SeatState,
    reservations::Status,
    stack::{Stack, TABLE},
};
use serde_json::json;

use crate::batch::{FUNCTION, Payment};

/// Describes everything that is not as it must be once these payments are settled; empty when all is well.
pub(crate) async fn audit(stack: &Stack, payments: &[Payment]) -> Result<Vec<String>, AwsError> {
    let mut faults = stack.inventory.oversold();
    let mut effects: HashMap<String, usize> = HashMap::new();
    for call in stack.inventory.calls().into_iter().filter(|call| call.had_effect) {
        *effects.entry(call.reservation_id).or_default() += 1;
    }
    for payment in payments {
        let id = &payment.reservation_id;
        match stack.reservations.get(id) {
            Some(found)
                if found.status == Status::Confirmed
                    && found.payment_intent_id.as_ref() == Some(&payment.payment_intent_id) => {}
            Some(found) => faults.push(format!("{id} is {} by {:?}", found.status, found.payment_intent_id)),
            None => faults.push(format!("{id} is gone")),
        }
        let ends = stack.reservations.transitions(id);
        if ends.len() > 1 {
            faults.push(format!("{id} came to more than one end: {ends:?}"));
        }
        let seats = stack.inventory.seat_state(id);
        if seats != SeatState::Sold {
            faults.push(format!("{id}: its seats are {seats}"));
        }
        let moved = effects.get(id).copied().unwrap_or_default();
        if moved != 1 {
            faults.push(format!("{id}: its seats were moved {moved} times"));
        }
        let record = json!({"TableName": TABLE, "Key": {"id": {"S": payment.key().as_str()}}});
        let record = stack.aws.dynamodb("GetItem", &record).await?;
        let status = &record["Item"]["status"]["S"];
        if status != "COMPLETED" {
            faults.push(format!("{id}: the status of its idempotency record is {status}"));
        }
    }
    let refunds = stack.aws.bus_entries().into_iter();
    faults.extend(refunds.map(|entry| format!("{} was published: {}", entry.detail_type, entry.detail)));
    let letters = stack.dead_letters(FUNCTION).messages().into_iter();
    faults.extend(letters.map(|letter| format!("a message is in the dead-letter queue: {}", letter.body)));
    Ok(faults)
}
