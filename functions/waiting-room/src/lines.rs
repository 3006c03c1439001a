//! The lines for their operators, who sign their requests: `PUT` opens a line or sets it whole, `GET` shows it.

use std::{future::ready, sync::Arc, time::SystemTime};

use axum::{
    Extension, Json, Router,
    body::{Body, Bytes},
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, put},
};
use serde_json::{Map, Value, json};
use shared::{
    deadline::{epoch_ms, moment, moment_of},
    field::{self, MOST_WISHED},
    json::Object,
    name::names,
    trigger::http::{Caller, ErrorAnswer, Route, TraceId},
    waiting_room::{
        line::{Line, Settings},
        lines::{Error, Lines, Set},
        outlook::Stage,
    },
};

/// The requests, as they are counted.
pub(crate) const ROUTES: [&str; 2] = ["PUT /internal/lines/{event_id}", "GET /internal/lines/{event_id}"];

/// No sale has more tickets.
const MOST_TICKETS: u32 = 1_000_000;

/// What a line is set to.
const FIELDS: [&str; 8] = ["tickets", "seats_max", "max_inside", "opens_at", "closes_at", "paused", "draw", "anew"];

names! {
    /// The codes of the errors.
    enum Code {
        /// Fields are wrong; the details name them.
        InvalidRequest = "INVALID_REQUEST",
        /// No operator is known to be calling.
        AuthenticationFailed = "AUTHENTICATION_FAILED",
        /// The event has no line.
        LineNotFound = "LINE_NOT_FOUND",
        /// The line is not over.
        LineNotOver = "LINE_NOT_OVER",
        /// The table gave no answer.
        ServiceUnavailable = "SERVICE_UNAVAILABLE",
    }
}

/// The lines behind their path.
pub(crate) fn router(lines: Arc<Lines>) -> Router {
    let [setting, showing] = ROUTES;
    let routed =
        [(setting, put(set)), (showing, get(show))].into_iter().fold(Router::new(), |routed, (name, methods)| {
            let methods: MethodRouter<Arc<Lines>> = methods;
            let noted = middleware::map_response(move |mut response: Response| {
                response.extensions_mut().insert(Route(name));
                ready(response)
            });
            routed.route(name.split_once(' ').map_or("", |(_, path)| path), methods.route_layer(noted))
        });
    routed.with_state(lines)
}

async fn set(
    State(lines): State<Arc<Lines>>,
    caller: Option<Extension<Caller>>,
    Extension(trace_id): Extension<TraceId>,
    Path(show_id): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let set = async {
        let show_id = operated(caller.as_deref(), &show_id)?;
        let body = body.map_err(|rejection| invalid([("body", rejection.body_text())]))?;
        let (settings, anew) = settings(&body)?;
        lines.set(&show_id, &settings, anew, epoch_ms(SystemTime::now())).await.map_err(|error| refused(&error))
    };
    match set.await {
        Ok(Set::Opened(line)) => (StatusCode::CREATED, Json(shown(&line))).into_response(),
        Ok(Set::Changed(line)) => Json(shown(&line)).into_response(),
        Err(error) => error.response(&trace_id).map(Body::new),
    }
}

async fn show(
    State(lines): State<Arc<Lines>>,
    caller: Option<Extension<Caller>>,
    Extension(trace_id): Extension<TraceId>,
    Path(show_id): Path<String>,
) -> Response {
    let line = async {
        let show_id = operated(caller.as_deref(), &show_id)?;
        lines.line(&show_id).await.map_err(|error| refused(&error))
    };
    match line.await {
        Ok(line) => Json(shown(&line)).into_response(),
        Err(error) => error.response(&trace_id).map(Body::new),
    }
}

/// The show whose line an operator means.
fn operated(caller: Option<&Caller>, show_id: &str) -> Result<String, ErrorAnswer> {
    if !caller.is_some_and(Caller::is_principal) {
        let message = "no operator is known to be calling; sign the request";
        return Err(ErrorAnswer::new(StatusCode::UNAUTHORIZED, Code::AuthenticationFailed, message));
    }
    field::id(&Value::from(show_id)).map_err(|rule| invalid([("event_id", rule.to_owned())]))
}

/// What a body sets a line to, and whether it is to be opened anew.
fn settings(body: &[u8]) -> Result<(Settings, bool), ErrorAnswer> {
    let text = str::from_utf8(body).map_err(|_| invalid([("body", "is not UTF-8".to_owned())]))?;
    let object = Object::read(text).map_err(|fault| invalid([("body", fault.to_string())]))?;
    let mut faults = Map::new();
    let mut read = |name: &str, otherwise: Option<Value>| match object.get(name) {
        Ok(Some(value)) => value,
        Ok(None) => otherwise.unwrap_or_else(|| {
            faults.insert(name.to_owned(), "is required".into());
            Value::Null
        }),
        Err(fault) => {
            faults.insert(name.to_owned(), fault.to_string().into());
            Value::Null
        }
    };
    let [tickets, seats_max] = ["tickets", "seats_max"].map(|name| read(name, None));
    let [opens_at, closes_at] = ["opens_at", "closes_at"].map(|name| read(name, None));
    let max_inside = read("max_inside", Some(Value::Null));
    let [paused, draws, anew] = ["paused", "draw", "anew"].map(|name| read(name, Some(false.into())));

    let mut fault = |name: &str, rule: String| {
        faults.entry(name).or_insert_with(|| rule.into());
    };
    let mut number = |name: &str, value: &Value, least: u32, most: u32| {
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let number = number.filter(|number| (least..=most).contains(number));
        number.unwrap_or_else(|| {
            fault(name, format!("must be a whole number from {least} to {most}"));
            0
        })
    };
    let tickets = number("tickets", &tickets, 0, MOST_TICKETS);
    let seats_max = u8::try_from(number("seats_max", &seats_max, 1, MOST_WISHED)).unwrap_or(u8::MAX);
    let max_inside = (!max_inside.is_null()).then(|| number("max_inside", &max_inside, 1, MOST_TICKETS));
    let mut time = |name: &str, value: &Value| {
        value.as_str().and_then(moment_of).unwrap_or_else(|| {
            fault(name, "must be a moment such as 2026-11-20T09:00:00Z".to_owned());
            0
        })
    };
    let (opens_at, closes_at) = (time("opens_at", &opens_at), time("closes_at", &closes_at));
    let mut switch = |name: &str, value: &Value| {
        value.as_bool().unwrap_or_else(|| {
            fault(name, "must be true or false".to_owned());
            false
        })
    };
    let (paused, draws, anew) = (switch("paused", &paused), switch("draw", &draws), switch("anew", &anew));
    // A pause that is misspelt would be none.
    for (name, _) in object.entries().filter(|(name, _)| !FIELDS.contains(name)) {
        fault(name, format!("is none of {}", FIELDS.join(", ")));
    }
    if faults.is_empty() {
        Ok((Settings { tickets, seats_max, max_inside, opens_at, closes_at, paused, draws }, anew))
    } else {
        Err(invalid(faults.iter().map(|(name, rule)| (name.as_str(), rule.as_str().unwrap_or_default().to_owned()))))
    }
}

/// A line as its operators see it. What is not in `settings` can't be set.
fn shown(line: &Line) -> Value {
    let Settings { tickets, seats_max, max_inside, opens_at, closes_at, paused, draws } = line.settings;
    let at = |at: Option<u64>| at.map_or(Value::Null, |at| moment(at).into());
    json!({
        "event_id": line.scope.show_id,
        "generation": line.scope.generation,
        "settings": {
            "tickets": tickets,
            "seats_max": seats_max,
            "max_inside": max_inside,
            "opens_at": moment(opens_at),
            "closes_at": moment(closes_at),
            "paused": paused,
            "draw": draws,
        },
        "draw_seed": line.draw.as_ref().map(|draw| draw.seed.as_str()),
        "draw_size": line.draw.as_ref().map(|draw| draw.size),
        "state": shared::name::Named::name(Stage::of(line, epoch_ms(SystemTime::now()))),
        "joined": line.joined,
        "serving": line.serving,
        "inside": line.inside,
        "taken": line.taken,
        "sold": line.sold,
        "sold_out_at": at(line.sold_out_at),
        "last_tick_at": at(Some(line.last_tick).filter(|at| *at > 0)),
    })
}

fn refused(error: &Error) -> ErrorAnswer {
    error.write_cause();
    let message = error.to_string();
    match error {
        Error::Unknown => ErrorAnswer::new(StatusCode::NOT_FOUND, Code::LineNotFound, message),
        Error::Settings(fault) => invalid([(fault.field(), fault.to_string())]),
        Error::NotOver => ErrorAnswer::new(StatusCode::CONFLICT, Code::LineNotOver, message),
        Error::Unavailable(_) => ErrorAnswer::new(StatusCode::SERVICE_UNAVAILABLE, Code::ServiceUnavailable, message),
    }
}

fn invalid<'f>(faults: impl IntoIterator<Item = (&'f str, String)>) -> ErrorAnswer {
    let faults: Map<String, Value> =
        faults.into_iter().map(|(name, rule)| (name.to_owned(), Value::from(rule))).collect();
    let named: Vec<String> =
        faults.iter().map(|(name, rule)| format!("{name} {}", rule.as_str().unwrap_or_default())).collect();
    let message = format!("the request is wrong: {}", named.join("; "));
    ErrorAnswer::new(StatusCode::BAD_REQUEST, Code::InvalidRequest, message).with_details(Value::Object(faults))
}
