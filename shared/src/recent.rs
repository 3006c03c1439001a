//! What was found out a moment ago, so that an environment that works request after request need not ask each time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// Answers by the names of what they are about. Each holds for the same time; copies share them.
#[derive(Debug, Clone)]
pub struct Recent<T> {
    holds_for: Duration,
    answers: Arc<Mutex<HashMap<String, Answer<T>>>>,
}

#[derive(Debug)]
struct Answer<T> {
    /// By the system's clock: it goes on while Lambda freezes an environment, whose answers would otherwise hold for hours.
    since: SystemTime,
    value: T,
}

impl<T: Clone> Recent<T> {
    /// None yet; each will hold for so long.
    pub fn holding_for(time: Duration) -> Self {
        Self { holds_for: time, answers: Arc::default() }
    }

    /// The answer about `name`, where one still holds.
    pub fn get(&self, name: &str) -> Option<T> {
        self.get_at(name, SystemTime::now())
    }

    fn get_at(&self, name: &str, now: SystemTime) -> Option<T> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(name).filter(|answer| answer.holds(self.holds_for, now)).map(|answer| answer.value.clone())
    }

    /// Keeps an answer. Those that hold no longer go: anybody can ask about names that nobody has heard of.
    pub fn keep(&self, name: &str, value: T) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let now = SystemTime::now();
        answers.retain(|_, answer| answer.holds(self.holds_for, now));
        answers.insert(name.to_owned(), Answer { since: now, value });
    }
}

impl<T> Answer<T> {
    /// A clock that was set back says nothing about how old it is, and then it does not hold.
    fn holds(&self, time: Duration, now: SystemTime) -> bool {
        now.duration_since(self.since).is_ok_and(|age| age < time)
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

    #[test]
    fn an_answer_grows_old_while_its_environment_is_frozen_and_none_holds_once_the_clock_is_set_back() {
        let recent = Recent::holding_for(Duration::from_secs(60));
        recent.keep("a", 1);
        let now = SystemTime::now();
        assert_eq!(recent.get_at("a", now + Duration::from_secs(59)), Some(1));
        assert_eq!(recent.get_at("a", now + Duration::from_secs(61)), None);
        assert_eq!(recent.get_at("a", now - Duration::from_secs(3_600)), None);
    }
}
