//! Upstreams are replaced: they have served for long enough, have grown too large, or run an older program.
//!
//! One that is to be replaced is *marked*, and goes on serving. A few at a time, the marked ones are let go of:
//!
//! - one that would not be missed gets nothing new, finishes what it has, and is closed;
//! - for one that would be missed another is opened first, if there is room: the marked one is not missed any more once
//!   that is ready. A program that does not start leaves the old ones at work;
//! - without room it goes first, and what would have been its share waits in the queue. No request is refused for it.
//!
//! At most a quarter of a fleet is on its way in or out for this at the same time.

use super::*;

/// Of a fleet, one in so many is replaced at the same time; at least one.
const SHARE: u32 = 4;

impl<T: Copy> Pool<T> {
    /// This upstream is to be replaced, without a request being refused for it. Saying it again changes nothing; one that is
    /// on its way out stays so. Where upstreams belong to clients, one that a client has is closed when it is given back, and one
    /// that nobody has at once.
    pub fn recycle(&mut self, id: UpstreamId, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get_mut(id.0) else {
            return;
        };
        if upstream.marked || upstream.is_leaving() {
            return;
        }
        upstream.marked = true;
        let (server, lane) = (upstream.server, upstream.lane);
        if let Some(Some(server)) = self.servers.get_mut(server)
            && let Some(fleet) = server.fleets.get_mut(lane as usize)
        {
            fleet.marked += 1;
        }
        if self.is_unowned(id.0) {
            return self.release(id, now, effects);
        }
        self.roll(server, lane, now, effects);
    }

    /// Whether it was marked by [`Pool::recycle`], until it is gone.
    pub fn is_recycled(&self, id: UpstreamId) -> bool {
        self.upstreams.get(id.0).is_some_and(|upstream| upstream.marked)
    }

    /// Replaces what is marked, as far as that can go on now. Called whenever a number of the fleet has changed.
    pub(super) fn roll(&mut self, server: usize, lane: u8, now: Instant, effects: &mut Vec<Effect<T>>) {
        let waiting = self.lanes.get(lane as usize).is_some_and(|lane| lane.waiting() > 0);
        loop {
            let Some(Some(state)) = self.servers.get(server) else {
                return;
            };
            let (Some(fleet), resting) = (
                state.fleets.get(lane as usize),
                state.retry_at.is_some_and(|at| at > now),
            ) else {
                return;
            };
            // What belongs to a client is not ours to replace.
            if fleet.sizing.is_none() || fleet.marked == 0 || state.retiring || resting || self.draining.is_some() {
                return;
            }
            let all = u32::try_from(fleet.all.len()).unwrap_or(u32::MAX);
            if fleet.opening + fleet.leaving >= (all / SHARE).max(1) {
                return;
            }
            let Some((handle, idle)) = self.marked_of(fleet) else {
                return;
            };
            let census = fleet.census(u32::from(waiting));
            let missed = fleet
                .sizing
                .as_ref()
                .is_some_and(|sizing| sizing.needs_all(census, idle));
            if missed && state.may_open(lane, now) {
                // It stays until this one is ready.
                if self.open(server, lane, effects).is_none() {
                    return;
                }
                continue;
            }
            self.set_draining(handle);
            if idle {
                self.close(handle, now, effects);
                self.size(server, lane, now, effects);
            }
        }
    }

    /// The next to be replaced, and whether it is idle: idle ones first. What is being interrupted or opened is waited for.
    fn marked_of(&self, fleet: &crate::core::server::Fleet) -> Option<(Handle, bool)> {
        let mut busy = None;
        for handle in &fleet.all {
            let Some(upstream) = self.upstreams.get(*handle) else {
                continue;
            };
            if !upstream.marked || upstream.state != UpstreamState::Ready {
                continue;
            }
            if upstream.tickets.is_empty() {
                return Some((*handle, true));
            }
            busy.get_or_insert(*handle);
        }
        busy.map(|handle| (handle, false))
    }
}
