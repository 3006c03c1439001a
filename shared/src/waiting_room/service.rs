//! What customers may do in a line, by whichever protocol: join it, ask for their place, leave it. Whoever asks for his place
//! when it is his turn is let in by that: the answer has his admission.
//!
//! A line is read once a second in each environment, however many people ask, and where somebody leaves it. What a place is, is
//! read at the moment of asking.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tracing::{info, warn};

use super::{
    Moment,
    id::{PlaceId, PlaceKeys},
    line::{Line, Scope, Terms},
    lines::Lines,
    measured::{PROCESSED, Processed},
    message::{JoinMessage, TickMessage},
    ms, notice,
    outlook::{IN_TURN, Outlook, Stage, until_drawn, until_placed},
    place::{Change, Entry, RECALLS, State, Turn},
    plan::Move,
    sequence::Pending,
    table::{Item, Replaced, Spot, Table, TableError, Written},
    ticket::{self, PushUrl},
};
use crate::{
    admission::{Admission, token::Keys},
    client::queue::{Delayed, Queue},
    config::ConfigError,
    deadline::epoch_ms,
    name::{Named, names},
    recent::Recent,
    start::{Parts, probe},
    telemetry::metrics::{Metrics, Recorder},
    trigger::http::Server,
};

/// How long a line that was read holds.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// How often at most an environment looks anew for a line in which somebody may have joined.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The name under which the list of all shows with open lines is kept.
const ALL: &str = "all";

/// Whoever asks for a line whose last tick is older than this sets off a tick.
const LATE_TICK: Duration = Duration::from_secs(5);

/// The least time between two notes that somebody was heard of.
const HEARTBEAT: Duration = Duration::from_secs(300);

/// How long after a failure a part is asked again.
const SOON: Duration = Duration::from_secs(1);

/// How often a change is decided anew when a place has changed meanwhile.
const TRIES: u32 = 3;

/// The people who may wait in one line, where `QUEUE_MAX_SIZE` does not say so.
const MOST_WAITING: u64 = 100_000;

names! {
    /// What a place is to its customer.
    pub enum PlaceStatus {
        /// His turn has not come.
        Waiting = "waiting",
        /// It is his turn.
        Processing = "processing",
        /// He has his tickets.
        Completed = "completed",
        /// Nothing comes of it any more.
        Expired = "expired",
    }
}

names! {
    /// What a place is, finer than its status.
    pub enum Detail {
        /// He has joined, and has no position yet.
        Joining = "joining",
        /// He takes part in a draw, and has no position before it.
        Undrawn = "undrawn",
        /// He waits.
        Waiting = "waiting",
        /// He waits, and the line stands still.
        Paused = "paused",
        /// He waits, and all tickets are sold.
        SoldOut = "sold_out",
        /// The line closed before his turn came, or before he answered.
        Closed = "closed",
        /// It is his turn, and he has not asked for his place since.
        Called = "called",
        /// He may make his reservation.
        Admitted = "admitted",
        /// He has a reservation that is neither paid nor ended.
        Holding = "holding",
        /// He did not answer when it was his turn.
        Passed = "passed",
        /// He gave his turn up, and it is not known yet whether he has made a reservation before.
        Leaving = "leaving",
        /// He has his tickets.
        Sold = "sold",
        /// His turn is over, without tickets.
        Ended = "ended",
        /// He left the line.
        Cancelled = "cancelled",
        /// He was not heard of for too long when it was his turn.
        Silent = "silent",
    }
}

/// Somebody's wish to stand in a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The show that the tickets are for.
    pub show_id: String,
    /// The customer.
    pub user_id: String,
    /// The tickets that he wants.
    pub seats: u8,
    /// When he reached the gateway.
    pub arrival: Moment,
    /// What else he said, as JSON.
    pub request: Option<String>,
}

/// The right to make a reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// What the reservation API knows it by: the same for the same right.
    pub token: String,
    /// Until when.
    pub until: Moment,
}

/// What a customer is told of his place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its name.
    pub id: PlaceId,
    /// What it is to him.
    pub status: PlaceStatus,
    /// The same, finer.
    pub detail: Detail,
    /// Counted from 1; nothing while it has no position.
    pub position: Option<u64>,
    /// The people of its line whose turn has not come.
    pub waiting: u64,
    /// What he has before him, while he waits.
    pub outlook: Option<Outlook>,
    /// When to ask again; zero: nothing changes any more.
    pub ask_after: Duration,
    /// The tickets that he may take, while it is his turn.
    pub seats: Option<u8>,
    /// His right, while he has one.
    pub admitted: Option<Admitted>,
    /// The only reservation that its turn can make, or has made.
    pub reservation_id: Option<String>,
}

/// Why a wish was not fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The show has no line.
    #[error("this event has no line; its tickets are there without waiting, or not yet")]
    UnknownLine,
    /// There is no such place in a line that is there.
    #[error("there is no such place in a line; join it to get one")]
    UnknownPlace,
    /// The place is another customer's.
    #[error("this place is another customer's")]
    Foreign,
    /// More tickets are wanted than a place of this line may take.
    #[error("seat_count must be at most {most}: nobody takes more in this line")]
    TooMany {
        /// So many.
        most: u8,
    },
    /// Nobody joins any more.
    #[error("the sale is over, and nobody joins its line any more")]
    Closed,
    /// All tickets are sold.
    #[error("all tickets are sold, and nobody joins the line any more")]
    SoldOut,
    /// The line is full.
    #[error("{most} people wait already, and no more are taken now; try again")]
    Full {
        /// So many wait.
        most: u64,
        /// When to try again.
        after: Duration,
    },
    /// He joined a moment ago, and it is not known yet where he stands.
    #[error("you are being given your place; ask again in a moment")]
    Joining {
        /// When to ask again.
        after: Duration,
    },
    /// He has a reservation that is open.
    #[error("you have a reservation; cancel that, and your place ends with it")]
    Holding,
    /// He has his tickets.
    #[error("you have your tickets, and nothing is left to give up")]
    Sold,
    /// The table or the queue did not do what was asked, or nobody knows.
    #[error("the waiting room can't be asked now; ask again")]
    Unavailable {
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
            Self::Unavailable { cause, .. } => warn!(error = cause, "a request can't be served now"),
            Self::UnknownLine
            | Self::UnknownPlace
            | Self::Foreign
            | Self::TooMany { .. }
            | Self::Closed
            | Self::SoldOut
            | Self::Full { .. }
            | Self::Joining { .. }
            | Self::Holding
            | Self::Sold => {}
        }
    }
}

impl From<TableError> for Error {
    fn from(error: TableError) -> Self {
        match error {
            TableError::Unavailable { .. } | TableError::Unreadable { .. } => unavailable(error.to_string()),
        }
    }
}

/// The lines, and what customers are served with.
#[derive(Debug)]
pub struct WaitingRoom {
    name: &'static str,
    table: Table,
    keys: PlaceKeys,
    admissions: Keys,
    /// Where pages hear at once, if they do.
    pushes: Option<PushUrl>,
    joined: Queue,
    ticks: Queue,
    terms: Terms,
    most_waiting: u64,
    metrics: Metrics,
    lines: Recent<Option<Arc<Line>>>,
    open: Recent<Arc<Vec<String>>>,
    looked: Recent<()>,
    ticked: Recent<()>,
}

/// Somebody's place, as it was read.
#[derive(Debug)]
struct Place {
    line: Arc<Line>,
    item: Item,
    spot: Option<Spot>,
}

impl WaitingRoom {
    /// As the environment says: `WAITING_ROOM_TABLE`, `JOINED_QUEUE_URL`, `TICK_QUEUE_URL`, `QUEUE_MAX_SIZE`, `PUSH_API_BASE`,
    /// the lengths of a turn, and the keys of the secret. Nothing: what is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let table = Table::configured(&mut parts.reader, parts.aws);
        let joined = Queue::configured(parts, "JOINED_QUEUE_URL");
        let ticks = Queue::configured(parts, "TICK_QUEUE_URL");
        let terms = Terms::configured(&mut parts.reader);
        let most_waiting = parts.reader.count("QUEUE_MAX_SIZE", MOST_WAITING);
        let metrics = parts.metrics.clone();
        let keys = PlaceKeys::configured(&mut parts.reader);
        let admissions = Keys::configured(&mut parts.reader);
        let pushes = PushUrl::if_configured(&mut parts.reader);
        Some(Self {
            name: parts.name,
            table,
            keys: keys?,
            admissions: admissions?,
            pushes,
            joined,
            ticks,
            terms,
            most_waiting,
            metrics,
            lines: Recent::holding_for(KNOWN_FOR),
            open: Recent::holding_for(KNOWN_FOR),
            looked: Recent::holding_for(LOOK_EVERY),
            ticked: Recent::holding_for(LATE_TICK),
        })
    }

    /// A server of them by `service`, which looks at its start at what they are made with. Nothing: what is wrong is noted.
    pub fn served<S>(parts: &mut Parts<'_>, service: impl FnOnce(Arc<Self>) -> S) -> Option<Server<S>> {
        Server::over(Self::configured(parts), parts, service, Self::probe)
    }

    async fn probe(&self) -> Result<(), ConfigError> {
        probe::table(self.name, "WAITING_ROOM_TABLE", self.table.probe()).await
    }

    /// The lines as their operators see them.
    pub fn lines(&self) -> Lines {
        Lines::new(self.table.clone(), self.keys.clone())
    }

    /// Where pages hear at once, if they do.
    pub fn pushes(&self) -> Option<&PushUrl> {
        self.pushes.as_ref()
    }

    /// Where a page of this place hears at once that something became of it, with a ticket that is good now; nothing, where
    /// nothing becomes of it any more, or pages hear nothing.
    pub fn push_url(&self, shown: &Shown) -> Option<String> {
        let pushes = self.pushes.as_ref().filter(|_| !shown.ask_after.is_zero())?;
        match ticket::issue(&self.admissions, shown.id, now()) {
            Ok(ticket) => Some(pushes.with(&ticket)),
            Err(error) => {
                warn!(place_id = %shown.id, error, "a page has no ticket; it finds out when it asks");
                None
            }
        }
    }

    /// The line of a show, as it was a second ago at most.
    ///
    /// # Errors
    /// When the show has none, or it is not known.
    pub async fn line(&self, show_id: &str) -> Result<Arc<Line>, Error> {
        self.known_line(show_id).await?.ok_or(Error::UnknownLine)
    }

    /// Lets somebody stand in a line. Who stands there already is told of his place, whatever he wishes for now: the first wish
    /// counts. Who left, or whose turn is over, stands at the end again.
    ///
    /// # Errors
    /// Why he can't join, or that it is not known whether he has. A repeat finds out.
    pub async fn join(&self, wish: &Wish) -> Result<Shown, Error> {
        let line = self.line(&wish.show_id).await?;
        let id = self.id(&line.scope, &wish.user_id)?;
        let now = now();
        let mut arrival = wish.arrival;
        if let Some(item) = self.table.item(id).await? {
            let ended_at = match item.ended_at {
                Some(ended_at) => ended_at,
                None => {
                    let place = self.place(Arc::clone(&line), item).await?;
                    match self.ends(&place, arrival, now).await? {
                        Some(ended_at) => ended_at,
                        None => return self.shown(&place, now),
                    }
                }
            };
            // The gateway's clock is not ours, and whoever has left is not kept out by their difference.
            arrival = arrival.max(ended_at + 1);
        }
        if wish.seats > line.settings.seats_max {
            return Err(Error::TooMany { most: line.settings.seats_max });
        }
        match Stage::of(&line, now) {
            Stage::Closed => return Err(Error::Closed),
            Stage::SoldOut => return Err(Error::SoldOut),
            Stage::Announced | Stage::Open | Stage::AllTaken | Stage::Paused => {}
        }
        if line.waiting() >= self.most_waiting {
            return Err(Error::Full { most: self.most_waiting, after: SOON * 10 });
        }
        let message = JoinMessage {
            scope: line.scope.clone(),
            user_id: wish.user_id.clone(),
            seats: wish.seats,
            arrival,
            request: wish.request.clone(),
        };
        self.send(&self.joined, message.body()).await?;
        Ok(joining(id, &line, now))
    }

    /// Tells somebody where he stands, and lets him in where it is his turn.
    ///
    /// # Errors
    /// When there is no such place of his, or it is not known what it is. A repeat finds out.
    pub async fn position(&self, id: &str, user_id: &str) -> Result<Shown, Error> {
        for _ in 0..TRIES {
            let now = now();
            let (id, found) = self.find(id, user_id).await?;
            let place = match found {
                Ok((line, item)) => self.place(line, item).await?,
                Err(line) => return Ok(joining(id, &line, now)),
            };
            let Some((spot, entry)) = place.turn().filter(|_| place.item.ended_at.is_none()) else {
                self.hear(&place.item, now).await;
                return self.shown(&place, now);
            };
            // A call may outlive its line: an operator closes it earlier, or it closes while it is paused.
            let claimed = entry.after(Change::Claim { until: now + ms(self.terms.booking_window) });
            if let Some(to) = claimed.filter(|_| place.line.is_open_for_joining(now)) {
                let made = Move { position: spot.position, from: Some(entry), to };
                match self.table.admit(&place.line.scope, made, &place.item, now).await? {
                    Written::Overtaken => continue,
                    Written::Made => self.note(&place, spot.position, entry, to),
                }
                return self.shown(&place.with(to), now);
            }
            self.hear(&place.item, now).await;
            if is_called_again(&entry) && place.line.is_open_for_joining(now) {
                self.table.come_back(&place.line, spot.position, place.pending()).await?;
            }
            return self.shown(&place, now);
        }
        Err(unavailable("the place changes too often to be read".to_owned()))
    }

    /// Lets somebody leave the line, or give his turn up. It does no harm twice.
    ///
    /// # Errors
    /// Why he can't, or that it is not known whether he has. A repeat finds out.
    pub async fn cancel(&self, id: &str, user_id: &str) -> Result<(), Error> {
        for _ in 0..TRIES {
            let now = now();
            let (_, found) = self.find(id, user_id).await?;
            let (kept, item) = found.map_err(|line| Error::Joining { after: until_placed(&line, now) })?;
            if item.ended_at.is_some() {
                return Ok(());
            }
            // Read after the customer's record: who was let in before that has his position in it, and who is let in later has
            // another record.
            let line = self.as_it_is(&kept).await?;
            if self.gives_up(&self.place(line, item).await?, now).await? {
                return Ok(());
            }
        }
        Err(unavailable("the place changes too often to be given up".to_owned()))
    }

    /// Whether a place is given up now, or was before; not, where somebody else has changed it meanwhile.
    async fn gives_up(&self, place: &Place, now: Moment) -> Result<bool, Error> {
        let scope = &place.line.scope;
        let Some((spot, entry)) = place.turn() else {
            let left = self.table.leave(scope, place.spot, None, &place.item, now).await? == Written::Made;
            if left {
                info!(
                    audit = true, place_id = %place.item.id, event_id = scope.show_id, to = "left", by = self.name,
                    "a place was given up"
                );
                self.count(Processed::GivenUp);
            }
            return Ok(left);
        };
        match entry.state {
            State::Called | State::Passed | State::Admitted => {}
            State::Holding => return Err(Error::Holding),
            State::Sold => return Err(Error::Sold),
            State::Leaving | State::Ended | State::GivenUp => return Ok(true),
        }
        let Some(to) = entry.after(Change::GiveUp { at: now }) else { return Ok(true) };
        let written = match to.state {
            // Whether he has made a reservation is found out by the next tick, and only then his record ends.
            State::Leaving => match self.table.replace(scope, spot.position, entry, to).await? {
                Replaced::Made => Written::Made,
                Replaced::Overtaken(_) => Written::Overtaken,
            },
            State::Called
            | State::Admitted
            | State::Holding
            | State::Sold
            | State::Ended
            | State::Passed
            | State::GivenUp => self.table.leave(scope, place.spot, Some(to), &place.item, now).await?,
        };
        if written == Written::Made {
            self.note(place, spot.position, entry, to);
            // What became of the turn of who leaves with a right is counted when it is known.
            if to.state != State::Leaving {
                self.count(Processed::GivenUp);
            }
        }
        Ok(written == Written::Made)
    }

    /// When a place ended that is over, so that its customer may stand at the end of the line again: that is noted then.
    async fn ends(&self, place: &Place, arrival: Moment, now: Moment) -> Result<Option<Moment>, Error> {
        let Some((_, entry)) = place.turn() else { return Ok(None) };
        match entry.state {
            State::Ended | State::GivenUp => {
                let ended_at = arrival.saturating_sub(1);
                self.table.end(place.item.id, place.item.arrival, ended_at).await?;
                Ok(Some(ended_at))
            }
            State::Passed if !is_called_again(&entry) => Ok(self.gives_up(place, now).await?.then_some(now)),
            State::Called | State::Admitted | State::Leaving | State::Holding | State::Sold | State::Passed => Ok(None),
        }
    }

    /// The customer's own record and its line, which may be a second old. `Err` inside: he has joined this line, and is not in
    /// the table yet.
    async fn find(&self, id: &str, user_id: &str) -> Result<(PlaceId, Result<(Arc<Line>, Item), Arc<Line>>), Error> {
        let id: PlaceId = id.parse().map_err(|_| Error::UnknownPlace)?;
        let Some(item) = self.table.item(id).await? else {
            return Ok((id, Err(self.joined(id, user_id).await?)));
        };
        if item.user_id != user_id {
            return Err(Error::Foreign);
        }
        // A show's earlier line had places of other names, and what is kept may be that one.
        let line = match self.known_line(&item.show_id).await? {
            Some(line) if self.id(&line.scope, user_id)? == id => line,
            Some(_) | None => self.read_line(&item.show_id).await?.ok_or(Error::UnknownPlace)?,
        };
        if self.id(&line.scope, user_id)? != id {
            return Err(Error::UnknownPlace);
        }
        Ok((id, Ok((line, item))))
    }

    /// The line in which this name would be the customer's. Nobody can have made it up. What is kept may be older than the
    /// line, so that it is looked for anew before there is none; now and then, because anybody can make a name up.
    async fn joined(&self, id: PlaceId, user_id: &str) -> Result<Arc<Line>, Error> {
        let is_his = |line: &Arc<Line>| self.keys.id(&line.scope, user_id) == Some(id);
        for show_id in self.open_shows().await?.iter() {
            if let Some(line) = self.known_line(show_id).await?.filter(is_his) {
                return Ok(line);
            }
        }
        if self.looked.get(ALL).is_none() {
            self.looked.keep(ALL, ());
            for show_id in self.read_open_shows().await?.iter() {
                if let Some(line) = self.read_line(show_id).await?.filter(is_his) {
                    return Ok(line);
                }
            }
        }
        Err(Error::UnknownPlace)
    }

    /// The line as it is at this moment.
    async fn as_it_is(&self, kept: &Line) -> Result<Arc<Line>, Error> {
        let line = self.read_line(&kept.scope.show_id).await?.filter(|line| line.scope == kept.scope);
        line.ok_or(Error::UnknownPlace)
    }

    async fn place(&self, line: Arc<Line>, item: Item) -> Result<Place, Error> {
        let position = self.table.position(&line, item.id, item.arrival).await?;
        let spot = match position {
            Some(position) if position <= line.serving => {
                Some(Spot { position, entry: self.table.entry(&line.scope, position).await? })
            }
            Some(position) => Some(Spot { position, entry: None }),
            None => None,
        };
        Ok(Place { line, item, spot })
    }

    fn id(&self, scope: &Scope, user_id: &str) -> Result<PlaceId, Error> {
        let missing = || format!("the secret has no key {}, by which this line names its places", scope.key_version);
        self.keys.id(scope, user_id).ok_or_else(|| unavailable(missing()))
    }

    async fn known_line(&self, show_id: &str) -> Result<Option<Arc<Line>>, Error> {
        match self.lines.get(show_id) {
            Some(line) => Ok(line),
            None => self.read_line(show_id).await,
        }
    }

    async fn read_line(&self, show_id: &str) -> Result<Option<Arc<Line>>, Error> {
        let line = self.table.line(show_id).await?.map(Arc::new);
        self.lines.keep(show_id, line.clone());
        if let Some(line) = &line {
            self.wake(line).await;
        }
        Ok(line)
    }

    async fn open_shows(&self) -> Result<Arc<Vec<String>>, Error> {
        match self.open.get(ALL) {
            Some(shows) => Ok(shows),
            None => self.read_open_shows().await,
        }
    }

    async fn read_open_shows(&self) -> Result<Arc<Vec<String>>, Error> {
        let shows = Arc::new(self.table.open_shows().await?);
        self.open.keep(ALL, Arc::clone(&shows));
        Ok(shows)
    }

    /// Sets off a tick where the last one is too long ago: the clock may be late, or the line be new.
    async fn wake(&self, line: &Line) {
        let now = now();
        let is_worked = line.is_open_for_joining(now) || line.inside > 0;
        let is_late = line.last_tick + ms(LATE_TICK) < now;
        let show_id = &line.scope.show_id;
        if !is_worked || !is_late || self.ticked.get(show_id).is_some() {
            return;
        }
        self.ticked.keep(show_id, ());
        if let Err(error) = self.send(&self.ticks, TickMessage { show_id: show_id.clone() }.body()).await {
            warn!(event_id = show_id, error = %error, "a line whose last tick is late got none");
        }
    }

    async fn send(&self, queue: &Queue, body: String) -> Result<(), Error> {
        let sent = queue.send_all(&[Delayed { body, delay: Duration::ZERO }]).await;
        sent.into_iter().collect::<Result<Vec<()>, _>>().map(drop).map_err(|error| unavailable(error.to_string()))
    }

    /// Notes that somebody was heard of, if that was not noted lately. He is told of his place all the same.
    async fn hear(&self, item: &Item, now: Moment) {
        let often = HEARTBEAT.min(self.terms.silence / 3);
        if item.ended_at.is_some() || now.saturating_sub(item.seen) < ms(often) {
            return;
        }
        if let Err(error) = self.table.see(item.id, item.arrival, now).await {
            warn!(place_id = %item.id, error = %error, "it is not noted that somebody was heard of");
        }
    }

    fn note(&self, place: &Place, position: u64, from: Entry, to: Entry) {
        let turn = Turn { id: place.item.id, position, call: to.call };
        notice::audit(&place.line, &turn, Some(&from), &to, self.name);
    }

    fn count(&self, result: Processed) {
        let mut recorder = Recorder::default();
        recorder.count(&PROCESSED, &[result.name()], 1);
        self.metrics.write(&recorder);
    }

    /// What a customer is told of a place that stays as it was read.
    fn shown(&self, place: &Place, now: Moment) -> Result<Shown, Error> {
        let Place { line, item, .. } = place;
        let position = place.spot.map(|spot| spot.position);
        let bare = |status, detail, ask_after| Shown {
            id: item.id,
            status,
            detail,
            position,
            waiting: line.waiting(),
            outlook: None,
            ask_after,
            seats: None,
            admitted: None,
            reservation_id: None,
        };
        let over = |detail| Ok(bare(PlaceStatus::Expired, detail, Duration::ZERO));
        let Some((spot, entry)) = place.turn() else {
            return match position {
                _ if item.ended_at.is_some() => over(Detail::Cancelled),
                None => Ok(joining(item.id, line, now)),
                Some(position) => {
                    let outlook = Outlook::behind(line, position.saturating_sub(line.serving + 1), now);
                    let (status, detail) = match outlook.stage {
                        Stage::Closed => (PlaceStatus::Expired, Detail::Closed),
                        Stage::SoldOut => (PlaceStatus::Waiting, Detail::SoldOut),
                        Stage::Paused => (PlaceStatus::Waiting, Detail::Paused),
                        Stage::Announced | Stage::Open | Stage::AllTaken => (PlaceStatus::Waiting, Detail::Waiting),
                    };
                    Ok(Shown { outlook: Some(outlook), ..bare(status, detail, spread(outlook.ask_after)) })
                }
            };
        };
        let reservation_id = Turn { id: item.id, position: spot.position, call: entry.call }.reservation_id();
        let in_turn = |detail| Shown {
            reservation_id: Some(reservation_id.clone()),
            ..bare(PlaceStatus::Processing, detail, IN_TURN)
        };
        match entry.state {
            State::Called | State::Passed if item.ended_at.is_some() => over(Detail::Cancelled),
            State::Called | State::Passed if !line.is_open_for_joining(now) => {
                let outlook = Outlook::behind(line, 0, now);
                Ok(Shown { outlook: Some(outlook), ..bare(PlaceStatus::Expired, Detail::Closed, outlook.ask_after) })
            }
            State::Called => Ok(Shown { seats: Some(entry.seats), ..in_turn(Detail::Called) }),
            State::Admitted => {
                let admitted = self.admitted(item, spot.position, &entry, now)?;
                Ok(Shown { seats: Some(entry.seats), admitted, ..in_turn(Detail::Admitted) })
            }
            State::Leaving => Ok(in_turn(Detail::Leaving)),
            State::Holding => Ok(in_turn(Detail::Holding)),
            State::Sold => {
                let sold = bare(PlaceStatus::Completed, Detail::Sold, Duration::ZERO);
                Ok(Shown { seats: Some(entry.seats), reservation_id: Some(reservation_id), ..sold })
            }
            State::Ended => over(Detail::Ended),
            State::Passed if is_called_again(&entry) => {
                let outlook = Outlook::behind(line, 0, now);
                // Nobody is called any more when all is sold, those who come back no more than the others.
                let detail = if outlook.stage == Stage::SoldOut { Detail::SoldOut } else { Detail::Passed };
                let waits = bare(PlaceStatus::Waiting, detail, spread(outlook.ask_after));
                Ok(Shown { outlook: Some(outlook), ..waits })
            }
            State::Passed => over(Detail::Passed),
            // A tick finds somebody silent and ends his record in the same moment.
            State::GivenUp if entry.call == 0 && item.ended_at.is_none_or(|ended_at| ended_at >= entry.deadline) => {
                over(Detail::Silent)
            }
            State::GivenUp => over(Detail::Cancelled),
        }
    }

    /// The right that an admitted place gives. Nothing: its time is over.
    fn admitted(&self, item: &Item, position: u64, entry: &Entry, now: Moment) -> Result<Option<Admitted>, Error> {
        if entry.deadline <= now {
            return Ok(None);
        }
        let admission = Admission {
            user_id: item.user_id.clone(),
            show_id: item.show_id.clone(),
            queue_item_id: item.id.to_string(),
            position,
            call: entry.call.into(),
            most_tickets: entry.seats.into(),
            // So that a repeat has the same token.
            issued_at: entry.deadline.saturating_sub(ms(self.terms.booking_window)),
            expires_at: entry.deadline,
        };
        let token = self.admissions.mint(&admission).map_err(|error| unavailable(error.to_string()))?;
        Ok(Some(Admitted { token, until: entry.deadline }))
    }
}

impl Place {
    /// What it is, where its turn has come.
    fn turn(&self) -> Option<(Spot, Entry)> {
        self.spot.and_then(|spot| Some((spot, spot.entry?)))
    }

    /// The same place, which has become this.
    fn with(&self, to: Entry) -> Self {
        let spot = self.spot.map(|spot| Spot { entry: Some(to), ..spot });
        Self { line: Arc::clone(&self.line), item: self.item.clone(), spot }
    }

    /// Its customer, as his line knows him.
    fn pending(&self) -> Pending {
        Pending { arrival: self.item.arrival, id: self.item.id, seats: self.item.seats }
    }
}

impl Shown {
    /// For people: what the place is, and what may be done.
    pub fn text(&self) -> String {
        let text = match self.detail {
            Detail::Joining => "you have joined the line, and get your place in a moment",
            Detail::Undrawn => "you take part in the draw of the places, which is held when the sale begins",
            Detail::Waiting | Detail::Paused | Detail::SoldOut | Detail::Closed => {
                return self.outlook.map(|outlook| outlook.text()).unwrap_or_default();
            }
            Detail::Called => "it is your turn: ask for your place",
            Detail::Admitted if self.admitted.is_some() => "it is your turn: make your reservation before it is over",
            Detail::Admitted => "your time is over; whether you have made a reservation is being found out",
            Detail::Holding => "you have a reservation: pay for it before its time is over",
            Detail::Passed if self.status == PlaceStatus::Waiting => {
                "it was your turn and you did not answer; you are called again before those behind you"
            }
            Detail::Passed => "it was your turn three times and you did not answer; join the line again",
            Detail::Leaving => "you gave your turn up; whether you have made a reservation before is being found out",
            Detail::Sold => "you have your tickets",
            Detail::Ended => "your turn is over, and you have no tickets; join the line again",
            Detail::Cancelled => "you left the line; join it again to get a place at its end",
            Detail::Silent => "it was your turn and nobody had heard of you for long; join the line again",
        };
        text.to_owned()
    }
}

/// Somebody who has no position yet.
fn joining(id: PlaceId, line: &Line, now: Moment) -> Shown {
    let (detail, outlook, ask_after) = if line.has_order() {
        (Detail::Joining, Some(Outlook::at_the_end(line, now)), spread(until_placed(line, now)))
    } else {
        (Detail::Undrawn, None, until_drawn(line, now, fastrand::f64()))
    };
    Shown {
        id,
        status: PlaceStatus::Waiting,
        detail,
        position: None,
        waiting: line.waiting(),
        outlook,
        ask_after,
        seats: None,
        admitted: None,
        reservation_id: None,
    }
}

/// Whether somebody who did not answer is called again when he comes back.
fn is_called_again(entry: &Entry) -> bool {
    entry.state == State::Passed && entry.passed <= RECALLS
}

/// Up to three tenths more, so that not all ask at once who were told at once.
fn spread(time: Duration) -> Duration {
    time.mul_f64(1.0 + 0.3 * fastrand::f64())
}

fn unavailable(cause: String) -> Error {
    Error::Unavailable { cause, after: SOON }
}

fn now() -> Moment {
    epoch_ms(SystemTime::now())
}
