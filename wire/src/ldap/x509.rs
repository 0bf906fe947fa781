//! The subject of an X.509 certificate (RFC 5280 section 4.1.2.6) as the string of a distinguished name (RFC 4514), as slapd
//! names a client that shows one: the most specific part first, attribute types by their short names.
//!
//! Certificates come here after TLS has verified them; what cannot be read is an error all the same.

use std::fmt::Write as _;

use super::dn;
use crate::ber::{self, Reader};
use crate::frame::Malformed;

/// Parts of a name, beyond which it is nobody's.
const PARTS_MAX: usize = 64;

const SET: u8 = 0x31;
const OID: u8 = 0x06;
const VERSION: u8 = 0xA0;

/// Attribute types as their encoded object identifiers, with the short names that OpenLDAP's schema has for them.
const TYPES: [(&[u8], &str); 20] = [
    (&[0x55, 0x04, 0x03], "cn"),
    (&[0x55, 0x04, 0x04], "sn"),
    (&[0x55, 0x04, 0x05], "serialNumber"),
    (&[0x55, 0x04, 0x06], "c"),
    (&[0x55, 0x04, 0x07], "l"),
    (&[0x55, 0x04, 0x08], "st"),
    (&[0x55, 0x04, 0x09], "street"),
    (&[0x55, 0x04, 0x0A], "o"),
    (&[0x55, 0x04, 0x0B], "ou"),
    (&[0x55, 0x04, 0x0C], "title"),
    (&[0x55, 0x04, 0x0D], "description"),
    (&[0x55, 0x04, 0x11], "postalCode"),
    (&[0x55, 0x04, 0x14], "telephoneNumber"),
    (&[0x55, 0x04, 0x2A], "givenName"),
    (&[0x55, 0x04, 0x2B], "initials"),
    (&[0x55, 0x04, 0x2C], "generationQualifier"),
    (&[0x55, 0x04, 0x2E], "dnQualifier"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x01], "uid"),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xF2, 0x2C, 0x64, 0x01, 0x19], "dc"),
    (&[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 0x01, 0x09, 0x01], "email"),
];

/// The subject of a DER encoded certificate; empty where it names nobody.
///
/// # Errors
/// It is no certificate, or its subject cannot be read.
pub fn subject(certificate: &[u8]) -> Result<String, Malformed> {
    let mut whole = Reader::inside(certificate, ber::tag::SEQUENCE)?;
    let mut fields = Reader::new(whole.take(ber::tag::SEQUENCE)?);
    fields.take_optional(VERSION)?;
    fields.take(ber::tag::INTEGER)?;
    // The signature's algorithm, the issuer, how long it holds.
    for _ in 0..3 {
        fields.take(ber::tag::SEQUENCE)?;
    }
    name(fields.take(ber::tag::SEQUENCE)?)
}

/// An RDNSequence's content.
fn name(sequence: &[u8]) -> Result<String, Malformed> {
    let mut parts = Reader::new(sequence);
    let mut written: Vec<String> = Vec::new();
    while !parts.is_empty() {
        if written.len() == PARTS_MAX {
            return Err(Malformed::BadValue("a certificate's subject"));
        }
        let mut pairs = Reader::new(parts.take(SET)?);
        let mut rdn = Vec::new();
        while !pairs.is_empty() {
            let mut pair = Reader::new(pairs.take(ber::tag::SEQUENCE)?);
            let kind = pair.take(OID)?;
            let value = pair.element()?;
            pair.finish()?;
            rdn.push(attribute(kind, value.tag, value.content)?);
        }
        written.push(rdn.join("+"));
    }
    written.reverse();
    Ok(written.join(","))
}

fn attribute(kind: &[u8], tag: u8, value: &[u8]) -> Result<String, Malformed> {
    let known = TYPES.iter().find(|(oid, _)| *oid == kind).map(|(_, name)| *name);
    Ok(match (known, text(tag, value)) {
        (Some(name), Some(text)) => format!("{name}={}", dn::escape(text.as_bytes())),
        // RFC 4514 section 2.4: what has no string is the hexadecimal form of its encoding.
        (name, _) => {
            let mut out = name.map_or_else(|| dotted(kind), |name| Ok(name.to_owned()))?;
            out.push_str("=#");
            let mut encoded = Vec::new();
            ber::write_bytes(&mut encoded, tag, value);
            for byte in encoded {
                // Writing to a string does not fail.
                let _ = write!(out, "{byte:02x}");
            }
            out
        }
    })
}

/// A DirectoryString or IA5String, as far as it is text.
fn text(tag: u8, value: &[u8]) -> Option<String> {
    match tag {
        // UTF8String, NumericString, PrintableString, IA5String, VisibleString.
        0x0C | 0x12 | 0x13 | 0x16 | 0x1A => String::from_utf8(value.to_vec()).ok(),
        // TeletexString, which is Latin 1 in practice.
        0x14 => Some(value.iter().map(|byte| char::from(*byte)).collect()),
        // BMPString.
        0x1E => {
            let (units, rest) = value.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            rest.is_empty().then(|| String::from_utf16(&units).ok())?
        }
        // UniversalString.
        0x1C => {
            let (units, rest) = value.as_chunks::<4>();
            let text = units.iter().map(|unit| char::from_u32(u32::from_be_bytes(*unit)));
            rest.is_empty().then(|| text.collect())?
        }
        _ => None,
    }
}

fn dotted(oid: &[u8]) -> Result<String, Malformed> {
    let bad = Malformed::BadValue("an object identifier");
    let mut out = String::new();
    let (mut arc, mut open) = (0_u64, false);
    for byte in oid {
        if arc > u64::MAX >> 7 {
            return Err(bad);
        }
        arc = arc << 7 | u64::from(byte & 0x7F);
        open = byte & 0x80 != 0;
        if open {
            continue;
        }
        if out.is_empty() {
            let first = (arc / 40).min(2);
            let _ = write!(out, "{first}.{}", arc - first * 40);
        } else {
            let _ = write!(out, ".{arc}");
        }
        arc = 0;
    }
    if open || out.is_empty() { Err(bad) } else { Ok(out) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        ber::write_bytes(&mut out, tag, content);
        out
    }

    fn pair(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        tlv(0x30, &[tlv(OID, oid), tlv(tag, value)].concat())
    }

    fn certificate(version: bool, rdns: &[Vec<u8>]) -> Vec<u8> {
        let empty = tlv(0x30, b"");
        let mut fields = Vec::new();
        if version {
            fields.extend(tlv(VERSION, &tlv(0x02, &[2])));
        }
        fields.extend(tlv(0x02, &[1]));
        for _ in 0..3 {
            fields.extend(&empty);
        }
        fields.extend(tlv(0x30, &rdns.concat()));
        fields.extend(&empty);
        tlv(0x30, &[tlv(0x30, &fields), empty, tlv(0x03, &[0])].concat())
    }

    #[test]
    fn the_most_specific_part_comes_first_and_values_are_escaped() {
        let rdns = [
            tlv(SET, &pair(&[0x55, 4, 6], 0x13, b"US")),
            tlv(SET, &pair(&[0x55, 4, 0x0A], 0x0C, b"Example, Inc.")),
            tlv(
                SET,
                &[
                    pair(&[0x55, 4, 3], 0x0C, "Zoë".as_bytes()),
                    pair(&[0x55, 4, 5], 0x13, b"7"),
                ]
                .concat(),
            ),
        ];
        for version in [true, false] {
            let subject = subject(&certificate(version, &rdns)).unwrap();
            assert_eq!(subject, "cn=Zoë+serialNumber=7,o=Example\\2c Inc.,c=US");
        }
    }

    #[test]
    fn what_has_no_name_or_no_text_is_written_as_its_octets() {
        let unknown = tlv(SET, &pair(&[0x2A, 0x86, 0x48, 3], 0x0C, b"ab"));
        assert_eq!(subject(&certificate(true, &[unknown])).unwrap(), "1.2.840.3=#0c026162");
        let number = tlv(SET, &pair(&[0x55, 4, 3], 0x02, &[9]));
        assert_eq!(subject(&certificate(true, &[number])).unwrap(), "cn=#020109");
        let wide = tlv(SET, &pair(&[0x55, 4, 3], 0x1E, &[0, b'x', 0, b'y']));
        assert_eq!(subject(&certificate(true, &[wide])).unwrap(), "cn=xy");
        assert_eq!(subject(&certificate(true, &[])).unwrap(), "");
    }

    #[test]
    fn what_is_cut_off_anywhere_is_an_error() {
        let whole = certificate(true, &[tlv(SET, &pair(&[0x55, 4, 3], 0x0C, b"abc"))]);
        for len in 0..whole.len() {
            assert!(subject(&whole[..len]).is_err(), "{len} octets");
        }
        let many = vec![tlv(SET, &pair(&[0x55, 4, 3], 0x0C, b"a")); PARTS_MAX + 1];
        assert!(subject(&certificate(true, &many)).is_err());
    }
}
