//! What a client does that only a session of its own could bear. It is told what to do instead, and its connection ends.

use std::time::Duration;

use pgwire::{
    error::{ErrorInfo, PgWireError},
    messages::response::ErrorResponse,
};

/// Why a client is sent away.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Fault {
    /// A statement was prepared by name, or something asked for one.
    #[error("the statement {0:?} has a name, and whoever sends its next message may be in another session")]
    NamedStatement(String),
    /// A transaction, or a statement outside of one, has left something in the session.
    #[error("the session is left with {0}, and others will be in it")]
    SessionState(String),
    /// A connection was to start with something that it would keep.
    #[error("a connection can't start with {0}, because its session is shared")]
    StartUp(String),
    /// Only the one database is served.
    #[error("database {0:?} does not exist")]
    NoDatabase(String),
    /// The backend refuses to be that role.
    #[error("{0}")]
    Role(String),
    /// Rows were to be sent.
    #[error("COPY FROM STDIN is not served here")]
    CopyIn,
    /// Everybody waits for this client.
    #[error("the transaction was open and nobody said anything for {0:?}, while others wait for the one backend")]
    Silent(Duration),
    /// No message of the protocol.
    #[error("{0}")]
    Malformed(#[from] PgWireError),
}

impl Fault {
    /// The code, which is PostgreSQL's where it would refuse the same.
    fn sqlstate(&self) -> &'static str {
        match self {
            Self::NamedStatement(_) | Self::SessionState(_) | Self::StartUp(_) | Self::CopyIn => "0A000",
            Self::NoDatabase(_) => "3D000",
            Self::Role(_) => "28000",
            Self::Silent(_) => "25P03",
            Self::Malformed(_) => "08P01",
        }
    }

    /// What to do.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NamedStatement(_) => Some("Send it unnamed: with tokio-postgres by query_typed, and not by prepare."),
            Self::SessionState(_) => Some(
                "What was committed stays. Keep it inside of one transaction: SET LOCAL, pg_advisory_xact_lock, ON COMMIT \
                 DROP; or make it a setting of the role. Nobody can LISTEN here.",
            ),
            Self::StartUp(_) => Some("Make it a setting of the role: ALTER ROLE .. IN DATABASE .. SET .."),
            Self::CopyIn => Some("Insert the rows, as by SELECT unnest($1)."),
            Self::Silent(_) => Some("It was rolled back. Do what takes long before BEGIN or after COMMIT."),
            Self::NoDatabase(_) | Self::Role(_) | Self::Malformed(_) => None,
        }
    }

    /// The answer that ends the connection.
    pub(crate) fn answer(&self) -> ErrorResponse {
        let mut info = ErrorInfo::new("FATAL".to_owned(), self.sqlstate().to_owned(), self.to_string());
        info.hint = self.hint().map(str::to_owned);
        info.into()
    }
}
