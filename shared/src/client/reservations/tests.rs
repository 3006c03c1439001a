use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use super::*;
use crate::config::Secret;

fn url(base: &str, id: &str) -> String {
    let client = ReservationClient::new(base, Access::Open, Duration::from_secs(1)).unwrap();
    client.request(Method::GET, id, &TraceContext::default()).uri_ref().unwrap().to_string()
}

#[test]
fn an_id_is_one_path_segment_whatever_it_holds() {
    assert_eq!(url("http://api:8010", "rsv_1"), "http://api:8010/internal/reservations/rsv_1");
    assert_eq!(url("http://api/v2/", "a/../b"), "http://api/v2/internal/reservations/a%2F..%2Fb");
    assert_eq!(url("http://api", "a?b#c%2F"), "http://api/internal/reservations/a%3Fb%23c%252F");
    assert_eq!(url("http://api", "a\\b@c:d"), "http://api/internal/reservations/a%5Cb%40c%3Ad");
}

#[test]
fn a_base_that_is_no_plain_http_url_is_refused() {
    for base in ["", "api:8010", "ftp://api", "http://", "http://api?x=1", "http://api#x", "http://user:pw@api"] {
        let refused = ReservationClient::new(base, Access::Open, Duration::from_secs(1)).err();
        assert_eq!(refused, Some(SetupError::Base), "{base}");
    }
}

#[test]
fn a_token_goes_in_clear_only_to_this_very_host() {
    let in_clear = |base: &str, with_token: bool| {
        let token = || Access::Bearer(Arc::new(Token::new(Secret::new("t0ken"), None).unwrap()));
        let access = if with_token { token() } else { Access::Open };
        ReservationClient::new(base, access, Duration::from_secs(1)).unwrap().tells_token_in_clear()
    };
    for base in ["http://api:8010", "http://10.0.0.7", "http://[fd00::1]:8010", "http://localhost.example"] {
        assert!(in_clear(base, true), "{base}");
        assert!(!in_clear(base, false), "{base}");
    }
    for base in ["https://api", "http://localhost:8010", "http://127.0.0.1:1", "http://[::1]:1", "http://api.localhost"]
    {
        assert!(!in_clear(base, true), "{base}");
    }
}

#[test]
fn a_token_that_could_split_a_header_is_refused() {
    let refused = Token::new(Secret::new("a\r\nHost: evil"), None).err();
    assert_eq!(refused, Some(SetupError::Token));
}

#[test]
fn retry_after_is_read_in_seconds_and_as_a_date() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let at = |text| parse_retry_after(text, now);
    assert_eq!(at("120"), Some(Duration::from_secs(120)));
    assert_eq!(at("Thu, 01 Jan 1970 00:17:40 GMT"), Some(Duration::from_secs(60)));
    assert_eq!(at("Thu, 01 Jan 1970 00:00:00 GMT"), None, "the past asks for no wait");
    assert_eq!(at("soon"), None);
}

fn client_with(token: &str) -> ReservationClient {
    let token = Token::new(Secret::new(token), None).unwrap();
    ReservationClient::new("http://api", Access::Bearer(Arc::new(token)), Duration::from_secs(1)).unwrap()
}

#[tokio::test]
async fn a_token_that_the_api_quotes_is_not_told_on() {
    let (token, client) = ("t0ken/of=ours", client_with("t0ken/of=ours"));
    let body = format!(r#"{{"got": "Bearer t0ken\/of\u003dours", "status": "Bearer {token}"}}"#);
    let denied = client.unexpected(StatusCode::UNAUTHORIZED, None, &body).await.to_string();
    assert!(denied.ends_with(r#"{"got": "Bearer ***", "status": "Bearer ***"}"#), "{denied}");
    let cut_off_within_the_token = "x".repeat(190) + token;
    assert!(!client.quoted(&cut_off_within_the_token).contains("t0ken"));

    let snapshot = client.read(StatusCode::OK, &body, "rsv_1").unwrap();
    assert_eq!(
        snapshot.status,
        Ok(Status::Other("Bearer ***".into())),
        "which is quoted where nothing is settled on it"
    );
    let foreign = format!(r#"{{"reservation_id": "{token}"}}"#);
    let refused = client.read(StatusCode::OK, &foreign, "rsv_1").unwrap_err().to_string();
    assert!(refused.contains(r#"another reservation, "***""#), "{refused}");
}

#[test]
fn an_id_that_looks_like_the_token_stays_what_it_is() {
    let body = r#"{"event_id": "A-1", "seat_ids": ["A-12"]}"#;
    let holding = client_with("A-1").read(StatusCode::OK, body, "rsv_1").unwrap().holding.unwrap();
    assert_eq!((holding.show_id.as_deref(), holding.seat_ids.as_slice()), (Some("A-1"), &["A-12".to_owned()][..]));
}

#[test]
fn only_a_json_object_is_the_apis_own_refusal() {
    assert!(is_object(r#"{"error": {"code": "INVALID_REQUEST"}}"#));
    for page in
        ["", "[]", "null", "\"no\"", "<html>The plain HTTP request was sent to HTTPS port</html>", "no such status"]
    {
        assert!(!is_object(page), "{page}");
    }
}

/// What the client makes of a reservation that is followed by so many blanks that it is `length` bytes long.
async fn answer_of(length: usize) -> Result<Snapshot, Error> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    // Nobody waits for it: a client that never asks must fail the test, and not hang it.
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            request.extend(byte);
        }
        let mut body = br#"{"status": "EXPIRED"}"#.to_vec();
        body.resize(length, b' ');
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n").unwrap();
        // Whoever reads no further closes the connection.
        drop(stream.write_all(&body));
    });
    let client = ReservationClient::new(&base, Access::Open, Duration::from_secs(10)).unwrap();
    client.get("rsv_1", &TraceContext::default()).await
}

#[tokio::test]
async fn an_answer_is_read_up_to_256_kibibytes() {
    assert_eq!(answer_of(262_144).await.unwrap().status, Ok(Status::Expired));
    for too_long in [262_145, 1_000_000] {
        let refused = answer_of(too_long).await.unwrap_err().to_string();
        assert!(refused.ends_with("is longer than 262144 bytes"), "{refused}");
    }
}
