//! The guards of the functions, each with the edit that takes it out and the test that must then turn red.
//!
//! A test that passes shows that the code is right only if it would fail were the code wrong. `cargo removals` shows that:
//! in a copy of this workspace it makes one edit at a time and runs the test that is named for it. An edit leaves the code
//! compiling and its requests well-formed, so that what turns the test red is the missing guard and nothing else.

use std::path::PathBuf;

/// One guard, or a part of one, taken out.
#[derive(Debug, Clone, Copy)]
pub struct Removal {
    /// The guard that it belongs to, one of [`GUARDS`].
    pub guard: &'static str,
    /// What the code does without it.
    pub then: &'static str,
    /// The file that is edited.
    pub file: &'static str,
    /// What is taken out. It stands in the file exactly once.
    pub text: &'static str,
    /// What is put in its place.
    pub instead: &'static str,
    /// The test that must fail.
    pub test: Test,
    /// A part of what it then says. A test that fails for another reason proves nothing about the guard.
    pub says: &'static str,
}

/// A test of this package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The test target, a folder of this package.
    pub target: &'static str,
    /// The name as the harness has it, with its module.
    pub name: &'static str,
}

/// Why a removal can't be made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} holds this {count} times, and not once: {text}")]
pub struct Misplaced {
    file: &'static str,
    text: &'static str,
    count: usize,
}

impl Removal {
    /// The text of the edited file.
    ///
    /// # Errors
    /// When what is to be taken out is not there exactly once.
    pub fn applied_to(&self, source: &str) -> Result<String, Misplaced> {
        match source.matches(self.text).count() {
            1 => Ok(source.replacen(self.text, self.instead, 1)),
            count => Err(Misplaced { file: self.file, text: self.text, count }),
        }
    }
}

impl Test {
    const fn of(target: &'static str, name: &'static str) -> Self {
        Self { target, name }
    }

    /// The file that it stands in, seen from the workspace.
    pub fn file(&self) -> PathBuf {
        let module = self.name.split_once("::").map_or("main", |(module, _)| module);
        PathBuf::from("tests").join(self.target).join(module).with_extension("rs")
    }

    /// The name without its module.
    pub fn function(&self) -> &'static str {
        self.name.rsplit("::").next().unwrap_or(self.name)
    }
}

/// The guards, in the order in which a record meets them.
pub const GUARDS: &[&str] = &[
    "identifier-check",
    "one-meaning",
    "unread-fields",
    "deadline-rule",
    "own-keys",
    "lease-check",
    "path-escaping",
    "conflict-handling",
    "own-word",
    "waiting",
    "owner-condition",
    "dead-letter-fallback",
    "records-of-others",
    "carried-texts",
    "dead-connections",
    "requests",
    "reservation-writes",
    "reservation-rules",
    "payment-proof",
    "waiting-room",
    "untold-changes",
    "admission",
    "booking-order",
    "booking-inbox",
    "booking-owner",
    "booking-overlap",
    "booking-refund",
    "booking-connection",
];

/// Every removal, guard by guard.
pub const REMOVALS: &[Removal] = &[
    Removal {
        guard: "identifier-check",
        then: "a record without a message id is worked",
        file: "shared/src/trigger/sqs/record.rs",
        text: ".filter(|id| !id.trim().is_empty()).ok_or(MissingMessageId)?",
        instead: ".unwrap_or_default()",
        test: Test::of("integration", "bad_input::a_record_without_an_id_fails_the_invocation_loudly"),
        says: "absent: the function reports an error, not Ok",
    },
    Removal {
        guard: "identifier-check",
        then: "an id holds any character",
        file: "shared/src/field.rs",
        text: "&& id.bytes().all(|byte| byte.is_ascii_graphic())",
        instead: "",
        test: Test::of("integration", "bad_input::an_id_that_is_missing_or_unfit_for_a_path_is_rejected"),
        says: r#"reservation_id = " ""#,
    },
    Removal {
        guard: "identifier-check",
        then: "an id is a step up in a path",
        file: "shared/src/field.rs",
        text: r#"&& !matches!(*id, "." | "..")"#,
        instead: "",
        test: Test::of("integration", "bad_input::an_id_that_is_missing_or_unfit_for_a_path_is_rejected"),
        says: r#"reservation_id = ".""#,
    },
    Removal {
        guard: "deadline-rule",
        then: "a record starts with too little time",
        file: "shared/src/trigger/sqs/batch.rs",
        text: "if deadline.remaining() < self.limits.budget {\n                worked.unstarted.push(looked);",
        instead: "if self.limits.budget.is_zero() {\n                worked.unstarted.push(looked);",
        test: Test::of(
            "integration",
            "batch::what_can_not_finish_before_the_deadline_is_given_back_at_once_in_one_call",
        ),
        says: r#"right: ["b", "c"]"#,
    },
    Removal {
        guard: "deadline-rule",
        then: "what did not start on its last receive is moved without a reason",
        file: "shared/src/trigger/sqs/batch.rs",
        text: "|looked| looked.record.receive_count >= self.limits.max_receives",
        instead: "|_| false",
        test: Test::of(
            "integration",
            "batch::what_was_not_started_on_its_last_receive_is_dead_lettered_with_the_reason",
        ),
        says: "failed.is_empty()",
    },
    Removal {
        guard: "own-keys",
        then: "the look at the table uses a key that its role does not allow",
        file: "shared/src/settlement/workflow.rs",
        text: r#"Key::of(&[name, "probe"])"#,
        instead: r#"Key::of(&["probe"])"#,
        test: Test::of(
            "integration",
            "configuration::every_key_begins_with_the_function_s_own_event_type_that_of_the_look_too",
        ),
        says: r#"reservation-expired: ["probe", "#,
    },
    Removal {
        guard: "lease-check",
        then: "a claim is taken from a worker that is at it",
        file: "shared/src/idempotency.rs",
        text: "#lease < :now_ms",
        instead: "#lease <> :now_ms",
        test: Test::of("integration", "outcomes::a_claim_held_by_another_worker_is_retried_when_its_lease_is_over"),
        says: r#"left: "success""#,
    },
    Removal {
        guard: "lease-check",
        then: "the claim of a worker that is gone is never taken over",
        file: "shared/src/idempotency.rs",
        text: "#lease < :now_ms",
        instead: "#lease < :zero AND :now_ms > :zero",
        test: Test::of("integration", "outcomes::a_lease_that_is_over_is_taken_over"),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "lease-check",
        then: "a completed event is worked again once its lease is over",
        file: "shared/src/idempotency.rs",
        text: "(#status = :in_progress AND #lease",
        instead: "(attribute_exists(#status) AND #lease",
        test: Test::of("integration", "outcomes::a_completed_event_is_a_duplicate_after_its_lease_too"),
        says: r#"left: "success""#,
    },
    Removal {
        guard: "path-escaping",
        then: "an id goes into the path as it is",
        file: "shared/src/client/reservations.rs",
        text: "let segment = utf8_percent_encode(reservation_id, SEGMENT);",
        instead: "let segment = reservation_id;",
        test: Test::of("integration", "bad_input::an_opaque_id_settles_and_stays_one_escaped_path_segment"),
        says: "a/b: ",
    },
    Removal {
        guard: "path-escaping",
        then: "a slash stays a slash",
        file: "shared/src/client/reservations.rs",
        text: ".remove(b'~')",
        instead: ".remove(b'~').remove(b'/')",
        test: Test::of("properties", "parsing::an_id_that_is_accepted_is_one_segment_of_the_path_that_is_asked_for"),
        says: "led to /base/",
    },
    Removal {
        guard: "conflict-handling",
        then: "a refused change is taken for a granted one",
        file: "shared/src/client/reservations.rs",
        text: "Ok(Answer::Conflict(Snapshot { retry_after: headers_wait, ..conflict }))",
        instead: "Ok(Answer::Accepted(Snapshot { status: Ok(transition.wanted.clone()), ..conflict }))",
        test: Test::of("model", "every_interleaving_ends_well"),
        says: "of a reservation that is",
    },
    Removal {
        guard: "conflict-handling",
        then: "a lost race is retried as any fault is",
        file: "shared/src/client/reservations.rs",
        text: "StatusCode::CONFLICT => {",
        instead: "StatusCode::NOT_EXTENDED => {",
        test: Test::of("integration", "guard::an_approval_that_lost_the_race_asks_for_a_refund"),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "conflict-handling",
        then: "a confirmation that names no payment is taken for ours",
        file: "shared/src/settlement/guard.rs",
        text: "if transition.payment_intent_id.is_some() =>",
        instead: "if false =>",
        test: Test::of("integration", "guard::a_409_confirmed_without_a_payment_is_read_before_it_is_settled"),
        says: r#"right: "late_approval""#,
    },
    Removal {
        guard: "conflict-handling",
        then: "a refusal that says nothing is taken for the wanted end",
        file: "shared/src/settlement/guard.rs",
        text: "Err(silence) => return Decision::AskAgain(silence),",
        instead: "Err(_) => transition.wanted.clone(),",
        test: Test::of("integration", "guard::a_409_that_says_nothing_is_decided_by_reading_the_reservation"),
        says: r#"right: "superseded""#,
    },
    Removal {
        guard: "owner-condition",
        then: "a worker that lost its lease completes its successor's claim",
        file: "shared/src/idempotency.rs",
        text: r##"condition_expression("#owner = :me")"##,
        instead: r##"condition_expression(if action == "complete" { "#owner = :me OR attribute_exists(#owner)" } else { "#owner = :me" })"##,
        test: Test::of("model", "every_interleaving_ends_well"),
        says: "another's claim was changed from InProgress(Live) to Completed",
    },
    Removal {
        guard: "owner-condition",
        then: "a worker that lost its lease gives its successor's claim back",
        file: "shared/src/idempotency.rs",
        text: r##"condition_expression("#owner = :me")"##,
        instead: r##"condition_expression(if action == "release" { "#owner = :me OR attribute_exists(#owner)" } else { "#owner = :me" })"##,
        test: Test::of("model", "every_interleaving_ends_well"),
        says: "another's claim was changed from InProgress(Live) to InProgress(GivenBack)",
    },
    Removal {
        guard: "dead-letter-fallback",
        then: "a message is deleted although it could not be sent to the dead-letter queue",
        file: "shared/src/trigger/sqs/batch.rs",
        text: "self.postpone(record, wait).await",
        instead: "Ending { outcome, report: false, dead_letter_code: None }",
        test: Test::of("integration", "bad_input::a_dead_letter_that_fails_leaves_the_message_in_its_queue"),
        says: r#"right: "retried""#,
    },
    Removal {
        guard: "dead-letter-fallback",
        then: "a message is deleted although the dead-letter queue did not answer",
        file: "shared/src/trigger/sqs/batch.rs",
        text: "latency_ms = 0, \"record ended: retried\"));\n                    Ending::retried()",
        instead: "latency_ms = 0, \"record ended: retried\"));\n                    \
                  Ending { report: false, ..Ending::retried() }",
        test: Test::of(
            "integration",
            "batch::a_dead_letter_without_an_answer_before_the_deadline_leaves_the_message_in_its_queue",
        ),
        says: r#"right: ["a"]"#,
    },
    Removal {
        guard: "dead-letter-fallback",
        then: "a message is deleted although there is no dead-letter queue",
        file: "shared/src/trigger/sqs/queue.rs",
        text: "let url = self.dead_letter_url.as_deref().ok_or(QueueError::NoDeadLetterQueue)?;",
        instead: "let Some(url) = self.dead_letter_url.as_deref() else { return Ok(()) };",
        test: Test::of("integration", "bad_input::a_fault_that_lasts_is_not_lost_without_a_dead_letter_url_either"),
        says: r#"right: "retried""#,
    },
    Removal {
        guard: "own-word",
        then: "what tonic says of an answer that it could not read is taken for the inventory's word",
        file: "shared/src/client/grpc.rs",
        text: "if heard.half() { Fault::Unread(status) } else { Fault::Status(status) }",
        instead: "{ let _heard = heard.half().then_some(Fault::Unread(status.clone())); Fault::Status(status) }",
        test: Test::of(
            "integration",
            "settle::an_answer_that_cannot_be_read_is_retried_and_settled_by_the_next_delivery",
        ),
        says: "gzip that nobody asked for: ",
    },
    Removal {
        guard: "own-word",
        then: "a proxy's UNIMPLEMENTED, as during a rollout, refuses the request for good",
        file: "shared/src/client/inventory/answer.rs",
        text: "        Code::InvalidArgument => Error::Refused(text),\n        Code::Ok",
        instead: "        Code::InvalidArgument => Error::Refused(text),\n        _ if status.code() == Code::Unimplemented => Error::Refused(text),\n        Code::Ok",
        test: Test::of("integration", "settle::a_proxys_not_found_is_retried_and_settled_by_the_next_delivery"),
        says: r#"left: "rejected""#,
    },
    Removal {
        guard: "own-word",
        then: "an answer about another reservation is taken for one about ours",
        file: "shared/src/client/reservations/answer.rs",
        text: "Ok(Some(id)) if id != reservation_id => return Err(Foreign(id)),",
        instead: "Ok(Some(id)) if id.is_empty() => return Err(Foreign(id)),",
        test: Test::of("integration", "guard::an_answer_about_another_reservation_says_nothing_and_nothing_is_called"),
        says: r#"left: "success""#,
    },
    Removal {
        guard: "own-word",
        then: "a 2xx that says nothing is taken for a granted change",
        file: "shared/src/settlement/guard.rs",
        text: "Err(silence) => Decision::AskAgain(silence),",
        instead: "Err(_) => settle(transition, snapshot),",
        test: Test::of("integration", "guard::a_2xx_that_says_nothing_is_followed_by_one_look_and_decided_by_that"),
        says: r#"left: "success""#,
    },
    Removal {
        guard: "own-word",
        then: "a silent answer is not followed by a look",
        file: "shared/src/settlement/workflow.rs",
        text: "Decision::AskAgain(silence) => silence.to_string(),",
        instead: "Decision::AskAgain(silence) => return Err(Failure::transient(silence.to_string())),",
        test: Test::of("integration", "guard::a_2xx_that_says_nothing_is_followed_by_one_look_and_decided_by_that"),
        says: r#""HOLD" is missing"#,
    },
    Removal {
        guard: "own-word",
        then: "a proxy's page is the API's own refusal",
        file: "shared/src/client/reservations.rs",
        text: " if self.is_of_the_api(&text) => {",
        instead: " => {",
        test: Test::of("integration", "guard::a_refusal_that_is_not_the_apis_own_is_retried"),
        says: r#"left: "rejected""#,
    },
    Removal {
        guard: "own-word",
        then: "seats and quantity of an answer need not agree",
        file: "shared/src/client/reservations/answer.rs",
        text: "field::quantity(value, seat_ids.len())",
        instead: "field::quantity(value, 0)",
        test: Test::of(
            "integration",
            "guard::what_is_held_is_never_taken_in_part_and_the_last_receive_names_the_field",
        ),
        says: "COMMIT_STATUS_FAILED_CONFLICT",
    },
    Removal {
        guard: "own-word",
        then: "a refused token is never looked up again",
        file: "shared/src/client/reservations.rs",
        text: "Access::Bearer(token) => token.renew().await,",
        instead: "Access::Bearer(_) => Renewal::Impossible,",
        test: Test::of(
            "integration",
            "configuration::a_token_that_was_replaced_in_the_secret_is_looked_up_once_and_used_from_the_next_try_on",
        ),
        says: r#""the secret" is missing"#,
    },
    Removal {
        guard: "waiting",
        then: "a service hides a message for as long as it likes",
        file: "shared/src/backoff.rs",
        text: "Wait::Asked(asked) => asked.min(self.cap),",
        instead: "Wait::Asked(asked) => asked,",
        test: Test::of("integration", "guard::what_a_service_asks_for_delays_by_no_more_than_the_cap"),
        says: "right: 60",
    },
    Removal {
        guard: "waiting",
        then: "an event that came too early runs out of receives",
        file: "shared/src/trigger/sqs/batch.rs",
        text: "Failure::Early { wait, .. } => return self.wait_for(record, *wait).await,",
        instead: "Failure::Early { .. } => (ErrorCode::RetriesExhausted.name(), Outcome::Exhausted.name(), Wait::BackOff),",
        test: Test::of("integration", "outcomes::an_expiry_before_its_time_never_runs_out_of_receives"),
        says: r#"left: ("exhausted""#,
    },
    Removal {
        guard: "waiting",
        then: "an event that came too early outlives the time that its queue keeps it",
        file: "shared/src/trigger/sqs/batch.rs",
        text: " || record.age(SystemTime::now()) > RENEWED_AFTER",
        instead: "",
        test: Test::of("integration", "outcomes::an_expiry_that_waits_for_longer_than_its_queue_keeps_it_is_sent_anew"),
        says: r#"left: ("retried", true)"#,
    },
    Removal {
        guard: "waiting",
        then: "an event that another worker holds is given up on its last receive",
        file: "shared/src/trigger/sqs/batch.rs",
        text: " if record.receive_count == last => {",
        instead: " if record.receive_count == u32::MAX => {",
        test: Test::of(
            "integration",
            "outcomes::on_its_last_receive_an_event_that_another_worker_holds_waits_once_more",
        ),
        says: r#"left: "exhausted""#,
    },
    Removal {
        guard: "waiting",
        then: "receives are used up at once where nothing can start",
        file: "shared/src/trigger/sqs/batch.rs",
        text: "true => self.limits.backoff.wait(record.receive_count, Wait::BackOff),",
        instead: "true => Duration::ZERO,",
        test: Test::of("integration", "batch::where_nothing_can_start_all_wait_by_back_off_in_calls_of_ten"),
        says: "left: [0, 0",
    },
    Removal {
        guard: "own-word",
        then: "any 200 to a claim is taken for DynamoDB's word",
        file: "shared/src/idempotency.rs",
        text: "Ok(answer) if names(&answer, &owner) => return",
        instead: "Ok(_) if !owner.is_empty() => return",
        test: Test::of("integration", "own_word::a_claim_is_acquired_only_on_the_word_of_dynamodb"),
        says: r#""claim the idempotency record" is missing"#,
    },
    Removal {
        guard: "own-word",
        then: "any 200 to a completion is taken for DynamoDB's word",
        file: "shared/src/idempotency.rs",
        text: "Ok(answer) if names(&answer, &lease.owner) => Ok(()),",
        instead: "Ok(_) if !lease.owner.is_empty() => Ok(()),",
        test: Test::of("integration", "own_word::an_event_is_completed_only_on_the_word_of_dynamodb"),
        says: r#"right: "retried""#,
    },
    Removal {
        guard: "own-word",
        then: "any 200 to sending a dead letter is taken for SQS's word, and the message is deleted",
        file: "shared/src/trigger/sqs/queue.rs",
        text: "Some(_) | None => Err(QueueError::Sqs(\"the answer does not say",
        instead: "None => Ok(()),\n        Some(_) => Err(QueueError::Sqs(\"the answer does not say",
        test: Test::of("integration", "own_word::a_message_is_dead_lettered_only_on_the_word_of_sqs"),
        says: r#"right: "retried""#,
    },
    Removal {
        guard: "own-word",
        then: "an entry without an id is taken for one that is on the bus",
        file: "shared/src/client/bus.rs",
        text: "(None, _) => Err(unsaid()),",
        instead: "(None, _) => Ok(()),",
        test: Test::of("integration", "own_word::a_refund_is_requested_only_on_the_word_of_the_bus"),
        says: r#"right: "retried""#,
    },
    Removal {
        guard: "dead-connections",
        then: "an inventory that hangs on a connection fails every event that comes by it",
        file: "shared/src/client/grpc.rs",
        text: "if current.line.is(failed) {",
        instead: "if !current.line.is(failed) {",
        test: Test::of(
            "integration",
            "connections::a_connection_to_a_sick_inventory_fails_one_event_and_is_left_by_the_next",
        ),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "dead-connections",
        then: "each dead connection costs a delivery of its own",
        file: "shared/src/client/http.rs",
        text: "if Arc::ptr_eq(&kept.pool, pool) {",
        instead: "if !Arc::ptr_eq(&kept.pool, pool) {",
        test: Test::of("integration", "connections::ten_dead_connections_to_the_reservation_api_cost_one_delivery"),
        says: "the first ends all ten of them",
    },
    Removal {
        guard: "dead-connections",
        then: "interim answers without end are read for as long as a call may take",
        file: "shared/src/client/http.rs",
        text: "self.left = self.left.saturating_sub(buffer.filled().len() - before);",
        instead: "self.left = self.left.saturating_sub(0 * before);",
        test: Test::of("integration", "connections::interim_answers_without_end_are_read_only_so_far"),
        says: "bytes in one answer",
    },
    Removal {
        guard: "records-of-others",
        then: "a completed record without a validation is taken for another amount's",
        file: "shared/src/idempotency.rs",
        text: "self.validation.is_some_and(|validation| validation != fingerprint)",
        instead: "self.validation.unwrap_or_default() != fingerprint",
        test: Test::of("integration", "records::a_completed_record_is_a_duplicate_whatever_else_is_in_it"),
        says: r#"left: "rejected""#,
    },
    Removal {
        guard: "records-of-others",
        then: "a claim without a validation is never taken over",
        file: "shared/src/idempotency.rs",
        text: "(#validation = :validation OR attribute_not_exists(#validation))",
        instead: "#validation = :validation",
        test: Test::of(
            "integration",
            "records::a_claim_that_nobody_holds_any_more_is_taken_over_whatever_else_is_in_it",
        ),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "records-of-others",
        then: "a claim whose count of attempts is no number is never taken over",
        file: "shared/src/idempotency.rs",
        text: r#"error.code() == Some("ValidationException"))"#,
        instead: r#"error.code() == Some("AnotherException"))"#,
        test: Test::of(
            "integration",
            "records::a_claim_that_nobody_holds_any_more_is_taken_over_whatever_else_is_in_it",
        ),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "carried-texts",
        then: "what may be a card's number is a trace id",
        file: "shared/src/telemetry/trace.rs",
        text: "(valid && !(only_digits && CARD_DIGITS.contains(&digits))).then_some(text)",
        instead: "(valid && !(only_digits && digits > 64)).then_some(text)",
        test: Test::of("integration", "carried::a_trace_id_that_is_none_is_left_out_everywhere"),
        says: "4111111111111111",
    },
    Removal {
        guard: "carried-texts",
        then: "the tail of a later version's context goes on",
        file: "shared/src/telemetry/trace.rs",
        text: r#"if text.starts_with("00-") { text.to_owned() } else { format_traceparent(&context) }"#,
        instead: r#"if context.is_valid() { text.to_owned() } else { format_traceparent(&context) }"#,
        test: Test::of("integration", "carried::a_later_versions_tail_does_not_go_on_with_its_trace"),
        says: "left: Some(\"01-",
    },
    Removal {
        guard: "dead-letter-fallback",
        then: "a reason takes more room than the body leaves",
        file: "shared/src/trigger/sqs/dead_letter.rs",
        text: "const LARGEST_MESSAGE: usize = 1024 * 1024;",
        instead: "const LARGEST_MESSAGE: usize = 2 * 1024 * 1024;",
        test: Test::of("integration", "bad_input::a_body_near_the_limit_is_dead_lettered_with_at_least_its_code"),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "one-meaning",
        then: "of two values under one name the first is taken",
        file: "shared/src/json.rs",
        text: "if same { Ok(Some(first)) }",
        instead: "if same || !name.is_empty() { Ok(Some(first)) }",
        test: Test::of("integration", "bad_input::a_body_that_cannot_be_read_is_rejected_as_malformed"),
        says: "an id twice",
    },
    Removal {
        guard: "one-meaning",
        then: "of two spellings of a name the first is taken",
        file: "shared/src/json.rs",
        text: "Some((_, first)) if *first == value => {}",
        instead: "Some((_, first)) if *first == value || !names.is_empty() => {}",
        test: Test::of("integration", "bad_input::a_body_that_cannot_be_read_is_rejected_as_malformed"),
        says: "an id in both spellings",
    },
    Removal {
        guard: "unread-fields",
        then: "a payment's time is judged, though nothing waits for it",
        file: "shared/src/settlement/event.rs",
        text: r#"fields.amount()?.required("amount")?))?), None)"#,
        instead: r#"fields.amount()?.required("amount")?))?), fields.time(&["expires_at"])?)"#,
        test: Test::of("integration", "bad_input::what_is_not_read_is_not_judged"),
        says: "expires_at must be a time",
    },
    Removal {
        guard: "carried-texts",
        then: "a text that decides nothing makes the refund request as large as itself",
        file: "shared/src/field.rs",
        text: "text.chars().nth(LONGEST_CARRIED).is_none()",
        instead: "text.chars().nth(LONGEST_CARRIED * 4096).is_none()",
        test: Test::of("integration", "carried::what_is_only_carried_is_left_out_when_it_is_long"),
        says: "right: (Null, None)",
    },
    Removal {
        guard: "records-of-others",
        then: "a completed record needs a lease",
        file: "shared/src/idempotency/record.rs",
        text: "(StoredStatus::Completed, _) => 0,",
        instead: "(StoredStatus::Completed, None) => return Err(\"in_progress_expiration is missing\"),\n            (StoredStatus::Completed, Some(_)) => 0,",
        test: Test::of("integration", "records::a_completed_record_is_a_duplicate_whatever_else_is_in_it"),
        says: r#"left: "retried""#,
    },
    Removal {
        guard: "dead-letter-fallback",
        then: "a message loses its group on the way to its dead-letter queue",
        file: "shared/src/trigger/sqs/queue.rs",
        text: ".set_message_group_id(letter.group_id.clone())\n            .set_message_attributes(Some(attributes))",
        instead: ".set_message_attributes(Some(attributes))",
        test: Test::of("integration", "bad_input::a_message_is_dead_lettered_with_its_group"),
        says: r#"right: Some("customer-1")"#,
    },
    Removal {
        guard: "requests",
        then: "a percent sign of a decoded path is taken for an escape",
        file: "shared/src/trigger/http/target.rs",
        text: "    .remove(b'/')\n",
        instead: "    .remove(b'/')\n    .remove(b'%')\n",
        test: Test::of("properties", "http::any_path_survives"),
        says: r#"right: `"/%5c"`"#,
    },
    Removal {
        guard: "requests",
        then: "a path is split once more at a question mark",
        file: "shared/src/trigger/http/target.rs",
        text: "    .remove(b'/')\n",
        instead: "    .remove(b'/')\n    .remove(b'?')\n",
        test: Test::of("properties", "http::any_path_survives"),
        says: r#"right: `"/?"`"#,
    },
    Removal {
        guard: "requests",
        then: "a broken escape of a query goes on as it is",
        file: "shared/src/trigger/http/target.rs",
        text: "utf8_percent_encode(&escapes_repaired(query), QUERY)",
        instead: "utf8_percent_encode(query, QUERY)",
        test: Test::of("integration", "gateway::no_path_and_no_query_makes_an_error_of_the_function"),
        says: "q=%zz%",
    },
    Removal {
        guard: "requests",
        then: "the table is asked for an id of any length",
        file: "shared/src/field.rs",
        text: "Some(id).filter(|id| (1..=LONGEST_ID).contains(&id.len()) && id.bytes().all(plain))",
        instead: "Some(id).filter(|id| !id.is_empty() || id.bytes().all(plain))",
        test: Test::of("integration", "reservation_api::an_id_that_no_reservation_can_have_is_that_of_none"),
        says: "status: 503",
    },
    Removal {
        guard: "requests",
        then: "a call may name a customer who is not the token's",
        file: "functions/reservation-rpc/src/request.rs",
        text: "if named.is_empty() || named == user_id {",
        instead: "if named.is_empty() || named != \"nobody\" {",
        test: Test::of("integration", "reservation_rpc::a_reservation_is_its_customers_own"),
        says: r#"right: "permission_denied""#,
    },
    Removal {
        guard: "requests",
        then: "native gRPC is answered without a status",
        file: "functions/reservation-rpc/src/routes.rs",
        text: "if !is_native_grpc(request.headers()) {",
        instead: "if !is_native_grpc(request.headers()) || !request.headers().is_empty() {",
        test: Test::of(
            "integration",
            "reservation_rpc::native_grpc_is_told_what_to_use_and_nothing_else_is_a_fault_of_ours",
        ),
        says: "right: 415",
    },
    Removal {
        guard: "requests",
        then: "a panic of a service is one of its invocation",
        file: "shared/src/trigger/http.rs",
        text: "let isolated = AssertUnwindSafe(self.work(request)).catch_unwind();",
        instead: "let isolated = AssertUnwindSafe(self.work(request)).0.map(Ok::<_, Box<dyn std::any::Any + Send>>);",
        test: Test::of("integration", "gateway::a_panic_is_answered_by_the_function_and_its_process_goes_on"),
        says: "x-trace-id",
    },
    Removal {
        guard: "requests",
        then: "a service may be at work until Lambda ends its process",
        file: "shared/src/trigger/http.rs",
        text: "const KEPT_FREE: Duration = Duration::from_secs(1);",
        instead: "const KEPT_FREE: Duration = Duration::ZERO;",
        test: Test::of("integration", "gateway::a_function_that_runs_out_of_time_answers_before_lambda_ends_it"),
        says: "retry-after",
    },
    Removal {
        guard: "requests",
        then: "an answer is sent that Lambda refuses",
        file: "shared/src/trigger/http.rs",
        text: "if !answer.fits() {",
        instead: "if answer.status_code == 0 {",
        test: Test::of("integration", "gateway::an_answer_that_lambda_would_refuse_is_an_error_of_the_functions_own"),
        says: "INTERNAL_ERROR",
    },
    Removal {
        guard: "reservation-writes",
        then: "whoever was overtaken at a creation writes over who took over",
        file: "shared/src/reservation/table.rs",
        text: "format!(\"#version = :known AND {hands}\")",
        instead: "format!(\"(#version = :known AND {hands}) OR attribute_exists(#version)\")",
        test: Test::of("integration", "reservations::after_a_take_over_the_first_can_no_longer_write"),
        says: "first",
    },
    Removal {
        guard: "reservation-writes",
        then: "a repeat begins a reservation anew",
        file: "shared/src/reservation/table.rs",
        text: "\"attribute_not_exists(#id)\".to_owned()",
        instead: "\"attribute_not_exists(#id) OR attribute_exists(#id)\".to_owned()",
        test: Test::of(
            "integration",
            "reservations::a_wish_becomes_a_hold_in_three_round_trips_and_a_repeat_is_told_the_same_in_one",
        ),
        says: "left",
    },
    Removal {
        guard: "reservation-writes",
        then: "a write whose answer was lost is taken for another's",
        file: "shared/src/reservation/table.rs",
        text: "if is_what_was_written(&old, to) { Written::Made(old) } else { Written::Overtaken(old) }",
        instead: "{ let _made = is_what_was_written(&old, to); Written::Overtaken(old) }",
        test: Test::of("integration", "reservations::a_write_whose_answer_is_lost_is_known_by_what_it_wrote"),
        says: "InProgress",
    },
    Removal {
        guard: "reservation-rules",
        then: "two requests with one key both ask for seats",
        file: "shared/src/reservation/lifecycle.rs",
        text: "        if now < lease_until {\n",
        instead: "        if now < lease_until && lease_until == 0 {\n",
        test: Test::of("integration", "reservations::of_two_with_one_key_one_holds_and_the_other_waits"),
        says: "left: 2",
    },
    Removal {
        guard: "reservation-rules",
        then: "seats are asked for when their release is due",
        file: "shared/src/reservation/lifecycle.rs",
        text: "self.status != Status::Pending || now + ms(TOO_SHORT) > self.hold_expires_at",
        instead: "self.status != Status::Pending",
        test: Test::of("integration", "reservations::no_seats_are_asked_for_within_15_seconds_of_the_deadline"),
        says: "matches!(office.create(&wish).await, Err(Error::Over))",
    },
    Removal {
        guard: "reservation-rules",
        then: "a timer that comes early ends a hold",
        file: "shared/src/reservation/lifecycle.rs",
        text: "Status::Pending | Status::Hold if now < self.hold_expires_at => {",
        instead: "Status::Pending | Status::Hold if now < self.created_at => {",
        test: Test::of("integration", "reservations::a_timer_that_comes_early_is_told_how_long_to_wait"),
        says: "it is on hold",
    },
    Removal {
        guard: "reservation-rules",
        then: "a customer sees what another has reserved",
        file: "shared/src/reservation/service.rs",
        text: "if found.user_id == user_id && !found.is_tombstone() { Ok(found) } else { Err(Error::Unknown) }",
        instead: "if found.user_id == user_id || !found.is_tombstone() { Ok(found) } else { Err(Error::Unknown) }",
        test: Test::of("integration", "reservations::a_key_belongs_to_one_wish_of_one_customer"),
        says: "Err(Error::Unknown)",
    },
    Removal {
        guard: "waiting-room",
        then: "a turn that ran out ends before it is known that nobody made a reservation by it",
        file: "shared/src/waiting_room/settling.rs",
        text: "found = self::found(self.reservations.entomb(&reservation_id, trace).await?);",
        instead: "found = Found::Entombed;",
        test: Test::of(
            "integration",
            "waiting_room::a_turn_that_ran_out_is_ended_at_the_reservation_api_and_its_ticket_goes_on",
        ),
        says: "Some(Expired)",
    },
    Removal {
        guard: "waiting-room",
        then: "an event of an earlier call moves a place",
        file: "shared/src/waiting_room/settled.rs",
        text: "if entry.call != turn.call {",
        instead: "if entry.call < turn.call {",
        test: Test::of("integration", "waiting_room::a_taken_seat_costs_nobody_the_turn"),
        says: "the event of an earlier call",
    },
    Removal {
        guard: "waiting-room",
        then: "an event of another line moves a place",
        file: "shared/src/waiting_room/settled.rs",
        text: "standing.get(&turn.position).filter(|person| person.id == turn.id) else {",
        instead: "standing.get(&turn.position).filter(|person| person.id != turn.id || true) else {",
        test: Test::of(
            "integration",
            "waiting_room::events_of_other_lines_and_of_reservations_without_a_turn_change_nothing",
        ),
        says: "superseded",
    },
    Removal {
        guard: "waiting-room",
        then: "two ticks write one line, each by what it has read",
        file: "shared/src/waiting_room/table.rs",
        text: "const VERSION_IS_KNOWN: &str = \"version = :known\";",
        instead: "const VERSION_IS_KNOWN: &str = \"version > :known OR version <= :known\";",
        test: Test::of("integration", "waiting_room::a_tick_that_read_the_line_before_another_wrote_it_writes_nothing"),
        says: "the first would have two places",
    },
    Removal {
        guard: "waiting-room",
        then: "a lost timer is never sent again",
        file: "shared/src/waiting_room/desk.rs",
        text: "if let Some(until) = open_until.filter(|until| until + ms(PATIENCE) <= now)",
        instead: "if let Some(until) = open_until.filter(|until| until + ms(PATIENCE) <= 0)",
        test: Test::of("integration", "waiting_room::a_hold_that_is_open_after_its_deadline_gets_its_timer_again"),
        says: "left == right",
    },
    Removal {
        guard: "waiting-room",
        then: "who joined is given up on a last receive",
        file: "shared/src/waiting_room/joined.rs",
        text: "Failure::Early { message: cause.to_owned(), wait: Wait::Due(LONGEST_WAIT.mul_f64(0.5 + fastrand::f64() / 2.0)) }",
        instead: "Failure::Transient { message: cause.to_owned(), wait: Wait::Due(LONGEST_WAIT.mul_f64(0.5 + fastrand::f64() / 2.0)) }",
        test: Test::of("integration", "waiting_room::a_join_is_tried_until_its_line_closes_however_often"),
        says: "retried",
    },
    Removal {
        guard: "waiting-room",
        then: "a customer is sent to a turn that is over",
        file: "shared/src/waiting_room/called.rs",
        text: "Became::Called { until } if until <= epoch_ms(SystemTime::now()) => {",
        instead: "Became::Called { until } if until == 0 => {",
        test: Test::of("integration", "called::a_call_that_is_over_is_not_told"),
        says: "late",
    },
    Removal {
        guard: "waiting-room",
        then: "who is not connected is told again and again",
        file: "shared/src/client/realtime.rs",
        text: "Code::NotFound => Ok(Reached::Nobody),",
        instead: "Code::NotFound => Err(Error::Unavailable(described(&status))),",
        test: Test::of("integration", "called::who_is_not_connected_is_told_nothing_and_nobody_tries_again"),
        says: "absent",
    },
    Removal {
        guard: "waiting-room",
        then: "what the realtime service refuses is sent to it again and again",
        file: "shared/src/client/realtime.rs",
        text: "Code::InvalidArgument => Err(Error::Refused(described(&status))),",
        instead: "Code::InvalidArgument => Err(Error::Unavailable(described(&status))),",
        test: Test::of("integration", "called::what_the_service_refuses_is_a_dead_letter_at_once"),
        says: "rejected",
    },
    Removal {
        guard: "waiting-room",
        then: "a page in the place of the realtime service's answer says that nobody is connected",
        file: "shared/src/client/realtime.rs",
        text: "Err(Error::Unavailable(format!(\"its answer could not be read: {}\", described(&status))))",
        instead: "Ok(if described(&status).is_empty() { Reached::Somebody } else { Reached::Nobody })",
        test: Test::of("integration", "called::only_the_services_own_word_says_who_was_told"),
        says: "absent",
    },
    Removal {
        guard: "payment-proof",
        then: "a customer confirms with another's payment",
        file: "shared/src/reservation/payment.rs",
        text: "self.reservation_id != reservation.id || self.user_id != reservation.user_id",
        instead: "self.reservation_id != reservation.id",
        test: Test::of(
            "integration",
            "confirm::tickets_without_paying_an_unknown_foreign_pending_failed_or_too_small_payment_confirms_nothing",
        ),
        says: "CONFIRMED",
    },
    Removal {
        guard: "payment-proof",
        then: "a payment of less than the price buys the seats",
        file: "shared/src/reservation.rs",
        text: "same && self.amount >= price.amount",
        instead: "same && self.amount > 0",
        test: Test::of(
            "integration",
            "confirm::tickets_without_paying_an_unknown_foreign_pending_failed_or_too_small_payment_confirms_nothing",
        ),
        says: "CONFIRMED",
    },
    Removal {
        guard: "payment-proof",
        then: "an answer about another payment is taken for one about ours",
        file: "shared/src/client/payments.rs",
        text: "    if payment.payment_intent_id != intent_id {",
        instead: "    if payment.payment_intent_id.is_empty() && !intent_id.is_empty() {",
        test: Test::of("integration", "confirm::a_payment_service_that_says_nothing_of_this_payment_decides_nothing"),
        says: "CONFIRMED",
    },
    Removal {
        guard: "untold-changes",
        then: "what changed while its past was told is never told itself",
        file: "shared/src/reservation/table.rs",
        text: ".condition_expression(\"#version = :version\")",
        instead: ".condition_expression(\"#version >= :version\")",
        test: Test::of("integration", "relay::what_changes_while_its_past_is_told_is_told_as_well"),
        says: "it is marked until its last change is told",
    },
    Removal {
        guard: "untold-changes",
        then: "what the bus did not take is forgotten",
        file: "shared/src/reservation/relay.rs",
        text: "filter(|(at, _)| !again.contains_key(at) && !refused.contains(at))",
        instead: "filter(|(at, _)| !refused.contains(at))",
        test: Test::of("integration", "relay::whatever_is_away_nothing_is_lost"),
        says: "AWSEvents.PutEvents",
    },
    Removal {
        guard: "admission",
        then: "an event with a line is booked without a token",
        file: "shared/src/reservation/entrance.rs",
        text: "return if self.has_line(&wish.show_id).await? { Err(Error::AdmissionRequired) } else { Ok(None) };",
        instead: "return self.has_line(&wish.show_id).await.map(|_| None);",
        test: Test::of("integration", "admission::an_event_with_a_line_asks_for_a_token_and_any_other_does_not"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a stolen token is good for whoever has it",
        file: "shared/src/admission.rs",
        text: "if self.user_id != user_id {",
        instead: "if self.user_id.is_empty() && !user_id.is_empty() {",
        test: Test::of("integration", "admission::a_token_that_does_not_admit_to_the_wish_begins_nothing"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a token is good for every event",
        file: "shared/src/admission.rs",
        text: "} else if self.show_id != show_id {",
        instead: "} else if self.show_id.is_empty() && !show_id.is_empty() {",
        test: Test::of("integration", "admission::a_token_that_does_not_admit_to_the_wish_begins_nothing"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a token for another service is believed",
        file: "shared/src/admission/token.rs",
        text: "rules.set_audience(&[AUDIENCE]);",
        instead: "rules.validate_aud = false;",
        test: Test::of("integration", "admission::a_token_that_does_not_admit_to_the_wish_begins_nothing"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a reservation begins after the turn is over",
        file: "shared/src/reservation/service.rs",
        text: "admission.filter(|admission| admission.is_over(now))",
        instead: "admission.filter(|admission| admission.is_over(0))",
        test: Test::of("integration", "admission::a_token_that_does_not_admit_to_the_wish_begins_nothing"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a token is good for any number of tickets",
        file: "shared/src/reservation/entrance.rs",
        text: "if wish.quantity > admission.most_tickets {",
        instead: "if admission.most_tickets == 0 {",
        test: Test::of("integration", "admission::nobody_gets_more_tickets_than_his_token_allows"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a token makes one reservation for each key",
        file: "shared/src/reservation/lifecycle.rs",
        text: "let id = admission.map_or_else(|| wish.reservation_id(), Admission::reservation_id);",
        instead: "let id = wish.reservation_id();",
        test: Test::of(
            "integration",
            "admission::the_same_wish_under_a_token_is_told_the_same_whatever_its_key_and_another_is_refused",
        ),
        says: "left: (409, None)",
    },
    Removal {
        guard: "admission",
        then: "a customer whose answer was lost can't ask again when his turn is over",
        file: "shared/src/reservation/service.rs",
        text: "Some(found) => Written::Overtaken(found),\n                None",
        instead: "Some(found) if found.id.is_empty() => Written::Overtaken(found),\n                Some(_) | None",
        test: Test::of("integration", "admission::an_expired_token_shows_the_reservation_that_it_made_and_makes_none"),
        says: "left: (403, Null)",
    },
    Removal {
        guard: "admission",
        then: "a used token is told to be a used key",
        file: "shared/src/reservation/service.rs",
        text: "Err(Error::OtherWish) if admission.is_some() =>",
        instead: "Err(Error::OtherWish) if admission.is_none() =>",
        test: Test::of(
            "integration",
            "admission::the_same_wish_under_a_token_is_told_the_same_whatever_its_key_and_another_is_refused",
        ),
        says: "IDEMPOTENCY_CONFLICT",
    },
    Removal {
        guard: "admission",
        then: "what ended before it began is compared with the wish",
        file: "shared/src/reservation/lifecycle.rs",
        text: "        if self.is_tombstone() {\n            return Found::Over;",
        instead: "        if self.is_tombstone() && self.id.is_empty() {\n            return Found::Over;",
        test: Test::of("integration", "admission::a_turn_that_was_taken_back_makes_no_reservation_whatever_is_wished"),
        says: "TOKEN_ALREADY_USED",
    },
    Removal {
        guard: "admission",
        then: "an answer that nobody gave says that there is no line",
        file: "shared/src/waiting_room/table.rs",
        text: "None if answer.consumed_capacity.is_some() => Ok(None),",
        instead: "None if answer.consumed_capacity.is_some() || !what.is_empty() => Ok(None),",
        test: Test::of(
            "integration",
            "admission::a_line_that_can_t_be_read_lets_nobody_in_and_says_when_to_come_again",
        ),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a line that can't be read lets everybody in",
        file: "shared/src/reservation/entrance.rs",
        text: "let has_line = has_line.map_err(|error| Error::Line { cause: error.to_string(), after: SOON })?;",
        instead: "let has_line = has_line.unwrap_or_default();",
        test: Test::of(
            "integration",
            "admission::a_line_that_can_t_be_read_lets_nobody_in_and_says_when_to_come_again",
        ),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "a line is never seen that was opened after the first look",
        file: "shared/src/reservation/entrance.rs",
        text: "now.duration_since(self.since) < KNOWN_FOR",
        instead: "now.duration_since(self.since) < KNOWN_FOR * 100",
        test: Test::of("integration", "admission::what_is_known_of_a_line_holds_for_five_seconds"),
        says: "left: (201, None)",
    },
    Removal {
        guard: "admission",
        then: "every reservation costs a look at the waiting room",
        file: "shared/src/reservation/entrance.rs",
        text: "now.duration_since(self.since) < KNOWN_FOR",
        instead: "now.duration_since(self.since) < KNOWN_FOR / 1_000_000",
        test: Test::of("integration", "admission::what_is_known_of_a_line_holds_for_five_seconds"),
        says: "left: 3",
    },
    Removal {
        guard: "admission",
        then: "nobody learns from an event whose turn has become what",
        file: "shared/src/reservation/relay.rs",
        text: "(\"queue_item_id\", queue_item_id.clone().map(Value::from)),",
        instead: "(\"queue_item\", queue_item_id.clone().map(Value::from)),",
        test: Test::of("integration", "admission::each_of_the_five_events_names_the_place_of_its_reservation"),
        says: "left: Null",
    },
    Removal {
        guard: "booking-order",
        then: "two batches take their inbox rows in other orders",
        file: "shared/src/booking/creation.rs",
        text: "ORDER BY meant.booking_id
ON CONFLICT",
        instead: "ORDER BY meant.booking_id DESC
ON CONFLICT",
        test: Test::of("bookings", "hard_cases::case_2_a_batch_that_waits_for_a_booking_has_taken_none_behind_it"),
        says: "the batch has nothing behind what it waits for",
    },
    Removal {
        guard: "booking-order",
        then: "two batches take their rooms in other orders",
        file: "shared/src/booking/creation.rs",
        text: "i.xmin = pg_current_xact_id()::xid
ORDER BY room_id,",
        instead: "i.xmin = pg_current_xact_id()::xid
ORDER BY room_id DESC,",
        test: Test::of("bookings", "hard_cases::case_2_a_batch_that_waits_for_a_room_has_taken_none_behind_it"),
        says: "the batch has nothing behind what it waits for",
    },
    Removal {
        guard: "booking-inbox",
        then: "the second of two payloads replaces the first",
        file: "shared/src/booking/creation.rs",
        text: "SET payload_hash = COALESCE(inbox.payload_hash, EXCLUDED.payload_hash)",
        instead: "SET payload_hash = EXCLUDED.payload_hash",
        test: Test::of("bookings", "outcomes::a_known_booking_with_another_payload_is_rejected"),
        says: r#"left: "duplicate""#,
    },
    Removal {
        guard: "booking-inbox",
        then: "whatever is known under an id is the same booking",
        file: "shared/src/booking/creation.rs",
        text: "i.payload_hash = meant.payload_hash AS is_same",
        instead: "true AS is_same",
        test: Test::of("bookings", "outcomes::a_known_booking_with_another_payload_is_rejected"),
        says: r#"left: "duplicate""#,
    },
    Removal {
        guard: "booking-inbox",
        then: "a cancellation takes no inbox row where its booking has none",
        file: "shared/src/booking/cancellation.rs",
        text: "ELSE COALESCE(inbox.cancelled_by, '{}') || EXCLUDED.cancelled_by",
        instead: "ELSE inbox.cancelled_by",
        test: Test::of("bookings", "outcomes::a_cancellation_that_comes_first_is_kept_for_its_guest"),
        says: r#"left: ["success", "refused"]"#,
    },
    Removal {
        guard: "booking-inbox",
        then: "what was written before its inbox row was cleaned away is told once more",
        file: "shared/src/booking/creation.rs",
        text: "refund_requested_at = CASE WHEN b.status = 'Refused' AND b.xmin <> pg_current_xact_id()::xid THEN now() END",
        instead: "refund_requested_at = NULL",
        test: Test::of(
            "bookings",
            "hard_cases::case_14_a_replay_after_the_inbox_was_cleaned_is_a_duplicate_and_pays_nothing_back",
        ),
        says: r#""refused""#,
    },
    Removal {
        guard: "booking-inbox",
        then: "a record of the same booking is worked beside the first one",
        file: "shared/src/booking/recorder.rs",
        text: "        *times += 1;
",
        instead: "",
        test: Test::of("bookings", "outcomes::records_of_one_booking_in_one_batch_are_worked_in_turn"),
        says: "none is in the way of another",
    },
    Removal {
        guard: "booking-owner",
        then: "anybody gives anybody's booking up",
        file: "shared/src/booking/cancellation.rs",
        text: "AND b.user_id = meant.user_id AND b.status",
        instead: "AND b.status",
        test: Test::of("bookings", "outcomes::its_guest_alone_gives_a_booking_up_and_once"),
        says: r#"left: "success""#,
    },
    Removal {
        guard: "booking-owner",
        then: "anybody's cancellation that came first ends the booking",
        file: "shared/src/booking/creation.rs",
        text: "CASE WHEN user_id = ANY (i.cancelled_by) THEN",
        instead: "CASE WHEN i.cancelled_by IS NOT NULL THEN",
        test: Test::of("bookings", "outcomes::a_cancellation_that_comes_first_is_kept_for_its_guest"),
        says: "b2 Cancelled",
    },
    Removal {
        guard: "booking-overlap",
        then: "a room that is taken is an error",
        file: "shared/src/booking/creation.rs",
        text: r#"ORDER BY room_id, start_date, meant.booking_id
ON CONFLICT DO NOTHING";

/// Writes what found its room taken."#,
        instead: r#"ORDER BY room_id, start_date, meant.booking_id
ON CONFLICT (booking_id) DO NOTHING";

/// Writes what found its room taken."#,
        test: Test::of("bookings", "outcomes::who_comes_second_to_a_room_is_refused_and_paid_back"),
        says: r#""retried""#,
    },
    Removal {
        guard: "booking-overlap",
        then: "one record that is in the way keeps the others of its batch",
        file: "shared/src/booking/recorder.rs",
        text: "_ => self.unroll(tasks, &error, tracing, deadline).await,",
        instead: "_ => tasks.iter().map(|_| Verdict::Failed(alone(&error, decision))).collect(),",
        test: Test::of("bookings", "hard_cases::case_3_one_of_ten_breaks_a_rule_of_the_table_and_nine_land"),
        says: r#"left: ["rejected", "rejected""#,
    },
    Removal {
        guard: "booking-refund",
        then: "a repeated refund request has another key",
        file: "shared/src/booking/refusal.rs",
        text: r#""idempotency_key": key.step("refund"),"#,
        instead: r#""idempotency_key": now,"#,
        test: Test::of(
            "bookings",
            "hard_cases::case_17_a_refund_that_was_told_and_not_marked_is_told_again_under_its_key",
        ),
        says: "payment.refund_requested 20",
    },
    Removal {
        guard: "booking-refund",
        then: "a refusal that nobody was told of is done",
        file: "shared/src/booking/creation.rs",
        text: "is_told: false, .. } if status == REFUSED_STATUS",
        instead: "is_told: false, .. } if status == CANCELLED_STATUS",
        test: Test::of(
            "bookings",
            "hard_cases::case_17_a_refund_that_was_told_and_not_marked_is_told_again_under_its_key",
        ),
        says: r#"left: "duplicate""#,
    },
    Removal {
        guard: "booking-refund",
        then: "what could not be told is marked as told",
        file: "shared/src/booking/creation.rs",
        text: "told.iter().filter(|(_, told)| told.is_ok())",
        instead: "told.iter()",
        test: Test::of("bookings", "outcomes::a_refusal_that_nobody_could_be_told_of_is_told_when_it_comes_again"),
        says: "nobody was told, and it is marked",
    },
    Removal {
        guard: "booking-connection",
        then: "work whose connection was lost is not done once more",
        file: "shared/src/client/postgres.rs",
        text: "            Decision::Connection => true,
            Decision::Access",
        instead: "            Decision::Connection => false,
            Decision::Access",
        test: Test::of("bookings", "hard_cases::case_5_a_writer_that_became_a_reader_is_left_for_another_connection"),
        says: r#"left: "retried""#,
    },
];

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;
    use crate::build::workspace;

    fn read(path: impl AsRef<Path>) -> String {
        let path = workspace().join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn every_guard_has_a_removal_and_no_other_is_named() {
        let removed: BTreeSet<&str> = REMOVALS.iter().map(|removal| removal.guard).collect();
        assert_eq!(removed, GUARDS.iter().copied().collect());
    }

    #[test]
    fn what_is_taken_out_stands_in_its_file_exactly_once() {
        let mut stale = Vec::new();
        for removal in REMOVALS {
            let source = read(removal.file);
            match removal.applied_to(&source) {
                Ok(edited) => assert_ne!(edited, source, "{}: nothing is taken out", removal.then),
                Err(misplaced) => stale.push(misplaced.to_string()),
            }
        }
        assert_eq!(stale, [""; 0]);
    }

    #[test]
    fn what_is_not_there_or_there_twice_is_not_taken_out() {
        let removal = Removal { text: "a", ..REMOVALS[0] };
        let count = |source| removal.applied_to(source).map_err(|misplaced| misplaced.count);
        assert_eq!(count("bab"), Ok("b.unwrap_or_default()b".to_owned()));
        assert_eq!([count("b"), count("aa")], [Err(0), Err(2)]);
    }

    #[test]
    fn every_test_that_must_turn_red_is_there() {
        for Removal { test, .. } in REMOVALS {
            let declared = format!("fn {}(", test.function());
            let source = read(test.file());
            assert_eq!(source.matches(&declared).count(), 1, "{}: {declared}", test.file().display());
        }
    }
}
