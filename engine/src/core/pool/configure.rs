//! What a reload changes: servers are kept by key, with their upstreams, health and figures; only what differs is done.

use super::*;
use crate::core::upstream::Cause;

impl<T: Copy> Pool<T> {
    /// Takes a (new) configuration. Servers that are gone finish what they have; the lanes' number must not change after the
    /// first time.
    pub fn configure(&mut self, config: PoolConfig, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.queue_max = config.queue_max;
        self.queue_before = self.lanes.iter().map(|lane| lane.waiting()).max().unwrap_or(0);
        self.health = config.health;
        if self.lanes.is_empty() {
            self.lanes = config
                .lanes
                .iter()
                .map(|lane| Lane {
                    config: *lane,
                    queue: List::default(),
                    picky: List::default(),
                    saturated: false,
                })
                .collect();
        } else {
            for (lane, new) in self.lanes.iter_mut().zip(&config.lanes) {
                lane.config = *new;
            }
        }
        let before = std::mem::take(&mut self.tiers);
        let mut kept = vec![false; self.servers.len()];
        for (tier, (kind, servers)) in config.tiers.into_iter().enumerate() {
            let servers: Vec<usize> = servers
                .into_iter()
                .map(|server| {
                    let index = self.place(server, tier, now);
                    if let Some(kept) = kept.get_mut(index) {
                        *kept = true;
                    }
                    index
                })
                .collect();
            let same = before
                .get(tier)
                .filter(|old| old.kind == kind && old.servers == servers);
            let policy = same.map_or_else(|| Policy::new(kind, servers.len()), |old| old.policy.clone());
            self.tiers.push(TierState { policy, kind, servers });
        }
        // All of them are marked before any is closed: what it had must not be sent to another that leaves.
        for (server, kept) in self.servers.iter_mut().zip(&kept) {
            if let Some(server) = server
                && !kept
            {
                server.retiring = true;
                server.check_at = None;
            }
        }
        for server in self.servers.iter_mut().flatten() {
            server.set_limits(self.lanes.iter().map(|lane| lane.config), &config.health);
            server.note_populated();
        }
        for (index, kept) in kept.into_iter().enumerate() {
            if !kept {
                self.retire(index, now, effects);
            }
        }
        self.shrink(now, effects);
        self.populate_all(now, effects);
        self.pump_all(now, effects);
        self.pump_owned(now, effects);
    }

    /// The place of a server: its old one where its key is known, else a new one.
    fn place(&mut self, config: ServerConfig, tier: usize, now: Instant) -> usize {
        let known = self.servers.iter().position(|server| {
            server
                .as_ref()
                .is_some_and(|server| !server.retiring && server.config.key == config.key)
        });
        if let Some(index) = known
            && let Some(Some(server)) = self.servers.get_mut(index)
        {
            let checked = server.config.check.is_some();
            server.config = config;
            server.tier = tier;
            match server.config.check {
                Some(_) if !checked && server.ready() > 0 => server.checks.connected(now),
                Some(_) => {}
                // What was put aside by its checks alone comes back with its next probe.
                None => server.checks.forget(),
            }
            return index;
        }
        let server = Server::new(config, tier, &self.health, now);
        // A retiring server keeps its place until its upstreams are gone.
        match self.servers.iter().position(Option::is_none) {
            Some(index) => {
                if let Some(place) = self.servers.get_mut(index) {
                    *place = Some(server);
                }
                index
            }
            None => {
                self.servers.push(Some(server));
                self.servers.len() - 1
            }
        }
    }

    fn retire(&mut self, index: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let all: Vec<Handle> = match self.servers.get_mut(index) {
            Some(Some(server)) => server.fleets.iter().flat_map(|fleet| &fleet.all).copied().collect(),
            _ => return,
        };
        for handle in all {
            let Some(upstream) = self.upstreams.get(handle) else {
                continue;
            };
            match upstream.state {
                // Promised tickets are promised to others.
                UpstreamState::Opening => self.close_for_others(handle, Cause::Ended, now, effects),
                UpstreamState::Ready
                    if self.lane_config(upstream.lane).is_some_and(|lane| lane.owned) && !self.is_unowned(handle) =>
                {
                    // A client's own connection stays with it to its end.
                }
                UpstreamState::Ready | UpstreamState::Interrupted { .. } => {
                    self.upstream_draining(UpstreamId(handle), now, effects);
                }
                _ => {}
            }
        }
        self.forget_retired(index);
    }

    /// Upstreams beyond a lowered maximum finish what they have.
    fn shrink(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        let mut surplus: Vec<Handle> = Vec::new();
        for server in self.servers.iter().flatten().filter(|server| !server.retiring) {
            for (lane, (fleet, limits)) in server.fleets.iter().zip(&server.config.lanes).enumerate() {
                if !self.lanes.get(lane).is_some_and(|lane| lane.config.owned) {
                    let stays = |handle: &&Handle| self.upstreams.get(**handle).is_some_and(|u| !u.is_leaving());
                    surplus.extend(fleet.all.iter().filter(stays).skip(limits.max as usize));
                }
            }
        }
        for handle in surplus {
            match self.upstreams.get(handle).map(|upstream| upstream.state) {
                Some(UpstreamState::Opening) => self.close_for_others(handle, Cause::Ended, now, effects),
                Some(_) => self.upstream_draining(UpstreamId(handle), now, effects),
                None => {}
            }
        }
    }
}
