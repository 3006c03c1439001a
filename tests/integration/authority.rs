//! An authority that only a test knows, and servers that it vouches for.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_rustls::TlsAcceptor;
use uuid::Uuid;

/// An authority for certificates, each valid for one name.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, both PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Authorities of one name are told apart by their signatures only, and the error would then name those.
        params.distinguished_name.push(DnType::CommonName, Uuid::new_v4().to_string());
        let key = KeyPair::generate().expect("a key is made");
        Self(CertifiedIssuer::self_signed(params, key).expect("the authority signs itself"))
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    pub(crate) fn issue(&self, name: &str) -> Issued {
        let params = CertificateParams::new([name.to_owned()]).expect("the name is one of DNS");
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params.signed_by(&key, &self.0).expect("the authority signs").pem();
        Issued { certificate, key: key.serialize_pem() }
    }
}

impl Issued {
    /// What takes TLS off for a server that has this certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("the certificate is PEM");
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("the key is PEM");
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|versions| versions.with_no_client_auth().with_single_cert(vec![chain], key))
            .expect("the pair is usable");
        TlsAcceptor::from(Arc::new(config))
    }
}
