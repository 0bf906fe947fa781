//! A pool: queue, policy, sizing and upstreams for one target.
//!
//! A ticket is *queued* (in its lane's queue), *promised* (waiting for the one upstream that is being opened for it),
//! *sent* (in the list of one upstream), or gone. It is in exactly one list while it lives; an upstream is in exactly one
//! fleet. A ticket leaves by an answer ([`Pool::reply`] says so by handing back the caller's note) or by one
//! [`Effect::Failed`], never by both, never twice: both go through `settle`, which removes it from the arena.
//!
//! Calling order: `turn` once per turn of the loop, then any of `submit`, `reply`, `signal`, `upstream_up`,
//! `upstream_down`, `probe_answered`, `check_ended`, and `tick` when `wake_at` has come. The effects of a call are carried out before
//! the next call.

#[cfg(test)]
mod check_tests;
mod checks;
mod configure;
mod dispatch;
mod figures;
mod fleet;
mod health;
mod hold;
#[cfg(test)]
mod interrupt_tests;
mod invariants;
#[cfg(test)]
mod keep_tests;
mod leave;
#[cfg(test)]
mod leave_tests;
pub(crate) mod list;
mod recycle;
mod route;
mod size;
mod slow_start;

use super::arena::{Arena, Handle};
use super::histogram::Histogram;
use super::policy::{Candidate, Kind, Policy};
use super::request::{Class, Drain, Effect, Reason, Request, Settlement, Ticket, Verdict};
use super::rng::Rng;
use super::server::{Health, HealthConfig, Server, ServerConfig, ServerReport};
pub use super::sizing::Census;
use super::time::{Instant, Span};
use super::upstream::{CancelRule, LaneConfig, Upstream, UpstreamId, UpstreamState};
use super::wheel::{TimerId, Wheel};
pub use checks::Score;
use list::{Links, List};

/// How coarse deadlines are; an end made by a deadline comes at most this much after it.
pub const TICK: Span = Span::from_millis(32);
const WHEEL_SLOTS: usize = 2048;

/// What a pool is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolConfig {
    /// Kinds of upstream; a request names one by its index. At most 8.
    pub lanes: Vec<LaneConfig>,
    /// Servers tried together; the first tier with a usable server is used.
    pub tiers: Vec<(Kind, Vec<ServerConfig>)>,
    /// Requests waiting in the queue of one lane.
    pub queue_max: u32,
    /// Probing, ejection, back-off.
    pub health: HealthConfig,
}

/// Counters since the start; they only grow.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Requests taken.
    pub submitted: u64,
    /// Requests ended by an upstream's answer.
    pub answered: u64,
    /// Requests ended by the pool.
    pub failed: u64,
    /// Requests sent a second time.
    pub retried: u64,
    /// Replies that came for a ticket that had ended or moved; dropped.
    pub late: u64,
    /// Requests that had to wait.
    pub queued: u64,
    /// Servers put aside.
    pub ejections: u64,
    /// Upstreams opened.
    pub opened: u64,
    /// Upstreams that could not be opened or were lost.
    pub lost: u64,
    /// Of those, the ones that count as crashes (`HealthConfig::crash`).
    pub crashes: u64,
    /// Times that nothing was started for a while because there had been too many.
    pub rests: u64,
    /// Times that a request had to wait while as many upstreams as may be were there already, and the queue had been empty.
    pub saturations: u64,
    /// Requests ended by the pool, by reason.
    pub failures: Failures,
    /// Requests ended by the pool after they had been sent to an upstream.
    pub failed_sent: u64,
}

/// Requests ended by the pool, by [`Reason`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Failures {
    /// [`Reason::Canceled`].
    pub canceled: u64,
    /// [`Reason::Deadline`].
    pub deadline: u64,
    /// [`Reason::QueueTimeout`].
    pub queue_timeout: u64,
    /// [`Reason::QueueFull`].
    pub queue_full: u64,
    /// [`Reason::Unavailable`].
    pub unavailable: u64,
    /// [`Reason::UpstreamLost`].
    pub lost: u64,
    /// [`Reason::ShuttingDown`].
    pub shutting_down: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Queued { picky: bool },
    Promised(Handle),
    Sent(Handle),
}

#[derive(Debug)]
pub(crate) struct Entry<T> {
    user: T,
    request: Request,
    state: State,
    timer: Option<TimerId>,
    /// When its present wait for an upstream ends; none while it does not wait.
    waits_until: Option<Instant>,
    links: Links,
    delivered: bool,
    retried: bool,
    /// It has been sent to an upstream at least once.
    sent: bool,
    /// It has been answered, and its upstream is kept for its caller.
    kept: bool,
    /// How long its upstream took for it has been noted.
    observed: bool,
    submitted_at: Instant,
    /// The server that failed it, not to be tried again while there is another.
    avoid: Option<usize>,
    sent_at: Instant,
}

#[derive(Debug)]
struct Lane {
    config: LaneConfig,
    queue: List,
    /// Those that wait and may not go everywhere, so that they hold up nobody else.
    picky: List,
    /// Requests wait, and no more upstreams may be opened for them.
    saturated: bool,
}

impl Lane {
    /// How many wait.
    fn waiting(&self) -> u32 {
        self.queue.len().saturating_add(self.picky.len())
    }
}

#[derive(Debug)]
struct TierState {
    policy: Policy,
    kind: Kind,
    servers: Vec<usize>,
}

/// See the module.
#[derive(Debug)]
pub struct Pool<T> {
    lanes: Vec<Lane>,
    tiers: Vec<TierState>,
    /// Places of removed servers are empty and used again.
    servers: Vec<Option<Server>>,
    tickets: Arena<Entry<T>>,
    upstreams: Arena<Upstream>,
    wheel: Wheel,
    rng: Rng,
    queue_max: u32,
    /// What a lowered `queue_max` found waiting, which may go on waiting.
    queue_before: u32,
    health: HealthConfig,
    /// Some server may be in its slow start.
    slow_starts: bool,
    draining: Option<Drain>,
    /// Interrupted, or closing: killed when their time has come.
    interrupted: Vec<Handle>,
    candidates: Vec<Candidate>,
    expired: Vec<u64>,
    moving: Vec<Handle>,
    stats: Stats,
    queue_wait: Histogram,
    service_time: Histogram,
}

impl<T: Copy> Pool<T> {
    /// A pool without servers; `configure` gives it some.
    pub fn new(seed: u64) -> Self {
        Pool {
            lanes: Vec::new(),
            tiers: Vec::new(),
            servers: Vec::new(),
            tickets: Arena::new(),
            upstreams: Arena::new(),
            wheel: Wheel::new(TICK, WHEEL_SLOTS),
            rng: Rng::new(seed),
            queue_max: 0,
            queue_before: 0,
            health: HealthConfig::default(),
            slow_starts: false,
            draining: None,
            interrupted: Vec::new(),
            candidates: Vec::new(),
            expired: Vec::new(),
            moving: Vec::new(),
            stats: Stats::default(),
            queue_wait: Histogram::default(),
            service_time: Histogram::default(),
        }
    }

    /// A new turn of the loop begins: the effects of earlier calls have been carried out.
    #[inline]
    pub fn turn(&mut self) {
        self.tickets.turn();
        self.upstreams.turn();
    }

    /// Takes a request. The ticket may have ended when this returns (then `effects` says so).
    ///
    /// None only when four thousand million requests are pending.
    pub fn submit(&mut self, request: Request, user: T, now: Instant, effects: &mut Vec<Effect<T>>) -> Option<Ticket> {
        let entry = Entry {
            user,
            request,
            state: State::Queued { picky: false },
            timer: None,
            waits_until: None,
            links: Links::default(),
            delivered: false,
            retried: false,
            sent: false,
            kept: false,
            observed: false,
            submitted_at: now,
            avoid: None,
            sent_at: now,
        };
        let handle = self.tickets.insert(entry)?;
        self.stats.submitted += 1;
        if self.draining.is_some() {
            self.fail_loose(handle, Reason::ShuttingDown, effects);
        } else if request.deadline <= now {
            self.fail_loose(handle, Reason::QueueTimeout, effects);
        } else {
            self.dispatch(handle, now, effects);
        }
        Some(Ticket(handle))
    }

    /// An upstream said something for a ticket. The caller's note when it is to be delivered; none when it came too late,
    /// twice, or from the wrong upstream, and is to be dropped.
    pub fn reply(
        &mut self,
        ticket: Ticket,
        upstream: UpstreamId,
        settlement: Settlement,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) -> Option<T> {
        let sent_here = self
            .tickets
            .get(ticket.0)
            .is_some_and(|entry| entry.state == State::Sent(upstream.0));
        if !sent_here {
            self.stats.late += 1;
            if matches!(settlement, Settlement::Done(_)) {
                self.interrupted_came_back(upstream.0, ticket.0, now, effects);
            }
            return None;
        }
        self.heard(upstream, now);
        let Settlement::Done(verdict) = settlement else {
            let entry = self.tickets.get_mut(ticket.0)?;
            entry.delivered = true;
            return Some(entry.user);
        };
        self.unlink(ticket.0);
        let entry = self.remove(ticket.0)?;
        self.stats.answered += 1;
        if !entry.observed {
            self.service_time.observe(now.since(entry.sent_at));
            self.note_answer(upstream.0, verdict, entry.sent_at, now, effects);
        }
        self.upstream_freed(upstream.0, now, effects);
        Some(entry.user)
    }

    /// The caller does not wait any more: the ticket ends with [`Reason::Canceled`].
    pub fn cancel(&mut self, ticket: Ticket, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.end_early(ticket.0, Reason::Canceled, now, effects);
    }

    /// Whether the request has been sent to an upstream and not been answered; none when it has ended.
    pub fn is_sent(&self, ticket: Ticket) -> Option<bool> {
        self.tickets
            .get(ticket.0)
            .map(|entry| matches!(entry.state, State::Sent(_)))
    }

    /// Which upstream has the request.
    pub fn upstream_of(&self, ticket: Ticket) -> Option<UpstreamId> {
        match self.tickets.get(ticket.0)?.state {
            State::Sent(upstream) | State::Promised(upstream) => Some(UpstreamId(upstream)),
            State::Queued { .. } => None,
        }
    }

    /// The note of whoever waits for an upstream that is being opened and is promised to them, as those of owned lanes are.
    pub fn promised_to(&self, id: UpstreamId) -> Option<T> {
        let first = self.upstreams.get(id.0)?.tickets.front()?;
        let entry = self.tickets.get(first)?;
        (entry.state == State::Promised(id.0)).then_some(entry.user)
    }

    /// Ends what is due. Call when `wake_at` has come; calling it more often is harmless.
    pub fn tick(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        let mut expired = std::mem::take(&mut self.expired);
        self.wheel.expire(now, |key| expired.push(key));
        for key in expired.drain(..) {
            let handle = Handle::from_bits(key);
            let Some(entry) = self.tickets.get(handle) else {
                continue;
            };
            let (due, reason) = match entry.state {
                State::Sent(_) => (entry.request.deadline, Reason::Deadline),
                State::Queued { .. } | State::Promised(_) => {
                    (entry.waits_until.unwrap_or(Instant::MAX), Reason::QueueTimeout)
                }
            };
            // Since its timer ended, one that ended before it may have made room for it.
            if due > now {
                continue;
            }
            self.end_early(handle, reason, now, effects);
        }
        self.expired = expired;
        self.tick_interrupted(now, effects);
        self.tick_servers(now, effects);
    }

    /// When `tick` must be called at the latest; none: not before something else is told. A pool at rest asks for nothing but
    /// its probes.
    pub fn wake_at(&self) -> Option<Instant> {
        let mut at = self.wheel.next();
        let mut sooner = |other: Option<Instant>| {
            if let Some(other) = other
                && at.is_none_or(|at| other < at)
            {
                at = Some(other);
            }
        };
        for handle in &self.interrupted {
            if let Some(UpstreamState::Interrupted { kill_at, .. } | UpstreamState::Closing { kill_at }) =
                self.upstreams.get(*handle).map(|upstream| upstream.state)
            {
                sooner(Some(kill_at));
            }
        }
        for server in self.servers.iter().flatten() {
            sooner(server.check_at);
            if self.draining.is_none() && !server.retiring {
                sooner(server.retry_at);
                sooner(server.checks.wake_at());
            }
            for fleet in &server.fleets {
                sooner(fleet.size_at);
                sooner(fleet.open_at);
            }
        }
        at
    }

    /// Stops taking requests; from [`Drain::Firm`] on ends the pending ones and closes the upstreams. A level never falls.
    pub fn drain(&mut self, level: Drain, now: Instant, effects: &mut Vec<Effect<T>>) {
        let level = self.draining.map_or(level, |before| before.max(level));
        self.draining = Some(level);
        if level == Drain::Gentle {
            return;
        }
        let mut all: Vec<Handle> = self.tickets.iter().map(|(handle, _)| handle).collect();
        for handle in all.drain(..) {
            self.end_early(handle, Reason::ShuttingDown, now, effects);
        }
        self.close_all(level, now, effects);
    }

    /// Takes a ticket that is in no list out of the world and says why.
    fn fail_loose(&mut self, handle: Handle, reason: Reason, effects: &mut Vec<Effect<T>>) {
        if let Some(entry) = self.remove(handle) {
            self.stats.failed += 1;
            self.stats.failed_sent += u64::from(entry.sent);
            self.stats.failures.count(reason);
            effects.push(Effect::Failed {
                ticket: Ticket(handle),
                user: entry.user,
                reason,
                sent: entry.sent,
            });
        }
    }

    fn remove(&mut self, handle: Handle) -> Option<Entry<T>> {
        let entry = self.tickets.remove(handle)?;
        if let Some(timer) = entry.timer {
            self.wheel.cancel(timer);
        }
        Some(entry)
    }

    /// Takes a ticket out of whatever list it is in; it stays in the arena. The server's count of what is in flight follows.
    fn unlink(&mut self, handle: Handle) {
        let Some(entry) = self.tickets.get(handle) else { return };
        match entry.state {
            State::Queued { picky } => {
                if let Some(lane) = self.lanes.get_mut(entry.request.class.lane as usize) {
                    let list = if picky { &mut lane.picky } else { &mut lane.queue };
                    list.unlink(&mut self.tickets, handle);
                    lane.saturated &= lane.waiting() > 0;
                }
            }
            State::Promised(upstream) | State::Sent(upstream) => {
                let sent = matches!(entry.state, State::Sent(_));
                let Some(upstream) = self.upstreams.get_mut(upstream) else {
                    return;
                };
                let kept = u32::from(entry.kept);
                upstream.kept = upstream.kept.saturating_sub(kept);
                upstream.tickets.unlink(&mut self.tickets, handle);
                let idle = upstream.tickets.is_empty();
                if idle {
                    upstream.quiet_since = None;
                }
                if sent && let Some(Some(server)) = self.servers.get_mut(upstream.server) {
                    server.in_flight = server.in_flight.saturating_sub(1 - kept);
                    if idle
                        && upstream.state == UpstreamState::Ready
                        && let Some(fleet) = server.fleets.get_mut(upstream.lane as usize)
                    {
                        fleet.busy = fleet.busy.saturating_sub(1);
                    }
                }
            }
        }
    }

    /// Ends a live ticket before its answer, wherever it is, and frees what it held by the lane's cancel rule.
    fn end_early(&mut self, handle: Handle, reason: Reason, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(state) = self.tickets.get(handle).map(|entry| entry.state) else {
            return;
        };
        self.unlink(handle);
        self.fail_loose(handle, reason, effects);
        match state {
            State::Queued { .. } => {}
            // What was being opened for it alone is of no use to anybody else.
            State::Promised(upstream) => self.close(upstream, now, effects),
            State::Sent(upstream) => self.let_go(handle, upstream, now, effects),
        }
    }
}

impl<T> Pool<T> {
    fn server_of(&mut self, upstream: Handle) -> Option<&mut Server> {
        let server = self.upstreams.get(upstream)?.server;
        self.servers.get_mut(server)?.as_mut()
    }

    fn server_at(&mut self, index: usize) -> Option<&mut Server> {
        self.servers.get_mut(index)?.as_mut()
    }

    fn lane_config(&self, lane: u8) -> Option<LaneConfig> {
        self.lanes.get(lane as usize).map(|lane| lane.config)
    }
}

pub(crate) fn lane_of(class: Class) -> usize {
    class.lane as usize
}
