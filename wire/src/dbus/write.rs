//! Messages as bytes, always little-endian.

use super::{ARRAY_BYTES_MAX, FIELDS_BYTES_MAX, Kind, Message};
use crate::frame::Malformed;

/// Which method of which object is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Method<'a> {
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
    /// The method.
    pub member: &'a str,
}

/// What is written around a payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Argument {
    /// `ayu`: the payload as bytes, and then milliseconds.
    BytesAndMilliseconds(u32),
    /// `ay`: the payload as bytes.
    Bytes,
    /// `s`: the payload as text; the caller has seen to it that it is UTF-8 and has no zero byte.
    Text,
}

/// What is behind a payload: 7 bytes at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tail {
    bytes: [u8; 7],
    len: usize,
}

impl Tail {
    /// These bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// A method call with a payload, which its owner writes between the two.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Around {
    /// What comes before it. It may be used again and again: what it held is replaced.
    pub head: Vec<u8>,
    /// What comes behind it.
    pub tail: Tail,
}

/// Writes what is around the payload of a method call, of `payload_bytes` bytes.
///
/// # Errors
/// The payload is longer than an array may be, the serial is 0, or the names are longer than a header may be.
pub fn write_call(
    around: &mut Around,
    serial: u32,
    method: &Method<'_>,
    argument: Argument,
    payload_bytes: usize,
) -> Result<(), Malformed> {
    if payload_bytes > ARRAY_BYTES_MAX {
        return Err(Malformed::TooLarge);
    }
    let mut tail = Tail::default();
    let signature = match argument {
        Argument::BytesAndMilliseconds(milliseconds) => {
            // The body begins at a multiple of eight, and the length in front of the payload has four bytes.
            let padding = payload_bytes.next_multiple_of(4) - payload_bytes;
            let number = milliseconds.to_le_bytes();
            tail.len = padding + number.len();
            for (to, from) in tail.bytes.iter_mut().skip(padding).zip(number) {
                *to = from;
            }
            "ayu"
        }
        Argument::Bytes => "ay",
        Argument::Text => {
            tail.len = 1;
            "s"
        }
    };
    let message = Message {
        path: Some(method.path),
        interface: Some(method.interface),
        member: Some(method.member),
        signature,
        ..Message::new(Kind::Call, serial)
    };
    around.head.clear();
    around.tail = tail;
    write_header(&mut around.head, &message, 4 + payload_bytes + tail.len)?;
    around.head.extend_from_slice(&number(payload_bytes)?);
    Ok(())
}

/// Appends a message. Its body must be little-endian, as `little_endian` says.
///
/// # Errors
/// The body is longer than a message may be, the serial is 0, or the names are longer than a header may be.
pub fn write_message(out: &mut Vec<u8>, message: &Message<'_>) -> Result<(), Malformed> {
    write_header(out, message, message.body.len())?;
    out.extend_from_slice(message.body);
    Ok(())
}

/// Appends the header; nothing where that fails.
fn write_header(out: &mut Vec<u8>, message: &Message<'_>, body_bytes: usize) -> Result<(), Malformed> {
    if message.serial == 0 {
        return Err(Malformed::BadId);
    }
    let kind = match message.kind {
        Kind::Call => 1,
        Kind::Return => 2,
        Kind::Error => 3,
        Kind::Signal => 4,
        Kind::Other(other) => other,
    };
    let begin = out.len();
    out.extend_from_slice(&[b'l', kind, u8::from(message.no_reply), 1]);
    out.extend_from_slice(&number(body_bytes)?);
    out.extend_from_slice(&message.serial.to_le_bytes());
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let texts = [
        (1, b'o', message.path),
        (2, b's', message.interface),
        (3, b's', message.member),
        (4, b's', message.error),
    ];
    for (code, kind, text) in texts {
        let Some(text) = text else { continue };
        field(out, begin, code, kind);
        out.extend_from_slice(&number(text.len())?);
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
    if let Some(serial) = message.reply_serial {
        field(out, begin, 5, b'u');
        out.extend_from_slice(&serial.to_le_bytes());
    }
    if !message.signature.is_empty() {
        let Ok(len) = u8::try_from(message.signature.len()) else {
            out.truncate(begin);
            return Err(Malformed::TooLarge);
        };
        field(out, begin, 8, b'g');
        out.push(len);
        out.extend_from_slice(message.signature.as_bytes());
        out.push(0);
    }
    let fields = out.len() - length_at - 4;
    if fields > FIELDS_BYTES_MAX {
        out.truncate(begin);
        return Err(Malformed::TooLarge);
    }
    let length = number(fields)?;
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length);
    }
    pad(out, begin);
    Ok(())
}

/// The beginning of a header field: padding, its code, and its one type.
fn field(out: &mut Vec<u8>, begin: usize, code: u8, kind: u8) {
    pad(out, begin);
    out.extend_from_slice(&[code, 1, kind, 0]);
}

fn pad(out: &mut Vec<u8>, begin: usize) {
    let len = out.len() - begin;
    out.resize(begin + len.next_multiple_of(8), 0);
}

fn number(bytes: usize) -> Result<[u8; 4], Malformed> {
    Ok(u32::try_from(bytes).map_err(|_| Malformed::TooLarge)?.to_le_bytes())
}
