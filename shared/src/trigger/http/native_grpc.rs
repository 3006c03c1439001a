//! Native gRPC ends an answer with trailers, which an HTTP API has no place for: its caller would wait for a status that never
//! comes. So a service that is called by RPC refuses it before anything else, in words that any client shows.

use http::{HeaderMap, StatusCode, header};

use super::ErrorAnswer;
use crate::name::names;

names! {
    /// The codes of errors that are told before a protocol is known.
    enum Code {
        /// The protocol does not pass through API Gateway.
        UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE",
    }
}

/// Whether a request with these headers speaks native gRPC.
pub fn is_native_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("application/grpc") && !kind.starts_with("application/grpc-web")
}

/// What such a request is answered.
pub fn refuse_native_grpc() -> ErrorAnswer {
    let message = "native gRPC does not pass through API Gateway; call by Connect (application/json, application/proto) or by \
                   gRPC-Web (application/grpc-web+proto)";
    ErrorAnswer::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::UnsupportedMediaType, message)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn only_native_grpc_is_told_apart() {
        let kind = |value: &'static str| {
            is_native_grpc(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]))
        };
        assert!(kind("application/grpc") && kind("application/grpc+proto") && kind("Application/GRPC+json"));
        assert!(!kind("application/grpc-web+proto") && !kind("application/grpc-web") && !kind("application/json"));
        assert!(!is_native_grpc(&HeaderMap::new()));
    }
}
