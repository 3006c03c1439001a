//! The connections of a WebSocket API of API Gateway: a message is sent to one by a signed request to
//! `{base}/@connections/{connection}`.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-how-to-call-websocket-api-connections.html>

use std::time::{Duration, SystemTime};

use aws_config::SdkConfig;
use http::{HeaderMap, Method, Request, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use percent_encoding::utf8_percent_encode;
use tokio::time::timeout;
use url::Url;

use crate::{
    client::{
        http::{ESCAPED, HttpClient, http_url},
        signature::Signer,
    },
    config::Reader,
    failure::{chain, quoted},
};

/// What holds the address.
const NAME: &str = "PUSH_API_BASE";

/// More of an answer's body is not read: a success has none, and an error has a sentence.
const LARGEST_ANSWER: usize = 16 * 1024;

/// By what API Gateway names an error.
const ERROR_TYPE: &str = "x-amzn-errortype";

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Posted {
    /// API Gateway has taken it, for a connection that is open.
    Taken,
    /// There is no such connection any more.
    Gone,
}

/// Why it is not known what became of a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("post to a connection: {0}")]
pub struct PostError(String);

/// A client of the connections of one stage of an API; clones share what it sends by.
#[derive(Debug, Clone)]
pub struct ConnectionsClient {
    http: HttpClient<Full<Bytes>>,
    timeout: Duration,
    base: Url,
    signer: Signer,
}

impl ConnectionsClient {
    /// The stage that `PUSH_API_BASE` names, whose calls take `PUSH_TIMEOUT_MS` each, from the connection to the last byte of
    /// the answer. Nothing: the variable is not set, or what is wrong is noted.
    pub fn if_configured(reader: &mut Reader<'_>, aws: &SdkConfig) -> Option<Self> {
        let timeout = reader.milliseconds("PUSH_TIMEOUT_MS", Duration::from_secs(1));
        let base = reader.optional(NAME)?;
        let Some(base) = http_url(&base).filter(|url| url.query().is_none() && url.fragment().is_none()) else {
            reader.fault(NAME, "must be an http or https URL without query and fragment");
            return None;
        };
        let Some(signer) = Signer::of(aws) else {
            reader.fault(NAME, "is set, and there are no credentials and no region to sign with");
            return None;
        };
        Some(Self { http: HttpClient::new(2 * LARGEST_ANSWER), timeout, base, signer })
    }

    /// The longest that one call takes.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sends a message, which is JSON, to a connection. A repeat sends it once more.
    ///
    /// # Errors
    /// When API Gateway did not say what became of it.
    pub async fn post(&self, connection: &str, message: &str) -> Result<Posted, PostError> {
        let late = |_| Err(PostError(format!("no answer within {} ms", self.timeout.as_millis())));
        timeout(self.timeout, self.send(connection, message)).await.unwrap_or_else(late)
    }

    async fn send(&self, connection: &str, message: &str) -> Result<Posted, PostError> {
        let mut url = self.base.clone();
        // A connection's id may end in `=`.
        let segment = utf8_percent_encode(connection, ESCAPED);
        url.set_path(&format!("{}/@connections/{segment}", self.base.path().trim_end_matches('/')));
        let body = Bytes::copy_from_slice(message.as_bytes());
        let request = Request::builder().method(Method::POST).uri(url.as_str());
        let request = request.header(CONTENT_TYPE, "application/json").body(Full::new(body.clone()));
        let mut request = request.map_err(|error| PostError(chain(&error)))?;
        self.signer.sign(&mut request, &body, SystemTime::now()).await.map_err(PostError)?;
        let answer = self.http.send(request).await.map_err(|error| PostError(chain(&error)))?;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, LARGEST_ANSWER).collect().await;
        let body = body.map_err(|error| PostError(chain(&*error)))?.to_bytes();
        said(head.status, &head.headers, &body)
    }
}

/// What an answer says. A success has no body, and an error names its type: whatever else comes is none of API Gateway's
/// words, such as a proxy's page.
fn said(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Result<Posted, PostError> {
    let is_of = |name: &str| {
        let stated = headers.get(ERROR_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        stated.split([':', ',']).next() == Some(name)
    };
    match status {
        StatusCode::OK if body.is_empty() => Ok(Posted::Taken),
        StatusCode::GONE if is_of("GoneException") => Ok(Posted::Gone),
        _ => Err(PostError(format!("{status}: {}", quoted(&String::from_utf8_lossy(body))))),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aws_config::{BehaviorVersion, Region};
    use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};

    use super::*;

    fn headers(error_type: &str) -> HeaderMap {
        [(http::HeaderName::from_static(ERROR_TYPE), error_type.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn only_api_gateways_own_word_says_that_a_connection_is_gone_or_has_the_message() {
        let none = HeaderMap::new();
        assert_eq!(said(StatusCode::OK, &none, b""), Ok(Posted::Taken));
        for gone in ["GoneException", "GoneException:http://internal.amazon.com/coral/com.amazonaws/"] {
            assert_eq!(said(StatusCode::GONE, &headers(gone), b"{}"), Ok(Posted::Gone));
        }
        for (status, headers, body) in [
            (StatusCode::OK, &none, "<p>welcome</p>"),
            (StatusCode::NO_CONTENT, &none, ""),
            (StatusCode::GONE, &none, "<p>moved</p>"),
            (StatusCode::GONE, &headers("ForbiddenException"), "{}"),
            (StatusCode::FORBIDDEN, &headers("GoneException"), "{}"),
            (StatusCode::TOO_MANY_REQUESTS, &headers("LimitExceededException"), "{}"),
            (StatusCode::FOUND, &none, ""),
        ] {
            let error = said(status, headers, body.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(status.as_str()) && error.contains(body), "{error}");
        }
    }

    #[test]
    fn an_address_that_is_none_is_told_by_its_variable() {
        let aws = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::from_static("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("key", "secret", None, None, "role")))
            .build();
        let read = |address: &str, aws: &SdkConfig| {
            let source = BTreeMap::from([(NAME.to_owned(), address.to_owned())]);
            let mut reader = Reader::new(&source);
            let client = ConnectionsClient::if_configured(&mut reader, aws);
            reader.finish(Some(client.is_some())).map_err(|error| error.to_string())
        };
        assert_eq!(read("https://abc.execute-api.eu-west-1.amazonaws.com/live", &aws), Ok(true));
        assert_eq!(read("", &aws), Ok(false), "a stack without pushes has none");
        for wrong in ["wss://abc.example/live", "abc", "https://abc.example/live?a=b"] {
            assert!(read(wrong, &aws).unwrap_err().contains("PUSH_API_BASE must be an http or https URL"), "{wrong}");
        }
        let nobody = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        assert!(read("https://abc.example/live", &nobody).unwrap_err().contains("no credentials"));
    }
}
