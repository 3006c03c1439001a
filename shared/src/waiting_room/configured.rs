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
    /// `QUEUE_TIMEOUT_SECONDS`. What is wrong is noted.
    pub fn configured(reader: &mut Reader<'_>) -> Self {
        const CALL: &str = "who is called must have time to ask for his place, and his ticket waits meanwhile";
        const BOOKING: &str = "a reservation must have time to be made, and his ticket waits meanwhile";
        const GRACE: &str = "seats are free some seconds after their reservation's end, and wait for nobody then";
        const SILENCE: &str =
            "a page that waits asks each 156 s at least, and who closed it must not be called for ever";

        let Self { call_window, booking_window, release_grace, silence } = Self::DEFAULT;
        Self {
            call_window: reader.seconds("CALL_WINDOW_SECONDS", call_window, Self::CALL_WINDOWS, CALL),
            booking_window: reader.seconds("BOOKING_WINDOW_SECONDS", booking_window, Self::BOOKING_WINDOWS, BOOKING),
            release_grace: reader.seconds("RELEASE_GRACE_SECONDS", release_grace, Self::RELEASE_GRACES, GRACE),
            silence: reader.seconds("QUEUE_TIMEOUT_SECONDS", silence, Self::SILENCES, SILENCE),
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

    #[test]
    fn each_length_may_be_at_either_end_and_beyond_it_is_refused_with_what_it_may_be() {
        let faults = |name: &str, seconds: u64| {
            let source = BTreeMap::from([(name.to_owned(), seconds.to_string())]);
            let mut reader = Reader::new(&source);
            let terms = Terms::configured(&mut reader);
            reader.finish(Some(terms)).map_or_else(|error| error.0, |_| Vec::new())
        };
        for (name, least, most) in [
            ("CALL_WINDOW_SECONDS", 2, 3_600),
            ("BOOKING_WINDOW_SECONDS", 10, 3_600),
            ("RELEASE_GRACE_SECONDS", 1, 900),
            ("QUEUE_TIMEOUT_SECONDS", 240, 86_400),
        ] {
            assert_eq!((faults(name, least), faults(name, most)), (Vec::new(), Vec::new()), "{name}");
            // 0 is no time at all, which has a fault of its own.
            for seconds in [(least > 1).then_some(least - 1), Some(most + 1), Some(most * 1_000)].into_iter().flatten()
            {
                let expected = format!("{name} must be from {least} to {most}, not {seconds}: ");
                let found = faults(name, seconds);
                assert!(found.len() == 1 && found[0].starts_with(&expected), "{found:?}");
            }
        }
    }
}
