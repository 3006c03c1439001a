//! Which route of an HTTP API a request takes.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html>

use std::{cmp::Ordering, fmt, str::FromStr};

/// A route, by what `AWS::ApiGatewayV2::Route` says of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// `RouteKey`: which requests it takes.
    pub key: RouteKey,
    /// `AuthorizationType` and `AuthorizationScopes`: who may call it.
    pub authorization: Authorization,
    /// `Target`: the function that its integration invokes, by name.
    pub function: String,
}

/// Who may call a route.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Authorization {
    /// `NONE`: everybody.
    None,
    /// `JWT`: who has a token of the issuer, with one of these scopes where there are any.
    Jwt {
        /// `AuthorizationScopes`.
        scopes: Vec<String>,
    },
    /// `AWS_IAM`: who has signed the request with a known access key.
    Iam,
}

/// What a route takes: `{method} {path}`, or `$default` for whatever no other route takes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteKey {
    text: String,
    pattern: Option<Pattern>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Pattern {
    /// None for `ANY`.
    method: Option<String>,
    segments: Vec<Segment>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Segment {
    Literal(String),
    /// `{name}`: one segment, whatever it is.
    Parameter(String),
    /// `{name+}`: the rest, at least one segment.
    Greedy(String),
}

/// A route key that API Gateway would refuse.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{key:?} is no route key: {reason}")]
pub struct RouteKeyError {
    key: String,
    reason: &'static str,
}

/// Two routes that take the same requests.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0} and {1} take the same requests")]
pub struct ConflictError(String, String);

/// The routes of an API.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes(Vec<Route>);

/// What a request's path holds where a route has parameters, by their names.
pub(super) type Parameters = Vec<(String, String)>;

impl Routes {
    /// The routes in the order in which they are asked.
    ///
    /// # Errors
    /// When two of them take the same requests.
    pub(super) fn of(mut routes: Vec<Route>) -> Result<Self, ConflictError> {
        routes.sort_by(|one, other| one.key.specificity(&other.key));
        let same = routes.windows(2).find(|pair| pair[0].key.specificity(&pair[1].key) == Ordering::Equal);
        match same {
            Some(pair) => Err(ConflictError(pair[0].key.to_string(), pair[1].key.to_string())),
            None => Ok(Self(routes)),
        }
    }

    /// The most specific route that takes a request, by its decoded path.
    pub(super) fn find(&self, method: &str, path: &str) -> Option<(&Route, Parameters)> {
        self.0.iter().find_map(|route| Some((route, route.key.parameters(method, path)?)))
    }

    /// All routes.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Route> {
        self.0.iter()
    }
}

impl FromStr for RouteKey {
    type Err = RouteKeyError;

    fn from_str(text: &str) -> Result<Self, RouteKeyError> {
        const METHODS: [&str; 8] = ["ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"];

        let fault = |reason| RouteKeyError { key: text.to_owned(), reason };
        if text == "$default" {
            return Ok(Self { text: text.to_owned(), pattern: None });
        }
        let (method, path) = text.split_once(' ').ok_or(fault("it has no method and path"))?;
        if !METHODS.contains(&method) {
            return Err(fault("its method is none of HTTP in capitals, nor ANY"));
        }
        let path = path.strip_prefix('/').ok_or(fault("its path does not begin with a slash"))?;
        let segments = path.split('/').map(Segment::read).collect::<Option<Vec<_>>>();
        let segments = segments.ok_or(fault("a segment is neither a text, nor {name}, nor {name+}"))?;
        let (_, before) = segments.split_last().unwrap_or((&Segment::Literal(String::new()), &[]));
        if before.iter().any(|segment| matches!(segment, Segment::Greedy(_))) {
            return Err(fault("only the last segment takes the rest"));
        }
        let method = (method != "ANY").then(|| method.to_owned());
        Ok(Self { text: text.to_owned(), pattern: Some(Pattern { method, segments }) })
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl RouteKey {
    /// The key as the template has it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What the path holds for each parameter; nothing when this route does not take the request.
    fn parameters(&self, method: &str, path: &str) -> Option<Parameters> {
        let Some(pattern) = &self.pattern else { return Some(Vec::new()) };
        if pattern.method.as_deref().is_some_and(|own| own != method) {
            return None;
        }
        // A path with more slashes in front is that with one.
        let mut rest = Some(path.trim_start_matches('/'));
        let mut found = Vec::new();
        for segment in &pattern.segments {
            let left = rest?;
            let (here, after) = left.split_once('/').map_or((left, None), |(here, after)| (here, Some(after)));
            match segment {
                Segment::Literal(text) if text == here => rest = after,
                Segment::Parameter(name) if !here.is_empty() => {
                    found.push((name.clone(), here.to_owned()));
                    rest = after;
                }
                Segment::Greedy(name) if !left.is_empty() => {
                    found.push((name.clone(), left.to_owned()));
                    rest = None;
                }
                Segment::Literal(_) | Segment::Parameter(_) | Segment::Greedy(_) => return None,
            }
        }
        rest.is_none().then_some(found)
    }

    /// The more specific key is the lesser: a whole path before one with a rest, before `$default`; then a method before
    /// `ANY`; then, from the left, a text before a parameter before a rest.
    fn specificity(&self, other: &Self) -> Ordering {
        match (&self.pattern, &other.pattern) {
            (Some(one), Some(other)) => (one.is_greedy().cmp(&other.is_greedy()))
                .then(one.method.is_none().cmp(&other.method.is_none()))
                .then_with(|| one.ranks().cmp(other.ranks()))
                .then_with(|| one.method.cmp(&other.method)),
            (one, other) => one.is_none().cmp(&other.is_none()),
        }
    }
}

impl Pattern {
    fn is_greedy(&self) -> bool {
        matches!(self.segments.last(), Some(Segment::Greedy(_)))
    }

    /// What tells paths apart: a parameter's name does not.
    fn ranks(&self) -> impl Iterator<Item = (u8, &str)> {
        self.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => (0, text.as_str()),
            Segment::Parameter(_) => (1, ""),
            Segment::Greedy(_) => (2, ""),
        })
    }
}

impl Segment {
    fn read(text: &str) -> Option<Self> {
        let has_brace = |text: &str| text.contains(['{', '}']);
        let Some(name) = text.strip_prefix('{') else {
            return (!has_brace(text)).then(|| Self::Literal(text.to_owned()));
        };
        let name = name.strip_suffix('}')?;
        let (name, is_greedy) = name.strip_suffix('+').map_or((name, false), |name| (name, true));
        let name = Some(name).filter(|name| !name.is_empty() && !has_brace(name))?.to_owned();
        Some(if is_greedy { Self::Greedy(name) } else { Self::Parameter(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(keys: &[&str]) -> Result<Routes, ConflictError> {
        let route = |key: &&str| Route {
            key: key.parse().unwrap(),
            authorization: Authorization::None,
            function: "function".to_owned(),
        };
        Routes::of(keys.iter().map(route).collect())
    }

    #[track_caller]
    fn check(keys: &[&str], request: &str, expected: Option<&str>) {
        let mut keys = keys.to_vec();
        let (method, path) = request.split_once(' ').unwrap();
        for _ in 0..2 {
            let routes = routes(&keys).unwrap();
            let found = routes.find(method, path).map(|(route, _)| route.key.as_str());
            assert_eq!(found, expected, "{request} among {keys:?}");
            keys.reverse();
        }
    }

    const PETS: [&str; 5] =
        ["GET /pets/dog/1", "GET /pets/dog/{id}", "GET /pets/{proxy+}", "ANY /{proxy+}", "$default"];

    #[test]
    fn the_most_specific_route_wins_whatever_the_order() {
        check(&PETS, "GET /pets/dog/1", Some("GET /pets/dog/1"));
        check(&PETS, "GET /pets/dog/2", Some("GET /pets/dog/{id}"));
        check(&PETS, "GET /pets/cat/1", Some("GET /pets/{proxy+}"));
        check(&PETS, "POST /test/5", Some("ANY /{proxy+}"));
        check(&PETS, "GET /", Some("$default"));
    }

    #[test]
    fn a_whole_path_wins_over_a_rest_and_a_method_over_any() {
        check(&["GET /a/{proxy+}", "ANY /{x}/b"], "GET /a/b", Some("ANY /{x}/b"));
        check(&["ANY /a/b", "GET /a/{id}"], "GET /a/b", Some("GET /a/{id}"));
        check(&["ANY /a/b", "GET /a/{id}"], "PUT /a/b", Some("ANY /a/b"));
        check(&["GET /{x}/b", "GET /a/{y}"], "GET /a/b", Some("GET /a/{y}"));
        check(&["GET /{proxy+}", "GET /a/{proxy+}"], "GET /a/b", Some("GET /a/{proxy+}"));
    }

    #[test]
    fn what_no_route_takes_has_none() {
        const ROUTES: [&str; 3] = ["ANY /v1/{proxy+}", "GET /health", "PATCH /internal/{id}"];
        for request in [
            "GET /v1",
            "GET /v1/",
            "GET /v2/a",
            "GET /V1/a",
            "POST /health",
            "HEAD /health",
            "GET /health/",
            "GET /health/a",
            "PATCH /internal/",
            "PATCH /internal/a/b",
            "GET /",
        ] {
            check(&ROUTES, request, None);
        }
        check(&ROUTES, "OPTIONS /v1/a", Some("ANY /v1/{proxy+}"));
        check(&ROUTES, "PROPFIND /v1/a/b/", Some("ANY /v1/{proxy+}"));
    }

    #[test]
    fn more_slashes_in_front_are_one() {
        check(&["GET /health"], "GET ///health", Some("GET /health"));
    }

    #[test]
    fn a_route_says_what_the_path_holds_for_its_parameters() {
        let routes = routes(&["GET /a/{id}/{proxy+}", "GET /a"]).unwrap();
        let of = |path| routes.find("GET", path).unwrap().1;
        let named = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(of("/a/1 2/b/c"), [named("id", "1 2"), named("proxy", "b/c")]);
        assert_eq!(of("/a"), []);
    }

    #[test]
    fn routes_that_take_the_same_requests_are_a_conflict() {
        let conflict = |keys: &[&str]| routes(keys).is_err();
        assert!(conflict(&["GET /a/{id}", "GET /a/{name}"]), "a parameter's name is no difference");
        assert!(conflict(&["$default", "GET /a", "$default"]));
        assert!(conflict(&["ANY /{a+}", "GET /", "ANY /{b+}"]));
        assert!(!conflict(&["GET /a", "ANY /a", "PUT /a", "GET /{a}", "GET /{a+}", "$default"]));
    }

    #[test]
    fn a_key_that_api_gateway_refuses_is_none() {
        for key in [
            "",
            "GET",
            "GET a",
            "get /a",
            "TRACE /a",
            " /a",
            "GET  /a",
            "GET /{a",
            "GET /a}",
            "GET /{}",
            "GET /{+}",
            "GET /{a+}/b",
            "GET /x{a}",
            "GET /{a}x",
            "$DEFAULT",
        ] {
            assert!(key.parse::<RouteKey>().is_err(), "{key:?}");
        }
        assert_eq!("ANY /v1/{proxy+}".parse::<RouteKey>().unwrap().to_string(), "ANY /v1/{proxy+}");
    }
}
