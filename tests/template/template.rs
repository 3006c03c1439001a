//! `template.yaml` as the rules see it: loops unrolled, the globals in each function, and what belongs to one event
//! type side by side.

use local_stack::catalogue::{self, Entry, Fed};
use serde_json::{Map, Value, json};

use crate::{expand, reader};

pub(crate) const QUEUE: &str = "AWS::SQS::Queue";
pub(crate) const FUNCTION: &str = "AWS::Serverless::Function";
pub(crate) const API: &str = "AWS::ApiGatewayV2::Api";

static ABSENT: Value = Value::Null;

/// A template, transformed.
#[derive(Debug)]
pub(crate) struct Template {
    root: Value,
}

/// A resource of the template.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resource<'t> {
    pub(crate) id: &'t str,
    /// The whole of it, with its type and its policies.
    pub(crate) body: &'t Value,
    /// Its `Properties`.
    pub(crate) properties: &'t Value,
}

/// A function of the template that is one of the catalogue.
#[derive(Debug)]
pub(crate) struct Deployed<'t> {
    /// What the catalogue says of it.
    pub(crate) entry: Entry,
    pub(crate) function: Resource<'t>,
}

/// What belongs to one event type, found by following references from its function.
#[derive(Debug)]
pub(crate) struct Path<'t> {
    /// The function's name: that of its folder.
    pub(crate) name: &'static str,
    /// What its code does.
    pub(crate) code: Fed,
    pub(crate) function: Resource<'t>,
    pub(crate) queue: Resource<'t>,
    /// Nothing, where the queue keeps none.
    pub(crate) dead_letters: Option<Resource<'t>>,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let root = reader::yaml(text)?;
        let mut root = expand::expanded(&root, &root["Mappings"])?;
        let globals = root["Globals"]["Function"].clone();
        let resources = root["Resources"].as_object_mut().ok_or("there are no Resources")?;
        for body in resources.values_mut().filter(|body| body["Type"] == FUNCTION) {
            body["Properties"] = merged(&globals, &body["Properties"]);
        }
        Ok(Self { root })
    }

    /// A section of the template, such as `Parameters`.
    pub(crate) fn section(&self, name: &str) -> &Value {
        self.root.get(name).unwrap_or(&ABSENT)
    }

    pub(crate) fn parameters(&self) -> Vec<(&str, &Value)> {
        fields(self.section("Parameters"))
    }

    pub(crate) fn resources(&self) -> Vec<Resource<'_>> {
        let resource = |(id, body)| Resource::new(id, body);
        fields(self.section("Resources")).into_iter().map(resource).collect()
    }

    pub(crate) fn of_type(&self, name: &str) -> Vec<Resource<'_>> {
        self.resources().into_iter().filter(|resource| resource.body["Type"] == name).collect()
    }

    /// The resources of a type that belong to an API of this protocol, `HTTP` or `WEBSOCKET`, or are one.
    pub(crate) fn of_api(&self, name: &str, protocol: &str) -> Vec<Resource<'_>> {
        let is_of = |resource: &Resource<'_>| {
            let api = reference(&resource.properties["ApiId"]).and_then(|id| self.resource(id));
            api.unwrap_or(*resource).properties["ProtocolType"] == protocol
        };
        self.of_type(name).into_iter().filter(is_of).collect()
    }

    pub(crate) fn resource(&self, id: &str) -> Option<Resource<'_>> {
        self.resources().into_iter().find(|resource| resource.id == id)
    }

    /// The functions, by the folders of their code. What is no folder's is the fault of the rule about them.
    pub(crate) fn deployed(&self) -> Vec<Deployed<'_>> {
        let deployed = |function| Some(Deployed { entry: catalogue::function(folder(function)?)?, function });
        self.of_type(FUNCTION).into_iter().filter_map(deployed).collect()
    }

    /// One path for each function behind a queue that is written down completely. What a path lacks is the fault of the rule
    /// about it.
    pub(crate) fn paths(&self) -> Vec<Path<'_>> {
        self.of_type(FUNCTION).into_iter().filter_map(|function| self.path(function)).collect()
    }

    fn path<'t>(&'t self, function: Resource<'t>) -> Option<Path<'t>> {
        let code = catalogue::fed(folder(function)?)?;
        let queue = mappings(function).into_iter().find_map(|mapping| attribute(&mapping["Queue"], "Arn"))?;
        let queue = self.resource(queue)?;
        let dead_letters = attribute(&queue.properties["RedrivePolicy"]["deadLetterTargetArn"], "Arn");
        let dead_letters = dead_letters.and_then(|dead_letters| self.resource(dead_letters));
        Some(Path { name: code.name, code, function, queue, dead_letters })
    }

    /// The least and the greatest number that `value` can be, where a parameter may say it. One without a limit has the
    /// limit of its type, so that a rule which needs one turns red.
    pub(crate) fn range(&self, value: &Value) -> Option<(u64, u64)> {
        let Some(name) = reference(value) else { return number(value).map(|number| (number, number)) };
        let parameter = self.section("Parameters").get(name)?;
        if let Some(values) = parameter["AllowedValues"].as_array() {
            let numbers: Option<Vec<u64>> = values.iter().map(number).collect();
            let numbers = numbers?;
            return Some((numbers.iter().min().copied()?, numbers.iter().max().copied()?));
        }
        let is_number = parameter["Type"] == "Number";
        is_number
            .then(|| (number(&parameter["MinValue"]).unwrap_or(0), number(&parameter["MaxValue"]).unwrap_or(u64::MAX)))
    }
}

impl<'t> Resource<'t> {
    fn new(id: &'t str, body: &'t Value) -> Self {
        Self { id, body, properties: body.get("Properties").unwrap_or(&ABSENT) }
    }

    /// The environment that the template gives a function.
    pub(crate) fn variables(&self) -> &'t Value {
        self.properties.pointer("/Environment/Variables").unwrap_or(&ABSENT)
    }

    /// The value that refers to an attribute of this resource.
    pub(crate) fn get(&self, attribute: &str) -> Value {
        json!({"Fn::GetAtt": [self.id, attribute]})
    }

    /// The value that refers to this resource.
    pub(crate) fn reference(&self) -> Value {
        json!({"Ref": self.id})
    }
}

/// The folder of a function's code, without the one that they all lie in.
fn folder<'t>(function: Resource<'t>) -> Option<&'t str> {
    function.properties["CodeUri"].as_str()?.strip_prefix("functions/")
}

/// The properties of each SQS event of a function.
pub(crate) fn mappings(function: Resource<'_>) -> Vec<&Value> {
    let events = fields(&function.properties["Events"]);
    events.into_iter().filter(|(_, event)| event["Type"] == "SQS").map(|(_, event)| &event["Properties"]).collect()
}

/// As SAM merges: fields are merged, lists put behind one another, anything else is replaced.
fn merged(global: &Value, own: &Value) -> Value {
    // What a function of CloudFormation computes is one value to SAM.
    let is_computed = |value: &Value| {
        let keys = fields(value);
        keys.len() == 1 && keys.iter().all(|(key, _)| *key == "Ref" || key.starts_with("Fn::"))
    };
    if is_computed(global) || is_computed(own) {
        return own.clone();
    }
    if let (Some(global), Some(own)) = (global.as_object(), own.as_object()) {
        let mut fields: Map<String, Value> = global.clone();
        for (key, value) in own {
            let value = global.get(key).map_or_else(|| value.clone(), |global| merged(global, value));
            fields.insert(key.clone(), value);
        }
        return fields.into();
    }
    match (global.as_array(), own.as_array()) {
        (Some(global), Some(own)) => global.iter().chain(own).cloned().collect(),
        (Some(_) | None, Some(_) | None) => own.clone(),
    }
}

/// The fields of an object; none of anything else.
pub(crate) fn fields(value: &Value) -> Vec<(&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value)).collect()
}

/// The items of a list; one of anything else, none of what is absent.
pub(crate) fn items(value: &Value) -> Vec<&Value> {
    match value.as_array() {
        Some(items) => items.iter().collect(),
        None if value.is_null() => Vec::new(),
        None => vec![value],
    }
}

/// What `Ref` refers to.
pub(crate) fn reference(value: &Value) -> Option<&str> {
    value.get("Ref")?.as_str()
}

/// The resource whose attribute of this name `value` is.
pub(crate) fn attribute<'t>(value: &'t Value, name: &str) -> Option<&'t str> {
    let parts = value.get("Fn::GetAtt")?.as_array()?;
    if parts.get(1)? == name { parts.first()?.as_str() } else { None }
}

/// A number, written as one or as text.
pub(crate) fn number(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

/// Every value inside `value`, itself included.
pub(crate) fn nodes(value: &Value) -> Vec<&Value> {
    let inner = value.as_array().into_iter().flatten().chain(value.as_object().into_iter().flat_map(Map::values));
    std::iter::once(value).chain(inner.flat_map(nodes)).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use local_stack::catalogue::{CATALOGUE, RECORDING, SETTLING, WAITING};

    use super::*;
    use crate::project::Texts;

    /// Rules speak of every resource of a kind. Were the kind read as none, they would be kept by nothing.
    #[test]
    fn every_resource_of_the_template_is_read() {
        let template = Template::parse(&Texts::read().template).unwrap();
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for resource in template.resources() {
            *counts.entry(resource.body["Type"].as_str().unwrap()).or_default() += 1;
        }
        let (settling, functions) = (SETTLING.len(), CATALOGUE.len());
        let queues = settling + RECORDING.len() + WAITING.len();
        let fed_by_the_bus = catalogue::all_fed().filter(|function| function.is_fed_by_the_bus).count();
        let buried = catalogue::all_fed().filter(|function| function.keeps_dead_letters).count();
        let expected = [
            ("AWS::ApiGatewayV2::Api", 2),
            ("AWS::ApiGatewayV2::Authorizer", 1),
            ("AWS::ApiGatewayV2::Integration", 4),
            ("AWS::ApiGatewayV2::Route", 10 + 6 + 3),
            ("AWS::ApiGatewayV2::Stage", 2),
            ("AWS::CloudFormation::Stack", 4),
            (
                "AWS::CloudWatch::Alarm",
                settling * 9 + 2 + 5 + 15 + RECORDING.len() * 12 + 4 + WAITING.len() * 4 + 3 * 4 + 4 + 5 + 3 + 7,
            ),
            ("AWS::DynamoDB::Table", 3),
            ("AWS::Events::EventBus", 1),
            ("AWS::Events::Rule", fed_by_the_bus),
            ("AWS::IAM::Policy", 6),
            ("AWS::IAM::Role", functions + 2),
            ("AWS::Lambda::EventSourceMapping", RECORDING.len()),
            ("AWS::Lambda::Permission", 4),
            ("AWS::Logs::LogGroup", functions + 1),
            ("AWS::Logs::MetricFilter", buried),
            ("AWS::RDS::DBProxy", 1),
            ("AWS::RDS::DBProxyTargetGroup", 1),
            ("AWS::SQS::Queue", queues + buried + 1),
            ("AWS::SQS::QueuePolicy", queues + buried + 1),
            ("AWS::Serverless::Function", functions),
            ("Custom::BookingSchema", 1),
        ];
        assert_eq!(counts, BTreeMap::from(expected));
        let names: BTreeSet<&str> = template.paths().iter().map(|path| path.name).collect();
        assert_eq!(names, catalogue::all_fed().map(|function| function.name).collect());
        let names: BTreeSet<&str> = template.deployed().iter().map(|deployed| deployed.entry.name).collect();
        assert_eq!(names, CATALOGUE.iter().map(|entry| entry.name).collect());
        assert_eq!(template.section("Outputs").as_object().unwrap().len(), 3 + queues + buried + 3 + 1 + 3);
    }

    #[test]
    fn a_function_has_the_globals_and_its_own_on_top() {
        let template = Template::parse(
            "
Globals: {Function: {Timeout: 30, Tags: [a], Environment: {Variables: {A: 1, B: 1}}}}
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {Timeout: 5, Tags: [b], Environment: {Variables: {B: 2}}}",
        );
        let template = template.unwrap();
        let function = template.resource("F").unwrap();
        let expected = json!({"Timeout": 5, "Tags": ["a", "b"], "Environment": {"Variables": {"A": 1, "B": 2}}});
        assert_eq!(*function.properties, expected);
    }

    #[test]
    fn a_parameter_ranges_over_all_that_it_may_be() {
        let template = "Resources: {}\nParameters: {A: {Type: Number, MinValue: 3, Default: 5}, B: {Type: Number, \
                        AllowedValues: [7, 1]}, C: {Type: String, Default: '5'}}";
        let template = Template::parse(template).unwrap();
        let range = |value: &Value| template.range(value);
        assert_eq!(range(&json!({"Ref": "A"})), Some((3, u64::MAX)));
        assert_eq!(range(&json!({"Ref": "B"})), Some((1, 7)));
        assert_eq!(range(&json!({"Ref": "C"})), None);
        assert_eq!((range(&json!("30")), range(&json!(null))), (Some((30, 30)), None));
    }
}
