//! A connection to an rpc listener: a unix socket, TCP, or TLS over TCP. No read and no write waits beyond its time.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustls::{ClientConnection, StreamOwned};

use crate::config::plan::TlsClient;
use crate::net::tls;

/// Addresses of one name that are tried.
const ADDRESSES_MAX: usize = 16;
/// How long a connect may take where no deadline says less.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// See the module.
pub enum Connection {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// Connects to `unix:/path`, `HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`.
pub fn connect(address: &str, ca_file: Option<&PathBuf>, until: Option<Instant>) -> Result<Connection, String> {
    if let Some(path) = address.strip_prefix("unix:") {
        return UnixStream::connect(path)
            .map(Connection::Unix)
            .map_err(|error| cannot(address, &error));
    }
    let Some(place) = address.strip_prefix("tls://") else {
        let place = address.strip_prefix("tcp://").unwrap_or(address);
        return connect_tcp(address, place, until).map(Connection::Tcp);
    };
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let plan = TlsClient {
        ca_file: ca_file.cloned(),
        identity: None,
        server_name: None,
        verify: true,
        crl: None,
        stamp: 0,
    };
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let name = tls::server_name(&plan, host.trim_start_matches('[').trim_end_matches(']'))?;
    let config = tls::client(&plan)?;
    let stream = connect_tcp(address, place, until)?;
    let client = ClientConnection::new(config, name).map_err(|error| format!("{address}: {error}"))?;
    Ok(Connection::Tls(Box::new(StreamOwned::new(client, stream))))
}

fn cannot(address: &str, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            format!("no daemon listens at {address}; name its rpc listener with --connect ADDRESS")
        }
        _ => format!("{address}: {error}"),
    }
}

fn connect_tcp(address: &str, place: &str, until: Option<Instant>) -> Result<TcpStream, String> {
    let mut last = None;
    let found = place.to_socket_addrs().map_err(|error| format!("{address}: {error}"))?;
    for resolved in found.take(ADDRESSES_MAX) {
        let left = left(until).unwrap_or(CONNECT_MAX);
        match TcpStream::connect_timeout(&resolved, left) {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Err(error) => last = Some(error),
        }
    }
    Err(last.map_or_else(|| format!("{address} has no address"), |error| cannot(address, &error)))
}

/// What is left until then; never zero, which would mean for ever.
fn left(until: Option<Instant>) -> Option<Duration> {
    let until = until?;
    let left = until.saturating_duration_since(Instant::now());
    Some(left.max(Duration::from_millis(1)))
}

impl Connection {
    /// No write waits longer than is left until `until`.
    pub fn write_all(&mut self, bytes: &[u8], until: Option<Instant>) -> io::Result<()> {
        let left = left(until);
        match self {
            Connection::Unix(stream) => {
                stream.set_write_timeout(left)?;
                stream.write_all(bytes)
            }
            Connection::Tcp(stream) => {
                stream.set_write_timeout(left)?;
                stream.write_all(bytes)
            }
            Connection::Tls(stream) => {
                // The handshake reads.
                stream.sock.set_read_timeout(left)?;
                stream.sock.set_write_timeout(left)?;
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// Appends what comes next; never waits beyond `until`.
    pub fn read_more(&mut self, buffer: &mut Vec<u8>, until: Option<Instant>) -> io::Result<()> {
        if until.is_some_and(|until| until <= Instant::now()) {
            return Err(ErrorKind::TimedOut.into());
        }
        let left = left(until);
        let mut piece = [0; 64 * 1024];
        let read = match self {
            Connection::Unix(stream) => {
                stream.set_read_timeout(left)?;
                stream.read(&mut piece)?
            }
            Connection::Tcp(stream) => {
                stream.set_read_timeout(left)?;
                stream.read(&mut piece)?
            }
            Connection::Tls(stream) => {
                stream.sock.set_read_timeout(left)?;
                stream.read(&mut piece)?
            }
        };
        if read == 0 {
            return Err(io::Error::new(
                ErrorKind::UnexpectedEof,
                "closed before the answer was complete",
            ));
        }
        buffer.extend_from_slice(piece.get(..read).unwrap_or_default());
        Ok(())
    }
}
