//! The API's document in OpenAPI 3.1, from the types and the refusals that the function answers with. The function carries what
//! comes of it (openapi.json) and nothing of this module; tests/contract compares the two.

use std::{collections::BTreeMap, time::Duration};

use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Value, json};
use shared::{
    admission::Denied,
    field::{LONGEST_PAGE, USUAL_PAGE},
    name::Named,
    reservation::{
        Status,
        lifecycle::Reservation,
        service::{Conflict, Created, Error, Page},
    },
    trigger::http::{ErrorAnswer, ErrorCode},
};
use utoipa::{
    ToSchema,
    openapi::{
        Array, Components, ComponentsBuilder, Content, ContentBuilder, Header, HttpMethod, InfoBuilder, LicenseBuilder,
        Object, ObjectBuilder, OpenApi, OpenApiBuilder, Paths, Ref, RefOr, Required, Response, ResponseBuilder, Schema,
        Server, Tag, Type,
        example::ExampleBuilder,
        header::HeaderBuilder,
        link::LinkBuilder,
        path::{Operation, OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{AnyOfBuilder, ArrayBuilder, OneOfBuilder, SchemaType},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::{
    answer::{
        ChangedAnswer, CreatedAnswer, EndedAnswer, Health, Info, PageAnswer, Shown, ShownToFunctions, changed, created,
        ended, page, shown, shown_to_functions,
    },
    refusal::{Code, Refusal},
};

const ABOUT: &str = "Seats are held for a minute, and paid, given up or extended meanwhile.\n\n\
    Each answer of the function has an `X-Trace-Id`, by which it is found in the log. An error is \
    `{\"error\": {\"code\", \"message\", \"traceId\", \"details\"}}`: programs go by its code, and ask again after \
    `Retry-After` where there is one. What API Gateway refuses by itself, it answers `{\"message\"}` alone, and the request \
    had no effect.\n\n\
    Fields are in camelCase; snake_case is read as well. What is not known is ignored.";

const ANY_ID: &str = "^[!-~]{1,256}$";
const RESERVATION: &str = "rsv_4jhx2m9q1k8f3c7v5b6n0p2r4t";
/// Where the headers of many answers stand.
const TRACE_ID: &str = "#/components/headers/X-Trace-Id";
const RETRY_AFTER: &str = "#/components/headers/Retry-After";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// The moment of the examples: 20 November 2026.
const NOW: u64 = 1_795_166_060_000;

/// The document as the file has it.
///
/// # Errors
/// When it can't be written as JSON, which no test has seen.
pub fn document() -> Result<String, serde_json::Error> {
    let mut paths = Paths::new();
    let mut refusals = BTreeMap::new();
    for endpoint in endpoints() {
        let operation = endpoint.operation(&mut refusals);
        paths.add_path_operation(endpoint.path(), vec![endpoint.method.clone()], operation);
    }
    let license = LicenseBuilder::new().name("MIT").identifier(Some("MIT")).build();
    let info = InfoBuilder::new()
        .title("Reservations")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license))
        .build();
    let tags = [Who::Customer, Who::Function, Who::Anybody].map(Who::tag);
    let api: OpenApi = OpenApiBuilder::new()
        .info(info)
        .servers(Some([Server::new("/")]))
        .paths(paths)
        .components(Some(components(refusals)))
        .tags(Some(tags))
        .build();
    Ok(api.to_pretty_json()? + "\n")
}

/// For whom API Gateway lets a request through.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Customer,
    Function,
    Anybody,
}

impl Who {
    fn tag(self) -> Tag {
        let (name, about) = match self {
            Self::Customer => ("customers", "By a token of the issuer that the API is deployed with."),
            Self::Function => ("functions", "By the signature of a role that may call it."),
            Self::Anybody => ("anybody", "Without a word about the caller."),
        };
        TagBuilder::new().name(name).description(Some(about)).build()
    }

    /// What is asked of the caller, and nothing of anybody.
    fn security(self) -> Vec<SecurityRequirement> {
        let scopes: [&str; 0] = [];
        match self {
            Self::Customer => vec![SecurityRequirement::new("token", scopes)],
            Self::Function => vec![SecurityRequirement::new("signature", scopes)],
            Self::Anybody => Vec::new(),
        }
    }

    /// What API Gateway answers by itself.
    fn refused_by_gateway(self) -> &'static [(u16, &'static str)] {
        match self {
            Self::Customer => &[
                (400, "Bad Request"),
                (401, "Unauthorized"),
                (403, "Forbidden"),
                (404, "Not Found"),
                (413, "Request Entity Too Large"),
                (429, "Too Many Requests"),
                (431, "Request Header Fields Too Large"),
                (500, "Internal Server Error"),
                (503, "Service Unavailable"),
            ],
            Self::Function => &[
                (400, "Bad Request"),
                (403, "Forbidden"),
                (404, "Not Found"),
                (413, "Request Entity Too Large"),
                (429, "Too Many Requests"),
                (431, "Request Header Fields Too Large"),
                (500, "Internal Server Error"),
                (503, "Service Unavailable"),
            ],
            Self::Anybody => &[
                (400, "Bad Request"),
                (404, "Not Found"),
                (413, "Request Entity Too Large"),
                (429, "Too Many Requests"),
                (431, "Request Header Fields Too Large"),
                (500, "Internal Server Error"),
                (503, "Service Unavailable"),
            ],
        }
    }

    /// The refusals that every one of its requests may meet.
    fn codes(self) -> &'static [Code] {
        match self {
            Self::Customer | Self::Function => {
                &[Code::AuthenticationFailed, Code::NotFound, Code::MethodNotAllowed, Code::ServiceUnavailable]
            }
            Self::Anybody => &[],
        }
    }
}

/// One thing that can be asked for.
struct Endpoint {
    method: HttpMethod,
    /// As the router names it.
    key: &'static str,
    id: &'static str,
    who: Who,
    summary: &'static str,
    description: &'static str,
    parameters: Vec<Parameter>,
    /// The schema of the body, and examples of it by their names.
    body: Option<(&'static str, Vec<(&'static str, Value)>)>,
    answers: Vec<(u16, Response)>,
    /// The refusals beside those of all.
    codes: &'static [Code],
}

impl Endpoint {
    fn path(&self) -> &'static str {
        self.key.split_once(' ').map_or("", |(_, path)| path)
    }

    fn operation(&self, shared: &mut BTreeMap<String, Response>) -> Operation {
        let mut operation = OperationBuilder::new()
            .tag(self.who.tag().name)
            .operation_id(Some(self.id))
            .summary(Some(self.summary))
            .description(Some(self.description).filter(|text| !text.is_empty()))
            .securities(Some(self.who.security()));
        for parameter in &self.parameters {
            operation = operation.parameter(parameter.clone());
        }
        if let Some((schema, examples)) = &self.body {
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name(*schema)))
                .examples_from_iter(examples.iter().map(|(name, value)| (*name, example(name, value.clone()))))
                .build();
            let body = RequestBodyBuilder::new()
                .description(Some("64 KiB at most."))
                .required(Some(Required::True))
                .content("application/json", content)
                .build();
            operation = operation.request_body(Some(body));
        }
        for (status, response) in &self.answers {
            operation = operation.response(status.to_string(), response.clone());
        }
        for (status, refused) in self.refused() {
            // Beside a success of the same status there is no refusal.
            if self.answers.iter().all(|(other, _)| *other != status) {
                let name = refused.name();
                operation = operation.response(status.to_string(), Ref::from_response_name(&name));
                shared.insert(name, refused.response());
            }
        }
        operation.build()
    }

    /// The refusals by their statuses.
    fn refused(&self) -> BTreeMap<u16, Refused> {
        let mut refused: BTreeMap<u16, Refused> = BTreeMap::new();
        let own = self.codes.iter().chain(self.who.codes()).map(|code| answer_of(*code));
        for answer in own.chain(of_the_adapter()) {
            let of_status = refused.entry(answer.status().as_u16()).or_insert_with(|| Refused::none(answer.status()));
            if of_status.answers.iter().all(|known| known.code() != answer.code()) {
                of_status.answers.push(answer);
            }
        }
        for (status, message) in self.who.refused_by_gateway() {
            let none = || Refused::none(StatusCode::from_u16(*status).unwrap_or_default());
            refused.entry(*status).or_insert_with(none).by_gateway = Some(message);
        }
        refused
    }
}

/// What is answered with one status: errors of ours by their codes, and what API Gateway says.
struct Refused {
    status: StatusCode,
    answers: Vec<ErrorAnswer>,
    by_gateway: Option<&'static str>,
}

impl Refused {
    fn none(status: StatusCode) -> Self {
        Self { status, answers: Vec::new(), by_gateway: None }
    }

    /// The same for the same answers, so that they stand in the document once.
    fn name(&self) -> String {
        let codes: Vec<String> = self.answers.iter().map(|answer| in_one_word(answer.code())).collect();
        match (codes.is_empty(), self.by_gateway) {
            (true, by_gateway) => format!("Gateway{}", by_gateway.unwrap_or_default().replace(' ', "")),
            (false, None) => codes.join("Or"),
            (false, Some(_)) => format!("{}OrGateway", codes.join("Or")),
        }
    }

    fn response(&self) -> Response {
        let codes: Vec<String> = self.answers.iter().map(|answer| format!("`{}`", answer.code())).collect();
        let reason = self.status.canonical_reason().unwrap_or_default();
        let description = match (codes.is_empty(), self.by_gateway) {
            (true, _) => format!("{reason}, by API Gateway itself"),
            (false, None) => format!("{reason}: {}", codes.join(", ")),
            (false, Some(_)) => format!("{reason}: {}; or by API Gateway itself", codes.join(", ")),
        };
        let ours = RefOr::from(Ref::from_schema_name("Error"));
        let gateways = RefOr::from(Ref::from_schema_name("GatewayError"));
        let schema: RefOr<Schema> = match (codes.is_empty(), self.by_gateway) {
            (true, _) => gateways,
            (false, None) => ours,
            (false, Some(_)) => OneOfBuilder::new().item(ours).item(gateways).into(),
        };
        let examples = self.answers.iter().map(|answer| (answer.code(), answer.message(), answer.body(TRACE)));
        let by_gateway = self.by_gateway.map(|message| ("API_GATEWAY", message, json!({"message": message})));
        let examples = examples.chain(by_gateway);
        let content = ContentBuilder::new()
            .schema(Some(schema))
            .examples_from_iter(examples.map(|(name, summary, value)| (name, example(summary, value))))
            .build();
        let mut response = ResponseBuilder::new().description(description).content("application/json", content);
        if !self.answers.is_empty() {
            response = response.header_ref("X-Trace-Id", Ref::new(TRACE_ID));
        }
        if self.answers.iter().any(|answer| answer.wait().is_some()) {
            response = response.header_ref("Retry-After", Ref::new(RETRY_AFTER));
        }
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            response = response.header("Allow", text_header("The methods that the resource is used by.", "GET,HEAD"));
        }
        if self.status == StatusCode::UNAUTHORIZED && self.by_gateway.is_some() {
            let about = "What API Gateway found wrong with the token.";
            response = response.header("WWW-Authenticate", text_header(about, "Bearer"));
        }
        response.build()
    }
}

/// The error that a code stands for, as the function makes it.
fn answer_of(code: Code) -> ErrorAnswer {
    let second = Duration::from_secs(1);
    let conflict = |status: Status| {
        let reservation = Reservation { status, hold_expires_at: u64::MAX, ..sample() };
        Refusal::Reservations(Error::Conflict(Conflict { reservation: Box::new(reservation), after: None }))
    };
    let refusal = match code {
        Code::InvalidRequest => Refusal::invalid([("quantity", "must be at most 10".to_owned())]),
        Code::MissingIdempotencyKey => Refusal::NoKey,
        Code::AuthenticationFailed => Refusal::Unauthenticated,
        Code::AdmissionRequired => Refusal::Reservations(Error::AdmissionRequired),
        Code::InvalidReservationToken => Refusal::Reservations(Error::Denied(Denied::Expired)),
        Code::TokenAlreadyUsed => Refusal::Reservations(Error::TokenUsed),
        Code::PaymentNotConfirmed => Refusal::Reservations(Error::NotPaid {
            why: "the payment is under way; ask again".to_owned(),
            after: Some(second),
        }),
        Code::ReservationNotFound => Refusal::Reservations(Error::Unknown),
        Code::NotFound => Refusal::NoSuchResource,
        Code::MethodNotAllowed => Refusal::NoSuchMethod,
        Code::PayloadTooLarge => Refusal::TooLong,
        Code::UnsupportedMediaType => Refusal::NotJson,
        Code::SeatUnavailable => Refusal::Reservations(Error::NoSeats),
        Code::TooManyHolds => Refusal::Reservations(Error::TooManyHolds { most: 4 }),
        Code::IdempotencyInProgress => Refusal::Reservations(Error::InProgress { after: second }),
        Code::IdempotencyConflict => Refusal::Reservations(Error::OtherWish),
        Code::ReservationExpired => Refusal::Reservations(Error::Over),
        Code::ReservationAlreadyConfirmed => conflict(Status::Confirmed),
        Code::ReservationAlreadyCancelled => conflict(Status::Cancelled),
        Code::ReservationInProgress => conflict(Status::Pending),
        Code::HoldNotExtended => conflict(Status::Hold),
        Code::InventoryServiceError => Refusal::Reservations(Error::Inventory { cause: String::new(), after: second }),
        Code::ServiceUnavailable => Refusal::Reservations(Error::Table { cause: String::new(), after: second }),
    };
    refusal.answer()
}

/// What the adapter answers in place of the function. A code that the function has as well is the same to its client.
fn of_the_adapter() -> Vec<ErrorAnswer> {
    let of = |status, code| ErrorAnswer::new(status, code, "the request could not be answered; ask again");
    ErrorCode::ALL
        .iter()
        .map(|code| match code {
            ErrorCode::InvalidRequest => of(StatusCode::BAD_REQUEST, *code),
            ErrorCode::InternalError => of(StatusCode::INTERNAL_SERVER_ERROR, *code),
            ErrorCode::ServiceUnavailable => {
                of(StatusCode::SERVICE_UNAVAILABLE, *code).retry_after(Duration::from_secs(1))
            }
        })
        .collect()
}

fn endpoints() -> Vec<Endpoint> {
    let pays = json!({"paymentIntentId": "pi_3PqLm2"});
    let named = json!({"reservationId": RESERVATION});
    let both = json!({"reservationId": RESERVATION, "paymentIntentId": "pi_3PqLm2"});
    let confirmed = || {
        let reservation = confirmed();
        answer::<ChangedAnswer>("It is confirmed.", &changed(&reservation, "The seats are yours."))
    };
    let cancelled = || {
        let reservation = Reservation { status: Status::Cancelled, ..sample() };
        let message = "The reservation is cancelled, and its seats are given back.";
        answer::<ChangedAnswer>("It is cancelled, now or before.", &changed(&reservation, message))
    };
    vec![
        Endpoint {
            method: HttpMethod::Post,
            key: "POST /v1/reservations",
            id: "createReservation",
            who: Who::Customer,
            summary: "Holds seats",
            description: "All of them or none. A repeat under the same key is told the same, for a day at least, and one \
                          with another wish is refused. Where the waiting room asks for a token, a reservation is \
                          its token's, whatever the key. Where the API is deployed with a limit of holds, a customer \
                          who has as many gets no more, until one is paid or has ended.",
            parameters: vec![idempotency_key(Required::True)],
            body: Some((
                "Wish",
                vec![
                    ("seats", json!({"eventId": "evt_2026_1001", "quantity": 2, "seatIds": ["A-12", "A-13"]})),
                    ("places", json!({"eventId": "evt_2026_1001", "quantity": 2})),
                ],
            )),
            answers: vec![(201, held_answer())],
            codes: &[
                Code::InvalidRequest,
                Code::MissingIdempotencyKey,
                Code::AdmissionRequired,
                Code::InvalidReservationToken,
                Code::SeatUnavailable,
                Code::TooManyHolds,
                Code::IdempotencyInProgress,
                Code::TokenAlreadyUsed,
                Code::ReservationExpired,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
                Code::IdempotencyConflict,
                Code::InventoryServiceError,
            ],
        },
        Endpoint {
            method: HttpMethod::Get,
            key: "GET /v1/reservations",
            id: "listReservations",
            who: Who::Customer,
            summary: "Shows the customer's reservations",
            description: "The newest first. One that was made this moment may not be there yet.",
            parameters: listing(),
            body: None,
            answers: vec![(200, {
                let found = Page { reservations: vec![sample()], next: None };
                answer::<PageAnswer>("A page of them.", &page(&found))
            })],
            codes: &[Code::InvalidRequest],
        },
        Endpoint {
            method: HttpMethod::Get,
            key: "GET /v1/reservations/{id}",
            id: "getReservation",
            who: Who::Customer,
            summary: "Shows a reservation",
            description: "As it is now. Another customer's is not told from one that is not there.",
            parameters: vec![id()],
            body: None,
            answers: vec![(200, answer::<Shown>("The reservation.", &shown(&sample())))],
            codes: &[Code::ReservationNotFound],
        },
        Endpoint {
            method: HttpMethod::Post,
            key: "POST /v1/reservations/{id}/confirm",
            id: "confirmReservation",
            who: Who::Customer,
            summary: "Confirms a reservation that is paid",
            description: "Naming a payment is no proof of it: until the payment says so itself, this is answered 402.",
            parameters: vec![id(), idempotency_key(Required::False)],
            body: Some(("Confirmation", vec![("payment", pays)])),
            answers: vec![(200, confirmed())],
            codes: &CONFIRM,
        },
        Endpoint {
            method: HttpMethod::Post,
            key: "POST /v1/reservations/confirm",
            id: "confirmNamedReservation",
            who: Who::Customer,
            summary: "Confirms a reservation that the body names",
            description: "As confirmReservation.",
            parameters: vec![idempotency_key(Required::False)],
            body: Some(("NamedConfirmation", vec![("payment", both)])),
            answers: vec![(200, confirmed())],
            codes: &CONFIRM,
        },
        Endpoint {
            method: HttpMethod::Post,
            key: "POST /v1/reservations/{id}/cancel",
            id: "cancelReservation",
            who: Who::Customer,
            summary: "Gives a reservation up",
            description: "Its seats are free for others a moment later.",
            parameters: vec![id(), idempotency_key(Required::False)],
            body: None,
            answers: vec![(200, cancelled())],
            codes: &[
                Code::InvalidRequest,
                Code::ReservationNotFound,
                Code::ReservationAlreadyConfirmed,
                Code::ReservationInProgress,
                Code::ReservationExpired,
            ],
        },
        Endpoint {
            method: HttpMethod::Post,
            key: "POST /v1/reservations/cancel",
            id: "cancelNamedReservation",
            who: Who::Customer,
            summary: "Gives a reservation up that the body names",
            description: "As cancelReservation.",
            parameters: vec![idempotency_key(Required::False)],
            body: Some(("NamedCancellation", vec![("reservation", named)])),
            answers: vec![(200, cancelled())],
            codes: &[
                Code::InvalidRequest,
                Code::ReservationNotFound,
                Code::ReservationAlreadyConfirmed,
                Code::ReservationInProgress,
                Code::ReservationExpired,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
            ],
        },
        Endpoint {
            method: HttpMethod::Post,
            key: "POST /v1/reservations/{id}/extend",
            id: "extendReservation",
            who: Who::Customer,
            summary: "Lets a hold last longer, once",
            description: "At most as long as the API is deployed for. Without a key, the same extension is the same request.",
            parameters: vec![id(), idempotency_key(Required::False)],
            body: Some(("Extension", vec![("minute", json!({"extensionSeconds": 60}))])),
            answers: vec![(200, {
                let message = "The seats are held until holdExpiresAt. Pay before then.";
                answer::<ChangedAnswer>("It is held longer.", &changed(&sample(), message))
            })],
            codes: &[
                Code::InvalidRequest,
                Code::ReservationNotFound,
                Code::ReservationAlreadyConfirmed,
                Code::ReservationAlreadyCancelled,
                Code::ReservationInProgress,
                Code::ReservationExpired,
                Code::HoldNotExtended,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
            ],
        },
        Endpoint {
            method: HttpMethod::Get,
            key: "GET /internal/reservations/{id}",
            id: "getAnyReservation",
            who: Who::Function,
            summary: "Shows any customer's reservation",
            description: "",
            parameters: vec![id()],
            body: None,
            answers: vec![(200, settled("The reservation."))],
            codes: &[Code::ReservationNotFound],
        },
        Endpoint {
            method: HttpMethod::Patch,
            key: "PATCH /internal/reservations/{id}",
            id: "settleReservation",
            who: Who::Function,
            summary: "Settles a reservation",
            description: "What an event asks for, if the reservation can still become that. A repeat is a success.",
            parameters: vec![id()],
            body: Some((
                "Settlement",
                vec![
                    ("paid", json!({"status": "CONFIRMED", "payment_intent_id": "pi_3PqLm2"})),
                    ("over", json!({"status": "EXPIRED"})),
                ],
            )),
            answers: vec![
                (200, settled("It is so.")),
                (409, {
                    let conflict = settled("It can't become so, and is this. After Retry-After it may.");
                    ResponseBuilder::from(conflict).header_ref("Retry-After", Ref::new(RETRY_AFTER)).build()
                }),
            ],
            codes: &[
                Code::InvalidRequest,
                Code::ReservationNotFound,
                Code::PayloadTooLarge,
                Code::UnsupportedMediaType,
            ],
        },
        Endpoint {
            method: HttpMethod::Put,
            key: "PUT /internal/reservations/{id}",
            id: "endReservation",
            who: Who::Function,
            summary: "Ends a reservation before it is created",
            description: "None of this id can hold seats after that.",
            parameters: vec![id(), if_none_match()],
            body: None,
            answers: vec![
                (201, answer::<EndedAnswer>("It is ended.", &ended(RESERVATION.to_owned()))),
                (200, answer::<EndedAnswer>("It was ended before.", &ended(RESERVATION.to_owned()))),
                (412, settled("It was created before, and is this.")),
            ],
            codes: &[Code::InvalidRequest],
        },
        health("GET /health", "health"),
        health("GET /actuator/health", "actuatorHealth"),
        Endpoint {
            key: "GET /info",
            id: "info",
            summary: "Names the function that answers",
            answers: vec![(200, {
                let commit = Some("520a5e5167dd6e5e0f5a05e8a7337b6ae51bc682");
                let info = Info { name: crate::NAME, version: env!("CARGO_PKG_VERSION"), commit };
                answer::<Info>("The function.", &info)
            })],
            ..health("", "")
        },
        Endpoint {
            key: "GET /v3/api-docs",
            id: "apiDocs",
            summary: "This document",
            description: "Where it is deployed with ApiDocs.",
            answers: vec![(200, {
                let object = ObjectBuilder::new().schema_type(Type::Object).build();
                let content = ContentBuilder::new().schema(Some(object)).build();
                ResponseBuilder::new()
                    .description("The document.")
                    .content("application/json", content)
                    .header_ref("X-Trace-Id", Ref::new(TRACE_ID))
                    .build()
            })],
            ..health("", "")
        },
        Endpoint {
            key: "GET /swagger-ui.html",
            id: "swaggerUi",
            summary: "A page that shows this document",
            description: "Where it is deployed with ApiDocs.",
            answers: vec![(200, {
                let content = ContentBuilder::new().schema(Some(Object::with_type(Type::String))).build();
                ResponseBuilder::new()
                    .description("The page.")
                    .content("text/html", content)
                    .header_ref("X-Trace-Id", Ref::new(TRACE_ID))
                    .build()
            })],
            ..health("", "")
        },
    ]
}

const CONFIRM: [Code; 9] = [
    Code::InvalidRequest,
    Code::PaymentNotConfirmed,
    Code::ReservationNotFound,
    Code::ReservationAlreadyConfirmed,
    Code::ReservationAlreadyCancelled,
    Code::ReservationInProgress,
    Code::ReservationExpired,
    Code::PayloadTooLarge,
    Code::UnsupportedMediaType,
];

fn health(key: &'static str, id: &'static str) -> Endpoint {
    Endpoint {
        method: HttpMethod::Get,
        key,
        id,
        who: Who::Anybody,
        summary: "Says that the function answers",
        description: "",
        parameters: Vec::new(),
        body: None,
        answers: vec![(200, answer::<Health>("It does.", &Health { status: "UP" }))],
        codes: &[],
    }
}

/// A reservation of the examples, on hold.
fn sample() -> Reservation {
    Reservation {
        user_id: "usr_71c2".to_owned(),
        show_id: "evt_2026_1001".to_owned(),
        seat_ids: vec!["A-12".to_owned(), "A-13".to_owned()],
        quantity: 2,
        status: Status::Hold,
        hold_expires_at: NOW + 60_000,
        ..Reservation::tombstone(RESERVATION, NOW)
    }
}

fn confirmed() -> Reservation {
    Reservation {
        status: Status::Confirmed,
        payment_intent_id: Some("pi_3PqLm2".to_owned()),
        order_id: Some(RESERVATION.replace("rsv_", "ord_")),
        amount: Some(7_600),
        currency: Some("EUR".to_owned()),
        confirmed_at: Some(NOW + 20_000),
        ..sample()
    }
}

fn held_answer() -> Response {
    let made = Created { reservation: sample(), replayed: false };
    let replayed = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["true"])).build();
    let about = "Says that this is the answer to an earlier request under the same key.";
    let mut response = ResponseBuilder::from(answer::<CreatedAnswer>("The seats are held.", &created(&made)))
        .header("Location", text_header("The path of the reservation.", &format!("/v1/reservations/{RESERVATION}")))
        .header("Idempotent-Replayed", HeaderBuilder::new().schema(Some(replayed)).description(Some(about)).build());
    for (name, operation) in [
        ("show", "getReservation"),
        ("confirm", "confirmReservation"),
        ("cancel", "cancelReservation"),
        ("extend", "extendReservation"),
    ] {
        let link = LinkBuilder::new().operation_id(operation).parameter("id", "$response.body#/reservationId").build();
        response = response.link(name, link);
    }
    response.build()
}

fn settled(about: &str) -> Response {
    answer::<ShownToFunctions>(about, &shown_to_functions(&confirmed()))
}

/// A success with the body that the function itself would make.
fn answer<T: ToSchema>(about: &str, body: &impl Serialize) -> Response {
    let body = serde_json::to_value(body).unwrap_or_default();
    let content: Content =
        ContentBuilder::new().schema(Some(Ref::from_schema_name(T::name()))).example(Some(body)).build();
    ResponseBuilder::new()
        .description(about)
        .content("application/json", content)
        .header_ref("X-Trace-Id", Ref::new(TRACE_ID))
        .build()
}

fn example(summary: &str, value: Value) -> utoipa::openapi::example::Example {
    ExampleBuilder::new().summary(summary).value(Some(value)).build()
}

fn text_header(about: &str, example: &str) -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).examples([example]).build();
    HeaderBuilder::new().schema(Some(text)).description(Some(about)).build()
}

fn trace_id() -> Header {
    text_header("By this id the request is found in the log. It is that of `traceparent`, where there is one.", TRACE)
}

fn retry_after() -> Header {
    let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build();
    HeaderBuilder::new().schema(Some(seconds)).description(Some("After so many seconds ask again.")).build()
}

fn parameter(name: &str, place: ParameterIn, required: Required, about: &str, schema: Object) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .description(Some(about))
        .schema(Some(schema))
        .build()
}

fn id() -> Parameter {
    let id = text("^[a-z0-9_]{1,256}$", RESERVATION);
    parameter("id", ParameterIn::Path, Required::True, "The reservation.", id)
}

fn idempotency_key(required: Required) -> Parameter {
    let about = "Chosen anew for each thing that is wanted, and repeated with its request. A pair of quotes around it is no \
                 part of it.";
    let key = text("^[A-Za-z0-9._~:+/=-]{1,255}$", "5f0c1c9e-2f5d-4c51-9d0b-6f1f6b7d9a11");
    parameter("Idempotency-Key", ParameterIn::Header, required, about, key)
}

fn if_none_match() -> Parameter {
    let star = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["*"])).build();
    parameter("If-None-Match", ParameterIn::Header, Required::True, "This is for what is not there.", star)
}

fn listing() -> Vec<Parameter> {
    let limit = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(1))
        .maximum(Some(LONGEST_PAGE))
        .default(Some(json!(USUAL_PAGE)))
        .build();
    let query = |name, about, schema| parameter(name, ParameterIn::Query, Required::False, about, schema);
    vec![
        query("status", "Only those of this status.", status()),
        query("eventId", "Only those for this event.", text(ANY_ID, "evt_2026_1001")),
        query("limit", "How many are looked at.", limit),
        query("cursor", "Where the page before ended: its `nextCursor`.", text("^[A-Za-z0-9_-]+$", CURSOR)),
    ]
}

/// The cursor behind the reservation of the examples.
const CURSOR: &str = "MTc5NTE2NjA2MDAwMCByc3ZfNGpoeDJtOXExazhmM2M3djViNm4wcDJyNHQ";

fn text(pattern: &str, example: &str) -> Object {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).examples([example]).build()
}

fn one_of(names: &[&str]) -> Object {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names.iter().copied())).build()
}

/// Every status that a reservation has here.
pub(crate) fn status() -> Object {
    one_of(&["PENDING", "HOLD", "CONFIRMED", "CANCELLED", "EXPIRED", "FAILED"])
}

/// The status of seats that were held.
pub(crate) fn held() -> Object {
    one_of(&["HOLD"])
}

/// The status of what was ended.
pub(crate) fn expired() -> Object {
    one_of(&["EXPIRED"])
}

/// The status of a function that answers.
pub(crate) fn up() -> Object {
    one_of(&["UP"])
}

fn confirmed_status() -> Object {
    one_of(&["CONFIRMED"])
}

fn other_status() -> Object {
    one_of(&["CANCELLED", "EXPIRED"])
}

/// Seats, each once.
fn seats() -> Array {
    let seat = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some("\\S"))
        .max_length(Some(64))
        .examples(["A-12"])
        .build();
    ArrayBuilder::new().items(seat).min_items(Some(1)).max_items(Some(10)).unique_items(true).build()
}

fn error_code() -> Object {
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    let adapters = ErrorCode::ALL.iter().map(|code| code.name()).filter(|code| !codes.contains(code));
    let all: Vec<&str> = codes.iter().copied().chain(adapters).collect();
    one_of(&all)
}

fn error_details() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::Object, Type::Null]))
        .description(Some("For INVALID_REQUEST, the rule that each wrong field breaks; null for all others."))
        .build()
}

/// Seats by their names. A `quantity` beside them must be their number.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct SeatsWish {
    /// What the tickets are for.
    #[schema(pattern = "^[!-~]{1,256}$", examples("evt_2026_1001"))]
    event_id: String,
    /// All of them are held, or none.
    #[schema(schema_with = seats)]
    seat_ids: Vec<String>,
    /// The token of the customer's turn in the waiting room. It is required where the event has a line, and good for one
    /// reservation.
    reservation_token: Option<String>,
}

/// Any seats, or places without names.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct PlacesWish {
    /// What the tickets are for.
    #[schema(pattern = "^[!-~]{1,256}$", examples("evt_2026_1001"))]
    event_id: String,
    /// How many.
    #[schema(minimum = 1, maximum = 10)]
    quantity: u32,
    /// The token of the customer's turn in the waiting room. It is required where the event has a line, and good for one
    /// reservation.
    reservation_token: Option<String>,
}

/// Which payment is for the reservation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct Confirmation {
    #[schema(pattern = "^[!-~]{1,256}$", examples("pi_3PqLm2"))]
    payment_intent_id: String,
}

/// Which payment is for which reservation.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct NamedConfirmation {
    #[schema(pattern = "^[!-~]{1,256}$")]
    reservation_id: String,
    #[schema(pattern = "^[!-~]{1,256}$", examples("pi_3PqLm2"))]
    payment_intent_id: String,
}

/// Which reservation is given up.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct NamedCancellation {
    #[schema(pattern = "^[!-~]{1,256}$")]
    reservation_id: String,
}

/// How much longer a hold shall last.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct Extension {
    #[schema(minimum = 1, maximum = 86_400)]
    extension_seconds: u64,
}

/// It is paid.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct PaidSettlement {
    #[schema(schema_with = confirmed_status)]
    status: String,
    #[schema(pattern = "^[!-~]{1,256}$", examples("pi_3PqLm2"))]
    payment_intent_id: String,
    /// In the currency's smallest unit. It is kept if it is a whole number, and nothing is decided by it.
    amount: Option<Value>,
    /// It is kept if it is a text, and nothing is decided by it.
    currency: Option<Value>,
}

/// It is given up, or its time is over.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the fields are read from the body one by one, each by its rule")]
struct UnpaidSettlement {
    #[schema(schema_with = other_status)]
    status: String,
}

/// What went wrong.
#[derive(ToSchema)]
#[schema(as = Error)]
#[expect(dead_code, reason = "an error is written where the request's trace id is known")]
struct ErrorBody {
    error: ErrorFields,
}

/// What went wrong, for programs and for people.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
#[expect(dead_code, reason = "an error is written where the request's trace id is known")]
struct ErrorFields {
    /// What programs go by.
    #[schema(schema_with = error_code)]
    code: String,
    /// For people: what happened, to which thing, and what to do.
    message: String,
    /// As in `X-Trace-Id`.
    trace_id: String,
    #[schema(schema_with = error_details, required)]
    details: Value,
}

/// What API Gateway says by itself. No function has seen the request, or none has answered it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "API Gateway writes it")]
struct GatewayError {
    message: String,
}

fn components(refusals: BTreeMap<String, Response>) -> Components {
    let any_of = |names: [&str; 2], about: &str| {
        let [one, other] = names.map(Ref::from_schema_name);
        AnyOfBuilder::new().item(one).item(other).description(Some(about))
    };
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("A token of the issuer that the API is deployed with. The customer is its sub."))
        .build();
    let about = "AWS Signature Version 4 for the service execute-api, by a role that may call the route.";
    let signature = ApiKey::Header(ApiKeyValue::with_description("Authorization", about));
    ComponentsBuilder::new()
        .schema("Wish", any_of(["SeatsWish", "PlacesWish"], "What is to be held."))
        .schema_from::<SeatsWish>()
        .schema_from::<PlacesWish>()
        .schema_from::<Confirmation>()
        .schema_from::<NamedConfirmation>()
        .schema_from::<NamedCancellation>()
        .schema_from::<Extension>()
        .schema("Settlement", any_of(["PaidSettlement", "UnpaidSettlement"], "What an event asks for."))
        .schema_from::<PaidSettlement>()
        .schema_from::<UnpaidSettlement>()
        .schema_from::<CreatedAnswer>()
        .schema_from::<Shown>()
        .schema_from::<PageAnswer>()
        .schema_from::<ChangedAnswer>()
        .schema_from::<ShownToFunctions>()
        .schema_from::<EndedAnswer>()
        .schema_from::<Health>()
        .schema_from::<Info>()
        .schema_from::<ErrorBody>()
        .schema_from::<ErrorFields>()
        .schema_from::<GatewayError>()
        .responses_from_iter(refusals)
        .header("X-Trace-Id", trace_id())
        .header("Retry-After", retry_after())
        .security_scheme("token", SecurityScheme::Http(token))
        .security_scheme("signature", SecurityScheme::ApiKey(signature))
        .build()
}

/// `SEAT_UNAVAILABLE` -> `SeatUnavailable`.
fn in_one_word(code: &str) -> String {
    let capital = |word: &str| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        format!("{first}{}", rest.to_ascii_lowercase())
    };
    code.split('_').map(capital).collect()
}
