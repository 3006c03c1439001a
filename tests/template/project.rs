//! The files that say what is deployed, and edits to them.

use std::{collections::BTreeMap, fs, sync::Arc};

use local_stack::build::workspace;
use serde_json::Value;

use crate::{reader, template::Template};

/// The pages that the rules read.
#[derive(Debug, Clone)]
pub(crate) struct Pages {
    /// `README.md`.
    pub(crate) readme: String,
    /// `functions/README.md`.
    pub(crate) operating: String,
    /// `functions/WAITING-ROOM.md`.
    pub(crate) waiting: String,
    /// `functions/RESERVATIONS.md`.
    pub(crate) reservations: String,
    /// `functions/BOOKINGS.md`.
    pub(crate) bookings: String,
    /// `.template/README.md`.
    pub(crate) deploying: String,
    /// `.template/PARAMETERS.md`.
    pub(crate) parameters: String,
}

/// The files' texts.
#[derive(Debug, Clone)]
pub(crate) struct Texts {
    pub(crate) template: String,
    /// The templates of `.template/`, which are nested, by the names of their files.
    pub(crate) nested: BTreeMap<String, String>,
    pub(crate) stages: String,
    pub(crate) pages: Pages,
}

/// The files, read.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) template: Arc<Template>,
    /// The nested templates as they are written, by the names of their files.
    pub(crate) nested: BTreeMap<String, Arc<Value>>,
    /// `samconfig.toml`.
    pub(crate) stages: Value,
    pub(crate) pages: Pages,
}

/// A file that an edit changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum File {
    Template,
    /// `.template/dashboard.yaml`.
    Dashboard,
    /// `.template/dashboard-reservations.yaml`.
    ReservationsDashboard,
    /// `.template/dashboard-waiting-room.yaml`.
    WaitingRoomDashboard,
    Stages,
    /// `README.md`.
    Readme,
    /// `functions/README.md`.
    Operating,
    /// `functions/WAITING-ROOM.md`.
    Waiting,
    /// `functions/RESERVATIONS.md`.
    Reservations,
    /// `functions/BOOKINGS.md`.
    Bookings,
    /// `.template/README.md`.
    Deploying,
    /// `.template/PARAMETERS.md`.
    Parameters,
}

const DASHBOARD: &str = "dashboard.yaml";
const RESERVATIONS_DASHBOARD: &str = "dashboard-reservations.yaml";
const WAITING_ROOM_DASHBOARD: &str = "dashboard-waiting-room.yaml";

/// A change to the first place in a file where a text stands.
#[derive(Debug)]
pub(crate) struct Edit {
    file: File,
    text: &'static str,
    with: &'static str,
}

impl Texts {
    #[track_caller]
    pub(crate) fn read() -> Self {
        let read = |path: &str| {
            fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("read {path}: {error}"))
        };
        let beside =
            fs::read_dir(workspace().join(".template")).unwrap_or_else(|error| panic!("list .template: {error}"));
        let names = beside.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let nested = names.filter(|name| name.ends_with(".yaml"));
        Self {
            template: read("template.yaml"),
            nested: nested.map(|name| (name.clone(), read(&format!(".template/{name}")))).collect(),
            stages: read("samconfig.toml"),
            pages: Pages {
                readme: read("README.md"),
                operating: read("functions/README.md"),
                waiting: read("functions/WAITING-ROOM.md"),
                reservations: read("functions/RESERVATIONS.md"),
                bookings: read("functions/BOOKINGS.md"),
                deploying: read(".template/README.md"),
                parameters: read(".template/PARAMETERS.md"),
            },
        }
    }
}

impl Project {
    pub(crate) fn parse(texts: &Texts) -> Result<Self, String> {
        let nested = texts.nested.iter().map(|(name, text)| Ok((name.clone(), Arc::new(nested(name, text)?))));
        Ok(Self {
            template: Arc::new(template(&texts.template)?),
            nested: nested.collect::<Result<_, String>>()?,
            stages: stages(&texts.stages)?,
            pages: texts.pages.clone(),
        })
    }

    /// The files after an edit. What the edit left as it was is not read again.
    pub(crate) fn edited(&self, before: &Texts, after: &Texts) -> Result<Self, String> {
        let mut edited = Self {
            template: Arc::clone(&self.template),
            nested: self.nested.clone(),
            stages: stages(&after.stages)?,
            pages: after.pages.clone(),
        };
        if after.template != before.template {
            edited.template = Arc::new(template(&after.template)?);
        }
        for (name, text) in after.nested.iter().filter(|(name, text)| before.nested.get(*name) != Some(text)) {
            edited.nested.insert(name.clone(), Arc::new(nested(name, text)?));
        }
        Ok(edited)
    }
}

fn template(text: &str) -> Result<Template, String> {
    Template::parse(text).map_err(|error| format!("template.yaml: {error}"))
}

fn nested(name: &str, text: &str) -> Result<Value, String> {
    reader::yaml(text).map_err(|error| format!("{name}: {error}"))
}

fn stages(text: &str) -> Result<Value, String> {
    toml::from_str(text).map_err(|error| format!("samconfig.toml: {error}"))
}

/// An edit to `template.yaml`.
pub(crate) const fn edit(text: &'static str, with: &'static str) -> Edit {
    edit_in(File::Template, text, with)
}

/// An edit to any of the files.
pub(crate) const fn edit_in(file: File, text: &'static str, with: &'static str) -> Edit {
    Edit { file, text, with }
}

impl Edit {
    /// The texts after the edit. A text that no longer stands there makes the edit stale, and then it proves nothing.
    pub(crate) fn apply(&self, texts: &Texts) -> Result<Texts, String> {
        let mut edited = texts.clone();
        let file = match self.file {
            File::Template => &mut edited.template,
            File::Dashboard => edited.nested.get_mut(DASHBOARD).ok_or("the dashboard is not there")?,
            File::ReservationsDashboard => {
                edited.nested.get_mut(RESERVATIONS_DASHBOARD).ok_or("the reservations' dashboard is not there")?
            }
            File::WaitingRoomDashboard => {
                edited.nested.get_mut(WAITING_ROOM_DASHBOARD).ok_or("the waiting room's dashboard is not there")?
            }
            File::Stages => &mut edited.stages,
            File::Readme => &mut edited.pages.readme,
            File::Operating => &mut edited.pages.operating,
            File::Waiting => &mut edited.pages.waiting,
            File::Reservations => &mut edited.pages.reservations,
            File::Bookings => &mut edited.pages.bookings,
            File::Deploying => &mut edited.pages.deploying,
            File::Parameters => &mut edited.pages.parameters,
        };
        if self.text == self.with || !file.contains(self.text) {
            return Err(format!("the edit is stale, its text is not there: {self:?}"));
        }
        *file = file.replacen(self.text, self.with, 1);
        Ok(edited)
    }
}
