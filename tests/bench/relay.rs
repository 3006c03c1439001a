//! What goes over the wire: a relay before each service, which hands bytes on and counts them. Unlike a count of headers and
//! bodies, that of a connection's bytes holds what HTTP/2 makes of them, too.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use local_stack::stack::Stack;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

/// The relays before the services of a stack.
pub(crate) struct Relays {
    pub(crate) aws: Relay,
    pub(crate) rest: Relay,
    pub(crate) grpc: Relay,
}

/// A relay; it ends when it is dropped.
pub(crate) struct Relay {
    address: SocketAddr,
    counts: Arc<Counts>,
    _server: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    received: AtomicU64,
}

impl Relays {
    pub(crate) async fn before(stack: &Stack) -> io::Result<Self> {
        Ok(Self {
            aws: Relay::before(stack.aws.address()).await?,
            rest: Relay::before(stack.reservation_address).await?,
            grpc: Relay::before(stack.inventory_address).await?,
        })
    }

    /// The variables that lead a function through the relays.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let variables = [
            ("AWS_ENDPOINT_URL", format!("http://{}", self.aws.address)),
            ("RESERVATION_API_BASE", format!("http://{}", self.rest.address)),
            ("INVENTORY_GRPC_ADDR", self.grpc.address.to_string()),
        ];
        variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Relay {
    async fn before(service: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::new(Counts::default());
        let server = tokio::spawn(serve(listener, service, counts.clone()));
        Ok(Self { address, counts, _server: AbortOnDropHandle::new(server) })
    }

    /// The bytes so far: from the function, and to it.
    pub(crate) fn bytes(&self) -> [u64; 2] {
        [self.counts.sent.load(Relaxed), self.counts.received.load(Relaxed)]
    }
}

async fn serve(listener: TcpListener, service: SocketAddr, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    // A connection that fails shows at the function, whose record is then not settled.
    while let Ok((function, _)) = listener.accept().await {
        let counts = counts.clone();
        connections.spawn(async move {
            let service = TcpStream::connect(service).await?;
            function.set_nodelay(true)?;
            service.set_nodelay(true)?;
            let ((from_function, to_function), (from_service, to_service)) =
                (function.into_split(), service.into_split());
            tokio::try_join!(
                hand_on(from_function, to_service, &counts.sent),
                hand_on(from_service, to_function, &counts.received)
            )
            .map(drop)
        });
    }
}

async fn hand_on(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, count: &AtomicU64) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        count.fetch_add(length as u64, Relaxed);
        to.write_all(&buffer[..length]).await?;
    }
}
