//! A configured target, its health, and what it carries now.
//!
//! Health: *starting* (no attempt has ended yet), *up*, *suspect* (owes bytes for longer than it should; still used, being
//! probed), *ejected* (connected, but not chosen while another will do; probed until it answers), *down* (nothing ready, the
//! last attempt failed; retried with back-off).

use super::arena::Handle;
use super::backoff::Backoff;
use super::service_time::ServiceTime;
use super::time::{Instant, Span};
use super::upstream::LaneConfig;

/// A server as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerConfig {
    /// The caller's name for it, unique in the pool; a server keeps its upstreams across `configure` by this.
    pub key: u64,
    /// Share under `weighted` and `by-hash`; 0: only when nothing else is up.
    pub weight: u32,
    /// Requests in flight on all its upstreams; 0: no limit.
    pub pending_max: u32,
    /// One for each lane of the pool.
    pub lanes: Vec<LaneLimits>,
}

/// Bounds of one server in one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneLimits {
    /// Upstreams kept open.
    pub min: u32,
    /// Upstreams at most.
    pub max: u32,
    /// Requests at once on one upstream, on top of the lane's slots; 0: no limit.
    pub upstream_pending_max: u32,
}

/// When a server is doubted, asked, put aside and tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthConfig {
    /// Owed bytes for so long, a server is suspect (0.5 s).
    pub suspect_after: Span,
    /// Between probes at rest (10 s); none: none at rest.
    pub probe_interval: Option<Span>,
    /// Between probes of a suspect or ejected server (0.5 s).
    pub probe_suspect_interval: Span,
    /// A probe unanswered for so long ejects (1 s).
    pub probe_timeout: Span,
    /// Consecutive failures that eject (3).
    pub eject_after: u32,
    /// An ejected server from which nothing comes for so long is closed and dialled anew (30 s).
    pub dead_after: Span,
    /// First wait before a failed server is tried again (0.5 s).
    pub retry_min: Span,
    /// Longest such wait (30 s).
    pub retry_max: Span,
}

impl Default for HealthConfig {
    fn default() -> Self {
        HealthConfig {
            suspect_after: Span::from_millis(500),
            probe_interval: Some(Span::from_secs(10)),
            probe_suspect_interval: Span::from_millis(500),
            probe_timeout: Span::from_secs(1),
            eject_after: 3,
            dead_after: Span::from_secs(30),
            retry_min: Span::from_millis(500),
            retry_max: Span::from_secs(30),
        }
    }
}

/// See the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// No attempt has ended yet.
    Starting,
    /// In use.
    Up,
    /// In use, and being probed.
    Suspect,
    /// Connected, not chosen.
    Ejected,
    /// Nothing ready.
    Down,
}

/// What can be said of a server from outside.
#[derive(Clone, PartialEq, Debug)]
pub struct ServerReport {
    /// Its configured key.
    pub key: u64,
    /// Its place among the tiers.
    pub tier: usize,
    /// See [`Health`].
    pub health: Health,
    /// Ready upstreams, by lane.
    pub ready: Vec<u32>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests ended by an answer of it.
    pub answered: u64,
    /// Upstreams lost or not opened, probes unanswered, answers that told of trouble.
    pub failures: u64,
    /// Moving estimate of its service time; zero before the first answer.
    pub latency: Span,
}

/// Upstreams of one server in one lane.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) all: Vec<Handle>,
    pub(crate) opening: u32,
    pub(crate) ready: u32,
    /// Ready ones with something in flight.
    pub(crate) busy: u32,
    /// The lowest number of idle upstreams since `window`, for retiring without flapping (seed 000's open question).
    pub(crate) idle_low: u32,
    pub(crate) window: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: ServerConfig,
    pub(crate) tier: usize,
    pub(crate) health: Health,
    pub(crate) fleets: Vec<Fleet>,
    pub(crate) in_flight: u32,
    pub(crate) backoff: Backoff,
    /// No upstream is opened before this.
    pub(crate) retry_at: Option<Instant>,
    /// When it last lost an upstream.
    pub(crate) lost_at: Option<Instant>,
    pub(crate) failures_in_a_row: u32,
    pub(crate) failures: u64,
    pub(crate) answered: u64,
    pub(crate) service_time: ServiceTime,
    pub(crate) sampled_at: Instant,
    /// The probe that is on its way.
    pub(crate) probe: Option<Probe>,
    /// When health must be looked at next.
    pub(crate) check_at: Option<Instant>,
    pub(crate) heard_at: Instant,
    /// An ejected server returns with the first answered probe at or after this.
    pub(crate) ejected_until: Instant,
    /// Removed from the configuration: finishes what it has.
    pub(crate) retiring: bool,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) upstream: Handle,
    pub(crate) sent_at: Instant,
}

impl Server {
    pub(crate) fn new(config: ServerConfig, tier: usize, health: &HealthConfig, now: Instant) -> Self {
        let fleets = config.lanes.iter().map(|_| Fleet::default()).collect();
        Server {
            config,
            tier,
            health: Health::Starting,
            fleets,
            in_flight: 0,
            backoff: Backoff::new(health.retry_min, health.retry_max),
            retry_at: None,
            lost_at: None,
            failures_in_a_row: 0,
            failures: 0,
            answered: 0,
            service_time: ServiceTime::default(),
            sampled_at: now,
            probe: None,
            check_at: None,
            heard_at: now,
            ejected_until: now,
            retiring: false,
        }
    }

    pub(crate) fn ready(&self) -> u32 {
        self.fleets.iter().map(|fleet| fleet.ready).sum()
    }

    pub(crate) fn upstreams(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.all.len()).sum()
    }

    pub(crate) fn usable(&self) -> bool {
        !self.retiring && matches!(self.health, Health::Up | Health::Suspect) && self.ready() > 0
    }

    pub(crate) fn may_open(&self, lane: u8, now: Instant) -> bool {
        let (Some(fleet), Some(limits)) = (self.fleets.get(lane as usize), self.config.lanes.get(lane as usize)) else {
            return false;
        };
        !self.retiring && (fleet.all.len() as u64) < u64::from(limits.max) && self.retry_at.is_none_or(|at| at <= now)
    }

    /// Requests at once on one upstream of the lane.
    pub(crate) fn slots(&self, lane: u8, config: &LaneConfig) -> u32 {
        let own = self
            .config
            .lanes
            .get(lane as usize)
            .map_or(0, |limits| limits.upstream_pending_max);
        match (config.slots, own) {
            (0, 0) => u32::MAX,
            (0, n) | (n, 0) => n,
            (a, b) => a.min(b),
        }
    }

    pub(crate) fn pending_full(&self) -> bool {
        self.config.pending_max != 0 && self.in_flight >= self.config.pending_max
    }
}
