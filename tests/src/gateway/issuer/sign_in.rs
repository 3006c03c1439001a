//! Signing in at the local issuer, as a page in a browser does it: by an authorization code with PKCE (RFC 6749, RFC 7636), and
//! with a refresh token that is good once.
//!
//! | rule | answer when it is broken |
//! | --- | --- |
//! | `/authorize` is asked by the one client, and leads back to an address that it has named before | 400, and no way back |
//! | it is asked for a code, with a challenge by S256 | back with `error=invalid_request` |
//! | a code is used once, within a minute, by who has its verifier and names the same address | 400 `invalid_grant` |
//! | a refresh token is used once | 400 `invalid_grant` |
//!
//! Nobody has a password here: whoever signs in says who he is. The issuer sets no cookie, so each sign-in asks anew.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use url::{Url, form_urlencoded};
use uuid::Uuid;

use super::{AUDIENCE, Token};

/// A code is good for so long.
const CODE_LIFETIME: Duration = Duration::from_secs(60);

/// An access token, unless a test says otherwise.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3_600);

/// What a person sees who is asked who he is. A form without an action goes to the address that it came from.
const FORM: &str = include_str!("sign-in.html");

/// Who may sign in where, and what was given out.
#[derive(Clone, Debug)]
pub(super) struct SignIn(Arc<Desk>);

#[derive(Debug)]
struct Desk {
    issuer: String,
    state: Mutex<Book>,
}

#[derive(Debug)]
struct Book {
    ways_back: Vec<Url>,
    lifetime: Duration,
    codes: BTreeMap<String, Code>,
    refresh_tokens: BTreeMap<String, Grant>,
}

/// What an access token is made of.
#[derive(Clone, Debug)]
struct Grant {
    sub: String,
    scope: String,
}

#[derive(Debug)]
struct Code {
    grant: Grant,
    way_back: Url,
    challenge: String,
    until: Instant,
}

/// A sound request for a code.
struct Asked {
    way_back: Url,
    state: Option<String>,
    scope: String,
    challenge: String,
}

impl SignIn {
    /// A desk of the issuer at this URL.
    pub(super) fn of(issuer: &str) -> Self {
        let book = Book {
            ways_back: Vec::new(),
            lifetime: TOKEN_LIFETIME,
            codes: BTreeMap::new(),
            refresh_tokens: BTreeMap::new(),
        };
        Self(Arc::new(Desk { issuer: issuer.to_owned(), state: Mutex::new(book) }))
    }

    /// Registers an address that the client may be led back to.
    pub(super) fn lead_back_to(&self, url: Url) {
        self.book().ways_back.push(url);
    }

    /// How long the access tokens from now on are good.
    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        self.book().lifetime = lifetime;
    }

    pub(super) fn routes(self) -> Router {
        Router::new().route("/authorize", get(ask).post(answer)).route("/token", post(exchange)).with_state(self)
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The request that this query makes, or else what its caller is told.
    fn asked(&self, query: &str) -> Result<Asked, Box<Response>> {
        let fields = fields(query.as_bytes());
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        let way_back = field("redirect_uri").parse().ok().filter(|url| self.book().ways_back.contains(url));
        // Who leads to an unknown address would hand the code to anybody.
        let Some(way_back) = way_back.filter(|_| field("client_id") == AUDIENCE) else {
            let what = "client_id or redirect_uri is not known here";
            return Err(Box::new((StatusCode::BAD_REQUEST, what).into_response()));
        };
        let (state, challenge) = (fields.get("state").cloned(), field("code_challenge").to_owned());
        let is_sound = field("response_type") == "code"
            && field("code_challenge_method") == "S256"
            && BASE64_URL_SAFE_NO_PAD.decode(&challenge).is_ok_and(|hash| hash.len() == digest::SHA256_OUTPUT_LEN);
        if !is_sound {
            return Err(Box::new(back(way_back, state, "error", "invalid_request")));
        }
        Ok(Asked { way_back, state, scope: field("scope").to_owned(), challenge })
    }

    /// Tokens for what the fields of a form hold, if anything.
    fn tokens(&self, fields: &BTreeMap<String, String>) -> Option<Value> {
        let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
        if field("client_id") != AUDIENCE {
            return None;
        }
        let mut book = self.book();
        let grant = match field("grant_type") {
            "authorization_code" => {
                let code = book.codes.remove(field("code"))?;
                let way_back: Url = field("redirect_uri").parse().ok()?;
                let verifier = digest::digest(&digest::SHA256, field("code_verifier").as_bytes());
                let is_its_own = BASE64_URL_SAFE_NO_PAD.encode(verifier) == code.challenge;
                (is_its_own && way_back == code.way_back && Instant::now() < code.until).then_some(code.grant)?
            }
            "refresh_token" => book.refresh_tokens.remove(field("refresh_token"))?,
            _ => return None,
        };
        let lifetime = book.lifetime;
        let token =
            Token { issuer: &self.0.issuer, audience: AUDIENCE, sub: &grant.sub, scope: &grant.scope, lifetime };
        let access_token = token.signed().ok()?;
        let refresh_token = random();
        book.refresh_tokens.insert(refresh_token.clone(), grant.clone());
        Some(json!({
            "access_token": access_token,
            "token_type": "Bearer",
            "expires_in": lifetime.as_secs(),
            "refresh_token": refresh_token,
            "scope": grant.scope,
        }))
    }
}

async fn ask(State(desk): State<SignIn>, RawQuery(query): RawQuery) -> Response {
    match desk.asked(&query.unwrap_or_default()) {
        Ok(_sound) => Html(FORM).into_response(),
        Err(refusal) => *refusal,
    }
}

async fn answer(State(desk): State<SignIn>, RawQuery(query): RawQuery, form: String) -> Response {
    let Asked { way_back, state, scope, challenge } = match desk.asked(&query.unwrap_or_default()) {
        Ok(asked) => asked,
        Err(refusal) => return *refusal,
    };
    let sub = fields(form.as_bytes()).remove("user").filter(|user| !user.is_empty());
    let Some(sub) = sub else { return back(way_back, state, "error", "access_denied") };
    let (code, grant) = (random(), Grant { sub, scope });
    let until = Instant::now() + CODE_LIFETIME;
    desk.book().codes.insert(code.clone(), Code { grant, way_back: way_back.clone(), challenge, until });
    back(way_back, state, "code", &code)
}

/// A page of another origin reads the answer, which is worth nothing to who has no code.
async fn exchange(State(desk): State<SignIn>, form: String) -> Response {
    let answer = match desk.tokens(&fields(form.as_bytes())) {
        Some(tokens) => Json(tokens).into_response(),
        None => (StatusCode::BAD_REQUEST, Json(json!({"error": "invalid_grant"}))).into_response(),
    };
    ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (header::CACHE_CONTROL, "no-store")], answer).into_response()
}

/// Leads the browser back, with one thing to tell.
fn back(mut way_back: Url, state: Option<String>, name: &str, value: &str) -> Response {
    way_back.query_pairs_mut().append_pair(name, value).extend_pairs(state.map(|state| ("state", state)));
    (StatusCode::SEE_OTHER, [(header::LOCATION, String::from(way_back))]).into_response()
}

fn fields(form: &[u8]) -> BTreeMap<String, String> {
    form_urlencoded::parse(form).into_owned().collect()
}

fn random() -> String {
    Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    use reqwest::{Client, redirect::Policy};

    use super::{super::Issuer, *};

    const PAGE: &str = "http://127.0.0.1:1/page";
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    /// That of the verifier, as RFC 7636 has both.
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    struct Browser {
        issuer: Issuer,
        http: Client,
    }

    impl Browser {
        async fn open() -> Self {
            let issuer = Issuer::start_on(0).await.unwrap();
            issuer.lead_back_to(PAGE.parse().unwrap());
            Self { issuer, http: Client::builder().no_proxy().redirect(Policy::none()).build().unwrap() }
        }

        fn authorize(&self, changes: &[(&str, &str)]) -> Url {
            let mut fields = BTreeMap::from([
                ("client_id", AUDIENCE),
                ("redirect_uri", PAGE),
                ("response_type", "code"),
                ("code_challenge", CHALLENGE),
                ("code_challenge_method", "S256"),
                ("scope", "reserve"),
                ("state", "a b"),
            ]);
            fields.extend(changes.iter().copied());
            Url::parse_with_params(&format!("{}/authorize", self.issuer.url()), fields).unwrap()
        }

        /// The status, and where it leads.
        async fn sign_in(&self, user: &str, changes: &[(&str, &str)]) -> (u16, String) {
            let form: String = form_urlencoded::Serializer::new(String::new()).append_pair("user", user).finish();
            let answer = self.http.post(self.authorize(changes)).body(form).send().await.unwrap();
            let location = answer.headers().get("location").map(|url| url.to_str().unwrap().to_owned());
            (answer.status().as_u16(), location.unwrap_or_default())
        }

        async fn code(&self) -> String {
            let (_, location) = self.sign_in("usr_1", &[]).await;
            let url: Url = location.parse().unwrap();
            url.query_pairs().find(|(name, _)| name == "code").unwrap().1.into_owned()
        }

        async fn exchange(&self, fields: &[(&str, &str)]) -> (u16, Value) {
            let form: String = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            let answer = self.http.post(format!("{}/token", self.issuer.url())).body(form).send().await.unwrap();
            assert_eq!(answer.headers()["access-control-allow-origin"], "*");
            (answer.status().as_u16(), answer.json().await.unwrap())
        }

        async fn exchange_code(&self, code: &str, verifier: &str, way_back: &str) -> (u16, Value) {
            self.exchange(&[
                ("grant_type", "authorization_code"),
                ("client_id", AUDIENCE),
                ("code", code),
                ("code_verifier", verifier),
                ("redirect_uri", way_back),
            ])
            .await
        }
    }

    fn claims(token: &Value) -> Value {
        let part = token.as_str().unwrap().split('.').nth(1).unwrap();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn who_signs_in_gets_tokens_once_for_the_code_and_once_for_each_refresh_token() {
        let browser = Browser::open().await;
        let shown = browser.http.get(browser.authorize(&[])).send().await.unwrap();
        assert!(shown.text().await.unwrap().contains("name=\"user\""));
        let (status, location) = browser.sign_in("usr_1", &[]).await;
        assert!(status == 303 && location.starts_with(PAGE) && location.ends_with("&state=a+b"), "{location}");
        let code = browser.code().await;
        let (status, tokens) = browser.exchange_code(&code, VERIFIER, PAGE).await;
        assert_eq!((status, &tokens["token_type"], &tokens["expires_in"]), (200, &json!("Bearer"), &json!(3_600)));
        let said = claims(&tokens["access_token"]);
        assert_eq!(
            (&said["sub"], &said["scope"], &said["aud"]),
            (&json!("usr_1"), &json!("reserve"), &json!(AUDIENCE))
        );
        let again = browser.exchange_code(&code, VERIFIER, PAGE).await;
        assert_eq!(again, (400, json!({"error": "invalid_grant"})));
        let refresh = tokens["refresh_token"].as_str().unwrap();
        let fields = [("grant_type", "refresh_token"), ("client_id", AUDIENCE), ("refresh_token", refresh)];
        browser.issuer.let_tokens_last(Duration::from_secs(5));
        let (status, renewed) = browser.exchange(&fields).await;
        assert_eq!((status, &renewed["expires_in"]), (200, &json!(5)));
        assert_eq!(claims(&renewed["access_token"])["sub"], "usr_1");
        assert_eq!(browser.exchange(&fields).await.0, 400);
    }

    #[tokio::test]
    async fn a_code_is_worth_nothing_to_who_did_not_ask_for_it() {
        let browser = Browser::open().await;
        for (verifier, way_back) in [("another", PAGE), ("", PAGE), (VERIFIER, "http://127.0.0.1:1/other")] {
            let code = browser.code().await;
            assert_eq!(browser.exchange_code(&code, verifier, way_back).await.0, 400, "{verifier} {way_back}");
        }
        let code = browser.code().await;
        let fields = [("grant_type", "authorization_code"), ("code", &code), ("client_id", "another")];
        assert_eq!(browser.exchange(&fields).await.0, 400);
    }

    #[tokio::test]
    async fn a_broken_request_leads_back_only_where_the_client_is_known_to_live() {
        let browser = Browser::open().await;
        let strange = [("redirect_uri", "https://elsewhere.example/"), ("client_id", "another"), ("redirect_uri", "")];
        for change in strange {
            assert_eq!(browser.sign_in("usr_1", &[change]).await, (400, String::new()), "{change:?}");
        }
        let odd = [("response_type", "token"), ("code_challenge_method", "plain"), ("code_challenge", "short")];
        for change in odd {
            let (status, location) = browser.sign_in("usr_1", &[change]).await;
            assert_eq!((status, location), (303, format!("{PAGE}?error=invalid_request&state=a+b")), "{change:?}");
        }
        let (status, location) = browser.sign_in("", &[]).await;
        assert_eq!((status, location), (303, format!("{PAGE}?error=access_denied&state=a+b")));
    }
}
