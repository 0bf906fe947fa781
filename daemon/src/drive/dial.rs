//! Servers are dialled: a name is looked up for each connection, and its addresses are tried one after the other.
//!
//! Each connection begins with another address of the name, so that they spread over all; what one address refuses, or does
//! not answer within its part of `connect_timeout`, is tried at the next.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use engine::core::time::Span;
use engine::core::{Cause, UpstreamId};
use engine::session::ldap::lane;
use engine::upstream::ldap::Connection;

use super::conn::{Kind, LdapUpstream};
use super::local::LocalUpstream;
use super::pools::{Place, PoolState};
use super::timers::span;
use super::{Drive, Job};
use crate::config::plan::{ServiceKind, Target};
use crate::net::resolve::Resolver;
use crate::net::stream::{Raw, Stream};

/// Addresses of a name that are tried for one connection.
const ADDRESSES_MAX: usize = 8;

impl Drive {
    /// The pool wants an upstream.
    pub(super) fn open(&mut self, index: usize, id: UpstreamId, key: u64, lane: u8) {
        let resolver = self.resolver.clone();
        let inbox = std::sync::Arc::clone(&self.inbox);
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let Some(directory) = state.directory() else {
            if state
                .service()
                .is_some_and(|service| service.plan.kind != ServiceKind::Exec)
            {
                return self.open_helper(index, id);
            }
            state.set_place(id, Place::Runner(None));
            return state.pool.upstream_up(id, now, &mut state.effects);
        };
        let Some(number) = directory.number(key) else {
            return self.open_failed(index, id, "it is not configured any more");
        };
        let Some(server) = directory.servers.get_mut(number) else {
            return;
        };
        let target = server.plan.target.clone();
        match target {
            Target::Local(_) => match server.local.clone().filter(|_| server.alive) {
                Some(store) => {
                    let session = engine::directory::LocalSession::default();
                    let local = LocalUpstream {
                        store,
                        session,
                        lane,
                        server: number,
                    };
                    state.set_place(id, Place::Local(Box::new(local)));
                    state.pool.upstream_up(id, now, &mut state.effects);
                }
                None => self.open_failed(index, id, "it has been taken away"),
            },
            Target::Srv { .. } => self.open_failed(index, id, "DNS names no server of it"),
            Target::Unix(path) => self.dial(index, id, number, lane, Raw::connect_unix(&path), Vec::new()),
            Target::Tcp { host, port, .. } => match Resolver::literal(&host, port) {
                Some(address) => self.dial(index, id, number, lane, Raw::connect_tcp(address), Vec::new()),
                None => {
                    state.set_place(id, Place::Resolving { server: number, lane });
                    let then = move |found| {
                        let _ = inbox.push(Job::Resolved {
                            pool: index,
                            upstream: id,
                            found,
                        });
                    };
                    resolver.look_up(&host, port, Box::new(then));
                }
            },
        }
    }

    pub(super) fn resolved(&mut self, index: usize, id: UpstreamId, found: Result<Vec<SocketAddr>, String>) {
        let Some(state) = self.pool(index) else { return };
        let Some(Place::Resolving { server, lane }) = state.place(id) else {
            return;
        };
        let (number, lane) = (*server, *lane);
        let next = state
            .directory()
            .and_then(|directory| directory.servers.get_mut(number))
            .map(|server| {
                server.next_address = server.next_address.wrapping_add(1);
                server.next_address
            });
        match found {
            Ok(mut addresses) => {
                // The one whose turn it is, then the others.
                let first = next.unwrap_or(0) % addresses.len().max(1);
                addresses.rotate_left(first);
                addresses.truncate(ADDRESSES_MAX);
                addresses.reverse();
                self.dial_next(index, id, number, lane, addresses);
            }
            Err(error) => self.open_failed(index, id, &error),
        }
        self.carry_out(index, None);
    }

    /// Dials the last of these addresses that can be dialled at all.
    fn dial_next(&mut self, index: usize, id: UpstreamId, server: usize, lane: u8, mut addresses: Vec<SocketAddr>) {
        let mut why = "it has no address".to_owned();
        while let Some(address) = addresses.pop() {
            match Raw::connect_tcp(address) {
                Ok(raw) => return self.dial(index, id, server, lane, Ok(raw), addresses),
                Err(error) => why = error.to_string(),
            }
        }
        self.open_failed(index, id, &why);
    }

    /// A connection that was not ready yet is gone: the server's next address is tried in its stead. False: there is none.
    pub(super) fn dial_another(&mut self, at: usize, why: &str) -> bool {
        let Some(conn) = self.conns.get_mut(at) else {
            return false;
        };
        let Kind::Upstream(upstream) = &mut conn.kind else {
            return false;
        };
        if upstream.machine.is_ready() || upstream.others.is_empty() {
            return false;
        }
        let others = std::mem::take(&mut upstream.others);
        let (index, id, number, lane) = (upstream.pool, upstream.id, upstream.server, upstream.lane);
        self.remove(at);
        tracing::debug!(pool = index, why, "the next address is tried");
        self.dial_next(index, id, number, lane, others);
        self.carry_out(index, None);
        true
    }

    fn dial(
        &mut self,
        index: usize,
        id: UpstreamId,
        server: usize,
        lane: u8,
        raw: std::io::Result<Raw>,
        others: Vec<SocketAddr>,
    ) {
        let raw = match raw {
            Ok(raw) => raw,
            Err(error) => return self.open_failed(index, id, &error.to_string()),
        };
        let Some((security, timeout)) = self.pool(index).and_then(PoolState::directory).and_then(|directory| {
            let found = directory.servers.get(server)?;
            found.plan.tcp.apply(&raw);
            Some((found.security(), directory.plan.limits.connect_timeout))
        }) else {
            return;
        };
        // Every address has its part of the time.
        let timeout = timeout / u32::try_from(others.len() + 1).unwrap_or(1);
        let machine = Connection::new(security);
        let upstream = LdapUpstream {
            machine,
            pool: index,
            id,
            server,
            lane,
            connecting: true,
            others,
            kept: None,
            gss: None,
        };
        let Some(conn) = self.adopt(Stream::new(raw), Kind::Upstream(upstream)) else {
            return self.open_failed(index, id, "it could not be registered");
        };
        self.arm(conn.at as usize, span(timeout));
        if let Some(state) = self.pool(index) {
            state.set_place(id, Place::Conn(conn));
        }
    }

    /// A server's name has only these addresses: connections to others get nothing new, and are closed once they have done what
    /// they have. Those that belong to one client are left once it has nothing pending (it is told, and connects anew), or, where
    /// what it does there needs more than one operation, when it lets go of them; all of them after `drain_gentle` at the latest.
    /// Feeds ask again elsewhere, from their cookie.
    pub(super) fn leave_addresses(&mut self, directory: &str, server: &str, addresses: &BTreeSet<IpAddr>) {
        let now = self.now;
        let Some(index) = self.find_directory(directory) else {
            return;
        };
        let servers = self
            .pool(index)
            .and_then(PoolState::directory)
            .map(|directory| &directory.servers);
        let Some(number) = servers.and_then(|servers| servers.iter().position(|one| one.plan.name == server)) else {
            return;
        };
        let elsewhere = |raw: &Raw| match raw {
            Raw::Tcp(stream) => stream
                .peer_addr()
                .is_ok_and(|peer| !addresses.contains(&peer.ip().to_canonical())),
            Raw::Unix(_) => false,
        };
        let leaving: Vec<(usize, UpstreamId, u8)> = self
            .conns
            .iter()
            .filter_map(|(at, conn)| match &conn.kind {
                Kind::Upstream(upstream)
                    if upstream.pool == index && upstream.server == number && elsewhere(conn.stream.raw()) =>
                {
                    Some((at, upstream.id, upstream.lane))
                }
                _ => None,
            })
            .collect();
        let patience = self
            .plan
            .as_ref()
            .map_or(Span::ZERO, |plan| span(plan.server.drain_gentle));
        for (at, id, lane) in leaving {
            if lane == lane::FEED {
                self.feed_leaves(index, id);
                continue;
            }
            if matches!(lane, lane::PINNED | lane::APART)
                && let Some(conn) = self.conns.get_mut(at)
                && conn.leaves_at.is_none()
            {
                conn.leaves_at = Some(now + patience);
                self.arm(at, patience);
            }
            if let Some(state) = self.pool(index) {
                if lane == lane::APART {
                    state.pool.recycle(id, now, &mut state.effects);
                } else {
                    state.pool.upstream_draining(id, now, &mut state.effects);
                }
            }
            self.carry_out(index, None);
        }
    }

    /// The timer of a connection to a server has come: it is left, or looked at.
    pub(super) fn upstream_due(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Some(upstream) = conn.upstream()
            && let Some(ticket) = upstream.kept
        {
            let index = upstream.pool;
            return self.ask_name(index, ticket);
        }
        let Some(conn) = self.conns.get(at) else { return };
        let (Kind::Upstream(upstream), Some(leaves_at)) = (&conn.kind, conn.leaves_at) else {
            return self.feed_due(at);
        };
        if now < leaves_at {
            return self.arm(at, leaves_at.since(now));
        }
        let (index, id) = (upstream.pool, upstream.id);
        if let Some(state) = self.pool(index) {
            state.pool.release(id, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    fn open_failed(&mut self, index: usize, id: UpstreamId, why: &str) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        state.take_place(id);
        state.pool.upstream_down(id, Cause::OpenFailed, now, &mut state.effects);
        tracing::debug!(pool = index, why, "a connection could not be opened");
    }
}
