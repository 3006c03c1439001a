//! What a template's values come to once its parameters are given.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::template::{QUEUE, Resource, Template, fields, items, reference};

/// What stands for this stack's name.
const STACK: &str = "a-stack";

/// A template with a value for each parameter.
#[derive(Debug)]
pub(crate) struct Stack<'t> {
    template: &'t Template,
    parameters: BTreeMap<&'t str, Value>,
}

impl<'t> Stack<'t> {
    /// The parameters' defaults, and on top of them `given`.
    pub(crate) fn new(template: &'t Template, given: &[(&'t str, &str)]) -> Self {
        let defaults = template.parameters().into_iter().map(|(name, parameter)| (name, parameter["Default"].clone()));
        let given = given.iter().map(|(name, value)| (*name, json!(value)));
        Self { template, parameters: defaults.chain(given).collect() }
    }

    /// The same with `given` in place of what it had.
    pub(crate) fn with(&self, given: &[(&'t str, &str)]) -> Self {
        let given = given.iter().map(|(name, value)| (*name, json!(value)));
        Self { template: self.template, parameters: self.parameters.clone().into_iter().chain(given).collect() }
    }

    /// The environment of a function, as Lambda sets it.
    pub(crate) fn environment(&self, function: Resource<'_>) -> BTreeMap<String, String> {
        let variables = fields(function.variables()).into_iter();
        variables.filter_map(|(name, value)| Some((name.to_owned(), text(&self.value(value))?))).collect()
    }

    /// `null` stands for `AWS::NoValue`.
    pub(crate) fn value(&self, node: &Value) -> Value {
        if let Some(name) = reference(node) {
            return self.named(name);
        }
        if let Some([condition, then, otherwise]) = node["Fn::If"].as_array().map(Vec::as_slice) {
            return self.value(if self.holds(&json!({"Condition": condition})) { then } else { otherwise });
        }
        if let Some([separator, parts]) = node["Fn::Join"].as_array().map(Vec::as_slice) {
            let parts = items(parts).into_iter().filter_map(|part| text(&self.value(part))).collect::<Vec<_>>();
            return parts.join(separator.as_str().unwrap_or_default()).into();
        }
        if let Some(open) = node["Fn::Sub"].as_str() {
            return self.filled(open).into();
        }
        if let Some([resource, attribute]) = node["Fn::GetAtt"].as_array().map(Vec::as_slice) {
            let part = |value: &Value| text(value).unwrap_or_default();
            if attribute == "ApiEndpoint" {
                return format!("https://{}.execute-api.eu-west-1.amazonaws.com", part(resource)).into();
            }
            return format!("arn:aws:{}:{}", part(attribute).to_lowercase(), part(resource)).into();
        }
        if let Some(list) = node.as_array() {
            return list.iter().map(|item| self.value(item)).filter(|item| !item.is_null()).collect();
        }
        match node.as_object() {
            Some(object) => {
                let evaluated = object.iter().map(|(key, value)| (key.clone(), self.value(value)));
                Value::Object(evaluated.filter(|(_, value)| !value.is_null()).collect())
            }
            None => node.clone(),
        }
    }

    /// Whether a resource is made, or an output.
    pub(crate) fn makes(&self, body: &Value) -> bool {
        body["Condition"].is_null() || self.holds(body)
    }

    /// Whether CloudFormation deploys the stack in spite of a rule. The error is what it says when it does not.
    pub(crate) fn passes(&self, rule: &Value) -> Result<(), String> {
        if !rule["RuleCondition"].is_null() && !self.holds(&rule["RuleCondition"]) {
            return Ok(());
        }
        match items(&rule["Assertions"]).into_iter().find(|assertion| !self.holds(&assertion["Assert"])) {
            Some(refused) => Err(refused["AssertDescription"].to_string()),
            None => Ok(()),
        }
    }

    /// Whether CloudFormation deploys the stack, by all of the template's rules. The error is what it says when it does not.
    pub(crate) fn is_accepted(&self) -> Result<(), String> {
        fields(self.template.section("Rules")).into_iter().try_for_each(|(_, rule)| self.passes(rule))
    }

    /// `node` with the branch that holds in place of each `Fn::If`. References stay.
    pub(crate) fn chosen(&self, node: &Value) -> Value {
        if let Some([condition, then, otherwise]) = node["Fn::If"].as_array().map(Vec::as_slice) {
            return self.chosen(if self.holds(&json!({"Condition": condition})) { then } else { otherwise });
        }
        match (node.as_array(), node.as_object()) {
            (Some(list), _) => list.iter().map(|item| self.chosen(item)).collect(),
            (None, Some(object)) => object.iter().map(|(key, value)| (key.clone(), self.chosen(value))).collect(),
            (None, None) => node.clone(),
        }
    }

    /// Whether a condition holds, or an assertion of a rule.
    pub(crate) fn holds(&self, node: &Value) -> bool {
        let all = |name: &str| node[name].as_array().map(|parts| parts.iter().map(|part| self.holds(part)));
        if let Some(name) = node["Condition"].as_str() {
            return self.holds(&self.template.section("Conditions")[name]);
        }
        if let Some([left, right]) = node["Fn::Equals"].as_array().map(Vec::as_slice) {
            return text(&self.value(left)) == text(&self.value(right));
        }
        if let Some([list, member]) = node["Fn::EachMemberEquals"].as_array().map(Vec::as_slice) {
            let (list, member) = (text(&self.value(list)), text(&self.value(member)));
            return list.unwrap_or_default().split(',').all(|each| Some(each) == member.as_deref());
        }
        if let Some(mut parts) = all("Fn::Not") {
            return !parts.any(|part| part);
        }
        if let Some(mut parts) = all("Fn::And") {
            return parts.all(|part| part);
        }
        all("Fn::Or").is_some_and(|mut parts| parts.any(|part| part))
    }

    fn named(&self, name: &str) -> Value {
        if let Some(value) = self.parameters.get(name) {
            return value.clone();
        }
        match (name, self.template.resource(name)) {
            ("AWS::NoValue", _) => Value::Null,
            ("AWS::StackName", _) => STACK.into(),
            ("AWS::Region", _) => "eu-west-1".into(),
            ("AWS::URLSuffix", _) => "amazonaws.com".into(),
            (_, Some(resource)) if resource.body["Type"] == QUEUE => {
                format!("https://sqs.eu-west-1.amazonaws.com/123456789012/{name}").into()
            }
            (_, Some(_) | None) => name.into(),
        }
    }

    fn filled(&self, open: &str) -> String {
        let mut pieces = open.split("${");
        let first = pieces.next().unwrap_or_default().to_owned();
        pieces.fold(first, |filled, piece| match piece.split_once('}') {
            Some((name, rest)) => filled + &text(&self.named(name)).unwrap_or_default() + rest,
            None => filled + piece,
        })
    }
}

/// A scalar as CloudFormation hands it on.
fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned).or_else(|| (value.is_number() || value.is_boolean()).then(|| value.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::yaml;

    const TEMPLATE: &str = "
Parameters: {P: {Type: String, Default: ''}, N: {Type: Number, Default: 5}, L: {Type: CommaDelimitedList, Default: ''}}
Conditions:
  HasP: !Not [!Equals [!Ref P, '']]
  HasL: !Not [!Equals [!Join ['', !Ref L], '']]
  Both: !And [!Condition HasP, !Condition HasL]
Resources: {Q: {Type: 'AWS::SQS::Queue'}}";

    #[track_caller]
    fn check(given: &[(&str, &str)], node: &str, expected: Value) {
        let template = Template::parse(TEMPLATE).unwrap();
        assert_eq!(Stack::new(&template, given).value(&yaml(node).unwrap()), expected, "{node}");
    }

    #[test]
    fn a_value_is_what_its_parameters_make_it() {
        check(&[], "[!Ref N, !Ref P, !Ref AWS::NoValue]", json!([5, ""]));
        check(&[("P", "x")], "!Sub 'a/${P}-${AWS::StackName}'", json!("a/x-a-stack"));
        check(&[], "!If [HasP, !Ref P, {a: !Ref AWS::NoValue, b: !Ref N}]", json!({"b": 5}));
        check(&[("P", "x")], "!If [HasP, !Ref P, 1]", json!("x"));
        check(&[("L", "a,b")], "!If [HasL, 1, 2]", json!(1));
        check(&[("P", "x")], "!If [Both, 1, 2]", json!(2));
        check(&[], "!Ref Q", json!("https://sqs.eu-west-1.amazonaws.com/123456789012/Q"));
        check(&[], "!GetAtt [A, ApiEndpoint]", json!("https://A.execute-api.eu-west-1.amazonaws.com"));
    }

    #[test]
    fn a_condition_decides_what_is_made_and_which_branch_is_referred_to() {
        let template = Template::parse(TEMPLATE).unwrap();
        let (with, without) = (Stack::new(&template, &[("P", "x")]), Stack::new(&template, &[]));
        let body = yaml("{Condition: HasP, Properties: {A: !If [HasP, !Ref Q, [!Ref N]]}}").unwrap();
        assert!(with.makes(&body) && !without.makes(&body) && without.makes(&json!({"Properties": {}})));
        assert_eq!(with.chosen(&body["Properties"]), json!({"A": {"Ref": "Q"}}));
        assert_eq!(without.chosen(&body["Properties"]), json!({"A": [{"Ref": "N"}]}));
    }

    #[test]
    fn a_rule_asserts_only_where_its_condition_holds() {
        let template = Template::parse(TEMPLATE).unwrap();
        let rule = yaml(
            "{RuleCondition: !Equals [!Ref P, x], Assertions: [{Assert: !Equals [!Ref N, 6], AssertDescription: six}]}",
        );
        let rule = rule.unwrap();
        assert_eq!(Stack::new(&template, &[]).passes(&rule), Ok(()));
        assert_eq!(Stack::new(&template, &[("P", "x")]).passes(&rule), Err("\"six\"".to_owned()));
        assert_eq!(Stack::new(&template, &[("P", "x"), ("N", "6")]).passes(&rule), Ok(()));
    }

    #[test]
    fn a_rule_may_ask_for_one_of_several() {
        let template = Template::parse(TEMPLATE).unwrap();
        let either = yaml("Fn::Or: [!Condition HasP, Fn::Equals: [!Ref N, '5']]").unwrap();
        assert!(Stack::new(&template, &[]).holds(&either));
        assert!(!Stack::new(&template, &[("N", "6")]).holds(&either));
    }

    #[test]
    fn a_rule_may_look_at_each_member_of_a_list() {
        let template = Template::parse(TEMPLATE).unwrap();
        let empty = yaml("Fn::EachMemberEquals: [!Ref L, '']").unwrap();
        for (list, expected) in [("", true), (",", true), ("a", false), ("a,", false)] {
            assert_eq!(Stack::new(&template, &[("L", list)]).holds(&empty), expected, "{list:?}");
        }
    }
}
