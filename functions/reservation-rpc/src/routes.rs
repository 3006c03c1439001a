//! The service behind its paths, by the protocols that API Gateway passes on.

use std::{future::ready, sync::Arc};

use axum::{
    Router,
    extract::Request,
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, post_service},
};
use connectrpc::{ConnectRpcService, Limits};
use shared::{
    reservation::service::Reservations,
    trigger::http::{Route, TraceId, is_native_grpc, refuse_native_grpc},
};

use crate::{proto::reservation::v1::ReservationServiceExt, service::Service};

/// A longer message is not read.
const LONGEST_MESSAGE: usize = 64 * 1024;

/// The calls, as their requests are counted.
pub const ROUTES: [&str; 6] = [
    "POST /reservation.v1.ReservationService/CreateReservation",
    "POST /reservation.v1.ReservationService/GetReservation",
    "POST /reservation.v1.ReservationService/ConfirmReservation",
    "POST /reservation.v1.ReservationService/CancelReservation",
    "POST /reservation.v1.ReservationService/ListReservations",
    "POST /reservation.v1.ReservationService/ExtendHold",
];

/// The service.
pub(crate) fn router(reservations: Reservations) -> Router {
    let service = ConnectRpcService::new(Arc::new(Service { reservations }).register(connectrpc::Router::new()));
    let limits = Limits::default().with_max_request_body_size(LONGEST_MESSAGE).with_max_message_size(LONGEST_MESSAGE);
    let service = service.with_limits(limits);
    let named = |name: &'static str| {
        let route: MethodRouter = post_service(service.clone());
        let noted = middleware::map_response(move |mut response: Response| {
            response.extensions_mut().insert(Route(name));
            ready(response)
        });
        let path = name.split_once(' ').map_or("", |(_, path)| path);
        Router::new().route(path, route.route_layer(noted))
    };
    let routed = ROUTES.into_iter().fold(Router::new(), |routed, name| routed.merge(named(name)));
    routed
        // It says in the caller's own protocol that there is no such method.
        .fallback_service(service)
        .layer(middleware::from_fn(by_other_protocols))
}

/// A browser's question before a page calls is answered here, because no protocol of RPC has it.
async fn by_other_protocols(request: Request, next: Next) -> Response {
    if request.method() == axum::http::Method::OPTIONS {
        return (StatusCode::NO_CONTENT, [(header::ALLOW, "POST,OPTIONS")]).into_response();
    }
    if !is_native_grpc(request.headers()) {
        return next.run(request).await;
    }
    let Some(trace_id) = request.extensions().get::<TraceId>() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    refuse_native_grpc().response(trace_id).map(axum::body::Body::new)
}
