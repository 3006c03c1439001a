//! What operators do with lines: open one, set it, let it stand still and go on, and open it anew after its sale.

use tracing::warn;

use super::{
    Moment,
    id::PlaceKeys,
    line::{Line, Scope, Settings, SettingsError},
    table::{Table, TableError, Written},
};

/// How often a line is set anew, when a tick has written it meanwhile: it does so each second.
const TRIES: u32 = 5;

/// What became of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Set {
    /// It is open now, and nobody stands in it.
    Opened(Line),
    /// It was there, and is what was asked for.
    Changed(Line),
}

/// Why a line is not what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The show has no line.
    #[error("this event has no line; open one by PUT")]
    Unknown,
    /// A line can't be so.
    #[error("{field} {0}", field = .0.field())]
    Settings(SettingsError),
    /// There is a line, which is not over.
    #[error(
        "the line of this event is not over: it must be closed, and nobody's turn be going on, before it is opened anew"
    )]
    NotOver,
    /// The table did not do what was asked, or nobody knows; why is for the log alone, because it may name our account.
    #[error("the line can't be read or written now; send the request again")]
    Unavailable(String),
}

impl Error {
    /// Writes down what stood in the way, where that is no matter of whoever asked.
    pub fn write_cause(&self) {
        match self {
            Self::Unavailable(cause) => warn!(error = cause, "a request about a line can't be served now"),
            Self::Unknown | Self::Settings(_) | Self::NotOver => {}
        }
    }
}

impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Unavailable { .. } | TableError::Unreadable { .. } => Self::Unavailable(error.to_string()),
        }
    }
}

/// The lines, for their operators.
#[derive(Debug)]
pub struct Lines {
    table: Table,
    keys: PlaceKeys,
}

impl Lines {
    /// The lines of a table, whose places are named by these keys.
    pub fn new(table: Table, keys: PlaceKeys) -> Self {
        Self { table, keys }
    }

    /// The line of a show as it is at this moment.
    ///
    /// # Errors
    /// When the show has none, or it is not known.
    pub async fn line(&self, show_id: &str) -> Result<Line, Error> {
        self.table.line(show_id).await?.ok_or(Error::Unknown)
    }

    /// Sets the line of a show, and opens it where the show has none. `anew`: a line that is over makes room for one in which
    /// nobody stands.
    ///
    /// # Errors
    /// Why the line is not so, or that it is not known. A repeat finds out.
    pub async fn set(&self, show_id: &str, settings: &Settings, anew: bool, now: Moment) -> Result<Set, Error> {
        for _ in 0..TRIES {
            let (set, written) = match self.table.line(show_id).await? {
                Some(line) if anew && !is_over(&line, now) => return Err(Error::NotOver),
                Some(line) if !anew => {
                    let line = line.set(settings.clone(), now).map_err(Error::Settings)?;
                    let written = self.table.set(&line).await?;
                    (Set::Changed(line), written)
                }
                before @ (Some(_) | None) => {
                    let scope = self.scope(show_id, before.as_ref(), now);
                    let line = Line::open(scope, settings.clone()).map_err(Error::Settings)?;
                    let written = match &before {
                        Some(before) => self.table.open_anew(&line, before).await?,
                        None => self.table.open(&line).await?,
                    };
                    (Set::Opened(line), written)
                }
            };
            match written {
                Written::Made => return Ok(set),
                Written::Overtaken => {}
            }
        }
        Err(Error::Unavailable(format!("the line of {show_id} changes too often to be set")))
    }

    /// A generation that no line of this show has had, not even one whose record is gone: the second in which it opens.
    fn scope(&self, show_id: &str, before: Option<&Line>, now: Moment) -> Scope {
        let after = before.map_or(1, |before| before.scope.generation.saturating_add(1));
        let generation = u32::try_from(now / 1_000).unwrap_or(u32::MAX).max(after);
        Scope { show_id: show_id.to_owned(), generation, key_version: self.keys.newest() }
    }
}

/// Whether nobody joins any more, and nobody has a right that a new line would not know of.
fn is_over(line: &Line, now: Moment) -> bool {
    !line.is_open_for_joining(now) && line.inside == 0
}
