use std::collections::BTreeSet;

use super::*;

/// Every code that PostgreSQL 15 can answer with (its errcodes.txt), behind what it means here.
const CODES: &str = include_str!("codes.txt");

#[test]
fn every_code_of_postgresql_has_its_decision() {
    let mut seen = BTreeSet::new();
    for line in CODES.lines() {
        let mut words = line.split(' ');
        let expected = words.next().unwrap();
        for code in words {
            assert_eq!(format!("{:?}", of_code(code)), expected, "{code}");
            assert!(seen.insert(code), "{code} stands there twice");
            assert_eq!(SqlState::from_code(code).code(), code);
        }
    }
    assert_eq!(seen.len(), 260, "all of them");
}

#[test]
fn what_nobody_classified_is_tried_again_by_itself() {
    for code in ["", "5", "ZZ999", "XX000", "é", "0A001"] {
        assert_eq!(of_code(code), Decision::Record, "{code}");
    }
}

#[test]
fn what_is_no_word_of_postgresql_is_the_connections_fault() {
    assert_eq!(Error::Lost("closed".to_owned()).decision(), Decision::Connection);
    assert_eq!(Error::TimedOut("a transaction").decision(), Decision::Connection);
    assert_eq!(Error::NoAccess("no credentials".to_owned()).decision(), Decision::Access);
    assert_eq!(Error::Untrusted("UnknownIssuer".to_owned()).decision(), Decision::Unready);
    assert_eq!(Error::TooOld { found: 1, needed: 2 }.decision(), Decision::Unready);
}

#[test]
fn a_fault_is_told_by_code_and_constraint_and_says_what_to_do() {
    let sql = |code: &str, constraint: Option<&str>| {
        Error::Sql { code: code.to_owned(), constraint: constraint.map(str::to_owned) }.to_string()
    };
    assert_eq!(sql("23514", Some("check_dates")), "the database answers 23514 by check_dates");
    assert_eq!(
        sql("42P01", None),
        "the database answers 42P01, so a table or a right is missing; run the function booking-migrate"
    );
    assert!(sql("2200H", None).contains("widen"), "{}", sql("2200H", None));
    assert!(sql("53300", None).contains("no room"), "{}", sql("53300", None));
    assert!(sql("26000", None).contains("DB_STATEMENTS"), "{}", sql("26000", None));
    assert!(sql("28P01", None).contains("secret"), "{}", sql("28P01", None));
}
