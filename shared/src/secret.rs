//! The secret of a function: one JSON object in Secrets Manager, which may hold more than we read.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_secretsmanager::Client;
use serde_json::Value;

use crate::{aws::fault, json::Object};

/// The fields of a secret by their names, or why they could not be read. The text fits after `SECRET_NAME`.
pub type Fields = Result<BTreeMap<String, String>, String>;

/// Where the secret is.
#[derive(Debug, Clone)]
pub struct SecretStore {
    client: Client,
    name: String,
}

impl SecretStore {
    /// The secret with this name or ARN.
    pub fn new(aws: &SdkConfig, name: impl Into<String>) -> Self {
        Self { client: Client::new(aws), name: name.into() }
    }

    /// Reads those of the fields `known` that are there. It takes as long as one call to AWS.
    ///
    /// # Errors
    /// Why they could not be read, without a word of what the secret holds.
    pub async fn read(&self, known: impl IntoIterator<Item = &str>) -> Fields {
        let answer = self.client.get_secret_value().secret_id(&self.name).send().await;
        let answer = answer.map_err(|error| format!("could not be read: {}", fault(&error)))?;
        fields(answer.secret_string().unwrap_or_default(), known)
    }
}

/// The fields that concern us. Others may be whatever their owners like.
fn fields<'a>(secret: &str, known: impl IntoIterator<Item = &'a str>) -> Fields {
    // The error of a parser may quote what it read, so it is not shown.
    let object = Object::read(secret).map_err(|_| "must hold a JSON object".to_owned())?;
    let mut fields = BTreeMap::new();
    for name in known {
        match object.get(name).map_err(|fault| format!("holds {name}, which {fault}"))? {
            Some(Value::String(text)) => drop(fields.insert(name.to_owned(), text)),
            Some(_) => return Err(format!("holds {name}, which must be a string")),
            None => {}
        }
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_may_hold_more_than_ours_and_ours_are_strings() {
        let known = ["reservation_api_token", "inventory_grpc_addr", "otel_endpoint"];
        let read = |text| fields(text, known);
        let two = r#"{"port": 5432, "reservation_api_token": "t0ken", "inventory_grpc_addr": "i:1"}"#;
        assert_eq!(read(two).unwrap().len(), 2);
        assert_eq!(
            read(r#"{"inventory_grpc_addr": 5}"#).unwrap_err(),
            "holds inventory_grpc_addr, which must be a string"
        );
        for text in ["", "t0ken", "[]", "\"t0ken\""] {
            assert_eq!(read(text).unwrap_err(), "must hold a JSON object", "and shows nothing of it");
        }
    }

    #[test]
    fn what_others_keep_in_the_secret_decides_nothing() {
        for odd in [r#""other": "\ud800""#, r#""other": 1e999"#, r#""other": 1, "other": 2"#] {
            let secret = format!(r#"{{{odd}, "otel_endpoint": "http://c:4318"}}"#);
            assert_eq!(fields(&secret, ["otel_endpoint"]).unwrap().len(), 1, "{secret}");
        }
        let twice = r#"{"otel_endpoint": "s3cret-1", "otel_endpoint": "s3cret-2"}"#;
        assert_eq!(
            fields(twice, ["otel_endpoint"]).unwrap_err(),
            "holds otel_endpoint, which stands there more than once, with different values"
        );
        assert!(fields(r#"{"otel_endpoint": null}"#, ["otel_endpoint"]).unwrap().is_empty());
    }
}
