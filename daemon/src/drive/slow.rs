//! Clients that read more slowly than their answers come.
//!
//! A client's outbox is bounded; the bound shrinks when many clients together are slow. Beyond it, the connection that
//! brings the answers is not read for a while: on a connection of the client's own that hurts nobody else. A shared one
//! is first put aside for this client: it gets no new requests, another is opened in its stead, and what others wait for
//! on it is asked again elsewhere. Few connections may be held so at once, because a server has few threads and each
//! unread connection blocks one. A client that takes nothing at all for [`PATIENCE`] is not slow but stuck: its operations
//! are given up (adminLimitExceeded) and everybody else goes on.

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
        let bound = self.account(at);
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
