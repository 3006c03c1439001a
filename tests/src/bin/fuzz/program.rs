//! The fuzzer itself: building it by cargo-fuzz, and running what was built.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use local_stack::{build::cargo, ring, scenario::ScenarioError};

use crate::{
    arguments::{Limit, Plan},
    output::{Output, Progress},
    report,
    workplace::{DICTIONARY, FAULTS, SEEDS, Workplace},
};

/// Real bodies have less than a thousand bytes. What needs more, such as a thousand seats, is for other tests.
const LONGEST_INPUT: usize = 4096;

/// An input takes less than a millisecond. libFuzzer itself would wait for 20 minutes.
const PATIENCE_SECONDS: u64 = 10;

const BETWEEN_PROGRESS: Duration = Duration::from_secs(10);

/// Why nothing could be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FuzzError {
    #[error(
        "cargo-fuzz is not installed; install it with: cargo install cargo-fuzz --version {} --locked",
        pinned_cargo_fuzz()
    )]
    NoCargoFuzz,
    #[error("the fuzzer does not build: see the messages above; libFuzzer needs a C++ compiler")]
    Build,
    #[error("{0}")]
    Seeds(#[from] ScenarioError),
    #[error("read {}: {cause}", .path.display())]
    Input { path: PathBuf, cause: io::Error },
    #[error("libFuzzer ended with {status} and named no input: see {}", .log.display())]
    NoInput { status: ExitStatus, log: PathBuf },
    #[error("libFuzzer said nothing that could be read: see {}", .log.display())]
    Unreadable { log: PathBuf },
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What a run has come to.
pub(crate) struct Run {
    pub(crate) progress: Progress,
    pub(crate) time: Duration,
    pub(crate) fault: Option<Fault>,
}

/// An input that is not taken as it must be.
pub(crate) struct Fault {
    /// What went wrong.
    pub(crate) said: String,
    pub(crate) input: PathBuf,
    pub(crate) body: Vec<u8>,
}

/// The fuzzer, built.
pub(crate) struct Program {
    path: PathBuf,
    /// The same, seen from the folder that it works in.
    from_folder: PathBuf,
}

impl Program {
    /// Builds the fuzzer, or finds it built. cargo shows its progress on standard error.
    pub(crate) fn build(workplace: &Workplace) -> Result<Self, FuzzError> {
        if ring::on_path("cargo-fuzz").is_none() {
            return Err(FuzzError::NoCargoFuzz);
        }
        let host = host()?;
        let mut command = cargo();
        // Without a sanitizer a stable compiler will do. They look for what only unsafe code does, and there is none.
        command.args(["fuzz", "build", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", "--target", &host]);
        command.arg("--target-dir").arg(&workplace.target_dir).arg(workplace.target.name());
        // cargo would prefer these to the flags by which cargo-fuzz instruments the build.
        command.env_remove("CARGO_ENCODED_RUSTFLAGS").env_remove("RUSTFLAGS");
        if !command.status()?.success() {
            return Err(FuzzError::Build);
        }
        let built = Path::new(&host).join("release").join(workplace.target.name());
        Ok(Self { path: workplace.target_dir.join(&built), from_folder: Path::new("..").join(built) })
    }

    /// Lets libFuzzer make up inputs until the plan's limit or the first fault.
    pub(crate) fn fuzz(&self, plan: &Plan, corpus: &str, workplace: &Workplace) -> Result<Run, FuzzError> {
        let Workplace { folder, .. } = workplace;
        let mut command = self.command(plan.limit);
        command.current_dir(folder).arg(corpus);
        command.args([
            format!("-dict={DICTIONARY}"),
            format!("-seed_inputs=@{SEEDS}"),
            format!("-artifact_prefix={FAULTS}/"),
        ]);
        command.args([format!("-max_len={LONGEST_INPUT}"), format!("-timeout={PATIENCE_SECONDS}")]);
        // Nobody else writes into the corpus, and reading it again by the clock would make two runs differ.
        command.args(["-reload=0", "-print_final_stats=1"]);
        command.arg(match plan.limit {
            Limit::Minutes(minutes) => format!("-max_total_time={}", u64::from(minutes) * 60),
            Limit::Runs(runs) => format!("-runs={runs}"),
        });
        command.args(plan.seed.map(|seed| format!("-seed={seed}")));

        let log = folder.join("log.txt");
        let start = Instant::now();
        let (status, output) = watch(command, &log, start)?;
        let mut run = Run { progress: output.progress, time: start.elapsed(), fault: None };
        if status.success() {
            // A run of nothing finds nothing.
            return if run.progress.inputs > 0 { Ok(run) } else { Err(FuzzError::Unreadable { log }) };
        }
        let Some(input) = &output.input else { return Err(FuzzError::NoInput { status, log }) };
        run.fault = Some(Fault { said: output.said(), ..Fault::of(&folder.join(input))? });
        Ok(run)
    }

    /// libFuzzer's choices hang on addresses, such as where the stack begins. A run that is to be the same each time gets
    /// addresses that are: no randomisation by the kernel, and neither variables nor paths of this machine on the stack.
    fn command(&self, limit: Limit) -> Command {
        let mut command = match (limit, setarch()) {
            (Limit::Runs(_), Some(setarch)) => {
                let mut command = Command::new(setarch);
                command.arg("-R").arg(&self.from_folder);
                command
            }
            (Limit::Runs(_), None) => {
                eprintln!("This machine does not fix addresses by `setarch -R`: other runs will have other inputs.");
                Command::new(&self.path)
            }
            (Limit::Minutes(_), _) => Command::new(&self.path),
        };
        command.env_clear();
        command
    }

    /// Hands one input over.
    pub(crate) fn replay(&self, input: &Path) -> Result<Option<Fault>, FuzzError> {
        let fault = Fault::of(input)?;
        let run = Command::new(&self.path).arg(format!("-timeout={PATIENCE_SECONDS}")).arg(input).output()?;
        if run.status.success() {
            return Ok(None);
        }
        let mut output = Output::default();
        for line in String::from_utf8_lossy(&run.stderr).lines() {
            output.read(line);
        }
        Ok(Some(Fault { said: output.said(), ..fault }))
    }
}

impl Fault {
    fn of(input: &Path) -> Result<Self, FuzzError> {
        match fs::read(input) {
            Ok(body) => Ok(Self { said: String::new(), input: input.to_owned(), body }),
            Err(cause) => Err(FuzzError::Input { path: input.to_owned(), cause }),
        }
    }
}

/// The version of cargo-fuzz that is known to work.
pub(crate) fn pinned_cargo_fuzz() -> &'static str {
    const MANIFEST: &str = include_str!("../../../fuzz/Cargo.toml");
    let version = |line: &'static str| line.strip_prefix("cargo-fuzz-version = \"")?.strip_suffix('"');
    MANIFEST.lines().find_map(version).unwrap_or_default()
}

/// Runs libFuzzer to its end. Everything that it writes goes into the log, and now and then a line of progress to the
/// person who waits.
fn watch(mut command: Command, log: &Path, start: Instant) -> Result<(ExitStatus, Output), FuzzError> {
    let mut log = File::create(log)?;
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut output = Output::default();
    let mut last = start;
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).split(b'\n') {
            let line = line?;
            log.write_all(&line)?;
            log.write_all(b"\n")?;
            let is_progress = output.read(&String::from_utf8_lossy(&line));
            if is_progress && last.elapsed() >= BETWEEN_PROGRESS {
                last = Instant::now();
                report::progress(&output.progress, start.elapsed());
            }
        }
    }
    Ok((child.wait()?, output))
}

/// The machine that cargo builds for. cargo-fuzz would build for the one that it was itself built for.
fn host() -> Result<String, FuzzError> {
    let output = cargo().arg("-vV").output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.ok_or_else(|| io::Error::other("cargo -vV names no host"))?.to_owned())
}

/// The program that switches the kernel's randomisation off, where this machine has it and lets it.
fn setarch() -> Option<PathBuf> {
    let setarch = ring::on_path("setarch")?;
    let run = Command::new(&setarch).args(["-R", "true"]).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success()).then_some(setarch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_cargo_fuzz_is_pinned() {
        let parts: Vec<_> = pinned_cargo_fuzz().split('.').map(str::parse::<u32>).collect();
        assert!(parts.len() == 3 && parts.iter().all(Result::is_ok), "{:?}", pinned_cargo_fuzz());
    }
}
