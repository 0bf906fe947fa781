//! Clients of the services in our own protocol: read, submitted (`calls.rs`), answered.
//!
//! Bounds: a client has at most [`CALLS_MAX`] calls open and is not read beyond; it is not read either while more waits
//! for it than its listener's `outbox_bytes_max`, and then a helper that answers it in parts waits too.

use engine::core::UpstreamId;
use engine::session::rpc::{Call, Next, Session, Settings, Token};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use wire::frame::{Malformed, Step};
use wire::rpc::{self, ErrorCode};
use wire::wipe::wipe;

use super::Drive;
use super::calls::{Answer, Heard, NewCall};
use super::conn::{ConnRef, Kind};
use super::pools::Caller;
use crate::config::plan::Face;
use crate::net::stream::Raw;

/// Calls open at once on one connection.
const CALLS_MAX: usize = 100;
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
    /// Just connected; with a token, one that has to show it first.
    pub fn new(listener: u64, token: Option<Token>) -> Self {
        RpcClient {
            session: Session::new(token),
            listener,
            choking: Vec::new(),
            backlog: false,
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
        conn.inbox_total = 0;
        if taken > 0 {
            // What is held now is another frame than before, and has its own time.
            conn.partial_since = None;
        }
        self.make_room(at, total);
        self.keep_inbox(at);
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
            Next::Call(call) => self.call(at, &call),
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

    fn call(&mut self, at: usize, call: &Call<'_>) -> Flow {
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
        let (waiting, listener) = (conn.stream.waiting(), client.listener);
        self.mark_dirty(at);
        let bound = self
            .listeners
            .get(&listener)
            .map_or(0, |listener| listener.plan.outbox_bytes_max);
        match heard {
            false => Heard::Gone,
            true if waiting > bound => Heard::Full,
            true => Heard::Taken,
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
