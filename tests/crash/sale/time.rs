//! How time passes in a sale: nobody waits for it. Every moment that somebody compares with the present is moved back: those
//! of the reservation, of the claims, and of the timers in their queue. The queues have clocks of their own.

use std::time::Duration;

use local_stack::stack::{RESERVATIONS, TABLE};
use serde_json::{Value, json};
use shared::deadline::moment;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::attempt::Attempt;

impl Attempt {
    /// Lets so much time pass.
    pub(crate) async fn pass(&self, time: Duration) {
        for queue in self.sale.queues.values() {
            queue.elapse(time);
            queue.amend(|body| earlier_timer(body, time));
        }
        self.sale.stack.aws.age_reservation(RESERVATIONS, &self.id, time).await.unwrap();
        self.age_claims(time).await;
    }

    async fn age_claims(&self, time: Duration) {
        let held = json!({
            "TableName": TABLE,
            "ConsistentRead": true,
            "FilterExpression": "contains(id, :own) AND #status = :held AND in_progress_expiration > :over",
            "ExpressionAttributeNames": {"#status": "status"},
            "ExpressionAttributeValues": {":own": {"S": self.id}, ":held": {"S": "INPROGRESS"}, ":over": {"N": "0"}},
        });
        let found = self.sale.stack.aws.dynamodb("Scan", &held).await.unwrap();
        for claim in found["Items"].as_array().into_iter().flatten() {
            let end: u64 = claim["in_progress_expiration"]["N"].as_str().unwrap().parse().unwrap();
            let input = json!({
                "TableName": TABLE,
                "Key": {"id": claim["id"]},
                "UpdateExpression": "SET in_progress_expiration = :end",
                "ExpressionAttributeValues": {":end": {"N": end.saturating_sub(ms(time) + 1).to_string()}},
            });
            self.sale.stack.aws.dynamodb("UpdateItem", &input).await.unwrap();
        }
    }
}

/// A timer that is due so much earlier. Any other message stays as it is.
fn earlier_timer(body: &str, time: Duration) -> Option<String> {
    let mut body: Value = serde_json::from_str(body).ok()?;
    let due = OffsetDateTime::parse(body["detail"]["expires_at"].as_str()?, &Rfc3339).ok()?;
    let due = u64::try_from(due.unix_timestamp_nanos() / 1_000_000).ok()?;
    body["detail"]["expires_at"] = json!(moment(due - ms(time)));
    Some(body.to_string())
}

fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}
