//! The 24 bytes in front of every payload, and what must be true of them whatever the kind says besides.

use super::{HEADER_BYTES, Payload, VERSION, kind};
use crate::frame::Malformed;

/// The first byte of every message.
pub(super) const MAGIC: u8 = 0xD6;
pub(super) const SHARED: u8 = 1;
pub(super) const MORE: u8 = 2;
pub(super) const DESCRIPTOR: u8 = 4;

pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) call: u32,
    pub(super) deadline_ms: u32,
    pub(super) payload_bytes: u32,
    pub(super) whole_bytes: u32,
    pub(super) offset: u32,
}

impl Header {
    pub(super) fn blank(kind: u8) -> Self {
        Self {
            kind,
            flags: 0,
            call: 0,
            deadline_ms: 0,
            payload_bytes: 0,
            whole_bytes: 0,
            offset: 0,
        }
    }

    pub(super) fn new(kind: u8, call: u32, payload_bytes: usize) -> Result<Self, Malformed> {
        Ok(Self {
            call,
            payload_bytes: u32::try_from(payload_bytes).map_err(|_| Malformed::TooLarge)?,
            ..Self::blank(kind)
        })
    }

    pub(super) fn flagged(self, flags: u8) -> Self {
        Self { flags, ..self }
    }

    pub(super) fn place(&mut self, payload: Payload<'_>) {
        if let Payload::Shared { offset, .. } = payload {
            self.flags |= SHARED;
            self.offset = offset;
        }
    }

    #[inline]
    pub(super) fn read(datagram: &[u8]) -> Result<Self, Malformed> {
        match datagram {
            [] | [MAGIC] | [MAGIC, VERSION, ..] => {}
            [MAGIC, ..] => return Err(Malformed::BadVersion),
            _ => return Err(Malformed::BadMagic),
        }
        let (Some([_, _, kind, flags]), Some(numbers)) = (
            datagram.first_chunk::<4>(),
            datagram.get(4..HEADER_BYTES).map(|rest| rest.as_chunks::<4>().0),
        ) else {
            return Err(Malformed::Truncated);
        };
        let [call, deadline_ms, payload_bytes, whole_bytes, offset] = numbers else {
            return Err(Malformed::Truncated);
        };
        Ok(Self {
            kind: *kind,
            flags: *flags,
            call: u32::from_be_bytes(*call),
            deadline_ms: u32::from_be_bytes(*deadline_ms),
            payload_bytes: u32::from_be_bytes(*payload_bytes),
            whole_bytes: u32::from_be_bytes(*whole_bytes),
            offset: u32::from_be_bytes(*offset),
        })
    }

    pub(super) fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let numbers = [
            u32::from_be_bytes([MAGIC, VERSION, self.kind, self.flags]),
            self.call,
            self.deadline_ms,
            self.payload_bytes,
            self.whole_bytes,
            self.offset,
        ];
        for (place, number) in bytes.chunks_exact_mut(4).zip(numbers) {
            place.copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// Whether the kind may have what is said: these flags at most, a call id or none, and in a call alone its own fields.
    pub(super) fn check(&self, allowed: u8, about_a_call: bool) -> Result<(), Malformed> {
        if self.flags & !(allowed & (SHARED | MORE | DESCRIPTOR)) != 0 {
            return Err(Malformed::BadValue("no flag but those that the kind allows"));
        }
        if (self.call != 0) != about_a_call {
            return Err(Malformed::BadId);
        }
        if self.kind != kind::CALL && (self.deadline_ms != 0 || self.whole_bytes != 0) {
            return Err(Malformed::BadValue("a deadline and a whole length in a call alone"));
        }
        if self.flags & SHARED == 0 && self.offset != 0 {
            return Err(Malformed::BadValue("an offset with the flag shared alone"));
        }
        Ok(())
    }

    /// A piece of a call is no longer than the whole. What is shared is the whole, and what goes on is not.
    pub(super) fn check_piece(&self) -> Result<(), Malformed> {
        let more = self.flags & MORE != 0;
        let whole = self.payload_bytes == self.whole_bytes;
        if self.payload_bytes > self.whole_bytes || (more && (whole || self.payload_bytes == 0)) {
            return Err(Malformed::BadValue("a piece within the whole length of its call"));
        }
        if self.flags & SHARED != 0 && (more || !whole || self.offset != 0) {
            return Err(Malformed::BadValue(
                "a whole call at the beginning of the shared memory",
            ));
        }
        Ok(())
    }

    /// The payload: all that follows the header, or `[from, to)` of the shared memory holds it.
    #[inline]
    pub(super) fn payload<'a>(&self, body: &'a [u8], from: u32, to: u32) -> Result<Payload<'a>, Malformed> {
        if self.flags & SHARED == 0 {
            return match usize::try_from(self.payload_bytes).unwrap_or(usize::MAX) {
                bytes if bytes == body.len() => Ok(Payload::Inline(body)),
                bytes if bytes > body.len() => Err(Malformed::Truncated),
                _ => Err(Malformed::TrailingBytes),
            };
        }
        nothing(body)?;
        let end = self.offset.checked_add(self.payload_bytes);
        if self.offset < from || end.is_none_or(|end| end > to) {
            return Err(Malformed::BadValue(
                "a payload within its sender's half of the shared memory",
            ));
        }
        Ok(Payload::Shared {
            offset: self.offset,
            bytes: self.payload_bytes,
        })
    }
}

pub(super) fn nothing(body: &[u8]) -> Result<(), Malformed> {
    if body.is_empty() {
        Ok(())
    } else {
        Err(Malformed::TrailingBytes)
    }
}
