use std::{collections::BTreeSet, env};

use super::*;
use crate::scenario::{self, EventFile, events_folder};

const NEW: &str = "booking.withdrawn";

/// A copy of `events/`, which goes with the value.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let folder = env::temp_dir().join(format!("holdfast-recast-{}", Uuid::new_v4()));
        for function in QUEUED {
            fs::create_dir_all(folder.join(function)).unwrap();
            for case in CASES {
                let file = Path::new(function).join(case).with_extension("json");
                fs::copy(events_folder().join(&file), folder.join(&file)).unwrap();
            }
        }
        Self(folder)
    }

    fn texts(&self) -> BTreeMap<PathBuf, String> {
        let folders = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|entry| entry.unwrap().path());
        files.map(|path| (path.clone(), fs::read_to_string(path).unwrap())).collect()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Every id by which two files could meet in one stack.
fn ids(files: &[EventFile]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for file in files {
        ids.extend(file.records.iter().map(|record| record.message_id.clone()));
        for given in &file.scenario.given {
            ids.extend([given.reservation_id.clone(), given.event_id.clone(), given.user_id.clone()]);
        }
        ids.extend(file.scenario.then.iter().flatten().filter_map(|promise| promise.reservation_id.clone()));
    }
    ids
}

/// The files of a new type as if the type were the one that they come from, whose function there is.
fn turned_back(folder: &Folder, made: &[PathBuf], from: &str) -> Vec<EventFile> {
    let there = folder.0.join("turned-back").join(from);
    fs::create_dir_all(&there).unwrap();
    let turned = made.iter().map(|path| {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(NEW) && !text.contains(from), "{}", path.display());
        let text = text.replace(NEW, &from.replace('-', ".")).replace("booking-withdrawn", from);
        let back = there.join(path.file_name().unwrap());
        fs::write(&back, text).unwrap();
        scenario::load(back).unwrap()
    });
    turned.collect()
}

#[test]
fn a_new_type_gets_the_six_files_with_ids_that_no_other_file_has() {
    for from in QUEUED {
        let folder = Folder::new();
        let before = scenario::load_all(&folder.0).unwrap();
        let made = recast(&folder.0, NEW, from).unwrap();
        let names: Vec<_> = made.iter().map(|path| path.strip_prefix(&folder.0).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, CASES.map(|case| format!("booking-withdrawn/{case}.json")));

        let files = turned_back(&folder, &made, from);
        assert_eq!(ids(&files).intersection(&ids(&before)).collect::<Vec<_>>(), [""; 0], "{from}");
        let source: Vec<_> = before.iter().filter(|file| file.function == from).collect();
        assert_eq!(ids(&files).len(), source.iter().map(|file| ids(&[(*file).clone()]).len()).sum::<usize>(), "{from}");
        for path in &made {
            let file: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
            for record in file["Records"].as_array().unwrap() {
                let digest = format!("{:x}", md5::compute(record["body"].as_str().unwrap()));
                assert_eq!(record["md5OfBody"], digest, "{}", path.display());
            }
        }
    }
}

#[test]
fn nothing_is_overwritten_and_then_nothing_is_made() {
    let folder = Folder::new();
    recast(&folder.0, NEW, "payment-failed").unwrap();
    fs::remove_file(folder.0.join("booking-withdrawn/exhausted.json")).unwrap();
    let before = folder.texts();
    let refused = recast(&folder.0, NEW, "payment-approved").unwrap_err().to_string();
    assert!(refused.contains("nothing is overwritten") && refused.contains("single.json"), "{refused}");
    assert!(!refused.contains("exhausted.json"), "{refused}");
    recast(&folder.0, "payment.failed", "payment-failed").unwrap_err();
    assert!(folder.texts() == before);
}

#[test]
fn a_type_that_is_no_name_and_a_function_that_is_not_there_are_refused() {
    let folder = Folder::new();
    let long = "x".repeat(41);
    for bad in ["", ".", "Booking", "a b", "../x", "a..b", "a.", "a/b", "a\nb", "9a", "é", "payment-failed", &long] {
        let refused = recast(&folder.0, bad, "payment-failed").unwrap_err().to_string();
        assert!(refused.contains("words of small letters"), "{refused}");
    }
    let refused = recast(&folder.0, NEW, "payment.failed").unwrap_err().to_string();
    assert!(refused.contains("no function \"payment.failed\"") && refused.contains("payment-approved"), "{refused}");
    assert_eq!(folder.texts().len(), QUEUED.len() * CASES.len());
}

#[test]
fn only_ids_are_renewed_and_one_id_gets_one_new_name() {
    let mut ids = Ids { taken: String::new(), new: BTreeMap::new() };
    let kept =
        r#""about: 12 records of one_reservation", 2026-11-20T09:14:20Z, 1795166060370, us-east-1, rsv_7\u0007k"#;
    assert_eq!(ids.renewed(kept), kept);
    let text = "rsv_4thc04mm36 evt_2026_1039 8b53a398-4933-4b1b-ba8c-825b5d2522b9 00-5e2c3ae0abdda216614f0076a60df8da-131a6bd80eebc1c5-01";
    let new = ids.renewed(text);
    assert_eq!(new.len(), text.len());
    let pairs = new.split(' ').zip(text.split(' '));
    assert!(pairs.clone().all(|(new, old)| new != old), "{new}");
    assert!(new.starts_with("rsv_") && new.contains(" evt_2026_") && new.ends_with("-01"), "{new}");
    assert_eq!(ids.renewed(text), new);
}
