//! Slow start: a server that came back gets a share that grows, linearly, from a twentieth to the whole of what its weight
//! gives it, so that cold caches are not met with everything at once.
//!
//! The same for every policy: of a tier's requests, the part that is the server's by its weight (by their number under
//! round-robin), times how far it has come, is given to it by lot; for all the others the policy chooses among the other
//! servers. Under by-hash the lot is drawn by the key, so that a key that has come back stays. With nobody else to choose
//! from there is no slow start.

use super::*;
use crate::core::policy::Kind;

/// The whole share, in parts of which the smallest is one.
pub(super) const WHOLE: u32 = 10_000;
/// What a server begins with.
const FIRST: u32 = WHOLE / 20;

impl Server {
    /// It is used from now on. One that was used before comes back slowly. Not where its checks keep it aside.
    pub(crate) fn returns(&mut self, now: Instant) {
        self.failures_in_a_row = 0;
        if self.checks.is_fallen() {
            self.health = Health::Ejected;
            self.check_at = Some(now);
            return;
        }
        let back = self.was_up && !matches!(self.health, Health::Up | Health::Suspect);
        self.health = Health::Up;
        self.was_up = true;
        if back && !self.config.slow_start.is_zero() {
            self.back_since = Some(now);
        }
    }

    /// What part of its share it gets now, of [`WHOLE`].
    pub(super) fn share(&self, now: Instant) -> u32 {
        let Some(since) = self.back_since else { return WHOLE };
        let (past, whole) = (now.since(since).as_micros(), self.config.slow_start.as_micros());
        if past >= whole {
            return WHOLE;
        }
        let grown = u64::from(WHOLE - FIRST).saturating_mul(past) / whole.max(1);
        FIRST + u32::try_from(grown).unwrap_or(WHOLE)
    }
}

impl<T: Copy> Pool<T> {
    /// Asks the tier's policy, as `pick` does, while some server may be in its slow start; a position among the candidates.
    #[cold]
    pub(super) fn pick_slowly(&mut self, tier: usize, affinity: Option<u64>, now: Instant) -> Option<usize> {
        self.note_whole(now);
        let state = self.tiers.get_mut(tier)?;
        let servers = &self.servers;
        let share = |candidate: &Candidate| {
            let index = state.servers.get(candidate.index).copied().unwrap_or(usize::MAX);
            let server = servers.get(index).and_then(Option::as_ref);
            server.map_or(WHOLE, |server| server.share(now))
        };
        let shares: Vec<u32> = self.candidates.iter().map(share).collect();
        let held_back = shares.iter().any(|share| *share < WHOLE);
        if !held_back || shares.iter().all(|share| *share < WHOLE) {
            return state.policy.choose(&self.candidates, affinity, now, &mut self.rng);
        }
        if let (Kind::ByHash, Some(key)) = (state.kind, affinity) {
            let chosen = state.policy.choose(&self.candidates, affinity, now, &mut self.rng)?;
            let lot = u32::try_from(Rng::new(key ^ 0x736C_6F77).below(u64::from(WHOLE))).unwrap_or(0);
            if shares.get(chosen).is_some_and(|share| lot < *share) {
                return Some(chosen);
            }
        } else if let Some(chosen) = lot(state.kind, &self.candidates, &shares, &mut self.rng) {
            return Some(chosen);
        }
        let mut others = self.candidates.iter().zip(&shares).enumerate();
        let (places, others): (Vec<usize>, Vec<Candidate>) = others
            .by_ref()
            .filter(|(_, (_, share))| **share == WHOLE)
            .map(|(place, (candidate, _))| (place, *candidate))
            .unzip();
        let chosen = state.policy.choose(&others, affinity, now, &mut self.rng)?;
        places.get(chosen).copied()
    }

    /// Those that have their whole share are at the end of their slow start.
    fn note_whole(&mut self, now: Instant) {
        self.slow_starts = false;
        for server in self.servers.iter_mut().flatten() {
            if server.back_since.is_some() && server.share(now) == WHOLE {
                server.back_since = None;
            }
            self.slow_starts |= server.back_since.is_some();
        }
    }
}

/// The one in its slow start on which the lot falls; none: one of the others is to be chosen.
fn lot(kind: Kind, candidates: &[Candidate], shares: &[u32], rng: &mut Rng) -> Option<usize> {
    let weight = |candidate: &Candidate| match kind {
        Kind::RoundRobin => u64::from(candidate.weight > 0),
        _ => u64::from(candidate.weight),
    };
    let all: u64 = candidates.iter().map(weight).sum();
    let mut drawn = rng.below(all.max(1).saturating_mul(u64::from(WHOLE)));
    for (place, (candidate, share)) in candidates.iter().zip(shares).enumerate() {
        if *share == WHOLE {
            continue;
        }
        let part = weight(candidate).saturating_mul(u64::from(*share));
        if drawn < part {
            return Some(place);
        }
        drawn -= part;
    }
    None
}

#[cfg(test)]
#[path = "slow_start_tests.rs"]
mod tests;
