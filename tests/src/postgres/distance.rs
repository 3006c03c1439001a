//! A stretch of network between clients and PostgreSQL: whatever is sent arrives half a round trip later, in its order. It counts
//! round trips: how often a client sends something after it has heard something.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::Builder,
    sync::{mpsc, oneshot},
};

use crate::latency;

/// A stretch of network. It has a thread to itself, so that its waits are exact whatever runtime its user has; it ends when it is
/// dropped.
#[derive(Debug)]
pub struct Distance {
    address: SocketAddr,
    round_trips: Arc<AtomicUsize>,
    _end: oneshot::Sender<()>,
}

impl Distance {
    /// Puts one in front of the server at this address.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn to(host: &str, port: u16, round_trip: Duration) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel::<()>();
        let round_trips = Arc::new(AtomicUsize::new(0));
        let (server, counted) = ((host.to_owned(), port), round_trips.clone());
        let serve = async move {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (client, _) = listener.accept().await?;
                let server = TcpStream::connect(&server).await?;
                client.set_nodelay(true)?;
                server.set_nodelay(true)?;
                let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
                let (has_heard, counted) = (Arc::new(AtomicBool::new(true)), counted.clone());
                let heard = has_heard.clone();
                let said = move || {
                    counted.fetch_add(usize::from(has_heard.swap(false, SeqCst)), SeqCst);
                };
                let hears = move || heard.store(true, SeqCst);
                tokio::spawn(carry(from_client, to_server, round_trip / 2, said, || {}));
                tokio::spawn(carry(from_server, to_client, round_trip / 2, || {}, hears));
            }
        };
        thread::Builder::new().spawn(move || {
            runtime.block_on(async {
                let _: Option<io::Result<()>> = tokio::select! {
                    served = serve => Some(served),
                    _ = ended => None,
                };
            });
        })?;
        Ok(Self { address, round_trips, _end: end })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The round trips so far, over all connections.
    pub fn round_trips(&self) -> usize {
        self.round_trips.load(SeqCst)
    }
}

/// Hands on what comes, each piece so long after it came. `came` hears of each when it comes, `arrives` before it is handed on.
async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, time: Duration, came: impl Fn(), arrives: impl Fn()) {
    let (sender, mut pieces) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let read = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            came();
            if sender.send((Instant::now(), buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    };
    let write = async {
        while let Some((at, piece)) = pieces.recv().await {
            latency::wait(at, time).await;
            arrives();
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_takes_a_round_trip_and_each_is_counted() {
        let echo = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = echo.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut client, _) = echo.accept().await.unwrap();
            let mut byte = [0];
            while client.read_exact(&mut byte).await.is_ok() {
                client.write_all(&byte).await.unwrap();
            }
        });
        let round_trip = Duration::from_millis(6);
        let distance = Distance::to("127.0.0.1", port, round_trip).unwrap();
        let mut client = TcpStream::connect(distance.address()).await.unwrap();
        for number in 1..=3 {
            let started = Instant::now();
            client.write_all(&[number]).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), number);
            assert!(started.elapsed() >= round_trip);
            assert_eq!(distance.round_trips(), usize::from(number));
        }
    }
}
