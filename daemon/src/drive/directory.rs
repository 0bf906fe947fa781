//! A directory on one worker: its servers, and what is counted for it.

use std::collections::HashMap;
use std::sync::Arc;

use engine::core::Reason;
use engine::core::time::{Instant, Span};
use engine::session::ldap::lane;
use engine::upstream::ldap::Security;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use wire::ldap::envelope::tag;

use super::Drive;
use super::conn::Kind;
use super::pools::{Caller, PoolState};
use crate::config::plan::{self, Bind, Identity, Target, UpstreamTls};
use crate::metrics::{Class, Counts};

/// Names whose identity is kept.
const NAMES_MAX: usize = 50_000;

/// See the module.
#[derive(Debug)]
pub struct Directory {
    /// As configured.
    pub plan: Arc<plan::Directory>,
    /// All servers of all tiers; an index into this is a server's number on this worker.
    pub servers: Vec<Server>,
    /// Figures.
    pub counts: Counts,
    /// Keys are never used again.
    pub next_key: u64,
    whoami: HashMap<Box<[u8]>, Known, foldhash::fast::RandomState>,
}

/// Who a name stands for, as the servers said.
#[derive(Debug)]
struct Known {
    identity: Box<[u8]>,
    until: Instant,
}

/// One server.
#[derive(Debug)]
pub struct Server {
    /// Its key in the pool.
    pub key: u64,
    /// As configured.
    pub plan: Arc<plan::Upstream>,
    /// Which tier.
    pub tier: usize,
    /// TLS towards it.
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The LDIF file in memory.
    pub local: Option<Arc<engine::directory::Directory>>,
    /// False while the demo has taken it away.
    pub alive: bool,
    /// Which of its addresses is tried next.
    pub next_address: usize,
    /// Why the last attempt at a connection failed.
    pub last_error: Option<String>,
}

impl Server {
    /// How its connections are protected.
    pub fn security(&self) -> Security {
        match &self.plan.target {
            Target::Tcp {
                tls: UpstreamTls::Ldaps(_),
                ..
            } => Security::Ldaps,
            Target::Tcp {
                tls: UpstreamTls::StartTlsRequired(_),
                ..
            } => Security::StartTlsRequired,
            Target::Tcp {
                tls: UpstreamTls::StartTlsTried(_),
                ..
            } => Security::StartTlsTried,
            _ => Security::Plain,
        }
    }
}

impl Directory {
    /// Without servers yet.
    pub fn new(plan: Arc<plan::Directory>) -> Self {
        Directory {
            plan,
            servers: Vec::new(),
            counts: Counts::default(),
            next_key: 0,
            whoami: HashMap::default(),
        }
    }

    /// Whether operations carry their client's identity.
    pub fn is_proxied(&self) -> bool {
        self.plan.identity == Identity::Proxied
    }

    /// Our own bind to a server, on this lane: shared connections of a pinned directory and clients' own stay anonymous. A
    /// feed asks as the daemon, whatever the clients do.
    pub fn own_bind(&self, server: usize, lane: u8) -> Option<&Bind> {
        if lane != lane::FEED && (!self.is_proxied() || lane == lane::PINNED) {
            return None;
        }
        self.servers
            .get(server)
            .and_then(|server| server.plan.bind.as_ref())
            .or(self.plan.bind.as_ref())
    }

    /// The server with this key.
    pub fn number(&self, key: u64) -> Option<usize> {
        self.servers.iter().position(|server| server.key == key)
    }

    /// Sets whether a local server answers; its number.
    pub fn set_alive(&mut self, name: &str, alive: bool) -> Option<usize> {
        let number = self.servers.iter().position(|server| server.plan.name == name)?;
        self.servers.get_mut(number)?.alive = alive;
        Some(number)
    }

    /// The identity that the servers gave for this name, where it is known still.
    pub fn whoami(&self, name: &[u8], now: Instant) -> Option<&[u8]> {
        let known = self.whoami.get(name)?;
        (now < known.until).then_some(&*known.identity)
    }

    /// Keeps what the servers said.
    pub fn learn_whoami(&mut self, name: &[u8], identity: &[u8], now: Instant) {
        let keep = Span::from_micros(u64::try_from(self.plan.limits.whoami_cache.as_micros()).unwrap_or(u64::MAX));
        if keep.is_zero() {
            return;
        }
        if self.whoami.len() >= NAMES_MAX {
            self.whoami.retain(|_, known| now < known.until);
            if self.whoami.len() >= NAMES_MAX {
                // Any half will do: who is asked for again is learned again.
                let mut keep = false;
                self.whoami.retain(|_, _| {
                    keep = !keep;
                    keep
                });
            }
        }
        let known = Known {
            identity: identity.into(),
            until: now + keep,
        };
        self.whoami.insert(name.into(), known);
    }

    /// An operation that the pool ended.
    pub fn count_failure(&mut self, request_tag: u8, reason: Reason, sent: bool, took: Span) {
        self.counts.failed(class(request_tag), reason, sent, took);
    }

    /// An operation that a server answered.
    pub fn count_answer(&mut self, request_tag: u8, code: u32, took: Span) {
        self.counts.answered(class(request_tag), code, took);
    }
}

/// What an operation counts as.
pub fn class(request_tag: u8) -> Class {
    match request_tag {
        tag::BIND_REQUEST => Class::Bind,
        tag::SEARCH_REQUEST => Class::Search,
        tag::COMPARE_REQUEST => Class::Compare,
        tag::EXTENDED_REQUEST => Class::Extended,
        _ => Class::Write,
    }
}

impl Drive {
    /// Whether the server need not be asked who this client is binding as.
    pub(super) fn whoami_known(&mut self, index: usize, caller: Caller) -> bool {
        let now = self.now;
        let conn = self.conns.get(caller.conn.at as usize);
        let Some(Kind::Ldap(client)) = conn
            .filter(|conn| conn.generation == caller.conn.generation)
            .map(|conn| &conn.kind)
        else {
            return true;
        };
        // The name is empty where the client stays anonymous.
        let name = client.session.bind_name();
        let directory = self
            .pools
            .get_mut(index)
            .and_then(Option::as_mut)
            .and_then(PoolState::directory);
        name.is_empty() || directory.is_some_and(|directory| directory.whoami(name, now).is_some())
    }
}
