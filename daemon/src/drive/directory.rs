//! A directory on one worker: its servers, and what is counted for it.

use std::collections::VecDeque;
use std::sync::Arc;

use engine::core::time::{Instant, Span};
use engine::core::{Reason, Ticket};
use engine::session::ldap::lane;
use engine::upstream::ldap::{Ask, Security};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use wire::ldap::envelope::{Envelope, tag};
use wire::ldap::result::{self, code};

use super::Drive;
use super::conn::Kind;
use super::names::{Identity, Names};
use super::pools::{Caller, Target as Serves};
use crate::config::plan::{self, Bind, Target, UpstreamTls};
use crate::metrics::{Class, Counts};

/// See the module.
#[derive(Debug)]
pub struct Directory {
    /// As configured.
    pub plan: Arc<plan::Directory>,
    /// All servers of all tiers; an index into this is a server's number on this worker.
    pub servers: Vec<Server>,
    /// Figures.
    pub counts: Counts,
    /// Binds whose client nobody has asked about yet, the oldest first, and some that have ended.
    pub kept: VecDeque<Ticket>,
    /// How many there were when those were last swept out.
    pub kept_after_sweep: usize,
    /// Keys are never used again.
    pub next_key: u64,
    names: Names,
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
    pub local: Option<Arc<crate::local_files::Store>>,
    /// False while the demo has taken it away.
    pub alive: bool,
    /// Which of its addresses is tried next.
    pub next_address: usize,
    /// Why the last attempt at a connection failed.
    pub last_error: Option<String>,
    /// Why the last check failed; none: it did not.
    pub check_error: Option<String>,
    /// Checks that failed.
    pub checks_failed: u64,
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
    pub fn new(plan: Arc<plan::Directory>, names: Names) -> Self {
        Directory {
            plan,
            servers: Vec::new(),
            counts: Counts::default(),
            kept: VecDeque::new(),
            kept_after_sweep: 0,
            next_key: 0,
            names,
        }
    }

    /// Whether operations carry their client's identity.
    pub fn is_proxied(&self) -> bool {
        self.plan.identity == plan::Identity::Proxied
    }

    /// How long a client's operations follow its writes.
    pub fn coherence(&self) -> Span {
        super::timers::span(self.plan.routing.write_coherence)
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

    /// Keeps what the servers said of a name.
    pub fn learn_whoami(&mut self, name: &[u8], identity: &[u8], now: Instant) {
        let keep = Span::from_micros(u64::try_from(self.plan.limits.whoami_cache.as_micros()).unwrap_or(u64::MAX));
        self.names.learn(name, identity, now, keep);
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
    /// An answer has come, the last one.
    pub(super) fn count_answer(&mut self, index: usize, ticket: Ticket, caller: Caller, env: &Envelope<'_>) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let since = state.flight(ticket).map_or(now, |flight| flight.since);
        if let Some(directory) = state.directory() {
            directory.count_answer(
                caller.tag,
                result::result_code(env.op).unwrap_or(code::OTHER),
                now.since(since),
            );
        }
    }

    /// When the server is to be asked who this client is binding as. Where that is known, and another than
    /// its name as typed, it is noted with the ticket: the table is looked into once for each bind.
    pub(super) fn ask_whoami(&mut self, index: usize, ticket: Ticket, caller: Caller) -> Ask {
        let now = self.now;
        let conn = self.conns.get(caller.conn.at as usize);
        let Some(Kind::Ldap(client)) = conn
            .filter(|conn| conn.generation == caller.conn.generation)
            .map(|conn| &conn.kind)
        else {
            return Ask::Never;
        };
        if client.session.is_sasl() {
            return Ask::First;
        }
        // The name is empty where the client stays anonymous.
        let name = client.session.bind_name();
        if name.is_empty() {
            return Ask::Never;
        }
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return Ask::Never;
        };
        let Serves::Directory(directory) = &mut state.target else {
            return Ask::Never;
        };
        let flight = state.flights.get_mut(ticket.index());
        let Some(flight) = flight.filter(|flight| flight.ticket == Some(ticket)) else {
            return Ask::First;
        };
        match directory.names.get(name, now) {
            // The log is told as whom.
            None if flight.audit.is_some() || directory.plan.limits.whoami_wait.is_zero() => Ask::First,
            None => Ask::Later,
            // Its client has been answered, and waits for a name that its session is told of.
            Some(_) if flight.told => Ask::Later,
            Some(Identity::AsTyped) => Ask::Never,
            Some(Identity::As(identity)) => {
                flight.identify(identity);
                Ask::Never
            }
        }
    }
}
