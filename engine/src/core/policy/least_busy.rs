//! The one with the fewest requests in flight for its weight; among those, the one that is predicted to be done with them
//! first; among those (the idle ones above all), one at random in proportion to the weights. At random and not by turns,
//! because turns fall into step with servers whose answers take equally long, and then always favour the same one.

use super::super::rng::Rng;
use super::{Candidate, Offer};
use std::cmp::Ordering;

pub(super) fn choose(offer: &Offer<'_>, rng: &mut Rng) -> Option<usize> {
    let (_, least) = offer.eligible().min_by(|(_, a), (_, b)| by_load(offer, a, b))?;
    let tied = || {
        offer
            .eligible()
            .filter(|(_, c)| by_load(offer, c, least) == Ordering::Equal)
    };
    let weight = |c: &Candidate| u64::from(offer.weight(c));
    let mut lot = rng.below(tied().map(|(_, c)| weight(c)).sum());
    for (position, candidate) in tied() {
        if lot < weight(candidate) {
            return Some(position);
        }
        lot -= weight(candidate);
    }
    None
}

/// Compares in flight / weight, then the predicted time until they are answered / weight, without dividing.
fn by_load(offer: &Offer<'_>, a: &Candidate, b: &Candidate) -> Ordering {
    let in_flight = |c: &Candidate, weight_of_other: u32| u128::from(c.in_flight) * u128::from(weight_of_other);
    let (load_a, load_b) = (in_flight(a, offer.weight(b)), in_flight(b, offer.weight(a)));
    // Whose latency is unknown is not punished or favoured for it.
    let comparable = !a.latency.is_zero() && !b.latency.is_zero();
    let busy = |c: &Candidate, load: u128| {
        if comparable {
            load * u128::from(c.latency.as_micros())
        } else {
            0
        }
    };
    load_a.cmp(&load_b).then_with(|| busy(a, load_a).cmp(&busy(b, load_b)))
}
