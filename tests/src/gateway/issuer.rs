//! The issuer of the local stack: who signs tokens for its users, with discovery and keys as OpenID Connect has them, and lets
//! them sign in by a browser.

mod sign_in;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    error::{KeyRejected, Unspecified},
    rand::SystemRandom,
    signature::{RSA_PKCS1_SHA256, RsaKeyPair},
};
use axum::{Json, Router, http::header, routing::get};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::{
    PrivatePkcs8KeyDer,
    pem::{self, PemObject},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use url::Url;
use uuid::Uuid;

use self::sign_in::SignIn;

/// Who the tokens of the local stack are for.
pub const AUDIENCE: &str = "holdfast-local";

/// The key, the same in every stack: whoever checks tokens keeps an issuer's keys, MiniStack for two hours.
const KEY: &[u8] = include_bytes!("test-key.pem");

/// The public half of the key, as the issuer shows it.
const JWKS: &str = include_str!("jwks.json");

/// The name of the key in [`JWKS`].
pub(super) const KEY_ID: &str = "holdfast-local-1";

/// What a token says.
#[derive(Clone, Debug)]
pub struct Token<'a> {
    /// The issuer's URL.
    pub issuer: &'a str,
    /// Who may take it.
    pub audience: &'a str,
    /// Who it is about.
    pub sub: &'a str,
    /// What it allows: scopes with blanks between them.
    pub scope: &'a str,
    /// How long it is valid from now on.
    pub lifetime: Duration,
}

/// Why there is no token. Only a broken key leads to it.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file of the key is broken.
    #[error("the key of the local issuer can't be read: {0}")]
    File(#[from] pem::Error),
    /// The key is none.
    #[error("the key of the local issuer is no RSA key: {0}")]
    Key(#[from] KeyRejected),
    /// It was not to be.
    #[error("the token could not be signed")]
    Signature(#[from] Unspecified),
}

impl Token<'_> {
    /// The token, signed by the key of the local stack.
    ///
    /// # Errors
    /// When the key in the repository is broken.
    pub fn signed(&self) -> Result<String, SigningError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "sub": self.sub,
            "scope": self.scope,
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime.as_secs(),
            "jti": Uuid::new_v4().to_string(),
        });
        signed(&json!({"alg": "RS256", "typ": "JWT", "kid": KEY_ID}), &claims)
    }
}

/// A token of any header and claims.
pub(super) fn signed(header: &Value, claims: &Value) -> Result<String, SigningError> {
    let key = PrivatePkcs8KeyDer::from_pem_slice(KEY)?;
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der())?;
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let mut signature = vec![0; key.public_modulus_len()];
    let message = format!("{header}.{claims}");
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature)?;
    Ok(format!("{message}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// A running issuer; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Issuer {
    address: SocketAddr,
    sign_in: SignIn,
    _server: Arc<AbortOnDropHandle<()>>,
}

impl Issuer {
    /// Starts the issuer on a loopback port; 0 is any that is free. Its URL is in its tokens, so that they are only good where
    /// it has the same port.
    ///
    /// # Errors
    /// When the port can't be had.
    pub async fn start_on(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let url = format!("http://{address}");
        let discovery = json!({
            "issuer": url,
            "jwks_uri": format!("{url}/.well-known/jwks.json"),
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code", "refresh_token"],
            "code_challenge_methods_supported": ["S256"],
            "token_endpoint_auth_methods_supported": ["none"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        });
        let sign_in = SignIn::of(&url);
        // Pages of any origin read it.
        let discovery = async move || ([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")], Json(discovery));
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/.well-known/jwks.json", get(async || ([(header::CONTENT_TYPE, "application/json")], JWKS)))
            .merge(sign_in.clone().routes());
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { address, sign_in, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// Registers an address that a browser may be led back to from signing in, such as that of a page.
    pub fn lead_back_to(&self, url: Url) {
        self.sign_in.lead_back_to(url);
    }

    /// How long the tokens are good that who signs in gets from now on: an hour, where nobody says.
    pub fn let_tokens_last(&self, lifetime: Duration) {
        self.sign_in.set_lifetime(lifetime);
    }

    /// The issuer as its tokens name it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A token of a user.
    ///
    /// # Errors
    /// When the key in the repository is broken.
    pub fn token(&self, sub: &str, scope: &str, lifetime: Duration) -> Result<String, SigningError> {
        Token { issuer: &self.url(), audience: AUDIENCE, sub, scope, lifetime }.signed()
    }
}
