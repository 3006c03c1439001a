//! What can be done with reservations, whoever asks and by whichever protocol: a customer through REST or RPC, or the
//! functions that settle events.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::join;
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Allotment, Hold, Status,
    entrance::{self, Entrance},
    lifecycle::{By, Change, Decision, Found, LEASE, Payment, Reservation, Shortage, Terms, Wish},
    payment::Proof,
    table::{Cursor, Table, TableError, Written},
};
use crate::{
    admission::{Admission, Denied},
    client::{
        inventory::{Call, InventoryClient, ReserveError},
        payments::{self, PaymentClient},
    },
    config::{ConfigError, Reader},
    deadline::epoch_ms,
    field::LONGEST_PAGE,
    start::{Parts, probe},
    telemetry::{
        metrics::{Metric, Metrics, Unit},
        trace::TraceContext,
    },
    trigger::http::Server,
};

/// How often a change is decided anew, when somebody else changed the reservation in between.
const TRIES: u32 = 3;

/// The most pages of a customer's reservations that are looked at to count those that are open: a thousand reservations.
const MOST_PAGES: usize = 10;

/// After so long a service may be there again.
const SOON: Duration = Duration::from_secs(1);

const STATUS: Metric = Metric { name: "reservation_status_total", unit: Unit::Count, dimensions: &["status"] };

/// The metrics of reservations. `status` is what one has become.
pub const METRICS: &[Metric] = &[STATUS];

/// A reservation that was created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Created {
    /// The reservation, as it was when its seats were held.
    pub reservation: Reservation,
    /// Whether an earlier request has created it.
    pub replayed: bool,
}

/// Why a wish was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such reservation, or it is another customer's, which is not told apart.
    #[error("there is no such reservation")]
    Unknown,
    /// The key came before with another wish.
    #[error("the Idempotency-Key belongs to another request")]
    OtherWish,
    /// The show has a line, and nothing says that it is the customer's turn.
    #[error(
        "the tickets of this event need a turn in its waiting room: join it, and send the token of your turn as the reservation token"
    )]
    AdmissionRequired,
    /// The token admits nobody to what is wished for.
    #[error("the reservation token {0}")]
    Denied(Denied),
    /// More is wished for than the token allows.
    #[error("the reservation token allows {most} tickets at most")]
    TooMany {
        /// So many.
        most: u32,
    },
    /// The token came before with another wish.
    #[error("the reservation token has been used for another request, and is good for one reservation")]
    TokenUsed,
    /// The waiting room did not say whether the show has a line.
    #[error("the waiting room has not said whether this event has a line; ask again")]
    Line {
        /// For the log alone: it may quote a service, or name our account.
        cause: String,
        /// When to ask again.
        after: Duration,
    },
    /// The customer has as many reservations open as he may have.
    #[error(
        "a customer may hold {most} at a time without having paid, and this one does: pay for one, cancel one, or wait until \
         one ends"
    )]
    TooManyHolds {
        /// So many.
        most: u8,
    },
    /// Another invocation is at the same wish.
    #[error("a request with this Idempotency-Key is being worked on")]
    InProgress {
        /// For so long at most.
        after: Duration,
    },
    /// The reservation got no seats.
    #[error("the seats are not available: others have them, or fewer are left")]
    NoSeats,
    /// The time for this wish is over, and nothing is held for it.
    #[error("the time to reserve these seats is over; take a new Idempotency-Key")]
    Over,
    /// The reservation can't become that.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Nothing says that it is paid.
    #[error("nothing says that this reservation is paid: {why}")]
    NotPaid {
        /// For the customer.
        why: String,
        /// When it may be, if waiting helps.
        after: Option<Duration>,
    },
    /// The payment service did not say what became of the payment.
    #[error("the payment service has not said what became of the payment; ask again")]
    Payments {
        /// For the log alone: it may quote a service, or name our account.
        cause: String,
        /// When to ask again.
        after: Duration,
    },
    /// The inventory did not say what became of the seats.
    #[error("the inventory has not said what became of the seats; repeat the request")]
    Inventory {
        /// For the log alone: it may quote a service, or name our account.
        cause: String,
        /// When the same request goes on.
        after: Duration,
    },
    /// The table did not do what was asked.
    #[error("the reservations can't be asked now; try again")]
    Table {
        /// For the log alone: it may quote a service, or name our account.
        cause: String,
        /// When to ask again.
        after: Duration,
    },
}

impl Error {
    /// Writes down what stood in the way, where that is no matter of whoever asked.
    pub fn write_cause(&self) {
        match self {
            Self::Line { cause, .. }
            | Self::Payments { cause, .. }
            | Self::Inventory { cause, .. }
            | Self::Table { cause, .. } => warn!(error = cause, "a request can't be served now"),
            Self::Unknown
            | Self::OtherWish
            | Self::AdmissionRequired
            | Self::Denied(_)
            | Self::TooMany { .. }
            | Self::TokenUsed
            | Self::TooManyHolds { .. }
            | Self::InProgress { .. }
            | Self::NoSeats
            | Self::Over
            | Self::Conflict(_)
            | Self::NotPaid { .. } => {}
        }
    }
}

/// A reservation that can't become what is wished for.
#[derive(Debug, thiserror::Error)]
#[error("the reservation {} is {}", .reservation.id, .reservation.status.name())]
pub struct Conflict {
    /// As it is.
    pub reservation: Box<Reservation>,
    /// When it may be otherwise, if waiting helps.
    pub after: Option<Duration>,
}

impl Conflict {
    fn with(reservation: Reservation, after: Option<Duration>) -> Error {
        Error::Conflict(Self { reservation: Box::new(reservation), after })
    }
}

/// Which of a customer's reservations are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Only those of this status.
    pub status: Option<Status>,
    /// Only those for this show.
    pub show_id: Option<String>,
    /// How many are looked at, [`LONGEST_PAGE`] at most.
    pub limit: u8,
    /// Where the page before ended.
    pub after: Option<Cursor>,
}

/// Some of a customer's reservations, the newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Those that fit, of those that were looked at; so a page may hold few and not be the last.
    pub reservations: Vec<Reservation>,
    /// Where the next page goes on; nothing on the last.
    pub next: Option<Cursor>,
}

impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Unavailable { .. } | TableError::Unreadable { .. } => {
                Self::Table { cause: error.to_string(), after: SOON }
            }
        }
    }
}

/// The reservations, and what they are made with.
#[derive(Debug)]
pub struct Reservations {
    table: Table,
    inventory: InventoryClient,
    payments: Option<PaymentClient>,
    entrance: Option<Entrance>,
    terms: Terms,
    metrics: Metrics,
}

impl Reservations {
    /// Reservations on these terms, which are counted for nobody. Without a payment service no customer confirms his
    /// reservation himself: the event of its payment does. Without an entrance everybody may make one.
    pub fn new(
        table: Table,
        inventory: InventoryClient,
        payments: Option<PaymentClient>,
        entrance: Option<Entrance>,
        terms: Terms,
    ) -> Self {
        Self { table, inventory, payments, entrance, terms, metrics: Metrics::default() }
    }

    /// As the environment says. Nothing: what is wrong is noted. It must be called inside a Tokio runtime.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let terms = Terms::configured(&mut parts.reader);
        let inventory = InventoryClient::configured(parts);
        let payments = PaymentClient::configured(parts);
        let entrance = Entrance::configured(parts);
        let metrics = parts.metrics.clone();
        Some(Self { metrics, ..Self::new(table, inventory?, payments?, entrance?, terms) })
    }

    /// A server of them by `service`, which looks at its start at what they are made with. Nothing: what is wrong is noted. It
    /// must be called inside a Tokio runtime.
    pub fn served<S>(parts: &mut Parts<'_>, service: impl FnOnce(Arc<Self>) -> S) -> Option<Server<S>> {
        let name = parts.name;
        Server::over(Self::configured(parts), parts, service, async move |reservations: &Self| {
            reservations.probe(name).await
        })
    }

    /// Looks whether what the configuration names is there, once per environment, and connects to the services, so that the
    /// first customer does not wait for them.
    ///
    /// # Errors
    /// What no waiting can mend.
    async fn probe(&self, name: &str) -> Result<(), ConfigError> {
        let payments = async {
            if let Some(payments) = &self.payments {
                probe::connection(name, "PAYMENT_GRPC_ADDR", payments.connection()).await;
            }
        };
        let lines = async {
            match &self.entrance {
                Some(entrance) => probe::table(name, entrance::TABLE, entrance.probe()).await,
                None => Ok(()),
            }
        };
        let (table, lines, (), ()) = join!(
            probe::table(name, "RESERVATIONS_TABLE", self.table.probe()),
            lines,
            probe::connection(name, "INVENTORY_GRPC_ADDR", self.inventory.connection()),
            payments,
        );
        table.and(lines)
    }

    /// Holds what is wished for, in three steps: the reservation is written with its deadline, seats are held, the reservation
    /// is on hold. Whoever dies in between leaves a deadline behind, at which all of it is given back. A repeat goes on where
    /// the first request stopped, or is told what it said. `token` is the customer's word for his right to it, where there is
    /// an entrance that asks for one.
    ///
    /// # Errors
    /// Why no seats are held, or why that is not known.
    pub async fn create(&self, wish: &Wish, token: Option<&str>, trace: &TraceContext) -> Result<Created, Error> {
        let admission = match &self.entrance {
            Some(entrance) => entrance.admit(wish, token).await?,
            None => None,
        };
        match self.create_by(admission.as_ref(), wish, trace).await {
            // There is one reservation by each token, whatever the key.
            Err(Error::OtherWish) if admission.is_some() => Err(Error::TokenUsed),
            created @ (Ok(_) | Err(_)) => created,
        }
    }

    async fn create_by(
        &self,
        admission: Option<&Admission>,
        wish: &Wish,
        trace: &TraceContext,
    ) -> Result<Created, Error> {
        let (owner, now) = (Uuid::new_v4().to_string(), now());
        let pending = Reservation::pending(wish, admission, &owner, now, &self.terms);
        let written = match self.barred(admission, &pending).await? {
            None => self.begin(&pending).await?,
            // Nothing begins now. What has begun goes on.
            Some(refusal) => match self.table.get(&pending.id).await? {
                Some(found) => Written::Overtaken(found),
                None => return Err(refusal),
            },
        };
        let (reservation, only_try) = match written {
            Written::Made(reservation) => (reservation, true),
            Written::Overtaken(found) => match found.found_by(wish, &owner, now) {
                Found::Held => return Ok(Created { reservation: found, replayed: true }),
                Found::Abandoned(change) => match self.write(&change).await? {
                    Written::Made(reservation) => (reservation, false),
                    Written::Overtaken(_) | Written::Gone => return Err(Error::InProgress { after: LEASE }),
                },
                Found::Failed => return Err(Error::NoSeats),
                Found::Over => return Err(Error::Over),
                Found::InProgress(after) => return Err(Error::InProgress { after }),
                Found::Other => return Err(Error::OtherWish),
            },
            Written::Gone => return Err(Error::InProgress { after: SOON }),
        };
        match self.reserve(&reservation, trace).await {
            Ok(hold) => self.hold(&reservation, hold, wish).await,
            Err(ReserveError::Refused(cause)) => self.refuse(&reservation, only_try, &cause, wish).await,
            Err(error @ ReserveError::Unclear(_)) => {
                let left = reservation.lease_until.unwrap_or_default().saturating_sub(self::now());
                Err(Error::Inventory { cause: error.to_string(), after: Duration::from_millis(left) })
            }
        }
    }

    /// Why a reservation that has not begun must not begin, if it must not.
    async fn barred(&self, admission: Option<&Admission>, pending: &Reservation) -> Result<Option<Error>, TableError> {
        if admission.is_some_and(|admission| admission.is_over(pending.created_at)) {
            return Ok(Some(Error::Denied(Denied::Expired)));
        }
        match self.terms.most_open {
            Some(most) if self.has_open(most, pending).await? => Ok(Some(Error::TooManyHolds { most })),
            Some(_) | None => Ok(None),
        }
    }

    /// Whether the customer has so many reservations open beside this one. It is soft: two that begin at once do not see each
    /// other. Whoever has begun more than so many pages of them within the time of the longest hold gets no more meanwhile.
    async fn has_open(&self, most: u8, pending: &Reservation) -> Result<bool, TableError> {
        let (most, now) = (usize::from(most), pending.created_at);
        let longest_hold = u64::try_from(self.terms.longest_hold.as_millis()).unwrap_or(u64::MAX);
        let since = now.saturating_sub(longest_hold);
        let (mut open, mut after) = (0, None);
        for _ in 0..MOST_PAGES {
            let (mut ids, next) = self.table.ids(&pending.user_id, since, LONGEST_PAGE, after.as_ref()).await?;
            ids.retain(|id| *id != pending.id);
            // As a rule there are so few that none has to be read.
            if next.is_none() && open + ids.len() < most {
                return Ok(false);
            }
            let others = self.table.those(&ids).await?;
            open += others.iter().filter(|other| other.is_open(now)).count();
            if open >= most {
                return Ok(true);
            }
            match next {
                Some(next) => after = Some(next),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The customer's reservation.
    ///
    /// # Errors
    /// When it is not there, or not known.
    pub async fn get(&self, id: &str, user_id: &str) -> Result<Reservation, Error> {
        let found = self.find(id).await?;
        if found.user_id == user_id && !found.is_tombstone() { Ok(found) } else { Err(Error::Unknown) }
    }

    /// The customer's reservations, the newest first.
    ///
    /// # Errors
    /// When they are not known.
    pub async fn list(&self, user_id: &str, listing: &Listing) -> Result<Page, Error> {
        let (mut reservations, next) = self.table.list(user_id, listing.limit, listing.after.as_ref()).await?;
        reservations.retain(|found| {
            let is_status = listing.status.as_ref().is_none_or(|status| found.status == *status);
            is_status && listing.show_id.as_ref().is_none_or(|show_id| found.show_id == *show_id)
        });
        Ok(Page { reservations, next })
    }

    /// Confirms the customer's reservation. His word is no proof of a payment: the payment service is asked. Where there is
    /// none, the payment's own event confirms the reservation, and then this says so.
    ///
    /// # Errors
    /// Why it is not confirmed.
    pub async fn confirm(
        &self,
        id: &str,
        user_id: &str,
        intent_id: &str,
        trace: &TraceContext,
    ) -> Result<Reservation, Error> {
        let found = self.get(id, user_id).await?;
        let unproven = Payment { intent_id: intent_id.to_owned(), amount: None, currency: None };
        match found.confirm(&unproven, By::Client, now(), &self.terms) {
            Decision::Already => Ok(found),
            Decision::Refused { after } => Err(Conflict::with(found, after)),
            Decision::Write(change) => {
                // Too late for any payment, so none is looked at.
                let over = change.to.status == Status::Expired;
                let payment = if over { unproven } else { self.proven(&found, intent_id, trace).await? };
                self.change(found, |found| found.confirm(&payment, By::Client, now(), &self.terms)).await
            }
        }
    }

    /// Gives the customer's reservation up.
    ///
    /// # Errors
    /// Why it is not cancelled.
    pub async fn cancel(&self, id: &str, user_id: &str) -> Result<Reservation, Error> {
        let found = self.get(id, user_id).await?;
        self.change(found, |found| found.cancel(By::Client, now())).await
    }

    /// Lets the customer's hold last longer, once.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn extend(&self, id: &str, user_id: &str, longer: Duration, key: &str) -> Result<Reservation, Error> {
        let found = self.get(id, user_id).await?;
        self.change(found, |found| found.extend(longer, key, now(), &self.terms)).await
    }

    /// Any customer's reservation, for the functions that settle events.
    ///
    /// # Errors
    /// When it is not there, or not known.
    pub async fn find(&self, id: &str) -> Result<Reservation, Error> {
        self.table.get(id).await?.ok_or(Error::Unknown)
    }

    /// What an event about a payment, or the end of a hold, asks for.
    ///
    /// # Errors
    /// Why it did not become so.
    pub async fn settle(&self, id: &str, wanted: &Settlement) -> Result<Reservation, Error> {
        let found = self.find(id).await?;
        self.change(found, |found| match wanted {
            Settlement::Confirmed(payment) => found.confirm(payment, By::Payment, now(), &self.terms),
            Settlement::Cancelled => found.cancel(By::Payment, now()),
            Settlement::Expired => found.expire(By::Worker, now()),
        })
        .await
    }

    /// Ends a reservation before it is created. `Ok`: none of this id can hold seats any more; whether by this call.
    ///
    /// # Errors
    /// When it was created already, or it is not known.
    pub async fn entomb(&self, id: &str) -> Result<bool, Error> {
        match self.begin(&Reservation::tombstone(id, now())).await? {
            Written::Made(_) => Ok(true),
            Written::Overtaken(found) if found.is_tombstone() => Ok(false),
            Written::Overtaken(found) => Err(Conflict::with(found, None)),
            Written::Gone => Err(Error::Table {
                cause: format!("create the reservation {id}: there is one, and the answer does not say which"),
                after: SOON,
            }),
        }
    }

    /// The payment, when the payment service says that it pays this reservation.
    async fn proven(&self, found: &Reservation, intent_id: &str, trace: &TraceContext) -> Result<Payment, Error> {
        let Some(payments) = &self.payments else {
            let why = "its payment has not confirmed it yet; ask again".to_owned();
            return Err(Error::NotPaid { why, after: Some(SOON) });
        };
        let statement = match payments.status(intent_id, &found.user_id, trace).await {
            Ok(statement) => statement,
            // It says the same of a payment that is not this customer's.
            Err(payments::Error::Unknown(_)) => {
                let why = "there is no such payment of this reservation by its customer".to_owned();
                return Err(Error::NotPaid { why, after: None });
            }
            Err(error @ payments::Error::Unavailable(_)) => {
                return Err(Error::Payments { cause: error.to_string(), after: SOON });
            }
        };
        match statement.pays(found) {
            Proof::Given => {
                let (amount, currency) = statement.amount.map(|paid| (paid.amount, paid.currency)).unzip();
                let currency = currency.filter(|currency| !currency.is_empty());
                Ok(Payment { intent_id: intent_id.to_owned(), amount, currency })
            }
            Proof::NotYet => {
                let why = "the payment is under way; ask again".to_owned();
                Err(Error::NotPaid { why, after: Some(SOON) })
            }
            Proof::None(why) => Err(Error::NotPaid { why, after: None }),
        }
    }

    async fn reserve(&self, reservation: &Reservation, trace: &TraceContext) -> Result<Hold, ReserveError> {
        let allotment = Allotment {
            show_id: reservation.show_id.clone(),
            seat_ids: reservation.seat_ids.clone(),
            quantity: reservation.quantity,
            user_id: Some(reservation.user_id.clone()),
        };
        let key = format!("{}#reserve", reservation.id);
        let call = Call { reservation_id: &reservation.id, allotment: &allotment, idempotency_key: &key, trace };
        // The seats are ours to give back until then; an inventory that did it earlier could race a late payment.
        let freed = Duration::from_millis(reservation.created_at) + self.terms.longest_hold + self.terms.grace;
        self.inventory.reserve(call, UNIX_EPOCH + freed).await
    }

    /// The last step of a creation. When it is lost to somebody, nothing is released here: whoever went on holds the same
    /// seats.
    async fn hold(&self, reservation: &Reservation, hold: Hold, wish: &Wish) -> Result<Created, Error> {
        match self.write(&reservation.held(hold, now())).await? {
            Written::Made(reservation) => Ok(Created { reservation, replayed: false }),
            Written::Overtaken(found) => overtaken(found, wish),
            Written::Gone => Err(Error::Over),
        }
    }

    /// Notes that there are no seats. The customer is told so only after that: whoever took the reservation over may have
    /// held the same seats meanwhile, and one key has one answer.
    async fn refuse(
        &self,
        reservation: &Reservation,
        only_try: bool,
        cause: &str,
        wish: &Wish,
    ) -> Result<Created, Error> {
        let change = reservation.refused_seats(Shortage::SeatUnavailable, only_try, now());
        match self.write(&change).await? {
            Written::Made(_) => {
                info!(reservation_id = reservation.id, cause, "the inventory holds no seats for the reservation");
                Err(Error::NoSeats)
            }
            Written::Overtaken(found) => {
                warn!(reservation_id = reservation.id, cause, "somebody else went on with the reservation");
                overtaken(found, wish)
            }
            Written::Gone => Err(Error::Over),
        }
    }

    /// Writes a new reservation, if there is none of its id.
    async fn begin(&self, reservation: &Reservation) -> Result<Written, TableError> {
        Ok(self.counted(None, self.table.create(reservation).await?))
    }

    /// Writes a change, if the reservation is still what it was decided on.
    async fn write(&self, change: &Change) -> Result<Written, TableError> {
        Ok(self.counted(Some(&change.from.status), self.table.write(change).await?))
    }

    /// Counts what a reservation has become, if it was something else before.
    fn counted(&self, before: Option<&Status>, written: Written) -> Written {
        match &written {
            Written::Made(now) if before != Some(&now.status) => {
                self.metrics.record(|recorder| recorder.count(&STATUS, &[now.status.name()], 1));
            }
            Written::Made(_) | Written::Overtaken(_) | Written::Gone => {}
        }
        written
    }

    /// Writes what `decide` says of the reservation as it is, and decides again when it has changed in between. `Ok`: it is as
    /// was wished.
    async fn change(
        &self,
        mut found: Reservation,
        decide: impl Fn(&Reservation) -> Decision,
    ) -> Result<Reservation, Error> {
        for _ in 0..TRIES {
            let change: Change = match decide(&found) {
                Decision::Already => return Ok(found),
                Decision::Refused { after } => return Err(Conflict::with(found, after)),
                Decision::Write(change) => *change,
            };
            match self.write(&change).await? {
                // It expires in place of a sale that comes too late.
                Written::Made(now) if now.status == Status::Expired && change.from.status != Status::Expired => {
                    return match decide(&now) {
                        Decision::Already => Ok(now),
                        Decision::Write(_) | Decision::Refused { .. } => Err(Conflict::with(now, None)),
                    };
                }
                Written::Made(now) => return Ok(now),
                Written::Overtaken(now) => found = now,
                Written::Gone => return Err(Error::Unknown),
            }
        }
        let cause = format!("the reservation {} changes too often to be written", found.id);
        Err(Error::Table { cause, after: SOON })
    }
}

/// What is told to the customer of a creation that was overtaken: what whoever went on has made of it.
fn overtaken(found: Reservation, wish: &Wish) -> Result<Created, Error> {
    match found.found_by(wish, "", now()) {
        Found::Held => Ok(Created { reservation: found, replayed: true }),
        Found::Failed => Err(Error::NoSeats),
        Found::InProgress(after) => Err(Error::InProgress { after }),
        Found::Abandoned(_) => Err(Error::InProgress { after: SOON }),
        Found::Over => Err(Error::Over),
        Found::Other => Err(Error::OtherWish),
    }
}

/// What an event asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// Its payment went through.
    Confirmed(Payment),
    /// Its payment did not go through, or it was given up.
    Cancelled,
    /// Its time is over.
    Expired,
}

impl Terms {
    /// As `HOLD_SECONDS`, `MAX_HOLD_SECONDS`, `HOLD_GRACE_SECONDS` and `MAX_OPEN_HOLDS` say. What is wrong is noted.
    pub fn configured(reader: &mut Reader<'_>) -> Self {
        const TIMER: &str = "it must be long enough to pay, and no queue delays its timer longer";
        const HOLD: &str = "it must be long enough to pay, and MAX_HOLD_SECONDS at most";
        const GRACE: &str = "an event that is late must still find its seats held";
        const OPEN: &str = "more than that are not counted; leave it unset for no limit";

        let Self { hold, longest_hold: longest, grace, most_open: _ } = Self::DEFAULT;
        let longest_hold = reader.seconds("MAX_HOLD_SECONDS", longest, Self::SHORTEST_HOLD..=longest, TIMER);
        // A hold is judged by a longest one that there can be.
        let holds = Self::SHORTEST_HOLD..=longest_hold.clamp(Self::SHORTEST_HOLD, longest);
        Self {
            hold: reader.seconds("HOLD_SECONDS", hold, holds, HOLD),
            longest_hold,
            grace: reader.seconds("HOLD_GRACE_SECONDS", grace, Self::GRACES, GRACE),
            most_open: reader.limit("MAX_OPEN_HOLDS", Self::LIMITS, OPEN),
        }
    }
}

fn now() -> u64 {
    epoch_ms(SystemTime::now())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// The terms of these seconds, or what is wrong with them.
    fn configured(hold: &str, longest_hold: &str, grace: &str) -> Result<Terms, ConfigError> {
        let variables = [("HOLD_SECONDS", hold), ("MAX_HOLD_SECONDS", longest_hold), ("HOLD_GRACE_SECONDS", grace)];
        let source: BTreeMap<_, _> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let mut reader = Reader::new(&source);
        let terms = Terms::configured(&mut reader);
        reader.finish(Some(terms))
    }

    #[test]
    fn open_holds_are_limited_where_it_is_said_and_nothing_but_a_number_of_them_is_a_limit() {
        let limit = |text: &str| {
            let source = BTreeMap::from([("MAX_OPEN_HOLDS".to_owned(), text.to_owned())]);
            let mut reader = Reader::new(&source);
            let terms = Terms::configured(&mut reader);
            reader.finish(Some(terms.most_open)).map_err(|ConfigError(faults)| faults.join("\n"))
        };
        assert_eq!([limit(""), limit("1"), limit("100")], [Ok(None), Ok(Some(1)), Ok(Some(100))]);
        for wrong in ["0", "101", "256", "-1", "1.5", "many", " 4"] {
            let expected = format!("MAX_OPEN_HOLDS must be from 1 to 100, not {wrong:?}: ");
            assert!(limit(wrong).is_err_and(|fault| fault.starts_with(&expected)), "{wrong}");
        }
    }

    #[test]
    fn each_time_has_its_default_and_may_be_at_either_end() {
        assert_eq!(configured("", "", ""), Ok(Terms::DEFAULT));
        for (hold, longest_hold, grace) in [("30", "30", "7200"), ("900", "900", "1209600")] {
            assert!(configured(hold, longest_hold, grace).is_ok(), "{hold}, {longest_hold}, {grace}");
        }
    }

    #[test]
    fn a_time_beyond_its_ends_is_refused_with_what_it_may_be() {
        let fault = |hold, longest_hold, grace| match configured(hold, longest_hold, grace) {
            Err(ConfigError(faults)) => faults.join("\n"),
            Ok(terms) => format!("{terms:?}"),
        };
        for (hold, longest_hold, grace, expected) in [
            ("29", "", "", "HOLD_SECONDS must be from 30 to 900, not 29:"),
            ("901", "", "", "HOLD_SECONDS must be from 30 to 900, not 901:"),
            ("61", "60", "", "HOLD_SECONDS must be from 30 to 60, not 61:"),
            ("", "901", "", "MAX_HOLD_SECONDS must be from 30 to 900, not 901:"),
            ("", "29", "", "MAX_HOLD_SECONDS must be from 30 to 900, not 29:"),
            ("", "", "7199", "HOLD_GRACE_SECONDS must be from 7200 to 1209600, not 7199:"),
            ("", "", "10800000", "HOLD_GRACE_SECONDS must be from 7200 to 1209600, not 10800000:"),
        ] {
            let faults = fault(hold, longest_hold, grace);
            assert!(faults.lines().any(|fault| fault.starts_with(expected)), "{expected} is missing in: {faults}");
        }
        assert_eq!(fault("29", "901", "1").lines().count(), 3);
    }
}
