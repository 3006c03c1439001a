//! A door in front of PostgreSQL, as RDS has one for users with `rds_iam`: it speaks TLS alone, and in place of a password it
//! takes a token that is signed with a known key for this very user, host, port and region, and is no older than it says.
//! Behind a good token the door signs in by the password; any other goes on to PostgreSQL, which refuses it.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign},
    sign::v4,
};
use local_stack::postgres::{APP, Server, wire::frame};
use time::{PrimitiveDateTime, format_description};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::authority::Issued;

/// Where the function asks for tokens, and with which key.
const REGION: &str = "us-east-1";
const KEY: (&str, &str) = ("test", "test");

/// RDS takes no token that lasts for longer.
const LONGEST: Duration = Duration::from_secs(900);

/// What a client sends first when it wants TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// The door; it is shut when it is dropped.
pub(crate) struct Door {
    pub(crate) port: u16,
    shared: Arc<Shared>,
    _task: AbortOnDropHandle<()>,
}

struct Shared {
    password: String,
    port: u16,
    /// How far its clock is ahead.
    ahead: Mutex<Duration>,
    heard: Mutex<Vec<Token>>,
}

/// What a client has shown.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// Why it is not good.
    pub(crate) fault: Option<&'static str>,
}

impl Door {
    /// A door with this certificate in front of a server that asks for passwords in clear.
    pub(crate) async fn to(server: &'static Server, password: &str, issued: &Issued) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (ahead, heard) = (Mutex::default(), Mutex::default());
        let shared = Arc::new(Shared { password: password.to_owned(), port, ahead, heard });
        let (acceptor, of_task) = (issued.acceptor(), shared.clone());
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (acceptor, shared) = (acceptor.clone(), of_task.clone());
                tokio::spawn(async move {
                    let mut greeting = [0; SSL_REQUEST.len()];
                    client.read_exact(&mut greeting).await?;
                    if greeting != SSL_REQUEST {
                        return Err(io::Error::other("no TLS"));
                    }
                    client.write_all(b"S").await?;
                    let client = acceptor.accept(client).await?;
                    shared.carry(client, TcpStream::connect((server.host.as_str(), server.port)).await?).await
                });
            }
        });
        Self { port, shared, _task: AbortOnDropHandle::new(task) }
    }

    /// What was shown so far, in its order.
    pub(crate) fn heard(&self) -> Vec<Token> {
        self.shared.heard.lock().unwrap().clone()
    }

    /// Puts its clock so far ahead.
    pub(crate) fn set_ahead(&self, ahead: Duration) {
        *self.shared.ahead.lock().unwrap() = ahead;
    }
}

impl Shared {
    async fn carry(&self, client: tokio_rustls::server::TlsStream<TcpStream>, server: TcpStream) -> io::Result<()> {
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = server.into_split();
        let requests = async {
            let start_up = frame(&mut from_client, false).await?;
            let user = parameter(&start_up, "user").ok_or_else(|| io::Error::other("no user"))?;
            to_server.write_all(&start_up).await?;
            // The first answer of a client is to the question for its password.
            let shown = frame(&mut from_client, true).await?;
            let token = String::from_utf8_lossy(shown.get(5..shown.len() - 1).unwrap_or_default()).into_owned();
            let fault = self.fault(&token, &user).err();
            let password = if fault.is_none() { &self.password } else { &token };
            let length = u32::try_from(password.len() + 5).map_err(io::Error::other)?;
            to_server.write_all(&[&shown[..1], &length.to_be_bytes()[..], password.as_bytes(), &[0]].concat()).await?;
            self.heard.lock().unwrap().push(Token { text: token, fault });
            copy(&mut from_client, &mut to_server).await
        };
        let answers = async {
            let copied = copy(&mut from_server, &mut to_client).await;
            to_client.shutdown().await?;
            copied
        };
        tokio::select! {
            done = requests => done.map(drop),
            done = answers => done.map(drop),
        }
    }

    /// Looks at a token as RDS does.
    fn fault(&self, token: &str, user: &str) -> Result<(), &'static str> {
        let url = Url::parse(&format!("https://{token}")).map_err(|_| "it is not a URL without its scheme")?;
        let parts: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let part = |name: &str| parts.get(name).map(String::as_str).ok_or("a part is missing");
        let form = format_description::parse_borrowed::<2>("[year][month][day]T[hour][minute][second]Z").unwrap();
        let date = part("X-Amz-Date")?;
        let signed_at = PrimitiveDateTime::parse(date, &form).map_err(|_| "its date is none")?;
        let signed_at = SystemTime::from(signed_at.assume_utc());
        let lasts = Duration::from_secs(part("X-Amz-Expires")?.parse().map_err(|_| "its time is none")?);
        let scope = format!("{}/{}/{REGION}/rds-db/aws4_request", KEY.0, &date[..8]);
        if (part("Action")?, part("DBUser")?) != ("connect", user) || user != APP {
            return Err("it is for something else, or for somebody else");
        }
        if part("X-Amz-Credential")? != scope || part("X-Amz-SignedHeaders")? != "host" {
            return Err("it is for another region or service, or of another key");
        }
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(lasts);
        let identity = Credentials::new(KEY.0, KEY.1, None, None, "door").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("rds-db")
            .time(signed_at)
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let ours = format!("https://localhost:{}/?Action=connect&DBUser={user}", self.port);
        let signable = SignableRequest::new("GET", &ours, std::iter::empty(), SignableBody::Bytes(&[])).unwrap();
        if sign(signable, &parameters).unwrap().into_parts().1 != part("X-Amz-Signature")? {
            return Err("its signature is wrong, or for another host or port");
        }
        let now = SystemTime::now() + *self.ahead.lock().unwrap();
        match now.duration_since(signed_at) {
            Ok(age) if age <= lasts && lasts <= LONGEST => Ok(()),
            _ => Err("its time has run out"),
        }
    }
}

/// A parameter of a start-up message: behind its length and the version, names and values take turns.
fn parameter(start_up: &[u8], name: &str) -> Option<String> {
    let mut words = start_up.get(8..)?.split(|byte| *byte == 0);
    while let (Some(word), Some(value)) = (words.next(), words.next()) {
        if word == name.as_bytes() {
            return String::from_utf8(value.to_vec()).ok();
        }
    }
    None
}
