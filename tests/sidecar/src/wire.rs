//! Messages of PostgreSQL's protocol, one after the other, off a stream.

use bytes::BytesMut;
use pgwire::{
    error::{PgWireError, PgWireResult},
    messages::DecodeContext,
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Reads messages. Whoever stops waiting for one loses nothing of it.
pub(crate) struct Messages<S, M> {
    stream: S,
    read: BytesMut,
    /// What may come next, which the protocol does not say by itself at the start of a connection.
    pub(crate) context: DecodeContext,
    decode: fn(&mut BytesMut, &DecodeContext) -> PgWireResult<Option<M>>,
}

impl<S: AsyncRead + Unpin, M> Messages<S, M> {
    pub(crate) fn new(
        stream: S,
        context: DecodeContext,
        decode: fn(&mut BytesMut, &DecodeContext) -> PgWireResult<Option<M>>,
    ) -> Self {
        Self { stream, read: BytesMut::new(), context, decode }
    }

    /// The next message; nothing, when the stream has ended.
    pub(crate) async fn next(&mut self) -> Result<Option<M>, PgWireError> {
        loop {
            if let Some(message) = (self.decode)(&mut self.read, &self.context)? {
                return Ok(Some(message));
            }
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// Reads on until the stream ends, whatever comes.
    pub(crate) async fn drain(&mut self) -> Result<(), PgWireError> {
        self.read.clear();
        while self.stream.read_buf(&mut self.read).await? > 0 {
            self.read.clear();
        }
        Ok(())
    }
}
