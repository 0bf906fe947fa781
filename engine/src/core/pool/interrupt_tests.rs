//! Helpers that are interrupted and killed: one call each, and replaced.

use super::*;
use crate::core::request::Route;
use crate::core::server::LaneLimits;
use crate::core::upstream::Cause;

const GRACE: Span = Span::from_millis(500);

struct Helpers {
    pool: Pool<u32>,
    now: Instant,
    effects: Vec<Effect<u32>>,
    /// Every one that was opened, in that order.
    opened: Vec<UpstreamId>,
}

impl Helpers {
    fn new(max: u32) -> Self {
        let limits = LaneLimits {
            min: max,
            max,
            min_spare: 0,
            upstream_pending_max: 0,
        };
        let lane = LaneConfig {
            slots: 1,
            cancel: CancelRule::InterruptThenKill { grace: GRACE },
            owned: false,
            probes: false,
            idle_timeout: None,
            spawn_rate_max: 0,
            opening_max: 0,
            lingers: None,
            pack: 1,
        };
        let server = ServerConfig {
            key: 1,
            weight: 1,
            pending_max: 0,
            marks: 0,
            lanes: vec![limits],
            check: None,
            slow_start: Span::ZERO,
        };
        let config = PoolConfig {
            lanes: vec![lane],
            tiers: vec![(Kind::LeastBusy, vec![server])],
            queue_max: 100,
            health: HealthConfig {
                probe_interval: None,
                eject_after: u32::MAX,
                ..HealthConfig::default()
            },
        };
        let mut helpers = Helpers {
            pool: Pool::new(1),
            now: Instant::from_micros(1),
            effects: Vec::new(),
            opened: Vec::new(),
        };
        helpers.pool.configure(config, helpers.now, &mut helpers.effects);
        helpers.open();
        helpers
    }

    /// Opens what is wanted; what else is wanted.
    fn open(&mut self) -> Vec<Effect<u32>> {
        let mut others = Vec::new();
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Open { upstream, .. } => {
                        self.opened.push(upstream);
                        self.pool.upstream_up(upstream, self.now, &mut self.effects);
                    }
                    other => others.push(other),
                }
            }
        }
        self.pool.check_invariants().unwrap();
        others
    }

    fn submit(&mut self, user: u32, timeout: Span) -> (Ticket, Vec<Effect<u32>>) {
        let request = Request {
            class: Class { lane: 0, retry: false },
            deadline: self.now + timeout,
            queue_wait_max: None,
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        let ticket = self.pool.submit(request, user, self.now, &mut self.effects).unwrap();
        (ticket, self.open())
    }

    fn pass(&mut self, span: Span) -> Vec<Effect<u32>> {
        self.now += span;
        self.pool.tick(self.now, &mut self.effects);
        self.open()
    }

    fn down(&mut self, id: UpstreamId) -> Vec<Effect<u32>> {
        self.pool.upstream_down(id, Cause::Ended, self.now, &mut self.effects);
        self.open()
    }
}

fn sent(effects: &[Effect<u32>]) -> Option<(Ticket, UpstreamId)> {
    effects.iter().find_map(|effect| match effect {
        Effect::Send { ticket, upstream } => Some((*ticket, *upstream)),
        _ => None,
    })
}

#[test]
fn while_the_only_helper_is_being_stopped_requests_wait() {
    let mut helpers = Helpers::new(1);
    let (first, effects) = helpers.submit(1, Span::from_millis(100));
    let (_, helper) = sent(&effects).unwrap();
    let effects = helpers.pass(Span::from_millis(200));
    assert!(effects.contains(&Effect::Failed {
        ticket: first,
        user: 1,
        reason: Reason::Deadline,
        sent: true
    }));
    assert!(effects.contains(&Effect::Interrupt {
        ticket: first,
        upstream: helper
    }));
    let (second, effects) = helpers.submit(2, Span::from_secs(10));
    assert_eq!(effects, [], "it waits");
    assert!(helpers.pass(GRACE).contains(&Effect::Kill { upstream: helper }));
    let (_, effects) = helpers.submit(3, Span::from_secs(10));
    assert_eq!(effects, [], "it waits too");
    assert_eq!(
        sent(&helpers.down(helper)).map(|(ticket, _)| ticket),
        Some(second),
        "replaced"
    );
    assert_eq!(helpers.opened.len(), 2);
}

#[test]
fn helpers_killed_one_after_the_other_are_replaced_at_once() {
    let mut helpers = Helpers::new(2);
    for round in 0..50_u32 {
        let (_, effects) = helpers.submit(round, Span::from_millis(10));
        let (_, helper) = sent(&effects).expect("a helper is free");
        helpers.pass(Span::from_millis(50));
        helpers.pass(GRACE);
        helpers.down(helper);
        assert_eq!(helpers.opened.len(), 3 + round as usize, "no back-off");
    }
}

#[test]
fn a_helper_that_ends_within_its_grace_is_used_again() {
    let mut helpers = Helpers::new(1);
    let (first, effects) = helpers.submit(1, Span::from_millis(100));
    let (_, helper) = sent(&effects).unwrap();
    helpers.pass(Span::from_millis(200));
    let (second, _) = helpers.submit(2, Span::from_secs(10));
    let done = Settlement::Done(Verdict::Well);
    let late = helpers
        .pool
        .reply(first, helper, done, helpers.now, &mut helpers.effects);
    assert_eq!(late, None);
    assert_eq!(sent(&helpers.open()), Some((second, helper)));
    assert_eq!(helpers.opened.len(), 1);
}
