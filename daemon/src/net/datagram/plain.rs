//! Datagrams one by one, with what every system has: for development elsewhere than on Linux. An answer from a socket on all
//! addresses comes from the one that the system chooses.

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::{fmt, io};

use engine::radius::Path;
use mio::net::UdpSocket;
use zeroize::Zeroize;

use super::{Datagram, canonical, of_family};

/// Room for datagrams, made once and used again and again. What was received is overwritten before the next is, and when this
/// goes: there may be passwords in it.
pub struct Batch {
    received: Vec<(Path, usize)>,
    datagrams_max: usize,
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("room", &self.datagrams_max)
            .field("bytes_max", &self.bytes_max)
            .field("received", &self.received.len())
            .finish_non_exhaustive()
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Batch {
    /// For so many datagrams at once, at least one; of each, so many octets are taken.
    pub fn new(datagrams_max: usize, bytes_max: usize) -> Batch {
        let (datagrams_max, bytes_max) = (datagrams_max.max(1), bytes_max.max(1));
        Batch {
            received: Vec::with_capacity(datagrams_max),
            datagrams_max,
            // One octet more tells what is too long.
            bytes: vec![0; datagrams_max.saturating_mul(bytes_max.saturating_add(1))],
            bytes_max,
        }
    }

    /// What was received last, in the order in which it came.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        let rooms = self.bytes.chunks_exact(self.bytes_max + 1);
        self.received.iter().zip(rooms).filter_map(|((path, len), room)| {
            Some(Datagram {
                bytes: room.get(..(*len).min(self.bytes_max))?,
                path: *path,
                age: None,
                truncated: *len > self.bytes_max,
            })
        })
    }

    /// Overwrites what was received last.
    pub fn wipe(&mut self) {
        let rooms = self.bytes.chunks_exact_mut(self.bytes_max + 1);
        for ((_, len), room) in self.received.drain(..).zip(rooms) {
            if let Some(bytes) = room.get_mut(..len) {
                bytes.zeroize();
            }
        }
    }

    /// `to`: the socket's address, if it has but one.
    pub(super) fn receive(&mut self, socket: &UdpSocket, to: Option<IpAddr>, _fresh: bool) -> io::Result<usize> {
        self.wipe();
        for room in self.bytes.chunks_exact_mut(self.bytes_max + 1) {
            match socket.recv_from(room) {
                Ok((len, from)) => {
                    let from = canonical(from);
                    self.received.push((Path { from, to }, len));
                }
                Err(_) if !self.received.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(self.received.len())
    }

    /// As [`Batch::receive`]: elsewhere a socket tells but once that it can be read.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive_one(&mut self, socket: &UdpSocket, to: Option<IpAddr>, fresh: bool) -> io::Result<usize> {
        self.receive(socket, to, fresh)
    }
}

/// What sends answers.
#[derive(Debug)]
pub(super) struct Outgoing {
    is_v6: bool,
}

impl Outgoing {
    pub(super) fn new(_room: usize, local: SocketAddr, _together: bool) -> Outgoing {
        Outgoing { is_v6: local.is_ipv6() }
    }

    /// Sends the first.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        answers: &[(Path, Range<usize>)],
        bytes: &[u8],
    ) -> io::Result<usize> {
        let first = answers
            .first()
            .and_then(|(path, range)| Some((path.from, bytes.get(range.clone())?)));
        let (peer, bytes) = first.ok_or(io::ErrorKind::InvalidInput)?;
        socket.send_to(bytes, of_family(peer, self.is_v6)).map(|_| 1)
    }
}
