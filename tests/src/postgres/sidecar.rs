//! The embedded PostgreSQL of `tests/sidecar`, for a machine that has no other. It has one backend and one database, and ends
//! with this process.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

/// Its one database.
pub const DATABASE: &str = "postgres";

/// The machines that it is compiled for ahead of time, by the names that Rust has for their systems and processors.
const MACHINES: [(&str, &str); 4] =
    [("linux", "aarch64"), ("linux", "x86_64"), ("macos", "aarch64"), ("windows", "x86_64")];

/// Whether it runs on a machine of this kind.
pub(super) fn runs_on(system: &str, processor: &str) -> bool {
    MACHINES.contains(&(system, processor))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// Its code for each kind of machine is a crate of its own, and the lock names all of them.
    #[test]
    fn it_runs_where_its_lock_has_code_for() {
        let lock = include_str!("../../sidecar/Cargo.lock");
        let targets = lock.lines().filter_map(|line| line.strip_prefix("name = \"pglite-oxide-aot-"));
        let targets: Vec<&str> = targets.map(|target| target.trim_end_matches('"')).collect();
        assert_eq!(targets.len(), MACHINES.len(), "{targets:?}");
        for target in targets {
            let (processor, rest) = target.split_once('-').expect("a target has a processor");
            let system = match rest {
                "apple-darwin" => "macos",
                "pc-windows-msvc" => "windows",
                "unknown-linux-gnu" => "linux",
                _ => panic!("which system is {rest}?"),
            };
            assert!(runs_on(system, processor), "{target}");
        }
        assert!(!runs_on("macos", "x86_64") && !runs_on("freebsd", "x86_64"));
    }
}
