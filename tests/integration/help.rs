//! `cargo local --help` is answered by a program that builds in a second, from texts. They are what the real one says.

use std::process::Command;

#[track_caller]
fn is_what_the_program_says(arguments: &[&str], text: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_local")).args(arguments).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mend = format!("write what it says: target/debug/local {} > tests/local/help/...", arguments.join(" "));
    assert_eq!(said, text, "{mend}");
}

#[test]
fn the_help_that_needs_no_build_is_the_programs_own() {
    is_what_the_program_says(&["--help"], include_str!("../local/help/local.txt"));
    is_what_the_program_says(&["up", "--help"], include_str!("../local/help/up.txt"));
    is_what_the_program_says(&["token", "--help"], include_str!("../local/help/token.txt"));
    is_what_the_program_says(&["new", "--help"], include_str!("../local/help/new.txt"));
}
