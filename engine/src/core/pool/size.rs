//! How many upstreams a server has in each lane: what [`Sizing`](crate::core::sizing::Sizing) says is asked for whenever the
//! numbers of a fleet change, and done.
//!
//! It is asked as upstreams come and go, and as one becomes busy or idle; a request more or less on an upstream that stays busy
//! changes no number. For what waits in a lane's queue it is asked by `open_for`, once the policy has named the server. It
//! has no say where upstreams belong to clients, nor over servers that leave.

use super::*;
use crate::core::sizing::Decision;

/// Whether three quarters are taken.
fn is_nearly_full(has: u32, of: u32) -> bool {
    u64::from(has) * 4 >= u64::from(of) * 3
}

impl<T: Copy> Pool<T> {
    /// A number of the fleet has changed.
    #[inline]
    pub(super) fn size(&mut self, server: usize, lane: u8, now: Instant, effects: &mut Vec<Effect<T>>) {
        let closing = self.is_closing();
        let Some(Some(state)) = self.servers.get_mut(server) else {
            return;
        };
        let decision = if closing {
            Decision::default()
        } else {
            state.want(lane, 0, now)
        };
        let mut marked = false;
        if let Some(fleet) = state.fleets.get_mut(lane as usize) {
            fleet.size_at = decision.wake_at;
            marked = fleet.marked > 0;
        }
        if decision.open > 0 || decision.retire > 0 {
            self.resize(server, lane, decision, now, effects);
        }
        if marked {
            self.roll(server, lane, now, effects);
        }
    }

    /// The numbers of all the server's fleets may have changed, or what kept it from being dialled is over.
    pub(super) fn populate(&mut self, server: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        for lane in (0..self.lanes.len()).filter_map(|lane| u8::try_from(lane).ok()) {
            self.size(server, lane, now, effects);
        }
    }

    pub(super) fn populate_all(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        for server in 0..self.servers.len() {
            self.populate(server, now, effects);
        }
    }

    /// Opens one more upstream to a server, and its spares, if those that are being opened anyhow are too few for the
    /// requests that wait. One at a time: the policy may name another server for the next.
    pub(super) fn open_for(
        &mut self,
        server: usize,
        lane: u8,
        waiting: u32,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) {
        let Some(config) = self.lane_config(lane).filter(|_| !self.is_closing()) else {
            return;
        };
        let elsewhere = self.opening_elsewhere(server, lane);
        let Some(Some(state)) = self.servers.get_mut(server) else {
            return;
        };
        let here = state.fleets.get(lane as usize).map_or(0, |fleet| fleet.opening);
        let queued = waiting
            .div_ceil(state.likely_slots(lane, &config))
            .saturating_sub(elsewhere)
            .min(here.saturating_add(1));
        let decision = state.want(lane, queued, now);
        if let Some(fleet) = state.fleets.get_mut(lane as usize) {
            fleet.open_at = decision.wake_at;
        }
        self.resize(server, lane, decision, now, effects);
    }

    /// Opens one more where those that are there are full to three quarters, before anybody has to wait. Where one request
    /// fills an upstream that is what spares are for.
    #[inline]
    pub(super) fn grow(&mut self, to: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get(to) else { return };
        let (index, lane) = (upstream.server, upstream.lane);
        let (Some(Some(server)), Some(config)) = (self.servers.get(index), self.lane_config(lane)) else {
            return;
        };
        let slots = server.slots(lane, &config).min(upstream.slots);
        if slots == u32::MAX || slots < 2 || config.owned {
            return;
        }
        let Some(fleet) = server.fleets.get(lane as usize) else {
            return;
        };
        let ready = fleet.all.iter().filter_map(|handle| self.upstreams.get(*handle));
        let ready = ready.filter(|upstream| upstream.state == UpstreamState::Ready);
        let (has, may) = ready.fold((0_u32, 0_u32), |(has, may), upstream| {
            (
                has.saturating_add(upstream.tickets.len()),
                may.saturating_add(slots.min(upstream.slots)),
            )
        });
        let opening = fleet.opening;
        if opening > 0 || !is_nearly_full(has, may) || server.crashes.is_some() {
            return;
        }
        let idle = fleet.census(0).idle;
        if let Some(Some(server)) = self.servers.get_mut(index).filter(|_| self.draining.is_none()) {
            let decision = server.want(lane, idle.saturating_add(1), now);
            self.resize(index, lane, decision, now, effects);
        }
    }

    /// Sizes whose time has come.
    pub(super) fn tick_sizes(&mut self, server: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        for lane in 0..self.lanes.len() {
            let Some(Some(state)) = self.servers.get_mut(server) else {
                return;
            };
            let Some(fleet) = state.fleets.get_mut(lane) else {
                continue;
            };
            let size = fleet.size_at.is_some_and(|at| at <= now);
            let open = fleet.open_at.take_if(|at| *at <= now).is_some();
            if size && let Ok(lane) = u8::try_from(lane) {
                self.size(server, lane, now, effects);
            }
            if open {
                self.pump(lane, now, effects);
            }
        }
    }

    /// Being opened to other servers that could take requests.
    fn opening_elsewhere(&self, than: usize, lane: u8) -> u32 {
        let others = self.servers.iter().enumerate().filter(|(index, _)| *index != than);
        others
            .filter_map(|(_, server)| server.as_ref().filter(|server| server.usable()))
            .filter_map(|server| server.fleets.get(lane as usize))
            .map(|fleet| fleet.opening)
            .sum()
    }

    fn resize(&mut self, server: usize, lane: u8, decision: Decision, now: Instant, effects: &mut Vec<Effect<T>>) {
        for _ in 0..decision.open {
            if self.open(server, lane, effects).is_none() {
                return;
            }
        }
        let Some(Some(state)) = self.servers.get(server) else {
            return;
        };
        let Some(fleet) = state.fleets.get(lane as usize).filter(|_| decision.retire > 0) else {
            return;
        };
        // Those that are to be replaced anyhow, then the last ones: packing fills the first.
        let spare = |handle: &&Handle, marked: bool| {
            let upstream = self.upstreams.get(**handle);
            upstream.is_some_and(|u| u.state == UpstreamState::Ready && u.tickets.is_empty() && u.marked == marked)
        };
        let marked = fleet.all.iter().filter(|handle| spare(handle, true));
        let spares = marked.chain(fleet.all.iter().rev().filter(|handle| spare(handle, false)));
        let leaving: Vec<Handle> = spares.take(decision.retire as usize).copied().collect();
        for handle in leaving {
            self.close(handle, now, effects);
        }
    }
}
