//! The one backend, over a connection that lasts as long as this program.

#![expect(clippy::wildcard_enum_match_arm, reason = "most of the protocol's messages only pass through")]

use bytes::BytesMut;
use pgwire::{
    error::{ErrorInfo, PgWireError},
    messages::{
        DecodeContext, PgWireBackendMessage as Answer, PgWireFrontendMessage as Order, ProtocolVersion,
        copy::CopyFail,
        extendedquery::{Describe, Sync, TARGET_TYPE_BYTE_PORTAL},
        response::TransactionStatus,
        simplequery::Query,
        startup::{ParameterStatus, Startup},
    },
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
};

use crate::wire::Messages;

/// Who owns everything.
pub(crate) const OWNER: &str = "postgres";

/// The one database.
pub(crate) const DATABASE: &str = "postgres";

/// The backend can't go on, and nor can this program.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BackendError {
    /// It speaks another language.
    #[error("the backend says what nobody understands: {0}")]
    Wire(#[from] PgWireError),
    /// It is gone.
    #[error("the backend has ended")]
    Ended,
    /// It refuses what it must not.
    #[error("the backend refuses {what}: {why}")]
    Refused {
        /// Which statement.
        what: &'static str,
        /// Its own word.
        why: String,
    },
}

/// The backend.
pub(crate) struct Backend {
    answers: Messages<OwnedReadHalf, Answer>,
    orders: mpsc::UnboundedSender<BytesMut>,
    /// What it said of itself when it started, which every client is told.
    pub(crate) greeting: Vec<ParameterStatus>,
    /// As whom it works.
    user: String,
    /// The settings that it has by itself.
    settings: String,
    /// So often it was waited for.
    asked: u64,
    /// Whether it waits for rows.
    is_copying: bool,
    /// Whether somebody's turn began and has not ended.
    is_taken: bool,
}

impl Backend {
    /// Connects to where the embedded server listens.
    pub(crate) async fn connect(port: u16) -> Result<Self, BackendError> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(PgWireError::from)?;
        stream.set_nodelay(true).map_err(PgWireError::from)?;
        let (answers, stream) = stream.into_split();
        let mut context = DecodeContext::new(ProtocolVersion::PROTOCOL3_0);
        (context.awaiting_frontend_ssl, context.awaiting_frontend_startup) = (false, false);
        let (orders, waiting) = mpsc::unbounded_channel();
        tokio::spawn(write(stream, waiting));
        let mut backend = Self {
            answers: Messages::new(answers, context, Answer::decode),
            orders,
            greeting: Vec::new(),
            user: OWNER.to_owned(),
            settings: String::new(),
            asked: 0,
            is_copying: false,
            is_taken: false,
        };
        backend.start().await?;
        Ok(backend)
    }

    async fn start(&mut self) -> Result<(), BackendError> {
        let mut startup = Startup::new();
        startup.protocol_number_minor = 0;
        startup.parameters = [("user", OWNER), ("database", DATABASE)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into_iter()
            .collect();
        self.order(&Order::Startup(startup))?;
        loop {
            match self.answer().await? {
                Answer::ParameterStatus(parameter) => self.greeting.push(parameter),
                Answer::ErrorResponse(error) => {
                    return Err(BackendError::Refused { what: "to start", why: ErrorInfo::from(error).message });
                }
                Answer::ReadyForQuery(_) => break,
                _ => (),
            }
        }
        self.settings = self.ask("to tell its settings", SETTINGS).await?;
        Ok(())
    }

    /// Begins a turn of somebody who is this user. What a turn left that did not come to its end is undone before.
    pub(crate) async fn begin(&mut self, user: &str) -> Result<Result<(), String>, BackendError> {
        if self.is_taken {
            self.undo().await?;
        }
        self.is_taken = true;
        if self.user == user {
            return Ok(Ok(()));
        }
        self.become_user(user).await
    }

    /// Takes a user's rights; its own word, if it refuses. Its DEFAULT would be whom it was last.
    async fn become_user(&mut self, user: &str) -> Result<Result<(), String>, BackendError> {
        self.query(format!("SET SESSION AUTHORIZATION \"{}\"", user.replace('"', "\"\"")))?;
        if let Some(why) = self.ready().await? {
            return Ok(Err(why));
        }
        self.user = user.to_owned();
        Ok(Ok(()))
    }

    /// Ends a turn that has come to its end, and says what was left in the session, which is then gone from it.
    pub(crate) async fn end(&mut self) -> Result<Option<String>, BackendError> {
        let left = self.left().await?;
        if !left.is_empty() {
            self.reset().await?;
        }
        self.is_taken = false;
        Ok(Some(left).filter(|left| !left.is_empty()))
    }

    /// Undoes what was begun, in whatever state it is.
    pub(crate) async fn undo(&mut self) -> Result<(), BackendError> {
        if self.is_copying {
            self.order(&Order::CopyFail(CopyFail::new("the client is gone".to_owned())))?;
            self.is_copying = false;
        }
        // What was sent without a Sync must not be committed by ours, and an error in front of it sees to that.
        self.order(&Order::Describe(Describe::new(TARGET_TYPE_BYTE_PORTAL, Some("nobody's".to_owned()))))?;
        self.order(&Order::Sync(Sync::new()))?;
        self.query("ROLLBACK".to_owned())?;
        self.catch_up().await?;
        self.reset().await?;
        self.is_taken = false;
        Ok(())
    }

    /// Hands over a message.
    pub(crate) fn order(&mut self, order: &Order) -> Result<(), BackendError> {
        let mut message = BytesMut::new();
        order.encode(&mut message)?;
        self.orders.send(message).map_err(|_| BackendError::Ended)
    }

    /// The next answer. Whoever stops waiting for it loses nothing of it.
    pub(crate) async fn answer(&mut self) -> Result<Answer, BackendError> {
        let answer = self.answers.next().await?.ok_or(BackendError::Ended)?;
        if matches!(answer, Answer::CopyInResponse(_)) {
            self.is_copying = true;
        }
        Ok(answer)
    }

    fn query(&mut self, statement: String) -> Result<(), BackendError> {
        self.order(&Order::Query(Query::new(statement)))
    }

    /// Waits for the end of a query of ours; the error's text, if it came to one.
    async fn ready(&mut self) -> Result<Option<String>, BackendError> {
        let mut error = None;
        loop {
            match self.answer().await? {
                Answer::ErrorResponse(response) => error = Some(ErrorInfo::from(response).message),
                Answer::ReadyForQuery(_) => return Ok(error),
                _ => (),
            }
        }
    }

    async fn reset(&mut self) -> Result<(), BackendError> {
        let refused = |why| BackendError::Refused { what: "to forget a session", why };
        self.query("DISCARD ALL".to_owned())?;
        match self.ready().await? {
            None => self.become_user(OWNER).await?.map_err(refused),
            Some(why) => Err(refused(why)),
        }
    }

    /// What is left in the session, in words; nothing where it is as it was.
    async fn left(&mut self) -> Result<String, BackendError> {
        let quoted = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let left = LEFT.replace("$settings", &quoted(&self.settings)).replace("$user", &quoted(&self.user));
        self.ask("to tell what is left in a session", &left).await
    }

    /// The value of a question of ours, which has one row of one column.
    async fn ask(&mut self, what: &'static str, question: &str) -> Result<String, BackendError> {
        self.query(question.to_owned())?;
        let (mut value, mut error) = (None, None);
        loop {
            match self.answer().await? {
                // What follows the length of the one column.
                Answer::DataRow(row) => {
                    value = row.data.get(4..).map(|text| String::from_utf8_lossy(text).into_owned())
                }
                Answer::ErrorResponse(response) => error = Some(ErrorInfo::from(response).message),
                Answer::ReadyForQuery(ready) => {
                    let is_idle = matches!(ready.status, TransactionStatus::Idle);
                    let why = || error.unwrap_or_else(|| "a transaction is open".to_owned());
                    return value.filter(|_| is_idle).ok_or_else(|| BackendError::Refused { what, why: why() });
                }
                _ => (),
            }
        }
    }

    /// Waits until all that was said before is answered. The answer to this is known by the name of its column.
    async fn catch_up(&mut self) -> Result<(), BackendError> {
        self.asked += 1;
        let name = format!("asked_{}", self.asked);
        self.query(format!("SELECT 1 AS {name}"))?;
        let mut is_ours = false;
        loop {
            match self.answer().await? {
                Answer::RowDescription(row) => is_ours = row.fields.iter().any(|field| field.name == name),
                Answer::ReadyForQuery(_) if is_ours => return Ok(()),
                _ => (),
            }
        }
    }
}

/// Writes what is to be written, for as long as somebody may say something. The backend may answer meanwhile, and nobody who
/// reads its answers waits for it to read.
async fn write(mut stream: OwnedWriteHalf, mut waiting: mpsc::UnboundedReceiver<BytesMut>) {
    while let Some(message) = waiting.recv().await {
        // That it is gone, who reads its answers sees.
        if stream.write_all(&message).await.is_err() {
            return;
        }
    }
}

/// The settings that are set in the session.
const SETTINGS: &str = "
SELECT coalesce(array_agg(name || '=' || setting), '{}')::text FROM pg_catalog.pg_settings WHERE source = 'session'";

/// What is in a session, in words. Only what a transaction leaves behind is looked for: `pg_cursors` has those WITH HOLD then.
const LEFT: &str = "
SELECT concat_ws(', ',
  (SELECT 'prepared statements: ' || string_agg(name, ' ') FROM pg_catalog.pg_prepared_statements),
  (SELECT 'cursors: ' || string_agg(name, ' ') FROM pg_catalog.pg_cursors),
  (SELECT 'temporary tables: ' || string_agg(relname, ' ') FROM pg_catalog.pg_class
   WHERE relnamespace = pg_catalog.pg_my_temp_schema() AND relkind IN ('r', 'p', 'v', 'S')),
  (SELECT 'channels that it listens to: ' || string_agg(channel, ' ') FROM pg_catalog.pg_listening_channels() channel),
  (SELECT 'advisory locks: ' || count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' HAVING count(*) > 0),
  (SELECT 'settings: ' || string_agg(name, ' ' ORDER BY name) FROM pg_catalog.pg_settings
   WHERE source = 'session' AND name || '=' || setting <> ALL ($settings::text[])),
  CASE WHEN current_user <> $user THEN 'the role: ' || current_user END)";
