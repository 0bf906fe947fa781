//! SASL of LDAP clients: the steps of a bind between client and server, who a connection says that its client is, and the root DSE
//! that says what works.

use engine::core::{Settlement, Ticket, UpstreamId, Verdict};
use engine::session::ldap::Ended;
use engine::upstream::ldap::Ask;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::result::{self, code};
use wire::ldap::root_dse::{self, Rules};

use super::Drive;
use super::conn::{ConnRef, Kind};
use super::pools::{Caller, Place};
use crate::limits::Permit;
use crate::net::stream::{Raw, Stream};

/// The server would not say as whom a client has bound.
const NAMELESS: &str = "the server does not say who that is (Who am I?, RFC 4532)";

/// Who a client is by its connection, as an authorization identity: by the certificate that it showed, else by the user of its
/// process where it came over a unix socket, as slapd names them.
pub(super) fn identity_of(stream: &Stream) -> Option<Vec<u8>> {
    if let Some(certificate) = stream.peer_certificate() {
        return match wire::ldap::x509::subject(certificate) {
            Ok(subject) if !subject.is_empty() => Some(format!("dn:{subject}").into_bytes()),
            Ok(_) => None,
            Err(fault) => {
                tracing::warn!(%fault, "a client's certificate has a subject that cannot be read");
                None
            }
        };
    }
    match stream.raw() {
        #[cfg(target_os = "linux")]
        Raw::Unix(stream) => rustix::net::sockopt::socket_peercred(stream).ok().map(|peer| {
            let (gid, uid) = (peer.gid.as_raw(), peer.uid.as_raw());
            format!("dn:gidNumber={gid}+uidNumber={uid},cn=peercred,cn=external,cn=auth").into_bytes()
        }),
        _ => None,
    }
}

impl Drive {
    /// A client's TLS is up, or it came over a unix socket: its connection may say who it is.
    pub(super) fn know_externally(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let (Some(identity), Kind::Ldap(client)) = (identity_of(&conn.stream), &mut conn.kind) {
            client.session.known_externally(Some(&identity));
        }
    }

    /// A client's next step of a SASL bind goes to the connection on which the bind began.
    pub(super) fn sasl_step(
        &mut self,
        at: usize,
        index: usize,
        ticket: Ticket,
        env: &Envelope<'_>,
        permit: Option<Permit>,
    ) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        let caller = Caller {
            conn: ConnRef {
                at: u32::try_from(at).unwrap_or(u32::MAX),
                generation: conn.generation,
            },
            id: env.id,
            tag: env.tag,
        };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        client.session.submitted(env.id, env.tag, ticket);
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let to = state.pool.go_on(ticket, caller, now).and_then(|upstream| {
            let flight = state.flight(ticket)?;
            flight.caller = Some(caller);
            flight.permit = permit;
            match state.place(upstream) {
                Some(Place::Conn(to)) => Some(*to),
                _ => None,
            }
        });
        let Some(to) = to else {
            // It had ended, of which the session would have been told: never seen, and answered all the same.
            let lost = engine::core::Reason::UpstreamLost { delivered: true };
            return self.failed(index, ticket, caller, lost, true);
        };
        self.control.clear();
        self.add_tracking(index, caller);
        let control = std::mem::take(&mut self.control);
        let conn = self.conns.get_mut(to.at as usize);
        if let Some(conn) = conn.filter(|conn| conn.generation == to.generation)
            && let Kind::Upstream(server) = &mut conn.kind
        {
            let out = conn.stream.outbox(&mut self.spares);
            let id = server.machine.send_bind(ticket, env, Ask::First, &control, out);
            conn.stream.mark_sensitive();
            if let Some(flight) = self
                .pools
                .get_mut(index)
                .and_then(Option::as_mut)
                .and_then(|state| state.flight(ticket))
            {
                flight.wire_id = id;
            }
        }
        self.control = control;
        self.mark_dirty(to.at as usize);
    }

    /// The server wants another step: its answer goes to the client as it is, and the connection waits for what the client says.
    pub(super) fn bind_step(&mut self, index: usize, id: UpstreamId, ticket: Ticket, env: &Envelope<'_>) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let Some(caller) = state.pool.reply(ticket, id, Settlement::Part, now, &mut state.effects) else {
            return;
        };
        state.pool.hold(ticket);
        if let Some(flight) = state.flight(ticket) {
            // The client has its answer: until it says more, nothing of its is pending.
            flight.permit = None;
        }
        let at = caller.conn.at as usize;
        let Some(conn) = self
            .conns
            .get_mut(at)
            .filter(|conn| conn.generation == caller.conn.generation)
        else {
            return;
        };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        if client.session.stepped(caller.id, ticket) == Ended::Drop {
            return;
        }
        let out = conn.stream.outbox(&mut self.spares);
        envelope::write(out, caller.id, env.op, env.controls, &[]);
        let next = client.session.after_end(out);
        self.mark_dirty(at);
        self.after(at, next);
        self.resume(at);
    }

    /// A SASL bind was a success and the server will not say whose: nobody could be let act for, so it is none.
    pub(super) fn bind_is_nameless(&mut self, index: usize, id: UpstreamId, ticket: Ticket) {
        let now = self.now;
        let settlement = Settlement::Done(Verdict::Well);
        let Some(state) = self.pool(index) else { return };
        let Some(caller) = state.pool.reply(ticket, id, settlement, now, &mut state.effects) else {
            return;
        };
        let mut answer = self.spares.take();
        result::write_bind(&mut answer, caller.id, code::OTHER, NAMELESS, None);
        if let Ok(env) = envelope::peek(&answer) {
            self.deliver(index, ticket, caller, &env, settlement);
        }
        self.spares.give(answer);
    }

    /// Whether the bind with this ticket is by SASL.
    pub(super) fn is_sasl_bind(&mut self, index: usize, ticket: Ticket) -> bool {
        let caller = self
            .pool(index)
            .and_then(|state| state.flight(ticket)?.caller)
            .filter(|caller| caller.tag == tag::BIND_REQUEST);
        let conn = caller.and_then(|caller| self.conn(caller.conn));
        matches!(conn.map(|conn| &conn.kind), Some(Kind::Ldap(client)) if client.session.is_sasl())
    }

    /// The root DSE for a client: less what does not work here. False: it is passed on as it is.
    pub(super) fn deliver_root_dse(
        &mut self,
        index: usize,
        ticket: Ticket,
        caller: Caller,
        env: &Envelope<'_>,
    ) -> bool {
        let at = caller.conn.at as usize;
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return false;
        };
        let Some(offered) = state
            .directory()
            .map(|directory| directory.plan.sasl)
            .filter(|sasl| sasl.filters_root_dse)
        else {
            return false;
        };
        let Some(conn) = self
            .conns
            .get_mut(at)
            .filter(|conn| conn.generation == caller.conn.generation)
        else {
            return false;
        };
        let Kind::Ldap(client) = &mut conn.kind else {
            return false;
        };
        let Some(settings) = self.listeners.get(&client.listener).map(|listener| &listener.settings) else {
            return false;
        };
        let rules = Rules {
            mechanisms: offered.mechanisms,
            external: client.session.offers_external(settings),
            starttls: settings.starttls && !client.session.is_tls(),
            shared: settings.proxied,
        };
        let request = state
            .flight(ticket)
            .map(|flight| flight.bytes.as_slice())
            .filter(|bytes| !bytes.is_empty());
        let mut op = self.spares.take();
        let rewritten = root_dse::rewrite(env.op, request, &rules, &mut op).is_ok();
        if rewritten {
            envelope::write(conn.stream.outbox(&mut self.spares), caller.id, &op, env.controls, &[]);
        }
        self.spares.give(op);
        if rewritten {
            self.mark_dirty(at);
            self.watch_outbox(index, ticket, caller);
        }
        rewritten
    }
}
