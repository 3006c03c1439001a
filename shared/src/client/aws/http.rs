//! How the AWS SDK speaks HTTP here: by the client that all calls over HTTP share. The SDK's own reads the system's
//! certificates whether or not it will need them, and bounds nothing. Time-outs are the SDK's: it drops a call that takes too
//! long, and the connection ends with it. A connection that brought a fault of the server ends too, because the SDK asks
//! for it.

use aws_smithy_runtime_api::{
    client::{
        connection::{CaptureSmithyConnection, ConnectionMetadata},
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
        result::ConnectorError,
    },
    http::HttpError as Malformed,
};
use aws_smithy_types::body::SdkBody;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};

use crate::client::http::{HttpClient, HttpError};

/// More of an answer is not read. The largest that a function asks for is the old item of a refused claim, and DynamoDB
/// keeps none above 400 KB.
const LONGEST_ANSWER: usize = 2 * 1024 * 1024;

/// A client for every service of AWS, with one pool of connections.
pub fn client() -> SharedHttpClient {
    client_reading(LONGEST_ANSWER)
}

/// As [`client`], for a program whose answers have up to `longest_answer` bytes.
pub fn client_reading(longest_answer: usize) -> SharedHttpClient {
    let connector = SharedHttpConnector::new(Connector(HttpClient::new(longest_answer)));
    http_client_fn(move |_settings, _components| connector.clone())
}

#[derive(Clone, Debug)]
struct Connector(HttpClient<SdkBody>);

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.send(request).await })
    }
}

impl Connector {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let malformed = |error: Malformed| ConnectorError::user(error.into());
        let mut request = request.try_into_http1x().map_err(malformed)?;
        let carrier = capture_connection(&mut request);
        if let Some(wanted) = request.extensions().get::<CaptureSmithyConnection>() {
            wanted.set_connection_retriever(move || Some(closable(carrier.clone())));
        }
        let answer = self.0.send(request).await.map_err(|error| match error {
            HttpError::Tls(_) => ConnectorError::other(error.into(), None),
            // Whatever went wrong, there is no answer, and the SDK may ask a second time.
            HttpError::Call(error) => ConnectorError::io(error.into()),
        })?;
        HttpResponse::try_from(answer.map(SdkBody::from_body_1_x)).map_err(malformed)
    }
}

/// The connection that carries a call, in the form in which the SDK may have it closed.
fn closable(carrier: CaptureConnection) -> ConnectionMetadata {
    let close = move || {
        if let Some(connection) = carrier.connection_metadata().as_ref() {
            connection.poison();
        }
    };
    ConnectionMetadata::builder().proxied(false).poison_fn(close).build()
}

#[cfg(test)]
mod tests {
    use std::{
        io::ErrorKind,
        net::SocketAddr,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use tokio::{
        net::{TcpListener, TcpStream},
        task::yield_now,
    };

    use super::*;

    /// A server that is content with everything, and the number of connections that were made to it.
    async fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(answer(stream));
            }
        });
        (address, connections)
    }

    async fn answer(stream: TcpStream) {
        loop {
            stream.readable().await.unwrap();
            match stream.try_read(&mut [0; 4_096]) {
                Ok(1..) => drop(stream.try_write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    /// A call; what comes back is the connection that carried it.
    async fn call(client: &Connector, server: SocketAddr) -> ConnectionMetadata {
        let carrier = CaptureSmithyConnection::new();
        let mut request = HttpRequest::get(format!("http://{server}/")).unwrap();
        request.add_extension(carrier.clone());
        assert_eq!(HttpConnector::call(client, request).await.unwrap().status().as_u16(), 200);
        // The connection goes back into its pool behind the answer.
        for _ in 0..10 {
            yield_now().await;
        }
        carrier.get().unwrap()
    }

    #[tokio::test]
    async fn a_connection_serves_until_the_sdk_closes_it() {
        let ((server, connections), client) = (server().await, Connector(HttpClient::new(LONGEST_ANSWER)));
        call(&client, server).await;
        let second = call(&client, server).await;
        assert_eq!(connections.load(Ordering::Relaxed), 1);
        second.poison();
        call(&client, server).await;
        assert_eq!(connections.load(Ordering::Relaxed), 2);
    }
}
