//! One client of the services, in our own protocol (`docs/rpc-protocol.md`): calls pipelined, answers in any order.
//!
//! Invariants: a call's id is open from its submission to its end and never twice; every call gets exactly one final
//! frame, and nothing after it; a client that has not shown the token its listener asks for is heard no further; once the connection is closing nothing more is taken and nothing more is said.

use std::collections::HashMap;
use std::sync::Arc;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::core::time::Span;
use crate::core::{Reason, Ticket};
use wire::frame::Malformed;
use wire::rpc::{self, ErrorCode, Frame, HEADER_BYTES, Kind, PAYLOAD_BYTES_MAX, option};

/// The smallest frame that a peer must take, in bytes: an error with a few words.
pub const FRAME_BYTES_MIN: u32 = 64;
/// What an error says before its text.
const ERROR_BYTES: usize = HEADER_BYTES + 6;
/// SIGINT: the signal that an interrupted program most likely ends by.
const INTERRUPTED: i32 = -2;

/// What a listener's settings mean for its clients' sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Calls open at once on one connection, beyond which no further call is taken; 0: no limit.
    pub calls_max: usize,
    /// Largest payload of a call, in bytes; at most what the protocol has.
    pub payload_bytes_max: usize,
    /// What the hello says of us.
    pub software: &'static str,
}

impl Settings {
    /// The largest frame that is taken from a client.
    pub fn frame_bytes_max(&self) -> usize {
        rpc::FRAME_BYTES_MAX - PAYLOAD_BYTES_MAX + self.payload_bytes_max.min(PAYLOAD_BYTES_MAX)
    }
}

/// A call that has not ended: where it went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Open {
    /// The owner's number of the pool.
    pub pool: usize,
    /// Its name there.
    pub ticket: Ticket,
}

/// One call, as it came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call<'a> {
    /// The client's name for it.
    pub id: u32,
    /// The service's name.
    pub service: &'a str,
    /// How long the caller waits; none: as long as the service allows.
    pub timeout: Option<Span>,
    /// The request.
    pub payload: &'a [u8],
    /// A descriptor for the answer came with it.
    pub direct: bool,
}

/// What a listener asks its clients for: secret, wiped when dropped.
pub type Token = Arc<Zeroizing<Vec<u8>>>;

/// What is to be done after a frame. Whatever the session had to say itself is in the outbox already.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next<'a> {
    /// Nothing.
    Done,
    /// Submit the call, then say `submitted` before the effects are carried out; or say `refused`.
    Call(Call<'a>),
    /// Cancel this call; its end is told by `failed`, or by `answered` if that was sooner.
    Cancel(Open),
    /// The caller answers what this call has asked.
    Input(Open, &'a [u8]),
    /// The error is in the outbox: cancel everything, write it and close.
    Close,
    /// Not taken: give the frame again when something has ended for this client.
    Later,
}

/// See the module.
#[derive(Debug)]
pub struct Session {
    open: HashMap<u32, Open>,
    /// Something was said: a hello comes too late.
    begun: bool,
    draining: bool,
    closing: bool,
    /// The largest frame that the client takes.
    frame_bytes_max: usize,
    /// What it has to show first.
    token: Option<Token>,
}

impl Default for Session {
    fn default() -> Self {
        Session::new(None)
    }
}

impl Session {
    /// A client that has just connected; with a token, one that has to show it first.
    pub fn new(token: Option<Token>) -> Self {
        Session {
            open: HashMap::new(),
            begun: false,
            draining: false,
            closing: false,
            frame_bytes_max: rpc::FRAME_BYTES_MAX,
            token,
        }
    }

    /// The largest frame that is taken from this client now: of a stranger, a hello.
    pub fn takes_bytes_max(&self, settings: &Settings) -> usize {
        match self.token {
            Some(_) => rpc::HELLO_BYTES_MAX,
            None => settings.frame_bytes_max(),
        }
    }

    /// Whether it has yet to show the token.
    pub fn is_stranger(&self) -> bool {
        self.token.is_some()
    }

    /// Calls that have not ended.
    pub fn pending(&self) -> usize {
        self.open.len()
    }

    /// One whole frame.
    pub fn receive<'a>(&mut self, frame: &Frame<'a>, settings: &Settings, out: &mut Vec<u8>) -> Next<'a> {
        if self.closing {
            return Next::Done;
        }
        if let Some(token) = &self.token {
            let shown = frame.options.find_type(option::TOKEN).unwrap_or_default();
            if frame.kind != Kind::Hello || !bool::from(shown.ct_eq(token)) {
                return self.broken(ErrorCode::Denied, "the token is missing or wrong", out);
            }
            self.token = None;
        }
        let known: &[u8] = match frame.kind {
            Kind::Call => &[option::DIRECT],
            _ => &[],
        };
        if frame.options.must_know(known).is_some() {
            return self.broken(ErrorCode::Protocol, "an option that must be understood is not", out);
        }
        let first = !std::mem::replace(&mut self.begun, true);
        match frame.kind {
            Kind::Hello if first => self.hello(frame, settings, out),
            Kind::Hello => self.broken(ErrorCode::Protocol, "a hello comes first and once", out),
            Kind::Call => self.call(frame, settings, out),
            Kind::Cancel => match self.open.get(&frame.call) {
                Some(open) => Next::Cancel(*open),
                None => Next::Done,
            },
            Kind::Input => match self.open.get(&frame.call) {
                Some(_) if frame.payload.len() > settings.payload_bytes_max => {
                    self.broken(ErrorCode::TooLarge, "the input is larger than allowed", out)
                }
                Some(open) => Next::Input(*open, frame.payload),
                None => Next::Done,
            },
            Kind::ReplyPart | Kind::ReplyDone | Kind::Error | Kind::Ask => self.broken(
                ErrorCode::Protocol,
                "a client calls, cancels and answers what it is asked, and says nothing else",
                out,
            ),
        }
    }

    /// What came cannot be followed.
    pub fn poisoned(&mut self, fault: Malformed, out: &mut Vec<u8>) -> Next<'static> {
        let code = match fault {
            Malformed::TooLarge => ErrorCode::TooLarge,
            _ => ErrorCode::Protocol,
        };
        self.broken(code, &fault.to_string(), out)
    }

    /// A call was given to a pool, which named it. To be called before the effects are looked at.
    pub fn submitted(&mut self, id: u32, pool: usize, ticket: Ticket) {
        self.open.insert(id, Open { pool, ticket });
    }

    /// A call was not given to a pool.
    pub fn refused(&mut self, id: u32, code: ErrorCode, text: &str, out: &mut Vec<u8>) {
        if !self.closing {
            self.error(id, code, text, out);
        }
    }

    /// The answer of a call, whole: it goes in as many parts as the client's frames ask for. False: the call has ended
    /// already, and nothing is said.
    pub fn answered(&mut self, id: u32, answer: &[u8], out: &mut Vec<u8>) -> bool {
        if self.open.remove(&id).is_none() || self.closing {
            return false;
        }
        let most = self.payload_most();
        let mut rest = answer;
        while let Some((part, more)) = rest.split_at_checked(most).filter(|(_, more)| !more.is_empty()) {
            // The id is not 0 and the length is bounded: what a call had came through `peek`.
            let _ = rpc::write_reply_part(out, id, part);
            rest = more;
        }
        let _ = rpc::write_reply_done(out, id, rest);
        true
    }

    /// A part of a call's answer. False: the call has ended, and nothing is said.
    pub fn part(&mut self, id: u32, part: &[u8], out: &mut Vec<u8>) -> bool {
        if !self.open.contains_key(&id) || self.closing {
            return false;
        }
        for piece in part.chunks(self.payload_most()) {
            let _ = rpc::write_reply_part(out, id, piece);
        }
        true
    }

    /// Instead of [`Session::part`], or with `last` of [`Session::answered`], for who writes the frame past the outbox: its
    /// header. None: nothing was said or ended, since the call has ended or one frame does not do.
    pub fn answer_header(&mut self, id: u32, last: bool, bytes: usize) -> Option<[u8; HEADER_BYTES]> {
        if self.closing || bytes > self.payload_most() || !self.open.contains_key(&id) {
            return None;
        }
        let header = rpc::reply_header(id, last, bytes).ok()?;
        if last {
            self.open.remove(&id);
        }
        Some(header)
    }

    /// A call asks its caller. False: the call has ended, and nothing is said. One that does not fit into a frame that the
    /// client takes cannot be asked: `Err`, and the call goes on.
    ///
    /// # Errors
    /// It is too large for this client.
    pub fn ask(&mut self, id: u32, what: &[u8], out: &mut Vec<u8>) -> Result<bool, Malformed> {
        if !self.open.contains_key(&id) || self.closing {
            return Ok(false);
        }
        if what.len() > self.payload_most() {
            return Err(Malformed::TooLarge);
        }
        rpc::write_ask(out, id, what).map(|()| true)
    }

    /// A call has ended without an answer, and this is why. False: it has ended already, and nothing is said.
    pub fn ended(&mut self, id: u32, code: ErrorCode, text: &str, out: &mut Vec<u8>) -> bool {
        if self.open.remove(&id).is_none() || self.closing {
            return false;
        }
        self.error(id, code, text, out);
        true
    }

    /// The pool has ended a call. `sent`: a program had it.
    pub fn failed(&mut self, id: u32, reason: Reason, sent: bool, out: &mut Vec<u8>) -> bool {
        let (code, text) = say(reason, sent);
        self.ended(id, code, text, out)
    }

    /// After the end of a call: whether the connection goes on.
    pub fn after_end(&mut self) -> Next<'static> {
        if self.draining && self.open.is_empty() {
            Next::Close
        } else {
            Next::Done
        }
    }

    /// The listener drains: no new calls. `Close`: none is open.
    pub fn drain(&mut self) -> Next<'static> {
        self.draining = true;
        self.after_end()
    }

    /// The connection ends, and the client is told why.
    pub fn goodbye(&mut self, why: &str, out: &mut Vec<u8>) -> Next<'static> {
        if self.closing {
            return Next::Close;
        }
        self.broken(ErrorCode::ShuttingDown, why, out)
    }

    /// The client is gone, or nothing more is said to it: what it had open is handed back to be canceled.
    pub fn leave(&mut self) -> Vec<Open> {
        self.closing = true;
        self.open.drain().map(|(_, open)| open).collect()
    }

    fn hello(&mut self, frame: &Frame<'_>, settings: &Settings, out: &mut Vec<u8>) -> Next<'static> {
        match rpc::read_hello(frame.payload) {
            Ok((bytes, _)) if bytes >= FRAME_BYTES_MIN => {
                let most = usize::try_from(bytes).unwrap_or(usize::MAX);
                self.frame_bytes_max = most.min(rpc::FRAME_BYTES_MAX);
                let ours = u32::try_from(settings.frame_bytes_max()).unwrap_or(u32::MAX);
                rpc::write_hello(out, ours, settings.software);
                Next::Done
            }
            Ok(_) => self.broken(ErrorCode::Protocol, "frames of 64 bytes must be taken", out),
            Err(fault) => self.poisoned(fault, out),
        }
    }

    fn call<'a>(&mut self, frame: &Frame<'a>, settings: &Settings, out: &mut Vec<u8>) -> Next<'a> {
        if settings.calls_max != 0 && self.open.len() >= settings.calls_max {
            return Next::Later;
        }
        if self.open.contains_key(&frame.call) {
            return self.broken(ErrorCode::Protocol, "the call id is open already", out);
        }
        if self.draining {
            self.error(frame.call, ErrorCode::ShuttingDown, "the daemon is stopping", out);
            return Next::Done;
        }
        if frame.payload.len() > settings.payload_bytes_max {
            self.error(
                frame.call,
                ErrorCode::TooLarge,
                "the request is larger than allowed",
                out,
            );
            return Next::Done;
        }
        Next::Call(Call {
            id: frame.call,
            service: frame.service,
            timeout: (frame.deadline_ms != 0).then(|| Span::from_millis(frame.deadline_ms.into())),
            payload: frame.payload,
            direct: frame.options.find_type(option::DIRECT).is_some(),
        })
    }

    /// The largest payload of a frame to this client.
    fn payload_most(&self) -> usize {
        (self.frame_bytes_max - HEADER_BYTES).min(PAYLOAD_BYTES_MAX)
    }

    /// An error about the connection.
    fn broken(&mut self, code: ErrorCode, text: &str, out: &mut Vec<u8>) -> Next<'static> {
        self.closing = true;
        self.error(0, code, text, out);
        Next::Close
    }

    fn error(&self, id: u32, code: ErrorCode, text: &str, out: &mut Vec<u8>) {
        let room = self.frame_bytes_max.saturating_sub(ERROR_BYTES);
        rpc::write_error(
            out,
            id,
            code,
            text.get(..text.floor_char_boundary(room)).unwrap_or(text),
        );
    }
}

/// What a pool's reason is to a caller. A call that a program had is never told an error that invites to try again.
pub fn say(reason: Reason, sent: bool) -> (ErrorCode, &'static str) {
    match reason {
        Reason::Canceled => (ErrorCode::Canceled, "the caller canceled it"),
        Reason::Deadline => (
            ErrorCode::Deadline,
            "the program did not answer in time and was interrupted",
        ),
        Reason::QueueTimeout => (ErrorCode::QueueTimeout, "no program was free in time"),
        Reason::QueueFull => (ErrorCode::QueueFull, "too many calls wait for this service"),
        Reason::Unavailable => (ErrorCode::Unavailable, "no program can be run"),
        Reason::ShuttingDown if !sent => (ErrorCode::ShuttingDown, "the daemon is stopping"),
        Reason::ShuttingDown => (
            ErrorCode::Crashed { status: INTERRUPTED },
            "the daemon is stopping and has interrupted the program",
        ),
        Reason::UpstreamLost { .. } => (ErrorCode::Crashed { status: INTERRUPTED }, "the program was ended"),
    }
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
