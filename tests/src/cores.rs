//! Which of the machine's cores a thread runs on. A thread and a process inherit it from the thread that starts them, so a
//! process is bound by starting it from a thread that is. Only Linux is asked; elsewhere everything runs where it likes.

use std::{
    hint, io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

/// Keeps a core from going to sleep until it is dropped, by work of the lowest priority, which gives way to whatever else
/// wants the core. A virtual machine takes long to wake one.
#[derive(Debug)]
pub struct Awake {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Awake {
    /// For this core.
    ///
    /// # Errors
    /// When the core is not there, or the system binds nothing to a core.
    pub fn keep(core: usize) -> io::Result<Self> {
        let over = Arc::new(AtomicBool::new(false));
        let seen = over.clone();
        let before = allowed();
        bind(&[core])?; // For the thread to inherit: one that is not bound must not start.
        let thread = thread::Builder::new().spawn(move || {
            // Where it can't, it takes the core from others now and then, which a measurement shows.
            drop(give_way());
            while !seen.load(Ordering::Relaxed) {
                hint::spin_loop();
            }
        });
        bind(&before)?;
        Ok(Self { over, thread: Some(thread?) })
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// The cores that this thread may run on; none where the system does not tell.
#[cfg(target_os = "linux")]
pub fn allowed() -> Vec<usize> {
    use rustix::thread::{CpuSet, sched_getaffinity};

    let Ok(set) = sched_getaffinity(None) else {
        return Vec::new();
    };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Lets this thread, and whatever it starts from now on, run on these cores only.
///
/// # Errors
/// When none of them is there.
#[cfg(target_os = "linux")]
pub fn bind(cores: &[usize]) -> io::Result<()> {
    use rustix::thread::{CpuSet, sched_setaffinity};

    let mut set = CpuSet::new();
    cores.iter().filter(|core| **core < CpuSet::MAX_CPU).for_each(|core| set.set(*core));
    Ok(sched_setaffinity(None, &set)?)
}

/// Gives this thread the lowest priority.
#[cfg(target_os = "linux")]
fn give_way() -> io::Result<()> {
    // Linux counts a thread as a process here.
    Ok(rustix::process::setpriority_process(None, 19)?)
}

/// Gives this thread the lowest priority, which this system can't be asked for.
#[cfg(not(target_os = "linux"))]
fn give_way() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The cores that this thread may run on, which this system does not tell.
#[cfg(not(target_os = "linux"))]
pub fn allowed() -> Vec<usize> {
    Vec::new()
}

/// Lets this thread run on these cores only, which this system can't be asked for.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn bind(_cores: &[usize]) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_bound_thread_hands_its_core_on() {
        let all = allowed();
        let one = *all.last().unwrap();
        let inherited = thread::spawn(move || {
            bind(&[one]).unwrap();
            thread::spawn(allowed).join().unwrap()
        });
        assert_eq!(inherited.join().unwrap(), [one]);
        assert_eq!(allowed(), all, "the thread that started it is as it was");
    }

    #[test]
    fn a_core_is_kept_awake_until_nobody_wants_it_any_more() {
        let all = allowed();
        let awake = Awake::keep(all[0]).unwrap();
        assert_eq!(allowed(), all, "the thread that asked for it is as it was");
        drop(awake); // Which waits for the thread's end.
        Awake::keep(usize::MAX).unwrap_err();
    }

    #[test]
    fn a_core_that_is_not_there_is_refused() {
        bind(&[]).unwrap_err();
        bind(&[usize::MAX]).unwrap_err();
    }
}
