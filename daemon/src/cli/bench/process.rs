//! What a process under measurement has used, as the kernel tells it (proc(5)).
//!
//! CPU time is that of the whole process, threads that have ended included, in clock ticks (10 ms): a measured window
//! below a second is too short for it. Memory is the resident set now, and its peak.

use std::fs;
use std::time::Duration;

/// Counters of one process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// User and system time since the process began.
    pub(super) cpu: Duration,
    /// Context switches of all its present threads: those it asked for by waiting…
    pub(super) switches_voluntary: u64,
    /// … and those it was made to take.
    pub(super) switches_involuntary: u64,
    /// Resident memory, in KiB.
    pub(super) rss_kib: u64,
}

/// Reads the counters of a process.
///
/// # Errors
/// A sentence that names the process, when there is none of that number or its files cannot be read.
pub(super) fn usage(pid: u32) -> Result<Usage, String> {
    let stat = read(pid, "stat")?;
    let ticks = cpu_ticks(&stat).ok_or_else(|| format!("/proc/{pid}/stat is not as proc(5) describes it"))?;
    let mut usage = Usage {
        cpu: ticks_to_time(ticks),
        ..Usage::default()
    };
    let status = read(pid, "status")?;
    usage.rss_kib = field(&status, "VmRSS:").unwrap_or(0);
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Ok(usage);
    };
    for task in tasks.flatten() {
        // A thread may end between the listing and the reading: it then counts no more.
        let Ok(status) = fs::read_to_string(task.path().join("status")) else {
            continue;
        };
        usage.switches_voluntary += field(&status, "\nvoluntary_ctxt_switches:").unwrap_or(0);
        usage.switches_involuntary += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(usage)
}

fn read(pid: u32, file: &str) -> Result<String, String> {
    fs::read_to_string(format!("/proc/{pid}/{file}"))
        .map_err(|error| format!("--pid {pid}: cannot read /proc/{pid}/{file}: {error}"))
}

/// utime + stime, fields 14 and 15. The name in field 2 may hold blanks and parentheses, so the count starts behind
/// its last closing one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

fn ticks_to_time(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(per_second);
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// The number behind `name` in a file of `Name:  number unit` lines.
fn field(status: &str, name: &str) -> Option<u64> {
    let (_, rest) = status.split_once(name)?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let stat = "42 (odd) name (x)) S 1 42 42 0 -1 4194304 10 0 0 0 250 150 9 9 20 0 3 0 100 200 300";
        assert_eq!(cpu_ticks(stat), Some(400));
        assert_eq!(cpu_ticks("42 (cut) S 1 42"), None);
    }

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tx\nVmRSS:\t  1234 kB\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t9\n";
        assert_eq!(field(status, "VmRSS:"), Some(1234));
        assert_eq!(field(status, "\nvoluntary_ctxt_switches:"), Some(7));
        assert_eq!(field(status, "nonvoluntary_ctxt_switches:"), Some(9));
        assert_eq!(field(status, "VmSwap:"), None);
    }

    #[test]
    fn this_process_has_memory_and_a_missing_one_is_named() {
        assert!(usage(std::process::id()).unwrap().rss_kib > 0);
        let message = usage(u32::MAX).unwrap_err();
        assert!(
            message.starts_with("--pid 4294967295: cannot read /proc/4294967295/stat"),
            "{message}"
        );
    }
}
