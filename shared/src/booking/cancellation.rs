//! The transaction that gives bookings up, and what its answers mean. Like a creation it takes the inbox row first, so that the
//! two of one booking wait for each other and both orders come to the same end.

use std::{collections::HashMap, sync::LazyLock, time::Duration};

use tokio_postgres::types::Type;

use super::{
    ErrorCode, Outcome,
    event::Cancelled,
    migration,
    recorder::{Change, Entry, Ruling, Traced, USERS},
};
use crate::{
    client::postgres::{
        Session,
        fault::Error,
        statement::{Statement, Value},
    },
    deadline::Deadline,
    failure::quoted,
    start::Parts,
    trigger::{Task, Verdict},
};

/// The events of a transaction, with the user that each of them means.
fn meant() -> String {
    format!(
        "
WITH e AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::int4[]) AS e (booking_id, user_ref, user_number)
), meant AS (
  SELECT e.*, u.user_id, u.users
  FROM e
  CROSS JOIN LATERAL (
    {USERS}
  ) u
)"
    )
}

/// Takes the inbox rows, and keeps there who gave the booking up, for a booking that comes later. Whose booking it is nobody
/// knows yet, so that a stranger's cancellation must not push out its guest's.
const INBOX: &str = "
INSERT INTO holdfast.inbox (booking_id, cancelled_by, source, trace_id)
SELECT meant.booking_id, ARRAY[user_id], o.source, o.trace_id
FROM meant JOIN unnest($1::text[], $4::text[], $5::text[]) AS o (booking_id, source, trace_id) USING (booking_id)
WHERE users = 1
ORDER BY meant.booking_id
ON CONFLICT (booking_id) DO UPDATE SET cancelled_by = CASE
  WHEN inbox.outcome IS NOT NULL OR inbox.cancelled_by @> EXCLUDED.cancelled_by THEN inbox.cancelled_by
  ELSE COALESCE(inbox.cancelled_by, '{}') || EXCLUDED.cancelled_by
END";

/// Gives the bookings up. It asks whether the inbox row is of this very transaction: if `BEGIN` failed, nothing is done. That
/// look goes by the key for each event, which `OFFSET 0` sees to, however few rows the planner knows of. The booking itself is
/// joined, because others may be writing there, too: only so is the row looked at again as they leave it.
const CANCELLED: &str = "
UPDATE bookings b SET status = 'Cancelled', updated_at = now()
FROM meant CROSS JOIN LATERAL (
  SELECT FROM holdfast.inbox i WHERE i.booking_id = meant.booking_id AND i.xmin = pg_current_xact_id()::xid OFFSET 0
) taken
WHERE b.booking_id = meant.booking_id AND b.user_id = meant.user_id AND b.status = 'Accepted' AND users = 1
RETURNING b.booking_id";

/// Looks at what each of them found.
const FOUND: &str = "
SELECT meant.booking_id, users, b.status, b.user_id = meant.user_id AS is_owner
FROM meant LEFT JOIN LATERAL (
  SELECT b.status, b.user_id FROM bookings b WHERE b.booking_id = meant.booking_id OFFSET 0
) b ON TRUE";

/// All of them, in the order of the transaction.
static STATEMENTS: LazyLock<[Statement; 3]> = LazyLock::new(|| {
    const OF_MEANT: &[Type] =
        &[Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::INT4_ARRAY, Type::TEXT_ARRAY, Type::TEXT_ARRAY];
    let meant = meant();
    let of_meant = |statement: &str| Statement::new(format!("{meant}{statement}"), &OF_MEANT[..3]);
    [Statement::new(format!("{meant}{INBOX}"), OF_MEANT), of_meant(CANCELLED), of_meant(FOUND)]
});

/// What `booking.cancelled` does: its guest's booking is given up, now or as soon as it comes.
#[derive(Debug)]
pub struct Cancellation;

impl Change for Cancellation {
    type Event = Cancelled;

    fn configured(_parts: &mut Parts<'_>) -> Self {
        Self
    }

    fn following(&self, _transaction: Duration) -> Duration {
        Duration::ZERO
    }

    async fn write(session: &Session, entries: &[&Entry<Cancelled>]) -> Result<Vec<Ruling>, Error> {
        let booking_ids: Vec<&str> = entries.iter().map(|entry| entry.event.booking_id.as_str()).collect();
        let users: Vec<&str> = entries.iter().map(|entry| entry.event.user.text()).collect();
        let numbers: Vec<Option<i32>> = entries.iter().map(|entry| entry.event.user.number()).collect();
        let sources: Vec<&str> = entries.iter().map(|entry| entry.source.as_str()).collect();
        let trace_ids: Vec<Option<&str>> = entries.iter().map(|entry| entry.trace_id.as_deref()).collect();

        session.prepare(&*STATEMENTS).await?;
        let meant: [Value<'_>; 3] = [&booking_ids, &users, &numbers];
        let mut in_inbox = meant.to_vec();
        in_inbox.extend([&sources as Value<'_>, &trace_ids]);
        let [of_inbox, of_cancelled, of_found] = &*STATEMENTS;
        let (begun, inbox, cancelled, found, committed) = tokio::join!(
            biased;
            session.client.batch_execute(migration::BEGIN),
            session.query(of_inbox, &in_inbox),
            session.query(of_cancelled, &meant),
            session.query(of_found, &meant),
            session.client.batch_execute("COMMIT"),
        );
        begun?;
        inbox?;
        let (cancelled, found) = (cancelled?, found?);
        committed?;
        let cancelled = cancelled.iter().map(|row| row.try_get("booking_id"));
        let cancelled = cancelled.collect::<Result<Vec<String>, tokio_postgres::Error>>()?;
        let found = found.iter().map(|row| {
            let found = Found {
                users: row.try_get("users")?,
                status: row.try_get("status")?,
                is_owner: row.try_get("is_owner")?,
            };
            Ok((row.try_get("booking_id")?, found))
        });
        let found = found.collect::<Result<HashMap<String, Found>, tokio_postgres::Error>>()?;
        let ruling = |entry: &&Entry<Cancelled>| match cancelled.contains(&entry.event.booking_id) {
            true => Ruling::of(Outcome::Success),
            false => found
                .get(&entry.event.booking_id)
                .map_or_else(|| Ruling::retry("the database did not say what became of the booking"), Found::ruling),
        };
        Ok(entries.iter().map(ruling).collect())
    }

    /// Nothing follows: no cancellation is refused.
    async fn follow(
        &self,
        _database: &Traced<'_>,
        _refused: Vec<&Task<Entry<Cancelled>>>,
        _deadline: Deadline,
    ) -> HashMap<String, Verdict<Outcome>> {
        HashMap::new()
    }
}

/// What was there at the transaction's end.
#[derive(Debug)]
struct Found {
    users: i64,
    /// The booking's; nothing: there is no booking.
    status: Option<String>,
    is_owner: Option<bool>,
}

impl Found {
    fn ruling(&self) -> Ruling {
        if let Some(ruling) = Ruling::of_users(self.users) {
            return ruling;
        }
        match (self.status.as_deref(), self.is_owner) {
            (None, _) => Ruling::of(Outcome::Early),
            (Some(_), Some(false) | None) => {
                Ruling::reject(ErrorCode::NotOwner, "the booking is another user's, who alone can give it up")
            }
            (Some("Cancelled"), Some(true)) => Ruling::done(Outcome::Duplicate, "given up before"),
            (Some("Refused"), Some(true)) => Ruling::done(Outcome::Superseded, "the booking was refused"),
            (Some(other), Some(true)) => {
                Ruling::retry(&format!("the booking was not given up, and is {}", quoted(other)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(users: i64, booking: Option<(&str, bool)>, expected: &str) {
        let found = Found {
            users,
            status: booking.map(|(status, _)| status.to_owned()),
            is_owner: booking.map(|(_, is_owner)| is_owner),
        };
        assert_eq!(found.ruling().to_string(), expected, "{found:?}");
    }

    #[test]
    fn what_was_found_decides_what_a_cancellation_comes_to() {
        check(1, None, "early");
        check(1, Some(("Cancelled", true)), "duplicate");
        check(1, Some(("Refused", true)), "superseded");
        check(1, Some(("Accepted", true)), "retry");
        for status in ["Accepted", "Cancelled", "Refused"] {
            check(1, Some((status, false)), "not_owner");
            check(0, Some((status, true)), "retry");
            check(2, Some((status, true)), "ambiguous_user");
        }
        check(0, None, "retry");
        check(3, None, "ambiguous_user");
    }
}
