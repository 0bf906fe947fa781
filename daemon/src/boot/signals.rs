//! The two ways in which the main loop is told something: signals and commands.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, sync_channel};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR2};

use super::{CLEAN, Event};
use crate::admin::Command;
use crate::config::plan::UPGRADE_TIMEOUT_MAX;

/// How long a command waits for its reload.
const RELOAD_WAIT: Duration = Duration::from_secs(30);

pub(super) fn tell_main(to_main: &Sender<Event>, command: Command) -> Result<(), String> {
    let (answer, answered) = sync_channel(1);
    let wait = match command {
        Command::Upgrade(_) => RELOAD_WAIT + UPGRADE_TIMEOUT_MAX,
        _ => RELOAD_WAIT,
    };
    to_main
        .send(Event::Command(command, answer))
        .map_err(|_| "the daemon is ending".to_owned())?;
    answered
        .recv_timeout(wait)
        .unwrap_or_else(|_| Err("the daemon did not answer".to_owned()))
}

/// While it lives, SIGTERM and SIGINT end the process at once.
pub struct Early(Arc<AtomicBool>);

/// To be called before anything else. Without it a signal that comes while the configuration is being read is lost where its
/// default is to do nothing: for the first process of a container, and for one whose parent ignores it.
pub fn early() -> Early {
    let early = Early(Arc::new(AtomicBool::new(true)));
    for signal in [SIGTERM, SIGINT] {
        // Where it cannot be, it is as it would be without.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, CLEAN.into(), Arc::clone(&early.0));
    }
    early
}

impl Drop for Early {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// From here on no signal is lost: what comes before the main loop waits for it.
pub(super) fn watch_signals(to_main: Sender<Event>) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR2])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            if to_main.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}
