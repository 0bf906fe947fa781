//! The daemon's own binds by GSSAPI: what a connection's machine wants of Kerberos is asked on other threads (`gssapi`), and the
//! connection goes on when the answer is in the inbox. It may be gone by then, or be another one: it is named with its generation.

use std::sync::Arc;

use super::conn::{ConnRef, Kind};
use super::pools::PoolState;
use super::{Drive, Job};
use crate::config::plan::{Bind, Target};
use crate::gssapi::{Kerberos, Outcome, Question, Server, Session};

/// Why a connection was given up.
pub const LATE: &str = "Kerberos has not answered in time: is its KDC in reach?";

/// What a connection has of Kerberos while it binds.
#[derive(Debug)]
pub struct Asking {
    kerberos: Arc<Kerberos>,
    server: Arc<Server>,
    /// While nothing is asked.
    session: Option<Session>,
    /// While something is: the answer is thrown away when this is gone.
    wanted: Option<Arc<()>>,
}

impl Asking {
    /// An account at a server.
    pub fn begin(bind: Option<&Bind>, target: &Target) -> Option<Box<Asking>> {
        let kerberos = bind?.kerberos()?;
        let server = kerberos.server(target)?;
        Some(Box::new(Asking {
            kerberos: Arc::clone(kerberos),
            server: Arc::new(server),
            session: None,
            wanted: None,
        }))
    }

    /// Whether an answer is awaited.
    pub fn is_waiting(&self) -> bool {
        self.wanted.is_some()
    }
}

impl Drive {
    /// The machine of a connection wants something of Kerberos.
    pub(super) fn gss_ask(&mut self, at: usize) {
        let begun = self
            .conns
            .get_mut(at)
            .and_then(|conn| conn.gss())
            .is_some_and(|gss| gss.is_some());
        let fresh = if begun { None } else { self.gss_begin(at) };
        let inbox = Arc::clone(&self.inbox);
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Ok(place) = u32::try_from(at) else { return };
        let who = ConnRef {
            at: place,
            generation: conn.generation,
        };
        let request = match &mut conn.kind {
            Kind::Upstream(upstream) => upstream.machine.gss_request(),
            Kind::Check(checking) => checking.machine.gss_request(),
            _ => None,
        };
        if let (Some(gss), Some(fresh)) = (conn.gss(), fresh) {
            *gss = Some(fresh);
        }
        let (Some(request), Some(Some(asking))) = (request, conn.gss()) else {
            return self.gss_failed(at, "the configuration says no more how to bind with GSSAPI");
        };
        let wanted = Arc::new(());
        let question = Question {
            kerberos: Arc::clone(&asking.kerberos),
            server: Arc::clone(&asking.server),
            session: asking.session.take(),
            request,
            wanted: Arc::downgrade(&wanted),
        };
        asking.wanted = Some(wanted);
        // Where the inbox is full the connection ends by its deadline.
        let then = move |outcome| {
            let _ = inbox.push(Job::GssAnswered(who, Box::new(outcome)));
        };
        self.shared.gss.ask(question, Box::new(then));
    }

    fn gss_begin(&mut self, at: usize) -> Option<Box<Asking>> {
        match &self.conns.get(at)?.kind {
            Kind::Upstream(upstream) => {
                let (index, number, lane) = (upstream.pool, upstream.server, upstream.lane);
                let directory = self.pool(index).and_then(PoolState::directory)?;
                let target = &directory.servers.get(number)?.plan.target;
                Asking::begin(directory.own_bind(number, lane), target)
            }
            Kind::Check(checking) => {
                let (index, key, plan) = (checking.pool(), checking.key(), Arc::clone(checking.plan()));
                let (directory, server) = self.check_plan(index, key)?;
                Asking::begin(super::check::own_bind(&plan, &server, &directory), &server.target)
            }
            _ => None,
        }
    }

    /// Kerberos has answered.
    pub(super) fn gss_answered(&mut self, who: ConnRef, outcome: Outcome) {
        let at = who.at as usize;
        let found = self.conns.get_mut(at).filter(|conn| conn.generation == who.generation);
        let Some(Some(asking)) = found.and_then(|conn| conn.gss()) else {
            return;
        };
        asking.wanted = None;
        let reply = match outcome {
            Ok((session, reply)) => {
                asking.session = Some(session);
                reply
            }
            Err(why) => return self.gss_failed(at, &why),
        };
        match self.conns.get(at).map(|conn| &conn.kind) {
            Some(Kind::Check(_)) => self.check_hello(at, |machine, _, out| machine.gss_replied(reply, out)),
            _ => self.hello(at, |machine, _, out| machine.gss_replied(reply, out)),
        }
    }

    fn gss_failed(&mut self, at: usize, why: &str) {
        match self.conns.get(at).map(|conn| &conn.kind) {
            Some(Kind::Check(_)) => self.check_ends(at, Err(why.into())),
            _ => self.upstream_lost(at, why),
        }
    }
}
