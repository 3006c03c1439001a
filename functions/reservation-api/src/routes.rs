//! The routes: each reads its request whole, does one thing with the reservations, and answers.

use std::{future::ready, sync::Arc};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::BytesRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::{MethodRouter, get, patch, post, put},
};
use serde::Serialize;
use shared::{
    backoff::whole_seconds,
    reservation::service::{Error, Reservations},
    telemetry::trace::TraceContext,
    trigger::http::{Caller, ErrorAnswer, Route, TraceId},
};

use crate::{
    answer::{Health, Info, changed, created, ended, page, shown, shown_to_functions},
    refusal::Refusal,
    request::{Fields, LONGEST_BODY, customer, idempotency_key, listing, possible, principal, says_json},
};

/// Says that the answer is that of an earlier request under the same key.
const REPLAYED: &str = "idempotent-replayed";

/// The API as tests have checked it against the code (tests/contract). Nothing of what makes it is in the function.
const DOCUMENT: &str = include_str!("../openapi.json");

/// Shows the document to people. Its scripts come from elsewhere, because they would be a tenth of the function.
const PAGE: &str = include_str!("swagger-ui.html");

/// The commit that is built, by whoever builds: cargo knows none, and where SAM builds there may be no repository.
const COMMIT: Option<&str> = option_env!("HOLDFAST_COMMIT");

type Caught = Option<Extension<Caller>>;
type Body = Result<Bytes, BytesRejection>;
type Answer = Result<Response, Refusal>;
type Methods = MethodRouter<Arc<Reservations>>;
type Named = (&'static str, fn() -> Methods);

/// Every request that is answered, by what does so. Each is counted under its name, which is its method and its path.
const REQUESTS: [Named; 16] = [
    ("POST /v1/reservations", || post(create)),
    ("GET /v1/reservations", || get(list)),
    ("POST /v1/reservations/confirm", || post(confirm_named)),
    ("POST /v1/reservations/cancel", || post(cancel_named)),
    ("GET /v1/reservations/{id}", || get(show)),
    ("POST /v1/reservations/{id}/confirm", || post(confirm)),
    ("POST /v1/reservations/{id}/cancel", || post(cancel)),
    ("POST /v1/reservations/{id}/extend", || post(extend)),
    ("PATCH /internal/reservations/{id}", || patch(settle)),
    ("GET /internal/reservations/{id}", || get(show_to_function)),
    ("PUT /internal/reservations/{id}", || put(entomb)),
    ("GET /health", || get(health)),
    ("GET /actuator/health", || get(health)),
    ("GET /info", || get(info)),
    ("GET /v3/api-docs", || get(api_docs)),
    ("GET /swagger-ui.html", || get(swagger_ui)),
];

/// The names of all requests that the API answers.
pub const ROUTES: [&str; REQUESTS.len()] = {
    let mut names = [""; REQUESTS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = REQUESTS[index].0;
        index += 1;
    }
    names
};

/// The API. Its requests carry what `shared::trigger::http::Server` gives to each.
pub fn router(reservations: Arc<Reservations>) -> Router {
    let routed = REQUESTS.iter().fold(Router::new(), |routed, (name, methods)| {
        let (_, path) = name.split_once(' ').unwrap_or_default();
        routed.route(path, named(name, methods()))
    });
    routed
        .fallback(async || Refusal::NoSuchResource)
        .method_not_allowed_fallback(other_method)
        .layer(middleware::from_fn(in_form))
        .layer(DefaultBodyLimit::max(LONGEST_BODY))
        .with_state(reservations)
}

/// Requests of these methods are counted under `name`, however they are answered.
fn named(name: &'static str, methods: Methods) -> Methods {
    methods.route_layer(middleware::map_response(move |mut response: Response| {
        response.extensions_mut().insert(Route(name));
        ready(response)
    }))
}

/// A browser asks by OPTIONS whether a page may call, and takes a refusal for a no. `Allow` is added to both answers.
async fn other_method(method: Method) -> Response {
    if method == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        Refusal::NoSuchMethod.into_response()
    }
}

/// Gives an error its form, now that the request's trace id is known.
async fn in_form(request: Request, next: Next) -> Response {
    let trace_id = request.extensions().get::<TraceId>().cloned();
    let mut response = next.run(request).await;
    let Some(error) = response.extensions_mut().remove::<ErrorAnswer>() else { return response };
    let Some(trace_id) = trace_id else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let (mut head, body) = error.response(&trace_id).into_parts();
    // Such as the methods that a resource is used by.
    for (name, value) in response.headers() {
        if name == header::ALLOW {
            head.headers.insert(name, value.clone());
        }
    }
    head.extensions.extend(response.extensions().clone());
    Response::from_parts(head, axum::body::Body::new(body))
}

async fn create(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Extension(trace_id): Extension<TraceId>,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    let key = idempotency_key(&headers)?.ok_or(Refusal::NoKey)?;
    let body = read(&headers, body)?;
    let (wish, token) = Fields::read(&body)?.wish(user_id, key, trace_id.as_str())?;
    let made = reservations.create(&wish, token.as_deref(), &trace).await?;
    let mut response = answer(StatusCode::CREATED, created(&made));
    let location = format!("/v1/reservations/{}", made.reservation.id);
    if let Ok(location) = HeaderValue::try_from(location) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    if made.replayed {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

async fn list(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Query(query): Query<Vec<(String, String)>>,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    let found = reservations.list(&user_id, &listing(&query)?).await?;
    Ok(answer(StatusCode::OK, page(&found)))
}

async fn show(State(reservations): State<Arc<Reservations>>, caller: Caught, Path(id): Path<String>) -> Answer {
    let user_id = customer(caller.as_deref())?;
    let found = reservations.get(possible(&id)?, &user_id).await?;
    Ok(answer(StatusCode::OK, shown(&found)))
}

/// As [`confirm`], with the reservation in the body, as the clients of the first of these APIs have it.
async fn confirm_named(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Extension(trace): Extension<TraceContext>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    idempotency_key(&headers)?;
    let body = read(&headers, body)?;
    let mut fields = Fields::read(&body)?;
    let (id, payment) = (fields.reservation_id(), fields.payment_intent_id());
    let (id, payment) = fields.finish((id, payment))?;
    confirmed(&reservations, &user_id, &id, &payment, &trace).await
}

async fn confirm(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Extension(trace): Extension<TraceContext>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    idempotency_key(&headers)?;
    let body = read(&headers, body)?;
    let mut fields = Fields::read(&body)?;
    let payment = fields.payment_intent_id();
    let payment = fields.finish(payment)?;
    confirmed(&reservations, &user_id, possible(&id)?, &payment, &trace).await
}

async fn confirmed(
    reservations: &Reservations,
    user_id: &str,
    id: &str,
    payment: &str,
    trace: &TraceContext,
) -> Answer {
    let found = reservations.confirm(id, user_id, payment, trace).await?;
    Ok(answer(StatusCode::OK, changed(&found, "The seats are yours.")))
}

/// As [`cancel`], with the reservation in the body.
async fn cancel_named(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    idempotency_key(&headers)?;
    let body = read(&headers, body)?;
    let mut fields = Fields::read(&body)?;
    let id = fields.reservation_id();
    let id = fields.finish(id)?;
    cancelled(&reservations, &user_id, &id).await
}

/// It needs no body.
async fn cancel(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    idempotency_key(&headers)?;
    cancelled(&reservations, &user_id, possible(&id)?).await
}

async fn cancelled(reservations: &Reservations, user_id: &str, id: &str) -> Answer {
    let found = reservations.cancel(id, user_id).await?;
    Ok(answer(StatusCode::OK, changed(&found, "The reservation is cancelled, and its seats are given back.")))
}

async fn extend(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let user_id = customer(caller.as_deref())?;
    let key = idempotency_key(&headers)?;
    let body = read(&headers, body)?;
    let mut fields = Fields::read(&body)?;
    let longer = fields.extension();
    let longer = fields.finish(longer)?;
    // Without a key, the same extension is the same wish.
    let key = key.unwrap_or_else(|| longer.as_secs().to_string());
    let found = reservations.extend(possible(&id)?, &user_id, longer, &key).await?;
    let message = "The seats are held until holdExpiresAt. Pay before then.";
    Ok(answer(StatusCode::OK, changed(&found, message)))
}

async fn show_to_function(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Path(id): Path<String>,
) -> Answer {
    principal(caller.as_deref())?;
    let found = reservations.find(possible(&id)?).await?;
    Ok(answer(StatusCode::OK, shown_to_functions(&found)))
}

/// What an event asks for. Its key is not judged, because the reservation's own status tells a repeat.
async fn settle(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    principal(caller.as_deref())?;
    let body = read(&headers, body)?;
    let wanted = Fields::read(&body)?.settlement()?;
    match reservations.settle(possible(&id)?, &wanted).await {
        Ok(found) => Ok(answer(StatusCode::OK, shown_to_functions(&found))),
        Err(Error::Conflict(conflict)) => {
            // A function decides by the reservation as it is, so that it comes along.
            let mut response = answer(StatusCode::CONFLICT, shown_to_functions(&conflict.reservation));
            if let Some(after) = conflict.after {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(whole_seconds(after)));
            }
            Ok(response)
        }
        Err(error) => Err(error.into()),
    }
}

/// Ends a reservation that was not created yet, so that none of this id is created any more.
async fn entomb(
    State(reservations): State<Arc<Reservations>>,
    caller: Caught,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Answer {
    principal(caller.as_deref())?;
    if headers.get(header::IF_NONE_MATCH).is_none_or(|value| value != "*") {
        return Err(Refusal::invalid([("If-None-Match", "must be *: this ends what is not created yet".to_owned())]));
    }
    if possible(&id).is_err() {
        return Err(Refusal::invalid([("id", "can't be the id of a reservation".to_owned())]));
    }
    match reservations.entomb(&id).await {
        Ok(now) => {
            let status = if now { StatusCode::CREATED } else { StatusCode::OK };
            Ok(answer(status, ended(id)))
        }
        Err(Error::Conflict(conflict)) => {
            Ok(answer(StatusCode::PRECONDITION_FAILED, shown_to_functions(&conflict.reservation)))
        }
        Err(error) => Err(error.into()),
    }
}

/// That this function answers; it calls nobody, because anybody may ask.
async fn health() -> Response {
    answer(StatusCode::OK, Health { status: "UP" })
}

async fn info() -> Response {
    let commit = COMMIT.filter(|commit| !commit.is_empty());
    answer(StatusCode::OK, Info { name: crate::NAME, version: env!("CARGO_PKG_VERSION"), commit })
}

async fn api_docs() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

async fn swagger_ui() -> Response {
    Html(PAGE).into_response()
}

/// The bytes of a body that says to be JSON.
fn read(headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    says_json(headers)?;
    body.map_err(|_| Refusal::TooLong)
}

fn answer(status: StatusCode, body: impl Serialize) -> Response {
    (status, Json(body)).into_response()
}
