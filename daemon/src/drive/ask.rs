//! Clients of one question: the NSS and PAM modules, and Cyrus SASL. Their sessions ask a directory or a service on.
//!
//! One question is read, its session's own questions are submitted to a pool and their ends told to the session, until the
//! answer is whole; then the connection is closed. Nothing is read meanwhile, but a client that leaves is noticed, and what is
//! asked for it is canceled. A client that reads too slowly is treated as an LDAP client is (`slow.rs`).

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use engine::ask::{Event, Final, Question, To};
use engine::core::{Class, Reason, Request, Route, Ticket, UpstreamId};
use engine::session::ldap::lane;
use engine::session::{nss_pam, saslauthd};
use wire::frame::Step;
use wire::ldap::envelope::{self, Envelope, tag};
use wire::ldap::{message, result};
use wire::nslcd;
use zeroize::Zeroize;

use super::Drive;
use super::calls::{Answer, Heard, NewCall};
use super::conn::{ConnRef, Kind};
use super::pools::Caller;
use super::rpc::has_left;
use super::timers::span;
use crate::config::plan::Face;
use crate::net::stream::Raw;

const DAY_SECS: u64 = 24 * 60 * 60;
/// A service's answer in parts, altogether: a page of a list.
const PARTS_BYTES_MAX: usize = 16 << 20;

/// A client of one question.
#[derive(Debug)]
pub struct AskClient {
    session: Session,
    /// The listener it came through.
    pub listener: u64,
    /// The pool that is asked.
    pub pool: usize,
    /// Connections to servers that are not read until this client has read what waits for it.
    pub choking: Vec<ConnRef>,
    /// The connection to a server that is this client's own.
    own: Option<UpstreamId>,
    open: Vec<(u32, Ticket)>,
    /// What a service has said of its answer so far.
    parts: Vec<u8>,
}

#[derive(Debug)]
enum Session {
    Nslcd(Box<nss_pam::Session>),
    Saslauthd(Box<saslauthd::Session>),
}

impl AskClient {
    /// Just connected. `number` is no other's.
    pub fn new(saslauthd: bool, listener: u64, pool: usize, raw: &Raw, number: u64) -> Self {
        let session = if saslauthd {
            Session::Saslauthd(Box::default())
        } else {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Session::Nslcd(Box::new(nss_pam::Session::new(nss_pam::Circumstances {
                uid: peer_uid(raw),
                today: i64::try_from(since.as_secs() / DAY_SECS).unwrap_or(0),
                number: number ^ since.as_secs().rotate_left(40),
            })))
        };
        AskClient {
            session,
            listener,
            pool,
            choking: Vec::new(),
            own: None,
            open: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Whether its question is being answered.
    pub fn is_asking(&self) -> bool {
        match &self.session {
            Session::Nslcd(session) => session.is_asking(),
            Session::Saslauthd(session) => session.is_asking(),
        }
    }

    /// Questions asked on and not answered yet.
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    /// The tickets of those.
    pub fn tickets(&self) -> impl Iterator<Item = Ticket> {
        self.open.iter().map(|(_, ticket)| *ticket)
    }

    /// This connection to a server was opened for the client.
    pub fn pinned(&mut self, upstream: UpstreamId) {
        self.own = Some(upstream);
    }

    fn question(&mut self) -> Option<Question> {
        match &mut self.session {
            Session::Nslcd(session) => session.question(),
            Session::Saslauthd(session) => session.question(),
        }
    }

    fn split(&self, bytes: &[u8]) -> Step {
        match self.session {
            Session::Nslcd(_) => nslcd::split(bytes, nslcd::REQUEST_BYTES_MAX),
            Session::Saslauthd(_) => wire::saslauthd::split(bytes),
        }
    }

    /// True: the answer is in the outbox as far as it will ever be.
    fn receive(&mut self, frame: &[u8], face: &Face, out: &mut Vec<u8>) -> bool {
        match (&mut self.session, face) {
            (Session::Nslcd(session), Face::Nslcd { settings, .. }) => {
                session.receive(frame, settings, out) == nss_pam::Next::Close
            }
            (Session::Saslauthd(session), Face::Saslauthd { answers, .. }) => {
                session.receive(frame, answers, out) == saslauthd::Next::Close
            }
            _ => true,
        }
    }

    fn told(&mut self, id: u32, event: &Event<'_>, face: &Face, out: &mut Vec<u8>) -> bool {
        match (&mut self.session, face) {
            (Session::Nslcd(session), Face::Nslcd { settings, .. }) => {
                session.told(id, event, settings, out) == nss_pam::Next::Close
            }
            (Session::Saslauthd(session), Face::Saslauthd { answers, .. }) => {
                session.told(event, answers, out) == saslauthd::Next::Close
            }
            _ => true,
        }
    }

    fn leave(&mut self) {
        match &mut self.session {
            Session::Nslcd(session) => drop(session.leave()),
            Session::Saslauthd(session) => drop(session.leave()),
        }
    }
}

/// Who is at the other end of a unix socket, as the kernel says.
fn peer_uid(raw: &Raw) -> Option<u32> {
    match raw {
        #[cfg(target_os = "linux")]
        Raw::Unix(stream) => rustix::net::sockopt::socket_peercred(stream)
            .ok()
            .map(|peer| peer.uid.as_raw()),
        _ => None,
    }
}

/// What the last message for a question says.
pub(super) fn end_of<'e>(env: &Envelope<'e>) -> Event<'e> {
    let end = result::read_result(env.op).map(|result| {
        Event::Done(Final {
            code: result.code,
            diagnostic: result.diagnostic,
            controls: env.controls,
        })
    });
    end.unwrap_or(Event::Failed)
}

impl Drive {
    pub(super) fn ask_readable(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ask(client) = &conn.kind else { return };
        if conn.closing {
            return;
        }
        if client.is_asking() {
            if has_left(conn.stream.raw()) {
                self.close(at);
            }
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        match self.fill(at, &mut scratch) {
            None => self.close(at),
            Some((n, held)) => {
                self.ask_bytes(at, scratch.get(..n).unwrap_or_default(), held);
                // A question may hold a password.
                scratch.get_mut(..n).unwrap_or_default().zeroize();
            }
        }
        self.scratch = scratch;
    }

    /// `fresh`: just read; `held`: from before, with what was just read behind it. One of them is empty.
    fn ask_bytes(&mut self, at: usize, fresh: &[u8], mut held: Vec<u8>) {
        let bytes = if held.is_empty() { fresh } else { &held };
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ask(client) = &mut conn.kind else { return };
        conn.active_at = self.now;
        match client.split(bytes) {
            Step::Malformed(fault) => {
                tracing::debug!(%fault, "what a client asks cannot be followed");
                held.zeroize();
                self.close(at);
            }
            Step::NeedMore { .. } => {
                if held.is_empty() {
                    held.extend_from_slice(fresh);
                }
                conn.inbox = held;
                self.keep_inbox(at);
            }
            Step::Frame { len } => {
                let Some(listener) = self
                    .listeners
                    .get(&client.listener)
                    .map(|found| Arc::clone(&found.plan))
                else {
                    return self.close(at);
                };
                let frame = bytes.get(..len).unwrap_or_default();
                let over = client.receive(frame, &listener.face, conn.stream.outbox(&mut self.spares));
                held.zeroize();
                self.keep_inbox(at);
                self.ask_goes_on(at, over);
            }
        }
    }

    /// After the session was told something: what it asks is submitted, or its client gets its answer.
    fn ask_goes_on(&mut self, at: usize, over: bool) {
        self.mark_dirty(at);
        if over {
            self.ask_gone(at);
            return self.close_when_written(at);
        }
        let generation = self.conns.get(at).map(|conn| conn.generation);
        while let Some(conn) = self.conns.get_mut(at)
            && Some(conn.generation) == generation
            && let Kind::Ask(client) = &mut conn.kind
            && let Some(question) = client.question()
        {
            self.submit_question(at, &question);
        }
    }

    fn submit_question(&mut self, at: usize, question: &Question) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let conn_ref = ConnRef {
            at: u32::try_from(at).unwrap_or(u32::MAX),
            generation: conn.generation,
        };
        let Kind::Ask(client) = &mut conn.kind else { return };
        let (index, own) = (client.pool, client.own);
        let request_tag = match question.to {
            To::Service => 0,
            _ => envelope::peek(&question.bytes).map_or(0, |env| env.tag),
        };
        let caller = Caller {
            conn: conn_ref,
            id: question.id.cast_signed(),
            tag: request_tag,
        };
        let submitted = if question.to == To::Service {
            let call = NewCall {
                payload: &question.bytes,
                given: false,
                timeout: None,
                direct: None,
            };
            self.submit_call(index, caller, call).ok()
        } else {
            self.submit_ldap_question(index, caller, question, own)
        };
        let Some(ticket) = submitted else {
            return self.question_told(conn_ref, question.id, &Event::Failed);
        };
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Ask(client) = &mut conn.kind
        {
            client.open.push((question.id, ticket));
        }
        self.carry_out(index, None);
        self.make_way(index);
    }

    pub(super) fn submit_ldap_question(
        &mut self,
        index: usize,
        caller: Caller,
        question: &Question,
        own: Option<UpstreamId>,
    ) -> Option<Ticket> {
        let now = self.now;
        let state = self.pool(index)?;
        let limits = &state.directory()?.plan.limits;
        let timeout = span(if caller.tag == tag::SEARCH_REQUEST {
            limits.search_timeout
        } else {
            limits.operation_timeout
        });
        let lane = match question.to {
            To::Bind => lane::BIND,
            To::Own => lane::PINNED,
            To::Shared | To::Service => lane::SHARED,
        };
        let request = Request {
            class: Class {
                lane,
                retry: question.retry,
            },
            deadline: now + timeout,
            queue_wait_max: Some(timeout),
            affinity: None,
            pin: own.filter(|_| question.to == To::Own),
            route: Route::default(),
        };
        let ticket = state.pool.submit(request, caller, now, &mut state.effects)?;
        state.take_off(ticket, caller, now);
        if state.pool.is_sent(ticket).is_some()
            && let Some(flight) = state.flight(ticket)
        {
            flight.bytes.clear();
            flight.bytes.extend_from_slice(&question.bytes);
            flight.sensitive = true;
        }
        Some(ticket)
    }

    /// A message of a server's for one of a client's questions.
    pub(super) fn question_replied(
        &mut self,
        index: usize,
        ticket: Ticket,
        caller: Caller,
        env: &Envelope<'_>,
        last: bool,
    ) {
        let id = caller.id.cast_unsigned();
        if last {
            return self.question_told(caller.conn, id, &end_of(env));
        }
        if env.tag != tag::SEARCH_ENTRY {
            return;
        }
        let Ok(entry) = message::read_entry(env.op) else { return };
        self.question_told(caller.conn, id, &Event::Entry(entry));
        self.watch_outbox(index, ticket, caller);
    }

    /// The pool has ended one of a client's questions without an answer.
    pub(super) fn question_failed(&mut self, caller: Caller, reason: Reason) {
        tracing::debug!(?reason, "a question was not answered");
        self.question_told(caller.conn, caller.id.cast_unsigned(), &Event::Failed);
    }

    /// The service has answered one of a client's questions, or has not.
    pub(super) fn question_answered(&mut self, caller: Caller, answer: &Answer<'_>) -> Heard {
        let id = caller.id.cast_unsigned();
        let Some(Kind::Ask(client)) = self.conn(caller.conn).map(|conn| &mut conn.kind) else {
            return Heard::Gone;
        };
        let mut parts = std::mem::take(&mut client.parts);
        match answer {
            // Who has nobody at a terminal cannot be asked.
            Answer::Ask(_) => {
                client.parts = parts;
                return Heard::Unasked;
            }
            Answer::Part(bytes) if parts.len() + bytes.len() <= PARTS_BYTES_MAX => {
                parts.extend_from_slice(bytes);
                client.parts = parts;
            }
            // The connection ends, and with it the call: that is "unavailable".
            Answer::Part(_) => self.close(caller.conn.at as usize),
            Answer::Whole(bytes) if parts.is_empty() => self.question_told(caller.conn, id, &Event::Answer(bytes)),
            Answer::Whole(bytes) => {
                parts.extend_from_slice(bytes);
                self.question_told(caller.conn, id, &Event::Answer(&parts));
            }
            Answer::Failed { code, text } => {
                tracing::debug!(?code, text, "a service has not answered a question");
                self.question_told(caller.conn, id, &Event::Failed);
            }
        }
        Heard::Taken
    }

    fn question_told(&mut self, to: ConnRef, id: u32, event: &Event<'_>) {
        let at = to.at as usize;
        let Some(conn) = self.conns.get_mut(at).filter(|conn| conn.generation == to.generation) else {
            return;
        };
        if conn.closing {
            return;
        }
        let Kind::Ask(client) = &mut conn.kind else { return };
        if !matches!(event, Event::Entry(_)) {
            client.open.retain(|(open, _)| *open != id);
        }
        let Some(listener) = self
            .listeners
            .get(&client.listener)
            .map(|found| Arc::clone(&found.plan))
        else {
            return self.close(at);
        };
        let over = client.told(id, event, &listener.face, conn.stream.outbox(&mut self.spares));
        self.ask_goes_on(at, over);
    }

    /// Nothing more is said to this client, or it is gone: what is asked for it is canceled.
    pub(super) fn ask_gone(&mut self, at: usize) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Ask(client) = &mut conn.kind else { return };
        client.leave();
        let (index, own, open) = (client.pool, client.own.take(), std::mem::take(&mut client.open));
        let choking = std::mem::take(&mut client.choking);
        self.release_choked(&choking);
        let Some(state) = self.pool(index) else { return };
        for (_, ticket) in open {
            state.pool.cancel(ticket, now, &mut state.effects);
        }
        if let Some(own) = own {
            state.pool.release(own, now, &mut state.effects);
        }
        self.carry_out(index, None);
    }
}
