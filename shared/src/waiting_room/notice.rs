//! What is told of a place: an event on the bus, and a line for who audits. An event is a hint, because the place itself is in
//! the table: one that is not taken is not sent again.

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{
    line::Line,
    message::{End, EventKind},
    place::{Entry, State, Turn},
};
use crate::{
    client::bus::{Entry as Event, EventBus},
    deadline::moment,
    name::Named,
};

/// What has become of a place, for the bus. Nothing, where nobody has to know.
pub(super) fn of_place(line: &Line, turn: &Turn, user_id: Option<&str>, to: &Entry) -> Option<Event> {
    let (kind, outcome) = match to.state {
        State::Called => (EventKind::Called, None),
        State::Passed => (EventKind::Passed, None),
        State::Sold => (EventKind::Settled, Some(End::Sold)),
        State::Ended => (EventKind::Settled, Some(End::Ended)),
        State::GivenUp => (EventKind::Settled, Some(End::GivenUp)),
        State::Admitted | State::Leaving | State::Holding => return None,
    };
    let mut detail = json!({
        "queue_item_id": turn.id.to_string(),
        "event_id": line.scope.show_id,
        "position": turn.position,
        "call": to.call,
        "idempotency_key": format!("{turn}#{}", kind.name()),
    });
    let mut say = |name: &str, value: Value| detail[name] = value;
    if let Some(user_id) = user_id {
        say("user_id", user_id.into());
    }
    if to.state == State::Called {
        say("call_until", moment(to.deadline).into());
    }
    if matches!(to.state, State::Called | State::Sold) {
        say("seats", to.seats.into());
    }
    if let Some(outcome) = outcome {
        say("outcome", outcome.name().into());
    }
    if matches!(to.state, State::Sold | State::Ended) {
        say("reservation_id", turn.reservation_id().into());
    }
    Some(Event { detail_type: kind.name(), detail })
}

/// That the last ticket of a line was sold.
pub(super) fn of_line(line: &Line) -> Event {
    let detail = json!({
        "event_id": line.scope.show_id,
        "tickets": line.settings.tickets,
        "idempotency_key": format!("{}#{}#{}#{}", line.scope.show_id, line.scope.generation, line.version,
            EventKind::SoldOut.name()),
    });
    Event { detail_type: EventKind::SoldOut.name(), detail }
}

/// Puts events on the bus. The answer is how many it did not take.
pub(super) async fn publish(bus: &EventBus, events: &[Event]) -> u64 {
    let results = bus.put_all(events).await;
    let failed: Vec<_> = results.into_iter().filter_map(Result::err).collect();
    if let Some(error) = failed.first() {
        warn!(events = failed.len(), error = %error, "news of places are not on the bus; customers see them when their page asks");
    }
    failed.len() as u64
}

/// The line of an audit: what was done with a place, and by whom. A place's name follows from its customer and tells nobody who
/// he is.
pub(super) fn audit(line: &Line, turn: &Turn, from: Option<&Entry>, to: &Entry, by: &'static str) {
    info!(
        audit = true,
        place_id = %turn.id,
        event_id = line.scope.show_id,
        position = turn.position,
        call = to.call,
        from = from.map(|from| letter(from.state)),
        to = letter(to.state),
        by,
        "a place was changed"
    );
}

fn letter(state: State) -> String {
    State::ALL.iter().find(|(own, _)| *own == state).map_or_else(String::new, |(_, letter)| letter.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waiting_room::id::PlaceId;

    #[test]
    fn a_place_is_told_when_somebody_has_to_know() {
        let line = Line::example();
        let turn = Turn { id: PlaceId::of(1, [7; 16]), position: 12, call: 1 };
        let told = |state| of_place(&line, &turn, Some("usr_1"), &Entry { state, ..Entry::called(2, 60_000) });
        let called = told(State::Called).unwrap();
        assert_eq!(called.detail_type, "place.called");
        assert_eq!(
            called.detail,
            json!({
                "queue_item_id": turn.id.to_string(), "event_id": "evt_1", "user_id": "usr_1", "position": 12, "call": 1,
                "seats": 2, "call_until": "1970-01-01T00:01:00Z", "idempotency_key": format!("{turn}#place.called"),
            })
        );
        let sold = told(State::Sold).unwrap();
        assert_eq!((sold.detail_type, &sold.detail["outcome"]), ("place.settled", &json!("sold")));
        assert_eq!(sold.detail["reservation_id"], json!(turn.reservation_id()));
        assert_eq!(told(State::Passed).unwrap().detail_type, "place.passed");
        for silent in [State::Admitted, State::Leaving, State::Holding] {
            assert_eq!(told(silent), None, "{silent:?}");
        }
    }
}
