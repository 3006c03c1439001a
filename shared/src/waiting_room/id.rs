//! The name of a place in a line. It follows from the line and the customer, so that a customer who joins twice, from another
//! device or after losing a cookie finds the one place. Nobody can guess it without the key.

use std::{collections::BTreeMap, fmt, str::FromStr};

use aws_lc_rs::hmac;
use data_encoding::{BASE32_NOPAD, BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

use super::line::Scope;

/// The secret's field with the keys.
pub const KEY_FIELD: &str = "waiting_room_key";

/// The bytes of a place's name: half of what the hash has.
const LENGTH: usize = 16;

/// A key shorter than the hash is weaker than it.
const SHORTEST_KEY: usize = 32;

/// A place's name. As text it is `q`, the version of its key, and 26 letters and digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlaceId {
    key_version: u8,
    hash: [u8; LENGTH],
}

impl PlaceId {
    /// The name that a table keeps as these bytes, in a line with this version of the key.
    pub fn of(key_version: u8, hash: [u8; LENGTH]) -> Self {
        Self { key_version, hash }
    }

    /// The name without its key's version, which the line knows.
    pub fn hash(&self) -> [u8; LENGTH] {
        self.hash
    }
}

impl fmt::Display for PlaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "q{}{}", self.key_version, BASE32_NOPAD.encode(&self.hash).to_ascii_lowercase())
    }
}

/// A text that names no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("names no place in a line")]
pub struct NoPlace;

impl FromStr for PlaceId {
    type Err = NoPlace;

    fn from_str(text: &str) -> Result<Self, NoPlace> {
        let (version, letters) = text.strip_prefix('q').and_then(|rest| rest.split_at_checked(1)).ok_or(NoPlace)?;
        let key_version = version.parse().ok().filter(|version| VERSIONS.contains(version)).ok_or(NoPlace)?;
        if letters.contains(|c: char| c.is_ascii_uppercase()) {
            return Err(NoPlace);
        }
        let hash = BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes()).map_err(|_| NoPlace)?;
        Ok(Self { key_version, hash: hash.try_into().map_err(|_| NoPlace)? })
    }
}

impl Serialize for PlaceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PlaceId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// The versions that a key may have: one digit of a name.
pub(super) const VERSIONS: std::ops::RangeInclusive<u8> = 1..=9;

/// A text that holds no keys. It fits after the field's name, and says nothing of what it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// A part has another form.
    #[error("must be one or more of VERSION:KEY with spaces between, VERSION a digit from 1 to 9 and KEY in base64")]
    Form,
    /// A key is too short.
    #[error("holds a key of less than {SHORTEST_KEY} bytes")]
    Short,
    /// Two keys have one version.
    #[error("holds two keys of one version")]
    Twice,
}

/// The keys that names are made with, by version. A line keeps the version that it was opened with, and that key must stay as
/// long as the line.
#[derive(Clone)]
pub struct PlaceKeys(BTreeMap<u8, hmac::Key>);

impl PlaceKeys {
    /// Reads keys as the secret holds them: `1:BASE64 2:BASE64`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(text: &str) -> Result<Self, KeysError> {
        let mut keys = BTreeMap::new();
        for part in text.split_ascii_whitespace() {
            let (version, key) = part.split_once(':').ok_or(KeysError::Form)?;
            let version = version.parse().ok().filter(|version| VERSIONS.contains(version)).ok_or(KeysError::Form)?;
            let key = BASE64.decode(key.as_bytes()).map_err(|_| KeysError::Form)?;
            if key.len() < SHORTEST_KEY {
                return Err(KeysError::Short);
            }
            if keys.insert(version, hmac::Key::new(hmac::HMAC_SHA256, &key)).is_some() {
                return Err(KeysError::Twice);
            }
        }
        if keys.is_empty() { Err(KeysError::Form) } else { Ok(Self(keys)) }
    }

    /// The version that new lines get.
    pub fn newest(&self) -> u8 {
        self.0.keys().next_back().copied().unwrap_or(*VERSIONS.start())
    }

    /// The customer's place in a line. Nothing, where the key of that line is not there any more.
    pub fn id(&self, scope: &Scope, user_id: &str) -> Option<PlaceId> {
        let mut context = hmac::Context::with_key(self.0.get(&scope.key_version)?);
        for value in [scope.generation.to_string().as_str(), &scope.show_id, user_id] {
            context.update(&value.len().to_be_bytes());
            context.update(value.as_bytes());
        }
        let mut hash = [0; LENGTH];
        hash.copy_from_slice(context.sign().as_ref().get(..LENGTH)?);
        Some(PlaceId::of(scope.key_version, hash))
    }
}

impl fmt::Debug for PlaceKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> PlaceKeys {
        let (first, second) = (BASE64.encode(&[1; 32]), BASE64.encode(&[2; 40]));
        PlaceKeys::read(&format!("2:{second} 1:{first}")).unwrap()
    }

    fn scope(show_id: &str, generation: u32, key_version: u8) -> Scope {
        Scope { show_id: show_id.to_owned(), generation, key_version }
    }

    #[test]
    fn a_name_follows_from_line_and_customer_and_from_nothing_else() {
        let id = |show: &str, generation, version, user: &str| keys().id(&scope(show, generation, version), user);
        let name = id("evt_1", 1, 1, "usr_1").unwrap();
        assert_eq!(Some(name), id("evt_1", 1, 1, "usr_1"));
        for other in [
            id("evt_1", 1, 1, "usr_2"),
            id("evt_2", 1, 1, "usr_1"),
            id("evt_1", 2, 1, "usr_1"),
            id("evt_1", 1, 2, "usr_1"),
            id("evt_1u", 1, 1, "sr_1"),
        ] {
            assert_ne!(Some(name), other.map(|id| PlaceId { key_version: 1, ..id }));
        }
        assert_eq!(id("evt_1", 1, 3, "usr_1"), None, "the key is gone");
        assert_eq!(keys().newest(), 2);
    }

    #[test]
    fn a_name_reads_back_from_its_text_and_no_other_text_is_one() {
        let name = keys().id(&scope("evt_1", 1, 1), "usr_1").unwrap();
        let text = name.to_string();
        assert!(text.len() == 28 && text.starts_with("q1"), "{text}");
        assert!(text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()), "{text}");
        assert_eq!(text.parse(), Ok(name));
        let upper = text.to_ascii_uppercase();
        let zero = text.replacen("q1", "q0", 1);
        for other in ["", "q", "q1", "é1", &text[1..], &text[..27], &format!("{text}a"), &upper, &zero] {
            assert_eq!(other.parse::<PlaceId>(), Err(NoPlace), "{other:?}");
        }
    }

    #[test]
    fn keys_that_are_none_are_told_by_what_is_wrong() {
        let long = BASE64.encode(&[1; 32]);
        for (text, fault) in [
            (String::new(), KeysError::Form),
            (long.clone(), KeysError::Form),
            (format!("0:{long}"), KeysError::Form),
            (format!("10:{long}"), KeysError::Form),
            ("1:???".to_owned(), KeysError::Form),
            (format!("1:{}", BASE64.encode(&[1; 31])), KeysError::Short),
            (format!("1:{long} 1:{long}"), KeysError::Twice),
        ] {
            assert_eq!(PlaceKeys::read(&text).unwrap_err(), fault, "{text}");
        }
        assert_eq!(format!("{:?}", keys()), "{1, 2}", "the keys do not show");
    }
}
