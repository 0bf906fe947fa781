//! The threading API of seed 004, separate from everything else: a worker is created, enqueued to, signalled and killed.
//!
//! A worker is one thread with its own event loop ([`crate::drive`]), its own sessions, pools and connections. Others reach
//! it only through its inbox: a bounded queue, and one eventfd that is written only while the worker sleeps.

mod inbox;

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use engine::core::Drain;
use mio::{Poll, Token};

use crate::drive::{Drive, Job};
pub use inbox::{Full, Inbox};

/// The token of the inbox in a worker's poll.
pub const INBOX: Token = Token(usize::MAX);

/// What can be said to a worker about all that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Drain at this level.
    Drain(Drain),
}

/// How a worker is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kill {
    /// After the turn it is in.
    Now,
    /// When its last client has gone; drain it first.
    Graceful,
}

/// A running worker.
#[derive(Debug)]
pub struct Worker {
    inbox: Arc<Inbox>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts a thread. `build` makes what it runs, on the new thread, from its poll and its own inbox.
    pub fn create<F>(number: usize, queue_max: usize, build: F) -> io::Result<Worker>
    where
        F: FnOnce(Poll, Arc<Inbox>) -> Drive + Send + 'static,
    {
        let poll = Poll::new()?;
        let waker = mio::Waker::new(poll.registry(), INBOX)?;
        let inbox = Arc::new(Inbox::new(waker, queue_max));
        let own = Arc::clone(&inbox);
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || build(poll, own).run())?;
        Ok(Worker {
            inbox,
            thread: Some(thread),
        })
    }

    /// Gives the worker something to do; refused when its queue is full.
    pub fn enqueue(&self, job: Job) -> Result<(), Full> {
        self.inbox.push(job)
    }

    /// Says something to everything the worker has; never refused.
    pub fn signal(&self, signal: Signal) {
        match signal {
            Signal::Drain(level) => self.inbox.push_always(Job::Drain(level)),
        }
    }

    /// Ends the worker and waits for its thread.
    pub fn kill(&mut self, how: Kill) {
        self.inbox.push_always(Job::Exit(how));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    /// The way in, for others that hand it work.
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }
}
