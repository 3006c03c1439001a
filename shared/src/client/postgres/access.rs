//! Who we are to the database: a password, which may be replaced in the secret while environments are warm, or a token that is
//! signed with the credentials of the function's role (IAM database authentication).

use std::{
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use percent_encoding::utf8_percent_encode;

use super::fault::Error;
use crate::{
    client::http::ESCAPED,
    config::{
        Secret,
        secret::{Lookups, SecretStore},
    },
    failure::chain,
    start::Parts,
};

/// The field of the secret, by the name that RDS gives it.
const PASSWORD_FIELD: &str = "password";

/// How long a token can be used. It is looked at when a connection is made, and never again.
const TOKEN_LASTS: Duration = Duration::from_secs(15 * 60);

/// A user of the database, and what shows that we are him.
#[derive(Debug)]
pub(super) struct Access {
    user: String,
    proof: Proof,
}

enum Proof {
    Password { known: Mutex<Known>, store: Option<SecretStore> },
    Token(Signer),
}

struct Known {
    password: Secret,
    lookups: Lookups,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Password { .. } => "a password",
            Self::Token(_) => "a token",
        })
    }
}

impl Access {
    /// `DB_USER`, and by `DB_AUTH` either `DB_PASSWORD` or the credentials of the role. Nothing: what is wrong is noted.
    pub(super) fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let user = parts.reader.required_or_secret("DB_USER", "username");
        let proof = match parts.reader.optional("DB_AUTH").as_deref() {
            None | Some("password") => {
                let is_variable = parts.reader.optional("DB_PASSWORD").is_some();
                let password = parts.reader.required_or_secret("DB_PASSWORD", PASSWORD_FIELD);
                let store = parts.reader.secret_store().filter(|_| !is_variable);
                password.map(|password| Proof::Password {
                    known: Mutex::new(Known { password: Secret::new(password), lookups: Lookups::default() }),
                    store,
                })
            }
            Some("iam") => {
                let signer = Signer::of(parts.aws);
                if signer.is_none() {
                    parts.reader.fault("DB_AUTH", "is iam, and there is no region or are no credentials to sign with");
                }
                signer.map(Proof::Token)
            }
            Some(other) => {
                parts.reader.fault("DB_AUTH", format!("must be password or iam, not {other:?}"));
                None
            }
        };
        Some(Self { user: user?, proof: proof? })
    }

    pub(super) fn user(&self) -> &str {
        &self.user
    }

    /// What shows the server at `host` and `port` who we are.
    pub(super) async fn password(&self, host: &str, port: u16) -> Result<Secret, Error> {
        match &self.proof {
            Proof::Password { known, .. } => Ok(locked(known).password.clone()),
            Proof::Token(signer) => {
                signer.token(host, port, &self.user, SystemTime::now()).await.map_err(Error::NoAccess)
            }
        }
    }

    /// Looks for another password after one was refused. `true`: there is another, so that a further try makes sense. A token
    /// is another each time, so that what refuses it is no matter of its age.
    pub(super) async fn renew(&self) -> bool {
        let Proof::Password { known, store: Some(store) } = &self.proof else { return false };
        if !locked(known).lookups.is_due(SystemTime::now()) {
            return false;
        }
        let found = store.read().await.and_then(|secret| secret.get(PASSWORD_FIELD)).ok().flatten().map(Secret::new);
        let mut known = locked(known);
        match found {
            Some(found) if found != known.password => {
                known.password = found;
                true
            }
            Some(_) | None => false,
        }
    }
}

fn locked(known: &Mutex<Known>) -> std::sync::MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Signs tokens with the credentials of the function's role.
struct Signer {
    credentials: SharedCredentialsProvider,
    region: Region,
}

impl Signer {
    fn of(aws: &SdkConfig) -> Option<Self> {
        Some(Self { credentials: aws.credentials_provider()?, region: aws.region()?.clone() })
    }

    /// The presigned URL of a connection, without its scheme: that is what RDS takes for a password.
    async fn token(&self, host: &str, port: u16, user: &str, now: SystemTime) -> Result<Secret, String> {
        let told = |error: &dyn std::error::Error| chain(error);
        let identity = self.credentials.provide_credentials().await.map_err(|error| told(&error))?.into();
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(TOKEN_LASTS);
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region.as_ref())
            .name("rds-db")
            .time(now)
            .settings(settings)
            .build()
            .map_err(|error| told(&error))?
            .into();
        let encoded = |text: &str| utf8_percent_encode(text, ESCAPED).to_string();
        let mut url = format!("https://{host}:{port}/?Action=connect&DBUser={}", encoded(user));
        let signable = SignableRequest::new("GET", url.as_str(), std::iter::empty(), SignableBody::Bytes(&[]));
        let signed = sign(signable.map_err(|error| told(&error))?, &parameters).map_err(|error| told(&error))?;
        let (instructions, _signature) = signed.into_parts();
        for (name, value) in instructions.params() {
            url.extend(["&", name, "=", &encoded(value)]);
        }
        Ok(Secret::new(url.trim_start_matches("https://")))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, time::UNIX_EPOCH};

    use aws_config::BehaviorVersion;
    use aws_credential_types::Credentials;

    use super::*;
    use crate::config::Reader;

    /// What botocore 1.43.106 makes of the same by `generate_db_auth_token`, but for the order of its parts.
    const OF_BOTOCORE: &str = "db.example:5432/?Action=connect&DBUser=holdfast_app&X-Amz-Algorithm=AWS4-HMAC-SHA256\
&X-Amz-Credential=AKIDEXAMPLE%2F20260101%2Feu-west-1%2Frds-db%2Faws4_request&X-Amz-Date=20260101T000000Z\
&X-Amz-Expires=900&X-Amz-SignedHeaders=host&X-Amz-Security-Token=session%2F%2B%3D\
&X-Amz-Signature=86a63f5fbac76741f327a958fd3d89035ddfb4b26014ff1c55496b3808d4c3b6";

    #[tokio::test]
    async fn a_token_is_what_other_sdks_sign() {
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", Some("session/+=".to_owned()), None, "test");
        let signer = Signer {
            credentials: SharedCredentialsProvider::new(credentials),
            region: Region::from_static("eu-west-1"),
        };
        let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let token = signer.token("db.example", 5432, "holdfast_app", now).await.unwrap();
        let parts = |token: &str| {
            let (host, query) = token.split_once('?').unwrap();
            let mut parts: Vec<String> = query.split('&').map(str::to_owned).collect();
            parts.sort();
            (host.to_owned(), parts)
        };
        assert_eq!(parts(token.expose()), parts(OF_BOTOCORE));
    }

    #[test]
    fn a_token_that_nobody_could_sign_stops_the_start() {
        let variables = [("DB_USER", "holdfast_app"), ("DB_AUTH", "iam")];
        let environment: BTreeMap<String, String> =
            variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let nobody = SdkConfig::builder().behavior_version(BehaviorVersion::latest()).build();
        let mut parts = Parts::new("test", Reader::new(&environment), &nobody);
        let access = Access::configured(&mut parts);
        let error = parts.reader.finish(access).unwrap_err().to_string();
        assert!(
            error.ends_with("DB_AUTH is iam, and there is no region or are no credentials to sign with"),
            "{error}"
        );
    }
}
