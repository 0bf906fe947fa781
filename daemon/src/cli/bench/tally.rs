//! What a thread has counted, to be added to what the others have.

use std::collections::BTreeMap;
use std::io;

use rustls::HandshakeKind;

use super::histogram::Histogram;
use super::ledger::Fault;

/// Counts of one thread, or of all.
///
/// Operations, latencies and result codes are those of the measured window. Faults and losses are counted from the
/// first connection to the last: a wrong answer during the warm-up is as wrong as any.
pub(super) struct Tally {
    /// From the (intended) start of an operation to its final result.
    pub(super) latency: Histogram,
    /// Final results by result code.
    pub(super) codes: BTreeMap<u32, u64>,
    /// Final results whose code is not one of a fulfilled operation.
    pub(super) unfulfilled: u64,
    /// Searches that succeeded without the entry that they were for.
    pub(super) entry_missing: u64,
    /// Answers that were another's.
    pub(super) misdelivered: u64,
    /// Second final results.
    pub(super) duplicate: u64,
    /// Parts of an answer after its final result.
    pub(super) late: u64,
    /// Operations without a final result when the time to wait for it was over.
    pub(super) unanswered: u64,
    /// Operations abandoned.
    pub(super) abandoned: u64,
    /// Messages for abandoned operations, which were under way when they were abandoned.
    pub(super) after_abandon: u64,
    /// Unsolicited notifications by result code.
    pub(super) notices: BTreeMap<u32, u64>,
    /// Connections that were up and ended, by why.
    pub(super) lost: BTreeMap<&'static str, u64>,
    /// Operations that were pending on them.
    pub(super) lost_operations: u64,
    /// Connections that could not be made ready, by why.
    pub(super) refused: BTreeMap<&'static str, u64>,
    /// Operations that were due at the fixed rate before the window ended and could not be sent, all slots being taken.
    pub(super) not_sent: u64,
    /// Whole TLS handshakes in the measured window…
    pub(super) handshakes_full: u64,
    /// … and those that resumed a session.
    pub(super) handshakes_resumed: u64,
}

impl Tally {
    /// Nothing counted.
    pub(super) fn new() -> Self {
        Tally {
            latency: Histogram::new(),
            codes: BTreeMap::new(),
            unfulfilled: 0,
            entry_missing: 0,
            misdelivered: 0,
            duplicate: 0,
            late: 0,
            unanswered: 0,
            abandoned: 0,
            after_abandon: 0,
            notices: BTreeMap::new(),
            lost: BTreeMap::new(),
            lost_operations: 0,
            refused: BTreeMap::new(),
            not_sent: 0,
            handshakes_full: 0,
            handshakes_resumed: 0,
        }
    }

    /// Counts a fault.
    pub(super) fn fault(&mut self, fault: Fault) {
        match fault {
            Fault::Misdelivered => self.misdelivered += 1,
            Fault::Duplicate => self.duplicate += 1,
            Fault::Late => self.late += 1,
        }
    }

    /// Counts a TLS handshake.
    pub(super) fn shaken(&mut self, kind: HandshakeKind) {
        match kind {
            HandshakeKind::Resumed => self.handshakes_resumed += 1,
            _ => self.handshakes_full += 1,
        }
    }

    /// Adds what another thread has counted.
    pub(super) fn add(&mut self, other: &Tally) {
        self.latency.add(&other.latency);
        add_each(&mut self.codes, &other.codes);
        add_each(&mut self.notices, &other.notices);
        add_each(&mut self.lost, &other.lost);
        add_each(&mut self.refused, &other.refused);
        self.unfulfilled += other.unfulfilled;
        self.entry_missing += other.entry_missing;
        self.misdelivered += other.misdelivered;
        self.duplicate += other.duplicate;
        self.late += other.late;
        self.unanswered += other.unanswered;
        self.abandoned += other.abandoned;
        self.after_abandon += other.after_abandon;
        self.lost_operations += other.lost_operations;
        self.not_sent += other.not_sent;
        self.handshakes_full += other.handshakes_full;
        self.handshakes_resumed += other.handshakes_resumed;
    }

    /// Whether every answer was right, given once, and given.
    pub(super) fn is_faultless(&self) -> bool {
        self.misdelivered + self.duplicate + self.late + self.unanswered == 0
    }
}

fn add_each<K: Ord + Copy>(mine: &mut BTreeMap<K, u64>, theirs: &BTreeMap<K, u64>) {
    for (key, count) in theirs {
        *mine.entry(*key).or_default() += count;
    }
}

/// A short name for why a connection failed; few, so that counting by it is bounded.
pub(super) fn reason(error: &io::Error) -> &'static str {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset => "connection reset",
        Kind::ConnectionAborted => "connection aborted",
        Kind::BrokenPipe => "broken pipe",
        Kind::TimedOut => "timed out",
        Kind::NotFound => "no such socket",
        Kind::PermissionDenied => "permission denied",
        Kind::AddrNotAvailable => "no free local port",
        Kind::HostUnreachable | Kind::NetworkUnreachable => "unreachable",
        Kind::UnexpectedEof => "closed by the server",
        Kind::InvalidData => "malformed message",
        Kind::Other => "TLS failure",
        _ => "other error",
    }
}
