//! What a route's integration invokes.

use std::time::Duration;

use axum::{body::Bytes, http::StatusCode};

use crate::lambda::{Function, FunctionError};

/// A function, and how it is invoked.
#[derive(Clone, Debug)]
pub enum Target {
    /// A function of the stack.
    Function(Function),
    /// A function behind Lambda's Invoke API, such as that of `cargo lambda watch`.
    InvokeApi {
        /// The API's base URL.
        url: String,
        /// The function's name there.
        name: String,
    },
}

impl Target {
    /// What the function answers to an event.
    ///
    /// # Errors
    /// When it answered nothing, or an error. A function of the stack whose environments are all busy is waited for where
    /// Lambda would throttle.
    pub(super) async fn invoke(&self, event: Bytes, http: &reqwest::Client) -> Result<Vec<u8>, FunctionError> {
        match self {
            Self::Function(function) => function.invoke_within(event, Duration::MAX).await.result,
            Self::InvokeApi { url, name } => {
                let url = format!("{url}/2015-03-31/functions/{name}/invocations");
                let exited = |error: reqwest::Error| FunctionError::Exited(error.to_string());
                let answer = http.post(url).body(event).send().await.map_err(exited)?;
                let (status, failed) = (answer.status(), answer.headers().contains_key("x-amz-function-error"));
                let body = answer.bytes().await.map_err(exited)?;
                match status {
                    StatusCode::TOO_MANY_REQUESTS => Err(FunctionError::Throttled),
                    _ if failed || !status.is_success() => {
                        let message = String::from_utf8_lossy(&body).into_owned();
                        Err(FunctionError::Unhandled { error_type: status.to_string(), message })
                    }
                    _ => Ok(body.into()),
                }
            }
        }
    }
}
