//! MS-CHAP: responses, and what is derived from a password once they are right (RFC 2433, RFC 2759, RFC 3079). The password is
//! only ever used as its NT hash.

use des::Des;
use des::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use sha1::{Digest as _, Sha1};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::password::nt::Hash;

/// The response to eight octets of challenge (RFC 2433 appendix A.5): each third of the hash, padded with zeroes, is a key.
#[must_use]
pub fn response(challenge: &[u8; 8], hash: &Hash) -> [u8; 24] {
    let mut keys = Zeroizing::new([0_u8; 21]);
    keys.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    let mut answer = [0; 24];
    for (out, key) in answer.chunks_exact_mut(8).zip(keys.chunks_exact(7)) {
        let mut block = (*challenge).into();
        Des::new(&spread(key).into()).encrypt_block(&mut block);
        out.copy_from_slice(&block);
    }
    answer
}

/// 56 bits as a key of DES, whose parity bits nobody looks at.
fn spread(seven: &[u8]) -> [u8; 8] {
    let bits = seven.iter().fold(0_u64, |bits, octet| bits << 8 | u64::from(*octet));
    let mut key = [0_u8; 8];
    for (at, octet) in (1_u64..).zip(key.iter_mut()) {
        // Of the shifted number seven bits are left.
        *octet = ((bits >> (56 - 7 * at)) & 0x7f) as u8;
        *octet <<= 1;
    }
    key
}

/// What both sides have said, and as whom, as the challenge of a version 2 response (RFC 2759 section 8.2). `user`: as it was
/// sent, without a domain before it.
#[must_use]
pub fn challenge_hash(peer: &[u8; 16], authenticator: &[u8; 16], user: &[u8]) -> [u8; 8] {
    let hash = Sha1::new()
        .chain_update(peer)
        .chain_update(authenticator)
        .chain_update(user)
        .finalize();
    hash.first_chunk().copied().unwrap_or_default()
}

/// The name without `DOMAIN\` before it, as version 2 hashes it (RFC 2759 section 4).
#[must_use]
pub fn without_domain(user: &[u8]) -> &[u8] {
    user.iter()
        .position(|octet| *octet == b'\\')
        .and_then(|at| user.get(at + 1..))
        .unwrap_or(user)
}

/// Whether a version 1 response is right.
#[must_use]
pub fn check(challenge: &[u8; 8], hash: &Hash, found: &[u8; 24]) -> bool {
    response(challenge, hash).ct_eq(found).into()
}

const MAGIC_1: &[u8] = b"Magic server to client signing constant";
const MAGIC_2: &[u8] = b"Pad to make it do more than one iteration";

/// By which the server shows that it knows the password, too (RFC 2759 section 8.7).
#[must_use]
pub fn authenticator_response(hash: &Hash, found: &[u8; 24], challenge: &[u8; 8]) -> [u8; 20] {
    let first = Sha1::new()
        .chain_update(hash.hashed().as_bytes())
        .chain_update(found)
        .chain_update(MAGIC_1)
        .finalize();
    let second = Sha1::new()
        .chain_update(first)
        .chain_update(challenge)
        .chain_update(MAGIC_2)
        .finalize();
    second.into()
}

const MASTER: &[u8] = b"This is the MPPE Master Key";
const CLIENT_SENDS: &[u8] = b"On the client side, this is the send key; on the server side, it is the receive key.";
const CLIENT_RECEIVES: &[u8] = b"On the client side, this is the receive key; on the server side, it is the send key.";

/// The keys of a session, 128 bits each, as the server sees them.
pub struct Keys {
    /// MS-MPPE-Send-Key.
    pub send: Zeroizing<[u8; 16]>,
    /// MS-MPPE-Recv-Key.
    pub receive: Zeroizing<[u8; 16]>,
}

/// The keys that follow from a version 2 response (RFC 3079 section 3).
#[must_use]
pub fn keys(hash: &Hash, found: &[u8; 24]) -> Keys {
    let master = Sha1::new()
        .chain_update(hash.hashed().as_bytes())
        .chain_update(found)
        .chain_update(MASTER)
        .finalize();
    let master = Zeroizing::new(first_16(&master));
    let key = |magic: &[u8]| {
        let hash = Sha1::new()
            .chain_update(*master)
            .chain_update([0; 40])
            .chain_update(magic)
            .chain_update([0xf2; 40])
            .finalize();
        Zeroizing::new(first_16(&hash))
    };
    Keys {
        send: key(CLIENT_RECEIVES),
        receive: key(CLIENT_SENDS),
    }
}

fn first_16(hash: &[u8]) -> [u8; 16] {
    hash.first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::password::nt;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let digits: String = text.split_whitespace().collect();
        let octets: Vec<u8> = (0..N)
            .map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        octets.try_into().unwrap()
    }

    #[test]
    fn the_vectors_of_rfc_2759_and_rfc_3079_come_out() {
        let hash = nt::hash(b"clientPass").unwrap();
        let authenticator = hex::<16>("5B5D7C7D7B3F2F3E3C2C602132262628");
        let peer = hex::<16>("21402324255E262A28295F2B3A337C7E");
        let challenge = challenge_hash(&peer, &authenticator, without_domain(b"EXAMPLE\\User"));
        assert_eq!(challenge, hex("D02E4386BCE91226"));
        let found = response(&challenge, &hash);
        assert_eq!(found, hex("82309ECD8D708B5EA08FAA3981CD83544233114A3D85D6DF"));
        let shown = authenticator_response(&hash, &found, &challenge);
        assert_eq!(shown, hex("407A5589115FD0D6209F510FE9C04566932CDA56"));
        let keys = keys(&hash, &found);
        assert_eq!(*keys.send, hex("8B7CDC149B993A1BA118CB153F56DCCB"));
        assert!(check(&challenge, &hash, &found));
        assert!(!check(&challenge, &hash, &[0; 24]));
    }

    #[test]
    fn the_vector_of_rfc_2433_comes_out() {
        let hash = nt::hash(b"MyPw").unwrap();
        let found = response(&hex("102DB5DF085D3041"), &hash);
        assert_eq!(found, hex("4E9D3C8F9CFD385D5BF4D3246791956CA4C351AB409A3D61"));
    }
}
