//! A gate between code of this process and PostgreSQL, which lets one statement through at a time.

use std::{
    io,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use local_stack::postgres::wire::frame;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use tokio_util::task::AbortOnDropHandle;

/// A text of a statement, and one of the same length that is to stand in its place.
pub(crate) type Rewriting = (&'static str, &'static str);

/// The gate of one connection; dropped, it cuts it.
pub(crate) struct Gate {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    opened: Notify,
    is_deaf: AtomicBool,
}

/// What is known of the connection.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    /// Who works it at the server.
    pub(crate) backend: Option<i32>,
    /// The text of the statement that waits.
    pub(crate) waiting: Option<String>,
    /// Statements that went through, and the answers to them. The end of signing in is an answer too.
    sent: usize,
    answered: usize,
}

impl Seen {
    /// Whether it has signed in, and every statement that went through is answered.
    pub(crate) fn is_answered(&self) -> bool {
        self.answered == self.sent + 1
    }

    /// Whether a statement waits that begins so.
    pub(crate) fn is_before(&self, start: &str) -> bool {
        // Behind its type and its length.
        self.waiting.as_ref().is_some_and(|text| text.get(5..).is_some_and(|text| text.starts_with(start)))
    }
}

impl Gate {
    pub(crate) async fn to(host: &str, port: u16, rewriting: &'static [Rewriting]) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared::default());
        let (host, of_task) = (host.to_owned(), shared.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                *of_task.seen() = Seen::default();
                let server = TcpStream::connect((host.as_str(), port)).await.unwrap();
                drop(of_task.carry(client, server, rewriting).await);
            }
        });
        Self { port: own, shared, _task: AbortOnDropHandle::new(task) }
    }

    pub(crate) fn seen(&self) -> Seen {
        self.shared.seen().clone()
    }

    /// Lets the statement through that waits.
    pub(crate) async fn open(&self) {
        let before = self.seen().sent;
        self.shared.opened.notify_one();
        while self.seen().sent == before {
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    }

    /// Lets no answer through any more.
    pub(crate) fn deafen(&self) {
        self.shared.is_deaf.store(true, SeqCst);
    }
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    async fn carry(&self, client: TcpStream, server: TcpStream, rewriting: &[Rewriting]) -> io::Result<()> {
        drop((client.set_nodelay(true), server.set_nodelay(true)));
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let requests = async {
            // The start-up message alone has no type.
            to_server.write_all(&frame(&mut from_client, false).await?).await?;
            loop {
                let mut statement = Vec::new();
                loop {
                    let message = frame(&mut from_client, true).await?;
                    let is_whole = matches!(message[0], b'S' | b'Q' | b'X' | b'p');
                    statement.extend(message);
                    if is_whole {
                        break;
                    }
                }
                let text = String::from_utf8_lossy(&statement).into_owned();
                for (from, to) in rewriting {
                    assert_eq!(from.len(), to.len(), "{from}");
                    if let Some(at) = statement.windows(from.len()).position(|bytes| bytes == from.as_bytes()) {
                        statement[at..at + to.len()].copy_from_slice(to.as_bytes());
                    }
                }
                self.seen().waiting = Some(text);
                self.opened.notified().await;
                {
                    let mut seen = self.seen();
                    seen.waiting = None;
                    seen.sent += 1;
                }
                to_server.write_all(&statement).await?;
            }
        };
        let answers = async {
            loop {
                let message = frame(&mut from_server, true).await?;
                let is_ready = message[0] == b'Z';
                if message[0] == b'K' {
                    self.seen().backend = Some(i32::from_be_bytes(message[5..9].try_into().unwrap()));
                }
                if !self.is_deaf.load(SeqCst) {
                    to_client.write_all(&message).await?;
                }
                if is_ready {
                    self.seen().answered += 1;
                }
            }
        };
        tokio::select! {
            done = requests => done,
            done = answers => done,
        }
    }
}
