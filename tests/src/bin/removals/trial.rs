//! The named tests, run in the copy.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    process::{Command, Stdio},
};

use local_stack::{
    removals::{Removal, Test},
    ring::{REQUIRED, Ring},
};
use shared::name::Named;

use crate::copy::WorkingCopy;

/// What the named tests need beside this workspace. One that is skipped passes, and would be taken for a test that watches
/// nothing.
const RINGS: [Ring; 2] = [Ring::Browser, Ring::Postgres];

/// Runs tests in the copy.
pub(crate) struct Bench<'a> {
    copy: &'a WorkingCopy,
}

/// What a test made of a removal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It failed, and said what it must, in this line.
    Red(String),
    /// It failed and said something else, this.
    RedOtherwise(String),
    /// It passed.
    StillGreen,
    /// The code does not compile without the guard, which shows nothing. The compiler has said why.
    NotCompiled,
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    #[error("run cargo: {0}")]
    Cargo(#[from] io::Error),
    #[error("the tests of {0} do not compile with nothing removed: see cargo's messages above")]
    Build(&'static str),
    #[error("with nothing removed, {name} fails:\n{output}")]
    FailsAnyway { name: &'static str, output: String },
    #[error("{name} was not run: {output}")]
    NotRun { name: &'static str, output: String },
}

impl<'a> Bench<'a> {
    pub(crate) fn new(copy: &'a WorkingCopy) -> Self {
        Self { copy }
    }

    /// Runs the tests with nothing removed.
    pub(crate) fn all_pass(&self, tests: &BTreeSet<Test>) -> Result<(), TrialError> {
        let mut by_target: BTreeMap<&'static str, Vec<&'static str>> = BTreeMap::new();
        for test in tests {
            by_target.entry(test.target).or_default().push(test.name);
        }
        for (target, names) in by_target {
            if !self.builds(target)? {
                return Err(TrialError::Build(target));
            }
            let output = self.run(target, &names)?;
            for name in names {
                if failed(&output, name)? {
                    return Err(TrialError::FailsAnyway { name, output });
                }
            }
        }
        Ok(())
    }

    /// Runs the test of a removal, which was made.
    pub(crate) fn verdict(&self, removal: &Removal) -> Result<Verdict, TrialError> {
        let Test { target, name } = removal.test;
        // Apart from the run: a test that can't be compiled fails, too, and shows nothing.
        if !self.builds(target)? {
            return Ok(Verdict::NotCompiled);
        }
        let output = self.run(target, &[name])?;
        if !failed(&output, name)? {
            return Ok(Verdict::StillGreen);
        }
        let said = output.lines().find(|line| line.contains(removal.says));
        Ok(match said {
            Some(line) => Verdict::Red(line.trim().to_owned()),
            None => Verdict::RedOtherwise(reason(&output)),
        })
    }

    fn builds(&self, target: &'static str) -> Result<bool, TrialError> {
        Ok(self.test(target).args(["--quiet", "--no-run"]).status()?.success())
    }

    /// What the harness says of these tests, and what those that fail have said.
    fn run(&self, target: &str, names: &[&str]) -> Result<String, TrialError> {
        let mut command = self.test(target);
        command
            .args(["--", "--exact"])
            .args(names)
            .env("RUST_BACKTRACE", "0")
            .env(REQUIRED, RINGS.map(Named::name).join(","));
        let output = command.stderr(Stdio::null()).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn test(&self, target: &str) -> Command {
        let mut command = self.copy.cargo();
        command.args(["test", "--test", target]);
        // A removal leaves this and that unused, which nobody wants to read, and where warnings are errors nothing would
        // compile. The copy's target directory is built with these flags alone.
        command.env("RUSTFLAGS", "--cap-lints=allow");
        command
    }
}

/// Whether the test failed; it must have run.
fn failed(output: &str, name: &'static str) -> Result<bool, TrialError> {
    let line = |end| format!("test {name} ... {end}");
    let says = |end| output.lines().any(|said| said == line(end));
    match (says("ok"), says("FAILED")) {
        (true, false) => Ok(false),
        (false, true) => Ok(true),
        (true, true) | (false, false) => Err(TrialError::NotRun { name, output: output.to_owned() }),
    }
}

/// What the failed test said first, on one line.
fn reason(output: &str) -> String {
    let after = output.lines().skip_while(|line| !line.contains("panicked at")).skip(1);
    let lines = after.take_while(|line| !line.is_empty() && !line.starts_with("note: "));
    lines.map(str::trim).collect::<Vec<_>>().join("; ")
}
