//! The copy of the workspace in which the edits are made.

use std::{
    collections::BTreeSet,
    error::Error,
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use local_stack::build::{cargo, workspace};
use serde_json::Value;

/// The workspace's files as they are now, committed or not, beside a target directory that belongs to them alone: cargo
/// does not tell the packages of two clones apart, and would take the one's artifacts for the other's.
pub(crate) struct WorkingCopy {
    root: PathBuf,
    target: PathBuf,
}

impl WorkingCopy {
    /// Copies what has changed since the last time. What has not keeps its time, by which cargo knows what to build.
    pub(crate) fn of_workspace() -> Result<Self, Box<dyn Error>> {
        let (from, folder) = (workspace(), target_directory()?.join("removals"));
        let copy = Self { root: folder.join("workspace"), target: folder.join("target") };
        let files = files(&from)?;
        fs::create_dir_all(&copy.root)?;
        for stale in everything_in(&copy.root)?.iter().filter(|path| !files.contains(*path)) {
            fs::remove_file(copy.root.join(stale))?;
        }
        for file in &files {
            let (content, to) = (fs::read(from.join(file))?, copy.root.join(file));
            if fs::read(&to).is_ok_and(|there| there == content) {
                continue;
            }
            if let Some(parent) = to.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(to, content)?;
        }
        Ok(copy)
    }

    /// cargo, in the copy and with its target directory.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = cargo();
        command.current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target).env("CARGO_TERM_COLOR", "never");
        command
    }

    pub(crate) fn read(&self, file: &str) -> io::Result<String> {
        fs::read_to_string(self.root.join(file))
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        fs::write(self.root.join(file), text)
    }
}

/// Where this workspace is built, which may be outside of it.
fn target_directory() -> Result<PathBuf, Box<dyn Error>> {
    let answer = output(cargo().args(["metadata", "--no-deps", "--offline", "--format-version", "1"]))?;
    let metadata: Value = serde_json::from_slice(&answer)?;
    Ok(metadata["target_directory"].as_str().ok_or("cargo does not say where it builds")?.into())
}

/// The files of the workspace: those that Git tracks, and new ones that it does not ignore.
fn files(root: &Path) -> Result<BTreeSet<PathBuf>, Box<dyn Error>> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let listed = String::from_utf8(output(&mut git)?)?;
    let names = listed.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from);
    // One that was deleted is listed until that is committed.
    Ok(names.filter(|path| root.join(path).is_file()).collect())
}

fn everything_in(root: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![PathBuf::new()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let path = folder.join(entry.file_name());
            if entry.file_type()?.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    Ok(found)
}

/// What a command says on standard output. What it says on standard error is shown.
fn output(command: &mut Command) -> Result<Vec<u8>, Box<dyn Error>> {
    let output = command.stderr(Stdio::inherit()).output()?;
    if output.status.success() { Ok(output.stdout) } else { Err(format!("{command:?} failed: see above").into()) }
}
