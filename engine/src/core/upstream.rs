//! One live thing that can carry requests.
//!
//! States: *opening* (not yet usable; may have tickets waiting that were promised to it), *ready*, *draining* (finishes
//! what it has, gets nothing new), *interrupted* (a helper told to stop its call; it may come back until `kill_at`), *dying*
//! (killed; counted until it is gone), *closing* (told to end, where its lane lets it linger; counted until it is gone,
//! killed after a while). A pool forgets an upstream in the same step in which it emits `Close`, unless it lingers.
//!
//! A *marked* upstream is to be replaced: see `pool/recycle.rs`.

use super::arena::Handle;
use super::pool::list::List;
use super::time::{Instant, Span};

/// Names one upstream in one pool, for good.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct UpstreamId(pub(crate) Handle);

impl UpstreamId {
    /// A small number unique among the live upstreams of a pool, for tables beside it.
    #[inline]
    pub fn index(self) -> usize {
        self.0.index as usize
    }
}

/// What is done to a request in flight that nobody waits for any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CancelRule {
    /// Tell the upstream, drop late replies (shared LDAP connection).
    Abandon,
    /// It cannot be told: close and reopen (LDAP bind connection).
    CloseReopen,
    /// Interrupt, then kill after a grace (helper process).
    InterruptThenKill {
        /// Between the two.
        grace: Span,
    },
    /// Nothing need be done (local directory).
    Immediate,
}

/// A kind of upstream within a pool; requests name their lane in [`super::Class`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneConfig {
    /// Requests at once on one upstream; 0: many.
    pub slots: u32,
    /// What a cancel does.
    pub cancel: CancelRule,
    /// Each upstream belongs to the client it was opened for, and is closed when that client leaves.
    pub owned: bool,
    /// Probes may travel on it.
    pub probes: bool,
    /// An upstream beyond the minimum that was not needed for so long is closed; none: kept.
    pub idle_timeout: Option<Span>,
    /// Upstreams opened to one server in one second; 0: no limit. Up to the minimum they are opened at this rate, beyond it
    /// at one that doubles while demand lasts.
    pub spawn_rate_max: u32,
    /// Being opened to one server at the same time; 0: no limit.
    pub opening_max: u32,
    /// An upstream that is told to close counts until `upstream_down` says that it is gone (a process takes its time), and is
    /// killed after so long; none: it is forgotten at once.
    pub lingers: Option<Span>,
    /// Requests are packed onto one upstream up to this number before the next is used, so that writes coalesce.
    pub pack: u32,
}

impl LaneConfig {
    /// Its upstreams are processes: of those there are never more than may be, not even for a moment.
    pub(crate) fn is_process(&self) -> bool {
        self.lingers.is_some() || matches!(self.cancel, CancelRule::InterruptThenKill { .. })
    }
}

/// Why an upstream went away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// It could not be opened, or did not become ready in time.
    OpenFailed,
    /// It was lost, or broke the protocol.
    Lost,
    /// It ended in an orderly way (the other side said so, or we asked for it).
    Ended,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UpstreamState {
    Opening,
    Ready,
    Draining,
    /// `leaving`: it had been draining.
    Interrupted {
        kill_at: Instant,
        leaving: bool,
    },
    Dying,
    Closing {
        kill_at: Instant,
    },
}

impl UpstreamState {
    /// It gets nothing new and is not one of those that are to be kept.
    pub(crate) fn is_leaving(self) -> bool {
        match self {
            UpstreamState::Draining | UpstreamState::Dying | UpstreamState::Closing { .. } => true,
            UpstreamState::Interrupted { leaving, .. } => leaving,
            UpstreamState::Opening | UpstreamState::Ready => false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) server: usize,
    pub(crate) lane: u8,
    pub(crate) state: UpstreamState,
    /// Requests at once that it takes itself, whatever its lane allows; `u32::MAX`: what the lane allows.
    pub(crate) slots: u32,
    /// It is to be replaced.
    pub(crate) marked: bool,
    /// Tickets sent to it, and, while it opens, promised to it.
    pub(crate) tickets: List,
    /// Those of them that have been answered and only keep it.
    pub(crate) kept: u32,
    /// Calls that it was interrupted for and has not acknowledged.
    pub(crate) interrupted: Vec<Handle>,
    /// Since when it owes us bytes; none while nothing is in flight.
    pub(crate) quiet_since: Option<Instant>,
    /// Since when it has been idle; none while it is not.
    pub(crate) idle_since: Option<Instant>,
}

impl Upstream {
    /// Requests that it works on.
    pub(crate) fn in_flight(&self) -> u32 {
        self.tickets.len().saturating_sub(self.kept)
    }

    /// See [`UpstreamState::is_leaving`].
    pub(crate) fn is_leaving(&self) -> bool {
        self.state.is_leaving()
    }
}
