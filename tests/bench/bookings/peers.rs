//! Those who write bookings otherwise. Their bookings are held against the database as ours are.

use std::{
    env,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use local_stack::{build::workspace, postgres::Database, process::Process, ring::on_path};
use serde::Deserialize;
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, process::Command};
use tokio_postgres::{Client, Config, NoTls, Statement};

use crate::{cost::cpu_time, stop::Stop};

/// The variable that names the Python in which psycopg is installed.
const PYTHON: &str = "HOLDFAST_PSYCOPG_PYTHON";

/// The original's way, with its statements prepared once: the user, the room, the booking.
pub(super) struct Original {
    client: Client,
    user: Statement,
    room: Statement,
    booking: Statement,
}

impl Original {
    pub(super) async fn connect((host, port): (String, u16), database: &Database) -> Result<Self, Stop> {
        let (user, password, name) = account(database);
        let mut config = Config::new();
        config.user(&user).password(&password).dbname(&name);
        let stream = TcpStream::connect((host, port)).await?;
        stream.set_nodelay(true)?;
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        let user = client.prepare("SELECT id FROM users WHERE email = $1 OR username = $1").await?;
        let room = client.prepare("SELECT id FROM rooms WHERE internal_id = $1").await?;
        let booking = client
            .prepare(
                "INSERT INTO bookings (booking_id, user_id, room_id, number_of_guests, start_date, end_date, payment_id, status)
VALUES ($1, $2, $3, $4, $5::text::date, $6::text::date, $7, 'Accepted')",
            )
            .await?;
        Ok(Self { client, user, room, booking })
    }

    /// Writes them one after the other. The processor time is that of this process, and so is told only where that does nothing
    /// else.
    pub(super) async fn write(&self, stays: &[Value], is_alone: bool) -> Result<(Duration, Option<Duration>), Stop> {
        let (started, before) = (Instant::now(), cpu_time(Some(Process::own().0)).ok());
        for stay in stays {
            let text = |name: &str| stay[name].as_str().unwrap_or_default().to_owned();
            let user: i32 = self.client.query_one(&self.user, &[&text("userId")]).await?.try_get(0)?;
            let room: i32 = self.client.query_one(&self.room, &[&text("roomId")]).await?.try_get(0)?;
            let guests = i32::try_from(stay["guests"].as_i64().unwrap_or_default())?;
            let (id, payment) = (text("bookingId"), text("paymentId"));
            let (start, end) = (text("startDate"), text("endDate"));
            self.client.execute(&self.booking, &[&id, &user, &room, &guests, &start, &end, &payment]).await?;
        }
        let elapsed = started.elapsed();
        let used =
            cpu_time(Some(Process::own().0)).ok().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok((elapsed, used.filter(|_| is_alone)))
    }
}

/// A Python that has psycopg.
pub(super) struct Psycopg {
    python: PathBuf,
}

/// What the script says at its end.
#[derive(Deserialize)]
struct Said {
    seconds: f64,
    processor: f64,
}

impl Psycopg {
    /// Finds it, or says why the peers in Python are left out.
    pub(super) fn find() -> Result<Self, String> {
        let named = env::var_os(PYTHON).map(PathBuf::from);
        let python = named.or_else(|| on_path("python3")).ok_or("there is no python3")?;
        let version = std::process::Command::new(&python).args(["-c", "import psycopg"]).output();
        if version.is_ok_and(|output| output.status.success()) {
            return Ok(Self { python });
        }
        Err(format!(
            "{} can't import psycopg: pip install 'psycopg[binary]', or name a Python by {PYTHON}",
            python.display()
        ))
    }

    /// Writes them in batches; those of one are a commit for each record. The script tells its own time from the first record
    /// on.
    pub(super) async fn write(
        &self,
        (host, port): (String, u16),
        database: &Database,
        batch: usize,
        stays: &[Value],
    ) -> Result<(Duration, Option<Duration>), Stop> {
        let (user, password, name) = account(database);
        let mut command = Command::new(&self.python);
        command.arg(workspace().join("tests/bench/bookings/peer.py")).arg(batch.to_string());
        command.env("PGHOST", host).env("PGPORT", port.to_string()).env("PGUSER", user).env("PGPASSWORD", password);
        command.env("PGDATABASE", name).env("PGSSLMODE", "disable");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let lines: String = stays.iter().map(|stay| format!("{stay}\n")).collect();
        if let Some(mut input) = child.stdin.take() {
            input.write_all(lines.as_bytes()).await?;
        }
        let output = child.wait_with_output().await?;
        let said: Said = serde_json::from_slice(&output.stdout)?;
        Ok((Duration::from_secs_f64(said.seconds), Some(Duration::from_secs_f64(said.processor))))
    }
}

/// The functions' own account: user, password and database.
fn account(database: &Database) -> (String, String, String) {
    let variables = database.variables();
    let of = |name: &str| {
        let found = variables.iter().find(|(variable, _)| variable == name);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    };
    (of("DB_USER"), of("DB_PASSWORD"), of("DB_NAME"))
}
