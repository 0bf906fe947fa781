//! The little that all threads share: the clock's start, what is limited for the whole daemon, and the way to D-Bus.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use engine::core::time::{Instant, Span};

use crate::dbus::Door;
use crate::gssapi::Gss;
use crate::net::placing::Candidate;
use crate::passwords::Passwords;
use crate::traces::Lines;
use crate::worker::Inbox;

/// What a worker says of itself is true for so long: one at rest says nothing.
const REST_AFTER: Span = Span::from_millis(300);
/// A worker looks back over so long.
const LOOK_BACK: Span = Span::from_millis(100);

/// Tells the engine's time: microseconds since the daemon began.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// It begins now.
    pub fn start() -> Self {
        Clock(std::time::Instant::now())
    }

    /// The time.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant::from_micros(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// See the module.
#[derive(Debug)]
pub struct Shared {
    /// The clock.
    pub clock: Clock,
    /// Clients on each worker; the acceptor adds, the worker takes away.
    pub clients: Vec<AtomicUsize>,
    /// When each worker, in microseconds of the clock, last looked back and had had little rest.
    busy_at: Vec<AtomicU64>,
    /// Bytes that wait for slow clients, all workers together.
    pub waiting_bytes: AtomicUsize,
    /// Their bound.
    pub waiting_bytes_max: AtomicUsize,
    /// Clients that were closed because they read nothing while others needed the memory.
    pub stuck_closed: AtomicU64,
    /// Sockets for datagrams on all workers; whoever makes one adds, the worker that closes it takes away.
    sockets: AtomicUsize,
    /// The workers' inboxes, by number.
    inboxes: Arc<OnceLock<Vec<Arc<Inbox>>>>,
    /// Where passwords are compared that take their time.
    pub passwords: Passwords,
    /// Where Kerberos is asked.
    pub gss: Gss,
    /// What traces say.
    pub traces: Lines,
    /// Where workers leave what is for D-Bus.
    pub door: Door,
    /// The audit log.
    pub audit: crate::audit::Place,
    /// Lockout after failed binds.
    pub lockouts: crate::lockouts::Lockouts,
    /// With what clients come back to their TLS sessions.
    pub tickets: crate::net::tickets::Tickets,
    /// Where clients' requests about the daemon's figures are answered.
    pub monitor: crate::monitor::Monitor,
    /// Who the names stand for under which clients bind.
    pub names: crate::drive::names::AllNames,
    /// Limits of clients.
    pub limits: crate::limits::AllLimits,
}

impl Shared {
    /// For so many workers.
    pub fn new(workers: usize, waiting_bytes_max: usize) -> Self {
        let clock = Clock::start();
        let inboxes = Arc::default();
        Shared {
            clock,
            clients: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            busy_at: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            waiting_bytes: AtomicUsize::new(0),
            waiting_bytes_max: AtomicUsize::new(waiting_bytes_max),
            stuck_closed: AtomicU64::new(0),
            sockets: AtomicUsize::new(0),
            limits: crate::limits::AllLimits::new(Arc::clone(&inboxes), clock),
            inboxes,
            passwords: Passwords::new(workers),
            gss: Gss::new(crate::gssapi::Bounds::default()),
            traces: Lines::default(),
            door: Door::new(),
            audit: crate::audit::Place::default(),
            lockouts: crate::lockouts::Lockouts::default(),
            tickets: crate::net::tickets::Tickets::default(),
            monitor: crate::monitor::Monitor::default(),
            names: crate::drive::names::AllNames::default(),
        }
    }

    /// A worker, for the acceptor.
    pub fn candidate(&self, worker: usize, now: Instant) -> Candidate {
        let clients = self.clients.get(worker).map(|clients| clients.load(Ordering::Relaxed));
        let busy_at = self.busy_at.get(worker).map_or(0, |at| at.load(Ordering::Relaxed));
        Candidate {
            worker,
            clients: clients.unwrap_or(usize::MAX),
            busy: busy_at > 0 && now.since(Instant::from_micros(busy_at)) < REST_AFTER,
        }
    }

    /// All clients.
    pub fn clients_total(&self) -> usize {
        self.clients.iter().map(|clients| clients.load(Ordering::Relaxed)).sum()
    }

    /// Sockets for datagrams are about to be given to workers.
    pub fn sockets_come(&self, count: usize) {
        self.sockets.fetch_add(count, Ordering::Relaxed);
    }

    /// One was closed.
    pub fn socket_gone(&self) {
        self.sockets.fetch_sub(1, Ordering::Relaxed);
    }

    /// Sockets for datagrams that are open.
    pub fn sockets(&self) -> usize {
        self.sockets.load(Ordering::Relaxed)
    }

    /// Tells the workers of each other; once.
    pub fn introduce(&self, inboxes: Vec<Arc<Inbox>>) {
        let _ = self.inboxes.set(inboxes);
    }

    /// Another worker's inbox.
    pub fn inbox(&self, worker: usize) -> Option<&Arc<Inbox>> {
        self.inboxes.get()?.get(worker)
    }

    /// A worker's client has gone.
    pub fn client_gone(&self, worker: usize) {
        if let Some(clients) = self.clients.get(worker) {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How much rest a worker has, for [`Shared::candidate`].
#[derive(Debug, Default)]
pub struct Rest {
    since: Instant,
    busy: Span,
}

impl Rest {
    /// The worker has been at work from `from` to `to`, and rests now.
    #[inline]
    pub fn worked(&mut self, from: Instant, to: Instant, worker: usize, shared: &Shared) {
        self.busy = self.busy + to.since(from);
        let passed = to.since(self.since);
        if passed < LOOK_BACK {
            return;
        }
        if self.busy.as_micros() * 2 > passed.as_micros()
            && let Some(at) = shared.busy_at.get(worker)
        {
            at.store(to.as_micros(), Ordering::Relaxed);
        }
        *self = Rest {
            since: to,
            busy: Span::ZERO,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_busy_after_little_rest_and_not_for_ever() {
        let (shared, mut rest) = (Shared::new(2, 0), Rest::default());
        let at = |millis: u64| Instant::from_micros(millis * 1000);
        for turn in 0..10 {
            rest.worked(at(1000 + turn * 10), at(1000 + turn * 10 + 3), 0, &shared);
        }
        rest.worked(at(1100), at(1103), 0, &shared);
        assert!(!shared.candidate(0, at(1104)).busy, "it rested two thirds of the time");
        for turn in 0..11 {
            rest.worked(at(1104 + turn * 10), at(1104 + turn * 10 + 9), 0, &shared);
        }
        assert!(shared.candidate(0, at(1220)).busy);
        assert!(!shared.candidate(1, at(1220)).busy, "the other has said nothing");
        assert!(!shared.candidate(0, at(1600)).busy, "it has not said it again");
    }
}
