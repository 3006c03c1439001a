//! The far end of every remote call of a worker: it says what was asked, and answers what it is told to.
//!
//! The worker's own clients talk to it over loopback, so what is read here is what goes over the wire, and what a
//! worker makes of an answer is decided by its own code from the first byte on.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response as HttpResponse},
};
use local_stack::proto::{
    payment::v1::{
        CreatePaymentIntentRequest, CreatePaymentIntentResponse, GetPaymentStatusRequest, GetPaymentStatusResponse,
        ProcessPaymentRequest, ProcessPaymentResponse,
        payment_service_server::{PaymentService, PaymentServiceServer},
    },
    reservation::v1::{
        CheckAvailabilityRequest, CheckAvailabilityResponse, CommitReservationRequest, CommitReservationResponse,
        GetInventoryStatusRequest, GetInventoryStatusResponse, ReleaseHoldRequest, ReleaseHoldResponse,
        ReserveSeatRequest, ReserveSeatResponse,
        inventory_service_server::{InventoryService, InventoryServiceServer},
    },
};
use prost::Message;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use tonic::{
    Code, Response, Status,
    transport::{Server, server::TcpIncoming},
};

/// A remote call as it arrived.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Request {
    /// To the reservation API.
    Rest { method: Method, path: String, key: String, body: String },
    /// To DynamoDB or EventBridge.
    Aws { target: String, body: String },
    /// To the inventory. When the hold would end is left out, because each try says another time.
    Reserve(ReserveSeatRequest),
    /// To the inventory.
    Commit(CommitReservationRequest),
    /// To the inventory.
    Release(ReleaseHoldRequest),
    /// To the payment service.
    Payment(GetPaymentStatusRequest),
}

/// What comes back. Times are left out, because nothing is decided by them.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Answer {
    Http {
        status: u16,
        body: String,
    },
    /// The response of the inventory or of the payment service, as it is encoded.
    Message(Vec<u8>),
    /// The refusal of either.
    Grpc(Code, String),
}

/// A call that waits for its answer.
pub(crate) type Asked = (Request, oneshot::Sender<Answer>);

/// Both servers, and the calls that arrive at them.
pub(crate) struct Gate {
    pub(crate) http_address: String,
    pub(crate) grpc_address: String,
    pub(crate) asked: mpsc::UnboundedReceiver<Asked>,
}

impl Gate {
    pub(crate) async fn open() -> Self {
        let (sender, asked) = mpsc::unbounded_channel();
        let entrance = Entrance(Arc::new(sender));
        let (http, http_address) = listen().await;
        let (grpc, grpc_address) = listen().await;
        let routes = Router::new().fallback(http_call).with_state(entrance.clone());
        tokio::spawn(async move { axum::serve(http, routes).await });
        let server = Server::builder()
            .add_service(InventoryServiceServer::new(entrance.clone()))
            .add_service(PaymentServiceServer::new(entrance));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(grpc).with_nodelay(Some(true))));
        Self { http_address, grpc_address, asked }
    }
}

pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a loopback port");
    let address = listener.local_addr().expect("an address").to_string();
    (listener, address)
}

#[derive(Clone)]
struct Entrance(Arc<mpsc::UnboundedSender<Asked>>);

impl Entrance {
    /// Nobody answers once the run that asked is over; its connection then ends too.
    async fn ask(&self, request: Request) -> Option<Answer> {
        let (reply, answer) = oneshot::channel();
        self.0.send((request, reply)).ok()?;
        answer.await.ok()
    }

    async fn ask_by_grpc<T: Message + Default>(&self, request: Request) -> Result<Response<T>, Status> {
        match self.ask(request).await {
            Some(Answer::Message(message)) => Ok(Response::new(T::decode(message.as_slice()).expect("a response"))),
            Some(Answer::Grpc(code, message)) => Err(Status::new(code, message)),
            Some(Answer::Http { .. }) => Err(Status::internal("this is no answer by gRPC")),
            None => Err(Status::cancelled("the run is over")),
        }
    }
}

async fn http_call(
    State(entrance): State<Entrance>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<HttpResponse, Infallible> {
    let header = |name: &str| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let body = String::from_utf8_lossy(&body).into_owned();
    let request = match header("x-amz-target") {
        Some(target) => Request::Aws { target, body },
        None => {
            let key = header("idempotency-key").unwrap_or_default();
            Request::Rest { method, path: uri.path().to_owned(), key, body }
        }
    };
    Ok(match entrance.ask(request).await {
        Some(Answer::Http { status, body }) => {
            (StatusCode::from_u16(status).expect("a status"), [("content-type", "application/json")], body)
                .into_response()
        }
        Some(Answer::Message(_) | Answer::Grpc(..)) | None => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    })
}

#[tonic::async_trait]
impl InventoryService for Entrance {
    async fn commit_reservation(
        &self,
        request: tonic::Request<CommitReservationRequest>,
    ) -> Result<Response<CommitReservationResponse>, Status> {
        self.ask_by_grpc(Request::Commit(request.into_inner())).await
    }

    async fn release_hold(
        &self,
        request: tonic::Request<ReleaseHoldRequest>,
    ) -> Result<Response<ReleaseHoldResponse>, Status> {
        self.ask_by_grpc(Request::Release(request.into_inner())).await
    }

    async fn check_availability(
        &self,
        _request: tonic::Request<CheckAvailabilityRequest>,
    ) -> Result<Response<CheckAvailabilityResponse>, Status> {
        Err(Status::unimplemented("nobody asks this"))
    }

    async fn reserve_seat(
        &self,
        request: tonic::Request<ReserveSeatRequest>,
    ) -> Result<Response<ReserveSeatResponse>, Status> {
        let request = ReserveSeatRequest { hold_expires_at: None, ..request.into_inner() };
        self.ask_by_grpc(Request::Reserve(request)).await
    }

    async fn get_inventory_status(
        &self,
        _request: tonic::Request<GetInventoryStatusRequest>,
    ) -> Result<Response<GetInventoryStatusResponse>, Status> {
        Err(Status::unimplemented("nobody asks this"))
    }
}

#[tonic::async_trait]
impl PaymentService for Entrance {
    async fn create_payment_intent(
        &self,
        _request: tonic::Request<CreatePaymentIntentRequest>,
    ) -> Result<Response<CreatePaymentIntentResponse>, Status> {
        Err(Status::unimplemented("nobody asks this"))
    }

    async fn process_payment(
        &self,
        _request: tonic::Request<ProcessPaymentRequest>,
    ) -> Result<Response<ProcessPaymentResponse>, Status> {
        Err(Status::unimplemented("nobody asks this"))
    }

    async fn get_payment_status(
        &self,
        request: tonic::Request<GetPaymentStatusRequest>,
    ) -> Result<Response<GetPaymentStatusResponse>, Status> {
        self.ask_by_grpc(Request::Payment(request.into_inner())).await
    }
}
