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
    /// For the next call that is put together; what is in it is overwritten.
    whole: Vec<u8>,
    pieces: Option<Pieces>,
}

/// A call of which more follows. What has come of it ends at `request.to`, and behind that there is room for all that follows
/// and for one message more: each is received with its payload in its place, its header over the last bytes of what came
/// before, which are put back. So a piece is not copied.
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
        if let Some(pieces) = self.pieces.take() {
            return self.next_amid(link, wait, pieces);
        }
        let mut buffer = self.spare.pop().unwrap_or_else(|| vec![0; link.buffer_bytes()]);
        let Received::Datagram(bytes, descriptor) = link.receive(&mut buffer, wait)? else {
            self.keep(buffer);
            return Ok(Event::Nothing);
        };
        let event = match codec::from_usherd(buffer.get(..bytes).unwrap_or(&[]), link.shared_bytes())? {
            FromUsherd::Welcome(_) => return Err(protocol("a second welcome")),
            FromUsherd::Call(call) => {
                let head = Head::of(&call);
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
        let buffer = mem::take(&mut request.bytes);
        if buffer.len() == link.buffer_bytes() {
            self.keep(buffer);
        } else if (self.whole.capacity()..=WHOLE_BYTES_KEPT).contains(&buffer.capacity()) {
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

    /// A call, or its first piece.
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
        if !head.more && head.shared.is_none() && bytes - HEADER_BYTES == whole_bytes {
            return Ok(Event::Call(Request::new(head, descriptor, buffer, HEADER_BYTES, bytes)));
        }
        let mut whole = mem::take(&mut self.whole);
        if let Some((offset, shared)) = head.shared {
            whole.clear();
            link.copy_out(offset, shared, &mut whole)?;
            self.keep(buffer);
            let to = whole.len();
            return Ok(Event::Call(Request::new(head, descriptor, whole, 0, to)));
        }
        let room = HEADER_BYTES + whole_bytes + link.buffer_bytes();
        let missing = room.saturating_sub(whole.len());
        let reserved = whole.try_reserve_exact(missing);
        reserved.map_err(|_| protocol("a call for which there is memory"))?;
        whole.resize(whole.len() + missing, 0);
        let piece = buffer.get(HEADER_BYTES..bytes).unwrap_or(&[]);
        if let Some(place) = whole.get_mut(HEADER_BYTES..bytes) {
            place.copy_from_slice(piece);
        }
        if whole_bytes <= WIPED_BYTES_MAX {
            wipe(&mut buffer, bytes);
        }
        self.keep(buffer);
        let pieces = Pieces {
            request: Request::new(head, descriptor, whole, HEADER_BYTES, HEADER_BYTES),
            whole_bytes,
        };
        self.piece(pieces, head, bytes - HEADER_BYTES)
    }

    /// So many bytes more of a call are in their place.
    fn piece(&mut self, mut pieces: Pieces, head: &Head, bytes: usize) -> Result<Event, Broken> {
        let announced = usize::try_from(head.whole_bytes).unwrap_or(usize::MAX);
        pieces.request.to += bytes;
        let come = pieces.request.to - pieces.request.from;
        let complete = come == pieces.whole_bytes;
        if pieces.whole_bytes != announced || come > pieces.whole_bytes || complete == head.more {
            return Err(protocol("pieces that make up the call that was announced"));
        }
        if head.more {
            self.pieces = Some(pieces);
            return Ok(Event::Nothing);
        }
        Ok(Event::Call(pieces.request))
    }

    /// Takes the next message while a call is in pieces.
    fn next_amid(&mut self, link: &Link, wait: bool, mut pieces: Pieces) -> Result<Event, Broken> {
        let at = pieces.request.to - HEADER_BYTES;
        let place = pieces.request.bytes.get_mut(at..at + link.buffer_bytes());
        let place = place.ok_or_else(|| protocol("pieces within the call that was announced"))?;
        let mut covered = [0; HEADER_BYTES];
        covered.copy_from_slice(place.get(..HEADER_BYTES).unwrap_or(&[0; HEADER_BYTES]));
        let Received::Datagram(bytes, descriptor) = link.receive(place, wait)? else {
            self.pieces = Some(pieces);
            return Ok(Event::Nothing);
        };
        let call = pieces.request.call;
        let said = match codec::from_usherd(place.get(..bytes).unwrap_or(&[]), link.shared_bytes())? {
            FromUsherd::Welcome(_) => return Err(protocol("a second welcome")),
            FromUsherd::Call(other) if other.call != call => return Err(protocol("a call amid another's pieces")),
            FromUsherd::Call(piece) => {
                let head = Head::of(&piece);
                if head.shared.is_some() || piece.descriptor || descriptor.is_some() {
                    return Err(protocol("a later piece that is shared, or has a descriptor"));
                }
                Err(head)
            }
            FromUsherd::Interrupt { call } => Ok(Event::Interrupt(call)),
            FromUsherd::Input { call, payload } => Ok(Event::Input(call, Zeroizing::new(payload.to_vec()))),
            FromUsherd::Goodbye => Ok(Event::Goodbye),
            FromUsherd::Unknown { .. } => Ok(Event::Nothing),
        };
        if said.is_ok() {
            wipe(place, bytes);
        }
        if let Some(header) = place.get_mut(..HEADER_BYTES) {
            header.copy_from_slice(&covered);
        }
        match said {
            Err(head) => self.piece(pieces, &head, bytes - HEADER_BYTES),
            Ok(event) => {
                self.pieces = Some(pieces);
                match event {
                    Event::Interrupt(call) => self.interrupt(link, call),
                    other => Ok(other),
                }
            }
        }
    }
}

impl Head {
    fn of(call: &codec::Call<'_>) -> Self {
        Self {
            call: call.call,
            deadline_ms: call.deadline_ms,
            whole_bytes: call.whole_bytes,
            more: call.more,
            shared: match call.payload {
                Payload::Inline(_) => None,
                Payload::Shared { offset, bytes } => Some((offset, bytes)),
            },
        }
    }
}

fn wipe(buffer: &mut [u8], bytes: usize) {
    if let Some(used) = buffer.get_mut(..bytes) {
        wire::wipe::wipe(used);
    }
}
