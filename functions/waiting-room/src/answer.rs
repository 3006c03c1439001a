//! What lines and places look like to those who call.

use std::time::{Duration, SystemTime};

use shared::{
    deadline::epoch_ms,
    name::Named,
    trigger::http::rpc::timestamp,
    waiting_room::{
        line::Line,
        outlook::{Outlook, Stage},
        service::{Admitted, Shown},
    },
};

use crate::proto::booking_worker::v1::{
    CancelQueueItemResponse, EnqueueBookingResponse, GetQueuePositionResponse, GetQueueStatusResponse, HealthResponse,
};

/// What somebody is told who has joined a line, or stood in it before.
pub(crate) fn joined(shown: &Shown) -> EnqueueBookingResponse {
    EnqueueBookingResponse {
        success: true,
        queue_item_id: shown.id.to_string(),
        queue_position: count(shown.position.unwrap_or_default()),
        estimated_wait_seconds: wait(shown.outlook.as_ref()),
        message: shown.text(),
        status: shown.status.name().to_owned(),
        poll_after_ms: milliseconds(shown.ask_after),
        ..Default::default()
    }
}

/// What somebody is told of his place, and where he hears at once that something became of it.
pub(crate) fn position(shown: &Shown, push_url: Option<String>) -> GetQueuePositionResponse {
    let (token, until) = match &shown.admitted {
        Some(Admitted { token, until }) => (token.clone(), Some(timestamp(*until))),
        None => (String::new(), None),
    };
    GetQueuePositionResponse {
        success: true,
        position: count(shown.position.unwrap_or_default()),
        queue_length: count(shown.waiting),
        estimated_wait_seconds: wait(shown.outlook.as_ref()),
        status: shown.status.name().to_owned(),
        message: shown.text(),
        people_ahead: count(shown.outlook.map_or(0, |outlook| outlook.ahead)),
        poll_after_ms: milliseconds(shown.ask_after),
        admission_token: token,
        admitted_until: until.into(),
        seats_allowed: shown.seats.map_or(0, i32::from),
        reservation_id: shown.reservation_id.clone().unwrap_or_default(),
        detail: shown.detail.name().to_owned(),
        push_url: push_url.unwrap_or_default(),
        ..Default::default()
    }
}

/// What everybody is told of a line. When to ask again is that of somebody at its end.
pub(crate) fn status(line: &Line) -> GetQueueStatusResponse {
    let now = epoch_ms(SystemTime::now());
    let (stage, outlook) = (Stage::of(line, now), Outlook::at_the_end(line, now));
    GetQueueStatusResponse {
        success: true,
        queue_length: count(line.waiting()),
        active_workers: count(line.inside.into()),
        processing_rate: line.rate().unwrap_or_default(),
        message: stage.text().to_owned(),
        serving: count(line.serving),
        tickets_left: count(line.settings.tickets.saturating_sub(line.sold).into()),
        state: stage.name().to_owned(),
        opens_at: timestamp(line.settings.opens_at).into(),
        poll_after_ms: milliseconds(outlook.ask_after),
        draw_seed: line.draw.as_ref().map(|draw| draw.seed.clone()).unwrap_or_default(),
        draw_size: count(line.draw.as_ref().map_or(0, |draw| draw.size)),
        ..Default::default()
    }
}

/// What somebody is told who has left.
pub(crate) fn cancelled() -> CancelQueueItemResponse {
    CancelQueueItemResponse {
        success: true,
        message:
            "your place is given up; you can join the end of the line once it is known that nothing is reserved with it"
                .to_owned(),
        ..Default::default()
    }
}

/// That the function answers.
pub(crate) fn health() -> HealthResponse {
    let details = [("name", crate::NAME), ("version", env!("CARGO_PKG_VERSION"))];
    HealthResponse {
        status: "UP".to_owned(),
        message: "the waiting room answers".to_owned(),
        details: details.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect(),
        ..Default::default()
    }
}

fn wait(outlook: Option<&Outlook>) -> i32 {
    let wait = outlook.and_then(|outlook| outlook.wait).unwrap_or_default();
    count(wait.as_secs())
}

fn milliseconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

fn count(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
