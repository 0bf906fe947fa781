//! One non-blocking byte stream: TCP or a unix socket, plain or under TLS, with what still has to be written to it.
//!
//! The owner appends to `outbox`, and calls `flush` once per turn of its loop: one write for all that has come together.
//! An outbox that has been written gives its memory back to the worker's store of spare buffers, so that an idle
//! connection holds none.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recv, recvmsg, send, sockopt,
};
use rustls::pki_types::ServerName;
use wire::wipe;

use super::spares::{SPARE_BYTES_MAX, Spares};

/// More room than this in an outbox that is left as it is is given back.
const SPARE_BYTES_KEPT: usize = 8 * 1024;

/// Descriptors that may wait for the rest of the call that brought them.
const DESCRIPTORS_MAX: usize = 8;

/// The socket below.
#[derive(Debug)]
pub enum Raw {
    /// TCP over v4 or v6.
    Tcp(TcpStream),
    /// A unix stream socket.
    Unix(UnixStream),
}

impl Raw {
    /// Connects without waiting; a writable event tells how it went.
    pub fn connect_tcp(to: SocketAddr) -> io::Result<Raw> {
        let stream = TcpStream::connect(to)?;
        // Messages are small and answers are waited for.
        let _ = stream.set_nodelay(true);
        Ok(Raw::Tcp(stream))
    }

    /// See `connect_tcp`.
    pub fn connect_unix(path: &Path) -> io::Result<Raw> {
        Ok(Raw::Unix(UnixStream::connect(path)?))
    }

    /// Whether a connect has failed.
    pub fn take_error(&self) -> Option<io::Error> {
        let error = match self {
            Raw::Tcp(stream) => stream.take_error(),
            Raw::Unix(stream) => stream.take_error(),
        };
        error.unwrap_or_else(Some)
    }

    /// Whether a connect has succeeded.
    pub fn is_connected(&self) -> bool {
        match self {
            Raw::Tcp(stream) => stream.peer_addr().is_ok(),
            Raw::Unix(stream) => stream.peer_addr().is_ok(),
        }
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Raw::Tcp(stream) => registry.register(stream, token, both),
            Raw::Unix(stream) => registry.register(stream, token, both),
        }
    }

    /// Unix sockets alone: see `Stream::heed`.
    fn reregister(&mut self, registry: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        match self {
            Raw::Tcp(_) => Ok(()),
            Raw::Unix(stream) => registry.reregister(stream, token, interest),
        }
    }

    fn shutdown(&self) {
        let _ = match self {
            Raw::Tcp(stream) => stream.shutdown(Shutdown::Write),
            Raw::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }
}

impl AsFd for Raw {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Raw::Tcp(stream) => stream.as_fd(),
            Raw::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Read for Raw {
    /// Straight to the kernel: as a point at which a thread may be cancelled, the C library's costs a little each time.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        Ok(recv(self.as_fd(), buf, RecvFlags::empty())?.0)
    }
}

impl Write for Raw {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(send(self.as_fd(), buf, SendFlags::NOSIGNAL)?)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Raw::Tcp(stream) => stream.write_vectored(bufs),
            Raw::Unix(stream) => stream.write_vectored(bufs),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a read gave.
#[derive(Clone, Copy, Debug)]
pub enum Got {
    /// So many bytes; `drained`: there was no more just now.
    Bytes { n: usize, drained: bool },
    /// Nothing just now.
    Nothing,
    /// The other side will send nothing more, or the stream broke.
    End,
}

/// What a flush left.
#[derive(Debug, PartialEq, Eq)]
pub enum Flushed {
    /// Nothing.
    All,
    /// The socket takes no more just now; a writable event follows.
    Blocked,
    /// The stream broke.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub struct Stream {
    raw: Raw,
    tls: Option<Box<rustls::Connection>>,
    outbox: Vec<u8>,
    written: usize,
    /// Something secret is in the outbox: it is wiped once written.
    sensitive: bool,
    token: Token,
    /// Whether a writable event is wanted.
    writable_wanted: bool,
    /// Why TLS broke.
    fault: Option<Box<str>>,
    /// What came by SCM_RIGHTS, where that is wanted; elsewhere the kernel closes it.
    descriptors: Option<Box<Descriptors>>,
}

/// Descriptors that came with bytes and were not claimed yet, in their order.
#[derive(Debug, Default)]
struct Descriptors {
    waiting: VecDeque<OwnedFd>,
    /// More came at once, or without being claimed, than anybody sends in earnest.
    excess: bool,
}

impl Stream {
    /// A stream over a socket, not yet registered.
    pub fn new(raw: Raw) -> Self {
        Stream {
            raw,
            tls: None,
            outbox: Vec::new(),
            written: 0,
            sensitive: false,
            token: Token(usize::MAX),
            writable_wanted: true,
            fault: None,
            descriptors: None,
        }
    }

    /// A unix socket gets a send buffer of so many bytes, as far as the system allows: large answers then wait in it and not
    /// for each other.
    pub fn widen(&self, bytes: usize) {
        if let Raw::Unix(stream) = &self.raw {
            widen_send_buffer(stream, bytes);
        }
    }

    /// From now on, what comes by SCM_RIGHTS over a unix socket is kept for `take_descriptor`.
    pub fn receive_descriptors(&mut self) {
        if matches!(self.raw, Raw::Unix(_)) {
            self.descriptors = Some(Box::default());
        }
    }

    /// The oldest descriptor that came and was not claimed.
    pub fn take_descriptor(&mut self) -> Option<OwnedFd> {
        self.descriptors.as_mut()?.waiting.pop_front()
    }

    /// Closes those that nobody has claimed.
    pub fn close_descriptors(&mut self) {
        if let Some(descriptors) = &mut self.descriptors {
            descriptors.waiting.clear();
        }
    }

    /// Whether the other side has sent more descriptors than it may.
    pub fn descriptors_excess(&self) -> bool {
        self.descriptors.as_ref().is_some_and(|descriptors| descriptors.excess)
    }

    /// Edge-triggered, for reading and writing.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.token = token;
        self.writable_wanted = true;
        self.raw.register(registry, token)
    }

    /// A unix socket becomes writable anew, and wakes its worker, each time its peer has read, whether or not anything
    /// waits to be written; so that is heeded only while something does. (TCP tells only those whom it has refused.)
    fn heed(&mut self, registry: &Registry, writable: bool) {
        let interest = if writable {
            Interest::READABLE | Interest::WRITABLE
        } else {
            Interest::READABLE
        };
        if self.writable_wanted != writable && self.raw.reregister(registry, self.token, interest).is_ok() {
            self.writable_wanted = writable;
        }
    }

    /// Out of the poll; the socket closes when the stream is dropped.
    pub fn deregister(&mut self, registry: &Registry) {
        let _ = match &mut self.raw {
            Raw::Tcp(stream) => registry.deregister(stream),
            Raw::Unix(stream) => registry.deregister(stream),
        };
    }

    /// The socket below.
    pub fn raw(&self) -> &Raw {
        &self.raw
    }

    /// What waits to be written. Mark the stream dirty after appending.
    #[inline]
    pub fn outbox(&mut self, spares: &mut Spares) -> &mut Vec<u8> {
        if self.outbox.capacity() == 0 {
            self.outbox = spares.take();
        }
        &mut self.outbox
    }

    /// Bytes that wait to be written.
    #[inline]
    pub fn waiting(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// Nothing more is added for a while: what has been written, and room for more, is given back.
    pub fn shrink(&mut self) {
        if self.outbox.capacity() - self.waiting() > SPARE_BYTES_KEPT {
            let rest = self.outbox.get(self.written..).unwrap_or_default().to_vec();
            let mut before = std::mem::replace(&mut self.outbox, rest);
            self.written = 0;
            if self.sensitive {
                wipe(&mut before);
            }
        }
    }

    /// What is in the outbox now is a secret.
    pub fn mark_sensitive(&mut self) {
        self.sensitive = true;
    }

    /// From now on everything is under TLS, as the server of the handshake.
    pub fn accept_tls(&mut self, config: Arc<rustls::ServerConfig>) -> Result<(), rustls::Error> {
        let mut connection = rustls::ServerConnection::new(config)?;
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection.into()));
        Ok(())
    }

    /// From now on everything is under TLS, as the client of the handshake.
    pub fn connect_tls(
        &mut self,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), rustls::Error> {
        let mut connection = rustls::ClientConnection::new(config, name)?;
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection.into()));
        Ok(())
    }

    /// Why TLS broke, where it did.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// The certificate that the other side has shown and TLS has verified, in DER.
    pub fn peer_certificate(&self) -> Option<&[u8]> {
        let chain = self.tls.as_ref()?.peer_certificates()?;
        chain.first().map(|certificate| &**certificate)
    }

    /// Whether a TLS handshake is under way.
    pub fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// Whether what is read is what the socket brings, and nothing with it.
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && self.descriptors.is_none()
    }

    /// One read into `buf`.
    pub fn read(&mut self, buf: &mut [u8]) -> Got {
        let Some(tls) = &mut self.tls else {
            let size = buf.len();
            let mut brought = false;
            let read = match (&self.raw, &mut self.descriptors) {
                (Raw::Unix(stream), Some(descriptors)) => receive(stream, buf, descriptors, &mut brought),
                _ => self.raw.read(buf),
            };
            return match read {
                Ok(0) => Got::End,
                // A read ends behind the bytes that brought a descriptor, whatever comes next.
                Ok(n) => Got::Bytes {
                    n,
                    drained: n < size && !brought,
                },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Got::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Got::Bytes { n: 0, drained: false },
                Err(_) => Got::End,
            };
        };
        let mut at_end = false;
        loop {
            match tls.reader().read(buf) {
                Ok(0) => return Got::End,
                Ok(n) => return Got::Bytes { n, drained: false },
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Got::End,
            }
            if at_end {
                return Got::End;
            }
            match tls.read_tls(&mut self.raw) {
                Ok(0) => at_end = true,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Got::Nothing,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Got::End,
            }
            if let Err(error) = tls.process_new_packets() {
                self.fault = Some(error.to_string().into());
                // The alert that says why goes out if it can.
                let _ = tls.write_tls(&mut self.raw);
                return Got::End;
            }
        }
    }

    /// Writes what waits.
    pub fn flush(&mut self, spares: &mut Spares, registry: &Registry) -> Flushed {
        let flushed = match self.tls {
            None => self.flush_plain(),
            Some(_) => self.flush_tls(),
        };
        if flushed == Flushed::All && self.outbox.capacity() > 0 {
            let mut buffer = std::mem::take(&mut self.outbox);
            if std::mem::take(&mut self.sensitive) {
                wipe(&mut buffer);
            }
            self.written = 0;
            spares.give(buffer);
        }
        match flushed {
            Flushed::All => self.heed(registry, false),
            Flushed::Blocked => {
                if self.tls.is_some() {
                    self.compact();
                }
                self.heed(registry, true);
            }
            Flushed::Broken => {}
        }
        flushed
    }

    /// Whether something may be written past the outbox: nothing waits there, and the stream is not under TLS.
    pub fn may_write_through(&self) -> bool {
        self.tls.is_none() && self.waiting() == 0
    }

    /// Writes at once, without a copy in the outbox; what the socket does not take waits there. Only where
    /// [`may_write_through`](Self::may_write_through). True: all was written; else mark the stream dirty.
    pub fn write_through(&mut self, spares: &mut Spares, header: &[u8], payload: &[u8]) -> bool {
        let written = loop {
            match self.raw.write_vectored(&[IoSlice::new(header), IoSlice::new(payload)]) {
                Ok(written) => break written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Whatever it is, the flush that follows meets it too.
                Err(_) => break 0,
            }
        };
        let payload_written = written.saturating_sub(header.len());
        if payload_written == payload.len() {
            return true;
        }
        let outbox = self.outbox(spares);
        outbox.extend_from_slice(header.get(written..).unwrap_or_default());
        outbox.extend_from_slice(payload.get(payload_written..).unwrap_or_default());
        false
    }

    /// Nothing more will be written; the other side may still be read.
    pub fn shutdown(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = tls.write_tls(&mut self.raw);
        }
        self.raw.shutdown();
    }

    fn flush_plain(&mut self) -> Flushed {
        while let Some(rest) = self.outbox.get(self.written..).filter(|rest| !rest.is_empty()) {
            match self.raw.write(rest) {
                Ok(0) => return Flushed::Broken,
                Ok(n) => {
                    let partly = n < rest.len();
                    self.written += n;
                    if partly {
                        self.compact();
                        return Flushed::Blocked;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Flushed::Broken,
            }
        }
        Flushed::All
    }

    fn flush_tls(&mut self) -> Flushed {
        let Some(tls) = &mut self.tls else { return Flushed::All };
        loop {
            while tls.wants_write() {
                match tls.write_tls(&mut self.raw) {
                    Ok(0) => return Flushed::Broken,
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Flushed::Blocked,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return Flushed::Broken,
                }
            }
            if tls.is_handshaking() {
                // What waits follows the handshake.
                return if self.waiting_len() == 0 {
                    Flushed::All
                } else {
                    Flushed::Blocked
                };
            }
            let Some(rest) = self.outbox.get(self.written..).filter(|rest| !rest.is_empty()) else {
                return Flushed::All;
            };
            let Some(Ok(n)) = Some(
                tls.writer()
                    .write(rest.get(..rest.len().min(SPARE_BYTES_MAX)).unwrap_or(rest)),
            ) else {
                return Flushed::Broken;
            };
            self.written += n;
        }
    }

    fn waiting_len(&self) -> usize {
        self.outbox.len() - self.written
    }

    /// A half-written large outbox does not keep what has been written, nor room for as much.
    fn compact(&mut self) {
        if self.written >= SPARE_BYTES_MAX || self.written * 2 >= self.outbox.len() {
            let left = self.outbox.len() - self.written;
            self.outbox.copy_within(self.written.., 0);
            if self.sensitive {
                wipe::wipe(self.outbox.get_mut(left..).unwrap_or_default());
            }
            self.outbox.truncate(left);
            self.written = 0;
            // What it keeps is what waits, which is what is counted. A secret is not left where it was.
            if !self.sensitive && self.outbox.capacity() > left + SPARE_BYTES_KEPT {
                self.outbox.shrink_to_fit();
            }
        }
    }
}

/// Asks the kernel for a send buffer of so many bytes: beyond the system's limit where the process may, else as much as that
/// allows.
pub fn widen_send_buffer(socket: impl AsFd, bytes: usize) {
    let socket = socket.as_fd();
    let asked = sockopt::set_socket_send_buffer_size_force(socket, bytes);
    let _ = asked.or_else(|_| sockopt::set_socket_send_buffer_size(socket, bytes));
}

/// One read of a unix socket, and the descriptors that came with it.
fn receive(
    stream: &UnixStream,
    buf: &mut [u8],
    descriptors: &mut Descriptors,
    brought: &mut bool,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(buf)];
    let got = recvmsg(stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut came = 0;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(found) = message {
            for descriptor in found {
                came += 1;
                descriptors.waiting.push_back(descriptor);
            }
        }
    }
    *brought = came > 0 || got.flags.contains(ReturnFlags::CTRUNC);
    if came > 1 || got.flags.contains(ReturnFlags::CTRUNC) || descriptors.waiting.len() > DESCRIPTORS_MAX {
        descriptors.excess = true;
        descriptors.waiting.clear();
    }
    Ok(got.bytes)
}

/// Empties a buffer that held a secret. Only what is in it is overwritten: its unused capacity is ten times as long, and has
/// held nothing that was not wiped.
pub fn wipe(buffer: &mut Vec<u8>) {
    wipe::wipe(buffer);
    buffer.clear();
}
