//! A wire between a function and PostgreSQL. The connection that brings a certain message is cut: before it goes on, or once
//! the server has worked it and before its answer gets back. The wire counts the messages that a client sends once it has
//! signed in.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

use crate::tripwire::{Point, Side, Tripwire};

/// The messages that carry statements: simple query, parse, bind, describe, execute, sync.
const COUNTED: &[u8] = b"QPBDES";

/// How long the server gets for what it was sent before the wire is cut behind it.
const WORKED: Duration = Duration::from_millis(60);

/// The wire; it ends when it is dropped.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    point: Mutex<Option<Point>>,
    sent: AtomicUsize,
    connections: AtomicUsize,
    was_cut: AtomicBool,
    is_silent: AtomicBool,
    tripwire: Mutex<Tripwire>,
    ended: Notify,
    heard: Mutex<Vec<Vec<u8>>>,
}

impl Wire {
    /// A wire to the server at `host` and `port`.
    ///
    /// # Errors
    /// When there is no port to be had.
    pub async fn to(host: &str, port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (host, of_task) = (host.to_owned(), shared.clone());
        let task = tokio::spawn(async move {
            let mut lines = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (host, shared) = (host.clone(), of_task.clone());
                shared.connections.fetch_add(1, SeqCst);
                lines.spawn(async move {
                    if let Ok(server) = TcpStream::connect((host.as_str(), port)).await {
                        shared.carry(client, server).await;
                    }
                });
            }
        });
        Ok(Self { address, shared, _task: AbortOnDropHandle::new(task) })
    }

    /// Where a function connects to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts the wire once, at this point; messages are counted from 1 from now on.
    pub fn cut_at(&self, point: Option<Point>) {
        *self.shared.point.lock().unwrap_or_else(PoisonError::into_inner) = point;
        self.shared.sent.store(0, SeqCst);
        self.shared.was_cut.store(false, SeqCst);
    }

    /// Lets every message from now on pass this tripwire. What it holds goes no further: see [`Wire::end_held`].
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        *self.shared.tripwire.lock().unwrap_or_else(PoisonError::into_inner) = tripwire;
    }

    /// Ends the connection whose message is held, because its client is dead by now. The server hears of it only then, as the
    /// wire does not look whether a client is still there.
    pub fn end_held(&self) {
        self.shared.ended.notify_waiters();
    }

    /// Carries nothing any more in either direction, as a NAT gateway does that has forgotten a connection; or again.
    pub fn set_silent(&self, is_silent: bool) {
        self.shared.is_silent.store(is_silent, SeqCst);
    }

    /// How many messages were sent since the last [`Wire::cut_at`].
    pub fn sent(&self) -> usize {
        self.shared.sent.load(SeqCst)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(SeqCst)
    }

    /// Every message that clients sent, start-ups included, but for passwords.
    pub fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the point was reached.
    pub fn was_cut(&self) -> bool {
        self.shared.was_cut.load(SeqCst)
    }
}

impl Shared {
    async fn carry(&self, client: TcpStream, server: TcpStream) {
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let holds_back = AtomicBool::new(false);
        // Whichever ends first ends both: the halves are dropped, and the connections with them.
        tokio::select! {
            _ = self.requests(from_client, to_server, &holds_back) => {}
            _ = self.answers(from_server, to_client, &holds_back) => {}
        }
    }

    /// Carries what the server says, but while `holds_back`: the connection is about to be cut behind a message, and no answer
    /// gets back any more.
    async fn answers(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        holds_back: &AtomicBool,
    ) -> io::Result<()> {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let read = from.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            self.wait_while_silent().await;
            if !holds_back.load(SeqCst) {
                to.write_all(&buffer[..read]).await?;
            }
        }
    }

    async fn requests(
        &self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
        holds_back: &AtomicBool,
    ) -> io::Result<()> {
        // The start-up message alone has no type.
        let startup = frame(&mut from, false).await?;
        self.hear(&startup);
        to.write_all(&startup).await?;
        loop {
            let message = frame(&mut from, true).await?;
            self.wait_while_silent().await;
            if !COUNTED.contains(&message[0]) {
                to.write_all(&message).await?;
                continue;
            }
            self.hear(&message);
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable(); // From here on it is not missed.
            let tripwire = self.tripwire.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let passage = tokio::select! {
                passage = tripwire.arrive("PostgreSQL") => passage,
                () = &mut ended => return Ok(()),
            };
            if passage.is_at(Side::After) {
                holds_back.store(true, SeqCst);
                to.write_all(&message).await?;
                tokio::time::sleep(WORKED).await;
                tokio::select! {
                    () = passage.leave() => {}
                    () = ended => {}
                }
                return Ok(());
            }
            let number = self.sent.fetch_add(1, SeqCst) + 1;
            let here = {
                let mut point = self.point.lock().unwrap_or_else(PoisonError::into_inner);
                let here = point.filter(|point| point.request == number);
                if matches!(here, Some(Point { side: Side::Before, .. })) {
                    *point = None;
                }
                here
            };
            match here {
                Some(Point { side: Side::Before, .. }) => {
                    self.was_cut.store(true, SeqCst);
                    // What went before is worked before the connection ends.
                    tokio::time::sleep(WORKED).await;
                    return Ok(());
                }
                Some(Point { side: Side::After, .. }) => {
                    holds_back.store(true, SeqCst);
                    to.write_all(&message).await?;
                    tokio::time::sleep(WORKED).await;
                    self.was_cut.store(true, SeqCst);
                    *self.point.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return Ok(());
                }
                None => to.write_all(&message).await?,
            }
        }
    }

    fn hear(&self, message: &[u8]) {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).push(message.to_vec());
    }

    async fn wait_while_silent(&self) {
        while self.is_silent.load(SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// One message of a client, of which the first alone has no type; or of a server.
///
/// # Errors
/// The connection ended before.
pub async fn frame(from: &mut (impl AsyncRead + Unpin), has_type: bool) -> io::Result<Vec<u8>> {
    let mut message = Vec::with_capacity(256);
    if has_type {
        message.push(from.read_u8().await?);
    }
    let length = from.read_u32().await?;
    message.extend(length.to_be_bytes());
    let rest = usize::try_from(length.saturating_sub(4)).unwrap_or_default();
    let start = message.len();
    message.resize(start + rest, 0);
    from.read_exact(&mut message[start..]).await?;
    Ok(message)
}
