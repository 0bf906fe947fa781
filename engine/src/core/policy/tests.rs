//! What each policy promises, alone and under a simulated closed loop: so many clients, each with one request in flight.

use super::super::rng::Rng;
use super::super::service_time::ServiceTime;
use super::*;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const ALL: [Kind; 5] = [
    Kind::RoundRobin,
    Kind::Weighted,
    Kind::BestOfTwo,
    Kind::LeastBusy,
    Kind::ByHash,
];

fn offered(index: usize, weight: u32) -> Candidate {
    Candidate {
        index,
        key: index as u64,
        weight,
        in_flight: 0,
        latency: Span::ZERO,
        sampled_at: Instant::ZERO,
    }
}

fn offered_all(weights: &[u32]) -> Vec<Candidate> {
    weights
        .iter()
        .enumerate()
        .map(|(index, &weight)| offered(index, weight))
        .collect()
}

/// How often each of `weights.len()` servers is chosen when all are idle and unmeasured.
fn shares(kind: Kind, weights: &[u32], picks: usize, rng: &mut Rng) -> Vec<u64> {
    let candidates = offered_all(weights);
    let mut policy = Policy::new(kind, weights.len());
    let mut counts = vec![0; weights.len()];
    for _ in 0..picks {
        let affinity = Some(rng.next_u64());
        counts[policy.choose(&candidates, affinity, Instant::ZERO, rng).unwrap()] += 1;
    }
    counts
}

#[derive(Clone, Copy)]
struct Simulated {
    mean: Span,
    weight: u32,
}

#[derive(Clone, Copy, Debug)]
enum Noise {
    None,
    Half,
    Exponential,
}

impl Noise {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "some milliseconds"
    )]
    fn apply(self, mean: Span, rng: &mut Rng) -> Span {
        match self {
            Self::None => mean,
            Self::Half => rng.jitter(mean, 50),
            Self::Exponential => {
                let uniform = (rng.below(1 << 32) as f64 + 0.5) / (1u64 << 32) as f64;
                Span::from_micros((mean.as_micros() as f64 * -uniform.ln()) as u64)
            }
        }
    }
}

/// The requests that each server gets, after a first tenth that is not counted.
fn closed_loop(kind: Kind, servers: &[Simulated], clients: usize, picks: usize, noise: Noise, seed: u64) -> Vec<u64> {
    let mut rng = Rng::new(seed);
    let mut policy = Policy::new(kind, servers.len());
    let mut times = vec![ServiceTime::default(); servers.len()];
    let mut in_flight = vec![0u32; servers.len()];
    let mut counts = vec![0u64; servers.len()];
    let mut answers = BinaryHeap::new();
    let mut now = Instant::from_secs(1);
    for pick in 0..picks {
        if in_flight.iter().sum::<u32>() as usize == clients {
            let Reverse((at, server, took)): Reverse<(Instant, usize, Span)> = answers.pop().unwrap();
            now = at;
            in_flight[server] -= 1;
            times[server].observe(took, now);
        }
        let candidates: Vec<_> = (0..servers.len())
            .map(|index| Candidate {
                index,
                key: index as u64,
                weight: servers[index].weight,
                in_flight: in_flight[index],
                latency: times[index].estimate(now),
                sampled_at: times[index].sampled_at(),
            })
            .collect();
        let server = policy.choose(&candidates, Some(rng.next_u64()), now, &mut rng).unwrap();
        let took = noise.apply(servers[server].mean, &mut rng);
        in_flight[server] += 1;
        answers.push(Reverse((now + took, server, took)));
        counts[server] += u64::from(pick >= picks / 10);
    }
    counts
}

#[test]
fn equal_servers_get_equal_shares_under_every_policy() {
    let server = Simulated {
        mean: Span::from_millis(1),
        weight: 1,
    };
    for kind in ALL {
        for noise in [Noise::None, Noise::Half, Noise::Exponential] {
            for clients in [1, 2, 3, 8, 64] {
                for seed in 0..2 {
                    let counts = closed_loop(kind, &[server; 2], clients, 6_000, noise, seed);
                    let share = counts[0] * 100 / (counts[0] + counts[1]);
                    assert!(
                        (40..=60).contains(&share),
                        "{kind:?} {noise:?} {clients} clients: {counts:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn equal_servers_of_a_larger_tier_get_equal_shares_too() {
    let server = Simulated {
        mean: Span::from_millis(1),
        weight: 1,
    };
    for kind in ALL {
        let counts = closed_loop(kind, &[server; 5], 32, 20_000, Noise::Exponential, 1);
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(least * 3 >= most * 2, "{kind:?}: {counts:?}");
    }
}

#[test]
fn best_of_two_avoids_a_slow_server_but_keeps_exploring_it() {
    let servers = [
        Simulated {
            mean: Span::from_millis(10),
            weight: 1,
        },
        Simulated {
            mean: Span::from_millis(100),
            weight: 1,
        },
    ];
    for clients in [1, 4, 16, 64] {
        for seed in 0..5 {
            let counts = closed_loop(Kind::BestOfTwo, &servers, clients, 20_000, Noise::Half, seed);
            let total: u64 = counts.iter().sum();
            assert!(counts[1] * 5 < total, "{clients} clients: {counts:?}");
            assert!(counts[1] > 0, "{clients} clients: {counts:?}");
        }
    }
}

#[test]
fn best_of_two_notices_that_a_server_has_recovered() {
    let (mut policy, mut rng) = (Policy::new(Kind::BestOfTwo, 2), Rng::new(3));
    let mut times = [ServiceTime::default(), ServiceTime::default()];
    let mut now = Instant::from_secs(1);
    times[0].observe(Span::from_millis(1), now);
    times[1].observe(Span::from_millis(500), now);
    let mut recovered = None;
    for pick in 0..40_000 {
        let candidates: Vec<_> = (0..2)
            .map(|i| Candidate {
                latency: times[i].estimate(now),
                sampled_at: times[i].sampled_at(),
                ..offered(i, 1)
            })
            .collect();
        let chosen = policy.choose(&candidates, None, now, &mut rng).unwrap();
        now += Span::from_millis(1);
        times[chosen].observe(Span::from_millis(1), now);
        if recovered.is_none() && times[1].estimate(now) < Span::from_millis(2) {
            recovered = Some(pick);
        }
    }
    assert!(recovered.is_some_and(|pick| pick < 20_000), "{recovered:?}");
}

#[test]
fn best_of_two_does_not_run_to_an_unmeasured_server() {
    let (mut policy, mut rng) = (Policy::new(Kind::BestOfTwo, 2), Rng::new(3));
    let now = Instant::from_secs(10);
    let mut in_flight = [0, 0];
    for _ in 0..1_000 {
        let known = Candidate {
            latency: Span::from_millis(5),
            sampled_at: now,
            in_flight: in_flight[0],
            ..offered(0, 1)
        };
        let unknown = Candidate {
            in_flight: in_flight[1],
            ..offered(1, 1)
        };
        in_flight[policy.choose(&[known, unknown], None, now, &mut rng).unwrap()] += 1;
    }
    assert!(in_flight.iter().all(|&n| n > 350), "{in_flight:?}");
}

#[test]
fn least_busy_takes_fewest_in_flight_for_the_weight_then_the_one_done_first() {
    let (mut policy, mut rng) = (Policy::new(Kind::LeastBusy, 3), Rng::new(1));
    let busy = |index, weight, in_flight, ms| Candidate {
        in_flight,
        latency: Span::from_millis(ms),
        ..offered(index, weight)
    };
    let mut choose = |c: &[Candidate]| policy.choose(c, None, Instant::ZERO, &mut rng);
    assert_eq!(choose(&[busy(0, 1, 3, 1), busy(1, 1, 2, 9), busy(2, 1, 4, 1)]), Some(1));
    assert_eq!(choose(&[busy(0, 1, 3, 1), busy(1, 4, 8, 1), busy(2, 1, 4, 1)]), Some(1));
    assert_eq!(choose(&[busy(0, 1, 3, 9), busy(1, 1, 3, 5), busy(2, 1, 3, 7)]), Some(1));
}

#[test]
fn least_busy_spreads_over_the_idle_by_weight() {
    let counts = shares(Kind::LeastBusy, &[1, 2, 1], 4_000, &mut Rng::new(1));
    assert!(
        within_5_percent(&counts, &[1_000.0, 2_000.0, 1_000.0], 150.0),
        "{counts:?}"
    );
}

#[test]
fn round_robin_skips_who_is_away_without_doubling_the_neighbour() {
    let (mut policy, mut rng) = (Policy::new(Kind::RoundRobin, 4), Rng::new(1));
    let there = [offered(0, 1), offered(2, 1), offered(3, 1)];
    let order: Vec<_> = (0..6)
        .map(|_| there[policy.choose(&there, None, Instant::ZERO, &mut rng).unwrap()].index)
        .collect();
    assert_eq!(order, [0, 2, 3, 0, 2, 3]);
}

#[test]
fn weighted_is_interleaved() {
    let (mut policy, mut rng) = (Policy::new(Kind::Weighted, 3), Rng::new(1));
    let all = offered_all(&[5, 1, 1]);
    let order: Vec<_> = (0..7)
        .map(|_| policy.choose(&all, None, Instant::ZERO, &mut rng).unwrap())
        .collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn weight_zero_is_chosen_only_if_there_is_nobody_else() {
    let mut rng = Rng::new(1);
    for kind in ALL {
        assert_eq!(shares(kind, &[0, 3, 0], 500, &mut rng), [0, 500, 0], "{kind:?}");
        let among_zeros = shares(kind, &[0, 0], 500, &mut rng);
        assert!(among_zeros.iter().all(|&n| n > 150), "{kind:?}: {among_zeros:?}");
        assert_eq!(
            Policy::new(kind, 1).choose(&[offered(0, 0)], None, Instant::ZERO, &mut rng),
            Some(0)
        );
        assert_eq!(Policy::new(kind, 1).choose(&[], None, Instant::ZERO, &mut rng), None);
    }
}

#[test]
fn by_hash_spreads_requests_without_a_key() {
    let (mut policy, mut rng) = (Policy::new(Kind::ByHash, 2), Rng::new(1));
    let both = offered_all(&[1, 1]);
    let first = (0..1_000)
        .filter(|_| policy.choose(&both, None, Instant::ZERO, &mut rng) == Some(0))
        .count();
    assert!((400..600).contains(&first), "{first}");
}

fn weight_sets() -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![8 => 1u32..50, 1 => Just(0u32), 1 => Just(1_000u32)], 2..8)
}

/// Whether each share of `picks` is within 5 % of its due, or within `slack` choices of it.
fn within_5_percent(counts: &[u64], due: &[f64], slack: f64) -> bool {
    counts
        .iter()
        .zip(due)
        .all(|(&count, &due)| (count as f64 - due).abs() <= (due * 0.05).max(slack))
}

proptest! {
    // 10,000 choices each.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn weighted_keeps_the_weights(weights in weight_sets()) {
        prop_assume!(weights.iter().any(|&w| w > 0));
        let counts = shares(Kind::Weighted, &weights, 10_000, &mut Rng::new(1));
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let due: Vec<_> = weights.iter().map(|&w| 10_000.0 * f64::from(w) / total).collect();
        prop_assert!(within_5_percent(&counts, &due, 1.0), "{counts:?} for {weights:?}");
    }

    #[test]
    fn weighted_keeps_the_weights_while_servers_leave_and_return(
        weights in prop::collection::vec(1u32..50, 3..8),
        seed in any::<u64>(),
    ) {
        let mut rng = Rng::new(seed);
        let mut policy = Policy::new(Kind::Weighted, weights.len());
        let mut there = vec![true; weights.len()];
        let (mut counts, mut due) = (vec![0u64; weights.len()], vec![0.0; weights.len()]);
        for pick in 0..10_000 {
            if pick % 250 == 249 {
                let changed = rng.index(there.len());
                there[changed] = !there[changed];
            }
            let candidates: Vec<_> = offered_all(&weights).into_iter().filter(|c| there[c.index]).collect();
            let total: f64 = candidates.iter().map(|c| f64::from(c.weight)).sum();
            for c in &candidates {
                due[c.index] += f64::from(c.weight) / total;
            }
            if let Some(position) = policy.choose(&candidates, None, Instant::ZERO, &mut rng) {
                counts[candidates[position].index] += 1;
            }
        }
        // Each leave or return may cost a choice or two.
        prop_assert!(within_5_percent(&counts, &due, 20.0), "{counts:?} for {weights:?}, due {due:?}");
    }

    #[test]
    fn by_hash_keeps_the_weights(weights in prop::collection::vec(1u32..10, 2..6), seed in any::<u64>()) {
        let counts = shares(Kind::ByHash, &weights, 10_000, &mut Rng::new(seed));
        let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
        let due: Vec<_> = weights.iter().map(|&w| 10_000.0 * f64::from(w) / total).collect();
        // Random keys: six standard deviations of a binomial share are at most 300.
        prop_assert!(within_5_percent(&counts, &due, 300.0), "{counts:?} for {weights:?}");
    }

}

proptest! {
    #[test]
    fn by_hash_moves_only_the_keys_of_who_left(
        weights in prop::collection::vec(1u32..10, 2..8),
        gone in any::<prop::sample::Index>(),
        key in any::<u64>(),
    ) {
        let (mut policy, mut rng) = (Policy::new(Kind::ByHash, weights.len()), Rng::new(1));
        let all = offered_all(&weights);
        let mut index_for = |c: &[Candidate]| {
            c[policy.choose(c, Some(key), Instant::ZERO, &mut rng).unwrap()].index
        };
        let before = index_for(&all);
        let gone = gone.index(all.len());
        let rest: Vec<_> = all.iter().copied().filter(|c| c.index != gone).collect();
        let after = index_for(&rest);
        if before != gone {
            prop_assert_eq!(before, after);
        }
        prop_assert_eq!(index_for(&all), before);
    }

    /// A reload may put servers elsewhere in their tier: that moves no key.
    #[test]
    fn by_hash_goes_by_the_servers_key_and_not_by_its_place(
        weights in prop::collection::vec(1u32..10, 2..8),
        shift in 1usize..8,
        key in any::<u64>(),
    ) {
        let (mut policy, mut rng) = (Policy::new(Kind::ByHash, weights.len()), Rng::new(1));
        let before = offered_all(&weights);
        let mut after = before.clone();
        after.rotate_left(shift % weights.len());
        for (index, candidate) in after.iter_mut().enumerate() {
            candidate.index = index;
        }
        let mut server_for = |c: &[Candidate]| c[policy.choose(c, Some(key), Instant::ZERO, &mut rng).unwrap()].key;
        prop_assert_eq!(server_for(&before), server_for(&after));
    }

    /// Whatever is offered, one of it is chosen, one with a weight if there is any.
    #[test]
    fn anything_offered_is_answered(
        figures in prop::collection::vec((any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>()), 0..12),
        announced in 0usize..14,
        now in any::<u64>(),
        seed in any::<u64>(),
    ) {
        let candidates: Vec<_> = figures.iter().enumerate().map(|(index, &(weight, in_flight, latency, at))| Candidate {
            index,
            key: index as u64,
            // Extremes, and zeros, more often than chance gives them.
            weight: match weight % 4 { 0 => 0, 1 => u32::MAX, _ => weight },
            in_flight: if in_flight % 4 == 0 { u32::MAX } else { in_flight },
            latency: Span::from_micros(match latency % 4 { 0 => 0, 1 => u64::MAX, _ => latency }),
            sampled_at: Instant::from_micros(at),
        }).collect();
        let mut rng = Rng::new(seed);
        for kind in ALL {
            let mut policy = Policy::new(kind, announced);
            for _ in 0..10 {
                let chosen = policy.choose(&candidates, Some(seed), Instant::from_micros(now), &mut rng);
                prop_assert_eq!(chosen.is_some(), !candidates.is_empty());
                if let Some(position) = chosen {
                    let weighty = candidates.iter().any(|c| c.weight > 0);
                    prop_assert!(candidates[position].weight > 0 || !weighty);
                }
            }
            policy.resize(3);
            prop_assert_eq!(policy.choose(&candidates, None, Instant::ZERO, &mut rng).is_some(), !candidates.is_empty());
        }
    }
}
