//! Test rings that need tools which not every machine has. Such a ring says why it does not run and passes, so that
//! `cargo test` works on a plain machine. Where `HOLDFAST_REQUIRE_RINGS` names it, as in CI, it fails instead, so that a
//! skipped ring is never taken for a proof.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

/// The names of the rings that must run, separated by commas.
pub const REQUIRED: &str = "HOLDFAST_REQUIRE_RINGS";

/// Says in one line on standard error that a ring does not run. `reason` names what is missing and how to get it.
///
/// # Panics
/// When the environment requires the ring.
pub fn skip_or_fail(ring: &str, reason: &str) {
    let required = env::var(REQUIRED).unwrap_or_default();
    assert!(!names(&required, ring), "{REQUIRED} asks for the ring {ring}, which cannot run: {reason}");
    // Not by a macro: the test harness shows what macros print only when a test fails.
    drop(io::stderr().write_all(format!("SKIPPED {ring}: {reason}\n").as_bytes()));
}

/// The whole path of a program that this machine finds by its name.
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn names(list: &str, ring: &str) -> bool {
    list.split(',').any(|name| name.trim() == ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_is_required_when_the_list_names_it() {
        let lists = ["", "arm64", "arm64,deployment", "deployment, arm64", "arm64-other", "deployment"];
        let required = lists.map(|list| names(list, "arm64"));
        assert_eq!(required, [false, true, true, true, false, false]);
    }
}
