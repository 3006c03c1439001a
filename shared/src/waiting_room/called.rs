//! Customers who are connected are told at once that it is their turn, that their turn has passed, what became of their
//! reservations, and that a line is sold out: by a realtime service of others, or by a push to the pages that they have open,
//! which hear of the first two, or by both.
//!
//! A push is only a hint. Whoever does not get it finds out when he asks, so that what nobody hears is done, and what comes too
//! late to be of use is not sent. The same push twice says the same again, so that no record is kept of what was sent.

use std::time::{Duration, SystemTime};

use serde_json::json;
use tracing::info_span;

use super::{
    message::{EventKind, Kind},
    news::{Became, News, PlaceNews, What},
    push::{self, Heard, Push},
};
use crate::{
    client::realtime::{Booking, Customer, Reached, RealtimeClient},
    config::ConfigError,
    deadline::{Deadline, epoch_ms, moment},
    failure::Failure,
    name::{Named, names},
    start::{Parts, probe},
    telemetry::trace::TraceContext,
    trigger::{Decoded, Done, Message, Processor},
};

/// Why other news end as ignored where there is no realtime service.
const TOLD_TO_PAGES: &str = "pages are told of calls alone, made or passed";

names! {
    /// How news end.
    pub enum Outcome {
        /// Somebody has it.
        Success = "success",
        /// Nobody who would want to know is connected.
        Absent = "absent",
        /// The turn that it tells of is over.
        Late = "late",
        /// There is nobody to tell, or nothing that could be told.
        Ignored = "ignored",
        /// A push failed, and nobody is known to have it.
        Unheard = "unheard",
    }
}

/// Tells who is connected.
#[derive(Debug)]
pub struct Tell {
    name: &'static str,
    realtime: Option<RealtimeClient>,
    push: Option<Push>,
}

impl Tell {
    /// As the environment says: `GRPC_REALTIME_SERVICE_ENDPOINT`, and what pushes to pages; one of the two has to be there.
    /// Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let push = Push::if_configured(parts);
        let realtime = match &push {
            None => Some(RealtimeClient::configured(parts)?),
            Some(_) => RealtimeClient::if_configured(parts),
        };
        Some(Self { name: parts.name, realtime, push })
    }

    /// Tells of one place by both ways at once. The service's word decides what becomes of the record; a push never does.
    async fn tell_one(&self, show_id: &str, news: PlaceNews, trace: &TraceContext) -> Result<Done<Outcome>, Failure> {
        if let Became::Called { until } = news.became
            && until <= epoch_ms(SystemTime::now())
        {
            return Ok(Done::noted(Outcome::Late, format!("the call ended at {}", moment(until))));
        }
        let (heard, told) = tokio::join!(self.push(&news), self.call(show_id, &news, trace));
        let told = told?;
        Ok(match heard {
            Some(Heard::BySomebody) => Done::of(Outcome::Success),
            Some(Heard::ByNobody) => told.unwrap_or_else(|| Done::of(Outcome::Absent)),
            Some(Heard::Unknown) => told.unwrap_or_else(|| Done::of(Outcome::Unheard)),
            None => told.unwrap_or_else(|| Done::noted(Outcome::Ignored, TOLD_TO_PAGES.to_owned())),
        })
    }

    /// Pushes to the pages of a place. Nothing: they hear nothing of this, or there is no way to them.
    async fn push(&self, news: &PlaceNews) -> Option<Heard> {
        let kind = match &news.became {
            Became::Called { .. } => push::Kind::Called,
            Became::Passed => push::Kind::Passed,
            Became::Sold { .. } | Became::Ended { .. } | Became::GivenUp => return None,
        };
        Some(self.push.as_ref()?.tell(news.id, kind).await)
    }

    /// Hands the news to the realtime service. Nothing: there is none.
    async fn call(
        &self,
        show_id: &str,
        PlaceNews { user_id, position, became, .. }: &PlaceNews,
        trace: &TraceContext,
    ) -> Result<Option<Done<Outcome>>, Failure> {
        let Some(realtime) = &self.realtime else { return Ok(None) };
        let Some(user_id) = user_id else {
            return Ok(Some(Done::noted(Outcome::Ignored, "the event names no customer".to_owned())));
        };
        let customer = Customer { user_id, show_id };
        let reached = match became {
            Became::GivenUp => {
                return Ok(Some(Done::noted(Outcome::Ignored, "there was no reservation to tell of".to_owned())));
            }
            Became::Called { .. } | Became::Passed => realtime.place(customer, *position, trace).await?,
            Became::Sold { reservation_id, seats } => {
                let message = format!("You have {seats} {}.", if *seats == 1 { "ticket" } else { "tickets" });
                let booking = Booking { reservation_id, has_tickets: true, message: &message };
                realtime.booking(customer, booking, trace).await?
            }
            Became::Ended { reservation_id } => {
                let message = "Your reservation ended without tickets.";
                let booking = Booking { reservation_id, has_tickets: false, message };
                realtime.booking(customer, booking, trace).await?
            }
        };
        Ok(Some(told(reached)))
    }

    async fn tell_all(&self, show_id: &str, tickets: u64, trace: &TraceContext) -> Result<Done<Outcome>, Failure> {
        let Some(realtime) = &self.realtime else {
            return Ok(Done::noted(Outcome::Ignored, TOLD_TO_PAGES.to_owned()));
        };
        let payload = json!({"event_id": show_id, "tickets": tickets}).to_string();
        Ok(told(realtime.everybody(show_id, EventKind::SoldOut.name(), &payload, trace).await?))
    }
}

fn told(reached: Reached) -> Done<Outcome> {
    Done::of(match reached {
        Reached::Somebody => Outcome::Success,
        Reached::Nobody => Outcome::Absent,
    })
}

impl<R: Message> Processor<R> for Tell {
    type Item = News;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        Kind::Called.name()
    }

    fn budget(&self) -> Duration {
        let call = self.realtime.as_ref().map_or(Duration::ZERO, |realtime| realtime.connection().budget());
        call.max(self.push.as_ref().map_or(Duration::ZERO, Push::budget))
    }

    async fn probe(&self) -> Result<(), ConfigError> {
        let Self { name, realtime, push } = self;
        if let Some(push) = push {
            push.probe(name).await?;
        }
        if let Some(realtime) = realtime {
            probe::connection(name, "GRPC_REALTIME_SERVICE_ENDPOINT", realtime.connection()).await;
        }
        Ok(())
    }

    /// News of one place are told one after the other.
    fn decode(&self, record: &R) -> Result<Decoded<News>, Failure> {
        let item = News::parse(record.body())?;
        let place_id = match &item.what {
            What::Place(news) => Some(news.id.to_string()),
            What::SoldOut { .. } => None,
        };
        let span = info_span!("news", event_id = item.show_id, place_id);
        let key = place_id.unwrap_or_else(|| item.show_id.clone());
        Ok(Decoded { item, key, span, producer: record.producer(&[], &[]) })
    }

    async fn process(
        &self,
        News { show_id, what }: News,
        trace: &TraceContext,
        _deadline: Deadline,
    ) -> Result<Done<Outcome>, Failure> {
        match what {
            What::Place(news) => self.tell_one(&show_id, news, trace).await,
            What::SoldOut { tickets } => self.tell_all(&show_id, tickets, trace).await,
        }
    }
}
