//! What pools want done is done here, for every kind of upstream.

use std::io::Write as _;

use engine::core::{Effect, Reason, Ticket, UpstreamId};
use engine::session::ldap::{Next, lane};
use engine::upstream::ldap::Ask;
use wire::ldap::control;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::grammar;
use wire::ldap::message::oid;

use super::conn::{ConnRef, Kind};
use super::pools::{Caller, Place, PoolState};
use super::{Drive, audit, local};
use crate::audit::record::End;

/// The request that is being submitted: its bytes are still in the read buffer.
#[derive(Clone, Copy)]
pub(super) struct Current<'a> {
    pub(super) ticket: Ticket,
    pub(super) env: Envelope<'a>,
}

/// An extended operation that travels without its client's identity: slapd takes no proxied authorization with the begin and
/// the end of a transaction (it answers 12), and needs none: each change of the transaction carries its own, and on this
/// connection there is nobody else.
fn is_bare(env: &Envelope<'_>) -> bool {
    grammar::extended(env.op).is_ok_and(|request| {
        [oid::TRANSACTION_START, oid::TRANSACTION_END]
            .iter()
            .any(|oid| oid.as_bytes() == request.oid)
    })
}

impl Drive {
    pub(super) fn pool(&mut self, index: usize) -> Option<&mut PoolState> {
        self.pools.get_mut(index)?.as_mut()
    }

    /// Carries out what a pool wants until it wants nothing more. What is told to the pool meanwhile adds to the list.
    pub(super) fn carry_out(&mut self, index: usize, current: Option<Current<'_>>) {
        let Some(state) = self.pool(index) else { return };
        if state.busy || state.effects.is_empty() {
            return;
        }
        state.busy = true;
        let mut work = std::mem::take(&mut state.work);
        while let Some(state) = self.pool(index)
            && !state.effects.is_empty()
        {
            std::mem::swap(&mut state.effects, &mut work);
            for effect in work.drain(..) {
                self.effect(index, effect, current);
            }
        }
        if let Some(state) = self.pool(index) {
            state.busy = false;
            state.work = work;
            if state.is_service() {
                self.note_saturation(index);
            }
        }
    }

    fn effect(&mut self, index: usize, effect: Effect<Caller>, current: Option<Current<'_>>) {
        match effect {
            Effect::Send { ticket, upstream } => self.send(index, ticket, upstream, current),
            Effect::Failed {
                ticket,
                user,
                reason,
                sent,
            } => self.failed(index, ticket, user, reason, sent),
            Effect::Open { upstream, server, lane } => self.open(index, upstream, server, lane),
            Effect::Abandon { ticket, upstream } => self.abandon(index, ticket, upstream),
            Effect::Close { upstream } => self.close_upstream(index, upstream),
            Effect::Probe { upstream } => self.probe(index, upstream),
            Effect::Check { server, number } => self.check_server(index, server, number),
            Effect::Interrupt { ticket, upstream } => self.stop(index, upstream, Some(ticket)),
            Effect::Kill { upstream } => self.stop(index, upstream, None),
        }
    }

    fn send(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId, current: Option<Current<'_>>) {
        let Some(state) = self.pool(index) else { return };
        if state.pool.upstream_of(ticket) != Some(upstream) {
            // It has ended or moved since.
            return;
        }
        let to = match state.place(upstream) {
            Some(Place::Conn(conn)) => *conn,
            Some(Place::Local(_)) => return self.answer_locally(index, ticket, upstream, current),
            Some(Place::Runner(_)) => return self.start_program(index, ticket, upstream),
            Some(Place::Helper(to)) => {
                let to = *to;
                return self.call_helper(index, ticket, to);
            }
            _ => return,
        };
        let Some(flight) = state.flight(ticket) else { return };
        let Some(caller) = flight.caller else { return };
        match current.filter(|current| current.ticket == ticket) {
            Some(current) => self.send_ldap(index, ticket, caller, upstream, to, &current.env),
            None => {
                let bytes = std::mem::take(&mut flight.bytes);
                if let Ok(env) = envelope::peek(&bytes) {
                    self.send_ldap(index, ticket, caller, upstream, to, &env);
                }
                if let Some(flight) = self.pool(index).and_then(|state| state.flight(ticket)) {
                    flight.bytes = bytes;
                }
            }
        }
    }

    fn send_ldap(
        &mut self,
        index: usize,
        ticket: Ticket,
        caller: Caller,
        upstream: UpstreamId,
        to: ConnRef,
        env: &Envelope<'_>,
    ) {
        let Some(lane) = self.lane_of(to) else { return };
        if self.audit.is_some() {
            self.audit_sent(index, ticket, upstream);
        }
        self.set_control(index, caller, lane);
        if self.asserts(index, caller, env)
            || lane == lane::APART && caller.tag == tag::EXTENDED_REQUEST && is_bare(env)
        {
            self.control.clear();
        }
        self.add_tracking(index, caller);
        self.note_sent(index, caller, upstream);
        if matches!(lane, lane::PINNED | lane::FEED) {
            self.pinned(caller, upstream);
        }
        let ask = match (lane, caller.tag) {
            (lane::BIND, tag::BIND_REQUEST) => self.ask_whoami(index, ticket, caller),
            _ => Ask::Never,
        };
        let control = std::mem::take(&mut self.control);
        let wire_id = self.conns.get_mut(to.at as usize).and_then(|conn| {
            let Kind::Upstream(server) = &mut conn.kind else {
                return None;
            };
            let out = conn.stream.outbox(&mut self.spares);
            let id = if caller.tag == tag::BIND_REQUEST {
                let id = server.machine.send_bind(ticket, env, ask, &control, out);
                conn.stream.mark_sensitive();
                id
            } else {
                server.machine.send(ticket, env, &control, out)
            };
            Some(id)
        });
        self.control = control;
        if let (Some(wire_id), Some(flight)) = (wire_id, self.pool(index).and_then(|state| state.flight(ticket))) {
            flight.wire_id = wire_id;
        }
        self.mark_dirty(to.at as usize);
    }

    /// This connection to a server is the caller's own from now on.
    fn pinned(&mut self, caller: Caller, upstream: UpstreamId) {
        if caller.conn == ConnRef::FEED {
            return self.feed_pinned(caller, upstream);
        }
        match self.conn(caller.conn).map(|conn| &mut conn.kind) {
            Some(Kind::Ldap(client)) => client.session.pinned(upstream),
            Some(Kind::Ask(client)) => client.pinned(upstream),
            _ => {}
        }
    }

    /// Puts the control that carries the client's identity on this lane into `self.control`; empty where none does.
    pub(super) fn set_control(&mut self, index: usize, caller: Caller, lane: u8) {
        self.control.clear();
        let proxied = self
            .pool(index)
            .and_then(PoolState::directory)
            .is_some_and(|directory| directory.is_proxied());
        if !proxied || !matches!(lane, lane::SHARED | lane::APART) {
            return;
        }
        let Some(conn) = self.conns.get(caller.conn.at as usize) else {
            return;
        };
        if conn.generation != caller.conn.generation {
            return;
        }
        let Kind::Ldap(client) = &conn.kind else { return };
        match client.session.control() {
            Some(control) => self.control.extend_from_slice(control),
            None => self.control.extend_from_slice(&self.anonymous),
        }
    }

    /// Whether the client's own proxied authorization control travels, and ours does not.
    fn asserts(&mut self, index: usize, caller: Caller, env: &Envelope<'_>) -> bool {
        let directory = self.pools.get_mut(index).and_then(Option::as_mut);
        let Some(own) = directory
            .and_then(PoolState::directory)
            .and_then(|directory| directory.plan.assertions.as_deref())
        else {
            return false;
        };
        let conn = self.conns.get(caller.conn.at as usize);
        let conn = conn.filter(|conn| conn.generation == caller.conn.generation);
        matches!(conn.map(|conn| &conn.kind), Some(Kind::Ldap(client)) if client.session.asserts(env.controls, own))
    }

    /// Adds the session tracking control to `self.control`, where the directory has it: the client's address, our name, and
    /// who the client is.
    pub(super) fn add_tracking(&mut self, index: usize, caller: Caller) {
        let directory = self.pools.get_mut(index).and_then(Option::as_mut);
        let plan = directory
            .and_then(PoolState::directory)
            .map(|directory| &directory.plan);
        let Some(name) = plan.and_then(|plan| plan.session_tracking.as_deref()) else {
            return;
        };
        let Some(conn) = self.conns.get(caller.conn.at as usize) else {
            return;
        };
        let Kind::Ldap(client) = &conn.kind else { return };
        if conn.generation != caller.conn.generation {
            return;
        }
        let mut address = self.spares.take();
        if let Some(peer) = conn.peer {
            // Writing to memory does not fail.
            let _ = write!(address, "{}", peer.ip());
        }
        let identity = std::str::from_utf8(client.session.authzid()).unwrap_or_default();
        // Names end up in the logs of servers: what could break a line there is not passed on.
        let identity = if identity.chars().any(char::is_control) {
            ""
        } else {
            identity
        };
        control::session_tracking(&mut self.control, &address, name.as_bytes(), identity.as_bytes());
        self.spares.give(address);
    }

    /// `sent`: an upstream may have acted on it.
    pub(super) fn failed(&mut self, index: usize, ticket: Ticket, caller: Caller, reason: Reason, sent: bool) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        if state.is_service() {
            return self.call_failed(index, ticket, caller, reason, sent);
        }
        let since = state.flight(ticket).map_or(now, |flight| flight.since);
        if reason == Reason::Deadline {
            self.note_too_long(index, ticket, caller);
        }
        let Some(state) = self.pool(index) else { return };
        if state.is_told(ticket) {
            state.land(ticket);
            return self.name_lost(caller, ticket);
        }
        let entry = state.land(ticket);
        if let Some(directory) = state.directory() {
            directory.count_failure(caller.tag, reason, sent, now.since(since));
        }
        if caller.conn == ConnRef::FEED {
            return self.feed_failed(caller, reason);
        }
        if caller.conn.is_radius() {
            return self.radius_failed(caller);
        }
        let at = caller.conn.at as usize;
        let Some(conn) = self
            .conns
            .get_mut(at)
            .filter(|conn| conn.generation == caller.conn.generation)
        else {
            return;
        };
        let mut end = End::Canceled;
        let next = match &mut conn.kind {
            Kind::Ldap(client) => {
                let pinned_bind = caller.tag == tag::BIND_REQUEST && client.session.pin().is_some();
                let out = conn.stream.outbox(&mut self.spares);
                let before = out.len();
                if !client.session.held_failed(caller.id, ticket) {
                    client.session.failed(caller.id, caller.tag, reason, out);
                }
                if entry.is_some()
                    && let Some(code) = audit::answered(out, before)
                {
                    end = End::Failed(code);
                }
                if pinned_bind && reason == Reason::Deadline {
                    // Nobody knows who the connection's identity is by now.
                    client.session.pin_lost(out)
                } else {
                    client.session.after_end(out)
                }
            }
            Kind::Ask(_) => return self.question_failed(caller, reason),
            _ => return,
        };
        if caller.tag == tag::BIND_REQUEST {
            self.bid_ended(at, None);
        }
        self.audit_end(at, entry, end);
        self.mark_dirty(at);
        self.after(at, next);
        self.let_go(at);
        self.resume(at);
    }

    /// What a session says after something of its client's has ended.
    pub(super) fn after(&mut self, at: usize, next: Next) {
        if next == Next::Close {
            self.close_when_written(at);
        }
    }

    fn abandon(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId) {
        let Some(state) = self.pool(index) else { return };
        let Some(wire_id) = state.flight(ticket).map(|flight| flight.wire_id) else {
            return;
        };
        let to = match state.place(upstream) {
            Some(Place::Conn(to)) => *to,
            Some(Place::Local(_)) => {
                return self.forget_followers(|pool, other, _| pool == index && other == ticket);
            }
            _ => return,
        };
        let at = to.at as usize;
        // A number that the ticket had on another connection may be somebody else's here.
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Upstream(server) = &mut conn.kind
            && server.machine.stands_for(wire_id, ticket)
        {
            server.machine.abandon(wire_id, conn.stream.outbox(&mut self.spares));
            self.mark_dirty(at);
        }
    }

    fn probe(&mut self, index: usize, upstream: UpstreamId) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let at = match state.place(upstream) {
            Some(Place::Conn(to)) => to.at as usize,
            Some(Place::Local(_)) => return state.pool.probe_answered(upstream, now, &mut state.effects),
            _ => return,
        };
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Upstream(server) = &mut conn.kind
        {
            server.machine.probe(conn.stream.outbox(&mut self.spares));
            self.mark_dirty(at);
        }
    }

    /// The pool has given up a call of a program or helper, or the program or helper itself.
    fn stop(&mut self, index: usize, upstream: UpstreamId, ticket: Option<Ticket>) {
        let helper = self.pool(index).and_then(|state| match state.place(upstream) {
            Some(Place::Helper(helper)) => Some(*helper),
            _ => None,
        });
        match (helper, ticket) {
            (Some(_), Some(ticket)) => self.interrupt_helper(index, upstream, ticket),
            (Some(helper), None) => self.kill_helper(helper),
            (None, ticket) => self.stop_program(index, upstream, ticket),
        }
    }

    /// The pool has forgotten this upstream.
    fn close_upstream(&mut self, index: usize, upstream: UpstreamId) {
        let Some(state) = self.pool(index) else { return };
        if let Some(Place::Helper(helper)) = state.place(upstream) {
            // Its place is free only when it is gone.
            let helper = *helper;
            return self.dismiss_helper(helper);
        }
        match state.take_place(upstream) {
            Place::Conn(conn) => {
                let owned = self.lane_of(conn) == Some(lane::PINNED);
                self.unbind(conn);
                if owned {
                    self.pin_lost(index, upstream);
                }
            }
            Place::Runner(Some(run)) => self.kill_program(run),
            Place::Local(_) => self.forget_followers(|pool, _, other| pool == index && other == upstream),
            Place::Resolving { .. } | Place::Runner(None) | Place::Helper(_) | Place::Nowhere => {}
        }
    }

    fn answer_locally(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId, current: Option<Current<'_>>) {
        let Some(caller) = self
            .pool(index)
            .and_then(|s| s.flight(ticket))
            .and_then(|flight| flight.caller)
        else {
            return;
        };
        let Some(lane) = self.pool(index).and_then(|state| match state.place(upstream) {
            Some(Place::Local(local)) => Some(local.lane),
            _ => None,
        }) else {
            return;
        };
        self.note_sent(index, caller, upstream);
        if matches!(lane, lane::PINNED | lane::FEED) {
            self.pinned(caller, upstream);
        }
        if self.audit.is_some() {
            self.audit_sent(index, ticket, upstream);
        }
        self.set_control(index, caller, lane);
        let mut out = self.spares.take();
        let mut request = self.spares.take();
        let mut following = None;
        let control = std::mem::take(&mut self.control);
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let stored = state
            .flight(ticket)
            .map(|flight| std::mem::take(&mut flight.bytes))
            .unwrap_or_default();
        let env = match current.filter(|current| current.ticket == ticket) {
            Some(current) => Some(current.env),
            None => envelope::peek(&stored).ok(),
        };
        if let Some(env) = &env {
            envelope::write(&mut request, caller.id, env.op, env.controls, &control);
            following = local::answer(state, upstream, &request, &mut out);
        }
        if let Some(flight) = state.flight(ticket) {
            flight.bytes = stored;
        }
        self.control = control;
        self.deliver_local(index, ticket, upstream, &out);
        if let Some(following) = following {
            self.followed(index, ticket, upstream, caller, following);
        }
        zeroize::Zeroize::zeroize(&mut request);
        self.spares.give(request);
        self.spares.give(out);
    }
}
