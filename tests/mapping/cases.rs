//! The cases: two messages, `a` and `b`, in one batch, and what becomes of each. The ends are those that AWS documents.

use crate::function::Reply;

/// How long a received message stays hidden, in seconds: no shorter than the function's timeout, as AWS demands, and long
/// enough to tell the waits of the cases apart on a busy machine.
pub(crate) const VISIBILITY_SECONDS: u64 = 5;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It was deleted after the function had seen it so often.
    Deleted(u32),
    /// It lies in the dead-letter queue.
    Dead {
        /// How often its queue gave it out.
        receives: u32,
        /// How often the function saw it.
        seen: u32,
    },
}

/// Two messages and their ends.
#[derive(Debug)]
pub(crate) struct Case {
    /// The case as a sentence.
    pub(crate) name: &'static str,
    /// The row of the table that it is about.
    pub(crate) row: &'static str,
    /// Whether `ReportBatchItemFailures` is set.
    pub(crate) partial: bool,
    /// `maxReceiveCount`. With one, whatever is kept lies in the dead-letter queue in the end.
    pub(crate) max_receives: u32,
    /// What the function does, receive after receive.
    pub(crate) replies: &'static [Reply],
    /// The ends of `a` and `b` on AWS, and so here.
    pub(crate) ends: [End; 2],
    /// How many seconds after its first receive `a` is seen for the second time.
    pub(crate) back_after: Option<u64>,
    /// The ends on MiniStack where they are others.
    pub(crate) ministack: Option<Difference>,
}

/// What another stack does instead of what AWS does.
#[derive(Debug)]
pub(crate) struct Difference {
    /// What it gets wrong.
    pub(crate) name: &'static str,
    /// The ends of `a` and `b` there.
    pub(crate) ends: [End; 2],
}

const fn dead(times: u32) -> End {
    End::Dead { receives: times, seen: times }
}

const BOTH_DELETED: [End; 2] = [End::Deleted(1), End::Deleted(1)];
const BOTH_KEPT: [End; 2] = [dead(1), dead(1)];
const A_KEPT: [End; 2] = [dead(1), End::Deleted(1)];

const SUCCESS: Case = Case {
    name: "",
    row: "complete success",
    partial: true,
    max_receives: 1,
    replies: &[],
    ends: BOTH_DELETED,
    back_after: None,
    ministack: None,
};
const FAILURE: Case = Case { row: "complete failure", ends: BOTH_KEPT, ..SUCCESS };
const TRAP: Case = Case { row: "trap", ..SUCCESS };
const NOT_ENABLED: Case = Case { row: "not enabled", partial: false, ..SUCCESS };
const BACK_OFF: Case = Case { row: "per-message back-off", max_receives: 3, ends: [End::Deleted(2); 2], ..SUCCESS };

const BAD_IDENTIFIER: &str = "an identifier that names no message fails nothing, and the others are deleted";
const NOT_JSON: &str = "an answer that is not JSON counts as success";
const NULL_LIST: &str = "a null list of failures stops the mapping, and the batch stays";
const TOO_LONG: &str = "an answer of any length is taken";

/// Every case.
pub(crate) const CASES: &[Case] = &[
    Case { name: "an empty list", replies: &[Reply::Says(r#"{"batchItemFailures": []}"#)], ..SUCCESS },
    Case {
        name: "a null list",
        replies: &[Reply::Says(r#"{"batchItemFailures": null}"#)],
        ministack: Some(Difference { name: NULL_LIST, ends: BOTH_KEPT }),
        ..SUCCESS
    },
    Case { name: "an empty object", replies: &[Reply::Says("{}")], ..SUCCESS },
    Case { name: "an empty answer", replies: &[Reply::Says("")], ..SUCCESS },
    Case { name: "a null answer", replies: &[Reply::Says("null")], ..SUCCESS },
    Case {
        name: "one of two",
        row: "complete failure",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}]}"#)],
        ends: A_KEPT,
        ..SUCCESS
    },
    Case {
        name: "one of two, twice",
        row: "complete failure",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}, {"itemIdentifier": "{a}"}]}"#)],
        ends: A_KEPT,
        ..SUCCESS
    },
    Case {
        name: "an empty identifier",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#)],
        ministack: Some(Difference { name: BAD_IDENTIFIER, ends: BOTH_DELETED }),
        ..FAILURE
    },
    Case {
        name: "a null identifier",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": null}]}"#)],
        ministack: Some(Difference { name: BAD_IDENTIFIER, ends: BOTH_DELETED }),
        ..FAILURE
    },
    Case {
        name: "a badly keyed identifier",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"item_identifier": "{a}"}]}"#)],
        ministack: Some(Difference { name: BAD_IDENTIFIER, ends: BOTH_DELETED }),
        ..FAILURE
    },
    Case {
        name: "an identifier from outside the batch",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "c"}]}"#)],
        ministack: Some(Difference { name: BAD_IDENTIFIER, ends: BOTH_DELETED }),
        ..FAILURE
    },
    Case {
        name: "one of two beside an empty identifier",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}, {"itemIdentifier": ""}]}"#)],
        ministack: Some(Difference { name: BAD_IDENTIFIER, ends: A_KEPT }),
        ..FAILURE
    },
    Case {
        name: "one of two beside an identifier from outside the batch",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}, {"itemIdentifier": "c"}]}"#)],
        ministack: Some(Difference { name: BAD_IDENTIFIER, ends: A_KEPT }),
        ..FAILURE
    },
    Case {
        name: "half an answer",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"#)],
        ministack: Some(Difference { name: NOT_JSON, ends: BOTH_DELETED }),
        ..FAILURE
    },
    Case {
        name: "a word",
        replies: &[Reply::Says("done")],
        ministack: Some(Difference { name: NOT_JSON, ends: BOTH_DELETED }),
        ..FAILURE
    },
    Case { name: "an error", replies: &[Reply::Fails], ..FAILURE },
    Case { name: "a timeout", replies: &[Reply::Hangs], ..FAILURE },
    Case { name: "a crash", replies: &[Reply::Exits], ..FAILURE },
    Case {
        name: "a wrong key at the top",
        replies: &[Reply::Says(r#"{"batch_item_failures": [{"itemIdentifier": "{a}"}]}"#)],
        ..TRAP
    },
    Case {
        name: "an answer as for a web service",
        replies: &[Reply::Says(r#"{"statusCode": 200, "body": {"batchItemFailures": [{"itemIdentifier": "{a}"}]}}"#)],
        ..TRAP
    },
    Case {
        name: "without partial answers, one of two",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}]}"#)],
        ..NOT_ENABLED
    },
    Case {
        name: "without partial answers, an empty identifier",
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": ""}]}"#)],
        ..NOT_ENABLED
    },
    Case { name: "without partial answers, an error", replies: &[Reply::Fails], ends: BOTH_KEPT, ..NOT_ENABLED },
    Case {
        name: "without partial answers, an error and then success",
        row: "error of the function",
        partial: false,
        max_receives: 3,
        replies: &[Reply::Fails, Reply::Says("{}")],
        ends: [End::Deleted(2); 2],
        back_after: Some(VISIBILITY_SECONDS),
        ..SUCCESS
    },
    Case {
        name: "one of two, and then success",
        row: "visibility timeout",
        max_receives: 3,
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}]}"#), Reply::Says("{}")],
        ends: [End::Deleted(2), End::Deleted(1)],
        back_after: Some(VISIBILITY_SECONDS),
        ..SUCCESS
    },
    Case {
        name: "one of two, time and again",
        row: "maxReceiveCount",
        max_receives: 2,
        replies: &[Reply::Says(r#"{"batchItemFailures": [{"itemIdentifier": "{a}"}]}"#)],
        ends: [dead(2), End::Deleted(1)],
        back_after: Some(VISIBILITY_SECONDS),
        ..SUCCESS
    },
    Case {
        name: "postponed by nothing",
        replies: &[Reply::Postpones(0), Reply::Says("{}")],
        back_after: Some(0),
        ..BACK_OFF
    },
    Case {
        name: "postponed by twice the visibility",
        replies: &[Reply::Postpones(2 * VISIBILITY_SECONDS as u32), Reply::Says("{}")],
        back_after: Some(2 * VISIBILITY_SECONDS),
        ..BACK_OFF
    },
    Case {
        name: "postponed by nothing, time and again",
        row: "maxReceiveCount",
        replies: &[Reply::Postpones(0)],
        ends: [dead(3), dead(3)],
        back_after: Some(0),
        ..BACK_OFF
    },
    Case {
        name: "an answer that is too long",
        row: "response limits",
        replies: &[Reply::SaysTooMuch],
        ministack: Some(Difference { name: TOO_LONG, ends: BOTH_DELETED }),
        ..FAILURE
    },
];
