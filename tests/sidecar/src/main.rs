//! PostgreSQL for a machine that has none: an embedded server, which has one backend, and what shares that out to many clients.
//!
//! It prints the port of loopback where it listens, and ends when its standard input does, so that it does not outlive who
//! started it. What is written to it is gone then.

mod backend;
mod client;
mod fault;
mod wire;

use std::{
    error::Error,
    io::{Read, Write, stderr, stdin, stdout},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use pglite_oxide::{PgliteServer, extensions};
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot},
    task::JoinSet,
};

use backend::{Backend, BackendError, DATABASE};

/// How long a client may say nothing inside of a transaction: as long as the functions' role may on a real server.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            drop(writeln!(stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let patience = patience(std::env::args().skip(1))?;
    let builder = PgliteServer::builder().temporary().database(DATABASE).relaxed_durability(true);
    let server = builder.extension(extensions::BTREE_GIST).start()?;
    let address = server.tcp_addr().ok_or("the embedded server listens nowhere")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let served = runtime.block_on(share_out(address.port(), patience));
    // The server waits for its one connection to end, which a task of the runtime's may still hold.
    drop(runtime);
    server.shutdown()?;
    served
}

/// Shares the backend out until standard input ends.
async fn share_out(port: u16, patience: Duration) -> Result<(), Box<dyn Error>> {
    let backend = Backend::connect(port).await?;
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    writeln!(stdout(), "{}", listener.local_addr()?.port())?;

    let (ended, has_ended) = oneshot::channel();
    std::thread::spawn(move || {
        drop(stdin().read_to_end(&mut Vec::new()));
        // Nobody waits for it when the program ends for another reason.
        let _ended = ended.send(());
    });
    tokio::select! {
        served = serve(listener, backend, patience) => served,
        _ = has_ended => Ok(()),
    }
}

/// `--patience MILLISECONDS`.
fn patience(mut arguments: impl Iterator<Item = String>) -> Result<Duration, String> {
    match (arguments.next().as_deref(), arguments.next(), arguments.next()) {
        (None, ..) => Ok(PATIENCE),
        (Some("--patience"), Some(milliseconds), None) => {
            let milliseconds = milliseconds.parse().map_err(|error| format!("--patience {milliseconds}: {error}"))?;
            Ok(Duration::from_millis(milliseconds))
        }
        _ => Err("usage: sidecar [--patience MILLISECONDS]".to_owned()),
    }
}

/// Serves everybody who comes.
async fn serve(listener: TcpListener, mut backend: Backend, patience: Duration) -> Result<(), Box<dyn Error>> {
    let greeting: Arc<[_]> = std::mem::take(&mut backend.greeting).into();
    let backend = Arc::new(Mutex::new(backend));
    let mut clients: JoinSet<Result<(), BackendError>> = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                let (backend, greeting) = (backend.clone(), greeting.clone());
                clients.spawn(async move { client::serve(stream, &backend, &greeting, patience).await });
            }
            // A client whose messages nobody could read panics alone.
            Some(Ok(Err(error))) = clients.join_next() => return Err(error.into()),
        }
    }
}
