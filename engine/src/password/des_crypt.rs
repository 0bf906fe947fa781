//! The first crypt(3): 25 times DES of nothing, with the password as its key and a salt of 12 bits that swaps bits of the
//! expansion. DES with that twist is in no library that is kept well, so it is here, from FIPS 46-3: bit by bit, and only ever
//! used to compare with what some user list still has. Eight characters count, and of each only seven bits.

use super::md5_crypt::ALPHABET;
use super::same;

/// None: malformed.
pub(super) fn verify(stored: &[u8], offered: &[u8]) -> Option<bool> {
    let (salt, hash) = stored.split_at_checked(2)?;
    if hash.len() != 11 {
        return None;
    }
    let mut bits = 0u32;
    for (at, letter) in salt.iter().enumerate() {
        let six = ALPHABET.iter().position(|known| known == letter)?;
        bits |= u32::try_from(six).ok()? << (6 * at);
    }
    Some(same(hash, &encode(encrypted(key(offered), bits))))
}

fn key(password: &[u8]) -> u64 {
    let mut octets = [0u8; 8];
    let password = password.iter().take_while(|octet| **octet != 0);
    octets.iter_mut().zip(password).for_each(|(to, from)| *to = from << 1);
    u64::from_be_bytes(octets)
}

/// 64 bits and two zeroes in eleven letters.
fn encode(block: u64) -> [u8; 11] {
    let bits = u128::from(block) << 2;
    let mut out = [0; 11];
    for (at, to) in out.iter_mut().enumerate() {
        let six = (bits >> (60 - 6 * at)) & 63;
        let letter = usize::try_from(six).ok().and_then(|six| ALPHABET.get(six));
        *to = letter.copied().unwrap_or(b'.');
    }
    out
}

fn encrypted(key: u64, salt: u32) -> u64 {
    let keys = schedule(key);
    let mut block = 0;
    for _ in 0..25 {
        block = encrypt(block, &keys, salt);
    }
    block
}

fn encrypt(block: u64, keys: &[u64; 16], salt: u32) -> u64 {
    let block = permute(block, 64, &INITIAL);
    let (mut left, mut right) = (block >> 32, block & 0xffff_ffff);
    for key in keys {
        let next = left ^ round(right, *key, salt);
        left = right;
        right = next;
    }
    // The inverse of the initial permutation, of the halves in the other order.
    let swapped = right << 32 | left;
    let mut out = 0;
    for (at, from) in INITIAL.iter().enumerate() {
        out |= (swapped >> (63 - at) & 1) << (64 - u32::from(*from));
    }
    out
}

fn round(half: u64, key: u64, salt: u32) -> u64 {
    let mut spread = permute(half, 32, &EXPANSION);
    for bit in 0..12 {
        if salt >> bit & 1 == 1 {
            let (high, low) = (47 - bit, 23 - bit);
            let differ = (spread >> high ^ spread >> low) & 1;
            spread ^= differ << high | differ << low;
        }
    }
    let mixed = spread ^ key;
    let mut out = 0;
    for (at, table) in SUBSTITUTION.iter().enumerate() {
        let six = mixed >> (42 - 6 * at) & 63;
        let row = six >> 4 & 2 | six & 1;
        let place = usize::try_from(row << 4 | six >> 1 & 15).unwrap_or(0);
        out = out << 4 | u64::from(table.get(place).copied().unwrap_or(0));
    }
    permute(out, 32, &PERMUTATION)
}

fn schedule(key: u64) -> [u64; 16] {
    let chosen = permute(key, 64, &CHOICE_1);
    let (mut left, mut right) = (chosen >> 28, chosen & 0x0fff_ffff);
    let mut keys = [0; 16];
    for (key, shift) in keys.iter_mut().zip(SHIFTS) {
        left = (left << shift | left >> (28 - shift)) & 0x0fff_ffff;
        right = (right << shift | right >> (28 - shift)) & 0x0fff_ffff;
        *key = permute(left << 28 | right, 56, &CHOICE_2);
    }
    keys
}

/// The bits that a table names, counted from 1 at the left of a word of so many.
fn permute(word: u64, width: u32, table: &[u8]) -> u64 {
    table
        .iter()
        .fold(0, |out, from| out << 1 | (word >> (width - u32::from(*from)) & 1))
}

const SHIFTS: [u32; 16] = [1, 1, 2, 2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2, 1];

#[rustfmt::skip]
const INITIAL: [u8; 64] = [
    58, 50, 42, 34, 26, 18, 10, 2, 60, 52, 44, 36, 28, 20, 12, 4,
    62, 54, 46, 38, 30, 22, 14, 6, 64, 56, 48, 40, 32, 24, 16, 8,
    57, 49, 41, 33, 25, 17, 9, 1, 59, 51, 43, 35, 27, 19, 11, 3,
    61, 53, 45, 37, 29, 21, 13, 5, 63, 55, 47, 39, 31, 23, 15, 7,
];

#[rustfmt::skip]
const EXPANSION: [u8; 48] = [
    32, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, 12, 13, 14, 15, 16, 17,
    16, 17, 18, 19, 20, 21, 20, 21, 22, 23, 24, 25, 24, 25, 26, 27, 28, 29, 28, 29, 30, 31, 32, 1,
];

#[rustfmt::skip]
const PERMUTATION: [u8; 32] = [
    16, 7, 20, 21, 29, 12, 28, 17, 1, 15, 23, 26, 5, 18, 31, 10,
    2, 8, 24, 14, 32, 27, 3, 9, 19, 13, 30, 6, 22, 11, 4, 25,
];

#[rustfmt::skip]
const CHOICE_1: [u8; 56] = [
    57, 49, 41, 33, 25, 17, 9, 1, 58, 50, 42, 34, 26, 18, 10, 2, 59, 51, 43, 35, 27, 19, 11, 3, 60, 52, 44, 36,
    63, 55, 47, 39, 31, 23, 15, 7, 62, 54, 46, 38, 30, 22, 14, 6, 61, 53, 45, 37, 29, 21, 13, 5, 28, 20, 12, 4,
];

#[rustfmt::skip]
const CHOICE_2: [u8; 48] = [
    14, 17, 11, 24, 1, 5, 3, 28, 15, 6, 21, 10, 23, 19, 12, 4, 26, 8, 16, 7, 27, 20, 13, 2,
    41, 52, 31, 37, 47, 55, 30, 40, 51, 45, 33, 48, 44, 49, 39, 56, 34, 53, 46, 42, 50, 36, 29, 32,
];

#[rustfmt::skip]
const SUBSTITUTION: [[u8; 64]; 8] = [
    [
        14, 4, 13, 1, 2, 15, 11, 8, 3, 10, 6, 12, 5, 9, 0, 7, 0, 15, 7, 4, 14, 2, 13, 1, 10, 6, 12, 11, 9, 5, 3, 8,
        4, 1, 14, 8, 13, 6, 2, 11, 15, 12, 9, 7, 3, 10, 5, 0, 15, 12, 8, 2, 4, 9, 1, 7, 5, 11, 3, 14, 10, 0, 6, 13,
    ],
    [
        15, 1, 8, 14, 6, 11, 3, 4, 9, 7, 2, 13, 12, 0, 5, 10, 3, 13, 4, 7, 15, 2, 8, 14, 12, 0, 1, 10, 6, 9, 11, 5,
        0, 14, 7, 11, 10, 4, 13, 1, 5, 8, 12, 6, 9, 3, 2, 15, 13, 8, 10, 1, 3, 15, 4, 2, 11, 6, 7, 12, 0, 5, 14, 9,
    ],
    [
        10, 0, 9, 14, 6, 3, 15, 5, 1, 13, 12, 7, 11, 4, 2, 8, 13, 7, 0, 9, 3, 4, 6, 10, 2, 8, 5, 14, 12, 11, 15, 1,
        13, 6, 4, 9, 8, 15, 3, 0, 11, 1, 2, 12, 5, 10, 14, 7, 1, 10, 13, 0, 6, 9, 8, 7, 4, 15, 14, 3, 11, 5, 2, 12,
    ],
    [
        7, 13, 14, 3, 0, 6, 9, 10, 1, 2, 8, 5, 11, 12, 4, 15, 13, 8, 11, 5, 6, 15, 0, 3, 4, 7, 2, 12, 1, 10, 14, 9,
        10, 6, 9, 0, 12, 11, 7, 13, 15, 1, 3, 14, 5, 2, 8, 4, 3, 15, 0, 6, 10, 1, 13, 8, 9, 4, 5, 11, 12, 7, 2, 14,
    ],
    [
        2, 12, 4, 1, 7, 10, 11, 6, 8, 5, 3, 15, 13, 0, 14, 9, 14, 11, 2, 12, 4, 7, 13, 1, 5, 0, 15, 10, 3, 9, 8, 6,
        4, 2, 1, 11, 10, 13, 7, 8, 15, 9, 12, 5, 6, 3, 0, 14, 11, 8, 12, 7, 1, 14, 2, 13, 6, 15, 0, 9, 10, 4, 5, 3,
    ],
    [
        12, 1, 10, 15, 9, 2, 6, 8, 0, 13, 3, 4, 14, 7, 5, 11, 10, 15, 4, 2, 7, 12, 9, 5, 6, 1, 13, 14, 0, 11, 3, 8,
        9, 14, 15, 5, 2, 8, 12, 3, 7, 0, 4, 10, 1, 13, 11, 6, 4, 3, 2, 12, 9, 5, 15, 10, 11, 14, 1, 7, 6, 0, 8, 13,
    ],
    [
        4, 11, 2, 14, 15, 0, 8, 13, 3, 12, 9, 7, 5, 10, 6, 1, 13, 0, 11, 7, 4, 9, 1, 10, 14, 3, 5, 12, 2, 15, 8, 6,
        1, 4, 11, 13, 12, 3, 7, 14, 10, 15, 6, 8, 0, 5, 9, 2, 6, 11, 13, 8, 1, 4, 10, 7, 9, 5, 0, 15, 14, 2, 3, 12,
    ],
    [
        13, 2, 8, 4, 6, 15, 11, 1, 10, 9, 3, 14, 5, 0, 12, 7, 1, 15, 13, 8, 10, 3, 7, 4, 12, 5, 6, 11, 0, 14, 9, 2,
        7, 11, 4, 1, 9, 12, 14, 2, 0, 6, 10, 13, 15, 3, 5, 8, 2, 1, 14, 7, 4, 10, 8, 13, 15, 12, 9, 0, 3, 5, 6, 11,
    ],
];
