//! API Gateway in front of the functions. Its WebSocket API is in [`sockets`]; this is its HTTP API: routes, authorizers,
//! events of payload format 2.0, answers, and what API Gateway says by itself.
//!
//! | rule | answer when it is broken |
//! | --- | --- |
//! | request line and headers have at most 10,240 bytes | 431 `{"message":"Request Header Fields Too Large"}` |
//! | a body has at most 10 MB, its event at most the 6 MB that Lambda takes | 413 `{"message":"Request Entity Too Large"}` |
//! | the body comes to its end, and the path can be decoded | 400 `{"message":"Bad Request"}` |
//! | a route takes the request | 404 `{"message":"Not Found"}` |
//! | the route's authorizer knows the caller | 401 `{"message":"Unauthorized"}`, 403 `{"message":"Forbidden"}` |
//! | the function answers something that makes a response | 500 `{"message":"Internal Server Error"}` |
//! | it answers within 30 s, and Lambda has an environment for it | 503 `{"message":"Service Unavailable"}` |
//!
//! What it does not do: CORS, throttling, the policies of signed callers, stages, access logs.

mod answer;
mod issuer;
mod jwt;
mod native_grpc;
mod path;
mod route;
mod signature;
pub mod sockets;
mod target;

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderValue, Response, StatusCode, header, request::Parts},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::{net::TcpListener, time::timeout};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::{
    answer::{message, response},
    jwt::{JwtAuthorizer, Refusal},
    route::Routes,
};
pub use self::{
    issuer::{AUDIENCE, Issuer, SigningError, Token},
    jwt::JwtConfiguration,
    native_grpc::{NativeGrpc, NativeGrpcError},
    route::{Authorization, ConflictError, Route, RouteKey, RouteKeyError},
    signature::AccessKey,
    target::Target,
};
use crate::{http_event::HttpEvent, lambda::FunctionError};

/// Where the local account is.
const REGION: &str = "us-east-1";

/// The most that request line and headers may have, in bytes.
const LONGEST_HEAD: usize = 10_240;

/// The longest body, in bytes.
const LONGEST_BODY: usize = 10 * 1024 * 1024;

/// The longest event that Lambda takes, in bytes.
const LONGEST_EVENT: usize = 6 * 1024 * 1024;

/// How long API Gateway waits for a function at most.
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// An API as it is deployed.
#[derive(Clone, Debug)]
pub struct GatewayOptions {
    /// The loopback port; 0 is any that is free.
    pub port: u16,
    /// The routes, in any order.
    pub routes: Vec<Route>,
    /// The functions of the routes, by their names.
    pub functions: BTreeMap<String, Target>,
    /// The API's JWT authorizer.
    pub jwt: Option<JwtConfiguration>,
    /// Who may call routes with `AWS_IAM`.
    pub access_keys: Vec<AccessKey>,
    /// How long a function may take, [`TIMEOUT`] at most.
    pub timeout: Duration,
}

/// A running API; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Gateway {
    address: SocketAddr,
    keys: Arc<[RouteKey]>,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// Why an API can't be deployed.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// No loopback port.
    #[error("listen on 127.0.0.1: {0}")]
    Listen(#[from] io::Error),
    /// Two routes take the same requests.
    #[error(transparent)]
    Conflict(#[from] ConflictError),
    /// A route's function is not among those of the API.
    #[error("the route {0} invokes {1}, which is no function of the API")]
    Function(String, String),
    /// A route asks for a token, and nobody is there to check it.
    #[error("the route {0} asks for a token, and the API has no JWT authorizer")]
    Authorizer(String),
}

#[derive(Debug)]
struct Api {
    routes: Routes,
    functions: BTreeMap<String, Target>,
    jwt: Option<JwtAuthorizer>,
    access_keys: Vec<AccessKey>,
    timeout: Duration,
    http: reqwest::Client,
}

impl Gateway {
    /// Deploys an API.
    ///
    /// # Errors
    /// When its routes contradict each other or name what is not there, or the port can't be had.
    pub async fn start(options: GatewayOptions) -> Result<Self, GatewayError> {
        let GatewayOptions { port, routes, functions, jwt, access_keys, timeout } = options;
        let routes = Routes::of(routes)?;
        for Route { key, authorization, function } in routes.iter() {
            if !functions.contains_key(function) {
                return Err(GatewayError::Function(key.to_string(), function.clone()));
            }
            if matches!(authorization, Authorization::Jwt { .. }) && jwt.is_none() {
                return Err(GatewayError::Authorizer(key.to_string()));
            }
        }
        let keys = routes.iter().map(|route| route.key.clone()).collect();
        let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        let (jwt, timeout) = (jwt.map(JwtAuthorizer::new), timeout.min(TIMEOUT));
        let api = Arc::new(Api { routes, functions, jwt, access_keys, timeout, http });
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let requests = Router::new().fallback(serve).with_state(api);
        let server = tokio::spawn(async move { drop(axum::serve(listener, requests).await) });
        Ok(Self { address, keys, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// Where the API listens, without a slash behind it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Whether the first part of a route's path is this, such as the name of a service.
    pub fn leads_to(&self, service: &str) -> bool {
        let first = |key: &RouteKey| key.as_str().split('/').nth(1) == Some(service);
        self.keys.iter().any(first)
    }
}

async fn serve(State(api): State<Arc<Api>>, request: Request) -> Response<Body> {
    let id = BASE64_STANDARD.encode(&Uuid::new_v4().as_bytes()[..11]);
    let mut response = api.answer(request, &id).await.unwrap_or_else(|refusal| refusal);
    response
        .headers_mut()
        .extend(HeaderValue::from_str(&id).map(|id| (header::HeaderName::from_static("apigw-requestid"), id)));
    response
}

impl Api {
    /// The function's response, or else API Gateway's own.
    async fn answer(&self, request: Request, id: &str) -> Result<Response<Body>, Response<Body>> {
        let too_large = || message(StatusCode::PAYLOAD_TOO_LARGE, "Request Entity Too Large");
        let (head, body) = request.into_parts();
        if length(&head) > LONGEST_HEAD {
            return Err(message(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Request Header Fields Too Large"));
        }
        let bad = || message(StatusCode::BAD_REQUEST, "Bad Request");
        let body = read(body).await.map_err(|_broken_off| bad())?.ok_or_else(too_large)?;
        let path = path::decoded(head.uri.path()).ok_or_else(bad)?;
        let not_found = || message(StatusCode::NOT_FOUND, "Not Found");
        let (route, parameters) = self.routes.find(head.method.as_str(), &path).ok_or_else(not_found)?;
        let authorizer = self.authorize(route, &head, &body).await?;
        let target = self.functions.get(&route.function).ok_or_else(not_found)?.clone();
        let about = HttpEvent {
            path_parameters: &parameters,
            authorizer,
            request_id: id,
            ..HttpEvent::on(route.key.as_str(), &path)
        };
        let event = about.of(&Request::from_parts(head, body)).to_string();
        if event.len() > LONGEST_EVENT {
            return Err(too_large());
        }

        // Neither a client that leaves nor the time-out ends the invocation.
        let http = self.http.clone();
        let invocation = tokio::spawn(async move { target.invoke(Bytes::from(event), &http).await });
        let failed = || message(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error");
        let unavailable = || message(StatusCode::SERVICE_UNAVAILABLE, "Service Unavailable");
        let ended =
            timeout(self.timeout, invocation).await.map_err(|_elapsed| unavailable())?.map_err(|_panic| failed())?;
        match ended {
            Ok(answer) => response(&answer).ok_or_else(failed),
            Err(FunctionError::Throttled) => Err(unavailable()),
            Err(
                FunctionError::Unhandled { .. }
                | FunctionError::TimedOut
                | FunctionError::Exited(_)
                | FunctionError::Init(_),
            ) => Err(failed()),
        }
    }

    /// What the function is told of the caller.
    async fn authorize(&self, route: &Route, head: &Parts, body: &[u8]) -> Result<Option<Value>, Response<Body>> {
        let forbidden = || message(StatusCode::FORBIDDEN, "Forbidden");
        match (&route.authorization, &self.jwt) {
            (Authorization::None, _) => Ok(None),
            (Authorization::Jwt { scopes }, Some(jwt)) => {
                let token = signature::single(&head.headers, header::AUTHORIZATION.as_str());
                let refused = |refusal| match refusal {
                    Refusal::Unauthorized(reason) => unauthorized(reason),
                    Refusal::Forbidden => forbidden(),
                };
                jwt.authorize(token, scopes).await.map(Some).map_err(refused)
            }
            (Authorization::Jwt { .. }, None) => Err(unauthorized("")),
            (Authorization::Iam, _) => {
                let signer = signature::authorize(head, body, &self.access_keys, REGION, SystemTime::now());
                signer.map(Some).ok_or_else(forbidden)
            }
        }
    }
}

/// The body, unless it is too long. Such a one is read to its end as well, so that its client comes to read the answer.
async fn read(mut body: Body) -> Result<Option<Bytes>, axum::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(frame) = body.frame().await {
        let data = frame?.into_data().unwrap_or_default();
        length += data.len();
        if length <= LONGEST_BODY {
            kept.extend_from_slice(&data);
        }
    }
    Ok((length <= LONGEST_BODY).then(|| kept.into()))
}

/// The bytes of the request line and the headers.
fn length(head: &Parts) -> usize {
    let target = head.uri.path_and_query().map_or(1, |target| target.as_str().len());
    let line = head.method.as_str().len() + target + "  HTTP/1.1\r\n".len();
    head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum::<usize>() + line
}

/// A refused token: API Gateway says in a header what is wrong with it.
fn unauthorized(reason: &'static str) -> Response<Body> {
    let mut response = message(StatusCode::UNAUTHORIZED, "Unauthorized");
    let challenge = match reason {
        "" => "Bearer".to_owned(),
        _ => format!("Bearer scope=\"\" error=\"invalid_token\" error_description=\"{reason}\""),
    };
    response.headers_mut().extend(HeaderValue::from_str(&challenge).map(|value| (header::WWW_AUTHENTICATE, value)));
    response
}
