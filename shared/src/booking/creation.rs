//! The transaction that writes bookings, and what its answers mean.
//!
//! All of its statements go out in one round trip. The first takes the inbox rows, in one order for all workers, and whoever
//! comes second waits there; each later statement then sees what the first has written. An overlap gives no row in place of an
//! error, so that one taken room does not undo the batch. Everything after the first statement asks whether the inbox row is of
//! this very transaction: if `BEGIN` itself failed, nothing is written.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use time::{Date, OffsetDateTime};
use tokio_postgres::types::Type;

use super::{
    Done, ErrorCode, Outcome,
    event::Created,
    migration,
    recorder::{Change, Entry, Ruling, Traced, USERS},
    refusal::{Refusal, Refusals},
};
use crate::{
    client::postgres::{
        Session, Work,
        fault::Error,
        statement::{Statement, Value},
    },
    deadline::Deadline,
    failure::{Failure, quoted},
    start::Parts,
    trigger::{Task, Verdict},
};

/// The events of a transaction for which this holds, with the user and the room that each of them means.
fn meant(which: &str) -> String {
    format!(
        "
WITH e AS (
  SELECT * FROM unnest($1::text[], $2::bytea[], $3::text[], $4::int4[], $5::text[], $6::int4[], $7::date[], $8::date[], $9::text[])
    AS e (booking_id, payload_hash, user_ref, user_number, room, guests, start_date, end_date, payment_id)
  WHERE {which}
), meant AS (
  SELECT e.*, u.user_id, u.users, rooms.id AS room_id
  FROM e
  CROSS JOIN LATERAL (
    {USERS}
  ) u
  LEFT JOIN rooms ON rooms.internal_id = e.room
)"
    )
}

/// All events.
const EACH: &str = "TRUE";

/// The events that nobody has written, by a look for each of them.
const UNWRITTEN: &str = "NOT EXISTS (SELECT FROM bookings own WHERE own.booking_id = e.booking_id OFFSET 0)";

/// Takes the inbox rows.
const INBOX: &str = "
INSERT INTO holdfast.inbox (booking_id, payload_hash, source, trace_id)
SELECT meant.booking_id, meant.payload_hash, o.source, o.trace_id
FROM meant JOIN unnest($1::text[], $10::text[], $11::text[]) AS o (booking_id, source, trace_id) USING (booking_id)
WHERE users = 1 AND room_id IS NOT NULL
ORDER BY meant.booking_id
ON CONFLICT (booking_id) DO UPDATE SET payload_hash = COALESCE(inbox.payload_hash, EXCLUDED.payload_hash)";

/// The events whose inbox rows this transaction has taken. A look that is fenced by `OFFSET 0` goes by the key for each event,
/// however few rows the planner knows of: as a join it would go through the whole inbox, where it believes that to be small.
const TAKEN: &str = "
FROM meant CROSS JOIN LATERAL (
  SELECT i.cancelled_by FROM holdfast.inbox i
  WHERE i.booking_id = meant.booking_id AND i.payload_hash = meant.payload_hash AND i.outcome IS NULL
    AND i.xmin = pg_current_xact_id()::xid
  OFFSET 0
) i
WHERE users = 1 AND room_id IS NOT NULL";

/// Writes what nobody has written, if the room is free. A booking that its guest gave up before it came takes no room.
fn accepted() -> String {
    format!(
        "{}
INSERT INTO bookings (booking_id, user_id, room_id, number_of_guests, start_date, end_date, payment_id, status)
SELECT meant.booking_id, user_id, room_id, guests, start_date, end_date, payment_id,
  CASE WHEN user_id = ANY (i.cancelled_by) THEN 'Cancelled' ELSE 'Accepted' END{TAKEN}
ORDER BY room_id, start_date, meant.booking_id
ON CONFLICT DO NOTHING",
        meant(EACH)
    )
}

/// Writes what found its room taken. Who has it must be there to see: what gave no row for another reason comes again. What
/// was written costs nothing more than the look for it. The look for who has the room is booking by booking, too: as a join it
/// would go through all that a room, or the house, has ever been booked for.
fn refused() -> String {
    format!(
        "{}
INSERT INTO bookings (booking_id, user_id, room_id, number_of_guests, start_date, end_date, payment_id, status)
SELECT meant.booking_id, user_id, room_id, guests, start_date, end_date, payment_id, 'Refused'{TAKEN}
  AND EXISTS (
    SELECT FROM bookings other
    WHERE other.room_id = meant.room_id AND other.status = 'Accepted'
      AND daterange(other.start_date, other.end_date, '[)') && daterange(meant.start_date, meant.end_date, '[)')
    OFFSET 0
  )
ORDER BY room_id, start_date, meant.booking_id
ON CONFLICT DO NOTHING",
        meant(UNWRITTEN)
    )
}

/// Notes how each ended. A row that is not of this transaction was written before its inbox row was cleaned away: it is done,
/// and so is all that followed. An inbox row of this transaction stays where it is until its end, and so its `ctid` finds it.
const SETTLED: &str = "
UPDATE holdfast.inbox i
SET outcome = ended.status, starts_at = ended.starts_at, ends_at = ended.ends_at,
  refund_requested_at = CASE WHEN ended.status = 'Refused' AND NOT ended.is_new THEN now() END
FROM (
  SELECT e.starts_at, e.ends_at, taken.ctid, b.status, b.xmin = pg_current_xact_id()::xid AS is_new
  FROM unnest($1::text[], $2::bytea[], $3::timestamptz[], $4::timestamptz[])
    AS e (booking_id, payload_hash, starts_at, ends_at)
  CROSS JOIN LATERAL (
    SELECT i.ctid FROM holdfast.inbox i
    WHERE i.booking_id = e.booking_id AND i.payload_hash = e.payload_hash AND i.outcome IS NULL
      AND i.xmin = pg_current_xact_id()::xid
    OFFSET 0
  ) taken
  CROSS JOIN LATERAL (SELECT b.status, b.xmin FROM bookings b WHERE b.booking_id = e.booking_id OFFSET 0) b
) ended
WHERE i.ctid = ended.ctid
RETURNING i.booking_id, i.outcome, ended.is_new, i.cancelled_by IS NOT NULL AS was_cancelled";

/// The first fields of an event, which the last look reads.
const OF_FOUND: usize = 5;

/// Looks at what each of them found. Users and rooms are the reason where nothing was done, and looked at only there.
fn found() -> String {
    format!(
        "
SELECT e.booking_id, u.users, i.outcome IS NOT NULL OR EXISTS (SELECT FROM rooms WHERE internal_id = e.room OFFSET 0) AS has_room,
  i.payload_hash = e.payload_hash AS is_same, i.outcome, i.refund_requested_at IS NOT NULL AS is_told
FROM unnest($1::text[], $2::bytea[], $3::text[], $4::int4[], $5::text[]) AS e (booking_id, payload_hash, user_ref, user_number, room)
LEFT JOIN LATERAL (
  SELECT i.payload_hash, i.outcome, i.refund_requested_at FROM holdfast.inbox i WHERE i.booking_id = e.booking_id OFFSET 0
) i ON TRUE
CROSS JOIN LATERAL (
    {USERS} AND i.outcome IS NULL
) u"
    )
}

/// All of them, in the order of the transaction.
static STATEMENTS: LazyLock<[Statement; 5]> = LazyLock::new(|| {
    const OF_MEANT: &[Type] = &[
        Type::TEXT_ARRAY,
        Type::BYTEA_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT4_ARRAY,
        Type::TEXT_ARRAY,
        Type::INT4_ARRAY,
        Type::DATE_ARRAY,
        Type::DATE_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
        Type::TEXT_ARRAY,
    ];
    const OF_SETTLED: &[Type] =
        &[Type::TEXT_ARRAY, Type::BYTEA_ARRAY, Type::TIMESTAMPTZ_ARRAY, Type::TIMESTAMPTZ_ARRAY];
    let of_meant = |text: String| Statement::new(text, &OF_MEANT[..9]);
    [
        Statement::new(format!("{}{INBOX}", meant(EACH)), OF_MEANT),
        of_meant(accepted()),
        of_meant(refused()),
        Statement::new(SETTLED, OF_SETTLED),
        Statement::new(found(), &OF_MEANT[..OF_FOUND]),
    ]
});

/// The statement that marks refused bookings as told.
const TOLD: &str = "
UPDATE holdfast.inbox SET refund_requested_at = now()
FROM (SELECT booking_id FROM holdfast.inbox WHERE booking_id = ANY ($1) ORDER BY booking_id FOR UPDATE) AS told
WHERE inbox.booking_id = told.booking_id AND inbox.refund_requested_at IS NULL";

/// The span of that statement.
const MARK_SPAN: &str = "mark";

/// What `booking.created` does: the booking is written, or refused.
#[derive(Debug)]
pub struct Creation {
    refusals: Refusals,
}

impl Change for Creation {
    type Event = Created;

    fn configured(parts: &mut Parts<'_>) -> Self {
        Self { refusals: Refusals::configured(parts) }
    }

    /// The publications, and the mark that they were made.
    fn following(&self, transaction: Duration) -> Duration {
        Refusals::BUDGET + transaction
    }

    async fn write(session: &Session, entries: &[&Entry<Created>]) -> Result<Vec<Ruling>, Error> {
        let columns = Columns::of(entries);
        let answers = columns.write(session).await?;
        Ok(entries.iter().map(|entry| answers.ruling(entry)).collect())
    }

    /// Others are told of refused bookings, and then it is marked that they were. What could not be told comes again.
    async fn follow(
        &self,
        database: &Traced<'_>,
        refused: Vec<&Task<Entry<Created>>>,
        deadline: Deadline,
    ) -> HashMap<String, Verdict<Outcome>> {
        let told = self.refusals.tell(refused.iter().map(|task| Refusal::of(&task.item))).await;
        let booking_ids: Vec<&str> =
            told.iter().filter(|(_, told)| told.is_ok()).map(|(booking_id, _)| booking_id.as_str()).collect();
        let marked = match booking_ids.is_empty() {
            true => Ok(()),
            false => {
                let of_told = refused.iter().filter(|task| booking_ids.contains(&task.item.event.booking_id.as_str()));
                let traces = of_told.map(|task| &task.trace);
                database.run(MARK_SPAN, traces, &Mark { booking_ids: &booking_ids }, deadline).await
            }
        };
        let unmarked = marked.err().map(|error| format!("the refusal was told, and not marked as told: {error}"));
        let verdict = |told: Result<&'static str, Failure>| match (told, &unmarked) {
            (Ok(note), None) => Verdict::Done(Done::noted(Outcome::Refused, note.to_owned())),
            (Ok(_), Some(unmarked)) => Verdict::Failed(Failure::transient(unmarked)),
            (Err(untold), _) => Verdict::Failed(untold),
        };
        told.into_iter().map(|(booking_id, told)| (booking_id, verdict(told))).collect()
    }
}

/// The mark that refused bookings are told.
struct Mark<'a> {
    booking_ids: &'a [&'a str],
}

impl Work for Mark<'_> {
    type Output = ();

    async fn run(&self, session: &Session) -> Result<(), Error> {
        session.client.execute_typed(TOLD, &[(&self.booking_ids, Type::TEXT_ARRAY)]).await?;
        Ok(())
    }
}

/// The events of a transaction, field by field: as many statements as there are, for any number of events.
struct Columns<'a> {
    booking_ids: Vec<&'a str>,
    hashes: Vec<Vec<u8>>,
    users: Vec<&'a str>,
    user_numbers: Vec<Option<i32>>,
    rooms: Vec<&'a str>,
    guests: Vec<i32>,
    start_dates: Vec<Date>,
    end_dates: Vec<Date>,
    payments: Vec<Option<&'a str>>,
    sources: Vec<&'a str>,
    trace_ids: Vec<Option<&'a str>>,
    starts: Vec<Option<OffsetDateTime>>,
    ends: Vec<Option<OffsetDateTime>>,
}

impl<'a> Columns<'a> {
    fn of(entries: &[&'a Entry<Created>]) -> Self {
        fn each<'a, T>(entries: &[&'a Entry<Created>], field: impl Fn(&'a Entry<Created>) -> T) -> Vec<T> {
            entries.iter().map(|entry| field(entry)).collect()
        }
        Self {
            booking_ids: each(entries, |entry| entry.event.booking_id.as_str()),
            hashes: each(entries, |entry| entry.event.hash().to_vec()),
            users: each(entries, |entry| entry.event.user.text()),
            user_numbers: each(entries, |entry| entry.event.user.number()),
            rooms: each(entries, |entry| entry.event.room.as_str()),
            guests: each(entries, |entry| entry.event.guests),
            start_dates: each(entries, |entry| entry.event.stay.start_date),
            end_dates: each(entries, |entry| entry.event.stay.end_date),
            payments: each(entries, |entry| entry.event.payment_id.as_deref()),
            sources: each(entries, |entry| entry.source.as_str()),
            trace_ids: each(entries, |entry| entry.trace_id.as_deref()),
            starts: each(entries, |entry| entry.event.stay.starts_at),
            ends: each(entries, |entry| entry.event.stay.ends_at),
        }
    }

    /// Sends the transaction, and looks at every answer of it: PostgreSQL turns the `COMMIT` of a failed transaction into a
    /// rollback, and the driver calls that a success.
    async fn write(&self, session: &Session) -> Result<Answers, Error> {
        session.prepare(&*STATEMENTS).await?;
        let meant: [Value<'_>; 9] = [
            &self.booking_ids,
            &self.hashes,
            &self.users,
            &self.user_numbers,
            &self.rooms,
            &self.guests,
            &self.start_dates,
            &self.end_dates,
            &self.payments,
        ];
        let mut in_inbox = meant.to_vec();
        in_inbox.extend([&self.sources as Value<'_>, &self.trace_ids]);
        let settled: [Value<'_>; 4] = [&self.booking_ids, &self.hashes, &self.starts, &self.ends];
        let [of_inbox, of_accepted, of_refused, of_settled, of_found] = &*STATEMENTS;
        // Each goes out when it is first asked for its answer, and so in this order.
        let (begun, inbox, accepted, refused, settled, found, committed) = tokio::join!(
            biased;
            session.client.batch_execute(migration::BEGIN),
            session.query(of_inbox, &in_inbox),
            session.query(of_accepted, &meant),
            session.query(of_refused, &meant),
            session.query(of_settled, &settled),
            session.query(of_found, &meant[..OF_FOUND]),
            session.client.batch_execute("COMMIT"),
        );
        begun?;
        inbox?;
        accepted?;
        refused?;
        let (settled, found) = (settled?, found?);
        committed?;
        let settled = settled.iter().map(|row| {
            let status: String = row.try_get("outcome")?;
            let (is_new, was_cancelled) = (row.try_get("is_new")?, row.try_get("was_cancelled")?);
            Ok((row.try_get("booking_id")?, Settled { status, is_new, was_cancelled }))
        });
        let found = found.iter().map(|row| {
            let found = Found {
                users: row.try_get("users")?,
                has_room: row.try_get("has_room")?,
                is_same: row.try_get("is_same")?,
                outcome: row.try_get("outcome")?,
                is_told: row.try_get("is_told")?,
            };
            Ok((row.try_get("booking_id")?, found))
        });
        Ok(Answers {
            settled: settled.collect::<Result<_, tokio_postgres::Error>>()?,
            found: found.collect::<Result<_, tokio_postgres::Error>>()?,
        })
    }
}

/// What the transaction answered, by booking.
#[derive(Debug, Default)]
struct Answers {
    settled: HashMap<String, Settled>,
    found: HashMap<String, Found>,
}

/// A booking that was settled now.
#[derive(Debug)]
struct Settled {
    status: String,
    is_new: bool,
    was_cancelled: bool,
}

/// What was there at the transaction's end.
#[derive(Debug)]
struct Found {
    users: i64,
    has_room: bool,
    /// Nothing: there is no inbox row, or nobody has created the booking.
    is_same: Option<bool>,
    outcome: Option<String>,
    is_told: bool,
}

const ACCEPTED_STATUS: &str = "Accepted";
const CANCELLED_STATUS: &str = "Cancelled";
const REFUSED_STATUS: &str = "Refused";

impl Answers {
    fn ruling(&self, entry: &Entry<Created>) -> Ruling {
        let id = &entry.event.booking_id;
        match self.settled.get(id) {
            Some(Settled { is_new: false, .. }) => {
                return Ruling::done(Outcome::Duplicate, "written before its inbox row was cleaned away");
            }
            Some(Settled { status, was_cancelled, is_new: true }) => match status.as_str() {
                ACCEPTED_STATUS if *was_cancelled => return Ruling::GivenUpByAnother,
                ACCEPTED_STATUS => return Ruling::of(Outcome::Success),
                CANCELLED_STATUS => return Ruling::done(Outcome::Success, "cancelled before it came"),
                REFUSED_STATUS => return Ruling::Refused,
                other => {
                    return Ruling::retry(&format!(
                        "the database wrote the status {}, which is none of ours",
                        quoted(other)
                    ));
                }
            },
            None => {}
        }
        let Some(found) = self.found.get(id) else {
            return Ruling::retry("the database did not say what became of the booking");
        };
        match found {
            Found { is_same: Some(false), .. } => Ruling::reject(
                ErrorCode::PayloadChanged,
                "the booking is known with another user, room, stay, number of guests or payment; give the second one an id of \
                 its own",
            ),
            Found { is_same: Some(true), outcome: Some(status), is_told: false, .. } if status == REFUSED_STATUS => {
                Ruling::Refused
            }
            Found { is_same: Some(true), outcome: Some(status), .. } => {
                Ruling::done(Outcome::Duplicate, &format!("done before: {status}"))
            }
            Found { users, has_room, .. } => Ruling::of_users(*users).unwrap_or_else(|| match has_room {
                false => Ruling::retry("there is no such room, or none yet"),
                true => Ruling::retry(
                    "the booking conflicted with another of its room, which was gone when it was looked for",
                ),
            }),
        }
    }
}

#[cfg(test)]
mod tests;
