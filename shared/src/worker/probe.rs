//! A look at what the configuration names, once per environment and before its first record: the table, the inventory,
//! the reservation API. A deployment with a wrong name then says so at its start, and not record by record.
//!
//! Only what is certain stops the start. A table that is not there, or not as it must be, cannot become so by waiting. A
//! service that does not answer may only be down, and a function that stayed away would use up receives for nothing.

use std::{fmt, time::Duration};

use tokio::{join, time::timeout};
use tracing::{error, warn};

use crate::{
    config::ConfigError,
    idempotency::{Key, TableError},
    workflow::Services,
};

/// The longest look at a service, however long its calls may take: Lambda gives an environment ten seconds to start, and
/// reading the secret may have taken two of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at all three at once. The connections that this opens are those of the first records.
///
/// # Errors
/// When no record could ever be claimed in the table.
pub(super) async fn look(event_type: &str, services: &Services) -> Result<(), ConfigError> {
    let Services { idempotency, reservations, inventory, refunds: _ } = services;
    let key = Key::of(&[event_type, "probe"]);
    let (table, api, seats) =
        join!(idempotency.probe(&key), timeout(PATIENCE, reservations.probe()), timeout(PATIENCE, inventory.connect()));
    report(event_type, "RESERVATION_API_BASE", reservations.base(), api);
    report(event_type, "INVENTORY_GRPC_ADDR", inventory.address(), seats);
    match table {
        Ok(()) => Ok(()),
        Err(error @ (TableError::Missing(_) | TableError::Denied { .. } | TableError::Unfit { .. })) => {
            Err(ConfigError(vec![format!("IDEMPOTENCY_TABLE {error}")]))
        }
        Err(TableError::Unknown(cause)) => {
            warn!(
                event_type,
                error = cause,
                "IDEMPOTENCY_TABLE could not be looked at; records are retried until it can"
            );
            Ok(())
        }
    }
}

/// Says which variable to look at when a service did not answer. Addresses hold no credentials, by the rule of both.
fn report<E: fmt::Display>(
    event_type: &str,
    variable: &str,
    address: impl fmt::Display,
    answer: Result<Result<(), E>, tokio::time::error::Elapsed>,
) {
    let cause = match answer {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    error!(
        event_type,
        error = cause,
        "{variable} names {address}, which does not answer; records are retried until it does"
    );
}
