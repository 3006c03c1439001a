//! From an HTTP API's event, in payload format 2.0, to a request; a [`connection`]'s event makes one too.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use std::collections::BTreeMap;

use aws_smithy_types::base64;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request,
    header::{self, InvalidHeaderName, InvalidHeaderValue, MaxSizeReached},
    method::InvalidMethod,
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    Body, Caller,
    connection::{self, ConnectionId},
    target::{TargetError, target},
};

/// The longest route key that is a metric's dimension.
const LONGEST_ROUTE: usize = 256;

/// API Gateway's id of a request, by which its access log names it: an extension of each request. It is empty where the event
/// names none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestId(pub String);

/// When API Gateway received the request, by its own clock, in milliseconds since 1970: an extension of each request. Neither a
/// cold start nor a wait for an environment makes it later. Nothing: the event does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceivedAt(pub Option<u64>);

/// What is read of an event. Everything else is not judged.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Event {
    raw_path: String,
    raw_query_string: Option<String>,
    query_string_parameters: Value,
    route_key: Option<String>,
    headers: Option<BTreeMap<String, String>>,
    cookies: Option<Vec<String>>,
    body: Option<String>,
    is_base64_encoded: Option<bool>,
    request_context: Context,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Context {
    stage: Option<String>,
    request_id: Option<String>,
    route_key: Option<String>,
    connection_id: Value,
    event_type: Value,
    time_epoch: Value,
    authorizer: Value,
    http: Http,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Http {
    method: String,
}

/// Why an event makes no request. The text says nothing of what a client sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum EventError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("the method is not valid: {0}")]
    Method(#[from] InvalidMethod),
    #[error("what happens to the connection is not known")]
    Connection,
    #[error("a header's name is not valid: {0}")]
    HeaderName(#[from] InvalidHeaderName),
    #[error("a header's value is not valid: {0}")]
    HeaderValue(#[from] InvalidHeaderValue),
    #[error("there are too many headers: {0}")]
    Headers(#[from] MaxSizeReached),
    #[error("the body is said to be Base64 and is not")]
    Body,
}

impl Event {
    /// The route that API Gateway chose, such as `GET /v1/reservations/{id}`; `unknown` where the event names none that can
    /// be a metric's dimension.
    pub(super) fn route(&self) -> &str {
        let fits = |key: &&str| {
            let printable = key.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            printable && !key.trim().is_empty() && key.len() <= LONGEST_ROUTE
        };
        let stated = match ConnectionId::of(&self.request_context.connection_id) {
            None => &self.route_key,
            Some(_) => &self.request_context.route_key,
        };
        stated.as_deref().filter(fits).unwrap_or("unknown")
    }

    /// API Gateway's id of the request.
    pub(super) fn request_id(&self) -> RequestId {
        RequestId(self.request_context.request_id.clone().unwrap_or_default())
    }

    /// The request's headers, its cookies among them.
    ///
    /// # Errors
    /// When a name or a value can't be a header's.
    pub(super) fn headers(&mut self) -> Result<HeaderMap, EventError> {
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers.take().into_iter().flatten() {
            headers.try_append(HeaderName::from_bytes(name.as_bytes())?, HeaderValue::from_bytes(value.as_bytes())?)?;
        }
        // API Gateway takes them out of the headers. Should one be there as well, it is the same once more.
        let cookies = self.cookies.take().unwrap_or_default();
        if !cookies.is_empty() {
            headers.insert(header::COOKIE, HeaderValue::from_bytes(cookies.join("; ").as_bytes())?);
        }
        Ok(headers)
    }

    /// The request with these headers.
    ///
    /// # Errors
    /// When the event makes none.
    pub(super) fn request(self, headers: HeaderMap) -> Result<Request<Body>, EventError> {
        let Context { stage, time_epoch, authorizer, http, connection_id, event_type, .. } = self.request_context;
        let body = match self.body {
            Some(body) if self.is_base64_encoded == Some(true) => base64::decode(body).map_err(|_| EventError::Body)?,
            Some(body) => body.into_bytes(),
            None => Vec::new(),
        };
        let mut request = Request::new(Body::from(body));
        match ConnectionId::of(&connection_id) {
            None => {
                let query = self.raw_query_string.unwrap_or_default();
                *request.uri_mut() = target(&self.raw_path, &query, stage.as_deref().unwrap_or_default())?;
                *request.method_mut() = Method::from_bytes(http.method.as_bytes())?;
            }
            Some(id) => {
                *request.uri_mut() = target("/", &connection::query(&self.query_string_parameters), "")?;
                *request.method_mut() = connection::method(&event_type).ok_or(EventError::Connection)?;
                request.extensions_mut().insert(id);
            }
        }
        *request.headers_mut() = headers;
        request.extensions_mut().insert(Caller::of(&authorizer));
        request.extensions_mut().insert(ReceivedAt(time_epoch.as_u64()));
        Ok(request)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    /// What an HTTP API sends for a request with everything in it, by what was recorded of a real one.
    fn full() -> Value {
        json!({
            "version": "2.0",
            "routeKey": "ANY /v1/{proxy+}",
            "rawPath": "/v1/a b",
            "rawQueryString": "repeat=one&repeat=two&plus=a+b",
            "cookies": ["session=abc", "theme=dark"],
            "headers": {
                "accept": "*/*",
                "content-type": "application/json",
                "host": "abc.execute-api.eu-west-1.amazonaws.com",
                "x-probe": "first,second",
                "x-amzn-trace-id": "Root=1-6a5145a9-1bae89e2512ec92d5d9438a0",
            },
            "queryStringParameters": {"repeat": "one,two", "plus": "a b"},
            "pathParameters": {"proxy": "a b"},
            "requestContext": {
                "accountId": "123456789012",
                "apiId": "abc",
                "authorizer": {"jwt": {"claims": {"sub": "usr_1", "exp": "1785675600"}, "scopes": ["tickets"]}},
                "domainName": "abc.execute-api.eu-west-1.amazonaws.com",
                "domainPrefix": "abc",
                "http": {
                    "method": "POST", "path": "/v1/a b", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1",
                    "userAgent": "curl/8.7.1",
                },
                "requestId": "ATfSmjLgPHcESJw=",
                "routeKey": "ANY /v1/{proxy+}",
                "stage": "$default",
                "time": "10/Jul/2026:19:19:05 +0000",
                "timeEpoch": 1_783_711_145_766_i64,
            },
            "body": "{\"unicode\":\"λ\"}",
            "isBase64Encoded": false,
        })
    }

    fn read(event: &Value) -> Result<Request<Body>, EventError> {
        let mut event: Event = serde_json::from_str(&event.to_string()).unwrap();
        let headers = event.headers()?;
        event.request(headers)
    }

    fn with(path: &str, value: Value) -> Value {
        let mut event = full();
        *event.pointer_mut(path).unwrap() = value;
        event
    }

    fn without(field: &str) -> Value {
        let mut event = full();
        event.as_object_mut().unwrap().remove(field).unwrap();
        event
    }

    async fn body(request: Request<Body>) -> Vec<u8> {
        request.into_body().collect().await.unwrap().to_bytes().into()
    }

    #[test]
    fn a_request_was_received_when_api_gateway_says() {
        let at = |event: &Value| read(event).unwrap().extensions().get::<ReceivedAt>().copied();
        assert_eq!(at(&full()), Some(ReceivedAt(Some(1_783_711_145_766))));
        for unsaid in [json!(null), json!("1783711145766"), json!(-1), json!(1.5)] {
            assert_eq!(at(&with("/requestContext/timeEpoch", unsaid)), Some(ReceivedAt(None)));
        }
    }

    #[tokio::test]
    async fn a_request_is_what_its_client_sent() {
        let request = read(&full()).unwrap();
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri(), "/v1/a%20b?repeat=one&repeat=two&plus=a+b");
        assert_eq!(request.headers()["x-probe"], "first,second", "repeated ones come joined");
        assert_eq!(request.headers()["host"], "abc.execute-api.eu-west-1.amazonaws.com");
        let subject = Caller::Subject { sub: "usr_1".to_owned(), scopes: vec!["tickets".to_owned()] };
        assert_eq!(request.extensions().get::<Caller>(), Some(&subject));
        assert_eq!(body(request).await, "{\"unicode\":\"λ\"}".as_bytes());
    }

    #[test]
    fn cookies_are_one_header() {
        let request = read(&full()).unwrap();
        assert_eq!(request.headers().get_all("cookie").iter().collect::<Vec<_>>(), ["session=abc; theme=dark"]);
        let twice = with("/headers", json!({"cookie": "session=abc; theme=dark"}));
        assert_eq!(read(&twice).unwrap().headers().get_all("cookie").iter().count(), 1);
        assert_eq!(read(&without("cookies")).unwrap().headers().get("cookie"), None);
    }

    #[test]
    fn header_names_are_lower_case_and_none_is_lost() {
        let request = read(&with("/headers", json!({"X-One": "1", "x-one": "2", "Accept": "é"}))).unwrap();
        assert_eq!(request.headers().get_all("x-one").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(request.headers()["accept"].as_bytes(), "é".as_bytes());
        for headers in [json!(null), json!({})] {
            assert!(read(&with("/headers", headers)).is_ok());
        }
    }

    #[tokio::test]
    async fn a_body_in_base64_is_decoded_and_a_missing_one_is_empty() {
        let mut event = with("/body", json!("//4A"));
        event["isBase64Encoded"] = json!(true);
        assert_eq!(body(read(&event).unwrap()).await, b"\xff\xfe\0");
        assert_eq!(body(read(&without("body")).unwrap()).await, b"");
        assert_eq!(body(read(&with("/body", json!(null))).unwrap()).await, b"");
        assert_eq!(body(read(&without("isBase64Encoded")).unwrap()).await, "{\"unicode\":\"λ\"}".as_bytes());
    }

    #[test]
    fn the_stage_is_no_part_of_the_path() {
        let mut event = with("/rawPath", json!("/prod/v1/a"));
        event["requestContext"]["stage"] = json!("prod");
        assert_eq!(read(&event).unwrap().uri().path(), "/v1/a");
    }

    #[test]
    fn an_event_that_makes_no_request_says_why_without_a_word_of_its_client() {
        #[track_caller]
        fn check(event: Value, expected: &str) {
            let error = read(&event).unwrap_err().to_string();
            assert!(error.starts_with(expected) && !error.contains("secret"), "{error:?} of {event}");
        }
        check(with("/rawPath", json!("secret")), "the path does not begin with a slash");
        check(without("rawPath"), "the path does not begin with a slash");
        check(with("/requestContext/http/method", json!("")), "the method is not valid");
        check(with("/requestContext/http/method", json!("GET secret")), "the method is not valid");
        check(without("requestContext"), "the method is not valid");
        check(with("/headers", json!({"secret name": "a"})), "a header's name is not valid");
        check(with("/headers", json!({"": "secret"})), "a header's name is not valid");
        check(with("/headers", json!({"a": "secret\r\nb: c"})), "a header's value is not valid");
        check(with("/cookies", json!(["a=secret\n"])), "a header's value is not valid");
        check(with("/isBase64Encoded", json!(true)), "the body is said to be Base64");
        let many: BTreeMap<String, &str> = (0..40_000).map(|number| (format!("x-{number}"), "")).collect();
        check(with("/headers", json!(many)), "there are too many headers");
    }

    #[test]
    fn the_route_is_the_one_that_api_gateway_chose() {
        let route = |key: Value| serde_json::from_value::<Event>(with("/routeKey", key)).unwrap().route().to_owned();
        assert_eq!(route(json!("ANY /v1/{proxy+}")), "ANY /v1/{proxy+}");
        assert_eq!(route(json!("$default")), "$default");
        for none in [json!(null), json!(""), json!(" "), json!("é"), json!("a\n"), json!("x".repeat(257))] {
            assert_eq!(route(none), "unknown");
        }
    }

    /// What a WebSocket API sends.
    fn of_a_connection(event_type: &str, route: &str) -> Value {
        json!({
            "headers": {"Host": "abc.execute-api.eu-west-1.amazonaws.com", "Sec-WebSocket-Version": "13"},
            "multiValueHeaders": {"Host": ["abc.execute-api.eu-west-1.amazonaws.com"]},
            "queryStringParameters": {"ticket": "a.b-c_d"},
            "requestContext": {
                "routeKey": route, "eventType": event_type, "extendedRequestId": "d5v-6GsuDoEF1QA=",
                "messageDirection": "IN", "stage": "live", "connectedAt": 1_783_711_145_700_i64,
                "requestTimeEpoch": 1_783_711_145_766_i64, "requestId": "d5v-6GsuDoEF1QA=", "connectionId": "d5v-6cqGDoECIfQ=",
                "apiId": "abc", "domainName": "abc.execute-api.eu-west-1.amazonaws.com",
                "identity": {"sourceIp": "192.0.2.1"},
            },
            "isBase64Encoded": false,
        })
    }

    #[test]
    fn what_happens_to_a_connection_is_a_request_about_it() {
        for (event_type, route, method) in [
            ("CONNECT", "$connect", Method::PUT),
            ("MESSAGE", "$default", Method::POST),
            ("DISCONNECT", "$disconnect", Method::DELETE),
        ] {
            let event = of_a_connection(event_type, route);
            let request = read(&event).unwrap();
            assert_eq!((request.method(), request.uri().query()), (&method, Some("ticket=a.b-c_d")));
            assert_eq!(request.extensions().get(), Some(&ConnectionId("d5v-6cqGDoECIfQ=".to_owned())));
            let event: Event = serde_json::from_str(&event.to_string()).unwrap();
            assert_eq!((event.route(), event.request_id().0.as_str()), (route, "d5v-6GsuDoEF1QA="));
        }
        let unknown = read(&of_a_connection("PAUSE", "$default")).unwrap_err();
        assert_eq!(unknown.to_string(), "what happens to the connection is not known");
        assert_eq!(read(&full()).unwrap().extensions().get::<ConnectionId>(), None, "a client can't name one");
    }

    #[test]
    fn a_request_has_the_id_of_api_gateways_access_log() {
        let id = |event: Value| serde_json::from_value::<Event>(event).unwrap().request_id();
        assert_eq!(id(full()), RequestId("ATfSmjLgPHcESJw=".to_owned()));
        assert_eq!(id(without("requestContext")), RequestId::default());
    }
}
