//! What is never true of a pool, checked from outside after each step of the simulation, and by debug builds.

use super::*;

impl<T: Copy> Pool<T> {
    /// The first invariant that does not hold, in words.
    pub fn check_invariants(&self) -> Result<(), String> {
        let mut listed = 0;
        for (number, lane) in self.lanes.iter().enumerate() {
            for (list, picky) in [(&lane.queue, false), (&lane.picky, true)] {
                listed += self.check_list(list, |entry| {
                    entry.state == State::Queued { picky } && lane_of(entry.request.class) == number
                })?;
            }
            if !lane.config.owned
                && lane.waiting()
                    > self
                        .queue_max
                        .max(self.queue_before)
                        .saturating_add(self.stats_retry_room())
            {
                return Err(format!(
                    "lane {number} has {} waiting, of {} at most",
                    lane.waiting(),
                    self.queue_max
                ));
            }
        }
        for (handle, upstream) in self.upstreams.iter() {
            let opening = upstream.state == UpstreamState::Opening;
            listed += self.check_list(&upstream.tickets, |entry| match entry.state {
                State::Sent(to) => to == handle && !opening,
                State::Promised(to) => to == handle && opening,
                State::Queued { .. } => false,
            })?;
            self.check_slots(handle, upstream)?;
            self.check_kept(handle, upstream)?;
        }
        if listed != self.tickets.len() {
            return Err(format!(
                "{} tickets live, {listed} of them in a list",
                self.tickets.len()
            ));
        }
        for server in self.servers.iter().flatten() {
            self.check_server(server)?;
        }
        Ok(())
    }

    /// Retried requests go to the head of a queue even when it is full.
    fn stats_retry_room(&self) -> u32 {
        u32::try_from(self.tickets.iter().filter(|(_, entry)| entry.retried).count()).unwrap_or(u32::MAX)
    }

    fn check_list(&self, list: &List, belongs: impl Fn(&Entry<T>) -> bool) -> Result<usize, String> {
        let (mut at, mut count) = (list.front(), 0_usize);
        while let Some(handle) = at {
            let entry = self
                .tickets
                .get(handle)
                .ok_or_else(|| format!("{handle:?} is listed but gone"))?;
            if !belongs(entry) {
                return Err(format!(
                    "{handle:?} is in a list where it does not belong ({:?})",
                    entry.state
                ));
            }
            count += 1;
            if count > self.tickets.len() {
                return Err("a list runs in a circle".into());
            }
            at = List::next(&self.tickets, handle);
        }
        if count != list.len() as usize {
            return Err(format!("a list of {} has {count}", list.len()));
        }
        Ok(count)
    }

    fn check_kept(&self, handle: Handle, upstream: &Upstream) -> Result<(), String> {
        let (mut at, mut kept) = (upstream.tickets.front(), 0);
        while let Some(handle) = at {
            kept += u32::from(self.tickets.get(handle).is_some_and(|entry| entry.kept));
            at = List::next(&self.tickets, handle);
        }
        if kept == upstream.kept {
            Ok(())
        } else {
            Err(format!("{handle:?} is kept by {kept}, noted {}", upstream.kept))
        }
    }

    fn check_slots(&self, handle: Handle, upstream: &Upstream) -> Result<(), String> {
        // What it has declared stays; what the lane allows may have been lowered since.
        let slots = match (
            upstream.slots,
            self.lane_config(upstream.lane).map_or(0, |lane| lane.slots),
        ) {
            (u32::MAX, 0) => u32::MAX,
            (u32::MAX, slots) | (slots, _) => slots,
        };
        if upstream.tickets.len() > slots {
            return Err(format!(
                "{handle:?} has {} in flight in {slots} slots",
                upstream.tickets.len()
            ));
        }
        match self.servers.get(upstream.server).and_then(Option::as_ref) {
            Some(server) => {
                let fleet = server.fleets.get(upstream.lane as usize);
                let times = fleet.map_or(0, |fleet| fleet.all.iter().filter(|other| **other == handle).count());
                if times == 1 {
                    Ok(())
                } else {
                    Err(format!("{handle:?} is {times} times in its fleet"))
                }
            }
            None => Err(format!("{handle:?} has no server")),
        }
    }

    fn check_server(&self, server: &Server) -> Result<(), String> {
        let mut in_flight = 0;
        for (lane, fleet) in server.fleets.iter().enumerate() {
            let (mut opening, mut ready, mut busy, mut leaving, mut marked) = (0, 0, 0, 0, 0);
            let mut draining = 0;
            for handle in &fleet.all {
                let upstream = self
                    .upstreams
                    .get(*handle)
                    .ok_or_else(|| format!("{handle:?} in a fleet but gone"))?;
                match upstream.state {
                    UpstreamState::Opening => opening += 1,
                    UpstreamState::Ready => {
                        ready += 1;
                        busy += u32::from(!upstream.tickets.is_empty());
                    }
                    state => {
                        leaving += u32::from(upstream.is_leaving());
                        draining += u32::from(state == UpstreamState::Draining);
                    }
                }
                marked += u32::from(upstream.marked && !upstream.is_leaving());
                if upstream.state != UpstreamState::Opening {
                    in_flight += upstream.in_flight();
                }
            }
            let kept = (fleet.opening, fleet.ready, fleet.busy, fleet.leaving, fleet.marked);
            if (opening, ready, busy, leaving, marked) != kept {
                return Err(format!(
                    "lane {lane} of server {}: counted {opening} opening, {ready} ready, {busy} busy, {leaving} leaving, \
                     {marked} marked; kept {kept:?}",
                    server.config.key
                ));
            }
            if draining != fleet.draining {
                return Err(format!("{draining} draining, kept {}", fleet.draining));
            }
            let max = server.config.lanes.get(lane).map_or(0, |limits| limits.max);
            let leaving = fleet
                .all
                .iter()
                .filter(|handle| self.upstreams.get(**handle).is_some_and(Upstream::is_leaving));
            let owned = self.lanes.get(lane).is_some_and(|lane| lane.config.owned);
            if !owned && !server.retiring && fleet.all.len() - leaving.count() > max as usize {
                return Err(format!(
                    "server {} has {} of {max} upstreams",
                    server.config.key,
                    fleet.all.len()
                ));
            }
        }
        if server.checks.is_fallen() && matches!(server.health, Health::Up | Health::Suspect) {
            return Err(format!(
                "server {} is used, and its checks have failed",
                server.config.key
            ));
        }
        if in_flight != server.in_flight {
            return Err(format!(
                "server {}: {in_flight} in flight, {} kept",
                server.config.key, server.in_flight
            ));
        }
        Ok(())
    }
}
