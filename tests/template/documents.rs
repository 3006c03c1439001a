//! The pages: every link between them leads somewhere, and the first of them stays short.
//!
//! A page is found by its links only, and a heading that is renamed breaks them in silence.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Component, Path, PathBuf},
};

use local_stack::build::workspace;

/// What a person reads before deciding to read on.
const MOST_LINES_OF_THE_README: usize = 250;

/// The other pages; longer ones are split by what they are about.
const MOST_LINES_OF_A_PAGE: usize = 350;

/// Hidden folders with pages of ours. Others belong to tools.
const HIDDEN: [&str; 2] = [".ci", ".template"];

/// Every page of the repository by its path, but for what a build or a tool left there.
fn pages() -> BTreeMap<PathBuf, String> {
    let root = workspace();
    let mut found = BTreeMap::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder can be read") {
            let path = entry.expect("an entry can be read").path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let skipped =
                ["target", "node_modules"].contains(&name) || name.starts_with('.') && !HIDDEN.contains(&name);
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("a page is text");
                found.insert(path.strip_prefix(&root).expect("it lies in the workspace").to_owned(), text);
            }
        }
    }
    found
}

/// A page's lines outside of its code blocks.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    page.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The line without its code spans, in which brackets are no links.
fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Where the page's links and pictures lead. A link's text may go on in the next line.
fn links(page: &str) -> Vec<String> {
    let text = prose(page).map(without_code).collect::<Vec<_>>().join(" ");
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
    targets.map(|(target, _)| target.to_owned()).collect()
}

/// The anchors of a page's headings, made as GitHub makes them: small letters, spaces as hyphens, punctuation left out, and a
/// number behind a heading that is there already.
fn anchors(page: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in prose(page) {
        let Some(heading) = line.strip_prefix('#').map(|rest| rest.trim_start_matches('#')) else { continue };
        let Some(heading) = heading.strip_prefix(' ') else { continue };
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        let anchor = heading.trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-");
        let mut numbered = (1..).map(|number| format!("{anchor}-{number}"));
        let mut name = anchor.clone();
        while !found.insert(name.clone()) {
            name = numbered.next().expect("numbers do not end");
        }
    }
    found
}

/// The path without its `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            plain.pop();
        } else {
            plain.push(part);
        }
    }
    plain
}

/// The links that lead nowhere. `exists` says whether there is such a file or folder.
fn broken(pages: &BTreeMap<PathBuf, String>, exists: impl Fn(&Path) -> bool) -> Vec<String> {
    let anchors: BTreeMap<&Path, _> = pages.iter().map(|(path, page)| (path.as_path(), anchors(page))).collect();
    let mut broken = Vec::new();
    for (path, page) in pages {
        for link in links(page).iter().filter(|link| !link.contains("://")) {
            let (file, anchor) =
                link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let folder = path.parent().unwrap_or(Path::new(""));
            let target = if file.is_empty() { path.clone() } else { plain(&folder.join(file)) };
            let named = |anchor: &str| anchors.get(target.as_path()).is_some_and(|names| names.contains(anchor));
            if !exists(&target) {
                broken.push(format!("{}: there is no file {}, which it links to", path.display(), target.display()));
            } else if let Some(anchor) = anchor.filter(|anchor| !named(anchor)) {
                broken.push(format!("{}: {} has no heading #{anchor}", path.display(), target.display()));
            }
        }
    }
    broken
}

/// The pages that are longer than their reader has time for.
fn too_long(pages: &BTreeMap<PathBuf, String>) -> Vec<String> {
    let most =
        |path: &Path| if path == Path::new("README.md") { MOST_LINES_OF_THE_README } else { MOST_LINES_OF_A_PAGE };
    let lines = pages.iter().map(|(path, page)| (path, page.lines().count(), most(path)));
    let long = lines.filter(|(_, lines, most)| lines > most);
    long.map(|(path, lines, most)| format!("{}: it has {lines} lines, of {most} at most", path.display())).collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let pages = pages();
    for page in ["README.md", "functions/README.md", ".template/README.md", "shared/README.md", "events/README.md"] {
        assert!(pages.contains_key(Path::new(page)), "{page} is not looked at: {:?}", pages.keys());
    }
    let count: usize = pages.values().map(|page| links(page).len()).sum();
    assert!(count > 100, "only {count} links were found");
    let broken = broken(&pages, |path| workspace().join(path).exists());
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn no_page_is_longer_than_its_reader_has_time_for() {
    let long = too_long(&pages());
    assert!(long.is_empty(), "split it by what it is about:\n{}", long.join("\n"));
}

/// The tests that a page names, as `target::module::function`.
fn named_tests(page: &str) -> Vec<Vec<&str>> {
    let named = page.split('`').skip(1).step_by(2).map(|code| code.split("::").collect::<Vec<_>>());
    named.filter(|path| path.len() == 3).collect()
}

/// What is promised of a hard case is a test's, or nobody's.
#[test]
fn every_hard_case_names_a_test_that_is_there() {
    let page = fs::read_to_string(workspace().join("tests/HARD-CASES.md")).expect("the page is there");
    let cases = page.lines().filter(|line| line.starts_with("| ") && line.contains("::")).count();
    let named = named_tests(&page);
    assert!(cases >= 22 && named.len() == cases, "{cases} cases, {} tests", named.len());
    for path in named {
        // What the template alone decides is a rule's, which its edits must turn red.
        let (folder, said) = match path[0] {
            "template" => ("template/rules", format!("check: {},", path[2])),
            target => (target, format!("async fn {}()", path[2])),
        };
        let file = workspace().join(format!("tests/{folder}/{}.rs", path[1]));
        let source = fs::read_to_string(&file).unwrap_or_default();
        assert!(source.contains(&said), "{}: there is no test {}", file.display(), path[2]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is broken in a page `a/README.md`, beside a page `b.md`.
    #[track_caller]
    fn check(page: &str, expected: &[&str]) {
        let other = "# First\n\n## It's `cargo local`: 2 ways\n\n```sh\n# no heading\n```\n## First\n";
        let pages = [("a/README.md", page), ("b.md", other)];
        let pages = pages.map(|(path, text)| (PathBuf::from(path), text.to_owned())).into();
        let files = ["a/README.md", "b.md", "a/picture.svg"];
        let found = broken(&pages, |path| files.iter().any(|file| Path::new(file) == path));
        assert_eq!(found, expected, "{page}");
    }

    #[test]
    fn a_link_to_what_is_there_is_sound() {
        check("[other](../b.md), [here](#own), ![a picture](picture.svg)\n# Own", &[]);
        check("[by heading](../b.md#its-cargo-local-2-ways) and [the second](../b.md#first-1)", &[]);
        check("[elsewhere](https://example.com/nothing#at-all)", &[]);
    }

    #[test]
    fn a_link_to_nothing_is_found() {
        check("[gone](../c.md)", &["a/README.md: there is no file c.md, which it links to"]);
        check("[over a line\nbreak](b.md)", &["a/README.md: there is no file a/b.md, which it links to"]);
        check("[renamed](../b.md#third)", &["a/README.md: b.md has no heading #third"]);
        check("[code](../b.md#no-heading)", &["a/README.md: b.md has no heading #no-heading"]);
        check("[here](#nowhere)", &["a/README.md: a/README.md has no heading #nowhere"]);
    }

    #[test]
    fn code_holds_no_links() {
        check("`[text](address)`\n```md\n[text](address)\n```", &[]);
    }

    #[test]
    fn a_page_that_grows_is_found() {
        let page = |path: &str, lines| (PathBuf::from(path), "line\n".repeat(lines));
        let fitting = [page("README.md", MOST_LINES_OF_THE_README), page("a/README.md", MOST_LINES_OF_A_PAGE)];
        assert_eq!(too_long(&fitting.into()), <[&str; 0]>::default());
        let grown = [page("README.md", MOST_LINES_OF_THE_README + 1), page("a/README.md", MOST_LINES_OF_A_PAGE + 1)];
        let found = too_long(&grown.into());
        assert_eq!(
            found,
            ["README.md: it has 251 lines, of 250 at most", "a/README.md: it has 351 lines, of 350 at most"]
        );
    }
}
