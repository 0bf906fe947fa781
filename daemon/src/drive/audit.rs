//! What the audit log is told: of each request when it comes, and how it ended.

use std::sync::Arc;

use engine::core::{Ticket, UpstreamId};
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::result;

use super::Drive;
use super::conn::Kind;
use super::pools::Place;
use crate::audit::plan::Operations;
use crate::audit::record::{End, Entry, From};
use crate::config::plan::{Address, Face, Listener, Plan};

/// Of what is sampled, one is this.
const MILLION: u64 = 1_000_000;

/// What the audit log is told of one listener's operations.
#[derive(Debug)]
pub struct Audited {
    listener: String,
    directory: String,
    operations: Operations,
    sample_millionths: u32,
    failures_only: bool,
}

impl Audited {
    /// None: it is told nothing.
    pub fn of(plan: &Plan, listener: &Listener) -> Option<Arc<Audited>> {
        let settings = plan.audit.as_ref().filter(|_| listener.audit)?;
        let Face::Ldap { directory } = &listener.face else {
            return None;
        };
        let wanted = settings.directories.is_empty() || settings.directories.contains(directory);
        wanted.then(|| {
            Arc::new(Audited {
                listener: match &listener.address {
                    Address::Tcp(at) | Address::Udp(at) => at.to_string(),
                    Address::Unix(path, _) => format!("unix:{}", path.display()),
                },
                directory: directory.clone(),
                operations: settings.operations,
                sample_millionths: settings.sample_millionths,
                failures_only: settings.failures_only,
            })
        })
    }
}

/// The result code of the answer that was written behind what was there `before`.
pub(super) fn answered(out: &[u8], before: usize) -> Option<u32> {
    let answer = envelope::peek(out.get(before..)?).ok()?;
    result::result_code(answer.op)
}

impl Drive {
    /// A request has come; none: the log is not told of it.
    pub(super) fn audit_begin(&mut self, at: usize, audited: &Audited, env: &Envelope<'_>) -> Option<Box<Entry>> {
        if !audited.operations.has(env.tag) {
            return None;
        }
        let reads = matches!(env.tag, tag::SEARCH_REQUEST | tag::COMPARE_REQUEST);
        let share = u64::from(audited.sample_millionths);
        if reads && share < MILLION && self.rng.below(MILLION) >= share {
            return None;
        }
        let conn = self.conns.get(at)?;
        let Kind::Ldap(client) = &conn.kind else {
            return None;
        };
        let from = From {
            listener: &audited.listener,
            client: conn.peer,
            connection: (self.number, conn.generation),
            tls: client.session.is_tls(),
            identity: client.session.authzid(),
            directory: &audited.directory,
        };
        let mut entry = Entry::begin(&from, env, self.now);
        entry.failures_only = audited.failures_only;
        Some(Box::new(entry))
    }

    /// The session did not submit a request: it has ended, with what it wrote behind what was there `before`.
    pub(super) fn audit_refused(&mut self, at: usize, entry: Option<Box<Entry>>, before: usize) {
        if entry.is_none() {
            return;
        }
        let code = self
            .conns
            .get_mut(at)
            .and_then(|conn| answered(conn.stream.outbox(&mut self.spares), before));
        // Who am I?, Cancel and StartTLS are answered here; nothing else succeeds without a server.
        let end = match code {
            None => End::Nothing,
            Some(0) => End::Answered(0),
            Some(code) => End::Refused(code),
        };
        self.audit_end(at, entry, end);
    }

    /// It was given to an upstream.
    pub(super) fn audit_sent(&mut self, index: usize, ticket: Ticket, upstream: UpstreamId) {
        let now = self.now;
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        if state.flight(ticket).is_none_or(|flight| flight.audit.is_none()) {
            return;
        }
        let number = match state.place(upstream) {
            Some(Place::Local(local)) => Some(local.server),
            Some(Place::Conn(to)) => match self.conns.get(to.at as usize).map(|conn| &conn.kind) {
                Some(Kind::Upstream(server)) => Some(server.server),
                _ => None,
            },
            _ => None,
        };
        let servers = state.directory().map(|directory| &directory.servers);
        let server = servers
            .zip(number)
            .and_then(|(servers, number)| servers.get(number))
            .map(|server| Arc::clone(&server.plan));
        if let Some(entry) = state.flight(ticket).and_then(|flight| flight.audit.as_mut()) {
            entry.server = server;
            entry.sent = Some(now);
        }
    }

    /// It has ended.
    pub(super) fn audit_end(&mut self, at: usize, entry: Option<Box<Entry>>, end: End) {
        let (Some(entry), Some(log)) = (entry, &self.audit) else {
            return;
        };
        if entry.failures_only && end.is_well() {
            return;
        }
        let client = self.conns.get(at).and_then(|conn| match &conn.kind {
            Kind::Ldap(client) => Some(client),
            _ => None,
        });
        let identity = client.map_or(&[][..], |client| client.session.authzid());
        log.say(entry.end(end, identity, self.now));
    }
}
