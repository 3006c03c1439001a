//! What of `template.yaml` the local stack does itself: the routes of its APIs, the rules of the bus, and the mapping of the
//! stream. So that what runs here is what is deployed, and not a copy of it.
//!
//! Values are those of a stack with every system on and every parameter given: of an `Fn::If` the first branch counts, and
//! whatever a condition guards is there.

use std::{collections::BTreeMap, fs, io, time::Duration};

use serde_json::Value;

use crate::{
    build::workspace,
    catalogue::{self, NAMES},
    gateway::{Authorization, Route, RouteKeyError},
    pattern::{Pattern, PatternError},
    stream::StreamOptions,
    yaml::yaml,
};

/// The scope that the tokens of customers must have here: the parameter `JwtScope`.
pub const SCOPE: &str = "reserve";

/// The template, read.
#[derive(Clone, Debug)]
pub struct Template {
    root: Value,
}

/// A rule of the bus, by the function whose queue gets what it chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct BusRule {
    /// Its name in the template.
    pub id: String,
    /// What it chooses.
    pub pattern: Pattern,
    /// The function.
    pub function: String,
}

/// What of the template can't be done here.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file can't be read.
    #[error("read template.yaml: {0}")]
    Read(#[from] io::Error),
    /// It is not a template.
    #[error("template.yaml: {0}")]
    Yaml(String),
    /// A route has a key that API Gateway would refuse.
    #[error("template.yaml: {id}: {cause}")]
    Key {
        /// The route.
        id: String,
        /// What is wrong with it.
        cause: RouteKeyError,
    },
    /// A pattern asks in a way that is not known here.
    #[error("template.yaml: {id}: {cause}")]
    Pattern {
        /// The rule or function.
        id: String,
        /// What is wrong with it.
        cause: PatternError,
    },
    /// A resource lacks something, or has something that is not known here.
    #[error("template.yaml: {id}: {cause}")]
    Resource {
        /// The resource.
        id: String,
        /// What is wrong, and what to do.
        cause: &'static str,
    },
}

impl Template {
    /// Reads the template of this repository.
    ///
    /// # Errors
    /// When it can't be read.
    pub fn read() -> Result<Self, TemplateError> {
        Self::parse(&fs::read_to_string(workspace().join("template.yaml"))?)
    }

    fn parse(text: &str) -> Result<Self, TemplateError> {
        yaml(text).map(|root| Self { root }).map_err(TemplateError::Yaml)
    }

    /// The routes of its HTTP API.
    ///
    /// # Errors
    /// What of a route is not known here.
    pub fn routes(&self) -> Result<Vec<Route>, TemplateError> {
        self.routes_of("HTTP").map(|(id, properties)| self.route(id, properties)).collect()
    }

    /// The routes of its WebSocket API: the function of each, by its key.
    ///
    /// # Errors
    /// What of a route is not known here.
    pub fn connection_routes(&self) -> Result<BTreeMap<String, String>, TemplateError> {
        let route = |(id, properties): (&str, &Value)| {
            let key = properties["RouteKey"].as_str().unwrap_or_default().to_owned();
            Ok((key, self.target(id, properties)?.to_owned()))
        };
        self.routes_of("WEBSOCKET").map(route).collect()
    }

    /// The properties of each route of the API of a protocol, by its name.
    fn routes_of(&self, protocol: &str) -> impl Iterator<Item = (&str, &Value)> {
        let is_of = move |(_, route): &(&str, &Value)| {
            let api = route["ApiId"]["Ref"].as_str().unwrap_or_default();
            // What names no API is a fault of its route, and told with it.
            self.root["Resources"][api]["Properties"]["ProtocolType"].as_str().unwrap_or("HTTP") == protocol
        };
        self.of_type("AWS::ApiGatewayV2::Route").filter(is_of)
    }

    /// The function that a route leads to, by its folder.
    fn target(&self, id: &str, route: &Value) -> Result<&str, TemplateError> {
        let target = route["Target"]["Fn::Sub"].as_str();
        let integration = target.and_then(|target| target.strip_prefix("integrations/${")?.strip_suffix('}'));
        let uri = integration.map(|id| &self.root["Resources"][id]["Properties"]["IntegrationUri"]);
        let function = uri.and_then(|uri| {
            // A WebSocket API wraps it into a path.
            let parts = || uri["Fn::Join"][1].as_array()?.iter().find_map(|part| part["Ref"].as_str());
            uri["Ref"].as_str().or_else(parts)?.strip_suffix(".Alias")
        });
        let cause = "Target leads to no function";
        function.and_then(|id| self.folder(id)).ok_or(TemplateError::Resource { id: id.to_owned(), cause })
    }

    fn route(&self, id: &str, properties: &Value) -> Result<Route, TemplateError> {
        let fault = |cause| TemplateError::Resource { id: id.to_owned(), cause };
        let key = properties["RouteKey"].as_str().unwrap_or_default();
        let key = key.parse().map_err(|cause| TemplateError::Key { id: id.to_owned(), cause })?;
        let authorization = match properties["AuthorizationType"].as_str() {
            Some("NONE") | None => Authorization::None,
            Some("JWT") => Authorization::Jwt { scopes: texts(&self.value(&properties["AuthorizationScopes"])) },
            Some("AWS_IAM") => Authorization::Iam,
            Some(_) => return Err(fault("AuthorizationType must be NONE, JWT or AWS_IAM to be served here")),
        };
        Ok(Route { key, authorization, function: self.target(id, properties)?.to_owned() })
    }

    /// The rules of its bus.
    ///
    /// # Errors
    /// What of a rule is not known here.
    pub fn rules(&self) -> Result<Vec<BusRule>, TemplateError> {
        let rule = |(id, properties): (&str, &Value)| {
            let id = id.to_owned();
            let target = properties["Targets"][0]["Arn"]["Fn::GetAtt"].as_str();
            let function = target.and_then(|target| target.strip_suffix("Queue.Arn")).map(kebab);
            let function = function.filter(|name| NAMES.contains(&name.as_str()));
            let Some(function) = function else {
                let cause = "its target must be the queue of a function, such as PaymentFailedQueue of payment-failed";
                return Err(TemplateError::Resource { id, cause });
            };
            match Pattern::of(&self.value(&properties["EventPattern"])) {
                Ok(pattern) => Ok(BusRule { id, pattern, function }),
                Err(cause) => Err(TemplateError::Pattern { id, cause }),
            }
        };
        self.of_type("AWS::Events::Rule").map(rule).collect()
    }

    /// The mapping of the function behind the stream of a table, but for the queue of what it gives up.
    ///
    /// # Errors
    /// When the function has none, or one that is not known here.
    pub fn stream(&self, function: &str) -> Result<StreamOptions, TemplateError> {
        let id = function.to_owned();
        let mapping = self.event(function, "DynamoDB").map(|event| &event["Properties"]);
        let fault = |cause| TemplateError::Resource { id: function.to_owned(), cause };
        let mapping = mapping.ok_or(fault("it has no event of the type DynamoDB"))?;
        let filters = mapping["FilterCriteria"]["Filters"].as_array().into_iter().flatten();
        let filter = |filter: &Value| {
            let pattern = filter["Pattern"].as_str().and_then(|text| serde_json::from_str(text).ok());
            let pattern = pattern.ok_or(fault("a Pattern is not JSON"))?;
            Pattern::of(&pattern).map_err(|cause| TemplateError::Pattern { id: id.clone(), cause })
        };
        let infinite = |value: &Value| value.as_u64();
        Ok(StreamOptions {
            batch_size: mapping["BatchSize"].as_u64().and_then(|size| usize::try_from(size).ok()).unwrap_or(100),
            filters: filters.map(filter).collect::<Result<_, _>>()?,
            bisect_batch_on_function_error: mapping["BisectBatchOnFunctionError"] == true,
            maximum_retry_attempts: infinite(&mapping["MaximumRetryAttempts"]),
            maximum_record_age: infinite(&mapping["MaximumRecordAgeInSeconds"]).map(Duration::from_secs),
            on_failure: None,
        })
    }

    /// How long an invocation of a function may take, and the memory that it has, in MiB.
    ///
    /// # Errors
    /// When the template does not say so in numbers.
    pub fn limits(&self, function: &str) -> Result<(Duration, u32), TemplateError> {
        let mut functions = self.of_type("AWS::Serverless::Function");
        let own = functions.find(|(id, _)| self.folder(id) == Some(function)).map(|(_, properties)| properties);
        let global = &self.root["Globals"]["Function"];
        let number = |name: &str| own.and_then(|own| own[name].as_u64()).or_else(|| global[name].as_u64());
        let memory = number("MemorySize").and_then(|memory| u32::try_from(memory).ok());
        let cause = "it needs a Timeout and a MemorySize, in numbers";
        let limits = own.and_then(|_| Some((Duration::from_secs(number("Timeout")?), memory?)));
        limits.ok_or_else(|| TemplateError::Resource { id: function.to_owned(), cause })
    }

    /// How often a rule by the clock invokes a function.
    ///
    /// # Errors
    /// When none does, or by an expression that is not known here.
    pub fn schedule(&self, function: &str) -> Result<Duration, TemplateError> {
        let expression = self.event(function, "Schedule").and_then(|event| event["Properties"]["Schedule"].as_str());
        let rate = expression.and_then(|text| text.strip_prefix("rate(")?.strip_suffix(')')?.split_once(' '));
        let seconds = rate.and_then(|(number, unit)| {
            let unit = match unit.trim_end_matches('s') {
                "minute" => 60,
                "hour" => 3_600,
                "day" => 86_400,
                _ => return None,
            };
            number.parse::<u64>().ok()?.checked_mul(unit)
        });
        let cause = "it has no event of the type Schedule with a rate in minutes, hours or days";
        seconds.map(Duration::from_secs).ok_or_else(|| TemplateError::Resource { id: function.to_owned(), cause })
    }

    /// The properties of each resource of a type, by its name.
    fn of_type(&self, name: &str) -> impl Iterator<Item = (&str, &Value)> {
        let resources = self.root["Resources"].as_object().into_iter().flatten();
        let of_type = resources.filter(move |(_, body)| body["Type"] == name);
        of_type.map(|(id, body)| (id.as_str(), &body["Properties"]))
    }

    /// The event of a type that invokes a function.
    fn event(&self, function: &str, kind: &str) -> Option<&Value> {
        let mut functions = self.of_type("AWS::Serverless::Function");
        let (_, properties) = functions.find(|(id, _)| self.folder(id) == Some(function))?;
        properties["Events"].as_object()?.values().find(|event| event["Type"] == kind)
    }

    /// The function that a resource deploys, by its folder.
    fn folder(&self, id: &str) -> Option<&str> {
        let folder = self.root["Resources"][id]["Properties"]["CodeUri"].as_str()?.strip_prefix("functions/")?;
        catalogue::function(folder).map(|entry| entry.name)
    }

    /// What a value comes to, as far as it is parameters and branches.
    fn value(&self, node: &Value) -> Value {
        if let Some(name) = node["Ref"].as_str() {
            let parameter = &self.root["Parameters"][name];
            return match (name, parameter["Default"].as_str()) {
                ("JwtScope", _) => SCOPE.into(),
                (_, Some(list)) if parameter["Type"] == "CommaDelimitedList" => list.split(',').collect(),
                _ => parameter["Default"].clone(),
            };
        }
        if let Some(branches) = node["Fn::If"].as_array() {
            return branches.get(1).map_or(Value::Null, |then| self.value(then));
        }
        match node {
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), self.value(value))).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => node.clone(),
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// `payment-failed` of `PaymentFailed`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !kebab.is_empty() {
            kebab.push('-');
        }
        kebab.push(c.to_ascii_lowercase());
    }
    kebab
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::{catalogue, stack::FUNCTION_TIMEOUT};

    fn template() -> Template {
        Template::read().unwrap()
    }

    #[test]
    fn the_routes_are_those_of_the_template_with_who_may_call_them() {
        let routes = template().routes().unwrap();
        let of = |key: &str| {
            let route = routes.iter().find(|route| route.key.as_str() == key);
            route.unwrap_or_else(|| panic!("{key} is none of {routes:#?}"))
        };
        let customers = of("ANY /v1/{proxy+}");
        assert_eq!(customers.authorization, Authorization::Jwt { scopes: vec![SCOPE.to_owned()] });
        assert_eq!(customers.function, reservation_api::NAME);
        assert_eq!(of("ANY /internal/{proxy+}").authorization, Authorization::Iam);
        assert_eq!(of("GET /health").authorization, Authorization::None);
    }

    #[test]
    fn what_happens_to_a_connection_is_the_business_of_one_function() {
        let routes = template().connection_routes().unwrap();
        let expected =
            waiting_room_connected::ROUTES.map(|key| (key.to_owned(), waiting_room_connected::NAME.to_owned()));
        assert_eq!(routes, expected.into());
    }

    #[test]
    fn each_queue_that_the_bus_feeds_has_a_rule_and_the_sources_are_those_of_the_parameters() {
        let rules = template().rules().unwrap();
        let functions: BTreeSet<&str> = rules.iter().map(|rule| rule.function.as_str()).collect();
        let fed = catalogue::all_fed().filter(|function| function.is_fed_by_the_bus);
        assert_eq!(functions, fed.map(|function| function.name).collect());
        let chosen = |event: Value| -> Vec<&str> {
            let rules = rules.iter().filter(|rule| rule.pattern.matches(&event));
            rules.map(|rule| rule.function.as_str()).collect()
        };
        let event = |source: &str, detail_type: &str, detail: Value| json!({"source": source, "detail-type": detail_type, "detail": detail});
        assert_eq!(chosen(event("payment-service", "payment.approved", json!({}))), ["payment-approved"]);
        let updated = json!({"status": "FAILED"});
        assert_eq!(chosen(event("payment-sim", "Payment Status Updated", updated)), ["payment-failed"]);
        assert_eq!(chosen(event("somebody", "payment.approved", json!({}))), [""; 0]);
        assert_eq!(chosen(event("booking-service", "booking.created", json!({}))), ["booking-created"]);
        assert_eq!(chosen(event("holdfast", "booking.refused", json!({}))), [""; 0]);
        let of_a_turn = json!({"queue_item_id": "q1", "by": "payment"});
        assert_eq!(chosen(event("holdfast", "reservation.failed", of_a_turn)), ["waiting-room-settled"]);
        assert_eq!(chosen(event("holdfast", "reservation.failed", json!({"by": "payment"}))), [""; 0]);
    }

    #[test]
    fn the_stream_and_the_clock_are_those_of_the_template() {
        let stream = template().stream("reservation-changed").unwrap();
        assert_eq!((stream.batch_size, stream.bisect_batch_on_function_error), (100, true));
        assert_eq!(
            (stream.maximum_retry_attempts, stream.maximum_record_age),
            (None, Some(Duration::from_secs(3_600)))
        );
        let record = |image: Value| json!({"dynamodb": {"NewImage": image}});
        assert!(stream.filters[0].matches(&record(json!({"unpublished": {"S": "yes"}}))));
        assert!(!stream.filters[0].matches(&record(json!({"id": {"S": "rsv_1"}}))));
        assert_eq!(template().schedule("reservation-sweep").unwrap(), Duration::from_secs(3_600));
        assert_eq!(template().schedule("waiting-room-clock").unwrap(), Duration::from_secs(60));
        assert_eq!(template().limits("reservation-api").unwrap(), (Duration::from_secs(10), 512));
        assert_eq!(template().limits("payment-failed").unwrap(), (FUNCTION_TIMEOUT, 256));
        assert!(template().stream("payment-failed").is_err() && template().schedule("payment-failed").is_err());
    }

    #[test]
    fn what_is_not_known_here_is_told_with_its_name() {
        #[track_caller]
        fn check(resource: &str, expected: &str) {
            let template = Template::parse(&format!("Resources: {{Odd: {resource}}}")).unwrap();
            let error = template.routes().err().or(template.rules().err()).unwrap().to_string();
            assert!(error.contains(expected) && error.contains("Odd"), "{error}");
        }
        let route = "Type: 'AWS::ApiGatewayV2::Route'";
        check(&format!("{{{route}, Properties: {{RouteKey: nothing}}}}"), "no route key");
        check(&format!("{{{route}, Properties: {{RouteKey: GET /a, AuthorizationType: CUSTOM}}}}"), "AWS_IAM");
        check(&format!("{{{route}, Properties: {{RouteKey: GET /a, Target: x}}}}"), "no function");
        let rule = "Type: 'AWS::Events::Rule'";
        check(&format!("{{{rule}, Properties: {{EventPattern: {{a: [b]}}}}}}"), "the queue of a function");
        let target = "Targets: [{Arn: !GetAtt PaymentFailedQueue.Arn}]";
        check(&format!("{{{rule}, Properties: {{EventPattern: {{a: b}}, {target}}}}}"), "has to be a list");
    }
}
