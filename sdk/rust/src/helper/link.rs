//! The socket to usherd and the memory shared with it: whole datagrams in, whole datagrams out, and what the welcome said.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, Shutdown,
};
use wire::frame::Malformed;
use wire::helper::{self as codec, Answer, FromUsherd, HEADER_BYTES, INLINE_BYTES_MAX, MESSAGE_BYTES_MIN, Payload};
use wire::wipe::wipe;

use super::Error;
use super::inbox::Inbox;
use crate::system::Memory;

/// No message is read beyond this, whatever the welcome says: the kernel does not carry larger ones by default.
const MESSAGE_BYTES_MAX: u32 = 1 << 20;
/// A datagram of so many bytes is put together before it is sent: copying it costs less than saying where its parts are.
const PLAIN_BYTES_MAX: usize = 512;
/// What the kernel counts on top of a datagram's own bytes against the socket's send buffer.
const DATAGRAM_OVERHEAD_BYTES: usize = 128;

/// Why nothing more can be said or heard.
#[derive(Debug)]
pub(super) enum Broken {
    /// usherd has closed its end.
    Gone,
    /// The socket failed, or usherd broke the protocol.
    Failed(Error),
}

impl From<Malformed> for Broken {
    fn from(malformed: Malformed) -> Self {
        protocol(malformed.to_string())
    }
}

impl From<Errno> for Broken {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Gone,
            other => Self::Failed(Error::Io(other.into())),
        }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

pub(super) fn protocol(what: impl Into<String>) -> Broken {
    Broken::Failed(Error::Protocol(what.into()))
}

/// A datagram, or none.
pub(super) enum Received {
    /// So many bytes of the buffer, and a descriptor if one came along.
    Datagram(usize, Option<OwnedFd>),
    /// Nothing is there now.
    Nothing,
    /// A signal came first.
    Signal,
}

pub(super) struct Link {
    socket: OwnedFd,
    memory: Option<Memory>,
    /// 0 where there is none.
    shared_bytes: u32,
    service: String,
    message_bytes_max: u32,
    call_bytes_max: u32,
    answer_bytes_max: u32,
    /// The most payload that one datagram can carry to usherd.
    piece_bytes_max: usize,
}

impl Link {
    /// Waits for the welcome.
    pub(super) fn welcomed(socket: OwnedFd) -> Result<(Self, Inbox), Broken> {
        let mut link = Self {
            socket,
            memory: None,
            shared_bytes: 0,
            service: String::new(),
            message_bytes_max: MESSAGE_BYTES_MIN,
            call_bytes_max: 0,
            answer_bytes_max: 0,
            piece_bytes_max: 0,
        };
        let mut buffer = vec![0; link.buffer_bytes()];
        let (bytes, descriptor) = loop {
            match link.receive(&mut buffer, true)? {
                Received::Datagram(bytes, descriptor) => break (bytes, descriptor),
                Received::Nothing | Received::Signal => {}
            }
        };
        let FromUsherd::Welcome(welcome) = codec::from_usherd(buffer.get(..bytes).unwrap_or(&[]), 0)? else {
            return Err(protocol("the first message is no welcome"));
        };
        link.message_bytes_max = welcome.message_bytes_max.min(MESSAGE_BYTES_MAX);
        link.call_bytes_max = welcome.call_bytes_max;
        link.answer_bytes_max = welcome.answer_bytes_max;
        link.service = welcome.service.to_string();
        link.shared_bytes = welcome.shared_bytes;
        link.memory = match (welcome.shared_bytes, descriptor) {
            (0, _) => None,
            (bytes, Some(file)) => Some(Memory::map(&file, size(bytes)).map_err(Error::Io)?),
            (_, None) => return Err(protocol("a welcome without the descriptor that it announces")),
        };
        link.piece_bytes_max = link.fit_send_buffer()?;
        Ok((link, Inbox::new()))
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn shared_bytes(&self) -> u32 {
        self.shared_bytes
    }

    pub(super) fn call_bytes_max(&self) -> u32 {
        self.call_bytes_max
    }

    pub(super) fn answer_bytes_max(&self) -> usize {
        size(self.answer_bytes_max)
    }

    /// The most payload of one message to usherd.
    pub(super) fn piece_bytes_max(&self) -> usize {
        self.piece_bytes_max
    }

    /// What a buffer must hold for [`receive`](Self::receive).
    pub(super) fn buffer_bytes(&self) -> usize {
        size(self.message_bytes_max)
    }

    /// Appends a request that usherd has put into the shared memory.
    pub(super) fn copy_out(&self, offset: u32, bytes: u32, out: &mut Vec<u8>) -> Result<(), Broken> {
        let copied = self.memory.as_ref();
        copied
            .and_then(|memory| memory.copy_out(size(offset), size(bytes), out))
            .ok_or_else(|| protocol("a payload that is not in the shared memory"))
    }

    /// Takes one datagram. With `wait`, waits for it, until a signal comes.
    pub(super) fn receive(&self, buffer: &mut [u8], wait: bool) -> Result<Received, Broken> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut flags = RecvFlags::CMSG_CLOEXEC;
        flags.set(RecvFlags::DONTWAIT, !wait);
        let received = rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(buffer)], &mut control, flags);
        let received = match received {
            Ok(received) => received,
            Err(Errno::AGAIN) => return Ok(Received::Nothing),
            Err(Errno::INTR) => return Ok(Received::Signal),
            Err(errno) => return Err(errno.into()),
        };
        let mut descriptor = None;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut descriptors) = message {
                descriptor = descriptors.next();
            }
        }
        if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(protocol("a message larger than announced"));
        }
        match received.bytes {
            0 => Err(Broken::Gone),
            bytes => Ok(Received::Datagram(bytes, descriptor)),
        }
    }

    /// Waits until something can be received, for so long at most.
    pub(super) fn wait(&self, at_most: Duration) -> Result<(), Broken> {
        let mut fds = [PollFd::new(&self.socket, PollFlags::IN)];
        let timeout = Timespec::try_from(at_most).map_err(|_| protocol("a wait that can be said"))?;
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Sends one datagram of two pieces. Waits while usherd does not read; a signal does not end that.
    pub(super) fn send(&self, header: &[u8], payload: &[u8]) -> Result<(), Broken> {
        if header.len() + payload.len() <= PLAIN_BYTES_MAX {
            return self.send_plain(header, payload);
        }
        let pieces = [IoSlice::new(header), IoSlice::new(payload)];
        loop {
            let mut control = SendAncillaryBuffer::default();
            match rustix::net::sendmsg(&self.socket, &pieces, &mut control, SendFlags::NOSIGNAL) {
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Sends a short datagram: in one piece, which costs the kernel less.
    fn send_plain(&self, header: &[u8], payload: &[u8]) -> Result<(), Broken> {
        let mut whole = [0; PLAIN_BYTES_MAX];
        let bytes = header.len() + payload.len();
        let places = whole
            .get_mut(..bytes)
            .and_then(|whole| whole.split_at_mut_checked(header.len()));
        let Some((first, second)) = places else {
            return Err(protocol("a message that fits"));
        };
        first.copy_from_slice(header);
        second.copy_from_slice(payload);
        let whole = whole.get_mut(..bytes).unwrap_or_default();
        let sent = loop {
            match rustix::net::send(&self.socket, &*whole, SendFlags::NOSIGNAL) {
                Ok(_) => break Ok(()),
                Err(Errno::INTR) => {}
                Err(errno) => break Err(errno.into()),
            }
        };
        wipe(whole);
        sent
    }

    /// Sends a part of an answer, or a question, in one message.
    pub(super) fn answer(&self, answer: Answer, call: u32, payload: &[u8]) -> Result<(), Broken> {
        let header: [u8; HEADER_BYTES] = codec::answer_header(answer, call, Payload::Inline(payload))?;
        self.send(&header, payload)
    }

    /// Sends the last of an answer: through the shared memory if it is worth it and `may_share`, else in as many messages
    /// as it takes. What `before_last` returns lives while the last message is sent, and is returned.
    pub(super) fn done<G>(
        &self,
        call: u32,
        mut rest: &[u8],
        may_share: bool,
        before_last: impl FnOnce() -> G,
    ) -> (Result<(), Broken>, G) {
        if let Some(shared) = Some(rest).filter(|_| may_share).and_then(|rest| self.copy_in(rest)) {
            let guard = before_last();
            let header = codec::answer_header(Answer::Done, call, shared).map_err(Broken::from);
            return (header.and_then(|header| self.send(&header, &[])), guard);
        }
        while let Some((piece, more)) = rest
            .split_at_checked(self.piece_bytes_max)
            .filter(|(_, more)| !more.is_empty())
        {
            if let Err(broken) = self.answer(Answer::Part, call, piece) {
                return (Err(broken), before_last());
            }
            rest = more;
        }
        let guard = before_last();
        (self.answer(Answer::Done, call, rest), guard)
    }

    /// Puts an answer into our half of the shared memory, if it is worth it and fits.
    fn copy_in(&self, answer: &[u8]) -> Option<Payload<'static>> {
        let half = self.shared_bytes / 2;
        if answer.len() <= INLINE_BYTES_MAX || answer.len() > size(half) {
            return None;
        }
        self.memory.as_ref()?.copy_in(size(half), answer)?;
        Some(Payload::Shared {
            offset: half,
            bytes: u32::try_from(answer.len()).ok()?,
        })
    }

    pub(super) fn error(&self, call: u32, code: u16, text: &str) -> Result<(), Broken> {
        let mut message = Vec::with_capacity(HEADER_BYTES + 2 + text.len());
        codec::write_error(&mut message, call, code, text)?;
        self.send(&message, &[])
    }

    pub(super) fn interrupted(&self, call: u32) -> Result<(), Broken> {
        let mut message = Vec::with_capacity(HEADER_BYTES);
        codec::write_interrupted(&mut message, call)?;
        self.send(&message, &[])
    }

    /// From now on nothing is received, and who waits in [`receive`](Self::receive) hears that usherd has gone.
    pub(super) fn stop_receiving(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Read);
    }

    /// From now on nothing is sent either: usherd takes it as a crash.
    pub(super) fn hang_up(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }

    /// A datagram must fit into the socket's send buffer whole: makes that large enough for the largest message, and
    /// answers with the payload that fits.
    fn fit_send_buffer(&self) -> Result<usize, Broken> {
        let message = size(self.message_bytes_max);
        let fits = |buffer: usize| buffer.saturating_sub(DATAGRAM_OVERHEAD_BYTES).min(message);
        let mut bytes = fits(rustix::net::sockopt::socket_send_buffer_size(&self.socket)?);
        if bytes < message {
            // More than the system allows is given as what it allows; the next line sees how much that was.
            let _ = rustix::net::sockopt::set_socket_send_buffer_size(&self.socket, message);
            bytes = fits(rustix::net::sockopt::socket_send_buffer_size(&self.socket)?);
        }
        let payload = bytes.saturating_sub(HEADER_BYTES);
        if payload < 2 + codec::TEXT_BYTES_MAX {
            return Err(Error::Io(io::Error::other(
                "the socket's send buffer is too small for any message",
            ))
            .into());
        }
        Ok(payload)
    }
}

fn size(bytes: u32) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
