//! Accounting: records are written before they are acknowledged, and no worker ever waits for it.
//!
//! ```text
//! workers ──push──→ queue ──batch──→ sink's thread: a file, or calls to a service ──→ told: done
//!                     │                    │ it failed, or takes long
//!                     └────────→ keeper's thread: the spool (SQLite) ──→ told: done
//!                                          └──in order, when the sink is back──→ sink's thread
//! ```
//!
//! Everything that waits is written at once. A record is told done after the sink has it, or after the spool has committed it;
//! it is told not done when neither has. While the spool has records, new ones go through it too, so that a session's
//! records stay in order. Records that were told done are delivered at least once, also across `kill -9`: a crash between a
//! sink's write and the spool's commit delivers some twice.
//!
//! Two threads: the sink's, which may be stuck in a disk or a service, and the keeper's, which has the spool and looks after
//! the sink. What they share is in [`state`]. Without a spool there is no keeper.

pub(crate) mod append;
mod detail;
mod file;
mod json;
mod keeper;
pub(crate) mod moment;
pub mod plan;
pub mod service;
mod sink;
mod spool;
mod state;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use wire::radius::Dictionary;

pub use json::FIELDS;
use keeper::Keeper;
use plan::Settings;
pub use service::{Call, calls};
use state::Shared;

/// Whose record it is. The writer only hands it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The worker.
    pub worker: u64,
    /// Its listener.
    pub listener: u64,
    /// The request there.
    pub request: u64,
}

/// A record that is to be written.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose it is.
    pub ticket: Ticket,
    /// The packet, an Accounting-Request.
    pub packet: Vec<u8>,
    /// The client's name.
    pub client: String,
    /// Where it came from.
    pub from: SocketAddr,
    /// Our address, where it is known.
    pub to: Option<IpAddr>,
    /// When it was received.
    pub received: SystemTime,
}

/// Too many records wait; this one was not taken and is not told.
#[derive(Debug)]
pub struct Full;

/// Whom the ends of records are told: whether each was written. Called on threads of the writer, of which it takes the time.
pub type Tell = Box<dyn Fn(Vec<(Ticket, bool)>) + Send>;

/// What a writer needs beside its settings.
pub struct Parts {
    /// By which attributes have names.
    pub dictionary: Arc<Dictionary>,
    /// How services are called.
    pub call: Call,
    /// Whom the ends are told.
    pub tell: Tell,
    /// Chance, for pauses.
    pub seed: u64,
}

/// Counts since the start, and what is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Records that the sink has taken when they came.
    pub written: u64,
    /// Records that went to the spool.
    pub spooled: u64,
    /// Records that the sink has taken from the spool.
    pub replayed: u64,
    /// Records that were told not done, or not taken because the queue was full.
    pub refused: u64,
    /// Records that the service will not have, set aside in the spool until the next start.
    pub set_aside: u64,
    /// Records that wait to be written.
    pub queue: usize,
    /// Records in the spool.
    pub spool_records: u64,
    /// Bytes of the spool.
    pub spool_bytes: u64,
    /// What went wrong with the sink last, while it is so.
    pub last_error: Option<String>,
    /// What went wrong with the spool last, while it is so.
    pub spool_error: Option<String>,
}

/// A record on its way.
#[derive(Clone, Debug)]
struct Item {
    /// Its place in the order of all.
    seq: u64,
    /// When it came.
    at: Instant,
    record: Record,
}

/// What a sink says of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It has it.
    Done,
    /// Not now.
    Later,
    /// Never.
    Refused,
}

/// Where workers leave records.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handle")
    }
}

impl Handle {
    /// Takes a record; its end is told, whatever it is.
    ///
    /// # Errors
    /// Too many wait, or the writer is stopping.
    pub fn push(&self, record: Record) -> Result<(), Full> {
        self.0.push(record)
    }
}

/// Records that wait in the spool of this folder, which nobody has at the moment; 0 where there is none.
pub fn left_in(folder: &Path) -> u64 {
    spool::left_in(folder)
}

/// A place for records, running. Dropped, it gives up what still waits.
pub struct Writer {
    shared: Arc<Shared>,
}

impl Writer {
    /// Opens the spool, and starts the threads. The sink is opened when there is something for it.
    ///
    /// # Errors
    /// The spool cannot be used, or a thread cannot be started.
    pub fn start(settings: Settings, parts: Parts) -> io::Result<Writer> {
        let keeper = settings
            .spool
            .as_ref()
            .map(|plan| Keeper::open(plan, parts.seed))
            .transpose()?;
        let shared = Arc::new(Shared::new(&settings, keeper.as_ref().map(Keeper::begun), parts.tell));
        let (mine, dictionary, call) = (Arc::clone(&shared), parts.dictionary, parts.call);
        let plan = settings.sink;
        std::thread::Builder::new()
            .name("accounting".into())
            .spawn(move || sink::run(&mine, plan, dictionary, &call))?;
        let writer = Writer { shared };
        if let Some(keeper) = keeper {
            let mine = Arc::clone(&writer.shared);
            std::thread::Builder::new()
                .name("spool".into())
                .spawn(move || keeper.run(&mine))?;
        }
        Ok(writer)
    }

    /// Where records are left.
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// Other settings, from the next write on. Records that wait are written by them; the spool keeps its folder until the
    /// next start, and is neither begun nor given up before.
    pub fn configure(&self, settings: Settings, dictionary: Arc<Dictionary>) {
        self.shared.configure(settings, dictionary);
    }

    /// Opens files again, for who has moved them away.
    pub fn reopen(&self) {
        self.shared.reopen();
    }

    /// What is counted.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }

    /// Takes nothing more, and waits until nothing waits any more but in the spool, for so long at most. Whether that is so;
    /// what still waits otherwise is told not done.
    pub fn stop(&self, within: Duration) -> bool {
        self.shared.stop(within)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // A thread that is stuck in a disk is not waited for.
        self.shared.stop(Duration::ZERO);
    }
}
