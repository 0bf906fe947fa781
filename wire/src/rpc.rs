//! Our own small protocol for calling services, version 1: pipelined requests and replies in frames with a fixed header.
//! `docs/rpc-protocol.md` describes it for those who write a client.
//!
//! A frame is a header of 20 bytes, the service's name, options, and the payload. All numbers are big-endian.
//!
//! ```text
//!  0       1        2     3      4..8       8..12          12..14        14..16         16..20
//! +-------+--------+-----+------+----------+--------------+-------------+--------------+-------------+
//! | D5    | 01     |kind | 0    | call id  | deadline, ms | name length | options len. | payload len.|
//! +-------+--------+-----+------+----------+--------------+-------------+--------------+-------------+
//! ```
//!
//! What kind a frame is decides what may be in it, and [`peek`] enforces it: a name in calls alone, a deadline in calls
//! alone, call id 0 in a hello, in an error about the connection, and nowhere else. Options are for what comes later (tokens,
//! tracing); the rule by which an old reader treats a new option is fixed now, see [`Options`].

use crate::frame::{Malformed, Step};

/// Bytes in front of name, options and payload.
pub const HEADER_BYTES: usize = 20;
/// The longest payload of one frame, 16 MiB. A longer reply goes in parts; a longer call is refused.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// The longest name of a service, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest options of one frame.
pub const OPTIONS_BYTES_MAX: usize = 4096;
/// The longest frame there is.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + NAME_BYTES_MAX + OPTIONS_BYTES_MAX + PAYLOAD_BYTES_MAX;
/// The version spoken here.
pub const VERSION: u8 = 1;

/// The first byte of every frame. No text, no TLS record and no BER SEQUENCE begins with it.
const MAGIC: u8 = 0xD5;
/// The longest text of an error or hello; a longer one is cut when written.
const TEXT_BYTES_MAX: usize = 1024;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Who speaks, and how large a frame it takes; once from each side, before anything else or not at all.
    Hello,
    /// One request to a service, from the client.
    Call,
    /// A part of a reply; more follows.
    ReplyPart,
    /// The last part of a reply, which may be empty: the call is over.
    ReplyDone,
    /// Instead of the last part: the call is over, without an answer. With call id 0, the connection is.
    Error,
    /// The client no longer wants an answer. It still gets a final frame, often the error `canceled`.
    Cancel,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Hello => 1,
            Self::Call => 2,
            Self::ReplyPart => 3,
            Self::ReplyDone => 4,
            Self::Error => 5,
            Self::Cancel => 6,
        }
    }

    fn from_code(code: u8) -> Option<Self> {
        [
            Self::Hello,
            Self::Call,
            Self::ReplyPart,
            Self::ReplyDone,
            Self::Error,
            Self::Cancel,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// One frame, borrowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// What it is.
    pub kind: Kind,
    /// The call it belongs to, chosen by the client, unique among its open calls on the connection; 0 is the connection.
    pub call: u32,
    /// Milliseconds that the caller waits, counted from when the frame is received; 0 leaves it to the service. In calls.
    pub deadline_ms: u32,
    /// The service, 1 to [`NAME_BYTES_MAX`] bytes. In calls; empty otherwise.
    pub service: &'a str,
    /// What else was said.
    pub options: Options<'a>,
    /// The request, the reply, or what [`read_error`] and [`read_hello`] read.
    pub payload: &'a [u8],
}

/// The options of a frame: each a type of one byte, a length of two, and that many bytes.
///
/// A reader passes over a type below 128 that it does not know, and refuses a frame with a type of 128 or above that it
/// does not know ([`Options::must_know`]). Version 1 defines none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options<'a> {
    rest: &'a [u8],
}

/// Why a call has no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ErrorCode {
    /// No service has this name.
    UnknownService,
    /// The service's queue is full. Sent nowhere; may be tried again.
    QueueFull,
    /// Waited in the queue as long as the service allows. Sent nowhere; may be tried again.
    QueueTimeout,
    /// The deadline passed.
    Deadline,
    /// The helper ended while it had the call.
    Crashed {
        /// Its exit status, 0 to 255; or minus the number of the signal that ended it.
        status: i32,
    },
    /// The service has no helper that runs. Sent nowhere; may be tried again.
    Unavailable,
    /// The daemon is stopping. Sent nowhere; may be tried again.
    ShuttingDown,
    /// The caller canceled it.
    Canceled,
    /// The request or the reply is larger than allowed.
    TooLarge,
    /// A frame was malformed or out of place.
    Protocol,
    /// A code that this version does not know.
    Other(u16),
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::UnknownService => 1,
            Self::QueueFull => 2,
            Self::QueueTimeout => 3,
            Self::Deadline => 4,
            Self::Crashed { .. } => 5,
            Self::Unavailable => 6,
            Self::ShuttingDown => 7,
            Self::Canceled => 8,
            Self::TooLarge => 9,
            Self::Protocol => 10,
            Self::Other(number) => number,
        }
    }

    /// The name in logs and for people.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::UnknownService => "unknown-service",
            Self::QueueFull => "queue-full",
            Self::QueueTimeout => "queue-timeout",
            Self::Deadline => "deadline",
            Self::Crashed { .. } => "crashed",
            Self::Unavailable => "unavailable",
            Self::ShuttingDown => "shutting-down",
            Self::Canceled => "canceled",
            Self::TooLarge => "too-large",
            Self::Protocol => "protocol",
            Self::Other(_) => "other",
        }
    }

    /// Whether the call certainly reached no helper, so that trying it again cannot do it twice.
    #[must_use]
    pub fn reached_nobody(self) -> bool {
        matches!(
            self,
            Self::UnknownService | Self::QueueFull | Self::QueueTimeout | Self::Unavailable | Self::ShuttingDown
        )
    }

    fn from_numbers(number: u16, detail: i32) -> Self {
        match number {
            1 => Self::UnknownService,
            2 => Self::QueueFull,
            3 => Self::QueueTimeout,
            4 => Self::Deadline,
            5 => Self::Crashed { status: detail },
            6 => Self::Unavailable,
            7 => Self::ShuttingDown,
            8 => Self::Canceled,
            9 => Self::TooLarge,
            10 => Self::Protocol,
            other => Self::Other(other),
        }
    }
}

/// Finds the first frame in `buf`, by its header alone; the whole frame may have `frame_bytes_max` bytes.
#[inline]
#[must_use]
pub fn split(buf: &[u8], frame_bytes_max: usize) -> Step {
    // Told as early as the bytes are there, so that a stranger is not left waiting for a header that never comes.
    match buf {
        [] | [MAGIC] | [MAGIC, VERSION, ..] => {}
        [MAGIC, ..] => return Step::Malformed(Malformed::BadVersion),
        _ => return Step::Malformed(Malformed::BadMagic),
    }
    let Some(header) = Header::read(buf) else {
        return Step::NeedMore { total: None };
    };
    if usize::from(header.name_len) > NAME_BYTES_MAX || usize::from(header.options_len) > OPTIONS_BYTES_MAX {
        return Step::Malformed(Malformed::TooLarge);
    }
    match header.frame_len() {
        len if len > frame_bytes_max.min(FRAME_BYTES_MAX) => Step::Malformed(Malformed::TooLarge),
        len if len > buf.len() => Step::NeedMore { total: Some(len) },
        len => Step::Frame { len },
    }
}

/// Looks into `frame`, which is exactly one frame.
///
/// # Errors
/// What [`Malformed`] says; also when its kind does not allow what is in it.
pub fn peek(frame: &[u8]) -> Result<Frame<'_>, Malformed> {
    match split(frame, FRAME_BYTES_MAX) {
        Step::Frame { len } if len == frame.len() => {}
        Step::Frame { .. } => return Err(Malformed::TrailingBytes),
        Step::NeedMore { .. } => return Err(Malformed::Truncated),
        Step::Malformed(malformed) => return Err(malformed),
    }
    let header = Header::read(frame).ok_or(Malformed::Truncated)?;
    let kind = Kind::from_code(header.kind).ok_or(Malformed::BadOperation)?;
    if header.flags != 0 {
        return Err(Malformed::BadValue("a fourth byte of 0"));
    }
    let body = frame.get(HEADER_BYTES..).ok_or(Malformed::Truncated)?;
    let (name, body) = body
        .split_at_checked(header.name_len.into())
        .ok_or(Malformed::Truncated)?;
    let (options, payload) = body
        .split_at_checked(header.options_len.into())
        .ok_or(Malformed::Truncated)?;
    let service = std::str::from_utf8(name).map_err(|_| Malformed::BadValue("a service name in UTF-8"))?;
    if (kind == Kind::Call) == service.is_empty() {
        return Err(Malformed::BadValue("a service name in a call, and in nothing else"));
    }
    if kind != Kind::Call && header.deadline_ms != 0 {
        return Err(Malformed::BadValue("a deadline in a call alone"));
    }
    let id_fits = match kind {
        Kind::Hello => header.call == 0,
        Kind::Error => true,
        Kind::Call | Kind::ReplyPart | Kind::ReplyDone | Kind::Cancel => header.call != 0,
    };
    if !id_fits {
        return Err(Malformed::BadId);
    }
    if kind == Kind::Cancel && !payload.is_empty() {
        return Err(Malformed::TrailingBytes);
    }
    let options = Options::new(options)?;
    Ok(Frame {
        kind,
        call: header.call,
        deadline_ms: header.deadline_ms,
        service,
        options,
        payload,
    })
}

/// Reads the payload of an error frame: why, and a text for a human.
///
/// # Errors
/// It is too short, or the text is not UTF-8.
pub fn read_error(payload: &[u8]) -> Result<(ErrorCode, &str), Malformed> {
    let [n0, n1, d0, d1, d2, d3, text @ ..] = payload else {
        return Err(Malformed::Truncated);
    };
    let text = std::str::from_utf8(text).map_err(|_| Malformed::BadValue("an error text in UTF-8"))?;
    Ok((
        ErrorCode::from_numbers(u16::from_be_bytes([*n0, *n1]), i32::from_be_bytes([*d0, *d1, *d2, *d3])),
        text,
    ))
}

/// Reads the payload of a hello: the largest frame that its sender takes, in bytes, and the sender's name and version.
///
/// # Errors
/// It is too short, or the name is not UTF-8.
pub fn read_hello(payload: &[u8]) -> Result<(u32, &str), Malformed> {
    let [b0, b1, b2, b3, software @ ..] = payload else {
        return Err(Malformed::Truncated);
    };
    let software = std::str::from_utf8(software).map_err(|_| Malformed::BadValue("a software name in UTF-8"))?;
    Ok((u32::from_be_bytes([*b0, *b1, *b2, *b3]), software))
}

/// Appends a call. `call` is not 0; `deadline_ms` 0 leaves the deadline to the service.
///
/// # Errors
/// The id is 0, the name is empty or too long, or the payload is; then nothing was appended.
pub fn write_call(
    out: &mut Vec<u8>,
    call: u32,
    deadline_ms: u32,
    service: &str,
    payload: &[u8],
) -> Result<(), Malformed> {
    if service.is_empty() || service.len() > NAME_BYTES_MAX {
        return Err(Malformed::BadValue("a service name of 1 to 255 bytes"));
    }
    write(out, Kind::Call, call, deadline_ms, service, &[payload])
}

/// Appends a part of a reply, of which more follows.
///
/// # Errors
/// The id is 0 or the payload too long; then nothing was appended.
pub fn write_reply_part(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, Kind::ReplyPart, call, 0, "", &[payload])
}

/// Appends the last part of a reply.
///
/// # Errors
/// The id is 0 or the payload too long; then nothing was appended.
pub fn write_reply_done(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, Kind::ReplyDone, call, 0, "", &[payload])
}

/// Appends a cancel.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_cancel(out: &mut Vec<u8>, call: u32) -> Result<(), Malformed> {
    write(out, Kind::Cancel, call, 0, "", &[])
}

/// Appends an error that ends a call, or with call id 0 the connection. The text is cut at 1,024 bytes.
pub fn write_error(out: &mut Vec<u8>, call: u32, code: ErrorCode, text: &str) {
    let detail = match code {
        ErrorCode::Crashed { status } => status,
        _ => 0,
    };
    let parts = [
        &code.number().to_be_bytes()[..],
        &detail.to_be_bytes(),
        cut(text).as_bytes(),
    ];
    write_unchecked(out, Kind::Error, call, 0, "", &parts);
}

/// Appends a hello. The software's name is cut at 1,024 bytes.
pub fn write_hello(out: &mut Vec<u8>, frame_bytes_max: u32, software: &str) {
    write_unchecked(
        out,
        Kind::Hello,
        0,
        0,
        "",
        &[&frame_bytes_max.to_be_bytes(), cut(software).as_bytes()],
    );
}

impl<'a> Options<'a> {
    fn new(encoded: &'a [u8]) -> Result<Self, Malformed> {
        let options = Self { rest: encoded };
        let mut walk = options;
        while walk.next().is_some() {}
        if walk.rest.is_empty() {
            Ok(options)
        } else {
            Err(Malformed::Truncated)
        }
    }

    /// The first option that its reader must know, if it is none of `known`.
    pub fn must_know(mut self, known: &[u8]) -> Option<u8> {
        self.find(|(kind, _)| *kind >= 128 && !known.contains(kind))
            .map(|(kind, _)| kind)
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let [kind, l0, l1, rest @ ..] = self.rest else {
            return None;
        };
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([*l0, *l1]).into())?;
        self.rest = rest;
        Some((*kind, value))
    }
}

struct Header {
    kind: u8,
    flags: u8,
    call: u32,
    deadline_ms: u32,
    name_len: u16,
    options_len: u16,
    payload_len: u32,
}

impl Header {
    #[inline]
    fn read(buf: &[u8]) -> Option<Self> {
        let [
            _,
            _,
            kind,
            flags,
            c0,
            c1,
            c2,
            c3,
            d0,
            d1,
            d2,
            d3,
            n0,
            n1,
            o0,
            o1,
            p0,
            p1,
            p2,
            p3,
            ..,
        ] = *buf
        else {
            return None;
        };
        Some(Self {
            kind,
            flags,
            call: u32::from_be_bytes([c0, c1, c2, c3]),
            deadline_ms: u32::from_be_bytes([d0, d1, d2, d3]),
            name_len: u16::from_be_bytes([n0, n1]),
            options_len: u16::from_be_bytes([o0, o1]),
            payload_len: u32::from_be_bytes([p0, p1, p2, p3]),
        })
    }

    #[inline]
    fn frame_len(&self) -> usize {
        let payload_len = usize::try_from(self.payload_len).unwrap_or(usize::MAX);
        (HEADER_BYTES + usize::from(self.name_len) + usize::from(self.options_len)).saturating_add(payload_len)
    }
}

fn write(
    out: &mut Vec<u8>,
    kind: Kind,
    call: u32,
    deadline_ms: u32,
    service: &str,
    payload: &[&[u8]],
) -> Result<(), Malformed> {
    if call == 0 {
        return Err(Malformed::BadId);
    }
    if payload.iter().map(|part| part.len()).sum::<usize>() > PAYLOAD_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    write_unchecked(out, kind, call, deadline_ms, service, payload);
    Ok(())
}

/// Lengths were checked, so that none is cut by its field.
fn write_unchecked(out: &mut Vec<u8>, kind: Kind, call: u32, deadline_ms: u32, service: &str, payload: &[&[u8]]) {
    let payload_len: usize = payload.iter().map(|part| part.len()).sum();
    out.reserve(HEADER_BYTES + service.len() + payload_len);
    out.extend_from_slice(&[MAGIC, VERSION, kind.code(), 0]);
    out.extend_from_slice(&call.to_be_bytes());
    out.extend_from_slice(&deadline_ms.to_be_bytes());
    out.extend_from_slice(&u16::try_from(service.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&0u16.to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload_len).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(service.as_bytes());
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
