//! One business event has its effect once, however often and wherever it is delivered.
//!
//! ```text
//! worker A  claim ----- work ----- complete            the record says COMPLETED: every later delivery is a duplicate
//! worker B          claim: in progress                 comes back when A's lease is over
//!
//! worker A  claim ----- work --x (frozen, killed)
//! worker B                        claim (lease over) ----- work ----- complete
//! worker A                                    complete: refused, the owner is B now
//! ```
//!
//! A claim is one conditional write that returns the old item when it fails, so a first delivery costs two requests
//! (claim, complete) and a duplicate one. `complete` and `release` are conditional on the claim's own random token: a
//! worker that lost its lease cannot touch its successor's claim.

pub mod key;
mod record;

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use aws_config::SdkConfig;
use aws_sdk_dynamodb::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::update_item::{UpdateItemError, UpdateItemOutput},
    types::{AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure},
};
use sha2::{Digest, Sha256};
use tracing::warn;
use uuid::Uuid;

pub use self::key::Key;
use self::record::{Stored, StoredStatus, attribute};
use crate::{
    client::aws::{CALL_TIMEOUT, fault, table},
    config::Reader,
    deadline::{Deadline, epoch_ms},
    failure::{Failure, Wait, isolated},
    name::names,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

names! {
    /// The codes of events that are rejected here.
    pub enum ErrorCode {
        /// The key is known with another value of what must not change under one key.
        PayloadChanged = "payload_changed",
    }
}

/// What must be the same in every event under one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// What it is of, for people: `amount`.
    pub what: &'static str,
    /// The values, as text; empty where an event has no such thing.
    pub text: String,
}

/// What became of work that is done once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Once<T> {
    /// It was done now.
    Done(T),
    /// It was done before, with this outcome; nothing was done now.
    Duplicate {
        /// The stored outcome.
        outcome: String,
    },
}

/// The answer to a claim.
#[derive(Debug)]
pub enum Claim {
    /// The caller alone may now work on the event, until its lease ends.
    Acquired(Lease),
    /// The event was completed before; nothing is to be done.
    Completed {
        /// What the completion stored.
        data: String,
    },
    /// Another worker is at it; its lease has this much left.
    InProgress {
        /// Until the lease of the other worker ends.
        remaining: Duration,
    },
    /// The key is known with another value of what must not change under one key.
    PayloadChanged,
}

/// The right to finish one event. It is given up by [`Store::complete`] or [`Store::release`], or runs out.
#[derive(Debug)]
pub struct Lease {
    key: Key,
    owner: String,
}

/// Why the store did not do what was asked. All of it is transient: nothing was decided about the event.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The claim has passed to another worker.
    #[error("the claim on {key} was lost to another worker, because its lease was over")]
    Lost {
        /// The claim's key.
        key: Key,
    },
    /// DynamoDB refused or could not be reached.
    #[error("{action} the idempotency record {key}: {cause}")]
    Unavailable {
        /// What was attempted.
        action: &'static str,
        /// The record's key.
        key: Key,
        /// The chain of causes.
        cause: String,
    },
    /// The record holds what no version of this code wrote.
    #[error("the idempotency record {key} is unreadable: {fault}; repair or delete it")]
    Unreadable {
        /// The record's key.
        key: Key,
        /// The attribute at fault.
        fault: &'static str,
    },
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Lost { .. } | StoreError::Unavailable { .. } | StoreError::Unreadable { .. } => {
                Failure::transient(error.to_string())
            }
        }
    }
}

/// The idempotency table. Its partition key is `id` (S), its TTL attribute `expiration`.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    table: String,
    time_to_live: Duration,
}

impl Store {
    /// Records live for `time_to_live`, which must be longer than the queue and its dead-letter queue keep a message.
    pub fn new(client: Client, table: impl Into<String>, time_to_live: Duration) -> Self {
        Self { client, table: table.into(), time_to_live }
    }

    /// The table that `IDEMPOTENCY_TABLE` names, whose records live for `IDEMPOTENCY_TTL_DAYS`.
    pub fn configured(reader: &mut Reader<'_>, aws: &SdkConfig) -> Self {
        let table = reader.required("IDEMPOTENCY_TABLE");
        let days: u32 = reader.count("IDEMPOTENCY_TTL_DAYS", 30);
        Self::new(Client::new(aws), table, DAY.saturating_mul(days))
    }

    /// The longest that [`Store::once`] takes beside the work itself: claim, completion and release.
    pub fn budget(&self) -> Duration {
        CALL_TIMEOUT * 3
    }

    /// Does `work` for the event with this key once, however often the event comes: claims it until the deadline, does the
    /// work and completes it with what `outcome` says of the result. Whatever fails gives the claim back, a panic too, so
    /// that the next delivery may start at once.
    ///
    /// # Errors
    /// That of the work; or a transient one, when the claim is another's, is lost or can't be stored; or a permanent one,
    /// when the event came before with another fingerprint.
    pub async fn once<T>(
        &self,
        key: &Key,
        fingerprint: &Fingerprint,
        deadline: Deadline,
        outcome: impl FnOnce(&T) -> &'static str,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<Once<T>, Failure> {
        let now = epoch_ms(SystemTime::now());
        let lease = match self.claim(key.clone(), &fingerprint.digest(), now, deadline.epoch_ms()).await? {
            Claim::Acquired(lease) => lease,
            Claim::Completed { data } => return Ok(Once::Duplicate { outcome: data }),
            Claim::InProgress { remaining } => {
                let message = "another worker is at this event, and may have settled it by now".to_owned();
                return Err(Failure::Transient { message, wait: Wait::Claimed(remaining) });
            }
            Claim::PayloadChanged => {
                let what = fingerprint.what;
                let message = format!("the event {key} came before with another {what}; find out which one is right");
                return Err(Failure::permanent(ErrorCode::PayloadChanged, message));
            }
        };
        let result = match isolated(work).await {
            Ok(done) => self.complete(&lease, outcome(&done)).await.map(|()| done).map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if result.is_err()
            && let Err(error) = self.release(&lease).await
        {
            warn!(error = %error, "the claim could not be given back; it ends with this invocation");
        }
        result.map(Once::Done)
    }

    /// Looks whether records can be claimed at all. A role may be bound to keys of its own event type, so `key` is one of
    /// those.
    ///
    /// # Errors
    /// What is wrong with the table, or that it is not known.
    pub async fn probe(&self, key: &Key) -> Result<(), table::Unfit> {
        table::look(&self.client, &self.table, &[(table::ID, key.as_str())]).await
    }

    /// Claims `key` until `lease_end`, both in milliseconds since the epoch as `now` is. `fingerprint` is a digest of what
    /// must be the same in every event under this key.
    ///
    /// The write succeeds when the record
    /// - is absent, or
    /// - has outlived its `expiration` (DynamoDB's TTL deletes late, so time is compared here), or
    /// - is in progress under a lease that is over, and belongs to the same payload or does not say to which.
    ///
    /// Records that other writers left under the key obey the same: a completed one needs no lease, and one whose
    /// `expiration` is no number never expires, as DynamoDB's TTL has it. One that is in progress without a lease is never
    /// taken over, because nobody knows when its worker ends.
    ///
    /// # Errors
    /// When DynamoDB gave no answer: nothing is known about the claim, and the record must come back.
    pub async fn claim(&self, key: Key, fingerprint: &str, now: u64, lease_end: u64) -> Result<Claim, StoreError> {
        let owner = Uuid::new_v4().to_string();
        let mut answer = self.take(&key, &owner, ONE_MORE, fingerprint, now, lease_end).await;
        if answer.as_ref().is_err_and(|error| error.code() == Some("ValidationException")) {
            answer = self.take(&key, &owner, THE_FIRST, fingerprint, now, lease_end).await;
        }
        let error = match answer {
            Ok(answer) if names(&answer, &owner) => return Ok(Claim::Acquired(Lease { key, owner })),
            Ok(_) => return Err(self.unclear(Lease { key, owner }, NOT_ITS_WORD.to_owned()).await),
            Err(error) if error.raw_response().is_some_and(|answer| answer.status().is_success()) => {
                return Err(self.unclear(Lease { key, owner }, fault(&error)).await);
            }
            Err(error) => error,
        };
        let Some(old) = refused(&error) else {
            return Err(StoreError::Unavailable { action: "claim", key, cause: fault(&error) });
        };
        let old = match Stored::read(old) {
            Ok(old) => old,
            Err(fault) => return Err(StoreError::Unreadable { key, fault }),
        };
        Ok(old.answer(Lease { key, owner }, fingerprint, now))
    }

    /// Records that the event is finished and what came of it.
    ///
    /// # Errors
    /// The completion is not stored, so the record must be delivered again.
    pub async fn complete(&self, lease: &Lease, data: &str) -> Result<(), StoreError> {
        let call = self
            .update(&lease.key)
            .update_expression("SET #status = :completed, #data = :data")
            .set_expression_attribute_names(Some(attribute::names(&[
                attribute::OWNER,
                attribute::STATUS,
                attribute::DATA,
            ])))
            .expression_attribute_values(":completed", text(StoredStatus::Completed.as_str()))
            .expression_attribute_values(":data", text(data));
        self.as_owner(call, lease, "complete").await
    }

    /// Ends the lease without a result, so that the next delivery may claim at once. The record stays, for its `attempt`.
    ///
    /// # Errors
    /// The lease then ends by itself, with the invocation.
    pub async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let call = self
            .update(&lease.key)
            .update_expression("SET #lease = :over")
            .set_expression_attribute_names(Some(attribute::names(&[attribute::OWNER, attribute::LEASE])))
            .expression_attribute_values(":over", number(0));
        self.as_owner(call, lease, "release").await
    }

    /// The conditional write of a claim, which counts its attempts by `count`.
    async fn take(
        &self,
        key: &Key,
        owner: &str,
        count: &str,
        fingerprint: &str,
        now: u64,
        lease_end: u64,
    ) -> Result<UpdateItemOutput, SdkError<UpdateItemError>> {
        const FREE: &str = "attribute_not_exists(#id) OR #expiration < :now_s \
            OR (#status = :in_progress AND #lease < :now_ms \
            AND (#validation = :validation OR attribute_not_exists(#validation)))";
        const TAKE: &str = "SET #status = :in_progress, #lease = :lease_end, #expiration = :expiration, \
            #validation = :validation, #owner = :owner, #attempt = ";

        let expiration = now / 1000 + self.time_to_live.as_secs();
        let call = self
            .update(key)
            .condition_expression(FREE)
            .update_expression(format!("{TAKE}{count} REMOVE #data"))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .set_expression_attribute_names(Some(attribute::names(&[
                attribute::ID,
                attribute::EXPIRATION,
                attribute::STATUS,
                attribute::LEASE,
                attribute::VALIDATION,
                attribute::OWNER,
                attribute::ATTEMPT,
                attribute::DATA,
            ])))
            .expression_attribute_values(":in_progress", text(StoredStatus::InProgress.as_str()))
            .expression_attribute_values(":now_s", number(now / 1000))
            .expression_attribute_values(":now_ms", number(now))
            .expression_attribute_values(":lease_end", number(lease_end))
            .expression_attribute_values(":expiration", number(expiration))
            .expression_attribute_values(":validation", text(fingerprint))
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":zero", number(0))
            .expression_attribute_values(":one", number(1));
        call.send().await
    }

    /// A claim that succeeded by the answer of somebody else may have been made all the same. It is given back, so that the
    /// next delivery need not wait for its end.
    async fn unclear(&self, lease: Lease, cause: String) -> StoreError {
        let _lost_or_unknown = self.release(&lease).await;
        StoreError::Unavailable { action: "claim", key: lease.key, cause }
    }

    fn update(&self, key: &Key) -> aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder {
        self.client.update_item().table_name(&self.table).key(attribute::ID, text(key.as_str()))
    }

    /// The fence: every write after the claim is conditional on the claim's own token.
    async fn as_owner(
        &self,
        call: aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder,
        lease: &Lease,
        action: &'static str,
    ) -> Result<(), StoreError> {
        let call = call.condition_expression("#owner = :me").expression_attribute_values(":me", text(&lease.owner));
        match call.return_values(ReturnValue::AllNew).send().await {
            Ok(answer) if names(&answer, &lease.owner) => Ok(()),
            Ok(_) => {
                let (key, cause) = (lease.key.clone(), NOT_ITS_WORD.to_owned());
                Err(StoreError::Unavailable { action, key, cause })
            }
            Err(error) if refused(&error).is_some() => Err(StoreError::Lost { key: lease.key.clone() }),
            Err(error) => Err(StoreError::Unavailable { action, key: lease.key.clone(), cause: fault(&error) }),
        }
    }
}

impl Fingerprint {
    /// What is stored of it.
    fn digest(&self) -> String {
        Sha256::digest(&self.text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Stored {
    /// What an existing record means for a claim that was refused because of it.
    fn answer(self, lease: Lease, fingerprint: &str, now: u64) -> Claim {
        // The first try of this very claim got through and only its answer was lost.
        if self.status == StoredStatus::InProgress && self.owner == lease.owner {
            return Claim::Acquired(lease);
        }
        if self.validation.is_some_and(|validation| validation != fingerprint) {
            return Claim::PayloadChanged;
        }
        match self.status {
            StoredStatus::Completed => Claim::Completed { data: self.data },
            StoredStatus::InProgress => {
                Claim::InProgress { remaining: Duration::from_millis(self.lease_end.saturating_sub(now)) }
            }
        }
    }
}

/// How a claim counts its attempts. Where another writer's count is no number, DynamoDB refuses to add to it, whatever the
/// condition says; a count decides nothing, so the claim then counts anew.
const ONE_MORE: &str = "if_not_exists(#attempt, :zero) + :one";
const THE_FIRST: &str = ":zero + :one";

/// What is wrong with an answer of success that DynamoDB itself would not give.
const NOT_ITS_WORD: &str = "the answer does not say that it was written";

/// Whether the answer is DynamoDB's word that the write was made, and that the record is this owner's. The SDK takes any 200
/// for a success, also an empty one, as a proxy sends it, so every write has the record said back.
fn names(answer: &UpdateItemOutput, owner: &str) -> bool {
    let written = answer.attributes().and_then(|attributes| attributes.get(attribute::OWNER));
    written.and_then(|value| value.as_s().ok()).is_some_and(|written| written == owner)
}

/// The old item, when the condition did not hold; nothing when the call failed for another reason.
fn refused(error: &SdkError<UpdateItemError>) -> Option<HashMap<String, AttributeValue>> {
    match error.as_service_error() {
        Some(UpdateItemError::ConditionalCheckFailedException(refused)) => {
            Some(refused.item.clone().unwrap_or_default())
        }
        Some(_) | None => None,
    }
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn number(value: u64) -> AttributeValue {
    AttributeValue::N(value.to_string())
}
