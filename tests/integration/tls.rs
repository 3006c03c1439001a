//! TLS to every service, against servers whose certificates come from an authority that only the test knows.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use local_stack::{inventory::SeatState, lambda::FunctionError, reservations::Status, stack::Stack};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use uuid::Uuid;

use crate::{
    authority::{Authority, Issued},
    harness::{World, binaries, event, log_lines},
};

const SECRET: &str = "holdfast/tls";

impl Authority {
    /// A server's side of TLS, with a certificate for this name.
    pub(crate) fn server(&self, name: &str) -> ServerTlsConfig {
        let Issued { certificate, key } = self.issue(name);
        ServerTlsConfig::new().identity(Identity::from_pem(certificate, key))
    }

    /// As [`Authority::server`], for callers with a certificate of this authority only.
    pub(crate) fn mutual_server(&self, name: &str) -> ServerTlsConfig {
        self.server(name).client_ca_root(Certificate::from_pem(self.pem()))
    }
}

/// A function that has this secret and reaches its inventory at `localhost`, by TLS.
pub(crate) async fn encrypted(function: &str, server: ServerTlsConfig, secret: &Value, more: &[(&str, &str)]) -> World {
    let stack = Stack::start().await.expect("the stack starts");
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    let inventory = stack.inventory.clone();
    tokio::spawn(async move { drop(inventory.serve_tls(listener, server).await) });
    stack.aws.put_secret(SECRET, &secret.to_string());
    let address = format!("https://localhost:{port}");
    let mut changes =
        vec![("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", SECRET), ("INVENTORY_GRPC_ADDR", address.as_str())];
    // A busy machine may need a while for its first handshake, and time is not what is tested.
    changes.push(("INVENTORY_TIMEOUT_MS", "4000"));
    changes.extend(more);
    World::on(stack, function, &changes)
}

fn trusting(authority: &Authority) -> Value {
    json!({"inventory_tls_ca": authority.pem()})
}

fn identified(authority: &Authority, Issued { certificate, key }: &Issued) -> Value {
    json!({"inventory_tls_ca": authority.pem(), "inventory_tls_cert": certificate, "inventory_tls_key": key})
}

async fn settles(world: &World) {
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("success");
    assert_eq!(world.state(), "CANCELLED, free");
    let complaints = log_lines(&world.function.all_logs()).into_iter().filter(|line| line["level"] == "error");
    assert_eq!(complaints.count(), 0, "{:#?}", world.function.all_logs());
}

/// The inventory is never called, the record waits, and with the right secret it is settled.
async fn waits_for(world: World, repaired: &Value, because: &str) {
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("retried").says(because);
    assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0), "nothing is lost");
    assert_eq!(world.stack.inventory.calls(), [], "nothing is said to a server that is not the right one");

    world.stack.aws.put_secret(SECRET, &repaired.to_string());
    let name = world.function.name().to_owned();
    let environment = world.function.options().environment.clone();
    let deployed = world.stack.deploy_with(&name, binaries()[&name].clone(), 1, environment);
    let world = World { function: deployed.expect("the binary is there"), ..world };
    world.redeliver().await[0].is("success");
    assert_eq!(world.state(), "CANCELLED, free");
}

/// The start names the variable and the cause, and goes on.
async fn starts_with_a_complaint(world: &World, because: &str) {
    world.warm_up().await;
    let lines = log_lines(&world.function.all_logs());
    let complaint = lines.iter().find(|line| line["level"] == "error").expect("the start complains");
    let text = complaint["msg"].as_str().unwrap_or_default();
    assert!(text.starts_with("INVENTORY_GRPC_ADDR names https://localhost:"), "{complaint:#}");
    assert!(complaint["error"].as_str().unwrap_or_default().contains(because), "{complaint:#}");
}

/// The start ends with an error that names the variable, and with nothing of the secret.
async fn does_not_start(secret: &Value, because: &str) {
    let world = encrypted("payment-failed", Authority::new().server("localhost"), secret, &[]).await;
    let invocation = world.function.invoke(r#"{"Records": []}"#).await;
    let Err(FunctionError::Init(text)) = &invocation.result else { panic!("the start fails: {invocation:#?}") };
    assert!(text.contains("INVENTORY_GRPC_ADDR can't be reached with the TLS material given: "), "{text}");
    assert!(text.contains(because), "{text}");
    for value in secret.as_object().expect("a secret is an object").values().filter_map(Value::as_str) {
        for word in value.split_whitespace().filter(|word| word.len() > 12) {
            assert!(!text.contains(word), "{word} shows in: {text}");
        }
    }
}

#[tokio::test]
async fn a_server_with_a_certificate_of_the_configured_authority_is_trusted() {
    let authority = Authority::new();
    settles(&encrypted("payment-failed", authority.server("localhost"), &trusting(&authority), &[]).await).await;
}

#[tokio::test]
async fn a_server_of_an_unknown_authority_is_refused_and_named_at_the_start() {
    let authority = Authority::new();
    for secret in [json!({}), trusting(&Authority::new())] {
        let world = encrypted("payment-failed", authority.server("localhost"), &secret, &[]).await;
        starts_with_a_complaint(&world, "UnknownIssuer").await;
        waits_for(world, &trusting(&authority), "UnknownIssuer").await;
    }
}

#[tokio::test]
async fn a_certificate_for_another_host_is_refused_though_its_authority_is_trusted() {
    let authority = Authority::new();
    let world = encrypted("payment-failed", authority.server("inventory.example"), &trusting(&authority), &[]).await;
    starts_with_a_complaint(&world, "inventory.example").await;
    world.given(Status::Hold, SeatState::Held);
    world.deliver_one(event("payment.failed")).await.is("retried").says("certificate not valid for name");
    assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0), "nothing is lost");
    assert_eq!(world.stack.inventory.calls(), [], "nothing is said to another host");
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_gets_ours() {
    let authority = Authority::new();
    let secret = identified(&authority, &authority.issue("holdfast"));
    settles(&encrypted("payment-failed", authority.mutual_server("localhost"), &secret, &[]).await).await;
}

#[tokio::test]
async fn a_server_that_asks_for_a_certificate_refuses_who_has_none_or_anothers() {
    let authority = Authority::new();
    let repaired = identified(&authority, &authority.issue("holdfast"));
    let of_another = identified(&authority, &Authority::new().issue("holdfast"));
    for secret in [trusting(&authority), of_another] {
        let world = encrypted("payment-failed", authority.mutual_server("localhost"), &secret, &[]).await;
        // In TLS 1.3 a server refuses when the caller already counts the handshake as done, and its alert may come after
        // the connection's end was seen. So the error does not always say more.
        waits_for(world, &repaired, "the inventory did not carry the call out").await;
    }
}

#[tokio::test]
async fn tls_material_that_cannot_be_used_stops_the_start_and_does_not_show() {
    let authority = Authority::new();
    let (ours, other) = (authority.issue("holdfast"), authority.issue("holdfast"));
    // A pair of two halves, and what is left of PEM when its line breaks were lost on the way into the secret.
    does_not_start(&identified(&authority, &Issued { key: other.key, ..ours }), "KeyMismatch").await;
    let one_line = |text: &str| text.replace('\n', " ");
    let ours = authority.issue("holdfast");
    let flat = Issued { key: one_line(&ours.key), ..ours };
    does_not_start(&identified(&authority, &flat), "private key").await;
    does_not_start(&json!({"inventory_tls_ca": one_line(&authority.pem())}), "certificate").await;
    // It would leave the function with the system's authorities only, as if none had been given.
    does_not_start(&json!({"inventory_tls_ca": "this-is-not-a-certificate-at-all"}), "certificate").await;
}

/// Takes TLS off before a server that speaks none; the answer is its URL.
async fn terminated(server: SocketAddr, issued: &Issued) -> String {
    let acceptor = issued.acceptor();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port is free");
    let port = listener.local_addr().expect("a bound listener has an address").port();
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let (Ok(mut caller), Ok(mut server)) =
                    (acceptor.accept(caller).await, TcpStream::connect(server).await)
                else {
                    return;
                };
                drop(copy_bidirectional(&mut caller, &mut server).await);
            });
        }
    });
    format!("https://localhost:{port}")
}

/// A function that trusts the authority as one of the system's, and reaches AWS and the reservation API at `localhost` by
/// TLS, where the servers show a certificate for `name`.
async fn encrypted_throughout(trusted: &Authority, server: &Authority, name: &str) -> World {
    let stack = Stack::start().await.expect("the stack starts");
    let issued = server.issue(name);
    let aws = terminated(stack.aws.address(), &issued).await;
    let reservations = terminated(stack.reservation_address, &issued).await;
    let authorities: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.pem", Uuid::new_v4()));
    fs::write(&authorities, trusted.pem()).expect("the folder for such files is there");
    let authorities = authorities.to_str().expect("a path of ours is text");
    let changes =
        [("AWS_ENDPOINT_URL", aws.as_str()), ("RESERVATION_API_BASE", &reservations), ("SSL_CERT_FILE", authorities)];
    // A busy machine may need a while for its first handshake, and time is not what is tested.
    let patience = [("RESERVATION_TIMEOUT_MS", "4000")];
    World::on(stack, "payment-failed", &[changes.as_slice(), &patience].concat())
}

#[tokio::test]
async fn aws_and_the_reservation_api_are_spoken_to_by_tls() {
    let authority = Authority::new();
    settles(&encrypted_throughout(&authority, &authority, "localhost").await).await;
}

#[tokio::test]
async fn aws_and_the_reservation_api_are_told_nothing_when_they_are_not_who_they_should_be() {
    let authority = Authority::new();
    for (server, name) in [(&Authority::new(), "localhost"), (&authority, "elsewhere.example")] {
        let world = encrypted_throughout(&authority, server, name).await;
        world.given(Status::Hold, SeatState::Held);
        world.deliver_one(event("payment.failed")).await.is("retried").says("ertificate");
        assert_eq!((world.queue.len(), world.dead_letters.len()), (1, 0), "nothing is lost");
        assert_eq!(world.stack.aws.requests(), [], "nothing is said to another AWS");
        assert_eq!(world.stack.reservations.calls(), [], "nothing is said to another API");
        assert_eq!(world.stack.reservations.probes(), [], "nor at the start");
    }
}

#[tokio::test]
async fn a_system_without_authorities_is_named_in_the_log() {
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.pem", Uuid::new_v4()));
    fs::write(&empty, "").expect("the folder for such files is there");
    let stack = Stack::start().await.expect("the stack starts");
    let reservations = terminated(stack.reservation_address, &Authority::new().issue("localhost")).await;
    let authorities = empty.to_str().expect("a path of ours is text");
    let changes = [("RESERVATION_API_BASE", reservations.as_str()), ("SSL_CERT_FILE", authorities)];
    let world = World::on(stack, "payment-failed", &changes);
    let invocation = world.function.invoke(r#"{"Records": []}"#).await;
    let warned = log_lines(&invocation.logs).into_iter().any(|line| {
        line["level"] == "warn" && line["msg"].as_str().is_some_and(|text| text.contains("names no authority"))
    });
    assert!(warned, "the start says why no connection will be made: {:#?}", invocation.logs);
}
