//! Layouts of Microsoft's attributes for MS-CHAP (RFC 2548 section 2). What is in them is computed elsewhere.
//!
//! Values that have not the length of their layout are none: nothing here looks into them.

use super::packet::Packet;
use super::writer::{Full, Writer};

/// Microsoft's private enterprise number.
pub const VENDOR: u32 = 311;
/// MS-CHAP-Response (RFC 2548 section 2.1.3).
pub const RESPONSE: u8 = 1;
/// MS-CHAP-Error (section 2.1.5).
pub const ERROR: u8 = 2;
/// MS-CHAP-CPW-1 (section 2.1.6).
pub const CPW_1: u8 = 3;
/// MS-CHAP-CPW-2 (section 2.1.7).
pub const CPW_2: u8 = 4;
/// MS-CHAP-LM-Enc-PW (section 2.1.8).
pub const LM_ENC_PW: u8 = 5;
/// MS-CHAP-NT-Enc-PW (section 2.1.9).
pub const NT_ENC_PW: u8 = 6;
/// MS-MPPE-Encryption-Policy (section 2.4.4).
pub const MPPE_ENCRYPTION_POLICY: u8 = 7;
/// MS-MPPE-Encryption-Types (section 2.4.5).
pub const MPPE_ENCRYPTION_TYPES: u8 = 8;
/// MS-CHAP-Domain (section 2.1.4).
pub const DOMAIN: u8 = 10;
/// MS-CHAP-Challenge (section 2.1.2).
pub const CHALLENGE: u8 = 11;
/// MS-CHAP-MPPE-Keys (section 2.4.1).
pub const MPPE_KEYS: u8 = 12;
/// MS-MPPE-Send-Key (section 2.4.2).
pub const MPPE_SEND_KEY: u8 = 16;
/// MS-MPPE-Recv-Key (section 2.4.3).
pub const MPPE_RECV_KEY: u8 = 17;
/// MS-CHAP2-Response (section 2.3.2).
pub const RESPONSE_2: u8 = 25;
/// MS-CHAP2-Success (section 2.3.3).
pub const SUCCESS_2: u8 = 26;
/// MS-CHAP2-CPW (section 2.3.4).
pub const CPW_2_2: u8 = 27;

/// A new password, encrypted: octets of it.
pub const ENCRYPTED_PASSWORD_BYTES: usize = 516;

/// Pieces of it, at most: three are enough.
const PIECES_MAX: u16 = 16;

/// MS-CHAP-Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response<'a> {
    /// The CHAP identifier.
    pub ident: u8,
    /// 1: the NT response is to be used, 0: the LM response, which nobody should send.
    pub flags: u8,
    /// The answer made with the LM hash.
    pub lm: &'a [u8; 24],
    /// The answer made with the NT hash.
    pub nt: &'a [u8; 24],
}

impl<'a> Response<'a> {
    /// Reads the value.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let response = Response {
            ident: fields.octet()?,
            flags: fields.octet()?,
            lm: fields.array()?,
            nt: fields.array()?,
        };
        fields.end(response)
    }
}

/// MS-CHAP2-Response.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Response2<'a> {
    /// The CHAP identifier.
    pub ident: u8,
    /// Zero.
    pub flags: u8,
    /// What the peer asked.
    pub peer_challenge: &'a [u8; 16],
    /// The answer made with the NT hash.
    pub response: &'a [u8; 24],
}

impl<'a> Response2<'a> {
    /// Reads the value.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(value);
        let (ident, flags, peer_challenge) = (fields.octet()?, fields.octet()?, fields.array()?);
        let _reserved: &[u8; 8] = fields.array()?;
        let response = Response2 {
            ident,
            flags,
            peer_challenge,
            response: fields.array()?,
        };
        fields.end(response)
    }
}

/// MS-CHAP-CPW-2: a change of the password under MS-CHAP version 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangePassword1<'a> {
    /// The CHAP identifier.
    pub ident: u8,
    /// The old NT hash, encrypted with the new one.
    pub old_nt_hash: &'a [u8; 16],
    /// The old LM hash, encrypted with the new NT hash.
    pub old_lm_hash: &'a [u8; 16],
    /// The answer made with the LM hash.
    pub lm: &'a [u8; 24],
    /// The answer made with the NT hash.
    pub nt: &'a [u8; 24],
    /// Bit 0: the NT response is to be used; bit 1: there is an encrypted LM password as well.
    pub flags: u16,
}

impl<'a> ChangePassword1<'a> {
    /// Reads the value. Its first octet is 6.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(value);
        (fields.octet()? == 6).then_some(())?;
        let change = ChangePassword1 {
            ident: fields.octet()?,
            old_nt_hash: fields.array()?,
            old_lm_hash: fields.array()?,
            lm: fields.array()?,
            nt: fields.array()?,
            flags: u16::from_be_bytes(*fields.array()?),
        };
        fields.end(change)
    }
}

/// MS-CHAP2-CPW: a change of the password under MS-CHAP version 2.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChangePassword2<'a> {
    /// The CHAP identifier.
    pub ident: u8,
    /// The old NT hash, encrypted with the new one.
    pub encrypted_hash: &'a [u8; 16],
    /// What the peer asked.
    pub peer_challenge: &'a [u8; 16],
    /// The answer made with the new NT hash.
    pub nt: &'a [u8; 24],
    /// Zero.
    pub flags: u16,
}

impl<'a> ChangePassword2<'a> {
    /// Reads the value. Its first octet is 7.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let mut fields = Fields(value);
        (fields.octet()? == 7).then_some(())?;
        let (ident, encrypted_hash, peer_challenge) = (fields.octet()?, fields.array()?, fields.array()?);
        let _reserved: &[u8; 8] = fields.array()?;
        let change = ChangePassword2 {
            ident,
            encrypted_hash,
            peer_challenge,
            nt: fields.array()?,
            flags: u16::from_be_bytes(*fields.array()?),
        };
        fields.end(change)
    }
}

/// Puts the pieces of an encrypted new password (MS-CHAP-NT-Enc-PW or MS-CHAP-LM-Enc-PW) together, by their sequence
/// numbers. None: a piece is missing, there twice, or of another change, or there are not 516 octets.
#[must_use]
pub fn encrypted_password(packet: &Packet<'_>, number: u8, ident: u8) -> Option<[u8; ENCRYPTED_PASSWORD_BYTES]> {
    let pieces = packet.all_vendor(VENDOR, number).count();
    let mut whole = [0; ENCRYPTED_PASSWORD_BYTES];
    let (mut at, mut count) = (0, 0_u16);
    for sequence in 1..=PIECES_MAX {
        // The pieces are few; they come in order, but nothing says that they must.
        let mut found = packet
            .all_vendor(VENDOR, number)
            .filter_map(|value| piece(value, ident));
        let Some((_, octets)) = found.find(|(of, _)| *of == sequence) else {
            break;
        };
        if octets.is_empty() || found.any(|(of, _)| of == sequence) {
            return None;
        }
        whole.get_mut(at..at + octets.len())?.copy_from_slice(octets);
        (at, count) = (at + octets.len(), sequence);
    }
    (at == ENCRYPTED_PASSWORD_BYTES && pieces == usize::from(count)).then_some(whole)
}

fn piece(value: &[u8], ident: u8) -> Option<(u16, &[u8])> {
    match value {
        [6, of, high, low, octets @ ..] if *of == ident => Some((u16::from_be_bytes([*high, *low]), octets)),
        _ => None,
    }
}

impl Writer<'_> {
    /// Adds an MS-CHAP-Error, `E=691 R=0 C=… V=3 M=…` behind the identifier.
    ///
    /// # Errors
    /// It does not fit.
    pub fn ms_chap_error(&mut self, ident: u8, text: &[u8]) -> Result<(), Full> {
        self.ident_and(ERROR, ident, text)
    }

    /// Adds an MS-CHAP2-Success: `S=` and the 40 hex digits of the authenticator response.
    ///
    /// # Errors
    /// It does not fit.
    pub fn ms_chap2_success(&mut self, ident: u8, authenticator_response: &[u8; 20]) -> Result<(), Full> {
        let mut text = [0; 42];
        let digits = authenticator_response.iter().flat_map(|octet| [octet >> 4, octet & 15]);
        let digits = digits.map(|digit| if digit < 10 { b'0' + digit } else { b'A' + digit - 10 });
        let said = b"S=".iter().copied().chain(digits);
        text.iter_mut().zip(said).for_each(|(to, from)| *to = from);
        self.ident_and(SUCCESS_2, ident, &text)
    }

    fn ident_and(&mut self, number: u8, ident: u8, text: &[u8]) -> Result<(), Full> {
        self.vendor_with(VENDOR, number, |out| {
            out.push(ident);
            out.extend_from_slice(text);
            true
        })
    }
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn octet(&mut self) -> Option<u8> {
        let (octet, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*octet)
    }

    fn array<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(array)
    }

    fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Code, Secret, number};
    use super::*;

    fn packet_of(attributes: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = Writer::request(&mut out, Code::ACCESS_REQUEST, 1, &[1; 16]);
        writer.attribute(number::USER_NAME, b"bob").unwrap();
        for (number, value) in attributes {
            writer.vendor(VENDOR, *number, value).unwrap();
        }
        writer.finish(&Secret::new(b"secret")).unwrap();
        out
    }

    #[test]
    fn responses_have_their_fields_in_order() {
        let value: Vec<u8> = (0..50).collect();
        let one = Response::parse(&value).unwrap();
        assert_eq!(
            (one.ident, one.flags, one.lm[0], one.nt[0], one.nt[23]),
            (0, 1, 2, 26, 49)
        );
        let two = Response2::parse(&value).unwrap();
        assert_eq!((two.ident, two.flags, two.peer_challenge[0]), (0, 1, 2));
        assert_eq!((two.response[0], two.response[23]), (26, 49));
        for bytes in [0, 1, 49] {
            assert!(Response::parse(&value[..bytes]).is_none() && Response2::parse(&value[..bytes]).is_none());
        }
        assert!(Response::parse(&[0; 51]).is_none() && Response2::parse(&[0; 51]).is_none());
    }

    #[test]
    fn changes_of_passwords_have_their_fields_in_order() {
        let mut value: Vec<u8> = (0..84).collect();
        assert!(ChangePassword1::parse(&value).is_none());
        value[0] = 6;
        let one = ChangePassword1::parse(&value).unwrap();
        assert_eq!((one.ident, one.old_nt_hash[0], one.old_lm_hash[0]), (1, 2, 18));
        assert_eq!((one.lm[0], one.nt[0], one.flags), (34, 58, 0x5253));
        assert!(ChangePassword1::parse(&value[..83]).is_none());
        value.truncate(68);
        value[0] = 7;
        let two = ChangePassword2::parse(&value).unwrap();
        assert_eq!((two.ident, two.encrypted_hash[0], two.peer_challenge[0]), (1, 2, 18));
        assert_eq!((two.nt[0], two.flags), (42, 0x4243));
        value.push(0);
        assert!(ChangePassword2::parse(&value).is_none());
    }

    #[test]
    fn a_new_password_is_put_together_by_sequence() {
        let password: Vec<u8> = (0..=250).cycle().take(516).collect();
        let piece = |sequence: u8, octets: &[u8]| [&[6, 9, 0, sequence], octets].concat();
        let pieces = [
            piece(1, &password[..243]),
            piece(2, &password[243..486]),
            piece(3, &password[486..]),
        ];
        let with = |order: &[usize]| {
            let list: Vec<(u8, &[u8])> = order.iter().map(|at| (NT_ENC_PW, &pieces[*at][..])).collect();
            packet_of(&list)
        };
        let whole = |datagram: &[u8]| encrypted_password(&Packet::parse(datagram).unwrap(), NT_ENC_PW, 9);
        assert_eq!(whole(&with(&[0, 1, 2])).unwrap()[..], password);
        assert_eq!(whole(&with(&[2, 0, 1])).unwrap()[..], password);
        for wrong in [&[0, 1][..], &[0, 2], &[1, 2], &[], &[0, 1, 2, 2], &[0, 0, 1, 2]] {
            assert!(whole(&with(wrong)).is_none(), "{wrong:?}");
        }
        let other = encrypted_password(&Packet::parse(&with(&[0, 1, 2])).unwrap(), NT_ENC_PW, 8);
        assert!(other.is_none());
        let long = packet_of(&[
            (NT_ENC_PW, &pieces[0]),
            (NT_ENC_PW, &pieces[1]),
            (NT_ENC_PW, &piece(3, &password[..31])),
        ]);
        assert!(whole(&long).is_none());
    }

    #[test]
    fn answers_are_written_as_the_rfc_has_them() {
        let mut out = Vec::new();
        let mut writer = Writer::bare(&mut out, Code::ACCESS_ACCEPT, 1, &[0; 16]);
        let response: [u8; 20] = [
            0x40, 0x7a, 0x55, 0x89, 0x11, 0x5f, 0xd0, 0xd6, 0x20, 0x9f, 0x51, 0x0f, 0xe9, 0xc0, 0x45, 0x66, 0x93, 0x2c,
            0xda, 0x56,
        ];
        writer.ms_chap2_success(7, &response).unwrap();
        writer.ms_chap_error(7, b"E=691 R=0 V=3").unwrap();
        writer.finish(&Secret::new(b"secret")).unwrap();
        let packet = Packet::parse(&out).unwrap();
        let success = packet.find_vendor(VENDOR, SUCCESS_2).unwrap();
        assert_eq!(success, b"\x07S=407A5589115FD0D6209F510FE9C04566932CDA56");
        assert_eq!(packet.find_vendor(VENDOR, ERROR), Some(&b"\x07E=691 R=0 V=3"[..]));
    }
}
