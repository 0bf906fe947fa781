//! What the load has counted.

use super::super::histogram::Histogram;

/// Counts. Latencies and `sent` are those of requests sent (or due) in the measured window; faults are counted always.
#[derive(Clone)]
pub(super) struct Tally {
    /// From when a request was sent (or due) to its answer.
    pub(super) latency: Histogram,
    /// The sum of the latencies, in nanoseconds.
    pub(super) latency_sum_ns: u128,
    /// Answers to requests sent before the measured window.
    pub(super) answered_before: u64,
    /// Requests sent in the measured window.
    pub(super) sent: u64,
    /// Requests without an answer within the timeout.
    pub(super) lost: u64,
    /// Right answers to requests that were lost by then.
    pub(super) late: u64,
    /// Answers that had come already.
    pub(super) duplicate: u64,
    /// Datagrams that answer nothing that was asked: no packet, or an authenticator that does not fit.
    pub(super) mismatched: u64,
    /// Answers with another verdict than the right one.
    pub(super) wrong: u64,
    /// Answers to an Access-Request without a Message-Authenticator.
    pub(super) unprotected: u64,
    /// Requests that were due and could not be sent, too many being open.
    pub(super) not_sent: u64,
    /// Requests that the kernel did not take. They are lost, too.
    pub(super) refused: u64,
}

impl Tally {
    pub(super) fn new() -> Tally {
        Tally {
            latency: Histogram::new(),
            latency_sum_ns: 0,
            answered_before: 0,
            sent: 0,
            lost: 0,
            late: 0,
            duplicate: 0,
            mismatched: 0,
            wrong: 0,
            unprotected: 0,
            not_sent: 0,
            refused: 0,
        }
    }

    /// Counts a right answer.
    pub(super) fn answered(&mut self, measured: bool, latency_ns: u64) {
        if measured {
            self.latency.record(latency_ns);
            self.latency_sum_ns += u128::from(latency_ns);
        } else {
            self.answered_before += 1;
        }
    }

    /// Whether every request was answered, once and rightly, and there was one.
    pub(super) fn is_faultless(&self) -> bool {
        self.latency.len() > 0 && self.lost + self.late + self.duplicate + self.mismatched + self.wrong == 0
    }
}
