//! PostgreSQL for tests: the one that `DATABASE_URL` names, else one of this machine's programs, which starts empty, on a free
//! port of loopback, and ends with the process that asked for it. Each test gets a database of its own, a copy of one that has
//! the schema.
//!
//! A server that is only for tests need not survive a power cut, so that nothing of it is flushed; one that is measured
//! flushes.

pub mod choice;
pub mod distance;
pub mod sidecar;
pub mod wire;

use std::{
    collections::BTreeMap,
    env, fmt, fs, io,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use shared::{
    booking::migration::{Migrator, Report},
    config::Reader,
    start::Parts,
};
use tokio::{net::TcpStream, sync::OnceCell};
use tokio_postgres::{Client, Config, NoTls, config::Host, types::Type};

use self::sidecar::Sidecar;
use crate::{
    build::{self, BuildError},
    catalogue::aws_of_a_test,
    port,
    ring::{Ring, on_path},
    stack::Stack,
};

/// The role of the functions, and its password here.
pub const APP: &str = "holdfast_app";
const APP_PASSWORD: &str = "only-for-tests";

/// The database that those of tests are copies of.
const TEMPLATE: &str = "holdfast_template";

/// Who books in tests and in the files of `events/`, and which rooms there are: Otto's user name is Anna's number.
pub const FURNITURE: &str = "
INSERT INTO users (id, email, username) VALUES (1, 'jane@example.com', 'jane'), (2, 'joe@example.com', 'joe'),
  (17, 'anna@example.com', 'anna'), (18, 'otto@example.com', '17');
SELECT setval('users_id_seq', 100);
INSERT INTO rooms (internal_id, name) VALUES ('101', 'Sea'), ('102', 'Hill'), ('103', 'Wood');";

/// Where Debian keeps programs that it does not put on the path.
const DEBIAN: &str = "/usr/lib/postgresql";

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who owns everything there.
    pub owner: String,
    password: Option<String>,
    number: AtomicU32,
    template: OnceCell<()>,
    keeper: Keeper,
}

/// Who keeps a server.
#[derive(Debug)]
enum Keeper {
    /// Somebody else, who named it.
    Other,
    /// We, by this machine's programs.
    Process(Process),
    /// We, by the embedded one.
    Sidecar(#[expect(dead_code, reason = "it ends with this")] Sidecar),
}

/// A database of a test's own.
#[derive(Debug, Clone)]
pub struct Database {
    /// Its server.
    pub server: &'static Server,
    /// Its name.
    pub name: String,
}

/// Why there is no PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nothing was found.
    #[error("no PostgreSQL was found; install it (Debian: apt-get install postgresql), or name one by DATABASE_URL")]
    NotFound,
    /// It is there and does not start.
    #[error("PostgreSQL does not start: {0}; mend that, or name another by DATABASE_URL")]
    Start(String),
    /// The embedded one could not be built.
    #[error("build the embedded PostgreSQL: {0}")]
    Build(#[from] BuildError),
    /// It can't be reached.
    #[error("connect to PostgreSQL: {0}")]
    Connect(#[from] io::Error),
    /// It refuses a statement of ours.
    #[error("PostgreSQL: {0}")]
    Sql(#[from] tokio_postgres::Error),
    /// The schema could not be made.
    #[error("migrate: {0}")]
    Migrate(String),
    /// It took too long.
    #[error("{0} for too long")]
    TimedOut(String),
    /// `DATABASE_URL` is of no use.
    #[error("DATABASE_URL is of no use: {0}")]
    Url(String),
}

impl Server {
    /// The one server of this process. Nothing: there is none, which is said, or fails where the ring must run.
    pub fn shared() -> Option<&'static Self> {
        match Self::of_this_process() {
            Ok(server) => Some(server),
            Err(reason) => {
                Ring::Postgres.skip_or_fail(&reason.to_string());
                None
            }
        }
    }

    /// The same, for whoever says by himself that there is none.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub fn of_this_process() -> Result<&'static Self, &'static PostgresError> {
        static SERVER: OnceLock<Result<Server, PostgresError>> = OnceLock::new();
        SERVER.get_or_init(|| Self::find(Setup::default())).as_ref()
    }

    /// A server that flushes what is committed, as those do that are measured. It ends with this process.
    ///
    /// # Errors
    /// There is none, or it does not start.
    pub fn that_flushes() -> Result<&'static Self, PostgresError> {
        Ok(Box::leak(Box::new(Self::find(Setup { flushes: true, ..Setup::default() })?)))
    }

    /// A server of our own that shows a certificate, PEM like its key, and lets the functions' role in over TLS. Without TLS it
    /// asks for that role's password in clear, for who stands in front of it. It ends with this process.
    ///
    /// # Errors
    /// This machine has no programs, or it does not start.
    pub fn that_speaks_tls(certificate: &str, key: &str) -> Result<&'static Self, PostgresError> {
        let identity = Some((certificate.to_owned(), key.to_owned()));
        Ok(Box::leak(Box::new(Self::start(&Setup { identity, ..Setup::default() })?)))
    }

    /// A server that nobody else is at, whatever `DATABASE_URL` names: one that may be restarted. It speaks no TLS, and ends
    /// with this process.
    ///
    /// # Errors
    /// This machine has no programs, or it does not start.
    pub fn of_our_own() -> Result<&'static Self, PostgresError> {
        Ok(Box::leak(Box::new(Self::start(&Setup::default())?)))
    }

    /// The embedded server, which is built where it is not built yet. It has one backend and one database, and no time-outs, so
    /// that it is for who replays events and not for who tests races. It ends with this process.
    ///
    /// # Errors
    /// It does not build, or does not start.
    pub fn embedded() -> Result<&'static Self, PostgresError> {
        let started = Sidecar::start(&build::sidecar()?).map_err(|error| PostgresError::Start(error.to_string()))?;
        let port = started.port;
        Ok(Box::leak(Box::new(Self::of_our_making(port, Keeper::Sidecar(started)))))
    }

    /// Finds a server, or starts one. One that is named flushes as its owner wants.
    fn find(setup: Setup) -> Result<Self, PostgresError> {
        match env::var("DATABASE_URL").ok().filter(|url| !url.is_empty()) {
            Some(url) => Self::named(&url),
            None => Self::start(&setup),
        }
    }

    fn start(setup: &Setup) -> Result<Self, PostgresError> {
        let programs = programs().ok_or(PostgresError::NotFound)?;
        let started = Process::start(&programs, setup).map_err(|error| PostgresError::Start(error.to_string()))?;
        Ok(Self::of_our_making(started.port, Keeper::Process(started)))
    }

    fn of_our_making(port: u16, keeper: Keeper) -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port,
            owner: "postgres".to_owned(),
            password: None,
            number: AtomicU32::new(0),
            template: OnceCell::new(),
            keeper,
        }
    }

    fn named(url: &str) -> Result<Self, PostgresError> {
        let config: Config =
            url.parse().map_err(|error: tokio_postgres::Error| PostgresError::Url(error.to_string()))?;
        let host = match config.get_hosts() {
            [Host::Tcp(host), ..] => host.clone(),
            _ => return Err(PostgresError::Url("it names no host".to_owned())),
        };
        let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
        Ok(Self {
            host,
            port: config.get_ports().first().copied().unwrap_or(5432),
            owner: config.get_user().unwrap_or("postgres").to_owned(),
            password,
            number: AtomicU32::new(0),
            template: OnceCell::new(),
            keeper: Keeper::Other,
        })
    }

    /// Lets the server crash, and starts it again, which keeps what was committed.
    ///
    /// # Errors
    /// It is none of our own, or does not come back.
    pub async fn restart(&self) -> Result<(), PostgresError> {
        let process = match &self.keeper {
            Keeper::Process(process) => process,
            Keeper::Other => {
                return Err(PostgresError::Start("it is somebody else's, who may restart it".to_owned()));
            }
            Keeper::Sidecar(_) => {
                return Err(PostgresError::Start("the embedded one keeps nothing that it could start with".to_owned()));
            }
        };
        let witness = self.client("postgres").await?;
        process.restart()?;
        let started = Instant::now();
        while !witness.is_closed() || !process.answers() {
            if started.elapsed() > PATIENCE {
                return Err(PostgresError::TimedOut("a server that crashed stays away".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// A client with all rights in a database.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn client(&self, database: &str) -> Result<Client, PostgresError> {
        let mut config = Config::new();
        config.user(&self.owner).dbname(database).application_name("test");
        if let Some(password) = &self.password {
            config.password(password);
        }
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await?;
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    /// A database with the schema, and the functions' role ready to sign in.
    ///
    /// # Errors
    /// When it could not be made.
    pub async fn migrated(&'static self) -> Result<Database, PostgresError> {
        const SETTINGS: &str = "
SELECT unnest(setconfig) FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = $1";
        self.template.get_or_try_init(|| self.make_template()).await?;
        let database = self.database(&format!("TEMPLATE {TEMPLATE}")).await?;
        // A copy has all of a database but what its roles are set to in it.
        let admin = database.client().await?;
        let settings = admin.query_typed(SETTINGS, &[(&TEMPLATE, Type::TEXT)]).await?;
        for setting in settings {
            let setting: String = setting.get(0);
            let (name, value) = setting.split_once('=').unwrap_or((&setting, ""));
            let set = format!("ALTER ROLE {APP} IN DATABASE {} SET {name} = '{value}'", database.name);
            admin.batch_execute(&set).await?;
        }
        Ok(database)
    }

    /// A migrated database with the guests and the rooms of [`FURNITURE`], which is not kept: see [`Database::remove`].
    ///
    /// # Errors
    /// When it could not be made.
    pub async fn furnished(&'static self) -> Result<Database, PostgresError> {
        let database = self.empty().await?;
        database.migrate().await.map_err(PostgresError::Migrate)?;
        self.let_app_in().await?;
        database.client().await?.batch_execute(FURNITURE).await?;
        Ok(database)
    }

    /// Gives the functions' role, which some migration has made, the password that it has here. A role is one for all databases
    /// of a server, and PostgreSQL refuses who changes it while another does, so that they wait for each other.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn let_app_in(&self) -> Result<(), PostgresError> {
        const IN_TURN: &str = "SELECT pg_advisory_xact_lock(hashtext('holdfast_app'))";
        let admin = self.client("postgres").await?;
        Ok(admin.batch_execute(&format!("{IN_TURN}; ALTER ROLE {APP} PASSWORD '{APP_PASSWORD}'")).await?)
    }

    /// An empty database.
    ///
    /// # Errors
    /// When it could not be made.
    pub async fn empty(&'static self) -> Result<Database, PostgresError> {
        self.database("TEMPLATE template0").await
    }

    async fn database(&'static self, how: &str) -> Result<Database, PostgresError> {
        if matches!(self.keeper, Keeper::Sidecar(_)) {
            return Ok(Database { server: self, name: sidecar::DATABASE.to_owned() });
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{}_{number}", std::process::id());
        let admin = self.client("postgres").await?;
        // Another process may be at the template, and PostgreSQL copies none that somebody is connected to.
        let started = Instant::now();
        while let Err(error) = admin.batch_execute(&format!("CREATE DATABASE {name} {how}")).await {
            if started.elapsed() > PATIENCE {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(Database { server: self, name })
    }

    async fn make_template(&'static self) -> Result<(), PostgresError> {
        let admin = self.client("postgres").await?;
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {TEMPLATE}")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {TEMPLATE} TEMPLATE template0")).await?;
        let template = Database { server: self, name: TEMPLATE.to_owned() };
        template.migrate().await.map_err(PostgresError::Migrate)?;
        self.let_app_in().await?;
        let started = Instant::now();
        let connected = format!("SELECT 1 FROM pg_stat_activity WHERE datname = '{TEMPLATE}'");
        while !admin.simple_query(&connected).await.is_ok_and(|rows| rows.len() <= 2) {
            if started.elapsed() > PATIENCE {
                return Err(PostgresError::TimedOut("somebody stays connected to the template".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

impl Database {
    /// A client with all rights.
    ///
    /// # Errors
    /// When there is no connection.
    pub async fn client(&self) -> Result<Client, PostgresError> {
        self.server.client(&self.name).await
    }

    /// The variables of a function that works in it, with the rights of the functions.
    pub fn variables(&self) -> Vec<(String, String)> {
        self.variables_as(APP, APP_PASSWORD)
    }

    /// All variables of a function of the bookings that works in it: of the one that migrates as its owner.
    pub fn environment(&self, stack: &Stack, function: &str) -> BTreeMap<String, String> {
        let mut environment = stack.environment(function);
        environment.insert("QUEUE_URL".to_owned(), format!("{}/000000000000/{function}", stack.aws.url()));
        let is_owner = function == booking_migrate::NAME;
        environment.extend(if is_owner { self.owner_variables() } else { self.variables() });
        environment
    }

    /// The variables of a function that owns it.
    pub fn owner_variables(&self) -> Vec<(String, String)> {
        self.variables_as(&self.server.owner, self.server.password.as_deref().unwrap_or("none"))
    }

    fn variables_as(&self, user: &str, password: &str) -> Vec<(String, String)> {
        let Server { host, port, .. } = self.server;
        [
            ("DB_HOST", host.clone()),
            ("DB_PORT", port.to_string()),
            ("DB_NAME", self.name.clone()),
            ("DB_USER", user.to_owned()),
            ("DB_PASSWORD", password.to_owned()),
            ("DB_TLS", "disable".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Takes it away, whoever is still connected to it. That of the embedded server goes with it.
    ///
    /// # Errors
    /// When the server refuses.
    pub async fn remove(self) -> Result<(), PostgresError> {
        if matches!(self.server.keeper, Keeper::Sidecar(_)) {
            return Ok(());
        }
        let admin = self.server.client("postgres").await?;
        Ok(admin.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.name)).await?)
    }

    /// Migrates it, in this process and as its owner.
    ///
    /// # Errors
    /// As the function answers.
    pub async fn migrate(&self) -> Result<Report, String> {
        self.migrator()?.migrate().await.map_err(|error| error.to_string())
    }

    /// What migrates it, as its owner.
    ///
    /// # Errors
    /// When a variable is wrong.
    pub fn migrator(&self) -> Result<Migrator, String> {
        let environment: BTreeMap<String, String> = self.owner_variables().into_iter().collect();
        let aws = aws_of_a_test();
        let mut parts = Parts::new("booking-migrate", Reader::new(&environment), &aws);
        let migrator = Migrator::configured(&mut parts);
        parts.reader.finish(migrator).map_err(|error| error.to_string())
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Server { host, port, owner, .. } = self.server;
        write!(f, "psql -h {host} -p {port} -U {owner} {}", self.name)
    }
}

/// The folder with PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let has_them = |folder: &Path| folder.join("initdb").is_file() && folder.join("postgres").is_file();
    let versions = fs::read_dir(DEBIAN).into_iter().flatten().flatten().map(|version| version.path().join("bin"));
    let mut folders: Vec<PathBuf> = versions.filter(|folder| has_them(folder)).collect();
    folders.sort();
    folders.pop().or_else(|| on_path("initdb")?.parent().map(Path::to_owned).filter(|folder| has_them(folder)))
}

#[cfg(unix)]
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[cfg(not(unix))]
fn is_root() -> bool {
    false
}

/// What a server of our own is started with.
#[derive(Debug, Default)]
struct Setup {
    /// Whether it writes to the disk what is committed before it says so.
    flushes: bool,
    /// The certificate that it shows, and its key. Without, it speaks no TLS.
    identity: Option<(String, String)>,
}

/// A server of our own. A shell watches it: each line of the shell's input lets the server crash and start again, and when the
/// input ends, because this process did, in whatever way, the shell stops the server and takes its folder away.
#[derive(Debug)]
struct Process {
    port: u16,
    watch: Child,
    orders: Mutex<Option<ChildStdin>>,
}

impl Process {
    fn start(programs: &Path, setup: &Setup) -> io::Result<Self> {
        const WATCH: &str = r#"
data="$1"; programs="$2"; port="$3"; flush="$4"; ssl="$5"
"$programs/initdb" -D "$data" -U postgres -A trust --no-sync -E UTF8 --locale=C >"$data.log" 2>&1 || exit 1
if [ "$ssl" = on ]; then
    (umask 077; printf '%s' "$CERTIFICATE" >"$data/server.crt"; printf '%s' "$KEY" >"$data/server.key")
    printf 'hostssl all holdfast_app all scram-sha-256\nhostnossl all holdfast_app all password\n' >"$data/pg_hba.conf"
else
    printf 'host all holdfast_app all scram-sha-256\n' >"$data/pg_hba.conf"
fi
printf 'host all all 127.0.0.1/32 trust\n' >>"$data/pg_hba.conf"
start() {
    "$programs/postgres" -D "$data" -p "$port" -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync="$flush" \
        -c full_page_writes="$flush" -c ssl="$ssl" -c max_connections=200 -c shared_buffers=64MB -c log_min_messages=fatal >>"$data.log" 2>&1 </dev/null &
    server=$!
}
start
while read -r _; do
    kill -QUIT "$server"; wait "$server"
    start
done
kill -INT "$server"; wait "$server"
rm -rf "$data" "$data.log"
"#;
        let port = port::free()?;
        let data = env::temp_dir().join(format!("holdfast-postgres-{}-{port}", std::process::id()));
        // PostgreSQL refuses to run as root.
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("runuser");
                command.args(["-u", "postgres", "--", "sh"]);
                command
            }
            false => Command::new("sh"),
        };
        let switch = |is_on: bool| if is_on { "on" } else { "off" };
        command.args(["-c", WATCH, "sh"]).arg(&data).arg(programs).arg(port.to_string());
        command.args([switch(setup.flushes), switch(setup.identity.is_some())]);
        if let Some((certificate, key)) = &setup.identity {
            command.env("CERTIFICATE", certificate).env("KEY", key);
        }
        let mut watch =
            command.current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let orders = Mutex::new(watch.stdin.take());
        let mut process = Self { port, watch, orders };
        let started = Instant::now();
        while !process.answers() {
            let log = || fs::read_to_string(data.with_extension("log")).unwrap_or_default();
            if let Some(status) = process.watch.try_wait()? {
                return Err(io::Error::other(format!("{status}: {}", log())));
            }
            if started.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("it does not answer on port {port}: {}", log())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(process)
    }

    fn restart(&self) -> io::Result<()> {
        use std::io::Write;

        let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
        let orders = orders.as_mut().ok_or_else(|| io::Error::other("nobody watches the server"))?;
        orders.write_all(b"\n")
    }

    /// Whether it takes connections: while it starts, it answers a client's greeting by an error.
    fn answers(&self) -> bool {
        use std::io::{Read, Write};

        const GREETING: &[u8] = b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0";
        const AUTHENTICATION: u8 = b'R';

        let ask = || -> io::Result<bool> {
            let mut stream = std::net::TcpStream::connect(("127.0.0.1", self.port))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(GREETING)?;
            let mut answer = [0];
            Ok(stream.read(&mut answer)? == 1 && answer[0] == AUTHENTICATION)
        };
        ask().unwrap_or(false)
    }
}
