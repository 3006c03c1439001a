//! `cargo local new`: the event files that every function has, for a type that has none yet.
//!
//! They are those of another function, with the type's name and with ids that no other file has. What the files promise is
//! kept: a function of a new type begins as a copy of another one, and so do its files.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::Value;
use uuid::Uuid;

use crate::catalogue::QUEUED;

/// The cases that every function has a file for.
pub const CASES: [&str; 6] = ["single", "duplicate", "batch-mixed", "malformed-body", "unknown-version", "exhausted"];

/// A run of letters that is longer than this is a receipt handle.
const LONGEST_ID: usize = 100;

/// The beginning of every receipt handle.
const HANDLE: &str = "AQEB";

/// Why no files were made. Each text says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RecastError {
    /// The type cannot name a folder and a queue.
    #[error(
        "{0:?} is no event type; it has to be words of small letters and digits, joined by dots: booking.withdrawn"
    )]
    Type(String),
    /// There is no such function.
    #[error("there is no function {0:?}; use one of {QUEUED:?}")]
    Function(String),
    /// Some of the files are there already.
    #[error("nothing is overwritten: move {} away, or choose another event type", named(.0))]
    Exists(Vec<PathBuf>),
    /// A file could not be read or written.
    #[error("{}: {cause}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A file of the other function is no event file.
    #[error("{}: {cause}", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: serde_json::Error,
    },
}

fn named(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The name of the function, and so of its folders and queues, that settles events of a type.
///
/// # Errors
/// When the type cannot name them.
pub fn function_of(event_type: &str) -> Result<String, RecastError> {
    let is_word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_lowercase())
            && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    // A queue's name has at most 80 letters, and a stack's name and `-dlq` belong to it.
    if event_type.len() <= 40 && event_type.split('.').all(is_word) {
        return Ok(event_type.replace('.', "-"));
    }
    Err(RecastError::Type(event_type.to_owned()))
}

/// Makes the files of [`CASES`] for `event_type` in the folder of event files, from those of the function `from`. Answers
/// with their paths.
///
/// # Errors
/// When one of them is there already; then none is made.
pub fn recast(events: &Path, event_type: &str, from: &str) -> Result<Vec<PathBuf>, RecastError> {
    let function = function_of(event_type)?;
    if !QUEUED.contains(&from) {
        return Err(RecastError::Function(from.to_owned()));
    }
    let paths = CASES.map(|case| events.join(&function).join(case).with_extension("json"));
    let there: Vec<PathBuf> = paths.iter().filter(|path| path.exists()).cloned().collect();
    if !there.is_empty() {
        return Err(RecastError::Exists(there));
    }

    let mut all = String::new();
    gather(events, &mut all)?;
    let mut ids = Ids { taken: all, new: BTreeMap::new() };
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let source = events.join(from).join(path.file_name().unwrap_or_default());
        let text = fs::read_to_string(&source).map_err(at(&source))?;
        let text = ids.renewed(&text).replace(&from.replace('-', "."), event_type).replace(from, &function);
        let text = with_digests(text).map_err(|cause| RecastError::Shape { path: source, cause })?;
        files.push((path, text));
    }
    let folder = events.join(&function);
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    for (path, text) in &files {
        let created = OpenOptions::new().write(true).create_new(true).open(path);
        created.and_then(|mut file| file.write_all(text.as_bytes())).map_err(at(path))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RecastError {
    let path = path.to_owned();
    |cause| RecastError::Io { path, cause }
}

/// The text of every file in a folder and below it.
fn gather(folder: &Path, all: &mut String) -> Result<(), RecastError> {
    for entry in fs::read_dir(folder).map_err(at(folder))? {
        let path = entry.map_err(at(folder))?.path();
        if path.is_dir() {
            gather(&path, all)?;
        } else {
            all.push_str(&String::from_utf8_lossy(&fs::read(&path).map_err(at(&path))?));
        }
    }
    Ok(())
}

/// The new name of each id. One that stands in several places has one new name.
struct Ids {
    /// What no new id may be a part of.
    taken: String,
    new: BTreeMap<String, String>,
}

impl Ids {
    /// The text with a new id in place of each.
    fn renewed(&mut self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        for run in runs(text, |c| c.is_ascii_alphanumeric() || "_-+/=".contains(c)) {
            if run.len() > LONGEST_ID || is_uuid(run) {
                out.push_str(&self.renew(run));
                continue;
            }
            for word in runs(run, |c| c.is_ascii_alphanumeric() || c == '_') {
                out.push_str(&self.renew(word));
            }
        }
        out
    }

    fn renew(&mut self, word: &str) -> String {
        if let Some(new) = self.new.get(word) {
            return new.clone();
        }
        let Some(form) = Form::of(word) else {
            return word.to_owned();
        };
        let new = loop {
            let new = form.fresh();
            if !self.taken.contains(&new) {
                break new;
            }
        };
        self.taken.push_str(&new);
        self.taken.push('\n');
        self.new.insert(word.to_owned(), new.clone());
        new
    }
}

/// Cuts a text into runs of the letters that `belongs` takes, and single other ones.
fn runs(text: &str, belongs: impl Fn(char) -> bool) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len()).max(first.len_utf8());
        let (run, after) = rest.split_at(end);
        rest = after;
        Some(run)
    })
}

/// What an id looks like, so that the new one looks like it.
enum Form<'a> {
    Uuid,
    /// With the length of the whole.
    Handle(usize),
    /// Such as `evt_2026_1039`, with what stands before the number.
    Numbered(&'a str),
    /// Such as `rsv_4thc04mm36`, with the prefix and the length of the rest.
    Prefixed(&'a str, usize),
    /// Of a trace, or a digest, with its length.
    Hexadecimal(usize),
}

impl<'a> Form<'a> {
    fn of(word: &'a str) -> Option<Self> {
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if word.len() > LONGEST_ID {
            return Some(Self::Handle(word.len()));
        }
        if is_uuid(word) {
            return Some(Self::Uuid);
        }
        if let Some((prefix, rest)) = word.split_once('_') {
            if let Some((year, number)) = rest.split_once('_') {
                let numbered = year.len() == 4 && number.len() >= 4 && digits(year) && digits(number);
                return numbered.then(|| Self::Numbered(&word[..word.len() - number.len()]));
            }
            let opaque = rest.len() >= 6
                && rest.bytes().any(|byte| byte.is_ascii_digit())
                && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
            return opaque.then_some(Self::Prefixed(prefix, rest.len()));
        }
        let hexadecimal = matches!(word.len(), 16 | 24 | 32)
            && word.bytes().any(|byte| byte.is_ascii_digit())
            && word.bytes().any(|byte| byte.is_ascii_lowercase())
            && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        hexadecimal.then_some(Self::Hexadecimal(word.len()))
    }

    fn fresh(&self) -> String {
        match self {
            Self::Uuid => Uuid::new_v4().to_string(),
            Self::Handle(length) => HANDLE.chars().chain(alphanumeric(length - HANDLE.len())).collect(),
            Self::Numbered(before) => format!("{before}{}", fastrand::u32(1_000..10_000)),
            Self::Prefixed(prefix, length) => {
                let rest = std::iter::repeat_with(|| fastrand::digit(36)).take(length - 1);
                // One digit at least, as in the ids that are there.
                format!("{prefix}_{}{}", rest.collect::<String>(), fastrand::digit(10))
            }
            Self::Hexadecimal(length) => std::iter::repeat_with(|| fastrand::digit(16)).take(*length).collect(),
        }
    }
}

fn alphanumeric(length: usize) -> impl Iterator<Item = char> {
    std::iter::repeat_with(fastrand::alphanumeric).take(length)
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36 && Uuid::try_parse(word).is_ok()
}

/// The text with the digest of each body where the file has one.
fn with_digests(mut text: String) -> Result<String, serde_json::Error> {
    let file: Value = serde_json::from_str(&text)?;
    for record in file["Records"].as_array().into_iter().flatten() {
        if let (Some(body), Some(old)) = (record["body"].as_str(), record["md5OfBody"].as_str()) {
            text = text.replace(old, &format!("{:x}", md5::compute(body)));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
