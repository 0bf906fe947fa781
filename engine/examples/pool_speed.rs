//! What one request costs in the pool, in nanoseconds: `cargo run --release -p usherd-engine --example pool_speed`.
//!
//! A closed loop in virtual time over two servers, once with few requests at a time (each upstream goes from idle to busy
//! and back with every one) and once with many, for a lane of many slots and for a lane of one.
#![allow(clippy::print_stdout, reason = "an example's purpose")]

use std::collections::VecDeque;

use engine::core::policy::Kind;
use engine::core::time::{Instant, Span};
use engine::core::{
    CancelRule, Class, Effect, HealthConfig, LaneConfig, LaneLimits, Pool, PoolConfig, Request, Route, ServerConfig,
    Settlement, Ticket, UpstreamId, Verdict,
};

const ROUNDS: u32 = 2_000_000;

fn main() {
    for (name, lane) in [("many slots", 0), ("one slot", 1)] {
        for at_once in [1, 16] {
            let took = run(lane, at_once);
            println!("{name}, {at_once} at once: {took} ns for each request");
        }
    }
}

fn run(lane: u8, at_once: usize) -> u128 {
    let mut pool: Pool<u32> = Pool::new(1);
    let mut effects = Vec::new();
    let mut in_flight: VecDeque<(Ticket, UpstreamId)> = VecDeque::new();
    let mut now = Instant::from_secs(1);
    pool.configure(config(), now, &mut effects);
    let started = std::time::Instant::now();
    for round in 0..ROUNDS {
        pool.turn();
        now += Span::from_micros(20);
        let request = Request {
            class: Class { lane, retry: true },
            deadline: now + Span::from_secs(30),
            queue_wait_max: None,
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        let submitted = pool.submit(request, round, now, &mut effects);
        assert!(submitted.is_some(), "the pool took it");
        carry_out(&mut pool, now, &mut effects, &mut in_flight);
        if in_flight.len() >= at_once
            && let Some((ticket, upstream)) = in_flight.pop_front()
        {
            pool.reply(ticket, upstream, Settlement::Done(Verdict::Well), now, &mut effects);
            carry_out(&mut pool, now, &mut effects, &mut in_flight);
        }
        if round % 1_000 == 0 && pool.wake_at().is_some_and(|at| at <= now) {
            pool.tick(now, &mut effects);
            carry_out(&mut pool, now, &mut effects, &mut in_flight);
        }
    }
    started.elapsed().as_nanos() / u128::from(ROUNDS)
}

fn carry_out(
    pool: &mut Pool<u32>,
    now: Instant,
    effects: &mut Vec<Effect<u32>>,
    in_flight: &mut VecDeque<(Ticket, UpstreamId)>,
) {
    while !effects.is_empty() {
        for effect in std::mem::take(effects) {
            match effect {
                Effect::Open { upstream, .. } => pool.upstream_up(upstream, now, effects),
                Effect::Send { ticket, upstream } => in_flight.push_back((ticket, upstream)),
                Effect::Probe { upstream } => pool.probe_answered(upstream, now, effects),
                _ => {}
            }
        }
    }
}

fn config() -> PoolConfig {
    let shared = LaneConfig {
        slots: 0,
        cancel: CancelRule::Abandon,
        owned: false,
        probes: true,
        idle_timeout: Some(Span::from_secs(60)),
        spawn_rate_max: 0,
        opening_max: 0,
        lingers: None,
        pack: 8,
    };
    let single = LaneConfig {
        slots: 1,
        cancel: CancelRule::CloseReopen,
        probes: false,
        pack: 1,
        ..shared
    };
    let limits = |min, max| LaneLimits {
        min,
        max,
        min_spare: 0,
        upstream_pending_max: 0,
    };
    let server = |key| ServerConfig {
        key,
        weight: 1,
        pending_max: 0,
        marks: 0,
        lanes: vec![limits(2, 4), limits(0, 16)],
        check: None,
        slow_start: Span::ZERO,
    };
    PoolConfig {
        lanes: vec![shared, single],
        tiers: vec![(Kind::LeastBusy, vec![server(1), server(2)])],
        queue_max: 1_000,
        health: HealthConfig::default(),
    }
}
