//! A client: its greeting, and its turns at the one backend.
//!
//! The backend is a client's from its first message until each Query and each Sync is answered and no transaction is open. That
//! is how a proxy shares sessions out by transactions. What a session would keep for its client shows as a fault.

#![expect(clippy::wildcard_enum_match_arm, reason = "most of the protocol's messages only pass through")]

use std::time::Duration;

use bytes::BytesMut;
use pgwire::messages::{
    DecodeContext, PgWireBackendMessage as Answer, PgWireFrontendMessage as Said, ProtocolVersion,
    SslNegotiationMetaMessage as Negotiation,
    extendedquery::TARGET_TYPE_BYTE_STATEMENT,
    response::{GssEncResponse, ReadyForQuery, SslResponse, TransactionStatus},
    startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey, Startup},
};
use tokio::{
    io::AsyncWriteExt,
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    time::timeout,
};

use crate::{
    backend::{Backend, BackendError, DATABASE},
    fault::Fault,
    wire::Messages,
};

/// How long a client that was sent away is waited for to read why.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a connection may start with: the rest would be the session's.
const HARMLESS: [&str; 3] = ["user", "database", "application_name"];

/// How a client's connection ends.
enum End {
    /// It went.
    Gone,
    /// It is sent away.
    Sent(Fault),
    /// Nobody can be served any more.
    Backend(BackendError),
}

impl From<BackendError> for End {
    fn from(error: BackendError) -> Self {
        Self::Backend(error)
    }
}

impl From<Fault> for End {
    fn from(fault: Fault) -> Self {
        Self::Sent(fault)
    }
}

/// Serves a client until it goes or is sent away.
///
/// # Errors
/// The backend can't go on.
pub(crate) async fn serve(
    stream: TcpStream,
    backend: &Mutex<Backend>,
    greeting: &[ParameterStatus],
    patience: Duration,
) -> Result<(), BackendError> {
    let (said, stream) = stream.into_split();
    let said = Messages::new(said, DecodeContext::new(ProtocolVersion::PROTOCOL3_0), Said::decode);
    let mut client = Client { said, stream, user: String::new(), patience };
    let Err(end) = client.talk(backend, greeting).await;
    match end {
        End::Gone => Ok(()),
        End::Sent(fault) => {
            client.send_away(&fault).await;
            Ok(())
        }
        End::Backend(error) => Err(error),
    }
}

struct Client {
    said: Messages<OwnedReadHalf, Said>,
    stream: OwnedWriteHalf,
    user: String,
    patience: Duration,
}

/// What happens in a turn.
enum Event {
    Said(Said),
    Answered(Answer),
    Silence,
}

impl Client {
    async fn talk(
        &mut self,
        backend: &Mutex<Backend>,
        greeting: &[ParameterStatus],
    ) -> Result<std::convert::Infallible, End> {
        self.greet(greeting).await?;
        loop {
            // Nobody holds the backend while this client has nothing to say.
            let first = self.next().await?;
            let mut backend = backend.lock().await;
            let ended = self.turn(&mut backend, first).await;
            if matches!(ended, Err(End::Gone | End::Sent(_))) {
                backend.undo().await?;
            }
            ended?;
        }
    }

    /// Lets whoever comes in: there is no password to know.
    async fn greet(&mut self, greeting: &[ParameterStatus]) -> Result<(), End> {
        let startup = loop {
            match self.next().await? {
                Said::SslNegotiation(Negotiation::PostgresSsl(_)) => {
                    self.tell(&[Answer::SslResponse(SslResponse::Refuse)]).await?;
                }
                Said::SslNegotiation(Negotiation::PostgresGss(_)) => {
                    self.tell(&[Answer::GssEncResponse(GssEncResponse::Refuse)]).await?;
                }
                Said::SslNegotiation(Negotiation::None) => self.said.context.awaiting_frontend_ssl = false,
                Said::Startup(startup) => break startup,
                // A statement can't be cancelled, and whoever wants that expects no answer.
                _ => return Err(End::Gone),
            }
        };
        self.said.context.awaiting_frontend_startup = false;
        self.user = self.welcome(startup)?;
        let mut answers = vec![Answer::Authentication(Authentication::Ok)];
        let parameter = |told: &ParameterStatus| {
            Answer::ParameterStatus(ParameterStatus::new(told.name.clone(), told.value.clone()))
        };
        answers.extend(greeting.iter().map(parameter));
        // By this a statement would be cancelled.
        answers.push(Answer::BackendKeyData(BackendKeyData::new(0, SecretKey::I32(0))));
        answers.push(Answer::ReadyForQuery(ReadyForQuery::new(TransactionStatus::Idle)));
        self.tell(&answers).await
    }

    /// Who it is.
    fn welcome(&self, startup: Startup) -> Result<String, Fault> {
        let parameters = startup.parameters;
        for (name, value) in &parameters {
            let is_utf8 = name == "client_encoding" && value.replace('-', "").eq_ignore_ascii_case("UTF8");
            if !is_utf8 && !HARMLESS.contains(&name.as_str()) {
                return Err(Fault::StartUp(format!("{name}={value}")));
            }
        }
        let user = parameters.get("user").cloned().unwrap_or_default();
        let database = parameters.get("database").unwrap_or(&user);
        if database != DATABASE {
            return Err(Fault::NoDatabase(database.clone()));
        }
        Ok(user)
    }

    /// From its first message until nothing is open.
    async fn turn(&mut self, backend: &mut Backend, first: Said) -> Result<(), End> {
        backend.begin(&self.user).await?.map_err(Fault::Role)?;
        // Answers that the backend owes, and whether something was sent that waits for its Sync.
        let (mut due, mut is_unsynced) = (0_u32, false);
        let mut event = Event::Said(first);
        loop {
            match event {
                Event::Said(said) => {
                    refuse(&said)?;
                    match &said {
                        Said::Query(_) | Said::Sync(_) => (due, is_unsynced) = (due + 1, false),
                        _ => is_unsynced = true,
                    }
                    backend.order(&said)?;
                }
                Event::Answered(Answer::ReadyForQuery(ready)) => {
                    due = due.saturating_sub(1);
                    let is_idle = matches!(ready.status, TransactionStatus::Idle);
                    let has_ended = is_idle && due == 0 && !is_unsynced;
                    if has_ended && let Some(left) = backend.end().await? {
                        return Err(Fault::SessionState(left).into());
                    }
                    self.tell(&[Answer::ReadyForQuery(ready)]).await?;
                    if has_ended {
                        return Ok(());
                    }
                }
                Event::Answered(Answer::CopyInResponse(_)) => return Err(Fault::CopyIn.into()),
                Event::Answered(answer) => self.tell(&[answer]).await?,
                Event::Silence => return Err(Fault::Silent(self.patience).into()),
            }
            let patience = self.patience;
            event = tokio::select! {
                answer = backend.answer() => Event::Answered(answer?),
                said = self.next() => Event::Said(said?),
                () = tokio::time::sleep(patience), if due == 0 => Event::Silence,
            };
        }
    }

    /// What it says next.
    async fn next(&mut self) -> Result<Said, End> {
        match self.said.next().await {
            Ok(Some(Said::Terminate(_)) | None) => Err(End::Gone),
            Ok(Some(said)) => Ok(said),
            Err(pgwire::error::PgWireError::IoError(_)) => Err(End::Gone),
            Err(error) => Err(Fault::Malformed(error).into()),
        }
    }

    /// Answers. Who does not read his answers holds up everybody.
    async fn tell(&mut self, answers: &[Answer]) -> Result<(), End> {
        let mut bytes = BytesMut::new();
        for answer in answers {
            answer.encode(&mut bytes).map_err(BackendError::from)?;
        }
        match timeout(self.patience, self.stream.write_all(&bytes)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(End::Gone),
        }
    }

    /// Says why, and waits until it is read: a connection that is closed with something unread loses what was said last.
    async fn send_away(&mut self, fault: &Fault) {
        if self.tell(&[Answer::ErrorResponse(fault.answer())]).await.is_ok() && self.stream.shutdown().await.is_ok() {
            drop(timeout(FAREWELL, self.said.drain()).await);
        }
    }
}

/// What can't be asked of a session that others are in.
fn refuse(said: &Said) -> Result<(), Fault> {
    let name = match said {
        Said::Parse(parse) => &parse.name,
        Said::Bind(bind) => &bind.statement_name,
        Said::Describe(describe) if describe.target_type == TARGET_TYPE_BYTE_STATEMENT => &describe.name,
        _ => &None,
    };
    match name {
        Some(name) => Err(Fault::NamedStatement(name.clone())),
        None => Ok(()),
    }
}
