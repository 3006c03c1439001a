//! What was found out a moment ago, so that an environment that works request after request need not ask each time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Answers by the names of what they are about. Each holds for the same time; copies share them.
#[derive(Debug, Clone)]
pub struct Recent<T> {
    holds_for: Duration,
    answers: Arc<Mutex<HashMap<String, Answer<T>>>>,
}

#[derive(Debug)]
struct Answer<T> {
    since: Instant,
    value: T,
}

impl<T: Clone> Recent<T> {
    /// None yet; each will hold for so long.
    pub fn holding_for(time: Duration) -> Self {
        Self { holds_for: time, answers: Arc::default() }
    }

    /// The answer about `name`, where one still holds.
    pub fn get(&self, name: &str) -> Option<T> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(name).filter(|answer| answer.holds(self.holds_for)).map(|answer| answer.value.clone())
    }

    /// Keeps an answer. Those that hold no longer go: anybody can ask about names that nobody has heard of.
    pub fn keep(&self, name: &str, value: T) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, answer| answer.holds(self.holds_for));
        answers.insert(name.to_owned(), Answer { since: Instant::now(), value });
    }
}

impl<T> Answer<T> {
    fn holds(&self, time: Duration) -> bool {
        self.since.elapsed() < time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_holds_for_its_time_and_is_then_forgotten() {
        let recent = Recent::holding_for(Duration::from_secs(60));
        recent.keep("a", 1);
        recent.keep("b", 2);
        recent.keep("a", 3);
        assert_eq!([recent.get("a"), recent.get("b"), recent.get("c")], [Some(3), Some(2), None]);
        assert_eq!(recent.clone().get("a"), Some(3), "copies share them");
        let over = Recent::holding_for(Duration::ZERO);
        over.keep("a", 1);
        over.keep("b", 1);
        assert_eq!(over.get("a"), None);
        assert_eq!(over.answers.lock().unwrap().len(), 1, "what holds no longer does not stay");
    }
}
