//! The PROXY header before everything else on a connection, TLS included.
//!
//! What comes is looked at before it is taken, so that not one byte behind the header is: those are for TLS or the session.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use wire::frame::{Malformed, Step};
use wire::proxy_header::{Accepted, Ends, Header, split};

use super::stream::Raw;

/// A header that is awaited. Holds at most `wire::proxy_header::V2_BYTES_MAX` and one look.
#[derive(Debug)]
pub struct Preface {
    accepted: Accepted,
    held: Vec<u8>,
    /// What begins behind it, where TLS does.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// What a look gave.
#[derive(Debug)]
pub enum Taken {
    /// The header is there: the client and where it connected to, if it says.
    Whole(Option<(SocketAddr, SocketAddr)>),
    /// Not all of it yet.
    Later,
    /// There will be none. True: some of it had come.
    End(bool),
    /// It is none.
    Malformed(Malformed),
}

impl Preface {
    /// Nothing has come yet.
    pub fn new(accepted: Accepted, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        Preface {
            accepted,
            held: Vec::new(),
            tls,
        }
    }

    /// Takes what has come of it, and nothing else.
    pub fn take(&mut self, raw: &Raw) -> Taken {
        let Raw::Tcp(stream) = raw else {
            return Taken::End(false);
        };
        let mut seen = [0; 512];
        loop {
            let n = match stream.peek(&mut seen) {
                Ok(0) => return Taken::End(!self.held.is_empty()),
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Taken::Later,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return Taken::End(!self.held.is_empty()),
            };
            let before = self.held.len();
            self.held.extend_from_slice(seen.get(..n).unwrap_or_default());
            let (len, whole) = match split(&self.held, self.accepted) {
                Step::NeedMore { .. } => (self.held.len(), false),
                Step::Frame { len } => (len, true),
                Step::Malformed(fault) => return Taken::Malformed(fault),
            };
            self.held.truncate(len);
            if !skip(stream, seen.get_mut(..len - before).unwrap_or_default()) {
                return Taken::End(true);
            }
            if whole {
                return match Header::read(&self.held).map(|header| header.ends) {
                    Ok(Ends::Ip { source, destination }) => Taken::Whole(Some((source, destination))),
                    Ok(Ends::Local | Ends::Unknown | Ends::Unix { .. }) => Taken::Whole(None),
                    Err(fault) => Taken::Malformed(fault),
                };
            }
        }
    }
}

/// Reads what was looked at already.
fn skip(mut stream: &TcpStream, mut bytes: &mut [u8]) -> bool {
    while !bytes.is_empty() {
        match stream.read(bytes) {
            Ok(0) => return false,
            Ok(n) => bytes = bytes.get_mut(n..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
    true
}
