//! Events of an HTTP API, payload format 2.0, as API Gateway makes them of a request.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html>

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, Request, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description};
use uuid::Uuid;

/// The id of the local API, which has only one stage.
pub const API: &str = "local";

/// The form of a request's time.
const TIME: &str = "[day]/[month repr:short]/[year]:[hour]:[minute]:[second] +0000";

/// Headers between two neighbours, which no function sees.
const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

/// What API Gateway knows of a request beside what its client sent.
#[derive(Clone, Debug)]
pub struct HttpEvent<'a> {
    /// The key of the route that takes it.
    pub route_key: &'a str,
    /// Its path, decoded.
    pub path: &'a str,
    /// What the path holds for the route's parameters.
    pub path_parameters: &'a [(String, String)],
    /// `requestContext.authorizer`; nothing on a route for everybody.
    pub authorizer: Option<Value>,
    /// Where it came from.
    pub source: IpAddr,
    /// Its id.
    pub request_id: &'a str,
}

impl<'a> HttpEvent<'a> {
    /// What is known of a request on a route for everybody.
    pub fn on(route_key: &'a str, path: &'a str) -> Self {
        let source = Ipv4Addr::LOCALHOST.into();
        Self { route_key, path, path_parameters: &[], authorizer: None, source, request_id: "JKJaXmPLvHcESHA=" }
    }

    /// The event of a request.
    pub fn of(&self, request: &Request<Bytes>) -> Value {
        let now = OffsetDateTime::now_utc();
        let time = format_description::parse_borrowed::<2>(TIME).ok().and_then(|form| now.format(&form).ok());
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = text(header::HOST);
        let query = request.uri().query().unwrap_or_default();
        let method = request.method().as_str();
        let mut event = json!({
            "version": "2.0",
            "routeKey": self.route_key,
            "rawPath": self.path,
            "rawQueryString": query,
            "headers": self.headers(request.headers()),
            "requestContext": {
                "accountId": "000000000000",
                "apiId": API,
                "domainName": host,
                "domainPrefix": host.split(['.', ':']).next(),
                "http": {
                    "method": method,
                    "path": self.path,
                    "protocol": "HTTP/1.1",
                    "sourceIp": self.source.to_string(),
                    "userAgent": text(header::USER_AGENT),
                },
                "requestId": self.request_id,
                "routeKey": self.route_key,
                "stage": "$default",
                "time": time,
                "timeEpoch": i64::try_from(now.unix_timestamp_nanos() / 1_000_000).unwrap_or_default(),
            },
            "isBase64Encoded": false,
        });
        if let Some(authorizer) = &self.authorizer {
            event["requestContext"]["authorizer"] = authorizer.clone();
        }
        // What there is none of has no field.
        let cookies = cookies(request.headers());
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if !query.is_empty() {
            event["queryStringParameters"] = json!(parameters(query));
        }
        if !self.path_parameters.is_empty() {
            event["pathParameters"] = json!(self.path_parameters.iter().cloned().collect::<BTreeMap<_, _>>());
        }
        if !request.body().is_empty() {
            let body = request.body();
            match std::str::from_utf8(body) {
                Ok(body) if is_text(text(header::CONTENT_TYPE)) => event["body"] = json!(body),
                Ok(_) | Err(_) => {
                    event["body"] = json!(BASE64_STANDARD.encode(body));
                    event["isBase64Encoded"] = json!(true);
                }
            }
        }
        event
    }

    /// The headers in small letters, repeated ones joined, with those that API Gateway sets.
    fn headers(&self, sent: &HeaderMap) -> BTreeMap<String, String> {
        let mut headers: BTreeMap<String, String> = BTreeMap::new();
        let passed_on = |name: &str| name != header::COOKIE.as_str() && !HOP_BY_HOP.contains(&name);
        for (name, value) in sent.iter().filter(|(name, _)| passed_on(name.as_str())) {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            let joined = |earlier: &mut String| *earlier = format!("{earlier},{value}");
            headers.entry(name.as_str().to_owned()).and_modify(joined).or_insert(value.clone());
        }
        headers.insert("x-forwarded-for".to_owned(), self.source.to_string());
        headers.insert("x-forwarded-proto".to_owned(), "https".to_owned());
        headers.insert("x-forwarded-port".to_owned(), "443".to_owned());
        let trace = || {
            let (seconds, random) = (OffsetDateTime::now_utc().unix_timestamp(), Uuid::new_v4().simple().to_string());
            format!("Root=1-{seconds:08x}-{}", &random[..24])
        };
        headers.entry("x-amzn-trace-id".to_owned()).or_insert_with(trace);
        headers
    }
}

fn cookies(headers: &HeaderMap) -> Vec<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    all.flat_map(|value| value.split(';')).map(str::trim).filter(|cookie| !cookie.is_empty()).collect()
}

/// The query's parameters, decoded; the values of one name are joined.
fn parameters(query: &str) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let joined = |earlier: &mut String| *earlier = format!("{earlier},{value}");
        parameters.entry(name.into_owned()).and_modify(joined).or_insert(value.to_string());
    }
    parameters
}

/// Whether a body of this type goes as a text; every other goes in Base64, one without a type too.
fn is_text(content_type: &str) -> bool {
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    content_type.starts_with("text/")
        || ["application/json", "application/xml", "application/javascript"].contains(&content_type.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Request<Bytes> {
        let mut request = Request::builder().method(method).uri(target).header("host", "api.example:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Bytes::from_static(body)).unwrap()
    }

    #[test]
    fn an_event_has_a_request_in_the_form_of_api_gateway() {
        let headers = [("X-Probe", "first"), ("x-probe", "second"), ("content-type", "application/json")];
        let request = request("POST", "/v1/a%20b?repeat=one&repeat=two&plus=a+b", &headers, b"{}");
        let parameters = [("proxy".to_owned(), "a b".to_owned())];
        let about = HttpEvent { path_parameters: &parameters, ..HttpEvent::on("ANY /v1/{proxy+}", "/v1/a b") };
        let event = about.of(&request);
        assert_eq!((&event["version"], &event["routeKey"]), (&json!("2.0"), &json!("ANY /v1/{proxy+}")));
        assert_eq!(
            (&event["rawPath"], &event["rawQueryString"]),
            (&json!("/v1/a b"), &json!("repeat=one&repeat=two&plus=a+b"))
        );
        assert_eq!(event["queryStringParameters"], json!({"repeat": "one,two", "plus": "a b"}));
        assert_eq!(event["pathParameters"], json!({"proxy": "a b"}));
        assert_eq!((&event["body"], &event["isBase64Encoded"]), (&json!("{}"), &json!(false)));
        assert_eq!(event["headers"]["x-probe"], "first,second");
        let context = &event["requestContext"];
        assert_eq!((&context["http"]["method"], &context["stage"]), (&json!("POST"), &json!("$default")));
        let (day, time) = context["time"].as_str().unwrap().split_once(':').unwrap();
        assert_eq!((day.len(), time.len()), ("27/Nov/2026".len(), "00:00:00 +0000".len()), "{context}");
        assert_eq!((&context["domainName"], &context["domainPrefix"]), (&json!("api.example:8080"), &json!("api")));
    }

    #[test]
    fn what_a_request_has_none_of_has_no_field() {
        let event = HttpEvent::on("GET /", "/").of(&request("GET", "/", &[], b""));
        for field in ["cookies", "queryStringParameters", "pathParameters", "body"] {
            assert_eq!(event.get(field), None, "{field}");
        }
        assert_eq!(event["rawQueryString"], "");
        assert_eq!(event["requestContext"].get("authorizer"), None);
    }

    #[test]
    fn cookies_leave_the_headers() {
        let headers = [("cookie", "a=1; b=2"), ("cookie", "c=3;")];
        let event = HttpEvent::on("GET /", "/").of(&request("GET", "/", &headers, b""));
        assert_eq!(event["cookies"], json!(["a=1", "b=2", "c=3"]));
        assert_eq!(event["headers"].get("cookie"), None);
    }

    #[test]
    fn a_body_is_text_only_by_its_type() {
        let of = |content_type: &str, body: &'static [u8]| {
            let headers = [("content-type", content_type)];
            let event = HttpEvent::on("POST /", "/").of(&request(
                "POST",
                "/",
                &headers[usize::from(content_type.is_empty())..],
                body,
            ));
            (event["body"].as_str().unwrap().to_owned(), event["isBase64Encoded"].as_bool().unwrap())
        };
        for text in ["text/plain", "Application/JSON; charset=utf-8", "application/xml", "application/javascript"] {
            assert_eq!(of(text, b"ab\n"), ("ab\n".to_owned(), false), "{text}");
        }
        for other in ["", "application/proto", "application/x-www-form-urlencoded", "application/problem+json"] {
            assert_eq!(of(other, b"ab\n"), ("YWIK".to_owned(), true), "{other}");
        }
        assert_eq!(of("text/plain", b"\xff\xfe"), ("//4=".to_owned(), true));
    }

    #[test]
    fn api_gateway_sets_headers_of_its_own_and_keeps_a_trace() {
        let of = |headers: &[(&str, &str)]| {
            let event = HttpEvent::on("GET /", "/").of(&request("GET", "/", headers, b""));
            event["headers"].clone()
        };
        let headers = of(&[("x-forwarded-for", "192.0.2.1"), ("connection", "close")]);
        assert_eq!(
            (&headers["x-forwarded-for"], &headers["x-forwarded-proto"]),
            (&json!("127.0.0.1"), &json!("https"))
        );
        assert_eq!(headers.get("connection"), None);
        assert!(headers["x-amzn-trace-id"].as_str().unwrap().starts_with("Root=1-"));
        assert_eq!(of(&[("x-amzn-trace-id", "Root=1-2-3")])["x-amzn-trace-id"], "Root=1-2-3");
    }
}
