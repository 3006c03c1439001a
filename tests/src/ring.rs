//! Test rings that need tools which not every machine has, or more time than `cargo test` should take. Such a ring says why it
//! does not run and passes, so that `cargo test` works on a plain machine. Where `HOLDFAST_REQUIRE_RINGS` names it, as in CI,
//! it runs, or fails where it cannot, so that a skipped ring is never taken for a proof.

use std::{
    env,
    io::{self, Write},
    path::PathBuf,
};

use shared::name::{Named, names};

/// The names of the rings that must run, separated by commas.
pub const REQUIRED: &str = "HOLDFAST_REQUIRE_RINGS";

names! {
    /// A ring that not every `cargo test` runs, by what it needs.
    pub enum Ring {
        /// What builds the functions for arm64, and QEMU, which runs them.
        Arm64 = "arm64",
        /// What needs Chromium, and what the tests load into it from npm.
        Browser = "browser",
        /// The programs that read the document of the reservation API: those of `.ci/requirements-api.txt`.
        Contract = "contract",
        /// SAM and MiniStack: the template, deployed.
        Deployment = "deployment",
        /// MiniStack, whose queues are compared with ours.
        Mapping = "mapping",
        /// node, and the npm packages of `tests/contract/outsiders`.
        Outsiders = "outsiders",
        /// PostgreSQL's programs.
        Postgres = "postgres",
        /// Ten minutes in which the functions are compiled as for a deployment.
        Release = "release",
        /// The embedded PostgreSQL, once it is built.
        Sidecar = "sidecar",
        /// cargo-deny, which judges licences and advisories.
        SupplyChain = "supply-chain",
        /// The programs that the lines of `cargo local up` are for, such as bash and curl.
        Up = "up",
    }
}

impl Ring {
    /// Whether the environment requires the ring.
    pub fn is_required(self) -> bool {
        lists(&env::var(REQUIRED).unwrap_or_default(), self)
    }

    /// Says in one line on standard error that the ring does not run. `reason` names what is missing and how to get it.
    ///
    /// # Panics
    /// When the environment requires the ring.
    pub fn skip_or_fail(self, reason: &str) {
        let name = self.name();
        assert!(!self.is_required(), "{REQUIRED} asks for the ring {name}, which cannot run: {reason}");
        // Not by a macro: the test harness shows what macros print only when a test fails.
        drop(io::stderr().write_all(format!("SKIPPED {name}: {reason}\n").as_bytes()));
    }
}

/// The whole path of a program that this machine finds by its name.
pub fn on_path(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

fn lists(names: &str, ring: Ring) -> bool {
    names.split(',').any(|name| name.trim() == ring.name())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs};

    use super::*;
    use crate::build::workspace;

    #[test]
    fn a_ring_is_required_when_the_list_names_it() {
        let names = ["", "arm64", "arm64,deployment", "deployment, arm64", "arm64-other", "deployment"];
        let required = names.map(|names| lists(names, Ring::Arm64));
        assert_eq!(required, [false, true, true, true, false, false]);
    }

    #[test]
    fn every_ring_is_required_by_a_step_of_ci() {
        let script = fs::read_to_string(workspace().join(".ci/run")).unwrap();
        let assignment = format!("{REQUIRED}=");
        let lists = script.split(&assignment).skip(1).filter_map(|rest| rest.split_whitespace().next());
        let required: BTreeSet<&str> = lists.flat_map(|list| list.split(',')).collect();
        assert_eq!(required, Ring::ALL.iter().map(|ring| ring.name()).collect());
    }
}
