//! How many upstreams a pool has, told and read from outside: one server, one lane of one slot, as for helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test")]

use engine::core::policy::Kind;
use engine::core::time::{Instant, Span};
use engine::core::{
    CancelRule, Cause, Class, Effect, HealthConfig, LaneConfig, LaneLimits, Pool, PoolConfig, Reason, Request, Route,
    ServerConfig, Settlement, Ticket, UpstreamId, Verdict,
};

const IDLE: Span = Span::from_secs(60);

#[test]
fn it_is_populated_to_the_minimum_and_its_spares_are_restored_after_each_hand_out() {
    let mut pool = Tested::new(limits(1, 4, 1), 0);
    assert_eq!(pool.opened(), 1);
    pool.all_up();
    pool.submit();
    assert_eq!(pool.opened(), 1, "the spare was handed out");
    pool.all_up();
    pool.submit();
    assert_eq!(pool.opened(), 1);
    pool.all_up();
    for _ in 0..5 {
        pool.submit();
    }
    assert_eq!(pool.opened(), 1, "four is the maximum");
    assert_eq!(pool.pool.wake_at(), pool.first_timer(), "nothing but deadlines");
}

#[test]
fn spares_that_nobody_needed_are_retired_to_the_lowest_need_and_then_nothing_wakes_it() {
    let mut pool = Tested::new(limits(1, 4, 0), 0);
    pool.all_up();
    for _ in 0..4 {
        pool.submit();
    }
    pool.all_up();
    pool.answer_all();
    assert_eq!(pool.ready(), 4);
    // When the window began, with the first answer, three were still busy.
    pool.wait(IDLE);
    assert_eq!(pool.ready(), 3);
    // Two at once are needed in the second.
    pool.submit();
    pool.submit();
    pool.answer_all();
    pool.wait(IDLE);
    assert_eq!(pool.ready(), 2);
    pool.wait(IDLE);
    assert_eq!(pool.ready(), 1);
    pool.wait(IDLE);
    assert_eq!((pool.ready(), pool.pool.wake_at()), (1, None));
}

#[test]
fn without_a_minimum_it_is_opened_for_who_asks_and_again_after_it_was_retired() {
    let mut pool = Tested::new(limits(0, 4, 0), 0);
    assert_eq!((pool.opened(), pool.pool.wake_at()), (0, None));
    assert!(pool.pool.is_ready(), "it will be opened for who asks");
    for _ in 0..2 {
        pool.submit();
        assert_eq!(pool.opened(), 1, "one that waits opens one");
        pool.all_up();
        assert_eq!(pool.sent.len(), 1);
        pool.answer_all();
        pool.wait(IDLE + IDLE);
        assert_eq!((pool.ready(), pool.pool.wake_at()), (0, None));
    }
}

#[test]
fn one_that_cannot_be_opened_on_demand_fails_who_waits_and_is_tried_for_the_next_after_its_back_off() {
    let mut pool = Tested::new(limits(0, 4, 0), 0);
    pool.submit();
    let failing = pool.opening.pop().unwrap();
    pool.pool
        .upstream_down(failing, Cause::OpenFailed, pool.now, &mut pool.effects);
    pool.carry_out();
    assert_eq!(pool.failed, [Reason::Unavailable]);
    pool.submit();
    assert_eq!(pool.failed.len(), 2, "within the back-off at once");
    pool.wait(Span::from_secs(2));
    assert_eq!(pool.pool.wake_at(), None);
    pool.submit();
    pool.all_up();
    assert_eq!(pool.sent.len(), 1);
}

#[test]
fn the_rate_of_starts_holds_for_what_waits_and_what_it_holds_back_comes_by_itself() {
    let mut pool = Tested::new(limits(0, 20, 0), 8);
    for _ in 0..20 {
        pool.submit();
    }
    assert_eq!(pool.opened(), 4);
    pool.wait(Span::from_secs(1));
    assert_eq!(pool.opened(), 8);
    pool.wait(Span::from_secs(1));
    assert_eq!(pool.opened(), 8);
    pool.wait(Span::from_secs(5));
    assert_eq!(pool.opened(), 0, "no more than wait");
}

#[test]
fn a_pinned_request_is_refused_where_every_slot_is_taken() {
    let mut pool = Tested::with(
        LaneConfig {
            owned: true,
            cancel: CancelRule::Abandon,
            ..lane(0)
        },
        limits(0, 4, 0),
    );
    pool.submit();
    pool.all_up();
    let (_, pin) = pool.sent[0];
    pool.submit_pinned(Some(pin));
    assert_eq!(pool.failed, [Reason::QueueFull]);
    pool.answer_all();
    pool.submit_pinned(Some(pin));
    assert_eq!(pool.sent, [(pool.sent[0].0, pin)]);
}

#[test]
fn one_that_is_opened_for_a_client_is_known_to_be_until_it_is_there() {
    let owned = LaneConfig {
        owned: true,
        cancel: CancelRule::Abandon,
        ..lane(0)
    };
    let mut pool = Tested::with(owned, limits(0, 4, 0));
    pool.submit();
    let first = pool.opening[0];
    assert_eq!(pool.pool.promised_to(first), Some(()));
    pool.all_up();
    assert_eq!(pool.sent, [(pool.sent[0].0, first)]);
    assert_eq!(
        pool.pool.promised_to(first),
        None,
        "it is nobody's to wait for any more"
    );
    // What everybody may use is promised to nobody.
    let mut pool = Tested::new(limits(0, 4, 0), 0);
    pool.submit();
    assert_eq!(pool.pool.promised_to(pool.opening[0]), None);
}

/// A pool and what its effects have told.
struct Tested {
    pool: Pool<()>,
    now: Instant,
    effects: Vec<Effect<()>>,
    opening: Vec<UpstreamId>,
    opened: usize,
    sent: Vec<(Ticket, UpstreamId)>,
    failed: Vec<Reason>,
}

#[test]
fn another_is_opened_before_those_that_are_there_are_full_and_closed_after_calm() {
    let many = LaneConfig {
        slots: 0,
        pack: 8,
        idle_timeout: Some(Span::from_secs(60)),
        ..lane(0)
    };
    let limits = LaneLimits {
        min: 1,
        max: 3,
        min_spare: 0,
        upstream_pending_max: 8,
    };
    let mut tested = Tested::with(many, limits);
    tested.all_up();
    assert_eq!(tested.opened(), 1);
    (0..5).for_each(|_| tested.submit());
    assert_eq!(tested.opened(), 0);
    tested.submit();
    assert_eq!(tested.opened(), 1, "three quarters of 8 are 6");
    tested.submit();
    assert_eq!(tested.opened(), 0, "one is on its way");
    tested.all_up();
    (0..4).for_each(|_| tested.submit());
    assert_eq!(tested.opened(), 0);
    tested.submit();
    assert_eq!(tested.opened(), 1, "three quarters of 16 are 12");
    tested.all_up();
    (0..12).for_each(|_| tested.submit());
    assert_eq!((tested.opened(), tested.ready()), (0, 3), "there may be no more");
    assert_eq!((tested.sent.len(), tested.pool.queued()), (24, 0));
    tested.answer_all();
    tested.wait(Span::from_secs(59));
    assert_eq!(tested.ready(), 3);
    tested.wait(Span::from_secs(120));
    assert_eq!(tested.ready(), 1);
}

impl Tested {
    fn new(limits: LaneLimits, spawn_rate_max: u32) -> Self {
        Self::with(lane(spawn_rate_max), limits)
    }

    fn with(lane: LaneConfig, limits: LaneLimits) -> Self {
        let server = ServerConfig {
            key: 0,
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
                ..HealthConfig::default()
            },
        };
        let mut tested = Self {
            pool: Pool::new(1),
            now: Instant::from_secs(1),
            effects: Vec::new(),
            opening: Vec::new(),
            opened: 0,
            sent: Vec::new(),
            failed: Vec::new(),
        };
        tested.pool.configure(config, tested.now, &mut tested.effects);
        tested.carry_out();
        tested
    }

    fn submit(&mut self) {
        self.submit_pinned(None);
    }

    fn submit_pinned(&mut self, pin: Option<UpstreamId>) {
        let request = Request {
            class: Class { lane: 0, retry: true },
            deadline: self.now + Span::from_secs(3_600),
            queue_wait_max: None,
            affinity: None,
            pin,
            route: Route::default(),
        };
        self.pool.submit(request, (), self.now, &mut self.effects).unwrap();
        self.carry_out();
    }

    fn all_up(&mut self) {
        for id in std::mem::take(&mut self.opening) {
            self.pool.upstream_up(id, self.now, &mut self.effects);
        }
        self.carry_out();
    }

    fn answer_all(&mut self) {
        while let Some((ticket, id)) = self.sent.pop() {
            let done = Settlement::Done(Verdict::Well);
            self.pool.reply(ticket, id, done, self.now, &mut self.effects);
            self.carry_out();
        }
    }

    fn wait(&mut self, span: Span) {
        let until = self.now + span;
        while let Some(at) = self.pool.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.pool.turn();
            self.pool.tick(self.now, &mut self.effects);
            self.carry_out();
        }
        self.now = until;
    }

    /// Since it was asked last.
    fn opened(&mut self) -> usize {
        std::mem::take(&mut self.opened)
    }

    fn ready(&self) -> u32 {
        self.pool.report(self.now)[0].ready[0]
    }

    fn first_timer(&self) -> Option<Instant> {
        // The check for a server that owes bytes comes first.
        Some(self.now + HealthConfig::default().suspect_after)
    }

    fn carry_out(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Open { upstream, .. } => {
                    self.opening.push(upstream);
                    self.opened += 1;
                }
                Effect::Send { ticket, upstream } => self.sent.push((ticket, upstream)),
                Effect::Failed { reason, .. } => self.failed.push(reason),
                _ => {}
            }
        }
        self.pool.check_invariants().unwrap();
    }
}

fn lane(spawn_rate_max: u32) -> LaneConfig {
    LaneConfig {
        slots: 1,
        cancel: CancelRule::InterruptThenKill { grace: Span::ZERO },
        owned: false,
        probes: false,
        idle_timeout: Some(IDLE),
        spawn_rate_max,
        opening_max: 0,
        lingers: None,
        pack: 1,
    }
}

fn limits(min: u32, max: u32, min_spare: u32) -> LaneLimits {
    LaneLimits {
        min,
        max,
        min_spare,
        upstream_pending_max: 0,
    }
}
