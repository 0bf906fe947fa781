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

/// The LM hash, whose first half is a key of version 1 with 40 bits (RFC 2433 appendix A.2, RFC 3079 section 2); none: the password
/// has none, being longer than 14 octets or more than ASCII.
#[must_use]
pub fn lm_hash(password: &[u8]) -> Option<Zeroizing<[u8; 16]>> {
    if password.len() > 14 || !password.is_ascii() {
        return None;
    }
    let mut padded = Zeroizing::new([0_u8; 14]);
    let upper = password.iter().map(u8::to_ascii_uppercase);
    padded.iter_mut().zip(upper).for_each(|(to, from)| *to = from);
    let mut hash = Zeroizing::new([0_u8; 16]);
    for (out, key) in hash.chunks_exact_mut(8).zip(padded.chunks_exact(7)) {
        let mut block = (*b"KGS!@#$%").into();
        Des::new(&spread(key).into()).encrypt_block(&mut block);
        out.copy_from_slice(&block);
    }
    Some(hash)
}

const MAGIC_1: &[u8] = b"Magic server to client signing constant";
const MAGIC_2: &[u8] = b"Pad to make it do more than one iteration";

/// By which the server shows that it knows the password, too (RFC 2759 section 8.7).
#[must_use]
pub fn authenticator_response(hash: &Hash, found: &[u8; 24], challenge: &[u8; 8]) -> [u8; 20] {
    proof(&hash.hashed(), found, challenge)
}

/// The same by the hash of the NT hash, which is all that a domain controller gives.
#[must_use]
pub fn proof(hashed: &Hash, found: &[u8; 24], challenge: &[u8; 8]) -> [u8; 20] {
    let first = Sha1::new()
        .chain_update(hashed.as_bytes())
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

/// A new password that was read out of a change.
pub struct NewPassword {
    /// The password.
    pub text: Zeroizing<String>,
    /// Its NT hash.
    pub hash: Hash,
}

/// Octets of a password in a change, at most.
const CHANGED_BYTES_MAX: usize = 512;

/// Reads a new password that is encrypted with the old NT hash (RFC 2433 appendix A.11, RFC 2759 section 8.9). With another hash
/// what comes out is noise: whether it is meant, [`proves_old`] says. None: it has not the form, or is no UTF-16.
#[must_use]
pub fn new_password(encrypted: &[u8; CHANGED_BYTES_MAX + 4], old: &Hash) -> Option<NewPassword> {
    let mut clear = Zeroizing::new(*encrypted);
    rc4(old.as_bytes(), &mut *clear);
    let (padded, length) = clear.split_last_chunk::<4>()?;
    let bytes = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let octets = padded.get(padded.len().checked_sub(bytes)?..)?;
    if octets.is_empty() || !octets.len().is_multiple_of(2) {
        return None;
    }
    let units = octets.chunks_exact(2).map(|pair| match pair {
        &[low, high] => u16::from_le_bytes([low, high]),
        _ => 0,
    });
    // Room for everything at once: what grows leaves copies behind.
    let mut text = Zeroizing::new(String::with_capacity(CHANGED_BYTES_MAX * 2));
    for char in char::decode_utf16(units) {
        text.push(char.ok()?);
    }
    Some(NewPassword {
        text,
        hash: crate::password::nt::hash_utf16(octets),
    })
}

/// Whether somebody who sends the old hash encrypted with the new one knows it (RFC 2759 section 8.12): by this the new password
/// is known to have been read aright.
#[must_use]
pub fn proves_old(encrypted: &[u8; 16], old: &Hash, new: &Hash) -> bool {
    let mut expected = Zeroizing::new([0_u8; 16]);
    let blocks = expected.chunks_exact_mut(8).zip(old.as_bytes().chunks_exact(8));
    for ((out, block), key) in blocks.zip(new.as_bytes().chunks_exact(7)) {
        let mut block = block.first_chunk::<8>().copied().unwrap_or_default().into();
        Des::new(&spread(key).into()).encrypt_block(&mut block);
        out.copy_from_slice(&block);
    }
    expected.ct_eq(encrypted).into()
}

/// RC4, which this exchange prescribes; nothing else may use it.
fn rc4(key: &[u8], octets: &mut [u8]) {
    let mut state = Zeroizing::new([0_u8; 256]);
    state.iter_mut().zip(0..=u8::MAX).for_each(|(place, at)| *place = at);
    let at = |state: &[u8; 256], place: u8| state.get(usize::from(place)).copied().unwrap_or_default();
    let mut j = 0_u8;
    for (i, key) in (0..=u8::MAX).zip(key.iter().cycle()) {
        j = j.wrapping_add(at(&state, i)).wrapping_add(*key);
        state.swap(i.into(), j.into());
    }
    let (mut i, mut j) = (0_u8, 0_u8);
    for octet in octets {
        i = i.wrapping_add(1);
        j = j.wrapping_add(at(&state, i));
        state.swap(i.into(), j.into());
        *octet ^= at(&state, at(&state, i).wrapping_add(at(&state, j)));
    }
}

/// What a client sends: the other direction of [`new_password`] and [`proves_old`], `padding` being chance.
#[cfg(test)]
pub(crate) fn encrypted(new: &str, old: &Hash, padding: u8) -> ([u8; CHANGED_BYTES_MAX + 4], [u8; 16]) {
    let octets: Vec<u8> = new.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut whole = [padding; CHANGED_BYTES_MAX + 4];
    whole[CHANGED_BYTES_MAX - octets.len()..CHANGED_BYTES_MAX].copy_from_slice(&octets);
    whole[CHANGED_BYTES_MAX..].copy_from_slice(&u32::try_from(octets.len()).unwrap().to_le_bytes());
    rc4(old.as_bytes(), &mut whole);
    let key = crate::password::nt::hash(new.as_bytes()).unwrap();
    let mut proof = [0; 16];
    for (at, key) in key.as_bytes().chunks_exact(7).take(2).enumerate() {
        let mut block = <[u8; 8]>::try_from(&old.as_bytes()[at * 8..at * 8 + 8]).unwrap().into();
        Des::new(&spread(key).into()).encrypt_block(&mut block);
        proof[at * 8..at * 8 + 8].copy_from_slice(&block);
    }
    (whole, proof)
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
    session_keys(&hash.hashed(), found)
}

/// The same by the hash of the NT hash.
#[must_use]
pub fn session_keys(hashed: &Hash, found: &[u8; 24]) -> Keys {
    let master = Sha1::new()
        .chain_update(hashed.as_bytes())
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

    #[test]
    fn the_published_stream_of_rc4_comes_out() {
        let mut text = *b"Plaintext";
        rc4(b"Key", &mut text);
        assert_eq!(text, hex("BBF316E8D940AF0AD3"));
    }

    #[test]
    fn a_new_password_is_read_with_the_old_hash_and_no_other() {
        let (old, other) = (nt::hash(b"MyPw").unwrap(), nt::hash(b"Mypw").unwrap());
        for new in ["x", "n\u{e9}w \u{1f511}", &"y".repeat(256)] {
            let (whole, proof) = encrypted(new, &old, 0xa5);
            let read = new_password(&whole, &old).unwrap();
            assert_eq!(
                (read.text.as_str(), &read.hash),
                (new, &nt::hash(new.as_bytes()).unwrap())
            );
            assert!(proves_old(&proof, &old, &read.hash));
            assert!(!proves_old(&proof, &other, &read.hash) && !proves_old(&proof, &old, &other));
            let noise = new_password(&whole, &other);
            assert!(noise.is_none_or(|noise| !proves_old(&proof, &other, &noise.hash)));
        }
        assert!(new_password(&encrypted("", &old, 0).0, &old).is_none());
    }

    #[test]
    fn the_known_lm_hashes_come_out() {
        // Those of an empty password and of "password" are the same everywhere.
        assert_eq!(*lm_hash(b"").unwrap(), hex("AAD3B435B51404EEAAD3B435B51404EE"));
        assert_eq!(*lm_hash(b"password").unwrap(), hex("E52CAC67419A9A224A3B108F3FA6CB6D"));
        assert!(lm_hash(b"fifteen octets!").is_none() && lm_hash("ä".as_bytes()).is_none());
    }
}
