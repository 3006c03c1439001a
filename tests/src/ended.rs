//! How the records of a delivery ended, by the lines that the function has written about them, in the short words of tests.

use serde_json::Value;

use crate::mapping::Delivery;

/// How one record ended.
#[derive(Debug, Clone)]
pub struct Ended {
    /// The outcome that its line has.
    pub outcome: String,
    /// Whether its message stayed in the queue.
    pub kept: bool,
    /// The line.
    pub line: Value,
}

impl Delivery {
    /// How each record ended, in the order of the batch.
    ///
    /// # Panics
    /// When a record has no outcome, or more than one.
    pub fn ended(&self) -> Vec<Ended> {
        let lines = log_lines(&self.invocation.logs);
        let ended = |id: &String| {
            let mut of_record = lines.iter().filter(|line| line["message_id"] == **id && line["outcome"].is_string());
            let line = of_record.next().unwrap_or_else(|| panic!("{id} has no outcome in {lines:#?}")).clone();
            assert!(of_record.next().is_none(), "{id} has more than one outcome");
            let outcome = line["outcome"].as_str().unwrap_or_default().to_owned();
            Ended { outcome, kept: self.verdict.keeps(id), line }
        };
        self.batch.iter().map(ended).collect()
    }
}

impl Ended {
    /// Asserts the outcome and what it means for the queue.
    ///
    /// # Panics
    /// When it ended in another way.
    #[track_caller]
    pub fn is(&self, outcome: &str) -> &Self {
        assert_eq!(self.outcome, outcome, "{:#}", self.line);
        assert_eq!(self.kept, outcome == "retried", "only what is retried stays in the queue: {:#}", self.line);
        self
    }

    /// Asserts the reason.
    ///
    /// # Panics
    /// When it has another.
    #[track_caller]
    pub fn because(&self, code: &str) -> &Self {
        assert_eq!(self.line["error_code"], code, "{:#}", self.line);
        self
    }

    /// Asserts a part of the error's text.
    ///
    /// # Panics
    /// When it is missing.
    #[track_caller]
    pub fn says(&self, part: &str) -> &Self {
        let error = self.line["error"].as_str().unwrap_or_default();
        assert!(error.contains(part), "{part:?} is missing in {error:?}");
        self
    }
}

/// The JSON lines of a log.
pub fn log_lines(logs: &[String]) -> Vec<Value> {
    logs.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
