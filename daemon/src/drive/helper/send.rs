//! What is said to helpers. Nothing is waited for: what the socket does not take is kept, and goes when it can be written.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};

use engine::core::{Settlement, Ticket, UpstreamId, Verdict};
use wire::helper::{self, Call, HEADER_BYTES, INLINE_BYTES_MAX, Payload};

use super::dbus::{self, Stream};
use super::figures::Exit;
use super::{Helper, HelperRef, Phase, Speech};
use crate::drive::Drive;
use crate::drive::calls::SMALL_BYTES;
use crate::drive::exec::wipe;
use crate::drive::pools::Place;
use crate::spawner::{Helper as Process, Sent};

/// Messages of one call written in one turn: others have their turn then.
pub(super) const ROUNDS: usize = 16;

/// What could not be written yet.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A call, from some byte on.
    Call(Request),
    /// A whole message.
    Message(Vec<u8>),
    /// What goes into a stream, from some byte on.
    Stream(Stream),
}

/// A call that travels in messages.
#[derive(Debug)]
pub(super) struct Request {
    id: u32,
    deadline_ms: u32,
    /// The payload, from `skip` on.
    bytes: Vec<u8>,
    skip: usize,
    /// So much of the payload has been written.
    written: usize,
    descriptor: Option<OwnedFd>,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        match self {
            Outgoing::Call(request) => wipe(&mut request.bytes),
            Outgoing::Message(message) => wipe(message),
            Outgoing::Stream(stream) => wipe(&mut stream.payload),
        }
    }
}

/// How far a call came.
#[derive(Clone, Copy)]
pub(super) enum Progress {
    All,
    Blocked,
    /// There is room for more: others have their turn first.
    Later,
    Broken,
}

impl Drive {
    /// The pool has sent a call to a helper with room for it.
    pub(in crate::drive) fn call_helper(&mut self, index: usize, ticket: Ticket, to: HelperRef) {
        let now = self.now;
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(flight) = state.flight(ticket) else { return };
        let Some(caller) = flight.caller else { return };
        let deadline = flight.deadline;
        let mut bytes = std::mem::take(&mut flight.bytes);
        let skip = std::mem::take(&mut flight.skip);
        let mut descriptor = flight.direct.take();
        let Some(helper) = self.helpers.get_mut(to) else { return };
        let Some(id) = helper.calls.open(ticket, caller, now) else {
            return;
        };
        flight.wire_id = id.cast_signed();
        let left = deadline.since(now).as_micros().div_ceil(1000);
        let deadline_ms = u32::try_from(left).unwrap_or(0).max(u32::from(left > 0));
        let (slow_log, weighs) = (helper.plan.slow_log, helper.plan.memory_max > 0);
        if !slow_log.is_zero() {
            self.look_after(now + crate::drive::timers::span(slow_log));
        }
        if weighs {
            self.look_after(now + super::watch::WEIGH_EVERY);
        }
        let Some(helper) = self.helpers.get_mut(to) else { return };
        if let Speech::Dbus(_) = &helper.speech {
            // A descriptor for the answer is closed: the answer comes as all others do.
            bytes.drain(..skip);
            return self.call_over_dbus(index, ticket, to, id, deadline_ms, bytes);
        }
        let Some(process) = helper.process.as_deref() else {
            return;
        };
        let mut written = 0;
        let progress = if helper.backlog.is_empty() {
            let payload = bytes.get(skip..).unwrap_or_default();
            first_attempt(process, id, deadline_ms, payload, &mut written, &mut descriptor)
        } else {
            Progress::Blocked
        };
        match progress {
            // Where it is broken the end of the process follows.
            Progress::All | Progress::Broken if bytes.len() > SMALL_BYTES => self.spares.give_large(bytes),
            Progress::All | Progress::Broken => {
                if let Some(flight) = self.pool(index).and_then(|state| state.flight(ticket)) {
                    flight.bytes = bytes;
                }
            }
            Progress::Blocked | Progress::Later => {
                helper.backlog.push_back(Outgoing::Call(Request {
                    id,
                    deadline_ms,
                    bytes,
                    skip,
                    written,
                    descriptor,
                }));
                self.heed_backlog(to);
                if matches!(progress, Progress::Later) {
                    self.look_at_helper_again(to);
                }
            }
        }
    }

    /// Whether the socket takes more is of interest while something waits.
    pub(super) fn heed_backlog(&mut self, to: HelperRef) {
        if let Some(helper) = self.helpers.get_mut(to)
            && let Some(process) = helper.process.as_deref_mut()
        {
            process.heed(self.poll.registry(), !helper.backlog.is_empty());
        }
    }

    /// The socket takes more.
    pub(super) fn flush_helper(&mut self, to: HelperRef) {
        self.flush_backlog(to);
        self.heed_backlog(to);
    }

    fn flush_backlog(&mut self, to: HelperRef) {
        let Some(helper) = self.helpers.get_mut(to) else { return };
        let Some(process) = helper.process.as_deref() else {
            return;
        };
        let mut rounds = 0;
        while let Some(next) = helper.backlog.front_mut() {
            let progress = match next {
                Outgoing::Call(request) => {
                    let Request {
                        id,
                        deadline_ms,
                        bytes,
                        skip,
                        written,
                        descriptor,
                    } = request;
                    let payload = bytes.get(*skip..).unwrap_or_default();
                    if *written == 0 {
                        first_attempt(process, *id, *deadline_ms, payload, written, descriptor)
                    } else {
                        pieces(process, *id, *deadline_ms, payload, written, descriptor)
                    }
                }
                Outgoing::Message(message) => match process.send(&[IoSlice::new(message)], None) {
                    Sent::Whole => Progress::All,
                    Sent::Blocked => Progress::Blocked,
                    Sent::Broken => Progress::Broken,
                },
                Outgoing::Stream(stream) => stream.write(process),
            };
            match progress {
                Progress::All => {
                    if let Some(Outgoing::Call(request)) = &mut helper.backlog.pop_front()
                        && request.bytes.len() > SMALL_BYTES
                    {
                        self.spares.give_large(std::mem::take(&mut request.bytes));
                    }
                    rounds += 1;
                    if rounds == ROUNDS && !helper.backlog.is_empty() {
                        return self.look_at_helper_again(to);
                    }
                }
                Progress::Later => return self.look_at_helper_again(to),
                Progress::Blocked => return,
                Progress::Broken => {
                    helper.backlog.clear();
                    return;
                }
            }
        }
    }

    /// The pool has given a call up: its helper is told, and signalled where it has no other call.
    pub(in crate::drive) fn interrupt_helper(&mut self, index: usize, upstream: UpstreamId, ticket: Ticket) {
        let now = self.now;
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some(Place::Helper(to)) = state.place(upstream) else {
            return;
        };
        let to = *to;
        let helper = self.helpers.get_mut(to);
        let found = helper.and_then(|helper| {
            let id = helper.calls.of_ticket(ticket)?.id;
            Some((helper, id))
        });
        let Some((helper, id)) = found else {
            let done = Settlement::Done(Verdict::Well);
            state.pool.reply(ticket, upstream, done, now, &mut state.effects);
            return;
        };
        let unsent = |one: &Outgoing| match one {
            Outgoing::Call(call) => call.id == id && call.written == 0,
            Outgoing::Stream(stream) => stream.call == id && stream.written == 0,
            Outgoing::Message(_) => false,
        };
        if let Some(at) = helper.backlog.iter().position(unsent) {
            // It never heard of it.
            helper.backlog.remove(at);
            helper.calls.end(id);
            let done = Settlement::Done(Verdict::Well);
            state.pool.reply(ticket, upstream, done, now, &mut state.effects);
            return;
        }
        // What has not been written of it is not, any more.
        helper
            .backlog
            .retain(|one| !matches!(one, Outgoing::Call(call) if call.id == id));
        let interruption = helper.interruption(id);
        if let Some(call) = helper.calls.get_mut(id) {
            call.given_up = true;
            call.interrupted = interruption.is_some();
        }
        let signalled = helper.signals && helper.concurrency == 1;
        if let Some(service) = state.service() {
            service.interrupted += 1;
        }
        if let Some(message) = interruption {
            self.tell_helper(to, message);
        }
        if signalled && let Some(process) = self.helpers.get(to).and_then(|helper| helper.process.as_deref()) {
            process.interrupt();
            self.look_after(now + super::watch::INTERRUPT_AGAIN);
        }
    }

    /// What the caller answers to an `ask` of this call. False: it is larger than a message, or the call has ended.
    pub(in crate::drive) fn program_input(&mut self, index: usize, ticket: Ticket, payload: &[u8]) -> bool {
        let Some(state) = self.pool(index) else { return false };
        let Some(upstream) = state.pool.upstream_of(ticket) else {
            return false;
        };
        let Some(Place::Helper(to)) = state.place(upstream) else {
            return false;
        };
        let to = *to;
        let Some(helper) = self.helpers.get_mut(to) else {
            return false;
        };
        if let Speech::Dbus(_) = &helper.speech {
            // It has no way to ask.
            return false;
        }
        let Some(id) = helper.calls.of_ticket(ticket).map(|call| call.id) else {
            return false;
        };
        let room = helper.process.as_ref().map_or(0, |process| process.message_bytes_max());
        let mut message = Vec::with_capacity(HEADER_BYTES + payload.len());
        if HEADER_BYTES + payload.len() > room || helper::write_input(&mut message, id, payload).is_err() {
            return false;
        }
        self.tell_helper(to, message);
        true
    }

    /// The helper is to finish and end; after the grace it is killed.
    pub(in crate::drive) fn dismiss_helper(&mut self, to: HelperRef) {
        let now = self.now;
        let Some(helper) = self.helpers.get_mut(to) else { return };
        helper.why.get_or_insert(Exit::Idle);
        match helper.phase {
            Phase::Starting | Phase::Ready if helper.process.is_some() => {
                let due = now + crate::drive::timers::span(helper.plan.grace);
                helper.phase = Phase::Leaving;
                helper.kill_at = Some(due);
                let farewell = helper.farewell();
                self.look_after(due);
                match farewell {
                    Some(message) => self.tell_helper(to, message),
                    None => self.terminate_helper(to),
                }
            }
            Phase::Starting => helper.phase = Phase::Dying,
            Phase::Ready | Phase::Leaving | Phase::Dying => {}
        }
    }

    pub(super) fn tell_helper(&mut self, to: HelperRef, message: Vec<u8>) {
        let Some(helper) = self.helpers.get_mut(to) else { return };
        let Some(process) = helper.process.as_deref() else {
            return;
        };
        let mut message = match &helper.speech {
            Speech::Ours => Outgoing::Message(message),
            Speech::Dbus(_) => Outgoing::Stream(Stream::message(message)),
        };
        if helper.backlog.is_empty() {
            let progress = match &mut message {
                Outgoing::Stream(stream) => stream.write(process),
                Outgoing::Message(bytes) if process.send(&[IoSlice::new(bytes)], None) != Sent::Blocked => {
                    Progress::All
                }
                Outgoing::Message(_) | Outgoing::Call(_) => Progress::Blocked,
            };
            if matches!(progress, Progress::All | Progress::Broken) {
                return;
            }
        }
        helper.backlog.push_back(message);
        self.heed_backlog(to);
    }

    fn terminate_helper(&self, to: HelperRef) {
        if let Some(process) = self.helpers.get(to).and_then(|helper| helper.process.as_deref()) {
            process.terminate();
        }
    }
}

impl Helper {
    /// What tells it that a call is not wanted any more; none: nothing does.
    fn interruption(&self, id: u32) -> Option<Vec<u8>> {
        match &self.speech {
            Speech::Ours => {
                let mut message = Vec::with_capacity(HEADER_BYTES);
                helper::write_interrupt(&mut message, id).ok()?;
                Some(message)
            }
            Speech::Dbus(_) => dbus::interruption(&self.plan, id),
        }
    }

    /// What tells it to end; none: nothing does but SIGTERM.
    fn farewell(&self) -> Option<Vec<u8>> {
        match &self.speech {
            Speech::Ours => {
                let mut message = Vec::with_capacity(HEADER_BYTES);
                helper::write_goodbye(&mut message);
                Some(message)
            }
            Speech::Dbus(dialog) => dbus::farewell(&self.plan, dialog),
        }
    }
}

/// Nothing of the call has been written: through the shared memory where it fits there, else in messages.
fn first_attempt(
    process: &Process,
    id: u32,
    deadline_ms: u32,
    payload: &[u8],
    written: &mut usize,
    descriptor: &mut Option<OwnedFd>,
) -> Progress {
    let shared = payload.len() > INLINE_BYTES_MAX && process.memory().is_some_and(|memory| memory.write(payload));
    if !shared {
        return pieces(process, id, deadline_ms, payload, written, descriptor);
    }
    let bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let call = Call {
        call: id,
        deadline_ms,
        whole_bytes: bytes,
        more: false,
        descriptor: descriptor.is_some(),
        payload: Payload::Shared { offset: 0, bytes },
    };
    let Ok(header) = helper::call_header(&call) else {
        return Progress::Broken;
    };
    match process.send(&[IoSlice::new(&header)], descriptor.as_ref().map(AsFd::as_fd)) {
        Sent::Whole => {
            descriptor.take();
            Progress::All
        }
        Sent::Blocked => Progress::Blocked,
        Sent::Broken => Progress::Broken,
    }
}

fn pieces(
    process: &Process,
    id: u32,
    deadline_ms: u32,
    payload: &[u8],
    written: &mut usize,
    descriptor: &mut Option<OwnedFd>,
) -> Progress {
    let room = process.message_bytes_max().saturating_sub(HEADER_BYTES);
    let whole_bytes = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    for _ in 0..ROUNDS {
        let rest = payload.get(*written..).unwrap_or_default();
        let (piece, behind) = rest.split_at_checked(room).unwrap_or((rest, &[]));
        let call = Call {
            call: id,
            deadline_ms,
            whole_bytes,
            more: !behind.is_empty(),
            descriptor: descriptor.is_some(),
            payload: Payload::Inline(piece),
        };
        let Ok(header) = helper::call_header(&call) else {
            return Progress::Broken;
        };
        let parts = [IoSlice::new(&header), IoSlice::new(piece)];
        match process.send(&parts, descriptor.as_ref().map(AsFd::as_fd)) {
            Sent::Whole => {
                descriptor.take();
                *written += piece.len();
                if behind.is_empty() {
                    return Progress::All;
                }
            }
            Sent::Blocked => return Progress::Blocked,
            Sent::Broken => return Progress::Broken,
        }
    }
    Progress::Later
}
