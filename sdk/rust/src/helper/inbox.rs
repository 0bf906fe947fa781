//! What usherd says, message by message: calls put together from their pieces, the rest handed on.
//!
//! At most one call is in pieces at a time; nothing but its next piece or its interrupt may be about it.

use std::mem;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use wire::helper::{self as codec, FromUsherd, HEADER_BYTES, Payload};
use zeroize::Zeroizing;

use super::link::{Broken, Link, Received, protocol};

/// Buffers kept for reuse: one for the call that is open, one for what is said meanwhile.
const SPARE_MAX: usize = 2;
/// A buffer in which a call was put together is kept for the next one up to this size: memory that is new with each call
/// costs more than everything else about a large one.
const WHOLE_BYTES_KEPT: usize = 4 << 20;
/// What is longer is no password, and is not wiped.
const WIPED_BYTES_MAX: usize = 64 << 10;

/// A whole request. It may carry passwords, and is wiped at its end.
pub(super) struct Request {
    pub(super) call: u32,
    pub(super) deadline: Option<Instant>,
    pub(super) descriptor: Option<OwnedFd>,
    bytes: Vec<u8>,
    /// The payload is `from..to` of the bytes.
    from: usize,
    to: usize,
}

impl Request {
    fn new(head: &Head, descriptor: Option<OwnedFd>, bytes: Vec<u8>, from: usize, to: usize) -> Self {
        let wait = Duration::from_millis(head.deadline_ms.into());
        Self {
            call: head.call,
            deadline: (head.deadline_ms != 0).then(|| Instant::now() + wait),
            descriptor,
            bytes,
            from,
            to,
        }
    }

    pub(super) fn payload(&self) -> &[u8] {
        self.bytes.get(self.from..self.to).unwrap_or(&[])
    }

    fn wipe(&mut self) {
        if let Some(payload) = self.bytes.get_mut(self.from..self.to)
            && payload.len() <= WIPED_BYTES_MAX
        {
            wire::wipe::wipe(payload);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.wipe();
    }
}

pub(super) enum Event {
    Call(Request),
    /// Of a call that was handed on, or never was: an interrupt of a call still in pieces has ended it.
    Interrupt(u32),
    Input(u32, Zeroizing<Vec<u8>>),
    Goodbye,
    /// Nothing is there now, or a signal came, or nothing that concerns anybody.
    Nothing,
}

pub(super) struct Inbox {
    spare: Vec<Vec<u8>>,
    /// For the next call that is put together; empty, whatever its capacity.
    whole: Vec<u8>,
    pieces: Option<Pieces>,
}

/// A call of which more follows.
struct Pieces {
    request: Request,
    whole_bytes: usize,
}

/// What a `call` message says, apart from an inline payload.
struct Head {
    call: u32,
    deadline_ms: u32,
    whole_bytes: u32,
    more: bool,
    shared: Option<(u32, u32)>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            spare: Vec::new(),
            whole: Vec::new(),
            pieces: None,
        }
    }

    /// Whether a call is in pieces.
    pub(super) fn in_pieces(&self) -> bool {
        self.pieces.is_some()
    }

    /// Takes the next message; with `wait`, waits for it until a signal comes.
    pub(super) fn next(&mut self, link: &Link, wait: bool) -> Result<Event, Broken> {
        let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; link.buffer_bytes()]);
        let Received::Datagram(bytes, descriptor) = link.receive(&mut buffer, wait)? else {
            self.keep(buffer);
            return Ok(Event::Nothing);
        };
        let event = match codec::from_usherd(buffer.get(..bytes).unwrap_or(&[]), link.shared_bytes())? {
            FromUsherd::Welcome(_) => return Err(protocol("a second welcome")),
            FromUsherd::Call(call) => {
                let head = Head {
                    call: call.call,
                    deadline_ms: call.deadline_ms,
                    whole_bytes: call.whole_bytes,
                    more: call.more,
                    shared: match call.payload {
                        Payload::Inline(_) => None,
                        Payload::Shared { offset, bytes } => Some((offset, bytes)),
                    },
                };
                if call.descriptor != descriptor.is_some() {
                    return Err(protocol("a descriptor where the call says so, and nowhere else"));
                }
                return self.call(link, &head, buffer, bytes, descriptor);
            }
            FromUsherd::Interrupt { call } => self.interrupt(link, call)?,
            FromUsherd::Input { call, payload } => Event::Input(call, Zeroizing::new(payload.to_vec())),
            FromUsherd::Goodbye => Event::Goodbye,
            FromUsherd::Unknown { .. } => Event::Nothing,
        };
        wipe(&mut buffer, bytes);
        self.keep(buffer);
        Ok(event)
    }

    /// Takes the buffer of a request that is over back for the next.
    pub(super) fn recycle(&mut self, link: &Link, mut request: Request) {
        request.wipe();
        let mut buffer = mem::take(&mut request.bytes);
        if buffer.len() == link.buffer_bytes() {
            self.keep(buffer);
        } else if (self.whole.capacity()..=WHOLE_BYTES_KEPT).contains(&buffer.capacity()) {
            buffer.clear();
            self.whole = buffer;
        }
    }

    fn keep(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    fn interrupt(&mut self, link: &Link, call: u32) -> Result<Event, Broken> {
        if self.pieces.take_if(|pieces| pieces.request.call == call).is_none() {
            return Ok(Event::Interrupt(call));
        }
        link.error(call, super::CODE_FAILED, "interrupted before all of it had come")?;
        link.interrupted(call)?;
        Ok(Event::Nothing)
    }

    fn call(
        &mut self,
        link: &Link,
        head: &Head,
        mut buffer: Vec<u8>,
        bytes: usize,
        descriptor: Option<OwnedFd>,
    ) -> Result<Event, Broken> {
        if head.whole_bytes > link.call_bytes_max() {
            return Err(protocol("a call larger than announced"));
        }
        let whole_bytes = usize::try_from(head.whole_bytes).unwrap_or(usize::MAX);
        let first = self.pieces.is_none();
        if first && !head.more && head.shared.is_none() && bytes - HEADER_BYTES == whole_bytes {
            return Ok(Event::Call(Request::new(head, descriptor, buffer, HEADER_BYTES, bytes)));
        }
        let mut pieces = match self.pieces.take() {
            Some(pieces) if pieces.request.call != head.call => return Err(protocol("a call amid another's pieces")),
            Some(_) if head.shared.is_some() || descriptor.is_some() => {
                return Err(protocol("a later piece that is shared, or has a descriptor"));
            }
            Some(pieces) => pieces,
            None => {
                let mut whole = mem::take(&mut self.whole);
                let reserved = whole.try_reserve_exact(whole_bytes);
                reserved.map_err(|_| protocol("a call for which there is memory"))?;
                Pieces {
                    request: Request::new(head, descriptor, whole, 0, 0),
                    whole_bytes,
                }
            }
        };
        let whole = &mut pieces.request.bytes;
        match head.shared {
            Some((offset, shared)) => link.copy_out(offset, shared, whole)?,
            None => whole.extend_from_slice(buffer.get(HEADER_BYTES..bytes).unwrap_or(&[])),
        }
        pieces.request.to = whole.len();
        if whole_bytes <= WIPED_BYTES_MAX {
            wipe(&mut buffer, bytes);
        }
        self.keep(buffer);
        let complete = pieces.request.to == whole_bytes;
        if pieces.whole_bytes != whole_bytes || pieces.request.to > whole_bytes || complete == head.more {
            return Err(protocol("pieces that make up the call that was announced"));
        }
        if head.more {
            self.pieces = Some(pieces);
            return Ok(Event::Nothing);
        }
        Ok(Event::Call(pieces.request))
    }
}

fn wipe(buffer: &mut [u8], bytes: usize) {
    if let Some(used) = buffer.get_mut(..bytes) {
        wire::wipe::wipe(used);
    }
}
