//! What the transform `AWS::LanguageExtensions` does to a template, as far as ours uses it, and what of the intrinsic
//! functions is known without a stack: loops are unrolled, mappings looked up, texts filled in.

use serde_json::{Map, Value, json};

/// `node` without `Fn::ForEach`, and with `Fn::FindInMap` and `Fn::Sub` reduced to what is still open in them.
pub(crate) fn expanded(node: &Value, mappings: &Value) -> Result<Value, String> {
    if let Some(items) = node.as_array() {
        return items.iter().map(|item| expanded(item, mappings)).collect();
    }
    let Some(fields) = node.as_object() else { return Ok(node.clone()) };
    let mut result = Map::new();
    for (key, value) in fields {
        if key.starts_with("Fn::ForEach::") {
            for body in bodies(value, mappings)?.ok_or_else(|| format!("{key} is no loop: {value}"))? {
                let body = expanded(&body, mappings)?;
                for (key, value) in body.as_object().ok_or("a loop must make fields")? {
                    insert(&mut result, key, value.clone())?;
                }
            }
        } else {
            insert(&mut result, key, expanded(value, mappings)?)?;
        }
    }
    reduced(result, mappings)
}

fn insert(fields: &mut Map<String, Value>, key: &str, value: Value) -> Result<(), String> {
    match fields.insert(key.to_owned(), value) {
        Some(_) => Err(format!("{key} comes twice")),
        None => Ok(()),
    }
}

/// The body of a loop, once for each item of its collection, which may be a list of the mappings. Nothing for what is no loop.
fn bodies(rounds: &Value, mappings: &Value) -> Result<Option<Vec<Value>>, String> {
    let Some([Value::String(variable), collection, body]) = rounds.as_array().map(Vec::as_slice) else {
        return Ok(None);
    };
    let collection = expanded(collection, mappings)?;
    let body = |item: &Value| Some(bound(body, variable, item.as_str()?));
    Ok(collection.as_array().and_then(|items| items.iter().map(body).collect()))
}

/// `node` with the loop's variable replaced in keys, in texts and where it is referred to.
fn bound(node: &Value, variable: &str, item: &str) -> Value {
    let placeholder = format!("${{{variable}}}");
    if *node == json!({"Ref": variable}) {
        item.into()
    } else if let Some(text) = node.as_str() {
        text.replace(&placeholder, item).into()
    } else if let Some(items) = node.as_array() {
        items.iter().map(|value| bound(value, variable, item)).collect()
    } else if let Some(fields) = node.as_object() {
        let field = |(key, value): (&String, &Value)| (key.replace(&placeholder, item), bound(value, variable, item));
        Value::Object(fields.iter().map(field).collect())
    } else {
        node.clone()
    }
}

fn reduced(fields: Map<String, Value>, mappings: &Value) -> Result<Value, String> {
    let node = Value::Object(fields);
    if let Some([map, first, second, otherwise @ ..]) = node["Fn::FindInMap"].as_array().map(Vec::as_slice)
        && let (Some(map), Some(first), Some(second)) = (map.as_str(), first.as_str(), second.as_str())
    {
        let otherwise = otherwise.first().and_then(|otherwise| otherwise.get("DefaultValue"));
        let found = Some(&mappings[map][first][second]).filter(|found| !found.is_null()).or(otherwise);
        return found.cloned().ok_or_else(|| format!("{node} finds nothing"));
    }
    if let Some((resource, attribute)) = node["Fn::GetAtt"].as_str().and_then(|text| text.split_once('.')) {
        return Ok(json!({"Fn::GetAtt": [resource, attribute]}));
    }
    Ok(match (node["Fn::Sub"].as_str(), node["Fn::Sub"].as_array().map(Vec::as_slice)) {
        (Some(text), _) => substitution(text, Map::new()),
        (None, Some([Value::String(text), Value::Object(values)])) => {
            let (known, open): (Map<_, _>, Map<_, _>) =
                values.clone().into_iter().partition(|(_, value)| value.is_string());
            let filled = known.iter().fold(text.clone(), |text, (name, value)| {
                text.replace(&format!("${{{name}}}"), value.as_str().unwrap_or_default())
            });
            substitution(&filled, open)
        }
        (None, _) => node,
    })
}

fn substitution(text: &str, open: Map<String, Value>) -> Value {
    match (text.contains("${"), open.is_empty()) {
        (false, _) => text.into(),
        (true, true) => json!({"Fn::Sub": text}),
        (true, false) => json!({"Fn::Sub": [text, open]}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::yaml;

    #[track_caller]
    fn check(text: &str, expected: Value) {
        let mappings = json!({
            "Types": {"A": {"Name": "alpha"}, "B": {"Name": "beta"}},
            "Lists": {"All": {"Types": ["A", "B"]}},
        });
        assert_eq!(expanded(&yaml(text).unwrap(), &mappings), Ok(expected));
    }

    #[test]
    fn a_loop_makes_its_body_once_for_each_item_beside_what_is_written_out() {
        check(
            "
Fn::ForEach::Queues:
  - T
  - [A, B]
  - ${T}Queue: {Owner: !Ref T, Arn: !GetAtt [!Sub '${T}Rule', Arn]}
C: 1",
            json!({
                "AQueue": {"Owner": "A", "Arn": {"Fn::GetAtt": ["ARule", "Arn"]}},
                "BQueue": {"Owner": "B", "Arn": {"Fn::GetAtt": ["BRule", "Arn"]}},
                "C": 1,
            }),
        );
        check(
            "Fn::ForEach::O:\n  - T\n  - [A]\n  - Fn::ForEach::I:\n      - U\n      - [X, Y]\n      - ${T}${U}: 1",
            json!({"AX": 1, "AY": 1}),
        );
        check(
            "Fn::ForEach::Q: [T, !FindInMap [Lists, All, Types], {'${T}Queue': 1}]",
            json!({"AQueue": 1, "BQueue": 1}),
        );
    }

    #[test]
    fn what_is_known_is_filled_in_and_the_rest_stays_open() {
        check("!FindInMap [Types, A, Name]", json!("alpha"));
        check("!FindInMap [Types, A, Name, {DefaultValue: !Ref P}]", json!("alpha"));
        check("!FindInMap [Types, A, Color, {DefaultValue: !Ref P}]", json!({"Ref": "P"}));
        check(
            "!Sub ['${AWS::StackName}-${N}', {N: !FindInMap [Types, B, Name]}]",
            json!({"Fn::Sub": "${AWS::StackName}-beta"}),
        );
        check("!Sub ['${N}-${M}', {N: x, M: !Ref P}]", json!({"Fn::Sub": ["x-${M}", {"M": {"Ref": "P"}}]}));
        check("!Sub plain", json!("plain"));
        check("!GetAtt A.B.C", json!({"Fn::GetAtt": ["A", "B.C"]}));
    }

    #[test]
    fn a_loop_that_makes_one_key_twice_or_a_map_that_has_no_such_key_is_an_error() {
        for text in [
            "Fn::ForEach::Q: [T, [A, A], {'${T}': 1}]",
            "Fn::ForEach::Q: [T, [A], {'${T}': 1}]\nA: 1",
            "Fn::ForEach::Q: [T, {A: 1}]",
            "Fn::ForEach::Q: [T, !FindInMap [Types, A, Name], {'${T}': 1}]",
            "Fn::ForEach::Q: [T, !FindInMap [Types, C, Name], {'${T}': 1}]",
            "!FindInMap [Types, C, Name]",
        ] {
            let mappings = json!({"Types": {"A": {"Name": "alpha"}}});
            assert!(expanded(&yaml(text).unwrap(), &mappings).is_err(), "{text}");
        }
    }
}
