//! Admission tokens: whatever comes as one is believed only if it is signed, and states what was signed.

#[path = "../fuzz/admission.rs"]
mod oracle;

use proptest::{prelude::*, proptest};

use super::cases;

proptest! {
    #![proptest_config(cases(2_000))]

    #[test]
    fn no_text_is_believed_and_no_changed_token(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        oracle::judge(&bytes);
    }

    #[test]
    fn a_token_states_what_it_was_made_of(item in "[a-z0-9_]{0,130}", user in "[ -~]{0,300}", show in "[ -~]{0,300}") {
        oracle::judge(format!("{item}\n{user}\n{show}").as_bytes());
    }
}
