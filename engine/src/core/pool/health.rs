//! Which servers are doubted, asked, put aside, and taken back.
//!
//! A server that owes bytes for `suspect_after` is asked; unanswered for `probe_timeout` it is ejected, and what can be
//! sent elsewhere is. At rest it is asked every `probe_interval`. While ejected it is asked every
//! `probe_suspect_interval`; its first answer brings it back.

use super::*;
use crate::core::server::Probe;
use crate::core::upstream::Cause;

impl<T: Copy> Pool<T> {
    /// Bytes came from an upstream.
    #[inline]
    pub fn heard(&mut self, id: UpstreamId, now: Instant) {
        let Some(upstream) = self.upstreams.get_mut(id.0) else {
            return;
        };
        if upstream.quiet_since.is_some() {
            upstream.quiet_since = Some(now);
        }
        let server = upstream.server;
        if let Some(Some(server)) = self.servers.get_mut(server) {
            server.heard_at = now;
            if server.health == Health::Suspect && server.probe.is_none() {
                server.health = Health::Up;
            }
        }
    }

    /// A probe was answered: the server is alive.
    pub fn probe_answered(&mut self, id: UpstreamId, now: Instant, effects: &mut Vec<Effect<T>>) {
        let probe_interval = self.health.probe_suspect_interval;
        let Some(server) = self.server_of(id.0) else { return };
        server.heard_at = now;
        if server.probe.is_some_and(|probe| probe.upstream == id.0) {
            server.probe = None;
        }
        match server.health {
            Health::Suspect => server.health = Health::Up,
            Health::Ejected if now >= server.ejected_until => server.returns(now),
            _ => {}
        }
        let up = server.health == Health::Up;
        let grows = server.back_since.is_some();
        server.check_at = Some(now + probe_interval);
        if let Some(upstream) = self.upstreams.get_mut(id.0)
            && upstream.quiet_since.is_some()
        {
            upstream.quiet_since = Some(now);
        }
        self.slow_starts |= grows;
        if up {
            self.schedule_check(id.0, now);
            self.pump_all(now, effects);
            self.pump_owned(now, effects);
        }
    }

    /// A final answer: service time, and whether the server said that it cannot serve.
    pub(super) fn note_answer(
        &mut self,
        upstream: Handle,
        verdict: Verdict,
        sent_at: Instant,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) {
        let eject_after = self.health.eject_after;
        let Some(index) = self.upstreams.get(upstream).map(|upstream| upstream.server) else {
            return;
        };
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        server.answered += 1;
        match verdict {
            Verdict::Well => {
                server.service_time.observe(now.since(sent_at), now);
                server.sampled_at = now;
                server.failures_in_a_row = 0;
            }
            Verdict::Unwell => {
                server.failures += 1;
                server.failures_in_a_row += 1;
                if server.failures_in_a_row >= eject_after {
                    self.eject(index, true, now, effects);
                }
            }
        }
    }

    /// After something became ready: the next look at its server's health is at rest's pace.
    pub(super) fn schedule_check(&mut self, upstream: Handle, now: Instant) {
        let config = self.health;
        let Some(index) = self.upstreams.get(upstream).map(|upstream| upstream.server) else {
            return;
        };
        let is_owed = self.owed_since(index).is_some();
        let Some(server) = self.server_of(upstream) else { return };
        let rest = config
            .probe_interval
            .map(|interval| server.heard_at.max(now) + interval);
        let busy = is_owed.then(|| now + config.suspect_after);
        let at = match (rest, busy) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        if server.health != Health::Ejected && server.probe.is_none() {
            server.check_at = at;
        }
    }

    pub(super) fn tick_servers(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        for index in 0..self.servers.len() {
            let Some(Some(server)) = self.servers.get_mut(index) else {
                continue;
            };
            if server.retry_at.is_some_and(|at| at <= now) {
                server.retry_at = None;
                if (server.on_demand || server.crashes.is_some()) && server.health == Health::Down {
                    // Whoever asks for it has it tried again, or waits until it was.
                    server.health = Health::Starting;
                }
                server.note_populated();
                self.populate(index, now, effects);
                self.pump_all(now, effects);
            }
            if self
                .servers
                .get(index)
                .and_then(Option::as_ref)
                .is_some_and(|s| s.check_at.is_some_and(|at| at <= now))
            {
                self.check(index, now, effects);
            }
            self.tick_checks(index, now, effects);
            self.tick_sizes(index, now, effects);
        }
    }

    fn check(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let config = self.health;
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        server.check_at = None;
        if server.ready() == 0 {
            return;
        }
        let ejected = server.health == Health::Ejected;
        if ejected && server.probe.is_some() && now.since(server.heard_at) >= config.dead_after {
            return self.give_up(index, now, effects);
        }
        if let Some(probe) = server.probe {
            let due = probe.sent_at + config.probe_timeout;
            if now < due {
                server.check_at = Some(due);
            } else if ejected {
                server.check_at = Some(now + config.probe_suspect_interval);
            } else {
                self.eject(index, false, now, effects);
            }
            return;
        }
        let quiet = self.quiet_upstream(index, now);
        // When the one that has owed for longest is due; one that cannot be asked about is looked at again at leisure.
        let due = self.owed_since(index).map(|since| since + config.suspect_after);
        let doubt_at = due
            .filter(|at| *at > now)
            .unwrap_or(Instant::MAX)
            .min(now + config.suspect_after);
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        let rest_due = config
            .probe_interval
            .is_some_and(|interval| now.since(server.heard_at) >= interval);
        if ejected || quiet.is_some() || rest_due {
            let through = quiet.or_else(|| self.probe_upstream(index));
            return self.probe(index, through, now, effects);
        }
        let rest = config.probe_interval.map(|interval| server.heard_at + interval);
        let busy = due.is_some().then_some(doubt_at);
        server.check_at = match (rest, busy) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
    }

    /// Since when the upstream of a server that has owed bytes for longest has done so.
    fn owed_since(&self, index: usize) -> Option<Instant> {
        let server = self.servers.get(index)?.as_ref()?;
        let all = server.fleets.iter().flat_map(|fleet| &fleet.all);
        all.filter_map(|handle| self.upstreams.get(*handle)?.quiet_since).min()
    }

    fn probe(&mut self, index: usize, through: Option<Handle>, now: Instant, effects: &mut Vec<Effect<T>>) {
        let (timeout, again) = (self.health.probe_timeout, self.health.probe_suspect_interval);
        let is_owed = self.owed_since(index).is_some();
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        let Some(upstream) = through else {
            // Nothing can carry a probe now; look again while something is owed.
            server.check_at = (is_owed || server.health == Health::Ejected).then(|| now + again);
            return;
        };
        if server.health == Health::Up && is_owed {
            server.health = Health::Suspect;
        }
        server.probe = Some(Probe { upstream, sent_at: now });
        server.check_at = Some(now + timeout);
        effects.push(Effect::Probe {
            upstream: UpstreamId(upstream),
        });
    }

    /// An upstream that owes bytes for too long: itself where probes may travel on it, else one that may carry them.
    fn quiet_upstream(&self, index: usize, now: Instant) -> Option<Handle> {
        let server = self.servers.get(index)?.as_ref()?;
        let all = server.fleets.iter().flat_map(|fleet| &fleet.all);
        let quiet = |handle: &&Handle| {
            let upstream = self.upstreams.get(**handle);
            upstream
                .and_then(|u| u.quiet_since)
                .is_some_and(|since| now.since(since) >= self.health.suspect_after)
        };
        let quiet = *all.copied().collect::<Vec<_>>().iter().find(quiet)?;
        if self.carries_probes(quiet) {
            Some(quiet)
        } else {
            self.probe_upstream(index)
        }
    }

    fn probe_upstream(&self, index: usize) -> Option<Handle> {
        let server = self.servers.get(index)?.as_ref()?;
        server
            .fleets
            .iter()
            .flat_map(|fleet| &fleet.all)
            .copied()
            .find(|handle| self.carries_probes(*handle))
    }

    fn carries_probes(&self, handle: Handle) -> bool {
        self.upstreams.get(handle).is_some_and(|upstream| {
            upstream.state == UpstreamState::Ready && self.lane_config(upstream.lane).is_some_and(|lane| lane.probes)
        })
    }

    /// Puts a server aside. `trouble`: it answers, but badly, and stays aside for `retry_min` at least.
    pub(super) fn eject(&mut self, index: usize, trouble: bool, now: Instant, effects: &mut Vec<Effect<T>>) {
        let again = self.health.probe_suspect_interval;
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        if matches!(server.health, Health::Ejected | Health::Down) {
            return;
        }
        server.health = Health::Ejected;
        server.failures += u64::from(!trouble);
        server.ejected_until = if trouble { now + self.health.retry_min } else { now };
        server.check_at = Some(now + again);
        self.stats.ejections += 1;
        if self.another_usable(index) {
            self.move_elsewhere(index, now, effects);
        }
    }

    /// What an ejected server has and may be sent again is sent to others.
    fn move_elsewhere(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let mut moving = std::mem::take(&mut self.moving);
        if let Some(Some(server)) = self.servers.get(index) {
            for upstream in server.fleets.iter().flat_map(|fleet| &fleet.all) {
                self.movable(*upstream, &mut moving);
            }
        }
        for handle in moving.drain(..) {
            let Some(State::Sent(upstream)) = self.tickets.get(handle).map(|entry| entry.state) else {
                continue;
            };
            self.unlink(handle);
            self.let_go(handle, upstream, now, effects);
            self.orphaned(handle, index, now, effects);
        }
        self.moving = moving;
    }

    /// Adds what an upstream has and may be sent again.
    pub(super) fn movable(&self, upstream: Handle, into: &mut Vec<Handle>) {
        let Some(upstream) = self.upstreams.get(upstream) else {
            return;
        };
        if self.lane_config(upstream.lane).is_none_or(|lane| lane.owned) {
            return;
        }
        let mut at = upstream.tickets.front();
        while let Some(handle) = at {
            let movable = self.tickets.get(handle).is_some_and(|entry| {
                matches!(entry.state, State::Sent(_))
                    && entry.request.class.retry
                    && entry.request.pin.is_none()
                    && !entry.delivered
                    && !entry.retried
            });
            if movable {
                into.push(handle);
            }
            at = List::next(&self.tickets, handle);
        }
    }

    /// An ejected server has been silent for so long that its connections are worth nothing.
    fn give_up(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let all: Vec<Handle> = match self.servers.get(index) {
            Some(Some(server)) => server.fleets.iter().flat_map(|fleet| &fleet.all).copied().collect(),
            _ => return,
        };
        for handle in all {
            let lost = self
                .upstreams
                .get(handle)
                .is_some_and(|u| u.state != UpstreamState::Opening);
            if lost && !matches!(self.upstreams.get(handle).map(|u| u.state), Some(UpstreamState::Dying)) {
                self.close_for_others(handle, Cause::Lost, now, effects);
            }
        }
    }
}
