//! Requests that keep their upstream after their answer, and what that is to others.

use super::*;
use crate::core::request::Route;
use crate::core::server::LaneLimits;
use crate::core::upstream::Cause;

const MANY: u8 = 0;
const ALONE: u8 = 1;

struct Directory {
    pool: Pool<u32>,
    now: Instant,
    effects: Vec<Effect<u32>>,
    opening: Vec<UpstreamId>,
    sent: Vec<(Ticket, UpstreamId)>,
    failed: Vec<(u32, Reason)>,
}

impl Directory {
    /// One server with a lane for many and one for one request at a time on `alone` connections, and so many pending in all.
    fn new(alone: u32, pending_max: u32) -> Self {
        Self::with(alone, pending_max, false)
    }

    /// And another one for when that is down.
    fn with(alone: u32, pending_max: u32, standby: bool) -> Self {
        let many = LaneConfig {
            slots: 0,
            cancel: CancelRule::Abandon,
            owned: false,
            probes: false,
            idle_timeout: None,
            spawn_rate_max: 0,
            opening_max: 0,
            lingers: None,
            pack: 8,
        };
        let one = LaneConfig {
            slots: 1,
            cancel: CancelRule::CloseReopen,
            ..many
        };
        let limits = |min, max| LaneLimits {
            min,
            max,
            min_spare: 0,
            upstream_pending_max: 0,
        };
        let server = ServerConfig {
            key: 1,
            weight: 1,
            pending_max,
            marks: 0,
            lanes: vec![limits(1, 1), limits(0, alone)],
            check: None,
            slow_start: Span::ZERO,
        };
        let mut tiers = vec![(Kind::LeastBusy, vec![server.clone()])];
        if standby {
            tiers.push((Kind::LeastBusy, vec![ServerConfig { key: 2, ..server }]));
        }
        let config = PoolConfig {
            lanes: vec![many, one],
            tiers,
            queue_max: 100,
            health: HealthConfig {
                probe_interval: None,
                ..HealthConfig::default()
            },
        };
        let mut directory = Directory {
            pool: Pool::new(1),
            now: Instant::from_micros(1),
            effects: Vec::new(),
            opening: Vec::new(),
            sent: Vec::new(),
            failed: Vec::new(),
        };
        directory.pool.configure(config, directory.now, &mut directory.effects);
        directory.note();
        directory.all_up();
        directory
    }

    fn note(&mut self) {
        for effect in self.effects.drain(..) {
            match effect {
                Effect::Open { upstream, .. } => self.opening.push(upstream),
                Effect::Send { ticket, upstream } => self.sent.push((ticket, upstream)),
                Effect::Failed { user, reason, .. } => self.failed.push((user, reason)),
                Effect::Close { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        self.pool.check_invariants().unwrap();
    }

    fn all_up(&mut self) {
        for id in std::mem::take(&mut self.opening) {
            self.pool.upstream_up(id, self.now, &mut self.effects);
        }
        self.note();
    }

    fn submit(&mut self, lane: u8, user: u32) -> Ticket {
        let request = Request {
            class: Class { lane, retry: true },
            deadline: self.now + Span::from_secs(10),
            queue_wait_max: None,
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        let ticket = self.pool.submit(request, user, self.now, &mut self.effects).unwrap();
        self.note();
        self.all_up();
        ticket
    }

    /// Its answer has come, and its upstream is kept for it.
    fn keep(&mut self, ticket: Ticket) {
        let from = self.pool.upstream_of(ticket).unwrap();
        let kept = self
            .pool
            .keep(ticket, from, self.now + Span::from_secs(1), self.now, &mut self.effects);
        assert!(kept.is_some() && self.pool.is_kept(ticket));
        self.note();
    }

    fn finish(&mut self, ticket: Ticket) -> bool {
        let finished = self.pool.finish(ticket, self.now, &mut self.effects);
        self.note();
        finished
    }

    fn answer(&mut self, ticket: Ticket) {
        let from = self.pool.upstream_of(ticket).unwrap();
        let done = Settlement::Done(Verdict::Well);
        assert!(
            self.pool
                .reply(ticket, from, done, self.now, &mut self.effects)
                .is_some()
        );
        self.note();
    }

    /// The upstream that has it is gone.
    fn lose(&mut self, ticket: Ticket) -> UpstreamId {
        let lost = self.pool.upstream_of(ticket).unwrap();
        self.pool.upstream_down(lost, Cause::Lost, self.now, &mut self.effects);
        self.note();
        lost
    }

    fn is_sent(&self, ticket: Ticket) -> Option<bool> {
        self.pool.is_sent(ticket)
    }
}

#[test]
fn what_is_kept_is_nobody_else_s_and_no_load() {
    let mut directory = Directory::new(1, 0);
    let first = directory.submit(ALONE, 1);
    directory.keep(first);
    let second = directory.submit(ALONE, 2);
    assert_eq!(directory.is_sent(second), Some(false));
    assert!(directory.pool.is_short(ALONE) && !directory.pool.is_short(MANY));
    assert_eq!(directory.pool.report(directory.now)[0].in_flight, 0);
    assert!(directory.finish(first));
    assert_eq!(directory.is_sent(second), Some(true));
    assert!(!directory.pool.is_short(ALONE));
    assert!(!directory.finish(first) && !directory.finish(second), "nothing is kept");
    assert_eq!(directory.pool.stats().answered, 1);
}

#[test]
fn the_last_question_makes_it_a_request_again_with_a_deadline_of_its_own() {
    let mut directory = Directory::new(1, 0);
    let ticket = directory.submit(ALONE, 1);
    directory.keep(ticket);
    let to = directory.pool.upstream_of(ticket);
    directory.now += Span::from_secs(9);
    let deadline = directory.now + Span::from_secs(5);
    assert_eq!(directory.pool.ask_on(ticket, deadline, directory.now), to);
    assert_eq!(directory.pool.ask_on(ticket, deadline, directory.now), None, "once");
    assert!(!directory.finish(ticket), "it is owed an answer");
    assert_eq!(directory.pool.report(directory.now)[0].in_flight, 1);
    directory.now += Span::from_secs(4);
    directory.pool.tick(directory.now, &mut directory.effects);
    directory.note();
    assert_eq!(directory.failed, []);
    directory.answer(ticket);
    assert_eq!(directory.pool.report(directory.now)[0].in_flight, 0);
}

#[test]
fn what_is_kept_ends_no_sooner_than_it_was_said_and_then_by_its_deadline() {
    let mut directory = Directory::new(1, 0);
    let ticket = directory.submit(ALONE, 7);
    directory.now += Span::from_millis(9_900);
    directory.keep(ticket);
    directory.now += Span::from_millis(900);
    directory.pool.tick(directory.now, &mut directory.effects);
    directory.note();
    assert!(directory.pool.is_kept(ticket));
    directory.now += Span::from_millis(200);
    directory.pool.tick(directory.now, &mut directory.effects);
    directory.note();
    assert_eq!(directory.failed, [(7, Reason::Deadline)]);
}

#[test]
fn where_its_upstream_is_lost_it_is_sent_once_more() {
    let mut directory = Directory::new(2, 0);
    let ticket = directory.submit(ALONE, 1);
    directory.keep(ticket);
    let lost = directory.lose(ticket);
    directory.all_up();
    assert!(!directory.pool.is_kept(ticket));
    assert_eq!(directory.is_sent(ticket), Some(true));
    assert_ne!(directory.pool.upstream_of(ticket), Some(lost));
    directory.keep(ticket);
    directory.lose(ticket);
    assert_eq!(directory.failed, [(1, Reason::UpstreamLost { delivered: false })]);
}

#[test]
fn a_last_question_whose_caller_has_left_is_not_sent_elsewhere() {
    let mut directory = Directory::new(2, 0);
    let ticket = directory.submit(ALONE, 1);
    directory.keep(ticket);
    directory.pool.ask_on(ticket, Instant::MAX, directory.now).unwrap();
    directory.pool.leave_be(ticket);
    directory.lose(ticket);
    assert_eq!(directory.failed, [(1, Reason::UpstreamLost { delivered: false })]);
    assert_eq!(directory.sent.len(), 1);
}

/// A server's bound is one for all its lanes.
#[test]
fn whoever_waits_for_a_server_s_bound_goes_on_when_another_lane_has_less() {
    for end in ["answered", "kept", "canceled", "answered by one that leaves"] {
        let mut directory = Directory::new(1, 1);
        let alone = directory.submit(ALONE, 1);
        let other = directory.submit(MANY, 2);
        assert_eq!(directory.is_sent(other), Some(false));
        match end {
            "kept" => directory.keep(alone),
            "canceled" => {
                directory.pool.cancel(alone, directory.now, &mut directory.effects);
                directory.note();
            }
            "answered" => directory.answer(alone),
            _ => {
                let from = directory.pool.upstream_of(alone).unwrap();
                directory
                    .pool
                    .upstream_draining(from, directory.now, &mut directory.effects);
                directory.note();
                directory.answer(alone);
            }
        }
        assert_eq!(directory.is_sent(other), Some(true), "{end}");
    }
}

/// Servers to which nothing is sent now have room, and that helps nobody.
#[test]
fn those_who_wait_are_short_of_upstreams_whatever_other_servers_have() {
    let mut directory = Directory::with(1, 0, true);
    let first = directory.submit(ALONE, 1);
    assert!(!directory.pool.is_short(ALONE));
    directory.keep(first);
    let second = directory.submit(ALONE, 2);
    assert_eq!(directory.is_sent(second), Some(false));
    assert!(directory.pool.is_short(ALONE));
    directory.finish(first);
    assert!(!directory.pool.is_short(ALONE));
}

#[test]
fn an_answer_and_the_last_question_s_are_noted_as_one() {
    let mut directory = Directory::new(1, 0);
    let ticket = directory.submit(ALONE, 1);
    directory.keep(ticket);
    directory.pool.ask_on(ticket, Instant::MAX, directory.now).unwrap();
    directory.answer(ticket);
    assert_eq!(directory.pool.report(directory.now)[0].answered, 1);
    assert_eq!(directory.pool.stats().answered, 1);
}
