//! Native gRPC for a developer's machine, with reflection, so that grpcurl and grpcui work on it. An HTTP API has no place for
//! the trailers in which native gRPC ends, and its functions refuse it. Here each call goes through the gateway as gRPC-Web,
//! with its token, to the same function.

use std::{future::ready, io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, Uri, Version, header},
    response::Response,
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::{
    Code, Status,
    service::Routes,
    transport::{Server, server::TcpIncoming},
};
use tonic_web::{GrpcWebCall, GrpcWebClientService};
use tower_service::Service;

use super::Gateway;
use crate::{
    proto::{
        booking_worker::v1::booking_worker_service_server::SERVICE_NAME as WAITING_ROOM,
        reservation::v1::reservation_service_server::SERVICE_NAME as RESERVATIONS,
    },
    reflection::with_reflection,
};

/// A running server; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct NativeGrpc {
    address: SocketAddr,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NativeGrpcError {
    /// The port can't be had.
    #[error("listen for native gRPC: {0}")]
    Listen(#[from] io::Error),
    /// The descriptors can't be served.
    #[error("serve gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

type GrpcWebClient = GrpcWebClientService<Client<HttpConnector, GrpcWebCall<Body>>>;

/// Where calls go.
#[derive(Clone)]
struct Behind {
    gateway: String,
    client: GrpcWebClient,
}

impl NativeGrpc {
    /// Serves what the functions behind the gateway do, on a loopback port; 0 is any that is free.
    ///
    /// # Errors
    /// When it can't listen, or has nothing to tell by reflection.
    pub async fn start_on(port: u16, gateway: &Gateway) -> Result<Self, NativeGrpcError> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let client = GrpcWebClientService::new(Client::builder(TokioExecutor::new()).build_http());
        let calls = Router::new().fallback(call).with_state(Behind { gateway: gateway.url(), client });
        let behind: Vec<&str> =
            [RESERVATIONS, WAITING_ROOM].into_iter().filter(|service| gateway.leads_to(service)).collect();
        let routes = with_reflection(Routes::from(calls), &behind)?;
        let server = Server::builder().add_routes(routes).serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async move { drop(server.await) });
        Ok(Self { address, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// Where it listens, as grpcurl takes it.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Calls a function, and gives its answer back as native gRPC.
async fn call(State(mut behind): State<Behind>, mut request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let Ok(uri) = format!("{}{path}", behind.gateway).parse::<Uri>() else {
        return refused(Code::InvalidArgument, "the method's name makes no address");
    };
    *request.uri_mut() = uri;
    *request.version_mut() = Version::HTTP_11;
    request.headers_mut().remove(header::TE);
    let answer = match behind.client.call(request).await {
        Ok(answer) => answer,
        Err(error) => return refused(Code::Unavailable, &format!("the gateway can't be reached: {error}")),
    };
    let (mut parts, body) = answer.into_parts();
    let kind = parts.headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if parts.status != StatusCode::OK || !kind.starts_with("application/grpc-web") {
        return refused(code_of(parts.status), &format!("the gateway answered {}", parts.status));
    }
    // Whole, because a body of gRPC-Web seems to have ended before its trailers are read from it.
    let collected = match body.collect().await {
        Ok(collected) => collected,
        Err(error) => return refused(Code::Internal, error.message()),
    };
    let trailers = collected.trailers().cloned();
    let body = Full::new(collected.to_bytes()).with_trailers(ready(trailers.map(Ok)));
    for name in [header::CONTENT_LENGTH, header::CONNECTION, header::TRANSFER_ENCODING] {
        parts.headers.remove(name);
    }
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    parts.version = Version::HTTP_2;
    Response::from_parts(parts, Body::new(body))
}

fn refused(code: Code, message: &str) -> Response {
    Status::new(code, message).into_http()
}

/// What an HTTP status means to a caller by gRPC, as gRPC's own mapping says.
fn code_of(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    }
}
