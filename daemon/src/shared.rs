//! The little that all threads share: the clock's start, what is limited for the whole daemon, and the way to D-Bus.

use std::sync::atomic::{AtomicUsize, Ordering};

use engine::core::time::Instant;

use crate::dbus::Door;

/// Tells the engine's time: microseconds since the daemon began.
#[derive(Debug)]
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
    /// Bytes that wait for slow clients, all workers together.
    pub waiting_bytes: AtomicUsize,
    /// Their bound.
    pub waiting_bytes_max: AtomicUsize,
    /// Where workers leave what is for D-Bus.
    pub door: Door,
}

impl Shared {
    /// For so many workers.
    pub fn new(workers: usize, waiting_bytes_max: usize) -> Self {
        Shared {
            clock: Clock::start(),
            clients: (0..workers).map(|_| AtomicUsize::new(0)).collect(),
            waiting_bytes: AtomicUsize::new(0),
            waiting_bytes_max: AtomicUsize::new(waiting_bytes_max),
            door: Door::new(),
        }
    }

    /// All clients.
    pub fn clients_total(&self) -> usize {
        self.clients.iter().map(|clients| clients.load(Ordering::Relaxed)).sum()
    }

    /// A worker's client has gone.
    pub fn client_gone(&self, worker: usize) {
        if let Some(clients) = self.clients.get(worker) {
            clients.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
