//! How the services of the stack delay their answers: so long after a request came in at the socket until the answer goes out
//! there, whatever the work on it took.
//!
//! A service has its listener make [`Timed`] connections, whose [`Clock`] each request carries among its extensions.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use axum::{
    extract::connect_info::{ConnectInfo, Connected},
    http::Extensions,
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::{Handle, RuntimeFlavor},
    task::yield_now,
    time::sleep,
};
use tonic::transport::server;

/// How much later a sleep may end than it was asked to: Tokio rounds up to its own millisecond, and so does the system's wait.
const ROUNDING: Duration = Duration::from_micros(2_500);

/// How long before it goes out an answer is handed to its connection, which holds it back: to write it takes a part of that.
const WRITING: Duration = Duration::from_micros(500);

/// Answers of one connection that are due within this of the first of them go out together, with the last: one by one, each
/// would be late by the writing of those before it.
const TOGETHER: Duration = Duration::from_micros(100);

/// When a request arrived, and at which connection.
#[derive(Debug)]
pub(crate) struct Arrival {
    at: Instant,
    clock: Clock,
}

/// The arrival of the request with these extensions. Whatever else arrived with it is stamped before any of it is worked on:
/// services that stand on machines of their own would not wait for each other either.
pub(crate) async fn arrival(extensions: &Extensions) -> Arrival {
    let arrival = Arrival { at: read_at(extensions), clock: Clock::of(extensions).clone() };
    yield_now().await;
    arrival
}

/// When the last bytes of the request with these extensions came in.
pub(crate) fn read_at(extensions: &Extensions) -> Instant {
    Clock::of(extensions).with(|times| times.read).unwrap_or_else(Instant::now)
}

/// Waits until an answer may go, which is `latency` after its request arrived.
///
/// Four calls in a row that are each late by up to two milliseconds would be the greater part of what `cargo bench` measures,
/// so the end of the wait is spent looking at the clock, the last of it by the connection, which has the answer by then. A
/// runtime of several threads only sleeps: there a task that spins would take a core from the functions, and nobody measures
/// single calls.
pub(crate) async fn wait(Arrival { at, clock }: Arrival, latency: Duration) {
    let exact = Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread;
    let (rounding, writing) = if exact { (ROUNDING, WRITING) } else { (Duration::ZERO, Duration::ZERO) };
    let left = latency.saturating_sub(at.elapsed());
    if left > rounding {
        sleep(left - rounding).await;
    }
    while at.elapsed() + writing < latency {
        yield_now().await; // Which looks for requests too, so that nobody else waits for this one.
    }
    // Another answer that lies ready goes out first.
    while at.elapsed() < latency && !clock.holds_back_until(at + latency) {
        yield_now().await;
    }
}

/// What a connection knows of time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Times>>);

#[derive(Debug, Default)]
struct Times {
    /// When the latest bytes came in.
    read: Option<Instant>,
    /// Nothing goes out before the last of these, which are due together: the first and the last of the answers that lie ready.
    held: Option<(Instant, Instant)>,
}

impl Clock {
    fn of(extensions: &Extensions) -> &Self {
        let of_axum = || extensions.get::<ConnectInfo<Self>>().map(|ConnectInfo(clock)| clock);
        let clock = extensions.get::<Self>().or_else(of_axum);
        clock.unwrap_or_else(|| {
            panic!("a service that delays its answers has Timed connections, and their clock at hand")
        })
    }

    fn with<T>(&self, look: impl FnOnce(&mut Times) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets nothing go out before the moment, unless answers are held back that are not due together with it. Whether it does.
    fn holds_back_until(&self, moment: Instant) -> bool {
        self.with(|times| {
            let (first, last) = times.held.unwrap_or((moment, moment));
            let (first, last) = (first.min(moment), last.max(moment));
            let is_together = last - first <= TOGETHER;
            if is_together {
                times.held = Some((first, last));
            }
            is_together
        })
    }

    /// Ready when bytes may go out.
    fn poll_passage(&self, context: &mut Context<'_>) -> Poll<()> {
        let held = self.with(|times| {
            times.held = times.held.filter(|(_, last)| *last > Instant::now());
            times.held.is_some()
        });
        if held {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}

/// A connection with its clock.
#[derive(Debug)]
pub(crate) struct Timed {
    stream: TcpStream,
    clock: Clock,
}

impl From<TcpStream> for Timed {
    fn from(stream: TcpStream) -> Self {
        Self { stream, clock: Clock::default() }
    }
}

impl AsyncRead for Timed {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (timed, before) = (self.get_mut(), buffer.filled().len());
        let result = ready!(Pin::new(&mut timed.stream).poll_read(context, buffer));
        if buffer.filled().len() > before {
            timed.clock.with(|times| times.read = Some(Instant::now()));
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Timed {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let timed = self.get_mut();
        ready!(timed.clock.poll_passage(context));
        Pin::new(&mut timed.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let timed = self.get_mut();
        ready!(timed.clock.poll_passage(context));
        Pin::new(&mut timed.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

/// For servers of tonic.
impl server::Connected for Timed {
    type ConnectInfo = Clock;

    fn connect_info(&self) -> Clock {
        self.clock.clone()
    }
}

/// For servers of axum.
#[derive(Debug)]
pub(crate) struct TimedListener(pub(crate) TcpListener);

impl Listener for TimedListener {
    type Io = Timed;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Timed, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (stream.into(), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

impl Connected<IncomingStream<'_, TimedListener>> for Clock {
    fn connect_info(stream: IncomingStream<'_, TimedListener>) -> Self {
        stream.io().clock.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LATENCY: Duration = Duration::from_millis(6);

    async fn waited_after(passed: Duration) -> Duration {
        let (at, clock) = (Instant::now() - passed, Clock::default());
        wait(Arrival { at, clock: clock.clone() }, LATENCY).await;
        poll_fn(|context| clock.poll_passage(context)).await;
        at.elapsed()
    }

    #[tokio::test]
    async fn no_wait_is_too_short() {
        for passed in [Duration::ZERO, LATENCY / 2, LATENCY * 2] {
            assert!(waited_after(passed).await >= LATENCY);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nor_is_one_that_only_sleeps() {
        assert!(waited_after(Duration::ZERO).await >= LATENCY);
    }

    #[tokio::test]
    async fn answers_go_out_together_if_they_are_due_together_and_wait_for_no_other() {
        let (clock, first) = (Clock::default(), Instant::now() + LATENCY);
        let (beside, later) = (first + TOGETHER, first + 2 * TOGETHER);
        assert!(clock.holds_back_until(first) && clock.holds_back_until(beside) && !clock.holds_back_until(later));
        sleep(LATENCY + TOGETHER).await;
        assert!(!clock.holds_back_until(later), "the first may go, and have not gone");
        poll_fn(|context| clock.poll_passage(context)).await;
        assert!(Instant::now() >= beside && clock.holds_back_until(later));
    }

    #[tokio::test]
    async fn an_answer_that_is_ready_early_goes_out_in_time() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let asks = async {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let asked = Instant::now();
            stream.write_all(b"?").await.unwrap();
            stream.read_u8().await.unwrap();
            asked.elapsed()
        };
        let mut listener = TimedListener(listener);
        let answers = async {
            let (mut timed, _) = listener.accept().await;
            timed.read_u8().await.unwrap();
            let mut extensions = Extensions::new();
            extensions.insert(timed.clock.clone());
            let arrival = arrival(&extensions).await;
            wait(arrival, LATENCY).await;
            timed.write_all(b"!").await.unwrap();
        };
        assert!(tokio::join!(asks, answers).0 >= LATENCY);
    }
}
