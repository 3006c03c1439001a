//! Lambda's Invoke API, by which `aws lambda invoke` and `cargo lambda invoke` hand a function an event.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderName, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Function, FunctionError};
use crate::mapping::MAX_PAYLOAD_BYTES;

const FAILED: HeaderName = HeaderName::from_static("x-amz-function-error");

/// The running API; it ends with its last clone.
#[derive(Clone, Debug)]
pub struct InvokeApi {
    address: SocketAddr,
    _servers: Arc<[AbortOnDropHandle<()>]>,
}

impl InvokeApi {
    /// Serves these functions, by their names, on a loopback port; 0 is any that is free. Where the machine has IPv6, on its
    /// loopback too, because `cargo lambda invoke` calls there.
    ///
    /// # Errors
    /// When the port can't be had.
    pub async fn start_on(port: u16, functions: BTreeMap<String, Function>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new()
            .route("/2015-03-31/functions/{name}/invocations", post(invoke))
            .layer(DefaultBodyLimit::max(MAX_PAYLOAD_BYTES))
            .with_state(Arc::new(functions));
        let also = TcpListener::bind((Ipv6Addr::LOCALHOST, address.port())).await.ok();
        let servers = std::iter::once(listener).chain(also).map(|listener| {
            let routes = routes.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { drop(axum::serve(listener, routes).await) }))
        });
        Ok(Self { address, _servers: servers.collect() })
    }

    /// Where it listens, without a slash behind it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn invoke(
    State(functions): State<Arc<BTreeMap<String, Function>>>,
    Path(name): Path<String>,
    event: Bytes,
) -> Response {
    let Some(function) = functions.get(&name) else {
        let message = format!("Function not found: arn:aws:lambda:us-east-1:000000000000:function:{name}");
        return (StatusCode::NOT_FOUND, json!({"Type": "User", "Message": message}).to_string()).into_response();
    };
    match function.invoke(event).await.result {
        Ok(answer) => answer.into_response(),
        Err(FunctionError::Throttled) => {
            (StatusCode::TOO_MANY_REQUESTS, json!({"Message": FunctionError::Throttled.to_string()}).to_string())
                .into_response()
        }
        Err(FunctionError::Unhandled { error_type, message }) => {
            let error = json!({"errorType": error_type, "errorMessage": message}).to_string();
            ([(FAILED, "Unhandled")], error).into_response()
        }
        Err(error @ (FunctionError::TimedOut | FunctionError::Exited(_) | FunctionError::Init(_))) => {
            ([(FAILED, "Unhandled")], json!({"errorMessage": error.to_string()}).to_string()).into_response()
        }
    }
}
