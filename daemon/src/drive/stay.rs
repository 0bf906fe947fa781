//! Clients whose operations keep to one server, or to one connection (`engine/src/session/ldap/stay.rs`): they are told where
//! their requests went, and what they need no more is given back.

use std::hash::BuildHasher;

use engine::core::UpstreamId;
use engine::core::time::Instant;
use wire::ldap::envelope::Envelope;

use super::Drive;
use super::conn::{ConnRef, Kind, LdapClient};
use super::pools::{Caller, PoolState};
use super::timers::span;
use crate::config::plan::Affinity;

impl LdapClient {
    /// The key by which its server is chosen. `binds`: it is about to become somebody.
    #[inline]
    pub(super) fn affinity_by(&self, by: Affinity, conn: ConnRef, binds: bool) -> u64 {
        let hash = |bytes: &[u8]| foldhash::fast::FixedState::with_seed(2).hash_one(bytes);
        match by {
            Affinity::None | Affinity::Address => self.affinity,
            Affinity::Connection => foldhash::fast::FixedState::with_seed(3).hash_one((conn, self.affinity)),
            Affinity::BindDn => {
                let authzid = self.session.authzid();
                let name = if binds {
                    self.session.bind_name()
                } else {
                    authzid.strip_prefix(b"dn:").unwrap_or(authzid)
                };
                if name.is_empty() { self.affinity } else { hash(name) }
            }
        }
    }
}

impl Drive {
    /// A request goes over this connection.
    #[inline]
    pub(super) fn note_sent(&mut self, index: usize, caller: Caller, upstream: UpstreamId) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(caller.conn.at as usize) else {
            return;
        };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        if !client.session.minds() || conn.generation != caller.conn.generation {
            return;
        }
        let Some(Some(state)) = self.pools.get_mut(index) else {
            return;
        };
        let Some((server, marks)) = state.pool.server_behind(upstream) else {
            return;
        };
        let until = state.directory().map_or(now, |directory| now + directory.coherence());
        client.session.sent_to(caller.id, upstream, server, marks, until);
        client.rests_since = None;
    }

    /// The final answer of a request. Whether it matters to its client how it ended; then `let_go` is due.
    #[inline]
    pub(super) fn note_answer(&mut self, index: usize, caller: Caller, env: &Envelope<'_>) -> bool {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(caller.conn.at as usize) else {
            return false;
        };
        let Kind::Ldap(client) = &mut conn.kind else {
            return false;
        };
        if !client.session.minds() || conn.generation != caller.conn.generation {
            return false;
        }
        let state = self.pools.get_mut(index).and_then(Option::as_mut);
        let directory = state.and_then(PoolState::directory);
        let until = directory.map_or(now, |directory| now + directory.coherence());
        client.session.answer_seen(caller.id, env, until);
        true
    }

    /// Something of a client's has ended: the connection that it kept is another's, if it needs it no more; else it rests.
    pub(super) fn let_go(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        let index = client.pool;
        let Some(given) = client.session.let_go() else {
            let before = client.rests_since;
            client.rests_since = client.session.rests_on().map(|_| now);
            if before != client.rests_since {
                self.arm_client(at);
            }
            return;
        };
        client.rests_since = None;
        let Some(state) = self.pool(index) else { return };
        if given.in_order {
            state.pool.give_back(given.upstream, now, &mut state.effects);
        } else {
            state.pool.release(given.upstream, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }

    /// A client keeps its connection no more, whatever is left there.
    pub(super) fn drop_hold(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ldap(client) = &mut conn.kind else { return };
        client.rests_since = None;
        let index = client.pool;
        let Some(held) = client.session.drop_hold() else { return };
        if let Some(state) = self.pool(index) {
            state.pool.release(held, now, &mut state.effects);
            self.carry_out(index, None);
        }
    }

    /// When a connection that a client keeps and does not use is taken back.
    pub(super) fn rest_ends(&self, at: usize) -> Option<Instant> {
        let Kind::Ldap(client) = &self.conns.get(at)?.kind else {
            return None;
        };
        let since = client.rests_since?;
        let directory = match &self.pools.get(client.pool)?.as_ref()?.target {
            super::pools::Target::Directory(directory) => directory,
            super::pools::Target::Service(_) => return None,
        };
        Some(since + span(directory.plan.routing.isolated_idle_timeout))
    }
}
