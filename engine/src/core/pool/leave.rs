//! How upstreams leave: told to close, forgotten or waited for, and what becomes of what they had.

use super::*;
use crate::core::upstream::Cause;

impl<T: Copy> Pool<T> {
    /// Closes an upstream that has no tickets; those it still had are ended as lost.
    pub(super) fn close(&mut self, handle: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let mut orphans = self.part_with(handle, now, effects);
        while let Some(ticket) = orphans.pop_front(&mut self.tickets) {
            let delivered = self.tickets.get(ticket).is_some_and(|entry| entry.delivered);
            self.fail_loose(ticket, Reason::UpstreamLost { delivered }, effects);
        }
    }

    /// Closes an upstream as if it had gone by itself: what it has is sent elsewhere where that is safe.
    pub(super) fn close_for_others(
        &mut self,
        handle: Handle,
        cause: Cause,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) {
        let Some(upstream) = self.upstreams.get(handle) else {
            return;
        };
        let server = upstream.server;
        if self
            .lane_config(upstream.lane)
            .is_some_and(|lane| lane.lingers.is_some())
        {
            let orphans = self.part_with(handle, now, effects);
            return self.rehouse(orphans, server, now, effects);
        }
        effects.push(Effect::Close {
            upstream: UpstreamId(handle),
        });
        self.upstream_down(UpstreamId(handle), cause, now, effects);
    }

    /// Tells an upstream to close, and forgets it unless it lingers. Hands back the tickets it had, no longer counted as in
    /// flight. One that is closing already, or was killed, has none and is not told again.
    pub(super) fn part_with(&mut self, handle: Handle, now: Instant, effects: &mut Vec<Effect<T>>) -> List {
        let Some((state, lane)) = self
            .upstreams
            .get(handle)
            .map(|upstream| (upstream.state, upstream.lane))
        else {
            return List::default();
        };
        if matches!(state, UpstreamState::Closing { .. } | UpstreamState::Dying) {
            return List::default();
        }
        effects.push(Effect::Close {
            upstream: UpstreamId(handle),
        });
        let Some(grace) = self.lane_config(lane).and_then(|lane| lane.lingers) else {
            return self.forget(handle);
        };
        self.set_state(handle, UpstreamState::Closing { kill_at: now + grace });
        if !self.interrupted.contains(&handle) {
            self.interrupted.push(handle);
        }
        let Some(upstream) = self.upstreams.get_mut(handle) else {
            return List::default();
        };
        upstream.quiet_since = None;
        let in_flight = upstream.in_flight();
        upstream.kept = 0;
        let tickets = std::mem::take(&mut upstream.tickets);
        if let Some(server) = self.server_of(handle) {
            if state != UpstreamState::Opening {
                server.in_flight = server.in_flight.saturating_sub(in_flight);
            }
            if server.probe.is_some_and(|probe| probe.upstream == handle) {
                server.probe = None;
            }
        }
        tickets
    }

    /// What is pending is being ended: nothing is opened, nothing is sent.
    pub(super) fn is_closing(&self) -> bool {
        self.draining.is_some_and(|level| level >= Drain::Firm)
    }

    pub(super) fn close_all(&mut self, level: Drain, now: Instant, effects: &mut Vec<Effect<T>>) {
        let all: Vec<(Handle, u8, UpstreamState)> = self
            .upstreams
            .iter()
            .map(|(handle, upstream)| (handle, upstream.lane, upstream.state))
            .collect();
        for (handle, lane, state) in all {
            let lingers = self.lane_config(lane).is_some_and(|lane| lane.lingers.is_some());
            match state {
                // Killed: it is gone when its process is.
                UpstreamState::Dying => {}
                UpstreamState::Interrupted { .. } | UpstreamState::Closing { .. } if level == Drain::Now => {
                    self.interrupted.retain(|other| *other != handle);
                    self.kill(handle, now, effects);
                }
                UpstreamState::Closing { .. } => {}
                // Once it has come back it is closed.
                UpstreamState::Interrupted { kill_at, .. } => {
                    self.set_state(handle, UpstreamState::Interrupted { kill_at, leaving: true });
                }
                _ if lingers && level == Drain::Now => self.kill(handle, now, effects),
                _ => self.close(handle, now, effects),
            }
        }
    }

    /// Removes an upstream; hands back the tickets it had, no longer counted as in flight.
    pub(super) fn forget(&mut self, handle: Handle) -> List {
        let Some(upstream) = self.upstreams.remove(handle) else {
            return List::default();
        };
        self.interrupted.retain(|other| *other != handle);
        let Some(Some(server)) = self.servers.get_mut(upstream.server) else {
            return upstream.tickets;
        };
        if server.probe.is_some_and(|probe| probe.upstream == handle) {
            server.probe = None;
        }
        if upstream.state != UpstreamState::Opening {
            server.in_flight = server.in_flight.saturating_sub(upstream.in_flight());
        }
        if let Some(fleet) = server.fleets.get_mut(upstream.lane as usize) {
            fleet.all.retain(|other| *other != handle);
            fleet.unowned.retain(|other| *other != handle);
            fleet.count(upstream.state, !upstream.tickets.is_empty(), false);
            fleet.marked -= u32::from(upstream.marked && !upstream.is_leaving());
        }
        if server.upstreams() == 0 && matches!(server.health, Health::Suspect | Health::Ejected) {
            // Nobody is left to be asked how it is: the next attempt at opening tells.
            server.health = Health::Starting;
        }
        upstream.tickets
    }

    /// What is being interrupted goes on being so; what was killed or closed is on its way already.
    pub(super) fn set_draining(&mut self, handle: Handle) {
        match self.upstreams.get(handle).map(|upstream| upstream.state) {
            Some(UpstreamState::Interrupted { kill_at, .. }) => {
                self.set_state(handle, UpstreamState::Interrupted { kill_at, leaving: true });
            }
            Some(UpstreamState::Dying | UpstreamState::Closing { .. }) | None => {}
            Some(_) => self.set_state(handle, UpstreamState::Draining),
        }
    }

    /// The one place where an upstream's state changes, and with it the numbers of its fleet.
    pub(super) fn set_state(&mut self, handle: Handle, state: UpstreamState) {
        let Some(upstream) = self.upstreams.get_mut(handle) else {
            return;
        };
        let (before, lane, busy) = (upstream.state, upstream.lane as usize, !upstream.tickets.is_empty());
        let marked = u32::from(upstream.marked);
        upstream.state = state;
        if let Some(fleet) = self.server_of(handle).and_then(|server| server.fleets.get_mut(lane)) {
            fleet.count(before, busy, false);
            fleet.count(state, busy, true);
            match (before.is_leaving(), state.is_leaving()) {
                (false, true) => fleet.marked -= marked,
                (true, false) => fleet.marked += marked,
                _ => {}
            }
        }
    }

    /// A removed server without upstreams leaves.
    pub(super) fn forget_retired(&mut self, index: usize) {
        if let Some(place) = self.servers.get_mut(index)
            && place
                .as_ref()
                .is_some_and(|server| server.retiring && server.upstreams() == 0)
        {
            *place = None;
        }
    }
}
