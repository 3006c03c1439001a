//! A stretch of network between clients and PostgreSQL: whatever is sent arrives half a round trip later, in its order. It
//! counts round trips: how often a client sends something after it has heard something.
//!
//! It is made of threads that sleep, and never of a task that looks at the clock: the server works on what has arrived while
//! the rest is under way, and may share its core with this.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// A stretch of network. It takes no connection any more when it is dropped; those that are there end with either of their
/// ends.
#[derive(Debug)]
pub struct Distance {
    address: SocketAddr,
    round_trips: Arc<AtomicUsize>,
    has_ended: Arc<AtomicBool>,
}

impl Distance {
    /// Puts one in front of the server at this address.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn to(host: &str, port: u16, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let distance = Self { address: listener.local_addr()?, round_trips: Arc::default(), has_ended: Arc::default() };
        let (host, way) = (host.to_owned(), round_trip / 2);
        let (round_trips, has_ended) = (distance.round_trips.clone(), distance.has_ended.clone());
        thread::Builder::new().spawn(move || {
            for client in listener.incoming().flatten() {
                if has_ended.load(SeqCst) {
                    return;
                }
                // A client whose server is not there hears so: its connection ends.
                let _: io::Result<()> = join(client, (&host, port), way, &round_trips);
            }
        })?;
        Ok(distance)
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

impl Drop for Distance {
    fn drop(&mut self) {
        self.has_ended.store(true, SeqCst);
        // Who listens hears of it by one more connection.
        drop(TcpStream::connect(self.address));
    }
}

/// Joins a client to the server, each `way` of the two so long.
fn join(client: TcpStream, server: (&str, u16), way: Duration, round_trips: &Arc<AtomicUsize>) -> io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (has_heard, round_trips) = (Arc::new(AtomicBool::new(true)), round_trips.clone());
    let heard = has_heard.clone();
    let said = move || {
        round_trips.fetch_add(usize::from(has_heard.swap(false, SeqCst)), SeqCst);
    };
    carry(client.try_clone()?, server.try_clone()?, way, said, || {})?;
    carry(server, client, way, || {}, move || heard.store(true, SeqCst))
}

/// Hands on what comes, each piece so long after it came. `came` hears of each when it comes, `arrives` before it is handed on.
fn carry(
    mut from: TcpStream,
    mut to: TcpStream,
    way: Duration,
    came: impl Fn() + Send + 'static,
    arrives: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let (sender, pieces) = mpsc::channel::<(Instant, Vec<u8>)>();
    thread::Builder::new().spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            came();
            if sender.send((Instant::now(), buffer[..length].to_vec())).is_err() {
                return;
            }
        }
    })?;
    thread::Builder::new().spawn(move || {
        for (at, piece) in pieces {
            thread::sleep(way.saturating_sub(at.elapsed()));
            arrives();
            if to.write_all(&piece).is_err() {
                break;
            }
        }
        // Both ways, so that who still reads at this end stops, too.
        drop(to.shutdown(Shutdown::Both));
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn an_answer_takes_a_round_trip_and_each_is_counted() {
        let echo = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
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
        let mut client = tokio::net::TcpStream::connect(distance.address()).await.unwrap();
        for number in 1..=3 {
            let started = Instant::now();
            client.write_all(&[number]).await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), number);
            assert!(started.elapsed() >= round_trip);
            assert_eq!(distance.round_trips(), usize::from(number));
        }
    }
}
