//! Which of the servers that could take a request does take it: one small file for each policy.
//!
//! What all have in common:
//! - only what is available is offered, and something offered is always chosen;
//! - a server of weight 0 is chosen only if no server with a weight is offered;
//! - nothing is allocated, and the cost is linear in the number of candidates.

mod best_of_two;
mod by_hash;
mod least_busy;
mod round_robin;
mod weighted;

use super::rng::Rng;
use super::time::{Instant, Span};
use round_robin::RoundRobin;
use weighted::Weighted;

/// A server that could take the request now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which server of the tier it is; below the number given to [`Policy::new`].
    pub index: usize,
    /// What it is called across reloads, whatever its place in the tier; [`Kind::ByHash`] draws its lots by it.
    pub key: u64,
    /// Its share beside the others' weights; 0 = only if there is nobody else.
    pub weight: u32,
    /// Requests that it has not answered yet.
    pub in_flight: u32,
    /// Its mean service time ([`ServiceTime::estimate`](super::service_time::ServiceTime::estimate)); zero = unknown.
    pub latency: Span,
    /// When that was last measured.
    pub sampled_at: Instant,
}

/// How one of several servers is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One after the other, weights aside.
    RoundRobin,
    /// In proportion to the weights, evenly interleaved.
    Weighted,
    /// The better of two taken at random, by latency, load and weight.
    BestOfTwo,
    /// The one with the fewest requests in flight for its weight.
    LeastBusy,
    /// The same one for the same affinity key, as long as it is available.
    ByHash,
}

/// A policy and what it remembers between choices.
#[derive(Debug, Clone)]
pub struct Policy {
    kind: Kind,
    turn: RoundRobin,
    shares: Weighted,
}

impl Policy {
    /// For a tier of `servers` servers.
    pub fn new(kind: Kind, servers: usize) -> Self {
        Self {
            kind,
            turn: RoundRobin::default(),
            shares: Weighted::new(servers),
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The tier has `servers` servers now. Those that stay keep their index.
    pub fn resize(&mut self, servers: usize) {
        self.shares.resize(servers);
    }

    /// The position of the chosen one in `candidates`, which are in ascending order of index and may be any part of the
    /// tier; `None` only if there are none. `affinity` matters to [`Kind::ByHash`] alone, which without one spreads at random.
    pub fn choose(
        &mut self,
        candidates: &[Candidate],
        affinity: Option<u64>,
        now: Instant,
        rng: &mut Rng,
    ) -> Option<usize> {
        if candidates.len() < 2 {
            return (!candidates.is_empty()).then_some(0);
        }
        let offer = Offer::new(candidates);
        match self.kind {
            Kind::RoundRobin => self.turn.choose(&offer),
            Kind::Weighted => self.shares.choose(&offer),
            Kind::BestOfTwo => best_of_two::choose(&offer, now, rng),
            Kind::LeastBusy => least_busy::choose(&offer, rng),
            Kind::ByHash => by_hash::choose(&offer, affinity.unwrap_or_else(|| rng.next_u64())),
        }
    }
}

/// The candidates, with weight 0 read as it is meant.
struct Offer<'a> {
    candidates: &'a [Candidate],
    /// Candidates with a weight. If there are none, all count alike.
    weighty: usize,
}

impl<'a> Offer<'a> {
    fn new(candidates: &'a [Candidate]) -> Self {
        Self {
            candidates,
            weighty: candidates.iter().filter(|c| c.weight > 0).count(),
        }
    }

    fn weight(&self, candidate: &Candidate) -> u32 {
        if self.weighty == 0 { 1 } else { candidate.weight }
    }

    /// Those that may be chosen, with their position.
    fn eligible(&self) -> impl Iterator<Item = (usize, &'a Candidate)> + Clone + '_ {
        self.candidates.iter().enumerate().filter(|(_, c)| self.weight(c) > 0)
    }

    fn eligible_len(&self) -> usize {
        if self.weighty == 0 {
            self.candidates.len()
        } else {
            self.weighty
        }
    }

    fn nth_eligible(&self, n: usize) -> Option<(usize, &'a Candidate)> {
        if self.eligible_len() == self.candidates.len() {
            return self.candidates.get(n).map(|c| (n, c));
        }
        self.eligible().nth(n)
    }
}

#[cfg(test)]
mod tests;
