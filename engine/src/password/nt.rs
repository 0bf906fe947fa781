//! The NT hash: MD4 of a password in UTF-16, little-endian (RFC 2759 section 8.3, RFC 2433 appendix A.3). Whoever has it can answer
//! MS-CHAP in the user's place, so it is treated as a password is.

use md4::{Digest as _, Md4};
use zeroize::Zeroizing;

/// See the module.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(Zeroizing<[u8; 16]>);

impl Hash {
    /// These octets.
    #[must_use]
    pub fn new(octets: [u8; 16]) -> Hash {
        Hash(Zeroizing::new(octets))
    }

    /// Its octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The hash of this hash (RFC 2759 section 8.4), by which a session's keys are derived.
    #[must_use]
    pub fn hashed(&self) -> Hash {
        Hash::new(Md4::digest(self.0.as_slice()).into())
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("nt::Hash")
    }
}

/// The hash of a password; none: it is no UTF-8.
#[must_use]
pub fn hash(password: &[u8]) -> Option<Hash> {
    let text = std::str::from_utf8(password).ok()?;
    let mut md4 = Md4::new();
    for unit in text.encode_utf16() {
        md4.update(unit.to_le_bytes());
    }
    Some(Hash::new(md4.finalize().into()))
}

/// The hash of a password that is in UTF-16 already.
#[must_use]
pub fn hash_utf16(octets: &[u8]) -> Hash {
    Hash::new(Md4::digest(octets).into())
}

/// 32 hexadecimal digits, perhaps behind `0x`, or 16 octets.
#[must_use]
pub fn from_hex(digits: &[u8]) -> Option<Hash> {
    if let Ok(octets) = <[u8; 16]>::try_from(digits) {
        return Some(Hash::new(octets));
    }
    let digits = digits
        .strip_prefix(b"0x")
        .or(digits.strip_prefix(b"0X"))
        .unwrap_or(digits);
    if digits.len() != 32 {
        return None;
    }
    let mut octets = Zeroizing::new([0u8; 16]);
    for (to, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        let text = std::str::from_utf8(pair).ok()?;
        *to = u8::from_str_radix(text, 16).ok().filter(|_| !text.starts_with('+'))?;
    }
    Some(Hash(octets))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_2759_come_out() {
        let expected = from_hex(b"44EBBA8D5312B8D611474411F56989AE").unwrap();
        let hash = hash(b"clientPass").unwrap();
        assert_eq!(hash, expected);
        assert_eq!(hash.hashed(), from_hex(b"41C00C584BD2D91C4017A2A12FA59F3F").unwrap());
        assert_eq!(hash_utf16(b"c\0l\0i\0e\0n\0t\0P\0a\0s\0s\0"), expected);
    }

    #[test]
    fn what_is_no_hash_is_none() {
        assert!(from_hex(b"44EBBA8D5312B8D611474411F56989A").is_none());
        assert!(from_hex(b"zzEBBA8D5312B8D611474411F56989AE").is_none());
        assert!(from_hex(b"+4EBBA8D5312B8D611474411F56989AE").is_none());
        assert!(hash(b"\xff\xfe").is_none());
        assert_eq!(format!("{:?}", hash(b"x").unwrap()), "nt::Hash");
    }
}
