//! What AWS documents about a queue that feeds a function, row by row, and what holds each row here. A row that nothing
//! holds says why nothing has to.

/// A row.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is about.
    pub(crate) name: &'static str,
    /// What AWS does.
    pub(crate) aws: &'static str,
    pub(crate) held: &'static [Held],
}

/// What holds a row.
#[derive(Debug)]
pub(crate) enum Held {
    /// The cases and requests of this test that name the row, on the local stack and on MiniStack.
    Here,
    /// The test of this name, in a file of this package.
    Test(&'static str, &'static str),
    /// The rule of this name, in a file of `template/rules`.
    Rule(&'static str, &'static str),
    /// Nothing, for this reason.
    Nothing(&'static str),
}

use Held::{Here, Nothing, Rule, Test};

const MAPPING: &str = "src/mapping.rs";
const QUEUE: &str = "src/queue/tests.rs";
const MAIN: &str = "mapping/main.rs";
const QUEUES: &str = "queues.rs";
const MAPPINGS: &str = "mappings.rs";

/// Every row.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "complete success",
        aws: "an empty or null batchItemFailures, an empty or null answer",
        held: &[
            Here,
            Test(MAPPING, "an_empty_list_of_failures_is_complete_success"),
            Test(MAPPING, "a_null_list_of_failures_is_complete_success"),
            Test(MAPPING, "an_empty_answer_is_complete_success"),
            Test(MAPPING, "a_null_answer_is_complete_success"),
        ],
    },
    Row {
        name: "complete failure",
        aws: "invalid JSON; an itemIdentifier that is empty, null, badly keyed or not in the batch; an error; a timeout",
        held: &[
            Here,
            Test(MAPPING, "an_answer_that_is_not_json_is_complete_failure"),
            Test(MAPPING, "an_empty_identifier_is_complete_failure"),
            Test(MAPPING, "a_null_identifier_is_complete_failure"),
            Test(MAPPING, "a_badly_keyed_identifier_is_complete_failure"),
            Test(MAPPING, "an_identifier_from_outside_the_batch_is_complete_failure"),
        ],
    },
    Row {
        name: "trap",
        aws: "an answer with a wrong key at its top reads as success, and the messages are deleted",
        held: &[
            Here,
            Test(MAPPING, "a_wrong_key_at_the_top_reads_as_success"),
            Test("integration/bad_input.rs", "an_empty_batch_is_answered_in_full"),
        ],
    },
    Row {
        name: "not enabled",
        aws: "without ReportBatchItemFailures the answer is ignored: success deletes all, an error keeps all",
        held: &[Here, Rule(MAPPINGS, "a failed record alone comes back")],
    },
    Row {
        name: "signals",
        aws: "wrong reports show as an age of the oldest message that climbs",
        held: &[Rule("alarms.rs", "a message that waits too long raises an alarm")],
    },
    Row {
        name: "delivery",
        aws: "at least once: a message may come twice even when all goes well",
        held: &[
            Here,
            Test(QUEUE, "each_receive_has_its_own_handle_and_an_old_one_deletes_nothing"),
            Test("integration/outcomes.rs", "two_environments_that_get_the_same_event_settle_it_once"),
            Test("integration/bad_input.rs", "a_message_that_is_twice_in_a_batch_is_reported_once"),
        ],
    },
    Row {
        name: "batch size",
        aws: "1 to 10,000, and above 10 only with a window",
        held: &[
            Here,
            Rule(MAPPINGS, "a batch has ten records"),
            Test(MAIN, "a_batch_has_at_most_as_many_records_as_set"),
        ],
    },
    Row {
        name: "batching window",
        aws: "0 to 300 s; a batch is also handed over when it reaches a payload of 6 MB",
        held: &[
            Here,
            Rule(MAPPINGS, "a batch is not waited for"),
            Test(MAIN, "a_batch_of_large_messages_stays_below_the_limit_of_a_payload"),
            Test(MAPPING, "the_largest_message_fits_into_an_event_as_it_is_reckoned"),
        ],
    },
    Row {
        name: "visibility timeout",
        aws: "six times the function's timeout and the window on top; below the timeout no mapping is created",
        held: &[
            Here,
            Rule(QUEUES, "a message stays hidden while it is worked"),
            Test(QUEUE, "a_received_message_is_hidden_until_its_visibility_runs_out"),
        ],
    },
    Row {
        name: "maxReceiveCount",
        aws: "throttled receives count as well, so 5 and more",
        held: &[
            Here,
            Test(QUEUE, "a_worn_out_message_moves_at_the_next_attempt_to_receive_it"),
            Rule("retries.rs", "the worker dead-letters a message before SQS moves it without a reason"),
        ],
    },
    Row {
        name: "MaximumConcurrency",
        aws: "2 to 1,000 invocations at a time for each mapping; excludes provisioned mode",
        held: &[
            Here,
            Rule(MAPPINGS, "a limit of concurrency is one that Lambda takes"),
            Test(MAIN, "a_mapping_invokes_side_by_side_up_to_its_limit"),
        ],
    },
    Row {
        name: "reserved concurrency alone",
        aws: "the mapping receives more than it can hand over, and messages reach the dead-letter queue unseen",
        held: &[
            Rule(MAPPINGS, "concurrency is limited where the queue is read"),
            Test(MAIN, "a_throttled_message_is_dropped_back_and_dies_unseen"),
        ],
    },
    Row {
        name: "scaling",
        aws: "5 pollers at first, 300 invocations more per minute, 1,250 at most",
        held: &[Nothing("it is about speed, and no message's end depends on it; the local stack starts at its limit")],
    },
    Row {
        name: "provisioned mode",
        aws: "pollers of one's own, in place of MaximumConcurrency",
        held: &[
            Rule(MAPPINGS, "concurrency is limited where the queue is read"),
            Nothing("the template offers it in a comment only; it changes the speed and no message's end"),
        ],
    },
    Row {
        name: "FIFO",
        aws: "stop at the first failure, and return what failed and what was not worked",
        held: &[Rule(QUEUES, "each queue is a standard queue")],
    },
    Row {
        name: "error of the function",
        aws: "the mapping slows down, and the messages return after their visibility timeout",
        held: &[Here, Nothing("the local mapping does not slow down, which is about speed")],
    },
    Row {
        name: "throttled invocation",
        aws: "it is repeated until the visibility timeout is over, and the messages drop back into the queue",
        held: &[
            Test(MAIN, "a_throttled_message_is_dropped_back_and_dies_unseen"),
            Test("src/lambda/tests.rs", "without_a_free_process_an_invocation_is_throttled_and_starts_none"),
        ],
    },
    Row {
        name: "filter criteria",
        aws: "they look at the body, and what does not match is deleted",
        held: &[Rule(MAPPINGS, "no message is filtered away")],
    },
    Row {
        name: "per-message back-off",
        aws: "ChangeMessageVisibility and then a reported failure; twelve hours at most, from the first receive",
        held: &[
            Here,
            Test(QUEUE, "a_changed_visibility_counts_from_now_and_is_remembered"),
            Test(QUEUE, "visibility_ends_twelve_hours_after_the_first_receive"),
            Test("properties/backoff.rs", "a_back_off_stays_within_its_bounds"),
        ],
    },
    Row {
        name: "retention",
        aws: "1 minute to 14 days; a message has 1 MiB at most; 120,000 in flight",
        held: &[
            Here,
            Rule(QUEUES, "a message has its last receive before its queue forgets it"),
            Rule(QUEUES, "a finished event is known longer than its message can live"),
            Test(QUEUE, "a_body_is_one_byte_to_one_mebibyte_of_xml_characters"),
            Nothing("the local queue forgets nothing and has no limit in flight; ten per invocation do not reach it"),
        ],
    },
    Row {
        name: "age in the dead-letter queue",
        aws: "it goes on counting from when the message was first sent",
        // Every case with a dead letter compares the two times.
        held: &[
            Rule(QUEUES, "a dead message outlives a waiting one"),
            Test(MAIN, "the_local_stack_ends_each_case_as_aws_does"),
        ],
    },
    Row {
        name: "DelaySeconds",
        aws: "15 minutes at most",
        held: &[Here, Test(QUEUE, "a_poller_wakes_for_a_new_message_and_for_the_end_of_a_wait")],
    },
    Row {
        name: "recursion detection",
        aws: "a function that sends to its own queue is stopped after about 16 passes",
        held: &[
            Rule("roles.rs", "a role allows what its function does, and nothing else"),
            Rule(MAPPINGS, "each queue is read by one function, and no dead-letter queue by any"),
            Nothing("a function may send to its dead-letter queue only, and no function reads that"),
        ],
    },
    Row {
        name: "wait loops",
        aws: "a sleep inside a function is paid for and uses up the visibility timeout",
        held: &[Test(MAIN, "no_code_of_a_function_sleeps")],
    },
    Row {
        name: "response limits",
        aws: "6 MB for an answer, 900 s for a timeout",
        held: &[Here, Rule("environment.rs", "a record's calls end well before its function's timeout")],
    },
];
