//! The reservation API's document, as a judge of what the API answers.

use serde_json::Value;

/// The document, as the function carries it.
const DOCUMENT: &str = include_str!("../../functions/reservation-api/openapi.json");

/// What the API can be asked for, and how it may answer.
#[derive(Debug, Clone)]
pub struct Document(Value);

/// One thing that can be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Operation<'a> {
    /// In capitals.
    pub method: &'a str,
    /// With `{id}` where a reservation is named.
    pub path: &'a str,
    /// For whom it is: `customers`, `functions` or `anybody`.
    pub tag: &'a str,
    /// All that the document says of it.
    pub about: &'a Value,
}

const METHODS: [(&str, &str); 4] = [("get", "GET"), ("patch", "PATCH"), ("post", "POST"), ("put", "PUT")];

impl Document {
    /// The document in the repository.
    ///
    /// # Errors
    /// When it is no JSON.
    pub fn read() -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::from_str(DOCUMENT)?))
    }

    /// Everything that can be asked for.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let paths = self.0["paths"].as_object().into_iter().flatten();
        let of_path = |(path, methods): (&'_ String, &'_ Value)| -> Vec<(String, &'static str)> {
            let there = METHODS.iter().filter(|(key, _)| methods[*key].is_object());
            there.map(|(_, method)| (path.clone(), *method)).collect()
        };
        let known: Vec<_> = paths.flat_map(of_path).collect();
        known.into_iter().filter_map(|(path, method)| self.operation(method, &path)).collect()
    }

    /// The operation of a method on a path, as the document writes it or as a request does.
    pub fn operation(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let asked: Vec<&str> = path.split('/').collect();
        let takes = |pattern: &str| {
            let pattern: Vec<&str> = pattern.split('/').collect();
            let fits = |(own, asked): (&&str, &&str)| own == asked || *own == "{id}" && !asked.is_empty();
            pattern.len() == asked.len() && pattern.iter().zip(&asked).all(fits)
        };
        let paths = self.0["paths"].as_object()?;
        let found = paths.iter().filter(|(pattern, _)| takes(pattern));
        // As the router, it prefers a word to a parameter.
        let (path, methods) = found.min_by_key(|(pattern, _)| pattern.matches('{').count())?;
        let (key, method) = METHODS.iter().find(|(_, name)| *name == method)?;
        let about = methods.get(key)?;
        Some(Operation { method, path, tag: about["tags"][0].as_str().unwrap_or_default(), about })
    }

    /// What an answer has that the document does not: its status, the code of its error, or a field. Nothing where no operation
    /// takes the request, and where all is as it says.
    pub fn fault(&self, method: &str, path: &str, status: u16, body: &Value) -> Option<String> {
        let operation = self.operation(method, path)?;
        let name = format!("{method} {}", operation.path);
        let response = self.resolved(&operation.about["responses"][status.to_string()]);
        if !response.is_object() {
            return Some(format!("{name} is never answered {status} by its document"));
        }
        let content = &response["content"]["application/json"];
        if let Some(code) = body["error"]["code"].as_str() {
            return content["examples"][code].is_null().then(|| format!("{name} has no {code} in its document"));
        }
        let schema = self.resolved(&content["schema"]);
        let fields = body.as_object()?.keys();
        let unknown: Vec<_> = fields.filter(|field| schema["properties"][*field].is_null()).collect();
        let judged = schema["properties"].is_object() && !unknown.is_empty();
        judged.then(|| format!("{name} is answered with {unknown:?}, which its document has not"))
    }

    /// What stands where a reference points to, or the value itself.
    fn resolved<'a>(&'a self, value: &'a Value) -> &'a Value {
        let pointer = value["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
        pointer.and_then(|pointer| self.0.pointer(pointer)).unwrap_or(value)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(request: &str, status: u16, body: Value, expected: Option<&str>) {
        let (method, path) = request.split_once(' ').unwrap();
        let found = Document::read().unwrap().fault(method, path, status, &body);
        match expected {
            None => assert_eq!(found, None),
            Some(expected) => assert!(found.as_ref().is_some_and(|fault| fault.contains(expected)), "{found:?}"),
        }
    }

    #[test]
    fn what_the_document_does_not_have_is_a_fault() {
        let refused = |code: &str| json!({"error": {"code": code}});
        check("GET /v1/reservations/rsv_1", 404, refused("RESERVATION_NOT_FOUND"), None);
        check("GET /v1/reservations/rsv_1", 404, refused("SEAT_UNAVAILABLE"), Some("no SEAT_UNAVAILABLE"));
        check("GET /v1/reservations/rsv_1", 422, json!({}), Some("never answered 422"));
        check("GET /v1/reservations/rsv_1", 200, json!({"reservationId": "rsv_1"}), None);
        check("GET /v1/reservations/rsv_1", 200, json!({"secret": 1}), Some("secret"));
        check("POST /v1/reservations/cancel", 415, refused("UNSUPPORTED_MEDIA_TYPE"), None);
        check("DELETE /v1/reservations", 500, json!({}), None);
    }

    #[test]
    fn every_operation_is_for_somebody() {
        let document = Document::read().unwrap();
        let operations = document.operations();
        assert!(operations.len() > 10);
        for Operation { method, path, tag, .. } in operations {
            assert!(["customers", "functions", "anybody"].contains(&tag), "{method} {path}: {tag}");
        }
    }
}
