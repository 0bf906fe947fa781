//! Checks of a directory's servers: each on a connection of its own, from the connect to the entry that must come.
//!
//! A check connects as any connection does (PROXY header, TLS), binds where it has a name to bind with, searches, and looks
//! at what comes. When it begins, how long it may take and what its end leads to is the pool's to say.

use std::net::SocketAddr;
use std::sync::Arc;

use engine::upstream::ldap::{Connection, Own, Step as Hello};
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::message::{self, SearchSpec};
use wire::ldap::result::{self, code};

use super::conn::{Conn, ConnRef, Kind};
use super::gss::Asking;
use super::pools::PoolState;
use super::{Drive, Job, span};
use crate::config::plan::{self, Bind, Expect, Target};
use crate::net::own_bind;
use crate::net::resolve::Resolver;
use crate::net::stream::{Raw, Stream};

/// The search's message id; those of what goes before it are small.
const SEARCH_ID: i32 = 1_000;

/// A check's connection.
#[derive(Debug)]
pub struct Checking {
    /// Its protocol machine.
    pub machine: Connection,
    pool: usize,
    /// The server's key in the pool.
    key: u64,
    number: u32,
    /// What is asked.
    plan: Arc<plan::Check>,
    /// The TCP connect has not ended yet.
    pub connecting: bool,
    /// What must come has come.
    found: bool,
    /// While its bind asks Kerberos.
    pub gss: Option<Box<Asking>>,
}

impl Checking {
    /// The pool.
    pub fn pool(&self) -> usize {
        self.pool
    }

    /// The server's key in it.
    pub fn key(&self) -> u64 {
        self.key
    }

    /// What is asked.
    pub fn plan(&self) -> &Arc<plan::Check> {
        &self.plan
    }
}

/// As whom a check binds.
pub(super) fn own_bind<'p>(
    check: &'p plan::Check,
    server: &'p plan::Upstream,
    directory: &'p plan::Directory,
) -> Option<&'p Bind> {
    let own = || server.bind.as_ref().or(directory.bind.as_ref());
    check.bind.as_ref().or_else(own)
}

/// Why a check failed; none: it did not.
type Outcome = Result<(), String>;

impl Drive {
    /// The pool wants a server checked.
    pub(super) fn check_server(&mut self, index: usize, key: u64, number: u32) {
        let Some(server) = self
            .pool(index)
            .and_then(PoolState::directory)
            .and_then(|directory| directory.servers.iter().find(|server| server.key == key))
        else {
            return;
        };
        match server.plan.target.clone() {
            Target::Local(_) => self.check_over(index, key, number, Ok(())),
            Target::Srv { .. } => self.check_over(index, key, number, Err("DNS names no server of it".into())),
            Target::Unix(path) => self.check_dial(index, key, number, Raw::connect_unix(&path)),
            Target::Tcp { host, port, .. } => match Resolver::literal(&host, port) {
                Some(address) => self.check_dial(index, key, number, Raw::connect_tcp(address)),
                None => {
                    let (resolver, inbox) = (self.resolver.clone(), Arc::clone(&self.inbox));
                    let then = move |found| {
                        let _ = inbox.push(Job::CheckResolved {
                            pool: index,
                            key,
                            number,
                            found,
                        });
                    };
                    resolver.look_up(&host, port, Box::new(then));
                }
            },
        }
    }

    pub(super) fn check_resolved(
        &mut self,
        index: usize,
        key: u64,
        number: u32,
        found: Result<Vec<SocketAddr>, String>,
    ) {
        match found {
            Ok(addresses) => match addresses.get(number as usize % addresses.len().max(1)) {
                Some(address) => self.check_dial(index, key, number, Raw::connect_tcp(*address)),
                None => self.check_over(index, key, number, Err("it has no address".into())),
            },
            Err(why) => self.check_over(index, key, number, Err(why)),
        }
        self.carry_out(index, None);
    }

    fn check_dial(&mut self, index: usize, key: u64, number: u32, raw: std::io::Result<Raw>) {
        let raw = match raw {
            Ok(raw) => raw,
            Err(error) => return self.check_over(index, key, number, Err(error.to_string())),
        };
        let server = self
            .pool(index)
            .and_then(PoolState::directory)
            .and_then(|directory| directory.servers.iter().find(|server| server.key == key));
        let Some((plan, security, tcp)) =
            server.and_then(|server| Some((server.plan.check.clone()?, server.security(), server.plan.tcp)))
        else {
            return;
        };
        let timeout = span(plan.timeout);
        tcp.apply(&raw);
        let checking = Checking {
            machine: Connection::new(security),
            pool: index,
            key,
            number,
            plan,
            connecting: true,
            found: false,
            gss: None,
        };
        match self.adopt(Stream::new(raw), Kind::Check(Box::new(checking))) {
            Some(conn) => self.arm(conn.at as usize, timeout),
            None => self.check_over(index, key, number, Err("it could not be registered".into())),
        }
    }

    /// The connect has ended, one way or the other.
    pub(super) fn check_connected(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Some(error) = conn.stream.raw().take_error() {
            return self.check_ends(at, Err(error.to_string()));
        }
        if !conn.stream.raw().is_connected() {
            return;
        }
        let Kind::Check(checking) = &mut conn.kind else { return };
        checking.connecting = false;
        let (index, key) = (checking.pool, checking.key);
        let version = self
            .check_plan(index, key)
            .and_then(|(_, server)| server.proxy_protocol);
        if !self.introduce_ourselves(at, version) {
            return self.check_ends(at, Err("it does not take the PROXY header".into()));
        }
        self.check_hello(at, |machine, bind, out| machine.connected(bind, out));
    }

    /// The plans of a check's directory and server, while they are there.
    pub(super) fn check_plan(&mut self, index: usize, key: u64) -> Option<(Arc<plan::Directory>, Arc<plan::Upstream>)> {
        let directory = self.pool(index)?.directory()?;
        let server = directory.servers.iter().find(|server| server.key == key)?;
        Some((Arc::clone(&directory.plan), Arc::clone(&server.plan)))
    }

    /// One step of becoming ready.
    pub(super) fn check_hello(
        &mut self,
        at: usize,
        step: impl FnOnce(&mut Connection, Option<Own<'_>>, &mut Vec<u8>) -> Hello,
    ) {
        let Some(Kind::Check(checking)) = self.conns.get(at).map(|conn| &conn.kind) else {
            return;
        };
        let (index, key, plan) = (checking.pool, checking.key, Arc::clone(&checking.plan));
        let Some((directory, server)) = self.check_plan(index, key) else {
            return self.check_ends(at, Err("it is not configured any more".into()));
        };
        let bind = own_bind(&plan, &server, &directory);
        let bind = bind.map(|bind| own_bind::own(bind, &server.target));
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Check(checking) = &mut conn.kind else { return };
        let step = match bind.transpose() {
            Ok(bind) => step(&mut checking.machine, bind, conn.stream.outbox(&mut self.spares)),
            Err(why) => Hello::Failed(why),
        };
        conn.stream.mark_sensitive();
        self.mark_dirty(at);
        match step {
            Hello::Wait => {}
            Hello::Gss => self.gss_ask(at),
            Hello::Failed(why) => self.check_ends(at, Err(why.into())),
            Hello::Refused(what, code) => {
                let name = result::name(code);
                self.check_ends(at, Err(format!("the server refused {what}: {name} ({code})")));
            }
            Hello::Tls => {
                let tls = self.pool(index).and_then(PoolState::directory).and_then(|directory| {
                    let server = directory.servers.iter().find(|server| server.key == key)?;
                    server.tls.clone()
                });
                let begun = match (tls, self.conns.get_mut(at)) {
                    (Some((config, name)), Some(conn)) => conn.stream.connect_tls(config, name).is_ok(),
                    _ => false,
                };
                if !begun {
                    self.check_ends(at, Err("TLS could not begin".into()));
                }
            }
            Hello::Ready => self.check_search(at, &plan),
        }
    }

    fn check_search(&mut self, at: usize, plan: &plan::Check) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let attribute = match &plan.expect {
            Expect::Entry => "1.1",
            Expect::Value { attribute, .. } => attribute,
        };
        let search = SearchSpec {
            base: plan.base.as_bytes(),
            scope: plan.scope,
            filter: &plan.filter,
            attributes: &[attribute],
            deref: 0,
            // One is enough to see; more than one could be had by mistake only, and is not read.
            size_limit: if plan.expect == Expect::Entry { 1 } else { 0 },
            time_limit: 0,
            types_only: false,
        };
        message::write_search(conn.stream.outbox(&mut self.spares), SEARCH_ID, &search);
        self.mark_dirty(at);
    }

    /// Bytes have come.
    pub(super) fn check_readable(&mut self, at: usize) {
        if self.conns.get(at).is_some_and(Conn::is_connecting) {
            return self.check_connected(at);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        self.check_read(at, &mut scratch);
        self.scratch = scratch;
        if self.conns.get(at).is_some_and(|conn| conn.readable) {
            self.look_at_again(at);
        }
    }

    fn check_read(&mut self, at: usize, scratch: &mut [u8]) {
        let was_handshaking = self.conns.get(at).is_some_and(|conn| conn.stream.is_handshaking());
        let Some((n, mut held)) = self.fill(at, scratch) else {
            let fault = self.conns.get(at).and_then(|conn| conn.stream.fault());
            let why = fault.map_or_else(
                || "the server closed the connection".into(),
                |fault| format!("TLS: {fault}"),
            );
            return self.check_ends(at, Err(why));
        };
        if was_handshaking {
            self.mark_dirty(at);
            if self.conns.get(at).is_some_and(|conn| !conn.stream.is_handshaking()) {
                self.check_hello(at, |machine, bind, out| machine.tls_done(bind, out));
            }
        }
        if held.is_empty() {
            held.extend_from_slice(scratch.get(..n).unwrap_or_default());
        }
        let Some(taken) = self.check_frames(at, &held) else {
            return;
        };
        held.drain(..taken);
        if let Some(conn) = self.conns.get_mut(at) {
            conn.inbox = held;
        }
    }

    /// Takes whole messages; how many bytes they were. None: the check is over.
    fn check_frames(&mut self, at: usize, bytes: &[u8]) -> Option<usize> {
        let Kind::Check(checking) = &self.conns.get(at)?.kind else {
            return None;
        };
        let index = checking.pool;
        let bytes_max = self.pool(index)?.directory()?.plan.limits.response_bytes_max;
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            let len = match envelope::split(rest, bytes_max) {
                wire::frame::Step::NeedMore { .. } => break,
                wire::frame::Step::Frame { len } => Ok(len),
                wire::frame::Step::Malformed(fault) => Err(fault),
            };
            let env = len.and_then(|len| Ok((len, envelope::peek(rest.get(..len).unwrap_or_default())?)));
            match env {
                Ok((len, env)) => {
                    taken += len;
                    self.check_message(at, &env);
                }
                Err(fault) => self.check_ends(at, Err(format!("the server broke the protocol: {fault}"))),
            }
            self.conns.get(at)?;
        }
        // Bytes behind the answer to StartTLS were not under TLS: somebody put them there (CVE-2011-0411).
        let conn = self.conns.get(at)?;
        let injected = matches!(&conn.kind, Kind::Check(checking) if checking.machine.expects_tls())
            && conn.stream.is_handshaking()
            && taken < bytes.len();
        if injected {
            self.check_ends(at, Err("bytes in clear followed the answer to StartTLS".into()));
            return None;
        }
        Some(taken)
    }

    fn check_message(&mut self, at: usize, env: &Envelope<'_>) {
        let Some(Kind::Check(checking)) = self.conns.get_mut(at).map(|conn| &mut conn.kind) else {
            return;
        };
        if !checking.machine.is_ready() {
            return self.check_hello(at, |machine, bind, out| machine.handshake(env, bind, out));
        }
        if env.id == 0 {
            return self.check_ends(at, Err("the server disconnected".into()));
        }
        if env.id != SEARCH_ID {
            return;
        }
        match env.tag {
            tag::SEARCH_ENTRY => checking.found |= is_expected(&checking.plan.expect, env),
            tag::SEARCH_DONE => {
                let outcome = judge(checking, result::result_code(env.op).unwrap_or(code::OTHER));
                self.check_ends(at, outcome);
            }
            _ => {}
        }
    }

    /// A check's connection has served its purpose, or cannot.
    pub(super) fn check_ends(&mut self, at: usize, outcome: Outcome) {
        let Some(conn) = self.conns.get(at) else { return };
        let Kind::Check(checking) = &conn.kind else { return };
        let (index, key, number) = (checking.pool, checking.key, checking.number);
        let generation = conn.generation;
        match u32::try_from(at) {
            Ok(place) if outcome.is_ok() => self.unbind(ConnRef { at: place, generation }),
            _ => self.remove(at),
        }
        self.check_over(index, key, number, outcome);
        self.carry_out(index, None);
    }

    /// The pool hears of a check's end, and the log of what has changed.
    fn check_over(&mut self, index: usize, key: u64, number: u32, outcome: Outcome) {
        let now = self.now;
        let Some(state) = self.pool(index) else { return };
        let well = outcome.is_ok();
        if let Some(server) = state
            .directory()
            .and_then(|directory| directory.servers.iter_mut().find(|server| server.key == key))
        {
            let why = outcome.err();
            match &why {
                Some(why) if server.check_error.as_ref() != Some(why) => {
                    tracing::warn!(server = server.plan.name, why, "a check failed");
                }
                None if server.check_error.is_some() => {
                    tracing::info!(server = server.plan.name, "checks succeed again");
                }
                _ => {}
            }
            server.checks_failed += u64::from(!well);
            server.check_error = why;
        }
        state.pool.check_ended(key, number, well, now, &mut state.effects);
    }
}

fn judge(checking: &Checking, answer: u32) -> Outcome {
    // More entries than the one that was asked for are no mistake.
    let fine = answer == code::SUCCESS || (answer == code::SIZE_LIMIT_EXCEEDED && checking.found);
    if !fine {
        let name = result::name(answer);
        return Err(format!("the search was answered with {name} ({answer})"));
    }
    match &checking.plan.expect {
        _ if checking.found => Ok(()),
        Expect::Entry => Err("no entry came".into()),
        Expect::Value { attribute, value } => Err(format!("{attribute}={value} is not there")),
    }
}

fn is_expected(expect: &Expect, env: &Envelope<'_>) -> bool {
    let Ok(mut entry) = message::read_entry(env.op) else {
        return false;
    };
    match expect {
        Expect::Entry => true,
        Expect::Value { attribute, value } => entry.attributes.any(|found| {
            found.name.eq_ignore_ascii_case(attribute.as_bytes())
                && found
                    .values
                    .into_iter()
                    .any(|one| one.eq_ignore_ascii_case(value.as_bytes()))
        }),
    }
}
