//! Why a run ends without figures.

use std::error::Error;

/// What ended the run.
pub(crate) enum Stop {
    /// Records were not settled exactly once, so that the figures would be those of something else.
    Invalid(Vec<String>),
    /// Nothing could be run.
    Unable(Box<dyn Error + Send + Sync>),
}

impl Stop {
    pub(crate) fn unable(why: &'static str) -> Self {
        Self::Unable(why.into())
    }

    pub(crate) fn invalid(fault: String) -> Self {
        Self::Invalid(vec![fault])
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Unable(Box::new(error))
    }
}
