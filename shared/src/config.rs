//! Reading configuration: once, at start, and every fault in one error that names each variable.

pub mod secret;

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use self::secret::{SecretFields, SecretStore};

/// Where values come from. Set but empty counts as unset, so that a template may pass an empty parameter on.
pub trait Source {
    /// The value of `name`, when it is set and not empty.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process environment.
#[derive(Debug, Clone, Copy)]
pub struct ProcessEnvironment;

impl Source for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }
}

impl Source for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<String> {
        BTreeMap::get(self, name).filter(|value| !value.is_empty()).cloned()
    }
}

/// A value that never shows in a log or an error.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value that is to stay secret.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// The value itself, for the one call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// A text for people without this value in it: whoever is shown a secret may quote it back.
    pub fn hidden_in(&self, text: &str) -> String {
        let mut shown = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = match self.after(rest).filter(|after| after.len() < rest.len()) {
                Some(after) => {
                    shown.push_str("***");
                    after
                }
                None => {
                    shown.push(first);
                    &rest[first.len_utf8()..]
                }
            };
        }
        shown
    }

    /// What follows this value at the start of a text. Each character may be escaped, because a service quotes with
    /// whatever JSON library it has.
    fn after<'a>(&self, text: &'a str) -> Option<&'a str> {
        self.0.chars().try_fold(text, |text, character| {
            let is_it = |digits: &&str| u32::from_str_radix(digits, 16) == Ok(character.into());
            let hexadecimal = ["\\u00", "%"].into_iter().find_map(|sign| {
                let (digits, after) = text.strip_prefix(sign)?.split_at_checked(2)?;
                Some(digits).filter(is_it).map(|_| after)
            });
            let escaped = || text.strip_prefix('\\')?.strip_prefix(character);
            hexadecimal.or_else(escaped).or_else(|| text.strip_prefix(character))
        })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Everything that is wrong with the configuration, by variable.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the configuration is wrong: {}", .0.join("; "))]
pub struct ConfigError(pub Vec<String>);

/// Reads variables, and the fields of the secret that stand in for some, and collects what is wrong, so that one start
/// shows every fault.
pub struct Reader<'a> {
    environment: &'a dyn Source,
    secret: SecretFields,
    store: Option<SecretStore>,
    /// Whether the secret could not be read: what it may hold nobody knows then, and its own fault is enough.
    secret_is_unreadable: bool,
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader without a secret.
    pub fn new(environment: &'a dyn Source) -> Self {
        let (secret, faults) = (SecretFields::none(), Vec::new());
        Self { environment, secret, store: None, secret_is_unreadable: false, faults }
    }

    /// A reader of the environment and of the secret that it asks for, if it does: what the secret held at the start, and
    /// where it is, because some of it may be replaced while we run.
    pub fn with_secret(
        environment: &'a dyn Source,
        secret: Option<Result<SecretFields, String>>,
        store: Option<SecretStore>,
    ) -> Self {
        let mut reader = Self { store, ..Self::new(environment) };
        if reader.switch("USE_SECRET_MANAGER") {
            reader.required("SECRET_NAME");
        }
        match secret {
            Some(Ok(secret)) => reader.secret = secret,
            Some(Err(fault)) => {
                reader.secret_is_unreadable = true;
                reader.fault("SECRET_NAME", fault);
            }
            None => {}
        }
        reader
    }

    /// A variable that may be unset.
    pub fn optional(&self, name: &str) -> Option<String> {
        self.environment.get(name)
    }

    /// A variable that must be set. The value returned in its absence is never used: [`Reader::finish`] fails.
    pub fn required(&mut self, name: &str) -> String {
        self.environment.get(name).unwrap_or_else(|| {
            self.fault(name, NOT_SET);
            String::new()
        })
    }

    /// A field of the secret that no variable stands for, because it is secret.
    pub fn secret(&mut self, field: &str) -> Option<String> {
        self.secret.get(field).unwrap_or_else(|fault| {
            self.fault("SECRET_NAME", fault);
            None
        })
    }

    /// A field of the secret that must be there. Nothing: the fault is noted.
    pub fn required_secret(&mut self, field: &str) -> Option<String> {
        match self.secret.get(field) {
            Ok(Some(value)) => return Some(value),
            Ok(None) if self.secret_is_unreadable => {}
            Ok(None) => self.fault("SECRET_NAME", format!("must hold {field}")),
            Err(fault) => self.fault("SECRET_NAME", fault),
        }
        None
    }

    /// A variable that may be unset, or the field of the secret that then stands in for it.
    pub fn optional_or_secret(&mut self, name: &str, field: &str) -> Option<String> {
        self.environment.get(name).or_else(|| self.secret(field))
    }

    /// A variable that must be set, or the field of the secret that stands in for it. Nothing: the fault is noted.
    pub fn required_or_secret(&mut self, name: &str, field: &str) -> Option<String> {
        match self.environment.get(name).map_or_else(|| self.secret.get(field), |value| Ok(Some(value))) {
            Ok(Some(value)) => return Some(value),
            Ok(None) if self.secret_is_unreadable => {}
            Ok(None) => self.fault(name, NOT_SET),
            Err(fault) => self.fault("SECRET_NAME", fault),
        }
        None
    }

    /// Whether the secret's fields are known, be there a secret or none. Of one that could not be read nothing is said, because
    /// its own fault is enough.
    pub fn has_read_the_secret(&self) -> bool {
        !self.secret_is_unreadable
    }

    /// Where the secret is, for what must be looked up again while we run.
    pub fn secret_store(&self) -> Option<SecretStore> {
        self.store.clone()
    }

    /// A whole number of at least 1, or its default.
    pub fn count<T>(&mut self, name: &str, default: T) -> T
    where
        T: FromStr + PartialOrd + From<u8>,
    {
        let Some(text) = self.environment.get(name) else {
            return default;
        };
        match text.parse() {
            Ok(value) if value >= T::from(1) => value,
            Ok(_) | Err(_) => {
                self.fault(name, format!("must be a whole number of at least 1 and in range, not {text:?}"));
                default
            }
        }
    }

    /// A switch, `true` or `false`; off when unset.
    pub fn switch(&mut self, name: &str) -> bool {
        match self.environment.get(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let fault = format!("must be true or false, not {other:?}");
                self.fault(name, fault);
                false
            }
        }
    }

    /// Notes a fault of `name`, once, however many parts read it. The text follows the name, as in "is required and not set".
    pub fn fault(&mut self, name: &str, text: impl Display) {
        let fault = format!("{name} {text}");
        if !self.faults.contains(&fault) {
            self.faults.push(fault);
        }
    }

    /// A time in milliseconds, at least 1, or its default.
    pub fn milliseconds(&mut self, name: &str, default: Duration) -> Duration {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(self.count(name, default))
    }

    /// A time in whole seconds, or its default. One beyond these ends is noted, with the reason for them.
    pub fn seconds(
        &mut self,
        name: &str,
        default: Duration,
        ends: RangeInclusive<Duration>,
        reason: &'static str,
    ) -> Duration {
        let time = Duration::from_secs(self.count(name, default.as_secs()));
        if !ends.contains(&time) {
            let [least, most, seconds] = [*ends.start(), *ends.end(), time].map(|time| time.as_secs());
            self.outside(name, least..=most, seconds, reason);
        }
        time
    }

    /// A limit that is off where it is unset. One beyond these ends, or that is no whole number, is noted, with the reason for
    /// them.
    pub fn limit(&mut self, name: &str, ends: RangeInclusive<u8>, reason: &'static str) -> Option<u8> {
        let text = self.environment.get(name)?;
        let limit = text.parse().ok().filter(|limit| ends.contains(limit));
        if limit.is_none() {
            self.outside(name, ends, format_args!("{text:?}"), reason);
        }
        limit
    }

    /// Notes that a variable has a value beyond its ends.
    fn outside<T: Display>(&mut self, name: &str, ends: RangeInclusive<T>, value: impl Display, reason: &str) {
        self.fault(name, format!("must be from {} to {}, not {value}: {reason}", ends.start(), ends.end()));
    }

    /// What was made of the variables, if nothing was wrong.
    ///
    /// # Errors
    /// Every fault that was noted.
    pub fn finish<T>(self, made: Option<T>) -> Result<T, ConfigError> {
        match made {
            Some(made) if self.faults.is_empty() => Ok(made),
            None if self.faults.is_empty() => Err(ConfigError(vec!["a part could not be made".to_owned()])),
            Some(_) | None => Err(ConfigError(self.faults)),
        }
    }
}

const NOT_SET: &str = "is required and not set";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_in_one_error() {
        let source = BTreeMap::from([("COUNT".to_owned(), "0".to_owned()), ("SWITCH".to_owned(), "yes".to_owned())]);
        let mut reader = Reader::new(&source);
        reader.required("TABLE");
        reader.count("COUNT", 5_u32);
        reader.switch("SWITCH");
        let text = reader.finish(Some(())).unwrap_err().to_string();
        for part in ["TABLE is required", "COUNT must be", "\"0\"", "SWITCH must be true or false", "\"yes\""] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn nothing_is_made_of_variables_without_saying_why() {
        let source = BTreeMap::new();
        assert!(Reader::new(&source).finish(None::<()>).is_err());
    }

    #[test]
    fn the_secret_stands_in_for_what_the_environment_leaves_out() {
        let source = BTreeMap::from([("A".to_owned(), "from the environment".to_owned())]);
        let secret = SecretFields::parse(r#"{"a": "x", "b": "from the secret", "c": 3}"#);
        let mut reader = Reader::with_secret(&source, Some(secret), None);
        assert_eq!(reader.required_or_secret("A", "a").as_deref(), Some("from the environment"));
        assert_eq!(reader.required_or_secret("B", "b").as_deref(), Some("from the secret"));
        assert_eq!((reader.required_or_secret("C", "c"), reader.required_or_secret("D", "d")), (None, None));
        assert_eq!(
            reader.finish(Some(())).unwrap_err().0,
            ["SECRET_NAME holds c, which must be a string", "D is required and not set"]
        );
    }

    #[test]
    fn an_unreadable_secret_is_one_fault_and_not_three() {
        let source = BTreeMap::new();
        let mut reader = Reader::with_secret(&source, Some(Err("could not be read: no access".to_owned())), None);
        assert_eq!((reader.required_or_secret("A", "a"), reader.required_or_secret("B", "b")), (None, None));
        assert_eq!(reader.finish(None::<()>).unwrap_err().0, ["SECRET_NAME could not be read: no access"]);
    }

    #[test]
    fn a_secret_manager_without_a_name_is_a_fault() {
        let source = BTreeMap::from([("USE_SECRET_MANAGER".to_owned(), "true".to_owned())]);
        let reader = Reader::with_secret(&source, None, None);
        assert_eq!(reader.finish(Some(())).unwrap_err().0, ["SECRET_NAME is required and not set"]);
    }

    #[test]
    fn empty_is_unset() {
        let source = BTreeMap::from([("COUNT".to_owned(), String::new())]);
        let mut reader = Reader::new(&source);
        assert_eq!(reader.optional("COUNT"), None);
        assert_eq!(reader.count("COUNT", 5_u32), 5);
        assert_eq!(reader.finish(Some(())), Ok(()));
    }

    #[test]
    fn a_secret_does_not_show() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "***");
    }

    #[test]
    fn a_quoted_secret_is_hidden_however_it_is_escaped() {
        let secret = Secret::new("a/\"é\\b=");
        for quoted in ["a/\"é\\b=", r#"a\/\"é\\b="#, r#"a/\"\u00e9\\b\u003d"#, "a%2F%22é%5cb%3D"] {
            assert_eq!(secret.hidden_in(&format!("<a/{quoted}{quoted}>")), "<a/******>", "{quoted}");
        }
        assert_eq!(secret.hidden_in("a/ and a%2"), "a/ and a%2", "a part of it is none");
        assert_eq!(Secret::new("").hidden_in("text"), "text");
    }
}
