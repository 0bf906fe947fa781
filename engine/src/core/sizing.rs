//! How many upstreams a pool should have: seed 000's minimum, maximum and minimum of spares, with its open questions
//! answered.
//!
//! - A request that finds no spare has one started for it, unless the maximum is reached; after each hand-out the spares
//!   are restored.
//! - A spare above need is retired when even the *lowest* number of idle ones seen for `idle_timeout` was more than
//!   `min_spare`. Load that comes and goes faster than that changes nothing: what it needs at its height is kept.
//! - Starts come in seconds: [`STARTS_FIRST`] in the first, twice as many in each further one while demand lasts, never more
//!   than `spawn_rate_max`. Filling up to the minimum skips the slow start.
//!
//! Invariants: never above `max`, never below `min` by own doing; never an opening and a retirement in one decision; no wake-up
//! asked for when nothing would change.

use super::time::{Instant, Span};

/// How many may be started in the first second of demand.
pub const STARTS_FIRST: u32 = 4;

const STARTS_PERIOD: Span = Span::from_secs(1);

/// The bounds of a pool's size, in upstreams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Running, spare or not, at the least. Above `max` it counts as `max`.
    pub min: u32,
    /// Running at the most, those that are starting included.
    pub max: u32,
    /// Idle at the least, while `max` allows it.
    pub min_spare: u32,
    /// How long one must have been superfluous before it is retired; zero = for ever.
    pub idle_timeout: Span,
    /// Started per second at the most; 0 = no limit, and no slow start either.
    pub spawn_rate_max: u32,
    /// Starting at the same time at the most; 0 = no limit.
    pub starting_max: u32,
}

/// What a pool has at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Asked for, not up yet.
    pub starting: u32,
    /// Up, with nothing to do.
    pub idle: u32,
    /// Up, with something to do.
    pub busy: u32,
    /// On their way out: they take room, and nothing else is to be expected of them.
    pub leaving: u32,
    /// Upstreams it would take to serve what waits (with one slot each: the requests that wait).
    pub queued: u32,
}

impl Census {
    /// All that are there to stay.
    fn total(&self) -> u32 {
        self.starting.saturating_add(self.idle).saturating_add(self.busy)
    }
}

/// What to do about it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decision {
    /// Start so many.
    pub open: u32,
    /// Close so many of the idle ones.
    pub retire: u32,
    /// Ask again then, even if nothing has changed by then.
    pub wake_at: Option<Instant>,
}

/// Tells a pool how many upstreams to open or retire. Ask whenever a number in its [`Census`] has changed; each decision is
/// taken to be carried out before the next census.
#[derive(Debug, Clone)]
pub struct Sizing {
    limits: Limits,
    surplus: Option<Surplus>,
    starts: Starts,
}

impl Sizing {
    /// A pool that has nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            surplus: None,
            starts: Starts::default(),
        }
    }

    /// The bounds in force.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// New bounds, from now on. What is above a lower `max` is retired as it becomes idle. The same bounds change nothing.
    pub fn set_limits(&mut self, limits: Limits) {
        if self.limits != limits {
            self.limits = limits;
            self.surplus = None;
        }
    }

    /// Whether `want` would open some, or would but for the rate. Who cannot open any now does not ask it then, so that what
    /// it grants is used.
    pub fn lacks(&self, census: Census) -> bool {
        self.missing(census) != (0, 0)
    }

    /// What to do at `now`.
    pub fn want(&mut self, now: Instant, census: Census) -> Decision {
        let Limits { min, max, .. } = self.limits;
        let total = census.total();
        if total > max {
            self.surplus = None;
            return Decision {
                retire: census.idle.min(total - max),
                ..Decision::default()
            };
        }
        if self.needs(census) != (0, 0) {
            self.surplus = None;
            let (populate, demand) = self.missing(census);
            return self.open(now, populate, demand);
        }
        self.retire(now, census, total.saturating_sub(min.min(max)))
    }

    /// What of it there is room for, and of what may start at the same time.
    fn missing(&self, census: Census) -> (u32, u32) {
        let (populate, demand) = self.needs(census);
        let taken = census.total().saturating_add(census.leaving);
        let starting = match self.limits.starting_max {
            0 => u32::MAX,
            most => most.saturating_sub(census.starting),
        };
        let room = self.limits.max.saturating_sub(taken).min(starting);
        (populate.min(room), demand.min(room))
    }

    /// Up to the minimum; for what waits and for the spares.
    fn needs(&self, census: Census) -> (u32, u32) {
        let Limits {
            min, max, min_spare, ..
        } = self.limits;
        let ready = census.idle.saturating_add(census.starting);
        let demand = census.queued.saturating_add(min_spare).saturating_sub(ready);
        (min.min(max).saturating_sub(census.total()), demand)
    }

    /// Whether something would be missing without one of those that are there, of which `idle` says whether it is idle.
    pub fn needs_all(&self, census: Census, idle: bool) -> bool {
        let without = Census {
            idle: census.idle.saturating_sub(u32::from(idle)),
            busy: census.busy.saturating_sub(u32::from(!idle)),
            ..census
        };
        self.needs(without) != (0, 0)
    }

    fn open(&mut self, now: Instant, populate: u32, demand: u32) -> Decision {
        let need = populate.max(demand);
        if need == 0 {
            return Decision::default();
        }
        if self.limits.spawn_rate_max == 0 {
            return Decision {
                open: need,
                ..Decision::default()
            };
        }
        let open = self.starts.grant(now, self.limits.spawn_rate_max, populate, need);
        let wake_at = (open < need).then(|| self.starts.since + STARTS_PERIOD);
        Decision {
            open,
            retire: 0,
            wake_at,
        }
    }

    fn retire(&mut self, now: Instant, census: Census, above_min: u32) -> Decision {
        let Limits {
            min_spare,
            idle_timeout,
            ..
        } = self.limits;
        if census.idle <= min_spare || above_min == 0 || idle_timeout.is_zero() {
            self.surplus = None;
            return Decision::default();
        }
        let fresh = Surplus {
            since: now,
            lowest: census.idle,
        };
        let mut surplus = self.surplus.unwrap_or(fresh);
        surplus.lowest = surplus.lowest.min(census.idle);
        // A clock that jumped back starts the observation anew.
        surplus.since = surplus.since.min(now);
        let mut retire = 0;
        if now.since(surplus.since) >= idle_timeout {
            retire = surplus.lowest.saturating_sub(min_spare).min(above_min);
            surplus = Surplus {
                since: now,
                lowest: census.idle - retire,
            };
        }
        let more = surplus.lowest > min_spare && above_min > retire;
        self.surplus = more.then_some(surplus);
        Decision {
            open: 0,
            retire,
            wake_at: more.then(|| surplus.since + idle_timeout),
        }
    }
}

/// More idle ones than the minimum of spares, without a break.
#[derive(Debug, Clone, Copy)]
struct Surplus {
    since: Instant,
    /// The fewest idle ones since then.
    lowest: u32,
}

/// The slow start: how many were started in the second that began at `since`, of how many.
#[derive(Debug, Clone, Default)]
struct Starts {
    since: Instant,
    allowed: u32,
    used: u32,
}

impl Starts {
    /// How many of `need` may be started now. The first `populate` of them are not subject to the slow start.
    fn grant(&mut self, now: Instant, rate_max: u32, populate: u32, need: u32) -> u32 {
        let elapsed = now.since(self.since);
        if self.allowed == 0 || elapsed >= STARTS_PERIOD || now < self.since {
            let lasted = self.allowed > 0 && self.used >= self.allowed && elapsed < STARTS_PERIOD * 2;
            let allowed = if lasted {
                self.allowed.saturating_mul(2)
            } else {
                STARTS_FIRST
            };
            *self = Self {
                since: now,
                allowed,
                used: 0,
            };
        }
        self.allowed = self.allowed.min(rate_max);
        let left = self.allowed.saturating_sub(self.used);
        let left_to_populate = rate_max.saturating_sub(self.used).min(populate);
        let granted = need.min(left.max(left_to_populate));
        self.used = self.used.saturating_add(granted);
        granted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits {
        min: 2,
        max: 10,
        min_spare: 2,
        idle_timeout: Span::from_secs(60),
        spawn_rate_max: 0,
        starting_max: 0,
    };

    fn census(starting: u32, idle: u32, busy: u32, queued: u32) -> Census {
        Census {
            starting,
            idle,
            busy,
            queued,
            leaving: 0,
        }
    }

    #[test]
    fn it_is_populated_to_the_minimum_and_then_asks_for_nothing() {
        let mut sizing = Sizing::new(Limits { min: 5, ..LIMITS });
        let now = Instant::from_secs(1);
        assert_eq!(
            sizing.want(now, census(0, 0, 0, 0)),
            Decision {
                open: 5,
                retire: 0,
                wake_at: None
            }
        );
        assert_eq!(sizing.want(now, census(5, 0, 0, 0)), Decision::default());
        assert_eq!(sizing.want(now, census(0, 5, 0, 0)), Decision::default());
    }

    #[test]
    fn spares_are_restored_after_each_hand_out_up_to_the_maximum() {
        let mut sizing = Sizing::new(LIMITS);
        let now = Instant::from_secs(1);
        assert_eq!(sizing.want(now, census(0, 1, 1, 0)).open, 1);
        assert_eq!(sizing.want(now, census(1, 1, 1, 0)).open, 0);
        assert_eq!(sizing.want(now, census(0, 1, 9, 0)).open, 0);
        assert_eq!(sizing.want(now, census(0, 0, 8, 5)).open, 2);
    }

    #[test]
    fn on_demand_means_none_until_asked_and_none_afterwards() {
        let limits = Limits {
            min: 0,
            min_spare: 0,
            ..LIMITS
        };
        let mut sizing = Sizing::new(limits);
        let mut now = Instant::from_secs(1);
        assert_eq!(sizing.want(now, census(0, 0, 0, 0)), Decision::default());
        assert_eq!(sizing.want(now, census(0, 0, 0, 1)).open, 1);
        assert_eq!(sizing.want(now, census(1, 0, 0, 1)).open, 0);
        let idle = sizing.want(now, census(0, 1, 0, 0));
        assert_eq!(
            idle,
            Decision {
                open: 0,
                retire: 0,
                wake_at: Some(now + limits.idle_timeout)
            }
        );
        now += limits.idle_timeout;
        assert_eq!(
            sizing.want(now, census(0, 1, 0, 0)),
            Decision {
                open: 0,
                retire: 1,
                wake_at: None
            }
        );
    }

    #[test]
    fn what_is_retired_is_the_lowest_surplus_seen() {
        let mut sizing = Sizing::new(LIMITS);
        let mut now = Instant::from_secs(1);
        sizing.want(now, census(0, 8, 2, 0));
        now += Span::from_secs(30);
        sizing.want(now, census(0, 5, 5, 0));
        now += Span::from_secs(30);
        assert_eq!(sizing.want(now, census(0, 8, 2, 0)).retire, 3);
        // And one moment without surplus starts the observation anew.
        sizing.want(now, census(0, 2, 5, 0));
        now += Span::from_secs(59);
        assert_eq!(sizing.want(now, census(0, 5, 2, 0)).retire, 0);
        now += Span::from_secs(59);
        assert_eq!(sizing.want(now, census(0, 5, 2, 0)).retire, 0);
        now += Span::from_secs(1);
        assert_eq!(sizing.want(now, census(0, 5, 2, 0)).retire, 3);
    }

    #[test]
    fn starts_double_each_second_while_demand_lasts_and_begin_anew_after_it() {
        let mut sizing = Sizing::new(Limits {
            min: 0,
            max: 1_000,
            min_spare: 0,
            spawn_rate_max: 20,
            ..LIMITS
        });
        let mut now = Instant::from_secs(1);
        let mut running = 0;
        for expected in [4, 8, 16, 20, 20] {
            let decision = sizing.want(now, census(0, 0, running, 500));
            assert_eq!(decision.open, expected);
            assert_eq!(sizing.want(now, census(0, 0, running, 500)).open, 0);
            running += decision.open;
            assert_eq!(decision.wake_at, Some(now + STARTS_PERIOD));
            now += STARTS_PERIOD;
        }
        now += Span::from_secs(10);
        assert_eq!(sizing.want(now, census(0, 0, running, 500)).open, 4);
    }

    #[test]
    fn populating_skips_the_slow_start_but_keeps_the_rate() {
        let mut sizing = Sizing::new(Limits {
            min: 50,
            max: 100,
            spawn_rate_max: 30,
            ..LIMITS
        });
        let now = Instant::from_secs(1);
        let first = sizing.want(now, census(0, 0, 0, 0));
        assert_eq!(
            first,
            Decision {
                open: 30,
                retire: 0,
                wake_at: Some(now + STARTS_PERIOD)
            }
        );
        assert_eq!(sizing.want(now + STARTS_PERIOD, census(30, 0, 0, 0)).open, 20);
    }

    #[test]
    fn a_lower_maximum_retires_as_they_become_idle() {
        let mut sizing = Sizing::new(LIMITS);
        sizing.set_limits(Limits { max: 4, ..LIMITS });
        let now = Instant::from_secs(1);
        assert_eq!(
            sizing.want(now, census(0, 2, 7, 3)),
            Decision {
                open: 0,
                retire: 2,
                wake_at: None
            }
        );
        assert_eq!(sizing.want(now, census(0, 0, 7, 3)), Decision::default());
    }

    #[test]
    fn alternating_load_does_not_make_it_flap() {
        let mut sizing = Sizing::new(Limits { max: 20, ..LIMITS });
        let (mut now, mut running) = (Instant::from_secs(1), 0);
        let (mut changes, mut changes_after_warming_up) = (0, 0);
        for second in 0..3_600 {
            // Ten busy for half a minute, none for the next.
            let busy = if second / 30 % 2 == 0 { 10u32.min(running) } else { 0 };
            let decision = sizing.want(now, census(0, running - busy, busy, 0));
            running = running + decision.open - decision.retire;
            changes += decision.open + decision.retire;
            if second > 120 {
                changes_after_warming_up += decision.open + decision.retire;
            }
            now += Span::from_secs(1);
        }
        assert!(changes > 0);
        assert_eq!(changes_after_warming_up, 0);
        assert_eq!(running, 12);
    }

    /// A pool that does what it is told, under random arrivals, answers, start-ups, deaths and clock jumps.
    #[derive(Debug, Clone)]
    enum Step {
        Arrive(u32),
        Answer(u32),
        Up(u32),
        Die(u32),
        /// Busy ones are told to leave, and are gone some time later.
        Leave(u32),
        Gone(u32),
        Wait(u64),
        JumpBack(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            3 => (1u32..6).prop_map(Step::Arrive),
            3 => (1u32..6).prop_map(Step::Answer),
            3 => (1u32..8).prop_map(Step::Up),
            1 => (1u32..3).prop_map(Step::Die),
            1 => (1u32..3).prop_map(Step::Leave),
            1 => (1u32..4).prop_map(Step::Gone),
            3 => (0u64..40_000).prop_map(Step::Wait),
            1 => (0u64..40_000).prop_map(Step::JumpBack),
        ];
        prop::collection::vec(step, 1..80)
    }

    fn limits() -> impl Strategy<Value = Limits> {
        (0u32..6, 1u32..12, 0u32..5, 0u64..90, 0u32..12, 0u32..4).prop_map(
            |(min, max, min_spare, idle_s, spawn_rate_max, starting_max)| Limits {
                min,
                max,
                min_spare,
                idle_timeout: Span::from_secs(idle_s),
                spawn_rate_max,
                starting_max,
            },
        )
    }

    proptest! {
        #[test]
        fn bounds_hold_whatever_happens(limits in limits(), steps in steps()) {
            let mut sizing = Sizing::new(limits);
            let mut now = Instant::from_secs(1_000);
            let mut pool = Census::default();
            for step in steps {
                match step {
                    Step::Arrive(n) => pool.queued += n,
                    Step::Answer(n) => {
                        let n = n.min(pool.busy);
                        pool.busy -= n;
                        pool.idle += n;
                    }
                    Step::Up(n) => {
                        let n = n.min(pool.starting);
                        pool.starting -= n;
                        pool.idle += n;
                    }
                    Step::Die(n) => pool.busy -= n.min(pool.busy),
                    Step::Leave(n) => {
                        let n = n.min(pool.busy);
                        pool.busy -= n;
                        pool.leaving += n;
                    }
                    Step::Gone(n) => pool.leaving -= n.min(pool.leaving),
                    Step::Wait(ms) => now += Span::from_millis(ms),
                    Step::JumpBack(ms) => now = now - Span::from_millis(ms),
                }
                let handed_out = pool.queued.min(pool.idle);
                pool = Census {
                    idle: pool.idle - handed_out,
                    busy: pool.busy + handed_out,
                    queued: pool.queued - handed_out,
                    ..pool
                };
                let decision = sizing.want(now, pool);
                prop_assert!(decision.open == 0 || decision.retire == 0, "{decision:?}");
                prop_assert!(decision.retire <= pool.idle);
                let min = limits.min.min(limits.max);
                if decision.retire > 0 {
                    prop_assert!(pool.total() - decision.retire >= min);
                    prop_assert!(pool.idle - decision.retire >= limits.min_spare);
                    prop_assert_eq!(pool.queued, 0);
                }
                pool.starting += decision.open;
                pool.idle -= decision.retire;
                prop_assert!(pool.total() + pool.leaving <= limits.max, "{pool:?}");
                prop_assert!(limits.starting_max == 0 || pool.starting <= limits.starting_max, "{pool:?}");

                let ready = pool.starting + pool.idle;
                let satisfied = pool.total() >= min
                    && ready >= limits.min_spare + pool.queued;
                // There is no room, or as many are starting as may be: when that changes it is asked again.
                let held = pool.total() + pool.leaving == limits.max
                    || (limits.starting_max > 0 && pool.starting == limits.starting_max);
                let satisfied = satisfied || held;
                prop_assert!(satisfied || limits.spawn_rate_max > 0, "{pool:?}");
                // What the rate holds back is not forgotten, and what is done wakes nobody.
                prop_assert!(satisfied || decision.wake_at.is_some_and(|at| at > now), "{pool:?} {decision:?}");
                if pool.idle <= limits.min_spare && satisfied {
                    prop_assert_eq!(decision.wake_at, None);
                }
                if limits.spawn_rate_max > 0 {
                    prop_assert!(decision.open <= limits.spawn_rate_max);
                }
            }
        }

        /// Left alone with nothing to do, a pool shrinks to what it must keep within two idle timeouts, then sleeps.
        #[test]
        fn an_idle_pool_comes_to_rest(limits in limits(), idle in 0u32..12) {
            prop_assume!(!limits.idle_timeout.is_zero());
            let limits = Limits { starting_max: 0, ..limits };
            let mut sizing = Sizing::new(limits);
            let start = Instant::from_secs(1_000);
            let (mut now, mut pool) = (start, Census { idle: idle.min(limits.max), ..Census::default() });
            let before = pool.total();
            for _ in 0..200 {
                let decision = sizing.want(now, pool);
                pool.idle = pool.idle + decision.open - decision.retire;
                match decision.wake_at {
                    Some(at) => now = at,
                    None => break,
                }
            }
            prop_assert_eq!(sizing.want(now, pool).wake_at, None);
            let kept = limits.min.max(limits.min_spare).min(limits.max);
            prop_assert_eq!(pool.total(), kept);
            if before >= kept {
                prop_assert!(now.since(start) <= limits.idle_timeout * 2);
            }
        }
    }
}
