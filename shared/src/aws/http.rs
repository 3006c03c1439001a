//! How the AWS SDK speaks HTTP here. Its own client reads the system's certificates whether or not it will need them, and
//! keeps them to itself; this one shares ours. Time-outs are the SDK's: it drops a call that takes too long, and the
//! connection ends with it.

use std::sync::{Arc, OnceLock};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::HttpError,
};
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, Error, connect},
    rt::TokioExecutor,
};

use crate::tls;

/// A client for every service of AWS, with one pool of connections.
pub fn client() -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector::default());
    http_client_fn(move |_settings, _components| connector.clone())
}

type Plain = Client<connect::HttpConnector, SdkBody>;
type Encrypted = Client<HttpsConnector<connect::HttpConnector>, SdkBody>;

/// Only a local stack is spoken to without TLS, and only such a one gets by without certificates.
#[derive(Clone, Debug, Default)]
struct Connector {
    plain: Arc<OnceLock<Plain>>,
    encrypted: Arc<OnceLock<Result<Encrypted, rustls::Error>>>,
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.send(request).await })
    }
}

impl Connector {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let malformed = |error: HttpError| ConnectorError::user(error.into());
        let request = request.try_into_http1x().map_err(malformed)?;
        let answer = if request.uri().scheme_str() == Some("http") {
            self.plain.get_or_init(plain).request(request).await
        } else {
            match self.encrypted.get_or_init(encrypted) {
                Ok(client) => client.request(request).await,
                Err(error) => return Err(ConnectorError::other(error.clone().into(), None)),
            }
        };
        // Whatever went wrong, there is no answer, and the SDK may ask a second time.
        let answer = answer.map_err(|error: Error| ConnectorError::io(error.into()))?;
        HttpResponse::try_from(answer.map(SdkBody::from_body_1_x)).map_err(malformed)
    }
}

fn plain() -> Plain {
    Client::builder(TokioExecutor::new()).build(socket())
}

fn encrypted() -> Result<Encrypted, rustls::Error> {
    let connector = HttpsConnectorBuilder::new().with_tls_config(tls::client()?).https_only().enable_http1();
    Ok(Client::builder(TokioExecutor::new()).build(connector.wrap_connector(socket())))
}

fn socket() -> connect::HttpConnector {
    let mut socket = connect::HttpConnector::new();
    socket.enforce_http(false); // TLS is spoken on it.
    socket.set_nodelay(true);
    socket
}
