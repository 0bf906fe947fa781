//! Which upstream takes a request, and what becomes of one that none can take now.

use super::route::Wanted;
use super::*;
use crate::core::server::Fleet;

/// What a server must have to be considered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Need {
    Room,
    /// One that is nobody's, or may be opened.
    Unowned,
    RoomOrOpening,
}

/// Where a request can go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Choice {
    Now(Handle),
    Wait,
    Nobody,
}

impl<T: Copy> Pool<T> {
    /// Finds a place for a ticket that is in no list: sends it, queues it, or ends it.
    pub(super) fn dispatch(&mut self, handle: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(entry) = self.tickets.get(handle) else { return };
        let (request, retried) = (entry.request, entry.retried);
        let lane = lane_of(request.class);
        if let Some(pin) = request.pin {
            return self.dispatch_pinned(handle, pin.0, now, effects);
        }
        let Some(config) = self.lanes.get(lane).map(|lane| lane.config) else {
            return self.fail_loose(handle, Reason::Unavailable, effects);
        };
        if config.owned {
            return self.dispatch_owned(handle, now, effects);
        }
        // Who may not go everywhere does not wait behind those who wait for another server.
        let waiting = request.route.is_open() && self.lanes.get(lane).is_some_and(|lane| !lane.queue.is_empty());
        // Who came earlier goes first, unless this one has waited its turn already.
        let choice = if waiting && !retried {
            Choice::Wait
        } else {
            self.choose(handle, 1, now, effects)
        };
        match choice {
            Choice::Now(upstream) => self.send(handle, upstream, now, effects),
            Choice::Nobody => self.fail_loose(handle, Reason::Unavailable, effects),
            Choice::Wait => self.enqueue(handle, lane, retried, now, effects),
        }
    }

    /// Sends from the head of a lane's queue while something can take it, and opens what is missing for the rest.
    pub(super) fn pump(&mut self, lane: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        if self.lanes.get(lane).is_some_and(|lane| !lane.picky.is_empty()) {
            self.pump_picky(lane, now, effects);
        }
        while let Some(head) = self.lanes.get(lane).and_then(|lane| lane.queue.front()) {
            if self.is_closing() {
                return;
            }
            let opened = self.stats.opened;
            let choice = self.choose(head, 0, now, effects);
            if choice == Choice::Wait {
                // One was opened for those that wait; the policy is asked where to open the next.
                if self.stats.opened > opened {
                    continue;
                }
                self.note_saturation(lane);
                return;
            }
            self.unlink(head);
            match choice {
                Choice::Now(upstream) => self.send(head, upstream, now, effects),
                Choice::Nobody | Choice::Wait => self.fail_loose(head, Reason::Unavailable, effects),
            }
        }
    }

    pub(super) fn pump_all(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        for lane in 0..self.lanes.len() {
            self.pump(lane, now, effects);
        }
    }

    /// `handle` is in no list; the upstream is ready.
    pub(super) fn send(&mut self, handle: Handle, upstream: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let (Some(to), Some(entry)) = (self.upstreams.get_mut(upstream), self.tickets.get_mut(handle)) else {
            return;
        };
        entry.state = State::Sent(upstream);
        entry.sent_at = now;
        entry.kept = false;
        entry.observed = false;
        if !entry.sent {
            entry.sent = true;
            self.queue_wait.observe(now.since(entry.submitted_at));
        }
        entry.waits_until = None;
        let deadline = entry.request.deadline;
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        if deadline != Instant::MAX {
            entry.timer = Some(self.wheel.arm(deadline, handle.to_bits()));
        }
        let idle_before = to.tickets.is_empty();
        to.tickets.push_back(&mut self.tickets, handle);
        to.idle_since = None;
        // Whoever sets no deadline waits for what may never come: nothing is owed.
        let is_owed = deadline != Instant::MAX;
        if to.quiet_since.is_none() && is_owed {
            to.quiet_since = Some(now);
        }
        let (server, lane) = (to.server, to.lane);
        let mut bounded = false;
        if let Some(Some(server)) = self.servers.get_mut(server) {
            server.in_flight += 1;
            let limits = server.config.lanes.get(lane as usize);
            bounded = limits.is_some_and(|limits| limits.upstream_pending_max > 0);
            let check = now + self.health.suspect_after;
            if is_owed && server.check_at.is_none_or(|at| at > check) {
                server.check_at = Some(check);
            }
            if idle_before && let Some(fleet) = server.fleets.get_mut(lane as usize) {
                fleet.busy += 1;
            }
        }
        effects.push(Effect::Send {
            ticket: Ticket(handle),
            upstream: UpstreamId(upstream),
        });
        if idle_before {
            self.size(server, lane, now, effects);
        }
        if bounded {
            self.grow(upstream, now, effects);
        }
    }

    fn enqueue(&mut self, handle: Handle, lane: usize, front: bool, now: Instant, effects: &mut Vec<Effect<T>>) {
        let queue_max = self.queue_max;
        let full = self.lanes.get(lane).is_none_or(|lane| lane.waiting() >= queue_max);
        if full && !front {
            return self.fail_loose(handle, Reason::QueueFull, effects);
        }
        let Some(entry) = self.tickets.get_mut(handle) else {
            return;
        };
        let picky = !entry.request.route.is_open();
        entry.state = State::Queued { picky };
        let patience = entry.request.queue_wait_max.map_or(Instant::MAX, |wait| now + wait);
        // A wait that goes on in another place does not begin anew.
        let until = *entry.waits_until.get_or_insert(patience.min(entry.request.deadline));
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        if until != Instant::MAX {
            entry.timer = Some(self.wheel.arm(until, handle.to_bits()));
        }
        self.stats.queued += 1;
        let Some(lane_state) = self.lanes.get_mut(lane) else {
            return;
        };
        let list = if picky {
            &mut lane_state.picky
        } else {
            &mut lane_state.queue
        };
        if front {
            list.push_front(&mut self.tickets, handle);
        } else {
            list.push_back(&mut self.tickets, handle);
            // The queue's growth may be what another upstream is opened for.
            if let Choice::Now(_) = self.choose(handle, 0, now, effects) {
                self.pump(lane, now, effects);
            }
        }
        self.note_saturation(lane);
    }

    /// Requests wait: whether that is because there are as many upstreams as may be.
    pub(super) fn note_saturation(&mut self, lane: usize) {
        let full = |server: &Server| {
            let (fleet, limits) = (server.fleets.get(lane), server.config.lanes.get(lane));
            let has = fleet.map_or(0, Fleet::taken);
            server.retiring || has >= limits.map_or(0, |limits| limits.max)
        };
        let opening = |server: &Server| server.fleets.get(lane).map_or(0, |fleet| fleet.opening);
        let saturated = self.servers.iter().flatten().all(full);
        let coming: u32 = self.servers.iter().flatten().map(opening).sum();
        if let Some(lane) = self.lanes.get_mut(lane)
            && saturated
            && !lane.saturated
            // Who waits for one that is on its way waits for nothing that may not be.
            && lane.waiting() > coming.saturating_mul(lane.config.slots)
        {
            lane.saturated = true;
            self.stats.saturations += 1;
        }
    }

    /// A pinned request does not wait for a slot: with none free it is refused, and its client may ask again.
    fn dispatch_pinned(&mut self, handle: Handle, pin: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        if self.upstreams.get(pin).is_some_and(|upstream| self.is_full(upstream)) {
            return self.fail_loose(handle, Reason::QueueFull, effects);
        }
        match self.upstreams.get(pin).map(|upstream| upstream.state) {
            Some(UpstreamState::Ready | UpstreamState::Draining) => self.send(handle, pin, now, effects),
            Some(UpstreamState::Opening) => self.promise(handle, pin, now),
            _ => self.fail_loose(handle, Reason::UpstreamLost { delivered: false }, effects),
        }
    }

    /// An upstream of the client's own is opened, and the request waits for it.
    fn dispatch_owned(&mut self, handle: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(marks) = self.tickets.get(handle).map(|entry| entry.request.route.needs) else {
            return;
        };
        match self.choose_server(handle, now) {
            Some(server) => {
                let Some(lane) = self.tickets.get(handle).map(|entry| entry.request.class.lane) else {
                    return;
                };
                if let Some(upstream) = self.take_unowned(server, lane) {
                    return self.send(handle, upstream, now, effects);
                }
                match self.open(server, lane, effects) {
                    Some(upstream) => self.promise(handle, upstream, now),
                    None => self.fail_loose(handle, Reason::Unavailable, effects),
                }
            }
            None if self.hopeful_of(marks) => {
                let Some(lane) = self.tickets.get(handle).map(|entry| lane_of(entry.request.class)) else {
                    return;
                };
                self.enqueue_owned(handle, lane, now, effects);
            }
            None => self.fail_loose(handle, Reason::Unavailable, effects),
        }
    }

    fn enqueue_owned(&mut self, handle: Handle, lane: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        let full = self.lanes.get(lane).is_none_or(|lane| lane.waiting() >= self.queue_max);
        if full {
            return self.fail_loose(handle, Reason::QueueFull, effects);
        }
        self.arm_until(handle, now);
        if let (Some(entry), Some(lane)) = (self.tickets.get_mut(handle), self.lanes.get_mut(lane)) {
            entry.state = State::Queued { picky: false };
            self.stats.queued += 1;
            lane.queue.push_back(&mut self.tickets, handle);
        }
    }

    fn promise(&mut self, handle: Handle, upstream: Handle, now: Instant) {
        self.arm_until(handle, now);
        let Some(entry) = self.tickets.get_mut(handle) else {
            return;
        };
        entry.state = State::Promised(upstream);
        if let Some(upstream) = self.upstreams.get_mut(upstream) {
            upstream.tickets.push_back(&mut self.tickets, handle);
        }
    }

    fn arm_until(&mut self, handle: Handle, now: Instant) {
        let Some(entry) = self.tickets.get_mut(handle) else {
            return;
        };
        let patience = entry.request.queue_wait_max.map_or(Instant::MAX, |wait| now + wait);
        // A wait that goes on in another place does not begin anew.
        let until = *entry.waits_until.get_or_insert(patience.min(entry.request.deadline));
        if let Some(timer) = entry.timer.take() {
            self.wheel.cancel(timer);
        }
        if until != Instant::MAX {
            entry.timer = Some(self.wheel.arm(until, handle.to_bits()));
        }
    }

    /// Owned lanes: whoever waited because no server had been reached yet is dispatched anew.
    pub(super) fn pump_owned(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        for lane in 0..self.lanes.len() {
            if !self.lanes.get(lane).is_some_and(|lane| lane.config.owned) {
                continue;
            }
            let waiting = self.lanes.get(lane).map_or(0, |lane| lane.queue.len());
            for _ in 0..waiting {
                let Some(head) = self.lanes.get(lane).and_then(|lane| lane.queue.front()) else {
                    break;
                };
                self.unlink(head);
                self.dispatch_owned(head, now, effects);
            }
        }
    }
}

impl<T: Copy> Pool<T> {
    /// The upstream for a ticket by tier, health, policy and room; opens another one where the policy points at a server
    /// that has none free. `more`: how many wait beside those in the queue.
    pub(super) fn choose(&mut self, handle: Handle, more: u32, now: Instant, effects: &mut Vec<Effect<T>>) -> Choice {
        let Some(entry) = self.tickets.get(handle) else {
            return Choice::Nobody;
        };
        let (class, affinity, needs) = (entry.request.class, entry.request.affinity, entry.request.route.needs);
        let lane = class.lane;
        let wanted = self.wanted(entry);
        if self.lanes.get(lane as usize).is_some_and(|lane| lane.config.owned) {
            let hopeful = self.hopeful_of(needs);
            return if hopeful { Choice::Wait } else { Choice::Nobody };
        }
        let Some(tier) = self.tier_in_use(&wanted) else {
            return self.last_resort(lane, needs);
        };
        self.gather(tier, &wanted, lane, Need::RoomOrOpening, now);
        let Some(server) = self.pick(tier, affinity, now) else {
            return Choice::Wait;
        };
        if let Some(upstream) = self
            .freed_last(server, lane)
            .or_else(|| self.free_upstream(server, lane))
        {
            return Choice::Now(upstream);
        }
        let waiting = self.queue_len(lane).saturating_add(more);
        self.open_for(server, lane, waiting, now, effects);
        self.gather(tier, &wanted, lane, Need::Room, now);
        match self
            .pick(tier, affinity, now)
            .and_then(|server| self.free_upstream(server, lane))
        {
            Some(upstream) => Choice::Now(upstream),
            None => Choice::Wait,
        }
    }

    /// Owned lanes: only the server is chosen.
    fn choose_server(&mut self, handle: Handle, now: Instant) -> Option<usize> {
        let entry = self.tickets.get(handle)?;
        let (lane, affinity) = (entry.request.class.lane, entry.request.affinity);
        let wanted = self.wanted(entry);
        let tier = self.tier_in_use(&wanted)?;
        self.gather(tier, &wanted, lane, Need::Unowned, now);
        self.pick(tier, affinity, now)
    }

    pub(super) fn another_usable(&self, than: usize) -> bool {
        self.servers
            .iter()
            .enumerate()
            .any(|(index, server)| index != than && server.as_ref().is_some_and(Server::usable))
    }

    fn tier_in_use(&self, wanted: &Wanted) -> Option<usize> {
        self.tiers.iter().position(|tier| {
            tier.servers.iter().any(|index| {
                self.servers
                    .get(*index)
                    .and_then(Option::as_ref)
                    .is_some_and(|server| wanted.takes(*index, server) && server.usable())
            })
        })
    }

    /// Fills `candidates` with the usable servers of a tier that have what is needed.
    fn gather(&mut self, tier: usize, wanted: &Wanted, lane: u8, need: Need, now: Instant) {
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let servers = self.tiers.get(tier).map_or(&[][..], |tier| &tier.servers);
        for (position, index) in servers.iter().enumerate() {
            let Some(Some(server)) = self.servers.get(*index) else {
                continue;
            };
            if !wanted.takes(*index, server) || !server.usable() || server.pending_full() {
                continue;
            }
            let has = match need {
                Need::Room => self.has_room(*index, server, lane),
                Need::Unowned => server.has_unowned(lane) || server.may_open(lane, now),
                Need::RoomOrOpening => self.has_room(*index, server, lane) || server.may_open(lane, now),
            };
            if has {
                candidates.push(Candidate {
                    index: position,
                    key: server.config.key,
                    weight: server.config.weight,
                    in_flight: server.in_flight,
                    latency: server.service_time.estimate(now),
                    sampled_at: server.sampled_at,
                });
            }
        }
        self.candidates = candidates;
    }

    /// Whether some ready upstream of the server could take one more. With slots in between none and one they are looked at.
    fn has_room(&self, index: usize, server: &Server, lane: u8) -> bool {
        let (Some(fleet), Some(config)) = (server.fleets.get(lane as usize), self.lane_config(lane)) else {
            return false;
        };
        match server.slots(lane, &config) {
            u32::MAX => fleet.ready > 0,
            1 => fleet.busy < fleet.ready,
            _ => self.free_upstream(index, lane).is_some(),
        }
    }

    /// Asks the tier's policy; the answer is an index into `servers`.
    fn pick(&mut self, tier: usize, affinity: Option<u64>, now: Instant) -> Option<usize> {
        let chosen = if self.slow_starts {
            self.pick_slowly(tier, affinity, now)?
        } else {
            let policy = &mut self.tiers.get_mut(tier)?.policy;
            policy.choose(&self.candidates, affinity, now, &mut self.rng)?
        };
        let position = self.candidates.get(chosen)?.index;
        self.tiers.get(tier)?.servers.get(position).copied()
    }

    /// Where one request fills an upstream: the one that became free last, if that is known. Many need not be looked through.
    fn freed_last(&mut self, server: usize, lane: u8) -> Option<Handle> {
        let config = self.lanes.get(lane as usize)?.config;
        let server = self.servers.get_mut(server)?.as_mut()?;
        if server.slots(lane, &config) != 1 {
            return None;
        }
        let freed = &mut server.fleets.get_mut(lane as usize)?.freed;
        while let Some(handle) = freed.pop() {
            let free = |upstream: &Upstream| upstream.state == UpstreamState::Ready && upstream.tickets.is_empty();
            if self.upstreams.get(handle).is_some_and(free) {
                return Some(handle);
            }
        }
        None
    }

    /// An upstream of the server with room, packed: the first below the lane's packing, else the one with the fewest.
    fn free_upstream(&self, server: usize, lane: u8) -> Option<Handle> {
        let config = self.lanes.get(lane as usize)?.config;
        let server = self.servers.get(server)?.as_ref()?;
        let limit = server.slots(lane, &config);
        let mut fewest: Option<(u32, Handle)> = None;
        for handle in &server.fleets.get(lane as usize)?.all {
            let Some(upstream) = self.upstreams.get(*handle) else {
                continue;
            };
            let has = upstream.tickets.len();
            if upstream.state != UpstreamState::Ready || has >= limit.min(upstream.slots) {
                continue;
            }
            if has < config.pack {
                return Some(*handle);
            }
            if fewest.is_none_or(|(fewest, _)| has < fewest) {
                fewest = Some((has, *handle));
            }
        }
        fewest.map(|(_, handle)| handle)
    }

    /// No server is usable: an ejected one that is still connected is better than none; one that has not been tried yet
    /// is worth waiting for; else nobody can answer.
    fn last_resort(&self, lane: u8, marks: u8) -> Choice {
        let mut connected = false;
        for index in 0..self.servers.len() {
            let Some(Some(server)) = self.servers.get(index) else {
                continue;
            };
            if !server.has_marks(marks) {
                continue;
            }
            if server.retiring || server.health != Health::Ejected || server.pending_full() {
                connected |= server.health == Health::Ejected && server.ready() > 0;
                continue;
            }
            connected |= server.ready() > 0;
            if let Some(upstream) = self.free_upstream(index, lane) {
                return Choice::Now(upstream);
            }
        }
        if connected || self.hopeful_of(marks) {
            Choice::Wait
        } else {
            Choice::Nobody
        }
    }

    /// Some server with these marks may yet turn out to be up.
    fn hopeful_of(&self, marks: u8) -> bool {
        self.servers.iter().flatten().any(|server| {
            server.has_marks(marks)
                && !server.retiring
                && (server.health == Health::Starting || server.ready() > 0 || self.recovers(server))
        })
    }

    /// Nothing of it is ready, but only because we interrupted, closed or killed it, or because the other side leaves: it comes
    /// back, or is replaced.
    fn recovers(&self, server: &Server) -> bool {
        let all = server.fleets.iter().flat_map(|fleet| &fleet.all);
        all.filter_map(|handle| self.upstreams.get(*handle))
            .any(|upstream| match upstream.state {
                UpstreamState::Interrupted { .. } => true,
                UpstreamState::Draining | UpstreamState::Dying | UpstreamState::Closing { .. } => {
                    server.retry_at.is_none()
                }
                // The one that is opened in the stead of those tells whether the server is down.
                UpstreamState::Opening => server.health != Health::Down,
                UpstreamState::Ready => false,
            })
    }

    /// Every slot of it is taken.
    fn is_full(&self, upstream: &Upstream) -> bool {
        let (Some(Some(server)), Some(config)) = (self.servers.get(upstream.server), self.lane_config(upstream.lane))
        else {
            return false;
        };
        upstream.tickets.len() >= server.slots(upstream.lane, &config).min(upstream.slots)
    }

    fn queue_len(&self, lane: u8) -> u32 {
        self.lanes.get(lane as usize).map_or(0, Lane::waiting)
    }
}
