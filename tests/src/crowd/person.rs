//! A person: what he does from his click to his last look, and what he knows of it in the end.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::{Options, SEATS_MAX, SHOW, Venue};
use crate::{
    payments::{Course, Order},
    template::SCOPE,
    till::PRICE,
};

/// Whoever has asked for so long and had no answer gives up, as a person does.
const PATIENCE: Duration = Duration::from_secs(300);

/// Between two tries of a request that had no answer, on average.
const AGAIN: Duration = Duration::from_millis(500);

/// Between two looks at a reservation that is on its way to an end.
const LOOK: Duration = Duration::from_millis(700);

/// Whoever reads the board asks for his own place so often all the same, and by that is heard of.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// What a person is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habit {
    /// He waits, reserves and pays.
    Buys,
    /// The same in two tabs, each of which joins, asks and reserves.
    BuysInTwoTabs,
    /// He joins and never looks again.
    IsAbsent,
    /// He gives his place up after a while.
    Leaves,
    /// He is let in and makes no reservation.
    LetsItPass,
    /// His card is declined.
    IsDeclined,
    /// He gives his reservation back.
    GivesBack,
    /// He pays when his hold has run out.
    PaysLate,
}

impl Habit {
    /// How many of a hundred people are like it.
    const SHARES: [(Self, u8); 8] = [
        (Self::Buys, 58),
        (Self::BuysInTwoTabs, 8),
        (Self::IsAbsent, 14),
        (Self::Leaves, 6),
        (Self::LetsItPass, 3),
        (Self::IsDeclined, 5),
        (Self::GivesBack, 3),
        (Self::PaysLate, 3),
    ];

    fn drawn(random: &mut fastrand::Rng, some_pay_late: bool) -> Self {
        let mut drawn = random.u8(0..100);
        for (habit, share) in Self::SHARES {
            if drawn < share {
                return if habit == Self::PaysLate && !some_pay_late { Self::Buys } else { habit };
            }
            drawn -= share;
        }
        Self::Buys
    }
}

/// What became of a person, as he knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// He has his tickets.
    Bought,
    /// He was told that all are sold.
    SoldOut,
    /// He never looked again.
    Absent,
    /// He gave his place up.
    Left,
    /// His turn ran out.
    LetPass,
    /// His card was declined, and his reservation cancelled.
    Declined,
    /// He gave his reservation back.
    GaveBack,
    /// His payment came too late, and he gets his money back.
    PaidLate,
    /// He was called three times, and this machine was too slow to let him answer.
    PassedOver,
    /// He was let in, and his time to reserve ran out before he had an answer: this machine was too slow, or who was to answer
    /// was killed.
    RanOut,
    /// He had no answer for too long, or one that says nothing.
    Lost,
}

/// A person, and what he was told.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) user_id: String,
    pub(super) habit: Habit,
    seats: u8,
    impatience: fastrand::Rng,
    /// What he signs in with. He signs in once, and not for each request.
    token: Option<String>,
    pub(super) visit: Visit,
}

/// What a person was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Visit {
    /// The ids of his place, of each tab.
    pub(super) ids: Vec<String>,
    /// When his first join was answered.
    pub(super) joined_at: Option<Instant>,
    /// When he first knew his place, and which it is.
    pub(super) known: Option<(Instant, u64)>,
    /// When he first had a token.
    pub(super) called_at: Option<Instant>,
    /// Positions that he was told, in order.
    pub(super) positions: Vec<u64>,
    /// His payments that go through, each with its reservation.
    pub(super) paid: Vec<(String, String)>,
    pub(super) fate: Option<Fate>,
    /// Why he is lost.
    pub(super) last_words: Option<String>,
    pub(super) requests: [usize; 3],
    /// Of their bodies and their answers'.
    pub(super) bytes: [usize; 3],
}

/// What kind of request it is, for who counts them.
#[derive(Clone, Copy)]
enum Asked {
    Join,
    Position,
    Other,
}

/// Why a person can't go on: no answer for too long, or one that says no.
#[derive(Debug)]
enum Refused {
    Silence(String),
    Said(u16, Value),
}

impl Refused {
    fn words(&self) -> String {
        match self {
            Self::Silence(what) => format!("no answer: {what}"),
            Self::Said(status, body) => format!("{status} {body}"),
        }
    }
}

impl Person {
    pub(super) fn with(number: u32, options: &Options, random: &mut fastrand::Rng) -> Self {
        Self {
            user_id: format!("usr_{number}"),
            habit: Habit::drawn(random, options.some_pay_late),
            seats: if random.u8(0..100) < 20 { SEATS_MAX } else { 1 },
            impatience: random.fork(),
            token: None,
            visit: Visit::default(),
        }
    }

    /// All that he does.
    pub(super) async fn visit(mut self, venue: &Venue) -> Self {
        if self.habit == Habit::BuysInTwoTabs {
            let mut other = self.clone();
            other.impatience = self.impatience.fork();
            let (one, two) = tokio::join!(self.go(venue), other.go(venue));
            // The two tabs are one person, who has tickets if one of them says so.
            let (first, second) = (one.min(two), one.max(two));
            self.visit.fate = Some(if second == Fate::Lost { second } else { first });
            self.visit.ids.extend(other.visit.ids);
            self.visit.paid.extend(other.visit.paid);
            self.visit.positions.extend(other.visit.positions);
            self.visit.last_words = self.visit.last_words.or(other.visit.last_words);
            add(&mut self.visit.requests, other.visit.requests);
            add(&mut self.visit.bytes, other.visit.bytes);
        } else {
            let fate = self.go(venue).await;
            self.visit.fate = Some(fate);
        }
        self
    }

    async fn go(&mut self, venue: &Venue) -> Fate {
        match self.attend(venue).await {
            Ok(fate) => fate,
            Err(refused) => {
                self.visit.last_words = Some(refused.words());
                Fate::Lost
            }
        }
    }

    async fn attend(&mut self, venue: &Venue) -> Result<Fate, Refused> {
        let joined = match self.call(venue, "EnqueueBooking", json!({"eventId": SHOW, "seatCount": self.seats})).await {
            // Who comes when everything is sold is told so.
            Err(Refused::Said(_, body)) if body["code"] == "failed_precondition" => return Ok(Fate::SoldOut),
            joined => joined?,
        };
        let id = joined["queueItemId"].as_str().unwrap_or_default().to_owned();
        self.visit.joined_at.get_or_insert_with(Instant::now);
        self.visit.ids.push(id.clone());
        if self.habit == Habit::IsAbsent {
            return Ok(Fate::Absent);
        }
        if self.habit == Habit::Leaves {
            sleep(venue.options.windows.call.mul_f64(self.impatience.f64())).await;
            return self.leave(venue, &id).await;
        }
        let mut wait = milliseconds(&joined, "pollAfterMs");
        loop {
            self.wait(venue, wait).await;
            let told = self.call(venue, "GetQueuePosition", json!({"queueItemId": id})).await?;
            wait = milliseconds(&told, "pollAfterMs");
            let position = number(&told, "position");
            if position > 0 {
                self.visit.known.get_or_insert_with(|| (Instant::now(), position));
                self.visit.positions.push(position);
            }
            if let Some(token) = told["admissionToken"].as_str().filter(|token| !token.is_empty()) {
                self.visit.called_at.get_or_insert_with(Instant::now);
                if self.habit == Habit::LetsItPass {
                    return Ok(Fate::LetPass);
                }
                let seats = number(&told, "seatsAllowed").min(u64::from(self.seats)).max(1);
                if let Some(reservation) = self.reserve(venue, token, seats).await? {
                    return self.settle(venue, reservation, seats).await;
                }
                continue;
            }
            let detail = told["detail"].as_str().unwrap_or_default();
            match (told["status"].as_str().unwrap_or_default(), detail) {
                ("completed", _) => return Ok(Fate::Bought),
                (_, "sold_out") => return Ok(Fate::SoldOut),
                ("waiting", _) if position == 0 && self.has_waited_for_a_place() => {
                    return Err(Refused::Said(200, told));
                }
                // Whoever asks again after his call is called again.
                ("waiting" | "processing", _) => {}
                ("expired", "passed") => return Ok(Fate::PassedOver),
                ("expired", "ended") if self.visit.called_at.is_some() => return Ok(Fate::RanOut),
                _ => return Err(Refused::Said(200, told)),
            }
        }
    }

    /// Waits until he asks for his place again: as long as he is told, or until the board shows something that is new for him.
    async fn wait(&mut self, venue: &Venue, told: Duration) {
        let position = self.visit.known.map(|(_, position)| position);
        let mut board = venue.board.subscribe();
        let waits = position.filter(|position| venue.options.reads_board && !board.borrow().is_news_to(*position));
        let Some(position) = waits else { return sleep(told.min(venue.options.windows.longest_wait)).await };
        let news = board.wait_for(|board| board.is_news_to(position));
        drop(timeout(HEARTBEAT, news).await);
        // Not all ask at the same moment who read it at the same moment.
        sleep(AGAIN.mul_f64(self.impatience.f64())).await;
    }

    /// Whether he has no place so long after his join that his message must be lost.
    fn has_waited_for_a_place(&self) -> bool {
        self.visit.joined_at.is_some_and(|joined_at| joined_at.elapsed() > PATIENCE)
    }

    /// Gives the place up, which his message may not have reached yet.
    async fn leave(&mut self, venue: &Venue, id: &str) -> Result<Fate, Refused> {
        let started = Instant::now();
        loop {
            match self.call(venue, "CancelQueueItem", json!({"queueItemId": id})).await {
                // Before his place is there, and while it is being given to him, he is to ask again.
                Err(Refused::Said(_, body))
                    if matches!(body["code"].as_str(), Some("not_found" | "aborted"))
                        && started.elapsed() < PATIENCE =>
                {
                    sleep(AGAIN).await
                }
                // What is over can't be given up.
                Err(Refused::Said(_, body)) if body["code"] == "failed_precondition" => return Ok(Fate::Left),
                left => return left.map(|_| Fate::Left),
            }
        }
    }

    /// Asks for his seats. Nothing: it was no reservation, and the next answer about his place says why.
    async fn reserve(&mut self, venue: &Venue, token: &str, seats: u64) -> Result<Option<String>, Refused> {
        let wish = json!({"eventId": SHOW, "quantity": seats, "reservationToken": token});
        match self.ask(venue, Asked::Other, Method::POST, "/v1/reservations", wish).await {
            Ok(held) => Ok(held["reservationId"].as_str().map(str::to_owned)),
            Err(Refused::Said(403 | 409, _)) => Ok(None),
            Err(refused) => Err(refused),
        }
    }

    /// What he does with his reservation.
    async fn settle(&mut self, venue: &Venue, id: String, seats: u64) -> Result<Fate, Refused> {
        let fate = match self.habit {
            Habit::IsDeclined => {
                self.pay(venue, &id, seats, Course::Failed);
                Fate::Declined
            }
            Habit::GivesBack => {
                let path = format!("/v1/reservations/{id}/cancel");
                self.ask(venue, Asked::Other, Method::POST, &path, json!({})).await?;
                return Ok(Fate::GaveBack);
            }
            Habit::PaysLate => {
                sleep(venue.options.windows.hold + Duration::from_secs(2)).await;
                self.pay(venue, &id, seats, Course::Approved);
                Fate::PaidLate
            }
            // Two tabs pay once.
            Habit::BuysInTwoTabs if !venue.is_first_to_pay(&id) => Fate::Bought,
            Habit::Buys | Habit::BuysInTwoTabs | Habit::IsAbsent | Habit::Leaves | Habit::LetsItPass => {
                self.pay(venue, &id, seats, Course::Approved);
                Fate::Bought
            }
        };
        let started = Instant::now();
        let patience = PATIENCE.max(venue.options.windows.hold * 2);
        loop {
            sleep(LOOK).await;
            let path = format!("/v1/reservations/{id}");
            let found = self.ask(venue, Asked::Other, Method::GET, &path, Value::Null).await?;
            match found["status"].as_str().unwrap_or_default() {
                "PENDING" | "HOLD" if started.elapsed() < patience => {}
                "CONFIRMED" => return Ok(Fate::Bought),
                "CANCELLED" | "EXPIRED" if fate != Fate::Bought => return Ok(fate),
                // Who was to hear of his payment was killed, and his hold ran out before it was heard of again.
                "EXPIRED" if !venue.options.is_calm => return Ok(Fate::PaidLate),
                _ => return Err(Refused::Said(200, found)),
            }
        }
    }

    fn pay(&mut self, venue: &Venue, id: &str, seats: u64, course: Course) {
        let (price, currency) = PRICE;
        let payment = venue.doors.payments.pay(Order {
            reservation_id: id.to_owned(),
            user_id: self.user_id.clone(),
            amount: price * i64::try_from(seats).unwrap_or_default(),
            currency: currency.to_owned(),
            course,
        });
        if course == Course::Approved {
            self.visit.paid.push((payment, id.to_owned()));
        }
    }

    /// One call of the waiting room.
    async fn call(&mut self, venue: &Venue, method: &str, body: Value) -> Result<Value, Refused> {
        let asked = match method {
            "EnqueueBooking" => Asked::Join,
            "GetQueuePosition" => Asked::Position,
            _ => Asked::Other,
        };
        self.ask(venue, asked, Method::POST, &path_of(method), body).await
    }

    /// One request, until there is an answer to it.
    async fn ask(
        &mut self,
        venue: &Venue,
        asked: Asked,
        method: Method,
        path: &str,
        body: Value,
    ) -> Result<Value, Refused> {
        let mut unanswered = Duration::ZERO;
        let mut last = String::new();
        while unanswered < PATIENCE {
            let ways = if matches!(asked, Asked::Join) { &venue.joining } else { &venue.asking };
            // How long the crowd before him keeps this machine busy says nothing of his patience with the sale.
            let Ok(way) = ways.acquire().await else { break };
            let asked_at = Instant::now();
            self.visit.requests[asked as usize] += 1;
            let answer = self.send(venue, &method, path, &body).await;
            drop(way);
            if let Ok((_, _, bytes)) = &answer {
                self.visit.bytes[asked as usize] += bytes;
            }
            match answer {
                Ok((status, body, _)) if status < 300 => return Ok(body),
                Ok((status, body, _)) if status < 500 && status != 429 => return Err(Refused::Said(status, body)),
                Ok((status, body, _)) => last = format!("{status} {body}"),
                Err(error) => last = error,
            }
            sleep(AGAIN.mul_f64(0.5 + self.impatience.f64())).await;
            unanswered += asked_at.elapsed();
        }
        Err(Refused::Silence(format!("{path}: {last}")))
    }

    /// Status and body of an answer, and the bytes of the bodies that went both ways.
    async fn send(
        &mut self,
        venue: &Venue,
        method: &Method,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value, usize), String> {
        let token = match &self.token {
            Some(token) => token,
            None => {
                let token = venue.doors.issuer.token(&self.user_id, SCOPE, Duration::from_secs(24 * 3_600));
                self.token.insert(token.map_err(|error| error.to_string())?)
            }
        };
        let request = venue.http.request(method.clone(), format!("{}{path}", venue.doors.url));
        // A tab has its own key, and the token makes both ask for one reservation.
        let key = format!("{}-{}", self.user_id, fastrand::u32(..));
        let request = request.bearer_auth(token).header("idempotency-key", key);
        let sent = if body.is_null() { 0 } else { body.to_string().len() };
        let request = if body.is_null() { request } else { request.json(body) };
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap_or_default();
        Ok((status, serde_json::from_slice(&body).unwrap_or_default(), sent + body.len()))
    }
}

/// Adds what is counted for each kind of request.
pub(super) fn add(sums: &mut [usize; 3], more: [usize; 3]) {
    sums.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

/// Where a method of the waiting room is.
pub(super) fn path_of(method: &str) -> String {
    format!("/booking_worker.v1.BookingWorkerService/{method}")
}

/// A number of an answer, which JSON of protobuf writes as text where it has 64 bits, and leaves out where it is 0.
pub(super) fn number(answer: &Value, name: &str) -> u64 {
    let field = &answer[name];
    field.as_u64().or_else(|| field.as_str()?.parse().ok()).unwrap_or_default()
}

fn milliseconds(answer: &Value, name: &str) -> Duration {
    // Nobody is told to ask again at once.
    Duration::from_millis(number(answer, name).max(500))
}
