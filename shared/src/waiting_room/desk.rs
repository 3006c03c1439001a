//! What one tick of one line does. It gives places to who joined, calls whose turn it is, and takes back turns that ran out.
//!
//! ```text
//!  1 sequence   blocks -> run of places               one transaction, under the line's version
//!  2 plan       pages, who came back, the next        pure
//!  3 carry out  line + pages                          one transaction, under the line's version
//!  4 tell       place.called, place.passed, line.sold_out
//!  5 settle     overdue places -> what their reservations are
//! ```
//!
//! It may be cut off anywhere, and two may run at once: what is written says what is left to do, and the next tick does it. So
//! a tick that fails is counted and not repeated.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use futures_util::{StreamExt, stream};
use serde_json::json;
use tokio::time::timeout;
use tracing::{info, info_span, warn};

use super::{
    Moment,
    draw::Draw,
    line::Line,
    measured::{DURATION, ERRORS, FREE_TICKETS, INSIDE, LATE_JOINS, PROCESSED, Processed, QUEUE_LENGTH, TICK_AGE},
    message::{Kind, TickMessage},
    ms, notice,
    place::{Entry, Found, PATIENCE, State, Turn},
    plan::{Person, Plan, candidates, first_page, plan},
    sequence::{Pending, came_before, sequence, to_draw, worst_lag},
    settling::{Place, Settled, Settling},
    table::{Item, TableError, Written},
};
use crate::{
    client::queue::{Delayed, Queue},
    config::ConfigError,
    deadline::{Deadline, epoch_ms, moment},
    failure::Failure,
    name::{Named, names},
    start::{Parts, probe},
    telemetry::{
        metrics::{Metrics, Recorder},
        trace::TraceContext,
    },
    trigger::{Decoded, Done, Message, Processor},
};

/// A tick that takes longer is given up.
const LONGEST: Duration = Duration::from_secs(20);

/// The longest that one tick asks for reservations, so that people are called each second whatever the reservation API does.
const ASKING: Duration = Duration::from_secs(5);

/// Reservations asked for at a time.
const ASKED_AT_ONCE: usize = 10;

/// How often a plan is made anew in one tick, because somebody has changed one of its places meanwhile.
const TRIES: u32 = 3;

/// The `source` of an expiry's timer, as the relay of the reservations has it.
const TIMER_SOURCE: &str = "reservation-api";

names! {
    /// How ticks end.
    pub enum Outcome {
        /// The line is worked.
        Success = "success",
        /// Another tick is at it, or an operator has opened or set it meanwhile.
        Superseded = "superseded",
        /// Nothing happens to the line any more, and it has no further ticks.
        Closed = "closed",
        /// It was not worked to its end; the next tick does the rest.
        Failed = "failed",
    }
}

/// Works lines, tick by tick.
#[derive(Debug)]
pub struct Desk {
    settling: Settling,
    /// Where an expiry goes whose timer was lost.
    expiries: Option<Queue>,
    metrics: Metrics,
}

/// A line whose people have their places.
struct Seated {
    line: Line,
    /// Whether the line's draw is still to be written, with the turns.
    is_draw_new: bool,
}

/// What a plan was made of, and what it came to.
struct Turns {
    plan: Plan,
    people: BTreeMap<u64, (Pending, Option<Item>)>,
}

impl Desk {
    /// What works lines by these parts; `expiries` is the queue that ends reservations, if lost timers are to be sent anew.
    pub fn new(settling: Settling, expiries: Option<Queue>, metrics: Metrics) -> Self {
        Self { settling, expiries, metrics }
    }

    /// As the environment says, and `EXPIRY_QUEUE_URL`, which may be absent. What is wrong is noted.
    pub fn configured(parts: &mut Parts<'_>) -> Option<Self> {
        let settling = Settling::configured(parts);
        let metrics = parts.metrics.clone();
        let expiries = Queue::if_configured(parts, "EXPIRY_QUEUE_URL");
        Some(Self { settling: settling?, expiries, metrics })
    }

    /// Works a line once.
    ///
    /// # Errors
    /// When a part of it could not be done, or it is not known whether it was. The next tick does it.
    pub async fn tick(&self, show_id: &str, now: Moment, recorder: &mut Recorder) -> Result<Outcome, TableError> {
        let table = &self.settling.table;
        let Some(line) = table.line(show_id).await? else { return self.close(show_id, None).await };
        if line.last_tick > 0 {
            recorder.duration(&TICK_AGE, &[], Duration::from_millis(now.saturating_sub(line.last_tick)));
        }
        let Some(seated) = self.seat(line, now, recorder).await? else { return Ok(Outcome::Superseded) };
        let Some((line, turns)) = self.call(seated, now).await? else { return Ok(Outcome::Superseded) };
        measure(&turns.plan, recorder);
        let standing = self.tell(&line, &turns, now, recorder).await?;
        for position in &turns.plan.answered {
            table.forget(&line.scope, *position).await?;
        }
        self.take_back(&turns.plan.line, &turns.plan.overdue, &standing, now, recorder).await;
        if turns.plan.is_over { self.close(show_id, Some(&turns.plan.line)).await } else { Ok(Outcome::Success) }
    }

    /// The clock does not tick for a show that is off the list, so that one whose line was opened or set meanwhile stays on it.
    async fn close(&self, show_id: &str, read: Option<&Line>) -> Result<Outcome, TableError> {
        Ok(match self.settling.table.close(show_id, read).await? {
            Written::Made => Outcome::Closed,
            Written::Overtaken => Outcome::Superseded,
        })
    }

    /// Gives places to who may have one now. The answer is the line after that; nothing, where another tick is at it.
    async fn seat(&self, mut line: Line, now: Moment, recorder: &mut Recorder) -> Result<Option<Seated>, TableError> {
        let table = &self.settling.table;
        let blocks = table.blocks(&line).await?;
        line.note_lag(worst_lag(&blocks), now);
        let (opens_at, was_drawn) = (line.settings.opens_at, line.draw.is_some());
        let waiting = blocks.iter().map(|block| came_before(opens_at, &block.people)).sum();
        let Some((after, run)) = sequence(&line, blocks, now) else {
            let size = to_draw(&line, waiting, None, now);
            let line = drawn(line, size);
            let is_draw_new = line.draw.is_some() && !was_drawn;
            return Ok(Some(Seated { line, is_draw_new }));
        };
        let size = to_draw(&after, waiting, Some(&run), now);
        let after = drawn(after, size);
        match table.append(&after, &run).await? {
            Written::Overtaken => return Ok(None),
            Written::Made => recorder.count(&LATE_JOINS, &[], run.late.len() as u64),
        }
        if !was_drawn {
            tell_of_draw(&after);
        }
        if let Err(error) = table.clear(&after, &run.taken).await {
            warn!(event_id = after.scope.show_id, error = %error, "blocks that have their places are still there");
        }
        Ok(Some(Seated { line: after, is_draw_new: false }))
    }

    /// Calls whose turn it is. The answer is the line that the plan was made on, and the plan, which is written; nothing, where
    /// another tick is at it.
    async fn call(&self, seated: Seated, now: Moment) -> Result<Option<(Line, Turns)>, TableError> {
        let table = &self.settling.table;
        let Seated { mut line, is_draw_new } = seated;
        for _ in 0..TRIES {
            let turns = self.plan(&line, now).await?;
            match table.carry_out(&line, &turns.plan).await? {
                Written::Made => {
                    if is_draw_new {
                        tell_of_draw(&line);
                    }
                    return Ok(Some((line, turns)));
                }
                Written::Overtaken => {}
            }
            // Somebody has claimed or given up a place that the plan moves, or another tick has done it all.
            let Some(found) = table.line(&line.scope.show_id).await? else { return Ok(None) };
            if (&found.scope, found.version) != (&line.scope, line.version) {
                return Ok(None);
            }
            line = Line { lags: line.lags, draw: line.draw, ..found };
        }
        Ok(None)
    }

    async fn plan(&self, line: &Line, now: Moment) -> Result<Turns, TableError> {
        let (table, terms) = (&self.settling.table, &self.settling.terms);
        let returned = table.returned(&line.scope).await?;
        let back: BTreeSet<u64> = returned.keys().copied().collect();
        let pages = table.pages(line, first_page(line, &back)).await?;
        let (again, next) = candidates(line, &pages, &back, now, terms);
        let mut standing = table.standing(line, &next.collect()).await?;
        standing.extend(again.into_iter().filter_map(|position| Some((position, *returned.get(&position)?))));
        let mut items = table.items(&standing).await?;
        let people: BTreeMap<u64, (Pending, Option<Item>)> =
            standing.into_iter().map(|(position, pending)| (position, (pending, items.remove(&position)))).collect();
        let known = |(position, (pending, item)): (&u64, &(Pending, Option<Item>))| {
            (*position, Person::of(pending, item.as_ref()))
        };
        let plan = plan(line, &pages, &back, &people.iter().map(known).collect(), now, terms);
        Ok(Turns { plan, people })
    }

    /// Tells what was written. Where it can't be read who was passed, nothing is told of him, but of all others; where only his
    /// record can't be, he is told of without a user_id. The answer is who stands at the places that are overdue.
    async fn tell(
        &self,
        line: &Line,
        turns: &Turns,
        now: Moment,
        recorder: &mut Recorder,
    ) -> Result<BTreeMap<u64, Pending>, TableError> {
        let Settling { name, table, bus, .. } = &self.settling;
        let Turns { plan, people } = turns;
        let moved: BTreeSet<u64> = plan.moves.iter().map(|made| made.position).collect();
        let unknown = moved.iter().filter(|position| !people.contains_key(position));
        let unknown: BTreeSet<u64> =
            unknown.chain(plan.overdue.iter().map(|(position, _)| position)).copied().collect();
        let read = table.standing(line, &unknown).await;
        let nobody = BTreeMap::new();
        let standing = read.as_ref().unwrap_or(&nobody);
        let passed = standing.iter().filter(|(position, _)| moved.contains(position));
        let items = table.items(&passed.map(|(position, pending)| (*position, *pending)).collect()).await;
        let items = items.unwrap_or_else(|error| {
            recorder.count(&ERRORS, &[], 1);
            warn!(event_id = line.scope.show_id, error = %error, "who was passed can't be read, so that it is told without a user_id");
            BTreeMap::new()
        });

        let mut events = Vec::new();
        for made in &plan.moves {
            let known = people.get(&made.position).map(|(pending, item)| (*pending, item.as_ref()));
            let found = || Some((*standing.get(&made.position)?, items.get(&made.position)));
            let Some((pending, item)) = known.or_else(found) else { continue };
            let turn = Turn { id: pending.id, position: made.position, call: made.to.call };
            notice::audit(line, &turn, made.from.as_ref(), &made.to, name);
            // Who left while he waited was counted then; of who joined again since, the record is another.
            let has_left = item.is_none_or(|item| item.ended_at.is_some());
            if !(made.to.state == State::GivenUp && has_left) {
                recorder.count(&PROCESSED, &[result(&made.to).name()], 1);
            }
            let user_id = item.map(|item| item.user_id.as_str());
            if made.to.state != State::GivenUp {
                events.extend(notice::of_place(&plan.line, &turn, user_id, &made.to));
            } else if !has_left && let Err(error) = table.end(pending.id, pending.arrival, now).await {
                warn!(place_id = %pending.id, error = %error, "it is not noted that somebody is not called any more");
            }
        }
        events.extend(plan.sold_out.then(|| notice::of_line(&plan.line)));
        let failed = notice::publish(bus, &events).await;
        recorder.count(&ERRORS, &[], failed);
        read
    }

    /// Asks what became of the reservations of places that are overdue, and lets the places follow.
    async fn take_back(
        &self,
        line: &Line,
        overdue: &[(u64, Entry)],
        standing: &BTreeMap<u64, Pending>,
        now: Moment,
        recorder: &mut Recorder,
    ) {
        let mut asked = Vec::new();
        for (position, entry) in overdue {
            if let Some(person) = standing.get(position) {
                asked.push(self.settle(Place { line, position: *position, person, entry: *entry }, now));
            }
        }
        let mut asking = stream::iter(asked).buffer_unordered(ASKED_AT_ONCE);
        let answers = async {
            while let Some(counts) = asking.next().await {
                recorder.add(counts);
            }
        };
        if timeout(ASKING, answers).await.is_err() {
            recorder.count(&ERRORS, &[], 1);
            warn!(
                event_id = line.scope.show_id,
                "not all turns that ran out could be taken back; the next tick goes on"
            );
        }
    }

    /// Lets one place follow. The answer is what was counted.
    async fn settle(&self, place: Place<'_>, now: Moment) -> Recorder {
        let mut counts = Recorder::default();
        let settled = self.settling.settle(place, now, &TraceContext::default(), &mut counts).await;
        let open_until = match settled {
            Ok(Settled::Became { found, .. } | Settled::Stays(found)) => match found {
                Found::Pending { until } | Found::Held { until, .. } => Some(until),
                Found::Absent | Found::Sold { .. } | Found::Ended { .. } | Found::Entombed => None,
            },
            Ok(Settled::Overtaken) => None,
            Err(failure) => {
                counts.count(&ERRORS, &[], 1);
                let place_id = place.person.id;
                warn!(%place_id, error = failure.message(), "a turn that ran out is not taken back yet");
                None
            }
        };
        if let Some(until) = open_until.filter(|until| until + ms(PATIENCE) <= now)
            && let Err(failure) = self.rearm(&place, until).await
        {
            counts.count(&ERRORS, &[], 1);
            warn!(
                place_id = %place.person.id,
                reservation_id = place.turn().reservation_id(),
                error = failure.message(),
                "a reservation is open after its time, and its expiry could not be sent; the next tick tries again"
            );
        }
        counts
    }

    /// Sends the expiry of a reservation that is open though its time is over: its timer was lost, or lies in a dead-letter
    /// queue.
    async fn rearm(&self, place: &Place<'_>, until: Moment) -> Result<(), Failure> {
        let Some(expiries) = &self.expiries else { return Ok(()) };
        let reservation_id = place.turn().reservation_id();
        let body = json!({
            "version": "0",
            "id": format!("{reservation_id}#{until}"),
            "detail-type": "reservation.expired",
            "source": TIMER_SOURCE,
            "time": moment(until),
            "detail": {
                "reservation_id": reservation_id,
                "event_id": place.line.scope.show_id,
                "expires_at": moment(until),
            },
        });
        let sent = expiries.send_all(&[Delayed { body: body.to_string(), delay: Duration::ZERO }]).await;
        if let Some(error) = sent.into_iter().find_map(Result::err) {
            return Err(Failure::transient(format!("send the timer: {error}")));
        }
        warn!(reservation_id, "a reservation was open after its time; its expiry is sent again");
        Ok(())
    }
}

/// The line with its draw, if it is to be made now among so many places. Where the system has no random numbers, the next tick
/// makes it.
fn drawn(line: Line, size: Option<u64>) -> Line {
    match size.map(Draw::among) {
        None => line,
        Some(Ok(draw)) => Line { draw: Some(draw), ..line },
        Some(Err(error)) => {
            warn!(event_id = line.scope.show_id, error = %error, "the places are not drawn yet");
            line
        }
    }
}

/// Says by which draw places have their turns, now that it is written.
fn tell_of_draw(line: &Line) {
    if let Some(draw) = &line.draw {
        info!(event_id = line.scope.show_id, seed = draw.seed, places = draw.size, "the places are drawn");
    }
}

fn result(to: &Entry) -> Processed {
    match to.state {
        State::Called => Processed::Called,
        State::Passed => Processed::Passed,
        State::Admitted | State::Leaving | State::Holding | State::Sold | State::Ended | State::GivenUp => {
            Processed::GivenUp
        }
    }
}

fn measure(plan: &Plan, recorder: &mut Recorder) {
    recorder.gauge(&QUEUE_LENGTH, &[], u32::try_from(plan.line.waiting()).unwrap_or(u32::MAX));
    recorder.gauge(&INSIDE, &[], plan.line.inside);
    recorder.gauge(&FREE_TICKETS, &[], plan.line.free());
}

impl<R: Message> Processor<R> for Desk {
    /// A body that is no tick is counted and acknowledged as a tick that failed.
    type Item = Result<TickMessage, Failure>;
    type Outcome = Outcome;

    fn name(&self) -> &'static str {
        Kind::Ticked.name()
    }

    fn budget(&self) -> Duration {
        LONGEST
    }

    async fn probe(&self) -> Result<(), ConfigError> {
        let Settling { name, table, reservations, .. } = &self.settling;
        probe::service(name, "RESERVATION_API_BASE", reservations.base(), reservations.probe()).await;
        probe::table(name, "WAITING_ROOM_TABLE", table.probe()).await
    }

    fn decode(&self, record: &R) -> Result<Decoded<Self::Item>, Failure> {
        let item = TickMessage::parse(record.body());
        let show_id = item.as_ref().map(|tick| tick.show_id.clone()).unwrap_or_default();
        let span = info_span!("tick", event_id = show_id);
        Ok(Decoded { item, key: show_id, span, producer: record.producer(&[], &[]) })
    }

    /// It fails never: the next tick does what this one has not done.
    async fn process(
        &self,
        item: Self::Item,
        _trace: &TraceContext,
        _deadline: Deadline,
    ) -> Result<Done<Outcome>, Failure> {
        let mut recorder = Recorder::default();
        let started = Instant::now();
        let failed = match item {
            Ok(TickMessage { show_id }) => {
                let work = self.tick(&show_id, epoch_ms(SystemTime::now()), &mut recorder);
                match timeout(LONGEST, work).await {
                    Ok(Ok(outcome)) => Ok(outcome),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_elapsed) => Err(format!("it was not done after {} s", LONGEST.as_secs())),
                }
            }
            Err(failure) => Err(failure.message().to_owned()),
        };
        recorder.duration(&DURATION, &[], started.elapsed());
        let done = failed.map(Done::of).unwrap_or_else(|cause| {
            recorder.count(&ERRORS, &[], 1);
            warn!(error = cause, "a tick was not finished; the next one goes on from what is written");
            Done::noted(Outcome::Failed, cause)
        });
        self.metrics.write(&recorder);
        Ok(done)
    }
}
