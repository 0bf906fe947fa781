//! A helper: the process, its socket, its log, and the memory shared with it.
//!
//! The socket carries whole datagrams, or with D-Bus a stream of bytes, and is never waited for. What a helper sends beside them, descriptors above all, is
//! not taken: no room is offered, and the kernel closes them.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{ExitStatus, Stdio};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recv,
    send, sendmsg, socketpair, sockopt,
};
use rustix::pipe::{PipeFlags, pipe_with};
use wire::helper::{self, Welcome};
use wire::rpc::PAYLOAD_BYTES_MAX;
use wire::wipe::wipe;

use super::command::{self, Prepared};
use super::memory::Memory;
use super::process::Process;
use crate::config::plan::{Service, Transport};
use crate::net::stream::widen_send_buffer;

/// The largest message, where the socket takes it.
pub const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// Asked of the kernel for each end of the socket, which gives what its own limit allows, and 200 KiB by default. A unix socket
/// says that it takes more when three quarters of its buffer are free: so a large call should fit in whole.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;
/// Of an end's buffer no message can use this.
const SEND_BUFFER_RESERVED: usize = 1024;

/// A datagram of so many bytes is put together before it is sent: copying it costs less than saying where its parts are.
const PLAIN_BYTES_MAX: usize = 512;

/// A helper that was started and has not been reaped.
#[derive(Debug)]
pub struct Helper {
    process: Process,
    socket: OwnedFd,
    log: Option<OwnedFd>,
    memory: Option<Memory>,
    message_bytes_max: usize,
    token: Token,
    writable_wanted: bool,
}

/// What a read of the socket gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Said {
    /// A datagram of so many bytes; of a stream, so many bytes of it.
    Message(usize),
    /// One that is larger than the largest message; its beginning was read, the rest is lost.
    TooLarge,
    /// None just now.
    Nothing,
    /// The helper has closed it, or said nothing in a datagram of its own.
    End,
}

/// What a write to the socket gave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// All of it.
    Whole,
    /// Nothing: there is no room just now. A writable event follows.
    Blocked,
    /// Nothing, and nothing ever will be.
    Broken,
}

/// What the variable `USHERD_DBUS_FD` says: which descriptor of a helper is its socket.
const DBUS_DESCRIPTOR: &str = "0";

impl Helper {
    /// Starts a service's helper; its `welcome` waits for it, where it is one of our protocol.
    ///
    /// # Errors
    /// The system's: no such program, no permission, out of processes, memory or descriptors.
    pub fn start(service: &Service) -> io::Result<Helper> {
        let dbus = service.transport() == Transport::Dbus;
        let kind = if dbus {
            SocketType::STREAM
        } else {
            SocketType::SEQPACKET
        };
        let (ours, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        let mut message_bytes_max = MESSAGE_BYTES_MAX;
        for end in [&ours, &theirs] {
            widen_send_buffer(end, SEND_BUFFER_BYTES);
            let room = sockopt::socket_send_buffer_size(end)?.saturating_sub(SEND_BUFFER_RESERVED);
            message_bytes_max = message_bytes_max.min(room);
        }
        rustix::io::ioctl_fionbio(&ours, true)?;
        let memory = match service.shared_memory {
            // What two calls put into it at once would be one.
            0 => None,
            _ if dbus || service.concurrency > 1 => None,
            bytes => Some(Memory::new(bytes)?),
        };
        if !dbus {
            welcome(service, &ours, memory.as_ref(), message_bytes_max)?;
        }
        let (log, output) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&log, true)?;
        let Prepared { mut command, .. } = command::prepare(service)?;
        let (variable, value) = if dbus {
            ("USHERD_DBUS_FD", DBUS_DESCRIPTOR.to_owned())
        } else {
            ("USHERD_HELPER", helper::VERSION.to_string())
        };
        command
            .env(variable, value)
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output));
        let process = Process::start(&mut command)?;
        Ok(Helper {
            process,
            socket: ours,
            log: Some(log),
            memory,
            message_bytes_max,
            token: Token(usize::MAX),
            writable_wanted: false,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The memory shared with it.
    pub fn memory(&self) -> Option<&Memory> {
        self.memory.as_ref()
    }

    /// The largest message either side sends.
    pub fn message_bytes_max(&self) -> usize {
        self.message_bytes_max
    }

    /// Puts its three descriptors into the poll, under the tokens for its socket, its log and its end.
    ///
    /// # Errors
    /// The system's.
    pub fn register(&mut self, registry: &Registry, tokens: [Token; 3]) -> io::Result<()> {
        let [to_socket, to_log, to_end] = tokens;
        self.token = to_socket;
        registry.register(&mut SourceFd(&self.socket.as_raw_fd()), to_socket, Interest::READABLE)?;
        if let Some(log) = &self.log {
            registry.register(&mut SourceFd(&log.as_raw_fd()), to_log, Interest::READABLE)?;
        }
        self.process.register(registry, to_end)
    }

    /// Whether it is told that the socket takes more. A unix socket says so each time its peer has read, which would wake
    /// the worker once more for each call: so only while something waits.
    pub fn heed(&mut self, registry: &Registry, writable: bool) {
        let interest = if writable {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        let mut source = SourceFd(&self.socket.as_raw_fd());
        if self.writable_wanted != writable && registry.reregister(&mut source, self.token, interest).is_ok() {
            self.writable_wanted = writable;
        }
    }

    /// Out of the poll; the descriptors close when it is dropped.
    pub fn deregister(&mut self, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()));
        self.close_log(registry);
        self.process.deregister(registry);
    }

    /// Sends one datagram, perhaps with a descriptor.
    pub fn send(&self, parts: &[IoSlice<'_>], descriptor: Option<BorrowedFd<'_>>) -> Sent {
        if descriptor.is_none() && parts.iter().map(|part| part.len()).sum::<usize>() <= PLAIN_BYTES_MAX {
            return self.send_plain(parts);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        let one = descriptor.map(|descriptor| [descriptor]);
        if let Some(one) = &one {
            beside.push(SendAncillaryMessage::ScmRights(one));
        }
        loop {
            match sendmsg(&self.socket, parts, &mut beside, SendFlags::NOSIGNAL) {
                Ok(_) => return Sent::Whole,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return Sent::Blocked,
                Err(_) => return Sent::Broken,
            }
        }
    }

    /// Sends a short datagram: in one piece, which costs the kernel less than its parts and what may come beside them.
    fn send_plain(&self, parts: &[IoSlice<'_>]) -> Sent {
        let mut whole = [0; PLAIN_BYTES_MAX];
        let mut len = 0;
        for part in parts {
            if let Some(room) = whole.get_mut(len..len + part.len()) {
                room.copy_from_slice(part);
                len += part.len();
            }
        }
        let whole = whole.get_mut(..len).unwrap_or_default();
        let sent = loop {
            match send(&self.socket, whole, SendFlags::NOSIGNAL) {
                Ok(_) => break Sent::Whole,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => break Sent::Blocked,
                Err(_) => break Sent::Broken,
            }
        };
        wipe(whole);
        sent
    }

    /// Writes to a stream: how many bytes it took. Blocked, where it takes none just now.
    ///
    /// # Errors
    /// [`Sent::Blocked`] or [`Sent::Broken`].
    pub fn write(&self, parts: &[IoSlice<'_>]) -> Result<usize, Sent> {
        loop {
            match sendmsg(
                &self.socket,
                parts,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL,
            ) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN | Errno::NOBUFS) => return Err(Sent::Blocked),
                Err(_) => return Err(Sent::Broken),
            }
        }
    }

    /// Reads of a stream what there is, as much as `into` holds. What comes beside it is not taken.
    pub fn read(&self, into: &mut [u8]) -> Said {
        loop {
            match recv(&self.socket, &mut *into, RecvFlags::empty()) {
                Ok((_, 0)) => return Said::End,
                Ok((_, count)) => return Said::Message(count),
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(Errno::AGAIN) => return Said::Nothing,
                Err(_) => return Said::End,
            }
        }
    }

    /// Reads one datagram.
    pub fn receive(&self, into: &mut [u8]) -> Said {
        let room = into.len();
        loop {
            match recv(&self.socket, &mut *into, RecvFlags::TRUNC) {
                Ok((_, 0)) => return Said::End,
                Ok((_, whole)) if whole > room.min(self.message_bytes_max) => return Said::TooLarge,
                Ok((_, whole)) => return Said::Message(whole),
                // It has ended without reading what it was told, which is said once, before what it has said itself.
                Err(Errno::INTR | Errno::CONNRESET) => {}
                Err(Errno::AGAIN) => return Said::Nothing,
                Err(_) => return Said::End,
            }
        }
    }

    /// Reads of what it has written to its standard output and error; none: nothing just now, 0: it is at its end.
    pub fn read_log(&self, into: &mut [u8]) -> Option<usize> {
        let log = self.log.as_ref()?;
        loop {
            match rustix::io::read(log, &mut *into) {
                Ok(n) => return Some(n),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => return Some(0),
            }
        }
    }

    /// Its log is not read any more.
    pub fn close_log(&mut self, registry: &Registry) {
        if let Some(log) = self.log.take() {
            let _ = registry.deregister(&mut SourceFd(&log.as_raw_fd()));
        }
    }

    /// SIGINT to it and what it has started.
    pub fn interrupt(&self) {
        self.process.interrupt();
    }

    /// SIGTERM to it and what it has started.
    pub fn terminate(&self) {
        self.process.terminate();
    }

    /// SIGKILL to it and what it has started.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// See [`Process::reap`].
    pub fn reap(&mut self) -> Option<ExitStatus> {
        self.process.reap()
    }

    /// Its resident memory now, in bytes; none: it cannot be read.
    pub fn resident_bytes(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/statm", self.id())).ok()?;
        let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
        Some(pages.saturating_mul(rustix::param::page_size() as u64))
    }
}

fn welcome(service: &Service, socket: &OwnedFd, memory: Option<&Memory>, message_bytes_max: usize) -> io::Result<()> {
    let number = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    let welcome = Welcome {
        message_bytes_max: number(message_bytes_max),
        shared_bytes: number(memory.map_or(0, Memory::len)),
        call_bytes_max: number(PAYLOAD_BYTES_MAX),
        answer_bytes_max: number(service.reply_bytes_max),
        service: &service.name,
    };
    helper::write_welcome(&mut message, &welcome).map_err(|fault| io::Error::other(fault.to_string()))?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let one = memory.map(|memory| [memory.descriptor()]);
    if let Some(one) = &one {
        beside.push(SendAncillaryMessage::ScmRights(one));
    }
    sendmsg(
        socket.as_fd(),
        &[IoSlice::new(&message)],
        &mut beside,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}
