//! The few things that the threads of load and the one that directs them share.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Where a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Connections are made.
    Open,
    /// Load, not measured.
    Warm,
    /// Load, measured.
    Measure,
    /// No new operations; outstanding answers are waited for.
    Drain,
}

const PHASES: [Phase; 4] = [Phase::Open, Phase::Warm, Phase::Measure, Phase::Drain];

/// What the threads and the one that directs them share: a phase, and counters for the progress line.
pub(super) struct Shared {
    phase: AtomicU8,
    counters: Box<[Counters]>,
}

/// Running totals of one thread, on cache lines of their own.
#[repr(align(128))]
#[derive(Default)]
pub(super) struct Counters {
    /// Final results, in any phase.
    pub(super) answered: AtomicU64,
    /// Of them, those that did not fulfil their operation or were faulty.
    pub(super) failed: AtomicU64,
    /// Connections lost or not made.
    pub(super) lost: AtomicU64,
    /// Connections ready now.
    pub(super) ready: AtomicU64,
}

impl Shared {
    /// For so many threads, in phase Open.
    pub(super) fn new(threads: u32) -> Self {
        Shared {
            phase: AtomicU8::new(0),
            counters: (0..threads).map(|_| Counters::default()).collect(),
        }
    }

    /// The present phase.
    pub(super) fn phase(&self) -> Phase {
        PHASES
            .get(usize::from(self.phase.load(Ordering::Acquire)))
            .copied()
            .unwrap_or(Phase::Drain)
    }

    /// Moves on; the threads have to be woken to see it at once.
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The counters of all threads.
    pub(super) fn counters(&self) -> &[Counters] {
        &self.counters
    }
}

/// What a thread tells the one that directs it.
pub(super) enum Event {
    /// All its connections are ready.
    Ready,
    /// A connection could not be made ready in phase Open, and why.
    Failed(String),
    /// It has measured as many operations as it was asked to.
    QuotaReached,
    /// The user wants it to end (not sent by a thread of load).
    Interrupted,
}
