//! Upstreams come, go, and are let go of.

use super::*;
use crate::core::upstream::Cause;

impl<T: Copy> Pool<T> {
    /// An upstream is ready for requests, for as many at once as its lane allows.
    pub fn upstream_up(&mut self, id: UpstreamId, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.upstream_up_with(id, u32::MAX, now, effects);
    }

    /// An upstream is ready for requests, for `slots` at once at most, if its lane allows as many; 0 counts as 1. Where
    /// upstreams belong to clients only the lane counts.
    pub fn upstream_up_with(&mut self, id: UpstreamId, slots: u32, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get_mut(id.0) else {
            return;
        };
        if upstream.state != UpstreamState::Opening {
            return;
        }
        upstream.idle_since = Some(now);
        let lane = upstream.lane;
        let owned = self.lanes.get(lane as usize).is_some_and(|lane| lane.config.owned);
        upstream.slots = if owned { u32::MAX } else { slots.max(1) };
        let mut promised = std::mem::take(&mut upstream.tickets);
        self.set_state(id.0, UpstreamState::Ready);
        let warm = self.is_warm(id.0);
        if let Some(server) = self.server_of(id.0) {
            if slots != u32::MAX
                && let Some(fleet) = server.fleets.get_mut(lane as usize)
            {
                fleet.declared = fleet.declared.max(slots.max(1));
            }
            if server.crashes.is_none() {
                server.retry_at = None;
                server.backoff.reset();
            }
            server.note_populated();
            server.heard_at = now;
            if matches!(server.health, Health::Starting | Health::Down) && warm {
                server.returns(now);
                if server.config.check.is_some() {
                    server.checks.connected(now);
                }
            }
            let grows = server.back_since.is_some();
            self.slow_starts |= grows;
        }
        self.schedule_check(id.0, now);
        while let Some(ticket) = promised.pop_front(&mut self.tickets) {
            self.send(ticket, id.0, now, effects);
        }
        if self.is_closing() {
            self.close(id.0, now, effects);
            return;
        }
        self.populate_all(now, effects);
        self.pump_all(now, effects);
        self.pump_owned(now, effects);
    }

    /// An upstream is gone, or could not be opened. What it carried is sent elsewhere where that is safe, or ended.
    pub fn upstream_down(&mut self, id: UpstreamId, cause: Cause, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get(id.0) else {
            return;
        };
        let (server_index, state) = (upstream.server, upstream.state);
        let in_flight = upstream.in_flight();
        // What we put an end to ourselves tells nothing about the server: it is replaced at once.
        let ours = matches!(
            state,
            UpstreamState::Interrupted { .. } | UpstreamState::Dying | UpstreamState::Closing { .. }
        );
        let orphans = self.forget(id.0);
        self.stats.lost += u64::from(cause != Cause::Ended);
        let troubled = cause == Cause::OpenFailed || (cause == Cause::Lost && in_flight > 0);
        let mut failures = 0;
        if let Some(server) = self.server_at(server_index) {
            server.failures += u64::from(troubled);
            server.failures_in_a_row += u32::from(troubled);
            failures = server.failures_in_a_row;
        }
        if self
            .server_at(server_index)
            .is_some_and(|server| server.crashes.is_some())
        {
            self.note_crash(server_index, !ours && cause != Cause::Ended, now);
        } else {
            let last = self.note_lost(server_index, cause, ours, now);
            if failures >= self.health.eject_after && !last && !ours {
                self.eject(server_index, true, now, effects);
            }
            self.use_what_is_warm(server_index, now);
        }
        self.rehouse(orphans, server_index, now, effects);
    }

    /// Whether a server that comes back may be used: as many upstreams as it is to have are there, or no more are coming. Where
    /// nobody else is usable, the first is enough.
    fn is_warm(&self, upstream: Handle) -> bool {
        let Some(index) = self.upstreams.get(upstream).map(|upstream| upstream.server) else {
            return true;
        };
        let Some(Some(server)) = self.servers.get(index) else {
            return true;
        };
        let (fleets, limits) = (server.fleets.first(), server.config.lanes.first());
        let filled = fleets.zip(limits).is_none_or(|(fleet, limits)| {
            fleet.sizing.is_none() || fleet.ready >= limits.min.min(limits.max) || fleet.opening == 0
        });
        filled || server.crashes.is_some() || !self.another_usable(index)
    }

    /// The last one that was waited for has failed: those that are there are used.
    fn use_what_is_warm(&mut self, index: usize, now: Instant) {
        let Some(Some(server)) = self.servers.get_mut(index) else {
            return;
        };
        let coming = server.fleets.first().is_some_and(|fleet| fleet.opening > 0);
        let cold = matches!(server.health, Health::Starting | Health::Down);
        if !cold || coming || server.ready() == 0 || server.crashes.is_some() {
            return;
        }
        server.returns(now);
        if server.config.check.is_some() {
            server.checks.connected(now);
        }
        let grows = server.back_since.is_some();
        self.slow_starts |= grows;
    }

    /// One of those that are dialled is gone: when the next may be tried, and how the server is. Whether it was the last.
    fn note_lost(&mut self, server: usize, cause: Cause, ours: bool, now: Instant) -> bool {
        let Some(Some(server)) = self.servers.get_mut(server) else {
            return true;
        };
        let last = server.ready() == 0;
        // One that loses its upstreams in a row is not dialled in a tight loop.
        let in_a_row = !ours
            && server
                .lost_at
                .replace(now)
                .is_some_and(|before| now.since(before) < Span::from_secs(1));
        // What happens to several of them at once is one failure.
        let waits = server.retry_at.is_some_and(|at| at > now);
        if (cause == Cause::OpenFailed || in_a_row) && !waits {
            server.retry_at = Some(now + server.backoff.next(&mut self.rng));
        }
        if cause == Cause::OpenFailed && last {
            server.health = Health::Down;
        } else if last && !matches!(server.health, Health::Down | Health::Starting) {
            // All its upstreams are gone; one attempt at opening decides whether it is down.
            server.health = Health::Starting;
        }
        last
    }

    /// One of our own making is gone. Who waits goes on waiting for the next, unless there have been too many crashes.
    fn note_crash(&mut self, server: usize, crashed: bool, now: Instant) {
        let Some(Some(server)) = self.servers.get_mut(server) else {
            return;
        };
        let resting = server.retry_at.is_some_and(|at| at > now);
        self.stats.crashes += u64::from(crashed);
        // Those that were on their way when the rest began do not lengthen it.
        if crashed
            && !resting
            && let Some(budget) = &mut server.crashes
            && let Some(until) = budget.crashed(now, &mut self.rng)
        {
            server.retry_at = Some(until);
            self.stats.rests += 1;
        }
        if server.ready() > 0 {
            return;
        }
        let opening = server.fleets.iter().any(|fleet| fleet.opening > 0);
        if server.retry_at.is_some_and(|at| at > now) && !opening {
            server.health = Health::Down;
            server.populated = false;
        } else if server.health != Health::Down {
            server.health = Health::Starting;
        }
    }

    /// What an upstream had that is gone is sent elsewhere, or ended; what is missing is opened.
    pub(super) fn rehouse(&mut self, mut orphans: List, server: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.populate(server, now, effects);
        while let Some(ticket) = orphans.pop_front(&mut self.tickets) {
            self.orphaned(ticket, server, now, effects);
        }
        self.pump_all(now, effects);
        self.pump_owned(now, effects);
        self.forget_retired(server);
    }

    /// The other side will close this upstream: it gets nothing new and finishes what it has.
    pub fn upstream_draining(&mut self, id: UpstreamId, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.set_draining(id.0);
        let Some(upstream) = self.upstreams.get(id.0) else {
            return;
        };
        let (server, lane) = (upstream.server, upstream.lane);
        if upstream.tickets.is_empty() && upstream.state == UpstreamState::Draining {
            self.close(id.0, now, effects);
        }
        self.populate(server, now, effects);
        // There is room for one that those may need who wait.
        self.pump(lane as usize, now, effects);
    }

    /// An upstream is wanted for one ticket alone (its client reads slowly): it gets nothing new, another may be opened in
    /// its stead, and what the others wait for on it is sent elsewhere where that is safe. False: no other can be opened.
    pub fn set_aside(&mut self, id: UpstreamId, keep: Ticket, now: Instant, effects: &mut Vec<Effect<T>>) -> bool {
        let Some(upstream) = self.upstreams.get(id.0) else {
            return false;
        };
        let (server, lane) = (upstream.server, upstream.lane);
        if upstream.state == UpstreamState::Draining {
            return true;
        }
        let room = self
            .servers
            .get(server)
            .and_then(Option::as_ref)
            .is_some_and(|server| server.may_open(lane, now) && server.has_place(lane));
        if upstream.state != UpstreamState::Ready || !room {
            return false;
        }
        self.upstream_draining(id, now, effects);
        // It is not going to be read: that it is silent says nothing about the server.
        if let Some(upstream) = self.upstreams.get_mut(id.0) {
            upstream.quiet_since = None;
        }
        if let Some(server) = self.server_of(id.0)
            && server.probe.is_some_and(|probe| probe.upstream == id.0)
        {
            server.probe = None;
        }
        let mut moving = std::mem::take(&mut self.moving);
        self.movable(id.0, &mut moving);
        for handle in moving.drain(..).filter(|handle| *handle != keep.0) {
            self.unlink(handle);
            effects.push(Effect::Abandon {
                ticket: Ticket(handle),
                upstream: id,
            });
            self.orphaned_by(handle, None, now, effects);
        }
        self.moving = moving;
        true
    }

    /// The client that owned an upstream has left.
    pub fn release(&mut self, id: UpstreamId, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get(id.0) else {
            return;
        };
        let server = upstream.server;
        let mut orphans = self.part_with(id.0, now, effects);
        while let Some(ticket) = orphans.pop_front(&mut self.tickets) {
            self.fail_loose(ticket, Reason::Canceled, effects);
        }
        self.pump_owned(now, effects);
        self.forget_retired(server);
    }

    /// The client that owned an upstream needs it no more, and left nothing on it: it is kept for the next, as far as its
    /// server's `min_spare` goes, or closed. One that is to be replaced is closed.
    pub fn give_back(&mut self, id: UpstreamId, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get(id.0) else {
            return;
        };
        let (lane, idle) = (
            upstream.lane as usize,
            upstream.state == UpstreamState::Ready && upstream.tickets.is_empty() && !upstream.marked,
        );
        let owned = self.lanes.get(lane).is_some_and(|lane| lane.config.owned);
        let closing = self.is_closing();
        let kept = self.server_of(id.0).is_some_and(|server| {
            let most = server
                .config
                .lanes
                .get(lane)
                .map_or(0, |limits| limits.min_spare as usize);
            let retiring = server.retiring;
            let Some(fleet) = server.fleets.get_mut(lane) else {
                return false;
            };
            // Who waits takes one more than are kept.
            let keep = owned && idle && !retiring && !closing && !fleet.unowned.contains(&id.0);
            let keep = keep && fleet.unowned.len() < most;
            if keep {
                fleet.unowned.push(id.0);
            }
            keep
        });
        if kept {
            self.pump_owned(now, effects);
        } else {
            self.release(id, now, effects);
        }
    }

    /// The key and the marks of the server that an upstream leads to.
    pub fn server_behind(&self, id: UpstreamId) -> Option<(u64, u8)> {
        let server = self.servers.get(self.upstreams.get(id.0)?.server)?.as_ref()?;
        Some((server.config.key, server.config.marks))
    }

    /// Whether an upstream is still one of ours.
    pub fn has_upstream(&self, id: UpstreamId) -> bool {
        self.upstreams.get(id.0).is_some()
    }

    /// A sent or promised ticket whose upstream is gone; it is in no list.
    pub(super) fn orphaned(&mut self, handle: Handle, server: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        self.orphaned_by(handle, Some(server), now, effects);
    }

    /// `avoid`: the server at fault, where one is.
    fn orphaned_by(&mut self, handle: Handle, avoid: Option<usize>, now: Instant, effects: &mut Vec<Effect<T>>) {
        let closing = self.is_closing();
        let Some(entry) = self.tickets.get_mut(handle) else {
            return;
        };
        let never_sent = matches!(entry.state, State::Promised(_));
        entry.kept = false;
        let again = !entry.retried && !entry.delivered && (never_sent || entry.request.class.retry);
        let pinned = entry.request.pin.is_some();
        if !again || pinned || closing {
            let reason = match entry.delivered {
                false if never_sent => Reason::Unavailable,
                delivered => Reason::UpstreamLost { delivered },
            };
            return self.fail_loose(handle, reason, effects);
        }
        entry.retried = true;
        entry.avoid = avoid;
        self.stats.retried += u64::from(!never_sent);
        self.dispatch(handle, now, effects);
    }

    /// A ticket was taken off a ready upstream by its end; the lane's rule says what the upstream is told.
    pub(super) fn let_go(&mut self, handle: Handle, upstream: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(lane) = self.upstreams.get(upstream).map(|upstream| upstream.lane) else {
            return;
        };
        let Some(config) = self.lane_config(lane) else { return };
        let (ticket, id) = (Ticket(handle), UpstreamId(upstream));
        match config.cancel {
            CancelRule::Abandon => {
                effects.push(Effect::Abandon { ticket, upstream: id });
                self.upstream_freed(upstream, now, effects);
            }
            CancelRule::Immediate => self.upstream_freed(upstream, now, effects),
            CancelRule::CloseReopen => {
                let server = self.upstreams.get(upstream).map(|upstream| upstream.server);
                self.close(upstream, now, effects);
                if let Some(server) = server {
                    self.populate(server, now, effects);
                }
                self.pump(lane as usize, now, effects);
                if let Some(server) = server {
                    self.less_pending(server, now, effects);
                }
            }
            CancelRule::InterruptThenKill { grace } => {
                self.interrupt(ticket, id, now + grace, effects);
            }
        }
    }

    /// Interrupts a call. The grace of the first interrupt that is not acknowledged counts.
    fn interrupt(&mut self, ticket: Ticket, id: UpstreamId, kill_at: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get_mut(id.0) else {
            return;
        };
        let state = upstream.state;
        if matches!(state, UpstreamState::Dying | UpstreamState::Closing { .. }) {
            return;
        }
        upstream.interrupted.push(ticket.0);
        effects.push(Effect::Interrupt { ticket, upstream: id });
        if !matches!(state, UpstreamState::Interrupted { .. }) {
            let leaving = state == UpstreamState::Draining;
            self.set_state(id.0, UpstreamState::Interrupted { kill_at, leaving });
            self.interrupted.push(id.0);
        }
    }

    /// One of its slots is free again.
    pub(super) fn upstream_freed(&mut self, handle: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let Some(upstream) = self.upstreams.get_mut(handle) else {
            return;
        };
        let (server, lane) = (upstream.server, upstream.lane);
        let idle = upstream.tickets.is_empty();
        if idle {
            upstream.quiet_since = None;
            upstream.idle_since = Some(now);
            if upstream.state == UpstreamState::Draining {
                self.close(handle, now, effects);
                self.populate(server, now, effects);
                self.forget_retired(server);
            }
        }
        if self.lanes.get(lane as usize).is_some_and(|lane| lane.waiting() > 0) {
            self.pump(lane as usize, now, effects);
        }
        self.less_pending(server, now, effects);
        if idle {
            self.remember_free(handle);
            self.size(server, lane, now, effects);
        }
    }

    /// Its server has one request less: where that counts, others may go there, on whatever lane they wait.
    pub(super) fn less_pending(&mut self, server: usize, now: Instant, effects: &mut Vec<Effect<T>>) {
        if self
            .server_at(server)
            .is_some_and(|server| server.config.pending_max != 0)
        {
            self.pump_all(now, effects);
            self.pump_owned(now, effects);
        }
    }

    /// What has just become free is the first to be thought of again: its memory is warm, and the others may become superfluous.
    fn remember_free(&mut self, handle: Handle) {
        let Some(upstream) = self.upstreams.get(handle) else {
            return;
        };
        if upstream.state != UpstreamState::Ready || !upstream.tickets.is_empty() {
            return;
        }
        if let Some(Some(server)) = self.servers.get_mut(upstream.server)
            && let Some(fleet) = server.fleets.get_mut(upstream.lane as usize)
        {
            if fleet.freed.len() > fleet.all.len() {
                fleet.freed.clear();
            }
            fleet.freed.push(handle);
        }
    }

    /// A helper that had been interrupted finished `call` after all; with the last such call it is a spare again.
    pub(super) fn interrupted_came_back(
        &mut self,
        handle: Handle,
        call: Handle,
        now: Instant,
        effects: &mut Vec<Effect<T>>,
    ) {
        let Some(upstream) = self.upstreams.get_mut(handle) else {
            return;
        };
        let UpstreamState::Interrupted { leaving, .. } = upstream.state else {
            return;
        };
        upstream.interrupted.retain(|other| *other != call);
        if !upstream.interrupted.is_empty() {
            return;
        }
        let state = if leaving {
            UpstreamState::Draining
        } else {
            UpstreamState::Ready
        };
        self.interrupted.retain(|other| *other != handle);
        self.set_state(handle, state);
        if !leaving
            && let Some(server) = self.server_of(handle)
            && matches!(server.health, Health::Starting | Health::Down)
        {
            server.returns(now);
        }
        self.upstream_freed(handle, now, effects);
    }

    pub(super) fn tick_interrupted(&mut self, now: Instant, effects: &mut Vec<Effect<T>>) {
        let mut at = 0;
        while let Some(handle) = self.interrupted.get(at).copied() {
            match self.upstreams.get(handle).map(|upstream| upstream.state) {
                Some(UpstreamState::Interrupted { kill_at, .. } | UpstreamState::Closing { kill_at })
                    if kill_at > now =>
                {
                    at += 1;
                }
                Some(UpstreamState::Interrupted { .. } | UpstreamState::Closing { .. }) => {
                    self.interrupted.swap_remove(at);
                    self.kill(handle, now, effects);
                }
                _ => {
                    self.interrupted.swap_remove(at);
                }
            }
        }
    }

    /// It will not come back; another may be opened in its stead.
    pub(super) fn kill(&mut self, handle: Handle, now: Instant, effects: &mut Vec<Effect<T>>) {
        let before = self
            .upstreams
            .get(handle)
            .map(|upstream| (upstream.server, upstream.is_leaving()));
        self.set_state(handle, UpstreamState::Dying);
        effects.push(Effect::Kill {
            upstream: UpstreamId(handle),
        });
        if let Some((server, false)) = before {
            self.populate(server, now, effects);
        }
    }

    /// Opens an upstream, unless all are being closed; the caller has seen to the bound.
    pub(super) fn open(&mut self, server: usize, lane: u8, effects: &mut Vec<Effect<T>>) -> Option<Handle> {
        if self.is_closing() {
            return None;
        }
        let upstream = Upstream {
            server,
            lane,
            state: UpstreamState::Opening,
            slots: u32::MAX,
            marked: false,
            tickets: List::default(),
            kept: 0,
            interrupted: Vec::new(),
            quiet_since: None,
            idle_since: None,
        };
        let handle = self.upstreams.insert(upstream)?;
        let server = self.servers.get_mut(server)?.as_mut()?;
        let fleet = server.fleets.get_mut(lane as usize)?;
        fleet.all.push(handle);
        fleet.opening += 1;
        self.stats.opened += 1;
        effects.push(Effect::Open {
            upstream: UpstreamId(handle),
            server: server.config.key,
            lane,
        });
        Some(handle)
    }
}
