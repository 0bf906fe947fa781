//! A packet as it lies in its datagram (RFC 2865 section 3).
//!
//! [`Packet::parse`] walks all attributes once; what it returns has only whole attributes. Octets behind the packet's
//! Length are padding and ignored, a datagram shorter than its Length is no packet.

use std::fmt;

use super::number;

/// Octets before the first attribute: code, identifier, length, authenticator.
pub const HEADER_BYTES: usize = 20;
/// The longest packet (RFC 2865 section 3).
pub const PACKET_BYTES_MAX: usize = 4096;

/// What a packet is: its first octet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(pub u8);

impl Code {
    /// RFC 2865 section 4.1.
    pub const ACCESS_REQUEST: Code = Code(1);
    /// RFC 2865 section 4.2.
    pub const ACCESS_ACCEPT: Code = Code(2);
    /// RFC 2865 section 4.3.
    pub const ACCESS_REJECT: Code = Code(3);
    /// RFC 2866 section 4.1.
    pub const ACCOUNTING_REQUEST: Code = Code(4);
    /// RFC 2866 section 4.2.
    pub const ACCOUNTING_RESPONSE: Code = Code(5);
    /// RFC 2865 section 4.4.
    pub const ACCESS_CHALLENGE: Code = Code(11);
    /// RFC 5997.
    pub const STATUS_SERVER: Code = Code(12);
    /// RFC 2865 section 3; never used.
    pub const STATUS_CLIENT: Code = Code(13);
    /// RFC 5176 section 2.1.
    pub const DISCONNECT_REQUEST: Code = Code(40);
    /// RFC 5176 section 2.1.
    pub const DISCONNECT_ACK: Code = Code(41);
    /// RFC 5176 section 2.1.
    pub const DISCONNECT_NAK: Code = Code(42);
    /// RFC 5176 section 2.2.
    pub const COA_REQUEST: Code = Code(43);
    /// RFC 5176 section 2.2.
    pub const COA_ACK: Code = Code(44);
    /// RFC 5176 section 2.2.
    pub const COA_NAK: Code = Code(45);
    /// RFC 7930 section 4.
    pub const PROTOCOL_ERROR: Code = Code(52);

    const NAMES: [(Code, &'static str); 15] = [
        (Code::ACCESS_REQUEST, "Access-Request"),
        (Code::ACCESS_ACCEPT, "Access-Accept"),
        (Code::ACCESS_REJECT, "Access-Reject"),
        (Code::ACCOUNTING_REQUEST, "Accounting-Request"),
        (Code::ACCOUNTING_RESPONSE, "Accounting-Response"),
        (Code::ACCESS_CHALLENGE, "Access-Challenge"),
        (Code::STATUS_SERVER, "Status-Server"),
        (Code::STATUS_CLIENT, "Status-Client"),
        (Code::DISCONNECT_REQUEST, "Disconnect-Request"),
        (Code::DISCONNECT_ACK, "Disconnect-ACK"),
        (Code::DISCONNECT_NAK, "Disconnect-NAK"),
        (Code::COA_REQUEST, "CoA-Request"),
        (Code::COA_ACK, "CoA-ACK"),
        (Code::COA_NAK, "CoA-NAK"),
        (Code::PROTOCOL_ERROR, "Protocol-Error"),
    ];

    /// The name that IANA has for it; none where nothing here speaks that code.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        let known = Code::NAMES.iter().find(|(code, _)| *code == self);
        known.map(|(_, name)| *name)
    }

    /// The code of this name, upper or lower case.
    #[must_use]
    pub fn named(name: &str) -> Option<Code> {
        let known = Code::NAMES.iter().find(|(_, known)| known.eq_ignore_ascii_case(name));
        known.map(|(code, _)| *code)
    }

    /// Whether the Authenticator of such a packet is a hash over zeroes in its place: the requests of accounting, CoA and
    /// Disconnect (RFC 2866 section 3, RFC 5176 section 2.3). In Access-Request and Status-Server it is random.
    #[must_use]
    pub fn is_signed_request(self) -> bool {
        matches!(
            self,
            Code::ACCOUNTING_REQUEST | Code::DISCONNECT_REQUEST | Code::COA_REQUEST
        )
    }

    /// Whether it is asked with such a packet, rather than answered.
    #[must_use]
    pub fn is_request(self) -> bool {
        self.is_signed_request() || matches!(self, Code::ACCESS_REQUEST | Code::STATUS_SERVER)
    }

    /// Whether it is answered with such a packet. A code that nothing here speaks is neither.
    #[must_use]
    pub fn is_reply(self) -> bool {
        !self.is_request() && self != Code::STATUS_CLIENT && self.name().is_some()
    }
}

impl fmt::Display for Code {
    /// The name, or `Code-N`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Code-{}", self.0),
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a datagram is no packet. It is dropped without an answer (RFC 2865 section 3), and counted under
/// [`Malformed::label`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Malformed {
    /// Fewer octets than a header.
    NoHeader {
        /// Octets of the datagram.
        bytes: usize,
    },
    /// The Length says less than a header has.
    LengthTooSmall {
        /// What it says.
        length: usize,
    },
    /// The Length says more than a packet may have.
    LengthTooLarge {
        /// What it says.
        length: usize,
    },
    /// The Length says more than the datagram has.
    Truncated {
        /// What it says.
        length: usize,
        /// Octets of the datagram.
        bytes: usize,
    },
    /// An attribute's length is 0 or 1, less than its own two octets.
    AttributeLength {
        /// Octets of the packet before the attribute.
        at: usize,
        /// The attribute's type.
        number: u8,
        /// Its length.
        length: u8,
    },
    /// An attribute is longer than what is left of the packet, or there is but one octet left for it.
    AttributeTruncated {
        /// Octets of the packet before the attribute.
        at: usize,
        /// The attribute's type.
        number: u8,
    },
    /// A Message-Authenticator is not 16 octets, or is there twice (RFC 3579 sections 3.2 and 3.3).
    MessageAuthenticator {
        /// Octets of the packet before the attribute.
        at: usize,
    },
}

impl Malformed {
    /// One word for metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Malformed::NoHeader { .. } => "no_header",
            Malformed::LengthTooSmall { .. } => "length_too_small",
            Malformed::LengthTooLarge { .. } => "length_too_large",
            Malformed::Truncated { .. } => "truncated",
            Malformed::AttributeLength { .. } => "attribute_length",
            Malformed::AttributeTruncated { .. } => "attribute_truncated",
            Malformed::MessageAuthenticator { .. } => "message_authenticator",
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Malformed::NoHeader { bytes } => write!(f, "{bytes} octets, and a header alone has {HEADER_BYTES}"),
            Malformed::LengthTooSmall { length } => {
                write!(f, "the Length is {length}, and a header alone has {HEADER_BYTES}")
            }
            Malformed::LengthTooLarge { length } => {
                write!(f, "the Length is {length}, and a packet has at most {PACKET_BYTES_MAX}")
            }
            Malformed::Truncated { length, bytes } => {
                write!(f, "the Length is {length}, and the datagram has only {bytes} octets")
            }
            Malformed::AttributeLength { at, number, length } => {
                write!(
                    f,
                    "attribute {number} at octet {at} has length {length}, and its own header has 2"
                )
            }
            Malformed::AttributeTruncated { at, number } => {
                write!(
                    f,
                    "attribute {number} at octet {at} is longer than what is left of the packet"
                )
            }
            Malformed::MessageAuthenticator { at } => {
                write!(
                    f,
                    "the Message-Authenticator at octet {at} is not 16 octets, or the second one"
                )
            }
        }
    }
}

impl std::error::Error for Malformed {}

/// A packet in its datagram, every attribute known to be whole.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    /// As long as its Length says, at least a header.
    octets: &'a [u8],
    header: &'a [u8; HEADER_BYTES],
    /// Where the value of the Message-Authenticator begins. 0: there is none.
    message_authenticator: usize,
    proxy_state: bool,
}

impl<'a> Packet<'a> {
    /// Reads a datagram. Octets behind the packet are ignored.
    ///
    /// # Errors
    /// It is no packet, or one of its attributes is not whole.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Malformed> {
        let bytes = datagram.len();
        let Some(header) = datagram.first_chunk::<HEADER_BYTES>() else {
            return Err(Malformed::NoHeader { bytes });
        };
        let &[_, _, high, low, ..] = header;
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length < HEADER_BYTES {
            return Err(Malformed::LengthTooSmall { length });
        }
        if length > PACKET_BYTES_MAX {
            return Err(Malformed::LengthTooLarge { length });
        }
        let Some(octets) = datagram.get(..length) else {
            return Err(Malformed::Truncated { length, bytes });
        };
        let mut packet = Packet {
            octets,
            header,
            message_authenticator: 0,
            proxy_state: false,
        };
        packet.look_through()?;
        Ok(packet)
    }

    /// Looks at every attribute once, and notes what authenticators are decided by.
    fn look_through(&mut self) -> Result<(), Malformed> {
        let mut rest = self.attribute_octets();
        let mut at = HEADER_BYTES;
        while let Some((&number, after)) = rest.split_first() {
            let Some(&length) = after.first() else {
                return Err(Malformed::AttributeTruncated { at, number });
            };
            if length < 2 {
                return Err(Malformed::AttributeLength { at, number, length });
            }
            let Some((_, behind)) = rest.split_at_checked(usize::from(length)) else {
                return Err(Malformed::AttributeTruncated { at, number });
            };
            if number == number::MESSAGE_AUTHENTICATOR {
                if length != 18 || self.message_authenticator != 0 {
                    return Err(Malformed::MessageAuthenticator { at });
                }
                self.message_authenticator = at + 2;
            }
            self.proxy_state |= number == number::PROXY_STATE;
            rest = behind;
            at += usize::from(length);
        }
        Ok(())
    }

    /// What it is.
    #[must_use]
    pub fn code(&self) -> Code {
        let &[code, ..] = self.header;
        Code(code)
    }

    /// The number by which an answer finds its request.
    #[must_use]
    pub fn identifier(&self) -> u8 {
        let &[_, identifier, ..] = self.header;
        identifier
    }

    /// The Request Authenticator or Response Authenticator.
    #[must_use]
    pub fn authenticator(&self) -> &'a [u8; 16] {
        let (_, authenticator) = self.header.split_at(4);
        // A header has 20 octets: the other arm cannot be.
        authenticator.first_chunk().unwrap_or(&[0; 16])
    }

    /// The whole packet, without padding.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.octets
    }

    /// The attributes' octets.
    #[must_use]
    pub fn attribute_octets(&self) -> &'a [u8] {
        self.octets.get(HEADER_BYTES..).unwrap_or_default()
    }

    /// All attributes, in order.
    #[must_use]
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            rest: self.attribute_octets(),
        }
    }

    /// The value of the first attribute of this number.
    #[must_use]
    pub fn find(&self, number: u8) -> Option<&'a [u8]> {
        self.all(number).next()
    }

    /// The values of all attributes of this number, in order.
    pub fn all(&self, number: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let attributes = self.attributes().filter(move |attribute| attribute.number == number);
        attributes.map(|attribute| attribute.value)
    }

    /// The value of a vendor's first attribute of this number, where the vendor uses one octet each for type and length,
    /// as RFC 2865 section 5.26 recommends.
    #[must_use]
    pub fn find_vendor(&self, vendor: u32, number: u8) -> Option<&'a [u8]> {
        self.all_vendor(vendor, number).next()
    }

    /// The values of all of a vendor's attributes of this number.
    pub fn all_vendor(&self, vendor: u32, number: u8) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let specific = self.all(number::VENDOR_SPECIFIC).filter_map(split_vendor);
        specific
            .filter(move |(of, _)| *of == vendor)
            .flat_map(|(_, octets)| VendorAttributes::new(octets))
            .filter(move |attribute| attribute.number == number)
            .map(|attribute| attribute.value)
    }

    /// The value of the Message-Authenticator; there is at most one.
    #[must_use]
    pub fn message_authenticator(&self) -> Option<&'a [u8; 16]> {
        match self.message_authenticator {
            0 => None,
            at => self.octets.get(at..)?.first_chunk(),
        }
    }

    /// Whether the Message-Authenticator is the first attribute.
    #[must_use]
    pub fn message_authenticator_is_first(&self) -> bool {
        self.message_authenticator == HEADER_BYTES + 2
    }

    /// Whether there is a Proxy-State: without a Message-Authenticator beside it, what a BlastRADIUS attack looks like.
    #[must_use]
    pub fn has_proxy_state(&self) -> bool {
        self.proxy_state
    }

    /// What is before and behind the value of the Message-Authenticator, header left out.
    pub(super) fn around_message_authenticator(&self) -> Option<(&'a [u8], &'a [u8])> {
        let at = match self.message_authenticator {
            0 => return None,
            at => at,
        };
        let before = self.octets.get(HEADER_BYTES..at)?;
        Some((before, self.octets.get(at + 16..)?))
    }
}

impl fmt::Debug for Packet<'_> {
    /// Without values: they may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers: Vec<u8> = self.attributes().map(|attribute| attribute.number).collect();
        f.debug_struct("Packet")
            .field("code", &self.code())
            .field("identifier", &self.identifier())
            .field("attributes", &numbers)
            .finish()
    }
}

/// One attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its Type: an assigned number, or a vendor's own.
    pub number: u8,
    /// Its value, 0 to 253 octets.
    pub value: &'a [u8],
}

impl fmt::Debug for Attribute<'_> {
    /// Without the value: it may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attribute {} of {} octets", self.number, self.value.len())
    }
}

/// The attributes of a packet, in order.
#[derive(Clone, Debug, Default)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (attribute, rest) = take(self.rest)?;
        self.rest = rest;
        Some(attribute)
    }
}

/// The attributes inside one Vendor-Specific, as far as they are whole.
#[derive(Clone, Debug)]
pub struct VendorAttributes<'a> {
    rest: &'a [u8],
}

impl<'a> VendorAttributes<'a> {
    /// `octets`: what follows the Vendor-Id.
    #[must_use]
    pub fn new(octets: &'a [u8]) -> Self {
        VendorAttributes { rest: octets }
    }
}

impl<'a> Iterator for VendorAttributes<'a> {
    type Item = Attribute<'a>;

    fn next(&mut self) -> Option<Attribute<'a>> {
        let (attribute, rest) = take(self.rest)?;
        self.rest = rest;
        Some(attribute)
    }
}

fn take(octets: &[u8]) -> Option<(Attribute<'_>, &[u8])> {
    let &[number, length, ..] = octets else {
        return None;
    };
    let (whole, rest) = octets.split_at_checked(usize::from(length))?;
    let value = whole.get(2..)?;
    Some((Attribute { number, value }, rest))
}

/// The vendor of a Vendor-Specific's value, and what follows (RFC 2865 section 5.26).
#[must_use]
pub fn split_vendor(value: &[u8]) -> Option<(u32, &[u8])> {
    let (vendor, octets) = value.split_first_chunk()?;
    Some((u32::from_be_bytes(*vendor), octets))
}
