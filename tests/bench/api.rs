//! What the reservation API costs, one request at a time and in a closed loop through the local HTTP API, beside the same
//! create as one writes it in Node, against the same services on the same machine.

mod peer;
mod side_by_side;
mod site;

use std::time::Duration;

use local_stack::process::Process;
use tokio::time::sleep;

use self::{peer::Peer, site::Site};
pub(crate) use self::{
    side_by_side::{Step, measure as side_by_side},
    site::{API, Asked, Latencies, MEMORY_MB, Who},
};
use crate::{
    cold::{PAUSE, Starts, UNCOUNTED},
    cost::cpu_time,
    figure::Figure,
    stop::Stop,
    workplace::Workplace,
};

/// The first requests fill pools and caches, and let Node compile what it runs often.
const FIRST: usize = 50;

/// Requests that make one measurement of processor time, and creates in the life of a process whose peak is told; in a quick
/// run fewer.
const WINDOW: usize = 500;
const QUICK_WINDOW: usize = 50;

/// One request at a time.
pub(crate) struct Api {
    pub(crate) ways: Vec<Way>,
    /// Starts of the no-op, beside which those of the ways stand.
    pub(crate) no_op: Starts,
    /// Why the peer is not among the ways.
    pub(crate) left_out: Option<String>,
}

/// One way to serve the API.
pub(crate) struct Way {
    pub(crate) who: Who,
    /// What it was asked, with what that took.
    pub(crate) requests: Vec<Requests>,
    /// The peaks of its processes after some hundred creates, in MiB.
    pub(crate) memory: Figure,
    pub(crate) starts: Starts,
}

/// Requests of one kind.
pub(crate) struct Requests {
    pub(crate) asked: Asked,
    /// In milliseconds, with services that take their time.
    pub(crate) waiting: Figure,
    /// In milliseconds, with services that answer at once.
    pub(crate) busy: Figure,
    /// The processor time of a thousand, in milliseconds, with services that answer at once.
    pub(crate) processor: Figure,
}

/// Measures ours, and the peer where it is installed.
pub(crate) async fn measure(workplace: &Workplace) -> Result<Api, Stop> {
    let (peers, left_out) = match Peer::find() {
        Ok(peer) => (vec![Who::Peer(peer.bundle()?)], None),
        Err(why) => (Vec::new(), Some(why)),
    };
    let mut ways = Vec::new();
    for who in [Who::Ours].into_iter().chain(peers) {
        let requests = requests(workplace, &who).await?;
        let memory = peaks(workplace, &who).await?;
        let [_, starts] = starts(workplace, &who).await?;
        ways.push(Way { who, requests, memory, starts });
    }
    let [no_op, _] = starts(workplace, &Who::Ours).await?;
    Ok(Api { ways, no_op, left_out })
}

/// The latency and the processor time of every kind of request that this one serves.
async fn requests(workplace: &Workplace, who: &Who) -> Result<Vec<Requests>, Stop> {
    let mut site = Site::set(workplace, who, 1).await?;
    let (window, first) = (workplace.runs(WINDOW, QUICK_WINDOW), workplace.runs(FIRST, 5));
    let mut measured = Vec::new();
    for asked in who.serves() {
        let [mut waiting, mut busy, mut windows] = <[Vec<Duration>; 3]>::default();
        for _ in 0..first + workplace.runs(500, 20) {
            site.delay(Latencies::NEARBY);
            waiting.push(site.ask(*asked).await?.duration);
            site.delay(Latencies::NONE);
            busy.push(site.ask(*asked).await?.duration);
        }
        for _ in 0..workplace.runs(12, 3) {
            // What a request needs is there before it is counted.
            site.prepare(*asked, window).await?;
            let before = cpu_time(site.process())?;
            for _ in 0..window {
                site.ask(*asked).await?;
            }
            windows.push(cpu_time(site.process())?.saturating_sub(before));
        }
        let counted = |times: Vec<Duration>| Figure::millis(times.into_iter().skip(first));
        let of_thousand = |time: Duration| time.as_secs_f64() * 1_000.0 * 1_000.0 / window as f64;
        measured.push(Requests {
            asked: *asked,
            waiting: counted(waiting),
            busy: counted(busy),
            processor: Figure::of(windows.into_iter().map(of_thousand)),
        });
    }
    site.close().await?;
    Ok(measured)
}

/// The most that each of several processes held.
async fn peaks(workplace: &Workplace, who: &Who) -> Result<Figure, Stop> {
    let mut site = Site::set(workplace, who, 1).await?;
    let mut peaks = Vec::new();
    for _ in 0..workplace.runs(7, 2) {
        site.recycle();
        for _ in 0..workplace.runs(WINDOW, QUICK_WINDOW) {
            site.ask(Asked::Create).await?;
        }
        let peak = site.process().and_then(|process| Process(process).peak_kib());
        peaks.push(peak.ok_or(Stop::unable("this system does not tell what a process holds"))? as f64 / 1_024.0);
    }
    site.close().await?;
    Ok(Figure::of(peaks))
}

/// Starts of the no-op, and of this one up to its first create, in turn.
async fn starts(workplace: &Workplace, who: &Who) -> Result<[Starts; 2], Stop> {
    let mut site = Site::set(workplace, who, 1).await?;
    let mut starts = [Vec::new(), Vec::new()];
    for _ in 0..UNCOUNTED + workplace.runs(50, 10) {
        site.recycle();
        sleep(PAUSE).await;
        let nothing = site.ask_no_op().await?;
        let create = site.ask(Asked::Create).await?;
        for (invocation, starts) in [nothing, create].into_iter().zip(&mut starts) {
            let init = invocation.init.ok_or(Stop::unable("a process was not started anew"))?;
            starts.push((init, init + invocation.duration));
        }
    }
    site.close().await?;
    Ok(starts.map(|starts| Starts::of(&starts)))
}
