//! Many datagrams with one system call, each with the address that it was sent to: what std, socket2 and rustix do not offer.
//!
//! - Every pointer that the kernel is given points into a `Vec` of the same [`Batch`], whose length does not change between
//!   [`Batch::new`] and its drop; they are written anew before each call, so that a moved `Batch` is no matter.
//! - Nothing is read of what the kernel wrote but through lengths that it gave and that are checked against ours.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Octets of a datagram that are taken: the longest RADIUS packet. What is longer is cut, and said to be.
pub const DATAGRAM_BYTES_MAX: usize = 4096;
/// Room for control messages of one datagram: the address it was sent to, and the count of what was dropped.
const CONTROL_WORDS: usize = 16;

/// A datagram that came.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub from: SocketAddr,
    /// Which of our addresses it was sent to, where the kernel says.
    pub to: Option<IpAddr>,
    /// It was longer than [`DATAGRAM_BYTES_MAX`].
    pub cut: bool,
    /// What this socket has dropped since it was made, for want of room.
    pub drops: Option<u32>,
}

/// A datagram that is to be sent.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// What is in it.
    pub bytes: &'a [u8],
    /// To whom.
    pub peer: SocketAddr,
    /// From which of our addresses; none: the kernel's choice.
    pub own: Option<IpAddr>,
}

/// Room for so many datagrams at once.
pub struct Batch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    control: Vec<[u64; CONTROL_WORDS]>,
    bytes: Vec<u8>,
    received: usize,
}

// SAFETY: its pointers are only looked at within a call that has just written them (see the head of this file); everything
// else is numbers.
unsafe impl Send for Batch {}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch")
            .field("room", &self.headers.len())
            .field("received", &self.received)
            .finish_non_exhaustive()
    }
}

impl Batch {
    /// For `room` datagrams; to send, 0 octets of room for their content are enough.
    pub fn new(room: usize, receives: bool) -> Batch {
        // SAFETY: these C structures are numbers and pointers, for which all zeroes is a value.
        let (header, vector, name) = unsafe { (zeroed(), zeroed(), zeroed()) };
        Batch {
            headers: vec![header; room],
            vectors: vec![vector; room],
            names: vec![name; room],
            control: vec![[0; CONTROL_WORDS]; room],
            bytes: vec![0; if receives { room * DATAGRAM_BYTES_MAX } else { 0 }],
            received: 0,
        }
    }

    /// Receives what is there, as much as there is room for; how many that were. Never waits.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.received = 0;
        let all = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.names);
        let all = all
            .zip(&mut self.control)
            .zip(self.bytes.chunks_exact_mut(DATAGRAM_BYTES_MAX));
        let mut room: libc::c_uint = 0;
        for ((((header, vector), name), control), bytes) in all {
            vector.iov_base = bytes.as_mut_ptr().cast();
            vector.iov_len = bytes.len();
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = length::<libc::sockaddr_storage>();
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_control = control.as_mut_ptr().cast();
            header.msg_hdr.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
            header.msg_hdr.msg_flags = 0;
            header.msg_len = 0;
            room += 1;
        }
        // SAFETY: `room` headers were just written, each with pointers to live memory of the lengths it names, see the head of
        // this file; there is no timeout.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                room,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
        self.received = got;
        Ok(got)
    }

    /// One of those that were received last.
    pub fn get(&self, at: usize) -> Option<Datagram<'_>> {
        if at >= self.received {
            return None;
        }
        let header = self.headers.get(at)?;
        let room = self.bytes.chunks_exact(DATAGRAM_BYTES_MAX).nth(at)?;
        let bytes = room.get(..(header.msg_len as usize).min(room.len()))?;
        let mut datagram = Datagram {
            bytes,
            from: address(self.names.get(at)?)?,
            to: None,
            cut: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            drops: None,
        };
        // SAFETY: the header is as the kernel left it: its control length is not above ours, and the memory is there.
        let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header.msg_hdr) };
        while !message.is_null() {
            // SAFETY: the macros give back only headers that lie whole within the control length.
            let (kind, data) = unsafe { (*message, libc::CMSG_DATA(message)) };
            read_control(&kind, data, &mut datagram);
            // SAFETY: as above.
            message = unsafe { libc::CMSG_NXTHDR(&raw const header.msg_hdr, message) };
        }
        Some(datagram)
    }

    /// Overwrites what was received: there are passwords in it.
    pub fn wipe(&mut self) {
        let lengths = self.headers.iter().take(self.received);
        for (header, room) in lengths.zip(self.bytes.chunks_exact_mut(DATAGRAM_BYTES_MAX)) {
            let len = (header.msg_len as usize).min(room.len());
            if let Some(bytes) = room.get_mut(..len) {
                zeroize::Zeroize::zeroize(bytes);
            }
        }
        self.received = 0;
    }

    /// Sends, as many as there is room for; how many the kernel took.
    pub fn send<'a>(&mut self, socket: BorrowedFd<'_>, out: impl Iterator<Item = Outgoing<'a>>) -> io::Result<usize> {
        let all = self.headers.iter_mut().zip(&mut self.vectors).zip(&mut self.names);
        let mut count: libc::c_uint = 0;
        for ((((header, vector), name), control), out) in all.zip(&mut self.control).zip(out) {
            // The kernel only reads it.
            vector.iov_base = out.bytes.as_ptr().cast_mut().cast();
            vector.iov_len = out.bytes.len();
            header.msg_hdr.msg_name = ptr::from_mut(name).cast();
            header.msg_hdr.msg_namelen = put_address(name, out.peer);
            header.msg_hdr.msg_iov = vector;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_flags = 0;
            put_control(&mut header.msg_hdr, control, out.own, out.peer);
            count += 1;
        }
        // SAFETY: `count` headers were just written, each with pointers to memory that lives as long as this call: ours, see
        // the head of this file, and the callers' octets, which are borrowed for `'a`.
        let sent = unsafe { libc::sendmmsg(socket.as_raw_fd(), self.headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

fn length<T>() -> libc::socklen_t {
    // Sizes of C structures are far below its bound.
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

fn address(name: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let name: *const libc::sockaddr_storage = name;
    // SAFETY: sockaddr_storage is as large and as well aligned as each of the two, whose fields are numbers; which of them
    // it is, its family says.
    unsafe {
        match i32::from((*name).ss_family) {
            libc::AF_INET => {
                let v4 = &*name.cast::<libc::sockaddr_in>();
                let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
                Some(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
            }
            libc::AF_INET6 => {
                let v6 = &*name.cast::<libc::sockaddr_in6>();
                let (ip, port) = (Ipv6Addr::from(v6.sin6_addr.s6_addr), u16::from_be(v6.sin6_port));
                Some(SocketAddrV6::new(ip, port, 0, v6.sin6_scope_id).into())
            }
            _ => None,
        }
    }
}

fn put_address(name: &mut libc::sockaddr_storage, to: SocketAddr) -> libc::socklen_t {
    let name: *mut libc::sockaddr_storage = name;
    // SAFETY: as in `address`.
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

/// `data`: what is behind this header, as long as it says.
fn read_control(header: &libc::cmsghdr, data: *const u8, datagram: &mut Datagram<'_>) {
    #[expect(clippy::unnecessary_cast, reason = "its type is another on other machines")]
    let len = header.cmsg_len as usize;
    let has = |bytes: usize| len >= bytes + data_offset();
    // SAFETY: read unaligned, and only where the header says that so much is there.
    unsafe {
        match (header.cmsg_level, header.cmsg_type) {
            (libc::IPPROTO_IP, libc::IP_PKTINFO) if has(size_of::<libc::in_pktinfo>()) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                datagram.to = Some(Ipv4Addr::from(u32::from_be(info.ipi_addr.s_addr)).into());
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if has(size_of::<libc::in6_pktinfo>()) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                datagram.to = Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into());
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) if has(size_of::<u32>()) => {
                datagram.drops = Some(data.cast::<u32>().read_unaligned());
            }
            _ => {}
        }
    }
}

/// What a header is long before its data.
fn data_offset() -> usize {
    // SAFETY: computes, and touches nothing.
    unsafe { libc::CMSG_LEN(0) as usize }
}

/// From which of our addresses it is to come.
fn put_control(header: &mut libc::msghdr, control: &mut [u64; CONTROL_WORDS], own: Option<IpAddr>, peer: SocketAddr) {
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<[u64; CONTROL_WORDS]>() as _;
    // SAFETY: the control buffer has room for one of either, and the macros stay within its length, which was just set.
    let used = unsafe {
        let message = libc::CMSG_FIRSTHDR(header);
        match (own, peer) {
            (Some(IpAddr::V4(own)), SocketAddr::V4(_)) => {
                let info = libc::in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: libc::in_addr {
                        s_addr: u32::from(own).to_be(),
                    },
                    ipi_addr: libc::in_addr { s_addr: 0 },
                };
                put_message(message, libc::IPPROTO_IP, libc::IP_PKTINFO, info)
            }
            (Some(IpAddr::V6(own)), SocketAddr::V6(_)) => {
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: own.octets() },
                    ipi6_ifindex: 0,
                };
                put_message(message, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
            _ => 0,
        }
    };
    header.msg_controllen = used as _;
    if used == 0 {
        header.msg_control = ptr::null_mut();
    }
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

/// Has the kernel say with each datagram which address it was sent to, and how many were dropped before it.
pub fn announce(socket: BorrowedFd<'_>, is_v6: bool) -> io::Result<()> {
    if is_v6 {
        set(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, &1_i32)?;
    } else {
        set(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, &1_i32)?;
    }
    set(socket, libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &1_i32)
}

/// Has the kernel choose among the sockets of one address, in the order in which they were bound, by this classic BPF
/// program: it sees the datagram's content, and says a number.
pub fn steer(socket: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        // The kernel only reads it.
        filter: program.as_ptr().cast_mut(),
    };
    set(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &program)
}

fn set<T>(socket: BorrowedFd<'_>, level: i32, name: i32, value: &T) -> io::Result<()> {
    // SAFETY: the value is as long as is said, and only read.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            length::<T>(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
