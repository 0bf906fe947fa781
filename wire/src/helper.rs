//! The protocol between usherd and its helper processes, version 1: whole datagrams with a fixed header.
//! `docs/helper-protocol.md` describes it for those who write a helper without a library.
//!
//! A message is a header of 24 bytes and its payload, unless that lies in the shared memory. All numbers are big-endian.
//!
//! ```text
//!  0       1        2     3       4..8      8..12          12..16        16..20        20..24
//! +-------+--------+-----+-------+---------+--------------+-------------+-------------+---------------+
//! | D6    | 01     |kind | flags | call id | deadline, ms | payload len.| whole call  | shared offset |
//! +-------+--------+-----+-------+---------+--------------+-------------+-------------+---------------+
//! ```
//!
//! The two directions are kept apart, in types and in what is accepted: [`from_usherd`] is what a helper reads,
//! [`from_helper`] what usherd reads. Each checks all that one message can be wrong in by itself: what its kind allows in
//! its header, and that a payload in the shared memory lies in the half that its sender may write. What needs to know the
//! messages before it (which calls are open, whether a call's messages add up to what it announced) is its reader's.
//! A payload in the shared memory is not looked into here: copy it out, and give an error's to [`read_error`].

use crate::frame::Malformed;

/// Bytes in front of a payload.
pub const HEADER_BYTES: usize = 24;
/// The version spoken here, and what the variable `USHERD_HELPER` says.
pub const VERSION: u8 = 1;
/// A request of more bytes than this is put into the shared memory, if it fits.
pub const INLINE_BYTES_MAX: usize = 4096;
/// The largest message is never smaller than this, so that what must fit into one always does.
pub const MESSAGE_BYTES_MIN: u32 = 8192;
/// The longest name of a service, in bytes of UTF-8.
pub const NAME_BYTES_MAX: usize = 255;
/// The longest text of an error, and name of a helper, in bytes of UTF-8; a longer one is cut when written.
pub const TEXT_BYTES_MAX: usize = 1024;

mod header;
mod kind;

use header::{DESCRIPTOR, Header, MORE, SHARED, nothing};

/// Where a payload is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Payload<'a> {
    /// In the message.
    Inline(&'a [u8]),
    /// In the shared memory, within the half that the message's sender writes.
    Shared {
        /// Where it begins, in bytes from the beginning of the memory.
        offset: u32,
        /// How long it is.
        bytes: u32,
    },
}

impl Payload<'_> {
    /// Bytes of it.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Shared { bytes, .. } => usize::try_from(*bytes).unwrap_or(usize::MAX),
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What usherd says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FromUsherd<'a> {
    /// The first message.
    Welcome(Welcome<'a>),
    /// A request, or one piece of it.
    Call(Call<'a>),
    /// The call is no longer wanted.
    Interrupt {
        /// Which.
        call: u32,
    },
    /// The answer to an `ask`.
    Input {
        /// The call that asked.
        call: u32,
        /// What its caller says.
        payload: &'a [u8],
    },
    /// Finish what is open, then end.
    Goodbye,
    /// A kind of a later version: pass it over.
    Unknown {
        /// Its number.
        kind: u8,
    },
}

/// The bounds within which helper and usherd speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Welcome<'a> {
    /// The largest message, header included, [`MESSAGE_BYTES_MIN`] at least.
    pub message_bytes_max: u32,
    /// The size of the shared memory, whose descriptor comes with the message; 0: there is none.
    pub shared_bytes: u32,
    /// The largest whole payload of a call.
    pub call_bytes_max: u32,
    /// The largest whole answer.
    pub answer_bytes_max: u32,
    /// The service, 1 to [`NAME_BYTES_MAX`] bytes.
    pub service: &'a str,
}

/// A request, or one piece of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call<'a> {
    /// Its number, not 0.
    pub call: u32,
    /// Milliseconds from now until nobody wants its answer; 0: there is no such time. The first piece's counts.
    pub deadline_ms: u32,
    /// Bytes of the whole payload, the same in all pieces.
    pub whole_bytes: u32,
    /// The payload goes on in the next `call` message with the same id.
    pub more: bool,
    /// A descriptor to write the answer to comes with the message.
    pub descriptor: bool,
    /// This piece.
    pub payload: Payload<'a>,
}

/// What a helper says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FromHelper<'a> {
    /// The first message: calls can come.
    Ready {
        /// How many calls at once, at least 1.
        concurrency: u32,
        /// Its name and version, for people; [`TEXT_BYTES_MAX`] bytes at most.
        software: &'a str,
    },
    /// A part of an answer; more follows.
    Part {
        /// The call.
        call: u32,
        /// What is handed to its caller.
        payload: Payload<'a>,
    },
    /// The last or only part of an answer.
    Done {
        /// The call.
        call: u32,
        /// What is handed to its caller; may be empty.
        payload: Payload<'a>,
    },
    /// The call is over without an answer.
    Error {
        /// The call.
        call: u32,
        /// What [`read_error`] reads.
        payload: Payload<'a>,
    },
    /// Instead of `ready`: no call can be taken.
    Unable {
        /// Why, for people; [`TEXT_BYTES_MAX`] bytes at most.
        text: &'a str,
    },
    /// Acknowledges an `interrupt`.
    Interrupted {
        /// The call that it named.
        call: u32,
    },
    /// The call needs more from its caller.
    Ask {
        /// The call.
        call: u32,
        /// What is handed to its caller.
        payload: Payload<'a>,
    },
}

/// Reads what usherd says; `shared_bytes` is the size of the shared memory, 0 until the `welcome` or where there is none.
///
/// # Errors
/// What [`Malformed`] says: the message is none, or its kind does not allow what is in it.
pub fn from_usherd(datagram: &[u8], shared_bytes: u32) -> Result<FromUsherd<'_>, Malformed> {
    let header = Header::read(datagram)?;
    let body = datagram.get(HEADER_BYTES..).ok_or(Malformed::Truncated)?;
    let allowed = match header.kind {
        kind::WELCOME => DESCRIPTOR,
        kind::CALL => SHARED | MORE | DESCRIPTOR,
        kind::INTERRUPT | kind::INPUT | kind::GOODBYE => 0,
        kind::READY..=kind::UNABLE => return Err(Malformed::BadOperation),
        unknown => return Ok(FromUsherd::Unknown { kind: unknown }),
    };
    header.check(allowed, !matches!(header.kind, kind::WELCOME | kind::GOODBYE))?;
    let payload = header.payload(body, 0, shared_bytes / 2)?;
    Ok(match header.kind {
        kind::WELCOME => FromUsherd::Welcome(welcome(&header, body)?),
        kind::CALL => FromUsherd::Call(call(&header, payload)?),
        kind::INTERRUPT => {
            nothing(body)?;
            FromUsherd::Interrupt { call: header.call }
        }
        kind::INPUT => FromUsherd::Input {
            call: header.call,
            payload: body,
        },
        _ => {
            nothing(body)?;
            FromUsherd::Goodbye
        }
    })
}

/// Reads what a helper says; `shared_bytes` is the size of the memory shared with it, 0 where there is none.
///
/// # Errors
/// What [`Malformed`] says: the message is none, or its kind does not allow what is in it.
pub fn from_helper(datagram: &[u8], shared_bytes: u32) -> Result<FromHelper<'_>, Malformed> {
    let header = Header::read(datagram)?;
    let body = datagram.get(HEADER_BYTES..).ok_or(Malformed::Truncated)?;
    let allowed = match header.kind {
        kind::PART | kind::DONE | kind::ERROR | kind::ASK => SHARED,
        kind::READY | kind::UNABLE | kind::INTERRUPTED => 0,
        _ => return Err(Malformed::BadOperation),
    };
    header.check(allowed, !matches!(header.kind, kind::READY | kind::UNABLE))?;
    let payload = header.payload(body, shared_bytes / 2, shared_bytes)?;
    let call = header.call;
    Ok(match header.kind {
        kind::READY => ready(body)?,
        kind::UNABLE => FromHelper::Unable { text: text(body)? },
        kind::PART => FromHelper::Part { call, payload },
        kind::DONE => FromHelper::Done { call, payload },
        kind::ERROR => {
            if payload.len() < 2 {
                return Err(Malformed::Truncated);
            }
            if payload.len() > 2 + TEXT_BYTES_MAX {
                return Err(Malformed::TooLarge);
            }
            if let Payload::Inline(inline) = payload {
                read_error(inline)?;
            }
            FromHelper::Error { call, payload }
        }
        kind::INTERRUPTED => {
            nothing(body)?;
            FromHelper::Interrupted { call }
        }
        _ => FromHelper::Ask { call, payload },
    })
}

/// Reads the payload of an `error`: a code of the helper's own, and a text for people.
///
/// # Errors
/// It is too short or too long, or the text is not UTF-8.
pub fn read_error(payload: &[u8]) -> Result<(u16, &str), Malformed> {
    let [n0, n1, text @ ..] = payload else {
        return Err(Malformed::Truncated);
    };
    Ok((u16::from_be_bytes([*n0, *n1]), self::text(text)?))
}

/// Appends a `welcome`.
///
/// # Errors
/// The largest message is too small, or the service's name has no 1 to 255 bytes; then nothing was appended.
pub fn write_welcome(out: &mut Vec<u8>, welcome: &Welcome<'_>) -> Result<(), Malformed> {
    check_welcome(welcome)?;
    let numbers = [
        welcome.message_bytes_max,
        welcome.shared_bytes,
        welcome.call_bytes_max,
        welcome.answer_bytes_max,
    ];
    let flags = if welcome.shared_bytes == 0 { 0 } else { DESCRIPTOR };
    let bytes = 16 + welcome.service.len();
    let header = Header::new(kind::WELCOME, 0, bytes)?.flagged(flags);
    out.extend_from_slice(&header.bytes());
    numbers
        .iter()
        .for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    out.extend_from_slice(welcome.service.as_bytes());
    Ok(())
}

/// The header of a `call`, for who sends it and an inline payload in one vectored write.
///
/// # Errors
/// The id is 0, or the piece is no piece of the whole.
pub fn call_header(call: &Call<'_>) -> Result<[u8; HEADER_BYTES], Malformed> {
    let mut header = Header::new(kind::CALL, call.call, call.payload.len())?;
    header.flags = if call.more { MORE } else { 0 } | if call.descriptor { DESCRIPTOR } else { 0 };
    header.deadline_ms = call.deadline_ms;
    header.whole_bytes = call.whole_bytes;
    header.place(call.payload);
    header.check(u8::MAX, true)?;
    header.check_piece()?;
    Ok(header.bytes())
}

/// Appends a `call`.
///
/// # Errors
/// As [`call_header`]; then nothing was appended.
pub fn write_call(out: &mut Vec<u8>, call: &Call<'_>) -> Result<(), Malformed> {
    let header = call_header(call)?;
    append(out, &header, call.payload);
    Ok(())
}

/// Appends an `interrupt`.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_interrupt(out: &mut Vec<u8>, call: u32) -> Result<(), Malformed> {
    write(out, kind::INTERRUPT, call, Payload::Inline(b""))
}

/// Appends an `input`.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_input(out: &mut Vec<u8>, call: u32, payload: &[u8]) -> Result<(), Malformed> {
    write(out, kind::INPUT, call, Payload::Inline(payload))
}

/// Appends a `goodbye`.
pub fn write_goodbye(out: &mut Vec<u8>) {
    out.extend_from_slice(&Header::blank(kind::GOODBYE).bytes());
}

/// Appends a `ready`. The software's name is cut at 1,024 bytes.
///
/// # Errors
/// The concurrency is 0; then nothing was appended.
pub fn write_ready(out: &mut Vec<u8>, concurrency: u32, software: &str) -> Result<(), Malformed> {
    if concurrency == 0 {
        return Err(Malformed::BadValue("a concurrency of at least 1"));
    }
    let software = cut(software);
    out.extend_from_slice(&Header::new(kind::READY, 0, 4 + software.len())?.bytes());
    out.extend_from_slice(&concurrency.to_be_bytes());
    out.extend_from_slice(software.as_bytes());
    Ok(())
}

/// Appends an `unable`. The text is cut at 1,024 bytes.
pub fn write_unable(out: &mut Vec<u8>, text: &str) {
    let text = cut(text);
    if let Ok(header) = Header::new(kind::UNABLE, 0, text.len()) {
        out.extend_from_slice(&header.bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

/// Which message carries a piece of an answer, or a question to the caller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    /// A `part`.
    Part,
    /// A `done`.
    Done,
    /// An `ask`.
    Ask,
}

/// The header of a `part`, `done` or `ask`, for who sends it and an inline payload in one vectored write.
///
/// # Errors
/// The id is 0, or the payload longer than can be said.
pub fn answer_header(answer: Answer, call: u32, payload: Payload<'_>) -> Result<[u8; HEADER_BYTES], Malformed> {
    let kind = match answer {
        Answer::Part => kind::PART,
        Answer::Done => kind::DONE,
        Answer::Ask => kind::ASK,
    };
    header(kind, call, payload)
}

/// Appends a `part`.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_part(out: &mut Vec<u8>, call: u32, payload: Payload<'_>) -> Result<(), Malformed> {
    write(out, kind::PART, call, payload)
}

/// Appends a `done`.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_done(out: &mut Vec<u8>, call: u32, payload: Payload<'_>) -> Result<(), Malformed> {
    write(out, kind::DONE, call, payload)
}

/// Appends an `error`. The text is cut at 1,024 bytes.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_error(out: &mut Vec<u8>, call: u32, code: u16, text: &str) -> Result<(), Malformed> {
    let text = cut(text);
    let header = Header::new(kind::ERROR, call, 2 + text.len())?;
    header.check(0, true)?;
    out.extend_from_slice(&header.bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends an `interrupted`.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_interrupted(out: &mut Vec<u8>, call: u32) -> Result<(), Malformed> {
    write(out, kind::INTERRUPTED, call, Payload::Inline(b""))
}

/// Appends an `ask`.
///
/// # Errors
/// The id is 0; then nothing was appended.
pub fn write_ask(out: &mut Vec<u8>, call: u32, payload: Payload<'_>) -> Result<(), Malformed> {
    write(out, kind::ASK, call, payload)
}

fn write(out: &mut Vec<u8>, kind: u8, call: u32, payload: Payload<'_>) -> Result<(), Malformed> {
    let header = header(kind, call, payload)?;
    append(out, &header, payload);
    Ok(())
}

fn header(kind: u8, call: u32, payload: Payload<'_>) -> Result<[u8; HEADER_BYTES], Malformed> {
    let mut header = Header::new(kind, call, payload.len())?;
    header.place(payload);
    header.check(SHARED, true)?;
    Ok(header.bytes())
}

fn append(out: &mut Vec<u8>, header: &[u8; HEADER_BYTES], payload: Payload<'_>) {
    out.extend_from_slice(header);
    if let Payload::Inline(bytes) = payload {
        out.extend_from_slice(bytes);
    }
}

fn welcome<'a>(header: &Header, body: &'a [u8]) -> Result<Welcome<'a>, Malformed> {
    let (message_bytes_max, rest) = number(body)?;
    let (shared_bytes, rest) = number(rest)?;
    let (call_bytes_max, rest) = number(rest)?;
    let (answer_bytes_max, rest) = number(rest)?;
    let service = std::str::from_utf8(rest).map_err(|_| Malformed::BadValue("a service name in UTF-8"))?;
    let welcome = Welcome {
        message_bytes_max,
        shared_bytes,
        call_bytes_max,
        answer_bytes_max,
        service,
    };
    check_welcome(&welcome)?;
    if (header.flags & DESCRIPTOR != 0) != (shared_bytes != 0) {
        return Err(Malformed::BadValue(
            "a descriptor if there is shared memory, and no other",
        ));
    }
    Ok(welcome)
}

fn check_welcome(welcome: &Welcome<'_>) -> Result<(), Malformed> {
    if welcome.message_bytes_max < MESSAGE_BYTES_MIN {
        return Err(Malformed::BadValue("a largest message of at least 8192 bytes"));
    }
    if welcome.service.is_empty() || welcome.service.len() > NAME_BYTES_MAX {
        return Err(Malformed::BadValue("a service name of 1 to 255 bytes"));
    }
    Ok(())
}

fn call<'a>(header: &Header, payload: Payload<'a>) -> Result<Call<'a>, Malformed> {
    header.check_piece()?;
    Ok(Call {
        call: header.call,
        deadline_ms: header.deadline_ms,
        whole_bytes: header.whole_bytes,
        more: header.flags & MORE != 0,
        descriptor: header.flags & DESCRIPTOR != 0,
        payload,
    })
}

fn ready(body: &[u8]) -> Result<FromHelper<'_>, Malformed> {
    let (concurrency, software) = number(body)?;
    if concurrency == 0 {
        return Err(Malformed::BadValue("a concurrency of at least 1"));
    }
    Ok(FromHelper::Ready {
        concurrency,
        software: text(software)?,
    })
}

fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    if bytes.len() > TEXT_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    std::str::from_utf8(bytes).map_err(|_| Malformed::BadValue("a text in UTF-8"))
}

fn number(bytes: &[u8]) -> Result<(u32, &[u8]), Malformed> {
    let (first, rest) = bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    Ok((u32::from_be_bytes(*first), rest))
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_BYTES_MAX)).unwrap_or(text)
}

#[cfg(test)]
#[path = "helper_tests.rs"]
mod tests;
