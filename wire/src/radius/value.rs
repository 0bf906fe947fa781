//! Values of every data type (RFC 8044), as octets and as text.
//!
//! The types are named as in dictionaries of FreeRADIUS 3 and as in the RFC; where a word means two things (`string`), the
//! dictionary's meaning holds. [`Value::decode`] takes only what the type allows: what it refuses is kept and shown as octets.

use std::fmt::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::date;

/// What an attribute's value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum DataType {
    /// UTF-8 (RFC 8044 section 3.4).
    Text,
    /// Any octets (RFC 8044 section 3.5).
    Octets,
    /// 32 bits, often with names for its values (RFC 8044 sections 3.1 and 3.2).
    Integer,
    /// 64 bits (RFC 8044 section 3.12).
    Integer64,
    /// 8 bits.
    Byte,
    /// 16 bits.
    Short,
    /// 32 bits with a sign.
    Signed,
    /// Seconds since 1970 (RFC 8044 section 3.3).
    Time,
    /// An IPv4 address (RFC 8044 section 3.8).
    Ipv4Addr,
    /// An IPv6 address (RFC 8044 section 3.9).
    Ipv6Addr,
    /// An IPv6 prefix (RFC 8044 section 3.10).
    Ipv6Prefix,
    /// An IPv4 prefix (RFC 8044 section 3.11).
    Ipv4Prefix,
    /// An address of either family, told apart by its length.
    ComboIp,
    /// An interface identifier (RFC 8044 section 3.7).
    Ifid,
    /// An Ethernet address.
    Ether,
    /// Attributes inside (RFC 8044 section 3.13).
    Tlv,
    /// Vendor-Specific (RFC 8044 section 3.14).
    Vsa,
    /// Another octet of number (RFC 8044 section 3.15).
    Extended,
    /// The same, and fragments (RFC 8044 section 3.16).
    LongExtended,
    /// A vendor's attribute inside an extended one (RFC 8044 section 3.17).
    Evs,
}

impl DataType {
    /// First the name of each type in dictionaries, then what else it is called.
    const NAMES: [(&'static str, DataType); 32] = [
        ("string", DataType::Text),
        ("octets", DataType::Octets),
        ("integer", DataType::Integer),
        ("integer64", DataType::Integer64),
        ("byte", DataType::Byte),
        ("short", DataType::Short),
        ("signed", DataType::Signed),
        ("date", DataType::Time),
        ("ipaddr", DataType::Ipv4Addr),
        ("ipv6addr", DataType::Ipv6Addr),
        ("ipv6prefix", DataType::Ipv6Prefix),
        ("ipv4prefix", DataType::Ipv4Prefix),
        ("combo-ip", DataType::ComboIp),
        ("ifid", DataType::Ifid),
        ("ether", DataType::Ether),
        ("tlv", DataType::Tlv),
        ("vsa", DataType::Vsa),
        ("extended", DataType::Extended),
        ("long-extended", DataType::LongExtended),
        ("evs", DataType::Evs),
        ("text", DataType::Text),
        ("abinary", DataType::Octets),
        ("concat", DataType::Octets),
        ("enum", DataType::Integer),
        ("uint32", DataType::Integer),
        ("uint64", DataType::Integer64),
        ("uint8", DataType::Byte),
        ("uint16", DataType::Short),
        ("int32", DataType::Signed),
        ("time", DataType::Time),
        ("ipv4addr", DataType::Ipv4Addr),
        ("combo-ipaddr", DataType::ComboIp),
    ];

    /// The type of this name, upper or lower case.
    #[must_use]
    pub fn named(name: &str) -> Option<DataType> {
        let known = Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        known.map(|(_, data_type)| *data_type)
    }

    /// Its name in dictionaries.
    #[must_use]
    pub fn name(self) -> &'static str {
        let known = Self::NAMES.iter().find(|(_, data_type)| *data_type == self);
        known.map_or("octets", |(name, _)| name)
    }

    /// Octets of every value, where they are always as many.
    #[must_use]
    pub fn octets(self) -> Option<usize> {
        Some(match self {
            DataType::Byte => 1,
            DataType::Short => 2,
            DataType::Integer | DataType::Signed | DataType::Time | DataType::Ipv4Addr => 4,
            DataType::Ipv4Prefix | DataType::Ether => 6,
            DataType::Integer64 | DataType::Ifid => 8,
            DataType::Ipv6Addr => 16,
            _ => return None,
        })
    }

    /// Whether values may have names, and are compared as numbers.
    #[must_use]
    pub fn is_number(self) -> bool {
        matches!(
            self,
            DataType::Byte | DataType::Short | DataType::Integer | DataType::Integer64 | DataType::Signed
        )
    }

    /// Whether there are attributes inside, and no value.
    #[must_use]
    pub fn is_container(self) -> bool {
        matches!(
            self,
            DataType::Tlv | DataType::Vsa | DataType::Extended | DataType::LongExtended | DataType::Evs
        )
    }

    /// What a text of this type looks like: for messages about one that does not.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            DataType::Text => "a text, in quotes if it has blanks or commas",
            DataType::Octets => "octets as 0x and pairs of hex digits, or a text in quotes",
            DataType::Integer | DataType::Byte | DataType::Short => "a number, or the name of a value",
            DataType::Integer64 => "a number of 64 bits",
            DataType::Signed => "a number of -2147483648 to 2147483647",
            DataType::Time => "seconds since 1970, \"Nov 27 2026 00:02:37 UTC\" or 2026-11-27T00:02:37Z",
            DataType::Ipv4Addr => "an IPv4 address like 192.0.2.1",
            DataType::Ipv6Addr => "an IPv6 address like 2001:db8::1",
            DataType::Ipv6Prefix => "an IPv6 prefix like 2001:db8::/32, its other bits zero",
            DataType::Ipv4Prefix => "an IPv4 prefix like 192.0.2.0/24, its other bits zero",
            DataType::ComboIp => "an IPv4 or IPv6 address",
            DataType::Ifid => "an interface identifier like 0:0:0:1",
            DataType::Ether => "an Ethernet address like 00:53:00:12:34:56",
            DataType::Tlv => "attributes in braces: { Name = value, … }",
            DataType::Vsa | DataType::Extended | DataType::LongExtended | DataType::Evs => {
                "no value: the attributes inside have names of their own"
            }
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value<'a> {
    /// Of a byte, short, integer or integer64.
    Unsigned(u64),
    /// Of a signed.
    Signed(i32),
    /// Of a date: seconds since 1970.
    Time(u32),
    /// Of a string. Peers do send what is no UTF-8.
    Text(&'a [u8]),
    /// Of octets.
    Octets(&'a [u8]),
    /// Of an ipaddr, ipv6addr or combo-ip.
    Address(IpAddr),
    /// Of an ipv4prefix or ipv6prefix: the address, and how many bits of it count.
    Prefix(IpAddr, u8),
    /// Of an ifid.
    Ifid([u8; 8]),
    /// Of an ether.
    Ether([u8; 6]),
}

impl<'a> Value<'a> {
    /// Reads octets. None: the type does not allow them, or is a container.
    #[must_use]
    pub fn decode(data_type: DataType, octets: &'a [u8]) -> Option<Self> {
        Some(match data_type {
            DataType::Text => Value::Text(octets),
            DataType::Octets => Value::Octets(octets),
            DataType::Byte => Value::Unsigned(u8::from_be_bytes(octets.try_into().ok()?).into()),
            DataType::Short => Value::Unsigned(u16::from_be_bytes(octets.try_into().ok()?).into()),
            DataType::Integer => Value::Unsigned(u32::from_be_bytes(octets.try_into().ok()?).into()),
            DataType::Integer64 => Value::Unsigned(u64::from_be_bytes(octets.try_into().ok()?)),
            DataType::Signed => Value::Signed(i32::from_be_bytes(octets.try_into().ok()?)),
            DataType::Time => Value::Time(u32::from_be_bytes(octets.try_into().ok()?)),
            DataType::Ipv4Addr => Value::Address(ipv4(octets)?),
            DataType::Ipv6Addr => Value::Address(ipv6(octets)?),
            DataType::ComboIp => Value::Address(ipv4(octets).or_else(|| ipv6(octets))?),
            DataType::Ipv4Prefix => prefix(octets, 4)?,
            DataType::Ipv6Prefix => prefix(octets, 16)?,
            DataType::Ifid => Value::Ifid(octets.try_into().ok()?),
            DataType::Ether => Value::Ether(octets.try_into().ok()?),
            DataType::Tlv | DataType::Vsa | DataType::Extended | DataType::LongExtended | DataType::Evs => return None,
        })
    }

    /// Appends its octets, in the one form that they have. Numbers that are larger than the type are cut to it.
    pub fn encode(&self, data_type: DataType, out: &mut Vec<u8>) {
        match *self {
            Value::Unsigned(number) => {
                let octets = number.to_be_bytes();
                let from = octets.len() - data_type.octets().unwrap_or(4).min(8);
                out.extend_from_slice(octets.get(from..).unwrap_or_default());
            }
            Value::Signed(number) => out.extend_from_slice(&number.to_be_bytes()),
            Value::Time(seconds) => out.extend_from_slice(&seconds.to_be_bytes()),
            Value::Text(octets) | Value::Octets(octets) => out.extend_from_slice(octets),
            Value::Address(address) => extend_address(out, address, 16),
            Value::Prefix(address, bits) => {
                out.extend_from_slice(&[0, bits]);
                let octets = if data_type == DataType::Ipv4Prefix {
                    4
                } else {
                    usize::from(bits.div_ceil(8))
                };
                extend_address(out, address, octets);
            }
            Value::Ifid(octets) => out.extend_from_slice(&octets),
            Value::Ether(octets) => out.extend_from_slice(&octets),
        }
    }

    /// Reads text. None: it is none of this type; [`DataType::expected`] says what would be right.
    #[must_use]
    pub fn parse(data_type: DataType, text: &'a str) -> Option<Self> {
        Some(match data_type {
            DataType::Text => Value::Text(text.as_bytes()),
            DataType::Octets => Value::Octets(text.as_bytes()),
            DataType::Byte => Value::Unsigned(unsigned(text, u8::MAX.into())?),
            DataType::Short => Value::Unsigned(unsigned(text, u16::MAX.into())?),
            DataType::Integer => Value::Unsigned(unsigned(text, u32::MAX.into())?),
            DataType::Integer64 => Value::Unsigned(unsigned(text, u64::MAX)?),
            DataType::Signed => Value::Signed(text.parse().ok()?),
            DataType::Time => Value::Time(date::parse(text)?),
            DataType::Ipv4Addr => Value::Address(IpAddr::V4(text.parse().ok()?)),
            DataType::Ipv6Addr => Value::Address(IpAddr::V6(text.parse().ok()?)),
            DataType::ComboIp => Value::Address(text.parse().ok()?),
            DataType::Ipv4Prefix | DataType::Ipv6Prefix => {
                let (address, bits) = text.split_once('/').unwrap_or((text, ""));
                let address: IpAddr = address.parse().ok()?;
                let most = if address.is_ipv4() { 32 } else { 128 };
                let bits = if bits.is_empty() { most } else { unsigned(bits, most)? };
                let right = (data_type == DataType::Ipv4Prefix) == address.is_ipv4();
                right.then_some(())?;
                checked_prefix(address, u8::try_from(bits).ok()?)?
            }
            DataType::Ifid => Value::Ifid(ifid(text)?),
            DataType::Ether => Value::Ether(ether(text)?),
            DataType::Tlv | DataType::Vsa | DataType::Extended | DataType::LongExtended | DataType::Evs => return None,
        })
    }

    /// The number of an integer of any width, or the seconds of a date.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        match *self {
            Value::Unsigned(number) => Some(number),
            Value::Time(seconds) => Some(seconds.into()),
            _ => None,
        }
    }
}

impl fmt::Display for Value<'_> {
    /// As it stands behind `Name = ` where the value has no name of its own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Value::Unsigned(number) => write!(f, "{number}"),
            Value::Signed(number) => write!(f, "{number}"),
            Value::Time(seconds) => write!(f, "\"{}\"", date::print(seconds)),
            Value::Text(octets) => quoted(f, octets),
            Value::Octets(octets) => hex(f, octets),
            Value::Address(address) => write!(f, "{address}"),
            Value::Prefix(address, bits) => write!(f, "{address}/{bits}"),
            Value::Ifid([a, b, c, d, e, g, h, i]) => {
                let word = |high, low| u16::from_be_bytes([high, low]);
                write!(f, "{:x}:{:x}:{:x}:{:x}", word(a, b), word(c, d), word(e, g), word(h, i))
            }
            Value::Ether([a, b, c, d, e, g]) => write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}"),
        }
    }
}

/// In double quotes. What is no printable UTF-8 is written as `\ooo`.
pub(super) fn quoted(f: &mut impl Write, octets: &[u8]) -> fmt::Result {
    f.write_char('"')?;
    for chunk in octets.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\r' => f.write_str("\\r")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    c.encode_utf8(&mut utf8)
                        .bytes()
                        .try_for_each(|octet| write!(f, "\\{octet:03o}"))?;
                }
                c => f.write_char(c)?,
            }
        }
        chunk
            .invalid()
            .iter()
            .try_for_each(|octet| write!(f, "\\{octet:03o}"))?;
    }
    f.write_char('"')
}

/// `0x` and two digits for each octet.
pub(super) fn hex(f: &mut impl Write, octets: &[u8]) -> fmt::Result {
    f.write_str("0x")?;
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

fn ipv4(octets: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 4] = octets.try_into().ok()?;
    Some(IpAddr::V4(Ipv4Addr::from(octets)))
}

fn ipv6(octets: &[u8]) -> Option<IpAddr> {
    let octets: [u8; 16] = octets.try_into().ok()?;
    Some(IpAddr::V6(Ipv6Addr::from(octets)))
}

/// A reserved octet, the length in bits, and the address: whole for IPv4, as far as it is not zero for IPv6.
fn prefix<'a>(octets: &[u8], whole: usize) -> Option<Value<'a>> {
    let (&[reserved, bits], address) = octets.split_first_chunk::<2>()?;
    if reserved != 0 || address.len() > whole || (whole == 4 && address.len() != 4) {
        return None;
    }
    let mut padded = [0; 16];
    padded.iter_mut().zip(address).for_each(|(to, from)| *to = *from);
    let address = ipv6(&padded)?;
    let address = if whole == 4 {
        ipv4(padded.first_chunk::<4>()?)?
    } else {
        address
    };
    checked_prefix(address, bits)
}

/// The bits behind the prefix are zero (RFC 8044 sections 3.10 and 3.11).
fn checked_prefix<'a>(address: IpAddr, bits: u8) -> Option<Value<'a>> {
    let (number, most) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let beyond = number.checked_shl(bits.into()).unwrap_or(0);
    (bits <= most && beyond == 0).then_some(Value::Prefix(address, bits))
}

fn extend_address(out: &mut Vec<u8>, address: IpAddr, octets_max: usize) {
    match address {
        IpAddr::V4(address) => out.extend(address.octets().iter().take(octets_max)),
        IpAddr::V6(address) => out.extend(address.octets().iter().take(octets_max)),
    }
}

/// Decimal, or hex behind `0x`.
pub(super) fn unsigned(text: &str, most: u64) -> Option<u64> {
    let number = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if digits.bytes().all(|octet| octet.is_ascii_hexdigit()) => {
            u64::from_str_radix(digits, 16).ok()?
        }
        None if text.bytes().all(|octet| octet.is_ascii_digit()) => text.parse().ok()?,
        _ => return None,
    };
    (number <= most).then_some(number)
}

fn ifid(text: &str) -> Option<[u8; 8]> {
    let mut octets = [0; 8];
    let mut words = text.split(':');
    for pair in octets.chunks_exact_mut(2) {
        let word = words.next().filter(|word| (1..=4).contains(&word.len()))?;
        word.bytes().all(|octet| octet.is_ascii_hexdigit()).then_some(())?;
        pair.copy_from_slice(&u16::from_str_radix(word, 16).ok()?.to_be_bytes());
    }
    words.next().is_none().then_some(octets)
}

fn ether(text: &str) -> Option<[u8; 6]> {
    let mut octets = [0; 6];
    let mut words = text.split([':', '-']);
    for octet in &mut octets {
        let word = words.next().filter(|word| (1..=2).contains(&word.len()))?;
        word.bytes().all(|octet| octet.is_ascii_hexdigit()).then_some(())?;
        *octet = u8::from_str_radix(word, 16).ok()?;
    }
    words.next().is_none().then_some(octets)
}
