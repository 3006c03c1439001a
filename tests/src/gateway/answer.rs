//! From what a function answers, in payload format 2.0, to the response that its client gets.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Response, StatusCode, header},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Headers that API Gateway makes by itself.
const OWN: [HeaderName; 4] = [header::CONNECTION, header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::UPGRADE];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    status_code: u16,
    #[serde(default)]
    headers: Option<Map<String, Value>>,
    #[serde(default)]
    cookies: Option<Vec<String>>,
    #[serde(default)]
    body: Option<String>,
    #[serde(default)]
    is_base64_encoded: Option<bool>,
}

/// The response that a function has answered; nothing when API Gateway can make none of it. An answer without a status is
/// itself the body of a success.
pub(super) fn response(answer: &[u8]) -> Option<Response<Body>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    if answer.get("statusCode").is_none() {
        let mut response = Response::new(Body::from(answer.to_string()));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        return Some(response);
    }
    let Answer { status_code, headers, cookies, body, is_base64_encoded } = serde_json::from_value(answer).ok()?;
    let body = body.unwrap_or_default();
    let body = if is_base64_encoded == Some(true) { BASE64_STANDARD.decode(body).ok()? } else { body.into_bytes() };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status_code).ok().filter(|status| (200..600).contains(&status.as_u16()))?;
    for (name, value) in headers.into_iter().flatten() {
        let name: HeaderName = name.parse().ok()?;
        let value = match value {
            Value::String(text) => text,
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => return None,
        };
        if !OWN.contains(&name) {
            response.headers_mut().insert(name, HeaderValue::from_bytes(value.as_bytes()).ok()?);
        }
    }
    for cookie in cookies.into_iter().flatten() {
        response.headers_mut().append(header::SET_COOKIE, HeaderValue::from_bytes(cookie.as_bytes()).ok()?);
    }
    Some(response)
}

/// An answer of API Gateway's own: `{"message": ...}`.
pub(super) fn message(status: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(json!({"message": message}).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(answer: &Value) -> Option<Response<Body>> {
        response(answer.to_string().as_bytes())
    }

    async fn body(response: Response<Body>) -> Vec<u8> {
        axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap().into()
    }

    #[tokio::test]
    async fn a_response_is_what_the_function_answered() {
        let answer = json!({
            "statusCode": 201, "headers": {"Location": "/a", "x-count": 2, "content-length": "9", "connection": "close"},
            "cookies": ["a=1", "b=2"], "body": "made", "isBase64Encoded": false,
        });
        let response = of(&answer).unwrap();
        assert_eq!(response.status(), 201);
        assert_eq!(
            (&response.headers()["location"], &response.headers()["x-count"]),
            (&"/a".parse().unwrap(), &"2".parse().unwrap())
        );
        assert_eq!(response.headers().get_all("set-cookie").iter().collect::<Vec<_>>(), ["a=1", "b=2"]);
        assert_eq!((response.headers().get("content-length"), response.headers().get("connection")), (None, None));
        assert_eq!(body(response).await, b"made");
    }

    #[tokio::test]
    async fn a_body_in_base64_is_decoded_and_a_missing_one_is_empty() {
        let binary = of(&json!({"statusCode": 200, "body": "//4=", "isBase64Encoded": true})).unwrap();
        assert_eq!(body(binary).await, b"\xff\xfe");
        for empty in
            [json!({"statusCode": 204}), json!({"statusCode": 204, "body": null, "headers": null, "cookies": null})]
        {
            assert_eq!(body(of(&empty).unwrap()).await, b"");
        }
    }

    #[tokio::test]
    async fn an_answer_without_a_status_is_the_body_of_a_success() {
        let response = of(&json!({"body": "hello"})).unwrap();
        assert_eq!(
            (response.status(), &response.headers()["content-type"]),
            (StatusCode::OK, &"application/json".parse().unwrap())
        );
        assert_eq!(body(response).await, b"{\"body\":\"hello\"}");
    }

    #[test]
    fn an_answer_that_makes_no_response_is_none() {
        for broken in [
            json!({"statusCode": null}),
            json!({"statusCode": "200"}),
            json!({"statusCode": 99}),
            json!({"statusCode": 101}),
            json!({"statusCode": 600}),
            json!({"statusCode": 200, "headers": {"a b": "c"}}),
            json!({"statusCode": 200, "headers": {"a": "b\nc"}}),
            json!({"statusCode": 200, "headers": {"a": ["b"]}}),
            json!({"statusCode": 200, "cookies": ["a\n"]}),
            json!({"statusCode": 200, "body": {"a": 1}}),
            json!({"statusCode": 200, "body": "?", "isBase64Encoded": true}),
        ] {
            assert!(of(&broken).is_none(), "{broken}");
        }
        assert!(response(b"{").is_none());
    }
}
