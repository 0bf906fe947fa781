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
//! alone, call id 0 in a hello, in an error about the connection, and nowhere else. Options are [`option::TOKEN`] and
//! [`option::DIRECT`]; how an old reader treats a new one, see [`Options`].

mod error;

use crate::frame::{Malformed, Step};
pub use error::ErrorCode;

/// Bytes in front of name, options and payload.
pub const HEADER_BYTES: usize = 20;
/// The longest payload of one frame, 16 MiB. A longer reply goes in parts; a longer call is refused.
pub const PAYLOAD_BYTES_MAX: usize = 16 << 20;
/// The longest name of a service, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest options of one frame.
pub const OPTIONS_BYTES_MAX: usize = 4096;
/// The longest token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 1024;
/// The longest hello there is.
pub const HELLO_BYTES_MAX: usize = HEADER_BYTES + OPTIONS_BYTES_MAX + 4 + TEXT_BYTES_MAX;
/// The longest frame there is.
pub const FRAME_BYTES_MAX: usize = HEADER_BYTES + NAME_BYTES_MAX + OPTIONS_BYTES_MAX + PAYLOAD_BYTES_MAX;
/// The version spoken here.
pub const VERSION: u8 = 1;

/// The first byte of every frame. No text, no TLS record and no BER SEQUENCE begins with it.
const MAGIC: u8 = 0xD5;
/// The longest text of an error or hello; a longer one is cut when written.
const TEXT_BYTES_MAX: usize = 1024;

/// The types of options.
pub mod option {
    /// In a client's hello: the bytes that its listener asks for.
    pub const TOKEN: u8 = 1;
    /// In a call over a unix socket: a descriptor comes with this frame (SCM_RIGHTS), and the answer may be written to it.
    /// Empty. Must be known.
    pub const DIRECT: u8 = 128;
}

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
    /// A call needs more from its caller before it can be answered; the caller says it with an input.
    Ask,
    /// What an open call asked for, from the client.
    Input,
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
            Self::Ask => 7,
            Self::Input => 8,
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
            Self::Ask,
            Self::Input,
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
/// does not know ([`Options::must_know`]). Version 1 defines those of [`option`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options<'a> {
    rest: &'a [u8],
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
        _ => header.call != 0,
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
    let head = Head {
        kind: Kind::Call,
        call,
        deadline_ms,
        service,
        option: None,
    };
    write(out, &head, payload)
}

/// Appends a call whose descriptor is sent along with its first byte (SCM_RIGHTS): the answer may be written to it.
///
/// # Errors
/// As [`write_call`].
pub fn write_call_direct(
    out: &mut Vec<u8>,
    call: u32,
    deadline_ms: u32,
    service: &str,
    payload: &[u8],
) -> Result<(), Malformed> {
    let head = Head {
        kind: Kind::Call,
        call,
        deadline_ms,
        service,
        option: Some((option::DIRECT, &[])),
    };
    write(out, &head, payload)
}

/// Appends a part of a reply, of which more follows.
///
/// # Errors
/// The id is 0 or the payload too long; then nothing was appended.
pub fn write_reply_part(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, &Head::new(Kind::ReplyPart, call), payload)
}

/// Appends the last part of a reply.
///
/// # Errors
/// The id is 0 or the payload too long; then nothing was appended.
pub fn write_reply_done(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, &Head::new(Kind::ReplyDone, call), payload)
}

/// The header of a part of a reply, or with `last` of its last part, for who writes it and the payload in one vectored write.
///
/// # Errors
/// The id is 0 or the payload too long.
pub fn reply_header(call: u32, last: bool, payload_bytes: usize) -> Result<[u8; HEADER_BYTES], Malformed> {
    if call == 0 {
        return Err(Malformed::BadId);
    }
    let length = u32::try_from(payload_bytes).map_err(|_| Malformed::TooLarge)?;
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    let kind = if last { Kind::ReplyDone } else { Kind::ReplyPart };
    let mut header = [0; HEADER_BYTES];
    let numbers = [u32::from_be_bytes([MAGIC, VERSION, kind.code(), 0]), call, 0, 0, length];
    for (place, number) in header.chunks_exact_mut(4).zip(numbers) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    Ok(header)
}

/// Appends a cancel.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_cancel(out: &mut Vec<u8>, call: u32) -> Result<(), Malformed> {
    write(out, &Head::new(Kind::Cancel, call), &[])
}

/// Appends what a call asks of its caller.
///
/// # Errors
/// The id is 0 or the payload too long; then nothing was appended.
pub fn write_ask(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, &Head::new(Kind::Ask, call), payload)
}

/// Appends what an open call asked for.
///
/// # Errors
/// The id is 0 or the payload too long; then nothing was appended.
pub fn write_input(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, &Head::new(Kind::Input, call), payload)
}

/// Appends an error that ends a call, or with call id 0 the connection. The text is cut at 1,024 bytes.
pub fn write_error(out: &mut Vec<u8>, call: u32, code: ErrorCode, text: &str) {
    let parts = [
        &code.number().to_be_bytes()[..],
        &code.detail().to_be_bytes(),
        cut(text).as_bytes(),
    ];
    write_unchecked(out, &Head::new(Kind::Error, call), &parts);
}

/// Appends a hello. The software's name is cut at 1,024 bytes.
pub fn write_hello(out: &mut Vec<u8>, frame_bytes_max: u32, software: &str) {
    let parts = [&frame_bytes_max.to_be_bytes()[..], cut(software).as_bytes()];
    write_unchecked(out, &Head::new(Kind::Hello, 0), &parts);
}

/// Appends a client's hello with the token that its listener asks for, of [`TOKEN_BYTES_MAX`] at most.
///
/// # Errors
/// The token is too long; then nothing was appended.
pub fn write_hello_token(
    out: &mut Vec<u8>,
    frame_bytes_max: u32,
    software: &str,
    token: &[u8],
) -> Result<(), Malformed> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    let mut head = Head::new(Kind::Hello, 0);
    head.option = Some((option::TOKEN, token));
    let parts = [&frame_bytes_max.to_be_bytes()[..], cut(software).as_bytes()];
    write_unchecked(out, &head, &parts);
    Ok(())
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

    /// What was said under a type, where it was.
    #[must_use]
    pub fn find_type(mut self, kind: u8) -> Option<&'a [u8]> {
        self.find(|(other, _)| *other == kind).map(|(_, value)| value)
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

/// What stands in front of a frame's payload.
struct Head<'a> {
    kind: Kind,
    call: u32,
    deadline_ms: u32,
    service: &'a str,
    option: Option<(u8, &'a [u8])>,
}

impl Head<'_> {
    fn new(kind: Kind, call: u32) -> Self {
        Head {
            kind,
            call,
            deadline_ms: 0,
            service: "",
            option: None,
        }
    }
}

fn write(out: &mut Vec<u8>, head: &Head<'_>, payload: &[u8]) -> Result<(), Malformed> {
    if head.call == 0 {
        return Err(Malformed::BadId);
    }
    if (head.kind == Kind::Call) == head.service.is_empty() || head.service.len() > NAME_BYTES_MAX {
        return Err(Malformed::BadValue("a service name of 1 to 255 bytes"));
    }
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    write_unchecked(out, head, &[payload]);
    Ok(())
}

/// Lengths were checked, so that none is cut by its field.
fn write_unchecked(out: &mut Vec<u8>, head: &Head<'_>, payload: &[&[u8]]) {
    let payload_len: usize = payload.iter().map(|part| part.len()).sum();
    let options_len = head.option.map_or(0, |(_, value)| 3 + value.len());
    out.reserve(HEADER_BYTES + head.service.len() + options_len + payload_len);
    out.extend_from_slice(&[MAGIC, VERSION, head.kind.code(), 0]);
    out.extend_from_slice(&head.call.to_be_bytes());
    out.extend_from_slice(&head.deadline_ms.to_be_bytes());
    out.extend_from_slice(&u16::try_from(head.service.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&u16::try_from(options_len).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload_len).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(head.service.as_bytes());
    if let Some((kind, value)) = head.option {
        out.push(kind);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(value);
    }
    payload.iter().for_each(|part| out.extend_from_slice(part));
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

#[cfg(test)]
#[path = "rpc_tests.rs"]
mod tests;
