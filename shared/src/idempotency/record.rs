//! The stored record. Its attributes are those of Powertools for AWS Lambda, plus `owner` and `attempt`, so that its users
//! find what they know.

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;

/// Attribute names.
pub(super) mod attribute {
    use std::collections::HashMap;

    pub(crate) const ID: &str = "id";
    pub(crate) const STATUS: &str = "status";
    pub(crate) const LEASE: &str = "in_progress_expiration";
    pub(crate) const EXPIRATION: &str = "expiration";
    pub(crate) const VALIDATION: &str = "validation";
    pub(crate) const DATA: &str = "data";
    pub(crate) const OWNER: &str = "owner";
    pub(crate) const ATTEMPT: &str = "attempt";

    /// Expression names for attributes: most of ours are words that DynamoDB reserves. The lease has a shorter one.
    pub(crate) fn names(attributes: &[&str]) -> HashMap<String, String> {
        let name = |attribute| {
            if attribute == LEASE { "#lease".to_owned() } else { format!("#{attribute}") }
        };
        attributes.iter().map(|attribute| (name(*attribute), (*attribute).to_owned())).collect()
    }
}

/// The two states that are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoredStatus {
    InProgress,
    Completed,
}

impl StoredStatus {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::InProgress => "INPROGRESS",
            Self::Completed => "COMPLETED",
        }
    }
}

/// What a claim needs to know of an existing record, whoever wrote it.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) status: StoredStatus,
    /// 0 for a completed record, which needs no lease.
    pub(super) lease_end: u64,
    /// Nothing where the writer compares no payloads.
    pub(super) validation: Option<String>,
    pub(super) owner: String,
    pub(super) data: String,
}

impl Stored {
    /// Reads an item, or names the attribute that makes it unreadable.
    pub(super) fn read(mut item: HashMap<String, AttributeValue>) -> Result<Self, &'static str> {
        let other_validation = !matches!(item.get(attribute::VALIDATION), Some(AttributeValue::S(_)) | None);
        let mut text = |name: &str| match item.remove(name) {
            Some(AttributeValue::S(value)) => Some(value),
            Some(_) | None => None,
        };
        let status = match text(attribute::STATUS).as_deref() {
            Some("INPROGRESS") => StoredStatus::InProgress,
            Some("COMPLETED") => StoredStatus::Completed,
            Some(_) | None => return Err("status is neither INPROGRESS nor COMPLETED"),
        };
        let validation = text(attribute::VALIDATION);
        // It would stay in the way of every claim, so a person has to hear of it.
        if status == StoredStatus::InProgress && other_validation {
            return Err("validation is no string");
        }
        let owner = text(attribute::OWNER).unwrap_or_default();
        let data = text(attribute::DATA).unwrap_or_default();
        let lease_end = match (status, item.get(attribute::LEASE)) {
            (StoredStatus::Completed, _) => 0,
            (StoredStatus::InProgress, Some(AttributeValue::N(value))) => {
                value.parse().map_err(|_| "in_progress_expiration is no whole number")?
            }
            (StoredStatus::InProgress, Some(_)) => return Err("in_progress_expiration is not a number"),
            (StoredStatus::InProgress, None) => return Err("in_progress_expiration is missing"),
        };
        Ok(Self { status, lease_end, validation, owner, data })
    }
}
