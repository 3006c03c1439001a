//! `cargo local`, before anything else is built: it prints the help, or hands over to the program that does the work.
//!
//! The texts in `help/` are what that program says of itself; a test in `tests/integration` keeps them equal.

use std::{
    env,
    ffi::OsString,
    io::{self, Write},
    process::{Command, ExitCode},
};

const HELP: &str = include_str!("../help/local.txt");
const HELP_UP: &str = include_str!("../help/up.txt");
const HELP_TOKEN: &str = include_str!("../help/token.txt");
const HELP_NEW: &str = include_str!("../help/new.txt");

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if let Some(help) = help(&arguments) {
        drop(io::stdout().lock().write_all(help.as_bytes())); // Nobody may read to the end, as behind `| head`.
        return ExitCode::SUCCESS;
    }
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--package", "local-stack", "--bin", "local", "--"]).args(arguments);
    let error = match run(command) {
        Ok(code) => return code,
        Err(error) => error,
    };
    drop(writeln!(io::stderr().lock(), "error: cargo could not be run: {error}"));
    ExitCode::from(2)
}

/// The text that was asked for; None where something is to be done.
fn help(arguments: &[OsString]) -> Option<&'static str> {
    let first = arguments.first()?;
    let asks = |argument: &OsString| argument == "--help" || argument == "-h";
    let of = |command: Option<&OsString>| match command.and_then(|command| command.to_str()) {
        Some("up") => HELP_UP,
        Some("token") => HELP_TOKEN,
        Some("new") => HELP_NEW,
        Some(_) | None => HELP,
    };
    if first == "help" {
        return Some(of(arguments.get(1)));
    }
    arguments.iter().any(asks).then(|| of(Some(first)))
}

/// Becomes the other program, so that Ctrl-C and the exit status are its own.
#[cfg(unix)]
fn run(mut command: Command) -> io::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn run(mut command: Command) -> io::Result<ExitCode> {
    let code = command.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
