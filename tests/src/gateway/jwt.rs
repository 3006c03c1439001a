//! The JWT authorizer of an HTTP API.
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html>

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};
use tokio::sync::OnceCell;

/// API Gateway waits no longer for an issuer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// API Gateway reads no more of an issuer's keys.
const LONGEST_JWKS: usize = 150_000;

/// Who tokens must come from, and be for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct JwtConfiguration {
    /// The issuer's URL, exactly as its tokens have it.
    pub issuer: String,
    /// A token must be for one of these.
    pub audience: Vec<String>,
}

/// Checks tokens. It asks the issuer for its keys once, and keeps them.
#[derive(Debug)]
pub(super) struct JwtAuthorizer {
    configuration: JwtConfiguration,
    http: reqwest::Client,
    keys: OnceCell<HashMap<String, Key>>,
}

/// Why a request is not let through.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// 401, with what the header `www-authenticate` says of it.
    Unauthorized(&'static str),
    /// 403: the token is sound, and has none of the route's scopes.
    Forbidden,
}

/// A public key of the issuer.
#[derive(Debug)]
struct Key {
    n: Vec<u8>,
    e: Vec<u8>,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

/// Keys of other kinds have other fields.
#[derive(Deserialize)]
struct Jwk {
    kid: Option<String>,
    kty: String,
    n: Option<String>,
    e: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
}

impl JwtAuthorizer {
    pub(super) fn new(configuration: JwtConfiguration) -> Self {
        // A variable that names a proxy is for other programs; an issuer is on loopback.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap_or_default();
        Self { configuration, http, keys: OnceCell::new() }
    }

    /// What a function is told of the bearer of a token: `requestContext.authorizer`.
    ///
    /// # Errors
    /// When the token is none, is not valid now, or has none of `scopes`.
    pub(super) async fn authorize(&self, authorization: Option<&str>, scopes: &[String]) -> Result<Value, Refusal> {
        let token = authorization.ok_or(Refusal::Unauthorized(""))?;
        let scheme = token.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "));
        let token = scheme.map_or(token, |scheme| &token[scheme.len()..]).trim();
        let claims = self.verified(token).await.map_err(Refusal::Unauthorized)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        self.check(&claims, now).map_err(Refusal::Unauthorized)?;
        let granted = granted(&claims);
        if !scopes.is_empty() && !scopes.iter().any(|scope| granted.contains(scope)) {
            return Err(Refusal::Forbidden);
        }
        let listed = if granted.is_empty() { Value::Null } else { json!(granted) };
        let claims: Map<String, Value> =
            claims.into_iter().map(|(name, value)| (name, Value::String(as_text(&value)))).collect();
        Ok(json!({"jwt": {"claims": claims, "scopes": listed}}))
    }

    /// The claims of a token that the issuer has signed.
    async fn verified(&self, token: &str) -> Result<Map<String, Value>, &'static str> {
        let (message, signature) = token.rsplit_once('.').ok_or("the token is malformed")?;
        let (header, claims) = message.split_once('.').ok_or("the token is malformed")?;
        let header: Header = part(header).ok_or("the token is malformed")?;
        let claims: Map<String, Value> = part(claims).ok_or("the token is malformed")?;
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).map_err(|_| "the token is malformed")?;
        if header.alg != "RS256" {
            return Err("the token is not signed by RS256");
        }
        let keys = self.keys.get_or_try_init(|| self.fetch()).await?;
        let key = header.kid.and_then(|kid| keys.get(&kid)).ok_or("the token's key is unknown")?;
        let key = RsaPublicKeyComponents { n: &key.n, e: &key.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, message.as_bytes(), &signature)
            .map_err(|_| "the token's signature is wrong")?;
        Ok(claims)
    }

    /// The issuer's keys, by discovery.
    async fn fetch(&self) -> Result<HashMap<String, Key>, &'static str> {
        const AWAY: &str = "the issuer's keys could not be read";

        let issuer = &self.configuration.issuer;
        let discovery: Discovery = self.get(&format!("{issuer}/.well-known/openid-configuration")).await.ok_or(AWAY)?;
        if discovery.issuer != *issuer {
            return Err("the issuer's discovery is that of another");
        }
        let jwks: Jwks = self.get(&discovery.jwks_uri).await.ok_or(AWAY)?;
        let key = |jwk: Jwk| {
            let number = |text: Option<String>| BASE64_URL_SAFE_NO_PAD.decode(text?).ok();
            let is_rsa = jwk.kty == "RSA";
            is_rsa.then_some(())?;
            Some((jwk.kid?, Key { n: number(jwk.n)?, e: number(jwk.e)? }))
        };
        Ok(jwks.keys.into_iter().filter_map(key).collect())
    }

    async fn get<T: DeserializeOwned>(&self, url: &str) -> Option<T> {
        let answer = self.http.get(url).send().await.ok()?.error_for_status().ok()?;
        let body = answer.bytes().await.ok().filter(|body| body.len() <= LONGEST_JWKS)?;
        serde_json::from_slice(&body).ok()
    }

    /// Whether the claims are those of a token for us, and are so at this time.
    fn check(&self, claims: &Map<String, Value>, now: f64) -> Result<(), &'static str> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.configuration.issuer.as_str()) {
            return Err("the token does not have a valid issuer");
        }
        let is_ours = |audience: &Value| {
            let ours = |name: &Value| {
                name.as_str().is_some_and(|name| self.configuration.audience.iter().any(|own| own == name))
            };
            audience.as_array().map_or_else(|| ours(audience), |several| several.iter().any(ours))
        };
        // A token of Cognito has no audience but a client.
        if !claims.get("aud").or(claims.get("client_id")).is_some_and(is_ours) {
            return Err("the token does not have a valid audience");
        }
        let time = |name: &str| claims.get(name).map(|time| time.as_f64().ok_or("a time of the token is none"));
        if time("exp").transpose()?.is_none_or(|ends| ends <= now) {
            return Err("the token has expired");
        }
        if time("nbf").transpose()?.is_some_and(|begins| begins > now) {
            return Err("the token is not valid yet");
        }
        if time("iat").transpose()?.is_some_and(|issued| issued > now) {
            return Err("the token is issued in the future");
        }
        Ok(())
    }
}

/// A part of a token.
fn part<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()
}

/// The scopes that a token grants, by its `scope` or `scp`.
fn granted(claims: &Map<String, Value>) -> Vec<String> {
    let words = |claim: &Value| -> Vec<String> {
        match claim.as_array() {
            Some(list) => list.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            None => claim.as_str().unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
        }
    };
    ["scope", "scp"].iter().filter_map(|name| claims.get(*name)).flat_map(words).collect()
}

/// A claim as a function gets it, always a text: a list is its items in brackets, with blanks between them.
fn as_text(claim: &Value) -> String {
    match claim {
        Value::String(text) => text.clone(),
        Value::Array(list) => format!("[{}]", list.iter().map(as_text).collect::<Vec<_>>().join(" ")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => claim.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::issuer::{AUDIENCE, Issuer, KEY_ID, Token, signed};

    struct World {
        issuer: Issuer,
        authorizer: JwtAuthorizer,
    }

    async fn world() -> World {
        let issuer = Issuer::start_on(0).await.unwrap();
        let configuration =
            JwtConfiguration { issuer: issuer.url(), audience: vec!["another".to_owned(), AUDIENCE.to_owned()] };
        World { issuer, authorizer: JwtAuthorizer::new(configuration) }
    }

    impl World {
        /// The claims of a sound token, but for what a test changes in them; a null takes one away.
        fn claims(&self, changes: Value) -> Value {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
            let mut claims = json!({
                "iss": self.issuer.url(), "aud": AUDIENCE, "sub": "usr_1", "scope": "tickets:read tickets:buy",
                "iat": now, "nbf": now, "exp": now + 60,
            });
            for (name, value) in changes.as_object().unwrap() {
                claims[name] = value.clone();
            }
            claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            claims
        }

        fn token(&self, changes: Value) -> String {
            let header = json!({"alg": "RS256", "kid": KEY_ID});
            signed(&header, &self.claims(changes)).unwrap()
        }

        async fn authorize(&self, token: &str, scopes: &[&str]) -> Result<Value, Refusal> {
            let scopes: Vec<String> = scopes.iter().map(|scope| (*scope).to_owned()).collect();
            self.authorizer.authorize(Some(token), &scopes).await
        }

        async fn check(&self, changes: Value, expected: Result<(), &'static str>) {
            let result = self.authorize(&self.token(changes.clone()), &[]).await;
            assert_eq!(result.map(drop), expected.map_err(Refusal::Unauthorized), "{changes}");
        }
    }

    #[tokio::test]
    async fn a_token_of_the_issuer_is_accepted_and_its_claims_are_texts() {
        let world = world().await;
        let token = world.token(json!({"groups": ["a", "b"], "vip": true, "level": 3, "exp": 4_000_000_000_u64}));
        let authorizer = world.authorize(&token, &[]).await.unwrap();
        let claims = &authorizer["jwt"]["claims"];
        assert_eq!(
            ["sub", "groups", "vip", "level", "exp"].map(|name| claims[name].clone()),
            ["usr_1", "[a b]", "true", "3", "4000000000"]
        );
        assert_eq!(authorizer["jwt"]["scopes"], json!(["tickets:read", "tickets:buy"]));
        let without = world.token(json!({"scope": null}));
        assert_eq!(world.authorize(&without, &[]).await.unwrap()["jwt"]["scopes"], Value::Null);
    }

    #[tokio::test]
    async fn the_scheme_before_a_token_may_be_left_out() {
        let world = world().await;
        let token = world.issuer.token("usr_1", "", Duration::from_secs(60)).unwrap();
        for header in [token.clone(), format!("Bearer {token}"), format!("bearer  {token}")] {
            assert!(world.authorize(&header, &[]).await.is_ok(), "{header}");
        }
        assert!(world.authorize(&format!("Basic {token}"), &[]).await.is_err());
    }

    #[tokio::test]
    async fn without_a_token_nobody_is_let_through() {
        let world = world().await;
        assert_eq!(world.authorizer.authorize(None, &[]).await, Err(Refusal::Unauthorized("")));
        for token in ["", "Bearer ", "a", "a.b", "a.b.c", "a.b.c.d", "é", "Bearer é", "..", "Bearer ....."] {
            assert_eq!(
                world.authorize(token, &[]).await,
                Err(Refusal::Unauthorized("the token is malformed")),
                "{token}"
            );
        }
    }

    #[tokio::test]
    async fn one_of_the_routes_scopes_is_enough_and_none_is_not() {
        let world = world().await;
        let buyer = world.token(json!({}));
        assert!(world.authorize(&buyer, &["x", "tickets:buy"]).await.is_ok());
        assert_eq!(world.authorize(&buyer, &["tickets"]).await, Err(Refusal::Forbidden));
        for scopes in [json!({"scope": null}), json!({"scope": ""}), json!({"scope": 1})] {
            assert_eq!(world.authorize(&world.token(scopes), &["tickets:buy"]).await, Err(Refusal::Forbidden));
        }
        for scopes in [json!({"scope": null, "scp": ["tickets:buy"]}), json!({"scope": null, "scp": "a tickets:buy"})] {
            assert!(world.authorize(&world.token(scopes), &["tickets:buy"]).await.is_ok());
        }
    }

    #[tokio::test]
    async fn a_token_of_another_issuer_or_for_another_audience_is_refused() {
        let world = world().await;
        for issuer in [json!("http://127.0.0.1:1"), json!(format!("{}/", world.issuer.url())), json!(null), json!(1)] {
            world.check(json!({"iss": issuer}), Err("the token does not have a valid issuer")).await;
        }
        let refused = Err("the token does not have a valid audience");
        for audience in [json!("somebody"), json!([]), json!(["a", "b"]), json!(1), json!(null), json!(AUDIENCE[1..])] {
            world.check(json!({"aud": audience}), refused).await;
        }
        world.check(json!({"aud": ["somebody", AUDIENCE]}), Ok(())).await;
        world.check(json!({"aud": null, "client_id": AUDIENCE}), Ok(())).await;
        world.check(json!({"aud": "somebody", "client_id": AUDIENCE}), refused).await;
    }

    #[tokio::test]
    async fn a_token_counts_only_in_its_time() {
        let world = world().await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        for expired in [json!(now - 1), json!(0), json!(-1), json!(null)] {
            world.check(json!({"exp": expired}), Err("the token has expired")).await;
        }
        world.check(json!({"nbf": now + 60}), Err("the token is not valid yet")).await;
        world.check(json!({"iat": now + 60}), Err("the token is issued in the future")).await;
        world.check(json!({"nbf": null, "iat": null}), Ok(())).await;
        for name in ["exp", "nbf", "iat"] {
            world.check(json!({name: "soon"}), Err("a time of the token is none")).await;
        }
    }

    #[tokio::test]
    async fn only_what_the_issuers_key_has_signed_counts() {
        let world = world().await;
        let claims = world.claims(json!({}));
        let of = |header: Value| signed(&header, &claims).unwrap();
        let unknown = Err(Refusal::Unauthorized("the token's key is unknown"));
        assert_eq!(world.authorize(&of(json!({"alg": "RS256", "kid": "another"})), &[]).await, unknown);
        assert_eq!(world.authorize(&of(json!({"alg": "RS256"})), &[]).await, unknown);
        for alg in ["none", "HS256", "ES256", "rs256", "RS512"] {
            let refused = Err(Refusal::Unauthorized("the token is not signed by RS256"));
            assert_eq!(world.authorize(&of(json!({"alg": alg, "kid": KEY_ID})), &[]).await, refused, "{alg}");
        }
        let (token, other) = (world.token(json!({})), world.token(json!({"sub": "usr_2"})));
        let (message, signature) = token.rsplit_once('.').unwrap();
        let (other_message, _) = other.rsplit_once('.').unwrap();
        let wrong = Err(Refusal::Unauthorized("the token's signature is wrong"));
        assert_eq!(world.authorize(&format!("{other_message}.{signature}"), &[]).await, wrong);
        assert_eq!(world.authorize(&format!("{message}."), &[]).await, wrong);
    }

    #[tokio::test]
    async fn the_keys_are_those_of_the_issuers_discovery_and_are_asked_for_once() {
        let World { issuer, authorizer } = world().await;
        let token = issuer.token("usr_1", "", Duration::from_secs(60)).unwrap();
        assert!(authorizer.authorize(Some(&token), &[]).await.is_ok());
        let url = issuer.url();
        drop(issuer);
        tokio::task::yield_now().await;
        assert!(authorizer.authorize(Some(&token), &[]).await.is_ok(), "they are kept");
        let fresh = JwtAuthorizer::new(JwtConfiguration { issuer: url, audience: vec![AUDIENCE.to_owned()] });
        let away = Err(Refusal::Unauthorized("the issuer's keys could not be read"));
        assert_eq!(fresh.authorize(Some(&token), &[]).await, away);
    }

    #[tokio::test]
    async fn an_issuer_under_another_name_than_its_own_is_none() {
        let issuer = Issuer::start_on(0).await.unwrap();
        let alias = issuer.url().replace("127.0.0.1", "localhost");
        let token = Token { issuer: &alias, audience: AUDIENCE, sub: "usr_1", scope: "", lifetime: PATIENCE }.signed();
        let authorizer = JwtAuthorizer::new(JwtConfiguration { issuer: alias, audience: vec![AUDIENCE.to_owned()] });
        let refused = authorizer.authorize(Some(&token.unwrap()), &[]).await.unwrap_err();
        assert_eq!(refused, Refusal::Unauthorized("the issuer's discovery is that of another"));
    }
}
