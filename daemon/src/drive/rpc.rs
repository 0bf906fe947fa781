//! Clients of the services in our own protocol: read, submitted (`calls.rs`), answered.
//!
//! Bounds: a client has at most [`CALLS_MAX`] calls open and is not read beyond; it is not read either while more waits
//! for it than its listener's `outbox_bytes_max`, and then a helper that answers it in parts waits too.

use engine::core::{Ticket, UpstreamId};
use engine::session::rpc::{Call, Next, Session, Settings, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wire::frame::{Malformed, Step};
use wire::rpc::{self, ErrorCode};
use wire::wipe::wipe;

use super::Drive;
use super::calls::{Answer, Heard, NewCall};
use super::conn::{ConnRef, Kind};
use super::exec::WIPED_BYTES_MAX;
use super::pools::Caller;
use crate::config::plan::Face;
use crate::net::stream::{Got, Raw};

/// Calls open at once on one connection.
const CALLS_MAX: usize = 100;
/// Asked of the kernel for a unix client's socket, and so what may wait there besides its outbox.
pub(super) const SEND_BUFFER_BYTES: usize = 512 << 10;
/// Of a frame longer than this, so much of which has come, the rest is read where the call will stay. Its payload is larger
/// than any secret: the buffer is used again without being wiped.
const LARGE_BYTES: usize = rpc::FRAME_BYTES_MAX - rpc::PAYLOAD_BYTES_MAX + WIPED_BYTES_MAX;
const BEGUN_BYTES: usize = 16 << 10;
/// Read of it at once.
const LARGE_READ_BYTES: usize = 256 << 10;

/// An answer, or a part of one, of so many bytes is written at once, past the outbox: it costs less than its copy, and the
/// client reads it while the next is being read.
const THROUGH_BYTES: usize = 16 << 10;

/// A client of the services.
#[derive(Debug)]
pub struct RpcClient {
    /// Its protocol machine.
    pub session: Session,
    /// The listener it came through.
    pub listener: u64,
    /// Upstreams, by pool, that are not read until this client has read what waits for it.
    pub choking: Vec<(usize, UpstreamId)>,
    /// Whole frames were left for the next turn: nothing is read before they are taken.
    backlog: bool,
    /// A large frame that is being read, or waits to be taken; then nothing is in the inbox.
    large: Option<Large>,
}

/// A large frame, in a buffer of exactly its length, of which so much has come.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    filled: usize,
}

/// What becomes of the bytes behind a frame.
#[derive(PartialEq, Eq)]
enum Flow {
    Go,
    /// It is a call whose buffer is to be given to its flight, from some byte on, before the effects are carried out.
    Give {
        pool: usize,
        ticket: Ticket,
    },
    /// The frame was not taken; it is given again later.
    Held,
    /// Nothing more is read.
    Stop,
}

impl RpcClient {
    /// Just connected; with a token, one that has to show it first.
    pub fn new(listener: u64, token: Option<Token>) -> Self {
        RpcClient {
            session: Session::new(token),
            listener,
            choking: Vec::new(),
            backlog: false,
            large: None,
        }
    }

    /// A large frame has begun and is not whole.
    pub fn is_amid_large(&self) -> bool {
        self.large
            .as_ref()
            .is_some_and(|large| large.filled < large.bytes.len())
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
        if matches!(&conn.kind, Kind::Rpc(client) if client.large.is_some()) {
            return self.rpc_large(at);
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let handshaking = conn.stream.is_handshaking();
        let backlog = matches!(&conn.kind, Kind::Rpc(client) if client.backlog);
        let filled = if backlog {
            Some((0, std::mem::take(&mut conn.inbox)))
        } else {
            self.fill(at, &mut scratch)
        };
        match filled {
            None => self.close(at),
            Some((n, held)) => {
                if handshaking {
                    self.handshaken(at);
                }
                if self.descriptors_excess(at) {
                    self.rpc_poisoned(at, Malformed::BadValue("one descriptor, with a call that says so"));
                } else {
                    self.rpc_bytes(at, scratch.get(..n).unwrap_or_default(), held);
                }
                if n < scratch.len() {
                    // A request may hold a password.
                    wipe(scratch.get_mut(..n).unwrap_or_default());
                }
            }
        }
        self.scratch = scratch;
    }

    fn descriptors_excess(&self, at: usize) -> bool {
        self.conns.get(at).is_some_and(|conn| conn.stream.descriptors_excess())
    }

    /// `fresh`: just read; `held`: from before, with what was just read behind it. One of them is empty.
    fn rpc_bytes(&mut self, at: usize, fresh: &[u8], mut held: Vec<u8>) {
        let bytes = if held.is_empty() { fresh } else { &held };
        let mut total = 0;
        let taken = self.rpc_frames(at, bytes, &mut total);
        if held.is_empty() {
            held.extend_from_slice(fresh.get(taken..).unwrap_or_default());
        } else {
            held.drain(..taken);
        }
        let Some(conn) = self.conns.get_mut(at) else {
            return wipe(&mut held);
        };
        if held.is_empty() {
            conn.stream.close_descriptors();
        }
        conn.inbox = held;
        if taken > 0 {
            // What is held now is another frame than before, and has its own time.
            conn.partial_since = None;
        }
        if total > LARGE_BYTES {
            self.rpc_large_begun(at, total);
        }
        self.keep_inbox(at);
    }

    /// What has come of a large frame moves to where the rest will be read.
    fn rpc_large_begun(&mut self, at: usize, total: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        let filled = conn.inbox.len();
        if filled < BEGUN_BYTES || total <= filled {
            return;
        }
        let mut bytes = self.spares.take_large(total);
        if let Some(begin) = bytes.get_mut(..filled) {
            begin.copy_from_slice(&conn.inbox);
        }
        conn.inbox.clear();
        client.large = Some(Large { bytes, filled });
    }

    /// Reads on of a large frame; takes it when it is whole.
    fn rpc_large(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        let Some(large) = &mut client.large else { return };
        if conn.readable
            && let Some(rest) = large.bytes.get_mut(large.filled..).filter(|rest| !rest.is_empty())
        {
            let most = rest.len().min(LARGE_READ_BYTES);
            match conn.stream.read(rest.get_mut(..most).unwrap_or_default()) {
                Got::Bytes { n, drained } => {
                    large.filled += n;
                    conn.readable = !drained;
                }
                Got::Nothing => conn.readable = false,
                Got::End => return self.close(at),
            }
        }
        let whole = client.large.take_if(|large| large.filled == large.bytes.len());
        if self.descriptors_excess(at) {
            self.rpc_poisoned(at, Malformed::BadValue("one descriptor, with a call that says so"));
        } else if let Some(large) = whole {
            self.rpc_large_frame(at, large);
        }
        self.keep_inbox(at);
    }

    fn rpc_large_frame(&mut self, at: usize, large: Large) {
        let Some((settings, _, outbox_max)) = self.rpc_settings(at) else {
            return;
        };
        let (flow, payload_bytes) = match rpc::peek(&large.bytes) {
            Ok(frame) => (
                self.rpc_frame(at, &frame, &settings, outbox_max, true),
                frame.payload.len(),
            ),
            Err(fault) => return self.rpc_poisoned(at, fault),
        };
        match flow {
            Flow::Held => {
                if let Some(conn) = self.conns.get_mut(at)
                    && let Kind::Rpc(client) = &mut conn.kind
                {
                    client.large = Some(large);
                }
                return;
            }
            Flow::Give { pool, ticket } => {
                if let Some(state) = self.pool(pool)
                    && state.pool.is_sent(ticket).is_some()
                    && let Some(flight) = state.flight(ticket)
                {
                    flight.skip = large.bytes.len() - payload_bytes;
                    flight.bytes = large.bytes;
                }
                self.carry_out(pool, None);
            }
            Flow::Go | Flow::Stop => self.spares.give_large(large.bytes),
        }
        if let Some(conn) = self.conns.get_mut(at) {
            conn.stream.close_descriptors();
            conn.partial_since = None;
        }
    }

    /// Takes whole frames, a bounded number per turn; how many bytes they were. `total`: those of the frame behind them, where
    /// it is known.
    fn rpc_frames(&mut self, at: usize, bytes: &[u8], total: &mut usize) -> usize {
        let Some((settings, turn_max, outbox_max)) = self.rpc_settings(at) else {
            return bytes.len();
        };
        self.set_backlog(at, false);
        let mut taken = 0;
        for turn in 0.. {
            let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) else {
                break;
            };
            if turn == turn_max {
                self.set_backlog(at, true);
                self.look_at_again(at);
                break;
            }
            let Some(Kind::Rpc(client)) = self.conns.get(at).map(|conn| &conn.kind) else {
                return bytes.len();
            };
            let frame = match rpc::split(rest, client.session.takes_bytes_max(&settings)) {
                Step::NeedMore { total: needed } => {
                    *total = needed.unwrap_or(0);
                    break;
                }
                Step::Malformed(fault) => Err(fault),
                Step::Frame { len } => {
                    let frame = rest.get(..len).unwrap_or_default();
                    rpc::peek(frame).map(|frame| (len, frame))
                }
            };
            let flow = match frame {
                Ok((len, frame)) => match self.rpc_frame(at, &frame, &settings, outbox_max, false) {
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

    fn set_backlog(&mut self, at: usize, backlog: bool) {
        if let Some(conn) = self.conns.get_mut(at)
            && let Kind::Rpc(client) = &mut conn.kind
        {
            client.backlog = backlog;
        }
    }

    fn rpc_settings(&self, at: usize) -> Option<(Settings, usize, usize)> {
        let Kind::Rpc(client) = &self.conns.get(at)?.kind else {
            return None;
        };
        let plan = &self.listeners.get(&client.listener)?.plan;
        let Face::Rpc { payload_bytes_max, .. } = plan.face else {
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

    /// `give`: see [`Flow::Give`].
    fn rpc_frame(
        &mut self,
        at: usize,
        frame: &rpc::Frame<'_>,
        settings: &Settings,
        outbox_max: usize,
        give: bool,
    ) -> Flow {
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
            Next::Call(call) => self.call(at, &call, give),
            Next::Input(open, bytes) => {
                self.call_input(open, bytes);
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

    fn call(&mut self, at: usize, call: &Call<'_>, given: bool) -> Flow {
        let Some(conn) = self.conns.get_mut(at) else {
            return Flow::Stop;
        };
        let direct = call.direct.then(|| conn.stream.take_descriptor());
        let direct = match direct {
            Some(None) => {
                self.rpc_poisoned(at, Malformed::BadValue("a descriptor with a call that says so"));
                return Flow::Stop;
            }
            Some(found) => found,
            None => None,
        };
        let caller = Caller {
            conn: ConnRef {
                at: u32::try_from(at).unwrap_or(u32::MAX),
                generation: conn.generation,
            },
            id: call.id.cast_signed(),
            tag: 0,
        };
        let Some(index) = self.find_service(call.service) else {
            let text = format!("no service has the name {:?}", call.service);
            self.refuse(at, call.id, ErrorCode::UnknownService, &text);
            return Flow::Go;
        };
        let new = NewCall {
            payload: call.payload,
            given,
            timeout: call.timeout,
            direct,
        };
        match self.submit_call(index, caller, new) {
            Err((code, text)) => self.refuse(at, call.id, code, text),
            Ok(ticket) => {
                if let Some(conn) = self.conns.get_mut(at)
                    && let Kind::Rpc(client) = &mut conn.kind
                {
                    client.session.submitted(call.id, index, ticket);
                }
                if given {
                    return Flow::Give { pool: index, ticket };
                }
                self.carry_out(index, None);
            }
        }
        Flow::Go
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

    /// Nothing more is said to this client, or it is gone: its calls are canceled.
    pub(super) fn rpc_gone(&mut self, at: usize) {
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        let choking = std::mem::take(&mut client.choking);
        for open in client.session.leave() {
            self.cancel_call(open);
        }
        for (index, upstream) in choking {
            self.caller_has_read(index, upstream);
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

    /// Something is said to the caller of a call.
    pub(super) fn rpc_answer(&mut self, at: usize, id: u32, answer: &Answer<'_>) -> Heard {
        let Some(conn) = self.conns.get_mut(at) else {
            return Heard::Gone;
        };
        let Kind::Rpc(client) = &mut conn.kind else {
            return Heard::Gone;
        };
        if let Answer::Part(bytes) | Answer::Whole(bytes) = answer
            && bytes.len() >= THROUGH_BYTES
            && !conn.blocked
            && !conn.closing
            && conn.stream.may_write_through()
            && let last = matches!(answer, Answer::Whole(_))
            && let Some(header) = client.session.answer_header(id, last, bytes.len())
        {
            if !conn.stream.write_through(&mut self.spares, &header, bytes) {
                self.mark_dirty(at);
            }
            return self.rpc_told(at, last);
        }
        let out = conn.stream.outbox(&mut self.spares);
        let heard = match answer {
            Answer::Part(part) => client.session.part(id, part, out),
            Answer::Ask(what) => match client.session.ask(id, what, out) {
                Ok(heard) => heard,
                Err(_) => return Heard::Unasked,
            },
            Answer::Whole(rest) => {
                client.session.answered(id, rest, out);
                self.call_over(at);
                return Heard::Taken;
            }
            Answer::Failed { code, text } => {
                client.session.ended(id, *code, text, out);
                self.call_over(at);
                return Heard::Taken;
            }
        };
        self.mark_dirty(at);
        if heard { self.rpc_told(at, false) } else { Heard::Gone }
    }

    /// Something was said to a caller; `last`: the end of its call.
    fn rpc_told(&mut self, at: usize, last: bool) -> Heard {
        if last {
            self.call_over(at);
            return Heard::Taken;
        }
        let Some(conn) = self.conns.get(at) else {
            return Heard::Gone;
        };
        let Kind::Rpc(client) = &conn.kind else {
            return Heard::Gone;
        };
        let bound = self
            .listeners
            .get(&client.listener)
            .map_or(0, |listener| listener.plan.outbox_bytes_max);
        if conn.stream.waiting() > bound {
            Heard::Full
        } else {
            Heard::Taken
        }
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
        let Some(conn) = self.conns.get_mut(at) else { return };
        let Kind::Rpc(client) = &mut conn.kind else { return };
        let choking = std::mem::take(&mut client.choking);
        if conn.held {
            self.resume(at);
        }
        for (index, upstream) in choking {
            self.caller_has_read(index, upstream);
        }
    }
}

/// Whether the other side has closed, seen past what it sent before.
pub(super) fn has_left(raw: &Raw) -> bool {
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
