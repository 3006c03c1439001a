//! What libFuzzer writes while it works, and what of it says how far it is and what it has found.

use std::path::PathBuf;

/// How far a run is, by libFuzzer's own count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// How often the parser was called with an input.
    pub(crate) inputs: u64,
    /// The branches of the code that were taken, in parser, dependencies and judge.
    pub(crate) edges: u64,
    /// The edges, told apart by how often one was taken and by how two compared values differ.
    pub(crate) features: u64,
    /// The inputs that are kept, because each reached something new.
    pub(crate) corpus: u64,
}

/// Everything that matters of what was written so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    pub(crate) progress: Progress,
    /// The input that ended the run.
    pub(crate) input: Option<PathBuf>,
    /// What the panic said, line by line.
    panic: Vec<String>,
    panics: bool,
    /// What libFuzzer calls the fault.
    error: Option<String>,
}

impl Output {
    /// Reads one more line, and says whether it has changed the progress.
    pub(crate) fn read(&mut self, line: &str) -> bool {
        if let Some(progress) = progress(line) {
            self.progress = progress;
            return true;
        }
        if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            // Only a run without a fault ends with a count of its own.
            self.progress.inputs = count.trim().parse().unwrap_or(self.progress.inputs);
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.input = Some(PathBuf::from(path));
        } else if let Some((_, error)) = line.split_once("ERROR: libFuzzer: ") {
            self.error = Some(error.to_owned());
            self.panics = false;
        } else if line.contains(" panicked at ") {
            self.panics = true;
            self.panic.push(line.to_owned());
        } else if line.starts_with("note: run with `RUST_BACKTRACE") || line.starts_with("stack backtrace:") {
            self.panics = false;
        } else if self.panics {
            self.panic.push(line.to_owned());
        }
        false
    }

    /// What went wrong: the panic's own words if there was one, else libFuzzer's.
    pub(crate) fn said(&self) -> String {
        if self.panic.is_empty() {
            return self.error.clone().unwrap_or_else(|| "libFuzzer did not say what".to_owned());
        }
        self.panic.join("\n")
    }
}

/// The progress in a line such as `#4096 pulse  cov: 1234 ft: 5678 corp: 90/12Kb lim: 17 exec/s: 2048 rss: 60Mb`, where
/// the first blank is a tab.
fn progress(line: &str) -> Option<Progress> {
    let (inputs, rest) = line.strip_prefix('#')?.split_once('\t')?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let after = |name: &str| {
        let value = words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1))?;
        value.split('/').next()?.parse().ok()
    };
    Some(Progress {
        inputs: inputs.parse().ok()?,
        edges: after("cov:")?,
        features: after("ft:")?,
        corpus: after("corp:")?,
    })
}

#[cfg(test)]
mod tests;
