//! What the code says of itself, where a rule compares the template with it.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use local_stack::{
    catalogue::{self, Fed, System, Trigger},
    scenario::error_codes,
};
use shared::{
    booking,
    client::{grpc, inventory, payments, realtime},
    name::Named,
    reservation::{Status, service, sweep},
    settlement::{
        Outcome,
        event::{DETAIL_TYPES, Event, EventType, PAYMENT_STATUSES, STATUS_UPDATE},
    },
    telemetry::metrics::Metric,
    trigger::{http, kafka, sqs, stream},
    waiting_room::{
        called, desk, joined,
        measured::{self, Processed, Pushed},
        settled,
    },
};

/// The metric of events that go on failing, which a filter of the template makes of the log's lines.
pub(crate) const FAILING: &str = "worker_failing_total";

/// The outcomes that a record of this function can have.
pub(crate) fn outcomes(function: Fed) -> BTreeSet<&'static str> {
    use booking::Outcome::{Duplicate, Early, Refused, Success, Superseded};

    let ends_well: Vec<&str> = match (function.settling, function.event_type) {
        (Some(settling), _) => [Outcome::Success, Outcome::Duplicate, settling.lost_race].map(Named::name).into(),
        (None, "booking.created") => [Success, Duplicate, Refused].map(Named::name).into(),
        (None, "line.joined") => joined::Outcome::ALL.iter().map(|outcome| outcome.name()).collect(),
        (None, "line.ticked") => desk::Outcome::ALL.iter().map(|outcome| outcome.name()).collect(),
        (None, "line.called") => called::Outcome::ALL.iter().map(|outcome| outcome.name()).collect(),
        (None, "line.settled") => settled::Outcome::ALL.iter().map(|outcome| outcome.name()).collect(),
        (None, _) => [Success, Duplicate, Early, Superseded].map(Named::name).into(),
    };
    let of_topics = kafka::Outcome::ALL.iter().map(|outcome| outcome.name());
    let of_topics = of_topics.filter(|_| function.system() == System::Bookings);
    let others = sqs::Outcome::ALL.iter().map(|outcome| outcome.name()).chain(of_topics);
    ends_well.into_iter().chain(others).collect()
}

/// Every metric that the code writes.
pub(crate) fn metrics() -> impl Iterator<Item = &'static Metric> {
    let all = [
        sqs::METRICS,
        http::METRICS,
        grpc::METRICS,
        service::METRICS,
        stream::METRICS,
        sweep::METRICS,
        kafka::METRICS,
        booking::METRICS,
        measured::METRICS,
    ];
    all.into_iter().flatten()
}

/// Whether the code writes a metric with just these dimensions, or why it does not.
pub(crate) fn metric_exists(name: &str, dimensions: &[(&str, &str)]) -> Result<(), String> {
    let written = metrics().find(|metric| metric.name == name);
    let known = match written.map(|metric| metric.dimensions) {
        None if name == FAILING => &["type"],
        written => written.ok_or(format!("the code writes no metric {name}"))?,
    };
    let names: Vec<&str> = dimensions.iter().map(|(name, _)| *name).collect();
    if names != known {
        return Err(format!("{name} has the dimensions {known:?}, not {names:?}"));
    }
    let is_of = |metrics: &[Metric]| metrics.iter().any(|metric| metric.name == name);
    if is_of(http::METRICS) {
        return request_is_counted(dimensions);
    }
    if is_of(grpc::METRICS) {
        let known = dimensions.iter().all(|(name, value)| match *name {
            "method" => grpc_methods().any(|method| method == *value),
            _ => grpc::Code::ALL.iter().any(|code| code.name() == *value),
        });
        return if known { Ok(()) } else { Err(format!("no call by gRPC is measured under {dimensions:?}")) };
    }
    if is_of(service::METRICS) {
        let known = dimensions.iter().all(|(_, value)| match Status::named(value) {
            Status::Pending
            | Status::Hold
            | Status::Confirmed
            | Status::Cancelled
            | Status::Expired
            | Status::Failed => true,
            Status::Refunded | Status::Other(_) => false,
        });
        return if known { Ok(()) } else { Err(format!("no reservation becomes {dimensions:?}")) };
    }
    if is_of(measured::METRICS) {
        let results = Processed::ALL.iter().map(|result| result.name());
        let pushed = Pushed::ALL.iter().map(|result| result.name());
        let results: Vec<&str> =
            if name == "booking_worker_pushes_total" { pushed.collect() } else { results.collect() };
        let known = dimensions.iter().all(|(_, value)| results.contains(value));
        return if known { Ok(()) } else { Err(format!("nobody in a line ends as {dimensions:?}")) };
    }
    if is_of(sweep::METRICS) {
        let known = dimensions.iter().all(|(_, value)| sweep::Act::ALL.iter().any(|act| act.name() == *value));
        return if known { Ok(()) } else { Err(format!("no sweep does {dimensions:?}")) };
    }
    if is_of(stream::METRICS) {
        let known = dimensions.iter().all(|(name, value)| match *name {
            "function" => catalogue::function(value).is_some_and(|entry| entry.trigger == Trigger::Stream),
            _ => stream::Outcome::ALL.iter().any(|outcome| outcome.name() == *value),
        });
        return if known { Ok(()) } else { Err(format!("no stream has {dimensions:?}")) };
    }
    let event_type = dimensions.first().map_or("", |(_, value)| value);
    let function = catalogue::all_fed()
        .find(|function| function.event_type == event_type)
        .ok_or(format!("{event_type} is no event type"))?;
    if [kafka::METRICS, booking::METRICS].into_iter().any(is_of) && function.system() != System::Bookings {
        return Err(format!("{event_type} is no event about a booking, and has no {name}"));
    }
    for (dimension, value) in dimensions {
        let exists = match *dimension {
            "outcome" => outcomes(function).contains(value),
            "error_code" => error_codes().any(|code| code == *value),
            _ => true,
        };
        if !exists {
            return Err(format!("{event_type} has no {dimension} {value}"));
        }
    }
    Ok(())
}

/// What is asked by gRPC, by the names under which it is measured.
fn grpc_methods() -> impl Iterator<Item = &'static str> {
    inventory::METHODS.into_iter().chain(payments::METHODS).chain(realtime::METHODS)
}

/// Whether requests are counted under this route and this status, or why they are not.
fn request_is_counted(dimensions: &[(&str, &str)]) -> Result<(), String> {
    for (dimension, value) in dimensions {
        let exists = match *dimension {
            "route" => routes().contains(value) || waiting_room_connected::ROUTES.contains(value),
            _ => value.parse::<u16>().is_ok_and(|status| StatusCode::from_u16(status).is_ok()),
        };
        if !exists {
            return Err(format!("no request is counted under the {dimension} {value}"));
        }
    }
    Ok(())
}

/// The routes of the functions that answer HTTP, by the names under which their requests are counted.
pub(crate) fn routes() -> BTreeSet<&'static str> {
    reservation_api::ROUTES.into_iter().chain(reservation_rpc::ROUTES).chain(waiting_room::ROUTES).collect()
}

/// How EventBridge can announce an event: by its detail-type, and for some by the status in its detail.
pub(crate) type Announcement = (String, Option<String>);

/// Whether the function of `own` settles an event that is announced so and is otherwise complete.
pub(crate) fn settles(own: EventType, detail_type: &str, status: Option<&str>) -> bool {
    let detail = serde_json::json!({
        "reservation_id": "rsv_1", "payment_intent_id": "pi_1", "amount": 1, "status": status,
    });
    let body = serde_json::json!({"detail-type": detail_type, "detail": detail});
    Event::parse(own, &body.to_string()).is_ok()
}

/// Every announcement of an event that the function of `own` settles.
pub(crate) fn announcements(own: EventType) -> BTreeSet<Announcement> {
    let of_own = |(name, event_type): &(&str, EventType)| (*event_type == own).then(|| (*name).to_owned());
    let named = DETAIL_TYPES.iter().filter_map(of_own).map(|name| (name, None));
    let updated = PAYMENT_STATUSES.iter().filter_map(of_own).map(|status| (STATUS_UPDATE.to_owned(), Some(status)));
    named.chain(updated).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_settled_by_its_own_function_and_by_no_other() {
        for own in EventType::ALL {
            let found = announcements(*own);
            assert!(found.contains(&(own.name().to_owned(), None)), "{own:?} has its own name: {found:?}");
            for (detail_type, status) in &found {
                for other in EventType::ALL {
                    assert_eq!(
                        settles(*other, detail_type, status.as_deref()),
                        other == own,
                        "{detail_type} {status:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_announcements_are_those_of_the_design() {
        assert_eq!(announcements(EventType::ReservationExpired).len(), 2);
        assert_eq!(announcements(EventType::PaymentFailed).len(), 3);
        assert_eq!(announcements(EventType::PaymentApproved).len(), 5);
    }

    #[test]
    fn the_outcomes_and_codes_of_event_files_are_those_of_the_code() {
        use local_stack::scenario::Outcome as Promised;

        let outcomes = Outcome::ALL.iter().map(|outcome| outcome.name());
        for outcome in outcomes.chain(sqs::Outcome::ALL.iter().map(|outcome| outcome.name())) {
            let promised: Promised = serde_json::from_value(outcome.into()).unwrap();
            assert_eq!(promised.as_str(), outcome);
        }
        let codes: BTreeSet<&str> = error_codes().collect();
        assert_eq!(codes.len(), error_codes().count(), "each code has one meaning");
    }
}
