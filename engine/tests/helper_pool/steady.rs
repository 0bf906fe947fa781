//! Under a steady load, random as it is, a pool finds its size and keeps it: helpers do not come and go.

use super::tested::{Settings, Tested};
use engine::core::rng::Rng;
use engine::core::time::{Instant, Span};
use engine::core::{Ticket, UpstreamId};

/// Exponentially distributed, in fixed steps: the sum of coin flips is near enough, and the same on every machine.
fn about(rng: &mut Rng, mean_us: u64) -> Span {
    let mut us = 1 + rng.below(mean_us);
    while rng.chance(1, 2) {
        us += mean_us / 2 + rng.below(mean_us / 2);
    }
    Span::from_micros(us)
}

/// Plays `minutes` of calls, eight a second of half a second each, and gives the starts after the first ten minutes.
fn play(seed: u64, settings: Settings, minutes: u64) -> (usize, usize) {
    let (mut rng, mut pool) = (Rng::new(seed), Tested::new(settings));
    pool.up_all();
    let mut next_call = pool.now;
    let mut working: Vec<(Instant, Ticket, UpstreamId)> = Vec::new();
    let (warm, end) = (
        pool.now + Span::from_secs(600),
        pool.now + Span::from_secs(minutes * 60),
    );
    let (mut starts, mut most) = (0, 0);
    while pool.now < end {
        let first_done = working.iter().map(|(at, ..)| *at).min().unwrap_or(Instant::MAX);
        let at = next_call.min(first_done);
        pool.wait(at.since(pool.now));
        if at == next_call {
            pool.submit();
            next_call = at + about(&mut rng, 62_500);
        } else {
            let done = working.iter().position(|(until, ..)| *until == at).unwrap();
            let (_, call, helper) = working.swap_remove(done);
            pool.answer(call, helper);
        }
        pool.settle_all();
        for (call, helper) in pool.sent().to_vec() {
            if !working.iter().any(|(_, other, _)| *other == call) {
                working.push((pool.now + about(&mut rng, 250_000), call, helper));
            }
        }
        let opened = pool.opened();
        starts += if pool.now > warm { opened } else { 0 };
        most = most.max(pool.ready().len());
    }
    assert!(pool.failed().is_empty(), "{:?}", pool.failed());
    assert!(pool.answered > 1_000, "{} calls", pool.answered);
    (starts, most)
}

#[test]
fn helpers_do_not_come_and_go_under_a_steady_load() {
    let settings = Settings {
        min_spare: 1,
        max: 64,
        idle: Span::from_secs(60),
        spawn_rate: 32,
        starting_max: 8,
        ..Settings::default()
    };
    for seed in 0..4 {
        let (starts, most) = play(seed, settings, 40);
        assert!(most < 30, "{most} helpers at once, for a load of about 4");
        assert!(starts <= 30, "{starts} starts in the last 30 minutes, with seed {seed}");
    }
}

/// With the idle timeout of a second the same load starts and ends helpers all the time: the test above can fail.
#[test]
fn the_same_load_with_a_short_idle_timeout_does_make_them_come_and_go() {
    let settings = Settings {
        min_spare: 1,
        max: 64,
        idle: Span::from_secs(1),
        ..Settings::default()
    };
    let (starts, _) = play(0, settings, 40);
    assert!(starts > 60, "{starts} starts in the last 30 minutes");
}
