//! Who the database is, and who we are to it: TLS to a real PostgreSQL whose certificate comes from an authority that only the
//! test knows, and tokens in place of a password.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use local_stack::postgres::{PostgresError, Server};
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::{
    authority::{Authority, Issued},
    door::Door,
    house::{House, booking, booking_with, found},
};

/// A server in TLS, and who vouches for it.
struct Vouched {
    server: &'static Server,
    authority: Authority,
    issued: Issued,
}

/// The one server in TLS of this process, as `localhost`.
async fn vouched() -> Option<&'static Vouched> {
    static VOUCHED: OnceCell<Result<Vouched, PostgresError>> = OnceCell::const_new();
    let start = async || {
        let authority = Authority::new();
        let issued = authority.issue("localhost");
        let server = Server::that_speaks_tls(&issued.certificate, &issued.key)?;
        Ok(Vouched { server, authority, issued })
    };
    found(VOUCHED.get_or_init(start).await.as_ref())
}

/// A house whose functions reach the database by TLS at `host` and trust `authorities`.
async fn house(server: &'static Server, host: &str, authorities: &str, more: &[(&str, String)]) -> House {
    let in_tls = [("DB_HOST", host), ("DB_TLS", "require"), ("DB_CA_PEM", authorities)];
    let mut changes: Vec<(&str, String)> = in_tls.map(|(name, value)| (name, value.to_owned())).into();
    // A busy machine may need a while for its first handshake, and time is not what is tested. Both make what the defaults do.
    changes.push(("DB_CONNECT_TIMEOUT_MS", "4500".to_owned()));
    changes.push(("DB_TRANSACTION_TIMEOUT_MS", "4000".to_owned()));
    changes.extend_from_slice(more);
    House::on(server.migrated().await.unwrap(), &changes).await
}

/// The versions of TLS that the functions' connections speak.
const SPOKEN: &str = "SELECT coalesce(version, 'none') FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
WHERE usename = 'holdfast_app' AND datname = current_database()";

#[tokio::test]
async fn a_server_that_the_configured_authority_vouches_for_is_spoken_to_in_tls() {
    let Some(Vouched { server, authority, .. }) = vouched().await else { return };
    let file: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.pem", Uuid::new_v4()));
    // As Amazon's bundle is: the right one among others.
    std::fs::write(&file, [Authority::new().pem(), authority.pem(), Authority::new().pem()].concat()).unwrap();
    for authorities in [authority.pem(), file.to_str().unwrap().to_owned()] {
        let house = house(server, "localhost", &authorities, &[]).await;
        house.book([booking("b1")]).await[0].is("success");
        assert_eq!(house.texts(SPOKEN).await, ["TLSv1.3"]);
        assert_eq!(house.created.count("db_unready_total"), 0);
    }
}

/// The record waits, once and without a second connection, and what to do is said; with the repair it is written.
async fn waits(server: &'static Server, host: &str, authorities: &str, because: &str) {
    let house = house(server, host, authorities, &[]).await;
    house.book([booking("b1")]).await[0]
        .is("retried")
        .says("the database is not trusted")
        .says(because)
        .says("DB_CA_PEM must hold the authority that signs its certificate, DB_HOST must be a name in it");
    assert_eq!(house.created.count("db_connects_total"), 1, "another connection would be no better");
    assert_eq!(house.created.count("db_unready_total"), 1, "a person is needed");
    assert!(house.rows().await.is_empty() && house.created.dead_letters.is_empty());
    assert!(house.texts(SPOKEN).await.is_empty(), "nobody has signed in");
}

#[tokio::test]
async fn a_server_of_another_authority_is_refused() {
    let Some(Vouched { server, .. }) = vouched().await else { return };
    waits(server, "localhost", &Authority::new().pem(), "UnknownIssuer").await;
    // Nobody who signs for the world signs for it.
    waits(server, "localhost", "", "UnknownIssuer").await;
    waits(server, "localhost", "/nowhere/at/all.pem", "DB_CA_PEM: ").await;
}

#[tokio::test]
async fn a_server_with_a_certificate_for_another_host_is_refused() {
    let Some(Vouched { server, authority, .. }) = vouched().await else { return };
    waits(server, "127.0.0.1", &authority.pem(), "certificate not valid for name \"127.0.0.1\"").await;
}

#[tokio::test]
async fn a_server_without_tls_is_told_nothing_where_tls_is_asked_for() {
    let Some(server) = found(Server::of_our_own().as_ref().copied()) else { return };
    waits(server, "localhost", &Authority::new().pem(), "the server does not support TLS").await;
}

/// Fifteen minutes and a little: no token lasts for so long.
const LATER: Duration = Duration::from_secs(15 * 60 + 30);

#[tokio::test]
async fn a_token_for_the_very_connection_signs_in_in_place_of_a_password() {
    let Some(Vouched { server, authority, issued }) = vouched().await else { return };
    let (door, house) = at_a_door(server, authority, issued).await;
    house.book([booking("b1")]).await[0].is("success");
    house.book([booking_with("b2", serde_json::json!({"roomId": "102"}))]).await[0].is("success");
    let [token] = door.heard().try_into().expect("one connection, one token");
    assert_eq!(token.fault, None, "{}", token.text);
    assert!(
        token.text.starts_with(&format!("localhost:{}/?Action=connect&DBUser=holdfast_app&X-Amz-", door.port)),
        "{}",
        token.text
    );
    assert!(token.text.contains("X-Amz-Expires=900"), "{}", token.text);
    for line in house.created.function.all_logs() {
        assert!(!line.contains("X-Amz-Signature"), "a token is nobody's business: {line}");
    }
}

#[tokio::test]
async fn a_connection_outlives_its_token_and_the_next_one_has_another() {
    const END: &str = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity
WHERE usename = 'holdfast_app' AND datname = current_database()";

    let Some(Vouched { server, authority, issued }) = vouched().await else { return };
    let (door, house) = at_a_door(server, authority, issued).await;
    house.book([booking("b1")]).await[0].is("success");
    door.set_ahead(LATER);
    house.book([booking_with("b2", serde_json::json!({"roomId": "102"}))]).await[0].is("success");
    assert_eq!(door.heard().len(), 1, "a token is looked at when a connection is made, and never again");

    // To this door what was signed just now is too old, and the function's own clock does not go wrong for it.
    assert_eq!(house.texts(END).await, ["true"]);
    let other = booking_with("b3", serde_json::json!({"roomId": "103"}));
    house.book([other]).await[0].is("retried").says("28P01").says("rds_iam");
    assert_eq!(house.created.count("db_unready_total"), 1);
    door.set_ahead(Duration::ZERO);
    // Two tokens of one second are the same.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    house.created.redeliver(&house.stack).await[0].is("success");
    let heard = door.heard();
    let faults: Vec<_> = heard.iter().map(|token| token.fault).collect();
    assert_eq!(faults, [None, Some("its time has run out"), None]);
    assert_ne!(heard[1].text, heard[2].text, "each connection has a token of its own");
    assert_eq!(house.rows().await, ["b1 Accepted", "b2 Accepted", "b3 Accepted"]);
}

/// A house whose functions sign in by tokens at a door.
async fn at_a_door(server: &'static Server, authority: &Authority, issued: &Issued) -> (Door, House) {
    let database = server.migrated().await.unwrap();
    let variables = database.variables();
    let (_, password) = variables.iter().find(|(name, _)| name == "DB_PASSWORD").unwrap();
    let door = Door::to(server, password, issued).await;
    let by_token = [("DB_AUTH", "iam".to_owned()), ("DB_PORT", door.port.to_string()), ("DB_PASSWORD", String::new())];
    let house = house(server, "localhost", &authority.pem(), &by_token).await;
    (door, house)
}
