//! The configuration of a function: every variable, its default, and what it must look like.

use std::{collections::BTreeMap, time::Duration};

use aws_config::SdkConfig;
use tracing::Level;
use url::Url;

use crate::{
    aws::CALL_TIMEOUT,
    backoff::Backoff,
    batch::Limits,
    config::{ConfigError, Reader, Secret, Source},
    grpc::inventory::{self, InventoryClient, TlsMaterial},
    rest::reservation::{self, ReservationClient, TOKEN_FIELD, Token},
    secret::{Fields, SecretStore},
    telemetry::{
        metrics::Metrics,
        trace::{OtlpProtocol, Tracing},
    },
};

/// What is kept free of a record's time, for the answer to Lambda and for a clock that is a little off.
const MARGIN: Duration = Duration::from_millis(500);

/// How long the spans of one invocation may take to send.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(1);

/// The receive that is the last, by default. With the default back-off an event waits 16 to 32 minutes before it.
const MAX_RECEIVES: u32 = 12;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The names of the secret's JSON fields, beside the variables that they stand in for.
const SECRET_FIELDS: [(&str, &str); 3] = [
    ("INVENTORY_GRPC_ADDR", "inventory_grpc_addr"),
    ("RESERVATION_API_BASE", "reservation_api_base"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "otel_endpoint"),
];

/// The fields that no variable stands for, because they are secret.
const SECRET_ONLY_FIELDS: [&str; 4] = [TOKEN_FIELD, "inventory_tls_ca", "inventory_tls_cert", "inventory_tls_key"];

/// A configuration without faults, and the clients that it was proved with.
#[derive(Debug)]
pub struct Settings {
    /// `IDEMPOTENCY_TABLE`
    pub idempotency_table: String,
    /// `IDEMPOTENCY_TTL_DAYS`
    pub idempotency_ttl: Duration,
    /// `EVENT_BUS_NAME`
    pub event_bus: Option<String>,
    /// `DLQ_URL`
    pub dead_letter_url: Option<String>,
    /// `MAX_RETRIES`, `BACKOFF_BASE_MS`, `BACKOFF_CAP_MS`, `WORKER_CONCURRENCY`, and the budget that the timeouts add up to.
    pub limits: Limits,
    /// `INVENTORY_GRPC_ADDR`, `INVENTORY_TIMEOUT_MS`
    pub inventory: InventoryClient,
    /// `RESERVATION_API_BASE`, `RESERVATION_TIMEOUT_MS`
    pub reservations: ReservationClient,
    /// `METRICS_NAMESPACE`
    pub metrics: Metrics,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_PROTOCOL`
    pub tracing: Tracing,
}

/// What the log shows, known before anything else is: a start that fails is logged too. Of a level that does not exist
/// [`Settings::read`] tells.
pub fn log_level(environment: &dyn Source) -> Level {
    level(&mut Reader::new(environment))
}

/// The one secret: what it held at the start, and where it is, because its token may be replaced while we run.
#[derive(Debug)]
pub struct SecretRead {
    fields: Fields,
    store: Option<SecretStore>,
}

impl From<Fields> for SecretRead {
    /// Fields that nobody looks up again.
    fn from(fields: Fields) -> Self {
        Self { fields, store: None }
    }
}

/// Reads the one secret, when the environment asks for it. Without `USE_SECRET_MANAGER` there is none.
pub async fn secret(environment: &dyn Source, aws: &SdkConfig) -> SecretRead {
    let (true, Some(name)) =
        (environment.get("USE_SECRET_MANAGER").as_deref() == Some("true"), environment.get("SECRET_NAME"))
    else {
        return Ok(BTreeMap::new()).into();
    };
    let store = SecretStore::new(aws, name);
    let known = SECRET_FIELDS.iter().map(|(_, field)| *field).chain(SECRET_ONLY_FIELDS);
    SecretRead { fields: store.read(known).await, store: Some(store) }
}

/// The environment first, then the secret.
struct Layered<'a> {
    environment: &'a dyn Source,
    secret: BTreeMap<String, String>,
}

impl Source for Layered<'_> {
    fn get(&self, name: &str) -> Option<String> {
        let field = SECRET_FIELDS.iter().find(|(variable, _)| *variable == name).map(|(_, field)| *field);
        self.environment.get(name).or_else(|| Source::get(&self.secret, field?))
    }
}

impl Settings {
    /// Reads every variable. It must be called inside a Tokio runtime, because the clients are made here.
    ///
    /// # Errors
    /// Every fault, by variable, in one error.
    pub fn read(environment: &dyn Source, secret: SecretRead, service: &'static str) -> Result<Self, ConfigError> {
        let SecretRead { fields, store } = secret;
        let (secret, secret_fault) = match fields {
            Ok(secret) => (secret, None),
            Err(fault) => (BTreeMap::new(), Some(fault)),
        };
        let source = Layered { environment, secret };
        let mut reader = Reader::new(&source);
        if reader.switch("USE_SECRET_MANAGER") {
            reader.required("SECRET_NAME");
        }
        if let Some(fault) = &secret_fault {
            reader.fault("SECRET_NAME", fault);
        }

        let inventory_timeout = Duration::from_millis(reader.count("INVENTORY_TIMEOUT_MS", 1_000));
        let reservation_timeout = Duration::from_millis(reader.count("RESERVATION_TIMEOUT_MS", 2_000));
        // A refused token is looked up again, which is one more call.
        let lookups = u32::from(Source::get(&source.secret, TOKEN_FIELD).is_some());
        let limits = limits(&mut reader, inventory_timeout, reservation_timeout, lookups);
        let idempotency_table = reader.required("IDEMPOTENCY_TABLE");
        let days: u32 = reader.count("IDEMPOTENCY_TTL_DAYS", 30);
        let dead_letter_url = reader.optional("DLQ_URL");
        if dead_letter_url.as_ref().is_some_and(|url| !is_http_url(url)) {
            reader.fault("DLQ_URL", "must be the queue's URL");
        }
        let event_bus = reader.optional("EVENT_BUS_NAME");
        level(&mut reader);
        let metrics = metrics(&mut reader);
        let inventory = inventory(&mut reader, &source, inventory_timeout, secret_fault.is_some());
        let reservations = reservations(&mut reader, &source, store, reservation_timeout, secret_fault.is_some());
        let tracing = tracing(&mut reader, service);

        let built = inventory.zip(reservations).zip(tracing);
        match (reader.finish(()), built) {
            (Ok(()), Some(((inventory, reservations), tracing))) => Ok(Self {
                idempotency_table,
                idempotency_ttl: DAY.saturating_mul(days),
                event_bus,
                dead_letter_url,
                limits,
                inventory,
                reservations,
                metrics,
                tracing,
            }),
            (Err(error), _) => Err(error),
            // Whatever could not be built was noted as a fault, so this is never reached; it must still not start.
            (Ok(()), None) => Err(ConfigError(vec!["a client could not be built".to_owned()])),
        }
    }
}

/// No record starts with less time left than its calls may take in all. Five of them go to AWS: claim, completion,
/// release, burial, and the back-off when the burial failed, besides `lookups` of the secret; two to the reservation API:
/// status change and reading; and one is the inventory call or the refund request, whichever takes longer.
fn limits(reader: &mut Reader<'_>, inventory_timeout: Duration, reservation_timeout: Duration, lookups: u32) -> Limits {
    let aws_calls = CALL_TIMEOUT * (5 + lookups);
    let settle_or_refund = inventory_timeout.max(CALL_TIMEOUT);
    let budget = aws_calls + reservation_timeout * 2 + settle_or_refund + MARGIN;

    let base = Duration::from_millis(reader.count("BACKOFF_BASE_MS", 1_000));
    let cap = Duration::from_millis(reader.count("BACKOFF_CAP_MS", 900_000));
    let backoff = Backoff::try_new(base, cap).unwrap_or_else(|error| {
        reader.fault("BACKOFF_CAP_MS", format!("is below BACKOFF_BASE_MS: {error}"));
        Backoff::DEFAULT
    });
    // It counts receives and not retries: the name is older than this code.
    let max_receives = reader.count("MAX_RETRIES", MAX_RECEIVES);
    // More records than a batch can hold would be a typing error that only costs memory.
    let concurrency: u16 = reader.count("WORKER_CONCURRENCY", 20);
    Limits { concurrency: concurrency.into(), max_receives, budget, backoff }
}

fn inventory(
    reader: &mut Reader<'_>,
    source: &Layered<'_>,
    timeout: Duration,
    secret_missing: bool,
) -> Option<InventoryClient> {
    const NAME: &str = "INVENTORY_GRPC_ADDR";
    let address = address(reader, NAME, secret_missing)?;
    let field = |name: &str| Source::get(&source.secret, name);
    let identity = match (field("inventory_tls_cert"), field("inventory_tls_key")) {
        (Some(certificate), Some(key)) => Some((certificate, Secret::new(key))),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            reader.fault("SECRET_NAME", "must hold both of inventory_tls_cert and inventory_tls_key, or neither");
            None
        }
    };
    let tls = TlsMaterial { authority: field("inventory_tls_ca"), identity };
    let client: Result<_, inventory::SetupError> = InventoryClient::new(&address, &tls, timeout);
    client.map_err(|error| reader.fault(NAME, error)).ok()
}

fn reservations(
    reader: &mut Reader<'_>,
    source: &Layered<'_>,
    store: Option<SecretStore>,
    timeout: Duration,
    secret_missing: bool,
) -> Option<ReservationClient> {
    const NAME: &str = "RESERVATION_API_BASE";
    let base = address(reader, NAME, secret_missing)?;
    let token = Source::get(&source.secret, TOKEN_FIELD).map(|token| Token::new(Secret::new(token), store));
    let client = token.transpose().and_then(|token| ReservationClient::new(&base, token, timeout));
    let refusal = |error: reservation::SetupError| match error {
        reservation::SetupError::Token => reader.fault("SECRET_NAME", format!("holds a {TOKEN_FIELD} that {error}")),
        reservation::SetupError::Base => reader.fault(NAME, error),
    };
    client.map_err(refusal).ok()
}

/// An address that the environment or the secret must have. Whether an unreadable secret has it nobody knows, and its
/// own fault is enough.
fn address(reader: &mut Reader<'_>, name: &str, secret_missing: bool) -> Option<String> {
    let address = reader.optional(name);
    if address.is_none() && !secret_missing {
        reader.required(name);
    }
    address
}

fn metrics(reader: &mut Reader<'_>) -> Metrics {
    const NAME: &str = "METRICS_NAMESPACE";
    let Some(namespace) = reader.optional(NAME) else {
        return Metrics::default();
    };
    Metrics::in_namespace(namespace).unwrap_or_else(|error| {
        reader.fault(NAME, error);
        Metrics::default()
    })
}

fn tracing(reader: &mut Reader<'_>, service: &'static str) -> Option<Tracing> {
    const NAME: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
    let protocol = match reader.optional(NAME).as_deref() {
        None | Some("grpc") => OtlpProtocol::Grpc,
        Some("http/protobuf") => OtlpProtocol::Http,
        Some(other) => {
            reader.fault(NAME, format!("must be grpc or http/protobuf, not {other:?}"));
            return None;
        }
    };
    let Some(endpoint) = reader.optional("OTEL_EXPORTER_OTLP_ENDPOINT") else {
        return Some(Tracing::default());
    };
    let built = if is_http_url(&endpoint) {
        Tracing::to(&endpoint, protocol, EXPORT_TIMEOUT, service)
    } else {
        Err("it is no http or https URL".to_owned())
    };
    built.map_err(|error| reader.fault("OTEL_EXPORTER_OTLP_ENDPOINT", format!("can't be used: {error}"))).ok()
}

/// `LOG_LEVEL`
fn level(reader: &mut Reader<'_>) -> Level {
    match reader.optional("LOG_LEVEL").as_deref() {
        Some("debug") => Level::DEBUG,
        None | Some("info") => Level::INFO,
        Some("warn") => Level::WARN,
        Some("error") => Level::ERROR,
        Some(other) => {
            reader.fault("LOG_LEVEL", format!("must be debug, info, warn or error, not {other:?}"));
            Level::INFO
        }
    }
}

fn is_http_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let required = [
            ("IDEMPOTENCY_TABLE", "idempotency"),
            ("INVENTORY_GRPC_ADDR", "inventory:8021"),
            ("RESERVATION_API_BASE", "http://reservation-api:8010"),
        ];
        required.iter().chain(changes).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn read(changes: &[(&str, &str)], secret: Fields) -> Result<Settings, ConfigError> {
        Settings::read(&environment(changes), secret.into(), "payment.failed")
    }

    fn secret_of(fields: &[(&str, &str)]) -> Fields {
        Ok(fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    #[tokio::test]
    async fn the_defaults_are_those_of_the_design() {
        let settings = read(&[], Ok(BTreeMap::new())).unwrap();
        assert_eq!(settings.limits.max_receives, 12);
        assert_eq!(settings.limits.concurrency, 20);
        assert_eq!(settings.limits.backoff, Backoff::DEFAULT);
        assert_eq!(settings.limits.budget, Duration::from_millis(16_500), "5 x 2 s + 2 x 2 s + 2 s + 0.5 s");
        assert_eq!(settings.idempotency_ttl, Duration::from_secs(2_592_000), "30 days");
        assert_eq!(settings.metrics, Metrics::in_namespace("Holdfast").unwrap());
        assert_eq!(log_level(&environment(&[])), Level::INFO);
    }

    #[tokio::test]
    async fn one_error_names_every_bad_variable() {
        let bad = [
            ("IDEMPOTENCY_TABLE", ""),
            ("INVENTORY_GRPC_ADDR", "inventory"),
            ("RESERVATION_API_BASE", "reservation-api"),
            ("DLQ_URL", "my-dlq"),
            ("MAX_RETRIES", "0"),
            ("BACKOFF_BASE_MS", "many"),
            ("BACKOFF_CAP_MS", "10"),
            ("INVENTORY_TIMEOUT_MS", "-1"),
            ("RESERVATION_TIMEOUT_MS", "1.5"),
            ("WORKER_CONCURRENCY", "0"),
            ("IDEMPOTENCY_TTL_DAYS", "0"),
            ("USE_SECRET_MANAGER", "yes"),
            ("LOG_LEVEL", "loud"),
            ("METRICS_NAMESPACE", "AWS/Lambda"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector"),
        ];
        let error = read(&bad, Ok(BTreeMap::new())).unwrap_err();
        for (name, _) in bad {
            assert!(error.0.iter().any(|fault| fault.starts_with(name)), "{name} is missing in: {error}");
        }
        let protocol = read(&[("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon")], Ok(BTreeMap::new())).unwrap_err();
        assert!(protocol.to_string().contains("OTEL_EXPORTER_OTLP_PROTOCOL"));
    }

    #[tokio::test]
    async fn the_secret_stands_in_for_what_the_environment_leaves_out() {
        let secret = secret_of(&[("inventory_grpc_addr", "from-secret:1"), ("reservation_api_token", "t0ken")]);
        let settings =
            read(&[("INVENTORY_GRPC_ADDR", ""), ("USE_SECRET_MANAGER", "true"), ("SECRET_NAME", "s")], secret);
        assert!(settings.is_ok(), "{settings:?}");
        assert!(!format!("{settings:?}").contains("t0ken"), "the token shows");
        let error = read(&[], secret_of(&[("inventory_tls_cert", "pem")])).unwrap_err();
        assert!(error.to_string().contains("inventory_tls_key"), "{error}");
    }

    #[tokio::test]
    async fn a_token_costs_the_time_of_looking_it_up_again() {
        let settings = read(&[], secret_of(&[(TOKEN_FIELD, "t0ken")])).unwrap();
        assert_eq!(settings.limits.budget, Duration::from_millis(18_500), "one call of 2 s more");
    }

    #[tokio::test]
    async fn an_unreadable_secret_is_one_fault_and_not_three() {
        let changes = [("INVENTORY_GRPC_ADDR", ""), ("RESERVATION_API_BASE", ""), ("SECRET_NAME", "s")];
        let error = read(&changes, Err("could not be read: no access".to_owned())).unwrap_err();
        assert_eq!(error.0, ["SECRET_NAME could not be read: no access"]);
    }

    #[tokio::test]
    async fn a_queue_is_named_by_an_http_url() {
        for url in ["ftp://sqs.example/1/dlq", "mailto:dlq", "dlq"] {
            let error = read(&[("DLQ_URL", url)], Ok(BTreeMap::new())).unwrap_err();
            assert_eq!(error.0, ["DLQ_URL must be the queue's URL"], "{url}");
        }
    }

    #[tokio::test]
    async fn a_secret_manager_without_a_name_is_a_fault() {
        let error = read(&[("USE_SECRET_MANAGER", "true")], Ok(BTreeMap::new())).unwrap_err();
        assert_eq!(error.0, ["SECRET_NAME is required and not set"]);
    }
}
