//! The function binaries, built for this machine by the cargo that runs us.

use std::{
    collections::BTreeMap,
    env, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, OnceLock, PoisonError},
};

use serde::Deserialize;

use crate::catalogue::NAMES;

/// Where each binary lies, by the name of its function or example.
pub type Binaries = BTreeMap<String, PathBuf>;

/// The package of the embedded PostgreSQL, and its folder in the target directory.
const SIDECAR: &str = "sidecar";

/// Why there are no binaries.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// cargo could not be run.
    #[error("run cargo to build: {0}")]
    Cargo(#[from] io::Error),
    /// cargo found a fault and has printed it.
    #[error("the build failed: see cargo's messages above")]
    Failed,
    /// cargo was content and did not say where a binary is.
    #[error("cargo built no binary for {0}")]
    Missing(String),
}

/// Builds all functions for the tests, or finds them built: once for all that ask in this process. cargo shows its progress on
/// standard error.
pub fn functions() -> Result<&'static Binaries, BuildError> {
    static BUILT: OnceLock<Binaries> = OnceLock::new();
    static BUILDING: Mutex<()> = Mutex::new(());

    let _others_wait = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    match BUILT.get() {
        Some(built) => Ok(built),
        None => {
            let built = these_functions(&NAMES)?;
            Ok(BUILT.get_or_init(|| built))
        }
    }
}

/// Builds only these of the functions, as [`functions`] does.
pub fn these_functions(functions: &[&str]) -> Result<Binaries, BuildError> {
    let mut command = cargo();
    command.args(["build", "--message-format=json-render-diagnostics"]);
    // This package takes part in the selection, so that cargo resolves the features that it was built with, and does
    // not compile the dependencies a second time.
    command.args(["--package", env!("CARGO_PKG_NAME")]);
    build(command, functions, &[])
}

/// Builds `cargo redrive`, or finds it built, as [`functions`] does: its binary too is named after its package.
pub fn redrive() -> Result<PathBuf, BuildError> {
    const NAME: &str = "redrive";

    these_functions(&[NAME])?.remove(NAME).ok_or_else(|| BuildError::Missing(NAME.to_owned()))
}

/// Builds the embedded PostgreSQL, which is a workspace of its own, or finds it built.
pub fn sidecar() -> Result<PathBuf, BuildError> {
    let mut command = cargo();
    command.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    command.args(["--manifest-path", "tests/sidecar/Cargo.toml", "--target-dir"]).arg(sidecar_target()?);
    built(command)?.remove(SIDECAR).ok_or_else(|| BuildError::Missing(SIDECAR.to_owned()))
}

/// Whether [`sidecar`] was ever called with success, so that it takes a moment now.
pub fn has_sidecar() -> bool {
    let program = format!("{SIDECAR}{}", env::consts::EXE_SUFFIX);
    sidecar_target().is_ok_and(|target| target.join("debug").join(program).is_file())
}

/// Beside what cargo has built of this program, which is in the folder of its profile, or in one below if it is a test.
fn sidecar_target() -> io::Result<PathBuf> {
    let program = env::current_exe()?;
    let folders: Vec<&Path> = program.ancestors().skip(1).filter(|folder| !folder.ends_with("deps")).collect();
    let target = folders.get(1).ok_or_else(|| io::Error::other("this program is in no folder"))?;
    Ok(target.join(SIDECAR))
}

/// Builds an example of `shared`, or finds it built, as [`functions`] does.
pub fn example(name: &str) -> Result<PathBuf, BuildError> {
    let mut command = cargo();
    command.args(["build", "--message-format=json-render-diagnostics", "--package", env!("CARGO_PKG_NAME")]);
    build(command, &[], &[name])?.remove(name).ok_or_else(|| BuildError::Missing(name.to_owned()))
}

/// Builds functions, and examples of `shared`, by a profile of the workspace and into the folder `target`. It must not be
/// that of the cargo that runs us: here the functions are built alone, with the features that they are deployed with.
pub fn by_profile(profile: &str, target: &Path, functions: &[&str], examples: &[&str]) -> Result<Binaries, BuildError> {
    let mut command = cargo();
    command.args(["build", "--locked", "--message-format=json-render-diagnostics"]);
    command.args(["--profile", profile, "--target-dir"]).arg(target);
    build(command, functions, examples)
}

/// Builds all functions nearly as they are deployed (the profile `release-check`), for a program that loads them with so much
/// that a build for debugging would be measured instead.
pub fn release_functions() -> Result<Binaries, BuildError> {
    let program = env::current_exe()?;
    // The program is in the folder of its profile, in the target directory.
    let target = program.ancestors().nth(2).ok_or_else(|| BuildError::Missing(program.display().to_string()))?;
    by_profile("release-check", &target.join("release-check"), &NAMES, &[])
}

fn build(mut command: Command, functions: &[&str], examples: &[&str]) -> Result<Binaries, BuildError> {
    command.args(functions.iter().flat_map(|function| ["--package", function, "--bin", function]));
    if !examples.is_empty() {
        command.args(["--package", "shared"]);
        command.args(examples.iter().flat_map(|example| ["--example", example]));
    }
    let built = built(command)?;
    match functions.iter().chain(examples).find(|name| !built.contains_key(**name)) {
        Some(missing) => Err(BuildError::Missing((*missing).to_owned())),
        None => Ok(built),
    }
}

/// What a build makes. cargo shows its progress on standard error.
fn built(mut command: Command) -> Result<Binaries, BuildError> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(BuildError::Failed);
    }
    let messages = output.stdout.split(|byte| *byte == b'\n');
    let made = messages.filter_map(|line| serde_json::from_slice::<Message>(line).ok());
    Ok(made.filter_map(|message| Some((message.target?.name, message.executable?))).collect())
}

/// The cargo that runs us, in this workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace());
    command
}

/// The root of the repository, as the cargo that runs us says. A program that is started by itself has only the place where
/// it was built, which need not be this clone where several share a target directory.
pub fn workspace() -> PathBuf {
    let package: PathBuf =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    let root = package.ancestors().find(|folder| folder.join("template.yaml").is_file());
    root.unwrap_or(&package).to_owned()
}

/// The part of cargo's messages that says where a binary is.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}
