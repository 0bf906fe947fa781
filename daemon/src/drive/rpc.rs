//! Clients of the services: read, submitted, answered.
//!
//! Bounds: a client has at most [`CALLS_MAX`] calls open and is not read beyond; it is not read either while more waits
//! for it than its listener's `outbox_bytes_max`. Requests that wait and answers that are not read are bounded for all
//! clients together ([`REQUESTS_BYTES_MAX`], [`ANSWERS_BYTES_MAX`]); what would go beyond ends with an error of its own.

use engine::core::{Class, Reason, Request, Ticket};
use engine::session::rpc::{Call, Next, Open, Session, Settings};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wire::frame::{Malformed, Step};
use wire::rpc::{self, ErrorCode};
use zeroize::Zeroize;

use super::Drive;
use super::conn::{ConnRef, Kind};
use super::exec::WIPED_BYTES_MAX;
use super::pools::Caller;
use super::timers::span;
use crate::config::plan::Face;
use crate::net::stream::{Flushed, Raw};

/// Calls open at once on one connection.
const CALLS_MAX: usize = 100;
/// Requests that wait for a program or are being written to one, of all clients together.
const REQUESTS_BYTES_MAX: usize = 256 << 20;
/// Answers that have not been read by their clients, of all clients together.
const ANSWERS_BYTES_MAX: usize = 256 << 20;
/// Requests and answers up to this size are taken without counting all the others: their number is bounded.
const SMALL_BYTES: usize = 64 << 10;

/// A client of the services.
#[derive(Debug)]
pub struct RpcClient {
    /// Its protocol machine.
    pub session: Session,
    /// The listener it came through.
    pub listener: u64,
}

/// How a call ended on our side.
#[derive(Clone, Copy, Debug)]
pub enum Answer<'a> {
    /// Here is the answer.
    Whole(&'a [u8]),
    /// There is none.
    Failed {
        /// Why.
        code: ErrorCode,
        /// In words.
        text: &'a str,
    },
}

/// What becomes of the bytes behind a frame.
#[derive(PartialEq, Eq)]
enum Flow {
    Go,
    /// The frame was not taken; it is given again later.
    Held,
    /// Nothing more is read.
    Stop,
}

impl RpcClient {
    /// Just connected.
    pub fn new(listener: u64) -> Self {
        RpcClient {
            session: Session::new(),
            listener,
        }
    }
}

impl Drive {
    pub(super) fn rpc_readable(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.closing {
            return;
        }
        if conn.held {
            // Not read; but a client that has left wants none of what it has open.
            if has_left(conn.stream.raw()) {
                self.close(at);
            }
            return;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let handshaking = conn.stream.is_handshaking();
        match self.fill(at, &mut scratch) {
            None => self.close(at),
            Some((n, held)) => {
                if handshaking {
                    self.handshaken(at);
                }
                self.rpc_bytes(at, scratch.get(..n).unwrap_or_default(), held);
                if n < scratch.len() {
                    // A request may hold a password.
                    scratch.get_mut(..n).unwrap_or_default().zeroize();
                }
            }
        }
        self.scratch = scratch;
    }

    /// `fresh`: just read; `held`: from before, with what was just read behind it. One of them is empty.
    fn rpc_bytes(&mut self, at: usize, fresh: &[u8], mut held: Vec<u8>) {
        let bytes = if held.is_empty() { fresh } else { &held };
        let taken = self.rpc_frames(at, bytes);
        if held.is_empty() {
            held.extend_from_slice(fresh.get(taken..).unwrap_or_default());
        } else {
            held.drain(..taken);
        }
        let Some(conn) = self.conns.get_mut(at) else {
            return held.zeroize();
        };
        conn.inbox = held;
        if taken > 0 {
            // What is held now is another frame than before, and has its own time.
            conn.partial_since = None;
        }
        self.keep_inbox(at);
    }

    /// Takes whole frames, a bounded number per turn; how many bytes they were.
    fn rpc_frames(&mut self, at: usize, bytes: &[u8]) -> usize {
        let Some((settings, turn_max, outbox_max)) = self.rpc_settings(at) else {
            return bytes.len();
        };
        let frame_bytes_max = settings.frame_bytes_max();
        let mut taken = 0;
        for turn in 0.. {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            if turn == turn_max {
                self.look_at_again(at);
                break;
            }
            let frame = match rpc::split(rest, frame_bytes_max) {
                Step::NeedMore { .. } => break,
                Step::Malformed(fault) => Err(fault),
                Step::Frame { len } => {
                    let frame = rest.get(..len).unwrap_or_default();
                    rpc::peek(frame).map(|frame| (len, frame))
                }
            };
            let flow = match frame {
                Ok((len, frame)) => match self.rpc_frame(at, &frame, &settings, outbox_max) {
                    Flow::Held => break,
                    flow => {
                        taken += len;
                        flow
                    }
                },
                Err(fault) => {
                    self.rpc_poisoned(at, fault);
                    return bytes.len();
                }
            };
            if flow == Flow::Stop {
                return bytes.len();
            }
        }
        taken
    }

    fn rpc_settings(&self, at: usize) -> Option<(Settings, usize, usize)> {
        let Kind::Rpc(client) = &self.conns.get(at)?.kind else {
            return None;
        };
        let plan = &self.listeners.get(&client.listener)?.plan;
        let Face::Rpc { payload_bytes_max } = plan.face else {
            return None;
        };
        let settings = Settings {
            calls_max: CALLS_MAX,
            payload_bytes_max,
            software: concat!("usherd/", env!("CARGO_PKG_VERSION")),
        };
        Some((settings, plan.turn_messages_max, plan.outbox_bytes_max))
    }

    fn rpc_poisoned(&mut self, at: usize, fault: Malformed) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Kind::Rpc(client) = &mut conn.kind {
            client.session.poisoned(fault, conn.stream.outbox(&mut self.spares));
            self.rpc_close(at);
        }
    }

    fn rpc_frame(&mut self, at: usize, frame: &rpc::Frame<'_>, settings: &Settings, outbox_max: usize) -> Flow {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(at) else {
            return Flow::Stop;
        };
        conn.active_at = now;
        if conn.stream.waiting() > outbox_max && frame.kind == rpc::Kind::Call {
            // Read on when it has read.
            conn.held = true;
            return Flow::Held;
        }
        let Kind::Rpc(client) = &mut conn.kind else {
            return Flow::Stop;
        };
        match client
            .session
            .receive(frame, settings, conn.stream.outbox(&mut self.spares))
        {
            Next::Done => {
                self.mark_dirty(at);
                Flow::Go
            }
            Next::Call(call) => {
                self.call(at, &call);
                Flow::Go
            }
            Next::Cancel(open) => {
                self.cancel_call(open);
                Flow::Go
            }
            Next::Close => {
                self.rpc_close(at);
                Flow::Stop
            }
            Next::Later => {
                conn.held = true;
                Flow::Held
            }
        }
    }

    fn call(&mut self, at: usize, call: &Call<'_>) {
        let Some(index) = self.find_service(call.service) else {
            let text = format!("no service has the name {:?}", call.service);
            return self.refuse(at, call.id, ErrorCode::UnknownService, &text);
        };
        if call.payload.len() > SMALL_BYTES && self.request_bytes() + call.payload.len() > REQUESTS_BYTES_MAX {
            self.count_failed_call(index, Reason::QueueFull);
            let text = "the requests that wait are too large together";
            return self.refuse(at, call.id, ErrorCode::QueueFull, text);
        }
        let now = self.now;
        let Some(generation) = self.conns.get(at).map(|conn| conn.generation) else {
            return;
        };
        let Some(state) = self.pools.get_mut(index).and_then(Option::as_mut) else {
            return;
        };
        let Some((queue_timeout, request_timeout)) = state
            .service()
            .map(|service| (service.plan.queue_timeout, service.plan.request_timeout))
        else {
            return;
        };
        let timeout = call
            .timeout
            .map_or(span(request_timeout), |timeout| timeout.min(span(request_timeout)));
        let request = Request {
            // What a program has begun is never begun again.
            class: Class { lane: 0, retry: false },
            deadline: now + timeout,
            queue_wait_max: Some(span(queue_timeout)),
            affinity: None,
            pin: None,
        };
        let caller = Caller {
            conn: ConnRef {
                at: u32::try_from(at).unwrap_or(u32::MAX),
                generation,
            },
            id: call.id.cast_signed(),
            tag: 0,
        };
        let Some(ticket) = state.pool.submit(request, caller, now, &mut state.effects) else {
            return self.refuse(at, call.id, ErrorCode::QueueFull, "too many calls");
        };
        state.take_off(ticket, caller, now);
        if state.pool.is_sent(ticket).is_some()
            && let Some(flight) = state.flight(ticket)
        {
            flight.bytes.clear();
            flight.bytes.extend_from_slice(call.payload);
            flight.sensitive = call.payload.len() <= WIPED_BYTES_MAX;
        }
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Rpc(client) = &mut conn.kind
        {
            client.session.submitted(call.id, index, ticket);
        }
        self.carry_out(index, None);
    }

    fn refuse(&mut self, at: usize, id: u32, code: ErrorCode, text: &str) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Kind::Rpc(client) = &mut conn.kind {
            client
                .session
                .refused(id, code, text, conn.stream.outbox(&mut self.spares));
            self.mark_dirty(at);
        }
    }

    fn cancel_call(&mut self, open: Open) {
        let now = self.now;
        let Some(state) = self.pool(open.pool) else { return };
        state.pool.cancel(open.ticket, now, &mut state.effects);
        self.carry_out(open.pool, None);
    }

    /// Nothing more is said to this client, or it is gone: its calls are canceled.
    pub(super) fn rpc_gone(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        for open in client.session.leave() {
            self.cancel_call(open);
        }
    }

    /// What waits is written, then the connection is closed.
    fn rpc_close(&mut self, at: usize) {
        self.rpc_gone(at);
        self.close_when_written(at);
    }

    /// The daemon, or this listener, stops.
    pub(super) fn rpc_goodbye(&mut self, at: usize, why: &str) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if conn.closing {
            return;
        }
        if let Kind::Rpc(client) = &mut conn.kind {
            client.session.goodbye(why, conn.stream.outbox(&mut self.spares));
            self.rpc_close(at);
        }
    }

    /// No new calls; at rest it is closed.
    pub(super) fn rpc_drain(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Kind::Rpc(client) = &mut conn.kind
            && client.session.drain() == Next::Close
            && !conn.closing
        {
            self.rpc_goodbye(at, "the daemon is stopping");
        }
    }

    /// The pool has ended a call.
    pub(super) fn call_failed(&mut self, index: usize, ticket: Ticket, caller: Caller, reason: Reason) {
        self.count_failed_call(index, reason);
        let sent = self.has_program(index, ticket);
        let at = caller.conn.at as usize;
        let Some(conn) = self
            .conns
            .get_mut(at)
            .filter(|conn| conn.generation == caller.conn.generation)
        else {
            return;
        };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        let out = conn.stream.outbox(&mut self.spares);
        client.session.failed(caller.id.cast_unsigned(), reason, sent, out);
        self.call_over(at);
    }

    /// A run has ended, and this is for its caller.
    pub(super) fn answer_call(&mut self, caller: Caller, answer: &Answer<'_>) {
        let at = caller.conn.at as usize;
        let room = match answer {
            Answer::Whole(bytes) if bytes.len() > SMALL_BYTES => self.room_for_answer(at, bytes.len()),
            _ => true,
        };
        let id = caller.id.cast_unsigned();
        let Some(conn) = self
            .conns
            .get_mut(at)
            .filter(|conn| conn.generation == caller.conn.generation)
        else {
            return;
        };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        let out = conn.stream.outbox(&mut self.spares);
        match answer {
            Answer::Whole(bytes) if room => client.session.answered(id, bytes, out),
            Answer::Whole(_) => {
                let text = "there is no room for the answer: too many others are not being read";
                client.session.ended(id, ErrorCode::TooLarge, text, out)
            }
            Answer::Failed { code, text } => client.session.ended(id, *code, text, out),
        };
        self.call_over(at);
    }

    /// One of a client's calls has ended, and it has been told.
    fn call_over(&mut self, at: usize) {
        self.mark_dirty(at);
        self.resume(at);
        let Some(conn) = self.conns.get_mut(at) else { return };
        if let Kind::Rpc(client) = &mut conn.kind
            && !conn.closing
            && client.session.after_end() == Next::Close
        {
            self.rpc_goodbye(at, "the daemon is stopping");
        }
    }

    /// Everything has been written: a client that was not read because of that is read again.
    #[inline]
    pub(super) fn rpc_has_read(&mut self, at: usize) {
        if let Some(conn) = self.conns.get(at)
            && conn.held
            && matches!(conn.kind, Kind::Rpc(_))
        {
            self.resume(at);
        }
    }

    /// Whether so many bytes may wait besides what waits already. The client's socket may take some of that at once.
    fn room_for_answer(&mut self, at: usize, bytes: usize) -> bool {
        if self.answer_bytes() + bytes <= ANSWERS_BYTES_MAX {
            return true;
        }
        if let Some(conn) = self.conns.get_mut(at)
            && !conn.blocked
            && conn.stream.flush(&mut self.spares) == Flushed::Blocked
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
}

/// Whether the other side has closed, seen past what it sent before.
fn has_left(raw: &Raw) -> bool {
    let gone = PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR;
    let fd = match raw {
        Raw::Tcp(stream) => PollFd::new(stream, gone),
        Raw::Unix(stream) => PollFd::new(stream, gone),
    };
    let mut fds = [fd];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let [fd] = match poll(&mut fds, Some(&at_once)) {
        Ok(1..) => fds,
        _ => return false,
    };
    fd.revents().intersects(gone)
}
