//! Clients that have been let in.

use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Drive;
use super::ask::AskClient;
use super::conn::{Kind, LdapClient};
use super::limits::Limited;
use super::preface::canonical;
use super::rpc::RpcClient;
use crate::config::plan::{Face, Secret};
use crate::dbus::{Guest, Seat};
use crate::net::listen::Accepted;
use crate::net::preface::Preface;
use crate::net::stream::{Raw, Stream};
use engine::core::Drain;
use engine::session::ldap::Session;

impl Drive {
    pub(super) fn accepted(&mut self, mut accepted: Accepted) {
        let (id, peer) = (accepted.listener, accepted.peer.map(canonical));
        if !self.is_trusted(id, peer) {
            return self.shared.client_gone(self.number);
        }
        let Some(listener) = self.listeners.get(&id) else {
            return self.shared.client_gone(self.number);
        };
        if let Face::Dbus { payload_bytes_max } = listener.plan.face {
            return self.hand_to_dbus(accepted, payload_bytes_max);
        }
        let idles = listener.plan.idle_timeout;
        let stranger = matches!(&listener.plan.face, Face::Rpc { token: Some(_), .. });
        let admission = std::mem::take(&mut accepted.admission);
        let Some((stream, kind, preface)) = self.begin(accepted, peer) else {
            return self.shared.client_gone(self.number);
        };
        let owes = stranger || preface.is_some() || stream.is_handshaking();
        let Some(conn) = self.adopt(stream, kind) else {
            return self.shared.client_gone(self.number);
        };
        let at = conn.at as usize;
        if let Some(found) = self.conns.get_mut(at) {
            found.peer = peer;
            let direct = preface.is_none() && matches!(found.stream.raw(), Raw::Unix(_));
            found.preface = preface;
            found.admitted(admission);
            if owes {
                found.partial_since = Some(self.now);
                self.arm_client(at);
            }
            if direct {
                self.know_externally(at);
            }
        }
        if let Some(idle) = idles {
            self.arm(at, super::timers::span(idle));
        }
        match self.draining {
            Some(_) => self.say_goodbye(at, "shutting down"),
            // What the client sent before it was registered makes no edge.
            None => {
                if let Some(found) = self.conns.get_mut(at) {
                    found.readable = true;
                }
                self.look_at_again(at);
            }
        }
    }

    /// What a client's connection begins with: TLS at once, a header before everything, or its first message.
    fn begin(&self, accepted: Accepted, peer: Option<SocketAddr>) -> Option<(Stream, Kind, Option<Box<Preface>>)> {
        let listener = self.listeners.get(&accepted.listener)?;
        let mut stream = Stream::new(accepted.raw);
        let tls_first = listener.plan.tls_first;
        let tls = match &listener.tls {
            Some(tls) if tls_first => Some(Arc::clone(tls)),
            _ if tls_first => return None,
            _ => None,
        };
        let preface = match (&listener.plan.proxy, tls) {
            (Some(headers), tls) => Some(Box::new(Preface::new(headers.accepted, tls))),
            (None, Some(tls)) => {
                stream.accept_tls(tls).ok()?;
                None
            }
            (None, None) => None,
        };
        let kind = match (&listener.plan.face, listener.pool) {
            (Face::Ldap { .. }, Some(pool)) => Kind::Ldap(LdapClient {
                session: Session::new(tls_first),
                listener: accepted.listener,
                pool,
                affinity: affinity(peer),
                choking: Vec::new(),
                rests_since: None,
                bid: None,
                limited: accepted.guest.map(Limited::new).map(Box::new),
            }),
            (Face::Rpc { token, .. }, _) => {
                stream.receive_descriptors();
                stream.widen(super::rpc::SEND_BUFFER_BYTES);
                Kind::Rpc(RpcClient::new(accepted.listener, token.as_ref().map(Secret::share)))
            }
            (Face::Nslcd { .. } | Face::Saslauthd { .. }, Some(pool)) => {
                let number = u64::from(self.generation) << 16 | self.number as u64;
                let saslauthd = matches!(listener.plan.face, Face::Saslauthd { .. });
                Kind::Ask(AskClient::new(saslauthd, accepted.listener, pool, stream.raw(), number))
            }
            (Face::Dbus { .. } | Face::Radius(_), _) | (_, None) => return None,
        };
        Some((stream, kind, preface))
    }

    /// Another thread speaks D-Bus; the client counts as ours until it has left.
    fn hand_to_dbus(&self, accepted: Accepted, payload_bytes_max: usize) {
        let seat = Seat::new(Arc::clone(&self.shared), self.number);
        if let Raw::Unix(stream) = accepted.raw {
            self.shared.door.admit(Guest {
                stream: stream.into(),
                payload_bytes_max,
                seat,
                admission: accepted.admission,
            });
        }
    }

    /// Tells a client that its connection ends, and ends it.
    pub(super) fn say_goodbye(&mut self, at: usize, why: &str) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.preface.is_some() {
            // Whoever it is for has not come yet, and where TLS follows nothing may be said in clear.
            return self.close(at);
        }
        match &mut conn.kind {
            Kind::Ldap(client) => {
                let code = wire::ldap::result::code::UNAVAILABLE;
                client
                    .session
                    .disconnect(code, why, conn.stream.outbox(&mut self.spares));
                self.close_when_written(at);
            }
            Kind::Rpc(_) => self.rpc_goodbye(at, why),
            Kind::Ask(_) => self.close(at),
            _ => {}
        }
    }

    /// Drains the whole worker.
    pub(super) fn drain(&mut self, level: Drain) {
        self.draining = Some(self.draining.map_or(level, |before| before.max(level)));
        self.drain_radius();
        let clients: Vec<usize> = self
            .conns
            .iter()
            .filter(|(_, conn)| conn.is_client())
            .map(|(at, _)| at)
            .collect();
        for at in &clients {
            self.drain_client(*at, level);
        }
        if level >= Drain::Firm {
            for index in 0..self.pools.len() {
                self.drain_pool(index, level);
            }
            for at in clients {
                self.say_goodbye(at, "shutting down");
            }
        }
        if level == Drain::Now {
            self.flush_dirty();
            let clients: Vec<usize> = self
                .conns
                .iter()
                .filter(|(_, conn)| conn.is_client())
                .map(|(at, _)| at)
                .collect();
            for at in clients {
                self.close(at);
            }
        }
    }

    /// Gentle: a client at rest is told and closed, another when its last operation has ended.
    pub(super) fn drain_client(&mut self, at: usize, level: Drain) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.preface.is_some() {
            return self.close(at);
        }
        match &mut conn.kind {
            Kind::Ldap(client) => {
                let next = client.session.drain(level, conn.stream.outbox(&mut self.spares));
                self.mark_dirty(at);
                self.after(at, next);
                self.end_followers_of(at);
            }
            Kind::Rpc(_) => self.rpc_drain(at),
            // With a question it has its answer and goes; without one it is gone.
            Kind::Ask(client) if !client.is_asking() => self.close(at),
            _ => {}
        }
    }

    pub(super) fn drain_pool(&mut self, index: usize, level: Drain) {
        let now = self.now;
        if let Some(state) = self.pool(index) {
            state.pool.drain(level, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }
}

/// Key for `by-hash`: a client's address without its port; unix clients are all alike.
pub(super) fn affinity(peer: Option<SocketAddr>) -> u64 {
    foldhash::fast::FixedState::with_seed(0).hash_one(peer.map(|peer| peer.ip()))
}
