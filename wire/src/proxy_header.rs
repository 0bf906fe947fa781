//! The PROXY protocol: what a balancer says of a connection before the first byte of it.
//!
//! Version 1 is a line of text, version 2 a binary block; both are defined in HAProxy's `proxy-protocol.txt`, whose sections
//! are named below. A header says who the client is, so only whoever is trusted may send one, and nobody guesses whether one
//! is there: a listener has them or has not (section 5).

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::frame::{Malformed, Step};

/// Longest header of version 1 in bytes, CR LF included (section 2.1).
pub const V1_BYTES_MAX: usize = 107;
/// Longest header of version 2 that is taken, in bytes. The addresses need at most 232; the rest is room for extensions.
pub const V2_BYTES_MAX: usize = 4096;

/// Before everything of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const V2_HEAD_BYTES: usize = 16;
/// A path of a unix socket, filled up with zeros.
const PATH_BYTES: usize = 108;

/// Which form a header has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// Which forms are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// This one alone.
    Only(Version),
    /// Either.
    Any,
}

/// Between whom the connection is that the sender forwards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ends<'a> {
    /// The sender connects for itself, as for a health check (`LOCAL`; version 1 cannot say it).
    Local,
    /// The sender does not know, or uses a family that is not understood here: the socket's own addresses count.
    Unknown,
    /// A client over TCP.
    Ip {
        /// The client.
        source: SocketAddr,
        /// Where it connected to.
        destination: SocketAddr,
    },
    /// A client over a unix stream socket: paths without the zeros behind them, often empty.
    Unix {
        /// The client's.
        source: &'a [u8],
        /// Where it connected to.
        destination: &'a [u8],
    },
}

/// A whole header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header<'a> {
    /// Its form.
    pub version: Version,
    /// What it says.
    pub ends: Ends<'a>,
    /// Extensions of version 2 (section 2.2), found to be whole; see [`Tlvs`].
    pub tlvs: Tlvs<'a>,
}

/// Extensions, each a type and a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tlvs<'a>(&'a [u8]);

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (found, rest) = tlv(self.0)?;
        self.0 = rest;
        Some(found)
    }
}

impl<'a> Header<'a> {
    /// Reads one whole header, as [`split`] has found it.
    ///
    /// # Errors
    /// It is no header of either version, cut off, or followed by something.
    pub fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        match split(frame, Accepted::Any) {
            Step::Frame { len } if len == frame.len() => {}
            Step::Frame { .. } => return Err(Malformed::TrailingBytes),
            Step::NeedMore { .. } => return Err(Malformed::Truncated),
            Step::Malformed(fault) => return Err(fault),
        }
        if frame.first() == Some(&b'P') {
            read_v1(frame)
        } else {
            read_v2(frame)
        }
    }
}

/// Where the header at the beginning of `buf` ends. What cannot become one is known by its first wrong byte.
#[must_use]
pub fn split(buf: &[u8], accepted: Accepted) -> Step {
    let version = match buf.first() {
        None => return Step::NeedMore { total: None },
        Some(b'P') => Version::V1,
        Some(b'\r') => Version::V2,
        Some(_) => return Step::Malformed(Malformed::BadMagic),
    };
    if accepted != Accepted::Any && accepted != Accepted::Only(version) {
        return Step::Malformed(Malformed::BadVersion);
    }
    match version {
        Version::V1 => split_v1(buf),
        Version::V2 => split_v2(buf),
    }
}

/// Appends a header. Addresses of v4 mapped into v6 are written as v4 where both are; a mixed pair is written as v6.
/// Version 1 has no words for clients of unix sockets and for connections of the sender's own: they are `UNKNOWN`.
pub fn write(out: &mut Vec<u8>, version: Version, ends: Ends<'_>) {
    match version {
        Version::V1 => write_v1(out, ends),
        Version::V2 => write_v2(out, ends),
    }
}

fn begins_alike(buf: &[u8], mark: &[u8]) -> bool {
    buf.iter().zip(mark).all(|(a, b)| a == b)
}

fn split_v1(buf: &[u8]) -> Step {
    if !begins_alike(buf, b"PROXY ") {
        return Step::Malformed(Malformed::BadMagic);
    }
    let line = buf.get(..V1_BYTES_MAX).unwrap_or(buf);
    match line.iter().position(|byte| *byte == b'\n') {
        Some(end) if line.get(..end).is_some_and(|line| line.ends_with(b"\r")) => Step::Frame { len: end + 1 },
        Some(_) => Step::Malformed(Malformed::BadValue("CR before LF")),
        None if line.len() == V1_BYTES_MAX => Step::Malformed(Malformed::TooLarge),
        None => Step::NeedMore { total: None },
    }
}

fn split_v2(buf: &[u8]) -> Step {
    if !begins_alike(buf, &SIGNATURE) {
        return Step::Malformed(Malformed::BadMagic);
    }
    if buf.get(12).is_some_and(|byte| byte >> 4 != 2) {
        return Step::Malformed(Malformed::BadVersion);
    }
    let Some(len) = buf.get(14..V2_HEAD_BYTES).and_then(|len| len.try_into().ok()) else {
        return Step::NeedMore { total: None };
    };
    let total = V2_HEAD_BYTES + usize::from(u16::from_be_bytes(len));
    if total > V2_BYTES_MAX {
        Step::Malformed(Malformed::TooLarge)
    } else if buf.len() < total {
        Step::NeedMore { total: Some(total) }
    } else {
        Step::Frame { len: total }
    }
}

/// Section 2.1: `PROXY TCP4 SOURCE DESTINATION PORT PORT`, one space between, or `PROXY UNKNOWN` and whatever follows.
fn read_v1(frame: &[u8]) -> Result<Header<'_>, Malformed> {
    const WRONG: Malformed = Malformed::BadValue("PROXY TCP4, TCP6 or UNKNOWN, two addresses and two ports");
    let header = |ends| Header {
        version: Version::V1,
        ends,
        tlvs: Tlvs(&[]),
    };
    let line = frame.strip_suffix(b"\r\n").ok_or(WRONG)?;
    let mut words = line.split(|byte| *byte == b' ').skip(1);
    let family = words.next().ok_or(WRONG)?;
    if family == b"UNKNOWN" {
        return Ok(header(Ends::Unknown));
    }
    let mut word = || std::str::from_utf8(words.next()?).ok();
    let (Some(source), Some(destination), Some(from), Some(to)) = (word(), word(), word(), word()) else {
        return Err(WRONG);
    };
    if words.next().is_some() {
        return Err(WRONG);
    }
    let address = |text: &str| match family {
        b"TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        b"TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let end = |text, digits| Some(SocketAddr::new(address(text)?, port(digits)?));
    match (end(source, from), end(destination, to)) {
        (Some(source), Some(destination)) => Ok(header(Ends::Ip { source, destination })),
        _ => Err(WRONG),
    }
}

/// 0 to 65535, without a sign or zeros before it.
fn port(digits: &str) -> Option<u16> {
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

/// Section 2.2.
fn read_v2(frame: &[u8]) -> Result<Header<'_>, Malformed> {
    let header = |ends, tlvs| Header {
        version: Version::V2,
        ends,
        tlvs: Tlvs(tlvs),
    };
    let (head, rest) = frame.split_at_checked(V2_HEAD_BYTES).ok_or(Malformed::Truncated)?;
    let (Some(command), Some(family)) = (head.get(12), head.get(13)) else {
        return Err(Malformed::Truncated);
    };
    match command & 0x0f {
        // Whatever else it says is to be ignored, the family included.
        0 => return Ok(header(Ends::Local, &[])),
        1 => {}
        _ => return Err(Malformed::BadValue("the command LOCAL or PROXY")),
    }
    let (ends, tlvs) = match family {
        0x11 => ip::<4>(rest)?,
        0x21 => ip::<16>(rest)?,
        0x31 => {
            let (source, rest) = rest.split_at_checked(PATH_BYTES).ok_or(Malformed::Truncated)?;
            let (destination, rest) = rest.split_at_checked(PATH_BYTES).ok_or(Malformed::Truncated)?;
            let (source, destination) = (path(source), path(destination));
            (Ends::Unix { source, destination }, rest)
        }
        // Nothing, or datagrams: no such client comes here, so the socket's own addresses count.
        0x00 | 0x12 | 0x22 | 0x32 => return Ok(header(Ends::Unknown, &[])),
        _ => return Err(Malformed::BadValue("a family and protocol of the PROXY protocol")),
    };
    let mut left = tlvs;
    while !left.is_empty() {
        (_, left) = tlv(left).ok_or(Malformed::Truncated)?;
    }
    Ok(header(ends, tlvs))
}

/// Two addresses of `N` bytes, two ports, and what follows.
fn ip<const N: usize>(bytes: &[u8]) -> Result<(Ends<'_>, &[u8]), Malformed>
where
    IpAddr: From<[u8; N]>,
{
    let parts = || {
        let (source, rest) = bytes.split_first_chunk::<N>()?;
        let (destination, rest) = rest.split_first_chunk::<N>()?;
        let (from, rest) = rest.split_first_chunk()?;
        let (to, rest) = rest.split_first_chunk()?;
        let end = |address: &[u8; N], port| SocketAddr::new(IpAddr::from(*address), u16::from_be_bytes(port));
        let (source, destination) = (end(source, *from), end(destination, *to));
        Some((Ends::Ip { source, destination }, rest))
    };
    parts().ok_or(Malformed::Truncated)
}

fn path(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Type and value of an extension.
type Tlv<'a> = (u8, &'a [u8]);

/// The first extension, and what follows it.
fn tlv(bytes: &[u8]) -> Option<(Tlv<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (len, rest) = rest.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some(((*kind, value), rest))
}

/// Both as v4, or both as v6.
enum Pair {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn pair(source: SocketAddr, destination: SocketAddr) -> Pair {
    let wide = |address| match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    match (source.ip().to_canonical(), destination.ip().to_canonical()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Pair::V4(source, destination),
        (source, destination) => Pair::V6(wide(source), wide(destination)),
    }
}

fn write_v1(out: &mut Vec<u8>, ends: Ends<'_>) {
    // Writing to memory does not fail.
    let _ = match ends {
        Ends::Ip { source, destination } => {
            let (from, to) = (source.port(), destination.port());
            match pair(source, destination) {
                Pair::V4(source, destination) => write!(out, "PROXY TCP4 {source} {destination} {from} {to}\r\n"),
                Pair::V6(source, destination) => write!(out, "PROXY TCP6 {source} {destination} {from} {to}\r\n"),
            }
        }
        Ends::Local | Ends::Unknown | Ends::Unix { .. } => out.write_all(b"PROXY UNKNOWN\r\n"),
    };
}

fn write_v2(out: &mut Vec<u8>, ends: Ends<'_>) {
    const LOCAL: u8 = 0x20;
    const PROXY: u8 = 0x21;
    out.extend_from_slice(&SIGNATURE);
    match ends {
        Ends::Local => out.extend_from_slice(&[LOCAL, 0, 0, 0]),
        Ends::Unknown => out.extend_from_slice(&[PROXY, 0, 0, 0]),
        Ends::Ip { source, destination } => {
            match pair(source, destination) {
                Pair::V4(source, destination) => {
                    out.extend_from_slice(&[PROXY, 0x11, 0, 12]);
                    out.extend_from_slice(&source.octets());
                    out.extend_from_slice(&destination.octets());
                }
                Pair::V6(source, destination) => {
                    out.extend_from_slice(&[PROXY, 0x21, 0, 36]);
                    out.extend_from_slice(&source.octets());
                    out.extend_from_slice(&destination.octets());
                }
            }
            out.extend_from_slice(&source.port().to_be_bytes());
            out.extend_from_slice(&destination.port().to_be_bytes());
        }
        Ends::Unix { source, destination } => {
            out.extend_from_slice(&[PROXY, 0x31, 0, 216]);
            for name in [source, destination] {
                let mut filled = [0; PATH_BYTES];
                for (to, from) in filled.iter_mut().zip(name) {
                    *to = *from;
                }
                out.extend_from_slice(&filled);
            }
        }
    }
}

#[cfg(test)]
#[path = "proxy_header_tests.rs"]
mod tests;
