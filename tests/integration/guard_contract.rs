//! What settlement asks a reservation API: the same questions, about the same reservations, to the stand-in that the other
//! tests control and to our own function behind its gateway, by the workers' own client. What the stand-in says, the function
//! says too; it may say more.

use std::{fmt, time::Duration};

use aws_config::{Region, SdkConfig};
use aws_credential_types::{Credentials, provider::SharedCredentialsProvider};
use local_stack::{
    gateway::{Gateway, Issuer, Target},
    inventory::SeatState,
    replay,
    reservations::Status,
    sale,
    scenario::{Given, Known},
    stack::Stack,
    template::Template,
};
use shared::{
    client::{
        reservations::{Access, Answer, Error, ReservationClient, Snapshot},
        signature::Signer,
    },
    reservation::{self, Transition},
    telemetry::trace::TraceContext,
};

use crate::harness::binaries;

const TIMEOUT: Duration = Duration::from_secs(10);

/// In which status the reservation is that is asked about; nothing: there is none.
const GIVEN: [Option<Status>; 7] = [
    None,
    Some(Status::Pending),
    Some(Status::Hold),
    Some(Status::Confirmed),
    Some(Status::Cancelled),
    Some(Status::Expired),
    Some(Status::Failed),
];

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Question {
    Look,
    /// A change of status, with this payment.
    Become(&'static str, Option<&'static str>),
}

use Question::{Become, Look};

/// Each is asked twice, the second time under the same key, and then it is looked at what has become of the reservation.
const QUESTIONS: [Question; 9] = [
    Look,
    Become("CONFIRMED", Some("pi_1")),
    Become("CONFIRMED", Some("pi_2")),
    Become("CONFIRMED", None),
    Become("CANCELLED", None),
    Become("EXPIRED", None),
    Become("HOLD", None),
    Become("FAILED", None),
    Become("SOLD", None),
];

/// Where the stand-in is another API than ours, within what settlement understands.
const DIFFERENT: [(Status, Question, &str); 2] = [
    (
        Status::Pending,
        Become("EXPIRED", None),
        "its creations end by themselves, and none of ours whose function died does",
    ),
    (
        Status::Confirmed,
        Become("CONFIRMED", Some("pi_2")),
        "it answers 200 with the first payment, where ours answers 409",
    ),
];

/// What an answer says to whoever asked.
#[derive(Clone, Debug, PartialEq)]
struct Told {
    /// How the client takes it.
    kind: String,
    status: Option<String>,
    payment: Option<String>,
    show: Option<String>,
    seats: Vec<String>,
}

impl Told {
    fn of(kind: impl fmt::Display, said: Option<&Snapshot>) -> Self {
        let holding = said.and_then(|said| said.holding.clone().ok());
        Self {
            kind: kind.to_string(),
            status: said.and_then(|said| said.status.as_ref().ok()).map(|status| status.name().to_owned()),
            payment: said.and_then(|said| said.payment_intent_id.clone().ok().flatten()),
            show: holding.as_ref().and_then(|holding| holding.show_id.clone()),
            seats: holding.map(|holding| holding.seat_ids).unwrap_or_default(),
        }
    }

    /// Whether this says all that `other` says, and nothing against it.
    fn says_what(&self, other: &Self) -> bool {
        let agrees = |own: &Option<String>, its: &Option<String>| its.is_none() || own == its;
        self.kind == other.kind
            && agrees(&self.status, &other.status)
            && agrees(&self.payment, &other.payment)
            && agrees(&self.show, &other.show)
            && (other.seats.is_empty() || self.seats == other.seats)
    }
}

async fn ask(client: &ReservationClient, id: &str, question: Question) -> Told {
    let trace = TraceContext::default();
    let answer = match question {
        Look => client.get(id, &trace).await.map(Answer::Accepted),
        Become(status, payment) => {
            let payment_intent_id = payment.map(str::to_owned);
            let transition = Transition { wanted: reservation::Status::named(status), payment_intent_id };
            client.change_status(id, &transition, &format!("{id}#guard"), &trace).await
        }
    };
    match answer {
        Ok(Answer::Accepted(said)) => Told::of("accepted", Some(&said)),
        Ok(Answer::Conflict(said)) => Told::of("a conflict", Some(&said)),
        Err(Error::Refused { .. }) => Told::of("refused", None),
        Err(Error::Unexpected { status, .. }) => Told::of(format_args!("nothing known, {status}"), None),
        Err(error) => Told::of(format_args!("nothing known: {error}"), None),
    }
}

#[tokio::test]
async fn our_function_says_to_settlement_what_the_stand_in_says() {
    let stack = Stack::start().await.unwrap();
    let binary = binaries()[reservation_api::NAME].clone();
    let function = stack.deploy(reservation_api::NAME, binary, 2).unwrap();
    let issuer = Issuer::start_on(0).await.unwrap();
    let functions = [(reservation_api::NAME.to_owned(), Target::Function(function))].into();
    let gateway =
        Gateway::start(sale::options(&Template::read().unwrap(), &issuer, functions, 0).unwrap()).await.unwrap();
    let credentials = SharedCredentialsProvider::new(Credentials::new("test", "test", None, None, "test"));
    let role = SdkConfig::builder().region(Region::new("us-east-1")).credentials_provider(credentials).build();
    let signed = Access::Iam(Signer::of(&role).unwrap());
    let ours = ReservationClient::new(&gateway.url(), signed, TIMEOUT).unwrap();
    let base = format!("http://{}", stack.reservation_address);
    let stand_in = ReservationClient::new(&base, Access::Open, TIMEOUT).unwrap();

    for given in GIVEN {
        for (number, question) in QUESTIONS.into_iter().enumerate() {
            let status = given.map_or_else(|| "none".to_owned(), |status| status.to_string().to_lowercase());
            let id = format!("rsv_{status}_{number}");
            if let Some(status) = given {
                put(&stack, &id, status).await;
            }
            let mut differs = Vec::new();
            for asked in [question, question, Look] {
                let (expected, told) = (ask(&stand_in, &id, asked).await, ask(&ours, &id, asked).await);
                if !told.says_what(&expected) {
                    differs.push(format!("{asked:?}:\n  the stand-in {expected:?}\n  ours {told:?}"));
                }
            }
            let may = DIFFERENT.iter().find(|(status, asked, _)| Some(*status) == given && *asked == question);
            assert_eq!(!differs.is_empty(), may.is_some(), "{given:?}, {question:?}, {may:?}: {}", differs.join("\n"));
        }
    }
}

/// Puts a reservation whose hold is over in place at both.
async fn put(stack: &Stack, id: &str, status: Status) {
    let given = Given {
        reservation_id: id.to_owned(),
        event_id: "evt_1".to_owned(),
        user_id: "usr_1".to_owned(),
        status,
        seats: SeatState::Unknown,
        seat_ids: vec!["A-1".to_owned(), "A-2".to_owned()],
        quantity: 2,
        payment_intent_id: (status == Status::Confirmed).then(|| "pi_1".to_owned()),
    };
    stack.seed(std::slice::from_ref(&given));
    let known = Known { given, key: None, seconds_ago: 70, untold: false };
    replay::put(stack, &known).await.unwrap();
}
