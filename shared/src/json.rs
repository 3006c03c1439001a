//! An object of somebody else's, read leniently where nothing is decided.
//!
//! The object is kept as the text of its fields, and a field is read when it is asked for. So what nobody asks for can't
//! spoil the rest: half a surrogate pair in a customer's name, a number that no type holds, nesting without end. What is
//! no JSON is refused wherever it stands. Skipping a field takes no stack, and reading one has serde_json's limit of 128
//! levels.
//!
//! A name that stands there twice is ambiguous when its values differ, because readers do not agree on which one counts.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

/// As many as serde_json reads.
const LEVELS: usize = 128;

/// A JSON object whose fields are still text.
#[derive(Debug, Default)]
pub struct Object<'a> {
    fields: Vec<(Cow<'a, str>, &'a RawValue)>,
}

/// Why a text is no object. It fits after the text's name, as in "the body is empty".
#[derive(Debug, thiserror::Error)]
pub enum NotAnObject {
    /// There is nothing.
    #[error("is empty")]
    Empty,
    /// An array, a string, a number and the like.
    #[error("is JSON, but not an object")]
    OtherJson,
    /// It breaks the grammar.
    #[error("is not JSON: {0}")]
    NotJson(serde_json::Error),
}

/// Why a field can't be used. It fits after the field's name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nobody knows which value is meant.
    #[error("stands there more than once, with different values")]
    Ambiguous,
    /// It keeps to the grammar but stands for nothing, such as half a surrogate pair or a number beyond all types.
    #[error("can't be read: {0}")]
    Unreadable(String),
    /// Asked for as an object, it is something else.
    #[error("must be an object")]
    NotAnObject,
}

/// Why a field that has several names, or several places, can't be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Nobody knows which value is meant.
    #[error("{0}")]
    Ambiguous(String),
    /// Its value breaks a rule.
    #[error("{0}")]
    Invalid(String),
}

impl Unusable {
    /// Why the field `name` can't be used.
    pub fn of(name: &str, fault: &Fault) -> Self {
        let text = format!("{name} {fault}");
        match fault {
            Fault::Ambiguous => Self::Ambiguous(text),
            Fault::Unreadable(_) | Fault::NotAnObject => Self::Invalid(text),
        }
    }
}

/// What `rule` makes of the field that goes by `names` in `scopes`. It must have one value wherever it stands.
///
/// # Errors
/// When it has two, or breaks the rule.
pub fn one<'s, 'a: 's, T: PartialEq, R: AsRef<str>>(
    scopes: impl IntoIterator<Item = &'s Object<'a>>,
    names: &[&str],
    rule: impl Fn(&Value) -> Result<T, R>,
) -> Result<Option<T>, Unusable> {
    let mut found: Option<(&str, T)> = None;
    for scope in scopes {
        for &name in names {
            let Some(value) = scope.get(name).map_err(|fault| Unusable::of(name, &fault))? else {
                continue;
            };
            let value = rule(&value).map_err(|broken| Unusable::Invalid(format!("{name} {}", broken.as_ref())))?;
            match &found {
                None => found = Some((name, value)),
                Some((_, first)) if *first == value => {}
                Some((first, _)) if *first == name => return Err(Unusable::of(name, &Fault::Ambiguous)),
                Some((first, _)) => {
                    return Err(Unusable::Ambiguous(format!("{first} and {name} have different values")));
                }
            }
        }
    }
    Ok(found.map(|(_, value)| value))
}

impl<'a> Object<'a> {
    /// Reads a text that must be one object and nothing else. A byte order mark before it is skipped.
    ///
    /// # Errors
    /// When it is no object. No field is judged.
    pub fn read(text: &'a str) -> Result<Self, NotAnObject> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        if text.trim().is_empty() {
            return Err(NotAnObject::Empty);
        }
        serde_json::from_str(text).map_err(|_| match serde_json::from_str::<IgnoredAny>(text) {
            Ok(IgnoredAny) => NotAnObject::OtherJson,
            Err(error) => NotAnObject::NotJson(error),
        })
    }

    /// The value of a field; a null counts as absent.
    ///
    /// # Errors
    /// When the field is there and can't be used.
    pub fn get(&self, name: &str) -> Result<Option<Value>, Fault> {
        let Some(raw) = self.raw(name)? else {
            return Ok(None);
        };
        match serde_json::from_str(raw.get()) {
            Ok(Value::Null) => Ok(None),
            Ok(value) => Ok(Some(value)),
            Err(error) => Err(Fault::Unreadable(cause(&error))),
        }
    }

    /// The object in a field, as lenient as this one; a null counts as absent.
    ///
    /// # Errors
    /// When the field is there and is no object, or can't be used.
    pub fn object(&self, name: &str) -> Result<Option<Self>, Fault> {
        match self.raw(name)?.map(RawValue::get) {
            None | Some("null") => Ok(None),
            Some(text) => serde_json::from_str(text).map(Some).map_err(|_| Fault::NotAnObject),
        }
    }

    /// The text in a field that decides nothing: whatever is wrong with it, it counts as absent.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.get(name) {
            Ok(Some(Value::String(text))) => Some(text),
            Ok(_) | Err(_) => None,
        }
    }

    /// Every field whose name is text, in order, also those of one name.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), *value))
    }

    /// The JSON of a field, the same wherever its name stands; a null is there.
    ///
    /// # Errors
    /// When the field is ambiguous.
    pub fn raw(&self, name: &str) -> Result<Option<&'a RawValue>, Fault> {
        let mut values = self.fields.iter().filter(|(found, _)| found == name).map(|(_, value)| *value);
        let Some(first) = values.next() else {
            return Ok(None);
        };
        // It is read once, however often its name comes again: a sender could make it long and the others short.
        let mut expected = None;
        let same = values.all(|other| {
            other.get() == first.get() || {
                let expected = expected.get_or_insert_with(|| Meaning::of(first, LEVELS));
                expected.is_some() && *expected == Meaning::of(other, LEVELS)
            }
        });
        if same { Ok(Some(first)) } else { Err(Fault::Ambiguous) }
    }
}

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Fields)
    }
}

struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            // A name that is no text is none that anybody asks for.
            if let Some(name) = name_of(name) {
                fields.push((name, value));
            }
        }
        Ok(Object { fields })
    }
}

/// A name as it is meant: any letter of it may be escaped.
fn name_of(quoted: &RawValue) -> Option<Cow<'_, str>> {
    let quoted = quoted.get();
    if quoted.contains('\\') {
        return serde_json::from_str(quoted).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(quoted.strip_prefix('"')?.strip_suffix('"')?))
}

/// What a value means, however it is written: what two values of one name are compared by. Nothing is lost in it, no half
/// of a surrogate pair and no name that comes twice.
#[derive(PartialEq)]
enum Meaning<'a> {
    Word(Value),
    Text(Vec<u8>),
    Array(Vec<Meaning<'a>>),
    Object(Vec<(Cow<'a, str>, Meaning<'a>)>),
}

impl<'a> Meaning<'a> {
    /// Nothing for a number that no type holds and for what has more than `levels` levels.
    fn of(raw: &'a RawValue, levels: usize) -> Option<Self> {
        let text = raw.get();
        let levels = levels.checked_sub(1)?;
        match text.as_bytes().first()? {
            b'{' => {
                let mut fields = serde_json::from_str::<Object<'a>>(text).ok()?.fields;
                fields.sort_by(|(one, _), (other, _)| one.cmp(other));
                let field = |(name, value)| Some((name, Self::of(value, levels)?));
                fields.into_iter().map(field).collect::<Option<_>>().map(Self::Object)
            }
            b'[' => {
                let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
                items.into_iter().map(|item| Self::of(item, levels)).collect::<Option<_>>().map(Self::Array)
            }
            b'"' => serde_json::Deserializer::from_str(text).deserialize_bytes(Bytes).ok().map(Self::Text),
            _ => serde_json::from_str(text).ok().map(Self::Word),
        }
    }
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_owned())
    }
}

/// What is wrong, without the place: it would count from the start of the field.
fn cause(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn object(text: &str) -> Object<'_> {
        Object::read(text).unwrap()
    }

    #[track_caller]
    fn no_object(text: &str, expected: &str) {
        let error = Object::read(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error:?} of {text:?}");
    }

    #[test]
    fn a_field_is_read_by_its_name_and_a_null_is_absent() {
        let object = object(r#" {"a": 1, "b": "two", "c": null, "d": {"e": [true]}} "#);
        assert_eq!(object.get("a"), Ok(Some(json!(1))));
        assert_eq!(object.get("b"), Ok(Some(json!("two"))));
        assert_eq!((object.get("c"), object.get("x")), (Ok(None), Ok(None)));
        let inner = object.object("d").unwrap().unwrap();
        assert_eq!(inner.get("e"), Ok(Some(json!([true]))));
        assert!(matches!((object.object("c"), object.object("x")), (Ok(None), Ok(None))));
        assert_eq!(object.object("a").unwrap_err(), Fault::NotAnObject);
        assert_eq!((object.text("b").as_deref(), object.text("a"), object.text("x")), (Some("two"), None, None));
    }

    #[test]
    fn what_nobody_asks_for_is_not_judged() {
        let deep = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
        for odd in [r#""\ud800""#, r#""\udc00 x""#, "1e999", "-1e999", r#"{"a": "\ud83d"}"#, r#"["\ude00"]"#, &deep] {
            for text in [format!(r#"{{"odd": {odd}, "a": 1}}"#), format!(r#"{{"a": 1, "odd": {odd}}}"#)] {
                let object = object(&text);
                assert_eq!(object.get("a"), Ok(Some(json!(1))));
                let is_object = odd.starts_with('{');
                assert!(matches!(object.get("odd"), Err(Fault::Unreadable(_))), "{odd:.20}");
                assert_eq!(object.object("odd").is_ok(), is_object, "{odd:.20}");
                assert_eq!(object.text("odd"), None, "{odd:.20}");
            }
        }
        let half = object(r#"{"\ud800": 1, "a\ud800": 2, "a": 3}"#);
        assert_eq!(half.get("a"), Ok(Some(json!(3))));
    }

    #[test]
    fn a_field_that_stands_for_nothing_says_what_is_wrong_with_it() {
        let object = object(r#"{"half": "\ud800", "huge": 1e999}"#);
        assert_eq!(object.get("half").unwrap_err().to_string(), "can't be read: unexpected end of hex escape",);
        assert_eq!(object.get("huge").unwrap_err().to_string(), "can't be read: number out of range");
    }

    #[test]
    fn a_name_is_what_it_means_however_it_is_written() {
        let object = object(r#"{"\u0061": 1, "b\"": 2, "\"": 3, "": 4, "é": 5, "\ud83d\ude00": 6, "\\": 7}"#);
        for (name, value) in [("a", 1), ("b\"", 2), ("\"", 3), ("", 4), ("é", 5), ("😀", 6), ("\\", 7)] {
            assert_eq!(object.get(name), Ok(Some(json!(value))), "{name}");
        }
    }

    #[test]
    fn a_name_twice_is_ambiguous_only_where_its_values_differ_and_somebody_asks() {
        let differ = ["1, \"a\": 2", "1, \"a\": null", "null, \"a\": 1", "1, \"a\": \"1\"", "1, \"a\": 1, \"a\": 2"];
        for values in
            differ.into_iter().chain(["1, \"\\u0061\": 2", "1, \"a\": 1e999", r#"{"b": 1, "b": 2}, "a": {"b": 2}"#])
        {
            let text = format!(r#"{{"a": {values}, "b": 5}}"#);
            let object = object(&text);
            assert_eq!(object.get("a"), Err(Fault::Ambiguous), "{values}");
            assert_eq!(object.object("a").unwrap_err(), Fault::Ambiguous, "{values}");
            assert_eq!(object.text("a"), None, "{values}");
            assert_eq!(object.get("b"), Ok(Some(json!(5))), "{values}");
        }
        let same = ["1, \"a\": 1", "\"x\", \"a\": \"\\u0078\"", "[1, 2], \"a\":[1,2]", "null, \"a\": null"];
        let odd = [r#""A\ud800", "a": "\u0041\uD800""#, "1e999, \"a\": 1e999"];
        for values in same.into_iter().chain(odd).chain([r#"{"b": 1, "c": [2]}, "a": {"c": [ 2], "b": 1}"#]) {
            let text = format!(r#"{{"a": {values}}}"#);
            assert_ne!(object(&text).get("a"), Err(Fault::Ambiguous), "{values}");
        }
    }

    #[test]
    fn a_long_value_is_read_once_however_often_its_name_comes_again() {
        let text = format!(r#"{{"a": [{}], {} "b": 1}}"#, " ".repeat(500_000), r#""a":[],"#.repeat(50_000));
        assert_eq!(object(&text).get("a"), Ok(Some(json!([]))), "and not after hours");
    }

    #[test]
    fn a_byte_order_mark_is_skipped_once() {
        assert_eq!(object("\u{feff}{\"a\": 1}").get("a"), Ok(Some(json!(1))));
        no_object("\u{feff}", "is empty");
        no_object("\u{feff}\u{feff}{}", "is not JSON: expected value");
    }

    #[test]
    fn what_is_no_object_says_what_it_is() {
        for empty in ["", " ", "\n\t"] {
            no_object(empty, "is empty");
        }
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for other in ["null", "17", "1e999", "[]", r#""text""#, r#""\ud800""#, &deep] {
            no_object(other, "is JSON, but not an object");
        }
        let broken =
            ["{", "[1,", "{]", "{} {}", "{}x", "{\"a\" 1}", "{\"a\": 01}", "{a: 1}", "{1: 1}", "nul", "<xml/>"];
        for broken in broken.into_iter().chain(["{\"a\nb\": 1}", "{\"a\": \"\n\"}", r#"{"a": "\x"}"#, r#"{"\x": 1}"#]) {
            no_object(broken, "is not JSON: ");
        }
    }
}
