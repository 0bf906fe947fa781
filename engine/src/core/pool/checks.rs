//! Checks of servers ([`crate::core::check`]), how servers come back, and how well they do.
//!
//! A server whose checks have failed is ejected, whatever its probes say, and stays so across new connections until they
//! succeed again.

use super::*;
use crate::core::check::Turn;

/// A server is slower than its peers only from here on: below it the difference is of no interest.
const SLOW_FLOOR: Span = Span::from_millis(2);

/// How well a server does, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub enum Score {
    /// It is used and does as well as its peers.
    Available,
    /// It is used, and doubted, failing in part, slower than its peers, or not back at its whole share yet.
    Degraded,
    /// It is not used.
    Down,
}

impl<T: Copy> Pool<T> {
    /// A check that [`Effect::Check`] asked for has ended: whether the server did as it should. One that was given up
    /// meanwhile says nothing.
    pub fn check_ended(&mut self, server: u64, number: u32, well: bool, now: Instant, effects: &mut Vec<Effect<T>>) {
        let index = self.servers.iter().position(|found| {
            found
                .as_ref()
                .is_some_and(|found| !found.retiring && found.config.key == server)
        });
        if let Some(index) = index {
            self.check_over(index, number, well, now, effects);
        }
    }

    fn check_over(&mut self, index: usize, number: u32, well: bool, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        let Some(config) = server.config.check else { return };
        server.failures += u64::from(!well);
        match server.checks.ended(number, well, &config) {
            Turn::Same => {}
            Turn::Fell => self.eject(index, true, now, effects),
            Turn::Rose => self.bring_back(index, now, effects),
        }
    }

    /// An ejected server whose checks succeed again. One that owes the answer to a probe comes back with that.
    fn bring_back(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        if server.health != Health::Ejected || server.probe.is_some() || server.ready() == 0 {
            return;
        }
        server.returns(now);
        self.slow_starts = true;
        self.pump_all(now, effects);
        self.pump_owned(now, effects);
    }

    /// Checks whose time has come, and those that have taken too long.
    pub(super) fn tick_checks(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        let Some(config) = server.config.check.filter(|_| !server.retiring) else {
            return;
        };
        if server.ready() == 0 {
            return server.checks.disconnected();
        }
        if let Some(number) = server.checks.is_late(now) {
            self.check_over(index, number, false, now, effects);
        }
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        if let Some(number) = server.checks.begin(&config, now) {
            effects.push(Effect::Check {
                server: server.config.key,
                number,
            });
        }
    }

    /// How well a server does beside its peers of the same tier.
    pub(super) fn score(&self, index: usize, now: Instant) -> Score {
        let Some(Some(server)) = self.servers.get(index) else {
            return Score::Down;
        };
        if !server.usable() || (server.health == Health::Starting && server.ready() == 0 && !server.on_demand) {
            return Score::Down;
        }
        let troubled = server.health == Health::Suspect || server.failures_in_a_row > 0 || server.checks.is_failing();
        if troubled || server.share(now) < slow_start::WHOLE || self.is_slow(index, server) {
            return Score::Degraded;
        }
        Score::Available
    }

    /// Whether its answers take `slow_factor` times as long as those of the fastest other server of its tier.
    fn is_slow(&self, index: usize, server: &Server) -> bool {
        let factor = u64::from(self.health.slow_factor);
        let own = server.service_time.estimate(server.sampled_at);
        let peers = self.servers.iter().enumerate().filter(|(other, _)| *other != index);
        let fastest = peers
            .filter_map(|(_, other)| other.as_ref())
            .filter(|other| other.tier == server.tier && other.usable())
            .map(|other| other.service_time.estimate(other.sampled_at))
            .filter(|time| !time.is_zero())
            .min();
        let slower = |fastest: Span| own.as_micros() > fastest.as_micros().saturating_mul(factor);
        factor > 0 && own >= SLOW_FLOOR && fastest.is_some_and(slower)
    }
}
