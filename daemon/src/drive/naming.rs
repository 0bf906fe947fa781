//! Who a client is that has bound: its server is asked (Who am I?, RFC 4532) when the client does something for which that matters,
//! when `whoami_wait` is over, or when its connection is wanted for others' binds, whichever comes first, and not at all where the
//! client binds again or leaves before (`engine/src/session/ldap/naming.rs`). Until then the bind's ticket is `kept` by the pool: nobody
//! else binds on that connection. Should it be lost, the bind goes to another server, as one that was not answered would; its request
//! is kept that long.

use std::time::Duration;

use engine::core::time::Instant;
use engine::core::{Ticket, UpstreamId};
use engine::session::ldap::{Bound, Ended, lane};
use wire::ldap::envelope::{self, Envelope};
use wire::ldap::result::{self, code};

use super::Drive;
use super::conn::Kind;
use super::pools::{Caller, Place, Target};
use super::timers::span;

/// Kept binds that have ended are swept out of the list when it is longer than this, and than twice those that are left.
const SWEEP_FROM: usize = 64;

/// So long a bind may take that is sent a second time, or as long as any may, but longer than timers are late.
const BIND_AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

impl Drive {
    /// A client's bind is a success, and nobody knows yet as whom: it has its answer.
    pub(super) fn bind_kept(&mut self, index: usize, id: UpstreamId, ticket: Ticket, env: &Envelope<'_>) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let Some(limits) = state.directory().map(|directory| &directory.plan.limits) else {
            return;
        };
        let until = now + span(limits.whoami_wait + limits.operation_timeout.clamp(BIND_AGAIN.0, BIND_AGAIN.1));
        let Some(caller) = state.pool.keep(ticket, id, until, now, &mut state.effects) else {
            return;
        };
        let Some(flight) = state.flight(ticket) else { return };
        // The client may have another.
        flight.permit = None;
        if std::mem::replace(&mut flight.told, true) {
            return self.ask_name(index, ticket);
        }
        self.count_answer(index, ticket, caller, env);
        let at = caller.conn.at as usize;
        let conn = self.conns.get_mut(at);
        let Some(conn) = conn.filter(|conn| conn.generation == caller.conn.generation) else {
            return self.end_kept(index, ticket);
        };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        if client.session.answered(caller.id, caller.tag) == Ended::Drop {
            return self.end_kept(index, ticket);
        }
        client.session.bound_unnamed(ticket);
        let out = conn.stream.outbox(&mut self.spares);
        envelope::write(out, caller.id, env.op, env.controls, &[]);
        let next = client.session.after_end(out);
        self.mark_dirty(at);
        self.bid_ended(at, Some(code::SUCCESS));
        self.keep_for(index, id, ticket);
        self.after(at, next);
        self.resume(at);
    }

    /// A connection waits for its client's next word, unless others wait for the connection.
    fn keep_for(&mut self, index: usize, id: UpstreamId, ticket: Ticket) {
        let Some(state) = self.pool(index) else { return };
        if state.pool.is_short(lane::BIND) {
            return self.ask_name(index, ticket);
        }
        let Some(Place::Conn(to)) = state.place(id) else { return };
        let to = *to;
        let Some(directory) = state.directory() else { return };
        let wait = span(directory.plan.limits.whoami_wait);
        directory.kept.push_back(ticket);
        if directory.kept.len() >= SWEEP_FROM.max(2 * directory.kept_after_sweep) {
            self.sweep_kept(index);
        }
        if let Some(upstream) = self.conn(to).and_then(|conn| conn.upstream()) {
            upstream.kept = Some(ticket);
            self.arm(to.at as usize, wait);
        }
    }

    fn sweep_kept(&mut self, index: usize) {
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let pool = &state.pool;
        if let Target::Directory(directory) = &mut state.target {
            directory.kept.retain(|ticket| pool.is_kept(*ticket));
            directory.kept_after_sweep = directory.kept.len();
        }
    }

    /// A client wants to do something for which it matters who it is.
    pub(super) fn ask_for(&mut self, at: usize, index: usize, tag: u8) {
        let client = self.conns.get_mut(at).and_then(|conn| conn.ldap());
        if let Some(ticket) = client.and_then(|client| client.session.waits_for_name(tag)) {
            self.ask_name(index, ticket);
        }
    }

    /// If a bind waits for which no connection is on its way: the one that has been kept longest is of use after one question.
    pub(super) fn make_way(&mut self, index: usize) {
        let Some(state) = self.pool(index) else { return };
        if !state.pool.is_short(lane::BIND) {
            return;
        }
        while let Some(state) = self.pool(index)
            && let Some(ticket) = state.directory().and_then(|directory| directory.kept.pop_front())
        {
            if self.pool(index).is_some_and(|state| state.pool.is_kept(ticket)) {
                return self.ask_name(index, ticket);
            }
        }
    }

    /// Asks who the client is whose bind had this ticket, unless that has been asked.
    pub(super) fn ask_name(&mut self, index: usize, ticket: Ticket) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let timeout = state
            .directory()
            .map(|directory| span(directory.plan.limits.operation_timeout));
        let deadline = timeout.map_or(Instant::MAX, |timeout| now + timeout);
        let Some(upstream) = state.pool.ask_on(ticket, deadline, now) else {
            return;
        };
        let Some(Place::Conn(to)) = state.place(upstream) else {
            return;
        };
        let to = *to;
        if let Some(directory) = state.directory() {
            directory.counts.names_asked += 1;
        }
        let at = to.at as usize;
        self.unkeep(at);
        let conn = self.conns.get_mut(at);
        if let Some(conn) = conn.filter(|conn| conn.generation == to.generation)
            && let Kind::Upstream(server) = &mut conn.kind
        {
            server.machine.ask_whoami(ticket, conn.stream.outbox(&mut self.spares));
            self.mark_dirty(at);
        }
    }

    /// Nobody will ask who the client of this connection is.
    pub(super) fn give_up_name(&mut self, at: usize) {
        let Some(client) = self.conns.get_mut(at).and_then(|conn| conn.ldap()) else {
            return;
        };
        let index = client.pool;
        if let Some(ticket) = client.session.give_up_name() {
            self.end_kept(index, ticket);
        }
    }

    /// A kept connection is free. Where the server has been asked already it says who that is first; a bind that was to be sent
    /// again is not.
    fn end_kept(&mut self, index: usize, ticket: Ticket) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let upstream = state.pool.upstream_of(ticket);
        if state.pool.finish(ticket, now, &mut state.effects) {
            state.land(ticket);
            let place = upstream.and_then(|upstream| state.place(upstream));
            let at = match place {
                Some(Place::Conn(to)) => Some(to.at as usize),
                _ => None,
            };
            if let Some(directory) = state.directory() {
                directory.counts.names_spared += 1;
            }
            if let Some(at) = at {
                self.unkeep(at);
            }
        } else if upstream.is_none() {
            state.pool.cancel(ticket, now, &mut state.effects);
        } else {
            state.pool.leave_be(ticket);
            state.land(ticket);
        }
        self.carry_out(index, None);
    }

    fn unkeep(&mut self, at: usize) {
        let upstream = self.conns.get_mut(at).and_then(|conn| conn.upstream());
        if upstream.is_some_and(|upstream| upstream.kept.take().is_some()) {
            self.disarm(at);
        }
    }

    /// The server has answered who the client is; `identity`: what it said, if it would say it.
    pub(super) fn name_told(&mut self, index: usize, ticket: Ticket, caller: Caller, identity: Option<&[u8]>) {
        let now = self.now;
        let Some(Some(state)) = self.pools.get_mut(index) else {
            return;
        };
        state.land(ticket);
        let conn = self.conns.get_mut(caller.conn.at as usize);
        let Some(Kind::Ldap(client)) = conn
            .filter(|conn| conn.generation == caller.conn.generation)
            .map(|conn| &mut conn.kind)
        else {
            return;
        };
        if client.session.unnamed() != Some(ticket) {
            return;
        }
        if let (Some(identity), Some(directory)) = (identity, state.directory()) {
            directory.learn_whoami(client.session.bind_name(), identity, now);
        }
        client
            .session
            .named_as(ticket, identity.map_or(Bound::AsTyped, Bound::As));
        self.resume(caller.conn.at as usize);
    }

    /// The bind went to a second server, because the first was lost before it said who that is, and this one is not asked: it is the
    /// local directory, for which a name is what is typed, or it refuses.
    pub(super) fn bound_again(&mut self, index: usize, ticket: Ticket, caller: Caller, env: &Envelope<'_>, last: bool) {
        if !last {
            return;
        }
        if result::result_code(env.op) == Some(code::SUCCESS) {
            return self.name_told(index, ticket, caller, None);
        }
        if let Some(state) = self.pool(index) {
            state.land(ticket);
        }
        self.name_lost(caller, ticket);
    }

    /// Nobody can say any more who a client is: it is told, and may come again.
    pub(super) fn name_lost(&mut self, caller: Caller, ticket: Ticket) {
        let Some(conn) = self.conns.get_mut(caller.conn.at as usize) else {
            return;
        };
        if conn.generation != caller.conn.generation {
            return;
        }
        let Kind::Ldap(client) = &mut conn.kind else { return };
        let next = client.session.name_lost(ticket, conn.stream.outbox(&mut self.spares));
        self.after(caller.conn.at as usize, next);
    }
}
