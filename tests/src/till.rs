//! Where a customer of a local sale pays: the payment service as a line of curl. `POST /{course}/{reservation}` pays for a
//! reservation; `approve` and `fail` end at once, `delay` is approved after [`DELAY`](crate::payments::DELAY), and of `timeout`
//! nobody hears again.

use std::{io, net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::{Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    aws::AwsError,
    payments::{Course, Order},
    stack::{RESERVATIONS, Stack},
};

/// The price of a ticket, in the smallest unit of the currency.
pub const PRICE: (i64, &str) = (3_800, "EUR");

/// A running till; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Till {
    address: SocketAddr,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// What is to become of a payment.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Approve,
    Fail,
    Delay,
    Timeout,
}

impl Wanted {
    fn course(self) -> Course {
        match self {
            Self::Approve => Course::Approved,
            Self::Fail => Course::Failed,
            Self::Delay => Course::Late,
            Self::Timeout => Course::Silent,
        }
    }

    /// What its customer reads at once.
    fn status(self) -> &'static str {
        match self {
            Self::Approve => "COMPLETED",
            Self::Fail => "FAILED",
            Self::Delay | Self::Timeout => "PROCESSING",
        }
    }
}

impl Till {
    /// Opens the till on a loopback port; 0 is any that is free.
    ///
    /// # Errors
    /// When the port can't be had.
    pub async fn start_on(port: u16, stack: Stack) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route("/{course}/{reservation}", post(pay)).with_state(stack);
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { address, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// Where it is, without a slash behind it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn pay(State(stack): State<Stack>, Path((wanted, id)): Path<(Wanted, String)>) -> Response {
    let answer = |status, body: Value| (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"));
    match order(&stack, wanted.course(), &id).await {
        Ok(Some(order)) => {
            let amount = order.amount;
            let payment = stack.payments.pay(order);
            let body =
                json!({"paymentIntentId": payment, "reservationId": id, "amount": amount, "status": wanted.status()});
            answer(StatusCode::OK, body).into_response()
        }
        Ok(None) => {
            let message = format!("there is no reservation {id:?}; create one first");
            answer(StatusCode::NOT_FOUND, json!({"message": message})).into_response()
        }
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, json!({"message": error.to_string()})).into_response(),
    }
}

/// What a reservation costs its customer; nothing, where there is no such reservation.
async fn order(stack: &Stack, course: Course, id: &str) -> Result<Option<Order>, AwsError> {
    let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}});
    let found = stack.aws.dynamodb("GetItem", &key).await?;
    let Some(item) = found.get("Item") else { return Ok(None) };
    let tickets: i64 = item["quantity"]["N"].as_str().and_then(|number| number.parse().ok()).unwrap_or_default();
    let (price, currency) = PRICE;
    Ok(Some(Order {
        reservation_id: id.to_owned(),
        user_id: item["user_id"]["S"].as_str().unwrap_or_default().to_owned(),
        amount: price * tickets,
        currency: currency.to_owned(),
        course,
    }))
}
