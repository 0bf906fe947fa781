//! Calls of services, by whichever face they came: submitted, answered in parts, asked for more, ended.
//!
//! The way in: a face finds the service (`find_service`), names its connection and its own number for the call
//! ([`Caller`]), submits ([`Drive::submit_call`]), notes the ticket, and then has the effects carried out. The way out: who
//! runs the call says what it has with [`Drive::answer_call`], the pool ends it with [`Drive::call_failed`]; both find the
//! connection, if it is still that one, and hand over to its face. So a face and a kind of helper never meet.
//!
//! Bounds: requests that wait, answers that are not read and descriptors that wait are bounded for all callers together.

use std::borrow::Cow;
use std::os::fd::OwnedFd;

use engine::core::time::Span;
use engine::core::{Class, Reason, Request, Route, Ticket, UpstreamId};
use engine::session::rpc::{Open, say};
use wire::rpc::ErrorCode;

use super::Drive;
use super::conn::{Conn, ConnRef, Kind};
use super::exec::WIPED_BYTES_MAX;
use super::helper::dbus::unfit;
use super::pools::{Caller, Place};
use super::service::outcome;
use super::timers::span;
use crate::net::stream::Flushed;

/// Requests that wait for a helper or are being written to one, of all callers together.
const REQUESTS_BYTES_MAX: usize = 256 << 20;
/// Answers that have not been read by their callers, of all callers together.
const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// Descriptors for direct answers that wait with their calls, of all callers together.
const DIRECT_MAX: usize = 256;
/// Requests and answers up to this size are taken without counting all the others: their number is bounded.
pub(super) const SMALL_BYTES: usize = 64 << 10;

/// A call that is to be submitted.
#[derive(Debug)]
pub struct NewCall<'a> {
    /// The request.
    pub payload: &'a [u8],
    /// It is not copied: the caller gives its buffer to the flight, before the effects are carried out.
    pub given: bool,
    /// How long the caller waits; none, or longer than the service allows: as long as that.
    pub timeout: Option<Span>,
    /// Where the answer may be written to, past us. A program of the kind `exec` gets none: it is closed.
    pub direct: Option<OwnedFd>,
}

/// What there is to say to the caller of a call.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// A part of the answer; more follows.
    Part(&'a [u8]),
    /// The call needs more from its caller, who says it by [`Drive::call_input`].
    Ask(&'a [u8]),
    /// The answer, or the rest of it: the call is over.
    Whole(&'a [u8]),
    /// There is none: the call is over.
    Failed {
        /// Why.
        code: ErrorCode,
        /// In words.
        text: &'a str,
    },
}

/// What became of what was said to a caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// It has it.
    Taken,
    /// It has it, and has more before it than it should: hand over no more of this call before
    /// [`Drive::wait_for_caller`] has come back.
    Full,
    /// It cannot be asked: whoever asked gets an empty input.
    Unasked,
    /// Nobody waits for it.
    Gone,
}

impl Drive {
    /// Gives a call to a service's pool. The effects are not carried out yet: the caller first notes the ticket, then says
    /// `carry_out`.
    ///
    /// # Errors
    /// The pool, or what waits altogether, has no room, or the service's helpers cannot be told this: the code and the words
    /// for the caller.
    pub(super) fn submit_call(
        &mut self,
        index: usize,
        caller: Caller,
        call: NewCall<'_>,
    ) -> Result<Ticket, (ErrorCode, &'static str)> {
        if call.payload.len() > SMALL_BYTES && self.request_bytes() + call.payload.len() > REQUESTS_BYTES_MAX {
            self.count_failed_call(index, Reason::QueueFull);
            return Err((ErrorCode::QueueFull, "the requests that wait are too large together"));
        }
        if call.direct.is_some() && self.direct_waiting() >= DIRECT_MAX {
            self.count_failed_call(index, Reason::QueueFull);
            return Err((
                ErrorCode::QueueFull,
                "too many calls wait with a descriptor for their answer",
            ));
        }
        let now = self.now;
        let gone = (ErrorCode::Unavailable, "the service is being removed");
        let state = self.pools.get_mut(index).and_then(Option::as_mut).ok_or(gone)?;
        let plan = state.service().map(|service| &service.plan).ok_or(gone)?;
        let (queue_timeout, request_timeout) = (span(plan.queue_timeout), span(plan.request_timeout));
        if let Some(refusal) = unfit(plan, call.payload) {
            if let Some(service) = state.service() {
                service.figures.ended(outcome(refusal.0));
            }
            return Err(refusal);
        }
        let request = Request {
            // What a helper has begun is never begun again.
            class: Class { lane: 0, retry: false },
            deadline: now
                + call
                    .timeout
                    .map_or(request_timeout, |timeout| timeout.min(request_timeout)),
            queue_wait_max: Some(queue_timeout),
            affinity: None,
            pin: None,
            route: Route::default(),
        };
        let ticket = state
            .pool
            .submit(request, caller, now, &mut state.effects)
            .ok_or((ErrorCode::QueueFull, "too many calls"))?;
        state.take_off(ticket, caller, now);
        if state.pool.is_sent(ticket).is_some()
            && let Some(flight) = state.flight(ticket)
        {
            flight.bytes.clear();
            if !call.given {
                flight.bytes.extend_from_slice(call.payload);
            }
            flight.sensitive = call.payload.len() <= WIPED_BYTES_MAX;
            flight.direct = call.direct;
            flight.deadline = request.deadline;
        }
        self.note_saturation(index);
        Ok(ticket)
    }

    /// The caller no longer wants this call, or is gone.
    pub(super) fn cancel_call(&mut self, open: Open) {
        let now = self.now;
        let Some(state) = self.pool(open.pool) else { return };
        state.pool.cancel(open.ticket, now, &mut state.effects);
        self.carry_out(open.pool, None);
    }

    /// The caller says what its call has asked; empty: it cannot be asked. Passed over where nothing asks.
    pub(super) fn call_input(&mut self, open: Open, bytes: &[u8]) {
        let Some(state) = self.pool(open.pool) else { return };
        let Some(upstream) = state.pool.upstream_of(open.ticket) else {
            return;
        };
        match state.place(upstream) {
            Some(Place::Helper(_)) => {
                self.program_input(open.pool, open.ticket, bytes);
            }
            // A program of the kind `exec` has had its whole request, and asks nothing.
            Some(Place::Runner(_) | Place::Nowhere | Place::Resolving { .. } | Place::Conn(_) | Place::Local(_))
            | None => {}
        }
    }

    /// Says something to a call's caller. What ends the call must have ended it in its pool before.
    pub(super) fn answer_call(&mut self, caller: Caller, answer: &Answer<'_>) -> Heard {
        let at = caller.conn.at as usize;
        let room = match answer {
            Answer::Whole(bytes) if bytes.len() > SMALL_BYTES => self.room_for_answer(at, bytes.len()),
            _ => true,
        };
        let answer = if room {
            answer
        } else {
            &Answer::Failed {
                code: ErrorCode::TooLarge,
                text: "there is no room for the answer: too many others are not being read",
            }
        };
        if caller.conn == ConnRef::ELSEWHERE {
            return self.remote_answer(caller, answer);
        }
        if caller.conn.is_radius() {
            return self.radius_answered(caller, answer);
        }
        match self.caller(caller).map(|conn| &conn.kind) {
            Some(Kind::Rpc(_)) => self.rpc_answer(at, caller.id.cast_unsigned(), answer),
            Some(Kind::Ask(_)) => self.question_answered(caller, answer),
            Some(Kind::Ldap(_) | Kind::Upstream(_) | Kind::Check(_)) | None => Heard::Gone,
        }
    }

    /// The pool has ended a call.
    pub(super) fn call_failed(&mut self, index: usize, ticket: Ticket, caller: Caller, reason: Reason, sent: bool) {
        let Some(state) = self.pool(index) else { return };
        state.land(ticket);
        let Some(service) = state.service() else { return };
        let (mut code, text) = say(reason, sent);
        let mut text = Cow::Borrowed(text);
        match (reason, &service.last_words, &service.last_error) {
            (Reason::UpstreamLost { .. }, Some(words), _) => {
                code = ErrorCode::Crashed { status: words.status };
                text = match &words.text {
                    Some(what) => Cow::Owned(format!("the helper was killed: {what}")),
                    None => Cow::Borrowed("the helper ended while it had the call"),
                };
            }
            // None could be had all the time that it waited.
            (Reason::Unavailable | Reason::QueueTimeout, _, Some(error)) => {
                code = ErrorCode::Unavailable;
                text = Cow::Owned(error.clone());
            }
            _ => {}
        }
        service.figures.ended(outcome(code));
        tracing::debug!(
            service = service.plan.name,
            ?reason,
            "a call has ended without an answer"
        );
        self.answer_call(caller, &Answer::Failed { code, text: &text });
    }

    /// After [`Heard::Full`]: once this caller has read what waits for it, or is gone, [`Drive::caller_has_read`] says so
    /// to the upstream that has its call.
    pub(super) fn wait_for_caller(&mut self, caller: Caller, index: usize, upstream: UpstreamId) {
        let Some(conn) = self.caller(caller) else { return };
        if let Kind::Rpc(client) = &mut conn.kind
            && !client.choking.contains(&(index, upstream))
        {
            client.choking.push((index, upstream));
        }
    }

    /// An upstream that has waited for a slow caller may hand over more.
    pub(super) fn caller_has_read(&mut self, index: usize, upstream: UpstreamId) {
        let Some(state) = self.pool(index) else { return };
        match state.place(upstream) {
            Some(Place::Helper(helper)) => {
                let helper = *helper;
                self.unchoke_helper(helper);
            }
            // What a program of the kind `exec` says is kept until it has ended: it waits for nobody.
            Some(Place::Runner(_) | Place::Nowhere | Place::Resolving { .. } | Place::Conn(_) | Place::Local(_))
            | None => {}
        }
    }

    fn caller(&mut self, caller: Caller) -> Option<&mut Conn> {
        self.conn(caller.conn)
    }

    /// Whether so many bytes may wait besides what waits already. The client's socket may take some of that at once.
    fn room_for_answer(&mut self, at: usize, bytes: usize) -> bool {
        if self.answer_bytes() + bytes <= ANSWERS_BYTES_MAX {
            return true;
        }
        if let Some(conn) = self.conns.get_mut(at)
            && !conn.blocked
            && conn.stream.flush(&mut self.spares, self.poll.registry()) == Flushed::Blocked
        {
            conn.blocked = !conn.stream.is_handshaking();
        }
        self.answer_bytes() + bytes <= ANSWERS_BYTES_MAX
    }

    fn answer_bytes(&self) -> usize {
        let clients = self.conns.iter().filter(|(_, conn)| matches!(conn.kind, Kind::Rpc(_)));
        clients.map(|(_, conn)| conn.stream.waiting()).sum()
    }

    fn request_bytes(&self) -> usize {
        let services = self.pools.iter().flatten().filter(|state| state.is_service());
        let waiting: usize = services
            .flat_map(|state| &state.flights)
            .map(|flight| flight.bytes.len())
            .sum();
        waiting + self.programs.iter().map(|run| run.input.len()).sum::<usize>()
    }

    fn direct_waiting(&self) -> usize {
        let services = self.pools.iter().flatten().filter(|state| state.is_service());
        services
            .flat_map(|state| &state.flights)
            .filter(|flight| flight.direct.is_some())
            .count()
    }
}
