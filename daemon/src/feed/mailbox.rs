//! What reaches a feed's writer: messages of its session, words of its shards, commands.
//!
//! One queue with a bound in bytes. The worker is never made to wait: it puts in what it has read, is told that this was
//! enough, and stops reading that connection; when the writer has taken half of it, the worker is told to read on. What is
//! not bytes of the session is never refused, and is bounded by whoever sends it (one word for each batch, one command at a
//! time for each control connection).
//!
//! What a shard wants and what its sink has overtakes messages of the session, and nothing else: else a batch would come
//! to its sink only once for each four megabytes of a refresh.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::command::Command;
use super::lead::Lead;
use super::verify::Look;
use crate::drive::Job;
use crate::worker::Inbox;

/// Bytes that wait for the writer, beyond which its connection is not read. One more read may come on top.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Empty buffers kept for the worker's next reads, and the size from which one is not kept.
const SPARES_MAX: usize = 8;
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// What the writer is told.
#[derive(Debug)]
pub enum Letter {
    /// Whole messages of a session, one behind the other.
    Messages {
        /// Which session.
        session: u64,
        /// The messages.
        bytes: Vec<u8>,
    },
    /// A session has ended, or could not begin. Everything that came of it is before this.
    Ended {
        /// Which session.
        session: u64,
        /// For a person.
        why: String,
    },
    /// A shard takes events behind this number.
    Wanted {
        /// Which shard.
        shard: u16,
        /// The last number it has.
        after: u64,
    },
    /// A sink has everything of a shard up to this number.
    Acknowledged {
        /// Which shard.
        shard: u16,
        /// The number.
        upto: u64,
        /// The position in the stream at which it is, where there is a stream.
        position: u64,
    },
    /// A sink that was just connected knows this number as the shard's last. Where the state was made anew, that may be
    /// higher than any that was given.
    Known {
        /// Which shard.
        shard: u16,
        /// The number.
        last: u64,
    },
    /// A sink refused one event for good.
    Dead {
        /// Which shard.
        shard: u16,
        /// Its number.
        seq: u64,
        /// What the sink said.
        why: String,
    },
    /// Who delivers a feed that several daemons share.
    Lead(Lead),
    /// What an operator says.
    Command(Command),
    /// A comparison wants to look at what is kept.
    Look(Look),
    /// The feed is about to end: the session is closed, what was taken is kept, and nothing more is handed to shards.
    Drain,
    /// The feed ends: what was acknowledged meanwhile is kept.
    Stop,
}

#[derive(Debug, Default)]
struct Waiting {
    letters: VecDeque<Letter>,
    bytes: usize,
    /// The session whose connection is not read.
    choked: Option<u64>,
    spares: Vec<Vec<u8>>,
    closed: bool,
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Mailbox {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

impl Mailbox {
    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts in what was read; whether more may be read.
    pub fn put(&self, session: u64, bytes: Vec<u8>) -> bool {
        let mut waiting = self.lock();
        if waiting.closed {
            return true;
        }
        waiting.bytes += bytes.len();
        waiting.letters.push_back(Letter::Messages { session, bytes });
        let enough = waiting.bytes >= WAITING_BYTES_MAX;
        if enough {
            waiting.choked = Some(session);
        }
        drop(waiting);
        self.news.notify_one();
        !enough
    }

    /// Says something.
    pub fn say(&self, letter: Letter) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        if matches!(letter, Letter::Wanted { .. } | Letter::Acknowledged { .. }) {
            let messages = waiting.letters.iter().rev();
            let messages = messages.take_while(|letter| matches!(letter, Letter::Messages { .. }));
            let place = waiting.letters.len() - messages.count();
            waiting.letters.insert(place, letter);
        } else {
            waiting.letters.push_back(letter);
        }
        drop(waiting);
        self.news.notify_one();
    }

    /// An empty buffer for the next read.
    pub fn spare(&self) -> Vec<u8> {
        self.lock().spares.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub fn give(&self, mut bytes: Vec<u8>) {
        if bytes.capacity() <= SPARE_BYTES_MAX {
            bytes.clear();
            let mut waiting = self.lock();
            if waiting.spares.len() < SPARES_MAX {
                waiting.spares.push(bytes);
            }
        }
    }

    /// The next letter; waits for one until the moment, or as long as it takes.
    pub fn next(&self, until: Option<Instant>, feed: u32, worker: &Arc<Inbox>) -> Option<Letter> {
        let mut waiting = self.lock();
        loop {
            if let Some(letter) = waiting.letters.pop_front() {
                if let Letter::Messages { bytes, .. } = &letter {
                    waiting.bytes = waiting.bytes.saturating_sub(bytes.len());
                    if waiting.bytes <= WAITING_BYTES_MAX / 2
                        && let Some(session) = waiting.choked.take()
                    {
                        worker.push_always(Job::FeedOn { feed, session });
                    }
                }
                return Some(letter);
            }
            waiting = match until {
                None => self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(until) => {
                    let wait = until.saturating_duration_since(Instant::now());
                    if wait.is_zero() {
                        return None;
                    }
                    // A wait of less than a moment is a busy loop with a system call in it.
                    let wait = wait.max(Duration::from_micros(50));
                    let (waiting, _) = self
                        .news
                        .wait_timeout(waiting, wait)
                        .unwrap_or_else(PoisonError::into_inner);
                    waiting
                }
            };
        }
    }

    /// Whether anything waits.
    pub fn is_empty(&self) -> bool {
        self.lock().letters.is_empty()
    }

    /// The writer has gone: what is said from now on goes nowhere.
    pub fn close(&self) {
        let mut waiting = self.lock();
        waiting.closed = true;
        waiting.letters.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shards_word_overtakes_messages_and_nothing_else() {
        let mailbox = Mailbox::default();
        mailbox.put(1, vec![1]);
        mailbox.say(Letter::Known { shard: 0, last: 2 });
        mailbox.put(1, vec![3]);
        mailbox.put(1, vec![4]);
        let (upto, position) = (5, 0);
        let shard = 0;
        mailbox.say(Letter::Acknowledged { shard, upto, position });
        mailbox.say(Letter::Wanted { shard, after: 6 });
        mailbox.say(Letter::Ended {
            session: 7,
            why: String::new(),
        });
        mailbox.say(Letter::Wanted { shard, after: 8 });
        let order = mailbox.lock().letters.iter().map(number).collect::<Vec<_>>();
        assert_eq!(order, [1, 2, 5, 6, 3, 4, 7, 8]);
    }

    fn number(letter: &Letter) -> u64 {
        match letter {
            Letter::Messages { bytes, .. } => bytes.iter().copied().map(u64::from).sum(),
            Letter::Known { last, .. } => *last,
            Letter::Acknowledged { upto, .. } => *upto,
            Letter::Wanted { after, .. } => *after,
            Letter::Ended { session, .. } => *session,
            other => panic!("{other:?}"),
        }
    }
}
