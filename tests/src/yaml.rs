//! A CloudFormation template's YAML as a JSON value, with CloudFormation's short tags in their long form.

use std::str::FromStr;

use saphyr_parser::{Event, Parser, ScalarStyle, StrInput, Tag};
use serde_json::{Map, Value, json};

/// Reads the one document in `text`.
///
/// # Errors
/// What is wrong with it, for people.
pub fn yaml(text: &str) -> Result<Value, String> {
    let mut reader = Reader { events: Parser::new_from_str(text) };
    loop {
        let event = reader.next()?;
        if !matches!(event, Event::StreamStart | Event::DocumentStart(_)) {
            return reader.node(event);
        }
    }
}

struct Reader<'t> {
    events: Parser<'t, StrInput<'t>>,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Event<'t>, String> {
        let next = self.events.next().ok_or("the document ends too early")?;
        next.map(|(event, _)| event).map_err(|error| error.to_string())
    }

    fn node(&mut self, first: Event<'t>) -> Result<Value, String> {
        match first {
            Event::Scalar(text, style, _, None) => Ok(scalar(&text, style)),
            Event::Scalar(text, _, _, tag) => Ok(tagged(tag.as_deref(), text.into())),
            Event::SequenceStart(_, tag) => Ok(tagged(tag.as_deref(), self.sequence()?.into())),
            Event::MappingStart(_, tag) => Ok(tagged(tag.as_deref(), self.mapping()?.into())),
            // CloudFormation itself takes no aliases in what a macro reads.
            event @ (Event::Alias(_)
            | Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::SequenceEnd
            | Event::MappingEnd) => Err(format!("{event:?} where a value must be")),
        }
    }

    fn sequence(&mut self) -> Result<Vec<Value>, String> {
        let mut items = Vec::new();
        loop {
            let event = self.next()?;
            if event == Event::SequenceEnd {
                return Ok(items);
            }
            items.push(self.node(event)?);
        }
    }

    fn mapping(&mut self) -> Result<Map<String, Value>, String> {
        let mut fields = Map::new();
        loop {
            let event = self.next()?;
            if event == Event::MappingEnd {
                return Ok(fields);
            }
            let Event::Scalar(key, ..) = event else { return Err(format!("{event:?} where a key must be")) };
            let first = self.next()?;
            let value = self.node(first)?;
            // Of two equal keys CloudFormation would take one and lose the other.
            if fields.insert(key.to_string(), value).is_some() {
                return Err(format!("the key {key} comes twice"));
            }
        }
    }
}

/// `!Ref X` is `{"Ref": "X"}`, `!Sub X` is `{"Fn::Sub": "X"}`.
fn tagged(tag: Option<&Tag>, value: Value) -> Value {
    let Some(tag) = tag else { return value };
    let name = match tag.suffix.as_str() {
        plain @ ("Ref" | "Condition") => plain.to_owned(),
        function => format!("Fn::{function}"),
    };
    json!({name: value})
}

/// Only what is not quoted can be anything but text. A fraction stays text: no rule compares one.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" => Value::Null,
        "true" => true.into(),
        "false" => false.into(),
        number => i64::from_str(number).map_or_else(|_| number.into(), Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &Value) {
        assert_eq!(yaml(text).as_ref(), Ok(expected));
    }

    #[test]
    fn short_tags_become_long_forms_at_any_depth() {
        check("a: !Ref X", &json!({"a": {"Ref": "X"}}));
        check("a: !Condition X", &json!({"a": {"Condition": "X"}}));
        check(
            "a: !GetAtt\n  - !Sub '${T}Queue'\n  - Arn",
            &json!({"a": {"Fn::GetAtt": [{"Fn::Sub": "${T}Queue"}, "Arn"]}}),
        );
        check(
            "a: !If [C, {b: !Ref X}, !Ref AWS::NoValue]",
            &json!({"a": {"Fn::If": ["C", {"b": {"Ref": "X"}}, {"Ref": "AWS::NoValue"}]}}),
        );
        check("a: !Sub {b: 1}", &json!({"a": {"Fn::Sub": {"b": 1}}}));
    }

    #[test]
    fn quotes_make_text_of_what_would_be_a_number_or_a_switch() {
        check(
            "[30, '30', true, \"true\", null, 2010-09-09, -PT3H, 1.5]",
            &json!([30, "30", true, "true", null, "2010-09-09", "-PT3H", "1.5"]),
        );
        check("a: !Sub 30", &json!({"a": {"Fn::Sub": "30"}}));
        check("a: >-\n  one\n  text\n", &json!({"a": "one text"}));
    }

    #[test]
    fn what_is_not_one_clear_document_is_an_error() {
        for text in ["", "a: 1\na: 2", "a: [1", "a: &x 1\nb: *x", "[a]: 1"] {
            assert!(yaml(text).is_err(), "{text}");
        }
    }
}
