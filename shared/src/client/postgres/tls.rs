//! TLS to PostgreSQL, on the stack that everything else here speaks TLS by.

use std::{
    fmt, io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_postgres::tls::{ChannelBinding, TlsConnect};
use tokio_rustls::client;

use super::fault::Error;
use crate::{client::tls, failure::quoted, start::Parts};

const CA: &str = "DB_CA_PEM";

/// Whether the database is spoken to in TLS, and whom it must be vouched for by.
#[derive(Debug)]
pub(super) enum Encryption {
    /// No, because it is on this machine.
    None,
    /// Yes.
    Tls(Authorities),
}

/// Who may vouch for the database.
pub(super) enum Authorities {
    /// Those of the system.
    System,
    /// Those of a PEM text.
    Pem(String),
    /// Those of a file. It is read when a connection is made, because reading hundreds of certificates takes time.
    File(String),
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::System => "the system's",
            Self::Pem(_) => "those of a text",
            Self::File(_) => "those of a file",
        })
    }
}

impl Encryption {
    /// `DB_TLS`, which is `require` unless the database is on this machine, and `DB_CA_PEM`: a PEM text or the path of a file.
    /// Nothing: what is wrong is noted.
    pub(super) fn configured(parts: &mut Parts<'_>, host: Option<&str>) -> Option<Self> {
        let ca = parts.reader.optional_or_secret(CA, "db_ca_pem");
        let authorities = match ca {
            None => Some(Authorities::System),
            Some(text) if text.contains("-----BEGIN CERTIFICATE-----") => Some(Authorities::Pem(text)),
            Some(path) if path.starts_with('/') => Some(Authorities::File(path)),
            Some(_) => {
                parts
                    .reader
                    .fault(CA, "must be certificates in PEM, or the path of a file with such, from its root on");
                None
            }
        };
        match parts.reader.optional("DB_TLS").as_deref() {
            None | Some("require") => authorities.map(Self::Tls),
            Some("disable") if host.is_none_or(is_loopback) => Some(Self::None),
            Some("disable") => {
                parts.reader.fault("DB_TLS", "may be disable only where DB_HOST is this machine");
                None
            }
            Some(other) => {
                parts.reader.fault("DB_TLS", format!("must be require or disable, not {other:?}"));
                None
            }
        }
    }

    /// What makes a connection to `host` one in TLS; nothing, where it is to be none.
    pub(super) fn to(&self, host: &str) -> Result<Option<Handshake>, Error> {
        let Self::Tls(authorities) = self else { return Ok(None) };
        let unusable = |error: &dyn fmt::Display| Error::Untrusted(quoted(&error.to_string()).into_owned());
        let name = ServerName::try_from(host.to_owned()).map_err(|error| unusable(&error))?;
        let certificates = match authorities {
            Authorities::System => {
                let config = tls::client().map_err(|error| unusable(&error))?;
                return Ok(Some(Handshake { config: Arc::new(config), name }));
            }
            Authorities::Pem(text) => CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<Vec<_>, _>>(),
            Authorities::File(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect),
        };
        let certificates = certificates.map_err(|error| unusable(&format!("{CA}: {error}")))?;
        let mut roots = RootCertStore::empty();
        let (usable, _) = roots.add_parsable_certificates(certificates);
        if usable == 0 {
            return Err(unusable(&format!("{CA} holds no certificate that can be read")));
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(&error))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Some(Handshake { config: Arc::new(config), name }))
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

/// Turns a connection into one in TLS.
#[derive(Debug)]
pub(super) struct Handshake {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl TlsConnect<TcpStream> for Handshake {
    type Stream = TlsStream;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TlsStream>>;

    fn connect(self, stream: TcpStream) -> Self::Future {
        Box::pin(async move {
            let connector = tokio_rustls::TlsConnector::from(self.config);
            connector.connect(self.name, stream).await.map(TlsStream)
        })
    }
}

/// A connection in TLS.
#[derive(Debug)]
pub(super) struct TlsStream(client::TlsStream<TcpStream>);

impl tokio_postgres::tls::TlsStream for TlsStream {
    /// The password is not bound to the certificate, which is checked against the authorities anyway.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
