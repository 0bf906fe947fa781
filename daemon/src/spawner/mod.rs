//! Starts programs and helpers, on a thread of its own: starting one takes about 0.6 ms, for which no client should wait.
//!
//! Nothing about a program goes through a shell: it is the configured list of words, with the configured environment and
//! nothing else of ours. Of our descriptors it has those alone that are made for it (close-on-exec); what the daemon itself
//! was started with and did not open is inherited by its programs too. `std` starts it by posix_spawn, which copies nothing
//! of the daemon's memory; no signal is ignored or held back in it (`signals`); what posix_spawn cannot do, the trampoline does
//! (`crate::trampoline`).
//!
//! Whoever gets a [`Program`] or a [`Helper`] owns the process: dropped before it was reaped, it is killed.

mod command;
mod helper;
mod memory;
mod process;
mod program;
mod signals;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use crate::config::plan::Service;
use crate::drive::Job;
use crate::drive::exec::{RunRef, Spawned};
use crate::drive::helper::{HelperRef, Started};
use crate::worker::Inbox;
pub use helper::{Helper, MESSAGE_BYTES_MAX, Said, Sent};
pub use program::Program;
pub use signals::heed as heed_signals;

/// Programs that wait to be started; as many as a service can have at once, and more.
const ASKED_MAX: usize = 16_384;

/// For whom something is started.
#[derive(Clone, Copy, Debug)]
pub enum For {
    /// One request.
    Run(RunRef),
    /// A service.
    Helper(HelperRef),
}

struct Ask {
    whom: For,
    service: Arc<Service>,
}

/// The way to the thread; it ends when the last of these is dropped.
#[derive(Debug)]
pub struct Spawner {
    asked: SyncSender<Ask>,
}

impl Spawner {
    /// Starts the thread; what it has started is told to `inbox`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(inbox: Arc<Inbox>) -> io::Result<Spawner> {
        let (asked, asks) = sync_channel(ASKED_MAX);
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || serve(&asks, &inbox))?;
        Ok(Spawner { asked })
    }

    /// Asks for a program or a helper; the answer comes as [`Job::Spawned`] or [`Job::Started`].
    ///
    /// # Errors
    /// In words: too many are asked for already, or the thread is gone.
    pub fn ask(&self, whom: For, service: Arc<Service>) -> Result<(), &'static str> {
        self.asked.try_send(Ask { whom, service }).map_err(|error| match error {
            TrySendError::Full(_) => "too many programs are being started",
            TrySendError::Disconnected(_) => "the thread that starts programs is gone",
        })
    }
}

fn serve(asks: &Receiver<Ask>, inbox: &Inbox) {
    while let Ok(Ask { whom, service }) = asks.recv() {
        let words = |error: io::Error| error.to_string();
        // Bounded by what was asked for, and the worker waits for each.
        inbox.push_always(match whom {
            For::Run(run) => Job::Spawned(Spawned {
                run,
                program: Program::start(&service).map(Box::new).map_err(words),
            }),
            For::Helper(helper) => Job::Started(Started {
                helper,
                process: Helper::start(&service).map(Box::new).map_err(words),
            }),
        });
    }
}
