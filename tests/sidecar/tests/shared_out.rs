//! The one backend, shared out: many clients at once, clients that die, and what shows as a fault.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that panics is a test that fails")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio_postgres::{Client, Config, Error, NoTls, error::SqlState, types::Type};

/// How long somebody is given to prove that he does not wait.
const MOMENT: Duration = Duration::from_millis(200);

const BOOK: &str =
    "INSERT INTO bookings (id, room, days) VALUES ($1, $2, daterange(date '2027-01-01' + $3, date '2027-01-02' + $3))";

/// The program, with a table in which no two bookings may have one room on one day.
struct Sidecar {
    program: Child,
    port: u16,
}

impl Sidecar {
    async fn start(arguments: &[&str]) -> Self {
        const SCHEMA: &str = "
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TABLE bookings (id text PRIMARY KEY, room integer, days daterange, EXCLUDE USING gist (room WITH =, days WITH &&));
CREATE TABLE inbox (id text PRIMARY KEY, outcome text);
CREATE ROLE app LOGIN;
GRANT SELECT, INSERT, UPDATE ON bookings, inbox TO app";
        let mut program = Command::new(env!("CARGO_BIN_EXE_sidecar"));
        program.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut program = program.spawn().expect("the program starts");
        let mut line = String::new();
        BufReader::new(program.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("it prints its port");
        let sidecar = Self { program, port };
        sidecar.order(SCHEMA).await;
        sidecar
    }

    async fn connect(&self, change: impl Fn(&mut Config) -> &mut Config) -> Result<Client, Error> {
        let mut config = Config::new();
        config.host("127.0.0.1").port(self.port).user("app").dbname("postgres").application_name("a test");
        change(&mut config);
        let (client, connection) = config.connect(NoTls).await?;
        tokio::spawn(async move { drop(connection.await) });
        Ok(client)
    }

    async fn client(&self) -> Client {
        self.connect(|config| config).await.expect("everybody gets in")
    }

    async fn owner(&self) -> Client {
        self.connect(|config| config.user("postgres")).await.expect("the owner gets in")
    }

    /// Does what only the owner may.
    async fn order(&self, statements: &str) {
        self.owner().await.batch_execute(statements).await.expect("the owner may do it");
    }

    /// A connection that has said nothing yet.
    fn stream(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).expect("it listens")
    }

    /// The ids of all bookings.
    async fn booked(&self) -> Vec<String> {
        let rows = self.owner().await.query_typed("SELECT id FROM bookings ORDER BY id", &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.program.stdin.take());
        drop(self.program.wait());
    }
}

async fn book(client: &Client, id: &str, room: i32, day: i32) -> Result<u64, Error> {
    client.execute_typed(BOOK, &[(&id, Type::TEXT), (&room, Type::INT4), (&day, Type::INT4)]).await
}

/// Has a room's night in a transaction that stays open.
async fn book_without_end(client: &Client, id: &str) {
    client.batch_execute("BEGIN").await.unwrap();
    book(client, id, 1, 1).await.unwrap();
}

/// What a transaction came to for its booking.
async fn deliver(client: &mut Client, id: &str, room: i32, day: i32) -> &'static str {
    let work = client.transaction().await.unwrap();
    let new = "INSERT INTO inbox (id) VALUES ($1) ON CONFLICT DO NOTHING";
    if work.execute_typed(new, &[(&id, Type::TEXT)]).await.unwrap() == 0 {
        work.commit().await.unwrap();
        return "duplicate";
    }
    work.batch_execute("SAVEPOINT booking").await.unwrap();
    let outcome = match book(work.client(), id, room, day).await {
        Ok(_) => "accepted",
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::EXCLUSION_VIOLATION), "{error:?}");
            work.batch_execute("ROLLBACK TO booking").await.unwrap();
            "refused"
        }
    };
    let ended = "UPDATE inbox SET outcome = $2 WHERE id = $1";
    assert_eq!(work.execute_typed(ended, &[(&id, Type::TEXT), (&outcome, Type::TEXT)]).await.unwrap(), 1);
    work.commit().await.unwrap();
    outcome
}

/// How a client begins that speaks for itself.
fn greeting() -> BytesMut {
    let mut greeting = BytesMut::new();
    frontend::startup_message([("user", "app"), ("database", "postgres")], &mut greeting).unwrap();
    greeting
}

/// The fault by which a client was sent away: its code and its text.
#[track_caller]
fn fault(error: &Error) -> (String, String) {
    let error = error.as_db_error().unwrap_or_else(|| panic!("no answer: {error:?}"));
    assert_eq!(error.severity(), "FATAL");
    (error.code().code().to_owned(), error.message().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_clients_deliver_each_booking_twice_and_each_is_one_row() {
    const BOOKINGS: i32 = 200;
    const CLIENTS: i32 = 8;
    let sidecar = Sidecar::start(&[]).await;
    let mut workers = Vec::new();
    for number in 0..CLIENTS {
        let mut client = sidecar.client().await;
        workers.push(tokio::spawn(async move {
            let mut outcomes = Vec::new();
            // Two clients deliver each booking, and two bookings want each night of a room.
            let is_its = |delivery: &i32| (delivery + delivery / BOOKINGS) % CLIENTS == number;
            for booking in (0..2 * BOOKINGS).filter(is_its).map(|delivery| delivery % BOOKINGS) {
                outcomes.push(deliver(&mut client, &format!("b{booking}"), booking / 2 % 3, booking / 6).await);
            }
            outcomes
        }));
    }
    let mut outcomes = Vec::new();
    for worker in workers {
        outcomes.extend(worker.await.unwrap());
    }
    let count = |outcome| outcomes.iter().filter(|one| **one == outcome).count();
    assert_eq!((count("accepted"), count("refused"), count("duplicate")), (100, 100, 200));
    assert_eq!(sidecar.booked().await.len(), 100);
    let settled = "SELECT count(*) FROM inbox WHERE outcome IS NOT NULL";
    assert_eq!(sidecar.client().await.query_typed_one(settled, &[]).await.unwrap().get::<_, i64>(0), 200);
}

#[tokio::test]
async fn two_clients_statement_by_statement_never_see_each_others_half() {
    let sidecar = Sidecar::start(&[]).await;
    let (first, second) = (sidecar.client().await, sidecar.client().await);
    // The second comes after each statement of the first, and waits until the first has ended.
    for arrives_after in 0..3 {
        let ids: Vec<String> = (0..3).map(|number| format!("{arrives_after}-{number}")).collect();
        first.batch_execute("BEGIN").await.unwrap();
        let sees = async {
            let (counted, room) =
                ("SELECT count(*) FROM bookings WHERE room = $1", [(&arrives_after as _, Type::INT4)]);
            second.query_typed_one(counted, &room).await.unwrap().get::<_, i64>(0)
        };
        tokio::pin!(sees);
        for (day, id) in (0..).zip(&ids) {
            book(&first, id, arrives_after, day).await.unwrap();
            if day >= arrives_after {
                assert!(tokio::time::timeout(MOMENT, &mut sees).await.is_err(), "it waits for the first");
            }
        }
        first.batch_execute("COMMIT").await.unwrap();
        assert_eq!(sees.await, 3, "all of it");
    }
    // And each of them has the backend for a statement of its own.
    for day in 10..20 {
        book(&first, &format!("first {day}"), 7, day).await.unwrap();
        book(&second, &format!("second {day}"), 8, day).await.unwrap();
    }
    assert_eq!(sidecar.booked().await.len(), 29);
}

#[tokio::test]
async fn who_dies_inside_a_transaction_is_rolled_back_and_the_next_goes_on() {
    let sidecar = Sidecar::start(&[]).await;
    let (dies, lives) = (sidecar.client().await, sidecar.client().await);
    book_without_end(&dies, "of the dead").await;
    let lives = tokio::spawn(async move { book(&lives, "of the living", 1, 1).await });
    tokio::time::sleep(MOMENT).await;
    assert!(!lives.is_finished(), "the night is not free yet");
    drop(dies);
    assert_eq!(lives.await.unwrap().unwrap(), 1);
    assert_eq!(sidecar.booked().await, ["of the living"]);

    // Also when the transaction had failed, and while a statement is at work.
    let dies = sidecar.client().await;
    dies.batch_execute("BEGIN; SELECT 1 / 0").await.unwrap_err();
    drop(dies);
    let dies = sidecar.client().await;
    dies.batch_execute("BEGIN").await.unwrap();
    let sleeps = async { dies.batch_execute("INSERT INTO bookings (id) VALUES ('late'); SELECT pg_sleep(0.5)").await };
    assert!(tokio::time::timeout(MOMENT, sleeps).await.is_err());
    drop(dies);
    assert_eq!(sidecar.booked().await, ["of the living"]);
}

#[tokio::test]
async fn what_was_sent_without_a_sync_is_undone_with_its_client() {
    let sidecar = Sidecar::start(&[]).await;
    let mut messages = greeting();
    frontend::parse("", "INSERT INTO bookings (id) VALUES ('half') RETURNING id", [], &mut messages).unwrap();
    let bound = frontend::bind("", "", [], [(); 0], |(), _| unreachable!(), [], &mut messages);
    assert!(bound.is_ok());
    frontend::execute("", 0, &mut messages).unwrap();
    frontend::flush(&mut messages);
    let mut stream = sidecar.stream();
    stream.write_all(&messages).unwrap();
    // It is done, as far as a statement is without its commit.
    let mut said = Vec::new();
    while !said.windows(6).any(|window| window == b"INSERT") {
        let mut part = [0; 1024];
        let read = std::io::Read::read(&mut stream, &mut part).unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&part[..read]);
    }
    drop(stream);
    assert!(sidecar.booked().await.is_empty());
}

#[tokio::test]
async fn a_statement_with_a_name_is_a_fault() {
    let sidecar = Sidecar::start(&[]).await;
    let client = sidecar.client().await;
    book_without_end(&client, "before the fault").await;
    let error = client.prepare("SELECT id FROM bookings").await.unwrap_err();
    let (code, text) = fault(&error);
    assert_eq!(code, "0A000");
    assert!(text.contains("\"s") && text.contains("has a name"), "{text}");
    assert!(error.as_db_error().unwrap().hint().is_some_and(|hint| hint.contains("query_typed")));
    assert!(sidecar.booked().await.is_empty(), "its transaction is rolled back");
}

#[tokio::test]
async fn what_a_session_would_keep_is_a_fault_and_others_do_not_find_it() {
    let sidecar = Sidecar::start(&[]).await;
    sidecar.order("GRANT TEMPORARY ON DATABASE postgres TO app; CREATE ROLE other; GRANT other TO app").await;
    for (statement, left) in [
        ("SET work_mem = '5MB'", "settings: work_mem"),
        ("SELECT set_config('search_path', 'pg_catalog', false)", "settings: search_path"),
        ("BEGIN; SET SESSION lock_timeout = '1s'; COMMIT", "settings: lock_timeout"),
        ("SET ROLE other", "the role: other"),
        ("SELECT pg_advisory_lock(7)", "advisory locks: 1"),
        ("DO $$ BEGIN PERFORM pg_advisory_lock(8); END $$", "advisory locks: 1"),
        ("CREATE TEMPORARY TABLE notes (id integer)", "temporary tables: notes"),
        ("LISTEN bookings", "channels that it listens to: bookings"),
        ("PREPARE find AS SELECT 1", "prepared statements: find"),
        ("BEGIN; DECLARE slow CURSOR WITH HOLD FOR SELECT 1; COMMIT", "cursors: slow"),
    ] {
        let error = sidecar.client().await.batch_execute(statement).await.expect_err(statement);
        let (code, text) = fault(&error);
        assert_eq!(code, "0A000", "{statement}");
        assert!(text.contains(left), "{statement}: {text}");
    }
    // What a transaction keeps for itself is none, and is there alone.
    let client = sidecar.client().await;
    for statement in [
        "BEGIN; SET LOCAL work_mem = '5MB'; SELECT pg_advisory_xact_lock(7); COMMIT",
        "BEGIN; CREATE TEMPORARY TABLE notes (id integer) ON COMMIT DROP; PREPARE find AS SELECT 1; DEALLOCATE find; COMMIT",
        "BEGIN; DECLARE slow CURSOR FOR SELECT 1; FETCH ALL FROM slow; COMMIT",
        "SET work_mem = '5MB'; RESET work_mem",
        "NOTIFY bookings",
    ] {
        client.batch_execute(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
    let session = "SELECT current_setting('work_mem') || ' ' || current_setting('search_path') || ' ' || current_user";
    let session: String = client.query_typed_one(session, &[]).await.unwrap().get(0);
    assert_eq!(session, "4MB public app");
}

#[tokio::test]
async fn everybody_has_the_rights_of_his_role() {
    let sidecar = Sidecar::start(&[]).await;
    let (app, owner) = (sidecar.client().await, sidecar.owner().await);
    for _ in 0..2 {
        let error = app.batch_execute("DROP TABLE bookings").await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
        owner.batch_execute("CREATE TABLE own (id integer); DROP TABLE own").await.unwrap();
    }
    // Here, where the session is its owner's, he can take them; what follows then is a fault, and nobody has them afterwards.
    let error = app.batch_execute("SET SESSION AUTHORIZATION postgres").await.unwrap_err();
    assert!(fault(&error).1.contains("the role: postgres"), "{error:?}");
    let error = sidecar.client().await.batch_execute("DROP TABLE bookings").await.unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
}

/// Where a real server differs, the page has to say so: a version that does not turns this red.
#[tokio::test]
async fn no_time_out_ends_a_statement_and_no_setting_of_a_role_counts() {
    let sidecar = Sidecar::start(&[]).await;
    sidecar.order("ALTER ROLE app SET work_mem = '5MB'; ALTER ROLE app PASSWORD 'known'").await;
    let client = sidecar.connect(|config| config.password("wrong")).await.expect("nobody asks for it");
    client.batch_execute("BEGIN; SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(0.3); COMMIT").await.unwrap();
    let setting = client.query_typed_one("SELECT current_setting('work_mem')", &[]).await.unwrap();
    assert_eq!(setting.get::<_, String>(0), "4MB");
}

#[tokio::test]
async fn who_can_not_be_served_is_told_so() {
    let sidecar = Sidecar::start(&[]).await;
    let elsewhere = sidecar.connect(|config| config.dbname("elsewhere")).await.err().unwrap();
    assert_eq!(fault(&elsewhere).0, "3D000");
    let with_options = sidecar.connect(|config| config.options("-c statement_timeout=5s")).await.err().unwrap();
    let (code, text) = fault(&with_options);
    assert!(code == "0A000" && text.contains("options=-c statement_timeout=5s"), "{code} {text}");
    let nobody = sidecar.connect(|config| config.user("nobody")).await.unwrap();
    let (code, text) = fault(&nobody.batch_execute("SELECT 1").await.unwrap_err());
    assert!(code == "28000" && text.contains("\"nobody\" does not exist"), "{code} {text}");
    let owner = sidecar.owner().await;
    let error = owner.copy_in::<_, bytes::Bytes>("COPY bookings FROM STDIN").await.err();
    assert!(error.is_some(), "COPY is prepared by name");
    let copied = sidecar.owner().await.batch_execute("COPY bookings FROM STDIN").await.unwrap_err();
    assert!(fault(&copied).1.contains("COPY FROM STDIN"));
    // Nobody else is worse off.
    book(&sidecar.client().await, "b1", 1, 1).await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_inside_a_transaction_holds_nobody_up_for_long() {
    let sidecar = Sidecar::start(&["--patience", "300"]).await;
    let (sleeper, other) = (sidecar.client().await, sidecar.client().await);
    book_without_end(&sleeper, "asleep").await;
    book(&other, "awake", 1, 1).await.unwrap();
    let error = sleeper.batch_execute("COMMIT").await.unwrap_err();
    assert!(sleeper.is_closed(), "{error:?}");
    assert_eq!(sidecar.booked().await, ["awake"]);
    // Between transactions one may be silent, and a statement may take its time.
    tokio::time::sleep(Duration::from_millis(500)).await;
    other.batch_execute("SELECT pg_sleep(0.5)").await.unwrap();
}

#[tokio::test]
async fn whose_words_are_none_of_the_protocol_hurts_himself_alone() {
    let sidecar = Sidecar::start(&[]).await;
    for nonsense in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"?\0\0\0\x04", b"P\0\0\0\x04", b"B\0\0\0\x07\0\0\xff", b"Q\0\0\0\x03"]
    {
        for greets in [true, false] {
            let mut stream = sidecar.stream();
            if greets {
                stream.write_all(&greeting()).unwrap();
            }
            stream.write_all(nonsense).unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            drop(stream);
            let client = sidecar.client().await;
            let one = tokio::time::timeout(Duration::from_secs(5), client.query_typed_one("SELECT 1", &[])).await;
            assert_eq!(one.expect("nobody waits").unwrap().get::<_, i32>(0), 1);
        }
    }
}
