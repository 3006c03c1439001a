//! The signature of a caller on a route with `AWS_IAM`: Signature Version 4 for the service `execute-api`, computed once more
//! and compared. What the caller's policies allow is not looked at: the template's rules and MiniStack do that.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use axum::http::{HeaderMap, header, request::Parts};
use serde_json::{Value, json};
use time::{PrimitiveDateTime, format_description};

use super::REGION;

/// What is signed for.
const SERVICE: &str = "execute-api";

/// How far a caller's clock may be off.
const SKEW: Duration = Duration::from_secs(300);

/// The form of `x-amz-date`.
const AMZ_DATE: &str = "[year][month][day]T[hour][minute][second]Z";

/// An access key that may call routes with `AWS_IAM`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// Who has it: the ARN of a user, or of a role's session.
    pub arn: String,
}

/// A signature as the header `authorization` has it.
#[derive(Debug)]
struct Signature<'a> {
    key_id: &'a str,
    /// Day, region, service and a fixed word.
    scope: [&'a str; 4],
    signed_headers: Vec<&'a str>,
    /// The lower-case hex digits.
    digits: &'a str,
}

/// What a function is told of the signer of a request: `requestContext.authorizer`. Nothing: it is not signed by one of `keys`
/// for `region`, now.
pub(super) fn authorize(head: &Parts, body: &[u8], keys: &[AccessKey], region: &str, now: SystemTime) -> Option<Value> {
    let signature = Signature::read(single(&head.headers, header::AUTHORIZATION.as_str())?)?;
    let key = keys.iter().find(|key| key.id == signature.key_id)?;
    let stated = single(&head.headers, "x-amz-date")?;
    let form = format_description::parse_borrowed::<2>(AMZ_DATE).ok()?;
    let signed_at = SystemTime::from(PrimitiveDateTime::parse(stated, &form).ok()?.assume_utc());
    let apart = now.duration_since(signed_at).unwrap_or_else(|error| error.duration());
    let scope = [stated.get(..8)?, region, SERVICE, "aws4_request"];
    if apart > SKEW
        || signature.scope != scope
        || !["host", "x-amz-date"].iter().all(|name| signature.signed_headers.contains(name))
    {
        return None;
    }
    (signature.digits == key.sign(head, body, &signature.signed_headers, region, signed_at)?).then(|| key.authorizer())
}

/// The value of a header that stands there once.
pub(super) fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

impl<'a> Signature<'a> {
    fn read(header: &'a str) -> Option<Self> {
        let parts: Vec<&str> = header.strip_prefix("AWS4-HMAC-SHA256 ")?.split(',').map(str::trim).collect();
        let [credential, signed_headers, digits] = parts.as_slice() else { return None };
        let mut credential = credential.strip_prefix("Credential=")?.split('/');
        let (key_id, scope) = (credential.next()?, credential.collect::<Vec<_>>().try_into().ok()?);
        let signed_headers = signed_headers.strip_prefix("SignedHeaders=")?.split(';').collect();
        Some(Self { key_id, scope, signed_headers, digits: digits.strip_prefix("Signature=")? })
    }
}

impl AccessKey {
    /// Signs a request of a caller who has this key. Nothing: it can't be signed, such as one whose body is a stream.
    pub fn signs(&self, request: &mut reqwest::Request) -> Option<()> {
        let identity = Credentials::new(&self.id, &self.secret, None, None, "local").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(SERVICE)
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .ok()?;
        let (method, url) = (request.method().as_str(), request.url().as_str());
        let headers = [("host", request.url().authority())].into_iter();
        let body = request.body().map_or(Some(&[][..]), |body| body.as_bytes())?;
        let signable = SignableRequest::new(method, url, headers, SignableBody::Bytes(body)).ok()?;
        let (instructions, _) = sign(signable, &parameters.into()).ok()?.into_parts();
        for (name, value) in instructions.headers() {
            let name: header::HeaderName = name.parse().ok()?;
            request.headers_mut().insert(name, value.parse().ok()?);
        }
        Some(())
    }

    /// The signature that this key makes of a request.
    fn sign(&self, head: &Parts, body: &[u8], signed: &[&str], region: &str, time: SystemTime) -> Option<String> {
        let values = |name: &&str| {
            let values = head.headers.get_all(*name).iter().map(|value| value.to_str().ok());
            values.collect::<Option<Vec<_>>>().filter(|values| !values.is_empty()).map(|values| values.join(","))
        };
        // A header that is said to be signed and is not there makes the signature wrong.
        let values: Vec<String> = signed.iter().map(values).collect::<Option<_>>()?;
        let headers = signed.iter().copied().zip(values.iter().map(String::as_str));
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let url = format!("http://{}{target}", single(&head.headers, "host")?);
        let identity = Credentials::new(&self.id, &self.secret, None, None, "local").into();
        let mut settings = SigningSettings::default();
        settings.excluded_headers = None;
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(SERVICE)
            .time(time)
            .settings(settings)
            .build()
            .ok()?;
        let request = SignableRequest::new(head.method.as_str(), url, headers, SignableBody::Bytes(body)).ok()?;
        Some(sign(request, &parameters.into()).ok()?.into_parts().1)
    }

    fn authorizer(&self) -> Value {
        let account = self.arn.split(':').nth(4).unwrap_or_default();
        json!({"iam": {
            "accessKey": self.id,
            "accountId": account,
            "callerId": self.id,
            "cognitoIdentity": null,
            "principalOrgId": null,
            "userArn": self.arn,
            "userId": self.id,
        }})
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, Request};

    use super::*;

    const ARN: &str = "arn:aws:sts::000000000000:assumed-role/payment-approved/local";

    fn key(id: &str, secret: &str) -> AccessKey {
        AccessKey { id: id.to_owned(), secret: secret.to_owned(), arn: ARN.to_owned() }
    }

    /// A request that is signed as a client of `execute-api` signs.
    fn signed_by(key: &AccessKey, region: &str, service: &str, target: &str, body: &str, time: SystemTime) -> Parts {
        let url = format!("http://127.0.0.1:1{target}");
        let identity = Credentials::new(&key.id, &key.secret, None, None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(region)
            .name(service)
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .unwrap();
        let headers = [("host", "127.0.0.1:1"), ("content-type", "application/json")];
        let signable =
            SignableRequest::new("PATCH", url, headers.into_iter(), SignableBody::Bytes(body.as_bytes())).unwrap();
        let (instructions, _) = sign(signable, &parameters.into()).unwrap().into_parts();
        let mut request = Request::patch(target);
        for (name, value) in headers.into_iter().chain(instructions.headers()) {
            request = request.header(name, value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn signed(target: &str, body: &str) -> Parts {
        signed_by(&key("worker", "secret"), "us-east-1", "execute-api", target, body, SystemTime::now())
    }

    fn authorized(head: &Parts, body: &str) -> Option<Value> {
        authorize(head, body.as_bytes(), &[key("other", "x"), key("worker", "secret")], "us-east-1", SystemTime::now())
    }

    #[test]
    fn who_signs_with_a_known_key_is_told_to_the_function() {
        let authorizer = authorized(&signed("/internal/reservations/rsv_1", "{}"), "{}").unwrap();
        assert_eq!(
            (&authorizer["iam"]["userArn"], &authorizer["iam"]["accountId"]),
            (&json!(ARN), &json!("000000000000"))
        );
    }

    #[test]
    fn a_signature_covers_path_query_and_body() {
        for target in ["/", "/a?b=c&a=1", "/a%20b/c%2Fd?x=%20", "/a//b/../c", "/a~b(c)?q=(d)*"] {
            assert!(authorized(&signed(target, "{}"), "{}").is_some(), "{target}");
        }
        let head = signed("/a?b=c", "{}");
        assert_eq!(authorized(&head, "{\"status\": \"CONFIRMED\"}"), None);
        for (target, method) in [("/b?b=c", "PATCH"), ("/a?b=d", "PATCH"), ("/a", "PATCH"), ("/a?b=c", "PUT")] {
            let mut changed = head.clone();
            changed.uri = target.parse().unwrap();
            changed.method = method.parse().unwrap();
            assert_eq!(authorized(&changed, "{}"), None, "{method} {target}");
        }
    }

    #[test]
    fn a_signed_header_must_be_as_it_was_signed() {
        for (name, value) in
            [("host", "127.0.0.1:2"), ("content-type", "text/plain"), ("x-amz-date", "20261127T000000Z")]
        {
            let mut head = signed("/a", "{}");
            head.headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(authorized(&head, "{}"), None, "{name}");
            head.headers.remove(name);
            assert_eq!(authorized(&head, "{}"), None, "without {name}");
        }
        let mut head = signed("/a", "{}");
        head.headers.insert("x-unsigned", HeaderValue::from_static("anything"));
        assert!(authorized(&head, "{}").is_some());
    }

    #[test]
    fn an_unknown_key_or_a_wrong_secret_signs_nothing() {
        let by = |key: &AccessKey| signed_by(key, "us-east-1", "execute-api", "/a", "", SystemTime::now());
        assert!(authorized(&by(&key("worker", "secret")), "").is_some());
        assert_eq!(authorized(&by(&key("worker", "guess")), ""), None);
        assert_eq!(authorized(&by(&key("stranger", "secret")), ""), None);
    }

    #[test]
    fn a_signature_for_another_service_or_region_does_not_count() {
        let of = |region: &str, service: &str| {
            signed_by(&key("worker", "secret"), region, service, "/a", "", SystemTime::now())
        };
        assert_eq!(authorized(&of("us-east-1", "lambda"), ""), None);
        assert_eq!(authorized(&of("eu-west-1", "execute-api"), ""), None);
    }

    #[test]
    fn a_signature_counts_for_five_minutes() {
        let (now, key) = (SystemTime::now(), key("worker", "secret"));
        let at = |time| signed_by(&key, "us-east-1", "execute-api", "/a", "", time);
        let within = SKEW - Duration::from_secs(10);
        assert!([now - within, now + within].iter().all(|time| authorized(&at(*time), "").is_some()));
        let beyond = SKEW + Duration::from_secs(10);
        assert!([now - beyond, now + beyond].iter().all(|time| authorized(&at(*time), "").is_none()));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        let head = signed("/a", "");
        let sound = head.headers["authorization"].to_str().unwrap().to_owned();
        let broken = [
            String::new(),
            "Bearer token".to_owned(),
            sound.replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA512"),
            sound.replace("aws4_request", "aws4"),
            sound.replace("host;", ""),
            sound.replace("SignedHeaders=", "SignedHeaders=x-missing;"),
            sound.replace(", Signature=", ", Signature=0"),
            sound.split(", Signature").next().unwrap().to_owned(),
        ];
        for text in broken {
            let mut head = head.clone();
            head.headers.insert("authorization", HeaderValue::from_str(&text).unwrap());
            assert_eq!(authorized(&head, ""), None, "{text}");
        }
        let mut twice = head.clone();
        twice.headers.append("authorization", HeaderValue::from_str(&sound).unwrap());
        assert_eq!(authorized(&twice, ""), None);
        let mut unsigned = head;
        unsigned.headers.remove("authorization");
        assert_eq!(authorized(&unsigned, ""), None);
    }
}
