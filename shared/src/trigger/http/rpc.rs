//! A service of Connect and gRPC-Web behind an HTTP API: its calls by their paths, by the protocols that API Gateway passes on,
//! and what every such service says of who calls and of waiting.

use std::{future::ready, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get_service, post_service},
};
use buffa_types::google::protobuf::Timestamp;
use connectrpc::{ConnectError, ConnectRpcService, Limits, RequestContext};

use super::{Caller, Route, TraceId, is_native_grpc, refuse_native_grpc};
use crate::backoff::whole_seconds;

/// The calls of a service, each counted under its name in `routes`, such as `POST /{service}/{method}`. A message that is
/// longer is not read.
pub fn router(
    service: connectrpc::Router,
    routes: impl IntoIterator<Item = &'static str>,
    longest_message: usize,
) -> Router {
    let limits = Limits::default().with_max_request_body_size(longest_message).with_max_message_size(longest_message);
    let service = ConnectRpcService::new(service).with_limits(limits);
    let named = |name: &'static str| {
        let (method, path) = name.split_once(' ').unwrap_or_default();
        let route: MethodRouter = match method {
            "GET" => get_service(service.clone()),
            _ => post_service(service.clone()),
        };
        let noted = middleware::map_response(move |mut response: Response| {
            response.extensions_mut().insert(Route(name));
            ready(response)
        });
        Router::new().route(path, route.route_layer(noted))
    };
    let routed = routes.into_iter().fold(Router::new(), |routed, name| routed.merge(named(name)));
    routed
        // It says in the caller's own protocol that there is no such method.
        .fallback_service(service)
        .layer(middleware::from_fn(by_other_protocols))
}

/// A browser's question before a page calls is answered here, because no protocol of RPC has it.
async fn by_other_protocols(request: Request, next: Next) -> Response {
    if request.method() == Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, "POST,OPTIONS")]).into_response();
    }
    if !is_native_grpc(request.headers()) {
        return next.run(request).await;
    }
    let Some(trace_id) = request.extensions().get::<TraceId>() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    refuse_native_grpc().response(trace_id).map(axum::body::Body::new)
}

/// The customer that the front door has found to be calling, who may leave his own id out of the message.
///
/// # Errors
/// When it named nobody, or the message names somebody else.
pub fn customer(context: &RequestContext, named: &str) -> Result<String, ConnectError> {
    let caller = context.extensions().get::<Caller>().and_then(Caller::customer);
    let Some(user_id) = caller else {
        return Err(ConnectError::unauthenticated("nobody is known to be calling; send a token"));
    };
    if named.is_empty() || named == user_id {
        Ok(user_id.to_owned())
    } else {
        Err(ConnectError::permission_denied("user_id is not the customer whom the token names; leave it out"))
    }
}

/// The same fault with the time after which another try makes sense, in whole seconds, rounded up.
pub fn waiting(mut fault: ConnectError, after: Option<Duration>) -> ConnectError {
    if let Some(after) = after {
        fault.response_headers_mut().insert("retry-after", whole_seconds(after).into());
    }
    fault
}

/// A moment as messages have it, of milliseconds since the epoch.
pub fn timestamp(epoch_ms: u64) -> Timestamp {
    Timestamp {
        seconds: i64::try_from(epoch_ms / 1_000).unwrap_or(i64::MAX),
        nanos: i32::try_from(epoch_ms % 1_000 * 1_000_000).unwrap_or_default(),
        ..Default::default()
    }
}
