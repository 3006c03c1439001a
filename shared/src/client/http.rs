//! How this crate speaks HTTP to AWS, to the reservation API and to a collector of spans: one client, and so one set of rules.
//!
//! - It follows no redirect, which would carry a token to wherever an answer says, and reads no variable that names a proxy.
//! - What a server sends before it is asked again is bounded: headers, interim answers and body together. So memory and
//!   processor time are bounded as well, whatever comes.
//! - A connection is kept for the calls to come. When a call has no answer, all that are idle are dropped, because what
//!   killed one in silence, a NAT gateway or a frozen environment, has mostly killed the others too. Those that were not used
//!   for [`KEPT`] are not even tried.
//!
//! Time-outs are the caller's: it drops the call.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use futures_util::{FutureExt, TryFutureExt, future::BoxFuture};
use http::{Request, Response, Uri, uri::Scheme};
use hyper::body::{Body, Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        self,
        connect::{self, Connected, Connection},
    },
    rt::{TokioExecutor, TokioIo},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tower_service::Service;
use url::Url;

use crate::client::tls;

/// The longest that connections are kept without a call, by the system's clock: it goes on while Lambda freezes an
/// environment. What drops connections in silence waits for longer: NAT gateways and network load balancers for 350 s.
pub const KEPT: Duration = Duration::from_secs(60);

/// What is escaped in a segment of a path, or in a value of a query: everything but RFC 3986's unreserved characters.
pub(super) const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The URL that a text is, if HTTP can be spoken to it. A host beyond ASCII is none: it is written in Punycode, since no
/// function carries the tables for it.
pub fn http_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A client whose requests have bodies of the type `B`; clones share its connections.
#[derive(Debug)]
pub struct HttpClient<B> {
    shared: Arc<Shared<B>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The cryptography knows no version of TLS, which is a fault of the build.
    #[error(transparent)]
    Tls(rustls::Error),
    /// No connection, or one that ended before the answer was there.
    #[error(transparent)]
    Call(legacy::Error),
}

#[derive(Debug)]
struct Shared<B> {
    longest_answer: usize,
    kept: Mutex<Kept<B>>,
}

#[derive(Debug)]
struct Kept<B> {
    pool: Arc<Pool<B>>,
    used: SystemTime,
}

/// Only a local stack is called without TLS, and only there may certificates be missing.
#[derive(Debug)]
struct Pool<B> {
    plain: OnceLock<legacy::Client<Socket, B>>,
    encrypted: OnceLock<Result<legacy::Client<HttpsConnector<Socket>, B>, rustls::Error>>,
}

impl<B> Clone for HttpClient<B> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self { plain: OnceLock::new(), encrypted: OnceLock::new() }
    }
}

impl<B> HttpClient<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// A client that reads `longest_answer` bytes of an answer at most, all its heads included.
    pub fn new(longest_answer: usize) -> Self {
        let kept = Mutex::new(Kept { pool: Arc::default(), used: SystemTime::now() });
        Self { shared: Arc::new(Shared { longest_answer, kept }) }
    }

    /// Sends a request, and has the head of its answer.
    ///
    /// # Errors
    /// See [`HttpError`]. What happened at the server is unknown.
    pub async fn send(&self, request: Request<B>) -> Result<Response<Incoming>, HttpError> {
        let mut call = InFlight { shared: &self.shared, pool: self.shared.pool(), answered: false };
        let answer = call.pool.send(request, self.shared.longest_answer).await?;
        call.answered = true;
        Ok(answer)
    }
}

/// A call; when it ends without an answer, be it that nobody waits any longer, the connections are given up.
struct InFlight<'a, B> {
    shared: &'a Shared<B>,
    pool: Arc<Pool<B>>,
    answered: bool,
}

impl<B> Drop for InFlight<'_, B> {
    fn drop(&mut self) {
        if !self.answered {
            self.shared.give_up(&self.pool);
        }
    }
}

impl<B> Shared<B> {
    /// The connections for a call that begins now.
    fn pool(&self) -> Arc<Pool<B>> {
        let (mut kept, now) = (self.kept(), SystemTime::now());
        // A clock that was set back says nothing about how long it was.
        if now.duration_since(kept.used).is_ok_and(|unused| unused > KEPT) {
            kept.pool = Arc::default();
        }
        kept.used = now;
        kept.pool.clone()
    }

    /// Calls that are under way keep their connections; those to come make new ones. Of several calls without an answer the
    /// first does this.
    fn give_up(&self, pool: &Arc<Pool<B>>) {
        let mut kept = self.kept();
        if Arc::ptr_eq(&kept.pool, pool) {
            kept.pool = Arc::default();
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept<B>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B> Pool<B>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    async fn send(&self, request: Request<B>, longest_answer: usize) -> Result<Response<Incoming>, HttpError> {
        let answer = if request.uri().scheme() == Some(&Scheme::HTTP) {
            self.plain.get_or_init(|| client(Socket::new(longest_answer))).request(request)
        } else {
            let encrypted = || {
                let tls = HttpsConnectorBuilder::new().with_tls_config(tls::client()?);
                Ok(client(tls.https_only().enable_http1().wrap_connector(Socket::new(longest_answer))))
            };
            self.encrypted
                .get_or_init(encrypted)
                .as_ref()
                .map_err(|error| HttpError::Tls(error.clone()))?
                .request(request)
        };
        answer.await.map_err(HttpError::Call)
    }
}

fn client<C, B>(connector: C) -> legacy::Client<C, B>
where
    C: connect::Connect + Clone,
    B: Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new()).build(connector)
}

/// Makes connections that carry answers of a bounded length.
#[derive(Clone, Debug)]
struct Socket {
    connector: connect::HttpConnector,
    longest_answer: usize,
}

impl Socket {
    fn new(longest_answer: usize) -> Self {
        let mut connector = connect::HttpConnector::new();
        connector.enforce_http(false); // TLS is spoken on it.
        connector.set_nodelay(true);
        Self { connector, longest_answer }
    }
}

impl Service<Uri> for Socket {
    type Response = TokioIo<Bounded>;
    type Error = <connect::HttpConnector as Service<Uri>>::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connector.poll_ready(context)
    }

    fn call(&mut self, server: Uri) -> Self::Future {
        let longest_answer = self.longest_answer;
        let bounded = move |stream: TokioIo<TcpStream>| {
            TokioIo::new(Bounded { stream: stream.into_inner(), longest_answer, left: longest_answer })
        };
        self.connector.call(server).map_ok(bounded).boxed()
    }
}

/// A connection that ends when more is read from it, without anything being written, than an answer may be long.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    longest_answer: usize,
    left: usize,
}

impl Bounded {
    fn wrote(&mut self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = polled {
            self.left = self.longest_answer;
        }
        polled
    }
}

impl Connection for Bounded {
    fn connected(&self) -> Connected {
        self.stream.connected()
    }
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let text = format!("the answer is longer than {} bytes", self.longest_answer);
            return Poll::Ready(Err(io::Error::other(text)));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.left = self.left.saturating_sub(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::SocketAddr,
        sync::atomic::{AtomicUsize, Ordering::Relaxed},
    };

    use http_body_util::{BodyExt, Empty};
    use hyper::body::Bytes;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::timeout,
    };

    use super::*;

    const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    /// A server that says this to every request, or nothing to one of the path `/silent`; and the connections made to it.
    async fn server(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, connections) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counted = connections.clone();
        tokio::spawn(async move {
            while let Ok((mut caller, _)) = listener.accept().await {
                counted.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    let mut request = [0; 4_096];
                    while let Ok(read @ 1..) = caller.read(&mut request).await {
                        let silent = request[..read].starts_with(b"GET /silent");
                        if !silent && caller.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, connections)
    }

    type Client = HttpClient<Empty<Bytes>>;

    async fn call(client: &Client, server: SocketAddr, path: &str) -> Result<String, HttpError> {
        let request = Request::get(format!("http://{server}{path}")).body(Empty::new()).unwrap();
        let body = client.send(request).await?.into_body().collect().await.map_err(|error| error.to_string());
        // The connection goes back into its pool behind the answer.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        Ok(body.map_or_else(|error| error, |body| String::from_utf8(body.to_bytes().to_vec()).unwrap()))
    }

    #[tokio::test]
    async fn a_connection_serves_until_it_was_not_used_for_a_minute() {
        let ((server, connections), client) = (server(OK).await, Client::new(1_024));
        for (unused, made) in [(0, 1), (59, 1), (61, 2), (0, 2)] {
            client.shared.kept().used = SystemTime::now() - Duration::from_secs(unused);
            assert_eq!(call(&client, server, "/").await.unwrap(), "ok");
            assert_eq!(connections.load(Relaxed), made, "{unused} s");
        }
    }

    #[tokio::test]
    async fn a_call_without_an_answer_ends_every_connection_that_is_idle() {
        let ((server, connections), client) = (server(OK).await, Client::new(1_024));
        let one = || call(&client, server, "/");
        drop(tokio::join!(one(), one(), one()));
        assert_eq!(connections.load(Relaxed), 3);
        call(&client, server, "/").await.unwrap();
        assert_eq!(connections.load(Relaxed), 3, "they are kept");
        let silent = timeout(Duration::from_millis(50), call(&client, server, "/silent")).await;
        assert!(silent.is_err(), "{silent:?}");
        call(&client, server, "/").await.unwrap();
        assert_eq!(connections.load(Relaxed), 4, "none of them is used again");
    }

    #[tokio::test]
    async fn what_comes_without_being_asked_for_is_bounded_and_each_request_may_have_as_much() {
        let ((address, _), client) = (server(OK).await, Client::new(OK.len()));
        for _ in 0..3 {
            assert_eq!(call(&client, address, "/").await.unwrap(), "ok");
        }
        let long = format!("HTTP/1.1 200 OK\r\ncontent-length: 1048576\r\n\r\n{}", "x".repeat(1 << 20));
        let ((address, _), client) = (server(long.leak()).await, Client::new(64 << 10));
        let cut = call(&client, address, "/").await.unwrap();
        assert!(cut.len() < 1_000, "it is the error, and not {} bytes", cut.len());
    }

    #[test]
    fn a_host_beyond_ascii_is_written_in_punycode() {
        assert!(http_url("https://xn--mnchen-3ya.example/v1").is_some() && http_url("http://[::1]:8080").is_some());
        for text in ["https://m\u{fc}nchen.example/v1", "ftp://example.com", "https://", "example.com"] {
            assert!(http_url(text).is_none(), "{text}");
        }
    }
}
