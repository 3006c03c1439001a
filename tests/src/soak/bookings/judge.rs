//! What must hold when all events about bookings have ended.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio_postgres::{Client, Row};

use super::{BookingsError, History, Report, history::Booking};
use crate::{aws::BusEntry, queue::Snapshot, replay::attribute};

const REFUND: &str = "payment.refund_requested";
const REFUSED: &str = "booking.refused";

const ROWS: &str = "
SELECT b.booking_id, b.user_id, r.internal_id, b.number_of_guests, b.start_date::text, b.end_date::text, b.payment_id, b.status
FROM bookings b JOIN rooms r ON r.id = b.room_id";

/// Two guests in one room.
const OVERLAPS: &str = "
SELECT a.booking_id || ' and ' || b.booking_id
FROM bookings a JOIN bookings b ON a.id < b.id AND a.room_id = b.room_id AND a.status = 'Accepted' AND b.status = 'Accepted'
  AND a.start_date < b.end_date AND b.start_date < a.end_date";

/// Refused, although nobody has had the room at that time.
const GROUNDLESS: &str = "
SELECT a.booking_id FROM bookings a WHERE a.status = 'Refused' AND NOT EXISTS (
  SELECT FROM bookings b WHERE b.room_id = a.room_id AND b.status IN ('Accepted', 'Cancelled')
    AND a.start_date < b.end_date AND b.start_date < a.end_date)";

/// Done, and not noted as such, or refused and not marked as told.
const UNMARKED: &str = "
SELECT booking_id FROM holdfast.inbox
WHERE outcome IS NULL OR (outcome = 'Refused' AND refund_requested_at IS NULL)";

/// The server writes its counts once a second at most.
const COUNTED: Duration = Duration::from_millis(1_200);

/// Holds rows, events and dead letters against the history.
pub(super) async fn judge(
    history: &History,
    sql: &Client,
    told: &[BusEntry],
    dead: &[Snapshot],
    mut report: Report,
) -> Result<Report, BookingsError> {
    let mut faults = Vec::new();
    let rows = sql.query_typed(ROWS, &[]).await?;
    let mut by_id: BTreeMap<String, &Row> = BTreeMap::new();
    for row in &rows {
        *report.rows.entry(row.try_get("status")?).or_default() += 1;
        let id: Option<String> = row.try_get("booking_id")?;
        if let Some(twice) = by_id.insert(id.clone().unwrap_or_default(), row).and(id) {
            faults.push(format!("{twice} has more than one row"));
        }
    }
    if rows.len() > history.bookings.len() {
        faults.push(format!("{} rows for {} bookings", rows.len(), history.bookings.len()));
    }
    let told = Told::of(told);
    for booking in &history.bookings {
        match by_id.get(&booking.id) {
            None => faults.push(format!("{} was lost", booking.id)),
            Some(row) => faults.extend(faults_of(booking, row, &told)?),
        }
    }
    for (query, what) in [
        (OVERLAPS, "have one room at a time"),
        (GROUNDLESS, "was refused a free room"),
        (UNMARKED, "is done, and its inbox row does not say so"),
    ] {
        for row in sql.query_typed(query, &[]).await? {
            faults.push(format!("{} {what}", row.try_get::<_, String>(0)?));
        }
    }
    // More than once, where a function was killed between the burial and its answer.
    let is_strangers = |letter: &&Snapshot| {
        attribute(letter, "error_code") == Some("not_owner") && history.of_strangers.contains(&letter.body)
    };
    faults.extend(dead.iter().filter(|letter| !is_strangers(letter)).map(|letter| format!("is dead: {letter:?}")));

    tokio::time::sleep(COUNTED).await;
    report.deadlocks += deadlocks(sql).await?;
    if report.deadlocks > 0 {
        faults.push(format!("{} deadlocks", report.deadlocks));
    }
    report.refunds = told.keys.iter().filter(|(kind, _)| kind == REFUND).count();
    report.told_again = told.repeats;
    report.faults = faults;
    Ok(report)
}

/// Deadlocks that the server found since it was started.
pub(super) async fn deadlocks(sql: &Client) -> Result<i64, BookingsError> {
    const DEADLOCKS: &str = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    Ok(sql.query_typed_one(DEADLOCKS, &[]).await?.try_get(0)?)
}

/// What others were told, by kind and key.
struct Told {
    keys: BTreeSet<(String, String)>,
    repeats: usize,
    payments: BTreeSet<String>,
    bookings: BTreeSet<String>,
}

impl Told {
    fn of(entries: &[BusEntry]) -> Self {
        let text = |entry: &BusEntry, name: &str| entry.detail[name].as_str().unwrap_or_default().to_owned();
        let keys: BTreeSet<(String, String)> =
            entries.iter().map(|entry| (entry.detail_type.clone(), text(entry, "idempotency_key"))).collect();
        Self {
            repeats: entries.len() - keys.len(),
            keys,
            payments: entries.iter().map(|entry| text(entry, "payment_intent_id")).collect(),
            bookings: entries.iter().map(|entry| text(entry, "booking_id")).collect(),
        }
    }

    fn knows(&self, kind: &str, key: String) -> bool {
        self.keys.contains(&(kind.to_owned(), key))
    }
}

fn faults_of(booking: &Booking, row: &Row, told: &Told) -> Result<Vec<String>, BookingsError> {
    let Booking { id, user, room, start, end, guests, payment, is_given_up } = booking;
    let mut faults = Vec::new();
    let written = (
        row.try_get::<_, i32>("user_id")?,
        row.try_get::<_, String>("internal_id")?,
        row.try_get::<_, i32>("number_of_guests")?,
        (row.try_get::<_, String>("start_date")?, row.try_get::<_, String>("end_date")?),
        row.try_get::<_, Option<String>>("payment_id")?,
    );
    let sent = (*user, room.clone(), *guests, (start.to_string(), end.to_string()), payment.clone());
    if written != sent {
        faults.push(format!("{id} is written as {written:?} and was {sent:?}"));
    }
    let status: String = row.try_get("status")?;
    match (status.as_str(), is_given_up) {
        ("Refused", _) | ("Accepted", false) | ("Cancelled", true) => {}
        ("Accepted", true) => faults.push(format!("{id} was given up and stands: the cancellation was lost")),
        _ => faults.push(format!("{id} is {status}, and its guest has not given it up")),
    }
    if status != "Refused" {
        if told.bookings.contains(id) {
            faults.push(format!("{id} is {status}, and others were told that it is refused"));
        }
        return Ok(faults);
    }
    if !told.knows(REFUSED, format!("booking.created#{id}#refused")) {
        faults.push(format!("{id} is refused, and nobody was told"));
    }
    let is_refunded = told.knows(REFUND, format!("booking.created#{id}#refund"));
    match payment {
        Some(payment) if !is_refunded || !told.payments.contains(payment) => {
            faults.push(format!("{id} is refused, and {payment} is not paid back"));
        }
        None if is_refunded => faults.push(format!("{id} was not paid, and is paid back")),
        Some(_) | None => {}
    }
    Ok(faults)
}
