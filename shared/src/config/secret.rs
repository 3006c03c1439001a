//! The secret of a function: one JSON object in Secrets Manager, which may hold more than we read.

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
