//! The embedded PostgreSQL of `tests/sidecar`, for a machine that has no other. It has one backend and one database, and ends
//! with this process.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// The name of the ring that needs it.
pub const RING: &str = "sidecar";

/// Its one database.
pub const DATABASE: &str = "postgres";

/// The program, at work.
#[derive(Debug)]
pub(super) struct Sidecar {
    /// Where it listens, on loopback.
    pub(super) port: u16,
    _process: Child,
    /// It ends when this does, which the end of this process is too, in whatever way.
    _orders: Option<ChildStdin>,
}

impl Sidecar {
    /// Starts the program and waits until it listens.
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn()?;
        let orders = process.stdin.take();
        let mut line = String::new();
        if let Some(output) = process.stdout.take() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let mut errors = process.stderr.take();
        match line.trim().parse() {
            Ok(port) => {
                // Nobody reads them, and a full pipe would hold it up.
                std::thread::spawn(move || errors.as_mut().map(|errors| io::copy(errors, &mut io::sink())));
                Ok(Self { port, _process: process, _orders: orders })
            }
            Err(_) => {
                drop(orders);
                let mut said = String::new();
                errors.as_mut().map(|errors| errors.read_to_string(&mut said)).transpose()?;
                Err(io::Error::other(format!("the sidecar, {}: {}", process.wait()?, said.trim())))
            }
        }
    }
}
