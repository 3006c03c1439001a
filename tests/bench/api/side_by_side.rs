//! A closed loop through the local HTTP API: customers who each ask again once they are answered, as many as there are
//! environments.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use axum::http::header;
use local_stack::{
    gateway::{Gateway, Issuer, Target},
    sale,
    template::{SCOPE, Template},
};
use reqwest::{Client, StatusCode};
use serde_json::Value;
use tokio::task::JoinSet;

use super::{
    API, Api, Latencies, Who,
    site::{Made, Site, made, wish},
};
use crate::{figure::Figure, stop::Stop, workplace::Workplace};

/// How many environments are tried.
const STEPS: [usize; 4] = [1, 2, 4, 8];

/// Creates of each customer in a round.
const OF_A_CUSTOMER: usize = 30;

/// So often a customer asks again in a round. More is no busy machine.
const MOST_REFUSED: usize = 20;

/// Rounds that start the processes, and let Node compile what it runs often.
const UNCOUNTED: usize = 2;

/// So many environments side by side, with services that take their time.
pub(crate) struct Step {
    pub(crate) who: Who,
    pub(crate) environments: usize,
    /// Creates in a second, by all of them together.
    pub(crate) rate: Figure,
    /// What one create took, in milliseconds, with what it took to ask again.
    pub(crate) time: Figure,
    /// How often somebody was answered 503 and asked again under his key.
    pub(crate) refused: usize,
}

/// Measures those that were measured one request at a time.
pub(crate) async fn measure(workplace: &Workplace, api: &Api) -> Result<Vec<Step>, Stop> {
    let mut steps = Vec::new();
    for environments in STEPS {
        for way in &api.ways {
            steps.push(step(workplace, &way.who, environments).await?);
        }
    }
    Ok(steps)
}

async fn step(workplace: &Workplace, who: &Who, environments: usize) -> Result<Step, Stop> {
    let mut site = Site::set(workplace, who, environments).await?;
    site.delay(Latencies::NEARBY);
    let issuer = Issuer::start_on(0).await?;
    let functions = BTreeMap::from([(API.to_owned(), Target::Function(site.function.clone()))]);
    let gateway = Gateway::start(sale::options(&Template::read()?, &issuer, functions, 0)?).await?;
    let creates = workplace.runs(OF_A_CUSTOMER, 5);
    let customers = (0..environments).map(|nth| Customer::new(nth, &gateway, &issuer));
    let mut customers = customers.collect::<Result<Vec<_>, _>>()?;
    let (mut rates, mut times, mut refusals) = (Vec::new(), Vec::new(), 0);
    for round in 0..UNCOUNTED + workplace.runs(9, 2) {
        let started = Instant::now();
        let mut asking = JoinSet::new();
        for customer in customers.drain(..) {
            asking.spawn(customer.ask_again_and_again(creates));
        }
        let mut taken = Vec::new();
        while let Some(done) = asking.join_next().await {
            let Done { customer, made, times, refused } = done??;
            site.note(made);
            taken.extend(times);
            refusals += if round >= UNCOUNTED { refused } else { 0 };
            customers.push(customer);
        }
        let elapsed = started.elapsed();
        if round >= UNCOUNTED {
            rates.push(taken.len() as f64 / elapsed.as_secs_f64());
            times.extend(taken);
        }
        site.stack.aws.clear_requests();
    }
    site.close().await?;
    let (rate, time) = (Figure::of(rates), Figure::millis(times));
    Ok(Step { who: who.clone(), environments, rate, time, refused: refusals })
}

/// Somebody who wants many reservations.
struct Customer {
    user: String,
    token: String,
    url: String,
    http: Client,
    asked: usize,
}

/// What a round brought.
struct Done {
    customer: Customer,
    made: Vec<Made>,
    times: Vec<Duration>,
    refused: usize,
}

impl Customer {
    fn new(nth: usize, gateway: &Gateway, issuer: &Issuer) -> Result<Self, Stop> {
        let user = format!("usr_{nth}");
        let token = issuer.token(&user, SCOPE, Duration::from_secs(3_600))?;
        let http = Client::builder().no_proxy().build()?;
        Ok(Self { user, token, url: format!("{}/v1/reservations", gateway.url()), http, asked: 0 })
    }

    async fn ask_again_and_again(mut self, creates: usize) -> Result<Done, Stop> {
        let (mut all, mut times, mut refused) = (Vec::new(), Vec::new(), 0);
        for _ in 0..creates {
            self.asked += 1;
            let started = Instant::now();
            let told = loop {
                let (status, told) = self.ask().await?;
                match status {
                    StatusCode::CREATED => break told,
                    // A service was too slow. The time that this costs is a part of what the create took.
                    StatusCode::SERVICE_UNAVAILABLE if refused < MOST_REFUSED => refused += 1,
                    _ => return Err(Stop::invalid(format!("a create was answered {status}: {told}"))),
                }
            };
            times.push(started.elapsed());
            let id = made(&told).ok_or_else(|| Stop::invalid(format!("a create was answered {told}")))?;
            all.push(Made::held(id, self.user.clone()));
        }
        Ok(Done { customer: self, made: all, times, refused })
    }

    /// Asks once, under the key of the create at hand.
    async fn ask(&self) -> Result<(StatusCode, Value), Stop> {
        let request = self.http.post(&self.url).bearer_auth(&self.token).body(wish().to_string());
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer = request.header("idempotency-key", format!("{}-{}", self.user, self.asked)).send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }
}
