//! Reading configuration: once, at start, and every fault in one error that names each variable.

use std::{collections::BTreeMap, fmt, str::FromStr};

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

/// Reads variables from a source and collects what is wrong, so that one start shows every fault.
pub struct Reader<'a> {
    source: &'a dyn Source,
    faults: Vec<String>,
}

impl<'a> Reader<'a> {
    /// A reader without faults yet.
    pub fn new(source: &'a dyn Source) -> Self {
        Self { source, faults: Vec::new() }
    }

    /// A variable that may be unset.
    pub fn optional(&self, name: &str) -> Option<String> {
        self.source.get(name)
    }

    /// A variable that must be set. The value returned in its absence is never used: [`Reader::finish`] fails.
    pub fn required(&mut self, name: &str) -> String {
        self.source.get(name).unwrap_or_else(|| {
            self.fault(name, "is required and not set");
            String::new()
        })
    }

    /// A whole number of at least 1, or its default.
    pub fn count<T>(&mut self, name: &str, default: T) -> T
    where
        T: FromStr + PartialOrd + From<u8>,
    {
        let Some(text) = self.source.get(name) else {
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
        match self.source.get(name).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(other) => {
                let fault = format!("must be true or false, not {other:?}");
                self.fault(name, fault);
                false
            }
        }
    }

    /// Notes a fault of `name`. The text follows the name, as in "is required and not set".
    pub fn fault(&mut self, name: &str, text: impl fmt::Display) {
        self.faults.push(format!("{name} {text}"));
    }

    /// The value, if nothing was wrong.
    ///
    /// # Errors
    /// Every fault that was noted.
    pub fn finish<T>(self, value: T) -> Result<T, ConfigError> {
        if self.faults.is_empty() { Ok(value) } else { Err(ConfigError(self.faults)) }
    }
}

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
        let text = reader.finish(()).unwrap_err().to_string();
        for part in ["TABLE is required", "COUNT must be", "\"0\"", "SWITCH must be true or false", "\"yes\""] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }

    #[test]
    fn empty_is_unset() {
        let source = BTreeMap::from([("COUNT".to_owned(), String::new())]);
        let mut reader = Reader::new(&source);
        assert_eq!(reader.optional("COUNT"), None);
        assert_eq!(reader.count("COUNT", 5_u32), 5);
        assert_eq!(reader.finish(()), Ok(()));
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
