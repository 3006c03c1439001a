//! The authorities that the system trusts, read once for all clients, and only when one of them speaks TLS: reading them
//! takes longer than the rest of a start.

use std::sync::{Arc, LazyLock};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use tracing::warn;

/// The system's authorities, or those of the file that `SSL_CERT_FILE` names.
pub fn authorities() -> &'static RootCertStore {
    static AUTHORITIES: LazyLock<RootCertStore> = LazyLock::new(|| {
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            warn!(error = %error, "certificates of the system could not be read");
        }
        let mut authorities = RootCertStore::empty();
        let (usable, _) = authorities.add_parsable_certificates(found.certs);
        if usable == 0 {
            warn!("the system names no authority, so that no TLS connection will be made; set SSL_CERT_FILE");
        }
        authorities
    });
    &AUTHORITIES
}

/// A client's side of TLS to a server that one of [`authorities`] vouches for. All of them share what shortens the next
/// handshake with a server.
///
/// # Errors
/// When the cryptography knows no version of TLS, which is a fault of the build.
pub fn client() -> Result<ClientConfig, rustls::Error> {
    static CLIENT: LazyLock<Result<ClientConfig, rustls::Error>> = LazyLock::new(|| {
        let versions = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?;
        Ok(versions.with_root_certificates(authorities().clone()).with_no_client_auth())
    });
    CLIENT.clone()
}
