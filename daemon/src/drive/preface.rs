//! PROXY headers: those that clients' connections begin with, and ours to servers.

use std::net::SocketAddr;

use engine::core::UpstreamId;
use engine::core::time::{Instant, Span};
use engine::session::ldap::lane;
use wire::proxy_header::{self, Ends, Version};

use super::Drive;
use super::accept::affinity;
use super::conn::Kind;
use super::pools::PoolState;
use crate::config::plan::Face;
use crate::net::preface::Taken;
use crate::net::stream::Raw;

/// Between two lines in the log about one listener's headers.
const SILENCE: Span = Span::from_secs(1);

/// What is wrong with a listener's headers is said in at most one line per [`SILENCE`]: who floods us does not flood the log.
#[derive(Debug, Default)]
pub struct Complaints {
    said_at: Option<Instant>,
    untold: u64,
}

impl Complaints {
    /// Whether this one is said; then, how many were not since the last.
    fn due(&mut self, now: Instant) -> Option<u64> {
        if self.said_at.is_some_and(|before| now.since(before) < SILENCE) {
            self.untold += 1;
            return None;
        }
        self.said_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl Drive {
    /// Whether who connects may come in: where a header is awaited, only those who are believed; if not, the log says so.
    pub(super) fn is_trusted(&mut self, listener: u64, peer: Option<SocketAddr>) -> bool {
        let headers = self
            .listeners
            .get(&listener)
            .and_then(|state| state.plan.proxy.as_ref());
        let trusted = headers.is_none_or(|headers| headers.trust(peer));
        if !trusted {
            self.complain(listener, peer, "refused: the peer is not in `proxy_from`");
        }
        trusted
    }

    /// A connection that has to begin with a header may have some of it.
    pub(super) fn preface_readable(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Some(preface) = &mut conn.preface else { return };
        let taken = preface.take(conn.stream.raw());
        let why = match taken {
            Taken::Later => {
                conn.readable = false;
                return;
            }
            Taken::Whole(ends) => return self.preface_taken(at, ends),
            // So do health checks that only connect.
            Taken::End(false) => return self.close(at),
            Taken::End(true) => "closed: it ended amid its PROXY header".to_owned(),
            Taken::Malformed(fault) => {
                format!("closed: it does not begin with a PROXY header that is taken here: {fault}")
            }
        };
        self.preface_failed(at, &why);
    }

    /// No header came in time.
    pub(super) fn preface_late(&mut self, at: usize) {
        self.preface_failed(at, "closed: its PROXY header did not come within `partial_timeout`");
    }

    fn preface_failed(&mut self, at: usize, why: &str) {
        if let Some(conn) = self.conns.get(at)
            && let Some(listener) = conn.listener()
        {
            self.complain(listener, conn.peer, why);
        }
        self.close(at);
    }

    /// The header is there: what follows is the client's.
    fn preface_taken(&mut self, at: usize, ends: Option<(SocketAddr, SocketAddr)>) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        let tls = conn.preface.take().and_then(|preface| preface.tls);
        if let Some((source, destination)) = ends {
            let source = canonical(source);
            tracing::debug!(client = %source, through = ?conn.peer, "a client came with a PROXY header");
            conn.peer = Some(source);
            conn.reached = Some(destination);
            if let Kind::Ldap(client) = &mut conn.kind {
                client.affinity = affinity(conn.peer);
            }
        }
        if !self.limit_late(at, tls.is_none()) {
            return;
        }
        let Some(conn) = self.conns.get_mut(at) else { return };
        let stranger = matches!(&conn.kind, Kind::Rpc(client) if client.session.is_stranger());
        conn.partial_since = (tls.is_some() || stranger).then_some(now);
        if let Some(tls) = tls
            && conn.stream.accept_tls(tls).is_err()
        {
            return self.close(at);
        }
        conn.active_at = now;
        conn.readable = true;
        self.arm_client(at);
        self.look_at_again(at);
    }

    fn complain(&mut self, listener: u64, peer: Option<SocketAddr>, why: &str) {
        let now = self.now;
        let Some(state) = self.listeners.get_mut(&listener) else {
            return;
        };
        if let Some(untold) = state.complaints.due(now) {
            let protocol = match state.plan.face {
                Face::Rpc { .. } => "rpc",
                _ if state.plan.tls_first => "ldaps",
                _ => "ldap",
            };
            let peer = peer.map_or_else(|| "?".to_owned(), |peer| peer.to_string());
            tracing::warn!(protocol, peer, untold, why, "a connection was not taken");
        }
    }

    /// Writes our header where the server wants one, before everything else. False: the connection does not take it.
    pub(super) fn introduce(&mut self, at: usize) -> bool {
        let Some(conn) = self.conns.get_mut(at) else {
            return true;
        };
        let Some(upstream) = conn.upstream() else { return true };
        let (index, id, number, lane) = (upstream.pool, upstream.id, upstream.server, upstream.lane);
        let server = self
            .pool(index)
            .and_then(PoolState::directory)
            .and_then(|directory| directory.servers.get(number));
        let Some(version) = server.and_then(|server| server.plan.proxy_protocol) else {
            return true;
        };
        let ends = if lane == lane::PINNED {
            self.ends_of_owner(index, id)
        } else {
            Ends::Local
        };
        self.write_header(at, version, ends)
    }

    /// Says that a connection is our own, to a server that wants to be told. False: it does not take it.
    pub(super) fn introduce_ourselves(&mut self, at: usize, version: Option<Version>) -> bool {
        version.is_none_or(|version| self.write_header(at, version, Ends::Local))
    }

    fn write_header(&mut self, at: usize, version: Version, ends: Ends<'_>) -> bool {
        let mut header = Vec::new();
        proxy_header::write(&mut header, version, ends);
        // The socket is new and empty: it takes all of it at once.
        let Some(conn) = self.conns.get_mut(at) else {
            return true;
        };
        conn.stream.write_through(&mut self.spares, &[], &header)
    }

    /// The client for which a connection to a server is opened. Who has no address (a unix socket, ourselves) is not told of.
    fn ends_of_owner(&mut self, index: usize, id: UpstreamId) -> Ends<'static> {
        let owner = self.pool(index).and_then(|state| state.pool.promised_to(id));
        let Some(conn) = owner.and_then(|caller| self.conn(caller.conn)) else {
            return Ends::Local;
        };
        let reached = conn.reached.or_else(|| match conn.stream.raw() {
            Raw::Tcp(stream) => stream.local_addr().ok(),
            Raw::Unix(_) => None,
        });
        match (conn.peer, reached) {
            (Some(source), Some(destination)) => Ends::Ip { source, destination },
            _ => Ends::Local,
        }
    }
}

/// An address of v4 as such, also where it came to a socket of v6.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
