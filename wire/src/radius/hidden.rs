//! Attributes whose value is hidden behind a key stream of MD5 over the shared secret.
//!
//! * User-Password (RFC 2865 section 5.2): [`reveal_password`], [`hide_password`].
//! * With a salt: the MPPE keys (RFC 2548 section 2.4.2), [`reveal_salted`] and [`hide_salted`], and behind a tag
//!   Tunnel-Password (RFC 2868 section 3.5), [`reveal_tunnel_password`] and [`hide_tunnel_password`].
//! * CHAP-Password, which hides nothing but is proved by MD5 too (RFC 2865 section 5.3): [`Chap`].
//!
//! The Authenticator that belongs in is the request's, also in replies, and zeroes in requests whose own Authenticator is a
//! hash: [`Packet::hiding_authenticator`]. What is revealed lies in a [`Plain`], on the stack, and is wiped when dropped. A
//! wrong secret cannot be told from a strange password: what comes out is then noise.

use std::fmt;

use md5::{Digest, Md5};
use subtle::ConstantTimeEq;

use super::authenticator::Secret;
use super::number;
use super::packet::Packet;
use crate::wipe::wipe;

/// The most octets that a hidden value has: 15 blocks of 16, which is what fits an attribute.
pub const HIDDEN_BYTES_MAX: usize = 240;
/// The most octets of a User-Password (RFC 2865 section 5.2).
const PASSWORD_BYTES_MAX: usize = 128;
const BLOCK: usize = 16;

/// What was hidden. Wiped when dropped, and never printed.
pub struct Plain {
    octets: [u8; HIDDEN_BYTES_MAX],
    from: usize,
    to: usize,
}

impl Plain {
    fn new() -> Self {
        Plain {
            octets: [0; HIDDEN_BYTES_MAX],
            from: 0,
            to: 0,
        }
    }

    /// The value.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.octets.get(self.from..self.to).unwrap_or_default()
    }

    /// XORs the value's blocks with the key stream that begins with MD5(secret, first parts); each further block's key is
    /// MD5(secret, the hidden block before it).
    fn reveal(value: &[u8], secret: &Secret, first: [&[u8]; 2]) -> Option<Plain> {
        if value.is_empty() || value.len() > HIDDEN_BYTES_MAX || !value.len().is_multiple_of(BLOCK) {
            return None;
        }
        let mut plain = Plain::new();
        let mut key = secret.md5_before(first);
        let mut before: Option<&[u8]> = None;
        for (hidden, shown) in value.chunks_exact(BLOCK).zip(plain.octets.chunks_exact_mut(BLOCK)) {
            if let Some(before) = before {
                key = secret.md5_before([before, &[]]);
            }
            let mixed = hidden.iter().zip(&key).map(|(a, b)| a ^ b);
            shown.iter_mut().zip(mixed).for_each(|(to, from)| *to = from);
            before = Some(hidden);
        }
        wipe(&mut key);
        plain.to = value.len();
        Some(plain)
    }

    /// Takes the length in the first octet at its word.
    fn with_length(mut self) -> Option<Plain> {
        let length = usize::from(*self.as_bytes().first()?);
        if length >= self.to {
            return None;
        }
        self.from = 1;
        self.to = length + 1;
        Some(self)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        wipe(&mut self.octets);
    }
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plain")
    }
}

/// Appends `plain`, padded with zeroes to whole blocks, XORed with the key stream.
fn hide(out: &mut Vec<u8>, plain: &[&[u8]], secret: &Secret, first: [&[u8]; 2]) {
    let mut octets = plain.iter().flat_map(|part| part.iter().copied()).peekable();
    let mut key = secret.md5_before(first);
    loop {
        let mut hidden = key;
        hidden
            .iter_mut()
            .zip(octets.by_ref())
            .for_each(|(to, plain)| *to ^= plain);
        out.extend_from_slice(&hidden);
        if octets.peek().is_none() {
            break;
        }
        key = secret.md5_before([&hidden, &[]]);
    }
    wipe(&mut key);
}

/// The password of a User-Password, without the zeroes behind it. None: the value is not 16 to 128 octets in blocks of 16.
#[must_use]
pub fn reveal_password(value: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> Option<Plain> {
    if value.len() > PASSWORD_BYTES_MAX {
        return None;
    }
    let mut plain = reveal_blocks(value, secret, authenticator)?;
    let padding = plain.as_bytes().iter().rev().take_while(|octet| **octet == 0);
    plain.to -= padding.count();
    Some(plain)
}

/// The blocks of a value that is hidden as a User-Password, with whatever it is padded with.
pub(super) fn reveal_blocks(value: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> Option<Plain> {
    Plain::reveal(value, secret, [authenticator, &[]])
}

/// The value of an Ascend-Send-Secret or Ascend-Receive-Secret, without the zeroes behind it: one block, XORed with MD5 over
/// authenticator and secret, in this order.
pub(super) fn reveal_ascend(value: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> Option<Plain> {
    let value: &[u8; BLOCK] = value.try_into().ok()?;
    let key = secret.md5_behind([authenticator, &[], &[]]);
    let mut plain = Plain::new();
    let mixed = value.iter().zip(key).map(|(a, b)| a ^ b);
    plain.octets.iter_mut().zip(mixed).for_each(|(to, from)| *to = from);
    plain.to = BLOCK
        - plain
            .octets
            .iter()
            .take(BLOCK)
            .rev()
            .take_while(|octet| **octet == 0)
            .count();
    Some(plain)
}

/// Appends the value of an Ascend-Send-Secret. False: it is longer than 16 octets, and nothing was appended.
pub(super) fn hide_ascend(out: &mut Vec<u8>, plain: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> bool {
    if plain.len() > BLOCK {
        return false;
    }
    let mut key = secret.md5_behind([authenticator, &[], &[]]);
    key.iter_mut().zip(plain).for_each(|(to, from)| *to ^= from);
    out.extend_from_slice(&key);
    true
}

/// Appends the value of a User-Password. False: the password is longer than 128 octets, and nothing was appended.
#[must_use]
pub fn hide_password(out: &mut Vec<u8>, password: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> bool {
    if password.len() > PASSWORD_BYTES_MAX {
        return false;
    }
    hide(out, &[password], secret, [authenticator, &[]]);
    true
}

/// The value behind a salt of two octets. None: it has not the form.
#[must_use]
pub fn reveal_salted(value: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> Option<Plain> {
    let (salt, hidden) = value.split_first_chunk::<2>()?;
    Plain::reveal(hidden, secret, [authenticator, salt])?.with_length()
}

/// Appends a salt and the hidden value. The salt differs from every other in the packet; its highest bit is set here.
/// False: the value is longer than 239 octets, and nothing was appended.
#[must_use]
pub fn hide_salted(out: &mut Vec<u8>, plain: &[u8], salt: u16, secret: &Secret, authenticator: &[u8; 16]) -> bool {
    let Some(length) = u8::try_from(plain.len())
        .ok()
        .filter(|length| usize::from(*length) < HIDDEN_BYTES_MAX)
    else {
        return false;
    };
    let salt = (salt | 0x8000).to_be_bytes();
    out.extend_from_slice(&salt);
    hide(out, &[&[length], plain], secret, [authenticator, &salt]);
    true
}

/// The tag and the password of a Tunnel-Password. None: it has not the form.
#[must_use]
pub fn reveal_tunnel_password(value: &[u8], secret: &Secret, authenticator: &[u8; 16]) -> Option<(u8, Plain)> {
    let (tag, salted) = value.split_first()?;
    Some((*tag, reveal_salted(salted, secret, authenticator)?))
}

/// Appends tag, salt and hidden password, as [`hide_salted`].
#[must_use]
pub fn hide_tunnel_password(
    out: &mut Vec<u8>,
    tag: u8,
    password: &[u8],
    salt: u16,
    secret: &Secret,
    authenticator: &[u8; 16],
) -> bool {
    out.push(tag);
    let fits = hide_salted(out, password, salt, secret, authenticator);
    if !fits {
        out.pop();
    }
    fits
}

/// A CHAP-Password and its challenge.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chap<'a> {
    /// The CHAP identifier.
    pub identifier: u8,
    /// What the user answered.
    pub response: &'a [u8; 16],
    /// What was asked: CHAP-Challenge, or without it the Request Authenticator.
    pub challenge: &'a [u8],
}

impl Chap<'_> {
    /// Whether the user knows this password, in time that depends on its length only.
    #[must_use]
    pub fn check(&self, password: &[u8]) -> bool {
        let expected = chap_response(self.identifier, password, self.challenge);
        expected.ct_eq(self.response).into()
    }
}

/// What somebody who knows this password answers to a challenge (RFC 1994 section 4.1, RFC 2865 section 5.3).
#[must_use]
pub fn chap_response(identifier: u8, password: &[u8], challenge: &[u8]) -> [u8; 16] {
    let mut md5 = Md5::new_with_prefix([identifier]);
    md5.update(password);
    md5.update(challenge);
    md5.finalize().into()
}

impl<'a> Packet<'a> {
    /// The Authenticator by which values in this packet are hidden. `request`: of the request, if this is a reply.
    #[must_use]
    pub fn hiding_authenticator(&self, request: Option<&'a [u8; 16]>) -> &'a [u8; 16] {
        match request {
            Some(request) => request,
            None if self.code().is_signed_request() => &[0; 16],
            None => self.authenticator(),
        }
    }

    /// The password of an Access-Request. None: there is no User-Password, or it has not the form.
    #[must_use]
    pub fn user_password(&self, secret: &Secret) -> Option<Plain> {
        reveal_password(self.find(number::USER_PASSWORD)?, secret, self.authenticator())
    }

    /// The CHAP-Password of an Access-Request and what it answers. None: there is none, or it is not 17 octets.
    #[must_use]
    pub fn chap(&self) -> Option<Chap<'a>> {
        let (identifier, response) = self.find(number::CHAP_PASSWORD)?.split_first()?;
        Some(Chap {
            identifier: *identifier,
            response: response.try_into().ok()?,
            challenge: self.find(number::CHAP_CHALLENGE).unwrap_or(self.authenticator()),
        })
    }
}
