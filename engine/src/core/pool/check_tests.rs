//! What checks do to a pool: a server that fails them is put aside though it is alive, and its work is done by others.

use super::*;
use crate::core::check::CheckConfig;
use crate::core::server::LaneLimits;
use crate::core::upstream::Cause;

const CHECK: CheckConfig = CheckConfig {
    interval: Span::from_secs(5),
    timeout: Span::from_secs(2),
    rise: 2,
    fall: 2,
};

struct Tested {
    pool: Pool<u32>,
    effects: Vec<Effect<u32>>,
    now: Instant,
    /// What a check of each server finds; none: it is not answered.
    well: [Option<bool>; 2],
    upstreams: Vec<(UpstreamId, usize)>,
    checks: [u32; 2],
    sent: [u32; 2],
}

impl Tested {
    fn new() -> Tested {
        let lane = LaneConfig {
            slots: 0,
            cancel: CancelRule::Abandon,
            owned: false,
            probes: true,
            idle_timeout: None,
            spawn_rate_max: 0,
            opening_max: 0,
            lingers: None,
            pack: 8,
        };
        let limits = LaneLimits {
            min: 1,
            max: 1,
            min_spare: 0,
            upstream_pending_max: 0,
        };
        let server = |key| ServerConfig {
            key,
            weight: 1,
            pending_max: 0,
            marks: 0,
            lanes: vec![limits],
            check: Some(CHECK),
            slow_start: Span::ZERO,
        };
        let config = PoolConfig {
            lanes: vec![lane],
            tiers: vec![(Kind::RoundRobin, vec![server(0), server(1)])],
            queue_max: 10,
            health: HealthConfig::default(),
        };
        let mut tested = Tested {
            pool: Pool::new(1),
            effects: Vec::new(),
            now: Instant::from_secs(1_000),
            well: [Some(true); 2],
            upstreams: Vec::new(),
            checks: [0; 2],
            sent: [0; 2],
        };
        tested.pool.configure(config, tested.now, &mut tested.effects);
        tested.carry_out();
        tested
    }

    fn carry_out(&mut self) {
        let now = self.now;
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Open { upstream, server, .. } => {
                        self.upstreams.push((upstream, usize::try_from(server).unwrap()));
                        self.pool.upstream_up(upstream, now, &mut self.effects);
                    }
                    Effect::Check { server, number } => {
                        self.checks[usize::try_from(server).unwrap()] += 1;
                        if let Some(well) = self.well[usize::try_from(server).unwrap()] {
                            self.pool.check_ended(server, number, well, now, &mut self.effects);
                        }
                    }
                    Effect::Probe { upstream } => self.pool.probe_answered(upstream, now, &mut self.effects),
                    Effect::Send { ticket, upstream } => {
                        let of = self.upstreams.iter().find(|(id, _)| *id == upstream).unwrap().1;
                        self.sent[of] += 1;
                        let done = Settlement::Done(Verdict::Well);
                        self.pool.reply(ticket, upstream, done, now, &mut self.effects);
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        self.pool.check_invariants().unwrap();
    }

    fn pass(&mut self, span: Span) {
        let until = self.now + span;
        while let Some(at) = self.pool.wake_at().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.pool.tick(self.now, &mut self.effects);
            self.carry_out();
        }
        self.now = until;
    }

    /// Which of the two get requests.
    fn used(&mut self) -> [bool; 2] {
        self.sent = [0; 2];
        for user in 0..10 {
            self.pool.turn();
            let request = Request {
                class: Class { lane: 0, retry: true },
                deadline: self.now + Span::from_secs(5),
                queue_wait_max: None,
                affinity: None,
                pin: None,
                route: crate::core::Route::default(),
            };
            self.pool.submit(request, user, self.now, &mut self.effects).unwrap();
            self.carry_out();
        }
        self.sent.map(|sent| sent > 0)
    }

    fn health(&self) -> Vec<Health> {
        self.pool.report(self.now).iter().map(|one| one.health).collect()
    }
}

#[test]
fn who_fails_its_checks_is_put_aside_though_its_probes_are_answered_and_comes_back() {
    let mut tested = Tested::new();
    tested.pass(Span::from_secs(60));
    assert!(
        tested.checks.iter().all(|checks| (12..=13).contains(checks)),
        "{:?}",
        tested.checks
    );
    assert_eq!(tested.used(), [true, true]);
    tested.well[0] = Some(false);
    tested.pass(CHECK.interval);
    assert_eq!(tested.used(), [true, true], "one failure is not enough");
    assert_eq!(tested.pool.report(tested.now)[0].score, Score::Degraded);
    tested.pass(CHECK.interval);
    assert_eq!(tested.used(), [false, true]);
    tested.pass(Span::from_secs(600));
    assert_eq!(tested.health(), [Health::Ejected, Health::Up]);
    tested.well[0] = Some(true);
    tested.pass(CHECK.interval);
    assert_eq!(tested.used(), [false, true], "one success is not enough");
    tested.pass(CHECK.interval);
    assert_eq!(tested.used(), [true, true]);
}

#[test]
fn a_check_without_an_end_has_failed_in_time_and_its_end_says_nothing_any_more() {
    let mut tested = Tested::new();
    tested.pass(Span::from_secs(20));
    tested.well[1] = None;
    tested.pass(Span::from_secs(13));
    assert_eq!(tested.health(), [Health::Up, Health::Ejected]);
    tested.pool.check_ended(1, 1, true, tested.now, &mut tested.effects);
    tested.carry_out();
    assert_eq!(tested.health(), [Health::Up, Health::Ejected]);
}

#[test]
fn who_failed_its_checks_stays_aside_when_it_is_connected_anew() {
    let mut tested = Tested::new();
    tested.pass(Span::from_secs(20));
    tested.well[0] = Some(false);
    tested.pass(Span::from_secs(20));
    let at = tested.upstreams.iter().position(|(_, of)| *of == 0).unwrap();
    let (id, _) = tested.upstreams.swap_remove(at);
    tested
        .pool
        .upstream_down(id, Cause::Lost, tested.now, &mut tested.effects);
    tested.carry_out();
    assert_eq!(tested.health(), [Health::Ejected, Health::Up]);
    assert_eq!(tested.used(), [false, true]);
    tested.well[0] = Some(true);
    tested.pass(Span::from_secs(20));
    assert_eq!(tested.used(), [true, true]);
}

#[test]
fn where_nobody_else_is_left_one_that_failed_its_checks_is_better_than_none() {
    let mut tested = Tested::new();
    tested.well = [Some(false); 2];
    tested.pass(Span::from_secs(60));
    assert_eq!(tested.health(), [Health::Ejected; 2]);
    assert!(tested.used().contains(&true));
}
