//! The fields of one JSON object, each read on its own, so that all that is wrong is told at once.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// An object whose values are not read yet: a body must keep its bytes.
pub(super) struct Object<'a, 'f> {
    place: String,
    fields: BTreeMap<String, &'a RawValue>,
    faults: &'f mut Vec<String>,
}

impl<'a, 'f> Object<'a, 'f> {
    /// Reads the fields of `raw`, which stands at `place`; None, and a fault, where it is no object.
    pub(super) fn read(place: &str, raw: &'a RawValue, faults: &'f mut Vec<String>) -> Option<Self> {
        match serde_json::from_str(raw.get()) {
            Ok(fields) => Some(Self { place: place.to_owned(), fields, faults }),
            Err(_) => {
                faults.push(format!("{place} is {}, and has to be an object", kind(raw)));
                None
            }
        }
    }

    pub(super) fn fault(&mut self, mend: impl AsRef<str>) {
        let at = if self.place.is_empty() { String::new() } else { format!("{}: ", self.place) };
        self.faults.push(format!("{at}{}", mend.as_ref()));
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.contains_key(name)
    }

    /// Takes a field as it stands. A null is an absent field.
    pub(super) fn raw(&mut self, name: &str) -> Option<&'a RawValue> {
        self.fields.remove(name).filter(|raw| raw.get() != "null")
    }

    /// Takes a field that may be absent.
    pub(super) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let raw = self.raw(name)?;
        match serde_json::from_str(raw.get()) {
            Ok(value) => Some(value),
            Err(error) => {
                let why = error.to_string();
                let why = why.split(" at line ").next().unwrap_or_default();
                self.fault(format!("{name:?} is {}: {why}", kind(raw)));
                None
            }
        }
    }

    /// Takes a field that has to be there.
    pub(super) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        if self.fields.get(name).is_none_or(|raw| raw.get() == "null") {
            self.fields.remove(name);
            self.fault(format!("{name:?} is missing"));
            return None;
        }
        self.optional(name)
    }

    /// Takes a list of values that are read one by one; None where it is absent or no list.
    pub(super) fn list(&mut self, name: &str) -> Option<Vec<&'a RawValue>> {
        let raw = self.raw(name)?;
        let list = serde_json::from_str(raw.get()).ok();
        if list.is_none() {
            self.fault(format!("{name:?} is {}, and has to be a list", kind(raw)));
        }
        list
    }

    /// Says that what was not taken is not known.
    pub(super) fn end(mut self) {
        for name in std::mem::take(&mut self.fields).into_keys() {
            self.fault(format!("{name:?} is no field that is known here"));
        }
    }
}

/// What a value is, and the value where it is short.
pub(super) fn kind(raw: &RawValue) -> String {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => "an object".to_owned(),
        Some(b'[') => "a list".to_owned(),
        Some(b'"') if text.len() > 60 => "a long text".to_owned(),
        _ if text.len() > 60 => "a long number".to_owned(),
        _ => text.to_owned(),
    }
}
