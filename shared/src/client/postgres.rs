//! PostgreSQL: one connection per environment, made on first need and kept over invocations.
//!
//! - No pool: an environment works one invocation at a time. No ping: a connection that died while the environment was frozen
//!   shows at its first statement, which is then done once more over a new one.
//! - Statements are unnamed and typed unless the settings say that nothing stands between us and the server ([`statement`]),
//!   nothing is `SET` and the start-up carries no options, so that a proxy may share its connections out. Time-outs of the
//!   server's side are settings of the role.
//! - A call that takes too long ends with its connection: what was sent may still be done, so that all work here is written to
//!   be repeated.

mod access;
pub mod fault;
pub mod statement;
mod tls;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::Mutex,
    task::AbortHandle,
    time::{Instant, timeout},
};
use tokio_postgres::{Client, Config, NoTls, Row, config::SslMode};
use tracing::{info, warn};

use self::{
    access::Access,
    fault::{Decision, Error},
    statement::{Sender, Statement, Statements, Value},
    tls::Encryption,
};
use crate::{deadline::Deadline, start::Parts};

/// How long a connection may take to make, by default.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a transaction may take, by default.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where PostgreSQL listens, unless it is told otherwise.
const PORT: u16 = 5432;

/// The database of the system that this one replaces.
const DATABASE: &str = "booking_management";

/// Where the database is, and how it is spoken to.
#[derive(Debug)]
pub struct ConnectOptions {
    /// Its host.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database's name.
    pub database: String,
    /// What we are called there, for whoever looks at its connections.
    pub application: &'static str,
    /// How long a connection may take to make.
    pub connect_timeout: Duration,
    /// How long a transaction may take.
    pub transaction_timeout: Duration,
    access: Access,
    encryption: Encryption,
    statements: Statements,
}

impl ConnectOptions {
    /// `DB_HOST`, `DB_PORT`, `DB_NAME`, who we are there by `DB_USER`, `DB_AUTH` and `DB_PASSWORD`, TLS by `DB_TLS` and
    /// `DB_CA_PEM`, `DB_STATEMENTS`, and the time-outs. The secret's fields `username`, `password` and `db_ca_pem` stand in for
    /// what is unset. Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let host = parts.reader.required_or_secret("DB_HOST", "host");
        let port = parts.reader.count("DB_PORT", PORT);
        let database = parts.reader.optional("DB_NAME").unwrap_or_else(|| DATABASE.to_owned());
        let connect_timeout = parts.reader.milliseconds("DB_CONNECT_TIMEOUT_MS", CONNECT_TIMEOUT);
        let transaction_timeout = parts.reader.milliseconds("DB_TRANSACTION_TIMEOUT_MS", TRANSACTION_TIMEOUT);
        let encryption = Encryption::configured(parts, host.as_deref());
        let access = Access::configured(parts);
        let statements = Statements::configured(parts);
        Some(Self {
            host: host?,
            port,
            database,
            application: parts.name,
            connect_timeout,
            transaction_timeout,
            access: access?,
            encryption: encryption?,
            statements: statements?,
        })
    }

    /// The longest that one try of [`Database::run`] takes: a connection and a transaction.
    pub fn one_try(&self) -> Duration {
        self.connect_timeout + self.transaction_timeout
    }

    /// Connects.
    ///
    /// # Errors
    /// When there is no connection within the time for one.
    pub async fn connect(&self) -> Result<Session, Error> {
        let started = Instant::now();
        let session =
            timeout(self.connect_timeout, self.open()).await.map_err(|_elapsed| Error::TimedOut("connecting"))?;
        let connect_ms = started.elapsed().as_millis();
        match &session {
            Ok(_) => info!(%connect_ms, "connected to the database"),
            Err(error) => {
                warn!(%connect_ms, sqlstate = error.sqlstate(), error = %error, "no connection to the database")
            }
        }
        session
    }

    async fn open(&self) -> Result<Session, Error> {
        let mut config = Config::new();
        config.dbname(&self.database).user(self.access.user()).application_name(self.application);
        config.password(self.access.password(&self.host, self.port).await?.expose());
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(Error::unreachable)?;
        // Each statement of a transaction is a write of its own.
        stream.set_nodelay(true).map_err(Error::unreachable)?;
        match self.encryption.to(&self.host)? {
            None => {
                let (client, connection) = config.ssl_mode(SslMode::Disable).connect_raw(stream, NoTls).await?;
                Ok(Session::over(client, connection, self.statements))
            }
            Some(tls) => {
                let (client, connection) = config.ssl_mode(SslMode::Require).connect_raw(stream, tls).await?;
                Ok(Session::over(client, connection, self.statements))
            }
        }
    }
}

/// A connection. It ends with this value, whatever the server is at.
#[derive(Debug)]
pub struct Session {
    /// What statements are sent by.
    pub client: Client,
    /// Whether the schema was looked at.
    pub(crate) has_looked: AtomicBool,
    sender: Sender,
    driver: AbortHandle,
}

impl Session {
    fn over(
        client: Client,
        connection: impl Future<Output = Result<(), tokio_postgres::Error>> + Send + 'static,
        statements: Statements,
    ) -> Self {
        // How a connection ends, its next statement says.
        let driver = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Self { client, has_looked: AtomicBool::new(false), sender: Sender::new(statements), driver }
    }

    /// Prepares all that is sent by [`Session::query`] over this connection, if it is to be prepared and is not.
    ///
    /// # Errors
    /// The server's word, or that there is none.
    pub async fn prepare(&self, statements: &[Statement]) -> Result<(), Error> {
        self.sender.prepare(&self.client, statements).await
    }

    /// Sends a statement when it is first polled, and gives the rows of its answer.
    ///
    /// # Errors
    /// The server's word, or that there is none.
    pub async fn query(&self, statement: &Statement, values: &[Value<'_>]) -> Result<Vec<Row>, tokio_postgres::Error> {
        self.sender.query(&self.client, statement, values).await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Work that is done in one go over a connection. It may be done a second time, after a first of which nobody knows how it
/// ended.
pub trait Work: Sync {
    /// What it comes to.
    type Output;

    /// Does it.
    ///
    /// # Errors
    /// Nothing of it is done, or nobody knows.
    fn run(&self, session: &Session) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// The one connection of this environment.
#[derive(Debug)]
pub struct Database {
    options: ConnectOptions,
    session: Mutex<Option<Session>>,
    connects: std::sync::atomic::AtomicU64,
}

impl Database {
    /// A database that nobody has connected to yet.
    pub fn new(options: ConnectOptions) -> Self {
        Self { options, session: Mutex::new(None), connects: std::sync::atomic::AtomicU64::new(0) }
    }

    /// How it is spoken to.
    pub fn options(&self) -> &ConnectOptions {
        &self.options
    }

    /// Connections that were made since somebody asked last.
    pub fn connects_since(&self) -> u64 {
        self.connects.swap(0, Ordering::Relaxed)
    }

    /// Does `work`, over the connection that is there, or a new one. If the connection proves to be the fault, the work is done
    /// once more over another, provided that there is time for it until `deadline`.
    ///
    /// # Errors
    /// Of the second try, if there was one.
    pub async fn run<W: Work>(&self, work: &W, deadline: Deadline) -> Result<W::Output, Error> {
        let mut session = self.session.lock().await;
        let first = self.run_once(&mut session, work).await;
        let Err(error) = &first else { return first };
        let is_to_be_repeated = match error.decision() {
            Decision::Connection => true,
            Decision::Access => self.options.access.renew().await,
            Decision::Queue | Decision::Unready | Decision::Record | Decision::Reject => false,
        };
        if is_to_be_repeated && deadline.remaining() >= self.options.one_try() {
            return self.run_once(&mut session, work).await;
        }
        first
    }

    async fn run_once<W: Work>(&self, kept: &mut Option<Session>, work: &W) -> Result<W::Output, Error> {
        // It is put back only after work that came to an end, so that a call that was dropped midway leaves none behind.
        let session = match kept.take() {
            Some(session) => session,
            None => {
                self.connects.fetch_add(1, Ordering::Relaxed);
                self.options.connect().await?
            }
        };
        let done = timeout(self.options.transaction_timeout, work.run(&session)).await;
        let done = done.unwrap_or(Err(Error::TimedOut("a transaction")));
        let is_usable = match &done {
            Ok(_) => true,
            Err(error) => match error.decision() {
                Decision::Record | Decision::Reject | Decision::Queue => !session.client.is_closed(),
                Decision::Connection | Decision::Access | Decision::Unready => false,
            },
        };
        if is_usable {
            *kept = Some(session);
        }
        done
    }
}
