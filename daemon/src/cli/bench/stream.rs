//! One connection's bytes: TCP or a unix socket, with TLS or without.
//!
//! Sockets are non-blocking and registered edge-triggered, once. A read that fills less than the buffer has emptied the
//! socket (epoll(7)), so one read serves one readiness; a write goes out whole in the usual case, and what does not fit
//! waits in the connection's own buffer until the socket is writable again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

/// Where to connect, resolved once.
#[derive(Clone, Debug)]
pub(super) enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// The path of a unix socket (ldapi).
    Unix(PathBuf),
}

/// How to speak TLS, wherever it is spoken.
#[derive(Clone)]
pub(super) struct Tls {
    /// Roots and versions.
    pub(super) config: Arc<ClientConfig>,
    /// Whom the server's certificate must name.
    pub(super) name: ServerName<'static>,
}

/// Buffers of one thread, used by one connection after another.
pub(super) struct Buffers {
    raw: Box<[u8]>,
    clear: Vec<u8>,
}

const READ_BYTES: usize = 64 << 10;

impl Buffers {
    /// 64 KiB to read into, and room for what TLS decrypts from it.
    pub(super) fn new() -> Self {
        Buffers {
            raw: vec![0; READ_BYTES].into_boxed_slice(),
            clear: Vec::new(),
        }
    }
}

/// What one read gave.
pub(super) struct Received<'a> {
    /// Bytes as the server meant them, decrypted; may be empty.
    pub(super) bytes: &'a [u8],
    /// The buffer was filled: the socket may hold more, and will not say so again.
    pub(super) more: bool,
    /// The server has closed its side; nothing will follow.
    pub(super) ended: bool,
    /// The TLS handshake was done within this read, and what kind it was.
    pub(super) shaken: Option<HandshakeKind>,
}

enum Socket {
    Tcp(mio::net::TcpStream),
    Unix(mio::net::UnixStream),
}

/// One connection.
pub(super) struct Stream {
    socket: Socket,
    tls: Option<Box<ClientConnection>>,
}

impl Stream {
    /// Begins to connect; the socket becomes writable when that is decided.
    ///
    /// # Errors
    /// Of socket(2) and connect(2), where they are known at once.
    pub(super) fn connect(address: &Address, registry: &Registry, token: Token) -> io::Result<Self> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let socket = match address {
            Address::Tcp(address) => {
                let mut socket = mio::net::TcpStream::connect(*address)?;
                registry.register(&mut socket, token, interest)?;
                Socket::Tcp(socket)
            }
            Address::Unix(path) => {
                let mut socket = mio::net::UnixStream::connect(path)?;
                registry.register(&mut socket, token, interest)?;
                Socket::Unix(socket)
            }
        };
        Ok(Stream { socket, tls: None })
    }

    /// Whether the connection is made, asked when the socket first became writable.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(super) fn is_connected(&self) -> io::Result<bool> {
        let (error, peer) = match &self.socket {
            Socket::Tcp(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
            Socket::Unix(socket) => (socket.take_error()?, socket.peer_addr().map(drop)),
        };
        if let Some(error) = error {
            return Err(error);
        }
        match peer {
            Ok(()) => {
                // Nagle's algorithm would hold back small requests while others are under way.
                if let Socket::Tcp(socket) = &self.socket {
                    socket.set_nodelay(true)?;
                }
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Speaks TLS from here on. The handshake goes on inside `receive` and `send`.
    ///
    /// # Errors
    /// When rustls refuses the name or the settings.
    pub(super) fn start_tls(&mut self, tls: &Tls) -> io::Result<()> {
        let mut connection =
            ClientConnection::new(Arc::clone(&tls.config), tls.name.clone()).map_err(io::Error::other)?;
        // What is written before the handshake's end waits inside; its bound is the caller's depth.
        connection.set_buffer_limit(None);
        self.tls = Some(Box::new(connection));
        Ok(())
    }

    /// Reads once. Nothing there is no error: zero bytes, not ended.
    ///
    /// # Errors
    /// Of read(2), and of TLS.
    pub(super) fn receive<'a>(&mut self, buffers: &'a mut Buffers) -> io::Result<Received<'a>> {
        let got = match self.socket.read(&mut buffers.raw) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                let more = error.kind() == ErrorKind::Interrupted;
                return Ok(Received {
                    bytes: &[],
                    more,
                    ended: false,
                    shaken: None,
                });
            }
            Err(error) => return Err(error),
        };
        let (more, mut ended) = (got == READ_BYTES, got == 0);
        let raw = buffers.raw.get(..got).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            return Ok(Received {
                bytes: raw,
                more,
                ended,
                shaken: None,
            });
        };
        buffers.clear.clear();
        let shaking = tls.is_handshaking();
        ended |= decrypt(tls, raw, &mut buffers.clear)?;
        let shaken = if shaking && !tls.is_handshaking() {
            tls.handshake_kind()
        } else {
            None
        };
        send_tls(tls, &mut self.socket)?;
        Ok(Received {
            bytes: &buffers.clear,
            more,
            ended,
            shaken,
        })
    }

    /// Writes what fits of `out` and removes it there.
    ///
    /// # Errors
    /// Of write(2).
    pub(super) fn send(&mut self, out: &mut Vec<u8>) -> io::Result<()> {
        if let Some(tls) = &mut self.tls {
            tls.writer().write_all(out)?;
            out.clear();
            return send_tls(tls, &mut self.socket);
        }
        let mut sent = 0;
        while let Some(rest) = out.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        out.drain(..sent);
        Ok(())
    }

    /// Whether TLS is spoken.
    pub(super) fn is_tls(&self) -> bool {
        self.tls.is_some()
    }
}

/// Feeds received bytes to TLS and collects what they decrypt to; true when the peer has said that it closes.
fn decrypt(tls: &mut ClientConnection, mut raw: &[u8], clear: &mut Vec<u8>) -> io::Result<bool> {
    let mut closes = false;
    while !raw.is_empty() {
        tls.read_tls(&mut raw)?;
        let state = tls.process_new_packets().map_err(io::Error::other)?;
        closes |= state.peer_has_closed();
        let start = clear.len();
        clear.resize(start + state.plaintext_bytes_to_read(), 0);
        if let Some(room) = clear.get_mut(start..) {
            tls.reader().read_exact(room)?;
        }
        if closes {
            break;
        }
    }
    Ok(closes)
}

fn send_tls(tls: &mut ClientConnection, socket: &mut Socket) -> io::Result<()> {
    while tls.wants_write() {
        match tls.write_tls(socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.read(buf),
            Socket::Unix(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(socket) => socket.write(buf),
            Socket::Unix(socket) => socket.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
