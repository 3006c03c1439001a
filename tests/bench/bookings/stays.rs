//! What is sent: stays of one guest, no two of which want the same room in the same night.

use serde_json::{Value, json};
use time::{Date, Duration, Month};

/// The rooms of the stays.
pub(super) const ROOMS: &str = "INSERT INTO rooms (internal_id) SELECT 'room-' || n FROM generate_series(0, 99) AS n";

const ROOM_COUNT: usize = 100;

/// Stays, one after the other.
#[derive(Default)]
pub(super) struct Stays {
    next: usize,
}

impl Stays {
    /// Those that come after others.
    pub(super) fn behind(others: &Self) -> Self {
        Self { next: others.next }
    }

    /// How many there were so far.
    pub(super) fn sent(&self) -> usize {
        self.next
    }

    /// So many more.
    pub(super) fn take(&mut self, count: usize) -> Vec<Value> {
        let stays = (self.next..self.next + count).map(stay).collect();
        self.next += count;
        stays
    }
}

fn stay(number: usize) -> Value {
    let nights = i64::try_from(number / ROOM_COUNT).unwrap_or_default() * 2;
    let first = Date::from_calendar_date(2027, Month::January, 1).unwrap_or(Date::MIN) + Duration::days(nights);
    let last = first + Duration::days(2);
    json!({
        "bookingId": format!("b{number:08}"),
        "userId": "jane@example.com",
        "roomId": format!("room-{}", number % ROOM_COUNT),
        "guests": 2,
        "startDate": first.to_string(),
        "endDate": last.to_string(),
        "paymentId": format!("pi_{number:08}"),
    })
}

/// The event of a queue that hands these over.
pub(super) fn event(stays: &[Value]) -> String {
    let record = |(number, stay): (usize, &Value)| {
        json!({
            "messageId": format!("m{number}"), "receiptHandle": "r", "body": stay.to_string(),
            "attributes": {"ApproximateReceiveCount": "1"}, "messageAttributes": {}, "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:booking-created",
        })
    };
    json!({"Records": stays.iter().enumerate().map(record).collect::<Vec<_>>()}).to_string()
}
