//! From an event of a WebSocket API to a request. Such an API knows no methods but what happens to a connection, so that each
//! event is a request about its connection.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-route-keys-connect-disconnect.html>
//!
//! | `eventType` | request | what its answer means there |
//! | --- | --- | --- |
//! | `CONNECT` | `PUT /?{query}` | the connection is opened by a success alone |
//! | `MESSAGE` | `POST /` | nothing, where its route has no response |
//! | `DISCONNECT` | `DELETE /` | nothing: the connection has ended |

use http::Method;
use serde_json::Value;
use url::form_urlencoded;

/// The connection that a request of a WebSocket API is about, by API Gateway's name of it, which it chooses: an extension of
/// each such request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionId(pub String);

/// No name is longer. What is no name of a connection may stand in no key and no address.
const LONGEST_ID: usize = 128;

impl ConnectionId {
    /// The connection of an event by `requestContext.connectionId`. Nothing: the event is none of a WebSocket API.
    pub(super) fn of(stated: &Value) -> Option<Self> {
        let id = stated.as_str()?;
        let fits = (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(id.to_owned()))
    }
}

/// The method by what happens to the connection; nothing, where that is not known.
pub(super) fn method(event_type: &Value) -> Option<Method> {
    match event_type.as_str()? {
        "CONNECT" => Some(Method::PUT),
        "MESSAGE" => Some(Method::POST),
        "DISCONNECT" => Some(Method::DELETE),
        _ => None,
    }
}

/// The query as it can stand in an address. API Gateway hands it over decoded, name by name, and of a name that came twice the
/// last value.
pub(super) fn query(parameters: &Value) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters.as_object().into_iter().flatten() {
        query.append_pair(name, value.as_str().unwrap_or_default());
    }
    query.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_connection_has_the_name_that_api_gateway_gave_it() {
        assert_eq!(ConnectionId::of(&json!("L0SM9cOFvHcCIhw=")), Some(ConnectionId("L0SM9cOFvHcCIhw=".to_owned())));
        for none in [json!(null), json!(""), json!(7), json!("a b"), json!("é"), json!("x".repeat(129))] {
            assert_eq!(ConnectionId::of(&none), None, "{none}");
        }
    }

    #[test]
    fn a_query_arrives_as_it_was_sent() {
        let query = query(&json!({"ticket": "a.b-c_d", "b": "x&y=z%41 é", "c": null}));
        let read: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let expected = [("b", "x&y=z%41 é"), ("c", ""), ("ticket", "a.b-c_d")];
        assert_eq!(read, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert_eq!(super::query(&json!(null)), "");
    }
}
