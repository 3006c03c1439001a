//! The six calls: each reads its request whole, does one thing with the reservations, and answers.

use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use shared::{
    reservation::service::{Listing, Reservations},
    telemetry::trace::TraceContext,
    trigger::http::{TraceId, rpc::customer},
};

use crate::{
    answer,
    fault::of,
    proto::reservation::v1::{
        CancelReservationRequest, CancelReservationResponse, ConfirmReservationRequest, ConfirmReservationResponse,
        CreateReservationRequest, CreateReservationResponse, ExtendHoldRequest, ExtendHoldResponse,
        GetReservationRequest, GetReservationResponse, ListReservationsRequest, ListReservationsResponse,
        ReservationService,
    },
    request,
};

/// The reservations, by RPC.
pub(crate) struct Service {
    pub(crate) reservations: Arc<Reservations>,
}

#[expect(refining_impl_trait, reason = "which message an answer is, is no secret")]
impl ReservationService for Service {
    async fn create_reservation(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, CreateReservationRequest>,
    ) -> ServiceResult<CreateReservationResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        let trace_id = context.extensions().get::<TraceId>().map(ToString::to_string);
        let trace = context.extensions().get::<TraceContext>().cloned().unwrap_or_default();
        let wish = request::wish(&request, user_id, trace_id)?;
        let token = Some(request.reservation_token.as_str()).filter(|token| !token.is_empty());
        let created = self.reservations.create(&wish, token, &trace).await.map_err(of)?;
        let mut response = Response::new(answer::created(&created));
        if created.replayed {
            response = response.with_header("idempotent-replayed", "true");
        }
        Ok(response)
    }

    async fn get_reservation(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, GetReservationRequest>,
    ) -> ServiceResult<GetReservationResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        let id = request::reservation(&request.reservation_id)?;
        let found = self.reservations.get(id, &user_id).await.map_err(of)?;
        Response::ok(GetReservationResponse { reservation: answer::shown(&found).into(), ..Default::default() })
    }

    async fn confirm_reservation(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ConfirmReservationRequest>,
    ) -> ServiceResult<ConfirmReservationResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        request::optional_key(&request.idempotency_key)?;
        let payment = request::payment(&request.payment_intent_id)?;
        let id = request::reservation(&request.reservation_id)?;
        let trace = context.extensions().get::<TraceContext>().cloned().unwrap_or_default();
        let found = self.reservations.confirm(id, &user_id, payment, &trace).await.map_err(of)?;
        Response::ok(answer::confirmed(&found))
    }

    async fn cancel_reservation(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, CancelReservationRequest>,
    ) -> ServiceResult<CancelReservationResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        request::optional_key(&request.idempotency_key)?;
        let id = request::reservation(&request.reservation_id)?;
        let found = self.reservations.cancel(id, &user_id).await.map_err(of)?;
        Response::ok(answer::cancelled(&found))
    }

    async fn list_reservations(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ListReservationsRequest>,
    ) -> ServiceResult<ListReservationsResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        let listing: Listing = request::listing(&request)?;
        let page = self.reservations.list(&user_id, &listing).await.map_err(of)?;
        Response::ok(answer::page(&page, listing.after.is_some()))
    }

    async fn extend_hold(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, ExtendHoldRequest>,
    ) -> ServiceResult<ExtendHoldResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        let longer = request::extension(request.extension_seconds)?;
        let key = request::optional_key(&request.idempotency_key)?;
        // Without a key, the same extension is the same wish.
        let key = key.map_or_else(|| longer.as_secs().to_string(), str::to_owned);
        let id = request::reservation(&request.reservation_id)?;
        let found = self.reservations.extend(id, &user_id, longer, &key).await.map_err(of)?;
        Response::ok(answer::extended(&found))
    }
}
