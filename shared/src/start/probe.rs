//! A look at what the configuration names, once per environment and before its first record. A deployment with a wrong name
//! then says so at its start, and not record by record.
//!
//! Only what is certain stops the start. A table that is not there, or not as it must be, cannot become so by waiting. A
//! service that does not answer may only be down, and a function that stayed away would use up receives for nothing.

use std::{fmt, time::Duration};

use tokio::time::timeout;
use tracing::{error, warn};

use crate::{
    client::{aws::table::Unfit, grpc::Connection},
    config::ConfigError,
};

/// The longest look at a service, however long its calls may take: Lambda gives an environment ten seconds to start, and
/// reading the secret may have taken two of them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the table that `variable` names.
///
/// # Errors
/// When nothing could ever be written to it.
pub async fn table(
    function: &str,
    variable: &str,
    look: impl Future<Output = Result<(), Unfit>>,
) -> Result<(), ConfigError> {
    match look.await {
        Ok(()) => Ok(()),
        Err(error @ (Unfit::Missing(_) | Unfit::Denied { .. } | Unfit::OtherKey { .. })) => {
            Err(ConfigError(vec![format!("{variable} {error}")]))
        }
        Err(Unfit::Unknown(cause)) => {
            warn!(
                event_type = function,
                error = cause,
                "{variable} could not be looked at; what needs it is retried until it can"
            );
            Ok(())
        }
    }
}

/// Connects to a service, so that its first call need not, and looks by that whether it is there.
pub async fn connection(function: &str, variable: &str, connection: &Connection) {
    service(function, variable, connection.address(), connection.connect()).await;
}

/// Looks at a service, and says which variable to look at when it can't be used now. `address` must hold no credentials.
pub async fn service<E: fmt::Display>(
    function: &str,
    variable: &str,
    address: impl fmt::Display,
    look: impl Future<Output = Result<(), E>>,
) {
    let cause = match timeout(PATIENCE, look).await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_elapsed) => format!("no answer within {} s", PATIENCE.as_secs()),
    };
    error!(
        event_type = function,
        error = cause,
        "{variable} names {address}, which can't be used now; what needs it is tried again until it can"
    );
}
