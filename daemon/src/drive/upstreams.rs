//! Connections to LDAP servers: dialled, made ready, read, lost.

use engine::core::{Cause, Settlement, UpstreamId};
use engine::session::ldap::{Bound, Ended, Next, lane};
use engine::upstream::ldap::{Connection, Event, Own, Step as Hello};
use wire::frame::Malformed;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::result::{self, code};
use wire::ldap::root_dse::is_root_dse;

use super::Drive;
use super::ahead::Brought;
use super::conn::{Conn, ConnRef, Kind};
use super::pools::{Caller, PoolState};
use crate::audit::record::{End, Entry};
use crate::net::own_bind;
use crate::net::stream::{Flushed, Stream};
use engine::core::Ticket;

/// What one message of a server leads to.
enum Flow {
    Go,
    Gone,
}

impl Drive {
    /// The lane that a connection serves.
    pub(super) fn lane_of(&self, conn: ConnRef) -> Option<u8> {
        match &self
            .conns
            .get(conn.at as usize)
            .filter(|found| found.generation == conn.generation)?
            .kind
        {
            Kind::Upstream(upstream) => Some(upstream.lane),
            _ => None,
        }
    }

    /// The connect has ended, one way or the other.
    pub(super) fn connected(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if matches!(conn.kind, Kind::Check(_)) {
            return self.check_connected(at);
        }
        if let Some(error) = conn.stream.raw().take_error() {
            return self.upstream_lost(at, &error.to_string());
        }
        if !conn.stream.raw().is_connected() {
            return;
        }
        let Some(upstream) = conn.upstream() else { return };
        upstream.connecting = false;
        if !self.introduce(at) {
            return self.upstream_lost(at, "it does not take the PROXY header");
        }
        self.hello(at, |machine, bind, out| machine.connected(bind, out));
    }

    /// One step of becoming ready.
    pub(super) fn hello(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Connection, Option<Own<'_>>, &mut Vec<u8>) -> Hello,
    ) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Upstream(upstream) = &mut conn.kind else {
            return;
        };
        let (index, id, number, lane) = (upstream.pool, upstream.id, upstream.server, upstream.lane);
        let Some(directory) = self
            .pools
            .get_mut(index)
            .and_then(Option::as_mut)
            .and_then(PoolState::directory)
        else {
            return;
        };
        // Clients bind on bind connections themselves.
        let own = directory
            .own_bind(number, lane)
            .filter(|_| matches!(lane, lane::SHARED | lane::FEED | lane::APART));
        let server = directory.servers.get(number);
        let bind = own
            .zip(server)
            .map(|(bind, server)| own_bind::own(bind, &server.plan.target));
        let step = match bind.transpose() {
            Ok(bind) => step(&mut upstream.machine, bind, conn.stream.outbox(&mut self.spares)),
            Err(why) => Hello::Failed(why),
        };
        conn.stream.mark_sensitive();
        let tls = server.and_then(|server| server.tls.clone());
        self.mark_dirty(at);
        match step {
            Hello::Wait => {}
            Hello::Gss => self.gss_ask(at),
            Hello::Failed(why) => self.upstream_lost(at, why),
            Hello::Refused(what, code) => {
                let name = result::name(code);
                self.upstream_lost(at, &format!("the server refused {what}: {name} ({code})"));
            }
            Hello::Tls => {
                let begun = match (tls, self.conns.get_mut(at)) {
                    (Some((config, name)), Some(conn)) => conn.stream.connect_tls(config, name).is_ok(),
                    _ => false,
                };
                if !begun {
                    self.upstream_lost(at, "TLS could not begin");
                }
            }
            Hello::Ready => {
                self.disarm(at);
                if let Some(gss) = self.conns.get_mut(at).and_then(|conn| conn.gss()) {
                    *gss = None;
                }
                let now = self.now;
                if let Some(state) = self.pool(index) {
                    state.pool.upstream_up(id, now, &mut state.effects);
                }
                self.carry_out(index, None);
            }
        }
    }

    /// Bytes have come from a server.
    pub(super) fn upstream_readable(&mut self, at: usize, brought: Option<Brought<'_>>) {
        if self.conns.get(at).is_some_and(|conn| conn.choked) {
            // Each arrival is an event: were it read, what nobody takes would pile up here. `release_choked` looks again.
            return self.leave_for_later(at, brought);
        }
        let gone = match brought {
            Some(brought) => {
                let filled = self.fill_with(at, &brought);
                self.upstream_filled(at, filled, brought.bytes)
            }
            None => {
                let mut scratch = std::mem::take(&mut self.scratch);
                let gone = self.upstream_read(at, &mut scratch);
                self.scratch = scratch;
                gone
            }
        };
        if !gone {
            let Some(conn) = self.conns.get_mut(at) else { return };
            if conn.readable && !conn.choked {
                self.look_at_again(at);
            }
        }
    }

    fn upstream_read(&mut self, at: usize, scratch: &mut [u8]) -> bool {
        let was_handshaking = self.conns.get(at).is_some_and(|conn| conn.stream.is_handshaking());
        let filled = self.fill(at, scratch);
        if was_handshaking && filled.is_some() {
            self.mark_dirty(at);
            let done = self.conns.get(at).is_some_and(|conn| !conn.stream.is_handshaking());
            if done {
                self.hello(at, |machine, bind, out| machine.tls_done(bind, out));
            }
        }
        self.upstream_filled(at, filled, scratch)
    }

    /// Whether the connection is gone.
    fn upstream_filled(&mut self, at: usize, filled: Option<(usize, Vec<u8>)>, scratch: &[u8]) -> bool {
        let Some((n, mut held)) = filled else {
            let fault = self
                .conns
                .get(at)
                .and_then(|conn| conn.stream.fault().map(|fault| format!("TLS: {fault}")));
            self.upstream_lost(at, fault.as_deref().unwrap_or("the server closed the connection"));
            return true;
        };
        if n == 0 && held.is_empty() {
            return self.conns.get(at).is_none();
        }
        let generation = self.conns.get(at).map(|conn| conn.generation);
        let taken = if held.is_empty() {
            let bytes = scratch.get(..n).unwrap_or_default();
            let taken = self.upstream_frames(at, bytes);
            if let Some(taken) = taken {
                held.extend_from_slice(bytes.get(taken..).unwrap_or_default());
            }
            taken.map(|_| 0)
        } else {
            self.upstream_frames(at, &held)
        };
        let (Some(taken), Some(conn)) = (taken, self.conns.get_mut(at)) else {
            return true;
        };
        if Some(conn.generation) != generation {
            return true;
        }
        held.drain(..taken);
        conn.inbox = held;
        self.keep_inbox(at);
        false
    }

    /// Takes whole messages; how many bytes they were. None: the connection is gone.
    fn upstream_frames(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let conn = self.conns.get(at)?;
        let Kind::Upstream(upstream) = &conn.kind else {
            return None;
        };
        let (index, id) = (upstream.pool, upstream.id);
        let now = self.now;
        if upstream.lane == lane::FEED
            && let Some(conn) = self.conns.get_mut(at)
        {
            conn.active_at = now;
        }
        let bytes_max = {
            let state = self.pool(index)?;
            state.pool.heard(id, now);
            state.directory()?.plan.limits.response_bytes_max
        };
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.conns.get(at)?.choked {
                break;
            }
            let fault = match envelope::split(rest, bytes_max) {
                wire::frame::Step::NeedMore { .. } => break,
                wire::frame::Step::Malformed(fault) => fault,
                wire::frame::Step::Frame { len } => {
                    let frame = rest.get(..len)?;
                    taken += len;
                    match envelope::peek(frame).and_then(|env| self.upstream_message(at, index, id, &env)) {
                        Ok(Flow::Go) => continue,
                        Ok(Flow::Gone) => return None,
                        Err(fault) => fault,
                    }
                }
            };
            self.upstream_lost(at, &format!("the server broke the protocol: {fault}"));
            return None;
        }
        // Bytes behind the answer to StartTLS were not under TLS: somebody put them there (CVE-2011-0411).
        let conn = self.conns.get(at)?;
        let injected = matches!(&conn.kind, Kind::Upstream(u) if u.machine.expects_tls())
            && conn.stream.is_handshaking()
            && taken < bytes.len();
        if injected {
            self.upstream_lost(at, "bytes in clear followed the answer to StartTLS");
            return None;
        }
        Some(taken)
    }

    fn upstream_message(
        &mut self,
        at: usize,
        index: usize,
        id: UpstreamId,
        env: &Envelope<'_>,
    ) -> Result<Flow, Malformed> {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else {
            return Ok(Flow::Gone);
        };
        let Kind::Upstream(upstream) = &mut conn.kind else {
            return Ok(Flow::Gone);
        };
        if !upstream.machine.is_ready() {
            self.hello(at, |machine, bind, out| machine.handshake(env, bind, out));
            return Ok(if self.conns.get(at).is_some() {
                Flow::Go
            } else {
                Flow::Gone
            });
        }
        let event = upstream.machine.receive(env, conn.stream.outbox(&mut self.spares))?;
        match event {
            Event::Reply { ticket, settlement } => {
                let Some(state) = self.pool(index) else {
                    return Ok(Flow::Gone);
                };
                if let Some(caller) = state.pool.reply(ticket, id, settlement, now, &mut state.effects) {
                    self.deliver(index, ticket, caller, env, settlement);
                }
            }
            Event::BindStep { ticket } => self.bind_step(index, id, ticket, env),
            Event::BindKept { ticket } => self.bind_kept(index, id, ticket, env),
            Event::BindHeld { ticket } => {
                if let Some(directory) = self.pool(index).and_then(PoolState::directory) {
                    directory.counts.names_asked += 1;
                }
                if let Some(flight) = self.pool(index).and_then(|state| state.flight(ticket)) {
                    flight.answer.clear();
                    envelope::write(&mut flight.answer, 0, env.op, env.controls, &[]);
                }
                self.mark_dirty(at);
            }
            Event::BindIdentity { ticket, known } => self.bind_identity(index, id, ticket, known, env),
            Event::Probe => {
                if let Some(state) = self.pool(index) {
                    state.pool.probe_answered(id, now, &mut state.effects);
                }
            }
            Event::Disconnection => self.server_says_goodbye(index, id, env),
            Event::Nothing => {}
        }
        self.carry_out(index, None);
        Ok(if self.conns.get(at).is_some() {
            Flow::Go
        } else {
            Flow::Gone
        })
    }

    /// The server has said who the client is that bound: the answer to the bind goes out.
    fn bind_identity(&mut self, index: usize, id: UpstreamId, ticket: Ticket, known: bool, env: &Envelope<'_>) {
        let now = self.now;
        let sasl = self.is_sasl_bind(index, ticket);
        if sasl && !known {
            return self.bind_is_nameless(index, id, ticket);
        }
        let Some(state) = self.pool(index) else { return };
        let answer = state
            .flight(ticket)
            .map(|flight| std::mem::take(&mut flight.answer))
            .unwrap_or_default();
        let settlement = Settlement::Done(engine::core::Verdict::Well);
        let Some(caller) = state.pool.reply(ticket, id, settlement, now, &mut state.effects) else {
            return;
        };
        let identity = known
            .then(|| result::read_result(env.op).ok().and_then(|result| result.value))
            .flatten();
        if self.pool(index).is_some_and(|state| state.is_told(ticket)) {
            return self.name_told(index, ticket, caller, identity);
        }
        if let Some(identity) = identity {
            let name = self
                .conns
                .get(caller.conn.at as usize)
                .filter(|_| !sasl)
                .and_then(|conn| match &conn.kind {
                    Kind::Ldap(client) if conn.generation == caller.conn.generation => {
                        Some(client.session.bind_name().to_vec())
                    }
                    _ => None,
                });
            let directory = self.pool(index).and_then(PoolState::directory);
            if let (Some(name), Some(directory)) = (name, directory) {
                directory.learn_whoami(&name, identity, now);
            }
            if let Some(flight) = self.pool(index).and_then(|state| state.flight(ticket)) {
                flight.identify(identity);
            }
        }
        if let Ok(answered) = envelope::peek(&answer) {
            self.deliver(index, ticket, caller, &answered, settlement);
        }
    }

    /// Notice of disconnection: what is pending may still be answered, nothing new is sent. A client whose own connection
    /// it is hears of it.
    fn server_says_goodbye(&mut self, index: usize, id: UpstreamId, _env: &Envelope<'_>) {
        let now = self.now;
        if let Some(state) = self.pool(index) {
            state.pool.upstream_draining(id, now, &mut state.effects);
        }
    }

    /// A reply goes to its client. `settlement` says whether it is the last.
    pub(super) fn deliver(
        &mut self,
        index: usize,
        ticket: Ticket,
        caller: Caller,
        env: &Envelope<'_>,
        settlement: Settlement,
    ) {
        let at = caller.conn.at as usize;
        let last = matches!(settlement, Settlement::Done(_));
        if caller.tag == tag::BIND_REQUEST && self.pool(index).is_some_and(|state| state.is_told(ticket)) {
            // It was sent a second time, for the name alone.
            return self.bound_again(index, ticket, caller, env, last);
        }
        let minds = last && self.note_answer(index, caller, env);
        if last {
            self.count_answer(index, ticket, caller, env);
        } else if is_root_dse(env) && self.deliver_root_dse(index, ticket, caller, env) {
            return;
        }
        if last {
            self.note_page(index, ticket, caller, env);
        } else if env.tag == tag::SEARCH_ENTRY && self.is_too_large(index, ticket, caller) {
            return;
        }
        if !last && !self.has_room(index, ticket, caller, env.op.len()) {
            return;
        }
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let entry = if last { state.land(ticket) } else { None };
        if caller.conn == ConnRef::FEED {
            return self.feed_message(caller, env, last);
        }
        if caller.conn.is_radius() {
            return self.radius_replied(caller, env, last);
        }
        let Some(conn) = self
            .conns
            .get_mut(at)
            .filter(|conn| conn.generation == caller.conn.generation)
        else {
            return;
        };
        if let Kind::Ask(_) = conn.kind {
            return self.question_replied(index, ticket, caller, env, last);
        }
        let Kind::Ldap(_) = conn.kind else { return };
        if !last {
            if self.audit.is_some() && env.tag == tag::SEARCH_ENTRY {
                state.count_entry(ticket);
            }
            envelope::write(
                conn.stream.outbox(&mut self.spares),
                caller.id,
                env.op,
                env.controls,
                &[],
            );
            self.mark_dirty(at);
            return self.watch_outbox(index, ticket, caller);
        }
        if !self.deliver_end(index, ticket, caller, env, entry) {
            return;
        }
        if minds {
            self.let_go(at);
        }
        self.resume(at);
    }

    /// The last reply to a request of an LDAP client, who is there; false: it does not want it any more.
    fn deliver_end(
        &mut self,
        index: usize,
        ticket: Ticket,
        caller: Caller,
        env: &Envelope<'_>,
        entry: Option<Box<Entry>>,
    ) -> bool {
        let at = caller.conn.at as usize;
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return false;
        };
        let Some(conn) = self.conns.get_mut(at) else {
            return false;
        };
        let Kind::Ldap(client) = &mut conn.kind else {
            return false;
        };
        if client.session.answered(caller.id, caller.tag) == Ended::Drop {
            self.audit_end(at, entry, End::Canceled);
            return false;
        }
        envelope::write(
            conn.stream.outbox(&mut self.spares),
            caller.id,
            env.op,
            env.controls,
            &[],
        );
        if caller.tag == tag::BIND_REQUEST && result::result_code(env.op) == Some(code::SUCCESS) {
            let identity = state.flight(ticket).and_then(|flight| flight.identity());
            client.session.bound(identity.map_or(Bound::AsTyped, Bound::As));
        }
        let next = client.session.after_end(conn.stream.outbox(&mut self.spares));
        self.mark_dirty(at);
        if caller.tag == tag::BIND_REQUEST {
            self.bid_ended(at, result::result_code(env.op));
        }
        if entry.is_some() {
            self.audit_end(
                at,
                entry,
                End::Answered(result::result_code(env.op).unwrap_or(code::OTHER)),
            );
        }
        if next != Next::Done {
            self.after(at, next);
        }
        true
    }

    /// A connection to a server is gone.
    pub(super) fn upstream_lost(&mut self, at: usize, why: &str) {
        let now = self.now;
        if self.dial_another(at, why) {
            return;
        }
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Upstream(upstream) = &conn.kind else { return };
        let (index, id, number, ready) = (upstream.pool, upstream.id, upstream.server, upstream.machine.is_ready());
        let lane = upstream.lane;
        self.remove(at);
        let Some(state) = self.pool(index) else { return };
        if let Some(server) = state
            .directory()
            .and_then(|directory| directory.servers.get_mut(number))
        {
            if !ready && server.last_error.as_deref() != Some(why) {
                tracing::warn!(server = server.plan.name, why, "no connection");
                server.last_error = Some(why.to_owned());
            } else if ready {
                tracing::info!(server = server.plan.name, why, "connection lost");
            }
        }
        state.take_place(id);
        let cause = if ready { Cause::Lost } else { Cause::OpenFailed };
        state.pool.upstream_down(id, cause, now, &mut state.effects);
        self.carry_out(index, None);
        self.make_way(index);
        if lane == lane::PINNED {
            self.pin_lost(index, id);
        }
    }

    /// Orderly: Unbind, then close.
    pub(super) fn unbind(&mut self, conn: ConnRef) {
        let at = conn.at as usize;
        let Some(found) = self
            .conns
            .get_mut(at)
            .filter(|found| found.generation == conn.generation)
        else {
            return;
        };
        if let Kind::Upstream(upstream) = &mut found.kind
            && upstream.machine.is_ready()
        {
            upstream.machine.unbind(found.stream.outbox(&mut self.spares));
            if found.stream.flush(&mut self.spares, self.poll.registry()) != Flushed::Broken {
                found.stream.shutdown();
            }
        }
        self.remove(at);
    }

    /// Something with a place in the slab and in the poll.
    pub(super) fn adopt(&mut self, stream: Stream, kind: Kind) -> Option<ConnRef> {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let at = self.conns.insert(Conn::new(stream, kind, generation, self.now));
        let conn = self.conns.get_mut(at)?;
        if let Err(error) = conn.stream.register(self.poll.registry(), mio::Token(at)) {
            tracing::warn!(%error, "a socket could not be registered");
            self.conns.remove(at);
            return None;
        }
        Some(ConnRef {
            at: u32::try_from(at).ok()?,
            generation,
        })
    }
}
