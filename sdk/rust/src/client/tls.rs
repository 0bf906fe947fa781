//! TLS for a connection that one thread reads while others write.
//!
//! The session's own lock is held only while bytes are turned into records and back, never while a socket waits. Records
//! leave in the order in which they were made, because who makes them holds the writing lock until they are out.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::error::ConnectError;
use super::stream::Socket;

/// Made into records at once, so that what is queued inside the session stays small.
const WRITE_BYTES: usize = 16 << 10;

pub(super) struct Tls {
    session: Mutex<ClientConnection>,
}

impl Tls {
    /// Shakes hands, until `ends` at most.
    pub(super) fn connect(
        config: Arc<ClientConfig>,
        host: &str,
        mut tcp: &TcpStream,
        ends: Instant,
    ) -> Result<Self, ConnectError> {
        let name = ServerName::try_from(host.to_string());
        let name =
            name.map_err(|_| ConnectError::Address(format!("{host:?} is no name that a certificate can have")))?;
        let mut session = ClientConnection::new(config, name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            let left = ends.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            tcp.set_read_timeout(Some(left))?;
            tcp.set_write_timeout(Some(left))?;
            session.complete_io(&mut tcp)?;
        }
        tcp.set_read_timeout(None)?;
        tcp.set_write_timeout(None)?;
        Ok(Self {
            session: Mutex::new(session),
        })
    }

    /// Writes all of it; the caller holds the writing lock.
    pub(super) fn write(&self, bytes: &[u8], socket: &Socket) -> io::Result<()> {
        for piece in bytes.chunks(WRITE_BYTES) {
            let mut session = self.lock();
            session.writer().write_all(piece)?;
            let records = records(&mut session)?;
            drop(session);
            socket.write_all(&records)?;
        }
        Ok(())
    }

    /// Takes what was read, nothing at the end of the connection, and appends what was in it; whether the server has ended
    /// it rightly. What the session has to say meanwhile leaves with the next frame.
    pub(super) fn read(&self, mut bytes: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
        let mut session = self.lock();
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut over = false;
        while !bytes.is_empty() && !over {
            session.read_tls(&mut bytes)?;
            let state = session.process_new_packets().map_err(io::Error::other)?;
            over = state.peer_has_closed();
            let waiting = u64::try_from(state.plaintext_bytes_to_read()).unwrap_or(u64::MAX);
            session.reader().take(waiting).read_to_end(out)?;
        }
        Ok(over)
    }

    fn lock(&self) -> MutexGuard<'_, ClientConnection> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn records(session: &mut ClientConnection) -> io::Result<Vec<u8>> {
    let mut records = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut records)?;
    }
    Ok(records)
}
