//! The schema: numbered files of SQL in the binary, each done once and in one transaction under the lock of all migrations.
//!
//! A deployment asks for it as a custom resource, and a person by hand. Files only ever add, so that the code of one version
//! before and one version after works with the same schema. A database that is newer than the binary is fine: it is what a
//! roll-back finds. What the inbox keeps too long is cleaned on a schedule.

mod request;

use std::time::Duration;

use data_encoding::HEXLOWER;
use serde::Serialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_postgres::types::Type;
use tracing::{error, info, warn};

use self::request::{CustomResource, Request, Wish};
use crate::{
    client::postgres::{ConnectOptions, Session, fault::Error},
    config::ConfigError,
    deadline::Deadline,
    failure::{Failure, isolated},
    start::{Function, Parts},
};

/// Begins a transaction that sees, statement by statement, what others have written by then. A role's own default may differ.
/// It does not ask for writing: a reader refuses that by a code that says less than the one by which it refuses to write.
pub const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// The files, in their order. What was once deployed never changes.
const MIGRATIONS: [&str; 4] = [
    include_str!("migration/0001-original.sql"),
    include_str!("migration/0002-bookings.sql"),
    include_str!("migration/0003-inbox.sql"),
    include_str!("migration/0004-role.sql"),
];

/// The checksums of files that were changed after all, because they did harm. A database that has one of them is as far.
///
/// - 4 granted `rds_iam` to `holdfast_app` wherever there was such a group. RDS then takes no password of that role any more.
const FORMER: [(i32, &str); 1] = [(4, "6c621e8db27047b8fcb1b4a6a74e9425986a5e7a3684c1a3540452c798cb1a4b")];

/// The file that no two accepted bookings of one room may stand in the way of.
const NO_OVERLAPS: i32 = 2;

/// The version of the schema that this code needs.
#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "there are a handful of files")]
pub const VERSION: i32 = MIGRATIONS.len() as i32;

/// What tells these files from others: a deployment calls for a migration when it changes.
pub fn fingerprint() -> String {
    let mut hash = Sha256::new();
    for file in MIGRATIONS {
        // So that no line can move from one file to the next unseen.
        hash.update(Sha256::digest(file.as_bytes()));
    }
    HEXLOWER.encode(&hash.finalize())
}

/// The number of the lock that all migrations take: "holdfast" in ASCII.
pub const LOCK: i64 = 0x686f_6c64_6661_7374;

/// How often a file is tried, five seconds each time, when others keep its table busy.
const TRIES: u32 = 3;

/// The most overlaps that are listed.
const MOST_LISTED: usize = 20;

/// How many rows one transaction cleans away.
const CLEANED_AT_ONCE: i64 = 5_000;

/// What is kept free for the answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Looks whether the schema is new enough, once for each connection.
///
/// # Errors
/// When it is too old, or nobody knows.
pub(super) async fn look(session: &Session) -> Result<(), Error> {
    use std::sync::atomic::Ordering::Relaxed;

    if session.has_looked.load(Relaxed) {
        return Ok(());
    }
    let row = session.client.query_typed_opt("SELECT max(version) FROM holdfast.migration", &[]).await?;
    let found: Option<i32> = row.map(|row| row.try_get(0)).transpose()?.flatten();
    let found = found.unwrap_or_default();
    if found < VERSION {
        return Err(Error::TooOld { found, needed: VERSION });
    }
    session.has_looked.store(true, Relaxed);
    Ok(())
}

/// Why the schema is not as it must be. The text never has a value of a row but ids of bookings and rooms.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The database's word.
    #[error("{0}")]
    Database(#[from] Error),
    /// Two guests have one room.
    #[error(
        "accepted bookings overlap in their room, and no two may; the first {} of them: {}; cancel one of each, then migrate again",
        .0.len(), .0.join("; ")
    )]
    Overlaps(Vec<String>),
    /// Somebody changed what was deployed.
    #[error("version {0} of the schema is not what this binary has under that number; deploy the binary that wrote it")]
    Changed(i32),
    /// The invocation is about to end.
    #[error("the work was not done in the time of this invocation; raise the function's timeout")]
    TimedOut,
    /// The code panicked.
    #[error("{0}")]
    Panicked(String),
}

impl From<tokio_postgres::Error> for MigrationError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The version that the database has now.
    pub version: i32,
    /// The versions that it got now.
    pub applied: Vec<i32>,
    /// Rows of the inbox that were cleaned away.
    pub cleaned: u64,
}

/// Migrates the schema and cleans the inbox.
#[derive(Debug)]
pub struct Migrator {
    options: ConnectOptions,
    kept_days: i32,
    answers: request::Answers,
}

impl Migrator {
    /// Reads the variables of the database, as its owner, and `IDEMPOTENCY_TTL_DAYS`. Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let options = ConnectOptions::configured(parts);
        let days: u16 = parts.reader.count("IDEMPOTENCY_TTL_DAYS", 30);
        Some(Self { options: options?, kept_days: days.into(), answers: request::Answers::default() })
    }

    /// Brings the schema to this binary's version.
    ///
    /// # Errors
    /// It is at the last version that could be reached.
    pub async fn migrate(&self) -> Result<Report, MigrationError> {
        let session = self.options.connect().await?;
        prepare(&session).await?;
        let mut applied = Vec::new();
        for (version, sql) in (1..).zip(MIGRATIONS) {
            if apply_with_patience(&session, version, sql).await? {
                info!(version, "the schema has this version now");
                applied.push(version);
            }
        }
        let version = newest(&session).await?;
        if version > VERSION {
            warn!(version, needed = VERSION, "the schema is newer than this binary, which is fine after a roll-back");
        }
        Ok(Report { version, applied, cleaned: 0 })
    }

    /// Cleans away what is older than the days that are kept, but for refusals that nobody was told of.
    ///
    /// # Errors
    /// What was cleaned before stays so.
    pub async fn clean(&self, deadline: Deadline) -> Result<Report, MigrationError> {
        const OLD: &str = "
DELETE FROM holdfast.inbox WHERE booking_id IN (
  SELECT booking_id FROM holdfast.inbox
  WHERE recorded_at < now() - make_interval(days => $1)
    AND NOT (outcome IS NOT DISTINCT FROM 'Refused' AND refund_requested_at IS NULL)
  ORDER BY booking_id LIMIT $2 FOR UPDATE SKIP LOCKED
)";
        let session = self.options.connect().await?;
        let mut cleaned = 0;
        while deadline.remaining() > ANSWER {
            let now = session
                .client
                .execute_typed(OLD, &[(&self.kept_days, Type::INT4), (&CLEANED_AT_ONCE, Type::INT8)])
                .await?;
            cleaned += now;
            if now == 0 {
                break;
            }
        }
        info!(rows = cleaned, "old rows of the inbox are deleted");
        Ok(Report { version: newest(&session).await?, applied: Vec::new(), cleaned })
    }

    /// Does what is asked for, inside the time that leaves some for the answer.
    async fn work(&self, wish: Wish, deadline: Deadline) -> Result<Report, MigrationError> {
        let work = async {
            let done = match wish {
                Wish::Migrate => self.migrate().await,
                Wish::Clean => self.clean(deadline).await,
            };
            Ok(done)
        };
        match timeout(deadline.remaining().saturating_sub(ANSWER), isolated(work)).await {
            Ok(Ok(done)) => done,
            Ok(Err(panic)) => Err(MigrationError::Panicked(Failure::message(&panic).to_owned())),
            Err(_elapsed) => Err(MigrationError::TimedOut),
        }
    }
}

/// Where the versions are kept. Two at once wait for each other.
async fn prepare(session: &Session) -> Result<(), MigrationError> {
    let statements = format!(
        "{BEGIN};
SELECT pg_advisory_xact_lock({LOCK});
CREATE SCHEMA IF NOT EXISTS holdfast;
CREATE TABLE IF NOT EXISTS holdfast.migration (version integer PRIMARY KEY, checksum bytea NOT NULL, at timestamptz NOT NULL DEFAULT now());
COMMIT"
    );
    Ok(session.client.batch_execute(&statements).await?)
}

async fn newest(session: &Session) -> Result<i32, MigrationError> {
    let row = session.client.query_typed_one("SELECT COALESCE(max(version), 0) FROM holdfast.migration", &[]).await?;
    Ok(row.try_get(0)?)
}

/// Applies a file, some times over where others keep its table busy. `true`: it was not there yet.
async fn apply_with_patience(session: &Session, version: i32, sql: &str) -> Result<bool, MigrationError> {
    for _ in 1..TRIES {
        match apply(session, version, sql).await {
            Err(MigrationError::Database(error)) if error.sqlstate() == Some("55P03") => {
                warn!(version, error = %error, "others keep the table busy; it is tried again");
            }
            ended => return ended,
        }
    }
    apply(session, version, sql).await
}

async fn apply(session: &Session, version: i32, sql: &str) -> Result<bool, MigrationError> {
    // The lock comes first: a migration waits for its twin as long as that takes, and for a table five seconds.
    let begun = format!("{BEGIN}; SELECT pg_advisory_xact_lock({LOCK}); SET LOCAL lock_timeout = '5s'");
    let ended = match session.client.batch_execute(&begun).await {
        Ok(()) => apply_inside(session, version, sql).await,
        Err(error) => Err(error.into()),
    };
    let last = if ended.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let closed = session.client.batch_execute(last).await;
    let is_new = ended?;
    closed?;
    Ok(is_new)
}

async fn apply_inside(session: &Session, version: i32, sql: &str) -> Result<bool, MigrationError> {
    let checksum: Vec<u8> = Sha256::digest(sql.as_bytes()).to_vec();
    let client = &session.client;
    let known = client
        .query_typed_opt("SELECT checksum FROM holdfast.migration WHERE version = $1", &[(&version, Type::INT4)])
        .await?;
    if let Some(known) = known {
        let known: Vec<u8> = known.try_get(0)?;
        let is_known = known == checksum || FORMER.contains(&(version, HEXLOWER.encode(&known).as_str()));
        return if is_known { Ok(false) } else { Err(MigrationError::Changed(version)) };
    }
    if version == NO_OVERLAPS {
        refuse_overlaps(session).await?;
    }
    client.batch_execute(sql).await?;
    let noted = client
        .execute_typed(
            "INSERT INTO holdfast.migration (version, checksum) VALUES ($1, $2)",
            &[(&version, Type::INT4), (&checksum, Type::BYTEA)],
        )
        .await?;
    Ok(noted == 1)
}

/// Lists the overlaps that the constraint would trip over, with the table locked so that no other can come.
async fn refuse_overlaps(session: &Session) -> Result<(), MigrationError> {
    const OVERLAPS: &str = "
SELECT one.id AS one, other.id AS other, one.room_id, greatest(one.start_date, other.start_date)::text AS from_day
FROM bookings one JOIN bookings other ON other.room_id = one.room_id AND other.id > one.id
  AND daterange(one.start_date, one.end_date, '[)') && daterange(other.start_date, other.end_date, '[)')
WHERE one.status = 'Accepted' AND other.status = 'Accepted'
ORDER BY one.id, other.id LIMIT $1";
    session.client.batch_execute("LOCK TABLE bookings IN ACCESS EXCLUSIVE MODE").await?;
    let most = i64::try_from(MOST_LISTED).unwrap_or(i64::MAX);
    let found = session.client.query_typed(OVERLAPS, &[(&most, Type::INT8)]).await?;
    let listed = found.iter().map(|row| {
        let (one, other): (i32, i32) = (row.try_get("one")?, row.try_get("other")?);
        let (room, day): (i32, String) = (row.try_get("room_id")?, row.try_get("from_day")?);
        Ok(format!("{one} and {other} in room {room} from {day}"))
    });
    let listed = listed.collect::<Result<Vec<_>, tokio_postgres::Error>>()?;
    if listed.is_empty() { Ok(()) } else { Err(MigrationError::Overlaps(listed)) }
}

impl Function for Migrator {
    type Response = Report;

    /// Nothing: a database that is away is told of when it is asked for something.
    async fn probe(&self) -> Result<(), ConfigError> {
        Ok(())
    }

    /// What it is invoked with says what is wanted: a custom resource's event, `{"action": "clean"}`, or anything else, which
    /// migrates. A custom resource always gets its answer; an error of the invocation then means that it could not be told, and
    /// Lambda tries again.
    async fn invoke(&self, payload: &RawValue, deadline: Deadline) -> Result<Report, String> {
        match Request::of(payload.get()) {
            Request::ByHand(wish) => {
                let done = self.work(wish, deadline).await;
                done.map_err(|error| {
                    error!(error = %error, "the database is not as it was wanted");
                    error.to_string()
                })
            }
            Request::Resource(resource) => self.answer(resource, deadline).await,
        }
    }
}

impl Migrator {
    async fn answer(&self, resource: CustomResource, deadline: Deadline) -> Result<Report, String> {
        let nothing = Report { version: 0, applied: Vec::new(), cleaned: 0 };
        let done = match resource.is_removed() {
            // Nothing is dropped: the rows outlive the stack.
            true => Ok(nothing),
            false => self.work(Wish::Migrate, deadline).await,
        };
        if let Err(error) = &done {
            error!(error = %error, "the schema is not as it must be, and the deployment is told so");
        }
        let reason = done.as_ref().err().map(ToString::to_string);
        self.answers.send(&resource, reason.as_deref()).await.map_err(|error| {
            error!(error, "the deployment could not be told what became of the schema");
            error
        })?;
        // The deployment knows, and a second invocation would tell it nothing else.
        Ok(done.unwrap_or(Report { version: 0, applied: Vec::new(), cleaned: 0 }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_are_numbered_in_their_order_and_only_add() {
        assert_eq!(VERSION, 4);
        for (index, sql) in MIGRATIONS.iter().enumerate() {
            assert!(sql.starts_with("-- "), "file {} says what it is for", index + 1);
            for word in ["DROP ", "TRUNCATE ", "RENAME ", "DELETE FROM "] {
                assert!(!sql.contains(word), "file {} must not {word}", index + 1);
            }
        }
    }

    #[test]
    fn overlaps_are_listed_with_what_to_do() {
        let error = MigrationError::Overlaps(vec!["1 and 2 in room 3 from 2026-06-10".to_owned()]).to_string();
        assert!(error.contains("1 and 2 in room 3") && error.contains("cancel one of each"), "{error}");
    }
}
