//! What is asked, how it ends, and what a pool wants done.

use super::arena::Handle;
use super::time::{Instant, Span};
use super::upstream::UpstreamId;

/// Names one request in one pool, for good: a ticket that ended is never found again.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Ticket(pub(crate) Handle);

impl Ticket {
    /// No request of any pool: of what is answered without one.
    pub const NONE: Ticket = Ticket(Handle {
        index: u32::MAX,
        generation: 0,
    });

    /// A small number unique among the live tickets of a pool, for tables beside it; reused in later turns.
    #[inline]
    pub fn index(self) -> usize {
        self.0.index as usize
    }

    /// The ticket as a number, for logs and wire identifiers of our own.
    pub fn to_bits(self) -> u64 {
        self.0.to_bits()
    }
}

/// What kind of request it is, as far as the pool cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Class {
    /// Which lane of the pool carries it.
    pub lane: u8,
    /// Whether it may be sent once more when its upstream was lost before anything was delivered.
    pub retry: bool,
}

/// One question.
#[derive(Clone, Copy, Debug)]
pub struct Request {
    /// Lane and retry rule.
    pub class: Class,
    /// Absolute; [`Instant::MAX`] for a request without one (persistent searches).
    pub deadline: Instant,
    /// Longest wait in the queue; where it ends first the reason is [`Reason::QueueTimeout`] all the same.
    pub queue_wait_max: Option<Span>,
    /// Key of the policy `by-hash`.
    pub affinity: Option<u64>,
    /// Only this upstream will do: the one that was opened for the same client.
    pub pin: Option<UpstreamId>,
    /// Which servers may carry it, and which should.
    pub route: Route,
}

/// Which servers may carry a request. Where nothing is set, any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// Only servers with all of these marks ([`super::ServerConfig::marks`]).
    pub needs: u8,
    /// Those with all of these marks as well, while one of them is usable.
    pub prefers: u8,
    /// This server, by its key, while it is usable and has what is needed; goes before `prefers`.
    pub stays: Option<u64>,
}

impl Route {
    /// Any server will do.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.needs == 0 && self.prefers == 0 && self.stays.is_none()
    }
}

/// What an upstream's answer means for the request and for the upstream's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settlement {
    /// More follows.
    Part,
    /// The final reply.
    Done(Verdict),
}

/// What a final reply tells of the server that gave it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It answered; whether yes or no is not the pool's business.
    Well,
    /// It said that it cannot serve now (busy, unavailable); counts towards ejection.
    Unwell,
}

/// Why the pool itself ended a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// The caller cancelled it.
    Canceled,
    /// Its deadline passed after it was sent.
    Deadline,
    /// It waited in the queue as long as it might; as to whether it was sent before, see [`Reason::Unavailable`].
    QueueTimeout,
    /// The queue was full, or every slot of the upstream that it was pinned to was taken; it was never sent.
    QueueFull,
    /// No server is up. It was never sent, or it may be sent twice, was, and its upstream was lost or took it back before
    /// anything was delivered: whether that one acted on it is not known.
    Unavailable,
    /// The upstream went away. `delivered`: something had been handed to the caller already.
    UpstreamLost {
        /// Parts had been delivered.
        delivered: bool,
    },
    /// The pool is draining.
    ShuttingDown,
}

/// How hard a drain is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Drain {
    /// Nothing new; what is pending goes on.
    Gentle,
    /// What is pending is ended, upstreams are closed in an orderly way.
    Firm,
    /// Everything is closed.
    Now,
}

/// What a pool wants done. `T` is the caller's own note on each ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect<T> {
    /// Open an upstream to this server; tell `upstream_up` or `upstream_down`.
    Open {
        /// Its name from now on.
        upstream: UpstreamId,
        /// The configured key of the server.
        server: u64,
        /// Which lane it will serve.
        lane: u8,
    },
    /// Write the request to the upstream.
    Send {
        /// Which request.
        ticket: Ticket,
        /// Where to.
        upstream: UpstreamId,
    },
    /// Tell the upstream that nobody waits any more; late replies come to nothing.
    Abandon {
        /// Which request; it has ended or moved elsewhere.
        ticket: Ticket,
        /// Where it was sent.
        upstream: UpstreamId,
    },
    /// Interrupt the call this ticket has in the helper.
    Interrupt {
        /// Which request; it has ended.
        ticket: Ticket,
        /// Which helper.
        upstream: UpstreamId,
    },
    /// The grace after an interrupt or a close has passed: kill; tell `upstream_down` once it is gone.
    Kill {
        /// Which helper.
        upstream: UpstreamId,
    },
    /// Close the upstream. The pool has forgotten it, or, where its lane lets it linger, waits for `upstream_down`.
    Close {
        /// Which one.
        upstream: UpstreamId,
    },
    /// Ask whether the server is alive; tell `probe_answered`.
    Probe {
        /// Through which upstream.
        upstream: UpstreamId,
    },
    /// Check whether the server does its work; tell `check_ended`. Without it the check fails in time.
    Check {
        /// The configured key of the server.
        server: u64,
        /// Names this check.
        number: u32,
    },
    /// The final reply of a ticket, made by the pool.
    Failed {
        /// Which request; it has ended.
        ticket: Ticket,
        /// The caller's note.
        user: T,
        /// Why.
        reason: Reason,
        /// Whether it had been sent to an upstream, which may have acted on it.
        sent: bool,
    },
}
