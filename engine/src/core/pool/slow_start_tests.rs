//! Each policy beside a model of one line: a server that came back gets its weight's part of all requests, times how far it
//! has come.

use super::*;
use crate::core::rng::Rng;
use crate::core::server::LaneLimits;
use crate::core::upstream::Cause;
use proptest::prelude::*;
use std::collections::VecDeque;

const ALL: [Kind; 5] = [
    Kind::RoundRobin,
    Kind::Weighted,
    Kind::BestOfTwo,
    Kind::LeastBusy,
    Kind::ByHash,
];
const SLOW_START: Span = Span::from_secs(100);

struct Tested {
    pool: Pool<u32>,
    effects: Vec<Effect<u32>>,
    now: Instant,
    /// The server of each upstream.
    upstreams: Vec<(UpstreamId, usize)>,
    in_flight: VecDeque<(Ticket, UpstreamId)>,
    counts: Vec<u64>,
    keys: Rng,
}

impl Tested {
    fn new(kind: Kind, weights: &[u32], seed: u64) -> Tested {
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
        let server = |(key, weight): (usize, &u32)| ServerConfig {
            key: key as u64,
            weight: *weight,
            pending_max: 0,
            marks: 0,
            lanes: vec![limits],
            check: None,
            slow_start: SLOW_START,
        };
        let config = PoolConfig {
            lanes: vec![lane],
            tiers: vec![(kind, weights.iter().enumerate().map(server).collect())],
            queue_max: 10,
            health: HealthConfig::default(),
        };
        let mut tested = Tested {
            pool: Pool::new(seed),
            effects: Vec::new(),
            now: Instant::from_secs(1_000),
            upstreams: Vec::new(),
            in_flight: VecDeque::new(),
            counts: vec![0; weights.len()],
            keys: Rng::new(seed ^ 7),
        };
        tested.pool.configure(config, tested.now, &mut tested.effects);
        tested.carry_out();
        tested
    }

    fn carry_out(&mut self) {
        while !self.effects.is_empty() {
            for effect in std::mem::take(&mut self.effects) {
                match effect {
                    Effect::Open { upstream, server, .. } => {
                        self.upstreams.push((upstream, usize::try_from(server).unwrap()));
                        self.pool.upstream_up(upstream, self.now, &mut self.effects);
                    }
                    Effect::Send { ticket, upstream } => {
                        self.in_flight.push_back((ticket, upstream));
                        let of = self.upstreams.iter().find(|(id, _)| *id == upstream).unwrap();
                        self.counts[of.1] += 1;
                    }
                    Effect::Failed { .. } => panic!("{effect:?}"),
                    _ => {}
                }
            }
        }
        self.pool.check_invariants().unwrap();
    }

    fn loses_and_finds(&mut self, server: usize) {
        let at = self.upstreams.iter().position(|(_, of)| *of == server).unwrap();
        let (id, _) = self.upstreams.swap_remove(at);
        self.pool.upstream_down(id, Cause::Lost, self.now, &mut self.effects);
        self.carry_out();
    }

    /// What part of so many requests the first server gets, `at_once` of which are in flight at a time.
    fn part(&mut self, requests: u32, at_once: usize) -> f64 {
        self.counts.fill(0);
        for user in 0..requests {
            self.pool.turn();
            let request = Request {
                class: Class { lane: 0, retry: true },
                deadline: self.now + Span::from_secs(500),
                queue_wait_max: None,
                affinity: Some(self.keys.next_u64()),
                pin: None,
                route: crate::core::Route::default(),
            };
            self.pool.submit(request, user, self.now, &mut self.effects).unwrap();
            self.carry_out();
            if self.in_flight.len() >= at_once {
                let (ticket, upstream) = self.in_flight.pop_front().unwrap();
                let done = Settlement::Done(Verdict::Well);
                self.pool.reply(ticket, upstream, done, self.now, &mut self.effects);
                self.carry_out();
            }
        }
        self.counts[0] as f64 / f64::from(requests)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn a_server_that_came_back_gets_its_part_times_how_far_it_has_come(
        weights in prop::collection::vec(1u32..10, 2..6),
        at_once in 1usize..20,
        seconds in 0u64..100,
        seed in any::<u64>(),
    ) {
        for kind in ALL {
            let mut tested = Tested::new(kind, &weights, seed);
            tested.part(100, at_once);
            tested.loses_and_finds(0);
            tested.now += Span::from_secs(seconds);
            let whole = match kind {
                Kind::RoundRobin => 1.0 / weights.len() as f64,
                _ => f64::from(weights[0]) / f64::from(weights.iter().sum::<u32>()),
            };
            let come = 0.05 + 0.95 * seconds as f64 / 100.0;
            let part = tested.part(4_000, at_once);
            // Five standard deviations of what is drawn 4,000 times are at most 0.04.
            prop_assert!((part - whole * come).abs() < 0.04, "{kind:?}: {part}, not {}", whole * come);
        }
    }
}

#[test]
fn by_hash_takes_back_key_after_key() {
    let mut tested = Tested::new(Kind::ByHash, &[1, 1], 3);
    tested.loses_and_finds(0);
    let mut before: Vec<u64> = Vec::new();
    for _ in 0..=10 {
        let mut here = Vec::new();
        for key in 0..500 {
            tested.pool.turn();
            tested.counts.fill(0);
            let request = Request {
                class: Class { lane: 0, retry: true },
                deadline: tested.now + Span::from_secs(5_000),
                queue_wait_max: None,
                affinity: Some(Rng::new(key).next_u64()),
                pin: None,
                route: crate::core::Route::default(),
            };
            tested.pool.submit(request, 0, tested.now, &mut tested.effects).unwrap();
            tested.carry_out();
            if tested.counts[0] == 1 {
                here.push(key);
            }
        }
        assert!(before.iter().all(|key| here.contains(key)), "a key went away again");
        before = here;
        tested.now += Span::from_secs(10);
    }
    assert!((200..300).contains(&before.len()), "{}", before.len());
}

#[test]
fn with_nobody_else_and_at_the_first_start_there_is_no_slow_start() {
    let mut alone = Tested::new(Kind::LeastBusy, &[1], 1);
    alone.loses_and_finds(0);
    assert_eq!(alone.part(100, 1), 1.0);
    let mut fresh = Tested::new(Kind::Weighted, &[1, 1], 1);
    assert_eq!(fresh.part(100, 1), 0.5);
    let scores: Vec<_> = fresh.pool.report(fresh.now).iter().map(|one| one.score).collect();
    assert_eq!(scores, [Score::Available; 2]);
    fresh.loses_and_finds(0);
    assert_eq!(fresh.pool.report(fresh.now)[0].score, Score::Degraded);
    fresh.now += SLOW_START;
    assert_eq!(fresh.pool.report(fresh.now)[0].score, Score::Available);
    assert_eq!(fresh.part(100, 1), 0.5);
    assert!(!fresh.pool.slow_starts);
}
