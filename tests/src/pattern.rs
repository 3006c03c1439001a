//! Event patterns, by which a rule of a bus and a filter of an event source mapping choose.
//! <https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-event-patterns.html>
//!
//! An object asks for all of its fields, a list for one of its items, `$or` for one of several objects. An item is a value to
//! equal, or one of `exists`, `prefix`, `suffix`, `anything-but` and `equals-ignore-case`. A pattern with anything else is
//! refused, because one that nobody understands would choose nothing.

use serde_json::{Map, Value};

/// A pattern that is understood.
#[derive(Clone, Debug, PartialEq)]
pub struct Pattern(Map<String, Value>);

/// Why a pattern is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pattern can't be used: {0}")]
pub struct PatternError(String);

const EITHER: &str = "$or";

impl Pattern {
    /// The pattern that this value says.
    ///
    /// # Errors
    /// When it is no object, or asks in a way that is not known here.
    pub fn of(value: &Value) -> Result<Self, PatternError> {
        let pattern = value.as_object().ok_or_else(|| PatternError(format!("{value} is not an object")))?;
        understood(pattern)?;
        Ok(Self(pattern.clone()))
    }

    /// Whether it chooses this event.
    pub fn matches(&self, event: &Value) -> bool {
        fits(&self.0, event)
    }
}

fn understood(pattern: &Map<String, Value>) -> Result<(), PatternError> {
    for (name, wanted) in pattern {
        match wanted {
            Value::Array(patterns) if name == EITHER => {
                patterns.iter().try_for_each(|pattern| Pattern::of(pattern).map(drop))?;
            }
            Value::Object(inner) => understood(inner)?,
            Value::Array(items) => items.iter().try_for_each(|item| item_is_understood(name, item))?,
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                return Err(PatternError(format!("{name:?} asks for {wanted}, and has to be a list or an object")));
            }
        }
    }
    Ok(())
}

fn item_is_understood(name: &str, item: &Value) -> Result<(), PatternError> {
    let Some(operator) = item.as_object() else {
        return if item.is_array() { Err(PatternError(format!("{name:?} has a list in its list"))) } else { Ok(()) };
    };
    let known = operator.len() == 1
        && operator.iter().all(|(operator, operand)| match operator.as_str() {
            "exists" => operand.is_boolean(),
            "prefix" | "suffix" | "equals-ignore-case" => operand.is_string(),
            "anything-but" => !operand.is_object(),
            _ => false,
        });
    if known { Ok(()) } else { Err(PatternError(format!("{name:?} asks by {item}, which is not known here"))) }
}

fn fits(pattern: &Map<String, Value>, event: &Value) -> bool {
    pattern.iter().all(|(name, wanted)| match wanted {
        Value::Array(patterns) if name == EITHER => {
            patterns.iter().filter_map(Value::as_object).any(|pattern| fits(pattern, event))
        }
        Value::Object(inner) => event.get(name).is_some_and(|found| found.is_object() && fits(inner, found)),
        Value::Array(items) => items.iter().any(|item| item_fits(item, event.get(name))),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    })
}

/// Of a list in an event, one value has to fit.
fn item_fits(item: &Value, found: Option<&Value>) -> bool {
    let Some((operator, operand)) = item.as_object().and_then(|operator| operator.iter().next()) else {
        return values(found).any(|found| found == item);
    };
    let texts = || values(found).filter_map(Value::as_str);
    let text = operand.as_str().unwrap_or_default();
    match operator.as_str() {
        // Only of a value: what holds others is no leaf.
        "exists" => found.is_some_and(|found| !found.is_object()) == (operand == true),
        "prefix" => texts().any(|found| found.starts_with(text)),
        "suffix" => texts().any(|found| found.ends_with(text)),
        "equals-ignore-case" => texts().any(|found| found.eq_ignore_ascii_case(text)),
        "anything-but" => values(found).any(|found| !values(Some(operand)).any(|refused| refused == found)),
        _ => false,
    }
}

fn values(found: Option<&Value>) -> impl Iterator<Item = &Value> {
    let list = found.and_then(Value::as_array);
    list.into_iter().flatten().chain(found.filter(|found| !found.is_array()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pattern: Value, event: Value, expected: bool) {
        assert_eq!(Pattern::of(&pattern).unwrap().matches(&event), expected, "{pattern} of {event}");
    }

    #[test]
    fn a_pattern_asks_for_all_of_its_fields_and_for_one_of_each_list() {
        let pattern = json!({"source": ["a", "b"], "detail": {"status": ["PAID", 1, null]}});
        check(pattern.clone(), json!({"source": "b", "detail": {"status": "PAID"}, "more": 1}), true);
        check(pattern.clone(), json!({"source": "a", "detail": {"status": null}}), true);
        check(pattern.clone(), json!({"source": "a", "detail": {"status": ["x", 1]}}), true);
        check(pattern.clone(), json!({"source": "c", "detail": {"status": "PAID"}}), false);
        check(pattern.clone(), json!({"source": "a", "detail": {}}), false);
        check(pattern, json!({"source": "a", "detail": "PAID"}), false);
        check(json!({}), json!({"anything": 1}), true);
    }

    #[test]
    fn either_of_several_patterns_is_enough() {
        let pattern = json!({"source": ["a"], "$or": [{"type": ["x"]}, {"type": ["y"], "detail": {"by": ["me"]}}]});
        check(pattern.clone(), json!({"source": "a", "type": "x"}), true);
        check(pattern.clone(), json!({"source": "a", "type": "y", "detail": {"by": "me"}}), true);
        check(pattern.clone(), json!({"source": "a", "type": "y"}), false);
        check(pattern, json!({"source": "b", "type": "x"}), false);
    }

    #[test]
    fn an_operator_asks_for_more_than_one_value() {
        for (operator, fitting, other) in [
            (json!({"prefix": "pay"}), json!({"a": "payment"}), json!({"a": "repay"})),
            (json!({"suffix": "ed"}), json!({"a": "failed"}), json!({"a": "edge"})),
            (json!({"equals-ignore-case": "Eur"}), json!({"a": "EUR"}), json!({"a": "EURO"})),
            (json!({"anything-but": ["x", "y"]}), json!({"a": "z"}), json!({"a": "y"})),
            (json!({"anything-but": "x"}), json!({"a": "z"}), json!({})),
            (json!({"exists": true}), json!({"a": ""}), json!({"b": 1})),
            (json!({"exists": true}), json!({"a": null}), json!({"a": {"b": 1}})),
            (json!({"exists": false}), json!({}), json!({"a": 1})),
        ] {
            check(json!({"a": [operator]}), fitting, true);
            check(json!({"a": [operator]}), other, false);
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for pattern in [
            json!([]),
            json!({"a": "text"}),
            json!({"a": [["b"]]}),
            json!({"a": [{"numeric": [">", 1]}]}),
            json!({"a": [{"prefix": "x", "suffix": "y"}]}),
            json!({"a": {"b": [{"exists": "yes"}]}}),
            json!({"$or": [{"a": 1}]}),
        ] {
            assert!(Pattern::of(&pattern).is_err(), "{pattern}");
        }
    }
}
