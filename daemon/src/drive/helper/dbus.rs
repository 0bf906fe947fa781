//! Helpers that are spoken to over D-Bus (docs/helper-dbus.md): a stream of bytes between the two, without a bus.
//!
//! First comes the handshake, in which the helper is the client; then a helper of our own interface says `Ready`, and one with
//! a method of its own answers a `Ping`. From there on all is as with our protocol: a call's number is its message's serial,
//! its answer is that message's reply. An interrupt is a call of its own, whose reply, of whatever kind, acknowledges it; a
//! call given up is over when both replies are there, in any order. A helper with a method of its own is not interrupted: it
//! has the grace to come back in.
//!
//! Bytes are looked at where they were read, and kept only where a message is not whole.

use std::collections::hash_map::RandomState;
use std::fmt::Write;
use std::hash::BuildHasher;
use std::io::IoSlice;

use engine::core::Ticket;
use wire::dbus::auth::{Progress as Shaken, Server};
use wire::dbus::{self, ARRAY_BYTES_MAX, Argument, Around, Kind, Message, Method, Tail};
use wire::frame::{Malformed, Step};
use wire::helper::TEXT_BYTES_MAX;
use wire::rpc::ErrorCode;

use super::calls::{OTHER_SERIAL, interrupt_serial};
use super::send::{Outgoing, Progress, ROUNDS};
use super::{Helper, HelperRef, Phase, Speech};
use crate::config::plan::{Service, Transport};
use crate::drive::Drive;
use crate::drive::calls::Answer;
use crate::drive::exec::wipe;
use crate::spawner::{Helper as Process, MESSAGE_BYTES_MAX, Said, Sent};

/// The object of a helper's of ours, and its interface.
const PATH: &str = "/org/usherd/Helper1";
const INTERFACE: &str = "org.usherd.Helper1";
/// The error of a helper's own words; with a code of its own behind it: `.Code7`.
const FAILED: &str = "org.usherd.Error.Failed";
const PEER: &str = "org.freedesktop.DBus.Peer";
const UNKNOWN_METHOD: &str = "org.freedesktop.DBus.Error.UnknownMethod";
/// What stands around the bytes of an answer.
const AROUND_BYTES_MAX: usize = 8;
/// Messages that wait for a helper that goes on calling without reading, at most, beyond those of its calls.
const ANSWERS_WAITING_MAX: usize = 64;

/// Where the two are in their talk.
#[derive(Debug)]
pub(super) struct Dialog {
    /// None: the handshake is over.
    handshake: Option<Server>,
    /// How this side is called in it; nobody compares it with anything.
    guid: String,
    /// What has been read of a message that is not whole.
    inbox: Vec<u8>,
    /// Bytes of that message, once known.
    awaited: usize,
    /// What is around the call that is being written; kept for the next.
    around: Around,
}

impl Default for Dialog {
    fn default() -> Self {
        Dialog {
            handshake: Some(Server::default()),
            guid: guid(),
            inbox: Vec::new(),
            awaited: 0,
            around: Around::default(),
        }
    }
}

impl Drop for Dialog {
    fn drop(&mut self) {
        wipe(&mut self.inbox);
    }
}

/// Bytes for a stream, some of which have been written.
#[derive(Debug)]
pub(super) struct Stream {
    /// The call that they are; 0: they are about none.
    pub(super) call: u32,
    head: Vec<u8>,
    pub(super) payload: Vec<u8>,
    tail: Tail,
    /// So many of them have been written.
    pub(super) written: usize,
}

impl Stream {
    /// A message that is no call.
    pub(super) fn message(head: Vec<u8>) -> Self {
        Stream {
            call: 0,
            head,
            payload: Vec::new(),
            tail: Tail::default(),
            written: 0,
        }
    }

    /// Writes what the socket takes.
    pub(super) fn write(&mut self, process: &Process) -> Progress {
        write(
            process,
            [&self.head, &self.payload, self.tail.as_bytes()],
            &mut self.written,
        )
    }
}

fn write(process: &Process, parts: [&[u8]; 3], written: &mut usize) -> Progress {
    let whole: usize = parts.iter().map(|part| part.len()).sum();
    for _ in 0..ROUNDS {
        let mut before = *written;
        let rest = parts.map(|part| {
            let skipped = before.min(part.len());
            before -= skipped;
            IoSlice::new(part.get(skipped..).unwrap_or_default())
        });
        match process.write(&rest) {
            Ok(count) => *written += count,
            Err(Sent::Blocked) => return Progress::Blocked,
            Err(Sent::Broken | Sent::Whole) => return Progress::Broken,
        }
        if *written >= whole {
            return Progress::All;
        }
    }
    Progress::Later
}

/// Tells a helper that a call is not wanted any more; none: it is not told.
pub(super) fn interruption(plan: &Service, call: u32) -> Option<Vec<u8>> {
    let none = plan.dbus.is_none();
    none.then(|| {
        message(&Message {
            path: Some(PATH),
            interface: Some(INTERFACE),
            member: Some("Interrupt"),
            signature: "u",
            body: &call.to_le_bytes(),
            ..Message::new(Kind::Call, interrupt_serial(call))
        })
    })
}

/// Tells a helper to end; none: it has no such method, or did not come so far.
pub(super) fn farewell(plan: &Service, dialog: &Dialog) -> Option<Vec<u8>> {
    (plan.dbus.is_none() && dialog.handshake.is_none()).then(|| {
        message(&Message {
            no_reply: true,
            path: Some(PATH),
            interface: Some(INTERFACE),
            member: Some("Goodbye"),
            ..Message::new(Kind::Call, OTHER_SERIAL)
        })
    })
}

fn message(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    // Its parts are ours, and none is too long.
    let _ = dbus::write_message(&mut out, message);
    out
}

/// By chance, as it should be.
fn guid() -> String {
    let mut text = String::new();
    for _ in 0..2 {
        let _ = write!(text, "{:016x}", RandomState::new().hash_one(0));
    }
    text
}

/// Why a payload cannot be what a service's method takes; none: it can.
pub fn unfit(plan: &Service, payload: &[u8]) -> Option<(ErrorCode, &'static str)> {
    if plan.transport() != Transport::Dbus {
        return None;
    }
    if payload.len() > ARRAY_BYTES_MAX {
        return Some((
            ErrorCode::TooLarge,
            "the request is larger than a message of D-Bus may be",
        ));
    }
    let text = plan.dbus.as_ref().is_some_and(|method| method.text);
    let unfit = text && (payload.contains(&0) || std::str::from_utf8(payload).is_err());
    unfit.then_some((
        ErrorCode::Failed { code: 1 },
        "the service takes text: UTF-8 without zero bytes",
    ))
}

impl Drive {
    /// Writes a call, or keeps what the socket does not take of it.
    pub(super) fn call_over_dbus(
        &mut self,
        index: usize,
        ticket: Ticket,
        to: HelperRef,
        id: u32,
        deadline_ms: u32,
        payload: Vec<u8>,
    ) {
        let Some(helper) = self.helpers.get_mut(to) else { return };
        let (Speech::Dbus(dialog), Some(process)) = (&mut helper.speech, helper.process.as_deref()) else {
            return;
        };
        let argument = match &helper.plan.dbus {
            None => Argument::BytesAndMilliseconds(deadline_ms),
            Some(method) if method.text => Argument::Text,
            Some(_) => Argument::Bytes,
        };
        let method = method_of(&helper.plan);
        if let Err(fault) = dbus::write_call(&mut dialog.around, id, &method, argument, payload.len()) {
            // What does not fit was refused before.
            return self.helper_broke(to, &format!("a call cannot be written: {fault}"));
        }
        let mut written = 0;
        let progress = if helper.backlog.is_empty() {
            let around = &dialog.around;
            write(process, [&around.head, &payload, around.tail.as_bytes()], &mut written)
        } else {
            Progress::Blocked
        };
        match progress {
            Progress::All | Progress::Broken => {
                // Where it is broken the end of the process follows.
                if let Some(flight) = self.pool(index).and_then(|state| state.flight(ticket)) {
                    flight.bytes = payload;
                }
            }
            Progress::Blocked | Progress::Later => {
                let Around { head, tail } = std::mem::take(&mut dialog.around);
                helper.backlog.push_back(Outgoing::Stream(Stream {
                    call: id,
                    head,
                    payload,
                    tail,
                    written,
                }));
                self.heed_backlog(to);
                if matches!(progress, Progress::Later) {
                    self.look_at_helper_again(to);
                }
            }
        }
    }

    /// See [`Drive::hear`].
    pub(super) fn hear_stream(&mut self, from: HelperRef, all: bool) {
        let mut buffer = std::mem::take(&mut self.datagram);
        buffer.resize(MESSAGE_BYTES_MAX, 0);
        for round in 0.. {
            let Some(process) = self.helpers.get(from).and_then(|found| found.process.as_deref()) else {
                break;
            };
            if round == ROUNDS {
                self.look_at_helper_again(from);
                break;
            }
            let emptied = match process.read(&mut buffer) {
                Said::Message(n) => {
                    let bytes = buffer.get_mut(..n).unwrap_or_default();
                    self.heard_bytes(from, bytes);
                    // They may be an answer that holds a secret.
                    wire::wipe::wipe(bytes);
                    n < MESSAGE_BYTES_MAX
                }
                Said::Nothing => break,
                Said::End | Said::TooLarge => {
                    self.helper_hung_up(from);
                    break;
                }
            };
            // What comes after a read that has emptied the socket is told anew.
            if !all && (emptied || !self.helpers.get(from).is_some_and(Helper::owes)) {
                break;
            }
        }
        self.datagram = buffer;
    }

    /// Takes what is whole of these bytes and those before them, and keeps the rest.
    fn heard_bytes(&mut self, from: HelperRef, bytes: &[u8]) {
        let Some(dialog) = self.dialog(from) else { return };
        let mut inbox = std::mem::take(&mut dialog.inbox);
        if inbox.is_empty() {
            let used = self.take_whole(from, bytes);
            inbox.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            inbox.extend_from_slice(bytes);
            if inbox.len() >= dialog.awaited {
                let used = self.take_whole(from, &inbox);
                let rest = inbox.get(used..).unwrap_or_default().to_vec();
                wipe(&mut inbox);
                inbox = rest;
            }
        }
        let Some(dialog) = self.dialog(from) else { return };
        inbox.reserve_exact(dialog.awaited.saturating_sub(inbox.len()));
        dialog.inbox = inbox;
    }

    fn dialog(&mut self, from: HelperRef) -> Option<&mut Dialog> {
        match &mut self.helpers.get_mut(from)?.speech {
            Speech::Dbus(dialog) => Some(dialog),
            Speech::Ours => None,
        }
    }

    /// How many of the bytes were whole; the others are to be kept.
    fn take_whole(&mut self, from: HelperRef, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let Some(found) = self.helpers.get_mut(from) else {
                return bytes.len();
            };
            let Speech::Dbus(dialog) = &mut found.speech else {
                return bytes.len();
            };
            dialog.awaited = 0;
            if found.phase == Phase::Dying || rest.is_empty() {
                return bytes.len();
            }
            if dialog.handshake.is_some() {
                match self.shake(from, rest) {
                    Some(count) => used += count,
                    None => return bytes.len(),
                }
                if self.dialog(from).is_some_and(|dialog| dialog.handshake.is_some()) {
                    return used;
                }
                continue;
            }
            let most = found.plan.reply_bytes_max.min(ARRAY_BYTES_MAX) + AROUND_BYTES_MAX;
            match dbus::split(rest, most) {
                Step::NeedMore { total } => {
                    dialog.awaited = total.unwrap_or(0);
                    return used;
                }
                Step::Frame { len } => {
                    self.heard_message(from, rest.get(..len).unwrap_or_default());
                    used += len;
                }
                Step::Malformed(fault) => {
                    self.no_message(from, rest, fault);
                    return bytes.len();
                }
            }
        }
    }

    /// Some of the handshake: how many bytes of it were taken. None: it came to nothing.
    fn shake(&mut self, from: HelperRef, bytes: &[u8]) -> Option<usize> {
        let mut answer = Vec::new();
        let dialog = self.dialog(from)?;
        let said = dialog.handshake.as_mut()?.receive(bytes, &dialog.guid, &mut answer);
        if !answer.is_empty() {
            self.tell_helper(from, answer);
        }
        match said {
            Ok(Shaken::More { used }) => return Some(used),
            Ok(Shaken::Begun { used }) => {
                let found = self.helpers.get_mut(from)?;
                let foreign = found.plan.dbus.is_some();
                self.dialog(from)?.handshake = None;
                if foreign {
                    self.ping(from);
                }
                return Some(used);
            }
            Ok(Shaken::Unable(why)) => {
                let why = cut(why).to_owned();
                self.helper_unable(from, why);
            }
            Err(fault) => self.helper_broke(from, &format!("its handshake is none of D-Bus: {fault}")),
        }
        None
    }

    /// A helper with a method of its own is ready when it answers this, which every library of D-Bus does by itself.
    fn ping(&mut self, to: HelperRef) {
        let path = self.helpers.get(to).and_then(|found| found.plan.dbus.as_ref());
        let Some(path) = path.map(|method| method.path.clone()) else {
            return;
        };
        let ping = message(&Message {
            path: Some(&path),
            interface: Some(PEER),
            member: Some("Ping"),
            ..Message::new(Kind::Call, OTHER_SERIAL)
        });
        self.tell_helper(to, ping);
    }

    /// What came is no message, or one larger than allowed.
    fn no_message(&mut self, from: HelperRef, bytes: &[u8], fault: Malformed) {
        let answers = match dbus::peek(bytes) {
            Ok(Some(message)) if fault == Malformed::TooLarge => message.reply_serial,
            _ => None,
        };
        match answers {
            Some(call) => self.answer_too_large(from, call),
            None => self.helper_broke(from, &format!("it sent what is no message of D-Bus: {fault}")),
        }
    }

    fn heard_message(&mut self, from: HelperRef, frame: &[u8]) {
        let message = match dbus::read(frame) {
            Ok(message) => message,
            Err(fault) => return self.no_message(from, &[], fault),
        };
        match (message.kind, message.reply_serial) {
            (Kind::Return | Kind::Error, Some(serial)) => self.heard_reply(from, serial, &message),
            (Kind::Signal, _) => self.heard_signal(from, &message),
            (Kind::Call, _) if !message.no_reply => self.nothing_to_call(from, message.serial),
            (Kind::Call | Kind::Return | Kind::Error | Kind::Other(_), _) => {}
        }
    }

    fn heard_reply(&mut self, from: HelperRef, serial: u32, reply: &Message<'_>) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        match serial {
            OTHER_SERIAL => {
                if found.phase == Phase::Starting && found.plan.dbus.is_some() {
                    let concurrency = u32::try_from(found.plan.concurrency).unwrap_or(u32::MAX);
                    self.helper_ready(from, concurrency, "");
                }
            }
            0..OTHER_SERIAL => {
                let call = found.calls.of_interrupt(serial);
                if let Some(ticket) = call.and_then(|call| found.calls.acknowledged(call)) {
                    self.helper_is_back(from, ticket);
                }
            }
            call => {
                let text = found.plan.dbus.as_ref().is_some_and(|method| method.text);
                let (code, why) = match answer_in(reply, text) {
                    Ok(bytes) => return self.helper_answered(from, call, &Answer::Whole(bytes)),
                    Err(failure) => failure,
                };
                let answer = Answer::Failed {
                    code: ErrorCode::Failed { code },
                    text: cut(&why),
                };
                self.helper_answered(from, call, &answer);
            }
        }
    }

    fn heard_signal(&mut self, from: HelperRef, signal: &Message<'_>) {
        let Some(found) = self.helpers.get_mut(from) else {
            return;
        };
        if found.plan.dbus.is_some() || signal.path != Some(PATH) || signal.interface != Some(INTERFACE) {
            return;
        }
        let starting = found.phase == Phase::Starting;
        match signal.member {
            Some("Ready" | "Unable") if found.was_ready => {
                self.helper_broke(from, "it said twice whether it is ready");
            }
            Some("Ready") if starting => match signal.ready() {
                Ok((concurrency, software, signals)) => {
                    found.signals = signals;
                    self.helper_ready(from, concurrency, cut(software));
                }
                Err(fault) => self.helper_broke(from, &format!("its signal Ready is none: {fault}")),
            },
            Some("Unable") if starting => {
                let why = cut(signal.first_text().unwrap_or("it does not say why")).to_owned();
                self.helper_unable(from, why);
            }
            _ => {}
        }
    }

    /// Nothing here can be called.
    fn nothing_to_call(&mut self, from: HelperRef, serial: u32) {
        let waits = |found: &Helper| found.backlog.len() > ANSWERS_WAITING_MAX + found.plan.concurrency * 2;
        if self.helpers.get(from).is_some_and(waits) {
            return self.helper_broke(from, "it goes on calling without reading what is answered");
        }
        let refusal = message(&Message {
            reply_serial: Some(serial),
            error: Some(UNKNOWN_METHOD),
            ..Message::new(Kind::Error, OTHER_SERIAL)
        });
        self.tell_helper(from, refusal);
    }
}

fn method_of(plan: &Service) -> Method<'_> {
    match &plan.dbus {
        None => Method {
            path: PATH,
            interface: INTERFACE,
            member: "Call",
        },
        Some(method) => Method {
            path: &method.path,
            interface: &method.interface,
            member: &method.method,
        },
    }
}

/// The bytes of an answer, or the helper's own code and why there is none.
fn answer_in<'a>(reply: &Message<'a>, text: bool) -> Result<&'a [u8], (i32, String)> {
    if let Some(name) = reply.error.filter(|_| reply.kind == Kind::Error) {
        let why = reply.first_text().unwrap_or_default();
        return Err(match name.strip_prefix(FAILED).map(|rest| rest.strip_prefix(".Code")) {
            Some(code) => (
                code.and_then(|code| code.parse::<u16>().ok()).unwrap_or(1).into(),
                why.into(),
            ),
            None => (1, format!("{name}: {why}")),
        });
    }
    let answer = if text {
        reply.text().map(str::as_bytes)
    } else {
        reply.bytes()
    };
    answer.map_err(|_| {
        let (right, found) = (if text { "s" } else { "ay" }, reply.signature);
        (
            1,
            format!("the helper's answer is of the type \"{found}\", not \"{right}\""),
        )
    })
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}
