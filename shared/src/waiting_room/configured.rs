//! What the functions of the waiting room read of their environment and their secret.

use super::{
    id::{KEY_FIELD, PlaceKeys},
    line::Terms,
    ticket::PushUrl,
};
use crate::config::Reader;

impl PlaceKeys {
    /// The keys of the secret. Nothing: what is wrong is noted.
    pub fn configured(reader: &mut Reader<'_>) -> Option<Self> {
        const NAME: &str = "SECRET_NAME";

        let Some(text) = reader.secret(KEY_FIELD) else {
            if reader.has_read_the_secret() {
                reader.fault(NAME, format!("must name a secret that holds {KEY_FIELD}"));
            }
            return None;
        };
        Self::read(&text).map_err(|fault| reader.fault(NAME, format!("holds {KEY_FIELD}, which {fault}"))).ok()
    }
}

impl Terms {
    /// As the variables say: `CALL_WINDOW_SECONDS`, `BOOKING_WINDOW_SECONDS`, `RELEASE_GRACE_SECONDS`,
    /// `QUEUE_TIMEOUT_SECONDS`.
    pub fn configured(reader: &mut Reader<'_>) -> Self {
        let Self { call_window, booking_window, release_grace, silence } = Self::DEFAULT;
        Self {
            call_window: reader.seconds("CALL_WINDOW_SECONDS", call_window),
            booking_window: reader.seconds("BOOKING_WINDOW_SECONDS", booking_window),
            release_grace: reader.seconds("RELEASE_GRACE_SECONDS", release_grace),
            silence: reader.seconds("QUEUE_TIMEOUT_SECONDS", silence),
        }
    }
}

impl PushUrl {
    /// That of the API that `PUSH_API_BASE` names. Nothing: the variable is not set, or what is wrong is noted.
    pub fn if_configured(reader: &mut Reader<'_>) -> Option<Self> {
        const NAME: &str = "PUSH_API_BASE";

        let text = reader.optional(NAME)?;
        let url = Self::of(&text);
        if url.is_none() {
            reader.fault(NAME, "must be a URL such as https://push.example.com/live; http is for this machine alone");
        }
        url
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use data_encoding::BASE64;

    use super::*;
    use crate::config::secret::SecretFields;

    #[test]
    fn a_secret_without_keys_is_named_and_never_shown() {
        let source = BTreeMap::new();
        let fault = |secret: &str| {
            let mut reader = Reader::with_secret(&source, Some(SecretFields::parse(secret)), None);
            let keys = PlaceKeys::configured(&mut reader);
            reader.finish(keys).map(drop).unwrap_err().to_string()
        };
        assert!(fault("{}").contains("SECRET_NAME must name a secret that holds waiting_room_key"));
        let short = fault(r#"{"waiting_room_key": "1:c2hvcnQ="}"#);
        assert!(short.contains("waiting_room_key") && !short.contains("c2hvcnQ="), "{short}");
        let secret = format!(r#"{{"waiting_room_key": "3:{}"}}"#, BASE64.encode(&[7; 32]));
        let mut reader = Reader::with_secret(&source, Some(SecretFields::parse(&secret)), None);
        let keys = PlaceKeys::configured(&mut reader);
        assert_eq!(reader.finish(keys).map(|keys| keys.newest()), Ok(3));
    }

    #[test]
    fn each_length_has_its_variable_and_its_default() {
        let source = BTreeMap::from([("CALL_WINDOW_SECONDS".to_owned(), "7".to_owned())]);
        let mut reader = Reader::new(&source);
        let terms = Terms::configured(&mut reader);
        assert_eq!(terms, Terms { call_window: std::time::Duration::from_secs(7), ..Terms::DEFAULT });
    }
}
