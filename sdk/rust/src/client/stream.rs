//! The bytes of a connection: unix, TCP, or TLS over TCP; one thread reads, any thread writes.
//!
//! Writing has one lock, and reading never waits for it: a server may leave us unread until we have read what it wrote.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use wire::frame::Step;
use wire::rpc::{self, ErrorCode};

use super::error::{CallError, ConnectError};
use super::table::{Table, refused};
#[cfg(feature = "tls")]
use super::tls::Tls;

/// Read at once; a longer frame is read in several goes.
const READ_BYTES: usize = 64 << 10;

pub(super) struct Stream {
    socket: Socket,
    /// Held while a frame is written.
    writing: Mutex<()>,
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Arc<Tls>>,
}

/// The reading thread's end.
pub(super) struct Reader {
    socket: Socket,
    #[cfg(feature = "tls")]
    tls: Option<std::sync::Arc<Tls>>,
}

pub(super) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Stream {
    #[cfg(not(feature = "tls"))]
    pub(super) fn connect(address: &str, ends: Instant) -> Result<(Self, Reader), ConnectError> {
        let socket = Socket::connect(address, ends)?;
        let reader = Reader {
            socket: socket.try_clone()?,
        };
        let writing = Mutex::new(());
        Ok((Self { socket, writing }, reader))
    }

    #[cfg(feature = "tls")]
    pub(super) fn connect(
        address: &str,
        ends: Instant,
        config: Option<std::sync::Arc<rustls::ClientConfig>>,
    ) -> Result<(Self, Reader), ConnectError> {
        let socket = Socket::connect(address, ends)?;
        let tls = match (config, &socket) {
            (None, _) => None,
            (Some(config), Socket::Tcp(tcp)) => {
                let (host, _) = host_and_port(address)?;
                Some(std::sync::Arc::new(Tls::connect(config, host, tcp, ends)?))
            }
            (Some(_), Socket::Unix(_)) => {
                return Err(ConnectError::Address(
                    "TLS is for HOST:PORT, not for a unix socket".to_string(),
                ));
            }
        };
        let reader = Reader {
            socket: socket.try_clone()?,
            tls: tls.clone(),
        };
        let writing = Mutex::new(());
        Ok((Self { socket, writing, tls }, reader))
    }

    /// Writes whole frames; a descriptor goes with their first byte.
    pub(super) fn write(&self, frames: &[u8], descriptor: Option<&OwnedFd>) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        #[cfg(feature = "tls")]
        if let (Some(tls), None) = (&self.tls, descriptor) {
            return tls.write(frames, &self.socket);
        }
        match (&self.socket, descriptor) {
            (socket, None) => socket.write_all(frames),
            (Socket::Unix(unix), Some(descriptor)) => {
                let sent = send_with(unix, frames, descriptor)?;
                self.socket.write_all(frames.get(sent..).unwrap_or(&[]))
            }
            (Socket::Tcp(_), Some(_)) => {
                let why = "a descriptor goes over unix sockets only";
                Err(io::Error::new(io::ErrorKind::Unsupported, why))
            }
        }
    }

    /// The reading thread ends too.
    pub(super) fn close(&self) {
        self.socket.shutdown();
    }
}

impl Reader {
    /// Hands every frame to the table, until the connection ends.
    pub(super) fn run(self, table: &Table) {
        let error = match self.read(table) {
            Ok(()) => CallError::Lost("the server has closed it".to_string()),
            Err(error) => error,
        };
        table.end(&error);
        self.socket.shutdown();
    }

    fn read(&self, table: &Table) -> Result<(), CallError> {
        let lost = |error: io::Error| CallError::Lost(error.to_string());
        let mut buffer: Vec<u8> = Vec::new();
        let mut scratch = vec![0; READ_BYTES];
        loop {
            let read = match self.socket.read(&mut scratch) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(lost)?,
            };
            let bytes = scratch.get(..read).unwrap_or(&[]);
            #[cfg(feature = "tls")]
            if let Some(tls) = &self.tls {
                if tls.read(bytes, &mut buffer).map_err(lost)? {
                    frames(&mut buffer, table)?;
                    return Ok(());
                }
                frames(&mut buffer, table)?;
                continue;
            }
            if bytes.is_empty() {
                return Ok(());
            }
            buffer.extend_from_slice(bytes);
            frames(&mut buffer, table)?;
        }
    }
}

/// Takes the whole frames from the front of the buffer.
fn frames(buffer: &mut Vec<u8>, table: &Table) -> Result<(), CallError> {
    let mut at = 0;
    let protocol = |malformed: wire::frame::Malformed| refused(ErrorCode::Protocol, malformed.to_string());
    loop {
        let rest = buffer.get(at..).unwrap_or(&[]);
        match rpc::split(rest, rpc::FRAME_BYTES_MAX) {
            Step::NeedMore { .. } => break,
            Step::Malformed(malformed) => return Err(protocol(malformed)),
            Step::Frame { len } => {
                let frame = rpc::peek(rest.get(..len).unwrap_or(rest)).map_err(protocol)?;
                table.receive(&frame)?;
                at += len;
            }
        }
    }
    buffer.drain(..at);
    Ok(())
}

impl Socket {
    fn connect(address: &str, ends: Instant) -> Result<Self, ConnectError> {
        if let Some(path) = address.strip_prefix("unix:") {
            return Ok(Self::Unix(UnixStream::connect(path)?));
        }
        let (host, port) = host_and_port(address)?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for place in (host, port).to_socket_addrs()? {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            match TcpStream::connect_timeout(&place, left) {
                Ok(stream) => {
                    // Calls are small and waited for.
                    stream.set_nodelay(true)?;
                    return Ok(Self::Tcp(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Unix(stream) => Self::Unix(stream.try_clone()?),
            Self::Tcp(stream) => Self::Tcp(stream.try_clone()?),
        })
    }

    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => (&*stream).read(buffer),
            Self::Tcp(stream) => (&*stream).read(buffer),
        }
    }

    pub(super) fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Unix(stream) => (&*stream).write_all(bytes),
            Self::Tcp(stream) => (&*stream).write_all(bytes),
        }
    }

    /// A connection that has ended already is ended.
    fn shutdown(&self) {
        let _ = match self {
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

fn send_with(socket: &UnixStream, bytes: &[u8], descriptor: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let descriptors = [descriptor.as_fd()];
    loop {
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
            return Err(io::Error::other("no room for a descriptor"));
        }
        match rustix::net::sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL) {
            Err(Errno::INTR) => {}
            sent => return Ok(sent?),
        }
    }
}

fn host_and_port(address: &str) -> Result<(&str, u16), ConnectError> {
    let parts = address.rsplit_once(':').and_then(|(host, port)| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = inner.unwrap_or(host);
        Some((host, port.parse().ok().filter(|port| *port != 0)?)).filter(|_| !host.is_empty())
    });
    parts.ok_or_else(|| {
        let right = "unix:/run/usherd/rpc.sock or host:port would be";
        ConnectError::Address(format!("{address:?} is no address: {right}"))
    })
}
