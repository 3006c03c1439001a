//! What `cargo redrive` is made of: a dead-letter queue, the letters in it with their reasons, and the way back.
//!
//! Nothing here stands for a part of AWS. It talks to SQS by the SDK, to AWS and to the local stack alike.
//! SQS has a redrive of its own, but that knows only what SQS itself moved, and cannot choose among messages.

mod choice;
mod error;
mod functions;
pub mod letter;
mod queue;
pub mod terminal;

pub use self::{
    choice::{Choice, why_not_back},
    error::RedriveError,
    functions::functions,
    letter::{Letter, MAX_RECEIVE_COUNT, NO_REASON, Origin},
    queue::{Counts, DeadLetterQueue, HIDDEN_FOR, Reading, Sent},
};
