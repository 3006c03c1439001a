//! What is told of places and lines, as the bus brings it to whoever pushes it to the customers.

use serde_json::Value;

use super::{
    Moment,
    id::PlaceId,
    message::{End, EventKind, event, optional, place, required, text, whole},
};
use crate::{deadline::moment_of, failure::Failure, field, json::Object, name::Named};

/// Something that who waits wants to know at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The show that the tickets are for.
    pub show_id: String,
    /// What has happened.
    pub what: What,
}

/// What has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Something became of a place.
    Place(PlaceNews),
    /// The last ticket of a line was sold.
    SoldOut {
        /// The tickets that there were.
        tickets: u64,
    },
}

/// Something became of a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceNews {
    /// The place.
    pub id: PlaceId,
    /// Its customer; nothing, where his record could not be read when it was told.
    pub user_id: Option<String>,
    /// Its position in its line.
    pub position: u64,
    /// What it became.
    pub became: Became,
}

/// What a place became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// It is its turn.
    Called {
        /// Its customer has to answer before this.
        until: Moment,
    },
    /// Nobody answered in time.
    Passed,
    /// Its customer has his tickets.
    Sold {
        /// The reservation that is paid.
        reservation_id: String,
        /// The tickets.
        seats: u64,
    },
    /// Its turn is over without tickets.
    Ended {
        /// The reservation that ended.
        reservation_id: String,
    },
    /// Its customer left, or was not heard of, before there was a reservation.
    GivenUp,
}

impl News {
    /// Reads the body of a message: an event in EventBridge's envelope.
    ///
    /// # Errors
    /// Permanent: a body that is wrong once is wrong forever.
    pub fn parse(body: &str) -> Result<Self, Failure> {
        let (kind, detail) = event(body, "one of a place or a line", kind_of)?;
        let show_id = required(&detail, "event_id", field::id)?;
        let became = match kind {
            EventKind::SoldOut => {
                let tickets = required(&detail, "tickets", whole)?;
                return Ok(Self { show_id, what: What::SoldOut { tickets } });
            }
            EventKind::Called => Became::Called { until: required(&detail, "call_until", moment)? },
            EventKind::Passed => Became::Passed,
            EventKind::Settled => settled(&detail)?,
        };
        let what = What::Place(PlaceNews {
            id: required(&detail, "queue_item_id", place)?,
            user_id: optional(&detail, "user_id", field::customer)?,
            position: required(&detail, "position", whole)?,
            became,
        });
        Ok(Self { show_id, what })
    }
}

fn kind_of(stated: &str) -> Option<EventKind> {
    EventKind::ALL.iter().copied().find(|kind| kind.name() == stated)
}

fn settled(detail: &Object<'_>) -> Result<Became, Failure> {
    let end = required(detail, "outcome", |value| {
        let end = |stated: &str| End::ALL.iter().copied().find(|end| end.name() == stated);
        text(value).ok().and_then(|stated| end(&stated)).ok_or("must be sold, ended or given_up")
    })?;
    let reservation_id = || required(detail, "reservation_id", field::id);
    Ok(match end {
        End::Sold => Became::Sold { reservation_id: reservation_id()?, seats: required(detail, "seats", whole)? },
        End::Ended => Became::Ended { reservation_id: reservation_id()? },
        End::GivenUp => Became::GivenUp,
    })
}

fn moment(value: &Value) -> Result<Moment, &'static str> {
    value.as_str().and_then(moment_of).ok_or("must be a moment in RFC 3339")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::waiting_room::{
        line::Line,
        notice,
        place::{Entry, State, Turn},
    };

    fn turn() -> Turn {
        Turn { id: PlaceId::of(1, [7; 16]), position: 12, call: 1 }
    }

    fn line() -> Line {
        Line::example()
    }

    fn read(detail_type: &str, detail: &Value) -> Result<News, Failure> {
        News::parse(&json!({"detail-type": detail_type, "source": "holdfast", "detail": detail}).to_string())
    }

    #[test]
    fn what_is_told_of_a_place_reads_back() {
        let reservation_id = turn().reservation_id();
        for (state, became) in [
            (State::Called, Became::Called { until: 60_000 }),
            (State::Passed, Became::Passed),
            (State::Sold, Became::Sold { reservation_id: reservation_id.clone(), seats: 2 }),
            (State::Ended, Became::Ended { reservation_id }),
            (State::GivenUp, Became::GivenUp),
        ] {
            for user_id in [Some("usr_1"), Some("Jörg M."), None] {
                let entry = Entry { state, ..Entry::called(2, 60_000) };
                let event = notice::of_place(&line(), &turn(), user_id, &entry).unwrap();
                let (id, user_id, became) = (turn().id, user_id.map(str::to_owned), became.clone());
                let what = What::Place(PlaceNews { id, user_id, position: 12, became });
                let news = read(event.detail_type, &event.detail);
                assert_eq!(news, Ok(News { show_id: "evt_1".to_owned(), what }), "{state:?}");
            }
        }
    }

    #[test]
    fn what_is_told_of_a_line_reads_back() {
        let event = notice::of_line(&line());
        let what = What::SoldOut { tickets: 10 };
        assert_eq!(read(event.detail_type, &event.detail), Ok(News { show_id: "evt_1".to_owned(), what }));
    }

    #[test]
    fn news_that_break_a_rule_are_told_by_their_field() {
        let sold =
            notice::of_place(&line(), &turn(), Some("usr_1"), &Entry { state: State::Sold, ..Entry::called(2, 1) });
        let sold = sold.unwrap().detail;
        let called = notice::of_place(&line(), &turn(), Some("usr_1"), &Entry::called(2, 1)).unwrap().detail;
        for (kind, detail, name, value) in [
            ("place.settled", &sold, "event_id", json!("")),
            ("place.settled", &sold, "queue_item_id", json!("usr_1")),
            ("place.settled", &sold, "user_id", json!(7)),
            ("place.settled", &sold, "position", json!(-1)),
            ("place.settled", &sold, "outcome", json!("lost")),
            ("place.settled", &sold, "reservation_id", Value::Null),
            ("place.settled", &sold, "seats", json!("2")),
            ("place.called", &called, "call_until", json!("tomorrow")),
            ("place.called", &called, "call_until", Value::Null),
            ("line.sold_out", &json!({"event_id": "evt_1"}), "tickets", json!(1.5)),
        ] {
            let mut detail = detail.clone();
            detail[name] = value;
            match read(kind, &detail).unwrap_err() {
                Failure::Permanent { code, message } => {
                    assert_eq!((code, message.starts_with(name)), ("invalid_field", true), "{message}");
                }
                other @ (Failure::Transient { .. } | Failure::Early { .. }) => panic!("{other:?}"),
            }
        }
        let unknown = read("place.moved", &sold).unwrap_err();
        assert!(matches!(unknown, Failure::Permanent { code: "unknown_type", .. }), "{unknown}");
    }
}
