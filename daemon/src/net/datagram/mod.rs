//! UDP: one socket for each worker on the same address, so that no datagram crosses a thread (seed 004).
//!
//! The kernel chooses the socket by sender and by the datagram's second octet, which in RADIUS is the identifier
//! ([`steer`]): a packet and its duplicates meet on one worker, and yet one busy client is served by all of them. Many
//! datagrams are received, and many answers sent, with one system call, and an answer comes from the address that was asked.
//!
//! - Nothing waits here: what was not read in time the kernel drops and counts, and an answer for which it has no room is
//!   dropped and counted too, for over UDP the client asks again.
//! - Peers are told as what they are: who comes over v4 to a socket on `::` has a v4 address ([`Path`]).
//! - What was received may hold passwords: it is overwritten before the next is read, and when the [`Batch`] goes.
//!
//! Elsewhere than on Linux, where one develops, there is one socket, which receives and sends one by one (`plain`).

#[cfg(target_os = "linux")]
mod ffi;
#[cfg(any(not(target_os = "linux"), test))]
mod plain;
#[cfg(target_os = "linux")]
mod steer;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use engine::radius::Path;
use mio::net::UdpSocket;
use mio::{Registry, Token};
#[cfg(target_os = "linux")]
use rustix::event::epoll;
use socket2::{Domain, Protocol, SockAddr, Type};

#[cfg(target_os = "linux")]
pub use ffi::Batch;
#[cfg(target_os = "linux")]
use ffi::Outgoing;
#[cfg(not(target_os = "linux"))]
pub use plain::Batch;
#[cfg(not(target_os = "linux"))]
use plain::Outgoing;

/// Answers that are sent with one system call.
const SENT_AT_ONCE: usize = 64;

/// How sockets are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// What the kernel keeps of each socket until it is read, in octets, its own bookkeeping included. Without
    /// `CAP_NET_ADMIN` it grants no more than `net.core.rmem_max`: see [`Socket::receive_buffer_bytes`].
    pub receive_buffer_bytes: usize,
    /// Whether answers of one length that go the same way one after the other are handed to the kernel as one, which then takes
    /// them apart (UDP_SEGMENT): one way through the network's layers for all of them. Nobody sees that but who watches the
    /// packets of this machine. Not for requests: of those that come so, all are given to one worker.
    pub together: bool,
}

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// From whom, and to which of our addresses where the kernel says that.
    pub path: Path,
    /// How long it had lain in the kernel when it was read, by the wall clock: as long as the last one that was received
    /// together with it, or longer. None where the kernel does not say it or was not asked.
    pub age: Option<Duration>,
    /// It was longer than the room there is; what is here is its beginning.
    pub truncated: bool,
}

/// What became of answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sent {
    /// The kernel took them.
    pub sent: usize,
    /// Dropped: the kernel had no room for them.
    pub would_block: usize,
    /// Dropped: they cannot be sent where they should go.
    pub failed: usize,
}

/// A worker's socket.
#[derive(Debug)]
pub struct Socket {
    socket: UdpSocket,
    local: SocketAddr,
    /// Its address, where it has but one.
    own: Option<IpAddr>,
    out: Outgoing,
}

/// Binds an address `count` times, once for each worker; elsewhere than on Linux once. With port 0 the kernel chooses one
/// port for all. A v6 address serves v4 as well if it is `::`.
///
/// What comes while this is at work may lie with another socket than its duplicates.
///
/// # Errors
/// The kernel's. `AddrInUse` also where another program would share the address with us; one of the same user that asks for
/// sharing later is let in by the kernel.
pub fn bind(address: SocketAddr, count: usize, settings: Settings) -> io::Result<Vec<Socket>> {
    let count = if cfg!(target_os = "linux") { count.max(1) } else { 1 };
    // The first is bound without sharing, which fails if anybody is there, and shares from then on: no gap between the two.
    let first = open(address, settings)?;
    first.bind(&SockAddr::from(address))?;
    let local = first.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
    if count > 1 {
        first.set_reuse_port(true)?;
    }
    let mut all = vec![first];
    while all.len() < count {
        let socket = open(address, settings)?;
        socket.set_reuse_port(true)?;
        socket.bind(&SockAddr::from(local))?;
        all.push(socket);
    }
    #[cfg(target_os = "linux")]
    if let (Some(first), Ok(many @ 2..)) = (all.first(), u16::try_from(all.len())) {
        ffi::attach(first.as_fd(), &steer::program(many))?;
    }
    Ok(sockets(all, local, settings))
}

/// Sockets that another process has bound, all of one address: with what waits in them, and still chosen among as there.
///
/// # Errors
/// They are not what they should be.
pub fn adopt(handed: Vec<OwnedFd>, settings: Settings) -> io::Result<Vec<Socket>> {
    let all: Vec<socket2::Socket> = handed.into_iter().map(socket2::Socket::from).collect();
    let mut local = None;
    for socket in &all {
        let at = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::Unsupported)?;
        if *local.get_or_insert(at) != at {
            return Err(io::Error::other("they are bound to several addresses"));
        }
        set_receive_buffer(socket, settings)?;
        socket.set_nonblocking(true)?;
    }
    let local = local.ok_or(io::ErrorKind::InvalidInput)?;
    Ok(sockets(all, local, settings))
}

fn sockets(all: Vec<socket2::Socket>, local: SocketAddr, settings: Settings) -> Vec<Socket> {
    #[cfg(target_os = "linux")]
    let together = settings.together && all.iter().all(|socket| ffi::knows_segments(socket.as_fd()));
    #[cfg(not(target_os = "linux"))]
    let together = settings.together;
    let socket = |socket: socket2::Socket| Socket {
        socket: UdpSocket::from_std(socket.into()),
        local,
        own: Some(local.ip().to_canonical()).filter(|own| !own.is_unspecified()),
        out: Outgoing::new(SENT_AT_ONCE, local, together),
    };
    all.into_iter().map(socket).collect()
}

fn open(address: SocketAddr, settings: Settings) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_nonblocking(true)?;
    set_receive_buffer(&socket, settings)?;
    #[cfg(target_os = "linux")]
    ffi::announce(socket.as_fd(), address.ip())?;
    Ok(socket)
}

fn set_receive_buffer(socket: &socket2::Socket, settings: Settings) -> io::Result<()> {
    let bytes = settings.receive_buffer_bytes;
    #[cfg(target_os = "linux")]
    if rustix::net::sockopt::set_socket_recv_buffer_size_force(socket, bytes).is_ok() {
        return Ok(());
    }
    socket.set_recv_buffer_size(bytes)
}

impl Socket {
    /// Receives what is there, as much as the batch has room for; how many. Never waits. `fresh`: the kernel is not asked how
    /// long they lay there, since it is known to be too short to count ([`Datagram::age`] is none then).
    ///
    /// # Errors
    /// The kernel's; having nothing is none.
    pub fn receive(&mut self, batch: &mut Batch, fresh: bool) -> io::Result<usize> {
        none_is_no_error(batch.receive(&self.socket, self.own, fresh))
    }

    /// As [`Socket::receive`], the first alone: for less where no more have come.
    ///
    /// # Errors
    /// As there.
    pub fn receive_one(&mut self, batch: &mut Batch, fresh: bool) -> io::Result<usize> {
        none_is_no_error(batch.receive_one(&self.socket, self.own, fresh))
    }

    /// Sends answers, each a part of `bytes`, the way back that its request came. Never waits; one that cannot be sent does
    /// not keep the others.
    pub fn send(&mut self, answers: &[(Path, Range<usize>)], bytes: &[u8]) -> Sent {
        let (socket, out) = (&self.socket, &mut self.out);
        send_each(answers, |rest| out.send(socket, rest, bytes))
    }

    /// Has events of this socket come with `token`, for as long as there is something to be received. Elsewhere than on Linux once
    /// only, so that all of it must be.
    ///
    /// # Errors
    /// The kernel's.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return Ok(epoll::add(
            registry,
            &self.socket,
            epoll::EventData::new_u64(token.0 as u64),
            epoll::EventFlags::IN,
        )?);
        #[cfg(not(target_os = "linux"))]
        registry.register(&mut self.socket, token, mio::Interest::READABLE)
    }

    /// No events any more.
    ///
    /// # Errors
    /// The kernel's.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        #[cfg(target_os = "linux")]
        return Ok(epoll::delete(registry, &self.socket)?);
        #[cfg(not(target_os = "linux"))]
        registry.deregister(&mut self.socket)
    }

    /// Where it is bound; the port is the kernel's choice where 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Datagrams that the kernel has dropped since the start because they were not read in time. It counts modulo 2^32. Always 0
    /// elsewhere than on Linux.
    pub fn kernel_drops(&self) -> u64 {
        #[cfg(target_os = "linux")]
        return ffi::drops(self.socket.as_fd()).unwrap_or_default().into();
        #[cfg(not(target_os = "linux"))]
        0
    }

    /// What the kernel grants of [`Settings::receive_buffer_bytes`].
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive_buffer_bytes(&self) -> io::Result<usize> {
        let bytes = rustix::net::sockopt::socket_recv_buffer_size(&self.socket)?;
        // Linux doubles what it is asked for, and tells that.
        Ok(if cfg!(target_os = "linux") { bytes / 2 } else { bytes })
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn none_is_no_error(received: io::Result<usize>) -> io::Result<usize> {
    match received {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        received => received,
    }
}

/// Calls until each answer was taken or given up: `call` sends the first few of the rest and says how many, or why not even
/// the first could be.
fn send_each(
    answers: &[(Path, Range<usize>)],
    mut call: impl FnMut(&[(Path, Range<usize>)]) -> io::Result<usize>,
) -> Sent {
    let (mut all, mut rest) = (Sent::default(), answers);
    while let Some(((path, _), others)) = rest.split_first() {
        match call(rest) {
            Ok(count @ 1..) => {
                all.sent += count;
                rest = rest.get(count..).unwrap_or_default();
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                all.would_block += rest.len();
                break;
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => {
                all.would_block += 1;
            }
            Ok(0) => all.failed += 1,
            Err(error) => {
                tracing::debug!(%error, peer = %path.from, "an answer cannot be sent");
                all.failed += 1;
            }
        }
        rest = others;
    }
    all
}

/// The peer as it is: v4 where it comes over v4.
fn canonical(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V6(v6) => match v6.ip().to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(v4.into(), v6.port()),
            None => peer,
        },
        SocketAddr::V4(_) => peer,
    }
}

/// The peer as the socket's family has it.
fn of_family(peer: SocketAddr, is_v6: bool) -> SocketAddr {
    match peer {
        SocketAddr::V4(v4) if is_v6 => SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0).into(),
        _ => peer,
    }
}
