//! A payment service over gRPC that lives in memory: what becomes of a payment is said when it is created, and it is told on
//! the bus, as a payment service must.
//!
//! It asks nobody for money. Whoever asks about a payment that is another customer's learns no more than that there is none.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};
use tokio::{net::TcpListener, time::sleep};
use tonic::{Code, Request, Response, Status, service::Routes, transport::Server};

use crate::{
    inventory::ServeError,
    latency,
    proto::{
        common::v1::{Error, ErrorCode, Money},
        payment::v1::{
            CreatePaymentIntentRequest, CreatePaymentIntentResponse, GetPaymentStatusRequest, GetPaymentStatusResponse,
            Payment, PaymentScenario, PaymentStatus, ProcessPaymentRequest, ProcessPaymentResponse,
            payment_service_server::{PaymentService, PaymentServiceServer, SERVICE_NAME},
        },
    },
    reflection::serve,
    tripwire::Tripwire,
};

/// How long a payment takes that is [`Course::Late`].
pub const DELAY: Duration = Duration::from_secs(3);

/// The server and its books; clones share them, so that a test keeps one while another serves.
#[derive(Clone, Default)]
pub struct Payments {
    books: Arc<Mutex<Books>>,
}

/// What becomes of a payment once it is carried out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Course {
    /// It goes through.
    Approved,
    /// It does not.
    Failed,
    /// It goes through after [`DELAY`].
    Late,
    /// Nobody ever hears of it again: carrying it out has no answer, and it stays under way.
    Silent,
}

/// A payment to be made.
#[derive(Clone, Debug)]
pub struct Order {
    /// The reservation that it is for.
    pub reservation_id: String,
    /// The customer who pays.
    pub user_id: String,
    /// In the smallest unit of the currency.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// What becomes of it.
    pub course: Course,
}

/// An end of a payment, as the service publishes it: the type of the event, and its detail.
pub type Ended = (&'static str, Value);

/// A scripted answer to one question about a payment, in place of what the books say.
#[derive(Clone, Debug)]
pub enum Scripted {
    /// A gRPC status.
    Status(Code, String),
    /// An error inside a response that is otherwise empty.
    Error {
        /// Number of the error code.
        code: i32,
        /// Text for people.
        message: String,
    },
    /// The payment as it is, under another name.
    About(String),
    /// The payment as it is, whoever asks: a service that looks at no customer.
    ToAnybody,
    /// A response without anything.
    Nothing,
    /// No answer ever.
    Hang,
}

#[derive(Default)]
struct Books {
    payments: BTreeMap<String, Entry>,
    keys: HashMap<String, String>,
    scripts: VecDeque<Scripted>,
    questions: usize,
    publisher: Option<Publisher>,
    latency: Duration,
    tripwire: Tripwire,
}

type Publisher = Arc<dyn Fn(Ended) + Send + Sync>;

#[derive(Clone)]
struct Entry {
    order: Order,
    status: PaymentStatus,
    created_at: SystemTime,
    processed_at: Option<SystemTime>,
}

impl Payments {
    /// Serves until the task is dropped, with reflection.
    ///
    /// # Errors
    /// When the listener or the protocol fails.
    pub async fn serve(self, listener: TcpListener) -> Result<(), ServeError> {
        serve(Server::builder(), Routes::new(PaymentServiceServer::new(self)), SERVICE_NAME, listener).await
    }

    /// Tells `publisher` of each end of a payment from now on.
    pub fn publish_by(&self, publisher: impl Fn(Ended) + Send + Sync + 'static) {
        self.lock().publisher = Some(Arc::new(publisher));
    }

    /// Begins a payment; its name is the answer.
    pub fn create(&self, order: Order) -> String {
        let mut books = self.lock();
        let intent_id = format!("pi_{}", books.payments.len() + 1);
        let entry = Entry { order, status: PaymentStatus::Pending, created_at: SystemTime::now(), processed_at: None };
        books.payments.insert(intent_id.clone(), entry);
        intent_id
    }

    /// Carries a payment out, once; what then becomes of it is told by its status, and on the bus. Nothing, where there is no
    /// such payment, or where its service falls silent about it.
    pub fn process(&self, intent_id: &str) -> Option<()> {
        let course = {
            let mut books = self.lock();
            let entry = books.payments.get_mut(intent_id)?;
            if entry.status != PaymentStatus::Pending {
                return Some(());
            }
            entry.status = PaymentStatus::Processing;
            entry.order.course
        };
        match course {
            Course::Approved => self.end(intent_id, PaymentStatus::Completed),
            Course::Failed => self.end(intent_id, PaymentStatus::Failed),
            Course::Late => {
                let (payments, intent_id) = (self.clone(), intent_id.to_owned());
                tokio::spawn(async move {
                    sleep(DELAY).await;
                    payments.end(&intent_id, PaymentStatus::Completed);
                });
            }
            Course::Silent => return None,
        }
        Some(())
    }

    /// Begins a payment and carries it out.
    pub fn pay(&self, order: Order) -> String {
        let intent_id = self.create(order);
        self.process(&intent_id);
        intent_id
    }

    /// Prepares the answer to the next question; several are used up in order.
    pub fn answer_next(&self, answer: Scripted) {
        self.lock().scripts.push_back(answer);
    }

    /// How often somebody asked what became of a payment.
    pub fn questions(&self) -> usize {
        self.lock().questions
    }

    /// Delays every answer until so long after its request.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Lets every question from now on pass this wire.
    pub fn set_tripwire(&self, tripwire: Tripwire) {
        self.lock().tripwire = tripwire;
    }

    fn end(&self, intent_id: &str, status: PaymentStatus) {
        let told = {
            let mut books = self.lock();
            let publisher = books.publisher.clone();
            let Some(entry) = books.payments.get_mut(intent_id) else { return };
            (entry.status, entry.processed_at) = (status, Some(SystemTime::now()));
            publisher.map(|publisher| (publisher, ended(intent_id, entry)))
        };
        if let Some((publisher, ended)) = told {
            publisher(ended);
        }
    }

    /// A panic elsewhere leaves the books readable: a test then reports its own failure rather than a poisoned lock.
    fn lock(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn ended(intent_id: &str, entry: &Entry) -> Ended {
    let Order { reservation_id, user_id, amount, currency, .. } = &entry.order;
    let mut detail = json!({
        "reservation_id": reservation_id, "payment_intent_id": intent_id, "amount": amount, "currency": currency,
        "user_id": user_id,
    });
    if entry.status == PaymentStatus::Completed {
        return ("payment.approved", detail);
    }
    detail["error_code"] = json!("card_declined");
    ("payment.failed", detail)
}

fn in_band(code: ErrorCode, message: &str) -> Option<Error> {
    Some(Error { code: code as i32, message: message.to_owned(), ..Default::default() })
}

#[tonic::async_trait]
impl PaymentService for Payments {
    async fn create_payment_intent(
        &self,
        request: Request<CreatePaymentIntentRequest>,
    ) -> Result<Response<CreatePaymentIntentResponse>, Status> {
        let asked = request.into_inner();
        let refused = |code, message| {
            Ok(Response::new(CreatePaymentIntentResponse { error: in_band(code, message), ..Default::default() }))
        };
        let course = match asked.scenario() {
            PaymentScenario::Unspecified | PaymentScenario::Approve => Course::Approved,
            PaymentScenario::Fail => Course::Failed,
            PaymentScenario::Delay => Course::Late,
            PaymentScenario::Timeout => Course::Silent,
            PaymentScenario::Random => {
                *fastrand::choice(&[Course::Approved, Course::Failed]).unwrap_or(&Course::Failed)
            }
        };
        let Some(Money { amount, currency }) = asked.amount else {
            return refused(ErrorCode::InvalidArgument, "amount is missing");
        };
        if asked.reservation_id.is_empty() || amount < 0 {
            return refused(ErrorCode::InvalidArgument, "a payment is for a reservation, and of 0 or more");
        }
        if asked.idempotency_key.is_empty() {
            return refused(ErrorCode::IdempotencyRequired, "idempotency_key is missing");
        }
        let known = self.lock().keys.get(&asked.idempotency_key).cloned();
        let payment_intent_id = known.unwrap_or_else(|| {
            let order =
                Order { reservation_id: asked.reservation_id, user_id: asked.user_id, amount, currency, course };
            let intent_id = self.create(order);
            self.lock().keys.insert(asked.idempotency_key, intent_id.clone());
            intent_id
        });
        let status = PaymentStatus::Pending as i32;
        Ok(Response::new(CreatePaymentIntentResponse { payment_intent_id, status, ..Default::default() }))
    }

    async fn process_payment(
        &self,
        request: Request<ProcessPaymentRequest>,
    ) -> Result<Response<ProcessPaymentResponse>, Status> {
        let intent_id = request.into_inner().payment_intent_id;
        if !self.lock().payments.contains_key(&intent_id) {
            let error = in_band(ErrorCode::NotFound, "no such payment");
            return Ok(Response::new(ProcessPaymentResponse { error, ..Default::default() }));
        }
        if self.process(&intent_id).is_none() {
            future::pending::<()>().await;
        }
        let entry = self.lock().payments.get(&intent_id).cloned();
        Ok(Response::new(ProcessPaymentResponse {
            payment_id: intent_id.replace("pi_", "pay_"),
            status: entry.as_ref().map_or(0, |entry| entry.status as i32),
            processed_at: entry.and_then(|entry| entry.processed_at).map(Into::into),
            ..Default::default()
        }))
    }

    async fn get_payment_status(
        &self,
        request: Request<GetPaymentStatusRequest>,
    ) -> Result<Response<GetPaymentStatusResponse>, Status> {
        let arrived = latency::arrival(request.extensions()).await;
        let GetPaymentStatusRequest { payment_intent_id: intent_id, user_id } = request.into_inner();
        let tripwire = self.lock().tripwire.clone();
        let passage = tripwire.arrive("GetPaymentStatus").await;
        let (latency, script, entry) = {
            let mut books = self.lock();
            books.questions += 1;
            let script = books.scripts.pop_front();
            (books.latency, script, books.payments.get(&intent_id).cloned())
        };
        passage.leave().await;
        latency::wait(arrived, latency).await;
        let to_anybody = matches!(script, Some(Scripted::ToAnybody));
        let named = match script {
            Some(Scripted::Status(code, message)) => return Err(Status::new(code, message)),
            Some(Scripted::Error { code, message }) => {
                let error = Some(Error { code, message, ..Default::default() });
                return Ok(Response::new(GetPaymentStatusResponse { error, payment: None }));
            }
            Some(Scripted::Nothing) => return Ok(Response::new(GetPaymentStatusResponse::default())),
            Some(Scripted::Hang) => return future::pending().await,
            Some(Scripted::About(other)) => other,
            Some(Scripted::ToAnybody) | None => intent_id,
        };
        let Some(entry) = entry.filter(|entry| to_anybody || user_id.is_empty() || entry.order.user_id == user_id)
        else {
            let error = in_band(ErrorCode::NotFound, "no such payment");
            return Ok(Response::new(GetPaymentStatusResponse { error, payment: None }));
        };
        let Order { reservation_id, user_id, amount, currency, .. } = entry.order;
        let payment = Payment {
            payment_id: named.replace("pi_", "pay_"),
            payment_intent_id: named,
            reservation_id,
            user_id,
            status: entry.status as i32,
            amount: Some(Money { amount, currency }),
            created_at: Some(entry.created_at.into()),
            processed_at: entry.processed_at.map(Into::into),
            ..Default::default()
        };
        Ok(Response::new(GetPaymentStatusResponse { payment: Some(payment), error: None }))
    }
}
