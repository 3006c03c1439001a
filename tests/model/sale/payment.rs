//! What the payment service says of the customer's payment, as the local stack has it.

use local_stack::{
    payments::{Course, Order, Payments},
    proto::payment::v1::{GetPaymentStatusRequest, GetPaymentStatusResponse, Payment},
};
use prost::Message;
use tonic::{client::Grpc, transport::Endpoint};
use tonic_prost::ProstCodec;

use super::role::{CUSTOMER, wish};
use crate::gate::{Answer, listen};

/// The payment by which the customer pays the reservation. The stack's service gives its first one this name.
pub(crate) const PAYMENT: &str = "pi_1";

/// The answer to a question about it, when it has gone through and before. Its moments are left out.
pub(crate) async fn answer(question: &GetPaymentStatusRequest, is_paid: bool) -> Answer {
    let payments = Payments::default();
    let order = Order {
        reservation_id: wish().reservation_id(),
        user_id: CUSTOMER.to_owned(),
        amount: 12_500,
        currency: "EUR".to_owned(),
        course: Course::Approved,
    };
    let made = payments.create(order);
    assert_eq!(made, PAYMENT, "the payment has the name that everybody knows it by");
    if is_paid {
        payments.process(&made).expect("it goes through");
    }
    let (listener, address) = listen().await;
    let server = tokio::spawn(payments.serve(listener));
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let mut client = Grpc::new(channel);
    client.ready().await.expect("the payment service listens");
    let path = "/payment.v1.PaymentService/GetPaymentStatus".parse().expect("a path");
    let codec = ProstCodec::<_, GetPaymentStatusResponse>::default();
    let answer = client.unary(tonic::Request::new(question.clone()), path, codec).await;
    server.abort();
    match answer {
        Ok(answer) => {
            let mut answer = answer.into_inner();
            let timeless = |payment| Payment { created_at: None, processed_at: None, ..payment };
            answer.payment = answer.payment.map(timeless);
            Answer::Message(answer.encode_to_vec())
        }
        Err(refused) => Answer::Grpc(refused.code(), refused.message().to_owned()),
    }
}
