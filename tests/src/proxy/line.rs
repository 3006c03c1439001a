//! A connection to a caller that can be reset or go silent at any moment.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// The handle; clones share the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    silent: AtomicBool,
    reset: Notify,
}

/// The connection itself.
#[derive(Debug)]
pub(super) struct Stream {
    inner: TcpStream,
    shared: Arc<Shared>,
}

impl Line {
    /// Takes a connection over. When it is dropped its caller sees a reset, not an orderly end.
    pub(super) fn over(&self, inner: TcpStream) -> io::Result<Stream> {
        inner.set_nodelay(true)?;
        inner.set_zero_linger()?;
        Ok(Stream { inner, shared: self.shared.clone() })
    }

    /// Whoever waits for [`Line::is_reset`] is to drop the connection.
    pub(super) fn break_off(&self) {
        self.shared.reset.notify_one(); // Kept, when nobody waits yet.
    }

    pub(super) async fn is_reset(&self) {
        self.shared.reset.notified().await;
    }

    /// Nothing gets through from now on, and the caller is not told.
    pub(super) fn go_silent(&self) {
        self.shared.silent.store(true, Ordering::Release);
    }
}

impl Stream {
    fn is_silent(&self) -> bool {
        self.shared.silent.load(Ordering::Acquire)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.is_silent() {
            return Pin::new(&mut self.inner).poll_read(context, buffer);
        }
        // What the caller sends is lost. That it is gone is noticed all the same, or its handle would stay for ever.
        let mut lost = [0; 4096];
        loop {
            let mut lost = ReadBuf::new(&mut lost);
            ready!(Pin::new(&mut self.inner).poll_read(context, &mut lost))?;
            if lost.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_silent() { Poll::Pending } else { Pin::new(&mut self.inner).poll_write(context, bytes) }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_silent() { Poll::Pending } else { Pin::new(&mut self.inner).poll_flush(context) }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_silent() { Poll::Ready(Ok(())) } else { Pin::new(&mut self.inner).poll_shutdown(context) }
    }
}
