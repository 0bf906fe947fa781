//! A worker's bounded queue, and the wake-up that is sent only to one that sleeps.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::drive::Job;

/// The queue is full; the job is dropped.
#[derive(Debug)]
pub struct Full;

/// See the module.
#[derive(Debug)]
pub struct Inbox {
    queue: Mutex<VecDeque<Job>>,
    queue_max: usize,
    asleep: AtomicBool,
    waker: mio::Waker,
}

impl Inbox {
    pub fn new(waker: mio::Waker, queue_max: usize) -> Self {
        Inbox {
            queue: Mutex::default(),
            queue_max,
            asleep: AtomicBool::new(false),
            waker,
        }
    }

    /// Adds a job; wakes the worker if it sleeps.
    pub fn push(&self, job: Job) -> Result<(), Full> {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.len() >= self.queue_max {
                return Err(Full);
            }
            queue.push_back(job);
        }
        self.wake();
        Ok(())
    }

    /// Adds a job whatever the queue holds: for the few that steer the worker itself.
    pub fn push_always(&self, job: Job) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(job);
        self.wake();
    }

    /// Everything that waits.
    pub fn take(&self, into: &mut VecDeque<Job>) {
        std::mem::swap(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    /// The worker is about to sleep. False: do not, something has come.
    pub fn sleep(&self) -> bool {
        self.asleep.store(true, Ordering::SeqCst);
        let empty = self.queue.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if !empty {
            self.asleep.store(false, Ordering::SeqCst);
        }
        empty
    }

    /// The worker is awake.
    pub fn awake(&self) {
        self.asleep.store(false, Ordering::SeqCst);
    }

    fn wake(&self) {
        if self.asleep.swap(false, Ordering::SeqCst) {
            let _ = self.waker.wake();
        }
    }
}
