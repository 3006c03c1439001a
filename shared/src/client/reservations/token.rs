//! The bearer token of the reservation API, which may be replaced in the secret while environments are warm.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::SystemTime,
};

use http::header::{HeaderValue, InvalidHeaderValue};

use super::SetupError;
use crate::config::{
    Secret,
    secret::{Lookups, SecretStore},
};

/// The field of the secret.
pub const TOKEN_FIELD: &str = "reservation_api_token";

/// The token that requests carry now.
#[derive(Debug)]
pub struct Token {
    state: Mutex<State>,
    store: Option<SecretStore>,
}

#[derive(Debug)]
struct State {
    presented: Presented,
    /// An answer to a request that was under way may still quote it.
    former: Option<Secret>,
    lookups: Lookups,
}

#[derive(Debug)]
struct Presented {
    secret: Secret,
    header: HeaderValue,
}

/// What came of a look into the secret. Its text fits after the API's refusal.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewal {
    /// There is nothing to look into.
    Impossible,
    /// It was looked into less than a minute ago.
    Recent,
    /// Another token is there, and the next try carries it.
    Renewed,
    /// The secret holds the token that was refused.
    Same,
    /// The secret could not be read, or holds no token that a header can carry.
    Failed(String),
}

impl fmt::Display for Renewal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Impossible => Ok(()),
            Self::Recent => f.write_str("; the secret was read again less than a minute ago"),
            Self::Renewed => f.write_str("; the secret holds another token by now, which the next try carries"),
            Self::Same => write!(f, "; the secret holds the same {TOKEN_FIELD} still, so correct it there"),
            Self::Failed(cause) => write!(f, "; the secret, read again for another token, {cause}"),
        }
    }
}

impl Token {
    /// A token, and where a refused one is looked up again.
    ///
    /// # Errors
    /// When a header can't carry it.
    pub fn new(secret: Secret, store: Option<SecretStore>) -> Result<Self, SetupError> {
        let presented = Presented::of(secret).map_err(|_| SetupError::Token)?;
        Ok(Self { state: Mutex::new(State { presented, former: None, lookups: Lookups::default() }), store })
    }

    /// The value of `Authorization`.
    pub(super) fn header(&self) -> HeaderValue {
        self.with(|state| state.presented.header.clone())
    }

    /// A text for people without the token in it, nor the one before.
    pub(super) fn hidden_in(&self, text: &str) -> String {
        self.with(|state| {
            let text = state.presented.secret.hidden_in(text);
            state.former.as_ref().map_or_else(|| text.clone(), |former| former.hidden_in(&text))
        })
    }

    /// Looks up the token after it was refused. Of many refusals at once, one asks.
    pub(super) async fn renew(&self) -> Renewal {
        let Some(store) = &self.store else { return Renewal::Impossible };
        if !self.with(|state| state.lookups.is_due(SystemTime::now())) {
            return Renewal::Recent;
        }
        let found = match store.read().await.and_then(|secret| secret.get(TOKEN_FIELD)) {
            Ok(found) => found,
            Err(cause) => return Renewal::Failed(cause),
        };
        let Some(found) = found.map(Secret::new) else {
            return Renewal::Failed(format!("holds no {TOKEN_FIELD}"));
        };
        match Presented::of(found) {
            Ok(presented) => self.with(|state| state.present(presented)),
            Err(_) => Renewal::Failed(format!("holds a {TOKEN_FIELD} that {}", SetupError::Token)),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn present(&mut self, presented: Presented) -> Renewal {
        if presented.secret == self.presented.secret {
            return Renewal::Same;
        }
        self.former = Some(std::mem::replace(&mut self.presented, presented).secret);
        Renewal::Renewed
    }
}

impl Presented {
    fn of(secret: Secret) -> Result<Self, InvalidHeaderValue> {
        let mut header = HeaderValue::from_str(&format!("Bearer {}", secret.expose()))?;
        header.set_sensitive(true);
        Ok(Self { secret, header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(token: &str) -> State {
        State { presented: Presented::of(Secret::new(token)).unwrap(), former: None, lookups: Lookups::default() }
    }

    #[test]
    fn a_new_token_takes_the_place_of_the_old_one_and_neither_is_told() {
        let token = Token { state: Mutex::new(state("old-token")), store: None };
        let present = |text: &str| {
            let presented = Presented::of(Secret::new(text)).unwrap();
            token.with(|state| state.present(presented))
        };
        assert_eq!(present("old-token"), Renewal::Same);
        assert_eq!(present("new-token"), Renewal::Renewed);
        assert_eq!(token.header(), "Bearer new-token");
        assert_eq!(token.hidden_in("old-token, new-token"), "***, ***");
    }
}
