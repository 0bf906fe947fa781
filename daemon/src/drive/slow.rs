//! Clients that read more slowly than their answers come.
//!
//! A client's outbox is bounded; the bound shrinks when many clients together are slow. Beyond it, the connection that
//! brings the answers is not read for a while: on a connection of the client's own that hurts nobody else. A shared one
//! is first put aside for this client: it gets no new requests, another is opened in its stead, and what others wait for
//! on it is asked again elsewhere. Few connections may be held so at once, because a server has few threads and each
//! unread connection blocks one. A client that takes nothing at all for [`PATIENCE`] is not slow but stuck: its operations
//! are given up (adminLimitExceeded) and everybody else goes on.
//!
//! All that waits for clients together is bounded, too. Where it is used up, those that have taken nothing for [`STUCK`] are closed
//! and what waited for them is forgotten; if that is not enough, an operation is given up whose answer would be more. A long entry is
//! looked at before it is put into an outbox: a thousand clients that each hold but one may be all the memory there is.

use std::sync::atomic::Ordering;

use engine::core::Ticket;
use engine::core::time::Span;
use engine::session::ldap::lane;

use super::Drive;
use super::conn::{ConnRef, Kind};
use super::pools::{Caller, Place, PoolState};
use crate::net::stream::Flushed;

/// A client's bound when the daemon's memory for slow readers is more than half used.
const SCARCE_BYTES: usize = 32 * 1024;
/// A client that takes nothing for so long while its answers come over a shared connection is given up.
pub(super) const PATIENCE: Span = Span::from_millis(250);
/// After a client was found stuck, nobody is waited for this long: where one is, there may be a thousand.
const WARY: Span = Span::from_millis(2000);
/// A shorter part of an answer is put into an outbox without a look at what waits for all.
const LONG_BYTES: usize = 4 * 1024;
/// A client that has taken nothing for so long is closed when others need the memory that it holds.
const STUCK: Span = Span::from_millis(500);
/// Between two looks for clients that are stuck, when memory is used up.
const RECLAIM_EVERY: Span = Span::from_millis(50);
/// Shared connections of one directory and worker that may wait for slow clients at once.
const HELD_MAX: usize = 2;

impl Drive {
    /// A part of an answer was added to a client's outbox.
    #[inline]
    pub(super) fn watch_outbox(&mut self, index: usize, ticket: Ticket, caller: Caller) {
        let at = caller.conn.at as usize;
        if self
            .conns
            .get(at)
            .is_some_and(|conn| conn.stream.waiting() > SCARCE_BYTES)
        {
            self.outbox_grows(index, ticket, caller);
        }
    }

    /// Whether a part of an answer, so many octets long, may be put into a client's outbox. If not, the operation was given up.
    #[inline]
    pub(super) fn has_room(&mut self, index: usize, ticket: Ticket, caller: Caller, bytes: usize) -> bool {
        bytes <= LONG_BYTES || self.finds_room(index, ticket, caller, bytes)
    }

    fn finds_room(&mut self, index: usize, ticket: Ticket, caller: Caller, bytes: usize) -> bool {
        let at = caller.conn.at as usize;
        let generation = caller.conn.generation;
        let is_client = |conn: &&super::conn::Conn| conn.generation == generation && matches!(conn.kind, Kind::Ldap(_));
        if self.conns.get(at).filter(is_client).is_none() || self.fits(at, bytes) {
            return true;
        }
        self.reclaim(at);
        if self.fits(at, bytes) {
            return true;
        }
        self.give_up(index, ticket, caller);
        false
    }

    /// Whether there is memory for so much more. Somebody for whom alone anything waits has all that it takes.
    fn fits(&mut self, at: usize, bytes: usize) -> bool {
        self.account(at);
        let own = self.conns.get(at).map_or(0, |conn| conn.accounted);
        let total = self.shared.waiting_bytes.load(Ordering::Relaxed);
        total <= own || total.saturating_add(bytes) <= self.shared.waiting_bytes_max.load(Ordering::Relaxed)
    }

    /// Closes clients of this worker, others than this one, that take nothing and for which much waits.
    fn reclaim(&mut self, but: usize) {
        let now = self.now;
        if now < self.reclaim_at {
            return;
        }
        self.reclaim_at = now + RECLAIM_EVERY;
        let stuck = |conn: &super::conn::Conn| {
            let is_stuck = conn.stalled_since.is_some_and(|since| now >= since + STUCK);
            is_stuck && conn.is_client() && conn.stream.waiting() > SCARCE_BYTES
        };
        let all = self.conns.iter().filter(|(at, conn)| *at != but && stuck(conn));
        let all: Vec<usize> = all.map(|(at, _)| at).collect();
        for at in &all {
            self.close(*at);
        }
        if !all.is_empty() {
            let closed = all.len();
            self.shared.stuck_closed.fetch_add(closed as u64, Ordering::Relaxed);
            tracing::info!(
                closed,
                "memory for slow clients is used up: those that read nothing are closed"
            );
        }
    }

    fn outbox_grows(&mut self, index: usize, ticket: Ticket, caller: Caller) {
        let at = caller.conn.at as usize;
        let bound = self.account(at);
        if self.conns.get(at).is_none_or(|conn| conn.stream.waiting() <= bound) {
            return;
        }
        // The socket may take some of it at once.
        let Some(conn) = self.conns.get_mut(at) else { return };
        if !conn.blocked {
            match conn.stream.flush(&mut self.spares, self.poll.registry()) {
                Flushed::All => {}
                Flushed::Blocked => {
                    conn.blocked = !conn.stream.is_handshaking();
                    conn.stalled_since = Some(self.now);
                }
                Flushed::Broken => {
                    conn.closing = true;
                    return self.mark_dirty(at);
                }
            }
        }
        let mut bound = self.account(at);
        if bound == 0 {
            self.reclaim(at);
            bound = self.account(at);
        }
        if self.conns.get(at).is_none_or(|conn| conn.stream.waiting() <= bound) {
            return;
        }
        let stuck = self
            .conns
            .get(at)
            .and_then(|conn| conn.stalled_since)
            .is_some_and(|since| self.now >= since + PATIENCE);
        let Some(to) = self.connection_of(index, ticket) else {
            return;
        };
        let shared = self.lane_of(to) == Some(lane::SHARED);
        if shared && stuck {
            return self.lose_patience(at);
        }
        if bound == 0 {
            return self.give_up(index, ticket, caller);
        }
        if !shared || (self.may_wait(index) && self.set_aside(index, ticket)) {
            self.choke(to, at);
        }
        // Else the outbox grows on within the daemon's total until the client moves or is found stuck.
        self.arm(at, PATIENCE);
    }

    /// The connection that carries a request.
    fn connection_of(&mut self, index: usize, ticket: Ticket) -> Option<ConnRef> {
        let state = self.pool(index)?;
        let upstream = state.pool.upstream_of(ticket)?;
        match state.place(upstream)? {
            Place::Conn(to) => Some(*to),
            _ => None,
        }
    }

    /// Whether one more shared connection of this pool may wait for a slow client.
    fn may_wait(&mut self, index: usize) -> bool {
        let now = self.now;
        if self.pool(index).is_none_or(|state| now < state.wary_until) {
            return false;
        }
        let held = |kind: &Kind| matches!(kind, Kind::Upstream(u) if u.pool == index && u.lane == lane::SHARED);
        let count = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.choked && held(&conn.kind))
            .count();
        count < HELD_MAX
    }

    /// Brings the daemon's total up to date; this client's bound under it.
    pub(super) fn account(&mut self, at: usize) -> usize {
        let Some(conn) = self.conns.get_mut(at) else {
            return usize::MAX;
        };
        let waiting = conn.stream.waiting();
        let before = std::mem::replace(&mut conn.accounted, waiting);
        let shared = &self.shared;
        if waiting >= before {
            shared.waiting_bytes.fetch_add(waiting - before, Ordering::Relaxed);
        } else {
            shared.waiting_bytes.fetch_sub(before - waiting, Ordering::Relaxed);
        }
        let (total, max) = (
            shared.waiting_bytes.load(Ordering::Relaxed),
            shared.waiting_bytes_max.load(Ordering::Relaxed),
        );
        let listener = match &conn.kind {
            Kind::Ldap(client) => client.listener,
            Kind::Rpc(client) => client.listener,
            Kind::Ask(client) => client.listener,
            _ => return usize::MAX,
        };
        let own = self
            .listeners
            .get(&listener)
            .map_or(SCARCE_BYTES, |listener| listener.plan.outbox_bytes_max);
        match total {
            total if total >= max => 0,
            total if total >= max / 2 => own.min(SCARCE_BYTES),
            _ => own,
        }
    }

    /// A shared connection is put aside for one client. False: no other could be opened in its stead.
    fn set_aside(&mut self, index: usize, ticket: Ticket) -> bool {
        let now = self.now;
        let Some(state) = self.pool(index) else { return false };
        let Some(upstream) = state.pool.upstream_of(ticket) else {
            return false;
        };
        let done = state.pool.set_aside(upstream, ticket, now, &mut state.effects);
        self.carry_out(index, None);
        done
    }

    /// Stops reading the connection that brings this client's answers.
    fn choke(&mut self, to: ConnRef, at: usize) {
        let now = self.now;
        let Some(server) = self.conn(to) else { return };
        server.choked = true;
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.stalled_since.is_none() {
            conn.stalled_since = Some(now);
        }
        if let Some(choking) = conn.choking()
            && !choking.contains(&to)
        {
            choking.push(to);
        }
    }

    /// The operation is ended; its client is told, if it ever reads on.
    fn give_up(&mut self, index: usize, ticket: Ticket, caller: Caller) {
        let now = self.now;
        let at = caller.conn.at as usize;
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Ldap(client) = &mut conn.kind
        {
            client
                .session
                .too_slow(caller.id, caller.tag, conn.stream.outbox(&mut self.spares));
            // It may be one of a thousand that stay until their write_timeout.
            conn.stream.shrink();
        }
        let Some(state) = self.pool(index) else { return };
        if let Some(directory) = state.directory() {
            directory.counts.slow_readers += 1;
        }
        state.pool.cancel(ticket, now, &mut state.effects);
        self.carry_out(index, None);
        self.mark_dirty(at);
        self.let_go(at);
        // If it takes nothing more it is closed at its write_timeout.
        self.arm_client(at);
    }

    /// Some of a client's outbox was written.
    #[inline]
    pub(super) fn unchoke(&mut self, at: usize) {
        let Some(conn) = self.conns.get(at) else { return };
        if conn.accounted == 0 {
            return;
        }
        let bound = self.account(at);
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.stream.waiting() > bound / 2 {
            return;
        }
        if let Some(choking) = conn.choking() {
            let choking = std::mem::take(choking);
            self.release_choked(&choking);
        }
    }

    /// These connections are read again.
    pub(super) fn release_choked(&mut self, choking: &[ConnRef]) {
        for to in choking {
            if let Some(conn) = self.conn(*to) {
                conn.choked = false;
                conn.readable = true;
                self.look_at_again(to.at as usize);
            }
        }
    }

    /// A client for which connections wait has taken nothing for too long: everything it has is given up.
    pub(super) fn lose_patience(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let generation = conn.generation;
        let (index, tickets): (usize, Vec<Ticket>) = match &conn.kind {
            Kind::Ldap(client) => (client.pool, client.session.tickets().collect()),
            Kind::Ask(client) => (client.pool, client.tickets().collect()),
            _ => return,
        };
        let choking = conn.choking().map(std::mem::take).unwrap_or_default();
        let wary_until = self.now + WARY;
        if let Some(state) = self.pool(index) {
            state.wary_until = wary_until;
        }
        for ticket in tickets {
            let caller = self
                .pool(index)
                .and_then(|state: &mut PoolState| state.flight(ticket)?.caller);
            if let Some(caller) = caller.filter(|caller| caller.conn.generation == generation) {
                self.give_up(index, ticket, caller);
            }
        }
        self.release_choked(&choking);
    }
}
