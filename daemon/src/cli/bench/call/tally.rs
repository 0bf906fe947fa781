//! What one connection has counted, to be added to what the others have.

use std::collections::BTreeMap;

use super::super::histogram::Histogram;

/// Counts. Latencies and errors are those of calls sent (or due) in the measured window; faults are counted always.
pub(super) struct Tally {
    /// From when a call was sent (or due) to its last byte.
    pub(super) latency: Histogram,
    /// Answers to calls sent before the measured window.
    pub(super) answered_before: u64,
    /// The sum of the latencies, in nanoseconds.
    pub(super) latency_sum_ns: u128,
    /// Calls that ended with an error, by its name.
    pub(super) errors: BTreeMap<&'static str, u64>,
    /// Answers that were not what was expected.
    pub(super) wrong: u64,
    /// Answers to no open call.
    pub(super) unasked: u64,
    /// Calls without an answer at the end.
    pub(super) lost: u64,
    /// Calls that were due and could not be sent, too many being pending.
    pub(super) not_sent: u64,
    /// Calls sent in the measured window.
    pub(super) sent: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            latency: Histogram::new(),
            answered_before: 0,
            latency_sum_ns: 0,
            errors: BTreeMap::new(),
            wrong: 0,
            unasked: 0,
            lost: 0,
            not_sent: 0,
            sent: 0,
        }
    }

    /// Counts an answer of the window.
    pub(super) fn answered(&mut self, latency_ns: u64) {
        self.latency.record(latency_ns);
        self.latency_sum_ns += u128::from(latency_ns);
    }

    /// Adds what another connection has counted.
    pub(super) fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency);
        self.latency_sum_ns += other.latency_sum_ns;
        self.answered_before += other.answered_before;
        for (name, count) in &other.errors {
            *self.errors.entry(name).or_default() += count;
        }
        self.wrong += other.wrong;
        self.unasked += other.unasked;
        self.lost += other.lost;
        self.not_sent += other.not_sent;
        self.sent += other.sent;
    }

    /// Whether every call was answered, once and rightly, and there was one.
    pub(super) fn is_faultless(&self) -> bool {
        self.latency.len() > 0 && self.wrong + self.unasked + self.lost == 0 && self.errors.is_empty()
    }
}
