//! The secret of a function: one JSON object in Secrets Manager, which may hold more than we read.

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use serde_json::Value;

use super::{Secret, Source};
use crate::{client::aws::fault, json::Object};

/// Where the secret is.
#[derive(Debug, Clone)]
pub struct SecretStore {
    client: Client,
    name: String,
}

impl SecretStore {
    /// The store that the environment asks for by `USE_SECRET_MANAGER` and `SECRET_NAME`, if it does.
    pub fn asked_for(environment: &dyn Source, aws: &SdkConfig) -> Option<Self> {
        let asked = environment.get("USE_SECRET_MANAGER").as_deref() == Some("true");
        let name = environment.get("SECRET_NAME").filter(|_| asked)?;
        Some(Self { client: Client::new(aws), name })
    }

    /// Reads the secret as it is now. It takes as long as one call to AWS.
    ///
    /// # Errors
    /// Why it could not be read, without a word of what it holds. The text fits after `SECRET_NAME`.
    pub async fn read(&self) -> Result<SecretFields, String> {
        let answer = self.client.get_secret_value().secret_id(&self.name).send().await;
        let answer = answer.map_err(|error| format!("could not be read: {}", fault(&error)))?;
        SecretFields::parse(answer.secret_string().unwrap_or_default())
    }
}

/// A secret that is refused is looked up no more often than this, however many records that stops: most refusals are of a
/// permission, and no new secret would change them.
const PAUSE: Duration = Duration::from_secs(60);

/// When a secret that was refused was last looked up, by the system's clock: it goes on while Lambda freezes an environment.
/// On a quiet function, a minute of the other clock takes hours.
#[derive(Debug, Default)]
pub struct Lookups {
    last: Option<SystemTime>,
}

impl Lookups {
    /// Whether it is time for another look; who is told so looks. A clock that was set back says nothing about how long it
    /// was, and then it is time.
    pub fn is_due(&mut self, now: SystemTime) -> bool {
        let passed = self.last.and_then(|last| now.duration_since(last).ok());
        let is_due = passed.is_none_or(|passed| passed >= PAUSE);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }
}

/// The fields of a secret, read one by one when they are asked for.
#[derive(Debug, Clone)]
pub struct SecretFields(Secret);

impl SecretFields {
    /// The fields of a text that must be one JSON object.
    ///
    /// # Errors
    /// When it is not one. The text fits after `SECRET_NAME`.
    pub fn parse(text: &str) -> Result<Self, String> {
        object(text).map(|_object| Self(Secret::new(text)))
    }

    /// A secret without fields.
    pub(super) fn none() -> Self {
        Self(Secret::new("{}"))
    }

    /// A field that must be a string; an empty one counts as absent, as a variable does.
    ///
    /// # Errors
    /// When it is there and can't be used. The text fits after `SECRET_NAME`.
    pub fn get(&self, name: &str) -> Result<Option<String>, String> {
        let field = object(self.0.expose())?.get(name);
        match field.map_err(|fault| format!("holds {name}, which {fault}"))? {
            Some(Value::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(_) => Err(format!("holds {name}, which must be a string")),
            None => Ok(None),
        }
    }
}

/// The error of a parser may quote what it read, so it is not shown.
fn object(text: &str) -> Result<Object<'_>, String> {
    Object::read(text).map_err(|_| "must hold a JSON object".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(secret: &str, name: &str) -> Result<Option<String>, String> {
        SecretFields::parse(secret)?.get(name)
    }

    #[test]
    fn a_secret_may_hold_more_than_ours_and_ours_are_strings() {
        let two =
            r#"{"port": 5432, "reservation_api_token": "t0ken", "inventory_grpc_addr": "", "otel_endpoint": null}"#;
        assert_eq!(get(two, "reservation_api_token"), Ok(Some("t0ken".into())));
        assert_eq!((get(two, "inventory_grpc_addr"), get(two, "otel_endpoint")), (Ok(None), Ok(None)));
        assert_eq!(get(two, "port").unwrap_err(), "holds port, which must be a string");
        for text in ["", "t0ken", "[]", "\"t0ken\""] {
            assert_eq!(get(text, "port").unwrap_err(), "must hold a JSON object", "and shows nothing of it");
        }
        assert!(!format!("{:?}", SecretFields::parse(two)).contains("t0ken"), "the token shows");
    }

    #[test]
    fn of_many_refusals_within_a_minute_one_looks() {
        let (mut lookups, start) = (Lookups::default(), SystemTime::UNIX_EPOCH + Duration::from_secs(3_600));
        let looks: Vec<bool> =
            [0, 0, 1, 59, 60, 61, 119, 120].map(|at| lookups.is_due(start + Duration::from_secs(at))).into();
        assert_eq!(looks, [true, false, false, false, true, false, false, true]);
        assert!(lookups.is_due(start), "the clock was set back by two minutes");
        assert!(!lookups.is_due(start + Duration::from_secs(59)));
    }

    #[test]
    fn what_others_keep_in_the_secret_decides_nothing() {
        for odd in [r#""other": "\ud800""#, r#""other": 1e999"#, r#""other": 1, "other": 2"#] {
            let secret = format!(r#"{{{odd}, "otel_endpoint": "http://c:4318"}}"#);
            assert_eq!(get(&secret, "otel_endpoint").unwrap().as_deref(), Some("http://c:4318"), "{secret}");
        }
        assert_eq!(
            get(r#"{"otel_endpoint": "s3cret-1", "otel_endpoint": "s3cret-2"}"#, "otel_endpoint").unwrap_err(),
            "holds otel_endpoint, which stands there more than once, with different values"
        );
    }
}
