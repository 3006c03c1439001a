//! What writing bookings costs, on a PostgreSQL that flushes what is committed: records in a second and processor time, on the
//! spot and over a network of two milliseconds, beside those who do the same otherwise.

mod peers;
mod stays;

use std::time::{Duration, Instant};

use local_stack::{
    lambda::{Function, Invocation},
    postgres::{Database, Server, distance::Distance},
    stack::Stack,
};
use tokio::time::sleep;
use tokio_postgres::Client;

use self::{
    peers::{Original, Psycopg},
    stays::Stays,
};
use crate::{
    cold::{PAUSE, Starts, UNCOUNTED},
    cost::cpu_time,
    figure::Figure,
    stop::Stop,
    workplace::{NO_OP, Workplace},
};

/// The function that is measured.
pub(crate) const BOOKING: &str = "booking-created";

/// The batches of a queue and of a topic, as the template has them.
pub(crate) const BATCHES: [usize; 2] = [10, 100];

/// The round trips to the database, in milliseconds: on the spot, and in a network.
pub(crate) const ROUND_TRIPS_MS: [u32; 2] = [0, 2];

/// A session tells of its flushes when it has been idle for so long: PostgreSQL's own ten seconds, and some.
const UNTIL_TOLD: Duration = Duration::from_secs(12);

/// Batches that are counted for round trips and flushes: so many that what the server flushes for itself meanwhile, some times
/// in a second, is a small part.
const COUNTED: usize = 500;

pub(crate) struct Bookings {
    pub(crate) ways: Vec<Way>,
    /// Why not everybody is among them.
    pub(crate) left_out: Option<String>,
    /// Of a batch of ten.
    pub(crate) round_trips: f64,
    /// Of a batch of ten.
    pub(crate) flushes: f64,
    pub(crate) ours: Starts,
    pub(crate) no_op: Starts,
}

/// One way to write bookings, at one size of a batch and one distance.
pub(crate) struct Way {
    pub(crate) who: Who,
    pub(crate) batch: usize,
    pub(crate) round_trip_ms: u32,
    /// Records written in a second.
    pub(crate) rate: Figure,
    /// The client's processor time for a thousand records, in milliseconds; nothing where it can't be told from the bench's
    /// own.
    pub(crate) processor: Option<Figure>,
}

/// Who writes them, in the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// The function: one transaction for a batch, with the inbox.
    Ours,
    /// The function, whose statements are prepared once for its connection.
    Prepared,
    /// The original's way: three prepared statements for a record, each a transaction by itself, and no inbox.
    Original,
    /// A plain consumer in Python: the same statements and a commit for each record, by psycopg.
    Plain,
    /// Pipeline mode of psycopg: one transaction for a batch, with the inbox.
    Pipeline,
}

impl Who {
    pub(crate) const ALL: [Self; 5] = [Self::Ours, Self::Prepared, Self::Original, Self::Plain, Self::Pipeline];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => BOOKING,
            Self::Prepared => "booking-created, prepared",
            Self::Original => "three statements a record",
            Self::Plain => "psycopg, record by record",
            Self::Pipeline => "psycopg, pipeline with an inbox",
        }
    }

    /// Whether the size of the batch makes a difference to it.
    fn batches(self) -> &'static [usize] {
        match self {
            Self::Ours | Self::Prepared | Self::Pipeline => &BATCHES,
            Self::Original | Self::Plain => &BATCHES[..1],
        }
    }

    /// Records of one measurement: enough to last, at some milliseconds for each that goes alone.
    fn window(self) -> usize {
        match self {
            Self::Ours | Self::Prepared | Self::Pipeline => 1_000,
            Self::Original | Self::Plain => 200,
        }
    }
}

/// Measures all ways. `Err`: this machine has no PostgreSQL.
pub(crate) async fn measure(workplace: &Workplace) -> Result<Result<Bookings, String>, Stop> {
    let server = match Server::that_flushes() {
        Ok(server) => server,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let psycopg = Psycopg::find();
    let is_here = |who: &Who| psycopg.is_ok() || !matches!(who, Who::Plain | Who::Pipeline);
    let mut ways = Vec::new();
    for (round_trip_ms, batch) in ROUND_TRIPS_MS.iter().flat_map(|ms| BATCHES.iter().map(move |batch| (*ms, *batch))) {
        let mut lanes = Vec::new();
        for who in Who::ALL.into_iter().filter(|who| is_here(who) && who.batches().contains(&batch)) {
            let site = Site::set(workplace, server, who, round_trip_ms).await?;
            lanes.push(Lane { who, site, rates: Vec::new(), times: Vec::new() });
        }
        // In turn, so that whatever else the machine does meanwhile falls on all of them. The first window of each connects,
        // and fills caches.
        for window in 0..=workplace.runs(7, 2) {
            for lane in &mut lanes {
                let (elapsed, processor) =
                    lane.site.write(lane.who, batch, lane.who.window(), psycopg.as_ref().ok()).await?;
                if window > 0 {
                    let records = lane.who.window() as f64;
                    lane.rates.push(records / elapsed.as_secs_f64());
                    lane.times.extend(processor.map(|time| time.as_secs_f64() * 1_000.0 * 1_000.0 / records));
                }
            }
        }
        for Lane { who, site, rates, times } in lanes {
            site.close(who).await?;
            let processor = Some(Figure::of(times)).filter(|figure| figure.runs() > 0);
            ways.push(Way { who, batch, round_trip_ms, rate: Figure::of(rates), processor });
        }
    }
    ways.sort_by_key(|way| way.who);
    let (round_trips, flushes) = counts(workplace, server).await?;
    let [no_op, ours] = starts(workplace, server).await?;
    Ok(Ok(Bookings { ways, left_out: psycopg.err(), round_trips, flushes, ours, no_op }))
}

/// Somebody who writes bookings, at one size of a batch and one distance, and what his windows came to so far.
struct Lane {
    who: Who,
    site: Site,
    rates: Vec<f64>,
    times: Vec<f64>,
}

/// A house with rooms, the function, and a stretch of network where there is one.
struct Site {
    stack: Stack,
    database: Database,
    sql: Client,
    function: Function,
    no_op: Function,
    distance: Option<Distance>,
    stays: Stays,
    original: Option<Original>,
}

impl Site {
    async fn set(workplace: &Workplace, server: &'static Server, who: Who, round_trip_ms: u32) -> Result<Self, Stop> {
        let stack = Stack::start().await?;
        let database = server.furnished().await?;
        let sql = database.client().await?;
        sql.batch_execute(stays::ROOMS).await?;
        let distance = match round_trip_ms {
            0 => None,
            ms => Some(Distance::to(&server.host, server.port, Duration::from_millis(ms.into()))?),
        };
        let mut environment = database.environment(&stack, BOOKING);
        if let Some(distance) = &distance {
            environment.insert("DB_HOST".to_owned(), distance.address().ip().to_string());
            environment.insert("DB_PORT".to_owned(), distance.address().port().to_string());
        }
        if who == Who::Prepared {
            environment.insert("DB_STATEMENTS".to_owned(), "prepared".to_owned());
        }
        let binary = |name: &str| workplace.binaries.get(name).cloned().ok_or(Stop::unable("a function was not built"));
        let function = stack.deploy_with(BOOKING, binary(BOOKING)?, 1, environment)?;
        let no_op = stack.deploy(NO_OP, binary(NO_OP)?, 1)?;
        Ok(Self { stack, database, sql, function, no_op, distance, stays: Stays::default(), original: None })
    }

    /// Where a client connects to.
    fn address(&self) -> (String, u16) {
        let Server { host, port, .. } = self.database.server;
        self.distance.as_ref().map_or_else(
            || (host.clone(), *port),
            |distance| (distance.address().ip().to_string(), distance.address().port()),
        )
    }

    /// Lets somebody write so many new bookings, and tells how long that took and the processor time that the client used.
    async fn write(
        &mut self,
        who: Who,
        batch: usize,
        records: usize,
        psycopg: Option<&Psycopg>,
    ) -> Result<(Duration, Option<Duration>), Stop> {
        let stays = self.stays.take(records);
        match who {
            Who::Ours | Who::Prepared => {
                let events: Vec<String> = stays.chunks(batch).map(stays::event).collect();
                let (mut process, mut before) = (None, Duration::ZERO);
                let mut elapsed = Duration::ZERO;
                for (index, event) in events.into_iter().enumerate() {
                    let started = Instant::now();
                    let invocation = self.function.invoke(event).await;
                    elapsed += started.elapsed();
                    check(&invocation)?;
                    if index == 0 {
                        // A process that has just been started has used what its start took, too, and then the window is not
                        // counted.
                        process = invocation.process;
                        before = cpu_time(process)?;
                    }
                }
                let used = cpu_time(process)?.saturating_sub(before);
                Ok((elapsed, Some(used.mul_f64(records as f64 / (records - batch) as f64))))
            }
            Who::Original => {
                let original = match self.original.take() {
                    Some(original) => original,
                    None => Original::connect(self.address(), &self.database).await?,
                };
                let written = original.write(&stays, self.distance.is_none()).await;
                self.original = Some(original);
                written
            }
            Who::Plain | Who::Pipeline => {
                let psycopg = psycopg.ok_or(Stop::unable("psycopg is not there"))?;
                let batch = if who == Who::Plain { 1 } else { batch };
                psycopg.write(self.address(), &self.database, batch, &stays).await
            }
        }
    }

    /// Ends a measurement: each stay so far is one booking that stands, and who has an inbox has noted it.
    async fn close(self, who: Who) -> Result<(), Stop> {
        const FOUND: &str = "
SELECT (SELECT count(*) FROM bookings WHERE status = 'Accepted'), (SELECT count(*) FROM bookings),
  (SELECT count(*) FROM holdfast.inbox WHERE outcome = 'Accepted')";

        let row = self.sql.query_typed(FOUND, &[]).await?;
        let row = row.first().ok_or(Stop::unable("the database counted nothing"))?;
        let found: [i64; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
        let sent = i64::try_from(self.stays.sent())?;
        let noted = if matches!(who, Who::Ours | Who::Prepared | Who::Pipeline) { sent } else { 0 };
        let letters = self.stack.dead_letters(BOOKING).messages().len();
        let told = self.stack.aws.bus_entries().len();
        drop((self.sql, self.function, self.no_op, self.original));
        self.database.remove().await?;
        if found != [sent, sent, noted] || letters + told > 0 {
            let fault = format!(
                "{} wrote {sent} bookings: found {found:?} of accepted, all and noted ones, {letters} dead letters, {told} events",
                who.name()
            );
            return Err(Stop::invalid(fault));
        }
        Ok(())
    }
}

/// An answer that keeps a record ends the run.
fn check(invocation: &Invocation) -> Result<(), Stop> {
    match invocation.result.as_deref() {
        Ok(br#"{"batchItemFailures":[]}"#) => Ok(()),
        _ => Err(Stop::Invalid(vec![format!("{invocation:?}")])),
    }
}

/// Round trips and flushes of a batch of ten, once the connection is there.
async fn counts(workplace: &Workplace, server: &'static Server) -> Result<(f64, f64), Stop> {
    const FLUSHES: &str = "SELECT wal_sync FROM pg_stat_wal";

    let mut site = Site::set(workplace, server, Who::Ours, 2).await?;
    let first = site.stays.take(BATCHES[0]);
    check(&site.function.invoke(stays::event(&first)).await)?;
    sleep(UNTIL_TOLD).await;
    let round_trips = || site.distance.as_ref().map(Distance::round_trips).unwrap_or_default();
    let flushes = async || -> Result<i64, Stop> {
        let rows = site.sql.query_typed(FLUSHES, &[]).await?;
        Ok(rows.first().ok_or(Stop::unable("PostgreSQL does not count its flushes"))?.try_get(0)?)
    };
    let before = (round_trips(), flushes().await?);
    let mut stays = Stays::behind(&site.stays);
    for _ in 0..COUNTED {
        check(&site.function.invoke(stays::event(&stays.take(BATCHES[0]))).await)?;
    }
    sleep(UNTIL_TOLD).await;
    let after = (round_trips(), flushes().await?);
    site.stays = stays;
    site.close(Who::Ours).await?;
    let of_batch = |count: f64| count / COUNTED as f64;
    Ok((of_batch((after.0 - before.0) as f64), of_batch((after.1 - before.1) as f64)))
}

/// Cold starts of the no-op and of the function, to the answer for a batch of ten: the connection is a part of it.
async fn starts(workplace: &Workplace, server: &'static Server) -> Result<[Starts; 2], Stop> {
    let mut site = Site::set(workplace, server, Who::Ours, 0).await?;
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..UNCOUNTED + workplace.runs(50, 10) {
        let event = stays::event(&site.stays.take(BATCHES[0]));
        for (function, starts) in [&site.no_op, &site.function].into_iter().zip(&mut starts) {
            function.recycle();
            sleep(PAUSE).await;
            let invocation = function.invoke(event.clone()).await;
            check(&invocation)?;
            let init = invocation.init.ok_or(Stop::unable("a process was not started anew"))?;
            starts.push((init, init + invocation.duration));
        }
    }
    site.close(Who::Ours).await?;
    Ok(starts.map(|starts| Starts::of(&starts)))
}
