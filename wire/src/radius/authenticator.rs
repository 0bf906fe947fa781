//! Authenticators: what shows that a packet comes from somebody who knows the shared secret.
//!
//! | packet | its Authenticator | what takes its place in the Message-Authenticator's HMAC |
//! |---|---|---|
//! | Access-Request, Status-Server | random | itself |
//! | Accounting-Request, CoA-Request, Disconnect-Request | MD5 over the packet with zeroes in its place, and the secret | zeroes |
//! | replies | MD5 over the packet with the request's in its place, and the secret | the request's |
//!
//! (RFC 2865 section 3, RFC 2866 section 3, RFC 3579 section 3.2, RFC 5176 section 2.3, RFC 5997 section 3.) The
//! Message-Authenticator's own value counts as zeroes, and is in place when the MD5 is taken. All comparisons take
//! constant time.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest, Md5};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::packet::{Code, HEADER_BYTES, Packet};

/// Octets of a block that MD5 takes.
const BLOCK_BYTES: usize = 64;

/// A shared secret, with the part of the HMAC that is the same for every packet done once. Wiped when dropped. Make one
/// for each client, when the configuration is read: making one allocates and costs as much as sealing a packet.
#[derive(Clone)]
pub struct Secret {
    octets: Zeroizing<Vec<u8>>,
    keyed: Hmac<Md5>,
}

impl Secret {
    /// Any octets; RFC 2865 section 3 wants at least 16, and that the secret is not empty.
    #[must_use]
    pub fn new(octets: &[u8]) -> Self {
        let mut key = Zeroizing::new([0u8; BLOCK_BYTES]);
        if octets.len() > BLOCK_BYTES {
            let hash: [u8; 16] = Md5::digest(octets).into();
            key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
        } else {
            key.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        }
        Secret {
            octets: Zeroizing::new(octets.to_vec()),
            keyed: Hmac::new((&*key).into()),
        }
    }

    /// The secret itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.octets
    }

    /// MD5 over the secret and then these parts: the key stream of hidden attributes.
    pub(super) fn md5_before(&self, parts: [&[u8]; 2]) -> [u8; 16] {
        let mut md5 = Md5::new_with_prefix(self.octets.as_slice());
        parts.iter().for_each(|part| md5.update(part));
        md5.finalize().into()
    }

    /// MD5 over these parts and then the secret: the authenticators.
    pub(super) fn md5_behind(&self, parts: [&[u8]; 3]) -> [u8; 16] {
        let mut md5 = Md5::new();
        parts.iter().for_each(|part| md5.update(part));
        md5.update(self.octets.as_slice());
        md5.finalize().into()
    }

    pub(super) fn hmac(&self, parts: [&[u8]; 5]) -> [u8; 16] {
        let mut hmac = self.keyed.clone();
        parts.iter().for_each(|part| hmac.update(part));
        hmac.finalize().into_bytes().into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.octets.as_slice().ct_eq(other.octets.as_slice()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What the Message-Authenticator says of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageAuthenticator {
    /// There is none.
    Absent,
    /// The packet comes from somebody who knows the secret, and is as it was sent.
    Valid,
    /// It does not: drop the packet silently (RFC 3579 section 3.2).
    Invalid,
}

impl Packet<'_> {
    /// Looks at the Message-Authenticator. `request` is the Authenticator of the request if this is a reply, and none if
    /// this is a request. A reply for which none is given is [`MessageAuthenticator::Invalid`].
    #[must_use]
    pub fn check_message_authenticator(&self, secret: &Secret, request: Option<&[u8; 16]>) -> MessageAuthenticator {
        let Some(found) = self.message_authenticator() else {
            return MessageAuthenticator::Absent;
        };
        let authenticator = match (request, self.code()) {
            (Some(request), _) => request,
            (None, code) if code.is_signed_request() => &[0; 16],
            (None, code) if code.is_reply() => return MessageAuthenticator::Invalid,
            (None, _) => self.authenticator(),
        };
        let (Some((before, behind)), Some(head)) = (self.around_message_authenticator(), self.head()) else {
            return MessageAuthenticator::Absent;
        };
        let expected = secret.hmac([head, authenticator, before, &[0; 16], behind]);
        if expected.ct_eq(found).into() {
            MessageAuthenticator::Valid
        } else {
            MessageAuthenticator::Invalid
        }
    }

    /// Whether the Authenticator of an Accounting-Request, CoA-Request or Disconnect-Request is right (RFC 2866 section 3,
    /// RFC 5176 section 2.3). Of other packets it says nothing, and the answer is true.
    #[must_use]
    pub fn check_request(&self, secret: &Secret) -> bool {
        !self.code().is_signed_request() || self.check_authenticator(secret, &[0; 16])
    }

    /// Whether this is an answer to the request that had the Authenticator `request` (RFC 2865 section 3).
    #[must_use]
    pub fn check_response(&self, secret: &Secret, request: &[u8; 16]) -> bool {
        self.check_authenticator(secret, request)
    }

    fn check_authenticator(&self, secret: &Secret, in_its_place: &[u8; 16]) -> bool {
        let Some(head) = self.head() else { return false };
        let expected = secret.md5_behind([head, in_its_place, self.attribute_octets()]);
        expected.ct_eq(self.authenticator()).into()
    }

    /// Code, identifier and length.
    fn head(&self) -> Option<&[u8]> {
        self.as_bytes().get(..4)
    }
}

/// Puts the Message-Authenticator and the Authenticator into a finished packet, by its code. The Authenticator's place
/// holds what counts for a reply (the request's) or is random (Access-Request, Status-Server). `at`: where the value of
/// the Message-Authenticator begins, zeroes until now.
pub(super) fn seal(packet: &mut [u8], at: Option<usize>, secret: &Secret) {
    let Some(&code) = packet.first() else { return };
    let code = Code(code);
    if code.is_signed_request()
        && let Some(authenticator) = packet.get_mut(4..HEADER_BYTES)
    {
        authenticator.fill(0);
    }
    if let Some(at) = at {
        let hmac = secret.hmac([packet, &[], &[], &[], &[]]);
        if let Some(place) = packet.get_mut(at..at + 16) {
            place.copy_from_slice(&hmac);
        }
    }
    if code.is_request() && !code.is_signed_request() {
        return;
    }
    let hash = secret.md5_behind([packet, &[], &[]]);
    if let Some(authenticator) = packet.get_mut(4..HEADER_BYTES) {
        authenticator.copy_from_slice(&hash);
    }
}
