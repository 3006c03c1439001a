//! Which PostgreSQL `cargo local` writes bookings to, and what it says of that: one that is named or found, or else the
//! embedded one, which is built where nobody has built it yet.

use std::env::consts::{ARCH, OS};

use super::{PostgresError, sidecar};
use crate::build;

/// What building the embedded one costs, as measured on two idle cores.
const COST: &str = "once, in about three minutes on two idle cores";

/// What a person wants of the embedded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It is for a machine that has no other.
    IfNeeded,
    /// It is taken whatever else there is: `--sidecar`.
    Always,
    /// It is not taken: `--no-sidecar`.
    Never,
}

/// What there is of the embedded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Embedded {
    /// It was built before, so that it takes a moment.
    Built,
    /// It has to be built.
    Unbuilt,
    /// It does not run on machines of this kind.
    Foreign,
}

/// What is taken.
#[derive(Debug, PartialEq, Eq)]
pub enum Choice<S> {
    /// The one that was found.
    Found(S),
    /// The embedded one. It may fail to build or to start.
    Embedded {
        /// What is said before it is built.
        announcement: String,
        /// Why there is no other, for whoever goes on without bookings when it fails. Nothing: it was asked for by its name,
        /// and nobody goes on without it.
        missing: Option<String>,
    },
    /// None: why, and what brings one.
    LeftOut(String),
    /// None, although one was asked for by its name.
    Fault(String),
}

impl Embedded {
    /// What there is of it on this machine.
    pub fn here() -> Self {
        match sidecar::runs_on(OS, ARCH) {
            true if build::has_sidecar() => Self::Built,
            true => Self::Unbuilt,
            false => Self::Foreign,
        }
    }
}

/// Chooses. `find` looks for one that is named or installed, and is not asked where that does not matter.
pub fn choose<S>(
    wish: Wish,
    embedded: Embedded,
    find: impl FnOnce() -> Result<S, &'static PostgresError>,
) -> Choice<S> {
    let is_wanted = match wish {
        Wish::Always => return by_its_name(embedded),
        Wish::IfNeeded => true,
        Wish::Never => false,
    };
    let missing = match find() {
        Ok(server) => return Choice::Found(server),
        Err(missing @ (PostgresError::NotFound | PostgresError::Start(_))) => missing.to_string(),
        // Who names one means it.
        Err(fault) => return Choice::Fault(fault.to_string()),
    };
    match (embedded, is_wanted) {
        (Embedded::Built, true) => Choice::Embedded { announcement: starting(), missing: Some(missing) },
        (Embedded::Unbuilt, true) => Choice::Embedded {
            announcement: format!(
                "Building the embedded PostgreSQL for the bookings, {COST}; --no-sidecar leaves them out. Needed because {missing}."
            ),
            missing: Some(missing),
        },
        (Embedded::Built, false) => {
            Choice::LeftOut(format!("{missing}; without --no-sidecar the embedded one is taken"))
        }
        (Embedded::Unbuilt, false) => {
            Choice::LeftOut(format!("{missing}; without --no-sidecar an embedded one is built, {COST}"))
        }
        (Embedded::Foreign, _) => Choice::LeftOut(format!("{}, and {missing}", foreign())),
    }
}

/// The embedded one, for whoever asked for no other.
fn by_its_name<S>(embedded: Embedded) -> Choice<S> {
    match embedded {
        Embedded::Built => Choice::Embedded { announcement: starting(), missing: None },
        Embedded::Unbuilt => {
            Choice::Embedded { announcement: format!("Building the embedded PostgreSQL, {COST} ..."), missing: None }
        }
        Embedded::Foreign => Choice::Fault(foreign()),
    }
}

fn foreign() -> String {
    format!("the embedded PostgreSQL does not run on {OS} {ARCH}")
}

fn starting() -> String {
    "Starting the embedded PostgreSQL ...".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Embedded; 3] = [Embedded::Built, Embedded::Unbuilt, Embedded::Foreign];

    /// A choice where nothing is named and nothing installed.
    fn alone(wish: Wish, embedded: Embedded) -> Choice<()> {
        choose(wish, embedded, || Err(&PostgresError::NotFound))
    }

    #[test]
    fn one_that_is_found_is_taken_and_nothing_is_built() {
        for embedded in ALL {
            for wish in [Wish::IfNeeded, Wish::Never] {
                assert_eq!(choose(wish, embedded, || Ok(7)), Choice::Found(7), "{wish:?} {embedded:?}");
            }
        }
    }

    #[test]
    fn who_asks_for_the_embedded_one_gets_it_and_no_other_is_looked_for() {
        for embedded in [Embedded::Built, Embedded::Unbuilt] {
            let choice = choose::<()>(Wish::Always, embedded, || panic!("nobody looks"));
            assert!(matches!(choice, Choice::Embedded { missing: None, .. }), "{choice:?}");
        }
        let choice = choose::<()>(Wish::Always, Embedded::Foreign, || panic!("nobody looks"));
        assert!(matches!(&choice, Choice::Fault(why) if why.contains("does not run on")), "{choice:?}");
    }

    #[test]
    fn where_there_is_no_other_the_embedded_one_is_built_and_the_line_says_all_of_it() {
        let Choice::Embedded { announcement, missing: Some(missing) } = alone(Wish::IfNeeded, Embedded::Unbuilt) else {
            panic!("it is built");
        };
        for part in ["Building the embedded PostgreSQL for the bookings", COST, "--no-sidecar leaves", &missing] {
            assert!(announcement.contains(part), "{part} is missing in {announcement}");
        }
        let Choice::Embedded { announcement, missing: Some(_) } = alone(Wish::IfNeeded, Embedded::Built) else {
            panic!("it is taken");
        };
        assert!(!announcement.contains(COST), "nobody waits for what is built: {announcement}");
        // One that is there and does not start is none.
        static BROKEN: PostgresError = PostgresError::Start(String::new());
        let choice = choose::<()>(Wish::IfNeeded, Embedded::Unbuilt, || Err(&BROKEN));
        assert!(matches!(choice, Choice::Embedded { missing: Some(_), .. }), "{choice:?}");
    }

    #[test]
    fn bookings_that_are_left_out_leave_a_line_with_what_brings_them() {
        for (wish, embedded, part) in [
            (Wish::Never, Embedded::Unbuilt, COST),
            (Wish::Never, Embedded::Built, "without --no-sidecar"),
            (Wish::Never, Embedded::Foreign, "does not run on"),
            (Wish::IfNeeded, Embedded::Foreign, "does not run on"),
        ] {
            let Choice::LeftOut(why) = alone(wish, embedded) else { panic!("{wish:?} {embedded:?}") };
            for part in [part, "no PostgreSQL was found; install it", "DATABASE_URL"] {
                assert!(why.contains(part), "{part} is missing in {why}");
            }
        }
    }

    #[test]
    fn one_that_is_named_and_of_no_use_is_a_fault() {
        static USELESS: PostgresError = PostgresError::Url(String::new());
        for embedded in ALL {
            for wish in [Wish::IfNeeded, Wish::Never] {
                let choice = choose::<()>(wish, embedded, || Err(&USELESS));
                assert!(matches!(choice, Choice::Fault(_)), "{wish:?} {embedded:?}: {choice:?}");
            }
        }
    }
}
