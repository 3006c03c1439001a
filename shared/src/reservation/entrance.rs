//! Who may make a reservation at all, where tickets are given out in line: of a show that has a line nobody makes one without
//! an admission. Which shows have one stands in the table of the waiting room, and each answer of it holds for a moment,
//! because a line is there before its sale begins.

use std::time::Duration;

use super::{lifecycle::Wish, service::Error};
use crate::{
    admission::{Admission, token::Keys},
    client::aws::table::Unfit,
    recent::Recent,
    start::Parts,
    waiting_room::table::Table,
};

/// The variable that names the table of the waiting room. It alone decides whether admissions are asked for.
pub(super) const TABLE: &str = "WAITING_ROOM_TABLE";

/// How long an answer of the table holds.
const KNOWN_FOR: Duration = Duration::from_secs(5);

/// How long after a failure the table is asked again.
const SOON: Duration = Duration::from_secs(1);

/// The door to reservations. Its copies share what is known of lines.
#[derive(Debug, Clone)]
pub struct Entrance {
    lines: Table,
    keys: Keys,
    /// Whether shows have a line.
    known: Recent<bool>,
}

impl Entrance {
    /// The door where these keys sign admissions, and the table of the waiting room says which shows have a line.
    pub fn new(lines: Table, keys: Keys) -> Self {
        Self { lines, keys, known: Recent::holding_for(KNOWN_FOR) }
    }

    /// As the environment and the secret say. `Some(None)`: no admission is asked for, because `WAITING_ROOM_TABLE` is unset.
    /// `None`: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Option<Self>> {
        if parts.reader.optional(TABLE).is_none() {
            return Some(None);
        }
        let lines = Table::configured(&mut parts.reader, parts.aws);
        Some(Some(Self::new(lines, Keys::configured(&mut parts.reader)?)))
    }

    /// Looks whether lines can be read at all.
    ///
    /// # Errors
    /// What is wrong with the table, or that it is not known.
    pub(super) async fn probe(&self) -> Result<(), Unfit> {
        self.lines.probe_lines().await
    }

    /// The right by which a wish is fulfilled; nothing, where it needs none. A token is judged at every show, and then the line
    /// is not asked for. Whether its time is over is not judged here: a reservation that exists is shown again by it.
    ///
    /// # Errors
    /// Why the wish is not let in, or that it is not known whether it needs a right.
    pub(super) async fn admit(&self, wish: &Wish, token: Option<&str>) -> Result<Option<Admission>, Error> {
        let Some(token) = token else {
            return if self.has_line(&wish.show_id).await? { Err(Error::AdmissionRequired) } else { Ok(None) };
        };
        let admission = self.keys.verify(token).map_err(Error::Denied)?;
        admission.admits(&wish.user_id, &wish.show_id).map_err(Error::Denied)?;
        if wish.quantity > admission.most_tickets {
            return Err(Error::TooMany { most: admission.most_tickets });
        }
        Ok(Some(admission))
    }

    async fn has_line(&self, show_id: &str) -> Result<bool, Error> {
        if let Some(has_line) = self.known.get(show_id) {
            return Ok(has_line);
        }
        let has_line = self.lines.has_line(show_id).await;
        let has_line = has_line.map_err(|error| Error::Line { cause: error.to_string(), after: SOON })?;
        self.known.keep(show_id, has_line);
        Ok(has_line)
    }
}
