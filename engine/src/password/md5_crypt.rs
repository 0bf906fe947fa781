//! `$1$` of crypt(3) and `$apr1$` of Apache: MD5 a thousand times, as Poul-Henning Kamp has written it down.

use md5::{Digest as _, Md5};

use super::same;

/// The alphabet of crypt(3).
pub(super) const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const ROUNDS: u32 = 1_000;
const SALT_BYTES_MAX: usize = 8;

/// None: malformed.
pub(super) fn verify(stored: &str, offered: &[u8]) -> Option<bool> {
    let magic = if stored.starts_with("$1$") { "$1$" } else { "$apr1$" };
    let (salt, hash) = stored.strip_prefix(magic)?.split_once('$')?;
    if salt.len() > SALT_BYTES_MAX || hash.len() != 22 {
        return None;
    }
    let made = encode(&digest(magic.as_bytes(), salt.as_bytes(), offered));
    Some(same(hash.as_bytes(), &made))
}

fn digest(magic: &[u8], salt: &[u8], password: &[u8]) -> [u8; 16] {
    let inner = Md5::new_with_prefix(password)
        .chain_update(salt)
        .chain_update(password)
        .finalize();
    let mut outer = Md5::new_with_prefix(password).chain_update(magic).chain_update(salt);
    let mut left = password.len();
    while left > 0 {
        let part = left.min(inner.len());
        outer.update(inner.get(..part).unwrap_or_default());
        left -= part;
    }
    let mut bits = password.len();
    while bits > 0 {
        // The first octet of a buffer that holds zeroes by now, or the password's: so it came to be, and so it stays.
        let octets = if bits & 1 == 1 {
            &[0]
        } else {
            password.get(..1).unwrap_or_default()
        };
        outer.update(octets);
        bits >>= 1;
    }
    let mut hash: [u8; 16] = outer.finalize().into();
    for round in 0..ROUNDS {
        let odd = round & 1 == 1;
        let mut md5 = Md5::new();
        md5.update(if odd { password } else { &hash });
        if round % 3 != 0 {
            md5.update(salt);
        }
        if round % 7 != 0 {
            md5.update(password);
        }
        md5.update(if odd { &hash } else { password });
        hash = md5.finalize().into();
    }
    hash
}

fn encode(hash: &[u8; 16]) -> Vec<u8> {
    let at = |index: usize| u32::from(hash.get(index).copied().unwrap_or(0));
    let groups = [(0, 6, 12), (1, 7, 13), (2, 8, 14), (3, 9, 15), (4, 10, 5)];
    let mut out = Vec::with_capacity(22);
    for (a, b, c) in groups {
        letters(&mut out, at(a) << 16 | at(b) << 8 | at(c), 4);
    }
    letters(&mut out, at(11), 2);
    out
}

fn letters(out: &mut Vec<u8>, mut bits: u32, count: usize) {
    for _ in 0..count {
        out.extend(ALPHABET.get(bits as usize & 63));
        bits >>= 6;
    }
}
