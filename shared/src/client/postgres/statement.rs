//! How the statements of a transaction are sent: unnamed, or prepared once for a connection.
//!
//! A prepared statement is parsed and planned once in place of each time, which is most of what a small transaction costs the
//! server. It lives in the server's session, though, and a proxy that shares its sessions out hands the next transaction
//! another one: at best it does not know the statement, and at worst it knows another by that name. So nothing is prepared
//! unless the settings say that every connection is a session of its own.

use std::collections::HashMap;

use futures_util::future::try_join_all;
use tokio::sync::OnceCell;
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};

use super::fault::Error;
use crate::start::Parts;

/// A parameter of a statement.
pub type Value<'a> = &'a (dyn ToSql + Sync);

/// How statements are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statements {
    /// With their text, and nothing of them stays behind.
    Unnamed,
    /// Prepared once for a connection.
    Prepared,
}

impl Statements {
    /// `DB_STATEMENTS`: `unnamed` or `prepared`. Nothing: what is wrong is noted.
    pub(super) fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        match parts.reader.optional("DB_STATEMENTS").as_deref() {
            None | Some("unnamed") => Some(Self::Unnamed),
            Some("prepared") => Some(Self::Prepared),
            Some(other) => {
                parts.reader.fault("DB_STATEMENTS", format!("must be unnamed or prepared, not {other:?}"));
                None
            }
        }
    }
}

/// A statement, and the types of its parameters.
#[derive(Debug, Clone)]
pub struct Statement {
    text: String,
    types: &'static [Type],
}

impl Statement {
    /// A statement with parameters of these types.
    pub fn new(text: impl Into<String>, types: &'static [Type]) -> Self {
        Self { text: text.into(), types }
    }
}

/// The statements of a connection.
#[derive(Debug)]
pub(super) struct Sender {
    how: Statements,
    /// By their texts.
    prepared: OnceCell<HashMap<String, tokio_postgres::Statement>>,
}

impl Sender {
    pub(super) fn new(how: Statements) -> Self {
        Self { how, prepared: OnceCell::new() }
    }

    /// Prepares them in one round trip, where they are to be prepared and are not. A connection serves one kind of work, so
    /// that these are all that it ever sends.
    pub(super) async fn prepare(&self, client: &Client, statements: &[Statement]) -> Result<(), Error> {
        if self.how == Statements::Unnamed {
            return Ok(());
        }
        let prepare = async |statement: &Statement| {
            Ok::<_, tokio_postgres::Error>((
                statement.text.clone(),
                client.prepare_typed(&statement.text, statement.types).await?,
            ))
        };
        let prepared = || async { Ok(try_join_all(statements.iter().map(prepare)).await?.into_iter().collect()) };
        self.prepared.get_or_try_init(prepared).await.map(|_| ())
    }

    /// Sends one at its first poll, and gives the rows of its answer.
    pub(super) async fn query(
        &self,
        client: &Client,
        statement: &Statement,
        values: &[Value<'_>],
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        match self.prepared.get().and_then(|prepared| prepared.get(&statement.text)) {
            Some(prepared) => client.query(prepared, values).await,
            None => {
                let values: Vec<(Value<'_>, Type)> =
                    values.iter().copied().zip(statement.types.iter().cloned()).collect();
                client.query_typed(&statement.text, &values).await
            }
        }
    }
}
