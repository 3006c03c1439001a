//! Where the fuzzer is built and works: a folder under cargo's target directory, never the repository.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use local_stack::{
    build::workspace,
    scenario::{self, EventFile},
};

use crate::{arguments::Limit, program::FuzzError};

/// The folders of the fuzzer.
pub(crate) struct Workplace {
    /// What cargo builds.
    pub(crate) target_dir: PathBuf,
    /// What the fuzzer works in. It is given the names below, so that its command line is the same on every machine.
    pub(crate) folder: PathBuf,
}

/// A copy of the dictionary.
pub(crate) const DICTIONARY: &str = "event.dict";
/// The list of the files that a run starts from.
pub(crate) const SEEDS: &str = "seeds.txt";
/// The folder for inputs that brought a fault to light.
pub(crate) const FAULTS: &str = "faults";

impl Workplace {
    /// Opens the folder beside what cargo has built of this program, which is in the target directory whatever that is set
    /// to.
    pub(crate) fn open() -> Result<Self, FuzzError> {
        let program = env::current_exe()?;
        let target = program.ancestors().nth(2).ok_or_else(|| io::Error::other("this program is in no folder"))?;
        let target_dir = target.join("fuzz");
        let folder = target_dir.join("event");
        fs::create_dir_all(folder.join(FAULTS))?;
        Ok(Self { target_dir, folder })
    }

    /// Writes the dictionary and the body of every record of `events/`, and returns how many bodies there are.
    pub(crate) fn prepare(&self) -> Result<usize, FuzzError> {
        fs::copy(workspace().join("tests/fuzz/event.dict"), self.folder.join(DICTIONARY))?;
        anew(&self.folder.join("seeds"))?;
        let mut paths = Vec::new();
        for file in &scenario::load_all(scenario::events_folder())? {
            for (name, body) in bodies(file) {
                let path = format!("seeds/{name}");
                fs::write(self.folder.join(&path), body)?;
                paths.push(path);
            }
        }
        // Files in a list come in its order, those of a folder in the order of the file system.
        fs::write(self.folder.join(SEEDS), paths.join(","))?;
        Ok(paths.len())
    }

    /// The folder for what a run keeps: that of the last run, or an empty one.
    pub(crate) fn corpus(&self, limit: Limit) -> Result<&'static str, FuzzError> {
        match limit {
            Limit::Minutes(_) => {
                fs::create_dir_all(self.folder.join("corpus"))?;
                Ok("corpus")
            }
            Limit::Runs(_) => {
                anew(&self.folder.join("corpus-of-runs"))?;
                Ok("corpus-of-runs")
            }
        }
    }
}

/// Each record's body, with a name for its file.
fn bodies(file: &EventFile) -> impl Iterator<Item = (String, &str)> {
    let name = move |index: usize| format!("{}-{}-{}", file.function, file.case(), index + 1);
    file.records.iter().enumerate().map(move |(index, record)| (name(index), record.body.as_str()))
}

fn anew(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::create_dir_all(folder)
}
