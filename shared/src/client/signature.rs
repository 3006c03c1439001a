//! The signature by which API Gateway knows which role is calling (AWS Signature Version 4, service `execute-api`).

use std::time::SystemTime;

use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;

use crate::failure::chain;

/// Signs requests with the credentials of the function's role.
#[derive(Debug, Clone)]
pub struct Signer {
    credentials: SharedCredentialsProvider,
    region: Region,
}

impl Signer {
    /// By the credentials and the region of this configuration; nothing where it has none.
    pub fn of(aws: &SdkConfig) -> Option<Self> {
        Some(Self { credentials: aws.credentials_provider()?, region: aws.region()?.clone() })
    }

    /// Signs a request, whose body is `body`, as it goes out at `now`.
    pub(super) async fn sign(
        &self,
        request: &mut Request<Full<Bytes>>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), String> {
        let credentials = self.credentials.provide_credentials().await;
        let identity = credentials.map_err(|error| format!("no credentials to sign with: {}", chain(&error)))?.into();
        let unsigned = |error: &dyn std::error::Error| format!("the request can't be signed: {}", chain(error));
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(self.region.as_ref())
            .name("execute-api")
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(&error))?
            .into();
        let headers = request.headers().iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?)));
        let signable = SignableRequest::new(
            request.method().as_str(),
            request.uri().to_string(),
            headers,
            SignableBody::Bytes(body),
        );
        let signable = signable.map_err(|error| unsigned(&error))?;
        let (instructions, _signature) = sign(signable, &parameters).map_err(|error| unsigned(&error))?.into_parts();
        instructions.apply_to_request_http1x(request);
        Ok(())
    }
}
