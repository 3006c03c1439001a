//! Which of the machine's cores a thread runs on. A thread and a process inherit it from the thread that starts them, so a
//! process is bound by starting it from a thread that is. Only Linux is asked; elsewhere everything runs where it likes.

use std::io;

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
    fn a_core_that_is_not_there_is_refused() {
        bind(&[]).unwrap_err();
        bind(&[usize::MAX]).unwrap_err();
    }
}
