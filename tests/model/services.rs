//! What a request does to the service that it reaches, as the local stack's own rules have it.
//!
//! The search has many states at once and the stack is one, so before a request the stack is put into that state,
//! and afterwards the state is read off it. The same question is never put twice.

use std::{collections::HashMap, time::SystemTime};

use local_stack::{
    inventory::{Inventory, SeatState},
    proto::reservation::v1::{CommitReservationResponse, ReleaseHoldRequest, ReleaseHoldResponse, ReserveSeatResponse},
    reservations::{Reservation, Status},
    stack::{Stack, TABLE},
};
use prost::Message;
use serde_json::{Value, json};
use shared::deadline::epoch_ms;
use tonic::{
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;

use crate::{
    decisions::{Clock, LEASE_END, SELF},
    gate::{Answer, Request, listen},
    kind::{EVENT, Kind, RESERVATION, SEAT},
};

/// Whoever buys what is free.
const NEXT_CUSTOMER: &str = "rsv_next_customer";

/// How much the reservation API says. Both are within its contract.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Dialect {
    /// What the stack says: the whole reservation, or the status that stands in the way.
    Full,
    /// Nothing: a change answers 204, and what changes nothing answers 409 without a body. The worker has to read.
    Terse,
}

/// What is broken on purpose, to show that the search finds it. The real code can't be broken in place, so what it says
/// or hears is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Sabotage {
    None,
    /// The seats are settled whether or not the reservation was ever asked.
    NoGuard,
    /// A refused change is taken for a granted one.
    ConflictIgnored,
    /// A claim asks for nothing.
    ClaimUnconditional,
    /// A completion and the giving back of a claim do not say whose claim it is.
    OwnerUnchecked,
    /// The bus says that it took a refund request, and did not.
    RefundLost,
}

/// A reservation: on hold, or ended.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct Held {
    pub(crate) status: Status,
    /// The approval whose payment confirmed it.
    pub(crate) paid_by: Option<Kind>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Seats {
    /// Anybody may hold them.
    Open,
    /// Another customer bought them before.
    Taken,
    /// Given back before they were held: nobody has them, and this reservation never will.
    Barred,
    Held,
    Sold,
    /// Given back; another customer has bought them at once.
    Free,
}

/// The claim on an event.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Claim {
    Absent,
    InProgress(Lease),
    Completed,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Lease {
    Live,
    /// Its time is over.
    Over,
    /// Its owner ended it.
    GivenBack,
}

/// The part of a state that a request can see.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Part {
    Reservation(Held),
    Seats(Seats),
    /// A claim, and whether it is the asking worker's own.
    Claim(Claim, bool),
    /// The bus, and whether it took a refund request now.
    Bus(bool),
}

pub(crate) struct Services {
    stack: Stack,
    dialect: Dialect,
    sabotage: Sabotage,
    http: reqwest::Client,
    /// The digest that each claim was claimed with, which its next reader compares.
    validations: HashMap<String, Value>,
}

impl Services {
    pub(crate) async fn start(dialect: Dialect, sabotage: Sabotage) -> Self {
        let stack = Stack::start().await.expect("a stack");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Self { stack, dialect, sabotage, http, validations: HashMap::new() }
    }

    /// The answer to a request, and the part of the state after it.
    pub(crate) async fn carry_out(&mut self, request: &Request, part: Part) -> (Answer, Part) {
        match (request, part) {
            (Request::Rest { .. }, Part::Reservation(held)) => self.reservation(request, held).await,
            (Request::Reserve(_) | Request::Commit(_) | Request::Release(_), Part::Seats(seats)) => {
                let (answer, after) = inventory(request, seats).await;
                (answer, Part::Seats(after))
            }
            (Request::Aws { body, .. }, Part::Claim(claim, own)) => self.claim(body, claim, own).await,
            (Request::Aws { target, body }, Part::Bus(_)) => self.publish(target, body).await,
            (request, part) => panic!("{request:?} does not concern {part:?}"),
        }
    }

    async fn reservation(&self, request: &Request, held: Held) -> (Answer, Part) {
        let Request::Rest { method, path, key, body } = request else { panic!("no REST request: {request:?}") };
        let said = |status, body: &str| Answer::Http { status, body: body.to_owned() };
        let changes = method.as_str() == "PATCH";
        // What the request asks for, said of the reservation in the same words.
        let wanted = body.clone();
        if self.sabotage == Sabotage::NoGuard && changes {
            return (said(200, &wanted), Part::Reservation(held));
        }
        self.stack.reservations.put(Reservation {
            reservation_id: RESERVATION.to_owned(),
            event_id: EVENT.to_owned(),
            user_id: String::new(),
            status: held.status,
            seat_ids: vec![SEAT.to_owned()],
            quantity: 1,
            payment_intent_id: held.paid_by.and_then(Kind::approved_payment).map(str::to_owned),
        });
        let url = format!("http://{}{path}", self.stack.reservation_address);
        let call = self.http.request(method.clone(), url).header("idempotency-key", key).body(body.clone());
        let answer = call.send().await.expect("the stack answers");
        let status = answer.status().as_u16();
        let mut body: Value = answer.json().await.expect("the stack answers in JSON");
        for time in ["created_at", "updated_at"] {
            body.as_object_mut().expect("an object").remove(time);
        }
        let after = self.stack.reservations.get(RESERVATION).expect("it was put there");
        let ends = self.stack.reservations.transitions(RESERVATION).len();
        assert!(ends <= 1, "the stack let a reservation end {ends} times");
        let paid_by = Kind::all().find(|kind| {
            after.payment_intent_id.is_some() && kind.approved_payment() == after.payment_intent_id.as_deref()
        });
        let after = Held { status: after.status, paid_by };
        let answer = match (self.dialect, status) {
            (_, 409) if self.sabotage == Sabotage::ConflictIgnored => said(200, &wanted),
            (Dialect::Terse, 200 | 409) if changes && after == held => said(409, ""),
            (Dialect::Terse, 200) if changes => said(204, ""),
            _ => said(status, &body.to_string()),
        };
        (answer, Part::Reservation(after))
    }

    async fn claim(&mut self, body: &str, claim: Claim, own: bool) -> (Answer, Part) {
        let mut input: Value = serde_json::from_str(body).expect("a request in JSON");
        let claims = input["UpdateExpression"].as_str().is_some_and(|update| update.contains("#attempt"));
        let dropped = if claims { Sabotage::ClaimUnconditional } else { Sabotage::OwnerUnchecked };
        let id = input["Key"]["id"].clone();
        let name = id.to_string();
        if claims {
            self.validations.insert(name.clone(), input["ExpressionAttributeValues"][":validation"].clone());
        }
        if self.sabotage == dropped {
            let fields = input.as_object_mut().expect("an object");
            fields.remove("ConditionExpression");
            // DynamoDB refuses names and values that no expression uses.
            let used = fields["UpdateExpression"].as_str().expect("an update").to_owned();
            for names in ["ExpressionAttributeNames", "ExpressionAttributeValues"] {
                fields[names].as_object_mut().expect("an object").retain(|name, _| used.contains(name.as_str()));
            }
        }
        let mut input = input.to_string();
        for (name, number) in Clock::at(epoch_ms(SystemTime::now())) {
            input = input.replace(name, &number.to_string());
        }
        let input: Value = serde_json::from_str(&input).expect("a request in JSON");

        let key = json!({"TableName": TABLE, "Key": {"id": id}});
        let aws = &self.stack.aws;
        aws.dynamodb("DeleteItem", &key).await.expect("the claim can be deleted");
        if let Some(item) = item(id, claim, own, self.validations.get(&name)) {
            let put = json!({"TableName": TABLE, "Item": item});
            aws.dynamodb("PutItem", &put).await.expect("the claim can be put");
        }
        let answer = match aws.dynamodb("UpdateItem", &input).await {
            // The worker looks for the owner only; the rest has the clock in it and would be new in every run.
            Ok(answer) => {
                let said = json!({"Attributes": {"owner": answer["Attributes"]["owner"]}});
                Answer::Http { status: 200, body: said.to_string() }
            }
            Err(local_stack::aws::AwsError::Refused { status, body, .. }) => {
                assert!(body.contains("ConditionalCheckFailed"), "DynamoDB does not understand {input}: {body}");
                Answer::Http { status, body }
            }
            Err(error) => panic!("DynamoDB: {error}"),
        };
        let found = aws.dynamodb("GetItem", &key).await.expect("the claim can be read");
        (answer, read(&found["Item"]))
    }

    async fn publish(&self, target: &str, body: &str) -> (Answer, Part) {
        let before = self.stack.aws.bus_entries().len();
        let kept = self.sabotage != Sabotage::RefundLost;
        if kept {
            let call = self.http.post(self.stack.aws.url()).header("x-amz-target", target).body(body.to_owned());
            let answer = call.send().await.expect("the stack answers");
            assert!(answer.status().is_success(), "{answer:?}");
        }
        let answer = json!({"FailedEntryCount": 0, "Entries": [{"EventId": "taken"}]}).to_string();
        let taken = self.stack.aws.bus_entries().len() > before;
        assert_eq!(taken, kept, "the stack's bus refused {body}");
        (Answer::Http { status: 200, body: answer }, Part::Bus(taken))
    }
}

/// A new inventory each time, because the books of one can't go back.
pub(crate) async fn inventory(request: &Request, seats: Seats) -> (Answer, Seats) {
    let (inventory, seat) = (Inventory::default(), [SEAT.to_owned()]);
    let reservation_id = match request {
        Request::Reserve(message) => message.reservation_id.as_str(),
        Request::Commit(message) => message.reservation_id.as_str(),
        Request::Release(message) => message.reservation_id.as_str(),
        Request::Rest { .. } | Request::Aws { .. } | Request::Payment(_) => panic!("no inventory request: {request:?}"),
    };
    match seats {
        Seats::Open | Seats::Barred => inventory.stock(EVENT, &seat, 0),
        Seats::Taken => inventory.sell(EVENT, NEXT_CUSTOMER, &seat, 1),
        Seats::Held => inventory.hold(EVENT, reservation_id, &seat, 1),
        Seats::Sold => inventory.sell(EVENT, reservation_id, &seat, 1),
        Seats::Free => {
            inventory.release(EVENT, reservation_id, &seat, 1);
            inventory.sell(EVENT, NEXT_CUSTOMER, &seat, 1);
        }
    }
    let (listener, address) = listen().await;
    let server = tokio::spawn(inventory.clone().serve(listener));
    let channel = Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy();
    let mut client = Grpc::new(channel);
    if seats == Seats::Barred {
        let idempotency_key = "given back before".to_owned();
        let (event_id, seat_ids, reason) = (EVENT.to_owned(), seat.to_vec(), "EXPIRED".to_owned());
        let reservation_id = reservation_id.to_owned();
        let before =
            ReleaseHoldRequest { event_id, reservation_id, seat_ids, reason, idempotency_key, ..Default::default() };
        ask(&mut client, &Request::Release(before)).await;
    }
    let answer = ask(&mut client, request).await;
    server.abort();
    let oversold = inventory.oversold();
    assert!(oversold.is_empty(), "the stack let its books be broken: {oversold:?}");
    let after = match (inventory.seat_state(reservation_id), request) {
        (SeatState::Held, _) => Seats::Held,
        (SeatState::Sold, _) => Seats::Sold,
        (SeatState::Free, _) => Seats::Free,
        (SeatState::Unknown, Request::Release(_)) if seats == Seats::Open => Seats::Barred,
        (SeatState::Unknown, _) => seats,
    };
    (answer, after)
}

/// Puts a request to the inventory. Its moments are left out of the answer.
async fn ask(client: &mut Grpc<Channel>, request: &Request) -> Answer {
    client.ready().await.expect("the inventory listens");
    let path = |name| format!("/reservation.v1.InventoryService/{name}").parse().expect("a path");
    let answer = match request.clone() {
        Request::Reserve(message) => {
            let codec = ProstCodec::default();
            let answer = client.unary(tonic::Request::new(message), path("ReserveSeat"), codec).await;
            answer.map(|answer| ReserveSeatResponse { hold_expires_at: None, ..answer.into_inner() }.encode_to_vec())
        }
        Request::Commit(message) => {
            let codec = ProstCodec::default();
            let answer = client.unary(tonic::Request::new(message), path("CommitReservation"), codec).await;
            answer.map(|answer| CommitReservationResponse { committed_at: None, ..answer.into_inner() }.encode_to_vec())
        }
        Request::Release(message) => {
            let codec = ProstCodec::default();
            let answer = client.unary(tonic::Request::new(message), path("ReleaseHold"), codec).await;
            answer.map(|answer| ReleaseHoldResponse { released_at: None, ..answer.into_inner() }.encode_to_vec())
        }
        Request::Rest { .. } | Request::Aws { .. } | Request::Payment(_) => panic!("no inventory request: {request:?}"),
    };
    let refused = |status: tonic::Status| Answer::Grpc(status.code(), status.message().to_owned());
    answer.map_or_else(refused, Answer::Message)
}

/// The item that a claim is stored as; the worker's own token goes by a name.
fn item(id: Value, claim: Claim, own: bool, validation: Option<&Value>) -> Option<Value> {
    let (status, lease_end) = match claim {
        Claim::Absent => return None,
        Claim::InProgress(Lease::Live) => ("INPROGRESS", LEASE_END),
        Claim::InProgress(Lease::Over) => ("INPROGRESS", 1),
        Claim::InProgress(Lease::GivenBack) => ("INPROGRESS", 0),
        Claim::Completed => ("COMPLETED", LEASE_END),
    };
    Some(json!({
        "id": id,
        "status": {"S": status},
        "in_progress_expiration": {"N": lease_end.to_string()},
        "expiration": {"N": (LEASE_END / 1000).to_string()},
        "validation": validation.expect("a claim was claimed before"),
        "owner": {"S": if own { SELF } else { "another" }},
        "attempt": {"N": "1"},
        "data": {"S": "done"},
    }))
}

fn read(item: &Value) -> Part {
    let own = item["owner"]["S"] == SELF;
    let claim = match (item["status"]["S"].as_str(), item["in_progress_expiration"]["N"].as_str()) {
        (None, None) => Claim::Absent,
        (Some("COMPLETED"), Some(_)) => Claim::Completed,
        (Some("INPROGRESS"), Some("0")) => Claim::InProgress(Lease::GivenBack),
        (Some("INPROGRESS"), Some("1")) => Claim::InProgress(Lease::Over),
        (Some("INPROGRESS"), Some(end)) if end == LEASE_END.to_string() => Claim::InProgress(Lease::Live),
        _ => panic!("the model does not know such a claim: {item}"),
    };
    Part::Claim(claim, own)
}
