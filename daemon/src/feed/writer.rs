//! The writer: the one thread of a feed that has its store, and so decides what is kept and what goes out.
//!
//! It takes letters from the mailbox: messages of the session go through the consumer into one transaction, which is
//! committed when nothing more waits, or when enough has come together; then the shards get what is new. Acknowledgements
//! are written with the next transaction, or after a short while.
//!
//! An error of the store ends the session, and is tried again with growing waits: what was committed is there, and the next
//! session begins where the kept cookie says. Nothing is ever wiped because of an error.

mod audit;
mod commands;
mod lead;
pub(super) mod session;
mod work;

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::core::backoff::Backoff;
use engine::core::rng::Rng;
use engine::core::time::Span;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;

use super::lead::Told;
use super::mailbox::{Letter, Mailbox};
use super::status::Status;
use super::store::{Batch, File, Lock, StoreError};
use crate::config::plan;
use crate::worker::Inbox;
pub(super) use work::refusal;
use work::{Ends, Work};

/// What a shard is given.
#[derive(Debug)]
pub struct Handover {
    /// Events, in order.
    pub batch: Batch,
    /// The cookie that was kept with the last of them, or later.
    pub cookie: Arc<[u8]>,
}

/// What a writer is made of.
pub struct Parts {
    /// The feed's settings.
    pub plan: Arc<plan::Feed>,
    /// As whom the directory is asked: part of what decides the content.
    pub identity: String,
    /// The feed's number.
    pub number: u32,
    /// Its letters.
    pub mailbox: Arc<Mailbox>,
    /// The worker that has its session.
    pub worker: Arc<Inbox>,
    /// Its shards.
    pub shards: Vec<UnboundedSender<Handover>>,
    /// How it stands.
    pub status: Arc<Status>,
    /// Where several daemons share it: how far the writer is.
    pub told: Option<watch::Sender<Told>>,
    /// Its folder.
    pub lock: Lock,
}

/// What outlives an error of the store.
pub(super) struct Lasting {
    /// Shards that wait, and behind which number.
    pub(super) wants: Vec<Option<u64>>,
    /// The number of the last session.
    pub(super) session: u64,
    pub(super) backoff: Backoff,
    pub(super) rng: Rng,
    /// Before this no session begins.
    pub(super) not_before: Option<Instant>,
    /// The stream's end at the last take-over.
    pub(super) taken_at: u64,
    /// When the content was compared anew last, and after how long.
    pub(super) compared: Option<(Instant, Duration)>,
}

/// Between two whole comparisons: the first comes at once, of a row of them each waits twice as long as the one before it,
/// up to this; and after so long without one the next comes at once again.
const COMPARE_MAX: Duration = Duration::from_secs(5);
const COMPARE_MIN: Duration = Duration::from_millis(100);
const COMPARE_CALM: Duration = Duration::from_secs(30);

impl Lasting {
    /// The content is to be compared as a whole; how long to wait before. While containers are made and filled in numbers
    /// the directory would else do nothing but send everything.
    pub(super) fn compared_anew(&mut self, now: Instant) -> Duration {
        let wait = match self.compared {
            Some((last, wait)) if now.duration_since(last) < COMPARE_CALM => (wait * 2).clamp(COMPARE_MIN, COMPARE_MAX),
            _ => Duration::ZERO,
        };
        self.compared = Some((now, wait));
        wait
    }

    fn wait(&mut self) -> Duration {
        Duration::from_micros(self.backoff.next(&mut self.rng).as_micros())
    }
}

/// A configured duration in the engine's measure.
fn span(duration: Duration) -> Span {
    Span::from_micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

impl Parts {
    /// Runs until it is told to stop. `first` is the file, opened to see that it can be.
    pub fn run(self, first: File) {
        let mut lasting = Lasting {
            wants: vec![None; self.shards.len()],
            session: 0,
            backoff: Backoff::new(span(self.plan.retry_min), span(self.plan.retry_max)),
            rng: Rng::new(u64::from(std::process::id()) ^ u64::from(self.number) << 32),
            not_before: None,
            taken_at: 0,
            compared: None,
        };
        let mut file = Some(first);
        loop {
            let opened = match file.take() {
                Some(file) => Ok(file),
                None => self.lock.open(self.plan.partitions),
            };
            let failed = match opened.and_then(|file| self.work(&file, &mut lasting)) {
                Ok(()) => break,
                Err(error) => error,
            };
            if self.rest(&failed, &mut lasting) {
                break;
            }
        }
        self.mailbox.close();
    }

    fn work(&self, file: &File, lasting: &mut Lasting) -> Result<(), StoreError> {
        let mut work = Work::new(self, file, lasting)?;
        let ended = work.run();
        match &ended {
            Ok(Ends::Stopped) => {}
            Err(_) => work.fail(),
        }
        ended.map(|_| ())
    }

    /// After an error of the store: waits, and reads nothing meanwhile. Whether the feed is to stop.
    fn rest(&self, error: &StoreError, lasting: &mut Lasting) -> bool {
        let wait = if error.may_pass() {
            lasting.wait()
        } else {
            self.plan.retry_max
        };
        tracing::error!(feed = self.plan.name, %error, again_ms = wait.as_millis(), "the feed's state cannot be written");
        {
            let mut status = self.status.lock();
            status.phase = "failed".to_owned();
            status.last_error = format!("the state: {error}");
            status.store_failures += 1;
        }
        let until = Instant::now() + wait;
        loop {
            match self.mailbox.next(Some(until), self.number, &self.worker) {
                None => return false,
                Some(Letter::Stop) => return true,
                Some(Letter::Wanted { shard, after }) => {
                    if let Some(want) = lasting.wants.get_mut(usize::from(shard)) {
                        *want = Some(after);
                    }
                }
                Some(Letter::Command(command)) => {
                    let _ = command
                        .answer
                        .send(Err(format!("the feed's state cannot be used: {error}")));
                }
                // A shard that asks for more says again how far it is. A dead letter is refused once more.
                Some(Letter::Acknowledged { .. } | Letter::Known { .. } | Letter::Dead { .. }) => {}
                Some(Letter::Messages { bytes, .. }) => self.mailbox.give(bytes),
                // What is said of the stream is read once more by the next to work, who says from where.
                Some(Letter::Ended { .. } | Letter::Drain | Letter::Lead(_)) => {}
                // Who compares sees that nobody answers.
                Some(Letter::Look(_)) => {}
            }
        }
    }
}
