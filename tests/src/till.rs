//! Where a customer of a local sale pays: a payment service as the bus knows it. What becomes of a payment is an event of the
//! source `payment-service`.
//!
//! `POST /{outcome}/{reservation}` pays for a reservation; `approve` and `fail` say so at once, `delay` approves a while later,
//! `timeout` never says anything.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

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
use uuid::Uuid;

use crate::{
    aws::{AwsEndpoint, AwsError},
    stack::{BUS, RESERVATIONS},
};

/// The price of a ticket, in cents.
const PRICE: u64 = 3_800;

/// How long an approval takes that is delayed.
pub const DELAY: Duration = Duration::from_secs(5);

const SOURCE: &str = "payment-service";

/// A running till; clones share it, and the last one to go ends it.
#[derive(Clone, Debug)]
pub struct Till {
    address: SocketAddr,
    _server: Arc<AbortOnDropHandle<()>>,
}

/// What is to become of a payment.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Approve,
    Fail,
    Delay,
    Timeout,
}

impl Till {
    /// Opens the till on a loopback port; 0 is any that is free.
    ///
    /// # Errors
    /// When the port can't be had.
    pub async fn start_on(port: u16, aws: AwsEndpoint) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let routes = Router::new().route("/{outcome}/{reservation}", post(pay)).with_state(aws);
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { address, _server: Arc::new(AbortOnDropHandle::new(server)) })
    }

    /// Where it is, without a slash behind it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

async fn pay(State(aws): State<AwsEndpoint>, Path((outcome, id)): Path<(Outcome, String)>) -> Response {
    let answer = |status, body: Value| (status, [(header::CONTENT_TYPE, "application/json")], format!("{body}\n"));
    match paid(&aws, outcome, &id).await {
        Ok(Some(body)) => answer(StatusCode::OK, body).into_response(),
        Ok(None) => {
            let message = format!("there is no reservation {id:?}; create one first");
            answer(StatusCode::NOT_FOUND, json!({"message": message})).into_response()
        }
        Err(error) => answer(StatusCode::INTERNAL_SERVER_ERROR, json!({"message": error.to_string()})).into_response(),
    }
}

/// The payment as its customer sees it; nothing, where there is no such reservation.
async fn paid(aws: &AwsEndpoint, outcome: Outcome, id: &str) -> Result<Option<Value>, AwsError> {
    let key = json!({"TableName": RESERVATIONS, "Key": {"id": {"S": id}}});
    let found = aws.dynamodb("GetItem", &key).await?;
    let Some(item) = found.get("Item") else { return Ok(None) };
    let seats: Vec<&str> =
        item["seat_ids"]["L"].as_array().into_iter().flatten().filter_map(|seat| seat["S"].as_str()).collect();
    let quantity: u64 = item["quantity"]["N"].as_str().and_then(|number| number.parse().ok()).unwrap_or_default();
    let payment = format!("pi_{}", &Uuid::new_v4().simple().to_string()[..16]);
    let mut detail = json!({
        "reservation_id": id, "event_id": item["event_id"]["S"], "user_id": item["user_id"]["S"],
        "seat_ids": seats, "qty": quantity,
        "payment_intent_id": payment, "amount": PRICE * quantity, "currency": "EUR",
    });
    let status = match outcome {
        Outcome::Approve => {
            aws.publish(BUS, SOURCE, "payment.approved", &detail)?;
            "COMPLETED"
        }
        Outcome::Fail => {
            detail["error_code"] = json!("card_declined");
            aws.publish(BUS, SOURCE, "payment.failed", &detail)?;
            "FAILED"
        }
        Outcome::Delay => {
            let aws = aws.clone();
            tokio::spawn(async move {
                tokio::time::sleep(DELAY).await;
                drop(aws.publish(BUS, SOURCE, "payment.approved", &detail)); // As above, where it is told.
            });
            "PROCESSING"
        }
        Outcome::Timeout => "PROCESSING",
    };
    Ok(Some(json!({"paymentIntentId": payment, "reservationId": id, "amount": PRICE * quantity, "status": status})))
}
