//! The five calls: each reads its request whole, does one thing in the waiting room, and answers.

use std::sync::Arc;

use connectrpc::{ConnectError, RequestContext, Response, ServiceRequest, ServiceResult};
use shared::{
    trigger::http::{ReceivedAt, rpc::customer},
    waiting_room::service::WaitingRoom,
};

use crate::{
    answer,
    fault::of,
    proto::booking_worker::v1::{
        BookingWorkerService, CancelQueueItemRequest, CancelQueueItemResponse, EnqueueBookingRequest,
        EnqueueBookingResponse, GetQueuePositionRequest, GetQueuePositionResponse, GetQueueStatusRequest,
        GetQueueStatusResponse, HealthRequest, HealthResponse,
    },
    request,
};

/// So long a cache may keep what is the same for everybody.
const FOR_EVERYBODY: &str = "public, max-age=1";

/// The waiting room, by RPC.
pub(crate) struct Service {
    pub(crate) room: Arc<WaitingRoom>,
}

#[expect(refining_impl_trait, reason = "which message an answer is, is no secret")]
impl BookingWorkerService for Service {
    async fn enqueue_booking(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, EnqueueBookingRequest>,
    ) -> ServiceResult<EnqueueBookingResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        let received = context.extensions().get::<ReceivedAt>().copied().unwrap_or_default();
        let wish = request::wish(&request, user_id, received)?;
        let shown = self.room.join(&wish).await.map_err(of)?;
        Response::ok(answer::joined(&shown))
    }

    async fn get_queue_position(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, GetQueuePositionRequest>,
    ) -> ServiceResult<GetQueuePositionResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        let shown = self.room.position(&request.queue_item_id, &user_id).await.map_err(of)?;
        Ok(Response::new(answer::position(&shown, self.room.push_url(&shown))).with_header("cache-control", "no-store"))
    }

    async fn get_queue_status(
        &self,
        _context: RequestContext,
        request: ServiceRequest<'_, GetQueueStatusRequest>,
    ) -> ServiceResult<GetQueueStatusResponse> {
        let show_id = request::show_id(&request.to_owned_message().event_id)
            .map_err(|rule| ConnectError::invalid_argument(format!("event_id {rule}")))?;
        let line = self.room.line(&show_id).await.map_err(of)?;
        Ok(Response::new(answer::status(&line)).with_header("cache-control", FOR_EVERYBODY))
    }

    async fn cancel_queue_item(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, CancelQueueItemRequest>,
    ) -> ServiceResult<CancelQueueItemResponse> {
        let request = request.to_owned_message();
        let user_id = customer(&context, &request.user_id)?;
        self.room.cancel(&request.queue_item_id, &user_id).await.map_err(of)?;
        Response::ok(answer::cancelled())
    }

    /// That this function answers; it calls nobody, because anybody may ask.
    async fn health(
        &self,
        _context: RequestContext,
        _request: ServiceRequest<'_, HealthRequest>,
    ) -> ServiceResult<HealthResponse> {
        Response::ok(answer::health())
    }
}
