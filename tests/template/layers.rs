//! Which module of `shared` may know which. Triggers and the base know nothing of any system, so that the next system can
//! stand on them; the domain knows nobody who does I/O, but for what keeps and serves its values.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use local_stack::build::workspace;

/// What knows of a system: the systems themselves, their domains and the clients of their services.
const SYSTEMS: [&str; 10] = [
    "settlement",
    "booking",
    "waiting_room",
    "reservation",
    "admission",
    "field",
    "client::inventory",
    "client::payments",
    "client::realtime",
    "client::reservations",
];

/// What does I/O, or is about it.
const INPUT_AND_OUTPUT: [&str; 6] = ["client", "config", "idempotency", "start", "telemetry", "trigger"];

/// What keeps the domain's values, and serves those who ask for them.
const KEEPING: [&str; 19] = [
    "admission::token",
    "reservation::entrance",
    "reservation::relay",
    "reservation::service",
    "reservation::sweep",
    "reservation::table",
    "waiting_room::called",
    "waiting_room::clock",
    "waiting_room::configured",
    "waiting_room::connected",
    "waiting_room::desk",
    "waiting_room::joined",
    "waiting_room::measured",
    "waiting_room::notice",
    "waiting_room::push",
    "waiting_room::service",
    "waiting_room::settled",
    "waiting_room::settling",
    "waiting_room::table",
];

/// Every file of the library with the paths into the crate that it names outside of its tests.
fn paths_by_file() -> BTreeMap<PathBuf, Vec<String>> {
    let root = workspace().join("shared/src");
    let mut folders = vec![root.clone()];
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs" && name != "lib.rs") {
                let source = fs::read_to_string(&path).expect("a source is text");
                let code = source.split("#[cfg(test)]").next().unwrap_or_default();
                let file = path.strip_prefix(&root).expect("it is in there").to_owned();
                let named = [paths(code), siblings(code, &file)].concat();
                found.insert(file, named);
            }
        }
    }
    found
}

/// The paths behind `crate::`, those of a list too, with two segments each at most.
fn paths(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let tree = rest.split(';').next().unwrap_or_default();
        let Some(list) = tree.strip_prefix('{') else {
            found.push(start_of(tree));
            continue;
        };
        let (mut depth, mut prefix, mut item) = (0, String::new(), String::new());
        for c in list.chars() {
            match c {
                '{' if depth == 0 => {
                    depth = 1;
                    prefix = std::mem::take(&mut item);
                }
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => {
                    depth -= 1;
                    found.push(start_of(&format!("{prefix}{item}")));
                    item.clear();
                }
                ',' if depth <= 1 => {
                    found.push(start_of(&format!("{}{item}", if depth == 1 { &prefix } else { "" })));
                    item.clear();
                }
                _ if depth <= 1 && !c.is_whitespace() => item.push(c),
                _ => {}
            }
        }
        found.push(start_of(&item));
    }
    found.retain(|path| !path.is_empty());
    found
}

/// The systems that a file names as its siblings, by `super::`.
fn siblings(code: &str, file: &Path) -> Vec<String> {
    let folder = file.parent().unwrap_or(Path::new("")).to_string_lossy();
    let named: Vec<&str> =
        code.split("super::").skip(1).map(|rest| rest.split(';').next().unwrap_or_default()).collect();
    let is_sibling = |system: &&&str| {
        let name = match system.split_once("::") {
            Some((parent, name)) => (parent == folder).then_some(name),
            None => folder.is_empty().then_some(**system),
        };
        let is_word =
            |text: &&str| text.split(|c: char| !c.is_ascii_lowercase() && c != '_').any(|word| Some(word) == name);
        named.iter().any(is_word)
    };
    SYSTEMS.iter().filter(is_sibling).map(|system| (*system).to_owned()).collect()
}

fn start_of(path: &str) -> String {
    let segments: Vec<&str> = path.trim().split("::").take(2).collect();
    let segment =
        |segment: &&str| segment.chars().take_while(|c| c.is_ascii_lowercase() || *c == '_').collect::<String>();
    let named = segments.iter().map(segment).filter(|segment| !segment.is_empty());
    named.collect::<Vec<_>>().join("::")
}

fn is_in(path: &str, modules: &[&str]) -> bool {
    modules.iter().any(|module| path == *module || path.strip_prefix(module).is_some_and(|rest| rest.starts_with("::")))
}

fn stands_in(file: &Path, modules: &[&str]) -> bool {
    let mut modules = modules.iter().map(|module| module.replace("::", "/"));
    modules.any(|module| file.starts_with(&module) || file == Path::new(&module).with_extension("rs"))
}

#[test]
fn triggers_and_base_know_nothing_of_any_system() {
    let files = paths_by_file();
    assert!(files.len() > 30, "the sources are found");
    for (file, paths) in files.into_iter().filter(|(file, _)| !stands_in(file, &SYSTEMS)) {
        for path in paths {
            assert!(!is_in(&path, &SYSTEMS), "{}: it must not know {path}", file.display());
        }
    }
}

#[test]
fn the_domain_does_no_input_and_output() {
    let is_domain = |file: &Path| {
        stands_in(file, &["reservation", "waiting_room", "admission", "field"]) && !stands_in(file, &KEEPING)
    };
    for (file, paths) in paths_by_file().into_iter().filter(|(file, _)| is_domain(file)) {
        for path in paths {
            assert!(!is_in(&path, &INPUT_AND_OUTPUT), "{}: it must not know {path}", file.display());
        }
    }
}

#[test]
fn a_path_is_found_alone_and_in_a_list() {
    let code = "use crate::failure::Failure;\nuse crate::{\n    client::{aws::fault, inventory::{A, B}},\n    json::Object,\n    \
                settlement,\n};\nlet x = crate::start::run(1);";
    assert_eq!(
        paths(code),
        ["failure", "client::aws", "client::inventory", "client", "json", "settlement", "start::run"]
    );
}

#[test]
fn a_sibling_is_found_where_it_is_one() {
    let code = "use super::{\n    aws::fault,\n    inventory::Call,\n};\nlet x = super::settlement;";
    assert_eq!(siblings(code, Path::new("client/bus.rs")), ["client::inventory"]);
    assert_eq!(siblings(code, Path::new("start.rs")), ["settlement"]);
    assert_eq!(siblings(code, Path::new("client/aws/http.rs")), Vec::<String>::new());
}
