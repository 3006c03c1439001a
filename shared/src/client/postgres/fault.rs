//! What a fault of PostgreSQL means, by its SQLSTATE: whose fault it is, and so what is to be tried again.
//!
//! | SQLSTATE | decision |
//! | --- | --- |
//! | none: refused, reset, closed, DNS, too slow | [`Decision::Connection`] |
//! | 08xxx, 57P01 to 57P03 (the server ends or starts), 25P03 and 57P05 (idle for too long), 25006 (read-only: the writer is a reader now), 0A000, 26000 and 42P05 (a statement that was prepared does not fit any more, or is another session's) | [`Decision::Connection`] |
//! | 28xxx (password or token refused) | [`Decision::Access`] |
//! | 53xxx (connections, memory, disk), 2200H (a sequence is used up) | [`Decision::Queue`] |
//! | 3D000, 3F000, 42501, 42703, 42883, 42P01, a schema that is too old, a server without TLS or with a certificate that we do not trust | [`Decision::Unready`] |
//! | 22xxx but 2200H, 23502, 23514 | [`Decision::Reject`] |
//! | anything else: 23503, 23505, 23P01, 40001, 40P01, 55P03, 57014, 25P02, XX000 ... | [`Decision::Record`] |
//!
//! A fault is told by its code and its constraint alone, because PostgreSQL's own text quotes the values of the row.

use std::{fmt, io};

use tokio_postgres::error::SqlState;

use crate::failure::quoted;

/// What the driver says of a server that answers no to TLS. It has no type for it.
const NO_TLS: &str = "server does not support TLS";

/// What is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// All of it, at once and over another connection; then later.
    Connection,
    /// All of it, with another password or token.
    Access,
    /// All of it, later: the server has too much to do.
    Queue,
    /// All of it, once a person has migrated the schema, given a right, or said whom we trust.
    Unready,
    /// Each record by itself: one of them is in the way of the others. A record that is alone is tried again later.
    Record,
    /// Each record by itself. A record that is alone can never be written.
    Reject,
}

/// Why something was not done, or nobody knows whether it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// PostgreSQL's word.
    Sql {
        /// The SQLSTATE.
        code: String,
        /// The constraint that was violated.
        constraint: Option<String>,
    },
    /// There is no connection any more, or none could be made.
    Lost(String),
    /// Nobody whom we trust vouches for the server, or it speaks no TLS. Why.
    Untrusted(String),
    /// No answer in time. What took so long.
    TimedOut(&'static str),
    /// There is nothing to connect with: why.
    NoAccess(String),
    /// The schema is older than the code.
    TooOld {
        /// The version that is there.
        found: i32,
        /// The version that the code needs.
        needed: i32,
    },
}

impl Error {
    pub(super) fn unreachable(error: io::Error) -> Self {
        Self::Lost(quoted(&error.to_string()).into_owned())
    }

    /// PostgreSQL's code for it, where it is PostgreSQL's word.
    pub fn sqlstate(&self) -> Option<&str> {
        match self {
            Self::Sql { code, .. } => Some(code),
            Self::Lost(_) | Self::Untrusted(_) | Self::TimedOut(_) | Self::NoAccess(_) | Self::TooOld { .. } => None,
        }
    }

    /// What is to be tried again.
    pub fn decision(&self) -> Decision {
        match self {
            Self::Sql { code, .. } => of_code(code),
            Self::Lost(_) | Self::TimedOut(_) => Decision::Connection,
            Self::NoAccess(_) => Decision::Access,
            Self::TooOld { .. } | Self::Untrusted(_) => Decision::Unready,
        }
    }
}

/// What a SQLSTATE means. What nobody classified is tried again, record by record.
pub fn of_code(code: &str) -> Decision {
    match (code.get(..2).unwrap_or_default(), code) {
        (_, "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "25006") | ("08", _) => Decision::Connection,
        (_, "0A000" | "26000" | "42P05") => Decision::Connection,
        ("28", _) => Decision::Access,
        ("53", _) | (_, "2200H") => Decision::Queue,
        (_, "3D000" | "3F000" | "42501" | "42703" | "42883" | "42P01") => Decision::Unready,
        ("22", _) | (_, "23502" | "23514") => Decision::Reject,
        _ => Decision::Record,
    }
}

impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => Self::Sql {
                code: answer.code().code().to_owned(),
                constraint: answer.constraint().map(|name| quoted(name).into_owned()),
            },
            None => match untrusted(&error) {
                Some(why) => Self::Untrusted(why),
                // An answer that can't be read, or is none that was waited for, leaves the connection in a state that nobody
                // knows.
                None => Self::Lost(told(&error)),
            },
        }
    }
}

/// Why the server is not to be trusted, where that is what is wrong.
fn untrusted(error: &tokio_postgres::Error) -> Option<String> {
    let cause = std::error::Error::source(error)?;
    if cause.to_string() == NO_TLS {
        return Some(format!("the {NO_TLS}"));
    }
    let error = cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref::<rustls::Error>()?;
    // Nobody can tell whether the others are the network's.
    matches!(error, rustls::Error::InvalidCertificate(_)).then(|| quoted(&error.to_string()).into_owned())
}

/// The driver's own words and those of the network. Neither knows a value.
fn told(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    quoted(&format!("{error}{}", cause.unwrap_or_default())).into_owned()
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sql { code, constraint: None } => write!(f, "the database answers {code}{}", hint(code)),
            Self::Sql { code, constraint: Some(constraint) } => {
                write!(f, "the database answers {code} by {constraint}{}", hint(code))
            }
            Self::Lost(why) => write!(f, "no connection to the database: {why}"),
            Self::Untrusted(why) => write!(
                f,
                "the database is not trusted: {why}; DB_CA_PEM must hold the authority that signs its certificate, DB_HOST must \
                 be a name in it, and the server must speak TLS"
            ),
            Self::TimedOut(what) => write!(f, "the database did not answer in time: {what} took too long"),
            Self::NoAccess(why) => write!(f, "there is nothing to sign in to the database with: {why}"),
            Self::TooOld { found, needed } => write!(
                f,
                "the database's schema has version {found} and this needs {needed}; run the function booking-migrate"
            ),
        }
    }
}

impl std::error::Error for Error {}

/// What a person can do about it.
fn hint(code: &str) -> &'static str {
    match of_code(code) {
        Decision::Access => {
            ", so it refuses the user, the password or the token; correct the secret, or with DB_AUTH=iam give the function's role \
             rds-db:connect for this user, and the user rds_iam"
        }
        Decision::Unready => ", so a table or a right is missing; run the function booking-migrate",
        Decision::Queue if code == SqlState::SEQUENCE_GENERATOR_LIMIT_EXCEEDED.code() => {
            ", so the sequence of the bookings' ids is used up; widen it"
        }
        Decision::Queue => ", so it has no room for more",
        Decision::Connection if matches!(code, "26000" | "42P05") => {
            ", so its session is not ours alone; where a proxy shares sessions out, set DB_STATEMENTS to unnamed"
        }
        Decision::Connection | Decision::Record | Decision::Reject => "",
    }
}

#[cfg(test)]
mod tests;
