//! The page on which people wait: one file, in which the sign-in is filled in once, and a policy that lets a browser run and
//! ask nothing else.

use std::future::ready;

use axum::{
    Router,
    http::{HeaderName, HeaderValue, header},
    middleware,
    response::{Html, Response},
    routing::get,
};
use data_encoding::BASE64;
use serde::Serialize;
use sha2::{Digest, Sha256};
use shared::{config::Reader, trigger::http::Route, waiting_room::ticket::PushUrl};
use url::Url;

/// The request, as it is counted.
pub(crate) const ROUTE: &str = "GET /waiting-room";

const PAGE: &str = include_str!("page.html");

/// Where the sign-in is filled in.
const PLACE: &str = r#"<script type="application/json" id="configuration">{}</script>"#;

/// So long a browser, or what stands between, need not ask for it again: a new one is seen a minute after it is deployed.
const CACHE: &str = "public, max-age=60";

const ISSUER: &str = "LOGIN_ISSUER";
const CLIENT_ID: &str = "LOGIN_CLIENT_ID";
const SCOPE: &str = "LOGIN_SCOPE";
const TOKEN_URL: &str = "LOGIN_TOKEN_URL";

/// What is answered.
#[derive(Debug)]
pub(crate) struct Page {
    sign_in: SignIn,
    /// The origins that it asks beside its own.
    asked: Vec<String>,
}

/// How the page's customers sign in, in the words of its script.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct SignIn {
    issuer: String,
    client_id: String,
    scope: String,
}

impl Page {
    /// As the variables say: `LOGIN_ISSUER`, `LOGIN_CLIENT_ID`, `LOGIN_SCOPE`, and `LOGIN_TOKEN_URL` where tokens are given by
    /// another host than the issuer's. Without them nobody can sign in, and the page says so. What is wrong is noted.
    pub(crate) fn configured(reader: &mut Reader<'_>) -> Self {
        let Some(issuer) = reader.optional(ISSUER) else {
            for name in [CLIENT_ID, SCOPE, TOKEN_URL] {
                if reader.optional(name).is_some() {
                    reader.fault(name, format!("says nothing without {ISSUER}"));
                }
            }
            return Self { sign_in: SignIn::default(), asked: Vec::new() };
        };
        let client_id = reader.required(CLIENT_ID);
        let scope = reader.optional(SCOPE).unwrap_or_default();
        let asked = [(ISSUER, Some(issuer.clone())), (TOKEN_URL, reader.optional(TOKEN_URL))];
        let asked = asked.into_iter().filter_map(|(name, url)| Some((name, url?)));
        let asked = asked.filter_map(|(name, url)| origin(reader, name, &url)).collect();
        Self { sign_in: SignIn { issuer, client_id, scope }, asked }
    }

    /// The same page, which hears at once from here, if from anywhere.
    pub(crate) fn hearing(mut self, pushes: Option<&PushUrl>) -> Self {
        self.asked.extend(pushes.map(PushUrl::origin));
        self
    }

    /// The page with its sign-in filled in, and the policy that goes with it.
    fn filled(&self) -> (String, String) {
        // Serializing three texts can't fail, and no text ends the script: `<` is written by its number.
        let filled = serde_json::to_string(&self.sign_in).unwrap_or_default().replace('<', "\\u003c");
        let html = PAGE.replacen(PLACE, &PLACE.replace("{}", &filled), 1);
        let [script, style] = [("<script>", "</script>"), ("<style>", "</style>")].map(|(start, end)| hash(start, end));
        let asked: String = self.asked.iter().map(|origin| format!(" {origin}")).collect();
        let policy = format!(
            "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'{asked}; img-src data:; \
             base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
             trusted-types 'none'"
        );
        (html, policy)
    }

    /// The page behind its path.
    pub(crate) fn router(&self) -> Router {
        let (html, policy) = self.filled();
        let headers = [
            (header::CACHE_CONTROL, CACHE.to_owned()),
            (header::CONTENT_SECURITY_POLICY, policy),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
            (header::REFERRER_POLICY, "no-referrer".to_owned()),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin".to_owned()),
        ];
        let noted = middleware::map_response(move |mut response: Response| {
            let headers = headers.clone().into_iter();
            let headers = headers.filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?)));
            response.headers_mut().extend(headers);
            response.extensions_mut().insert(Route(ROUTE));
            ready(response)
        });
        let path = ROUTE.split_once(' ').map_or("", |(_, path)| path);
        Router::new().route(path, get(async move || Html(html)).route_layer(noted))
    }
}

/// The origin of a URL that the page asks, as a policy names it. Nothing: what is wrong is noted.
fn origin(reader: &mut Reader<'_>, name: &str, url: &str) -> Option<String> {
    let Some(url) = url.parse::<Url>().ok().filter(|url| url.has_host()) else {
        reader.fault(name, "must be a URL such as https://login.example.com");
        return None;
    };
    let is_local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    if url.scheme() != "https" && !(url.scheme() == "http" && is_local) {
        reader.fault(name, "must begin with https://, or be of this machine");
        return None;
    }
    Some(url.origin().ascii_serialization())
}

/// What stands between these two in the page, as a policy names it.
fn hash(start: &str, end: &str) -> String {
    let code = PAGE.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(code, _)| code);
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(code)))
}
