//! What is counted. Plain numbers that their worker alone touches; whoever reports asks the worker.

use engine::core::Reason;
use engine::core::time::Span;
use wire::ldap::result::code;

/// Kinds of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Binds.
    Bind,
    /// Searches.
    Search,
    /// Compares.
    Compare,
    /// Add, modify, delete, modify DN.
    Write,
    /// Extended operations.
    Extended,
}

impl Class {
    /// All of them, in the order of their figures.
    pub const ALL: [Class; 5] = [
        Class::Bind,
        Class::Search,
        Class::Compare,
        Class::Write,
        Class::Extended,
    ];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Class::Bind => "bind",
            Class::Search => "search",
            Class::Compare => "compare",
            Class::Write => "write",
            Class::Extended => "extended",
        }
    }
}

/// How operations end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success, compareTrue, compareFalse, referral, saslBindInProgress.
    Success,
    /// The server said no.
    Refused,
    /// The server said busy or unavailable.
    Unwell,
    /// The client gave it up.
    Canceled,
    /// Its deadline passed.
    Deadline,
    /// It was never sent.
    Unsent,
    /// It was sent, and its connection was lost, or it was given up by a shutdown.
    Lost,
}

impl Outcome {
    /// All of them, in the order of their figures.
    pub const ALL: [Outcome; 7] = [
        Outcome::Success,
        Outcome::Refused,
        Outcome::Unwell,
        Outcome::Canceled,
        Outcome::Deadline,
        Outcome::Unsent,
        Outcome::Lost,
    ];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Success => "success",
            Outcome::Refused => "refused",
            Outcome::Unwell => "unwell",
            Outcome::Canceled => "canceled",
            Outcome::Deadline => "deadline",
            Outcome::Unsent => "unsent",
            Outcome::Lost => "lost",
        }
    }

    fn of_code(code: u32) -> Outcome {
        match code {
            code::SUCCESS | code::COMPARE_TRUE | code::COMPARE_FALSE | code::REFERRAL | code::SASL_BIND_IN_PROGRESS => {
                Outcome::Success
            }
            code::BUSY | code::UNAVAILABLE => Outcome::Unwell,
            _ => Outcome::Refused,
        }
    }

    fn of_reason(reason: Reason, sent: bool) -> Outcome {
        match reason {
            Reason::Canceled => Outcome::Canceled,
            Reason::Deadline => Outcome::Deadline,
            Reason::UpstreamLost { .. } => Outcome::Lost,
            // It was sent, and its upstream was lost or took it back; what it waited for then did not come.
            _ if sent => Outcome::Lost,
            Reason::QueueTimeout | Reason::QueueFull | Reason::Unavailable | Reason::ShuttingDown => Outcome::Unsent,
        }
    }
}

/// Upper bounds of the histogram's buckets in microseconds; one more bucket takes the rest.
pub const BUCKETS_MICROS: [u64; 14] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000, 30_000_000,
];

/// Figures of one directory or service on one worker; they only grow.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// By class and outcome.
    pub operations: [[u64; Outcome::ALL.len()]; Class::ALL.len()],
    /// How long operations took, by bucket.
    pub seconds: [u64; BUCKETS_MICROS.len() + 1],
    /// Their sum.
    pub micros_total: u64,
    /// Malformed messages of clients.
    pub malformed: u64,
    /// Clients whose outbox overflowed: operations given up.
    pub slow_readers: u64,
    /// Binds after which a server was asked who that is.
    pub names_asked: u64,
    /// Binds whose client left, or bound again, before it mattered who it is.
    pub names_spared: u64,
}

impl Counts {
    pub(crate) fn answered(&mut self, class: Class, code: u32, took: Span) {
        self.count(class, Outcome::of_code(code), took);
    }

    /// `sent`: an upstream may have acted on it.
    pub(crate) fn failed(&mut self, class: Class, reason: Reason, sent: bool, took: Span) {
        self.count(class, Outcome::of_reason(reason, sent), took);
    }

    fn count(&mut self, class: Class, outcome: Outcome, took: Span) {
        if let Some(count) = self
            .operations
            .get_mut(class as usize)
            .and_then(|row| row.get_mut(outcome as usize))
        {
            *count += 1;
        }
        let micros = took.as_micros();
        let bucket = BUCKETS_MICROS.partition_point(|bound| *bound < micros);
        if let Some(count) = self.seconds.get_mut(bucket) {
            *count += 1;
        }
        self.micros_total = self.micros_total.saturating_add(micros);
    }

    /// Adds another worker's figures.
    pub fn add(&mut self, other: &Counts) {
        for (row, other) in self.operations.iter_mut().zip(&other.operations) {
            for (count, other) in row.iter_mut().zip(other) {
                *count += other;
            }
        }
        for (count, other) in self.seconds.iter_mut().zip(&other.seconds) {
            *count += other;
        }
        self.micros_total = self.micros_total.saturating_add(other.micros_total);
        self.malformed += other.malformed;
        self.slow_readers += other.slow_readers;
        self.names_asked += other.names_asked;
        self.names_spared += other.names_spared;
    }
}
