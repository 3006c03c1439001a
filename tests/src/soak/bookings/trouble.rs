//! What goes wrong in the soak of the bookings.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio_postgres::{Client, types::Type};

use super::{BookingsError, judge};
use crate::{
    aws::{AwsEndpoint, Injected},
    lambda::Function,
    postgres::{APP, Database, wire::Wire},
    process::Process,
    tripwire::{Point, Side},
};

/// Tells those whose connections are in `demoted` that they reach a reader by now, and one insert of 150 that it was chosen to
/// end a deadlock. The sequences count both, whatever becomes of the transactions.
pub(super) const MADE_ON_PURPOSE: &str = "
CREATE TABLE demoted (pid integer);
CREATE SEQUENCE inserts;
CREATE SEQUENCE told_reader;
CREATE SEQUENCE told_deadlock;
GRANT SELECT ON demoted TO holdfast_app;
GRANT USAGE ON inserts, told_reader, told_deadlock TO holdfast_app;
CREATE FUNCTION trouble() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF pg_backend_pid() IN (SELECT pid FROM demoted) THEN
    PERFORM nextval('told_reader');
    RAISE EXCEPTION 'cannot execute INSERT in a read-only transaction' USING ERRCODE = '25006';
  END IF;
  IF nextval('inserts') % 150 = 0 THEN
    PERFORM nextval('told_deadlock');
    RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER trouble BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION trouble();";

/// What the functions say of troubles that only they see.
pub(super) const TOLD: [(&str, &str); 2] = [("answers 53300", FULL), ("answers 55P03", SLOW_LOCK)];

const CUT: &str = "connection cut at a message";
const TERMINATED: &str = "57P01, connection ended by the server";
const READER: &str = "25006, writer became a reader";
const DEADLOCK: &str = "40P01, made on purpose";
const FULL: &str = "53300, connection table full";
const SLOW_LOCK: &str = "55P03, lock held for too long";
const LOCK: &str = "row of the inbox locked by somebody";
const BUS: &str = "bus refused or gave no answer";
const KILLED: &str = "process killed at work";
const RESTARTED: &str = "server crashed and was started again";

/// Every trouble, by the names under which they are counted.
pub const TROUBLES: [&str; 10] = [CUT, TERMINATED, READER, DEADLOCK, FULL, SLOW_LOCK, LOCK, BUS, KILLED, RESTARTED];

/// A wait that outlasts what the role of the functions allows for a lock.
const TOO_LONG: Duration = Duration::from_millis(2_300);

/// Every so many locks one is held for too long.
const ONE_OF_LOCKS: u64 = 8;

/// Makes trouble, one after the other.
pub(super) struct Trouble {
    pub(super) random: fastrand::Rng,
    pub(super) is_calm: Arc<AtomicBool>,
    pub(super) sql: Client,
    pub(super) database: Database,
    pub(super) wire: Arc<Wire>,
    pub(super) aws: AwsEndpoint,
    pub(super) functions: Vec<Function>,
    pub(super) made: BTreeMap<&'static str, u64>,
    /// Those that the server found before it crashed.
    pub(super) deadlocks: i64,
}

impl Trouble {
    /// Makes trouble until it is to be calm. The answer is how often, by what, and the deadlocks that a crashed server had
    /// found.
    pub(super) async fn make(mut self) -> Result<(BTreeMap<&'static str, u64>, i64), BookingsError> {
        while !self.is_calm.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(self.random.u64(50..250))).await;
            match self.random.u8(0..34) {
                0..8 => self.cut(),
                8..12 => self.terminate().await?,
                12..16 => self.fail_over().await?,
                16..18 => self.fill_connection_table().await?,
                18..24 => self.lock().await?,
                24..30 => self.refuse_events(),
                30..32 => self.kill(),
                _ => self.restart().await?,
            }
        }
        self.cut_count();
        self.count_told().await?;
        Ok((self.made, self.deadlocks))
    }

    /// Counts what the sequences have, and lets them begin again.
    async fn count_told(&mut self) -> Result<(), BookingsError> {
        for (sequence, what) in [("told_reader", READER), ("told_deadlock", DEADLOCK)] {
            let told = format!("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {sequence}");
            let told: i64 = self.sql.query_typed_one(&told, &[]).await?.try_get(0)?;
            self.count(what, told.unsigned_abs());
            self.sql.batch_execute(&format!("SELECT setval('{sequence}', 1, false)")).await?;
        }
        Ok(())
    }

    fn count(&mut self, what: &'static str, times: u64) {
        *self.made.entry(what).or_default() += times;
    }

    fn cut_count(&mut self) {
        let was_cut = self.wire.was_cut();
        self.count(CUT, u64::from(was_cut));
    }

    fn cut(&mut self) {
        self.cut_count();
        let side = if self.random.bool() { Side::Before } else { Side::After };
        self.wire.cut_at(Some(Point { request: self.random.usize(1..40), side }));
    }

    async fn terminate(&mut self) -> Result<(), BookingsError> {
        let terminated = self.terminate_some(1).await?;
        self.count(TERMINATED, terminated);
        Ok(())
    }

    async fn terminate_some(&self, most: i64) -> Result<u64, BookingsError> {
        const TERMINATE: &str = "
SELECT pg_terminate_backend(pid) FROM (
  SELECT pid FROM pg_stat_activity WHERE usename = $1 AND datname = current_database() ORDER BY random() LIMIT $2
) AS chosen";
        let terminated = self.sql.query_typed(TERMINATE, &[(&APP, Type::TEXT), (&most, Type::INT8)]).await?;
        Ok(terminated.len() as u64)
    }

    async fn fail_over(&mut self) -> Result<(), BookingsError> {
        const FAIL_OVER: &str = "
DELETE FROM demoted;
INSERT INTO demoted SELECT pid FROM pg_stat_activity WHERE usename = 'holdfast_app' AND datname = current_database()";
        Ok(self.sql.batch_execute(FAIL_OVER).await?)
    }

    /// Lets nobody in for a while, and those go who are.
    async fn fill_connection_table(&mut self) -> Result<(), BookingsError> {
        let limited = |limit: i32| format!("ALTER DATABASE {} CONNECTION LIMIT {limit}", self.database.name);
        self.sql.batch_execute(&limited(0)).await?;
        let terminated = self.terminate_some(100).await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        self.sql.batch_execute(&limited(-1)).await?;
        self.count(TERMINATED, terminated?);
        Ok(())
    }

    /// Holds some rows of the inbox, which it takes in the order that all take them in.
    async fn lock(&mut self) -> Result<(), BookingsError> {
        const LOCKED: &str = "
BEGIN; SELECT FROM holdfast.inbox
WHERE booking_id IN (SELECT booking_id FROM holdfast.inbox ORDER BY recorded_at DESC LIMIT 8)
ORDER BY booking_id FOR UPDATE";
        self.sql.batch_execute(LOCKED).await?;
        self.count(LOCK, 1);
        let is_too_long = self.made.get(LOCK).is_some_and(|locks| locks % ONE_OF_LOCKS == 0);
        let short = Duration::from_millis(self.random.u64(20..200));
        tokio::time::sleep(if is_too_long { TOO_LONG } else { short }).await;
        Ok(self.sql.batch_execute("ROLLBACK").await?)
    }

    fn refuse_events(&mut self) {
        const PUT: &str = "AWSEvents.PutEvents";
        match self.random.u8(0..6) {
            0..3 => self.aws.fail_entries_next(1),
            3 => self.aws.fail_next(PUT, Injected::LostAnswer),
            _ => {
                let (kind, message) = ("InternalException".to_owned(), "not now".to_owned());
                self.aws.fail_next(PUT, Injected::Answer { status: 500, kind, message });
            }
        }
        self.count(BUS, 1);
    }

    /// The server crashes: whoever is connected hears no word of it, and nobody can connect before it is started again.
    async fn restart(&mut self) -> Result<(), BookingsError> {
        // A crash forgets the server's counts, and lets sequences skip numbers.
        self.deadlocks += judge::deadlocks(&self.sql).await?;
        self.count_told().await?;
        self.database.server.restart().await?;
        self.sql = self.database.client().await?;
        self.count_told().await?;
        self.count(RESTARTED, 1);
        Ok(())
    }

    fn kill(&mut self) {
        let at_work: Vec<u32> = self.functions.iter().flat_map(Function::processes_in_hand).collect();
        if let Some(process) = self.random.choice(at_work) {
            Process(process).kill();
            self.count(KILLED, 1);
        }
    }
}
