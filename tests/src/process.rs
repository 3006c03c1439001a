//! What Linux tells of a running process, and how it is made to stand still. Other systems tell nothing here, and a process
//! that is gone has nothing to tell.

use std::{fs, time::Duration};

/// `/proc` counts processor time in hundredths of a second, whatever the kernel's own clock does.
const TICK: Duration = Duration::from_millis(10);

/// A process by the system's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process(pub u32);

impl Process {
    /// This very process.
    pub fn own() -> Self {
        Self(std::process::id())
    }

    /// Stops it, as an environment is frozen, until [`Process::resume`]. Whether it stands still; where there are no signals
    /// it does not.
    pub fn freeze(self) -> bool {
        self.signal(Sign::Stop)
    }

    /// Lets it go on.
    pub fn resume(self) {
        self.signal(Sign::Continue);
    }

    /// Ends it at once; nothing in it can react.
    pub fn kill(self) {
        self.signal(Sign::Kill);
    }

    #[cfg(target_os = "linux")]
    fn signal(self, sign: Sign) -> bool {
        use rustix::process::{Pid, Signal, kill_process};
        let signal = match sign {
            Sign::Stop => Signal::STOP,
            Sign::Continue => Signal::CONT,
            Sign::Kill => Signal::KILL,
        };
        let pid = i32::try_from(self.0).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    }

    #[cfg(not(target_os = "linux"))]
    fn signal(self, _sign: Sign) -> bool {
        false
    }

    /// What it holds in memory, in KiB.
    pub fn resident_kib(self) -> Option<u64> {
        self.kib("VmRSS:")
    }

    /// The most that it ever held, in KiB.
    pub fn peak_kib(self) -> Option<u64> {
        self.kib("VmHWM:")
    }

    /// The processor time that its threads have used: to the nanosecond where the scheduler tells it, which leaves out the
    /// threads that have ended; else to the tick.
    pub fn cpu_time(self) -> Option<Duration> {
        self.scheduled().or_else(|| cpu_ticks(&self.read("stat")?).map(|ticks| TICK * ticks))
    }

    fn scheduled(self) -> Option<Duration> {
        let mut sum = Duration::ZERO;
        for thread in fs::read_dir(format!("/proc/{}/task", self.0)).ok()? {
            let text = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            sum += Duration::from_nanos(text.split(' ').next()?.parse().ok()?);
        }
        Some(sum)
    }

    fn kib(self, field: &str) -> Option<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    }

    fn read(self, file: &str) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.0)).ok()
    }
}

/// What a process is told.
#[derive(Clone, Copy)]
enum Sign {
    Stop,
    Continue,
    Kill,
}

/// User and system time of a line of `stat`. The name of the program stands before them and may hold anything.
fn cpu_ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut fields = after_name.split(' ').skip(11);
    let (user, system): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_knows_itself() {
        let own = Process::own();
        assert!(own.peak_kib().unwrap() >= own.resident_kib().unwrap());
        assert!(own.cpu_time().unwrap() > Duration::ZERO);
        assert_eq!(Process(u32::MAX).peak_kib(), None);
    }

    #[test]
    fn the_ticks_stand_behind_a_name_that_may_hold_anything() {
        let stat = "42 (a ) b) S 1 2 3 4 5 6 7 8 9 10 1200 34 0 0 20 0";
        assert_eq!(cpu_ticks(stat), Some(1_234));
        assert_eq!(cpu_ticks("42 (a"), None);
    }
}
