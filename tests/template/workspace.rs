//! The rules that every crate is compiled under. A lint that is forbidden in the workspace holds only where a package
//! takes the workspace's lints over; cargo says nothing of one that does not.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use local_stack::{
    build::{cargo, workspace},
    catalogue::{NAMES, QUEUED},
};
use serde_json::Value;

/// The manifests of the workspace's members, as cargo itself sees them.
fn members() -> BTreeSet<PathBuf> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    let output = command.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo answers in JSON");
    let packages = metadata["packages"].as_array().expect("there are packages");
    packages.iter().filter_map(|package| package["manifest_path"].as_str()).map(PathBuf::from).collect()
}

/// Every file of such a name in the folders of the repository, but for what a build or a tool left there.
fn files(wanted: impl Fn(&str) -> bool) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![workspace()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_ours =
                !["target", "node_modules"].contains(&name) && (!name.starts_with('.') || name == ".template");
            if path.is_dir() {
                folders.extend(is_ours.then_some(path));
            } else if wanted(name) {
                found.insert(path);
            }
        }
    }
    found
}

fn manifest(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("read {}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Why this package may be compiled under other rules than the workspace's; nothing when it may not.
fn escape(package: &Value) -> Option<&'static str> {
    let inherited = package["lints"]["workspace"] == true;
    // Generated code is included into a crate and so under its lints. What is forbidden can't be allowed again.
    (!inherited).then_some("it does not say `[lints] workspace = true`")
}

/// How a function is called where it is named: as its folder, its crate, its event and its type.
fn spellings(name: &str) -> [String; 4] {
    let mut capitals = String::new();
    for word in name.split('-') {
        let (first, rest) = word.split_at(1);
        capitals.extend([first.to_uppercase(), rest.to_owned()]);
    }
    [name.to_owned(), name.replace('-', "_"), name.replace('-', "."), capitals]
}

/// A package that is no member, and the root of a workspace of its own.
fn fuzzer() -> PathBuf {
    workspace().join("tests/fuzz")
}

/// The other one.
fn sidecar() -> PathBuf {
    workspace().join("tests/sidecar")
}

/// The packages of a lock file that come from a registry, with their versions.
fn locked(folder: &Path) -> BTreeSet<(String, String)> {
    let lock = manifest(&folder.join("Cargo.lock"));
    let packages = lock["package"].as_array().expect("a lock file has packages").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let foreign = packages.filter(|package| !package["source"].is_null());
    foreign.map(|package| (text(&package["name"]), text(&package["version"]))).collect()
}

#[test]
fn no_crate_of_ours_can_hold_unsafe_code() {
    let root = manifest(&workspace().join("Cargo.toml"));
    assert_eq!(root["workspace"]["lints"]["rust"]["unsafe_code"], "forbid");
    let members = members();
    assert!(members.len() >= 5, "the functions, the library and the tests: {members:?}");
    for path in &members {
        assert_eq!(escape(&manifest(path)), None, "{}", path.display());
    }
    // A package that is no member would be under no rule at all, so the only two have a copy of the rules.
    let mut manifests = files(|name| name == "Cargo.toml");
    manifests.remove(&workspace().join("Cargo.toml"));
    for path in [fuzzer(), sidecar()].map(|folder| folder.join("Cargo.toml")) {
        assert!(manifests.remove(&path));
        let package = manifest(&path);
        assert_eq!(escape(&package), None, "{}", path.display());
        assert_eq!(package["workspace"]["lints"], root["workspace"]["lints"], "{}", path.display());
    }
    assert_eq!(manifests, members);
}

#[test]
fn the_page_lists_the_files_that_a_new_function_changes() {
    let names_each = |text: &str| QUEUED.iter().all(|name| spellings(name).iter().any(|name| text.contains(name)));
    // Cargo writes its lock files by itself.
    let all = files(|name| name != "Cargo.lock").into_iter();
    let naming = all.filter(|path| fs::read_to_string(path).is_ok_and(|text| names_each(&text)));
    let naming = naming.map(|path| path.strip_prefix(workspace()).expect("it lies in there").display().to_string());
    let naming: BTreeSet<String> = naming.collect();
    let page = fs::read_to_string(workspace().join("functions/README.md")).expect("the page is there");
    let (count, list) = page.split_once(" changed by hand: ").expect("the page lists them");
    let list = list.lines().next().unwrap_or_default().split('`').skip(1).step_by(2).map(str::to_owned);
    let list: BTreeSet<String> = list.collect();
    assert_eq!(list, naming, "these name every function that settles, so the next one changes them");
    let count = count.rsplit(' ').next().and_then(|count| count.parse().ok());
    assert_eq!(count, Some(list.len()), "the page counts them");
}

#[test]
fn the_fuzzer_is_built_of_the_versions_that_are_deployed() {
    let deployed = locked(&workspace());
    let others: Vec<_> = locked(&fuzzer()).into_iter().filter(|package| !deployed.contains(package)).collect();
    let names: Vec<&str> = others.iter().map(|(name, _)| name.as_str()).collect();
    let mend = "copy Cargo.lock to tests/fuzz and run: cargo metadata --manifest-path tests/fuzz/Cargo.toml";
    assert_eq!(names, ["arbitrary", "libfuzzer-sys"], "{mend}");
}

/// The crates that a package is compiled of, each as cargo formats it.
fn tree(package: &str, edges: &str, format: &str) -> BTreeSet<String> {
    let mut command = cargo();
    command.args(["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", format]);
    let output = command.args(["--offline", "--locked"]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).expect("names are text");
    // A mark says that what a crate stands on is listed above.
    lines.lines().map(|line| line.trim_end_matches(" (*)").to_owned()).collect()
}

/// The names of the crates that a package is compiled of, its build scripts' included.
fn compiled_for(package: &str) -> BTreeSet<String> {
    let crates = tree(package, "normal,build", "{p}");
    crates.iter().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn who_is_on_call_waits_for_nothing_of_the_local_stack() {
    const ITS: [&str; 5] = ["local-stack", "dynoxide-rs", "libsqlite3-sys", "reqwest", "tonic-reflection"];
    let (redrive, stack) = (compiled_for("redrive"), compiled_for("local-stack"));
    for name in ITS {
        assert!(stack.contains(name), "{name} is a part of the local stack");
        assert!(!redrive.contains(name), "cargo redrive would have to build {name}");
    }
}

/// SAM builds each function by itself. A crate that one of them takes with a feature more is compiled once more for it, and
/// so is all that stands on that crate: for a feature of `bytes` that is the AWS SDK.
#[test]
fn a_deployment_compiles_once_what_all_functions_stand_on() {
    let foreign = |function| {
        let crates = tree(function, "normal", "{p} with {f}").into_iter();
        crates.filter(|line| !line.contains(" (/")).collect::<BTreeSet<String>>()
    };
    let functions = NAMES.map(|function| (function, foreign(function)));
    let name = |line: &str| line.split(" with ").next().unwrap_or_default().to_owned();
    let names = functions.iter().map(|(_, crates)| crates.iter().map(|line| name(line)).collect::<BTreeSet<_>>());
    let needed = names.reduce(|all, its| &all & &its).expect("there are functions");
    assert!(needed.len() > 150, "all functions stand on {} crates", needed.len());
    let [(first, known), others @ ..] = &functions;
    for (function, crates) in others {
        let differ: Vec<_> = (crates ^ known).into_iter().filter(|line| needed.contains(&name(line))).collect();
        assert!(differ.is_empty(), "{function} and {first} differ; ask for all of these in shared: {differ:#?}");
    }
}

/// What a reader sees at a glance, also beside another file. The formatter breaks code at 120 and leaves comments alone.
const LONGEST_COMMENT: usize = 128;

/// The numbers of a source's lines that are comments, and longer than that. A row of a table can't be wrapped.
fn long_comments(source: &str) -> Vec<usize> {
    let is_long = |line: &str| {
        let comment = line.trim_start();
        let is_row = comment.trim_start_matches(['/', '!']).trim_start().starts_with('|');
        comment.starts_with("//") && !is_row && line.chars().count() > LONGEST_COMMENT
    };
    source.lines().zip(1..).filter(|(line, _)| is_long(line)).map(|(_, number)| number).collect()
}

#[test]
fn no_comment_is_longer_than_its_reader_sees_at_a_glance() {
    let sources = files(|name| Path::new(name).extension().is_some_and(|extension| extension == "rs"));
    assert!(sources.len() > 300, "only {} sources were found", sources.len());
    let mut long = Vec::new();
    for path in sources {
        let source = fs::read_to_string(&path).expect("a source is text");
        long.extend(long_comments(&source).into_iter().map(|line| format!("{}:{line}", path.display())));
    }
    assert!(long.is_empty(), "wrap these at {LONGEST_COMMENT} characters:\n{}", long.join("\n"));
}

#[test]
fn a_comment_that_is_too_long_is_found() {
    let fits = "é".repeat(LONGEST_COMMENT - 3);
    let found = |start: &str| long_comments(&format!("code\n{start}{fits}\n"));
    assert_eq!([found("// "), found("   "), found("//! | ")], [[0; 0]; 3]);
    assert_eq!([found("/// "), found("//! "), found("    // ")], [[2]; 3]);
}

#[test]
fn a_package_that_escapes_the_lints_is_found() {
    for text in ["", "[lints]", "[lints]\nworkspace = false", "[lints.rust]\nunsafe_code = 'allow'"] {
        let package: Value = toml::from_str(text).expect("the text is TOML");
        assert!(escape(&package).is_some(), "{text:?}");
    }
}
