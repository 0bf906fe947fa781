//! Many datagrams with one system call, each with the address that it was sent to: what std, socket2 and rustix do not offer.
//!
//! - Every pointer in a header that the kernel is given points into a `Vec` whose length never changes, or into octets that
//!   are borrowed during the call. They are written before the first call, and before each one whose header the last has changed: a `Vec`'s
//!   memory stays where it is when its owner moves, and a lone datagram need not pay for 64 headers.
//! - Of what the kernel wrote nothing is read but through lengths that it gave and that are checked against ours.

use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime};
use std::{fmt, io, ptr};

use engine::radius::Path;
use mio::net::UdpSocket;
use zeroize::Zeroize;

use super::{Datagram, canonical, of_family};

/// Room for the control messages of one datagram: its address (40 octets at most), and more than that.
const CONTROL_WORDS: usize = 8;
/// Asks when the datagram came that was read last (`asm-generic/sockios.h`).
const SIOCGSTAMPNS: libc::Ioctl = 0x8907;

/// What the kernel is given for each datagram of a call.
struct Headers {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    control: Vec<[u64; CONTROL_WORDS]>,
}

// SAFETY: the pointers in it are only followed within a call that has just written them; everything else is numbers.
unsafe impl Send for Headers {}

impl Headers {
    fn new(room: usize) -> Headers {
        // SAFETY: these C structures are numbers and pointers, for which all zeroes is a value.
        let (header, vector, name) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Headers {
            headers: vec![header; room],
            vectors: vec![vector; room],
            names: vec![name; room],
            control: vec![[0; CONTROL_WORDS]; room],
        }
    }
}

/// Room for datagrams, made once and used again and again. What was received is overwritten before the next is, and when this
/// goes: there may be passwords in it.
pub struct Batch {
    headers: Headers,
    bytes: Vec<u8>,
    bytes_max: usize,
    received: usize,
    /// So many headers at the front are not as the kernel is to be given them.
    used: usize,
    /// The address of the socket that was read last, where it has but one.
    own: Option<IpAddr>,
    /// How long the youngest of them had lain in the kernel.
    age: Option<Duration>,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("room", &self.headers.headers.len())
            .field("bytes_max", &self.bytes_max)
            .field("received", &self.received)
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
            headers: Headers::new(datagrams_max),
            bytes: vec![0; datagrams_max.saturating_mul(bytes_max)],
            bytes_max,
            received: 0,
            used: datagrams_max,
            own: None,
            age: None,
        }
    }

    /// What was received last, in the order in which it came.
    pub fn iter(&self) -> impl Iterator<Item = Datagram<'_>> {
        (0..self.received).filter_map(|at| self.get(at))
    }

    /// Overwrites what was received last.
    pub fn wipe(&mut self) {
        let headers = self.headers.headers.iter().take(self.received);
        for (header, room) in headers.zip(self.bytes.chunks_exact_mut(self.bytes_max)) {
            let len = (header.msg_len as usize).min(room.len());
            if let Some(bytes) = room.get_mut(..len) {
                bytes.zeroize();
            }
        }
        self.received = 0;
    }

    /// `own`: the socket's address, if it has but one. `fresh`: see [`super::Socket::receive`].
    pub(super) fn receive(&mut self, socket: &UdpSocket, own: Option<IpAddr>, fresh: bool) -> io::Result<usize> {
        self.wipe();
        let Headers {
            headers,
            vectors,
            names,
            control,
        } = &mut self.headers;
        let rooms = self.bytes.chunks_exact_mut(self.bytes_max);
        let all = headers.iter_mut().zip(vectors).zip(names).zip(control).zip(rooms);
        for ((((header, vector), name), control), bytes) in all.take(self.used) {
            write_header(header, vector, name, control, bytes);
        }
        self.used = 0;
        let room = libc::c_uint::try_from(headers.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (fd, timeout) = (socket.as_raw_fd(), ptr::null_mut());
        // SAFETY: `room` headers are as they are written above, each with pointers to memory of the lengths that it names, which
        // nobody else looks at meanwhile (see the head of this file).
        let got = unsafe { libc::recvmmsg(fd, headers.as_mut_ptr(), room, libc::MSG_DONTWAIT, timeout) };
        self.received = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        self.used = self.received;
        self.own = own;
        let ask = self.received > 0 && !fresh;
        self.age = ask.then(|| age_of_last(socket.as_fd())).flatten();
        Ok(self.received)
    }

    /// As [`Batch::receive`], one alone: the plain calls cost a third less than one that also looks for a second.
    pub(super) fn receive_one(&mut self, socket: &UdpSocket, own: Option<IpAddr>, fresh: bool) -> io::Result<usize> {
        self.wipe();
        let Headers {
            headers,
            vectors,
            names,
            control,
        } = &mut self.headers;
        let mut all = headers.iter_mut().zip(vectors).zip(names).zip(control);
        let (Some((((header, vector), name), control)), Some(bytes)) =
            (all.next(), self.bytes.get_mut(..self.bytes_max))
        else {
            return Ok(0);
        };
        write_header(header, vector, name, control, bytes);
        let (fd, message, flags) = (
            socket.as_raw_fd(),
            &mut header.msg_hdr,
            libc::MSG_DONTWAIT | libc::MSG_TRUNC,
        );
        let got = if own.is_some() {
            let (room, name) = (vector.iov_base, message.msg_name.cast());
            // SAFETY: pointers and lengths are those of the header that was just written, see `receive`.
            unsafe { libc::recvfrom(fd, room, vector.iov_len, flags, name, &mut message.msg_namelen) }
        } else {
            // SAFETY: as above.
            unsafe { libc::recvmsg(fd, message, flags) }
        };
        let len = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        header.msg_len = libc::c_uint::try_from(len.min(bytes.len())).unwrap_or_default();
        header.msg_hdr.msg_flags = if len > bytes.len() { libc::MSG_TRUNC } else { 0 };
        self.received = 1;
        self.used = self.used.max(1);
        self.own = own;
        self.age = (!fresh).then(|| age_of_last(socket.as_fd())).flatten();
        Ok(1)
    }

    fn get(&self, at: usize) -> Option<Datagram<'_>> {
        let header = self.headers.headers.get(at)?;
        let room = self.bytes.chunks_exact(self.bytes_max).nth(at)?;
        let from = read_address(self.headers.names.get(at)?, header.msg_hdr.msg_namelen)?;
        // A socket with one address is told nothing beside what came.
        let to = self.own.or_else(|| read_destination(&header.msg_hdr));
        Some(Datagram {
            bytes: room.get(..(header.msg_len as usize).min(room.len()))?,
            path: Path {
                from: canonical(from),
                to: to.map(|to| to.to_canonical()),
            },
            age: self.age,
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
        })
    }

    /// All the memory that datagrams are received into.
    #[cfg(test)]
    pub(super) fn memory(&self) -> &[u8] {
        &self.bytes
    }
}

/// Readies a header for what comes into `bytes`.
fn write_header(
    header: &mut libc::mmsghdr,
    vector: &mut libc::iovec,
    name: &mut libc::sockaddr_storage,
    control: &mut [u64; CONTROL_WORDS],
    bytes: &mut [u8],
) {
    vector.iov_base = bytes.as_mut_ptr().cast();
    vector.iov_len = bytes.len();
    header.msg_len = 0;
    header.msg_hdr.msg_name = ptr::from_mut(name).cast();
    header.msg_hdr.msg_namelen = length::<libc::sockaddr_storage>();
    header.msg_hdr.msg_iov = vector;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control.as_mut_ptr().cast();
    header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    header.msg_hdr.msg_flags = 0;
}

/// The longest answers that are sent as one: they fit a packet of the smallest network of v6 with all headers before them.
const SEGMENT_BYTES_MAX: usize = 1200;
/// So many octets are sent as one at most: what v4 has room for, with all headers before them.
const SEGMENTS_BYTES_MAX: usize = 65_000;
/// So many answers are sent as one at most; the kernel takes no more.
const SEGMENTS_MAX: usize = 64;

/// Headers for answers.
pub(super) struct Outgoing {
    headers: Headers,
    /// How many answers each header stands for.
    counts: Vec<usize>,
    is_v6: bool,
    /// Whether the socket has several addresses, so that an answer must name its own.
    is_any: bool,
    /// Whether answers that go the same way are sent as one.
    together: bool,
}

impl fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outgoing")
    }
}

impl Outgoing {
    /// For so many at once, over a socket that is bound to `local`. `together`: see [`super::Settings`].
    pub(super) fn new(room: usize, local: SocketAddr, together: bool) -> Outgoing {
        Outgoing {
            headers: Headers::new(room),
            counts: Vec::with_capacity(room),
            is_v6: local.is_ipv6(),
            is_any: local.ip().is_unspecified(),
            together,
        }
    }

    /// Sends the first few, as many as there is room for; how many the kernel took. An error is the first one's.
    pub(super) fn send(
        &mut self,
        socket: &UdpSocket,
        answers: &[(Path, Range<usize>)],
        bytes: &[u8],
    ) -> io::Result<usize> {
        if let [(path, range)] = answers
            && path.to.is_none_or(|_| !self.is_any)
            && let Some(bytes) = bytes.get(range.clone())
        {
            // Nothing to be said beside a lone answer: the plain call costs less.
            return socket.send_to(bytes, of_family(path.from, self.is_v6)).map(|_| 1);
        }
        let count = self.put(answers, bytes);
        if count == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let headers = self.headers.headers.as_mut_ptr();
        // SAFETY: `count` headers were just written, each with pointers to memory that outlives this call: our own, see the head
        // of this file, and the caller's octets, which are borrowed.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), headers, count, libc::MSG_DONTWAIT) };
        if let Ok(sent) = usize::try_from(sent) {
            return Ok(self.counts.iter().take(sent).sum());
        }
        let error = io::Error::last_os_error();
        let refused = matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL));
        if refused && self.counts.first().is_some_and(|count| *count > 1) {
            // The way there cannot do it (IPsec, a device without checksums, a network of tiny packets): from now on one by one.
            tracing::debug!(%error, "answers are not taken together");
            self.together = false;
            return self.send(socket, answers, bytes);
        }
        Err(error)
    }

    /// Writes headers for the first few; how many headers.
    fn put(&mut self, answers: &[(Path, Range<usize>)], bytes: &[u8]) -> libc::c_uint {
        let Headers {
            headers,
            vectors,
            names,
            control,
        } = &mut self.headers;
        self.counts.clear();
        let (mut count, mut rest) = (0, answers);
        for (((header, vector), name), control) in headers.iter_mut().zip(vectors).zip(names).zip(control) {
            let many = if self.together { together(rest) } else { 1 };
            let Some((now, later)) = rest.split_at_checked(many) else {
                break;
            };
            let (Some((path, first)), Some((_, last))) = (now.first(), now.last()) else {
                break;
            };
            let Some(bytes) = bytes.get(first.start..last.end) else {
                break;
            };
            // The kernel only reads it.
            vector.iov_base = bytes.as_ptr().cast_mut().cast();
            vector.iov_len = bytes.len();
            header.msg_hdr.msg_namelen = put_address(name, of_family(path.from, self.is_v6));
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_flags = 0;
            let segment = u16::try_from(first.len()).ok().filter(|_| many > 1);
            put_control(&mut header.msg_hdr, control, path.to.filter(|_| self.is_any), segment);
            self.counts.push(many);
            rest = later;
            count += 1;
        }
        count
    }
}

/// How many of the first answers can be sent as one: they go the same way, lie one behind the other, and are of one length, but
/// for the last, which may be shorter. 1 where it is only one, or none.
fn together(answers: &[(Path, Range<usize>)]) -> usize {
    let Some((path, first)) = answers.first() else { return 1 };
    let segment = first.len();
    if segment == 0 || segment > SEGMENT_BYTES_MAX {
        return 1;
    }
    let most = SEGMENTS_MAX.min(SEGMENTS_BYTES_MAX / segment);
    let (mut count, mut end) = (1, first.end);
    for (way, range) in answers.iter().take(most).skip(1) {
        if way != path || range.start != end || range.is_empty() || range.len() > segment {
            break;
        }
        (count, end) = (count + 1, range.end);
        if range.len() < segment {
            break;
        }
    }
    count
}

/// Has the kernel remember when datagrams came, and where the socket has several addresses say with each to which of them it
/// was sent.
pub(super) fn announce(socket: BorrowedFd<'_>, address: IpAddr) -> io::Result<()> {
    match address {
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1_i32)?,
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1_i32)?,
        _ => {}
    }
    // Asked once, the kernel notes the time of whatever comes from then on; a message beside each datagram would cost more.
    age_of_last(socket);
    Ok(())
}

/// How long the datagram that was read last had lain in the kernel, by the wall clock; none where the kernel does not know.
fn age_of_last(socket: BorrowedFd<'_>) -> Option<Duration> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes a timespec, into one.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSTAMPNS, ptr::from_mut(&mut time)) };
    if done != 0 {
        return None;
    }
    let (seconds, nanos) = (u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?);
    let came_at = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))?;
    Some(SystemTime::now().duration_since(came_at).unwrap_or_default())
}

/// How many datagrams the kernel has dropped because there was no room, modulo 2^32.
pub(super) fn drops(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut values = [0_u32; libc::SK_MEMINFO_DROPS as usize + 1];
    let mut len = length::<[u32; libc::SK_MEMINFO_DROPS as usize + 1]>();
    let (fd, room) = (socket.as_raw_fd(), values.as_mut_ptr().cast());
    // SAFETY: the kernel writes no more than `len` octets, which is what there is room for.
    let done = unsafe { libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_MEMINFO, room, &raw mut len) };
    match (done, values) {
        (0, [.., drops]) if len == length::<[u32; libc::SK_MEMINFO_DROPS as usize + 1]>() => Ok(drops),
        (0, _) => Err(io::ErrorKind::Unsupported.into()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the kernel can send several datagrams to one peer as one (since Linux 4.18). One that cannot would send them as a
/// single long one.
pub(super) fn knows_segments(socket: BorrowedFd<'_>) -> bool {
    set(socket, libc::SOL_UDP, libc::UDP_SEGMENT, &0_i32).is_ok()
}

/// Has the kernel choose among all the sockets of this one's address by a program of classic BPF, which sees the datagram's
/// content and gives the number of one.
pub(super) fn attach(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    let (fd, len) = (socket.as_fd().as_raw_fd(), length::<T>());
    // SAFETY: the value is as long as is said, and only read; the program that it may point to is borrowed by the caller.
    let done = unsafe { libc::setsockopt(fd, level, name, ptr::from_ref(value).cast(), len) };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn length<T>() -> libc::socklen_t {
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the size of a structure of a socket call"
    )]
    let length = size_of::<T>() as libc::socklen_t;
    length
}

/// Families are small numbers.
fn family(family: i32) -> libc::sa_family_t {
    libc::sa_family_t::try_from(family).unwrap_or_default()
}

fn read_address(name: &libc::sockaddr_storage, len: libc::socklen_t) -> Option<SocketAddr> {
    let name = ptr::from_ref(name);
    // SAFETY: sockaddr_storage is as large and as well aligned as each of the two, whose fields are numbers; which of them
    // it is, its family says.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET if len >= length::<libc::sockaddr_in>() => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddr::new(ip.into(), u16::from_be(v4.sin_port)))
            }
            libc::AF_INET6 if len >= length::<libc::sockaddr_in6>() => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
                Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

fn put_address(name: &mut libc::sockaddr_storage, to: SocketAddr) -> libc::socklen_t {
    let name = ptr::from_mut(name);
    // SAFETY: as in `read_address`.
    unsafe {
        *name = zeroed();
        match to {
            SocketAddr::V4(to) => {
                let v4 = &mut *name.cast::<libc::sockaddr_in>();
                v4.sin_family = family(libc::AF_INET);
                v4.sin_port = to.port().to_be();
                v4.sin_addr.s_addr = u32::from(*to.ip()).to_be();
                length::<libc::sockaddr_in>()
            }
            SocketAddr::V6(to) => {
                let v6 = &mut *name.cast::<libc::sockaddr_in6>();
                v6.sin6_family = family(libc::AF_INET6);
                v6.sin6_port = to.port().to_be();
                v6.sin6_addr.s6_addr = to.ip().octets();
                v6.sin6_scope_id = to.scope_id();
                length::<libc::sockaddr_in6>()
            }
        }
    }
}

/// To which of our addresses a datagram was sent, of a header as the kernel left it.
fn read_destination(header: &libc::msghdr) -> Option<IpAddr> {
    let mut to = None;
    // SAFETY: the control length is not above ours, and the memory is there.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(header) };
    while !message.is_null() {
        // SAFETY: the macros give only headers that lie whole within the control length.
        let (kind, data) = unsafe { (*message, libc::CMSG_DATA(message)) };
        to = destination(&kind, data).or(to);
        // SAFETY: as above.
        message = unsafe { libc::CMSG_NXTHDR(header, message) };
    }
    to
}

/// `data`: what is behind this header, as long as it says.
fn destination(header: &libc::cmsghdr, data: *const u8) -> Option<IpAddr> {
    #[allow(clippy::unnecessary_cast, reason = "its type is another on other machines")]
    let len = header.cmsg_len as usize;
    // SAFETY: computes, and touches nothing.
    let before = unsafe { libc::CMSG_LEN(0) as usize };
    let has = |bytes: usize| len >= before + bytes;
    // SAFETY: read unaligned, and only where the header says that so much is there.
    unsafe {
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if has(size_of::<libc::in_pktinfo>()) => {
                // Not the one in the header: it may have been sent to everybody.
                let own = data.cast::<libc::in_pktinfo>().read_unaligned().ipi_spec_dst;
                Some(Ipv4Addr::from(u32::from_be(own.s_addr)).into())
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if has(size_of::<libc::in6_pktinfo>()) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
            }
            _ => None,
        }
    }
}

/// From which of our addresses it is to come, and how long each of its datagrams is where there are several. Over a socket of v6,
/// too, what goes to v4 takes the message of v4.
fn put_control(
    header: &mut libc::msghdr,
    control: &mut [u64; CONTROL_WORDS],
    own: Option<IpAddr>,
    segment: Option<u16>,
) {
    if own.is_none() && segment.is_none() {
        (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
        return;
    }
    *control = [0; CONTROL_WORDS];
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: the control buffer has room for one of either and a number behind it, and the macros stay within its length, which
    // was just set; the second header is where the first one's room ends, and is as well aligned.
    let used = unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        let used = match own {
            Some(IpAddr::V4(own)) => {
                let none = libc::in_addr { s_addr: 0 };
                let own = libc::in_addr {
                    s_addr: u32::from(own).to_be(),
                };
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: own,
                    ipi_addr: none,
                };
                put_message(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            Some(IpAddr::V6(own)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: own.octets() },
                    ipi6_ifindex: 0,
                };
                put_message(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
            None => 0,
        };
        let second = message.byte_add(used);
        used + segment.map_or(0, |bytes| put_message(second, libc::SOL_UDP, libc::UDP_SEGMENT, bytes))
    };
    header.msg_controllen = used as _;
}

/// Writes one control message; the room that it takes.
///
/// # Safety
/// `message` points to memory for a header and the data.
unsafe fn put_message<T>(message: *mut libc::cmsghdr, level: i32, kind: i32, data: T) -> usize {
    // SAFETY: as above.
    unsafe {
        (*message).cmsg_level = level;
        (*message).cmsg_type = kind;
        (*message).cmsg_len = libc::CMSG_LEN(length::<T>()) as _;
        libc::CMSG_DATA(message).cast::<T>().write_unaligned(data);
        libc::CMSG_SPACE(length::<T>()) as usize
    }
}
