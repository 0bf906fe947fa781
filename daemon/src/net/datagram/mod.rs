//! UDP: one socket for each worker on the same address, so that no datagram crosses a thread (seed 004).
//!
//! The kernel chooses the socket by a hash of the sender's address and of the second octet, which in RADIUS is the
//! request's identifier: a packet and its duplicates meet on one worker, and yet one busy client is served by all of them. A
//! worker receives and sends many datagrams with one system call, and answers from the address that was asked.

mod ffi;

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd};

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

pub use ffi::Batch;
use ffi::{Outgoing, announce, steer};

/// Datagrams that are received, or sent, with one system call.
pub const BATCH: usize = 64;
/// Answers that the kernel had no room for wait here; beyond this they are dropped, and their clients ask again.
const WAITING_MAX: usize = 1024;

/// A socket for one worker.
#[derive(Debug)]
pub struct Bound(Socket);

/// Binds an address once for each worker. With port 0 the kernel chooses one port for all. `buffer_bytes`: what the
/// kernel keeps for each until it is read, as far as it permits that (net.core.rmem_max).
///
/// # Errors
/// The kernel's.
pub fn bind(at: SocketAddr, workers: usize, buffer_bytes: usize) -> io::Result<(SocketAddr, Vec<Bound>)> {
    // Sockets that share an address would share it with another program's, too: one that does not tells.
    let alone = socket(at)?;
    alone.bind(&SockAddr::from(at))?;
    let at = alone.local_addr()?.as_socket().unwrap_or(at);
    drop(alone);
    let mut all = Vec::new();
    while all.len() < workers.max(1) {
        let socket = socket(at)?;
        socket.set_reuse_port(true)?;
        let _ = socket.set_recv_buffer_size(buffer_bytes);
        announce(socket.as_fd(), at.is_ipv6())?;
        socket.bind(&SockAddr::from(at))?;
        all.push(Bound(socket));
    }
    if let (Some(first), Ok(many @ 2..)) = (all.first(), u32::try_from(all.len())) {
        steer(first.0.as_fd(), &choice(many))?;
    }
    Ok((at, all))
}

fn socket(at: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, Some(Protocol::UDP))?;
    if at.is_ipv6() {
        // `[::]` serves v4 as well, as everybody expects.
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// The program that chooses among `many` sockets. What is too short to have an identifier goes to the first.
fn choice(many: u32) -> [libc::sock_filter; 19] {
    /// Where the IP header is, as seen by a program whose data begins behind UDP's.
    const NET: u32 = 0xfff0_0000;
    const LOAD_OCTET: u16 = 0x30;
    const LOAD_WORD: u16 = 0x20;
    const STORE: u16 = 0x02;
    const RECALL_X: u16 = 0x61;
    const XOR_X: u16 = 0xac;
    const MULTIPLY: u16 = 0x24;
    const SHIFT_RIGHT: u16 = 0x74;
    const REMAINDER: u16 = 0x94;
    const IF_EQUAL: u16 = 0x15;
    const JUMP: u16 = 0x05;
    const RETURN: u16 = 0x16;
    let step = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    [
        step(LOAD_OCTET, 1),
        step(MULTIPLY, 0x9e37_79b1),
        step(STORE, 0),
        step(LOAD_OCTET, NET),
        step(SHIFT_RIGHT, 4),
        libc::sock_filter {
            code: IF_EQUAL,
            jt: 2,
            jf: 0,
            k: 6,
        },
        step(LOAD_WORD, NET + 12),
        step(JUMP, 5),
        step(LOAD_WORD, NET + 16),
        step(STORE, 1),
        step(LOAD_WORD, NET + 20),
        step(RECALL_X, 1),
        step(XOR_X, 0),
        step(RECALL_X, 0),
        step(XOR_X, 0),
        step(MULTIPLY, 0x85eb_ca6b),
        step(SHIFT_RIGHT, 16),
        step(REMAINDER, many),
        step(RETURN, 0),
    ]
}

/// An answer: where to, from which address, and which octets of a buffer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// To whom.
    pub peer: SocketAddr,
    /// From which of our addresses.
    pub own: Option<IpAddr>,
    /// Which octets.
    pub bytes: Range<usize>,
}

/// What a socket has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Figures {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// Datagrams that the kernel dropped for want of room, because they were not read in time.
    pub dropped_by_kernel: u64,
    /// Answers that could not be sent.
    pub unsent: u64,
}

/// A socket at work.
#[derive(Debug)]
pub struct Datagrams {
    socket: Socket,
    token: Token,
    /// Told by the kernel, modulo 2^32.
    drops: u32,
    waiting: VecDeque<(SocketAddr, Option<IpAddr>, Vec<u8>)>,
    is_blocked: bool,
    /// See [`Figures`].
    pub figures: Figures,
}

impl Datagrams {
    /// Events of this socket come with `token`.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(bound: Bound, registry: &Registry, token: Token) -> io::Result<Datagrams> {
        registry.register(&mut SourceFd(&bound.0.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Datagrams {
            socket: bound.0,
            token,
            drops: 0,
            waiting: VecDeque::new(),
            is_blocked: false,
            figures: Figures::default(),
        })
    }

    /// Receives what is there into the batch; how many.
    pub fn receive(&mut self, batch: &mut Batch) -> usize {
        let count = match batch.receive(self.socket.as_fd()) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(error) => {
                tracing::debug!(%error, "receiving datagrams");
                0
            }
        };
        self.figures.received += count as u64;
        if let Some(drops) = count.checked_sub(1).and_then(|last| batch.get(last)?.drops) {
            self.figures.dropped_by_kernel += u64::from(drops.wrapping_sub(self.drops));
            self.drops = drops;
        }
        count
    }

    /// Sends the answers; what the kernel has no room for waits, in order, until it has.
    pub fn send(&mut self, batch: &mut Batch, answers: &[Answer], bytes: &[u8], registry: &Registry) {
        let mut rest = answers;
        while !self.is_blocked && !rest.is_empty() {
            let out = rest.iter().map(|answer| Outgoing {
                bytes: bytes.get(answer.bytes.clone()).unwrap_or_default(),
                peer: answer.peer,
                own: answer.own,
            });
            let done = batch.send(self.socket.as_fd(), out);
            let done = self.sent(done, registry);
            rest = rest.get(done..).unwrap_or_default();
        }
        for answer in rest {
            if self.waiting.len() >= WAITING_MAX {
                self.figures.unsent += 1;
                continue;
            }
            let bytes = bytes.get(answer.bytes.clone()).unwrap_or_default();
            self.waiting.push_back((answer.peer, answer.own, bytes.to_vec()));
        }
    }

    /// The kernel has room again.
    pub fn writable(&mut self, batch: &mut Batch, registry: &Registry) {
        if !std::mem::take(&mut self.is_blocked) {
            return;
        }
        while !self.is_blocked && !self.waiting.is_empty() {
            let out = self.waiting.iter().map(|(peer, own, bytes)| Outgoing {
                bytes,
                peer: *peer,
                own: *own,
            });
            let done = batch.send(self.socket.as_fd(), out);
            let done = self.sent(done, registry);
            self.waiting.drain(..done.min(self.waiting.len()));
        }
        if !self.is_blocked {
            self.watch(registry, Interest::READABLE);
        }
    }

    /// How many need not be looked at again.
    fn sent(&mut self, done: io::Result<usize>, registry: &Registry) -> usize {
        match done {
            Ok(count) => {
                self.figures.sent += count as u64;
                count
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.is_blocked = true;
                self.watch(registry, Interest::READABLE | Interest::WRITABLE);
                0
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            // The first one cannot be sent there; the others may.
            Err(error) => {
                tracing::debug!(%error, "sending a datagram");
                self.figures.unsent += 1;
                1
            }
        }
    }

    /// Only while something waits: else each datagram that has left would be an event.
    fn watch(&self, registry: &Registry, interest: Interest) {
        if let Err(error) = registry.reregister(&mut SourceFd(&self.socket.as_raw_fd()), self.token, interest) {
            tracing::error!(%error, "a socket cannot be watched");
        }
    }

    /// Closes it.
    pub fn close(self, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&self.socket.as_raw_fd()));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::UdpSocket;
    use std::time::{Duration, Instant};

    use super::*;

    fn opened(at: &str, workers: usize) -> (SocketAddr, Vec<Datagrams>, mio::Poll) {
        let poll = mio::Poll::new().unwrap();
        let (at, bound) = bind(at.parse().unwrap(), workers, 1 << 20).unwrap();
        let open = |(token, bound)| Datagrams::new(bound, poll.registry(), Token(token)).unwrap();
        (at, bound.into_iter().enumerate().map(open).collect(), poll)
    }

    /// Everything that comes within a while: on which socket, second octet, address.
    fn all(sockets: &mut [Datagrams], want: usize) -> Vec<(usize, u8, Option<IpAddr>)> {
        let (mut batch, mut got) = (Batch::new(BATCH, true), Vec::new());
        let begun = Instant::now();
        while got.len() < want && begun.elapsed() < Duration::from_secs(10) {
            for (number, socket) in sockets.iter_mut().enumerate() {
                let count = socket.receive(&mut batch);
                for datagram in (0..count).filter_map(|at| batch.get(at)) {
                    got.push((number, datagram.bytes[1], datagram.to));
                }
            }
        }
        got
    }

    #[test]
    fn a_client_is_spread_by_its_identifiers_and_each_of_them_stays_where_it_is() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (at, mut sockets, _poll) = opened(address, 3);
            let (one, two) = (UdpSocket::bind(address).unwrap(), UdpSocket::bind(address).unwrap());
            for id in 0..=255_u8 {
                one.send_to(&[4, id], at).unwrap();
                two.send_to(&[4, id], at).unwrap();
            }
            let got = all(&mut sockets, 512);
            let places: HashSet<(u8, usize)> = got.iter().map(|(socket, id, _)| (*id, *socket)).collect();
            assert_eq!((got.len(), places.len()), (512, 256), "{address}");
            for socket in 0..3 {
                let share = places.iter().filter(|(_, at)| *at == socket).count();
                assert!((40..130).contains(&share), "{address}: {share} of 256");
            }
        }
    }

    #[test]
    fn an_answer_comes_from_the_address_that_was_asked() {
        for (address, asked) in [("0.0.0.0:0", "127.0.0.7"), ("[::]:0", "127.0.0.8"), ("[::]:0", "::1")] {
            let (at, mut sockets, poll) = opened(address, 1);
            let asked: IpAddr = asked.parse().unwrap();
            let client = UdpSocket::bind((if asked.is_ipv4() { "127.0.0.1" } else { "::1" }, 0)).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.send_to(b"ab", (asked, at.port())).unwrap();
            let mut batch = Batch::new(BATCH, true);
            let begun = Instant::now();
            while sockets[0].receive(&mut batch) == 0 && begun.elapsed() < Duration::from_secs(10) {}
            let datagram = batch.get(0).unwrap();
            assert_eq!(datagram.to.map(|to| to.to_canonical()), Some(asked));
            let answers = vec![
                Answer {
                    peer: datagram.from,
                    own: datagram.to,
                    bytes: 1..4,
                };
                3 * BATCH
            ];
            sockets[0].send(&mut Batch::new(BATCH, false), &answers, b"xanswer", poll.registry());
            for _ in 0..3 * BATCH {
                let mut room = [0; 16];
                let (len, from) = client.recv_from(&mut room).unwrap();
                assert_eq!((&room[..len], from), (&b"ans"[..], SocketAddr::new(asked, at.port())));
            }
            assert_eq!(sockets[0].figures.sent, 3 * BATCH as u64);
            // Nothing waits, so that there is nothing to be done.
            sockets[0].writable(&mut batch, poll.registry());
            assert_eq!(sockets[0].figures.sent, 3 * BATCH as u64);
            sockets.remove(0).close(poll.registry());
            assert!(bind(at, 1, 4096).is_ok());
        }
    }

    #[test]
    fn what_is_not_read_in_time_is_counted_and_what_is_too_long_is_cut() {
        let poll = mio::Poll::new().unwrap();
        let (at, bound) = bind("127.0.0.1:0".parse().unwrap(), 1, 4096).unwrap();
        let mut socket = Datagrams::new(bound.into_iter().next().unwrap(), poll.registry(), Token(1)).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..500 {
            client.send_to(&[1; 1000], at).unwrap();
        }
        let mut batch = Batch::new(BATCH, true);
        while socket.receive(&mut batch) > 0 {}
        client.send_to(&[7; 5000], at).unwrap();
        assert_eq!(socket.receive(&mut batch), 1);
        let long = batch.get(0).unwrap();
        assert!(long.cut && long.bytes == [7; ffi::DATAGRAM_BYTES_MAX]);
        let seen = socket.figures;
        assert!(
            seen.dropped_by_kernel > 400 && seen.received + seen.dropped_by_kernel == 501,
            "{seen:?}"
        );
        batch.wipe();
        assert!(batch.get(0).is_none());
    }

    #[test]
    fn an_address_that_another_program_has_is_not_shared_with_it() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = bind(taken.local_addr().unwrap(), 2, 4096).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        let (at, _sockets) = bind("127.0.0.1:0".parse().unwrap(), 2, 4096).unwrap();
        assert_eq!(bind(at, 2, 4096).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
