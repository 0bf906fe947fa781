//! The saslauthd protocol: what Cyrus SASL's `pwcheck_method: saslauthd` asks over a unix socket.
//!
//! One question per connection: login name, password, service and realm, each a big-endian length of 16 bits and its bytes.
//! The answer is such a string too and begins with `OK` or `NO`. Where nobody could be asked there is no answer: the
//! connection is closed, which the library tells apart from a refusal.

use crate::frame::{Malformed, Step};

/// Longest field that is taken, in bytes; saslauthd's own bound is 256.
pub const FIELD_BYTES_MAX: usize = 1024;

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request<'a> {
    /// Login name.
    pub login: &'a [u8],
    /// Password.
    pub password: &'a [u8],
    /// The service that asks: `imap`, `ldap`.
    pub service: &'a [u8],
    /// Realm; often empty.
    pub realm: &'a [u8],
}

impl<'a> Request<'a> {
    /// Reads one whole question.
    ///
    /// # Errors
    /// A field is too long, cut off, or bytes are left.
    pub fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        match fields(frame)? {
            Some((request, [])) => Ok(request),
            Some(_) => Err(Malformed::TrailingBytes),
            None => Err(Malformed::Truncated),
        }
    }

    /// Appends the question as the library writes it. Fields are at most [`FIELD_BYTES_MAX`] long.
    pub fn write(&self, out: &mut Vec<u8>) {
        for field in [self.login, self.password, self.service, self.realm] {
            string(out, field);
        }
    }
}

/// Where the question at the beginning of `buf` ends.
#[must_use]
pub fn split(buf: &[u8]) -> Step {
    match fields(buf) {
        Ok(Some((_, rest))) => Step::Frame {
            len: buf.len() - rest.len(),
        },
        Ok(None) => Step::NeedMore { total: None },
        Err(fault) => Step::Malformed(fault),
    }
}

/// Appends an answer: yes or no, and why.
pub fn write_answer(out: &mut Vec<u8>, right: bool, why: &str) {
    let word = if right { "OK" } else { "NO" };
    let room = why.floor_char_boundary(200);
    let text = match why.get(..room) {
        Some(why) if !why.is_empty() => format!("{word} {why}"),
        _ => word.to_owned(),
    };
    string(out, text.as_bytes());
}

fn fields(buf: &[u8]) -> Result<Option<(Request<'_>, &[u8])>, Malformed> {
    let mut rest = buf;
    let mut found: [&[u8]; 4] = [&[]; 4];
    for field in &mut found {
        let Some((len, behind)) = rest.split_first_chunk() else {
            return Ok(None);
        };
        let len = usize::from(u16::from_be_bytes(*len));
        if len > FIELD_BYTES_MAX {
            return Err(Malformed::TooLarge);
        }
        let Some((bytes, behind)) = behind.split_at_checked(len) else {
            return Ok(None);
        };
        (*field, rest) = (bytes, behind);
    }
    let [login, password, service, realm] = found;
    let request = Request {
        login,
        password,
        service,
        realm,
    };
    Ok(Some((request, rest)))
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_library() {
        let request = Request {
            login: b"ada",
            password: b"pw",
            service: b"imap",
            realm: b"",
        };
        let mut bytes = Vec::new();
        request.write(&mut bytes);
        assert_eq!(bytes, b"\0\x03ada\0\x02pw\0\x04imap\0\0");
        for cut in 0..bytes.len() {
            assert_eq!(split(&bytes[..cut]), Step::NeedMore { total: None });
        }
        assert_eq!(split(&bytes), Step::Frame { len: bytes.len() });
        assert_eq!(Request::read(&bytes), Ok(request));
        let mut out = Vec::new();
        write_answer(&mut out, true, "");
        write_answer(&mut out, false, "wrong password");
        assert_eq!(out, b"\0\x02OK\0\x11NO wrong password");
    }

    #[test]
    fn a_field_too_long_is_refused_by_its_length() {
        assert_eq!(split(b"\x04\x01"), Step::Malformed(Malformed::TooLarge));
        assert_eq!(split(b"\x04\x00"), Step::NeedMore { total: None });
    }

    proptest! {
        #[test]
        fn any_bytes_have_one_answer(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            match split(&bytes) {
                Step::Frame { len } => {
                    let mut again = Vec::new();
                    Request::read(&bytes[..len]).unwrap().write(&mut again);
                    prop_assert_eq!(&again, &bytes[..len]);
                }
                _ => prop_assert!(Request::read(&bytes).is_err()),
            }
        }
    }
}
