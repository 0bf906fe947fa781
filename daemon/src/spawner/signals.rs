//! Signals that were ignored or held back when the daemon was started, as below `nohup` or `usherd run &` in a script, are neither
//! in what it starts: else a program that does not catch SIGINT would not be interrupted at its deadline.
//!
//! What is ignored stays so over an exec, and posix_spawn, as `std` uses it, does not change that; what is *caught* gets its
//! default again. So the daemon catches what was ignored, and does nothing then: it goes on ignoring it, and its programs do not.
//! The mask is that of the thread that starts them.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};

use nix::sys::signal::SigSet;
use signal_hook::consts::{SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};

/// Those that say something to a program. SIGPIPE `std` resets itself; those of terminals mean something else when caught.
const SIGNALS: [i32; 8] = [SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// To be called by a thread before it starts a program.
pub fn heed() {
    static ONCE: Once = Once::new();
    // Where it cannot be, the program is started as it would be without; so below.
    let _ = SigSet::empty().thread_set_mask();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for signal in ignored(&status) {
            let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
        }
    });
}

/// Which of ours a process ignores, by its `/proc/PID/status`.
fn ignored(status: &str) -> impl Iterator<Item = i32> {
    let mask = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok())
        .unwrap_or_default();
    SIGNALS.into_iter().filter(move |signal| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ignored_is_read_from_the_status() {
        let of = |status| ignored(status).collect::<Vec<i32>>();
        assert_eq!(
            of("Name:\tx\nSigIgn:\t0000000000001007\nSigCgt:\tffffffffffffffff\n"),
            [SIGHUP, SIGINT, SIGQUIT]
        );
        assert!(of("SigIgn:\t0000000000000000\n").is_empty());
        assert!(of("").is_empty());
    }
}
