//! A configured target, its health, and what it carries now.
//!
//! Health: *starting* (no attempt has ended yet), *up*, *suspect* (owes bytes for longer than it should; still used, being
//! probed), *ejected* (connected, but not chosen while another will do; probed until it answers), *down* (nothing ready, the
//! last attempt failed; retried with back-off).

use super::arena::Handle;
use super::backoff::Backoff;
use super::check::{CheckConfig, Checks};
use super::crash::{CrashBudget, CrashConfig};
use super::pool::Score;
use super::service_time::ServiceTime;
use super::sizing::{Census, Decision, Limits, Sizing};
use super::time::{Instant, Span};
use super::upstream::{LaneConfig, UpstreamState};

/// A server as configured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerConfig {
    /// The caller's name for it, unique in the pool; a server keeps its upstreams across `configure` by this, and its
    /// share of the keys under `by-hash`.
    pub key: u64,
    /// Share under `weighted` and `by-hash`; 0: only when nothing else is up.
    pub weight: u32,
    /// Requests in flight on all its upstreams; 0: no limit.
    pub pending_max: u32,
    /// What it is, in the caller's own bits; requests may need or prefer some ([`super::Route`]). Does not
    /// change for a key.
    pub marks: u8,
    /// One for each lane of the pool.
    pub lanes: Vec<LaneLimits>,
    /// Whether it is checked, and how often.
    pub check: Option<CheckConfig>,
    /// How long its share takes to grow to the whole once it has come back; zero: it has it at once.
    pub slow_start: Span,
}

/// Bounds of one server in one lane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LaneLimits {
    /// Upstreams kept open.
    pub min: u32,
    /// Upstreams at most. Those that are on their way out count, but for connections that finish what they have: as many again
    /// may be opened in the stead of those.
    pub max: u32,
    /// Idle upstreams kept beside the busy ones, while `max` allows it. A server without minimum and spares in any lane is
    /// opened when it is asked for. Where upstreams belong to clients `min` has no meaning, and this is how many that were given
    /// back are kept for the next clients.
    pub min_spare: u32,
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
    /// For upstreams of our own making: how often they may crash, or fail to open, before a rest; in place of ejection and of
    /// the wait after a failure. None: they are dialled.
    pub crash: Option<CrashConfig>,
    /// A server whose answers take so many times as long as those of the fastest of its tier is degraded (3); 0: none is.
    pub slow_factor: u32,
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
            crash: None,
            slow_factor: 3,
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
    /// See [`Score`].
    pub score: Score,
    /// Ready upstreams, by lane.
    pub ready: Vec<u32>,
    /// Upstreams by what they do, by lane; `queued` is 0.
    pub upstreams: Vec<Census>,
    /// Until when nothing is opened to it, where it rests after crashes or waits after a failure.
    pub retry_at: Option<Instant>,
    /// Requests in flight.
    pub in_flight: u32,
    /// Requests ended by an answer of it.
    pub answered: u64,
    /// Upstreams lost or not opened, probes unanswered, answers that told of trouble.
    pub failures: u64,
    /// Moving estimate of its service time; zero before the first answer.
    pub latency: Span,
}

/// Upstreams of one server in one lane. Each change of their numbers is told to `sizing`.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) all: Vec<Handle>,
    pub(crate) opening: u32,
    pub(crate) ready: u32,
    /// Ready ones with something in flight.
    pub(crate) busy: u32,
    /// Became idle, the last one last. A hint where one request fills an upstream: what is in it may be busy again or gone,
    /// and what is free need not be in it. At most one more than there are upstreams.
    pub(crate) freed: Vec<Handle>,
    /// Where each belongs to a client: those that were given back and are nobody's.
    pub(crate) unowned: Vec<Handle>,
    /// Those that get nothing new and are not to be kept.
    pub(crate) leaving: u32,
    /// Of those, the ones that finish what they have.
    pub(crate) draining: u32,
    /// For so many of the draining another may be opened beyond the most there may be; 0 where each is a process.
    pub(crate) stand_ins_max: u32,
    /// To be replaced, and not leaving yet.
    pub(crate) marked: u32,
    /// The most requests at once that one of them has said to take; 0: none has said anything.
    pub(crate) declared: u32,
    /// How many there should be; none where each belongs to a client.
    pub(crate) sizing: Option<Sizing>,
    /// When `sizing` must be asked again though nothing has changed.
    pub(crate) size_at: Option<Instant>,
    /// When more may be opened for what waits, which the rate of starts held back.
    pub(crate) open_at: Option<Instant>,
}

impl Fleet {
    /// One that does this is there, or no more.
    pub(crate) fn count(&mut self, state: UpstreamState, busy: bool, there: bool) {
        let change = |count: &mut u32| {
            *count = if there { *count + 1 } else { count.saturating_sub(1) };
        };
        match state {
            UpstreamState::Opening => change(&mut self.opening),
            UpstreamState::Ready => {
                change(&mut self.ready);
                if busy {
                    change(&mut self.busy);
                }
            }
            _ if state.is_leaving() => {
                change(&mut self.leaving);
                if state == UpstreamState::Draining {
                    change(&mut self.draining);
                }
            }
            _ => {}
        }
    }

    /// Draining ones that do not keep another from being opened.
    fn stood_in(&self) -> u32 {
        self.draining.min(self.stand_ins_max)
    }

    /// Those that count towards the most there may be.
    pub(crate) fn taken(&self) -> u32 {
        let total = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        total.saturating_sub(self.stood_in())
    }

    /// Those that were interrupted and may come back count as busy.
    pub(crate) fn census(&self, queued: u32) -> Census {
        let idle = self.ready.saturating_sub(self.busy);
        let total = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        Census {
            starting: self.opening,
            idle,
            busy: total.saturating_sub(self.opening + self.leaving + idle),
            leaving: self.leaving,
            queued,
        }
    }

    /// Up, or interrupted and perhaps coming back.
    fn standing(&self) -> u32 {
        let total = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        total.saturating_sub(self.opening + self.leaving)
    }
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) config: ServerConfig,
    pub(crate) tier: usize,
    pub(crate) health: Health,
    pub(crate) fleets: Vec<Fleet>,
    pub(crate) in_flight: u32,
    pub(crate) backoff: Backoff,
    /// How often its upstreams may crash; none where they are dialled.
    pub(crate) crashes: Option<CrashBudget>,
    /// All its minimums have been up since it was started or last rested with nothing up.
    pub(crate) populated: bool,
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
    /// What its checks say.
    pub(crate) checks: Checks,
    /// It has been used at some time.
    pub(crate) was_up: bool,
    /// Since when it has been back, while its share grows.
    pub(crate) back_since: Option<Instant>,
    /// Removed from the configuration: finishes what it has.
    pub(crate) retiring: bool,
    /// It has neither minimum nor spares: nothing is open to it until it is asked for.
    pub(crate) on_demand: bool,
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
            crashes: health.crash.map(CrashBudget::new),
            populated: false,
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
            checks: Checks::default(),
            was_up: false,
            back_since: None,
            retiring: false,
            on_demand: false,
        }
    }

    /// Its sizes, from its own bounds and the lanes'.
    pub(crate) fn set_limits(&mut self, lanes: impl Iterator<Item = LaneConfig>, health: &HealthConfig) {
        match (&mut self.crashes, health.crash) {
            (Some(budget), Some(config)) => budget.set_config(config),
            (budget, config) => *budget = config.map(CrashBudget::new),
        }
        self.on_demand = true;
        for ((fleet, bounds), lane) in self.fleets.iter_mut().zip(&self.config.lanes).zip(lanes) {
            if lane.owned {
                fleet.sizing = None;
                continue;
            }
            self.on_demand &= bounds.min == 0 && bounds.min_spare == 0;
            fleet.stand_ins_max = if lane.is_process() { 0 } else { bounds.max };
            let limits = Limits {
                min: bounds.min,
                max: bounds.max,
                min_spare: bounds.min_spare,
                idle_timeout: lane.idle_timeout.unwrap_or(Span::ZERO),
                spawn_rate_max: lane.spawn_rate_max,
                starting_max: lane.opening_max,
            };
            match &mut fleet.sizing {
                Some(sizing) => sizing.set_limits(limits),
                None => fleet.sizing = Some(Sizing::new(limits)),
            }
        }
    }

    /// What a fleet's sizing says of its numbers as they are, while so many more upstreams are waited for. Nothing is said to
    /// be opened while nothing may be.
    #[inline]
    pub(crate) fn want(&mut self, lane: u8, queued: u32, now: Instant) -> Decision {
        if self.retiring {
            return Decision::default();
        }
        let waits = self.retry_at.is_some_and(|at| at > now);
        let Some(fleet) = self.fleets.get_mut(lane as usize) else {
            return Decision::default();
        };
        let mut census = fleet.census(queued);
        census.leaving = census.leaving.saturating_sub(fleet.stood_in());
        match &mut fleet.sizing {
            Some(sizing) if !waits || !sizing.lacks(census) => sizing.want(now, census),
            _ => Decision::default(),
        }
    }

    pub(crate) fn has_marks(&self, marks: u8) -> bool {
        self.config.marks & marks == marks
    }

    /// One that was given back waits for a client.
    pub(crate) fn has_unowned(&self, lane: u8) -> bool {
        self.fleets
            .get(lane as usize)
            .is_some_and(|fleet| !fleet.unowned.is_empty())
    }

    pub(crate) fn ready(&self) -> u32 {
        self.fleets.iter().map(|fleet| fleet.ready).sum()
    }

    pub(crate) fn upstreams(&self) -> usize {
        self.fleets.iter().map(|fleet| fleet.all.len()).sum()
    }

    /// It may be chosen: it is up, or would be opened for whoever asks.
    pub(crate) fn usable(&self) -> bool {
        let connected = matches!(self.health, Health::Up | Health::Suspect) && self.ready() > 0;
        !self.retiring && (connected || self.sleeps())
    }

    /// Nothing is open to it because nobody has asked for it, or because it is of our own making and just starts.
    fn sleeps(&self) -> bool {
        let well = matches!(self.health, Health::Starting | Health::Up | Health::Suspect);
        (self.on_demand || self.crashes.is_some()) && well && self.retry_at.is_none() && self.ready() == 0
    }

    /// Whether there are fewer upstreams than there may be, all counted.
    pub(crate) fn has_place(&self, lane: u8) -> bool {
        let (fleet, limits) = (self.fleets.get(lane as usize), self.config.lanes.get(lane as usize));
        fleet
            .zip(limits)
            .is_some_and(|(fleet, limits)| (fleet.all.len() as u64) < u64::from(limits.max))
    }

    pub(crate) fn may_open(&self, lane: u8, now: Instant) -> bool {
        let (Some(fleet), Some(limits)) = (self.fleets.get(lane as usize), self.config.lanes.get(lane as usize)) else {
            return false;
        };
        let starting_max = fleet.sizing.as_ref().map_or(0, |sizing| sizing.limits().starting_max);
        !self.retiring
            && fleet.taken() < limits.max
            && (starting_max == 0 || fleet.opening < starting_max)
            && self.retry_at.is_none_or(|at| at <= now)
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

    /// Requests at once that one upstream of the lane is likely to take.
    pub(crate) fn likely_slots(&self, lane: u8, config: &LaneConfig) -> u32 {
        let declared = self.fleets.get(lane as usize).map_or(0, |fleet| fleet.declared);
        match declared {
            0 => self.slots(lane, config),
            declared => self.slots(lane, config).min(declared),
        }
    }

    /// Whether all lanes that have a minimum have it up, or had once.
    pub(crate) fn note_populated(&mut self) {
        let lanes = self.fleets.iter().zip(&self.config.lanes);
        self.populated |= lanes
            .filter(|(fleet, _)| fleet.sizing.is_some())
            .all(|(fleet, limits)| fleet.standing() >= limits.min.min(limits.max));
    }

    pub(crate) fn pending_full(&self) -> bool {
        self.config.pending_max != 0 && self.in_flight >= self.config.pending_max
    }
}
