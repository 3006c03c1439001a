//! The payment service, which is asked what became of a payment.

use std::time::Duration;

use tonic::Code;

use super::grpc::{
    Connection, Fault, Names, code_and_text, described,
    proto::{
        common::v1::{Error as InBand, ErrorCode as InBandCode},
        payment::v1::{
            GetPaymentStatusRequest, GetPaymentStatusResponse, PaymentStatus,
            payment_service_client::PaymentServiceClient,
        },
    },
    says_something,
};
pub use super::grpc::{SetupError, TlsMaterial};
use crate::{
    failure::quoted,
    reservation::{
        Money,
        payment::{Stage, Statement},
    },
    start::Parts,
    telemetry::trace::TraceContext,
};

const NAMES: Names = Names {
    address: "PAYMENT_GRPC_ADDR",
    timeout: "PAYMENT_TIMEOUT_MS",
    address_field: "payment_grpc_addr",
    authority_field: "payment_tls_ca",
    identity_fields: ["payment_tls_cert", "payment_tls_key"],
};

const STATUS: &str = "GetPaymentStatus";

/// What is asked of the payment service, as its calls are measured.
pub const METHODS: [&str; 1] = [STATUS];

/// Why nothing is known of a payment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The service has no such payment, or does not take this for the name of one.
    #[error("the payment service knows no such payment: {0}")]
    Unknown(String),
    /// Anything else; a repeat may succeed.
    #[error("the payment service did not say what became of the payment: {0}")]
    Unavailable(String),
}

/// A client of the payment service; clones share its connection.
#[derive(Debug, Clone)]
pub struct PaymentClient(Connection);

impl PaymentClient {
    /// A client whose calls take `timeout` at most, connecting included. It must be made inside a Tokio runtime.
    ///
    /// # Errors
    /// When no channel can be made of `address` and `tls`.
    pub fn new(address: &str, tls: &TlsMaterial, timeout: Duration) -> Result<Self, SetupError> {
        Connection::new(address, tls, timeout).map(Self)
    }

    /// The service that `PAYMENT_GRPC_ADDR` names, or the secret. `Some(None)`: none is named. Nothing: what is wrong is noted.
    /// It must be called inside a Tokio runtime.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Option<Self>> {
        match parts.reader.optional_or_secret(NAMES.address, NAMES.address_field) {
            Some(address) => {
                Connection::configured(parts, &NAMES, Some(address)).map(|connection| Some(Self(connection)))
            }
            None => Some(None),
        }
    }

    /// The connection that its calls go over.
    pub fn connection(&self) -> &Connection {
        &self.0
    }

    /// What the service says of this customer's payment.
    ///
    /// # Errors
    /// When it does not know it, or says nothing that can be relied on.
    pub async fn status(&self, intent_id: &str, user_id: &str, trace: &TraceContext) -> Result<Statement, Error> {
        let message = GetPaymentStatusRequest { payment_intent_id: intent_id.to_owned(), user_id: user_id.to_owned() };
        let request = self.0.request(message, trace);
        let asked = self.0.call(STATUS, |channel| async move {
            PaymentServiceClient::new(channel).get_payment_status(request).await
        });
        told(asked.await?, intent_id)
    }
}

impl From<Fault> for Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Status(status) => match status.code() {
                Code::NotFound | Code::InvalidArgument => Self::Unknown(described(&status)),
                Code::Ok
                | Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::ResourceExhausted
                | Code::FailedPrecondition
                | Code::Aborted
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
                | Code::Unauthenticated => Self::Unavailable(described(&status)),
            },
            fault @ (Fault::Unread(_) | Fault::TimedOut(_)) => Self::Unavailable(fault.to_string()),
        }
    }
}

/// What an answer says. One that names another payment, or none, says nothing of ours.
fn told(answer: GetPaymentStatusResponse, intent_id: &str) -> Result<Statement, Error> {
    if let Some(error) = answer.error.filter(says_something) {
        return Err(in_band(&error));
    }
    let payment = answer.payment.ok_or_else(|| Error::Unavailable("its answer holds no payment".to_owned()))?;
    if payment.payment_intent_id != intent_id {
        let other = quoted(&payment.payment_intent_id);
        return Err(Error::Unavailable(format!("its answer is about {other}")));
    }
    let stage = match PaymentStatus::try_from(payment.status) {
        Ok(PaymentStatus::Completed) => Stage::Paid,
        Ok(PaymentStatus::Pending | PaymentStatus::Processing) => Stage::UnderWay,
        Ok(
            status @ (PaymentStatus::Failed
            | PaymentStatus::Cancelled
            | PaymentStatus::Refunded
            | PaymentStatus::Expired),
        ) => Stage::Over(status.as_str_name()),
        Ok(PaymentStatus::Unspecified) | Err(_) => {
            return Err(Error::Unavailable(format!("payment status {}, which says nothing", payment.status)));
        }
    };
    let amount = payment.amount.map(|money| Money { amount: money.amount, currency: money.currency });
    Ok(Statement { reservation_id: payment.reservation_id, user_id: payment.user_id, stage, amount })
}

fn in_band(error: &InBand) -> Error {
    let (code, text) = match code_and_text(error) {
        Ok(known) => known,
        Err(text) => return Error::Unavailable(text),
    };
    match code {
        InBandCode::NotFound | InBandCode::InvalidArgument => Error::Unknown(text),
        InBandCode::Unspecified
        | InBandCode::Unauthenticated
        | InBandCode::Forbidden
        | InBandCode::Unauthorized
        | InBandCode::AlreadyExists
        | InBandCode::FailedPrecondition
        | InBandCode::RateLimited
        | InBandCode::QuotaExceeded
        | InBandCode::IdempotencyRequired
        | InBandCode::IdempotencyConflict
        | InBandCode::ReservationExpired
        | InBandCode::PaymentNotApproved
        | InBandCode::InventoryConflict
        | InBandCode::InsufficientInventory
        | InBandCode::Internal
        | InBandCode::Unavailable
        | InBandCode::Timeout
        | InBandCode::UpstreamTimeout
        | InBandCode::UpstreamError
        | InBandCode::DataCorruption
        | InBandCode::ConcurrentModification => Error::Unavailable(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::grpc::proto::{common::v1::Money as WireMoney, payment::v1::Payment as WirePayment};

    fn answer(status: i32) -> GetPaymentStatusResponse {
        let payment = WirePayment {
            payment_intent_id: "pi_1".into(),
            reservation_id: "rsv_1".into(),
            user_id: "usr_1".into(),
            status,
            amount: Some(WireMoney { amount: 7_600, currency: "EUR".into() }),
            ..WirePayment::default()
        };
        GetPaymentStatusResponse { payment: Some(payment), error: None }
    }

    fn stage(status: i32) -> Option<Stage> {
        told(answer(status), "pi_1").ok().map(|payment| payment.stage)
    }

    #[test]
    fn a_payment_is_told_by_its_status_and_an_unknown_status_says_nothing() {
        assert_eq!(stage(3), Some(Stage::Paid));
        assert_eq!((stage(1), stage(2)), (Some(Stage::UnderWay), Some(Stage::UnderWay)));
        for (status, name) in [(4, "FAILED"), (5, "CANCELLED"), (6, "REFUNDED"), (7, "EXPIRED")] {
            assert!(matches!(stage(status), Some(Stage::Over(told)) if told.ends_with(name)), "{name}");
        }
        assert_eq!((stage(0), stage(8), stage(-1)), (None, None, None));
    }

    #[test]
    fn an_answer_about_another_payment_or_none_says_nothing_of_ours() {
        assert!(matches!(told(answer(3), "pi_2"), Err(Error::Unavailable(text)) if text.contains("pi_1")));
        assert!(matches!(told(GetPaymentStatusResponse::default(), "pi_1"), Err(Error::Unavailable(_))));
    }

    #[test]
    fn a_fault_beside_a_payment_counts_and_an_empty_one_is_none() {
        let with = |code, message: &str| {
            let error = Some(InBand { code, message: message.into(), ..InBand::default() });
            told(GetPaymentStatusResponse { error, ..answer(3) }, "pi_1")
        };
        assert!(with(0, "").is_ok());
        for (code, unknown) in [(5, true), (4, true), (17, false), (13, false), (0, false), (12_345, false)] {
            let error = with(code, "x").unwrap_err();
            assert_eq!(matches!(error, Error::Unknown(_)), unknown, "{code}: {error}");
        }
    }

    #[test]
    fn a_grpc_status_says_that_a_payment_is_unknown_only_where_it_is_about_the_payment() {
        for code in (0..17).map(Code::from_i32) {
            let unknown = matches!(Error::from(Fault::Status(tonic::Status::new(code, "x"))), Error::Unknown(_));
            assert_eq!(unknown, matches!(code, Code::NotFound | Code::InvalidArgument), "{code:?}");
        }
    }
}
