//! The better of two taken at random (Mitzenmacher): nearly as good as looking at all, without everybody running to the
//! one server that looks best at the moment.
//!
//! A server's score is its latency × (in flight + 1) / weight; the lower is better. Three things keep it honest:
//! - **near scores are a coin toss.** The probability of the worse falls from a half, at equal scores, to nothing, at
//!   twice the score; otherwise the noise in two equal servers' figures would decide for one of them for good;
//! - **old figures lose force.** With time each figure moves towards the better of the two, which is also what an
//!   unsampled server counts as: unknown is neither the fastest (all would run to it) nor the slowest (none would);
//! - **the idle are explored.** A server that has not been measured for a while and has nothing in flight is taken now and
//!   then whatever its score, so that one that has recovered is found out, at the price of one request at a time.

use super::super::rng::Rng;
use super::super::service_time::{blend, force};
use super::super::time::{Instant, Span};
use super::{Candidate, Offer};

/// An idle server whose figure is older than this is explored…
const EXPLORE_AFTER: Span = Span::from_secs(5);
/// … with this probability, as a fraction, whenever it is one of the two.
const EXPLORE_CHANCE: (u64, u64) = (1, 16);

/// Longer than any latency, and short enough that twice a score fits its type.
const LATENCY_US_MAX: u64 = 1 << 60;

pub(super) fn choose(offer: &Offer<'_>, now: Instant, rng: &mut Rng) -> Option<usize> {
    let first = rng.index(offer.eligible_len());
    // The second is drawn from the others, so that it is never the first again.
    let others = offer.eligible_len() - 1;
    let second = if others == 0 {
        first
    } else {
        (first + 1 + rng.index(others)) % offer.eligible_len()
    };
    let (a, b) = (offer.nth_eligible(first)?, offer.nth_eligible(second)?);
    if a.0 == b.0 {
        return Some(a.0);
    }
    for (position, candidate) in [a, b] {
        if worth_exploring(candidate, now) && rng.chance(EXPLORE_CHANCE.0, EXPLORE_CHANCE.1) {
            return Some(position);
        }
    }
    let (score_a, score_b) = scores(offer, a.1, b.1, now);
    Some(if toss(score_a, score_b, rng) { a.0 } else { b.0 })
}

fn worth_exploring(candidate: &Candidate, now: Instant) -> bool {
    let unknown = candidate.latency.is_zero() || now.since(candidate.sampled_at) >= EXPLORE_AFTER;
    unknown && candidate.in_flight == 0
}

/// Both scores, each multiplied by both weights instead of divided by its own.
fn scores(offer: &Offer<'_>, a: &Candidate, b: &Candidate, now: Instant) -> (u128, u128) {
    let latency = |c: &Candidate| c.latency.as_micros().min(LATENCY_US_MAX);
    let better = match (latency(a), latency(b)) {
        (0, known) | (known, 0) => known.max(1),
        (a_us, b_us) => a_us.min(b_us),
    };
    let score = |c: &Candidate, weight_of_other: u32| {
        let known = if c.latency.is_zero() {
            0
        } else {
            force(now.since(c.sampled_at))
        };
        let latency_us = blend(better, latency(c), known);
        u128::from(latency_us) * (u128::from(c.in_flight) + 1) * u128::from(weight_of_other)
    };
    (score(a, offer.weight(b)), score(b, offer.weight(a)))
}

/// Whether the first one is taken.
fn toss(score_a: u128, score_b: u128, rng: &mut Rng) -> bool {
    let (low, high) = (score_a.min(score_b), score_a.max(score_b));
    let worse_is_taken = high < low * 2 && {
        let shift = (128 - low.leading_zeros()).saturating_sub(62);
        let narrow = |n: u128| u64::try_from(n >> shift).unwrap_or(u64::MAX);
        rng.chance(narrow(low * 2 - high), narrow(low * 2))
    };
    (score_a <= score_b) != worse_is_taken
}
