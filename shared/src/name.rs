//! Names that leave the code: on the wire, in logs, as a metric's dimensions. Each set of them is a type that knows all of
//! its names, so that a rule about them need not read source text.

/// A set of names.
pub trait Named: Copy + 'static {
    /// Every name of the set.
    const ALL: &'static [Self];

    /// The name as others read it.
    fn name(self) -> &'static str;
}

/// Defines an enum whose variants are names.
#[macro_export]
macro_rules! names {
    ($(#[$about:meta])* $visible:vis enum $set:ident { $($(#[$each:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visible enum $set {
            $($(#[$each])* $variant,)+
        }

        impl $crate::name::Named for $set {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }
    };
}

pub use names;

#[cfg(test)]
mod tests {
    use super::Named;

    names! {
        /// Two of them.
        enum Pair {
            /// The first.
            First = "first",
            /// The second.
            Second = "the.second",
        }
    }

    #[test]
    fn a_set_knows_all_of_its_names() {
        let names: Vec<&str> = Pair::ALL.iter().map(|name| name.name()).collect();
        assert_eq!(names, ["first", "the.second"]);
        assert_eq!(Pair::ALL, [Pair::First, Pair::Second]);
    }
}
