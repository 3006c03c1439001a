//! What everybody may know of a line, as its page shows it. One answer serves all, as from the cache before the function.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    SHOW, Venue,
    person::{number, path_of},
};

/// Between two looks: so long the answer may be kept.
const PACE: Duration = Duration::from_secs(1);

/// How far the line is, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Board {
    serving: u64,
    state: String,
}

impl Board {
    /// Whether it has something to say to who stands at a position: his turn has come, or will not.
    pub(super) fn is_news_to(&self, position: u64) -> bool {
        position <= self.serving || matches!(self.state.as_str(), "sold_out" | "closed")
    }
}

/// Shows the board until it is dropped. What has no answer is shown a second later.
pub(super) async fn show(venue: Arc<Venue>) {
    let url = format!("{}{}", venue.doors.url, path_of("GetQueueStatus"));
    loop {
        let asked = venue.http.post(&url).json(&json!({"eventId": SHOW})).send().await;
        if let Ok(answer) = asked
            && let Ok(status) = answer.json::<Value>().await
            && let Some(state) = status["state"].as_str()
        {
            let serving = number(&status, "serving");
            venue.board.send_replace(Board { serving, state: state.to_owned() });
        }
        sleep(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_news_whose_turn_has_come_and_that_no_turn_will() {
        let is_news = |serving, state: &str| Board { serving, state: state.to_owned() }.is_news_to(5);
        assert!(!is_news(4, "open") && !is_news(4, "all_taken") && !is_news(0, "paused"));
        assert!(is_news(5, "open") && is_news(9, "all_taken"));
        assert!(is_news(4, "sold_out") && is_news(0, "closed"));
    }
}
